//! Which leaf gets a channel. Decided after the finished handshake; the Result leaves only once the use is durable.

use alloc::vec::Vec;
use core::net::IpAddr;
use core::time::Duration;

use super::{
    Answer, Asked, Audit, CONFIRMED_MAX, Epoch, IssuancePolicy, IssuedLeaf, LastUsed, LeafSeq, LeafStage, NamesDigest,
    Opening, Outcome, PENDING_MAX, PREDECESSORS_MAX, Record, Standing, Voucher, changed, noted, unchanged,
};
use crate::facts::{Fingerprint, Leaf, Now, UnixTime};

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

/// Longest time between the signing of a leaf and the decision to store it; what was signed longer ago is signed anew.
const STORED_WITHIN: Duration = Duration::from_secs(15);

/// Longest time between the signing of a leaf and the end of the commit that stores it, as far as a restored register can believe.
const COMMITTED_WITHIN: Duration = Duration::from_secs(60);

impl Record {
    pub(super) fn admit(&self, now: Now, policy: &IssuancePolicy, leaf: Leaf, opens: Opening) -> Outcome {
        match self.judge(now, policy, leaf.fingerprint, Some(&leaf)) {
            Ok(Verdict::Known(issued)) => self.used(now, policy, issued, opens),
            Ok(Verdict::IssuedAfterBackup) => {
                let (record, seq) = self.adopt(now, policy, leaf, opens.from());
                let answer = Answer::Admit(Admitted { seq, epoch: self.epoch });
                changed(record, Audit::ReadmittedAfterRestore(seq), answer)
            }
            Err(refusal) => self
                .came_back_too_late(now, &leaf, refusal, opens)
                .unwrap_or_else(|| noted(Audit::Refused(refusal), Answer::RefuseAdmission(refusal))),
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
                (Some(taken), Some(leaf)) if self.may_be_from_after(taken, leaf) => {
                    in_dates(leaf, now.wall)?;
                    let last_used = self.last_used.and_then(|last| self.leaf_at(last.seq));
                    if last_used.is_some_and(|last| leaf.not_before < last.client.not_before) {
                        return Err(AdmissionRefusal::Superseded);
                    }
                    Ok(Verdict::IssuedAfterBackup)
                }
                _ if self.leaves.is_empty() => Err(AdmissionRefusal::NotEnrolled),
                _ => Err(AdmissionRefusal::Unknown),
            };
        };
        in_dates(&issued.client, now.wall)?;
        if self.last_used.is_some_and(|last| issued.seq < last.seq && !last.is_in_overlap(now, policy))
            && !self.is_frozen(issued.seq)
        {
            return Err(AdmissionRefusal::Superseded);
        }
        Ok(Verdict::Known(issued))
    }

    /// Can this leaf have been stored after the copy was taken, in the epoch that the copy knows?
    fn may_be_from_after(&self, taken: UnixTime, leaf: &Leaf) -> bool {
        leaf.not_before.plus(BACKDATED_MAX).plus(COMMITTED_WITHIN) >= taken && self.is_of_this_epoch(leaf)
    }

    /// Was it signed since the epoch was raised last?
    pub(super) fn is_of_this_epoch(&self, leaf: &Leaf) -> bool {
        self.epoch_since.is_none_or(|since| leaf.not_before.plus(BACKDATED_MAX) >= since)
    }

    /// Was it signed so long ago that a copy taken meanwhile would not believe it? Then it is not stored.
    pub(super) fn is_stale(now: Now, leaf: &Leaf) -> bool {
        now.wall.since(leaf.not_before.plus(BACKDATED_MAX)) > STORED_WITHIN
    }

    fn used(&self, now: Now, policy: &IssuancePolicy, issued: &IssuedLeaf, opens: Opening) -> Outcome {
        let answer = Answer::Admit(Admitted { seq: issued.seq, epoch: self.epoch });
        match self.last_used {
            Some(last) if issued.seq < last.seq => self.came_back(now, policy, issued, last, opens, answer),
            Some(last) if issued.seq == last.seq => unchanged(answer),
            Some(_) | None => {
                let mut record = self.clone();
                record.make_last_used(now, policy, issued.seq, opens.from());
                changed(record, Audit::FirstUse(issued.seq), answer)
            }
        }
    }

    /// Takes a leaf into the set that the register has no memory of, as the one last used.
    fn adopt(&self, now: Now, policy: &IssuancePolicy, leaf: Leaf, from: Option<IpAddr>) -> (Record, LeafSeq) {
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
        record.make_last_used(now, policy, seq, from);
        (record, seq)
    }

    pub(super) fn readmit(&self, now: Now, policy: &IssuancePolicy, leaf: Leaf) -> Outcome {
        if self.standing == Standing::Revoked {
            return unchanged(Answer::RefuseAdmission(AdmissionRefusal::Revoked));
        }
        let known = self.leaf(leaf.fingerprint);
        // A leaf that cannot be admitted would take the place of those that can.
        if let Err(refusal) = in_dates(known.map_or(&leaf, |known| &known.client), now.wall) {
            return unchanged(Answer::RefuseAdmission(refusal));
        }
        let (mut record, seq) = match known.map(|known| known.seq) {
            Some(seq) => {
                let mut record = self.clone();
                // Its successors are withdrawn: the operator says that this leaf is the one the router holds.
                record.leaves.retain(|leaf| leaf.seq <= seq);
                record.make_last_used(now, policy, seq, None);
                (record, seq)
            }
            None => self.adopt(now, policy, leaf, None),
        };
        if self.fork.is_some() {
            // Of two holders the operator has named one, and the other one goes at once.
            record.leaves.retain(|leaf| leaf.seq == seq);
        }
        // The operator's word is newer than the copy: what it withdraws cannot prove itself any more.
        record.restored_from = None;
        // Nor may whoever holds a withdrawn leaf go on asking for new ones on the channel that it opened.
        record.begin_epoch(now);
        changed(record, Audit::Readmitted(seq), Answer::CloseChannels)
    }

    pub(super) fn vouch(&self, voucher: Voucher) -> Outcome {
        match self.standing {
            Standing::Revoked => unchanged(Answer::RefuseAdmission(AdmissionRefusal::Revoked)),
            Standing::Active | Standing::Disabled if self.voucher == Some(voucher) => unchanged(Answer::Done),
            Standing::Active | Standing::Disabled => {
                let record = Record { voucher: Some(voucher), ..self.clone() };
                changed(record, Audit::Vouched(voucher), Answer::Done)
            }
        }
    }

    /// A voucher is good once, and only for a leaf that nothing else admits.
    pub(super) fn claim(&self, now: Now, policy: &IssuancePolicy, leaf: Leaf, voucher: Voucher) -> Outcome {
        let is_vouched_for = self.standing == Standing::Active
            && self.voucher == Some(voucher)
            && self.leaf(leaf.fingerprint).is_none()
            && in_dates(&leaf, now.wall).is_ok();
        if !is_vouched_for {
            // Of the refused hello the register has taken note already.
            return self.admit(now, policy, leaf, Opening::Underlay { from: None });
        }
        let (mut record, seq) = self.adopt(now, policy, leaf, None);
        // The operator's word is newer than the copy that the register may have come from, and than any alarm.
        record.restored_from = None;
        record.fork = None;
        let answer = Answer::Admit(Admitted { seq, epoch: self.epoch });
        changed(record, Audit::Readmitted(seq), answer)
    }

    /// Makes the leaf at `seq` the one last used. Its predecessors get one overlap, except those whose own was over before.
    fn make_last_used(&mut self, now: Now, policy: &IssuancePolicy, seq: LeafSeq, from: Option<IpAddr>) {
        let fork = self.fork;
        let is_kept = |of| fork.is_some_and(|fork| fork.keeps(of));
        if let Some(last) = self.last_used
            && !last.is_in_overlap(now, policy)
        {
            self.leaves.retain(|leaf| leaf.seq >= last.seq || leaf.seq == seq || is_kept(leaf.seq));
        }
        self.last_used = Some(LastUsed { seq, first_use: now.wall, from });
        if let Some(leaf) = self.leaves.iter_mut().find(|leaf| leaf.seq == seq) {
            leaf.stage = LeafStage::Used;
        }
        // The enrollment has arrived: from here on the token is spent for good.
        self.token = None;
        // So is a voucher: the router lives, and an older leaf must not come back over a newer one long after it was vouched for.
        self.voucher = None;
        self.forget_settled(now.wall);
        let predecessors = self.leaves.iter().filter(|leaf| leaf.seq < seq && !is_kept(leaf.seq)).count();
        let mut surplus = predecessors.saturating_sub(PREDECESSORS_MAX);
        self.leaves.retain(|leaf| {
            let goes = surplus > 0 && leaf.seq < seq && !is_kept(leaf.seq);
            surplus -= usize::from(goes);
            !goes
        });
    }

    /// Drops what no rule can admit any more: expired predecessors of the leaf last used. The end of an overlap alone drops
    /// nothing: until a newer leaf is used, an operator can readmit a superseded one by its fingerprint.
    pub(super) fn forget_settled(&mut self, wall: UnixTime) {
        let Some(last) = self.last_used else { return };
        self.leaves.retain(|leaf| leaf.seq >= last.seq || !leaf.client.is_expired(wall));
        // With the last of its leaves but one, a fork is over: there is nothing left that two could hold.
        let is_over = |fork: super::Fork| {
            fork.verdict == super::ForkVerdict::Frozen && !self.leaves.iter().any(|leaf| leaf.seq < fork.newer)
        };
        self.fork = self.fork.filter(|fork| !is_over(*fork));
    }

    /// Of the leaves newer than the one last used, keeps the newest [`PENDING_MAX`] pending ones and the newest [`CONFIRMED_MAX`] confirmed
    /// ones. What an enrollment got stays until a leaf is used: it is all that the router has.
    pub(super) fn bound_unused(&mut self) {
        let enrolled = self.token.and_then(|token| token.enrolled);
        let used = self.last_used.map_or(LeafSeq(0), |last| last.seq);
        let surplus = |stage, most| {
            let newer = self.leaves.iter().rev().filter(move |leaf| leaf.seq > used && leaf.stage == stage);
            newer.skip(most).map(|leaf| leaf.seq)
        };
        let surplus: Vec<LeafSeq> = surplus(LeafStage::Pending, PENDING_MAX)
            .chain(surplus(LeafStage::Confirmed, CONFIRMED_MAX))
            .filter(|seq| Some(*seq) != enrolled)
            .collect();
        self.leaves.retain(|leaf| !surplus.contains(&leaf.seq));
    }
}

impl LastUsed {
    /// Are the leaves before it still admitted beside it?
    pub(super) fn is_in_overlap(&self, now: Now, policy: &IssuancePolicy) -> bool {
        now.wall <= self.first_use.plus(policy.overlap)
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
