use std::path::PathBuf;

use crate::{Evidence, Skip};

/// One way of doing harm.
#[derive(Clone, Copy, Debug)]
pub struct Layer {
    /// Short name for the command line and for files: `model`, `disk`, `killed`.
    pub id: &'static str,
    /// A line for the report.
    pub title: &'static str,
    /// Which of the two cores it runs on.
    pub lane: Lane,
    /// What this machine lacks for it; empty when it can run whole. Asked before [`Layer::run`], without side effects that last. In CI each
    /// of these fails the proof; what is left out everywhere goes to [`Evidence::leave_out`] instead.
    pub probe: fn() -> Vec<Skip>,
    /// Does the harm. Parts that the probe named missing are left out; the runner adds those skips to the evidence.
    pub run: fn(&Plan) -> Evidence,
}

/// Layers of one lane run one after another; the two lanes run side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Thinks: models, simulated disks, seeded worlds.
    Computing,
    /// Waits: real processes, mounts, networks.
    Waiting,
}

/// How a layer is run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Nightly length (tens of minutes) instead of CI's share (a minute or two).
    pub is_long: bool,
    /// Where every random choice comes from.
    pub seed: u64,
    /// The program `exuvia` as it ships.
    pub exuvia: PathBuf,
    /// The program `write-order` of the crate `crash`: the write orders of others, and ours with one mistake, on a real disk.
    pub write_order: PathBuf,
    /// An empty folder that the layer may fill and leave; never on a file system whose filling would hurt.
    pub scratch: PathBuf,
}
