//! The commands around the product: quickstart, version, completions.

use std::time::Instant;

use clap::CommandFactory as _;
use serde::Serialize;

use crate::args::{Cli, Completions, Version};
use crate::exit::{Exit, Failure};
use crate::output::Printer;
use crate::quickstart::{self, QuickstartArgs};

#[derive(Serialize)]
struct VersionLine {
    version: &'static str,
    os: &'static str,
    arch: &'static str,
}

/// `exuvia version`.
pub fn version(printer: Printer, args: &Version) -> Result<(), Failure> {
    let line =
        VersionLine { version: env!("CARGO_PKG_VERSION"), os: std::env::consts::OS, arch: std::env::consts::ARCH };
    if args.json {
        return printer.json(&line);
    }
    printer.data(&format!("exuvia {} ({} {})", line.version, line.os, line.arch))
}

/// `exuvia completions`.
pub fn completions(printer: Printer, args: &Completions) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "exuvia", &mut script);
    printer.data(&String::from_utf8_lossy(&script))
}

/// `exuvia quickstart`. `began` is when the process began.
pub async fn quickstart(args: &QuickstartArgs, began: Instant) -> Result<(), Failure> {
    match quickstart::run(args.clone(), began).await {
        Ok(true) => Ok(()),
        // The summary has said what was lost.
        Ok(false) => Err(Failure::silent(Exit::Failed)),
        Err(error) => {
            let hint = error.hint();
            Err(Failure::new(Exit::Failed, error).hint(hint))
        }
    }
}
