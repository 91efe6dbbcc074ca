//! Goes through every disk that a crash may leave, and starts a router from each that was not seen before.

use std::collections::{HashMap, HashSet};

use evidence::Failure;
use store::disk::{CrashModel, Errno, Fault, Mutant, Operation, PowerCut, SimDisk};

use crate::scene::{Run, Shown, check_end, check_found, live_on};
use crate::script::{Script, Trouble, check_projection};

/// Failures that are told; more of them say nothing new.
const FAILURES_MAX: usize = 5;

/// How thorough.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Depth {
    /// Most disks of one power cut.
    pub(crate) most: usize,
    /// Of the distinct disks that a first crash leaves, every so manieth is started from with a second crash before each of its operations.
    pub(crate) second_every: u64,
    /// Most disks of one second power cut.
    pub(crate) second_most: usize,
    /// Most disks of one power cut after a refused call.
    pub(crate) refused_most: usize,
    /// Of the operations, every so manieth is refused.
    pub(crate) refused_every: u64,
    pub(crate) seed: u64,
}

/// What was gone through.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) crash_points: u64,
    pub(crate) killed: u64,
    pub(crate) weakest: u64,
    pub(crate) torn: u64,
    pub(crate) journalled: u64,
    pub(crate) second: u64,
    pub(crate) refused_calls: u64,
    pub(crate) refused: u64,
    pub(crate) rotten: u64,
    pub(crate) wiped: u64,
    /// Starts that were run: one for each disk that was not seen before.
    pub(crate) distinct: u64,
    /// Power cuts of which not all disks were visited.
    pub(crate) sampled: u64,
    pub(crate) failures: Vec<Failure>,
    pub(crate) failed: u64,
}

impl Tally {
    /// Legal states after a power cut, whatever came before it.
    pub(crate) fn crash_states(&self) -> u64 {
        self.weakest + self.torn + self.journalled + self.second + self.refused
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.crash_points += other.crash_points;
        self.killed += other.killed;
        self.weakest += other.weakest;
        self.torn += other.torn;
        self.journalled += other.journalled;
        self.second += other.second;
        self.refused_calls += other.refused_calls;
        self.refused += other.refused;
        self.rotten += other.rotten;
        self.wiped += other.wiped;
        self.distinct += other.distinct;
        self.sampled += other.sampled;
        self.failed += other.failed;
        let room = FAILURES_MAX.saturating_sub(self.failures.len());
        self.failures.extend(other.failures.into_iter().take(room));
    }

    pub(crate) fn fail(&mut self, what: String, replay: String) {
        self.failed += 1;
        if self.failures.len() < FAILURES_MAX {
            self.failures.push(Failure { what, replay });
        }
    }
}

/// Goes through the states of one script.
pub(crate) struct Explorer {
    script: Script,
    depth: Depth,
    /// For the failure's line.
    layer: &'static str,
    base: SimDisk,
    shown: Shown,
    /// Numbers for what was shown, so that a state is two numbers.
    contexts: HashMap<Shown, u64>,
    seen: HashSet<(u64, u64)>,
    seen_second: HashSet<(u64, u64)>,
    /// What is going wrong may tear configured files, and only those.
    may_tear: bool,
    pub(crate) tally: Tally,
}

pub(crate) const WEAKEST: PowerCut = PowerCut { model: CrashModel::Weakest, tears_sectors: false };
pub(crate) const TORN: PowerCut = PowerCut { model: CrashModel::Weakest, tears_sectors: true };
pub(crate) const JOURNALLED: PowerCut = PowerCut { model: CrashModel::Journalled, tears_sectors: false };

/// Everything that one operation may meet, but for death.
pub(crate) fn faults(operation: Operation) -> Vec<Fault> {
    let errnos = [Errno::NOSPC, Errno::DQUOT, Errno::IO, Errno::ROFS, Errno::INTR, Errno::ACCESS];
    let mut faults: Vec<Fault> = errnos.into_iter().map(Fault::Refuse).collect();
    if operation == Operation::Write {
        faults.push(Fault::Half(Errno::NOSPC));
    }
    faults.push(Fault::DoneBut(Errno::IO));
    faults
}

/// A fault as a person says it.
pub(crate) fn spoken(fault: Fault) -> String {
    match fault {
        Fault::Refuse(errno) => errno_name(errno).to_owned(),
        Fault::Half(errno) => format!("half of it and {}", errno_name(errno)),
        Fault::DoneBut(errno) => format!("{} although it is done", errno_name(errno)),
        Fault::Crash => "nothing, the machine stops".to_owned(),
    }
}

fn errno_name(errno: Errno) -> &'static str {
    match errno {
        Errno::NOSPC => "ENOSPC",
        Errno::DQUOT => "EDQUOT",
        Errno::IO => "EIO",
        Errno::ROFS => "EROFS",
        Errno::INTR => "EINTR",
        Errno::ACCESS => "EACCES",
        _ => "an error",
    }
}

impl Explorer {
    pub(crate) fn new(script: Script, depth: Depth, layer: &'static str) -> Result<Self, String> {
        let (base, shown) = script.scene()?;
        Ok(Self {
            script,
            depth,
            layer,
            base,
            shown,
            contexts: HashMap::new(),
            seen: HashSet::new(),
            seen_second: HashSet::new(),
            may_tear: false,
            tally: Tally::default(),
        })
    }

    /// Makes the disk wrong: what follows must find it out.
    pub(crate) fn mutate(&mut self, mutant: Mutant) {
        self.base.mutate(mutant);
    }

    fn replay(&self) -> String {
        format!("cargo xtask proof --only {} --seed {}", self.layer, self.depth.seed)
    }

    fn context(&mut self, shown: &Shown) -> u64 {
        // What is fine where files may tear is not fine elsewhere.
        let tearing = u64::from(self.may_tear);
        if let Some(known) = self.contexts.get(shown) {
            return *known + tearing;
        }
        let next = self.contexts.len() as u64 * 2;
        self.contexts.insert(shown.clone(), next);
        next + tearing
    }

    /// A crash before every operation, by every model; and a second one before every operation of the start that follows.
    pub(crate) fn crashes(&mut self) {
        let run = self.script.run(self.base.clone(), &self.shown);
        if let Err(claim) = &run.claim {
            let what = format!("{}: {claim}", self.script.name);
            let replay = self.replay();
            self.tally.fail(what, replay);
            return;
        }
        for (operation, before) in points(&run) {
            let shown = run.shown_before(operation);
            let place = || {
                let call = run.disk.recorded().get(usize::try_from(operation).unwrap_or(usize::MAX));
                let call = call
                    .map_or("the end".to_owned(), |(what, name)| format!("operation {operation} ({what} `{name}`)"));
                format!("{}, before {call}", self.script.name)
            };
            let place = place();
            self.tally.crash_points += 1;
            self.tally.killed += 1;
            self.start_from(before.after_kill(), &shown, true, || format!("{place}, killed"));
            for cut in [WEAKEST, TORN, JOURNALLED] {
                self.power_cut(&before, cut, &shown, &place);
            }
        }
    }

    fn power_cut(&mut self, before: &SimDisk, cut: PowerCut, shown: &Shown, place: &str) {
        let context = self.context(shown);
        let mut fresh = Vec::new();
        let seen = &mut self.seen;
        let (states, is_all) = before.aftermath(cut).visit(self.depth.most, self.depth.seed, |survivor| {
            if seen.insert((survivor.fingerprint, context)) {
                fresh.push(survivor.disk());
            }
        });
        let count = match cut {
            WEAKEST => &mut self.tally.weakest,
            TORN => &mut self.tally.torn,
            _ => &mut self.tally.journalled,
        };
        *count += states;
        self.tally.sampled += u64::from(!is_all);
        for disk in fresh {
            let is_second = self.tally.distinct.is_multiple_of(self.depth.second_every.max(1));
            self.start_from(disk, shown, is_second, || format!("{place}, power cut"));
        }
    }

    /// Starts a router, checks what it finds, lets it renew, and checks what that is worth; `is_second` = and crashes all of that again.
    fn start_from(&mut self, disk: SimDisk, shown: &Shown, is_second: bool, place: impl Fn() -> String) {
        self.tally.distinct += 1;
        let making = self.script.making;
        let projected =
            if self.script.projects() { check_projection(&disk, &self.script, self.may_tear) } else { Ok(()) };
        let run = live_on(disk, making, shown, is_second);
        let verdict = projected.and_then(|()| run.claim.clone()).and_then(|()| check_end(&run, making));
        if let Err(claim) = verdict {
            let replay = self.replay();
            self.tally.fail(format!("{}: {claim}", place()), replay);
            return;
        }
        if !is_second {
            return;
        }
        for (operation, before) in points(&run) {
            let shown = run.shown_before(operation);
            let context = self.context(&shown);
            let mut broken = None;
            let mut distinct = 0;
            let (seen, seen_second) = (&self.seen, &mut self.seen_second);
            for cut in [WEAKEST, TORN, JOURNALLED] {
                let (states, is_all) =
                    before.aftermath(cut).visit(self.depth.second_most, self.depth.seed, |survivor| {
                        let key = (survivor.fingerprint, context);
                        if broken.is_none() && !seen.contains(&key) && seen_second.insert(key) {
                            distinct += 1;
                            broken = check_found(survivor.disk(), making, &shown, true).err();
                        }
                    });
                self.tally.second += states;
                self.tally.sampled += u64::from(!is_all);
            }
            self.tally.distinct += distinct;
            if let Some(claim) = broken {
                let replay = self.replay();
                self.tally.fail(
                    format!("{}; then again before operation {operation} of the start: {claim}", place()),
                    replay,
                );
                return;
            }
        }
    }

    /// Every operation meets every fault, the process reacts, and then the power fails before every later operation.
    pub(crate) fn refusals(&mut self) {
        let undisturbed = self.script.run(self.base.clone(), &self.shown);
        let calls: Vec<Operation> = undisturbed.disk.recorded().iter().map(|(operation, _)| *operation).collect();
        for (at, operation) in
            calls.iter().enumerate().step_by(usize::try_from(self.depth.refused_every.max(1)).unwrap_or(1))
        {
            let at = at as u64;
            let once = faults(*operation).into_iter().map(|fault| Trouble::Once(at, fault));
            let dead = [Errno::IO, Errno::ROFS].into_iter().map(|errno| Trouble::Dead(at, errno));
            for trouble in once.chain(dead) {
                self.refusal(at, *operation, trouble);
            }
        }
    }

    fn refusal(&mut self, at: u64, operation: Operation, trouble: Trouble) {
        self.tally.refused_calls += 1;
        self.may_tear = self.script.projects() && trouble.may_tear();
        let mut run = self.script.run_in_trouble(self.base.clone(), &self.shown, trouble);
        let what = match trouble {
            Trouble::Once(_, fault) => format!("answers {}", spoken(fault)),
            Trouble::Dead(_, errno) => format!("and all after it answer {}", errno_name(errno)),
        };
        let place = format!("{}, operation {at} ({operation}) {what}", self.script.name);
        if let Err(claim) = &run.claim {
            let replay = self.replay();
            self.tally.fail(format!("{place}: {claim}"), replay);
        }
        // The machine comes back with a disk that works.
        run.disk.die(None);
        for (later, before) in points(&run).into_iter().filter(|(later, _)| *later > at) {
            let shown = run.shown_before(later);
            self.refused_then_cut(&before, &shown, &format!("{place}, then before operation {later}"));
        }
        if matches!(trouble, Trouble::Dead(..)) {
            // Nothing but mounting it again brings such a file system back, and that drops the cache.
            return;
        }
        let shown = run.shown_last();
        let end = run.disk.after_kill();
        self.start_from(end, &shown, false, || format!("{place}, then killed"));
    }

    fn refused_then_cut(&mut self, before: &SimDisk, shown: &Shown, place: &str) {
        let context = self.context(shown);
        let mut fresh = Vec::new();
        for cut in [WEAKEST, JOURNALLED] {
            let seen = &mut self.seen;
            let (states, is_all) = before.aftermath(cut).visit(self.depth.refused_most, self.depth.seed, |survivor| {
                if seen.insert((survivor.fingerprint, context)) {
                    fresh.push(survivor.disk());
                }
            });
            self.tally.refused += states;
            self.tally.sampled += u64::from(!is_all);
        }
        for disk in fresh {
            self.start_from(disk, shown, false, || format!("{place}, power cut"));
        }
    }
}

/// The moments at which a crash finds something that it did not find before: after each change, and when something was shown.
pub(crate) fn points(run: &Run) -> Vec<(u64, SimDisk)> {
    let mut points = Vec::new();
    let mut last: Option<(u64, Shown)> = None;
    for operation in 0..=run.disk.operations() {
        let Some(revision) = run.disk.revision_before(operation) else { break };
        let shown = run.shown_before(operation);
        if last.as_ref().is_some_and(|(seen, said)| *seen == revision && *said == shown) {
            continue;
        }
        last = Some((revision, shown));
        points.extend(run.disk.before(operation).map(|disk| (operation, disk)));
    }
    points
}
