//! What a controller, the kernel or another process refuses.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use lifecycle::{RouterId, UnixTime};
use pki::{Chain, EnrollmentMethod, EnrollmentToken, PrivateKey};
use zeroize::Zeroizing;

use crate::support::{Daemon, Place, exuvia, finish, free_port, init, run, write_router_config};

#[test]
fn a_wrong_password_is_refused_and_leaves_no_session() {
    let place = Place::with_controller();
    fs::write(place.path("wrong.txt"), "wrong-password-entirely").unwrap();
    let told = place.login("wrong.txt").fails(6, &["`INVALID_AUTH`", "hint: ", "reset-password"]);
    assert!(!told.stderr.contains("wrong-password-entirely"));
    assert!(!place.path(".local/state/exuvia/session.json").exists());
}

#[test]
fn nobody_is_trusted_unless_somebody_vouches() {
    let place = Place::with_controller();
    let login =
        |more: &[&str]| place.run(&[&["fleet", "login", &place.api, "--password-file", "password.txt"], more].concat());
    let told = login(&[]).fails(2, &["nobody vouches", "SHA-256", "--fingerprint"]);
    let shown: String = told.stderr.lines().find_map(|line| line.trim().strip_prefix("SHA-256 ")).unwrap().to_owned();
    login(&["--fingerprint", &"ab".repeat(32)]).fails(5, &["fingerprint", "hint: "]);
    // Another controller's CA vouches for nothing here.
    let other = tempfile::tempdir().unwrap();
    init(other.path(), free_port(), free_port()).ok();
    let ca = other.path().join("ctrl/pki/bundle.pem");
    login(&["--ca", ca.to_str().unwrap()]).fails(5, &["do not trust"]);
    fs::write(place.path("no.pem"), "no certificate").unwrap();
    login(&["--ca", "no.pem"]).fails(3, &["`no.pem`"]);
    assert!(!place.path(".local/state/exuvia/session.json").exists());
    login(&["--fingerprint", &shown]).ok();
    let session = fs::metadata(place.path(".local/state/exuvia/session.json")).unwrap();
    assert_eq!(session.permissions().mode() & 0o777, 0o600);
    place.run(&["fleet", "list"]).ok();
}

#[test]
fn a_session_that_ended_asks_for_a_new_login() {
    let mut place = Place::logged_in();
    assert_eq!(place.controller.terminate(), Some(0));
    place.run(&["fleet", "list"]).fails(5, &["cannot connect"]);
    place.controller = Daemon::start(place.home.path(), "again", &["controller", "run", "ctrl/controller.yml"]);
    place.controller.until_told("READY=1");
    place.run(&["fleet", "list"]).fails(6, &["`UNAUTHORIZED`", "hint: ", "exuvia fleet login https://localhost"]);
}

#[test]
fn orders_that_destroy_want_a_yes() {
    let place = Place::logged_in();
    place.run(&["fleet", "create", "r1", "-o", "r1.jwt"]).ok();
    for command in [&["delete", "r1"][..], &["revoke", "r1"], &["re-enroll", "r1"], &["rekey", "--within", "2h"]] {
        place.run(&[&["fleet"], command].concat()).fails(2, &["--yes"]);
    }
    place.run(&["fleet", "show", "r2"]).fails(6, &["no router `r2`", "fleet list"]);
    place.run(&["fleet", "create", "r1", "-o", "r1.jwt"]).fails(6, &["r1"]);
    place.run(&["fleet", "list", "--filter", "name ="]).fails(6, &["INVALID_FILTER"]);
}

const UNKNOWN: &str = "3f2c9f0e-0000-4000-8000-000000000000";

/// A token for `r1`, signed with this controller's own key.
fn signed(place: &Place, secret: &str, method: EnrollmentMethod, expires_at: i64) -> Zeroizing<String> {
    let key = PrivateKey::from_pem(&fs::read(place.path("ctrl/pki/key.pem")).unwrap()).unwrap();
    let chain = Chain::from_pem(&fs::read(place.path("ctrl/pki/server.pem")).unwrap()).unwrap();
    let token = EnrollmentToken {
        issuer: place.api.clone(),
        router: RouterId::new("r1"),
        secret: Zeroizing::new(secret.to_owned()),
        method,
        expires_at: UnixTime::from_s(expires_at),
        controllers: Vec::new(),
    };
    token.sign(&key, chain.leaf()).unwrap()
}

#[test]
fn a_token_that_is_expired_unknown_or_of_another_kind_enrolls_nobody() {
    let place = Place::logged_in();
    write_router_config(place.home.path(), "r1");
    let enroll = |jwt: &str| place.run(&["router", "enroll", "r1.yml", "--jwt", jwt]);
    let write = |name: &str, secret: &str, method, expires_at| {
        fs::write(place.path(name), signed(&place, secret, method, expires_at).as_str()).unwrap();
    };
    write("expired.jwt", UNKNOWN, EnrollmentMethod::EdgeRouter, 1_000_000_000);
    enroll("expired.jwt").fails(3, &["expired", "hint: "]);
    write("unknown.jwt", UNKNOWN, EnrollmentMethod::EdgeRouter, 4_000_000_000);
    enroll("unknown.jwt").fails(6, &["INVALID_ENROLLMENT_TOKEN", "hint: "]);
    // The real token's secret in a token for the other kind of router.
    place.run(&["fleet", "create", "r1", "-o", "real.jwt"]).ok();
    let real = fs::read_to_string(place.path("real.jwt")).unwrap();
    let claims = URL_SAFE_NO_PAD.decode(real.split('.').nth(1).unwrap()).unwrap();
    let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
    write("kind.jwt", claims["jti"].as_str().unwrap(), EnrollmentMethod::TransitRouter, 4_000_000_000);
    let told = enroll("kind.jwt").fails(6, &["INVALID_ENROLL", "hint: "]);
    assert!(!told.stderr.contains(claims["jti"].as_str().unwrap()), "{told:#?}");
    // A token of another controller was not signed by this one.
    let text = fs::read_to_string(place.path("unknown.jwt")).unwrap();
    let (head, _) = text.rsplit_once('.').unwrap();
    fs::write(place.path("forged.jwt"), format!("{head}.{}", "A".repeat(86))).unwrap();
    enroll("forged.jwt").fails(3, &["signature"]);
    // None of them harmed the real one.
    enroll("real.jwt").ok();
}

#[test]
fn a_second_router_on_the_same_identity_waits_and_the_first_stays() {
    let place = Place::logged_in();
    place.enrolled("r1");
    let mut first = place.running("r1");
    let again = place.run(&["router", "enroll", "r1.yml", "--jwt", "r1.jwt"]);
    assert_ne!(again.code, Some(0), "a spent token enrolled again: {again:#?}");
    let mut second = Daemon::start(place.home.path(), "second", &["router", "run", "r1.yml"]);
    assert_eq!(place.run(&["status", "r1.yml", "--json"]).ok().json()["is_running"], true);
    // The second one ends in order although it never got its turn; or it gets it when the first one ends.
    assert_eq!(first.terminate(), Some(0));
    second.until_told("admitted by a controller");
    assert_eq!(second.terminate(), Some(0));
}

#[test]
fn a_port_in_use_is_named() {
    let home = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    init(home.path(), port, free_port()).ok();
    let start = ["controller", "run", "ctrl/controller.yml", "--log-level", "off"];
    run(home.path(), &start).fails(7, &[&port.to_string(), "in use", "hint: "]);
}

#[test]
fn a_second_controller_on_the_same_register_is_refused() {
    let place = Place::with_controller();
    let start = ["controller", "run", "ctrl/controller.yml", "--log-level", "off"];
    place.run(&start).fails(7, &["in use by another process"]);
    place.run(&["controller", "reset-password", "ctrl/controller.yml"]).fails(7, &["in use by another process"]);
    place.run(&["controller", "restore", "ctrl/controller.yml", "password.txt", "--yes"]).fails(7, &["in use"]);
}

#[test]
fn a_router_whose_port_is_taken_says_so() {
    let place = Place::logged_in();
    place.enrolled("r1");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let mut config = fs::read_to_string(place.path("r1.yml")).unwrap();
    config.push_str(&format!("web:\n  - name: health\n    bindPoints:\n      - interface: {address}\n    apis:\n      - binding: health-checks\n"));
    fs::write(place.path("r1.yml"), config).unwrap();
    place.run(&["router", "run", "r1.yml", "--log-level", "off"]).fails(7, &["health", "caused by: ", "hint: "]);
}

/// As [`exuvia`], but bound by the modes of files even as root.
fn bound_by_modes(place: &Place, args: &[&str]) -> Command {
    let mut command = exuvia(place.home.path(), args);
    command.env("EXUVIA_PARENT_PID", std::process::id().to_string()).env("EXUVIA_OBEY_MODES", "1");
    command
}

#[test]
fn files_of_somebody_else_are_named_and_nothing_is_lost() {
    let place = Place::logged_in();
    place.run(&["fleet", "create", "r1", "-o", "r1.jwt"]).ok();
    write_router_config(place.home.path(), "r1");
    let set = |name: &str, mode| fs::set_permissions(place.path(name), fs::Permissions::from_mode(mode)).unwrap();
    let enroll = ["router", "enroll", "r1.yml", "--jwt", "r1.jwt"];
    set("r1.yml", 0);
    finish(bound_by_modes(&place, &enroll)).fails(3, &["r1.yml", "Permission denied", "hint: "]);
    set("r1.yml", 0o600);
    set("r1.jwt", 0);
    finish(bound_by_modes(&place, &enroll)).fails(3, &["r1.jwt", "Permission denied", "hint: "]);
    set("r1.jwt", 0o600);
    set("r1", 0o500);
    finish(bound_by_modes(&place, &enroll)).fails(4, &["caused by: ", "hint: "]);
    set("r1", 0o700);
    finish(bound_by_modes(&place, &enroll)).ok();
    set(".local/state/exuvia/session.json", 0);
    finish(bound_by_modes(&place, &["fleet", "list"])).fails(3, &["session.json", "Permission denied"]);
}

#[test]
fn a_disk_without_room_costs_a_router_nothing_but_the_attempt() {
    let place = Place::logged_in();
    place.run(&["fleet", "create", "r1", "-o", "r1.jwt"]).ok();
    write_router_config(place.home.path(), "r1");
    let mut full = Command::new("sh");
    let enroll = "ulimit -f 0; exec \"$EXUVIA\" router enroll r1.yml --jwt r1.jwt";
    full.args(["-c", enroll]).env_clear().env("EXUVIA", env!("CARGO_BIN_EXE_exuvia")).current_dir(place.home.path());
    finish(full).fails(4, &["caused by: ", "hint: "]);
    place.run(&["router", "enroll", "r1.yml", "--jwt", "r1.jwt"]).ok();
    let mut router = place.running("r1");
    assert_eq!(router.terminate(), Some(0));
}

#[test]
fn a_daemon_that_logs_json_fails_in_json() {
    let home = tempfile::tempdir().unwrap();
    let ran = run(home.path(), &["--log-format", "json", "controller", "run", "none.yml"]);
    assert_eq!(ran.code, Some(3), "{ran:#?}");
    let line: serde_json::Value = serde_json::from_str(ran.stderr.trim()).unwrap();
    assert_eq!(line["level"], "ERROR");
    assert_eq!(line["exit_code"], 3);
    assert!(line["message"].as_str().unwrap().contains("none.yml"), "{line}");
    assert!(line["hint"].is_string(), "{line}");
}
