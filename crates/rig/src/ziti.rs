//! Real OpenZiti peers: controllers, routers and the command line of a program `ziti` that was built elsewhere.
//!
//! `ZITI_BIN` names the program, or several of them as `PATH` does. Nothing of OpenZiti is in this repository; without the variable there
//! is nothing to run. Everything runs on the loopback in a folder of the test's own, with keys that the test made ([`ZitiNetwork`] lays
//! them out as `exuvia controller init` does, so the proxy of `netfault` can stand in a node's place). Every process is ended by the kernel
//! when the test ends, however it ends.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! let home = tempfile::tempdir()?;
//! for ziti in rig::Ziti::from_environment()? {
//!     let network = rig::ZitiNetwork::start(&ziti, home.path(), rig::ZitiSettings::default())?;
//!     let jwt = network.cli().create_edge_router("edge-7")?;
//!     let router = rig::ZitiRouter::edge(&ziti, &home.path().join("edge-7"), "edge-7", network.ctrl_port())?;
//!     router.enroll(&jwt)?.ok()?;
//!     let running = router.start(&[])?;
//!     network.cli().until_online("edge-7", true)?;
//!     running.kill();
//! }
//! # Ok(())
//! # }
//! ```

mod cli;
mod keys;
mod network;
mod node;
mod router;

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

pub use cli::ZitiCli;
pub use network::{ZitiNetwork, ZitiSettings};
pub use node::ZitiNode;
pub use router::{ZitiRouter, ZitiRouterKind};

use crate::program::Ran;

/// Names the programs, separated as in `PATH`.
pub const ZITI_BIN: &str = "ZITI_BIN";

/// One program `ziti`.
#[derive(Clone, Debug)]
pub struct Ziti {
    path: PathBuf,
    label: String,
    version: String,
}

impl Ziti {
    /// The programs that `ZITI_BIN` names; none where it is not set.
    ///
    /// # Errors
    /// When one of them does not run.
    pub fn from_environment() -> Result<Vec<Self>> {
        let Some(named) = std::env::var_os(ZITI_BIN) else { return Ok(Vec::new()) };
        std::env::split_paths(&named).filter(|path| !path.as_os_str().is_empty()).map(Self::at).collect()
    }

    /// The program at this path.
    ///
    /// # Errors
    /// When it does not run.
    pub fn at(path: impl Into<PathBuf>) -> Result<Self> {
        let path = std::path::absolute(path.into())?;
        let output = Command::new(&path).arg("--version").stdin(Stdio::null()).output();
        let output = output.with_context(|| format!("cannot run `{}`", path.display()))?;
        let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if !output.status.success() || version.is_empty() {
            bail!("`{} --version` ended with {}", path.display(), output.status);
        }
        // A program that was built without a version says `v0.0.0`; whoever built it can say it in the name of the file.
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let label = match name.strip_prefix("ziti-") {
            Some(told) if !told.is_empty() => told.to_owned(),
            _ => version.trim_start_matches('v').to_owned(),
        };
        Ok(Self { path, label, version })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The version for people, as in `2.1`: what follows `ziti-` in the name of the file, or else what it says of itself.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// What it says of itself, as in `v2.1.0`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Major and minor number of [`Ziti::label`]; `None` where it has none.
    pub fn release(&self) -> Option<(u32, u32)> {
        let mut numbers = self.label.trim_start_matches('v').split(['.', '-']).map(str::parse::<u32>);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
    }

    /// A command with its home, its settings, its sockets and its working folder in this folder. The kernel kills it when this process ends.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn command<T: AsRef<OsStr>>(&self, home: &Path, args: impl IntoIterator<Item = T>) -> Result<Command> {
        // Sockets of agents are found there, so every process has a folder of its own; and their paths must be short.
        let sockets = home.join("t");
        fs::create_dir_all(&sockets).with_context(|| format!("cannot make `{}`", sockets.display()))?;
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(&self.path).args(args);
        command.env_clear().env("HOME", home).env("TMPDIR", &sockets).env("ZITI_CONFIG_DIR", home.join("cli"));
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        command.current_dir(home).stdin(Stdio::null());
        Ok(command)
    }

    /// Runs a command to its end.
    ///
    /// # Errors
    /// When it cannot be started, or does not end.
    pub fn run<T: AsRef<OsStr>>(&self, home: &Path, args: impl IntoIterator<Item = T>) -> Result<Ran> {
        Ran::of(&crate::Direct, self.command(home, args)?)
    }
}
