//! From "due" to "staged": PREPARE, 20302, 20301, STAGE.

use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use super::{
    Attempt, Barrier, Blocked, Cause, Contact, Effect, Event, Failure, Issued, Link, Phase, Proof, Renewal, RouterStep,
    Storage, StorageTrouble, instant_in,
};
use crate::facts::{ControllerId, GenerationNumber, Leaf, Now, UnixTime};
use crate::manifest::{AttemptRecord, Origin};
use crate::policy::mix;
use crate::step::Step;

/// Without groups, every third round of requests that nobody answers has the channels replaced: they may show a leaf that is not admitted any more.
const REPLACE_AFTER: u32 = 3;

impl Renewal {
    /// When the live generation's renewal is due by our own rule, or earlier if a controller's window says so.
    pub fn renew_at(&self) -> UnixTime {
        let Some(live) = self.manifest.candidate(self.live()) else { return UnixTime::default() };
        let own = self.policy.due_at(live);
        self.advice.map_or(own, |window| own.min(instant_in(window, live.jitter)))
    }

    /// Until the live generation is due; zero when it is. Whichever clock says so first, and the uptime alone while the other is wrong.
    pub fn due_in(&self, now: Now) -> Duration {
        let by_wall = self.renew_at().since(now.wall);
        match self.due_by_uptime {
            Some((of, at)) if of == self.live() => {
                let by_uptime = at.since(now.uptime);
                if self.clock_is_wrong(now) { by_uptime } else { by_wall.min(by_uptime) }
            }
            Some(_) | None => by_wall,
        }
    }

    /// While the wall clock may be right, notes by uptime when it calls the live generation due.
    pub(super) fn watch_clock(&mut self, now: Now) {
        let live = self.live();
        let Some(candidate) = self.manifest.candidate(live) else { return };
        if self.clock_is_wrong(now) {
            return;
        }
        let due = now.uptime.plus(self.policy.due_at(candidate).since(now.wall));
        let earlier = self.due_by_uptime.filter(|(of, _)| *of == live).map(|(_, at)| at);
        self.due_by_uptime = Some((live, earlier.map_or(due, |earlier| earlier.min(due))));
    }

    /// Is our wall clock outside the live leaf's dates?
    pub(super) fn clock_is_wrong(&self, now: Now) -> bool {
        self.manifest
            .candidate(self.live())
            .is_some_and(|live| live.client.is_expired(now.wall) || now.wall < live.client.not_before)
    }

    pub(super) fn idle_tick(&mut self, now: Now) -> RouterStep {
        if let Phase::Promoted { live, drained_at, .. } = self.phase
            && now.uptime >= drained_at
        {
            self.phase = Phase::Steady { live };
            return Step::free(vec![Effect::Trim(live)]);
        }
        if self.due_in(now).is_zero() {
            let own = self.manifest.candidate(self.live()).map(|live| self.policy.due_at(live));
            let cause = if self.advice.is_none() || own.is_some_and(|own| now.wall >= own) {
                Cause::Due
            } else {
                Cause::Window
            };
            if let Some(step) = self.begin_if_allowed(now, cause) {
                return step;
            }
        }
        Step::free(vec![])
    }

    /// Every leaf is over by our clock and nobody is connected: there is nobody to ask, and nothing to keep keys for. A controller
    /// that still admits one of the leaves ends this, whatever our clock says.
    pub(super) fn lapse(&mut self, now: Now) -> Option<RouterStep> {
        let all_over = self.manifest.candidates.iter().all(|c| c.client.is_expired(now.wall));
        let nobody = !self.contacts.values().any(super::Contact::is_up);
        let last = self.live();
        match (&self.phase, all_over && nobody) {
            (Phase::Lapsed { .. }, true) => Some(Step::free(vec![])),
            (Phase::Lapsed { .. }, false) => {
                self.phase = Phase::Steady { live: last };
                None
            }
            (
                Phase::Steady { .. }
                | Phase::Prepared { .. }
                | Phase::Requested { .. }
                | Phase::Staged { .. }
                | Phase::Proving { .. }
                | Phase::Promoted { .. },
                true,
            ) => {
                let mut then = vec![Effect::Report(Event::Lapsed)];
                if let Some(number) = self.phase.attempt() {
                    then.push(Effect::Erase(vec![number]));
                }
                self.phase = Phase::Lapsed { last };
                Some(Step::free(then))
            }
            (
                Phase::Steady { .. }
                | Phase::Prepared { .. }
                | Phase::Requested { .. }
                | Phase::Staged { .. }
                | Phase::Proving { .. }
                | Phase::Promoted { .. },
                false,
            ) => None,
        }
    }

    pub(super) fn renew_asked(&mut self, now: Now, cause: Cause) -> RouterStep {
        let idle = matches!(self.phase, Phase::Steady { .. } | Phase::Promoted { .. } | Phase::Lapsed { .. });
        let wait = match cause {
            Cause::Operator => Duration::ZERO,
            Cause::Due | Cause::Window | Cause::StartFlag => self.spacing_left(now),
        };
        if !idle || wait > Duration::ZERO {
            return Step::free(vec![Effect::Report(Event::AskDeferred { cause, wait })]);
        }
        match self.obstacle() {
            Some(blocked) => Step::free(self.report_blocked(blocked)),
            None => self.begin(now, cause),
        }
    }

    /// `None` when it is too early after the last attempt: the caller has other things to look at.
    fn begin_if_allowed(&mut self, now: Now, cause: Cause) -> Option<RouterStep> {
        if now.uptime < self.retry_at || self.spacing_left(now) > Duration::ZERO {
            return None;
        }
        match self.obstacle() {
            Some(blocked) if self.blocked != Some(blocked) => Some(Step::free(self.report_blocked(blocked))),
            Some(Blocked::NoRoom) => self.prove_again(now),
            Some(_) => None,
            None => Some(self.begin(now, cause)),
        }
    }

    /// No room for another attempt, so the newest one has to do: its outcome is unknown, and a controller that could not confirm it then may
    /// do so now.
    fn prove_again(&mut self, now: Now) -> Option<RouterStep> {
        let live = self.live();
        if let Some(step) = self.be_admitted_again(now) {
            return Some(step);
        }
        let next = self.manifest.candidates.last().map(|newest| newest.number).filter(|newest| *newest > live)?;
        self.phase = Phase::Proving { live, next, proof: Proof::new(now, self.policy.verify_window_for(self.life())) };
        Some(Step::free(vec![]))
    }

    /// Older candidates have ended meanwhile, and only an admission after their end retires them. On a channel that stays there is none
    /// unless it is asked for.
    fn be_admitted_again(&mut self, now: Now) -> Option<RouterStep> {
        let live = self.live();
        if self.clock_is_wrong(now)
            || !self.manifest.candidates.iter().any(|c| c.number < live && c.client.is_expired(now.wall))
        {
            return None;
        }
        let (controller, contact) = self.reachable(live)?;
        let since = contact.up_since()?;
        self.retry_at = now.uptime.plus(self.policy.attempt_deadline_for(self.life()));
        if contact.is_grouped() {
            return Some(Step::free(vec![Effect::Prove { controller, generation: live }]));
        }
        if now.uptime < since.plus(self.policy.churn) {
            return None;
        }
        if let Some(contact) = self.contacts.get_mut(&controller) {
            contact.link = Link::Dialing { generation: live };
        }
        Some(Step::free(vec![Effect::Replace { controller, generation: live }]))
    }

    pub(super) fn spacing_left(&self, now: Now) -> Duration {
        let spacing = self.policy.spacing_for(self.life());
        self.manifest.attempt.map_or(Duration::ZERO, |last| spacing.saturating_sub(now.wall.since(last.began)))
    }

    fn obstacle(&self) -> Option<Blocked> {
        match self.storage {
            Storage::Volatile => Some(Blocked::VolatileStorage),
            Storage::ExternallyManaged => Some(Blocked::ExternallyManaged),
            Storage::Writable | Storage::ReadOnly if self.clone().make_room().is_some() => None,
            Storage::Writable | Storage::ReadOnly => Some(Blocked::NoRoom),
        }
    }

    fn report_blocked(&mut self, blocked: Blocked) -> Vec<Effect> {
        self.blocked = Some(blocked);
        vec![Effect::Report(Event::Blocked(blocked))]
    }

    fn begin(&mut self, now: Now, cause: Cause) -> RouterStep {
        let dropped = self.make_room().unwrap_or_default();
        let live = self.live();
        let number = self.manifest.last_number.next();
        self.manifest.last_number = number;
        let failures = self.manifest.attempt.map_or(0, |last| last.failures);
        self.manifest.attempt = Some(AttemptRecord { number, began: now.wall, failures });
        self.advice = None;
        self.blocked = None;
        self.phase = Phase::Prepared { live, attempt: Attempt { number, not_before: now.uptime, unanswered: 0 } };
        let mut then = vec![Effect::Report(Event::AttemptBegan { number, cause })];
        if !dropped.is_empty() {
            then.push(Effect::Erase(dropped));
        }
        Step::durable_first(Barrier::Prepare { number, manifest: self.manifest.clone() }, then)
    }

    pub(super) fn prepare_failed(&mut self, now: Now, number: GenerationNumber, trouble: StorageTrouble) -> RouterStep {
        if self.phase.attempt() != Some(number) {
            return Step::free(vec![]);
        }
        self.give_up(now, number, Failure::Storage(trouble))
    }

    pub(super) fn request_if_possible(&mut self, now: Now, attempt: Attempt) -> RouterStep {
        if now.uptime < attempt.not_before {
            return Step::free(vec![]);
        }
        let Some((controller, contact)) = self.to_ask(attempt) else { return Step::free(vec![]) };
        if let Some(step) = self.show_first(now, attempt, &controller, &contact) {
            return step;
        }
        let live = self.live();
        let present = (!contact.is_closed_to_underlays()).then(|| self.choose(&contact).unwrap_or(live));
        let deadline = now.uptime.plus(self.policy.attempt_deadline_for(self.life()));
        self.phase = Phase::Requested { live, attempt, controller: controller.clone(), deadline };
        let number = attempt.number;
        Step::free(vec![
            Effect::Request { controller: controller.clone(), number, present },
            Effect::Report(Event::Requested { number, controller }),
        ])
    }

    /// A controller with a channel, another one after each request that was not answered. First those that can see the live leaf: without
    /// groups a channel shows what it was opened with, and OpenZiti says nothing to a request over one that shows an older leaf.
    fn to_ask(&self, attempt: Attempt) -> Option<(ControllerId, Contact)> {
        let live = self.live();
        let up = || self.contacts.iter().filter(|(_, contact)| contact.is_up());
        let sees = |contact: &Contact| contact.is_grouped() || contact.last_admitted == Some(live);
        let is_any_seeing = up().any(|(_, contact)| sees(contact));
        let fit = || up().filter(|(_, contact)| !is_any_seeing || sees(contact));
        let count = u64::try_from(fit().count()).ok().filter(|count| *count > 0)?;
        let nth = mix(attempt.number.0).wrapping_add(u64::from(attempt.unanswered)) % count;
        fit().nth(usize::try_from(nth).ok()?).map(|(id, contact)| (id.clone(), *contact))
    }

    /// Where there are no groups and the channel shows an older leaf, or nothing was answered again and again, the channel is replaced by one
    /// that shows what is admitted. `None` when the request may leave.
    fn show_first(
        &mut self,
        now: Now,
        attempt: Attempt,
        controller: &ControllerId,
        contact: &Contact,
    ) -> Option<RouterStep> {
        let since = contact.up_since().filter(|_| !contact.is_grouped())?;
        let live = self.live();
        let shows_older = contact.last_admitted != Some(live);
        let ripe = since.plus(self.policy.churn);
        let up = self.contacts.values().filter(|contact| contact.is_up()).count();
        let round = attempt.unanswered / u32::try_from(up.max(1)).unwrap_or(u32::MAX);
        let is_hopeless = round % REPLACE_AFTER == REPLACE_AFTER - 1 && now.uptime >= ripe;
        if !shows_older && !is_hopeless {
            return None;
        }
        if now.uptime < ripe {
            self.phase = Phase::Prepared { live, attempt: Attempt { not_before: ripe, ..attempt } };
            return Some(Step::free(vec![]));
        }
        if let Some(contact) = self.contacts.get_mut(controller) {
            contact.link = Link::Dialing { generation: live };
        }
        Some(Step::free(vec![Effect::Replace { controller: controller.clone(), generation: live }]))
    }

    pub(super) fn requested_tick(&mut self, now: Now, attempt: Attempt, deadline: crate::facts::Uptime) -> RouterStep {
        if now.uptime < deadline {
            return Step::free(vec![]);
        }
        self.ask_again(now, attempt, Failure::Unanswered)
    }

    /// The same keys are asked for again: a lost answer costs nothing.
    fn ask_again(&mut self, now: Now, attempt: Attempt, failure: Failure) -> RouterStep {
        let unanswered = attempt.unanswered.saturating_add(1);
        let retry_in = self.policy.backoff(unanswered, self.salt(), self.life());
        let attempt = Attempt { not_before: now.uptime.plus(retry_in), unanswered, ..attempt };
        self.phase = Phase::Prepared { live: self.live(), attempt };
        Step::free(vec![Effect::Report(Event::AttemptFailed { number: attempt.number, failure, retry_in })])
    }

    pub(super) fn issue_failed(&mut self, now: Now, number: GenerationNumber, failure: Failure) -> RouterStep {
        match self.phase.clone() {
            Phase::Requested { attempt, .. } if attempt.number == number => match failure {
                Failure::RefusedByController | Failure::Unanswered => self.ask_again(now, attempt, failure),
                Failure::Storage(_) | Failure::Unacceptable | Failure::Dates | Failure::Unsafe | Failure::Unproven => {
                    self.give_up(now, number, failure)
                }
            },
            Phase::Requested { .. }
            | Phase::Steady { .. }
            | Phase::Prepared { .. }
            | Phase::Staged { .. }
            | Phase::Proving { .. }
            | Phase::Promoted { .. }
            | Phase::Lapsed { .. } => Step::free(vec![]),
        }
    }

    pub(super) fn issued(&mut self, now: Now, number: GenerationNumber, issued: Issued) -> RouterStep {
        // A late answer to the same keys is as good as a timely one.
        if self.phase.attempt() != Some(number) {
            return Step::free(vec![]);
        }
        let live = self.live();
        let Some(old) = self.manifest.candidate(live).copied() else { return Step::free(vec![]) };
        if !follows(&old.client, &issued.client) || !follows(&old.server, &issued.server) {
            return self.give_up(now, number, Failure::Dates);
        }
        self.add_candidate(now, issued, Origin::Renewed);
        // With a channel at hand the 20303 leaves at once, so one commit records the leaves and that it may have left.
        let sendable = self.reachable(number).is_some();
        let mut then = vec![Effect::Report(Event::Staged { number, not_after: issued.client.not_after })];
        if sendable {
            then.extend(self.begin_proving(now, live, number));
        } else {
            self.phase = Phase::Staged { live, next: number };
        }
        Step::durable_first(Barrier::Stage { number, manifest: self.manifest.clone() }, then)
    }

    /// Ends an attempt before anything was sent for proof: its generation goes, the live one is untouched.
    fn give_up(&mut self, now: Now, number: GenerationNumber, failure: Failure) -> RouterStep {
        let retry_in = self.count_failure(now);
        self.phase = Phase::Steady { live: self.live() };
        Step::free(vec![
            Effect::Erase(vec![number]),
            Effect::Report(Event::AttemptFailed { number, failure, retry_in }),
        ])
    }

    /// One more failure in a row; no attempt begins before the back-off is over.
    pub(super) fn count_failure(&mut self, now: Now) -> Duration {
        let failures = match &mut self.manifest.attempt {
            Some(attempt) => {
                attempt.failures = attempt.failures.saturating_add(1);
                attempt.failures
            }
            None => 1,
        };
        let retry_in = self.policy.backoff(failures, self.salt(), self.life());
        self.retry_at = now.uptime.plus(retry_in);
        retry_in
    }
}

/// A new leaf's dates are judged against the old leaf's, never against our clock. It may begin after the old one has ended: that is
/// what a renewal looks like that comes late.
fn follows(old: &Leaf, new: &Leaf) -> bool {
    new.not_before < new.not_after && new.not_after >= old.not_after
}
