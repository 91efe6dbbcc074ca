//! From "staged" to "a controller admitted it". Every answer to 20303 but success means unknown; handshakes decide.

use alloc::vec;
use alloc::vec::Vec;

use super::{Barrier, Effect, Event, Failure, Link, Pending, Phase, Proof, Renewal, RouterStep, VerifyAnswer};
use crate::facts::{ControllerId, GenerationNumber, Now};
use crate::manifest::Origin;
use crate::step::Step;

/// Denials by each controller with a channel after which there is no hope for a leaf.
const DENIALS_EACH: u32 = 3;

/// More of them are not counted.
const DENIALS_MAX: u32 = 12;

impl Renewal {
    /// Enters Proving and says what leaves first. The caller commits the manifest that says so.
    pub(super) fn begin_proving(&mut self, now: Now, live: GenerationNumber, next: GenerationNumber) -> Vec<Effect> {
        if let Some(candidate) = self.manifest.candidate_mut(next) {
            candidate.verify_sent = true;
        }
        let mut proof = Proof::new(now, self.policy.verify_window_for(self.life()));
        let then = self.send_verify(now, next, &mut proof);
        self.phase = Phase::Proving { live, next, proof };
        then
    }

    pub(super) fn verify_if_possible(&mut self, now: Now, next: GenerationNumber) -> RouterStep {
        if self.reachable(next).is_none() || now.uptime < self.save_at {
            return Step::free(vec![]);
        }
        let live = self.live();
        let then = self.begin_proving(now, live, next);
        Step::durable_first(Barrier::Manifest(self.manifest.clone()), then)
    }

    fn send_verify(&self, now: Now, next: GenerationNumber, proof: &mut Proof) -> Vec<Effect> {
        let Some((controller, _)) = self.reachable(next) else { return vec![] };
        proof.pending = Pending::Answer(now.uptime.plus(self.policy.attempt_deadline_for(self.life())));
        vec![
            Effect::Verify { controller: controller.clone(), number: next },
            Effect::Report(Event::Proving { number: next, controller }),
        ]
    }

    pub(super) fn verify_answered(
        &mut self,
        now: Now,
        controller: &ControllerId,
        number: GenerationNumber,
        answer: VerifyAnswer,
    ) -> RouterStep {
        let Phase::Proving { live, next, mut proof } = self.phase.clone() else { return Step::free(vec![]) };
        if next != number || !matches!(proof.pending, Pending::Answer(_)) {
            return Step::free(vec![]);
        }
        match answer {
            VerifyAnswer::Success => {
                proof.denials = 0;
                if let Some(contact) = self.contacts.get_mut(controller) {
                    contact.verified = Some(next);
                }
            }
            VerifyAnswer::Error => {}
        }
        proof.was_error = answer == VerifyAnswer::Error;
        let then = self.shake_hands(now, next, &mut proof);
        self.phase = Phase::Proving { live, next, proof };
        Step::free(then)
    }

    /// Presents `next` in a handshake: a further underlay, or the channel itself where there are no groups and it is old enough.
    fn shake_hands(&mut self, now: Now, next: GenerationNumber, proof: &mut Proof) -> Vec<Effect> {
        proof.pending = Pending::Nothing;
        let Some((controller, contact)) = self.reachable(next) else { return vec![] };
        let Some(since) = contact.up_since() else { return vec![] };
        let patience = self.policy.attempt_deadline_for(self.life());
        if contact.is_grouped() {
            proof.pending = Pending::Handshake(now.uptime.plus(patience));
            return vec![Effect::Prove { controller, generation: next }];
        }
        let ripe = since.plus(self.policy.churn);
        if now.uptime < ripe {
            proof.next_try = ripe;
            return vec![];
        }
        proof.pending = Pending::Handshake(now.uptime.plus(patience));
        if let Some(contact) = self.contacts.get_mut(&controller) {
            contact.link = Link::Dialing { generation: next };
        }
        vec![Effect::Replace { controller, generation: next }]
    }

    pub(super) fn proving_tick(&mut self, now: Now, mut proof: Proof) -> RouterStep {
        let Phase::Proving { live, next, .. } = self.phase else { return Step::free(vec![]) };
        match proof.pending {
            Pending::Answer(until) | Pending::Handshake(until) if now.uptime < until => return Step::free(vec![]),
            Pending::Handshake(_) => return self.proof_failed(now, next),
            Pending::Answer(_) => {
                // The answer is lost or late. It is unknown which leaf stands, and a handshake tells.
                let then = self.shake_hands(now, next, &mut proof);
                self.phase = Phase::Proving { live, next, proof };
                return Step::free(then);
            }
            Pending::Nothing => {}
        }
        let is_over = now.uptime >= proof.until && proof.tries > 0;
        if is_over || self.is_hopeless(now, &proof) {
            let retry_in = self.count_failure(now);
            self.phase = Phase::Steady { live };
            let failure = Failure::Unproven;
            return Step::free(vec![Effect::Report(Event::AttemptFailed { number: next, failure, retry_in })]);
        }
        if now.uptime < proof.next_try {
            return Step::free(vec![]);
        }
        let Some((_, contact)) = self.reachable(next) else {
            // Nobody to ask. Dials go on with every candidate in turn; only the window ends this.
            proof.tries = proof.tries.max(u32::from(now.uptime >= proof.until));
            self.phase = Phase::Proving { live, next, proof };
            return Step::free(vec![]);
        };
        let imported = self.manifest.candidate(next).is_some_and(|c| c.origin == Origin::Imported);
        let then = if imported || contact.verified == Some(next) {
            self.shake_hands(now, next, &mut proof)
        } else {
            self.send_verify(now, next, &mut proof)
        };
        self.phase = Phase::Proving { live, next, proof };
        Step::free(then)
    }

    /// Neither proof nor disproof: try again after a while, as long as the window is open.
    pub(super) fn proof_failed(&mut self, now: Now, generation: GenerationNumber) -> RouterStep {
        let wait = self.policy.backoff(self.proof_tries().saturating_add(1), self.salt(), self.life());
        if let Phase::Proving { next, proof, .. } = &mut self.phase
            && *next == generation
        {
            proof.tries = proof.tries.saturating_add(1);
            proof.pending = Pending::Nothing;
            proof.next_try = now.uptime.plus(wait);
        }
        Step::free(vec![])
    }

    /// A controller said no to the 20303, and then refused the leaf itself.
    pub(super) fn note_denial(&mut self, generation: GenerationNumber) {
        if let Phase::Proving { next, proof, .. } = &mut self.phase
            && *next == generation
            && core::mem::take(&mut proof.was_error)
        {
            proof.denials = proof.denials.saturating_add(1).min(DENIALS_MAX);
        }
    }

    /// Every controller has denied this leaf again and again: it was replaced there, and only a new attempt helps. That begins as soon as the
    /// spacing of attempts allows, instead of at the end of the window; the leaf stays a candidate.
    fn is_hopeless(&self, now: Now, proof: &Proof) -> bool {
        let up = self.contacts.values().filter(|contact| contact.is_up()).count();
        let enough = u32::try_from(up).unwrap_or(u32::MAX).saturating_mul(DENIALS_EACH).min(DENIALS_MAX);
        up > 0 && proof.denials >= enough && self.spacing_left(now).is_zero()
    }

    pub(super) fn proof_tries(&self) -> u32 {
        match &self.phase {
            Phase::Proving { proof, .. } => proof.tries,
            Phase::Steady { .. }
            | Phase::Prepared { .. }
            | Phase::Requested { .. }
            | Phase::Staged { .. }
            | Phase::Promoted { .. }
            | Phase::Lapsed { .. } => 0,
        }
    }
}
