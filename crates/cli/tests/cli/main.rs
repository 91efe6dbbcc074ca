//! The program as people and scripts meet it: real processes, their output and their exit codes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod bad_input;
mod damage;
mod help;
mod life;
mod refusals;
mod support;
mod terminal;
