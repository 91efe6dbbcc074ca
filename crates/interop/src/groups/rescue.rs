//! Go routers that a stock controller has locked out, and `exuvia rescue`.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use netfault::proxy::{Action, Message, Rule};
use nix::sys::signal::Signal;
use pki::Chain;
use rig::{Process, Ran, ZitiRouter, ZitiSettings};
use serde_json::Value;

use super::site::{Site, Visitor, until};
use crate::scenario::{Bench, Group, Scenario, Shown};

const PASSWORD: &str = "correct-horse-battery";
const FOR_EVER: Duration = Duration::from_secs(3_600);

pub(super) fn group() -> Group {
    let scenarios = vec![
        Scenario::new(
            "killed-before-the-write",
            "A1: a Go router is killed after the controller has promoted its new leaf and before it has written it; rescue fetches the leaf \
             from the controller, to which nothing changes, and the Go router runs again",
            killed_before_the_write,
        )
        .within(240, 240),
        Scenario::new(
            "lost-answer",
            "A2: the answer to the Go router's 20303 is lost; rescue fetches the leaf from the controller",
            lost_answer,
        )
        .within(300, 300),
        Scenario::new(
            "cut-to-nothing",
            "B1: promoted, and the certificate file is empty; rescue finds out which router it is and fetches the leaf",
            cut_to_nothing,
        )
        .within(240, 240),
        Scenario::new(
            "another-fingerprint",
            "the controller admits a leaf that nobody has any more, as after the restore of an older database: the fabric interface is told \
             the fingerprint of the leaf that is here; the Go router runs, and its own extension works afterwards",
            another_fingerprint,
        )
        .within(300, 300),
        Scenario::new(
            "another-fingerprint-transit",
            "the same for a transit router, which has no second enrollment",
            another_fingerprint_transit,
        )
        .within(240, 240),
        Scenario::new(
            "nothing-left",
            "the key is lost: an edge router is enrolled anew under its id; of a transit router it is said what remains, and nothing is done",
            nothing_left,
        )
        .within(300, 300),
    ];
    Group { id: "rescue", title: "A locked-out Go router on a stock controller, and `exuvia rescue`", scenarios }
}

/// A Go router's files that were enrolled by it, and what it is called.
pub(super) struct Stock {
    pub(super) site: Site,
    pub(super) visitor: Visitor,
    bench: Bench,
    collection: &'static str,
}

impl Stock {
    pub(super) fn edge(bench: &Bench, is_behind_proxy: bool) -> Result<Self> {
        let site = Site::with(bench, ZitiSettings { is_behind_proxy, ..ZitiSettings::default() })?;
        let visitor = site.stock("edge-1")?;
        Ok(Self { site, visitor, bench: bench.clone(), collection: "edge-routers" })
    }

    pub(super) fn transit(bench: &Bench) -> Result<Self> {
        let site = Site::with(bench, ZitiSettings::default())?;
        let jwt = site.network.cli().create_transit_router("core-1")?;
        let listed = site.network.cli().listed("transit-routers", "core-1")?;
        let id = listed["id"].as_str().ok_or_else(|| anyhow!("no id in {listed}"))?.to_owned();
        let files =
            ZitiRouter::transit(&bench.ziti, &bench.scratch.join("core-1"), "core-1", site.network.ctrl_port())?;
        files.enroll(&jwt)?.ok()?;
        let visitor = site.of_files(files, &id, &jwt, "")?;
        Ok(Self { site, visitor, bench: bench.clone(), collection: "transit-routers" })
    }

    pub(super) fn name(&self) -> &str {
        self.visitor.files.name()
    }

    pub(super) fn listed(&self) -> Result<Value> {
        self.site.network.cli().listed(self.collection, self.name())
    }

    /// SHA-1 of the leaf that the controller admits.
    pub(super) fn admitted(&self) -> Result<String> {
        let listed = self.listed()?;
        Ok(listed["fingerprint"].as_str().with_context(|| format!("no fingerprint in {listed}"))?.to_owned())
    }

    /// SHA-1 of the leaf in the configured file.
    pub(super) fn held(&self) -> Result<String> {
        let text = fs::read(self.visitor.files.cert())?;
        Ok(Chain::from_pem(&text)?.leaf().fingerprint_sha1().to_string())
    }

    /// Starts the Go router and waits until it is listed as online.
    pub(super) fn online(&self, flags: &[&str]) -> Result<Process> {
        let go = self.visitor.files.start_by(&self.visitor, flags)?;
        until("the Go router's control channel", rig::PATIENCE, || {
            ensure!(go.status().is_none(), "the Go router ended: {}", tail(&go));
            Ok((self.listed()?["isOnline"] == true).then_some(()))
        })
        .with_context(|| tail(&go))?;
        Ok(go)
    }

    /// Ends it, and waits until the controller knows.
    pub(super) fn end(&self, go: Process, signal: Signal) -> Result<()> {
        go.signal(signal);
        go.finish(rig::PATIENCE)?;
        for way in &self.visitor.ways {
            way.pass();
            way.sever();
        }
        until("its absence", rig::PATIENCE, || Ok((self.listed()?["isOnline"] != true).then_some(())))
    }

    /// A command about these files that takes no longer than anything else here.
    pub(super) fn exuvia(&self, word: &str, args: &[&str]) -> Result<Ran> {
        self.exuvia_within(rig::PATIENCE, word, args)
    }

    /// The same, with this patience.
    pub(super) fn exuvia_within(&self, patience: Duration, word: &str, args: &[&str]) -> Result<Ran> {
        let config = self.visitor.files.config().to_string_lossy().into_owned();
        let all = [&[word, &config][..], args].concat();
        let exuvia = self.bench.exuvia.clone().with_env("EXUVIA_PASSWORD", PASSWORD);
        let command = exuvia.command(self.visitor.files.folder(), all);
        let (status, stdout, log) = Process::start(&self.visitor, command)?.finish(patience)?;
        Ok(Ran { code: status.code(), stdout, stderr: log.text() })
    }

    fn rescue(&self, args: &[&str]) -> Result<Ran> {
        let url = format!("https://localhost:{}", self.site.network.node().api_port());
        self.exuvia("rescue", &[&["--url", &url, "--json", "--within", "150s"][..], args].concat())
    }

    /// The plan, which a dry run must not carry out.
    fn plan(&self, wanted: &str) -> Result<Value> {
        let before = (self.admitted().ok(), fs::read(self.visitor.files.cert()).ok());
        let ran = self.rescue(&[])?;
        ensure!(ran.code == Some(1), "{ran:?}");
        let told = ran.json()?;
        ensure!(told["plan"]["action"] == wanted, "{told:#}");
        ensure!(
            before == (self.admitted().ok(), fs::read(self.visitor.files.cert()).ok()),
            "a dry run changed something"
        );
        Ok(told)
    }

    /// Does it; the files hold what the controller admits, and the Go router runs with them.
    fn rescued(&self) -> Result<Duration> {
        let began = Instant::now();
        self.rescue(&["--apply"])?.ok().context("rescue --apply")?;
        let took = began.elapsed();
        ensure!(self.held()? == self.admitted()?, "the files hold {}, admitted is {}", self.held()?, self.admitted()?);
        let go = self.online(&[]).context("after the rescue")?;
        self.end(go, Signal::SIGTERM)?;
        Ok(took)
    }

    /// The Go router is refused with what it has.
    fn is_locked_out(&self) -> Result<()> {
        let (held, admitted) = (self.held().unwrap_or_default(), self.admitted()?);
        ensure!(held != admitted, "it is not locked out: {held}");
        Ok(())
    }
}

pub(super) fn tail(process: &Process) -> String {
    let text = process.log().text();
    let lines: Vec<&str> = text.lines().collect();
    format!("the Go router said: {}", lines.get(lines.len().saturating_sub(6)..).unwrap_or_default().join(" / "))
}

/// The Go router extends, and this becomes of the answer to its 20303; it is killed when the controller has promoted its leaf.
fn promoted_unheard(stock: &Stock, action: Action, and_then: impl FnOnce(&Process) -> Result<()>) -> Result<String> {
    let before = stock.admitted()?;
    let way = stock.visitor.ways.first().context("no proxy stands here")?;
    way.arm([Rule { message: Message::Confirmation, action, after: 0, times: 1 }]);
    let go = stock.visitor.files.start_by(&stock.visitor, &["--extend"])?;
    let promoted = until("the promotion", rig::PATIENCE, || {
        let now = stock.admitted()?;
        Ok((now != before).then_some(now))
    })
    .with_context(|| tail(&go))?;
    and_then(&go)?;
    stock.end(go, Signal::SIGKILL)?;
    ensure!(stock.held()? == before, "the Go router has written its file");
    stock.is_locked_out()?;
    Ok(promoted)
}

fn killed_before_the_write(bench: &Bench) -> Result<Shown> {
    let stock = Stock::edge(bench, true)?;
    let promoted = promoted_unheard(&stock, Action::Delay(FOR_EVER), |_| Ok(()))?;
    // It is refused, as the defect says: never online within the 30 s after which it gives up.
    let go = stock.visitor.files.start_by(&stock.visitor, &[])?;
    let ended = go.wait(Duration::from_secs(50));
    ensure!(stock.listed()?["isOnline"] != true, "it is not locked out");
    stock.end(go, Signal::SIGKILL)?;
    let told = stock.plan("fetch")?;
    ensure!(told["plan"]["at_the_controller"] == "nothing", "{told:#}");
    let took = stock.rescued()?;
    ensure!(stock.admitted()? == promoted, "the controller was changed");
    let gave_up = if ended.is_some() { "gave up by itself" } else { "went on trying" };
    Ok(Shown::holds(format!(
        "locked out (the Go router {gave_up}); fetched from the controller, nothing changed there; rescued in {:.1} s; the Go router runs",
        took.as_secs_f32()
    )))
}

fn lost_answer(bench: &Bench) -> Result<Shown> {
    let stock = Stock::edge(bench, true)?;
    promoted_unheard(&stock, Action::Drop, |go| {
        // It waits for the answer for 30 s, and throws the new leaf away.
        let gave_up = go.log().wait(rig::Mark::default(), Duration::from_secs(60), |line| {
            (line.text.contains("verif") && (line.text.contains("timeout") || line.text.contains("timed out")))
                .then_some(())
        });
        ensure!(gave_up.is_some() || go.status().is_none(), "{}", tail(go));
        Ok(())
    })?;
    stock.plan("fetch")?;
    let took = stock.rescued()?;
    Ok(Shown::holds(format!(
        "locked out; fetched from the controller; rescued in {:.1} s; the Go router runs",
        took.as_secs_f32()
    )))
}

fn cut_to_nothing(bench: &Bench) -> Result<Shown> {
    let stock = Stock::edge(bench, true)?;
    promoted_unheard(&stock, Action::Delay(FOR_EVER), |_| Ok(()))?;
    // What its own rewriting leaves between cutting and writing.
    fs::File::create(stock.visitor.files.cert())?;
    let told = stock.plan("fetch")?;
    ensure!(told["remarks"].to_string().contains("is empty"), "{told:#}");
    let took = stock.rescued()?;
    Ok(Shown::holds(format!(
        "the router was recognized by its server certificate; fetched; rescued in {:.1} s; the Go router runs",
        took.as_secs_f32()
    )))
}

/// Another fingerprint in the controller's database.
fn displace(stock: &Stock) -> Result<()> {
    let name = stock.name().to_owned();
    let other = "00112233445566778899aabbccddeeff00112233";
    stock.site.network.cli().run(&["fabric", "update", "router", &name, "--fingerprint", other])?.ok()?;
    ensure!(stock.admitted()? == other, "the fingerprint was not set");
    Ok(())
}

fn another_fingerprint(bench: &Bench) -> Result<Shown> {
    let stock = Stock::edge(bench, false)?;
    // The copy that the controller keeps is then of no use either: it is of a leaf with another fingerprint.
    displace(&stock)?;
    let held = stock.held()?;
    stock.plan("vouch")?;
    let took = stock.rescued()?;
    ensure!(stock.admitted()? == held && stock.held()? == held, "another leaf than the one that was here");
    // OpenZiti's own extension looks the router up by the fingerprint, and needs nothing else of what is stored.
    let go = stock.online(&["--extend"])?;
    until("the Go router's own extension", Duration::from_secs(60), || {
        Ok(stock.held().ok().filter(|now| *now != held && stock.admitted().ok().as_ref() == Some(now)))
    })
    .with_context(|| tail(&go))?;
    stock.end(go, Signal::SIGTERM)?;
    Ok(Shown::holds(format!(
        "PATCH /fabric/v1/routers/ID; rescued in {:.1} s; the Go router runs and extends by itself",
        took.as_secs_f32()
    )))
}

fn another_fingerprint_transit(bench: &Bench) -> Result<Shown> {
    let stock = Stock::transit(bench)?;
    displace(&stock)?;
    stock.plan("vouch")?;
    let took = stock.rescued()?;
    Ok(Shown::holds(format!("PATCH /fabric/v1/routers/ID; rescued in {:.1} s; the Go router runs", took.as_secs_f32())))
}

fn nothing_left(bench: &Bench) -> Result<Shown> {
    let stock = Stock::edge(bench, false)?;
    let id = stock.visitor.files.id()?;
    fs::remove_file(stock.visitor.files.key())?;
    stock.plan("re_enroll")?;
    let took = stock.rescued()?;
    ensure!(stock.visitor.files.id()? == id, "another id");
    let core = Stock::transit(&Bench { scratch: bench.scratch.join("t"), ..bench.clone() })?;
    fs::remove_file(core.visitor.files.key())?;
    let before = core.admitted()?;
    let ran = core.rescue(&["--apply"])?;
    ensure!(ran.code == Some(6) && ran.stderr.contains("cannot enroll twice"), "{ran:?}");
    ensure!(core.admitted()? == before, "the controller was changed");
    Ok(Shown::holds(format!(
        "edge: enrolled anew under the same id in {:.1} s, the Go router runs; transit: refused with what remains, nothing changed",
        took.as_secs_f32()
    )))
}
