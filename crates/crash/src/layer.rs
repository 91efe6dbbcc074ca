//! The two layers: crashes, and refused calls.

use evidence::{Control, Evidence, Lane, Layer, Plan};
use store::disk::Mutant;

use crate::explore::{Depth, Explorer, Tally};
use crate::faults;
use crate::judge::{Judge, Score};
use crate::order::{About, ORDERS, Protocol, Wrong};
use crate::rot;
use crate::script::{SCRIPTS, Script, check_newer_format};

/// The layers of this crate.
pub fn layers() -> Vec<Layer> {
    vec![
        Layer {
            id: "disk",
            title: "A simulated disk: every crash, every legal survivor",
            lane: Lane::Computing,
            probe: Vec::new,
            run: crashes,
        },
        Layer {
            id: "disk-errors",
            title: "A simulated disk: every call refused in every way, then every crash",
            lane: Lane::Computing,
            probe: Vec::new,
            run: refusals,
        },
    ]
}

/// How far to go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    pub(crate) ours: Depth,
    /// Most disks of one power cut for an order of others or a mutant.
    pub(crate) others_most: usize,
    /// The same where a call was refused before.
    pub(crate) others_refused_most: usize,
    /// Of the bytes at rest every so manieth has a bit flipped.
    pub(crate) rotten_every: usize,
}

fn effort(plan: &Plan) -> Effort {
    let seed = plan.seed;
    if plan.is_long {
        Effort {
            ours: Depth {
                most: 2_000_000,
                second_every: 1,
                second_most: 100_000,
                refused_most: 20_000,
                refused_every: 1,
                seed,
            },
            others_most: 50_000,
            others_refused_most: 500,
            rotten_every: 1,
        }
    } else {
        Effort {
            ours: Depth {
                most: 200_000,
                second_every: 1,
                second_most: 10_000,
                refused_most: 400,
                refused_every: 1,
                seed,
            },
            others_most: 1_000,
            others_refused_most: 40,
            rotten_every: 3,
        }
    }
}

fn crashes(plan: &Plan) -> Evidence {
    all_crashes(effort(plan))
}

fn refusals(plan: &Plan) -> Evidence {
    all_refusals(effort(plan))
}

fn replay(layer: &str, effort: Effort) -> String {
    format!("cargo xtask proof --only {layer} --seed {}", effort.ours.seed)
}

/// Every script through `explore`, all tallies in one.
fn through(effort: Effort, layer: &'static str, evidence: &mut Evidence, explore: impl Fn(&mut Explorer)) -> Tally {
    let mut all = Tally::default();
    for script in SCRIPTS {
        match Explorer::new(*script, effort.ours, layer) {
            Err(claim) => evidence.failed(format!("{}: {claim}", script.name), replay(layer, effort)),
            Ok(mut explorer) => {
                explore(&mut explorer);
                all.add(explorer.tally);
            }
        }
    }
    all
}

fn tell_failures(tally: &Tally, evidence: &mut Evidence) {
    evidence.failures.extend(tally.failures.iter().cloned());
    let untold = tally.failed.saturating_sub(tally.failures.len() as u64);
    if let (Some(last), true) = (evidence.failures.last_mut(), untold > 0) {
        last.what.push_str(&format!(" (and {untold} more)"));
    }
}

pub(crate) fn all_crashes(effort: Effort) -> Evidence {
    let mut evidence = Evidence { seed: Some(effort.ours.seed), ..Evidence::default() };
    let mut ours = through(effort, "disk", &mut evidence, Explorer::crashes);
    for script in SCRIPTS {
        rot::explore(script, effort.rotten_every, &mut ours, &replay("disk", effort));
    }
    if let Err(claim) = check_newer_format() {
        ours.fail(claim, replay("disk", effort));
    }
    tell_failures(&ours, &mut evidence);
    evidence.tried("legal states after a power cut", ours.crash_states());
    evidence.tried("of them after one power cut, weakest disk", ours.weakest);
    evidence.tried("of them after one power cut that tears sectors", ours.torn);
    evidence.tried("of them after one power cut, journalled disk", ours.journalled);
    evidence.tried("of them after a crash of the start that follows a crash", ours.second);
    evidence.tried("kills between two operations", ours.killed);
    evidence.tried("distinct disks from which a start was run", ours.distinct);
    evidence.tried("power cuts of which only a part of the legal states was visited", ours.sampled);
    evidence.tried("bytes with a rotten bit", ours.rotten);
    evidence.tried("sectors wiped, also in the middle of an attempt", ours.wiped);
    evidence.notes.push(format!(
        "Scripts: {}. A *state* is one legal combination of what each file and folder may have become; a start is run once for each that differs \
         in names, contents or modes from all before it, or in what had been shown by then. Every start must find everything that was shown, \
         renew from there, keep its keys to itself (0600) and leave no litter. Of the starts after a first power cut every {} was itself crashed before each of its operations, and \
         every start after a kill. No older format than 1 exists, so `migrate` is the renewal of a store as an earlier release wrote it; one of a newer format is \
         served and never written.",
        names(),
        ordinal(effort.ours.second_every),
    ));
    for mutant in [Mutant::NoFileSync, Mutant::NoFolderSync, Mutant::RenameInPlace] {
        let name = match mutant {
            Mutant::NoFileSync => "the explorer, on a disk that drops syncs of files",
            Mutant::NoFolderSync => "the explorer, on a disk that drops syncs of folders",
            _ => "the explorer, with the manifest rewritten in place",
        };
        mutant_control(name, mutant, effort, &mut evidence, Explorer::crashes);
    }
    let expected = |wrong: Wrong| wrong.killed || wrong.power;
    let mut orders = judge_all(effort, effort.others_most, &mut evidence, expected, Judge::crashes, "disk");
    if let Some(score) = orders.iter_mut().find(|(order, _, _)| order == "exuvia") {
        let by_explorer = [
            (faults::KILLED, ours.killed),
            (faults::POWER_WEAKEST, ours.weakest),
            (faults::CRASHED_TWICE, ours.second),
            (faults::TORN, ours.torn),
            (faults::POWER_JOURNALLED, ours.journalled),
            (faults::ROTTEN, ours.rotten + ours.wiped),
        ];
        add_ours(&mut score.2, &by_explorer, ours.failed);
    }
    write_matrix(orders, &mut evidence);
    evidence
}

pub(crate) fn all_refusals(effort: Effort) -> Evidence {
    let mut evidence = Evidence { seed: Some(effort.ours.seed), ..Evidence::default() };
    let ours = through(effort, "disk-errors", &mut evidence, Explorer::refusals);
    tell_failures(&ours, &mut evidence);
    evidence.tried("calls refused, one in each run", ours.refused_calls);
    evidence.tried("legal states after a refused call and then a power cut", ours.refused);
    evidence.tried("distinct disks from which a start was run", ours.distinct);
    evidence.tried("power cuts of which only a part of the legal states was visited", ours.sampled);
    evidence.notes.push(format!(
        "Each operation of each script ({}), those of the start and its reads included, answers once with ENOSPC, EDQUOT, EIO, EROFS, EINTR or EACCES, writes half and fails, or does \
         its work and fails; or it and everything after it fails, as on a file system that has shut down. A file whose sync fails keeps its pages, clean: a later sync succeeds and \
         writes nothing. The process reads again, renews again under a new number, or ends; then the power fails at every later moment. A read error is never \
         taken for absence.",
        names(),
    ));
    mutant_control(
        "the explorer, taking a read error for absence",
        Mutant::ErrorsLookLikeAbsence,
        effort,
        &mut evidence,
        Explorer::refusals,
    );
    let expected = |wrong: Wrong| wrong.refused || wrong.refused_then_power;
    let mut orders =
        judge_all(effort, effort.others_refused_most, &mut evidence, expected, Judge::refusals, "disk-errors");
    if let Some(score) = orders.iter_mut().find(|(order, _, _)| order == "exuvia") {
        let by_explorer = [(faults::REFUSED, ours.refused_calls), (faults::REFUSED_THEN_POWER, ours.refused)];
        add_ours(&mut score.2, &by_explorer, ours.failed);
    }
    write_matrix(orders, &mut evidence);
    evidence
}

type Scores = Vec<(&'static str, Score)>;

/// Rows of the crash matrix: name, protocol, score by fault. Ours has both protocols in one row.
type Rows = Vec<(String, Protocol, Scores)>;

fn judge_all(
    effort: Effort,
    most: usize,
    evidence: &mut Evidence,
    expected: impl Fn(Wrong) -> bool,
    work: impl Fn(&mut Judge),
    layer: &str,
) -> Rows {
    let mut rows: Rows = Vec::new();
    for about in ORDERS {
        let is_ours = about.name == "exuvia";
        let most = if is_ours { effort.ours.most } else { most };
        for protocol in [Protocol::FilesOnly, Protocol::OneFingerprint] {
            let mut judge = match Judge::new(about.name, protocol, most, effort.ours.seed) {
                Ok(judge) => judge,
                Err(claim) => {
                    evidence.failed(claim, replay(layer, effort));
                    continue;
                }
            };
            work(&mut judge);
            for surprise in judge.surprises() {
                evidence.failed(surprise, replay(layer, effort));
            }
            let row = row_name(about, protocol);
            let mut sum = Score::default();
            let judged = judge.scores.iter().filter(|(fault, _)| **fault != faults::ROTTEN);
            judged.for_each(|(_, score)| sum.add(score));
            evidence.controls.push(Control {
                name: format!("{}, {}", about.title, spoken_protocol(protocol)),
                is_wrong: expected(match protocol {
                    Protocol::FilesOnly => about.wrong_in_files,
                    Protocol::OneFingerprint => about.wrong_in_protocol,
                }),
                caught: sum.unusable,
                states: sum.states,
                example: sum.example,
            });
            let scores: Scores = judge.scores.into_iter().collect();
            match rows.iter_mut().find(|(known, _, _)| *known == row) {
                Some((_, _, known)) => scores.iter().for_each(|(fault, score)| add_to(known, fault, score)),
                None => rows.push((row, protocol, scores)),
            }
        }
    }
    rows
}

fn row_name(about: &About, protocol: Protocol) -> String {
    match protocol {
        Protocol::OneFingerprint if about.name != "exuvia" => format!("{}, one fingerprint", about.name),
        _ => about.name.to_owned(),
    }
}

fn spoken_protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::FilesOnly => "both generations admitted until it is done",
        Protocol::OneFingerprint => "one fingerprint admitted at a time",
    }
}

fn add_to(scores: &mut Scores, fault: &'static str, more: &Score) {
    match scores.iter_mut().find(|(known, _)| *known == fault) {
        Some((_, score)) => score.add(more),
        None => scores.push((fault, more.clone())),
    }
}

/// What broke in ours is told as failures; a cell has to show it too.
fn add_ours(scores: &mut Scores, states: &[(&'static str, u64)], failed: u64) {
    for (index, (fault, states)) in states.iter().enumerate() {
        let unusable = if index == 0 { failed } else { 0 };
        add_to(scores, fault, &Score { states: *states, unusable, example: None });
    }
}

fn write_matrix(rows: Rows, evidence: &mut Evidence) {
    for (row, _, scores) in rows {
        for (fault, score) in scores {
            evidence.cell(row.clone(), fault, score.unusable, score.states);
        }
    }
}

/// A disk or a reader that is wrong in one way, under our own store: the explorer must find it out. The shortest script is enough.
fn mutant_control(
    name: &str,
    mutant: Mutant,
    effort: Effort,
    evidence: &mut Evidence,
    explore: impl Fn(&mut Explorer),
) {
    let depth =
        Depth { most: 50, second_every: u64::MAX, second_most: 10, refused_most: 10, refused_every: 3, ..effort.ours };
    let Some(script) = SCRIPTS.iter().find(|script| script.name == "renew") else { return };
    let Ok(mut explorer) = Explorer::new(*script, depth, "disk") else { return };
    explorer.mutate(mutant);
    explore(&mut explorer);
    let tally = explorer.tally;
    evidence.controls.push(Control {
        name: name.to_owned(),
        is_wrong: true,
        caught: tally.failed,
        states: tally.distinct,
        example: tally.failures.first().map(|failure| failure.what.clone()),
    });
}

fn names() -> String {
    SCRIPTS.iter().map(|script: &Script| script.name).collect::<Vec<_>>().join("; ")
}

fn ordinal(every: u64) -> String {
    match every {
        1 => "one".to_owned(),
        2 => "second one".to_owned(),
        n => format!("{n}th"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hundredth of CI's share, and every control.
    const REDUCED: Effort = Effort {
        ours: Depth { most: 1_000, second_every: 100, second_most: 300, refused_most: 10, refused_every: 7, seed: 1 },
        others_most: 100,
        others_refused_most: 16,
        rotten_every: 61,
    };

    fn assert_holds(evidence: &Evidence) {
        assert_eq!(evidence.failures, [], "ours broke");
        for control in &evidence.controls {
            assert!(control.is_judged_rightly(), "{control:?}");
        }
    }

    #[test]
    fn no_crash_and_no_crash_of_the_start_after_it_takes_an_identity_away() {
        let evidence = all_crashes(REDUCED);
        assert_holds(&evidence);
        let states = evidence.tried.first().map_or(0, |tried| tried.count);
        assert!(states > 20_000, "{states}");
        let ours = evidence.matrix.iter().filter(|cell| cell.order == "exuvia");
        assert!(ours.clone().count() == 6 && ours.clone().all(|cell| cell.unusable == 0 && cell.states > 0));
        for about in ORDERS {
            assert!(evidence.matrix.iter().any(|cell| cell.order == about.name), "{}", about.name);
        }
    }

    #[test]
    fn no_refused_call_and_no_crash_after_it_takes_an_identity_away() {
        let evidence = all_refusals(REDUCED);
        assert_holds(&evidence);
        assert!(evidence.tried.iter().all(|tried| tried.count > 0));
    }
}
