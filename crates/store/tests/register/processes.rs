//! Two processes and one register, and a restore that is cut off.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};

use store::register::{AuditQuery, BackupRequest, Register, RegisterError, SqliteRegister, restore};

use crate::support::*;

const FILE: &str = "EXUVIA_TEST_HELD_REGISTER";

/// Holds the register until nobody listens any more.
fn hold(path: &Path) {
    let _register = SqliteRegister::open(path, at(0).wall).unwrap();
    println!("held");
    let _ = std::io::stdin().read(&mut [0]);
}

#[test]
fn a_second_process_is_refused_by_name_and_a_killed_one_leaves_the_place_free() {
    if let Some(path) = std::env::var_os(FILE) {
        return hold(Path::new(&path));
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("register.db");
    drop(SqliteRegister::create(&path, "abc", at(0).wall).unwrap());
    let name = "processes::a_second_process_is_refused_by_name_and_a_killed_one_leaves_the_place_free";
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(FILE, &path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().ends_with("held")), "the other process opens it");

    let before = fs::read(&path).unwrap();
    let holder = child.id().to_string();
    for error in [SqliteRegister::open(&path, at(1).wall).unwrap_err(), restore(&path, &path, at(1).wall).unwrap_err()]
    {
        assert!(matches!(error, RegisterError::InUse { .. }), "{error}");
        assert!(error.to_string().contains(&holder), "{error}");
    }
    assert_eq!(fs::read(&path).unwrap(), before);

    child.kill().unwrap();
    child.wait().unwrap();
    SqliteRegister::open(&path, at(2).wall).unwrap();
}

/// Every state that a restore can be left in by a kill or a power cut, one rename after the other, as `restore` makes them.
#[tokio::test]
async fn a_restore_that_is_cut_off_anywhere_is_noticed_and_finished_by_the_next_one() {
    let made = tempfile::tempdir().unwrap();
    let at_made = |name: &str| made.path().join(name);
    let register = SqliteRegister::create(&at_made("register.db"), "abc", at(0).wall).unwrap();
    enrolled(&register, 2, 10).await;
    let copy = BackupRequest { to: at_made("copy.db"), taken_at: at(1).wall, overwrite: false };
    register.backup(copy).await.unwrap();
    enrolled(&register, 3, 20).await;
    // As a kill leaves it: with a log that holds what came last.
    for suffix in ["", "-wal", "-shm"] {
        fs::copy(at_made(&format!("register.db{suffix}")), at_made(&format!("killed{suffix}"))).unwrap();
    }
    drop(register);

    let aside = format!("register.db.before-restore-{}", at(7).wall.as_ms());
    let renames = [
        ("register.db", aside.clone()),
        ("register.db-wal", format!("{aside}-wal")),
        ("register.db-shm", format!("{aside}-shm")),
        ("register.db.restoring", "register.db".to_owned()),
    ];
    for done in 0..=renames.len() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for suffix in ["", "-wal", "-shm"] {
            fs::copy(at_made(&format!("killed{suffix}")), path(&format!("register.db{suffix}"))).unwrap();
        }
        // The working copy: half of it before anything is set aside, whole after that.
        let whole = fs::read(at_made("copy.db")).unwrap();
        let half = if done == 0 { &whole[..whole.len() / 2] } else { &whole };
        fs::write(path("register.db.restoring"), half).unwrap();
        for (from, to) in &renames[..done] {
            fs::rename(path(from), path(to)).unwrap();
        }

        let opened = SqliteRegister::open(&path("register.db"), at(8).wall);
        match (done, opened) {
            // Nothing was touched yet, or everything is done: either register is whole.
            (0 | 4, Ok(register)) => drop(register),
            (1, Err(RegisterError::Damaged { .. })) | (2 | 3, Err(RegisterError::Absent { .. })) => {}
            (_, other) => panic!("after {done} renames: {other:?}"),
        }

        restore(&at_made("copy.db"), &path("register.db"), at(9).wall)
            .unwrap_or_else(|error| panic!("{done}: {error}"));
        let register = SqliteRegister::open(&path("register.db"), at(10).wall).unwrap();
        assert!(register.router(id(2)).await.unwrap().is_some(), "after {done} renames");
        assert!(register.router(id(3)).await.unwrap().is_none(), "what the copy lacks is set aside");
        let entries = register.audit(AuditQuery::default()).await.unwrap();
        assert!(entries.iter().any(|entry| entry.event == "restored"), "after {done} renames");
        drop(register);
        let names: Vec<String> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        let kept = |part: &str| names.iter().any(|name| name.contains(part));
        assert!(kept("before-restore") && !kept("restoring"), "after {done} renames: {names:?}");
    }
}

/// The renames that the test above plays are those that a restore makes.
#[test]
fn a_restore_sets_the_register_aside_under_the_time_of_the_restore() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let register = SqliteRegister::create(&path("register.db"), "abc", at(0).wall).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let copy = BackupRequest { to: path("copy.db"), taken_at: at(1).wall, overwrite: false };
    runtime.block_on(register.backup(copy)).unwrap();
    drop(register);
    let report = restore(&path("copy.db"), &path("register.db"), at(7).wall).unwrap();
    assert_eq!(report.set_aside, Some(path(&format!("register.db.before-restore-{}", at(7).wall.as_ms()))));
}
