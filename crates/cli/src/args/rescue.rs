//! `exuvia rescue`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::PasswordSource;
use super::router::Config;
use crate::environment;

#[derive(Args, Debug)]
#[command(
    after_help = "For a router that no controller admits any more, ours or OpenZiti's, on a controller of either kind. Looks at everything on this disk that could hold a part of the identity (the state folder, the configured files, backups beside them, torn files, the keys of an interrupted enrollment), asks the controller what it admits, and prints the least invasive way back: use what is here, fetch the admitted leaf from the controller, have it admit a leaf that it signed before, or enroll anew under the same id. Nothing is changed without `--apply`, or a `yes` on the terminal. May be cut off anywhere and run again.

The controller is believed by the router's own CA file, by `--ca`, or as `exuvia fleet login` settled it. Ends with 1 if there is something to mend and it was not told to.

Examples:
  exuvia rescue router.yml --url https://ctrl.example.org:1280
  exuvia rescue router.yml --url https://ctrl.example.org:1280 --password-file secret.txt --apply
  exuvia fleet login https://ctrl.example.org:1280 --ca ca.pem && exuvia rescue router.yml --apply
  exuvia rescue router.yml --url ctrl:1280 --token-file session.txt --json | jq -r .plan.action"
)]
pub struct Rescue {
    #[command(flatten)]
    pub config: Config,
    /// Do it, and prove it by an admitted handshake; otherwise only print the plan.
    #[arg(long)]
    pub apply: bool,
    /// Address of the controller's API. Otherwise that of the session of `exuvia fleet login`.
    #[arg(long, value_name = "URL", value_parser = crate::commands::fleet::parse_controller)]
    pub url: Option<String>,
    /// Name of the operator, with `--url`.
    #[arg(long, short, value_name = "NAME", default_value = "admin", requires = "url")]
    pub username: String,
    #[command(flatten)]
    pub password: PasswordSource,
    /// Use the session token in this file (or on standard input with `-`), with `--url`; then no password is needed.
    #[arg(long, value_name = "FILE", requires = "url", conflicts_with = "password_file")]
    pub token_file: Option<PathBuf>,
    /// Believe the controller by the CA certificates of this PEM file; otherwise by the router's own.
    #[arg(long, value_name = "FILE", requires = "url")]
    pub ca: Option<PathBuf>,
    /// File that holds the session of `exuvia fleet login`.
    #[arg(long, value_name = "FILE", env = environment::SESSION, hide_env_values = true)]
    pub session: Option<PathBuf>,
    /// Name or id of the router; needed where the disk does not say it any more.
    #[arg(long, value_name = "ROUTER")]
    pub router: Option<String>,
    /// Longest time for the proof.
    #[arg(long, value_name = "DURATION", default_value = "3m", value_parser = config::parse_duration)]
    pub within: Duration,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}
