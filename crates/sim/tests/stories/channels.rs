//! Channels: several controllers, lagging ones, displaced ones, and underlays that come and go.

use lifecycle::renewal::PhaseName;
use sim::{Action, Kind, Make};

use crate::scene::{
    BOTH, DAY, HOUR, MINUTE, connected, connected_with, connects, ends_well, passes, reaches, renews, serves,
};

fn last_admitted(world: &sim::World, controller: usize) -> Option<u64> {
    world.contact(0, controller).and_then(|contact| contact.last_admitted).map(|number| number.0)
}

/// the node that has the news is lost, and the one that lags admits only the older leaf.
#[test]
fn a_5_a_lagging_controller_is_dialed_with_the_leaf_that_it_admits() {
    let mut world = connected_with(Make::Stock, 2);
    world.fall_behind(1);
    // Whichever node answers, only the first has the promotion.
    renews(&mut world);
    serves(&mut world, 2, HOUR);
    world.kill_controller(0);
    world.break_channel(0, 1);
    let is_back = world.run_until(HOUR, |world| world.connected(0) == 1);
    assert!(is_back, "{:?}", world.broken());
    assert_eq!(last_admitted(&world, 1), Some(1));
    passes(&mut world, DAY);
    assert_eq!(world.connected(0), 1);
    // The lagging one hears of it, and its channel breaks: now it is the newer leaf.
    world.catch_up(1);
    world.break_channel(0, 1);
    assert!(world.run_until(HOUR, |world| world.connected(0) == 1));
    assert_eq!(last_admitted(&world, 1), Some(2));
    ends_well(&mut world);
}

/// A lagging node does not pull a router back while another one admits the newer leaf.
#[test]
fn a_5_a_lagging_controller_does_not_take_the_newer_leaf_out_of_use() {
    let mut world = connected_with(Make::Stock, 2);
    world.fall_behind(1);
    renews(&mut world);
    serves(&mut world, 2, HOUR);
    world.break_channel(0, 1);
    connects(&mut world, HOUR);
    assert_eq!(last_admitted(&world, 1), Some(1));
    assert_eq!(world.published(0).map(|number| number.0), Some(2));
    ends_well(&mut world);
}

/// A-3 (a): a first connection to a slot that is still taken is acknowledged, and then both are closed. The acknowledgement is proof.
#[test]
fn a_3_acknowledged_and_then_closed_is_an_admission() {
    for cut_in in [PhaseName::Staged, PhaseName::Proving, PhaseName::Promoted] {
        let mut world = connected(Make::Stock);
        passes(&mut world, 5 * MINUTE);
        if cut_in == PhaseName::Staged {
            // Durable, and the 20303 has not left.
            world.next_messages(Kind::Verify, 1, Action::KillSender { down: DAY });
        }
        world.renew_now(0);
        if cut_in == PhaseName::Staged {
            assert!(world.run_until(HOUR, |world| world.script_is_played()));
        } else {
            reaches(&mut world, cut_in);
        }
        // The machine dies without a word: for the controller, the slot is taken.
        world.cut_power(0);
        world.start_router(0);
        connects(&mut world, HOUR);
        passes(&mut world, HOUR);
        assert_eq!(world.live(0).map(|live| live.0), Some(2), "{cut_in}");
        assert_eq!(world.connected(0), 1, "{cut_in}");
        ends_well(&mut world);
    }
}

/// A-3 (c): inside the churn window every first connection is closed, whatever its leaf. Nothing follows from that.
#[test]
fn a_3_churn_demotes_no_leaf() {
    let mut world = connected(Make::Stock);
    renews(&mut world);
    for _ in 0..10 {
        world.cut_power(0);
        world.start_router(0);
        connects(&mut world, HOUR);
        assert_eq!(last_admitted(&world, 0), Some(2));
        assert_eq!(world.published(0).map(|number| number.0), Some(2));
    }
    ends_well(&mut world);
}

/// A-3 (b): a further underlay whose group is gone looks like a refused leaf.
#[test]
fn a_3_an_underlay_whose_group_is_gone_disproves_nothing() {
    for controllers in BOTH {
        let mut world = connected(controllers);
        world.renew_now(0);
        assert!(world.run_until(HOUR, |world| world.counts().verifies == 1));
        // The proof's hello is on its way while the controller restarts.
        let dials = world.counts().dials;
        assert!(world.run_until(HOUR, |world| world.counts().dials > dials));
        world.kill_controller(0);
        world.start_controller(0);
        passes(&mut world, HOUR);
        assert_eq!(world.counts().renewals, 1, "{controllers:?}: {:?}", world.phase(0));
        ends_well(&mut world);
    }
}

/// a stock controller looks the asker up by its newest underlay. The one with the new leaf breaks, and the one that is left shows
/// a leaf that is no longer admitted.
#[test]
fn a_4_a_renewal_is_asked_for_on_a_fresh_underlay() {
    let mut world = connected(Make::Stock);
    world.renew_now(0);
    serves(&mut world, 2, HOUR);
    assert!(world.break_newest_underlay(0, 0));
    passes(&mut world, DAY);
    let renewals = world.counts().renewals;
    renews(&mut world);
    assert_eq!(world.counts().renewals, renewals + 1);
    ends_well(&mut world);
}

/// And so for a year, with the newest underlay broken after every renewal.
#[test]
fn a_4_a_year_of_breaking_underlays_renews_on_time() {
    let mut world = connected(Make::Stock);
    for _ in 0..365 {
        passes(&mut world, DAY);
        world.break_newest_underlay(0, 0);
    }
    assert!((5..=8).contains(&world.counts().renewals), "{}", world.counts().renewals);
    ends_well(&mut world);
}

/// Whatever breaks while a renewal is under way, and whenever.
#[test]
fn a_channel_that_breaks_at_any_moment_of_a_renewal_costs_nothing() {
    for controllers in BOTH {
        for count in [1, 2] {
            let mut base = connected_with(controllers, count);
            base.renew_now(0);
            for moment in 0..30 {
                let mut world = base.clone();
                world.break_channel(0, 0);
                world.run_for(2 * HOUR).unwrap_or_else(|broken| panic!("{controllers:?}, moment {moment}: {broken}"));
                assert!(world.counts().renewals >= 1, "{controllers:?}, moment {moment}: {:?}", world.phase(0));
                ends_well(&mut world);
                base.tick();
            }
        }
    }
}
