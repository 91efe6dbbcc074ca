//! Rows out of SQLite.

use std::collections::HashMap;
use std::sync::Arc;

use lifecycle::issuance::{
    Asked, Epoch, Fork, IssuedLeaf, LastUsed, LeafSeq, NamesDigest, Record, Token, TokenId, Voucher,
};
use lifecycle::{Fingerprint, KeyId, Leaf, RouterId, UnixTime};
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};
use serde_json::Map;
use zeroize::Zeroizing;

use super::code::{
    address_of, bytes, kind_code, kind_of, read_failed, signed, stage_of, standing_of, unsigned, verdict_of,
};
use crate::register::entry::{Admin, Chains, FoundLeaf, Meta, Router, Seen, Sha1, TokenText};
use crate::register::error::RegisterError;
use crate::register::query::{AuditEntry, AuditQuery, Counts, Listed, PAGE_MAX, RouterFilter, RouterQuery, RouterSort};
use crate::register::rows::{Reads, Result, damaged, meta_from};

/// Reads through one connection.
#[derive(Debug)]
pub(in crate::register) struct SqliteReads {
    pub(super) connection: Connection,
}

const ROUTER: &str = "SELECT id, name, kind, role_attributes, is_tunneler_enabled, cost, no_traversal, app_data, tags, \
                      extra, created_at, updated_at, seen_at, seen_hostname, seen_version, seen_details FROM routers";

impl SqliteReads {
    fn one<T>(
        &self,
        sql: &str,
        params: impl rusqlite::Params,
        row: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>> {
        let mut statement = self.connection.prepare_cached(sql).map_err(read_failed)?;
        statement.query_row(params, row).optional().map_err(read_failed)
    }

    fn many<T>(
        &self,
        sql: &str,
        params: impl rusqlite::Params,
        row: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>> {
        let mut statement = self.connection.prepare_cached(sql).map_err(read_failed)?;
        let rows = statement.query_map(params, row).map_err(read_failed)?;
        rows.collect::<rusqlite::Result<_>>().map_err(read_failed)
    }

    fn leaves(&self, id: &RouterId) -> Result<Vec<IssuedLeaf>> {
        let sql = "SELECT seq, client_sha256, client_key, client_not_before, client_not_after, server_sha256, \
                   server_key, server_not_before, server_not_after, asked_client_key, asked_server_key, asked_names, \
                   issued_at, stage FROM leaves WHERE router_id = ?1 ORDER BY seq";
        let rows = self.many(sql, [id.as_str()], |row| Ok(leaf_of(row)))?;
        rows.into_iter().map(|row| row.map_err(|what| damaged(id, what))).collect()
    }

    /// All that [`Reads::meta`] is made of.
    fn meta_table(&self) -> Result<HashMap<String, String>> {
        let rows = self.many("SELECT key, value FROM meta", [], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.into_iter().collect())
    }
}

impl Reads for SqliteReads {
    fn router(&self, id: &RouterId) -> Result<Option<Router>> {
        let router = self.one(&format!("{ROUTER} WHERE id = ?1"), [id.as_str()], |row| Ok(router_of(row)))?;
        router.transpose().map_err(|what| damaged(id, what))
    }

    fn name_holder(&self, name: &str) -> Result<Option<RouterId>> {
        let id = self.one("SELECT id FROM routers WHERE name = ?1", [name], |row| row.get::<_, String>(0))?;
        Ok(id.map(RouterId::new))
    }

    fn record(&self, id: &RouterId) -> Result<Option<Record>> {
        let sql = "SELECT epoch, standing, last_seq, used_seq, first_use, restored_from, used_from, epoch_since, voucher, older, newer, \
                   older_from, newer_from, at, verdict FROM records LEFT JOIN forks USING (router_id) WHERE router_id = ?1";
        let row = self.one(sql, [id.as_str()], |row| {
            let head = (
                row.get::<_, i64>(0)?,
                row.get::<_, i64>(1)?,
                row.get::<_, i64>(2)?,
                row.get::<_, Option<i64>>(3)?,
                row.get::<_, Option<i64>>(4)?,
                row.get::<_, Option<i64>>(5)?,
                row.get::<_, Option<String>>(6)?,
                row.get::<_, Option<i64>>(7)?,
                row.get::<_, Option<Vec<u8>>>(8)?,
            );
            Ok((head, fork_row(row)?))
        })?;
        let Some((head, fork)) = row else { return Ok(None) };
        let (epoch, standing, last_seq, used_seq, first_use, restored_from, used_from, epoch_since, voucher) = head;
        let sql = "SELECT sha256, kind, expires, enrolled FROM tokens WHERE router_id = ?1";
        let token = self.one(sql, [id.as_str()], |row| Ok(token_of(row)))?;
        let leaves = self.leaves(id)?;
        let record = || -> std::result::Result<Record, String> {
            let last_used = match (used_seq, first_use) {
                (Some(seq), Some(at)) => {
                    let from = address_of(used_from.as_deref())?;
                    Some(LastUsed { seq: LeafSeq(unsigned(seq)?), first_use: UnixTime::from_ms(at), from })
                }
                (None, None) => None,
                (Some(_), None) | (None, Some(_)) => return Err("half of the leaf last used is missing".to_owned()),
            };
            Ok(Record {
                id: id.clone(),
                epoch: Epoch(unsigned(epoch)?),
                standing: standing_of(standing)?,
                leaves,
                last_seq: LeafSeq(unsigned(last_seq)?),
                last_used,
                token: token.transpose()?,
                restored_from: restored_from.map(UnixTime::from_ms),
                voucher: voucher.map(|name| bytes(&name)).transpose()?.map(Voucher),
                epoch_since: epoch_since.map(UnixTime::from_ms),
                fork: fork.map(fork_of).transpose()?,
            })
        };
        record().map(Some).map_err(|what| damaged(id, what))
    }

    fn token_text(&self, id: &RouterId) -> Result<Option<TokenText>> {
        self.one("SELECT jti, jwt FROM tokens WHERE router_id = ?1", [id.as_str()], |row| {
            Ok(TokenText { jti: Zeroizing::new(row.get(0)?), jwt: Zeroizing::new(row.get(1)?) })
        })
    }

    fn chains(&self, id: &RouterId, seq: LeafSeq) -> Result<Option<Chains>> {
        let sql = "SELECT client_pem, server_pem, client_sha1 FROM chains WHERE router_id = ?1 AND seq = ?2";
        let row = self.one(sql, params![id.as_str(), signed(seq.0)], |row| {
            Ok((row.get::<_, Arc<str>>(0)?, row.get::<_, Arc<str>>(1)?, row.get::<_, Vec<u8>>(2)?))
        })?;
        let Some((client_pem, server_pem, sha1)) = row else { return Ok(None) };
        let client_sha1 = Sha1(bytes(&sha1).map_err(|what| damaged(id, what))?);
        Ok(Some(Chains { client_pem, server_pem, client_sha1 }))
    }

    fn list(&self, query: &RouterQuery) -> Result<Listed> {
        let mut wanted = String::new();
        let mut values: Vec<Value> = Vec::new();
        for filter in &query.filter {
            let (sql, value) = match filter {
                RouterFilter::Id(id) => ("id = ?", Value::Text(id.as_str().to_owned())),
                RouterFilter::NameIs(name) => ("name = ?", Value::Text(name.clone())),
                RouterFilter::NameContains(part) => ("instr(lower(name), lower(?)) > 0", Value::Text(part.clone())),
                RouterFilter::Kind(kind) => ("kind = ?", Value::Integer(kind_code(*kind))),
            };
            wanted.push_str(if wanted.is_empty() { " WHERE " } else { " AND " });
            wanted.push_str(sql);
            values.push(value);
        }
        let sort = match query.sort {
            RouterSort::Name => "name",
            RouterSort::Id => "id",
            RouterSort::CreatedAt => "created_at",
            RouterSort::UpdatedAt => "updated_at",
        };
        let order = if query.descending { "DESC" } else { "ASC" };
        // One transaction, so that the total, the page and the records are of one moment. Inside the writer it is open already.
        let _moment = if self.connection.is_autocommit() {
            Some(self.connection.unchecked_transaction().map_err(read_failed)?)
        } else {
            None
        };
        let total = self
            .one(&format!("SELECT count(*) FROM routers{wanted}"), params_from_iter(values.iter()), |row| {
                row.get::<_, i64>(0)
            })?
            .unwrap_or(0);
        values.push(Value::Integer(i64::from(query.limit.min(PAGE_MAX))));
        values.push(Value::Integer(signed(query.offset)));
        let sql = format!("SELECT id FROM routers{wanted} ORDER BY {sort} {order}, id {order} LIMIT ? OFFSET ?");
        let ids = self.many(&sql, params_from_iter(values.iter()), |row| row.get::<_, String>(0))?;
        let mut routers = Vec::with_capacity(ids.len());
        for id in ids {
            routers.extend(self.view(&RouterId::new(id))?);
        }
        Ok(Listed { total: u64::try_from(total).unwrap_or(0), routers })
    }

    fn find_leaf(&self, sha1: Sha1) -> Result<Vec<FoundLeaf>> {
        let sql = "SELECT router_id, seq, client_sha256 FROM chains JOIN leaves USING (router_id, seq) \
                   WHERE client_sha1 = ?1 ORDER BY number DESC";
        let rows = self.many(sql, [&sha1.0[..]], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?, row.get::<_, Vec<u8>>(2)?))
        })?;
        let found = |(id, seq, sha256): (String, i64, Vec<u8>)| {
            let router = RouterId::new(id);
            let parts = unsigned(seq).and_then(|seq| Ok((LeafSeq(seq), Fingerprint(bytes(&sha256)?))));
            let (seq, fingerprint) = parts.map_err(|what| damaged(&router, what))?;
            Ok(FoundLeaf { router, fingerprint, seq })
        };
        rows.into_iter().map(found).collect()
    }

    fn find_token(&self, token: TokenId) -> Result<Option<RouterId>> {
        let sql = "SELECT router_id FROM tokens WHERE sha256 = ?1";
        Ok(self.one(sql, [&token.0[..]], |row| row.get::<_, String>(0))?.map(RouterId::new))
    }

    fn audit(&self, query: &AuditQuery) -> Result<Vec<AuditEntry>> {
        let mut wanted = String::from("seq > ? AND seq < ?");
        let mut values =
            vec![Value::Integer(query.after.map_or(-1, signed)), Value::Integer(query.before.map_or(i64::MAX, signed))];
        if let Some(router) = &query.router {
            wanted.push_str(" AND router_id = ?");
            values.push(Value::Text(router.as_str().to_owned()));
        }
        values.push(Value::Integer(i64::from(query.limit.min(PAGE_MAX))));
        let order = if query.ascending { "ASC" } else { "DESC" };
        let sql = format!(
            "SELECT seq, router_id, at, last_at, count, actor, event, detail FROM audit WHERE {wanted} \
             ORDER BY seq {order} LIMIT ?"
        );
        self.many(&sql, params_from_iter(values), |row| {
            let detail: String = row.get(7)?;
            Ok(AuditEntry {
                seq: u64::try_from(row.get::<_, i64>(0)?).unwrap_or(0),
                router: row.get::<_, Option<String>>(1)?.map(RouterId::new),
                at: UnixTime::from_ms(row.get(2)?),
                last_at: UnixTime::from_ms(row.get(3)?),
                count: u64::try_from(row.get::<_, i64>(4)?).unwrap_or(1),
                actor: row.get(5)?,
                event: row.get(6)?,
                // Text that is not JSON any more is still worth showing.
                detail: serde_json::from_str(&detail).unwrap_or(serde_json::Value::String(detail)),
            })
        })
    }

    fn admin(&self, name: &str) -> Result<Option<Admin>> {
        let sql = "SELECT id, name, password_hash, created_at, updated_at FROM admins WHERE name = ?1";
        self.one(sql, [name], admin_of)
    }

    fn admins(&self) -> Result<Vec<Admin>> {
        let sql = "SELECT id, name, password_hash, created_at, updated_at FROM admins ORDER BY name";
        self.many(sql, [], admin_of)
    }

    fn meta(&self) -> Result<Meta> {
        let schema = self.one("PRAGMA user_version", [], |row| row.get(0))?.unwrap_or(0);
        let table = self.meta_table()?;
        meta_from(schema, |key| Ok(table.get(key).cloned()))
    }

    fn counts(&self) -> Result<Counts> {
        let sql = "SELECT (SELECT count(*) FROM routers WHERE kind = 1), (SELECT count(*) FROM routers WHERE kind = 2), \
                   (SELECT count(DISTINCT router_id) FROM leaves), \
                   (SELECT count(*) FROM records WHERE standing = 2), (SELECT count(*) FROM records WHERE standing = 3), \
                   (SELECT count(*) FROM tokens), (SELECT count(*) FROM leaves), \
                   (SELECT coalesce(max(seq), 0) FROM audit), (SELECT count(*) FROM admins)";
        let numbers = self.one(sql, [], |row| {
            let number = |column| Ok::<_, rusqlite::Error>(u64::try_from(row.get::<_, i64>(column)?).unwrap_or(0));
            Ok(Counts {
                edge: number(0)?,
                transit: number(1)?,
                enrolled: number(2)?,
                disabled: number(3)?,
                revoked: number(4)?,
                tokens: number(5)?,
                leaves: number(6)?,
                audit: number(7)?,
                admins: number(8)?,
            })
        })?;
        numbers.ok_or_else(|| RegisterError::ReadFailed { detail: "no counts".to_owned() })
    }
}

type Decoded<T> = std::result::Result<T, String>;

fn column<T: rusqlite::types::FromSql>(row: &Row<'_>, index: usize) -> Decoded<T> {
    row.get(index).map_err(|error| error.to_string())
}

fn blob<const N: usize>(row: &Row<'_>, index: usize) -> Decoded<[u8; N]> {
    let value = row.get_ref(index).map_err(|error| error.to_string())?;
    bytes(value.as_blob().map_err(|error| error.to_string())?)
}

fn time(row: &Row<'_>, index: usize) -> Decoded<UnixTime> {
    column(row, index).map(UnixTime::from_ms)
}

fn object(row: &Row<'_>, index: usize) -> Decoded<Map<String, serde_json::Value>> {
    serde_json::from_str(&column::<String>(row, index)?).map_err(|error| error.to_string())
}

fn router_of(row: &Row<'_>) -> Decoded<Router> {
    let seen = match column::<Option<i64>>(row, 12)? {
        None => None,
        Some(at) => Some(Seen {
            at: UnixTime::from_ms(at),
            hostname: column(row, 13)?,
            version: column(row, 14)?,
            details: object(row, 15)?,
        }),
    };
    Ok(Router {
        id: RouterId::new(column::<String>(row, 0)?),
        name: column(row, 1)?,
        kind: kind_of(column(row, 2)?)?,
        role_attributes: serde_json::from_str(&column::<String>(row, 3)?).map_err(|error| error.to_string())?,
        is_tunneler_enabled: column(row, 4)?,
        cost: column(row, 5)?,
        no_traversal: column(row, 6)?,
        app_data: object(row, 7)?,
        tags: object(row, 8)?,
        extra: object(row, 9)?,
        created_at: time(row, 10)?,
        updated_at: time(row, 11)?,
        seen,
    })
}

/// A row of `forks`, as SQLite gives it.
type ForkRow = (Vec<u8>, i64, Option<String>, Option<String>, i64, i64);

/// The columns of `forks` in a joined row; `None` where there is none.
fn fork_row(row: &Row<'_>) -> rusqlite::Result<Option<ForkRow>> {
    let Some(older) = row.get::<_, Option<Vec<u8>>>(9)? else { return Ok(None) };
    Ok(Some((older, row.get(10)?, row.get(11)?, row.get(12)?, row.get(13)?, row.get(14)?)))
}

fn fork_of((older, newer, older_from, newer_from, at, verdict): ForkRow) -> std::result::Result<Fork, String> {
    Ok(Fork {
        older: Fingerprint(bytes(&older)?),
        newer: LeafSeq(unsigned(newer)?),
        older_from: address_of(older_from.as_deref())?,
        newer_from: address_of(newer_from.as_deref())?,
        at: UnixTime::from_ms(at),
        verdict: verdict_of(verdict)?,
    })
}

fn token_of(row: &Row<'_>) -> Decoded<Token> {
    Ok(Token {
        id: TokenId(blob(row, 0)?),
        kind: kind_of(column(row, 1)?)?,
        expires: time(row, 2)?,
        enrolled: column::<Option<i64>>(row, 3)?.map(unsigned).transpose()?.map(LeafSeq),
    })
}

fn leaf_of(row: &Row<'_>) -> Decoded<IssuedLeaf> {
    let leaf = |first: usize| -> Decoded<Leaf> {
        Ok(Leaf {
            fingerprint: Fingerprint(blob(row, first)?),
            key: KeyId(blob(row, first + 1)?),
            not_before: time(row, first + 2)?,
            not_after: time(row, first + 3)?,
        })
    };
    Ok(IssuedLeaf {
        seq: LeafSeq(unsigned(column(row, 0)?)?),
        client: leaf(1)?,
        server: leaf(5)?,
        asked: Asked {
            client_key: KeyId(blob(row, 9)?),
            server_key: KeyId(blob(row, 10)?),
            names: NamesDigest(blob(row, 11)?),
        },
        issued_at: time(row, 12)?,
        stage: stage_of(column(row, 13)?)?,
    })
}

fn admin_of(row: &Row<'_>) -> rusqlite::Result<Admin> {
    Ok(Admin {
        id: row.get(0)?,
        name: row.get(1)?,
        password_hash: row.get(2)?,
        created_at: UnixTime::from_ms(row.get(3)?),
        updated_at: UnixTime::from_ms(row.get(4)?),
    })
}
