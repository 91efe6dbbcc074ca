//! What `killed` and `errno` share: a strict controller, chains of renewals, many hands, and a tally.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use evidence::{Evidence, Plan};
use rig::{Controller, ControllerSettings, Exuvia, Router, RouterSettings};

/// Processes at work at the same time: on two cores, most of the time each waits for the other side.
pub(crate) const HANDS: usize = 5;
/// Failures of a scenario that are told one by one; the rest is counted.
const TOLD: u64 = 4;

/// A controller that forgets the old leaf as soon as a newer one was used. With the usual overlap of an hour any router would survive that
/// merely keeps its old files.
pub(crate) struct Stage {
    pub(crate) controller: Controller,
    pub(crate) scratch: PathBuf,
    routers: AtomicU64,
    /// Renewals before a router counts as one with a past.
    past: usize,
}

impl Stage {
    pub(crate) fn open(plan: &Plan, name: &str, share: Share) -> Result<Self> {
        let scratch = plan.scratch.join(name);
        fs::create_dir_all(&scratch)?;
        let settings = ControllerSettings { settings: "  overlap: 0s\n".to_owned(), ..ControllerSettings::default() };
        let exuvia = Exuvia::new(&plan.exuvia).obeying_modes();
        let controller = Controller::start(&exuvia, &scratch.join("home"), settings).context("no controller")?;
        Ok(Self { controller, scratch, routers: AtomicU64::new(0), past: if share.is_whole() { 9 } else { 2 } })
    }

    /// A router of its own, with a token and no identity.
    pub(crate) fn created(&self, settings: &RouterSettings) -> Result<Router> {
        let number = self.routers.fetch_add(1, Ordering::Relaxed);
        let name = format!("r{number}");
        self.controller.created(&name, &self.scratch.join(&name), settings)
    }

    /// A router that was renewed so often that its store is as full as it gets, so that every renewal erases something (but for a sample).
    pub(crate) fn seasoned(&self, settings: &RouterSettings) -> Result<Router> {
        self.renewed(settings, self.past)
    }

    /// A router that was renewed so often.
    pub(crate) fn renewed(&self, settings: &RouterSettings, times: usize) -> Result<Router> {
        let router = self.created(settings)?;
        router.enroll()?.ok()?;
        let running = router.online()?;
        for _ in 0..times {
            running.renew()?;
        }
        running.stop()?;
        Ok(router)
    }
}

/// What came of cases, by scenario.
#[derive(Default)]
pub(crate) struct Tally(Mutex<Counts>);

#[derive(Default)]
struct Counts {
    by_scenario: BTreeMap<&'static str, Count>,
    failures: Vec<String>,
    more: u64,
    judged: Duration,
    judgements: u64,
}

#[derive(Default)]
struct Count {
    done: u64,
    broken: u64,
    missed: u64,
}

/// How one case ended.
pub(crate) enum Outcome {
    /// The fault struck, and nothing broke.
    Held,
    /// There was no such call this time.
    Missed,
    /// It broke.
    Broke(String),
}

impl Tally {
    fn lock(&self) -> std::sync::MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn note(&self, scenario: &'static str, case: &str, outcome: Outcome) {
        let mut counts = self.lock();
        let count = counts.by_scenario.entry(scenario).or_default();
        match outcome {
            Outcome::Held => count.done += 1,
            Outcome::Missed => count.missed += 1,
            Outcome::Broke(why) => {
                count.done += 1;
                count.broken += 1;
                if count.broken <= TOLD {
                    counts.failures.push(format!("{scenario}, {case}: {why}"));
                } else {
                    counts.more += 1;
                }
            }
        }
    }

    pub(crate) fn judged(&self, took: Duration) {
        let mut counts = self.lock();
        counts.judged += took;
        counts.judgements += 1;
    }

    /// All cases and the broken ones.
    pub(crate) fn sum(&self) -> (u64, u64) {
        let counts = self.lock();
        counts.by_scenario.values().fold((0, 0), |(done, broken), count| (done + count.done, broken + count.broken))
    }

    /// Writes counts and failures. `what` is what was done, as in `kills`.
    pub(crate) fn tell(&self, evidence: &mut Evidence, what: &str, replay: &str) {
        let counts = self.lock();
        for (scenario, count) in &counts.by_scenario {
            evidence.tried(format!("{what} ({scenario})"), count.done);
            if count.done == 0 {
                evidence.failed(format!("{scenario}: no fault struck, so nothing was shown"), replay);
            }
        }
        for failure in &counts.failures {
            evidence.failed(failure.clone(), replay);
        }
        if counts.more > 0 {
            evidence.failed(format!("{} more like these", counts.more), replay);
        }
        if counts.judgements > 0 {
            let each_ms = counts.judged.as_millis() / u128::from(counts.judgements);
            evidence.notes.push(format!(
                "After each of them the real router was started on what was left: {} starts, {each_ms} ms each from start to verdict on average.",
                counts.judgements
            ));
        }
    }
}

/// How much of the planned cases is run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Share {
    /// At most so many.
    pub(crate) cases: usize,
    /// At most so long.
    pub(crate) most: Duration,
}

impl Share {
    /// All of them, in CI for at most so many seconds.
    pub(crate) fn whole(plan: &Plan, most_s: u64) -> Self {
        Self { cases: usize::MAX, most: Duration::from_secs(if plan.is_long { 7_200 } else { most_s }) }
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.cases == usize::MAX
    }
}

/// Cases for many hands, and how long they may take.
pub(crate) struct Work<C> {
    cases: Mutex<VecDeque<C>>,
    deadline: Instant,
}

impl<C: Send> Work<C> {
    pub(crate) fn new(cases: Vec<C>, at_most: Duration) -> Self {
        Self { cases: Mutex::new(cases.into()), deadline: Instant::now() + at_most }
    }

    /// The next case, until there is none or the time is over.
    pub(crate) fn next(&self) -> Option<C> {
        if Instant::now() >= self.deadline {
            return None;
        }
        self.cases.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    /// How many were not taken.
    pub(crate) fn left(&self) -> usize {
        self.cases.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

/// Numbers in an order that the seed alone decides (splitmix64).
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `end`, which is not 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.roll() % (end.max(1) as u64)).unwrap_or_default()
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

/// A copy of a folder with modes and times.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<()> {
    let status = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status()?;
    anyhow::ensure!(status.success(), "cannot copy `{}`", from.display());
    Ok(())
}
