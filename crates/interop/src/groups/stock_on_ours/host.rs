//! Our controller behind the proxy, and stock routers on it.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use netfault::network::world::World;
use netfault::proxy::{KeyFile, Path as Way};
use pki::Chain;
use rig::{Direct, Process, Starter, ZitiRouter, ZitiRouterKind};
use serde_json::{Value, json};

use crate::groups::site::until;
use crate::scenario::Bench;

/// A router that is refused gives up 30 s after its start; one that is let in is so within a few seconds, on a busy machine, too.
const COMES_BACK: Duration = Duration::from_secs(45);

/// Our controller. Routers reach it through the proxy.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) world: World,
    bench: Bench,
    home: PathBuf,
}

/// What a router is made as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Make {
    pub(super) kind: ZitiRouterKind,
    /// As `--keyAlg` takes it.
    pub(super) keys: &'static str,
}

/// An edge router with keys that are made quickly.
pub(super) const EDGE: Make = Make { kind: ZitiRouterKind::Edge, keys: "EC" };
/// A transit router with keys that are made quickly.
pub(super) const TRANSIT: Make = Make { kind: ZitiRouterKind::Transit, keys: "EC" };
/// Both kinds.
pub(super) const KINDS: [Make; 2] = [EDGE, TRANSIT];

impl Make {
    pub(super) fn word(self) -> &'static str {
        match self.kind {
            ZitiRouterKind::Edge => "edge",
            ZitiRouterKind::Transit => "transit",
        }
    }

    fn collection(self) -> &'static str {
        match self.kind {
            ZitiRouterKind::Edge => "edge-routers",
            ZitiRouterKind::Transit => "transit-routers",
        }
    }
}

/// A stock router that our controller knows.
#[derive(Debug)]
pub(super) struct Guest {
    pub(super) router: ZitiRouter,
    pub(super) id: String,
    pub(super) way: Arc<Way>,
    make: Make,
}

/// What came of a start with what is on the disk.
#[derive(Debug)]
pub(super) enum Start {
    /// The controller lets it in; here is its process, and the leaf that it presented (SHA-256).
    Admitted(Process, String),
    /// It ended by itself without having been let in.
    Ended(String),
    /// It runs and is not let in.
    Refused(String),
}

impl Host {
    /// Starts it below the scenario's folder.
    pub(super) fn start(bench: &Bench, name: &str, leaf_life: Option<&str>) -> Result<Self> {
        let home = bench.scratch.join(name);
        let world = World::start(&bench.exuvia, &home, leaf_life.map(str::to_owned))?;
        Ok(Self { world, bench: bench.clone(), home })
    }

    /// A router that is made and configured, not enrolled.
    pub(super) fn created(&self, name: &str, make: Make) -> Result<Guest> {
        let controller = &self.world.controller;
        let path = format!("/edge/management/v1/{}", make.collection());
        let made = controller.ask("POST", &path, Some(&json!({ "name": name })))?;
        let id = made.pointer("/data/id").and_then(Value::as_str).ok_or_else(|| anyhow!("no id in {made}"))?;
        let folder = self.home.join(name);
        let port = self.world.proxy.address().port();
        let router = match make.kind {
            ZitiRouterKind::Edge => ZitiRouter::edge(&self.bench.ziti, &folder, name, port)?,
            ZitiRouterKind::Transit => ZitiRouter::transit(&self.bench.ziti, &folder, name, port)?,
        };
        let way = self.world.proxy.add(Way::of_messages(id, KeyFile(router.key())));
        Ok(Guest { router, id: id.to_owned(), way, make })
    }

    /// The same, enrolled.
    pub(super) fn guest(&self, name: &str, make: Make) -> Result<Guest> {
        let guest = self.created(name, make)?;
        self.enroll(&guest)?;
        Ok(guest)
    }

    /// `ziti router enroll` with the token that the controller has for it.
    pub(super) fn enroll(&self, guest: &Guest) -> Result<()> {
        let path = format!("/edge/management/v1/{}/{}", guest.make.collection(), guest.id);
        let view = self.world.controller.ask("GET", &path, None)?;
        let token = view.pointer("/data/enrollmentJwt").and_then(Value::as_str).context("it has no token")?;
        let jwt = guest.router.folder().join("token.jwt");
        fs::write(&jwt, token)?;
        let (config, jwt) = (guest.router.config().to_string_lossy(), jwt.to_string_lossy());
        let args = ["router", "enroll", &config, "--jwt", &jwt, "--keyAlg", guest.make.keys];
        self.bench.ziti.run(guest.router.folder(), args)?.ok().context("ziti router enroll")?;
        Ok(())
    }

    /// What the controller says of its channel; `None` without one.
    pub(super) fn connection(&self, guest: &Guest) -> Result<Option<Value>> {
        let known = self.world.controller.known_of(&guest.id)?;
        Ok(known.get("connection").filter(|connection| !connection.is_null()).cloned())
    }

    /// How many leaves the register holds for it.
    pub(super) fn leaves(&self, guest: &Guest) -> Result<usize> {
        let known = self.world.controller.known_of(&guest.id)?;
        Ok(known.get("leaves").and_then(Value::as_array).map_or(0, Vec::len))
    }

    /// Starts it, and waits until the controller has let it in.
    pub(super) fn online(&self, guest: &Guest, flags: &[&str]) -> Result<Process> {
        self.online_by(&Direct, guest, flags)
    }

    /// The same, started by this starter.
    pub(super) fn online_by(&self, starter: &dyn Starter, guest: &Guest, flags: &[&str]) -> Result<Process> {
        match self.started(guest, guest.router.start_by(starter, flags)?)? {
            Start::Admitted(process, _) => Ok(process),
            other => bail!("`{}` is not let in: {other:?}", guest.router.name()),
        }
    }

    /// Starts it with what is on its disk; what comes of it?
    pub(super) fn started_again(&self, guest: &Guest, flags: &[&str]) -> Result<Start> {
        self.started(guest, guest.router.start(flags)?)
    }

    fn started(&self, guest: &Guest, process: Process) -> Result<Start> {
        let deadline = Instant::now() + COMES_BACK;
        loop {
            if let Some(connection) = self.connection(guest)? {
                let leaf = connection.get("leaf_sha256").and_then(Value::as_str).unwrap_or_default().to_owned();
                return Ok(Start::Admitted(process, leaf));
            }
            if process.status().is_some() {
                return Ok(Start::Ended(last_words(&process)));
            }
            if Instant::now() > deadline {
                return Ok(Start::Refused(last_words(&process)));
            }
            // Woken by whatever it says next.
            process.log().wait(process.log().mark(), Duration::from_millis(100), |_| Some(()));
        }
    }

    /// kill -9; then the way is free, and the controller knows that it is gone.
    pub(super) fn kill(&self, guest: &Guest, process: Process) -> Result<()> {
        drop(process);
        guest.way.pass();
        guest.way.sever();
        until("the end of its channel", COMES_BACK, || Ok(self.connection(guest)?.is_none().then_some(())))
    }

    /// Killed and started again with what is on its disk, it must be let in.
    pub(super) fn comes_back(&self, guest: &Guest, process: Process) -> Result<String> {
        self.kill(guest, process)?;
        match self.started_again(guest, &[])? {
            Start::Admitted(process, leaf) => {
                self.kill(guest, process)?;
                Ok(leaf)
            }
            other => bail!("`{}` is locked out: {other:?}", guest.router.name()),
        }
    }
}

impl Guest {
    /// The leaf in its file (SHA-256); an error when the file holds none.
    pub(super) fn leaf(&self) -> Result<String> {
        let chain = Chain::from_pem(&fs::read(self.router.cert())?)?;
        Ok(chain.leaf().fingerprint().to_string())
    }

    /// Waits until it says that its extension is done.
    pub(super) fn until_extended(&self, process: &Process) -> Result<()> {
        let done = |line: &rig::Line| said(line).starts_with("enrollment extension done").then_some(());
        let found = process.log().wait(rig::Mark::default(), COMES_BACK, done);
        found.with_context(|| format!("`{}` extends nothing: {}", self.router.name(), last_words(process)))?;
        Ok(())
    }

    /// Both of its files hold a leaf of its own.
    pub(super) fn is_whole(&self) -> Result<()> {
        for path in [self.router.cert(), self.router.server_cert()] {
            let chain = Chain::from_pem(&fs::read(&path)?).with_context(|| format!("in `{}`", path.display()));
            ensure!(chain?.leaf().cn() == Some(&self.id), "`{}` is somebody else's", path.display());
        }
        Ok(())
    }
}

/// The sentence of a line.
pub(super) fn said(line: &rig::Line) -> &str {
    line.text_of("msg")
}

/// The last things that a process said; of a panic, its reason.
pub(super) fn last_words(process: &Process) -> String {
    let lines = process.log().since(rig::Mark::default());
    if let Some(panicked) = lines.iter().find(|line| line.text.starts_with("panic: ")) {
        return panicked.text.clone();
    }
    let words = |line: &rig::Line| match said(line) {
        "" => line.text.chars().take(300).collect::<String>(),
        told => match line.text_of("error") {
            "" => told.to_owned(),
            error => format!("{told}: {error}"),
        },
    };
    let last = lines.len().saturating_sub(3);
    lines.get(last..).unwrap_or_default().iter().map(words).collect::<Vec<_>>().join(" / ")
}
