//! What a start finds: absent, intact and damaged are different answers.

use std::collections::BTreeSet;

use lifecycle::manifest::{AttemptRecord, CANDIDATES_MAX, Candidate, Manifest, Origin};
use lifecycle::{GenerationNumber, Leaf};

use super::{GENERATIONS, IdentityStore, Knowledge, MANIFEST, at};
use crate::disk::{Disk, Errno, Operation};
use crate::error::StoreError;
use crate::format::{self, FileDamage, MANIFEST_MAX_BYTES};
use crate::generation::{Damage, Generation, GenerationFiles, Keys};

/// How often the manifest is read before it counts as unreadable, and a generation where the manifest is lost. What is lost with a manifest, which
/// leaves were admitted, cannot be read from anything else: a disk that fails once must not cost it.
const READ_TRIES: u32 = 3;

/// What `pki` reads from a generation's certificates when the manifest that held it is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeafFacts {
    /// The client leaf.
    pub client: Leaf,
    /// The server leaf.
    pub server: Leaf,
}

/// What is on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loaded {
    /// Nothing was ever stored here.
    Absent,
    /// The manifest and everything that it names.
    Intact(Intact),
    /// Something is lost; what is left can be used, and has to be reported.
    Damaged(Damaged),
    /// A newer release wrote it: use it, write nothing.
    Newer(Newer),
}

impl Loaded {
    /// The manifest to go on with: as it was read, without candidates that cannot be used, or rebuilt from the generations.
    pub fn manifest(&self) -> Option<&Manifest> {
        match self {
            Self::Absent => None,
            Self::Intact(found) => Some(&found.manifest),
            Self::Damaged(found) => Some(&found.manifest),
            Self::Newer(found) => Some(&found.manifest),
        }
    }

    /// The usable generations, in the order of the manifest's candidates: oldest first.
    pub fn generations(&self) -> &[Generation] {
        match self {
            Self::Absent => &[],
            Self::Intact(found) => &found.generations,
            Self::Damaged(found) => &found.generations,
            Self::Newer(found) => &found.generations,
        }
    }

    /// The generation that an attempt had prepared, if its keys are there.
    pub fn prepared(&self) -> Option<&Prepared> {
        match self {
            Self::Intact(found) => found.prepared.as_ref(),
            Self::Damaged(found) => found.prepared.as_ref(),
            Self::Absent | Self::Newer(_) => None,
        }
    }

    /// Everything that is wrong.
    pub fn damage(&self) -> &[Damage] {
        match self {
            Self::Absent | Self::Intact(_) => &[],
            Self::Damaged(found) => &found.damage,
            Self::Newer(found) => &found.damage,
        }
    }
}

/// An intact store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intact {
    /// As it was read; its last number covers every folder that was seen.
    pub manifest: Manifest,
    /// One for each candidate.
    pub generations: Vec<Generation>,
    /// The attempt's generation, if it is not a candidate yet.
    pub prepared: Option<Prepared>,
}

/// A store that lost something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damaged {
    /// What became of the manifest.
    pub found: ManifestFound,
    /// Intact manifest: as read, without the candidates whose generation is damaged; one that could not be *read* stays, since nothing is
    /// known of it, and has no entry in `generations`. Otherwise rebuilt: every intact generation is a
    /// candidate, and may have been shown to a controller.
    pub manifest: Manifest,
    /// One for each candidate of that manifest that could be read.
    pub generations: Vec<Generation>,
    /// The attempt's generation, if it is not a candidate yet.
    pub prepared: Option<Prepared>,
    /// What is wrong, file by file.
    pub damage: Vec<Damage>,
}

/// A store of a newer format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Newer {
    /// The format on disk.
    pub version: u32,
    /// Rebuilt from the generations.
    pub manifest: Manifest,
    /// One for each candidate.
    pub generations: Vec<Generation>,
    /// Generations that this release cannot read.
    pub damage: Vec<Damage>,
}

/// What became of the manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ManifestFound {
    /// It is whole; a generation is not.
    Intact,
    /// There are generations and no manifest, or one that says this.
    Lost(FileDamage),
}

/// A generation whose keys are durable and whose certificates are not there, or not known to be durable.
///
/// Even if every file is filled, nobody was ever shown it: stage it again, or discard it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared {
    /// Its number.
    pub number: GenerationNumber,
    /// Its keys.
    pub keys: Keys,
}

impl<D: Disk> IdentityStore<D> {
    /// Reads everything. Writes nothing.
    ///
    /// `facts` parses a generation's certificates; it is asked only when the manifest is lost, and a generation for which it answers `None` is damaged.
    ///
    /// # Errors
    /// A folder that cannot be read: that is never "absent". Files that cannot be read are [damage](Loaded::Damaged).
    pub fn load(
        &mut self,
        mut facts: impl FnMut(GenerationNumber, &GenerationFiles) -> Option<LeafFacts>,
    ) -> Result<Loaded, StoreError> {
        self.memory.knowledge = Knowledge::Unread;
        let Some(state) = self.known_state_folder() else {
            self.memory.knowledge = Knowledge::Absent;
            return Ok(Loaded::Absent);
        };
        let mut read = self.disk.read(&state, MANIFEST, MANIFEST_MAX_BYTES);
        for _ in 1..READ_TRIES {
            if !matches!(read, Err(errno) if errno != Errno::NOENT) {
                break;
            }
            read = self.disk.read(&state, MANIFEST, MANIFEST_MAX_BYTES);
        }
        let read = match read {
            Ok(bytes) => format::decode_manifest(&bytes),
            Err(Errno::NOENT) => Err(FileDamage::Missing),
            Err(errno) => Err(FileDamage::Unreadable(errno)),
        };
        let numbers = self.numbers_on_disk()?;
        // Numbers that this process gave up are gone from the disk, and never used again all the same.
        let seen = numbers.iter().chain(&self.memory.given_up).copied().max().unwrap_or_default();
        match read {
            Err(FileDamage::Missing) if numbers.is_empty() => {
                self.memory.knowledge = Knowledge::Absent;
                Ok(Loaded::Absent)
            }
            Ok(mut manifest) => {
                manifest.last_number = manifest.last_number.max(seen);
                Ok(self.load_named(manifest))
            }
            Err(found) => Ok(self.load_found(found, &numbers, seen, &mut facts)),
        }
    }

    fn load_named(&mut self, manifest: Manifest) -> Loaded {
        let mut generations = Vec::with_capacity(manifest.candidates.len());
        let mut damage = Vec::new();
        let mut unread = Vec::new();
        for candidate in &manifest.candidates {
            match self.read_generation(candidate.number) {
                Ok(generation) if generation.digest == candidate.digest => generations.push(generation),
                Ok(_) => {
                    damage.push(Damage { path: self.generation_path(candidate.number), found: FileDamage::Mismatch })
                }
                Err(found) => {
                    if matches!(found.found, FileDamage::Unreadable(_)) {
                        unread.push(candidate.number);
                    }
                    damage.push(found);
                }
            }
        }
        let prepared = match manifest.attempt {
            // What this process has given up is over, whatever its folder holds: the attempt goes on under a new number.
            Some(AttemptRecord { number, .. })
                if manifest.candidate(number).is_none() && !self.memory.given_up.contains(&number) =>
            {
                match self.read_keys(number) {
                    // Not an attempt that was cut off: it was whole once, and what is left of it is for a person to look at.
                    Ok(_) if let Some(found) = self.why_spare(number) => {
                        damage.push(found);
                        None
                    }
                    Ok(keys) => Some(Prepared { number, keys }),
                    // Discarded: the attempt is over.
                    Err(Damage { found: FileDamage::Missing, .. }) => None,
                    Err(found) => {
                        damage.push(found);
                        None
                    }
                }
            }
            _ => None,
        };
        self.memory.last_known = Some(manifest.clone());
        self.memory.knowledge = Knowledge::Known { manifest: manifest.clone(), is_durable: false };
        if damage.is_empty() {
            return Loaded::Intact(Intact { manifest, generations, prepared });
        }
        let mut usable = manifest;
        // What the disk would not say today it may say tomorrow: a read error drops nothing from the manifest.
        let unread: BTreeSet<_> = unread.into_iter().collect();
        usable.candidates.retain(|candidate| {
            unread.contains(&candidate.number) || generations.iter().any(|found| found.number == candidate.number)
        });
        if let Some(attempt) = &mut usable.attempt
            && usable.candidates.iter().all(|candidate| candidate.number != attempt.number)
            && self.memory.last_known.as_ref().is_some_and(|known| known.candidate(attempt.number).is_some())
        {
            // The attempt is over, and what it made is damaged: its number names nothing that could be gone on with.
            usable.last_number = usable.last_number.next();
            attempt.number = usable.last_number;
        }
        Loaded::Damaged(Damaged { found: ManifestFound::Intact, manifest: usable, generations, prepared, damage })
    }

    fn load_found(
        &mut self,
        found: FileDamage,
        numbers: &[GenerationNumber],
        last_number: GenerationNumber,
        facts: &mut dyn FnMut(GenerationNumber, &GenerationFiles) -> Option<LeafFacts>,
    ) -> Loaded {
        let mut damage = vec![Damage { path: self.path.join(MANIFEST), found }];
        let mut found_whole = Vec::new();
        for number in numbers.iter().rev() {
            match self.read_patiently(*number) {
                Ok(generation) => match facts(*number, &generation.files) {
                    Some(leaves) if found_whole.len() < CANDIDATES_MAX => found_whole.push((generation, leaves)),
                    Some(_) => {}
                    None => damage.push(Damage {
                        path: self.generation_path(*number),
                        found: FileDamage::Invalid("its certificates cannot be read"),
                    }),
                },
                // Only prepared: nobody ever saw it.
                Err(Damage { found: FileDamage::Empty, path }) if path.ends_with(crate::generation::DIGEST) => {}
                Err(found) => damage.push(found),
            }
        }
        found_whole.reverse();
        let candidates = found_whole.iter().map(|(generation, leaves)| rebuilt(generation, leaves)).collect();
        let generations: Vec<Generation> = found_whole.into_iter().map(|(generation, _)| generation).collect();
        let manifest = Manifest { candidates, last_number, attempt: None, projection: None };
        if let FileDamage::Newer(version) = found {
            self.memory.knowledge = Knowledge::Newer(version);
            return Loaded::Newer(Newer { version, manifest, generations, damage });
        }
        let intact: BTreeSet<_> = generations.iter().map(|generation| generation.number).collect();
        let is_present = found != FileDamage::Missing;
        self.memory.knowledge =
            Knowledge::Lost { intact, last_number, is_present, rebuilt: Box::new(manifest.clone()) };
        Loaded::Damaged(Damaged { found: ManifestFound::Lost(found), manifest, generations, prepared: None, damage })
    }

    /// Without a manifest nothing names a generation that cannot be read, so one failed read must not be the end of it.
    fn read_patiently(&mut self, number: GenerationNumber) -> Result<Generation, Damage> {
        let mut read = self.read_generation(number);
        for _ in 1..READ_TRIES {
            if !matches!(&read, Err(damage) if matches!(damage.found, FileDamage::Unreadable(_))) {
                break;
            }
            read = self.read_generation(number);
        }
        read
    }

    /// Numbers of the folders in `generations`, ascending.
    pub(super) fn numbers_on_disk(&mut self) -> Result<Vec<GenerationNumber>, StoreError> {
        let Some(folder) = self.open_generations()? else { return Ok(Vec::new()) };
        let names = at(self.disk.list(&folder), Operation::List, &self.path.join(GENERATIONS))?;
        let mut numbers: Vec<_> = names.iter().filter_map(|name| parse_number(name)).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }
}

/// A candidate of which only the files are left: it may have been shown to a controller, and nobody is known to have admitted it.
fn rebuilt(generation: &Generation, leaves: &LeafFacts) -> Candidate {
    Candidate {
        number: generation.number,
        digest: generation.digest,
        client: leaves.client,
        server: leaves.server,
        origin: Origin::Renewed,
        verify_sent: true,
        first_admitted: None,
        staged_at: leaves.client.not_before,
        jitter: 0,
    }
}

/// The number that a folder's name stands for; only the spelling that we write counts.
pub(super) fn parse_number(name: &str) -> Option<GenerationNumber> {
    let number = GenerationNumber(name.parse().ok()?);
    (number.0 > 0 && number.to_string() == name).then_some(number)
}
