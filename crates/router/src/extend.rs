//! `exuvia extend`: one safe renewal of a router's identity files, then the end.
//!
//! For routers of OpenZiti, which read the configured files and renew them unsafely: run it before they start, or from a timer. It is the
//! daemon's own loop with three differences: nothing listens, the key is kept unless asked otherwise, and it ends as soon as the newest
//! identity was admitted *and* lies whole at the configured paths.
//!
//! A run that is cut off anywhere harms nothing that the next run does not mend: the new generation is in the state folder before the
//! controller may forget the old one, so the next run proves it and copies it out.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lifecycle::GenerationNumber;
use net::stop::{Stop, StopSignal};
use store::disk::RealDisk;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout, timeout_at};

use crate::admin::{Answer, Ask, Command};
use crate::config::{IdentitySource, Projection, Rekey, RouterConfig};
use crate::doctor::read_served;
use crate::driver::Incoming;
use crate::paths::ConfiguredPaths;
use crate::run::{self, RunError};
use crate::status::{AttemptOutcome, ControllerView, StatusView};

/// How often the configured files are compared while something is awaited.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Longest pause after a failure: somebody waits for this command, and a controller that refuses a second channel does so for a minute.
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// How much longer an attempt may take whose leaf the controller may know already. OpenZiti's may then know no other one, and where no
/// further underlay can join a channel (1.6) the proof waits until the channel is older than the churn limit of a minute.
pub(crate) const UNFINISHED: Duration = Duration::from_secs(120);
/// What an answer of the loop may take.
const ANSWER: Duration = Duration::from_secs(10);

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    /// Renew only when it is due by the configuration; otherwise only finish what an earlier run left.
    pub is_only_if_due: bool,
    /// Renew even if the last attempt was less than the minimum spacing ago.
    pub is_regardless: bool,
    /// Make a new key. A Go router that starts between the replacement of the key and that of the certificates loads a pair that no
    /// peer believes, until it is started again.
    pub is_new_key: bool,
    /// The longest time for all of it.
    pub within: Duration,
}

/// What came of it. The configured files hold the newest admitted identity in every case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Extended {
    /// A controller admitted a new leaf.
    Renewed {
        /// Which generation.
        generation: u64,
        /// Who admitted it.
        controller: String,
    },
    /// Nothing was due; the configured files were not what they should be, and are now.
    Mended {
        /// Which generation they hold.
        generation: u64,
    },
    /// Nothing was due, and nothing was sent.
    NotDue {
        /// When it will be: milliseconds since the Unix epoch.
        renew_at_ms: i64,
    },
    /// The last attempt was too short a time ago.
    TooSoon {
        /// How long to wait.
        wait: Duration,
    },
}

/// Why the identity is not renewed. The configured files hold what they held, unless it says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum ExtendError {
    /// There is nothing to work with.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A part of the identity is in no file.
    #[error("`{key}` cannot be renewed where it is: {why}")]
    NotInFiles {
        /// The key of router.yml.
        key: String,
        /// Why.
        why: String,
    },
    /// The files could not be replaced afterwards, so nothing is begun.
    #[error("the identity files could not be replaced after a renewal, so none was begun: {0}")]
    Rehearsal(String),
    /// Nothing may begin.
    #[error("no renewal can begin: {reason}")]
    Blocked {
        /// Why, as the machine says it.
        reason: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// Time is over before a controller admitted anything newer.
    #[error("no new leaf was admitted within {}: {trouble}", crate::status::spell_duration(*.within))]
    NotProven {
        /// How long it was tried.
        within: Duration,
        /// The last thing that went wrong.
        trouble: String,
    },
    /// It was admitted, and the files still hold something else.
    #[error("generation {generation} was admitted, and could not be copied to the configured files")]
    NotCopied {
        /// Which generation.
        generation: u64,
    },
    /// Told to stop.
    #[error("stopped before the renewal was done")]
    Stopped,
}

impl ExtendError {
    /// What a person can do about it.
    pub fn hint(&self) -> &str {
        match self {
            Self::Run(error) => error.hint(),
            Self::NotInFiles { .. } => "put every part of `identity` into a file of its own",
            Self::Rehearsal(_) => "let this user replace the files, and run the command again",
            Self::Blocked { hint, .. } => hint.as_deref().unwrap_or("see `exuvia doctor CONFIG`"),
            Self::NotProven { .. } | Self::Stopped => {
                "run the command again before the router starts: it goes on where it was. See `exuvia doctor CONFIG`"
            }
            Self::NotCopied { .. } => {
                "a router that starts with the old files may be refused: make the files writable and run the command again first"
            }
        }
    }
}

/// Renews the identity at the configured paths, if it is to be renewed, and ends.
///
/// # Errors
/// [`ExtendError`]. [`RunError::Store`] with [`store::StoreError::Busy`] means that a daemon of ours runs: ask that one.
pub async fn extend(mut config: RouterConfig, wish: &Wish, stopped: StopSignal) -> Result<Extended, ExtendError> {
    let until = Instant::now() + wish.within;
    if let Some((key, why)) = config.identity.obstacle() {
        return Err(ExtendError::NotInFiles { key: key.to_owned(), why: why.to_string() });
    }
    hurry(&mut config);
    config.renewal.projection = Projection::On;
    config.renewal.rekey = if wish.is_new_key { Rekey::Always } else { Rekey::Never };
    let config = config;
    if let Some(trouble) = tokio::task::block_in_place(|| irreplaceable(&config)) {
        return Err(ExtendError::Rehearsal(trouble));
    }
    let mut errand = Errand {
        wish,
        config: &config,
        newest: None,
        asked: None,
        again_at: None,
        longer: Duration::ZERO,
        trouble: None,
    };
    match tokio::task::block_in_place(|| run::status_from_disk(&config)) {
        Ok(status) if errand.has_nothing_to_do(&status) => {
            return Ok(Extended::NotDue { renew_at_ms: status.renew_at_ms });
        }
        // An identity that was never in a store is no failure, and the loop tells the rest better.
        Ok(_) | Err(_) => {}
    }
    // One signal for the loop: the end from outside, or ours.
    let (stop, own) = Stop::new();
    let relay = relay(stopped.clone(), stop.clone());
    let ready = timeout_at(until, run::prepare(config.clone(), false, own.clone())).await;
    let ready = match ready {
        Ok(ready) => ready?.ok_or(ExtendError::Stopped)?,
        // Waiting for the lock took all the time that there was.
        Err(_) => return Err(errand.too_late()),
    };
    let (mut status, sender) = (ready.status(), ready.sender());
    let serving = tokio::spawn(ready.serve(own));
    let outcome = errand.go(until, &mut status, &sender, &stopped).await;
    stop.stop();
    relay.abort();
    // The end of the loop closes the channels and gives the lock back.
    let _ = serving.await;
    outcome
}

/// Makes the loop one that somebody waits for: nothing listens, and no pause is long.
pub(crate) fn hurry(config: &mut RouterConfig) {
    config.web.clear();
    config.renewal.backoff_max = config.renewal.backoff_max.min(BACKOFF_MAX);
    config.renewal.backoff_min = config.renewal.backoff_min.min(BACKOFF_MAX);
}

pub(crate) fn relay(mut outer: StopSignal, stop: Stop) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        outer.stopped().await;
        stop.stop();
    })
}

/// What is known about one run.
struct Errand<'a> {
    wish: &'a Wish,
    config: &'a RouterConfig,
    /// The generation that was proven in this run.
    newest: Option<u64>,
    /// The generation of the attempt that we asked for last.
    asked: Option<u64>,
    /// It failed, and the next one may begin then.
    again_at: Option<Instant>,
    /// What is begun is finished: a router that starts with the old files in between may be refused.
    longer: Duration,
    trouble: Option<String>,
}

impl Errand<'_> {
    fn has_nothing_to_do(&self, status: &StatusView) -> bool {
        self.wish.is_only_if_due && !is_due(status) && status.next_generation.is_none() && self.holds(status)
    }

    /// Do the configured files hold the served generation, whole?
    fn holds(&self, status: &StatusView) -> bool {
        tokio::task::block_in_place(|| {
            let served = read_served(Path::new(&status.state_folder), GenerationNumber(status.generation));
            let paths = ConfiguredPaths::new(&self.config.identity, true, false);
            served.is_some_and(|whole| paths.hold(&mut RealDisk, &whole.files))
        })
    }

    async fn go(
        &mut self,
        until: Instant,
        status: &mut watch::Receiver<Arc<StatusView>>,
        sender: &mpsc::Sender<Incoming>,
        stopped: &StopSignal,
    ) -> Result<Extended, ExtendError> {
        loop {
            let now = status.borrow_and_update().clone();
            self.learn(&now);
            if let Some(done) = self.next(&now, sender).await? {
                return Ok(done);
            }
            if stopped.is_stopped() {
                return Err(ExtendError::Stopped);
            }
            if Instant::now() >= until + self.longer {
                return Err(self.too_late());
            }
            if let Ok(Err(_)) = timeout(LOOK_EVERY, status.changed()).await {
                return Err(ExtendError::Stopped);
            }
        }
    }

    /// Takes from one picture what belongs together.
    fn learn(&mut self, now: &StatusView) {
        if now.next_generation.is_some() {
            self.longer = UNFINISHED;
        }
        if now.renewals > 0 {
            self.newest = Some(now.generation);
        }
        if let Some(AttemptOutcome { generation, failure: Some(failure), retry_in_ms, .. }) = &now.last_attempt
            && self.asked.is_some_and(|asked| *generation >= asked)
            && self.again_at.is_none()
        {
            self.trouble = Some(format!("generation {generation}: {failure}"));
            self.again_at = Some(Instant::now() + Duration::from_millis(retry_in_ms.unwrap_or(0)));
        }
        let of_controllers = now.controllers.iter().find_map(|controller| {
            controller.trouble.as_ref().map(|trouble| format!("{}: {trouble}", controller.name))
        });
        if of_controllers.is_some() {
            self.trouble = of_controllers;
        }
    }

    /// Asks for a renewal once nothing else is open; tells when all is done.
    async fn next(
        &mut self,
        now: &StatusView,
        sender: &mpsc::Sender<Incoming>,
    ) -> Result<Option<Extended>, ExtendError> {
        // An earlier run's generation comes first: whether it is admitted decides what the files must hold. If it is, it is as good as
        // another one.
        if now.next_generation.is_some() {
            return Ok(None);
        }
        let is_wanted = self.asked.is_some() || !self.wish.is_only_if_due || is_due(now);
        let may_ask = self.asked.is_none() || self.again_at.is_some_and(|at| at <= Instant::now());
        if is_wanted && self.newest.is_none() {
            return if may_ask { self.ask(now, sender).await } else { Ok(None) };
        }
        if !self.holds(now) {
            return Ok(None);
        }
        Ok(Some(match self.newest {
            Some(generation) => Extended::Renewed { generation, controller: admitting(now, generation) },
            None => Extended::Mended { generation: now.generation },
        }))
    }

    async fn ask(
        &mut self,
        now: &StatusView,
        sender: &mpsc::Sender<Incoming>,
    ) -> Result<Option<Extended>, ExtendError> {
        // The spacing is between runs of this command, not between the tries of one.
        let is_regardless = self.wish.is_regardless || self.asked.is_some();
        let command = if is_regardless { Command::Renew } else { Command::RenewUnlessRecent };
        match ask(sender, command).await? {
            Answer::Began { generation } => {
                self.asked = Some(generation);
                self.again_at = None;
            }
            Answer::NotBegun { blocked: Some(reason), .. } => {
                return Err(ExtendError::Blocked { reason, hint: now.storage_hint.clone() });
            }
            Answer::Failed { error, hint } => {
                return Err(ExtendError::Blocked { reason: error, hint: Some(hint) });
            }
            Answer::Deferred { wait_ms } if self.holds(now) => {
                return Ok(Some(Extended::TooSoon { wait: Duration::from_millis(wait_ms) }));
            }
            // Something else comes first: look again.
            Answer::Deferred { .. } | Answer::NotBegun { blocked: None, .. } | Answer::Done | Answer::Status(_) => {}
        }
        Ok(None)
    }

    fn too_late(&self) -> ExtendError {
        match self.newest {
            Some(generation) => ExtendError::NotCopied { generation },
            None => ExtendError::NotProven {
                within: self.wish.within,
                trouble: self.trouble.clone().unwrap_or_else(|| "no answer".to_owned()),
            },
        }
    }
}

/// Why a configured file could not be replaced: neither itself nor, where that is enough, its folder can be written.
fn irreplaceable(config: &RouterConfig) -> Option<String> {
    let identity = &config.identity;
    let sources =
        [Some(&identity.cert), Some(&identity.server_cert), Some(&identity.key), identity.server_key.as_ref()];
    let paths = sources.into_iter().flatten().filter_map(|source| match source {
        IdentitySource::Path(path) => Some(path.as_path()),
        IdentitySource::Inline(_) | IdentitySource::Engine { .. } => None,
    });
    for path in paths {
        let Err(error) = std::fs::OpenOptions::new().write(true).open(path) else { continue };
        let may_be_replaced = matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::NotFound);
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let is_folder_writable = rustix::fs::access(folder, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK);
        if !may_be_replaced || is_folder_writable.is_err() {
            return Some(format!("cannot write `{}`: {error}", path.display()));
        }
    }
    None
}

/// Who admits it, by name.
pub(crate) fn admitting(status: &StatusView, generation: u64) -> String {
    let admits = |controller: &&ControllerView| controller.admitted_generation == Some(generation);
    status.controllers.iter().find(admits).map_or_else(String::new, |controller| controller.name.clone())
}

fn is_due(status: &StatusView) -> bool {
    status.renew_at_ms <= status.at_ms
}

pub(crate) async fn ask(sender: &mpsc::Sender<Incoming>, command: Command) -> Result<Answer, ExtendError> {
    let (reply, answer) = oneshot::channel();
    sender.send(Incoming::Admin(Ask { command, reply })).await.map_err(|_| ExtendError::Stopped)?;
    timeout(ANSWER, answer).await.ok().and_then(Result::ok).ok_or(ExtendError::Stopped)
}

/// Another process that runs a router with this configuration: its id. Sees only processes of this machine and this container, and only
/// where `/proc` tells.
pub fn other_router(config: &Path) -> Option<u32> {
    let wanted = std::fs::canonicalize(config).ok()?;
    let processes = std::fs::read_dir("/proc").ok()?;
    processes.filter_map(Result::ok).find_map(|process| {
        let pid: u32 = process.file_name().to_str()?.parse().ok()?;
        let line = std::fs::read(process.path().join("cmdline")).ok()?;
        let words: Vec<&str> =
            line.split(|byte| *byte == 0).filter_map(|word| std::str::from_utf8(word).ok()).collect();
        // `ziti router run CONFIG`, whatever the program's file is called.
        let is_router = words.windows(2).any(|pair| pair == ["router", "run"]);
        let folder = std::fs::read_link(process.path().join("cwd")).unwrap_or_else(|_| PathBuf::from("/"));
        let is_this = |word: &&str| std::fs::canonicalize(folder.join(word)).is_ok_and(|path| path == wanted);
        (is_router && words.iter().any(is_this)).then_some(pid)
    })
}
