//! A stock network, our proxy before each of its controllers, and routers on it.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use netfault::proxy::{ControllerKeys, KeyFile, Path as Way, Proxy, StateFolder};
use pki::Chain;
use rig::{Direct, Log, Router, Running, Started, Starter, ZitiNetwork, ZitiNode, ZitiRouter, ZitiSettings};
use tokio::runtime::Runtime;

use crate::scenario::Bench;

/// A stock network in a folder of its own.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) network: ZitiNetwork,
    gates: Vec<Gate>,
    bench: Bench,
    /// Carries the proxies; last, because they need it to the end.
    _runtime: Runtime,
}

/// The proxy before one controller.
#[derive(Debug)]
struct Gate {
    proxy: Proxy,
    /// How each other controller comes this way, by its place in the network.
    peers: Vec<(usize, Arc<Way>)>,
}

/// Our router on their files.
#[derive(Clone, Debug)]
pub(crate) struct Visitor {
    /// Ours.
    pub(crate) router: Router,
    /// Theirs, on the same files.
    pub(crate) files: ZitiRouter,
    /// Its way to each controller; empty where no proxy stands.
    pub(crate) ways: Vec<Arc<Way>>,
}

impl Site {
    /// One controller.
    pub(crate) fn single(bench: &Bench) -> Result<Self> {
        Self::with(bench, ZitiSettings::default())
    }

    /// As many controllers as these settings say, with proxies if they say so.
    pub(crate) fn with(bench: &Bench, settings: ZitiSettings) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let is_behind_proxy = settings.is_behind_proxy;
        let network = ZitiNetwork::laid_down(&bench.ziti, &bench.scratch.join("n"), settings)?;
        let mut gates = Vec::new();
        if is_behind_proxy {
            for (place, node) in network.nodes().iter().enumerate() {
                let proxy = runtime.block_on(Proxy::listen(node.ctrl_port())).context("the proxy cannot listen")?;
                let authority = Arc::new(ControllerKeys::from_folder(&node.home().join("pki"))?);
                proxy.carry(([127, 0, 0, 1], node.ctrl_listens()).into(), authority);
                let others = network.nodes().iter().enumerate().filter(|(other, _)| *other != place);
                let peers = others.map(|(other, node)| (other, proxy.add(Way::of_bytes(node.id())))).collect();
                gates.push(Gate { proxy, peers });
            }
        }
        let site = Self { network, gates, bench: bench.clone(), _runtime: runtime };
        site.network.assemble(|_| site.note_processes())?;
        Ok(site)
    }

    /// One renewal, however long the peer makes it take.
    pub(crate) fn renew(&self, running: &Running) -> Result<u64> {
        if self.bench.has_groups() {
            return running.renew();
        }
        let served = running.status()?["generation"].as_u64().unwrap_or_default();
        let deadline = Instant::now() + Duration::from_secs(200);
        let mark = running.log().mark();
        while Instant::now() < deadline {
            // One that is under way goes on; one that was just promoted must not be followed by another.
            let status = running.status()?;
            let is_idle = status["phase"] == "Steady" || status["phase"] == "Promoted";
            if is_idle && status["generation"] == served {
                let _ = running.order_renewal();
            }
            let promoted = running.log().wait(mark, Duration::from_secs(10), |line| {
                (line.event() == "promoted").then(|| line.generation().unwrap_or_default()).filter(|new| *new > served)
            });
            if let Some(generation) = promoted {
                return Ok(generation);
            }
        }
        bail!("it does not renew:\n{}", running.log().text())
    }

    /// Starts ours on what its disk holds: it must be admitted, and renew.
    pub(crate) fn comes_back(&self, visitor: &Visitor) -> Result<(Running, Duration)> {
        let (judged, running) = visitor.router.judge_and_keep(visitor, self.bench.has_groups());
        let Some(running) = running else { bail!("{}", judged.brief()) };
        if !self.bench.has_groups() {
            self.renew(&running)?;
        }
        Ok((running, judged.took))
    }

    /// After a controller was started: its process is known to the proxies of the others.
    pub(crate) fn note_processes(&self) {
        for (place, way) in self.gates.iter().flat_map(|gate| &gate.peers) {
            if let Some(pid) = self.network.nodes().get(*place).and_then(ZitiNode::pid) {
                way.set_process(pid);
            }
        }
    }

    /// Starts a controller again.
    pub(crate) fn restart(&self, node: &ZitiNode) -> Result<()> {
        node.run()?;
        self.note_processes();
        Ok(())
    }

    /// Every way between this controller and the others.
    pub(crate) fn ways_between(&self, node: &ZitiNode) -> Vec<Arc<Way>> {
        let place = self.network.nodes().iter().position(|known| known.id() == node.id());
        let mut found = Vec::new();
        for (here, gate) in self.gates.iter().enumerate() {
            let wanted = gate.peers.iter().filter(|(there, _)| Some(here) == place || Some(*there) == place);
            found.extend(wanted.map(|(_, way)| way.clone()));
        }
        found
    }

    /// A way for the bytes of a process whose keys are not ours; it must be told which one it is.
    pub(crate) fn way_of_bytes(&self, name: &str) -> Result<Arc<Way>> {
        let gate = self.gates.first().context("no proxy stands here")?;
        Ok(gate.proxy.add(Way::of_bytes(name)))
    }

    /// An edge router that the controllers know and that has its configuration, not enrolled.
    pub(crate) fn visitor(&self, name: &str) -> Result<Visitor> {
        self.visitor_with(name, "")
    }

    /// The same, with these lines at the end of the file.
    pub(crate) fn visitor_with(&self, name: &str, further: &str) -> Result<Visitor> {
        let jwt = self.network.cli().create_edge_router(name)?;
        let listed = self.network.cli().edge_router(name)?;
        let id = listed["id"].as_str().ok_or_else(|| anyhow!("no id in {listed}"))?;
        let folder = self.bench.scratch.join(name);
        let files = ZitiRouter::edge(&self.bench.ziti, &folder, name, self.network.ctrl_port())?;
        self.of_files(files, id, &jwt, further)
    }

    /// Ours on these files.
    pub(crate) fn of_files(&self, files: ZitiRouter, id: &str, jwt: &Path, further: &str) -> Result<Visitor> {
        if !further.is_empty() {
            let text = std::fs::read_to_string(files.config())?;
            std::fs::write(files.config(), format!("{text}\n{further}"))?;
        }
        let router = Router::of_file(&self.bench.exuvia, files.config(), files.folder(), files.name(), id, jwt)?;
        let new_way = || Way::of_messages(id, StateFolder(router.state()));
        let ways = self.gates.iter().map(|gate| gate.proxy.add(new_way())).collect();
        Ok(Visitor { router, files, ways })
    }

    /// A Go router's files, enrolled by the Go router, and ways that know its key.
    pub(crate) fn stock(&self, name: &str) -> Result<Visitor> {
        let jwt = self.network.cli().create_edge_router(name)?;
        let files = ZitiRouter::edge(&self.bench.ziti, &self.bench.scratch.join(name), name, self.network.ctrl_port())?;
        files.enroll(&jwt)?.ok()?;
        let id = files.id()?;
        let router = Router::of_file(&self.bench.exuvia, files.config(), files.folder(), name, &id, &jwt)?;
        let new_way = || Way::of_messages(&*id, KeyFile(files.key()));
        let ways = self.gates.iter().map(|gate| gate.proxy.add(new_way())).collect();
        Ok(Visitor { router, files, ways })
    }

    /// The same, enrolled by ours, running and admitted.
    pub(crate) fn online(&self, name: &str, further: &str) -> Result<(Visitor, Running)> {
        let visitor = self.visitor_with(name, further)?;
        visitor.router.enroll()?.ok()?;
        let running = visitor.start()?;
        running.until_online()?;
        self.network.cli().until_online(name, true)?;
        Ok((visitor, running))
    }
}

impl Visitor {
    /// Starts ours, waits for nothing.
    pub(crate) fn start(&self) -> Result<Running> {
        self.router.start_by(self)
    }

    /// The client chain of one of its generations.
    pub(crate) fn chain(&self, generation: u64) -> Result<Chain> {
        let path = self.router.generation(generation).join("client.pem");
        let text = std::fs::read(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
        Ok(Chain::from_pem(&text)?)
    }

    /// kill -9 for ours, and of everything that was on its way.
    pub(crate) fn kill(&self, running: Running) -> Log {
        let log = running.kill();
        for way in &self.ways {
            way.pass();
            way.sever();
        }
        log
    }

    /// Its way to the first controller.
    pub(crate) fn way(&self) -> Result<&Way> {
        self.ways.first().map(Arc::as_ref).context("no proxy stands here")
    }
}

/// Tells the ways which process it is.
impl Starter for Visitor {
    fn start(&self, command: std::process::Command) -> std::io::Result<Started> {
        let started = Direct.start(command)?;
        for way in &self.ways {
            way.set_process(u32::try_from(started.pid.as_raw()).unwrap_or(0));
        }
        Ok(started)
    }
}

/// Asks again and again, for what nobody tells.
pub(crate) fn until<T>(what: &str, within: Duration, mut wanted: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + within;
    loop {
        if let Some(found) = wanted()? {
            return Ok(found);
        }
        if Instant::now() > deadline {
            bail!("{what} did not come within {} s", within.as_secs());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}
