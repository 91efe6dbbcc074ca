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
    pub own_losses: u64,
    pub rescues: u64,
    pub impostors: u64,
    pub projections: u64,
    pub imports: u64,
    pub foreign_files: u64,
    pub busiest_hour: u32,
}

/// What a seeded run came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The plan, which determines everything.
    pub plan: Plan,
    /// Virtual time that passed, in milliseconds.
    pub virtual_ms: u64,
    /// What happened.
    pub counts: Counts,
    /// The first promise that was broken.
    pub broken: Option<Broken>,
}

impl Counts {
    /// Adds another world's; of the busiest hour it keeps the busier.
    pub fn add(&mut self, other: &Self) {
        let busiest_hour = self.busiest_hour.max(other.busiest_hour);
        for (sum, more) in self.all_mut().into_iter().zip(other.clone().all_mut()) {
            *sum += *more;
        }
        self.busiest_hour = busiest_hour;
    }

    fn all_mut(&mut self) -> [&mut u64; 28] {
        let Self {
            events,
            steps,
            messages,
            lost_messages,
            handshakes,
            dials,
            refusals,
            channels_lost,
            requests,
            signatures,
            verifies,
            renewals,
            failed_rounds,
            barriers,
            failed_barriers,
            cuts_in_disk_operations,
            retired,
            blocked,
            lapsed,
            faults,
            checks,
            losses,
            own_losses,
            rescues,
            impostors,
            projections,
            imports,
            foreign_files,
            busiest_hour: _,
        } = self;
        [
            events,
            steps,
            messages,
            lost_messages,
            handshakes,
            dials,
            refusals,
            channels_lost,
            requests,
            signatures,
            verifies,
            renewals,
            failed_rounds,
            barriers,
            failed_barriers,
            cuts_in_disk_operations,
            retired,
            blocked,
            lapsed,
            faults,
            checks,
            losses,
            own_losses,
            rescues,
            impostors,
            projections,
            imports,
            foreign_files,
        ]
    }
}

impl Report {
    /// Was every promise kept?
    pub fn is_ok(&self) -> bool {
        self.broken.is_none()
    }

    /// The command that lets the same happen again, where a seed and two numbers tell all of it.
    pub fn replay(&self) -> Option<String> {
        let days = self.plan.time.as_secs() / 86_400;
        self.plan.is_of_its_seed().then(|| {
            format!("exuvia sim --seed {} --routers {} --days {days} --trace", self.plan.seed, self.plan.routers)
        })
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
            write!(f, "\n{broken}")?;
            if let Some(replay) = self.replay() {
                write!(f, "\nreplay: {replay}")?;
            }
        }
        Ok(())
    }
}

/// Runs this plan: safety while faults strike, then liveness.
pub fn run(plan: Plan) -> Report {
    run_told(plan, None)
}

/// As [`run`], and says the plan before the first tick and every event while it happens.
pub fn run_traced(plan: Plan, mut say: impl FnMut(&str)) -> Report {
    run_told(plan, Some(&mut say))
}

fn run_told(plan: Plan, mut say: Option<&mut dyn FnMut(&str)>) -> Report {
    let world = run_world(plan, &mut say);
    Report {
        virtual_ms: world.now_ms(),
        counts: *world.counts(),
        broken: world.broken().cloned(),
        plan: world.plan().clone(),
    }
}

/// Runs a plan and hands out the world as it is in the end, or when the first promise was broken.
pub(crate) fn run_world(plan: Plan, say: &mut Option<&mut dyn FnMut(&str)>) -> World {
    if let Some(say) = say.as_mut() {
        say(&plan.to_string());
    }
    let time_ms = ms(plan.time);
    let mut world = World::new(plan);
    if say.is_some() {
        world.keep_trace();
    }
    go(&mut world, time_ms, say);
    if world.broken().is_none() {
        world.heal();
        world.finish_errands();
        live_on(&mut world, say);
        hand_over(&mut world, say);
    }
    world
}

/// After everything is healed: every router renews once more within one leaf life, and ends steady.
///
/// A router whose best leaf was about to end, or which a person has to look after still, is not spoken for.
fn live_on(world: &mut World, say: &mut Option<&mut dyn FnMut(&str)>) {
    let leaf_life = world.plan().leaf_life;
    let routers = 0..world.plan().routers;
    let spoken_for: Vec<(usize, u64)> = routers
        .filter(|router| !world.is_beyond_help(*router) && world.life_left(*router) > leaf_life / 10)
        .map(|router| (router, world.renewals(router)))
        .collect();
    let end_ms = world.now_ms().saturating_add(ms(leaf_life));
    let waits = |world: &World| {
        spoken_for
            .iter()
            .filter(|(router, before)| world.renewals(*router) == *before)
            .map(|(router, _)| *router)
            .next()
    };
    while world.broken().is_none() && waits(world).is_some() && world.next_at().is_some_and(|at| at <= end_ms) {
        // In steps: nobody looks at every router after every event.
        let until_ms = world.now_ms().saturating_add(ms(leaf_life) / 50).min(end_ms);
        go(world, until_ms.max(world.next_at().unwrap_or(0)), say);
    }
    if world.broken().is_some() {
        return;
    }
    if let Some(router) = waits(world).filter(|router| world.is_in_the_promise(*router)) {
        let found = format!("no renewal within a leaf life after the faults; it is in {:?}", world.phase(router));
        world.claim(router, Claim::EveryRouterRenewsAgain, Err(found));
        return;
    }
    check_liveness(world);
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn go(world: &mut World, until_ms: u64, say: &mut Option<&mut dyn FnMut(&str)>) {
    if say.is_none() {
        let _ = world.run_to(until_ms);
        return;
    }
    while world.broken().is_none() && world.next_at().is_some_and(|at| at <= until_ms) {
        world.tick();
        hand_over(world, say);
    }
    let _ = world.run_to(until_ms);
    hand_over(world, say);
}

fn hand_over(world: &mut World, say: &mut Option<&mut dyn FnMut(&str)>) {
    if let Some(say) = say {
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
        if world.is_beyond_help(router) {
            continue;
        }
        let patience = world.plan().leaf_life / 10;
        if world.run_until(patience, |world| world.is_settled(router).is_ok()) {
            continue;
        }
        let result = world.is_settled(router);
        world.claim(router, Claim::EveryRouterEndsSteadyOnItsNewestProvenGeneration, result);
    }
    for router in 0..world.plan().routers {
        if world.is_beyond_help(router) || world.broken().is_some() {
            continue;
        }
        let patience = world.plan().leaf_life / 10;
        if !world.run_until(patience, |world| world.files_are_settled(router).is_ok()) {
            let result = world.files_are_settled(router);
            world.claim(router, Claim::TheConfiguredPathsEndAsTheServedGenerationOrAreLeftAlone, result);
        }
    }
}
