//! Programs of the system: mkfs, losetup, xfs_io and their kin, each with an end to its patience.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

/// Longest run of one of them; reached only when something is broken.
const PATIENCE: &str = "30";

/// Runs it to its end and gives its standard output.
pub(crate) fn run<I, A>(program: &str, args: I) -> anyhow::Result<String>
where
    I: IntoIterator<Item = A>,
    A: AsRef<OsStr>,
{
    let mut command = Command::new("timeout");
    command.args(["-k", "2", PATIENCE, program]).args(args).stdin(Stdio::null());
    let output = command.output().with_context(|| format!("cannot run `{program}`"))?;
    if !output.status.success() {
        bail!("`{program}` ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Where a program of the system is; folders for the administrator count even when they are not in `PATH`.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(usual).map(|folder| folder.join(program)).find(|found| found.is_file())
}

/// Asks until there is an answer, with a short pause in between.
///
/// # Errors
/// When none came in time.
pub(crate) fn wait_for<T>(what: &str, within: Duration, mut ask: impl FnMut() -> Option<T>) -> anyhow::Result<T> {
    let deadline = Instant::now() + within;
    loop {
        if let Some(answer) = ask() {
            return Ok(answer);
        }
        if Instant::now() > deadline {
            bail!("no {what} within {} ms", within.as_millis());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Copies a file and leaves its holes out.
pub(crate) fn copy_sparse(from: &Path, to: &Path) -> anyhow::Result<()> {
    run("cp", [OsStr::new("--sparse=always"), from.as_os_str(), to.as_os_str()]).map(drop)
}
