//! `qwgpu bench --profile`: where the time of a step goes, kernel by kernel.

use anyhow::Result;
use qwgpu_model::Session;
use qwgpu_runtime::Timing;

use super::{Test, statistics::median};
use crate::table::Table;

/// Steps that are timed; each kernel's time is the median over them.
const STEPS: usize = 5;

/// What one kernel takes of a step.
struct Line {
    kernel: &'static str,
    n: usize,
    /// All of its dispatches together, in each step that was timed, ns
    sums: Vec<f64>,
}

/// One batch of a prompt, or one token: the kernels by time, the longest first.
///
/// # Errors
/// Those of the session; where the adapter has no timestamps, too.
pub(super) fn of(session: &mut Session, test: Test, ids: &[u32]) -> Result<String> {
    let n_tokens = if test.n_gen > 0 {
        1
    } else {
        test.n_prompt.min(session.model().batch())
    };
    let mut lines: Vec<Line> = Vec::new();
    // the first finds a clock that has slowed down
    for step in 0..=STEPS {
        session.rewind(test.depth);
        let timings = session.profile(&ids[test.depth..][..n_tokens])?;
        if step > 0 {
            add(&mut lines, &timings);
        }
    }
    Ok(text(&test.name(), n_tokens, lines))
}

/// Adds a step's timings.
fn add(lines: &mut Vec<Line>, timings: &[Timing]) {
    for line in lines.iter_mut() {
        line.n = 0;
        line.sums.push(0.0);
    }
    for timing in timings {
        let at = lines.iter().position(|line| line.kernel == timing.kernel).unwrap_or_else(|| {
            let kernel = timing.kernel;
            lines.push(Line {
                kernel,
                n: 0,
                sums: vec![0.0],
            });
            lines.len() - 1
        });
        lines[at].n += 1;
        if let Some(sum) = lines[at].sums.last_mut() {
            *sum += timing.ns;
        }
    }
}

fn text(test: &str, n_tokens: usize, lines: Vec<Line>) -> String {
    let mut lines: Vec<(Line, f64)> = lines
        .into_iter()
        .map(|line| {
            let time = median(&line.sums);
            (line, time)
        })
        .collect();
    lines.sort_by(|a, b| b.1.total_cmp(&a.1));
    let total: f64 = lines.iter().map(|(_, time)| time).sum();
    let n: usize = lines.iter().map(|(line, _)| line.n).sum();
    let mut table = Table::new(&["kernel", ">dispatches", ">us", ">us each", ">share"]);
    let mut row = |name: &str, n: usize, time: f64| {
        let each = time / n.max(1) as f64;
        table.row(vec![
            name.to_owned(),
            n.to_string(),
            format!("{:.1}", time / 1e3),
            format!("{:.1}", each / 1e3),
            format!("{:.1} %", 100.0 * time / total.max(f64::MIN_POSITIVE)),
        ]);
    };
    for (line, time) in &lines {
        row(line.kernel, line.n, *time);
    }
    row("all", n, total);
    format!("{test}, a step of {n_tokens}:\n{}", table.plain())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_added_up_and_sorted() {
        let timing = |kernel, ns| Timing { kernel, ns };
        let mut lines = Vec::new();
        for scale in [1.0, 3.0, 2.0] {
            add(
                &mut lines,
                &[timing("a", 1e3 * scale), timing("b", 5e3 * scale), timing("a", 2e3 * scale)],
            );
        }
        let text = text("tg8", 1, lines);
        let cells: Vec<Vec<&str>> = text.lines().skip(2).map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(cells[0], ["b", "1", "10.0", "10.0", "62.5", "%"]);
        assert_eq!(cells[1], ["a", "2", "6.0", "3.0", "37.5", "%"]);
        assert_eq!(cells[2], ["all", "3", "16.0", "5.3", "100.0", "%"]);
    }
}
