//! Both sides over real TLS on the loopback.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test's helpers may give up")]

mod authority;
mod control;
mod door;
mod hostile;
mod identity;
mod web;
