//! One generation on disk: prepared, staged, read, erased. FORMAT.md sections 3 and 4.

use std::fmt;
use std::path::PathBuf;

use lifecycle::{Digest, GenerationNumber};
use zeroize::Zeroizing;

use crate::disk::{Disk, Errno, Operation, StorageError};
use crate::error::{Refusal, StoreError, condemns};
use crate::format::{self, DIGEST_MAX_BYTES, DigestRecord, FileDamage, FileRecord};
use crate::identity::{FILE_MODE, FOLDER_MODE, IdentityStore, Knowledge, at};

pub(crate) const KEY: &str = "key.pem";
pub(crate) const SERVER_KEY: &str = "server.key";
pub(crate) const CLIENT: &str = "client.pem";
pub(crate) const SERVER: &str = "server.pem";
pub(crate) const BUNDLE: &str = "bundle.pem";
pub(crate) const DIGEST: &str = "digest";

/// Longest file that is stored or read back.
pub const FILE_MAX_BYTES: usize = 1024 * 1024;

/// A private key as PEM. Never printed, wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct PrivatePem(Zeroizing<Vec<u8>>);

impl PrivatePem {
    /// Takes the bytes over.
    pub fn new(pem: Vec<u8>) -> Self {
        Self(Zeroizing::new(pem))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<Zeroizing<Vec<u8>>> for PrivatePem {
    fn from(pem: Zeroizing<Vec<u8>>) -> Self {
        Self(pem)
    }
}

impl fmt::Debug for PrivatePem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivatePem(…)")
    }
}

/// The private keys of a generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    /// Key of the client leaf, and of the server leaf unless it has its own.
    pub key: PrivatePem,
    /// The server leaf's own key; only where router.yml names `server_key`.
    pub server_key: Option<PrivatePem>,
}

/// Everything that belongs to one generation, as PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GenerationFiles {
    /// Private keys.
    pub keys: Keys,
    /// Client leaf and its intermediates.
    pub client: Vec<u8>,
    /// Server leaf and its intermediates.
    pub server: Vec<u8>,
    /// Trust anchors.
    pub bundle: Vec<u8>,
}

/// The digest that these files have as generation `number`. Pure: no disk is touched.
pub fn digest_of(number: GenerationNumber, files: &GenerationFiles) -> Digest {
    format::encode_digest(&record_of(number, files)).1
}

fn record_of(number: GenerationNumber, files: &GenerationFiles) -> DigestRecord {
    DigestRecord {
        number,
        key: FileRecord::of(files.keys.key.as_bytes()),
        client: FileRecord::of(&files.client),
        server: FileRecord::of(&files.server),
        bundle: FileRecord::of(&files.bundle),
        server_key: files.keys.server_key.as_ref().map(|key| FileRecord::of(key.as_bytes())),
    }
}

/// How much room PREPARE takes for what STAGE will write, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// For each of the two chains.
    pub chain_bytes: u64,
    /// For the trust bundle.
    pub bundle_bytes: u64,
}

impl Default for Reservation {
    fn default() -> Self {
        Self { chain_bytes: 8 * 1024, bundle_bytes: 16 * 1024 }
    }
}

/// What is wrong with a generation: which file, and how.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{}`", path.display())]
pub struct Damage {
    /// The damaged file or folder.
    pub path: PathBuf,
    /// What is wrong with it.
    #[source]
    pub found: FileDamage,
}

/// A generation that was read whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generation {
    /// Its number.
    pub number: GenerationNumber,
    /// Its digest, verified.
    pub digest: Digest,
    /// What it holds.
    pub files: GenerationFiles,
}

impl<D: Disk> IdentityStore<D> {
    /// PREPARE: makes the folder of generation `number` with its keys durable and the space for the rest taken. Three syncs.
    ///
    /// Nothing names the generation yet: [`Self::commit`] a manifest with the attempt before 20302 leaves.
    ///
    /// # Errors
    /// Whatever the disk says (a full or read-only one is ordinary here); what was made has been unlinked again as far as the disk
    /// allowed, and the number is given up.
    pub fn prepare(
        &mut self,
        number: GenerationNumber,
        keys: &Keys,
        reservation: Reservation,
    ) -> Result<(), StoreError> {
        self.may_write()?;
        if self.memory.given_up.contains(&number) {
            return Err(Refusal::GivenUp(number).into());
        }
        if number <= self.last_number() || number.0 == 0 {
            return Err(Refusal::NumberUsed(number).into());
        }
        for pem in [Some(&keys.key), keys.server_key.as_ref()].into_iter().flatten() {
            check_length(pem.as_bytes())?;
        }
        self.make_first_manifest()?;
        let generations = self.ensure_generations()?;
        let name = number.to_string();
        let path = self.generation_path(number);
        match self.disk.make_folder(&generations, &name, FOLDER_MODE) {
            Err(Errno::EXIST) => return Err(Refusal::NumberUsed(number).into()),
            answer => at(answer, Operation::MakeFolder, &path)?,
        }
        let made = self.fill_prepared(&generations, number, keys, reservation);
        if let Err(error) = made {
            self.unmake(&generations, number);
            self.memory.given_up.insert(number);
            if condemns(&error) {
                return Err(StoreError::Condemned { number, source: error });
            }
            return Err(error.into());
        }
        self.memory.prepared.insert(number);
        Ok(())
    }

    fn fill_prepared(
        &mut self,
        generations: &D::Folder,
        number: GenerationNumber,
        keys: &Keys,
        reservation: Reservation,
    ) -> Result<(), StorageError> {
        let path = self.generation_path(number);
        let folder = at(self.disk.open_folder(generations, &number.to_string()), Operation::Open, &path)?;
        self.write_new(&folder, &path, KEY, keys.key.as_bytes())?;
        if let Some(key) = &keys.server_key {
            self.write_new(&folder, &path, SERVER_KEY, key.as_bytes())?;
        }
        let rooms = [
            (CLIENT, reservation.chain_bytes),
            (SERVER, reservation.chain_bytes),
            (BUNDLE, reservation.bundle_bytes),
            (DIGEST, 256),
        ];
        for (name, room) in rooms {
            self.make_room(&folder, path.join(name), name, room)?;
        }
        at(self.disk.sync_folder(&folder), Operation::SyncFolder, &path)?;
        let path = self.path.join("generations");
        at(self.disk.sync_folder(generations), Operation::SyncFolder, &path)
    }

    /// Makes a file, writes it and syncs it through one handle.
    pub(crate) fn write_new(
        &mut self,
        folder: &D::Folder,
        path: &std::path::Path,
        name: &str,
        content: &[u8],
    ) -> Result<(), StorageError> {
        let path = path.join(name);
        let mut file = at(self.disk.create(folder, name, FILE_MODE), Operation::Create, &path)?;
        at(self.disk.write(&mut file, content), Operation::Write, &path)?;
        at(self.disk.sync_file(&mut file), Operation::SyncFile, &path)?;
        at(self.disk.close(file), Operation::Close, &path)
    }

    /// Makes an empty file that has room. Not synced: a reservation that a crash takes back is taken again by writing.
    fn make_room(
        &mut self,
        folder: &D::Folder,
        path: PathBuf,
        name: &str,
        room_bytes: u64,
    ) -> Result<(), StorageError> {
        let mut file = at(self.disk.create(folder, name, FILE_MODE), Operation::Create, &path)?;
        match self.disk.reserve(&mut file, room_bytes) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                let zeros = vec![0; usize::try_from(room_bytes).unwrap_or(FILE_MAX_BYTES).min(FILE_MAX_BYTES)];
                at(self.disk.write(&mut file, &zeros), Operation::Write, &path)?;
            }
            answer => at(answer, Operation::Reserve, &path)?,
        }
        at(self.disk.close(file), Operation::Close, &path)
    }

    /// STAGE: completes a prepared generation and reads it back. Four syncs.
    ///
    /// Also right for a generation that an earlier process prepared or filled: every byte is written and synced again. The manifest that names
    /// it has to be [committed](Self::commit) before 20303 leaves.
    ///
    /// # Errors
    /// After any error the number is given up: discard it and take a new one.
    pub fn stage(&mut self, number: GenerationNumber, files: &GenerationFiles) -> Result<Digest, StoreError> {
        self.may_write()?;
        if self.memory.given_up.contains(&number) {
            return Err(Refusal::GivenUp(number).into());
        }
        if let Knowledge::Known { manifest, .. } = &self.memory.knowledge
            && manifest.candidate(number).is_some()
        {
            return Err(Refusal::NumberUsed(number).into());
        }
        for content in [&files.client, &files.server, &files.bundle] {
            check_length(content)?;
        }
        let path = self.generation_path(number);
        let Some(generations) = self.open_generations()? else { return Err(Refusal::NotPrepared(number).into()) };
        let folder = match self.disk.open_folder(&generations, &number.to_string()) {
            Err(Errno::NOENT) => return Err(Refusal::NotPrepared(number).into()),
            answer => at(answer, Operation::Open, &path)?,
        };
        let (digest_bytes, digest) = format::encode_digest(&record_of(number, files));
        let contents =
            [(CLIENT, &files.client), (SERVER, &files.server), (BUNDLE, &files.bundle), (DIGEST, &digest_bytes)];
        if let Err(error) = self.void_digest(&folder, path.join(DIGEST)) {
            self.memory.given_up.insert(number);
            return Err(if condemns(&error) { StoreError::Condemned { number, source: error } } else { error.into() });
        }
        for (name, content) in contents {
            if let Err(error) = self.refill(&folder, path.join(name), name, content) {
                self.memory.given_up.insert(number);
                return Err(if condemns(&error) {
                    StoreError::Condemned { number, source: error }
                } else {
                    error.into()
                });
            }
        }
        match self.read_generation(number) {
            Ok(read) if read.digest == digest && read.files == *files => {
                self.memory.staged.insert(number, digest);
                Ok(digest)
            }
            _ => {
                self.memory.given_up.insert(number);
                Err(StoreError::ReadsBackDifferently { number })
            }
        }
    }

    /// A whole digest beside files that are being written anew would be taken for damage after a crash: it goes first. One that PREPARE made is
    /// empty or zeros, and costs nothing here.
    fn void_digest(&mut self, folder: &D::Folder, path: PathBuf) -> Result<(), StorageError> {
        let old = at(self.disk.read(folder, DIGEST, DIGEST_MAX_BYTES), Operation::Read, &path)?;
        if old.iter().all(|byte| *byte == 0) {
            return Ok(());
        }
        let mut file = at(self.disk.open_for_writing(folder, DIGEST), Operation::Open, &path)?;
        at(self.disk.set_size(&mut file, 0), Operation::Write, &path)?;
        at(self.disk.sync_file(&mut file), Operation::SyncFile, &path)?;
        at(self.disk.close(file), Operation::Close, &path)
    }

    /// Writes a prepared file whole. Bytes of an earlier process are cut off first: their sync may have failed, and only what is written anew
    /// is sure to be synced. Zeros are space that PREPARE took by writing, and stay until they are overwritten.
    fn refill(&mut self, folder: &D::Folder, path: PathBuf, name: &str, content: &[u8]) -> Result<(), StorageError> {
        let old = at(self.disk.read(folder, name, FILE_MAX_BYTES), Operation::Read, &path)?;
        let mut file = at(self.disk.open_for_writing(folder, name), Operation::Open, &path)?;
        if old.iter().any(|byte| *byte != 0) {
            at(self.disk.set_size(&mut file, 0), Operation::Write, &path)?;
        }
        at(self.disk.write(&mut file, content), Operation::Write, &path)?;
        if old.len() > content.len() {
            at(self.disk.set_size(&mut file, content.len() as u64), Operation::Write, &path)?;
        }
        at(self.disk.sync_file(&mut file), Operation::SyncFile, &path)?;
        at(self.disk.close(file), Operation::Close, &path)
    }

    /// Writes a generation whose files are all known already, as an import or a one-shot enrollment has them: PREPARE and STAGE in one.
    ///
    /// # Errors
    /// As [`Self::prepare`] and [`Self::stage`].
    pub fn write_generation(
        &mut self,
        number: GenerationNumber,
        files: &GenerationFiles,
    ) -> Result<Digest, StoreError> {
        let room = |content: &[u8]| content.len() as u64;
        let reservation = Reservation {
            chain_bytes: room(&files.client).max(room(&files.server)),
            bundle_bytes: room(&files.bundle),
        };
        self.prepare(number, &files.keys, reservation)?;
        self.stage(number, files)
    }

    /// Reads a generation and checks every file against its digest.
    ///
    /// # Errors
    /// Which file is damaged, and how. [`FileDamage::Empty`] of `digest` means that it is only prepared.
    pub fn read_generation(&mut self, number: GenerationNumber) -> Result<Generation, Damage> {
        let path = self.generation_path(number);
        let folder = self.open_generation(number)?;
        let digest_bytes = self.read_file(&folder, &path, DIGEST, DIGEST_MAX_BYTES)?;
        let damaged = |name: &str, found| Damage { path: path.join(name), found };
        let (record, digest) = format::decode_digest(&digest_bytes).map_err(|found| damaged(DIGEST, found))?;
        if record.number != number {
            return Err(damaged(DIGEST, FileDamage::Mismatch));
        }
        let mut read = |name: &str, record: &FileRecord| {
            let content = self.read_file(&folder, &path, name, FILE_MAX_BYTES)?;
            if FileRecord::of(&content) == *record { Ok(content) } else { Err(damaged(name, FileDamage::Mismatch)) }
        };
        let key = read(KEY, &record.key)?;
        let server_key = record.server_key.map(|record| read(SERVER_KEY, &record)).transpose()?;
        let files = GenerationFiles {
            keys: Keys { key: key.into(), server_key: server_key.map(PrivatePem::from) },
            client: read(CLIENT, &record.client)?.to_vec(),
            server: read(SERVER, &record.server)?.to_vec(),
            bundle: read(BUNDLE, &record.bundle)?.to_vec(),
        };
        Ok(Generation { number, digest, files })
    }

    /// Reads only the keys of a generation, as a prepared one has nothing else.
    ///
    /// # Errors
    /// Which file is damaged, and how.
    pub fn read_keys(&mut self, number: GenerationNumber) -> Result<Keys, Damage> {
        let path = self.generation_path(number);
        let folder = self.open_generation(number)?;
        let key = self.read_file(&folder, &path, KEY, FILE_MAX_BYTES)?;
        if key.is_empty() {
            return Err(Damage { path: path.join(KEY), found: FileDamage::Empty });
        }
        let server_key = match self.read_file(&folder, &path, SERVER_KEY, FILE_MAX_BYTES) {
            Ok(key) => Some(key.into()),
            Err(Damage { found: FileDamage::Missing, .. }) => None,
            Err(damage) => return Err(damage),
        };
        Ok(Keys { key: key.into(), server_key })
    }

    fn open_generation(&mut self, number: GenerationNumber) -> Result<D::Folder, Damage> {
        let path = self.generation_path(number);
        let unreadable = |errno| Damage {
            path: path.clone(),
            found: if errno == Errno::NOENT { FileDamage::Missing } else { FileDamage::Unreadable(errno) },
        };
        let generations = self.open_generations().map_err(|error| unreadable(error.errno))?;
        let generations = generations.ok_or_else(|| unreadable(Errno::NOENT))?;
        self.disk.open_folder(&generations, &number.to_string()).map_err(unreadable)
    }

    fn read_file(
        &mut self,
        folder: &D::Folder,
        path: &std::path::Path,
        name: &str,
        most_bytes: usize,
    ) -> Result<Zeroizing<Vec<u8>>, Damage> {
        self.disk.read(folder, name, most_bytes).map_err(|errno| Damage {
            path: path.join(name),
            found: if errno == Errno::NOENT { FileDamage::Missing } else { FileDamage::Unreadable(errno) },
        })
    }

    /// RETIRE: unlinks generations that the durable manifest does not name. One sync for all of them.
    ///
    /// # Errors
    /// [`Refusal::StillCandidate`] if one is named. After a disk's error the rest was tried all the same; what is left is swept at the next start.
    pub fn erase(&mut self, numbers: &[GenerationNumber]) -> Result<(), StoreError> {
        self.may_write()?;
        let Knowledge::Known { manifest, .. } = &self.memory.knowledge else { return Err(Refusal::NotIntact.into()) };
        if let Some(number) = numbers.iter().find(|number| manifest.candidate(**number).is_some()) {
            return Err(Refusal::StillCandidate(*number).into());
        }
        let Some(generations) = self.open_generations()? else { return Ok(()) };
        if numbers.is_empty() {
            return Ok(());
        }
        self.make_manifest_durable()?;
        let mut outcome = Ok(());
        for number in numbers {
            outcome = outcome.and(self.unlink_generation(&generations, *number));
            self.memory.staged.remove(number);
            self.memory.prepared.remove(number);
        }
        let path = self.path.join("generations");
        let synced = at(self.disk.sync_folder(&generations), Operation::SyncFolder, &path);
        Ok(outcome.and(synced)?)
    }

    /// Gives up a prepared or staged generation that no manifest names as a candidate. Its number is never used again.
    ///
    /// # Errors
    /// As [`Self::erase`].
    pub fn discard(&mut self, number: GenerationNumber) -> Result<(), StoreError> {
        self.memory.given_up.insert(number);
        self.erase(&[number])
    }

    /// Removes a generation's names, the key's first. A folder that is already gone is fine.
    pub(crate) fn unlink_generation(
        &mut self,
        generations: &D::Folder,
        number: GenerationNumber,
    ) -> Result<(), StorageError> {
        let path = self.generation_path(number);
        let folder = match self.disk.open_folder(generations, &number.to_string()) {
            Err(Errno::NOENT) => return Ok(()),
            answer => at(answer, Operation::Open, &path)?,
        };
        for name in [KEY, SERVER_KEY, DIGEST, CLIENT, SERVER, BUNDLE] {
            match self.disk.unlink(&folder, name) {
                Err(Errno::NOENT) => {}
                answer => at(answer, Operation::Unlink, &path.join(name))?,
            }
        }
        at(self.disk.remove_folder(generations, &number.to_string()), Operation::RemoveFolder, &path)
    }

    /// Takes back what a failed PREPARE made. What cannot be unlinked now is swept at the next start; no manifest names it.
    fn unmake(&mut self, generations: &D::Folder, number: GenerationNumber) {
        let _ = self.unlink_generation(generations, number);
    }

    pub(crate) fn generation_path(&self, number: GenerationNumber) -> PathBuf {
        self.path.join("generations").join(number.to_string())
    }
}

fn check_length(content: &[u8]) -> Result<(), Refusal> {
    if content.len() > FILE_MAX_BYTES { Err(Refusal::TooLong(content.len())) } else { Ok(()) }
}
