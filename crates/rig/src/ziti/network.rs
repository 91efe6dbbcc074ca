//! A stock network: one controller, or a cluster.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};

use super::{Ziti, ZitiCli, ZitiNode, keys};
use crate::PATIENCE;

const ADMIN: &str = "admin";
const PASSWORD: &str = "correct-horse-battery";

/// How a stock network is set up.
#[derive(Clone, Debug)]
pub struct ZitiSettings {
    /// How many controllers.
    pub nodes: usize,
    /// Do they announce another port than they listen on, so that a proxy can stand between?
    pub is_behind_proxy: bool,
    /// Further sections of `controller.yml`, such as `network:`.
    pub further: String,
}

impl Default for ZitiSettings {
    fn default() -> Self {
        Self { nodes: 1, is_behind_proxy: false, further: String::new() }
    }
}

/// Controllers that are one network, with an administrator. They are killed when this is dropped.
#[derive(Debug)]
pub struct ZitiNetwork {
    nodes: Vec<ZitiNode>,
    clis: Vec<ZitiCli>,
    home: PathBuf,
}

impl ZitiNetwork {
    /// Makes it in this folder, starts every controller, and joins them.
    ///
    /// # Errors
    /// When that does not come about.
    pub fn start(ziti: &Ziti, home: &Path, settings: ZitiSettings) -> Result<Self> {
        let network = Self::laid_down(ziti, home, settings)?;
        network.assemble(|_| ())?;
        Ok(network)
    }

    /// The same, but nothing runs yet: for whoever has to stand between the controllers first. Then comes [`ZitiNetwork::assemble`].
    ///
    /// # Errors
    /// When the folder cannot be filled.
    pub fn laid_down(ziti: &Ziti, home: &Path, settings: ZitiSettings) -> Result<Self> {
        let home = std::path::absolute(home)?;
        let root = keys::root()?;
        let (mut nodes, mut clis) = (Vec::new(), Vec::new());
        for number in 1..=settings.nodes.max(1) {
            let id = format!("ctrl{number}");
            let folder = home.join(&id);
            let node = ZitiNode::new(ziti, &id, folder.clone(), settings.is_behind_proxy, &settings.further)?;
            keys::lay_down(&root, &id, &folder.join("pki"))?;
            clis.push(ZitiCli::new(ziti, &home.join(format!("cli{number}")), node.api_port(), ADMIN, PASSWORD));
            nodes.push(node);
        }
        Ok(Self { nodes, clis, home })
    }

    /// Starts every controller for the first time, and joins them. `started` is told of each before it joins.
    ///
    /// # Errors
    /// When that does not come about.
    pub fn assemble(&self, started: impl Fn(&ZitiNode)) -> Result<()> {
        let (first, others) = self.nodes.split_first().ok_or_else(|| anyhow!("no controller"))?;
        first.run()?;
        started(first);
        self.again("initialize the cluster", || {
            let ran = first.agent(&["cluster", "init", ADMIN, PASSWORD, ADMIN])?.ok()?;
            // It says so, and ends with 0.
            if ran.stdout.contains("error") { bail!("{}", ran.stdout) } else { Ok(()) }
        })?;
        for node in others {
            node.run()?;
            started(node);
            let address = format!("tls:localhost:{}", first.ctrl_port());
            self.again("join the cluster", || {
                let ran = node.agent(&["cluster", "add", &address])?.ok()?;
                if ran.stdout.contains("error") { bail!("{}", ran.stdout) } else { Ok(()) }
            })?;
        }
        self.again("log in", || self.clis.iter().try_for_each(|cli| cli.login()?.ok().map(drop)))
    }

    /// What a controller refuses while it still elects a leader.
    fn again(&self, what: &'static str, act: impl Fn() -> Result<()>) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match act() {
                Ok(()) => return Ok(()),
                Err(error) if Instant::now() > deadline => return Err(error).context(what),
                Err(_) => std::thread::sleep(Duration::from_millis(300)),
            }
        }
    }

    /// Its controllers, in the order in which they were made.
    pub fn nodes(&self) -> &[ZitiNode] {
        &self.nodes
    }

    /// The first controller. There always is one.
    #[allow(clippy::indexing_slicing, reason = "`laid_down` makes one at least")]
    pub fn node(&self) -> &ZitiNode {
        &self.nodes[0]
    }

    /// The command line, logged in to the first controller.
    #[allow(clippy::indexing_slicing, reason = "`laid_down` makes one at least")]
    pub fn cli(&self) -> &ZitiCli {
        &self.clis[0]
    }

    /// The command line of each controller, in the same order.
    pub fn clis(&self) -> &[ZitiCli] {
        &self.clis
    }

    /// The port that the first controller announces.
    pub fn ctrl_port(&self) -> u16 {
        self.node().ctrl_port()
    }

    /// Password of the administrator `admin`.
    pub fn password(&self) -> &str {
        PASSWORD
    }

    /// Its folder.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// Which controller leads, as the running ones say; `None` while none does.
    pub fn leader(&self) -> Option<&ZitiNode> {
        self.nodes.iter().filter(|node| node.pid().is_some()).find_map(|asked| {
            let listed = asked.agent(&["cluster", "list"]).ok()?;
            // │ ctrl1 │ tls:localhost:6262 │ true │ true │ v2.1.0 │ true │
            let leads = listed.stdout.lines().find_map(|line| {
                let mut cells = line.split(['│', '|']).map(str::trim).filter(|cell| !cell.is_empty());
                let id = cells.next()?;
                (cells.nth(2)? == "true").then(|| id.to_owned())
            })?;
            self.nodes.iter().find(|node| node.id() == leads)
        })
    }

    /// Waits until one of these leads.
    ///
    /// # Errors
    /// When that does not come.
    pub fn until_leader(&self, wanted: impl Fn(&ZitiNode) -> bool) -> Result<&ZitiNode> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.leader() {
                Some(node) if wanted(node) => return Ok(node),
                other if Instant::now() > deadline => bail!("no other leader than {:?}", other.map(ZitiNode::id)),
                _ => std::thread::sleep(Duration::from_millis(200)),
            }
        }
    }
}
