//! One fault in the life of one router: strikes, waits until it is over, and sees what becomes of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use diskfault::trace::{Counted, Fault as Harm, Tracer};
use netfault::network::peers::Restart;
use nix::sys::signal::Signal;

use crate::fault::{Act, Fault, Goal, Traced, When};
use crate::keeper::Keeper;
use crate::record::Verdict;
use crate::site::Site;
use crate::subject::Subject;

/// A renewal that is due begins within this time after a start, also on a busy machine.
const STRIKES_WITHIN: Duration = Duration::from_secs(100);
/// After the end of a fault: OpenZiti asks again every 35 s, and waits 30 s for an answer.
const RECOVERS_WITHIN: Duration = Duration::from_secs(120);
/// Offline for so long after the end of a fault means that waiting on is no use: a process has ended and started twice.
const OFFLINE_FOR: Duration = Duration::from_secs(85);
/// After a restart: OpenZiti gives up after 30 s and is started again.
const ONLINE_WITHIN: Duration = Duration::from_secs(75);
/// After a restart that forces a renewal.
const RENEWS_WITHIN: Duration = Duration::from_secs(80);
/// OpenZiti's controller refuses who comes back within a minute, if it has not noticed that he was gone.
const CHURN: Duration = Duration::from_secs(62);
/// How long it must stay so, before a restart has to show that it was no accident.
const SETTLES: Duration = Duration::from_secs(4);
const LOOK: Duration = Duration::from_millis(250);

/// A router and its controller, and what is done to them.
pub(crate) struct Scene {
    /// The controller.
    pub(crate) site: Arc<Site>,
    /// The router.
    pub(crate) subject: Arc<Subject>,
    /// What is done.
    pub(crate) fault: Fault,
    keeper: Option<Keeper>,
    tracer: Option<Tracer>,
    /// When it first had reached its goal since the fault struck.
    reached: Option<Instant>,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// What became of the router.
    pub(crate) verdict: Verdict,
    /// From the end of the fault until it had recovered.
    pub(crate) after: Option<Duration>,
    /// Why that verdict.
    pub(crate) why: String,
    /// Does a plain restart with `--extend` mend it?
    pub(crate) is_mended_by_restart: Option<bool>,
    /// How often its process was started.
    pub(crate) starts: u32,
    /// The end of what it said.
    pub(crate) said: String,
}

impl Scene {
    /// `changes`: how many changes to its files a start with a renewal makes, where that counts.
    pub(crate) fn new(site: Arc<Site>, subject: Arc<Subject>, fault: &Fault, changes: usize) -> Self {
        let tracer = match fault.when {
            When::Change(position, traced) => {
                let at = position.of(changes);
                let harm = match traced {
                    Traced::Kill => Harm::KillBefore(at),
                    Traced::Fail(errno) => Harm::FailFrom { at, errno },
                };
                Some(Tracer::with([subject.place.at().to_owned()], harm, Counted::Changes))
            }
            When::Start | When::Struck | When::Written(_) => None,
        };
        Self { site, subject, fault: fault.clone(), keeper: None, tracer, reached: None }
    }

    /// Lets it happen, and judges.
    pub(crate) fn meet(mut self) -> Outcome {
        match self.strike() {
            Ok(over) => self.judge(over),
            Err(error) => self.outcome(Verdict::NotTried, None, format!("{error:#}"), None),
        }
    }

    /// The router's service manager.
    ///
    /// # Errors
    /// When it was not started.
    pub(crate) fn keeper(&self) -> Result<&Keeper> {
        self.keeper.as_ref().context("the router was not started")
    }

    /// Starts the router with these flags; its clock is so far ahead, if it is moved.
    ///
    /// # Errors
    /// When it does not start.
    pub(crate) fn start(&mut self, ahead_s: Option<i64>) -> Result<()> {
        let flags = self.fault.flags.to_vec();
        self.subject.rest();
        self.keeper = Some(Keeper::start(&self.site, &self.subject, flags, self.tracer.clone(), ahead_s)?);
        Ok(())
    }

    /// Waits until a rule has struck.
    ///
    /// # Errors
    /// When it does not.
    pub(crate) fn until_struck(&self) -> Result<()> {
        ensure!(self.subject.way.strikes_within(STRIKES_WITHIN), "no message met the fault:\n{}", self.tail());
        Ok(())
    }

    /// Waits until the controller lists it as online.
    ///
    /// # Errors
    /// When it does not.
    pub(crate) fn until_online(&self) -> Result<()> {
        let is_online = self.within(STRIKES_WITHIN, || self.is_online() == Some(true));
        ensure!(is_online, "the router does not come online:\n{}", self.tail());
        Ok(())
    }

    /// Waits until it has renewed.
    ///
    /// # Errors
    /// When it does not.
    pub(crate) fn until_renewed(&self) -> Result<()> {
        let has_renewed = self.within(STRIKES_WITHIN, || self.has_reached(Goal::Renewed));
        ensure!(has_renewed, "the router does not renew:\n{}", self.tail());
        Ok(())
    }

    fn tail(&self) -> String {
        self.keeper.as_ref().map(|keeper| keeper.tail(8)).unwrap_or_default()
    }

    /// Gives the moment at which it is over.
    fn strike(&mut self) -> Result<Instant> {
        self.subject.way.arm(self.fault.rules.clone());
        self.subject.way.arm_bytes(self.fault.bytes);
        if let Act::Story(story) = self.fault.act {
            story(self)?;
            self.subject.way.pass();
            return Ok(Instant::now());
        }
        let at_start = matches!(self.fault.when, When::Start);
        let moved = match self.fault.act {
            Act::MoveClock(seconds) if at_start => Some(seconds),
            _ => None,
        };
        if at_start && moved.is_none() {
            self.act()?;
        }
        self.start(moved)?;
        match self.fault.when {
            When::Start => {}
            When::Struck => self.until_struck()?,
            When::Written(later) => {
                let is_written = self.within_often(STRIKES_WITHIN, || self.subject.has_new_leaf());
                ensure!(is_written, "no new leaf was written:\n{}", self.tail());
                std::thread::sleep(later);
            }
            When::Change(..) => {
                let tracer = self.tracer.as_ref().context("no tracer")?;
                ensure!(tracer.until_fired(STRIKES_WITHIN), "that change did not come:\n{}", self.tail());
            }
        }
        if !at_start {
            self.act()?;
        }
        self.pass_time(self.fault.lasts);
        self.undo()?;
        Ok(Instant::now())
    }

    fn act(&self) -> Result<()> {
        let place = &self.subject.place;
        match self.fault.act {
            Act::Nothing | Act::Story(_) => {}
            Act::KillRouter(later) => {
                std::thread::sleep(later);
                self.keeper()?.kill();
            }
            Act::TerminateRouter => self.keeper()?.signal(Signal::SIGTERM),
            Act::FreezeRouter => self.keeper()?.signal(Signal::SIGSTOP),
            Act::KillController => self.site.kill(),
            Act::FreezeController => self.site.freeze(true)?,
            Act::Fill => place.fill()?,
            Act::FillInodes => place.fill_inodes()?,
            Act::ReadOnly => place.read_only(true)?,
            Act::Immutable => place.immutable(&self.subject.files(), true)?,
            Act::PowerCut => {
                let keeper = self.keeper()?;
                keeper.signal(Signal::SIGSTOP);
                place.die()?;
                keeper.hold();
                place.come_back()?;
                keeper.go_on(None);
            }
            Act::MoveClock(seconds) => self.keeper()?.be_ahead(&self.site, &self.subject, seconds)?,
        }
        Ok(())
    }

    fn undo(&self) -> Result<()> {
        self.subject.way.pass();
        if let Some(tracer) = &self.tracer {
            tracer.disarm();
        }
        let place = &self.subject.place;
        match self.fault.act {
            Act::FreezeRouter => self.keeper()?.signal(Signal::SIGCONT),
            Act::KillController => self.site.run()?,
            Act::FreezeController => self.site.freeze(false)?,
            Act::Fill | Act::FillInodes => place.empty(),
            Act::ReadOnly => place.read_only(false)?,
            Act::Immutable => place.immutable(&self.subject.files(), false)?,
            Act::Nothing
            | Act::KillRouter(_)
            | Act::TerminateRouter
            | Act::PowerCut
            | Act::MoveClock(_)
            | Act::Story(_) => {}
        }
        Ok(())
    }

    /// Waits, and notices if it recovers meanwhile.
    pub(crate) fn pass_time(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            let asks = !matches!(self.fault.act, Act::KillController | Act::FreezeController);
            if asks {
                self.look();
            }
            std::thread::sleep(LOOK.min(until.saturating_duration_since(Instant::now())));
        }
    }

    fn look(&mut self) {
        if self.has_reached(self.fault.goal) {
            self.reached.get_or_insert_with(Instant::now);
        } else {
            self.reached = None;
        }
    }

    fn is_online(&self) -> Option<bool> {
        self.site.listed(&self.subject.id).ok().map(|listed| listed.is_online)
    }

    fn has_reached(&self, goal: Goal) -> bool {
        let Ok(listed) = self.site.listed(&self.subject.id) else { return false };
        listed.is_online && (goal == Goal::Online || self.subject.has_renewed(&listed.admitted))
    }

    fn within(&self, time: Duration, is_so: impl FnMut() -> bool) -> bool {
        within(time, LOOK, is_so)
    }

    fn within_often(&self, time: Duration, is_so: impl FnMut() -> bool) -> bool {
        within(time, Duration::from_millis(2), is_so)
    }

    fn judge(mut self, over: Instant) -> Outcome {
        let mut online = Instant::now();
        loop {
            self.look();
            if self.is_online() == Some(true) {
                online = Instant::now();
            }
            if let Some(reached) = self.reached.filter(|reached| reached.elapsed() > SETTLES) {
                let after = reached.saturating_duration_since(over);
                return match self.survives_a_restart(None) {
                    true => self.outcome(Verdict::Recovered, Some(after), String::new(), None),
                    false => self.locked_out("online for the last time before a restart"),
                };
            }
            let is_too_late = over.elapsed() > RECOVERS_WITHIN;
            if is_too_late || online.elapsed() > OFFLINE_FOR {
                let was_online = self.is_online() == Some(true);
                return self.stuck(was_online);
            }
            std::thread::sleep(LOOK);
        }
    }

    /// kill -9 and a start: is it online again?
    fn survives_a_restart(&self, flags: Option<Vec<&'static str>>) -> bool {
        let Ok(keeper) = self.keeper() else { return false };
        keeper.hold();
        self.within(Duration::from_secs(20), || self.is_online() == Some(false));
        keeper.go_on(flags);
        // For longer than a connection lives that is refused after its hello.
        self.within(ONLINE_WITHIN, || {
            self.is_online() == Some(true) && {
                std::thread::sleep(Duration::from_secs(2));
                self.is_online() == Some(true)
            }
        })
    }

    fn stuck(self, was_online: bool) -> Outcome {
        let before = if was_online {
            format!("online with its old leaf, no renewal within {} s", RECOVERS_WITHIN.as_secs())
        } else {
            "offline".to_owned()
        };
        if !self.survives_a_restart(Some(vec!["--extend"])) {
            return self.locked_out(&before);
        }
        let is_mended = self.within(RENEWS_WITHIN, || self.has_reached(Goal::Renewed));
        let after =
            if is_mended { "a restart with `--extend` mends it" } else { "a restart with `--extend` does not mend it" };
        self.outcome(Verdict::Stuck, None, format!("{before}; {after}"), Some(is_mended))
    }

    /// It does not come online any more: is it for its leaves?
    fn locked_out(self, before: &str) -> Outcome {
        if let Ok(keeper) = self.keeper() {
            keeper.hold();
        }
        let mut tried = self.subject.handshakes(&self.site);
        if !tried.is_empty() && tried.iter().all(|(_, restart)| *restart == Restart::Refused) {
            std::thread::sleep(CHURN);
            tried = self.subject.handshakes(&self.site);
        }
        let count = |wanted: Restart| tried.iter().filter(|(_, restart)| *restart == wanted).count();
        let (admitted, unanswered) = (count(Restart::Admitted), count(Restart::Unanswered));
        let ends = self.keeper.as_ref().map(|keeper| keeper.ends()).unwrap_or_default();
        let last = ends
            .last()
            .map(|end| format!("; its process ended {} times, last with {end}", ends.len()))
            .unwrap_or_default();
        if tried.is_empty() {
            let why = format!("{before}; no leaf can be read from its files{last}");
            return self.outcome(Verdict::LockedOut, None, why, Some(false));
        }
        if admitted > 0 {
            let why =
                format!("{before}; a leaf on its disk is admitted in a handshake, but it does not come online{last}");
            return self.outcome(Verdict::Stuck, None, why, Some(false));
        }
        if unanswered > 0 {
            let why = format!("{before}; the controller did not answer {unanswered} of {} handshakes", tried.len());
            return self.outcome(Verdict::NotTried, None, why, None);
        }
        let leaves = if tried.len() == 1 { "the leaf" } else { "each leaf" };
        let why = format!("{before}; {leaves} on its disk ({}) is refused in handshakes", tried.len());
        self.outcome(Verdict::LockedOut, None, why, Some(false))
    }

    fn outcome(self, verdict: Verdict, after: Option<Duration>, why: String, is_mended: Option<bool>) -> Outcome {
        let starts = self.keeper.as_ref().map(Keeper::starts).unwrap_or_default();
        let said = self.keeper.as_ref().map(|keeper| keeper.tail(40)).unwrap_or_default();
        Outcome { verdict, after, why, is_mended_by_restart: is_mended, starts, said }
    }
}

fn within(time: Duration, look: Duration, mut is_so: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + time;
    loop {
        if is_so() {
            return true;
        }
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(look);
    }
}
