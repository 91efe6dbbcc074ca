//! `exuvia rescue` on real lock-outs: real processes, a real controller.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on must stop, also in its helpers")]

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use diskfault::trace::{Counted, Fault, Tracer, probe};
use rig::{Controller, ControllerSettings, Exuvia, Ran, Router, RouterSettings, Starter};
use serde_json::{Value, json};

const PASSWORD: &str = "correct-horse-battery";
const FILES: [&str; 4] = ["key.pem", "client.pem", "server.pem", "ca.pem"];

struct Scene {
    home: tempfile::TempDir,
    controller: Controller,
    exuvia: Exuvia,
}

impl Scene {
    fn new() -> Self {
        // Memory keeps nothing, so the product renews nothing there.
        let home = tempfile::Builder::new().prefix("exuvia-rescue-").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let exuvia = Exuvia::new(env!("CARGO_BIN_EXE_exuvia")).with_env("EXUVIA_PASSWORD", PASSWORD);
        let controller = Controller::start(&exuvia, home.path(), ControllerSettings::default()).unwrap();
        Self { home, controller, exuvia }
    }

    fn url(&self) -> String {
        format!("https://localhost:{}", self.controller.api_port())
    }

    /// Enrolled, with copies at the configured paths, not running.
    fn router(&self, name: &str) -> Router {
        let folder = self.home.path().join(name);
        let settings = RouterSettings { exuvia: String::new(), ..RouterSettings::default() };
        let router = self.controller.created(name, &folder, &settings).unwrap();
        router.enroll().unwrap().ok().unwrap();
        router
    }

    fn command(&self, router: &Router, args: &[&str]) -> Command {
        let url = self.url();
        let mut all = vec!["rescue", router.config().to_str().unwrap(), "--url", &url, "--json", "--within", "30s"];
        all.extend(args);
        self.exuvia.command(self.home.path(), all)
    }

    fn rescue(&self, router: &Router, args: &[&str]) -> Ran {
        Ran::of(&rig::Direct, self.command(router, args)).unwrap()
    }

    /// The plan of a dry run, which ends with this code.
    #[track_caller]
    fn plan(&self, router: &Router, code: i32, args: &[&str]) -> Value {
        let before = snapshot(router.folder());
        let ran = self.rescue(router, args);
        assert_eq!(ran.code, Some(code), "{ran:?}");
        assert_eq!(snapshot(router.folder()), before, "a dry run changes nothing");
        ran.json().unwrap()
    }

    /// Does it, and demands that a controller admits what the files hold.
    #[track_caller]
    fn rescued(&self, router: &Router, args: &[&str]) -> Value {
        let ran = self.rescue(router, &[&["--apply"][..], args].concat());
        assert!(ran.panic().is_none(), "{ran:?}");
        let told = ran.ok().unwrap().json().unwrap();
        assert_eq!(told["is_applied"], true, "{told:#}");
        assert!(told["proven"]["generation"].as_u64().is_some(), "{told:#}");
        self.works_without_the_store(router);
        told
    }

    /// Whoever reads the configured files alone can use them: a router of ours that knows nothing else.
    #[track_caller]
    fn works_without_the_store(&self, router: &Router) {
        let copy = self.home.path().join(format!("{}-copy", router.name()));
        let _ = fs::remove_dir_all(&copy);
        let elsewhere = router.at(&copy).unwrap();
        for name in FILES {
            fs::copy(router.folder().join(name), copy.join(name)).unwrap();
        }
        let _ = fs::copy(router.folder().join("endpoints.yml"), copy.join("endpoints.yml"));
        elsewhere.online().unwrap().stop().unwrap();
    }
}

/// Names and contents of everything below a folder; what says who holds the lock decides nothing.
fn snapshot(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(snapshot(&path));
        } else if path.file_name().is_some_and(|name| name != "holder") {
            found.push((path.display().to_string(), fs::read(&path).unwrap()));
        }
    }
    found.sort();
    found
}

fn forget_the_store(router: &Router) {
    fs::remove_dir_all(router.folder().join(".exuvia")).unwrap();
}

fn truncate(router: &Router, names: &[&str]) {
    for name in names {
        fs::File::create(router.folder().join(name)).unwrap();
    }
}

#[track_caller]
fn fails(ran: &Ran, code: i32, says: &str) {
    assert_eq!(ran.code, Some(code), "{ran:?}");
    assert!(ran.stderr.contains(says) && ran.stderr.contains("hint") && ran.panic().is_none(), "{ran:?}");
}

#[test]
fn what_is_admitted_already_is_left_alone_and_proven_on_request() {
    let scene = Scene::new();
    let router = scene.router("well");
    let told = scene.plan(&router, 0, &[]);
    assert_eq!(told["plan"]["action"], "nothing", "{told:#}");
    assert_eq!(told["found"][0]["place"], "in_use", "{told:#}");
    assert_eq!(scene.rescued(&router, &[])["plan"]["action"], "nothing");
}

#[test]
fn an_admitted_generation_of_the_store_replaces_files_that_were_cut_to_nothing() {
    let scene = Scene::new();
    let router = scene.router("cut");
    truncate(&router, &["client.pem", "server.pem"]);
    let told = scene.plan(&router, 1, &[]);
    assert_eq!(told["plan"]["action"], "use", "{told:#}");
    assert_eq!(told["found"][0]["place"], "stored", "{told:#}");
    assert!(told["remarks"].to_string().contains("is empty"), "{told:#}");
    scene.rescued(&router, &[]);
    assert_eq!(scene.plan(&router, 0, &[])["plan"]["action"], "nothing");
}

#[test]
fn an_admitted_identity_is_put_together_from_a_backup_and_a_mixture() {
    let scene = Scene::new();
    let router = scene.router("backup");
    forget_the_store(&router);
    fs::rename(router.folder().join("client.pem"), router.folder().join("client.pem.bak")).unwrap();
    fs::write(router.folder().join("client.pem"), "-----BEGIN CERTIFICATE-----\nMIIB").unwrap();
    fs::rename(router.folder().join("key.pem"), router.folder().join("old-key.orig")).unwrap();
    let told = scene.plan(&router, 1, &[]);
    assert_eq!((&told["plan"]["action"], &told["found"][0]["place"]), (&json!("use"), &json!("aside")), "{told:#}");
    assert!(told["remarks"].to_string().contains("is torn"), "{told:#}");
    scene.rescued(&router, &[]);
}

#[test]
fn the_admitted_leaf_is_fetched_from_the_controller_if_its_key_is_here() {
    let scene = Scene::new();
    let router = scene.router("fetched");
    forget_the_store(&router);
    truncate(&router, &["client.pem", "server.pem"]);
    // Nothing here says which router it is any more.
    fails(&scene.rescue(&router, &[]), 3, "which router");
    let told = scene.plan(&router, 1, &["--router", "fetched"]);
    assert_eq!(told["plan"]["action"], "fetch", "{told:#}");
    let told = scene.rescued(&router, &["--router", "fetched"]);
    assert_eq!(told["proven"]["unrenewed"], Value::Null, "{told:#}");
    let both = ["client.pem", "server.pem"].map(|name| fs::read(router.folder().join(name)).unwrap());
    assert_ne!(both[0], both[1], "the server leaf that was lost must have been renewed");
}

#[test]
fn a_leaf_that_the_controller_signed_is_vouched_for_when_nothing_that_is_admitted_is_left() {
    let scene = Scene::new();
    let router = scene.router("vouched");
    let first = scene.controller.admitted(router.id()).unwrap().remove(0).fingerprint;
    let args = ["extend", router.config().to_str().unwrap(), "--new-key"];
    scene.exuvia.run(scene.home.path(), args).unwrap().ok().unwrap();
    // As after a restore of the register: the older leaf is the admitted one again, and its key is gone.
    let path = format!("/api/v1/routers/{}/readmit", router.id());
    scene.controller.ask("POST", &path, Some(&json!({ "fingerprint_sha256": first }))).unwrap();
    forget_the_store(&router);
    let told = scene.plan(&router, 1, &[]);
    assert_eq!(told["plan"]["action"], "vouch", "{told:#}");
    assert!(told["plan"]["cost"].as_str().unwrap().contains("refused from then on"), "{told:#}");
    scene.rescued(&router, &[]);
}

#[test]
fn a_router_of_which_nothing_is_left_is_enrolled_anew_under_the_same_id() {
    let scene = Scene::new();
    let router = scene.router("empty");
    forget_the_store(&router);
    fs::remove_file(router.folder().join("key.pem")).unwrap();
    let told = scene.plan(&router, 1, &[]);
    assert_eq!(told["plan"]["action"], "re_enroll", "{told:#}");
    assert!(told["remarks"].to_string().contains("whose private key is nowhere"), "{told:#}");
    let told = scene.rescued(&router, &[]);
    assert_eq!(told["router"], router.id());
}

#[test]
fn the_leaf_of_another_authority_is_never_vouched_for() {
    let (scene, other) = (Scene::new(), Scene::new());
    let router = scene.router("foreign");
    let stranger = other.router("stranger");
    forget_the_store(&router);
    // The stranger's identity in this router's place is another router's, and is left alone.
    for name in FILES {
        fs::copy(stranger.folder().join(name), router.folder().join(name)).unwrap();
    }
    let ca = scene.controller.home().join("ctl/pki/bundle.pem");
    let ca = ca.to_str().unwrap();
    fails(&scene.rescue(&router, &["--ca", ca]), 6, "knows no router");
    fails(&scene.rescue(&router, &["--ca", ca, "--router", "foreign"]), 3, "this disk holds the identity of router");
    // Its own CA file vouches for another controller: nobody is asked anything.
    fails(&scene.rescue(&router, &[]), 5, "we do not trust");
}

#[test]
fn a_token_that_waits_is_used_rather_than_an_old_leaf() {
    let scene = Scene::new();
    let router = scene.router("waiting");
    let path = format!("/edge/management/v1/edge-routers/{}/re-enroll", router.id());
    scene.controller.ask("POST", &path, None).unwrap();
    let told = scene.plan(&router, 1, &[]);
    assert_eq!(
        (&told["plan"]["action"], &told["standing"]),
        (&json!("enroll"), &json!("awaiting_enrollment")),
        "{told:#}"
    );
    scene.rescued(&router, &[]);
}

#[test]
fn what_a_person_decided_is_not_undone() {
    let scene = Scene::new();
    let router = scene.router("withdrawn");
    let path = format!("/edge/management/v1/edge-routers/{}", router.id());
    scene.controller.ask("PATCH", &path, Some(&json!({ "disabled": true }))).unwrap();
    fails(&scene.rescue(&router, &["--apply"]), 6, "is switched off");
    scene.controller.ask("PATCH", &path, Some(&json!({ "disabled": false }))).unwrap();
    scene.controller.ask("POST", &format!("/api/v1/routers/{}/revoke", router.id()), None).unwrap();
    fails(&scene.rescue(&router, &["--apply"]), 6, "was revoked");
}

#[test]
fn an_identity_that_is_in_use_elsewhere_is_not_taken_away() {
    let scene = Scene::new();
    let router = scene.router("copied");
    let elsewhere = router.at(&scene.home.path().join("elsewhere")).unwrap();
    for name in FILES.into_iter().chain(["endpoints.yml"]) {
        fs::copy(router.folder().join(name), elsewhere.folder().join(name)).unwrap();
    }
    let running = elsewhere.online().unwrap();
    forget_the_store(&router);
    fs::remove_file(router.folder().join("key.pem")).unwrap();
    fails(&scene.rescue(&router, &["--apply"]), 6, "somebody else uses its identity");
    running.stop().unwrap();
}

#[test]
fn nobody_is_asked_without_rights_and_nothing_happens_without_an_answer() {
    let scene = Scene::new();
    let router = scene.router("locked");
    forget_the_store(&router);
    let before = snapshot(router.folder());
    let wrong = scene.home.path().join("wrong.txt");
    fs::write(&wrong, "wrong\n").unwrap();
    fails(
        &scene.rescue(&router, &["--apply", "--password-file", wrong.to_str().unwrap()]),
        6,
        "check name and password",
    );
    fails(&scene.rescue(&router, &["--apply", "--token-file", wrong.to_str().unwrap()]), 6, "session ended");
    fails(&scene.rescue(&router, &["--router", "nobody"]), 6, "knows no router");
    scene.controller.stop().unwrap();
    let silent = scene.rescue(&router, &["--apply"]);
    assert!(silent.code == Some(5) && silent.stderr.contains("check that it runs there"), "{silent:?}");
    assert_eq!(snapshot(router.folder()), before);
}

#[test]
fn a_running_router_is_not_disturbed_and_our_own_answers_for_itself() {
    let scene = Scene::new();
    let router = scene.router("busy");
    let mut other = Command::new("sh")
        .args(["-c", "read _", "ziti", "router", "run", router.config().to_str().unwrap()])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    fails(&scene.rescue(&router, &["--apply"]), 7, "a router runs with this configuration");
    other.stdin.take().unwrap().write_all(b"end\n").unwrap();
    other.wait().unwrap();
    let running = router.online().unwrap();
    let told = scene.rescue(&router, &["--apply"]).ok().unwrap().json().unwrap();
    assert_eq!((&told["plan"]["action"], &told["is_running"]), (&json!("nothing"), &json!(true)), "{told:#}");
    running.stop().unwrap();
}

/// Killed before every twelfth change of the disk, then run again: nothing more is needed.
fn survives_kills(scene: &Scene, lock_out: impl Fn(&str) -> Router) {
    let dry = lock_out("dry");
    let tracer = Tracer::with([dry.folder().to_owned()], Fault::Nothing, Counted::Changes);
    let ran = Ran::of(&tracer as &dyn Starter, scene.command(&dry, &["--apply", "--router", dry.name()])).unwrap();
    ran.ok().unwrap();
    let count = tracer.calls().len();
    assert!(count > 8, "{count} changes were seen");
    for at in (1..=count).step_by(12) {
        let router = lock_out(&format!("killed-{at}"));
        let tracer = Tracer::with([router.folder().to_owned()], Fault::KillBefore(at), Counted::Changes);
        let args = ["--apply", "--router", router.name()];
        let ran = Ran::of(&tracer as &dyn Starter, scene.command(&router, &args)).unwrap();
        assert!(ran.code.is_none(), "not killed at {at}: {ran:?}");
        let again = scene.rescue(&router, &args);
        assert_eq!(again.code, Some(0), "after a kill before {:?}: {again:?}", tracer.harmed());
        scene.works_without_the_store(&router);
    }
}

/// Says so where nothing can be traced; where everything must be shown, that is a failure.
fn can_trace() -> bool {
    let Some(why) = probe() else { return true };
    assert!(std::env::var_os("CI").is_none_or(|value| value != "true"), "cannot be shown here: {why}");
    println!("skipped: kills at changes of the disk: {why}");
    false
}

#[test]
fn a_rescue_that_fetches_and_is_killed_anywhere_is_finished_by_the_next_one() {
    if !can_trace() {
        return;
    }
    let scene = Scene::new();
    survives_kills(&scene, |name| {
        let router = scene.router(name);
        forget_the_store(&router);
        truncate(&router, &["client.pem", "server.pem"]);
        router
    });
}

#[test]
fn a_rescue_that_enrolls_anew_and_is_killed_anywhere_is_finished_by_the_next_one() {
    if !can_trace() {
        return;
    }
    let scene = Scene::new();
    survives_kills(&scene, |name| {
        let router = scene.router(name);
        forget_the_store(&router);
        fs::remove_file(router.folder().join("key.pem")).unwrap();
        router
    });
}
