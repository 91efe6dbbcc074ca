//! One stock router: its files, its configuration, its process.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result, bail};

use super::Ziti;
use crate::process::{Direct, Process, Starter};
use crate::program::{Ran, free_port};

/// What a router's configuration says that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZitiRouterKind {
    /// With a section `edge`.
    Edge,
    /// Without.
    Transit,
}

/// A stock router, running or not; or the files of one, for whoever takes its place. Cheap to clone; clones are the same router.
#[derive(Clone, Debug)]
pub struct ZitiRouter {
    ziti: Ziti,
    name: String,
    folder: PathBuf,
    config: PathBuf,
    starts: Arc<AtomicU32>,
}

impl ZitiRouter {
    /// An edge router: the file of `ziti create config router edge`, unchanged, in this folder, which is made. It dials `localhost:PORT`,
    /// and accepts links and clients on the loopback.
    ///
    /// # Errors
    /// When the file is not made.
    pub fn edge(ziti: &Ziti, folder: &Path, name: &str, ctrl_port: u16) -> Result<Self> {
        Self::configured(ziti, folder, name, ctrl_port, ZitiRouterKind::Edge, &["--tunnelerMode", "none"])
    }

    /// A transit router: the file of `ziti create config router fabric`.
    ///
    /// # Errors
    /// When the file is not made.
    pub fn transit(ziti: &Ziti, folder: &Path, name: &str, ctrl_port: u16) -> Result<Self> {
        Self::configured(ziti, folder, name, ctrl_port, ZitiRouterKind::Transit, &[])
    }

    /// The file of `ziti create config router` with these further flags.
    ///
    /// # Errors
    /// When the file is not made.
    pub fn configured(
        ziti: &Ziti,
        folder: &Path,
        name: &str,
        ctrl_port: u16,
        kind: ZitiRouterKind,
        flags: &[&str],
    ) -> Result<Self> {
        let folder = std::path::absolute(folder)?;
        fs::create_dir_all(&folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
        let config = folder.join(format!("{name}.yml"));
        let word = match kind {
            ZitiRouterKind::Edge => "edge",
            ZitiRouterKind::Transit => "fabric",
        };
        let out = config.to_string_lossy().into_owned();
        let mut args = vec!["create", "config", "router", word, "--routerName", name, "--output", &out];
        args.extend(flags);
        let mut command = ziti.command(&folder, args)?;
        command
            .env("ZITI_HOME", &folder)
            .env("ZITI_CTRL_ADVERTISED_ADDRESS", "localhost")
            .env("ZITI_CTRL_ADVERTISED_PORT", ctrl_port.to_string())
            .env("ZITI_ROUTER_ADVERTISED_ADDRESS", "localhost")
            .env("ZITI_ROUTER_PORT", free_port()?.to_string())
            .env("ZITI_ROUTER_LISTENER_BIND_PORT", free_port()?.to_string());
        Ran::of(&Direct, command)?.ok().context("ziti create config router")?;
        if !config.exists() {
            bail!("`ziti create config router` made no `{}`", config.display());
        }
        Ok(Self { ziti: ziti.clone(), name: name.to_owned(), folder, config, starts: Arc::default() })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The folder of its files: `NAME.yml`, `NAME.cert`, `NAME.server.chain.cert`, `NAME.key`, `NAME.cas`, `endpoints.yml`, and a log of
    /// every start.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Its configuration.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// The file of `identity.cert`.
    pub fn cert(&self) -> PathBuf {
        self.folder.join(format!("{}.cert", self.name))
    }

    /// The file of `identity.server_cert`.
    pub fn server_cert(&self) -> PathBuf {
        self.folder.join(format!("{}.server.chain.cert", self.name))
    }

    /// The file of `identity.key`.
    pub fn key(&self) -> PathBuf {
        self.folder.join(format!("{}.key", self.name))
    }

    /// The file of `identity.ca`.
    pub fn ca(&self) -> PathBuf {
        self.folder.join(format!("{}.cas", self.name))
    }

    /// Its id: the name in its leaf.
    ///
    /// # Errors
    /// When it has no leaf.
    pub fn id(&self) -> Result<String> {
        let chain = pki::Chain::from_pem(&fs::read(self.cert())?)?;
        chain.leaf().cn().map(str::to_owned).context("the leaf has no name")
    }

    /// `ziti router enroll CONFIG --jwt FILE`.
    ///
    /// # Errors
    /// When the command cannot be run; what came of it is in the answer.
    pub fn enroll(&self, jwt: &Path) -> Result<Ran> {
        let (config, jwt) = (self.config.to_string_lossy(), jwt.to_string_lossy());
        // Keys of 4096 bits, the default, take seconds each.
        self.ziti.run(&self.folder, ["router", "enroll", &config, "--jwt", &jwt, "--keyAlg", "EC"])
    }

    /// `ziti router run CONFIG FLAGS`, such as `--extend`; waits for nothing.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&self, flags: &[&str]) -> Result<Process> {
        self.start_by(&Direct, flags)
    }

    /// The same, started by this starter.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_by(&self, starter: &dyn Starter, flags: &[&str]) -> Result<Process> {
        let number = self.starts.fetch_add(1, Ordering::Relaxed);
        let config = self.config.to_string_lossy();
        let mut args = vec!["router", "run", &config, "--log-formatter", "json"];
        args.extend(flags);
        let command = self.ziti.command(&self.folder, args)?;
        Process::start_copying(starter, command, Some(&self.folder.join(format!("log-{number}.txt"))))
    }
}
