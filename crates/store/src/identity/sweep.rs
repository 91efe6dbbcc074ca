//! Removing what a crash left behind, and nothing else.

use lifecycle::GenerationNumber;

use super::load::parse_number;
use super::{DAMAGED_MANIFEST, GENERATIONS, HOLDER, IdentityStore, Knowledge, MANIFEST, at};
use crate::disk::{Disk, Errno, Operation};
use crate::error::{Refusal, StoreError};
use crate::format::FileDamage;
use crate::generation::{DIGEST, Damage};

/// What a sweep did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SweepReport {
    /// Generations that no manifest names and that are gone now.
    pub removed: Vec<GenerationNumber>,
    /// How many temporary files are gone.
    pub temporaries: u32,
    /// Generations that no manifest names and that were left for a person to look at.
    pub spared: Vec<Spared>,
    /// Names that nobody here ever made.
    pub unknown: Vec<String>,
}

/// A generation that was left alone although nothing names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spared {
    /// Its number.
    pub number: GenerationNumber,
    /// Why: what is wrong with it.
    pub damage: Damage,
}

impl<D: Disk> IdentityStore<D> {
    /// Removes temporaries, and generations that an intact manifest names neither as candidate nor as attempt.
    ///
    /// Spares what cannot be read, and generations whose digest is whole while one of their files is not.
    ///
    /// # Errors
    /// [`Refusal::NotIntact`] unless the manifest was read or written whole; whatever the disk says.
    pub fn sweep(&mut self) -> Result<SweepReport, StoreError> {
        self.may_write()?;
        let Knowledge::Known { manifest, .. } = &self.memory.knowledge else { return Err(Refusal::NotIntact.into()) };
        let mut named: Vec<_> = manifest.candidates.iter().map(|candidate| candidate.number).collect();
        named.extend(manifest.attempt.map(|attempt| attempt.number));
        // What this process has prepared or staged is about to be named.
        named.extend(self.memory.prepared.iter().chain(self.memory.staged.keys()));
        let Some(state) = self.known_state_folder() else { return Ok(SweepReport::default()) };

        let mut report = SweepReport::default();
        for name in at(self.disk.list(&state), Operation::List, &self.path)? {
            if is_temporary(&name) {
                match self.disk.unlink(&state, &name) {
                    Err(Errno::NOENT) => {}
                    answer => at(answer, Operation::Unlink, &self.path.join(&name))?,
                }
                report.temporaries = report.temporaries.saturating_add(1);
            } else if ![MANIFEST, DAMAGED_MANIFEST, GENERATIONS, HOLDER].contains(&name.as_str()) {
                report.unknown.push(name);
            }
        }
        let Some(generations) = self.open_generations()? else { return Ok(report) };
        let path = self.path.join(GENERATIONS);
        let mut unnamed = Vec::new();
        for name in at(self.disk.list(&generations), Operation::List, &path)? {
            match parse_number(&name) {
                None => report.unknown.push(format!("{GENERATIONS}/{name}")),
                Some(number) if named.contains(&number) => {}
                Some(number) => match self.why_spare(number) {
                    Some(damage) => report.spared.push(Spared { number, damage }),
                    None => unnamed.push(number),
                },
            }
        }
        if !unnamed.is_empty() {
            // Also writes the last number, which covers every folder that was seen, before the folders are gone.
            self.make_manifest_durable()?;
            for number in &unnamed {
                self.unlink_generation(&generations, *number)?;
            }
            at(self.disk.sync_folder(&generations), Operation::SyncFolder, &path)?;
        }
        if report.temporaries > 0 {
            at(self.disk.sync_folder(&state), Operation::SyncFolder, &self.path)?;
        }
        report.removed = unnamed;
        Ok(report)
    }

    /// Would removing this generation destroy something that a person may still want?
    pub(super) fn why_spare(&mut self, number: GenerationNumber) -> Option<Damage> {
        match self.read_generation(number) {
            Ok(_) => None,
            Err(damage) => {
                let is_digest = damage.path.ends_with(DIGEST);
                match damage.found {
                    // PREPARE, STAGE or an erasure was interrupted.
                    FileDamage::Missing | FileDamage::Empty => None,
                    FileDamage::Torn | FileDamage::Foreign | FileDamage::Invalid(_) if is_digest => None,
                    FileDamage::Torn
                    | FileDamage::Foreign
                    | FileDamage::Invalid(_)
                    | FileDamage::Unreadable(_)
                    | FileDamage::Newer(_)
                    | FileDamage::Mismatch => Some(damage),
                }
            }
        }
    }
}

fn is_temporary(name: &str) -> bool {
    name.strip_prefix(".manifest-")
        .and_then(|rest| rest.strip_suffix(".tmp"))
        .is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}
