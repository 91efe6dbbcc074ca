//! One action, carried out: the small shells around the two machines and the models of their stock peers.

mod exuvia_controller;
mod exuvia_router;
mod operator;
mod stock_controller;
mod stock_router;

pub(crate) use operator::first_state;

use lifecycle::Now;

use crate::action::Fate;
use crate::claims::Claim;
use crate::paper::Paper;
use crate::scope::{Make, Scope};
use crate::seen::{Seen, Sight};
use crate::state::{Body, Control, Hello, Message, Router, State};
use crate::story::{Actor, Story};

/// A state while an action changes it.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    pub(crate) scope: &'a Scope,
    pub(crate) seen: &'a Seen,
    pub(crate) state: State,
    pub(crate) story: Story,
}

impl Turn<'_> {
    pub(crate) fn router_now(&self) -> Now {
        self.scope.now(self.state.router_time, self.state.time)
    }

    /// Where the clock of a controller stands.
    pub(crate) fn clock_of(&self, node: u8) -> u8 {
        self.scope.clock_of(node, self.state.time)
    }

    pub(crate) fn controller_now(&self, node: u8) -> Now {
        self.scope.now(self.clock_of(node), self.state.time)
    }

    /// Puts something on its way; beyond the bound it is lost.
    pub(crate) fn send(&mut self, node: u8, body: Body) {
        let is_up = match &self.state.router {
            Router::Exuvia(router) => router.process.is_some(),
            Router::Stock(router) => router.process.is_some(),
        };
        let is_on_channel = matches!(body, Body::Extended { .. } | Body::Verified { .. });
        let has_channel = self.state.channels.get(usize::from(node)).is_some_and(Option::is_some);
        // Nobody is there to hear it, or there is nothing to say it on.
        if body.is_to_router() && !is_up || is_on_channel && !has_channel {
            return;
        }
        let waiting = match &self.state.control {
            Control::Exuvia(desk) => desk.waiting.len(),
            Control::Stock(_) => 0,
        };
        if self.state.wire.len() + waiting >= usize::from(self.scope.in_flight) {
            if let Body::Hello(hello) | Body::Welcome(hello) | Body::Refused(hello) = body {
                self.unanswered(node, hello);
            }
            return;
        }
        // The same message twice under way is the business of doubling.
        if let Err(place) = self.state.wire.binary_search(&Message { node, body }) {
            self.state.wire.insert(place, Message { node, body });
        }
    }

    pub(crate) fn claim(&mut self, claim: Claim, holds: bool) {
        if !holds {
            self.state.broken.add(claim);
        }
    }

    pub(crate) fn sight(&self, sight: Sight) {
        self.seen.count(sight);
    }

    /// The next leaf; `None` when there may be no more.
    pub(crate) fn next_paper(&self, key: u8, epoch: u8, signed_at: u8) -> Option<Paper> {
        let serial = self.state.signed + 1;
        (serial <= self.scope.leaves).then_some(Paper { serial, key, epoch, signed_at })
    }

    /// The message at this place of the wire arrives, and stays there as well if it is doubled.
    pub(crate) fn deliver(&mut self, at: usize, is_doubled: bool, fate: Fate) -> bool {
        let Some(message) = self.state.wire.get(at).copied() else { return false };
        if !is_doubled {
            self.state.wire.remove(at);
        } else {
            self.sight(Sight::Doubled);
        }
        self.tell_arrival(message, is_doubled);
        let is_for_router = message.body.is_to_router();
        match (is_for_router, self.scope.router, self.scope.controller) {
            (true, Make::Exuvia, _) => self.exuvia_router_receives(message, fate),
            (true, Make::Stock, _) => self.stock_router_receives(message),
            (false, _, Make::Exuvia) => self.exuvia_controller_receives(message),
            (false, _, Make::Stock) => self.stock_controller_receives(message, fate),
        }
    }

    /// The message at this place never arrives.
    pub(crate) fn lose(&mut self, at: usize) -> bool {
        let Some(message) = self.state.wire.get(at).copied() else { return false };
        self.state.wire.remove(at);
        self.sight(Sight::Lost);
        let (from, to) = ends(message);
        self.story.lost(from, to, || words(message.body));
        if let Body::Hello(hello) | Body::Welcome(hello) | Body::Refused(hello) = message.body {
            self.unanswered(message.node, hello);
        }
        self.mark_lost(message);
        true
    }

    /// Whoever dialed stops waiting, while the hello is still on its way.
    pub(crate) fn abandon(&mut self, at: usize) -> bool {
        let Some(message) = self.state.wire.get_mut(at) else { return false };
        let node = message.node;
        let Body::Hello(hello) = &mut message.body else { return false };
        if !hello.is_awaited {
            return false;
        }
        let given_up = *hello;
        hello.is_awaited = false;
        self.state.wire.sort_unstable();
        self.story.note(Actor::Router, || "stops waiting for the handshake".to_owned());
        self.unanswered(node, given_up);
        true
    }

    fn unanswered(&mut self, node: u8, hello: Hello) {
        if !hello.is_awaited {
            return;
        }
        match self.scope.router {
            Make::Exuvia => self.exuvia_hears_nothing(node, hello),
            Make::Stock => self.stock_dial_ended(node, false),
        }
    }

    /// A channel breaks, and the router notices.
    pub(crate) fn break_channel(&mut self, node: u8) -> bool {
        let channel = self.state.channels.get_mut(usize::from(node)).and_then(Option::take);
        if channel.is_none() {
            return false;
        }
        self.story.note(Actor::Router, || "its control channel breaks".to_owned());
        self.notice(node);
        true
    }

    /// The router notices that a channel is no more.
    pub(crate) fn notice(&mut self, node: u8) -> bool {
        if self.state.channels.get(usize::from(node)).is_none_or(Option::is_some) {
            return false;
        }
        match self.scope.router {
            Make::Exuvia => self.exuvia_lost_channel(node),
            Make::Stock => self.stock_lost_channel(node),
        }
    }

    /// The router's process ends, or its machine loses power. What it had on the wire stays there.
    pub(crate) fn router_is_gone(&mut self) {
        self.sight(Sight::RouterDied);
        self.state.channels = [None; 2];
        self.state.wire.retain(|message| !message.body.is_to_router());
        for message in &mut self.state.wire {
            if let Body::Hello(hello) = &mut message.body {
                hello.is_awaited = false;
            }
        }
        self.state.wire.sort_unstable();
        match &mut self.state.router {
            Router::Exuvia(body) => body.process = None,
            Router::Stock(body) => body.process = None,
        }
    }

    /// The router is killed, or its machine loses power; then `keeps_nothing` says how badly.
    pub(crate) fn crash_router(&mut self, power: bool, keeps_nothing: bool) -> bool {
        let left = self.state.left.router_crashes;
        if left == 0 || power && !self.scope.power_cuts {
            return false;
        }
        let was_up = match &self.state.router {
            Router::Exuvia(body) => body.process.is_some(),
            Router::Stock(body) => body.process.is_some(),
        };
        let is_harmless = match &self.state.router {
            Router::Exuvia(body) => body.medium.is_none(),
            Router::Stock(body) => body.medium == body.file,
        };
        // A power cut that finds everything synced is a kill; a machine whose process is down can still lose power.
        if power && is_harmless || !power && !was_up || keeps_nothing && self.scope.router == Make::Exuvia {
            return false;
        }
        self.state.left.router_crashes = left - 1;
        self.story.note(Actor::Router, || if power { "power cut".to_owned() } else { "killed".to_owned() });
        self.mark_crash(power);
        if power {
            self.sight(Sight::PowerCut);
        }
        match &mut self.state.router {
            Router::Exuvia(body) => {
                if power && let Some(medium) = body.medium.take() {
                    body.disk = *medium;
                }
            }
            Router::Stock(body) => {
                if power {
                    body.file = if keeps_nothing { None } else { body.medium };
                    body.medium = body.file;
                    body.has_lost_write = true;
                }
            }
        }
        self.router_is_gone();
        true
    }

    /// The clock of everybody moves on.
    pub(crate) fn time_passes(&mut self) -> bool {
        if usize::from(self.state.time) + 1 >= self.scope.days.len() {
            return false;
        }
        if self.scope.restores && self.desk().is_some_and(|desk| desk.tip.is_some()) {
            // A transaction takes less than a step of the clock: what was decided a day before it is durable, no restored copy can know of.
            return false;
        }
        let is_right = self.state.router_time == self.state.time;
        self.state.time += 1;
        if is_right {
            self.state.router_time = self.state.time;
        }
        let day = self.scope.day(self.state.time);
        self.story.note(Actor::Router, || format!("day {day}"));
        self.after_the_clock();
        true
    }

    /// The router's clock alone is set, to anywhere.
    pub(crate) fn clock_jumps(&mut self, to: u8) -> bool {
        if self.state.left.clock_jumps == 0 || to == self.state.router_time || usize::from(to) >= self.scope.days.len()
        {
            return false;
        }
        self.state.left.clock_jumps -= 1;
        self.state.router_time = to;
        let day = self.scope.day(to);
        self.story.note(Actor::Router, || format!("its clock is set to day {day}"));
        self.after_the_clock();
        true
    }

    fn after_the_clock(&mut self) {
        self.sight(Sight::ClockMoved);
        let now = self.router_now();
        let turns = self.scope.turns();
        match &mut self.state.router {
            Router::Exuvia(body) => {
                if let Some(process) = &mut body.process {
                    process.machine = process.machine.clone().settled(now, turns);
                }
            }
            // The kernel has long written back what was written a day ago.
            Router::Stock(body) => body.medium = body.file,
        }
    }

    /// A controller's process ends and starts anew: channels, jobs and whatever it had not read are gone.
    pub(crate) fn crash_controller(&mut self, node: u8) -> bool {
        if self.state.left.controller_crashes == 0 || node >= self.scope.nodes {
            return false;
        }
        self.state.left.controller_crashes -= 1;
        self.story.note(Actor::Controller(node), || "killed, starts again".to_owned());
        if let Control::Exuvia(desk) = &mut self.state.control {
            // Its transaction is rolled back, and whoever shared it hears nothing.
            desk.tip = None;
            desk.waiting.clear();
        }
        self.controller_is_gone(node);
        true
    }

    pub(crate) fn controller_is_gone(&mut self, node: u8) {
        self.sight(Sight::ControllerDied);
        if let Some(channel) = self.state.channels.get_mut(usize::from(node)) {
            *channel = None;
        }
        let mut unheard = Vec::new();
        self.state.wire.retain(|message| {
            let stays = message.node != node || message.body.is_to_router();
            if let (false, Body::Hello(hello)) = (stays, message.body) {
                unheard.push(hello);
            }
            stays
        });
        for hello in unheard {
            self.unanswered(node, hello);
        }
    }

    fn tell_arrival(&mut self, message: Message, is_doubled: bool) {
        if message.body.is_job() {
            return;
        }
        let (from, to) = ends(message);
        self.story.arrow(from, to, || {
            let copy = if is_doubled { " (and once more later)" } else { "" };
            format!("{}{copy}", words(message.body))
        });
    }
}

fn ends(message: Message) -> (Actor, Actor) {
    let controller = Actor::Controller(message.node);
    if message.body.is_to_router() { (controller, Actor::Router) } else { (Actor::Router, controller) }
}

/// A leaf as charts call it.
pub(crate) fn name(paper: Paper) -> String {
    match paper.serial {
        0 => "N".to_owned(),
        serial => format!("N+{serial}"),
    }
}

fn words(body: Body) -> String {
    let purpose = |hello: Hello| match hello.purpose {
        crate::state::Purpose::Channel => "hello",
        crate::state::Purpose::Prove => "further underlay",
        crate::state::Purpose::Ask(..) => "fresh underlay",
    };
    match body {
        Body::Hello(hello) => format!("{} with {}", purpose(hello), name(hello.paper)),
        Body::Welcome(hello) => format!("Result: {} admitted", name(hello.paper)),
        Body::Refused(hello) => format!("closes: {} refused", name(hello.paper)),
        Body::Extend { .. } => "20302 (CSRs)".to_owned(),
        Body::Signed { .. } => "stores what it signed".to_owned(),
        Body::Extended { paper } => format!("20301 ({})", name(paper)),
        Body::Verify { paper, .. } => format!("20303 ({})", name(paper)),
        Body::Promoting { paper } => format!("promotes {}", name(paper)),
        Body::Verified { is_success: true, paper } => format!("20002 success ({})", name(paper)),
        Body::Verified { is_success: false, paper } => format!("20002 error ({})", name(paper)),
    }
}
