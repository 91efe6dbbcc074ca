//! Our own tracer: counts the file-system calls of a process and all its threads that touch given folders, and does harm at
//! one of them.
//!
//! It needs no privilege: the process is its own child. Calls are found by what they name, a path or an open file, so that what
//! the loader and the C library read does not count. What it can do is in [`Fault`]; [`Tracer`] is a [`rig::Starter`], so
//! everything that `rig` starts can be traced.
//!
//! Only x86-64 is known here; elsewhere [`probe`] says so and nothing can be started.

mod calls;
mod following;

use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

pub use nix::errno::Errno;
use nix::unistd::Pid;
use rig::{Started, Starter};

pub use calls::{Call, Kind};

/// What is done to a traced process. Calls are counted from 1.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: calls are only written down.
    #[default]
    Nothing,
    /// The whole process is killed before the kernel executes this call.
    KillBefore(usize),
    /// The whole process is killed when the kernel has executed this call, before the process learns of it.
    KillAfter(usize),
    /// This call is answered with an errno and not executed (a `close` is executed, as the kernel does it).
    Fail {
        /// Which call.
        at: usize,
        /// With what.
        errno: Errno,
    },
    /// The same for this call and, until [`Tracer::disarm`], for every later one that may answer so: a disk that stays full, or broken.
    FailFrom {
        /// From which call on.
        at: usize,
        /// With what.
        errno: Errno,
    },
    /// This call is executed, and answered with an errno all the same: a lost reply.
    FailAfter {
        /// Which call.
        at: usize,
        /// With what.
        errno: Errno,
    },
    /// This call reads or writes half of what it was asked for.
    Short(usize),
    /// A mutant: no sync is executed, all are answered with success.
    WithoutSyncs,
    /// A mutant: folders are not synced, and success is answered.
    WithoutFolderSyncs,
    /// A mutant: no rename is executed, all are answered with success.
    WithoutRenames,
    /// A mutant: no write to a file is executed, all are answered with success.
    WithoutWrites,
    /// A mutant: whatever cannot be read is taken for absent. This call is answered with `ENOENT`.
    AbsentInsteadOf(usize),
}

/// Which calls are counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Counted {
    /// Each that touches one of the folders.
    #[default]
    All,
    /// Only those that change something, or sync it.
    Changes,
}

/// Traces one process. Clones are the same tracer.
#[derive(Clone, Debug)]
pub struct Tracer(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    folders: Vec<PathBuf>,
    counted: Counted,
    is_armed: AtomicBool,
    seen: Mutex<Seen>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Seen {
    fault: Fault,
    calls: Vec<Call>,
    fired: usize,
    first: Option<Call>,
}

impl Tracer {
    /// Counts from the start of the program.
    pub fn new(folders: impl IntoIterator<Item = PathBuf>, fault: Fault) -> Self {
        Self::with(folders, fault, Counted::All)
    }

    /// Counts these calls only, from the start of the program.
    pub fn with(folders: impl IntoIterator<Item = PathBuf>, fault: Fault, counted: Counted) -> Self {
        // The kernel names files by their real paths.
        let real = |folder: PathBuf| folder.canonicalize().unwrap_or(folder);
        Self(Arc::new(Shared {
            folders: folders.into_iter().map(real).collect(),
            counted,
            is_armed: AtomicBool::new(true),
            seen: Mutex::new(Seen { fault, ..Seen::default() }),
            changed: Condvar::new(),
        }))
    }

    /// The same, but nothing counts before [`Tracer::arm`].
    #[must_use]
    pub fn disarmed(self) -> Self {
        self.disarm();
        self
    }

    /// Counts from now on.
    pub fn arm(&self) {
        self.0.is_armed.store(true, Ordering::SeqCst);
    }

    /// Counts from now on, beginning with 1, for another fault; what was counted before is forgotten.
    pub fn arm_anew(&self, fault: Fault) {
        *self.lock() = Seen { fault, ..Seen::default() };
        self.arm();
    }

    /// Counts no more, does no more harm.
    pub fn disarm(&self) {
        self.0.is_armed.store(false, Ordering::SeqCst);
    }

    /// The calls that were counted, in the order in which they began.
    pub fn calls(&self) -> Vec<Call> {
        self.lock().calls.clone()
    }

    /// How often harm was done.
    pub fn fired(&self) -> usize {
        self.lock().fired
    }

    /// The first call that was harmed.
    pub fn harmed(&self) -> Option<Call> {
        self.lock().first.clone()
    }

    /// Waits until harm was done; `false` if it was not in this time.
    pub fn until_fired(&self, patience: Duration) -> bool {
        let seen = self.lock();
        let waited = self.0.changed.wait_timeout_while(seen, patience, |seen| seen.fired == 0);
        waited.unwrap_or_else(PoisonError::into_inner).0.fired > 0
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.0.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Starter for Tracer {
    fn start(&self, command: Command) -> io::Result<Started> {
        let mut child = rig::spawn(held_back(&command))?;
        let (Some(mut gate), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(io::Error::other("no pipes"));
        };
        let pid = Pid::from_raw(i32::try_from(child.id()).map_err(io::Error::other)?);
        let (status, ended) = mpsc::channel::<ExitStatus>();
        let (answer, seized) = mpsc::channel();
        let shared = self.0.clone();
        thread::Builder::new().name(format!("traces {pid}")).spawn(move || {
            let raw = match following::seize(pid) {
                Ok(()) => {
                    let _ = answer.send(Ok(()));
                    following::follow(pid, &shared)
                }
                Err(errno) => {
                    let _ = answer.send(Err(errno));
                    return;
                }
            };
            let _ = status.send(ExitStatus::from_raw(raw));
        })?;
        let refused = match seized.recv() {
            Ok(Ok(())) => None,
            Ok(Err(errno)) => Some(io::Error::from(errno)),
            Err(error) => Some(io::Error::other(error)),
        };
        if let Some(error) = refused {
            let _ = child.kill();
            let _ = child.wait();
            return Err(error);
        }
        io::Write::write_all(&mut gate, b"\n")?;
        Ok(Started { pid, stdout, stderr, ended })
    }
}

/// The command behind a shell that waits for a line and then becomes it, so that it can be seized before its first call.
fn held_back(command: &Command) -> Command {
    let mut held = Command::new("/bin/sh");
    held.args(["-c", "read _ && exec \"$0\" \"$@\" </dev/null"]).arg(command.get_program()).args(command.get_args());
    held.env_clear();
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            held.env(name, value);
        }
    }
    if let Some(folder) = command.get_current_dir() {
        held.current_dir(folder);
    }
    held.stdin(Stdio::piped());
    held
}

/// What this machine lacks for tracing, in a sentence.
pub fn probe() -> Option<String> {
    if !cfg!(target_arch = "x86_64") {
        return Some("the tracer knows the registers of x86-64 only".to_owned());
    }
    let tracer = Tracer::new([PathBuf::from("/")], Fault::Nothing);
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "exit 7"]).env_clear();
    match rig::Process::start(&tracer, command).and_then(|process| process.finish(Duration::from_secs(20))) {
        Ok((status, _, _)) if status.code() == Some(7) && !tracer.calls().is_empty() => None,
        Ok((status, _, log)) => Some(format!("a traced process ends with {status}: {}", log.text())),
        Err(error) => Some(format!("processes cannot be traced here: {error:#}")),
    }
}
