//! What a world is made of and what may go wrong in it.
//!
//! Only faults that the promises of the design cover are ever injected: lost, doubled, late and reordered messages, partitions in one or
//! both directions, processes killed, power cut, commits that fail, disks that are full, read-only or failing for a while, clocks
//! of routers that jump, suspended machines, a register restored from a backup. Not among them: media that lie about flush, disks that go back
//! in time, controllers whose clock is wrong by more than a few seconds. Faults can pile up until a stock database, restored again and again,
//! remembers none of a router's unexpired leaves: that is outside the promise, and P1 is not claimed for a router while it lasts.

use std::fmt;
use std::time::Duration;

use crate::Dice;

const DAY: Duration = Duration::from_secs(86_400);

/// Whose router or controller it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Make {
    /// Ours: the real machines of `lifecycle`, the real store.
    Exuvia,
    /// A model of OpenZiti's.
    Stock,
}

/// One thing that may strike at any time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// kill -9 of a router; it starts again after a while.
    KillRouter,
    /// A router's machine loses power.
    PowerCut,
    /// A router loses power inside one of its next disk operations.
    PowerCutInDiskOperation,
    /// kill -9 of a controller.
    KillController,
    /// A commit of the register fails.
    FailCommit,
    /// No message passes between a router and the controllers.
    Partition,
    /// Messages to the router are lost.
    OneWay,
    /// A router's disk is full for a while.
    DiskFull,
    /// A router's disk is read-only for a while.
    DiskReadOnly,
    /// One disk operation of a router fails with EIO.
    DiskError,
    /// A router's wall clock jumps, and jumps back after a while.
    ClockStep,
    /// A router's machine is suspended.
    Suspend,
    /// The register is restored from the last backup.
    Restore,
    /// An operator asks for a renewal.
    RenewNow,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::KillRouter,
        Self::PowerCut,
        Self::PowerCutInDiskOperation,
        Self::KillController,
        Self::FailCommit,
        Self::Partition,
        Self::OneWay,
        Self::DiskFull,
        Self::DiskReadOnly,
        Self::DiskError,
        Self::ClockStep,
        Self::Suspend,
        Self::Restore,
        Self::RenewNow,
    ];
}

/// How messages travel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Net {
    /// Messages lost, per mille.
    pub loss_per_mille: u32,
    /// Messages delivered twice, per mille.
    pub double_per_mille: u32,
    /// Messages that take up to `slow_ms`, per mille; later ones overtake them.
    pub slow_per_mille: u32,
    /// Longest delay of a slow one, in milliseconds.
    pub slow_ms: u64,
}

/// A whole world, before its first tick.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Determines everything else that happens.
    pub seed: u64,
    /// How many routers.
    pub routers: usize,
    /// Of whose make.
    pub router_make: Make,
    /// How many controllers: ours share a register, stock ones are a cluster whose followers lag.
    pub controllers: usize,
    /// Of whose make.
    pub controller_make: Make,
    /// Life of a leaf.
    pub leaf_life: Duration,
    /// How messages travel.
    pub net: Net,
    /// Longest lag of a stock cluster's follower, in milliseconds.
    pub lag_ms: u64,
    /// Which faults exist at all.
    pub faults: Vec<Fault>,
    /// Mean time between two faults; zero for none.
    pub fault_every: Duration,
}

impl Plan {
    /// A world without faults: one controller, leaves of 90 days.
    pub fn calm(seed: u64, router_make: Make, controller_make: Make) -> Self {
        Self {
            seed,
            routers: 1,
            router_make,
            controllers: 1,
            controller_make,
            leaf_life: 90 * DAY,
            net: Net::default(),
            lag_ms: 0,
            faults: Vec::new(),
            fault_every: Duration::ZERO,
        }
    }

    /// Is this what [`Self::swarm`] draws, but for the number of routers? Then the seed tells all of it.
    pub(crate) fn is_of_its_seed(&self) -> bool {
        Self { routers: self.routers, ..Self::swarm(self.seed) } == *self
    }

    /// A world in which the seed first draws which faults exist at all.
    pub fn swarm(seed: u64) -> Self {
        let mut dice = Dice::new(seed ^ 0x5eed);
        let leaf_life = match dice.below(4) {
            0 => Duration::from_secs(3600),
            1 => DAY / 2,
            2 => 7 * DAY,
            _ => 90 * DAY,
        };
        let controller_make = if dice.chance(300) { Make::Stock } else { Make::Exuvia };
        let mut faults: Vec<Fault> = Fault::ALL.into_iter().filter(|_| dice.chance(450)).collect();
        if faults.is_empty() {
            faults.push(Fault::PowerCut);
        }
        let mut some = |per_mille: u32, most: u64| if dice.chance(per_mille) { dice.between(1, most) } else { 0 };
        let pick = |n: u64| u32::try_from(n).unwrap_or(0);
        let net = Net {
            loss_per_mille: pick(some(500, 200)),
            double_per_mille: pick(some(500, 200)),
            slow_per_mille: pick(some(500, 200)),
            slow_ms: some(1000, 40_000),
        };
        let lag_ms = some(500, 30_000);
        let fault_every = leaf_life / pick(dice.between(4, 200));
        let routers = usize::try_from(dice.between(1, 3)).unwrap_or(1);
        let controllers = usize::try_from(dice.between(1, 2)).unwrap_or(1);
        Self {
            seed,
            routers,
            router_make: Make::Exuvia,
            controllers,
            controller_make,
            leaf_life,
            net,
            lag_ms,
            faults,
            fault_every,
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "seed {}: {} {:?} router(s), {} {:?} controller(s), leaves of {} s, loss {}, doubled {}, slow {} up to {} ms, lag {} ms, a \
             fault every {} s of {:?}",
            self.seed,
            self.routers,
            self.router_make,
            self.controllers,
            self.controller_make,
            self.leaf_life.as_secs(),
            self.net.loss_per_mille,
            self.net.double_per_mille,
            self.net.slow_per_mille,
            self.net.slow_ms,
            self.lag_ms,
            self.fault_every.as_secs(),
            self.faults
        )
    }
}
