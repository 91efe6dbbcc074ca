//! Every door through which bytes of others come in, and what happens when they are hostile.
//!
//! A [`Target`] is one door: a function that takes any bytes and must return, soon, without taking more memory than its [`Caps`]
//! allow; and what it read must mean the same when it is written and read again. The same list serves three: `fuzz/` (libFuzzer),
//! `tests/corpus.rs` (every input that was ever interesting, with every test run), and the layer `fuzz` of the proof, which besides
//! mutates the corpus for a while.

#![deny(unsafe_code)]

mod allocation;
mod check;
mod corpus;
mod layer;
mod mutate;
mod outside;
pub mod seeds;
mod targets;

pub use check::{Breach, Caps, Spent, Target};
pub use corpus::{corpus, corpus_folder};
pub use layer::layers;
pub use targets::TARGETS;

/// The target of this name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// Feeds a target, and panics when it breaks one of its caps: what a fuzz target calls.
///
/// # Panics
/// When there is no such target, and when the input is too much for it.
#[expect(clippy::panic, reason = "a panic is how a fuzzer is told that it has found something")]
pub fn fuzz(name: &str, data: &[u8]) {
    let Some(target) = target(name) else { panic!("there is no target `{name}`") };
    if let Err(breach) = target.feed(data) {
        panic!("`{name}`: {breach}");
    }
}
