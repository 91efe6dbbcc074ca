//! Changing places: a Go router and ours take turns on one router's files.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use netfault::proxy::{Action, Message, Rule};
use nix::sys::signal::Signal;
use pki::Chain;
use rig::{Mark, Process, Running, ZitiSettings};

use super::site::{Site, Visitor, until};
use crate::scenario::{Bench, Group, Scenario, Shown};

pub(super) fn group() -> Group {
    let scenarios = vec![
        Scenario::new(
            "they-enroll-we-run",
            "a Go router enrolls and runs; ours starts on its files and file, is admitted and renews; the Go router starts again and is admitted",
            they_enroll_we_run,
        ),
        Scenario::new(
            "turns",
            "they take turns three times (eight in a long run), each renewing in its turn, ended by SIGTERM or kill -9: each is online with \
             what the other left, what the Go router renewed is imported, what ours renewed lies at the configured paths",
            turns,
        )
        .within(300, 600),
        Scenario::new(
            "killed-while-renewing",
            "ours is killed at every message of a renewal, and the Go router starts, and renews if it is admitted before 20303; then ours again, \
             then the Go router again: nobody needs an operator",
            killed_while_renewing,
        )
        .within(420, 420),
        Scenario::new(
            "both-at-once",
            "while ours runs, a Go router is started on the same files by mistake and ended: ours is not disturbed, and the identity is whole",
            both_at_once,
        ),
    ];
    Group { id: "places", title: "Changing places with a Go router", scenarios }
}

fn they_enroll_we_run(bench: &Bench) -> Result<Shown> {
    let site = Site::single(bench)?;
    let visitor = site.visitor("edge-1")?;
    let file = fs::read(visitor.files.config())?;
    visitor.files.enroll(visitor.router.token())?.ok()?;
    let go = go_online(&site, &visitor, &[])?;
    end(go, true)?;
    let ours = visitor.router.online()?;
    site.network.cli().until_online("edge-1", true)?;
    let generation = site.renew(&ours)?;
    until_projected(&ours, generation)?;
    ours.stop()?;
    let go = go_online(&site, &visitor, &[])?;
    end(go, true)?;
    ensure!(fs::read(visitor.files.config())? == file, "the configuration changed");
    Ok(Shown::holds(format!("renewed to generation {generation} in between; the file is unchanged")))
}

/// Starts the Go router and waits until it is listed as online.
fn go_online(site: &Site, visitor: &Visitor, flags: &[&str]) -> Result<Process> {
    let go = visitor.files.start(flags)?;
    site.network.cli().until_online(visitor.files.name(), true).with_context(|| tail(&go))?;
    Ok(go)
}

fn tail(process: &Process) -> String {
    let text = process.log().text();
    let lines: Vec<&str> = text.lines().collect();
    format!("the Go router said: {}", lines.get(lines.len().saturating_sub(6)..).unwrap_or_default().join(" / "))
}

fn end(process: Process, gently: bool) -> Result<()> {
    process.signal(if gently { Signal::SIGTERM } else { Signal::SIGKILL });
    process.finish(rig::PATIENCE).map(drop)
}

/// The configured paths hold this generation.
fn until_projected(ours: &Running, generation: u64) -> Result<()> {
    let found = ours.log().wait(Mark::default(), Duration::from_secs(20), |line| {
        (line.event() == "projected" && line.generation() == Some(generation)).then_some(())
    });
    found.with_context(|| format!("generation {generation} is not at the configured paths:\n{}", ours.log().text()))
}

/// The fingerprint of the leaf at the configured path; `None` while it is being written.
fn configured(visitor: &Visitor) -> Option<String> {
    let chain = Chain::from_pem(&fs::read(visitor.files.cert()).ok()?).ok()?;
    Some(chain.leaf().fingerprint_sha1().to_string())
}

/// Waits until the Go router's `--extend` is through: another leaf than this at the path, and the same on the list.
fn until_extended(site: &Site, visitor: &Visitor, before: &str) -> Result<()> {
    until("the Go router's own extension", Duration::from_secs(60), || {
        let Some(now) = configured(visitor).filter(|now| now != before) else { return Ok(None) };
        let listed = site.network.cli().edge_router(visitor.files.name())?;
        Ok((listed["fingerprint"] == now).then_some(()))
    })
}

fn turns(bench: &Bench) -> Result<Shown> {
    let site = Site::single(bench)?;
    let visitor = site.visitor("edge-1")?;
    visitor.files.enroll(visitor.router.token())?.ok()?;
    let rounds = if bench.is_long { 8 } else { 3 };
    let (mut imported, mut generation) = (0, 0);
    for round in 0..rounds {
        let before = configured(&visitor).context("no leaf at the configured path")?;
        let go = go_online(&site, &visitor, &["--extend"])?;
        until_extended(&site, &visitor, &before)?;
        end(go, round % 2 == 0)?;
        let theirs = configured(&visitor).context("no leaf at the configured path")?;

        let ours = visitor.router.start()?;
        let admitted = ours.until_online().with_context(|| format!("ours, in round {round}"))?;
        let with = visitor.chain(admitted)?.leaf().fingerprint_sha1().to_string();
        ensure!(with == theirs, "admitted with {with}, the Go router left {theirs}");
        imported += ours.log().since(Mark::default()).iter().filter(|line| line.event() == "imported").count();
        site.network.cli().until_online("edge-1", true)?;
        generation = site.renew(&ours)?;
        until_projected(&ours, generation)?;
        let (mine, there) = (visitor.chain(generation)?, configured(&visitor));
        ensure!(there == Some(mine.leaf().fingerprint_sha1().to_string()), "another leaf at the path: {there:?}");
        match round % 2 {
            0 => drop(ours.kill()),
            _ => drop(ours.stop()?),
        }
    }
    let go = go_online(&site, &visitor, &[])?;
    end(go, true)?;
    Ok(Shown::holds(format!("{rounds} turns, {imported} imports while running, generation {generation} in the end")))
}

/// Where ours is killed: behind this message, which is held back.
const HELD: [(&str, Message, u32); 5] = [
    ("20302", Message::Request, 0),
    ("20301", Message::Certs, 0),
    ("20303", Message::Verify, 0),
    ("20002", Message::Confirmation, 0),
    ("the hello with the new leaf", Message::ProofHello, 1),
];

fn killed_while_renewing(bench: &Bench) -> Result<Shown> {
    let settings = ZitiSettings { is_behind_proxy: true, ..ZitiSettings::default() };
    let site = Site::with(bench, settings)?;
    let visitor = site.visitor("edge-1")?;
    visitor.files.enroll(visitor.router.token())?.ok()?;
    let way = visitor.way()?;
    let (mut alone, mut told) = (0, Vec::new());
    for (name, mut message, mut after) in HELD {
        if message == Message::ProofHello && !bench.has_groups() {
            (message, after) = (Message::Hello, 0);
        }
        let ours = visitor.start()?;
        ours.until_online()?;
        way.arm([Rule { message, action: Action::Delay(Duration::from_secs(3_600)), after, times: 1 }]);
        ours.order_renewal()?;
        ensure!(way.strikes_within(Duration::from_secs(100)), "{name} never came:\n{}", ours.log().text());
        visitor.kill(ours);
        // The Go router on what lies at its paths; the proxy knows it by the key, which is ours.
        // In the first two it renews in its turn, while the attempt of ours is unfinished.
        let extends = matches!(message, Message::Request | Message::Certs);
        let is_online = go_alone(&site, &visitor, extends)?;
        alone += usize::from(is_online);
        told.push(format!("{name}: {}", if is_online { "online" } else { "refused, until ours had started" }));
        let ours = visitor.start()?;
        let generation = ours.until_online().with_context(|| format!("ours, after a kill at {name}"))?;
        let renewed =
            site.renew(&ours).with_context(|| format!("ours, after a kill at {name}, generation {generation}"))?;
        until_projected(&ours, renewed)?;
        ours.stop()?;
        ensure!(go_alone(&site, &visitor, false)?, "the Go router is refused with what ours projected ({name})");
    }
    Ok(Shown::holds(format!(
        "{} kills: ours came back and renewed every time; the Go router alone {alone} times",
        HELD.len()
    ))
    .and(format!("The Go router started at once on the files that the killed one left: {}.", told.join("; "))))
}

/// Is the Go router admitted with what lies at the configured paths? It renews if it is to, and is ended again.
fn go_alone(site: &Site, visitor: &Visitor, extends: bool) -> Result<bool> {
    let before = configured(visitor).context("no leaf at the configured path")?;
    let go = visitor.files.start(if extends { &["--extend"] } else { &[] })?;
    let deadline = Instant::now() + Duration::from_secs(12);
    let cli = site.network.cli();
    let mut is_online = false;
    while !is_online && Instant::now() < deadline {
        is_online = cli.is_online(visitor.files.name())?;
        go.log().wait(go.log().mark(), Duration::from_millis(300), |_| Some(()));
    }
    if extends && is_online {
        until_extended(site, visitor, &before)?;
    }
    end(go, false)?;
    cli.until_online(visitor.files.name(), false)?;
    Ok(is_online)
}

fn both_at_once(bench: &Bench) -> Result<Shown> {
    let site = Site::single(bench)?;
    let (visitor, ours) = site.online("edge-1", "")?;
    let go = visitor.files.start(&["--extend"])?;
    // It dials, is refused as the second of its name for a minute, and would extend if it could.
    go.log().wait(Mark::default(), Duration::from_secs(20), |line| {
        line.text.contains("cert").then_some(()).filter(|()| false)
    });
    end(go, false)?;
    site.network.cli().until_online("edge-1", true)?;
    let generation = site.renew(&ours)?;
    ours.kill();
    let (again, took) = site.comes_back(&visitor)?;
    again.stop()?;
    Ok(Shown::holds(format!(
        "renewed to generation {generation} afterwards; after kill -9 admitted and renewed within {:.1} s",
        took.as_secs_f32()
    )))
}
