//! The file on the disk: who may use it, whether it is ours, how it comes into being.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use lifecycle::UnixTime;
use rusqlite::{Connection, OpenFlags};

use super::migrate::{APPLICATION_ID, MIGRATIONS, migrate, newest, sqlite_error};
use super::reads::SqliteReads;
use crate::register::error::RegisterError;
use crate::register::rows::meta_key;

type Result<T> = std::result::Result<T, RegisterError>;

/// Files up to this size are checked whole at every start; it takes a fraction of a second.
const CHECKED_WHOLE: u64 = 32 << 20;

/// The sole right to use a register, until dropped. The kernel's lock decides; the text in it is for the message.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// The lock is on a file of its own: closing any handle of the register's file would drop SQLite's locks on it.
    pub(super) fn take(path: &Path) -> Result<Self> {
        let lock = beside(path, ".lock");
        let failed = |error: std::io::Error| RegisterError::file("lock", &lock, &error);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&lock)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Only for the message.
                let _ = Read::by_ref(&mut file).take(64).read_to_string(&mut holder);
                return Err(RegisterError::InUse { path: path.to_path_buf(), holder: holder.trim().to_owned() });
            }
            Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => {
                tracing::warn!(path = %lock.display(), "this file system has no locks: see to it that one controller runs");
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let text = format!("process {}\n", std::process::id());
        // A full disk must not keep a controller from starting: the text is only for the message.
        let _ = file.set_len(0).and_then(|()| file.write_all(text.as_bytes()));
        Ok(Self { _file: file })
    }
}

/// A neighbour of the register: its name with something appended.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

/// Is there anything at all at this path?
pub(super) fn exists(path: &Path) -> Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(RegisterError::file("look at", path, &error)),
    }
}

/// Removes a leftover; its absence is fine.
pub(super) fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(RegisterError::file("remove", path, &error)),
    }
}

/// Removes a temporary database with all that SQLite may have left beside it.
pub(super) fn remove_database(path: &Path) -> Result<()> {
    for suffix in ["", "-wal", "-shm", "-journal"] {
        remove(&beside(path, suffix))?;
    }
    Ok(())
}

/// Makes an empty file that only its owner may read, whatever the umask.
pub(super) fn create_private(path: &Path) -> Result<File> {
    let failed = |error: std::io::Error| match error.kind() {
        ErrorKind::AlreadyExists => RegisterError::Exists { path: path.to_path_buf() },
        _ => RegisterError::file("create", path, &error),
    };
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    // A umask can only have taken rights away.
    file.set_permissions(Permissions::from_mode(0o600)).map_err(failed)?;
    Ok(file)
}

/// Makes a file's content durable.
pub(super) fn sync(path: &Path) -> Result<()> {
    let failed = |error: std::io::Error| RegisterError::file("sync", path, &error);
    File::open(path).and_then(|file| file.sync_all()).map_err(failed)
}

/// Makes the names in a file's folder durable.
pub(super) fn sync_folder_of(path: &Path) -> Result<()> {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => sync(folder),
        Some(_) | None => sync(Path::new(".")),
    }
}

/// Looks at the raw header: ours, and not newer than this release? Opens nothing with SQLite, so changes nothing.
pub(super) fn check_header(path: &Path) -> Result<()> {
    let mut header = Vec::with_capacity(100);
    match File::open(path).and_then(|file| file.take(100).read_to_end(&mut header)) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(RegisterError::Absent { path: path.to_path_buf() });
        }
        Err(error) => return Err(RegisterError::file("read", path, &error)),
    }
    let number = |at: usize| -> Option<i32> {
        let bytes = header.get(at..at.checked_add(4)?)?;
        Some(i32::from_be_bytes(bytes.try_into().ok()?))
    };
    if header.is_empty() {
        return Err(RegisterError::Damaged { path: path.to_path_buf(), what: "the file is empty".to_owned() });
    }
    if !header.starts_with(b"SQLite format 3\0") {
        let what = "it has no SQLite header".to_owned();
        return Err(if header.iter().all(|byte| *byte == 0) {
            RegisterError::Damaged { path: path.to_path_buf(), what: "it begins with zeros".to_owned() }
        } else {
            RegisterError::Foreign { path: path.to_path_buf(), what }
        });
    }
    let (Some(version), Some(application)) = (number(60), number(68)) else {
        return Err(RegisterError::Damaged { path: path.to_path_buf(), what: "the file is cut off".to_owned() });
    };
    if application != APPLICATION_ID {
        let what = "an SQLite database of another program".to_owned();
        return Err(RegisterError::Foreign { path: path.to_path_buf(), what });
    }
    let (found, known) = (i64::from(version), newest(MIGRATIONS));
    if found > known {
        return Err(RegisterError::Newer { path: path.to_path_buf(), found, known });
    }
    Ok(())
}

/// Takes away what group and others may do with the register's files.
pub(super) fn keep_private(path: &Path) -> Result<()> {
    for suffix in ["", "-wal", "-shm"] {
        let path = beside(path, suffix);
        let Ok(meta) = fs::metadata(&path) else { continue };
        if meta.permissions().mode() & 0o077 != 0 {
            tracing::warn!(path = %path.display(), "others could read the register; its mode is now 0600");
            let private = Permissions::from_mode(0o600);
            fs::set_permissions(&path, private).map_err(|error| RegisterError::file("protect", &path, &error))?;
        }
    }
    Ok(())
}

/// The writer's connection to an existing, checked file.
pub(super) fn open_writer(path: &Path, at: UnixTime) -> Result<Connection> {
    let failed = |error: rusqlite::Error| sqlite_error(path, &error);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    connection.busy_timeout(Duration::from_secs(5)).map_err(failed)?;
    check_whole(&connection, path)?;
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).map_err(failed)?;
    if !mode.eq_ignore_ascii_case("wal") {
        let detail = format!("this place allows no write-ahead log (`{mode}`); keep the register on a local disk");
        return Err(RegisterError::File { doing: "use", path: path.to_path_buf(), detail });
    }
    connection
        .execute_batch(
            "PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA trusted_schema = OFF; \
             PRAGMA temp_store = MEMORY; PRAGMA cache_size = -16384; PRAGMA wal_autocheckpoint = 0; \
             PRAGMA journal_size_limit = 67108864;",
        )
        .map_err(failed)?;
    connection.set_prepared_statement_cache_capacity(64);
    migrate(&mut connection, path, at, MIGRATIONS)?;
    Ok(connection)
}

/// A connection that cannot write.
pub(super) fn open_reader(path: &Path) -> Result<SqliteReads> {
    let failed = |error: rusqlite::Error| sqlite_error(path, &error);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    connection.busy_timeout(Duration::from_secs(5)).map_err(failed)?;
    connection
        .execute_batch("PRAGMA query_only = ON; PRAGMA trusted_schema = OFF; PRAGMA cache_size = -4096;")
        .map_err(failed)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(SqliteReads { connection })
}

fn check_whole(connection: &Connection, path: &Path) -> Result<()> {
    if fs::metadata(path).map_or(0, |meta| meta.len()) > CHECKED_WHOLE {
        return Ok(());
    }
    check_integrity(connection, path, "PRAGMA quick_check(1)")
}

/// Runs one of SQLite's checks; anything but `ok` is damage.
pub(super) fn check_integrity(connection: &Connection, path: &Path, pragma: &str) -> Result<()> {
    let said: String =
        connection.query_row(pragma, [], |row| row.get(0)).map_err(|error| sqlite_error(path, &error))?;
    if said == "ok" { Ok(()) } else { Err(RegisterError::Damaged { path: path.to_path_buf(), what: said }) }
}

/// Makes a new register: built under another name, synced, then put in place in one go.
pub(super) fn create(path: &Path, instance_id: &str, at: UnixTime) -> Result<()> {
    if exists(path)? {
        return Err(RegisterError::Exists { path: path.to_path_buf() });
    }
    no_orphaned_log(path)?;
    let fresh = beside(path, ".new");
    remove_database(&fresh)?;
    drop(create_private(&fresh)?);
    let failed = |error: rusqlite::Error| sqlite_error(&fresh, &error);
    let connection = Connection::open_with_flags(&fresh, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(failed)?;
    connection.pragma_update(None, "application_id", APPLICATION_ID).map_err(failed)?;
    drop(connection);
    let connection = open_writer(&fresh, at)?;
    let sql = "INSERT INTO meta (key, value) VALUES (?1, ?2)";
    connection.execute(sql, [meta_key::INSTANCE_ID, instance_id]).map_err(failed)?;
    connection.close().map_err(|(_, error)| failed(error))?;
    put_in_place(&fresh, path)
}

/// A log whose register is gone holds committed changes: that is damage, not a place for a new register.
pub(super) fn no_orphaned_log(path: &Path) -> Result<()> {
    if exists(&beside(path, "-wal"))? {
        let what = "its write-ahead log is there and the file itself is not".to_owned();
        return Err(RegisterError::Damaged { path: path.to_path_buf(), what });
    }
    Ok(())
}

/// Makes a closed database durable, then gives it its name; never over a file that is there.
pub(super) fn put_in_place(fresh: &Path, path: &Path) -> Result<()> {
    sync(fresh)?;
    rename_new(fresh, path)?;
    sync_folder_of(path)
}

fn rename_new(from: &Path, to: &Path) -> Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    use rustix::io::Errno;
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        Err(Errno::EXIST) => Err(RegisterError::Exists { path: to.to_path_buf() }),
        // The file system has no such rename. The lock, or the operator's care, covers the moment between.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            if exists(to)? {
                return Err(RegisterError::Exists { path: to.to_path_buf() });
            }
            fs::rename(from, to).map_err(|error| RegisterError::file("create", to, &error))
        }
        Err(errno) => Err(RegisterError::file("create", to, &errno.into())),
    }
}
