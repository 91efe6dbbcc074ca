//! What our router does and hears: effects on their way out, messages on their way in.

use lifecycle::renewal::{DialOutcome, Effect, Event as Said, Input, Issued, ProofOutcome, VerifyAnswer};
use lifecycle::{Fingerprint, GenerationNumber, KeyId, Leaf};
use store::generation::digest_of;

use super::super::{Purpose, World};
use crate::claims::{Claim, nothing_is_retired_unproven, what_is_shown_is_durable};
use crate::message::Message;
use crate::paper;
use crate::plan::Make;

impl World {
    pub(super) fn perform(&mut self, router: usize, effect: Effect) {
        match effect {
            Effect::Dial { controller, generation } => {
                self.exuvia_opens(router, &controller, generation, Purpose::Channel)
            }
            Effect::Replace { controller, generation } => {
                let Some(at) = self.controller_at(&controller) else { return };
                if let Some(open) = self.links_mut(router).and_then(|links| links.channels.remove(&at)) {
                    self.send_to_controller(router, at, Message::Closed { channel: open.id });
                }
                self.exuvia_opens(router, &controller, generation, Purpose::Channel);
            }
            Effect::Prove { controller, generation } => {
                self.exuvia_opens(router, &controller, generation, Purpose::Prove);
            }
            Effect::Request { controller, number, present } => {
                let Some(at) = self.controller_at(&controller) else { return };
                let Some(key) = self.process(router).and_then(|process| process.prepared_key(number)) else { return };
                self.counts.requests += 1;
                match self.plan.controller_make {
                    Make::Exuvia => self.exuvia_asks(router, at, key),
                    // Without groups there is one underlay, and it shows what was admitted.
                    Make::Stock => match present.filter(|_| self.plan.are_grouped) {
                        Some(present) => self.exuvia_opens(router, &controller, present, Purpose::Ask(key)),
                        None => self.exuvia_asks(router, at, key),
                    },
                }
            }
            Effect::Verify { controller, number } => {
                let Some(at) = self.controller_at(&controller) else { return };
                let Some(leaf) = self.process(router).and_then(|process| process.leaves.get(&number)).copied() else {
                    return;
                };
                self.claim_shown(router, &leaf);
                self.counts.verifies += 1;
                self.watch_answer(router, number, None);
                let channel = self.links(router).and_then(|links| links.channels.get(&at)).map(|open| open.id);
                if let Some(channel) = channel {
                    self.send_to_controller(router, at, Message::Verify { channel, fingerprint: leaf.fingerprint });
                }
            }
            Effect::Publish(number) => {
                let Some(process) = self.process_mut(router) else { return };
                let is_first = process.published.is_none();
                let is_proven = process.admitted.contains(&number) || process.published == Some(number);
                process.published = Some(number);
                if !is_first && !is_proven {
                    let found = format!("{number} is published and was never admitted to this process");
                    self.claim(router, Claim::OnlyAnAdmittedGenerationIsPublished, Err(found));
                }
            }
            Effect::Trim(number) => self.trim(router, number),
            // Not written blindly: somebody may have put another identity there.
            Effect::Project(_) => self.look_soon(router, 1),
            Effect::Erase(numbers) => {
                let Some(process) = self.process_mut(router) else { return };
                let _ = process.store.erase(&numbers);
                if self.disk_is_down(router) {
                    return self.power_cut_now(router);
                }
                self.survey(router);
                self.check_identity(router);
            }
            Effect::Report(said) => self.said(router, &said),
        }
    }

    fn trim(&mut self, router: usize, newest: GenerationNumber) {
        let Some(process) = self.process_mut(router) else { return };
        let leaves = &process.leaves;
        let number_of = |leaf: &Leaf| leaves.iter().find(|(_, l)| l.fingerprint == leaf.fingerprint).map(|(n, _)| *n);
        let mut closed = Vec::new();
        for (controller, open) in &mut process.links.channels {
            if open.underlays.iter().any(|(_, leaf)| number_of(leaf) == Some(newest)) {
                let is_old = |leaf: &Leaf| number_of(leaf).is_some_and(|number| number < newest);
                closed.extend(
                    open.underlays.iter().filter(|(_, l)| is_old(l)).map(|(id, _)| (*controller, open.id, *id)),
                );
                open.underlays.retain(|(_, leaf)| !is_old(leaf));
            }
        }
        for (controller, channel, underlay) in closed {
            self.send_to_controller(router, controller, Message::UnderlayClosed { channel, underlay });
        }
    }

    fn said(&mut self, router: usize, said: &Said) {
        self.note(|| format!("router {router} says: {said:?}"));
        let wall = self.router_now(router).wall;
        match said {
            Said::Promoted { number, .. } => {
                self.counts.renewals += 1;
                if let Some(host) = self.routers.get_mut(router) {
                    host.renewals += 1;
                }
                let is_proven = self.process(router).is_some_and(|process| process.admitted.contains(number));
                if !is_proven {
                    let found = format!("{number} is called promoted and was never admitted to this process");
                    self.claim(router, Claim::OnlyAnAdmittedGenerationIsPublished, Err(found));
                }
                self.erase_older(router, *number);
            }
            Said::Retired(numbers) => {
                self.counts.retired += numbers.len() as u64;
                let Some(process) = self.process(router) else { return };
                let newest = process.machine.as_ref().map_or(GenerationNumber(0), |m| m.manifest().last_number);
                let leaves: Vec<_> =
                    numbers.iter().map(|number| (*number, process.leaves.get(number).copied())).collect();
                let latest = wall.max(process.latest_wall);
                let result = nothing_is_retired_unproven(&leaves, |n| process.admitted.contains(&n), latest, newest);
                // Whoever's clock was ahead when he retired, and whose stock database is restored after that, is outside the promise.
                let gone = |leaf: &Leaf| leaves.iter().any(|(_, known)| known.is_some_and(|known| known == *leaf));
                let held =
                    self.routers.get(router).map(|host| host.held.iter().filter(|leaf| !gone(leaf)).copied().collect());
                if let (Some(host), Some(held)) = (self.routers.get_mut(router), held) {
                    host.held = held;
                }
                self.claim(router, Claim::NothingIsRetiredBeforeALaterOneWasAdmittedAfterItsEnd, result);
            }
            Said::AttemptFailed { .. } => self.counts.failed_rounds += 1,
            Said::Blocked(_) => self.counts.blocked += 1,
            Said::Lapsed => self.counts.lapsed += 1,
            _ => {}
        }
    }

    fn exuvia_opens(
        &mut self,
        router: usize,
        controller: &lifecycle::ControllerId,
        number: GenerationNumber,
        purpose: Purpose,
    ) {
        let Some(at) = self.controller_at(controller) else { return };
        let known = self.process_mut(router).and_then(|process| process.leaf(number));
        if self.disk_is_down(router) {
            return self.power_cut_now(router);
        }
        let Some(leaf) = known else {
            // It cannot be read, still: the next one's turn.
            if purpose == Purpose::Channel {
                let controller = controller.clone();
                self.give(router, Input::Dialed { controller, generation: number, outcome: DialOutcome::Refused });
            }
            return;
        };
        self.claim_shown(router, &leaf);
        self.dial(router, at, leaf, purpose);
    }

    pub(crate) fn exuvia_asks(&mut self, router: usize, controller: usize, key: KeyId) {
        // Keys that a crash may lose must not be certified: the answer would be worthless.
        let Some(channel) = self.links(router).and_then(|links| links.channels.get(&controller)).map(|open| open.id)
        else {
            return;
        };
        self.send_to_controller(router, controller, Message::Extend { channel, asked: paper::asked(key) });
    }

    pub(crate) fn exuvia_dialed(&mut self, router: usize, controller: usize, leaf: Leaf, outcome: DialOutcome) {
        let is_admitted = matches!(outcome, DialOutcome::Admitted { .. });
        let Some((id, generation)) = self.which(router, controller, &leaf, is_admitted) else { return };
        self.tell(router, Input::Dialed { controller: id, generation, outcome });
    }

    pub(crate) fn exuvia_proved(&mut self, router: usize, controller: usize, leaf: Leaf, outcome: ProofOutcome) {
        let Some((id, generation)) = self.which(router, controller, &leaf, outcome == ProofOutcome::Admitted) else {
            return;
        };
        self.tell(router, Input::Proved { controller: id, generation, outcome });
    }

    fn which(
        &mut self,
        router: usize,
        controller: usize,
        leaf: &Leaf,
        is_admitted: bool,
    ) -> Option<(lifecycle::ControllerId, GenerationNumber)> {
        let id = self.controllers.get(controller)?.id.clone();
        let process = self.process_mut(router)?;
        let number = *process.leaves.iter().find(|(_, known)| known.fingerprint == leaf.fingerprint)?.0;
        if is_admitted {
            process.admitted.insert(number);
        }
        Some((id, number))
    }

    pub(crate) fn exuvia_lost_channel(&mut self, router: usize, controller: usize) {
        let Some(id) = self.controllers.get(controller).map(|host| host.id.clone()) else { return };
        self.tell(router, Input::ChannelClosed { controller: id });
    }

    pub(crate) fn exuvia_gets_leaves(&mut self, router: usize, client: Leaf, server: Leaf) {
        let Some(process) = self.process_mut(router) else { return };
        let Some((number, keys, key)) = process.keys.clone() else { return };
        if client.key != key || server.key != key {
            return;
        }
        let files = paper::files(keys, &client, &server);
        let issued = Issued { client, server, digest: digest_of(number, &files) };
        process.arrived = Some((number, files));
        self.tell(router, Input::Issued { number, issued });
    }

    pub(crate) fn exuvia_is_answered(
        &mut self,
        router: usize,
        controller: usize,
        fingerprint: Fingerprint,
        is_success: bool,
    ) {
        let Some(id) = self.controllers.get(controller).map(|host| host.id.clone()) else { return };
        let Some(process) = self.process(router) else { return };
        let Some(number) = process.leaves.iter().find(|(_, leaf)| leaf.fingerprint == fingerprint).map(|(n, _)| *n)
        else {
            return;
        };
        let answer = if is_success { VerifyAnswer::Success } else { VerifyAnswer::Error };
        if is_success {
            self.process_mut(router).map(|process| process.confirmed.insert(number));
        } else {
            self.watch_answer(router, number, Some(1));
        }
        self.tell(router, Input::VerifyAnswered { controller: id, number, answer });
    }

    fn claim_shown(&mut self, router: usize, leaf: &Leaf) {
        let result = what_is_shown_is_durable(self, router, leaf);
        self.claim(router, Claim::NothingIsSentBeforeItIsDurable, result);
    }

    fn controller_at(&self, id: &lifecycle::ControllerId) -> Option<usize> {
        self.controllers.iter().position(|host| host.id == *id)
    }
}
