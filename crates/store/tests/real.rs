//! The store on this machine's kernel: modes, links, locks, limits, a small disk. What the machine does not allow is printed as skipped.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

#[path = "scene/rig.rs"]
mod rig;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use lifecycle::RouterId;
use rig::{candidate, facts, files, keys, number};
use store::disk::{Errno, RealDisk};
use store::format::FileDamage;
use store::generation::{Keys, PrivatePem, Reservation};
use store::identity::{IdentityStore, Loaded, Notice, state_folder};
use store::mode::{StorageMode, VolatileCause};
use store::projection::{Projection, Slot};
use store::{Refusal, StoreError};

/// Set in a child process: the folder that it works in.
const CHILD: &str = "EXUVIA_STORE_TEST_FOLDER";
const DONE: &str = "the child is done";

fn open(identity: &Path) -> IdentityStore<RealDisk> {
    let path = state_folder(&identity.join("r.cert"), None, &RouterId::new("r1"));
    IdentityStore::open(RealDisk, &path, "the test").map_err(|(error, _)| error).unwrap().0
}

/// One whole renewal; generation `n`.
fn renew(store: &mut IdentityStore<RealDisk>, n: u64) -> Result<(), StoreError> {
    store.load(facts)?;
    let digest = store.write_generation(number(n), &files(n))?;
    let mut manifest = store.manifest().cloned().unwrap();
    manifest.last_number = number(n);
    manifest.candidates.push(candidate(n, digest));
    store.commit(&manifest)
}

fn paths_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![folder.to_owned()];
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.symlink_metadata().unwrap().is_dir() { found.extend(paths_below(&path)) } else { found.push(path) }
    }
    found
}

/// Runs this same test again as a child, below a shell command, in `folder`.
fn again(test: &str, shell: &str, folder: &Path) -> Command {
    let exe = std::env::current_exe().unwrap();
    let mut command = Command::new("sh");
    command.arg("-c").arg(shell.replace("TEST", "exec \"$0\" --exact \"$1\" --nocapture"));
    command.arg(exe).arg(test).env(CHILD, folder);
    command
}

fn child_folder() -> Option<PathBuf> {
    std::env::var_os(CHILD).map(PathBuf::from)
}

/// Runs the child to its end. False = it was not allowed to begin.
fn run_again(test: &str, shell: &str, folder: &Path) -> bool {
    let output = again(test, shell, folder).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let has_begun = text.contains("running 1 test");
    assert!(!has_begun || (output.status.success() && text.contains(DONE)), "{text}");
    if !has_begun {
        println!("skipped {test}: the machine does not allow `{shell}`: {}", text.trim());
    }
    has_begun
}

#[test]
fn every_file_is_private_from_the_start_whatever_the_umask() {
    if let Some(folder) = child_folder() {
        let mut store = open(&folder);
        renew(&mut store, 1).unwrap();
        renew(&mut store, 2).unwrap();
        let keys = Keys { server_key: Some(PrivatePem::new(b"not a key\n".to_vec())), ..keys(3) };
        store.prepare(number(3), &keys, Reservation::default()).unwrap();
        for path in paths_below(&folder.join(".exuvia")) {
            let found = path.metadata().unwrap();
            let expected = if found.is_dir() { 0o700 } else { 0o600 };
            assert_eq!(found.permissions().mode() & 0o7777, expected, "{}", path.display());
        }
        println!("{DONE}");
        return;
    }
    for umask in ["000", "022", "777"] {
        let folder = tempfile::tempdir().unwrap();
        let shell = format!("umask {umask}; TEST");
        assert!(run_again("every_file_is_private_from_the_start_whatever_the_umask", &shell, folder.path()));
    }
}

#[test]
fn a_store_written_by_one_process_life_is_read_by_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path());
    assert_eq!(store.load(facts).unwrap(), Loaded::Absent);
    for n in 1..=3 {
        renew(&mut store, n).unwrap();
    }
    drop(store);
    let mut store = open(folder.path());
    let loaded = store.load(facts).unwrap();
    assert!(matches!(&loaded, Loaded::Intact(found) if found.generations.len() == 3), "{loaded:?}");
    let mut manifest = loaded.manifest().cloned().unwrap();
    manifest.candidates.remove(0);
    manifest.attempt = None;
    store.commit(&manifest).unwrap();
    store.erase(&[number(1)]).unwrap();
    assert!(!folder.path().join(".exuvia/r1/generations/0001").exists());
    assert_eq!(store.sweep().unwrap(), Default::default());
}

#[test]
fn no_symbolic_link_inside_the_state_folder_is_followed() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path());
    renew(&mut store, 1).unwrap();
    drop(store);
    let state = folder.path().join(".exuvia/r1");
    let key = state.join("generations/0001/key.pem");
    fs::rename(&key, folder.path().join("elsewhere")).unwrap();
    symlink(folder.path().join("elsewhere"), &key).unwrap();
    let loaded = open(folder.path()).load(facts).unwrap();
    assert_eq!(loaded.damage()[0].found, FileDamage::Unreadable(Errno::LOOP));
    assert_eq!(loaded.damage()[0].path, key);

    fs::rename(state.join("generations"), folder.path().join("moved")).unwrap();
    symlink(folder.path().join("moved"), state.join("generations")).unwrap();
    assert!(open(folder.path()).load(facts).is_err(), "a folder behind a link is not absent either");
}

#[test]
fn a_pipe_in_place_of_a_file_does_not_hang_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path());
    renew(&mut store, 1).unwrap();
    let manifest = folder.path().join(".exuvia/r1/manifest");
    fs::remove_file(&manifest).unwrap();
    assert!(Command::new("mkfifo").arg(&manifest).status().unwrap().success());
    assert_eq!(store.load(facts).unwrap().damage()[0].found, FileDamage::Unreadable(Errno::INVAL));
}

#[test]
fn two_processes_never_share_an_identity_and_a_killed_one_gives_it_back() {
    let name = "two_processes_never_share_an_identity_and_a_killed_one_gives_it_back";
    if let Some(folder) = child_folder() {
        let path = state_folder(&folder.join("r.cert"), None, &RouterId::new("r1"));
        let _store = IdentityStore::open(RealDisk, &path, "pid 4711").map_err(|(error, _)| error).unwrap();
        println!("\nlocked");
        let _ = std::io::stdin().read(&mut [0]);
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut command = again(name, "TEST", folder.path());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "locked"));

    let path = state_folder(&folder.path().join("r.cert"), None, &RouterId::new("r1"));
    let (error, disk) = IdentityStore::open(RealDisk, &path, "").unwrap_err();
    assert_eq!(error, StoreError::Busy { path: path.clone(), holder: "pid 4711".into() });
    child.kill().unwrap();
    child.wait().unwrap();
    let (store, _) = IdentityStore::open(disk, &path, "").map_err(|(error, _)| error).unwrap();
    assert!(store.is_locked());

    // Not even within one process.
    assert!(matches!(IdentityStore::open(RealDisk, &path, ""), Err((StoreError::Busy { .. }, _))));
    store.close();
    assert!(IdentityStore::open(RealDisk, &path, "").is_ok());
}

#[test]
fn a_file_size_limit_is_a_full_disk() {
    if let Some(folder) = child_folder() {
        let mut store = open(&folder);
        let error = renew(&mut store, 1).unwrap_err();
        assert!(error.is_full(), "{error:?}");
        assert!(!folder.join(".exuvia/r1/generations/0001").exists());
        println!("{DONE}");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    assert!(run_again("a_file_size_limit_is_a_full_disk", "trap '' XFSZ; ulimit -f 0; TEST", folder.path()));
}

#[test]
fn a_small_disk_fills_up_in_prepare_and_recovers() {
    if let Some(folder) = child_folder() {
        let mut store = open(&folder);
        renew(&mut store, 1).unwrap();
        fs::write(folder.join("ballast"), []).unwrap();
        let mut ballast = vec![0; 4 << 20];
        while fs::write(folder.join("ballast"), &ballast).is_err() {
            ballast.truncate(ballast.len() - 4096);
        }
        let before = paths_below(&folder);
        store.load(facts).unwrap();
        let error = store.prepare(number(2), &keys(2), Reservation::default()).unwrap_err();
        assert!(error.is_full(), "{error:?}");
        assert_eq!(paths_below(&folder), before, "nothing is left behind");
        assert_eq!(store.detect_mode(&folder.join("r.cert")), StorageMode::Writable, "they vanish together");
        let elsewhere = std::env::current_exe().unwrap();
        assert_eq!(store.detect_mode(&elsewhere), StorageMode::Volatile(VolatileCause::Tmpfs));

        fs::remove_file(folder.join("ballast")).unwrap();
        let next = store.next_number();
        renew(&mut store, next.0).unwrap();
        println!("{DONE}");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let shell = format!(
        "exec unshare -Urm sh -c 'mount -t tmpfs -o size=256k none {} && TEST' \"$0\" \"$1\"",
        folder.path().display()
    );
    run_again("a_small_disk_fills_up_in_prepare_and_recovers", &shell, folder.path());
}

#[test]
fn a_folder_that_others_may_enter_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()));
    let state = folder.path().join(".exuvia/r1");
    fs::set_permissions(&state, fs::Permissions::from_mode(0o755)).unwrap();
    let (_, notices) = IdentityStore::open(RealDisk, &state, "").map_err(|(error, _)| error).unwrap();
    assert_eq!(notices, [Notice::WideMode(0o755)]);
}

#[test]
fn projected_copies_keep_mode_and_a_kept_key_keeps_its_inode() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let projection = Projection::new([(Slot::Key, path("r.key")), (Slot::Cert, path("r.cert"))]);
    projection.write(&mut RealDisk, &files(1)).unwrap();
    let mode = |name: &str| path(name).metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("r.key"), mode("r.cert")), (0o600, 0o644));
    fs::set_permissions(path("r.cert"), fs::Permissions::from_mode(0o604)).unwrap();
    let inode = path("r.key").metadata().unwrap().ino();

    let mut second = files(2);
    second.keys = keys(1);
    fs::write(path(".exuvia-r.cert-0.tmp"), b"left by a crash").unwrap();
    projection.write(&mut RealDisk, &second).unwrap();
    assert_eq!(projection.sweep(&mut RealDisk).unwrap(), 1);
    assert_eq!(fs::read(path("r.cert")).unwrap(), second.client);
    assert_eq!((mode("r.cert"), path("r.key").metadata().unwrap().ino()), (0o604, inode));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    assert_eq!(projection.read(&mut RealDisk).digest(), Some(projection.digest(&second)));
}

#[test]
fn a_generation_that_was_not_prepared_cannot_be_staged() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path());
    assert_eq!(store.stage(number(1), &files(1)), Err(Refusal::MustReload.into()));
    store.load(facts).unwrap();
    assert_eq!(store.stage(number(1), &files(1)), Err(Refusal::NotPrepared(number(1)).into()));
}
