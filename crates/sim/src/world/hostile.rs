//! Strangers. P8: only the leaf whose key the handshake proved decides who somebody is.

use lifecycle::Leaf;
use lifecycle::issuance::Epoch;

use super::{Event, World};
use crate::claims::Claim;
use crate::message::{ChannelId, Message, UnderlayId};
use crate::mutant::Mutant;
use crate::paper;
use crate::plan::Make;

impl World {
    /// Somebody who holds this router's leaf and key says hello under the next router's name, or tries to join its channel.
    pub fn impersonate(&mut self, router: usize, controller: usize, luck: u64) {
        let victim = (router + 1) % self.routers.len().max(1);
        let Some(leaf) = self.survivors(router).first().and_then(|set| set.last().copied()) else { return };
        let group = self.controllers.get(controller).and_then(|host| host.channels.get(&victim)).map(|open| open.id);
        let wants_to_join = luck.is_multiple_of(2);
        let group = group.filter(|_| wants_to_join);
        let underlay = self.fresh(router);
        self.counts.impostors += 1;
        self.note(|| format!("somebody with the leaf of router {router} says hello as router {victim}"));
        if victim != router {
            let message = Message::Hello { underlay, router: victim, leaf, group };
            self.at(1, Event::ToController { controller, router, message });
        } else {
            // Alone in the world, with a leaf that nobody ever issued.
            let (from, to) = (leaf.not_before, leaf.not_after);
            let leaf = paper::leaf(luck, paper::key(luck | 1 << 63), from, to);
            let message = Message::Hello { underlay, router, leaf, group };
            self.at(1, Event::ToController { controller, router, message });
        }
    }

    /// Before anything is decided: does the name in the hello stand in the leaf?
    pub(crate) fn is_own_name(&self, router: usize, leaf: &Leaf) -> bool {
        paper::owner(leaf) == Some(self.plan.first_router + router as u64)
    }

    /// A hello whose name is not the leaf's.
    pub(crate) fn borrowed_name(
        &mut self,
        controller: usize,
        router: usize,
        underlay: UnderlayId,
        leaf: Leaf,
        group: Option<ChannelId>,
    ) {
        let owner = paper::owner(&leaf).and_then(|number| self.router_with_number(number));
        let is_taken_in = self.plan.mutant == Some(Mutant::AnyLeafAnyName)
            && group.is_none()
            && owner.is_some_and(|owner| self.is_admitted_at(controller, owner, &leaf));
        if is_taken_in {
            self.opens(controller, router, underlay, leaf, Epoch::default());
        }
        // Refused; nobody of ours waits for the answer.
        self.counts.refusals += 1;
    }

    /// P8, whenever an underlay is let in.
    pub(crate) fn check_name(&mut self, router: usize, leaf: &Leaf) {
        if !self.is_own_name(router, leaf) {
            let found =
                format!("{:?} of router number {:?} speaks for router {router}", leaf.fingerprint, paper::owner(leaf));
            let is_ours = self.plan.controller_make == Make::Exuvia;
            self.claim(router, Claim::NobodyBorrowsAName, if is_ours { Err(found) } else { Ok(()) });
        }
    }
}
