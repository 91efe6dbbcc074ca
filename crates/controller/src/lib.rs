//! The controller daemon.
//!
//! [`web`] serves the REST interfaces, [`enroll`] trades requests for leaves with the help of the [`signer`], and
//! [`fleet`] is what both know of the control channels. What a router's record makes of each input is decided by
//! `lifecycle::issuance`, inside the register's transaction.

pub mod clock;
pub mod config;
pub mod control;
pub mod daemon;
pub mod dice;
pub mod driver;
pub mod enroll;
pub mod fleet;
pub mod init;
pub mod maintenance;
pub mod metrics;
pub mod password;
pub mod signer;
pub mod web;
