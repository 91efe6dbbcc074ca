//! What a story makes happen on purpose.

use std::time::Duration;

use store::disk::Fault;

use super::network::Way;
use super::{Body, Event, World};
use crate::message::{Kind, Message};

/// What becomes of one message instead of its ordinary way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It never arrives.
    Lose,
    /// It arrives, and once more this much later.
    Double {
        /// How much later.
        after: Duration,
    },
    /// It arrives this late; what is sent after it overtakes it.
    Delay {
        /// How late.
        by: Duration,
    },
    /// It never leaves: its sender is killed just before, and starts again this much later. Whatever the message follows from is
    /// durable by then.
    KillSender {
        /// How much later.
        down: Duration,
    },
}

/// What a crash inside a disk operation is, and what it leaves of what was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaves {
    /// kill -9: the machine lives, and everything that was written is still in its cache.
    Cache,
    /// A power cut that takes everything that was not synced.
    Nothing,
    /// A power cut that happens to take nothing.
    Everything,
    /// A power cut that takes what this seed says.
    Some(u64),
}

#[derive(Clone, Debug)]
pub(crate) struct Rule {
    kind: Kind,
    controller: Option<usize>,
    action: Action,
    left: u32,
}

impl World {
    /// The next `times` messages of this kind, from or to anybody, fare so.
    pub fn next_messages(&mut self, kind: Kind, times: u32, action: Action) {
        self.rules.push(Rule { kind, controller: None, action, left: times });
    }

    /// The next `times` messages of this kind between any router and this controller fare so.
    pub fn next_messages_of(&mut self, controller: usize, kind: Kind, times: u32, action: Action) {
        self.rules.push(Rule { kind, controller: Some(controller), action, left: times });
    }

    /// Has every scripted message been met?
    pub fn script_is_played(&self) -> bool {
        self.rules.iter().all(|rule| rule.left == 0)
    }

    pub(crate) fn ruled(&mut self, message: &Message, _: usize, controller: usize) -> Option<Action> {
        let kind = message.kind();
        let is_meant =
            |rule: &&mut Rule| rule.left > 0 && rule.kind == kind && rule.controller.is_none_or(|at| at == controller);
        let rule = self.rules.iter_mut().find(is_meant)?;
        rule.left -= 1;
        Some(rule.action)
    }

    /// Runs until `is_so`, the end of `within`, or the first broken promise. Answers whether it became so.
    pub fn run_until(&mut self, within: Duration, is_so: impl Fn(&Self) -> bool) -> bool {
        let end_ms = self.now_ms.saturating_add(u64::try_from(within.as_millis()).unwrap_or(u64::MAX));
        while !is_so(self) {
            let is_next = self.queue.next_at().is_some_and(|at| at <= end_ms);
            if !is_next || self.broken.is_some() {
                return false;
            }
            self.tick();
        }
        true
    }

    /// Lets this much time pass.
    ///
    /// # Errors
    /// The first broken promise.
    pub fn run_for(&mut self, time: Duration) -> Result<(), crate::Broken> {
        self.run_to(self.now_ms.saturating_add(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)))
    }

    /// kill -9; the machine lives on.
    pub fn kill_router(&mut self, router: usize) {
        self.drop_router_links(router, true);
        self.note(|| format!("router {router} is killed"));
        let Some(host) = self.routers.get_mut(router) else { return };
        host.life += 1;
        match &mut host.body {
            Body::Exuvia(body) => {
                if let Some(process) = body.process.take() {
                    body.disk = Some(process.store.close().after_kill());
                }
            }
            Body::Stock(body) => body.process = None,
        }
        self.survey(router);
        self.check_identity(router);
    }

    /// The power fails: of what was not synced, the seed decides what is left.
    pub fn cut_power(&mut self, router: usize) {
        self.cut_power_leaving(router, None);
    }

    fn cut_power_leaving(&mut self, router: usize, leaves: Option<Leaves>) {
        self.drop_router_links(router, false);
        self.note(|| format!("router {router} loses power"));
        let (now_ms, seed) = (self.now_ms, self.dice_of(router).roll());
        let Some(host) = self.routers.get_mut(router) else { return };
        host.life += 1;
        host.clock.booted_ms = now_ms;
        match &mut host.body {
            Body::Exuvia(body) => {
                let disk = body.process.take().map(|process| process.store.close()).or_else(|| body.disk.take());
                let weakest = store::disk::CrashModel::Weakest;
                body.disk = disk.map(|disk| match leaves {
                    Some(Leaves::Nothing) => disk.after_crash(weakest, |_| false),
                    Some(Leaves::Everything | Leaves::Cache) => disk.after_crash(weakest, |_| true),
                    Some(Leaves::Some(seed)) => disk.after_crash_seeded(weakest, seed),
                    None => disk.after_crash_seeded(weakest, seed),
                });
            }
            Body::Stock(body) => {
                body.process = None;
                body.file = body.file.after_power_cut(now_ms);
            }
        }
        self.survey(router);
        self.check_identity(router);
    }

    /// A scripted crash struck inside a disk operation.
    pub(crate) fn power_cut_now(&mut self, router: usize) {
        self.counts.cuts_in_disk_operations += 1;
        match self.crash_leaves.remove(&router) {
            Some(Leaves::Cache) => self.kill_router(router),
            leaves => self.cut_power_leaving(router, leaves),
        }
        let after_ms = self.dice_of(router).between(1_000, 60_000);
        self.at(after_ms, Event::StartRouter { router });
    }

    /// Starts a router's process, unless it runs.
    pub fn start_router(&mut self, router: usize) {
        match self.routers.get(router).map(|host| &host.body) {
            Some(Body::Exuvia(_)) => self.start_exuvia(router),
            Some(Body::Stock(_)) => self.start_stock(router, false),
            None => {}
        }
    }

    /// Starts a stock router with `--extend`.
    pub fn start_stock_with_extend(&mut self, router: usize) {
        self.start_stock(router, true);
    }

    /// kill -9 of a controller; what its register has not committed is lost.
    pub fn kill_controller(&mut self, controller: usize) {
        self.note(|| format!("controller {controller} is killed"));
        self.register.roll_back();
        let Some(host) = self.controllers.get_mut(controller) else { return };
        if !host.is_up {
            return;
        }
        host.is_up = false;
        host.life += 1;
        let channels = std::mem::take(&mut host.channels);
        for (router, open) in channels {
            self.send_to_router(controller, router, Message::Closed { channel: open.id });
        }
    }

    /// Starts a controller.
    pub fn start_controller(&mut self, controller: usize) {
        if let Some(host) = self.controllers.get_mut(controller) {
            host.is_up = true;
        }
    }

    /// The next commit of the register fails.
    pub fn fail_next_commit(&mut self) {
        self.register.fail_next_commit();
    }

    /// Copies the register, or the stock database.
    pub fn back_up(&mut self) {
        let at = self.true_now(0);
        self.register.back_up(at);
        self.cluster.back_up();
    }

    /// Now, and twenty times in every leaf life.
    pub(crate) fn keep_backing_up(&mut self) {
        self.back_up();
        let next_ms = u64::try_from(self.plan.leaf_life.as_millis() / 20).unwrap_or(u64::MAX);
        if !self.is_healed {
            self.at(next_ms.max(1), Event::BackUp);
        }
    }

    /// Puts the last copy in place; every controller restarts with it.
    pub fn restore(&mut self) {
        for controller in 0..self.controllers.len() {
            self.kill_controller(controller);
        }
        self.note(|| "the register is restored from its last backup".to_owned());
        let _ = self.register.restore();
        let _ = self.cluster.restore();
        if let (crate::plan::Make::Stock, Some(taken)) = (self.plan.controller_make, self.register.backup_taken()) {
            self.gaps.push((taken, self.true_now(0)));
        }
        for controller in 0..self.controllers.len() {
            self.start_controller(controller);
        }
        for router in 0..self.routers.len() {
            self.mind_the_restored(router);
            self.check_identity(router);
        }
    }

    /// Steps a router's wall clock.
    pub fn step_router_clock(&mut self, router: usize, by_ms: i64) {
        let Some(host) = self.routers.get_mut(router) else { return };
        host.clock.skew_ms = host.clock.skew_ms.saturating_add(by_ms);
        let life = host.life;
        // Noticed within the re-evaluation time.
        if let Some(process) = self.process(router) {
            let turn = process.turn;
            let after_ms = self.dice_of(router).between(1, 60_000);
            self.at(after_ms, Event::Wake { router, life, turn });
        }
    }

    /// Steps a controller's wall clock.
    pub fn step_controller_clock(&mut self, controller: usize, by_ms: i64) {
        if let Some(host) = self.controllers.get_mut(controller) {
            host.clock.skew_ms = host.clock.skew_ms.saturating_add(by_ms);
        }
    }

    /// An operator asks for a renewal now.
    pub fn renew_now(&mut self, router: usize) {
        let cause = lifecycle::renewal::Cause::Operator;
        self.tell(router, lifecycle::renewal::Input::RenewAsked(cause));
    }

    /// Cuts every wire of a router, in these directions, until [`World::reconnect`].
    pub fn disconnect(&mut self, router: usize, there: bool, back: bool) {
        for controller in 0..self.controllers.len() {
            self.block(router, controller, there, back);
        }
    }

    /// Takes one [`World::disconnect`] back.
    pub fn reconnect(&mut self, router: usize, there: bool, back: bool) {
        for controller in 0..self.controllers.len() {
            self.unblock(router, controller, there, back);
        }
    }

    /// Cuts the wire to one controller, or mends it.
    pub fn set_wire(&mut self, router: usize, controller: usize, is_cut: bool) {
        if is_cut { self.block(router, controller, true, true) } else { self.unblock(router, controller, true, true) }
    }

    /// The disk of a router, to be looked at or broken.
    pub fn with_disk<T>(&mut self, router: usize, use_it: impl FnOnce(&mut store::disk::SimDisk) -> T) -> Option<T> {
        let Body::Exuvia(body) = &mut self.routers.get_mut(router)?.body else { return None };
        match (&mut body.process, &mut body.disk) {
            (Some(process), _) => Some(use_it(process.store.disk_mut())),
            (None, Some(disk)) => Some(use_it(disk)),
            (None, None) => None,
        }
    }

    /// The `nth` disk operation of a router from now on (0 is the next) goes wrong.
    pub fn fail_disk_operation(&mut self, router: usize, nth: u64, fault: Fault) {
        self.with_disk(router, |disk| {
            let at = disk.operations() + nth;
            disk.fail(at, fault);
        });
    }

    /// The `nth` disk operation of a router from now on (0 is the next) is where it crashes; it starts again within a minute.
    pub fn crash_in_disk_operation(&mut self, router: usize, nth: u64, leaves: Leaves) {
        self.crash_leaves.insert(router, leaves);
        self.fail_disk_operation(router, nth, Fault::Crash);
    }

    /// A message that is never sent, because its sender was killed.
    pub(crate) fn sender_dies(&mut self, router: usize, controller: usize, way: Way, down: Duration) {
        let after_ms = u64::try_from(down.as_millis()).unwrap_or(u64::MAX);
        match way {
            Way::ToController => {
                self.kill_router(router);
                self.at(after_ms, Event::StartRouter { router });
            }
            Way::ToRouter => {
                self.kill_controller(controller);
                self.at(after_ms, Event::StartController { controller });
            }
        }
    }

    /// The channel between these two breaks, and both ends see it at once.
    pub fn break_channel(&mut self, router: usize, controller: usize) {
        self.note(|| format!("the channel of router {router} at {controller} breaks"));
        if let Some(host) = self.controllers.get_mut(controller) {
            host.channels.remove(&router);
        }
        let open = self.links(router).and_then(|links| links.channels.get(&controller)).map(|open| open.id);
        if let Some(channel) = open {
            self.router_loses_channel(router, channel);
        }
    }

    /// The newest underlay of a channel breaks; the others stay. False when there is no other.
    pub fn break_newest_underlay(&mut self, router: usize, controller: usize) -> bool {
        let open = self.controllers.get_mut(controller).and_then(|host| host.channels.get_mut(&router));
        let Some(open) = open.filter(|open| open.underlays.len() > 1) else { return false };
        let Some((underlay, _)) = open.underlays.pop() else { return false };
        if let Some(open) = self.links_mut(router).and_then(|links| links.channels.get_mut(&controller)) {
            open.underlays.retain(|(id, _)| *id != underlay);
        }
        true
    }

    /// The next promotion of a stock controller takes this long: between reading the pending leaf and the commit lies a whole quorum.
    pub fn next_promotion_takes(&mut self, time: Duration) {
        self.slow_promotion_ms = u64::try_from(time.as_millis()).ok();
    }

    /// A node of a stock cluster hears of no change any more, until [`World::catch_up`].
    pub fn fall_behind(&mut self, node: usize) {
        self.behind.insert(node);
    }

    /// A node of a stock cluster hears of everything that it missed.
    pub fn catch_up(&mut self, node: usize) {
        self.behind.remove(&node);
        let until = self.cluster.end();
        self.apply_log(node, until);
    }
}
