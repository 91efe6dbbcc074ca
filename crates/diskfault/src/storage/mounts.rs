//! Every kind of mount, limit and permission that refuses a renewal, once each under the real program.
//!
//! Each [`Row`] promises the same: the identity is never lost, the connection stays, nothing is asked of the controller that could not be kept,
//! what is wrong is said, and the same process goes on by itself once it is mended.

mod limits;
mod places;
mod refusals;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, bail, ensure};
use evidence::{Evidence, Lane, Layer, Plan, Skip};
use rig::{Exuvia, Renewal, Router, Running};
use serde_json::Value;

use super::block_errors::is_calm;
use super::image::Kind;
use super::sandbox::{Need, bind, missing};
use super::site::{Site, gather, replay};

/// The layer.
pub(crate) const LAYER: Layer = Layer {
    id: "mounts",
    title: "every mount, limit and permission that refuses a renewal, under the real program",
    lane: Lane::Waiting,
    probe,
    run: |plan| gather(plan, "mounts", run),
};

/// One way in which a place can refuse.
#[derive(Clone, Copy)]
pub(crate) struct Row {
    /// What is wrong with the place.
    pub(crate) name: &'static str,
    /// Does it, and says what was not as promised.
    pub(crate) run: fn(&Scene<'_>) -> anyhow::Result<()>,
}

/// Rows run beside one another: they wait more than they work.
const AT_ONCE: usize = 3;

fn probe() -> Vec<Skip> {
    let mut needs = vec![Need::Mounts, Need::Loop];
    needs.extend(["chattr", "setpriv", "prlimit"].map(Need::Program));
    needs.extend([Kind::Ext4, Kind::Btrfs].map(Kind::need));
    missing(&needs)
}

fn run(plan: &Plan, evidence: &mut Evidence) -> anyhow::Result<()> {
    if !probe().is_empty() {
        return Ok(());
    }
    let site = Site::open(plan, "1g")?;
    let rows: Vec<Row> = [refusals::ROWS, places::ROWS, limits::ROWS].concat();
    let next = AtomicUsize::new(0);
    let outcomes = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(row) = rows.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome = Scene::new(&site, plan).and_then(|scene| (row.run)(&scene));
                    outcomes.lock().unwrap_or_else(PoisonError::into_inner).push((row.name, outcome));
                }
            });
        }
    });
    let outcomes = outcomes.into_inner().unwrap_or_else(PoisonError::into_inner);
    evidence.tried("kinds of mounts, limits and permissions", outcomes.len() as u64);
    for row in &rows {
        let outcome = outcomes.iter().find(|(name, _)| *name == row.name).map(|(_, outcome)| outcome);
        let broke = match outcome {
            Some(Ok(())) => None,
            Some(Err(error)) => Some(format!("{error:#}")),
            None => Some("it came to no end".to_owned()),
        };
        evidence.cell("exuvia", row.name, u64::from(broke.is_some()), 1);
        if let Some(broke) = broke {
            evidence.failed(format!("{}: {broke}", row.name), replay("mounts", plan));
        }
    }
    Ok(())
}

/// Where one row plays.
pub(crate) struct Scene<'a> {
    pub(crate) site: &'a Site,
    pub(crate) exuvia: Exuvia,
    pub(crate) folder: PathBuf,
}

impl<'a> Scene<'a> {
    fn new(site: &'a Site, plan: &Plan) -> anyhow::Result<Self> {
        Ok(Self { site, exuvia: Exuvia::new(&plan.exuvia), folder: site.folder("row")? })
    }

    /// A new folder.
    pub(crate) fn sub(&self, name: &str) -> anyhow::Result<PathBuf> {
        let folder = self.folder.join(name);
        std::fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    /// A router that is enrolled in this folder and does not run.
    pub(crate) fn enrolled(&self, folder: &Path) -> anyhow::Result<Router> {
        self.site.controller().enrolled(&self.site.name("m"), folder)
    }
}

/// A mount on itself, so that its flags can be changed.
pub(crate) fn bound(folder: &Path) -> anyhow::Result<super::sandbox::Mounted> {
    bind(folder, folder)?;
    Ok(super::sandbox::Mounted::adopt(folder))
}

/// What `status` says in this field.
pub(crate) fn says(running: &Running, field: &str) -> anyhow::Result<String> {
    let status = running.status()?;
    Ok(status.get(field).and_then(Value::as_str).unwrap_or_default().to_owned())
}

/// Its status calls the storage this, long before the minute after which it looks by itself.
pub(crate) fn says_soon(running: &Running, storage: &str) -> anyhow::Result<()> {
    let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        let said = says(running, "storage")?;
        if said == storage {
            return Ok(());
        }
        ensure!(
            std::time::Instant::now() < until,
            "it is asked, and says that the storage is `{said}`, not `{storage}`"
        );
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}

/// No generation comes of an order to renew, the connection stays, and a restart would still be admitted. `reason` is in what is said.
pub(crate) fn refuses(running: &Running, reason: &str) -> anyhow::Result<()> {
    let before = running.status()?;
    let mark = running.log().mark();
    match running.try_to_renew() {
        Renewal::Failed(said) => {
            let told = running.log().since(mark).iter().map(|line| line.text.clone()).collect::<String>();
            ensure!(format!("{said} {told}").contains(reason), "it does not say `{reason}`: {said} {told}");
        }
        other => bail!("it renews on what refuses it: {other:?}"),
    }
    let asked = running.log().since(mark).iter().any(|line| line.event() == "requested");
    ensure!(!asked, "it asked for a certificate that it could not keep");
    is_calm(running).map_err(anyhow::Error::msg)?;
    let after = running.status()?;
    ensure!(after["generation"] == before["generation"], "another generation is served");
    ensure!(after["lockout_in_s"].as_u64().unwrap_or_default() > 0, "it would be locked out: {after}");
    Ok(())
}

/// The same process renews now, and a new one is admitted and renews, too.
pub(crate) fn goes_on(router: &Router, running: Running) -> anyhow::Result<()> {
    running.renew().context("after it was mended")?;
    is_dead(running)?;
    let judged = router.judge();
    ensure!(judged.is_usable(), "after a restart: {}\n{}", judged.brief(), judged.log);
    Ok(())
}

/// Killed; it has not panicked.
pub(crate) fn is_dead(running: Running) -> anyhow::Result<()> {
    let log = running.kill();
    log.panic().map_or(Ok(()), |line| bail!("it panicked: {line}"))
}

/// A restart on what is there now is admitted and renews.
pub(crate) fn is_usable(router: &Router) -> anyhow::Result<()> {
    let judged = router.judge();
    ensure!(judged.is_usable(), "{}", judged.brief());
    Ok(())
}
