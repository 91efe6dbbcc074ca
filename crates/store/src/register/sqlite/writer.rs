//! The one thread that writes: it drains its queue into one transaction, commits, and only then answers.

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use lifecycle::RouterId;

use super::Tuning;
use super::queue::{Queue, Served};
use super::writes::SqliteRows;
use crate::register::backend::Urgency;
use crate::register::engine::Engine;
use crate::register::error::RegisterError;

/// Tells the asker; given what became of the commit.
pub(super) type Release = Box<dyn FnOnce(Result<(), RegisterError>) + Send>;

/// Runs inside the transaction.
type Work = Box<dyn FnOnce(&mut Engine<SqliteRows>) -> Done + Send>;

/// One operation that waits for the writer.
pub(super) struct Job {
    pub(super) urgency: Urgency,
    pub(super) work: Work,
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job").field("urgency", &self.urgency).finish_non_exhaustive()
    }
}

/// What became of it inside the transaction.
pub(super) struct Done {
    pub(super) held: bool,
    pub(super) spoiled: Option<RegisterError>,
    pub(super) release: Release,
}

/// Numbers for `metrics`.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    pub(super) commits: AtomicU64,
    pub(super) failed_commits: AtomicU64,
    pub(super) steps: AtomicU64,
    pub(super) written_steps: AtomicU64,
    pub(super) checkpoints: AtomicU64,
}

#[derive(Debug)]
pub(super) struct Writer {
    engine: Engine<SqliteRows>,
    queue: Served<Job>,
    numbers: Arc<Numbers>,
    tuning: Tuning,
    pace: Pace,
    /// Operations committed since the last checkpoint.
    unmoved: usize,
}

impl Writer {
    pub(super) fn new(rows: SqliteRows, queue: Arc<Queue<Job>>, numbers: Arc<Numbers>, tuning: Tuning) -> Self {
        let pace = Pace::new(tuning.spacing);
        Self { engine: Engine::new(rows), queue: Served(queue), numbers, tuning, pace, unmoved: 0 }
    }

    /// Serves until the queue is closed and empty.
    pub(super) fn run(mut self) {
        while let Some(first) = self.queue.0.pop() {
            self.batch(first);
        }
    }

    fn batch(&mut self, first: Job) {
        let mut held: Vec<Release> = Vec::new();
        let mut spoiled = None;
        let mut urgent = false;
        let mut ran = 0;
        let mut next = Some(first);
        while let Some(Job { urgency, work }) = next.take() {
            let done = work(&mut self.engine);
            // Before the answer: who has it may look at the numbers.
            self.numbers.steps.store(self.engine.steps, Ordering::Relaxed);
            self.numbers.written_steps.store(self.engine.written_steps, Ordering::Relaxed);
            if done.held {
                urgent |= self.pace.note(urgency, Instant::now());
                held.push(done.release);
            } else {
                (done.release)(Ok(()));
            }
            spoiled = done.spoiled;
            ran += 1;
            if spoiled.is_some() || ran >= self.tuning.batch {
                break;
            }
            let until = if held.is_empty() || urgent { Instant::now() } else { self.pace.until(Instant::now()) };
            next = self.queue.0.pop_until(until);
        }
        let outcome = match spoiled {
            Some(error) => Err(error),
            None => self.commit(),
        };
        self.settle(&outcome);
        let answer = outcome.map_err(|error| match error {
            RegisterError::CommitFailed { .. } => error,
            other => RegisterError::CommitFailed { detail: other.to_string() },
        });
        let answered = held.len();
        for release in held {
            release(answer.clone());
        }
        if answer.is_ok() {
            self.checkpoint(answered);
        }
    }

    fn commit(&mut self) -> Result<(), RegisterError> {
        if self.engine.wrote() {
            self.engine.before_commit()?;
        }
        self.engine.rows.commit()
    }

    fn settle(&mut self, outcome: &Result<(), RegisterError>) {
        let numbers = &self.numbers;
        match outcome {
            Ok(()) if self.engine.wrote() => drop(numbers.commits.fetch_add(1, Ordering::Relaxed)),
            Ok(()) => {}
            Err(error) => {
                numbers.failed_commits.fetch_add(1, Ordering::Relaxed);
                tracing::error!(%error, "the register undid a transaction");
                self.engine.rows.rollback();
            }
        }
        self.pace.committed(Instant::now());
        self.engine.settled(outcome.is_ok());
    }

    /// After the answers, so that nobody waits for it.
    fn checkpoint(&mut self, answered: usize) {
        self.unmoved += answered;
        if self.unmoved < self.tuning.checkpoint {
            return;
        }
        self.unmoved = 0;
        match self.engine.rows.checkpoint() {
            Ok(()) => drop(self.numbers.checkpoints.fetch_add(1, Ordering::Relaxed)),
            // What is committed stays durable in the log; the next checkpoint moves it.
            Err(error) => tracing::warn!(%error, "the register could not empty its write-ahead log"),
        }
    }
}

/// Decides how long a transaction stays open for company. A lone asker never waits: only while several routers write at
/// once are commits spaced, so that one fsync serves them all.
#[derive(Debug)]
struct Pace {
    spacing: Duration,
    recent: VecDeque<(RouterId, Instant)>,
    last_commit: Option<Instant>,
}

impl Pace {
    /// Routers that write within one window for the commits to be spaced.
    const CROWD: usize = 6;
    const WINDOW: Duration = Duration::from_millis(50);
    const RECENT_MAX: usize = 64;

    fn new(spacing: Duration) -> Self {
        Self { spacing, recent: VecDeque::new(), last_commit: None }
    }

    /// Notes a write. Is it urgent?
    fn note(&mut self, urgency: Urgency, now: Instant) -> bool {
        let Urgency::Step(router) = urgency else { return true };
        if self.recent.len() >= Self::RECENT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back((router, now));
        false
    }

    /// Until when the open transaction may wait for more.
    fn until(&mut self, now: Instant) -> Instant {
        while self.recent.front().is_some_and(|(_, at)| now.saturating_duration_since(*at) > Self::WINDOW) {
            self.recent.pop_front();
        }
        let crowd: HashSet<&RouterId> = self.recent.iter().map(|(router, _)| router).collect();
        match self.last_commit {
            Some(last) if crowd.len() >= Self::CROWD => last + self.spacing,
            Some(_) | None => now,
        }
    }

    fn committed(&mut self, now: Instant) {
        self.last_commit = Some(now);
    }
}
