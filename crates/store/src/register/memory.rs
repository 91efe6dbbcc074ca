//! The register without a disk, for tests and for measuring what the disk costs. Deterministic: no thread, no clock.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lifecycle::Durable;
use tokio::sync::oneshot;

use super::Reply;
use super::backend::{Backend, Urgency};
use super::engine::{Engine, Ran};
use super::error::RegisterError;
use super::query::{BackupReport, BackupRequest, Metrics};
use super::rows::{Reads, Result, meta_key};

mod tables;

use tables::{MemoryRows, Tables};

/// A register in memory that behaves like one on a disk, and whose disk does what a test wants.
///
/// Each change commits by itself, unless commits are held; then changes share one transaction until
/// [`MemoryRegister::commit`], and their answers wait.
#[derive(Clone)]
pub struct MemoryRegister {
    shared: Arc<Mutex<Shared>>,
}

impl fmt::Debug for MemoryRegister {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemoryRegister(..)")
    }
}

struct Shared {
    engine: Engine<MemoryRows>,
    waiting: Vec<Release>,
    hold: bool,
    /// Commits tried so far.
    tried: u64,
    to_fail: Vec<u64>,
    commits: u64,
    failed_commits: u64,
}

type Release = Box<dyn FnOnce(Result<()>) + Send>;

impl MemoryRegister {
    /// An empty one.
    pub fn new(instance_id: &str) -> Self {
        let mut rows = MemoryRows::default();
        rows.tables.meta.insert(meta_key::INSTANCE_ID, instance_id.to_owned());
        let shared = Shared {
            engine: Engine::new(rows),
            waiting: Vec::new(),
            hold: false,
            tried: 0,
            to_fail: Vec::new(),
            commits: 0,
            failed_commits: 0,
        };
        Self { shared: Arc::new(Mutex::new(shared)) }
    }

    /// From now on changes pile up in one transaction, or each commits by itself again (what waits is committed then).
    pub fn hold_commits(&self, hold: bool) {
        let mut shared = self.lock();
        shared.hold = hold;
        if !hold {
            shared.commit();
        }
    }

    /// Commits what waits; gives how many answers that released.
    pub fn commit(&self) -> usize {
        self.lock().commit()
    }

    /// Fails the `nth` commit from now on; 1 is the next. Its changes are undone and its askers told.
    pub fn fail_commit(&self, nth: u64) {
        let mut shared = self.lock();
        let number = shared.tried.saturating_add(nth);
        shared.to_fail.push(number);
    }

    /// Loses power: whatever was not acknowledged is gone, its askers see `Closed`. What is left is what a restart finds.
    pub fn crash(&self) {
        let mut shared = self.lock();
        shared.undo();
        for release in std::mem::take(&mut shared.waiting) {
            release(Err(RegisterError::Closed));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn commit(&mut self) -> usize {
        let mut outcome = Ok(());
        if self.engine.wrote() {
            self.tried += 1;
            outcome = if self.to_fail.contains(&self.tried) {
                Err(RegisterError::CommitFailed { detail: "no space left (simulated)".to_owned() })
            } else {
                self.engine.before_commit()
            };
        }
        self.settle(&outcome)
    }

    fn settle(&mut self, outcome: &Result<()>) -> usize {
        if outcome.is_err() {
            self.failed_commits += 1;
            self.undo();
        } else {
            self.commits += u64::from(self.engine.wrote());
            self.engine.rows.keep();
            self.engine.settled(true);
        }
        let waiting = std::mem::take(&mut self.waiting);
        let released = waiting.len();
        for release in waiting {
            release(outcome.clone());
        }
        released
    }

    fn undo(&mut self) {
        let log = self.engine.rows.take_log();
        self.engine.rows.tables.turn_back(log);
        self.engine.settled(false);
    }

    /// Lets `read` see what is durable: what waits is taken back for that moment.
    fn read<T>(&mut self, read: impl FnOnce(&Tables) -> T) -> T {
        let log = self.engine.rows.take_log();
        let again = self.engine.rows.tables.turn_back(log);
        let seen = read(&self.engine.rows.tables);
        let log = self.engine.rows.tables.turn_back(again);
        self.engine.rows.put_log(log);
        seen
    }
}

impl Backend for MemoryRegister {
    type Rows = MemoryRows;

    fn write<U, T, F>(&self, _: Urgency, op: F, deliver: fn(U, Durable) -> T) -> Reply<T>
    where
        U: Send + 'static,
        T: Send + 'static,
        F: FnOnce(&mut Engine<MemoryRows>) -> Result<U> + Send + 'static,
    {
        let register = self.clone();
        Box::pin(async move {
            let (sender, receiver) = oneshot::channel();
            {
                let mut shared = register.lock();
                let Ran { result, held, spoiled } = shared.engine.run(op);
                if !held {
                    return result.map(|done| deliver(done, Durable::after_commit()));
                }
                let error = if spoiled { result.as_ref().err().cloned() } else { None };
                shared.waiting.push(Box::new(move |commit: Result<()>| {
                    let delivered = commit.and(result).map(|done| deliver(done, Durable::after_commit()));
                    drop(sender.send(delivered));
                }));
                if let Some(error) = error {
                    shared.settle(&Err(error));
                } else if !shared.hold {
                    shared.commit();
                }
            }
            receiver.await.map_err(|_| RegisterError::Closed)?
        })
    }

    fn read<T, F>(&self, op: F) -> Reply<T>
    where
        T: Send + 'static,
        F: FnOnce(&dyn Reads) -> Result<T> + Send + 'static,
    {
        let register = self.clone();
        Box::pin(async move { register.lock().read(|tables| op(tables)) })
    }

    fn copy(&self, _: BackupRequest) -> Reply<BackupReport> {
        Box::pin(async { Err(RegisterError::Unsupported("be copied: it is in memory")) })
    }

    fn count(&self) -> Metrics {
        let shared = self.lock();
        Metrics {
            commits: shared.commits,
            failed_commits: shared.failed_commits,
            steps: shared.engine.steps,
            written_steps: shared.engine.written_steps,
            checkpoints: 0,
            queued: 0,
        }
    }
}
