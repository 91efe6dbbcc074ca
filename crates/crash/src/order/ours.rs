//! Our own order, through the store that ships, and the same with one mistake.

use std::mem;
use std::path::Path;

use lifecycle::manifest::{AttemptRecord, Candidate, Origin};
use lifecycle::{Fingerprint, GenerationNumber, KeyId, Leaf, UnixTime};
use store::disk::Disk;
use store::generation::{GenerationFiles, Keys, PrivatePem, Reservation};
use store::identity::{IdentityStore, LeafFacts, Loaded};

use super::careless::{Care, Careless};
use super::tools::{ensure_folder, open_truncated, read_named, sync_tree};
use super::{Moment, OrderError, Protocol, Result, Tell, WriteOrder};
use crate::material::{self, Role, Unusable};

/// The state folder, below the folder that an order is given.
const STATE: &str = ".exuvia/r1";
/// How many generations stay; real ones go when they have expired.
const KEPT: usize = 2;

/// Mistakes that are not the disk's: steps in the wrong order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mistake {
    /// 20303 is sent before the new generation is on the disk.
    VerifyBeforeStage,
    /// The manifest names the new generation, and 20303 is sent, before its files are synced.
    PromoteBeforeDurable,
    /// An answer to 20303 that does not come is taken for a no: the new generation is erased.
    ForgetNext,
    /// The old generation goes when the new one is staged.
    OneGeneration,
}

/// `store::identity` as the router drives it (`crates/router/src/commit.rs`), with a mistake or without.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Exuvia {
    pub(super) care: Care,
    pub(super) mistake: Option<Mistake>,
}

impl Exuvia {
    fn with_store<D: Disk + Default, T>(
        &self,
        disk: &mut D,
        dir: &Path,
        work: impl FnOnce(&mut IdentityStore<Careless<D>>) -> Result<T>,
    ) -> Result<T> {
        let careless = Careless::new(mem::take(disk), self.care);
        match IdentityStore::open(careless, &dir.join(STATE), "") {
            Err((error, careless)) => {
                *disk = careless.into_inner();
                Err(error.into())
            }
            Ok((mut store, _)) => {
                let answer = work(&mut store);
                *disk = store.close().into_inner();
                answer
            }
        }
    }

    fn renew<D: Disk>(
        &self,
        store: &mut IdentityStore<Careless<D>>,
        n: u64,
        protocol: Protocol,
        tell: Tell<'_, D>,
    ) -> Result<()> {
        let is_one_fingerprint = protocol == Protocol::OneFingerprint;
        let loaded = store.load(facts)?;
        let mut manifest = loaded.manifest().cloned().unwrap_or_default();
        if let Loaded::Intact(_) = loaded {
            // As at a start: what was only read is written once more before anything is done because of it.
            if manifest.candidates.iter().any(|candidate| candidate.first_admitted.is_none()) {
                store.make_manifest_durable()?;
            }
            store.sweep()?;
        }
        let number = store.next_number();
        manifest.last_number = number;
        manifest.attempt = Some(AttemptRecord { number, began: UnixTime::from_s(n_seconds(n)), failures: 0 });
        let files = generation(n);
        let is_late = self.mistake == Some(Mistake::PromoteBeforeDurable);
        if is_late {
            store.disk_mut().set_care(Care { skips_file_sync: true, skips_folder_sync: true, ..self.care });
        }
        store.prepare(number, &files.keys, Reservation::default())?;
        store.disk_mut().set_care(self.care);
        if let Err(error) = store.commit(&manifest) {
            let _ = store.discard(number);
            return Err(error.into());
        }
        if self.mistake == Some(Mistake::VerifyBeforeStage) && is_one_fingerprint {
            tell(store.disk().inner(), Moment::Commit(n));
        }

        if is_late {
            store.disk_mut().set_care(Care { skips_file_sync: true, skips_folder_sync: true, ..self.care });
        }
        let digest = store.stage(number, &files)?;
        store.disk_mut().set_care(self.care);
        let mut gone = Vec::new();
        if self.mistake == Some(Mistake::OneGeneration) {
            gone = manifest.candidates.drain(..).map(|candidate| candidate.number).collect();
        }
        manifest.candidates.push(Candidate {
            number,
            digest,
            client: leaf(n, Role::Client),
            server: leaf(n, Role::Server),
            origin: if loaded == Loaded::Absent { Origin::Enrolled } else { Origin::Renewed },
            verify_sent: true,
            first_admitted: None,
            staged_at: UnixTime::from_s(n_seconds(n)),
            jitter: 7,
        });
        store.commit(&manifest)?;
        store.erase(&gone)?;
        if self.mistake != Some(Mistake::VerifyBeforeStage) && is_one_fingerprint {
            tell(store.disk().inner(), Moment::Commit(n));
        }
        if is_late {
            let path = store.path().join("generations");
            let disk = store.disk_mut().inner_mut();
            let folder = disk.open_root(&path)?;
            sync_tree(disk, &folder)?;
        }
        if self.mistake == Some(Mistake::ForgetNext) && is_one_fingerprint {
            manifest.candidates.retain(|candidate| candidate.number != number);
            store.commit(&manifest)?;
            store.erase(&[number])?;
            return Err(OrderError::NoAnswer);
        }

        if let Some(candidate) = manifest.candidate_mut(number) {
            candidate.first_admitted = Some(UnixTime::from_s(n_seconds(n)));
        }
        let surplus = manifest.candidates.len().saturating_sub(KEPT);
        let gone: Vec<_> = manifest.candidates.drain(..surplus).map(|candidate| candidate.number).collect();
        store.commit(&manifest)?;
        store.erase(&gone)?;
        tell(store.disk().inner(), Moment::Done(n));
        if !is_one_fingerprint {
            tell(store.disk().inner(), Moment::Commit(n));
        }
        Ok(())
    }
}

impl<D: Disk + Default> WriteOrder<D> for Exuvia {
    fn put(&self, disk: &mut D, dir: &Path, n: u64, protocol: Protocol, tell: Tell<'_, D>) -> Result<()> {
        self.with_store(disk, dir, |store| self.renew(store, n, protocol, tell))
    }

    fn load(&self, disk: &mut D, dir: &Path) -> Result<Vec<u64>> {
        self.with_store(disk, dir, |store| {
            let loaded = store.load(facts)?;
            let found: Vec<u64> = loaded.generations().iter().filter_map(|found| whole(&found.files).ok()).collect();
            if found.is_empty() { Err(Unusable::Missing("generation").into()) } else { Ok(found) }
        })
    }
}

/// Everything of generation `n`.
pub(crate) fn generation(n: u64) -> GenerationFiles {
    GenerationFiles {
        keys: Keys { key: PrivatePem::new(material::key(n)), server_key: None },
        client: material::chain(n, n, Role::Client),
        server: material::chain(n, n, Role::Server),
        bundle: material::bundle(),
    }
}

/// Which generation these files are, if they belong together.
pub(crate) fn whole(files: &GenerationFiles) -> std::result::Result<u64, Unusable> {
    let n = material::pair(&files.client, files.keys.key.as_bytes())?;
    let server = material::pair(&files.server, files.keys.key.as_bytes())?;
    if server == n && files.bundle == material::bundle() { Ok(n) } else { Err(Unusable::Mismatch { n }) }
}

fn facts(_: GenerationNumber, files: &GenerationFiles) -> Option<LeafFacts> {
    let n = whole(files).ok()?;
    Some(LeafFacts { client: leaf(n, Role::Client), server: leaf(n, Role::Server) })
}

fn leaf(n: u64, role: Role) -> Leaf {
    let id = |kind: u8| {
        let mut id = [kind; 32];
        id.iter_mut().zip(n.to_le_bytes()).for_each(|(to, byte)| *to = byte);
        id
    };
    Leaf {
        fingerprint: Fingerprint(id(role as u8)),
        key: KeyId(id(9)),
        not_before: UnixTime::from_s(n_seconds(n)),
        not_after: UnixTime::from_s(n_seconds(n.saturating_add(3))),
    }
}

fn n_seconds(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX / 2_000_000).saturating_mul(1_000)
}

/// One set of files for ever, each truncated and rewritten with a sync: as careful as in place can be.
#[derive(Debug)]
pub(super) struct InPlace;

const IN_PLACE: &str = "identity";

impl<D: Disk + Default> WriteOrder<D> for InPlace {
    fn put(&self, disk: &mut D, dir: &Path, n: u64, protocol: Protocol, tell: Tell<'_, D>) -> Result<()> {
        let at = disk.open_root(dir)?;
        let folder = ensure_folder(disk, &at, IN_PLACE, 0o700)?;
        let files = generation(n);
        let contents: [(&str, &[u8]); 4] = [
            ("key.pem", files.keys.key.as_bytes()),
            ("client.pem", &files.client),
            ("server.pem", &files.server),
            ("bundle.pem", &files.bundle),
        ];
        for (name, content) in contents {
            let mut file = open_truncated(disk, &folder, name, 0o600)?;
            disk.write(&mut file, content)?;
            disk.sync_file(&mut file)?;
            disk.close(file)?;
        }
        disk.sync_folder(&folder)?;
        if protocol == Protocol::OneFingerprint {
            tell(disk, Moment::Commit(n));
        }
        tell(disk, Moment::Done(n));
        if protocol == Protocol::FilesOnly {
            tell(disk, Moment::Commit(n));
        }
        Ok(())
    }

    fn load(&self, disk: &mut D, dir: &Path) -> Result<Vec<u64>> {
        let at = disk.open_root(dir)?;
        let mut file = |name: &str, what| read_named(disk, &at, &format!("{IN_PLACE}/{name}"), what);
        let files = GenerationFiles {
            keys: Keys { key: PrivatePem::new(file("key.pem", "private key")?), server_key: None },
            client: file("client.pem", "certificate")?,
            server: file("server.pem", "server certificate")?,
            bundle: file("bundle.pem", "trust bundle")?,
        };
        Ok(vec![whole(&files)?])
    }
}
