//! Rows into SQLite, through the writer's connection.

use std::collections::HashMap;
use std::sync::Arc;

use lifecycle::issuance::{Fork, IssuedLeaf, LeafSeq, Record};
use lifecycle::{RouterId, UnixTime};
use rusqlite::params;

use super::code::{address_text, kind_code, signed, stage_code, standing_code, verdict_code, write_failed};
use super::reads::SqliteReads;
use crate::register::entry::{Admin, Chains, Router, Seen, TokenText};
use crate::register::error::RegisterError;
use crate::register::query::AuditEntry;
use crate::register::rows::{Reads, Result, Rows, damaged};

/// The writer's rows: its connection, and the records it met lately.
#[derive(Debug)]
pub(in crate::register) struct SqliteRows {
    reads: SqliteReads,
    open: bool,
    cache: Cache,
}

impl SqliteRows {
    pub(super) fn new(reads: SqliteReads) -> Self {
        Self { reads, open: false, cache: Cache::default() }
    }

    /// Makes the transaction durable: returns only after the write-ahead log was synced.
    pub(super) fn commit(&mut self) -> Result<()> {
        if !self.open {
            return Ok(());
        }
        self.execute("COMMIT", [])?;
        self.open = false;
        Ok(())
    }

    /// Undoes the transaction and forgets every record that it may have touched.
    pub(super) fn rollback(&mut self) {
        self.cache = Cache::default();
        self.open = false;
        // SQLite has already undone a transaction that met ENOSPC or EIO.
        if !self.reads.connection.is_autocommit()
            && let Err(error) = self.execute("ROLLBACK", [])
        {
            tracing::error!(%error, "the register could not undo a transaction");
        }
    }

    /// Moves what is committed from the write-ahead log into the file, as far as readers allow.
    pub(super) fn checkpoint(&self) -> rusqlite::Result<()> {
        self.reads.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
    }

    fn execute(&self, sql: &str, params: impl rusqlite::Params) -> Result<usize> {
        let mut statement = self.reads.connection.prepare_cached(sql).map_err(write_failed)?;
        statement.execute(params).map_err(write_failed)
    }

    fn insert_leaf(&self, id: &RouterId, leaf: &IssuedLeaf) -> Result<()> {
        self.execute(
            "INSERT INTO leaves (router_id, seq, client_sha256, client_key, client_not_before, client_not_after, \
             server_sha256, server_key, server_not_before, server_not_after, asked_client_key, asked_server_key, \
             asked_names, issued_at, stage) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
            params![
                id.as_str(),
                signed(leaf.seq.0),
                &leaf.client.fingerprint.0[..],
                &leaf.client.key.0[..],
                leaf.client.not_before.as_ms(),
                leaf.client.not_after.as_ms(),
                &leaf.server.fingerprint.0[..],
                &leaf.server.key.0[..],
                leaf.server.not_before.as_ms(),
                leaf.server.not_after.as_ms(),
                &leaf.asked.client_key.0[..],
                &leaf.asked.server_key.0[..],
                &leaf.asked.names.0[..],
                leaf.issued_at.as_ms(),
                stage_code(leaf.stage),
            ],
        )?;
        Ok(())
    }

    fn put_leaves(&self, id: &RouterId, before: &[IssuedLeaf], after: &[IssuedLeaf]) -> Result<()> {
        for old in before {
            if !after.iter().any(|leaf| leaf.seq == old.seq) {
                let sql = "DELETE FROM leaves WHERE router_id = ?1 AND seq = ?2";
                self.execute(sql, params![id.as_str(), signed(old.seq.0)])?;
            }
        }
        for new in after {
            match before.iter().find(|leaf| leaf.seq == new.seq) {
                None => self.insert_leaf(id, new)?,
                Some(old) if old == new => {}
                Some(old) if (IssuedLeaf { stage: new.stage, ..*old }) == *new => {
                    let sql = "UPDATE leaves SET stage = ?3 WHERE router_id = ?1 AND seq = ?2";
                    self.execute(sql, params![id.as_str(), signed(new.seq.0), stage_code(new.stage)])?;
                }
                // A position is given out once and its leaf never changes.
                Some(_) => return Err(damaged(id, "a leaf would change under its position")),
            }
        }
        Ok(())
    }

    fn put_fork(&self, id: &str, before: Option<Fork>, after: Option<Fork>) -> Result<()> {
        match after {
            _ if before == after => Ok(()),
            None => self.execute("DELETE FROM forks WHERE router_id = ?1", [id]).map(drop),
            Some(fork) => {
                let sql = "INSERT OR REPLACE INTO forks (router_id, older, newer, older_from, newer_from, at, verdict) \
                           VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
                let values = params![
                    id,
                    &fork.older.0[..],
                    signed(fork.newer.0),
                    address_text(fork.older_from),
                    address_text(fork.newer_from),
                    fork.at.as_ms(),
                    verdict_code(fork.verdict),
                ];
                self.execute(sql, values).map(drop)
            }
        }
    }

    fn put_token(&self, before: Option<&Record>, after: &Record, text: Option<&TokenText>) -> Result<()> {
        let held = before.and_then(|record| record.token);
        let id = after.id.as_str();
        match (held, after.token) {
            (held, after) if held == after => {}
            (_, None) => drop(self.execute("DELETE FROM tokens WHERE router_id = ?1", [id])?),
            (Some(held), Some(token)) if held.id == token.id => {
                let sql = "UPDATE tokens SET kind = ?2, expires = ?3, enrolled = ?4 WHERE router_id = ?1";
                let enrolled = token.enrolled.map(|seq| signed(seq.0));
                self.execute(sql, params![id, kind_code(token.kind), token.expires.as_ms(), enrolled])?;
            }
            (_, Some(token)) => {
                let Some(text) = text else {
                    return Err(RegisterError::Incomplete { router: after.id.clone(), missing: "token text" });
                };
                self.execute(
                    "INSERT OR REPLACE INTO tokens (router_id, sha256, kind, expires, enrolled, jti, jwt) \
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                    params![
                        id,
                        &token.id.0[..],
                        kind_code(token.kind),
                        token.expires.as_ms(),
                        token.enrolled.map(|seq| signed(seq.0)),
                        text.jti.as_str(),
                        text.jwt.as_str(),
                    ],
                )?;
            }
        }
        Ok(())
    }
}

/// What the table `records` holds of a record.
#[derive(PartialEq)]
struct Head {
    epoch: i64,
    standing: i64,
    last_seq: i64,
    used_seq: Option<i64>,
    first_use: Option<i64>,
    restored_from: Option<i64>,
    voucher: Option<Vec<u8>>,
    used_from: Option<String>,
    epoch_since: Option<i64>,
}

impl Head {
    fn of(record: &Record) -> Self {
        Self {
            epoch: signed(record.epoch.0),
            standing: standing_code(record.standing),
            last_seq: signed(record.last_seq.0),
            used_seq: record.last_used.map(|last| signed(last.seq.0)),
            first_use: record.last_used.map(|last| last.first_use.as_ms()),
            restored_from: record.restored_from.map(UnixTime::as_ms),
            voucher: record.voucher.map(|voucher| voucher.0.to_vec()),
            used_from: record.last_used.and_then(|last| address_text(last.from)),
            epoch_since: record.epoch_since.map(UnixTime::as_ms),
        }
    }
}

fn json(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| RegisterError::CommitFailed { detail: error.to_string() })
}

impl Rows for SqliteRows {
    type Reads = SqliteReads;

    fn begin(&mut self) -> Result<()> {
        if !self.open {
            self.execute("BEGIN IMMEDIATE", [])?;
            self.open = true;
        }
        Ok(())
    }

    fn reads(&self) -> &SqliteReads {
        &self.reads
    }

    fn cached_record(&mut self, id: &RouterId) -> Result<Option<Arc<Record>>> {
        // No other process writes (the lock) and no other connection of this one: the cache is what a read would give.
        if let Some(record) = self.cache.get(id) {
            return Ok(Some(record));
        }
        self.begin()?;
        let record = self.reads.record(id)?.map(Arc::new);
        if let Some(record) = &record {
            self.cache.put(Arc::clone(record));
        }
        Ok(record)
    }

    fn insert_router(&mut self, router: &Router) -> Result<()> {
        self.execute(
            "INSERT INTO routers (id, name, kind, role_attributes, is_tunneler_enabled, cost, no_traversal, app_data, \
             tags, extra, created_at, updated_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
            params![
                router.id.as_str(),
                router.name,
                kind_code(router.kind),
                json(&router.role_attributes)?,
                router.is_tunneler_enabled,
                router.cost,
                router.no_traversal,
                json(&router.app_data)?,
                json(&router.tags)?,
                json(&router.extra)?,
                router.created_at.as_ms(),
                router.updated_at.as_ms(),
            ],
        )?;
        Ok(())
    }

    fn update_router(&mut self, router: &Router) -> Result<()> {
        self.execute(
            "UPDATE routers SET name = ?2, role_attributes = ?3, is_tunneler_enabled = ?4, cost = ?5, \
             no_traversal = ?6, app_data = ?7, tags = ?8, extra = ?9, updated_at = ?10 WHERE id = ?1",
            params![
                router.id.as_str(),
                router.name,
                json(&router.role_attributes)?,
                router.is_tunneler_enabled,
                router.cost,
                router.no_traversal,
                json(&router.app_data)?,
                json(&router.tags)?,
                json(&router.extra)?,
                router.updated_at.as_ms(),
            ],
        )?;
        Ok(())
    }

    fn set_seen(&mut self, id: &RouterId, seen: &Seen) -> Result<()> {
        let sql =
            "UPDATE routers SET seen_at = ?2, seen_hostname = ?3, seen_version = ?4, seen_details = ?5 WHERE id = ?1";
        let details = json(&seen.details)?;
        self.execute(sql, params![id.as_str(), seen.at.as_ms(), seen.hostname, seen.version, details])?;
        Ok(())
    }

    fn delete_router(&mut self, id: &RouterId) -> Result<()> {
        self.cache.remove(id);
        self.execute("DELETE FROM routers WHERE id = ?1", [id.as_str()])?;
        Ok(())
    }

    fn put_record(&mut self, before: Option<&Record>, after: Arc<Record>, token: Option<&TokenText>) -> Result<()> {
        let id = after.id.as_str();
        let head = Head::of(&after);
        if before.map(Head::of).as_ref() != Some(&head) {
            let sql = if before.is_none() {
                "INSERT INTO records (router_id, epoch, standing, last_seq, used_seq, first_use, restored_from, voucher, \
                 used_from, epoch_since) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)"
            } else {
                "UPDATE records SET epoch = ?2, standing = ?3, last_seq = ?4, used_seq = ?5, first_use = ?6, \
                 restored_from = ?7, voucher = ?8, used_from = ?9, epoch_since = ?10 WHERE router_id = ?1"
            };
            let values = params![
                id,
                head.epoch,
                head.standing,
                head.last_seq,
                head.used_seq,
                head.first_use,
                head.restored_from,
                head.voucher,
                head.used_from,
                head.epoch_since,
            ];
            self.execute(sql, values)?;
        }
        self.put_fork(id, before.and_then(|record| record.fork), after.fork)?;
        self.put_leaves(&after.id, before.map_or(&[], |record| &record.leaves), &after.leaves)?;
        self.put_token(before, &after, token)?;
        self.cache.put(after);
        Ok(())
    }

    fn put_chains(&mut self, id: &RouterId, seq: LeafSeq, chains: &Chains) -> Result<()> {
        let sql =
            "INSERT INTO chains (router_id, seq, client_sha1, client_pem, server_pem) VALUES (?1, ?2, ?3, ?4, ?5)";
        let Chains { client_pem, server_pem, client_sha1 } = chains;
        self.execute(sql, params![id.as_str(), signed(seq.0), &client_sha1.0[..], client_pem, server_pem])?;
        Ok(())
    }

    fn append_audit(&mut self, entry: AuditEntry) -> Result<u64> {
        self.execute(
            "INSERT INTO audit (router_id, at, last_at, count, actor, event, detail) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                entry.router.as_ref().map(RouterId::as_str),
                entry.at.as_ms(),
                entry.last_at.as_ms(),
                signed(entry.count),
                entry.actor,
                entry.event,
                json(&entry.detail)?,
            ],
        )?;
        Ok(u64::try_from(self.reads.connection.last_insert_rowid()).unwrap_or(0))
    }

    fn count_audit(&mut self, seq: u64, count: u64, last_at: UnixTime) -> Result<()> {
        let sql = "UPDATE audit SET count = ?2, last_at = ?3 WHERE seq = ?1";
        self.execute(sql, params![signed(seq), signed(count), last_at.as_ms()])?;
        Ok(())
    }

    fn put_admin(&mut self, admin: &Admin) -> Result<()> {
        self.execute(
            "INSERT INTO admins (id, name, password_hash, created_at, updated_at) VALUES (?1, ?2, ?3, ?4, ?5) \
             ON CONFLICT (name) DO UPDATE SET password_hash = excluded.password_hash, updated_at = excluded.updated_at",
            params![admin.id, admin.name, admin.password_hash, admin.created_at.as_ms(), admin.updated_at.as_ms()],
        )?;
        Ok(())
    }

    fn delete_admin(&mut self, name: &str) -> Result<()> {
        self.execute("DELETE FROM admins WHERE name = ?1", [name])?;
        Ok(())
    }

    fn put_meta(&mut self, key: &'static str, value: Option<String>) -> Result<()> {
        match value {
            Some(value) => self.execute(
                "INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                [key, &value],
            )?,
            None => self.execute("DELETE FROM meta WHERE key = ?1", [key])?,
        };
        Ok(())
    }
}

/// Records met lately: at most twice [`Cache::GENERATION`], the older half dropped at once.
#[derive(Debug, Default)]
struct Cache {
    young: HashMap<RouterId, Arc<Record>>,
    old: HashMap<RouterId, Arc<Record>>,
}

impl Cache {
    const GENERATION: usize = 2048;

    fn get(&mut self, id: &RouterId) -> Option<Arc<Record>> {
        if let Some(record) = self.young.get(id) {
            return Some(Arc::clone(record));
        }
        let record = self.old.remove(id)?;
        self.put(Arc::clone(&record));
        Some(record)
    }

    fn put(&mut self, record: Arc<Record>) {
        if self.young.len() >= Self::GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.old.remove(&record.id);
        self.young.insert(record.id.clone(), record);
    }

    fn remove(&mut self, id: &RouterId) {
        self.young.remove(id);
        self.old.remove(id);
    }
}
