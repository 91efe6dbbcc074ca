//! What must be on a disk after a power cut, judged by the store itself without a process.

use std::path::Path;

use lifecycle::GenerationNumber;
use store::disk::RealDisk;
use store::identity::{IdentityStore, Loaded};

/// Something that the router did or said, which only the disk can bear out after a crash. Judged as a stock controller would: with one fingerprint at a time,
/// so that nothing which left the machine may be missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// The enrollment ended with 0.
    Enrolled,
    /// 20302 left: the keys of this generation, or the generation, are there.
    Requested(u64),
    /// 20303 left: from now on the controller may admit this generation alone, or the one before alone.
    Proving(u64),
    /// The controller admits it.
    Promoted(u64),
}

impl Claim {
    /// What a line of a router's log claims.
    pub(crate) fn of(line: &rig::Line) -> Option<Self> {
        let number = line.generation()?;
        match line.event() {
            "requested" => Some(Self::Requested(number)),
            "proving" => Some(Self::Proving(number)),
            "promoted" | "connected" => Some(Self::Promoted(number)),
            _ => None,
        }
    }
}

/// The generations that have to be usable, and those whose keys have to be there.
#[derive(Debug, Default)]
struct Wanted {
    whole: Vec<u64>,
    keys: Option<u64>,
    is_enrolled: bool,
}

impl Wanted {
    fn by(claims: &[Claim]) -> Self {
        let mut wanted = Self::default();
        for claim in claims {
            wanted.is_enrolled = true;
            match *claim {
                Claim::Enrolled => wanted.whole = vec![1],
                Claim::Requested(number) => wanted.keys = Some(number),
                Claim::Proving(number) => wanted.whole.push(number),
                Claim::Promoted(number) => wanted.whole.retain(|other| *other >= number),
            }
            if let Claim::Promoted(number) = claim
                && !wanted.whole.contains(number)
            {
                wanted.whole.push(*number);
            }
        }
        wanted.keys = wanted.keys.filter(|number| wanted.whole.iter().all(|whole| whole < number));
        wanted
    }
}

/// Looks at a state folder. `Err` says what is missing or broken.
pub(crate) fn check(state: &Path, claims: &[Claim]) -> Result<(), String> {
    let wanted = Wanted::by(claims);
    if !state.exists() {
        return if wanted.is_enrolled { Err("the state folder is gone".to_owned()) } else { Ok(()) };
    }
    let (mut store, _) = IdentityStore::open(RealDisk, state, "").map_err(|(error, _)| format!("{error}"))?;
    let loaded = store.load(|_, _| None).map_err(|error| format!("{error}"))?;
    let found = match &loaded {
        Loaded::Absent if wanted.is_enrolled => return Err("no identity".to_owned()),
        Loaded::Absent => return Ok(()),
        Loaded::Intact(found) => found,
        Loaded::Damaged(damaged) => {
            let spell = |damage: &store::generation::Damage| {
                format!("{}: {:?}", damage.path.strip_prefix(state).unwrap_or(&damage.path).display(), damage.found)
            };
            return Err(format!("damaged: {}", damaged.damage.iter().map(spell).collect::<Vec<_>>().join(", ")));
        }
        Loaded::Newer(newer) => return Err(format!("of format {}", newer.version)),
    };
    let has = |number: u64| found.generations.iter().any(|generation| generation.number == GenerationNumber(number));
    if let Some(lost) = wanted.whole.iter().find(|number| !has(**number)) {
        let there: Vec<u64> = found.generations.iter().map(|generation| generation.number.0).collect();
        return Err(format!("generation {lost} is lost though the controller may admit it alone; there are {there:?}"));
    }
    if let Some(number) = wanted.keys {
        let is_prepared = found.prepared.as_ref().is_some_and(|prepared| prepared.number == GenerationNumber(number));
        if !is_prepared && !has(number) {
            return Err(format!("a certificate was asked for with the keys of generation {number}, which are lost"));
        }
    }
    if wanted.is_enrolled && found.generations.is_empty() {
        return Err("no generation".to_owned());
    }
    store.close();
    Ok(())
}

/// Looks for private keys that others may read, anywhere below a folder.
pub(crate) fn open_secret(folder: &Path) -> Option<String> {
    use std::os::unix::fs::PermissionsExt as _;
    for entry in std::fs::read_dir(folder).ok()?.flatten() {
        let Ok(found) = entry.metadata() else { continue };
        if found.is_dir() {
            if let Some(open) = open_secret(&entry.path()) {
                return Some(open);
            }
        } else if found.is_file() && found.permissions().mode() & 0o077 != 0 {
            let holds_key =
                std::fs::read(entry.path()).is_ok_and(|bytes| bytes.windows(11).any(|window| window == b"PRIVATE KEY"));
            if holds_key {
                return Some(format!(
                    "`{}` has mode {:o}",
                    entry.path().display(),
                    found.permissions().mode() & 0o7777
                ));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_under_way_wants_both_generations_and_an_admission_only_the_new_one() {
        let claims = [Claim::Enrolled, Claim::Requested(2), Claim::Proving(2)];
        assert_eq!(Wanted::by(&claims).whole, [1, 2]);
        assert_eq!(Wanted::by(&claims).keys, None);
        let claims = [Claim::Enrolled, Claim::Requested(2), Claim::Proving(2), Claim::Promoted(2), Claim::Requested(3)];
        assert_eq!(Wanted::by(&claims).whole, [2]);
        assert_eq!(Wanted::by(&claims).keys, Some(3));
    }

    #[test]
    fn nothing_is_wanted_of_a_disk_of_which_nothing_was_claimed() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(check(&folder.path().join("none"), &[]), Ok(()));
        assert!(check(&folder.path().join("none"), &[Claim::Enrolled]).is_err());
    }
}
