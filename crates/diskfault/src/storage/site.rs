//! The scene of every layer of storage: a sandbox with a real controller in it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use evidence::{Evidence, Plan};
use rig::{Controller, ControllerSettings, Exuvia};

use super::sandbox::Sandbox;

/// A sandbox, a controller, and folders to mount things on.
#[derive(Debug)]
pub(crate) struct Site {
    // Dropped in this order: the controller's process ends before its home goes away.
    controller: Controller,
    sandbox: Sandbox,
    number: AtomicU32,
}

impl Site {
    /// Opens it in the plan's scratch folder; at most `size` of memory is used for files.
    pub(crate) fn open(plan: &Plan, size: &str) -> anyhow::Result<Self> {
        let sandbox = Sandbox::enter(&plan.scratch, size)?;
        let exuvia = Exuvia::new(&plan.exuvia);
        let controller = Controller::start(&exuvia, &sandbox.root().join("c"), ControllerSettings::default())?;
        Ok(Self { controller, sandbox, number: AtomicU32::new(0) })
    }

    /// The controller.
    pub(crate) fn controller(&self) -> &Controller {
        &self.controller
    }

    /// Where everything is.
    pub(crate) fn root(&self) -> &Path {
        self.sandbox.root()
    }

    /// A new empty folder.
    pub(crate) fn folder(&self, name: &str) -> anyhow::Result<PathBuf> {
        let folder = self.root().join(self.name(name));
        std::fs::create_dir(&folder)?;
        Ok(folder)
    }

    /// A name that nothing here has yet.
    pub(crate) fn name(&self, name: &str) -> String {
        format!("{name}-{}", self.number.fetch_add(1, Ordering::Relaxed))
    }
}

/// Runs a layer; what stops it as a whole is a failure.
pub(crate) fn gather(plan: &Plan, id: &str, run: impl FnOnce(&Plan, &mut Evidence) -> anyhow::Result<()>) -> Evidence {
    let mut evidence = Evidence { seed: Some(plan.seed), ..Evidence::default() };
    if let Err(error) = run(plan, &mut evidence) {
        evidence.failed(format!("the layer came to no end: {error:#}"), replay(id, plan));
    }
    evidence
}

/// The command that runs a layer again.
pub(crate) fn replay(id: &str, plan: &Plan) -> String {
    format!("EXUVIA_SEED={} cargo xtask proof --only {id}", plan.seed)
}
