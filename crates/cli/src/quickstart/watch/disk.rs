//! Which generations are whole on a router's disk. Reads only: the lock belongs to the router.

use std::io::ErrorKind;
use std::path::Path;

use lifecycle::manifest::Manifest;
use lifecycle::{Fingerprint, UnixTime};
use store::format::decode_manifest;
use store::generation::{GenerationFiles, Keys, PrivatePem, digest_of};

/// A generation that a restart of the router could use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Whole {
    pub(crate) number: u64,
    /// Its client leaf.
    pub(crate) leaf: Fingerprint,
    /// Where that leaf ends.
    pub(crate) not_after: UnixTime,
}

/// What lies in a state folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OnDisk {
    pub(crate) whole: Vec<Whole>,
    /// In which phase a restart would find itself at the earliest.
    pub(crate) phase: &'static str,
}

/// Reads a state folder.
///
/// # Errors
/// In words, when there is no manifest that can be read.
pub(crate) fn read(state: &Path) -> Result<OnDisk, String> {
    // A router may replace manifest and folders while we read; what does not fit together then is read again.
    let mut before = manifest(state)?;
    for _ in 0..5 {
        let whole: Vec<Whole> = before.candidates.iter().filter_map(|candidate| whole(state, candidate)).collect();
        let after = manifest(state)?;
        if whole.len() == before.candidates.len() || before == after {
            return Ok(OnDisk { whole, phase: phase(&before) });
        }
        before = after;
    }
    Err(format!("`{}` changes faster than it can be read", state.display()))
}

fn manifest(state: &Path) -> Result<Manifest, String> {
    let path = state.join("manifest");
    let bytes = std::fs::read(&path).map_err(|error| format!("`{}`: {error}", path.display()))?;
    decode_manifest(&bytes).map_err(|damage| format!("`{}`: {damage}", path.display()))
}

fn whole(state: &Path, candidate: &lifecycle::manifest::Candidate) -> Option<Whole> {
    let folder = state.join("generations").join(candidate.number.to_string());
    let read = |name: &str| std::fs::read(folder.join(name));
    let server_key = match read("server.key") {
        Ok(bytes) => Some(PrivatePem::new(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(_) => return None,
    };
    let files = GenerationFiles {
        keys: Keys { key: PrivatePem::new(read("key.pem").ok()?), server_key },
        client: read("client.pem").ok()?,
        server: read("server.pem").ok()?,
        bundle: read("bundle.pem").ok()?,
    };
    // The digest file itself has to be there as well; what it says is what the manifest says, or the router will refuse it.
    let is_recorded = read("digest").is_ok_and(|bytes| !bytes.is_empty());
    let is_whole = is_recorded && digest_of(candidate.number, &files) == candidate.digest;
    is_whole.then_some(Whole {
        number: candidate.number.0,
        leaf: candidate.client.fingerprint,
        not_after: candidate.client.not_after,
    })
}

fn phase(manifest: &Manifest) -> &'static str {
    let Some(attempt) = &manifest.attempt else { return "Steady" };
    match manifest.candidates.last() {
        Some(newest) if newest.number == attempt.number => match (newest.first_admitted, newest.verify_sent) {
            (Some(_), _) => "Promoted",
            (None, true) => "Proving",
            (None, false) => "Staged",
        },
        _ => "Prepared",
    }
}
