//! A controller of ours with OpenZiti's command line beside it.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use rig::{Controller, ControllerSettings, Ziti, ZitiCli, ZitiRouter};
use serde_json::Value;

use crate::scenario::Bench;

/// A controller of ours, and their command line.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) controller: Controller,
    pub(super) cli: ZitiCli,
    /// Settings and files of the command line.
    pub(super) home: PathBuf,
    ziti: Ziti,
    is_logged_in: bool,
}

/// What a command said and how it ended.
#[derive(Debug)]
pub(super) struct Said {
    command: String,
    pub(super) code: Option<i32>,
    /// Everything, wherever it went.
    pub(super) text: String,
}

impl Desk {
    /// Logged in.
    pub(super) fn new(bench: &Bench) -> Result<Self> {
        let desk = Self::logged_out(bench)?;
        desk.cli.login()?.ok()?;
        Ok(Self { is_logged_in: true, ..desk })
    }

    pub(super) fn logged_out(bench: &Bench) -> Result<Self> {
        let controller = Controller::start(&bench.exuvia, &bench.scratch.join("c"), ControllerSettings::default())?;
        let home = bench.scratch.join("cli");
        std::fs::create_dir_all(&home)?;
        let cli = ZitiCli::new(&bench.ziti, &home, controller.api_port(), "admin", controller.password());
        Ok(Self { controller, cli, home, ziti: bench.ziti.clone(), is_logged_in: false })
    }

    /// `ziti ARGS`.
    pub(super) fn ran(&self, args: &[&str]) -> Result<Said> {
        let ran = if self.is_logged_in { self.cli.run(args)? } else { self.ziti.run(&self.home, args)? };
        let text = format!("{}{}", ran.stdout, ran.stderr);
        Ok(Said { command: args.join(" "), code: ran.code, text })
    }

    /// An edge router as the command line lists it.
    pub(super) fn edge_router(&self, name: &str) -> Result<Value> {
        self.cli.edge_router(name)
    }

    /// A stock edge router of this name, enrolled with the JWT of `ziti edge create edge-router`, not running.
    pub(super) fn enrolled(&self, name: &str) -> Result<ZitiRouter> {
        let jwt = self.cli.create_edge_router(name)?;
        let router = ZitiRouter::edge(&self.ziti, &self.home.join(name), name, self.controller.ctrl_port())?;
        router.enroll(&jwt)?.ok()?;
        Ok(router)
    }
}

impl Said {
    /// It did what it was asked, and said all of this; gives all that it said.
    pub(super) fn done(self, words: &[&str]) -> Result<String> {
        ensure!(self.code == Some(0), "`{}` ended with {:?}: {}", self.command, self.code, self.text);
        self.with(words)
    }

    /// It ended with 1, and said all of this.
    pub(super) fn refused(self, words: &[&str]) -> Result<String> {
        ensure!(self.code == Some(1), "`{}` ended with {:?}: {}", self.command, self.code, self.text);
        self.with(words)
    }

    fn with(self, words: &[&str]) -> Result<String> {
        for word in words {
            ensure!(self.text.contains(word), "`{}` did not say `{word}`: {}", self.command, self.text);
        }
        Ok(self.text)
    }
}
