//! Bad luck and bad input, each with real processes of the real program: a clear message, a documented exit code, and nothing lost.
//!
//! The page `docs/operating/bad-luck.md` says for each row what happens and which tests show it; a test here keeps it true.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on must stop, also in its helpers")]

#[path = "bad_luck/support.rs"]
mod support;

#[path = "bad_luck/addresses.rs"]
mod addresses;
#[path = "bad_luck/clock.rs"]
mod clock;
#[path = "bad_luck/configuration.rs"]
mod configuration;
#[path = "bad_luck/damage.rs"]
mod damage;
#[path = "bad_luck/full_disk.rs"]
mod full_disk;
#[path = "bad_luck/hello.rs"]
mod hello;
#[path = "bad_luck/owners.rs"]
mod owners;
#[path = "bad_luck/page.rs"]
mod page;
#[path = "bad_luck/tokens.rs"]
mod tokens;
