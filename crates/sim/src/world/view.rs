//! Looking at a world from outside.

use std::borrow::Cow;
use std::time::Duration;

use lifecycle::issuance::Record;
use lifecycle::manifest::{Candidate, Manifest, Origin};
use lifecycle::renewal::{Contact, PhaseName};
use lifecycle::{GenerationNumber, Leaf};

use super::exuvia::damage_is_told;
use super::{Body, World};
use crate::claims::{Claim, some_durable_generation_is_admitted};
use crate::plan::Make;

impl World {
    /// What a crash of this router may leave, one set of client leaves for each worst case.
    pub fn survivors(&self, router: usize) -> Cow<'_, [Vec<Leaf>]> {
        match self.routers.get(router).map(|host| (&host.body, &host.survivors)) {
            Some((Body::Exuvia(_), survivors)) => Cow::Borrowed(survivors),
            // Its own in-place writes are outside every promise: what is in the page cache counts as kept.
            Some((Body::Stock(body), _)) => Cow::Owned(vec![body.file.cached.into_iter().collect()]),
            None => Cow::Borrowed(&[]),
        }
    }

    pub(crate) fn is_exempt(&self, router: usize) -> bool {
        self.routers.get(router).is_none_or(|host| host.is_exempt || host.is_disabled)
    }

    /// Would any controller give a channel to this leaf, by its own clock and its own durable record?
    pub fn is_admitted_somewhere(&self, router: usize, leaf: &Leaf) -> bool {
        (0..self.controllers.len()).any(|controller| self.is_admitted_at(controller, router, leaf))
    }

    /// Would this controller give a channel to this leaf?
    pub fn is_admitted_at(&self, controller: usize, router: usize, leaf: &Leaf) -> bool {
        let now = self.clock_now(controller);
        match self.plan.controller_make {
            Make::Stock => self.cluster.admits(controller, router, leaf.fingerprint, now.wall),
            Make::Exuvia => self.register.record(router).is_some_and(|record| {
                record.check_link(now, &self.issuance, leaf.fingerprint).is_ok()
                    || (record.restored_from.is_some() && {
                        let outcome = record.step(now, &self.issuance, lifecycle::issuance::Input::hello(*leaf));
                        let answer = outcome.settle(|_| Ok::<(), core::convert::Infallible>(()));
                        matches!(answer, Ok(lifecycle::issuance::Answer::Admit(_)))
                    })
            }),
        }
    }

    pub(crate) fn is_expired_everywhere(&self, leaf: &Leaf) -> bool {
        self.strays.contains(&leaf.fingerprint)
            || (0..self.controllers.len()).all(|controller| leaf.is_expired(self.true_now(controller)))
    }

    /// A stock database admits one leaf. Once that one is expired nothing can be promoted over it, whoever holds what: be it that the router holds it
    /// still, or that a restored database brought it back after the router had rightly retired it.
    fn has_run_out_at_stock(&self, leaves: &[Leaf]) -> bool {
        let router = leaves.first().and_then(crate::paper::owner).and_then(|number| self.router_with_number(number));
        let is_over = |node: usize| {
            let admitted = router.and_then(|router| self.cluster.row(node, router)).map(|row| row.admitted);
            admitted.is_some_and(|admitted| {
                let is_held = leaves.iter().any(|leaf| leaf.fingerprint == admitted.fingerprint);
                self.is_expired_everywhere(&admitted) && (is_held || !self.gaps.is_empty())
            })
        };
        self.plan.controller_make == Make::Stock && (0..self.controllers.len()).all(is_over)
    }

    /// Is every leaf of these expired, or unknown to a stock database that was restored from before it was issued?
    pub(crate) fn is_beyond_promise(&self, leaves: &[Leaf]) -> bool {
        !leaves.is_empty()
            && (leaves.iter().all(|leaf| self.is_expired_everywhere(leaf))
                || self.is_forgotten_whole(leaves)
                || self.has_run_out_at_stock(leaves))
    }

    pub(crate) fn describe_admitted(&self, router: usize) -> String {
        match self.plan.controller_make {
            Make::Stock => {
                format!("{:?}", (0..self.controllers.len()).map(|n| self.cluster.row(n, router)).collect::<Vec<_>>())
            }
            Make::Exuvia => format!("{:?}", self.register.record(router)),
        }
    }

    /// P1, after anything that may have changed it.
    pub(crate) fn check_identity(&mut self, router: usize) {
        self.counts.checks += 1;
        let result = some_durable_generation_is_admitted(self, router);
        let is_protected = self.plan.controller_make == Make::Exuvia && !self.has_lost_its_file(router);
        if self.plan.router_make == Make::Stock && !is_protected {
            // Known to lose: found and counted, not an end.
            let Some(host) = self.routers.get_mut(router) else { return };
            let is_lost = result.is_err();
            if is_lost && !host.is_lost {
                self.counts.losses += 1;
                self.counts.own_losses += u64::from(self.plan.controller_make == Make::Exuvia);
                if let Err(found) = result {
                    self.note(|| format!("router {router} HAS LOST its identity: {found}"));
                }
            }
            if let Some(host) = self.routers.get_mut(router) {
                host.is_lost = is_lost;
            }
            return;
        }
        self.claim(router, Claim::SomeDurableGenerationIsAdmitted, result);
    }

    /// May a crash at this moment leave this router nothing that a controller would admit? Whatever was promised.
    pub fn is_locked_out(&self, router: usize) -> bool {
        let is_lost = |set: &Vec<Leaf>| !set.iter().any(|leaf| self.is_admitted_somewhere(router, leaf));
        self.survivors(router).iter().any(is_lost)
    }

    /// Where a router of ours stands; `None` while its process is down.
    pub fn phase(&self, router: usize) -> Option<PhaseName> {
        Some(self.process(router)?.machine.as_ref()?.phase().name())
    }

    /// The generation that a router of ours serves.
    pub fn live(&self, router: usize) -> Option<GenerationNumber> {
        Some(self.process(router)?.machine.as_ref()?.live())
    }

    /// What a router of ours last told TLS endpoints to serve.
    pub fn published(&self, router: usize) -> Option<GenerationNumber> {
        self.process(router)?.published
    }

    /// What a router's machine would tell a restart.
    pub fn manifest(&self, router: usize) -> Option<&Manifest> {
        Some(self.process(router)?.machine.as_ref()?.manifest())
    }

    /// What a router of ours knows of a controller.
    pub fn contact(&self, router: usize, controller: usize) -> Option<&Contact> {
        let id = &self.controllers.get(controller)?.id;
        self.process(router)?.machine.as_ref()?.contacts().get(id)
    }

    /// What our register durably holds of a router.
    pub fn record(&self, router: usize) -> Option<&Record> {
        self.register.record(router)
    }

    /// The numbers of a router's candidates, oldest first, as a restart would be told.
    pub fn candidates(&self, router: usize) -> Vec<u64> {
        self.manifest(router).map_or(Vec::new(), |manifest| manifest.candidates.iter().map(|c| c.number.0).collect())
    }

    /// With how many controllers a router has a channel.
    pub fn connected(&self, router: usize) -> usize {
        self.links(router).map_or(0, |links| links.channels.len())
    }

    /// How many leaves the register holds for a router, and how many of them it admits now.
    pub fn held_and_admitted(&self, router: usize) -> (usize, usize) {
        let now = self.clock_now(0);
        self.register
            .record(router)
            .map_or((0, 0), |record| (record.leaves.len(), record.admitted(now, &self.issuance).count()))
    }

    /// When the next thing happens.
    pub fn next_at(&self) -> Option<u64> {
        self.queue.next_at()
    }

    /// Every leaf that is left is expired or was forgotten by a restored stock database, or the operator took the identity away: only a
    /// person can mend that.
    pub fn is_beyond_help(&self, router: usize) -> bool {
        let is_lost = |set: &Vec<Leaf>| {
            !set.iter().any(|leaf| self.is_admitted_somewhere(router, leaf)) && self.is_beyond_promise(set)
        };
        self.is_exempt(router) || self.has_lost_its_file(router) || self.survivors(router).iter().any(is_lost)
    }

    /// Has a stock router's own rewriting left it without a certificate? No controller can help it.
    pub(crate) fn has_lost_its_file(&self, router: usize) -> bool {
        matches!(self.routers.get(router).map(|host| &host.body), Some(Body::Stock(body)) if body.file.cached.is_none())
    }

    /// Is P1 claimed for this router at this moment?
    pub(crate) fn is_in_the_promise(&self, router: usize) -> bool {
        !self.is_exempt(router)
            && !self.has_lost_its_file(router)
            && !self.survivors(router).iter().any(|set| self.is_forgotten_whole(set))
    }

    /// Does a restored stock database remember none of the unexpired leaves that this router ever held? Whether it holds them still is what
    /// P1 is about.
    fn is_forgotten_whole(&self, leaves: &[Leaf]) -> bool {
        let router = leaves.first().and_then(crate::paper::owner).and_then(|number| self.router_with_number(number));
        let Some(host) = router.and_then(|router| self.routers.get(router)) else { return false };
        let is_over = |leaf: &Leaf| self.is_expired_everywhere(leaf) || self.is_forgotten(leaf);
        !self.gaps.is_empty() && leaves.iter().chain(&host.held).all(is_over)
    }

    /// Renewals that a router has carried through.
    pub fn renewals(&self, router: usize) -> u64 {
        self.routers.get(router).map_or(0, |host| host.renewals)
    }

    /// How much of its best leaf's life a router has left, by the first controller's clock; zero for one that has none.
    pub(crate) fn life_left(&self, router: usize) -> Duration {
        let wall = self.true_now(0);
        let survivors = self.survivors(router);
        let carries = |leaf: &&Leaf| !self.strays.contains(&leaf.fingerprint);
        let best = |set: &Vec<Leaf>| {
            set.iter().filter(carries).map(|leaf| leaf.not_after.since(wall)).max().unwrap_or_default()
        };
        survivors.iter().map(best).min().unwrap_or_default()
    }

    /// P9: a start that finds a damaged manifest is told so, and finds every whole generation.
    pub(crate) fn check_damage_is_told(&mut self, router: usize) {
        let Some(disk) = self.with_disk(router, |disk| disk.after_kill()) else { return };
        let result = damage_is_told(disk);
        self.claim(router, Claim::DamageIsReported, result);
    }

    /// After the faults: connected, steady, on the newest generation, which was proven.
    pub fn is_settled(&self, router: usize) -> Result<(), String> {
        if self.plan.router_make == Make::Stock {
            let count = self.connected(router);
            return if count == self.controllers.len() { Ok(()) } else { Err(format!("it has {count} channels")) };
        }
        let phase = self.phase(router);
        if !matches!(phase, Some(PhaseName::Steady | PhaseName::Promoted)) {
            return Err(format!("it is in {phase:?}"));
        }
        let (Some(manifest), Some(live)) = (self.manifest(router), self.live(router)) else {
            return Err("no process runs".to_owned());
        };
        // What somebody else laid down and nobody ever admitted is a candidate, and no more than that.
        let is_stray = |known: &Candidate| known.origin == Origin::Imported && known.first_admitted.is_none();
        let newest = manifest.candidates.iter().rev().find(|known| !is_stray(known)).map(|newest| newest.number);
        if newest != Some(live) {
            return Err(format!("it serves {live}, and the newest is {newest:?}"));
        }
        if manifest.candidate(live).is_none_or(|candidate| candidate.first_admitted.is_none()) {
            return Err(format!("{live} was never admitted"));
        }
        if self.published(router) != Some(live) {
            return Err(format!("it publishes {:?} and lives with {live}", self.published(router)));
        }
        if self.connected(router) != self.controllers.len() {
            return Err(format!("it has {} channels", self.connected(router)));
        }
        Ok(())
    }
}
