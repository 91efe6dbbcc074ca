//! Child processes: the same program under other subcommands. They die with this one, whatever kills it.
//!
//! The kernel sends a child its death signal when the *thread* that started it ends, so one thread that lives as long as the
//! process starts them all. What a child says goes through a pipe into a file: a limit on the size of the child's files must
//! not silence it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::{oneshot, watch};

use super::child::{OBEY_MODES, PARENT_PID};

type Order = (Command, oneshot::Sender<io::Result<Child>>);

/// Starts children, and knows them all.
#[derive(Debug)]
pub(crate) struct Nursery {
    starter: Starter,
    children: Mutex<Vec<Process>>,
}

#[derive(Clone, Debug)]
struct Starter {
    program: PathBuf,
    orders: mpsc::Sender<Order>,
}

impl Nursery {
    /// # Errors
    /// When this program cannot be found or no thread can be started.
    pub(crate) fn open() -> io::Result<Self> {
        let (orders, waiting) = mpsc::channel::<Order>();
        thread::Builder::new().name("children".to_owned()).spawn(move || {
            for (mut command, answer) in waiting {
                // Nobody waits for the answer only when everything ends.
                let _ = answer.send(command.spawn());
            }
        })?;
        let starter = Starter { program: std::env::current_exe()?, orders };
        Ok(Self { starter, children: Mutex::default() })
    }

    /// A process that does not run yet.
    pub(crate) fn process(&self, name: impl Into<String>, arguments: &[&str], log: PathBuf) -> Process {
        let process = Process(Arc::new(Inner {
            starter: self.starter.clone(),
            name: name.into(),
            arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
            log,
            running: Mutex::new(None),
        }));
        self.children.lock().unwrap_or_else(PoisonError::into_inner).push(process.clone());
        process
    }

    /// `kill -9` for all that still run; returns when none does.
    pub(crate) async fn kill_all(&self) {
        let children = self.children.lock().unwrap_or_else(PoisonError::into_inner).clone();
        children.iter().for_each(Process::strike);
        for child in &children {
            child.exited().await;
        }
    }
}

impl Starter {
    async fn spawn(&self, arguments: &[String]) -> io::Result<Child> {
        let mut command = Command::new(&self.program);
        command
            .args(arguments)
            .env(PARENT_PID, std::process::id().to_string())
            .env(OBEY_MODES, "1")
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C on the terminal is for the quickstart alone; it ends the others in good order.
            .process_group(0);
        let (sender, answer) = oneshot::channel();
        let gone = |_| io::Error::other("the thread that starts processes has ended");
        self.orders
            .send((command, sender))
            .map_err(|_| io::Error::other("the thread that starts processes has ended"))?;
        answer.await.map_err(gone)?
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// We ended it.
    Ours,
    /// It ended by itself.
    ItsOwn(ExitStatus),
}

/// One child, running or not. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Process(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    starter: Starter,
    name: String,
    arguments: Vec<String>,
    log: PathBuf,
    running: Mutex<Option<Running>>,
}

#[derive(Clone, Debug)]
struct Running {
    pid: Pid,
    is_ours: watch::Sender<bool>,
    exited: watch::Receiver<Option<Exit>>,
}

impl Process {
    pub(crate) fn name(&self) -> &str {
        &self.0.name
    }

    pub(crate) fn log(&self) -> &Path {
        &self.0.log
    }

    fn running(&self) -> Option<Running> {
        self.0.running.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Its id, while it runs.
    pub(crate) fn pid(&self) -> Option<Pid> {
        self.running().filter(|running| running.exited.borrow().is_none()).map(|running| running.pid)
    }

    /// Starts it. The answer is its id.
    ///
    /// # Errors
    /// When the program or its log cannot be opened.
    pub(crate) async fn start(&self) -> io::Result<u32> {
        let log = File::options().create(true).append(true).open(&self.0.log)?;
        let mut child = self.0.starter.spawn(&self.0.arguments).await?;
        let number = child.id();
        let pid = Pid::from_child(&child);
        let (is_ours, asked) = watch::channel(false);
        let (tell, exited) = watch::channel(None);
        for (index, pipe) in
            [child.stdout.take().map(Pipe::Out), child.stderr.take().map(Pipe::Err)].into_iter().flatten().enumerate()
        {
            let log = log.try_clone()?;
            thread::Builder::new().name(format!("log {index} of {}", self.0.name)).spawn(move || copy(pipe, log))?;
        }
        thread::Builder::new().name(format!("end of {}", self.0.name)).spawn(move || {
            let exit = match child.wait() {
                Ok(status) if !*asked.borrow() => Exit::ItsOwn(status),
                _ => Exit::Ours,
            };
            tell.send_replace(Some(exit));
        })?;
        *self.0.running.lock().unwrap_or_else(PoisonError::into_inner) = Some(Running { pid, is_ours, exited });
        Ok(number)
    }

    /// Starts it and waits until it has ended by itself.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) async fn run(&self) -> io::Result<Exit> {
        self.start().await?;
        Ok(self.exited().await)
    }

    /// Returns once it has ended.
    pub(crate) async fn exited(&self) -> Exit {
        let Some(mut running) = self.running() else { return Exit::Ours };
        match running.exited.wait_for(Option::is_some).await {
            Ok(exit) => exit.unwrap_or(Exit::Ours),
            Err(_) => Exit::Ours,
        }
    }

    /// `kill -9`, without waiting for anything.
    pub(crate) fn strike(&self) {
        self.signal(Signal::KILL);
    }

    /// `kill -9`; returns once it has ended.
    pub(crate) async fn kill(&self) {
        self.strike();
        self.exited().await;
    }

    /// Asks it to end, and ends it after `patience`. Says whether it ended in time.
    pub(crate) async fn end(&self, patience: Duration) -> bool {
        self.signal(Signal::TERM);
        let is_in_time = tokio::time::timeout(patience, self.exited()).await.is_ok();
        if !is_in_time {
            self.kill().await;
        }
        is_in_time
    }

    fn signal(&self, signal: Signal) {
        let Some(running) = self.running() else { return };
        running.is_ours.send_replace(true);
        if running.exited.borrow().is_none() {
            // It may have ended in between; whoever waits for it learns that.
            let _ = kill_process(running.pid, signal);
        }
    }
}

#[derive(Debug)]
enum Pipe {
    Out(std::process::ChildStdout),
    Err(std::process::ChildStderr),
}

fn copy(pipe: Pipe, mut log: File) {
    let mut pipe: Box<dyn Read> = match pipe {
        Pipe::Out(pipe) => Box::new(pipe),
        Pipe::Err(pipe) => Box::new(pipe),
    };
    let mut buffer = [0; 8192];
    while let Ok(length @ 1..) = pipe.read(&mut buffer) {
        // A log that cannot be written must not stop the process that writes it.
        let _ = log.write_all(buffer.get(..length).unwrap_or_default());
    }
}

/// The last lines of a log, for a message.
pub(crate) fn last_lines(log: &Path, count: usize) -> String {
    let bytes = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(count)..).unwrap_or_default().join("\n")
}
