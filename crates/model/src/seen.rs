//! What an exploration came across: proof that it explored anything.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! sights {
    ($($(#[doc = $doc:literal])* $name:ident => $text:literal),* $(,)?) => {
        /// Something that must happen in an exploration that is not vacuous. Counted in steps, not in states.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Sight {
            $($(#[doc = $doc])* $name,)*
        }

        impl Sight {
            /// Every sight.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// What happened, in the plural.
            pub const fn words(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

sights! {
    /// A renewal was completed.
    Renewed => "renewals completed",
    /// An attempt of our router began.
    AttemptBegan => "attempts begun",
    /// Leaves were issued while an earlier attempt's were unproven.
    Overlapped => "answers to an attempt while another one was under way",
    /// The router died.
    RouterDied => "deaths of the router",
    /// Its machine lost power with something unsynced.
    PowerCut => "power cuts that undid something",
    /// A controller died.
    ControllerDied => "deaths of a controller",
    /// A controller died between its commit and its answer.
    DiedBeforeAnswer => "deaths between commit and answer",
    /// A message was lost.
    Lost => "messages lost",
    /// A message arrived twice.
    Doubled => "messages doubled",
    /// A 20303 arrived from a process that is gone.
    LateVerify => "20303 from a process that was gone",
    /// A clock moved.
    ClockMoved => "steps of the clock",
    /// A barrier failed.
    BarrierFailed => "barriers failed",
    /// A generation was retired.
    Retired => "retirements",
    /// A controller admitted an older generation than the live one.
    OlderAdmitted => "older generations admitted",
    /// Every leaf was over.
    Lapsed => "lapses",
    /// The operator revoked.
    Revoked => "revocations",
    /// The operator enrolled anew.
    Enrolled => "new enrollments",
    /// A copy was put in place.
    Restored => "restores",
    /// A leaf that a restored register did not know was admitted.
    Readmitted => "leaves from after the copy readmitted",
    /// A request or a confirmation of an earlier epoch was refused.
    StaleRefused => "requests of a withdrawn identity refused",
    /// A node answered from an older state than another one had.
    Lagged => "answers of a lagging node",
}

/// How often each was seen, and how many states were expanded.
#[derive(Debug)]
pub struct Seen {
    sights: Vec<AtomicU64>,
    states: AtomicU64,
    unusable: AtomicU64,
    torn: AtomicU64,
}

impl Default for Seen {
    fn default() -> Self {
        Self {
            sights: Sight::ALL.iter().map(|_| AtomicU64::new(0)).collect(),
            states: AtomicU64::new(0),
            unusable: AtomicU64::new(0),
            torn: AtomicU64::new(0),
        }
    }
}

impl Seen {
    pub(crate) fn count(&self, sight: Sight) {
        if let Some(count) = self.sights.get(sight as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn expanded(&self, is_unusable: bool, is_torn: bool) {
        self.states.fetch_add(1, Ordering::Relaxed);
        self.unusable.fetch_add(u64::from(is_unusable), Ordering::Relaxed);
        self.torn.fetch_add(u64::from(is_torn), Ordering::Relaxed);
    }

    /// Adds what another exploration saw.
    pub fn add(&self, other: &Self) {
        for (mine, theirs) in self.sights.iter().zip(&other.sights) {
            mine.fetch_add(theirs.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    /// How often a sight was seen.
    pub fn times(&self, sight: Sight) -> u64 {
        self.sights.get(sight as usize).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// States that were looked at, each once.
    pub fn states(&self) -> u64 {
        self.states.load(Ordering::Relaxed)
    }

    /// Of these, how many left the router without a usable identity: the leaf that it holds is admitted by nobody.
    pub fn unusable(&self) -> u64 {
        self.unusable.load(Ordering::Relaxed)
    }

    /// Of these, how many had a stock router's identity lost by its own file writes.
    pub fn torn(&self) -> u64 {
        self.torn.load(Ordering::Relaxed)
    }
}
