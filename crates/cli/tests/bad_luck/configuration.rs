//! Configuration and identity files that are not what they should be. More of it: `crates/cli/tests/cli/bad_input.rs`.

use std::fs;

use pki::{KeyKind, PrivateKey};

use crate::support::{Router, Site, exuvia, finish, shared};

#[test]
fn an_unknown_key_is_a_warning_to_a_router_and_an_error_to_a_controller() {
    let site = shared();
    let router = Router::enrolled(&site, "unknown-key");
    router.configure("linkk: {}\n");
    let log = router.admitted().terminate();
    assert!(log.contains("`linkk`") && log.contains("`link`"), "{log}");
    let text = fs::read_to_string(site.path("ctrl/controller.yml")).unwrap();
    fs::write(site.path("ctrl/unknown.yml"), text.replace("\nedge:", "\nedgee:")).unwrap();
    site.run(&["controller", "run", "ctrl/unknown.yml", "--check"]).fails(3, &["`edgee`", "edge", "unknown.yml:"]);
}

#[test]
fn identity_files_that_do_not_belong_together_are_no_identity_and_are_left_as_they_are() {
    let site = shared();
    let router = Router::enrolled(&site, "mismatch");
    // As somebody finds it who copied the files and not the state folder, with the wrong key among them.
    fs::remove_dir_all(router.folder().join(".exuvia")).unwrap();
    let path = |name: &str| router.folder().join(name);
    let kept = fs::read(path("key.pem")).unwrap();
    let other = PrivateKey::generate(KeyKind::P256).unwrap().to_pem().unwrap();
    fs::write(path("key.pem"), other.as_bytes()).unwrap();
    let start = || router.run(&["router", "run", &router.config(), "--log-level", "error"]);
    start().fails(3, &["does not belong to its key", "hint: "]);
    assert_eq!(fs::read(path("key.pem")).unwrap(), other.as_bytes());
    for name in ["key.pem", "client.pem", "server.pem", "ca.pem"] {
        fs::write(path("key.pem"), &kept).unwrap();
        let whole = fs::read(path(name)).unwrap();
        for damaged in [&b""[..], &whole[..whole.len() / 2], &vec![0; whole.len()]] {
            fs::write(path(name), damaged).unwrap();
            let told = start().fails(3, &[]);
            assert!(told.stderr.contains(name) || told.stderr.contains("identity"), "{told:#?}");
            assert_eq!(fs::read(path(name)).unwrap(), damaged);
        }
        fs::remove_file(path(name)).unwrap();
        start().fails(3, &["hint: "]);
        fs::write(path(name), whole).unwrap();
    }
    router.admitted().terminate();
}

#[test]
fn a_controller_with_a_key_that_is_not_its_own_starts_nothing() {
    let mut site = Site::new("", &[]);
    site.stop_controller();
    let site = site;
    let swap = |a: &str, b: &str| {
        let (a, b) = (site.path(&format!("ctrl/pki/{a}")), site.path(&format!("ctrl/pki/{b}")));
        let (first, second) = (fs::read(&a).unwrap(), fs::read(&b).unwrap());
        fs::write(a, second).unwrap();
        fs::write(b, first).unwrap();
    };
    for (a, b) in [("key.pem", "signer.key.pem"), ("server.pem", "signer.pem")] {
        swap(a, b);
        let mut command = exuvia(site.home.path(), &["controller", "run", "ctrl/controller.yml"]);
        command.env("EXUVIA_LOG_LEVEL", "off");
        let told = finish(command).fails(3, &["hint: "]);
        assert!(told.stderr.contains(".pem") || told.stderr.contains("does not belong to its key"), "{told:#?}");
        swap(a, b);
    }
    let mut site = site;
    site.start_controller();
}
