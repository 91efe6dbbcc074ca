//! Seeded worlds of routers, controllers, disks, clocks and networks, in one process and virtual time.
//!
//! Routers are the real [`lifecycle::renewal`] machine over the real [`store::identity`] on a simulated disk, controllers the real
//! [`lifecycle::issuance`] machine over a register that loses what was not committed; between them a network that loses, doubles, delays and
//! reorders. Models of OpenZiti's own router and controller stand beside them, so that every pairing can be told, and so that what is known
//! to go wrong between those two is *found* here: a simulator that finds nothing there would find nothing anywhere.
//!
//! Start at [`Plan`] (what a seed draws), then [`run()`] (a verdict), then [`World`] (a story, told step by step), then [`claims`] (what must hold).
//!
//! Not here: bytes of certificates and frames (`pki`, `wire`), real sockets and real disks (`net`, `store`).
#![forbid(unsafe_code)]

mod batch;
pub mod claims;
mod clock;
mod controls;
mod dice;
mod layer;
mod message;
mod mutant;
mod paper;
mod plan;
mod queue;
mod register;
mod run;
mod shrink;
mod stock;
mod world;

pub use batch::run_all;
pub use claims::{Broken, Claim};
pub use controls::{SEEDS_MAX, controls, plan_for, plan_for_openziti};
pub use dice::Dice;
pub use layer::layers;
pub use message::Kind;
pub use mutant::Mutant;
pub use plan::{Fault, Make, Net, Plan, PlanError, Strike, Target};
pub use run::{Counts, Report, check_liveness, run, run_traced};
pub use shrink::{Shrunk, shrink};
pub use store::disk::{Errno, Fault as DiskFault, SimDisk};
pub use world::{Action, Leaves, Trouble, World};
