//! Faults that are more than one blow.

use std::time::{Duration, Instant};

use anyhow::Result;
use http::Method;
use nix::sys::signal::Signal;

use crate::pairing::Kind;
use crate::trial::Scene;

const DAY_S: i64 = 86_400;
/// OpenZiti renews in the last seven days.
const LEFT_S: i64 = 5 * DAY_S;
/// How long a clock stays wrong.
const WRONG_FOR: Duration = Duration::from_secs(20);

/// Seconds of a leaf's life on this controller.
fn life_s(scene: &Scene) -> i64 {
    match scene.site.kind {
        Kind::Stock => 365 * DAY_S,
        Kind::Exuvia => 90 * DAY_S,
    }
}

/// Killed again and again, soon after each start, with `--extend` each time.
pub(crate) fn crash_loop(scene: &mut Scene) -> Result<()> {
    scene.start(None)?;
    for tenths in (6..34).step_by(2) {
        let starts = scene.keeper()?.starts();
        std::thread::sleep(Duration::from_millis(tenths * 100));
        scene.keeper()?.kill();
        let deadline = Instant::now() + Duration::from_secs(20);
        while scene.keeper()?.starts() == starts && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    Ok(())
}

/// The controller forgets the renewal.
pub(crate) fn restored(scene: &mut Scene) -> Result<()> {
    scene.site.back_up()?;
    scene.start(None)?;
    scene.until_renewed()?;
    scene.subject.begin_here();
    scene.site.restore()
}

/// Both the wall clocks move on, and the router stands still meanwhile.
pub(crate) fn suspended(scene: &mut Scene) -> Result<()> {
    scene.start(Some(0))?;
    scene.until_online()?;
    // Everything that follows a start is over: its timers are set.
    std::thread::sleep(Duration::from_secs(10));
    let ahead = life_s(scene) - LEFT_S;
    let keeper = scene.keeper()?;
    keeper.signal(Signal::SIGSTOP);
    scene.site.be_ahead(ahead)?;
    std::thread::sleep(Duration::from_secs(5));
    // The moving lets it go on.
    keeper.be_ahead(&scene.site, &scene.subject, ahead)
}

/// The router is started when all clocks but its own have moved on.
fn started(scene: &mut Scene, routers: impl FnOnce(i64) -> i64) -> Result<()> {
    let ahead = life_s(scene) - LEFT_S;
    scene.site.be_ahead(ahead)?;
    scene.start(Some(routers(ahead)))?;
    scene.pass_time(WRONG_FOR);
    let keeper = scene.keeper()?;
    keeper.be_ahead(&scene.site, &scene.subject, ahead)
}

/// With the clock of the day of its enrollment.
pub(crate) fn behind(scene: &mut Scene) -> Result<()> {
    started(scene, |_| 0)
}

/// With a clock after the leaf's end.
pub(crate) fn ahead(scene: &mut Scene) -> Result<()> {
    started(scene, |right| right + 30 * DAY_S)
}

/// With no clock.
pub(crate) fn in_1970(scene: &mut Scene) -> Result<()> {
    let now = net::clock::wall_ms() / 1000;
    started(scene, |_| -now)
}

/// The controller's clock is ahead.
pub(crate) fn skewed_behind(scene: &mut Scene) -> Result<()> {
    scene.site.be_ahead(600)?;
    scene.start(Some(0))
}

/// The router's clock is set back while certificates are on their way to it.
pub(crate) fn set_back(scene: &mut Scene) -> Result<()> {
    scene.site.be_ahead(DAY_S)?;
    scene.start(Some(DAY_S))?;
    scene.until_struck()?;
    scene.keeper()?.be_ahead(&scene.site, &scene.subject, 0)
}

/// The leaf ends while the router is off.
pub(crate) fn expired(scene: &mut Scene) -> Result<()> {
    let ahead = life_s(scene) + DAY_S;
    scene.site.be_ahead(ahead)?;
    scene.start(Some(ahead))
}

/// The operator re-enrolls the router while the old identity is being renewed.
pub(crate) fn re_enrolled(scene: &mut Scene) -> Result<()> {
    scene.start(None)?;
    scene.until_struck()?;
    let struck = Instant::now();
    let path = format!("/edge/management/v1/edge-routers/{}/re-enroll", scene.subject.id);
    scene.site.ask(&Method::POST, &path, Some(&serde_json::json!({})))?;
    scene.subject.enroll(&scene.site)?;
    scene.subject.begin_here();
    // 20303 of the old identity has arrived by then.
    scene.pass_time(Duration::from_secs(18).saturating_sub(struck.elapsed()));
    scene.keeper()?.kill();
    Ok(())
}
