//! The layer `attack`: somebody who means harm, against the real controller, and a real router whose controller means harm.
//!
//! Routers renew all the time, first in peace, then under each attack, then in peace again. Their channels must stay, their renewals must end,
//! and the controller's memory must stay within what its limits add up to. The control is the same program with its limits turned up
//! through its own configuration: what the check watches must be seen to grow.

mod flood;
mod host;
mod keys;
mod load;
mod usage;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use evidence::{Control, Evidence, Lane, Layer, Plan, Skip};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rig::{Controller, ControllerSettings, Exuvia, Running};

use flood::{Attack, Scene};
use load::Latencies;
use usage::Usage;

/// Half-open connections that attackers have or ask for, all the time.
const HALF_OPEN: usize = 10_000;
/// Open files that this needs in each process: the connections, and what it has anyway.
const FILES: u64 = 12_000;
/// Routers that renew meanwhile.
const ROUTERS: usize = 4;

/// Time for opening all of them.
const HOLDING: Duration = Duration::from_secs(60);

/// Memory that an attack may cost the controller, in MiB, beyond what it held before; from the documented defaults of
/// `docs/operating/configuration.md`. Before the hello: `limits.handshakes` (512) times five (four that have said nothing for each one in
/// its handshake) times 64 KiB, which is what the TLS library buffers of a handshake at most, twice, because a growing buffer is copied.
const BEFORE_HELLO_MIB: u64 = 512 * 5 * 2 * 64 / 1024;
/// REST: `limits.apiConnections` (2048) times 64 KiB of a request's head, and `limits.bodiesBytes` (64 MiB) twice, because a growing
/// buffer is copied.
const REST_MIB: u64 = 2048 * 64 / 1024 + 2 * 64;

/// The layer.
pub fn layers() -> Vec<Layer> {
    vec![Layer {
        id: "attack",
        title: "Under attack: half-open connections, floods and lies, against both programs",
        lane: Lane::Waiting,
        probe,
        run,
    }]
}

fn probe() -> Vec<Skip> {
    match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((_, most)) if most < FILES => vec![Skip {
            what: format!("{HALF_OPEN} half-open connections"),
            why: format!("a process may open {most} files here, {FILES} are needed (`ulimit -Hn`)"),
        }],
        _ => Vec::new(),
    }
}

fn run(plan: &Plan) -> Evidence {
    let mut evidence = Evidence { seed: Some(plan.seed), ..Evidence::default() };
    if let Err(error) = against_controller(plan, &mut evidence) {
        evidence.failed(format!("the attacks on the controller could not be run: {error:#}"), replay());
    }
    if let Err(error) = host::against_router(plan, &mut evidence) {
        evidence.failed(format!("the attacks on the router could not be run: {error:#}"), replay());
    }
    evidence
}

fn replay() -> &'static str {
    "cargo xtask proof --only attack"
}

/// What the attackers need to know of their victim.
fn scene(controller: &Controller, strangers: &rig::Router) -> Result<Arc<Scene>> {
    Ok(Arc::new(Scene {
        control: ([127, 0, 0, 1], controller.ctrl_port()).into(),
        api: ([127, 0, 0, 1], controller.api_port()).into(),
        keys: keys::Foreign::make(&controller.home().join("ctl/pki"), strangers)?,
    }))
}

fn against_controller(plan: &Plan, evidence: &mut Evidence) -> Result<()> {
    raise_open_files();
    let exuvia = Exuvia::new(&plan.exuvia);
    let home = plan.scratch.join("attacked");
    let controller = Controller::start(&exuvia, &home, ControllerSettings::default())?;
    let pid = controller.pid().context("the controller does not run")?;
    let mut running = Vec::new();
    for number in 0..ROUTERS {
        running.push(controller.enrolled(&format!("r{number}"), &home.join(format!("r{number}")))?.online()?);
    }
    // Whose leaf the attackers have: an enrolled router that does not run.
    let stolen = controller.enrolled("stolen", &home.join("stolen"))?;
    let scene = scene(&controller, &stolen)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let each = Duration::from_secs(if plan.is_long { 120 } else { 5 });

    load::renewing(&running, each / 2);
    let calm = load::renewing(&running, each);
    let mut table = String::from(
        "| attack | attempts | at once | renewals | p50, ms | p99, ms | p99 against peace | memory grew, MiB | allowed |\n|---|---|---|---|---|---|---|---|---|",
    );
    row(&mut table, "none", 0, 0, &calm, &calm, 0, 0);
    let mut all = Latencies::default();
    for attack in Attack::ALL {
        let usage = Usage::begin(pid)?;
        let marks: Vec<_> = running.iter().map(|router| router.log().mark()).collect();
        let under_way = flood::start(&runtime, attack, scene.clone());
        let busy = load::renewing(&running, each);
        let (attempts, at_once) = (under_way.attempts.load(Ordering::Relaxed), under_way.most.load(Ordering::Relaxed));
        under_way.stop(&runtime);
        let grew = usage.grew_mib()?;
        let allowed = if attack.is_rest() { REST_MIB } else { BEFORE_HELLO_MIB };
        row(&mut table, attack.name(), attempts, at_once, &busy, &calm, grew, allowed);
        evidence.tried(format!("attempts: {}", attack.name()), attempts);
        evidence.tried(format!("renewals under: {}", attack.name()), busy.count());
        let name = attack.name();
        if attempts == 0 {
            evidence.failed(format!("`{name}` did not happen"), replay());
        }
        // The controller lets go of most of them; each is opened again a second later.
        if attack == Attack::HalfOpen && attempts < HALF_OPEN as u64 {
            evidence.failed(format!("`{name}`: only {attempts} connections were opened"), replay());
        }
        if grew > allowed {
            evidence.failed(format!("`{name}`: the controller grew by {grew} MiB, {allowed} are allowed"), replay());
        }
        if busy.count() == 0 || !busy.failed.is_empty() {
            let why = busy.failed.first().map_or("no renewal ended", String::as_str);
            evidence.failed(format!("`{name}`: routers do not renew: {why}"), replay());
        }
        for (router, mark) in running.iter().zip(marks) {
            let lost =
                router.log().since(mark).into_iter().find(|line| matches!(line.event(), "disconnected" | "lapsed"));
            if let Some(line) = lost {
                evidence.failed(format!("`{name}`: a router lost its channel: {}", line.text), replay());
            }
        }
        all.add(busy);
    }
    let after = load::renewing(&running, each / 2);
    row(&mut table, "none, afterwards", 0, 0, &after, &calm, 0, 0);
    evidence.notes.push(table);
    evidence.notes.push(format!(
        "{ROUTERS} real routers renewed without a pause; attackers, controller and routers shared this machine's processors. Over all attacks the median \
         renewal took {:.1} times as long as in peace, and the 99th percentile {:.1} times.",
        all.ratio(&calm, 50),
        all.ratio(&calm, 99),
    ));
    if let Some(panic) = controller.with_process(|process| process.log().panic()).flatten() {
        evidence.failed(format!("the controller panicked: {panic}"), replay());
    }
    end(running, evidence);
    controller.stop()?;
    drop(controller);
    without_limits(plan, &runtime, evidence)
}

fn end(running: Vec<Running>, evidence: &mut Evidence) {
    for router in running {
        match router.stop() {
            Ok(log) if log.panic().is_some() => {
                evidence.failed(format!("a router panicked: {}", log.panic().unwrap_or_default()), replay());
            }
            Ok(_) => {}
            Err(error) => evidence.failed(format!("a router did not end well: {error:#}"), replay()),
        }
    }
}

/// The same attack on a controller whose configuration allows everything: it must be seen to hold what the other one let go, all of it at once.
/// Routers renew there too, although nobody promised that.
fn without_limits(plan: &Plan, runtime: &tokio::runtime::Runtime, evidence: &mut Evidence) -> Result<()> {
    let exuvia = Exuvia::new(&plan.exuvia);
    let home = plan.scratch.join("unlimited");
    let settings = "  limits:\n    handshakes: 1000000\n    handshakeTimeout: 120s\n".to_owned();
    let controller =
        Controller::start(&exuvia, &home, ControllerSettings { settings, ..ControllerSettings::default() })?;
    let stolen = controller.enrolled("stolen", &home.join("stolen"))?;
    let running = vec![controller.enrolled("r0", &home.join("r0"))?.online()?];
    let calm = load::renewing(&running, Duration::from_secs(1));
    let usage = Usage::begin(controller.pid().context("the controller does not run")?)?;
    let under_way = flood::start(runtime, Attack::HalfOpen, scene(&controller, &stolen)?);
    let until = Instant::now() + HOLDING;
    let held = || under_way.most.load(Ordering::Relaxed);
    while Instant::now() < until && (held() < HALF_OPEN || usage.grew_mib()? <= BEFORE_HELLO_MIB) {
        std::thread::sleep(Duration::from_millis(100));
    }
    let busy = load::renewing(&running, Duration::from_secs(2));
    let (connections, grew) = (held(), usage.grew_mib()?);
    under_way.stop(runtime);
    evidence.tried("half-open connections held at once, where the configuration allows so many", connections as u64);
    if connections < HALF_OPEN {
        evidence.failed(format!("only {connections} half-open connections were held at once"), replay());
    }
    if busy.count() == 0 {
        let why = busy.failed.first().map_or("no renewal ended", String::as_str);
        evidence.failed(format!("with {connections} half-open connections a router does not renew: {why}"), replay());
    }
    evidence.notes.push(format!(
        "With its limits turned up a controller held {connections} half-open connections at once, grew by {grew} MiB for it, and a router renewed {} times meanwhile, in \
         {:.0} ms by the median ({:.1} times as long as in peace). With the usual limits the attackers have as many sockets, and the controller lets go of \
         all but {} of them.",
        busy.count(),
        busy.percentile_ms(50),
        busy.ratio(&calm, 50),
        512 * 5,
    ));
    evidence.controls.push(Control {
        name: "a controller whose configuration allows a million handshakes of two minutes".to_owned(),
        is_wrong: true,
        caught: u64::from(grew > BEFORE_HELLO_MIB),
        states: 1,
        example: Some(format!(
            "{connections} half-open connections made it grow by {grew} MiB; {BEFORE_HELLO_MIB} are allowed with the usual limits"
        )),
    });
    end(running, evidence);
    controller.stop()?;
    Ok(())
}

fn raise_open_files() {
    if let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // Where this fails the attack says how many connections it had.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, most, most);
    }
}

#[expect(clippy::too_many_arguments, reason = "a row has as many cells")]
fn row(
    table: &mut String,
    name: &str,
    attempts: u64,
    at_once: usize,
    busy: &Latencies,
    calm: &Latencies,
    grew: u64,
    allowed: u64,
) {
    use std::fmt::Write as _;
    let _ = write!(
        table,
        "\n| {name} | {attempts} | {at_once} | {} | {:.0} | {:.0} | {:.1} | {grew} | {allowed} |",
        busy.count(),
        busy.percentile_ms(50),
        busy.percentile_ms(99),
        busy.ratio(calm, 99),
    );
}
