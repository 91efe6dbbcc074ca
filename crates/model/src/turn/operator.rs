//! What people do.

use lifecycle::issuance::{EnrollmentKind, Input, Record, Token, TokenId};
use lifecycle::manifest::{Candidate, Manifest, Origin};
use lifecycle::renewal::{Barrier, Cause, Input as RouterInput, Issued};
use lifecycle::{Digest, Durable, GenerationNumber, RouterId, UnixTime};

use super::Turn;
use super::exuvia_router::short;
use crate::action::Fate;
use crate::claims::Claims;
use crate::defects::Marks;
use crate::paper::{Paper, asked};
use crate::scope::{Make, Scope};
use crate::seen::Sight;
use crate::state::{
    Change, Cluster, Control, Desk, Disk, Exuvia, Left, Matter, Operator, Router, Row, State, StockRouter,
};
use crate::story::Actor;

fn token(scope: &Scope, at: u8, number: u8) -> Token {
    let mut id = [0; 32];
    id[0] = number;
    Token {
        id: TokenId(id),
        kind: EnrollmentKind::Edge,
        expires: scope.instant(at).plus(core::time::Duration::from_secs(400 * 86_400)),
        enrolled: None,
    }
}

/// The register after an enrollment and its first connection on day 0.
fn enrolled(scope: &Scope) -> Record {
    let now = lifecycle::Now { wall: UnixTime::from_s(1), uptime: Default::default() };
    let policy = scope.issuance();
    let first = Paper::first();
    let leaf = first.leaf(scope);
    let token = token(scope, 0, 1);
    let mut record = Record::new(RouterId::new("r"), token);
    for input in [
        Input::StoreEnrolled { token: token.id, asked: asked(first.key), client: leaf, server: leaf },
        Input::hello(leaf),
    ] {
        let (commit, held) = record.step(now, &policy, input).split();
        let _ = held.release(Durable::after_commit());
        if let Some(changed) = commit.and_then(|commit| commit.record) {
            record = changed;
        }
    }
    for leaf in &mut record.leaves {
        leaf.issued_at = UnixTime::default();
    }
    record
}

/// The disk after an enrollment and its first connection on day 0.
fn enrolled_disk(scope: &Scope) -> Disk {
    let first = Paper::first();
    let leaf = first.leaf(scope);
    let candidate = Candidate {
        number: GenerationNumber(1),
        digest: Digest(leaf.fingerprint.0),
        client: leaf,
        server: leaf,
        origin: Origin::Enrolled,
        verify_sent: true,
        first_admitted: Some(UnixTime::default()),
        staged_at: UnixTime::from_s(1),
        jitter: 0,
    };
    let manifest = Manifest { candidates: vec![candidate], last_number: GenerationNumber(1), ..Manifest::default() };
    Disk { manifest, whole: vec![(1, first)], prepared: None }
}

/// The state that every exploration begins with: enrolled, admitted once, and down.
pub(crate) fn first_state(scope: &Scope) -> State {
    let first = Paper::first();
    let router = match scope.router {
        Make::Exuvia => Router::Exuvia(Exuvia { disk: enrolled_disk(scope), medium: None, process: None }),
        Make::Stock => {
            Router::Stock(StockRouter { file: Some(first), medium: Some(first), has_lost_write: false, process: None })
        }
    };
    let row = Row { admitted: Some(first), pending: None };
    let control = match scope.controller {
        Make::Exuvia => {
            Control::Exuvia(Desk { durable: enrolled(scope), tip: None, waiting: Vec::new(), backup: None })
        }
        Make::Stock => {
            Control::Stock(Cluster { rows: [row; 2], behind: [Vec::new(), Vec::new()], backup: None, restored: None })
        }
    };
    State {
        time: scope.first_day,
        router_time: scope.first_day,
        router,
        control,
        channels: [None; 2],
        wire: Vec::new(),
        left: Left {
            attempts: scope.attempts,
            router_crashes: scope.router_crashes,
            controller_crashes: scope.controller_crashes,
            disk_failures: scope.disk_failures,
            asks: scope.asks,
            clock_jumps: scope.clock_jumps,
            faults: scope.faults.unwrap_or_default(),
        },
        signed: 0,
        operator: Operator::default(),
        broken: Claims::default(),
        marks: Marks::default(),
    }
}

impl Turn<'_> {
    pub(crate) fn ask(&mut self, fate: Fate) -> bool {
        if self.state.left.asks == 0 || self.scope.router != Make::Exuvia {
            return false;
        }
        self.state.left.asks -= 1;
        self.story.arrow(Actor::Operator, Actor::Router, || "renew now".to_owned());
        self.give(RouterInput::RenewAsked(Cause::Operator), fate)
    }

    pub(crate) fn revoke(&mut self) -> bool {
        if !self.scope.revokes || self.state.operator.has_acted {
            return false;
        }
        self.withdraw();
        self.sight(Sight::Revoked);
        match self.scope.controller {
            Make::Exuvia => {
                self.story.arrow(Actor::Operator, Actor::Controller(0), || "revoke".to_owned());
                self.submit(0, Matter::Operator, Input::Revoke);
                // The operator hears of it when it is done; what waited for the same transaction is done with it.
                self.commit(None);
            }
            Make::Stock => {
                self.story.arrow(Actor::Operator, Actor::Controller(0), || "delete the router".to_owned());
                self.replicate(0, Change::Delete, false);
            }
        }
        true
    }

    pub(crate) fn re_enroll(&mut self) -> bool {
        if !self.scope.re_enrolls || self.state.operator.has_acted {
            return false;
        }
        self.withdraw();
        self.state.operator.has_token = true;
        self.story.arrow(Actor::Operator, Actor::Controller(0), || "enroll anew: a new token".to_owned());
        match self.scope.controller {
            Make::Exuvia => {
                let token = token(self.scope, self.state.time, 2);
                self.submit(0, Matter::Operator, Input::ReEnroll { token });
                self.commit(None);
            }
            // The channel stays up.
            Make::Stock => self.replicate(0, Change::ReEnroll, false),
        }
        true
    }

    fn withdraw(&mut self) {
        self.state.operator.has_acted = true;
        self.state.operator.has_withdrawn = true;
    }

    /// Somebody uses the token on the router's machine: its process is stopped, and what the controller answers replaces or joins what
    /// was there.
    pub(crate) fn enroll_again(&mut self) -> bool {
        let is_open = self.desk().is_none_or(|desk| desk.tip.is_none());
        if !self.state.operator.has_token || !is_open {
            return false;
        }
        // The new installation is a new process; the old one's messages stay under way.
        self.router_is_gone();
        let epoch = 2;
        let key = if self.scope.keeps_key || self.scope.router == Make::Stock { 1 } else { 100 };
        let Some(paper) = self.next_paper(key, epoch, self.state.time) else { return false };
        self.state.signed += 1;
        let leaf = paper.leaf(self.scope);
        if self.scope.controller == Make::Exuvia {
            let id = token(self.scope, self.state.time, 2).id;
            let input = Input::StoreEnrolled { token: id, asked: asked(key), client: leaf, server: leaf };
            self.submit(0, Matter::Operator, input);
            self.commit(None);
        } else {
            self.replicate(0, Change::Enroll(paper), false);
        }
        self.story.arrow(Actor::Operator, Actor::Router, || format!("enrolls: {}", super::name(paper)));
        let now = self.router_now();
        match &mut self.state.router {
            Router::Exuvia(body) => {
                let mut disk = body.disk.clone();
                let begun = lifecycle::enrollment::begin(now, disk.manifest.clone(), None);
                let Ok(number) = begun.settle(|barrier| {
                    if let Barrier::Prepare { manifest, .. } = barrier {
                        disk.manifest = manifest;
                    }
                    Ok::<(), core::convert::Infallible>(())
                });
                let issued = Issued { client: leaf, server: leaf, digest: Digest(leaf.fingerprint.0) };
                let finished = lifecycle::enrollment::finish(now, disk.manifest.clone(), number, issued);
                let Ok(manifest) = finished.settle(|_| Ok::<(), core::convert::Infallible>(()));
                disk.manifest = manifest;
                if let Some(attempt) = &mut disk.manifest.attempt {
                    attempt.began = UnixTime::default();
                }
                disk.whole.push((short(number), paper));
                disk.prepared = None;
                body.disk = disk;
                body.medium = None;
            }
            Router::Stock(body) => {
                body.file = Some(paper);
                body.medium = Some(paper);
                body.has_lost_write = false;
            }
        }
        self.state.operator.has_token = false;
        self.state.operator.has_withdrawn = false;
        self.sight(Sight::Enrolled);
        true
    }

    pub(crate) fn back_up(&mut self) -> bool {
        if !self.scope.restores || self.state.operator.has_restored {
            return false;
        }
        let (time, signed) = (self.state.time, self.state.signed);
        let taken = match &mut self.state.control {
            Control::Exuvia(desk) if desk.backup.is_none() => {
                desk.backup = Some(Box::new((desk.durable.clone(), time)));
                true
            }
            Control::Stock(cluster) if cluster.backup.is_none() => {
                cluster.backup = Some((cluster.rows[0], signed));
                true
            }
            Control::Exuvia(_) | Control::Stock(_) => false,
        };
        if taken {
            self.story.arrow(Actor::Operator, Actor::Controller(0), || "backs up".to_owned());
        }
        taken
    }

    /// The controllers stop, the copy is put in place, the controllers start.
    pub(crate) fn restore(&mut self) -> bool {
        if self.state.operator.has_restored {
            return false;
        }
        let scope = self.scope;
        let restored = match &mut self.state.control {
            Control::Exuvia(desk) => desk.backup.take().is_some_and(|copy| {
                let (mut record, taken) = *copy;
                record.restored_from = Some(scope.instant(taken));
                let is_new = record != desk.durable;
                desk.durable = record;
                desk.tip = None;
                desk.waiting.clear();
                is_new
            }),
            Control::Stock(cluster) => cluster.backup.take().is_some_and(|(row, signed)| {
                let is_new = cluster.rows[0] != row;
                cluster.rows = [row; 2];
                cluster.behind = [Vec::new(), Vec::new()];
                cluster.restored = Some(signed);
                is_new
            }),
        };
        if restored {
            self.state.operator.has_restored = true;
            self.sight(Sight::Restored);
            self.story.arrow(Actor::Operator, Actor::Controller(0), || "restores the copy".to_owned());
            for node in 0..self.scope.nodes {
                self.controller_is_gone(node);
            }
        }
        restored
    }
}
