//! When to renew and how long to wait. Every duration shrinks with the leaf's life, so a leaf of one minute works like one of a year.

use core::time::Duration;

use crate::facts::{Leaf, UnixTime};
use crate::manifest::Candidate;

const MINUTE: Duration = Duration::from_secs(60);

/// What an operator may configure. [`Policy::default`] is what a router does that nobody configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Policy {
    /// When a generation is due.
    pub renew: RenewRule,
    /// Least time between the beginnings of two attempts. Default 10 min, at most a twentieth of the life.
    pub spacing: Duration,
    /// First wait after a failure. Default 1 s, at most a sixtieth of the life.
    pub backoff_min: Duration,
    /// Longest wait after a failure. Default 5 min, at most a twentieth of the life.
    pub backoff_max: Duration,
    /// How long an answer is waited for. Default 30 s, at most an eighth of the life.
    pub attempt_deadline: Duration,
    /// How long a superseded generation is called draining. Default 10 min, at most a tenth of the life.
    pub drain: Duration,
    /// How long 20303 is repeated for one leaf. Default 10 min, at most a sixth of the life.
    pub verify_window: Duration,
    /// Age that a control channel without groups must reach before it is replaced on purpose. Default 60 s
    /// (`openziti/ziti:controller/config/config_network.go`, `routerConnectChurnLimit`).
    pub churn: Duration,
}

/// When a generation is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RenewRule {
    /// After this part of the time from staging to NotAfter, give or take a jitter that is drawn once per generation.
    Fraction {
        /// Part of the time, in percent.
        percent: u8,
        /// Half the width of the jitter band, in percent of the same time.
        jitter_percent: u8,
    },
    /// This long before NotAfter, as OpenZiti does with seven days.
    Before(Duration),
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            renew: RenewRule::Fraction { percent: 67, jitter_percent: 5 },
            spacing: 10 * MINUTE,
            backoff_min: Duration::from_secs(1),
            backoff_max: 5 * MINUTE,
            attempt_deadline: Duration::from_secs(30),
            drain: 10 * MINUTE,
            verify_window: 10 * MINUTE,
            churn: MINUTE,
        }
    }
}

impl Policy {
    /// When this generation's renewal is due, by the wall clock. The earlier of its two leaves decides.
    pub fn due_at(&self, candidate: &Candidate) -> UnixTime {
        self.due_leaf(&candidate.client, candidate).min(self.due_leaf(&candidate.server, candidate))
    }

    fn due_leaf(&self, leaf: &Leaf, candidate: &Candidate) -> UnixTime {
        match self.renew {
            RenewRule::Before(margin) => leaf.not_after.minus(margin),
            RenewRule::Fraction { percent, jitter_percent } => {
                // Staged outside the leaf's life means that our clock was elsewhere then; NotBefore is the better witness.
                let staged_inside = (leaf.not_before..leaf.not_after).contains(&candidate.staged_at);
                let from = if staged_inside { candidate.staged_at } else { leaf.not_before };
                let span = leaf.not_after.since(from).as_millis();
                let band = 2 * u128::from(jitter_percent) * u128::from(candidate.jitter) / u128::from(u16::MAX);
                let percent = (u128::from(percent) + band).saturating_sub(u128::from(jitter_percent)).min(95);
                from.plus(millis(span * percent / 100))
            }
        }
    }

    /// Least time between the beginnings of two attempts.
    pub fn spacing_for(&self, life: Duration) -> Duration {
        self.spacing.min(life / 20)
    }

    /// How long an answer is waited for.
    pub fn attempt_deadline_for(&self, life: Duration) -> Duration {
        self.attempt_deadline.min(life / 8)
    }

    /// How long a superseded generation is called draining.
    pub fn drain_for(&self, life: Duration) -> Duration {
        self.drain.min(life / 10)
    }

    /// How long 20303 is repeated for one leaf.
    pub fn verify_window_for(&self, life: Duration) -> Duration {
        self.verify_window.min(life / 6)
    }

    /// Longest time that may pass without looking at the clock again: a step or a suspend is noticed within it.
    pub fn reevaluate_for(&self, life: Duration) -> Duration {
        MINUTE.min(life / 20)
    }

    /// How long to wait after the `failures`-th failure in a row: exponential, with full jitter drawn from `salt`.
    pub fn backoff(&self, failures: u32, salt: u64, life: Duration) -> Duration {
        let least = self.backoff_min.min(life / 60);
        let most = self.backoff_max.min(life / 20).max(least);
        let doubled = least.saturating_mul(1 << failures.saturating_sub(1).min(20)).min(most);
        let share = u128::from(mix(salt.wrapping_add(u64::from(failures))) >> 32);
        least + millis((doubled.saturating_sub(least).as_millis() * share) >> 32)
    }
}

fn millis(ms: u128) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(u64::MAX))
}

/// Spreads bits evenly (the finalizer of SplitMix64). A leaf's fingerprint is as random as dice, and replays exactly.
pub(crate) fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
