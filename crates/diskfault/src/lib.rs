//! The real program on real file systems that fail, and killed or refused at every call.
#![forbid(unsafe_code)]

mod errno;
mod killed;
mod storage;
pub mod trace;

use evidence::Layer;

/// The layers of this crate.
pub fn layers() -> Vec<Layer> {
    let mut layers = vec![killed::LAYER, errno::LAYER];
    layers.extend(storage::layers());
    layers
}
