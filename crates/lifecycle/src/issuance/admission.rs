//! Which leaf gets a channel. Decided after the finished handshake; the Result leaves only once the use is durable.

use core::time::Duration;

use super::{
    Answer, Audit, Epoch, IssuancePolicy, IssuedLeaf, LastUsed, LeafSeq, LeafStage, Outcome, Record, Standing, changed,
    noted, unchanged,
};
use crate::facts::{Fingerprint, Leaf, Now, UnixTime};
use crate::issuance::{Asked, CONFIRMED_MAX, NamesDigest};

/// A leaf that got a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Admitted {
    /// Which one.
    pub seq: LeafSeq,
    /// What the channel speaks for. A later epoch closes it.
    pub epoch: Epoch,
}

/// Why a leaf got none, in order of who can mend it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AdmissionRefusal {
    /// The operator revoked the router.
    Revoked,
    /// The operator switched the router off.
    Disabled,
    /// The router was never enrolled, or its new enrollment is still open.
    NotEnrolled,
    /// Never issued in this epoch, or long forgotten.
    Unknown,
    /// A newer leaf was used, and the overlap is over.
    Superseded,
    /// Past its NotAfter, by this controller's clock.
    Expired,
    /// Before its NotBefore, by this controller's clock.
    NotYetValid,
}

impl AdmissionRefusal {
    /// A sentence for the log and, once the chain is verified, for the router.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Revoked => "the router is revoked",
            Self::Disabled => "the router is disabled",
            Self::NotEnrolled => "the router is not enrolled",
            Self::Unknown => "this leaf is not among the router's admitted ones",
            Self::Superseded => "a newer leaf of this router is in use and the overlap is over",
            Self::Expired => "the leaf is past its NotAfter",
            Self::NotYetValid => "the leaf is before its NotBefore",
        }
    }
}

/// Signers date leaves back by as much as this, so a leaf from after a backup may be dated before it. A minute on purpose,
/// and up to a second because certificates know no parts of one.
const BACKDATED_MAX: Duration = Duration::from_secs(61);

impl Record {
    pub(super) fn admit(&self, now: Now, policy: &IssuancePolicy, leaf: Leaf) -> Outcome {
        match self.judge(now, policy, leaf.fingerprint, Some(&leaf)) {
            Ok(Verdict::Known(issued)) => self.used(now, issued),
            Ok(Verdict::IssuedAfterBackup) => self
                .adopt(now, leaf, Audit::ReadmittedAfterRestore, |seq, epoch| Answer::Admit(Admitted { seq, epoch })),
            Err(refusal) => noted(Audit::Refused(refusal), Answer::RefuseAdmission(refusal)),
        }
    }

    /// Is the leaf with this fingerprint in the admitted set? For link verification, which is not use and changes nothing.
    ///
    /// # Errors
    /// Why it is not.
    pub fn check_link(
        &self,
        now: Now,
        policy: &IssuancePolicy,
        fingerprint: Fingerprint,
    ) -> Result<(), AdmissionRefusal> {
        self.judge(now, policy, fingerprint, None).map(drop)
    }

    /// The admitted set as it stands, oldest first.
    pub fn admitted<'a>(&'a self, now: Now, policy: &'a IssuancePolicy) -> impl Iterator<Item = &'a IssuedLeaf> {
        self.leaves.iter().filter(move |leaf| self.check_link(now, policy, leaf.client.fingerprint).is_ok())
    }

    fn judge(
        &self,
        now: Now,
        policy: &IssuancePolicy,
        fingerprint: Fingerprint,
        presented: Option<&Leaf>,
    ) -> Result<Verdict<'_>, AdmissionRefusal> {
        match self.standing {
            Standing::Revoked => return Err(AdmissionRefusal::Revoked),
            Standing::Disabled => return Err(AdmissionRefusal::Disabled),
            Standing::Active => {}
        }
        let Some(issued) = self.leaf(fingerprint) else {
            return match (self.restored_from, presented) {
                (Some(taken), Some(leaf)) if leaf.not_before.plus(BACKDATED_MAX) >= taken => {
                    in_dates(leaf, now.wall).map(|()| Verdict::IssuedAfterBackup)
                }
                _ if self.leaves.is_empty() => Err(AdmissionRefusal::NotEnrolled),
                _ => Err(AdmissionRefusal::Unknown),
            };
        };
        in_dates(&issued.client, now.wall)?;
        if let Some(last) = self.last_used
            && issued.seq < last.seq
            && now.wall > last.first_use.plus(policy.overlap)
        {
            return Err(AdmissionRefusal::Superseded);
        }
        Ok(Verdict::Known(issued))
    }

    fn used(&self, now: Now, issued: &IssuedLeaf) -> Outcome {
        let answer = Answer::Admit(Admitted { seq: issued.seq, epoch: self.epoch });
        if self.last_used.is_some_and(|last| issued.seq <= last.seq) {
            return unchanged(answer);
        }
        let mut record = self.clone();
        record.last_used = Some(LastUsed { seq: issued.seq, first_use: now.wall });
        if let Some(leaf) = record.leaves.iter_mut().find(|leaf| leaf.seq == issued.seq) {
            leaf.stage = LeafStage::Used;
        }
        // The enrollment has arrived: from here on the token is spent for good.
        record.token = None;
        record.forget_settled(now.wall);
        changed(record, Audit::FirstUse(issued.seq), answer)
    }

    /// Takes a leaf into the set that the register has no memory of, as the one last used.
    fn adopt(
        &self,
        now: Now,
        leaf: Leaf,
        audit: fn(LeafSeq) -> Audit,
        answer: fn(LeafSeq, Epoch) -> Answer,
    ) -> Outcome {
        let seq = self.next_seq();
        let mut record = self.clone();
        record.last_seq = seq;
        record.leaves.push(IssuedLeaf {
            seq,
            client: leaf,
            server: leaf,
            asked: Asked { client_key: leaf.key, server_key: leaf.key, names: NamesDigest([0; 32]) },
            issued_at: now.wall,
            stage: LeafStage::Used,
        });
        record.last_used = Some(LastUsed { seq, first_use: now.wall });
        record.token = None;
        changed(record, audit(seq), answer(seq, self.epoch))
    }

    pub(super) fn readmit(&self, now: Now, leaf: Leaf) -> Outcome {
        if self.standing == Standing::Revoked {
            return unchanged(Answer::RefuseAdmission(AdmissionRefusal::Revoked));
        }
        match self.leaf(leaf.fingerprint) {
            Some(known) => {
                let mut record = self.clone();
                let seq = known.seq;
                // Its successors are withdrawn: the operator says that this leaf is the one the router holds.
                record.leaves.retain(|leaf| leaf.seq <= seq);
                // As if it had been presented: what was never used would make room for the next one that is issued.
                if let Some(leaf) = record.leaves.iter_mut().find(|leaf| leaf.seq == seq) {
                    leaf.stage = LeafStage::Used;
                }
                record.last_used = Some(LastUsed { seq, first_use: now.wall });
                changed(record, Audit::Readmitted(seq), Answer::Done)
            }
            None => self.adopt(now, leaf, Audit::Readmitted, |_, _| Answer::Done),
        }
    }

    /// Drops what no rule can admit any more: expired predecessors of the leaf last used. Overlap alone drops nothing,
    /// so that an operator can readmit a superseded leaf while it is valid.
    pub(super) fn forget_settled(&mut self, wall: UnixTime) {
        let Some(last) = self.last_used else { return };
        self.leaves.retain(|leaf| leaf.seq >= last.seq || !leaf.client.is_expired(wall));
    }

    /// Keeps the newest pending leaf and the newest [`CONFIRMED_MAX`] confirmed ones of those newer than the leaf last used.
    pub(super) fn bound_unused(&mut self) {
        let used = self.last_used.map_or(LeafSeq(0), |last| last.seq);
        let newest_pending =
            self.leaves.iter().rev().find(|leaf| leaf.stage == LeafStage::Pending).map(|leaf| leaf.seq);
        let mut confirmed: alloc::vec::Vec<LeafSeq> = self
            .leaves
            .iter()
            .filter(|leaf| leaf.seq > used && leaf.stage == LeafStage::Confirmed)
            .map(|leaf| leaf.seq)
            .collect();
        let surplus = confirmed.len().saturating_sub(CONFIRMED_MAX);
        confirmed.truncate(surplus);
        self.leaves.retain(|leaf| match leaf.stage {
            LeafStage::Used => true,
            LeafStage::Pending => Some(leaf.seq) == newest_pending,
            LeafStage::Confirmed => !confirmed.contains(&leaf.seq),
        });
    }
}

enum Verdict<'a> {
    Known(&'a IssuedLeaf),
    IssuedAfterBackup,
}

fn in_dates(leaf: &Leaf, wall: UnixTime) -> Result<(), AdmissionRefusal> {
    if leaf.is_expired(wall) {
        return Err(AdmissionRefusal::Expired);
    }
    if wall < leaf.not_before {
        return Err(AdmissionRefusal::NotYetValid);
    }
    Ok(())
}
