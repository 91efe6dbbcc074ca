//! Both clocks, read once per input.

use lifecycle::{Now, UnixTime, Uptime};
use rustix::time::{ClockId, clock_gettime};

/// What both clocks say. The second one counts suspend, which `Instant` does not.
pub(crate) fn now() -> Now {
    let boot = clock_gettime(ClockId::Boottime);
    let ms = u64::try_from(boot.tv_sec)
        .unwrap_or(0)
        .saturating_mul(1000)
        .saturating_add(u64::try_from(boot.tv_nsec).unwrap_or(0) / 1_000_000);
    Now { wall: wall(), uptime: Uptime::from_ms(ms) }
}

/// What the wall clock says.
pub(crate) fn wall() -> UnixTime {
    UnixTime::from_ms(net::clock::wall_ms())
}

/// An instant as people write it, in UTC.
pub(crate) fn spell(at: UnixTime) -> String {
    jiff::Timestamp::from_millisecond(at.as_ms()).map_or_else(
        |_| format!("{} ms after 1970", at.as_ms()),
        |stamp| stamp.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
    )
}
