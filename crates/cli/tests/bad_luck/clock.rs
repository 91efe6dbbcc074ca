//! Clocks that are a year off.

use crate::support::{Router, Site, shared};

const VARIABLE: &str = "EXUVIA_TEST_CLOCK_OFFSET";
const YEAR_S: i64 = 365 * 86_400;

/// Release builds have no clock that can be moved.
fn is_movable() -> bool {
    if !cfg!(debug_assertions) {
        crate::support::skip("a clock that is a year off", "only builds with debug assertions can move their clock");
    }
    cfg!(debug_assertions)
}

#[test]
fn a_router_whose_clock_is_a_year_ahead_serves_says_so_and_loses_nothing() {
    if !is_movable() {
        return;
    }
    let site = shared();
    let router = Router::enrolled(&site, "ahead");
    let before = crate::support::listing(&router.state().join("generations"));
    let mut command = router.command();
    command.env(VARIABLE, YEAR_S.to_string());
    let mut process = crate::support::Process::start(site.home.path(), command);
    // By its clock its leaf is over; the controller judges by its own.
    process.until_admitted();
    let doctor = router.run(&["doctor", &router.config()]);
    assert!(doctor.stdout.contains("clock"), "{doctor:#?}");
    let log = process.kill();
    assert!(log.contains("clock") || log.contains("expired") || log.contains("lapsed"), "{log}");
    for (path, bytes) in before {
        assert_eq!(std::fs::read(&path).unwrap(), bytes, "{}", path.display());
    }
    // Put right again, everything is as it was.
    let process = router.admitted();
    assert!(router.renew() > 1);
    process.terminate();
}

#[test]
fn a_router_whose_clock_is_a_year_behind_says_that_and_is_admitted_once_it_is_right() {
    if !is_movable() {
        return;
    }
    let site = shared();
    let router = Router::enrolled(&site, "behind");
    let mut command = router.command();
    command.env(VARIABLE, (-YEAR_S).to_string());
    let mut process = crate::support::Process::start(site.home.path(), command);
    // The controller's certificate is not valid yet by this clock, so it cannot be believed.
    process.until_logged("not valid yet");
    let status = router.status();
    let trouble = status["controllers"][0]["trouble"].as_str().unwrap_or_default().to_owned();
    assert!(trouble.contains("clock"), "the remedy is missing: {status:#}");
    let log = process.kill();
    assert!(log.contains("clock"), "the remedy is missing: {log}");
    let process = router.admitted();
    assert!(router.renew() > 1);
    process.terminate();
}

#[test]
fn a_token_that_is_over_by_a_wrong_clock_says_to_compare_the_clocks() {
    if !is_movable() {
        return;
    }
    let site = shared();
    let router = Router::created(&site, "early-token");
    let enroll = |offset: i64| {
        let mut command = crate::support::exuvia(
            site.home.path(),
            &["router", "enroll", &router.config(), "--jwt", "early-token.jwt"],
        );
        command.env(VARIABLE, offset.to_string());
        crate::support::finish(command)
    };
    enroll(YEAR_S).fails(3, &["expired", "clock"]);
    enroll(-YEAR_S).fails(5, &["clock"]);
    router.enroll().ok();
    router.admitted().terminate();
}

#[test]
fn a_controller_whose_clock_is_a_year_off_locks_nobody_out_for_good() {
    if !is_movable() {
        return;
    }
    let mut site = Site::new("", &[]);
    let router_id = {
        let router = Router::enrolled(&site, "patient");
        router.admitted().terminate();
        router.id
    };
    fn again<'a>(site: &'a Site, id: &str) -> Router<'a> {
        Router { site, name: "patient".to_owned(), id: id.to_owned() }
    }
    site.restart_controller(|command| {
        command.env(VARIABLE, YEAR_S.to_string());
    });
    let mut process = again(&site, &router_id).start();
    process.until_logged("re-enroll");
    let log = process.kill();
    assert!(log.contains("expired") && log.contains("clocks agree"), "{log}");
    site.restart_controller(|_| {});
    again(&site, &router_id).admitted().terminate();
    // A year behind, its own certificates are not valid yet: it does not start, and routers try on.
    site.stop_controller();
    let mut process = again(&site, &router_id).start();
    process.until_told("no controller admits it yet");
    let mut command = crate::support::exuvia(site.home.path(), &["controller", "run", "ctrl/controller.yml"]);
    command.env(VARIABLE, (-YEAR_S).to_string()).env("EXUVIA_LOG_LEVEL", "off");
    crate::support::finish(command).fails(3, &["not valid yet", "clocks", "hint: "]);
    site.start_controller();
    process.until_admitted();
    process.terminate();
}
