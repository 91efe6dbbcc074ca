//! A real controller behind our proxy, and real routers that dial the proxy.

use std::fs;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use net::http::{HttpClient, HttpConnection};
use net::tls::ServerTrust;
use pki::TrustBundle;
use rig::{Controller, ControllerSettings, Exuvia, Router, RouterSettings, free_port};
use tokio::runtime::Runtime;

use crate::proxy::{ControllerKeys, Path, Proxy, StateFolder};

/// The controller announces the proxy's address and listens elsewhere.
#[derive(Debug)]
pub struct World {
    /// Everything asynchronous of this process.
    pub runtime: Runtime,
    /// The real one.
    pub controller: Controller,
    /// Where routers dial.
    pub proxy: Proxy,
    /// The controller's keys.
    pub authority: Arc<ControllerKeys>,
    home: PathBuf,
}

/// A real router and its way to the controller.
#[derive(Debug)]
pub struct Subject {
    /// The router.
    pub router: Router,
    /// Its way.
    pub path: Arc<Path>,
    /// Where it serves HTTPS.
    pub web_port: u16,
}

impl World {
    /// Makes it below this folder. Leaves live this long, as in `60s`, or as by default.
    ///
    /// # Errors
    /// When the controller does not start.
    pub fn start(exuvia: &Exuvia, home: &FilePath, leaf_life: Option<String>) -> Result<Self> {
        let home = std::path::absolute(home)?;
        let controller =
            Controller::start(exuvia, &home, ControllerSettings { leaf_life, ..ControllerSettings::default() })?;
        controller.stop()?;
        let announced = controller.ctrl_port();
        let listens = free_port()?;
        let config = home.join("ctl/controller.yml");
        let text = fs::read_to_string(&config)?;
        let moved = text.replace(
            &format!("listener: \"tls:127.0.0.1:{announced}\""),
            &format!("listener: \"tls:127.0.0.1:{listens}\""),
        );
        if moved == text {
            bail!("`{}` names no listener at port {announced}", config.display());
        }
        fs::write(&config, moved)?;
        let authority = Arc::new(ControllerKeys::from_folder(&home.join("ctl/pki"))?);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let proxy = runtime.block_on(Proxy::listen(announced)).context("the proxy cannot listen")?;
        controller.run()?;
        proxy.carry(([127, 0, 0, 1], listens).into(), authority.clone());
        Ok(Self { runtime, controller, proxy, authority, home })
    }

    /// A router that is enrolled, does not run, gives up waiting after a second, and is made a way by `path` from its id and its state
    /// folder.
    ///
    /// # Errors
    /// When it cannot be enrolled.
    pub fn subject(&self, name: &str, path: impl FnOnce(&str, PathBuf) -> Path) -> Result<Subject> {
        let settings = RouterSettings::default();
        let router = self.controller.created(name, &self.home.join(name), &settings)?;
        let web_port = free_port()?;
        impatient(&router, web_port)?;
        router.enroll()?.ok()?;
        let path = self.proxy.add(path(router.id(), router.state()));
        Ok(Subject { router, path, web_port })
    }

    /// The same, looked at message by message.
    ///
    /// # Errors
    /// As [`World::subject`].
    pub fn subject_of_messages(&self, name: &str) -> Result<Subject> {
        self.subject(name, |id, state| Path::of_messages(id, StateFolder(state)))
    }
}

/// A second for every wait that an operator may shorten, and a web listener.
pub(crate) fn impatient(router: &Router, web_port: u16) -> Result<()> {
    let text = fs::read_to_string(router.config())?;
    let changed = text.replace("attemptDeadline: 5s", "attemptDeadline: 1s").replace(
        "\nctrl:\n",
        "\nctrl:\n  options: {connectTimeoutMs: 1000}\n  heartbeats: {sendInterval: 1s, closeUnresponsiveTimeout: 3s}\n",
    );
    let web = format!(
        "web:\n  - name: health\n    bindPoints:\n      - interface: 127.0.0.1:{web_port}\n    apis:\n      - binding: health-checks\n"
    );
    fs::write(router.config(), changed + &web)?;
    Ok(())
}

/// A client of a router, whose one connection must outlive whatever happens to the control channel.
#[derive(Debug)]
pub struct Client {
    connection: HttpConnection,
    uri: http::Uri,
}

impl Client {
    /// Connects to the router's web listener.
    ///
    /// # Errors
    /// When the router does not serve.
    pub fn of(world: &World, subject: &Subject) -> Result<Self> {
        let bundle = TrustBundle::from_pem(&fs::read(world.home.join("ctl/pki/bundle.pem"))?)?;
        let client = HttpClient::new(ServerTrust::bundle(&bundle)?);
        let uri: http::Uri = format!("https://localhost:{}/health-checks", subject.web_port).parse()?;
        let connection = world.runtime.block_on(client.connect(&uri))?;
        Ok(Self { connection, uri })
    }

    /// One more request on the same connection.
    ///
    /// # Errors
    /// When it is broken.
    pub fn asks_again(&mut self, world: &World) -> Result<()> {
        let request = http::Request::get(self.uri.clone()).body(bytes::Bytes::new())?;
        let connection = &mut self.connection;
        let asked = async move { tokio::time::timeout(Duration::from_secs(10), connection.send(request)).await };
        world.runtime.block_on(asked).context("no answer")??;
        Ok(())
    }
}
