//! A register in the world's time: decisions pile up in one transaction, and their answers wait for its commit.

use lifecycle::issuance::{Answer, Commit, Input, IssuancePolicy, LeafStage, Record};
use lifecycle::{Durable, Held, Now, UnixTime};

use crate::mutant::Mutant;

/// Who waits for an answer. The world delivers it.
#[derive(Clone, Debug)]
pub(crate) struct Asker {
    pub(crate) controller: usize,
    /// Which life of that controller asked.
    pub(crate) life: u32,
    pub(crate) router: usize,
    pub(crate) matter: Matter,
}

/// What the answer is about.
#[derive(Clone, Debug)]
pub(crate) enum Matter {
    Hello { underlay: u64, group: Option<u64> },
    Extend { asked: lifecycle::issuance::Asked, epoch: lifecycle::issuance::Epoch },
    Verify { fingerprint: lifecycle::Fingerprint },
    Operator,
}

#[derive(Clone, Debug)]
pub(crate) struct Register {
    durable: Vec<Record>,
    tip: Vec<Record>,
    dirty: Vec<usize>,
    waiting: Vec<(Asker, Held<Answer>)>,
    fail_next: bool,
    /// A mutant's answer has left, and its commit is still due.
    pub(crate) is_answered_early: bool,
    mutant: Option<Mutant>,
    backup: Option<(UnixTime, Vec<Record>)>,
    pub(crate) commits: u64,
    pub(crate) failed_commits: u64,
}

/// What became of a submission.
pub(crate) enum Submitted {
    /// Nothing had to be written.
    Now(Asker, Answer),
    /// Wait for [`Register::commit`]. True when no commit was due yet.
    Later { is_first: bool },
}

impl Register {
    pub(crate) fn new(records: Vec<Record>, mutant: Option<Mutant>) -> Self {
        Self {
            mutant,
            tip: records.clone(),
            durable: records,
            dirty: Vec::new(),
            waiting: Vec::new(),
            fail_next: false,
            is_answered_early: false,
            backup: None,
            commits: 0,
            failed_commits: 0,
        }
    }

    /// What a restarted controller would read.
    pub(crate) fn record(&self, router: usize) -> Option<&Record> {
        self.durable.get(router)
    }

    pub(crate) fn submit(
        &mut self,
        now: Now,
        policy: &IssuancePolicy,
        input: Input,
        asker: Asker,
    ) -> Option<Submitted> {
        let router = asker.router;
        let record = self.tip.get_mut(router)?;
        let (commit, held) = record.step(now, policy, input).split();
        match commit {
            Some(Commit { record: changed, .. }) => {
                if let Some(changed) = changed {
                    *record = changed;
                    if self.mutant == Some(Mutant::SingleFingerprint) {
                        keep_only_the_newest_confirmed(record);
                    }
                    self.dirty.push(router);
                }
                if self.mutant == Some(Mutant::AnswerBeforeDurable) {
                    self.is_answered_early = true;
                    return Some(Submitted::Now(asker, held.release(Durable::after_commit())));
                }
            }
            // A record that waits for a commit makes its readers wait too.
            None if self.dirty.contains(&router) => {}
            None => return Some(Submitted::Now(asker, held.release(Durable::after_commit()))),
        }
        self.waiting.push((asker, held));
        Some(Submitted::Later { is_first: self.waiting.len() == 1 })
    }

    /// Ends the transaction. Hands out who gets which answer, and whose record changed.
    pub(crate) fn commit(&mut self) -> (Vec<(Asker, Answer)>, Vec<usize>) {
        if std::mem::take(&mut self.fail_next) {
            self.failed_commits += 1;
            self.roll_back();
            return (Vec::new(), Vec::new());
        }
        self.commits += 1;
        let dirty = std::mem::take(&mut self.dirty);
        for router in &dirty {
            if let (Some(durable), Some(tip)) = (self.durable.get_mut(*router), self.tip.get(*router)) {
                durable.clone_from(tip);
            }
        }
        let proof = Durable::after_commit();
        let waiting = std::mem::take(&mut self.waiting);
        (waiting.into_iter().map(|(asker, held)| (asker, held.release(proof))).collect(), dirty)
    }

    /// Whatever was not committed is gone, and so is everybody who waited for it.
    pub(crate) fn roll_back(&mut self) {
        for router in std::mem::take(&mut self.dirty) {
            if let (Some(durable), Some(tip)) = (self.durable.get(router), self.tip.get_mut(router)) {
                tip.clone_from(durable);
            }
        }
        self.waiting.clear();
    }

    pub(crate) fn fail_next_commit(&mut self) {
        self.fail_next = true;
    }

    pub(crate) fn back_up(&mut self, at: UnixTime) {
        self.backup = Some((at, self.durable.clone()));
    }

    pub(crate) fn backup_taken(&self) -> Option<UnixTime> {
        self.backup.as_ref().map(|(at, _)| *at)
    }

    /// Puts the last backup in place. False when there is none.
    pub(crate) fn restore(&mut self) -> bool {
        let Some((taken, records)) = self.backup.clone() else { return false };
        self.roll_back();
        self.durable = records;
        for record in &mut self.durable {
            record.restored_from = Some(record.restored_from.map_or(taken, |earlier| earlier.min(taken)));
        }
        self.tip.clone_from(&self.durable);
        true
    }
}

/// As OpenZiti keeps it: the leaf that was confirmed or used last is the only one.
fn keep_only_the_newest_confirmed(record: &mut Record) {
    let settled = record.leaves.iter().rev().find(|leaf| leaf.stage != LeafStage::Pending).map(|leaf| leaf.seq);
    record.leaves.retain(|leaf| leaf.stage == LeafStage::Pending || Some(leaf.seq) == settled);
    if let (Some(seq), Some(last)) = (settled, &mut record.last_used) {
        last.seq = seq;
    }
}
