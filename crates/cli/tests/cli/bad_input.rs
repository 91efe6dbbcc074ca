//! What a person may get wrong on one machine: each gets a clear message, the right exit code, and loses nothing.

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::support::{PASSWORD, free_port, init, run, run_with_input, write_router_config};

/// Every command that reads a router's configuration, and every one that reads a controller's.
const READERS: [&[&str]; 7] = [
    &["router", "run"],
    &["status"],
    &["doctor"],
    &["router", "renew"],
    &["controller", "run"],
    &["controller", "reset-password"],
    &["controller", "backup", "x.db"],
];

fn reading<'a>(command: &[&'a str], config: &'a str) -> Vec<&'a str> {
    let mut args = command.to_vec();
    args.insert(if command[0] == "controller" { 2 } else { command.len() }, config);
    args
}

#[test]
fn a_configuration_that_is_no_configuration_is_named_as_such() {
    let home = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(home.path().join(name), bytes).unwrap();
    fs::create_dir(home.path().join("folder.yml")).unwrap();
    write("empty.yml", b"");
    write("torn.yml", b"v: 3\nidentity: {cert: \"");
    write("zeros.yml", &[0; 512]);
    write("bytes.yml", &[0xff, 0xfe, 0x00, 0x80]);
    write("list.yml", b"- 1\n- 2\n");
    write("type.yml", b"v: three\nidentity: 7\nctrl: []\n");
    for command in READERS {
        for name in
            ["missing.yml", "folder.yml", "empty.yml", "torn.yml", "zeros.yml", "bytes.yml", "list.yml", "type.yml"]
        {
            run(home.path(), &reading(command, name)).fails(3, &[name]);
        }
    }
}

#[test]
fn every_problem_of_a_configuration_is_told_at_once_with_its_line() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("r.yml"), "v: 3\nidentity: {cert: a, key: b, ca: c}\nctrl: {endpoint: ctrl:6262}\n")
        .unwrap();
    let told =
        run(home.path(), &["router", "run", "r.yml"]).fails(3, &["server_cert", "ctrl.endpoint", "r.yml:3", "help"]);
    assert!(told.stderr.matches("error: ").count() >= 2, "{told:#?}");
}

#[test]
fn a_router_without_identity_is_told_how_to_enroll() {
    let home = tempfile::tempdir().unwrap();
    write_router_config(home.path(), "r1");
    for command in [&["router", "run"][..], &["status"]] {
        run(home.path(), &reading(command, "r1.yml")).fails(3, &["no identity", "hint: ", "enroll"]);
    }
    let doctor = run(home.path(), &["doctor", "r1.yml"]);
    assert_eq!(doctor.code, Some(1), "{doctor:#?}");
    assert!(doctor.stdout.contains("enroll"), "{doctor:#?}");
    run(home.path(), &["router", "renew", "r1.yml"]).fails(5, &["hint: "]);
}

/// A token as it looks, signed by nobody.
fn token(claims: &serde_json::Value) -> String {
    let part = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let header = serde_json::json!({ "alg": "ES256", "typ": "JWT" });
    format!("{}.{}.{}", part(&header), part(claims), URL_SAFE_NO_PAD.encode([7; 64]))
}

#[test]
fn a_token_that_is_none_is_named_as_such_and_never_shown() {
    let home = tempfile::tempdir().unwrap();
    write_router_config(home.path(), "r1");
    let enroll = |jwt: &str| run(home.path(), &["router", "enroll", "r1.yml", "--jwt", jwt]);
    let write = |name: &str, text: &str| fs::write(home.path().join(name), text).unwrap();
    write("empty.jwt", " \n");
    write("garbage.jwt", "very-secret-garbage");
    write("long.jwt", &"x".repeat(1 << 20));
    let claims = |issuer: &str| serde_json::json!({ "iss": issuer, "sub": "r1", "jti": "very-secret", "em": "erott", "exp": 4_000_000_000_u64, "ctrls": [] });
    write("issuer.jwt", &token(&claims("ftp://nowhere")));
    enroll("missing.jwt").fails(3, &["`missing.jwt`", "hint: "]);
    enroll("empty.jwt").fails(3, &["empty"]);
    enroll("long.jwt").fails(3, &["longer"]);
    for name in ["garbage.jwt", "issuer.jwt"] {
        let told = enroll(name).fails(3, &["hint: "]);
        assert!(!told.stderr.contains("very-secret"), "{told:#?}");
    }
    write("away.jwt", &token(&claims(&format!("https://127.0.0.1:{}", free_port()))));
    let told = enroll("away.jwt").fails(5, &["caused by: ", "hint: "]);
    assert!(!told.stderr.contains("very-secret"), "{told:#?}");
    assert!(!home.path().join("r1/.exuvia").exists(), "nothing may be made before the token is believed");
}

#[test]
fn another_service_at_the_controllers_address_is_recognised() {
    let home = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let _ = std::io::Write::write_all(&mut stream.unwrap(), b"220 mail.example.org ESMTP\r\n");
        }
    });
    run(home.path(), &["fleet", "login", &url]).fails(5, &["TLS", "hint: "]);
    let nobody = format!("https://127.0.0.1:{}", free_port());
    run(home.path(), &["fleet", "login", &nobody]).fails(5, &["cannot connect", "caused by: "]);
    assert!(!home.path().join(".local/state/exuvia/session.json").exists());
}

#[test]
fn fleet_commands_without_a_session_say_how_to_begin_one() {
    let home = tempfile::tempdir().unwrap();
    for command in [&["fleet", "list"][..], &["fleet", "show", "r1"], &["fleet", "logout"], &["fleet", "create", "r1"]]
    {
        run(home.path(), command).fails(3, &["no session", "hint: log in with `exuvia fleet login URL`"]);
    }
    run(home.path(), &["fleet", "--session", "/", "list"]).fails(3, &["session"]);
}

#[test]
fn a_damaged_or_open_session_file_is_refused_and_not_quoted() {
    use std::os::unix::fs::PermissionsExt as _;
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("s.json");
    let list = || run(home.path(), &["fleet", "--session", "s.json", "list"]);
    for text in ["{\"token\": \"very-secret\"", "{\"token\": \"very-secret\"}", "\0\0\0\0", "[]"] {
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let told = list().fails(3, &["`s.json`", "hint: "]);
        assert!(!told.stderr.contains("very-secret"), "{told:#?}");
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    list().fails(3, &["others may read", "chmod 600"]);
}

#[test]
fn a_token_file_that_cannot_be_written_is_noticed_before_anything_is_ordered() {
    let home = tempfile::tempdir().unwrap();
    let create = |output: &str| run(home.path(), &["fleet", "create", "r1", "-o", output]);
    create("missing/r1.jwt").fails(1, &["`missing/r1.jwt`", "nothing was changed"]);
    create("/").fails(1, &["nothing was changed"]);
    create("/dev/null").fails(1, &["no file", "nothing was changed"]);
}

#[test]
fn an_init_touches_nothing_that_is_there() {
    let home = tempfile::tempdir().unwrap();
    init(home.path(), free_port(), free_port()).ok();
    let before = listing(&home.path().join("ctrl"));
    init(home.path(), free_port(), free_port()).fails(3, &["nothing was changed"]);
    assert_eq!(before, listing(&home.path().join("ctrl")));
    fs::create_dir(home.path().join("full")).unwrap();
    fs::write(home.path().join("full/letter.txt"), "dear").unwrap();
    run(home.path(), &["controller", "init", "full"]).fails(3, &["letter.txt"]);
    run(home.path(), &["controller", "init", "new", "--address", "not a host"]).fails(2, &[]);
    run_with_input(home.path(), &["controller", "init", "new", "--password-file", "-"], "short\n")
        .fails(3, &["password"]);
    assert!(!home.path().join("new/controller.yml").exists());
}

/// Every file with its content.
fn listing(folder: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(listing(&path));
        } else {
            files.push((path.clone(), fs::read(&path).unwrap()));
        }
    }
    files.sort();
    files
}

#[test]
fn a_password_is_shown_only_if_it_was_drawn() {
    let home = tempfile::tempdir().unwrap();
    let given = init(home.path(), free_port(), free_port()).ok();
    assert_eq!(given.stdout, "");
    assert!(!given.stderr.contains(PASSWORD));
    let drawn = run(home.path(), &["controller", "init", "other"]).ok();
    assert!(drawn.stdout.trim().len() >= 12, "{drawn:#?}");
    assert!(!drawn.stderr.contains(drawn.stdout.trim()), "{drawn:#?}");
}

#[test]
fn a_controller_whose_files_are_unusable_says_which() {
    let home = tempfile::tempdir().unwrap();
    init(home.path(), free_port(), free_port()).ok();
    let start = || run(home.path(), &["controller", "run", "ctrl/controller.yml", "--log-level", "off"]);
    for name in ["server.pem", "key.pem", "bundle.pem", "signer.pem", "signer.key.pem"] {
        let path = home.path().join("ctrl/pki").join(name);
        let kept = fs::read(&path).unwrap();
        for bytes in [
            &b""[..],
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            &kept[..kept.len() / 2],
            &[0; 64],
        ] {
            fs::write(&path, bytes).unwrap();
            start().fails(3, &[name]);
        }
        fs::remove_file(&path).unwrap();
        start().fails(3, &[name]);
        fs::write(&path, kept).unwrap();
    }
    let register = home.path().join("ctrl/register.db");
    let kept = fs::read(&register).unwrap();
    fs::write(&register, [0x55; 8192]).unwrap();
    start().fails(3, &["register.db"]);
    fs::remove_file(&register).unwrap();
    start().fails(3, &["register.db", "no register"]);
    fs::write(&register, kept).unwrap();
}
