//! A host's two clocks in a world that has one time.

use lifecycle::{Now, UnixTime, Uptime};

/// Where the world's time begins: 2026-01-01, so that neither clock is near zero.
const BEGIN_MS: i64 = 1_767_225_600_000;

/// One host's clocks. The wall clock may be stepped; the uptime counts from boot, suspend included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Clock {
    pub(crate) skew_ms: i64,
    pub(crate) booted_ms: u64,
}

impl Clock {
    pub(crate) fn now(self, world_ms: u64) -> Now {
        let wall = UnixTime::from_ms(true_wall(world_ms).as_ms().saturating_add(self.skew_ms));
        Now { wall, uptime: Uptime::from_ms(world_ms.saturating_sub(self.booted_ms).saturating_add(5_000)) }
    }
}

/// What a right clock says.
pub(crate) fn true_wall(world_ms: u64) -> UnixTime {
    UnixTime::from_ms(BEGIN_MS.saturating_add(i64::try_from(world_ms).unwrap_or(i64::MAX)))
}
