//! Answers that are lost, late, doubled, or never sent because somebody died.

use std::time::Duration;

use sim::{Action, Kind, Make};

use crate::scene::{BOTH, HOUR, MINUTE, connected, connected_with, ends_well, passes};

/// Renews with one message faring so; ends settled on a proven generation.
fn renews_although(kind: Kind, action: Action) {
    for controllers in BOTH {
        let mut world = connected(controllers);
        world.next_messages(kind, 1, action);
        world.renew_now(0);
        world.run_for(30 * MINUTE).unwrap_or_else(|broken| panic!("{controllers:?}: {broken}"));
        assert!(world.script_is_played(), "{controllers:?}: the message was never sent");
        assert!(world.counts().renewals >= 1, "{controllers:?}: {:?}", world.phase(0));
        ends_well(&mut world);
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
fn a_controller_killed_between_store_and_answer_costs_nothing() {
    for kind in [Kind::Extended, Kind::Verified] {
        renews_although(kind, Action::KillSender { down: 2 * MINUTE });
    }
}

/// The use of the new leaf is durable, and the controller dies before the Result leaves.
#[test]
fn a_controller_killed_between_first_use_and_result_costs_nothing() {
    for controllers in BOTH {
        let mut world = connected(controllers);
        world.renew_now(0);
        assert!(world.run_until(HOUR, |world| world.counts().verifies == 1));
        // The next one is the proof's.
        world.next_messages(Kind::Welcome, 1, Action::KillSender { down: 2 * MINUTE });
        passes(&mut world, HOUR);
        assert!(world.script_is_played(), "{controllers:?}");
        assert_eq!(world.counts().renewals, 1, "{controllers:?}");
        ends_well(&mut world);
    }
}

/// With another controller at hand, nobody waits for the dead one.
#[test]
fn a_controller_killed_between_store_and_answer_leaves_the_renewal_to_the_other() {
    for controllers in BOTH {
        for kind in [Kind::Extended, Kind::Verified] {
            let mut world = connected_with(controllers, 2);
            world.next_messages(kind, 1, Action::KillSender { down: 6 * HOUR });
            world.renew_now(0);
            passes(&mut world, HOUR);
            assert!(world.script_is_played(), "{controllers:?} {kind:?}");
            assert!(world.counts().renewals >= 1, "{controllers:?} {kind:?}: {:?}", world.phase(0));
            assert_eq!(world.connected(0), 1, "{controllers:?} {kind:?}");
            ends_well(&mut world);
        }
    }
}

#[test]
fn a_router_killed_just_before_any_of_its_messages_leaves_renews_after_its_start() {
    for controllers in BOTH {
        for kind in [Kind::Extend, Kind::Verify] {
            let mut world = connected(controllers);
            world.next_messages(kind, 1, Action::KillSender { down: MINUTE });
            world.renew_now(0);
            passes(&mut world, HOUR);
            assert!(world.script_is_played(), "{controllers:?} {kind:?}");
            assert_eq!(world.counts().renewals, 1, "{controllers:?} {kind:?}: {:?}", world.phase(0));
            ends_well(&mut world);
        }
    }
}

/// A commit that fails is no answer at all, and asking again is as good as the first time.
#[test]
fn a_commit_of_the_register_that_fails_costs_nothing() {
    for nth in 0..4 {
        let mut world = connected(Make::Exuvia);
        world.renew_now(0);
        for _ in 0..nth {
            let before = world.counts().checks;
            assert!(world.run_until(HOUR, |world| world.counts().checks > before));
        }
        world.fail_next_commit();
        passes(&mut world, HOUR);
        assert!(world.counts().renewals >= 1, "check {nth}: {:?}", world.phase(0));
        ends_well(&mut world);
    }
}
