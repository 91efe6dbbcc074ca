//! The exploration itself: every action in every state, breadth first, by `stateright`. Where the faults are counted, there are far more states, and
//! [`walk`] meets them depth first.

mod walk;

use std::sync::Arc;

use stateright::{Checker, HasDiscoveries, Model, Property};

use crate::action::{Action, Fate};
use crate::claims::{CLAIMS, Claim};
use crate::defects::Defect;
use crate::scope::{Make, Scope};
use crate::seen::Seen;
use crate::state::{Body, Control, Router, State};
use crate::story::{Line, Story, mermaid};
use crate::turn::{Turn, first_state};

/// What an exploration is after.
#[derive(Clone, Copy, Debug)]
pub enum Goal {
    /// Every claim holds in every state.
    Claims,
    /// A state that breaks a claim; the search ends there.
    Refute,
    /// How many states leave the router without a usable identity.
    Count,
    /// The shortest way to a defect.
    Find(&'static Defect),
}

/// One exploration.
#[derive(Clone, Debug)]
pub struct Exploration {
    scope: Scope,
    goal: Goal,
    seen: Arc<Seen>,
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// Its bounds.
    pub scope: Scope,
    /// Different states.
    pub unique: u64,
    /// Steps taken, including those that led to a known state.
    pub steps: u64,
    /// The longest of the shortest ways to a state.
    pub depth: u64,
    /// What it came across.
    pub seen: Arc<Seen>,
    /// Claims that broke, each with its shortest story.
    pub broken: Vec<(Claim, Tale)>,
    /// The defect that was looked for.
    pub found: Option<Tale>,
    /// Was every state within the bounds met? Not if the search was stopped.
    pub is_whole: bool,
}

/// A path, told.
#[derive(Clone, Debug)]
pub struct Tale {
    /// A Mermaid sequence diagram.
    pub chart: String,
    /// The same, line by line, in words.
    pub lines: Vec<String>,
    /// Steps.
    pub steps: usize,
    /// The actions, for whoever wants to go the same way.
    pub actions: Vec<Action>,
    /// Where it ends.
    pub end: Box<State>,
}

/// An exploration with counted faults ends after so many states at the latest, and says so: about twenty minutes and a gigabyte.
const MOST: u64 = 30_000_000;

const FOUND: &str = "found";
const EXPLORED: &str = "explored";

impl Exploration {
    /// Prepares one.
    pub fn new(scope: Scope, goal: Goal) -> Self {
        Self { scope, goal, seen: Arc::new(Seen::default()) }
    }

    /// Runs it to its end on this many threads. With one, the same states are met in the same order every time.
    pub fn run(self, threads: usize) -> Outcome {
        let (scope, seen, goal) = (self.scope, Arc::clone(&self.seen), self.goal);
        if let (Some(_), Goal::Claims) = (scope.faults, goal) {
            return self.walk(MOST);
        }
        let finish = match goal {
            Goal::Refute => HasDiscoveries::Any,
            Goal::Claims | Goal::Count | Goal::Find(_) => HasDiscoveries::All,
        };
        let retold = self.clone();
        let checker = self.checker().threads(threads).finish_when(finish).spawn_bfs().join();
        let (unique, steps) = (checker.unique_state_count() as u64, checker.state_count() as u64);
        let depth = checker.max_depth() as u64;
        let mut discoveries = checker.discoveries();
        let broken = CLAIMS
            .iter()
            .filter_map(|claim| Some((*claim, retold.tell(discoveries.remove(claim.name())?.into_vec()))))
            .collect();
        let found = discoveries.remove(FOUND).map(|path| retold.tell(path.into_vec()));
        Outcome { scope, unique, steps, depth, seen, broken, found, is_whole: true }
    }

    /// One action, if it is possible and within the bounds.
    pub fn act(&self, state: &State, action: Action) -> Option<State> {
        self.carry_out(state, action, Story::silent()).map(|turn| turn.state)
    }

    fn tell(&self, steps: Vec<(State, Option<Action>)>) -> Tale {
        let mut lines: Vec<Line> = Vec::new();
        let mut actions = Vec::new();
        let mut end = None;
        for (state, action) in steps {
            if let Some(action) = action {
                actions.push(action);
                if let Some(turn) = self.carry_out(&state, action, Story::told()) {
                    lines.extend(turn.story.into_lines());
                }
            }
            end = Some(state);
        }
        let end = Box::new(end.unwrap_or_else(|| first_state(&self.scope)));
        Tale {
            chart: mermaid(&lines),
            lines: lines.iter().map(Line::words).collect(),
            steps: actions.len(),
            actions,
            end,
        }
    }

    fn carry_out(&self, state: &State, action: Action, story: Story) -> Option<Turn<'_>> {
        let is_counted = self.scope.faults.is_some() && action.is_fault();
        if is_counted && state.left.faults == 0 {
            return None;
        }
        let mut turn = Turn { scope: &self.scope, seen: &self.seen, state: state.clone(), story };
        turn.state.left.faults -= u8::from(is_counted);
        let happened = match action {
            Action::Tick(fate) => turn.tick(fate),
            Action::Deliver { at, is_doubled, fate } => turn.deliver(at.into(), is_doubled, fate),
            Action::Lose(at) => turn.lose(at.into()),
            Action::Abandon(at) => turn.abandon(at.into()),
            Action::Break(node) => turn.break_channel(node),
            Action::Notice(node) => turn.notice(node),
            Action::Kill => turn.crash_router(false, false),
            Action::PowerCut(keeps_nothing) => turn.crash_router(true, keeps_nothing),
            Action::Start => match self.scope.router {
                Make::Exuvia => turn.start_exuvia(),
                Make::Stock => turn.start_stock(),
            },
            Action::Commit => turn.commit(None),
            Action::CommitThenDie(node) => turn.commit(Some(node)),
            Action::CrashController(node) => turn.crash_controller(node),
            Action::Clock => turn.time_passes(),
            Action::ClockJump(to) => turn.clock_jumps(to),
            Action::Ask(fate) => turn.ask(fate),
            Action::Revoke => turn.revoke(),
            Action::ReEnroll => turn.re_enroll(),
            Action::EnrollAgain => turn.enroll_again(),
            Action::BackUp => turn.back_up(),
            Action::Restore => turn.restore(),
            Action::Apply(node) => turn.apply(node),
            Action::StockDial(node) => turn.stock_dial(node),
            Action::StockLook(node) => turn.stock_look(node),
            Action::StockForget => turn.stock_forget(),
            Action::StockGiveUp(at) => turn.stock_give_up(at.into()),
            Action::StockWrite { at, fails } => turn.stock_write(at.into(), fails),
            Action::Sync => turn.stock_sync(),
        };
        happened.then_some(turn)
    }

    fn offer_messages(&self, state: &State, actions: &mut Vec<Action>) {
        for (at, message) in state.wire.iter().enumerate() {
            if at > 0 && state.wire.get(at - 1) == Some(message) {
                continue;
            }
            let place = u8::try_from(at).unwrap_or(u8::MAX);
            let body = message.body;
            let fates: &[Fate] = match body {
                Body::Extended { .. } if self.scope.router == Make::Exuvia => self.fates(state),
                Body::Promoting { .. } if self.scope.nodes > 1 => &[Fate::Lives, Fate::Lags],
                _ => &[Fate::Lives],
            };
            let repeats = matches!(
                body,
                Body::Extend { .. } | Body::Extended { .. } | Body::Verify { .. } | Body::Verified { .. }
            );
            for fate in fates {
                actions.push(Action::Deliver { at: place, is_doubled: false, fate: *fate });
                if self.scope.doubles && repeats && *fate == Fate::Lives {
                    actions.push(Action::Deliver { at: place, is_doubled: true, fate: *fate });
                }
            }
            if self.scope.loses && !body.is_job() {
                actions.push(Action::Lose(place));
                if self.scope.strays && matches!(body, Body::Hello(hello) if hello.is_awaited) {
                    actions.push(Action::Abandon(place));
                }
            }
        }
    }

    fn fates(&self, state: &State) -> &'static [Fate] {
        const ALL: [Fate; 5] = [
            Fate::Lives,
            Fate::DiesInBarrier,
            Fate::DiesAfterBarrier,
            Fate::Fails { is_unknown: false },
            Fate::Fails { is_unknown: true },
        ];
        match (state.left.router_crashes > 0, state.left.disk_failures > 0) {
            (true, true) => &ALL,
            (true, false) => &[ALL[0], ALL[1], ALL[2]],
            (false, true) => &[ALL[0], ALL[3], ALL[4]],
            (false, false) => &[ALL[0]],
        }
    }

    fn offer_router(&self, state: &State, actions: &mut Vec<Action>) {
        match &state.router {
            Router::Exuvia(body) => {
                if body.process.is_some() {
                    let meets_barrier = self.fates(state).len() > 1 && self.meets_barrier(state);
                    let fates = if meets_barrier { self.fates(state) } else { &[Fate::Lives] };
                    actions.extend(fates.iter().map(|fate| Action::Tick(*fate)));
                    if state.left.asks > 0 {
                        actions.extend(self.fates(state).iter().map(|fate| Action::Ask(*fate)));
                    }
                } else {
                    actions.push(Action::Start);
                }
            }
            Router::Stock(body) => {
                match &body.process {
                    None => actions.push(Action::Start),
                    Some(process) => {
                        for node in 0..self.scope.nodes {
                            if (process.dialing | process.up) & 1 << node == 0 {
                                actions.push(Action::StockDial(node));
                            }
                            if !process.has_ended {
                                actions.push(Action::StockLook(node));
                            }
                        }
                        if process.has_asked {
                            actions.push(Action::StockForget);
                        }
                        for at in 0..u8::try_from(process.handlers.len()).unwrap_or(0) {
                            actions.push(Action::StockGiveUp(at));
                            actions.push(Action::StockWrite { at, fails: false });
                            if state.left.disk_failures > 0 {
                                actions.push(Action::StockWrite { at, fails: true });
                            }
                        }
                    }
                }
                if self.scope.power_cuts && body.medium != body.file {
                    actions.push(Action::Sync);
                }
            }
        }
        if state.left.router_crashes > 0 {
            let (is_up, is_synced) = match &state.router {
                Router::Exuvia(body) => (body.process.is_some(), body.medium.is_none()),
                Router::Stock(body) => (body.process.is_some(), body.medium == body.file),
            };
            if is_up {
                actions.push(Action::Kill);
            }
            if self.scope.power_cuts && !is_synced {
                actions.push(Action::PowerCut(false));
                if self.scope.router == Make::Stock {
                    actions.push(Action::PowerCut(true));
                }
            }
        }
    }

    /// Would the machine's next look at its clocks wait for the disk?
    fn meets_barrier(&self, state: &State) -> bool {
        let Router::Exuvia(body) = &state.router else { return false };
        let Some(process) = &body.process else { return false };
        let now = self.scope.now(state.router_time, state.time);
        process.machine.clone().step(now, lifecycle::renewal::Input::Tick).1.barrier().is_some()
    }

    fn believes_in_channel(&self, state: &State, node: u8) -> bool {
        match &state.router {
            Router::Exuvia(body) => body.process.as_ref().is_some_and(|process| {
                let contact = process.machine.contacts().get(&self.scope.controller_id(node));
                contact.is_some_and(lifecycle::renewal::Contact::is_up)
            }),
            Router::Stock(body) => body.process.as_ref().is_some_and(|process| process.up & 1 << node != 0),
        }
    }

    fn offer_controllers(&self, state: &State, actions: &mut Vec<Action>) {
        for node in 0..self.scope.nodes {
            let has_channel = state.channels.get(usize::from(node)).is_some_and(Option::is_some);
            if has_channel && self.scope.breaks {
                actions.push(Action::Break(node));
            } else if !has_channel && self.believes_in_channel(state, node) {
                actions.push(Action::Notice(node));
            }
            if state.left.controller_crashes > 0 {
                actions.push(Action::CrashController(node));
            }
        }
        match &state.control {
            Control::Exuvia(desk) if desk.tip.is_some() => {
                actions.push(Action::Commit);
                if state.left.controller_crashes > 0 {
                    actions.extend((0..self.scope.nodes).map(Action::CommitThenDie));
                }
            }
            Control::Stock(cluster) => {
                let lags = |node: &u8| cluster.behind.get(usize::from(*node)).is_some_and(|behind| !behind.is_empty());
                actions.extend((0..self.scope.nodes).filter(lags).map(Action::Apply));
            }
            Control::Exuvia(_) => {}
        }
    }

    fn offer_people(&self, state: &State, actions: &mut Vec<Action>) {
        if usize::from(state.time) + 1 < self.scope.days.len() {
            actions.push(Action::Clock);
        }
        if state.left.clock_jumps > 0 {
            actions.extend((0..u8::try_from(self.scope.days.len()).unwrap_or(0)).map(Action::ClockJump));
        }
        if self.scope.revokes {
            actions.push(Action::Revoke);
        }
        if self.scope.re_enrolls {
            actions.push(Action::ReEnroll);
            actions.push(Action::EnrollAgain);
        }
        if self.scope.restores {
            actions.push(Action::BackUp);
            actions.push(Action::Restore);
        }
    }
}

impl Model for Exploration {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![first_state(&self.scope)]
    }

    /// Asked once for every state that is expanded.
    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let is_unusable = matches!(self.goal, Goal::Count) && !state.holds(&self.scope, Claim::NeverWithout);
        self.seen.expanded(is_unusable, state.is_lost_by_its_writes(&self.scope));
        self.offer_messages(state, actions);
        self.offer_router(state, actions);
        self.offer_controllers(state, actions);
        self.offer_people(state, actions);
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        self.act(state, action)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        match self.goal {
            Goal::Claims | Goal::Refute => vec![
                Property::always(Claim::NeverWithout.name(), |model: &Self, state: &State| {
                    state.holds(&model.scope, Claim::NeverWithout)
                }),
                Property::always(Claim::RouterDurableFirst.name(), |_, state: &State| {
                    !state.broken.has(Claim::RouterDurableFirst)
                }),
                Property::always(Claim::ControllerDurableFirst.name(), |_, state: &State| {
                    !state.broken.has(Claim::ControllerDurableFirst)
                }),
                Property::always(Claim::AdmittedBeforePromoted.name(), |_, state: &State| {
                    !state.broken.has(Claim::AdmittedBeforePromoted)
                }),
                Property::always(Claim::EpochHolds.name(), |_, state: &State| !state.broken.has(Claim::EpochHolds)),
                Property::always(Claim::RetiredAfterItsEnd.name(), |_, state: &State| {
                    !state.broken.has(Claim::RetiredAfterItsEnd)
                }),
            ],
            Goal::Count => vec![Property::always(EXPLORED, |_, _| true)],
            Goal::Find(_) => vec![Property::sometimes(FOUND, |model: &Self, state: &State| match model.goal {
                Goal::Find(defect) => (defect.is_it)(&model.scope, state),
                Goal::Claims | Goal::Refute | Goal::Count => false,
            })],
        }
    }
}
