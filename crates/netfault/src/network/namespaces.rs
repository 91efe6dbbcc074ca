//! The layer `namespaces`: real network stacks that lose, reject and cut.
//!
//! Router and controller are in a network namespace each, with a veth pair between them and nothing else: no packet leaves the machine.
//! Each fault is put on while a renewal is ordered, and taken away again: then the router must renew, and, killed and started anew, come
//! online. Or it is killed under the fault, and must do both afterwards.

mod control;
mod fault;
mod hosts;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use evidence::{Evidence, Plan, Skip};
use rig::{Controller, ControllerSettings, Exuvia, Router, RouterSettings, Running, Verdict};

use super::world::impatient;
use crate::proxy::locked;
use fault::Fault;
use hosts::Hosts;

/// Pairs of hosts at work at once. They wait most of the time.
const PAIRS: usize = 6;
/// How long a fault stays: longer than every wait of a router here, so that it fails and is trying again.
const LASTS: Duration = Duration::from_millis(2_200);
const STRIKES_WITHIN: Duration = Duration::from_secs(8);
/// A renewal that is under way when the way is free again ends within this time; TCP itself may pause for some seconds.
const RENEWS_WITHIN: Duration = Duration::from_secs(30);

pub(super) fn probe() -> Vec<Skip> {
    hosts::probe()
}

pub(super) fn run(plan: &Plan) -> Evidence {
    let mut evidence = Evidence::default();
    if !probe().is_empty() {
        return evidence;
    }
    if let Err(error) = run_all(plan, &mut evidence) {
        evidence.failed(format!("the layer could not be run: {error:#}"), "cargo xtask proof --only namespaces");
    }
    evidence
}

fn run_all(plan: &Plan, evidence: &mut Evidence) -> Result<()> {
    hosts::sweep();
    // The thread that starts processes must be born outside of every namespace that is made here.
    Exuvia::new(&plan.exuvia).run(&plan.scratch, ["--version"])?.ok()?;
    let began = Instant::now();
    let only = std::env::var("EXUVIA_SCENARIO").ok();
    let rounds = if plan.is_long { 6 } else { 1 };
    let mut scenarios: Vec<Scenario> = Vec::new();
    for _ in 0..rounds {
        for fault in Fault::all() {
            scenarios.extend([false, true].map(|is_killed| Scenario { fault, is_killed }));
        }
    }
    scenarios.retain(|scenario| only.as_ref().is_none_or(|only| scenario.to_string() == *only));
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(Scenario, Outcome)>> = Mutex::default();
    let errors: Mutex<Vec<anyhow::Error>> = Mutex::default();
    let judged = std::thread::scope(|scope| {
        let has_controls = only.as_ref().is_none_or(|only| only == "controls");
        let judging = has_controls.then(|| scope.spawn(|| control::judge_all(plan)));
        for number in 0..PAIRS.min(scenarios.len()) {
            let (next, done, errors, scenarios) = (&next, &done, &errors, &scenarios);
            // A thread of its own for each pair: a thread is in one namespace.
            scope.spawn(move || {
                let result = Site::new(plan, number).and_then(|mut site| {
                    while let Some(scenario) = scenarios.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let outcome = site.meet(*scenario)?;
                        locked(done).push((*scenario, outcome));
                    }
                    Ok(())
                });
                if let Err(error) = result {
                    locked(errors).push(error);
                }
            });
        }
        judging.map(|judging| judging.join().unwrap_or_else(|_| Err(anyhow!("the controls panicked"))))
    });
    if let Some(error) = locked(&errors).pop() {
        return Err(error);
    }
    let done = std::mem::take(&mut *locked(&done));
    evidence.tried("network faults between two network stacks, router living on or killed", done.len() as u64);
    for (scenario, outcome) in &done {
        let replay = format!("EXUVIA_SCENARIO='{scenario}' cargo xtask proof --only namespaces");
        if let Some(broke) = &outcome.broke {
            evidence.failed(format!("{scenario}: {broke}"), replay);
        } else if !outcome.struck {
            evidence.failed(format!("{scenario}: not one packet met the fault"), replay);
        }
        super::messages::count(evidence, "exuvia", &format!("network: {}", scenario.fault.group()), outcome.locked_out);
    }
    if let Some(judged) = judged {
        control::report(&judged?, evidence);
    }
    evidence.leave_out(
        "fixed delay, reordering and duplication in the network stack",
        "tc's netem is not in every kernel; our own proxy does all three in the layer `messages`",
    );
    evidence.notes.push(format!(
        "{} faults, each with the router living on and killed under it, in {:.0} s with {PAIRS} pairs of namespaces at once.",
        Fault::all().len(),
        began.elapsed().as_secs_f32()
    ));
    Ok(())
}

/// One fault in the life of one router.
#[derive(Clone, Copy, Debug)]
struct Scenario {
    fault: Fault,
    is_killed: bool,
}

impl std::fmt::Display for Scenario {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", self.fault, if self.is_killed { "; killed under it" } else { "" })
    }
}

#[derive(Debug)]
struct Outcome {
    struck: bool,
    broke: Option<String>,
    locked_out: bool,
}

/// A controller in one namespace and a router in the other. Its thread lives where the controller is.
struct Site {
    hosts: Hosts,
    controller: Controller,
    router: Router,
    running: Option<Running>,
}

impl Site {
    fn new(plan: &Plan, number: usize) -> Result<Self> {
        let hosts = Hosts::new(number)?;
        hosts.enter_the_controllers()?;
        let exuvia = Exuvia::new(&plan.exuvia);
        let settings = ControllerSettings {
            listen: hosts.controller_address().to_owned(),
            address: hosts.controller_address().to_owned(),
            ..ControllerSettings::default()
        };
        let home = plan.scratch.join(format!("namespaces-{number}"));
        let in_controllers = exuvia.clone().through(hosts.in_the_controllers());
        let mut controller = Controller::start(&in_controllers, &home, settings)?;
        controller.start_routers_as(exuvia.through(hosts.in_the_routers()));
        let router = controller.created("edge", &home.join("edge"), &RouterSettings::default())?;
        impatient(&router, 8_443)?;
        router.enroll()?.ok()?;
        let running = router.online()?;
        Ok(Self { hosts, controller, router, running: Some(running) })
    }

    fn meet(&mut self, scenario: Scenario) -> Result<Outcome> {
        let running = match self.running.take() {
            Some(running) => running,
            None => self.router.online().context("a router could not be put to work again")?,
        };
        let mark = running.log().mark();
        let put = scenario.fault.put(&self.hosts, self.controller.ctrl_port())?;
        // An order is lost where the fault is total; the router is told again below.
        running.order_renewal()?;
        running.log().wait(mark, LASTS, |line| {
            // What the fault does not hinder is over sooner.
            (line.event() == "promoted" && !scenario.fault.lasts()).then_some(())
        });
        let deadline = Instant::now() + STRIKES_WITHIN;
        while !put.struck()? && Instant::now() < deadline {
            // A quota that one renewal does not use up.
            let again = running.log().mark();
            running.order_renewal()?;
            running.log().event(again, Duration::from_millis(500), &["promoted"]);
        }
        let struck = put.struck()?;
        let mut broke = None;
        let mut locked_out = false;
        if scenario.is_killed {
            drop(running.kill());
            put.remove()?;
        } else {
            put.remove()?;
            broke = renewed(&running, mark).err().map(|error| format!("{error:#}"));
            if broke.is_none() {
                broke = running.log().panic().map(|line| format!("panicked: {line}"));
            }
            drop(running.kill());
        }
        let (judged, running) = self.router.judge_and_keep(&rig::Direct, scenario.is_killed);
        if !judged.is_usable() {
            broke = broke.or_else(|| Some(judged.brief()));
            locked_out = !matches!(judged.verdict, Verdict::NotRenewing { .. } | Verdict::Usable { .. });
            if locked_out {
                bail!("{scenario}: {}", judged.brief());
            }
        }
        self.running = running;
        Ok(Outcome { struck, broke, locked_out })
    }
}

/// The attempt that was ordered ends well, or the next one does.
fn renewed(running: &Running, since: rig::Mark) -> Result<()> {
    let deadline = Instant::now() + RENEWS_WITHIN;
    let mut mark = since;
    loop {
        if running.log().event(mark, Duration::from_secs(3), &["promoted"]).is_some() {
            return Ok(());
        }
        ensure!(!running.log().is_over(), "ended by itself");
        let text = || anyhow!("does not renew within {} s:\n{}", RENEWS_WITHIN.as_secs(), running.log().text());
        ensure!(Instant::now() < deadline, text());
        mark = running.log().mark();
        // An order that was lost with the fault is given again.
        let _ = running.order_renewal();
    }
}
