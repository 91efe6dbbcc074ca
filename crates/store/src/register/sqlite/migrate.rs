//! Numbered migrations, each in its own transaction, each with its checksum kept in the file.

use std::path::Path;

use aws_lc_rs::digest;
use lifecycle::UnixTime;
use rusqlite::{Connection, TransactionBehavior, params};

use crate::register::error::RegisterError;

/// One step of the schema. Once released it is never changed; a later one mends it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Migration {
    number: i64,
    name: &'static str,
    sql: &'static str,
}

pub(super) const MIGRATIONS: &[Migration] = &[
    Migration { number: 1, name: "register", sql: include_str!("../migrations/0001_register.sql") },
    Migration { number: 2, name: "voucher", sql: include_str!("../migrations/0002_voucher.sql") },
    Migration { number: 3, name: "forks", sql: include_str!("../migrations/0003_forks.sql") },
];

/// `EXUV`, in the header of every register.
pub(super) const APPLICATION_ID: i32 = 0x4558_5556;

/// Newest schema of this release.
pub(super) fn newest(migrations: &[Migration]) -> i64 {
    migrations.last().map_or(0, |migration| migration.number)
}

/// Brings the schema up to date. Refuses, having changed nothing, what is newer than this release or differs from it.
pub(super) fn migrate(
    connection: &mut Connection,
    path: &Path,
    at: UnixTime,
    migrations: &[Migration],
) -> Result<(), RegisterError> {
    let failed = |error: rusqlite::Error| sqlite_error(path, &error);
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    let found: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(failed)?;
    let known = newest(migrations);
    if found > known {
        return Err(RegisterError::Newer { path: path.to_path_buf(), found, known });
    }
    if found == 0 {
        let sql = "CREATE TABLE IF NOT EXISTS migrations (number INTEGER PRIMARY KEY, name TEXT NOT NULL, \
                   checksum TEXT NOT NULL, applied_at INTEGER NOT NULL) STRICT";
        transaction.execute_batch(sql).map_err(failed)?;
    }
    for migration in migrations {
        if migration.number <= found {
            let sql = "SELECT checksum FROM migrations WHERE number = ?1";
            let held: String = transaction.query_row(sql, [migration.number], |row| row.get(0)).map_err(failed)?;
            if held != checksum(migration.sql) {
                return Err(RegisterError::SchemaDiffers { path: path.to_path_buf(), number: migration.number });
            }
            continue;
        }
        transaction.execute_batch(migration.sql).map_err(failed)?;
        let sql = "INSERT INTO migrations (number, name, checksum, applied_at) VALUES (?1, ?2, ?3, ?4)";
        let values = params![migration.number, migration.name, checksum(migration.sql), at.as_ms()];
        transaction.execute(sql, values).map_err(failed)?;
        transaction.pragma_update(None, "user_version", migration.number).map_err(failed)?;
    }
    transaction.commit().map_err(failed)
}

fn checksum(sql: &str) -> String {
    digest::digest(&digest::SHA256, sql.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What an error of SQLite says about the file as a whole.
pub(super) fn sqlite_error(path: &Path, error: &rusqlite::Error) -> RegisterError {
    use rusqlite::ErrorCode;
    let (path, what) = (path.to_path_buf(), error.to_string());
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt) => RegisterError::Damaged { path, what },
        Some(ErrorCode::NotADatabase) => RegisterError::Foreign { path, what },
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            RegisterError::InUse { path, holder: "another SQLite connection".to_owned() }
        }
        _ => RegisterError::File { doing: "use", path, detail: what },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEXT: Migration = Migration { number: 4, name: "more", sql: "CREATE TABLE more (a INTEGER) STRICT;" };
    const FIRST: &[Migration] = &[MIGRATIONS[0]];

    fn and(next: Migration) -> Vec<Migration> {
        MIGRATIONS.iter().copied().chain([next]).collect()
    }

    fn run(connection: &mut Connection, migrations: &[Migration]) -> Result<(), RegisterError> {
        migrate(connection, Path::new("x.db"), UnixTime::from_s(7), migrations)
    }

    #[test]
    fn a_later_release_adds_only_what_is_missing() {
        let mut connection = Connection::open_in_memory().unwrap();
        run(&mut connection, FIRST).unwrap();
        connection.execute("INSERT INTO meta VALUES ('kept', 'yes')", []).unwrap();
        run(&mut connection, &and(NEXT)).unwrap();
        run(&mut connection, &and(NEXT)).unwrap();
        let rows: i64 = connection.query_row("SELECT count(*) FROM migrations", [], |row| row.get(0)).unwrap();
        let kept: String =
            connection.query_row("SELECT value FROM meta WHERE key = 'kept'", [], |row| row.get(0)).unwrap();
        assert_eq!((rows, kept.as_str()), (4, "yes"));
    }

    #[test]
    fn records_of_the_first_release_have_no_voucher() {
        let mut connection = Connection::open_in_memory().unwrap();
        run(&mut connection, &MIGRATIONS[..1]).unwrap();
        let old = "INSERT INTO routers VALUES ('r1', 'one', 1, '[]', 0, 0, 0, '{}', '{}', '{}', 1, 1, NULL, NULL, NULL, NULL); \
                   INSERT INTO records VALUES ('r1', 1, 1, 0, NULL, NULL, NULL);";
        connection.execute_batch(old).unwrap();
        run(&mut connection, MIGRATIONS).unwrap();
        let voucher: Option<Vec<u8>> =
            connection.query_row("SELECT voucher FROM records WHERE router_id = 'r1'", [], |row| row.get(0)).unwrap();
        assert_eq!(voucher, None);
    }

    #[test]
    fn a_record_of_the_first_release_is_read_as_it_was() {
        let mut connection = Connection::open_in_memory().unwrap();
        run(&mut connection, FIRST).unwrap();
        let sql = "INSERT INTO routers VALUES ('r', 'r', 1, '[]', 0, 0, 0, '{}', '{}', '{}', 0, 0, NULL, NULL, NULL, NULL); \
                   INSERT INTO records VALUES ('r', 3, 1, 7, NULL, NULL, 5)";
        connection.execute_batch(sql).unwrap();
        run(&mut connection, MIGRATIONS).unwrap();
        let reads = crate::register::sqlite::reads::SqliteReads { connection };
        let record = crate::register::rows::Reads::record(&reads, &lifecycle::RouterId::new("r")).unwrap().unwrap();
        assert_eq!((record.epoch.0, record.last_seq.0, record.epoch_since, record.fork), (3, 7, None, None));
        assert_eq!(record.restored_from, Some(UnixTime::from_ms(5)));
    }

    #[test]
    fn a_schema_from_a_newer_release_is_left_alone() {
        let mut connection = Connection::open_in_memory().unwrap();
        run(&mut connection, &and(NEXT)).unwrap();
        let error = run(&mut connection, MIGRATIONS).unwrap_err();
        assert!(matches!(error, RegisterError::Newer { found: 4, known: 3, .. }), "{error}");
    }

    #[test]
    fn a_migration_that_was_changed_after_it_ran_is_noticed() {
        let mut connection = Connection::open_in_memory().unwrap();
        run(&mut connection, &and(NEXT)).unwrap();
        let changed = Migration { sql: "CREATE TABLE more (b INTEGER) STRICT;", ..NEXT };
        let error = run(&mut connection, &and(changed)).unwrap_err();
        assert!(matches!(error, RegisterError::SchemaDiffers { number: 4, .. }), "{error}");
    }

    #[test]
    fn a_migration_that_fails_leaves_the_schema_as_it_was() {
        let mut connection = Connection::open_in_memory().unwrap();
        run(&mut connection, MIGRATIONS).unwrap();
        let broken = Migration { sql: "CREATE TABLE more (a INTEGER) STRICT; CREATE TABLE meta (a);", ..NEXT };
        run(&mut connection, &and(broken)).unwrap_err();
        let tables: i64 = connection
            .query_row("SELECT count(*) FROM sqlite_schema WHERE name = 'more'", [], |row| row.get(0))
            .unwrap();
        let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
        assert_eq!((tables, version), (0, 3));
    }
}
