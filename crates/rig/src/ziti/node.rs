//! One stock controller.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::Signal;

use super::Ziti;
use crate::PATIENCE;
use crate::log::Log;
use crate::process::{Direct, Process};
use crate::program::{Ran, free_port};

/// A controller with its home, running or not. It is killed when this is dropped.
#[derive(Debug)]
pub struct ZitiNode {
    ziti: Ziti,
    id: String,
    home: PathBuf,
    announced: u16,
    listens: u16,
    api_port: u16,
    process: Mutex<Option<Process>>,
    starts: AtomicU32,
}

impl ZitiNode {
    pub(super) fn new(ziti: &Ziti, id: &str, home: PathBuf, is_behind_proxy: bool, further: &str) -> Result<Self> {
        fs::create_dir_all(&home)?;
        let (announced, api_port) = (free_port()?, free_port()?);
        let listens = if is_behind_proxy { free_port()? } else { announced };
        let pki = home.join("pki");
        let pki = pki.display();
        let data = home.join("raft");
        let identity = |indent: &str| {
            format!(
                "{indent}cert: {pki}/client.pem\n{indent}server_cert: {pki}/server.pem\n{indent}key: {pki}/key.pem\n{indent}ca: {pki}/bundle.pem\n"
            )
        };
        let text = format!(
            "v: 3\ncluster:\n  dataDir: {}\nidentity:\n{}ctrl:\n  options:\n    advertiseAddress: tls:localhost:{announced}\n  listener: \
             tls:127.0.0.1:{listens}\nedge:\n  api:\n    sessionTimeout: 30m\n    address: localhost:{api_port}\n  enrollment:\n    \
             signingCert:\n      cert: {pki}/signer.pem\n      key: {pki}/signer.key.pem\n    edgeIdentity:\n      duration: 180m\n    \
             edgeRouter:\n      duration: 180m\nweb:\n  - name: all\n    bindPoints:\n      - interface: 127.0.0.1:{api_port}\n        \
             address: localhost:{api_port}\n    identity:\n{}    apis:\n      - binding: edge-management\n      - binding: edge-client\n      \
             - binding: fabric\n{further}",
            data.display(),
            identity("  "),
            identity("      "),
        );
        fs::create_dir_all(&data)?;
        fs::write(home.join("controller.yml"), text)?;
        let (process, starts) = (Mutex::new(None), AtomicU32::new(0));
        Ok(Self { ziti: ziti.clone(), id: id.to_owned(), home, announced, listens, api_port, process, starts })
    }

    /// Starts it; waits until it serves its REST interfaces.
    ///
    /// # Errors
    /// When it does not start.
    pub fn run(&self) -> Result<()> {
        let number = self.starts.fetch_add(1, Ordering::Relaxed);
        let args = ["controller", "run", "controller.yml", "--log-formatter", "json"];
        let command = self.ziti.command(&self.home, args)?;
        let process = Process::start_copying(&Direct, command, Some(&self.home.join(format!("log-{number}.txt"))))?;
        let log = process.log().clone();
        *self.lock() = Some(process);
        self.until_serving(&log)
    }

    /// Its listeners accept connections: the only sign that every release gives.
    fn until_serving(&self, log: &Log) -> Result<()> {
        let deadline = std::time::Instant::now() + PATIENCE;
        for port in [self.api_port, self.listens] {
            while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
                if log.is_over() || std::time::Instant::now() > deadline {
                    bail!("controller `{}` does not start: {}", self.id, log.text());
                }
                // Woken by whatever it says next.
                log.wait(log.mark(), std::time::Duration::from_millis(100), |_| Some(()));
            }
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// SIGTERM, and waits for its end.
    ///
    /// # Errors
    /// When it does not end.
    pub fn stop(&self) -> Result<()> {
        let Some(process) = self.lock().take() else { return Ok(()) };
        process.signal(Signal::SIGTERM);
        process.finish(PATIENCE).context("stop a stock controller").map(drop)
    }

    /// kill -9, and waits for its end.
    pub fn kill(&self) {
        if let Some(process) = self.lock().take() {
            process.kill();
        }
    }

    /// Stands still from now on, without closing anything: SIGSTOP.
    pub fn pause(&self) {
        if let Some(process) = self.lock().as_ref() {
            process.signal(Signal::SIGSTOP);
        }
    }

    /// Goes on.
    pub fn resume(&self) {
        if let Some(process) = self.lock().as_ref() {
            process.signal(Signal::SIGCONT);
        }
    }

    /// Its process id, if it runs.
    pub fn pid(&self) -> Option<u32> {
        self.lock().as_ref().and_then(|process| u32::try_from(process.pid().as_raw()).ok())
    }

    /// What its present process has said; nothing if it does not run.
    pub fn log(&self) -> Log {
        self.lock().as_ref().map(|process| process.log().clone()).unwrap_or_default()
    }

    /// `ziti agent ARGS` about its process.
    ///
    /// # Errors
    /// When it does not run, or the command does not end.
    pub fn agent(&self, args: &[&str]) -> Result<Ran> {
        let Some(pid) = self.pid() else { bail!("controller `{}` does not run", self.id) };
        let pid = pid.to_string();
        let mut all = vec!["agent"];
        all.extend(args);
        all.extend(["--pid", &pid, "--timeout", "20s"]);
        self.ziti.run(&self.home, all)
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its folder: `controller.yml`, `pki`, `raft` (with the database), and a log of every start.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// The port that it announces to routers and other controllers.
    pub fn ctrl_port(&self) -> u16 {
        self.announced
    }

    /// The port on which it listens for them; another one than it announces if a proxy is to stand between.
    pub fn ctrl_listens(&self) -> u16 {
        self.listens
    }

    /// Port of its REST interfaces.
    pub fn api_port(&self) -> u16 {
        self.api_port
    }
}
