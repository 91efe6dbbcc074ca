//! Controllers that answer and admit none of what is on the disk.
//!
//! One refusal says nothing: churn, a vanished group and a refused leaf look alike. Every candidate refused, for longer than any churn rule
//! lasts, says that a person must look: the controller was restored from an older backup, or the router was deleted, disabled or enrolled
//! anew. Nothing is decided here: the machine goes on trying all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lifecycle::renewal::DialOutcome;
use lifecycle::{ControllerId, GenerationNumber, Now, UnixTime, Uptime};

/// OpenZiti refuses a router whose last connection is younger than this, whatever it presents; and some time for a connection that nobody
/// closed to be noticed.
const NO_LONGER_CHURN: Duration = Duration::from_secs(90);

/// What each controller refused since it last admitted this router.
#[derive(Debug, Default)]
pub(super) struct Refusals(BTreeMap<ControllerId, Refused>);

#[derive(Debug)]
struct Refused {
    since: Now,
    last: Uptime,
    generations: BTreeSet<GenerationNumber>,
    is_told: bool,
}

impl Refusals {
    /// One more dial has ended.
    pub(super) fn dialed(
        &mut self,
        now: Now,
        controller: &ControllerId,
        generation: GenerationNumber,
        outcome: &DialOutcome,
    ) {
        match outcome {
            DialOutcome::Admitted { .. } => drop(self.0.remove(controller)),
            DialOutcome::Refused => {
                let nothing = || Refused { since: now, last: now.uptime, generations: BTreeSet::new(), is_told: false };
                let refused = self.0.entry(controller.clone()).or_insert_with(nothing);
                refused.generations.insert(generation);
                refused.last = now.uptime;
            }
            // Nobody was asked.
            DialOutcome::Unreachable => {}
        }
    }

    /// Since when a controller has refused every candidate, if it has for long enough to mean something.
    pub(super) fn all_since(&self, controller: &ControllerId, candidates: &[GenerationNumber]) -> Option<UnixTime> {
        let refused = self.0.get(controller)?;
        let is_all = candidates.iter().all(|number| refused.generations.contains(number));
        (is_all && refused.last.since(refused.since.uptime) >= NO_LONGER_CHURN).then_some(refused.since.wall)
    }

    /// The same, once: for the log.
    pub(super) fn newly_all_since(
        &mut self,
        controller: &ControllerId,
        candidates: &[GenerationNumber],
    ) -> Option<UnixTime> {
        let since = self.all_since(controller, candidates)?;
        let refused = self.0.get_mut(controller)?;
        (!std::mem::replace(&mut refused.is_told, true)).then_some(since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: GenerationNumber = GenerationNumber(1);
    const TWO: GenerationNumber = GenerationNumber(2);

    fn at(s: u64) -> Now {
        Now { wall: UnixTime::from_s(1_000).plus(Duration::from_secs(s)), uptime: Uptime::from_ms(s * 1_000) }
    }

    #[test]
    fn every_candidate_must_be_refused_and_for_longer_than_churn_lasts() {
        let (mut refusals, controller) = (Refusals::default(), ControllerId::new("ctrl1"));
        for (s, number) in [(0, ONE), (30, TWO), (60, ONE)] {
            refusals.dialed(at(s), &controller, number, &DialOutcome::Refused);
        }
        assert_eq!(refusals.all_since(&controller, &[ONE, TWO]), None, "a minute is what churn takes");
        refusals.dialed(at(91), &controller, ONE, &DialOutcome::Refused);
        assert_eq!(refusals.all_since(&controller, &[ONE, TWO]), Some(at(0).wall));
        assert_eq!(refusals.all_since(&controller, &[ONE, TWO, GenerationNumber(3)]), None, "3 was not tried");
        assert_eq!(refusals.newly_all_since(&controller, &[ONE, TWO]), Some(at(0).wall));
        assert_eq!(refusals.newly_all_since(&controller, &[ONE, TWO]), None, "it is told once");
    }

    #[test]
    fn silence_counts_for_nothing_and_an_admission_for_everything() {
        let (mut refusals, controller) = (Refusals::default(), ControllerId::new("ctrl1"));
        refusals.dialed(at(0), &controller, ONE, &DialOutcome::Refused);
        refusals.dialed(at(100), &controller, ONE, &DialOutcome::Unreachable);
        assert_eq!(refusals.all_since(&controller, &[ONE]), None);
        refusals.dialed(at(100), &controller, ONE, &DialOutcome::Refused);
        assert!(refusals.all_since(&controller, &[ONE]).is_some());
        refusals.dialed(at(101), &controller, ONE, &DialOutcome::Admitted { grouped: true, window: None });
        refusals.dialed(at(300), &controller, ONE, &DialOutcome::Refused);
        assert_eq!(refusals.all_since(&controller, &[ONE]), None, "counting starts anew");
    }
}
