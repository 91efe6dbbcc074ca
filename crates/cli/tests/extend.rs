//! `exuvia extend` on the files of a router that is not ours: real processes, a real controller.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on must stop, also in its helpers")]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use pki::Chain;
use rig::{Controller, ControllerSettings, Exuvia, Ran, Router, RouterSettings};
use rustix::process::geteuid;
use serde_json::Value;

struct Scene {
    home: tempfile::TempDir,
    controller: Controller,
    exuvia: Exuvia,
}

impl Scene {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let exuvia = Exuvia::new(env!("CARGO_BIN_EXE_exuvia"));
        let controller = Controller::start(&exuvia, home.path(), ControllerSettings::default()).unwrap();
        Self { home, controller, exuvia }
    }

    /// Identity files as OpenZiti's router leaves them after its enrollment: four files, and no state folder.
    fn stock_router(&self, name: &str) -> Router {
        let folder = self.home.path().join(name);
        let settings = RouterSettings { exuvia: String::new(), ..RouterSettings::default() };
        let router = self.controller.created(name, &folder, &settings).unwrap();
        router.enroll().unwrap().ok().unwrap();
        fs::remove_dir_all(folder.join(".exuvia")).unwrap();
        router
    }

    fn extend(&self, router: &Router, args: &[&str]) -> Ran {
        let mut all = vec!["extend", router.config().to_str().unwrap(), "--json"];
        all.extend(args);
        self.exuvia.run(self.home.path(), all).unwrap()
    }
}

fn files(router: &Router) -> BTreeMap<&'static str, Vec<u8>> {
    let names = ["key.pem", "client.pem", "server.pem", "ca.pem"];
    names.into_iter().map(|name| (name, fs::read(router.folder().join(name)).unwrap())).collect()
}

/// SHA-1 of the leaf in the configured file, as the controller's interface spells fingerprints.
fn leaf_is_admitted(scene: &Scene, router: &Router) -> bool {
    let chain = Chain::from_pem(&files(router)["client.pem"]).unwrap();
    let fingerprint = chain.leaf().fingerprint().to_string();
    scene.controller.admitted(router.id()).unwrap().iter().any(|leaf| leaf.fingerprint == fingerprint)
}

#[track_caller]
fn outcome(ran: Ran) -> Value {
    assert!(ran.panic().is_none(), "{ran:?}");
    ran.ok().unwrap().json().unwrap()
}

#[track_caller]
fn fails(ran: &Ran, code: i32, says: &str) {
    assert_eq!(ran.code, Some(code), "{ran:?}");
    assert!(ran.stderr.contains(says) && ran.stderr.contains("\"hint\":") && ran.panic().is_none(), "{ran:?}");
}

#[test]
fn the_files_of_a_stock_router_are_renewed_and_its_key_is_kept() {
    let scene = Scene::new();
    let router = scene.stock_router("stock");
    let before = files(&router);
    assert_eq!(outcome(scene.extend(&router, &[]))["outcome"], "renewed");
    let after = files(&router);
    assert_eq!(before["key.pem"], after["key.pem"], "every mixture of old and new files must load");
    assert_ne!(before["client.pem"], after["client.pem"]);
    assert_ne!(before["server.pem"], after["server.pem"]);
    assert!(leaf_is_admitted(&scene, &router));
    // Whoever reads the files now can use them: a router of ours that knows nothing else.
    fs::remove_dir_all(router.folder().join(".exuvia")).unwrap();
    router.online().unwrap().stop().unwrap();
}

#[test]
fn a_start_that_comes_right_after_another_renews_nothing_unless_told_to() {
    let scene = Scene::new();
    let router = scene.stock_router("hasty");
    let text = fs::read_to_string(router.config()).unwrap();
    fs::write(router.config(), text.replace("spacing: 0", "spacing: 10m")).unwrap();
    assert_eq!(outcome(scene.extend(&router, &[]))["outcome"], "renewed");
    let renewed = files(&router);
    assert_eq!(outcome(scene.extend(&router, &[]))["outcome"], "too_soon");
    assert_eq!(files(&router), renewed);
    assert_eq!(outcome(scene.extend(&router, &["--now"]))["outcome"], "renewed");
}

#[test]
fn what_is_not_due_is_left_alone_even_when_no_controller_answers() {
    let scene = Scene::new();
    let router = scene.stock_router("patient");
    // The first run takes the files into its store, and may have to ask who admits them.
    outcome(scene.extend(&router, &["--if-due"]));
    let before = files(&router);
    scene.controller.stop().unwrap();
    assert_eq!(outcome(scene.extend(&router, &["--if-due"]))["outcome"], "not_due");
    assert_eq!(files(&router), before);
    // With a reason to renew, silence is a failure that changes nothing.
    fails(&scene.extend(&router, &["--within", "1s"]), 5, "no new leaf was admitted within 1 s");
    assert_eq!(files(&router), before);
}

#[test]
fn a_new_key_is_made_only_when_asked_for() {
    let scene = Scene::new();
    let router = scene.stock_router("rekeyed");
    let before = files(&router);
    assert_eq!(outcome(scene.extend(&router, &["--new-key"]))["outcome"], "renewed");
    assert_ne!(files(&router)["key.pem"], before["key.pem"]);
    assert!(leaf_is_admitted(&scene, &router));
}

#[test]
fn a_generation_that_an_earlier_run_left_unproven_is_finished_though_nothing_is_due() {
    let scene = Scene::new();
    let router = scene.stock_router("cut-off");
    outcome(scene.extend(&router, &[]));
    let whole = files(&router);
    // As after a kill between the admission and the copies: the newest generation is in the state folder, the files are older.
    assert_eq!(outcome(scene.extend(&router, &["--now"]))["outcome"], "renewed");
    let newest = files(&router);
    assert_ne!(newest, whole);
    for (name, content) in &whole {
        fs::write(router.folder().join(name), content).unwrap();
    }
    assert_eq!(outcome(scene.extend(&router, &["--if-due"]))["outcome"], "mended");
    assert_eq!(files(&router), newest);
}

#[test]
fn files_that_could_not_be_replaced_are_a_reason_not_to_begin() {
    let scene = Scene::new();
    let router = scene.stock_router("held");
    let before = files(&router);
    let admitted = scene.controller.admitted(router.id()).unwrap();
    let refused = if geteuid().is_root() {
        // Permissions do not bind root; a folder in the place of a file does.
        let path = router.folder().join("server.pem");
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        let refused = scene.extend(&router, &[]);
        fs::remove_dir(&path).unwrap();
        fs::write(&path, &before["server.pem"]).unwrap();
        refused
    } else {
        let mode = |mode| std::os::unix::fs::PermissionsExt::from_mode(mode);
        fs::set_permissions(router.folder().join("client.pem"), mode(0o400)).unwrap();
        fs::set_permissions(router.folder(), mode(0o500)).unwrap();
        let refused = scene.extend(&router, &[]);
        fs::set_permissions(router.folder(), mode(0o700)).unwrap();
        refused
    };
    fails(&refused, 4, "so none was begun");
    assert_eq!(files(&router), before);
    assert_eq!(scene.controller.admitted(router.id()).unwrap().len(), admitted.len());
}

#[test]
fn another_router_that_runs_with_the_same_configuration_is_not_disturbed() {
    let scene = Scene::new();
    let router = scene.stock_router("busy");
    let mut other = Command::new("sh")
        .args(["-c", "read _", "ziti", "router", "run", router.config().to_str().unwrap()])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    fails(&scene.extend(&router, &[]), 7, "a router runs with this configuration");
    assert_eq!(outcome(scene.extend(&router, &["--beside-running"]))["outcome"], "renewed");
    other.stdin.take().unwrap().write_all(b"end\n").unwrap();
    other.wait().unwrap();
}

#[test]
fn our_own_running_router_is_asked_to_renew() {
    let scene = Scene::new();
    let router = scene.controller.enrolled("ours", &scene.home.path().join("ours")).unwrap();
    let running = router.online().unwrap();
    assert_eq!(outcome(scene.extend(&router, &["--if-due"]))["outcome"], "not_due");
    let told = outcome(scene.extend(&router, &["--now"]));
    assert_eq!(told["outcome"], "renewed");
    assert_eq!(running.status().unwrap()["generation"], told["generation"]);
    running.stop().unwrap();
}

#[test]
fn an_identity_in_the_configuration_itself_is_refused_with_the_remedy() {
    let scene = Scene::new();
    let router = scene.stock_router("inline");
    let text = fs::read_to_string(router.config()).unwrap();
    let key = fs::read_to_string(router.folder().join("key.pem")).unwrap().trim().replace('\n', "\\n");
    let path = scene.home.path().join("inline.yml");
    let named = format!("key: {}", router.folder().join("key.pem").display());
    write_private(&path, &text.replace(&named, &format!("key: \"pem:{key}\"")));
    let ran = scene.exuvia.run(scene.home.path(), ["extend", path.to_str().unwrap()]).unwrap();
    fails(&ran, 3, "`identity.key` cannot be renewed where it is");
    assert!(!ran.stderr.contains("PRIVATE KEY"), "{ran:?}");
}

fn write_private(path: &Path, text: &str) {
    let mut options = fs::OpenOptions::new();
    std::os::unix::fs::OpenOptionsExt::mode(options.write(true).create_new(true), 0o600);
    options.open(path).unwrap().write_all(text.as_bytes()).unwrap();
}
