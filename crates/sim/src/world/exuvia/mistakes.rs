//! Mistakes on purpose: what a router does that is wrong in one way. See [`crate::Mutant`].

use lifecycle::GenerationNumber;
use lifecycle::recovery::{Found, recover};
use lifecycle::renewal::{Barrier, Input, Renewal, RouterStep, Storage};

use super::super::{Event, World};
use crate::mutant::Mutant;
use crate::paper;

/// How long the forgetful mutant waits for the answer to 20303.
const PATIENCE_MS: u64 = 30_000;

impl World {
    /// STAGE, the wrong way round: what may only follow it comes first.
    pub(super) fn show_before_durable(&mut self, router: usize, next: Renewal, step: RouterStep) {
        let mut barrier: Option<Barrier> = None;
        let Ok(effects) = step.settle(|wanted| {
            barrier = Some(wanted);
            Ok::<(), std::convert::Infallible>(())
        });
        let Some(process) = self.process_mut(router) else { return };
        if let Some((number, files)) = &process.arrived {
            process.leaves.extend(paper::read(&files.client).map(|leaf| (*number, leaf)));
        }
        process.machine = Some(next);
        self.perform_all(router, effects);
        let Some(process) = self.process_mut(router) else { return };
        if let (Some(barrier), Some(key)) = (barrier, process.keys.as_ref().map(|keys| keys.2)) {
            let _ = process.commit(barrier, key);
        }
        if self.disk_is_down(router) {
            return self.power_cut_now(router);
        }
        self.survey(router);
        self.check_identity(router);
    }

    /// A 20303 has left.
    pub(super) fn watch_answer(&mut self, router: usize, number: GenerationNumber, after_ms: Option<u64>) {
        if self.plan.mutant == Some(Mutant::ForgetOnLostAnswer) {
            let life = self.routers.get(router).map_or(0, |host| host.life);
            self.at(after_ms.unwrap_or(PATIENCE_MS), Event::Forget { router, life, number });
        }
    }

    pub(crate) fn forget_unanswered(&mut self, router: usize, life: u32, number: GenerationNumber) {
        let is_alive = self.routers.get(router).is_some_and(|host| host.life == life);
        let is_live = self.live(router) == Some(number);
        if is_alive && !is_live && self.process(router).is_some_and(|process| !process.confirmed.contains(&number)) {
            self.drop_candidates(router, |candidate| candidate == number);
        }
    }

    /// A generation was promoted.
    pub(super) fn erase_older(&mut self, router: usize, promoted: GenerationNumber) {
        if self.plan.mutant == Some(Mutant::EraseOnPromotion) {
            self.drop_candidates(router, |candidate| candidate < promoted);
        }
    }

    pub(super) fn drop_candidates(&mut self, router: usize, is_dropped: impl Fn(GenerationNumber) -> bool) {
        let (now, policy) = (self.router_now(router), self.policy);
        let controllers: Vec<_> = self.controllers.iter().map(|host| host.id.clone()).collect();
        let Some(process) = self.process_mut(router) else { return };
        let Some(machine) = &process.machine else { return };
        let mut manifest = machine.manifest().clone();
        let dropped: Vec<_> = manifest.candidates.iter().map(|known| known.number).filter(|n| is_dropped(*n)).collect();
        manifest.candidates.retain(|candidate| !dropped.contains(&candidate.number));
        if dropped.is_empty() || manifest.candidates.is_empty() || process.store.commit(&manifest).is_err() {
            return;
        }
        let _ = process.store.erase(&dropped);
        process.machine = recover(now, policy, Found { manifest, prepared: None, storage: Storage::Writable });
        if self.disk_is_down(router) {
            return self.power_cut_now(router);
        }
        self.note(|| format!("router {router} throws {dropped:?} away"));
        self.survey(router);
        self.check_identity(router);
        self.give(router, Input::Started { controllers });
        self.readopt_channels(router);
    }
}
