//! Starts each scenario as a process of its own, ends it when it is late, and collects what came of it.

use std::collections::VecDeque;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use rig::{Exuvia, ZITI_BIN, Ziti};
use rustix::process::Signal;

use crate::groups;
use crate::report::{self, Row, Verdict};
use crate::scenario::{Bench, Group, Scenario, Shown, has_groups};

/// Where the logs of scenarios are kept.
const KEPT: &str = "target/interop";

/// What `interop run` was asked for.
#[derive(Debug, Args)]
pub(crate) struct Order {
    /// Only these groups and scenarios, by id
    #[arg(long, value_delimiter = ',', value_name = "ID,ID")]
    only: Vec<String>,
    /// Take the time that it takes: ten minutes online instead of one
    #[arg(long)]
    long: bool,
    /// How many scenarios run at once; they wait most of the time
    #[arg(long, default_value_t = 2, value_name = "N")]
    jobs: usize,
    /// The program `exuvia`; the one beside this program if not given
    #[arg(long, value_name = "FILE")]
    exuvia: Option<PathBuf>,
    /// Where the report goes: rows of what was run replace those of earlier runs
    #[arg(long, default_value = "docs/interop.md", value_name = "FILE")]
    out: PathBuf,
}

/// What `interop scenario` was asked for.
#[derive(Debug, Args)]
pub(crate) struct ScenarioOrder {
    /// The scenario
    id: String,
    #[arg(long)]
    long: bool,
    #[arg(long)]
    ziti: PathBuf,
    #[arg(long)]
    exuvia: PathBuf,
    #[arg(long)]
    scratch: PathBuf,
    /// Where the answer goes, as JSON
    #[arg(long)]
    answer: PathBuf,
}

/// One scenario, in this process.
pub(crate) fn scenario(order: &ScenarioOrder) -> Result<()> {
    let scenarios = groups::all().into_iter().flat_map(|group| group.scenarios);
    let Some(scenario) = scenarios.into_iter().find(|scenario| scenario.id == order.id) else {
        bail!("no scenario `{}`", order.id);
    };
    // A session of its own keeps the terminal's signals away; everything that it starts ends with it.
    let _ = rustix::process::setsid();
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).context("die with the runner")?;
    let bench = Bench {
        ziti: Ziti::at(&order.ziti)?,
        exuvia: Exuvia::new(&order.exuvia),
        scratch: order.scratch.clone(),
        is_long: order.long,
    };
    let shown = (scenario.run)(&bench)?;
    let text = serde_json::to_vec(&shown).context("write the answer as JSON")?;
    std::fs::write(&order.answer, text).with_context(|| format!("write `{}`", order.answer.display()))
}

/// Runs what was ordered; did everything hold?
pub(crate) fn run(order: &Order) -> Result<bool> {
    let wanted = wanted(order)?;
    let peers = Ziti::from_environment()?;
    if peers.is_empty() {
        say_not_run(&wanted);
        return Ok(true);
    }
    let exuvia = match &order.exuvia {
        Some(path) => path.clone(),
        None => std::env::current_exe().context("find this program")?.with_file_name("exuvia"),
    };
    if !exuvia.exists() {
        bail!("there is no program `{}`\nhint: build it, or name it with `--exuvia`", exuvia.display());
    }
    let mut rows = Vec::new();
    for peer in &peers {
        rows.extend(run_with(peer, &exuvia, &wanted, order)?);
    }
    report::write(&order.out, &rows)?;
    println!("{}", report::table(&rows));
    Ok(rows.iter().all(|row| !matches!(row.verdict, Verdict::Broken)))
}

fn wanted(order: &Order) -> Result<Vec<Group>> {
    let mut all = groups::all();
    let is_known = |id: &String| {
        all.iter().any(|group| group.id == id || group.scenarios.iter().any(|scenario| scenario.id == id))
    };
    if let Some(unknown) = order.only.iter().find(|id| !is_known(id)) {
        bail!("no group and no scenario is called `{unknown}`\nhint: `interop list` names them");
    }
    if !order.only.is_empty() {
        for group in &mut all {
            let is_whole = order.only.iter().any(|id| id == group.id);
            group.scenarios.retain(|scenario| is_whole || order.only.iter().any(|id| id == scenario.id));
        }
    }
    all.retain(|group| !group.scenarios.is_empty());
    Ok(all)
}

fn say_not_run(wanted: &[Group]) {
    println!("{ZITI_BIN} is not set: nothing of OpenZiti is here, and none of this was run:");
    for group in wanted {
        println!("  {}: {}", group.id, group.title);
        for scenario in &group.scenarios {
            println!("    {:<34} {}", scenario.id, scenario.claim);
        }
    }
    println!(
        "hint: name a program `ziti`, or several as in PATH: `{ZITI_BIN}=/opt/openziti/bin/ziti cargo xtask interop`"
    );
}

fn run_with(peer: &Ziti, exuvia: &Path, wanted: &[Group], order: &Order) -> Result<Vec<Row>> {
    let kept = Path::new(KEPT).join(peer.label());
    std::fs::create_dir_all(&kept).with_context(|| format!("make `{}`", kept.display()))?;
    let jobs = wanted.iter().flat_map(|group| group.scenarios.iter().map(move |scenario| (group, *scenario)));
    let jobs: Mutex<VecDeque<(usize, (&Group, Scenario))>> = Mutex::new(jobs.enumerate().collect());
    let rows: Mutex<Vec<(usize, Row)>> = Mutex::default();
    let next = || jobs.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    std::thread::scope(|scope| {
        for _ in 0..order.jobs.max(1) {
            scope.spawn(|| {
                while let Some((place, (group, scenario))) = next() {
                    let row = one(peer, exuvia, group, scenario, &kept, order.long);
                    eprintln!("{:<9} {} ({}): {}", row.verdict.word(), row.id, row.peer, row.evidence);
                    rows.lock().unwrap_or_else(PoisonError::into_inner).push((place, row));
                }
            });
        }
    });
    let mut rows = rows.into_inner().unwrap_or_else(PoisonError::into_inner);
    rows.sort_by_key(|(place, _)| *place);
    Ok(rows.into_iter().map(|(_, row)| row).collect())
}

fn one(peer: &Ziti, exuvia: &Path, group: &Group, scenario: Scenario, kept: &Path, is_long: bool) -> Row {
    let began = Instant::now();
    let (verdict, evidence, facts) = match watched(peer, exuvia, scenario, kept, is_long) {
        Ok(Shown { line, is_left_out: true, facts }) => (Verdict::LeftOut, line, facts),
        Ok(Shown { line, is_left_out: false, facts }) => (Verdict::Holds, line, facts),
        Err(error) => (Verdict::Broken, format!("{error:#}"), Vec::new()),
    };
    Row {
        group: group.id.to_owned(),
        id: scenario.id.to_owned(),
        claim: scenario.claim.to_owned(),
        peer: peer.label().to_owned(),
        verdict,
        seconds: began.elapsed().as_secs(),
        evidence,
        facts,
    }
}

fn watched(peer: &Ziti, exuvia: &Path, scenario: Scenario, kept: &Path, is_long: bool) -> Result<Shown> {
    // Short, for the sake of sockets; on a disk, for the product renews on nothing else.
    let mut scratch = tempfile::Builder::new().prefix("xi-").tempdir_in(disk_backed()).context("make a folder")?;
    let answer = scratch.path().join("answer.json");
    let work = scratch.path().join("w");
    std::fs::create_dir(&work).context("make a folder")?;
    let path = kept.join(format!("{}.log", scenario.id));
    let log = File::create(&path).with_context(|| format!("make `{}`", path.display()))?;
    let mut command = Command::new(std::env::current_exe().context("find this program")?);
    command.args(["scenario", scenario.id]).arg("--ziti").arg(peer.path()).arg("--exuvia").arg(exuvia);
    command.arg("--scratch").arg(&work).arg("--answer").arg(&answer);
    if is_long {
        command.arg("--long");
    }
    command.stdin(Stdio::null()).stdout(log.try_clone().context("open the log")?).stderr(log);
    // Where no underlay can join a channel, every renewal takes a minute.
    let slower = if has_groups(peer) { 1 } else { 4 };
    let status = wait(command, scenario.limit(is_long) * slower);
    let told = || {
        let said = std::fs::read_to_string(&path).unwrap_or_default();
        said.lines().rev().find_map(|line| line.strip_prefix("error: ")).map(str::to_owned)
    };
    match status {
        Ok(status) if status.success() => {
            let text = std::fs::read(&answer).context("read the answer")?;
            serde_json::from_slice(&text).context("read the answer")
        }
        other => {
            // Configurations, identities and logs are there for whoever wants to know why.
            scratch.disable_cleanup(true);
            let where_ = format!("its folder is `{}`", scratch.path().display());
            eprintln!("{}: {where_}", scenario.id);
            match other {
                Ok(status) => bail!("{}", told().unwrap_or_else(|| format!("its process ended with {status}"))),
                Err(error) => Err(error),
            }
        }
    }
}

fn wait(mut command: Command, limit: Duration) -> Result<ExitStatus> {
    let mut child = command.spawn().context("start the scenario")?;
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait().context("wait for the scenario")? {
            return Ok(status);
        }
        if began.elapsed() > limit {
            child.kill().context("end the scenario")?;
            child.wait().context("wait for the scenario")?;
            bail!("it was not done after {} s, and was ended", limit.as_secs());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn disk_backed() -> PathBuf {
    let usual = PathBuf::from("/var/tmp");
    if tempfile::tempfile_in(&usual).is_ok() { usual } else { std::env::temp_dir() }
}
