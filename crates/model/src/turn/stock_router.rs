//! A stock router, after `openziti/ziti:router/state/certchecker.go`, `router/state/extendEnrollmentCerts.go` and
//! `openziti/identity:identity.go`.

use super::{Turn, name};
use crate::defects::Mark;
use crate::paper::Paper;
use crate::seen::Sight;
use crate::state::{Body, Handler, HandlerStage, Hello, Message, Purpose, Router, StockProcess, StockRouter};
use crate::story::Actor;

/// A stock router renews in the last week; here: on the days that our router calls due.
const DUE_AFTER_DAYS: u32 = 60;

impl Turn<'_> {
    fn stock(&mut self) -> Option<&mut StockRouter> {
        match &mut self.state.router {
            Router::Stock(body) => Some(body),
            Router::Exuvia(_) => None,
        }
    }

    fn stock_process(&mut self) -> Option<&mut StockProcess> {
        self.stock().and_then(|body| body.process.as_mut())
    }

    pub(crate) fn start_stock(&mut self) -> bool {
        let is_forced = self.scope.extends_at_start;
        let Some(body) = self.stock() else { return false };
        // An empty or torn certificate file: the process ends at once.
        let (None, Some(memory)) = (&body.process, body.file) else { return false };
        body.process = Some(StockProcess {
            memory,
            dialing: 0,
            up: 0,
            has_asked: false,
            is_forced,
            has_ended: false,
            handlers: Vec::new(),
        });
        self.story.note(Actor::Router, || format!("starts with {}", name(memory)));
        true
    }

    pub(crate) fn stock_dial(&mut self, node: u8) -> bool {
        let Some(process) = self.stock_process() else { return false };
        if (process.dialing | process.up) & 1 << node != 0 {
            return false;
        }
        process.dialing |= 1 << node;
        let paper = process.memory;
        let hello = Hello { paper, generation: 0, purpose: Purpose::Channel, is_awaited: true };
        self.send(node, Body::Hello(hello));
        true
    }

    pub(crate) fn stock_dial_ended(&mut self, node: u8, is_admitted: bool) {
        if let Some(process) = self.stock_process() {
            process.dialing &= !(1 << node);
            if is_admitted {
                process.up |= 1 << node;
            }
        }
    }

    pub(crate) fn stock_lost_channel(&mut self, node: u8) -> bool {
        let Some(process) = self.stock_process() else { return false };
        if process.up & 1 << node == 0 {
            return false;
        }
        process.up &= !(1 << node);
        true
    }

    /// `Run`: an expired leaf ends the loop; a due one is asked for.
    pub(crate) fn stock_look(&mut self, node: u8) -> bool {
        let (scope, at) = (self.scope, self.state.router_time);
        let attempts = self.state.left.attempts;
        let Some(process) = self.stock_process() else { return false };
        if process.has_ended {
            return false;
        }
        let paper = process.memory;
        if paper.is_expired(scope, at) && !process.is_forced {
            process.has_ended = true;
            self.mark(Mark::LoopEnded);
            self.story.note(Actor::Router, || "its leaf is expired: the certificate loop ends".to_owned());
            return true;
        }
        let age = scope.instant(at).since(paper.leaf(scope).not_before);
        let is_due = age.as_secs() > u64::from(DUE_AFTER_DAYS) * 86_400 || process.is_forced;
        if !is_due || process.has_asked || attempts == 0 || process.up & 1 << node == 0 {
            return false;
        }
        process.has_asked = true;
        process.is_forced = false;
        self.state.left.attempts -= 1;
        self.sight(Sight::AttemptBegan);
        let open = self.state.channels.get(usize::from(node)).copied().flatten();
        if let Some(open) = open {
            self.send(node, Body::Extend { key: paper.key, epoch: open.epoch });
        }
        true
    }

    pub(crate) fn stock_forget(&mut self) -> bool {
        let Some(process) = self.stock_process() else { return false };
        std::mem::take(&mut process.has_asked)
    }

    pub(crate) fn stock_give_up(&mut self, at: usize) -> bool {
        if !self.scope.times_out {
            return false;
        }
        let Some(process) = self.stock_process() else { return false };
        if process.handlers.get(at).is_none_or(|handler| handler.stage != HandlerStage::Waits) {
            return false;
        }
        let handler = process.handlers.remove(at);
        self.story.note(Actor::Router, || format!("no answer in 30 s: forgets {}", name(handler.paper)));
        self.mark_forgotten(handler.paper);
        true
    }

    /// The next file operation of a handler: truncate, then write and reload.
    pub(crate) fn stock_write(&mut self, at: usize, fails: bool) -> bool {
        if fails && self.state.left.disk_failures == 0 {
            return false;
        }
        let Some(body) = self.stock() else { return false };
        let Some(process) = &mut body.process else { return false };
        let Some(handler) = process.handlers.get(at).copied() else { return false };
        match (handler.stage, fails) {
            (HandlerStage::Waits, _) => return false,
            (HandlerStage::Answered, true) => {
                // Logged, and execution goes on: the reload brings the old certificate back.
                process.handlers.remove(at);
                self.state.left.disk_failures -= 1;
                self.mark(Mark::SetCertFailed);
                self.story.note(Actor::Disk, || "cannot open the certificate file".to_owned());
                self.story.note(Actor::Router, || "logs it, reloads the old certificate, calls it done".to_owned());
            }
            (HandlerStage::Answered, false) => {
                if let Some(handler) = process.handlers.get_mut(at) {
                    handler.stage = HandlerStage::Truncated;
                }
                process.handlers.sort_unstable();
                body.file = None;
                self.story.arrow(Actor::Router, Actor::Disk, || "truncates the certificate file".to_owned());
            }
            (HandlerStage::Truncated, true) => {
                process.handlers.remove(at);
                self.state.left.disk_failures -= 1;
                self.mark(Mark::WriteFailed);
                self.story.note(Actor::Disk, || "no space: the file stays empty".to_owned());
            }
            (HandlerStage::Truncated, false) => {
                process.handlers.remove(at);
                let replaced = process.memory;
                process.memory = handler.paper;
                body.file = Some(handler.paper);
                body.has_lost_write = false;
                self.sight(Sight::Renewed);
                self.story.arrow(Actor::Router, Actor::Disk, || format!("writes {}", name(handler.paper)));
                self.mark_written(handler.paper, replaced);
            }
        }
        true
    }

    pub(crate) fn stock_sync(&mut self) -> bool {
        let Some(body) = self.stock() else { return false };
        if body.medium == body.file {
            return false;
        }
        body.medium = body.file;
        true
    }

    pub(crate) fn stock_router_receives(&mut self, message: Message) -> bool {
        let node = message.node;
        if self.stock_process().is_none() {
            return false;
        }
        match message.body {
            Body::Welcome(_) => {
                self.stock_dial_ended(node, true);
                if self.state.channels.get(usize::from(node)).is_some_and(Option::is_none) {
                    self.stock_lost_channel(node);
                }
            }
            Body::Refused(_) => self.stock_dial_ended(node, false),
            Body::Extended { paper } => self.handle(node, paper),
            Body::Verified { paper, is_success } => {
                let Some(process) = self.stock_process() else { return false };
                let waits = process
                    .handlers
                    .iter()
                    .position(|handler| handler.paper == paper && handler.stage == HandlerStage::Waits);
                let Some(at) = waits else { return true };
                if is_success {
                    if let Some(handler) = process.handlers.get_mut(at) {
                        handler.stage = HandlerStage::Answered;
                    }
                    process.handlers.sort_unstable();
                } else {
                    process.handlers.remove(at);
                    self.story.note(Actor::Router, || format!("forgets {}", name(paper)));
                    self.mark_forgotten(paper);
                }
            }
            Body::Hello(_)
            | Body::Extend { .. }
            | Body::Signed { .. }
            | Body::Verify { .. }
            | Body::Promoting { .. } => {
                return false;
            }
        }
        true
    }

    /// A goroutine for each answer; nothing says which request it belongs to.
    fn handle(&mut self, node: u8, paper: Paper) {
        // The unverified flow has nothing to ask any more.
        let stage = match self.scope.flow {
            crate::scope::Flow::SwapBeforeAnswer => HandlerStage::Answered,
            crate::scope::Flow::Verified | crate::scope::Flow::Transit => HandlerStage::Waits,
        };
        let Some(process) = self.stock_process() else { return };
        if process.handlers.len() >= 2 {
            return;
        }
        let is_second = !process.handlers.is_empty();
        process.handlers.push(Handler { paper, node, stage });
        process.handlers.sort_unstable();
        if is_second {
            self.sight(Sight::Overlapped);
        }
        let open = self.state.channels.get(usize::from(node)).copied().flatten();
        if let (HandlerStage::Waits, Some(open)) = (stage, open) {
            self.send(node, Body::Verify { paper, epoch: open.epoch });
        }
    }
}
