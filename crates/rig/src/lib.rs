//! The real program under test: controllers and routers as processes, and a judge of their identities.
//!
//! Everything here blocks, and everything waits for events, never for a time: [`Controller`] makes and runs a real controller,
//! [`Router`] is one router with a folder of its own on any mount, [`Running`] is its process, and [`Router::judge`] says
//! whether the identity in that folder is still good for anything. Any number of threads may use one controller at once.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! let exuvia = rig::Exuvia::new("target/release/exuvia");
//! let home = tempfile::tempdir()?;
//! let controller = rig::Controller::start(&exuvia, home.path(), rig::ControllerSettings::default())?;
//! let router = controller.enrolled("edge-7", &home.path().join("identity"))?;
//! let running = router.online()?;
//! let generation = running.renew()?;
//! running.kill();
//! assert!(router.judge().is_usable());
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod api;
mod controller;
mod judge;
mod log;
mod process;
mod program;
mod router;
mod running;
mod ziti;

pub use api::{AdmittedLeaf, Api};
pub use controller::{Controller, ControllerSettings};
pub use judge::{Judged, Verdict};
pub use log::{Line, Log, Mark};
pub use process::{Direct, Process, Started, Starter, spawn};
pub use program::{Exuvia, Ran, free_port};
pub use router::{Router, RouterSettings};
pub use running::{Renewal, Running};
pub use ziti::{ZITI_BIN, Ziti, ZitiCli, ZitiNetwork, ZitiNode, ZitiRouter, ZitiRouterKind, ZitiSettings};

use std::time::Duration;

/// Longest wait for anything; reached only when something is broken.
pub const PATIENCE: Duration = Duration::from_secs(60);
