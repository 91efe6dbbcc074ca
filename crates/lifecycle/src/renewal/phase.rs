//! Where the newest attempt stands. Only the fields that a phase needs exist in it.

use core::fmt;
use core::time::Duration;

use crate::facts::{ControllerId, GenerationNumber, Now, Uptime};

/// Where a router stands between two generations. Older candidates live in the manifest, beside the phase.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Nothing to do until `live` is due.
    Steady {
        /// The generation that is served.
        live: GenerationNumber,
    },
    /// Keys and space of the next generation are durable; nothing was asked yet, or the answer did not come.
    Prepared {
        /// The generation that is served.
        live: GenerationNumber,
        /// The attempt.
        attempt: Attempt,
    },
    /// A 20302 is out.
    Requested {
        /// The generation that is served.
        live: GenerationNumber,
        /// The attempt.
        attempt: Attempt,
        /// Whom we asked.
        controller: ControllerId,
        /// When to stop waiting.
        deadline: Uptime,
    },
    /// The next generation is durable; no 20303 for it has left.
    Staged {
        /// The generation that is served.
        live: GenerationNumber,
        /// The generation to be proven.
        next: GenerationNumber,
    },
    /// A 20303 may have left: a stock controller may already admit only `next`.
    Proving {
        /// The generation that is served.
        live: GenerationNumber,
        /// The generation to be proven.
        next: GenerationNumber,
        /// How far the proof is.
        proof: Proof,
    },
    /// `live` was admitted; `previous` stays a candidate while it drains.
    Promoted {
        /// The generation that is served.
        live: GenerationNumber,
        /// The one before.
        previous: GenerationNumber,
        /// When to call it steady.
        drained_at: Uptime,
    },
    /// Every leaf is past its NotAfter by our clock. We go on dialing: a controller's clock decides, not ours.
    Lapsed {
        /// The newest generation there was.
        last: GenerationNumber,
    },
}

/// An attempt whose keys are durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Attempt {
    /// The generation that it makes.
    pub number: GenerationNumber,
    /// No 20302 leaves before this.
    pub not_before: Uptime,
    /// How often it was asked for without an answer.
    pub unanswered: u32,
}

/// How far the proof of a staged generation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Proof {
    /// When to stop repeating 20303 and start anew.
    pub until: Uptime,
    /// When to do the next thing, unless something is under way.
    pub next_try: Uptime,
    /// How often it was tried.
    pub tries: u32,
    /// What is under way.
    pub pending: Pending,
    /// Was the last 20303 answered with anything but success?
    pub was_error: bool,
    /// How often that was followed by a refusal of the leaf itself, since a controller last said yes.
    pub denials: u32,
}

/// What a proof waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pending {
    /// Nothing: the next try is due at `next_try`.
    Nothing,
    /// An answer to 20303, until this instant.
    Answer(Uptime),
    /// A further underlay, or a replaced channel, until this instant.
    Handshake(Uptime),
}

impl Proof {
    pub(crate) fn new(now: Now, window: Duration) -> Self {
        Self {
            until: now.uptime.plus(window),
            next_try: now.uptime,
            tries: 0,
            pending: Pending::Nothing,
            was_error: false,
            denials: 0,
        }
    }
}

/// Public label of a [`Phase`]. The table in `tests/renewal_table.txt` is the only list of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PhaseName {
    /// [`Phase::Steady`]
    Steady,
    /// [`Phase::Prepared`]
    Prepared,
    /// [`Phase::Requested`]
    Requested,
    /// [`Phase::Staged`]
    Staged,
    /// [`Phase::Proving`]
    Proving,
    /// [`Phase::Promoted`]
    Promoted,
    /// [`Phase::Lapsed`]
    Lapsed,
}

impl PhaseName {
    /// Every phase, in the order of a renewal.
    pub const ALL: [Self; 7] =
        [Self::Steady, Self::Prepared, Self::Requested, Self::Staged, Self::Proving, Self::Promoted, Self::Lapsed];

    /// The label as text.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Steady => "Steady",
            Self::Prepared => "Prepared",
            Self::Requested => "Requested",
            Self::Staged => "Staged",
            Self::Proving => "Proving",
            Self::Promoted => "Promoted",
            Self::Lapsed => "Lapsed",
        }
    }
}

impl fmt::Display for PhaseName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Phase {
    /// Its label.
    pub fn name(&self) -> PhaseName {
        match self {
            Self::Steady { .. } => PhaseName::Steady,
            Self::Prepared { .. } => PhaseName::Prepared,
            Self::Requested { .. } => PhaseName::Requested,
            Self::Staged { .. } => PhaseName::Staged,
            Self::Proving { .. } => PhaseName::Proving,
            Self::Promoted { .. } => PhaseName::Promoted,
            Self::Lapsed { .. } => PhaseName::Lapsed,
        }
    }

    /// The generation that is served.
    pub fn live(&self) -> GenerationNumber {
        match self {
            Self::Steady { live }
            | Self::Prepared { live, .. }
            | Self::Requested { live, .. }
            | Self::Staged { live, .. }
            | Self::Proving { live, .. }
            | Self::Promoted { live, .. }
            | Self::Lapsed { last: live } => *live,
        }
    }

    /// The generation that waits for its proof.
    pub fn next(&self) -> Option<GenerationNumber> {
        match self {
            Self::Staged { next, .. } | Self::Proving { next, .. } => Some(*next),
            Self::Steady { .. }
            | Self::Prepared { .. }
            | Self::Requested { .. }
            | Self::Promoted { .. }
            | Self::Lapsed { .. } => None,
        }
    }

    /// The generation whose keys are durable and whose leaves are awaited.
    pub fn attempt(&self) -> Option<GenerationNumber> {
        match self {
            Self::Prepared { attempt, .. } | Self::Requested { attempt, .. } => Some(attempt.number),
            Self::Steady { .. }
            | Self::Staged { .. }
            | Self::Proving { .. }
            | Self::Promoted { .. }
            | Self::Lapsed { .. } => None,
        }
    }

    pub(crate) fn set_live(&mut self, number: GenerationNumber) {
        match self {
            Self::Steady { live }
            | Self::Prepared { live, .. }
            | Self::Requested { live, .. }
            | Self::Staged { live, .. }
            | Self::Proving { live, .. }
            | Self::Promoted { live, .. }
            | Self::Lapsed { last: live } => *live = number,
        }
    }
}
