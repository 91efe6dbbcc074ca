//! Who may stay when there is no room.
//!
//! Connections that have not proved anything cost whoever opens them next to nothing. Two rules decide who makes room, in this order:
//!
//! 1. **Shares.** A newcomer whose source holds less than another one gets a seat of the source that holds most, at once. However many
//!    connections somebody opens from one address, a peer at another address is let in as if they were not there.
//! 2. **Age.** Among equals the one that has done nothing for longest gives its seat to the next: after a moment of grace, so that a crowd of
//!    honest peers (a fleet that comes back from an outage) is served in turn and does not chase itself out.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::{Future, pending};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep};

use crate::source::Source;

static CROWDED_OUT: AtomicU64 = AtomicU64::new(0);
static TOO_SLOW: AtomicU64 = AtomicU64::new(0);
static HANDSHAKE_FAILED: AtomicU64 = AtomicU64::new(0);

/// A source with more than this part of all seats is a crowd: when all are taken, its next connection is not waited for.
const CROWD: usize = 50;
/// And with more seats than this.
const CROWD_LEAST: usize = 16;
/// Of all seats, this part may be held for a moment by those who were told to leave and have not noticed.
const LEAVING: usize = 10;
/// Idle seats that are looked at for the oldest one that may be told to leave.
const LOOKED_AT: usize = 64;

/// Connections of this process that came to nothing, since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TurnedAway {
    /// Closed because others needed the room.
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

fn note_crowded_out() {
    CROWDED_OUT.fetch_add(1, Ordering::Relaxed);
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
    next: u64,
    /// All seats that somebody sits on and was not told to leave, by source.
    held: HashMap<Source, usize>,
    seated: usize,
    /// Those that were told to leave and have not noticed yet.
    leaving: BTreeSet<u64>,
    /// Who may be told to leave, oldest first.
    movable: BTreeMap<u64, Movable>,
    /// The same by source: first those that have done nothing, then those that wait for us.
    of_source: HashMap<Source, BTreeSet<(Doing, u64)>>,
    /// The same sources by how many of their seats may be taken away.
    by_size: BTreeSet<(usize, Source)>,
    /// Those that have done nothing, oldest first.
    idle: BTreeSet<u64>,
}

struct Movable {
    source: Source,
    doing: Doing,
    since: Instant,
    leave: oneshot::Sender<()>,
}

/// What the holder of a seat does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Doing {
    /// Nothing so far. Loses its seat by either rule.
    Nothing,
    /// It has done its part, and waits for us. Loses its seat only to a source that holds less.
    Waiting,
}

impl Taken {
    fn held(&self, source: Source) -> usize {
        self.held.get(&source).copied().unwrap_or(0)
    }

    fn sit(&mut self, source: Source, since: Instant) -> (u64, oneshot::Receiver<()>) {
        let id = self.next;
        self.next += 1;
        self.seated += 1;
        *self.held.entry(source).or_default() += 1;
        let (leave, left) = oneshot::channel();
        self.make_movable(id, Movable { source, doing: Doing::Nothing, since, leave });
        (id, left)
    }

    fn make_movable(&mut self, id: u64, movable: Movable) {
        let of_source = self.of_source.entry(movable.source).or_default();
        self.by_size.remove(&(of_source.len(), movable.source));
        of_source.insert((movable.doing, id));
        self.by_size.insert((of_source.len(), movable.source));
        if movable.doing == Doing::Nothing {
            self.idle.insert(id);
        }
        self.movable.insert(id, movable);
    }

    /// `None` if it may not be moved, or is told already.
    fn take_movable(&mut self, id: u64) -> Option<Movable> {
        let movable = self.movable.remove(&id)?;
        self.idle.remove(&id);
        if let Some(of_source) = self.of_source.get_mut(&movable.source) {
            self.by_size.remove(&(of_source.len(), movable.source));
            of_source.remove(&(movable.doing, id));
            if of_source.is_empty() {
                self.of_source.remove(&movable.source);
            } else {
                self.by_size.insert((of_source.len(), movable.source));
            }
        }
        Some(movable)
    }

    fn stand_up(&mut self, source: Source) {
        self.seated = self.seated.saturating_sub(1);
        if let Some(held) = self.held.get_mut(&source) {
            *held = held.saturating_sub(1);
            if *held == 0 {
                self.held.remove(&source);
            }
        }
    }

    /// Tells the holder of this seat to leave. It counts no longer.
    fn tell(&mut self, id: u64) {
        let Some(movable) = self.take_movable(id) else { return };
        self.stand_up(movable.source);
        self.leaving.insert(id);
        note_crowded_out();
        // Whoever has gone already gives the seat back all the same.
        let _ = movable.leave.send(());
    }

    /// Whose seat goes to a newcomer of this source, by one rule or the other; or when to ask again.
    fn whose(&self, source: Source, grace: Duration, now: Instant) -> Result<u64, Option<Duration>> {
        let held = self.held(source);
        if let Some((size, largest)) = self.by_size.last()
            && *size > held + 1
            && let Some((_, id)) = self.of_source.get(largest).and_then(BTreeSet::first)
        {
            return Ok(*id);
        }
        let mut idle = self.idle.iter().take(LOOKED_AT).filter_map(|id| Some((*id, self.movable.get(id)?)));
        // Never one of a source that holds less than the newcomer's.
        let Some((id, oldest)) = idle.find(|(_, movable)| self.held(movable.source) >= held) else { return Err(None) };
        let age = now.saturating_duration_since(oldest.since);
        if age >= grace { Ok(id) } else { Err(Some(grace.saturating_sub(age))) }
    }
}

/// There is no seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoSeat {
    /// Its source has so many already that nobody waits for it.
    pub(crate) is_crowd: bool,
    /// When to ask again, if nobody leaves before.
    patience: Option<Duration>,
}

impl Seats {
    /// `room` seats, each of them its holder's for `grace` at least, as far as his own source goes.
    pub(crate) fn new(room: usize, grace: Duration) -> Self {
        Self(Arc::new(Shared { room: room.max(1), grace, taken: Mutex::default(), freed: Notify::new() }))
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        // Nothing panics while holding it.
        self.0.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a seat, which may be one that another is told to leave.
    pub(crate) async fn take(&self, source: Source) -> (Seat, Leave) {
        loop {
            let NoSeat { patience, .. } = match self.try_take(source) {
                Ok(seat) => return seat,
                Err(none) => none,
            };
            // Woken by the next one who leaves; or it is time to tell one to.
            tokio::select! {
                () = self.0.freed.notified() => {}
                () = sleep(patience.unwrap_or(Duration::MAX)), if patience.is_some() => {}
            }
        }
    }

    /// A seat for a connection that nobody can wait for without keeping all others waiting: a crowd's is turned away.
    pub(crate) async fn take_at_the_door(&self, source: Source) -> Option<(Seat, Leave)> {
        match self.try_take(source) {
            Ok(seat) => Some(seat),
            Err(NoSeat { is_crowd: true, .. }) => {
                note_crowded_out();
                None
            }
            Err(_) => Some(self.take(source).await),
        }
    }

    fn try_take(&self, source: Source) -> Result<(Seat, Leave), NoSeat> {
        let mut taken = self.taken();
        let now = Instant::now();
        if taken.seated >= self.0.room {
            let is_crowd = taken.held(source) > (self.0.room / CROWD).max(CROWD_LEAST);
            if taken.leaving.len() > self.0.room / LEAVING {
                return Err(NoSeat { is_crowd, patience: None });
            }
            match taken.whose(source, self.0.grace, now) {
                Ok(id) => taken.tell(id),
                Err(patience) => return Err(NoSeat { is_crowd, patience }),
            }
        }
        let (id, left) = taken.sit(source, now);
        Ok((Seat { seats: self.clone(), source, id }, Leave(left)))
    }
}

/// The right to be served; ends when it is dropped.
pub(crate) struct Seat {
    seats: Seats,
    source: Source,
    id: u64,
}

impl Seat {
    /// Its holder has done its part, and waits for us: it is not told to leave for doing nothing.
    pub(crate) fn wait(&self) {
        let mut taken = self.seats.taken();
        if let Some(movable) = taken.take_movable(self.id) {
            taken.make_movable(self.id, Movable { doing: Doing::Waiting, ..movable });
        }
        drop(taken);
        // Whoever waits for the oldest may have waited for this one.
        self.seats.0.freed.notify_one();
    }

    /// From now on its holder is not told to leave; `false` if it was told already.
    pub(crate) fn keep(&self) -> bool {
        // With it goes the sender: nobody will ask any more.
        let is_kept = {
            let mut taken = self.seats.taken();
            taken.take_movable(self.id);
            !taken.leaving.contains(&self.id)
        };
        self.seats.0.freed.notify_one();
        is_kept
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.taken();
        if !taken.leaving.remove(&self.id) {
            taken.take_movable(self.id);
            taken.stand_up(self.source);
        }
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

    fn from(last: u8) -> Source {
        Source::of(([192, 0, 2, last], 1).into())
    }

    #[tokio::test(start_paused = true)]
    async fn the_longest_idle_gives_its_seat_to_the_next_and_not_before_its_grace_is_over() {
        let seats = Seats::new(2, GRACE);
        let begun = Instant::now();
        let (first, told) = seats.take(from(1)).await;
        let first = tokio::spawn(async move {
            let outcome = told.or(pending::<()>()).await;
            drop(first);
            outcome
        });
        let (_second, _) = seats.take(from(1)).await;
        let _third = seats.take(from(1)).await;
        assert_eq!(first.await.unwrap(), None);
        assert!(begun.elapsed() >= GRACE);
        assert!(begun.elapsed() < 2 * GRACE);
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_done_his_part_stays_and_the_next_waits() {
        for is_kept in [true, false] {
            let seats = Seats::new(1, GRACE);
            let (first, told) = seats.take(from(1)).await;
            if is_kept {
                assert!(first.keep());
            } else {
                first.wait();
            }
            let next = tokio::spawn({
                let seats = seats.clone();
                async move { drop(seats.take(from(1)).await) }
            });
            // Long past the grace, the first is still there.
            assert_eq!(told.or(sleep(100 * GRACE)).await, Some(()));
            assert!(!next.is_finished());
            drop(first);
            next.await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_crowd_that_is_served_within_its_grace_chases_nobody_out() {
        let seats = Seats::new(10, GRACE);
        let mut crowd = tokio::task::JoinSet::new();
        for _ in 0..1000 {
            let seats = seats.clone();
            crowd.spawn(async move {
                let (_seat, told) = seats.take(from(1)).await;
                told.or(sleep(GRACE / 2)).await
            });
        }
        while let Some(served) = crowd.join_next().await {
            assert_eq!(served.unwrap(), Some(()));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_from_elsewhere_is_let_in_at_once_however_many_others_come_from_one_address() {
        let seats = Seats::new(100, GRACE);
        let mut crowd = Vec::new();
        for _ in 0..100 {
            crowd.push(seats.take(from(1)).await);
        }
        // Some of them wait for us: by its own source's measure they would stay.
        crowd.iter().take(50).for_each(|(seat, _)| seat.wait());
        let begun = Instant::now();
        let (own, _told) = seats.take(from(2)).await;
        assert_eq!(begun.elapsed(), Duration::ZERO);
        // One of those who have done nothing was told, and counts no longer.
        let (_seat, told) = crowd.remove(50);
        assert_eq!(told.or(pending::<()>()).await, None);
        // And nobody of the crowd gets that seat back, not for its age either.
        tokio::time::advance(10 * GRACE).await;
        crowd.push(seats.take(from(1)).await);
        assert!(own.keep());
    }

    #[tokio::test(start_paused = true)]
    async fn an_admission_that_has_begun_is_not_broken_off_for_a_smaller_source() {
        let seats = Seats::new(2, GRACE);
        let (first, _first_told) = seats.take(from(1)).await;
        let (second, _second_told) = seats.take(from(1)).await;
        assert!(first.keep() && second.keep());
        let waits = tokio::time::timeout(100 * GRACE, seats.take(from(2))).await;
        assert!(waits.is_err());
        drop(first);
        let _third = seats.take(from(2)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_crowd_is_turned_away_at_the_door_and_everybody_else_is_waited_for() {
        let seats = Seats::new(100, GRACE);
        let mut crowd = Vec::new();
        for _ in 0..100 {
            crowd.push(seats.take_at_the_door(from(1)).await.unwrap());
        }
        let begun = Instant::now();
        assert!(seats.take_at_the_door(from(1)).await.is_none());
        assert_eq!(begun.elapsed(), Duration::ZERO);
        for last in 2..50 {
            assert!(seats.take_at_the_door(from(last)).await.is_some());
        }
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn seats_that_were_given_back_are_all_there_again() {
        let seats = Seats::new(8, GRACE);
        for round in 0..50_u8 {
            let mut taken = Vec::new();
            for last in 0..12_u8 {
                let source = from((round + last) % 5);
                let Ok((seat, told)) = seats.try_take(source) else { continue };
                match last % 3 {
                    0 => seat.wait(),
                    1 => drop(seat.keep()),
                    _ => {}
                }
                taken.push((seat, told));
            }
        }
        let taken = seats.taken();
        assert_eq!((taken.seated, taken.held.len(), taken.leaving.len()), (0, 0, 0));
        assert!(taken.movable.is_empty() && taken.idle.is_empty());
        assert!(taken.of_source.is_empty() && taken.by_size.is_empty());
    }
}
