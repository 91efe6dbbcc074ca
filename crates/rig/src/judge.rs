//! Is the identity in a router's folder good for anything?

use std::time::{Duration, Instant};

use crate::PATIENCE;
use crate::log::Mark;
use crate::process::{Direct, Starter};
use crate::router::Router;
use crate::running::Running;

/// Refusals after which nobody is waited for any longer. A connection that closes for another reason is refused once or
/// twice, and the candidates take turns.
const REFUSALS: usize = 24;

/// What became of an identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A controller admits it, and it renews.
    Usable {
        /// The generation that was admitted first.
        online_with: u64,
        /// The generation to which it renewed after that; `None` where that was not asked.
        renewed_to: Option<u64>,
    },
    /// A controller admits it, but it does not renew.
    NotRenewing {
        /// The generation that was admitted.
        online_with: u64,
        /// What it said.
        why: String,
    },
    /// It runs, and no controller admits it.
    LockedOut {
        /// The generations that were tried.
        tried: Vec<u64>,
        /// What it said.
        why: String,
    },
    /// It does not run.
    CannotStart {
        /// Exit code; `None` for a signal.
        code: Option<i32>,
        /// What it said.
        stderr: String,
    },
    /// It panicked, whatever else it did.
    Panicked(String),
}

/// A verdict, and what it took.
#[derive(Clone, Debug)]
pub struct Judged {
    /// What became of it.
    pub verdict: Verdict,
    /// From the start to the verdict.
    pub took: Duration,
    /// All that the router said.
    pub log: String,
}

impl Judged {
    /// A controller admits it, and, where that was asked, it renews.
    pub fn is_usable(&self) -> bool {
        matches!(self.verdict, Verdict::Usable { .. })
    }

    /// One line for a report.
    pub fn brief(&self) -> String {
        match &self.verdict {
            Verdict::Usable { online_with, renewed_to: Some(to) } => {
                format!("online with generation {online_with}, renewed to {to}")
            }
            Verdict::Usable { online_with, renewed_to: None } => format!("online with generation {online_with}"),
            Verdict::NotRenewing { online_with, why } => {
                format!(
                    "online with generation {online_with}, but it does not renew: {}",
                    first_line(why).chars().take(300).collect::<String>()
                )
            }
            Verdict::LockedOut { tried, why } => format!(
                "no controller admits any of {tried:?}: {}",
                first_line(why).chars().take(300).collect::<String>()
            ),
            Verdict::CannotStart { code, stderr } => format!("does not start ({code:?}): {}", problem(stderr)),
            Verdict::Panicked(line) => format!("panicked: {line}"),
        }
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// The lines of an error for people, or the last ones of a log.
fn problem(stderr: &str) -> String {
    let lines: Vec<&str> = stderr.lines().filter(|line| !line.is_empty() && !line.starts_with('{')).collect();
    if lines.is_empty() { stderr.lines().last().unwrap_or_default().to_owned() } else { lines.join(" / ") }
}

impl Router {
    /// Starts the real router on the folder as it is: it must come online and renew. Then it is killed.
    pub fn judge(&self) -> Judged {
        self.judge_and_keep(&Direct, true).0
    }

    /// The same without a renewal.
    pub fn judge_only_admission(&self) -> Judged {
        self.judge_and_keep(&Direct, false).0
    }

    /// Judges, and leaves the process running where the identity is usable.
    pub fn judge_and_keep(&self, starter: &dyn Starter, renews: bool) -> (Judged, Option<Running>) {
        let began = Instant::now();
        let cannot = |stderr: String| Verdict::CannotStart { code: None, stderr };
        let (verdict, running) = match self.start_by(starter) {
            Err(error) => (cannot(format!("{error:#}")), None),
            Ok(running) => {
                let verdict = running.judge(renews);
                (verdict, Some(running))
            }
        };
        let log = running.as_ref().map(|running| running.log().clone());
        let verdict = match log.as_ref().and_then(crate::Log::panic) {
            Some(line) => Verdict::Panicked(line),
            None => verdict,
        };
        let judged = Judged { verdict, took: began.elapsed(), log: log.map(|log| log.text()).unwrap_or_default() };
        let running = running.filter(|_| judged.is_usable());
        (judged, running)
    }
}

impl Running {
    /// Waits until it is clear what became of a process that was just started.
    pub fn judge(&self, renews: bool) -> Verdict {
        let mut tried = Vec::new();
        let online = self.log().wait(Mark::default(), PATIENCE, |line| match line.event() {
            "connected" => Some(line.generation()),
            "refused" => {
                tried.extend(line.generation());
                (tried.len() >= REFUSALS).then_some(None)
            }
            _ => None,
        });
        let Some(online_with) = online.flatten() else {
            tried.sort_unstable();
            tried.dedup();
            let stderr = self.log().text();
            // Its outputs close a moment before it has been waited for.
            if self.log().is_over()
                && let Some(status) = self.wait()
            {
                return Verdict::CannotStart { code: status.code(), stderr };
            }
            return Verdict::LockedOut { tried, why: stderr };
        };
        if !renews {
            return Verdict::Usable { online_with, renewed_to: None };
        }
        match self.renew() {
            Ok(generation) => Verdict::Usable { online_with, renewed_to: Some(generation) },
            Err(error) => Verdict::NotRenewing { online_with, why: format!("{error:#}") },
        }
    }
}
