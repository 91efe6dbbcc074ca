//! What a run came to: one object for scripts, a few lines for people, and whether anything was lost.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::faults::plan::FaultKind;
use super::tally::{Books, Losses, RouterTally, Strikes};

/// So many faults must have struck Staged or Proving in every [`MARKSMAN_SPAN`] of faults.
const MARKSMAN_HITS: u64 = 3;
const MARKSMAN_SPAN: Duration = Duration::from_secs(45);

/// The whole run.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    /// Was nothing lost?
    pub(crate) is_ok: bool,
    /// If not, why not.
    reasons: Vec<String>,
    /// How long it took, from the start of the process.
    seconds: f64,
    leaf_life_s: u64,
    routers: usize,
    renewals: usize,
    failed_attempts: u64,
    handshakes: u64,
    requests: u64,
    failed_handshakes: u64,
    dropped_connections: u64,
    dropped_bytes: u64,
    locked_out: usize,
    worst_seconds_left: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<u64>,
    faults: Strikes,
    /// What faults are the excuse for, by fault; not part of the counts above.
    excused: BTreeMap<FaultKind, Losses>,
    /// Kinds of faults that this machine does not allow, and why.
    skipped: BTreeMap<FaultKind, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cadence: Option<Cadence>,
    per_router: Vec<RouterEntry>,
    complaints: Vec<String>,
}

/// How well the faults kept to their plan.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Cadence {
    struck: u64,
    /// Between the moment a 20302 was sent and the moment PROMOTE was durable.
    inside_renewal: u64,
    in_staged_or_proving: u64,
    longest_gap_s: f64,
}

#[derive(Debug, Serialize)]
struct RouterEntry {
    name: String,
    renewals: usize,
    failed_attempts: u64,
    handshakes: u64,
    requests: u64,
    #[serde(flatten)]
    losses: Losses,
    excused: Losses,
    locked_out: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    why_locked_out: Option<String>,
    worst_seconds_left: Option<f64>,
    /// Most renewals that one long connection of the load lived through.
    renewals_survived: u64,
    unexpected_exits: u64,
}

/// What the books do not say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub(crate) elapsed: Duration,
    pub(crate) leaf_life: Duration,
    /// The seed, and between which instants faults were to strike.
    pub(crate) faults: Option<(u64, Instant, Instant)>,
}

impl Summary {
    pub(crate) fn new(books: &Books, run: &Run) -> Self {
        let routers = &books.routers;
        let count = |of: fn(&RouterTally) -> u64| routers.iter().map(of).sum::<u64>();
        let cadence = run.faults.map(|(_, from, to)| Cadence::of(books, from, to));
        let mut summary = Self {
            is_ok: true,
            reasons: Vec::new(),
            seconds: tenths(run.elapsed),
            leaf_life_s: run.leaf_life.as_secs(),
            routers: routers.len(),
            renewals: routers.iter().map(|router| router.promoted.len()).sum(),
            failed_attempts: count(|router| router.failed_attempts),
            handshakes: count(|router| router.handshakes),
            requests: count(|router| router.requests),
            failed_handshakes: count(|router| router.losses.failed_handshakes),
            dropped_connections: count(|router| router.losses.dropped_connections),
            dropped_bytes: count(|router| router.losses.dropped_bytes),
            locked_out: routers.iter().filter(|router| router.locked_out.is_some()).count(),
            worst_seconds_left: routers.iter().filter_map(|router| router.worst_left).min().map(tenths),
            seed: run.faults.map(|(seed, ..)| seed),
            faults: books.strikes.clone(),
            excused: books.excused.clone(),
            skipped: books.skipped.clone(),
            cadence,
            per_router: routers.iter().map(RouterEntry::of).collect(),
            complaints: together(&books.complaints),
        };
        summary.judge(run);
        summary
    }

    fn judge(&mut self, run: &Run) {
        let mut reasons = Vec::new();
        let mut unless_none = |count: u64, what: &str| {
            if count > 0 {
                reasons.push(format!("{count} {what}"));
            }
        };
        unless_none(self.locked_out as u64, "routers were locked out");
        unless_none(self.failed_handshakes, "handshakes failed without a fault as the excuse");
        unless_none(self.dropped_connections, "connections were dropped without a fault as the excuse");
        unless_none(
            self.per_router.iter().map(|router| router.unexpected_exits).sum(),
            "processes ended by themselves",
        );
        if self.handshakes == 0 && self.routers > 0 {
            reasons.push("there was no load at all".to_owned());
        }
        for router in self.per_router.iter().filter(|router| router.worst_seconds_left.is_none()) {
            reasons.push(format!("{} was never found on its disk and with the controller", router.name));
        }
        if let Some(cadence) = self.cadence {
            let needed = hits_needed(run.elapsed);
            if cadence.in_staged_or_proving < needed {
                reasons.push(format!(
                    "only {} faults struck Staged or Proving, and {needed} must",
                    cadence.in_staged_or_proving
                ));
            }
        }
        self.is_ok = reasons.is_empty();
        self.reasons = reasons;
    }

    /// For people.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines = vec![String::new()];
        lines.push(format!(
            "{} routers renewed {} times in {} s; {} tries failed and were repeated",
            self.routers, self.renewals, self.seconds, self.failed_attempts
        ));
        lines.push(format!(
            "load: {} handshakes, {} requests; lost: {} handshakes, {} connections, {} bytes",
            self.handshakes, self.requests, self.failed_handshakes, self.dropped_connections, self.dropped_bytes
        ));
        let worst = self.worst_seconds_left.map_or_else(|| "unknown".to_owned(), |left| format!("{left} s"));
        lines.push(format!("locked out: {} routers; least time to lock-out ever: {worst}", self.locked_out));
        if let Some(cadence) = self.cadence {
            lines.push(format!(
                "faults: {} (seed {}), {} of them inside a renewal, {} in Staged or Proving, at most {} s apart",
                cadence.struck,
                self.seed.unwrap_or_default(),
                cadence.inside_renewal,
                cadence.in_staged_or_proving,
                cadence.longest_gap_s
            ));
            for (kind, phases) in &self.faults {
                let mut text = format!("  {kind:<18}");
                for (phase, count) in phases {
                    let _ = write!(text, " {phase} {count}");
                }
                lines.push(text);
            }
            for (kind, why) in &self.skipped {
                lines.push(format!("  {kind:<18} skipped: {why}"));
            }
            for (kind, losses) in self.excused.iter().filter(|(_, losses)| !losses.is_none()) {
                lines.push(format!(
                    "excused by {kind}: {} handshakes, {} connections, {} bytes",
                    losses.failed_handshakes, losses.dropped_connections, losses.dropped_bytes
                ));
            }
        }
        for router in &self.per_router {
            if let Some(why) = &router.why_locked_out {
                lines.push(format!("{} was locked out: {why}", router.name));
            }
        }
        lines.extend(self.complaints.iter().take(20).map(|complaint| format!("note: {complaint}")));
        lines.push(match self.is_ok {
            true => "nothing was lost".to_owned(),
            false => format!("FAILED: {}", self.reasons.join("; ")),
        });
        lines
    }
}

impl RouterEntry {
    fn of(router: &RouterTally) -> Self {
        Self {
            name: router.name.clone(),
            renewals: router.promoted.len(),
            failed_attempts: router.failed_attempts,
            handshakes: router.handshakes,
            requests: router.requests,
            losses: router.losses,
            excused: router.excused,
            locked_out: router.locked_out.is_some(),
            why_locked_out: router.locked_out.clone(),
            worst_seconds_left: router.worst_left.map(tenths),
            renewals_survived: router.renewals_survived,
            unexpected_exits: router.unexpected_exits,
        }
    }
}

impl Cadence {
    fn of(books: &Books, from: Instant, to: Instant) -> Self {
        let count = |phases: &[&str]| {
            let all = books.strikes.values().flatten();
            all.filter(|(phase, _)| phases.contains(&phase.as_str())).map(|(_, count)| count).sum()
        };
        let mut longest = Duration::ZERO;
        let mut before = from;
        for at in books.struck_at.iter().map(|(at, _)| *at).chain([to]) {
            longest = longest.max(at.saturating_duration_since(before));
            before = at;
        }
        Self {
            struck: books.struck_at.len() as u64,
            inside_renewal: count(&["Requested", "Staged", "Proving"]),
            in_staged_or_proving: count(&["Staged", "Proving"]),
            longest_gap_s: tenths(longest),
        }
    }
}

/// Each complaint once, with how often it was made.
fn together(complaints: &[String]) -> Vec<String> {
    let mut counted: Vec<(&str, u64)> = Vec::new();
    for complaint in complaints {
        match counted.iter_mut().find(|(text, _)| text == complaint) {
            Some((_, count)) => *count += 1,
            None => counted.push((complaint, 1)),
        }
    }
    let spell =
        |(text, count): (&str, u64)| if count == 1 { text.to_owned() } else { format!("{text} ({count} times)") };
    counted.into_iter().map(spell).collect()
}

fn hits_needed(elapsed: Duration) -> u64 {
    MARKSMAN_HITS * elapsed.as_secs() / MARKSMAN_SPAN.as_secs()
}

/// Seconds, to a tenth.
fn tenths(duration: Duration) -> f64 {
    f64::from(u32::try_from(duration.as_millis() / 100).unwrap_or(u32::MAX)) / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quickstart::tally::{Loss, Side, Tally};

    fn tally() -> Tally {
        let tally = Tally::new(["r1".to_owned(), "r2".to_owned()]);
        for index in [0, 1] {
            tally.router(index, |router| {
                router.handshakes = 10;
                router.promoted = [2, 3].into();
                router.worst_left = Some(Duration::from_millis(20_450));
            });
        }
        tally
    }

    fn calm() -> Run {
        Run { elapsed: Duration::from_secs(90), leaf_life: Duration::from_secs(60), faults: None }
    }

    #[test]
    fn a_calm_run_without_a_loss_is_ok_and_has_every_promised_key() {
        let summary = Summary::new(&tally().books(), &calm());
        assert!(summary.is_ok, "{:?}", summary.reasons);
        let json = serde_json::to_value(&summary).unwrap();
        for key in [
            "routers",
            "renewals",
            "failed_attempts",
            "handshakes",
            "failed_handshakes",
            "dropped_connections",
            "dropped_bytes",
            "locked_out",
            "worst_seconds_left",
            "faults",
        ] {
            assert!(json.get(key).is_some(), "{key} is missing in {json:#}");
        }
        assert_eq!(json["routers"], 2);
        assert_eq!(json["renewals"], 4);
        assert_eq!(json["worst_seconds_left"], 20.4);
        assert_eq!(json["per_router"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn any_loss_without_an_excuse_fails_the_run() {
        for loss in [Loss::Handshake, Loss::Connection { bytes: 3 }] {
            let tally = tally();
            tally.lose(0, Side::Web, Instant::now(), &loss);
            assert!(!Summary::new(&tally.books(), &calm()).is_ok);
        }
        let tally = tally();
        tally.router(1, |router| router.locked_out = Some("nothing in common".to_owned()));
        assert!(!Summary::new(&tally.books(), &calm()).is_ok);
    }

    #[test]
    fn an_excused_loss_is_counted_apart_and_fails_nothing() {
        let tally = tally();
        tally.begin(FaultKind::KillRouter, &[0]);
        tally.lose(0, Side::Web, Instant::now(), &Loss::Connection { bytes: 9 });
        let summary = Summary::new(&tally.books(), &calm());
        assert!(summary.is_ok);
        let json = serde_json::to_value(&summary).unwrap();
        assert_eq!(json["dropped_connections"], 0);
        assert_eq!(json["excused"]["kill_router"]["dropped_bytes"], 9);
    }

    #[test]
    fn too_few_faults_in_staged_or_proving_fail_the_run() {
        let from = Instant::now();
        let elapsed = Duration::from_secs(45);
        let run = Run { faults: Some((7, from, from + elapsed)), elapsed, ..calm() };
        let tally = tally();
        tally.struck(FaultKind::KillRouter, "Staged");
        tally.struck(FaultKind::FolderFull, "Proving");
        let summary = Summary::new(&tally.books(), &run);
        assert!(!summary.is_ok);
        tally.struck(FaultKind::AnswerLost, "Proving");
        let summary = Summary::new(&tally.books(), &run);
        assert!(summary.is_ok, "{:?}", summary.reasons);
        let json = serde_json::to_value(&summary).unwrap();
        assert_eq!(json["faults"]["answer_lost"]["Proving"], 1);
        assert_eq!(json["seed"], 7);
    }
}
