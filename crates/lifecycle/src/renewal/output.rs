//! What the router's machine wants done, and what must be durable first.

use alloc::vec::Vec;
use core::time::Duration;

use super::{PhaseName, Storage};
use crate::facts::{ControllerId, GenerationNumber, UnixTime};
use crate::manifest::Manifest;

/// What must be durable before a step's effects may happen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Barrier {
    /// PREPARE: keys and space of a new generation, then this manifest. Its failure is an ordinary input,
    /// [`super::Input::PrepareFailed`].
    Prepare {
        /// The generation to make.
        number: GenerationNumber,
        /// The manifest that records the attempt.
        manifest: Manifest,
    },
    /// STAGE: the leaves that just arrived, written and read back, then this manifest. If it fails the shell reads the disk and
    /// builds a new machine.
    Stage {
        /// The generation to complete.
        number: GenerationNumber,
        /// The manifest that names it.
        manifest: Manifest,
    },
    /// A whole generation that somebody else laid down, then this manifest. If it fails the shell reads the disk and builds a new
    /// machine.
    Import {
        /// The generation to write.
        number: GenerationNumber,
        /// The manifest that names it.
        manifest: Manifest,
    },
    /// This manifest. If it fails the shell reads the disk, keeps the machine as it was before the step, and gives it
    /// [`super::Input::ManifestFailed`].
    Manifest(Manifest),
}

/// One thing for the shell to do, in order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Open a control channel, presenting this generation's client leaf. Ends in [`super::Input::Dialed`].
    Dial {
        /// Whom.
        controller: ControllerId,
        /// With what.
        generation: GenerationNumber,
    },
    /// Close the control channel on purpose and open it again with this generation. Ends in [`super::Input::Dialed`].
    Replace {
        /// Whose.
        controller: ControllerId,
        /// With what.
        generation: GenerationNumber,
    },
    /// Attach one further underlay to the open channel. Ends in [`super::Input::Proved`].
    Prove {
        /// Whom.
        controller: ControllerId,
        /// With what.
        generation: GenerationNumber,
    },
    /// Send a 20302 with the keys of `number`. Where the controller looks the asker up by its newest underlay, first attach a
    /// fresh one that presents `present`; that ends in [`super::Input::Proved`], and nothing is sent if it was not admitted.
    Request {
        /// Whom.
        controller: ControllerId,
        /// Whose keys.
        number: GenerationNumber,
        /// The leaf that the controller admits; `None` where it has refused further underlays and the channel has to do as it is.
        present: Option<GenerationNumber>,
    },
    /// Send a 20303 for this generation. Ends in [`super::Input::VerifyAnswered`], or in nothing.
    Verify {
        /// Whom.
        controller: ControllerId,
        /// Which generation.
        number: GenerationNumber,
    },
    /// Make this generation the default of every TLS endpoint at once; connections stay.
    Publish(GenerationNumber),
    /// Detach, from every control channel, underlays that present an older generation than this one, where an underlay that
    /// presents it stays. They have drained; without this a channel would gain one underlay with each renewal.
    Trim(GenerationNumber),
    /// Copy this generation to the configured paths, where projection is on. May fail without harm.
    Project(GenerationNumber),
    /// Unlink these generations and sync the folder. No manifest names them.
    Erase(Vec<GenerationNumber>),
    /// Tell the operator.
    Report(Event),
}

/// Why a renewal begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// The live generation is due.
    Due,
    /// A controller's renewal window.
    Window,
    /// An operator asked for it.
    Operator,
    /// The process was started with `--extend`.
    StartFlag,
}

/// What went wrong with the disk, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StorageTrouble {
    /// No space, inodes or quota left.
    Full,
    /// A read-only or forbidden place.
    ReadOnly,
    /// Anything else, such as EIO.
    Broken,
}

/// Why an attempt produced no generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Failure {
    /// The disk could not take it.
    Storage(StorageTrouble),
    /// No 20301 in time.
    Unanswered,
    /// The controller refused visibly.
    RefusedByController,
    /// A leaf for another key, id or name, or one that does not chain to our bundle.
    Unacceptable,
    /// The new leaves would end before the ones they replace.
    Dates,
    /// This controller would admit the new leaf only in place of the old one, before we have answered: not asked for unless the
    /// operator allows it.
    Unsafe,
    /// No controller admitted it within the verify window.
    Unproven,
}

/// Why a due renewal does not begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Blocked {
    /// What is written would not survive.
    VolatileStorage,
    /// Somebody else manages the identity files.
    ExternallyManaged,
    /// Eight candidates, none of which may be dropped yet.
    NoRoom,
}

/// What an operator is told, once each time it happens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// The machine runs, in the phase that the disk allowed.
    Started(PhaseName),
    /// A control channel is up.
    Connected {
        /// Whose.
        controller: ControllerId,
        /// Which leaf it admitted.
        generation: GenerationNumber,
    },
    /// A control channel closed.
    Disconnected {
        /// Whose.
        controller: ControllerId,
    },
    /// A dial was refused.
    Refused {
        /// By whom.
        controller: ControllerId,
        /// Which leaf was presented.
        generation: GenerationNumber,
        /// When the next one follows.
        retry_in: Duration,
    },
    /// An attempt began; its keys are durable.
    AttemptBegan {
        /// The generation that it makes.
        number: GenerationNumber,
        /// Why.
        cause: Cause,
    },
    /// A 20302 left.
    Requested {
        /// The generation.
        number: GenerationNumber,
        /// To whom.
        controller: ControllerId,
    },
    /// The new leaves are durable.
    Staged {
        /// The generation.
        number: GenerationNumber,
        /// The end of its client leaf.
        not_after: UnixTime,
    },
    /// A 20303 left.
    Proving {
        /// The generation.
        number: GenerationNumber,
        /// To whom.
        controller: ControllerId,
    },
    /// A controller admitted the generation in a full handshake of this process: it is the default now.
    Promoted {
        /// The generation.
        number: GenerationNumber,
        /// By whom.
        controller: ControllerId,
    },
    /// An attempt, or one round of it, failed.
    AttemptFailed {
        /// The generation that it was to make.
        number: GenerationNumber,
        /// Why.
        failure: Failure,
        /// When the next round follows.
        retry_in: Duration,
    },
    /// A controller admitted an older generation than the one that was live.
    OlderAdmitted {
        /// The generation that is live now.
        number: GenerationNumber,
        /// By whom.
        controller: ControllerId,
    },
    /// Another identity of this router was found at the configured paths and kept as a candidate.
    Imported(GenerationNumber),
    /// These generations are no longer candidates, and their keys are erased.
    Retired(Vec<GenerationNumber>),
    /// A due renewal does not begin.
    Blocked(Blocked),
    /// A renewal that was asked for does not begin now.
    AskDeferred {
        /// Who asked.
        cause: Cause,
        /// How long until it may be asked for again; zero when one is under way.
        wait: Duration,
    },
    /// Every leaf is past its NotAfter by our clock.
    Lapsed,
    /// The state folder's mode changed.
    Storage(Storage),
}
