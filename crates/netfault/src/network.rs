//! Networks that fail: our own proxy between the two programs, and real network stacks.

pub mod messages;
mod namespaces;
pub mod peers;
pub mod world;

use evidence::{Lane, Layer};

/// The layers `messages` and `namespaces`.
pub fn layers() -> Vec<Layer> {
    vec![
        Layer {
            id: "messages",
            title: "every message of a renewal × everything that can happen to it, by our own proxy",
            lane: Lane::Waiting,
            probe: messages::probe,
            run: messages::run,
        },
        Layer {
            id: "namespaces",
            title: "two network stacks that lose, reject and cut",
            lane: Lane::Waiting,
            probe: namespaces::probe,
            run: namespaces::run,
        },
    ]
}
