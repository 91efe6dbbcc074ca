//! 20302 adds, 20303 confirms. Neither removes what the router may still depend on.

use super::{
    Answer, Asked, Audit, Epoch, IssuancePolicy, IssuedLeaf, LeafStage, Outcome, Record, Standing, changed, noted,
    unchanged,
};
use crate::facts::{Fingerprint, Leaf, Now, UnixTime};

/// Why an extension is not answered with leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RequestRefusal {
    /// The channel speaks for an enrollment that is no longer in force.
    StaleChannel,
    /// The router may not connect, so it may not renew.
    NotActive,
    /// The router has no admitted leaf: enrollment comes first.
    NotEnrolled,
    /// The issuer ends so soon that the new leaf would be worth less than the old one.
    IssuerEndsSoon,
    /// There may be two holders of the router's leaves, and nothing more is kept for both of them until the operator has decided.
    Forked,
}

impl RequestRefusal {
    /// A sentence for the log, the alarm and the router.
    pub fn reason(self) -> &'static str {
        match self {
            Self::StaleChannel => "the router was enrolled anew or revoked since this channel was admitted",
            Self::NotActive => "the router is disabled or revoked",
            Self::NotEnrolled => "the router is not enrolled",
            Self::IssuerEndsSoon => {
                "the signing certificate ends so soon that the new leaf would not outlive the old one"
            }
            Self::Forked => {
                "an older leaf of this router came back after a newer one was used; the operator has to say which one lives"
            }
        }
    }
}

/// Why a 20303 is answered with an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConfirmRefusal {
    /// The channel speaks for an enrollment that is no longer in force.
    StaleChannel,
    /// No leaf waits for confirmation.
    NothingPending,
    /// The leaf that it names was not issued to this router, was replaced since, or is not admitted any more.
    NotThatLeaf,
}

impl Record {
    pub(super) fn request(
        &self,
        now: Now,
        policy: &IssuancePolicy,
        epoch: Epoch,
        asked: Asked,
        issuer_not_after: UnixTime,
    ) -> Outcome {
        if let Err(refusal) = self.may_extend(epoch) {
            return refuse(refusal);
        }
        if let Some(same) = self.repeatable(now, policy, asked) {
            return unchanged(Answer::Send(same.seq));
        }
        if self.is_full_of_frozen() {
            return refuse(RequestRefusal::Forked);
        }
        let life = issuer_not_after.since(now.wall).min(policy.leaf_life);
        let last_used = self.last_used.and_then(|last| self.leaf_at(last.seq));
        let outlives = last_used.is_none_or(|last| now.wall.plus(life) > last.client.not_after);
        if life.is_zero() || (life < policy.shortest_life && !outlives) {
            return refuse(RequestRefusal::IssuerEndsSoon);
        }
        unchanged(Answer::Sign)
    }

    pub(super) fn store(
        &self,
        now: Now,
        policy: &IssuancePolicy,
        epoch: Epoch,
        asked: Asked,
        client: Leaf,
        server: Leaf,
    ) -> Outcome {
        if let Err(refusal) = self.may_extend(epoch) {
            return refuse(refusal);
        }
        // Two controllers may have signed for the same request; whoever committed first gave the answer.
        if let Some(same) = self.repeatable(now, policy, asked) {
            return unchanged(Answer::Send(same.seq));
        }
        if Self::is_stale(now, &client) {
            return unchanged(Answer::Sign);
        }
        let (record, seq) = self.with_leaf(now, asked, client, server);
        changed(record, Audit::Issued(seq), Answer::Send(seq))
    }

    pub(super) fn with_leaf(&self, now: Now, asked: Asked, client: Leaf, server: Leaf) -> (Record, super::LeafSeq) {
        let seq = self.next_seq();
        let mut record = self.clone();
        record.last_seq = seq;
        record.leaves.push(IssuedLeaf { seq, client, server, asked, issued_at: now.wall, stage: LeafStage::Pending });
        record.bound_unused();
        (record, seq)
    }

    pub(super) fn confirm(&self, now: Now, policy: &IssuancePolicy, epoch: Epoch, fingerprint: Fingerprint) -> Outcome {
        if epoch != self.epoch || self.standing != Standing::Active {
            return unchanged(Answer::RefuseConfirm(ConfirmRefusal::StaleChannel));
        }
        let Some(leaf) = self.leaf(fingerprint) else {
            let anything_pending = self.leaves.iter().any(|leaf| leaf.stage == LeafStage::Pending);
            return unchanged(Answer::RefuseConfirm(if anything_pending {
                ConfirmRefusal::NotThatLeaf
            } else {
                ConfirmRefusal::NothingPending
            }));
        };
        // A router that hears success throws its old leaf away, so it hears it only of one that it can use.
        if self.check_link(now, policy, fingerprint).is_err() {
            return unchanged(Answer::RefuseConfirm(ConfirmRefusal::NotThatLeaf));
        }
        let seq = leaf.seq;
        match leaf.stage {
            LeafStage::Confirmed | LeafStage::Used => unchanged(Answer::Confirmed(seq)),
            LeafStage::Pending => {
                let mut record = self.clone();
                if let Some(leaf) = record.leaves.iter_mut().find(|leaf| leaf.seq == seq) {
                    leaf.stage = LeafStage::Confirmed;
                }
                record.bound_unused();
                record.forget_settled(now.wall);
                changed(record, Audit::Confirmed(seq), Answer::Confirmed(seq))
            }
        }
    }

    fn may_extend(&self, epoch: Epoch) -> Result<(), RequestRefusal> {
        match self.standing {
            _ if epoch != self.epoch => Err(RequestRefusal::StaleChannel),
            Standing::Disabled | Standing::Revoked => Err(RequestRefusal::NotActive),
            Standing::Active if self.leaves.is_empty() => Err(RequestRefusal::NotEnrolled),
            Standing::Active => Ok(()),
        }
    }

    /// The leaf that an earlier, identical request got, while it is unused and young: a lost answer costs nothing.
    /// Young = with more than half of what a new one would live. One that a later leaf has overtaken is of no use to anybody.
    fn repeatable(&self, now: Now, policy: &IssuancePolicy, asked: Asked) -> Option<&IssuedLeaf> {
        self.leaves.iter().rev().find(|leaf| {
            leaf.asked == asked
                && leaf.stage != LeafStage::Used
                && self.last_used.is_none_or(|last| leaf.seq > last.seq)
                && leaf.client.not_after.since(now.wall) > policy.leaf_life.min(leaf.client.life()) / 2
        })
    }
}

fn refuse(refusal: RequestRefusal) -> Outcome {
    noted(Audit::RequestRefused(refusal), Answer::RefuseRequest(refusal))
}
