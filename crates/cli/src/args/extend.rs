//! `exuvia extend`.

use std::time::Duration;

use clap::Args;

use super::router::Config;

#[derive(Args, Debug)]
#[command(
    after_help = "For a router that is not Exuvia's: run it before that router starts, instead of its own `--extend`, or from a timer. The new identity is in the state folder beside `identity.cert`, durable, before the controller may forget the old one; it is copied to the configured files once a controller has admitted it. Whatever cuts the command off, the next run goes on from there.

The key is kept, so that every mixture of old and new files works. While our router runs with this configuration, it is asked to renew.

Examples:
  exuvia extend /etc/ziti/router.yml
  exuvia extend router.yml --if-due && exec ziti router run router.yml
  ExecStartPre=-/usr/bin/exuvia extend /var/lib/ziti-router/config.yml --if-due"
)]
pub struct Extend {
    #[command(flatten)]
    pub config: Config,
    /// Renew only when it is due by the configuration (two thirds of the leaf's life, unless told otherwise); otherwise only finish what an
    /// earlier run left.
    #[arg(long)]
    pub if_due: bool,
    /// Renew even if the last attempt was less than the minimum spacing ago.
    #[arg(long, conflicts_with = "if_due")]
    pub now: bool,
    /// Make a new key. A router that starts in the instant between the replacement of the key and that of the certificates cannot
    /// connect until it is started again.
    #[arg(long)]
    pub new_key: bool,
    /// Do it although another router process runs with this configuration. The controller closes one of the two control channels; both
    /// connect again.
    #[arg(long)]
    pub beside_running: bool,
    /// Longest time for all of it. An attempt whose leaf the controller may know already gets up to two minutes more.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = config::parse_duration)]
    pub within: Duration,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}
