//! Our router: the real machine over the real store, and the smallest shell that can run them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use lifecycle::manifest::Manifest;
use lifecycle::recovery::{Found, recover};
use lifecycle::renewal::{
    Barrier, DialOutcome, Effect, Event as Said, Input, Issued, Phase, ProofOutcome, Renewal, Storage, StorageTrouble,
    VerifyAnswer,
};
use lifecycle::{Fingerprint, GenerationNumber, KeyId, Leaf, Now};
use store::StoreError;
use store::disk::{CrashModel, SimDisk};
use store::generation::{GenerationFiles, Keys, Reservation, digest_of};
use store::identity::IdentityStore;

use super::{Body, Event, Links, Purpose, World};
use crate::claims::{Claim, candidates_are_bounded, nothing_is_retired_unproven, what_is_shown_is_durable};
use crate::message::Message;
use crate::paper;
use crate::plan::Make;

pub(crate) const FOLDER: &str = "/etc/ziti";
pub(crate) const STATE: &str = "/etc/ziti/.exuvia/r";

/// Steps and messages of one router in one virtual hour that are still called patience.
const BUSY_PER_HOUR: u32 = 4_000;

#[derive(Clone, Debug)]
pub(crate) struct Exuvia {
    /// While no process has it.
    pub(crate) disk: Option<SimDisk>,
    pub(crate) process: Option<Process>,
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
    is_rebuilding: bool,
    /// Which wake-up counts; earlier ones are void.
    pub(crate) turn: u64,
    /// Rebuilt machines in a row.
    rebuilds: u32,
    not_before_ms: u64,
}

impl Exuvia {
    pub(crate) fn enrolled(now: Now, key: KeyId, client: Leaf, server: Leaf) -> Self {
        let mut body = Self { disk: Some(SimDisk::with_folder(FOLDER)), process: None };
        body.enroll(now, key, client, server);
        body
    }

    /// Enrolls through the real store, on whatever is on the disk.
    pub(crate) fn enroll(&mut self, now: Now, key: KeyId, client: Leaf, server: Leaf) {
        let Some(disk) = self.disk.take() else { return };
        let Ok((mut store, _)) = IdentityStore::open(disk, Path::new(STATE), "") else { return };
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
        if let Ok(number) = number {
            let issued = Issued { client, server, digest: digest_of(number, &files) };
            let _ = lifecycle::enrollment::finish(now, after, number, issued).settle(|barrier| {
                let Barrier::Stage { number, manifest } = barrier else { return Err(()) };
                store.stage(number, &files).map_err(drop)?;
                store.commit(&manifest).map_err(drop)
            });
        }
        self.disk = Some(store.close());
    }
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
        let Some(Body::Exuvia(body)) = self.routers.get_mut(router).map(|host| &mut host.body) else { return };
        if body.process.is_some() {
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
                return self.at(5_000, Event::StartRouter { router });
            }
        };
        body.process = Some(Process {
            store,
            machine: None,
            links: Links::default(),
            keys: None,
            arrived: None,
            leaves: BTreeMap::new(),
            admitted: BTreeSet::new(),
            published: None,
            is_rebuilding: false,
            turn: 0,
            rebuilds: 0,
            not_before_ms: 0,
        });
        if let Some(host) = self.routers.get_mut(router) {
            host.life += 1;
        }
        self.note(|| format!("router {router} starts"));
        self.rebuild(router, true);
    }

    /// Reads the disk and builds a machine from what it says.
    fn rebuild(&mut self, router: usize, may_sweep: bool) {
        let now = self.router_now(router);
        let policy = self.policy;
        let controllers: Vec<_> = self.controllers.iter().map(|host| host.id.clone()).collect();
        let Some(process) = self.process_mut(router) else { return };
        let loaded = process.store.load(paper::facts);
        if let (Ok(found), true) = (&loaded, may_sweep)
            && found.damage().is_empty()
        {
            let _ = process.store.sweep();
        }
        // What was read may be in the cache alone: a process that was killed between rename and sync left it so.
        if let Ok(store::identity::Loaded::Intact(found)) = &loaded
            && found.manifest.candidates.last().is_some_and(|newest| newest.first_admitted.is_none())
        {
            let _ = process.store.commit(&found.manifest);
        }
        if self.disk_is_down(router) {
            return self.power_cut_now(router);
        }
        let Some(process) = self.process_mut(router) else { return };
        let Ok(loaded) = loaded else {
            process.machine = None;
            return self.patience(router);
        };
        let Some(manifest) = loaded.manifest().cloned() else {
            process.machine = None;
            let found = "the disk says that nothing was ever stored".to_owned();
            self.claim(router, Claim::SomeDurableGenerationIsAdmitted, Err(found));
            return;
        };
        let whole = loaded.generations().iter();
        process.leaves = whole.filter_map(|whole| Some((whole.number, paper::read(&whole.files.client)?))).collect();
        process.keys =
            loaded.prepared().and_then(|found| Some((found.number, found.keys.clone(), paper::key_of(&found.keys)?)));
        let prepared = process.keys.as_ref().map(|(number, ..)| *number);
        let found = Found { manifest, prepared, storage: Storage::Writable };
        process.machine = recover(now, policy, found);
        process.arrived = None;
        self.survey(router);
        self.set_rebuilding(router, true);
        self.give(router, Input::Started { controllers });
        self.set_rebuilding(router, false);
        self.readopt_channels(router);
        self.sleep(router);
    }

    fn set_rebuilding(&mut self, router: usize, is_rebuilding: bool) {
        if let Some(process) = self.process_mut(router) {
            process.is_rebuilding = is_rebuilding;
        }
    }

    /// Channels outlive a rebuilt machine: it is told of them as if they had just opened.
    fn readopt_channels(&mut self, router: usize) {
        let open: Vec<(usize, Leaf)> = self.links(router).map_or(Vec::new(), |links| {
            links.channels.iter().filter_map(|(at, open)| Some((*at, open.underlays.last()?.1))).collect()
        });
        for (controller, leaf) in open {
            self.exuvia_dialed(router, controller, leaf, DialOutcome::Admitted { grouped: true, window: None });
        }
    }

    /// A disk that keeps failing is not asked again at once.
    fn patience(&mut self, router: usize) {
        let now_ms = self.now_ms;
        let Some(process) = self.process_mut(router) else { return };
        process.rebuilds += 1;
        let wait_ms = 500 << process.rebuilds.min(8);
        process.not_before_ms = now_ms + wait_ms;
        process.turn += 1;
        let turn = process.turn;
        let life = self.routers.get(router).map_or(0, |host| host.life);
        self.at(wait_ms, Event::Wake { router, life, turn });
    }

    pub(crate) fn wake_exuvia(&mut self, router: usize, turn: u64) {
        let now_ms = self.now_ms;
        let Some(process) = self.process_mut(router) else { return };
        if process.turn != turn {
            return;
        }
        if process.machine.is_none() {
            if now_ms >= process.not_before_ms {
                self.rebuild(router, false);
            }
            return;
        }
        self.give(router, Input::Tick);
        self.sleep(router);
    }

    /// One input that the world saw, and then whatever the machine has to do at once.
    pub(crate) fn tell(&mut self, router: usize, input: Input) {
        self.give(router, input);
        self.sleep(router);
    }

    fn sleep(&mut self, router: usize) {
        let now = self.router_now(router);
        let Some(host) = self.routers.get_mut(router) else { return };
        let life = host.life;
        let Body::Exuvia(body) = &mut host.body else { return };
        let Some(process) = body.process.as_mut() else { return };
        let Some(machine) = &process.machine else { return };
        let mut wait = machine.wake_in(now);
        // Nothing happens in a Steady machine before it is due; the world wakes it when a clock is stepped.
        let is_idle = matches!(machine.phase(), Phase::Steady { .. })
            && machine.contacts().values().all(lifecycle::renewal::Contact::is_up);
        if is_idle {
            wait = wait.max(machine.renew_at().since(now.wall));
        }
        process.turn += 1;
        let turn = process.turn;
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).clamp(1, 86_400_000);
        self.at(wait_ms, Event::Wake { router, life, turn });
    }

    fn give(&mut self, router: usize, input: Input) {
        let now = self.router_now(router);
        self.count_router(router);
        self.counts.steps += 1;
        let Some(process) = self.process_mut(router) else { return };
        let Some(machine) = process.machine.take() else { return };
        let (machine, step) = machine.step(now, input);
        process.machine = Some(machine);
        let mut failed_prepare = None;
        let is_barrier = step.barrier().is_some();
        let outcome = match step.barrier() {
            Some(Barrier::Prepare { number, .. }) => {
                failed_prepare = Some(*number);
                let key = paper::key(self.fresh());
                let Some(process) = self.process_mut(router) else { return };
                step.settle(|barrier| process.commit(barrier, key))
            }
            Some(Barrier::Stage { .. } | Barrier::Import { .. } | Barrier::Manifest(_)) => {
                step.settle(|barrier| process.commit(barrier, KeyId([0; 32])))
            }
            None => step.settle(|_| Ok(())),
        };
        if is_barrier {
            self.counts.barriers += 1;
            if self.disk_is_down(router) {
                return self.power_cut_now(router);
            }
            self.survey(router);
            self.check_identity(router);
        }
        match outcome {
            Ok(effects) => {
                for effect in effects {
                    self.perform(router, effect);
                }
            }
            Err(error) => self.barrier_failed(router, failed_prepare, &error),
        }
    }

    fn barrier_failed(&mut self, router: usize, prepare: Option<GenerationNumber>, error: &StoreError) {
        self.counts.failed_barriers += 1;
        self.note(|| format!("router {router}: barrier failed: {error}"));
        match prepare {
            Some(number) => {
                let trouble = if error.is_full() {
                    StorageTrouble::Full
                } else if error.is_read_only() {
                    StorageTrouble::ReadOnly
                } else {
                    StorageTrouble::Broken
                };
                if let Some(process) = self.process_mut(router)
                    && matches!(error, StoreError::OutcomeUnknown(_) | StoreError::Refused(_))
                {
                    let _ = process.store.load(paper::facts);
                }
                self.give(router, Input::PrepareFailed { number, trouble });
            }
            None => {
                if let Some(process) = self.process_mut(router) {
                    process.machine = None;
                }
                self.patience(router);
            }
        }
    }

    fn perform(&mut self, router: usize, effect: Effect) {
        match effect {
            Effect::Dial { controller, generation } => {
                self.exuvia_opens(router, &controller, generation, Purpose::Channel)
            }
            Effect::Replace { controller, generation } => {
                let Some(at) = self.controller_at(&controller) else { return };
                if let Some(open) = self.links_mut(router).and_then(|links| links.channels.remove(&at)) {
                    self.send_to_controller(router, at, Message::Closed { channel: open.id });
                }
                self.exuvia_opens(router, &controller, generation, Purpose::Channel);
            }
            Effect::Prove { controller, generation } => {
                self.exuvia_opens(router, &controller, generation, Purpose::Prove);
            }
            Effect::Request { controller, number, present } => {
                let Some(at) = self.controller_at(&controller) else { return };
                let Some(key) = self.process(router).and_then(|process| process.prepared_key(number)) else { return };
                self.counts.requests += 1;
                match self.plan.controller_make {
                    Make::Exuvia => self.exuvia_asks(router, at, key),
                    Make::Stock => self.exuvia_opens(router, &controller, present, Purpose::Ask(key)),
                }
            }
            Effect::Verify { controller, number } => {
                let Some(at) = self.controller_at(&controller) else { return };
                let Some(leaf) = self.process(router).and_then(|process| process.leaves.get(&number)).copied() else {
                    return;
                };
                self.claim_shown(router, &leaf);
                self.counts.verifies += 1;
                let channel = self.links(router).and_then(|links| links.channels.get(&at)).map(|open| open.id);
                if let Some(channel) = channel {
                    self.send_to_controller(router, at, Message::Verify { channel, fingerprint: leaf.fingerprint });
                }
            }
            Effect::Publish(number) => {
                let Some(process) = self.process_mut(router) else { return };
                let is_first = process.published.is_none();
                let is_proven = process.admitted.contains(&number) || process.published == Some(number);
                if process.is_rebuilding && !is_first {
                    // Published credentials outlive a machine.
                    return;
                }
                process.published = Some(number);
                if !is_first && !is_proven {
                    let found = format!("{number} is published and was never admitted to this process");
                    self.claim(router, Claim::OnlyAnAdmittedGenerationIsPublished, Err(found));
                }
            }
            Effect::Trim(number) => self.trim(router, number),
            // Projection has its own tests in `store`; nothing here reads the configured paths.
            Effect::Project(_) => {}
            Effect::Erase(numbers) => {
                let Some(process) = self.process_mut(router) else { return };
                let _ = process.store.erase(&numbers);
                if self.disk_is_down(router) {
                    return self.power_cut_now(router);
                }
                self.survey(router);
                self.check_identity(router);
            }
            Effect::Report(said) => self.said(router, &said),
        }
    }

    fn trim(&mut self, router: usize, newest: GenerationNumber) {
        let Some(process) = self.process_mut(router) else { return };
        let leaves = &process.leaves;
        let number_of = |leaf: &Leaf| leaves.iter().find(|(_, l)| l.fingerprint == leaf.fingerprint).map(|(n, _)| *n);
        let mut closed = Vec::new();
        for (controller, open) in &mut process.links.channels {
            if open.underlays.iter().any(|(_, leaf)| number_of(leaf) == Some(newest)) {
                let is_old = |leaf: &Leaf| number_of(leaf).is_some_and(|number| number < newest);
                closed.extend(
                    open.underlays.iter().filter(|(_, l)| is_old(l)).map(|(id, _)| (*controller, open.id, *id)),
                );
                open.underlays.retain(|(_, leaf)| !is_old(leaf));
            }
        }
        for (controller, channel, underlay) in closed {
            self.send_to_controller(router, controller, Message::UnderlayClosed { channel, underlay });
        }
    }

    fn said(&mut self, router: usize, said: &Said) {
        self.note(|| format!("router {router} says: {said:?}"));
        let wall = self.router_now(router).wall;
        match said {
            Said::Promoted { number, .. } => {
                self.counts.renewals += 1;
                let is_proven = self.process(router).is_some_and(|process| process.admitted.contains(number));
                if !is_proven {
                    let found = format!("{number} is called promoted and was never admitted to this process");
                    self.claim(router, Claim::OnlyAnAdmittedGenerationIsPublished, Err(found));
                }
            }
            Said::Retired(numbers) => {
                self.counts.retired += numbers.len() as u64;
                let Some(process) = self.process(router) else { return };
                let newest = process.machine.as_ref().map_or(GenerationNumber(0), |m| m.manifest().last_number);
                let leaves: Vec<_> =
                    numbers.iter().map(|number| (*number, process.leaves.get(number).copied())).collect();
                let result = nothing_is_retired_unproven(&leaves, |n| process.admitted.contains(&n), wall, newest);
                self.claim(router, Claim::NothingIsRetiredBeforeALaterOneWasAdmittedAfterItsEnd, result);
            }
            Said::AttemptFailed { .. } => self.counts.failed_rounds += 1,
            Said::Blocked(_) => self.counts.blocked += 1,
            Said::Lapsed => self.counts.lapsed += 1,
            _ => {}
        }
    }

    fn exuvia_opens(
        &mut self,
        router: usize,
        controller: &lifecycle::ControllerId,
        number: GenerationNumber,
        purpose: Purpose,
    ) {
        let Some(at) = self.controller_at(controller) else { return };
        let known = self.process_mut(router).and_then(|process| process.leaf(number));
        if self.disk_is_down(router) {
            return self.power_cut_now(router);
        }
        let Some(leaf) = known else {
            // It cannot be read, still: the next one's turn.
            if purpose == Purpose::Channel {
                let controller = controller.clone();
                self.give(router, Input::Dialed { controller, generation: number, outcome: DialOutcome::Refused });
            }
            return;
        };
        self.claim_shown(router, &leaf);
        self.dial(router, at, leaf, purpose);
    }

    pub(crate) fn exuvia_asks(&mut self, router: usize, controller: usize, key: KeyId) {
        // Keys that a crash may lose must not be certified: the answer would be worthless.
        let Some(channel) = self.links(router).and_then(|links| links.channels.get(&controller)).map(|open| open.id)
        else {
            return;
        };
        self.send_to_controller(router, controller, Message::Extend { channel, asked: paper::asked(key) });
    }

    pub(crate) fn exuvia_dialed(&mut self, router: usize, controller: usize, leaf: Leaf, outcome: DialOutcome) {
        let is_admitted = matches!(outcome, DialOutcome::Admitted { .. });
        let Some((id, generation)) = self.which(router, controller, &leaf, is_admitted) else { return };
        self.tell(router, Input::Dialed { controller: id, generation, outcome });
    }

    pub(crate) fn exuvia_proved(&mut self, router: usize, controller: usize, leaf: Leaf, outcome: ProofOutcome) {
        let Some((id, generation)) = self.which(router, controller, &leaf, outcome == ProofOutcome::Admitted) else {
            return;
        };
        self.tell(router, Input::Proved { controller: id, generation, outcome });
    }

    fn which(
        &mut self,
        router: usize,
        controller: usize,
        leaf: &Leaf,
        is_admitted: bool,
    ) -> Option<(lifecycle::ControllerId, GenerationNumber)> {
        let id = self.controllers.get(controller)?.id.clone();
        let process = self.process_mut(router)?;
        let number = *process.leaves.iter().find(|(_, known)| known.fingerprint == leaf.fingerprint)?.0;
        if is_admitted {
            process.admitted.insert(number);
        }
        Some((id, number))
    }

    pub(crate) fn exuvia_lost_channel(&mut self, router: usize, controller: usize) {
        let Some(id) = self.controllers.get(controller).map(|host| host.id.clone()) else { return };
        self.tell(router, Input::ChannelClosed { controller: id });
    }

    pub(crate) fn exuvia_gets_leaves(&mut self, router: usize, client: Leaf, server: Leaf) {
        let Some(process) = self.process_mut(router) else { return };
        let Some((number, keys, key)) = process.keys.clone() else { return };
        if client.key != key || server.key != key {
            return;
        }
        let files = paper::files(keys, &client, &server);
        let issued = Issued { client, server, digest: digest_of(number, &files) };
        process.arrived = Some((number, files));
        self.tell(router, Input::Issued { number, issued });
    }

    pub(crate) fn exuvia_is_answered(
        &mut self,
        router: usize,
        controller: usize,
        fingerprint: Fingerprint,
        is_success: bool,
    ) {
        let Some(id) = self.controllers.get(controller).map(|host| host.id.clone()) else { return };
        let Some(process) = self.process(router) else { return };
        let Some(number) = process.leaves.iter().find(|(_, leaf)| leaf.fingerprint == fingerprint).map(|(n, _)| *n)
        else {
            return;
        };
        let answer = if is_success { VerifyAnswer::Success } else { VerifyAnswer::Error };
        self.tell(router, Input::VerifyAnswered { controller: id, number, answer });
    }

    fn claim_shown(&mut self, router: usize, leaf: &Leaf) {
        let result = what_is_shown_is_durable(self, router, leaf);
        self.claim(router, Claim::NothingIsSentBeforeItIsDurable, result);
    }

    fn controller_at(&self, id: &lifecycle::ControllerId) -> Option<usize> {
        self.controllers.iter().position(|host| host.id == *id)
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
        let mut survivors = Vec::new();
        if disk.pending() == 0 {
            survivors.push(found_after(disk.after_kill()));
        } else {
            // Nothing of the rest, all of it, and what two dice leave; every subset is the business of the store's own tests.
            survivors.push(found_after(disk.after_crash(CrashModel::Weakest, |_| false)));
            survivors.push(found_after(disk.after_kill()));
            for seed in 0..2 {
                survivors.push(found_after(disk.after_crash_seeded(CrashModel::Weakest, disk.operations() ^ seed)));
            }
        }
        let candidates = body.process.as_ref().and_then(|process| process.machine.as_ref());
        let bounded = candidates_are_bounded(candidates.map_or(0, |machine| machine.manifest().candidates.len()));
        self.claim(router, Claim::CandidatesAreBounded, bounded);
        if let Some(host) = self.routers.get_mut(router) {
            host.survivors = survivors;
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

    fn commit(&mut self, barrier: Barrier, new_key: KeyId) -> Result<(), StoreError> {
        match barrier {
            Barrier::Prepare { number, manifest } => {
                let keys = paper::keys(new_key);
                self.store.prepare(number, &keys, Reservation::default())?;
                if let Err(error) = self.store.commit(&manifest) {
                    let _ = self.store.discard(number);
                    return Err(error);
                }
                self.keys = Some((number, keys, new_key));
                self.arrived = None;
                Ok(())
            }
            Barrier::Stage { number, manifest } | Barrier::Import { number, manifest } => {
                let Some((_, files)) = self.arrived.take().filter(|(of, _)| *of == number) else {
                    return Err(store::Refusal::NotPrepared(number).into());
                };
                self.store.stage(number, &files)?;
                self.store.commit(&manifest)?;
                self.leaves.extend(paper::read(&files.client).map(|leaf| (number, leaf)));
                Ok(())
            }
            Barrier::Manifest(manifest) => self.store.commit(&manifest),
        }
    }
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
