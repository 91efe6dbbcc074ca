//! From the configuration to the running loop, and the ways in which that ends.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ::config::{ConfigErrors, Warnings};
use lifecycle::policy::{Policy, RenewRule};
use lifecycle::renewal::Storage;
use lifecycle::{RouterId, recovery};
use net::connect::ConnectTimeouts;
use net::credentials::CredentialsSlot;
use net::stop::{Stop, StopSignal};
use store::StoreError;
use store::mode::StorageMode;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinSet, block_in_place};
use wire::version::VersionInfo;

use crate::commit::{Custody, chain_text};
use crate::config::{DueRule, EndpointsSource, RenewalSettings, RouterConfig};
use crate::control::{AboutUs, Directory, LineSettings, Lines};
use crate::driver::{Driver, DriverSettings, INCOMING, Parts, storage_of};
use crate::enroll::sans_of;
use crate::events::EventStream;
use crate::metrics::Metrics;
use crate::paths::ConfiguredPaths;
use crate::status::StatusView;
use crate::{admin, clock, place, web};

/// First and longest wait for another process to give up the lock.
const LOCK_WAIT: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));

/// Why the router does not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The configuration cannot be read.
    #[error("cannot read the configuration `{path}`")]
    ReadConfig {
        /// Which file.
        path: String,
        /// What the kernel says.
        #[source]
        source: std::io::Error,
    },
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// There is no identity.
    #[error("this router has no identity yet{}{why}", if .why.is_empty() { "" } else { ": " })]
    NotEnrolled {
        /// What was found at the configured paths.
        why: String,
    },
    /// There is one, and none of it can be used.
    #[error("this router's identity is damaged: {found}")]
    Damaged {
        /// What is damaged.
        found: String,
    },
    /// There may be an identity, and it cannot be looked at.
    #[error("cannot read the identity at `{path}`")]
    Unreadable {
        /// Which file or folder.
        path: String,
        /// What the kernel says.
        #[source]
        source: std::io::Error,
    },
    /// Nowhere to keep anything.
    #[error("`identity.cert` is in no file, and no state folder is configured")]
    NoPlace,
    /// The store.
    #[error("the identity store cannot be used")]
    Store(#[from] StoreError),
    /// Nobody to talk to.
    #[error("no controller is known: neither `ctrl.endpoint` nor the endpoints file names one")]
    NoController,
    /// The endpoints file is there and cannot be read.
    #[error("cannot read the endpoints file `{path}`")]
    Endpoints {
        /// Which file.
        path: String,
        /// What the kernel says.
        #[source]
        source: std::io::Error,
    },
    /// A web listener.
    #[error(transparent)]
    Web(#[from] web::WebError),
}

impl RunError {
    /// What a person can do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::ReadConfig { .. } => "check the path and its permissions",
            Self::Config(_) => "correct the file; `exuvia router run --check` tells all problems at once",
            Self::NotEnrolled { .. } => {
                "create the router on the controller and run `exuvia router enroll CONFIG --jwt FILE`"
            }
            Self::Damaged { .. } => {
                "restore the state folder from a backup; otherwise make a new token on the controller (re-enroll) and enroll with it"
            }
            Self::Unreadable { .. } => {
                "run the command as the user to whom the identity belongs, or give its files and folders to this user"
            }
            Self::NoPlace => "put the identity into files, or name a folder: `exuvia: {state: DIR}`",
            Self::Store(error) => error.hint(),
            Self::NoController => "write `ctrl: {endpoint: \"tls:HOST:PORT\"}`",
            Self::Endpoints { .. } => "check its permissions",
            Self::Web(error) => error.hint(),
        }
    }

    /// Is it the fault of the configuration file?
    pub fn is_config(&self) -> bool {
        matches!(self, Self::ReadConfig { .. } | Self::Config(_) | Self::NoController | Self::NoPlace)
    }
}

/// Reads `router.yml`.
///
/// # Errors
/// [`RunError::ReadConfig`], [`RunError::Config`].
pub fn load_config(path: &Path) -> Result<(RouterConfig, Warnings), RunError> {
    let shown = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|source| RunError::ReadConfig { path: shown.clone(), source })?;
    Ok(RouterConfig::load(&text, &shown, &|name| std::env::var(name).ok())?)
}

/// When to renew, as the machine wants to know it.
pub fn policy_of(settings: &RenewalSettings) -> Policy {
    let renew = match settings.due {
        DueRule::LifeShare { permille } => RenewRule::Fraction {
            percent: u8::try_from(permille / 10).unwrap_or(67),
            jitter_percent: settings.jitter_percent,
        },
        DueRule::BeforeExpiry(before) => RenewRule::Before(before),
    };
    Policy {
        renew,
        spacing: settings.spacing.limit,
        backoff_min: settings.backoff_min,
        backoff_max: settings.backoff_max,
        attempt_deadline: settings.attempt_deadline,
        drain: settings.drain.limit,
        ..Policy::default()
    }
}

/// Where the admin socket of this router may be.
pub fn admin_paths(config: &RouterConfig) -> Vec<PathBuf> {
    let folder = place::router_id(config).and_then(|router| place::folder_of(config, &router));
    folder.map_or_else(Vec::new, |folder| admin::socket_paths(config.admin_socket.as_deref(), &folder))
}

/// What the disk says when no daemon runs.
///
/// # Errors
/// [`RunError::NotEnrolled`], or the store's; [`StoreError::Busy`] means that a daemon does run.
pub fn status_from_disk(config: &RouterConfig) -> Result<StatusView, RunError> {
    let router = place::router_id(config).ok_or_else(|| no_identity(config))?;
    let folder = place::folder_of(config, &router).ok_or(RunError::NoPlace)?;
    let is_there = folder.try_exists();
    if !is_there.map_err(|source| RunError::Unreadable { path: folder.display().to_string(), source })? {
        return Err(RunError::NotEnrolled { why: format!("there is no state folder `{}`", folder.display()) });
    }
    let (mut custody, _) = place::open(config, &folder)?;
    let mode = detect(&mut custody, config);
    let policy = policy_of(&config.renewal);
    let status = crate::status::from_disk(&mut custody, &mode, router.as_str(), policy)?;
    let mut status = status.ok_or_else(|| nothing_usable(&custody, String::new()))?;
    if let Ok((directory, _)) = Directory::open(&config.control.endpoints_file, &config.control.endpoints) {
        status.controllers = directory
            .entries()
            .iter()
            .map(|entry| crate::status::ControllerView {
                name: entry.contact.to_string(),
                id: entry.id.clone(),
                addresses: entry.addresses.iter().map(|(address, _)| address.to_string()).collect(),
                ..Default::default()
            })
            .collect();
    }
    Ok(status)
}

pub(crate) fn detect(custody: &mut Custody, config: &RouterConfig) -> StorageMode {
    let folder = custody.store().path().to_owned();
    let beside = place::identity_cert(config).map_or_else(|| folder.join("manifest"), Path::to_owned);
    custody.store_mut().detect_mode(&beside)
}

/// Everything is bound and read; nothing was sent yet.
#[derive(Debug)]
pub struct Ready {
    driver: Driver,
    incoming: mpsc::Receiver<crate::driver::Incoming>,
    web: Vec<web::Bound>,
    sources: web::Sources,
    slot: Arc<CredentialsSlot>,
    admin: Option<(tokio::net::UnixListener, PathBuf)>,
    sender: mpsc::Sender<crate::driver::Incoming>,
    events: EventStream,
}

/// Lock, recover, bind. `None` when the end came while waiting for the lock.
///
/// # Errors
/// [`RunError`].
pub async fn prepare(
    config: RouterConfig,
    renew_at_start: bool,
    mut stopped: StopSignal,
) -> Result<Option<Ready>, RunError> {
    let router = place::router_id(&config).ok_or_else(|| no_identity(&config))?;
    let folder = place::folder_of(&config, &router).ok_or(RunError::NoPlace)?;
    let Some(mut custody) = lock(&config, &folder, &mut stopped).await? else { return Ok(None) };
    let (renewal, mode, paths) = block_in_place(|| recover(&config, &mut custody, &router))?;
    let (directory, source) = Directory::open(&config.control.endpoints_file, &config.control.endpoints)
        .map_err(|source| RunError::Endpoints { path: config.control.endpoints_file.display().to_string(), source })?;
    if let EndpointsSource::ConfiguredInsteadOf(damage) = &source {
        tracing::warn!(target: "exuvia::router", file = %config.control.endpoints_file.display(), "the endpoints file is of no use: {damage}; using the configured addresses");
    }
    if directory.entries().is_empty() {
        return Err(RunError::NoController);
    }
    let web = web::bind(&config.web).await?;
    let slot = CredentialsSlot::empty();
    if let Some(whole) = custody.whole(renewal.live()) {
        slot.publish(whole.credentials.clone());
    }
    let policy = policy_of(&config.renewal);
    let life = renewal.view(clock::now()).client.map_or(Duration::from_secs(86_400), |leaf| leaf.life());
    let (sender, incoming) = mpsc::channel(INCOMING);
    let lines = Lines::new(line_settings(&config, &router, life), sender.clone());
    let events = EventStream::default();
    let metrics = Arc::new(Metrics::new());
    metrics.storage(&mode);
    let first = StatusView::new(&renewal, &custody, &mode, router.as_str(), clock::now());
    let (status, watched) = watch::channel(Arc::new(first));
    let admin = match admin::bind(&admin::socket_paths(config.admin_socket.as_deref(), &folder)) {
        Ok(bound) => Some(bound),
        Err(cause) => {
            tracing::warn!(target: "exuvia::router", %cause, "no admin socket: `status`, `renew` and hand-over do not work");
            None
        }
    };
    let settings = DriverSettings {
        policy,
        router,
        kind: config.kind,
        sans: sans_of(&config.csr),
        csr: config.csr.clone(),
        allow_unverified: config.renewal.allow_unverified,
        identity_cert: place::identity_cert(&config).map(Path::to_owned),
        data_model_cache: config.data_model_cache.clone(),
        renew_at_start,
        startup_timeout: config.control.startup_timeout,
    };
    if config.control.bind.is_some() {
        tracing::warn!(target: "exuvia::router", "`ctrl.bind` is not used yet: the system chooses from where to dial");
    }
    let sources = web::Sources { status: watched, metrics: metrics.clone() };
    let driver = Driver::new(Parts {
        settings,
        renewal,
        custody,
        mode,
        directory,
        lines,
        slot: slot.clone(),
        paths,
        events: events.clone(),
        metrics,
        status,
        sender: sender.clone(),
    });
    Ok(Some(Ready { driver, incoming, web, sources, slot, admin, sender, events }))
}

impl Ready {
    /// Where the web listeners listen.
    pub fn web_addresses(&self) -> Vec<std::net::SocketAddr> {
        self.web.iter().map(|bound| bound.address).collect()
    }

    /// Everything that will happen.
    pub fn events(&self) -> EventStream {
        self.events.clone()
    }

    /// Where the admin socket is.
    pub fn admin_path(&self) -> Option<&Path> {
        self.admin.as_ref().map(|(_, path)| path.as_path())
    }

    /// Where the loop is asked for something.
    pub(crate) fn sender(&self) -> mpsc::Sender<crate::driver::Incoming> {
        self.sender.clone()
    }

    /// How things stand, as often as they change.
    pub fn status(&self) -> watch::Receiver<Arc<StatusView>> {
        self.sources.status.clone()
    }

    /// Serves until told to stop.
    pub async fn serve(self, stopped: StopSignal) {
        let Self { driver, incoming, web, sources, slot, admin, sender, events } = self;
        // The admin socket may end the process too.
        let (own_stop, own_stopped) = Stop::new();
        let mut tasks = JoinSet::new();
        for bound in web {
            tasks.spawn(web::serve(bound, slot.clone(), sources.clone(), own_stopped.clone()));
        }
        let own_stop = Arc::new(own_stop);
        // The admin socket goes last: it tells of the end.
        let (last_stop, last_stopped) = Stop::new();
        let relay = own_stop.clone();
        let mut outer = stopped;
        let relaying = tokio::spawn(async move {
            outer.stopped().await;
            relay.stop();
        });
        let socket = admin.map(|(listener, path)| {
            tasks.spawn(admin::serve(listener, sender, events, own_stop.clone(), last_stopped));
            path
        });
        driver.run(incoming, own_stopped).await;
        // The driver ends only when the end has come; the others see the same signal.
        own_stop.stop();
        last_stop.stop();
        relaying.abort();
        while tasks.join_next().await.is_some() {}
        if let Some(path) = socket {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Why nobody knows which router this is.
fn no_identity(config: &RouterConfig) -> RunError {
    if let Some((path, source)) = place::unreadable(config) {
        return RunError::Unreadable { path: path.display().to_string(), source };
    }
    let why = match place::identity_cert(config) {
        Some(path) if !path.exists() => format!("there is no file `{}`", path.display()),
        Some(path) => format!("`{}` holds no certificate with a router's id", path.display()),
        None => String::new(),
    };
    RunError::NotEnrolled { why }
}

/// Takes the lock, waiting for another process as long as it takes.
async fn lock(config: &RouterConfig, folder: &Path, stopped: &mut StopSignal) -> Result<Option<Custody>, RunError> {
    let mut wait = LOCK_WAIT.0;
    loop {
        match block_in_place(|| place::open(config, folder)) {
            Ok((custody, notices)) => {
                for notice in &notices {
                    tracing::warn!(target: "exuvia::router", "{}", place::spell_notice(notice));
                }
                return Ok(Some(custody));
            }
            Err(error @ StoreError::Busy { .. }) => {
                if wait == LOCK_WAIT.0 {
                    tracing::warn!(target: "exuvia::router", "{error}; waiting for it to end");
                }
                tokio::select! {
                    () = stopped.stopped() => return Ok(None),
                    () = tokio::time::sleep(wait) => wait = (wait * 2).min(LOCK_WAIT.1),
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Reads the disk and builds the machine; adopts what lies at the configured paths when the store is empty.
fn recover(
    config: &RouterConfig,
    custody: &mut Custody,
    router: &RouterId,
) -> Result<(lifecycle::renewal::Renewal, StorageMode, ConfiguredPaths), RunError> {
    let mut found = custody.load(Storage::Writable)?;
    let mode = detect(custody, config);
    // A newer format is served read-only whatever the disk would take.
    if found.storage == Storage::Writable {
        found.storage = storage_of(&mode);
    }
    let is_managed = matches!(mode, StorageMode::ExternallyManaged { .. });
    let paths = ConfiguredPaths::new(&config.identity, place::is_projected(config), is_managed);
    if crate::status::is_empty(&found.manifest) {
        let files = paths.read(custody).map_err(|why| nothing_usable(custody, why))?;
        let manifest = custody.borrow_identity(files).map_err(|error| nothing_usable(custody, chain_text(&error)))?;
        found.manifest = manifest;
        found.prepared = None;
        match custody.adopt() {
            Ok(()) => tracing::info!(target: "exuvia::router", %router, "adopted the identity at the configured paths"),
            Err(error) => {
                tracing::warn!(target: "exuvia::router", cause = %chain_text(&error), "serving the identity at the configured paths; it cannot be stored: {}", error.hint());
            }
        }
    } else {
        if let Err(error) = custody.store_mut().sweep() {
            tracing::debug!(cause = %chain_text(&error), "leftovers stay");
        }
        paths.sweep(custody);
        if found.storage != Storage::ReadOnly
            && let Err(error) = custody.make_durable()
        {
            tracing::warn!(target: "exuvia::router", cause = %chain_text(&error), "what was found cannot be written once more; going on with it: {}", error.hint());
        }
    }
    for damage in custody.damage() {
        tracing::error!(target: "exuvia::router", "damaged: {damage}");
    }
    if let Some(hint) = mode.hint() {
        tracing::warn!(target: "exuvia::router", "storage is {mode}: no renewal; {hint}");
    }
    let renewal = recovery::recover(clock::now(), policy_of(&config.renewal), found);
    let renewal = renewal.ok_or_else(|| nothing_usable(custody, String::new()))?;
    Ok((renewal, mode, paths))
}

/// Damaged and absent are different answers. `why` = what is wrong at the configured paths.
fn nothing_usable(custody: &Custody, why: String) -> RunError {
    match custody.damage() {
        [] => RunError::NotEnrolled { why },
        damage => RunError::Damaged { found: damage.join("; ") },
    }
}

fn line_settings(config: &RouterConfig, router: &RouterId, life: Duration) -> LineSettings {
    let control = &config.control;
    // A leaf that lives for a minute cannot wait half of it for a dead connection.
    let share = |part: u32| (life / part).max(Duration::from_millis(500));
    let each = control.connect_timeout.min(share(8));
    let unresponsive_after = control.unresponsive_after.min(share(6));
    let uname = rustix::system::uname();
    LineSettings {
        router: router.clone(),
        version: VersionInfo {
            version: format!("v{}", crate::ZITI_VERSION),
            revision: format!("exuvia-{}", crate::VERSION),
            build_date: "2026-01-01T00:00:00Z".to_owned(),
            os: std::env::consts::OS.to_owned(),
            arch: match std::env::consts::ARCH {
                "x86_64" => "amd64",
                "aarch64" => "arm64",
                other => other,
            }
            .to_owned(),
        },
        about: AboutUs {
            version: format!("v{}", crate::ZITI_VERSION),
            hostname: uname.nodename().to_string_lossy().into_owned(),
        },
        timeouts: ConnectTimeouts { connect: each, handshake: each, answer: each },
        answer_within: config.renewal.attempt_deadline.min(share(8)),
        heartbeat_interval: control.heartbeat_interval.min(unresponsive_after / 3),
        unresponsive_after,
    }
}
