//! How far one exploration looks: who plays, how often what may go wrong, and what one program gets wrong on purpose.

use core::num::NonZeroU32;
use core::time::Duration;

use lifecycle::issuance::IssuancePolicy;
use lifecycle::policy::{Policy, RenewRule};
use lifecycle::{ControllerId, Now, UnixTime, Uptime};

/// Life of every leaf, in days.
pub const LEAF_DAYS: u64 = 90;
const DAY: Duration = Duration::from_secs(86_400);

/// Days at which something changes: before the renewal is due (day 60), due, an overlap later, N expired, N+1 expired.
pub const DAYS: &[u16] = &[30, 61, 62, 95, 170];

/// Whose program plays a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Make {
    /// The machines of `lifecycle`.
    Exuvia,
    /// A model of what OpenZiti does.
    Stock,
}

/// How a stock controller extends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Flow {
    /// 20302, 20301, 20303, 20002: the fingerprint is replaced by 20303.
    Verified,
    /// The fingerprint is replaced before 20301 leaves: `requireVerification` false, and the HTTP variant.
    SwapBeforeAnswer,
    /// A transit router: the pending certificate's text is never kept, so every 20303 is refused.
    Transit,
}

/// What a program gets wrong on purpose, so that the checker can show that it sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mistake {
    /// The router sends 20303 before it writes what it is for.
    VerifyBeforeStage,
    /// The router goes on as if its manifest were durable when it is in the page cache alone.
    PromoteBeforeDurable,
    /// The router throws the new generation away when the answer to its 20303 does not come.
    ForgetOnLostAnswer,
    /// The router erases the old generation as soon as the new one was admitted.
    EraseOnPromote,
    /// The controller admits the leaf that it confirmed last, and no other.
    SingleFingerprint,
    /// The controller drops the older leaves at 20303 instead of at the use of the newer one.
    ConfirmRemovesOld,
    /// The controller answers before its commit.
    AnswerBeforeCommit,
    /// The controller judges a request by the epoch of its record and not by that of the channel.
    EpochNotRechecked,
}

/// One exploration's bounds.
#[derive(Clone, Copy, Debug)]
pub struct Scope {
    /// What the report calls it.
    pub name: &'static str,
    /// Who plays the router.
    pub router: Make,
    /// Who plays the controllers.
    pub controller: Make,
    /// Controllers; ours share one register, stock ones a log that each applies in its own time.
    pub nodes: u8,
    /// How a stock controller extends.
    pub flow: Flow,
    /// Where the clock may stand.
    pub days: &'static [u16],
    /// First position of the clock.
    pub first_day: u8,
    /// Attempts: generations that our router prepares, or 20302 that a stock router sends.
    pub attempts: u8,
    /// Leaves that may be signed; a controller asked for more is silent.
    pub leaves: u8,
    /// Messages and started jobs in flight; what is sent beyond is lost.
    pub in_flight: u8,
    /// How often the router dies: killed at any point, or its machine loses power.
    pub router_crashes: u8,
    /// May the machine lose power, and not only the process its life?
    pub power_cuts: bool,
    /// How often a controller dies.
    pub controller_crashes: u8,
    /// Barriers (or a stock router's file writes) that fail with an error.
    pub disk_failures: u8,
    /// May messages be lost?
    pub loses: bool,
    /// May messages arrive twice?
    pub doubles: bool,
    /// May the router stop waiting for a handshake that goes on?
    pub strays: bool,
    /// May a channel break at any moment?
    pub breaks: bool,
    /// May a stock router stop waiting for 20002?
    pub times_out: bool,
    /// Renewals that an operator orders.
    pub asks: u8,
    /// May the operator revoke the router?
    pub revokes: bool,
    /// May the operator have the router enrolled anew?
    pub re_enrolls: bool,
    /// May the operator back the controllers up, and restore the copy?
    pub restores: bool,
    /// Steps that the router's clock takes alone, to anywhere.
    pub clock_jumps: u8,
    /// Is the second controller's clock one step behind?
    pub second_lags: bool,
    /// Does a renewal keep the key?
    pub keeps_key: bool,
    /// Can further underlays join a channel?
    pub is_grouped: bool,
    /// Is the window for repeating 20303 open until the clock moves, instead of for one try?
    pub is_patient: bool,
    /// Does every start of a stock router renew (`--extend`)?
    pub extends_at_start: bool,
    /// How many things go wrong in all, of whatever kind, each within its own bound; `None` = as many as those allow. Delays and reorderings, time
    /// that passes and time-outs are not counted: they are always free.
    pub faults: Option<u8>,
    /// Does a state remember the characteristic steps of known defects?
    pub marks: bool,
    /// A mistake.
    pub mistake: Option<Mistake>,
}

impl Scope {
    /// Two of everything that the issue asks for, and nothing of what an operator does.
    pub const fn new(name: &'static str, router: Make, controller: Make) -> Self {
        Self {
            name,
            router,
            controller,
            nodes: 1,
            flow: Flow::Verified,
            days: DAYS,
            first_day: 0,
            attempts: 2,
            leaves: 3,
            in_flight: 4,
            router_crashes: 2,
            power_cuts: true,
            controller_crashes: 2,
            disk_failures: 0,
            loses: true,
            doubles: true,
            strays: false,
            breaks: true,
            times_out: true,
            asks: 0,
            revokes: false,
            re_enrolls: false,
            restores: false,
            clock_jumps: 0,
            second_lags: false,
            keeps_key: false,
            is_grouped: true,
            is_patient: false,
            extends_at_start: false,
            faults: None,
            marks: false,
            mistake: None,
        }
    }

    /// The router's policy: every wait is zero, so every time-out may fire at once, or as late as the exploration likes.
    pub fn policy(&self) -> Policy {
        Policy {
            renew: RenewRule::Fraction { percent: 67, jitter_percent: 0 },
            spacing: Duration::ZERO,
            backoff_min: Duration::ZERO,
            backoff_max: Duration::ZERO,
            attempt_deadline: Duration::ZERO,
            drain: Duration::ZERO,
            verify_window: if self.is_patient { Duration::from_secs(600) } else { Duration::ZERO },
            churn: Duration::ZERO,
        }
    }

    /// The controller's policy: the overlap ends with the next step of the clock.
    pub fn issuance(&self) -> IssuancePolicy {
        IssuancePolicy::for_leaf_life(DAY * 90)
    }

    /// Divisible by every number of candidates that can come to be within these bounds.
    pub fn turns(&self) -> NonZeroU32 {
        let most = 1 + u32::from(self.attempts) + u32::from(self.re_enrolls);
        let multiple = match most {
            0 | 1 => 1,
            2 => 2,
            3 => 6,
            4 => 12,
            5 | 6 => 60,
            _ => 840,
        };
        NonZeroU32::new(multiple).unwrap_or(NonZeroU32::MIN)
    }

    /// The instant at this position of the clock.
    pub fn instant(&self, at: u8) -> UnixTime {
        UnixTime::from_s(0).plus(DAY * self.day(at))
    }

    /// The day at this position of the clock.
    pub fn day(&self, at: u8) -> u32 {
        self.days.get(usize::from(at)).copied().unwrap_or(0).into()
    }

    /// Both clocks of a machine whose wall clock stands here while the true time stands there.
    pub fn now(&self, wall: u8, truth: u8) -> Now {
        let uptime = Uptime::default().plus(DAY * self.day(truth));
        Now { wall: self.instant(wall), uptime }
    }

    /// Position of the clock that controller `node` reads.
    pub fn clock_of(&self, node: u8, truth: u8) -> u8 {
        if self.second_lags && node == 1 { truth.saturating_sub(1).max(self.first_day) } else { truth }
    }

    /// What the machines call a controller.
    pub fn controller_id(&self, node: u8) -> ControllerId {
        ControllerId::new(if node == 0 { "c1" } else { "c2" })
    }

    /// Which controller the machines mean.
    pub fn node_of(&self, id: &ControllerId) -> u8 {
        u8::from(id.as_str() == "c2")
    }

    /// Every controller.
    pub fn controllers(&self) -> Vec<ControllerId> {
        (0..self.nodes).map(|node| self.controller_id(node)).collect()
    }
}
