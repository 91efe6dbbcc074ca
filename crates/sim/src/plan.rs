//! What a world is made of and what may go wrong in it.
//!
//! Only faults that the promises of the design cover are ever injected: lost, doubled, late and reordered messages, partitions in one or
//! both directions, processes killed, power cut, commits that fail, disks that are full, read-only or failing for a while, a manifest that
//! rots, clocks of routers that jump, suspended machines, operators who revoke, enroll anew, disable and vouch, strangers with somebody
//! else's leaf, others who write to the configured paths, a register restored from a backup. Not among them: media that lie about flush, disks that go back
//! in time, controllers whose clock is wrong by more than a few seconds. Faults can pile up until a stock database, restored again and again,
//! remembers none of a router's unexpired leaves: that is outside the promise, and P1 is not claimed for a router while it lasts.

mod draw;
mod fault;
mod text;

use std::fmt;
use std::time::Duration;

use crate::mutant::Mutant;

pub use fault::{Fault, Strike, Target};
pub use text::PlanError;

pub(crate) use draw::Stream;
pub(crate) use fault::named;

pub(crate) const DAY: Duration = Duration::from_secs(86_400);

/// Whose router or controller it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Make {
    /// Ours: the real machines of `lifecycle`, the real store.
    Exuvia,
    /// A model of OpenZiti's.
    Stock,
}

impl fmt::Display for Make {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Exuvia => "exuvia",
            Self::Stock => "stock",
        })
    }
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
    /// Number of the first router. A router's luck depends on its number and not on how many others there are.
    pub first_router: u64,
    /// How many routers.
    pub routers: usize,
    /// Of whose make.
    pub router_make: Make,
    /// How many controllers: ours share a register, stock ones are a cluster whose followers lag.
    pub controllers: usize,
    /// Of whose make.
    pub controller_make: Make,
    /// Can further underlays join a channel? Not at OpenZiti 1.6.
    pub are_grouped: bool,
    /// Life of a leaf.
    pub leaf_life: Duration,
    /// How long faults may strike, before everything is healed.
    pub time: Duration,
    /// How messages travel.
    pub net: Net,
    /// Longest lag of a stock cluster's follower, in milliseconds.
    pub lag_ms: u64,
    /// Routers of a thousand whose identity is copied to the paths that an OpenZiti router reads.
    pub projected_per_mille: u32,
    /// Which faults exist at all.
    pub faults: Vec<Fault>,
    /// Mean time between two faults of one router, and between two of the controllers; zero for none.
    pub fault_every: Duration,
    /// Exactly these faults, instead of ones that the seed draws. Ascending in time.
    pub strikes: Option<Vec<Strike>>,
    /// One mistake that is put into our own program, to see that it is found.
    pub mutant: Option<Mutant>,
}

impl Plan {
    /// A world without faults: one router, one controller, leaves of 90 days, for a year.
    pub fn calm(seed: u64, router_make: Make, controller_make: Make) -> Self {
        Self {
            seed,
            first_router: 0,
            routers: 1,
            router_make,
            controllers: 1,
            controller_make,
            are_grouped: true,
            leaf_life: 90 * DAY,
            time: 365 * DAY,
            net: Net::default(),
            lag_ms: 0,
            projected_per_mille: 0,
            faults: Vec::new(),
            fault_every: Duration::ZERO,
            strikes: None,
            mutant: None,
        }
    }

    /// Is this what [`Self::drawn`] draws for whole days? Then a seed and two numbers tell all of it.
    pub fn is_of_its_seed(&self) -> bool {
        let days = self.time.as_secs() / DAY.as_secs();
        days > 0 && *self == Self::drawn(self.seed, self.routers, days)
    }

    /// Can a fault of this kind strike in a world of these makes?
    pub(crate) fn allows(&self, fault: Fault) -> bool {
        let ours = (self.router_make == Make::Exuvia, self.controller_make == Make::Exuvia);
        match fault {
            Fault::KillRouter
            | Fault::PowerCut
            | Fault::KillController
            | Fault::Partition
            | Fault::OneWay
            | Fault::ClockStep
            | Fault::Suspend => true,
            Fault::PowerCutInDiskOperation
            | Fault::DiskFull
            | Fault::DiskReadOnly
            | Fault::DiskError
            | Fault::RotManifest
            | Fault::RenewNow => ours.0,
            Fault::ForeignFiles => ours.0 && self.projected_per_mille > 0,
            // What a stock database forgets a stock router cannot have twice.
            Fault::Restore => ours.0 || ours.1,
            Fault::FailCommit
            | Fault::Revoke
            | Fault::EnrollAnew
            | Fault::Disable
            | Fault::Readmit
            | Fault::Impostor => ours.1,
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Net { loss_per_mille, double_per_mille, slow_per_mille, slow_ms } = self.net;
        let channels = if self.are_grouped { "" } else { " without groups" };
        write!(
            f,
            "seed {}: {} {} router(s), {} {} controller(s){channels}, leaves of {}, for {}, loss {loss_per_mille}, doubled {double_per_mille}, \
             slow {slow_per_mille} of 1000 up to {slow_ms} ms, lag {} ms, copied files {} of 1000, ",
            self.seed,
            self.routers,
            self.router_make,
            self.controllers,
            self.controller_make,
            text::time(self.leaf_life),
            text::time(self.time),
            self.lag_ms,
            self.projected_per_mille,
        )?;
        let names: Vec<&str> = self.faults.iter().map(|fault| fault.name()).collect();
        match &self.strikes {
            Some(strikes) => write!(f, "{} listed fault(s)", strikes.len())?,
            None if self.fault_every.is_zero() || names.is_empty() => write!(f, "no faults")?,
            None => write!(f, "a fault of each router every {} of {}", text::time(self.fault_every), names.join(", "))?,
        }
        if let Some(mutant) = self.mutant {
            write!(f, ", mutant {}", mutant.name())?;
        }
        Ok(())
    }
}
