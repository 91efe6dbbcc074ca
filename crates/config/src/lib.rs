//! Reads YAML configuration, locates its problems and reports them all at once.
//!
//! Start at [`ConfigDocument::parse`], walk the result through [`Check`] with a table of [`Key`]s, and end with
//! [`Check::finish`], which yields warnings or a [`ConfigErrors`] whose `Display` is a report for a person.
//!
//! Not here: which keys exist (`router::config`, `controller::config`), files and the environment (their callers).
#![forbid(unsafe_code)]

mod address;
mod check;
mod document;
mod duration;
mod expand;
mod problem;
mod spelling;

pub use address::{Address, AddressError, HostPort, Scheme};
pub use check::{Check, Field, Key, KeyKind, Section, Shape, UnknownKeys, key_paths};
pub use document::{ConfigDocument, MAX_TEXT_BYTES, Place, nests_too_deep};
pub use duration::{DurationError, parse_duration, show_duration};
pub use expand::expand;
pub use problem::{ConfigErrors, Problem, Severity, Warnings, quote};
pub use spelling::nearest;
