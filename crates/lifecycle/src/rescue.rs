//! How to bring back a router that is locked out: facts from its disk and its controller go in, the least invasive plan comes out.
//!
//! The order is the order of [`Plan`]'s variants, from what changes nothing to what costs the most. Nothing that may be somebody else's
//! doing is undone: what was switched off stays off, what was revoked stays revoked, and an identity that is in use elsewhere is not
//! taken from whoever uses it.

use alloc::vec::Vec;

use crate::facts::{GenerationNumber, KeyId, Leaf, Now, UnixTime};
use crate::manifest::{CANDIDATES_MAX, Candidate, Manifest, Origin};
use crate::renewal::{Barrier, Issued, jitter_of};
use crate::step::Step;

/// Where a set of key and leaves lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// Where the router finds it at its next start.
    InUse,
    /// In the state folder, as this generation.
    Stored(GenerationNumber),
    /// In files that nobody reads: a backup, a half-finished replacement.
    Aside,
}

/// A client leaf whose private key is on the same disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Found {
    /// The client leaf.
    pub client: Leaf,
    /// The best server leaf for it, if there is one; without it the client leaf serves for both until the next renewal.
    pub server: Option<Leaf>,
    /// Where it lies.
    pub place: Place,
    /// Would the controller admit it, its dates aside?
    pub is_admitted: bool,
    /// Does its chain lead to the CAs that the controller signs with?
    pub is_from_signer: bool,
}

/// Which controller it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ControllerKind {
    /// OpenZiti's.
    OpenZiti,
    /// Exuvia's.
    Exuvia,
}

/// Which kind of router the controller knows it as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RouterKind {
    /// An edge router.
    Edge,
    /// A transit router.
    Transit,
    /// A router that was made through OpenZiti's fabric interface, by its fingerprint and without any enrollment.
    Fabric,
}

/// How the router stands with the controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Standing {
    /// Enrolled, and it may connect.
    Enrolled,
    /// It has to enroll. When its token ends; `None` = nobody can tell it any more.
    Awaiting {
        /// Last instant of the token.
        token: Option<UnixTime>,
    },
    /// Switched off by a person.
    Disabled,
    /// Withdrawn by a person.
    Revoked,
}

/// Everything that a plan is made of. All dates are judged by the controller's clock: it is the one that admits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Situation {
    /// The controller's wall clock.
    pub now: UnixTime,
    /// Which controller it is.
    pub controller: ControllerKind,
    /// Which kind of router it is.
    pub kind: RouterKind,
    /// How it stands.
    pub standing: Standing,
    /// Has somebody a control channel under this id, while the router of this disk does not run?
    pub is_connected: bool,
    /// What the disk holds.
    pub found: Vec<Found>,
    /// The leaf that the controller admits and keeps a copy of, if it is on no disk here but its key is.
    pub kept: Option<Leaf>,
}

/// What to do, from the least invasive on. Numbers are positions in [`Situation::found`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Plan {
    /// What the router uses is admitted.
    Nothing {
        /// Which one it is.
        which: usize,
    },
    /// An admitted leaf lies on the disk: make it the one in use. Nothing changes at the controller.
    Use {
        /// Which one.
        which: usize,
        /// Has it no server leaf that is good, so that a renewal has to follow?
        renew: bool,
    },
    /// The admitted leaf is kept by the controller and its key is here: put them together. Nothing changes at the controller.
    Fetch {
        /// The key that it belongs to.
        key: KeyId,
    },
    /// Have the controller admit a leaf that it signed once, in the place of what it admits now.
    Vouch {
        /// Which one.
        which: usize,
        /// Has it no server leaf that is good, so that a renewal has to follow?
        renew: bool,
    },
    /// Enroll with the token that waits for this router.
    Enroll,
    /// Void what the controller admits, and enroll anew under the same id.
    ReEnroll,
    /// Nothing that this program should do.
    Stuck(Obstacle),
}

/// Why nothing is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Obstacle {
    /// A person switched the router off.
    Disabled,
    /// A person withdrew its identity.
    Revoked,
    /// Somebody is connected under its id.
    InUseElsewhere,
    /// OpenZiti cannot enroll a transit router twice, and nothing on the disk can be vouched for.
    NoSecondEnrollment,
    /// It was made by its fingerprint; there is nothing that it could enroll with.
    NeverEnrolled,
}

impl Situation {
    /// Decides.
    pub fn plan(&self) -> Plan {
        match self.standing {
            Standing::Disabled => return Plan::Stuck(Obstacle::Disabled),
            Standing::Revoked => return Plan::Stuck(Obstacle::Revoked),
            Standing::Enrolled | Standing::Awaiting { .. } => {}
        }
        // A router that waits for its enrollment admits nothing; and an old leaf may have been voided for a reason.
        if let Standing::Awaiting { token } = self.standing {
            let is_open = token.is_some_and(|ends| self.now <= ends);
            return self.unless_elsewhere(if is_open { Plan::Enroll } else { self.enroll_anew() });
        }
        let admitted = self.best(|found| found.is_admitted);
        match admitted.and_then(|which| Some((which, self.found.get(which)?))) {
            Some((which, Found { place: Place::InUse, .. })) => return Plan::Nothing { which },
            Some((which, found)) => return self.unless_elsewhere(Plan::Use { which, renew: self.lacks_server(found) }),
            None => {}
        }
        if let Some(leaf) = self.kept.filter(|leaf| self.is_in_dates(leaf)) {
            return self.unless_elsewhere(Plan::Fetch { key: leaf.key });
        }
        let vouchable = self.best(|found| found.is_from_signer);
        match vouchable.and_then(|which| Some((which, self.found.get(which)?))) {
            Some((which, found)) => self.unless_elsewhere(Plan::Vouch { which, renew: self.lacks_server(found) }),
            None => self.unless_elsewhere(self.enroll_anew()),
        }
    }

    fn unless_elsewhere(&self, plan: Plan) -> Plan {
        if self.is_connected { Plan::Stuck(Obstacle::InUseElsewhere) } else { plan }
    }

    fn enroll_anew(&self) -> Plan {
        match (self.controller, self.kind) {
            (ControllerKind::Exuvia, RouterKind::Edge | RouterKind::Transit) => Plan::ReEnroll,
            (ControllerKind::OpenZiti, RouterKind::Edge) => Plan::ReEnroll,
            (ControllerKind::OpenZiti, RouterKind::Transit) => Plan::Stuck(Obstacle::NoSecondEnrollment),
            (_, RouterKind::Fabric) => Plan::Stuck(Obstacle::NeverEnrolled),
        }
    }

    /// The one in use if it will do, else one with a good server leaf, else the youngest.
    fn best(&self, will_do: impl Fn(&Found) -> bool) -> Option<usize> {
        let all = self.found.iter().enumerate();
        let good = all.filter(|(_, found)| will_do(found) && self.is_in_dates(&found.client));
        good.max_by_key(|(at, found)| {
            let is_in_use = found.place == Place::InUse;
            (is_in_use, !self.lacks_server(found), found.client.not_before, core::cmp::Reverse(*at))
        })
        .map(|(at, _)| at)
    }

    fn is_in_dates(&self, leaf: &Leaf) -> bool {
        leaf.not_before <= self.now && !leaf.is_expired(self.now)
    }

    fn lacks_server(&self, found: &Found) -> bool {
        found.server.is_none_or(|leaf| !self.is_in_dates(&leaf))
    }
}

/// Takes a set that was found into the store. Like every import it displaces nothing, and becomes the default by being admitted.
pub fn take_in(now: Now, mut manifest: Manifest, number: GenerationNumber, issued: Issued) -> Step<Barrier, Manifest> {
    let surplus = (manifest.candidates.len() + 1).saturating_sub(CANDIDATES_MAX);
    manifest.candidates.drain(..surplus.min(manifest.candidates.len()));
    manifest.last_number = manifest.last_number.max(number);
    manifest.candidates.push(Candidate {
        number,
        digest: issued.digest,
        client: issued.client,
        server: issued.server,
        origin: Origin::Imported,
        // Nothing is pending for it at any controller: a handshake proves it.
        verify_sent: true,
        first_admitted: None,
        staged_at: now.wall,
        jitter: jitter_of(&issued.client),
    });
    Step::durable_first(Barrier::Import { number, manifest: manifest.clone() }, manifest)
}
