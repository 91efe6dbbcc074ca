//! What the router's disk remembers between two lives of the process. `store` owns its bytes (FORMAT.md).

use alloc::vec::Vec;

use crate::facts::{Digest, GenerationNumber, Leaf, UnixTime};

/// Most generations that a manifest may name at once.
pub const CANDIDATES_MAX: usize = 8;

/// The one small file that is ever replaced: every generation that a restart may try, and how the last attempt went.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Manifest {
    /// Oldest first. Every one of them is complete and durable.
    pub candidates: Vec<Candidate>,
    /// Highest number ever given out, kept when its generation is gone: numbers are never used twice.
    pub last_number: GenerationNumber,
    /// The attempt in progress or the last one; `None` before the first.
    pub attempt: Option<AttemptRecord>,
    /// What the configured paths held when they were last written by us.
    pub projection: Option<ProjectionRecord>,
}

/// One generation that may be the admitted one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Candidate {
    /// Its folder's number.
    pub number: GenerationNumber,
    /// What its files must hash to.
    pub digest: Digest,
    /// Its client leaf.
    pub client: Leaf,
    /// Its server leaf.
    pub server: Leaf,
    /// How it came here.
    pub origin: Origin,
    /// May a 20303 for it have left this machine? Set before the first one does.
    pub verify_sent: bool,
    /// When a controller first admitted it, by our wall clock; `None` while that has not been seen.
    pub first_admitted: Option<UnixTime>,
    /// When it was staged, by our wall clock. The renewal fraction runs from here.
    pub staged_at: UnixTime,
    /// Drawn once: where in the jitter band this generation's renewal lies, 0 = earliest, 65535 = latest.
    pub jitter: u16,
}

/// How a candidate came to the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// A controller answered an enrollment.
    Enrolled,
    /// A controller answered an extension.
    Renewed,
    /// Somebody else put it at the configured paths.
    Imported,
}

/// When the last attempt began and how many have failed in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AttemptRecord {
    /// The generation that it makes.
    pub number: GenerationNumber,
    /// When it began, by our wall clock; an instant in the future counts as now.
    pub began: UnixTime,
    /// Attempts in a row that ended without an admitted generation.
    pub failures: u32,
}

/// What the configured paths were last written with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProjectionRecord {
    /// The generation they were copied from.
    pub number: GenerationNumber,
    /// Hash over the contents of the configured paths, as FORMAT.md defines it.
    pub digest: Digest,
    /// How often foreign content has replaced ours in a row; at [`FOREIGN_REWRITES_MAX`] we stop projecting.
    pub foreign_rewrites: u8,
}

/// After so many rewrites by somebody else the identity files are "managed elsewhere".
pub const FOREIGN_REWRITES_MAX: u8 = 3;

impl Manifest {
    /// The candidate with this number.
    pub fn candidate(&self, number: GenerationNumber) -> Option<&Candidate> {
        self.candidates.iter().find(|c| c.number == number)
    }

    /// The candidate with this number, to be changed.
    pub fn candidate_mut(&mut self, number: GenerationNumber) -> Option<&mut Candidate> {
        self.candidates.iter_mut().find(|c| c.number == number)
    }

    /// The newest candidate that a controller was seen to admit, or the newest of all when none was.
    pub fn default_candidate(&self) -> Option<&Candidate> {
        self.candidates.iter().rev().find(|c| c.first_admitted.is_some()).or(self.candidates.last())
    }
}
