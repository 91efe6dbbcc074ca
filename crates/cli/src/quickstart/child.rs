//! What a child process does first: it ties its life to the quickstart's, and gives up what would shield it from faults.
//!
//! Only the child itself can ask the kernel to be killed with its parent without `unsafe` code between fork and exec, so the
//! quickstart names itself in an environment variable and the child does the rest before it starts any thread.

use rustix::process::{Signal, getppid, set_parent_process_death_signal};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

/// Process id of the quickstart that started this process.
pub(super) const PARENT_PID: &str = "EXUVIA_PARENT_PID";
/// Set for processes that must be subject to the permissions of files even when they run as root.
pub(super) const OBEY_MODES: &str = "EXUVIA_OBEY_MODES";

/// Why a child must not run.
#[derive(Debug, thiserror::Error)]
pub enum TieError {
    /// The quickstart ended before this process could tie itself to it.
    #[error("the quickstart that started this process has ended")]
    Orphaned,
    /// The kernel refused.
    #[error("this process cannot tie its life to the quickstart's")]
    Refused(#[source] rustix::io::Errno),
}

/// Ties this process to the quickstart that started it, if one did. To be called before any thread starts.
///
/// # Errors
/// When the quickstart has gone, or the kernel refuses: the process must end then.
pub fn tie_to_parent() -> Result<(), TieError> {
    let Ok(parent) = std::env::var(PARENT_PID) else { return Ok(()) };
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(TieError::Refused)?;
    // If the parent died before the line above, no signal will ever come.
    let has_parent = getppid().is_some_and(|pid| pid.as_raw_nonzero().get().to_string() == parent);
    if !has_parent {
        return Err(TieError::Orphaned);
    }
    if std::env::var_os(OBEY_MODES).is_some() {
        let mut sets = capabilities(None).map_err(TieError::Refused)?;
        let above_modes = CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH;
        sets.effective.remove(above_modes);
        sets.permitted.remove(above_modes);
        sets.inheritable.remove(above_modes);
        set_capabilities(None, sets).map_err(TieError::Refused)?;
    }
    Ok(())
}
