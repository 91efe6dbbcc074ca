//! Runs the explorations whose names contain a word: `cargo run --release -p model --example explore -- stock`.
#![allow(missing_docs)]

use std::time::Instant;

use model::{DEFECTS, Exploration, Goal, LONG, MUTANTS, SHORT, STOCK, Sight};

fn main() {
    let word = std::env::args().nth(1).unwrap_or_default();
    if word == "layer" {
        return layer();
    }
    // `--faults K` for another number of faults, `--most N` to stop after so many states; `--controllers`, `--attempts`, `--leaves`,
    // `--in-flight` and `--days` for other bounds.
    let number = |name: &str| {
        let mut words = std::env::args().skip_while(|word| word != name);
        words.nth(1).and_then(|word| word.parse::<u64>().ok())
    };
    for scope in SHORT.iter().chain(LONG).chain([&STOCK]).filter(|scope| scope.name.contains(&word)) {
        let goal = if scope.name == STOCK.name { Goal::Count } else { Goal::Claims };
        let began = Instant::now();
        let mut scope = *scope;
        if let (Some(faults), Some(_)) = (number("--faults"), scope.faults) {
            scope.faults = u8::try_from(faults).ok();
        }
        let small = |name: &str, known: u8| number(name).and_then(|most| u8::try_from(most).ok()).unwrap_or(known);
        scope.nodes = small("--controllers", scope.nodes);
        scope.attempts = small("--attempts", scope.attempts);
        scope.leaves = small("--leaves", scope.leaves);
        scope.in_flight = small("--in-flight", scope.in_flight);
        scope.days = scope.days.get(..small("--days", 255).into()).unwrap_or(scope.days);
        let exploration = Exploration::new(scope, goal);
        let outcome = match number("--most") {
            Some(most) => exploration.walk(most),
            None => exploration.run(1),
        };
        if !outcome.is_whole {
            println!("stopped before its end:");
        }
        println!(
            "{}: {} states, {} steps, depth {}, {:?}, unusable {}, torn {}",
            scope.name,
            outcome.unique,
            outcome.steps,
            outcome.depth,
            began.elapsed(),
            outcome.seen.unusable(),
            outcome.seen.torn()
        );
        let sights: Vec<String> =
            Sight::ALL.iter().map(|sight| format!("{} {}", outcome.seen.times(*sight), sight.words())).collect();
        println!("   {}", sights.join(", "));
        for (claim, tale) in outcome.broken {
            println!("BROKEN {claim:?} in {} steps\n{}\n{:?}\n{:#?}", tale.steps, tale.chart, tale.actions, tale.end);
        }
    }
    for mutant in MUTANTS.iter().filter(|mutant| mutant.name.contains(&word)) {
        let began = Instant::now();
        let outcome = Exploration::new(mutant.scope, Goal::Refute).run(1);
        println!("{}: {} states, depth {}, {:?}", mutant.name, outcome.unique, outcome.depth, began.elapsed());
        for (claim, tale) in outcome.broken {
            println!("  {claim:?} in {} steps\n{}", tale.steps, tale.chart);
        }
    }
    for defect in DEFECTS.iter().filter(|defect| defect.id.contains(&word)) {
        let outcome = Exploration::new(defect.scope, Goal::Find(defect)).run(1);
        println!("{}: {} states, depth {}", defect.id, outcome.unique, outcome.depth);
        if let Some(tale) = outcome.found {
            println!("{} steps\n{}", tale.steps, tale.chart);
        }
    }
}

/// The layer as the proof runs it.
fn layer() {
    let plan = evidence::Plan {
        is_long: std::env::args().any(|word| word == "--long"),
        seed: 1,
        exuvia: "exuvia".into(),
        write_order: "write-order".into(),
        scratch: "scratch".into(),
    };
    for layer in model::layers() {
        let began = Instant::now();
        let found = (layer.run)(&plan);
        println!("{}: {:?}, holds: {}", layer.id, began.elapsed(), found.holds());
        for note in &found.notes {
            println!("{note}");
        }
        for count in &found.tried {
            println!("{} {}", count.count, count.what);
        }
        for cell in &found.matrix {
            println!("{} | {} | {} of {}", cell.order, cell.fault, cell.unusable, cell.states);
        }
        for control in &found.controls {
            println!("{}: caught {} of {}: {:?}", control.name, control.caught, control.states, control.example);
        }
        for failure in &found.failures {
            println!("FAILED {}", failure.what);
        }
    }
}
