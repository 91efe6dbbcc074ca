//! The real program with its file-system calls refused, and killed at them, without any privilege.
//!
//! A share of the layers `errno` and `killed` of the proof (`cargo xtask proof`), chosen by a seed: the whole takes minutes. What needs
//! mounts, block devices and power cuts is not here at all.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on must stop, also in its helpers")]

use std::fs;
use std::path::Path;

use diskfault::trace::{Counted, Errno, Fault, Kind, Tracer, probe};
use rig::{Controller, ControllerSettings, Exuvia, RouterSettings};

/// Says so where nothing can be traced; where everything must be shown, that is a failure.
fn can_trace() -> bool {
    let Some(why) = probe() else { return true };
    assert!(std::env::var_os("CI").is_none_or(|value| value != "true"), "cannot be shown here: {why}");
    println!("skipped: refused calls and kills at them: {why}");
    false
}

fn exuvia() -> Exuvia {
    Exuvia::new(env!("CARGO_BIN_EXE_exuvia"))
}

fn controller(home: &Path) -> Controller {
    Controller::start(&exuvia(), home, ControllerSettings::default()).unwrap()
}

/// Memory keeps nothing, so the product renews nothing there.
fn scratch() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("exuvia-errno-").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

#[test]
fn no_refused_call_and_no_kill_at_a_call_costs_the_identity() {
    if !can_trace() {
        return;
    }
    let scratch = scratch();
    let seed = std::env::var("EXUVIA_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let shown = diskfault::unprivileged(exuvia().path(), scratch.path(), seed).unwrap();
    for evidence in &shown {
        for count in &evidence.tried {
            println!("{} {} with seed {seed}", count.count, count.what);
        }
        let broken: Vec<&str> = evidence.failures.iter().map(|failure| failure.what.as_str()).collect();
        let broken: Vec<&&str> = broken.iter().filter(|what| !what.ends_with("so nothing was shown")).collect();
        assert!(broken.is_empty(), "with seed {seed}: {broken:#?}");
        let cases: u64 = evidence.matrix.iter().map(|cell| cell.states).sum();
        assert!(cases > 0, "nothing was tried with seed {seed}");
    }
    println!(
        "left out here: power cuts, mounts, block devices, and most of the errno matrix; `cargo xtask proof` runs them"
    );
}

#[test]
fn an_enrollment_that_was_killed_after_its_identity_was_stored_knows_whom_to_call() {
    if !can_trace() {
        return;
    }
    let scratch = scratch();
    let controller = controller(&scratch.path().join("home"));
    let create =
        |name: &str| controller.created(name, &scratch.path().join(name), &RouterSettings::projected()).unwrap();
    let dry = create("dry");
    let tracer = Tracer::with([dry.folder().to_owned()], Fault::Nothing, Counted::Changes);
    dry.enroll_by(&tracer).unwrap().ok().unwrap();
    let count = tracer.calls().len();
    std::thread::scope(|scope| {
        for at in count.saturating_sub(7)..=count {
            let create = &create;
            scope.spawn(move || {
                let router = create(&format!("killed-{at}"));
                let tracer = Tracer::with([router.folder().to_owned()], Fault::KillBefore(at), Counted::Changes);
                router.enroll_by(&tracer).unwrap();
                let call = tracer.harmed().unwrap();
                let judged = router.judge();
                assert!(judged.is_usable(), "killed before `{call}`: {}", judged.brief());
            });
        }
    });
}

#[test]
fn an_enrollment_that_cannot_write_down_whom_to_call_is_repeated_with_the_same_token() {
    let scratch = scratch();
    let controller = controller(&scratch.path().join("home"));
    let router = controller.created("r1", &scratch.path().join("r1"), &RouterSettings::bare()).unwrap();
    let file = router.folder().join("endpoints.yml");
    fs::create_dir_all(file.join("in-the-way")).unwrap();
    let refused = router.enroll().unwrap();
    assert_eq!(refused.code, Some(4), "{refused:?}");
    assert!(
        refused.stderr.contains("cannot write the endpoints file") && refused.stderr.contains("same token"),
        "{refused:?}"
    );
    fs::remove_dir_all(&file).unwrap();
    router.enroll().unwrap().ok().unwrap();
    assert!(router.judge().is_usable());
}

#[test]
fn a_generation_that_could_not_be_read_once_at_the_start_is_read_again() {
    if !can_trace() {
        return;
    }
    let scratch = scratch();
    // Only the newest leaf is admitted, so the older generations that can be read are of no use.
    let settings = ControllerSettings { settings: "  overlap: 0s\n".to_owned(), ..ControllerSettings::default() };
    let controller = Controller::start(&exuvia(), &scratch.path().join("home"), settings).unwrap();
    let router = controller.created("r1", &scratch.path().join("r1"), &RouterSettings::bare()).unwrap();
    router.enroll().unwrap().ok().unwrap();
    let running = router.online().unwrap();
    let newest = running.renew().unwrap();
    running.stop().unwrap();
    let dry = Tracer::new([router.generation(newest)], Fault::Nothing);
    let running = router.start_by(&dry).unwrap();
    running.until_online().unwrap();
    running.kill();
    let open = dry.calls().into_iter().find(|call| call.kind == Kind::Open && call.path.ends_with("digest")).unwrap();
    let tracer = Tracer::new([router.generation(newest)], Fault::Fail { at: open.number, errno: Errno::EIO });
    let running = router.start_by(&tracer).unwrap();
    assert_eq!(running.until_online().unwrap(), newest);
    assert!(running.log().text().contains("cannot be read"), "{}", running.log().text());
    running.renew().unwrap();
}
