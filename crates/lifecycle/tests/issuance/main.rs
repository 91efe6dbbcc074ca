//! The controller's half, driven by hand: what is admitted, what each request leaves of it, and who may still ask.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod enrollment;
mod fork;
mod random;
mod restored;
mod story;
mod table;
mod world;
