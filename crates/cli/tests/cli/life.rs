//! One router's life with real processes, from `controller init` to revocation.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use crate::support::{Place, exuvia};

#[test]
fn a_router_is_made_enrolled_renewed_watched_and_revoked() {
    let mut place = Place::logged_in();
    let made = place.run(&["fleet", "create", "r1", "--role", "public", "-o", "r1.jwt", "--json"]).ok().json();
    assert_eq!(made["name"], "r1");
    assert_eq!(made["jwt_file"], "r1.jwt");
    assert_eq!(fs::metadata(place.path("r1.jwt")).unwrap().permissions().mode() & 0o777, 0o600);
    let id = made["id"].as_str().unwrap().to_owned();
    let before = place.run(&["fleet", "list"]).ok().stdout;
    assert!(before.contains("awaiting_enrollment") && before.contains("not enrolled"), "{before}");

    crate::support::write_router_config(place.home.path(), "r1");
    let enrolled = place.run(&["router", "enroll", "r1.yml", "--jwt", "r1.jwt", "--json"]).ok().json();
    assert_eq!(enrolled["router"], id.as_str());
    let on_disk = place.run(&["status", "r1.yml", "--json"]).ok().json();
    assert_eq!(on_disk["is_running"], false);

    let mut router = place.running("r1");
    let status = place.run(&["router", "status", "r1.yml", "--json"]).ok().json();
    assert_eq!(status["is_running"], true);
    assert_eq!(status["router"], id.as_str());
    assert!(status["lockout_in_s"].as_u64().unwrap() > 86_400, "{status:#}");
    let first = status["generation"].as_u64().unwrap();
    let told = place.run(&["status", "r1.yml"]).ok().stdout;
    assert!(told.starts_with("lock-out in"), "{told}");

    let renewed = place.run(&["router", "renew", "r1.yml", "--json"]).ok().json();
    assert_eq!(renewed["is_proven"], true);
    assert!(renewed["generation"].as_u64().unwrap() > first);
    let status = place.run(&["status", "r1.yml", "--json"]).ok().json();
    assert_eq!(status["generation"], renewed["generation"]);
    let doctor = place.run(&["doctor", "r1.yml"]);
    assert_eq!(doctor.code, Some(0), "{doctor:#?}");

    let list = place.run(&["fleet", "list", "--json"]).ok().json();
    assert_eq!(list.as_array().unwrap().len(), 1);
    assert!(list[0]["lockout_s"].as_u64().unwrap() > 86_400);
    let shown = place.run(&["fleet", "show", "r1", "--json"]).ok().json();
    assert_eq!(shown["router"]["id"], id.as_str());
    assert!(
        shown["router"]["leaves"].as_array().unwrap().iter().filter(|leaf| leaf["is_admitted"] == true).count() >= 1
    );
    assert!(!shown["audit"].as_array().unwrap().is_empty());
    let shown = place.run(&["fleet", "show", &id]).ok().stdout;
    assert!(shown.starts_with("lock-out:"), "{shown}");
    assert!(shown.contains("(in use)"), "{shown}");
    assert!(place.run(&["fleet", "audit", "r1"]).ok().stdout.contains("first-use"));
    assert!(place.run(&["fleet", "pipeline"]).ok().stdout.contains("issuer:"));

    revoke_while_somebody_watches(&place, &id);
    let list = place.run(&["fleet", "list"]).ok().stdout;
    assert!(list.contains("revoked"), "{list}");
    assert_eq!(router.terminate(), Some(0), "{}", router.log());
    place.run(&["fleet", "delete", "r1", "--yes"]).ok();
    assert_eq!(place.run(&["fleet", "list", "--json"]).ok().json(), serde_json::json!([]));
    assert!(place.run(&["fleet", "audit", &id]).ok().stdout.contains("revoked"));
    place.run(&["fleet", "logout"]).ok();
    assert!(!place.path(".local/state/exuvia/session.json").exists());
    assert_eq!(place.controller.terminate(), Some(0), "{}", place.controller.log());
}

/// The stream of events begins before the order, and ends with it.
fn revoke_while_somebody_watches(place: &Place, id: &str) {
    use std::io::{BufRead as _, BufReader};
    let mut command = exuvia(place.home.path(), &["fleet", "events", "--router", "r1", "--json"]);
    let mut watcher = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(watcher.stdout.take().unwrap()).lines();
    let mut remarks = BufReader::new(watcher.stderr.take().unwrap()).lines();
    assert_eq!(remarks.next().unwrap().unwrap(), "connected; Ctrl-C ends it");
    place.run(&["fleet", "renew", "r1"]).ok();
    place.run(&["fleet", "revoke", "r1", "--yes"]).ok();
    let revoked = lines.map(|line| line.unwrap()).find(|line| line.contains("\"revoked\"")).unwrap();
    assert_eq!(serde_json::from_str::<serde_json::Value>(&revoked).unwrap()["router_id"], id);
    watcher.kill().unwrap();
    watcher.wait().unwrap();
}

#[test]
fn a_backup_brings_a_router_back_that_renewed_after_it() {
    let mut place = Place::logged_in();
    place.enrolled("r1");
    let mut router = place.running("r1");
    let copied = place.run(&["controller", "backup", "ctrl/controller.yml", "copy.db", "--json"]).ok().json();
    assert_eq!(copied["routers"], 1);
    place.run(&["controller", "backup", "ctrl/controller.yml", "copy.db"]).fails(3, &["copy.db"]);
    place.run(&["router", "renew", "r1.yml"]).ok();
    assert_eq!(router.terminate(), Some(0));
    assert_eq!(place.controller.terminate(), Some(0));

    let restored =
        place.run(&["controller", "restore", "ctrl/controller.yml", "copy.db", "--yes", "--json"]).ok().json();
    assert_eq!(restored["routers"], 1);
    let reset = place.run(&["controller", "reset-password", "ctrl/controller.yml", "--json"]).ok().json();
    fs::write(place.path("password.txt"), reset["password"].as_str().unwrap()).unwrap();
    place.controller =
        crate::support::Daemon::start(place.home.path(), "again", &["controller", "run", "ctrl/controller.yml"]);
    place.controller.until_told("READY=1");
    let mut router = place.running("r1");
    place.login("password.txt").ok();
    let shown = place.run(&["fleet", "show", "r1", "--json"]).ok().json();
    assert!(shown["router"]["lockout_s"].as_u64().unwrap() > 86_400, "{shown:#}");
    assert_eq!(router.terminate(), Some(0));
}

#[test]
fn a_router_may_take_its_token_from_a_pipe() {
    let place = Place::logged_in();
    let token = place.run(&["fleet", "create", "r1", "--transit"]).ok().stdout;
    let text = fs::read_to_string({
        crate::support::write_router_config(place.home.path(), "r1");
        place.path("r1.yml")
    });
    let transit = text
        .unwrap()
        .replace("edge:\n  csr:\n    sans:\n      dns: [localhost]", "csr:\n  sans:\n    dns: [localhost]");
    fs::write(place.path("r1.yml"), transit).unwrap();
    let enroll = ["router", "enroll", "r1.yml", "--jwt", "-"];
    crate::support::run_with_input(place.home.path(), &enroll, &token).ok();
    let mut router = place.running("r1");
    assert_eq!(router.terminate(), Some(0));
    let again = place.run(&["fleet", "re-enroll", "r1", "--yes", "-o", "again.jwt"]).ok();
    assert!(again.stderr.contains("again.jwt"));
}
