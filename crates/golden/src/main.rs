//! `golden capture [INTO]`: captures the conversations of `fixtures/frames` anew, with every program that `ZITI_BIN` names and the program
//! `exuvia` next to this one (or in `EXUVIA_BIN`). `cargo xtask capture` builds both and runs it where nothing of this machine shows: in
//! namespaces with a made-up name and no interface but the loopback.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use rig::{Exuvia, Ziti};

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Nothing was run, for want of a program.
const NOT_RUN: u8 = 2;

fn run() -> Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let into = match arguments.as_slice() {
        [word] if word == "capture" => PathBuf::from("fixtures/frames"),
        [word, into] if word == "capture" => PathBuf::from(into),
        _ => bail!("nothing to do\nhint: golden capture [INTO]"),
    };
    let programs = Ziti::from_environment()?;
    if programs.is_empty() {
        println!("not run: {} names no program `ziti`", rig::ZITI_BIN);
        return Ok(ExitCode::from(NOT_RUN));
    }
    let exuvia = match std::env::var_os("EXUVIA_BIN") {
        Some(path) => PathBuf::from(path),
        None => std::env::current_exe()?.with_file_name("exuvia"),
    };
    let mut is_whole = true;
    for ziti in &programs {
        let home = tempfile::Builder::new().prefix("golden-").tempdir().context("make a folder")?;
        for (name, outcome) in golden::capture::all(ziti, &Exuvia::new(&exuvia), home.path(), &into) {
            match outcome {
                Ok(told) => println!("{}/{name}: {told}", ziti.label()),
                Err(error) => {
                    is_whole = false;
                    println!("{}/{name}: failed: {error:#}", ziti.label());
                }
            }
        }
    }
    Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
