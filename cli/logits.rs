//! `qwgpu logits`: the logits of every position in a file, for comparison with other programs.
//!
//! Rows are written as they are made, so that a long input with a large vocabulary (600 KB a token) needs no memory here.
//! The file takes its name only when it is whole.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use qwgpu_model::{Model, Session};

use crate::args::LogitsArgs;
use crate::model_args::counting_bar;
use crate::output::human_bytes;

/// Runs the command.
///
/// # Errors
/// One sentence for the user.
pub(crate) fn run(args: &LogitsArgs) -> Result<()> {
    let checkpoint = args.model.checkpoint()?;
    let loaded = args
        .model
        .load(&checkpoint, Some(args.ids.len().min(checkpoint.config().max_ctx())))?;
    let mut session = Session::new(&loaded.model)?;
    let part = part_name(&args.output);
    let cannot_write = || format!("cannot write {}", args.output.display());
    let file = File::create(&part).with_context(cannot_write)?;
    let written = write(&mut session, &args.ids, file, &cannot_write);
    let renamed = written.and_then(|bytes| {
        std::fs::rename(&part, &args.output).with_context(cannot_write)?;
        Ok(bytes)
    });
    let bytes = renamed.inspect_err(|_| {
        // What remains is of no use; that it cannot be removed either says nothing new.
        let _ = std::fs::remove_file(&part);
    })?;
    eprintln!(
        "wrote {} ({}, {} tokens)",
        args.output.display(),
        human_bytes(bytes),
        args.ids.len()
    );
    Ok(())
}

/// The name while it is not whole, in the same folder, so that renaming cannot fail for another disk.
fn part_name(output: &Path) -> PathBuf {
    let mut name = output.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

fn write(session: &mut Session, ids: &[u32], file: File, cannot_write: &dyn Fn() -> String) -> Result<u64> {
    let mut out = BufWriter::new(file);
    let header = header(session.model(), ids.len());
    out.write_all(&(header.len() as u64).to_le_bytes())
        .and_then(|()| out.write_all(header.as_bytes()))
        .with_context(cannot_write)?;
    let bar = counting_bar(ids.len(), "logits");
    let vocab_size = session.model().config().vocab_size;
    let (mut bytes, mut failed) = (8 + header.len() as u64, None);
    session.feed_all_logits(ids, &mut |first, rows| {
        if failed.is_none() {
            failed = rows.iter().try_for_each(|value| out.write_all(&value.to_le_bytes())).err();
        }
        bytes += 4 * rows.len() as u64;
        bar.set_position((first + rows.len() / vocab_size) as u64);
    })?;
    bar.finish_and_clear();
    failed.map_or_else(|| out.flush(), Err).with_context(cannot_write)?;
    Ok(bytes)
}

/// The header of a safetensors file, padded with blanks to a multiple of eight as the format asks for.
fn header(model: &Model, n_tokens: usize) -> String {
    let vocab_size = model.config().vocab_size;
    let n_bytes = 4 * n_tokens as u64 * vocab_size as u64;
    let header = serde_json::json!({
        "__metadata__": { "model": model.name(), "adapter": model.gpu().info().label() },
        "logits": { "dtype": "F32", "shape": [n_tokens, vocab_size], "data_offsets": [0, n_bytes] },
    });
    let mut text = header.to_string();
    while !text.len().is_multiple_of(8) {
        text.push(' ');
    }
    text
}
