//! Stock OpenZiti peers and ours under the same faults, side by side.
//!
//! `cargo xtask compare` starts `compare run`. [`faults`] is the list, [`trial`] lets one fault happen to one router and judges, [`run`] does
//! that for all of them at once, [`figures`] measures, [`page`] makes `docs/compare.md` of what was recorded.
//!
//! A verdict comes from the controller's listing and from handshakes, never from what a program says of itself.
#![forbid(unsafe_code)]

mod clock;
mod fault;
mod faults;
mod figures;
mod keeper;
mod page;
mod pairing;
mod place;
mod record;
mod run;
mod site;
mod stories;
mod subject;
mod trial;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

/// Lets the same faults happen to stock and our own peers
#[derive(Debug, Parser)]
#[command(name = "compare", version)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Run faults and figures, and write the page
    Run(Box<Order>),
    /// Name the faults
    List,
    /// Write the page again from what earlier runs recorded
    Page(Page),
}

/// What is run.
#[derive(Args, Clone, Debug)]
pub(crate) struct Order {
    /// Only these faults, by name; `figures` stands for the measurements
    #[arg(long, value_delimiter = ',', value_name = "FAULT")]
    pub(crate) only: Vec<String>,
    /// Only these pairings: ss, xs, sx, xx; the router's letter first, s for stock and x for Exuvia
    #[arg(long, value_delimiter = ',', value_name = "PAIRING")]
    pub(crate) pairings: Vec<String>,
    /// Routers under test at once; most of the time they wait
    #[arg(long, default_value_t = 28, value_name = "NUMBER")]
    pub(crate) at_once: usize,
    /// Our own program
    #[arg(long, default_value = "target/release/exuvia", value_name = "PATH")]
    pub(crate) exuvia: PathBuf,
    #[command(flatten)]
    pub(crate) page: Page,
}

/// Where records and page are.
#[derive(Args, Clone, Debug)]
pub(crate) struct Page {
    /// Folder of the records; what lies there from earlier runs stays part of the page
    #[arg(long, default_value = "target/compare", value_name = "DIR")]
    pub(crate) records: PathBuf,
    /// Where the page goes
    #[arg(long, default_value = "docs/compare.md", value_name = "FILE")]
    pub(crate) out: PathBuf,
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().task {
        Task::Run(order) => run::run(&order),
        Task::List => {
            for fault in faults::all() {
                println!("{:<18} {}", fault.id, fault.what);
            }
            Ok(())
        }
        Task::Page(page) => page::write(&page),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
