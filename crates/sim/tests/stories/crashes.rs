//! A router that dies at any disk operation, and every kind of remains.

use sim::{Kind, Leaves, Make, World};

use crate::scene::{HOUR, connected, ends_well, passes};

fn remains() -> Vec<Leaves> {
    let dice = (0..6).map(Leaves::Some);
    [Leaves::Cache, Leaves::Nothing, Leaves::Everything].into_iter().chain(dice).collect()
}

/// Renews once for every disk operation and every kind of remains, with a crash there. Answers how many operations there were.
fn crashes_everywhere(base: &World, then: impl Fn(&mut World)) -> u64 {
    for nth in 0.. {
        for leaves in remains() {
            let mut world = base.clone();
            world.crash_in_disk_operation(0, nth, leaves);
            world.renew_now(0);
            world.run_for(HOUR / 3).unwrap_or_else(|broken| panic!("operation {nth}, {leaves:?}: {broken}"));
            if world.counts().cuts_in_disk_operations == 0 {
                return nth;
            }
            then(&mut world);
            ends_well(&mut world);
        }
    }
    unreachable!()
}

#[test]
fn a_router_that_dies_at_any_disk_operation_of_a_renewal_keeps_its_identity() {
    for controllers in [Make::Exuvia, Make::Stock] {
        let operations = crashes_everywhere(&connected(controllers), |_| {});
        assert!(operations > 30, "a renewal has more disk operations than {operations}");
    }
}

/// The cache of a killed process lives on until the next power cut takes it.
#[test]
fn a_kill_at_any_disk_operation_and_a_power_cut_soon_after_the_restart_keep_the_identity() {
    for controllers in [Make::Exuvia, Make::Stock] {
        let base = connected(controllers);
        for nth in 0.. {
            let mut world = base.clone();
            world.crash_in_disk_operation(0, nth, Leaves::Cache);
            world.renew_now(0);
            world.run_until(HOUR / 3, |world| world.counts().cuts_in_disk_operations == 1);
            if world.counts().cuts_in_disk_operations == 0 {
                assert!(nth > 30, "a renewal has more disk operations than {nth}");
                break;
            }
            assert!(world.run_until(HOUR, |world| world.connected(0) == 1), "operation {nth}");
            for seed in 0..4 {
                let mut world = world.clone();
                world.crash_in_disk_operation(0, seed * 3, Leaves::Some(seed));
                passes(&mut world, HOUR);
                world.cut_power(0);
                world.start_router(0);
                passes(&mut world, HOUR);
                ends_well(&mut world);
            }
        }
    }
}

/// Twice in a row: during the renewal, and again while the restart reads and repairs what it finds.
#[test]
fn a_second_power_cut_inside_the_start_that_follows_the_first_keeps_the_identity() {
    let base = connected(Make::Stock);
    for nth in (0..80).step_by(3) {
        for second in (0..40).step_by(3) {
            let mut world = base.clone();
            world.crash_in_disk_operation(0, nth, Leaves::Some(nth));
            world.renew_now(0);
            world.run_until(HOUR / 3, |world| world.counts().cuts_in_disk_operations == 1);
            world.crash_in_disk_operation(0, second, Leaves::Some(nth ^ second));
            passes(&mut world, HOUR / 3);
            ends_well(&mut world);
        }
    }
}

/// The answer is lost as well: a stock controller has promoted, and only the disk knows.
#[test]
fn a_power_cut_at_any_disk_operation_after_a_lost_20002_keeps_the_identity() {
    let mut base = connected(Make::Stock);
    base.next_messages(Kind::Verified, 1, sim::Action::Lose);
    crashes_everywhere(&base, |_| {});
}
