//! The claims hold in every state of the first three pairings; the fourth loses its identity.

use model::{Exploration, Goal, Make, Outcome, Scope, Sight};

const fn calm(name: &'static str, router: Make, controller: Make) -> Scope {
    Scope {
        router_crashes: 0,
        controller_crashes: 0,
        loses: false,
        doubles: false,
        breaks: false,
        attempts: 1,
        days: &[61, 62],
        ..Scope::new(name, router, controller)
    }
}

fn every_claim_holds(scope: Scope) -> Outcome {
    let outcome = Exploration::new(scope, Goal::Claims).run(1);
    let told: Vec<&str> = outcome.broken.iter().map(|(_, tale)| tale.chart.as_str()).collect();
    assert!(told.is_empty(), "{}", told.join("\n"));
    assert!(outcome.seen.times(Sight::Renewed) > 0, "nothing was renewed");
    outcome
}

#[test]
fn our_router_on_our_controller_survives_deaths_of_either() {
    let calm = calm("deaths", Make::Exuvia, Make::Exuvia);
    let outcome = every_claim_holds(Scope { router_crashes: 2, controller_crashes: 1, days: &[61], ..calm });
    assert!(outcome.seen.times(Sight::DiedBeforeAnswer) > 0);
    assert!(outcome.seen.times(Sight::PowerCut) > 0);
    assert!(outcome.seen.times(Sight::LateVerify) > 0);
}

#[test]
fn our_router_on_our_controller_survives_losses_and_doubles() {
    let calm = calm("messages", Make::Exuvia, Make::Exuvia);
    every_claim_holds(Scope { loses: true, doubles: true, days: &[61], ..calm });
}

#[test]
fn our_router_on_a_stock_controller_survives_losses_and_deaths() {
    let calm = calm("stock controller", Make::Exuvia, Make::Stock);
    every_claim_holds(Scope { loses: true, router_crashes: 1, leaves: 2, days: &[61], ..calm });
}

#[test]
fn a_stock_router_on_our_controller_survives_losses_and_deaths_of_the_controller() {
    let calm = calm("stock router", Make::Stock, Make::Exuvia);
    let outcome = every_claim_holds(Scope { loses: true, controller_crashes: 1, ..calm });
    assert!(outcome.seen.torn() > 0, "its own writes are the only thing that it can lose its identity by");
}

#[test]
fn a_stock_router_on_a_stock_controller_loses_its_identity() {
    let calm = calm("stock", Make::Stock, Make::Stock);
    let outcome = Exploration::new(Scope { loses: true, ..calm }, Goal::Count).run(1);
    assert!(outcome.seen.unusable() > 0);
}

#[test]
fn depth_first_and_breadth_first_meet_the_same_states() {
    let scope = Scope { loses: true, router_crashes: 1, days: &[61], ..calm("both ways", Make::Exuvia, Make::Exuvia) };
    let broad = Exploration::new(scope, Goal::Claims).run(1);
    let deep = Exploration::new(scope, Goal::Claims).walk(u64::MAX);
    assert!(deep.is_whole && deep.broken.is_empty());
    assert_eq!((broad.unique, broad.steps), (deep.unique, deep.steps));
    let cut = Exploration::new(scope, Goal::Claims).walk(broad.unique / 2);
    assert!(!cut.is_whole, "a search that was stopped says so");
}

#[test]
fn counted_faults_are_as_many_as_they_are_counted() {
    let calm = calm("counted", Make::Exuvia, Make::Exuvia);
    let explored = |faults| {
        let scope = Scope { loses: true, router_crashes: 2, days: &[61], faults, ..calm };
        Exploration::new(scope, Goal::Claims).walk(u64::MAX)
    };
    let none = explored(Some(0));
    assert_eq!((none.seen.times(Sight::Lost), none.seen.times(Sight::RouterDied)), (0, 0));
    assert!(none.seen.times(Sight::Renewed) > 0);
    let (one, two) = (explored(Some(1)), explored(Some(2)));
    assert!(none.unique < one.unique && one.unique < two.unique);
}

#[test]
fn one_exploration_twice_meets_the_same_states() {
    let calm = calm("twice", Make::Exuvia, Make::Exuvia);
    let run = || Exploration::new(calm, Goal::Claims).run(1);
    let (first, second) = (run(), run());
    assert_eq!((first.unique, first.steps, first.depth), (second.unique, second.steps, second.depth));
}
