//! The stock controller and the stock router at work.

use lifecycle::{Fingerprint, Leaf};

use super::network::Ending;
use super::{Body, Channel, Event, Purpose, World};
use crate::message::{ChannelId, Message, UnderlayId};
use crate::paper;
use crate::stock::{CHURN_MS, Change, StockProcess};

/// What a goroutine of a stock controller does after it has read the database, and without reading it again.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Act {
    /// Stores a pending leaf and answers 20302.
    Store { client: Leaf, server: Leaf },
    /// Promotes what its snapshot had pending and answers 20303.
    Promote { leaf: Leaf },
}

/// How long `Run` waits after a request, answered or not.
const LOOK_AGAIN_MS: u64 = 35_000;
/// How long a handler waits for 20002.
const VERIFY_MS: u64 = 30_000;

impl World {
    pub(crate) fn stock_receives(&mut self, controller: usize, router: usize, message: Message) {
        match message {
            Message::Hello { underlay, router: who, leaf, group } => {
                self.stock_hello(controller, who, underlay, leaf, group)
            }
            Message::Extend { channel, asked } => {
                let wall = self.true_now(controller);
                let Some(open) = self.stock_channel(controller, router, channel) else { return };
                // Looked up by the leaf of the newest underlay; whoever is not found gets no answer.
                let Some((_, shown)) = open.underlays.last().copied() else { return };
                if !self.cluster.admits(controller, router, shown.fingerprint, wall) {
                    return;
                }
                let (client, server) = self.sign(controller, router, asked.client_key);
                self.counts.signatures += 1;
                self.stock_later(controller, router, channel, Act::Store { client, server });
            }
            Message::Verify { channel, fingerprint } => {
                if self.stock_channel(controller, router, channel).is_none() {
                    return;
                }
                let pending = self.cluster.row(controller, router).and_then(|row| row.pending);
                match pending.filter(|leaf| leaf.fingerprint == fingerprint) {
                    Some(leaf) => self.stock_later(controller, router, channel, Act::Promote { leaf }),
                    None => {
                        let message = Message::Verified { fingerprint, is_success: false };
                        self.send_to_router(controller, router, message);
                    }
                }
            }
            Message::Closed { .. } | Message::UnderlayClosed { .. } => {
                self.controller_loses(controller, router, &message)
            }
            Message::Welcome { .. } | Message::Refused { .. } | Message::Extended { .. } | Message::Verified { .. } => {
            }
        }
    }

    fn stock_channel(&mut self, controller: usize, router: usize, channel: ChannelId) -> Option<Channel> {
        let open = self.controllers.get(controller)?.channels.get(&router).filter(|open| open.id == channel).cloned();
        if open.is_none() {
            self.send_to_router(controller, router, Message::Closed { channel });
        }
        open
    }

    fn stock_hello(
        &mut self,
        controller: usize,
        router: usize,
        underlay: UnderlayId,
        leaf: Leaf,
        group: Option<ChannelId>,
    ) {
        let wall = self.true_now(controller);
        let refused = Message::Refused { underlay };
        if !self.cluster.admits(controller, router, leaf.fingerprint, wall) {
            self.counts.refusals += 1;
            return self.send_to_router(controller, router, refused);
        }
        let now_ms = self.now_ms;
        let Some(host) = self.controllers.get_mut(controller) else { return };
        match (group, host.channels.get_mut(&router)) {
            (Some(channel), Some(open)) if open.id == channel => {
                if !open.underlays.iter().any(|(id, _)| *id == underlay) {
                    open.underlays.push((underlay, leaf));
                    self.send_to_router(controller, router, Message::Welcome { underlay, channel, window: None });
                }
            }
            (Some(_), _) => self.send_to_router(controller, router, refused),
            (None, Some(open)) if open.underlays.iter().any(|(id, _)| *id == underlay) => {}
            (None, Some(open)) if now_ms.saturating_sub(open.since_ms) < CHURN_MS => {
                self.send_to_router(controller, router, refused);
            }
            (None, Some(open)) => {
                // Acknowledged, and then both are closed.
                let old = open.id;
                host.channels.remove(&router);
                let channel = self.fresh(router);
                self.send_to_router(controller, router, Message::Closed { channel: old });
                self.send_to_router(controller, router, Message::Welcome { underlay, channel, window: None });
                self.send_to_router(controller, router, Message::Closed { channel });
                // If the farewell overtakes the Result, heartbeats find out.
                self.at(super::network::SILENCE_MS, Event::RouterFindsChannelDead { router, channel });
            }
            (None, None) => self.opens(controller, router, underlay, leaf, Default::default()),
        }
    }

    fn stock_later(&mut self, controller: usize, router: usize, channel: ChannelId, act: Act) {
        let life = self.controllers.get(controller).map_or(0, |host| host.life);
        let usual_ms = self.dice_of(router).between(1, 50);
        let after_ms = match act {
            Act::Promote { .. } => self.slow_promotion_ms.take().unwrap_or(usual_ms),
            Act::Store { .. } => usual_ms,
        };
        self.at(after_ms, Event::StockAnswer { controller, life, router, channel, act });
    }

    pub(crate) fn stock_acts(&mut self, controller: usize, life: u32, router: usize, _: ChannelId, act: Act) {
        if !self.controllers.get(controller).is_some_and(|host| host.is_up && host.life == life) {
            return;
        }
        let (change, message) = match act {
            Act::Store { client, server } => {
                (Change::Pending { router, leaf: client }, Message::Extended { client, server })
            }
            Act::Promote { leaf } => (
                Change::Promote { router, leaf },
                Message::Verified { fingerprint: leaf.fingerprint, is_success: true },
            ),
        };
        let until = self.cluster.append(change);
        // The first node leads; followers hear of it later.
        self.apply_log(0, until);
        for node in 1..self.controllers.len() {
            let lag_ms = self.plan.lag_ms.max(2);
            let after_ms = self.dice_of(router).between(1, lag_ms);
            self.at(after_ms, Event::Apply { node, until });
        }
        self.send_to_router(controller, router, message);
    }

    pub(crate) fn apply_log(&mut self, node: usize, until: usize) {
        if self.behind.contains(&node) {
            return;
        }
        for router in self.cluster.apply(node, until) {
            self.check_identity(router);
        }
    }

    pub(crate) fn start_stock(&mut self, router: usize, is_forced: bool) {
        let now_ms = self.now_ms;
        let Some(host) = self.routers.get_mut(router) else { return };
        let Body::Stock(body) = &mut host.body else { return };
        // An empty file is "no certificate found", and the process ends.
        let (Some(leaf), None) = (body.file.cached, &body.process) else { return };
        body.process = Some(StockProcess { leaf, is_forced, next_look_ms: now_ms + 5_000, verifying: Vec::new() });
        body.links = super::Links::default();
        host.life += 1;
        let life = host.life;
        self.at(1, Event::Wake { router, life, turn: 0 });
    }

    fn stock_process(&mut self, router: usize) -> Option<&mut StockProcess> {
        match &mut self.routers.get_mut(router)?.body {
            Body::Stock(body) => body.process.as_mut(),
            Body::Exuvia(_) => None,
        }
    }

    /// The two loops of a stock router: dial, and look at the certificate.
    pub(crate) fn wake_stock(&mut self, router: usize) {
        let now_ms = self.now_ms;
        let wall = self.router_now(router).wall;
        let life = self.routers.get(router).map_or(0, |host| host.life);
        // Seven days; less where leaves live shorter, which upstream cannot do.
        let margin = std::time::Duration::from_secs(7 * 86_400).min(self.plan.leaf_life / 3);
        let Some(process) = self.stock_process(router) else { return };
        process.verifying.retain(|(_, until)| *until > now_ms);
        let leaf = process.leaf;
        for controller in 0..self.controllers.len() {
            let Some(links) = self.links(router) else { return };
            let is_dialing = links.dials.values().any(|dial| dial.controller == controller);
            let is_due = links.redial_ms.get(&controller).is_none_or(|(at, _)| *at <= now_ms);
            if !is_dialing && is_due && !links.channels.contains_key(&controller) {
                self.dial(router, controller, leaf, Purpose::Channel);
            }
        }
        let channel =
            self.links(router).and_then(|links| links.channels.iter().next()).map(|(at, open)| (*at, open.id));
        let Some(process) = self.stock_process(router) else { return };
        let is_expired = process.leaf.is_expired(wall);
        let is_due = wall >= process.leaf.not_after.minus(margin) || process.is_forced;
        let until_due = process.leaf.not_after.minus(margin).since(wall).as_millis();
        let until_due_ms = u64::try_from(until_due).unwrap_or(u64::MAX);
        let mut wait_ms = if is_due { 5_000 } else { until_due_ms.clamp(5_000, 3_600_000) };
        if is_due && !is_expired && now_ms >= process.next_look_ms && channel.is_some() {
            // The flag is cleared before the attempt; the loop looks again after a fixed time.
            process.is_forced = false;
            process.next_look_ms = now_ms + LOOK_AGAIN_MS;
            wait_ms = LOOK_AGAIN_MS;
            let key = process.leaf.key;
            self.counts.requests += 1;
            if let Some((controller, channel)) = channel {
                self.send_to_controller(router, controller, Message::Extend { channel, asked: paper::asked(key) });
            }
        }
        let is_connected = self.links(router).is_some_and(|links| links.channels.len() == self.controllers.len());
        if !is_connected {
            wait_ms = wait_ms.min(5_000);
        }
        self.at(wait_ms, Event::Wake { router, life, turn: 0 });
    }

    pub(crate) fn stock_router_gets_leaf(&mut self, router: usize, controller: usize, leaf: Leaf) {
        let now_ms = self.now_ms;
        let Some(process) = self.stock_process(router) else { return };
        // A goroutine for each answer; nothing says which request it belongs to.
        process.verifying.push((leaf, now_ms + VERIFY_MS));
        self.counts.verifies += 1;
        let channel = self.links(router).and_then(|links| links.channels.get(&controller)).map(|open| open.id);
        if let Some(channel) = channel {
            self.send_to_controller(router, controller, Message::Verify { channel, fingerprint: leaf.fingerprint });
        }
    }

    pub(crate) fn stock_router_is_answered(&mut self, router: usize, fingerprint: Fingerprint, is_success: bool) {
        let now_ms = self.now_ms;
        let Some(host) = self.routers.get_mut(router) else { return };
        let Body::Stock(body) = &mut host.body else { return };
        let Some(process) = body.process.as_mut() else { return };
        let waiting =
            process.verifying.iter().position(|(leaf, until)| leaf.fingerprint == fingerprint && *until > now_ms);
        let Some(at) = waiting else { return };
        let (leaf, _) = process.verifying.remove(at);
        if is_success {
            process.leaf = leaf;
            body.file.overwrite(leaf, now_ms);
            host.renewals += 1;
            self.counts.renewals += 1;
            self.check_identity(router);
        }
    }

    pub(crate) fn stock_router_dialed(&mut self, router: usize, controller: usize, _: Leaf, ending: Ending) {
        let now_ms = self.now_ms;
        let Some(links) = self.links_mut(router) else { return };
        let entry = links.redial_ms.entry(controller).or_insert((0, 0));
        if matches!(ending, Ending::Admitted { .. }) {
            *entry = (now_ms, 0);
        } else {
            entry.1 = (entry.1 + 1).min(6);
            entry.0 = now_ms + (1_000 << entry.1);
        }
    }

    pub(crate) fn stock_router_lost_channel(&mut self, router: usize, controller: usize) {
        let now_ms = self.now_ms;
        let life = self.routers.get(router).map_or(0, |host| host.life);
        if let Some(links) = self.links_mut(router) {
            links.redial_ms.insert(controller, (now_ms + 1_000, 0));
        }
        // The dialing loop of this host looks again soon, whatever the certificate's loop sleeps.
        self.at(1_000, Event::Wake { router, life, turn: 1 });
    }
}
