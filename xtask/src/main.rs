//! `cargo xtask ci` is exactly what CI runs; each step can be run alone. `cargo xtask proof` takes arguments besides, and is not
//! yet a step of CI: its whole length has not been measured on a quiet machine. `cargo xtask interop` needs a program of others, so CI
//! only sees it say so.

mod conformance;

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use conformance::Modules;

/// One step of CI: its name, and the command that it is.
struct Step {
    name: &'static str,
    program: &'static str,
    arguments: &'static [&'static str],
    environment: &'static [(&'static str, &'static str)],
}

/// Without `--package`: a choice of packages would choose features of their dependencies, and build those twice.
const BUILD_RELEASE: &[&str] = &["build", "--locked", "--release", "--bins"];

const STEPS: &[Step] = &[
    Step { name: "fmt", program: "cargo", arguments: &["fmt", "--all", "--", "--check"], environment: &[] },
    Step {
        name: "clippy",
        program: "cargo",
        arguments: &["clippy", "--locked", "--workspace", "--all-targets", "--", "--deny", "warnings"],
        environment: &[],
    },
    Step {
        name: "doc",
        program: "cargo",
        arguments: &["doc", "--locked", "--workspace", "--no-deps", "--document-private-items"],
        environment: &[("RUSTDOCFLAGS", "--deny warnings")],
    },
    // The README's second command. The committed table, the OpenAPI document, the licences and the banned crates are tests.
    Step { name: "test", program: "cargo", arguments: &["test", "--locked"], environment: &[] },
    // Everything that the next steps start, at once: both cores stay busy, and the features of the dependencies are the same for all.
    Step { name: "release", program: "cargo", arguments: BUILD_RELEASE, environment: &[] },
    // The README's first command, for thirty seconds, and again while everything breaks.
    Step {
        name: "quickstart",
        program: "cargo",
        arguments: &["run", "--locked", "--release", "--", "quickstart", "--for", "30s", "--leaf-life", "20s"],
        environment: &[],
    },
    Step {
        name: "quickstart-faults",
        program: "cargo",
        arguments: &[
            "run",
            "--locked",
            "--release",
            "--",
            "quickstart",
            "--for",
            "60s",
            "--leaf-life",
            "20s",
            "--faults",
        ],
        environment: &[],
    },
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Nothing was run, for a reason that is no failure and was told.
const NOT_RUN: u8 = 2;

fn run(arguments: &[String]) -> anyhow::Result<ExitCode> {
    match arguments {
        [task] if task == "conformance" => {
            return Ok(if conformance()? { ExitCode::SUCCESS } else { ExitCode::from(NOT_RUN) });
        }
        [task, rest @ ..] if task == "capture" => return capture(rest),
        [task] if task == "ci" => ci(),
        [task, rest @ ..] if task == "proof" => proof(rest),
        [task, rest @ ..] if task == "interop" => {
            with_programs("interop", rest)?.then_some(()).context("something does not hold together with OpenZiti")
        }
        [task, rest @ ..] if task == "compare" => compare(rest),
        [task, rest @ ..] if task == "api-conformance" => {
            api_conformance(rest)?.then_some(()).context("the REST interfaces are not what their descriptions say")
        }
        [task] => match STEPS.iter().find(|step| step.name == task) {
            Some(step) => perform(step).map(drop),
            None => bail!("no task `{task}`\n{}", usage()),
        },
        [] | [_, ..] => bail!("one task at a time\n{}", usage()),
    }
    .map(|()| ExitCode::SUCCESS)
}

fn usage() -> String {
    let names: Vec<&str> = STEPS.iter().map(|step| step.name).collect();
    format!(
        "hint: cargo xtask ci, or one of its steps: {}, proof [--long] [--seed N] [--only ID,ID], interop [--long] [--only ID,ID], \
         compare [--only ID,ID] [--pairings ss,xs,sx,xx], conformance, capture [INTO], \
         api-conformance [--long]",
        names.join(", ")
    )
}

fn ci() -> anyhow::Result<()> {
    let mut took = Vec::new();
    for step in STEPS {
        took.push((step.name, perform(step)?));
    }
    let began = Instant::now();
    conformance()?;
    took.push(("conformance", began.elapsed()));
    eprintln!("all steps passed:");
    for (name, time) in took {
        eprintln!("  {name:<20}{:>6} s", time.as_secs());
    }
    Ok(())
}

/// Stock peers and ours under the same faults. Nothing is built where there is no stock peer.
fn compare(arguments: &[String]) -> anyhow::Result<()> {
    if std::env::var_os("ZITI_BIN").is_none_or(|named| named.is_empty()) {
        bail!(
            "nothing was compared: ZITI_BIN is not set, and nothing of OpenZiti is in this repository\n\
             hint: build or download `ziti` elsewhere, and run ZITI_BIN=/path/to/ziti cargo xtask compare"
        );
    }
    with_programs("compare", arguments)?.then_some(()).context("the comparison was not finished")
}

fn proof(arguments: &[String]) -> anyhow::Result<()> {
    with_programs("proof", arguments)?.then_some(()).context("the proof does not hold")
}

/// Builds the programs under test and the one that tests them, and runs that; did it end well?
fn with_programs(name: &'static str, arguments: &[String]) -> anyhow::Result<bool> {
    perform(&Step { name, program: "cargo", arguments: BUILD_RELEASE, environment: &[] })?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    let program = target.join("release").join(name);
    eprintln!("== {name}: {} run {}", program.display(), arguments.join(" "));
    let status = Command::new(&program).arg("run").args(arguments).status();
    Ok(status.with_context(|| format!("start `{}`", program.display()))?.success())
}

/// Runs OpenZiti's libraries against our programs; `false` where they cannot be had.
fn conformance() -> anyhow::Result<bool> {
    let folder = match conformance::modules()? {
        Modules::Here(folder) => folder,
        Modules::Refused(line) => {
            eprintln!("== conformance: not run, because OpenZiti's Go modules are refused here: {line}");
            return Ok(false);
        }
    };
    perform(&Step { name: "conformance", program: "cargo", arguments: BUILD_RELEASE, environment: &[] })?;
    conformance::test(&folder)?;
    Ok(true)
}

/// Captures the conversations of `fixtures/frames` anew, where nothing of this machine can get into them: in namespaces with another name and
/// no interface but the loopback.
fn capture(arguments: &[String]) -> anyhow::Result<ExitCode> {
    perform(&Step { name: "capture", program: "cargo", arguments: BUILD_RELEASE, environment: &[] })?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    let status = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "--uts", "sh", "-c"])
        .arg("ip link set lo up && hostname edge.example && exec \"$0\" capture \"$@\"")
        .arg(std::path::absolute(target.join("release/golden"))?)
        .args(arguments)
        .status()
        .context("start `unshare`")?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Builds the program under test and the example of `rig` that holds it against OpenAPI descriptions, and runs that; did it end well?
fn api_conformance(arguments: &[String]) -> anyhow::Result<bool> {
    let build = &["build", "--locked", "--release", "--bin", "exuvia", "--example", "api_conformance"];
    perform(&Step { name: "api-conformance", program: "cargo", arguments: build, environment: &[] })?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    let program = target.join("release/examples/api_conformance");
    let status = Command::new(&program).args(arguments).status();
    Ok(status.with_context(|| format!("start `{}`", program.display()))?.success())
}

fn perform(step: &Step) -> anyhow::Result<Duration> {
    eprintln!("== {}: {} {}", step.name, step.program, step.arguments.join(" "));
    let began = Instant::now();
    let status = Command::new(step.program)
        .args(step.arguments)
        .envs(step.environment.iter().copied())
        .env("CARGO_INCREMENTAL", "0")
        .status()
        .with_context(|| format!("start `{}`", step.program))?;
    if !status.success() {
        bail!("step `{}` failed: {status}", step.name);
    }
    Ok(began.elapsed())
}
