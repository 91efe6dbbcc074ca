//! Seeded worlds: whatever the dice do, no promise is broken, and after the faults every router renews again and settles.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::time::Duration;

use sim::{Make, Plan, run};

fn environment(name: &str, usual: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

#[test]
fn seeded_worlds_keep_every_promise() {
    let first = environment("EXUVIA_SIM_FIRST_SEED", 1);
    let count = environment("EXUVIA_SIM_SEEDS", 60);
    // Long leaves take long where things go wrong for days; the layer `worlds` of the proof has them.
    let swarms =
        (first..first + count).map(Plan::swarm).filter(|plan| plan.leaf_life <= Duration::from_secs(7 * 86_400));
    let fleets = (first..first + count).map(|seed| Plan::drawn(seed, 8, 2));
    let mut failed = Vec::new();
    let (mut renewals, mut faults) = (0, 0);
    for plan in swarms.chain(fleets) {
        let report = run(plan);
        renewals += report.counts.renewals;
        faults += report.counts.faults;
        if !report.is_ok() {
            failed.push(report.to_string());
        }
    }
    assert!(renewals > 20 * count && faults > count, "{renewals} renewals, {faults} faults");
    assert!(failed.is_empty(), "{} worlds failed:\n{}", failed.len(), failed.join("\n\n"));
}

/// What the report tells to type leads to the very same world.
#[test]
fn the_replay_line_of_a_report_replays_it() {
    let plan = Plan::drawn(3, 2, 1);
    let report = run(plan.clone());
    assert!(report.is_ok(), "{report}");
    assert_eq!(report.replay().unwrap(), "exuvia sim --seed 3 --routers 2 --days 1 --trace");
    assert_eq!(run(Plan::drawn(3, 2, 1)), report);
    let other = Plan { controllers: plan.controllers + 1, ..plan };
    assert_eq!(run(other).replay(), None, "only a plan file can tell this one");
}

#[test]
fn the_same_seed_tells_the_same_story_on_one_thread_and_on_two() {
    let plans: Vec<Plan> = (5..9).map(|seed| Plan::drawn(seed, 4, 2)).collect();
    let alone: Vec<_> = plans.iter().cloned().map(run).collect();
    assert_eq!(sim::run_all(&plans, 2), alone);
}

#[test]
fn a_forked_world_goes_on_like_the_one_it_came_from() {
    let mut world = sim::World::new(Plan::drawn(11, 3, 2));
    for _ in 0..3_000 {
        world.tick();
    }
    let mut fork = world.clone();
    for _ in 0..3_000 {
        world.tick();
        fork.tick();
    }
    assert_eq!(world.counts(), fork.counts());
    assert_eq!(world.now_ms(), fork.now_ms());
}

#[test]
fn a_calm_year_renews_on_time_and_quietly() {
    for controllers in [Make::Exuvia, Make::Stock] {
        for are_grouped in [true, false] {
            let report = run(Plan { are_grouped, ..Plan::calm(5, Make::Exuvia, controllers) });
            assert!(report.is_ok(), "{report}");
            // One more than in the year: the one that has to come after it.
            assert!((6..=9).contains(&report.counts.renewals), "{report}");
            assert_eq!(report.counts.failed_rounds, 0, "{report}");
            assert!(report.counts.dials < 25, "{report}");
        }
    }
}

/// With exactly these faults, and nothing else left to chance but what they name.
#[test]
fn listed_faults_strike_as_drawn_ones_do() {
    let plan = Plan::drawn(21, 2, 2);
    let mut world = sim::World::new(plan.clone());
    world.run_to(u64::try_from(plan.time.as_millis()).unwrap()).unwrap();
    let strikes = world.struck().to_vec();
    assert!(!strikes.is_empty());
    let listed = Plan { strikes: Some(strikes.clone()), ..plan };
    let mut again = sim::World::new(listed.to_text().parse().unwrap());
    again.run_to(world.now_ms()).unwrap();
    assert_eq!(again.struck(), strikes);
    assert_eq!(again.counts().renewals, world.counts().renewals);
}
