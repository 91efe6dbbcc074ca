//! What a running controller does by itself: say in the register that it is up, and notice when the register's disk or the
//! signing certificate fails.

use std::sync::Arc;
use std::time::Duration;

use lifecycle::Uptime;
use net::stop::StopSignal;
use store::register::Register;
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::clock::Clock;
use crate::signer::Signer;
use crate::web::Readiness;

/// Name of the part in `/readyz`: the register may be readable while its disk takes no writes.
const PART: &str = "register_writes";
/// How soon a register that failed is tried again.
const RETRY: Duration = Duration::from_secs(2);
/// How often the operator is reminded of a signing certificate that ends.
const REMIND: Duration = Duration::from_secs(6 * 3600);

#[derive(Debug)]
pub(super) struct Tending {
    pub(super) register: Arc<dyn Register>,
    pub(super) signer: Signer,
    pub(super) clock: Clock,
    pub(super) readiness: Readiness,
    pub(super) interval: Duration,
    /// Somebody has seen the register fail.
    pub(super) trouble: Arc<Notify>,
}

/// Time between heartbeats: a small part of a leaf's life, so that an outage is known well enough to spread renewals.
pub(super) fn interval(leaf_life: Duration) -> Duration {
    (leaf_life / 40).clamp(Duration::from_secs(5), Duration::from_secs(60))
}

impl Tending {
    pub(super) async fn run(self, mut stop: StopSignal) {
        let mut works = true;
        let mut reminded: Option<Uptime> = None;
        loop {
            let now = self.clock.now();
            let beat = self.register.heartbeat(now.wall).await;
            match (&beat, works) {
                (Ok(_), false) => tracing::info!("the register takes writes again"),
                (Err(error), true) => {
                    tracing::error!(%error, "the register takes no writes; requests are refused until it does")
                }
                _ => {}
            }
            works = beat.is_ok();
            match beat {
                Ok(_) => self.readiness.works(PART),
                Err(error) => self.readiness.fails(PART, error.to_string()),
            }
            match reminded {
                None => reminded = Some(now.uptime),
                Some(last) if now.uptime.since(last) >= REMIND => {
                    reminded = Some(now.uptime);
                    if let Some(warning) = self.signer.warning(now) {
                        tracing::warn!("{warning}");
                    }
                }
                Some(_) => {}
            }
            tokio::select! {
                () = sleep(if works { self.interval } else { RETRY }) => {}
                () = self.trouble.notified(), if works => {}
                () = stop.stopped() => return,
            }
        }
    }
}
