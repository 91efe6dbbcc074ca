//! The real program killed before its n-th call.

use std::fs;

use anyhow::{Context as _, Result};
use rig::{PATIENCE, Router, RouterSettings};

use super::stage::{Outcome, Stage, Tally, copy};
use crate::trace::{Call, Counted, Fault, Tracer};

/// What the router is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scenario {
    /// `router enroll` with a fresh token.
    Enroll,
    /// A renewal with new keys, ordered from a running router.
    Renewal,
    /// A renewal that keeps the key and is copied to the configured paths.
    ProjectedRenewal,
    /// A start after a renewal that was killed: loading, sweeping, settling what was left open.
    Restart,
    /// The first start on identity files without a store, as of an OpenZiti router.
    Adoption,
    /// Another identity of this router is put at the configured paths and found there.
    Import,
}

pub(crate) const SCENARIOS: [Scenario; 6] = [
    Scenario::Enroll,
    Scenario::Renewal,
    Scenario::ProjectedRenewal,
    Scenario::Restart,
    Scenario::Adoption,
    Scenario::Import,
];

impl Scenario {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Enroll => "enrollment",
            Self::Renewal => "renewal with new keys",
            Self::ProjectedRenewal => "renewal with copies at the configured paths",
            Self::Restart => "start after a killed renewal",
            Self::Adoption => "adoption of identity files",
            Self::Import => "import of foreign files",
        }
    }

    fn settings(self) -> RouterSettings {
        match self {
            Self::Renewal | Self::Restart => RouterSettings::bare(),
            Self::Enroll | Self::ProjectedRenewal | Self::Adoption | Self::Import => RouterSettings::projected(),
        }
    }
}

/// A worker's own routers, each with its chain of renewals.
pub(crate) struct Actor<'a> {
    stage: &'a Stage,
    renewing: Option<Router>,
    projected: Option<Router>,
}

impl<'a> Actor<'a> {
    pub(crate) fn new(stage: &'a Stage) -> Self {
        Self { stage, renewing: None, projected: None }
    }

    fn chain(&mut self, scenario: Scenario) -> Result<Router> {
        let slot = if scenario == Scenario::ProjectedRenewal { &mut self.projected } else { &mut self.renewing };
        if let Some(router) = slot {
            return Ok(router.clone());
        }
        let router = self.stage.seasoned(&scenario.settings())?;
        Ok(slot.insert(router).clone())
    }

    /// Begins anew with other routers: what broke once would break everything after it.
    fn forget(&mut self) {
        (self.renewing, self.projected) = (None, None);
    }

    /// The calls of a whole run without a fault.
    pub(crate) fn calls(&mut self, scenario: Scenario, counted: Counted) -> Result<Vec<Call>> {
        let (tracer, _) = self.perform(scenario, Fault::Nothing, counted, 0)?;
        Ok(tracer.calls())
    }

    /// Kills it before a call and judges what is left. `salt` chooses what is not given.
    pub(crate) fn kill(
        &mut self,
        scenario: Scenario,
        at: usize,
        counted: Counted,
        salt: u64,
        tally: &Tally,
    ) -> Result<Outcome> {
        let (tracer, router) = self.perform(scenario, Fault::KillBefore(at), counted, salt)?;
        let Some(call) = tracer.harmed() else { return Ok(Outcome::Missed) };
        let mut judged = match scenario {
            // The files at the configured paths, which alone are admitted, are looked at for a while before they are believed.
            Scenario::Import => until_imported(&router),
            Scenario::Enroll
            | Scenario::Renewal
            | Scenario::ProjectedRenewal
            | Scenario::Restart
            | Scenario::Adoption => router.judge(),
        };
        if scenario == Scenario::Enroll && matches!(judged.verdict, rig::Verdict::CannotStart { .. }) {
            // Before an identity is stored, the same token is good again.
            let again = router.enroll()?;
            if again.code != Some(0) {
                let why = format!(
                    "killed before `{call}`: {}; and again the enrollment fails: {}",
                    judged.brief(),
                    again.stderr
                );
                return Ok(Outcome::Broke(why));
            }
            judged = router.judge();
        }
        tally.judged(judged.took);
        if judged.is_usable() {
            return Ok(Outcome::Held);
        }
        self.forget();
        Ok(Outcome::Broke(format!("killed before `{call}`: {}", judged.brief())))
    }

    /// The real program with one habit changed by the tracer renews, and is killed: what is left?
    pub(crate) fn mutant(&mut self, habit: &Fault) -> Result<rig::Judged> {
        let router = self.chain(Scenario::Renewal)?;
        let tracer = Tracer::new([router.folder().to_owned()], habit.clone()).disarmed();
        let running = router.start_by(&tracer)?;
        running.until_online()?;
        tracer.arm();
        running.renew()?;
        running.kill();
        anyhow::ensure!(tracer.fired() > 0, "the habit was not changed");
        let judged = router.judge();
        if !judged.is_usable() {
            self.forget();
        }
        Ok(judged)
    }

    /// Runs the scenario with this fault until it ends or is killed.
    fn perform(&mut self, scenario: Scenario, fault: Fault, counted: Counted, salt: u64) -> Result<(Tracer, Router)> {
        let is_dry = fault == Fault::Nothing;
        match scenario {
            Scenario::Enroll => {
                let router = self.stage.created(&scenario.settings())?;
                let tracer = Tracer::with([router.folder().to_owned()], fault, counted);
                let ran = router.enroll_by(&tracer)?;
                if tracer.fired() == 0 {
                    ran.ok()?;
                }
                Ok((tracer, router))
            }
            Scenario::Renewal | Scenario::ProjectedRenewal => {
                let router = self.chain(scenario)?;
                let tracer = Tracer::with([router.folder().to_owned()], fault, counted).disarmed();
                let running = router.start_by(&tracer)?;
                running.until_online()?;
                tracer.arm();
                let mark = running.log().mark();
                // It may die while it answers.
                let _ = running.order_renewal();
                let last = if scenario == Scenario::Renewal { "promoted" } else { "projected" };
                if running.log().event(mark, PATIENCE, &[last]).is_none() && tracer.fired() == 0 {
                    anyhow::bail!("the renewal does not end: {}", running.log().text());
                }
                // It answers when it has done everything that follows from the proof.
                let _ = running.status();
                tracer.disarm();
                running.kill();
                Ok((tracer, router))
            }
            Scenario::Restart => {
                let router = self.chain(scenario)?;
                // Somewhere in what a renewal changes: there is most to do after the leaves were stored.
                let before = 10 + usize::try_from(salt % 50).unwrap_or_default();
                let first =
                    Tracer::with([router.folder().to_owned()], Fault::KillBefore(before), Counted::Changes).disarmed();
                let running = router.start_by(&first)?;
                running.until_online()?;
                first.arm();
                let mark = running.log().mark();
                let _ = running.order_renewal();
                running.log().event(mark, PATIENCE, &["promoted"]);
                running.kill();
                let tracer = Tracer::with([router.folder().to_owned()], fault, counted);
                let running = router.start_by(&tracer)?;
                let online = running.until_online();
                if tracer.fired() == 0 {
                    online?;
                }
                tracer.disarm();
                running.kill();
                Ok((tracer, router))
            }
            Scenario::Adoption => {
                let router = self.stage.created(&scenario.settings())?;
                router.enroll()?.ok()?;
                fs::remove_dir_all(router.folder().join(".exuvia")).context("no store")?;
                let tracer = Tracer::with([router.folder().to_owned()], fault, counted);
                let running = router.start_by(&tracer)?;
                let online = running.until_online();
                if tracer.fired() == 0 {
                    online?;
                }
                tracer.disarm();
                running.kill();
                Ok((tracer, router))
            }
            Scenario::Import => {
                let router = self.stage.created(&scenario.settings())?;
                router.enroll()?.ok()?;
                let elsewhere = router.folder().with_extension("elsewhere");
                copy(router.folder(), &elsewhere)?;
                let other = router.at(&elsewhere)?.online()?;
                let mark = other.log().mark();
                other.renew()?;
                other.until(mark, &["projected"])?;
                other.stop()?;
                for file in ["ca.pem", "key.pem", "server.pem", "client.pem"] {
                    fs::copy(elsewhere.join(file), router.folder().join(file))?;
                }
                fs::remove_dir_all(&elsewhere)?;
                let tracer = Tracer::with([router.folder().to_owned()], fault, counted);
                let running = router.start_by(&tracer)?;
                let online = running.until_online();
                if is_dry || tracer.fired() == 0 {
                    online?;
                }
                tracer.disarm();
                running.kill();
                Ok((tracer, router))
            }
        }
    }
}

/// Starts it and waits until the imported identity is admitted, however often the old one is refused.
fn until_imported(router: &Router) -> rig::Judged {
    let began = std::time::Instant::now();
    let verdict = (|| -> Result<rig::Verdict> {
        let running = router.start()?;
        let online_with = running.until_online()?;
        let renewed_to = Some(running.renew()?);
        Ok(rig::Verdict::Usable { online_with, renewed_to })
    })();
    let verdict =
        verdict.unwrap_or_else(|error| rig::Verdict::LockedOut { tried: Vec::new(), why: format!("{error:#}") });
    rig::Judged { verdict, took: began.elapsed(), log: String::new() }
}
