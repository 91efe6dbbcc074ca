//! Rows in maps. Every change gives its own inverse, so that a transaction can be taken back.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use lifecycle::issuance::{EnrollmentKind, LeafSeq, Record, Standing, TokenId};
use lifecycle::{RouterId, UnixTime};

use crate::register::entry::{Admin, Chains, FoundLeaf, Meta, Router, Seen, Sha1, TokenText};
use crate::register::error::RegisterError;
use crate::register::query::{AuditEntry, AuditQuery, Counts, Listed, PAGE_MAX, RouterFilter, RouterQuery, RouterSort};
use crate::register::rows::{Reads, Result, Rows, meta_from};

/// All of one router.
#[derive(Clone, Debug)]
pub(in crate::register) struct Kept {
    router: Router,
    record: Option<Arc<Record>>,
    token: Option<TokenText>,
    chains: BTreeMap<LeafSeq, Chains>,
}

#[derive(Debug, Default)]
pub(in crate::register) struct Tables {
    routers: BTreeMap<RouterId, Arc<Kept>>,
    names: HashMap<String, RouterId>,
    tokens: HashMap<TokenId, RouterId>,
    leaves: BTreeSet<(Sha1, RouterId, LeafSeq)>,
    audit: Vec<AuditEntry>,
    admins: BTreeMap<String, Admin>,
    pub(super) meta: BTreeMap<&'static str, String>,
}

/// One change; [`Tables::apply`] gives the one that takes it back.
#[derive(Debug)]
pub(in crate::register) enum Change {
    Router(RouterId, Option<Arc<Kept>>),
    AuditAdd(AuditEntry),
    AuditDrop,
    AuditSet(usize, u64, UnixTime),
    Admin(String, Option<Admin>),
    Meta(&'static str, Option<String>),
    Nothing,
}

fn put<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) -> Option<V> {
    match value {
        Some(value) => map.insert(key, value),
        None => map.remove(&key),
    }
}

impl Tables {
    fn apply(&mut self, change: Change) -> Change {
        match change {
            Change::Router(id, kept) => {
                if let Some(old) = self.routers.get(&id).cloned() {
                    self.index(&id, &old, false);
                }
                if let Some(new) = &kept {
                    self.index(&id, &Arc::clone(new), true);
                }
                let before = put(&mut self.routers, id.clone(), kept);
                Change::Router(id, before)
            }
            Change::AuditAdd(entry) => {
                self.audit.push(entry);
                Change::AuditDrop
            }
            Change::AuditDrop => self.audit.pop().map_or(Change::Nothing, Change::AuditAdd),
            Change::AuditSet(index, count, last_at) => match self.audit.get_mut(index) {
                Some(entry) => {
                    let back = Change::AuditSet(index, entry.count, entry.last_at);
                    (entry.count, entry.last_at) = (count, last_at);
                    back
                }
                None => Change::Nothing,
            },
            Change::Admin(name, admin) => {
                let before = put(&mut self.admins, name.clone(), admin);
                Change::Admin(name, before)
            }
            Change::Meta(key, value) => Change::Meta(key, put(&mut self.meta, key, value)),
            Change::Nothing => Change::Nothing,
        }
    }

    /// Takes changes back, last one first; gives the log that takes *that* back.
    pub(super) fn turn_back(&mut self, log: Vec<Change>) -> Vec<Change> {
        log.into_iter().rev().map(|change| self.apply(change)).collect()
    }

    fn index(&mut self, id: &RouterId, kept: &Kept, add: bool) {
        let leaves = kept.chains.iter().map(|(seq, chains)| (chains.client_sha1, id.clone(), *seq));
        let token = kept.record.as_ref().and_then(|record| record.token);
        if add {
            self.names.insert(kept.router.name.clone(), id.clone());
            self.tokens.extend(token.map(|token| (token.id, id.clone())));
            self.leaves.extend(leaves);
        } else {
            self.names.remove(&kept.router.name);
            if let Some(token) = token {
                self.tokens.remove(&token.id);
            }
            for leaf in leaves {
                self.leaves.remove(&leaf);
            }
        }
    }

    fn matches(router: &Router, filter: &RouterFilter) -> bool {
        match filter {
            RouterFilter::Id(id) => router.id == *id,
            RouterFilter::NameIs(name) => router.name == *name,
            RouterFilter::NameContains(part) => router.name.to_ascii_lowercase().contains(&part.to_ascii_lowercase()),
            RouterFilter::Kind(kind) => router.kind == *kind,
        }
    }
}

impl Reads for Tables {
    fn router(&self, id: &RouterId) -> Result<Option<Router>> {
        Ok(self.routers.get(id).map(|kept| kept.router.clone()))
    }

    fn name_holder(&self, name: &str) -> Result<Option<RouterId>> {
        Ok(self.names.get(name).cloned())
    }

    fn record(&self, id: &RouterId) -> Result<Option<Record>> {
        Ok(self.routers.get(id).and_then(|kept| kept.record.as_deref().cloned()))
    }

    fn token_text(&self, id: &RouterId) -> Result<Option<TokenText>> {
        Ok(self.routers.get(id).and_then(|kept| kept.token.clone()))
    }

    fn chains(&self, id: &RouterId, seq: LeafSeq) -> Result<Option<Chains>> {
        Ok(self.routers.get(id).and_then(|kept| kept.chains.get(&seq).cloned()))
    }

    fn list(&self, query: &RouterQuery) -> Result<Listed> {
        let mut found: Vec<&Router> = self.routers.values().map(|kept| &kept.router).collect();
        found.retain(|router| query.filter.iter().all(|filter| Self::matches(router, filter)));
        found.sort_by(|a, b| {
            let order = match query.sort {
                RouterSort::Name => a.name.cmp(&b.name),
                RouterSort::Id => a.id.cmp(&b.id),
                RouterSort::CreatedAt => a.created_at.cmp(&b.created_at),
                RouterSort::UpdatedAt => a.updated_at.cmp(&b.updated_at),
            };
            let order = order.then_with(|| a.id.cmp(&b.id));
            if query.descending { order.reverse() } else { order }
        });
        let total = u64::try_from(found.len()).unwrap_or(u64::MAX);
        let skip = usize::try_from(query.offset).unwrap_or(usize::MAX);
        let take = usize::try_from(query.limit.min(PAGE_MAX)).unwrap_or(0);
        let mut routers = Vec::new();
        for router in found.into_iter().skip(skip).take(take) {
            routers.extend(self.view(&router.id)?);
        }
        Ok(Listed { total, routers })
    }

    fn find_leaf(&self, sha1: Sha1) -> Result<Vec<FoundLeaf>> {
        let from = (sha1, RouterId::new(""), LeafSeq(0));
        let same = self.leaves.range(from..).take_while(|(held, _, _)| *held == sha1);
        let found = same.filter_map(|(_, id, seq)| {
            let record = self.routers.get(id)?.record.as_ref()?;
            let fingerprint = record.leaf_at(*seq)?.client.fingerprint;
            Some(FoundLeaf { router: id.clone(), fingerprint, seq: *seq })
        });
        Ok(found.collect())
    }

    fn find_token(&self, token: TokenId) -> Result<Option<RouterId>> {
        Ok(self.tokens.get(&token).cloned())
    }

    fn audit(&self, query: &AuditQuery) -> Result<Vec<AuditEntry>> {
        let wanted = |entry: &&AuditEntry| {
            query.after.is_none_or(|after| entry.seq > after)
                && query.before.is_none_or(|before| entry.seq < before)
                && query.router.as_ref().is_none_or(|id| entry.router.as_ref() == Some(id))
        };
        let limit = usize::try_from(query.limit.min(PAGE_MAX)).unwrap_or(0);
        Ok(if query.ascending {
            self.audit.iter().filter(wanted).take(limit).cloned().collect()
        } else {
            self.audit.iter().rev().filter(wanted).take(limit).cloned().collect()
        })
    }

    fn admin(&self, name: &str) -> Result<Option<Admin>> {
        Ok(self.admins.get(name).cloned())
    }

    fn admins(&self) -> Result<Vec<Admin>> {
        Ok(self.admins.values().cloned().collect())
    }

    fn meta(&self) -> Result<Meta> {
        meta_from(0, |key| Ok(self.meta.get(key).cloned()))
    }

    fn counts(&self) -> Result<Counts> {
        let mut counts = Counts {
            audit: u64::try_from(self.audit.len()).unwrap_or(u64::MAX),
            admins: u64::try_from(self.admins.len()).unwrap_or(u64::MAX),
            ..Counts::default()
        };
        for kept in self.routers.values() {
            match kept.router.kind {
                EnrollmentKind::Edge => counts.edge += 1,
                EnrollmentKind::Transit => counts.transit += 1,
            }
            let Some(record) = &kept.record else { continue };
            counts.enrolled += u64::from(record.is_enrolled());
            counts.disabled += u64::from(record.standing == Standing::Disabled);
            counts.revoked += u64::from(record.standing == Standing::Revoked);
            counts.tokens += u64::from(record.token.is_some());
            counts.leaves += u64::try_from(record.leaves.len()).unwrap_or(0);
        }
        Ok(counts)
    }
}

/// Tables, and how to take back what is not yet committed.
#[derive(Debug, Default)]
pub(in crate::register) struct MemoryRows {
    pub(super) tables: Tables,
    log: Vec<Change>,
}

impl MemoryRows {
    /// What was changed stays.
    pub(super) fn keep(&mut self) {
        self.log.clear();
    }

    pub(super) fn take_log(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.log)
    }

    pub(super) fn put_log(&mut self, log: Vec<Change>) {
        self.log = log;
    }

    fn apply(&mut self, change: Change) {
        let back = self.tables.apply(change);
        self.log.push(back);
    }

    fn change(&mut self, id: &RouterId, change: impl FnOnce(&mut Kept)) -> Result<()> {
        let kept = self.tables.routers.get(id).ok_or_else(|| RegisterError::UnknownRouter(id.clone()))?;
        let mut kept = Kept::clone(kept);
        change(&mut kept);
        self.apply(Change::Router(id.clone(), Some(Arc::new(kept))));
        Ok(())
    }
}

impl Rows for MemoryRows {
    type Reads = Tables;

    fn begin(&mut self) -> Result<()> {
        Ok(())
    }

    fn reads(&self) -> &Tables {
        &self.tables
    }

    fn cached_record(&mut self, id: &RouterId) -> Result<Option<Arc<Record>>> {
        Ok(self.tables.routers.get(id).and_then(|kept| kept.record.clone()))
    }

    fn insert_router(&mut self, router: &Router) -> Result<()> {
        let kept = Kept { router: router.clone(), record: None, token: None, chains: BTreeMap::new() };
        self.apply(Change::Router(router.id.clone(), Some(Arc::new(kept))));
        Ok(())
    }

    fn update_router(&mut self, router: &Router) -> Result<()> {
        self.change(&router.id, |kept| kept.router = router.clone())
    }

    fn set_seen(&mut self, id: &RouterId, seen: &Seen) -> Result<()> {
        self.change(id, |kept| kept.router.seen = Some(seen.clone()))
    }

    fn delete_router(&mut self, id: &RouterId) -> Result<()> {
        self.apply(Change::Router(id.clone(), None));
        Ok(())
    }

    fn put_record(&mut self, _: Option<&Record>, after: Arc<Record>, token: Option<&TokenText>) -> Result<()> {
        let id = after.id.clone();
        self.change(&id, |kept| {
            if let Some(token) = token {
                kept.token = Some(token.clone());
            }
            if after.token.is_none() {
                kept.token = None;
            }
            kept.chains.retain(|seq, _| after.leaf_at(*seq).is_some());
            kept.record = Some(after);
        })
    }

    fn put_chains(&mut self, id: &RouterId, seq: LeafSeq, chains: &Chains) -> Result<()> {
        self.change(id, |kept| drop(kept.chains.insert(seq, chains.clone())))
    }

    fn append_audit(&mut self, mut entry: AuditEntry) -> Result<u64> {
        entry.seq = u64::try_from(self.tables.audit.len()).unwrap_or(u64::MAX).saturating_add(1);
        let seq = entry.seq;
        self.apply(Change::AuditAdd(entry));
        Ok(seq)
    }

    fn count_audit(&mut self, seq: u64, count: u64, last_at: UnixTime) -> Result<()> {
        let index = usize::try_from(seq.saturating_sub(1)).unwrap_or(usize::MAX);
        self.apply(Change::AuditSet(index, count, last_at));
        Ok(())
    }

    fn put_admin(&mut self, admin: &Admin) -> Result<()> {
        let mut admin = admin.clone();
        if let Some(held) = self.tables.admins.get(&admin.name) {
            (admin.id, admin.created_at) = (held.id.clone(), held.created_at);
        }
        self.apply(Change::Admin(admin.name.clone(), Some(admin)));
        Ok(())
    }

    fn delete_admin(&mut self, name: &str) -> Result<()> {
        self.apply(Change::Admin(name.to_owned(), None));
        Ok(())
    }

    fn put_meta(&mut self, key: &'static str, value: Option<String>) -> Result<()> {
        self.apply(Change::Meta(key, value));
        Ok(())
    }
}
