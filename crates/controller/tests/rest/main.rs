//! The REST interfaces through the real router, with a real register on disk and real certificates.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod access;
mod described;
mod enrollment;
mod fabric;
mod full_disk;
mod management;
mod native;
mod observation;
mod tls;
mod world;
