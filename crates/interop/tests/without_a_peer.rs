//! Where there is nothing of OpenZiti.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::process::Command;

fn run(arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_interop"));
    let output = command.args(arguments).env_remove("ZITI_BIN").output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

#[test]
fn without_ziti_bin_it_says_what_was_not_run() {
    let (code, text) = run(&["run", "--only", "router-on-stock"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.starts_with("ZITI_BIN is not set: nothing of OpenZiti is here, and none of this was run:"), "{text}");
    assert!(text.contains("enrolled-with-their-files"), "{text}");
    assert!(!text.contains("they-enroll-we-run"), "{text}");
}

#[test]
fn what_is_called_otherwise_is_not_run() {
    let (code, text) = run(&["run", "--only", "nonsense"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("no group and no scenario is called `nonsense`"), "{text}");
}
