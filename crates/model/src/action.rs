//! What may happen next.

/// How a step that meets its barrier goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fate {
    /// The barrier is passed, and everything after it is done.
    Lives,
    /// Killed between the last rename and its sync: a restart sees it, and a power cut undoes it.
    DiesInBarrier,
    /// Killed when everything is durable and nothing has been seen. (Killed *before* the barrier is a kill before the step.)
    DiesAfterBarrier,
    /// The disk refuses with an error.
    Fails {
        /// Between the rename and its sync, so that nobody knows which manifest survives.
        is_unknown: bool,
    },
    /// A stock controller's node commits a change and does not apply it in time: the answer is an error or none.
    Lags,
}

impl Action {
    /// Does something go wrong by it, or does an operator interfere? Delays, time and time-outs are no faults.
    pub fn is_fault(self) -> bool {
        match self {
            Self::Tick(fate) | Self::Ask(fate) => fate != Fate::Lives,
            Self::Deliver { is_doubled, fate, .. } => is_doubled || fate != Fate::Lives,
            Self::StockWrite { fails, .. } => fails,
            Self::Lose(_)
            | Self::Abandon(_)
            | Self::Break(_)
            | Self::Kill
            | Self::PowerCut(_)
            | Self::CommitThenDie(_)
            | Self::CrashController(_)
            | Self::ClockJump(_)
            | Self::Revoke
            | Self::ReEnroll
            | Self::BackUp
            | Self::StockGiveUp(_) => true,
            Self::Notice(_)
            | Self::Start
            | Self::Commit
            | Self::Clock
            | Self::EnrollAgain
            | Self::Restore
            | Self::Apply(_)
            | Self::StockDial(_)
            | Self::StockLook(_)
            | Self::StockForget
            | Self::Sync => false,
        }
    }
}

/// One action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// The router's machine looks at its clocks; every wait may be over.
    Tick(Fate),
    /// The message at this place arrives.
    Deliver {
        /// Its place.
        at: u8,
        /// And stays under way.
        is_doubled: bool,
        /// What becomes of the step that it causes.
        fate: Fate,
    },
    /// The message at this place is lost.
    Lose(u8),
    /// The router stops waiting for the handshake at this place, which goes on.
    Abandon(u8),
    /// The channel with this controller breaks.
    Break(u8),
    /// The router notices that this controller has no channel with it.
    Notice(u8),
    /// The router's process is killed between two steps.
    Kill,
    /// The router's machine loses power. For a stock router: is the certificate file left empty, where it was not synced?
    PowerCut(bool),
    /// The router starts.
    Start,
    /// Our register commits.
    Commit,
    /// Our register commits, and this controller dies before it has answered.
    CommitThenDie(u8),
    /// A controller dies and starts again.
    CrashController(u8),
    /// Time passes.
    Clock,
    /// The router's clock alone is set.
    ClockJump(u8),
    /// An operator orders a renewal.
    Ask(Fate),
    /// An operator revokes the router.
    Revoke,
    /// An operator has the router enrolled anew: its identity is void.
    ReEnroll,
    /// Somebody uses the token on the router's machine.
    EnrollAgain,
    /// The controllers are backed up.
    BackUp,
    /// The copy is put in place.
    Restore,
    /// A lagging stock node applies the next change.
    Apply(u8),
    /// A stock router dials.
    StockDial(u8),
    /// A stock router's certificate loop looks at the clock, and asks this controller if it is time.
    StockLook(u8),
    /// 35 s are over.
    StockForget,
    /// 30 s are over for the handler at this place.
    StockGiveUp(u8),
    /// The handler at this place does its next file operation; or that fails.
    StockWrite {
        /// Its place.
        at: u8,
        /// Does the operation fail?
        fails: bool,
    },
    /// The kernel writes a stock router's file back.
    Sync,
}
