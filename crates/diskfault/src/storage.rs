//! The real program on real file systems that lose power, fail, fill up and refuse.
//!
//! Everything that is mounted here is mounted in a namespace of the layer's own process, on images in a file system in memory of limited
//! size; nothing of the machine itself is filled, written to or slowed down.

mod block_errors;
mod block_log;
mod blocks;
mod containers;
mod daemon;
mod dice;
mod identity;
mod image;
mod log;
mod mounts;
mod orders;
mod outside;
mod power_cut;
mod replay;
mod sandbox;
mod site;

use evidence::Layer;
pub use image::{Image, Kind as FileSystem, cut_power, shut_down};
pub use nix::mount::MsFlags;
pub use sandbox::{Mounted, Sandbox, bind, remount_bind, tmpfs};

/// The layers of storage.
pub(crate) fn layers() -> Vec<Layer> {
    vec![power_cut::LAYER, block_log::LAYER, block_errors::LAYER, mounts::LAYER, containers::LAYER]
}
