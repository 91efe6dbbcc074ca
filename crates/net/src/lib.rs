//! tokio and rustls: control channels, listeners, publishing credentials.
//!
//! - [`credentials`]: one generation in memory, published to every TLS endpoint with one store.
//! - [`tls`]: what both sides of a handshake insist on: resumption off, handshake signatures always checked.
//! - [`dial`] makes an underlay, [`channel`] groups underlays into one control channel, [`listen`] is the other side.
//! - [`http`]: the small client and server that enrollment, management and health checks need.
//!
//! Decisions live elsewhere: who is admitted is answered by the owner of a listener, when to dial again by the owner of
//! a channel.

pub mod channel;
pub mod clock;
pub mod connect;
pub mod credentials;
pub mod dial;
pub mod http;
pub mod listen;
pub mod peer;
pub mod source;
pub mod stop;
pub mod tls;
