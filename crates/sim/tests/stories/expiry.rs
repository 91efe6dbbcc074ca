//! What time alone does to a router that is off or cut off.

use lifecycle::renewal::PhaseName;
use sim::Make;

use crate::scene::{BOTH, DAY, HOUR, connected, connects, ends_well, passes};

#[test]
fn a_router_that_was_off_when_its_renewal_fell_due_renews_at_its_start() {
    for controllers in BOTH {
        let mut world = connected(controllers);
        world.kill_router(0);
        passes(&mut world, 88 * DAY);
        world.start_router(0);
        passes(&mut world, HOUR);
        assert_eq!(world.counts().renewals, 1, "{controllers:?}");
        ends_well(&mut world);
    }
}

#[test]
fn a_leaf_that_expired_while_the_router_was_off_is_a_phase_and_not_an_exit() {
    for controllers in BOTH {
        let mut world = connected(controllers);
        world.kill_router(0);
        passes(&mut world, 100 * DAY);
        world.start_router(0);
        let dials = world.counts().dials;
        passes(&mut world, DAY);
        assert_eq!(world.phase(0), Some(PhaseName::Lapsed), "{controllers:?}");
        assert!(world.is_beyond_help(0));
        // It goes on asking, and not too often: a clock may be wrong, an operator may readmit it.
        let dials = world.counts().dials - dials;
        assert!((100..2_000).contains(&dials), "{controllers:?}: {dials} dials in a day");
        assert_eq!(world.candidates(0), [1], "{controllers:?}: nothing is erased");
    }
}

#[test]
fn a_leaf_that_expired_behind_a_cut_wire_is_a_phase_and_not_an_exit() {
    for controllers in BOTH {
        let mut world = connected(controllers);
        world.disconnect(0, true, true);
        passes(&mut world, 100 * DAY);
        assert_eq!(world.phase(0), Some(PhaseName::Lapsed), "{controllers:?}");
        world.reconnect(0, true, true);
        passes(&mut world, DAY);
        assert_eq!(world.connected(0), 0, "{controllers:?}");
        assert_eq!(world.candidates(0), [1], "{controllers:?}");
    }
}

#[test]
fn a_lapsed_router_lives_again_with_a_new_token() {
    let mut world = connected(Make::Exuvia);
    world.kill_router(0);
    passes(&mut world, 100 * DAY);
    world.start_router(0);
    passes(&mut world, DAY);
    world.re_enroll(0);
    passes(&mut world, HOUR);
    world.kill_router(0);
    world.enroll_again(0);
    world.start_router(0);
    connects(&mut world, HOUR);
    assert_eq!(world.live(0).map(|live| live.0), Some(2));
    ends_well(&mut world);
}

/// A wire that comes back in the last hour of the leaf is enough.
#[test]
fn a_router_cut_off_from_before_its_due_time_until_an_hour_before_the_end_renews() {
    for controllers in BOTH {
        let mut world = connected(controllers);
        world.disconnect(0, true, true);
        let end_ms = u64::try_from((90 * DAY).as_millis()).unwrap();
        world.run_to(end_ms - 3_600_000).unwrap();
        world.reconnect(0, true, true);
        passes(&mut world, HOUR);
        assert_eq!(world.counts().renewals, 1, "{controllers:?}: {:?}", world.phase(0));
        ends_well(&mut world);
    }
}
