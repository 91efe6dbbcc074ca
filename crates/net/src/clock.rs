//! The wall clock of this process, read in one place.
//!
//! Builds with debug assertions add the seconds of `EXUVIA_TEST_CLOCK_OFFSET` to it, so that a test can run a whole process
//! whose clock is wrong. Release builds do not look at that variable.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since the Unix epoch; negative before it.
pub fn wall_ms() -> i64 {
    let ms = match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_millis()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |ms| -ms),
    };
    ms.saturating_add(offset_ms())
}

#[cfg(debug_assertions)]
fn offset_ms() -> i64 {
    static OFFSET: std::sync::LazyLock<i64> = std::sync::LazyLock::new(|| {
        let text = std::env::var("EXUVIA_TEST_CLOCK_OFFSET").unwrap_or_default();
        text.parse::<i64>().unwrap_or(0).saturating_mul(1000)
    });
    *OFFSET
}

#[cfg(not(debug_assertions))]
const fn offset_ms() -> i64 {
    0
}

/// The same clock, as TLS asks for it.
#[derive(Debug)]
pub(crate) struct WallClock;

impl rustls::time_provider::TimeProvider for WallClock {
    fn current_time(&self) -> Option<rustls_pki_types::UnixTime> {
        let ms = u64::try_from(wall_ms()).ok()?;
        Some(rustls_pki_types::UnixTime::since_unix_epoch(std::time::Duration::from_millis(ms)))
    }
}
