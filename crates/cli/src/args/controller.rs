//! `exuvia controller`.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub enum ControllerCommand {
    /// Make a home: certificates, configuration, register and first administrator.
    Init(Init),
    /// Run the controller.
    Run(Run),
    /// Copy the register to a file while the controller runs.
    Backup(Backup),
    /// Put a copy of the register back while the controller does not run.
    Restore(Restore),
    /// Give an administrator a new password.
    ResetPassword(ResetPassword),
}

/// The controller's configuration.
#[derive(Args, Clone, Debug)]
pub struct Config {
    /// The controller's configuration file.
    #[arg(value_name = "CONFIG")]
    pub path: PathBuf,
}

#[derive(Args, Debug)]
#[command(
    after_help = "The root's key is needed only to make another intermediate: move it to a safe place. An init that was interrupted is begun again; a folder that holds a controller is never touched.

Examples:
  exuvia controller init /var/lib/exuvia --address ctrl.example.org
  exuvia controller init ./ctrl --address ::1 --listen :: --password-file secret.txt"
)]
pub struct Init {
    /// Folder to make; it must not exist, or be empty.
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
    /// Host name or IP address under which routers and people reach the controller.
    #[arg(long, value_name = "HOST", default_value = "localhost")]
    pub address: String,
    /// Further host name or IP address for its certificate; may be repeated. `localhost`, `127.0.0.1` and `::1` are always
    /// in it.
    #[arg(long = "name", value_name = "HOST")]
    pub names: Vec<String>,
    /// Where to listen: `0.0.0.0`, `::`, or one address of this machine.
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0")]
    pub listen: IpAddr,
    /// Port for routers.
    #[arg(long, value_name = "PORT", default_value_t = 6262)]
    pub ctrl_port: u16,
    /// Port of the API.
    #[arg(long, value_name = "PORT", default_value_t = 1280)]
    pub api_port: u16,
    /// What routers know the controller by.
    #[arg(long, value_name = "ID", default_value = "controller")]
    pub id: String,
    /// Name of the first administrator.
    #[arg(long, short, value_name = "NAME", default_value = "admin")]
    pub username: String,
    #[command(flatten)]
    pub password: NewPassword,
    /// Life of the leaves that are issued. [default: 90d]
    #[arg(long, value_name = "DURATION", value_parser = config::parse_duration)]
    pub leaf_life: Option<std::time::Duration>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Where a new password comes from.
#[derive(Args, Clone, Debug)]
pub struct NewPassword {
    /// Read the password from the first line of this file, or of standard input with `-`. Otherwise it comes from
    /// `EXUVIA_PASSWORD`, or else one is drawn and printed.
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// Ask for the password on the terminal.
    #[arg(long, conflicts_with = "password_file")]
    pub ask_password: bool,
}

#[derive(Args, Debug)]
#[command(after_help = "SIGTERM and Ctrl-C drain and end with 0. Under systemd use `Type=notify`.

Examples:
  exuvia controller run /var/lib/exuvia/controller.yml
  exuvia controller run controller.yml --check")]
pub struct Run {
    #[command(flatten)]
    pub config: Config,
    /// Only check the configuration file, then end.
    #[arg(long)]
    pub check: bool,
}

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  exuvia controller backup controller.yml /var/backups/register-2031-03-01.db")]
pub struct Backup {
    #[command(flatten)]
    pub config: Config,
    /// File to write, mode 0600.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Replace a file that is there.
    #[arg(long)]
    pub overwrite: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
#[command(
    after_help = "The register that was there is kept beside the new one. Routers that renewed after the copy was taken are named when they come back, and admitted if they can prove their leaf.

Examples:
  exuvia controller restore controller.yml /var/backups/register-2031-03-01.db"
)]
pub struct Restore {
    #[command(flatten)]
    pub config: Config,
    /// The copy.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Do not ask.
    #[arg(long, short)]
    pub yes: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
#[command(after_help = "The controller must not run. An administrator of that name is made if there is none.

Examples:
  exuvia controller reset-password controller.yml
  exuvia controller reset-password controller.yml --username admin --password-file secret.txt")]
pub struct ResetPassword {
    #[command(flatten)]
    pub config: Config,
    /// Whose password; the first administrator's unless told.
    #[arg(long, short, value_name = "NAME")]
    pub username: Option<String>,
    #[command(flatten)]
    pub password: NewPassword,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}
