use std::time::Duration;

use evidence::{Evidence, Skip};
use serde::{Deserialize, Serialize};

use super::Circumstances;

/// What became of one layer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Finding {
    /// The layer's id.
    pub(crate) id: String,
    /// The layer's title.
    pub(crate) title: String,
    /// How long it took, in seconds.
    pub(crate) took_s: f64,
    /// What it said, or how it ended without a word.
    pub(crate) outcome: Outcome,
}

/// A layer answers, or its process ends otherwise.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Outcome {
    /// It answered.
    Answered(Box<Evidence>),
    /// It did not: a panic, a signal, its time limit.
    Ended {
        /// How, as a sentence without a stop.
        how: String,
    },
}

impl Finding {
    /// The evidence, where there is any.
    pub(crate) fn evidence(&self) -> Option<&Evidence> {
        match &self.outcome {
            Outcome::Answered(evidence) => Some(evidence),
            Outcome::Ended { .. } => None,
        }
    }

    /// What this machine could not try.
    pub(crate) fn missing(&self) -> &[Skip] {
        self.evidence().map_or(&[], |evidence| &evidence.skipped)
    }

    /// How long it took.
    pub(crate) fn took(&self) -> Duration {
        Duration::from_secs_f64(self.took_s)
    }

    /// Everything that keeps the layer from holding; empty when it holds.
    pub(crate) fn faults(&self, is_strict: bool) -> Vec<String> {
        let evidence = match &self.outcome {
            Outcome::Answered(evidence) => evidence,
            Outcome::Ended { how } => return vec![how.clone()],
        };
        let mut faults: Vec<String> =
            evidence.failures.iter().map(|failure| format!("{}; again: {}", failure.what, failure.replay)).collect();
        for control in evidence.controls.iter().filter(|control| !control.is_judged_rightly()) {
            let example = control.example.as_deref().map(|example| format!(": {example}")).unwrap_or_default();
            faults.push(if control.is_wrong {
                format!("the control `{}` is wrong, and was not caught in {} states", control.name, control.states)
            } else {
                format!(
                    "the control `{}` is right, and was accused in {} of {} states{example}",
                    control.name, control.caught, control.states
                )
            });
        }
        for cell in evidence.matrix.iter().filter(|cell| cell.order == OURS && cell.unusable > 0) {
            faults
                .push(format!("{}: {} of {} states without a usable identity", cell.fault, cell.unusable, cell.states));
        }
        if evidence.skipped.is_empty() && !evidence.tried.iter().any(|count| count.count > 0) {
            faults.push("it tried nothing".to_string());
        }
        if is_strict {
            faults.extend(evidence.skipped.iter().map(|skip| format!("CI must try {}: {}", skip.what, skip.why)));
        }
        faults
    }

    /// The command that runs it again.
    pub(crate) fn replay(&self, circumstances: &Circumstances) -> String {
        let seed = self.evidence().and_then(|evidence| evidence.seed).unwrap_or(circumstances.seed);
        let long = if circumstances.is_long { " --long" } else { "" };
        format!("cargo xtask proof --only {} --seed {seed}{long}", self.id)
    }
}

/// The name of our own write order in the crash matrix.
pub(crate) const OURS: &str = "exuvia";

#[cfg(test)]
mod tests {
    use evidence::Control;

    use super::*;

    fn found(change: impl FnOnce(&mut Evidence)) -> Finding {
        let mut evidence = Evidence::default();
        evidence.tried("states", 3);
        change(&mut evidence);
        Finding {
            id: "disk".into(),
            title: "Disks".into(),
            took_s: 1.0,
            outcome: Outcome::Answered(Box::new(evidence)),
        }
    }

    #[test]
    fn a_layer_that_counted_something_and_broke_nothing_holds() {
        assert!(found(|_| ()).faults(true).is_empty());
    }

    #[test]
    fn a_mutant_that_survives_breaks_the_layer_and_so_does_a_peer_wrongly_accused() {
        let control = |is_wrong, caught| Control { name: "x".into(), is_wrong, caught, states: 5, example: None };
        for (is_wrong, caught, holds) in [(true, 1, true), (true, 0, false), (false, 0, true), (false, 1, false)] {
            let finding = found(|evidence| evidence.controls.push(control(is_wrong, caught)));
            assert_eq!(finding.faults(false).is_empty(), holds, "{is_wrong} {caught}");
        }
    }

    #[test]
    fn our_own_row_of_the_matrix_must_be_zero_and_that_of_others_need_not() {
        assert!(!found(|evidence| evidence.cell(OURS, "power cut", 1, 9)).faults(false).is_empty());
        assert!(found(|evidence| evidence.cell("openziti 2.1", "power cut", 1, 9)).faults(false).is_empty());
    }

    #[test]
    fn a_skip_fails_in_ci_alone_and_what_is_left_out_by_design_fails_nowhere() {
        let skipping = found(|evidence| evidence.skip("xfs", "no mkfs.xfs"));
        assert!(skipping.faults(false).is_empty() && !skipping.faults(true).is_empty());
        assert!(found(|evidence| evidence.leave_out("an hour", "nightly only")).faults(true).is_empty());
    }

    #[test]
    fn a_layer_that_tried_nothing_does_not_hold() {
        assert!(!found(|evidence| evidence.tried.clear()).faults(false).is_empty());
    }
}
