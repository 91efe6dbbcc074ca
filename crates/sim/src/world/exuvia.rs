//! Our router: the real machine over the real store, and the smallest shell that can run them.

mod effects;
mod files;
mod mistakes;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use lifecycle::manifest::{CANDIDATES_MAX, Candidate, Manifest};
use lifecycle::recovery::{Found, recover, recover_in_process};
use lifecycle::renewal::{Barrier, DialOutcome, Effect, Input, Issued, Phase, Renewal, Storage, StorageTrouble};
use lifecycle::{GenerationNumber, KeyId, Leaf, Now, UnixTime};
use store::StoreError;
use store::disk::{CrashModel, SimDisk};
use store::generation::{GenerationFiles, Keys, Reservation, digest_of};
use store::identity::{IdentityStore, Loaded};

use super::{Body, Event, Links, World};
use crate::claims::{Claim, candidates_are_bounded};
use crate::mutant::Mutant;
use crate::paper;

pub(crate) const FOLDER: &str = "/etc/ziti";
pub(crate) const STATE: &str = "/etc/ziti/.exuvia/r";
pub(crate) const MANIFEST: &str = "/etc/ziti/.exuvia/r/manifest";

/// Steps and messages of one router in one virtual hour that are still called patience.
const BUSY_PER_HOUR: u32 = 4_000;

/// Pause before a store that could not be opened is opened again.
const OPEN_AGAIN_MS: u64 = 5_000;

/// Ten years.
const LONGEST_SLEEP_MS: u64 = 3_650 * 86_400_000;

#[derive(Clone, Debug)]
pub(crate) struct Exuvia {
    /// While no process has it.
    pub(crate) disk: Option<SimDisk>,
    pub(crate) process: Option<Process>,
    /// The disk's revision when its survivors were last worked out.
    surveyed: Option<u64>,
    /// Until then nobody tries to open a store that could not be opened: however many have asked for a start, one of them tries again.
    opens_at_ms: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct Process {
    pub(crate) store: IdentityStore<SimDisk>,
    /// `None` while the disk cannot even be read.
    pub(crate) machine: Option<Renewal>,
    pub(crate) links: Links,
    keys: Option<(GenerationNumber, Keys, KeyId)>,
    arrived: Option<(GenerationNumber, GenerationFiles)>,
    /// Client leaves of the generations in memory.
    leaves: BTreeMap<GenerationNumber, Leaf>,
    /// What this process saw admitted.
    admitted: BTreeSet<GenerationNumber>,
    pub(crate) published: Option<GenerationNumber>,
    /// Which wake-up counts; earlier ones are void.
    pub(crate) turn: u64,
    /// The latest that its wall clock has said: what was over then may be retired, even if the clock was set back meanwhile.
    latest_wall: UnixTime,
    /// Generations whose 20303 was answered with success.
    confirmed: BTreeSet<GenerationNumber>,
    /// Starts and STAGEs in a row that the disk failed.
    mishaps: u32,
    paused_until_ms: u64,
    /// Generations whole, where they are copied to the configured paths.
    whole: BTreeMap<GenerationNumber, GenerationFiles>,
    is_projected: bool,
    files: files::Files,
}

/// Which kind of barrier a step waits for: what its failure means differs.
#[derive(Clone, Copy)]
enum Blocking {
    Prepare(GenerationNumber),
    Leaves,
    Manifest,
}

impl Blocking {
    fn of(barrier: &Barrier) -> Self {
        match barrier {
            Barrier::Prepare { number, .. } => Self::Prepare(*number),
            Barrier::Stage { .. } | Barrier::Import { .. } => Self::Leaves,
            Barrier::Manifest(_) => Self::Manifest,
        }
    }
}

impl Exuvia {
    pub(crate) fn enrolled(disk: SimDisk, now: Now, key: KeyId, client: Leaf, server: Leaf) -> Self {
        let mut body = Self { disk: Some(disk), process: None, surveyed: None, opens_at_ms: 0 };
        body.enroll(now, key, client, server);
        body
    }

    /// Enrolls through the real store, on whatever is on the disk. False when the disk did not take it.
    pub(crate) fn enroll(&mut self, now: Now, key: KeyId, client: Leaf, server: Leaf) -> bool {
        let Some(disk) = self.disk.take() else { return false };
        let mut store = match IdentityStore::open(disk, Path::new(STATE), "") {
            Ok((store, _)) => store,
            Err((_, disk)) => {
                self.disk = Some(disk);
                return false;
            }
        };
        let manifest = store.load(paper::facts).ok().and_then(|loaded| loaded.manifest().cloned()).unwrap_or_default();
        let keys = paper::keys(key);
        let files = paper::files(keys.clone(), &client, &server);
        let step = lifecycle::enrollment::begin(now, manifest, None);
        let mut after = Manifest::default();
        let number = step.settle(|barrier| {
            let Barrier::Prepare { number, manifest } = barrier else { return Err(()) };
            store.prepare(number, &keys, Reservation::default()).map_err(drop)?;
            after = manifest;
            store.commit(&after).map_err(drop)
        });
        let is_stored = number.is_ok_and(|number| {
            let issued = Issued { client, server, digest: digest_of(number, &files) };
            let finished = lifecycle::enrollment::finish(now, after, number, issued).settle(|barrier| {
                let Barrier::Stage { number, manifest } = barrier else { return Err(()) };
                store.stage(number, &files).map_err(drop)?;
                store.commit(&manifest).map_err(drop)
            });
            finished.is_ok()
        });
        self.disk = Some(store.close());
        is_stored
    }
}

/// A disk with the folder of the identity files, wrong in one way if the mutant says so.
pub(crate) fn new_disk(mutant: Option<Mutant>) -> SimDisk {
    let mut disk = SimDisk::with_folder(FOLDER);
    match mutant {
        Some(Mutant::NoFileSync) => disk.mutate(store::disk::Mutant::NoFileSync),
        Some(Mutant::NoFolderSync) => disk.mutate(store::disk::Mutant::NoFolderSync),
        _ => {}
    }
    disk
}

impl World {
    pub(crate) fn process(&self, router: usize) -> Option<&Process> {
        match &self.routers.get(router)?.body {
            Body::Exuvia(body) => body.process.as_ref(),
            Body::Stock(_) => None,
        }
    }

    pub(crate) fn process_mut(&mut self, router: usize) -> Option<&mut Process> {
        match &mut self.routers.get_mut(router)?.body {
            Body::Exuvia(body) => body.process.as_mut(),
            Body::Stock(_) => None,
        }
    }

    pub(crate) fn start_exuvia(&mut self, router: usize) {
        let now_ms = self.now_ms;
        let Some(Body::Exuvia(body)) = self.routers.get_mut(router).map(|host| &mut host.body) else { return };
        if body.process.is_some() || now_ms < body.opens_at_ms {
            return;
        }
        let Some(mut disk) = body.disk.take() else { return };
        if disk.pending() > 64 {
            // The kernel has written back by now what a killed process left in the cache.
            disk = disk.after_crash(CrashModel::Weakest, |_| true);
        }
        let store = match IdentityStore::open(disk, Path::new(STATE), "") {
            Ok((store, _)) => store,
            Err((_, disk)) => {
                let is_down = disk.is_down();
                body.disk = Some(disk);
                if is_down {
                    return self.power_cut_now(router);
                }
                body.opens_at_ms = now_ms + OPEN_AGAIN_MS;
                return self.at(OPEN_AGAIN_MS, Event::StartRouter { router });
            }
        };
        let process = Process {
            store,
            machine: None,
            links: Links::default(),
            keys: None,
            arrived: None,
            leaves: BTreeMap::new(),
            admitted: BTreeSet::new(),
            published: None,
            turn: 0,
            latest_wall: UnixTime::default(),
            confirmed: BTreeSet::new(),
            mishaps: 0,
            paused_until_ms: 0,
            whole: BTreeMap::new(),
            is_projected: false,
            files: files::Files::default(),
        };
        let is_projected = self.is_projected(router);
        if let Some(host) = self.routers.get_mut(router) {
            host.life += 1;
            if let Body::Exuvia(body) = &mut host.body {
                body.process = Some(Process { is_projected, ..process });
            }
        }
        self.note(|| format!("router {router} starts"));
        self.begin(router);
    }

    /// Reads the disk and builds the first machine of a process from what it says.
    fn begin(&mut self, router: usize) {
        let Some(process) = self.process_mut(router) else { return };
        let loaded = process.store.load(paper::facts);
        if loaded.as_ref().is_ok_and(|found| found.damage().is_empty()) {
            let _ = process.store.sweep();
        }
        // What was read may be in the cache alone: a process that was killed between rename and sync left it so.
        if loaded.as_ref().is_ok_and(|found| found.manifest().is_some_and(is_unproven)) {
            let _ = process.store.make_manifest_durable();
        }
        if self.disk_is_down(router) {
            return self.power_cut_now(router);
        }
        let Ok(loaded) = loaded else { return self.patience(router) };
        let Some(manifest) = loaded.manifest().cloned() else {
            let found = "the disk says that nothing was ever stored".to_owned();
            self.claim(router, Claim::SomeDurableGenerationIsAdmitted, Err(found));
            return;
        };
        let prepared = self.remember(router, &loaded);
        self.build(router, Found { manifest, prepared, storage: Storage::Writable }, None);
    }

    /// After a STAGE that failed: the disk is read again, and a new machine is built from what is certain to be there. Published credentials and
    /// channels outlive the old one.
    fn rebuild(&mut self, router: usize, failed: &Renewal) {
        let Some(process) = self.process_mut(router) else { return };
        let Some(before) = process.machine.take() else { return };
        let known = before.manifest();
        let found = process.store.load(paper::facts).ok().filter(|loaded| {
            let is_known = |candidate: &Candidate| {
                known.candidate(candidate.number).is_some_and(|known| known.digest == candidate.digest)
            };
            let is_certain = |manifest: &Manifest| manifest.candidates.iter().all(is_known);
            loaded.manifest().is_some_and(is_certain)
                || loaded.manifest().is_some_and(is_unproven) && process.store.make_manifest_durable().is_ok()
        });
        if self.disk_is_down(router) {
            return self.power_cut_now(router);
        }
        let (mut manifest, prepared) = match &found {
            Some(loaded) => (loaded.manifest().cloned().unwrap_or_default(), self.remember(router, loaded)),
            None => {
                let prepared = self.process(router).and_then(|process| process.keys.as_ref()).map(|keys| keys.0);
                (known.clone(), prepared)
            }
        };
        // What a controller has admitted it has admitted, whether the disk takes a note of it or not.
        for candidate in &mut manifest.candidates {
            let known = failed.manifest().candidate(candidate.number).filter(|known| known.digest == candidate.digest);
            candidate.first_admitted = candidate.first_admitted.or(known.and_then(|known| known.first_admitted));
        }
        self.build(router, Found { manifest, prepared, storage: Storage::Writable }, Some(&before));
        self.readopt_channels(router);
    }

    /// What a process keeps in memory of what it read. Answers which generation has keys and no leaves.
    fn remember(&mut self, router: usize, loaded: &Loaded) -> Option<GenerationNumber> {
        let process = self.process_mut(router)?;
        let whole = loaded.generations().iter();
        process.leaves.extend(whole.filter_map(|whole| Some((whole.number, paper::read(&whole.files.client)?))));
        if process.is_projected {
            process.whole.extend(loaded.generations().iter().map(|whole| (whole.number, whole.files.clone())));
        }
        process.keys =
            loaded.prepared().and_then(|found| Some((found.number, found.keys.clone(), paper::key_of(&found.keys)?)));
        process.keys.as_ref().map(|(number, ..)| *number)
    }

    fn build(&mut self, router: usize, found: Found, before: Option<&Renewal>) {
        let now = self.router_now(router);
        let policy = self.policy;
        let controllers: Vec<_> = self.controllers.iter().map(|host| host.id.clone()).collect();
        let Some(process) = self.process_mut(router) else { return };
        process.machine = match before {
            Some(before) => recover_in_process(now, policy, found, before),
            None => recover(now, policy, found),
        };
        process.arrived = None;
        self.survey(router);
        self.give(router, Input::Started { controllers });
        self.sleep(router);
    }

    /// Channels outlive a rebuilt machine: it is told of them as if they had just opened.
    fn readopt_channels(&mut self, router: usize) {
        let open: Vec<(usize, Leaf)> = self.links(router).map_or(Vec::new(), |links| {
            links.channels.iter().filter_map(|(at, open)| Some((*at, open.underlays.last()?.1))).collect()
        });
        let grouped = self.plan.are_grouped;
        for (controller, leaf) in open {
            self.exuvia_dialed(router, controller, leaf, DialOutcome::Admitted { grouped, window: None });
        }
    }

    /// A disk that keeps failing is not asked again at once.
    fn patience(&mut self, router: usize) {
        let now_ms = self.now_ms;
        let Some(process) = self.process_mut(router) else { return };
        process.mishaps += 1;
        let wait_ms = 500 << process.mishaps.min(8);
        process.paused_until_ms = now_ms + wait_ms;
        self.sleep(router);
    }

    pub(crate) fn wake_exuvia(&mut self, router: usize, turn: u64) {
        let Some(process) = self.process_mut(router) else { return };
        if process.turn != turn {
            return;
        }
        if process.machine.is_none() {
            return self.begin(router);
        }
        self.tell(router, Input::Tick);
    }

    /// One input that the world saw, and then whatever the machine has to do at once.
    pub(crate) fn tell(&mut self, router: usize, input: Input) {
        self.give(router, input);
        self.sleep(router);
    }

    fn sleep(&mut self, router: usize) {
        let now = self.router_now(router);
        let now_ms = self.now_ms;
        let Some(host) = self.routers.get_mut(router) else { return };
        let life = host.life;
        let Body::Exuvia(body) = &mut host.body else { return };
        let Some(process) = body.process.as_mut() else { return };
        let wait_ms = process.machine.as_ref().map_or(0, |machine| {
            let mut wait = machine.wake_in(now);
            // Nothing happens in a Steady machine before it is due; the world wakes it when a clock is stepped.
            let is_idle = matches!(machine.phase(), Phase::Steady { .. })
                && machine.contacts().values().all(lifecycle::renewal::Contact::is_up);
            if is_idle && !machine.has_unsaved() {
                wait = wait.max(machine.due_in(now));
            }
            u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)
        });
        let wait_ms = wait_ms.max(process.paused_until_ms.saturating_sub(now_ms)).clamp(1, LONGEST_SLEEP_MS);
        process.turn += 1;
        let turn = process.turn;
        self.at(wait_ms, Event::Wake { router, life, turn });
    }

    fn give(&mut self, router: usize, input: Input) {
        let now = self.router_now(router);
        self.count_router(router);
        self.counts.steps += 1;
        let Some(process) = self.process_mut(router) else { return };
        process.latest_wall = process.latest_wall.max(now.wall);
        let Some(machine) = &process.machine else { return };
        let (next, step) = machine.clone().step(now, input);
        let Some(barrier) = step.barrier() else {
            process.machine = Some(next);
            let Ok(effects) = step.settle(|_| Ok::<(), std::convert::Infallible>(()));
            return self.perform_all(router, effects);
        };
        self.counts.barriers += 1;
        let blocking = Blocking::of(barrier);
        let key = paper::key(self.fresh(router));
        if self.plan.mutant == Some(Mutant::VerifyBeforeStage) && matches!(blocking, Blocking::Leaves) {
            return self.show_before_durable(router, next, step);
        }
        let Some(process) = self.process_mut(router) else { return };
        let outcome = step.settle(|barrier| process.commit(barrier, key));
        if self.disk_is_down(router) {
            return self.power_cut_now(router);
        }
        match outcome {
            Ok(effects) => {
                if let Some(process) = self.process_mut(router) {
                    process.machine = Some(next);
                    process.mishaps = 0;
                }
                self.survey(router);
                self.check_identity(router);
                self.perform_all(router, effects);
            }
            Err(error) => {
                self.survey(router);
                self.check_identity(router);
                self.barrier_failed(router, next, blocking, &error);
            }
        }
    }

    fn perform_all(&mut self, router: usize, effects: Vec<Effect>) {
        for effect in effects {
            self.perform(router, effect);
        }
    }

    fn barrier_failed(&mut self, router: usize, next: Renewal, blocking: Blocking, error: &StoreError) {
        self.counts.failed_barriers += 1;
        self.note(|| format!("router {router}: barrier failed: {error}"));
        let Some(process) = self.process_mut(router) else { return };
        let must_reload = matches!(error, StoreError::OutcomeUnknown(_) | StoreError::Refused(_));
        match blocking {
            // Nothing was asked for yet, so this is an ordinary input.
            Blocking::Prepare(number) => {
                process.machine = Some(next);
                if must_reload {
                    let _ = process.store.load(paper::facts);
                }
                let trouble = if error.is_full() {
                    StorageTrouble::Full
                } else if error.is_read_only() {
                    StorageTrouble::ReadOnly
                } else {
                    StorageTrouble::Broken
                };
                self.give(router, Input::PrepareFailed { number, trouble });
            }
            // The machine stays as it was before the step, and tries again after a while.
            Blocking::Manifest => {
                let _ = process.store.load(paper::facts);
                self.give(router, Input::ManifestFailed);
            }
            Blocking::Leaves => {
                self.patience(router);
                self.rebuild(router, &next);
            }
        }
    }

    fn disk_is_down(&self, router: usize) -> bool {
        self.process(router).is_some_and(|process| process.store.disk().is_down())
    }

    /// Works out what a crash at this instant may leave of a router's generations.
    pub(crate) fn survey(&mut self, router: usize) {
        let Some(Body::Exuvia(body)) = self.routers.get(router).map(|host| &host.body) else { return };
        let disk = match (&body.process, &body.disk) {
            (Some(process), _) => process.store.disk(),
            (None, Some(disk)) => disk,
            (None, None) => return,
        };
        let is_known = body.surveyed == Some(disk.revision());
        let survivors = (!is_known).then(|| survivors_of(disk));
        let seen = disk.revision();
        let candidates = body.process.as_ref().and_then(|process| process.machine.as_ref());
        let bounded = candidates_are_bounded(candidates.map_or(0, |machine| machine.manifest().candidates.len()));
        self.claim(router, Claim::CandidatesAreBounded, bounded);
        let Some(host) = self.routers.get_mut(router) else { return };
        if let Some(survivors) = survivors {
            for leaf in survivors.first().into_iter().flatten() {
                if !host.held.contains(leaf) {
                    host.held.push(*leaf);
                }
            }
            let surplus = host.held.len().saturating_sub(CANDIDATES_MAX);
            host.held.drain(..surplus);
            host.survivors = survivors;
        }
        if let Body::Exuvia(body) = &mut host.body {
            body.surveyed = Some(seen);
        }
    }

    pub(crate) fn count_router(&mut self, router: usize) {
        let hour = self.now_ms / 3_600_000;
        let Some(host) = self.routers.get_mut(router) else { return };
        if host.hour.0 != hour {
            host.hour = (hour, 0);
        }
        host.hour.1 += 1;
        let busy = host.hour.1;
        self.counts.busiest_hour = self.counts.busiest_hour.max(busy);
        if busy > BUSY_PER_HOUR {
            let found = format!("{busy} steps and messages within an hour");
            self.claim(router, Claim::NobodySpins, Err(found));
        }
    }
}

impl Process {
    /// The client leaf of a generation; one that could not be read at the start is read now.
    fn leaf(&mut self, number: GenerationNumber) -> Option<Leaf> {
        if !self.leaves.contains_key(&number)
            && let Ok(whole) = self.store.read_generation(number)
        {
            self.leaves.extend(paper::read(&whole.files.client).map(|leaf| (number, leaf)));
        }
        self.leaves.get(&number).copied()
    }

    fn prepared_key(&self, number: GenerationNumber) -> Option<KeyId> {
        self.keys.as_ref().filter(|(of, ..)| *of == number).map(|(.., key)| *key)
    }

    /// A renewal of files that are copied keeps their key, so that every mixture of old and new copies loads.
    fn kept_keys(&self, manifest: &Manifest) -> Option<(Keys, KeyId)> {
        let served = manifest.default_candidate()?.number;
        let keys = self.whole.get(&served).filter(|_| self.is_projected)?.keys.clone();
        let key = paper::key_of(&keys)?;
        Some((keys, key))
    }

    fn commit(&mut self, barrier: Barrier, new_key: KeyId) -> Result<(), StoreError> {
        match barrier {
            Barrier::Prepare { number, manifest } => {
                let (keys, new_key) = self.kept_keys(&manifest).unwrap_or_else(|| (paper::keys(new_key), new_key));
                self.store.prepare(number, &keys, Reservation::default())?;
                if let Err(error) = self.store.commit(&manifest) {
                    let _ = self.store.discard(number);
                    return Err(error);
                }
                self.keys = Some((number, keys, new_key));
                self.arrived = None;
                Ok(())
            }
            Barrier::Import { number, manifest } => self.take_in(number, &manifest),
            Barrier::Stage { number, manifest } => {
                let Some((_, files)) = self.arrived.take().filter(|(of, _)| *of == number) else {
                    return Err(store::Refusal::NotPrepared(number).into());
                };
                self.store.stage(number, &files)?;
                self.store.commit(&manifest)?;
                self.leaves.extend(paper::read(&files.client).map(|leaf| (number, leaf)));
                if self.is_projected {
                    self.whole.insert(number, files);
                }
                Ok(())
            }
            Barrier::Manifest(manifest) => self.store.commit(&manifest),
        }
    }
}

/// Does a manifest name what no controller was seen to admit? What was once admitted was durable before that.
fn is_unproven(manifest: &Manifest) -> bool {
    manifest.candidates.iter().any(|candidate| candidate.first_admitted.is_none())
}

/// What a crash at this moment may leave: nothing of what was not synced, all of it, and what two dice leave. Every subset is the business of
/// the store's own tests.
fn survivors_of(disk: &SimDisk) -> Vec<Vec<Leaf>> {
    let kept = found_after(disk.after_kill());
    if disk.pending() == 0 {
        return vec![kept];
    }
    let mut survivors = vec![kept, found_after(disk.after_crash(CrashModel::Weakest, |_| false))];
    survivors
        .extend((0..2).map(|seed| found_after(disk.after_crash_seeded(CrashModel::Weakest, disk.operations() ^ seed))));
    survivors
}

/// The client leaves that a start would find on this disk.
fn found_after(mut disk: SimDisk) -> Vec<Leaf> {
    disk.set_read_only(false);
    disk.die(None);
    let Ok((mut store, _)) = IdentityStore::open(disk, Path::new(STATE), "") else { return Vec::new() };
    match store.load(paper::facts) {
        Ok(loaded) => loaded.generations().iter().filter_map(|whole| paper::read(&whole.files.client)).collect(),
        Err(_) => Vec::new(),
    }
}

/// A bit of the manifest has flipped: does a start say so, and does it find every generation that has its own whole digest?
pub(crate) fn damage_is_told(mut disk: SimDisk) -> Result<(), String> {
    disk.set_read_only(false);
    disk.die(None);
    let Ok((mut store, _)) = IdentityStore::open(disk, Path::new(STATE), "") else { return Ok(()) };
    match store.load(paper::facts) {
        Ok(Loaded::Absent) => Err("a damaged manifest is called absent".to_owned()),
        Ok(Loaded::Intact(_)) => Err("a damaged manifest is called intact".to_owned()),
        Ok(Loaded::Newer(_) | Loaded::Damaged(_)) | Err(_) => Ok(()),
    }
}
