//! Block devices out of user space: `qemu-storage-daemon` exports a file through FUSE, a loop device makes a disk of it.
//!
//! ```text
//! file system ── loop device ── FUSE file ── blklogwrites or blkdebug ── disk image
//! ```

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::outside::wait_for;
use super::sandbox::Loop;

/// Time for the daemon to come up or to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// What stands between the file system and the image.
#[derive(Clone, Debug)]
pub(crate) enum Between {
    /// Every write and flush is recorded in this file.
    Recorder(PathBuf),
    /// The k-th call of a kind fails with EIO, once; counted from one.
    Error(FailingCall, u32),
}

/// Which call of the disk fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailingCall {
    /// Making durable what was written.
    Flush,
    /// Writing.
    Write,
}

impl FailingCall {
    /// For the report.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Flush => "flush",
            Self::Write => "write",
        }
    }

    fn event(self) -> &'static str {
        match self {
            Self::Flush => "flush_to_disk",
            Self::Write => "pwritev",
        }
    }
}

/// A disk out of user space.
#[derive(Debug)]
pub(crate) struct Device {
    // Given back in this order: the loop device first, then the daemon.
    device: Option<Loop>,
    daemon: Child,
}

impl Device {
    /// Starts the daemon over `image`; its own files are in `folder`.
    pub(crate) fn start(image: &Path, folder: &Path, between: &Between) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let exported = folder.join("disk.raw");
        File::create(&exported)?;
        let pid_file = folder.join("daemon.pid");
        let _ = std::fs::remove_file(&pid_file);
        let mut command = Command::new("qemu-storage-daemon");
        command.arg("--blockdev").arg(option("driver=file,node-name=f0,filename=", image));
        match between {
            Between::Recorder(log) => {
                File::create(log)?;
                command.arg("--blockdev").arg(option("driver=file,node-name=l0,filename=", log));
                let recorder = "driver=blklogwrites,node-name=b0,file=f0,log=l0,log-super-update-interval=1";
                command.args(["--blockdev", recorder, "--export"]);
                command.arg(option("type=fuse,id=e0,node-name=b0,writable=on,mountpoint=", &exported));
            }
            Between::Error(call, number) => {
                command.args(["--blockdev", &rules(*call, *number), "--blockdev", "driver=raw,node-name=r0,file=b0"]);
                command.arg("--export");
                command.arg(option("type=fuse,id=e0,node-name=r0,writable=on,mountpoint=", &exported));
            }
        }
        command.arg("--pidfile").arg(&pid_file).stdin(Stdio::null()).stdout(Stdio::null());
        let errors = folder.join("daemon.log");
        command.stderr(File::create(&errors)?);
        let daemon = command.spawn().context("cannot run `qemu-storage-daemon`")?;
        let mut started = Self { device: None, daemon };
        let is_up = || std::fs::metadata(&pid_file).is_ok_and(|found| found.len() > 0);
        let mut is_over = || started.daemon.try_wait().is_ok_and(|code| code.is_some());
        wait_for("storage daemon", PATIENCE, || (is_up() || is_over()).then_some(()))?;
        if !is_up() {
            bail!("`qemu-storage-daemon` ended: {}", std::fs::read_to_string(&errors).unwrap_or_default().trim());
        }
        started.device = Some(Loop::attach(&exported)?);
        Ok(started)
    }

    /// The loop device.
    pub(crate) fn path(&self) -> &Path {
        self.device.as_ref().map_or(Path::new(""), Loop::device)
    }

    /// Takes the disk away. Whatever it was told is in the image and in the log.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        self.device = None;
        self.terminate()
    }

    fn terminate(&mut self) -> anyhow::Result<()> {
        let id = i32::try_from(self.daemon.id()).context("a process id that is none")?;
        if self.daemon.try_wait()?.is_none() {
            kill(Pid::from_raw(id), Signal::SIGTERM)?;
        }
        wait_for("end of the storage daemon", PATIENCE, || self.daemon.try_wait().ok().flatten()).map(drop)
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.device = None;
        if self.terminate().is_err() {
            let _ = self.daemon.kill();
            let _ = self.daemon.wait();
        }
    }
}

fn option(start: &str, path: &Path) -> std::ffi::OsString {
    let mut text = std::ffi::OsString::from(start);
    text.push(path);
    text
}

/// Rules of `blkdebug`: the state counts calls, and the k-th one fails.
fn rules(call: FailingCall, number: u32) -> String {
    let event = call.event();
    let states: Vec<serde_json::Value> = (1..number)
        .map(|state| serde_json::json!({ "event": event, "state": state, "new_state": state + 1 }))
        .collect();
    let mut rules = serde_json::json!({
        "driver": "blkdebug", "node-name": "b0", "image": "f0",
        "inject-error": [{
            "event": event, "state": number, "iotype": call.name(), "errno": 5, "once": true, "immediately": false,
        }],
    });
    // An empty list is an option that the driver does not know.
    if let (false, Some(rules)) = (states.is_empty(), rules.as_object_mut()) {
        rules.insert("set-state".to_owned(), states.into());
    }
    rules.to_string()
}
