//! Faults as they strike and as they end.

use store::disk::{Errno, Fault as DiskFault, SimDisk};
use store::format::decode_manifest;

use super::exuvia::MANIFEST;
use super::{Body, Event, World};
use crate::Dice;
use crate::plan::{Fault, Strike, Target};

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
    /// Puts the first fault of every stream into the queue, or all that are listed.
    pub(crate) fn schedule_strikes(&mut self) {
        match self.plan.strikes.clone() {
            Some(strikes) => {
                for strike in strikes {
                    self.at(strike.at_ms, Event::Strike { strike, stream: None });
                }
            }
            None => (0..self.streams.len()).for_each(|stream| self.schedule_next(stream)),
        }
        let restores = |strike: &Strike| strike.fault == Fault::Restore;
        if self.plan.faults.contains(&Fault::Restore)
            || self.plan.strikes.as_ref().is_some_and(|strikes| strikes.iter().any(restores))
        {
            self.keep_backing_up();
        }
    }

    fn schedule_next(&mut self, stream: usize) {
        if let Some(strike) = self.streams.get_mut(stream).and_then(Iterator::next) {
            let after_ms = strike.at_ms.saturating_sub(self.now_ms);
            self.at(after_ms, Event::Strike { strike, stream: Some(stream) });
        }
    }

    pub(crate) fn strike(&mut self, strike: Strike, stream: Option<usize>) {
        if self.is_healed {
            return;
        }
        if let Some(stream) = stream {
            self.schedule_next(stream);
        }
        let router = match strike.target {
            Target::Router(number) => self.router_with_number(number),
            Target::Controllers => Some(0),
        };
        // A shrunk world may have fewer routers than the one that the list is from.
        let Some(router) = router else { return };
        self.counts.faults += 1;
        self.struck.push(strike);
        self.note(|| {
            let at = if strike.fault.is_of_controllers() { String::new() } else { format!(" at router {router}") };
            format!("fault: {}{at}, {} ms", strike.fault.name(), strike.lasts_ms)
        });
        if !strike.fault.is_of_controllers() {
            self.rescue_if_lost(router);
        }
        self.perform_strike(strike, router);
    }

    fn perform_strike(&mut self, strike: Strike, router: usize) {
        let Strike { lasts_ms, .. } = strike;
        let mut luck = Dice::new(strike.luck);
        let controller = luck.pick(self.controllers.len());
        match strike.fault {
            Fault::KillRouter => {
                self.kill_router(router);
                self.at(lasts_ms, Event::StartRouter { router });
            }
            Fault::PowerCut => {
                self.cut_power(router);
                self.at(lasts_ms, Event::StartRouter { router });
            }
            Fault::PowerCutInDiskOperation => self.fail_disk_operation(router, luck.below(120), DiskFault::Crash),
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
                let nth = luck.below(60);
                let kind = match luck.below(3) {
                    0 => DiskFault::Refuse(Errno::IO),
                    1 => DiskFault::Half(Errno::NOSPC),
                    _ => DiskFault::DoneBut(Errno::IO),
                };
                self.fail_disk_operation(router, nth, kind);
            }
            Fault::RotManifest => self.rot_manifest(router, luck.pick(136)),
            Fault::ClockStep => {
                let by_ms = match luck.below(4) {
                    0 => -120_000,
                    1 => 12 * 365 * 86_400_000,
                    2 => -50 * 365 * 86_400_000,
                    _ => i64::try_from(luck.below(20 * 86_400_000)).unwrap_or(0),
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
            Fault::Revoke => self.revoke_for(router, lasts_ms),
            Fault::EnrollAnew => self.enroll_anew_after(router, lasts_ms),
            Fault::Disable => self.disable_for(router, lasts_ms),
            Fault::Readmit => self.readmit(router),
            Fault::Impostor => self.impersonate(router, controller, luck.roll()),
            Fault::ForeignFiles => self.write_foreign_files(router, luck),
        }
    }

    /// A bit of the manifest flips. P9: whoever reads it now is told, and every whole generation is still there.
    pub fn rot_manifest(&mut self, router: usize, byte: usize) {
        // A bit that flips twice is well again; one is enough.
        let is_whole = |disk: &mut SimDisk| disk.file(MANIFEST).is_some_and(|bytes| decode_manifest(bytes).is_ok());
        if self.with_disk(router, |disk| is_whole(disk) && disk.rot(MANIFEST, byte)) != Some(true) {
            return;
        }
        self.note(|| format!("a bit flips in byte {byte} of the manifest of router {router}"));
        self.check_damage_is_told(router);
        self.survey(router);
        self.check_identity(router);
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
                    host.asleep.get_or_insert_default();
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
                for event in host.asleep.take().unwrap_or_default() {
                    self.at(1, event);
                }
            }
        }
    }

    /// Ends every fault for good: everything that is down starts, every wire is mended, and whoever needs a person gets one.
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

    /// A machine that is suspended does nothing; what would have happened happens when it wakes up.
    pub(crate) fn put_off(&mut self, event: Event) -> Option<Event> {
        let router = match event {
            Event::ToRouter { router, .. }
            | Event::Wake { router, .. }
            | Event::HandshakeTimeout { router, .. }
            | Event::RouterFindsChannelDead { router, .. }
            | Event::Forget { router, .. }
            | Event::Look { router, .. }
            | Event::StartRouter { router } => router,
            _ => return Some(event),
        };
        match self.routers.get_mut(router).and_then(|host| host.asleep.as_mut()) {
            Some(asleep) => {
                asleep.push(event);
                None
            }
            None => Some(event),
        }
    }

    pub(crate) fn wake(&mut self, router: usize, life: u32, turn: u64) {
        let Some(host) = self.routers.get(router) else { return };
        if host.life != life {
            return;
        }
        match host.body {
            Body::Exuvia(_) => self.wake_exuvia(router, turn),
            Body::Stock(_) => self.wake_stock(router),
        }
    }
}
