//! Wall clocks that are wrong, and jump.

use lifecycle::renewal::PhaseName;
use sim::Make;

use crate::scene::{BOTH, DAY, HOUR, MINUTE, connected, connects, ends_well, passes, reaches};

const TO_2038_MS: i64 = 12 * 365 * 86_400_000;
const TO_1970_MS: i64 = -56 * 365 * 86_400_000;

#[test]
fn a_clock_two_minutes_slow_at_stage_takes_the_new_leaf() {
    for controllers in BOTH {
        let mut world = connected(controllers);
        world.renew_now(0);
        reaches(&mut world, PhaseName::Requested);
        world.step_router_clock(0, -120_000);
        passes(&mut world, HOUR);
        assert_eq!(world.counts().renewals, 1, "{controllers:?}");
        // A restart under the same clock does not fall back to the older one either.
        world.kill_router(0);
        world.start_router(0);
        connects(&mut world, HOUR);
        passes(&mut world, HOUR);
        assert_eq!(world.live(0).map(|live| live.0), Some(2), "{controllers:?}");
        ends_well(&mut world);
    }
}

fn lives_a_year_under(by_ms: i64, restarts: bool) {
    for controllers in BOTH {
        let mut world = connected(controllers);
        world.step_router_clock(0, by_ms);
        for _ in 0..73 {
            if restarts {
                world.kill_router(0);
                passes(&mut world, MINUTE);
                world.start_router(0);
            }
            passes(&mut world, 5 * DAY);
            assert!(!world.is_locked_out(0), "{controllers:?}");
            assert_eq!(world.connected(0), 1, "{controllers:?}: {:?}", world.phase(0));
        }
        let renewals = world.counts().renewals;
        assert!(renewals >= 4, "{controllers:?}: {renewals} renewals");
        if !restarts {
            assert!(renewals <= 12, "{controllers:?}: {renewals} renewals");
        }
        world.step_router_clock(0, -by_ms);
        passes(&mut world, DAY);
        ends_well(&mut world);
    }
}

#[test]
fn a_router_whose_clock_says_2038_renews_by_its_uptime() {
    lives_a_year_under(TO_2038_MS, false);
}

#[test]
fn a_router_whose_clock_says_1970_renews_by_its_uptime() {
    lives_a_year_under(TO_1970_MS, false);
}

#[test]
fn a_router_that_restarts_often_under_a_wrong_clock_is_never_locked_out() {
    lives_a_year_under(TO_2038_MS, true);
    lives_a_year_under(TO_1970_MS, true);
}

/// Nothing is erased by a clock that calls every leaf expired.
#[test]
fn a_jump_to_2038_erases_nothing() {
    for controllers in BOTH {
        let mut world = connected(controllers);
        crate::scene::renews(&mut world);
        world.step_router_clock(0, TO_2038_MS);
        passes(&mut world, DAY);
        world.break_channel(0, 0);
        connects(&mut world, HOUR);
        passes(&mut world, DAY);
        assert!(world.candidates(0).starts_with(&[1, 2]), "{controllers:?}: {:?}", world.candidates(0));
        assert_eq!(world.counts().retired, 0);
    }
}

/// An attempt that began in 2038 does not forbid the next one until 2038.
#[test]
fn an_attempt_made_in_2038_does_not_block_renewals_when_the_clock_is_right_again() {
    let mut world = connected(Make::Exuvia);
    world.step_router_clock(0, TO_2038_MS);
    crate::scene::renews(&mut world);
    world.kill_router(0);
    world.step_router_clock(0, -TO_2038_MS);
    world.start_router(0);
    let renewals = world.counts().renewals;
    passes(&mut world, 70 * DAY);
    assert!(world.counts().renewals > renewals);
    ends_well(&mut world);
}

/// The controller's clock decides what is admitted; ours only says so.
#[test]
fn a_clock_that_calls_every_leaf_expired_lapses_only_while_nobody_admits_one() {
    let mut world = connected(Make::Exuvia);
    world.step_router_clock(0, TO_2038_MS);
    world.disconnect(0, true, true);
    passes(&mut world, HOUR);
    assert_eq!(world.phase(0), Some(PhaseName::Lapsed));
    world.reconnect(0, true, true);
    connects(&mut world, HOUR);
    assert_ne!(world.phase(0), Some(PhaseName::Lapsed));
    assert!(!world.is_locked_out(0));
}
