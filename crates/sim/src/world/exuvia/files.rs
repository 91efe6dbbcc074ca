//! The configured paths of a router whose identity is copied there, and others who write to them.
//!
//! What to make of what lies there is decided by `store::import`, as in the real shell; here it is only seen, and done. What others write is durable at
//! once: they are done with it when we look.

use std::path::PathBuf;

use lifecycle::renewal::{Input, Issued};
use lifecycle::{GenerationNumber, KeyId, Leaf};
use store::disk::SimDisk;
use store::generation::{Generation, GenerationFiles, digest_of};
use store::identity::LeafFacts;
use store::import::{Judgement, Situation, Verdict, decide};
use store::projection::{Projection, Slot};

use super::super::{Body, Event, World};
use super::Process;
use crate::Dice;
use crate::mutant::Mutant;
use crate::paper;

const SLOTS: [(Slot, &str); 4] = [
    (Slot::Key, "/etc/ziti/r.key"),
    (Slot::Cert, "/etc/ziti/r.cert"),
    (Slot::ServerCert, "/etc/ziti/r.server.cert"),
    (Slot::Ca, "/etc/ziti/r.cas"),
];

/// How long after somebody wrote there the router looks: the real one looks every three seconds.
const LOOK_MS: u64 = 3_000;
/// The longest time until it looks again at what could not be settled: a minute, and more where leaves live long.
const LOOK_MOST_MS: u64 = 60_000;

/// What is known of the configured paths.
#[derive(Clone, Debug, Default)]
pub(super) struct Files {
    watch: store::import::Watch,
    /// What the machine is asked to take in.
    foreign: Option<(GenerationNumber, GenerationFiles)>,
    /// The last look left nothing to do.
    is_settled: bool,
    /// Looks in a row that settled nothing.
    looks: u32,
    /// Which look counts; earlier ones are void.
    turn: u64,
}

fn projection() -> Projection {
    Projection::new(SLOTS.map(|(slot, path)| (slot, PathBuf::from(path))))
}

/// Lays files there as a tool does that replaces each of them whole.
fn lay(disk: &mut SimDisk, files: &GenerationFiles) {
    for (slot, path) in SLOTS {
        disk.put_file(path, slot.content(files), if slot == Slot::Key { 0o600 } else { 0o644 });
    }
}

impl Process {
    /// Takes in what lies at the configured paths.
    pub(super) fn take_in(
        &mut self,
        number: GenerationNumber,
        manifest: &lifecycle::manifest::Manifest,
    ) -> Result<(), store::StoreError> {
        let Some((_, files)) = self.files.foreign.take().filter(|(of, _)| *of == number) else {
            return Err(store::Refusal::NotPrepared(number).into());
        };
        self.store.write_generation(number, &files)?;
        self.store.commit(manifest)?;
        self.leaves.extend(paper::read(&files.client).map(|leaf| (number, leaf)));
        self.whole.insert(number, files);
        Ok(())
    }
}

impl World {
    /// Is this router's identity copied to the configured paths?
    pub(crate) fn is_projected(&self, router: usize) -> bool {
        let number = self.plan.first_router + router as u64;
        let mut dice = Dice::new(self.plan.seed ^ Dice::new(number ^ 0xf11e5).roll());
        matches!(self.routers.get(router).map(|host| &host.body), Some(Body::Exuvia(_)))
            && dice.chance(self.plan.projected_per_mille)
    }

    /// What should lie at the configured paths, or what lies there, may have changed.
    pub(super) fn look_soon(&mut self, router: usize, after_ms: u64) {
        if !self.is_projected(router) {
            return;
        }
        let life = self.routers.get(router).map_or(0, |host| host.life);
        let Some(process) = self.process_mut(router) else { return };
        process.files.is_settled = false;
        process.files.turn += 1;
        let turn = process.files.turn;
        self.at(after_ms, Event::Look { router, life, turn });
    }

    /// Looks at the configured paths, and mends or takes in what lies there.
    pub(crate) fn look(&mut self, router: usize, life: u32, turn: u64) {
        let is_void = self.process(router).is_none_or(|process| process.files.turn != turn);
        if is_void || self.routers.get(router).is_none_or(|host| host.life != life) {
            return;
        }
        let now = self.router_now(router);
        let number = self.plan.first_router + router as u64;
        let Some(process) = self.process_mut(router) else { return };
        let Some(machine) = &process.machine else { return self.look_again(router, LOOK_MS) };
        let (manifest, live) = (machine.manifest().clone(), machine.live());
        let projection = projection();
        let observed = projection.read(process.store.disk_mut());
        let generations: Vec<Generation> = manifest
            .candidates
            .iter()
            .filter_map(|candidate| {
                let files = process.whole.get(&candidate.number)?.clone();
                Some(Generation { number: candidate.number, digest: candidate.digest, files })
            })
            .collect();
        let situation = Situation {
            projection: &projection,
            observed: &observed,
            manifest: &manifest,
            generations: &generations,
            wanted: Some(live),
        };
        let verdict = decide(now.uptime, &situation, &mut process.files.watch, |files| judge(files, number));
        if self.disk_is_down(router) {
            return self.power_cut_now(router);
        }
        match verdict {
            Verdict::Right | Verdict::Refused(_) | Verdict::ManagedElsewhere => {
                if let Some(process) = self.process_mut(router) {
                    process.files.is_settled = true;
                    process.files.looks = 0;
                }
            }
            Verdict::Wait(at) => {
                let wait = at.since(now.uptime);
                self.look_again(router, u64::try_from(wait.as_millis()).unwrap_or(LOOK_MS).max(1));
            }
            Verdict::Project { is_foreign } => self.project(router, live, is_foreign),
            Verdict::Import(import) => {
                let (files, facts) = *import;
                let number = manifest.last_number.next();
                let issued = Issued { client: facts.client, server: facts.server, digest: digest_of(number, &files) };
                if let Some(process) = self.process_mut(router) {
                    process.files.foreign = Some((number, files));
                }
                self.note(|| format!("router {router} finds a foreign identity"));
                self.tell(router, Input::Imported(issued));
                self.taken_in(router, number, &facts.client);
                self.look_again(router, LOOK_MS);
            }
        }
    }

    /// As the real shell, which looks every three seconds; less and less often, for the sake of long worlds.
    fn look_again(&mut self, router: usize, after_ms: u64) {
        let Some(process) = self.process_mut(router) else { return };
        process.files.looks = process.files.looks.saturating_add(1);
        let looks = process.files.looks;
        let most_ms = u64::try_from(self.plan.leaf_life.as_millis() / 200).unwrap_or(u64::MAX).max(LOOK_MOST_MS);
        let wait_ms = after_ms.max(LOOK_MS << looks.min(20)).min(most_ms);
        self.look_soon(router, wait_ms);
    }

    fn project(&mut self, router: usize, number: GenerationNumber, is_foreign: bool) {
        let Some(process) = self.process_mut(router) else { return };
        let Some(files) = process.whole.get(&number).cloned() else { return self.look_again(router, LOOK_MS) };
        let before = process.machine.as_ref().and_then(|machine| machine.manifest().projection);
        let written = projection().write(process.store.disk_mut(), &files);
        if self.disk_is_down(router) {
            return self.power_cut_now(router);
        }
        if let Ok(projected) = written {
            self.counts.projections += 1;
            self.tell(router, Input::Projected(projected.record(number, before.as_ref(), is_foreign)));
        }
        self.look_again(router, LOOK_MS);
    }

    /// A generation that somebody else made is a candidate now, if the machine had the time for it.
    fn taken_in(&mut self, router: usize, number: GenerationNumber, leaf: &Leaf) {
        let is_candidate = self.manifest(router).is_some_and(|manifest| manifest.candidate(number).is_some());
        if !is_candidate {
            return;
        }
        self.counts.imports += 1;
        let is_admitted = self.is_admitted_somewhere(router, leaf);
        if let Some(host) = self.routers.get_mut(router)
            && is_admitted
        {
            // What the operator took away, he has given again.
            host.is_exempt = false;
        }
        if self.plan.mutant == Some(Mutant::ForeignFilesDisplace) {
            self.drop_candidates(router, |candidate| candidate != number);
        }
        self.check_identity(router);
    }

    /// Somebody writes to the configured paths.
    pub(crate) fn write_foreign_files(&mut self, router: usize, mut luck: Dice) {
        if !self.is_projected(router) {
            return;
        }
        let Some(first) = self.routers.get(router).and_then(|host| host.first_files.clone()) else { return };
        self.counts.foreign_files += 1;
        match luck.below(7) {
            // A script that lays down what it was once given.
            0 => self.lay_files(router, &first),
            // The same, and it is stopped half way.
            1 => drop(self.with_disk(router, |disk| disk.put_file(SLOTS[1].1, &first.client, 0o644))),
            // Torn.
            2 => {
                let (_, path) = SLOTS[luck.pick(SLOTS.len())];
                self.with_disk(router, |disk| {
                    let half = disk.file(path).map(|content| content[..content.len() / 2].to_vec());
                    disk.put_file(path, &half.unwrap_or_default(), 0o600);
                });
            }
            3 => {
                let (_, path) = SLOTS[luck.pick(SLOTS.len())];
                self.with_disk(router, |disk| disk.remove(path));
            }
            // Of another router.
            4 => {
                let key = KeyId([0xee; 32]);
                let (client, server) = self.sign(0, router, key);
                self.lay_files(router, &paper::files(paper::keys(key), &client, &server));
            }
            // Of this router, and no controller knows it.
            5 => {
                let key = paper::key(self.fresh(router));
                let (client, server) = self.sign(0, router, key);
                self.strays.insert(client.fingerprint);
                self.lay_files(router, &paper::files(paper::keys(key), &client, &server));
            }
            // Enrolled anew by another tool, which knows of the configured paths alone.
            _ => self.enroll_by_files(router),
        }
        self.look_soon(router, LOOK_MS);
    }

    fn lay_files(&mut self, router: usize, files: &GenerationFiles) {
        self.with_disk(router, |disk| lay(disk, files));
    }

    fn enroll_by_files(&mut self, router: usize) {
        if self.is_exempt(router) {
            return;
        }
        if let Some(files) = self.enrolled_by_another(router) {
            self.lay_files(router, &files);
        }
    }

    /// After the faults: what lies at the configured paths is what is served, or was left alone for a reason.
    pub(crate) fn files_are_settled(&self, router: usize) -> Result<(), String> {
        if !self.is_projected(router) {
            return Ok(());
        }
        match self.process(router) {
            Some(process) if process.files.is_settled => Ok(()),
            Some(_) => Err("what lies at the configured paths is not what it serves".to_owned()),
            None => Err("no process runs".to_owned()),
        }
    }
}

/// What `pki` says of real ones.
fn judge(files: &GenerationFiles, router: u64) -> Judgement {
    let (Some(client), Some(server)) = (paper::read(&files.client), paper::read(&files.server)) else {
        return Judgement::Unreadable;
    };
    let Some(key) = paper::key_of(&files.keys) else { return Judgement::Unreadable };
    if client.key != key || server.key != key {
        return Judgement::NotForUs("the certificates are for another key".to_owned());
    }
    if paper::owner(&client) != Some(router) {
        return Judgement::NotForUs("they are for another router".to_owned());
    }
    Judgement::Acceptable(LeafFacts { client, server })
}
