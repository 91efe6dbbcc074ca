//! What an admission changes: the only evidence there is.

use alloc::vec;
use alloc::vec::Vec;

use super::{Effect, Event, Phase, Renewal, RouterStep};
use crate::facts::{ControllerId, GenerationNumber, Now};
use crate::step::Step;

impl Renewal {
    /// A controller admitted `generation`, in a full handshake of this process.
    pub(super) fn admitted(
        &mut self,
        now: Now,
        controller: &ControllerId,
        generation: GenerationNumber,
        then: &mut Vec<Effect>,
    ) -> RouterStep {
        if self.manifest.candidate(generation).is_none() {
            return Step::free(core::mem::take(then));
        }
        if let Some(contact) = self.contacts.get_mut(controller) {
            contact.last_admitted = Some(generation);
            contact.turn = 0;
            if contact.verified <= Some(generation) {
                contact.verified = None;
            }
        }
        let first = self.remember_admission(now, generation);
        let retired = self.retire_before(now, generation);
        let live = self.live_after(generation);
        let old = self.phase.live();
        if live != old {
            then.push(Effect::Publish(live));
            then.push(Effect::Project(live));
        }
        let mut orphaned = vec![];
        self.settle_phase(now, controller, live, &mut orphaned, then);
        if !orphaned.is_empty() {
            then.push(Effect::Erase(orphaned));
        }
        if first || !retired.is_empty() {
            self.save_soon(retired);
        }
        self.judge_clock(now, generation);
        // Nothing here waits for the disk: the generation has been durable since STAGE, and that is what justifies publishing it.
        Step::free(core::mem::take(then))
    }

    /// An admitted leaf whose dates our wall clock is outside of proves the clock wrong. Then the uptime says when to renew: at once if
    /// it is not known how much of the leaf's life is left, and after two thirds of it when it has just been issued.
    fn judge_clock(&mut self, now: Now, admitted: GenerationNumber) {
        if !self.clock_is_wrong(now) {
            return;
        }
        let live = self.live();
        let is_new = self.manifest.attempt.is_some_and(|attempt| attempt.number == admitted)
            && matches!(self.phase, Phase::Promoted { live, .. } if live == admitted);
        if is_new {
            self.due_by_uptime = Some((live, now.uptime.plus(self.life() * 2 / 3)));
        } else if self.due_by_uptime.is_none_or(|(of, _)| of != live) {
            self.due_by_uptime = Some((live, now.uptime));
        }
    }

    fn remember_admission(&mut self, now: Now, generation: GenerationNumber) -> bool {
        if let Some(attempt) = &mut self.manifest.attempt
            && attempt.number == generation
        {
            attempt.failures = 0;
        }
        match self.manifest.candidate_mut(generation) {
            Some(candidate) if candidate.first_admitted.is_none() => {
                candidate.first_admitted = Some(now.wall);
                true
            }
            Some(_) | None => false,
        }
    }

    /// Drops every older candidate whose leaf is past NotAfter, now that a later one was admitted after that moment.
    /// If our clock calls even the admitted leaf expired, then the clock is wrong and proves nothing.
    fn retire_before(&mut self, now: Now, admitted: GenerationNumber) -> Vec<GenerationNumber> {
        let clock_is_wrong = self.manifest.candidate(admitted).is_none_or(|c| c.client.is_expired(now.wall));
        if clock_is_wrong {
            return vec![];
        }
        let over = |c: &crate::manifest::Candidate| c.number < admitted && c.client.is_expired(now.wall);
        let retired = self.manifest.candidates.iter().filter(|c| over(c)).map(|c| c.number).collect();
        self.manifest.candidates.retain(|c| !over(c));
        retired
    }

    /// The newest generation that a connected controller admitted last. A lagging controller that still admits an older one does
    /// not pull the router back while another one admits the newer.
    fn live_after(&self, admitted: GenerationNumber) -> GenerationNumber {
        let connected = self.contacts.values().filter(|c| c.is_up()).filter_map(|c| c.last_admitted);
        connected.filter(|number| self.manifest.candidate(*number).is_some()).fold(admitted, GenerationNumber::max)
    }

    fn settle_phase(
        &mut self,
        now: Now,
        controller: &ControllerId,
        live: GenerationNumber,
        orphaned: &mut Vec<GenerationNumber>,
        then: &mut Vec<Effect>,
    ) {
        let old = self.phase.live();
        let promoted = live > old || self.phase.next() == Some(live) || matches!(self.phase, Phase::Lapsed { .. });
        if !promoted {
            if live < old {
                then.push(Effect::Report(Event::OlderAdmitted { number: live, controller: controller.clone() }));
                if let Phase::Promoted { .. } = self.phase {
                    self.phase = Phase::Steady { live };
                }
            }
            self.phase.set_live(live);
            return;
        }
        if self.phase.next().is_some_and(|next| next > live) {
            // An older unresolved candidate was admitted; the newest one still waits for its proof.
            self.phase.set_live(live);
            return;
        }
        // Keys of an attempt that is not needed any more; nothing was ever sent for proof with them.
        orphaned.extend(self.phase.attempt());
        if live == old {
            // Only a lapsed router gets here: a controller's clock says that the leaf still stands.
            self.phase = Phase::Steady { live };
            return;
        }
        then.push(Effect::Report(Event::Promoted { number: live, controller: controller.clone() }));
        let drained_at = now.uptime.plus(self.policy.drain_for(self.life()));
        self.phase = Phase::Promoted { live, previous: old, drained_at };
        self.blocked = None;
    }
}
