//! What clocks do to a router.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use rig::{Exuvia, Mark};

use super::site::{DAY, MINUTE, Site, YEAR, asleep, is_calm, tail};

/// 2038-01-20, after 32-bit seconds have run out.
const IN_2038: i64 = 2_147_558_400;
/// An hour after the beginning of time.
const IN_1970: i64 = 3_600;
/// 9 years and a half.
const LONG_UPTIME_S: u64 = 300_000_000;

type Lived = fn(&Site) -> Result<()>;

/// One of them.
pub(super) struct Story {
    pub(super) name: &'static str,
    /// The row of the crash matrix.
    pub(super) fault: &'static str,
    leaf_life: Option<&'static str>,
    pub(super) shifts_uptime: bool,
    lived: Lived,
}

impl Story {
    pub(super) fn live(&self, exuvia: &Exuvia, library: &Path, home: &Path) -> Result<()> {
        let site = Site::new(exuvia, library, home, self.leaf_life).context("the site could not be set up")?;
        (self.lived)(&site)
    }
}

const ROUTERS: &str = "clock: the router's is wrong";
const CONTROLLERS: &str = "clock: the controller's is wrong";
const JUMPS: &str = "clock: steps while running, or while off";
const UPTIME: &str = "clock: uptime";

pub(super) fn stories(is_long: bool) -> Vec<Story> {
    let story = |name, fault, lived: Lived| Story { name, fault, leaf_life: None, shifts_uptime: false, lived };
    let mut all = vec![
        // The longest first.
        Story {
            leaf_life: Some("10d"),
            ..story("8 days of suspend, and the controller's connection is gone", JUMPS, |site| suspended(site, true))
        },
        story("expired while off", JUMPS, expired_while_off),
        story("step across expiry while running, and back", JUMPS, across_expiry_and_back),
        story("step to a year ago while running, and back", JUMPS, a_year_back_and_forth),
        story("a day to and fro, again and again, while it renews", JUMPS, to_and_fro),
        story("router starts in 1970", ROUTERS, |site| starts_with(site, IN_1970 - now()?)),
        story("router starts in 2038", ROUTERS, |site| starts_with(site, IN_2038 - now()?)),
        story("router a year ahead", ROUTERS, |site| starts_with(site, YEAR)),
        story("router a year behind", ROUTERS, |site| starts_with(site, -YEAR)),
        story("router 2 minutes ahead", ROUTERS, |site| renews_with(site, 2 * MINUTE, 0)),
        story("router 2 minutes behind", ROUTERS, |site| renews_with(site, -2 * MINUTE, 0)),
        story("controller 2 minutes ahead", CONTROLLERS, |site| renews_with(site, 0, 2 * MINUTE)),
        story("controller 2 minutes behind", CONTROLLERS, |site| renews_with(site, 0, -2 * MINUTE)),
        story("controller a year ahead", CONTROLLERS, |site| controller_moves(site, YEAR)),
        story("controller a year behind", CONTROLLERS, |site| controller_moves(site, -YEAR)),
        story("router renews while the controller is 80 days ahead", CONTROLLERS, |site| {
            renews_with(site, 0, 80 * DAY)
        }),
        Story { shifts_uptime: true, ..story("up for nine years, and then for minutes", UPTIME, long_uptime) },
        Story {
            leaf_life: Some("10d"),
            shifts_uptime: true,
            ..story("8 days of suspend as a start with 8 days more uptime", UPTIME, suspended_by_namespace)
        },
    ];
    if is_long {
        all.push(Story {
            leaf_life: Some("10d"),
            ..story("8 days of suspend, and nothing happens on the network", JUMPS, |site| suspended(site, false))
        });
    }
    all
}

fn now() -> Result<i64> {
    Ok(i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())?)
}

/// The router starts with a clock that is so wrong that it may not be able to connect; then its clock is set right.
fn starts_with(site: &Site, ahead_s: i64) -> Result<()> {
    let kept = site.remember()?;
    site.routers_clock.ahead(ahead_s)?;
    let running = site.router.start()?;
    is_calm(&running)?;
    kept.is_there()?;
    let before = running.log().event(Mark::default(), Duration::ZERO, &["connected"]);
    let mark = running.log().mark();
    site.routers_clock.ahead(0)?;
    if before.is_none() {
        site.comes_online(&running, mark)?;
    }
    site.renews(&running)?;
    kept.is_there()?;
    site.survives_a_kill(running)
}

/// Router and controller do not agree, and a renewal is ordered all the same; then they agree, and two thirds of a life later, it is due.
///
/// What comes of the order is the controller's clock's doing: leaves that would end before the present ones are not taken.
fn renews_with(site: &Site, router_s: i64, controller_s: i64) -> Result<()> {
    let kept = site.remember()?;
    site.routers_clock.ahead(router_s)?;
    let running = site.router.online()?;
    site.controllers_clock.ahead(controller_s)?;
    let mark = running.log().mark();
    running.order_renewal()?;
    let outcome = running.log().event(mark, Duration::from_secs(8), &["promoted", "attempt_failed"]);
    let outcome = outcome.with_context(|| format!("nothing came of a renewal:\n{}", tail(&running)))?;
    let ends_sooner = outcome.event() == "attempt_failed" && outcome.message().contains("(dates)");
    ensure!(outcome.event() == "promoted" || ends_sooner && controller_s < 0, "a renewal failed: {}", outcome.text);
    is_calm(&running)?;
    kept.is_there()?;
    drop(running.kill());
    site.routers_clock.ahead(0)?;
    site.controllers_clock.ahead(0)?;
    let running = site.comes_back()?;
    site.routers_clock.ahead(63 * DAY)?;
    site.controllers_clock.ahead(63 * DAY)?;
    site.renews(&running)?;
    kept.is_there()?;
    site.survives_a_kill(running)
}

/// The controller's clock jumps; the router comes to it anew; then the controller's clock is set right.
fn controller_moves(site: &Site, ahead_s: i64) -> Result<()> {
    let kept = site.remember()?;
    site.router.online()?.stop()?;
    site.controllers_clock.ahead(ahead_s)?;
    let running = site.router.start()?;
    is_calm(&running)?;
    kept.is_there()?;
    let mark = running.log().mark();
    let before = running.log().event(Mark::default(), Duration::ZERO, &["connected"]);
    site.controllers_clock.ahead(0)?;
    if before.is_none() {
        site.comes_online(&running, mark)?;
    }
    site.renews(&running)?;
    site.survives_a_kill(running)
}

fn across_expiry_and_back(site: &Site) -> Result<()> {
    let running = site.router.online()?;
    let kept = site.remember()?;
    site.routers_clock.ahead(100 * DAY)?;
    is_calm(&running)?;
    kept.is_there()?;
    // Even without its channel it goes on.
    site.controller.kill();
    let mark = running.log().mark();
    site.controller.run()?;
    site.comes_online(&running, mark)?;
    is_calm(&running)?;
    kept.is_there()?;
    site.routers_clock.ahead(0)?;
    site.renews(&running)?;
    kept.is_there()?;
    site.survives_a_kill(running)
}

fn a_year_back_and_forth(site: &Site) -> Result<()> {
    let running = site.router.online()?;
    let kept = site.remember()?;
    site.routers_clock.ahead(-YEAR)?;
    is_calm(&running)?;
    site.controller.kill();
    site.controller.run()?;
    is_calm(&running)?;
    kept.is_there()?;
    let mark = running.log().mark();
    site.routers_clock.ahead(0)?;
    site.comes_online(&running, mark)?;
    site.renews(&running)?;
    kept.is_there()?;
    site.survives_a_kill(running)
}

fn to_and_fro(site: &Site) -> Result<()> {
    let running = site.router.online()?;
    let kept = site.remember()?;
    for round in 0..10 {
        site.routers_clock.ahead(if round % 2 == 0 { DAY } else { -DAY })?;
        running.order_renewal()?;
        running.log().event(running.log().mark(), Duration::from_millis(300), &["promoted"]);
    }
    site.routers_clock.ahead(0)?;
    kept.is_there()?;
    site.renews(&running)?;
    kept.is_there()?;
    site.survives_a_kill(running)
}

/// The leaf of 10 days becomes due while the machine sleeps for 8: the renewal begins by itself.
fn suspended(site: &Site, breaks_the_connection: bool) -> Result<()> {
    let running = site.router.online()?;
    let kept = site.remember()?;
    let mark = running.log().mark();
    asleep(&running, || {
        site.routers_clock.ahead(8 * DAY)?;
        site.controllers_clock.ahead(8 * DAY)?;
        if breaks_the_connection {
            site.controller.kill();
            site.controller.run()?;
        }
        Ok(())
    })?;
    // Without anything happening, a router looks at its clock once a minute.
    let patience = Duration::from_secs(if breaks_the_connection { 20 } else { 75 });
    let promoted = running.log().event(mark, patience, &["promoted"]);
    ensure!(promoted.is_some(), "does not notice that it slept past the moment to renew:\n{}", tail(&running));
    kept.is_there()?;
    site.survives_a_kill(running)
}

fn suspended_by_namespace(site: &Site) -> Result<()> {
    site.router.online()?.stop()?;
    let kept = site.remember()?;
    site.routers_clock.ahead(8 * DAY)?;
    site.controllers_clock.ahead(8 * DAY)?;
    let running = site.start_with_uptime(8 * 86_400)?;
    let promoted = running.log().event(Mark::default(), Duration::from_secs(20), &["promoted"]);
    ensure!(promoted.is_some(), "does not notice that it slept past the moment to renew:\n{}", tail(&running));
    kept.is_there()?;
    site.survives_a_kill(running)
}

/// Both clocks pass the leaf's end while the router is off. By the controller's clock there is nothing to admit; when it turns out that
/// the clocks were wrong, everything is as it was.
fn expired_while_off(site: &Site) -> Result<()> {
    site.router.online()?.stop()?;
    let kept = site.remember()?;
    site.routers_clock.ahead(100 * DAY)?;
    site.controllers_clock.ahead(100 * DAY)?;
    let running = site.router.start()?;
    is_calm(&running)?;
    ensure!(running.log().text().contains("re-enroll"), "the remedy is missing:\n{}", tail(&running));
    kept.is_there()?;
    let mark = running.log().mark();
    site.controllers_clock.ahead(0)?;
    site.routers_clock.ahead(0)?;
    site.comes_online(&running, mark)?;
    site.renews(&running)?;
    kept.is_there()?;
    site.survives_a_kill(running)
}

/// Stored times were written in another life, in which the machine had been up for years.
fn long_uptime(site: &Site) -> Result<()> {
    let running = site.start_with_uptime(LONG_UPTIME_S)?;
    site.comes_online(&running, Mark::default())?;
    site.renews(&running)?;
    is_calm(&running)?;
    drop(running.kill());
    let running = site.router.online()?;
    site.renews(&running)?;
    drop(running.kill());
    let running = site.start_with_uptime(LONG_UPTIME_S)?;
    site.comes_online(&running, Mark::default())?;
    site.survives_a_kill(running)
}
