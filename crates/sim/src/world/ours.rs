//! Our controller: the real `issuance` machine over the register, and a door.

use lifecycle::issuance::{Admitted, Answer, Input, Opening};
use lifecycle::{KeyId, Leaf};

use super::{Channel, Event, World};
use crate::claims::Claim;
use crate::message::{ChannelId, Message, UnderlayId};
use crate::register::{Asker, Matter};

impl World {
    pub(crate) fn ours_receives(&mut self, controller: usize, router: usize, message: Message) {
        match message {
            Message::Hello { underlay, router: who, leaf, group } if !self.is_own_name(who, &leaf) => {
                self.borrowed_name(controller, who, underlay, leaf, group);
            }
            Message::Hello { underlay, router: who, leaf, group } => {
                let opens = match group {
                    Some(_) => Opening::Underlay { from: None },
                    None => Opening::Channel { from: None, beside: None },
                };
                self.submit(controller, who, Matter::Hello { underlay, group }, Input::Use { leaf, opens });
            }
            Message::Extend { channel, asked } => {
                let Some(epoch) = self.epoch_of(controller, router, channel) else { return };
                let issuer_not_after = self.true_now(controller).plus(self.plan.leaf_life * 100);
                let matter = Matter::Extend { asked, epoch };
                self.submit(controller, router, matter, Input::Request { epoch, asked, issuer_not_after });
            }
            Message::Verify { channel, fingerprint } => {
                let Some(epoch) = self.epoch_of(controller, router, channel) else { return };
                self.submit(controller, router, Matter::Verify { fingerprint }, Input::Confirm { epoch, fingerprint });
            }
            Message::Closed { .. } | Message::UnderlayClosed { .. } => {
                self.controller_loses(controller, router, &message)
            }
            Message::Welcome { .. } | Message::Refused { .. } | Message::Extended { .. } | Message::Verified { .. } => {
            }
        }
    }

    /// The channel's epoch; a channel that is not known here is closed.
    fn epoch_of(&mut self, controller: usize, router: usize, channel: ChannelId) -> Option<lifecycle::issuance::Epoch> {
        let open = self.controllers.get(controller)?.channels.get(&router).filter(|open| open.id == channel);
        if let Some(open) = open {
            return Some(open.epoch);
        }
        self.send_to_router(controller, router, Message::Closed { channel });
        None
    }

    pub(crate) fn controller_loses(&mut self, controller: usize, router: usize, message: &Message) {
        let Some(host) = self.controllers.get_mut(controller) else { return };
        let Some(open) = host.channels.get_mut(&router) else { return };
        let is_over = match *message {
            Message::Closed { channel } => open.id == channel,
            Message::UnderlayClosed { channel, underlay } if open.id == channel => {
                open.underlays.retain(|(id, _)| *id != underlay);
                open.underlays.is_empty()
            }
            _ => false,
        };
        if is_over {
            host.channels.remove(&router);
        }
    }

    pub(crate) fn ours_answers(&mut self, asker: Asker, answer: Answer) {
        let Asker { controller, router, ref matter, .. } = asker;
        match (matter, answer) {
            (Matter::Hello { underlay, group }, Answer::Admit(admitted)) => {
                self.ours_admits(controller, router, *underlay, *group, admitted);
            }
            (Matter::Hello { underlay, .. }, answer) => {
                self.note(|| format!("controller {controller} refuses router {router}: {answer:?}"));
                self.counts.refusals += 1;
                self.send_to_router(controller, router, Message::Refused { underlay: *underlay });
            }
            (Matter::Extend { asked, .. }, Answer::Sign) => {
                let key: KeyId = asked.client_key;
                let (client, server) = self.sign(controller, router, key);
                self.counts.signatures += 1;
                let after_ms = self.dice_of(router).between(1, 20);
                self.at(after_ms, Event::Signed { asker: asker.clone(), client, server });
            }
            (Matter::Extend { epoch, .. }, Answer::Send(seq)) => {
                let Some(record) = self.register.record(router) else { return };
                if record.epoch != *epoch {
                    // Revoked or enrolled anew in the same transaction; its channel is closed.
                    return;
                }
                match record.leaf_at(seq).copied() {
                    Some(held) => {
                        let message = Message::Extended { client: held.client, server: held.server };
                        self.send_to_router(controller, router, message);
                    }
                    // Replaced in the same transaction by a later request; whoever made that one gets the answer.
                    None if record.last_seq > seq => {}
                    None => {
                        let found = format!("leaf {seq:?} is sent and the register does not hold it");
                        self.claim(router, Claim::NothingIsAnsweredBeforeItIsDurable, Err(found));
                    }
                }
            }
            (Matter::Verify { fingerprint, .. }, answer) => {
                let is_success = matches!(answer, Answer::Confirmed(_));
                let message = Message::Verified { fingerprint: *fingerprint, is_success };
                self.send_to_router(controller, router, message);
            }
            (_, Answer::CloseChannels) => {
                for at in 0..self.controllers.len() {
                    let closed = self.controllers.get_mut(at).and_then(|host| host.channels.remove(&router));
                    if let Some(open) = closed {
                        self.send_to_router(at, router, Message::Closed { channel: open.id });
                    }
                }
            }
            (Matter::Extend { .. } | Matter::Operator, _) => {}
        }
    }

    fn ours_admits(
        &mut self,
        controller: usize,
        router: usize,
        underlay: UnderlayId,
        group: Option<ChannelId>,
        admitted: Admitted,
    ) {
        let Some(leaf) = self.register.record(router).and_then(|record| record.leaf_at(admitted.seq)).map(|l| l.client)
        else {
            return;
        };
        self.check_name(router, &leaf);
        match group {
            Some(channel) => {
                let open = self.controllers.get_mut(controller).and_then(|host| host.channels.get_mut(&router));
                match open.filter(|open| open.id == channel) {
                    Some(open) if open.underlays.iter().any(|(id, _)| *id == underlay) => {}
                    Some(open) => {
                        open.underlays.push((underlay, leaf));
                        self.send_to_router(controller, router, Message::Welcome { underlay, channel, window: None });
                    }
                    None => self.send_to_router(controller, router, Message::Refused { underlay }),
                }
            }
            None => self.opens(controller, router, underlay, leaf, admitted.epoch),
        }
    }

    /// A new channel; the one that it displaces is closed first, so that there are never two.
    pub(crate) fn opens(
        &mut self,
        controller: usize,
        router: usize,
        underlay: UnderlayId,
        leaf: Leaf,
        epoch: lifecycle::issuance::Epoch,
    ) {
        let is_double = self
            .controllers
            .get(controller)
            .and_then(|host| host.channels.get(&router))
            .is_some_and(|open| open.underlays.iter().any(|(id, _)| *id == underlay));
        if is_double {
            return;
        }
        self.check_name(router, &leaf);
        let id = self.fresh(router);
        let open = Channel { id, since_ms: self.now_ms, underlays: vec![(underlay, leaf)], epoch };
        let displaced = self.controllers.get_mut(controller).and_then(|host| host.channels.insert(router, open));
        if let Some(displaced) = displaced {
            self.send_to_router(controller, router, Message::Closed { channel: displaced.id });
        }
        self.send_to_router(controller, router, Message::Welcome { underlay, channel: id, window: None });
    }

    pub(crate) fn signed(&mut self, asker: Asker, client: Leaf, server: Leaf) {
        let is_alive = self.controllers.get(asker.controller).is_some_and(|host| host.is_up && host.life == asker.life);
        if let (true, Matter::Extend { asked, epoch, .. }) = (is_alive, asker.matter.clone()) {
            let input = Input::Store { epoch, asked, client, server };
            self.submit(asker.controller, asker.router, asker.matter, input);
        }
    }

    /// P2 on the controller: what an answer says is in the durable record.
    pub(crate) fn check_answer(&mut self, router: usize, answer: &Answer) {
        let Some(record) = self.register.record(router) else { return };
        let is_durable = match answer {
            Answer::Admit(admitted) => {
                record.epoch != admitted.epoch || record.last_used.is_some_and(|last| last.seq >= admitted.seq)
            }
            Answer::Confirmed(seq) => {
                record.leaf_at(*seq).is_none_or(|leaf| leaf.stage != lifecycle::issuance::LeafStage::Pending)
            }
            _ => true,
        };
        if !is_durable {
            let found = format!("{answer:?} leaves and the register does not know it");
            self.claim(router, Claim::NothingIsAnsweredBeforeItIsDurable, Err(found));
        }
    }
}
