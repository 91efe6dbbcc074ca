//! What was carried, what was lost, and which fault is the excuse for it.
//!
//! A loss is excused only by a fault that touches the very thing that was lost, at the very time: a killed process from the
//! kill until it is ready again, a path from the first byte touched until it is healed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::faults::plan::FaultKind;

/// Which connections of a router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// Its health endpoint, which the load uses.
    Web,
    /// Its control channel.
    Control,
}

impl FaultKind {
    /// Does this kind of fault harm that side of the router it strikes?
    fn harms(self, side: Side) -> bool {
        match self {
            Self::KillRouter => true,
            Self::KillController | Self::AnswerLost | Self::AnswerDelayed | Self::AnswerCut => side == Side::Control,
            // A disk is no connection: whatever is lost meanwhile was lost by the router.
            Self::FolderUnwritable | Self::FolderFull => false,
        }
    }
}

/// A fault that touches one router.
#[derive(Clone, Copy, Debug)]
struct Touch {
    number: u64,
    kind: FaultKind,
    from: Instant,
    /// Until when each side is touched; `None` while it is.
    web_until: Option<Instant>,
    control_until: Option<Instant>,
}

/// Losses of one kind and what they cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Losses {
    pub(crate) failed_handshakes: u64,
    pub(crate) dropped_connections: u64,
    pub(crate) dropped_bytes: u64,
}

impl Losses {
    fn add(&mut self, loss: &Loss) {
        match *loss {
            Loss::Handshake => self.failed_handshakes += 1,
            Loss::Connection { bytes } => {
                self.dropped_connections += 1;
                self.dropped_bytes += bytes;
            }
        }
    }

    /// Nothing at all?
    pub(crate) fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// One thing that was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// A handshake did not succeed, or what was served did not pass the checks.
    Handshake,
    /// An open connection closed, with this many bytes of requests and answers under way.
    Connection { bytes: u64 },
}

/// Everything about one router.
#[derive(Clone, Debug, Default)]
pub(crate) struct RouterTally {
    pub(crate) name: String,
    /// Generations that were promoted.
    pub(crate) promoted: BTreeSet<u64>,
    pub(crate) failed_attempts: u64,
    pub(crate) handshakes: u64,
    pub(crate) requests: u64,
    pub(crate) losses: Losses,
    pub(crate) excused: Losses,
    pub(crate) locked_out: Option<String>,
    /// Seconds to lock-out, in the last sample and in the worst one.
    pub(crate) left: Option<Duration>,
    pub(crate) worst_left: Option<Duration>,
    /// Most renewals that one connection of the load lived through.
    pub(crate) renewals_survived: u64,
    pub(crate) unexpected_exits: u64,
    /// Is it being restarted after the faults, on purpose?
    is_restarting: bool,
    touches: Vec<Touch>,
}

/// Faults by kind and by the phase in which they struck.
pub(crate) type Strikes = BTreeMap<FaultKind, BTreeMap<String, u64>>;

#[derive(Debug, Default)]
pub(crate) struct Books {
    pub(crate) routers: Vec<RouterTally>,
    pub(crate) strikes: Strikes,
    pub(crate) excused: BTreeMap<FaultKind, Losses>,
    /// When each fault struck, to see whether the cadence was kept.
    pub(crate) struck_at: Vec<(Instant, FaultKind)>,
    pub(crate) skipped: BTreeMap<FaultKind, String>,
    /// What else went wrong, in words.
    pub(crate) complaints: Vec<String>,
    faults: u64,
}

/// The books of one quickstart, shared by everybody who writes into them.
#[derive(Debug)]
pub(crate) struct Tally(Mutex<Books>);

impl Tally {
    pub(crate) fn new(names: impl IntoIterator<Item = String>) -> Self {
        let routers = names.into_iter().map(|name| RouterTally { name, ..RouterTally::default() }).collect();
        Self(Mutex::new(Books { routers, ..Books::default() }))
    }

    /// The books, to be read or written. Never held across an await.
    pub(crate) fn books(&self) -> MutexGuard<'_, Books> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes about one router.
    pub(crate) fn router(&self, index: usize, write: impl FnOnce(&mut RouterTally)) {
        if let Some(router) = self.books().routers.get_mut(index) {
            write(router);
        }
    }

    /// A fault begins to touch these routers. The answer names it.
    pub(crate) fn begin(&self, kind: FaultKind, routers: &[usize]) -> u64 {
        let from = Instant::now();
        let mut books = self.books();
        books.faults += 1;
        let number = books.faults;
        let until = |side| if kind.harms(side) { None } else { Some(from) };
        for index in routers {
            if let Some(router) = books.routers.get_mut(*index) {
                let (web_until, control_until) = (until(Side::Web), until(Side::Control));
                router.touches.push(Touch { number, kind, from, web_until, control_until });
            }
        }
        number
    }

    /// A planned restart excuses nothing in numbers; it only keeps the closing connections out of the books.
    pub(crate) fn begin_restart(&self, index: usize) {
        self.router(index, |router| router.is_restarting = true);
    }

    /// The planned restart is over.
    pub(crate) fn end_restart(&self, index: usize) {
        self.router(index, |router| router.is_restarting = false);
    }

    /// A fault no longer touches this side of this router.
    pub(crate) fn end(&self, number: u64, index: usize, side: Side) {
        self.end_at(number, index, side, Instant::now());
    }

    /// As [`Self::end`], at an instant that may be to come.
    pub(crate) fn end_at(&self, number: u64, index: usize, side: Side, at: Instant) {
        self.router(index, |router| {
            for touch in router.touches.iter_mut().filter(|touch| touch.number == number) {
                match side {
                    Side::Web => touch.web_until.get_or_insert(at),
                    Side::Control => touch.control_until.get_or_insert(at),
                };
            }
        });
    }

    /// A fault struck while its router was in this phase.
    pub(crate) fn struck(&self, kind: FaultKind, phase: &str) {
        let mut books = self.books();
        *books.strikes.entry(kind).or_default().entry(phase.to_owned()).or_default() += 1;
        books.struck_at.push((Instant::now(), kind));
    }

    /// Something was lost that was under way between `from` and now. Says which fault excuses it.
    pub(crate) fn lose(&self, index: usize, side: Side, from: Instant, loss: &Loss) -> Option<FaultKind> {
        let mut books = self.books();
        let router = books.routers.get_mut(index)?;
        if router.is_restarting {
            return Some(FaultKind::KillRouter);
        }
        let excuse = router.excuse(side, from, Instant::now());
        match excuse {
            Some(kind) => {
                router.excused.add(loss);
                books.excused.entry(kind).or_default().add(loss);
            }
            None => router.losses.add(loss),
        }
        excuse
    }

    pub(crate) fn complain(&self, what: impl Into<String>) {
        self.books().complaints.push(what.into());
    }
}

impl RouterTally {
    fn excuse(&self, side: Side, from: Instant, to: Instant) -> Option<FaultKind> {
        let until = |touch: &Touch| match side {
            Side::Web => touch.web_until,
            Side::Control => touch.control_until,
        };
        let touches = self.touches.iter().rev();
        touches
            .filter(|touch| touch.kind.harms(side))
            .find(|touch| touch.from <= to && until(touch).is_none_or(|until| until >= from))
            .map(|touch| touch.kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally() -> Tally {
        Tally::new(["r1".to_owned(), "r2".to_owned()])
    }

    #[test]
    fn a_loss_without_a_fault_counts() {
        let tally = tally();
        assert_eq!(tally.lose(0, Side::Web, Instant::now(), &Loss::Handshake), None);
        assert_eq!(tally.lose(0, Side::Web, Instant::now(), &Loss::Connection { bytes: 7 }), None);
        let losses = tally.books().routers[0].losses;
        assert_eq!(losses, Losses { failed_handshakes: 1, dropped_connections: 1, dropped_bytes: 7 });
    }

    #[test]
    fn a_fault_excuses_only_the_router_and_the_side_that_it_touches() {
        let tally = tally();
        tally.begin(FaultKind::AnswerLost, &[0]);
        let now = Instant::now();
        assert_eq!(tally.lose(0, Side::Control, now, &Loss::Handshake), Some(FaultKind::AnswerLost));
        assert_eq!(tally.lose(0, Side::Web, now, &Loss::Handshake), None);
        assert_eq!(tally.lose(1, Side::Control, now, &Loss::Handshake), None);
        assert_eq!(tally.books().excused[&FaultKind::AnswerLost].failed_handshakes, 1);
    }

    #[test]
    fn a_fault_excuses_what_was_under_way_and_nothing_that_began_later() {
        let tally = tally();
        let fault = tally.begin(FaultKind::KillRouter, &[0]);
        let under_way = Instant::now();
        tally.end(fault, 0, Side::Web);
        assert_eq!(tally.lose(0, Side::Web, under_way, &Loss::Handshake), Some(FaultKind::KillRouter));
        let later = Instant::now() + Duration::from_millis(1);
        assert_eq!(tally.lose(0, Side::Web, later, &Loss::Handshake), None);
        // The control channel is not back yet.
        assert_eq!(tally.lose(0, Side::Control, later, &Loss::Handshake), Some(FaultKind::KillRouter));
    }

    #[test]
    fn a_full_disk_excuses_nothing() {
        let tally = tally();
        tally.begin(FaultKind::FolderFull, &[0, 1]);
        for side in [Side::Web, Side::Control] {
            assert_eq!(tally.lose(0, side, Instant::now(), &Loss::Handshake), None);
        }
    }
}
