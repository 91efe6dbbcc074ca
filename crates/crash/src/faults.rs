//! Names of faults, shared so that the columns of the report's crash matrix line up.

/// The process is killed between two calls; the machine lives.
pub const KILLED: &str = "killed";
/// The power fails; any subset of what was not synced survives.
pub const POWER_WEAKEST: &str = "power cut, weakest disk";
/// The power fails; names survive as a prefix of history.
pub const POWER_JOURNALLED: &str = "power cut, journalled disk";
/// The power fails in the middle of a sector.
pub const TORN: &str = "torn sectors";
/// Killed or cut off, and the power fails in the start that follows, by any of the models.
pub const CRASHED_TWICE: &str = "crash, and again in the start after it";
/// One call fails; the process reacts as it does, ends, and is started anew.
pub const REFUSED: &str = "refused call";
/// One call fails, and the power fails at some later moment.
pub const REFUSED_THEN_POWER: &str = "refused call, then power cut";
/// A bit flips, or a sector turns to zeros, while everything is at rest. Counted as usable while any whole generation loads.
pub const ROTTEN: &str = "rotten sector";
