//! Help, version and completions.

use std::fs;

use crate::support::{exuvia, finish, run};

#[test]
fn every_command_prints_the_help_that_the_reference_shows() {
    let home = tempfile::tempdir().unwrap();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/operating/cli.md");
    let reference = fs::read_to_string(path).unwrap();
    let mut seen = 0;
    for section in reference.split("\n## exuvia").skip(1) {
        let (name, rest) = section.split_once("\n\n```text\n").unwrap();
        let (shown, _) = rest.split_once("```\n").unwrap();
        let mut args: Vec<&str> = name.split_whitespace().collect();
        args.push("--help");
        let ran = run(home.path(), &args).ok();
        let printed: Vec<&str> = ran.stdout.trim_end().lines().map(str::trim_end).collect();
        assert_eq!(printed.join("\n"), shown.trim_end(), "exuvia {}", args.join(" "));
        assert_eq!(ran.stderr, "");
        seen += 1;
    }
    assert!(seen >= 25, "only {seen} commands were found in the reference");
}

#[test]
fn a_misspelt_command_or_option_is_answered_with_the_nearest_one() {
    let home = tempfile::tempdir().unwrap();
    run(home.path(), &["rooter"]).fails(2, &["unrecognized subcommand 'rooter'", "'router'"]);
    run(home.path(), &["fleet", "list", "--jsn"]).fails(2, &["unexpected argument '--jsn'", "'--json'"]);
    run(home.path(), &["router", "enroll", "a.yml"]).fails(2, &["--jwt"]);
    run(home.path(), &["--log-level", "inof", "version"]).fails(2, &["inof", "`info`"]);
    run(home.path(), &["fleet", "login", "http://ctrl"]).fails(2, &["`http`", "https"]);
    run(home.path(), &["fleet", "rekey", "--within", "2"]).fails(2, &["--within"]);
}

#[test]
fn the_version_is_told_to_people_and_scripts() {
    let home = tempfile::tempdir().unwrap();
    let version = env!("CARGO_PKG_VERSION");
    assert!(run(home.path(), &["version"]).ok().stdout.starts_with(&format!("exuvia {version}")));
    assert_eq!(run(home.path(), &["version", "--json"]).ok().json()["version"], version);
    assert_eq!(run(home.path(), &["--version"]).ok().stdout, format!("exuvia {version}\n"));
}

#[test]
fn completions_exist_for_every_shell() {
    let home = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = run(home.path(), &["completions", shell]).ok().stdout;
        assert!(script.contains("re-enroll"), "{shell}");
    }
}

#[test]
fn nothing_is_coloured_where_there_is_no_terminal() {
    let home = tempfile::tempdir().unwrap();
    let mut command = exuvia(home.path(), &["status", "none.yml"]);
    command.env("TERM", "xterm-256color");
    assert!(!finish(command).stderr.contains('\x1b'));
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let home = tempfile::tempdir().unwrap();
    let mut command = exuvia(home.path(), &["completions", "bash"]);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let ran = finish_with_stdout(&mut command, writer);
    assert_eq!(ran, (Some(0), String::new()));
}

fn finish_with_stdout(command: &mut std::process::Command, writer: std::io::PipeWriter) -> (Option<i32>, String) {
    let child = command.stdout(writer).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_simulated_world_is_the_same_for_the_same_seed() {
    let home = tempfile::tempdir().unwrap();
    let args = ["sim", "--seed", "7", "--routers", "1", "--days", "120", "--json"];
    let first = run(home.path(), &args).ok();
    assert_eq!(first.json()["is_ok"], true);
    assert_eq!(first.json()["seed"], 7);
    assert_eq!(first.stdout, run(home.path(), &args).ok().stdout);
}
