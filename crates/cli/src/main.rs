//! The `exuvia` program. Read `main` from top to bottom: what was typed, the log, the command, and how it ends.
#![deny(clippy::print_stdout, clippy::print_stderr)]
#![allow(unreachable_pub, reason = "a program has no public interface; `pub` means: for other modules")]

mod args;
mod ask;
mod commands;
mod environment;
mod exit;
mod files;
mod logging;
mod output;
mod quickstart;
#[cfg(test)]
mod reference;
mod words;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser as _;
use tracing_subscriber::filter::LevelFilter;

use args::{Cli, Command, ControllerCommand, RouterCommand};
use exit::{Exit, Failure};
use logging::LogFormat;
use output::Printer;

fn main() -> ExitCode {
    let began = Instant::now();
    let printer = Printer::from_environment();
    // Before any thread starts: a child of the quickstart dies with it.
    if let Err(error) = quickstart::tie_to_parent() {
        let failure = Failure::new(Exit::Failed, error);
        printer.failure(&failure.told);
        return ExitCode::from(failure.exit.code());
    }
    let cli = Cli::parse();
    logging::start(cli.log.log_format, cli.log.log_level.clone(), default_level(&cli.command));
    logging::tame_panics();
    let exit = end_of(printer, cli.log.log_format, || run(printer, began, &cli));
    ExitCode::from(exit.code())
}

/// How the process ends after that was done; says why if it failed.
fn end_of(printer: Printer, format: LogFormat, doing: impl FnOnce() -> Result<(), Failure>) -> Exit {
    match catch_unwind(AssertUnwindSafe(doing)) {
        Ok(Ok(())) => Exit::Done,
        Ok(Err(failure)) => {
            match format {
                LogFormat::Json if tracing::enabled!(tracing::Level::ERROR) => failure.log(),
                LogFormat::Json | LogFormat::Text => printer.failure(&failure.told),
            }
            failure.exit
        }
        // The hook has said where.
        Err(_) => Exit::Internal,
    }
}

/// Daemons tell what they do; commands leave it at what went wrong.
fn default_level(command: &Command) -> LevelFilter {
    match command {
        Command::Router(RouterCommand::Run(run)) if !run.check => LevelFilter::INFO,
        Command::Controller(ControllerCommand::Run(run)) if !run.check => LevelFilter::INFO,
        _ => LevelFilter::WARN,
    }
}

fn run(printer: Printer, began: Instant, Cli { log, command }: &Cli) -> Result<(), Failure> {
    use commands::daemon::{Threads, wait};
    use commands::{controller, extend, fleet, rescue, router, tools};
    let (here, cores) = (Threads::This, Threads::Processors);
    match command {
        Command::Router(RouterCommand::Run(args)) => wait(router::THREADS, router::run(printer, log.log_format, args)),
        Command::Router(RouterCommand::Enroll(args)) => wait(router::THREADS, router::enroll(printer, args)),
        Command::Router(RouterCommand::Renew(args)) => wait(router::THREADS, router::renew(printer, args)),
        Command::Router(RouterCommand::Status(args)) | Command::Status(args) => {
            wait(router::THREADS, router::status(printer, args))
        }
        Command::Router(RouterCommand::Doctor(args)) | Command::Doctor(args) => {
            wait(router::THREADS, router::doctor(printer, args))
        }
        Command::Controller(ControllerCommand::Run(args)) => {
            wait(cores, controller::run(printer, log.log_format, args))
        }
        Command::Controller(ControllerCommand::Init(args)) => wait(here, controller::init(printer, args)),
        Command::Controller(ControllerCommand::Backup(args)) => wait(here, controller::backup(printer, args)),
        Command::Controller(ControllerCommand::Restore(args)) => wait(here, controller::restore(printer, args)),
        Command::Controller(ControllerCommand::ResetPassword(args)) => {
            wait(here, controller::reset_password(printer, args))
        }
        Command::Fleet(args) => wait(here, fleet::run(printer, args)),
        Command::Extend(args) => wait(router::THREADS, extend::extend(printer, args)),
        Command::Rescue(args) => wait(router::THREADS, rescue::rescue(printer, args)),
        Command::Quickstart(args) => wait(cores, tools::quickstart(args, began)),
        Command::Sim(args) => commands::sim::run(printer, args),
        Command::Version(args) => tools::version(printer, args),
        Command::Completions(args) => tools::completions(printer, args),
    }
}

#[cfg(test)]
mod tests {
    use super::{Exit, Failure, LogFormat, Printer, end_of};

    #[test]
    fn a_panic_ends_with_a_code_of_its_own() {
        let printer = Printer::from_environment();
        assert_eq!(end_of(printer, LogFormat::Text, || panic!("on purpose")), Exit::Internal);
        assert_eq!(end_of(printer, LogFormat::Text, || Err(Failure::silent(Exit::Busy))), Exit::Busy);
        assert_eq!(end_of(printer, LogFormat::Text, || Ok(())), Exit::Done);
    }
}
