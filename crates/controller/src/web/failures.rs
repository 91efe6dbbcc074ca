//! How often somebody may fail to enroll.
//!
//! Whoever enrolls needs no credentials but his token, so anybody may try. A failure costs a share, of his address and of everybody's; without a
//! share a request is answered before its body is read, and long before the register is asked or anything is signed. Success costs nothing: a
//! factory that enrolls a thousand routers behind one address is not held up.
//!
//! When everybody's shares are gone, an address that has not failed lately may still try: a flood from elsewhere does not lock out an honest
//! router.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use api::{ApiError, Code};
use lifecycle::Uptime;
use net::source::Source;

/// Sources whose failures are remembered at once.
const SOURCES_MAX: usize = 8192;
const MINUTE: Duration = Duration::from_secs(60);

/// Failures that are put up with: so many at once, and as many again in each minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailureLimits {
    /// Of one address.
    pub each: u32,
    /// Of all together.
    pub all: u32,
}

impl FailureLimits {
    /// As the defaults in `docs/operating/configuration.md`.
    pub const USUAL: Self = Self { each: 30, all: 3000 };
}

#[derive(Debug)]
pub(super) struct Failures {
    limits: FailureLimits,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    all: Debt,
    of: HashMap<Source, Debt>,
}

/// What failures have cost: the moment at which all of it is forgotten.
#[derive(Clone, Copy, Debug, Default)]
struct Debt {
    until: Uptime,
}

impl Debt {
    fn add(&mut self, now: Uptime, most: u32) {
        self.until = self.until.max(now).plus(MINUTE / most.max(1));
    }

    /// How long until one more may fail; zero when it may now.
    fn wait(self, now: Uptime, most: u32) -> Duration {
        let spare = MINUTE - MINUTE / most.max(1);
        self.until.since(now).saturating_sub(spare)
    }

    fn is_over(self, now: Uptime) -> bool {
        self.until <= now
    }
}

impl Failures {
    pub(super) fn new(limits: FailureLimits) -> Self {
        Self { limits, known: Mutex::default() }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Nothing panics while holding it.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// May somebody from there try now?
    pub(super) fn check(&self, now: Uptime, source: Source) -> Result<(), ApiError> {
        let known = self.known();
        let own = known.of.get(&source).copied().unwrap_or_default();
        let is_known = !own.is_over(now);
        let own_wait = own.wait(now, self.limits.each);
        let wait = if !own_wait.is_zero() {
            own_wait
        } else if is_known || known.of.len() >= SOURCES_MAX {
            known.all.wait(now, self.limits.all)
        } else {
            Duration::ZERO
        };
        if wait.is_zero() {
            return Ok(());
        }
        let wait_s = wait.as_secs() + 1;
        let told = format!("too many failed enrollments; wait {wait_s} s");
        Err(ApiError::because(Code::RateLimited, told).retry_after(wait_s))
    }

    /// Somebody from there failed.
    pub(super) fn note(&self, now: Uptime, source: Source) {
        let mut known = self.known();
        known.all.add(now, self.limits.all);
        if known.of.len() >= SOURCES_MAX && !known.of.contains_key(&source) {
            known.of.retain(|_, debt| !debt.is_over(now));
            if known.of.len() >= SOURCES_MAX {
                // Everybody's share alone counts for him.
                return;
            }
        }
        known.of.entry(source).or_default().add(now, self.limits.each);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: FailureLimits = FailureLimits { each: 3, all: 10 };

    fn from(number: u32) -> Source {
        Source::of((std::net::Ipv4Addr::from(number), 1).into())
    }

    fn at(s: u64) -> Uptime {
        Uptime::from_ms(s * 1000)
    }

    #[test]
    fn a_source_fails_so_often_at_once_and_as_often_again_in_a_minute() {
        let failures = Failures::new(LIMITS);
        let fail = |s| {
            let answer = failures.check(at(s), from(1));
            failures.note(at(s), from(1));
            answer
        };
        assert_eq!([(); 3].map(|()| fail(100).is_ok()), [true; 3]);
        let refused = failures.check(at(100), from(1)).unwrap_err();
        assert_eq!((refused.code, refused.retry_after_s), (Code::RateLimited, Some(21)));
        assert!(failures.check(at(119), from(1)).is_err());
        assert!(fail(120).is_ok());
        assert!(failures.check(at(120), from(1)).is_err());
        assert!(failures.check(at(120), from(2)).is_ok());
        assert!(failures.check(at(200), from(1)).is_ok());
    }

    #[test]
    fn when_all_shares_are_gone_an_address_that_did_not_fail_may_still_try() {
        let failures = Failures::new(LIMITS);
        for number in 0..10 {
            assert!(failures.check(at(1), from(number)).is_ok());
            failures.note(at(1), from(number));
        }
        // It has two of its own left, and there is none of all.
        assert!(failures.check(at(1), from(3)).is_err());
        assert!(failures.check(at(1), from(99)).is_ok());
        assert!(failures.check(at(8), from(3)).is_ok());
    }

    #[test]
    fn what_is_remembered_is_bounded_and_a_flood_of_sources_is_held_by_the_share_of_all() {
        let failures = Failures::new(LIMITS);
        for number in 0..20_000 {
            failures.note(at(1), from(number));
        }
        assert_eq!(failures.known().of.len(), SOURCES_MAX);
        assert!(failures.check(at(1), from(1_000_000)).is_err());
        failures.note(at(1_000_000), from(1_000_000));
        assert_eq!(failures.known().of.len(), 1);
    }
}
