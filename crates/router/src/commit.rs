//! What barriers mean on this disk, and every generation in memory.
//!
//! [`Custody`] owns the store. [`Custody::commit`] passes one barrier; everything it needs beyond the barrier itself (keys,
//! certificates that arrived) was laid down here before the machine was asked. Generations stay in memory too, so that a
//! disk that fails for ever takes nothing away while the process lives.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lifecycle::manifest::Manifest;
use lifecycle::recovery::Found;
use lifecycle::renewal::{Barrier, Issued, Storage, StorageTrouble};
use lifecycle::{Digest, GenerationNumber, RouterId};
use net::credentials::{CredentialParts, Credentials, CredentialsError};
use pki::{Chain, ChainError, KeyError, KeyKind, PrivateKey, TrustBundle};
use store::disk::{Disk, RealDisk};
use store::generation::{Damage, GenerationFiles, Keys, PrivatePem, Reservation, digest_of};
use store::identity::{IdentityStore, LeafFacts, Loaded};
use store::{Refusal, StoreError};

use crate::config::Rekey;

/// Why a barrier was not passed.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The disk.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// New keys cannot be made, or old ones not be written.
    #[error("the keys of the next generation cannot be made")]
    Key(#[from] KeyError),
    /// What is left of the store is for a person to look at; nothing is written over it.
    #[error("the identity store is damaged, and nothing in it can be used")]
    Damaged,
    /// The machine asked for something that never arrived here.
    #[error("nothing is at hand for generation `{0}`")]
    NothingAtHand(GenerationNumber),
}

impl CommitError {
    /// What the machine needs to know about it.
    pub(crate) fn trouble(&self) -> StorageTrouble {
        match self {
            Self::Store(error) if error.is_full() => StorageTrouble::Full,
            Self::Store(error) if error.is_read_only() => StorageTrouble::ReadOnly,
            Self::Store(_) | Self::Key(_) | Self::Damaged | Self::NothingAtHand(_) => StorageTrouble::Broken,
        }
    }

    /// What a person can do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Store(error) => error.hint(),
            Self::Damaged => "restore the state folder from a backup, or move it away and start again",
            Self::Key(_) | Self::NothingAtHand(_) => "this is a defect of this program; please report it",
        }
    }
}

/// Why a generation's files are of no use.
#[derive(Debug, thiserror::Error)]
pub enum UnusableFiles {
    /// A key file.
    #[error("the private key cannot be read")]
    Key(#[from] KeyError),
    /// A certificate file.
    #[error("the certificates cannot be read")]
    Chain(#[from] ChainError),
    /// They do not belong together.
    #[error("the files do not belong together")]
    Credentials(#[from] CredentialsError),
}

/// One whole generation in memory.
#[derive(Clone, Debug)]
pub struct Whole {
    /// Its files.
    pub files: Arc<GenerationFiles>,
    /// The same, ready for TLS.
    pub credentials: Arc<Credentials>,
}

impl Whole {
    /// Checks that the files make a generation.
    ///
    /// # Errors
    /// When a file cannot be read, or belongs to another generation.
    pub fn new(number: GenerationNumber, files: GenerationFiles) -> Result<Self, UnusableFiles> {
        let client = Chain::from_pem(&files.client)?;
        let server = Chain::from_pem(&files.server)?;
        let bundle = TrustBundle::from_pem(&files.bundle)?;
        let key = PrivateKey::from_pem(files.keys.key.as_bytes())?;
        let own = files.keys.server_key.as_ref().map(|pem| PrivateKey::from_pem(pem.as_bytes())).transpose()?;
        let credentials = Credentials::new(CredentialParts {
            generation: number,
            client: &client,
            client_key: &key,
            server: &server,
            server_key: own.as_ref().unwrap_or(&key),
            bundle: &bundle,
        })?;
        Ok(Self { files: Arc::new(files), credentials: Arc::new(credentials) })
    }

    /// What the machine calls this.
    pub fn issued(&self, digest: Digest) -> Issued {
        Issued { client: *self.credentials.client_leaf(), server: *self.credentials.server_leaf(), digest }
    }
}

/// The keys of a generation whose leaves are awaited.
#[derive(Debug)]
pub struct PreparedKeys {
    /// The generation that they will belong to.
    pub number: GenerationNumber,
    /// As they are stored.
    pub stored: Keys,
    /// Signs the client request.
    pub client: Arc<PrivateKey>,
    /// Signs the server request; often the same.
    pub server: Arc<PrivateKey>,
}

impl PreparedKeys {
    fn read(number: GenerationNumber, stored: Keys) -> Result<Self, KeyError> {
        let client = Arc::new(PrivateKey::from_pem(stored.key.as_bytes())?);
        let server = match &stored.server_key {
            Some(own) => Arc::new(PrivateKey::from_pem(own.as_bytes())?),
            None => client.clone(),
        };
        Ok(Self { number, stored, client, server })
    }
}

/// How generations are made here.
#[derive(Clone, Copy, Debug)]
pub struct Making {
    /// New keys or the old ones.
    pub rekey: Rekey,
    /// Does anybody else read the configured paths?
    pub is_projected: bool,
    /// Does the server leaf have a key of its own?
    pub has_server_key: bool,
}

impl Making {
    fn keeps_keys(self) -> bool {
        match self.rekey {
            Rekey::Always => false,
            Rekey::Never => true,
            // Where others read the files, every mixture of old and new ones must load.
            Rekey::Auto => self.is_projected,
        }
    }
}

/// The store, and all that belongs into it. The disk is a parameter for the sake of one test, which holds the crash explorer's scripts to this code.
#[derive(Debug)]
pub struct Custody<D: Disk = RealDisk> {
    store: IdentityStore<D>,
    making: Making,
    whole: BTreeMap<GenerationNumber, Whole>,
    prepared: Option<PreparedKeys>,
    /// Certificates that arrived for the prepared keys, until STAGE.
    arrived: Option<(GenerationNumber, GenerationFiles)>,
    /// A generation that somebody else laid down, until the machine has decided.
    foreign: Option<GenerationFiles>,
    /// The identity lies at the configured paths only: nothing of ours could be written yet. What would be written.
    borrowed: Option<Manifest>,
    damage: Vec<String>,
}

impl<D: Disk> Custody<D> {
    /// Of an open store that was not read yet.
    pub fn new(store: IdentityStore<D>, making: Making) -> Self {
        Self {
            store,
            making,
            whole: BTreeMap::new(),
            prepared: None,
            arrived: None,
            foreign: None,
            borrowed: None,
            damage: Vec::new(),
        }
    }

    /// How generations are made here.
    pub fn making(&self) -> Making {
        self.making
    }

    /// The store underneath.
    pub fn store(&self) -> &IdentityStore<D> {
        &self.store
    }

    /// The store underneath, for projection and import beside it.
    pub fn store_mut(&mut self) -> &mut IdentityStore<D> {
        &mut self.store
    }

    /// Gives the lock back.
    pub fn close(self) {
        self.store.close();
    }

    /// What is wrong with the store, in sentences; empty when it is intact.
    pub fn damage(&self) -> &[String] {
        &self.damage
    }

    /// Reads the disk. What is already in memory and still named stays usable even if its files have gone bad since.
    ///
    /// # Errors
    /// When the disk cannot be read at all.
    pub fn load(&mut self, storage: Storage) -> Result<Found, StoreError> {
        let loaded = self.store.load(leaf_facts)?;
        self.damage = loaded.damage().iter().map(describe_damage).collect();
        let mut manifest = loaded.manifest().cloned().unwrap_or_default();
        let mut whole = BTreeMap::new();
        for generation in loaded.generations() {
            match Whole::new(generation.number, generation.files.clone()) {
                Ok(read) => drop(whole.insert(generation.number, read)),
                Err(error) => {
                    let number = generation.number;
                    self.damage.push(format!("generation {number}: {}", chain_text(&error)));
                    // Its bytes are what was once staged, so it stays a candidate on disk; it cannot be shown to anybody.
                }
            }
        }
        let remembered = std::mem::take(&mut self.whole);
        if let (true, Some(borrowed)) = (manifest.candidates.is_empty(), &self.borrowed) {
            manifest = borrowed.clone();
            whole.extend(remembered);
        } else if let Some(named) = self.store.manifest() {
            for candidate in &named.candidates {
                let number = candidate.number;
                let known = remembered.get(&number).filter(|known| digest_of(number, &known.files) == candidate.digest);
                if let (false, Some(known)) = (whole.contains_key(&number), known) {
                    whole.insert(number, known.clone());
                    if manifest.candidate(number).is_none() {
                        manifest.candidates.push(*candidate);
                        manifest.candidates.sort_by_key(|candidate| candidate.number);
                    }
                }
            }
        }
        self.whole = whole;
        self.prepared = None;
        if let Some(found) = loaded.prepared() {
            match PreparedKeys::read(found.number, found.keys.clone()) {
                Ok(keys) => self.prepared = Some(keys),
                Err(error) => self.damage.push(format!("keys of generation {}: {}", found.number, chain_text(&error))),
            }
        }
        let prepared = self.prepared.as_ref().map(|keys| keys.number);
        let storage = if matches!(loaded, Loaded::Newer(_)) { Storage::ReadOnly } else { storage };
        Ok(Found { manifest, prepared, storage })
    }

    /// Makes sure that what [`Self::load`] found survives a power cut, before anything is shown or sent because of it. Reading tells
    /// what is in the cache; a generation that was once admitted was durable before that.
    ///
    /// # Errors
    /// When that is not certain.
    pub fn make_durable(&mut self) -> Result<(), CommitError> {
        let is_proven = |manifest: &Manifest| manifest.candidates.iter().all(|known| known.first_admitted.is_some());
        match self.store.manifest() {
            Some(manifest) if !is_proven(manifest) => Ok(self.store.make_manifest_durable()?),
            Some(_) | None => Ok(()),
        }
    }

    /// Uses an identity that cannot be stored here yet: read-only, or no room. It is adopted with the first write that works.
    pub fn borrow_identity(&mut self, files: GenerationFiles) -> Result<Manifest, UnusableFiles> {
        let number = self.store.next_number();
        let whole = Whole::new(number, files)?;
        let manifest = borrowed_manifest(number, &whole);
        self.borrowed = Some(manifest.clone());
        self.whole.insert(number, whole);
        Ok(manifest)
    }

    /// Is the identity only at the configured paths?
    pub fn is_borrowed(&self) -> bool {
        self.borrowed.is_some()
    }

    /// Makes what the barrier asks for durable.
    ///
    /// # Errors
    /// When it is not certain to be durable.
    pub fn commit(&mut self, barrier: Barrier) -> Result<(), CommitError> {
        if self.borrowed.is_some() {
            return self.commit_borrowed(barrier);
        }
        match barrier {
            Barrier::Prepare { number, manifest } => self.prepare(number, &manifest),
            Barrier::Stage { number, manifest } => self.stage(number, &manifest),
            Barrier::Import { number, manifest } => self.import(number, &manifest),
            Barrier::Manifest(manifest) => Ok(self.store.commit(&manifest)?),
        }
    }

    fn prepare(&mut self, number: GenerationNumber, manifest: &Manifest) -> Result<(), CommitError> {
        let keys = match self.prepared.take() {
            // Laid down beforehand, as an adoption does.
            Some(keys) if keys.number == number => keys,
            Some(_) | None => self.keys_for(number, manifest)?,
        };
        self.arrived = None;
        self.store.prepare(number, &keys.stored, Reservation::default())?;
        if let Err(error) = self.store.commit(manifest) {
            // Nothing names it; what stays behind after a second failure is swept at the next start.
            let _ = self.store.discard(number);
            return Err(error.into());
        }
        self.prepared = Some(keys);
        Ok(())
    }

    fn keys_for(&self, number: GenerationNumber, manifest: &Manifest) -> Result<PreparedKeys, CommitError> {
        let served = manifest.default_candidate().and_then(|candidate| self.whole.get(&candidate.number));
        if let Some(old) = served.filter(|_| self.making.keeps_keys()) {
            return Ok(PreparedKeys::read(number, old.files.keys.clone())?);
        }
        let make = || -> Result<PrivatePem, KeyError> {
            Ok(PrivatePem::new(PrivateKey::generate(KeyKind::P256)?.to_pem()?.as_bytes().to_vec()))
        };
        let key = make()?;
        let server_key = if self.making.has_server_key { Some(make()?) } else { None };
        Ok(PreparedKeys::read(number, Keys { key, server_key })?)
    }

    fn stage(&mut self, number: GenerationNumber, manifest: &Manifest) -> Result<(), CommitError> {
        let arrived = self.arrived.take().filter(|(of, _)| *of == number);
        let Some((_, files)) = arrived else { return Err(CommitError::NothingAtHand(number)) };
        let whole = Whole::new(number, files).map_err(|_| CommitError::NothingAtHand(number))?;
        self.store.stage(number, &whole.files)?;
        self.store.commit(manifest)?;
        self.whole.insert(number, whole);
        self.prepared = None;
        Ok(())
    }

    fn import(&mut self, number: GenerationNumber, manifest: &Manifest) -> Result<(), CommitError> {
        let Some(files) = self.foreign.take() else { return Err(CommitError::NothingAtHand(number)) };
        let whole = Whole::new(number, files).map_err(|_| CommitError::NothingAtHand(number))?;
        self.store.write_generation(number, &whole.files)?;
        self.store.commit(manifest)?;
        self.whole.insert(number, whole);
        Ok(())
    }

    /// Adopts the borrowed identity first. As long as that fails nothing on disk can contradict a manifest that is only in
    /// memory, and nothing but the configured paths will be found by a restart.
    fn commit_borrowed(&mut self, barrier: Barrier) -> Result<(), CommitError> {
        match self.adopt() {
            Ok(()) => self.commit(barrier),
            Err(error) => match barrier {
                Barrier::Manifest(manifest) => {
                    self.borrowed = Some(manifest);
                    Ok(())
                }
                Barrier::Import { number, manifest } => {
                    let Some(files) = self.foreign.take() else { return Err(CommitError::NothingAtHand(number)) };
                    let whole = Whole::new(number, files).map_err(|_| CommitError::NothingAtHand(number))?;
                    self.whole.insert(number, whole);
                    self.borrowed = Some(manifest);
                    Ok(())
                }
                Barrier::Prepare { .. } | Barrier::Stage { .. } => Err(error),
            },
        }
    }

    /// Writes the borrowed identity, if there is one.
    ///
    /// # Errors
    /// When it cannot be written yet; it stays borrowed.
    pub fn adopt(&mut self) -> Result<(), CommitError> {
        let Some(manifest) = self.borrowed.clone() else { return Ok(()) };
        if !self.damage.is_empty() {
            return Err(CommitError::Damaged);
        }
        for candidate in &manifest.candidates {
            let number = candidate.number;
            let Some(whole) = self.whole.get(&number) else { return Err(CommitError::NothingAtHand(number)) };
            match self.store.write_generation(number, &whole.files) {
                // Written by an earlier call that got no further than this.
                Ok(_) | Err(StoreError::Refused(Refusal::NumberUsed(_))) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.store.commit(&manifest)?;
        self.borrowed = None;
        Ok(())
    }

    /// Unlinks generations that no manifest names.
    pub fn erase(&mut self, numbers: &[GenerationNumber]) -> Result<(), StoreError> {
        for number in numbers {
            self.whole.remove(number);
            if self.prepared.as_ref().is_some_and(|keys| keys.number == *number) {
                self.prepared = None;
            }
        }
        self.store.erase(numbers)
    }

    /// A generation in memory.
    pub fn whole(&self, number: GenerationNumber) -> Option<&Whole> {
        self.whole.get(&number)
    }

    /// Does a generation, or an attempt, hold exactly this key file?
    pub(crate) fn holds_key(&self, text: &[u8]) -> bool {
        let stored = self.whole.values().map(|whole| &whole.files.keys);
        stored
            .chain(self.prepared.iter().map(|keys| &keys.stored))
            .flat_map(|keys| [Some(&keys.key), keys.server_key.as_ref()])
            .flatten()
            .any(|key| key.as_bytes() == text)
    }

    /// Which generations are in memory, whole.
    pub(crate) fn at_hand(&self) -> BTreeSet<GenerationNumber> {
        self.whole.keys().copied().collect()
    }

    /// Lays down a whole generation that did not come through a renewal.
    pub fn keep_whole(&mut self, number: GenerationNumber, whole: Whole) {
        self.whole.insert(number, whole);
    }

    /// The keys of the attempt, if there is one.
    pub fn prepared(&self) -> Option<&PreparedKeys> {
        self.prepared.as_ref()
    }

    /// Are the prepared keys those of an earlier generation, as a renewal takes them over where the files are projected?
    pub fn prepared_keys_are_old(&self) -> bool {
        let prepared = self.prepared.as_ref().map(|keys| keys.stored.key.as_bytes());
        self.whole.values().any(|whole| Some(whole.files.keys.key.as_bytes()) == prepared)
    }

    /// Lays down keys for the next PREPARE of `number`, which would otherwise make or copy some.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn bring_keys(&mut self, number: GenerationNumber, keys: Keys) -> Result<(), KeyError> {
        self.prepared = Some(PreparedKeys::read(number, keys)?);
        Ok(())
    }

    /// Lays down certificates that arrived for the prepared keys, until STAGE, and says what they amount to.
    ///
    /// # Errors
    /// When nothing was prepared under this number.
    pub fn lay_down(
        &mut self,
        number: GenerationNumber,
        issued: &pki::Issued,
        client_pem: &[u8],
        server_pem: &[u8],
        bundle_pem: &[u8],
    ) -> Result<Issued, CommitError> {
        let keys = self.prepared.as_ref().filter(|keys| keys.number == number);
        let keys = keys.ok_or(CommitError::NothingAtHand(number))?;
        let files = GenerationFiles {
            keys: keys.stored.clone(),
            // Byte for byte: 20303 must repeat the client chain as it came.
            client: client_pem.to_vec(),
            server: server_pem.to_vec(),
            bundle: bundle_pem.to_vec(),
        };
        let digest = digest_of(number, &files);
        self.arrived = Some((number, files));
        Ok(Issued { client: issued.client_leaf(), server: issued.server_leaf(), digest })
    }

    /// Lays down a generation that somebody else put at the configured paths, until the machine has decided. `number` is what
    /// it would get.
    ///
    /// # Errors
    /// When the files make no generation.
    pub fn lay_down_foreign(
        &mut self,
        number: GenerationNumber,
        files: GenerationFiles,
    ) -> Result<Issued, UnusableFiles> {
        let digest = digest_of(number, &files);
        let whole = Whole::new(number, files.clone())?;
        self.foreign = Some(files);
        Ok(whole.issued(digest))
    }
}

fn borrowed_manifest(number: GenerationNumber, whole: &Whole) -> Manifest {
    let issued = whole.issued(digest_of(number, &whole.files));
    let now = crate::clock::now();
    let step = lifecycle::enrollment::finish(now, Manifest::default(), number, issued);
    // Nothing of it is visible before `Custody::adopt` has written it.
    let (_, held) = step.split();
    held.release(lifecycle::Durable::after_commit())
}

/// For a store whose manifest is lost: the facts that it held.
fn leaf_facts(_: GenerationNumber, files: &GenerationFiles) -> Option<LeafFacts> {
    let client = Chain::from_pem(&files.client).ok()?;
    let server = Chain::from_pem(&files.server).ok()?;
    Some(LeafFacts { client: client.leaf().facts(), server: server.leaf().facts() })
}

/// The router's id as the client leaf of these files says it.
pub fn router_of(client_pem: &[u8]) -> Option<RouterId> {
    Chain::from_pem(client_pem).ok()?.leaf().cn().map(RouterId::new)
}

fn describe_damage(damage: &Damage) -> String {
    chain_text(damage)
}

/// An error and all its causes in one line.
pub(crate) fn chain_text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        // Transparent errors repeat their source.
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        source = cause.source();
    }
    text
}

/// The store refuses to write until it is read again.
pub(crate) fn must_reload(error: &CommitError) -> bool {
    matches!(error, CommitError::Store(StoreError::OutcomeUnknown(_) | StoreError::Refused(Refusal::MustReload)))
}
