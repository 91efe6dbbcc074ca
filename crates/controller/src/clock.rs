//! Where the controller's `Now` comes from.

use std::fmt;
use std::sync::Arc;

use lifecycle::{Now, UnixTime, Uptime};
use rustix::time::{ClockId, clock_gettime};

/// Tells both clocks at once. Cheap to clone.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Now + Send + Sync>);

impl Clock {
    /// The machine's own clocks; the uptime counts suspend.
    pub fn system() -> Self {
        Self(Arc::new(|| {
            let boot = clock_gettime(ClockId::Boottime);
            let uptime_ms =
                u64::try_from(boot.tv_sec).unwrap_or(0) * 1000 + u64::try_from(boot.tv_nsec).unwrap_or(0) / 1_000_000;
            Now { wall: UnixTime::from_ms(net::clock::wall_ms()), uptime: Uptime::from_ms(uptime_ms) }
        }))
    }

    /// A clock that says what `tell` says.
    pub fn from_fn(tell: impl Fn() -> Now + Send + Sync + 'static) -> Self {
        Self(Arc::new(tell))
    }

    /// What both clocks say.
    pub fn now(&self) -> Now {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}
