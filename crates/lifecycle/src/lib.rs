//! What happens next to a router's identity: pure state machines of both sides.
//!
//! Start at `renewal` (the router's half), then `issuance` (the controller's). One rule orders everything:
//! durable first, visible second; `Step` makes it a type.
//!
//! No clock, disk, socket, randomness or `async`: [`Now`] and dice arrive with every input. Nothing here knows
//! OpenZiti's numbers (`wire` does) or certificates' bytes (`pki` does).
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod enrollment;
mod facts;
pub mod issuance;
pub mod manifest;
pub mod policy;
pub mod recovery;
pub mod renewal;
pub mod rescue;
mod step;

pub use facts::{ControllerId, Digest, Fingerprint, GenerationNumber, KeyId, Leaf, Now, RouterId, UnixTime, Uptime};
pub use step::{Durable, Held, Step};
