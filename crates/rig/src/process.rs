//! One process, from its start to its end, whoever starts it.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::log::{Line, Log};

/// Who starts a process, and waits for its end: [`Direct`], or a tracer.
pub trait Starter: Sync {
    /// Starts it with both outputs piped.
    ///
    /// # Errors
    /// When it cannot be started.
    fn start(&self, command: Command) -> io::Result<Started>;
}

/// A process that runs now.
#[derive(Debug)]
pub struct Started {
    /// Its id.
    pub pid: Pid,
    /// What it writes.
    pub stdout: ChildStdout,
    /// What it says.
    pub stderr: ChildStderr,
    /// Gets the status once, when the process has ended and has been waited for.
    pub ended: mpsc::Receiver<ExitStatus>,
}

/// Starts a process as it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Direct;

impl Starter for Direct {
    fn start(&self, command: Command) -> io::Result<Started> {
        let mut child = spawn(command)?;
        let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(io::Error::other("no pipes"));
        };
        let pid = pid_of(&child);
        let (sender, ended) = mpsc::channel();
        thread::Builder::new().name(format!("wait for {pid}")).spawn(move || {
            // Waiting fails only for a process that is nobody's child.
            let _ = sender.send(child.wait().unwrap_or_else(|_| ExitStatus::from_raw(0xff00)));
        })?;
        Ok(Started { pid, stdout, stderr, ended })
    }
}

/// The id of a child.
pub(crate) fn pid_of(child: &Child) -> Pid {
    // Process ids fit: the kernel's limit is 4 194 304.
    Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX))
}

type Order = (Command, mpsc::Sender<io::Result<Child>>);

/// Starts a child with both outputs piped, from one thread that lives as long as this process: the kernel sends a child its
/// death signal when the *thread* that started it ends.
///
/// # Errors
/// As [`Command::spawn`].
pub fn spawn(mut command: Command) -> io::Result<Child> {
    static STARTER: OnceLock<Mutex<mpsc::Sender<Order>>> = OnceLock::new();
    let starter = STARTER.get_or_init(|| {
        let (orders, waiting) = mpsc::channel::<Order>();
        // Without the thread every order fails below.
        let _ = thread::Builder::new().name("starts processes".to_owned()).spawn(move || {
            for (mut command, answer) in waiting {
                let _ = answer.send(command.spawn());
            }
        });
        Mutex::new(orders)
    });
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let (sender, answer) = mpsc::channel();
    let gone = || io::Error::other("the thread that starts processes has ended");
    let orders = starter.lock().unwrap_or_else(PoisonError::into_inner).clone();
    orders.send((command, sender)).map_err(|_| gone())?;
    answer.recv().map_err(|_| gone())?
}

/// A process that was started. It is killed when this is dropped.
#[derive(Debug)]
pub struct Process {
    pid: Pid,
    log: Log,
    end: Arc<End>,
    stdout: Option<JoinHandle<String>>,
    readers: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct End {
    status: Mutex<Option<ExitStatus>>,
    came: Condvar,
}

impl Process {
    /// Starts it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(starter: &dyn Starter, command: Command) -> Result<Self> {
        Self::start_copying(starter, command, None)
    }

    /// Starts it; what it says goes into this file, too, and is there for people when the test has ended.
    ///
    /// # Errors
    /// When it cannot be started, or the file cannot be made.
    pub fn start_copying(starter: &dyn Starter, command: Command, copy: Option<&Path>) -> Result<Self> {
        let copy = copy.map(|path| File::create(path).with_context(|| format!("cannot make `{}`", path.display())));
        let mut copy = copy.transpose()?;
        let shown = format!("{:?}", command.get_program());
        let started = starter.start(command).with_context(|| format!("cannot start {shown}"))?;
        let Started { pid, mut stdout, stderr, ended } = started;
        let log = Log::default();
        let end = Arc::new(End::default());
        let into = log.clone();
        let stderr = thread::spawn(move || {
            for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
                if let Some(copy) = &mut copy {
                    // The test goes on without it.
                    let _ = copy.write_all(&line).and_then(|()| copy.write_all(b"\n"));
                }
                into.push(Line::new(String::from_utf8_lossy(&line).into_owned()));
            }
            into.close();
        });
        let stdout = thread::spawn(move || {
            let mut bytes = Vec::new();
            // What came before an error is shown.
            let _ = stdout.read_to_end(&mut bytes);
            String::from_utf8_lossy(&bytes).into_owned()
        });
        let into = end.clone();
        let waiter = thread::spawn(move || {
            let status = ended.recv().unwrap_or_else(|_| ExitStatus::from_raw(0xff00));
            *into.status.lock().unwrap_or_else(PoisonError::into_inner) = Some(status);
            into.came.notify_all();
        });
        Ok(Self { pid, log, end, stdout: Some(stdout), readers: vec![stderr, waiter] })
    }

    /// Its id.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// What it says.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// How it ended, if it has.
    pub fn status(&self) -> Option<ExitStatus> {
        *self.end.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a signal, unless it has ended.
    pub fn signal(&self, signal: Signal) {
        let status = self.end.status.lock().unwrap_or_else(PoisonError::into_inner);
        if status.is_none() {
            // It may end at this very moment.
            let _ = kill(self.pid, signal);
        }
    }

    /// Waits until it has ended.
    pub fn wait(&self, patience: Duration) -> Option<ExitStatus> {
        let status = self.end.status.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = self.end.came.wait_timeout_while(status, patience, |status| status.is_none());
        *ended.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Waits until it has ended; gives what it wrote on standard output, too.
    ///
    /// # Errors
    /// When it does not end.
    pub fn finish(mut self, patience: Duration) -> Result<(ExitStatus, String, Log)> {
        let Some(status) = self.wait(patience) else {
            bail!("process {} does not end:\n{}", self.pid, self.log.text());
        };
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
        let stdout = self.stdout.take().and_then(|reader| reader.join().ok()).unwrap_or_default();
        Ok((status, stdout, self.log.clone()))
    }

    /// kill -9, and waits for the end.
    pub fn kill(&self) -> Option<ExitStatus> {
        self.signal(Signal::SIGKILL);
        self.wait(crate::PATIENCE)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}
