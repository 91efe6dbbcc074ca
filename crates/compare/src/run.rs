//! All faults, in all pairings, beside one another.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use diskfault::storage::Sandbox;
use diskfault::trace::{Counted, Fault as Harm, Tracer};
use rig::{Exuvia, Ziti};

use crate::fault::{Fault, When};
use crate::keeper::Keeper;
use crate::pairing::{Kind, Pairing};
use crate::record::{self, Record, Verdict};
use crate::site::{Programs, Site};
use crate::subject::{Subject, Wanted};
use crate::trial::{Outcome, Scene};
use crate::{Order, figures, page, place};

/// Where everything lies while it runs: in memory, so that no disk of the machine is filled or slowed down.
const MEMORY: &str = "6g";
/// Routers that are enrolled at the same time.
const ENROLLING: usize = 3;

/// Runs what is ordered, and writes the page.
///
/// # Errors
/// When there is nothing to run it with, or something cannot be started.
pub(crate) fn run(order: &Order) -> Result<()> {
    let ziti = Ziti::from_environment()?.into_iter().next();
    let Some(ziti) = ziti else {
        bail!(
            "nothing was compared: no OpenZiti program is named\nhint: build or download `ziti` outside of this repository, and set {}=/path/to/ziti",
            rig::ZITI_BIN
        );
    };
    let lacks = lacks();
    if !lacks.is_empty() {
        bail!("nothing was compared: {}\nhint: run it as root on x86-64 Linux, with these installed", lacks.join(", "));
    }
    std::fs::create_dir_all(&order.page.records)?;
    let records = order.page.records.canonicalize()?;
    let programs = Programs { ziti, exuvia: Exuvia::new(&order.exuvia) };
    if !programs.exuvia.path().exists() {
        bail!("`{}` does not exist\nhint: cargo build --release", programs.exuvia.path().display());
    }
    let scratch = tempfile::Builder::new().prefix("c").tempdir()?;
    let sandbox = Sandbox::enter(scratch.path(), MEMORY)?;
    let chosen = chosen(order);
    let wants_figures = order.only.is_empty() || order.only.iter().any(|only| only == "figures");
    if wants_figures {
        // Alone, while nothing else runs here.
        match figures::measure(&programs, &sandbox.root().join("f")) {
            Ok(figures) => record::write(&records.join("figures.json"), &figures)?,
            Err(error) => eprintln!("the figures could not be measured: {error:#}"),
        }
    }
    if !chosen.is_empty() {
        compare(&programs, sandbox.root(), &records, &chosen, order.at_once.max(1))?;
    }
    page::write(&order.page)
}

fn lacks() -> Vec<String> {
    let mut lacks = Vec::new();
    if !cfg!(target_arch = "x86_64") {
        lacks.push("the tracer and the clock know x86-64 only".to_owned());
    }
    if !nix::unistd::geteuid().is_root() {
        lacks.push("mounts and clocks need root".to_owned());
    }
    let tools = ["chattr", "losetup", "mkfs.ext4", "mkfs.xfs", "setpriv", "xfs_io"];
    lacks.extend(tools.iter().filter(|tool| !place::has(tool)).map(|tool| format!("`{tool}` is missing")));
    lacks
}

/// Pairs of what is tried, in the order in which it is begun: what waits longest first.
fn chosen(order: &Order) -> Vec<(Pairing, Fault)> {
    let is_wanted = |fault: &Fault| order.only.is_empty() || order.only.iter().any(|only| fault.id == only);
    let pairings = || {
        Pairing::ALL.into_iter().filter(|pairing| order.pairings.is_empty() || order.pairings.contains(&pairing.id()))
    };
    let mut chosen: Vec<(Pairing, Fault)> = crate::faults::all()
        .into_iter()
        .filter(is_wanted)
        .flat_map(|fault| pairings().map(move |pairing| (pairing, fault.clone())))
        .filter(|(pairing, fault)| (fault.left_out)(*pairing).is_none())
        .collect();
    chosen.sort_by_key(|(pairing, fault)| {
        (pairing.router == Kind::Exuvia, !fault.is_alone, pairing.controller == Kind::Exuvia)
    });
    chosen
}

/// The controllers that many routers share, and the routers that were enrolled early.
struct Shared {
    sites: BTreeMap<Pairing, Arc<Site>>,
    early: Mutex<HashMap<&'static str, Arc<Subject>>>,
    /// Changes to the files of an identity that a start with a renewal makes, by pairing.
    changes: Mutex<BTreeMap<Pairing, usize>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn compare(
    programs: &Programs,
    root: &Path,
    records: &Path,
    chosen: &[(Pairing, Fault)],
    at_once: usize,
) -> Result<()> {
    let began = Instant::now();
    let shared = prepare(programs, root, chosen)?;
    eprintln!("{} trials; controllers and routers stand after {} s", chosen.len(), began.elapsed().as_secs());
    let next = AtomicUsize::new(0);
    let done = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..at_once.min(chosen.len()) {
            scope.spawn(|| {
                while let Some((pairing, fault)) = chosen.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let began = Instant::now();
                    let outcome = try_it(programs, root, &shared, *pairing, fault);
                    let record = recorded(*pairing, fault, outcome, began.elapsed(), programs.ziti.label());
                    let path = record_path(records, *pairing, fault.id);
                    if let Err(error) = record::write(&path, &record) {
                        eprintln!("{}: {error:#}", path.display());
                    }
                    let number = done.fetch_add(1, Ordering::Relaxed) + 1;
                    eprintln!("{number:>4}/{} {}", chosen.len(), told(&record));
                }
            });
        }
    });
    eprintln!("all trials took {} s", began.elapsed().as_secs());
    Ok(())
}

/// One line for whoever watches.
fn told(record: &Record) -> String {
    let seconds = record.seconds.map(|seconds| format!(" after {seconds:.1} s")).unwrap_or_default();
    let why = if record.why.is_empty() { String::new() } else { format!(": {}", record.why) };
    let name = format!("{} {}", record.pairing.id(), record.fault);
    format!("{name:<24} {:>4.0} s  {}{seconds}{why}", record.took_s, record.verdict.words())
}

/// The file of one record.
pub(crate) fn record_path(records: &Path, pairing: Pairing, fault: &str) -> PathBuf {
    records.join(format!("{fault}.{}.json", pairing.id()))
}

fn recorded(pairing: Pairing, fault: &Fault, outcome: Result<Outcome>, took: Duration, ziti: &str) -> Record {
    let outcome = outcome.unwrap_or_else(|error| Outcome {
        verdict: Verdict::NotTried,
        after: None,
        why: format!("{error:#}"),
        is_mended_by_restart: None,
        starts: 0,
        said: String::new(),
    });
    Record {
        fault: fault.id.to_owned(),
        pairing,
        verdict: outcome.verdict,
        seconds: outcome.after.map(|after| after.as_secs_f64()),
        why: outcome.why,
        is_mended_by_restart: outcome.is_mended_by_restart,
        starts: outcome.starts,
        took_s: took.as_secs_f64(),
        at: net::clock::wall_ms() / 1000,
        said: outcome.said,
        ziti: ziti.to_owned(),
    }
}

fn wanted(fault: &Fault) -> Wanted {
    Wanted { place: fault.place, level: fault.level(), is_due: fault.is_due }
}

/// Controllers for all who can share one. OpenZiti's routers on our controller are enrolled before it issues for long.
fn prepare(programs: &Programs, root: &Path, chosen: &[(Pairing, Fault)]) -> Result<Shared> {
    let mut sites = BTreeMap::new();
    let mut early = HashMap::new();
    for pairing in Pairing::ALL {
        let faults: Vec<&Fault> =
            chosen.iter().filter(|(of, fault)| *of == pairing && !fault.is_alone).map(|(_, fault)| fault).collect();
        if faults.is_empty() {
            continue;
        }
        let is_short = pairing.router == Kind::Stock;
        let site = Site::open(programs, pairing.controller, &root.join(pairing.id()), is_short)
            .with_context(|| pairing.title())?;
        let site = Arc::new(site);
        if is_short && pairing.controller == Kind::Exuvia {
            early = enrolled_early(&site, &faults)?;
            site.issue_for_long()?;
        }
        sites.insert(pairing, site);
    }
    Ok(Shared { sites, early: Mutex::new(early), changes: Mutex::default() })
}

/// A router that was enrolled before its turn, under the name of its fault.
type Early = (&'static str, Arc<Subject>);

const REHEARSAL: &str = "rehearsal";

fn enrolled_early(site: &Site, faults: &[&Fault]) -> Result<HashMap<&'static str, Arc<Subject>>> {
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<Result<Early>>> = Mutex::default();
    let rehearsed = faults.iter().any(|fault| matches!(fault.when, When::Change(..)));
    let plain = Wanted { place: place::Kind::Folder, level: netfault::proxy::Level::Messages, is_due: true };
    let mut all: Vec<(&'static str, Wanted)> = faults.iter().map(|fault| (fault.id, wanted(fault))).collect();
    if rehearsed {
        all.push((REHEARSAL, plain));
    }
    std::thread::scope(|scope| {
        for _ in 0..ENROLLING {
            scope.spawn(|| {
                while let Some((id, wanted)) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let made = Subject::enrolled(site, Kind::Stock, id, *wanted).map(|made| (*id, Arc::new(made)));
                    locked(&done).push(made);
                }
            });
        }
    });
    done.into_inner().unwrap_or_else(PoisonError::into_inner).into_iter().collect()
}

fn try_it(programs: &Programs, root: &Path, shared: &Shared, pairing: Pairing, fault: &Fault) -> Result<Outcome> {
    let name = fault.id;
    if fault.is_alone {
        let home = root.join(format!("{}-{name}", pairing.id()));
        let is_short = pairing.router == Kind::Stock && fault.is_due;
        let site = Arc::new(Site::open(programs, pairing.controller, &home, is_short)?);
        let subject = Arc::new(Subject::enrolled(&site, pairing.router, "r", wanted(fault))?);
        if is_short {
            site.issue_for_long()?;
        }
        return Ok(Scene::new(site, subject, fault, 0).meet());
    }
    let site = shared.sites.get(&pairing).context("no controller was prepared")?;
    let changes = match fault.when {
        When::Change(..) => rehearsed(shared, site, pairing)?,
        When::Start | When::Struck | When::Written(_) => 0,
    };
    let subject = subject(shared, site, pairing, name, wanted(fault))?;
    Ok(Scene::new(site.clone(), subject, fault, changes).meet())
}

fn subject(shared: &Shared, site: &Site, pairing: Pairing, name: &'static str, wanted: Wanted) -> Result<Arc<Subject>> {
    let is_early = pairing == Pairing { router: Kind::Stock, controller: Kind::Exuvia };
    if is_early {
        return locked(&shared.early).remove(name).context("this router was not enrolled");
    }
    Subject::enrolled(site, pairing.router, name, wanted).map(Arc::new)
}

/// How many changes a start with a renewal makes to the files of an identity; counted once for each pairing.
fn rehearsed(shared: &Shared, site: &Arc<Site>, pairing: Pairing) -> Result<usize> {
    let mut changes = locked(&shared.changes);
    if let Some(count) = changes.get(&pairing) {
        return Ok(*count);
    }
    let plain = Wanted { place: place::Kind::Folder, level: netfault::proxy::Level::Messages, is_due: true };
    let subject = subject(shared, site, pairing, REHEARSAL, plain)?;
    let tracer = Tracer::with([subject.place.at().to_owned()], Harm::Nothing, Counted::Changes);
    let keeper = Keeper::start(site, &subject, Vec::new(), Some(tracer.clone()), None)?;
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let listed = site.listed(&subject.id)?;
        if subject.has_renewed(&listed.admitted) {
            break;
        }
        if Instant::now() > deadline {
            bail!("the rehearsal does not renew:\n{}", keeper.tail(20));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    // What follows a renewal at once belongs to it.
    std::thread::sleep(Duration::from_secs(2));
    tracer.disarm();
    let calls = tracer.calls();
    drop(keeper);
    for call in &calls {
        eprintln!("     {} rehearsal: {call}", pairing.id());
    }
    changes.insert(pairing, calls.len());
    Ok(calls.len())
}
