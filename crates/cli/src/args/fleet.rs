//! `exuvia fleet`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand};
use lifecycle::Fingerprint;

use super::PasswordSource;
use crate::environment;

#[derive(Args, Debug)]
pub struct Fleet {
    /// File that holds the session. [default: exuvia/session.json in $XDG_STATE_HOME or ~/.local/state]
    #[arg(long, global = true, value_name = "FILE", env = environment::SESSION, hide_env_values = true)]
    pub session: Option<PathBuf>,
    #[command(subcommand)]
    pub command: FleetCommand,
}

#[derive(Debug, Subcommand)]
pub enum FleetCommand {
    /// Begin a session with a controller.
    Login(Login),
    /// End the session and forget it.
    Logout,
    /// List routers with the state of their identities.
    List(List),
    /// Show one router: leaves, what is admitted, seconds to lock-out, what happened last.
    Show(Show),
    /// Make a router and its enrollment token.
    Create(Create),
    /// Delete routers.
    Delete(Confirmed),
    /// Void all leaves of a router and make a new enrollment token.
    ReEnroll(ReEnroll),
    /// Withdraw routers' identities at once; only re-enrollment brings them back.
    Revoke(Confirmed),
    /// Have routers renew now.
    Renew(Several),
    /// Have the whole fleet re-key within a time, or show how far it is.
    Rekey(Rekey),
    /// Vouch for one leaf of a router, whatever the register remembers of it.
    Readmit(Readmit),
    /// Call an older leaf that came back a crash, where nobody else holds the router's identity.
    Dismiss(Confirmed),
    /// Show a router's audit trail, newest first.
    Audit(Audit),
    /// Show who is due when, and who is stuck.
    Pipeline(Pipeline),
    /// Follow what happens.
    Events(Events),
}

#[derive(Args, Debug)]
#[command(group = ArgGroup::new("trust").args(["ca", "fingerprint"]))]
#[command(
    after_help = "Whom to trust is decided here, once: by a CA file, by the fingerprint of a CA certificate, or by a person who compares it on the terminal. Nothing is trusted silently, and the password is sent only afterwards.

Examples:
  exuvia fleet login https://ctrl.example.org:1280 --ca ca.pem
  exuvia fleet login ctrl.example.org:1280 --fingerprint 5f3a…
  exuvia fleet login https://[::1]:1280 --ca ca.pem --username admin --password-file secret.txt"
)]
pub struct Login {
    /// Address of the controller's API.
    #[arg(value_name = "URL", value_parser = crate::commands::fleet::parse_controller)]
    pub controller: String,
    /// Name of the administrator.
    #[arg(long, short, value_name = "NAME", default_value = "admin")]
    pub username: String,
    #[command(flatten)]
    pub password: PasswordSource,
    /// Trust the CA certificates of this PEM file.
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Trust the controller's CA certificate with this SHA-256 fingerprint, hex with or without colons.
    #[arg(long, value_name = "SHA256", value_parser = parse_fingerprint)]
    pub fingerprint: Option<Fingerprint>,
}

#[derive(Args, Debug)]
#[command(after_help = "Examples:
  exuvia fleet list
  exuvia fleet list --filter 'progress = \"due\" and connected = false'
  exuvia fleet list --sort lockout_s --json | jq -r '.[0].name'")]
pub struct List {
    /// Only routers for which this holds, in OpenZiti's query language, over id, name, kind, standing, progress,
    /// connected, lockout_s.
    #[arg(long, value_name = "QUERY")]
    pub filter: Option<String>,
    /// Field to sort by, then `asc` or `desc`; several separated by commas.
    #[arg(long, value_name = "FIELDS", default_value = "name")]
    pub sort: String,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  exuvia fleet show edge-7\n  exuvia fleet show edge-7 --json | jq .router.lockout_s"
)]
pub struct Show {
    /// Name or id.
    #[arg(value_name = "ROUTER")]
    pub router: String,
    /// Lines of the audit trail.
    #[arg(long, value_name = "LINES", default_value_t = 10, value_parser = clap::value_parser!(u16).range(0..=500))]
    pub audit: u16,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
#[command(after_help = "The token goes to standard output, or with `-o` into a file that only you can read.

Examples:
  exuvia fleet create edge-7 -o edge-7.jwt
  exuvia fleet create core-1 --transit -o core-1.jwt
  exuvia fleet create edge-8 --role berlin --role public -o edge-8.jwt --json")]
pub struct Create {
    /// Name of the router, unlike every other router's.
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Make a transit router; otherwise an edge router.
    #[arg(long, conflicts_with = "roles")]
    pub transit: bool,
    /// Attribute that policies select by; may be repeated.
    #[arg(long = "role", value_name = "ATTRIBUTE")]
    pub roles: Vec<String>,
    #[command(flatten)]
    pub token: TokenOutput,
}

/// Where an enrollment token goes.
#[derive(Args, Clone, Debug)]
pub struct TokenOutput {
    /// Write the enrollment token into this file, mode 0600; `-` is standard output.
    #[arg(long, short = 'o', value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
#[command(after_help = "The router is out until it enrolls with the new token.

Examples:
  exuvia fleet re-enroll edge-7 -o edge-7.jwt
  exuvia fleet re-enroll edge-7 --yes > edge-7.jwt")]
pub struct ReEnroll {
    /// Name or id.
    #[arg(value_name = "ROUTER")]
    pub router: String,
    /// Do not ask.
    #[arg(long, short)]
    pub yes: bool,
    #[command(flatten)]
    pub token: TokenOutput,
}

#[derive(Args, Debug)]
#[command(
    after_help = "Asks on the terminal; elsewhere `--yes` is needed. Several routers are done one after the other; the first failure ends it."
)]
pub struct Confirmed {
    /// Names or ids.
    #[arg(value_name = "ROUTER", required = true)]
    pub routers: Vec<String>,
    /// Do not ask.
    #[arg(long, short)]
    pub yes: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
#[command(after_help = "A router that is not connected learns of it when it connects next.

Examples:
  exuvia fleet renew edge-7
  exuvia fleet renew edge-7 edge-8 --json")]
pub struct Several {
    /// Names or ids.
    #[arg(value_name = "ROUTER", required = true)]
    pub routers: Vec<String>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
#[command(group = ArgGroup::new("order").args(["within", "show"]).required(true))]
#[command(after_help = "Examples:
  exuvia fleet rekey --within 2h
  exuvia fleet rekey --show --json | jq .outstanding")]
pub struct Rekey {
    /// Have every router renew within this time.
    #[arg(long, value_name = "DURATION", value_parser = config::parse_duration)]
    pub within: Option<Duration>,
    /// Show the re-key in force.
    #[arg(long)]
    pub show: bool,
    /// Do not ask.
    #[arg(long, short)]
    pub yes: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
#[command(group = ArgGroup::new("leaf").args(["fingerprint", "cert"]).required(true))]
#[command(
    after_help = "For a router that was refused because the register was restored, or because its disk was copied. Whoever holds that leaf's key is this router from then on.

Examples:
  exuvia fleet readmit edge-7 --fingerprint 5f3a…
  exuvia fleet readmit edge-7 --cert edge-7.pem --yes"
)]
pub struct Readmit {
    /// Name or id.
    #[arg(value_name = "ROUTER")]
    pub router: String,
    /// SHA-256 of a leaf that the register still knows.
    #[arg(long, value_name = "SHA256", value_parser = parse_fingerprint)]
    pub fingerprint: Option<Fingerprint>,
    /// PEM file of a leaf that the register may have forgotten.
    #[arg(long, value_name = "FILE")]
    pub cert: Option<PathBuf>,
    /// Do not ask.
    #[arg(long, short)]
    pub yes: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
#[command(after_help = "The trail outlives the router: a deleted one is found by its id.

Examples:
  exuvia fleet audit edge-7
  exuvia fleet audit edge-7 --limit 500 --json")]
pub struct Audit {
    /// Name or id.
    #[arg(value_name = "ROUTER")]
    pub router: String,
    /// Most lines.
    #[arg(long, value_name = "LINES", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=500))]
    pub limit: u16,
    /// Only lines older than this number.
    #[arg(long, value_name = "SEQ")]
    pub before: Option<u64>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  exuvia fleet pipeline\n  exuvia fleet pipeline --limit 20 --json")]
pub struct Pipeline {
    /// Most routers.
    #[arg(long, value_name = "ROUTERS", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=500))]
    pub limit: u16,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
#[command(after_help = "Connects again when the stream breaks off. What happened in between is in the audit trails.

Examples:
  exuvia fleet events
  exuvia fleet events --router edge-7 --json
  exuvia fleet events --count 1 --json | jq -r .kind")]
pub struct Events {
    /// Only this router's; name or id.
    #[arg(long, value_name = "ROUTER")]
    pub router: Option<String>,
    /// End after so many events.
    #[arg(long, value_name = "EVENTS", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// Print one JSON object per line.
    #[arg(long)]
    pub json: bool,
}

/// SHA-256 as people copy it: hex, with or without colons or spaces, any case.
fn parse_fingerprint(text: &str) -> Result<Fingerprint, String> {
    let digits: Vec<u32> = text
        .chars()
        .filter(|c| !matches!(c, ':' | ' '))
        .map(|c| c.to_digit(16).ok_or_else(|| format!("`{c}` is no hex digit")))
        .collect::<Result<_, _>>()?;
    let mut bytes = [0_u8; 32];
    if digits.len() != 2 * bytes.len() {
        return Err(format!("expected the 64 hex digits of a SHA-256, found {}", digits.len()));
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        // Two hex digits always fit.
        *byte = pair.iter().fold(0, |value, digit| value * 16 + u8::try_from(*digit).unwrap_or(0));
    }
    Ok(Fingerprint(bytes))
}

#[cfg(test)]
mod tests {
    use super::parse_fingerprint;

    #[test]
    fn a_fingerprint_is_read_however_tools_print_it() {
        let plain = "ab".repeat(32);
        let colons = vec!["AB"; 32].join(":");
        assert_eq!(parse_fingerprint(&plain), parse_fingerprint(&colons));
        assert_eq!(parse_fingerprint(&plain).unwrap().0, [0xab; 32]);
        assert!(parse_fingerprint("ab").unwrap_err().contains("64"));
        assert!(parse_fingerprint(&"zz".repeat(32)).is_err());
    }
}
