//! The layer `messages`: our own proxy between the two programs, and everything that it can do.
//!
//! Every message of a renewal, and of the channel that carries it, times every action, each of them twice: once the router lives on and
//! must renew, once it is killed as soon as the action has struck. Then it is started anew on what its disk holds: it must come online.
//! The same for bytes: cut after so many, held, lost, delayed, trickled. And mixtures drawn from the plan's seed.

mod controls;
mod drive;
mod plan;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use evidence::{Evidence, Plan, Skip};
use rig::Exuvia;

use super::peers::{Flow, StockController};
use super::world::{Subject, World};
use crate::proxy::{Level, Path, StateFolder, locked};
use drive::Worker;
pub use plan::{Scenario, Strike};

/// Routers at work at once. They wait most of the time.
const WORKERS: usize = 12;
/// The same for a sample, beside other tests.
const SAMPLERS: usize = 8;
/// Life of leaves under a stock controller. A leaf whose 20303 it will never confirm is given up after a sixth of this (ten minutes for
/// ordinary leaves), and only then a new attempt begins.
const STOCK_LIFE: Duration = Duration::from_secs(60);

pub(super) fn probe() -> Vec<Skip> {
    Vec::new()
}

pub(super) fn run(plan: &Plan) -> Evidence {
    let mut evidence = Evidence { seed: Some(plan.seed), ..Evidence::default() };
    if let Err(error) = run_all(plan, &mut evidence) {
        evidence.failed(format!("the layer could not be run: {error:#}"), replay(plan, None));
    }
    evidence
}

fn replay(plan: &Plan, scenario: Option<&Scenario>) -> String {
    let only = scenario.map(|scenario| format!("EXUVIA_SCENARIO='{scenario}' ")).unwrap_or_default();
    format!("{only}cargo xtask proof --seed {} --only messages", plan.seed)
}

/// What came of one scenario.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// Did the action strike at all?
    pub(crate) struck: bool,
    /// What broke, if anything did.
    pub(crate) broke: Option<String>,
    /// Is it that no controller admits what is on the disk?
    pub(crate) locked_out: bool,
}

fn run_all(plan: &Plan, evidence: &mut Evidence) -> Result<()> {
    let exuvia = Exuvia::new(&plan.exuvia);
    let world = World::start(&exuvia, &plan.scratch.join("messages"), None)?;
    let began = Instant::now();
    let only = std::env::var("EXUVIA_SCENARIO").ok();
    let wanted = |scenario: &Scenario| only.as_ref().is_none_or(|only| scenario.to_string().starts_with(only));

    let mut ours = plan::every_message();
    ours.extend(plan::every_byte());
    ours.extend(plan::mixtures(plan.seed, if plan.is_long { 400 } else { 16 }));
    ours.retain(wanted);
    let outcomes = work(&world, WORKERS, &ours, |level, name| match level {
        Level::Messages => world.subject_of_messages(name),
        Level::Bytes => world.subject(name, |id, _| Path::of_bytes(id)),
    })?;
    report(plan, evidence, "exuvia", &ours, &outcomes);
    let took_ours = began.elapsed();

    let began = Instant::now();
    let life = format!("{}s", STOCK_LIFE.as_secs());
    let short = World::start(&exuvia, &plan.scratch.join("stock"), Some(life))?;
    let starting = StockController::start(short.authority.clone(), Flow::Verified, STOCK_LIFE);
    let stock = short.runtime.block_on(starting)?;
    let mut theirs = plan::every_message_of_stock();
    theirs.retain(wanted);
    let outcomes = work(&short, 2 * WORKERS, &theirs, |_, name| {
        let subject =
            short.subject(name, |id, state| Path::of_messages(id, StateFolder(state)).leading_to(stock.address()))?;
        let chain = pki::Chain::from_pem(&std::fs::read(subject.router.generation(1).join("client.pem"))?)?;
        stock.enroll(subject.router.id(), chain.leaf().fingerprint());
        Ok(subject)
    })?;
    report(plan, evidence, "exuvia router, openziti controller (model)", &theirs, &outcomes);
    let took_theirs = began.elapsed();

    let began = Instant::now();
    if only.as_ref().is_none_or(|only| only == "controls") {
        // A proxy of their own: these routers are no processes, which a proxy that looks for the owners of connections would wait for.
        let world = World::start(&exuvia, &plan.scratch.join("controls"), None)?;
        controls::run(&world, evidence)?;
    }
    evidence.notes.push(format!(
        "The product took {:.0} s, our router on the stock controller {:.0} s, the controls {:.0} s, with {WORKERS} routers at once. \
         OpenZiti's peers are models of its rules over the real wire; OpenZiti's own binaries are not run here.",
        took_ours.as_secs_f32(),
        took_theirs.as_secs_f32(),
        began.elapsed().as_secs_f32()
    ));
    Ok(())
}

/// All scenarios, by as many routers as allowed; outcomes in the order of the scenarios.
fn work(
    world: &World,
    workers: usize,
    scenarios: &[Scenario],
    subject: impl Fn(Level, &str) -> Result<Subject> + Sync,
) -> Result<Vec<Outcome>> {
    static NAMES: AtomicUsize = AtomicUsize::new(0);
    let tells = std::env::var_os("EXUVIA_TELL").is_some();
    let next = AtomicUsize::new(0);
    let outcomes: Mutex<Vec<Option<Outcome>>> = Mutex::new(vec![None; scenarios.len()]);
    let errors: Mutex<Vec<anyhow::Error>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..workers.min(scenarios.len()) {
            scope.spawn(|| {
                let mut worker: Option<Worker<'_>> = None;
                while let Some(scenario) = scenarios.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let place = scenarios.iter().position(|other| std::ptr::eq(other, scenario)).unwrap_or_default();
                    let level = scenario.level();
                    let mut outcome = || -> Result<Outcome> {
                        let at_work = match worker.take().filter(|worker| worker.level() == level) {
                            Some(worker) => worker,
                            None => {
                                let name = format!("edge-{}", NAMES.fetch_add(1, Ordering::Relaxed));
                                Worker::new(world, subject(level, &name)?)?
                            }
                        };
                        let began = Instant::now();
                        let (outcome, worker_again) = at_work.meet(scenario);
                        if tells && began.elapsed() > Duration::from_secs(5) {
                            eprintln!("{:.0} s: {scenario}: {outcome:?}", began.elapsed().as_secs_f32());
                        }
                        worker = worker_again;
                        Ok(outcome)
                    };
                    match outcome() {
                        Ok(outcome) => {
                            if let Some(slot) = locked(&outcomes).get_mut(place) {
                                *slot = Some(outcome);
                            }
                        }
                        Err(error) => {
                            locked(&errors).push(error);
                            return;
                        }
                    }
                }
            });
        }
    });
    if let Some(error) = locked(&errors).pop() {
        return Err(error);
    }
    Ok(locked(&outcomes).drain(..).flatten().collect())
}

fn report(plan: &Plan, evidence: &mut Evidence, order: &str, scenarios: &[Scenario], outcomes: &[Outcome]) {
    let mut kinds: Vec<(&'static str, u64)> = Vec::new();
    for (scenario, outcome) in scenarios.iter().zip(outcomes) {
        match kinds.iter_mut().find(|(kind, _)| *kind == scenario.kind()) {
            Some((_, count)) => *count += 1,
            None => kinds.push((scenario.kind(), 1)),
        }
        if let Some(broke) = &outcome.broke {
            evidence.failed(format!("{order}: {scenario}: {broke}"), replay(plan, Some(scenario)));
        } else if !outcome.struck {
            evidence.failed(format!("{order}: {scenario}: never met its message"), replay(plan, Some(scenario)));
        }
        for fault in scenario.faults() {
            count(evidence, order, fault, outcome.locked_out);
        }
    }
    for (kind, count) in kinds {
        evidence.tried(format!("{kind} ({order})"), count);
    }
}

/// One more state in the crash matrix.
pub(crate) fn count(evidence: &mut Evidence, order: &str, fault: &str, locked_out: bool) {
    let found = evidence.matrix.iter_mut().find(|cell| cell.order == order && cell.fault == fault);
    match found {
        Some(cell) => {
            cell.states += 1;
            cell.unusable += u64::from(locked_out);
        }
        None => evidence.cell(order, fault, u64::from(locked_out), 1),
    }
}

/// A sample of the product for a machine where nothing else may be done: each of these on a real router, in turn.
///
/// # Errors
/// What broke.
pub fn sample(
    exuvia: &std::path::Path,
    scratch: &std::path::Path,
    wanted: impl Fn(&Scenario) -> bool,
) -> Result<usize> {
    let world = World::start(&Exuvia::new(exuvia), scratch, None)?;
    let mut scenarios = plan::every_message();
    scenarios.extend(plan::every_byte());
    scenarios.retain(wanted);
    let outcomes = work(&world, SAMPLERS, &scenarios, |level, name| match level {
        Level::Messages => world.subject_of_messages(name),
        Level::Bytes => world.subject(name, |id, _| Path::of_bytes(id)),
    })?;
    for (scenario, outcome) in scenarios.iter().zip(&outcomes) {
        if let Some(broke) = &outcome.broke {
            anyhow::bail!("{scenario}: {broke}");
        }
        anyhow::ensure!(outcome.struck, "{scenario}: never met its message");
    }
    Ok(scenarios.len())
}
