//! The real program with one call refused, then with a healthy disk.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use anyhow::{Result, bail};
use rig::{PATIENCE, Ran, Router, RouterSettings, Running};

use crate::killed::{Outcome, Stage, Tally};
use crate::trace::{Call, Fault, Tracer};

/// What the router is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scenario {
    /// `router enroll` with a fresh token.
    Enroll,
    /// A renewal with new keys, ordered from a running router.
    Renewal,
    /// A renewal that keeps the key and is copied to the configured paths.
    ProjectedRenewal,
    /// A start on an intact store.
    Start,
}

pub(crate) const SCENARIOS: [Scenario; 4] =
    [Scenario::Enroll, Scenario::Renewal, Scenario::ProjectedRenewal, Scenario::Start];

impl Scenario {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Enroll => "enrollment",
            Self::Renewal => "renewal with new keys",
            Self::ProjectedRenewal => "renewal with copies at the configured paths",
            Self::Start => "start",
        }
    }

    fn settings(self) -> RouterSettings {
        match self {
            Self::Renewal => RouterSettings::bare(),
            Self::Enroll | Self::ProjectedRenewal | Self::Start => RouterSettings::projected(),
        }
    }
}

/// A worker's own routers, each with its chain of renewals.
pub(crate) struct Actor<'a> {
    stage: &'a Stage,
    reactions: &'a Mutex<BTreeMap<&'static str, u64>>,
    chains: BTreeMap<Scenario, Router>,
    /// A router that runs from case to case, and its tracer.
    running: BTreeMap<Scenario, (Running, Tracer)>,
}

impl<'a> Actor<'a> {
    pub(crate) fn new(stage: &'a Stage, reactions: &'a Mutex<BTreeMap<&'static str, u64>>) -> Self {
        Self { stage, reactions, chains: BTreeMap::new(), running: BTreeMap::new() }
    }

    fn chain(&mut self, scenario: Scenario) -> Result<Router> {
        if let Some(router) = self.chains.get(&scenario) {
            return Ok(router.clone());
        }
        let router = match scenario {
            // Few generations: every file of every one is read, and read in the same way.
            Scenario::Start => self.stage.renewed(&scenario.settings(), 2)?,
            Scenario::Enroll | Scenario::Renewal | Scenario::ProjectedRenewal => {
                self.stage.seasoned(&scenario.settings())?
            }
        };
        self.chains.insert(scenario, router.clone());
        Ok(router)
    }

    fn note(&self, reaction: &'static str) {
        *self.reactions.lock().unwrap_or_else(PoisonError::into_inner).entry(reaction).or_default() += 1;
    }

    /// The calls of a whole run without a fault.
    pub(crate) fn calls(&mut self, scenario: Scenario) -> Result<Vec<Call>> {
        match scenario {
            Scenario::Enroll => {
                let router = self.stage.created(&scenario.settings())?;
                let tracer = Tracer::new([router.folder().to_owned()], Fault::Nothing);
                router.enroll_by(&tracer)?.ok()?;
                Ok(tracer.calls())
            }
            Scenario::Renewal | Scenario::ProjectedRenewal => {
                let (running, tracer) = self.take_running(scenario)?;
                tracer.arm_anew(Fault::Nothing);
                renew_once(scenario, &running)?;
                tracer.disarm();
                Ok(tracer.calls())
            }
            Scenario::Start => {
                let router = self.chain(scenario)?;
                let tracer = Tracer::new([router.folder().to_owned()], Fault::Nothing);
                let running = router.start_by(&tracer)?;
                running.until_online()?;
                let _ = running.status()?;
                tracer.disarm();
                Ok(tracer.calls())
            }
        }
    }

    /// Refuses a call, then demands that nothing is lost. `salt` chooses what is not given.
    pub(crate) fn refuse(&mut self, scenario: Scenario, fault: Fault, salt: u64, tally: &Tally) -> Result<Outcome> {
        let outcome = match scenario {
            Scenario::Enroll => self.enroll(scenario, fault, tally),
            Scenario::Renewal | Scenario::ProjectedRenewal => self.renewal(scenario, fault, salt, tally),
            Scenario::Start => self.start(scenario, fault, tally),
        };
        if !matches!(outcome, Ok(Outcome::Held | Outcome::Missed)) {
            // What broke once would break everything after it.
            self.chains.remove(&scenario);
            self.running.remove(&scenario);
        }
        outcome
    }

    fn enroll(&mut self, scenario: Scenario, fault: Fault, tally: &Tally) -> Result<Outcome> {
        let router = self.stage.created(&scenario.settings())?;
        let tracer = Tracer::new([router.folder().to_owned()], fault);
        let ran = router.enroll_by(&tracer)?;
        let Some(call) = tracer.harmed() else { return Ok(Outcome::Missed) };
        if let Some(why) = unclear(&ran) {
            return Ok(Outcome::Broke(format!("`{call}` refused: {why}")));
        }
        let is_enrolled = ran.code == Some(0);
        self.note(if is_enrolled { "enrolled all the same" } else { "did not enroll, and said why" });
        let mut judged = router.judge();
        if !is_enrolled && matches!(judged.verdict, rig::Verdict::CannotStart { .. }) {
            let again = router.enroll()?;
            if again.code != Some(0) {
                let why =
                    format!("`{call}` refused: {}; and again the enrollment fails: {}", judged.brief(), again.stderr);
                return Ok(Outcome::Broke(why));
            }
            judged = router.judge();
        }
        tally.judged(judged.took);
        if judged.is_usable() {
            return Ok(Outcome::Held);
        }
        Ok(Outcome::Broke(format!("`{call}` refused, enrolled: {is_enrolled}: {}", judged.brief())))
    }

    /// A running router that is admitted and whose tracer is not armed.
    fn take_running(&mut self, scenario: Scenario) -> Result<(Running, Tracer)> {
        if let Some(running) = self.running.remove(&scenario) {
            return Ok(running);
        }
        let router = self.chain(scenario)?;
        let tracer = Tracer::new([router.folder().to_owned()], Fault::Nothing).disarmed();
        let running = router.start_by(&tracer)?;
        running.until_online()?;
        Ok((running, tracer))
    }

    fn renewal(&mut self, scenario: Scenario, fault: Fault, salt: u64, tally: &Tally) -> Result<Outcome> {
        let (running, tracer) = self.take_running(scenario)?;
        tracer.arm_anew(fault);
        let renewed = renew_once(scenario, &running);
        // A fault that stays stays a while: the router has seen it more than once when it is over.
        let Some(call) = tracer.harmed() else {
            tracer.disarm();
            renewed?;
            self.running.insert(scenario, (running, tracer));
            return Ok(Outcome::Missed);
        };
        self.note(match &renewed {
            Ok(true) => "renewed all the same",
            Ok(false) => "did not renew at once, and said why",
            Err(_) => "ended",
        });
        let broke = |why: &str| Ok(Outcome::Broke(format!("`{call}` refused: {why}")));
        if let Some(line) = running.log().panic() {
            return broke(&format!("it panicked: {line}"));
        }
        if let Err(error) = renewed {
            return broke(&brief(&error));
        }
        if running.process().status().is_some() {
            return broke(&format!("the daemon ended: {}", running.log().text()));
        }
        if salt.is_multiple_of(2) {
            // The disk is healthy again: the same process goes on.
            tracer.disarm();
            if let Err(error) = running.renew() {
                return broke(&format!("the disk is healthy again, and: {}", brief(&error)));
            }
            if !salt.is_multiple_of(8) {
                self.running.insert(scenario, (running, tracer));
                return Ok(Outcome::Held);
            }
        }
        // What a restart finds.
        running.kill();
        let judged = self.chain(scenario)?.judge();
        tally.judged(judged.took);
        if judged.is_usable() { Ok(Outcome::Held) } else { broke(&format!("then killed: {}", judged.brief())) }
    }

    fn start(&mut self, scenario: Scenario, fault: Fault, tally: &Tally) -> Result<Outcome> {
        let router = self.chain(scenario)?;
        let tracer = Tracer::new([router.folder().to_owned()], fault);
        let running = router.start_by(&tracer)?;
        // It serves, or it ends and says why, or it says that it tries again.
        let first = running.log().event(Default::default(), PATIENCE, &["connected", "refused"]);
        let Some(call) = tracer.harmed() else { return Ok(Outcome::Missed) };
        let broke = |why: String| Ok(Outcome::Broke(format!("`{call}` refused: {why}")));
        if let Some(line) = running.log().panic() {
            return broke(format!("it panicked: {line}"));
        }
        tracer.disarm();
        match first.as_ref().map(rig::Line::event) {
            Some("connected") => {
                self.note("was admitted all the same");
                if let Err(error) = running.renew() {
                    return broke(format!("the disk is healthy again, and: {}", brief(&error)));
                }
            }
            Some(_) => {
                self.note("served what it could read, and was refused with it");
                if let Err(error) = running.until_online() {
                    return broke(format!("the disk is healthy again, and it is not admitted: {}", brief(&error)));
                }
            }
            None => {
                let Some(status) = running.wait() else { return broke("it neither serves nor ends".to_owned()) };
                let ran = Ran { code: status.code(), stdout: String::new(), stderr: running.log().text() };
                if let Some(why) = unclear(&ran) {
                    return broke(why);
                }
                self.note("did not start, and said why");
            }
        }
        running.kill();
        let judged = router.judge();
        tally.judged(judged.took);
        if judged.is_usable() {
            Ok(Outcome::Held)
        } else {
            broke(format!("then with a healthy disk: {}", judged.brief()))
        }
    }
}

/// One order to renew: was it carried out? The copies at the configured paths are waited for where there are any.
fn renew_once(scenario: Scenario, running: &Running) -> Result<bool> {
    let mark = running.log().mark();
    let answer = running.order_renewal()?;
    if answer["answer"] != "began" {
        return Ok(false);
    }
    let ends = ["promoted", "attempt_failed", "recovered"];
    let Some(line) = running.log().event(mark, PATIENCE, &ends) else {
        bail!("nothing came of an order to renew: {}", running.log().text());
    };
    let is_promoted = line.event() == "promoted";
    if is_promoted && scenario == Scenario::ProjectedRenewal {
        // It follows at once, or it failed and is tried again later.
        let _ = running.status()?;
    }
    let _ = running.status()?;
    Ok(is_promoted)
}

/// An error without the log that it may carry.
pub(crate) fn brief(error: &anyhow::Error) -> String {
    format!("{error:#}").lines().next().unwrap_or_default().to_owned()
}

/// What is wrong with the way in which a command ended; `None` if it is well or a person can see what to do.
fn unclear(ran: &Ran) -> Option<String> {
    if let Some(line) = ran.panic() {
        return Some(format!("it panicked: {line}"));
    }
    match ran.code {
        Some(0) => None,
        // 1, 2 and 70 are for what nobody can mend: failed without a reason, a wrong command line, a fault of the program.
        Some(3..=7) if ran.stderr.contains("\"hint\":\"") => None,
        code => Some(format!("it ends with {code:?} and says: {}", ran.stderr)),
    }
}
