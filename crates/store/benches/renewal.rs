//! What one renewal costs the router's disk above the syncs that P2 ("durable before visible") needs.
//!
//! Ours: PREPARE, STAGE, PROMOTE, RETIRE through `IdentityStore` on the real disk, three candidates at most. The floor: the same
//! bytes under the same names with the 14 syncs that FORMAT.md section 4 derives, of files and folders as there, and nothing
//! else: no reservation, no reading back, no checksums, no look at what is there. Both alternate in one run; what counts is the
//! median of the ratios of neighbouring rounds.
//!
//! `EXUVIA_BENCH_DIR` names a folder on another file system, `EXUVIA_BENCH_ROUNDS` how often.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a bench that cannot go on must stop")]

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use lifecycle::manifest::{AttemptRecord, Candidate, Manifest, Origin};
use lifecycle::{Digest, Fingerprint, GenerationNumber, KeyId, Leaf, UnixTime};
use store::disk::RealDisk;
use store::format::encode_manifest;
use store::generation::{GenerationFiles, Keys, PrivatePem, Reservation};
use store::identity::IdentityStore;

/// FORMAT.md section 4.
const SYNCS: u32 = 14;
const ROUNDS: usize = 301;
const TARGET: f64 = 1.5;

fn main() {
    let rounds = std::env::var("EXUVIA_BENCH_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(ROUNDS);
    let base = std::env::var_os("EXUVIA_BENCH_DIR").map_or_else(|| env!("CARGO_TARGET_TMPDIR").into(), PathBuf::from);
    fs::create_dir_all(&base).unwrap();
    let folder = tempfile::tempdir_in(&base).unwrap();
    let (kind, device) = file_system(folder.path());
    assert!(!["tmpfs", "ramfs"].contains(&kind.as_str()), "{kind} keeps nothing: set EXUVIA_BENCH_DIR");

    let mut ours = Ours::new(&folder.path().join("ours"));
    let mut floor = Floor::new(&folder.path().join("floor"));
    // Both get to the state that every later renewal finds.
    for _ in 0..3 {
        ours.renew();
        floor.renew();
    }
    let (mut of_ours, mut of_floor, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        // Who goes first changes: the file system's journal is the same for both.
        let (ours, floor) = if round % 2 == 0 {
            let ours = time(|| ours.renew());
            (ours, time(|| floor.renew()))
        } else {
            let floor = time(|| floor.renew());
            (time(|| ours.renew()), floor)
        };
        of_ours.push(ours);
        of_floor.push(floor);
        ratios.push(ours / floor);
    }
    let floor_syncs = floor.syncs / floor.number as u32;
    assert_eq!(floor_syncs, SYNCS, "the floor does not pay what FORMAT.md says");
    let (ours, floor, ratio) = (middle(&mut of_ours), middle(&mut of_floor), middle(&mut ratios));
    let (low, high) = (ratios[ratios.len() / 10], ratios[ratios.len() * 9 / 10]);
    println!("one renewal on disk, PREPARE to RETIRE, {kind} on {device}, medians of {rounds} rounds");
    println!("  the identity store                        {ours:8.2} ms");
    println!("  floor: the same bytes and {SYNCS} syncs, bare   {floor:8.2} ms");
    println!("  ratio {ratio:.2} (tenth to nine tenths of the rounds: {low:.2} to {high:.2}); target at most {TARGET}");
    println!(
        "BENCH renewal-store ours_ms={ours:.3} floor_ms={floor:.3} ratio={ratio:.3} target={TARGET} rounds={rounds} fs={kind}"
    );
}

/// In milliseconds.
fn time(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64() * 1e3
}

/// Sorts, and picks.
fn middle(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Contents of the lengths that P-256 and one intermediate give.
fn contents(number: u64) -> GenerationFiles {
    let text = |what: &str, length: usize| format!("{what} {number} ").repeat(length).into_bytes()[..length].to_vec();
    GenerationFiles {
        keys: Keys { key: PrivatePem::new(text("no key", 241)), server_key: None },
        client: text("client", 1_480),
        server: text("server", 1_530),
        bundle: text("bundle", 1_300),
    }
}

fn leaf(number: u64, role: u8) -> Leaf {
    let mut fingerprint = [role; 32];
    fingerprint[..8].copy_from_slice(&number.to_le_bytes());
    Leaf {
        fingerprint: Fingerprint(fingerprint),
        key: KeyId(fingerprint),
        not_before: UnixTime::from_s(1_900_000_000),
        not_after: UnixTime::from_s(1_907_776_000),
    }
}

fn candidate(number: u64, digest: Digest) -> Candidate {
    Candidate {
        number: GenerationNumber(number),
        digest,
        client: leaf(number, 1),
        server: leaf(number, 2),
        origin: Origin::Renewed,
        verify_sent: true,
        first_admitted: None,
        staged_at: UnixTime::from_s(1_900_000_000),
        jitter: 7,
    }
}

/// The manifests of one renewal, and what it drops: the oldest of three.
trait Manifests {
    fn prepared(&mut self, number: u64);
    fn staged(&mut self, number: u64, digest: Digest);
    fn promoted(&mut self, number: u64) -> Option<GenerationNumber>;
}

impl Manifests for Manifest {
    fn prepared(&mut self, number: u64) {
        self.last_number = GenerationNumber(number);
        self.attempt = Some(AttemptRecord {
            number: GenerationNumber(number),
            began: UnixTime::from_s(1_900_000_000),
            failures: 0,
        });
    }

    fn staged(&mut self, number: u64, digest: Digest) {
        self.candidates.push(candidate(number, digest));
    }

    fn promoted(&mut self, number: u64) -> Option<GenerationNumber> {
        let new = self.candidate_mut(GenerationNumber(number)).unwrap();
        new.first_admitted = Some(UnixTime::from_s(1_900_000_001));
        (self.candidates.len() > 2).then(|| self.candidates.remove(0).number)
    }
}

struct Ours {
    store: IdentityStore<RealDisk>,
    manifest: Manifest,
    number: u64,
}

impl Ours {
    fn new(path: &Path) -> Self {
        let (mut store, notices) = IdentityStore::open(RealDisk, path, "bench").map_err(|(error, _)| error).unwrap();
        assert!(notices.is_empty(), "{notices:?}");
        store.load(|_, _| None).unwrap();
        Self { store, manifest: Manifest::default(), number: 0 }
    }

    fn renew(&mut self) {
        self.number += 1;
        let (number, files) = (GenerationNumber(self.number), contents(self.number));
        self.store.prepare(number, &files.keys, Reservation::default()).unwrap();
        self.manifest.prepared(self.number);
        self.store.commit(&self.manifest).unwrap();
        let digest = self.store.stage(number, &files).unwrap();
        self.manifest.staged(self.number, digest);
        self.store.commit(&self.manifest).unwrap();
        let dropped = self.manifest.promoted(self.number);
        self.store.commit(&self.manifest).unwrap();
        if let Some(dropped) = dropped {
            self.store.erase(&[dropped]).unwrap();
        }
    }
}

/// The bare calls.
struct Floor {
    path: PathBuf,
    state: File,
    generations: File,
    manifest: Manifest,
    number: u64,
    syncs: u32,
}

impl Floor {
    fn new(path: &Path) -> Self {
        let generations = path.join("generations");
        fs::create_dir_all(&generations).unwrap();
        Self {
            path: path.to_owned(),
            state: File::open(path).unwrap(),
            generations: File::open(generations).unwrap(),
            manifest: Manifest::default(),
            number: 0,
            syncs: 0,
        }
    }

    fn renew(&mut self) {
        self.number += 1;
        let files = contents(self.number);
        let generation = self.path.join("generations").join(format!("{:04}", self.number));
        fs::create_dir(&generation).unwrap();
        self.write(File::create_new(generation.join("key.pem")).unwrap(), files.keys.key.as_bytes());
        // Their names come with the folder's sync here, which saves two later.
        let empty = ["client.pem", "server.pem", "bundle.pem", "digest"].map(|name| generation.join(name));
        empty.iter().for_each(|path| drop(File::create_new(path).unwrap()));
        File::open(&generation).unwrap().sync_all().unwrap();
        self.generations.sync_all().unwrap();
        self.syncs += 2;
        self.manifest.prepared(self.number);
        self.replace_manifest();
        let digest = [7; 256];
        for (path, content) in empty.iter().zip([&files.client[..], &files.server, &files.bundle, &digest]) {
            self.write(File::options().write(true).open(path).unwrap(), content);
        }
        self.manifest.staged(self.number, Digest([7; 32]));
        self.replace_manifest();
        let dropped = self.manifest.promoted(self.number);
        self.replace_manifest();
        if let Some(dropped) = dropped {
            let generation = self.path.join("generations").join(dropped.to_string());
            for name in ["key.pem", "client.pem", "server.pem", "bundle.pem", "digest"] {
                fs::remove_file(generation.join(name)).unwrap();
            }
            fs::remove_dir(generation).unwrap();
        }
        self.generations.sync_all().unwrap();
        self.syncs += 1;
    }

    fn replace_manifest(&mut self) {
        let temporary = self.path.join(".manifest.tmp");
        self.write(File::create_new(&temporary).unwrap(), &encode_manifest(&self.manifest));
        fs::rename(temporary, self.path.join("manifest")).unwrap();
        self.state.sync_all().unwrap();
        self.syncs += 1;
    }

    fn write(&mut self, mut file: File, content: &[u8]) {
        file.write_all(content).unwrap();
        file.sync_all().unwrap();
        self.syncs += 1;
    }
}

/// Type and device of the mount that holds `path`.
fn file_system(path: &Path) -> (String, String) {
    let path = path.canonicalize().unwrap();
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let fields = |line: &str| -> Option<(String, String, String)> {
        let mut fields = line.split(' ').map(str::to_owned);
        Some((fields.next()?, fields.next()?, fields.next()?))
    };
    mounts
        .lines()
        .filter_map(fields)
        .filter(|(_, point, _)| path.starts_with(point))
        .max_by_key(|(_, point, _)| point.len())
        .map(|(device, _, kind)| (kind, device))
        .unwrap_or_else(|| ("unknown".to_owned(), "unknown".to_owned()))
}
