//! A renewal on a simulated disk, told step by step, and what must hold after it was cut off anywhere.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, clippy::result_large_err, reason = "a test stops at the first surprise")]

use std::collections::BTreeSet;
use std::path::Path;

use lifecycle::manifest::{AttemptRecord, Candidate, Origin};
use lifecycle::{Digest, Fingerprint, GenerationNumber, KeyId, Leaf, UnixTime};
use store::StoreError;
use store::disk::{Mutant, SimDisk};
use store::generation::{GenerationFiles, Keys, PrivatePem, Reservation, digest_of};
use store::identity::{IdentityStore, LeafFacts, Loaded};

pub const STATE: &str = "/etc/ziti/.exuvia/r1";

pub fn number(n: u64) -> GenerationNumber {
    GenerationNumber(n)
}

pub fn leaf(n: u64, role: u8) -> Leaf {
    Leaf {
        fingerprint: Fingerprint([n as u8 * 4 + role; 32]),
        key: KeyId([n as u8; 32]),
        not_before: UnixTime::from_s(1_000_000 * n as i64),
        not_after: UnixTime::from_s(1_000_000 * (n as i64 + 3)),
    }
}

pub fn keys(n: u64) -> Keys {
    Keys { key: PrivatePem::new(format!("not a key, only number {n}\n").into_bytes()), server_key: None }
}

pub fn files(n: u64) -> GenerationFiles {
    GenerationFiles {
        keys: keys(n),
        client: format!("client chain {n}\n").into_bytes(),
        server: format!("server chain {n}\n").into_bytes(),
        // More than a sector, so that it can tear.
        bundle: format!("trust anchor {n}\n").repeat(40).into_bytes(),
    }
}

pub fn facts(number: GenerationNumber, found: &GenerationFiles) -> Option<LeafFacts> {
    (*found == files(number.0)).then(|| LeafFacts { client: leaf(number.0, 0), server: leaf(number.0, 1) })
}

pub fn candidate(n: u64, digest: Digest) -> Candidate {
    Candidate {
        number: number(n),
        digest,
        client: leaf(n, 0),
        server: leaf(n, 1),
        origin: Origin::Renewed,
        verify_sent: true,
        first_admitted: None,
        staged_at: UnixTime::from_s(n as i64),
        jitter: 7,
    }
}

pub fn open(disk: SimDisk) -> Result<IdentityStore<SimDisk>, (StoreError, SimDisk)> {
    IdentityStore::open(disk, Path::new(STATE), "").map(|(store, _)| store)
}

/// What the world outside has been shown, and so may rely on.
#[derive(Clone, Debug, Default)]
pub struct Shown {
    /// Generations that a controller may admit, and that the router has not begun to drop.
    pub needed: BTreeSet<u64>,
    /// 20302 left for this one: its keys must be there.
    pub requested: Option<u64>,
    /// Highest number that was shown to anybody.
    pub highest: u64,
}

/// One renewal to generation `n`, with everything that is visible outside written down when it happens.
///
/// Generations in `dropped` leave the manifest with the promotion and are erased.
pub fn renew(store: &mut IdentityStore<SimDisk>, shown: &mut Shown, n: u64, dropped: &[u64]) -> Result<(), StoreError> {
    let mut manifest = store.manifest().cloned().unwrap_or_default();
    manifest.last_number = number(n);
    manifest.attempt = Some(AttemptRecord { number: number(n), began: UnixTime::from_s(5), failures: 0 });
    store.prepare(number(n), &keys(n), Reservation::default())?;
    store.commit(&manifest)?;
    shown.requested = Some(n);
    shown.highest = shown.highest.max(n);

    let digest = store.stage(number(n), &files(n))?;
    assert_eq!(digest, digest_of(number(n), &files(n)));
    manifest.candidates.push(candidate(n, digest));
    store.commit(&manifest)?;
    shown.requested = None;
    shown.needed.insert(n);

    if let Some(candidate) = manifest.candidate_mut(number(n)) {
        candidate.first_admitted = Some(UnixTime::from_s(9));
    }
    for n in dropped {
        shown.needed.remove(n);
        manifest.candidates.retain(|candidate| candidate.number != number(*n));
    }
    store.commit(&manifest)?;
    let dropped: Vec<_> = dropped.iter().copied().map(number).collect();
    store.erase(&dropped)
}

/// A router with two generations, 1 and 2, everything durable.
pub fn enrolled() -> (SimDisk, Shown) {
    let mut shown = Shown::default();
    let mut store = open(SimDisk::with_folder("/etc/ziti")).unwrap();
    assert_eq!(store.load(facts).unwrap(), Loaded::Absent);
    renew(&mut store, &mut shown, 1, &[]).unwrap();
    renew(&mut store, &mut shown, 2, &[]).unwrap();
    let disk = store.close();
    assert_eq!(disk.pending(), 0, "everything that was shown is durable");
    (disk.after_kill(), shown)
}

/// The claims of FORMAT.md section 6, checked on what a start finds; then the start goes on: sweep, renew, look again.
pub fn check_start(disk: SimDisk, shown: &Shown) -> Result<SimDisk, String> {
    check_found(disk, shown, true)
}

/// The same without the renewal.
pub fn check_found(disk: SimDisk, shown: &Shown, then_renew: bool) -> Result<SimDisk, String> {
    let mut store = open(disk).map_err(|(error, _)| format!("open: {error:?}"))?;
    let loaded_first = store.load(facts).map_err(|error| format!("load: {error:?}"))?;
    check_loaded(&loaded_first, shown)?;
    if !matches!(loaded_first, Loaded::Absent) {
        store.sweep().map_err(|error| format!("sweep: {error:?}"))?;
    }
    if !then_renew {
        return Ok(store.close());
    }
    let next = store.next_number();
    if next.0 <= shown.highest {
        return Err(format!("number {next} was shown before"));
    }
    let mut shown = shown.clone();
    renew(&mut store, &mut shown, next.0, &[]).map_err(|error| format!("renew again: {error:?}"))?;
    let disk = store.close().after_crash(store::disk::CrashModel::Weakest, |_| false);
    let mut store = open(disk).map_err(|(error, _)| format!("open again: {error:?}"))?;
    let loaded = store.load(facts).map_err(|error| format!("load again: {error:?}"))?;
    check_loaded(&loaded, &shown)?;
    let swept = store.sweep().map_err(|error| format!("sweep again: {error:?}"))?;
    // The attempt that went before is unnamed only now.
    // Without a manifest the first start could sweep nothing.
    let may_sweep = matches!(loaded_first, Loaded::Absent);
    if (swept.temporaries > 0 && !may_sweep) || !swept.unknown.is_empty() || !swept.spared.is_empty() {
        return Err(format!("litter: {swept:?}"));
    }
    let kept = store.manifest().map_or(0, |manifest| manifest.candidates.len());
    let disk = store.close();
    // Four folders above, each generation with its five files, the manifest and one that is kept for people.
    let most = 6 + kept * 6 + 2;
    if disk.paths().len() > most {
        return Err(format!("litter: {:?}", disk.paths()));
    }
    Ok(disk)
}

fn check_loaded(loaded: &Loaded, shown: &Shown) -> Result<(), String> {
    match loaded {
        Loaded::Absent if shown.needed.is_empty() && shown.requested.is_none() => return Ok(()),
        Loaded::Intact(_) => {}
        other => return Err(format!("a crash is no damage: {other:?}")),
    }
    for generation in loaded.generations() {
        if generation.files != files(generation.number.0) {
            return Err(format!("mixed or torn generation {}", generation.number));
        }
    }
    for n in &shown.needed {
        if !loaded.generations().iter().any(|generation| generation.number == number(*n)) {
            return Err(format!("generation {n} is gone"));
        }
    }
    if let Some(n) = shown.requested {
        let is_prepared = loaded.prepared().is_some_and(|found| found.number == number(n) && found.keys == keys(n));
        let is_candidate = loaded.generations().iter().any(|generation| generation.number == number(n));
        if !is_prepared && !is_candidate {
            return Err(format!("the keys of {n} are gone"));
        }
    }
    Ok(())
}

/// A disk that is wrong in these ways.
pub fn mutated(mut disk: SimDisk, mutants: &[Mutant]) -> SimDisk {
    for mutant in mutants {
        disk.mutate(*mutant);
    }
    disk
}
