//! `qwgpu run` on a terminal: a conversation, line by line.
//!
//! Each turn renders the whole conversation and hands it to the session, which computes only what it has not seen. A model
//! without a chat template continues each text by itself. While the model speaks, Ctrl-C stops it; at the prompt
//! the line editor has the terminal, and Ctrl-C clears the line.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use qwgpu_model::chat::Message;
use qwgpu_model::sampler::SamplerConfig;
use qwgpu_model::{GenerateOptions, Session, StopReason};
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;
use serde::Serialize;

use crate::args::RunArgs;
use crate::model_args::Loaded;
use crate::output::print;
use crate::run::{self, Answer};

const HELP: &str = "\
/help          this list
/clear         forget the conversation
/system TEXT   set the instructions and start anew; without TEXT, remove them
/save FILE     write the conversation to FILE (as JSON if it ends in .json)
/stats         speed and memory of the last answer
/exit          leave (so does Ctrl-D)
Ctrl-C stops an answer. A line that begins with // is sent with one / less.
";

/// One conversation.
struct Chat<'a> {
    loaded: &'a Loaded,
    session: Session,
    options: GenerateOptions,
    /// Whether the model's template is used.
    templated: bool,
    messages: Vec<Message>,
    last: Option<Answer>,
}

/// A message in a file, its fields in the order that people expect.
#[derive(Serialize)]
struct Saved<'a> {
    role: &'a str,
    content: &'a str,
}

impl<'a> Saved<'a> {
    fn new(message: &'a Message) -> Self {
        Self {
            role: &message.role,
            content: &message.content,
        }
    }
}

/// What a line asks for.
enum Line<'a> {
    Nothing,
    Say(&'a str),
    Command(&'a str, &'a str),
}

/// Talks until the user leaves.
///
/// # Errors
/// Those of the terminal and of standard output; whatever goes wrong in a turn is said, and the conversation goes on.
pub(crate) fn run(args: &RunArgs, loaded: &Loaded, sampler: SamplerConfig) -> Result<()> {
    let model = &loaded.model;
    let templated = model.template().is_some() && !args.raw;
    let mut chat = Chat {
        loaded,
        session: Session::new(model)?,
        options: run::options(args, model, sampler),
        templated,
        messages: args.system.iter().map(|system| Message::new("system", system)).collect(),
        last: None,
    };
    if model.tokenizer().is_none() {
        anyhow::bail!(
            "{} has no tokenizer.json, so it cannot chat; give token ids with --ids",
            model.name()
        );
    }
    if templated {
        eprintln!("Say something to {}. /help lists commands, Ctrl-D leaves.", model.name());
    } else {
        if args.system.is_some() {
            anyhow::bail!("{} is used without a chat template, so --system means nothing to it", model.name());
        }
        eprintln!(
            "Begin a text and {} will continue it. /help lists commands, Ctrl-D leaves.",
            model.name()
        );
    }
    let mut editor = DefaultEditor::new().context("cannot use this terminal")?;
    let history = history_file();
    if let Some(file) = &history {
        // There is none the first time, and without it the chat works all the same.
        let _ = editor.load_history(file);
    }
    let done = chat.turns(&mut editor);
    if let Some(file) = &history {
        save_history(&mut editor, file);
    }
    done
}

impl Chat<'_> {
    fn turns(&mut self, editor: &mut DefaultEditor) -> Result<()> {
        loop {
            let line = match editor.readline("> ") {
                Ok(line) => line,
                Err(ReadlineError::Interrupted) => {
                    eprintln!("(Ctrl-D or /exit leaves)");
                    continue;
                }
                Err(ReadlineError::Eof) => return Ok(()),
                Err(error) => return Err(anyhow::Error::new(error).context("cannot read from the terminal")),
            };
            if !line.trim().is_empty() {
                // Only memory: a full history forgets its oldest line.
                let _ = editor.add_history_entry(line.as_str());
            }
            match parse(&line) {
                Line::Nothing => {}
                Line::Say(text) => self.say(text)?,
                Line::Command("exit" | "quit", _) => return Ok(()),
                Line::Command(name, rest) => self.command(name, rest),
            }
        }
    }

    /// One turn. A failed one leaves the conversation as it was.
    fn say(&mut self, text: &str) -> Result<()> {
        self.messages.push(Message::new("user", text));
        let answer = match self.answer(text) {
            Ok(answer) => answer,
            Err(error) if error.is::<crate::output::StdoutClosed>() => return Err(error),
            Err(error) => {
                self.messages.pop();
                eprintln!("error: {error:#}");
                if run::is_context_full(&error) {
                    eprintln!("(/clear starts a new conversation)");
                }
                return Ok(());
            }
        };
        print("\n")?;
        match answer.stop {
            StopReason::Cancelled => eprintln!("(stopped)"),
            StopReason::MaxTokens => eprintln!("(cut off after {} tokens; -n N allows more)", answer.ids.len()),
            StopReason::ContextFull => eprintln!("(the context is full; /clear starts a new conversation)"),
            StopReason::StopToken(_) => {}
        }
        self.messages
            .push(Message::new("assistant", answer.text.clone().unwrap_or_default()));
        self.last = Some(answer);
        Ok(())
    }

    fn answer(&mut self, text: &str) -> Result<Answer> {
        let model = &self.loaded.model;
        let prompt = match model.template() {
            Some(template) if self.templated => template.render(&self.messages, true)?,
            _ => text.to_owned(),
        };
        let tokenizer = model.tokenizer().context("the model has no tokenizer")?;
        let ids = tokenizer.encode(&prompt)?;
        let answer = run::answer(&mut self.session, &ids, &self.options, &mut |text| print(text));
        // Another turn, other draws; still the same conversation for the same seed.
        self.options.sampler.seed = self.options.sampler.seed.wrapping_add(1);
        answer
    }

    fn command(&mut self, name: &str, rest: &str) {
        match name {
            "help" => eprint!("{HELP}"),
            "clear" => {
                self.messages.retain(|message| message.role == "system");
                eprintln!("(a new conversation)");
            }
            "system" if !self.templated => eprintln!(
                "({} is used without a chat template, so it takes no instructions)",
                self.loaded.model.name()
            ),
            "system" => {
                self.messages.clear();
                if !rest.is_empty() {
                    self.messages.push(Message::new("system", rest));
                }
                eprintln!(
                    "(a new conversation, {})",
                    if rest.is_empty() {
                        "without instructions"
                    } else {
                        "with these instructions"
                    }
                );
            }
            "save" if rest.is_empty() => eprintln!("(/save needs the name of a file)"),
            "save" => match self.save(Path::new(rest)) {
                Ok(()) => eprintln!("(saved to {rest})"),
                Err(error) => eprintln!("error: {error:#}"),
            },
            "stats" => match &self.last {
                Some(last) => {
                    let mut sampler = self.options.sampler.clone();
                    sampler.seed = sampler.seed.wrapping_sub(1);
                    eprint!("{}", run::stats_text(self.loaded, &last.stats, last.stop, &sampler));
                }
                None => eprintln!("(nothing was answered yet)"),
            },
            _ => eprintln!("(there is no /{name}; /help lists what there is)"),
        }
    }

    fn save(&self, file: &Path) -> Result<()> {
        let text = if file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json")) {
            let messages: Vec<_> = self.messages.iter().map(Saved::new).collect();
            serde_json::to_string_pretty(&messages)? + "\n"
        } else {
            self.messages
                .iter()
                .map(|message| format!("{}: {}\n\n", message.role, message.content.trim()))
                .collect()
        };
        std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
    }
}

fn parse(line: &str) -> Line<'_> {
    let line = line.trim();
    match line.strip_prefix('/') {
        None if line.is_empty() => Line::Nothing,
        None => Line::Say(line),
        Some(text) if text.starts_with('/') => Line::Say(text),
        Some(command) => {
            let (name, rest) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
            Line::Command(name, rest.trim())
        }
    }
}

/// Where lines are remembered: `QWGPU_HISTORY` (empty for nowhere), else the user's folder for such things.
fn history_file() -> Option<PathBuf> {
    if let Some(file) = std::env::var_os("QWGPU_HISTORY") {
        return (!file.is_empty()).then(|| file.into());
    }
    let folder = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = folder("XDG_STATE_HOME")
        .or_else(|| folder("LOCALAPPDATA"))
        .or_else(|| folder("HOME").map(|home| home.join(".local/state")))?;
    Some(base.join("qwgpu").join("history"))
}

fn save_history(editor: &mut DefaultEditor, file: &Path) {
    let saved = file
        .parent()
        .map_or(Ok(()), std::fs::create_dir_all)
        .map_err(ReadlineError::from)
        .and_then(|()| editor.save_history(file));
    if let Err(error) = saved {
        eprintln!("(the history was not saved to {}: {error})", file.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_understood() {
        assert!(matches!(parse("  "), Line::Nothing));
        assert!(matches!(parse(" hello there "), Line::Say("hello there")));
        assert!(matches!(parse("//usr/bin"), Line::Say("/usr/bin")));
        assert!(matches!(parse("/clear"), Line::Command("clear", "")));
        assert!(matches!(parse("/system  Be kind. "), Line::Command("system", "Be kind.")));
        assert!(matches!(parse("/"), Line::Command("", "")));
    }
}
