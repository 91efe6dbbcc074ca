//! More than one attempt at once, and attempts whose end nobody knows.

use std::time::Duration;

use lifecycle::manifest::CANDIDATES_MAX;
use lifecycle::renewal::PhaseName;
use sim::{Action, Kind, Make};

use crate::scene::{
    BOTH, DAY, HOUR, MINUTE, can_still_renew, connected, connected_with, connects, ends_well, passes, reaches, renews,
    serves,
};

/// Every moment at which a 20301 of the first round can arrive in the second one.
#[test]
fn a_late_20301_of_an_earlier_round_is_as_good_as_a_timely_one_or_harmless() {
    for controllers in BOTH {
        for late_ms in (29_000..36_000).step_by(250).chain([60_000, 300_000, 3_600_000]) {
            let mut world = connected(controllers);
            world.next_messages(Kind::Extended, 1, Action::Delay { by: Duration::from_millis(late_ms) });
            world.renew_now(0);
            world.run_for(2 * HOUR).unwrap_or_else(|broken| panic!("{controllers:?}, {late_ms} ms: {broken}"));
            match world.counts().renewals {
                // OpenZiti had replaced the leaf of the first round by then, and nobody has lost anything.
                0 => can_still_renew(&mut world),
                _ => ends_well(&mut world),
            }
        }
    }
}

/// between reading the pending leaf and committing it, a stock controller may take for ever. What it promotes then is older than
/// what the router has proven since.
#[test]
fn a_1_a_delayed_verify_that_promotes_the_older_leaf_finds_it_still_on_disk() {
    for count in [1, 2] {
        let mut world = connected_with(Make::Stock, count);
        world.next_promotion_takes(3 * HOUR);
        world.renew_now(0);
        // The attempt is given up as unknown, and the next one succeeds.
        reaches(&mut world, PhaseName::Proving);
        passes(&mut world, HOUR);
        assert_eq!(world.phase(0), Some(PhaseName::Steady));
        renews(&mut world);
        serves(&mut world, 3, HOUR);
        assert_eq!(world.candidates(0), [1, 2, 3]);
        passes(&mut world, 2 * HOUR);
        // The delayed one has been committed: 2 is what the controllers admit.
        assert!(!world.is_locked_out(0));
        for controller in 0..count {
            world.break_channel(0, controller);
        }
        connects(&mut world, HOUR);
        serves(&mut world, 2, HOUR);
        can_still_renew(&mut world);
    }
}

/// The same, and the machine restarts or loses power before it notices.
#[test]
fn a_1_a_delayed_verify_and_a_restart_find_the_older_leaf_too() {
    let mut world = connected(Make::Stock);
    world.next_promotion_takes(3 * HOUR);
    world.renew_now(0);
    reaches(&mut world, PhaseName::Proving);
    passes(&mut world, HOUR);
    renews(&mut world);
    passes(&mut world, 2 * HOUR);
    world.cut_power(0);
    world.start_router(0);
    connects(&mut world, HOUR);
    serves(&mut world, 2, HOUR);
    can_still_renew(&mut world);
}

/// a 20303 whose outcome is never known keeps its generation, and does not stop the next attempt.
#[test]
fn a_2_an_attempt_without_an_end_stays_a_candidate_and_does_not_block_the_next() {
    let mut world = connected(Make::Stock);
    world.next_messages(Kind::Verify, 1_000, Action::Lose);
    world.renew_now(0);
    reaches(&mut world, PhaseName::Proving);
    passes(&mut world, HOUR);
    assert_eq!(world.phase(0), Some(PhaseName::Steady));
    assert_eq!(world.candidates(0), [1, 2]);
    world.heal();
    renews(&mut world);
    assert_eq!(world.live(0).map(|live| live.0), Some(3));
    assert_eq!(world.candidates(0), [1, 2, 3]);
    ends_well(&mut world);
}

/// A controller that signs and never confirms fills the list, and no more than that; when it is mended the router renews.
#[test]
fn a_2_a_controller_that_never_confirms_fills_the_list_and_is_waited_for() {
    let mut world = connected(Make::Stock);
    world.next_messages(Kind::Verify, u32::MAX, Action::Lose);
    passes(&mut world, 80 * DAY);
    assert_eq!(world.candidates(0).len(), CANDIDATES_MAX);
    assert!(!world.is_locked_out(0));
    world.heal();
    passes(&mut world, 2 * DAY);
    assert!(world.counts().renewals >= 1, "{:?}", world.phase(0));
    passes(&mut world, 60 * DAY);
    ends_well(&mut world);
}

/// C-1: a 20302 of an earlier attempt arrives, at any moment, while a later one is on its way to its first use.
#[test]
fn c_1_a_leaf_that_was_admitted_is_not_overtaken() {
    let mut base = connected_with(Make::Exuvia, 2);
    let after = Duration::from_secs(7_200);
    base.next_messages(Kind::Extend, 1, Action::Double { after });
    let asked_at_ms = base.now_ms();
    base.renew_now(0);
    let is_asked = base.run_until(HOUR, |world| world.script_is_played());
    assert!(is_asked);
    let arrives_ms = base.now_ms() + 7_200_000;
    base.run_to(asked_at_ms + 7_000_000).unwrap();
    assert_eq!(base.counts().renewals, 1);
    for before_ms in 0..300 {
        let mut world = base.clone();
        world.run_to(arrives_ms - before_ms).unwrap();
        world.renew_now(0);
        world.run_for(2 * HOUR).unwrap_or_else(|broken| panic!("{before_ms} ms: {broken}"));
        // The overtaking request may have taken the place of a leaf that was not used yet. One that was used stays.
        let proven = world.counts().renewals + 1;
        assert!(world.live(0).is_some_and(|live| live.0 >= proven), "{before_ms} ms: {:?}", world.live(0));
        can_still_renew(&mut world);
    }
}

/// Two operators, two attempts: the second is deferred, and the first goes on.
#[test]
fn a_renewal_asked_for_while_one_is_under_way_is_the_same_one() {
    for controllers in BOTH {
        let mut world = connected(controllers);
        world.renew_now(0);
        for _ in 0..20 {
            world.tick();
            world.renew_now(0);
        }
        passes(&mut world, HOUR);
        assert!((1..=2).contains(&world.counts().renewals), "{controllers:?}: {}", world.counts().renewals);
        ends_well(&mut world);
    }
}

/// Thirty renewals a day apart never leave more candidates than the cap, and never fewer than a restored register could need.
#[test]
fn an_eager_operator_never_fills_the_list() {
    for controllers in BOTH {
        let mut world = connected(controllers);
        for _ in 0..30 {
            renews(&mut world);
            passes(&mut world, MINUTE);
            assert!(world.candidates(0).len() <= CANDIDATES_MAX);
        }
        assert_eq!(world.counts().renewals, 30);
        ends_well(&mut world);
    }
}
