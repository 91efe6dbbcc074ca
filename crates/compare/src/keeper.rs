//! Keeps a router running, as a service manager does: whatever ends is started again.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result};
use diskfault::trace::Tracer;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use rig::{Direct, Process};

use crate::clock;
use crate::site::Site;
use crate::subject::Subject;

/// From the end of a process to its next start.
const PAUSE: Duration = Duration::from_secs(1);
/// How often it is looked whether it still runs.
const LOOK: Duration = Duration::from_millis(100);

/// The service manager of one router.
pub(crate) struct Keeper {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    /// Ends for good.
    is_over: AtomicBool,
    /// Ahead of the machine's wall clock; `i64::MIN` while its clock is the machine's.
    ahead_s: AtomicI64,
    starts: AtomicU32,
}

struct State {
    process: Option<Process>,
    /// Is it started again when it ends?
    is_wanted: bool,
    flags: Vec<&'static str>,
    /// What the processes before said, the end of it.
    said: Vec<String>,
    ends: Vec<String>,
}

const OWN_CLOCK: i64 = i64::MIN;

impl Keeper {
    /// Starts the router, the first time by this tracer, and keeps it running.
    ///
    /// # Errors
    /// When it does not even start once.
    pub(crate) fn start(
        site: &Arc<Site>,
        subject: &Arc<Subject>,
        flags: Vec<&'static str>,
        tracer: Option<Tracer>,
        ahead_s: Option<i64>,
    ) -> Result<Self> {
        let state = State { process: None, is_wanted: true, flags, said: Vec::new(), ends: Vec::new() };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            changed: Condvar::new(),
            is_over: AtomicBool::new(false),
            ahead_s: AtomicI64::new(ahead_s.unwrap_or(OWN_CLOCK)),
            starts: AtomicU32::new(0),
        });
        launch(&shared, site, subject, tracer.as_ref())?;
        let (for_thread, site, subject) = (shared.clone(), site.clone(), subject.clone());
        let thread = thread::Builder::new()
            .name("keeps a router".to_owned())
            .spawn(move || keep(&for_thread, &site, &subject))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state()
    }

    /// Its process, if it runs.
    pub(crate) fn pid(&self) -> Option<Pid> {
        self.state().process.as_ref().filter(|process| process.status().is_none()).map(Process::pid)
    }

    /// How often it was started.
    pub(crate) fn starts(&self) -> u32 {
        self.shared.starts.load(Ordering::Relaxed)
    }

    /// kill -9; it is started again.
    pub(crate) fn kill(&self) {
        self.signal(Signal::SIGKILL);
    }

    /// Sends a signal to its process.
    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(process) = self.state().process.as_ref() {
            process.signal(signal);
        }
    }

    /// kill -9, and it stays dead until [`Keeper::go_on`].
    pub(crate) fn hold(&self) {
        let mut state = self.state();
        state.is_wanted = false;
        if let Some(process) = state.process.take() {
            process.kill();
            state.remember(&process);
        }
    }

    /// After [`Keeper::hold`]: it runs again, with these flags from now on.
    pub(crate) fn go_on(&self, flags: Option<Vec<&'static str>>) {
        let mut state = self.state();
        if let Some(flags) = flags {
            state.flags = flags;
        }
        state.is_wanted = true;
        self.shared.changed.notify_all();
    }

    /// Its wall clock is so many seconds ahead of the machine's, now and after every start.
    ///
    /// # Errors
    /// When the clock of a running process cannot be moved.
    pub(crate) fn be_ahead(&self, site: &Site, subject: &Subject, seconds: i64) -> Result<()> {
        self.shared.ahead_s.store(seconds, Ordering::Relaxed);
        match self.pid() {
            Some(pid) => clock::set(pid, subject.program(site), seconds),
            None => Ok(()),
        }
    }

    /// The last lines that it has said, over all its lives.
    pub(crate) fn tail(&self, lines: usize) -> String {
        let state = self.state();
        let mut all = state.said.clone();
        if let Some(process) = &state.process {
            all.extend(process.log().text().lines().map(str::to_owned));
        }
        all.split_off(all.len().saturating_sub(lines)).join("\n")
    }

    /// How its lives have ended.
    pub(crate) fn ends(&self) -> Vec<String> {
        self.state().ends.clone()
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        self.hold();
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }
}

impl State {
    fn remember(&mut self, process: &Process) {
        let text = process.log().text();
        let lines: Vec<&str> = text.lines().collect();
        let last = lines.get(lines.len().saturating_sub(30)..).unwrap_or_default();
        self.said.extend(last.iter().map(|line| (*line).to_owned()));
        if let Some(status) = process.status() {
            self.ends.push(status.to_string());
        }
    }
}

fn launch(shared: &Shared, site: &Site, subject: &Subject, tracer: Option<&Tracer>) -> Result<()> {
    let flags = shared.state().flags.clone();
    let command = subject.command(site, &flags)?;
    let process = match tracer {
        Some(tracer) => Process::start(tracer, command)?,
        None => Process::start(&Direct, command)?,
    };
    shared.starts.fetch_add(1, Ordering::Relaxed);
    subject.way.set_process(u32::try_from(process.pid().as_raw()).unwrap_or(0));
    let ahead = shared.ahead_s.load(Ordering::Relaxed);
    if ahead != OWN_CLOCK {
        clock::set(process.pid(), subject.program(site), ahead).context("move the router's clock")?;
    }
    shared.state().process = Some(process);
    Ok(())
}

fn keep(shared: &Shared, site: &Site, subject: &Subject) {
    while !shared.is_over() {
        let ended = {
            let mut state = shared.state();
            let has_ended = state.process.as_ref().is_some_and(|process| process.status().is_some());
            if has_ended && let Some(process) = state.process.take() {
                state.remember(&process);
            }
            // Started at the very moment at which it was to stay dead.
            if !state.is_wanted
                && let Some(process) = state.process.take()
            {
                process.kill();
                state.remember(&process);
            }
            state.is_wanted && state.process.is_none()
        };
        if ended {
            let state = shared.state();
            let waited = shared.changed.wait_timeout_while(state, PAUSE, |_| !shared.is_over());
            drop(waited);
            let is_wanted = shared.state().is_wanted;
            if !shared.is_over() && is_wanted && launch(shared, site, subject, None).is_err() {
                // Tried again as any failed start is.
                continue;
            }
        }
        let state = shared.state();
        let _ = shared.changed.wait_timeout(state, LOOK);
    }
}
