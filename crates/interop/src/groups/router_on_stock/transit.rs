//! Transit routers on a stock controller, whose verified extension cannot finish.

use std::path::Path;

use anyhow::{Context as _, Result, anyhow, ensure};
use netfault::proxy::{Action, Message, Rule};
use rig::{Running, ZitiRouter, ZitiSettings};

use crate::groups::site::{Site, Visitor};
use crate::scenario::{Bench, Shown};

/// A transit router of ours on the file of `ziti create config router fabric` with these lines behind it, admitted.
fn admitted(bench: &Bench, further: &str) -> Result<(Site, Visitor, Running)> {
    let site = Site::with(bench, ZitiSettings { is_behind_proxy: true, ..ZitiSettings::default() })?;
    let jwt = site.network.cli().create_transit_router("core-1")?;
    let listed = site.network.cli().listed("transit-routers", "core-1")?;
    let id = listed["id"].as_str().ok_or_else(|| anyhow!("no id in {listed}"))?;
    let files = ZitiRouter::transit(&bench.ziti, &bench.scratch.join("core-1"), "core-1", site.network.ctrl_port())?;
    let visitor = site.of_files(files, id, &jwt, further)?;
    visitor.router.enroll()?.ok()?;
    let running = visitor.start()?;
    running.until_online()?;
    Ok((site, visitor, running))
}

fn listed_fingerprint(site: &Site) -> Result<String> {
    let listed = site.network.cli().listed("transit-routers", "core-1")?;
    Ok(listed["fingerprint"].as_str().with_context(|| format!("no fingerprint in {listed}"))?.to_owned())
}

pub(super) fn is_refused(bench: &Bench) -> Result<Shown> {
    let (site, visitor, running) = admitted(bench, "")?;
    let before = listed_fingerprint(&site)?;
    let mark = running.log().mark();
    running.order_renewal()?;
    running.until(mark, &["attempt_failed"])?;
    let told = running.log().since(mark);
    let told = told.iter().find(|line| line.message().contains("transit router"));
    let told = told.context("the log does not say that it is a transit router")?.message().to_owned();
    ensure!(told.contains("as an edge router") && told.contains("allowUnverified"), "no choices in `{told}`");
    let asked = visitor.way()?.seen().get(&Message::Request).copied().unwrap_or(0);
    ensure!(asked == 0 && listed_fingerprint(&site)? == before, "it asked {asked} times");
    let status = running.status()?;
    ensure!(status["last_attempt"]["failure"] == "unsafe", "status says {}", status["last_attempt"]);
    let doctor = visitor.router.command("doctor", &[])?;
    let says = format!("{}{}", doctor.stdout, doctor.stderr);
    ensure!(says.contains("this is a transit router"), "doctor says {says}");
    running.stop()?;
    Ok(Shown::holds("failed as `unsafe`; no 20302 left; log, status and doctor name it and the choices").and(told))
}

pub(super) fn renews_unverified(bench: &Bench) -> Result<Shown> {
    let (site, visitor, running) = admitted(bench, "exuvia: {allowUnverified: true, attemptDeadline: 5s}\n")?;
    let times = if bench.has_groups() { 3 } else { 1 };
    for _ in 0..times {
        let generation = site.renew(&running)?;
        let ours = visitor.chain(generation)?.leaf().fingerprint_sha1().to_string();
        let theirs = listed_fingerprint(&site)?;
        ensure!(theirs == ours, "the controller has {theirs}, the router {ours}");
    }
    visitor.kill(running);
    let (running, _) = site.comes_back(&visitor)?;
    // What the flag accepts: the one answer that is lost takes the identity with it.
    let old = listed_fingerprint(&site)?;
    let way = visitor.way()?;
    way.arm([Rule::once(Message::Certs, Action::CloseBefore)]);
    running.order_renewal()?;
    ensure!(way.strikes_within(rig::PATIENCE), "no 20301 came");
    let new = listed_fingerprint(&site)?;
    ensure!(new != old, "the controller has not swapped before it answered");
    visitor.kill(running);
    let judged = visitor.router.judge_only_admission();
    ensure!(!judged.is_usable(), "it lost its 20301, and is admitted all the same: {}", judged.brief());
    // The way back, by the operator.
    mend(&site, visitor.router.id(), &old)?;
    let (running, _) = site.comes_back(&visitor)?;
    running.stop()?;
    Ok(Shown::holds(format!(
        "renewed {times} times, after kill -9 once more, and once more after it had been locked out and let in"
    ))
    .and("What the flag accepts: a lost 20301 locked it out, for the controller swaps before it answers.".to_owned())
    .and(format!(
        "`ziti fabric update router ID --fingerprint` with the old leaf's fingerprint ({}…) let it in again.",
        old.get(..8).unwrap_or_default()
    )))
}

/// The operator admits an older leaf again.
pub(super) fn mend(site: &Site, id: &str, fingerprint: &str) -> Result<()> {
    let ran = site.network.cli().run(&["fabric", "update", "router", id, "--fingerprint", fingerprint])?;
    ran.ok().context("ziti fabric update router").map(drop)
}

pub(super) fn becomes_edge(bench: &Bench) -> Result<Shown> {
    let (site, visitor, running) = admitted(bench, "")?;
    running.stop()?;
    let cli = site.network.cli();
    cli.run(&["edge", "delete", "transit-router", "core-1"])?.ok()?;
    let jwt = cli.create_edge_router("core-1")?;
    let id = cli.edge_router("core-1")?["id"].as_str().unwrap_or_default().to_owned();
    // The file says `edge` from now on.
    let config = visitor.files.config();
    let text = std::fs::read_to_string(config)?;
    std::fs::write(config, format!("{text}\nedge: {{}}\n"))?;
    let enrolled = enroll_by_force(&visitor, &jwt)?;
    let visitor = site.of_files(visitor.files.clone(), &id, &jwt, "")?;
    let running = visitor.start()?;
    running.until_online()?;
    cli.until_online("core-1", true)?;
    let generation = site.renew(&running)?;
    let listed = cli.edge_router("core-1")?;
    let ours = visitor.chain(generation)?.leaf().fingerprint_sha1().to_string();
    ensure!(listed["fingerprint"] == ours, "the controller has {}", listed["fingerprint"]);
    running.stop()?;
    Ok(Shown::holds(format!("new id, same place; renewed to generation {generation} by the verified exchange"))
        .and(enrolled))
}

fn enroll_by_force(visitor: &Visitor, jwt: &Path) -> Result<String> {
    let jwt = jwt.to_string_lossy().into_owned();
    let ran = visitor.router.command("enroll", &["--jwt", &jwt])?;
    if ran.code == Some(0) {
        return Ok("`exuvia router enroll` took the new token as it is.".to_owned());
    }
    let why = ran.stderr.lines().find(|line| line.contains("error:")).or(ran.stderr.lines().last()).unwrap_or_default();
    visitor.router.command("enroll", &["--jwt", &jwt, "--force"])?.ok().context("enroll --force")?;
    Ok(format!("`exuvia router enroll` wanted `--force`: {why}"))
}
