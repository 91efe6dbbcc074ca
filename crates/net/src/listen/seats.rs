//! Who may stay when there is no room.
//!
//! Connections that have not proved anything cost whoever opens them next to nothing. When all seats are taken, the one that has done
//! nothing for longest gives its seat to the next: after a moment of grace, so that a crowd of honest peers (a fleet that comes back from an
//! outage) is served in turn and does not chase itself out.

use std::collections::BTreeMap;
use std::future::{Future, pending};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep};

static CROWDED_OUT: AtomicU64 = AtomicU64::new(0);
static TOO_SLOW: AtomicU64 = AtomicU64::new(0);
static HANDSHAKE_FAILED: AtomicU64 = AtomicU64::new(0);

/// Connections of this process that came to nothing, since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TurnedAway {
    /// Closed while they did nothing, because others needed the room.
    pub crowded_out: u64,
    /// Closed because handshake or hello did not come in time.
    pub too_slow: u64,
    /// The TLS handshake failed.
    pub handshake_failed: u64,
}

/// How many connections came to nothing before anybody asked who they are.
pub fn turned_away() -> TurnedAway {
    TurnedAway {
        crowded_out: CROWDED_OUT.load(Ordering::Relaxed),
        too_slow: TOO_SLOW.load(Ordering::Relaxed),
        handshake_failed: HANDSHAKE_FAILED.load(Ordering::Relaxed),
    }
}

pub(crate) fn note_too_slow() {
    TOO_SLOW.fetch_add(1, Ordering::Relaxed);
}

pub(crate) fn note_failed_handshake() {
    HANDSHAKE_FAILED.fetch_add(1, Ordering::Relaxed);
}

/// So many seats, shared by whoever asks for one.
#[derive(Clone)]
pub(crate) struct Seats(Arc<Shared>);

struct Shared {
    room: usize,
    grace: Duration,
    taken: Mutex<Taken>,
    freed: Notify,
}

#[derive(Default)]
struct Taken {
    count: usize,
    next: u64,
    /// Those that may be told to leave, oldest first.
    idle: BTreeMap<u64, (Instant, oneshot::Sender<()>)>,
}

impl Seats {
    /// `room` seats, each of them its holder's for `grace` at least.
    pub(crate) fn new(room: usize, grace: Duration) -> Self {
        Self(Arc::new(Shared { room: room.max(1), grace, taken: Mutex::default(), freed: Notify::new() }))
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        // Nothing panics while holding it.
        self.0.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a seat; tells the longest idle holder to leave if there is none.
    pub(crate) async fn take(&self) -> (Seat, Leave) {
        loop {
            let patience = match self.try_take() {
                Ok(seat) => return seat,
                Err(patience) => patience,
            };
            // Woken by the next one who leaves; or it is time to tell one to.
            tokio::select! {
                () = self.0.freed.notified() => {}
                () = sleep(patience.unwrap_or(Duration::MAX)), if patience.is_some() => {}
            }
        }
    }

    /// A seat, or when to ask again if nobody leaves before.
    fn try_take(&self) -> Result<(Seat, Leave), Option<Duration>> {
        let mut taken = self.taken();
        let now = Instant::now();
        if taken.count >= self.0.room {
            let Some((since, oldest)) = taken.idle.first_key_value().map(|(id, (since, _))| (*since, *id)) else {
                return Err(None);
            };
            let age = now.saturating_duration_since(since);
            if age < self.0.grace {
                return Err(Some(self.0.grace.saturating_sub(age)));
            }
            if let Some((_, leave)) = taken.idle.remove(&oldest)
                && leave.send(()).is_ok()
            {
                CROWDED_OUT.fetch_add(1, Ordering::Relaxed);
            }
            // Its task gives the seat back when it has noticed.
            return Err(None);
        }
        taken.count += 1;
        let id = taken.next;
        taken.next += 1;
        let (leave, left) = oneshot::channel();
        taken.idle.insert(id, (now, leave));
        Ok((Seat { seats: self.clone(), id }, Leave(left)))
    }
}

/// The right to be served; ends when it is dropped.
pub(crate) struct Seat {
    seats: Seats,
    id: u64,
}

impl Seat {
    /// From now on its holder is not told to leave: it has done its part, and waits for us.
    pub(crate) fn keep(&self) {
        self.seats.taken().idle.remove(&self.id);
        // Whoever waits for the oldest may have waited for this one.
        self.seats.0.freed.notify_one();
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.taken();
        taken.idle.remove(&self.id);
        taken.count = taken.count.saturating_sub(1);
        drop(taken);
        self.seats.0.freed.notify_one();
    }
}

/// Hears when a seat must be given up.
pub(crate) struct Leave(oneshot::Receiver<()>);

impl Leave {
    /// What `work` gives; `None` when the seat was needed for another before it was through.
    pub(crate) async fn or<T>(self, work: impl Future<Output = T>) -> Option<T> {
        let told = async {
            if self.0.await.is_err() {
                // Nobody will ask any more.
                pending::<()>().await;
            }
        };
        tokio::select! {
            biased;
            done = work => Some(done),
            () = told => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn the_longest_idle_gives_its_seat_to_the_next_and_not_before_its_grace_is_over() {
        let seats = Seats::new(2, GRACE);
        let begun = Instant::now();
        let (first, told) = seats.take().await;
        let first = tokio::spawn(async move {
            let outcome = told.or(pending::<()>()).await;
            drop(first);
            outcome
        });
        let (_second, _) = seats.take().await;
        let _third = seats.take().await;
        assert_eq!(first.await.unwrap(), None);
        assert!(begun.elapsed() >= GRACE);
        assert!(begun.elapsed() < 2 * GRACE);
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_done_his_part_stays_and_the_next_waits() {
        let seats = Seats::new(1, GRACE);
        let (first, told) = seats.take().await;
        first.keep();
        let next = tokio::spawn({
            let seats = seats.clone();
            async move { drop(seats.take().await) }
        });
        // Long past the grace, the first is still there.
        assert_eq!(told.or(sleep(100 * GRACE)).await, Some(()));
        assert!(!next.is_finished());
        drop(first);
        next.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_crowd_that_is_served_within_its_grace_chases_nobody_out() {
        let seats = Seats::new(10, GRACE);
        let mut crowd = tokio::task::JoinSet::new();
        for _ in 0..1000 {
            let seats = seats.clone();
            crowd.spawn(async move {
                let (_seat, told) = seats.take().await;
                told.or(sleep(GRACE / 2)).await
            });
        }
        while let Some(served) = crowd.join_next().await {
            assert_eq!(served.unwrap(), Some(()));
        }
    }
}
