//! A cluster of three stock controllers.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use netfault::proxy::{Action, ByteRule, Message, Rule};
use rig::{Mark, Running, ZitiNode, ZitiSettings};

use crate::groups::site::{Site, Visitor, until};
use crate::scenario::{Bench, Shown};

/// A new leader is found, a lagging node has caught up, and the router has tried again, within this time.
const SOON: Duration = Duration::from_secs(120);

fn three(bench: &Bench) -> Result<(Site, Visitor, Running)> {
    let site = Site::with(bench, ZitiSettings { nodes: 3, is_behind_proxy: true, ..ZitiSettings::default() })?;
    let (visitor, running) = site.online("edge-1", "exuvia: {rekey: always}\n")?;
    until_everywhere(&running, 3)?;
    Ok((site, visitor, running))
}

/// Waits until so many controllers have a channel.
fn until_everywhere(running: &Running, wanted: usize) -> Result<()> {
    let connected = || -> Result<Option<()>> {
        let status = running.status()?;
        let controllers = status["controllers"].as_array().cloned().unwrap_or_default();
        let up = controllers.iter().filter(|controller| controller["is_connected"] == true).count();
        Ok((up >= wanted).then_some(()))
    };
    until(&format!("a channel to {wanted} controllers"), SOON, connected).with_context(|| {
        running.status().map_or_else(|error| error.to_string(), |status| format!("{:#}", status["controllers"]))
    })
}

/// The fingerprint that each controller has on its list.
fn lists(site: &Site, name: &str) -> Vec<String> {
    let asked = site.network.clis().iter().map(|cli| cli.edge_router(name));
    asked
        .map(|listed| match listed {
            Ok(listed) => listed["fingerprint"].as_str().unwrap_or("none").to_owned(),
            Err(error) => format!("{error:#}"),
        })
        .collect()
}

/// Waits until every controller has the leaf of this generation on its list.
fn until_listed(site: &Site, visitor: &Visitor, generation: u64) -> Result<()> {
    let ours = visitor.chain(generation)?.leaf().fingerprint_sha1().to_string();
    until("the new leaf on every list", SOON, || {
        Ok(lists(site, visitor.files.name()).iter().all(|theirs| *theirs == ours).then_some(()))
    })
    .with_context(|| format!("ours is {ours}, they have {:?}", lists(site, visitor.files.name())))
}

pub(super) fn renews(bench: &Bench) -> Result<Shown> {
    let (site, visitor, running) = three(bench)?;
    let began = Instant::now();
    let mut generation = 0;
    for _ in 0..3 {
        generation = site.renew(&running)?;
        until_listed(&site, &visitor, generation)?;
    }
    let took = began.elapsed();
    visitor.kill(running);
    let running = visitor.start()?;
    running.until_online()?;
    until_everywhere(&running, 3)?;
    let admitted: Vec<u64> = running
        .log()
        .since(Mark::default())
        .iter()
        .filter(|line| line.event() == "connected")
        .filter_map(rig::Line::generation)
        .collect();
    ensure!(admitted.iter().all(|admitted| *admitted == generation), "admitted with {admitted:?}");
    running.stop()?;
    Ok(Shown::holds(format!(
        "three renewals in {:.0} s, on all three lists; after kill -9 admitted by all with generation {generation}",
        took.as_secs_f32()
    )))
}

pub(super) fn leader_changes(bench: &Bench) -> Result<Shown> {
    let (site, visitor, running) = three(bench)?;
    let mut told = Vec::new();
    for held in [Message::Certs, Message::Verify, Message::Confirmation] {
        for is_killed in [false, true] {
            let before = site.network.until_leader(|_| true)?;
            let mark = held_on_any_way(&visitor, &running, held)?;
            let began = Instant::now();
            if is_killed {
                before.kill();
                site.network.until_leader(|node| node.id() != before.id())?;
            } else {
                let other = site.network.nodes().iter().find(|node| node.id() != before.id()).context("no other")?;
                let ran = before.agent(&["cluster", "transfer-leadership", other.id()])?.ok()?;
                ensure!(!ran.stdout.contains("error"), "{}", ran.stdout);
                site.network.until_leader(|node| node.id() != before.id())?;
            }
            for way in &visitor.ways {
                way.pass();
                // What is held back goes down with its connection where the controller did; elsewhere it was lost.
                way.sever();
            }
            let how = if is_killed { "killed" } else { "handed over" };
            let promoted = running.log().event(mark, SOON, &["promoted"]);
            let Some(promoted) = promoted.and_then(|line| line.generation()) else {
                bail!("{how} at {held}: no renewal within {} s:\n{}", SOON.as_secs(), running.log().text())
            };
            told.push(format!("{how} at {held}: {:.0} s", began.elapsed().as_secs_f32()));
            if is_killed {
                site.restart(before)?;
            }
            until_everywhere(&running, 3)?;
            until_listed(&site, &visitor, promoted)?;
        }
    }
    running.stop()?;
    Ok(Shown::holds(format!("{} changes of the leader, a new leaf on every list each time", told.len()))
        .and(format!("From the change to the new leaf's admission: {}.", told.join("; "))))
}

/// Orders a renewal and waits until that message is held back, wherever it goes.
fn held_on_any_way(visitor: &Visitor, running: &Running, message: Message) -> Result<Mark> {
    let rule = Rule::once(message, Action::Delay(Duration::from_secs(3_600)));
    for way in &visitor.ways {
        way.arm([rule]);
    }
    let mark = running.log().mark();
    let _ = running.order_renewal();
    until(&message.to_string(), SOON, || {
        let _ = running.order_renewal();
        Ok(visitor.ways.iter().any(|way| way.struck() > 0).then_some(()))
    })?;
    Ok(mark)
}

pub(super) fn node_lags(bench: &Bench) -> Result<Shown> {
    let (site, visitor, running) = three(bench)?;
    let follower = || -> Result<&ZitiNode> {
        let leader = site.network.until_leader(|_| true)?;
        site.network.nodes().iter().find(|node| node.id() != leader.id()).context("no follower")
    };
    let mut told = Vec::new();

    // It stands still.
    let node = follower()?;
    node.pause();
    let renewed = site.renew(&running).context("a controller stands still")?;
    let began = Instant::now();
    node.resume();
    until_everywhere(&running, 3)?;
    until_listed(&site, &visitor, renewed)?;
    told.push(format!("stood still: connected again after {:.0} s", began.elapsed().as_secs_f32()));

    // It is cut off from the others, while the router reaches all three.
    let node = follower()?;
    for way in site.ways_between(node) {
        way.arm_bytes(ByteRule::Hold(None));
    }
    let renewed = renew_beside(&running)?;
    visitor.kill(running);
    let running = visitor.start()?;
    running.until_online()?;
    let after = renew_beside(&running)?;
    ensure!(after > renewed, "generation {after} after {renewed}");
    let began = Instant::now();
    for way in site.ways_between(node) {
        way.pass();
        way.sever();
    }
    until_everywhere(&running, 3)?;
    let last = site.renew(&running)?;
    until_listed(&site, &visitor, last)?;
    told.push(format!("cut off: connected again after {:.0} s", began.elapsed().as_secs_f32()));
    let older = running.log().since(Mark::default()).iter().filter(|line| line.event() == "older_admitted").count();
    running.stop()?;
    Ok(Shown::holds(told.join("; "))
        .and(format!("While cut off it admitted an older leaf {older} times; generations {renewed}, {after} and {last} in between and after.")))
}

/// A renewal while one of three controllers can finish none: the router may ask that one first.
fn renew_beside(running: &Running) -> Result<u64> {
    let mark = running.log().mark();
    let served = running.status()?["generation"].as_u64().unwrap_or_default();
    let deadline = Instant::now() + SOON;
    while Instant::now() < deadline {
        let _ = running.order_renewal();
        let promoted = running.log().wait(mark, Duration::from_secs(5), |line| {
            (line.event() == "promoted").then(|| line.generation().unwrap_or_default()).filter(|found| *found > served)
        });
        if let Some(generation) = promoted {
            return Ok(generation);
        }
    }
    bail!("no renewal within {} s:\n{}", SOON.as_secs(), running.log().text())
}
