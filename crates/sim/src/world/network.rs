//! Wires: what is sent arrives late, twice, out of order, or not.

use lifecycle::renewal::{DialOutcome, ProofOutcome};

use super::{Body, Channel, Dial, Event, Links, Purpose, World};
use crate::message::{ChannelId, Message, UnderlayId};
use crate::world::script::Action;

/// How long an end waits before it calls a silent channel dead: heartbeats.
pub(crate) const SILENCE_MS: u64 = 60_000;
/// How long a dial waits for a Result.
const HANDSHAKE_MS: u64 = 10_000;
/// How long a dial waits for a host that does not answer.
const CONNECT_MS: u64 = 3_000;

/// How a handshake ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Admitted { channel: ChannelId, window: Option<lifecycle::issuance::Window> },
    Closed,
    Nobody,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    ToController,
    ToRouter,
}

impl World {
    pub(crate) fn is_blocked(&self, router: usize, controller: usize, way: Way) -> bool {
        self.blocked.get(&(router, controller)).is_some_and(|(there, back)| match way {
            Way::ToController => *there > 0,
            Way::ToRouter => *back > 0,
        })
    }

    pub(crate) fn send_to_controller(&mut self, router: usize, controller: usize, message: Message) {
        self.count_router(router);
        self.send(router, controller, Way::ToController, message);
    }

    pub(crate) fn send_to_router(&mut self, controller: usize, router: usize, message: Message) {
        self.send(router, controller, Way::ToRouter, message);
    }

    fn send(&mut self, router: usize, controller: usize, way: Way, message: Message) {
        self.counts.messages += 1;
        self.note(|| match way {
            Way::ToController => format!("router {router} -> {controller}: {message:?}"),
            Way::ToRouter => format!("controller {controller} -> {router}: {message:?}"),
        });
        let mut after_ms = self.dice_of(router).between(1, 40);
        let mut copies = 1;
        match self.ruled(&message, router, controller) {
            Some(Action::KillSender { down }) => return self.sender_dies(router, controller, way, down),
            Some(Action::Lose) => return self.lost(router, controller, way, &message),
            Some(Action::Double { after }) => {
                let later_ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
                self.arrive(later_ms, router, controller, way, message.clone());
            }
            Some(Action::Delay { by }) => after_ms = u64::try_from(by.as_millis()).unwrap_or(u64::MAX),
            None => {
                if self.is_blocked(router, controller, way) {
                    return self.lost(router, controller, way, &message);
                }
                let net = self.plan.net;
                if !self.is_healed {
                    let dice = self.dice_of(router);
                    if dice.chance(net.loss_per_mille) {
                        return self.lost(router, controller, way, &message);
                    }
                    if dice.chance(net.slow_per_mille) {
                        after_ms = dice.between(1, net.slow_ms.max(1));
                    }
                    if dice.chance(net.double_per_mille) {
                        copies = 2;
                    }
                }
            }
        }
        for _ in 1..copies {
            let slow_ms = self.plan.net.slow_ms;
            let later_ms = after_ms + self.dice_of(router).between(0, slow_ms);
            self.arrive(later_ms, router, controller, way, message.clone());
        }
        self.arrive(after_ms, router, controller, way, message);
    }

    fn arrive(&mut self, after_ms: u64, router: usize, controller: usize, way: Way, message: Message) {
        let event = match way {
            Way::ToController => Event::ToController { controller, router, message },
            Way::ToRouter => Event::ToRouter { router, controller, message },
        };
        self.at(after_ms, event);
    }

    /// A lost message is only lost; a lost farewell is found out by silence.
    fn lost(&mut self, router: usize, controller: usize, way: Way, message: &Message) {
        self.counts.lost_messages += 1;
        self.note(|| "    lost".to_owned());
        if let Message::Closed { channel } = *message {
            self.finds_dead(router, controller, way, channel);
        }
    }

    fn finds_dead(&mut self, router: usize, controller: usize, way: Way, channel: ChannelId) {
        let event = match way {
            Way::ToController => Event::ControllerFindsChannelDead { controller, channel },
            Way::ToRouter => Event::RouterFindsChannelDead { router, channel },
        };
        self.at(SILENCE_MS, event);
    }

    /// Everything between these two falls silent, and both ends notice.
    pub(crate) fn block(&mut self, router: usize, controller: usize, there: bool, back: bool) {
        let counts = self.blocked.entry((router, controller)).or_default();
        counts.0 += u32::from(there);
        counts.1 += u32::from(back);
        let channels: Vec<ChannelId> = self
            .links(router)
            .and_then(|links| links.channels.get(&controller))
            .map(|channel| channel.id)
            .into_iter()
            .chain(self.controllers.get(controller).and_then(|host| host.channels.get(&router)).map(|open| open.id))
            .collect();
        for channel in channels {
            // Heartbeats need both ways.
            self.finds_dead(router, controller, Way::ToController, channel);
            self.finds_dead(router, controller, Way::ToRouter, channel);
        }
    }

    pub(crate) fn unblock(&mut self, router: usize, controller: usize, there: bool, back: bool) {
        if let Some(counts) = self.blocked.get_mut(&(router, controller)) {
            counts.0 = counts.0.saturating_sub(u32::from(there));
            counts.1 = counts.1.saturating_sub(u32::from(back));
        }
    }

    pub(crate) fn links(&self, router: usize) -> Option<&Links> {
        match &self.routers.get(router)?.body {
            Body::Exuvia(body) => body.process.as_ref().map(|process| &process.links),
            Body::Stock(body) => Some(&body.links),
        }
    }

    pub(crate) fn links_mut(&mut self, router: usize) -> Option<&mut Links> {
        match &mut self.routers.get_mut(router)?.body {
            Body::Exuvia(body) => body.process.as_mut().map(|process| &mut process.links),
            Body::Stock(body) => Some(&mut body.links),
        }
    }

    /// Opens a connection and says hello.
    pub(crate) fn dial(&mut self, router: usize, controller: usize, leaf: lifecycle::Leaf, purpose: Purpose) {
        let underlay = self.fresh(router);
        let group = match purpose {
            Purpose::Channel => None,
            Purpose::Prove | Purpose::Ask(_) => {
                let channel = self.links(router).and_then(|links| links.channels.get(&controller)).map(|open| open.id);
                if channel.is_none() {
                    return;
                }
                channel
            }
        };
        self.counts.dials += 1;
        if let Some(links) = self.links_mut(router) {
            links.dials.insert(underlay, Dial { controller, leaf, purpose });
        }
        let is_up = self.controllers.get(controller).is_some_and(|host| host.is_up);
        let can_connect = is_up
            && !self.is_blocked(router, controller, Way::ToController)
            && !self.is_blocked(router, controller, Way::ToRouter);
        let life = self.routers.get(router).map_or(0, |host| host.life);
        let wait_ms = if can_connect { HANDSHAKE_MS } else { CONNECT_MS };
        self.at(wait_ms, Event::HandshakeTimeout { router, life, underlay, reachable: can_connect });
        if can_connect {
            self.send_to_controller(router, controller, Message::Hello { underlay, router, leaf, group });
        }
    }

    pub(crate) fn router_receives(&mut self, router: usize, controller: usize, message: Message) {
        match message {
            Message::Welcome { underlay, channel, window } => {
                let is_open = |links: &Links| {
                    links.channels.values().any(|open| open.underlays.iter().any(|(id, _)| *id == underlay))
                };
                let links = self.links(router);
                if links.is_some_and(|links| links.dials.contains_key(&underlay)) {
                    self.dial_ended(router, underlay, Ending::Admitted { channel, window });
                    let is_over = self.links_mut(router).is_some_and(|links| links.farewells.remove(&channel));
                    if is_over {
                        self.router_loses_channel(router, channel);
                    }
                } else if !links.is_some_and(is_open) {
                    // Too late: nobody waits for it any more.
                    self.send_to_controller(router, controller, Message::UnderlayClosed { channel, underlay });
                }
            }
            Message::Refused { underlay } => self.dial_ended(router, underlay, Ending::Closed),
            Message::UnderlayClosed { channel, underlay } => {
                let open = self.links_mut(router).and_then(|links| links.channels.get_mut(&controller));
                let Some(open) = open.filter(|open| open.id == channel) else { return };
                open.underlays.retain(|(id, _)| *id != underlay);
                if open.underlays.is_empty() {
                    self.router_loses_channel(router, channel);
                }
            }
            Message::Closed { channel } => {
                let Some(links) = self.links_mut(router) else { return };
                // The Result of a dial may still be on its way.
                if !links.dials.is_empty() {
                    links.farewells.insert(channel);
                }
                self.router_loses_channel(router, channel);
            }
            Message::Extended { client, server } => match self.plan.router_make {
                crate::plan::Make::Exuvia => self.exuvia_gets_leaves(router, client, server),
                crate::plan::Make::Stock => self.stock_router_gets_leaf(router, controller, client),
            },
            Message::Verified { fingerprint, is_success } => match self.plan.router_make {
                crate::plan::Make::Exuvia => self.exuvia_is_answered(router, controller, fingerprint, is_success),
                crate::plan::Make::Stock => self.stock_router_is_answered(router, fingerprint, is_success),
            },
            Message::Hello { .. } | Message::Extend { .. } | Message::Verify { .. } => {}
        }
    }

    pub(crate) fn dial_ended(&mut self, router: usize, underlay: UnderlayId, ending: Ending) {
        let now_ms = self.now_ms;
        let Some(dial) = self.links_mut(router).and_then(|links| links.dials.remove(&underlay)) else { return };
        let controller = dial.controller;
        if let Ending::Admitted { channel, .. } = ending {
            let open = Channel {
                id: channel,
                since_ms: now_ms,
                underlays: vec![(underlay, dial.leaf)],
                epoch: Default::default(),
            };
            if let Some(links) = self.links_mut(router) {
                match links.channels.get_mut(&controller) {
                    Some(known) if known.id == channel => known.underlays.push((underlay, dial.leaf)),
                    Some(_) if dial.purpose != Purpose::Channel => {}
                    Some(_) | None => drop(links.channels.insert(controller, open)),
                }
            }
        }
        self.counts.handshakes += u64::from(ending != Ending::Nobody);
        match self.plan.router_make {
            crate::plan::Make::Stock => self.stock_router_dialed(router, controller, dial.leaf, ending),
            crate::plan::Make::Exuvia => {
                let was_admitted = matches!(ending, Ending::Admitted { .. });
                if dial.purpose == Purpose::Channel {
                    let grouped = self.plan.are_grouped;
                    let outcome = match ending {
                        Ending::Admitted { window, .. } => DialOutcome::Admitted { grouped, window },
                        Ending::Closed => DialOutcome::Refused,
                        Ending::Nobody => DialOutcome::Unreachable,
                    };
                    self.exuvia_dialed(router, controller, dial.leaf, outcome);
                } else {
                    let outcome = match ending {
                        Ending::Admitted { .. } => ProofOutcome::Admitted,
                        Ending::Closed => ProofOutcome::Refused,
                        Ending::Nobody => ProofOutcome::Unreachable,
                    };
                    self.exuvia_proved(router, controller, dial.leaf, outcome);
                }
                if let (Purpose::Ask(key), true) = (dial.purpose, was_admitted) {
                    self.exuvia_asks(router, controller, key);
                }
            }
        }
    }

    pub(crate) fn router_loses_channel(&mut self, router: usize, channel: ChannelId) {
        let Some(links) = self.links_mut(router) else { return };
        let Some(controller) = links.channels.iter().find(|(_, open)| open.id == channel).map(|(at, _)| *at) else {
            return;
        };
        links.channels.remove(&controller);
        self.counts.channels_lost += 1;
        match self.plan.router_make {
            crate::plan::Make::Exuvia => self.exuvia_lost_channel(router, controller),
            crate::plan::Make::Stock => self.stock_router_lost_channel(router, controller),
        }
    }

    /// The process at this end is gone. Its kernel says so, unless the machine is gone too.
    pub(crate) fn drop_router_links(&mut self, router: usize, is_said: bool) {
        let links = self.links_mut(router).map(std::mem::take).unwrap_or_default();
        for (controller, open) in links.channels {
            if is_said {
                self.send_to_controller(router, controller, Message::Closed { channel: open.id });
            } else {
                self.finds_dead(router, controller, Way::ToController, open.id);
            }
        }
    }
}
