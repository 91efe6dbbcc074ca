//! Our router: the machine of `lifecycle`, its disk, and the smallest shell that can run them.

use lifecycle::manifest::Manifest;
use lifecycle::recovery::{Found, recover, recover_in_process};
use lifecycle::renewal::{
    Barrier, DialOutcome, Effect, Event, Input, Issued, Pending, Phase, ProofOutcome, Renewal, Storage, StorageTrouble,
    VerifyAnswer,
};
use lifecycle::{Digest, GenerationNumber};

use super::Turn;
use crate::action::Fate;
use crate::claims::Claim;
use crate::paper::Paper;
use crate::scope::{Make, Mistake};
use crate::seen::Sight;
use crate::state::{Body, Disk, Exuvia, Hello, Message, Process, Purpose, Router};
use crate::story::Actor;

pub(crate) fn short(number: GenerationNumber) -> u8 {
    u8::try_from(number.0).unwrap_or(u8::MAX)
}

impl Disk {
    fn paper(&self, number: u8) -> Option<Paper> {
        self.whole.iter().find(|(of, _)| *of == number).map(|(_, paper)| *paper)
    }
}

/// Does the manifest name what no controller was seen to admit?
fn is_unproven(manifest: &Manifest) -> bool {
    manifest.candidates.iter().any(|candidate| candidate.first_admitted.is_none())
}

impl Turn<'_> {
    fn body(&mut self) -> Option<&mut Exuvia> {
        match &mut self.state.router {
            Router::Exuvia(body) => Some(body),
            Router::Stock(_) => None,
        }
    }

    fn process(&mut self) -> Option<&mut Process> {
        self.body().and_then(|body| body.process.as_deref_mut())
    }

    /// A process starts: reads the disk, makes sure of it, builds the machine, runs.
    pub(crate) fn start_exuvia(&mut self) -> bool {
        let now = self.router_now();
        let turns = self.scope.turns();
        let policy = self.scope.policy();
        let Some(body) = self.body() else { return false };
        if body.process.is_some() {
            return false;
        }
        // What was read may be in the page cache alone.
        if is_unproven(&body.disk.manifest) {
            body.medium = None;
        }
        let manifest = body.disk.manifest.clone();
        let attempt = manifest.attempt.map(|attempt| attempt.number);
        body.disk.prepared = body.disk.prepared.filter(|(number, _)| attempt.map(short) == Some(*number));
        body.disk.whole.retain(|(number, _)| manifest.candidate(GenerationNumber(u64::from(*number))).is_some());
        let prepared = body.disk.prepared.map(|(number, _)| GenerationNumber(number.into()));
        let Some(machine) = recover(now, policy, Found { manifest, prepared, storage: Storage::Writable }) else {
            return false;
        };
        body.process = Some(Box::new(Process { machine: machine.settled(now, turns), admitted: 0, published: 0 }));
        self.story.note(Actor::Router, || "starts".to_owned());
        let controllers = self.scope.controllers();
        self.give(Input::Started { controllers }, Fate::Lives);
        true
    }

    /// Time passes for the machine; every wait may be over.
    pub(crate) fn tick(&mut self, fate: Fate) -> bool {
        if self.scope.mistake == Some(Mistake::ForgetOnLostAnswer) && self.forgets(fate) {
            return true;
        }
        self.give(Input::Tick, fate)
    }

    pub(crate) fn exuvia_router_receives(&mut self, message: Message, fate: Fate) -> bool {
        if self.process().is_none() {
            return false;
        }
        let id = self.scope.controller_id(message.node);
        match message.body {
            Body::Welcome(hello) => {
                if let Some(process) = self.process() {
                    process.admitted |= 1 << hello.generation;
                }
                self.hello_ended(
                    message.node,
                    hello,
                    DialOutcome::Admitted { grouped: self.scope.is_grouped, window: None },
                    ProofOutcome::Admitted,
                );
                if let Purpose::Ask(number, key) = hello.purpose {
                    self.asks(message.node, number, key);
                }
                true
            }
            Body::Refused(hello) => {
                self.hello_ended(message.node, hello, DialOutcome::Refused, ProofOutcome::Refused);
                true
            }
            Body::Extended { paper } => {
                let prepared = self.body().and_then(|body| body.disk.prepared);
                let Some((number, _)) = prepared.filter(|(_, key)| *key == paper.key) else { return true };
                let leaf = paper.leaf(self.scope);
                let issued = Issued { client: leaf, server: leaf, digest: Digest(leaf.fingerprint.0) };
                let input = Input::Issued { number: GenerationNumber(number.into()), issued };
                self.give(input, fate) || fate == Fate::Lives
            }
            Body::Verified { paper, is_success } => {
                let Some(process) = self.process() else { return false };
                // The reply names its request; the newest generation with that leaf is the one that it was sent for.
                let known = process.machine.manifest().candidates.iter().rev();
                let known = known.filter(|candidate| Paper::of(&candidate.client) == paper).map(|c| c.number).next();
                let Some(number) = known else { return true };
                let answer = if is_success { VerifyAnswer::Success } else { VerifyAnswer::Error };
                self.give(Input::VerifyAnswered { controller: id, number, answer }, Fate::Lives);
                true
            }
            Body::Hello(_)
            | Body::Extend { .. }
            | Body::Signed { .. }
            | Body::Verify { .. }
            | Body::Promoting { .. } => false,
        }
    }

    fn hello_ended(&mut self, node: u8, hello: Hello, dialed: DialOutcome, proved: ProofOutcome) {
        let controller = self.scope.controller_id(node);
        let generation = GenerationNumber(hello.generation.into());
        let input = match hello.purpose {
            Purpose::Channel => Input::Dialed { controller, generation, outcome: dialed },
            Purpose::Prove | Purpose::Ask(..) => Input::Proved { controller, generation, outcome: proved },
        };
        self.give(input, Fate::Lives);
    }

    pub(crate) fn exuvia_hears_nothing(&mut self, node: u8, hello: Hello) {
        if self.process().is_some() {
            self.hello_ended(node, hello, DialOutcome::Unreachable, ProofOutcome::Unreachable);
        }
    }

    pub(crate) fn exuvia_lost_channel(&mut self, node: u8) -> bool {
        let controller = self.scope.controller_id(node);
        let Some(process) = self.process() else { return false };
        if !process.machine.contacts().get(&controller).is_some_and(lifecycle::renewal::Contact::is_up) {
            return false;
        }
        self.give(Input::ChannelClosed { controller }, Fate::Lives)
    }

    /// One input. False when nothing came of it, or when it is beyond the bounds.
    pub(crate) fn give(&mut self, input: Input, fate: Fate) -> bool {
        let now = self.router_now();
        let turns = self.scope.turns();
        let mistake = self.scope.mistake;
        let attempts = self.state.left.attempts;
        let Some(process) = self.process() else { return false };
        let before = process.machine.clone();
        let (next, step) = before.clone().step(now, input);
        let next = next.settled(now, turns);
        if next.manifest().candidates.len() < before.manifest().candidates.len() {
            self.check_retirement(&before, &next);
        }
        let Some(barrier) = step.barrier().cloned() else {
            if fate != Fate::Lives {
                return false;
            }
            let Ok(effects) = step.settle(|_| Ok::<(), core::convert::Infallible>(()));
            let is_idle = next == before && effects.iter().all(|effect| matches!(effect, Effect::Report(_)));
            if let Some(process) = self.process() {
                process.machine = next;
            }
            for effect in effects {
                self.perform(effect);
            }
            return !is_idle;
        };
        if matches!(barrier, Barrier::Prepare { .. }) && attempts == 0 {
            return false;
        }
        if matches!(fate, Fate::Fails { .. }) {
            return self.barrier_fails(&before, next, &barrier, fate);
        }
        let is_stage = matches!(barrier, Barrier::Stage { .. });
        let shows_first = mistake == Some(Mistake::VerifyBeforeStage) && is_stage;
        if shows_first && fate == Fate::DiesInBarrier {
            // The mistake: what follows the barrier is seen, and then the process dies before it has written anything.
            if let Some(process) = self.process() {
                process.machine = next;
            }
            let Ok(effects) = step.settle(|_| Ok::<(), core::convert::Infallible>(()));
            for effect in effects {
                self.perform(effect);
            }
            return self.dies();
        }
        let is_synced = fate != Fate::DiesInBarrier && mistake != Some(Mistake::PromoteBeforeDurable);
        self.write(&barrier, is_synced);
        if matches!(fate, Fate::DiesInBarrier | Fate::DiesAfterBarrier) {
            return self.dies();
        }
        let Ok(effects) = step.settle(|_| Ok::<(), core::convert::Infallible>(()));
        if let Some(process) = self.process() {
            process.machine = next;
        }
        for effect in effects {
            self.perform(effect);
        }
        true
    }

    /// A candidate leaves the manifest only when its leaf is over by the router's clock and a later one was admitted to this process.
    fn check_retirement(&mut self, before: &Renewal, next: &Renewal) {
        let wall = self.router_now().wall;
        let admitted = self.process().map_or(0, |process| process.admitted);
        let is_kept = |number| next.manifest().candidate(number).is_some();
        let holds = before.manifest().candidates.iter().filter(|gone| !is_kept(gone.number)).all(|gone| {
            gone.client.is_expired(wall) && (short(gone.number) + 1..16).any(|later| admitted & 1 << later != 0)
        });
        self.claim(Claim::RetiredAfterItsEnd, holds);
    }

    fn dies(&mut self) -> bool {
        if self.state.left.router_crashes == 0 {
            return false;
        }
        self.state.left.router_crashes -= 1;
        self.story.note(Actor::Router, || "killed".to_owned());
        self.router_is_gone();
        true
    }

    /// Puts a barrier's content on the disk. Without the sync a power cut undoes it.
    fn write(&mut self, barrier: &Barrier, is_synced: bool) {
        if let Barrier::Prepare { .. } = barrier {
            self.state.left.attempts = self.state.left.attempts.saturating_sub(1);
        }
        let keeps_key = self.scope.keeps_key;
        // A key that no earlier PREPARE made, whether it lasted or not.
        let new_key = if keeps_key { 1 } else { 2 + self.scope.attempts - self.state.left.attempts };
        let Some(body) = self.body() else { return };
        let old = body.disk.manifest.clone();
        let manifest = match barrier {
            Barrier::Prepare { number, manifest } => {
                body.disk.prepared = Some((short(*number), new_key));
                manifest
            }
            Barrier::Stage { number, manifest } | Barrier::Import { number, manifest } => {
                if let Some(candidate) = manifest.candidate(*number) {
                    body.disk.whole.push((short(*number), Paper::of(&candidate.client)));
                    body.disk.prepared = body.disk.prepared.filter(|(of, _)| *of != short(*number));
                }
                manifest
            }
            Barrier::Manifest(manifest) => manifest,
        };
        let mut manifest = manifest.clone();
        if let Some(attempt) = &mut manifest.attempt {
            attempt.failures = 0;
            attempt.began = Default::default();
        }
        for candidate in &mut manifest.candidates {
            candidate.first_admitted = candidate.first_admitted.map(|_| Default::default());
        }
        body.disk.manifest = manifest;
        if is_synced {
            body.medium = None;
        } else {
            // Keys and leaves are written and synced before the manifest that names them is renamed into place.
            let manifest = body.medium.take().map_or(old, |medium| medium.manifest);
            body.medium = Some(Box::new(Disk { manifest, ..body.disk.clone() }));
        }
        let what = match barrier {
            Barrier::Prepare { number, .. } => format!("PREPARE {number}: keys, space, manifest"),
            Barrier::Stage { number, .. } => format!("STAGE {number}: leaves, then the manifest"),
            Barrier::Import { number, .. } => format!("imports {number}"),
            Barrier::Manifest(_) => "manifest".to_owned(),
        };
        self.story.arrow(Actor::Router, Actor::Disk, || what);
    }

    /// The disk refuses a barrier, whole (`is_unknown` false) or between the rename and its sync.
    fn barrier_fails(&mut self, before: &Renewal, next: Renewal, barrier: &Barrier, fate: Fate) -> bool {
        if self.state.left.disk_failures == 0 {
            return false;
        }
        self.state.left.disk_failures -= 1;
        self.sight(Sight::BarrierFailed);
        let is_unknown = fate == Fate::Fails { is_unknown: true };
        match barrier {
            Barrier::Prepare { number, .. } => {
                if is_unknown {
                    return false;
                }
                if let Some(process) = self.process() {
                    process.machine = next;
                }
                let input = Input::PrepareFailed { number: *number, trouble: StorageTrouble::Full };
                self.give(input, Fate::Lives);
            }
            Barrier::Manifest(_) => {
                if is_unknown {
                    self.write(barrier, false);
                }
                self.give(Input::ManifestFailed, Fate::Lives);
            }
            Barrier::Stage { .. } | Barrier::Import { .. } => {
                if is_unknown {
                    self.write(barrier, false);
                    // Read again, it names a generation that this process did not know to be durable: it is synced before it is believed.
                    if let Some(body) = self.body() {
                        body.medium = None;
                    }
                }
                self.rebuild(before, &next);
            }
        }
        true
    }

    /// Builds the machine anew from the disk, in the process that goes on.
    fn rebuild(&mut self, before: &Renewal, failed: &Renewal) {
        let now = self.router_now();
        let turns = self.scope.turns();
        let policy = self.scope.policy();
        let Some(body) = self.body() else { return };
        let prepared = body.disk.prepared.map(|(number, _)| GenerationNumber(number.into()));
        let mut manifest = body.disk.manifest.clone();
        // What a controller has admitted it has admitted, whether the disk took a note of it or not.
        for candidate in &mut manifest.candidates {
            let known = failed.manifest().candidate(candidate.number);
            candidate.first_admitted = candidate.first_admitted.or(known.and_then(|known| known.first_admitted));
        }
        let found = Found { manifest, prepared, storage: Storage::Writable };
        let Some(machine) = recover_in_process(now, policy, found, before) else { return };
        if let Some(process) = body.process.as_deref_mut() {
            process.machine = machine.settled(now, turns);
        }
        let controllers = self.scope.controllers();
        self.give(Input::Started { controllers }, Fate::Lives);
        self.readopt_channels();
    }

    /// Channels outlive a machine that was built anew: it is told of them as if they had just opened.
    fn readopt_channels(&mut self) {
        for node in 0..self.scope.nodes {
            let open = self.state.channels.get(usize::from(node)).copied().flatten();
            let Some(leaf) = open.map(|open| open.leaf) else { continue };
            let known = self.body().and_then(|body| body.disk.whole.iter().find(|(_, paper)| *paper == leaf).copied());
            let Some((number, _)) = known else { continue };
            let outcome = DialOutcome::Admitted { grouped: self.scope.is_grouped, window: None };
            let controller = self.scope.controller_id(node);
            let generation = GenerationNumber(number.into());
            self.give(Input::Dialed { controller, generation, outcome }, Fate::Lives);
        }
    }

    /// The mistake of a router that takes a lost answer for a refusal.
    fn forgets(&mut self, fate: Fate) -> bool {
        let now = self.router_now();
        let turns = self.scope.turns();
        let policy = self.scope.policy();
        let Some(body) = self.body() else { return false };
        let Some(process) = body.process.as_deref_mut() else { return false };
        let Phase::Proving { next, proof, .. } = process.machine.phase().clone() else { return false };
        if fate != Fate::Lives || !matches!(proof.pending, Pending::Answer(_)) {
            return false;
        }
        body.disk.manifest.candidates.retain(|candidate| candidate.number != next);
        body.disk.whole.retain(|(number, _)| *number != short(next));
        let manifest = body.disk.manifest.clone();
        let Some(machine) = recover(now, policy, Found { manifest, prepared: None, storage: Storage::Writable }) else {
            return false;
        };
        process.machine = machine.settled(now, turns);
        self.story
            .note(Actor::Router, || "takes the lost answer for a no, and throws the new generation away".to_owned());
        let controllers = self.scope.controllers();
        self.give(Input::Started { controllers }, Fate::Lives);
        self.readopt_channels();
        true
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Dial { controller, generation } => {
                let node = self.scope.node_of(&controller);
                self.opens(node, short(generation), Purpose::Channel);
            }
            Effect::Replace { controller, generation } => {
                let node = self.scope.node_of(&controller);
                if let Some(channel) = self.state.channels.get_mut(usize::from(node)) {
                    *channel = None;
                }
                self.opens(node, short(generation), Purpose::Channel);
            }
            Effect::Prove { controller, generation } => {
                let node = self.scope.node_of(&controller);
                self.opens(node, short(generation), Purpose::Prove);
            }
            Effect::Request { controller, number, present } => {
                let node = self.scope.node_of(&controller);
                let prepared = self.body().and_then(|body| body.disk.prepared);
                let Some((number, key)) = prepared.filter(|(of, _)| *of == short(number)) else { return };
                match (self.scope.controller, present) {
                    (Make::Stock, Some(present)) => self.opens(node, short(present), Purpose::Ask(number, key)),
                    (Make::Exuvia, _) | (Make::Stock, None) => self.asks(node, number, key),
                }
            }
            Effect::Verify { controller, number } => {
                let node = self.scope.node_of(&controller);
                let is_kept = self.medium().is_some_and(|disk| {
                    disk.paper(short(number)).is_some()
                        && disk.manifest.candidate(number).is_some_and(|c| c.verify_sent)
                });
                self.claim(Claim::RouterDurableFirst, is_kept);
                let paper = self.paper(number);
                let open = self.state.channels.get(usize::from(node)).copied().flatten();
                if let (Some(paper), Some(open)) = (paper, open) {
                    self.send(node, Body::Verify { paper, epoch: open.epoch });
                }
            }
            Effect::Publish(number) => {
                let Some(process) = self.process() else { return };
                let is_proven = process.published == 0
                    || process.published == short(number)
                    || process.admitted & 1 << short(number) != 0;
                process.published = short(number);
                self.claim(Claim::AdmittedBeforePromoted, is_proven);
            }
            Effect::Erase(numbers) => {
                let Some(body) = self.body() else { return };
                let is_gone = |number: u8| numbers.iter().any(|gone| short(*gone) == number);
                for disk in [Some(&mut body.disk), body.medium.as_deref_mut()].into_iter().flatten() {
                    disk.whole.retain(|(number, _)| !is_gone(*number));
                    disk.prepared = disk.prepared.filter(|(number, _)| !is_gone(*number));
                }
            }
            // The projection and detached underlays are seen by nobody here.
            Effect::Trim(_) | Effect::Project(_) => {}
            Effect::Report(event) => self.reported(event),
        }
    }

    fn reported(&mut self, event: Event) {
        match event {
            Event::Promoted { number, .. } => {
                self.sight(Sight::Renewed);
                self.story.note(Actor::Router, || format!("PROMOTE {number}"));
                let Some(process) = self.process() else { return };
                let is_proven = process.admitted & 1 << short(number) != 0;
                self.claim(Claim::AdmittedBeforePromoted, is_proven);
                if self.scope.mistake == Some(Mistake::EraseOnPromote) {
                    self.erases_older(number);
                }
            }
            Event::Retired(_) => {
                self.sight(Sight::Retired);
            }
            Event::OlderAdmitted { .. } => self.sight(Sight::OlderAdmitted),
            Event::Lapsed => self.sight(Sight::Lapsed),
            Event::AttemptBegan { .. } => self.sight(Sight::AttemptBegan),
            _ => {}
        }
    }

    /// The mistake of a router that keeps no older generation.
    fn erases_older(&mut self, number: GenerationNumber) {
        let now = self.router_now();
        let turns = self.scope.turns();
        let policy = self.scope.policy();
        let Some(body) = self.body() else { return };
        body.disk.whole.retain(|(of, _)| *of >= short(number));
        body.disk.manifest.candidates.retain(|candidate| candidate.number >= number);
        let manifest = body.disk.manifest.clone();
        let Some(machine) = recover(now, policy, Found { manifest, prepared: None, storage: Storage::Writable }) else {
            return;
        };
        if let Some(process) = body.process.as_deref_mut() {
            process.machine = machine.settled(now, turns);
        }
        let controllers = self.scope.controllers();
        self.give(Input::Started { controllers }, Fate::Lives);
        self.readopt_channels();
    }

    /// What a power cut would leave.
    fn medium(&mut self) -> Option<&Disk> {
        self.body().map(|body| body.medium.as_deref().unwrap_or(&body.disk))
    }

    /// The leaf of a generation: read from its files, or from memory where the mistake did not write them.
    fn paper(&mut self, number: GenerationNumber) -> Option<Paper> {
        let kept = self.body().and_then(|body| body.disk.paper(short(number)));
        let machine = self.process().map(|process| &process.machine);
        let known = machine.and_then(|machine| machine.manifest().candidate(number));
        kept.or(known.map(|candidate| Paper::of(&candidate.client)))
    }

    fn opens(&mut self, node: u8, number: u8, purpose: Purpose) {
        let kept = self.medium().and_then(|disk| disk.paper(number));
        self.claim(Claim::RouterDurableFirst, kept.is_some());
        let paper = self.body().and_then(|body| body.disk.paper(number));
        let Some(paper) = paper else { return };
        self.send(node, Body::Hello(Hello { paper, generation: number, purpose, is_awaited: true }));
    }

    /// Sends a 20302.
    fn asks(&mut self, node: u8, number: u8, key: u8) {
        if self.body().and_then(|body| body.disk.prepared) != Some((number, key)) {
            return;
        }
        let is_kept = self.medium().and_then(|disk| disk.prepared) == Some((number, key));
        self.claim(Claim::RouterDurableFirst, is_kept);
        let open = self.state.channels.get(usize::from(node)).copied().flatten();
        if let Some(open) = open {
            self.send(node, Body::Extend { key, epoch: open.epoch });
        }
    }
}
