//! Two holders of one router's leaves: a copied disk, a thief, or only a crash.
//!
//! An older leaf that opens a channel of its own after a newer one was used may come from a router that crashed (normal, once) or from a second
//! holder of what was one router's. The register cannot tell, so it takes nothing from either: nothing that was admitted at that moment is
//! retired before its own expiry, and an alarm names both addresses, until the operator says which leaf lives.

use core::net::IpAddr;

use super::{
    AdmissionRefusal, Answer, Audit, IssuancePolicy, IssuedLeaf, LastUsed, LeafSeq, Outcome, Record, changed, unchanged,
};
use crate::facts::{Fingerprint, Leaf, Now, UnixTime};

/// Most leaves that are kept for two holders. Far more than one router has unexpired at once, however often it raises the alarm by itself: one that
/// dials several controllers of one register, each with the leaf that it admitted last, does.
pub const FROZEN_MAX: usize = 64;

/// What a hello would open, and where it comes from, if anybody saw that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Opening {
    /// A channel of its own.
    Channel {
        /// From where.
        from: Option<IpAddr>,
        /// Another channel of this router that is open at this moment: the newest leaf shown on it, and where it comes from.
        beside: Option<(Fingerprint, IpAddr)>,
    },
    /// A further underlay of a channel that is open. Whatever leaf it shows, it is no sign of a second holder: its hello knew the group's secret.
    Underlay {
        /// From where.
        from: Option<IpAddr>,
    },
}

impl Opening {
    /// From where.
    pub fn from(self) -> Option<IpAddr> {
        match self {
            Self::Channel { from, .. } | Self::Underlay { from } => from,
        }
    }
}

/// Two holders of one router's leaves, as far as the register can see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fork {
    /// The older leaf, which came back.
    pub older: Fingerprint,
    /// The newer one, which was in use by then.
    pub newer: LeafSeq,
    /// Where the older one came from.
    pub older_from: Option<IpAddr>,
    /// Where the newer one is connected, or was first used.
    pub newer_from: Option<IpAddr>,
    /// When it was noticed.
    pub at: UnixTime,
    /// What was made of it.
    pub verdict: ForkVerdict,
}

/// What becomes of an older leaf that comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ForkVerdict {
    /// It was still admitted. So are, until they expire, all leaves up to the newer one.
    Frozen,
    /// It was out already and stays out, unless the operator readmits it.
    Refused,
}

impl Fork {
    /// Does it keep the leaf at this position from being superseded?
    pub(super) fn keeps(&self, seq: LeafSeq) -> bool {
        match self.verdict {
            ForkVerdict::Frozen => seq <= self.newer,
            ForkVerdict::Refused => false,
        }
    }
}

impl Record {
    /// Is the leaf at this position kept until it expires, because there may be two holders?
    pub(super) fn is_frozen(&self, seq: LeafSeq) -> bool {
        self.fork.is_some_and(|fork| fork.keeps(seq))
    }

    /// Is no more issued until the operator has decided? Each new leaf that is used would have to retire another one, and none may be retired.
    pub(super) fn is_full_of_frozen(&self) -> bool {
        self.leaves.iter().filter(|leaf| self.is_frozen(leaf.seq)).count() >= FROZEN_MAX
    }

    /// An admitted leaf that is older than `last` was presented.
    pub(super) fn came_back(
        &self,
        now: Now,
        policy: &IssuancePolicy,
        issued: &IssuedLeaf,
        last: LastUsed,
        opens: Opening,
        answer: Answer,
    ) -> Outcome {
        let is_told = self.fork.is_some_and(|fork| fork.keeps(last.seq));
        match opens {
            Opening::Channel { .. } if !is_told => {
                // What is superseded by now stays so: a second alarm, after a newer leaf, keeps more and brings nothing back.
                let is_in_overlap = last.is_in_overlap(now, policy);
                let mut record = self.clone();
                record.leaves.retain(|leaf| leaf.seq >= last.seq || is_in_overlap || self.is_frozen(leaf.seq));
                record.suspect(now, issued.client.fingerprint, last, opens, ForkVerdict::Frozen, answer)
            }
            // Whoever knocks again costs no commit.
            Opening::Channel { .. } | Opening::Underlay { .. } => unchanged(answer),
        }
    }

    /// A leaf was presented and is refused: superseded, or forgotten since. `None` when it is no older one of this epoch, or that is no news.
    pub(super) fn came_back_too_late(
        &self,
        now: Now,
        leaf: &Leaf,
        refusal: AdmissionRefusal,
        opens: Opening,
    ) -> Option<Outcome> {
        // A leaf that an operator vouches for by name may be this very one.
        let last = self.last_used.filter(|_| self.fork.is_none() && self.voucher.is_none())?;
        let is_out = matches!(refusal, AdmissionRefusal::Superseded | AdmissionRefusal::Unknown);
        let is_older = match self.leaf(leaf.fingerprint) {
            Some(known) => known.seq < last.seq,
            // Forgotten since: then its dates tell, which are the signer's and know no parts of a second.
            None => {
                let newer = self.leaf_at(last.seq).is_some_and(|last| leaf.not_before < last.client.not_before);
                newer && self.is_of_this_epoch(leaf)
            }
        };
        let is_unexpired = !leaf.is_expired(now.wall);
        let is_channel = matches!(opens, Opening::Channel { .. });
        (is_out && is_older && is_unexpired && is_channel).then(|| {
            let answer = Answer::RefuseAdmission(refusal);
            self.suspect(now, leaf.fingerprint, last, opens, ForkVerdict::Refused, answer)
        })
    }

    fn suspect(
        &self,
        now: Now,
        older: Fingerprint,
        last: LastUsed,
        opens: Opening,
        verdict: ForkVerdict,
        answer: Answer,
    ) -> Outcome {
        let newest = self.leaf_at(last.seq).map(|leaf| leaf.client.fingerprint);
        let alive = match opens {
            Opening::Channel { beside: Some((shown, at)), .. } if Some(shown) == newest => Some(at),
            Opening::Channel { .. } | Opening::Underlay { .. } => None,
        };
        let fork = Fork {
            older,
            newer: last.seq,
            older_from: opens.from(),
            newer_from: alive.or(last.from),
            at: now.wall,
            verdict,
        };
        changed(Self { fork: Some(fork), ..self.clone() }, Audit::Forked(fork), answer)
    }

    /// The operator has looked into it: one holder, nothing is kept any longer than usual.
    pub(super) fn dismiss_fork(&self) -> Outcome {
        if self.fork.is_none() {
            return unchanged(Answer::Done);
        }
        changed(Self { fork: None, ..self.clone() }, Audit::ForkDismissed, Answer::Done)
    }
}
