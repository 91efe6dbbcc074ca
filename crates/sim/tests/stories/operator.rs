//! The operator takes an identity away, or has it made anew, at the worst moment.

use sim::{Action, Kind, Make, World};

use lifecycle::issuance::Standing;

use crate::scene::{DAY, HOUR, MINUTE, connected_with, connects, ends_well, passes, renews};

fn admitted(world: &World) -> usize {
    world.held_and_admitted(0).1
}

/// At every moment of a renewal. What the register has taken back it does not give again.
#[test]
fn e_3_a_router_revoked_at_any_moment_of_a_renewal_stays_revoked() {
    let mut base = connected_with(Make::Exuvia, 2);
    base.renew_now(0);
    for moment in 0..40 {
        let mut world = base.clone();
        world.revoke(0);
        passes(&mut world, MINUTE);
        for _ in 0..24 {
            passes(&mut world, HOUR);
            assert_eq!(world.connected(0), 0, "moment {moment}");
            assert_eq!(admitted(&world), 0, "moment {moment}");
            assert_eq!(world.record(0).map(|record| record.standing), Some(Standing::Revoked), "moment {moment}");
        }
        base.tick();
    }
}

/// A 20302, 20303 or 20302's signature that the revocation overtook resurrects nobody.
#[test]
fn e_3_a_message_that_a_revocation_overtook_is_void() {
    for kind in [Kind::Extend, Kind::Verify, Kind::Hello] {
        let mut world = connected_with(Make::Exuvia, 1);
        world.next_messages(kind, 1, Action::Delay { by: 20 * MINUTE / 60 });
        if kind == Kind::Hello {
            world.break_channel(0, 0);
        }
        world.renew_now(0);
        assert!(world.run_until(HOUR, |world| world.script_is_played()), "{kind:?}");
        world.revoke(0);
        passes(&mut world, DAY);
        assert_eq!((world.connected(0), admitted(&world)), (0, 0), "{kind:?}");
    }
}

/// the router's own persistence does not undo what the operator did.
#[test]
fn a_7_a_20303_of_before_a_re_enrollment_confirms_nothing() {
    let mut world = connected_with(Make::Exuvia, 1);
    world.next_messages(Kind::Verify, 1, Action::Delay { by: 20 * MINUTE / 60 });
    world.renew_now(0);
    assert!(world.run_until(HOUR, |world| world.script_is_played()));
    world.re_enroll(0);
    passes(&mut world, DAY);
    assert_eq!((world.connected(0), admitted(&world)), (0, 0));
    world.kill_router(0);
    // The token of yesterday is over; the operator makes another.
    world.re_enroll(0);
    passes(&mut world, MINUTE);
    world.enroll_again(0);
    passes(&mut world, MINUTE);
    world.start_router(0);
    connects(&mut world, HOUR);
    assert_eq!(admitted(&world), 1);
    ends_well(&mut world);
}

/// A re-enrollment at every moment of a renewal: nothing of before is admitted, and the new identity works.
#[test]
fn a_7_a_router_re_enrolled_at_any_moment_of_a_renewal_lives_on_with_the_new_identity_only() {
    let mut base = connected_with(Make::Exuvia, 2);
    base.renew_now(0);
    for moment in 0..40 {
        let mut world = base.clone();
        world.re_enroll(0);
        passes(&mut world, MINUTE);
        assert_eq!((world.connected(0), admitted(&world)), (0, 0), "moment {moment}");
        world.kill_router(0);
        world.enroll_again(0);
        passes(&mut world, MINUTE);
        world.start_router(0);
        connects(&mut world, HOUR);
        passes(&mut world, HOUR);
        assert_eq!(world.connected(0), 2, "moment {moment}");
        let newest = world.candidates(0).last().copied();
        assert_eq!(world.live(0).map(|live| live.0), newest, "moment {moment}");
        ends_well(&mut world);
        renews(&mut world);
        base.tick();
    }
}

/// A stolen copy of the old keys is worth nothing after a re-enrollment, also when the register was restored before.
#[test]
fn a_leaf_of_before_a_re_enrollment_is_not_believed_after_a_restore() {
    let mut world = connected_with(Make::Exuvia, 1);
    let stolen = *world.survivors(0).first().and_then(|leaves| leaves.first()).unwrap();
    world.back_up();
    passes(&mut world, DAY);
    world.restore();
    passes(&mut world, HOUR);
    world.re_enroll(0);
    passes(&mut world, MINUTE);
    assert!(!world.is_admitted_somewhere(0, &stolen));
    world.kill_router(0);
    world.enroll_again(0);
    passes(&mut world, MINUTE);
    world.start_router(0);
    connects(&mut world, HOUR);
    assert!(!world.is_admitted_somewhere(0, &stolen));
    ends_well(&mut world);
}

/// A revoked router's process goes on asking, patiently.
#[test]
fn a_revoked_router_does_not_spin() {
    let mut world = connected_with(Make::Exuvia, 1);
    world.revoke(0);
    passes(&mut world, HOUR);
    let dials = world.counts().dials;
    passes(&mut world, DAY);
    let dials = world.counts().dials - dials;
    assert!((100..2_000).contains(&dials), "{dials} dials in a day");
}
