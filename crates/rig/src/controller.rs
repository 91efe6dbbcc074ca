//! A real controller on this machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use http::Method;
use nix::sys::signal::Signal;
use pki::TrustBundle;
use serde_json::{Value, json};

use crate::PATIENCE;
use crate::api::{AdmittedLeaf, Api};
use crate::process::{Direct, Process, Starter};
use crate::program::{Exuvia, free_port};
use crate::router::{Router, RouterSettings};

const PASSWORD: &str = "correct-horse-battery";

/// How a controller is set up.
#[derive(Clone, Debug)]
pub struct ControllerSettings {
    /// Where it listens: an address of this machine (or of the namespace in the program's prefix).
    pub listen: String,
    /// Under which name or address routers reach it. It must be `localhost` or an address in order to be asked by
    /// [`Controller::admitted`] and the like from here.
    pub address: String,
    /// Life of the leaves that it issues, as in `60s`; `None` for its default, 90 days.
    pub leaf_life: Option<String>,
    /// Further lines in the section `exuvia` of `controller.yml`, indented by two spaces, each ended by a line feed.
    pub settings: String,
}

impl Default for ControllerSettings {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1".to_owned(),
            address: "localhost".to_owned(),
            leaf_life: None,
            settings: String::new(),
        }
    }
}

/// A controller with its home, running or not. It is killed when this is dropped.
#[derive(Debug)]
pub struct Controller {
    exuvia: Exuvia,
    home: PathBuf,
    ctrl_port: u16,
    api_port: u16,
    address: String,
    process: Mutex<Option<Process>>,
    api: Mutex<Api>,
    /// What routers of this controller are started with.
    router_program: Exuvia,
}

impl Controller {
    /// Makes its home in this folder, below `ctl`, and starts it. Configurations and tokens of routers lie in this folder, too.
    ///
    /// # Errors
    /// When it cannot be made or started.
    pub fn start(exuvia: &Exuvia, home: &Path, settings: ControllerSettings) -> Result<Self> {
        let home = std::path::absolute(home)?;
        fs::create_dir_all(&home)?;
        let (ctrl_port, api_port) = (free_port()?, free_port()?);
        let (ctrl, api) = (ctrl_port.to_string(), api_port.to_string());
        let mut args = vec!["controller", "init", "ctl", "--listen", &settings.listen, "--address", &settings.address];
        args.extend(["--ctrl-port", &ctrl, "--api-port", &api]);
        if let Some(life) = &settings.leaf_life {
            args.extend(["--leaf-life", life]);
        }
        exuvia.clone().with_env("EXUVIA_PASSWORD", PASSWORD).run(&home, &args)?.ok().context("controller init")?;
        let path = home.join("ctl/controller.yml");
        let text = fs::read_to_string(&path)?;
        fs::write(&path, text.replace("\nexuvia:\n", &format!("\nexuvia:\n{}", settings.settings)))?;
        let bundle = TrustBundle::from_pem(&fs::read(home.join("ctl/pki/bundle.pem"))?)?;
        let api = Api::new(format!("https://{}:{api_port}", settings.address), &bundle, PASSWORD)?;
        let controller = Self {
            exuvia: exuvia.clone(),
            home,
            ctrl_port,
            api_port,
            address: settings.address,
            process: Mutex::new(None),
            api: Mutex::new(api),
            router_program: exuvia.clone(),
        };
        controller.run()?;
        Ok(controller)
    }

    /// Starts the routers that are made from now on as this says: in another namespace, with another clock.
    pub fn start_routers_as(&mut self, exuvia: Exuvia) {
        self.router_program = exuvia;
    }

    /// Starts it again, on the same ports; waits until it serves.
    ///
    /// # Errors
    /// When it does not start.
    pub fn run(&self) -> Result<()> {
        self.run_by(&Direct, |_| {})
    }

    /// Starts it by this starter, with a changed command.
    ///
    /// # Errors
    /// When it does not start.
    pub fn run_by(&self, starter: &dyn Starter, change: impl FnOnce(&mut std::process::Command)) -> Result<()> {
        let mut command = self.exuvia.command(&self.home, ["controller", "run", "ctl/controller.yml"]);
        change(&mut command);
        let process = Process::start(starter, command)?;
        let is_ready = process.log().wait(Default::default(), PATIENCE, |line| {
            (line.message() == "ready" && line.text_of("target") == "controller::daemon").then_some(())
        });
        if is_ready.is_none() {
            bail!("the controller does not start: {}", process.log().text());
        }
        *self.lock() = Some(process);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// SIGTERM, and waits for its end.
    ///
    /// # Errors
    /// When it does not end, or not with 0.
    pub fn stop(&self) -> Result<()> {
        let Some(process) = self.lock().take() else { return Ok(()) };
        process.signal(Signal::SIGTERM);
        let (status, _, log) = process.finish(PATIENCE)?;
        if !status.success() {
            bail!("the controller ended with {status}: {}", log.text());
        }
        Ok(())
    }

    /// kill -9, and waits for its end.
    pub fn kill(&self) {
        if let Some(process) = self.lock().take() {
            process.kill();
        }
    }

    /// Its process id, if it runs.
    pub fn pid(&self) -> Option<nix::unistd::Pid> {
        self.lock().as_ref().map(Process::pid)
    }

    /// What its process has said so far.
    pub fn log(&self) -> String {
        self.lock().as_ref().map(|process| process.log().text()).unwrap_or_default()
    }

    /// Does something with its process; `None` if it does not run.
    pub fn with_process<T>(&self, what: impl FnOnce(&Process) -> T) -> Option<T> {
        self.lock().as_ref().map(what)
    }

    /// Where its configuration, register (`ctl/register.db`) and certificates (`ctl/pki`) are, below `ctl`.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// The program.
    pub fn exuvia(&self) -> &Exuvia {
        &self.exuvia
    }

    /// Port of the control channels.
    pub fn ctrl_port(&self) -> u16 {
        self.ctrl_port
    }

    /// Port of the REST interfaces.
    pub fn api_port(&self) -> u16 {
        self.api_port
    }

    /// Password of the administrator `admin`.
    pub fn password(&self) -> &str {
        PASSWORD
    }

    /// Under which name or address routers reach it.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// One request to its REST interfaces as administrator; the answer's JSON, or null where it has no body.
    ///
    /// # Errors
    /// When there is no answer, or it is a refusal.
    pub fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let method: Method = method.parse()?;
        self.api.lock().unwrap_or_else(PoisonError::into_inner).ask(&method, path, body)
    }

    /// The token of a session of the administrator.
    ///
    /// # Errors
    /// When there is no login.
    pub fn session(&self) -> Result<String> {
        self.api.lock().unwrap_or_else(PoisonError::into_inner).session()
    }

    /// Is this the token of a session that lasts?
    ///
    /// # Errors
    /// When there is no answer.
    pub fn session_is_good(&self, token: &str) -> Result<bool> {
        self.api.lock().unwrap_or_else(PoisonError::into_inner).is_good(token)
    }

    /// What it knows of a router: the fields of `fleet show --json`.
    ///
    /// # Errors
    /// As [`Controller::ask`].
    pub fn known_of(&self, id: &str) -> Result<Value> {
        let answer = self.ask("GET", &format!("/api/v1/routers/{id}"), None)?;
        Ok(answer.get("data").cloned().unwrap_or(answer))
    }

    /// The leaves of a router that it admits now, oldest first.
    ///
    /// # Errors
    /// As [`Controller::ask`].
    pub fn admitted(&self, id: &str) -> Result<Vec<AdmittedLeaf>> {
        let known = self.known_of(id)?;
        let router = known.get("router").unwrap_or(&known);
        let leaves = router.get("leaves").and_then(Value::as_array).ok_or_else(|| anyhow!("no leaves in {known}"))?;
        let admitted = leaves.iter().filter(|leaf| leaf.get("is_admitted") == Some(&Value::Bool(true)));
        let text = |leaf: &Value, name: &str| leaf.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        Ok(admitted
            .map(|leaf| AdmittedLeaf {
                fingerprint: text(leaf, "fingerprint_sha256"),
                seq: leaf.get("seq").and_then(Value::as_u64).unwrap_or_default(),
                stage: text(leaf, "stage"),
            })
            .collect())
    }

    /// Makes a router; gives its id and token.
    ///
    /// # Errors
    /// As [`Controller::ask`].
    pub fn create(&self, name: &str) -> Result<(String, String)> {
        let body = json!({ "name": name, "isTunnelerEnabled": false });
        let made = self.ask("POST", "/edge/management/v1/edge-routers", Some(&body))?;
        let id = made.pointer("/data/id").and_then(Value::as_str).ok_or_else(|| anyhow!("no id in {made}"))?.to_owned();
        Ok((id.clone(), self.token(&id)?))
    }

    /// The unused enrollment token of a router.
    ///
    /// # Errors
    /// As [`Controller::ask`], and when it has none.
    pub fn token(&self, id: &str) -> Result<String> {
        let view = self.ask("GET", &format!("/edge/management/v1/edge-routers/{id}"), None)?;
        let token = view.pointer("/data/enrollmentJwt").and_then(Value::as_str);
        Ok(token.ok_or_else(|| anyhow!("router `{id}` has no token"))?.to_owned())
    }

    /// A router with a configuration and a token, not enrolled. Its identity will be in `folder`, which is made if need be.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn created(&self, name: &str, folder: &Path, settings: &RouterSettings) -> Result<Router> {
        let (id, token) = self.create(name)?;
        Router::new(self.router_program.clone(), &self.home, name, id, &token, folder, settings)
    }

    /// A router that is enrolled and does not run, with everything as it is by default.
    ///
    /// # Errors
    /// When it cannot be enrolled.
    pub fn enrolled(&self, name: &str, folder: &Path) -> Result<Router> {
        let router = self.created(name, folder, &RouterSettings::default())?;
        router.enroll()?.ok()?;
        Ok(router)
    }

    /// Waits until it knows something of a router, asking again after whatever the controller logs.
    ///
    /// # Errors
    /// When that does not come.
    pub fn until<T>(&self, id: &str, mut wanted: impl FnMut(&Value) -> Option<T>) -> Result<T> {
        let deadline = std::time::Instant::now() + PATIENCE;
        let log = self.with_process(|process| process.log().clone()).ok_or_else(|| anyhow!("it does not run"))?;
        loop {
            let mark = log.mark();
            let known = self.known_of(id)?;
            if let Some(found) = wanted(&known) {
                return Ok(found);
            }
            if std::time::Instant::now() >= deadline {
                bail!("the controller knows nothing else of `{id}`: {known:#}");
            }
            // A change that is not logged is seen a little later.
            log.wait(mark, Duration::from_millis(50), |_| Some(()));
        }
    }
}
