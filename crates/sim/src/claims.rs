//! What must hold in every world, as functions named as sentences.

use std::fmt;

use lifecycle::manifest::CANDIDATES_MAX;
use lifecycle::{GenerationNumber, Leaf};

use crate::world::World;

/// A promise that was broken: which, when, by whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Milliseconds since the world began.
    pub at_ms: u64,
    /// Which router.
    pub router: usize,
    /// Which claim.
    pub claim: Claim,
    /// What was found instead.
    pub found: String,
}

/// The claims that are checked while a world runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Claim {
    /// P1
    SomeDurableGenerationIsAdmitted,
    /// P2, on the router
    NothingIsSentBeforeItIsDurable,
    /// P2, on the controller
    NothingIsAnsweredBeforeItIsDurable,
    /// P4
    OnlyAnAdmittedGenerationIsPublished,
    /// Design section 3
    NothingIsRetiredBeforeALaterOneWasAdmittedAfterItsEnd,
    /// Design section 3
    CandidatesAreBounded,
    /// P6
    NobodySpins,
    /// P8
    NobodyBorrowsAName,
    /// P9
    DamageIsReported,
    /// After the faults
    EveryRouterEndsSteadyOnItsNewestProvenGeneration,
    /// After the faults
    EveryRouterRenewsAgain,
    /// After the faults, FORMAT.md section 5
    TheConfiguredPathsEndAsTheServedGenerationOrAreLeftAlone,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms: router {}: {:?} is not so: {}", self.at_ms, self.router, self.claim, self.found)
    }
}

impl std::error::Error for Broken {}

/// P1: whatever of its disk a crash at this instant leaves, some generation of this router is complete on it and admitted by a controller; unless
/// the operator took the identity away, every leaf is expired by every controller's clock, or a stock database was restored from before the
/// oldest unexpired one was issued.
pub fn some_durable_generation_is_admitted(world: &World, router: usize) -> Result<(), String> {
    if world.is_exempt(router) {
        return Ok(());
    }
    for survivors in world.survivors(router).iter() {
        if survivors.iter().any(|leaf| world.is_admitted_somewhere(router, leaf)) {
            continue;
        }
        if world.is_beyond_promise(survivors) {
            continue;
        }
        let names: Vec<String> = survivors.iter().map(|leaf| format!("{:?}", leaf.fingerprint)).collect();
        return Err(format!("a crash leaves {names:?}, admitted is {}", world.describe_admitted(router)));
    }
    Ok(())
}

/// P2: a leaf that is shown to anybody is complete on the router's disk whatever a crash leaves.
pub fn what_is_shown_is_durable(world: &World, router: usize, shown: &Leaf) -> Result<(), String> {
    match world.survivors(router).iter().find(|set| !set.iter().any(|leaf| leaf.fingerprint == shown.fingerprint)) {
        None => Ok(()),
        Some(_) => Err(format!("{:?} is shown, and a crash may lose it", shown.fingerprint)),
    }
}

/// No manifest names more generations than the cap.
pub fn candidates_are_bounded(candidates: usize) -> Result<(), String> {
    if candidates <= CANDIDATES_MAX { Ok(()) } else { Err(format!("{candidates} candidates")) }
}

/// A retired generation was over by the router's clock, and a later one was admitted by this process.
pub fn nothing_is_retired_unproven(
    retired: &[(GenerationNumber, Option<Leaf>)],
    admitted: impl Fn(GenerationNumber) -> bool,
    wall: lifecycle::UnixTime,
    newest: GenerationNumber,
) -> Result<(), String> {
    for (number, leaf) in retired {
        if leaf.is_some_and(|leaf| !leaf.is_expired(wall)) {
            return Err(format!("{number} is retired before its end"));
        }
        if !(number.0 + 1..=newest.0).any(|later| admitted(GenerationNumber(later))) {
            return Err(format!("{number} is retired and no later one was admitted"));
        }
    }
    Ok(())
}
