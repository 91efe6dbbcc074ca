//! `exuvia router`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub enum RouterCommand {
    /// Trade a one-time token for this router's first certificates.
    Enroll(Enroll),
    /// Run the router.
    Run(Run),
    /// Show how its identity is: phase, both leaves, seconds to lock-out, next renewal.
    Status(Status),
    /// Rehearse the whole renewal without changing anything, and say what to mend.
    Doctor(Doctor),
    /// Have the running router renew now.
    Renew(Renew),
}

/// The router's configuration.
#[derive(Args, Clone, Debug)]
pub struct Config {
    /// OpenZiti's `router.yml`, with Exuvia's own section `exuvia` if it has one.
    #[arg(value_name = "CONFIG")]
    pub path: PathBuf,
}

#[derive(Args, Debug)]
#[command(
    after_help = "The private key is on disk before anything is asked for, and the same enrollment may be repeated after a lost answer.

Examples:
  exuvia router enroll router.yml --jwt edge-7.jwt
  ssh admin@ctrl exuvia fleet re-enroll edge-7 --yes | exuvia router enroll router.yml --jwt -"
)]
pub struct Enroll {
    #[command(flatten)]
    pub config: Config,
    /// File with the enrollment token, or `-` for standard input.
    #[arg(long, short, value_name = "FILE")]
    pub jwt: PathBuf,
    /// Replace the identity of another router, or files that are no certificates, at the configured paths.
    #[arg(long)]
    pub force: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
#[command(
    after_help = "SIGTERM and Ctrl-C drain and end with 0. Under systemd use `Type=notify`: the unit is started once the identity is read and every port is open; `systemctl status` tells whether a controller admits the router.

Examples:
  exuvia router run router.yml
  exuvia router run router.yml --check
  exuvia --log-format json router run router.yml"
)]
pub struct Run {
    #[command(flatten)]
    pub config: Config,
    /// Renew once at the start, unless the last attempt was less than the minimum spacing ago.
    #[arg(long)]
    pub extend: bool,
    /// Only look at configuration and storage, then end: with 1 if there is something to mend. Nothing is sent.
    #[arg(long, conflicts_with = "extend")]
    pub check: bool,
}

#[derive(Args, Debug)]
#[command(after_help = "Asks the running router; where none runs, tells what the disk holds.

Examples:
  exuvia status router.yml
  exuvia status router.yml --json | jq .lockout_in_s")]
pub struct Status {
    #[command(flatten)]
    pub config: Config,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("openziti").args(["ziti_version", "ziti"]))]
#[command(after_help = "Ends with 1 if there is something to mend.

With `--ziti-version` or `--ziti` it is about a router of OpenZiti: what its own next renewal would do with these files, when, and by which defect (docs/proof/upstream-defects.md).

Examples:
  exuvia doctor router.yml
  exuvia doctor router.yml --json
  exuvia doctor /var/lib/ziti-router/config.yml --ziti /usr/bin/ziti
  exuvia doctor config.yml --ziti-version 1.6.18 --json | jq '.[].ids'")]
pub struct Doctor {
    #[command(flatten)]
    pub config: Config,
    /// The router is OpenZiti's, of this version.
    #[arg(long, value_name = "VERSION")]
    pub ziti_version: Option<router::forecast::ZitiVersion>,
    /// The router is run with this program of OpenZiti, which is asked for its version.
    #[arg(long, value_name = "PATH")]
    pub ziti: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
#[command(after_help = "Success means that a controller admitted the new leaf in a handshake of the running router.

Examples:
  exuvia router renew router.yml
  exuvia router renew router.yml --no-wait")]
pub struct Renew {
    #[command(flatten)]
    pub config: Config,
    /// End as soon as the router has begun, without waiting for the proof.
    #[arg(long)]
    pub no_wait: bool,
    /// Longest wait for the proof.
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = config::parse_duration)]
    pub within: std::time::Duration,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}
