//! OpenZiti's frames and messages, typed.
//!
//! The only crate that knows upstream's numbers and names. Bytes come in, plain Rust values come out, and back again;
//! nothing here opens a socket, reads a clock or rolls dice. Everything that came from a peer is decoded within caps of
//! our own and never panics; the total functions of [`total`] are what fuzz targets call.
//!
//! | module | what it knows |
//! |---|---|
//! | [`frame`] | the 20-byte preamble, the header block, typed header values |
//! | [`content_type`], [`header`] | the numbers |
//! | [`version`], [`capability`], [`address`] | the small values that several messages share |
//! | [`hello`] | opening a channel: [`hello::Hello`], [`hello::HelloAnswer`], Exuvia's own headers |
//! | [`outcome`] | `Result` frames, ping and latency answers |
//! | [`heartbeat`] | headers 5 and 6 and when a peer counts as gone |
//! | [`extension`] | 20301, 20302, 20303, 20002: the exchange that carries a renewal |
//! | [`control`] | the other messages of the control plane |
//! | [`edge`] | the messages between a controller and an edge router |
//! | [`total`] | entry points for fuzzing |
//!
//! Every message type has `to_frame` and `from_frame`. A `from_frame` checks the content type, ignores headers it does
//! not know and keeps unknown enum values.
#![forbid(unsafe_code)]

pub mod address;
pub mod capability;
pub mod content_type;
pub mod control;
pub mod edge;
pub mod extension;
pub mod frame;
pub mod header;
pub mod heartbeat;
pub mod hello;
mod message;
pub mod outcome;
mod proto;
pub mod total;
pub mod version;

pub use frame::{Decoder, Frame, FrameError, Headers, Limits};
pub use message::{MessageError, ProtobufError};
