//! Runs every write order over every crash and every refused call, and counts the states that leave no usable identity.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use store::disk::{Operation, PowerCut, SimDisk};

use crate::explore::{self, JOURNALLED, TORN, WEAKEST, spoken};
use crate::faults;
use crate::order::{About, Moment, Protocol, WriteOrder, find, install};

const HOME: &str = "/etc/ziti";
/// What is installed, and the generation that renews it.
const OLD: u64 = 2;
const NEW: u64 = 3;

/// Out of so many states so many left nothing usable.
#[derive(Clone, Debug, Default)]
pub(crate) struct Score {
    pub(crate) states: u64,
    pub(crate) unusable: u64,
    pub(crate) example: Option<String>,
}

impl Score {
    fn count(&mut self, states: u64, is_unusable: bool, example: impl FnOnce() -> String) {
        self.states += states;
        if is_unusable {
            self.unusable += states;
            if self.example.is_none() {
                self.example = Some(example());
            }
        }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.states += other.states;
        self.unusable += other.unusable;
        if self.example.is_none() {
            self.example.clone_from(&other.example);
        }
    }
}

/// One order under one protocol, fault by fault.
pub(crate) struct Judge {
    about: &'static About,
    order: Box<dyn WriteOrder<SimDisk>>,
    protocol: Protocol,
    base: SimDisk,
    most: usize,
    seed: u64,
    /// What a start finds on a disk that looks so.
    found: HashMap<u64, Found>,
    pub(crate) scores: BTreeMap<&'static str, Score>,
}

/// Which of the two generations a start can use; why not, in words.
#[derive(Clone, Debug)]
struct Found {
    old: bool,
    new: bool,
    why: String,
}

/// A put, operation by operation.
struct Put {
    disk: SimDisk,
    moments: Vec<(u64, Moment)>,
}

impl Put {
    fn is_committed_before(&self, operation: u64) -> bool {
        self.moments.iter().any(|(at, moment)| *at <= operation && *moment == Moment::Commit(NEW))
    }
}

impl Judge {
    pub(crate) fn new(name: &str, protocol: Protocol, most: usize, seed: u64) -> Result<Self, String> {
        let (about, order) = find::<SimDisk>(name).ok_or("no such order")?;
        let mut disk = SimDisk::with_folder(HOME);
        for n in 1..=OLD {
            install(&*order, &mut disk, Path::new(HOME), n)
                .map_err(|error| format!("{name}: the first identities: {error}"))?;
        }
        let base = disk.after_kill();
        Ok(Self { about, order, protocol, base, most, seed, found: HashMap::new(), scores: BTreeMap::new() })
    }

    fn put(&self, lay: impl FnOnce(&mut SimDisk)) -> Put {
        let mut disk = self.base.clone();
        disk.record();
        disk.keep_history();
        lay(&mut disk);
        let mut moments = Vec::new();
        // What it answers is known from the moments.
        let _ = self.order.put(&mut disk, Path::new(HOME), NEW, self.protocol, &mut |disk, moment| {
            moments.push((disk.operations(), moment));
        });
        Put { disk, moments }
    }

    fn look(order: &dyn WriteOrder<SimDisk>, mut disk: SimDisk) -> Found {
        match order.load(&mut disk, Path::new(HOME)) {
            Ok(usable) => {
                let why = match usable.as_slice() {
                    [] => "a start finds nothing".to_owned(),
                    found => format!("a start finds generation {found:?}"),
                };
                Found { old: usable.contains(&OLD), new: usable.contains(&NEW), why }
            }
            Err(error) => Found { old: false, new: false, why: format!("a start says: {error}") },
        }
    }

    /// Is none of what was found admitted?
    fn is_unusable(&self, found: &Found, is_committed: bool) -> bool {
        match (is_committed, self.protocol) {
            (true, _) => !found.new,
            (false, Protocol::FilesOnly) => !found.new && !found.old,
            (false, Protocol::OneFingerprint) => !found.old,
        }
    }

    fn admitted(&self, is_committed: bool) -> &'static str {
        match (is_committed, self.protocol) {
            (true, _) => "only the new generation (3) is admitted",
            (false, Protocol::FilesOnly) => "the old generation (2) and the new one (3) are admitted",
            (false, Protocol::OneFingerprint) => "only the old generation (2) is admitted",
        }
    }

    fn visit(&mut self, fault: &'static str, cut: PowerCut, before: &SimDisk, is_committed: bool, place: &str) {
        let mut all = Score::default();
        let (found, order) = (&mut self.found, &*self.order);
        let mut hits: Vec<Found> = Vec::new();
        before.aftermath(cut).visit(self.most, self.seed, |survivor| {
            let known = found.entry(survivor.fingerprint).or_insert_with(|| Self::look(order, survivor.disk()));
            hits.push(known.clone());
        });
        for known in hits {
            let is_unusable = self.is_unusable(&known, is_committed);
            let admitted = self.admitted(is_committed);
            all.count(1, is_unusable, || format!("{place}: {admitted}; {}", known.why));
        }
        self.scores.entry(fault).or_default().add(&all);
    }

    /// Killed, and power cuts of every kind, before every operation and after the last.
    pub(crate) fn crashes(&mut self) {
        let put = self.put(|_| ());
        for operation in 0..=put.disk.operations() {
            let Some(before) = put.disk.before(operation) else { break };
            let is_committed = put.is_committed_before(operation);
            let place = self.place(&put, operation);
            let known = Self::look(&*self.order, before.after_kill());
            let (is_unusable, admitted) = (self.is_unusable(&known, is_committed), self.admitted(is_committed));
            let score = self.scores.entry(faults::KILLED).or_default();
            score.count(1, is_unusable, || format!("killed {place}: {admitted}; {}", known.why));
            for (fault, cut) in
                [(faults::POWER_WEAKEST, WEAKEST), (faults::POWER_JOURNALLED, JOURNALLED), (faults::TORN, TORN)]
            {
                self.visit(fault, cut, &before, is_committed, &format!("power cut {place}"));
            }
        }
        self.rot(&put.disk);
    }

    /// Each sector of each file wiped, and one bit of each byte flipped, after the renewal and at rest.
    fn rot(&mut self, disk: &SimDisk) {
        let at_rest = disk.after_kill();
        let mut score = Score::default();
        for path in at_rest.paths() {
            let Some(length) = at_rest.file(&path).map(<[u8]>::len) else { continue };
            for byte in 0..length {
                let mut rotten = at_rest.clone();
                if byte % 512 == 0 {
                    rotten.wipe(&path, byte / 512);
                } else {
                    rotten.rot(&path, byte);
                }
                let known = Self::look(&*self.order, rotten);
                score.count(1, !known.old && !known.new, || {
                    format!("byte {byte} of `{}` is rotten: {}", path.display(), known.why)
                });
            }
        }
        self.scores.entry(faults::ROTTEN).or_default().add(&score);
    }

    /// Every operation refused in every way; then a start, or a power cut at every later moment.
    pub(crate) fn refusals(&mut self) {
        let calls: Vec<Operation> = self.put(|_| ()).disk.recorded().iter().map(|(operation, _)| *operation).collect();
        for (at, operation) in calls.into_iter().enumerate() {
            let at = at as u64;
            for fault in explore::faults(operation) {
                let put = self.put(|disk| disk.fail(at, fault));
                let last = put.disk.operations();
                let place = format!("{} answers {}", self.place(&put, at).trim_start_matches("before "), spoken(fault));
                let is_committed = put.is_committed_before(last);
                let known = Self::look(&*self.order, put.disk.after_kill());
                let (is_unusable, admitted) = (self.is_unusable(&known, is_committed), self.admitted(is_committed));
                let score = self.scores.entry(faults::REFUSED).or_default();
                score.count(1, is_unusable, || format!("{place}: {admitted}; {}", known.why));
                let mut revision = None;
                for later in at + 1..=last {
                    let is_committed = put.is_committed_before(later);
                    let now = put.disk.revision_before(later).map(|revision| (revision, is_committed));
                    if now == revision {
                        continue;
                    }
                    revision = now;
                    let Some(before) = put.disk.before(later) else { break };
                    let place = format!("{place}, then a power cut {}", self.place(&put, later));
                    self.visit(faults::REFUSED_THEN_POWER, WEAKEST, &before, is_committed, &place);
                }
            }
        }
    }

    fn place(&self, put: &Put, operation: u64) -> String {
        let call = usize::try_from(operation).ok().and_then(|at| put.disk.recorded().get(at));
        match call {
            Some((what, name)) if name.is_empty() => format!("before call {operation} ({what})"),
            Some((what, name)) => format!("before call {operation} ({what} `{name}`)"),
            None => "after the last call".to_owned(),
        }
    }

    /// Is this order found wrong exactly where it is known to be? Answers what is not as expected.
    pub(crate) fn surprises(&self) -> Vec<String> {
        let wrong = match self.protocol {
            Protocol::FilesOnly => self.about.wrong_in_files,
            Protocol::OneFingerprint => self.about.wrong_in_protocol,
        };
        let expected = [
            (faults::KILLED, wrong.killed),
            (faults::POWER_WEAKEST, wrong.power),
            (faults::POWER_JOURNALLED, wrong.power),
            (faults::TORN, wrong.power),
            (faults::REFUSED, wrong.refused),
            (faults::REFUSED_THEN_POWER, wrong.refused_then_power),
        ];
        let surprises = expected.into_iter().filter_map(|(fault, is_wrong)| {
            let score = self.scores.get(fault)?;
            let text = match (is_wrong, score.unusable) {
                (true, 0) => format!(
                    "`{}` ({:?}) should be found wrong under `{fault}` and is not",
                    self.about.name, self.protocol
                ),
                (false, 1..) => format!(
                    "`{}` ({:?}) should be right under `{fault}`: {}",
                    self.about.name,
                    self.protocol,
                    score.example.as_deref().unwrap_or_default()
                ),
                _ => return None,
            };
            Some(text)
        });
        surprises.collect()
    }
}
