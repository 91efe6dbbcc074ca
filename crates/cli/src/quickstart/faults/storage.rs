//! State folders that cannot be written or have no room, made by what any machine allows: permissions and file size limits.
//!
//! Processes that run as root give up the capability that would shield them from permissions ([`crate::quickstart::child`]).

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

/// Can folders be made unwritable here?
///
/// # Errors
/// Why not.
pub(crate) fn try_modes(beside: &Path) -> io::Result<()> {
    let probe = beside.join("probe");
    fs::create_dir_all(&probe)?;
    fs::set_permissions(&probe, Permissions::from_mode(0o500))?;
    let mode = fs::metadata(&probe)?.permissions().mode() & 0o777;
    fs::remove_dir(&probe)?;
    if mode == 0o500 { Ok(()) } else { Err(io::Error::other("this file system has no permissions")) }
}

/// Can another process's files be limited here?
///
/// # Errors
/// Why not.
pub(crate) fn try_limits(process: Pid) -> io::Result<()> {
    prlimit(Some(process), Resource::Fsize, getrlimit(Resource::Fsize))?;
    Ok(())
}

/// Makes a state folder and the folders in it unwritable, or writable again.
///
/// # Errors
/// When the system refuses.
pub(crate) fn set_writable(state: &Path, is_writable: bool) -> io::Result<()> {
    let mode = if is_writable { 0o700 } else { 0o500 };
    for folder in [state.to_owned(), state.join("generations")].into_iter().chain(generations(state)) {
        match fs::set_permissions(&folder, Permissions::from_mode(mode)) {
            // Erased by the router in between.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            answer => answer?,
        }
    }
    Ok(())
}

fn generations(state: &Path) -> Vec<PathBuf> {
    fs::read_dir(state.join("generations")).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// Lets no file of this process grow beyond `bytes`, or lifts the limit again.
///
/// # Errors
/// When the system refuses.
pub(crate) fn set_room(process: Pid, bytes: Option<u64>) -> io::Result<()> {
    let usual = getrlimit(Resource::Fsize);
    let current = match bytes {
        Some(bytes) => Some(usual.maximum.map_or(bytes, |most| bytes.min(most))),
        None => usual.current,
    };
    prlimit(Some(process), Resource::Fsize, Rlimit { current, maximum: usual.maximum })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_folder_turns_unwritable_and_recovers() {
        let home = tempfile::tempdir().unwrap();
        let inner = home.path().join("generations").join("0001");
        fs::create_dir_all(&inner).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        set_writable(home.path(), false).unwrap();
        assert_eq!((mode(home.path()), mode(&inner)), (0o500, 0o500));
        set_writable(home.path(), true).unwrap();
        assert_eq!((mode(home.path()), mode(&inner)), (0o700, 0o700));
    }
}
