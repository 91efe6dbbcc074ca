//! Backup and restore. A copy carries the time it was taken; what it lacks was issued after that, and can be proved.

use std::path::{Path, PathBuf};

use lifecycle::{RouterId, UnixTime};
use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags, OptionalExtension};

use super::file::{
    Lock, beside, check_header, check_integrity, create_private, exists, no_orphaned_log, open_reader, open_writer,
    put_in_place, remove_database, sync, sync_folder_of,
};
use super::migrate::sqlite_error;
use super::reads::SqliteReads;
use crate::register::error::RegisterError;
use crate::register::query::{BackupReport, BackupRequest};
use crate::register::rows::{Reads, meta_key};

type Result<T> = std::result::Result<T, RegisterError>;

/// What a restored register holds of one router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoredRouter {
    /// Its id.
    pub id: RouterId,
    /// Its name.
    pub name: String,
    /// Latest NotAfter of the leaves that the copy knows; `None` if it was not enrolled.
    pub newest_not_after: Option<UnixTime>,
}

/// What a restore did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreReport {
    /// When the copy was taken. A leaf issued later is admitted when it is presented.
    pub taken_at: UnixTime,
    /// Where the register that was in place is now.
    pub set_aside: Option<PathBuf>,
    /// Every router, by name.
    pub routers: Vec<RestoredRouter>,
}

/// Copies the register at `path`, whether a controller has it open or not. What that one has committed is in the copy.
///
/// # Errors
/// `Absent`, `Foreign`, `Newer`, `Damaged`, `Exists`, `File`, `ReadFailed`.
pub fn backup(path: &Path, request: &BackupRequest) -> Result<BackupReport> {
    check_header(path)?;
    backup_from(&open_reader(path)?.connection, request)
}

/// Copies what `connection` sees into a new file, in one read transaction, which blocks no writer.
pub(super) fn backup_from(connection: &Connection, request: &BackupRequest) -> Result<BackupReport> {
    let BackupRequest { to, taken_at, overwrite } = request;
    if !overwrite && exists(to)? {
        return Err(RegisterError::Exists { path: to.clone() });
    }
    let fresh = beside(to, ".new");
    remove_database(&fresh)?;
    let made = copy(connection, &fresh, *taken_at).and_then(|routers| {
        let bytes = std::fs::metadata(&fresh).map_err(|error| RegisterError::file("look at", &fresh, &error))?.len();
        if *overwrite {
            sync(&fresh)?;
            std::fs::rename(&fresh, to).map_err(|error| RegisterError::file("replace", to, &error))?;
            sync_folder_of(to)?;
        } else {
            put_in_place(&fresh, to)?;
        }
        Ok(BackupReport { path: to.clone(), taken_at: *taken_at, bytes, routers })
    });
    if made.is_err()
        && let Err(error) = remove_database(&fresh)
    {
        tracing::warn!(%error, "half a backup is left behind");
    }
    made
}

fn copy(connection: &Connection, fresh: &Path, taken_at: UnixTime) -> Result<u64> {
    let failed = |error: rusqlite::Error| sqlite_error(fresh, &error);
    drop(create_private(fresh)?);
    let mut target = Connection::open_with_flags(fresh, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(failed)?;
    let step = Backup::new(connection, &mut target).and_then(|backup| backup.step(-1)).map_err(failed)?;
    if step != StepResult::Done {
        return Err(RegisterError::ReadFailed { detail: format!("the copy ended early ({step:?})") });
    }
    // The copy is one file: no log beside it.
    target.query_row("PRAGMA journal_mode = DELETE", [], |_| Ok(())).map_err(failed)?;
    let sql = "INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = excluded.value";
    target.execute(sql, [meta_key::TAKEN_AT, &taken_at.as_ms().to_string()]).map_err(failed)?;
    let routers: i64 = target.query_row("SELECT count(*) FROM routers", [], |row| row.get(0)).map_err(failed)?;
    target.close().map_err(|(_, error)| failed(error))?;
    Ok(u64::try_from(routers).unwrap_or(0))
}

/// Puts a backup in the place of the register at `path`, which no controller may have open. The register that was there,
/// damaged or not, is set aside, never deleted. `at` is now.
///
/// Every router's record remembers when the copy was taken, so that `lifecycle` can admit leaves issued afterwards.
///
/// # Errors
/// `InUse`, and everything that can be wrong with the backup: `Absent`, `Foreign`, `Newer`, `Damaged`, `NotABackup`.
/// The register is untouched then. `File` while putting it in place: the register may be set aside already; run it again.
pub fn restore(backup: &Path, path: &Path, at: UnixTime) -> Result<RestoreReport> {
    let _lock = Lock::take(path)?;
    check_header(backup)?;
    let fresh = beside(path, ".restoring");
    remove_database(&fresh)?;
    let prepared = prepare(backup, &fresh, at);
    let (taken_at, routers) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => {
            remove_database(&fresh)?;
            return Err(in_terms_of(backup, &fresh, error));
        }
    };
    let set_aside = set_aside(path, at)?;
    put_in_place(&fresh, path)?;
    Ok(RestoreReport { taken_at, set_aside, routers })
}

/// Errors about the working copy are errors about the backup.
fn in_terms_of(backup: &Path, fresh: &Path, error: RegisterError) -> RegisterError {
    let place = |path: PathBuf| if path == fresh { backup.to_path_buf() } else { path };
    match error {
        RegisterError::Damaged { path, what } => RegisterError::Damaged { path: place(path), what },
        RegisterError::Foreign { path, what } => RegisterError::Foreign { path: place(path), what },
        RegisterError::SchemaDiffers { path, number } => RegisterError::SchemaDiffers { path: place(path), number },
        other => other,
    }
}

fn prepare(backup: &Path, fresh: &Path, at: UnixTime) -> Result<(UnixTime, Vec<RestoredRouter>)> {
    let failed = |error: rusqlite::Error| sqlite_error(fresh, &error);
    let mut target = create_private(fresh)?;
    let mut source = std::fs::File::open(backup).map_err(|error| RegisterError::file("read", backup, &error))?;
    std::io::copy(&mut source, &mut target).map_err(|error| RegisterError::file("copy to", fresh, &error))?;
    drop((source, target));
    let connection = Connection::open_with_flags(fresh, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(failed)?;
    check_integrity(&connection, fresh, "PRAGMA integrity_check(1)")?;
    let taken_at = meta_time(&connection, fresh, meta_key::TAKEN_AT)?
        .ok_or_else(|| RegisterError::NotABackup { path: backup.to_path_buf() })?;
    drop(connection);
    let mut connection = open_writer(fresh, at)?;
    stamp(&mut connection, taken_at, at).map_err(failed)?;
    let reads = SqliteReads { connection };
    let routers = restored(&reads)?;
    reads.connection.close().map_err(|(_, error)| failed(error))?;
    Ok((taken_at, routers))
}

fn meta_time(connection: &Connection, path: &Path, key: &str) -> Result<Option<UnixTime>> {
    let text: Option<String> = connection
        .query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| row.get(0))
        .optional()
        .map_err(|error| sqlite_error(path, &error))?;
    Ok(text.and_then(|text| text.parse().ok()).map(UnixTime::from_ms))
}

/// Leaves lost in an earlier restore stay provable: the earliest copy counts.
fn stamp(connection: &mut Connection, taken_at: UnixTime, at: UnixTime) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    let taken = taken_at.as_ms();
    transaction.execute("UPDATE records SET restored_from = min(coalesce(restored_from, ?1), ?1)", [taken])?;
    let sql = "INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = excluded.value";
    transaction.execute(sql, [meta_key::RESTORED_FROM, &taken.to_string()])?;
    transaction.execute("DELETE FROM meta WHERE key = ?1", [meta_key::TAKEN_AT])?;
    let sql = "INSERT INTO audit (router_id, at, last_at, count, actor, event, detail) \
               VALUES (NULL, ?1, ?1, 1, 'operator', 'restored', ?2)";
    let detail = serde_json::json!({ "takenAtMs": taken }).to_string();
    transaction.execute(sql, rusqlite::params![at.as_ms(), detail])?;
    transaction.commit()
}

fn restored(reads: &SqliteReads) -> Result<Vec<RestoredRouter>> {
    let failed = super::code::read_failed;
    let mut statement = reads.connection.prepare("SELECT id, name FROM routers ORDER BY name").map_err(failed)?;
    let rows =
        statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))).map_err(failed)?;
    rows.map(|row| {
        let (id, name) = row.map_err(failed)?;
        let id = RouterId::new(id);
        // Decoding every record now finds damage before the copy is put in place.
        let record = reads.record(&id)?.ok_or_else(|| crate::register::rows::damaged(&id, "it has no record"))?;
        let newest_not_after = record.leaves.iter().map(|leaf| leaf.client.not_after).max();
        Ok(RestoredRouter { id, name, newest_not_after })
    })
    .collect()
}

/// Moves register, log and index away together. The register goes first: a crash in between leaves a log without a
/// register, which no start takes for a fresh installation, and a second restore finishes.
fn set_aside(path: &Path, at: UnixTime) -> Result<Option<PathBuf>> {
    let mut aside = beside(path, &format!(".before-restore-{}", at.as_ms()));
    if !exists(path)? {
        if no_orphaned_log(path).is_ok() {
            return Ok(None);
        }
        aside = beside(path, &format!(".orphaned-{}", at.as_ms()));
    }
    if exists(&aside)? {
        return Err(RegisterError::Exists { path: aside });
    }
    for suffix in ["", "-wal", "-shm"] {
        let (from, to) = (beside(path, suffix), beside(&aside, suffix));
        if exists(&from)? {
            std::fs::rename(&from, &to).map_err(|error| RegisterError::file("set aside", &from, &error))?;
            // In this order on the disk too: a register that a power cut left without its log would lack what came last.
            sync_folder_of(path)?;
        }
    }
    Ok(Some(aside))
}
