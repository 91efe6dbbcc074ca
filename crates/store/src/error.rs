//! What can go wrong with the identity store, sorted by whose fault it is.

use std::path::PathBuf;

use lifecycle::GenerationNumber;
use lifecycle::renewal::StorageTrouble;

use crate::disk::{Operation, StorageError};

/// Why the store did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Another process has the identity. Wait and try again.
    #[error("another process uses `{}` ({holder})", path.display())]
    Busy {
        /// The state folder.
        path: PathBuf,
        /// What that process wrote about itself; text only, it proves nothing.
        holder: String,
    },
    /// The disk refused and everything stands as it was.
    #[error("the identity store is unchanged")]
    Storage(#[from] StorageError),
    /// Content of this generation may be gone although it reads well: take a new number.
    #[error("generation `{number}` is given up, because what was written may not be on the disk")]
    Condemned {
        /// Which one.
        number: GenerationNumber,
        /// What failed.
        source: StorageError,
    },
    /// What was read back is not what was written: take a new number.
    #[error("generation `{number}` is given up, because it reads back differently")]
    ReadsBackDifferently {
        /// Which one.
        number: GenerationNumber,
    },
    /// Either manifest may survive a crash. Send nothing, erase nothing, and [load](crate::identity::IdentityStore::load) again.
    #[error("it is not known whether the manifest was replaced")]
    OutcomeUnknown(#[source] StorageError),
    /// A newer release wrote this store; this one only reads it.
    #[error("a newer release wrote this store (format {version}); it is only read")]
    Newer {
        /// The format on disk.
        version: u32,
    },
    /// The caller asked for something that would break a promise.
    #[error("refused: {0}")]
    Refused(#[from] Refusal),
}

/// What the store does for nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Writing before the disk was read, or after an unknown outcome.
    #[error("the disk must be read again first")]
    MustReload,
    /// Using a number that was used before.
    #[error("number `{0}` was used before")]
    NumberUsed(GenerationNumber),
    /// Staging a generation that nobody prepared.
    #[error("generation `{0}` was not prepared")]
    NotPrepared(GenerationNumber),
    /// Writing into a generation after one of its files failed.
    #[error("generation `{0}` was given up")]
    GivenUp(GenerationNumber),
    /// Naming a generation as a candidate that this process did not stage and no manifest on disk names.
    #[error("generation `{0}` was not staged")]
    NotStaged(GenerationNumber),
    /// Erasing a generation that the durable manifest names.
    #[error("generation `{0}` is still a candidate")]
    StillCandidate(GenerationNumber),
    /// A manifest that drops an intact generation while the manifest on disk is damaged.
    #[error("generation `{0}` is intact and may not be left out while the manifest is damaged")]
    LeavesOut(GenerationNumber),
    /// A manifest that cannot be: out of order, too many, numbers going back.
    #[error("impossible manifest: {0}")]
    Impossible(&'static str),
    /// Sweeping without an intact manifest.
    #[error("nothing is swept without an intact manifest")]
    NotIntact,
    /// Files longer than a store reads back.
    #[error("a file of {0} bytes is too long")]
    TooLong(usize),
}

impl StoreError {
    /// The refused call behind it, if the disk is to blame.
    pub fn storage(&self) -> Option<&StorageError> {
        match self {
            Self::Storage(source) | Self::Condemned { source, .. } | Self::OutcomeUnknown(source) => Some(source),
            Self::Busy { .. } | Self::ReadsBackDifferently { .. } | Self::Newer { .. } | Self::Refused(_) => None,
        }
    }

    /// Is there no room?
    pub fn is_full(&self) -> bool {
        self.storage().is_some_and(StorageError::is_full)
    }

    /// May we not write here?
    pub fn is_read_only(&self) -> bool {
        matches!(self, Self::Newer { .. }) || self.storage().is_some_and(StorageError::is_read_only)
    }

    /// What the router's machine makes of it.
    pub fn trouble(&self) -> StorageTrouble {
        if self.is_full() {
            StorageTrouble::Full
        } else if self.is_read_only() {
            StorageTrouble::ReadOnly
        } else {
            StorageTrouble::Broken
        }
    }

    /// What the operator can do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Busy { .. } => "stop the other process, or talk to it with `exuvia router status`",
            Self::Storage(source) | Self::Condemned { source, .. } | Self::OutcomeUnknown(source) => source.hint(),
            Self::ReadsBackDifferently { .. } => "this disk returns other bytes than were written; replace it",
            Self::Newer { .. } => "run the release that wrote the store, or a later one",
            Self::Refused(_) => "this is a defect of this program; please report it",
        }
    }
}

/// Does this failure leave content in doubt?
pub(crate) fn condemns(error: &StorageError) -> bool {
    matches!(error.operation, Operation::SyncFile | Operation::SyncFolder | Operation::Close)
}
