//! Heartbeats both ways, and the end of a channel. What is due when is decided by [`wire::heartbeat`]; here are the clock
//! and the timer.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use wire::heartbeat::{HeartbeatPolicy, Heartbeats, PeerHealth};
use wire::{Frame, content_type};

use super::{CloseReason, Event, Shared};

/// An empty frame that was queued gets this long to leave before another one is thought of.
const QUEUED_PAUSE: Duration = Duration::from_millis(50);

/// Closes after this much silence, from the start; asks three times as often. For leaves that live so short that the
/// usual 30 s are too long.
pub fn heartbeats_closing_after(silence: Duration) -> HeartbeatPolicy {
    let ns = nanoseconds(silence);
    HeartbeatPolicy {
        send_interval_ns: ns / 3,
        unresponsive_after_ns: ns / 6,
        close_after_ns: ns,
        initial_grace_ns: ns,
    }
}

/// Whether and how fast the peer answers heartbeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Liveness {
    /// What to think of it.
    pub health: PeerHealth,
    /// Time the last answered heartbeat took, there and back.
    pub round_trip: Option<Duration>,
}

/// The heartbeats and the clock of one channel.
pub(super) struct Pulse {
    policy: HeartbeatPolicy,
    opened: Instant,
    /// Unix time when the channel opened; the monotonic clock goes on from there.
    opened_ns: u64,
    beats: Mutex<Heartbeats>,
    owed: Notify,
}

impl Pulse {
    pub(super) fn new(policy: HeartbeatPolicy) -> Self {
        let opened_ns = nanoseconds(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default());
        Self {
            policy,
            opened: Instant::now(),
            opened_ns,
            beats: Mutex::new(Heartbeats::new(policy, opened_ns)),
            owed: Notify::new(),
        }
    }

    fn beats(&self) -> MutexGuard<'_, Heartbeats> {
        // Nothing panics while holding it.
        self.beats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_ns(&self) -> u64 {
        self.opened_ns.saturating_add(nanoseconds(self.opened.elapsed()))
    }

    fn instant(&self, ns: u64) -> Instant {
        self.opened + Duration::from_nanos(ns.saturating_sub(self.opened_ns))
    }

    /// A first underlay after none: what was not answered before is forgiven.
    pub(super) fn restart(&self) {
        let now_ns = self.now_ns();
        *self.beats() = Heartbeats::new(self.policy, now_ns);
        self.owed.notify_one();
    }

    /// Looks at a frame that came in.
    pub(super) fn received(&self, frame: &Frame) {
        let now_ns = self.now_ns();
        if self.beats().note_received(frame, now_ns) {
            self.owed.notify_one();
        }
    }

    /// Puts on a frame that leaves now whatever is due.
    pub(super) fn stamp(&self, frame: &mut Frame) {
        let now_ns = self.now_ns();
        self.beats().stamp(frame, now_ns);
    }

    pub(super) fn liveness(&self) -> Liveness {
        let now_ns = self.now_ns();
        let beats = self.beats();
        Liveness { health: beats.health(now_ns), round_trip: beats.round_trip_ns().map(Duration::from_nanos) }
    }

    /// Is something due that needs a frame of its own? The frame is stamped when it is written, not before: one that
    /// finds no room in the queue must not take the echo with it.
    fn needs_frame(&self) -> bool {
        let now_ns = self.now_ns();
        self.beats().clone().standalone(now_ns).is_some()
    }

    fn wake(&self) -> Instant {
        let ns = self.beats().wake_ns();
        self.instant(ns)
    }

    fn close_after(&self) -> Duration {
        Duration::from_nanos(self.policy.close_after_ns)
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// One task per channel: beats, notices silence, and says [`Event::Closed`] when all underlays are gone.
pub(super) async fn keep(shared: Arc<Shared>) {
    let mut closing = shared.closing.subscribe();
    let mut not_before = Instant::now();
    let reason = loop {
        let has_underlay = !shared.members().attached.is_empty();
        let look_at = shared.pulse.wake().max(not_before);
        tokio::select! {
            reason = closing.wait_for(Option::is_some) => {
                // The sender lives in `shared`.
                break reason.ok().and_then(|reason| reason.clone()).unwrap_or(CloseReason::OwnerGone);
            }
            () = shared.events.closed() => shared.close(CloseReason::OwnerGone),
            // Only to compute the timer anew.
            () = shared.pulse.owed.notified() => {}
            () = sleep_until(look_at), if has_underlay => {
                if shared.members().attached.is_empty() {
                    continue;
                }
                if shared.pulse.liveness().health == PeerHealth::Gone {
                    shared.close(CloseReason::Unresponsive { limit: shared.pulse.close_after() });
                } else if shared.pulse.needs_frame() {
                    shared.queue_now(Frame::new(content_type::HEARTBEAT, bytes::Bytes::new()));
                    not_before = Instant::now() + QUEUED_PAUSE;
                }
            }
        }
    };
    let hooks = std::mem::take(&mut shared.members().at_close);
    for hook in hooks {
        hook();
    }
    loop {
        let left = shared.member_left.notified();
        tokio::pin!(left);
        // Listening before looking: a departure in between is not missed.
        left.as_mut().enable();
        if shared.members().untold == 0 {
            break;
        }
        left.await;
    }
    let _ = shared.events.send(Event::Closed(reason)).await;
}
