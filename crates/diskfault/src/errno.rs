//! Every file-system call of the real program answered with every errno that it may have: while it renews, enrolls and starts.

mod scenarios;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::Result;
use crash::faults;
use evidence::{Evidence, Lane, Layer, Plan, Skip};
use nix::errno::Errno;

use crate::killed::{Dice, HANDS, Outcome, Share, Stage, Tally, Work, judge_orders};
use crate::trace::{Call, Fault, probe as probe_tracing};
use scenarios::{Actor, SCENARIOS, Scenario};

pub(crate) const LAYER: Layer =
    Layer { id: "errno", title: "Every file-system call of the real program refused", lane: Lane::Waiting, probe, run };

fn probe() -> Vec<Skip> {
    let lacking = probe_tracing();
    lacking.map(|why| Skip { what: "refusing calls of the real program".to_owned(), why }).into_iter().collect()
}

fn run(plan: &Plan) -> Evidence {
    let mut evidence = Evidence { seed: Some(plan.seed), ..Evidence::default() };
    if probe_tracing().is_some() {
        return evidence;
    }
    let replay = format!("cargo xtask proof --only errno --seed {}", plan.seed);
    if let Err(error) = refuse_everything(plan, Share::whole(plan, 110), &mut evidence, &replay) {
        evidence.failed(format!("the layer could not be run: {error:#}"), replay.clone());
    }
    let most = Duration::from_secs(if plan.is_long { 1_200 } else { 30 });
    let harm = |calls: &[Call]| {
        let failing = calls.iter().flat_map(|call| {
            let errnos = [Errno::ENOSPC, Errno::EIO].into_iter().filter(|errno| call.kind.errnos().contains(errno));
            errnos.map(|errno| Fault::Fail { at: call.number, errno })
        });
        failing.collect()
    };
    if let Err(error) = judge_orders(plan, &mut evidence, "refused", faults::REFUSED, most, &harm) {
        evidence.failed(format!("the controls could not be run: {error:#}"), replay);
    }
    evidence
}

struct Case {
    scenario: Scenario,
    fault: Fault,
    salt: u64,
}

/// A few refused calls, for where there is little time.
pub(crate) fn sample(plan: &Plan, share: Share) -> Result<Evidence> {
    let mut evidence = Evidence { seed: Some(plan.seed), ..Evidence::default() };
    refuse_everything(plan, share, &mut evidence, "EXUVIA_SEED=… cargo test -p exuvia --test errno_matrix")?;
    Ok(evidence)
}

fn refuse_everything(plan: &Plan, share: Share, evidence: &mut Evidence, replay: &str) -> Result<()> {
    let stage = Stage::open(plan, "errno", share)?;
    let mut dice = Dice::new(plan.seed);
    let mut cases = plan_cases(plan, &stage, &mut dice, evidence)?;
    cases.truncate(share.cases);
    let (tally, work) = (Tally::default(), Work::new(cases, share.most));
    let reactions: Mutex<BTreeMap<&'static str, u64>> = Mutex::default();
    thread::scope(|scope| {
        for _ in 0..HANDS {
            scope.spawn(|| {
                let mut actor = Actor::new(&stage, &reactions);
                while let Some(Case { scenario, fault, salt }) = work.next() {
                    let case = format!("{fault:?}");
                    let outcome = actor.refuse(scenario, fault, salt, &tally);
                    let outcome = outcome.unwrap_or_else(|error| Outcome::Broke(scenarios::brief(&error)));
                    tally.note(scenario.name(), &case, outcome);
                }
            });
        }
    });
    tally.tell(evidence, "refused calls", replay);
    let (done, broken) = tally.sum();
    evidence.cell("exuvia", faults::REFUSED, broken, done);
    for (reaction, count) in reactions.into_inner().unwrap_or_else(PoisonError::into_inner) {
        evidence.tried(format!("refused calls after which the router {reaction}"), count);
    }
    if work.left() > 0 {
        evidence.leave_out(
            format!("{} refused calls that were planned", work.left()),
            "the machine was too slow for them in the time of this layer",
        );
    }
    Ok(())
}

/// Each call with an errno that changes with the seed, and some with one that stays; each with each in the long run.
fn plan_cases(plan: &Plan, stage: &Stage, dice: &mut Dice, evidence: &mut Evidence) -> Result<Vec<Case>> {
    let counted = Mutex::new(Vec::new());
    let reactions = Mutex::default();
    thread::scope(|scope| {
        for scenario in SCENARIOS {
            let (counted, reactions) = (&counted, &reactions);
            scope.spawn(move || {
                let calls = Actor::new(stage, reactions).calls(scenario);
                counted.lock().unwrap_or_else(PoisonError::into_inner).push((scenario, calls));
            });
        }
    });
    let mut counted = counted.into_inner().unwrap_or_else(PoisonError::into_inner);
    counted.sort_by_key(|(scenario, _)| *scenario);
    let mut cases = Vec::new();
    for (scenario, calls) in counted {
        let calls = calls?;
        let all: usize = calls.iter().map(|call| call.kind.errnos().len()).sum();
        let mut chosen = 0;
        for call in &calls {
            let errnos = call.kind.errnos();
            // What cannot change the disk is looked at half as often in CI: it has many calls, and few ways to go wrong.
            let is_skipped = !plan.is_long && !call.kind.is_change() && dice.below(2) == 0;
            let some = [errnos.get(dice.below(errnos.len())).copied().unwrap_or(Errno::EIO)];
            let errnos = match (plan.is_long, is_skipped) {
                (true, _) => errnos,
                (false, true) => continue,
                (false, false) => &some,
            };
            for &errno in errnos {
                let at = call.number;
                let stays = Fault::FailFrom { at, errno };
                let once = Fault::Fail { at, errno };
                let lost = Fault::FailAfter { at, errno };
                // A full or broken disk stays so; a lost answer is rare.
                // An interruption never stays: whoever is interrupted tries again.
                let may_stay = errno != Errno::EINTR;
                let faults = match (plan.is_long, dice.below(6)) {
                    (true, _) if !may_stay => vec![once],
                    (true, _) if call.kind.is_change() => vec![once, stays, lost],
                    (true, _) => vec![once, stays],
                    (false, 0 | 1) if may_stay => vec![stays],
                    (false, 2) if call.kind.is_change() => vec![lost],
                    (false, _) => vec![once],
                };
                chosen += faults.len();
                cases.extend(faults.into_iter().map(|fault| (scenario, fault)));
            }
        }
        evidence.notes.push(format!(
            "{}: {} calls, {all} pairs of call and errno; {chosen} faults planned here.",
            scenario.name(),
            calls.len()
        ));
    }
    let mut cases: Vec<Case> =
        cases.into_iter().map(|(scenario, fault)| Case { scenario, fault, salt: dice.roll() }).collect();
    dice.shuffle(&mut cases);
    Ok(cases)
}
