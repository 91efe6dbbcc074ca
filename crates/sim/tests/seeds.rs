//! Seeded worlds: whatever the dice do, no promise is broken, and after the faults every router settles.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::time::{Duration, Instant};

use sim::{Make, Plan, run_plan};

/// Three leaf lives of this seed's world.
fn whole_run(seed: u64) -> sim::Report {
    let plan = Plan::swarm(seed);
    let time = plan.leaf_life * 3;
    run_plan(plan, time, None)
}

#[test]
fn seeded_worlds_keep_every_promise() {
    let first: u64 = std::env::var("EXUVIA_SIM_FIRST_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let count: u64 = std::env::var("EXUVIA_SIM_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(20);
    let began = Instant::now();
    let mut failed = Vec::new();
    let (mut renewals, mut checks) = (0, 0);
    for seed in first..first + count {
        let report = whole_run(seed);
        renewals += report.counts.renewals;
        checks += report.counts.checks;
        if !report.is_ok() {
            failed.push(report.to_string());
        }
    }
    println!("{count} seeds, {renewals} renewals, {checks} checks in {:?}", began.elapsed());
    assert!(renewals > count, "the worlds renew");
    assert!(failed.is_empty(), "{} of {count} seeds failed:\n{}", failed.len(), failed.join("\n\n"));
}

/// What the report tells to type leads to the very same break.
#[test]
fn the_replay_line_of_a_report_replays_it() {
    let plan = Plan::swarm(3);
    let mut report = run_plan(plan.clone(), plan.leaf_life / 3, None);
    assert!(report.is_ok(), "{report}");
    report.virtual_ms = 1;
    report.broken =
        Some(sim::Broken { at_ms: 1, router: 0, claim: sim::Claim::NobodySpins, found: "made up".to_owned() });
    let days = (plan.leaf_life / 3).as_secs().div_ceil(86_400);
    let line = format!("replay: exuvia sim --seed 3 --routers {} --days {days} --trace", plan.routers);
    assert!(report.to_string().ends_with(&line), "{report}");
    // Those arguments make the same world: the same events up to the moment of the break.
    let again = sim::run(3, plan.routers, days);
    assert_eq!(again.plan, plan);
}

#[test]
fn the_same_seed_tells_the_same_story() {
    for seed in [5, 6, 7] {
        assert_eq!(whole_run(seed), whole_run(seed));
    }
}

#[test]
fn a_forked_world_goes_on_like_the_one_it_came_from() {
    let mut world = sim::World::new(Plan::swarm(11));
    for _ in 0..5_000 {
        world.tick();
    }
    let mut fork = world.clone();
    for _ in 0..5_000 {
        world.tick();
        fork.tick();
    }
    assert_eq!(world.counts(), fork.counts());
    assert_eq!(world.now_ms(), fork.now_ms());
}

#[test]
fn a_calm_year_renews_on_time_and_quietly() {
    for controllers in [Make::Exuvia, Make::Stock] {
        let report = run_plan(Plan::calm(5, Make::Exuvia, controllers), Duration::from_secs(365 * 86_400), None);
        assert!(report.is_ok(), "{report}");
        assert!((5..=8).contains(&report.counts.renewals), "{report}");
        assert_eq!(report.counts.failed_rounds, 0, "{report}");
        assert!(report.counts.dials < 20, "{report}");
    }
}
