//! The real program killed before its file-system calls, and what is left of the identity.

mod orders;
mod scenarios;
mod stage;

use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use crash::faults;
use evidence::{Control, Evidence, Lane, Layer, Plan, Skip};

pub(crate) use orders::{Judge, Order, WriteOrder};
use scenarios::{Actor, SCENARIOS, Scenario};
pub(crate) use stage::{Dice, HANDS, Outcome, Share, Stage, Tally, Work};

use crate::trace::{Counted, Fault, probe as probe_tracing};

pub(crate) const LAYER: Layer =
    Layer { id: "killed", title: "The real program killed at its file-system calls", lane: Lane::Waiting, probe, run };

fn probe() -> Vec<Skip> {
    let lacking = probe_tracing();
    lacking.map(|why| Skip { what: "killing the real program at a call".to_owned(), why }).into_iter().collect()
}

fn run(plan: &Plan) -> Evidence {
    let mut evidence = Evidence { seed: Some(plan.seed), ..Evidence::default() };
    if probe_tracing().is_some() {
        return evidence;
    }
    let replay = format!("cargo xtask proof --only killed --seed {}", plan.seed);
    if let Err(error) = kill_everything(plan, Share::whole(plan, 75), &mut evidence, &replay) {
        evidence.failed(format!("the layer could not be run: {error:#}"), replay.clone());
    }
    if let Err(error) = kill_orders(plan, &mut evidence, Duration::from_secs(if plan.is_long { 1_200 } else { 30 })) {
        evidence.failed(format!("the controls could not be run: {error:#}"), replay);
    }
    evidence
}

struct Case {
    scenario: Scenario,
    counted: Counted,
    at: usize,
    salt: u64,
}

/// A few kills, for where there is little time: without controls, and without what waits long.
pub(crate) fn sample(plan: &Plan, share: Share) -> Result<Evidence> {
    let mut evidence = Evidence { seed: Some(plan.seed), ..Evidence::default() };
    kill_everything(plan, share, &mut evidence, "EXUVIA_SEED=… cargo test -p exuvia --test errno_matrix")?;
    Ok(evidence)
}

fn kill_everything(plan: &Plan, share: Share, evidence: &mut Evidence, replay: &str) -> Result<()> {
    let stage = Stage::open(plan, "killed", share)?;
    let mut dice = Dice::new(plan.seed);
    let mut cases = plan_cases(plan, &stage, &mut dice, evidence, share.is_whole())?;
    cases.truncate(share.cases);
    let (tally, work) = (Tally::default(), Work::new(cases, share.most));
    thread::scope(|scope| {
        for _ in 0..HANDS {
            scope.spawn(|| {
                let mut actor = Actor::new(&stage);
                while let Some(Case { scenario, counted, at, salt }) = work.next() {
                    let outcome = actor.kill(scenario, at, counted, salt, &tally);
                    let outcome = outcome.unwrap_or_else(|error| Outcome::Broke(format!("{error:#}")));
                    tally.note(scenario.name(), &format!("call {at} of {counted:?}"), outcome);
                }
            });
        }
    });
    tally.tell(evidence, "kills", replay);
    if share.is_whole() {
        judge_mutants(&stage, evidence)?;
    }
    let (done, broken) = tally.sum();
    evidence.cell("exuvia", faults::KILLED, broken, done);
    if work.left() > 0 {
        evidence.leave_out(
            format!("{} kills that were planned", work.left()),
            "the machine was too slow for them in the time of this layer",
        );
    }
    evidence.notes.push(
        "The controller forgets a leaf as soon as a newer one was used (`overlap: 0`), so that keeping the old files is not enough. Usable means: the \
         router starts, is admitted, and renews again. `kill -9` loses nothing that was written, so it says nothing about syncs."
            .to_owned(),
    );
    Ok(())
}

/// The real program with one habit changed by the tracer, renewed and then killed.
fn judge_mutants(stage: &Stage, evidence: &mut Evidence) -> Result<()> {
    const STATES: u64 = 3;
    let mutants = [
        ("exuvia, its renames answered and not done", Fault::WithoutRenames, true),
        ("exuvia, its syncs answered and not done (only a power cut can tell)", Fault::WithoutSyncs, false),
    ];
    let judged: Vec<Result<Control>> = thread::scope(|scope| {
        let judging: Vec<_> = mutants
            .into_iter()
            .map(|(name, habit, is_wrong)| {
                scope.spawn(move || {
                    let mut actor = Actor::new(stage);
                    let mut control =
                        Control { name: name.to_owned(), is_wrong, caught: 0, states: STATES, example: None };
                    for _ in 0..STATES {
                        let judged = actor.mutant(&habit)?;
                        if !judged.is_usable() {
                            control.caught += 1;
                            control.example.get_or_insert_with(|| judged.brief());
                        }
                    }
                    Ok(control)
                })
            })
            .collect();
        let lost = |_| Err(anyhow::anyhow!("a thread panicked"));
        judging.into_iter().map(|judging| judging.join().unwrap_or_else(lost)).collect()
    });
    for control in judged {
        evidence.controls.push(control?);
    }
    Ok(())
}

/// Every call that changes something, and of all calls every n-th; all of them in the long run.
fn plan_cases(
    plan: &Plan,
    stage: &Stage,
    dice: &mut Dice,
    evidence: &mut Evidence,
    is_whole: bool,
) -> Result<Vec<Case>> {
    let counted = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for scenario in SCENARIOS.into_iter().filter(|scenario| is_whole || *scenario != Scenario::Import) {
            let counted = &counted;
            scope.spawn(move || {
                let mut actor = Actor::new(stage);
                let all = actor.calls(scenario, Counted::All);
                counted.lock().unwrap_or_else(PoisonError::into_inner).push((scenario, all));
            });
        }
    });
    let mut counted = counted.into_inner().unwrap_or_else(PoisonError::into_inner);
    counted.sort_by_key(|(scenario, _)| *scenario);
    let mut cases = Vec::new();
    for (scenario, calls) in counted {
        let calls = calls?;
        let changes = calls.iter().filter(|call| call.kind.is_change()).count();
        evidence.notes.push(format!(
            "{}: {} calls, of which {changes} change something.",
            scenario.name(),
            calls.len()
        ));
        let (step, changes_step) = match (plan.is_long, scenario) {
            (true, Scenario::Import) => (10, 2),
            (true, _) => (1, 1),
            // Each of them waits for some ten seconds.
            (false, Scenario::Import) => (usize::MAX, 12),
            (false, _) => (12, 1),
        };
        let first = 1 + dice.below(step.min(calls.len()));
        if step != usize::MAX {
            cases.extend((first..=calls.len()).step_by(step).map(|at| (scenario, Counted::All, at)));
        }
        let first = 1 + dice.below(changes_step.min(changes));
        cases.extend((first..=changes).step_by(changes_step).map(|at| (scenario, Counted::Changes, at)));
    }
    let mut cases: Vec<Case> =
        cases.into_iter().map(|(scenario, counted, at)| Case { scenario, counted, at, salt: dice.roll() }).collect();
    dice.shuffle(&mut cases);
    // Those that wait longest begin first.
    cases.sort_by_key(|case| case.scenario != Scenario::Import);
    Ok(cases)
}

/// Kills every order before each of its calls.
fn kill_orders(plan: &Plan, evidence: &mut Evidence, most: Duration) -> Result<()> {
    let harm = |calls: &[crate::trace::Call]| (1..=calls.len()).map(Fault::KillBefore).collect();
    judge_orders(plan, evidence, "killed", faults::KILLED, most, &harm)
}

/// Harms every order at each of its calls, and compares what is found with what is known of it.
pub(crate) fn judge_orders(
    plan: &Plan,
    evidence: &mut Evidence,
    word: &str,
    fault_name: &str,
    most: Duration,
    faults_of: &(dyn Fn(&[crate::trace::Call]) -> Vec<Fault> + Sync),
) -> Result<()> {
    let program = WriteOrder::new(&plan.write_order);
    let mut subjects: Vec<(Order, Judge)> = Vec::new();
    for order in program.list()? {
        subjects.push((order.clone(), Judge::Files));
        subjects.push((order, Judge::Protocol));
    }
    // Nothing is lost here but by what is done to calls, so memory will do where there is some.
    let in_memory = tempfile::Builder::new().prefix("write-orders-").tempdir_in("/dev/shm");
    let scratch = in_memory
        .as_ref()
        .map_or_else(|_| plan.scratch.join(format!("orders-{word}")), |folder| folder.path().to_owned());
    std::fs::create_dir_all(&scratch)?;
    let deadline = Instant::now() + most;
    // Those that are wrong first, and until they are found out however slow the machine is; how many states each has is bounded.
    let mut subjects: Vec<(usize, (Order, Judge))> = subjects.into_iter().enumerate().collect();
    subjects.sort_by_key(|(_, (order, judge))| !order.is_wrong(*judge, word));
    let work = Work::new(subjects, most + Duration::from_secs(600));
    let found = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..HANDS {
            scope.spawn(|| {
                while let Some((place, (order, judge))) = work.next() {
                    let folder = scratch.join(format!("{place}"));
                    let until = (deadline, order.is_wrong(judge, word));
                    let judged = judge_order(&program, &order, judge, &folder, until, faults_of);
                    found.lock().unwrap_or_else(PoisonError::into_inner).push((place, order, judge, judged));
                }
            });
        }
    });
    let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    found.sort_by_key(|(place, ..)| *place);
    for (_, order, judge, judged) in found {
        let (states, caught, example) = judged?;
        let name = match judge {
            Judge::Files => order.name.clone(),
            Judge::Protocol => format!("{}, one fingerprint", order.name),
        };
        if states == 0 {
            let why = "the machine was too slow for it in the time of this layer";
            evidence.leave_out(format!("the write order `{name}`"), why);
            continue;
        }
        if order.name != "exuvia" {
            evidence.cell(name.clone(), fault_name, caught, states);
        }
        evidence.controls.push(Control { name, is_wrong: order.is_wrong(judge, word), caught, states, example });
    }
    Ok(())
}

type Found = (u64, u64, Option<String>);

fn judge_order(
    program: &WriteOrder,
    order: &Order,
    judge: Judge,
    folder: &std::path::Path,
    (deadline, is_wrong): (Instant, bool),
    faults_of: &(dyn Fn(&[crate::trace::Call]) -> Vec<Fault> + Sync),
) -> Result<Found> {
    let calls = program.calls(order, judge, folder)?;
    let (mut states, mut caught, mut example) = (0, 0, None);
    for fault in faults_of(&calls) {
        if Instant::now() >= deadline && (!is_wrong || caught > 0) {
            break;
        }
        let put = program.put(order, judge, folder, fault.clone())?;
        let Some(harmed) = put.harmed else { continue };
        states += 1;
        if let Some(why) = put.unusable {
            caught += 1;
            example.get_or_insert_with(|| {
                format!(
                    "{fault:?} at `{} {}`: {why}",
                    harmed.name,
                    harmed.path.file_name().unwrap_or_default().to_string_lossy()
                )
            });
        }
    }
    Ok((states, caught, example))
}
