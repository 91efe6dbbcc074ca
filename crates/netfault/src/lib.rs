//! The real program on networks and clocks that fail, and under attack.
//!
//! - [`proxy`]: our own proxy between routers and their controller. It fails like a network, and, holding the test's keys, like a
//!   peer: message by message.
//! - [`network`]: the layers `messages` and `namespaces`: every message of a renewal and every action of the proxy; real network stacks
//!   with loss, partition and cut links.
//! - [`time`]: the layer `time`: clocks that are wrong, and clocks that jump.
//! - [`attack`]: somebody who means harm.
#![forbid(unsafe_code)]

pub mod attack;
pub mod network;
pub mod proxy;
pub mod time;

/// Everything that this crate can do to the program.
pub fn layers() -> Vec<evidence::Layer> {
    let mut layers = network::layers();
    layers.extend(time::layers());
    layers.extend(attack::layers());
    layers
}
