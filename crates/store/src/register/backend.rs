//! Makes a [`Register`] of anything that can run operations on an engine.

use std::fmt;

use lifecycle::issuance::{Campaign, Input, LeafSeq, Record, TokenId};
use lifecycle::{Durable, RouterId, UnixTime};

use super::engine::{Engine, Undelivered, UndeliveredPatch};
use super::entry::{
    Admin, Answered, By, Chains, FoundLeaf, Meta, NewRouter, Patched, RouterPatch, RouterView, Seen, Sha1, Submission,
};
use super::query::{AuditEntry, AuditQuery, BackupReport, BackupRequest, Counts, Listed, Metrics, RouterQuery};
use super::rows::{Reads, Result, Rows};
use super::{Register, Reply};

/// How long an operation may wait for company before its commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Urgency {
    /// Somebody waits in front of a screen, or a router must go: no waiting.
    Now,
    /// One router's step: waits while others arrive too.
    Step(RouterId),
}

/// Runs operations, commits, and releases answers.
pub(super) trait Backend: fmt::Debug + Send + Sync + 'static {
    type Rows: Rows + 'static;

    /// `op` runs inside the transaction; `deliver` makes the answer of what it left, after the commit.
    fn write<U, T, F>(&self, urgency: Urgency, op: F, deliver: fn(U, Durable) -> T) -> Reply<T>
    where
        U: Send + 'static,
        T: Send + 'static,
        F: FnOnce(&mut Engine<Self::Rows>) -> Result<U> + Send + 'static;

    fn read<T, F>(&self, op: F) -> Reply<T>
    where
        T: Send + 'static,
        F: FnOnce(&dyn Reads) -> Result<T> + Send + 'static;

    fn copy(&self, request: BackupRequest) -> Reply<BackupReport>;

    fn count(&self) -> Metrics;
}

impl<B: Backend> Register for B {
    fn submit(&self, submission: Submission) -> Reply<Answered> {
        let urgency = match submission.input {
            Input::ReEnroll { .. }
            | Input::Revoke
            | Input::SetDisabled(_)
            | Input::Readmit { .. }
            | Input::Vouch { .. }
            | Input::DismissFork => Urgency::Now,
            Input::Use { .. }
            | Input::Claim { .. }
            | Input::Request { .. }
            | Input::Store { .. }
            | Input::Confirm { .. }
            | Input::Enroll { .. }
            | Input::StoreEnrolled { .. } => Urgency::Step(submission.router.clone()),
        };
        self.write(urgency, move |engine| engine.submit(submission), Undelivered::deliver)
    }

    fn create_router(&self, new: NewRouter, by: By) -> Reply<RouterView> {
        self.write(Urgency::Now, move |engine| engine.create_router(new, &by), |done, _| done)
    }

    fn patch_router(&self, id: RouterId, patch: RouterPatch, by: By) -> Reply<Patched> {
        self.write(Urgency::Now, move |engine| engine.patch_router(&id, &patch, &by), UndeliveredPatch::deliver)
    }

    fn delete_router(&self, id: RouterId, by: By) -> Reply<RouterView> {
        self.write(Urgency::Now, move |engine| engine.delete_router(&id, &by), |done, _| done)
    }

    fn note_hello(&self, id: RouterId, seen: Seen) -> Reply<()> {
        self.write(Urgency::Step(id.clone()), move |engine| engine.note_hello(&id, &seen), |done, _| done)
    }

    fn put_admin(&self, admin: Admin, by: By) -> Reply<()> {
        self.write(Urgency::Now, move |engine| engine.put_admin(&admin, &by), |done, _| done)
    }

    fn delete_admin(&self, name: String, by: By) -> Reply<()> {
        self.write(Urgency::Now, move |engine| engine.delete_admin(&name, &by), |done, _| done)
    }

    fn set_campaign(&self, campaign: Option<Campaign>, by: By) -> Reply<()> {
        self.write(Urgency::Now, move |engine| engine.set_campaign(campaign, &by), |done, _| done)
    }

    fn heartbeat(&self, at: UnixTime) -> Reply<Option<UnixTime>> {
        self.write(Urgency::Now, move |engine| engine.heartbeat(at), |done, _| done)
    }

    fn router(&self, id: RouterId) -> Reply<Option<RouterView>> {
        self.read(move |reads| reads.view(&id))
    }

    fn routers(&self, query: RouterQuery) -> Reply<Listed> {
        self.read(move |reads| reads.list(&query))
    }

    fn record(&self, id: RouterId) -> Reply<Option<Record>> {
        self.read(move |reads| reads.record(&id))
    }

    fn chains(&self, id: RouterId, seq: LeafSeq) -> Reply<Option<Chains>> {
        self.read(move |reads| reads.chains(&id, seq))
    }

    fn find_leaf(&self, sha1: Sha1) -> Reply<Vec<FoundLeaf>> {
        self.read(move |reads| reads.find_leaf(sha1))
    }

    fn find_token(&self, token: TokenId) -> Reply<Option<RouterId>> {
        self.read(move |reads| reads.find_token(token))
    }

    fn audit(&self, query: AuditQuery) -> Reply<Vec<AuditEntry>> {
        self.read(move |reads| reads.audit(&query))
    }

    fn admin(&self, name: String) -> Reply<Option<Admin>> {
        self.read(move |reads| reads.admin(&name))
    }

    fn admins(&self) -> Reply<Vec<Admin>> {
        self.read(|reads| reads.admins())
    }

    fn meta(&self) -> Reply<Meta> {
        self.read(|reads| reads.meta())
    }

    fn counts(&self) -> Reply<Counts> {
        self.read(|reads| reads.counts())
    }

    fn backup(&self, request: BackupRequest) -> Reply<BackupReport> {
        self.copy(request)
    }

    fn metrics(&self) -> Metrics {
        self.count()
    }
}
