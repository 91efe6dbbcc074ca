//! When which fault strikes, and in which phase it is aimed. Pure: a seed fixes all of it.
//!
//! Three rules hold for every seed: at least one fault every 3 s; every kind at least once a minute; at least half of them
//! aimed between the moment a 20302 is sent and the moment PROMOTE is durable.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::quickstart::dice::Dice;

/// What can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FaultKind {
    /// `kill -9` of a router.
    KillRouter,
    /// `kill -9` of the controller.
    KillController,
    /// What the controller answers is thrown away, and the connection reset afterwards.
    AnswerLost,
    /// What the controller answers arrives late.
    AnswerDelayed,
    /// The connection is reset in the middle of an answer.
    AnswerCut,
    /// The state folder may not be written.
    FolderUnwritable,
    /// The state folder has no room.
    FolderFull,
}

impl FaultKind {
    /// All of them.
    pub(crate) const ALL: [Self; 7] = [
        Self::KillRouter,
        Self::KillController,
        Self::AnswerLost,
        Self::AnswerDelayed,
        Self::AnswerCut,
        Self::FolderUnwritable,
        Self::FolderFull,
    ];

    /// As the summary spells it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::KillRouter => "kill_router",
            Self::KillController => "kill_controller",
            Self::AnswerLost => "answer_lost",
            Self::AnswerDelayed => "answer_delayed",
            Self::AnswerCut => "answer_cut",
            Self::FolderUnwritable => "folder_unwritable",
            Self::FolderFull => "folder_full",
        }
    }

    /// Does it touch the path between a router and the controller?
    pub(crate) const fn is_on_path(self) -> bool {
        matches!(self, Self::AnswerLost | Self::AnswerDelayed | Self::AnswerCut)
    }

    /// Phases in which this kind does the most harm.
    fn aims(self) -> &'static [Aim] {
        match self {
            Self::KillRouter => &[Aim::Requested, Aim::Staged, Aim::Proving],
            Self::KillController | Self::AnswerLost | Self::AnswerDelayed | Self::AnswerCut => {
                &[Aim::Requested, Aim::Proving]
            }
            Self::FolderUnwritable | Self::FolderFull => &[Aim::Requested, Aim::Staged, Aim::Proving],
        }
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// In which phase of a router a fault is to strike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Aim {
    /// Whatever the phase is.
    Anytime,
    /// A 20302 is out.
    Requested,
    /// The next generation is durable and no 20303 has left.
    Staged,
    /// A 20303 is out.
    Proving,
}

impl Aim {
    /// Between the moment a 20302 is sent and the moment PROMOTE is durable?
    pub(crate) fn is_inside_renewal(self) -> bool {
        self != Self::Anytime
    }

    /// Is this the phase that was meant?
    pub(crate) fn matches(self, phase: &str) -> bool {
        match self {
            Self::Anytime => true,
            Self::Requested => phase == "Requested",
            Self::Staged => phase == "Staged",
            Self::Proving => phase == "Proving",
        }
    }
}

/// One fault to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    /// When, counted from the first moment of the plan. Strikes no earlier than [`LEAD`] before it, no later than [`SLACK`] after it.
    pub(crate) at: Duration,
    /// What.
    pub(crate) kind: FaultKind,
    /// Whom, if that router can bear it: the engine takes this modulo the routers that can.
    pub(crate) whom: usize,
    /// In which phase.
    pub(crate) aim: Aim,
    /// How long it lasts, unless the router has less than three times as much left.
    pub(crate) lasts: Duration,
    /// A number for whatever else is left to chance.
    pub(crate) salt: u64,
}

const GAP_MIN: Duration = Duration::from_millis(1_500);
const GAP_MAX: Duration = Duration::from_millis(2_100);
/// How long before its time a fault may strike: whoever it is aimed at is asked to renew then.
pub(crate) const LEAD: Duration = Duration::from_millis(200);
/// How much later than planned a fault may strike while it waits for its phase.
pub(crate) const SLACK: Duration = Duration::from_millis(650);
/// One of so many faults strikes whatever the phase is.
const ANYTIME_EVERY: usize = 6;

/// Faults without end.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    dice: Dice,
    kinds: Vec<FaultKind>,
    bag: Vec<FaultKind>,
    at: Duration,
    count: usize,
}

impl Plan {
    /// The plan of this seed with the kinds that this machine allows.
    pub(crate) fn new(seed: u64, kinds: &[FaultKind]) -> Self {
        Self { dice: Dice::new(seed), kinds: kinds.to_vec(), bag: Vec::new(), at: Duration::ZERO, count: 0 }
    }
}

impl Iterator for Plan {
    type Item = Slot;

    fn next(&mut self) -> Option<Slot> {
        if self.bag.is_empty() {
            self.bag.clone_from(&self.kinds);
            self.dice.shuffle(&mut self.bag);
        }
        let kind = self.bag.pop()?;
        self.at += self.dice.between(GAP_MIN, GAP_MAX);
        self.count += 1;
        let aim = if self.count.is_multiple_of(ANYTIME_EVERY) {
            Aim::Anytime
        } else {
            let aims = kind.aims();
            aims.get(self.dice.below(aims.len())).copied().unwrap_or(Aim::Anytime)
        };
        let ms = Duration::from_millis;
        let lasts = match kind {
            // How long until the process is started again.
            FaultKind::KillRouter | FaultKind::KillController => self.dice.between(ms(0), ms(400)),
            FaultKind::AnswerLost => self.dice.between(ms(300), ms(1_500)),
            FaultKind::AnswerDelayed => self.dice.between(ms(200), ms(1_200)),
            FaultKind::AnswerCut => Duration::ZERO,
            FaultKind::FolderUnwritable | FaultKind::FolderFull => self.dice.between(ms(300), ms(2_500)),
        };
        Some(Slot { at: self.at, kind, whom: self.dice.below(usize::MAX), aim, lasts, salt: self.dice.roll() })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn ten_minutes(seed: u64, kinds: &[FaultKind]) -> Vec<Slot> {
        Plan::new(seed, kinds).take_while(|slot| slot.at < Duration::from_secs(600)).collect()
    }

    #[test]
    fn a_fault_strikes_at_least_every_three_seconds() {
        for seed in 0..1_000 {
            let mut before = Duration::ZERO;
            for slot in ten_minutes(seed, &FaultKind::ALL) {
                // The one before may have struck as early as it may, this one as late.
                assert!(slot.at + SLACK + LEAD - before <= Duration::from_secs(3), "seed {seed}: {slot:?}");
                before = slot.at;
            }
        }
    }

    #[test]
    fn every_kind_strikes_at_least_once_a_minute() {
        for seed in 0..1_000 {
            let mut last: BTreeMap<FaultKind, Duration> =
                FaultKind::ALL.into_iter().map(|kind| (kind, Duration::ZERO)).collect();
            for slot in ten_minutes(seed, &FaultKind::ALL) {
                let before = last.insert(slot.kind, slot.at).unwrap();
                assert!(slot.at + SLACK + LEAD - before <= Duration::from_secs(60), "seed {seed}: {slot:?}");
            }
            assert!(last.values().all(|at| *at > Duration::from_secs(540)), "seed {seed}: {last:?}");
        }
    }

    #[test]
    fn at_least_half_are_aimed_inside_a_renewal() {
        for seed in 0..1_000 {
            let slots = ten_minutes(seed, &FaultKind::ALL);
            for some in slots.windows(12) {
                let inside = some.iter().filter(|slot| slot.aim.is_inside_renewal()).count();
                assert!(inside * 2 > some.len(), "seed {seed}: {some:?}");
            }
        }
    }

    #[test]
    fn the_same_seed_makes_the_same_plan_and_another_one_another() {
        assert_eq!(ten_minutes(7, &FaultKind::ALL), ten_minutes(7, &FaultKind::ALL));
        assert_ne!(ten_minutes(7, &FaultKind::ALL), ten_minutes(8, &FaultKind::ALL));
    }

    #[test]
    fn kinds_that_the_machine_does_not_allow_never_strike() {
        let allowed = [FaultKind::KillRouter, FaultKind::AnswerCut];
        assert!(ten_minutes(3, &allowed).iter().all(|slot| allowed.contains(&slot.kind)));
        assert_eq!(Plan::new(3, &[]).next(), None);
    }
}
