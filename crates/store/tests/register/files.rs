//! The file: whose it is, what it may be, and copies of it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use lifecycle::UnixTime;
use lifecycle::issuance::{Answer, Input};
use store::register::{BackupRequest, Register, RegisterError, SqliteRegister, restore};

use crate::support::*;

fn now() -> UnixTime {
    at(0).wall
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[tokio::test]
async fn what_was_answered_is_there_after_closing_and_opening() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("register.db");
    let register = SqliteRegister::create(&path, "abc", now()).unwrap();
    enrolled(&register, 2, 10).await;
    let before = register.router(id(2)).await.unwrap();
    for name in ["register.db", "register.db-wal", "register.db-shm", "register.db.lock"] {
        assert_eq!(mode(&folder.path().join(name)), 0o600, "{name}");
    }
    drop(register);
    assert!(!folder.path().join("register.db-wal").exists(), "a clean end leaves one file");
    let register = SqliteRegister::open(&path, now()).unwrap();
    assert_eq!(register.router(id(2)).await.unwrap(), before);
    assert_eq!(register.meta().await.unwrap().instance_id, "abc");
    assert_eq!(register.submit(use_leaf(2, 10, 9)).await.unwrap().record.leaves.len(), 1);
}

#[tokio::test]
async fn two_controllers_never_share_one_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("register.db");
    let register = SqliteRegister::create(&path, "abc", now()).unwrap();
    let error = SqliteRegister::open(&path, now()).unwrap_err();
    assert!(matches!(error, RegisterError::InUse { .. }), "{error}");
    assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
    let error = restore(&path, &path, now()).unwrap_err();
    assert!(matches!(error, RegisterError::InUse { .. }), "{error}");
    enrolled(&register, 2, 10).await;
    drop(register);
    SqliteRegister::open(&path, now()).unwrap();
}

#[test]
fn absent_foreign_newer_and_damaged_are_told_apart_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("register.db");
    assert!(matches!(SqliteRegister::open(&path, now()), Err(RegisterError::Absent { .. })));
    drop(SqliteRegister::create(&path, "abc", now()).unwrap());
    assert!(matches!(SqliteRegister::create(&path, "abc", now()), Err(RegisterError::Exists { .. })));
    let good = fs::read(&path).unwrap();
    let changed = |from: usize, bytes: &[u8]| {
        let mut content = good.clone();
        content[from..from + bytes.len()].copy_from_slice(bytes);
        content
    };
    let zeros = vec![0; 8192];
    let rubbish = vec![0x5a; good.len() - 4096];
    type Expected = fn(&RegisterError) -> bool;
    let damaged: Expected = |error| matches!(error, RegisterError::Damaged { .. });
    let foreign: Expected = |error| matches!(error, RegisterError::Foreign { .. });
    let cases: [(&str, Vec<u8>, Expected); 7] = [
        ("empty", Vec::new(), damaged),
        ("zeros", zeros, damaged),
        ("cut off", good[..4096 * 2 + 100].to_vec(), damaged),
        ("overwritten", changed(4096, &rubbish), damaged),
        ("text", b"hello, this is a text file".to_vec(), foreign),
        ("another program's", changed(68, &[0, 0, 0, 1]), foreign),
        ("newer", changed(60, &[0, 0, 0, 99]), |error| matches!(error, RegisterError::Newer { found: 99, .. })),
    ];
    for (name, content, expected) in cases {
        fs::write(&path, &content).unwrap();
        let error = SqliteRegister::open(&path, now()).unwrap_err();
        assert!(expected(&error), "{name}: {error:?}");
        assert!(error.to_string().contains("register.db"), "{error}");
        assert!(fs::read(&path).unwrap() == content, "{name}: the file was changed");
    }
}

#[test]
fn a_log_without_its_register_is_damage_and_no_place_for_a_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("register.db");
    fs::write(folder.path().join("register.db-wal"), b"committed changes").unwrap();
    assert!(matches!(SqliteRegister::open(&path, now()), Err(RegisterError::Damaged { .. })));
    assert!(matches!(SqliteRegister::create(&path, "abc", now()), Err(RegisterError::Damaged { .. })));
    assert!(!path.exists());
}

#[test]
fn a_file_that_others_could_read_is_closed_to_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("register.db");
    drop(SqliteRegister::create(&path, "abc", now()).unwrap());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let _register = SqliteRegister::open(&path, now()).unwrap();
    assert_eq!(mode(&path), 0o600);
}

#[tokio::test]
async fn a_leaf_issued_after_the_copy_is_admitted_after_the_restore() {
    let folder = tempfile::tempdir().unwrap();
    let (path, copy) = (folder.path().join("register.db"), folder.path().join("copy.db"));
    let register = SqliteRegister::create(&path, "abc", now()).unwrap();
    enrolled(&register, 2, 10).await;
    enrolled(&register, 3, 20).await;
    let taken_at = at(1000).wall;
    let request = BackupRequest { to: copy.clone(), taken_at, overwrite: false };
    let report = register.backup(request.clone()).await.unwrap();
    assert_eq!((report.routers, report.taken_at), (2, taken_at));
    assert_eq!(report.bytes, fs::metadata(&copy).unwrap().len());
    assert_eq!(mode(&copy), 0o600);
    let error = register.backup(request.clone()).await.unwrap_err();
    assert!(matches!(error, RegisterError::Exists { .. }), "{error}");
    register.backup(BackupRequest { overwrite: true, ..request }).await.unwrap();

    // Router 2 renews after the copy, and forgets its old leaf.
    let newer = leaf_from(11, at(2000).wall);
    let mut stored = store_in(2, 11, 1, 2000);
    let Input::Store { client, .. } = &mut stored.input else { panic!() };
    *client = newer;
    register.submit(stored).await.unwrap();
    register.submit(submission(2, 2001, Input::hello(newer))).await.unwrap();
    drop(register);

    let report = restore(&copy, &path, at(3000).wall).unwrap();
    assert_eq!(report.taken_at, taken_at);
    let names: Vec<&str> = report.routers.iter().map(|router| router.name.as_str()).collect();
    assert_eq!(names, ["Router 2", "Router 3"]);
    assert_eq!(report.routers[0].newest_not_after, Some(leaf(10).not_after));
    assert!(report.set_aside.unwrap().exists(), "what was there is kept");

    let register = SqliteRegister::open(&path, at(3001).wall).unwrap();
    assert_eq!(register.meta().await.unwrap().restored_from, Some(taken_at));
    assert!(register.find_leaf(sha1(11)).await.unwrap().is_empty());
    let hello = submission(2, 3002, Input::hello(newer));
    let answered = register.submit(hello.with(store::register::Attachment::Chains(chains(11)))).await.unwrap();
    assert!(matches!(answered.answer, Answer::Admit(_)), "{answered:?}");
    assert_eq!(register.find_leaf(sha1(11)).await.unwrap()[0].fingerprint, newer.fingerprint);
    let last = events(&register, 2).await.pop().unwrap();
    assert_eq!(last.0, "readmitted-after-restore");
    // A leaf from before the copy that the copy does not know stays out.
    let unknown = register.submit(use_leaf(3, 77, 3003)).await.unwrap();
    assert!(matches!(unknown.answer, Answer::RefuseAdmission(_)));
}

#[tokio::test]
async fn a_file_that_is_no_sound_backup_replaces_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (path, copy) = (folder.path().join("register.db"), folder.path().join("copy.db"));
    let register = SqliteRegister::create(&path, "abc", now()).unwrap();
    for router in 0..40 {
        enrolled(&register, router, router).await;
    }
    let request = BackupRequest { to: copy.clone(), taken_at: now(), overwrite: false };
    register.backup(request).await.unwrap();
    drop(register);
    let before = fs::read(&path).unwrap();
    let good = fs::read(&copy).unwrap();
    let mut torn = good.clone();
    let middle = torn.len() / 2;
    torn[middle..middle + 9000].fill(0xff);
    let cases = [("torn", torn), ("short", good[..good.len() / 2].to_vec()), ("plain copy", before.clone())];
    for (name, content) in cases {
        fs::write(&copy, content).unwrap();
        let error = restore(&copy, &path, at(9).wall).unwrap_err();
        match error {
            RegisterError::NotABackup { .. } => assert_eq!(name, "plain copy"),
            RegisterError::Damaged { ref path, .. } => assert_eq!((path, name != "plain copy"), (&copy, true)),
            other => panic!("{name}: {other:?}"),
        }
        assert!(fs::read(&path).unwrap() == before, "{name}: the register was changed");
    }
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 3, "nothing is left behind: {left:?}");
}

#[tokio::test]
async fn a_restore_also_replaces_a_damaged_register() {
    let folder = tempfile::tempdir().unwrap();
    let (path, copy) = (folder.path().join("register.db"), folder.path().join("copy.db"));
    let register = SqliteRegister::create(&path, "abc", now()).unwrap();
    enrolled(&register, 2, 10).await;
    register.backup(BackupRequest { to: copy.clone(), taken_at: now(), overwrite: false }).await.unwrap();
    drop(register);
    fs::write(&path, b"").unwrap();
    fs::write(folder.path().join("register.db-wal"), b"orphan").unwrap();
    restore(&copy, &path, at(9).wall).unwrap();
    assert!(!folder.path().join("register.db-wal").exists());
    let register = SqliteRegister::open(&path, at(10).wall).unwrap();
    assert!(register.router(id(2)).await.unwrap().is_some());
}
