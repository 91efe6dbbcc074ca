//! The register in one SQLite file: WAL, `synchronous=FULL`, one writer thread, read-only connections beside it.

mod code;
mod copy;
mod file;
mod migrate;
mod queue;
mod reads;
mod writer;
mod writes;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use lifecycle::{Durable, UnixTime};
use tokio::sync::oneshot;

use super::Reply;
use super::backend::{Backend, Urgency};
use super::engine::{Engine, Ran};
use super::error::RegisterError;
use super::query::{BackupReport, BackupRequest, Metrics};
use super::rows::{Reads, Result};
use file::Lock;
use queue::{Queue, Served};
use reads::SqliteReads;
use writer::{Done, Job, Numbers, Writer};
use writes::SqliteRows;

pub use copy::{RestoreReport, RestoredRouter, backup, restore};

/// How the writer works. The defaults suit a controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// While several routers write at once, commits are at least this far apart. A lone asker never waits for it.
    pub spacing: Duration,
    /// Most requests served in one transaction.
    pub batch: usize,
    /// Most requests that wait; more of them wait before they are queued.
    pub queue: usize,
    /// The write-ahead log is moved into the file after this many changes.
    pub checkpoint: usize,
    /// Threads that read.
    pub readers: usize,
}

impl Default for Tuning {
    fn default() -> Self {
        Self { spacing: Duration::from_millis(10), batch: 1024, queue: 4096, checkpoint: 2048, readers: 2 }
    }
}

/// The register in an SQLite file. Dropping it serves what is queued, then closes the file.
#[derive(Debug)]
pub struct SqliteRegister {
    path: PathBuf,
    writes: Arc<Queue<Job>>,
    reads: Arc<Queue<Query>>,
    numbers: Arc<Numbers>,
    threads: Vec<JoinHandle<()>>,
    /// Dropped last: after the threads have ended.
    _lock: Lock,
}

struct Query(Box<dyn FnOnce(&SqliteReads) + Send>);

impl std::fmt::Debug for Query {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Query(..)")
    }
}

impl SqliteRegister {
    /// Makes a new register, mode 0600, and opens it. `instance_id` is a fresh random text.
    ///
    /// # Errors
    /// `Exists`, `InUse`, `Damaged` (a write-ahead log without its register), `File`.
    pub fn create(path: &Path, instance_id: &str, at: UnixTime) -> Result<Self> {
        let lock = Lock::take(path)?;
        file::create(path, instance_id, at)?;
        Self::start(path, at, Tuning::default(), lock)
    }

    /// Opens an existing register, and brings its schema up to date.
    ///
    /// # Errors
    /// `Absent`, `InUse`, `Foreign`, `Newer`, `SchemaDiffers`, `Damaged`, `File`. Nothing is changed then.
    pub fn open(path: &Path, at: UnixTime) -> Result<Self> {
        Self::open_with(path, at, Tuning::default())
    }

    /// [`SqliteRegister::open`] with other numbers.
    ///
    /// # Errors
    /// As [`SqliteRegister::open`].
    pub fn open_with(path: &Path, at: UnixTime, tuning: Tuning) -> Result<Self> {
        if !file::exists(path)? {
            file::no_orphaned_log(path)?;
            return Err(RegisterError::Absent { path: path.to_path_buf() });
        }
        let lock = Lock::take(path)?;
        Self::start(path, at, tuning, lock)
    }

    fn start(path: &Path, at: UnixTime, tuning: Tuning, lock: Lock) -> Result<Self> {
        file::check_header(path)?;
        file::keep_private(path)?;
        let rows = SqliteRows::new(SqliteReads { connection: file::open_writer(path, at)? });
        let writes = Arc::new(Queue::new(tuning.queue));
        let reads = Arc::new(Queue::new(tuning.queue));
        let numbers = Arc::new(Numbers::default());
        let writer = Writer::new(rows, Arc::clone(&writes), Arc::clone(&numbers), tuning);
        let served = Arc::new(Served(Arc::clone(&reads)));
        let mut register = Self { path: path.to_path_buf(), writes, reads, numbers, threads: Vec::new(), _lock: lock };
        for _ in 0..tuning.readers.max(1) {
            let (connection, served) = (file::open_reader(path)?, Arc::clone(&served));
            register.spawn("register-reader", move || {
                while let Some(Query(query)) = served.0.pop() {
                    query(&connection);
                }
            })?;
        }
        // The last of the threads: see `drop`.
        register.spawn("register-writer", move || writer.run())?;
        Ok(register)
    }

    fn spawn(&mut self, name: &str, body: impl FnOnce() + Send + 'static) -> Result<()> {
        let failed = |error: std::io::Error| RegisterError::file("start a thread for", &self.path, &error);
        let handle = thread::Builder::new().name(name.to_owned()).spawn(body).map_err(failed)?;
        self.threads.push(handle);
        Ok(())
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn ask<T, F>(&self, query: F) -> Reply<T>
    where
        T: Send + 'static,
        F: FnOnce(&SqliteReads) -> Result<T> + Send + 'static,
    {
        let queue = Arc::clone(&self.reads);
        Box::pin(async move {
            let (sender, receiver) = oneshot::channel();
            let query = Query(Box::new(move |reads| drop(sender.send(query(reads)))));
            queue.push(query).await?;
            receiver.await.map_err(|_| RegisterError::Closed)?
        })
    }
}

impl Drop for SqliteRegister {
    fn drop(&mut self) {
        // The writer's connection is the last to close: only that one can empty the write-ahead log.
        self.reads.close();
        let writer = self.threads.len().saturating_sub(1);
        for (number, thread) in self.threads.drain(..).enumerate() {
            if number == writer {
                self.writes.close();
            }
            if thread.join().is_err() {
                tracing::error!(path = %self.path.display(), "a thread of the register had panicked");
            }
        }
    }
}

impl Backend for SqliteRegister {
    type Rows = SqliteRows;

    fn write<U, T, F>(&self, urgency: Urgency, op: F, deliver: fn(U, Durable) -> T) -> Reply<T>
    where
        U: Send + 'static,
        T: Send + 'static,
        F: FnOnce(&mut Engine<SqliteRows>) -> Result<U> + Send + 'static,
    {
        let queue = Arc::clone(&self.writes);
        Box::pin(async move {
            let (sender, receiver) = oneshot::channel();
            let work = move |engine: &mut Engine<SqliteRows>| {
                let Ran { result, held, spoiled } = engine.run(op);
                let spoiled = if spoiled { result.as_ref().err().cloned() } else { None };
                // The asker may be gone.
                let release = move |commit: Result<()>| {
                    let delivered = commit.and(result).map(|done| deliver(done, Durable::after_commit()));
                    drop(sender.send(delivered));
                };
                Done { held, spoiled, release: Box::new(release) }
            };
            queue.push(Job { urgency, work: Box::new(work) }).await?;
            receiver.await.map_err(|_| RegisterError::Closed)?
        })
    }

    fn read<T, F>(&self, op: F) -> Reply<T>
    where
        T: Send + 'static,
        F: FnOnce(&dyn Reads) -> Result<T> + Send + 'static,
    {
        self.ask(move |reads| op(reads))
    }

    fn copy(&self, request: BackupRequest) -> Reply<BackupReport> {
        self.ask(move |reads| copy::backup_from(&reads.connection, &request))
    }

    fn count(&self) -> Metrics {
        let numbers = &self.numbers;
        Metrics {
            commits: numbers.commits.load(Ordering::Relaxed),
            failed_commits: numbers.failed_commits.load(Ordering::Relaxed),
            steps: numbers.steps.load(Ordering::Relaxed),
            written_steps: numbers.written_steps.load(Ordering::Relaxed),
            checkpoints: numbers.checkpoints.load(Ordering::Relaxed),
            queued: u64::try_from(self.writes.waiting()).unwrap_or(u64::MAX),
        }
    }
}
