//! The controller's register: routers, the leaves issued to them, tokens, administrators and the audit trail.
//!
//! Start at [`Register`]. REGISTER.md describes the tables and the order of writes. Two backends decide with the same code
//! and differ only in where rows live: `SqliteRegister` on a disk, `MemoryRegister` for tests and for measuring.
//!
//! Not here: what an input means for a router's leaves (`lifecycle::issuance`), certificates (`pki`).

mod backend;
mod engine;
mod entry;
mod error;
mod memory;
mod query;
mod rows;
mod sqlite;

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use lifecycle::issuance::{Campaign, LeafSeq, Record, TokenId};
use lifecycle::{RouterId, UnixTime};

pub use entry::{
    Admin, Answered, Attachment, By, Chains, FirstIdentity, FoundLeaf, Meta, NewRouter, NotSha1, Patched, Router,
    RouterPatch, RouterView, Seen, Sha1, Submission, TokenText,
};
pub use error::RegisterError;
pub use memory::MemoryRegister;
pub use query::{
    AuditEntry, AuditQuery, BackupReport, BackupRequest, Counts, Listed, Metrics, PAGE_MAX, RouterFilter, RouterQuery,
    RouterSort,
};
pub use sqlite::{RestoreReport, RestoredRouter, SqliteRegister, Tuning, backup, restore};

/// An answer that is still to come. What was asked is queued when this is first polled, and is done even if this is then
/// dropped. Needs no particular runtime.
pub type Reply<T> = Pin<Box<dyn Future<Output = Result<T, RegisterError>> + Send>>;

/// Keeps what the controller must not forget.
///
/// One writer decides and writes everything in the order in which it was asked. Many changes may share one commit; each
/// answer is released only after the commit that holds it is durable. Reads see what is durable, and block nobody.
pub trait Register: fmt::Debug + Send + Sync + 'static {
    /// Decides one input with [`Record::step`] on the record as it stands inside the writer's transaction. The record, its
    /// leaves, their chains and the audit entry are written in that transaction.
    ///
    /// An outcome that changes nothing costs no write; it is answered at once, unless the record waits for a commit. The
    /// same refusal of the same router within a minute counts up one audit entry instead of adding another.
    ///
    /// # Errors
    /// `UnknownRouter`, `Incomplete`, `DamagedRouter`, `CommitFailed`, `Closed`.
    fn submit(&self, submission: Submission) -> Reply<Answered>;

    /// Creates router, token and audit entry in one transaction.
    ///
    /// # Errors
    /// `IdTaken`, `NameTaken`, `CommitFailed`, `Closed`.
    fn create_router(&self, new: NewRouter, by: By) -> Reply<RouterView>;

    /// Changes what an administrator may change.
    ///
    /// # Errors
    /// `UnknownRouter`, `NameTaken`, `CommitFailed`, `Closed`.
    fn patch_router(&self, id: RouterId, patch: RouterPatch, by: By) -> Reply<Patched>;

    /// Deletes a router with its record, leaves and token; its audit trail stays. Answers with what it was.
    ///
    /// # Errors
    /// `UnknownRouter`, `CommitFailed`, `Closed`.
    fn delete_router(&self, id: RouterId, by: By) -> Reply<RouterView>;

    /// Keeps what a router said of itself. Writes only if something but the time changed, or an hour has passed.
    ///
    /// # Errors
    /// `UnknownRouter`, `CommitFailed`, `Closed`.
    fn note_hello(&self, id: RouterId, seen: Seen) -> Reply<()>;

    /// Makes an administrator, or replaces the one with this name (for example to reset the password).
    ///
    /// # Errors
    /// `CommitFailed`, `Closed`.
    fn put_admin(&self, admin: Admin, by: By) -> Reply<()>;

    /// Removes an administrator.
    ///
    /// # Errors
    /// `UnknownAdmin`, `CommitFailed`, `Closed`.
    fn delete_admin(&self, name: String, by: By) -> Reply<()>;

    /// Orders a re-key of the whole fleet, or ends it.
    ///
    /// # Errors
    /// `CommitFailed`, `Closed`.
    fn set_campaign(&self, campaign: Option<Campaign>, by: By) -> Reply<()>;

    /// Notes that the controller is up, and answers with the heartbeat before: how long it was out of reach.
    ///
    /// # Errors
    /// `CommitFailed`, `Closed`.
    fn heartbeat(&self, at: UnixTime) -> Reply<Option<UnixTime>>;

    /// One router.
    ///
    /// # Errors
    /// `DamagedRouter`, `ReadFailed`, `Closed`; so for every read below.
    fn router(&self, id: RouterId) -> Reply<Option<RouterView>>;

    /// A page of routers.
    fn routers(&self, query: RouterQuery) -> Reply<Listed>;

    /// One router's record.
    fn record(&self, id: RouterId) -> Reply<Option<Record>>;

    /// The chains of the leaves at one position.
    fn chains(&self, id: RouterId, seq: LeafSeq) -> Reply<Option<Chains>>;

    /// Whose client leaf this is. More than one only if an operator vouched for one leaf under two routers.
    fn find_leaf(&self, sha1: Sha1) -> Reply<Vec<FoundLeaf>>;

    /// Whose token this is.
    fn find_token(&self, token: TokenId) -> Reply<Option<RouterId>>;

    /// A page of the audit trail.
    fn audit(&self, query: AuditQuery) -> Reply<Vec<AuditEntry>>;

    /// One administrator, by name.
    fn admin(&self, name: String) -> Reply<Option<Admin>>;

    /// All administrators, by name.
    fn admins(&self) -> Reply<Vec<Admin>>;

    /// What the register knows of itself.
    fn meta(&self) -> Reply<Meta>;

    /// Totals.
    fn counts(&self) -> Reply<Counts>;

    /// Copies the register, while it goes on working, into a new file of mode 0600 that carries the time it was taken.
    ///
    /// # Errors
    /// `Exists`, `File`, `ReadFailed`, `Unsupported`, `Closed`.
    fn backup(&self, request: BackupRequest) -> Reply<BackupReport>;

    /// What it did since it was opened.
    fn metrics(&self) -> Metrics;
}
