//! The register: what it keeps, what it answers, and what no crash takes from it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on must stop, also in its helpers")]

#[path = "register/support.rs"]
mod support;

#[path = "register/crash.rs"]
mod crash;
#[path = "register/entries.rs"]
mod entries;
#[path = "register/files.rs"]
mod files;
#[path = "register/processes.rs"]
mod processes;
#[path = "register/steps.rs"]
mod steps;
