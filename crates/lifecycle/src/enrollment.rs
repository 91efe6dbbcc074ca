//! The router's first generation, through the same store and the same order as every later one: keys durable before the POST,
//! leaves durable before anything is done with them.

use crate::facts::{GenerationNumber, Now};
use crate::manifest::{AttemptRecord, CANDIDATES_MAX, Candidate, Manifest, Origin};
use crate::renewal::{Barrier, Issued, jitter_of};
use crate::step::Step;

/// Begins an enrollment, or goes on with the keys of one that was interrupted: the same request again gets the same leaves.
/// Hands out the number of the generation whose keys to use.
pub fn begin(now: Now, mut manifest: Manifest, prepared: Option<GenerationNumber>) -> Step<Barrier, GenerationNumber> {
    let newest = manifest.candidates.iter().map(|candidate| candidate.number).max();
    if let Some(number) = prepared
        && Some(number) > newest
        && manifest.attempt.is_some_and(|attempt| attempt.number == number)
    {
        return Step::free(number);
    }
    let number = manifest.last_number.max(prepared.unwrap_or_default()).max(newest.unwrap_or_default()).next();
    manifest.last_number = number;
    manifest.attempt = Some(AttemptRecord { number, began: now.wall, failures: 0 });
    Step::durable_first(Barrier::Prepare { number, manifest }, number)
}

/// Keeps what the controller answered. Earlier generations stay candidates, up to the cap, oldest dropped first: a new enrollment
/// voids them on the controller.
pub fn finish(now: Now, mut manifest: Manifest, number: GenerationNumber, issued: Issued) -> Step<Barrier, Manifest> {
    let surplus = (manifest.candidates.len() + 1).saturating_sub(CANDIDATES_MAX);
    manifest.candidates.drain(..surplus.min(manifest.candidates.len()));
    manifest.last_number = manifest.last_number.max(number);
    manifest.candidates.push(Candidate {
        number,
        digest: issued.digest,
        client: issued.client,
        server: issued.server,
        origin: Origin::Enrolled,
        // An enrollment needs no 20303; the first admission proves it.
        verify_sent: true,
        first_admitted: None,
        staged_at: now.wall,
        jitter: jitter_of(&issued.client),
    });
    Step::durable_first(Barrier::Stage { number, manifest: manifest.clone() }, manifest)
}
