//! The real program on real file systems that fail, and killed or refused at every call.
#![forbid(unsafe_code)]

mod errno;
mod killed;
pub mod storage;
pub mod trace;

use std::path::{Path, PathBuf};
use std::time::Duration;

use evidence::{Evidence, Layer, Plan};

/// The layers of this crate.
pub fn layers() -> Vec<Layer> {
    let mut layers = vec![killed::LAYER, errno::LAYER];
    layers.extend(storage::layers());
    layers
}

/// What needs no privilege, in a few seconds: a share of the errno matrix and of the kills, for `cargo test`.
///
/// # Errors
/// When nothing can be started.
pub fn unprivileged(exuvia: &Path, scratch: &Path, seed: u64) -> anyhow::Result<Vec<Evidence>> {
    let plan = |name: &str| Plan {
        is_long: false,
        seed,
        exuvia: exuvia.to_owned(),
        write_order: PathBuf::new(),
        scratch: scratch.join(name),
    };
    let share = |cases| killed::Share { cases, most: Duration::from_secs(12) };
    Ok(vec![killed::sample(&plan("killed"), share(60))?, errno::sample(&plan("errno"), share(80))?])
}
