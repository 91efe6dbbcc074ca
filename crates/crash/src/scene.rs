//! One router's store on a simulated disk: what it holds, what the world outside has been shown, and what a start must find.

use std::collections::BTreeSet;
use std::path::Path;

use lifecycle::manifest::{AttemptRecord, Candidate, Manifest, Origin};
use lifecycle::{Digest, Fingerprint, GenerationNumber, KeyId, Leaf, UnixTime};
use store::StoreError;
use store::disk::{CrashModel, SimDisk};
use store::generation::{GenerationFiles, Keys, PrivatePem, Reservation};
use store::identity::{IdentityStore, LeafFacts, Loaded};

/// The state folder.
pub(crate) const STATE: &str = "/etc/ziti/.exuvia/r1";
/// What exists before the store does.
pub(crate) const HOME: &str = "/etc/ziti";
/// Names in an empty store: itself, `generations`, the manifest, a damaged one kept for people.
const NAMES_OF_A_STORE: usize = 4;
/// Names of one generation, its folder included, without a server key.
const NAMES_OF_A_GENERATION: usize = 6;
/// A renewal keeps so many generations, as a router does when older ones have expired.
const KEPT: usize = 3;

/// What generations are made of in a scene.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Making {
    /// The server leaf has a key of its own.
    pub(crate) has_server_key: bool,
    /// How much room is reserved for a chain, and twice that for the bundle.
    pub(crate) room_bytes: u64,
}

impl Making {
    pub(crate) fn keys(self, n: u64) -> Keys {
        let key = PrivatePem::new(format!("not a key, only number {n}\n").into_bytes());
        let own = || PrivatePem::new(format!("not a server's key, only number {n}\n").into_bytes());
        Keys { key, server_key: self.has_server_key.then(own) }
    }

    pub(crate) fn files(self, n: u64) -> GenerationFiles {
        GenerationFiles {
            keys: self.keys(n),
            client: format!("client chain {n}\n").into_bytes(),
            server: format!("server chain {n}\n").into_bytes(),
            // More than a sector, so that it can tear.
            bundle: format!("trust anchor {n}\n").repeat(40).into_bytes(),
        }
    }

    fn reservation(self) -> Reservation {
        Reservation { chain_bytes: self.room_bytes, bundle_bytes: self.room_bytes * 2 }
    }
}

pub(crate) fn number(n: u64) -> GenerationNumber {
    GenerationNumber(n)
}

fn leaf(n: u64, role: u8) -> Leaf {
    let mut fingerprint = [role; 32];
    fingerprint.iter_mut().zip(n.to_le_bytes()).for_each(|(to, byte)| *to = byte);
    let at = |n: u64| UnixTime::from_s(i64::try_from(n).unwrap_or(0) * 1_000_000);
    Leaf {
        fingerprint: Fingerprint(fingerprint),
        key: KeyId(fingerprint),
        not_before: at(n),
        not_after: at(n.saturating_add(3)),
    }
}

pub(crate) fn candidate(n: u64, digest: Digest, origin: Origin) -> Candidate {
    Candidate {
        number: number(n),
        digest,
        client: leaf(n, 0),
        server: leaf(n, 1),
        origin,
        verify_sent: true,
        first_admitted: None,
        staged_at: UnixTime::from_s(5),
        jitter: 7,
    }
}

/// What the world outside has been shown, and so may rely on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Shown {
    /// Generations that a controller may admit, and that the router has not begun to drop.
    pub(crate) needed: BTreeSet<u64>,
    /// 20302 left for this one: its keys must be there.
    pub(crate) requested: Option<u64>,
    /// Highest number that was shown to anybody.
    pub(crate) highest: u64,
}

/// A process that works on the store, and what it has shown by when.
#[derive(Debug)]
pub(crate) struct Actor {
    pub(crate) store: IdentityStore<SimDisk>,
    pub(crate) making: Making,
    /// What it goes on with: as it was loaded, and as it was committed since.
    pub(crate) manifest: Manifest,
    pub(crate) shown: Shown,
    pub(crate) log: Vec<(u64, Shown)>,
}

/// What happened, operation by operation.
#[derive(Debug)]
pub(crate) struct Run {
    /// The disk at the end, with its history.
    pub(crate) disk: SimDisk,
    pub(crate) log: Vec<(u64, Shown)>,
    /// The process found "nothing here" on a disk that holds something, or broke another claim while it lived.
    pub(crate) claim: Result<(), String>,
}

impl Run {
    /// What had been shown before this operation.
    pub(crate) fn shown_before(&self, operation: u64) -> Shown {
        self.log.iter().rev().find(|(at, _)| *at <= operation).map(|(_, shown)| shown.clone()).unwrap_or_default()
    }

    pub(crate) fn shown_last(&self) -> Shown {
        self.shown_before(u64::MAX)
    }
}

impl Actor {
    /// Starts a process on the disk.
    #[expect(clippy::result_large_err, reason = "the disk is handed back")]
    pub(crate) fn start(disk: SimDisk, making: Making, shown: &Shown) -> Result<Self, (StoreError, SimDisk)> {
        let (store, _) = IdentityStore::open(disk, Path::new(STATE), "")?;
        Ok(Self { store, making, manifest: Manifest::default(), shown: shown.clone(), log: vec![(0, shown.clone())] })
    }

    pub(crate) fn load(&mut self) -> Result<Loaded, StoreError> {
        let making = self.making;
        let loaded = self.store.load(|number, found| {
            (*found == making.files(number.0))
                .then(|| LeafFacts { client: leaf(number.0, 0), server: leaf(number.0, 1) })
        })?;
        self.manifest = loaded.manifest().cloned().unwrap_or_default();
        Ok(loaded)
    }

    /// Replaces the manifest, and goes on with it.
    pub(crate) fn commit(&mut self, manifest: Manifest) -> Result<(), StoreError> {
        self.store.commit(&manifest)?;
        self.manifest = manifest;
        Ok(())
    }

    /// Writes down that this is visible outside from now on.
    pub(crate) fn show(&mut self, change: impl FnOnce(&mut Shown)) {
        change(&mut self.shown);
        self.log.push((self.store.disk().operations(), self.shown.clone()));
    }

    /// PREPARE and its manifest: 20302 may leave.
    pub(crate) fn prepare(&mut self, n: u64) -> Result<(), StoreError> {
        let mut manifest = self.manifest.clone();
        manifest.last_number = number(n);
        manifest.attempt = Some(AttemptRecord { number: number(n), began: UnixTime::from_s(5), failures: 0 });
        self.store.prepare(number(n), &self.making.keys(n), self.making.reservation())?;
        if let Err(error) = self.commit(manifest) {
            let _ = self.store.discard(number(n));
            return Err(error);
        }
        self.show(|shown| {
            shown.requested = Some(n);
            shown.highest = shown.highest.max(n);
        });
        Ok(())
    }

    /// STAGE and its manifest: 20303 may leave.
    pub(crate) fn stage(&mut self, n: u64) -> Result<(), StoreError> {
        let mut manifest = self.manifest.clone();
        let digest = self.store.stage(number(n), &self.making.files(n))?;
        manifest.candidates.push(candidate(n, digest, Origin::Renewed));
        self.commit(manifest)?;
        self.show(|shown| {
            shown.requested = None;
            shown.needed.insert(n);
        });
        Ok(())
    }

    /// PROMOTE, and RETIRE of `dropped`: these need not survive from now on.
    pub(crate) fn promote(&mut self, n: u64, dropped: &[u64]) -> Result<(), StoreError> {
        let mut manifest = self.manifest.clone();
        if let Some(candidate) = manifest.candidate_mut(number(n)) {
            candidate.first_admitted = Some(UnixTime::from_s(9));
        }
        manifest.candidates.retain(|candidate| !dropped.contains(&candidate.number.0));
        self.show(|shown| shown.needed.retain(|n| !dropped.contains(n)));
        self.commit(manifest)?;
        let dropped: Vec<_> = dropped.iter().copied().map(number).collect();
        self.store.erase(&dropped)
    }

    /// One renewal.
    pub(crate) fn renew(&mut self, n: u64, dropped: &[u64]) -> Result<(), StoreError> {
        self.prepare(n)?;
        self.stage(n)?;
        self.promote(n, dropped)
    }

    /// The next renewal, whatever its number is; keeps the newest generations.
    pub(crate) fn renew_next(&mut self) -> Result<(), StoreError> {
        let n = self.store.next_number().0;
        if self.shown.requested.is_some() {
            self.show(|shown| shown.requested = None);
        }
        let mut numbers: Vec<u64> = self
            .store
            .manifest()
            .map_or(Vec::new(), |manifest| manifest.candidates.iter().map(|candidate| candidate.number.0).collect());
        numbers.truncate((numbers.len() + 1).saturating_sub(KEPT));
        self.renew(n, &numbers)
    }

    /// What a start does before it renews: [`Self::load`] told that something is there.
    pub(crate) fn settle(&mut self) -> Result<(), StoreError> {
        let is_proven =
            |manifest: &Manifest| manifest.candidates.iter().all(|candidate| candidate.first_admitted.is_some());
        if self.store.manifest().is_some_and(|manifest| !is_proven(manifest)) {
            self.store.make_manifest_durable()?;
        }
        self.store.sweep().map(|_| ())
    }

    pub(crate) fn end(self, claim: Result<(), String>) -> Run {
        Run { disk: self.store.close(), log: self.log, claim }
    }
}

impl Run {
    /// The process could not even start; the daemon waits and opens again.
    pub(crate) fn unstarted(disk: SimDisk, shown: &Shown) -> Self {
        Self { disk, log: vec![(0, shown.clone())], claim: Ok(()) }
    }
}

/// A start after a crash: everything that must hold is checked, then it settles and renews.
pub(crate) fn live_on(mut disk: SimDisk, making: Making, shown: &Shown, keeps_history: bool) -> Run {
    if keeps_history {
        disk.keep_history();
    }
    let mut actor = match Actor::start(disk, making, shown) {
        Ok(actor) => actor,
        Err((error, disk)) => {
            let claim = Err(format!("open: {error:?}"));
            return Run { claim, ..Run::unstarted(disk, shown) };
        }
    };
    let claim = (|| {
        let loaded = actor.load().map_err(|error| format!("load: {error:?}"))?;
        check_loaded(&loaded, making, shown)?;
        check_modes(actor.store.disk())?;
        if loaded != Loaded::Absent {
            actor.settle().map_err(|error| format!("settle: {error:?}"))?;
        }
        let next = actor.store.next_number();
        if next.0 <= shown.highest {
            return Err(format!("number {next} was shown before"));
        }
        actor.renew_next().map_err(|error| format!("renew again: {error:?}"))
    })();
    actor.end(claim)
}

/// Looks at what a start after the power failed and nothing unsynced survived would find, after such a start has renewed.
pub(crate) fn check_end(run: &Run, making: Making) -> Result<(), String> {
    let disk = run.disk.after_crash(CrashModel::Weakest, |_| false);
    check_found(disk, making, &run.shown_last(), false)
}

/// Looks, and sweeps.
pub(crate) fn check_found(disk: SimDisk, making: Making, shown: &Shown, may_have_litter: bool) -> Result<(), String> {
    let mut actor = Actor::start(disk, making, shown).map_err(|(error, _)| format!("open: {error:?}"))?;
    let loaded = actor.load().map_err(|error| format!("load: {error:?}"))?;
    check_loaded(&loaded, making, shown)?;
    check_modes(actor.store.disk())?;
    if loaded == Loaded::Absent {
        return Ok(());
    }
    let swept = actor.store.sweep().map_err(|error| format!("sweep: {error:?}"))?;
    if !swept.unknown.is_empty() || !swept.spared.is_empty() {
        return Err(format!("a start cannot make sense of what is there: {swept:?}"));
    }
    if !may_have_litter {
        let kept = actor.store.manifest().map_or(0, |manifest| manifest.candidates.len());
        let names = NAMES_OF_A_GENERATION + usize::from(making.has_server_key);
        // One that is prepared may be there.
        let most = NAMES_OF_A_STORE + (kept + 1) * names;
        let names = actor.store.disk().paths().iter().filter(|path| path.starts_with(STATE)).count();
        if names > most {
            return Err(format!("litter: {names} names where {most} would do"));
        }
    }
    Ok(())
}

/// The claims of FORMAT.md section 6.
pub(crate) fn check_loaded(loaded: &Loaded, making: Making, shown: &Shown) -> Result<(), String> {
    match loaded {
        Loaded::Absent if shown.needed.is_empty() && shown.requested.is_none() => return Ok(()),
        Loaded::Absent => return Err("found nothing where something was shown".to_owned()),
        Loaded::Intact(_) => {}
        Loaded::Damaged(found) => return Err(format!("a crash is no damage: {:?}", found.damage)),
        Loaded::Newer(_) => return Err("took it for a newer format".to_owned()),
    }
    check_contents(loaded, making)?;
    for n in &shown.needed {
        if !loaded.generations().iter().any(|generation| generation.number == number(*n)) {
            return Err(format!("generation {n} is gone"));
        }
    }
    if let Some(n) = shown.requested {
        let is_prepared =
            loaded.prepared().is_some_and(|found| found.number == number(n) && found.keys == making.keys(n));
        let is_candidate = loaded.generations().iter().any(|generation| generation.number == number(n));
        if !is_prepared && !is_candidate {
            return Err(format!("the keys of {n} are gone"));
        }
    }
    Ok(())
}

/// Nothing is offered that is torn or mixed.
pub(crate) fn check_contents(loaded: &Loaded, making: Making) -> Result<(), String> {
    for generation in loaded.generations() {
        if generation.files != making.files(generation.number.0) {
            return Err(format!("generation {} is torn or mixed", generation.number));
        }
    }
    Ok(())
}

/// Every file of a store is for its owner alone.
fn check_modes(disk: &SimDisk) -> Result<(), String> {
    let mut wide = None;
    disk.for_each_file(|name, mode, _| {
        let is_ours =
            matches!(name, "key.pem" | "server.key" | "manifest" | "digest") || name.starts_with(".manifest-");
        if is_ours && mode & 0o077 != 0 {
            wide = Some(format!("`{name}` has mode {mode:o}"));
        }
    });
    wide.map_or(Ok(()), Err)
}
