//! Everything that has to stand before there is anything to see: the controller, the proxy, and routers that are enrolled.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use net::stop::StopSignal;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::controller_api::{ApiFailure, ControllerApi};
use super::faults::{self, Field, Unit};
use super::home::{ControllerHome, Home, HomeError, RouterHome};
use super::load::{Load, LoadError, Probe, Target};
use super::processes::{Exit, Nursery, Process, last_lines};
use super::proxy::{Path as Way, Proxy};
use super::screen::Screen;
use super::tally::Tally;
use super::watch::lockout::{Lockout, Subject};
use super::watch::{self, Watched};

/// How long the controller may take until it is ready.
const CONTROLLER_READY: Duration = Duration::from_secs(20);
/// How long a router may take until it is connected.
const ROUTER_CONNECTED: Duration = Duration::from_secs(30);
/// Part of a leaf's life that the proxy adds to every answer while faults strike, as a network would: without any delay a
/// renewal is over before it can be aimed at.
const LATENCY_SHARE: u32 = 250;
const LATENCY_MAX: Duration = Duration::from_millis(60);

/// Why the stage does not stand.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StageError {
    /// Folders, PKI, configuration.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The machine.
    #[error("cannot {doing}")]
    Machine {
        /// What was tried.
        doing: &'static str,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The controller's API.
    #[error("the controller cannot be used")]
    Api(#[from] ApiFailure),
    /// TLS.
    #[error(transparent)]
    Tls(#[from] net::tls::TlsSetupError),
    /// The load.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A process did not do what it should.
    #[error("{what}; it said:\n{said}")]
    Process {
        /// What did not happen.
        what: String,
        /// The end of its log.
        said: String,
    },
    /// Ctrl-C before there was anything to end.
    #[error("interrupted before everything was up")]
    Interrupted,
}

impl StageError {
    /// What a person can do about it.
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::Home(error) => error.hint(),
            Self::Machine { .. } => "check the limits on processes and open files",
            Self::Api(_) | Self::Process { .. } => "the folder is kept: look into `logs`",
            Self::Tls(_) | Self::Load(_) => "this is a defect of this program; please report it",
            Self::Interrupted => "run it again",
        }
    }
}

pub(crate) fn machine(doing: &'static str) -> impl Fn(std::io::Error) -> StageError {
    move |source| StageError::Machine { doing, source }
}

/// All processes and everybody who watches them.
#[derive(Debug)]
pub(crate) struct Cast {
    pub(crate) field: Arc<Field>,
    load: Arc<Load>,
    targets: Vec<Target>,
    /// What follows the routers; ends with the cast.
    _following: JoinSet<()>,
}

/// Brings everything up to the point where routers have been started.
pub(crate) async fn raise(
    home: &Home,
    nursery: &Nursery,
    routers: usize,
    leaf_life: Duration,
    has_faults: bool,
    screen: Arc<Screen>,
    stopped: &StopSignal,
) -> Result<Cast, StageError> {
    let proxy = Proxy::bind().await.map_err(machine("listen on a port"))?;
    let proxy_port = proxy.port();
    let controller_home = home.make_controller(leaf_life, proxy_port).await?;
    let shown = |path: &Path| path.display().to_string();
    let config = shown(&controller_home.config);
    let controller = nursery.process("controller", &["controller", "run", &config], home.log("controller"));
    controller.start().await.map_err(machine("start the controller"))?;
    greet(home, &controller_home, leaf_life, routers, &screen);

    let names: Vec<String> = (1..=routers).map(|number| format!("r{number}")).collect();
    let tally = Arc::new(Tally::new(names.clone()));
    let paths: Arc<[Way]> = names.iter().map(|_| Way::default()).collect();
    let latency = if has_faults { (leaf_life / LATENCY_SHARE).min(LATENCY_MAX) } else { Duration::ZERO };
    let mut following = JoinSet::new();
    let control = (std::net::Ipv4Addr::LOCALHOST, controller_home.control_port).into();
    following.spawn(proxy.run(control, paths.clone(), latency));

    let ControllerHome { api_port, bundle, signer, user, password, .. } = controller_home;
    let controller_probe = Probe::new(&bundle, api_port, "/readyz")?;
    if timeout(CONTROLLER_READY, controller_probe.until_ready()).await.is_err() {
        return Err(silent(&controller, "the controller did not become ready"));
    }
    let api = ControllerApi::new(api_port, &bundle, &user, password)?;
    let lockout_api = api.another();
    let api = Arc::new(Mutex::new(api));
    let mut enrolling = JoinSet::new();
    for (index, name) in names.iter().enumerate() {
        let router = home.make_router(name, proxy_port)?;
        let enroll = nursery.process(
            format!("enrollment of {name}"),
            &["router", "enroll", &shown(&router.config), "--jwt", &shown(&router.token)],
            home.log(name),
        );
        let run = nursery.process(name.as_str(), &["router", "run", &shown(&router.config)], home.log(name));
        enrolling.spawn(bring_up(index, router, enroll, run, api.clone()));
    }
    let lines = watch::all_lines();
    let mut up = Vec::new();
    while let Some(joined) = enrolling.join_next().await {
        let one = joined.map_err(|error| machine("wait for a task")(error.into()))??;
        paths.get(one.index).inspect(|path| path.set_process(one.pid));
        up.push(one);
    }
    up.sort_by_key(|one| one.index);
    let mut units = Vec::new();
    let (mut subjects, mut targets) = (Vec::new(), Vec::new());
    for Up { index, id, router, process, .. } in up {
        let watched = Watched::new(index, vec![router.socket.clone()], tally.clone(), lines.clone());
        following.spawn(watched.clone().follow(stopped.clone()));
        following.spawn(mourn(process.clone(), Some(index), tally.clone()));
        let state = router.state(&id);
        subjects.push(Subject { id: id.clone(), state: state.clone() });
        targets.push(Target { index, id, port: router.web_port });
        let probe = Probe::new(&bundle, router.web_port, "/healthz")?;
        let is_busy = AtomicBool::new(false);
        units.push(Arc::new(Unit { index, name: router.name, process, watched, state, probe, is_busy }));
    }
    following.spawn(mourn(controller.clone(), None, tally.clone()));
    let load = Arc::new(Load::new(&signer, &bundle, tally.clone())?);
    let lockout = Arc::new(Lockout::new(lockout_api, subjects, tally.clone()));
    let field = Field {
        units,
        controller,
        controller_probe,
        controller_is_busy: AtomicBool::new(false),
        restart_ms: AtomicU64::new(u64::try_from(faults::RESTART.as_millis()).unwrap_or(0)),
        paths,
        tally,
        lockout,
        lines,
        screen,
    };
    Ok(Cast { field: Arc::new(field), load, targets, _following: following })
}

/// The first thing that a person reads.
fn greet(home: &Home, controller: &ControllerHome, leaf_life: Duration, routers: usize, screen: &Screen) {
    let api = format!("https://127.0.0.1:{}", controller.api_port);
    let bundle = home.path().join("controller/pki/bundle.pem");
    for line in [
        format!("Exuvia: one controller and {routers} routers, whose certificates live {} s", leaf_life.as_secs()),
        format!("home      {}", home.path().display()),
        format!(
            "API       {api}/api/v1/routers  (user `{}`, password `{}`)",
            controller.user,
            controller.password.as_str()
        ),
        format!("metrics   {api}/metrics, and `/metrics` of each router"),
        format!("trust     {}", bundle.display()),
        "Ctrl-C ends everything".to_owned(),
        String::new(),
    ] {
        screen.say(&line);
    }
}

struct Up {
    index: usize,
    id: String,
    router: RouterHome,
    process: Process,
    pid: u32,
}

/// One router: created over REST, enrolled by its own process with the token, started.
async fn bring_up(
    index: usize,
    router: RouterHome,
    enroll: Process,
    process: Process,
    api: Arc<Mutex<ControllerApi>>,
) -> Result<Up, StageError> {
    let (id, token) = {
        let mut api = api.lock().await;
        let id = api.create_router(&router.name).await?;
        let token = api.enrollment_token(&id).await?;
        (id, token)
    };
    let token = token.ok_or_else(|| StageError::Process {
        what: format!("the controller made no enrollment token for {}", router.name),
        said: String::new(),
    })?;
    write_token(&router.token, &token).map_err(machine("write an enrollment token"))?;
    match enroll.run().await.map_err(machine("start an enrollment"))? {
        Exit::ItsOwn(status) if status.success() => {}
        Exit::ItsOwn(_) | Exit::Ours => return Err(silent(&enroll, &format!("{} did not enroll", router.name))),
    }
    let pid = process.start().await.map_err(machine("start a router"))?;
    Ok(Up { index, id, router, process, pid })
}

/// For nobody else's eyes from the first byte.
fn write_token(path: &Path, token: &str) -> std::io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(token.as_bytes())
}

fn silent(process: &Process, what: &str) -> StageError {
    StageError::Process { what: what.to_owned(), said: last_lines(process.log(), 15) }
}

/// Notices a process that ends by itself, writes it down, and starts it again.
async fn mourn(process: Process, router: Option<usize>, tally: Arc<Tally>) {
    loop {
        if let Exit::ItsOwn(status) = process.exited().await {
            let said = last_lines(process.log(), 3).replace('\n', " | ");
            tally.complain(format!("{} ended by itself ({status}): {said}", process.name()));
            // Whose fault it is does not matter; it is written into somebody's books.
            tally.router(router.unwrap_or(0), |books| books.unexpected_exits += 1);
            tokio::time::sleep(Duration::from_millis(500)).await;
            if process.start().await.is_err() {
                return;
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

impl Cast {
    /// Returns once every router has a control channel and answers health checks.
    pub(crate) async fn until_all_connected(&self) -> Result<(), StageError> {
        for unit in &self.field.units {
            let mut changes = unit.watched.changes();
            let up = async {
                let _ = changes.wait_for(|now| now.is_connected).await;
                unit.probe.until_ready().await;
            };
            if timeout(ROUTER_CONNECTED, up).await.is_err() {
                return Err(silent(&unit.process, &format!("{} has no control channel", unit.name)));
            }
        }
        Ok(())
    }

    /// Starts the load.
    pub(crate) fn load(&self, stopped: &StopSignal) -> JoinSet<()> {
        let mut loading = JoinSet::new();
        for target in &self.targets {
            let (load, target, stopped) = (self.load.clone(), target.clone(), stopped.clone());
            loading.spawn(async move { load.run(target, stopped).await });
        }
        loading
    }

    /// Starts to compare disks and register.
    pub(crate) fn watch_truth(&self, stopped: &StopSignal, tasks: &mut JoinSet<()>) {
        let (lockout, stopped) = (self.field.lockout.clone(), stopped.clone());
        tasks.spawn(async move { lockout.run(stopped).await });
    }

    /// Restarts every router; one that is not admitted in time is locked out.
    pub(crate) async fn restart_all(&self, within: Duration) {
        let mut restarting = JoinSet::new();
        for unit in self.field.units.clone() {
            let field = self.field.clone();
            restarting.spawn(async move {
                let starts = unit.watched.now().starts;
                // Planned: what closes now is no loss.
                field.tally.begin_restart(unit.index);
                unit.process.kill().await;
                field.start_router(&unit).await;
                let mut changes = unit.watched.changes();
                let back = timeout(within, changes.wait_for(|now| now.starts > starts && now.is_connected)).await;
                if back.is_err() {
                    let what =
                        format!("it was restarted after the faults, and not admitted within {} s", within.as_secs());
                    field.tally.router(unit.index, |router| {
                        router.locked_out.get_or_insert(what);
                    });
                }
                field.tally.end_restart(unit.index);
            });
        }
        while restarting.join_next().await.is_some() {}
    }

    /// Ends every process, routers first.
    pub(crate) async fn end(&self, patience: Duration) {
        let mut ending = JoinSet::new();
        for process in self.field.units.iter().map(|unit| unit.process.clone()) {
            ending.spawn(async move { (process.name().to_owned(), process.end(patience).await) });
        }
        while let Some(Ok((name, is_in_time))) = ending.join_next().await {
            if !is_in_time {
                self.field.tally.complain(format!("{name} did not end within {} s of SIGTERM", patience.as_secs()));
            }
        }
        if !self.field.controller.end(patience).await {
            self.field.tally.complain(format!("the controller did not end within {} s of SIGTERM", patience.as_secs()));
        }
    }
}
