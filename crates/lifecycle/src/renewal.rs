//! Renewal of one router's identity: from "the leaf is due" to "the old keys are erased".
//!
//! Read [`Phase`], then [`Renewal::step`]. One rule orders everything here: durable first, visible second.
//! Not here: when a leaf is due ([`crate::policy`]), what a restart finds ([`crate::recovery`]), the controller's half
//! ([`crate::issuance`]).
//!
//! ```text
//!            due           channel         20301 staged       channel         a controller admitted `next`
//!  Steady ───────▶ Prepared ─────▶ Requested ─────────▶ Staged ─────▶ Proving ─────────────────────────▶ Promoted ──▶ Steady
//!    ▲  ▲             ▲                │                                 │                                  drained
//!    │  └─────────────┴────────────────┘ no answer: same keys again      │ window over: `next` stays a candidate
//!    └───────────────────────────────────────────────────────────────────┘
//!  Steady ── every leaf expired ──▶ Lapsed ── any admission ──▶ Steady
//! ```
//!
//! The phase says where the newest attempt stands. Which generations a restart may try is the [`Manifest`]'s business: every
//! generation that was ever staged stays in it until its leaf is past NotAfter and a later one was admitted after that.

mod admission;
mod attempt;
mod contacts;
mod output;
mod phase;
mod proving;
mod settled;
mod view;

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use crate::facts::{ControllerId, Digest, GenerationNumber, Leaf, Now, UnixTime, Uptime};
use crate::issuance::Window;
use crate::manifest::{CANDIDATES_MAX, Candidate, Manifest, Origin, ProjectionRecord};
use crate::policy::{Policy, mix};
use crate::step::Step;

pub use contacts::{Contact, Link};
pub use output::{Barrier, Blocked, Cause, Effect, Event, Failure, StorageTrouble};
pub use phase::{Attempt, Pending, Phase, PhaseName, Proof};
pub use view::View;

/// What the router's machine answers with.
pub type RouterStep = Step<Barrier, Vec<Effect>>;

/// One router's machine: its phase, its manifest, and what it knows of its controllers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Renewal {
    pub(crate) policy: Policy,
    pub(crate) manifest: Manifest,
    pub(crate) phase: Phase,
    pub(crate) contacts: BTreeMap<ControllerId, Contact>,
    pub(crate) storage: Storage,
    /// No new attempt begins before this.
    pub(crate) retry_at: Uptime,
    /// A renewal window from a controller, until an attempt begins.
    pub(crate) advice: Option<Window>,
    /// Why the last due renewal did not begin, if it did not.
    pub(crate) blocked: Option<Blocked>,
    /// What the manifest says and the disk may not, with the generations to erase once it does.
    pub(crate) unsaved: Option<Vec<GenerationNumber>>,
    /// No manifest is written before this; grows with every one that could not be.
    pub(crate) save_at: Uptime,
    /// Manifests in a row that could not be written.
    pub(crate) save_failures: u32,
    /// When this live generation is due, by uptime: a wall clock that is wrong or was set back must not put it off.
    pub(crate) due_by_uptime: Option<(GenerationNumber, Uptime)>,
}

/// Whether the state folder can keep a new generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Storage {
    /// Yes, as far as anybody knows before PREPARE has tried.
    Writable,
    /// Not at the moment. PREPARE goes on trying, with back-off, because it asks for nothing before it has written.
    ReadOnly,
    /// What is written would not survive the container or the machine. No renewal begins.
    Volatile,
    /// Somebody else lays down whole identities (a Kubernetes secret). No renewal begins.
    ExternallyManaged,
}

/// A checked answer to an extension: our keys, our id, our names, a chain to our bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Issued {
    /// The client leaf.
    pub client: Leaf,
    /// The server leaf.
    pub server: Leaf,
    /// What the generation's files will hash to.
    pub digest: Digest,
}

/// How a dial ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DialOutcome {
    /// A Result with success, on a connection whose full handshake presented the leaf; even if it was closed right after.
    Admitted {
        /// Can further underlays join this channel?
        grouped: bool,
        /// A renewal window that came with the answer.
        window: Option<Window>,
    },
    /// The connection was closed without a Result, or with a refusal. Neither proof nor disproof of anything.
    Refused,
    /// No handshake took place.
    Unreachable,
}

/// How a further underlay ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProofOutcome {
    /// A Result with success.
    Admitted,
    /// Closed without a Result, or refused.
    Refused,
    /// No handshake took place.
    Unreachable,
}

/// How a 20303 was answered. Everything but success means *unknown*.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum VerifyAnswer {
    /// The controller says that it confirmed the leaf.
    Success,
    /// The controller says anything else.
    Error,
}

/// One thing that happened, as the shell saw it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// The process has started and published nothing yet.
    Started {
        /// Every controller that it knows, by configuration or from the endpoints file.
        controllers: Vec<ControllerId>,
    },
    /// Time has passed.
    Tick,
    /// The set of known controllers changed.
    Controllers(Vec<ControllerId>),
    /// A dial ended.
    Dialed {
        /// Whom we dialed.
        controller: ControllerId,
        /// With what.
        generation: GenerationNumber,
        /// How it ended.
        outcome: DialOutcome,
    },
    /// A control channel closed.
    ChannelClosed {
        /// Whose.
        controller: ControllerId,
    },
    /// A further underlay was tried.
    Proved {
        /// Whom we dialed.
        controller: ControllerId,
        /// With what.
        generation: GenerationNumber,
        /// How it ended.
        outcome: ProofOutcome,
    },
    /// Somebody wants a renewal now.
    RenewAsked(Cause),
    /// A controller sent a renewal window on an open channel.
    WindowAdvised(Window),
    /// The barrier of [`Barrier::Prepare`] could not be passed.
    PrepareFailed {
        /// Which generation.
        number: GenerationNumber,
        /// What went wrong.
        trouble: StorageTrouble,
    },
    /// The barrier of a [`Barrier::Manifest`] could not be passed. The shell has read the disk again and kept the machine as it was
    /// before that step: nothing that follows STAGE is needed for safety.
    ManifestFailed,
    /// A 20301 for our keys arrived and passed every check that needs no clock.
    Issued {
        /// The generation whose keys it is for.
        number: GenerationNumber,
        /// Its leaves.
        issued: Issued,
    },
    /// A 20301 for our keys arrived and failed a check, or the controller refused visibly.
    IssueFailed {
        /// The generation that was asked for.
        number: GenerationNumber,
        /// Why.
        failure: Failure,
    },
    /// A 20002 answered our 20303.
    VerifyAnswered {
        /// Who answered.
        controller: ControllerId,
        /// The generation that was to be confirmed.
        number: GenerationNumber,
        /// What it says.
        answer: VerifyAnswer,
    },
    /// Somebody put another identity of this router at the configured paths.
    Imported(Issued),
    /// The configured paths were written.
    Projected(ProjectionRecord),
    /// The state folder's mode changed.
    StorageChanged(Storage),
}

impl Renewal {
    /// Advances by one input. Same machine, time and input: same answer, everywhere.
    pub fn step(mut self, now: Now, input: Input) -> (Self, RouterStep) {
        self.forget_the_future(now);
        self.watch_clock(now);
        let step = match input {
            Input::Started { controllers } => self.started(now, &controllers),
            Input::Tick => self.tick(now),
            Input::Controllers(controllers) => self.know(now, &controllers),
            Input::Dialed { controller, generation, outcome } => self.dialed(now, &controller, generation, outcome),
            Input::ChannelClosed { controller } => self.channel_closed(now, &controller),
            Input::Proved { controller, generation, outcome } => self.proved(now, &controller, generation, outcome),
            Input::RenewAsked(cause) => self.renew_asked(now, cause),
            Input::WindowAdvised(window) => self.advised(now, window),
            Input::PrepareFailed { number, trouble } => self.prepare_failed(now, number, trouble),
            Input::ManifestFailed => self.manifest_failed(now),
            Input::Issued { number, issued } => self.issued(now, number, issued),
            Input::IssueFailed { number, failure } => self.issue_failed(now, number, failure),
            Input::VerifyAnswered { controller, number, answer } => {
                self.verify_answered(now, &controller, number, answer)
            }
            Input::Imported(issued) => self.imported(now, issued),
            Input::Projected(record) => self.projected(record),
            Input::StorageChanged(storage) => self.storage_changed(storage),
        };
        (self, step)
    }

    /// Where the newest attempt stands.
    pub fn phase(&self) -> &Phase {
        &self.phase
    }

    /// What a restart would be told.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// What the machine knows of each controller.
    pub fn contacts(&self) -> &BTreeMap<ControllerId, Contact> {
        &self.contacts
    }

    /// The generation that TLS endpoints serve: the newest one that a connected controller admitted last.
    pub fn live(&self) -> GenerationNumber {
        self.phase.live()
    }

    fn started(&mut self, now: Now, controllers: &[ControllerId]) -> RouterStep {
        self.learn(now, controllers);
        let live = self.live();
        Step::free(vec![
            Effect::Publish(live),
            Effect::Project(live),
            Effect::Report(Event::Started(self.phase.name())),
        ])
    }

    fn know(&mut self, now: Now, controllers: &[ControllerId]) -> RouterStep {
        self.learn(now, controllers);
        Step::free(vec![])
    }

    fn tick(&mut self, now: Now) -> RouterStep {
        if let Some(step) = self.save_if_due(now) {
            return step;
        }
        // Dials never share a step with a barrier: a failed commit must not take them along.
        let dials = self.dials_due(now);
        if !dials.is_empty() {
            return Step::free(dials);
        }
        if let Some(step) = self.lapse(now) {
            return step;
        }
        match self.phase.clone() {
            Phase::Steady { .. } | Phase::Promoted { .. } | Phase::Lapsed { .. } => self.idle_tick(now),
            Phase::Prepared { attempt, .. } => self.request_if_possible(now, attempt),
            Phase::Requested { attempt, deadline, .. } => self.requested_tick(now, attempt, deadline),
            Phase::Staged { next, .. } => self.verify_if_possible(now, next),
            Phase::Proving { proof, .. } => self.proving_tick(now, proof),
        }
    }

    fn advised(&mut self, now: Now, window: Window) -> RouterStep {
        self.advice = Some(window);
        self.tick(now)
    }

    fn storage_changed(&mut self, storage: Storage) -> RouterStep {
        if self.storage == storage {
            return Step::free(vec![]);
        }
        self.storage = storage;
        Step::free(vec![Effect::Report(Event::Storage(storage))])
    }

    fn projected(&mut self, record: ProjectionRecord) -> RouterStep {
        if self.manifest.projection == Some(record) {
            return Step::free(vec![]);
        }
        self.manifest.projection = Some(record);
        self.save_soon(vec![]);
        Step::free(vec![])
    }

    /// Notes that the manifest has changed, and what may be erased once that is durable. A tick writes it: what was published
    /// meanwhile was justified by an earlier barrier.
    pub(crate) fn save_soon(&mut self, erase: Vec<GenerationNumber>) {
        self.unsaved.get_or_insert_default().extend(erase);
    }

    fn save_if_due(&mut self, now: Now) -> Option<RouterStep> {
        if now.uptime < self.save_at {
            return None;
        }
        let erase = self.unsaved.take()?;
        self.save_failures = 0;
        let then = if erase.is_empty() {
            vec![]
        } else {
            vec![Effect::Erase(erase.clone()), Effect::Report(Event::Retired(erase))]
        };
        Some(Step::durable_first(Barrier::Manifest(self.manifest.clone()), then))
    }

    fn manifest_failed(&mut self, now: Now) -> RouterStep {
        self.save_failures = self.save_failures.saturating_add(1);
        let wait = self.policy.backoff(self.save_failures, self.salt(), self.life());
        self.save_at = now.uptime.plus(wait);
        Step::free(vec![])
    }

    fn imported(&mut self, now: Now, issued: Issued) -> RouterStep {
        let known = self.manifest.candidates.iter().any(|c| c.client.fingerprint == issued.client.fingerprint);
        let idle = matches!(self.phase, Phase::Steady { .. } | Phase::Promoted { .. } | Phase::Lapsed { .. });
        // An attempt without a channel gets nowhere, and what lies there may be the only thing that is admitted by now. What the attempt has
        // staged stays a candidate.
        let is_stuck = !self.contacts.values().any(Contact::is_up);
        if known || !(idle || is_stuck) {
            return Step::free(vec![]);
        }
        let Some(dropped) = self.make_room() else { return Step::free(vec![]) };
        let live = self.live();
        let number = self.add_candidate(now, issued, Origin::Imported);
        self.phase =
            Phase::Proving { live, next: number, proof: Proof::new(now, self.policy.verify_window_for(self.life())) };
        let mut then = vec![Effect::Report(Event::Imported(number))];
        if !dropped.is_empty() {
            then.push(Effect::Erase(dropped));
        }
        Step::durable_first(Barrier::Import { number, manifest: self.manifest.clone() }, then)
    }

    /// Appends the newest candidate; the caller has made room.
    fn add_candidate(&mut self, now: Now, issued: Issued, origin: Origin) -> GenerationNumber {
        let number = match (origin, self.manifest.attempt) {
            (Origin::Renewed | Origin::Enrolled, Some(attempt)) => attempt.number,
            (Origin::Imported, _) | (_, None) => {
                self.manifest.last_number = self.manifest.last_number.next();
                self.manifest.last_number
            }
        };
        self.manifest.candidates.push(Candidate {
            number,
            digest: issued.digest,
            client: issued.client,
            server: issued.server,
            origin,
            verify_sent: false,
            first_admitted: None,
            staged_at: now.wall,
            jitter: jitter_of(&issued.client),
        });
        number
    }

    /// At the cap, drops the oldest candidate after which two later ones were admitted, and says which; `None` when there is none.
    fn make_room(&mut self) -> Option<Vec<GenerationNumber>> {
        if self.manifest.candidates.len() < CANDIDATES_MAX {
            return Some(vec![]);
        }
        let live = self.live();
        let admitted_after = |at: usize, list: &[Candidate]| {
            list.iter().skip(at + 1).filter(|later| later.first_admitted.is_some()).count()
        };
        let list = &self.manifest.candidates;
        let victim = (0..list.len()).find(|&at| {
            admitted_after(at, list) >= 2 && list.get(at).is_some_and(|candidate| candidate.number != live)
        })?;
        Some(vec![self.manifest.candidates.remove(victim).number])
    }

    /// Life of the live generation's shorter leaf; every time-out is capped at a share of it.
    pub(crate) fn life(&self) -> Duration {
        let candidate = self.manifest.candidate(self.live()).or(self.manifest.candidates.last());
        candidate.map_or(Duration::from_secs(86_400), |c| c.client.life().min(c.server.life()))
    }

    pub(crate) fn salt(&self) -> u64 {
        self.manifest.candidate(self.live()).map_or(0, |candidate| leaf_salt(&candidate.client))
    }

    /// A stored attempt that began in the future began now: our clock was ahead when it was written.
    fn forget_the_future(&mut self, now: Now) {
        if let Some(attempt) = &mut self.manifest.attempt {
            attempt.began = attempt.began.min(now.wall);
        }
    }
}

pub(crate) fn leaf_salt(leaf: &Leaf) -> u64 {
    leaf.fingerprint
        .0
        .chunks(8)
        .fold(0, |salt, chunk| mix(salt ^ chunk.iter().fold(0, |word, byte| word << 8 | u64::from(*byte))))
}

pub(crate) fn jitter_of(leaf: &Leaf) -> u16 {
    u16::try_from(leaf_salt(leaf) >> 48).unwrap_or(u16::MAX)
}

/// Where in a window a router renews: its generation's jitter says.
pub(crate) fn instant_in(window: Window, jitter: u16) -> UnixTime {
    let span = u64::try_from(window.to.since(window.from).as_millis()).unwrap_or(u64::MAX);
    window.from.plus(Duration::from_millis(span / u64::from(u16::MAX) * u64::from(jitter)))
}
