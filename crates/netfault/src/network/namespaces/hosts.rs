//! Two network namespaces and the cable between them.

use std::fs::{self, File};
use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use evidence::Skip;
use nix::sched::{CloneFlags, setns};

/// Of all names made here; behind it come a process id, a number, and `r` or `c`.
const PREFIX: &str = "exuvia-net";
const FOLDER: &str = "/run/netns";
const ROUTER: &str = "10.99.0.1";
const CONTROLLER: &str = "10.99.0.2";

/// What is missing for namespaces.
pub(super) fn probe() -> Vec<Skip> {
    let mut missing = Vec::new();
    let what = "network faults between two network stacks";
    if !nix::unistd::geteuid().is_root() {
        missing.push(Skip { what: what.to_owned(), why: "namespaces with devices need root".to_owned() });
        return missing;
    }
    for (tool, package, args) in [
        ("ip", "iproute2", ["-V"]),
        ("tc", "iproute2", ["-V"]),
        ("ss", "iproute2", ["-V"]),
        ("nft", "nftables", ["-v"]),
        ("nsenter", "util-linux", ["-V"]),
        ("setpriv", "util-linux", ["-V"]),
    ] {
        let ran = Command::new(tool).args(args).stdout(Stdio::null()).stderr(Stdio::null()).status();
        if !ran.is_ok_and(|status| status.success()) {
            missing.push(Skip { what: what.to_owned(), why: format!("`{tool}` is missing: install {package}") });
        }
    }
    if missing.is_empty()
        && let Err(error) = Hosts::new(usize::from(u16::MAX)).and_then(|hosts| hosts.filters())
    {
        missing.push(Skip { what: what.to_owned(), why: format!("this kernel does not allow it: {error:#}") });
    }
    missing
}

/// Deletes what processes that are gone have left.
pub(super) fn sweep() {
    let Ok(entries) = fs::read_dir(FOLDER) else { return };
    for name in entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').nth(1)).map(str::to_owned);
        if owner.is_some_and(|pid| !fs::exists(format!("/proc/{pid}")).unwrap_or(true)) {
            let _ = run(Command::new("ip").args(["netns", "del", &name]), None);
        }
    }
}

/// Two hosts. They are gone when this is dropped, and with them whatever was put on them.
#[derive(Debug)]
pub(super) struct Hosts {
    router: String,
    controller: String,
}

impl Hosts {
    pub(super) fn new(number: usize) -> Result<Self> {
        let name = |side: &str| format!("{PREFIX}-{}-{number}-{side}", std::process::id());
        // From here on dropping it cleans up, however far this gets.
        let hosts = Self { router: name("r"), controller: name("c") };
        let (a, b) = (hosts.router.as_str(), hosts.controller.as_str());
        for args in [
            vec!["netns", "add", a],
            vec!["netns", "add", b],
            vec!["link", "add", "va", "netns", a, "type", "veth", "peer", "name", "vb", "netns", b],
            vec!["-n", a, "addr", "add", "10.99.0.1/24", "dev", "va"],
            vec!["-n", b, "addr", "add", "10.99.0.2/24", "dev", "vb"],
            vec!["-n", a, "link", "set", "lo", "up"],
            vec!["-n", b, "link", "set", "lo", "up"],
            vec!["-n", a, "link", "set", "va", "up"],
            vec!["-n", b, "link", "set", "vb", "up"],
        ] {
            run(Command::new("ip").args(args), None)?;
        }
        Ok(hosts)
    }

    pub(super) fn router_address(&self) -> &'static str {
        ROUTER
    }

    pub(super) fn controller_address(&self) -> &'static str {
        CONTROLLER
    }

    /// What to start a program through so that it runs where the router is, and no longer than this process.
    pub(super) fn in_the_routers(&self) -> Vec<String> {
        through(&self.router)
    }

    pub(super) fn in_the_controllers(&self) -> Vec<String> {
        through(&self.controller)
    }

    /// From here on this thread, and every thread that it makes, is where the controller is.
    pub(super) fn enter_the_controllers(&self) -> Result<()> {
        enter(&self.controller)
    }

    /// The same for the router's side.
    pub(super) fn enter_the_routers(&self) -> Result<()> {
        enter(&self.router)
    }

    /// Runs a command on the router's side.
    pub(super) fn on_the_routers(&self, command: &[&str], input: Option<&str>) -> Result<String> {
        on(&self.router, command, input)
    }

    /// Runs a command on the controller's side.
    pub(super) fn on_the_controllers(&self, command: &[&str], input: Option<&str>) -> Result<String> {
        on(&self.controller, command, input)
    }

    /// Runs `ip` on the router's side.
    pub(super) fn ip(&self, args: &[&str]) -> Result<String> {
        run(Command::new("ip").args(["-n", &self.router]).args(args), None)
    }

    fn filters(&self) -> Result<()> {
        let script = "table inet probe {\n chain c {\n  type filter hook input priority 0;\n  counter drop\n }\n}\n";
        self.on_the_routers(&["nft", "-f", "-"], Some(script)).map(drop)
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for name in [&self.router, &self.controller] {
            let _ = run(Command::new("ip").args(["netns", "del", name]), None);
        }
    }
}

fn through(name: &str) -> Vec<String> {
    // nsenter and setpriv execute the next one: the process that was started is the program itself in the end.
    ["nsenter", &format!("--net={FOLDER}/{name}"), "setpriv", "--pdeathsig", "KILL"].map(str::to_owned).into()
}

fn enter(name: &str) -> Result<()> {
    let path = format!("{FOLDER}/{name}");
    let namespace = File::open(&path).with_context(|| format!("cannot open `{path}`"))?;
    setns(namespace, CloneFlags::CLONE_NEWNET).with_context(|| format!("cannot enter `{path}`"))
}

fn on(name: &str, command: &[&str], input: Option<&str>) -> Result<String> {
    run(Command::new("nsenter").arg(format!("--net={FOLDER}/{name}")).args(command), input)
}

fn run(command: &mut Command, input: Option<&str>) -> Result<String> {
    let mut child = command
        .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {command:?}"))?;
    if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
        stdin.write_all(input.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
