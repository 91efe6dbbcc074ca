//! The identity store: which generations a restart may try, kept so that no crash can take the last one away.
//!
//! Open it, [load](IdentityStore::load) it, and then change it only in the order of FORMAT.md section 4:
//! [`prepare`](IdentityStore::prepare) → [`commit`](IdentityStore::commit) → (20302) → [`stage`](IdentityStore::stage) → `commit` → (20303, proof) → `commit` →
//! [`erase`](IdentityStore::erase). The store refuses what would break that order; it knows PEM bytes and numbers, and parses no certificate.

mod load;
mod place;
mod sweep;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use lifecycle::manifest::{CANDIDATES_MAX, Manifest};
use lifecycle::{Digest, GenerationNumber};

pub use self::load::{Damaged, Intact, LeafFacts, Loaded, ManifestFound, Newer, Prepared};
pub use self::place::state_folder;
pub use self::sweep::{Spared, SweepReport};
use crate::disk::{Disk, Errno, Operation, SimDisk, StorageError};
use crate::error::{Refusal, StoreError};
use crate::format;

pub(crate) const MANIFEST: &str = "manifest";
pub(crate) const DAMAGED_MANIFEST: &str = "manifest.damaged";
pub(crate) const GENERATIONS: &str = "generations";
const HOLDER: &str = "holder";
const HOLDER_MAX_BYTES: usize = 512;
pub(crate) const FOLDER_MODE: u32 = 0o700;
pub(crate) const FILE_MODE: u32 = 0o600;

/// Names that are tried for one temporary file.
pub(crate) const TEMPORARY_TRIES: u32 = 64;

/// Adds the path and the operation to what the disk said.
pub(crate) fn at<T>(answer: Result<T, Errno>, operation: Operation, path: &Path) -> Result<T, StorageError> {
    answer.map_err(|errno| StorageError { operation, path: path.to_owned(), errno })
}

/// Something that is not as it should be, and that does not stop the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The kernel cannot lock here: the operator sees to it that only one process runs.
    LocksUnsupported(StorageError),
    /// The state folder is open to others.
    WideMode(u32),
    /// The state folder belongs to this other user.
    ForeignOwner(u32),
    /// The state folder does not exist and cannot be made.
    CannotMake(StorageError),
}

/// What the store knows about the manifest on the disk.
#[derive(Clone, Debug)]
pub(crate) enum Knowledge {
    /// It was not read yet, or its replacement ended in the unknown.
    Unread,
    /// There is none, and no generation.
    Absent,
    /// It is this one. `is_durable` = written and synced by this process.
    Known { manifest: Manifest, is_durable: bool },
    /// It is lost or damaged; these generations are intact, and this number is the highest seen.
    Lost {
        intact: BTreeSet<GenerationNumber>,
        last_number: GenerationNumber,
        is_present: bool,
        /// What was made of the generations.
        rebuilt: Box<Manifest>,
    },
    /// A newer release wrote it.
    Newer(u32),
}

#[derive(Clone, Debug)]
pub(crate) struct Memory {
    pub(crate) knowledge: Knowledge,
    /// The manifest that this process read or wrote last, whatever became of it on the disk.
    pub(crate) last_known: Option<Manifest>,
    /// Prepared by this process.
    pub(crate) prepared: BTreeSet<GenerationNumber>,
    /// Staged and read back by this process.
    pub(crate) staged: BTreeMap<GenerationNumber, Digest>,
    /// Numbers that are never written again: a sync of theirs failed, or they were discarded.
    pub(crate) given_up: BTreeSet<GenerationNumber>,
    temporaries: u32,
}

/// A simulated world that forks takes its stores along, locks and all.
impl Clone for IdentityStore<SimDisk> {
    fn clone(&self) -> Self {
        Self {
            disk: self.disk.clone(),
            path: self.path.clone(),
            state: self.state,
            lock: self.lock,
            memory: self.memory.clone(),
        }
    }
}

/// A router's identity on a disk.
///
/// Calls block; on a real disk they belong on a blocking thread.
#[derive(Debug)]
pub struct IdentityStore<D: Disk> {
    pub(crate) disk: D,
    pub(crate) path: PathBuf,
    /// `None` while the folder does not exist and cannot be made.
    state: Option<D::Folder>,
    lock: Option<D::Lock>,
    pub(crate) memory: Memory,
}

impl<D: Disk> IdentityStore<D> {
    /// Opens the store in the state folder `path` ([`state_folder`] names it), makes the folder if need be, and takes the lock.
    ///
    /// `holder` is text for the message that a second process gets: a pid and a boot id, say. A folder that cannot be made, or a kernel that cannot
    /// lock, is a [`Notice`]; reading works on.
    ///
    /// # Errors
    /// [`StoreError::Busy`] if another process has the lock: wait, and try again with the disk that is handed back.
    pub fn open(mut disk: D, path: &Path, holder: &str) -> Result<(Self, Vec<Notice>), (StoreError, D)> {
        let mut notices = Vec::new();
        let state = match place::open_or_make(&mut disk, path) {
            Ok(folder) => Some(folder),
            Err(error) if error.operation == Operation::MakeFolder || error.operation == Operation::SyncFolder => {
                notices.push(Notice::CannotMake(error));
                None
            }
            Err(error) => return Err((error.into(), disk)),
        };
        let mut lock = None;
        if let Some(folder) = &state {
            match at(disk.lock(folder), Operation::Lock, path) {
                Ok(taken) => lock = Some(taken),
                Err(error) if error.errno == Errno::WOULDBLOCK => {
                    let text = disk.read(folder, HOLDER, HOLDER_MAX_BYTES).unwrap_or_default();
                    let holder = printable(&text);
                    return Err((StoreError::Busy { path: path.to_owned(), holder }, disk));
                }
                Err(error) if matches!(error.errno, Errno::NOLCK | Errno::NOSYS | Errno::OPNOTSUPP) => {
                    notices.push(Notice::LocksUnsupported(error));
                }
                Err(error) => return Err((error.into(), disk)),
            }
            place::note_access(&mut disk, folder, &mut notices);
        }
        let memory = Memory {
            knowledge: Knowledge::Unread,
            last_known: None,
            prepared: BTreeSet::new(),
            staged: BTreeMap::new(),
            given_up: BTreeSet::new(),
            temporaries: 0,
        };
        let mut store = Self { disk, path: path.to_owned(), state, lock, memory };
        store.write_holder(holder);
        Ok((store, notices))
    }

    /// The state folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The disk underneath.
    pub fn disk(&self) -> &D {
        &self.disk
    }

    /// The disk underneath, for projection and import beside the store, and for tests that break it.
    pub fn disk_mut(&mut self) -> &mut D {
        &mut self.disk
    }

    /// Gives the lock back, and the disk.
    pub fn close(mut self) -> D {
        if let Some(lock) = self.lock.take() {
            self.disk.unlock(lock);
        }
        self.disk
    }

    /// Does the kernel hold the lock for us?
    pub fn is_locked(&self) -> bool {
        self.lock.is_some()
    }

    /// The manifest that was last read or committed; `None` before the first load, after an unknown outcome, or where there is none.
    pub fn manifest(&self) -> Option<&Manifest> {
        if let Knowledge::Known { manifest, .. } = &self.memory.knowledge { Some(manifest) } else { None }
    }

    /// A number that was never used: what the next PREPARE should take.
    pub fn next_number(&self) -> GenerationNumber {
        let used = self.memory.given_up.iter().chain(&self.memory.prepared).copied().max();
        self.last_number().max(used.unwrap_or_default()).next()
    }

    pub(crate) fn last_number(&self) -> GenerationNumber {
        match &self.memory.knowledge {
            Knowledge::Known { manifest, .. } => manifest.last_number,
            Knowledge::Lost { last_number, .. } => *last_number,
            Knowledge::Unread | Knowledge::Absent | Knowledge::Newer(_) => GenerationNumber(0),
        }
    }

    /// Replaces the manifest, durably. Two syncs.
    ///
    /// # Errors
    /// [`StoreError::Storage`]: the old one stands. [`StoreError::OutcomeUnknown`]: either may survive a crash; nothing may be sent, and every
    /// other call is refused until [`Self::load`]. [`Refusal`]s for a manifest that names what was not staged, or leaves out what it must not.
    pub fn commit(&mut self, manifest: &Manifest) -> Result<(), StoreError> {
        self.may_write()?;
        self.check_manifest(manifest)?;
        self.replace_manifest(manifest)
    }

    fn check_manifest(&self, manifest: &Manifest) -> Result<(), Refusal> {
        format::check_order(manifest).map_err(Refusal::Impossible)?;
        if manifest.last_number < self.last_number() {
            return Err(Refusal::Impossible("the last number goes back"));
        }
        for candidate in &manifest.candidates {
            let is_staged = self.memory.staged.get(&candidate.number) == Some(&candidate.digest);
            let was_named = match &self.memory.knowledge {
                Knowledge::Known { manifest, .. } => {
                    manifest.candidate(candidate.number).is_some_and(|known| known.digest == candidate.digest)
                }
                // A process goes on with what it knew, whatever the disk shows of it now.
                Knowledge::Lost { intact, .. } => {
                    let known = self.memory.last_known.as_ref().and_then(|known| known.candidate(candidate.number));
                    intact.contains(&candidate.number) || known.is_some_and(|known| known.digest == candidate.digest)
                }
                Knowledge::Unread | Knowledge::Absent | Knowledge::Newer(_) => false,
            };
            if !is_staged && !was_named {
                return Err(Refusal::NotStaged(candidate.number));
            }
        }
        // Whoever knew the manifest before it was damaged knows what he leaves out.
        if let (Knowledge::Lost { intact, .. }, None) = (&self.memory.knowledge, &self.memory.last_known) {
            let newest = intact.iter().rev().take(CANDIDATES_MAX.saturating_sub(self.memory.staged.len()));
            if let Some(left_out) = newest.copied().find(|number| manifest.candidate(*number).is_none()) {
                return Err(Refusal::LeavesOut(left_out));
            }
        }
        Ok(())
    }

    fn replace_manifest(&mut self, manifest: &Manifest) -> Result<(), StoreError> {
        let state = self.state_folder()?;
        if let Knowledge::Lost { is_present: true, .. } = self.memory.knowledge {
            self.keep_damaged_manifest(&state);
        }
        let temporary = self.write_temporary(&state, &format::encode_manifest(manifest))?;
        let path = self.path.join(MANIFEST);
        let renamed = at(self.disk.rename(&state, &temporary, MANIFEST), Operation::Rename, &path);
        match renamed {
            Ok(()) => {}
            Err(error) if is_definite(error.errno) => {
                let _ = self.disk.unlink(&state, &temporary);
                return Err(error.into());
            }
            Err(error) => return Err(self.outcome_unknown(error)),
        }
        if let Err(error) = at(self.disk.sync_folder(&state), Operation::SyncFolder, &self.path) {
            return Err(self.outcome_unknown(error));
        }
        self.memory.last_known = Some(manifest.clone());
        self.memory.knowledge = Knowledge::Known { manifest: manifest.clone(), is_durable: true };
        Ok(())
    }

    fn outcome_unknown(&mut self, error: StorageError) -> StoreError {
        self.memory.knowledge = Knowledge::Unread;
        StoreError::OutcomeUnknown(error)
    }

    /// Writes and syncs a new temporary beside the manifest; on failure it is unlinked and its name never used again.
    fn write_temporary(&mut self, state: &D::Folder, content: &[u8]) -> Result<String, StorageError> {
        let mut last = Errno::EXIST;
        for _ in 0..TEMPORARY_TRIES {
            let name = format!(".{MANIFEST}-{}.tmp", self.memory.temporaries);
            self.memory.temporaries = self.memory.temporaries.wrapping_add(1);
            let path = self.path.clone();
            match self.write_new(state, &path, &name, content) {
                Ok(()) => return Ok(name),
                Err(error) if error.operation == Operation::Create && error.errno == Errno::EXIST => {
                    last = error.errno;
                }
                Err(error) => {
                    if error.operation != Operation::Create {
                        let _ = self.disk.unlink(state, &name);
                    }
                    return Err(error);
                }
            }
        }
        Err(StorageError { operation: Operation::Create, path: self.path.join(".manifest-*.tmp"), errno: last })
    }

    /// Puts the bytes of a manifest that could not be understood aside, for people. Best effort.
    fn keep_damaged_manifest(&mut self, state: &D::Folder) {
        let Ok(bytes) = self.disk.read(state, MANIFEST, format::MANIFEST_MAX_BYTES) else { return };
        let _ = self.disk.unlink(state, DAMAGED_MANIFEST);
        if let Ok(mut file) = self.disk.create(state, DAMAGED_MANIFEST, FILE_MODE) {
            let _ = self.disk.write(&mut file, &bytes);
            let _ = self.disk.close(file);
        }
    }

    /// An empty manifest before the first generation: from now on "no manifest" beside generations is damage. Where one was only read, an earlier
    /// process may have died before its name, and that of the folder of generations, were durable: they are made so. Where it is lost, what is
    /// left is written down before a new number is used, which the lost one may know if it can be read again one day.
    pub(crate) fn make_first_manifest(&mut self) -> Result<(), StoreError> {
        let manifest = match &self.memory.knowledge {
            Knowledge::Absent => Manifest::default(),
            Knowledge::Known { manifest, is_durable: false } if manifest.candidates.is_empty() => manifest.clone(),
            Knowledge::Lost { rebuilt, .. } => self.with_what_was_known(rebuilt),
            Knowledge::Known { .. } | Knowledge::Unread | Knowledge::Newer(_) => return Ok(()),
        };
        let state = self.state_folder()?;
        // Made by an earlier process perhaps, which died before it could sync them.
        place::sync_parents(&mut self.disk, &self.path)?;
        // Before the rename, so that one sync of the state folder covers both names.
        match self.disk.make_folder(&state, GENERATIONS, FOLDER_MODE) {
            // Its name may be one that a failed sync has lost, and that no later sync writes. An empty folder is made anew.
            Err(Errno::EXIST) if self.disk.remove_folder(&state, GENERATIONS).is_ok() => {
                let answer = self.disk.make_folder(&state, GENERATIONS, FOLDER_MODE);
                at(answer, Operation::MakeFolder, &self.path.join(GENERATIONS))?;
            }
            Ok(()) | Err(Errno::EXIST) => {}
            answer => at(answer, Operation::MakeFolder, &self.path.join(GENERATIONS))?,
        }
        let lost = matches!(self.memory.knowledge, Knowledge::Lost { .. })
            .then(|| (self.memory.knowledge.clone(), self.memory.last_known.clone()));
        self.replace_manifest(&manifest)?;
        if let Some((mut knowledge, last_known)) = lost {
            // What the caller commits next is still held against what was found.
            if let Knowledge::Lost { is_present, .. } = &mut knowledge {
                *is_present = false;
            }
            (self.memory.knowledge, self.memory.last_known) = (knowledge, last_known);
        }
        Ok(())
    }

    /// A rebuilt manifest, and what this process knew before it was lost.
    fn with_what_was_known(&self, rebuilt: &Manifest) -> Manifest {
        let mut manifest = rebuilt.clone();
        let Some(known) = &self.memory.last_known else { return manifest };
        for candidate in &known.candidates {
            match manifest.candidate_mut(candidate.number) {
                Some(found) if found.digest == candidate.digest => *found = *candidate,
                Some(_) => {}
                None => manifest.candidates.push(*candidate),
            }
        }
        manifest.candidates.sort_by_key(|candidate| candidate.number);
        let surplus = manifest.candidates.len().saturating_sub(CANDIDATES_MAX);
        manifest.candidates.drain(..surplus);
        manifest.last_number = manifest.last_number.max(known.last_number);
        manifest.attempt = known.attempt;
        manifest.projection = known.projection;
        manifest
    }

    /// Before something is done because of a manifest that was only read: writes it once more, since it may be in the cache alone. A process
    /// that was killed between rename and sync, or a sync that failed, leaves it so.
    ///
    /// # Errors
    /// As [`Self::commit`]; [`Refusal::NotIntact`] where there is no whole manifest.
    pub fn make_manifest_durable(&mut self) -> Result<(), StoreError> {
        match self.memory.knowledge.clone() {
            Knowledge::Known { is_durable: true, .. } => Ok(()),
            Knowledge::Known { manifest, .. } => self.replace_manifest(&manifest),
            Knowledge::Unread | Knowledge::Absent | Knowledge::Lost { .. } | Knowledge::Newer(_) => {
                Err(Refusal::NotIntact.into())
            }
        }
    }

    pub(crate) fn newer_format(&self) -> Option<u32> {
        if let Knowledge::Newer(version) = self.memory.knowledge { Some(version) } else { None }
    }

    pub(crate) fn may_write(&self) -> Result<(), StoreError> {
        match self.memory.knowledge {
            Knowledge::Unread => Err(Refusal::MustReload.into()),
            Knowledge::Newer(version) => Err(StoreError::Newer { version }),
            Knowledge::Absent | Knowledge::Known { .. } | Knowledge::Lost { .. } => Ok(()),
        }
    }

    /// The state folder, made now if an earlier try failed.
    pub(crate) fn state_folder(&mut self) -> Result<D::Folder, StorageError> {
        if let Some(folder) = &self.state {
            return Ok(folder.clone());
        }
        let folder = place::open_or_make(&mut self.disk, &self.path)?;
        match at(self.disk.lock(&folder), Operation::Lock, &self.path) {
            Ok(lock) => self.lock = Some(lock),
            Err(error) if matches!(error.errno, Errno::NOLCK | Errno::NOSYS | Errno::OPNOTSUPP) => {}
            Err(error) => return Err(error),
        }
        self.state = Some(folder.clone());
        Ok(folder)
    }

    pub(crate) fn known_state_folder(&self) -> Option<D::Folder> {
        self.state.clone()
    }

    /// The folder of generations; `None` where it does not exist.
    pub(crate) fn open_generations(&mut self) -> Result<Option<D::Folder>, StorageError> {
        let Some(state) = self.state.clone() else { return Ok(None) };
        match self.disk.open_folder(&state, GENERATIONS) {
            Err(Errno::NOENT) => Ok(None),
            answer => Ok(Some(at(answer, Operation::Open, &self.path.join(GENERATIONS))?)),
        }
    }

    pub(crate) fn ensure_generations(&mut self) -> Result<D::Folder, StorageError> {
        if let Some(folder) = self.open_generations()? {
            return Ok(folder);
        }
        let state = self.state_folder()?;
        let path = self.path.join(GENERATIONS);
        at(self.disk.make_folder(&state, GENERATIONS, FOLDER_MODE), Operation::MakeFolder, &path)?;
        at(self.disk.sync_folder(&state), Operation::SyncFolder, &self.path)?;
        at(self.disk.open_folder(&state, GENERATIONS), Operation::Open, &path)
    }

    /// Says who we are, for the message that a second process prints. Decides nothing, so failing at it is nothing either.
    fn write_holder(&mut self, holder: &str) {
        let (Some(state), true) = (&self.state, self.lock.is_some() && !holder.is_empty()) else { return };
        let file = match self.disk.open_for_writing(state, HOLDER) {
            Err(Errno::NOENT) => self.disk.create(state, HOLDER, FILE_MODE),
            answer => answer,
        };
        if let Ok(mut file) = file {
            let _ = self.disk.set_size(&mut file, 0);
            let _ = self.disk.write(&mut file, holder.as_bytes().get(..HOLDER_MAX_BYTES).unwrap_or(holder.as_bytes()));
            let _ = self.disk.close(file);
        }
    }
}

/// Does a rename that fails so surely leave both names as they were?
fn is_definite(errno: Errno) -> bool {
    matches!(errno, Errno::NOSPC | Errno::DQUOT | Errno::ROFS | Errno::ACCESS | Errno::PERM | Errno::BUSY)
}

fn printable(text: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(text).chars().filter(|c| !c.is_control()).collect();
    if text.is_empty() { "which did not say who it is".to_owned() } else { text }
}
