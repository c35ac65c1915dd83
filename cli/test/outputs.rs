//! Where reports go: files, opened before anything runs, and standard output.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::document::Document;
use super::{TestArgs, args::Format, html, junit, markdown, repro, text};
use crate::output::{Usage, human_bytes, print, print_json};

/// The files of `-o`, not yet written.
pub(crate) struct Outputs {
    files: Vec<(PathBuf, Format, File)>,
}

impl Outputs {
    /// Opens all files, so that a run of an hour does not end at one that cannot be written. What they hold stays until then.
    ///
    /// # Errors
    /// Naming the file that cannot be written, or whose ending says nothing.
    pub(crate) fn open(args: &TestArgs) -> Result<Self> {
        let formats: Vec<Format> = args
            .output
            .iter()
            .map(|path| args.format.map_or_else(|| by_ending(path), Ok))
            .collect::<Result<_>>()?;
        let mut files = Vec::new();
        for (path, format) in args.output.iter().zip(formats) {
            let file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .open(path)
                .with_context(|| cannot_write(path))?;
            files.push((path.clone(), format, file));
        }
        Ok(Self { files })
    }

    /// Writes every file, then standard output: the summary, unless `--format` asks for a report there.
    ///
    /// # Errors
    /// Naming what could not be written.
    pub(crate) fn write(&mut self, args: &TestArgs, document: &Document) -> Result<()> {
        for (path, format, file) in &mut self.files {
            let report = render(*format, document)?;
            // A pipe or a device has no length to set.
            if file.metadata().is_ok_and(|metadata| metadata.is_file()) {
                file.set_len(0).with_context(|| cannot_write(path))?;
            }
            file.write_all(report.as_bytes())
                .and_then(|()| file.flush())
                .with_context(|| cannot_write(path))?;
            eprintln!("wrote {} ({})", path.display(), human_bytes(report.len() as u64));
        }
        match args.format {
            Some(Format::Json) if self.files.is_empty() => print_json(document),
            Some(format) if self.files.is_empty() => print(&render(format, document)?),
            _ if args.repro.is_some() => print(&repro::dump(document)),
            _ => print(&text::summary(document)),
        }
    }
}

fn render(format: Format, document: &Document) -> Result<String> {
    match format {
        Format::Md => Ok(markdown::report(document)),
        Format::Json => Ok(serde_json::to_string_pretty(document)? + "\n"),
        Format::Junit => junit::report(document),
        Format::Html => html::report(document),
    }
}

fn by_ending(path: &Path) -> Result<Format> {
    match path.extension().and_then(|ending| ending.to_str()) {
        Some("md") => Ok(Format::Md),
        Some("json") => Ok(Format::Json),
        Some("xml") => Ok(Format::Junit),
        Some("html" | "htm") => Ok(Format::Html),
        _ => Err(Usage(format!(
            "{} ends in none of .md, .json, .xml and .html; say with --format what to write",
            path.display()
        ))
        .into()),
    }
}

fn cannot_write(path: &Path) -> String {
    format!("cannot write {}", path.display())
}
