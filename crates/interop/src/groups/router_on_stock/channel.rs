//! Enrollment, the channel while nothing happens, and renewals that nothing disturbs.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rig::{Process, Running, ZitiRouter, ZitiSettings};

use crate::groups::site::{Site, Visitor};
use crate::scenario::{Bench, Shown};

pub(super) fn enrolled_with_their_files(bench: &Bench) -> Result<Shown> {
    let site = Site::single(bench)?;
    let visitor = site.visitor("edge-1")?;
    let before = fs::read(visitor.files.config())?;
    visitor.router.enroll()?.ok()?;
    ensure!(fs::read(visitor.files.config())? == before, "enrollment changed the configuration");
    let running = visitor.router.online()?;
    site.network.cli().until_online("edge-1", true)?;
    let listed = site.network.cli().edge_router("edge-1")?;
    ensure!(listed["isVerified"] == true, "listed as {listed}");
    running.stop()?;
    let version = &listed["versionInfo"]["version"];
    Ok(Shown::holds(format!("isOnline and isVerified are true, version {version} is shown, the file is unchanged")))
}

pub(super) fn stays_connected(bench: &Bench) -> Result<Shown> {
    let site = Site::with(bench, ZitiSettings { is_behind_proxy: true, ..ZitiSettings::default() })?;
    let cli = site.network.cli();
    let (visitor, running) = site.online("edge-1", "")?;
    let way = visitor.way()?;
    let mark = running.log().mark();
    let for_s = if bench.is_long { 600 } else { 60 };

    // A Go router comes, would link to ours, and goes: our peers change.
    let jwt = cli.create_edge_router("edge-2")?;
    let other = ZitiRouter::edge(&bench.ziti, &bench.scratch.join("edge-2"), "edge-2", site.network.ctrl_port())?;
    other.enroll(&jwt)?.ok()?;
    let its_way = site.way_of_bytes("edge-2")?;
    let began = Instant::now();
    let mut go = None;
    while began.elapsed() < Duration::from_secs(for_s) {
        match go.take() {
            None => {
                let started = other.start(&[])?;
                its_way.set_process(u32::try_from(started.pid().as_raw())?);
                cli.until_online("edge-2", true)?;
                go = Some(started);
            }
            Some(running) => drop(Process::kill(&running)),
        }
        cli.run(&["fabric", "inspect", visitor.router.id(), "links", "router-controllers"])?;
        ensure!(cli.is_online("edge-1")?, "listed as offline after {} s", began.elapsed().as_secs());
        running.log().event(running.log().mark(), Duration::from_secs(5), &["disconnected", "refused"]);
    }
    drop(go);
    let broke = running.log().event(mark, Duration::from_millis(10), &["disconnected", "refused"]);
    ensure!(broke.is_none(), "{broke:?}");
    ensure!(running.log().panic().is_none(), "it panicked");
    let seen = way.seen();
    let kinds: Vec<String> = seen.iter().map(|(message, count)| format!("{count} × {message}")).collect();
    let status = running.status()?;
    ensure!(status["controllers"][0]["is_connected"] == true, "its status: {status:#}");
    running.stop()?;
    Ok(Shown::holds(format!("{for_s} s, {} connections, no reconnect, isOnline all the time", way.connections()))
        .and(format!("Messages in that time: {}.", kinds.join(", "))))
}

pub(super) fn renews_on_one_channel(bench: &Bench) -> Result<Shown> {
    if !bench.has_groups() {
        return Ok(Shown::left_out("its controllers have no grouped control channels"));
    }
    let site = Site::single(bench)?;
    let (visitor, running) = site.online("edge-1", "")?;
    let key = fs::read(visitor.files.key())?;
    let mut leaves = Vec::new();
    for _ in 0..3 {
        leaves.extend(on_the_list(&site, &visitor, site.renew(&running)?)?);
    }
    ensure_unbroken(&running)?;
    ensure!(fs::read(visitor.files.key())? == key, "the configured key changed");
    running.stop()?;
    Ok(Shown::holds(format!("leaves {}, one `connected`, key kept", leaves.join(", "))))
}

pub(super) fn renews_with_new_keys(bench: &Bench) -> Result<Shown> {
    if !bench.has_groups() {
        return Ok(Shown::left_out("its controllers have no grouped control channels"));
    }
    let site = Site::single(bench)?;
    let (visitor, running) = site.online("edge-1", "exuvia: {rekey: always}\n")?;
    let mut keys = BTreeSet::from([visitor.chain(1)?.leaf().key_id()]);
    let mut leaves = Vec::new();
    for _ in 0..3 {
        let generation = site.renew(&running)?;
        leaves.extend(on_the_list(&site, &visitor, generation)?);
        ensure!(keys.insert(visitor.chain(generation)?.leaf().key_id()), "the key was used before");
    }
    ensure_unbroken(&running)?;
    running.stop()?;
    Ok(Shown::holds(format!("leaves {}, {} different keys, one `connected`", leaves.join(", "), keys.len())))
}

pub(super) fn renews_without_groups(bench: &Bench) -> Result<Shown> {
    if bench.has_groups() {
        return Ok(Shown::left_out("its control channels are grouped: a further underlay proves the new leaf"));
    }
    let site = Site::single(bench)?;
    let (visitor, running) = site.online("edge-1", "")?;
    let mark = running.log().mark();
    let began = Instant::now();
    let generation = site.renew(&running)?;
    let took = began.elapsed();
    let lines = running.log().since(mark);
    let connected = lines.iter().filter(|line| line.event() == "connected").count();
    ensure!(connected == 1, "{connected} new channels for one renewal:\n{}", running.log().text());
    on_the_list(&site, &visitor, generation)?;
    running.stop()?;
    let took = took.as_secs_f32();
    Ok(Shown::holds(format!("generation {generation} promoted {took:.0} s after the order, by the one new channel")))
}

/// The first digits of the leaf of this generation, which the controller must have on its list.
fn on_the_list(site: &Site, visitor: &Visitor, generation: u64) -> Result<Option<String>> {
    let chain = visitor.chain(generation)?;
    let ours = chain.leaf().fingerprint_sha1().to_string();
    let listed = site.network.cli().edge_router(visitor.files.name())?;
    ensure!(listed["fingerprint"] == ours, "the controller has {}, the router {ours}", listed["fingerprint"]);
    Ok(ours.get(..8).map(str::to_owned))
}

fn ensure_unbroken(running: &Running) -> Result<()> {
    let lines = running.log().since(rig::Mark::default());
    let count = |event: &str| lines.iter().filter(|line| line.event() == event).count();
    let (connected, disconnected) = (count("connected"), count("disconnected"));
    ensure!(connected == 1 && disconnected == 0, "{connected} times connected, {disconnected} times disconnected");
    Ok(())
}
