//! The log: structured events on standard error, as text or as JSON lines. And what a panic says.

use std::io::{self, IsTerminal};
use std::panic::PanicHookInfo;
use std::str::FromStr;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::layer;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One line for people per event.
    Text,
    /// One JSON object per event and line.
    Json,
}

/// What is logged: a level, or levels by part of the program.
#[derive(Clone, Debug)]
pub struct LogLevel(Targets);

impl FromStr for LogLevel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // Anything unknown would be taken as the name of a part that logs everything.
        if !text.contains('=') && LevelFilter::from_str(text).is_err() {
            return Err("expected `off`, `error`, `warn`, `info`, `debug` or `trace`, or levels by part such as `info,net=debug`"
                .to_owned());
        }
        Targets::from_str(text).map(Self).map_err(|error| error.to_string())
    }
}

/// Starts the log. `default` is used where nobody asked for a level.
pub fn start(format: LogFormat, level: Option<LogLevel>, default: LevelFilter) {
    let targets = level.map_or_else(|| Targets::new().with_default(default), |level| level.0);
    let registry = tracing_subscriber::registry().with(targets);
    let is_coloured = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    // A second initialisation would be refused; there is none.
    let _ = match format {
        LogFormat::Text => registry.with(layer().with_writer(io::stderr).with_ansi(is_coloured)).try_init(),
        LogFormat::Json => registry.with(layer().json().flatten_event(true).with_writer(io::stderr)).try_init(),
    };
}

/// Makes a panic say where it happened and nothing else: the message could hold what must not be printed.
pub fn tame_panics() {
    std::panic::set_hook(Box::new(|info: &PanicHookInfo<'_>| {
        let place =
            info.location().map_or_else(|| "an unknown place".to_owned(), |at| format!("{}:{}", at.file(), at.line()));
        tracing::error!(place, "internal error: this is a fault of exuvia, please report it");
        if !tracing::enabled!(tracing::Level::ERROR) {
            use std::io::Write as _;
            let _ =
                writeln!(io::stderr(), "error: internal error at {place}: this is a fault of exuvia, please report it");
        }
    }));
}

#[cfg(test)]
mod tests {
    use super::LogLevel;

    #[test]
    fn a_misspelt_level_is_no_name_of_a_part() {
        assert!("info".parse::<LogLevel>().is_ok());
        assert!("info,net=debug".parse::<LogLevel>().is_ok());
        assert!("inof".parse::<LogLevel>().is_err());
        assert!("net=loud".parse::<LogLevel>().is_err());
    }
}
