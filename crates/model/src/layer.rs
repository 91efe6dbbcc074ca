//! What the proof runs.

use evidence::{Chart, Control as Judged, Evidence, Lane, Layer, Plan};

use crate::defects::DEFECTS;
use crate::explore::{Exploration, Goal, Outcome};
use crate::mutants::MUTANTS;
use crate::scope::{Make, Scope};
use crate::scopes::{LONG, SHORT, STOCK, STOCK_LONG};
use crate::seen::{Seen, Sight};

/// The layers of this crate.
pub fn layers() -> Vec<Layer> {
    vec![Layer {
        id: "model",
        title: "Both machines and their stock peers, every interleaving within bounds",
        lane: Lane::Computing,
        probe: Vec::new,
        run,
    }]
}

fn run(plan: &Plan) -> Evidence {
    let mut evidence = Evidence::default();
    let scopes = SHORT.iter().chain(if plan.is_long { LONG } else { &[] });
    let total = Seen::default();
    let (mut states, mut steps) = (0, 0);
    evidence.notes.push(
        "Wherever ours plays, it is the machine of `lifecycle` itself. Every wait is zero, so every time-out may fire at any moment; at most \
         four messages and jobs are under way, and any of them may be the next to arrive. Each exploration below is exhaustive within its \
         bounds, unless it says otherwise."
            .to_owned(),
    );
    evidence.notes.push(
        "P1 is judged in every state, for what a start would find now and for what it would find after a power cut. It promises nothing once \
         an operator has withdrawn the identity and until a new enrollment is stored; once every leaf on the disk is past its NotAfter; on a \
         stock controller whose one fingerprint names an expired leaf, or whose database was \
         restored from before the oldest unexpired leaf on the disk was signed; and for a stock router whose own certificate file is \
         truncated, or whose last write a power cut has undone: those states are counted in rows of their own."
            .to_owned(),
    );
    evidence.notes.push(
        "\"One lagging\" means, of two stock controllers, that each applies the common log in its own time; of two of ours, which share one \
         register, that the second one's clock is a step behind and that what it has signed waits. Late answers, late 20303 of processes that \
         are gone, and jobs begun before another one's commit are part of every exploration. A transaction of ours takes less than a \
         step of the clock where copies are restored; what was signed long before it is stored is signed anew."
            .to_owned(),
    );
    for scope in scopes {
        let outcome = Exploration::new(*scope, Goal::Claims).run(1);
        states += outcome.unique;
        steps += outcome.steps;
        total.add(&outcome.seen);
        report(&mut evidence, scope, &outcome);
    }
    let stock = if plan.is_long { STOCK_LONG } else { STOCK };
    let outcome = Exploration::new(stock, Goal::Count).run(1);
    evidence.notes.push(bounds(&stock, &outcome));
    evidence.cell(
        "openziti router and controller, as protocol",
        fault_words(&stock),
        outcome.seen.unusable() + outcome.seen.torn(),
        outcome.unique,
    );
    evidence.tried("states of stock + stock", outcome.unique);
    evidence.tried("states of both machines, of ours with stock peers", states);
    evidence.tried("steps between them", steps);
    for sight in Sight::ALL {
        if total.times(*sight) > 0 {
            evidence.tried(sight.words(), total.times(*sight));
        } else {
            evidence.failed(
                format!("no exploration came across {}: it proves nothing about them", sight.words()),
                "cargo run --release -p model --example explore",
            );
        }
    }
    find_defects(&mut evidence);
    refute_mutants(&mut evidence);
    evidence
}

fn report(evidence: &mut Evidence, scope: &Scope, outcome: &Outcome) {
    evidence.notes.push(bounds(scope, outcome));
    for (claim, tale) in &outcome.broken {
        evidence.failed(
            format!("{}: {} breaks in {} steps", scope.name, claim.name(), tale.steps),
            format!("cargo run --release -p model --example explore -- '{}'", scope.name),
        );
        evidence.charts.push(Chart {
            title: format!("{}: {} breaks", scope.name, claim.name()),
            text: tale.chart.clone(),
            is_mermaid: true,
        });
    }
    let order = match (scope.router, scope.controller) {
        (Make::Exuvia, Make::Exuvia) => "exuvia router and controller, as protocol",
        (Make::Exuvia, Make::Stock) => "exuvia router, openziti controller, as protocol",
        (Make::Stock, Make::Exuvia) => "openziti router, exuvia controller, as protocol",
        (Make::Stock, Make::Stock) => "openziti router and controller, as protocol",
    };
    let is_broken = outcome.broken.iter().any(|(claim, _)| *claim == crate::claims::Claim::NeverWithout);
    cell(evidence, order, fault_words(scope), u64::from(is_broken), outcome.unique);
    if scope.router == Make::Stock {
        cell(
            evidence,
            order,
            format!("{}: its own file truncated, not written or not synced", fault_words(scope)),
            outcome.seen.torn(),
            outcome.unique,
        );
    }
}

/// One row for each mix of faults, however many explorations share it.
fn cell(evidence: &mut Evidence, order: &str, fault: String, unusable: u64, states: u64) {
    match evidence.matrix.iter_mut().find(|cell| cell.order == order && cell.fault == fault) {
        Some(known) => {
            known.unusable += unusable;
            known.states += states;
        }
        None => evidence.cell(order, fault, unusable, states),
    }
}

/// What may go wrong in a scope, in few words.
fn fault_words(scope: &Scope) -> String {
    let mut words = vec!["messages delayed and reordered"];
    let mut say = |is_so: bool, what| {
        if is_so {
            words.push(what);
        }
    };
    say(scope.loses, "lost");
    say(scope.doubles, "doubled");
    say(scope.strays, "strayed");
    say(scope.breaks, "channels broken");
    say(scope.router_crashes > 0, "router killed");
    say(scope.power_cuts && scope.router_crashes > 0, "power cut");
    say(scope.controller_crashes > 0, "controller killed");
    say(scope.disk_failures > 0, "disk refusing");
    say(scope.clock_jumps > 0, "clock set");
    say(scope.re_enrolls, "enrolled anew");
    say(scope.revokes, "revoked");
    say(scope.restores, "controller restored");
    say(scope.nodes > 1, "two controllers, one lagging");
    words.join(", ")
}

fn bounds(scope: &Scope, outcome: &Outcome) -> String {
    let counted = match scope.faults {
        Some(1) => ". Of all these one at a time, wherever it may strike".to_owned(),
        Some(most) => {
            format!(". Of all these at most {most} in one history, in every combination, wherever they may strike")
        }
        None => String::new(),
    };
    let ended =
        if outcome.is_whole { "" } else { " The search ended there: it is not exhaustive within these bounds." };
    format!(
        "**{}**: {} states, {} steps, depth {}. Bounds: {} attempts, {} leaves, {} messages in flight, {} deaths of the router, {} of the \
         controller, {} steps of the clock, {} controllers; {}{counted}.{ended}",
        scope.name,
        outcome.unique,
        outcome.steps,
        outcome.depth,
        scope.attempts,
        scope.leaves,
        scope.in_flight,
        scope.router_crashes,
        scope.controller_crashes,
        scope.days.len() - 1 - usize::from(scope.first_day),
        scope.nodes,
        fault_words(scope),
    )
}

/// Each known defect of the stock protocol, found, with its shortest story.
fn find_defects(evidence: &mut Evidence) {
    for defect in DEFECTS {
        let outcome = Exploration::new(defect.scope, Goal::Find(defect)).run(1);
        let steps = outcome.found.as_ref().map(|tale| tale.steps);
        evidence.controls.push(Judged {
            name: format!("openziti {}: {}", defect.id, defect.title),
            is_wrong: true,
            caught: u64::from(outcome.found.is_some()),
            states: outcome.unique,
            example: steps.map(|steps| format!("in {steps} steps, drawn below")),
        });
        if let Some(tale) = outcome.found {
            evidence.charts.push(Chart {
                title: format!("{}: {}", defect.id, defect.title),
                text: tale.chart,
                is_mermaid: true,
            });
        }
    }
}

/// Each mistake, refuted.
fn refute_mutants(evidence: &mut Evidence) {
    for mutant in MUTANTS {
        let outcome = Exploration::new(mutant.scope, Goal::Refute).run(1);
        let example = outcome.broken.first().map(|(claim, tale)| {
            let actions: Vec<String> = tale.lines.iter().map(String::clone).collect();
            format!("{}: {}", claim.name(), actions.join("; "))
        });
        evidence.controls.push(Judged {
            name: mutant.name.to_owned(),
            is_wrong: true,
            caught: u64::from(example.is_some()),
            states: outcome.unique,
            example,
        });
    }
}
