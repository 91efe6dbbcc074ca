//! The runner against layers that go wrong in every way: its own controls.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::path::Path;
use std::process::{Command, Output};

/// A run of rehearsed layers in a folder of its own.
struct Rehearsal {
    folder: tempfile::TempDir,
    output: Output,
}

impl Rehearsal {
    fn of(only: &str, more: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let program = env!("CARGO_BIN_EXE_proof");
        let output = Command::new(program)
            .args(["run", "--rehearse", "--exuvia", program, "--write-order", program, "--only", only])
            .args(more)
            .current_dir(folder.path())
            .env_remove("CI")
            .output()
            .unwrap();
        Self { folder, output }
    }

    fn holds(&self) -> bool {
        self.output.status.success()
    }

    fn said(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }

    /// The process that the layer left behind is gone, or nothing but a name in the table of processes.
    fn nothing_is_left_of(&self, layer: &str) -> bool {
        let log = std::fs::read_to_string(self.folder.path().join(format!("target/proof/{layer}.log"))).unwrap();
        let id = log.lines().find_map(|line| line.strip_prefix("left ")).expect("the layer says what it leaves");
        let state = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        state.is_empty() || state.contains(") Z ")
    }
}

#[test]
fn a_layer_that_holds_is_all_that_it_takes() {
    let run = Rehearsal::of("holds", &["--out", "report.md", "--seed", "5"]);
    assert!(run.holds(), "{}", run.said());
    assert!(run.said().contains("1 of 1 layers hold, nothing skipped"), "{}", run.said());
    let report = std::fs::read_to_string(run.folder.path().join("report.md")).unwrap();
    assert!(report.contains("Everything that was run holds") && report.contains("--only holds --seed 5"), "{report}");
}

#[test]
fn a_layer_that_panics_has_failed_and_its_last_words_are_shown() {
    let run = Rehearsal::of("panics,holds", &[]);
    assert!(!run.holds());
    let said = run.said();
    assert!(said.contains("`panics` does not hold") && said.contains("on purpose"), "{said}");
    assert!(said.contains("1 of 2 layers hold"), "{said}");
}

#[test]
fn a_layer_that_hangs_is_ended_with_everything_it_started() {
    let run = Rehearsal::of("hangs", &["--limit-s", "1"]);
    assert!(!run.holds());
    assert!(run.said().contains("it was not done after 1.0 s, and was ended"), "{}", run.said());
    assert!(run.nothing_is_left_of("hangs"));
}

#[test]
fn what_a_layer_leaves_running_is_ended_although_it_answered() {
    let run = Rehearsal::of("leaves", &[]);
    assert!(run.holds(), "{}", run.said());
    assert!(run.nothing_is_left_of("leaves"));
}

#[test]
fn a_mutant_that_survives_fails_the_run() {
    let run = Rehearsal::of("misses", &[]);
    assert!(!run.holds());
    assert!(run.said().contains("`a mutant` is wrong, and was not caught in 9 states"), "{}", run.said());
}

#[test]
fn a_machine_that_lacks_something_is_told_and_in_ci_it_fails() {
    let here = Rehearsal::of("lacks", &[]);
    assert!(here.holds(), "{}", here.said());
    assert!(here.said().contains("lacks: a part of it (no such device)"), "{}", here.said());
    let in_ci = Rehearsal::of("lacks", &["--ci"]);
    assert!(!in_ci.holds());
    assert!(in_ci.said().contains("CI must try a part of it: no such device"), "{}", in_ci.said());
}

#[test]
fn an_unknown_layer_is_answered_with_those_that_there_are() {
    let run = Rehearsal::of("hold", &[]);
    assert!(!run.holds());
    assert!(run.said().contains("no layer `hold`") && run.said().contains("holds, panics"), "{}", run.said());
    assert!(!Path::new(&run.folder.path().join("target/proof/hold.log")).exists());
}
