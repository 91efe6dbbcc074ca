//! Every program that is wrong on purpose is refuted.

use model::{Exploration, Goal, MUTANTS};

#[test]
fn every_mutant_is_refuted() {
    for mutant in MUTANTS {
        let outcome = Exploration::new(mutant.scope, Goal::Refute).run(1);
        assert!(!outcome.broken.is_empty(), "`{}` survives {} states", mutant.name, outcome.unique);
    }
}

#[test]
fn without_its_mistake_every_mutant_is_as_good_as_the_others() {
    for mutant in MUTANTS {
        let scope =
            model::Scope { mistake: None, loses: false, controller_crashes: 0, days: &[61], leaves: 2, ..mutant.scope };
        let outcome = Exploration::new(scope, Goal::Claims).run(1);
        let told: Vec<&str> = outcome.broken.iter().map(|(_, tale)| tale.chart.as_str()).collect();
        assert!(told.is_empty(), "`{}` without its mistake: {}", mutant.name, told.join("\n"));
    }
}
