//! Where there is nothing of OpenZiti.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::process::Command;

fn run(arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_compare"));
    let output = command.args(arguments).env_remove("ZITI_BIN").output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

#[test]
fn without_ziti_bin_it_says_that_nothing_was_compared() {
    let (code, text) = run(&["run", "--only", "lost-20002"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.starts_with("error: nothing was compared: no OpenZiti program is named"), "{text}");
    assert!(text.contains("ZITI_BIN=/path/to/ziti"), "{text}");
}

#[test]
fn the_faults_can_be_named_without_a_peer() {
    let (code, text) = run(&["list"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.lines().count() >= 40 && text.contains("lost-20002"), "{text}");
}
