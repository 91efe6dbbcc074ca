//! What to make of files at the configured paths that are not what we wrote. A pure decision; nothing is touched.
//!
//! Somebody else's identity becomes one more candidate, never the default, and displaces nothing. What we wrote once and find again, or find
//! missing, mixed or torn, is repaired. Who keeps laying the same content over ours wins after three times: we stop projecting.

use std::time::Duration;

use lifecycle::manifest::{FOREIGN_REWRITES_MAX, Manifest};
use lifecycle::{Digest, GenerationNumber, Uptime};

use crate::generation::{Generation, GenerationFiles, Keys, PrivatePem};
use crate::identity::LeafFacts;
use crate::projection::{Observed, Projection, Seen, Slot};

/// Foreign files are looked at when they have not changed for so long: whoever writes them writes several.
pub const SETTLED_AFTER: Duration = Duration::from_secs(5);

/// What `pki` says of foreign files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// They are not certificates and keys, or not whole.
    Unreadable,
    /// They are, and cannot be ours: another id, a key that does not match, a chain that does not end in the bundle. The text is for the operator.
    NotForUs(String),
    /// They match their key, carry our id and chain to the bundle.
    Acceptable(LeafFacts),
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// They are what they should be.
    Right,
    /// Write the default generation there. `is_foreign` = somebody laid something else over ours: count it ([`crate::projection::Projected::record`]).
    Project {
        /// Count it.
        is_foreign: bool,
    },
    /// Look again at this instant.
    Wait(Uptime),
    /// Make these a new candidate.
    Import(Box<(GenerationFiles, LeafFacts)>),
    /// Leave them alone and tell the operator why.
    Refused(String),
    /// Somebody else keeps writing them: leave them alone, and say "managed elsewhere".
    ManagedElsewhere,
}

/// What was seen at the configured paths, and since when. Lives in memory only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watch {
    foreign: Option<(Option<Digest>, Uptime)>,
}

/// What the files are, compared with every generation that we have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Likeness {
    /// At least one is missing and the rest is ours.
    Missing,
    /// At least one cannot be read.
    Unreadable,
    /// All from this generation.
    Whole(GenerationNumber),
    /// Each from one of ours, not all from the same.
    Mixed,
    /// At least one that we do not have.
    Foreign,
}

/// Everything that a decision looks at.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    /// The configured paths.
    pub projection: &'a Projection,
    /// What lies there.
    pub observed: &'a Observed,
    /// The manifest as the machine has it.
    pub manifest: &'a Manifest,
    /// The generations that the store holds.
    pub generations: &'a [Generation],
    /// The one that should lie there.
    pub wanted: Option<GenerationNumber>,
}

/// Decides what to do about the configured paths.
///
/// `judge` parses and checks foreign files and is asked only when they have settled.
pub fn decide(
    now: Uptime,
    situation: &Situation<'_>,
    watch: &mut Watch,
    judge: impl FnOnce(&GenerationFiles) -> Judgement,
) -> Verdict {
    let Situation { projection, observed, manifest, generations, wanted } = *situation;
    let record = manifest.projection.as_ref();
    let is_elsewhere = record.is_some_and(|record| record.foreign_rewrites >= FOREIGN_REWRITES_MAX);
    let project = |is_foreign| {
        if is_elsewhere { Verdict::ManagedElsewhere } else { Verdict::Project { is_foreign } }
    };
    let seen = observed.digest();
    let wanted_files = generations.iter().find(|generation| Some(generation.number) == wanted);
    if seen.is_some() && seen == wanted_files.map(|generation| projection.digest(&generation.files)) {
        watch.foreign = None;
        return Verdict::Right;
    }
    match likeness(observed, generations) {
        // Nobody has touched them since we wrote them; or we died before we could record what we wrote.
        _ if seen.is_some() && seen == record.map(|record| record.digest) => {
            watch.foreign = None;
            return project(false);
        }
        Likeness::Missing | Likeness::Mixed => {
            watch.foreign = None;
            return project(false);
        }
        // An old set of ours over a newer one: a backup, or a script that lays the enrollment's files at every run.
        // A newer one than we recorded can only be ours: we died, or the disk was full, before the record was durable.
        Likeness::Whole(number) => {
            watch.foreign = None;
            return project(record.is_some_and(|record| number <= record.number));
        }
        Likeness::Unreadable => {
            return Verdict::Refused("the identity files cannot be read".to_owned());
        }
        Likeness::Foreign => {}
    }
    let since = match watch.foreign {
        Some((digest, since)) if digest == seen => since,
        _ => {
            watch.foreign = Some((seen, now));
            now
        }
    };
    let settled = since.plus(SETTLED_AFTER);
    // Without any candidate there is nothing to lose by looking at once, and again when they change.
    if now < settled && !manifest.candidates.is_empty() {
        return Verdict::Wait(settled);
    }
    let Some(files) = as_generation(observed) else {
        return if manifest.candidates.is_empty() {
            Verdict::Refused("the identity files are not complete".to_owned())
        } else {
            project(false)
        };
    };
    match judge(&files) {
        Judgement::Unreadable if manifest.candidates.is_empty() => {
            Verdict::Refused("the identity files are not certificates and keys".to_owned())
        }
        // Torn while we rewrote them in place, or by somebody else: of no use to anybody.
        Judgement::Unreadable => project(false),
        Judgement::NotForUs(_) if is_elsewhere => Verdict::ManagedElsewhere,
        Judgement::NotForUs(why) => Verdict::Refused(why),
        Judgement::Acceptable(leaves) if was_ours(manifest, &leaves) => project(true),
        Judgement::Acceptable(leaves) => Verdict::Import(Box::new((files, leaves))),
    }
}

/// Was this leaf one of ours, or would it have been erased by now if it had been?
fn was_ours(manifest: &Manifest, leaves: &LeafFacts) -> bool {
    manifest.candidates.iter().any(|candidate| {
        candidate.client.fingerprint == leaves.client.fingerprint
            || candidate.first_admitted.is_some_and(|admitted| leaves.client.is_expired(admitted))
    })
}

fn likeness(observed: &Observed, generations: &[Generation]) -> Likeness {
    if observed.files.iter().any(|(_, seen)| matches!(seen, Seen::Unreadable(_))) {
        return Likeness::Unreadable;
    }
    let is_from = |generation: &Generation, slot: Slot| {
        observed.content(slot).is_none_or(|content| content == slot.content(&generation.files))
    };
    let all_known =
        observed.files.iter().all(|(slot, _)| generations.iter().any(|generation| is_from(generation, *slot)));
    if !all_known {
        return Likeness::Foreign;
    }
    if observed.files.iter().any(|(_, seen)| *seen == Seen::Absent) {
        return Likeness::Missing;
    }
    generations
        .iter()
        .find(|generation| observed.files.iter().all(|(slot, _)| is_from(generation, *slot)))
        .map_or(Likeness::Mixed, |generation| Likeness::Whole(generation.number))
}

/// The files as a generation; a server certificate of its own is optional, as OpenZiti has it.
fn as_generation(observed: &Observed) -> Option<GenerationFiles> {
    let key = observed.content(Slot::Key)?;
    let client = observed.content(Slot::Cert)?;
    let is_complete = observed.files.iter().all(|(_, seen)| matches!(seen, Seen::Content(_)));
    is_complete.then(|| GenerationFiles {
        keys: Keys {
            key: PrivatePem::new(key.to_vec()),
            server_key: observed.content(Slot::ServerKey).map(|key| PrivatePem::new(key.to_vec())),
        },
        client: client.to_vec(),
        server: observed.content(Slot::ServerCert).unwrap_or(client).to_vec(),
        bundle: observed.content(Slot::Ca).unwrap_or_default().to_vec(),
    })
}
