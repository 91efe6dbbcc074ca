//! Crashes and refused calls on a simulated disk, exhaustively; and write orders of others, and ours with one mistake, which have to fail there.
#![forbid(unsafe_code)]

pub mod material;
pub mod order;
