//! Whom we dial, when, and with which generation.

use alloc::vec;
use alloc::vec::Vec;

use super::{Effect, Event, Phase, Renewal, RouterStep, leaf_salt};
use crate::facts::{ControllerId, GenerationNumber, Now, Uptime};
use crate::policy::mix;
use crate::renewal::{DialOutcome, Pending, Proof, ProofOutcome};
use crate::step::Step;

/// What the machine knows of one controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Contact {
    /// Is there a channel?
    pub link: Link,
    /// The leaf that it admitted last, in this process.
    pub last_admitted: Option<GenerationNumber>,
    /// The leaf whose 20303 it answered with success, until it admits one.
    pub verified: Option<GenerationNumber>,
    /// Dials in a row that reached nobody, and rounds in a row in which every candidate was refused.
    pub failures: u32,
    /// Refusals in a row: which candidate's turn it is.
    pub turn: u32,
    /// Further underlays in a row that it refused although they showed a leaf that it had admitted or confirmed, and its channel lives.
    pub refused_underlays: u32,
}

/// After so many refused further underlays a channel counts as one that none can join.
const REFUSED_UNDERLAYS_MAX: u32 = 3;

/// Is there a channel?
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Link {
    /// No; dial again at this instant.
    Down {
        /// When.
        retry_at: Uptime,
    },
    /// A dial is under way.
    Dialing {
        /// With what.
        generation: GenerationNumber,
    },
    /// Yes.
    Up {
        /// Since when.
        since: Uptime,
        /// Can further underlays join?
        grouped: bool,
    },
}

impl Contact {
    fn new(now: Now) -> Self {
        Self {
            link: Link::Down { retry_at: now.uptime },
            last_admitted: None,
            verified: None,
            failures: 0,
            turn: 0,
            refused_underlays: 0,
        }
    }

    /// Is there a channel?
    pub fn is_up(&self) -> bool {
        matches!(self.link, Link::Up { .. })
    }

    /// Is there a channel that further underlays can join?
    pub fn is_grouped(&self) -> bool {
        matches!(self.link, Link::Up { grouped: true, .. }) && !self.is_closed_to_underlays()
    }

    /// Has it refused so many further underlays that there is no use in trying another one on this channel?
    pub(super) fn is_closed_to_underlays(&self) -> bool {
        self.refused_underlays >= REFUSED_UNDERLAYS_MAX
    }

    /// Since when there has been a channel, if there is one.
    pub(super) fn up_since(&self) -> Option<Uptime> {
        match self.link {
            Link::Up { since, .. } => Some(since),
            Link::Down { .. } | Link::Dialing { .. } => None,
        }
    }

    /// A further underlay with this leaf was refused while the channel lives.
    fn underlay_refused(&mut self, generation: GenerationNumber) {
        if self.is_up() && [self.last_admitted, self.verified].contains(&Some(generation)) {
            self.refused_underlays = self.refused_underlays.saturating_add(1).min(REFUSED_UNDERLAYS_MAX);
        }
    }
}

impl Renewal {
    /// Takes over the list of controllers; what is known of those that stay is kept.
    pub(super) fn learn(&mut self, now: Now, controllers: &[ControllerId]) {
        self.contacts.retain(|id, _| controllers.contains(id));
        for id in controllers {
            self.contacts.entry(id.clone()).or_insert_with(|| Contact::new(now));
        }
    }

    pub(super) fn dials_due(&mut self, now: Now) -> Vec<Effect> {
        let orders: Vec<(ControllerId, GenerationNumber)> = self
            .contacts
            .iter()
            .filter(|(_, contact)| matches!(contact.link, Link::Down { retry_at } if now.uptime >= retry_at))
            .filter_map(|(id, contact)| Some((id.clone(), self.choose(contact)?)))
            .collect();
        let mut dials = vec![];
        for (controller, generation) in orders {
            if let Some(contact) = self.contacts.get_mut(&controller) {
                contact.link = Link::Dialing { generation };
                dials.push(Effect::Dial { controller, generation });
            }
        }
        dials
    }

    /// The leaf that this controller confirmed or admitted last, then the others, newest first, each in its turn.
    pub(super) fn choose(&self, contact: &Contact) -> Option<GenerationNumber> {
        let favourite = contact.verified.max(contact.last_admitted);
        let mut order: Vec<GenerationNumber> = favourite.into_iter().collect();
        order.extend(
            self.manifest.candidates.iter().rev().map(|c| c.number).filter(|number| Some(*number) != favourite),
        );
        order.retain(|number| self.manifest.candidate(*number).is_some());
        let count = u32::try_from(order.len()).ok().filter(|count| *count > 0)?;
        order.get(usize::try_from(contact.turn % count).ok()?).copied()
    }

    pub(super) fn dialed(
        &mut self,
        now: Now,
        controller: &ControllerId,
        generation: GenerationNumber,
        outcome: DialOutcome,
    ) -> RouterStep {
        let retry_in = self.redial_after(controller);
        let candidates = u32::try_from(self.manifest.candidates.len()).ok().filter(|count| *count > 0);
        let Some(contact) = self.contacts.get_mut(controller) else { return Step::free(vec![]) };
        match outcome {
            DialOutcome::Admitted { grouped, window } => {
                contact.link = Link::Up { since: now.uptime, grouped };
                contact.failures = 0;
                contact.turn = 0;
                contact.refused_underlays = 0;
                if window.is_some() {
                    self.advice = window;
                }
                let mut then = vec![Effect::Report(Event::Connected { controller: controller.clone(), generation })];
                self.admitted(now, controller, generation, &mut then)
            }
            DialOutcome::Refused | DialOutcome::Unreachable => {
                let is_round_over = outcome == DialOutcome::Unreachable
                    || candidates.is_none_or(|count| contact.turn.saturating_add(1).is_multiple_of(count));
                // Within a round the pauses stay alike: the leaf that is admitted must not wait for all that older ones have heaped up.
                contact.failures = contact.failures.saturating_add(u32::from(is_round_over));
                contact.link = Link::Down { retry_at: now.uptime.plus(retry_in) };
                if outcome == DialOutcome::Unreachable {
                    return Step::free(vec![]);
                }
                contact.turn = contact.turn.saturating_add(1);
                let controller = controller.clone();
                Step::free(vec![Effect::Report(Event::Refused { controller, generation, retry_in })])
            }
        }
    }

    fn redial_after(&self, controller: &ControllerId) -> core::time::Duration {
        let failures = self.contacts.get(controller).map_or(0, |contact| contact.failures);
        let whom = controller.as_str().bytes().fold(0, |salt, byte| mix(salt ^ u64::from(byte)));
        self.policy.backoff(failures.saturating_add(1), self.salt() ^ whom, self.life())
    }

    pub(super) fn channel_closed(&mut self, now: Now, controller: &ControllerId) -> RouterStep {
        let Some(contact) = self.contacts.get_mut(controller) else { return Step::free(vec![]) };
        let Link::Up { since, .. } = contact.link else { return Step::free(vec![]) };
        // A channel that lived for a while is dialed again at once; one that did not counts as a failure.
        let lived = now.uptime.since(since);
        let retry_in = if lived >= self.policy.backoff_max.min(self.life() / 20) {
            core::time::Duration::ZERO
        } else {
            self.redial_after(controller)
        };
        if let Some(contact) = self.contacts.get_mut(controller) {
            if retry_in > core::time::Duration::ZERO {
                contact.failures = contact.failures.saturating_add(1);
            }
            contact.link = Link::Down { retry_at: now.uptime.plus(retry_in) };
        }
        match &mut self.phase {
            // Whatever was under way there will not be answered any more. It counts as a try, or a controller that hangs up at every
            // 20303 would keep the attempt open for ever.
            Phase::Proving { proof: Proof { pending, next_try, tries, .. }, .. } => {
                *tries = tries.saturating_add(u32::from(*pending != Pending::Nothing));
                *pending = Pending::Nothing;
                *next_try = now.uptime;
            }
            Phase::Requested { deadline, controller: asked, .. } if asked == controller => *deadline = now.uptime,
            Phase::Steady { .. }
            | Phase::Prepared { .. }
            | Phase::Requested { .. }
            | Phase::Staged { .. }
            | Phase::Promoted { .. }
            | Phase::Lapsed { .. } => {}
        }
        Step::free(vec![Effect::Report(Event::Disconnected { controller: controller.clone() })])
    }

    pub(super) fn proved(
        &mut self,
        now: Now,
        controller: &ControllerId,
        generation: GenerationNumber,
        outcome: ProofOutcome,
    ) -> RouterStep {
        match outcome {
            ProofOutcome::Admitted => {
                if let Some(contact) = self.contacts.get_mut(controller) {
                    contact.refused_underlays = 0;
                }
                self.admitted(now, controller, generation, &mut vec![])
            }
            ProofOutcome::Refused | ProofOutcome::Unreachable => {
                if outcome == ProofOutcome::Refused {
                    self.note_denial(generation);
                    if let Some(contact) = self.contacts.get_mut(controller) {
                        contact.underlay_refused(generation);
                    }
                }
                if let Phase::Requested { controller: asked, deadline, .. } = &mut self.phase
                    && asked == controller
                {
                    // The underlay that was to carry the request was refused: ask again, presenting the next candidate.
                    *deadline = now.uptime;
                    if let Some(contact) = self.contacts.get_mut(controller) {
                        contact.turn = contact.turn.saturating_add(1);
                    }
                }
                self.proof_failed(now, generation)
            }
        }
    }

    /// A controller with a channel; the one that confirmed `number`, if any did. Which of several others is the leaf's luck, and another one
    /// after each try that proved nothing: one of them may know less than the others for as long as it likes.
    pub(super) fn reachable(&self, number: GenerationNumber) -> Option<(ControllerId, Contact)> {
        let up = || self.contacts.iter().filter(|(_, contact)| contact.is_up());
        let confirmed = up().find(|(_, contact)| contact.verified == Some(number));
        let count = up().count().max(1);
        let salt = self.manifest.candidate(number).map_or(number.0, |c| leaf_salt(&c.client));
        let turn = mix(salt).wrapping_add(u64::from(self.proof_tries()));
        let nth = usize::try_from(turn % u64::try_from(count).unwrap_or(1)).unwrap_or(0);
        confirmed.or_else(|| up().nth(nth)).map(|(id, contact)| (id.clone(), *contact))
    }
}
