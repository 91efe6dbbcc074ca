//! Identity folders that belong to somebody else.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;
use std::process::Command;

use crate::support::{Router, finish, shared, skip};

const SOMEBODY: u32 = 54_321;

/// The program as another user.
fn as_somebody(home: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("setpriv");
    let id = SOMEBODY.to_string();
    command.args(["--reuid", &id, "--regid", &id, "--clear-groups", env!("CARGO_BIN_EXE_exuvia")]).args(args);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", home).current_dir(home);
    command
}

/// May this machine start the program as somebody else?
fn is_possible(home: &Path) -> bool {
    fs::set_permissions(home, fs::Permissions::from_mode(0o755)).unwrap();
    match as_somebody(home, &["version"]).output() {
        Ok(output) if output.status.success() => true,
        Ok(output) => {
            skip("an identity of somebody else", &String::from_utf8_lossy(&output.stderr));
            false
        }
        Err(error) => {
            skip("an identity of somebody else", &error.to_string());
            false
        }
    }
}

#[test]
fn an_identity_that_belongs_to_somebody_else_is_named_and_left_alone() {
    let site = shared();
    if !is_possible(site.home.path()) {
        return;
    }
    let router = Router::enrolled(&site, "of-root");
    let before = crate::support::listing(&router.folder());
    let config = router.config();
    let open = |name: &str, mode: u32| {
        fs::set_permissions(site.path(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    let told = finish(as_somebody(site.home.path(), &["router", "run", &config, "--log-level", "off"]));
    assert!(matches!(told.code, Some(3 | 4)), "{told:#?}");
    assert!(told.stderr.contains("ermission denied") && told.stderr.contains("hint: "), "{told:#?}");
    assert!(!told.stderr.contains("no identity yet"), "unreadable is not absent: {told:#?}");
    let status = finish(as_somebody(site.home.path(), &["status", &config]));
    assert!(matches!(status.code, Some(3..=5)), "{status:#?}");
    assert!(status.stderr.contains("ermission denied") || status.stderr.contains("user"), "{status:#?}");
    // Not even the folder may be looked into.
    open("of-root", 0o700);
    let told = finish(as_somebody(site.home.path(), &["router", "run", &config, "--log-level", "off"]));
    assert!(matches!(told.code, Some(3 | 4)), "{told:#?}");
    assert!(told.stderr.contains("ermission denied") && told.stderr.contains("hint: "), "{told:#?}");
    assert!(!told.stderr.contains("no identity yet"), "unreadable is not absent: {told:#?}");
    open("of-root", 0o755);
    crate::support::assert_calm(&told.stderr);
    assert_eq!(crate::support::listing(&router.folder()), before);
    router.admitted().terminate();
}

#[test]
fn a_state_folder_that_root_made_says_whose_it_is_and_works_once_it_was_given_back() {
    let site = shared();
    if !is_possible(site.home.path()) {
        return;
    }
    // As it happens: the daemon's user has everything, but somebody enrolled as root.
    let router = Router::enrolled(&site, "given-back");
    let config = router.config();
    fs::set_permissions(site.path("given-back.jwt"), fs::Permissions::from_mode(0o644)).unwrap();
    for name in ["", "key.pem", "client.pem", "server.pem", "ca.pem", "endpoints.yml"] {
        let path = router.folder().join(name);
        if path.exists() {
            chown(path, Some(SOMEBODY), Some(SOMEBODY)).unwrap();
        }
    }
    let told = finish(as_somebody(site.home.path(), &["router", "run", &config, "--log-level", "off"]));
    assert_eq!(told.code, Some(4), "{told:#?}");
    assert!(told.stderr.contains("ermission denied") && told.stderr.contains("hint: "), "{told:#?}");
    fn give(path: &Path) {
        chown(path, Some(SOMEBODY), Some(SOMEBODY)).unwrap();
        if path.is_dir() {
            fs::read_dir(path).unwrap().flatten().for_each(|entry| give(&entry.path()));
        }
    }
    give(&router.folder());
    let mut process =
        crate::support::Process::start(site.home.path(), as_somebody(site.home.path(), &["router", "run", &config]));
    process.until_admitted();
    router.renew();
    process.terminate();
}
