//! The commands around the product: quickstart, sim, version, completions.

use std::time::Instant;

use clap::CommandFactory as _;
use serde::Serialize;

use crate::args::{Cli, Completions, Sim, Version};
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

/// `exuvia sim`. Blocks.
pub fn sim(printer: Printer, args: &Sim) -> Result<(), Failure> {
    let first = match args.seed {
        Some(seed) => seed,
        None => {
            let mut bytes = [0; 8];
            aws_lc_rs::rand::fill(&mut bytes)
                .map_err(|_| Failure::because(Exit::Failed, "this machine has no randomness"))?;
            // Short enough to be typed.
            u64::from_le_bytes(bytes) >> 32
        }
    };
    for run in 0..args.runs {
        let seed = first.wrapping_add(run);
        // Said before the first tick, so that even a world that hangs can be run again.
        printer.note(&format!("exuvia sim --seed {seed} --routers {} --days {}", args.routers, args.days));
        let (routers, days) = (usize::from(args.routers), u64::from(args.days));
        let report = match args.trace {
            true => sim::run_traced(seed, routers, days, |line| printer.note(line)),
            false => sim::run(seed, routers, days),
        };
        if args.json {
            let counts = &report.counts;
            printer.json_line(&serde_json::json!({
                "seed": seed,
                "is_ok": report.is_ok(),
                "broken": report.broken.as_ref().map(ToString::to_string),
                "virtual_ms": report.virtual_ms,
                "renewals": counts.renewals,
                "failed_rounds": counts.failed_rounds,
                "faults": counts.faults,
                "messages": counts.messages,
                "lost_messages": counts.lost_messages,
                "handshakes": counts.handshakes,
                "failed_barriers": counts.failed_barriers,
                "checks": counts.checks,
                "losses": counts.losses,
            }))?;
        } else {
            printer.data(&report.to_string())?;
        }
        if !report.is_ok() {
            return Err(Failure::because(Exit::Failed, format!("seed {seed} broke a promise"))
                .hint(format!("see it happen: exuvia sim --seed {seed} --routers {routers} --days {days} --trace")));
        }
    }
    Ok(())
}
