//! The configured paths: copies that are whole or mended, never wider than before, and never a fight with somebody else.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

#[path = "scene/rig.rs"]
mod rig;

use std::path::{Path, PathBuf};
use std::time::Duration;

use lifecycle::manifest::{FOREIGN_REWRITES_MAX, Manifest, ProjectionRecord};
use lifecycle::{UnixTime, Uptime};
use rig::{candidate, facts, files, leaf, number};
use store::disk::{CrashModel, Disk, Errno, Fault, FileSystemKind, SimDisk};
use store::generation::{Generation, GenerationFiles, digest_of};
use store::identity::LeafFacts;
use store::import::{Judgement, SETTLED_AFTER, Situation, Verdict, Watch, decide};
use store::mode::{ReadOnlyCause, StorageMode, VolatileCause};
use store::projection::{Projection, Seen, Slot};

fn paths() -> Projection {
    Projection::new([
        (Slot::Key, PathBuf::from("/etc/ziti/r.key")),
        (Slot::Cert, PathBuf::from("/etc/ziti/r.cert")),
        (Slot::ServerCert, PathBuf::from("/etc/ziti/r.server.cert")),
        (Slot::Ca, PathBuf::from("/etc/ziti/ca/r.cas")),
    ])
}

fn path(slot: Slot) -> &'static str {
    match slot {
        Slot::Key | Slot::ServerKey => "/etc/ziti/r.key",
        Slot::Cert => "/etc/ziti/r.cert",
        Slot::ServerCert => "/etc/ziti/r.server.cert",
        Slot::Ca => "/etc/ziti/ca/r.cas",
    }
}

/// Generation 2 with the key of generation 1, as renewals of a projected identity are.
fn kept_key() -> GenerationFiles {
    GenerationFiles { keys: files(1).keys, ..files(2) }
}

fn projected() -> SimDisk {
    let mut disk = SimDisk::with_folder("/etc/ziti/ca");
    for slot in [Slot::Key, Slot::Cert, Slot::ServerCert, Slot::Ca] {
        disk.put_file(path(slot), slot.content(&files(1)), if slot == Slot::Key { 0o640 } else { 0o644 });
        disk.set_owner(path(slot), 12, 34);
    }
    disk
}

fn assert_holds(disk: &SimDisk, files: &GenerationFiles) {
    for slot in [Slot::Key, Slot::Cert, Slot::ServerCert, Slot::Ca] {
        assert_eq!(disk.file(path(slot)), Some(slot.content(files)), "{slot:?}");
    }
    assert!(!disk.paths().iter().any(|path| path.to_string_lossy().ends_with(".tmp")), "{:?}", disk.paths());
}

#[test]
fn a_crash_anywhere_leaves_whole_files_and_the_next_start_mends_the_mixture() {
    for at in 0.. {
        let mut disk = projected();
        disk.fail(at, Fault::Crash);
        let outcome = paths().write(&mut disk, &kept_key());
        if outcome.is_ok() {
            assert!(at > 20, "{at}");
            break;
        }
        let count = disk.for_each_crash(CrashModel::Weakest, 200, |mut crashed| {
            for slot in [Slot::Key, Slot::Cert, Slot::ServerCert, Slot::Ca] {
                let found = crashed.file(path(slot)).unwrap();
                let is_old = found == slot.content(&files(1));
                assert!(is_old || found == slot.content(&kept_key()), "cut before {at}: {slot:?} is torn");
                assert_eq!(crashed.mode(path(slot)), Some(if slot == Slot::Key { 0o640 } else { 0o644 }));
            }
            for left in crashed.paths().iter().filter(|path| path.to_string_lossy().ends_with(".tmp")) {
                assert!(crashed.file(left).is_none_or(|content| content != files(1).keys.key.as_bytes()));
            }
            paths().sweep(&mut crashed).unwrap();
            paths().write(&mut crashed, &kept_key()).unwrap();
            assert_holds(&crashed, &kept_key());
        });
        assert!(count > 0);
    }
}

#[test]
fn no_failing_operation_harms_what_was_there() {
    for fault in
        [Fault::Refuse(Errno::NOSPC), Fault::Refuse(Errno::IO), Fault::Half(Errno::NOSPC), Fault::DoneBut(Errno::IO)]
    {
        for at in 0.. {
            let mut disk = projected();
            disk.fail(at, fault);
            let outcome = paths().write(&mut disk, &kept_key());
            let is_past_the_end = disk.operations() <= at;
            for slot in [Slot::Key, Slot::Cert, Slot::ServerCert, Slot::Ca] {
                let found = disk.file(path(slot)).unwrap();
                assert!(found == slot.content(&files(1)) || found == slot.content(&kept_key()), "{fault:?} at {at}");
            }
            if let Ok(done) = outcome {
                assert_eq!(done.digest, paths().digest(&kept_key()));
            }
            paths().sweep(&mut disk).unwrap();
            paths().write(&mut disk, &kept_key()).unwrap();
            assert_holds(&disk, &kept_key());
            if is_past_the_end {
                break;
            }
        }
    }
}

#[test]
fn owner_and_mode_stay_and_a_kept_key_is_not_touched() {
    let mut disk = projected();
    let done = paths().write(&mut disk, &kept_key()).unwrap();
    assert_eq!(done.written, [Slot::Ca, Slot::ServerCert, Slot::Cert]);
    let folder = disk.open_root(Path::new("/etc/ziti")).unwrap();
    let found = disk.metadata(&folder, "r.cert").unwrap();
    assert_eq!((found.user, found.group, found.mode), (12, 34, 0o644));
    assert_eq!(disk.mode("/etc/ziti/r.key"), Some(0o640));
    assert_holds(&disk, &kept_key());

    let again = paths().write(&mut disk, &kept_key()).unwrap();
    assert!(again.written.is_empty() && again.digest == done.digest);
}

#[test]
fn new_files_are_private_where_they_hold_a_key() {
    let mut disk = SimDisk::with_folder("/etc/ziti/ca");
    paths().write(&mut disk, &files(1)).unwrap();
    assert_eq!((disk.mode("/etc/ziti/r.key"), disk.mode("/etc/ziti/r.cert")), (Some(0o600), Some(0o644)));
    assert_eq!(disk.pending(), 0);
}

#[test]
fn a_bind_mounted_file_is_rewritten_in_place() {
    let mut disk = projected();
    disk.set_bound("/etc/ziti/r.cert", true);
    let done = paths().write(&mut disk, &kept_key()).unwrap();
    assert_eq!(done.in_place, [Slot::Cert]);
    assert_holds(&disk, &kept_key());
    assert_eq!(disk.pending(), 0);
}

#[test]
fn a_folder_that_may_not_change_gets_its_files_rewritten_in_place() {
    let mut disk = projected();
    disk.set_writable("/etc/ziti", false);
    let done = paths().write(&mut disk, &files(2)).unwrap();
    assert_eq!(done.in_place, [Slot::Key, Slot::ServerCert, Slot::Cert]);
    assert_holds(&disk, &files(2));
    assert_eq!(disk.mode("/etc/ziti/r.key"), Some(0o640));
}

#[test]
fn an_owner_that_may_not_be_set_is_kept_by_rewriting_in_place() {
    let mut disk = projected();
    disk.set_user(99);
    let done = paths().write(&mut disk, &files(2)).unwrap();
    assert_eq!(done.in_place.len(), 4);
    assert_holds(&disk, &files(2));

    // Where that is not allowed either, a key is for us alone.
    let mut disk = projected();
    disk.set_user(99);
    disk.set_writable("/etc/ziti/r.key", false);
    let done = paths().write(&mut disk, &files(2)).unwrap();
    assert_eq!(done.narrowed, [Slot::Key]);
    assert_eq!(disk.mode("/etc/ziti/r.key"), Some(0o600));
}

#[test]
fn a_full_disk_tears_no_file_in_place() {
    let mut disk = projected();
    disk.set_writable("/etc/ziti", false);
    disk.fill_up();
    let longer = GenerationFiles { client: vec![b'x'; 3000], ..kept_key() };
    assert!(paths().write(&mut disk, &longer).unwrap_err().is_full());
    assert_eq!(disk.file("/etc/ziti/r.cert"), Some(&*files(1).client));
}

#[test]
fn a_link_is_followed_and_stays_a_link() {
    let mut disk = projected();
    disk.put_folder("/data");
    disk.put_file("/data/real.cert", b"old", 0o600);
    disk.put_link("/etc/ziti/r.cert", "../../data/real.cert");
    let by_absolute_link = Projection::new([(Slot::Cert, PathBuf::from("/etc/ziti/r.cert"))]);
    disk.put_link("/etc/ziti/r.cert", "/data/real.cert");
    by_absolute_link.write(&mut disk, &files(2)).unwrap();
    assert_eq!(disk.file("/data/real.cert"), Some(&*files(2).client));
    let folder = disk.open_root(Path::new("/etc/ziti")).unwrap();
    assert!(disk.read_link(&folder, "r.cert").is_ok());
}

// ---- import ----

fn generation(n: u64, files: GenerationFiles) -> Generation {
    Generation { number: number(n), digest: digest_of(number(n), &files), files }
}

/// Generations 1 and 2, 2 projected and recorded.
fn manifest() -> Manifest {
    let mut two = candidate(2, digest_of(number(2), &kept_key()));
    two.first_admitted = Some(UnixTime::from_s(100));
    Manifest {
        candidates: vec![candidate(1, digest_of(number(1), &files(1))), two],
        last_number: number(2),
        attempt: None,
        projection: Some(ProjectionRecord {
            number: number(2),
            digest: paths().digest(&kept_key()),
            foreign_rewrites: 0,
        }),
    }
}

struct Desk {
    disk: SimDisk,
    manifest: Manifest,
    generations: Vec<Generation>,
    watch: Watch,
}

impl Desk {
    fn new() -> Self {
        let mut disk = projected();
        paths().write(&mut disk, &kept_key()).unwrap();
        let generations = vec![generation(1, files(1)), generation(2, kept_key())];
        Self { disk, manifest: manifest(), generations, watch: Watch::default() }
    }

    fn lay_down(&mut self, files: &GenerationFiles) {
        for slot in [Slot::Key, Slot::Cert, Slot::ServerCert, Slot::Ca] {
            self.disk.put_file(path(slot), slot.content(files), 0o644);
        }
    }

    fn decide(&mut self, at_s: u64, judgement: Judgement) -> Verdict {
        let observed = paths().read(&mut self.disk);
        let projection = paths();
        let situation = Situation {
            projection: &projection,
            observed: &observed,
            manifest: &self.manifest,
            generations: &self.generations,
            wanted: Some(number(2)),
        };
        decide(Uptime::from_ms(at_s * 1000), &situation, &mut self.watch, |_| judgement)
    }
}

fn ours(n: u64) -> Judgement {
    let server = leaf(n, 1);
    Judgement::Acceptable(LeafFacts { client: leaf(n, 0), server })
}

#[test]
fn what_we_wrote_is_right() {
    assert_eq!(Desk::new().decide(0, Judgement::Unreadable), Verdict::Right);
}

#[test]
fn a_foreign_identity_becomes_a_candidate_once_it_has_settled() {
    let mut desk = Desk::new();
    desk.lay_down(&files(7));
    assert_eq!(desk.decide(10, ours(7)), Verdict::Wait(Uptime::from_ms(15_000)));
    assert_eq!(desk.decide(14, ours(7)), Verdict::Wait(Uptime::from_ms(15_000)));
    // The second half arrives.
    desk.disk.put_file(path(Slot::ServerCert), b"another", 0o644);
    let expected = Uptime::from_ms(16_000).plus(SETTLED_AFTER);
    assert_eq!(desk.decide(16, ours(7)), Verdict::Wait(expected));
    let Verdict::Import(imported) = desk.decide(21, ours(7)) else { panic!() };
    assert_eq!(imported.0.client, files(7).client);
    assert_eq!(imported.0.server, b"another");
    assert_eq!(SETTLED_AFTER, Duration::from_secs(5));
}

#[test]
fn what_cannot_be_ours_is_left_alone() {
    let mut desk = Desk::new();
    desk.lay_down(&files(7));
    desk.decide(0, ours(7));
    let verdict = desk.decide(5, Judgement::NotForUs("its id is `other`".into()));
    assert_eq!(verdict, Verdict::Refused("its id is `other`".into()));
}

#[test]
fn missing_mixed_and_torn_files_are_repaired_and_not_counted() {
    let repair = Verdict::Project { is_foreign: false };
    let mut desk = Desk::new();
    desk.disk.remove(path(Slot::Cert));
    assert_eq!(desk.decide(0, Judgement::Unreadable), repair, "missing");

    let mut desk = Desk::new();
    desk.disk.put_file(path(Slot::Cert), &files(1).client, 0o644);
    assert_eq!(desk.decide(0, Judgement::Unreadable), repair, "mixed");

    let mut desk = Desk::new();
    desk.disk.put_file(path(Slot::Cert), &files(2).client[..3], 0o644);
    assert!(matches!(desk.decide(0, Judgement::Unreadable), Verdict::Wait(_)));
    assert_eq!(desk.decide(5, Judgement::Unreadable), repair, "torn");
}

#[test]
fn a_crash_after_promotion_and_before_projection_does_not_undo_the_renewal() {
    let mut desk = Desk::new();
    desk.lay_down(&files(1));
    desk.manifest.projection =
        Some(ProjectionRecord { number: number(1), digest: paths().digest(&files(1)), foreign_rewrites: 0 });
    assert_eq!(desk.decide(0, Judgement::Unreadable), Verdict::Project { is_foreign: false });
}

#[test]
fn copies_that_were_written_and_never_recorded_are_not_taken_for_somebody_elses() {
    let mut desk = Desk::new();
    desk.lay_down(&files(1));
    desk.manifest.projection =
        Some(ProjectionRecord { number: number(0), digest: paths().digest(&files(7)), foreign_rewrites: 0 });
    assert_eq!(desk.decide(0, ours(1)), Verdict::Project { is_foreign: false });
}

#[test]
fn who_keeps_laying_down_the_old_files_wins_after_three_times() {
    let mut desk = Desk::new();
    for _ in 0..FOREIGN_REWRITES_MAX {
        desk.lay_down(&files(1));
        assert_eq!(desk.decide(0, ours(1)), Verdict::Project { is_foreign: true });
        let done = paths().write(&mut desk.disk, &kept_key()).unwrap();
        desk.manifest.projection = Some(done.record(number(2), desk.manifest.projection.as_ref(), true));
    }
    desk.lay_down(&files(1));
    assert_eq!(desk.decide(0, ours(1)), Verdict::ManagedElsewhere);
    // A new identity is taken all the same.
    desk.lay_down(&files(7));
    desk.decide(0, ours(7));
    assert!(matches!(desk.decide(5, ours(7)), Verdict::Import(_)));
}

#[test]
fn a_leaf_that_was_ours_is_not_imported_again() {
    let mut desk = Desk::new();
    // The same leaf in other bytes, and one that was over before a later one was admitted.
    for (known, admitted_s) in [(2, 100), (1, 9_000_000)] {
        desk.manifest.candidates[1].first_admitted = Some(UnixTime::from_s(admitted_s));
        desk.lay_down(&files(40 + known));
        desk.decide(0, ours(known));
        assert_eq!(desk.decide(5, ours(known)), Verdict::Project { is_foreign: true });
    }
}

#[test]
fn unreadable_files_are_neither_missing_nor_foreign() {
    let mut desk = Desk::new();
    desk.disk.put_folder("/etc/ziti/x");
    desk.disk.put_link(path(Slot::Cert), "/etc/ziti/x");
    let observed = paths().read(&mut desk.disk);
    assert!(observed.files.iter().any(|(_, seen)| matches!(seen, Seen::Unreadable(_))));
    assert!(matches!(desk.decide(9, Judgement::Unreadable), Verdict::Refused(_)));
}

// ---- storage modes ----

const CERT: &str = "/etc/ziti/r.cert";

fn mode(disk: SimDisk) -> StorageMode {
    let (mut store, _) =
        store::identity::IdentityStore::open(disk, Path::new(rig::STATE), "").map_err(|(error, _)| error).unwrap();
    let _ = store.load(facts);
    let mode = store.detect_mode(Path::new(CERT));
    assert!(!store.disk().paths().iter().any(|path| path.to_string_lossy().ends_with(".tmp")), "the probe stays");
    mode
}

#[test]
fn an_ordinary_folder_is_writable_even_when_it_is_full() {
    assert_eq!(mode(projected()), StorageMode::Writable);
    let (mut disk, _) = rig::enrolled();
    disk.fill_up();
    assert_eq!(mode(disk), StorageMode::Writable);
}

#[test]
fn a_read_only_place_is_named_so_and_the_store_opens() {
    let mut disk = projected();
    disk.set_read_only(true);
    assert_eq!(mode(disk), StorageMode::ReadOnly(ReadOnlyCause::Mounted));
    let mut disk = projected();
    disk.set_writable("/etc/ziti", false);
    let mode = mode(disk);
    assert_eq!(mode, StorageMode::ReadOnly(ReadOnlyCause::NotPermitted));
    assert!(mode.hint().is_some() && !mode.can_renew());
}

#[test]
fn state_that_would_vanish_while_the_identity_stays_is_volatile() {
    let layer = |is_volatile| FileSystemKind::Overlay { is_volatile };
    let cases = [
        (FileSystemKind::Tmpfs, VolatileCause::Tmpfs),
        (layer(false), VolatileCause::WritableLayer),
        (layer(true), VolatileCause::VolatileOverlay),
    ];
    for (kind, cause) in cases {
        // The identity's folder is in the container, its file a mount of its own.
        let mut disk = projected();
        disk.set_file_system("/etc/ziti", kind, 7);
        assert_eq!(mode(disk), StorageMode::Volatile(cause));
    }
    // Both in the same place: they go together.
    let mut disk = projected();
    for path in ["/etc/ziti", CERT] {
        disk.set_file_system(path, FileSystemKind::Tmpfs, 7);
    }
    assert_eq!(mode(disk), StorageMode::Writable);
}

#[test]
fn a_kubernetes_secret_is_externally_managed() {
    let mut disk = SimDisk::with_folder("/etc/ziti/..2026");
    disk.put_file("/etc/ziti/..2026/r.cert", b"x", 0o644);
    disk.put_link("/etc/ziti/..data", "..2026");
    disk.put_link(CERT, "..data/r.cert");
    let mode = mode(disk);
    assert_eq!(mode, StorageMode::ExternallyManaged { link: "/etc/ziti/..data".into() });
    assert_eq!(mode.label(), "externally_managed");
}

#[test]
fn what_lies_at_a_path_is_never_shown_since_it_may_be_a_key() {
    let mut disk = projected();
    let observed = paths().read(&mut disk);
    let shown = format!("{observed:?}");
    let files = files(1);
    let key = Slot::Key.content(&files);
    assert!(!shown.contains(&format!("{key:?}")) && !shown.contains(std::str::from_utf8(key).unwrap()), "{shown}");
    assert!(shown.contains("bytes"), "{shown}");
}
