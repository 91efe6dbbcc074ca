//! Conversations of real OpenZiti peers, as they went by.
//!
//! - [`fixture`] reads and writes them: `fixtures/frames`, whose `README.md` says how they were made.
//! - [`capture`] makes them anew with real programs; `cargo xtask capture` runs it, with `ZITI_BIN` set.
//! - [`replay`] plays one side of a conversation to a real daemon of ours.
#![forbid(unsafe_code)]

pub mod capture;
pub mod fixture;
pub mod replay;
