//! Our controller: the machine of `lifecycle` over a register with a group commit.

use lifecycle::issuance::{Answer, Commit, ConfirmRefusal, Input, LeafStage, Opening, Record, RequestRefusal};
use lifecycle::{Durable, UnixTime};

use super::Turn;
use crate::claims::Claim;
use crate::paper::{Paper, asked};
use crate::scope::Mistake;
use crate::seen::Sight;
use crate::state::{Body, Channel, Control, Desk, Hello, Matter, Message, Purpose, Waiting};
use crate::story::Actor;

/// Without what nobody decides on.
fn settled(mut record: Record) -> Record {
    for leaf in &mut record.leaves {
        leaf.issued_at = UnixTime::default();
    }
    if let Some(fork) = &mut record.fork {
        fork.at = UnixTime::default();
    }
    record
}

/// Nobody here looks at addresses.
fn opening(hello: Hello) -> Opening {
    match hello.purpose {
        Purpose::Channel => Opening::Channel { from: None, beside: None },
        Purpose::Prove | Purpose::Ask(..) => Opening::Underlay { from: None },
    }
}

fn epoch_of(record: &Record) -> u8 {
    u8::try_from(record.epoch.0).unwrap_or(u8::MAX)
}

impl Turn<'_> {
    pub(crate) fn desk(&mut self) -> Option<&mut Desk> {
        match &mut self.state.control {
            Control::Exuvia(desk) => Some(desk),
            Control::Stock(_) => None,
        }
    }

    pub(crate) fn exuvia_controller_receives(&mut self, message: Message) -> bool {
        let node = message.node;
        match message.body {
            Body::Hello(hello) => {
                let leaf = hello.paper.leaf(self.scope);
                self.submit(node, Matter::Hello(hello), Input::Use { leaf, opens: opening(hello) });
            }
            Body::Extend { key, epoch } => {
                let believed = self.believed(epoch);
                let issuer_not_after = UnixTime::from_s(i64::MAX / 4000);
                let input = Input::Request {
                    epoch: lifecycle::issuance::Epoch(believed.into()),
                    asked: asked(key),
                    issuer_not_after,
                };
                self.submit(node, Matter::Extend(key, epoch), input);
            }
            Body::Signed { key, epoch, signed_at } => {
                let Some(paper) = self.next_paper(key, epoch, signed_at) else { return true };
                let leaf = paper.leaf(self.scope);
                let believed = self.believed(paper.epoch);
                let input = Input::Store {
                    epoch: lifecycle::issuance::Epoch(believed.into()),
                    asked: asked(paper.key),
                    client: leaf,
                    server: leaf,
                };
                self.submit(node, Matter::Extend(paper.key, paper.epoch), input);
            }
            Body::Verify { paper, epoch } => {
                if self.state.channels.get(usize::from(node)).is_some_and(Option::is_none) {
                    self.sight(Sight::LateVerify);
                }
                let believed = self.believed(epoch);
                let fingerprint = paper.leaf(self.scope).fingerprint;
                let input = Input::Confirm { epoch: lifecycle::issuance::Epoch(believed.into()), fingerprint };
                self.submit(node, Matter::Verify(paper), input);
            }
            Body::Welcome(_)
            | Body::Refused(_)
            | Body::Extended { .. }
            | Body::Verified { .. }
            | Body::Promoting { .. } => return false,
        }
        true
    }

    /// The epoch that a request is judged by: its channel's. The mistake takes the record's word for it.
    fn believed(&mut self, epoch: u8) -> u8 {
        match self.scope.mistake {
            Some(Mistake::EpochNotRechecked) => self.desk().map_or(epoch, |desk| epoch_of(&desk.durable)),
            _ => epoch,
        }
    }

    /// One input to the record as the open transaction would leave it.
    pub(crate) fn submit(&mut self, node: u8, matter: Matter, input: Input) {
        let now = self.controller_now(node);
        let policy = self.scope.issuance();
        let mistake = self.scope.mistake;
        let confirms = matches!(input, Input::Confirm { .. });
        let stores = matches!(input, Input::Store { .. });
        let used = if let Input::Use { leaf, .. } = &input { Some(*leaf) } else { None };
        let Some(desk) = self.desk() else { return };
        let record = desk.tip.as_deref().unwrap_or(&desk.durable);
        if mistake == Some(Mistake::SingleFingerprint)
            && let Some(leaf) = used
            && record.leaf(leaf.fingerprint).is_none_or(|issued| issued.stage == LeafStage::Pending)
        {
            let refusal = lifecycle::issuance::AdmissionRefusal::Unknown;
            return self.answer(node, matter, Answer::RefuseAdmission(refusal));
        }
        let (commit, held) = record.step(now, &policy, input).split();
        let answer = held.release(Durable::after_commit());
        let mut changed = commit.and_then(|Commit { record, .. }| record).map(settled);
        if confirms && let (Answer::Confirmed(seq), Some(record)) = (answer, &mut changed) {
            match mistake {
                Some(Mistake::SingleFingerprint) => record.leaves.retain(|leaf| leaf.seq == seq),
                Some(Mistake::ConfirmRemovesOld) => record.leaves.retain(|leaf| leaf.seq >= seq),
                _ => {}
            }
        }
        let is_dirty = desk.tip.is_some();
        match changed {
            Some(changed) => {
                desk.tip = Some(Box::new(changed));
                self.state.signed += u8::from(stores);
            }
            // A record that waits for a commit makes its readers wait too.
            None if is_dirty => {}
            None => return self.answer(node, matter, answer),
        }
        if mistake == Some(Mistake::AnswerBeforeCommit) {
            self.answer(node, matter, answer);
        } else if let Some(desk) = self.desk() {
            desk.waiting.push(Waiting { node, matter, answer });
        }
        // Where nothing can undo a transaction, one that ends later is an answer that comes later.
        let can_be_undone = self.state.left.controller_crashes > 0 || self.scope.revokes || self.scope.re_enrolls;
        if !can_be_undone {
            self.commit(None);
        }
    }

    /// The transaction ends well, and everybody who waited hears of it, except a controller that dies in that moment.
    pub(crate) fn commit(&mut self, dies: Option<u8>) -> bool {
        let crashes = self.state.left.controller_crashes;
        let Some(desk) = self.desk() else { return false };
        if dies.is_some_and(|node| crashes == 0 || !desk.waiting.iter().any(|waiting| waiting.node == node)) {
            return false;
        }
        let Some(tip) = desk.tip.take() else { return false };
        desk.durable = *tip;
        let waiting = std::mem::take(&mut desk.waiting);
        self.story.note(Actor::Register, || "commit".to_owned());
        for waiting in waiting {
            if dies != Some(waiting.node) {
                self.answer(waiting.node, waiting.matter, waiting.answer);
            } else if let Matter::Hello(hello) = waiting.matter {
                // The dialing side sees its connection close.
                self.send(waiting.node, Body::Refused(hello));
            }
        }
        if let Some(node) = dies {
            self.state.left.controller_crashes -= 1;
            self.sight(Sight::DiedBeforeAnswer);
            self.story.note(Actor::Controller(node), || "killed before it has answered".to_owned());
            self.controller_is_gone(node);
        }
        true
    }

    /// What is said and done. Every answer is judged by what a restarted controller would read.
    fn answer(&mut self, node: u8, matter: Matter, answer: Answer) {
        let Some(durable) = self.desk().map(|desk| desk.durable.clone()) else { return };
        let is_durable = match answer {
            Answer::Admit(admitted) => {
                durable.epoch != admitted.epoch || durable.last_used.is_some_and(|last| last.seq >= admitted.seq)
            }
            Answer::Confirmed(seq) => durable.leaf_at(seq).is_none_or(|leaf| leaf.stage != LeafStage::Pending),
            // Withdrawn in the same transaction: nothing is sent.
            Answer::Send(seq) => {
                let is_current = matches!(matter, Matter::Extend(_, epoch) if epoch == epoch_of(&durable));
                !is_current || durable.leaf_at(seq).is_some() || durable.last_seq > seq
            }
            _ => true,
        };
        self.claim(Claim::ControllerDurableFirst, is_durable);
        match (matter, answer) {
            (Matter::Hello(hello), Answer::Admit(admitted)) => {
                let holds = u64::from(hello.paper.epoch) == admitted.epoch.0 || self.state.operator.has_restored;
                self.claim(Claim::EpochHolds, holds);
                if durable.restored_from.is_some()
                    && durable.leaf_at(admitted.seq).is_some_and(|leaf| leaf.issued_at == UnixTime::default())
                {
                    self.sight(Sight::Readmitted);
                }
                if durable.leaf_at(admitted.seq).is_some() || self.scope.mistake == Some(Mistake::AnswerBeforeCommit) {
                    self.admits(node, hello, u8::try_from(admitted.epoch.0).unwrap_or(u8::MAX));
                } else if hello.is_awaited {
                    // Withdrawn in the same transaction.
                    self.send(node, Body::Refused(hello));
                }
            }
            (Matter::Hello(hello), _) => {
                if hello.is_awaited {
                    self.send(node, Body::Refused(hello));
                }
            }
            (Matter::Extend(key, epoch), Answer::Sign) => {
                let signed_at = self.clock_of(node);
                self.send(node, Body::Signed { key, epoch, signed_at });
            }
            (Matter::Extend(_, epoch), Answer::Send(seq)) => {
                let is_current = epoch_of(&durable) == epoch || self.scope.mistake.is_some();
                let mistaken = self.desk().and_then(|desk| desk.tip.as_deref().cloned());
                let held = durable.leaf_at(seq).copied().or(mistaken.and_then(|tip| tip.leaf_at(seq).copied()));
                if let Some(held) = held.filter(|_| is_current) {
                    let paper = Paper::of(&held.client);
                    let holds = u64::from(paper.epoch) == durable.epoch.0;
                    self.claim(Claim::EpochHolds, holds || self.state.operator.has_restored);
                    if durable.leaves.iter().filter(|leaf| leaf.stage != LeafStage::Used).count() > 1 {
                        self.sight(Sight::Overlapped);
                    }
                    self.send(node, Body::Extended { paper });
                }
            }
            (Matter::Extend(..), Answer::RefuseRequest(RequestRefusal::StaleChannel)) => {
                self.sight(Sight::StaleRefused);
            }
            (Matter::Verify(paper), answer) => {
                if answer == Answer::RefuseConfirm(ConfirmRefusal::StaleChannel) {
                    self.sight(Sight::StaleRefused);
                }
                let is_success = matches!(answer, Answer::Confirmed(_));
                self.send(node, Body::Verified { paper, is_success });
            }
            (_, Answer::CloseChannels) => self.state.channels = [None; 2],
            (Matter::Extend(..) | Matter::Operator, _) => {}
        }
    }

    /// A Result with success; the channel that it displaces is closed.
    fn admits(&mut self, node: u8, hello: Hello, epoch: u8) {
        let Some(channel) = self.state.channels.get_mut(usize::from(node)) else { return };
        let opens = hello.purpose == Purpose::Channel;
        // A hello whose router is gone opens nothing that lasts.
        let joins = channel.is_some();
        if !hello.is_awaited {
            return;
        }
        if opens || joins {
            *channel = Some(Channel { epoch, leaf: hello.paper });
            self.send(node, Body::Welcome(hello));
        } else {
            self.send(node, Body::Refused(hello));
        }
    }
}
