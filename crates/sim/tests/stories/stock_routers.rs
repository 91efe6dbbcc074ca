//! Unmodified OpenZiti routers: what our controller saves them from, and what nobody saves them from on their own.

use sim::{Action, Kind, Make, Plan, World};

use crate::scene::{DAY, HOUR, passes};

fn stock_router(controllers: Make) -> World {
    World::new(Plan::calm(7, Make::Stock, controllers))
}

/// The control: what is known to go wrong between a stock router and a stock controller goes wrong here.
#[test]
fn a_stock_router_is_lost_by_one_lost_20002_of_a_stock_controller() {
    let mut world = stock_router(Make::Stock);
    passes(&mut world, 80 * DAY);
    let mut lucky = world.clone();
    passes(&mut lucky, 9 * DAY);
    assert!(!lucky.is_locked_out(0), "with every answer delivered it renews");
    world.next_messages(Kind::Verified, 1, Action::Lose);
    passes(&mut world, 9 * DAY);
    assert!(world.is_locked_out(0));
}

/// B-1
#[test]
fn b_1_a_stock_router_survives_any_number_of_lost_20002_on_our_controller() {
    let mut world = stock_router(Make::Exuvia);
    world.next_messages(Kind::Verified, 50, Action::Lose);
    passes(&mut world, 89 * DAY);
    assert_eq!(world.counts().losses, 0);
    assert!(world.script_is_played());
    assert!(world.counts().renewals >= 1);
}

/// B-1: the loop of 35 seconds makes one leaf, not thousands.
#[test]
fn b_1_a_stock_router_that_never_gets_its_20002_is_signed_few_leaves() {
    let mut world = stock_router(Make::Exuvia);
    world.next_messages(Kind::Verified, u32::MAX, Action::Lose);
    passes(&mut world, 89 * DAY);
    assert_eq!(world.counts().losses, 0);
    assert!(world.counts().requests > 5_000, "{}", world.counts().requests);
    assert!(world.counts().signatures <= 3, "{}", world.counts().signatures);
}

/// B-2: years on one channel. The leaf of a successful renewal is in the file and was never used; the next one's answers are lost.
#[test]
fn b_2_a_stock_router_on_one_channel_for_a_year_is_admitted_with_what_its_file_holds() {
    let mut world = stock_router(Make::Exuvia);
    for round in 1..=4 {
        passes(&mut world, 85 * DAY);
        assert!(world.counts().renewals >= round, "round {round}");
        assert_eq!(world.counts().channels_lost, 0);
        assert_eq!(world.counts().losses, 0);
        // The file's leaf, at its worst moment: confirmed, unused, and the next one is already asked for.
        let mut restarted = world.clone();
        restarted.kill_router(0);
        restarted.start_router(0);
        passes(&mut restarted, HOUR);
        assert_eq!(restarted.connected(0), 1, "round {round}");
        assert_eq!(restarted.counts().losses, 0, "round {round}");
    }
    // The last one's answers never arrive.
    world.next_messages(Kind::Verified, u32::MAX, Action::Lose);
    passes(&mut world, 80 * DAY);
    assert!(world.counts().requests > 100, "it asks all the time");
    assert_eq!(world.counts().losses, 0);
    world.kill_router(0);
    world.start_router(0);
    passes(&mut world, HOUR);
    assert_eq!(world.connected(0), 1);
    assert_eq!(world.counts().losses, 0);
}

/// B-1: it never stores what it was given (a read-only file), and asks again at every start.
#[test]
fn b_1_a_stock_router_started_with_extend_again_and_again_is_always_admitted() {
    let mut world = stock_router(Make::Exuvia);
    passes(&mut world, HOUR);
    for _ in 0..20 {
        world.next_messages(Kind::Verified, 1, Action::Lose);
        world.kill_router(0);
        world.start_stock_with_extend(0);
        passes(&mut world, HOUR);
        assert_eq!(world.connected(0), 1);
        assert_eq!(world.counts().losses, 0);
    }
}

/// A controller killed between store and answer, at every kind of answer.
#[test]
fn a_stock_router_survives_a_controller_of_ours_that_dies_between_store_and_answer() {
    for kind in [Kind::Extended, Kind::Verified, Kind::Welcome] {
        let mut world = stock_router(Make::Exuvia);
        passes(&mut world, 82 * DAY);
        world.next_messages(kind, 5, Action::KillSender { down: HOUR });
        passes(&mut world, 6 * DAY);
        assert_eq!(world.counts().losses, 0, "{kind:?}");
        assert!(world.counts().renewals >= 1, "{kind:?}");
        assert_eq!(world.connected(0), 1, "{kind:?}");
    }
}
