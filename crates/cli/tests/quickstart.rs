//! `exuvia quickstart` as a newcomer runs it: real processes, real certificates, a short life.
#![expect(clippy::panic, reason = "the small functions above the tests fail a test this way")]

use std::io::{BufRead, BufReader, Read};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

fn quickstart(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_exuvia"));
    command.arg("quickstart").args(arguments).stdin(Stdio::null());
    command
}

/// The one line on standard output.
fn object(stdout: &[u8], stderr: &[u8]) -> Value {
    let text = String::from_utf8_lossy(stdout);
    assert_eq!(text.lines().count(), 1, "{text}\n{}", String::from_utf8_lossy(stderr));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn three_routers_renew_under_load_and_nothing_is_lost() {
    let output = quickstart(&["--for", "20s", "--leaf-life", "10s", "--json"]).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    let summary = object(&output.stdout, &output.stderr);
    assert!(output.status.success(), "{summary:#}\n{told}");
    let count = |key: &str| summary[key].as_u64().unwrap_or_else(|| panic!("{key} in {summary:#}"));
    assert_eq!(count("routers"), 3);
    // Leaves of ten seconds are renewed after seven: every router at least once, most of them twice.
    assert!(count("renewals") >= 3, "{summary:#}");
    assert!(count("handshakes") > 100, "{summary:#}");
    for nothing in ["failed_handshakes", "dropped_connections", "dropped_bytes", "locked_out"] {
        assert_eq!(count(nothing), 0, "{nothing} in {summary:#}\n{told}");
    }
    assert!(summary["worst_seconds_left"].as_f64().unwrap() > 1.0, "{summary:#}");
    assert_eq!(summary["faults"], Value::Object(serde_json::Map::new()));
    let routers = summary["per_router"].as_array().unwrap();
    assert!(routers.iter().all(|router| router["renewals"].as_u64() >= Some(1)), "{summary:#}");
    // A temporary home goes away when all is well.
    let home = told.lines().find_map(|line| line.strip_prefix("home")).unwrap().trim();
    assert!(!std::path::Path::new(home).exists());
}

#[test]
fn faults_strike_and_nothing_is_lost_all_the_same() {
    let arguments = ["--for", "25s", "--leaf-life", "30s", "--faults", "--seed", "3", "--json"];
    let output = quickstart(&arguments).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    let summary = object(&output.stdout, &output.stderr);
    assert!(output.status.success(), "{summary:#}\n{told}");
    assert_eq!(summary["locked_out"], 0);
    assert_eq!(summary["seed"], 3);
    let struck: u64 = summary["faults"]
        .as_object()
        .unwrap()
        .values()
        .flat_map(|phases| phases.as_object().unwrap().values())
        .filter_map(Value::as_u64)
        .sum();
    assert!(struck >= 7, "{summary:#}");
    assert_eq!(
        struck as usize,
        told.lines().filter(|line| line.contains("  fault ")).count(),
        "each is printed as it strikes"
    );
}

/// Ends with the test, whatever happens in it.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_routers_die_with_a_quickstart_that_is_killed() {
    let temp = tempfile::tempdir().unwrap();
    let home = temp.path().join("home");
    let home_text = home.to_str().unwrap();
    let mut running = Running(
        quickstart(&["--routers", "1", "--home", home_text])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let mut lines = BufReader::new(running.0.stdout.take().unwrap()).lines();
    lines.find(|line| line.as_ref().is_ok_and(|line| line.contains("r1  Steady"))).unwrap().unwrap();
    let mut socket = UnixStream::connect(home.join("r1/admin.sock")).unwrap();
    running.0.kill().unwrap();
    running.0.wait().unwrap();
    // The socket closes only when the router's process ends; it is reset if the router had not taken it yet.
    let ended = socket.read(&mut [0]);
    assert!(!matches!(ended, Ok(1..)), "{ended:?}");
    assert!(UnixStream::connect(home.join("r1/admin.sock")).is_err());
}

#[test]
fn a_folder_that_holds_something_is_refused_with_a_hint() {
    let temp = tempfile::tempdir().unwrap();
    std::fs::write(temp.path().join("mine"), "x").unwrap();
    let output = quickstart(&["--home", temp.path().to_str().unwrap()]).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(told.contains("is not empty") && told.contains("hint:"), "{told}");
    assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 1);
}
