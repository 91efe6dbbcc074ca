//! A seeded run: safety while anything may fail, then liveness after everything is healed.

use std::fmt;
use std::time::Duration;

use crate::claims::{Broken, Claim};
use crate::plan::Plan;
use crate::world::World;

/// What happened, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "each name says it all")]
pub struct Counts {
    pub events: u64,
    pub steps: u64,
    pub messages: u64,
    pub lost_messages: u64,
    pub handshakes: u64,
    pub dials: u64,
    pub refusals: u64,
    pub channels_lost: u64,
    pub requests: u64,
    pub signatures: u64,
    pub verifies: u64,
    pub renewals: u64,
    pub failed_rounds: u64,
    pub barriers: u64,
    pub failed_barriers: u64,
    pub cuts_in_disk_operations: u64,
    pub retired: u64,
    pub blocked: u64,
    pub lapsed: u64,
    pub faults: u64,
    pub checks: u64,
    pub losses: u64,
    pub busiest_hour: u32,
}

/// What a seeded run came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The plan, which the seed determines.
    pub plan: Plan,
    /// How long faults struck, before everything was healed.
    pub time: Duration,
    /// Virtual time that passed, in milliseconds.
    pub virtual_ms: u64,
    /// What happened.
    pub counts: Counts,
    /// The first promise that was broken.
    pub broken: Option<Broken>,
}

impl Report {
    /// Was every promise kept?
    pub fn is_ok(&self) -> bool {
        self.broken.is_none()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = &self.counts;
        writeln!(f, "{}", self.plan)?;
        write!(
            f,
            "{} virtual days: {} renewals, {} failed rounds, {} faults, {} messages ({} lost), {} handshakes, {} failed commits, {} checks of \
             P1, {} identities lost",
            self.virtual_ms / 86_400_000,
            counts.renewals,
            counts.failed_rounds,
            counts.faults,
            counts.messages,
            counts.lost_messages,
            counts.handshakes,
            counts.failed_barriers,
            counts.checks,
            counts.losses
        )?;
        if let Some(broken) = &self.broken {
            write!(f, "\n{broken}\nreplay: {}", self.replay())?;
        }
        Ok(())
    }
}

impl Report {
    /// The command that lets the same happen again. Until the healing, a longer run is the same one.
    fn replay(&self) -> String {
        let (seed, time_s) = (self.plan.seed, self.time.as_secs());
        let is_before_healing = u128::from(self.virtual_ms) <= self.time.as_millis();
        if self.plan.is_of_its_seed() && (is_before_healing || time_s.is_multiple_of(86_400)) {
            let days = time_s.div_ceil(86_400).max(1);
            format!("exuvia sim --seed {seed} --routers {} --days {days} --trace", self.plan.routers)
        } else {
            format!("the plan above, for {time_s} s")
        }
    }
}

/// Runs the world of this seed with so many routers for so many virtual days, then heals it and waits until it has settled.
pub fn run(seed: u64, routers: usize, days: u64) -> Report {
    run_with(seed, routers, days, |_| {}, None)
}

/// As [`run`], and says the plan before the first tick and every event while it happens.
pub fn run_traced(seed: u64, routers: usize, days: u64, mut say: impl FnMut(&str)) -> Report {
    run_with(seed, routers, days, |_| {}, Some(&mut say))
}

/// As [`run`], with a plan that `change` has had a hand in.
pub fn run_with(
    seed: u64,
    routers: usize,
    days: u64,
    change: impl FnOnce(&mut Plan),
    say: Option<&mut dyn FnMut(&str)>,
) -> Report {
    let mut plan = Plan::swarm(seed);
    plan.routers = routers;
    change(&mut plan);
    run_plan(plan, Duration::from_secs(days.saturating_mul(86_400)), say)
}

/// Runs this plan: safety for `time`, then liveness.
pub fn run_plan(plan: Plan, time: Duration, mut say: Option<&mut dyn FnMut(&str)>) -> Report {
    if let Some(say) = say.as_mut() {
        say(&plan.to_string());
    }
    let mut world = World::new(plan.clone());
    if say.is_some() {
        world.keep_trace();
    }
    let time_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    go(&mut world, time_ms, &mut say);
    if world.broken().is_none() {
        world.heal();
        let settles_ms = world.now_ms().saturating_add(settle_ms(&plan));
        go(&mut world, settles_ms, &mut say);
        check_liveness(&mut world);
        hand_over(&mut world, &mut say);
    }
    Report { time, virtual_ms: world.now_ms(), counts: *world.counts(), broken: world.broken().cloned(), plan }
}

/// How long a healed world may take: a renewal that is due, with every back-off and window at its longest.
fn settle_ms(plan: &Plan) -> u64 {
    u64::try_from((plan.leaf_life / 2).as_millis()).unwrap_or(u64::MAX)
}

fn go(world: &mut World, until_ms: u64, say: &mut Option<&mut dyn FnMut(&str)>) {
    while world.broken().is_none() && world.next_at().is_some_and(|at| at <= until_ms) {
        world.tick();
        hand_over(world, say);
    }
    hand_over(world, say);
}

fn hand_over(world: &mut World, say: &mut Option<&mut dyn FnMut(&str)>) {
    if let Some(say) = say.as_mut() {
        for line in world.take_trace() {
            say(&line);
        }
    }
}

/// After everything is healed: every router ends steady on its newest generation, proven, and connected with everybody.
///
/// A router that is in the middle of a renewal gets the time to finish it. One whose every leaf expired needs a person.
pub fn check_liveness(world: &mut World) {
    for router in 0..world.plan().routers {
        if world.plan().router_make == crate::Make::Stock || world.is_beyond_help(router) {
            continue;
        }
        let patience = Duration::from_millis(settle_ms(world.plan()) / 5);
        if world.run_until(patience, |world| world.is_settled(router).is_ok()) {
            continue;
        }
        let result = world.is_settled(router);
        world.claim(router, Claim::EveryRouterEndsSteadyOnItsNewestProvenGeneration, result);
    }
}
