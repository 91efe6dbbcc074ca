//! The loop of the router daemon.
//!
//! ```text
//!   control channels ─┐
//!   admin socket ─────┼─▶ Incoming ─▶ Input ─▶ Renewal::step ─▶ barrier ─▶ Custody::commit ─▶ effects ─▶ lines, TLS, disk, log
//!   timers ───────────┘                                          (settle)
//! ```
//!
//! One `select!`, one [`Input`], one `step`, one `settle`. Nothing here looks at certificates to decide anything: what happens
//! next is [`lifecycle::renewal`]'s business, what a barrier means on the disk is [`crate::commit`]'s.

mod effects;
mod enrolling;
mod hearing;
mod refusals;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use lifecycle::manifest::{Candidate, Manifest};
use lifecycle::policy::Policy;
use lifecycle::renewal::{Barrier, Contact, Effect, Input, Renewal, RouterStep, Storage};
use lifecycle::{ControllerId, GenerationNumber, RouterId, UnixTime, Uptime, recovery};
use net::credentials::CredentialsSlot;
use net::stop::StopSignal;
use pki::Sans;
use store::mode::StorageMode;
use tokio::sync::{mpsc, watch};
use tokio::task::block_in_place;
use tokio::time::{Instant, sleep, sleep_until};

use crate::admin::Ask;
use crate::clock;
use crate::commit::{CommitError, Custody, chain_text, must_reload};
use crate::config::RouterKind;
use crate::control::{Directory, Lines, Peer, Report};
use crate::enroll::EnrollmentNews;
use crate::events::{EventKind, EventLine, EventStream, barrier_name};
use crate::metrics::Metrics;
use crate::paths::ConfiguredPaths;
use crate::status::{AttemptOutcome, StatusView};

/// Messages that may wait for the driver.
pub(crate) const INCOMING: usize = 64;
/// How often the configured paths are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(3);
/// How often it is found out anew what the storage is good for.
const MODE_EVERY: Duration = Duration::from_secs(60);
/// How often at most it is found out because somebody asks.
const MODE_ASKED: Duration = Duration::from_secs(1);
/// The machine is never asked again sooner than this without an event.
const LEAST_WAKE: Duration = Duration::from_millis(2);
/// Time for the last frames when the process ends.
const FAREWELL: Duration = Duration::from_secs(2);

/// Everything that reaches the driver from outside. Closed: a new source is a new variant.
#[derive(Debug)]
pub enum Incoming {
    /// A control channel has something to say.
    Control {
        /// Whose.
        controller: ControllerId,
        /// What.
        report: Report,
    },
    /// Somebody on this machine asks for something.
    Admin(Ask),
    /// An enrollment that was handed over got further.
    Enrollment(EnrollmentNews),
}

/// What the driver needs to know besides the machine.
#[derive(Debug)]
pub struct DriverSettings {
    /// When to renew.
    pub policy: Policy,
    /// Who we are.
    pub router: RouterId,
    /// What kind of router the configuration describes.
    pub kind: RouterKind,
    /// Names for the CSRs.
    pub sans: Sans,
    /// Subject for an enrollment's CSRs.
    pub csr: crate::config::CsrSettings,
    /// May the unverified exchange be used where nothing else works?
    pub allow_unverified: bool,
    /// Where `identity.cert` is, if in a file: its file system tells what the storage is good for.
    pub identity_cert: Option<std::path::PathBuf>,
    /// OpenZiti's data model cache, which an enrollment removes.
    pub data_model_cache: std::path::PathBuf,
    /// Was `--extend` given?
    pub renew_at_start: bool,
    /// How long a start may take until the first control channel stands. It is only told.
    pub startup_timeout: Duration,
}

/// The parts that a driver is made of.
#[derive(Debug)]
pub struct Parts {
    /// See [`DriverSettings`].
    pub settings: DriverSettings,
    /// The machine, from the disk.
    pub renewal: Renewal,
    /// The store, read.
    pub custody: Custody,
    /// What the storage is good for.
    pub mode: StorageMode,
    /// Which controllers there are.
    pub directory: Directory,
    /// Their lines.
    pub lines: Lines,
    /// Where TLS endpoints find the generation to use.
    pub slot: Arc<CredentialsSlot>,
    /// The configured paths.
    pub paths: ConfiguredPaths,
    /// Where events go.
    pub events: EventStream,
    /// Where figures go.
    pub metrics: Arc<Metrics>,
    /// Who wants to know how things stand.
    pub status: watch::Sender<Arc<StatusView>>,
    /// For tasks that report back.
    pub sender: mpsc::Sender<Incoming>,
}

/// Owns the machine.
#[derive(Debug)]
pub struct Driver {
    parts: Parts,
    /// Inputs that follow from what was just done.
    queue: VecDeque<Input>,
    /// Barriers that failed in a row, PREPARE aside, and when the machine may be asked again without an event.
    mishaps: u32,
    paused_until: Option<Uptime>,
    peers: BTreeMap<ControllerId, Peer>,
    /// Why the last dial failed, by controller.
    troubles: BTreeMap<ControllerId, String>,
    refusals: refusals::Refusals,
    last_outcome: Option<AttemptOutcome>,
    renewals: u64,
    failed_attempts: u64,
    last_proof_ms: Option<i64>,
    /// The time for a first channel is over.
    is_late: bool,
    enrolling: Option<enrolling::Enrolling>,
    /// How long the machine wants whoever asked last to wait.
    deferral: Option<Duration>,
    /// When the storage was last looked at.
    storage_seen_at: lifecycle::Uptime,
}

/// Which kind of barrier a step waits for: what its failure means differs.
#[derive(Clone, Copy)]
enum Blocking {
    Prepare(GenerationNumber),
    Leaves,
    Manifest,
}

impl Blocking {
    fn of(barrier: &Barrier) -> Self {
        match barrier {
            Barrier::Prepare { number, .. } => Self::Prepare(*number),
            Barrier::Stage { .. } | Barrier::Import { .. } => Self::Leaves,
            Barrier::Manifest(_) => Self::Manifest,
        }
    }
}

impl Driver {
    /// Ready to run.
    pub fn new(parts: Parts) -> Self {
        Self {
            parts,
            queue: VecDeque::new(),
            mishaps: 0,
            paused_until: None,
            peers: BTreeMap::new(),
            troubles: BTreeMap::new(),
            refusals: refusals::Refusals::default(),
            last_outcome: None,
            renewals: 0,
            failed_attempts: 0,
            last_proof_ms: None,
            is_late: false,
            enrolling: None,
            deferral: None,
            storage_seen_at: clock::now().uptime,
        }
    }

    /// Until told to stop; then closes the channels and gives the lock back.
    pub async fn run(mut self, mut incoming: mpsc::Receiver<Incoming>, mut stop: StopSignal) {
        self.start();
        let mut look_at = Instant::now();
        let mut mode_at = Instant::now() + MODE_EVERY;
        let late_at = Instant::now() + self.parts.settings.startup_timeout;
        loop {
            let wake = self.wake_in();
            // Not biased: a controller that never stops talking must not keep the clock from being heard.
            let input = tokio::select! {
                () = stop.stopped() => break,
                Some(message) = incoming.recv() => self.hear(message),
                () = sleep_until(look_at) => {
                    look_at = Instant::now() + LOOK_EVERY;
                    self.read_again();
                    self.look()
                }
                () = sleep_until(mode_at) => {
                    mode_at = Instant::now() + MODE_EVERY;
                    self.look_at_storage()
                }
                () = sleep_until(late_at), if !self.is_late => {
                    self.tell_late();
                    None
                }
                () = sleep(wake) => Some(Input::Tick),
            };
            if let Some(input) = input {
                self.advance(input);
            }
            self.show();
        }
        self.save();
        self.tell(EventKind::ShuttingDown {});
        self.parts.lines.close(FAREWELL).await;
        self.parts.custody.close();
    }

    /// What was admitted and copied is written down before the end, so that the next start need not find it out again.
    fn save(&mut self) {
        let renewal = &self.parts.renewal;
        if renewal.has_unsaved() && renewal.wake_in(clock::now()).is_zero() {
            self.advance(Input::Tick);
        }
    }

    fn tell_late(&mut self) {
        self.is_late = true;
        if self.parts.renewal.contacts().values().any(|contact| contact.last_admitted.is_some()) {
            return;
        }
        let troubles: Vec<String> = self.troubles.iter().map(|(name, trouble)| format!("{name}: {trouble}")).collect();
        tracing::warn!(
            target: "exuvia::router",
            seconds = self.parts.settings.startup_timeout.as_secs(),
            "no controller has admitted this router since the start; going on trying ({}). See `exuvia doctor`",
            troubles.join("; ")
        );
    }

    fn start(&mut self) {
        let controllers = self.parts.directory.contacts();
        self.parts.lines.know(self.parts.directory.entries());
        self.advance(Input::Started { controllers });
        if self.parts.settings.renew_at_start {
            self.advance(Input::RenewAsked(lifecycle::renewal::Cause::StartFlag));
        }
        self.show();
    }

    /// One input, and whatever follows from it.
    fn advance(&mut self, input: Input) {
        self.queue.push_back(input);
        while let Some(input) = self.queue.pop_front() {
            if self.must_wait(&input) {
                continue;
            }
            let (next, step) = self.parts.renewal.clone().step(clock::now(), input);
            let barrier = step.barrier().map(Blocking::of);
            match (self.settle(&next, step), barrier) {
                (Ok(effects), barrier) => {
                    self.parts.renewal = next;
                    if barrier.is_some() {
                        self.mishaps = 0;
                    }
                    // Dials share a step with nothing else, so whatever else is due follows right behind them.
                    if effects.iter().any(|effect| matches!(effect, Effect::Dial { .. })) {
                        self.queue.push_back(Input::Tick);
                    }
                    for effect in effects {
                        self.perform(effect);
                    }
                }
                (Err(error), Some(Blocking::Prepare(number))) => {
                    // Nothing was asked for yet, so this is an ordinary input.
                    self.parts.renewal = next;
                    if must_reload(&error) {
                        self.reload();
                    }
                    self.queue.push_back(Input::PrepareFailed { number, trouble: error.trouble() });
                }
                (Err(_), Some(Blocking::Manifest)) => {
                    // The machine stays as it was before the step, and tries again after a while.
                    self.reload();
                    self.queue.push_back(Input::ManifestFailed);
                }
                (Err(error), Some(Blocking::Leaves) | None) => self.recover(&next, &error),
            }
        }
    }

    /// Passes the barrier, if there is one, and hands out what may follow.
    fn settle(&mut self, next: &Renewal, step: RouterStep) -> Result<Vec<Effect>, CommitError> {
        let Some((what, number)) = step.barrier().map(barrier_name) else {
            return step.settle(|_| Ok(()));
        };
        let (what, generation) = (what.to_owned(), number.map(|number| number.0));
        self.tell_as(next, EventKind::BarrierStarted { what: what.clone(), generation });
        let began = Instant::now();
        let custody = &mut self.parts.custody;
        let settled = block_in_place(|| step.settle(|barrier| custody.commit(barrier)));
        let took = began.elapsed();
        self.parts.metrics.committed(&what, took, settled.is_ok());
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let error = settled.as_ref().err().map(|error| format!("{}; {}", chain_text(error), error.hint()));
        self.tell_as(next, EventKind::BarrierDone { what, generation, is_durable: settled.is_ok(), took_us, error });
        settled
    }

    /// After a failed barrier only the disk knows what stands. Process, connections and published credentials stay; lines whose
    /// channel is open say so when the new machine wants to dial. `failed` is the machine as it would have been.
    fn recover(&mut self, failed: &Renewal, error: &CommitError) {
        self.queue.clear();
        self.mishaps = self.mishaps.saturating_add(1);
        let now = clock::now();
        let life = self.life();
        let pause = self.parts.settings.policy.backoff(self.mishaps, now.uptime.as_ms(), life);
        self.paused_until = Some(now.uptime.plus(pause));
        let mut found = self.reload_durable().unwrap_or_else(|| self.in_memory());
        remember_admissions(&mut found.manifest, failed.manifest());
        if let Some(renewal) = recovery::recover_in_process(now, self.parts.settings.policy, found, &self.parts.renewal)
        {
            self.parts.renewal = renewal;
            self.queue.push_back(Input::Started { controllers: self.parts.directory.contacts() });
        }
        self.tell(EventKind::Recovered { reason: chain_text(error) });
    }

    /// What the disk says, if it is certain to say the same after a power cut.
    fn reload_durable(&mut self) -> Option<recovery::Found> {
        let found = self.reload()?;
        let known = self.parts.renewal.manifest();
        let is_known = |candidate: &Candidate| {
            known.candidate(candidate.number).is_some_and(|known| known.digest == candidate.digest)
        };
        if found.manifest.candidates.iter().all(is_known) {
            return Some(found);
        }
        let custody = &mut self.parts.custody;
        match block_in_place(|| custody.make_durable()) {
            Ok(()) => Some(found),
            Err(error) => {
                tracing::error!(target: "exuvia::router", cause = %chain_text(&error), "what the state folder holds may not survive a power cut; going on with what is known to");
                None
            }
        }
    }

    /// What was durable before the step that failed.
    fn in_memory(&self) -> recovery::Found {
        let prepared = self.parts.custody.prepared().map(|keys| keys.number);
        let storage = storage_of(&self.parts.mode);
        recovery::Found { manifest: self.parts.renewal.manifest().clone(), prepared, storage }
    }

    /// Reads the disk again, if it lets itself be read.
    fn reload(&mut self) -> Option<recovery::Found> {
        let storage = storage_of(&self.parts.mode);
        let custody = &mut self.parts.custody;
        match block_in_place(|| custody.load(storage)) {
            Ok(found) => Some(found),
            Err(error) => {
                tracing::error!(target: "exuvia::router", cause = %chain_text(&error), "the state folder cannot be read; going on from memory");
                None
            }
        }
    }

    fn life(&self) -> Duration {
        let view = self.parts.renewal.view(clock::now());
        let leaves = view.client.into_iter().chain(view.server);
        leaves.map(|leaf| leaf.life()).min().unwrap_or(Duration::from_secs(86_400))
    }

    /// An attempt that began between the keys of an enrollment and its leaves would take its place. Before there are keys the router
    /// goes on as ever: whoever is to issue the leaves may take his time.
    fn must_wait(&self, input: &Input) -> bool {
        match (&self.enrolling, input) {
            (Some(_), Input::RenewAsked(_)) => true,
            (Some(enrolling), Input::Tick | Input::WindowAdvised(_)) => enrolling.has_keys(),
            (Some(_) | None, _) => false,
        }
    }

    /// Is the machine left alone for a while, because the disk failed?
    fn is_paused(&mut self) -> bool {
        let now = clock::now().uptime;
        let is_paused = self.enrolling.is_some() || self.paused_until.is_some_and(|until| now < until);
        if !is_paused {
            self.paused_until = None;
        }
        is_paused
    }

    fn wake_in(&mut self) -> Duration {
        let now = clock::now();
        let wake = self.parts.renewal.wake_in(now).max(LEAST_WAKE);
        if self.enrolling.is_some() {
            return wake.max(LOOK_EVERY);
        }
        match self.paused_until {
            Some(until) if now.uptime < until => wake.max(until.since(now.uptime)),
            Some(_) | None => wake,
        }
    }

    pub(crate) fn parts(&self) -> &Parts {
        &self.parts
    }

    pub(crate) fn peer(&self, controller: &ControllerId) -> Option<&Peer> {
        self.peers.get(controller)
    }

    pub(crate) fn trouble(&self, controller: &ControllerId) -> Option<&str> {
        self.troubles.get(controller).map(String::as_str)
    }

    /// Since when a controller has refused everything that is on the disk.
    pub(crate) fn refused_all_since(&self, controller: &ControllerId) -> Option<UnixTime> {
        self.refusals.all_since(controller, &self.candidates())
    }

    pub(crate) fn candidates(&self) -> Vec<GenerationNumber> {
        self.parts.renewal.manifest().candidates.iter().map(|candidate| candidate.number).collect()
    }

    pub(crate) fn fill_history(&self, view: &mut StatusView) {
        view.last_attempt = self.last_outcome.clone();
        view.renewals = self.renewals;
        view.failed_attempts = self.failed_attempts;
        view.last_proof_ms = self.last_proof_ms;
    }

    fn blocked(&self) -> Option<String> {
        let blocked = self.parts.renewal.view(clock::now()).blocked;
        blocked.map(|blocked| crate::events::blocked_name(blocked).to_owned())
    }

    fn tell(&self, what: EventKind) {
        self.tell_as(&self.parts.renewal, what);
    }

    fn tell_as(&self, machine: &Renewal, what: EventKind) {
        self.parts.metrics.count(&what);
        self.parts.events.tell(EventLine {
            at_ms: clock::wall().as_ms(),
            phase: machine.phase().name().as_str().to_owned(),
            live: machine.live().0,
            what,
        });
    }

    /// Tells everybody who asked how things stand.
    fn show(&self) {
        let status = Arc::new(self.status());
        self.parts.status.send_replace(status);
    }

    /// Looks whether the configured paths hold what they should.
    fn look(&mut self) -> Option<Input> {
        if self.is_paused() {
            return None;
        }
        let Parts { paths, custody, renewal, .. } = &mut self.parts;
        let (manifest, live) = (renewal.manifest(), renewal.live());
        let finding = block_in_place(|| paths.look(custody, manifest, live));
        self.found(finding)
    }

    /// A generation that could not be read at the start may be the only one that is still admitted, and a disk heals: nobody should have to
    /// start the router anew for that. While a controller admits what could be read, nothing is looked for.
    fn read_again(&mut self) {
        let is_up = self.parts.renewal.contacts().values().any(Contact::is_up);
        if is_up || self.is_paused() || self.enrolling.is_some() || self.parts.custody.is_borrowed() {
            return;
        }
        if self.parts.custody.damage().is_empty() {
            return;
        }
        let before = self.parts.custody.at_hand();
        let Some(mut found) = self.reload() else { return };
        // A generation that is damaged for good is left to people; its keys are no attempt of ours.
        if self.parts.custody.at_hand().is_subset(&before) {
            return;
        }
        tracing::warn!(target: "exuvia::router", "the state folder is read better than before; trying what is there now");
        remember_admissions(&mut found.manifest, self.parts.renewal.manifest());
        let now = clock::now();
        if let Some(renewal) = recovery::recover_in_process(now, self.parts.settings.policy, found, &self.parts.renewal)
        {
            self.parts.renewal = renewal;
            self.advance(Input::Started { controllers: self.parts.directory.contacts() });
        }
    }

    /// Whoever asks how things stand is told how they stand now, not a minute ago.
    pub(crate) fn look_at_storage_for_somebody(&mut self) {
        if self.enrolling.is_none()
            && clock::now().uptime.since(self.storage_seen_at) >= MODE_ASKED
            && let Some(input) = self.look_at_storage()
        {
            self.advance(input);
        }
    }

    /// Looks what the storage is good for by now.
    fn look_at_storage(&mut self) -> Option<Input> {
        self.storage_seen_at = clock::now().uptime;
        let cert = self.parts.settings.identity_cert.clone()?;
        let custody = &mut self.parts.custody;
        let mode = block_in_place(|| custody.store_mut().detect_mode(&cert));
        self.parts.metrics.storage(&mode);
        self.parts.mode = mode;
        Some(Input::StorageChanged(storage_of(&self.parts.mode)))
    }
}

/// What a controller has admitted it has admitted, whether the disk takes a note of it or not: a disk that fails for ever must not
/// keep the older leaf in service until its end.
fn remember_admissions(found: &mut Manifest, known: &Manifest) {
    for candidate in &mut found.candidates {
        let known = known.candidate(candidate.number).filter(|known| known.digest == candidate.digest);
        candidate.first_admitted = candidate.first_admitted.or(known.and_then(|known| known.first_admitted));
    }
}

/// What the machine calls a storage mode.
pub(crate) fn storage_of(mode: &StorageMode) -> Storage {
    match mode {
        StorageMode::Writable => Storage::Writable,
        StorageMode::ReadOnly(_) => Storage::ReadOnly,
        StorageMode::Volatile(_) => Storage::Volatile,
        StorageMode::ExternallyManaged { .. } => Storage::ExternallyManaged,
    }
}
