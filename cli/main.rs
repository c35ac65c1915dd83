//! The `qwgpu` command: parse, run, and turn the outcome into an exit code.
//!
//! 0 is done, 1 is failed, 2 is a wrong command line, 130 is Ctrl-C. Standard output carries the answer and nothing else; errors are
//! one sentence on standard error. This package is the only one that prints.

mod args;
mod bench;
mod chat;
mod devices;
mod expert_stats;
mod hub;
mod inspect;
mod interrupt;
mod logits;
mod model_args;
mod output;
mod perplexity;
mod run;
mod sampling;
mod table;
mod test;

use std::process::ExitCode;

use args::{Cli, Command};
use clap::Parser;
use output::{Interrupted, StdoutClosed, Usage};

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Err(error) = interrupt::install() {
        eprintln!("error: cannot catch Ctrl-C: {error}");
        return ExitCode::FAILURE;
    }
    let done = match cli.command {
        Command::Run(args) => run::run(&args),
        Command::Devices(args) => devices::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Logits(args) => logits::run(&args),
        Command::Perplexity(args) => perplexity::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Test(args) => test::run(&args),
    };
    let Err(error) = done else { return ExitCode::SUCCESS };
    if error.is::<StdoutClosed>() {
        return ExitCode::SUCCESS;
    }
    eprintln!("error: {error:#}");
    let out_of_range = matches!(error.downcast_ref(), Some(qwgpu_model::Error::Option { .. }));
    match (out_of_range || error.is::<Usage>(), error.is::<Interrupted>()) {
        (true, _) => ExitCode::from(2),
        (_, true) => ExitCode::from(interrupt::EXIT_CODE),
        _ => ExitCode::FAILURE,
    }
}
