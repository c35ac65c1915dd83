//! The command line of `qwgpu test`.

use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, ValueEnum};
use qwgpu_suite::{Selection, Tier, kernels};
use regex::Regex;

/// `qwgpu test`.
#[derive(Debug, Args)]
#[command(after_help = "\
Each kernel runs on inputs of many shapes and is compared, value by value, with plain loops in f64 on
the CPU. What a rounding error may come to follows from the arithmetic; a larger one is a failure.
Cases run on the adapter as it is and again in modes that take something away (no-f16, no-subgroup,
no-coop, no-dot, portable, small-binding), so that every variant of every kernel is checked.

Examples:
  qwgpu test                                   Every adapter: all of it on a GPU, the quick tier on a CPU driver
  qwgpu test --adapter 0 -o report.html        One adapter, and a page to send to whoever makes the driver
  qwgpu test --kernel matmul --case 'no-f16'   Some cases of one kernel
  qwgpu test --repro 1f4a09c2d7                One case again, with the values that are off
  qwgpu test --list                            Which cases there are
  qwgpu test --shard 2/8 -o part2.json -o part2.xml

The quick tier takes a minute or so on a CPU; the full one runs every variant that the adapter offers, and fails
where one is left out. Exit codes: 0 all passed, 1 something failed or nothing ran, 130 interrupted with Ctrl-C
(after the case at hand; the report of what ran until then is still written).")]
pub(crate) struct TestArgs {
    /// Only adapters with this index in `qwgpu devices`, or this in their name [default: all]
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) adapter: Option<String>,
    /// How much to run [default: full on a GPU, quick on a CPU driver]
    #[arg(long, value_enum)]
    tier: Option<TierArg>,
    /// Only this kernel; may be given more than once
    #[arg(long = "kernel", value_name = "NAME", value_parser = kernel)]
    kernels: Vec<String>,
    /// Only cases whose "kernel mode name" matches this regular expression
    #[arg(long, value_name = "REGEX", value_parser = regex)]
    case: Option<Regex>,
    /// Only the i-th of n parts, to share the work between machines
    #[arg(long, value_name = "I/N", value_parser = shard)]
    shard: Option<(usize, usize)>,
    /// Run the one case with this id, and show the values that are off
    #[arg(long, value_name = "ID", value_parser = NonEmptyStringValueParser::new(), conflicts_with_all = ["tier", "kernels", "case", "shard"])]
    pub(crate) repro: Option<String>,
    /// Stop at the first failure
    #[arg(long)]
    pub(crate) fail_fast: bool,
    /// Print the ids and names of the cases that would run, and run none
    #[arg(long, conflicts_with_all = ["repro", "fail_fast", "format", "output"])]
    pub(crate) list: bool,
    /// Format of the report; without -o it goes to standard output, in place of the summary
    #[arg(long, value_enum)]
    pub(crate) format: Option<Format>,
    /// Write a report to this file; may be given more than once. Without --format, its ending decides: .md .json .xml .html
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Vec<PathBuf>,
}

/// `--tier`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum TierArg {
    Quick,
    Full,
}

/// Form of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Tables in Markdown
    Md,
    /// One object with every case
    Json,
    /// JUnit's XML, for CI
    Junit,
    /// One page that needs nothing else
    Html,
}

impl TestArgs {
    /// What to run on an adapter; `cpu` says whether that is a CPU driver.
    pub(crate) fn selection(&self, cpu: bool) -> Selection {
        let tier = match self.tier {
            Some(TierArg::Quick) => Tier::Quick,
            Some(TierArg::Full) => Tier::Full,
            None if cpu => Tier::Quick,
            None => Tier::Full,
        };
        Selection {
            tier,
            kernels: self.kernels.clone(),
            case: self.case.clone(),
            id: self.repro.clone(),
            shard: self.shard,
        }
    }

    /// Whether the tier was left to the kind of adapter.
    pub(crate) const fn is_default_tier(&self) -> bool {
        self.tier.is_none()
    }

    /// The command that runs the same cases again, for reports.
    pub(crate) fn command(&self) -> String {
        let mut words = vec!["qwgpu test".to_owned()];
        let mut add = |option: &str, value: &str| words.push(format!("{option} {}", quoted(value)));
        if let Some(adapter) = &self.adapter {
            add("--adapter", adapter);
        }
        match self.tier {
            Some(TierArg::Quick) => add("--tier", "quick"),
            Some(TierArg::Full) => add("--tier", "full"),
            None => {}
        }
        self.kernels.iter().for_each(|kernel| add("--kernel", kernel));
        if let Some(case) = &self.case {
            add("--case", case.as_str());
        }
        if let Some((i, n)) = self.shard {
            add("--shard", &format!("{i}/{n}"));
        }
        if let Some(id) = &self.repro {
            add("--repro", id);
        }
        if self.fail_fast {
            words.push("--fail-fast".into());
        }
        words.join(" ")
    }
}

/// For a shell, in quotes where it needs them.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    if word.chars().all(plain) {
        word.into()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

fn kernel(name: &str) -> Result<String, String> {
    let kernels = kernels();
    if kernels.contains(&name) {
        Ok(name.into())
    } else {
        Err(format!("there is no such kernel; there are {}", kernels.join(", ")))
    }
}

fn regex(pattern: &str) -> Result<Regex, String> {
    Regex::new(pattern).map_err(|error| {
        // Its last line says what is wrong; those before show where, in a picture.
        let text = error.to_string();
        let reason = text.lines().last().unwrap_or("not a regular expression");
        reason.trim_start_matches("error: ").to_owned()
    })
}

fn shard(text: &str) -> Result<(usize, usize), String> {
    let numbers = text.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
    match numbers {
        Some((i, n)) if 1 <= i && i <= n => Ok((i, n)),
        _ => Err("a part and their number are wanted, such as 1/4 to 4/4".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_checked() {
        assert_eq!(shard("2/8"), Ok((2, 8)));
        for wrong in ["", "0/4", "5/4", "1", "1/0", "a/b", "-1/4"] {
            assert!(shard(wrong).is_err(), "{wrong}");
        }
        assert!(kernel("matmul").is_ok());
        assert!(kernel("matmull").is_err_and(|error| error.contains("matmul")));
        assert_eq!(regex("(").err().as_deref(), Some("unclosed group"));
        assert_eq!([quoted("a-b"), quoted("it's")], ["a-b", r"'it'\''s'"]);
    }
}
