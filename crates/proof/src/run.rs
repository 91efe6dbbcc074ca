//! `proof run`: two lanes of layers, each layer a process that may crash, hang or leave children without harm to the others.

mod child;
mod finding;
mod lanes;

pub(crate) use child::{LayerOrder, layer};
pub(crate) use finding::{Finding, OURS, Outcome};

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use clap::Args;
use evidence::Layer;
use serde::{Deserialize, Serialize};

use crate::numbers::spoken;
use crate::{layers, report};

/// Where evidence and logs of the last run stay.
pub(crate) const KEPT: &str = "target/proof";

/// What `proof run` was asked for.
#[derive(Debug, Args)]
pub(crate) struct Order {
    /// Nightly length: tens of minutes per layer
    #[arg(long)]
    long: bool,
    /// Where every random choice comes from; 1, or a fresh one with --long
    #[arg(long)]
    seed: Option<u64>,
    /// Only these layers, separated by commas; then no report is written unless --out says where
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// What this machine cannot try fails the proof
    #[arg(long, env = "CI", value_parser = clap::builder::BoolishValueParser::new(), num_args = 0..=1, default_value_t = false, default_missing_value = "true")]
    ci: bool,
    /// Where the report goes: docs/proof.md, or below target/ in CI
    #[arg(long)]
    out: Option<PathBuf>,
    /// The program `exuvia`, as it ships; the one beside this program
    #[arg(long)]
    exuvia: Option<PathBuf>,
    /// The program `write-order`; the one beside this program
    #[arg(long)]
    write_order: Option<PathBuf>,
    /// Layers that go wrong on purpose, instead of the real ones
    #[arg(long, hide = true)]
    rehearse: bool,
    /// How long one layer may take, in seconds
    #[arg(long, hide = true)]
    limit_s: Option<u64>,
}

/// How a whole run was made: what the report says about where its numbers come from.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Circumstances {
    /// Nightly length?
    pub(crate) is_long: bool,
    /// Does a missing part fail the proof?
    pub(crate) is_strict: bool,
    /// Where every random choice came from.
    pub(crate) seed: u64,
    /// Short commit, with `, changed` when files were edited.
    pub(crate) commit: String,
    /// `2031-03-01`.
    pub(crate) date: String,
    /// `2 cores, x86_64, Linux 6.18`.
    pub(crate) machine: String,
}

/// The programs under test, and how long a layer may take with them.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    exuvia: PathBuf,
    write_order: PathBuf,
    limit: Duration,
}

/// CI's share is a minute or two for each layer; this is for one that hangs, on a machine that is busy with other things.
const LIMIT: Duration = Duration::from_secs(15 * 60);
/// The same at nightly length.
const LONG_LIMIT: Duration = Duration::from_secs(6 * 60 * 60);

/// Runs what was asked for; `true` when everything holds.
pub(crate) fn run(order: &Order) -> anyhow::Result<bool> {
    let chosen = choose(&order.only, if order.rehearse { layers::rehearsed() } else { layers::all() })?;
    let programs = Programs {
        exuvia: program(order.exuvia.as_deref(), "exuvia")?,
        write_order: program(order.write_order.as_deref(), "write-order")?,
        limit: order.limit_s.map_or(if order.long { LONG_LIMIT } else { LIMIT }, Duration::from_secs),
    };
    let circumstances = circumstances(order);
    std::fs::create_dir_all(KEPT).with_context(|| format!("create `{KEPT}`"))?;
    eprintln!(
        "proof: {} layers, seed {}, commit {}, {}{}",
        chosen.len(),
        circumstances.seed,
        circumstances.commit,
        circumstances.machine,
        if circumstances.is_long { ", nightly length" } else { "" },
    );
    keep("run.json", &circumstances)?;
    let began = Instant::now();
    let findings = lanes::run(&chosen, &programs, &circumstances);
    let holds = summary(&findings, &circumstances, began.elapsed());
    let out = match (&order.out, order.only.is_empty(), order.ci) {
        (Some(out), _, _) => Some(out.clone()),
        (None, false, _) => None,
        (None, true, true) => Some(Path::new(KEPT).join("proof.md")),
        (None, true, false) => Some(PathBuf::from("docs/proof.md")),
    };
    if let Some(out) = out {
        report::write(&out, &circumstances, &findings)?;
        eprintln!("report: {}", out.display());
    }
    Ok(holds)
}

fn choose(only: &[String], all: Vec<Layer>) -> anyhow::Result<Vec<Layer>> {
    if let Some(unknown) = only.iter().find(|id| all.iter().all(|layer| layer.id != id.as_str())) {
        let known: Vec<&str> = all.iter().map(|layer| layer.id).collect();
        bail!("no layer `{unknown}`\nhint: there are {}", known.join(", "));
    }
    if all.is_empty() {
        bail!("there are no layers to run");
    }
    Ok(all.into_iter().filter(|layer| only.is_empty() || only.iter().any(|id| id == layer.id)).collect())
}

fn program(given: Option<&Path>, name: &str) -> anyhow::Result<PathBuf> {
    let path = match given {
        Some(path) => path.to_path_buf(),
        None => std::env::current_exe().context("find this program")?.with_file_name(name),
    };
    path.canonicalize().with_context(|| format!("find `{}`\nhint: cargo xtask proof builds it", path.display()))
}

fn circumstances(order: &Order) -> Circumstances {
    let fresh = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |time| time.as_secs());
    let seed = order.seed.unwrap_or_else(|| if order.long { fresh() } else { 1 });
    let changed =
        said("git", &["status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs/proof.md", ":!docs/proof"]);
    let commit = match (said("git", &["rev-parse", "--short=12", "HEAD"]), changed) {
        (Some(commit), Some(changed)) if !changed.is_empty() => format!("{commit}, with changes"),
        (Some(commit), _) => commit,
        (None, _) => "unknown".to_string(),
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let release = said("uname", &["-r"]).unwrap_or_default();
    let kernel: Vec<&str> = release.split('.').take(2).collect();
    Circumstances {
        is_long: order.long,
        is_strict: order.ci,
        seed,
        commit,
        date: jiff::Timestamp::now().strftime("%Y-%m-%d").to_string(),
        machine: format!("{cores} cores, {}, Linux {}", std::env::consts::ARCH, kernel.join(".")),
    }
}

fn said(program: &str, arguments: &[&str]) -> Option<String> {
    let output = std::process::Command::new(program).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_string())
}

/// Keeps evidence for `proof report`.
fn keep(name: &str, value: &impl Serialize) -> anyhow::Result<()> {
    let path = Path::new(KEPT).join(name);
    let text = serde_json::to_string_pretty(value).with_context(|| format!("write `{name}` as JSON"))?;
    std::fs::write(&path, text).with_context(|| format!("write `{}`", path.display()))
}

/// Says what came of it, what broke last so that it stands at the end; `true` when everything holds.
fn summary(findings: &[Finding], circumstances: &Circumstances, took: Duration) -> bool {
    let strict = circumstances.is_strict;
    let (held, broken): (Vec<&Finding>, Vec<&Finding>) =
        findings.iter().partition(|finding| finding.faults(strict).is_empty());
    for finding in &broken {
        eprintln!("\n`{}` does not hold:", finding.id);
        for fault in finding.faults(strict) {
            eprintln!("  - {fault}");
        }
        eprintln!("  again: {}", finding.replay(circumstances));
        eprintln!("  log:   {KEPT}/{}.log", finding.id);
        if let Outcome::Ended { .. } = finding.outcome {
            lanes::show_log(finding.id.as_str());
        }
    }
    let missing: usize = findings.iter().map(|finding| finding.missing().len()).sum();
    if missing > 0 && !strict {
        eprintln!("\nnot tried, because this machine cannot:");
        for finding in findings {
            for skip in finding.missing() {
                eprintln!("  - {}: {} ({})", finding.id, skip.what, skip.why);
            }
        }
    }
    eprintln!(
        "\nproof: {} of {} layers hold, {}, in {}",
        held.len(),
        findings.len(),
        if missing == 0 { "nothing skipped".to_string() } else { format!("{missing} parts skipped") },
        spoken(took),
    );
    broken.is_empty()
}
