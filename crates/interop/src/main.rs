//! Our programs and OpenZiti's, together.
//!
//! `cargo xtask interop` starts `interop run`, which runs every [`scenario::Scenario`] of every group ([`groups`]) against every program
//! `ziti` that `ZITI_BIN` names, each in a process and a folder of its own, prints a table, and writes it to `docs/interop.md`. Without
//! `ZITI_BIN` it says what was not run.
//!
//! To add a scenario, write a function `fn(&Bench) -> Result<Shown>` into a file below `groups/`, and name it in the list of its group.
#![forbid(unsafe_code)]

mod groups;
mod report;
mod run;
mod scenario;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Tries our programs together with OpenZiti's
#[derive(Debug, Parser)]
#[command(name = "interop", version)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Run scenarios and write the report
    Run(run::Order),
    /// Name the scenarios
    List,
    /// One scenario, in this process (what `run` starts)
    #[command(hide = true)]
    Scenario(run::ScenarioOrder),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().task {
        Task::Run(order) => run::run(&order),
        Task::List => {
            for group in groups::all() {
                println!("{}: {}", group.id, group.title);
                for scenario in group.scenarios {
                    println!("  {:<34} {}", scenario.id, scenario.claim);
                }
            }
            Ok(true)
        }
        Task::Scenario(order) => run::scenario(&order).map(|()| true),
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
