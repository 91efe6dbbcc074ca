//! Commands that a real router must feel.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use pki::Chain;
use rig::{Process, ZitiRouter};

use super::desk::Desk;
use crate::scenario::{Bench, Scenario, Shown};

pub(super) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario::new(
            "cli-disable",
            "`ziti edge update edge-router --disabled` takes a stock router its channel and keeps it away; `--disabled=false` lets it come \
             back by itself",
            disable,
        )
        .within(240, 240),
        Scenario::new(
            "cli-delete-online",
            "`ziti edge delete edge-router` takes a stock router its channel for good",
            delete_online,
        ),
        Scenario::new(
            "cli-re-enroll",
            "`ziti edge re-enroll edge-router -o` voids a stock router's identity at once; `ziti router enroll` with the new JWT brings \
             the same router back",
            re_enroll,
        )
        .within(240, 240),
        Scenario::new(
            "cli-fingerprint",
            "a stock router that was re-enrolled by mistake comes back by itself after `ziti fabric update router --fingerprint` with the \
             hash of the leaf that it has; one that was deleted after `ziti fabric create router CERT`",
            fingerprint,
        )
        .within(300, 300),
    ]
}

fn online(desk: &Desk, router: &ZitiRouter) -> Result<Process> {
    let running = router.start(&[])?;
    desk.cli.until_online(router.name(), true).with_context(|| running.log().text())?;
    Ok(running)
}

fn disable(bench: &Bench) -> Result<Shown> {
    let desk = Desk::new(bench)?;
    let router = desk.enrolled("r1")?;
    let running = online(&desk, &router)?;
    desk.ran(&["edge", "update", "edge-router", "r1", "--disabled"])?.done(&[])?;
    desk.cli.until_online("r1", false)?;
    desk.ran(&["fabric", "list", "routers", r#"name="r1""#])?.done(&["true"])?;
    let id = router.id()?;
    // It knocks, and is refused.
    let path = format!("/api/v1/routers/{id}/audit?limit=20");
    desk.controller.until(&id, |_| {
        let trail = desk.controller.ask("GET", &path, None).ok()?;
        let entries = trail["data"]["entries"].as_array()?.clone();
        entries.iter().any(|entry| entry["event"] == "admission-refused").then_some(())
    })?;
    ensure!(!desk.cli.is_online("r1")?, "it is online while it is disabled");
    desk.ran(&["edge", "update", "edge-router", "r1", "--disabled=false"])?.done(&[])?;
    desk.cli.until_online("r1", true)?;
    running.kill();
    Ok(Shown::holds("offline, refused while disabled, back without a restart"))
}

fn delete_online(bench: &Bench) -> Result<Shown> {
    let desk = Desk::new(bench)?;
    let router = desk.enrolled("r1")?;
    let running = online(&desk, &router)?;
    desk.ran(&["edge", "delete", "edge-router", "r1"])?.done(&["OK"])?;
    let id = router.id()?;
    let log = desk.controller.with_process(|process| process.log().clone()).context("it runs")?;
    let closed = log.wait(Default::default(), rig::PATIENCE, |line| {
        (line.text_of("event") == "disconnected" && line.text_of("router") == id).then_some(())
    });
    closed.with_context(|| format!("the channel of `{id}` stays open: {}", log.text()))?;
    desk.ran(&["edge", "list", "edge-routers"])?.done(&["results: none"])?;
    running.kill();
    Ok(Shown::holds("its channel was closed with the deletion"))
}

fn re_enroll(bench: &Bench) -> Result<Shown> {
    let desk = Desk::new(bench)?;
    let router = desk.enrolled("r1")?;
    let running = online(&desk, &router)?;
    let id = router.id()?;
    let jwt = desk.home.join("again.jwt");
    let path = jwt.to_string_lossy().into_owned();
    desk.ran(&["edge", "re-enroll", "edge-router", "r1", "-o", &path])?.done(&["OK", "Enrollment expires at"])?;
    desk.cli.until_online("r1", false)?;
    ensure!(desk.edge_router("r1")?["isVerified"] == false, "it is verified still");
    running.kill();
    router.enroll(&jwt)?.ok()?;
    let running = online(&desk, &router)?;
    ensure!(router.id()? == id && desk.edge_router("r1")?["id"] == id, "it is another router now");
    running.kill();
    desk.ran(&["edge", "re-enroll", "edge-router", "nosuch"])?.refused(&["no edge-routers"])?;
    Ok(Shown::holds("offline at once; online again with a new leaf and the same id"))
}

fn fingerprint(bench: &Bench) -> Result<Shown> {
    let desk = Desk::new(bench)?;
    let router = desk.enrolled("r1")?;
    let running = online(&desk, &router)?;
    let id = router.id()?;
    let sha1 = Chain::from_pem(&fs::read(router.cert())?)?.leaf().fingerprint_sha1().to_string();
    desk.ran(&["edge", "re-enroll", "edge-router", "r1"])?.done(&["OK"])?;
    desk.cli.until_online("r1", false)?;
    desk.ran(&["fabric", "update", "router", "r1", "--fingerprint", &sha1])?.done(&[])?;
    desk.cli.until_online("r1", true)?;
    ensure!(desk.edge_router("r1")?["fingerprint"] == sha1, "another fingerprint is shown");

    desk.ran(&["fabric", "delete", "router", "r1"])?.done(&["OK"])?;
    let cert = router.cert().to_string_lossy().into_owned();
    desk.ran(&["fabric", "create", "router", &cert, "--name", "r1 again", "--cost", "2"])?
        .done(&["created with id", &id])?;
    desk.controller.until(&id, |known| known["connection"].is_object().then_some(()))?;
    desk.ran(&["fabric", "list", "routers", r#"name = "r1 again""#])?.done(&["true", "results: 1-1 of 1"])?;
    running.kill();
    Ok(Shown::holds(format!("the leaf {sha1} was admitted twice without touching the router")))
}
