//! What both programs cost, measured in one run, one beside the other.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use netfault::proxy::{Level, Message};
use nix::unistd::Pid;
use rig::{Direct, Process};

use crate::pairing::Kind;
use crate::place;
use crate::record::{Figure, Figures};
use crate::site::{Programs, Site};
use crate::subject::{SPACING, Subject, Wanted};

const SETTLES: Duration = Duration::from_secs(60);
const RESTS: Duration = Duration::from_secs(60);
const ROUNDS: usize = 5;
const RENEWALS: usize = 3;
/// Who has presented a new leaf does not know yet that it was admitted with it. Until then it begins no further renewal, and a start finishes the
/// one that it finds.
const ENDS: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(60);

/// Two controllers, each with a router of each kind.
struct Bench {
    site: Arc<Site>,
    stock: Subject,
    exuvia: Subject,
}

impl Bench {
    fn new(programs: &Programs, kind: Kind, home: &Path) -> Result<Self> {
        let site = Arc::new(Site::open(programs, kind, home, false)?);
        let wanted = Wanted { place: place::Kind::Folder, level: Level::Messages, is_due: false };
        let stock = Subject::enrolled(&site, Kind::Stock, "s", wanted)?;
        let exuvia = Subject::enrolled(&site, Kind::Exuvia, "x", wanted)?;
        Ok(Self { site, stock, exuvia })
    }

    fn both<T>(&self, mut ask: impl FnMut(&Subject) -> Result<T>) -> Result<(T, T)> {
        Ok((ask(&self.stock)?, ask(&self.exuvia)?))
    }

    fn start(&self, subject: &Subject, flags: &[&str]) -> Result<Process> {
        Process::start(&Direct, subject.command(&self.site, flags)?)
    }

    /// From the start to the Result of its hello, in seconds; and the process.
    fn admitted(&self, subject: &Subject, flags: &[&str]) -> Result<(f64, Process)> {
        subject.way.arm([]);
        let began = Instant::now();
        let process = self.start(subject, flags)?;
        until("the router is admitted", || subject.way.seen().contains_key(&Message::HelloResult))?;
        Ok((began.elapsed().as_secs_f64(), process))
    }

    /// From a command to the first handshake with a new leaf, in seconds.
    fn renewed(&self, subject: &Subject, command: impl FnOnce() -> Result<()>) -> Result<f64> {
        subject.begin_here();
        let began = Instant::now();
        command()?;
        until("a new leaf is presented", || subject.first_presented().is_some())?;
        let presented = subject.first_presented().context("not presented")?;
        // It is used once the controller lists it.
        until("the new leaf is listed", || {
            self.site.listed(&subject.id).is_ok_and(|listed| subject.has_renewed(&listed.admitted))
        })?;
        Ok(presented.saturating_duration_since(began).as_secs_f64())
    }
}

/// Measures everything; takes about five minutes.
///
/// # Errors
/// When something does not start or does not renew.
pub(crate) fn measure(programs: &Programs, home: &Path) -> Result<Figures> {
    let mut figures = Figures { machine: machine(), at: net::clock::wall_ms() / 1000, rows: Vec::new() };
    let mut row = |what: &str, unit: &str, (stock, exuvia): (f64, f64), how: &str| {
        eprintln!("     {what}: {stock:.2} against {exuvia:.2} {unit}");
        figures.rows.push(Figure { what: what.to_owned(), unit: unit.to_owned(), stock, exuvia, how: how.to_owned() });
    };
    let size = |path: &Path| anyhow::Ok(fs::metadata(path)?.len() as f64 / f64::from(1 << 20));
    let sizes = (size(programs.ziti.path())?, size(programs.exuvia.path())?);
    row("program file", "MiB", sizes, "as given; each one holds router, controller and tools");

    let stock_site = Bench::new(programs, Kind::Stock, &home.join("s"))?;
    let our_site = Bench::new(programs, Kind::Exuvia, &home.join("x"))?;
    let mut starts = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (stock, exuvia) = stock_site.both(|subject| {
            let (took, process) = stock_site.admitted(subject, &[])?;
            process.kill();
            until("it is offline", || stock_site.site.listed(&subject.id).is_ok_and(|listed| !listed.is_online))?;
            Ok(took * 1_000.0)
        })?;
        starts.0.push(stock);
        starts.1.push(exuvia);
    }
    let how = "on the stock controller, from the start of the process to the Result of its hello, median of 5";
    row("router: start to admitted", "ms", (median(&mut starts.0), median(&mut starts.1)), how);

    let (_, on_stock) = stock_site.admitted(&stock_site.stock, &[])?;
    let (_, beside) = stock_site.admitted(&stock_site.exuvia, &[])?;
    let (_, on_ours) = our_site.admitted(&our_site.stock, &[])?;
    let (_, ours) = our_site.admitted(&our_site.exuvia, &[])?;
    std::thread::sleep(SETTLES);
    let controllers = (stock_site.site.pid()?, our_site.site.pid()?);
    let routers = (on_stock.pid(), beside.pid());
    let memory = |(stock, exuvia): (Pid, Pid)| anyhow::Ok((resident_mib(stock)?, resident_mib(exuvia)?));
    let how = "VmRSS 60 s after it was admitted, on the stock controller";
    row("router: resident memory", "MiB", memory(routers)?, how);
    let how = "VmRSS, with one router of each kind connected for 60 s";
    row("controller: resident memory", "MiB", memory(controllers)?, how);
    let before = [routers.0, routers.1, controllers.0, controllers.1].map(processor_ms);
    std::thread::sleep(RESTS);
    let after = [routers.0, routers.1, controllers.0, controllers.1].map(processor_ms);
    let mut used = before.into_iter().zip(after).map(|(before, after)| anyhow::Ok(after? - before?));
    let mut pair =
        || -> Result<(f64, f64)> { Ok((used.next().context("no figure")??, used.next().context("no figure")??)) };
    let how = "processor time in the minute after that, all threads (`/proc/PID/task/*/schedstat`)";
    row("router: processor time at rest", "ms per minute", pair()?, how);
    row("controller: processor time at rest", "ms per minute", pair()?, how);
    drop((on_stock, beside, on_ours, ours));

    match renewals(programs, &stock_site) {
        Ok(renewals) => {
            let how = "on the stock controller, from the start with `--extend` to the first handshake that presents the new leaf, median of 3";
            row("renewal: start with `--extend` to admitted new leaf", "s", renewals.at_start, how);
            let how = "`exuvia router renew` on a running router; OpenZiti has no such command, so its restart with `--extend` stands beside";
            row("renewal: command to admitted new leaf", "s", (renewals.at_start.0, renewals.by_command), how);
        }
        // The other figures stand.
        Err(error) => eprintln!("renewals could not be measured: {error:#}"),
    }
    Ok(figures)
}

/// Seconds of renewals.
struct Renewals {
    /// From the start, theirs and ours.
    at_start: (f64, f64),
    /// From the command, ours.
    by_command: f64,
}

fn renewals(programs: &Programs, bench: &Bench) -> Result<Renewals> {
    let (mut stock, mut exuvia, mut commands) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..RENEWALS {
        let process = std::cell::RefCell::new(None);
        let start = |subject| {
            *process.borrow_mut() = Some(bench.start(subject, &["--extend"])?);
            Ok(())
        };
        stock.push(bench.renewed(&bench.stock, || start(&bench.stock)).context("stock, `--extend`")?);
        exuvia.push(bench.renewed(&bench.exuvia, || start(&bench.exuvia)).context("Exuvia, `--extend`")?);
        std::thread::sleep(ENDS);
        let by_command = bench.renewed(&bench.exuvia, || {
            let mut command = programs.exuvia.command(bench.exuvia.home(), ["router", "renew"]);
            command.arg(bench.exuvia.config()).arg("--no-wait");
            rig::Ran::of(&Direct, command)?.ok().map(drop)
        });
        commands.push(by_command.context("Exuvia, `renew`")?);
        std::thread::sleep(ENDS);
        drop(process);
        std::thread::sleep(SPACING);
    }
    Ok(Renewals { at_start: (median(&mut stock), median(&mut exuvia)), by_command: median(&mut commands) })
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        ensure!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

fn resident_mib(pid: Pid) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib / 1024.0)
}

fn processor_ms(pid: Pid) -> Result<f64> {
    let mut ns = 0.0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may end meanwhile.
        let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
        ns += text.split_whitespace().next().unwrap_or("0").parse::<f64>()?;
    }
    Ok(ns / 1e6)
}

fn machine() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split_whitespace().next().unwrap_or("?").to_owned();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{cores} cores (x86-64), Linux, load average {load} at the beginning")
}
