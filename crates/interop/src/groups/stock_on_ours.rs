//! Routers of OpenZiti, unmodified, on our controller.

mod host;
mod links;
mod messages;
mod writes;

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use net::http::HttpClient;
use net::tls::ServerTrust;
use netfault::proxy::{Action, Message, Rule};
use pki::TrustBundle;
use rig::Process;
use serde_json::{Value, json};

use self::host::{EDGE, Guest, Host, KINDS, Make, Start, TRANSIT, last_words, said};
use super::site::until;
use crate::scenario::{Bench, Group, Scenario, Shown};

pub(super) fn group() -> Group {
    let scenarios = vec![
        Scenario::new(
            "stock-edge-online",
            "`ziti router enroll` and `run` with the file of `ziti create config router edge`: online and healthy for a minute (ten in a \
             long run) on one channel, without an error in its log",
            |bench| online(bench, EDGE),
        )
        .within(240, 900),
        Scenario::new("stock-transit-online", "the same for the file of `ziti create config router fabric`", |bench| {
            online(bench, TRANSIT)
        })
        .within(240, 900),
        Scenario::new(
            "stock-extends-at-every-start",
            "started with `--extend` and killed again and again: each start is let in with the leaf in its file, edge and transit; the \
             register stays small, also where no answer ever arrives",
            extends_at_every_start,
        )
        .within(300, 900),
        Scenario::new(
            "stock-rsa-keys",
            "routers with RSA keys of 4096 bits, the default of `ziti router enroll`, extend and are let in",
            rsa_keys,
        ),
        Scenario::new(
            "stock-router-killed",
            "killed at each message of its extension (20302, 20301, 20303, 20002), and started again with what is on its disk: let in",
            messages::router_killed,
        )
        .within(300, 900),
        Scenario::new(
            "stock-killed-between-writes",
            "killed at each change that it makes to its two files: let in, unless its own write in place has emptied a file",
            writes::killed_between_writes,
        )
        .within(420, 1200),
        Scenario::new(
            "stock-lost-and-late",
            "each message of the extension lost, and later than the router waits: it stays online, and is let in after a restart",
            messages::lost_and_late,
        )
        .within(300, 300),
        Scenario::new(
            "stock-controller-killed",
            "our controller killed at each message of the extension: the router reconnects by itself, and is let in after a restart",
            messages::controller_killed,
        )
        .within(480, 480),
        Scenario::new(
            "stock-revoked-and-back",
            "revoked: its channel ends and it is refused; enrolled anew with the same files: let in",
            revoked_and_back,
        )
        .within(240, 240),
        Scenario::new(
            "stock-short-leaves",
            "leaves that live no longer than the seven days before which it renews: it is held to one renewal in half a minute",
            short_leaves,
        ),
        Scenario::new(
            "stock-links",
            "told of each other, two routers link, and our controller is asked to vouch for the dialing one: it does, after an extension too, \
             and not for a revoked router",
            links::verified,
        )
        .within(240, 240),
    ];
    Group { id: "stock-on-ours", title: "Stock router, our controller", scenarios }
}

fn online(bench: &Bench, make: Make) -> Result<Shown> {
    let host = Host::start(bench, "h", None)?;
    let guest = host.created("r1", make)?;
    let web = with_health_checks(&guest)?;
    host.enroll(&guest)?;
    let process = host.online(&guest, &[])?;
    until("its health checks", Duration::from_secs(60), || Ok(is_healthy(&host, web)?.then_some(())))?;
    let channel = host.connection(&guest)?.context("its channel is gone")?;
    let stays = Duration::from_secs(if bench.is_long { 600 } else { 60 });
    let until_then = Instant::now() + stays;
    while Instant::now() < until_then {
        if let Some(status) = process.wait(Duration::from_secs(5)) {
            bail!("it ended with {status}: {}", last_words(&process));
        }
        let now = host.connection(&guest)?.context("its channel is gone")?;
        ensure!(now["since_unix_s"] == channel["since_unix_s"], "its channel was replaced: {channel} {now}");
    }
    ensure!(is_healthy(&host, web)?, "its own health checks fail");
    let underlays = host.connection(&guest)?.and_then(|now| now["underlays"].as_u64()).unwrap_or_default();
    ensure!(underlays == 2 || !bench.has_groups(), "{underlays} underlays");
    let warnings = complaints(&process, &["warning", "warn"]);
    let errors = complaints(&process, &["error", "fatal", "panic"]);
    ensure!(errors.is_empty(), "it logged errors: {errors:?}");
    let line = format!(
        "{} s on one channel, {underlays} underlays, healthy by its own checks, no error logged",
        stays.as_secs()
    );
    Ok(warnings.into_iter().fold(Shown::holds(line), |shown, warning| shown.and(format!("it warns: {warning}"))))
}

/// What a process logged at these levels, each once.
fn complaints(process: &Process, levels: &[&str]) -> BTreeSet<String> {
    let lines = process.log().since(rig::Mark::default());
    let wanted = lines.iter().filter(|line| levels.contains(&line.text_of("level")));
    wanted.map(|line| format!("{} {}", said(line), line.text_of("error")).trim().to_owned()).collect()
}

/// A section `web`, which the generated file does not have; gives its port.
fn with_health_checks(guest: &Guest) -> Result<u16> {
    let port = rig::free_port()?;
    let text = fs::read_to_string(guest.router.config())?;
    let web = format!(
        "web:\n  - name: health\n    bindPoints:\n      - interface: 127.0.0.1:{port}\n        address: localhost:{port}\n    apis:\n      \
         - binding: health-checks\n"
    );
    fs::write(guest.router.config(), format!("{text}\n{web}"))?;
    Ok(port)
}

fn is_healthy(host: &Host, port: u16) -> Result<bool> {
    let bundle = TrustBundle::from_pem(&fs::read(host.world.controller.home().join("ctl/pki/bundle.pem"))?)?;
    let client = HttpClient::new(ServerTrust::bundle(&bundle)?);
    let uri: http::Uri = format!("https://localhost:{port}/health-checks").parse()?;
    let request = http::Request::get(uri.clone()).body(bytes::Bytes::new())?;
    let asked = async move { client.connect(&uri).await?.send(request).await };
    // Not before it listens.
    let Ok(answer) = host.world.runtime.block_on(asked) else { return Ok(false) };
    let told: Value = serde_json::from_slice(&answer.body).context("its health checks are no JSON")?;
    Ok(told.pointer("/data/healthy") == Some(&Value::Bool(true)))
}

fn extends_at_every_start(bench: &Bench) -> Result<Shown> {
    let host = Host::start(bench, "h", None)?;
    let starts = if bench.is_long { 30 } else { 8 };
    let mut most = 0;
    for make in KINDS {
        let guest = host.guest(make.word(), make)?;
        for start in 0..starts {
            let process = host.online(&guest, &["--extend"]).with_context(|| format!("start {start}"))?;
            guest.until_extended(&process)?;
            if start % 2 == 1 {
                // The second underlay shows the new leaf five seconds after the start; the others are killed before.
                let leaf = guest.leaf()?;
                let used = || Ok(host.connection(&guest)?.filter(|now| now["leaf_sha256"] == *leaf).map(drop));
                if bench.has_groups() {
                    until("the use of the new leaf", Duration::from_secs(20), used)?;
                }
            }
            let presented = host.comes_back(&guest, process).with_context(|| format!("start {start}"))?;
            ensure!(presented == guest.leaf()?, "start {start} presented another leaf than its file's");
        }
        most = most.max(host.leaves(&guest)?);
        let settled = host.leaves(&guest)?;
        for _ in 0..starts {
            guest.way.arm([Rule::once(Message::Certs, Action::Drop)]);
            let process = host.online(&guest, &["--extend"])?;
            ensure!(guest.way.strikes_within(Duration::from_secs(45)), "it asks for nothing");
            host.comes_back(&guest, process)?;
        }
        let unanswered = host.leaves(&guest)?;
        ensure!(unanswered <= settled + 1, "{starts} unanswered requests left {unanswered} leaves of {settled}");
    }
    ensure!(most <= 10, "the register holds {most} leaves of one router");
    let line = format!(
        "{starts} starts of each kind; at most {most} leaves in the register; {starts} unanswered requests add one leaf"
    );
    Ok(Shown::holds(line))
}

fn rsa_keys(bench: &Bench) -> Result<Shown> {
    let host = Host::start(bench, "h", None)?;
    for make in KINDS {
        let guest = host.guest(make.word(), Make { keys: "RSA", ..make })?;
        let key = fs::read(guest.router.key())?;
        let before = guest.leaf()?;
        let process = host.online(&guest, &["--extend"])?;
        guest.until_extended(&process)?;
        let presented = host.comes_back(&guest, process)?;
        ensure!(presented != before && presented == guest.leaf()?, "it presented an old leaf");
        ensure!(fs::read(guest.router.key())? == key, "its key changed");
    }
    Ok(Shown::holds("an edge and a transit router; the key stays"))
}

fn revoked_and_back(bench: &Bench) -> Result<Shown> {
    let host = Host::start(bench, "h", None)?;
    let mut shown = Shown::holds("an edge and a transit router");
    for make in KINDS {
        let guest = host.guest(make.word(), make)?;
        let process = host.online(&guest, &[])?;
        let path = format!("/api/v1/routers/{}", guest.id);
        host.world.controller.ask("POST", &format!("{path}/revoke"), Some(&json!({})))?;
        until("the end of its channel", Duration::from_secs(5), || {
            Ok(host.connection(&guest)?.is_none().then_some(()))
        })?;
        host.kill(&guest, process)?;
        let told = match host.started_again(&guest, &[])? {
            Start::Admitted(..) => bail!("a revoked router was let in"),
            Start::Ended(told) => format!("ends: {told}"),
            Start::Refused(told) => format!("goes on trying: {told}"),
        };
        shown = shown.and(format!("{} router that is refused from its start {told}", make.word()));
        host.world.controller.ask("POST", &format!("{path}/re-enroll"), Some(&json!({})))?;
        host.enroll(&guest)?;
        let process = host.online(&guest, &["--extend"])?;
        guest.until_extended(&process)?;
        host.comes_back(&guest, process)?;
    }
    Ok(shown)
}

fn short_leaves(bench: &Bench) -> Result<Shown> {
    let host = Host::start(bench, "h", Some("10m"))?;
    let guest = host.guest("r1", EDGE)?;
    let process = host.online(&guest, &[])?;
    guest.until_extended(&process)?;
    if let Some(status) = process.wait(Duration::from_secs(20)) {
        bail!("it ended with {status}: {}", last_words(&process));
    }
    let lines = process.log().since(rig::Mark::default());
    let times = lines.iter().filter(|line| said(line).starts_with("enrollment extension done")).count();
    ensure!(times <= 2, "it renewed {times} times in 20 s");
    host.comes_back(&guest, process)?;
    Ok(Shown::holds(format!("{times} renewal in the first 20 s; unhindered it is hundreds a second")))
}
