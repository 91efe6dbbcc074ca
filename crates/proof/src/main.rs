//! Runs every layer of the proof, each as a process of its own, and writes the report.
//!
//! `proof run` is what `cargo xtask proof` starts. Read [`run`] for how layers are started and ended, [`report`] for what becomes of their
//! evidence, and [`claims`] for what every promise, every defect of others and every hole of our own design is held by.
#![forbid(unsafe_code)]

mod claims;
mod layers;
mod numbers;
mod report;
mod run;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

/// Shows that no fault leaves a router without an identity
#[derive(Debug, Parser)]
#[command(name = "proof", version)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Run the layers and write the report
    Run(run::Order),
    /// Name the layers, and what this machine lacks for each
    List,
    /// Write the report again from the evidence of earlier runs, and the pages of claims
    Report(ReportOrder),
    /// One layer, in this process (what `run` starts)
    #[command(hide = true)]
    Layer(run::LayerOrder),
}

#[derive(Debug, Args)]
struct ReportOrder {
    /// Where the report goes
    #[arg(long, default_value = "docs/proof.md")]
    out: PathBuf,
    /// Only the pages of claims, which need no run
    #[arg(long)]
    claims_only: bool,
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().task {
        Task::Run(order) => run::run(&order),
        Task::List => {
            list();
            Ok(true)
        }
        Task::Report(order) => report::again(&order.out, order.claims_only).map(|()| true),
        Task::Layer(order) => run::layer(&order).map(|()| true),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn list() {
    for layer in layers::all() {
        println!("{:<14} {}", layer.id, layer.title);
        for skip in (layer.probe)() {
            println!("{:<14} - cannot do here: {} ({})", "", skip.what, skip.why);
        }
    }
}
