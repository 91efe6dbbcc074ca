//! The power fails before every operation of a renewal, of a start and of a sweep, and whatever the medium may legally keep of the rest,
//! the router still has every generation that anybody was shown.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

#[path = "scene/rig.rs"]
mod rig;

use lifecycle::UnixTime;
use lifecycle::manifest::AttemptRecord;
use rig::{Shown, check_found, check_start, enrolled, facts, mutated, open, renew};
use store::disk::{CrashModel, Errno, Fault, Mutant, SimDisk};
use store::identity::{IdentityStore, Loaded};

type Script = fn(&mut IdentityStore<SimDisk>, &mut Shown) -> Result<(), store::StoreError>;

fn first_enrollment(store: &mut IdentityStore<SimDisk>, shown: &mut Shown) -> Result<(), store::StoreError> {
    renew(store, shown, 1, &[])
}

fn renewal(store: &mut IdentityStore<SimDisk>, shown: &mut Shown) -> Result<(), store::StoreError> {
    renew(store, shown, 3, &[1])
}

/// An attempt that comes to nothing, and the next one.
fn discard_and_renew(store: &mut IdentityStore<SimDisk>, shown: &mut Shown) -> Result<(), store::StoreError> {
    let mut manifest = store.manifest().cloned().unwrap();
    manifest.last_number = rig::number(3);
    store.prepare(rig::number(3), &rig::keys(3), Default::default())?;
    store.commit(&manifest)?;
    shown.highest = 3;
    store.discard(rig::number(3))?;
    renew(store, shown, 4, &[1, 2])
}

/// Runs the script with a power cut before operation `at` (`None` when it ends before that).
fn cut_at(base: &SimDisk, shown: &Shown, at: u64, script: Script) -> Option<(SimDisk, Shown)> {
    let mut disk = base.clone();
    disk.fail(at, Fault::Crash);
    let mut shown = shown.clone();
    let disk = match open(disk) {
        Err((_, disk)) => disk,
        Ok(mut store) => {
            if store.load(facts).is_ok() && !store.disk().is_down() {
                let _ = script(&mut store, &mut shown);
            }
            store.close()
        }
    };
    disk.is_down().then_some((disk, shown))
}

/// All crashes of the script, `most` survivors each; answers how many disks were looked at, or the first broken claim.
fn all_crashes(base: &SimDisk, shown: &Shown, script: Script, model: CrashModel, most: usize) -> Result<usize, String> {
    let mut looked_at = 0;
    for at in 0.. {
        let Some((disk, shown)) = cut_at(base, shown, at, script) else { break };
        check_start(disk.after_kill(), &shown).map_err(|claim| format!("killed before {at}: {claim}"))?;
        let mut broken = None;
        looked_at += disk.for_each_crash(model, most, |crashed| {
            if broken.is_none()
                && let Err(claim) = check_start(crashed, &shown)
            {
                broken = Some(format!("power cut before operation {at}: {claim}"));
            }
        });
        if let Some(claim) = broken {
            return Err(claim);
        }
    }
    Ok(looked_at)
}

#[test]
fn a_power_cut_before_any_operation_of_a_renewal_loses_nothing() {
    let (disk, shown) = enrolled();
    let looked_at = all_crashes(&disk, &shown, renewal, CrashModel::Weakest, 160).unwrap();
    assert!(looked_at > 500, "{looked_at}");
}

#[test]
fn a_power_cut_before_any_operation_of_the_first_enrollment_loses_nothing() {
    let disk = SimDisk::with_folder("/etc/ziti");
    all_crashes(&disk, &Shown::default(), first_enrollment, CrashModel::Weakest, 60).unwrap();
}

#[test]
fn a_power_cut_around_a_discarded_attempt_loses_nothing() {
    let (disk, shown) = enrolled();
    all_crashes(&disk, &shown, discard_and_renew, CrashModel::Weakest, 24).unwrap();
}

#[test]
fn a_journalled_disk_loses_nothing_either() {
    let (disk, shown) = enrolled();
    all_crashes(&disk, &shown, renewal, CrashModel::Journalled, 30).unwrap();
}

#[test]
fn a_disk_that_cannot_reserve_space_loses_nothing() {
    let (mut disk, shown) = enrolled();
    disk.set_can_reserve(false);
    all_crashes(&disk, &shown, renewal, CrashModel::Weakest, 8).unwrap();
}

#[test]
fn a_start_that_is_cut_off_again_loses_nothing() {
    let (disk, shown) = enrolled();
    for at in (0..).step_by(4) {
        let Some((disk, shown)) = cut_at(&disk, &shown, at, renewal) else { break };
        for once in [disk.after_kill(), disk.after_crash_seeded(CrashModel::Weakest, at)] {
            for again in (0..).step_by(3) {
                let mut recovering = once.clone();
                recovering.fail(again, Fault::Crash);
                let recovered = match open(recovering) {
                    Err((_, disk)) => disk,
                    Ok(mut store) => {
                        let _ = store.load(facts).and_then(|_| store.sweep());
                        store.close()
                    }
                };
                if !recovered.is_down() {
                    break;
                }
                for keep in [true, false] {
                    let twice = recovered.after_crash(CrashModel::Weakest, |_| keep);
                    check_start(twice, &shown)
                        .unwrap_or_else(|claim| panic!("cut before {at} and then before {again}: {claim}"));
                }
                recovered.for_each_crash(CrashModel::Weakest, 4, |twice| {
                    check_found(twice, &shown, false)
                        .unwrap_or_else(|claim| panic!("cut before {at} and then before {again}: {claim}"));
                });
            }
        }
    }
}

/// kill -9 between the manifest's rename and its sync: the new manifest is read from the cache. Whatever is erased because of it must not be
/// missed by the old one, which a power cut brings back.
#[test]
fn nothing_is_swept_because_of_a_manifest_that_is_only_in_the_cache() {
    let (disk, shown) = enrolled();
    for at in 0.. {
        let Some((disk, shown)) = cut_at(&disk, &shown, at, renewal) else { break };
        let swept = check_found(disk.after_kill(), &shown, false).unwrap();
        swept.for_each_crash(CrashModel::Weakest, 32, |crashed| {
            check_found(crashed, &shown, false).unwrap_or_else(|claim| panic!("killed before {at}: {claim}"));
        });
    }
}

/// kill -9 between the first manifest's rename and its sync: the next process reads it from the cache and makes generation 1. A power cut may
/// then keep that and lose the manifest, which must not look like damage: enrollment would wait for a person.
#[test]
fn an_enrollment_killed_at_its_first_manifest_and_then_cut_off_leaves_no_damage() {
    let empty = SimDisk::with_folder("/etc/ziti");
    for first in 0.. {
        let Some((killed, shown)) = cut_at(&empty, &Shown::default(), first, first_enrollment) else { break };
        for second in 0.. {
            let Some((cut, shown)) = cut_at(&killed.after_kill(), &shown, second, enroll_next) else { break };
            cut.for_each_crash(CrashModel::Weakest, 64, |crashed| {
                check_found(crashed, &shown, false)
                    .unwrap_or_else(|claim| panic!("killed before {first}, power cut before {second}: {claim}"));
            });
        }
    }
}

fn enroll_next(store: &mut IdentityStore<SimDisk>, shown: &mut Shown) -> Result<(), store::StoreError> {
    let next = store.next_number().0;
    shown.requested = None;
    renew(store, shown, next, &[])
}

/// The folder of an attempt that was given up is gone, its number is known to the manifest alone, and that cannot be read today. The next attempt
/// takes the number again; if the power fails then and the manifest can be read once more, it must not find its old attempt half made.
#[test]
fn an_attempt_begun_while_the_manifest_cannot_be_read_leaves_no_damage() {
    let (disk, shown) = enrolled();
    let mut store = open(disk).unwrap();
    store.load(facts).unwrap();
    let mut manifest = store.manifest().cloned().unwrap();
    manifest.last_number = rig::number(3);
    manifest.attempt = Some(AttemptRecord { number: rig::number(3), began: UnixTime::from_s(5), failures: 0 });
    store.prepare(rig::number(3), &rig::keys(3), Default::default()).unwrap();
    store.commit(&manifest).unwrap();
    store.discard(rig::number(3)).unwrap();
    let base = store.close().after_kill();

    let mut unreadable = 0;
    for refused in 0..12 {
        for at in refused + 3..80 {
            let mut disk = base.clone();
            // As often as it is tried.
            for again in 0..3 {
                disk.fail(refused + again, Fault::Refuse(Errno::IO));
            }
            disk.fail(at, Fault::Crash);
            let Ok(mut store) = open(disk) else { continue };
            if !matches!(store.load(facts), Ok(Loaded::Damaged(_))) || store.manifest().is_some() {
                continue;
            }
            unreadable += 1;
            let next = store.next_number();
            let _ = store.prepare(next, &rig::keys(next.0), Default::default());
            let disk = store.close();
            if !disk.is_down() {
                break;
            }
            disk.for_each_crash(CrashModel::Weakest, 32, |crashed| {
                check_found(crashed, &shown, false).unwrap_or_else(|claim| panic!("cut before {at}: {claim}"));
            });
        }
    }
    assert!(unreadable > 10, "{unreadable}");
}

/// A folder's sync fails, and the next one says that all is well without having written the name: the folder is made anew.
#[test]
fn a_state_folder_whose_sync_failed_is_made_again() {
    for refused in 0..16 {
        for errno in [Errno::IO, Errno::NOSPC] {
            let mut disk = SimDisk::with_folder("/etc/ziti");
            disk.fail(refused, Fault::Refuse(errno));
            let Ok(mut store) = open(disk) else { continue };
            let mut shown = Shown::default();
            if store.load(facts) != Ok(Loaded::Absent) || enroll_next(&mut store, &mut shown).is_err() {
                continue;
            }
            let cut = store.close().after_crash(CrashModel::Weakest, |_| false);
            check_found(cut, &shown, false).unwrap_or_else(|claim| panic!("operation {refused} refused: {claim}"));
        }
    }
}

#[test]
fn a_renewal_costs_at_most_fourteen_syncs() {
    let (disk, mut shown) = enrolled();
    let mut store = open(disk).unwrap();
    store.load(facts).unwrap();
    let before = store.disk().syncs();
    renewal(&mut store, &mut shown).unwrap();
    let after = store.disk().syncs();
    assert_eq!((after.files - before.files, after.folders - before.folders), (8, 6));
    assert_eq!(after.total() - before.total(), 14);
}

#[test]
fn a_disk_without_file_syncs_is_found_out() {
    assert_found_out(Mutant::NoFileSync);
}

#[test]
fn a_disk_without_folder_syncs_is_found_out() {
    assert_found_out(Mutant::NoFolderSync);
}

#[test]
fn a_manifest_rewritten_in_place_is_found_out() {
    assert_found_out(Mutant::RenameInPlace);
}

fn assert_found_out(mutant: Mutant) {
    let (disk, shown) = enrolled();
    let disk = mutated(disk, &[mutant]);
    let found = all_crashes(&disk, &shown, renewal, CrashModel::Weakest, 40);
    assert!(found.is_err(), "{mutant:?} went unnoticed");
}

/// Every operation of a renewal fails once in every way; the process goes on as the router would, and then the power fails as well.
#[test]
fn no_failing_operation_of_a_renewal_loses_anything() {
    let errnos = [Errno::NOSPC, Errno::DQUOT, Errno::IO, Errno::ROFS, Errno::ACCESS];
    let faults =
        errnos.iter().map(|errno| Fault::Refuse(*errno)).chain([Fault::Half(Errno::NOSPC), Fault::DoneBut(Errno::IO)]);
    let (disk, shown) = enrolled();
    let mut undisturbed = open(disk.clone()).unwrap();
    undisturbed.load(facts).unwrap();
    renewal(&mut undisturbed, &mut shown.clone()).unwrap();
    let operations = undisturbed.disk().operations();
    for fault in faults {
        for at in 0..operations {
            go_on_after(&disk, &shown, at, fault)
                .unwrap_or_else(|claim| panic!("{fault:?} at operation {at}: {claim}"));
        }
    }
}

fn go_on_after(base: &SimDisk, shown: &Shown, at: u64, fault: Fault) -> Result<(), String> {
    let mut disk = base.clone();
    disk.fail(at, fault);
    let mut shown = shown.clone();
    let mut store = match open(disk) {
        Ok(store) => store,
        // The daemon waits and opens again.
        Err((_, disk)) => return check_start(disk.after_kill(), &shown).map(|_| ()),
    };
    match store.load(facts) {
        Ok(Loaded::Absent) => return Err("a failing disk was taken for an empty one".into()),
        Ok(_) => {}
        Err(_) => return check_start(store.close().after_kill(), &shown).map(|_| ()),
    }
    let outcome = renewal(&mut store, &mut shown);
    // In the same process: read again, renew again.
    store.load(facts).map_err(|error| format!("reload: {error:?}"))?;
    let next = store.next_number();
    if outcome.is_err() {
        shown.requested = None;
        renew(&mut store, &mut shown, next.0.max(4), &[]).map_err(|error| format!("next renewal: {error:?}"))?;
    }
    let disk = store.close();
    check_found(disk.after_kill(), &shown, false)?;
    check_found(disk.after_crash(CrashModel::Weakest, |_| true), &shown, false)?;
    check_start(disk.after_crash(CrashModel::Weakest, |_| false), &shown).map(|_| ())
}

/// The same, but the process dies right after the failure.
#[test]
fn a_crash_right_after_a_failing_operation_loses_nothing() {
    let (disk, shown) = enrolled();
    for fault in [Fault::Refuse(Errno::IO), Fault::DoneBut(Errno::IO), Fault::Half(Errno::NOSPC)] {
        for at in 0.. {
            let mut disk = disk.clone();
            disk.fail(at, fault);
            let mut shown = shown.clone();
            let Ok(mut store) = open(disk) else { continue };
            if store.load(facts).is_err() {
                continue;
            }
            let is_past_the_end = renewal(&mut store, &mut shown).is_ok() && store.disk().operations() < at;
            let disk = store.close();
            disk.for_each_crash(CrashModel::Weakest, 12, |crashed| {
                check_found(crashed, &shown, false).unwrap_or_else(|claim| panic!("{fault:?} at {at}: {claim}"));
            });
            check_found(disk.after_kill(), &shown, false)
                .unwrap_or_else(|claim| panic!("{fault:?} at {at}, killed: {claim}"));
            if is_past_the_end {
                break;
            }
        }
    }
}
