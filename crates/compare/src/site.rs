//! One real controller of either kind, with our proxy before it.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use http::Method;
use netfault::network::world::World;
use netfault::proxy::{ControllerKeys, Proxy};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pki::TrustBundle;
use rig::{Api, Controller, Exuvia, Ziti, ZitiNetwork, ZitiSettings};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::clock;
use crate::pairing::Kind;

/// The programs under test.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    /// OpenZiti's.
    pub(crate) ziti: Ziti,
    /// Ours.
    pub(crate) exuvia: Exuvia,
}

/// A controller, running or not, and the way to it.
#[derive(Debug)]
pub(crate) struct Site {
    /// The programs.
    pub(crate) programs: Programs,
    /// Whose controller.
    pub(crate) kind: Kind,
    /// Everything of this site lies here.
    pub(crate) home: PathBuf,
    /// Where routers dial.
    pub(crate) proxy: Proxy,
    /// The controller's keys.
    pub(crate) authority: Arc<ControllerKeys>,
    api: Mutex<Option<Api>>,
    direct: SocketAddr,
    announced: u16,
    backend: Backend,
    backup: Mutex<Option<PathBuf>>,
    ahead_s: Mutex<i64>,
    /// Everything asynchronous; ends last.
    pub(crate) runtime: Runtime,
}

#[derive(Debug)]
enum Backend {
    Stock(ZitiNetwork),
    Exuvia(Box<Controller>),
}

/// What a controller says of a router.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Listed {
    /// Has it a control channel?
    pub(crate) is_online: bool,
    /// SHA-1 fingerprints, in hex, of leaves that it admits. (Ours also admits older ones for a while, which are not listed.)
    pub(crate) admitted: Vec<String>,
}

/// Leaves of the first enrollments on our controller: fewer days than OpenZiti's seven.
pub(crate) const SHORT_LIFE: &str = "6d";

impl Site {
    /// Makes it below `home` and starts it. On our own controller leaves live [`SHORT_LIFE`] until [`Site::issue_for_long`].
    ///
    /// # Errors
    /// When it does not start.
    pub(crate) fn open(programs: &Programs, kind: Kind, home: &Path, is_short: bool) -> Result<Self> {
        fs::create_dir_all(home)?;
        let home = home.canonicalize()?;
        match kind {
            Kind::Stock => Self::stock(programs, home),
            Kind::Exuvia => Self::exuvia(programs, home, is_short),
        }
    }

    fn stock(programs: &Programs, home: PathBuf) -> Result<Self> {
        let settings = ZitiSettings { is_behind_proxy: true, ..ZitiSettings::default() };
        let network = ZitiNetwork::laid_down(&programs.ziti, &home, settings)?;
        let node = network.node();
        let authority = Arc::new(ControllerKeys::from_folder(&node.home().join("pki"))?);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let proxy = runtime.block_on(Proxy::listen(node.ctrl_port())).context("the proxy cannot listen")?;
        let direct: SocketAddr = ([127, 0, 0, 1], node.ctrl_listens()).into();
        proxy.carry(direct, authority.clone());
        network.assemble(|_| ())?;
        let api = stock_api(&network, &authority.bundle)?;
        Ok(Self {
            programs: programs.clone(),
            kind: Kind::Stock,
            home,
            proxy,
            authority,
            api: Mutex::new(Some(api)),
            direct,
            announced: node.ctrl_port(),
            backend: Backend::Stock(network),
            backup: Mutex::default(),
            ahead_s: Mutex::default(),
            runtime,
        })
    }

    fn exuvia(programs: &Programs, home: PathBuf, is_short: bool) -> Result<Self> {
        let life = is_short.then(|| SHORT_LIFE.to_owned());
        let World { runtime, controller, proxy, authority, .. } = World::start(&programs.exuvia, &home, life)?;
        let config = fs::read_to_string(home.join("ctl/controller.yml"))?;
        let port = config.split("listener: \"tls:127.0.0.1:").nth(1).and_then(|rest| rest.split('"').next());
        let port: u16 = port.context("no listener in controller.yml")?.parse()?;
        Ok(Self {
            programs: programs.clone(),
            kind: Kind::Exuvia,
            home,
            proxy,
            authority,
            api: Mutex::default(),
            direct: ([127, 0, 0, 1], port).into(),
            announced: controller.ctrl_port(),
            backend: Backend::Exuvia(Box::new(controller)),
            backup: Mutex::default(),
            ahead_s: Mutex::default(),
            runtime,
        })
    }

    /// From now on leaves live as long as by default. (OpenZiti's controller knows one length only, a year.)
    ///
    /// # Errors
    /// When the controller does not come back.
    pub(crate) fn issue_for_long(&self) -> Result<()> {
        let Backend::Exuvia(controller) = &self.backend else { return Ok(()) };
        let path = self.home.join("ctl/controller.yml");
        let text = fs::read_to_string(&path)?;
        let kept: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("leafLife:")).collect();
        controller.stop()?;
        fs::write(&path, kept.join("\n") + "\n")?;
        self.run()
    }

    /// The port that the controller announces; our proxy listens there.
    pub(crate) fn announced(&self) -> u16 {
        self.announced
    }

    /// Where the controller itself listens.
    pub(crate) fn direct(&self) -> SocketAddr {
        self.direct
    }

    /// One request to its REST interfaces as administrator.
    ///
    /// # Errors
    /// When there is no answer, or it is a refusal.
    pub(crate) fn ask(&self, method: &Method, path: &str, body: Option<&Value>) -> Result<Value> {
        match &self.backend {
            Backend::Exuvia(controller) => controller.ask(method.as_str(), path, body),
            Backend::Stock(_) => {
                let mut api = self.api.lock().unwrap_or_else(PoisonError::into_inner);
                api.as_mut().context("no API")?.ask(method, path, body)
            }
        }
    }

    /// What it says of a router.
    ///
    /// # Errors
    /// As [`Site::ask`].
    pub(crate) fn listed(&self, id: &str) -> Result<Listed> {
        let answer = self.ask(&Method::GET, &format!("/edge/management/v1/edge-routers/{id}"), None)?;
        let data = answer.get("data").ok_or_else(|| anyhow!("no data in {answer}"))?;
        let text = |name: &str| data.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        let newer = text("unverifiedFingerprint").filter(|_| self.kind == Kind::Exuvia);
        Ok(Listed {
            is_online: data.get("isOnline") == Some(&Value::Bool(true)),
            admitted: text("fingerprint").into_iter().chain(newer).map(str::to_lowercase).collect(),
        })
    }

    /// Its process.
    ///
    /// # Errors
    /// When it does not run.
    pub(crate) fn pid(&self) -> Result<Pid> {
        match &self.backend {
            Backend::Stock(network) => {
                let pid = network.node().pid().context("the controller does not run")?;
                Ok(Pid::from_raw(i32::try_from(pid)?))
            }
            Backend::Exuvia(controller) => controller.pid().context("the controller does not run"),
        }
    }

    /// kill -9.
    pub(crate) fn kill(&self) {
        match &self.backend {
            Backend::Stock(network) => network.node().kill(),
            Backend::Exuvia(controller) => controller.kill(),
        }
    }

    /// Starts it again.
    ///
    /// # Errors
    /// When it does not start.
    pub(crate) fn run(&self) -> Result<()> {
        match &self.backend {
            Backend::Stock(network) => network.node().run()?,
            Backend::Exuvia(controller) => controller.run()?,
        }
        let ahead = *self.ahead_s.lock().unwrap_or_else(PoisonError::into_inner);
        if ahead != 0 {
            self.be_ahead(ahead)?;
        }
        let deadline = Instant::now() + rig::PATIENCE;
        // A cluster of one elects its leader first.
        while let Err(error) = self.ask(&Method::GET, "/edge/management/v1/edge-routers?limit=1", None) {
            if Instant::now() > deadline {
                return Err(error).context("the controller serves nobody");
            }
            std::thread::sleep(Duration::from_millis(300));
        }
        Ok(())
    }

    /// Stands still, or goes on.
    ///
    /// # Errors
    /// When it does not run.
    pub(crate) fn freeze(&self, is: bool) -> Result<()> {
        kill(self.pid()?, if is { Signal::SIGSTOP } else { Signal::SIGCONT }).context("signal the controller")
    }

    /// Its wall clock is so many seconds ahead from now on.
    ///
    /// # Errors
    /// When its clock cannot be moved.
    pub(crate) fn be_ahead(&self, seconds: i64) -> Result<()> {
        *self.ahead_s.lock().unwrap_or_else(PoisonError::into_inner) = seconds;
        let program = match self.kind {
            Kind::Stock => self.programs.ziti.path(),
            Kind::Exuvia => self.programs.exuvia.path(),
        };
        clock::set(self.pid()?, program, seconds).context("move the controller's clock")
    }

    /// Copies what it knows, as an operator's backup does: ours by its command, the stock one's data folder while it does not run.
    ///
    /// # Errors
    /// When it cannot be copied.
    pub(crate) fn back_up(&self) -> Result<()> {
        let copy = self.home.join("backup");
        match &self.backend {
            Backend::Stock(network) => {
                network.node().stop()?;
                copy_folder(&network.node().home().join("raft"), &copy)?;
                self.run()?;
            }
            Backend::Exuvia(_) => {
                let args = ["controller", "backup", "ctl/controller.yml", "backup"];
                self.programs.exuvia.run(&self.home, args)?.ok()?;
            }
        }
        *self.backup.lock().unwrap_or_else(PoisonError::into_inner) = Some(copy);
        Ok(())
    }

    /// Puts the last backup back.
    ///
    /// # Errors
    /// When there is none, or the controller does not start with it.
    pub(crate) fn restore(&self) -> Result<()> {
        let copy = self.backup.lock().unwrap_or_else(PoisonError::into_inner).clone().context("no backup")?;
        match &self.backend {
            Backend::Stock(network) => {
                network.node().stop()?;
                let raft = network.node().home().join("raft");
                fs::remove_dir_all(&raft)?;
                copy_folder(&copy, &raft)?;
            }
            Backend::Exuvia(controller) => {
                controller.stop()?;
                let args = ["controller", "restore", "ctl/controller.yml", "backup", "--yes"];
                self.programs.exuvia.run(&self.home, args)?.ok()?;
            }
        }
        self.run()
    }
}

fn stock_api(network: &ZitiNetwork, bundle: &TrustBundle) -> Result<Api> {
    let base = format!("https://localhost:{}", network.node().api_port());
    Api::new(base, bundle, network.password())
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else if entry.file_type()?.is_file() {
            fs::copy(entry.path(), &target)?;
        } else {
            bail!("`{}` is neither a file nor a folder", entry.path().display());
        }
    }
    Ok(())
}
