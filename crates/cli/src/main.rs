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
    let exit = match catch_unwind(AssertUnwindSafe(|| run(printer, began, &cli))) {
        Ok(Ok(())) => Exit::Done,
        Ok(Err(failure)) => {
            printer.failure(&failure.told);
            failure.exit
        }
        // The hook has said where.
        Err(_) => Exit::Internal,
    };
    ExitCode::from(exit.code())
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
    use commands::{controller, daemon, fleet, router, tools};
    let of_router = || daemon::runtime(Some(router::THREADS));
    match command {
        Command::Quickstart(args) => daemon::runtime(None)?.block_on(tools::quickstart(args, began)),
        Command::Router(RouterCommand::Run(args)) => of_router()?.block_on(router::run(printer, log.log_format, args)),
        Command::Router(RouterCommand::Enroll(args)) => of_router()?.block_on(router::enroll(printer, args)),
        Command::Router(RouterCommand::Renew(args)) => of_router()?.block_on(router::renew(printer, args)),
        Command::Router(RouterCommand::Status(args)) | Command::Status(args) => {
            of_router()?.block_on(router::status(printer, args))
        }
        Command::Router(RouterCommand::Doctor(args)) | Command::Doctor(args) => {
            of_router()?.block_on(router::doctor(printer, args))
        }
        Command::Controller(ControllerCommand::Run(args)) => {
            daemon::runtime(None)?.block_on(controller::run(printer, log.log_format, args))
        }
        Command::Controller(ControllerCommand::Init(args)) => wait(controller::init(printer, args)),
        Command::Controller(ControllerCommand::Backup(args)) => controller::backup(printer, args),
        Command::Controller(ControllerCommand::Restore(args)) => controller::restore(printer, args),
        Command::Controller(ControllerCommand::ResetPassword(args)) => wait(controller::reset_password(printer, args)),
        Command::Fleet(args) => wait(fleet::run(printer, args)),
        Command::Sim(args) => tools::sim(printer, args),
        Command::Version(args) => tools::version(printer, args),
        Command::Completions(args) => tools::completions(printer, args),
    }
}

/// Runs what has to wait for others, on this thread.
fn wait<T>(doing: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| {
        Failure::new(Exit::Failed, anyhow::Error::new(error).context("cannot start waiting for the network"))
    })?;
    runtime.block_on(doing)
}
