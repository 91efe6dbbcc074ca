//! Faults that strike by the dice.

use store::disk::{Errno, Fault as DiskFault};

use super::{Body, Event, World};
use crate::plan::Fault;

/// A fault that lasts for a while, on one router.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trouble {
    /// No way to any controller, and none back.
    Cut(usize),
    /// No way back from any controller.
    NoReply(usize),
    /// A disk without room.
    FullDisk(usize),
    /// A read-only disk.
    ReadOnlyDisk(usize),
    /// A clock that is this many milliseconds off.
    WrongClock(usize, i64),
    /// A suspended machine.
    Asleep(usize),
}

impl World {
    pub(crate) fn schedule_chaos(&mut self) {
        let mean_ms = u64::try_from(self.plan.fault_every.as_millis()).unwrap_or(u64::MAX);
        let after_ms = self.dice.between(1, mean_ms.saturating_mul(2).max(1));
        self.at(after_ms, Event::Chaos);
        if self.counts.faults == 0
            && self.register.backup_taken().is_none()
            && self.plan.faults.contains(&Fault::Restore)
        {
            self.back_up();
        }
    }

    pub(crate) fn chaos(&mut self) {
        if self.is_healed {
            return;
        }
        let router = self.dice.pick(self.routers.len());
        let controller = self.dice.pick(self.controllers.len());
        let fault = self.plan.faults.get(self.dice.pick(self.plan.faults.len())).copied();
        if let Some(fault) = fault {
            self.counts.faults += 1;
            self.note(|| format!("fault: {fault:?} at router {router}"));
            self.strike(fault, router, controller);
        }
        self.schedule_chaos();
    }

    /// How long a fault lasts: short of what would let every leaf expire.
    fn lasts_ms(&mut self) -> u64 {
        let most = u64::try_from(self.plan.leaf_life.as_millis() / 20).unwrap_or(u64::MAX);
        let short = self.dice.chance(500);
        self.dice.between(1, if short { most.min(90_000) } else { most }.max(1))
    }

    fn strike(&mut self, fault: Fault, router: usize, controller: usize) {
        let lasts_ms = self.lasts_ms();
        match fault {
            Fault::KillRouter => {
                self.kill_router(router);
                self.at(lasts_ms, Event::StartRouter { router });
            }
            Fault::PowerCut => {
                self.cut_power(router);
                self.at(lasts_ms, Event::StartRouter { router });
            }
            Fault::PowerCutInDiskOperation => {
                let nth = self.dice.below(120);
                self.fail_disk_operation(router, nth, DiskFault::Crash);
            }
            Fault::KillController => {
                self.kill_controller(controller);
                self.at(lasts_ms, Event::StartController { controller });
            }
            Fault::FailCommit => self.fail_next_commit(),
            Fault::Partition => self.trouble(Trouble::Cut(router), lasts_ms),
            Fault::OneWay => self.trouble(Trouble::NoReply(router), lasts_ms),
            Fault::DiskFull => self.trouble(Trouble::FullDisk(router), lasts_ms),
            Fault::DiskReadOnly => self.trouble(Trouble::ReadOnlyDisk(router), lasts_ms),
            Fault::DiskError => {
                let nth = self.dice.below(60);
                let kind = match self.dice.below(3) {
                    0 => DiskFault::Refuse(Errno::IO),
                    1 => DiskFault::Half(Errno::NOSPC),
                    _ => DiskFault::DoneBut(Errno::IO),
                };
                self.fail_disk_operation(router, nth, kind);
            }
            Fault::ClockStep => {
                let by_ms = match self.dice.below(4) {
                    0 => -120_000,
                    1 => 12 * 365 * 86_400_000,
                    2 => -50 * 365 * 86_400_000,
                    _ => i64::try_from(self.dice.below(20 * 86_400_000)).unwrap_or(0),
                };
                self.trouble(Trouble::WrongClock(router, by_ms), lasts_ms);
            }
            Fault::Suspend => self.trouble(Trouble::Asleep(router), lasts_ms),
            Fault::Restore => {
                // An older copy than this could name only leaves that are about to end; that is the operator's business.
                let age = self.register.backup_taken().map(|taken| self.true_now(0).since(taken));
                if age.is_some_and(|age| age < self.plan.leaf_life / 10) {
                    self.restore();
                }
            }
            Fault::RenewNow => self.renew_now(router),
        }
    }

    /// Lets a lasting fault begin, unless the same one is on already.
    pub(crate) fn trouble(&mut self, trouble: Trouble, lasts_ms: u64) {
        let (Trouble::Cut(router)
        | Trouble::NoReply(router)
        | Trouble::FullDisk(router)
        | Trouble::ReadOnlyDisk(router)
        | Trouble::WrongClock(router, _)
        | Trouble::Asleep(router)) = trouble;
        let kind = |trouble: &Trouble| std::mem::discriminant(trouble);
        if self.troubled.iter().any(|(on, at)| *at == router && kind(on) == kind(&trouble)) {
            return;
        }
        self.troubled.insert((trouble, router));
        match trouble {
            Trouble::Cut(router) => self.disconnect(router, true, true),
            Trouble::NoReply(router) => self.disconnect(router, false, true),
            Trouble::FullDisk(router) => drop(self.with_disk(router, store::disk::SimDisk::fill_up)),
            Trouble::ReadOnlyDisk(router) => drop(self.with_disk(router, |disk| disk.set_read_only(true))),
            Trouble::WrongClock(router, by_ms) => self.step_router_clock(router, by_ms),
            Trouble::Asleep(router) => {
                if let Some(host) = self.routers.get_mut(router) {
                    host.is_suspended = true;
                }
            }
        }
        self.at(lasts_ms, Event::Over(trouble));
    }

    pub(crate) fn trouble_over(&mut self, trouble: Trouble) {
        let Some((_, at)) = self.troubled.iter().find(|(on, _)| *on == trouble).copied() else { return };
        self.troubled.remove(&(trouble, at));
        self.note(|| format!("over: {trouble:?}"));
        match trouble {
            Trouble::Cut(router) => self.reconnect(router, true, true),
            Trouble::NoReply(router) => self.reconnect(router, false, true),
            Trouble::FullDisk(router) => drop(self.with_disk(router, |disk| disk.set_capacity(None))),
            Trouble::ReadOnlyDisk(router) => drop(self.with_disk(router, |disk| disk.set_read_only(false))),
            Trouble::WrongClock(router, by_ms) => self.step_router_clock(router, -by_ms),
            Trouble::Asleep(router) => {
                let Some(host) = self.routers.get_mut(router) else { return };
                host.is_suspended = false;
            }
        }
    }

    /// Ends every fault for good: everything that is down starts, every wire is mended.
    pub fn heal(&mut self) {
        self.is_healed = true;
        self.note(|| "healed".to_owned());
        for (trouble, _) in self.troubled.clone() {
            self.trouble_over(trouble);
        }
        self.blocked.clear();
        self.rules.clear();
        self.crash_leaves.clear();
        for node in std::mem::take(&mut self.behind) {
            self.catch_up(node);
        }
        for controller in 0..self.controllers.len() {
            self.start_controller(controller);
        }
        for router in 0..self.routers.len() {
            self.start_router(router);
        }
    }

    pub(crate) fn wake(&mut self, router: usize, life: u32, turn: u64) {
        let Some(host) = self.routers.get(router) else { return };
        if host.life != life {
            return;
        }
        if host.is_suspended {
            return self.at(5_000, Event::Wake { router, life, turn });
        }
        match host.body {
            Body::Exuvia(_) => self.wake_exuvia(router, turn),
            Body::Stock(_) => self.wake_stock(router),
        }
    }
}
