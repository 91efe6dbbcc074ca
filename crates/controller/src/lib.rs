//! The controller daemon.

pub mod config;
