//! How things stand, for people and scripts.

use std::fmt;
use std::time::Duration;

use lifecycle::manifest::Manifest;
use lifecycle::renewal::{Renewal, View};
use lifecycle::{Leaf, Now, UnixTime, recovery};
use serde::{Deserialize, Serialize};
use store::mode::StorageMode;

use crate::clock;
use crate::commit::Custody;
use crate::driver::Driver;
use crate::events::{blocked_name, storage_name};

/// One router at one instant. Instants are milliseconds since the Unix epoch.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StatusView {
    /// When this was said.
    pub at_ms: i64,
    /// The router's id.
    pub router: String,
    /// Does a daemon run? Without one this is what the disk says.
    pub is_running: bool,
    /// The daemon's process id.
    pub pid: Option<u32>,
    /// This program's version.
    pub version: String,
    /// Where the newest attempt stands.
    pub phase: String,
    /// The generation that is served.
    pub generation: u64,
    /// The generation that waits for its proof.
    pub next_generation: Option<u64>,
    /// How many generations a restart could try.
    pub candidates: u64,
    /// How long this router stays admissible if it restarted now, in seconds.
    pub lockout_in_s: u64,
    /// The served client leaf.
    pub client_leaf: Option<LeafView>,
    /// The served server leaf.
    pub server_leaf: Option<LeafView>,
    /// When the next renewal is due.
    pub renew_at_ms: i64,
    /// When the last attempt began.
    pub attempt_began_ms: Option<i64>,
    /// Attempts in a row without an admitted generation.
    pub failures_in_a_row: u32,
    /// How the last attempt of this process ended.
    pub last_attempt: Option<AttemptOutcome>,
    /// Why a due renewal does not begin.
    pub blocked: Option<String>,
    /// What the storage is good for: `writable`, `read_only`, `volatile`, `externally_managed`.
    pub storage: String,
    /// The same as a sentence.
    pub storage_detail: String,
    /// What to do about it.
    pub storage_hint: Option<String>,
    /// The state folder.
    pub state_folder: String,
    /// What is damaged there, in sentences.
    pub damage: Vec<String>,
    /// Which controllers answer and admit nothing that is on this disk, and what to do about it.
    pub locked_out: Option<LockOut>,
    /// Every known controller.
    pub controllers: Vec<ControllerView>,
    /// Renewals of this process that a controller admitted.
    pub renewals: u64,
    /// Attempts, or rounds of one, of this process that failed.
    pub failed_attempts: u64,
    /// When a controller last admitted a new generation in this process.
    pub last_proof_ms: Option<i64>,
}

/// One leaf.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LeafView {
    /// SHA-256 of its DER, in hex.
    pub fingerprint: String,
    /// First instant of its validity.
    pub not_before_ms: i64,
    /// Last instant of its validity.
    pub not_after_ms: i64,
    /// Seconds until then; 0 when it is over.
    pub seconds_left: u64,
}

/// Somebody must act.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LockOut {
    /// What was found, and what may have caused it.
    pub what: String,
    /// What to do.
    pub hint: String,
    /// The client leaves on this disk, newest first, as OpenZiti writes fingerprints: SHA-1, in hex.
    pub fingerprints_sha1: Vec<String>,
}

/// How an attempt ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AttemptOutcome {
    /// The generation that it made or was to make.
    pub generation: u64,
    /// When.
    pub at_ms: i64,
    /// Why it failed; `None` when it did not.
    pub failure: Option<String>,
    /// When the next round follows after that.
    pub retry_in_ms: Option<u64>,
}

/// One controller.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ControllerView {
    /// What events call it.
    pub name: String,
    /// The id that it announced.
    pub id: Option<String>,
    /// Where it listens.
    pub addresses: Vec<String>,
    /// Is there a channel?
    pub is_connected: bool,
    /// The generation that it admitted last, in this process.
    pub admitted_generation: Option<u64>,
    /// Its version.
    pub version: Option<String>,
    /// Does it know Exuvia's abilities?
    pub is_exuvia: bool,
    /// Why the last dial failed or the channel closed.
    pub trouble: Option<String>,
}

impl LeafView {
    fn of(leaf: &Leaf, now: UnixTime) -> Self {
        Self {
            fingerprint: leaf.fingerprint.to_string(),
            not_before_ms: leaf.not_before.as_ms(),
            not_after_ms: leaf.not_after.as_ms(),
            seconds_left: leaf.not_after.since(now).as_secs(),
        }
    }
}

impl StatusView {
    /// What the machine, the store and the storage say.
    pub fn new(renewal: &Renewal, custody: &Custody, mode: &StorageMode, router: &str, now: Now) -> Self {
        let View {
            phase,
            live,
            next,
            candidates,
            client,
            server,
            renew_at,
            attempt,
            lockout_in,
            connected: _,
            controllers: _,
            storage,
            blocked,
        } = renewal.view(now);
        Self {
            at_ms: now.wall.as_ms(),
            router: router.to_owned(),
            is_running: false,
            pid: None,
            version: crate::VERSION.to_owned(),
            phase: phase.as_str().to_owned(),
            generation: live.0,
            next_generation: next.map(|number| number.0),
            candidates: u64::try_from(candidates).unwrap_or(u64::MAX),
            lockout_in_s: lockout_in.as_secs(),
            client_leaf: client.map(|leaf| LeafView::of(&leaf, now.wall)),
            server_leaf: server.map(|leaf| LeafView::of(&leaf, now.wall)),
            renew_at_ms: renew_at.as_ms(),
            attempt_began_ms: attempt.map(|attempt| attempt.began.as_ms()),
            failures_in_a_row: attempt.map_or(0, |attempt| attempt.failures),
            last_attempt: None,
            blocked: blocked.map(|blocked| blocked_name(blocked).to_owned()),
            storage: storage_name(storage).to_owned(),
            storage_detail: mode.to_string(),
            storage_hint: mode.hint().map(str::to_owned),
            state_folder: custody.store().path().display().to_string(),
            damage: custody.damage().to_vec(),
            locked_out: None,
            controllers: Vec::new(),
            renewals: 0,
            failed_attempts: 0,
            last_proof_ms: None,
        }
    }

    /// The first leaf to end, in seconds from now.
    pub fn seconds_left(&self) -> u64 {
        [&self.client_leaf, &self.server_leaf].into_iter().flatten().map(|leaf| leaf.seconds_left).min().unwrap_or(0)
    }

    /// Is there a channel to any controller?
    pub fn is_connected(&self) -> bool {
        self.controllers.iter().any(|controller| controller.is_connected)
    }

    /// Can this router be reached and believed?
    pub fn is_healthy(&self) -> bool {
        self.phase != lifecycle::renewal::PhaseName::Lapsed.as_str() && self.seconds_left() > 0
    }
}

impl Driver {
    pub(super) fn status(&self) -> StatusView {
        let parts = self.parts();
        let router = parts.settings.router.as_str();
        let mut view = StatusView::new(&parts.renewal, &parts.custody, &parts.mode, router, clock::now());
        let contacts = parts.renewal.contacts();
        view.is_running = true;
        view.pid = Some(std::process::id());
        view.controllers = parts
            .directory
            .entries()
            .iter()
            .map(|entry| {
                let contact = contacts.get(&entry.contact);
                let peer = self.peer(&entry.contact);
                ControllerView {
                    name: entry.contact.to_string(),
                    id: entry.id.clone(),
                    addresses: entry.addresses.iter().map(|(address, _)| address.to_string()).collect(),
                    is_connected: contact.is_some_and(lifecycle::renewal::Contact::is_up),
                    admitted_generation: contact.and_then(|c| c.last_admitted).map(|number| number.0),
                    version: peer.and_then(|peer| peer.version.clone()),
                    is_exuvia: peer.is_some_and(|peer| peer.is_exuvia),
                    trouble: self.trouble(&entry.contact).map(str::to_owned),
                }
            })
            .collect();
        self.fill_history(&mut view);
        view.locked_out = self.lock_out();
        if view.locked_out.is_some() && !view.is_connected() {
            view.lockout_in_s = 0;
        }
        view
    }

    /// Controllers that answer, and have refused every candidate for longer than churn lasts.
    pub(crate) fn lock_out(&self) -> Option<LockOut> {
        let parts = self.parts();
        let entries = parts.directory.entries().iter();
        let refusing: Vec<(&lifecycle::ControllerId, UnixTime)> =
            entries.filter_map(|entry| Some((&entry.contact, self.refused_all_since(&entry.contact)?))).collect();
        let since = refusing.iter().map(|(_, since)| *since).min()?;
        let names: Vec<&str> = refusing.iter().map(|(controller, _)| controller.as_str()).collect();
        let candidates = self.candidates();
        let fingerprint = |number: &lifecycle::GenerationNumber| {
            let chain = pki::Chain::from_pem(&parts.custody.whole(*number)?.files.client).ok()?;
            Some(chain.leaf().fingerprint_sha1().to_string())
        };
        let fingerprints_sha1: Vec<String> = candidates.iter().rev().filter_map(fingerprint).collect();
        let router = parts.settings.router.as_str();
        let newest = fingerprints_sha1.first().map_or("SHA1", String::as_str);
        Some(LockOut {
            what: format!(
                "{} answers, and has admitted none of the {} certificates on this disk since {}: it was restored from an older backup, or this \
                 router was deleted, disabled or enrolled anew there",
                names.join(", "),
                candidates.len(),
                clock::spell(since)
            ),
            hint: format!(
                "`exuvia rescue CONFIG --url https://HOST:PORT` finds out what is admitted and mends it; by hand, on an OpenZiti controller, `ziti fabric update router {router} --fingerprint {newest}` admits the newest one again; on an \
                 Exuvia controller, `exuvia fleet readmit {router}`; otherwise enroll it anew with `exuvia router enroll CONFIG --jwt FILE \
                 --force`"
            ),
            fingerprints_sha1,
        })
    }
}

/// What the disk says when no daemon runs. `None` when nothing was ever enrolled there.
///
/// # Errors
/// When the disk cannot be read.
pub fn from_disk(
    custody: &mut Custody,
    mode: &StorageMode,
    router: &str,
    policy: lifecycle::policy::Policy,
) -> Result<Option<StatusView>, store::StoreError> {
    let found = custody.load(crate::driver::storage_of(mode))?;
    let now = clock::now();
    let renewal = recovery::recover(now, policy, found);
    Ok(renewal.map(|renewal| StatusView::new(&renewal, custody, mode, router, now)))
}

/// Is there anything in this manifest that a router could use?
pub(crate) fn is_empty(manifest: &Manifest) -> bool {
    manifest.candidates.is_empty()
}

/// For people: one fact per line, what matters most first.
impl fmt::Display for StatusView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |ms: i64| clock::spell(UnixTime::from_ms(ms));
        let left = |s: u64| spell_duration(Duration::from_secs(s));
        writeln!(f, "lock-out in     {}", left(self.lockout_in_s))?;
        let running = match (self.is_running, self.pid) {
            (true, Some(pid)) => format!("running (pid {pid})"),
            (true, None) => "running".to_owned(),
            (false, _) => "not running; this is what the disk says".to_owned(),
        };
        writeln!(f, "router          {} ({running})", self.router)?;
        writeln!(f, "phase           {}", self.phase)?;
        let next = self.next_generation.map_or(String::new(), |next| format!(", {next} waits for its proof"));
        writeln!(f, "generation      {} of {} candidates{next}", self.generation, self.candidates)?;
        for (name, leaf) in [("client leaf", &self.client_leaf), ("server leaf", &self.server_leaf)] {
            if let Some(leaf) = leaf {
                writeln!(f, "{name:<15} until {} ({} left)", at(leaf.not_after_ms), left(leaf.seconds_left))?;
            }
        }
        let until_renewal = u64::try_from((self.renew_at_ms - self.at_ms) / 1000).unwrap_or(0);
        writeln!(f, "next renewal    {} (in {})", at(self.renew_at_ms), left(until_renewal))?;
        if let Some(blocked) = &self.blocked {
            writeln!(f, "blocked         {blocked}")?;
        }
        match &self.last_attempt {
            Some(AttemptOutcome { generation, at_ms, failure: None, .. }) => {
                writeln!(f, "last attempt    generation {generation} admitted {}", at(*at_ms))?;
            }
            Some(AttemptOutcome { generation, at_ms, failure: Some(failure), .. }) => {
                writeln!(f, "last attempt    generation {generation} failed {}: {failure}", at(*at_ms))?;
            }
            None => {
                if let Some(began) = self.attempt_began_ms {
                    writeln!(f, "last attempt    began {}, {} failures in a row", at(began), self.failures_in_a_row)?;
                }
            }
        }
        writeln!(f, "storage         {} ({})", self.storage_detail, self.state_folder)?;
        if let Some(hint) = &self.storage_hint {
            writeln!(f, "                {hint}")?;
        }
        for damage in &self.damage {
            writeln!(f, "damage          {damage}")?;
        }
        if let Some(LockOut { what, hint, .. }) = &self.locked_out {
            writeln!(f, "LOCKED OUT      {what}")?;
            writeln!(f, "                hint: {hint}")?;
        }
        for controller in &self.controllers {
            let state = match (controller.is_connected, controller.admitted_generation, &controller.trouble) {
                (true, Some(number), _) => format!("connected, admits generation {number}"),
                (true, None, _) => "connected".to_owned(),
                (false, _, Some(trouble)) => format!("not connected: {trouble}"),
                (false, _, None) => "not connected".to_owned(),
            };
            writeln!(f, "controller      {}: {state}", controller.name)?;
        }
        Ok(())
    }
}

/// As people say it: the two largest units.
pub(crate) fn spell_duration(duration: Duration) -> String {
    let s = duration.as_secs();
    let (days, hours, minutes, seconds) = (s / 86_400, s / 3_600 % 24, s / 60 % 60, s % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {seconds} s"),
        (0, _, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}
