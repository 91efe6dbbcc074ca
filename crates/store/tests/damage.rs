//! Absent, intact and damaged are different answers; damage is reported and never guessed away; the store refuses what breaks its order.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

#[path = "scene/rig.rs"]
mod rig;

use lifecycle::UnixTime;
use lifecycle::manifest::{AttemptRecord, Manifest};
use rig::{STATE, Shown, candidate, enrolled, facts, files, keys, number, open, renew};
use store::disk::{CrashModel, Errno, Fault, Operation, SimDisk};
use store::format::FileDamage;
use store::generation::{Reservation, digest_of};
use store::identity::{IdentityStore, Loaded, ManifestFound};
use store::{Refusal, StoreError};

fn state(path: &str) -> String {
    format!("{STATE}/{path}")
}

/// An enrolled store that was opened and loaded.
fn opened() -> (IdentityStore<SimDisk>, Shown) {
    let (disk, shown) = enrolled();
    let mut store = open(disk).unwrap();
    store.load(facts).unwrap();
    (store, shown)
}

fn assert_everything_is_a_candidate(disk: SimDisk, expected: FileDamage) {
    let before = disk.paths();
    let mut store = open(disk).unwrap();
    let loaded = store.load(facts).unwrap();
    let Loaded::Damaged(found) = &loaded else { panic!("{loaded:?}") };
    assert_eq!(found.found, ManifestFound::Lost(expected));
    assert_eq!(found.manifest.candidates.iter().map(|c| c.number.0).collect::<Vec<_>>(), [1, 2]);
    assert!(found.manifest.candidates.iter().all(|candidate| candidate.verify_sent));
    assert_eq!(found.manifest.last_number, number(2));
    assert_eq!(found.generations.len(), 2);

    assert_eq!(store.sweep(), Err(Refusal::NotIntact.into()), "nothing is swept");
    assert_eq!(store.erase(&[number(1)]), Err(Refusal::NotIntact.into()));
    let mut shorter = found.manifest.clone();
    shorter.candidates.remove(0);
    assert_eq!(store.commit(&shorter), Err(Refusal::LeavesOut(number(1)).into()));
    assert_eq!(store.disk().paths(), before);

    store.commit(&found.manifest).unwrap();
    assert!(matches!(store.load(facts).unwrap(), Loaded::Intact(_)));
    renew(&mut store, &mut Shown::default(), 3, &[]).unwrap();
}

#[test]
fn a_manifest_that_is_damaged_under_a_running_process_is_written_anew_without_what_it_had_retired() {
    let (mut store, _) = opened();
    let known = store.manifest().unwrap().clone();
    assert_eq!(known.candidates.len(), 2);
    let mut retired = known.clone();
    retired.candidates.remove(0);
    // Retired in memory, not written yet; the disk is read again because something else failed.
    assert!(store.disk_mut().rot(state("manifest"), 40));
    assert!(matches!(store.load(facts).unwrap(), Loaded::Damaged(_)));
    store.commit(&retired).unwrap();
    store.erase(&[number(1)]).unwrap();
    let Loaded::Intact(found) = store.load(facts).unwrap() else { panic!("still damaged") };
    assert_eq!(found.manifest.candidates, retired.candidates);
}

#[test]
fn a_running_process_keeps_a_candidate_that_cannot_be_read_while_the_manifest_is_damaged() {
    let (mut store, _) = opened();
    let known = store.manifest().unwrap().clone();
    assert!(store.disk_mut().rot(state("manifest"), 40));
    assert!(store.disk_mut().rot(state("generations/0002/client.pem"), 3));
    let Loaded::Damaged(found) = store.load(facts).unwrap() else { panic!("not damaged") };
    assert_eq!(found.manifest.candidates.len(), 1);
    store.commit(&known).unwrap();
    assert!(store.disk_mut().rot(state("generations/0002/client.pem"), 3), "it can be read again");
    let Loaded::Intact(found) = store.load(facts).unwrap() else { panic!("still damaged") };
    assert_eq!(found.manifest.candidates, known.candidates);
}

#[test]
fn one_failed_read_beside_a_lost_manifest_costs_no_generation() {
    let (mut disk, _) = enrolled();
    disk.remove(state("manifest"));
    let reads = {
        let mut disk = disk.clone();
        disk.record();
        let mut store = open(disk).unwrap();
        store.load(facts).unwrap();
        let journal = store.disk().recorded();
        let is_of_a_generation = |name: &str| name.ends_with(".pem") || name == "digest";
        let of_generations =
            journal.iter().enumerate().filter(|(_, (what, name))| *what == Operation::Read && is_of_a_generation(name));
        of_generations.map(|(at, _)| at as u64).collect::<Vec<_>>()
    };
    assert!(reads.len() >= 8, "{reads:?}");
    for at in reads {
        let mut disk = disk.clone();
        disk.fail(at, Fault::Refuse(Errno::IO));
        let mut store = open(disk).unwrap();
        let loaded = store.load(facts).unwrap();
        let found: Vec<u64> = loaded.manifest().unwrap().candidates.iter().map(|c| c.number.0).collect();
        assert_eq!(found, [1, 2], "read {at} failed once");
    }
}

/// Which leaves were admitted stands in the manifest alone. Without it eight candidates are as good as never admitted, and none may make room for a
/// renewal (found by the layer `errno`).
#[test]
fn a_manifest_that_cannot_be_read_once_is_read_again() {
    let (disk, _) = enrolled();
    let read = {
        let mut disk = disk.clone();
        disk.record();
        let mut store = open(disk).unwrap();
        store.load(facts).unwrap();
        let journal = store.disk().recorded();
        journal.iter().rposition(|(what, name)| *what == Operation::Read && name == "manifest").unwrap() as u64
    };
    let mut disk = disk.clone();
    disk.fail(read, Fault::Refuse(Errno::IO));
    let mut store = open(disk).unwrap();
    let loaded = store.load(facts).unwrap();
    assert!(matches!(loaded, Loaded::Intact(_)), "{loaded:?}");
}

#[test]
fn a_missing_manifest_beside_generations_is_damage() {
    let (mut disk, _) = enrolled();
    disk.remove(state("manifest"));
    assert_everything_is_a_candidate(disk, FileDamage::Missing);
}

#[test]
fn a_torn_empty_or_foreign_manifest_is_damage_and_its_bytes_are_kept() {
    let (disk, _) = enrolled();
    let whole = disk.file(state("manifest")).unwrap().to_vec();
    let cases = [
        (whole[..whole.len() - 7].to_vec(), FileDamage::Torn),
        (vec![0; whole.len()], FileDamage::Empty),
        (Vec::new(), FileDamage::Empty),
        (b"candidates: []\n".to_vec(), FileDamage::Foreign),
    ];
    for (bytes, expected) in cases {
        let mut disk = disk.clone();
        disk.put_file(state("manifest"), &bytes, 0o600);
        assert_everything_is_a_candidate(disk.clone(), expected);
        let mut store = open(disk).unwrap();
        let manifest = store.load(facts).unwrap().manifest().cloned().unwrap();
        store.commit(&manifest).unwrap();
        assert_eq!(store.disk().file(state("manifest.damaged")), Some(&*bytes));
    }
}

#[test]
fn the_manifest_of_another_router_names_nothing_here() {
    let (mut disk, _) = enrolled();
    let mut other = Manifest { last_number: number(9), ..Manifest::default() };
    other.candidates.push(candidate(9, digest_of(number(9), &files(9))));
    disk.put_file(state("manifest"), &store::format::encode_manifest(&other), 0o600);
    let mut store = open(disk).unwrap();
    let loaded = store.load(facts).unwrap();
    let Loaded::Damaged(found) = loaded else { panic!("{loaded:?}") };
    assert!(found.generations.is_empty());
    assert_eq!(found.damage[0].found, FileDamage::Missing);
}

#[test]
fn no_flipped_bit_anywhere_is_adopted_or_taken_for_absence() {
    let (disk, _) = enrolled();
    let paths: Vec<_> = disk.paths().into_iter().filter(|path| disk.file(path).is_some()).collect();
    assert_eq!(paths.len(), 11);
    for path in paths {
        let length = disk.file(&path).unwrap().len();
        for byte in (0..length).step_by(3) {
            let mut disk = disk.clone();
            assert!(disk.rot(&path, byte));
            let mut store = open(disk).unwrap();
            match store.load(facts).unwrap() {
                Loaded::Damaged(found) => {
                    assert!(
                        found.damage.iter().any(|damage| path == damage.path),
                        "{}: {:?}",
                        path.display(),
                        found.damage
                    );
                    assert!(found.generations.iter().all(|g| g.files == files(g.number.0)), "{}", path.display());
                }
                other => panic!("{} byte {byte}: {other:?}", path.display()),
            }
        }
    }
}

#[test]
fn a_read_error_is_never_absence() {
    let (disk, _) = enrolled();
    let mut probe = open(disk.clone()).unwrap();
    probe.load(facts).unwrap();
    for errno in [Errno::IO, Errno::ACCESS, Errno::STALE, Errno::MFILE] {
        for at in 0..probe.disk().operations() {
            let mut disk = disk.clone();
            disk.fail(at, Fault::Refuse(errno));
            let Ok(mut store) = open(disk) else { continue };
            match store.load(facts) {
                Err(_) | Ok(Loaded::Damaged(_) | Loaded::Intact(_)) => {}
                Ok(other) => panic!("{errno:?} at {at}: {other:?}"),
            }
            // And nothing that could not be read is swept because of it.
            store.disk_mut().die(None);
            let _ = store.sweep();
            let mut again = open(store.close().after_kill()).unwrap();
            assert!(matches!(again.load(facts).unwrap(), Loaded::Intact(_)), "{errno:?} at {at}");
        }
    }
}

#[test]
fn a_dead_disk_is_an_error() {
    let (mut disk, _) = enrolled();
    disk.die(Some((0, Errno::IO)));
    let (error, _) = open(disk).unwrap_err();
    assert_eq!(error.storage().unwrap().errno, Errno::IO);
}

#[test]
fn a_damaged_generation_leaves_the_others_usable() {
    let (mut disk, _) = enrolled();
    disk.put_file(state("generations/0002/server.pem"), b"", 0o600);
    let mut store = open(disk).unwrap();
    let loaded = store.load(facts).unwrap();
    assert_eq!(loaded.manifest().unwrap().candidates.len(), 1);
    assert_eq!(loaded.generations()[0].number, number(1));
    assert_eq!(loaded.damage()[0].path.to_str(), Some(&*state("generations/0002/server.pem")));

    // It is still named; once it is not, its key is spared for a person to look at.
    let mut manifest = loaded.manifest().cloned().unwrap();
    manifest.attempt = None;
    store.commit(&manifest).unwrap();
    let swept = store.sweep().unwrap();
    assert_eq!((swept.removed.len(), swept.spared[0].number), (0, number(2)));
    assert!(store.disk().file(state("generations/0002/key.pem")).is_some());
}

#[test]
fn a_generation_under_another_number_is_damage() {
    let (mut disk, _) = enrolled();
    for name in ["key.pem", "client.pem", "server.pem", "bundle.pem", "digest"] {
        let content = disk.file(state(&format!("generations/0001/{name}"))).unwrap().to_vec();
        disk.put_file(state(&format!("generations/0002/{name}")), &content, 0o600);
    }
    let mut store = open(disk).unwrap();
    let loaded = store.load(facts).unwrap();
    assert_eq!(loaded.generations().len(), 1);
    assert_eq!(loaded.damage()[0].found, FileDamage::Mismatch);
}

#[test]
fn a_newer_format_is_served_and_never_written() {
    let (mut disk, _) = enrolled();
    let mut bytes = disk.file(state("manifest")).unwrap().to_vec();
    bytes[8] = 9;
    store::format::reseal(&mut bytes);
    disk.put_file(state("manifest"), &bytes, 0o600);
    let mut store = open(disk).unwrap();
    let loaded = store.load(facts).unwrap();
    assert!(matches!(&loaded, Loaded::Newer(found) if found.version == 9 && found.generations.len() == 2));
    let before = store.disk().paths();
    let newer = || Err(StoreError::Newer { version: 9 });
    assert_eq!(store.commit(loaded.manifest().unwrap()), newer());
    assert_eq!(store.prepare(number(3), &keys(3), Reservation::default()), newer());
    assert_eq!(store.sweep().map(|_| ()), newer());
    assert_eq!(store.erase(&[number(1)]), newer());
    assert_eq!(store.disk().paths(), before);
    assert_eq!(store.disk().file(state("manifest")), Some(&*bytes));
}

#[test]
fn a_candidate_is_never_erased() {
    let (mut store, _) = opened();
    assert_eq!(store.erase(&[number(2)]), Err(Refusal::StillCandidate(number(2)).into()));
    assert_eq!(store.discard(number(1)), Err(Refusal::StillCandidate(number(1)).into()));
}

#[test]
fn only_what_was_staged_here_can_be_named() {
    let (mut store, _) = opened();
    let mut manifest = store.manifest().cloned().unwrap();
    manifest.last_number = number(3);
    store.prepare(number(3), &keys(3), Reservation::default()).unwrap();
    manifest.candidates.push(candidate(3, digest_of(number(3), &files(3))));
    assert_eq!(store.commit(&manifest), Err(Refusal::NotStaged(number(3)).into()));
}

#[test]
fn numbers_are_never_used_twice() {
    let (mut store, mut shown) = opened();
    assert_eq!(store.next_number(), number(3));
    assert_eq!(store.prepare(number(2), &keys(2), Reservation::default()), Err(Refusal::NumberUsed(number(2)).into()));
    let mut manifest = store.manifest().cloned().unwrap();
    manifest.last_number = number(1);
    assert_eq!(store.commit(&manifest), Err(Refusal::Impossible("a number above the last one").into()));
    store.prepare(number(3), &keys(3), Reservation::default()).unwrap();
    store.discard(number(3)).unwrap();
    assert_eq!(store.next_number(), number(4));
    renew(&mut store, &mut shown, 4, &[]).unwrap();

    // Also across a start: what was seen counts, even when it is swept.
    store.prepare(number(7), &keys(7), Reservation::default()).unwrap();
    let mut store = open(store.close().after_kill()).unwrap();
    store.load(facts).unwrap();
    assert_eq!(store.sweep().unwrap().removed, [number(7)]);
    let mut store = open(store.close().after_crash(CrashModel::Weakest, |_| false)).unwrap();
    store.load(facts).unwrap();
    assert_eq!(store.next_number(), number(8));
}

#[test]
fn the_newest_generation_is_damaged_and_its_number_is_no_interrupted_attempt() {
    let (mut disk, _) = enrolled();
    let evidence = state("generations/0002/client.pem");
    assert!(disk.rot(&evidence, 3));
    let kept = disk.file(&evidence).unwrap().to_vec();
    // Two starts: the first one drops it from the manifest, the second one knows nothing of that.
    for _ in 0..2 {
        let mut store = open(disk).unwrap();
        let loaded = store.load(facts).unwrap();
        assert_eq!(loaded.prepared(), None, "its keys are not those of an attempt that was cut off");
        let manifest = loaded.manifest().unwrap().clone();
        assert!(manifest.attempt.unwrap().number > number(2), "{manifest:?}");
        store.commit(&manifest).unwrap();
        store.sweep().unwrap();
        disk = store.close().after_kill();
    }
    let mut store = open(disk).unwrap();
    store.load(facts).unwrap();
    let next = store.next_number();
    assert!(next > number(2));
    renew(&mut store, &mut Shown::default(), next.0, &[]).unwrap();
    store.sweep().unwrap();
    assert_eq!(store.disk().file(&evidence), Some(kept.as_slice()), "the evidence stays as it was");
}

#[test]
fn an_older_release_forgot_that_a_generation_was_damaged_and_it_is_no_attempt_all_the_same() {
    let (mut disk, _) = enrolled();
    let mut store = open(disk).unwrap();
    store.load(facts).unwrap();
    // What releases before this one wrote: without the damaged candidate, and with its number as the attempt's.
    let mut manifest = store.manifest().unwrap().clone();
    manifest.candidates.retain(|candidate| candidate.number != number(2));
    store.commit(&manifest).unwrap();
    disk = store.close().after_kill();
    assert!(disk.rot(state("generations/0002/client.pem"), 3));
    let mut store = open(disk).unwrap();
    let loaded = store.load(facts).unwrap();
    assert_eq!(loaded.prepared(), None);
    assert_eq!(loaded.damage().len(), 1);
}

#[test]
fn after_a_failed_sync_the_generation_is_never_written_again() {
    let (disk, _) = enrolled();
    let mut probe = open(disk.clone()).unwrap();
    probe.disk_mut().record();
    probe.load(facts).unwrap();
    renew(&mut probe, &mut Shown::default(), 3, &[]).unwrap();
    let first = probe.disk().operations() - probe.disk().recorded().len() as u64;
    let syncs: Vec<u64> = (0..)
        .zip(probe.disk().recorded())
        .filter(|(_, (operation, _))| matches!(operation, Operation::SyncFile | Operation::Close))
        .map(|(at, _)| at + first)
        .collect();
    for at in syncs {
        let mut disk = disk.clone();
        disk.fail(at, Fault::Refuse(Errno::IO));
        let mut store = open(disk).unwrap();
        store.load(facts).unwrap();
        match renew(&mut store, &mut Shown::default(), 3, &[]) {
            Err(StoreError::Condemned { number: n, .. }) => {
                assert_eq!(n, number(3));
                assert_eq!(store.stage(n, &files(3)).unwrap_err(), Refusal::GivenUp(n).into());
                assert_eq!(store.prepare(n, &keys(3), Reservation::default()).unwrap_err(), Refusal::GivenUp(n).into());
                assert_eq!(store.next_number(), number(4));
            }
            // A manifest's temporary: unlinked, and its name is never used again. Or the room of an empty file.
            Err(StoreError::Storage(_)) => {}
            other => panic!("operation {at}: {other:?}"),
        }
    }
}

#[test]
fn an_attempt_whose_stage_failed_goes_on_under_a_new_number() {
    let (mut store, _) = opened();
    let n = number(3);
    store.prepare(n, &keys(3), Reservation::default()).unwrap();
    let mut manifest = store.manifest().cloned().unwrap();
    manifest.last_number = n;
    manifest.attempt = Some(AttemptRecord { number: n, began: UnixTime::from_s(3), failures: 0 });
    store.commit(&manifest).unwrap();
    store.disk_mut().set_read_only(true);
    store.stage(n, &files(3)).unwrap_err();
    store.disk_mut().set_read_only(false);
    // Whoever reads the disk again must not be sent back to a number that this process never writes again.
    assert_eq!(store.load(facts).unwrap().prepared(), None);
    assert_eq!(store.next_number(), number(4));
    // Another process may: it writes every byte anew.
    let mut next = open(store.close()).unwrap();
    assert_eq!(next.load(facts).unwrap().prepared().map(|prepared| prepared.number), Some(n));
}

#[test]
fn a_failed_folder_sync_after_the_rename_leaves_the_outcome_unknown() {
    let (mut store, _) = opened();
    let mut manifest = store.manifest().cloned().unwrap();
    manifest.last_number = number(5);
    let start = store.disk().operations();
    // create, write, sync, close, rename, sync of the folder
    store.disk_mut().fail(start + 5, Fault::Refuse(Errno::IO));
    let error = store.commit(&manifest).unwrap_err();
    assert!(matches!(error, StoreError::OutcomeUnknown(_)), "{error:?}");
    assert_eq!(store.commit(&manifest), Err(Refusal::MustReload.into()));
    assert_eq!(store.sweep().unwrap_err(), Refusal::MustReload.into());
    assert_eq!(store.stage(number(3), &files(3)).unwrap_err(), Refusal::MustReload.into());

    // Either may survive the power cut.
    let mut seen = std::collections::BTreeSet::new();
    store.disk().for_each_crash(CrashModel::Weakest, 64, |disk| {
        let mut store = open(disk).unwrap();
        seen.insert(store.load(facts).unwrap().manifest().unwrap().last_number);
    });
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [number(2), number(5)]);

    store.load(facts).unwrap();
    store.commit(&manifest).unwrap();
}

#[test]
fn a_full_disk_fails_in_prepare_and_leaves_nothing() {
    for room in 0..40 {
        let (mut disk, _) = enrolled();
        disk.fill_up();
        let before = disk.paths();
        let mut store = open(disk).unwrap();
        store.load(facts).unwrap();
        store.disk_mut().add_room(room * 512);
        let error = store.prepare(number(3), &keys(3), Reservation::default()).unwrap_err();
        assert!(error.is_full(), "{room} sectors: {error:?}");
        assert_eq!(store.disk().paths(), before, "{room} sectors");
    }
}

#[test]
fn what_prepare_reserved_is_enough_for_stage_on_a_full_disk() {
    for can_reserve in [true, false] {
        let (mut store, _) = opened();
        store.disk_mut().set_can_reserve(can_reserve);
        store.prepare(number(3), &keys(3), Reservation::default()).unwrap();
        store.disk_mut().fill_up();
        store.stage(number(3), &files(3)).unwrap();
    }
}

#[test]
fn a_read_only_disk_is_said_to_be_so_and_still_read() {
    let (mut disk, _) = enrolled();
    disk.set_read_only(true);
    let mut store = open(disk).unwrap();
    assert!(matches!(store.load(facts).unwrap(), Loaded::Intact(_)));
    let error = store.prepare(number(3), &keys(3), Reservation::default()).unwrap_err();
    assert!(error.is_read_only() && !error.is_full());
    store.disk_mut().set_read_only(false);
    store.prepare(number(3), &keys(3), Reservation::default()).unwrap();
}

#[test]
fn a_second_process_is_told_who_has_the_identity() {
    let (mut disk, _) = enrolled();
    disk.put_file(state("holder"), b"pid 4711\n", 0o600);
    disk.hold_lock_elsewhere(STATE, true);
    let (error, mut disk) = open(disk).unwrap_err();
    assert_eq!(error, StoreError::Busy { path: STATE.into(), holder: "pid 4711".into() });
    disk.hold_lock_elsewhere(STATE, false);
    assert!(open(disk).unwrap().is_locked(), "what the holder's text says decides nothing");
}

#[test]
fn a_kernel_without_locks_is_told_and_gone_on_with() {
    let (mut disk, _) = enrolled();
    disk.set_can_lock(false);
    let (mut store, notices) = IdentityStore::open(disk, STATE.as_ref(), "").unwrap();
    assert!(matches!(&*notices, [store::identity::Notice::LocksUnsupported(_)]));
    assert!(matches!(store.load(facts).unwrap(), Loaded::Intact(_)));
}

#[test]
fn a_sweep_reports_what_it_does_not_know() {
    let (mut disk, _) = enrolled();
    disk.put_file(state("notes.txt"), b"?", 0o644);
    disk.put_file(state(".manifest-3.tmp"), b"?", 0o600);
    disk.put_folder(state("generations/backup"));
    let mut store = open(disk).unwrap();
    store.load(facts).unwrap();
    let swept = store.sweep().unwrap();
    assert_eq!(swept.unknown, ["notes.txt", "generations/backup"]);
    assert_eq!((swept.temporaries, swept.removed.len()), (1, 0));
}
