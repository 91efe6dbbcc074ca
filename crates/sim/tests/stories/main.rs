//! Stories of one router, told step by step.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::time::Duration;

use lifecycle::renewal::PhaseName;
use sim::{Action, DiskFault, Errno, Kind, Make, Plan, World, check_liveness};

const DAY: Duration = Duration::from_secs(86_400);

fn connected(controllers: Make) -> World {
    let mut world = World::new(Plan::calm(7, Make::Exuvia, controllers));
    assert!(world.run_until(Duration::from_secs(60), |world| world.connected(0) == 1));
    world
}

/// Renews with one message lost, doubled or late; ends settled on a proven generation.
fn renews_although(kind: Kind, action: Action) {
    for controllers in [Make::Exuvia, Make::Stock] {
        let mut world = connected(controllers);
        world.next_messages(kind, 1, action);
        world.renew_now(0);
        world.run_for(Duration::from_secs(1800)).unwrap_or_else(|broken| panic!("{controllers:?}: {broken}"));
        assert!(world.script_is_played(), "{controllers:?}: the message was never sent");
        assert!(world.counts().renewals >= 1, "{controllers:?}: {:?}", world.phase(0));
        world.heal();
        check_liveness(&mut world);
        assert_eq!(world.broken(), None, "{controllers:?}");
    }
}

#[test]
fn a_lost_20301_costs_nothing() {
    renews_although(Kind::Extended, Action::Lose);
}

#[test]
fn a_lost_20302_costs_nothing() {
    renews_although(Kind::Extend, Action::Lose);
}

#[test]
fn a_lost_20303_costs_nothing() {
    renews_although(Kind::Verify, Action::Lose);
}

#[test]
fn a_lost_20002_does_not_lock_the_router_out() {
    renews_although(Kind::Verified, Action::Lose);
}

#[test]
fn doubled_and_late_answers_change_nothing() {
    for kind in [Kind::Extended, Kind::Verify, Kind::Verified, Kind::Extend] {
        renews_although(kind, Action::Double { after: Duration::from_secs(45) });
        renews_although(kind, Action::Delay { by: Duration::from_secs(45) });
    }
}

#[test]
fn a_full_disk_in_prepare_asks_for_nothing_and_renews_when_there_is_room() {
    let mut world = connected(Make::Exuvia);
    world.with_disk(0, sim::SimDisk::fill_up);
    world.renew_now(0);
    assert_eq!(world.phase(0), Some(PhaseName::Steady));
    assert_eq!(world.counts().requests, 0);
    world.with_disk(0, |disk| disk.set_capacity(None));
    world.renew_now(0);
    world.run_for(Duration::from_secs(600)).unwrap();
    assert_eq!(world.counts().renewals, 1);
}

#[test]
fn a_router_that_loses_power_at_any_disk_operation_of_a_renewal_keeps_its_identity() {
    let base = connected(Make::Exuvia);
    for nth in 0.. {
        let mut world = base.clone();
        world.fail_disk_operation(0, nth, DiskFault::Crash);
        world.renew_now(0);
        world.run_for(Duration::from_secs(1200)).unwrap_or_else(|broken| panic!("operation {nth}: {broken}"));
        world.heal();
        check_liveness(&mut world);
        assert_eq!(world.broken(), None, "operation {nth}");
        if world.counts().cuts_in_disk_operations == 0 {
            assert!(nth > 30, "a renewal has more disk operations than {nth}");
            break;
        }
    }
}

#[test]
fn a_generation_that_one_start_cannot_read_is_still_a_candidate() {
    let mut base = connected(Make::Exuvia);
    base.renew_now(0);
    base.run_for(Duration::from_secs(3 * 3600)).unwrap();
    base.kill_router(0);
    for nth in 0..40 {
        let mut world = base.clone();
        world.fail_disk_operation(0, nth, DiskFault::Refuse(Errno::IO));
        world.start_router(0);
        world.run_for(Duration::from_secs(600)).unwrap_or_else(|broken| panic!("operation {nth}: {broken}"));
        world.renew_now(0);
        world.run_for(Duration::from_secs(3600)).unwrap_or_else(|broken| panic!("operation {nth}: {broken}"));
    }
}

/// The control: what is known to go wrong between a stock router and a stock controller goes wrong here.
#[test]
fn a_stock_router_is_lost_by_one_lost_20002_of_a_stock_controller() {
    let mut world = World::new(Plan::calm(7, Make::Stock, Make::Stock));
    world.next_messages(Kind::Verified, 1, Action::Lose);
    world.run_for(DAY * 89).unwrap();
    assert_eq!(world.counts().losses, 1);
}

/// B-1
#[test]
fn b_1_a_stock_router_survives_any_number_of_lost_20002_on_our_controller() {
    let mut world = World::new(Plan::calm(7, Make::Stock, Make::Exuvia));
    world.next_messages(Kind::Verified, 50, Action::Lose);
    world.run_for(DAY * 89).unwrap();
    assert_eq!(world.counts().losses, 0);
    assert!(world.script_is_played());
    assert!(world.counts().renewals >= 1);
}
