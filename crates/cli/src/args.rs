//! What can be typed. The structs here are the command line as it is; what it means is made of it in `commands`.

mod controller;
mod extend;
mod fleet;
mod rescue;
mod router;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::environment;
use crate::logging::{LogFormat, LogLevel};
use crate::quickstart::QuickstartArgs;

pub use controller::{Backup, ControllerCommand, Init, NewPassword, ResetPassword, Restore, Run as ControllerRun};
pub use extend::Extend;
pub use fleet::{
    Audit, Confirmed, Create, Events, Fleet, FleetCommand, List, Login, Pipeline, ReEnroll, Readmit, Rekey, Several,
    Show, TokenOutput,
};
pub use rescue::Rescue;
pub use router::{Doctor, Enroll, Renew, RouterCommand, Run, Status};

const AFTER: &str = "\
Examples:
  exuvia quickstart --for 90s                 watch three routers renew, on this machine
  exuvia controller init /var/lib/exuvia --address ctrl.example.org
  exuvia fleet login https://ctrl.example.org:1280 --ca ca.pem
  exuvia fleet create edge-7 -o edge-7.jwt
  exuvia router enroll router.yml --jwt edge-7.jwt
  exuvia router run router.yml

Exit codes (docs/operating/exit-codes.md):
  0 done, 1 failed, 2 usage, 3 bad input, 4 storage, 5 unreachable, 6 refused, 7 busy, 70 internal";

const QUICKSTART: &str = "\
Needs no root and nothing else. Ends with 1 if anything was lost.

Examples:
  exuvia quickstart
  exuvia quickstart --for 90s --faults --seed 7
  exuvia quickstart --for 30s --json | jq .locked_out";

/// Routers of a zero-trust network that never lose their identity while their certificate is renewed.
#[derive(Debug, Parser)]
#[command(name = "exuvia", version, after_help = AFTER, max_term_width = 100, propagate_version = false)]
pub struct Cli {
    #[command(flatten)]
    pub log: LogArgs,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Log, on standard error")]
pub struct LogArgs {
    /// Form of the log: `text`, one line for people per event, or `json`, one object per line.
    #[arg(
        long,
        global = true,
        value_enum,
        default_value = "text",
        value_name = "FORMAT",
        hide_possible_values = true,
        hide_short_help = true
    )]
    #[arg(env = environment::LOG_FORMAT, hide_env_values = true)]
    pub log_format: LogFormat,
    /// What is logged: `off`, `error`, `warn`, `info`, `debug`, `trace`, or by part as in `info,net=debug`. Daemons log
    /// `info` unless told, other commands `warn`.
    #[arg(long, global = true, value_name = "LEVEL", env = environment::LOG_LEVEL, hide_env_values = true)]
    #[arg(hide_short_help = true)]
    pub log_level: Option<LogLevel>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// On the machine of a router: enroll it, run it, look at it.
    #[command(subcommand)]
    Router(RouterCommand),
    /// On the machine of a controller: set it up, run it, keep it safe.
    #[command(subcommand)]
    Controller(ControllerCommand),
    /// From afar: the routers of a controller.
    Fleet(Fleet),
    /// Show how a router's identity is; the same as `exuvia router status`.
    Status(Status),
    /// Rehearse a router's renewal and say what to mend; the same as `exuvia router doctor`.
    Doctor(Doctor),
    /// Renew the identity files of any router of OpenZiti or ours, once, safely, and end.
    Extend(Extend),
    /// Bring back a router that no controller admits any more; prints the plan first.
    Rescue(Rescue),
    /// Watch a controller and routers renew on this machine, under load and, if asked for, under faults.
    #[command(after_help = QUICKSTART)]
    Quickstart(QuickstartArgs),
    /// Run a world of routers, controllers, disks and networks in virtual time, and check every promise.
    Sim(Sim),
    /// Print the version.
    Version(Version),
    /// Print a shell's completion script.
    Completions(Completions),
}

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  exuvia version\n  exuvia version --json | jq -r .version")]
pub struct Version {
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
#[command(after_help = "The same seed gives the same world on every machine. Ends with 1 if a promise was broken.

A broken promise is shrunk to the smallest world that still breaks it, and written to exuvia-sim-SEED.plan.

Examples:
  exuvia sim
  exuvia sim --seed 42 --trace
  exuvia sim --replay exuvia-sim-42.plan --trace
  exuvia sim --seed 1 --seeds 10000 --routers 50 --days 400     a night's work (docs/operating/sim.md)")]
pub struct Sim {
    /// What determines everything that happens. [default: drawn anew]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Routers in the world.
    #[arg(long, value_name = "R", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub routers: u16,
    /// Virtual days in which faults strike; the seed draws how many leaf lives fit into them.
    #[arg(long, value_name = "D", default_value_t = 365, value_parser = clap::value_parser!(u16).range(1..=36500))]
    pub days: u16,
    /// Worlds, each with the next seed, on every processor; the first broken promise ends it.
    #[arg(long, alias = "runs", value_name = "WORLDS", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    pub seeds: u64,
    /// Run the world of this plan file instead of one that a seed draws.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["seed", "seeds", "routers", "days", "plan"])]
    pub replay: Option<PathBuf>,
    /// Print the plan that the seed draws, as a file for `--replay`, and run nothing.
    #[arg(long, conflicts_with_all = ["trace", "json", "seeds"])]
    pub plan: bool,
    /// Print the plan and every event, on standard error.
    #[arg(long, conflicts_with = "seeds")]
    pub trace: bool,
    /// Print one JSON object per world and line.
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
#[command(after_help = "Examples:
  exuvia completions bash > /etc/bash_completion.d/exuvia
  exuvia completions zsh > \"${fpath[1]}/_exuvia\"
  exuvia completions fish > ~/.config/fish/completions/exuvia.fish")]
pub struct Completions {
    /// For which shell.
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

/// Where a password comes from.
#[derive(Args, Clone, Debug)]
pub struct PasswordSource {
    /// Read the password from the first line of this file, or of standard input with `-`. Otherwise it comes from
    /// `EXUVIA_PASSWORD`, or is asked for on the terminal.
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
}
