//! What both daemons need around them: threads, signals, and word to the service manager.

use std::io;

use config::Warnings;
use net::stop::{Stop, StopSignal};
use sd_notify::NotifyState;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

use crate::exit::{Exit, Failure};
use crate::logging::LogFormat;
use crate::output::Printer;

const SIGXFSZ: i32 = 25;

/// Which threads a command runs on.
#[derive(Clone, Copy, Debug)]
pub enum Threads {
    /// This one.
    This,
    /// So many.
    Count(usize),
    /// As many as there are processors.
    Processors,
}

/// Does what may wait for others. A file size limit becomes an ordinary error, "no space", instead of death.
pub fn wait<T>(threads: Threads, doing: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let fail = |error: io::Error| {
        Failure::new(Exit::Failed, anyhow::Error::new(error).context("cannot start the threads of this process"))
    };
    let mut builder = match threads {
        Threads::This => Builder::new_current_thread(),
        Threads::Count(_) | Threads::Processors => Builder::new_multi_thread(),
    };
    if let Threads::Count(count) = threads {
        builder.worker_threads(count);
    }
    builder.enable_all().build().map_err(fail)?.block_on(async {
        // Once it was listened to, a signal never gets its default action back.
        let _heard = signal(SignalKind::from_raw(SIGXFSZ)).map_err(fail)?;
        doing.await
    })
}

/// Ends on SIGTERM and SIGINT.
pub fn stop_on_signals() -> Result<StopSignal, Failure> {
    let fail =
        |error: io::Error| Failure::new(Exit::Failed, anyhow::Error::new(error).context("cannot listen to signals"));
    let mut terminate = signal(SignalKind::terminate()).map_err(fail)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(fail)?;
    let (stop, stopped) = Stop::new();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tell(&[NotifyState::Stopping]);
        stop.stop();
        // The handlers stay until the process ends: a second signal must not find the default action.
        std::future::pending::<()>().await;
    });
    Ok(stopped)
}

/// Tells the service manager, if there is one that asked for it.
pub fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager cannot be told");
    }
}

/// A configuration's warnings, as the rest of what the daemon says.
pub fn warn(printer: Printer, format: LogFormat, warnings: &Warnings) {
    if warnings.is_empty() {
        return;
    }
    match format {
        LogFormat::Text => printer.report(&warnings.to_string()),
        LogFormat::Json => {
            for problem in warnings.problems() {
                let (key, line, hint) = (&problem.key, problem.line, &problem.hint);
                tracing::warn!(key, line, hint, "configuration: {}", problem.message);
            }
        }
    }
}
