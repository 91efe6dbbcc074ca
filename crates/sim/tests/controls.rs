//! Mistakes that the worlds must find, each within a bounded number of seeds, and the smallest world that still shows one.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use sim::{Mutant, Plan};

#[test]
fn every_mistake_is_found_and_nothing_is_found_without_one() {
    for control in sim::controls(1) {
        println!("{}: {} in {} worlds, {:?}", control.name, control.caught, control.states, control.example);
        assert!(control.is_judged_rightly(), "{control:?}");
    }
}

#[test]
fn a_broken_world_shrinks_to_few_faults_and_still_breaks_the_same_claim() {
    let of_seed =
        |seed| Plan { mutant: Some(Mutant::SingleFingerprint), ..sim::plan_for(Mutant::SingleFingerprint, seed) };
    let plan = (1..40).map(of_seed).find(|plan| !sim::run(plan.clone()).is_ok()).unwrap();
    let before = sim::run(plan.clone());
    let small = sim::shrink(&plan).unwrap();
    assert_eq!(small.broken.claim, before.broken.unwrap().claim);
    assert!(small.plan.routers < plan.routers, "{}", small.plan);
    assert!(small.plan.strikes.as_ref().unwrap().len() <= 4, "{}", small.plan.to_text());
    let again: Plan = small.plan.to_text().parse().unwrap();
    assert_eq!(sim::run(again).broken, Some(small.broken));
    assert!(sim::shrink(&Plan { mutant: None, ..small.plan }).is_none(), "without the mistake nothing breaks");
}
