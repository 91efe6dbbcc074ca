//! Crashes and refused calls on a simulated disk, exhaustively; and write orders of others, and ours with one mistake, which have to fail there.
#![forbid(unsafe_code)]

mod explore;
pub mod faults;
#[cfg(test)]
mod held_together;
mod judge;
mod layer;
pub mod material;
pub mod order;
mod rot;
mod scene;
mod script;

pub use layer::layers;
