//! The controller as a process: from its configuration to listening, and to a quiet end.
//!
//! Start at [`run`]; [`Daemon`] is the same for tests and for whoever has a process already. The order is the point: lock
//! the register, load and try the signer, bind every port, and only then say that it is ready.

mod files;
mod tending;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use config::HostPort;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use lifecycle::issuance::IssuancePolicy;
use net::credentials::CredentialsSlot;
use net::http::{HttpLimits, HttpListener, HttpService};
use net::listen::{Channels, ControlListener, ListenLimits};
use net::stop::Stop;
use net::tls::ClientCertificate;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use store::register::{Register, RegisterError, SqliteRegister};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tower::ServiceExt as _;

use crate::clock::Clock;
use crate::config::{ControllerConfig, IssuingSettings};
use crate::control::{Control, Greeting, GreetingParts, Outage, channel_settings};
use crate::driver::Driver;
use crate::enroll::{Enroller, TokenMint};
use crate::fleet::Events;
use crate::metrics::Metrics;
use crate::web::{self, Readiness, WebParts};

use files::Identity;

/// Time for what is under way when the process ends.
const FAREWELL: Duration = Duration::from_secs(5);

/// Why the controller does not run, sorted by what must be mended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DaemonError {
    /// A file of the configuration.
    #[error("cannot use the {what} `{}`: {why}", path.display())]
    File {
        /// What it is.
        what: &'static str,
        /// Where it is.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Files that are fine one by one and do not belong together.
    #[error("{0}")]
    Identity(String),
    /// The register.
    #[error(transparent)]
    Register(#[from] RegisterError),
    /// A port.
    #[error("cannot listen on `{address}`: {source}{}", if is_in_use(source) { "; another process does, perhaps another controller" } else { "" })]
    Listen {
        /// As configured.
        address: HostPort,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The machine.
    #[error("the process cannot be set up: {0}")]
    Process(String),
}

fn is_in_use(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::AddrInUse
}

/// What a controller with this configuration issues.
pub fn issuance_policy(issuing: &IssuingSettings, token_life: Duration) -> IssuancePolicy {
    IssuancePolicy {
        leaf_life: issuing.leaf_life,
        overlap: issuing.overlap,
        shortest_life: issuing.least_life(),
        token_life,
    }
}

/// A controller that is listening. Dropping it ends its tasks without ceremony; [`Daemon::end`] is the good way.
#[derive(Debug)]
pub struct Daemon {
    control_address: SocketAddr,
    api_addresses: Vec<SocketAddr>,
    control: Control,
    events: Events,
    register: Arc<dyn Register>,
    clock: Clock,
    stop: Stop,
    tasks: JoinSet<()>,
}

/// Opens the register that the configuration names. Blocks: it may check the whole file.
///
/// # Errors
/// As [`SqliteRegister::open`].
pub fn open_register(config: &ControllerConfig, clock: &Clock) -> Result<Arc<dyn Register>, RegisterError> {
    Ok(Arc::new(SqliteRegister::open(&config.db, clock.now().wall)?))
}

/// Runs a controller until SIGTERM or SIGINT, then drains it. `ready` is called once, when every port is open.
///
/// # Errors
/// [`DaemonError`], all of them before `ready`.
pub async fn run(config: &ControllerConfig, ready: impl FnOnce(&Daemon)) -> Result<(), DaemonError> {
    let unable = |error: std::io::Error| DaemonError::Process(format!("signals cannot be received: {error}"));
    raise_open_files();
    // Before anything else, so that a signal during the start ends it in order.
    let mut terminate = signal(SignalKind::terminate()).map_err(unable)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(unable)?;
    let clock = Clock::system();
    let opening = (config.clone(), clock.clone());
    let opened = tokio::task::spawn_blocking(move || open_register(&opening.0, &opening.1)).await;
    let register = opened.map_err(|error| DaemonError::Process(error.to_string()))??;
    let daemon = Daemon::start(config, register, clock).await?;
    ready(&daemon);
    let signal = tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    };
    tracing::info!(signal, "ending");
    daemon.end().await;
    tracing::info!("ended");
    Ok(())
}

/// Takes as many open files as the process may have: each connection is one.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if limit.current != limit.maximum
        && let Err(cause) = setrlimit(Resource::Nofile, raised)
    {
        tracing::warn!(%cause, "the number of open files cannot be raised");
    }
}

impl Daemon {
    /// Starts a controller on a register that is open already.
    ///
    /// # Errors
    /// [`DaemonError`]. Nothing listens then.
    pub async fn start(
        config: &ControllerConfig,
        register: Arc<dyn Register>,
        clock: Clock,
    ) -> Result<Self, DaemonError> {
        let (stop, stopped) = Stop::new();
        let policy = issuance_policy(&config.issuing, config.token_life);
        let Identity { credentials, mint, signer, controller_id } = Identity::load(config, policy, clock.now())?;
        let token_certificate = mint.certificate.clone();
        let slot = CredentialsSlot::new(Arc::new(credentials));
        let (events, metrics, readiness) = (Events::default(), Metrics::default(), Readiness::default());

        let now = clock.now();
        let meta = register.meta().await?;
        if let Some(taken) = meta.restored_from {
            let taken = crate::signer::rfc3339(taken);
            tracing::warn!(
                taken,
                "the register was restored from a backup; leaves issued later are admitted when proved"
            );
        }
        let beat = tending::interval(policy.leaf_life);
        // The heartbeats are that far apart, so the outage may have been shorter by as much.
        let lasted = |before: lifecycle::UnixTime| now.wall.since(before).saturating_sub(beat);
        let outage = meta.last_seen_at.map(|before| Outage { lasted: lasted(before), ended: now.uptime });

        let enroller = Enroller::new(
            Arc::clone(&register),
            signer.clone(),
            clock.clone(),
            events.clone(),
            metrics.clone(),
            TokenMint { ..mint },
        );
        let advertised = config.control.advertise.to_string();
        let greeting = Greeting::new(&GreetingParts {
            controller_id: &controller_id,
            advertised: &advertised,
            // The addresses are read at every start and never change in between.
            addresses_index: u64::try_from(now.wall.max(meta.last_seen_at.unwrap_or_default()).as_s()).unwrap_or(1),
            timeline_id: &meta.instance_id,
            bundle: signer.bundle(),
            token_certificate: &token_certificate,
        });
        let trouble = Arc::new(Notify::new());
        let driver = Driver {
            register: Arc::clone(&register),
            enroller: enroller.clone(),
            clock: clock.clone(),
            events: events.clone(),
            metrics: metrics.clone(),
            was_restored: meta.restored_from.is_some(),
            trouble: Arc::clone(&trouble),
        };
        let channels_max = usize::try_from(config.limits.channels).unwrap_or(usize::MAX);
        let control = Control::new(driver, greeting, meta.campaign, outage, channels_max);
        let service = service(web::app(WebParts {
            register: Arc::clone(&register),
            fleet: Arc::new(control.clone()),
            enroller,
            events: events.clone(),
            metrics,
            readiness: readiness.clone(),
            clock: clock.clone(),
            api_address: config.api_address.to_string(),
            session_idle: config.session_timeout,
            stop: stopped.clone(),
            body_bytes_max: usize::try_from(config.limits.body_bytes).unwrap_or(usize::MAX),
            bodies_bytes_max: usize::try_from(config.limits.bodies_bytes).unwrap_or(usize::MAX),
            enrollment_failures: config.limits.enrollment_failures,
        }));

        let listen = &config.control.listen;
        // Port 0 is a different one every time.
        let is_shared = |interface: &HostPort| interface == listen && listen.port != 0;
        let (control_socket, control_address) = bind(listen).await?;
        let (mut api_addresses, mut web_sockets) = (Vec::new(), Vec::new());
        let mut shared = false;
        for point in config.web.iter().flat_map(|web| &web.bind_points) {
            if is_shared(&point.interface) {
                shared = true;
                api_addresses.push(control_address);
                continue;
            }
            let (socket, address) = bind(&point.interface).await?;
            api_addresses.push(address);
            web_sockets.push(socket);
        }

        let handshakes_max = usize::try_from(config.limits.handshakes).unwrap_or(usize::MAX);
        let each = config.limits.handshake_timeout;
        let connections_max = usize::try_from(config.limits.api_connections).unwrap_or(usize::MAX);
        let http = HttpLimits { handshake: each, handshakes_max, connections_max, ..HttpLimits::default() };
        let listener = ControlListener {
            credentials: Arc::clone(&slot),
            admission: Arc::new(control.clone()),
            channels: Channels::new(),
            settings: channel_settings(),
            limits: ListenLimits { handshakes_max, handshake: each, hello: each, http },
            http: shared.then(|| service.clone()),
        };
        let mut tasks = JoinSet::new();
        let ends = stopped.clone();
        let health = readiness.clone();
        tasks.spawn(async move { noted("control_listener", listener.serve(control_socket, ends).await, &health) });
        for socket in web_sockets {
            let listener = HttpListener {
                credentials: Some(Arc::clone(&slot)),
                clients: ClientCertificate::Asked,
                service: service.clone(),
                limits: http,
            };
            let ends = stopped.clone();
            let health = readiness.clone();
            tasks.spawn(async move { noted("web_listener", listener.serve(socket, ends).await, &health) });
        }
        readiness.works("control_listener");
        let tending = tending::Tending {
            register: Arc::clone(&register),
            signer,
            clock: clock.clone(),
            readiness,
            interval: beat,
            trouble,
        };
        tasks.spawn(tending.run(stopped));
        tracing::info!(controller = controller_id, control = %control_address, api = ?api_addresses, advertised, "ready");
        Ok(Self { control_address, api_addresses, control, events, register, clock, stop, tasks })
    }

    /// Where routers connect; the port is the real one.
    pub fn control_address(&self) -> SocketAddr {
        self.control_address
    }

    /// Where the API is served, one address for each bind point.
    pub fn api_addresses(&self) -> &[SocketAddr] {
        &self.api_addresses
    }

    /// Who is connected.
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// What happens.
    pub fn events(&self) -> &Events {
        &self.events
    }

    /// What is kept.
    pub fn register(&self) -> &Arc<dyn Register> {
        &self.register
    }

    /// Ends in order: no new connections, answers under way are finished, channels are closed, the register is closed.
    pub async fn end(self) {
        let Self { control, register, clock, stop, mut tasks, .. } = self;
        stop.stop();
        let ended = async {
            while tasks.join_next().await.is_some() {}
            control.served(FAREWELL).await;
        };
        if tokio::time::timeout(FAREWELL, ended).await.is_err() {
            tracing::warn!("not everything ended in time");
        }
        tasks.shutdown().await;
        // The next start knows from it how long nobody was here.
        if let Err(error) = register.heartbeat(clock.now().wall).await {
            tracing::warn!(%error, "the time of the end was not kept");
        }
        drop(control);
        // Closing waits for the register's threads.
        let _ = tokio::task::spawn_blocking(move || drop(register)).await;
    }
}

/// A listener ends with the process, or because TLS could not be set up.
fn noted(part: &'static str, ended: Result<(), net::tls::TlsSetupError>, readiness: &Readiness) {
    if let Err(error) = ended {
        tracing::error!(part, %error, "a listener ended");
        readiness.fails(part, error.to_string());
    }
}

async fn bind(address: &HostPort) -> Result<(TcpListener, SocketAddr), DaemonError> {
    let failed = |source| DaemonError::Listen { address: address.clone(), source };
    let socket = net::listen::bind(&address.host, address.port).await.map_err(failed)?;
    let bound = socket.local_addr().map_err(failed)?;
    Ok((socket, bound))
}

/// The REST interfaces, each request in a task of its own: one that has begun runs to its end even if its asker goes away.
/// Otherwise an order to revoke could be durable, and nobody left to close the router's channels.
fn service(app: axum::Router) -> HttpService {
    HttpService::tower(tower::service_fn(move |request: Request<Incoming>| {
        let app = app.clone();
        async move {
            let answered = tokio::spawn(app.oneshot(request.map(Body::new))).await;
            Ok::<Response<Body>, std::convert::Infallible>(match answered {
                Ok(Ok(response)) => response,
                Err(error) => {
                    tracing::error!(%error, "a request was not answered");
                    let mut response = Response::new(Body::empty());
                    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
                    response
                }
            })
        }
    }))
}
