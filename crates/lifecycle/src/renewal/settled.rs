//! A machine without its past, for whoever enumerates states.

use super::{Link, Pending, Phase, Renewal};
use crate::facts::{Now, UnixTime, Uptime};

impl Renewal {
    /// The same machine without what cannot change anything that it does from `now` on: instants that have passed, and counts that only
    /// lengthen waits.
    ///
    /// Exact under a policy whose waits are all zero, where a model checker takes every time-out that may fire for one that may fire now. A
    /// model that kept the counts would never run out of states. `turns` is divisible by every number of candidates that there may come to be:
    /// whose turn it is repeats after as many refusals.
    #[must_use]
    pub fn settled(mut self, now: Now, turns: core::num::NonZeroU32) -> Self {
        let settle = |at: &mut Uptime| {
            if *at <= now.uptime {
                *at = Uptime::default();
            }
        };
        settle(&mut self.retry_at);
        settle(&mut self.save_at);
        self.save_failures = 0;
        if let Some((_, at)) = &mut self.due_by_uptime {
            settle(at);
        }
        for contact in self.contacts.values_mut() {
            contact.failures = 0;
            contact.turn %= turns;
            match &mut contact.link {
                Link::Down { retry_at } => settle(retry_at),
                Link::Up { since, .. } => settle(since),
                Link::Dialing { .. } => {}
            }
        }
        match &mut self.phase {
            Phase::Prepared { attempt, .. } => {
                settle(&mut attempt.not_before);
                attempt.unanswered = 0;
            }
            Phase::Requested { attempt, deadline, .. } => {
                settle(&mut attempt.not_before);
                settle(deadline);
                attempt.unanswered = 0;
            }
            Phase::Proving { proof, .. } => {
                settle(&mut proof.until);
                settle(&mut proof.next_try);
                proof.tries = proof.tries.min(1);
                if self.policy.verify_window.is_zero() {
                    // The first try ends the window; no denials are needed for that.
                    (proof.was_error, proof.denials) = (false, 0);
                }
                match &mut proof.pending {
                    Pending::Answer(at) | Pending::Handshake(at) => settle(at),
                    Pending::Nothing => {}
                }
            }
            Phase::Promoted { drained_at, .. } => settle(drained_at),
            Phase::Steady { .. } | Phase::Staged { .. } | Phase::Lapsed { .. } => {}
        }
        if let Some(attempt) = &mut self.manifest.attempt {
            attempt.failures = 0;
            attempt.began = UnixTime::default();
        }
        for candidate in &mut self.manifest.candidates {
            candidate.first_admitted = candidate.first_admitted.map(|_| UnixTime::default());
        }
        self
    }
}
