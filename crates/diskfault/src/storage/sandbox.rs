//! A place where mounting, filling and breaking harms nobody: a mount namespace of our own and a small file system in memory.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

use super::outside::{find, run};
use evidence::Skip;

/// What a layer needs of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Mounting in a namespace of our own.
    Mounts,
    /// Loop devices.
    Loop,
    /// Block devices out of user space.
    Fuse,
    /// Watching the calls of a process.
    Tracing,
    /// This program of the system.
    Program(&'static str),
}

/// Which of these are missing here.
pub(crate) fn missing(needs: &[Need]) -> Vec<Skip> {
    needs.iter().filter_map(lacks).collect()
}

fn lacks(need: &Need) -> Option<Skip> {
    let skip = |what: &str, why: String| Some(Skip { what: what.to_owned(), why });
    match need {
        Need::Mounts => {
            let probe = Command::new("unshare").args(["-m", "--propagation", "private", "true"]).output();
            match probe {
                Ok(output) if output.status.success() => None,
                Ok(output) => {
                    let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                    skip("everything that mounts", format!("no mount namespace ({why}); run as root"))
                }
                Err(error) => skip("everything that mounts", format!("`unshare`: {error}; install util-linux")),
            }
        }
        Need::Loop => {
            let answer = run("losetup", ["-f"]);
            answer.err().map(|error| Skip {
                what: "everything on images".to_owned(),
                why: format!("no free loop device: {error:#}"),
            })
        }
        Need::Fuse => {
            let opened = std::fs::File::options().read(true).write(true).open("/dev/fuse");
            opened.err().map(|error| Skip {
                what: "block devices out of user space".to_owned(),
                why: format!("`/dev/fuse`: {error}"),
            })
        }
        // Not by trying: the thread that starts processes would be born outside of the namespace that the layer makes for itself.
        Need::Tracing if cfg!(not(target_arch = "x86_64")) => {
            skip("everything that dies at a change", "the tracer knows the registers of x86-64 only".to_owned())
        }
        Need::Tracing => {
            let scope = std::fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").unwrap_or_default();
            match scope.trim() {
                "2" | "3" => skip("everything that dies at a change", "processes may not be traced here".to_owned()),
                _ => None,
            }
        }
        Need::Program(program) => match find(program) {
            Some(_) => None,
            None => skip(&format!("what needs `{program}`"), "it is not installed".to_owned()),
        },
    }
}

/// A mount namespace of this thread, with a file system in memory of limited size. What is mounted there vanishes with the process.
#[derive(Debug)]
pub struct Sandbox {
    root: PathBuf,
}

impl Sandbox {
    /// Moves this thread, and every process and thread that it starts from now on, into a namespace of its own, with an empty file system of at most
    /// `size` (as `mount` spells it) below `scratch`.
    pub fn enter(scratch: &Path, size: &str) -> anyhow::Result<Self> {
        unshare(CloneFlags::CLONE_NEWNS).context("cannot make a mount namespace")?;
        let nothing = None::<&str>;
        mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing)
            .context("cannot make the mounts private")?;
        let root = scratch.join("memory");
        std::fs::create_dir_all(&root)?;
        tmpfs(&root, &format!("size={size},mode=700"))?;
        Ok(Self { root })
    }

    /// Its root folder.
    pub fn root(&self) -> &Path {
        &self.root
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let _ = umount2(&self.root, MntFlags::MNT_DETACH);
    }
}

/// Mounts a file system in memory.
pub fn tmpfs(at: &Path, options: &str) -> anyhow::Result<()> {
    mount(Some("tmpfs"), at, Some("tmpfs"), MsFlags::empty(), Some(options))
        .with_context(|| format!("cannot mount a tmpfs ({options}) at `{}`", at.display()))
}

/// Mounts a folder or file on another one.
pub fn bind(from: &Path, to: &Path) -> anyhow::Result<()> {
    mount(Some(from), to, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .with_context(|| format!("cannot bind `{}` to `{}`", from.display(), to.display()))
}

/// Changes flags of a bind mount; `MS_BIND | MS_REMOUNT` are added.
pub fn remount_bind(at: &Path, flags: MsFlags) -> anyhow::Result<()> {
    mount(None::<&str>, at, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REMOUNT | flags, None::<&str>)
        .with_context(|| format!("cannot remount `{}`", at.display()))
}

/// A mounted file system, unmounted at the end.
#[derive(Debug)]
pub struct Mounted {
    at: PathBuf,
    is_mounted: bool,
}

impl Mounted {
    /// Mounts `device`.
    pub fn new(device: &Path, at: &Path, kind: &str, options: &str) -> anyhow::Result<Self> {
        std::fs::create_dir_all(at)?;
        mount(Some(device), at, Some(kind), MsFlags::empty(), Some(options))
            .with_context(|| format!("cannot mount {kind} from `{}` ({options})", device.display()))?;
        Ok(Self { at: at.to_owned(), is_mounted: true })
    }

    /// Takes over what is mounted there.
    pub fn adopt(at: &Path) -> Self {
        Self { at: at.to_owned(), is_mounted: true }
    }

    /// Where.
    pub fn at(&self) -> &Path {
        &self.at
    }

    /// Unmounts it; waits a moment for those who are just leaving.
    pub fn unmount(mut self) -> anyhow::Result<()> {
        let mut last = nix::Error::EBUSY;
        for _ in 0..500 {
            match umount2(&self.at, MntFlags::empty()) {
                Ok(()) => {
                    self.is_mounted = false;
                    return Ok(());
                }
                Err(nix::Error::EBUSY) => std::thread::sleep(std::time::Duration::from_millis(4)),
                Err(error) => {
                    last = error;
                    break;
                }
            }
        }
        Err(last).with_context(|| format!("cannot unmount `{}`", self.at.display()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.is_mounted {
            let _ = umount2(&self.at, MntFlags::MNT_DETACH);
        }
    }
}

/// A loop device over a file, given back at the end.
#[derive(Debug)]
pub(crate) struct Loop {
    device: PathBuf,
}

impl Loop {
    /// Attaches the file to a free device.
    pub(crate) fn attach(file: &Path) -> anyhow::Result<Self> {
        let answer = run("losetup", [OsStr::new("-f"), OsStr::new("--show"), file.as_os_str()])?;
        Ok(Self { device: PathBuf::from(answer.trim()) })
    }

    /// The device.
    pub(crate) fn device(&self) -> &Path {
        &self.device
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = run("losetup", [OsStr::new("-d"), self.device.as_os_str()]);
    }
}
