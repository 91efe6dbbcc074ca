//! Known defects of the stock protocol, each as a question to the checker: can it come to this, and how, in the fewest steps?

use core::fmt;

use crate::paper::Paper;
use crate::scope::{Flow, Make, Scope};
use crate::state::{Body, Control, HandlerStage, Message, Router, State};
use crate::turn::Turn;

/// The step that makes a defect this one and no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// The router died with a promoted certificate in memory and not yet in its file.
    DiedBeforeWrite,
    /// The router died, or lost power, with its certificate file truncated or unsynced.
    DiedInWrite,
    /// A write failed after the truncation.
    WriteFailed,
    /// The router threw a promoted certificate away because no answer came.
    ForgotPromoted,
    /// A promotion was committed before the certificate was sent.
    SwappedBeforeAnswer,
    /// ... and the certificate never arrived.
    SwappedAnswerLost,
    /// A handler overwrote the admitted certificate with an older one.
    WroteOlder,
    /// A promotion from an older snapshot replaced a newer fingerprint.
    OlderPromotedOverNewer,
    /// A certificate from before a re-enrollment was promoted after it.
    PendingOutlivedReEnroll,
    /// The file could not be opened, and the handler went on.
    SetCertFailed,
    /// The certificate loop ended.
    LoopEnded,
    /// The verification of a transit router's own pending certificate was refused.
    TransitRefused,
}

const MARKS: [Mark; 12] = [
    Mark::DiedBeforeWrite,
    Mark::DiedInWrite,
    Mark::WriteFailed,
    Mark::ForgotPromoted,
    Mark::SwappedBeforeAnswer,
    Mark::SwappedAnswerLost,
    Mark::WroteOlder,
    Mark::OlderPromotedOverNewer,
    Mark::PendingOutlivedReEnroll,
    Mark::SetCertFailed,
    Mark::LoopEnded,
    Mark::TransitRefused,
];

/// A set of marks.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Marks(u16);

impl Marks {
    /// Exactly these?
    pub fn are(self, marks: &[Mark]) -> bool {
        self.0 == marks.iter().fold(0, |set, mark| set | 1 << *mark as u16)
    }
}

impl fmt::Debug for Marks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(MARKS.iter().filter(|mark| self.0 & 1 << **mark as u16 != 0)).finish()
    }
}

/// One defect.
#[derive(Clone, Copy, Debug)]
pub struct Defect {
    /// Its id among the upstream defects, with a letter where it has variants.
    pub id: &'static str,
    /// One line.
    pub title: &'static str,
    /// Where it is looked for: only the faults that belong to it.
    pub scope: Scope,
    /// What the checker looks for.
    pub is_it: fn(&Scope, &State) -> bool,
}

/// No fault at all: a calm stock router on a calm stock controller, two attempts.
const fn calm(name: &'static str) -> Scope {
    let mut scope = Scope::new(name, Make::Stock, Make::Stock);
    scope.router_crashes = 0;
    scope.power_cuts = false;
    scope.controller_crashes = 0;
    scope.loses = false;
    scope.doubles = false;
    scope.breaks = false;
    scope.times_out = false;
    scope.marks = true;
    scope
}

/// The certificate that the file holds is admitted by no node, although it is not over; nothing that is under way would mend it.
fn is_locked_out(scope: &Scope, state: &State) -> bool {
    let (Router::Stock(body), Control::Stock(cluster)) = (&state.router, &state.control) else { return false };
    let Some(paper) = body.file else { return false };
    let rests = body.process.as_ref().is_none_or(|process| process.handlers.is_empty());
    let nodes = usize::from(scope.nodes);
    let is_admitted = cluster.rows.iter().take(nodes).any(|row| row.admitted == Some(paper));
    let may_be = cluster.behind.iter().take(nodes).any(|behind| !behind.is_empty())
        || state.wire.iter().any(|message| message.body.is_job() || matches!(message.body, Body::Verify { .. }));
    rests && !is_admitted && !may_be && !paper.is_expired(scope, state.time)
}

/// What the fingerprint names.
fn admitted(state: &State) -> Option<Paper> {
    match &state.control {
        Control::Stock(cluster) => cluster.rows[0].admitted,
        Control::Exuvia(_) => None,
    }
}

fn file(state: &State) -> Option<Paper> {
    match &state.router {
        Router::Stock(body) => body.file,
        Router::Exuvia(_) => None,
    }
}

fn runs(state: &State) -> bool {
    matches!(&state.router, Router::Stock(body) if body.process.is_some())
}

/// Every defect that the checker must find.
pub const DEFECTS: &[Defect] = &[
    Defect {
        id: "A1",
        title: "the certificate is promoted before it is written",
        scope: Scope { router_crashes: 1, ..calm("A1") },
        is_it: |scope, state| state.marks.are(&[Mark::DiedBeforeWrite]) && runs(state) && is_locked_out(scope, state),
    },
    Defect {
        id: "A2",
        title: "the verify reply is lost: the router throws the only valid certificate away",
        scope: Scope { loses: true, times_out: true, ..calm("A2") },
        is_it: |scope, state| state.marks.are(&[Mark::ForgotPromoted]) && is_locked_out(scope, state),
    },
    Defect {
        id: "A4",
        title: "the unverified and the HTTP extension swap before they answer",
        scope: Scope { flow: Flow::SwapBeforeAnswer, loses: true, ..calm("A4") },
        is_it: |scope, state| {
            state.marks.are(&[Mark::SwappedBeforeAnswer, Mark::SwappedAnswerLost]) && is_locked_out(scope, state)
        },
    },
    Defect {
        id: "A6",
        title: "two answers are handled at once: file and fingerprint end up different",
        scope: calm("A6"),
        is_it: |scope, state| {
            state.marks.are(&[Mark::WroteOlder])
                && is_locked_out(scope, state)
                && file(state).map(|paper| paper.serial) < admitted(state).map(|paper| paper.serial)
        },
    },
    Defect {
        id: "A7a",
        title: "promotion is unconditional: an old verify overwrites a newer one",
        scope: calm("A7a"),
        is_it: |scope, state| {
            state.marks.are(&[Mark::OlderPromotedOverNewer])
                && is_locked_out(scope, state)
                && file(state).map(|paper| paper.serial) > admitted(state).map(|paper| paper.serial)
        },
    },
    Defect {
        id: "A7b",
        title: "a verify at a lagging node overwrites a newer promotion, and reports failure",
        scope: Scope { nodes: 2, days: &[61], ..calm("A7b") },
        is_it: |scope, state| {
            state.marks.are(&[Mark::OlderPromotedOverNewer, Mark::ForgotPromoted])
                && is_locked_out(scope, state)
                && file(state).map(|paper| paper.serial) > admitted(state).map(|paper| paper.serial)
        },
    },
    Defect {
        id: "A8",
        title: "a re-enrollment leaves the pending certificate promotable",
        scope: Scope { re_enrolls: true, attempts: 1, ..calm("A8") },
        is_it: |scope, state| {
            state.marks.are(&[Mark::PendingOutlivedReEnroll])
                && file(state).is_some_and(|paper| paper.epoch == 2)
                && is_locked_out(scope, state)
        },
    },
    Defect {
        id: "B1",
        title: "truncated, then written in place: a crash in between leaves no certificate at all",
        scope: Scope { router_crashes: 1, attempts: 1, ..calm("B1") },
        is_it: |_, state| state.marks.are(&[Mark::DiedInWrite]) && file(state).is_none() && !runs(state),
    },
    Defect {
        id: "B2",
        title: "a failed write is logged and ignored",
        scope: Scope { disk_failures: 1, attempts: 1, ..calm("B2") },
        is_it: |scope, state| state.marks.are(&[Mark::SetCertFailed]) && runs(state) && is_locked_out(scope, state),
    },
    Defect {
        id: "C1",
        title: "expiry ends the renewal loop for good",
        // The clock runs ahead once and is set right again; the leaf is good for months, and nothing renews it any more.
        scope: Scope { clock_jumps: 2, attempts: 1, ..calm("C1") },
        is_it: |scope, state| {
            state.marks.are(&[Mark::LoopEnded])
                && runs(state)
                && state.router_time == state.time
                && state.time >= 1
                && state.channels[0].is_some()
                && file(state).is_some_and(|paper| !paper.is_expired(scope, state.time))
        },
    },
    Defect {
        id: "D1",
        title: "a transit router can never finish a verified extension",
        scope: Scope { flow: Flow::Transit, attempts: 1, ..calm("D1") },
        is_it: |scope, state| {
            // No fault has happened: the leaf is over, and what was signed in time is refused.
            state.marks.are(&[Mark::TransitRefused])
                && state.wire.is_empty()
                && file(state).is_some_and(|paper| paper.is_expired(scope, state.time))
        },
    },
];

impl Turn<'_> {
    /// Only stock against stock takes note, so that the other pairings have no states that differ in history alone.
    pub(crate) fn mark(&mut self, mark: Mark) {
        if self.scope.router == Make::Stock && self.scope.controller == Make::Stock && self.scope.marks {
            self.state.marks.0 |= 1 << mark as u16;
        }
    }

    fn is_promoted(&self, paper: Paper) -> bool {
        match &self.state.control {
            Control::Stock(cluster) => {
                cluster.rows.iter().any(|row| row.admitted == Some(paper))
                    || cluster.behind.iter().flatten().any(|change| *change == crate::state::Change::Promote(paper))
            }
            Control::Exuvia(_) => false,
        }
    }

    pub(crate) fn mark_lost(&mut self, message: Message) {
        if let Body::Extended { paper } = message.body
            && self.scope.flow == Flow::SwapBeforeAnswer
            && self.is_promoted(paper)
        {
            self.mark(Mark::SwappedAnswerLost);
        }
    }

    pub(crate) fn mark_crash(&mut self, power: bool) {
        let Router::Stock(body) = &self.state.router else { return };
        let handlers = body.process.as_ref().map(|process| process.handlers.clone()).unwrap_or_default();
        if power || handlers.iter().any(|handler| handler.stage == HandlerStage::Truncated) {
            self.mark(Mark::DiedInWrite);
        }
        if handlers.iter().any(|handler| handler.stage != HandlerStage::Truncated && self.is_promoted(handler.paper)) {
            self.mark(Mark::DiedBeforeWrite);
        }
    }

    pub(crate) fn mark_forgotten(&mut self, paper: Paper) {
        if self.is_promoted(paper) {
            self.mark(Mark::ForgotPromoted);
        }
    }

    pub(crate) fn mark_written(&mut self, written: Paper, replaced: Paper) {
        if written.serial < replaced.serial && self.is_promoted(replaced) {
            self.mark(Mark::WroteOlder);
        }
    }
}
