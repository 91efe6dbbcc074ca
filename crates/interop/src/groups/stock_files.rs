//! The files of a Go router on a stock controller: `exuvia extend` in place of its `--extend`, and whether what `exuvia doctor` foretells
//! comes true.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::rescue::{Stock, tail};
use super::site::until;
use crate::scenario::{Bench, Group, Scenario, Shown};

pub(super) fn extend() -> Group {
    let scenarios = vec![
        Scenario::new(
            "before-the-start",
            "`exuvia extend`, then the Go router without `--extend`: three starts, three leaves, its key is kept",
            before_the_start,
        )
        .within(420, 420),
        Scenario::new(
            "beside-the-running-router",
            "`exuvia extend --beside-running`: the same process of the Go router is online again with the new leaf",
            beside_the_running_router,
        )
        .within(300, 300),
    ];
    Group { id: "extend", title: "`exuvia extend` on a Go router's files", scenarios }
}

pub(super) fn doctor() -> Group {
    let scenarios = vec![
        Scenario::new(
            "foretells-what-happens",
            "what `exuvia doctor --ziti` foretells of a Go router's files comes true: C9 and C8 end the process, a `file:` address (B5) is never \
             renewed; an ordinary router gets the warning of A1 and no failure",
            foretells_what_happens,
        )
        .within(300, 300),
        Scenario::new(
            "transit-never-renews",
            "D1: `--extend` on a transit router changes nothing at the controller, as foretold",
            transit_never_renews,
        )
        .within(240, 240),
    ];
    Group { id: "doctor", title: "What `exuvia doctor --ziti` foretells of a Go router", scenarios }
}

fn before_the_start(bench: &Bench) -> Result<Shown> {
    let stock = Stock::edge(bench, false)?;
    let key = fs::read(stock.visitor.files.key())?;
    let mut slowest = Duration::ZERO;
    for _ in 0..3 {
        let before = stock.held()?;
        let began = Instant::now();
        // As the shipped drop-in says it. Where no further underlay can join a channel, the proof takes more than a minute.
        stock.exuvia_within(Duration::from_secs(200), "extend", &["--now", "--within", "60s"])?.ok()?;
        slowest = slowest.max(began.elapsed());
        ensure!(stock.held()? != before && stock.held()? == stock.admitted()?, "no new leaf");
        let go = stock.online(&[])?;
        stock.end(go, Signal::SIGTERM)?;
    }
    ensure!(fs::read(stock.visitor.files.key())? == key, "the key has changed");
    Ok(Shown::holds(format!("three renewals, the slowest in {:.1} s; online each time", slowest.as_secs_f32())))
}

fn beside_the_running_router(bench: &Bench) -> Result<Shown> {
    let stock = Stock::edge(bench, false)?;
    if !bench.has_groups() {
        return Ok(Shown::left_out(
            "without grouped channels the second channel and the proof are refused for a minute each",
        ));
    }
    let go = stock.online(&[])?;
    let before = stock.held()?;
    let refused = stock.exuvia("extend", &["--now"])?;
    ensure!(refused.code == Some(7), "{refused:?}");
    let began = Instant::now();
    let patience = Duration::from_secs(200);
    stock.exuvia_within(patience, "extend", &["--now", "--beside-running", "--within", "180s"])?.ok()?;
    let took = began.elapsed();
    // The churn limit, and a pause.
    ensure!(took < Duration::from_secs(100), "it took {took:?}");
    ensure!(stock.held()? != before && stock.held()? == stock.admitted()?, "no new leaf");
    let began = Instant::now();
    until("the Go router", rig::PATIENCE, || Ok((stock.listed()?["isOnline"] == true).then_some(())))
        .with_context(|| tail(&go))?;
    ensure!(go.status().is_none(), "the Go router ended: {}", tail(&go));
    let back = began.elapsed();
    stock.end(go, Signal::SIGTERM)?;
    Ok(Shown::holds(format!(
        "renewed {:.0} s after the order (the controller refuses a second channel for a minute); the same process is online again {:.1} s later",
        took.as_secs_f32(),
        back.as_secs_f32()
    )))
}

/// The findings that carry this id.
fn foretold(stock: &Stock, bench: &Bench, id: &str, level: &str) -> Result<()> {
    let ziti = bench.ziti.path().to_string_lossy().into_owned();
    let ran = stock.exuvia("doctor", &["--ziti", &ziti, "--json"])?;
    let told = ran.json()?;
    let all = told.as_array().map(Vec::as_slice).unwrap_or_default();
    let has_id = |finding: &&Value| finding["ids"].as_array().is_some_and(|ids| ids.iter().any(|known| known == id));
    let found = all.iter().find(has_id).with_context(|| format!("no finding {id} in {told:#}"))?;
    ensure!(found["level"] == level, "{found:#}");
    ensure!(ran.code == Some(if all.iter().any(|one| one["level"] == "fail") { 1 } else { 0 }), "{ran:?}");
    Ok(())
}

fn foretells_what_happens(bench: &Bench) -> Result<Shown> {
    let stock = Stock::edge(bench, false)?;
    let files = &stock.visitor.files;
    let config = fs::read_to_string(files.config())?;
    foretold(&stock, bench, "A1", "warn")?;

    // C9: a host that the certificate does not cover.
    let changed = config.replace("advertise: localhost:", "advertise: elsewhere.example.org:");
    ensure!(changed != config, "nothing is advertised in {config}");
    fs::write(files.config(), &changed)?;
    foretold(&stock, bench, "C9", "fail")?;
    let go = files.start(&["--extend"])?;
    let ended = go.wait(Duration::from_secs(30)).with_context(|| format!("C9: it runs: {}", tail(&go)))?;
    ensure!(!ended.success(), "C9: it ended with {ended}");

    // C8: no server certificate.
    let line = config.lines().find(|line| line.trim_start().starts_with("server_cert:")).context("no server_cert")?;
    fs::write(files.config(), config.replace(line, ""))?;
    foretold(&stock, bench, "C8", "fail")?;
    let go = files.start(&[])?;
    let c8 = go.wait(Duration::from_secs(60));
    let c8 = match c8 {
        Some(ended) if go.log().text().contains("index out of range") => format!("C8: index out of range, {ended}"),
        Some(ended) => {
            let text = go.log().text();
            let why = text.lines().find(|line| line.starts_with("panic")).unwrap_or("no panic");
            format!("C8: {why}, {ended}")
        }
        None => {
            go.kill();
            "C8: did not end within 60 s".to_owned()
        }
    };

    // B5: an address that is loaded and never written to.
    let cert = files.cert().display().to_string();
    fs::write(files.config(), config.replace(&cert, &format!("file://{cert}")))?;
    foretold(&stock, bench, "B5", "fail")?;
    let (admitted, held) = (stock.admitted()?, stock.held()?);
    let go = stock.online(&["--extend"])?;
    // Long enough for an extension, which takes a second here; this one never comes.
    let tried = go.wait(Duration::from_secs(20));
    ensure!(tried.is_none(), "B5: it ended: {}", tail(&go));
    ensure!((stock.admitted()?, stock.held()?) == (admitted, held), "B5: it was renewed");
    stock.end(go, Signal::SIGTERM)?;
    Ok(Shown::holds("C9: the process ends at its start; B5: online, never renewed; C8 as below").and(c8))
}

fn transit_never_renews(bench: &Bench) -> Result<Shown> {
    let stock = Stock::transit(bench)?;
    foretold(&stock, bench, "D1", "fail")?;
    let (admitted, held) = (stock.admitted()?, stock.held()?);
    let go = stock.online(&["--extend"])?;
    let ended = go.wait(Duration::from_secs(20));
    ensure!(ended.is_none(), "it ended: {}", tail(&go));
    ensure!((stock.admitted()?, stock.held()?) == (admitted, held), "it was renewed");
    stock.end(go, Signal::SIGTERM)?;
    Ok(Shown::holds("online with `--extend` for 20 s: the fingerprint and the files are the old ones"))
}
