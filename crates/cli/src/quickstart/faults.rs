//! Faults, while the load runs: what strikes whom, in which phase, and how it is mended.
//!
//! The plan ([`plan`]) says what is to strike when and in which phase. Whoever is to be struck is asked to renew a moment before, and the
//! strike waits for the event of the phase, from whichever router it comes first. [`strike`] does the deed.

pub(crate) mod plan;
pub(crate) mod storage;
mod strike;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use net::stop::StopSignal;
use router::events::EventKind;
use tokio::sync::broadcast;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use self::plan::{Aim, FaultKind, LEAD, Plan, SLACK, Slot};
use super::load::Probe;
use super::processes::Process;
use super::proxy::Path;
use super::screen::Screen;
use super::tally::Tally;
use super::watch::lockout::Lockout;
use super::watch::{Heard, Watched};

/// How long a killed process is expected to take until it is back, unless one took longer.
pub(crate) const RESTART: Duration = Duration::from_millis(700);
/// The shortest other fault that is worth its name.
const SHORTEST: Duration = Duration::from_millis(100);

/// One router, as faults see it.
#[derive(Debug)]
pub(crate) struct Unit {
    pub(crate) index: usize,
    pub(crate) name: String,
    pub(crate) process: Process,
    pub(crate) watched: Arc<Watched>,
    pub(crate) state: PathBuf,
    pub(crate) probe: Probe,
    /// Is a fault of its own being mended?
    pub(crate) is_busy: AtomicBool,
}

/// Everything that faults touch.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) units: Vec<Arc<Unit>>,
    pub(crate) controller: Process,
    pub(crate) controller_probe: Probe,
    /// Is the controller being killed or started?
    pub(crate) controller_is_busy: AtomicBool,
    /// The longest that a killed process took until it was back, in milliseconds.
    pub(crate) restart_ms: AtomicU64,
    pub(crate) paths: Arc<[Path]>,
    pub(crate) tally: Arc<Tally>,
    pub(crate) lockout: Arc<Lockout>,
    pub(crate) lines: broadcast::Sender<Heard>,
    pub(crate) screen: Arc<Screen>,
}

/// Which kinds this machine allows, and why not the others.
pub(crate) fn allowed(field: &Field, home: &std::path::Path) -> (Vec<FaultKind>, BTreeMap<FaultKind, String>) {
    let mut skipped = BTreeMap::new();
    if let Err(error) = storage::try_modes(home) {
        skipped.insert(FaultKind::FolderUnwritable, format!("folders cannot be made unwritable here: {error}"));
    }
    let limits = match field.units.first().and_then(|unit| unit.process.pid()) {
        Some(pid) => storage::try_limits(pid),
        None => Err(std::io::Error::other("no router runs")),
    };
    if let Err(error) = limits {
        skipped.insert(FaultKind::FolderFull, format!("files of other processes cannot be limited here: {error}"));
    }
    (FaultKind::ALL.into_iter().filter(|kind| !skipped.contains_key(kind)).collect(), skipped)
}

/// Lets faults strike until told to stop, and returns when everything is mended.
pub(crate) async fn run(field: Arc<Field>, plan: Plan, mut stop: StopSignal) {
    let start = Instant::now();
    let mut mending = JoinSet::new();
    for slot in plan {
        tokio::select! {
            () = sleep_until((start + slot.at).checked_sub(LEAD).unwrap_or(start)) => {}
            () = stop.stopped() => break,
        }
        let latest = start + slot.at + SLACK;
        tokio::select! {
            () = field.next(slot, start + slot.at, latest, &mut mending) => {}
            () = stop.stopped() => break,
        }
        while mending.try_join_next().is_some() {}
    }
    while mending.join_next().await.is_some() {}
}

impl Field {
    /// One slot: whom, when exactly, and the strike.
    async fn next(self: &Arc<Self>, slot: Slot, on_time: Instant, latest: Instant, mending: &mut JoinSet<()>) {
        let mut heard = self.lines.subscribe();
        let mut able = self.able(slot.kind);
        if able.is_empty() {
            // Nobody can bear it now; a short fault elsewhere keeps the cadence, and this kind comes again.
            sleep_until(on_time).await;
            able = self.able(slot.kind);
        }
        let first = slot.whom.checked_rem(able.len()).unwrap_or(0);
        able.rotate_left(first);
        let mut target = able.first().cloned();
        if slot.aim.is_inside_renewal() {
            for unit in &able {
                let asked = timeout(Duration::from_millis(200), unit.watched.renew()).await;
                if asked == Ok(true) {
                    break;
                }
            }
            // A path has to wait for something to strike after it was armed.
            let latest = if slot.kind.is_on_path() { on_time } else { latest };
            target = self.wait_for_phase(&mut heard, slot, latest).await.or(target);
        } else {
            sleep_until(on_time).await;
        }
        let (kind, unit) = match target {
            Some(unit) => (slot.kind, unit),
            None => match self.able(FaultKind::AnswerDelayed).first() {
                Some(unit) => (FaultKind::AnswerDelayed, unit.clone()),
                None => return,
            },
        };
        let field = self.clone();
        let claimed = match kind {
            FaultKind::KillController => &self.controller_is_busy,
            _ => &unit.is_busy,
        };
        if claimed.swap(true, Ordering::Relaxed) {
            return;
        }
        mending.spawn(strike::strike(field, unit, Slot { kind, ..slot }));
        // The next slot must see what this one has claimed.
        tokio::task::yield_now().await;
    }

    /// The first router that can bear it and reaches the phase; at the latest moment, one that is in the midst of a renewal.
    async fn wait_for_phase(
        &self,
        heard: &mut broadcast::Receiver<Heard>,
        slot: Slot,
        latest: Instant,
    ) -> Option<Arc<Unit>> {
        loop {
            match timeout_at(latest, heard.recv()).await {
                Ok(Ok(Heard { index, line })) => {
                    let is_it = match line.what {
                        EventKind::Requested { .. } => slot.aim == Aim::Requested,
                        // The next line but one says that 20303 has left: there is no time to wait for it.
                        EventKind::BarrierDone { ref what, is_durable: true, .. } => {
                            slot.aim == Aim::Staged && what == "stage"
                        }
                        EventKind::Proving { .. } => slot.aim == Aim::Proving,
                        _ => false,
                    };
                    if is_it && let Some(unit) = self.able(slot.kind).into_iter().find(|unit| unit.index == index) {
                        return Some(unit);
                    }
                }
                Ok(Err(broadcast::error::RecvError::Lagged(_))) => {}
                Ok(Err(broadcast::error::RecvError::Closed)) | Err(_) => break,
            }
        }
        let inside = [Aim::Proving, Aim::Staged, Aim::Requested];
        self.able(slot.kind).into_iter().find(|unit| {
            let phase = unit.watched.now().phase;
            inside.iter().any(|aim| aim.matches(&phase))
        })
    }

    /// Routers that can bear a fault of this kind now, the most robust first.
    fn able(&self, kind: FaultKind) -> Vec<Arc<Unit>> {
        let needs = match kind {
            FaultKind::KillRouter | FaultKind::KillController => {
                Duration::from_millis(self.restart_ms.load(Ordering::Relaxed))
            }
            _ => SHORTEST,
        };
        if kind == FaultKind::KillController && self.controller_is_busy.load(Ordering::Relaxed) {
            return Vec::new();
        }
        let mut able: Vec<(Duration, Arc<Unit>)> = self
            .units
            .iter()
            .filter(|unit| !unit.is_busy.load(Ordering::Relaxed) && unit.process.pid().is_some())
            .map(|unit| (self.share(unit.index), unit.clone()))
            .filter(|(share, _)| *share >= needs)
            .collect();
        if kind == FaultKind::KillController && self.shortest_share() < needs {
            return Vec::new();
        }
        // Who is connected first: a router that is still coming back is not struck again if another can be.
        able.sort_by_key(|(share, unit)| (!unit.watched.now().is_connected, std::cmp::Reverse(*share)));
        let connected = able.iter().filter(|(_, unit)| unit.watched.now().is_connected).count();
        if connected > 0 {
            able.truncate(connected);
        }
        able.into_iter().map(|(_, unit)| unit).collect()
    }

    /// A third of the seconds left to this router: the longest that a fault may last.
    fn share(&self, index: usize) -> Duration {
        let left = self.tally.books().routers.get(index).and_then(|router| router.left).unwrap_or_default();
        left / 3
    }

    fn shortest_share(&self) -> Duration {
        self.units.iter().map(|unit| self.share(unit.index)).min().unwrap_or_default()
    }
}
