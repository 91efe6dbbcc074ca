//! How the register is asked, and how it counts.

use std::path::PathBuf;

use lifecycle::issuance::EnrollmentKind;
use lifecycle::{RouterId, UnixTime};
use serde_json::Value;

use super::entry::RouterView;

/// Most routers or audit entries in one answer.
pub const PAGE_MAX: u32 = 500;

/// Which routers, in which order. The default is all of them by name, first page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouterQuery {
    /// All of these must hold.
    pub filter: Vec<RouterFilter>,
    /// By what to sort; the id breaks ties.
    pub sort: RouterSort,
    /// Greatest first.
    pub descending: bool,
    /// At most this many, capped at [`PAGE_MAX`].
    pub limit: u32,
    /// Skip this many.
    pub offset: u64,
}

impl Default for RouterQuery {
    fn default() -> Self {
        Self { filter: Vec::new(), sort: RouterSort::Name, descending: false, limit: PAGE_MAX, offset: 0 }
    }
}

/// One condition on a router.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RouterFilter {
    /// Has this id.
    Id(RouterId),
    /// Has this name.
    NameIs(String),
    /// Has this in its name; ASCII letters match in either case.
    NameContains(String),
    /// Is of this kind.
    Kind(EnrollmentKind),
}

/// What routers may be sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum RouterSort {
    /// By name, byte by byte.
    #[default]
    Name,
    /// By id.
    Id,
    /// By creation.
    CreatedAt,
    /// By last change.
    UpdatedAt,
}

/// One page of routers.
#[derive(Clone, Debug, PartialEq)]
pub struct Listed {
    /// How many match the filter in all.
    pub total: u64,
    /// Those of this page.
    pub routers: Vec<RouterView>,
}

/// Which audit entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditQuery {
    /// Only this router's; also of one that is deleted.
    pub router: Option<RouterId>,
    /// Only entries after this one (for following).
    pub after: Option<u64>,
    /// Only entries before this one (for paging back).
    pub before: Option<u64>,
    /// Oldest first. Newest first otherwise.
    pub ascending: bool,
    /// At most this many, capped at [`PAGE_MAX`].
    pub limit: u32,
}

impl Default for AuditQuery {
    fn default() -> Self {
        Self { router: None, after: None, before: None, ascending: false, limit: PAGE_MAX }
    }
}

/// One line of the audit trail.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditEntry {
    /// Its position; grows over the whole register.
    pub seq: u64,
    /// The router that it is about; `None` when it is about the fleet.
    pub router: Option<RouterId>,
    /// When it first happened.
    pub at: UnixTime,
    /// When it last happened, where a refusal was repeated.
    pub last_at: UnixTime,
    /// How often it happened from `at` to `last_at`.
    pub count: u64,
    /// Who caused it: `router`, `controller`, `admin:NAME`.
    pub actor: String,
    /// What happened, one word of REGISTER.md's list.
    pub event: String,
    /// The rest.
    pub detail: Value,
}

/// Totals for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Edge routers.
    pub edge: u64,
    /// Transit routers.
    pub transit: u64,
    /// Routers that hold a leaf.
    pub enrolled: u64,
    /// Routers switched off.
    pub disabled: u64,
    /// Routers revoked.
    pub revoked: u64,
    /// Routers whose token is not yet spent.
    pub tokens: u64,
    /// Leaves kept.
    pub leaves: u64,
    /// Audit entries.
    pub audit: u64,
    /// Administrators.
    pub admins: u64,
}

/// What the register did since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Metrics {
    /// Transactions that wrote and are durable. Each is one fsync of the write-ahead log.
    pub commits: u64,
    /// Transactions that were undone because the disk refused them.
    pub failed_commits: u64,
    /// Submissions decided.
    pub steps: u64,
    /// Submissions that changed something.
    pub written_steps: u64,
    /// Checkpoints of the write-ahead log; each costs up to two more fsyncs.
    pub checkpoints: u64,
    /// Requests that wait for the writer now.
    pub queued: u64,
}

/// A copy to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupRequest {
    /// Where to; the folder must exist.
    pub to: PathBuf,
    /// Now, by the controller's clock. Read before asking, so that every leaf missing in the copy is younger.
    pub taken_at: UnixTime,
    /// Replace a file that is there.
    pub overwrite: bool,
}

/// A copy that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupReport {
    /// Where it is.
    pub path: PathBuf,
    /// When it was taken.
    pub taken_at: UnixTime,
    /// Its size in bytes.
    pub bytes: u64,
    /// How many routers it holds.
    pub routers: u64,
}
