//! The `ra3` command: arguments in, exit code out.
//!
//! Everything that it does is a function of `ra3-run`, `ra3-theory` or `ra3-bench`; here are only
//! the arguments, the bars and the choice between text and JSON.

mod arguments;
mod bars;
mod commands;
mod engine_options;
mod output;

use std::process::ExitCode;

use clap::Parser;

use arguments::{Arguments, Command};
use output::{OutputClosed, tell};

fn main() -> ExitCode {
    // The sandbox starts this very binary again as its helper; that call never comes back.
    ra3_run::sandbox_helper();
    let arguments = Arguments::parse();
    if let Command::Run(_) | Command::Study(_) = &arguments.command {
        say_what_is_kept();
    }
    let outcome = match &arguments.command {
        Command::Init(options) => commands::init(options),
        Command::Run(options) => commands::run(options),
        Command::Study(options) => commands::study(options),
        Command::Compare(options) => commands::compare(options),
        Command::Clean(options) => commands::clean(options),
        Command::Plan(options) => commands::plan(options),
        Command::Explain(options) => commands::explain(options),
        Command::Sample(options) => commands::sample(options),
        Command::Eval(options) => commands::eval(options),
        Command::Doctor(options) => commands::doctor(options),
        Command::Bench(options) => commands::bench(options),
        Command::Data(command) => commands::data(command),
        Command::Grade(options) => commands::grade(options),
        Command::Report(options) => commands::report(options),
        Command::Inspect(options) => commands::inspect(options),
        Command::Theory(options) => commands::theory(options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<OutputClosed>() => ExitCode::from(OutputClosed::EXIT_CODE),
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

/// Where a run is interrupted, says what becomes of it.
#[expect(clippy::exit, reason = "an interrupt ends the process, wherever it is")]
fn say_what_is_kept() {
    let interrupted = || {
        tell(
            "\ninterrupted: what the stages have committed is kept, and the same command goes on \
             from there",
        );
        // As a shell has it for what ended by this signal.
        std::process::exit(130);
    };
    // Without it an interrupt ends the run as well, and without a word.
    let _ = ctrlc::set_handler(interrupted);
}

/// Prints the whole chain of causes, once.
fn complain(error: &anyhow::Error) {
    tell(format_args!("error: {error}"));
    for cause in error.chain().skip(1) {
        tell(format_args!("  because: {cause}"));
    }
}
