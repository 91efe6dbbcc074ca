//! The program, its commands, and what they leave.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Result, anyhow, bail};
use serde_json::Value;

use crate::PATIENCE;
use crate::process::{Direct, Process, Starter};

/// The program `exuvia`, and in which surroundings it is started.
#[derive(Clone, Debug)]
pub struct Exuvia {
    path: PathBuf,
    prefix: Vec<OsString>,
    environment: BTreeMap<OsString, OsString>,
}

impl Exuvia {
    /// The program at this path.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let path: PathBuf = path.into();
        let path = std::path::absolute(&path).unwrap_or(path);
        Self { path, prefix: Vec::new(), environment: BTreeMap::new() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Started by another program that ends by executing it: `ip netns exec NAME`, `setpriv --reuid=65534 ...`.
    ///
    /// Without a prefix the kernel kills each process when this one ends; with one, whoever stands in the prefix must see to it.
    #[must_use]
    pub fn through<T: AsRef<OsStr>>(mut self, prefix: impl IntoIterator<Item = T>) -> Self {
        self.prefix = prefix.into_iter().map(|part| part.as_ref().to_owned()).collect();
        self
    }

    /// With this in its environment, which is empty otherwise.
    #[must_use]
    pub fn with_env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.insert(name.into(), value.into());
        self
    }

    /// Subject to the permissions of files, also when it runs as root. Without a prefix only.
    #[must_use]
    pub fn obeying_modes(self) -> Self {
        self.with_env("EXUVIA_OBEY_MODES", "1")
    }

    /// A command with its home and working folder there, which logs in JSON.
    pub fn command<T: AsRef<OsStr>>(&self, home: &Path, args: impl IntoIterator<Item = T>) -> Command {
        let mut command = match self.prefix.split_first() {
            None => Command::new(&self.path),
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(&self.path);
                command
            }
        };
        command.args(args).env_clear().env("HOME", home).env("EXUVIA_LOG_FORMAT", "json");
        if self.prefix.is_empty() {
            command.env("EXUVIA_PARENT_PID", std::process::id().to_string());
        } else if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        command.envs(&self.environment).current_dir(home).stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    ///
    /// # Errors
    /// When it cannot be started, or does not end.
    pub fn run<T: AsRef<OsStr>>(&self, home: &Path, args: impl IntoIterator<Item = T>) -> Result<Ran> {
        Ran::of(&Direct, self.command(home, args))
    }
}

/// What a finished process left.
#[derive(Clone, Debug)]
pub struct Ran {
    /// Its exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// What it wrote.
    pub stdout: String,
    /// What it said.
    pub stderr: String,
}

impl Ran {
    /// Runs it to its end.
    ///
    /// # Errors
    /// When it cannot be started, or does not end.
    pub fn of(starter: &dyn Starter, command: Command) -> Result<Self> {
        let (status, stdout, log) = Process::start(starter, command)?.finish(PATIENCE)?;
        Ok(Self { code: status.code(), stdout, stderr: log.text() })
    }

    /// Did everything that was asked for.
    ///
    /// # Errors
    /// When it did not; with all that it said.
    pub fn ok(self) -> Result<Self> {
        if self.code != Some(0) {
            bail!("ended with {:?}: {}{}", self.code, self.stdout, self.stderr);
        }
        Ok(self)
    }

    /// What it wrote, as JSON.
    ///
    /// # Errors
    /// When it is not.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.stdout).map_err(|error| anyhow!("{error}: {self:?}"))
    }

    /// What looks like a panic, if anything does.
    pub fn panic(&self) -> Option<&str> {
        let signs = ["panicked", "internal error", "RUST_BACKTRACE", "stack overflow"];
        self.stderr.lines().find(|line| signs.iter().any(|sign| line.contains(sign)))
    }
}

/// A port of this machine on which nobody listens, below those that the kernel gives to outgoing connections, so that it is
/// still free when a controller comes back to it.
///
/// # Errors
/// When there is none.
pub fn free_port() -> Result<u16> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    const FIRST: u32 = 10_000;
    const COUNT: u32 = 20_000;
    // Processes that look for ports at the same time begin at different places.
    let begin = std::process::id().wrapping_mul(7_919);
    for _ in 0..COUNT {
        let offset = begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let Ok(port) = u16::try_from(FIRST + offset) else { continue };
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no port is free")
}
