//! What must hold, in every state or at every step.

use core::fmt;

use lifecycle::issuance::{Answer, Input, Record};

use crate::paper::Paper;
use crate::scope::{Make, Scope};
use crate::state::{Control, Disk, Router, State};

/// A promise that the exploration checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Claim {
    /// P1, in every state.
    NeverWithout,
    /// P2 on the router: no leaf is shown and no 20303 sent for what a power cut would lose.
    RouterDurableFirst,
    /// P2 on the controller: no answer says what a crash would make untrue.
    ControllerDurableFirst,
    /// P4: published and called promoted is only what was admitted to this process.
    AdmittedBeforePromoted,
    /// P8: what was issued before a revocation or a new enrollment is neither admitted nor renewed after it.
    EpochHolds,
    /// Only a leaf past its end is retired, and only after a later one was admitted.
    RetiredAfterItsEnd,
}

/// Every claim, with the name that the checker knows it by.
pub const CLAIMS: [Claim; 6] = [
    Claim::NeverWithout,
    Claim::RouterDurableFirst,
    Claim::ControllerDurableFirst,
    Claim::AdmittedBeforePromoted,
    Claim::EpochHolds,
    Claim::RetiredAfterItsEnd,
];

impl Claim {
    /// One line for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NeverWithout => "P1 a durable generation is admitted",
            Self::RouterDurableFirst => "P2 nothing is shown before it is durable",
            Self::ControllerDurableFirst => "P2 nothing is answered before it is durable",
            Self::AdmittedBeforePromoted => "P4 only what was admitted is promoted",
            Self::EpochHolds => "P8 what was withdrawn stays withdrawn",
            Self::RetiredAfterItsEnd => "nothing is retired before its end",
        }
    }
}

/// A set of claims.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Claims(u8);

impl Claims {
    /// Adds one.
    pub fn add(&mut self, claim: Claim) {
        self.0 |= 1 << claim as u8;
    }

    /// Is it in?
    pub fn has(self, claim: Claim) -> bool {
        self.0 & (1 << claim as u8) != 0
    }
}

impl fmt::Debug for Claims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(CLAIMS.iter().filter(|claim| self.has(**claim))).finish()
    }
}

impl State {
    /// Does this claim hold here?
    pub fn holds(&self, scope: &Scope, claim: Claim) -> bool {
        !self.broken.has(claim) && (claim != Claim::NeverWithout || self.is_never_without(scope))
    }

    /// P1. For our router: of what a start would find now, and of what it would find after a power cut, some generation is admitted by some
    /// controller, as it runs and as it would restart; unless an operator withdrew the identity, or every leaf on the disk is past NotAfter by the
    /// controllers' clocks. For a stock router: as long as its certificate file holds whole what was last written to it.
    fn is_never_without(&self, scope: &Scope) -> bool {
        if self.operator.has_withdrawn {
            return true;
        }
        match &self.router {
            Router::Exuvia(body) => {
                self.is_safe(scope, &generations(&body.disk))
                    && body.medium.as_ref().is_none_or(|medium| self.is_safe(scope, &generations(medium)))
            }
            Router::Stock(body) => body.has_lost_write || body.file.is_none_or(|paper| self.is_safe(scope, &[paper])),
        }
    }

    /// Has a stock router lost its identity by its own file writes: truncated and not written, or undone by a power cut?
    pub fn is_lost_by_its_writes(&self, scope: &Scope) -> bool {
        match &self.router {
            Router::Exuvia(_) => false,
            Router::Stock(body) => match body.file {
                None => true,
                Some(paper) => body.has_lost_write && !self.is_safe(scope, &[paper]),
            },
        }
    }

    /// Does some controller admit some of these, or is every one over?
    pub fn is_safe(&self, scope: &Scope, papers: &[Paper]) -> bool {
        let nodes = || (0..scope.nodes).map(|node| (node, scope.clock_of(node, self.time)));
        let are_over = nodes().all(|(_, at)| papers.iter().all(|paper| paper.is_expired(scope, at)));
        if are_over {
            return true;
        }
        match &self.control {
            Control::Exuvia(desk) => [Some(&desk.durable), desk.tip.as_deref()]
                .into_iter()
                .flatten()
                .all(|record| nodes().any(|(_, at)| papers.iter().any(|paper| is_admitted(scope, record, *paper, at)))),
            Control::Stock(cluster) => {
                let mut rows = nodes().filter_map(|(node, at)| Some((cluster.rows.get(usize::from(node))?, at)));
                let is_admitted = |(row, at): (&crate::state::Row, u8)| match row.admitted {
                    // One fingerprint, and its leaf is over: no protocol of the router's can help.
                    Some(admitted) => papers.contains(&admitted) || admitted.is_expired(scope, at),
                    None => false,
                };
                let beyond = cluster.restored.is_some_and(|signed| {
                    let unexpired = papers.iter().filter(|paper| nodes().any(|(_, at)| !paper.is_expired(scope, at)));
                    scope.router == Make::Exuvia && unexpired.into_iter().all(|paper| paper.serial > signed)
                });
                rows.any(is_admitted) || beyond
            }
        }
    }
}

/// The leaves that a start would try.
pub(crate) fn generations(disk: &Disk) -> Vec<Paper> {
    let candidates = disk.manifest.candidates.iter();
    candidates
        .filter_map(|candidate| {
            disk.whole.iter().find(|(number, _)| u64::from(*number) == candidate.number.0).map(|(_, paper)| *paper)
        })
        .collect()
}

/// Would a hello with this leaf be admitted?
pub(crate) fn is_admitted(scope: &Scope, record: &Record, paper: Paper, at: u8) -> bool {
    let policy = scope.issuance();
    let now = scope.now(at, at);
    let leaf = paper.leaf(scope);
    if record.check_link(now, &policy, leaf.fingerprint).is_ok() {
        return true;
    }
    record.restored_from.is_some() && {
        let (_, held) = record.step(now, &policy, Input::hello(leaf)).split();
        matches!(held.release(lifecycle::Durable::after_commit()), Answer::Admit(_))
    }
}
