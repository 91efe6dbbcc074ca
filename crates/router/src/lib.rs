//! The router daemon: keeps control channels, renews its identity without ever losing it, serves health checks.
//!
//! Start at [`driver`]: the one loop. What happens next is decided in `lifecycle::renewal`; here it is carried out.
//!
//! | module | what it does |
//! |---|---|
//! | [`config`] | `router.yml` |
//! | [`run`] | from the configuration to the running loop |
//! | [`driver`] | the loop |
//! | [`commit`] | what a barrier means on the disk |
//! | [`control`] | one line per controller |
//! | [`enroll`] | the first identity |
//! | [`extend`] | one renewal of the configured files, for routers of OpenZiti |
//! | [`forecast`] | what OpenZiti's own renewal would do |
//! | [`rescue`] | what a locked-out router's disk still holds, and its way back |
//! | [`paths`] | the configured paths: copies, and what others put there |
//! | [`web`], [`metrics`], [`admin`], [`status`], [`events`], [`doctor`] | what operators see |

pub mod admin;
pub mod commit;
pub mod config;
pub mod control;
pub mod doctor;
pub mod driver;
pub mod enroll;
pub mod events;
pub mod extend;
pub mod forecast;
pub mod metrics;
pub mod paths;
pub mod rescue;
pub mod run;
pub mod status;
pub mod web;

mod clock;
mod place;

/// This program's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The version of OpenZiti's router that this one behaves like.
pub const ZITI_VERSION: &str = "2.1.0";
