//! `cargo xtask ci` is exactly what CI runs; each step can be run alone.

use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

/// One step of CI: its name, and the command that it is.
struct Step {
    name: &'static str,
    program: &'static str,
    arguments: &'static [&'static str],
    environment: &'static [(&'static str, &'static str)],
}

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
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> anyhow::Result<()> {
    match arguments {
        [task] if task == "ci" => ci(),
        [task] => match STEPS.iter().find(|step| step.name == task) {
            Some(step) => perform(step).map(drop),
            None => bail!("no task `{task}`\n{}", usage()),
        },
        [] | [_, ..] => bail!("one task at a time\n{}", usage()),
    }
}

fn usage() -> String {
    let names: Vec<&str> = STEPS.iter().map(|step| step.name).collect();
    format!("hint: cargo xtask ci, or one of its steps: {}", names.join(", "))
}

fn ci() -> anyhow::Result<()> {
    let mut took = Vec::new();
    for step in STEPS {
        took.push((step.name, perform(step)?));
    }
    eprintln!("all steps passed:");
    for (name, time) in took {
        eprintln!("  {name:<20}{:>6} s", time.as_secs());
    }
    Ok(())
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
