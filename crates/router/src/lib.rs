//! The router daemon.

pub mod config;
