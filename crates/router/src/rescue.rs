//! `exuvia rescue`: what this disk still holds of a router that is locked out, and how a part of it is made to work again.
//!
//! [`Wreck::read`] looks at every file that could hold a part of the identity; [`Wreck::salvage`] puts keys and leaves together again.
//! What to do with them is [`lifecycle::rescue`]'s decision, and asking the controller is the command's business; [`take_in()`] and
//! [`prove()`] carry out this machine's half, through the same store and the same loop as everything else, so that a rescue that is cut
//! off anywhere is finished by the next one.

mod prove;
mod salvage;
mod take_in;
mod wreck;

pub use prove::{Proof, Proven, prove};
pub use salvage::{Salvage, Set};
pub use take_in::{set_key_aside, take_in};
pub use wreck::{Remark, Wreck};

use crate::commit::{CommitError, UnusableFiles};
use crate::run::RunError;

/// Why the rescue did not come to its end. What was in the store before still is.
#[derive(Debug, thiserror::Error)]
pub enum RescueError {
    /// The configuration, the store, or the lock.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A part of the identity is in no file.
    #[error("`{key}` cannot be replaced where it is: {why}")]
    NotInFiles {
        /// The key of router.yml.
        key: String,
        /// Why.
        why: String,
    },
    /// What was put together does not hold.
    #[error("the parts that were found do not make an identity")]
    Unusable(#[from] UnusableFiles),
    /// The store would not take it.
    #[error("the identity cannot be kept")]
    Commit(#[from] CommitError),
    /// A key would be overwritten, and no copy of it could be made.
    #[error("cannot keep a copy of `{path}`, so nothing is written over it")]
    SetAside {
        /// The key's file.
        path: String,
        /// What the kernel says.
        #[source]
        source: std::io::Error,
    },
    /// No controller admitted it in time.
    #[error("no controller admitted this router within {}: {trouble}", crate::status::spell_duration(*.within))]
    NotProven {
        /// How long it was tried.
        within: std::time::Duration,
        /// The last thing that went wrong.
        trouble: String,
    },
    /// It was admitted, and the configured files hold something else.
    #[error("generation {generation} was admitted, and could not be copied to the configured files")]
    NotCopied {
        /// Which generation.
        generation: u64,
    },
    /// Told to stop.
    #[error("stopped before the rescue was done")]
    Stopped,
}

impl RescueError {
    /// What a person can do about it.
    pub fn hint(&self) -> &str {
        match self {
            Self::Run(error) => error.hint(),
            Self::NotInFiles { .. } => "put every part of `identity` into a file of its own",
            Self::Unusable(_) => "run the command again with `--ca FILE`, the CA certificates of the controller",
            Self::Commit(error) => error.hint(),
            Self::SetAside { .. } => "let this user write the folder, and run the command again",
            Self::NotProven { .. } => {
                "run the command again: it looks at everything anew. OpenZiti refuses a router that connected less than a minute ago"
            }
            Self::NotCopied { .. } => "make the configured files writable and run the command again",
            Self::Stopped => "run the command again: it goes on from what is durable",
        }
    }
}
