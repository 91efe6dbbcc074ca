//! A controller and a router, each with a wall clock of its own.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use nix::sys::signal::Signal;
use rig::{Controller, ControllerSettings, Exuvia, Router, RouterSettings, Running, Verdict};

/// What every report of a lost identity says.
pub(super) const LOCKED_OUT: &str = "locked out";

/// Pauses of a router here: short enough to be waited for, long enough that spinning would show.
const SPACING_MS: u64 = 1_000;
const BACKOFF_MS: u64 = 500;
/// How long it is watched whether something spins.
const WATCHED: Duration = Duration::from_secs(3);
/// A router that could not connect tries again after 2 s at most; then it needs some round trips.
const RECOVERS_WITHIN: Duration = Duration::from_secs(20);

pub(super) const MINUTE: i64 = 60;
pub(super) const DAY: i64 = 86_400;
pub(super) const YEAR: i64 = 365 * DAY;

/// Starts a program through this so that its uptime is so many seconds ahead; it dies with this process.
pub(super) fn with_uptime(ahead_s: u64) -> Vec<String> {
    let ahead = ahead_s.to_string();
    ["unshare", "-T", "--boottime", &ahead, "--monotonic", &ahead, "setpriv", "--pdeathsig", "KILL"]
        .map(str::to_owned)
        .into()
}

pub(super) fn can_shift_uptime() -> bool {
    let prefix = with_uptime(1_000);
    let Some((first, rest)) = prefix.split_first() else { return false };
    let ran = Command::new(first).args(rest).arg("true").stdout(Stdio::null()).stderr(Stdio::null()).status();
    ran.is_ok_and(|status| status.success())
}

/// The wall clock of one program: the machine's, moved.
#[derive(Clone, Debug)]
pub(super) struct Wall(PathBuf);

impl Wall {
    fn new(path: PathBuf) -> Result<Self> {
        let wall = Self(path);
        wall.ahead(0)?;
        Ok(wall)
    }

    /// From now on it is so many seconds ahead of the machine's.
    pub(super) fn ahead(&self, seconds: i64) -> Result<()> {
        // Replaced whole: the program reads it at every look at its clock.
        let new = self.0.with_extension("new");
        fs::write(&new, format!("{seconds:+}\n"))?;
        fs::rename(&new, &self.0)?;
        Ok(())
    }

    fn of(&self, exuvia: &Exuvia, library: &Path) -> Exuvia {
        exuvia
            .clone()
            .with_env("LD_PRELOAD", library)
            .with_env("FAKETIME_TIMESTAMP_FILE", &self.0)
            .with_env("FAKETIME_NO_CACHE", "1")
            .with_env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .with_env("DONT_FAKE_MONOTONIC", "1")
    }
}

/// A controller and a router.
pub(super) struct Site {
    pub(super) controller: Controller,
    pub(super) router: Router,
    pub(super) controllers_clock: Wall,
    pub(super) routers_clock: Wall,
    routers_exuvia: Exuvia,
}

impl Site {
    pub(super) fn new(exuvia: &Exuvia, library: &Path, home: &Path, leaf_life: Option<&str>) -> Result<Self> {
        fs::create_dir_all(home)?;
        let controllers_clock = Wall::new(home.join("controllers-clock"))?;
        let routers_clock = Wall::new(home.join("routers-clock"))?;
        // Older than any small difference of clocks: by a clock that is 2 minutes behind, a certificate of this minute is not valid yet.
        controllers_clock.ahead(-15 * MINUTE)?;
        let settings = ControllerSettings { leaf_life: leaf_life.map(str::to_owned), ..ControllerSettings::default() };
        let mut controller = Controller::start(&controllers_clock.of(exuvia, library), home, settings)?;
        controllers_clock.ahead(0)?;
        let routers_exuvia = routers_clock.of(exuvia, library);
        controller.start_routers_as(routers_exuvia.clone());
        let router = controller.created("edge", &home.join("edge"), &RouterSettings::default())?;
        let config = fs::read_to_string(router.config())?;
        let patient = config
            .replace("spacing: 0", &format!("spacing: {SPACING_MS}ms"))
            .replace("backoffMin: 20ms", &format!("backoffMin: {BACKOFF_MS}ms"))
            .replace("backoffMax: 200ms", "backoffMax: 2s")
            .replace("\nctrl:\n", "\nctrl:\n  heartbeats: {sendInterval: 1s, closeUnresponsiveTimeout: 3s}\n");
        ensure!(patient.contains("spacing: 1000ms"), "the configuration has no spacing:\n{config}");
        fs::write(router.config(), patient)?;
        router.enroll()?.ok()?;
        Ok(Self { controller, router, controllers_clock, routers_clock, routers_exuvia })
    }

    /// Starts the router with an uptime that is so many seconds ahead.
    pub(super) fn start_with_uptime(&self, ahead_s: u64) -> Result<Running> {
        self.router.started_as(self.routers_exuvia.clone().through(with_uptime(ahead_s))).start()
    }

    /// What is on the disk, to be compared later.
    pub(super) fn remember(&self) -> Result<Kept> {
        let mut files = BTreeMap::new();
        for entry in fs::read_dir(self.router.state().join("generations"))? {
            for file in fs::read_dir(entry?.path())? {
                let path = file?.path();
                files.insert(path.clone(), fs::read(&path)?);
            }
        }
        ensure!(!files.is_empty(), "there is no generation");
        Ok(Kept(files))
    }

    /// Waits until it is online, in this very process.
    pub(super) fn comes_online(&self, running: &Running, since: rig::Mark) -> Result<u64> {
        let connected = running.log().event(since, RECOVERS_WITHIN, &["connected"]);
        let line = connected.ok_or_else(|| anyhow!("{LOCKED_OUT}: not online again:\n{}", tail(running)))?;
        line.generation().context("no generation in `connected`")
    }

    /// Orders renewals until one succeeds.
    pub(super) fn renews(&self, running: &Running) -> Result<u64> {
        let deadline = Instant::now() + RECOVERS_WITHIN;
        loop {
            let mark = running.log().mark();
            running.order_renewal()?;
            if let Some(line) = running.log().event(mark, Duration::from_millis(1_200), &["promoted"]) {
                return line.generation().context("no generation in `promoted`");
            }
            ensure!(Instant::now() < deadline, "does not renew although the clocks agree:\n{}", tail(running));
        }
    }

    /// Started anew it must come online.
    pub(super) fn comes_back(&self) -> Result<Running> {
        let (judged, running) = self.router.judge_and_keep(&rig::Direct, false);
        running.ok_or_else(|| anyhow!("{LOCKED_OUT}: {}", judged.brief()))
    }

    /// Kills it; started anew it must come online and renew.
    pub(super) fn survives_a_kill(&self, running: Running) -> Result<()> {
        let panic = running.log().panic();
        drop(running.kill());
        if let Some(line) = panic {
            bail!("panicked: {line}");
        }
        let judged = self.router.judge();
        match judged.verdict {
            Verdict::Usable { .. } => Ok(()),
            Verdict::NotRenewing { .. } => bail!("{}", judged.brief()),
            _ => bail!("{LOCKED_OUT}: {}", judged.brief()),
        }
    }
}

/// The end of what a router said.
pub(super) fn tail(running: &Running) -> String {
    let text = running.log().text();
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(10)..).unwrap_or_default().join("\n")
}

/// Watches a router for a while: it lives, and tries nothing more often than its settings allow.
pub(super) fn is_calm(running: &Running) -> Result<()> {
    let mark = running.log().mark();
    let ended = running.process().wait(WATCHED);
    ensure!(ended.is_none(), "ended by itself:\n{}", tail(running));
    let lines = running.log().since(mark);
    let count = |names: &[&str]| lines.iter().filter(|line| names.contains(&line.event())).count();
    let watched_ms = u64::try_from(WATCHED.as_millis()).unwrap_or(u64::MAX);
    let most = |pause_ms: u64| usize::try_from(watched_ms / pause_ms + 2).unwrap_or(usize::MAX);
    for (names, most) in [
        (&["attempt_began"][..], most(SPACING_MS)),
        (&["requested"], most(BACKOFF_MS)),
        (&["refused", "attempt_failed"], 2 * most(BACKOFF_MS)),
    ] {
        let found = count(names);
        ensure!(found <= most, "spins: {found} × {names:?} within {} s, at most {most} are due", WATCHED.as_secs());
    }
    // Ten lines a second is more than any of the above needs, whatever the lines say.
    ensure!(lines.len() < 60, "says {} lines within {} s:\n{}", lines.len(), WATCHED.as_secs(), tail(running));
    Ok(())
}

/// What was on the disk.
pub(super) struct Kept(BTreeMap<PathBuf, Vec<u8>>);

impl Kept {
    /// It is all there, byte for byte.
    pub(super) fn is_there(&self) -> Result<()> {
        for (path, bytes) in &self.0 {
            let now = fs::read(path).with_context(|| format!("`{}` was erased", path.display()))?;
            ensure!(now == *bytes, "`{}` was changed", path.display());
        }
        Ok(())
    }
}

/// Stops a process, lets something happen, and lets it go on.
pub(super) fn asleep(running: &Running, meanwhile: impl FnOnce() -> Result<()>) -> Result<()> {
    running.process().signal(Signal::SIGSTOP);
    let happened = meanwhile();
    running.process().signal(Signal::SIGCONT);
    happened
}
