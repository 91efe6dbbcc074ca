//! What an operator sees of the machine, and when it wants to be looked at again.

use core::time::Duration;

use super::{Blocked, Link, Pending, Phase, PhaseName, Renewal, Storage};
use crate::facts::{GenerationNumber, Leaf, Now, UnixTime, Uptime};
use crate::manifest::AttemptRecord;

/// One router at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// Where the newest attempt stands.
    pub phase: PhaseName,
    /// The generation that is served.
    pub live: GenerationNumber,
    /// The generation that waits for its proof.
    pub next: Option<GenerationNumber>,
    /// How many generations a restart could try.
    pub candidates: usize,
    /// The live client leaf.
    pub client: Option<Leaf>,
    /// The live server leaf.
    pub server: Option<Leaf>,
    /// When the next renewal is due.
    pub renew_at: UnixTime,
    /// The last attempt.
    pub attempt: Option<AttemptRecord>,
    /// How long this router stays admissible if it restarted now, as far as it can know: what is durable, against what
    /// controllers were last seen to admit.
    pub lockout_in: Duration,
    /// Controllers with a channel.
    pub connected: usize,
    /// Controllers known.
    pub controllers: usize,
    /// Can the state folder keep a new generation?
    pub storage: Storage,
    /// Why a due renewal does not begin.
    pub blocked: Option<Blocked>,
}

impl Renewal {
    /// What an operator sees.
    pub fn view(&self, now: Now) -> View {
        let live = self.manifest.candidate(self.live());
        View {
            phase: self.phase.name(),
            live: self.live(),
            next: self.phase.next(),
            candidates: self.manifest.candidates.len(),
            client: live.map(|c| c.client),
            server: live.map(|c| c.server),
            renew_at: self.renew_at(),
            attempt: self.manifest.attempt,
            lockout_in: self.lockout_in(now),
            connected: self.contacts.values().filter(|contact| contact.is_up()).count(),
            controllers: self.contacts.len(),
            storage: self.storage,
            blocked: self.blocked,
        }
    }

    /// While the outcome of a 20303 is unknown only one of the two leaves may stand, so the one that ends first counts.
    fn lockout_in(&self, now: Now) -> Duration {
        let left = |number: GenerationNumber| {
            self.manifest.candidate(number).map(|candidate| candidate.client.not_after.since(now.wall))
        };
        let live = left(self.live()).unwrap_or_default();
        match &self.phase {
            Phase::Proving { next, .. } => left(*next).map_or(live, |next| next.min(live)),
            Phase::Steady { .. }
            | Phase::Prepared { .. }
            | Phase::Requested { .. }
            | Phase::Staged { .. }
            | Phase::Promoted { .. }
            | Phase::Lapsed { .. } => live,
        }
    }

    /// Does the manifest on the disk lag behind this machine? A tick will say what to write.
    pub fn has_unsaved(&self) -> bool {
        self.unsaved.is_some()
    }

    /// How long the shell may sleep before the next [`super::Input::Tick`], if nothing else happens.
    pub fn wake_in(&self, now: Now) -> Duration {
        let until = |at: Uptime| at.since(now.uptime);
        let mut wait = self.policy.reevaluate_for(self.life());
        for contact in self.contacts.values() {
            if let Link::Down { retry_at } = contact.link {
                wait = wait.min(until(retry_at));
            }
        }
        if self.unsaved.is_some() {
            wait = wait.min(until(self.save_at));
        }
        let anyone_up = self.contacts.values().any(super::Contact::is_up);
        match &self.phase {
            Phase::Steady { .. } => wait.min(self.idle_wait(now)),
            Phase::Lapsed { .. } => wait,
            Phase::Promoted { drained_at, .. } => wait.min(until(*drained_at)).min(self.idle_wait(now)),
            Phase::Prepared { attempt, .. } if anyone_up => wait.min(until(attempt.not_before)),
            Phase::Requested { deadline, .. } => wait.min(until(*deadline)),
            Phase::Staged { .. } if anyone_up => wait.min(until(self.save_at)),
            Phase::Proving { proof, .. } => match proof.pending {
                Pending::Answer(at) | Pending::Handshake(at) => wait.min(until(at)),
                Pending::Nothing if anyone_up => wait.min(until(proof.next_try)),
                Pending::Nothing => wait,
            },
            Phase::Prepared { .. } | Phase::Staged { .. } => wait,
        }
    }

    /// Until the next renewal may begin; the ordinary re-evaluation while something forbids it.
    fn idle_wait(&self, now: Now) -> Duration {
        if self.blocked.is_some() {
            return Duration::MAX;
        }
        let spacing = self.policy.spacing_for(self.life());
        let spaced =
            self.manifest.attempt.map_or(Duration::ZERO, |last| spacing.saturating_sub(now.wall.since(last.began)));
        self.due_in(now).max(self.retry_at.since(now.uptime)).max(spaced)
    }
}
