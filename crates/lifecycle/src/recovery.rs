//! What a restart finds. Not a second code path: it yields the most cautious phase that the disk allows, and
//! [`Renewal::step`] goes on from there.

use alloc::collections::BTreeMap;

use crate::facts::{GenerationNumber, Now};
use crate::manifest::Manifest;
use crate::policy::Policy;
use crate::renewal::{Attempt, Phase, Proof, Renewal, Storage};

/// What the disk said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The manifest, intact or rebuilt from every intact generation.
    pub manifest: Manifest,
    /// A generation that has keys but no leaves yet.
    pub prepared: Option<GenerationNumber>,
    /// What the place can keep.
    pub storage: Storage,
}

/// Builds the machine from what the disk said. `None` when there is no generation at all: enrollment comes first.
pub fn recover(now: Now, policy: Policy, found: Found) -> Option<Renewal> {
    build(now, policy, found, None)
}

/// As [`recover`], in a process that goes on after a barrier failed. What `before` serves was admitted to it and stays the live one, and
/// every candidate that it knew was durable: one that the disk does not show today is a candidate all the same.
pub fn recover_in_process(now: Now, policy: Policy, found: Found, before: &Renewal) -> Option<Renewal> {
    let Found { mut manifest, prepared, storage } = found;
    for known in &before.manifest.candidates {
        if manifest.candidate(known.number).is_none() {
            manifest.candidates.push(*known);
        }
    }
    manifest.last_number = manifest.last_number.max(before.manifest.last_number);
    build(now, policy, Found { manifest, prepared, storage }, Some(before.live()))
}

fn build(now: Now, policy: Policy, found: Found, serving: Option<GenerationNumber>) -> Option<Renewal> {
    let Found { mut manifest, prepared, storage } = found;
    manifest.candidates.sort_by_key(|candidate| candidate.number);
    let newest = manifest.candidates.last().copied()?;
    manifest.last_number = manifest.last_number.max(newest.number).max(prepared.unwrap_or_default());
    if let Some(attempt) = &mut manifest.attempt {
        // Written while our clock was ahead: it began now.
        attempt.began = attempt.began.min(now.wall);
    }
    let served = serving.and_then(|number| manifest.candidate(number));
    let live = served.or(manifest.default_candidate())?.number;
    let unanswered = prepared
        .filter(|number| *number > newest.number && manifest.attempt.is_some_and(|attempt| attempt.number == *number));
    let mut renewal = Renewal {
        policy,
        manifest,
        phase: Phase::Steady { live },
        contacts: BTreeMap::new(),
        storage,
        retry_at: now.uptime,
        advice: None,
        blocked: None,
        // The manifest that names an unproven generation may be in the page cache alone: it is written again before anybody sees a leaf.
        unsaved: (newest.first_admitted.is_none()).then(Default::default),
        save_at: now.uptime,
        save_failures: 0,
        due_by_uptime: None,
    };
    if newest.number > live && newest.first_admitted.is_none() {
        renewal.phase = if newest.verify_sent {
            let window = policy.verify_window_for(renewal.life());
            let left = window.saturating_sub(now.wall.since(newest.staged_at));
            let at_least = policy.attempt_deadline_for(renewal.life());
            Phase::Proving { live, next: newest.number, proof: Proof::new(now, left.max(at_least)) }
        } else {
            Phase::Staged { live, next: newest.number }
        };
    } else if let Some(number) = unanswered {
        renewal.phase = Phase::Prepared { live, attempt: Attempt { number, not_before: now.uptime, unanswered: 0 } };
    }
    Some(renewal)
}
