//! Where rows live: the seam between the code that decides and the two backends.

use std::sync::Arc;

use lifecycle::issuance::{Audit, Fork, ForkVerdict, LeafSeq, Record, TokenId};
use lifecycle::{RouterId, UnixTime};
use serde_json::{Value, json};

use super::entry::{Admin, Chains, FoundLeaf, Meta, Router, RouterView, Seen, Sha1, TokenText};
use super::error::RegisterError;
use super::query::{AuditEntry, AuditQuery, Counts, Listed, RouterQuery};

pub(super) type Result<T> = std::result::Result<T, RegisterError>;

/// What can be read. A failed read is `ReadFailed` or `DamagedRouter`, never "absent".
pub(super) trait Reads {
    fn router(&self, id: &RouterId) -> Result<Option<Router>>;
    fn name_holder(&self, name: &str) -> Result<Option<RouterId>>;
    fn record(&self, id: &RouterId) -> Result<Option<Record>>;
    fn token_text(&self, id: &RouterId) -> Result<Option<TokenText>>;
    fn chains(&self, id: &RouterId, seq: LeafSeq) -> Result<Option<Chains>>;
    fn list(&self, query: &RouterQuery) -> Result<Listed>;
    fn find_leaf(&self, sha1: Sha1) -> Result<Vec<FoundLeaf>>;
    fn find_token(&self, token: TokenId) -> Result<Option<RouterId>>;
    fn audit(&self, query: &AuditQuery) -> Result<Vec<AuditEntry>>;
    fn admin(&self, name: &str) -> Result<Option<Admin>>;
    fn admins(&self) -> Result<Vec<Admin>>;
    fn meta(&self) -> Result<Meta>;
    fn counts(&self) -> Result<Counts>;

    fn view(&self, id: &RouterId) -> Result<Option<RouterView>> {
        let Some(router) = self.router(id)? else { return Ok(None) };
        let record = self.record(id)?.ok_or_else(|| damaged(id, "it has no record"))?;
        Ok(Some(RouterView { router, token: self.token_text(id)?, record }))
    }
}

/// What can be written, in a transaction that the backend has open whenever these are called.
pub(super) trait Rows {
    type Reads: Reads;

    /// Opens the transaction, unless it is open.
    fn begin(&mut self) -> Result<()>;
    /// What the transaction sees.
    fn reads(&self) -> &Self::Reads;
    /// The record as it stands in the transaction; may come from a cache that never runs ahead of it.
    fn cached_record(&mut self, id: &RouterId) -> Result<Option<Arc<Record>>>;

    fn insert_router(&mut self, router: &Router) -> Result<()>;
    fn update_router(&mut self, router: &Router) -> Result<()>;
    fn set_seen(&mut self, id: &RouterId, seen: &Seen) -> Result<()>;
    fn delete_router(&mut self, id: &RouterId) -> Result<()>;
    /// Writes what differs from `before`. `token` is the text of a token that `before` does not have.
    fn put_record(&mut self, before: Option<&Record>, after: Arc<Record>, token: Option<&TokenText>) -> Result<()>;
    fn put_chains(&mut self, id: &RouterId, seq: LeafSeq, chains: &Chains) -> Result<()>;
    /// Appends and gives the position; `seq` of the entry is ignored.
    fn append_audit(&mut self, entry: AuditEntry) -> Result<u64>;
    fn count_audit(&mut self, seq: u64, count: u64, last_at: UnixTime) -> Result<()>;
    fn put_admin(&mut self, admin: &Admin) -> Result<()>;
    fn delete_admin(&mut self, name: &str) -> Result<()>;
    fn put_meta(&mut self, key: &'static str, value: Option<String>) -> Result<()>;
}

/// Keys of the meta table.
pub(super) mod meta_key {
    pub(crate) const INSTANCE_ID: &str = "instance_id";
    pub(crate) const CAMPAIGN_ORDERED_AT: &str = "campaign_ordered_at";
    pub(crate) const CAMPAIGN_UNTIL: &str = "campaign_until";
    pub(crate) const RESTORED_FROM: &str = "restored_from";
    pub(crate) const LAST_SEEN_AT: &str = "last_seen_at";
    pub(crate) const TAKEN_AT: &str = "taken_at";
}

/// Builds [`Meta`] from the meta table.
pub(super) fn meta_from(schema: i64, get: impl Fn(&'static str) -> Result<Option<String>>) -> Result<Meta> {
    let time =
        |key| -> Result<Option<UnixTime>> { Ok(get(key)?.and_then(|text| text.parse().ok()).map(UnixTime::from_ms)) };
    let campaign = match (time(meta_key::CAMPAIGN_ORDERED_AT)?, time(meta_key::CAMPAIGN_UNTIL)?) {
        (Some(ordered_at), Some(until)) => Some(lifecycle::issuance::Campaign { ordered_at, until }),
        _ => None,
    };
    Ok(Meta {
        schema,
        instance_id: get(meta_key::INSTANCE_ID)?.unwrap_or_default(),
        campaign,
        restored_from: time(meta_key::RESTORED_FROM)?,
        last_seen_at: time(meta_key::LAST_SEEN_AT)?,
    })
}

pub(super) fn damaged(id: &RouterId, what: impl Into<String>) -> RegisterError {
    RegisterError::DamagedRouter { router: id.clone(), what: what.into() }
}

/// The words of the audit trail. REGISTER.md lists them; they are never renamed.
pub(super) fn audit_words(audit: &Audit) -> (&'static str, Value) {
    match audit {
        Audit::Enrolled(seq) => ("enrolled", json!({ "leaf": seq.0 })),
        Audit::Issued(seq) => ("issued", json!({ "leaf": seq.0 })),
        Audit::Confirmed(seq) => ("confirmed", json!({ "leaf": seq.0 })),
        Audit::FirstUse(seq) => ("first-use", json!({ "leaf": seq.0 })),
        Audit::ReadmittedAfterRestore(seq) => ("readmitted-after-restore", json!({ "leaf": seq.0 })),
        Audit::Refused(refusal) => ("admission-refused", json!({ "reason": refusal.reason() })),
        Audit::RequestRefused(refusal) => ("extension-refused", json!({ "reason": refusal.reason() })),
        Audit::ReEnrolled(epoch) => ("re-enrolled", json!({ "epoch": epoch.0 })),
        Audit::Revoked(epoch) => ("revoked", json!({ "epoch": epoch.0 })),
        Audit::Disabled => ("disabled", json!({})),
        Audit::Enabled => ("enabled", json!({})),
        Audit::Readmitted(seq) => ("readmitted", json!({ "leaf": seq.0 })),
        Audit::Vouched(voucher) => ("vouched", json!({ "sha1": Sha1(voucher.0).to_string() })),
        Audit::Forked(fork) => ("fork-suspected", fork_words(fork)),
        Audit::ForkDismissed => ("fork-dismissed", json!({})),
    }
}

fn fork_words(fork: &Fork) -> Value {
    json!({
        "older": fork.older.to_string(),
        "olderFrom": fork.older_from,
        "newerLeaf": fork.newer.0,
        "newerFrom": fork.newer_from,
        "outcome": match fork.verdict {
            ForkVerdict::Frozen => "admitted; nothing is retired before its end",
            ForkVerdict::Refused => "refused",
        },
    })
}
