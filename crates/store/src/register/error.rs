//! What can go wrong with the register, sorted by who can mend it.

use std::path::PathBuf;

use lifecycle::RouterId;

/// Why the register did not do what was asked. Cloneable, because a failed commit answers a whole batch with it.
///
/// Nothing of what an error answers is visible to any later read. After [`RegisterError::CommitFailed`] and
/// [`RegisterError::Closed`] a crash of the machine at that very moment may still turn out to have kept the change;
/// every [`Input`](lifecycle::issuance::Input) is safe to submit again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegisterError {
    // The caller's.
    /// No router has this id.
    #[error("the register knows no router `{0}`")]
    UnknownRouter(RouterId),
    /// A router with this id exists.
    #[error("the id `{0}` is already given to a router")]
    IdTaken(RouterId),
    /// A router with this name exists.
    #[error("a router named `{0}` already exists; names are unique")]
    NameTaken(String),
    /// No administrator has this name.
    #[error("there is no administrator `{0}`")]
    UnknownAdmin(String),
    /// The step adds a leaf, or a token, and the submission did not bring its text.
    #[error("the submission for router `{router}` lacks its {missing}")]
    Incomplete {
        /// Which router.
        router: RouterId,
        /// What is missing.
        missing: &'static str,
    },
    /// The backend cannot do this at all.
    #[error("this register cannot {0}")]
    Unsupported(&'static str),

    // The machine's: passing.
    /// A transaction was not committed. Everything in it is undone.
    #[error("the register could not write ({detail}); nothing was changed: free space on its disk, or mend the disk")]
    CommitFailed {
        /// What SQLite and the system said.
        detail: String,
    },
    /// A read failed.
    #[error("the register could not read ({detail})")]
    ReadFailed {
        /// What SQLite and the system said.
        detail: String,
    },
    /// The register was closed, or crashed, before it answered.
    #[error("the register is closed")]
    Closed,

    // The operator's.
    /// There is no register at this path.
    #[error("there is no register at `{}`; create one with `exuvia controller init`, or `restore` a backup", path.display())]
    Absent {
        /// Where.
        path: PathBuf,
    },
    /// A file is where one should be created.
    #[error("`{}` exists already and is not overwritten", path.display())]
    Exists {
        /// Where.
        path: PathBuf,
    },
    /// Another process has it open.
    #[error("the register `{}` is in use by another process{}; stop that one first", path.display(), holder_text(holder))]
    InUse {
        /// Where.
        path: PathBuf,
        /// What the holder wrote about itself.
        holder: String,
    },
    /// Some other program's file.
    #[error("`{}` is not a register of Exuvia ({what}); nothing was changed", path.display())]
    Foreign {
        /// Where.
        path: PathBuf,
        /// What it seems to be.
        what: String,
    },
    /// Written by a newer release.
    #[error("the register `{}` has schema {found} and this release knows up to {known}; run the newer release again, or restore a backup",
        path.display())]
    Newer {
        /// Where.
        path: PathBuf,
        /// Schema found.
        found: i64,
        /// Newest schema known here.
        known: i64,
    },
    /// A migration that this file has seen is not the one that this release has under that number.
    #[error("the register `{}` was migrated by a different step {number}; it belongs to another build", path.display())]
    SchemaDiffers {
        /// Where.
        path: PathBuf,
        /// Number of the migration.
        number: i64,
    },
    /// Ours, and damaged.
    #[error("the register `{}` is damaged ({what}); keep the file and restore a backup", path.display())]
    Damaged {
        /// Where.
        path: PathBuf,
        /// What was found.
        what: String,
    },
    /// One router's rows make no sense.
    #[error(
        "what the register holds of router `{router}` is damaged ({what}); restore a backup, or delete and enroll the router"
    )]
    DamagedRouter {
        /// Which router.
        router: RouterId,
        /// What was found.
        what: String,
    },
    /// A copy of a register that was not made by `backup`, so the time of the copy is unknown.
    #[error("`{}` does not say when it was taken: it is not a backup made by `exuvia controller backup`", path.display())]
    NotABackup {
        /// Where.
        path: PathBuf,
    },
    /// A file operation failed.
    #[error("cannot {doing} `{}`: {detail}", path.display())]
    File {
        /// What was tried.
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        detail: String,
    },
}

impl RegisterError {
    /// Is it worth submitting the same again in a moment?
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::CommitFailed { .. } | Self::ReadFailed { .. } | Self::InUse { .. })
    }

    pub(super) fn file(doing: &'static str, path: &std::path::Path, error: &std::io::Error) -> Self {
        Self::File { doing, path: path.to_path_buf(), detail: error.to_string() }
    }
}

fn holder_text(holder: &str) -> String {
    if holder.is_empty() { String::new() } else { format!(" ({holder})") }
}
