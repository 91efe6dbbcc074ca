//! Write orders: how one system or another puts a renewed identity on its disk, told through [`Disk`], so that they run on a simulated disk
//! and on a real one.
//!
//! The orders of others are told in our own words after reading their source, which each names; none of their code is here. Ours stands
//! beside them, and ours with one mistake at a time.

mod careless;
mod links;
mod names;
mod ours;
mod single;
mod tools;

use std::path::Path;

use store::StoreError;
use store::disk::{Disk, Errno};

pub use careless::{Care, Careless};
pub use names::{About, ORDERS, Wrong};

/// Something that the world outside sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// From now on the controller admits this generation alone.
    Commit(u64),
    /// The system says that the renewal is done.
    Done(u64),
}

/// When the controller stops admitting the old generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Only the order of files is judged: both generations are admitted until the system says that it is done.
    FilesOnly,
    /// One fingerprint at a time, as a stock OpenZiti controller has it: it commits when it answers, and the answer is what gets written.
    OneFingerprint,
}

/// Why an order did not get to its end, or found nothing to load.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// The disk refused.
    #[error("the disk refused: {0}")]
    Disk(#[from] Errno),
    /// Our store refused.
    #[error(transparent)]
    Store(Box<StoreError>),
    /// What lies there cannot be used.
    #[error("unusable: {0}")]
    Unusable(#[from] crate::material::Unusable),
    /// The answer to the proof never came, and the system gave up.
    #[error("no answer; given up")]
    NoAnswer,
}

impl From<StoreError> for OrderError {
    fn from(error: StoreError) -> Self {
        Self::Store(Box::new(error))
    }
}

/// What an order answers.
pub type Result<T> = std::result::Result<T, OrderError>;

/// Hears of [`Moment`]s, with the disk as it is then.
pub type Tell<'a, D> = &'a mut dyn FnMut(&D, Moment);

/// One system's way of storing an identity.
pub trait WriteOrder<D: Disk + Default> {
    /// Performs the renewal to generation `n` in the folder `dir`. In an empty folder it stores the first identity, which is not durable before
    /// [`install`] has synced it.
    ///
    /// # Errors
    /// As the system itself would give up; a system that goes on regardless answers `Ok`.
    fn put(&self, disk: &mut D, dir: &Path, n: u64, protocol: Protocol, tell: Tell<'_, D>) -> Result<()>;

    /// The generations that a restart of the system could use, oldest first. May repair, as the system's own start does.
    ///
    /// # Errors
    /// Why there is none.
    fn load(&self, disk: &mut D, dir: &Path) -> Result<Vec<u64>>;
}

/// The order with this name, from [`ORDERS`].
pub fn find<D: Disk + Default>(name: &str) -> Option<(&'static About, Box<dyn WriteOrder<D>>)> {
    let about = ORDERS.iter().find(|about| about.name == name)?;
    Some((about, about.make.order()))
}

/// Stores the first identity, generation `n`, and makes everything in the folder durable.
///
/// # Errors
/// Whatever the order or the disk says.
pub fn install<D: Disk + Default>(order: &dyn WriteOrder<D>, disk: &mut D, dir: &Path, n: u64) -> Result<()> {
    order.put(disk, dir, n, Protocol::FilesOnly, &mut |_, _| {})?;
    let folder = disk.open_root(dir)?;
    Ok(tools::sync_tree(disk, &folder)?)
}
