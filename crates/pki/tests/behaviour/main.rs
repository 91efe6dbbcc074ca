//! `pki` from outside: one program, so that the tests link once.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should stop where it is")]

mod any_bytes;
mod files;
mod issuing;
mod requests;
mod support;
mod tokens;
mod validation;
