//! Disks that are full, read-only or failing, before, during and after each step.

use lifecycle::renewal::PhaseName;
use sim::{Action, DiskFault, Errno, Kind, Make, Plan, SimDisk, World};

use crate::scene::{BOTH, DAY, HOUR, begins, connected, connects, ends_well, passes, reaches, serves};

#[test]
fn a_full_disk_in_prepare_asks_for_nothing_and_renews_when_there_is_room() {
    let mut world = connected(Make::Exuvia);
    world.with_disk(0, SimDisk::fill_up);
    world.renew_now(0);
    assert_eq!(world.phase(0), Some(PhaseName::Steady));
    assert_eq!(world.counts().requests, 0);
    world.with_disk(0, |disk| disk.set_capacity(None));
    world.renew_now(0);
    passes(&mut world, HOUR / 6);
    assert_eq!(world.counts().renewals, 1);
}

type Change = fn(&mut SimDisk);

/// How a disk goes bad at one moment, and how it is mended.
const TROUBLES: [(Change, Change); 3] = [
    (SimDisk::fill_up, |disk| disk.set_capacity(None)),
    (|disk| disk.set_read_only(true), |disk| disk.set_read_only(false)),
    (|disk| disk.die(Some((0, Errno::IO))), |disk| disk.die(None)),
];

/// Worlds whose disk turned bad when the router was in this phase.
fn turned_bad_in(phase: PhaseName) -> impl Iterator<Item = (World, Change)> {
    turned_bad_so(phase, &TROUBLES)
}

fn turned_bad_so(phase: PhaseName, troubles: &[(Change, Change)]) -> impl Iterator<Item = (World, Change)> {
    BOTH.into_iter().flat_map(move |controllers| {
        troubles.iter().map(move |(spoil, mend)| {
            let mut world = begins(Plan { leaf_life: 7 * DAY, ..Plan::calm(7, Make::Exuvia, controllers) });
            world.renew_now(0);
            reaches(&mut world, phase);
            world.with_disk(0, spoil);
            (world, *mend)
        })
    })
}

#[test]
fn a_disk_that_turns_bad_before_stage_loses_nothing_and_the_renewal_follows_when_it_is_mended() {
    for (mut world, mend) in turned_bad_in(PhaseName::Requested) {
        passes(&mut world, DAY);
        assert_eq!(world.connected(0), 1);
        assert!(world.manifest(0).is_none_or(|manifest| manifest.candidates.len() <= 2));
        world.with_disk(0, mend);
        passes(&mut world, HOUR);
        world.renew_now(0);
        passes(&mut world, HOUR);
        assert!(world.counts().renewals >= 1, "{:?}", world.phase(0));
        ends_well(&mut world);
    }
}

/// The generation is durable, and nothing that follows needs the disk: it is proven, published and served from memory.
#[test]
fn a_disk_that_turns_bad_after_stage_for_ever_changes_nothing_for_the_running_router() {
    for (mut world, _) in turned_bad_in(PhaseName::Proving) {
        serves(&mut world, 2, HOUR);
        assert_eq!(world.published(0).map(|number| number.0), Some(2));
        // Two thirds of the new leaf's life, until the next one is due, and on to its end: served to the last day.
        passes(&mut world, 6 * DAY);
        assert_eq!(world.published(0).map(|number| number.0), Some(2));
        assert_eq!(world.connected(0), 1);
        // A new channel in the middle of it needs no disk either.
        world.break_channel(0, 0);
        connects(&mut world, HOUR);
    }
}

#[test]
fn a_restart_on_a_disk_that_went_read_only_or_full_after_stage_finds_both_generations() {
    for (mut world, mend) in turned_bad_so(PhaseName::Proving, &TROUBLES[..2]) {
        serves(&mut world, 2, HOUR);
        world.kill_router(0);
        passes(&mut world, HOUR);
        world.start_router(0);
        connects(&mut world, HOUR);
        assert_eq!(world.candidates(0), [1, 2]);
        serves(&mut world, 2, HOUR);
        world.with_disk(0, mend);
        passes(&mut world, DAY);
        ends_well(&mut world);
    }
}

#[test]
fn a_disk_that_turns_bad_at_promote_for_a_day_is_caught_up_with_afterwards() {
    for (mut world, mend) in turned_bad_in(PhaseName::Proving) {
        passes(&mut world, DAY);
        world.with_disk(0, mend);
        passes(&mut world, HOUR);
        world.kill_router(0);
        passes(&mut world, HOUR);
        world.start_router(0);
        serves(&mut world, 2, HOUR);
        ends_well(&mut world);
    }
}

#[test]
fn one_failing_disk_operation_anywhere_in_a_renewal_costs_a_retry_at_most() {
    for controllers in BOTH {
        let base = connected(controllers);
        for fault in [DiskFault::Refuse(Errno::IO), DiskFault::Half(Errno::NOSPC), DiskFault::DoneBut(Errno::IO)] {
            for nth in 0.. {
                let mut world = base.clone();
                world.fail_disk_operation(0, nth, fault);
                let before = world.counts().failed_barriers;
                world.renew_now(0);
                passes(&mut world, 2 * HOUR);
                world.renew_now(0);
                passes(&mut world, 2 * HOUR);
                assert!(
                    world.counts().renewals >= 1,
                    "{controllers:?} {fault:?} at operation {nth}: {:?}",
                    world.phase(0)
                );
                ends_well(&mut world);
                if nth > 40 && world.counts().failed_barriers == before {
                    break;
                }
            }
        }
    }
}

#[test]
fn a_generation_that_one_start_cannot_read_is_still_a_candidate() {
    let mut base = connected(Make::Exuvia);
    base.renew_now(0);
    passes(&mut base, 3 * HOUR);
    base.kill_router(0);
    for nth in 0..40 {
        let mut world = base.clone();
        world.fail_disk_operation(0, nth, DiskFault::Refuse(Errno::IO));
        world.start_router(0);
        world.run_for(HOUR / 6).unwrap_or_else(|broken| panic!("operation {nth}: {broken}"));
        world.renew_now(0);
        world.run_for(HOUR).unwrap_or_else(|broken| panic!("operation {nth}: {broken}"));
    }
}

/// The 20301 came when no channel was left, so its 20303 waits; and by then the manifest cannot say that it leaves.
#[test]
fn a_staged_generation_on_a_disk_that_turned_bad_waits_patiently_and_is_proven_when_it_is_mended() {
    for controllers in BOTH {
        for (spoil, mend) in TROUBLES {
            let mut world = connected(controllers);
            world.renew_now(0);
            let signed = world.counts().signatures;
            assert!(world.run_until(HOUR, |world| world.counts().signatures > signed));
            let messages = world.counts().messages;
            assert!(world.run_until(HOUR, |world| world.counts().messages > messages));
            world.disconnect(0, true, true);
            world.break_channel(0, 0);
            reaches(&mut world, PhaseName::Staged);
            world.with_disk(0, spoil);
            world.reconnect(0, true, true);
            connects(&mut world, HOUR);
            // `NobodySpins` is checked all the time.
            passes(&mut world, DAY);
            assert_eq!(world.connected(0), 1);
            world.with_disk(0, mend);
            passes(&mut world, HOUR);
            assert_eq!(world.live(0).map(|live| live.0), Some(2), "{controllers:?}: {:?}", world.phase(0));
            ends_well(&mut world);
        }
    }
}

/// 20303 must not leave while the manifest that names its generation may be lost.
#[test]
fn nothing_is_sent_for_a_generation_whose_manifest_may_be_lost() {
    let base = connected(Make::Stock);
    for nth in 0..80 {
        let mut world = base.clone();
        world.next_messages(Kind::Verify, 1, Action::KillSender { down: HOUR });
        world.fail_disk_operation(0, nth, DiskFault::DoneBut(Errno::IO));
        world.renew_now(0);
        // The claim `NothingIsSentBeforeItIsDurable` is checked at every 20303 and every dial.
        passes(&mut world, 3 * HOUR);
        ends_well(&mut world);
    }
}
