//! How stories begin and how they end.

use std::time::Duration;

use lifecycle::renewal::PhaseName;
use sim::{Make, Plan, World, check_liveness};

pub(crate) const MINUTE: Duration = Duration::from_secs(60);
pub(crate) const HOUR: Duration = Duration::from_secs(3600);
pub(crate) const DAY: Duration = Duration::from_secs(86_400);
pub(crate) const BOTH: [Make; 2] = [Make::Exuvia, Make::Stock];

/// One router of ours, connected with as many controllers of this make.
pub(crate) fn connected_with(controllers: Make, count: usize) -> World {
    begins(Plan { controllers: count, ..Plan::calm(7, Make::Exuvia, controllers) })
}

/// A world of this plan, when its first router is connected with everybody.
pub(crate) fn begins(plan: Plan) -> World {
    let count = plan.controllers;
    let mut world = World::new(plan);
    assert!(world.run_until(MINUTE, |world| world.connected(0) == count));
    world
}

/// One router of ours, connected with one controller.
pub(crate) fn connected(controllers: Make) -> World {
    connected_with(controllers, 1)
}

/// Runs until the router is in this phase.
pub(crate) fn reaches(world: &mut World, phase: PhaseName) {
    let is_there = world.run_until(HOUR, |world| world.phase(0) == Some(phase));
    assert!(is_there, "{phase} was not reached: {:?}, {:?}", world.phase(0), world.broken());
}

/// Runs until the router serves this generation.
pub(crate) fn serves(world: &mut World, number: u64, within: Duration) {
    let is_so = world.run_until(within, |world| world.live(0).is_some_and(|live| live.0 == number));
    assert!(is_so, "{:?} is served and not {number}: {:?}, {:?}", world.live(0), world.phase(0), world.broken());
}

/// Runs until the router has a channel with everybody.
pub(crate) fn connects(world: &mut World, within: Duration) {
    let count = world.plan().controllers;
    let is_so = world.run_until(within, |world| world.connected(0) == count);
    assert!(is_so, "{} channels: {:?}, {:?}", world.connected(0), world.phase(0), world.broken());
}

/// A renewal from beginning to end, and the ten minutes in which the old generation drains.
pub(crate) fn renews(world: &mut World) {
    let renewals = world.counts().renewals;
    world.renew_now(0);
    let is_renewed = world.run_until(HOUR, |world| world.counts().renewals > renewals);
    assert!(is_renewed, "no renewal: {:?}, {:?}", world.phase(0), world.broken());
    passes(world, 15 * MINUTE);
}

/// Time passes, and no promise is broken.
pub(crate) fn passes(world: &mut World, time: Duration) {
    world.run_for(time).unwrap_or_else(|broken| panic!("{broken}"));
}

/// Every fault is over: the router ends steady, connected, on its newest proven generation, and nothing was broken on the way.
pub(crate) fn ends_well(world: &mut World) {
    world.heal();
    check_liveness(world);
    assert_eq!(world.broken(), None);
    assert!(!world.is_locked_out(0));
}

/// The same, for a router that may have gone back to an older generation: it is connected and can renew.
pub(crate) fn can_still_renew(world: &mut World) {
    world.heal();
    connects(world, HOUR);
    passes(world, HOUR);
    renews(world);
    ends_well(world);
}
