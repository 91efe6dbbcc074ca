//! One world: hosts, wires, one time, one queue of what happens next.

mod chaos;
mod exuvia;
mod network;
mod openziti;
mod ours;
mod script;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lifecycle::issuance::{Answer, EnrollmentKind, Input, IssuancePolicy, Record, Token, TokenId};
use lifecycle::policy::Policy;
use lifecycle::{ControllerId, Leaf, Now, RouterId, UnixTime};

use crate::Dice;
use crate::claims::{Broken, Claim};
use crate::clock::Clock;
use crate::message::{ChannelId, Message, UnderlayId};
use crate::paper;
use crate::plan::{Make, Plan};
use crate::register::{Asker, Matter, Register, Submitted};
use crate::run::Counts;
use crate::stock::{CertFile, Cluster, Row, StockProcess};
pub use chaos::Trouble;
use script::Rule;
pub use script::{Action, Leaves};

/// Something that will happen.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    ToRouter { router: usize, controller: usize, message: Message },
    ToController { controller: usize, router: usize, message: Message },
    Wake { router: usize, life: u32, turn: u64 },
    HandshakeTimeout { router: usize, life: u32, underlay: UnderlayId, reachable: bool },
    RouterFindsChannelDead { router: usize, channel: ChannelId },
    ControllerFindsChannelDead { controller: usize, channel: ChannelId },
    Commit,
    Signed { asker: Asker, client: Leaf, server: Leaf },
    Apply { node: usize, until: usize },
    StockAnswer { controller: usize, life: u32, router: usize, channel: ChannelId, act: openziti::Act },
    StartRouter { router: usize },
    StartController { controller: usize },
    Chaos,
    Over(Trouble),
    BackUp,
}

/// A channel as one side sees it.
#[derive(Clone, Debug)]
pub(crate) struct Channel {
    pub(crate) id: ChannelId,
    pub(crate) since_ms: u64,
    /// Underlays in the order in which they joined, with the leaf that each showed.
    pub(crate) underlays: Vec<(UnderlayId, Leaf)>,
    pub(crate) epoch: lifecycle::issuance::Epoch,
}

#[derive(Clone, Debug)]
pub(crate) struct ControllerHost {
    pub(crate) id: ControllerId,
    pub(crate) is_up: bool,
    pub(crate) life: u32,
    pub(crate) clock: Clock,
    /// By router.
    pub(crate) channels: BTreeMap<usize, Channel>,
}

#[derive(Clone, Debug)]
pub(crate) struct RouterHost {
    pub(crate) clock: Clock,
    /// Grows with every start, so that timers of a dead process are dead.
    pub(crate) life: u32,
    pub(crate) is_suspended: bool,
    pub(crate) body: Body,
    /// What a crash at this instant may leave, one set of client leaves for each worst case.
    pub(crate) survivors: Vec<Vec<Leaf>>,
    /// The operator took the identity away; P1 does not hold until the next enrollment.
    pub(crate) is_exempt: bool,
    /// Steps and messages in the current virtual hour.
    pub(crate) hour: (u64, u32),
    /// A P1 loss that a pairing is known for was counted already.
    pub(crate) is_lost: bool,
}

#[derive(Clone, Debug)]
pub(crate) enum Body {
    Exuvia(Box<exuvia::Exuvia>),
    Stock(Box<StockHost>),
}

/// A stock router's machine.
#[derive(Clone, Debug)]
pub(crate) struct StockHost {
    pub(crate) file: CertFile,
    pub(crate) process: Option<StockProcess>,
    pub(crate) links: Links,
}

/// A router process's connections.
#[derive(Clone, Debug, Default)]
pub(crate) struct Links {
    pub(crate) dials: BTreeMap<UnderlayId, Dial>,
    /// By controller.
    pub(crate) channels: BTreeMap<usize, Channel>,
    /// When to dial again, by controller (stock only; ours has a machine for it).
    pub(crate) redial_ms: BTreeMap<usize, (u64, u32)>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Dial {
    pub(crate) controller: usize,
    pub(crate) leaf: Leaf,
    pub(crate) purpose: Purpose,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Channel,
    /// A further underlay, as proof.
    Prove,
    /// A further underlay, and then a 20302 with this key.
    Ask(lifecycle::KeyId),
}

/// A world of routers and controllers. Cheap enough to clone that a test can fork it at any instant.
#[derive(Clone, Debug)]
pub struct World {
    pub(crate) plan: Plan,
    pub(crate) policy: Policy,
    pub(crate) issuance: IssuancePolicy,
    pub(crate) dice: Dice,
    pub(crate) now_ms: u64,
    pub(crate) sequence: u64,
    pub(crate) queue: BTreeMap<(u64, u64), Event>,
    pub(crate) routers: Vec<RouterHost>,
    pub(crate) controllers: Vec<ControllerHost>,
    pub(crate) register: Register,
    pub(crate) cluster: Cluster,
    /// Pairs of router and controller without a way, and which ways: (to the controller, to the router).
    pub(crate) blocked: BTreeMap<(usize, usize), (u32, u32)>,
    pub(crate) rules: Vec<Rule>,
    pub(crate) next_id: u64,
    pub(crate) counts: Counts,
    pub(crate) broken: Option<Broken>,
    pub(crate) trace: Option<Vec<String>>,
    /// Faults that last: how many of each kind are on a host, so that overlapping ones end one by one.
    pub(crate) troubled: BTreeSet<(Trouble, usize)>,
    pub(crate) is_healed: bool,
    /// What the next crash inside a disk operation leaves, by router.
    pub(crate) crash_leaves: BTreeMap<usize, Leaves>,
    pub(crate) slow_promotion_ms: Option<u64>,
    /// Nodes of a stock cluster that hear of nothing.
    pub(crate) behind: BTreeSet<usize>,
    /// From when to when a restored stock database remembers nothing.
    pub(crate) gaps: Vec<(UnixTime, UnixTime)>,
}

impl World {
    /// A world as the plan says, every router enrolled and about to start.
    pub fn new(plan: Plan) -> Self {
        let issuance = IssuancePolicy::for_leaf_life(plan.leaf_life);
        let issuance = IssuancePolicy { overlap: issuance.overlap.min(plan.leaf_life / 10), ..issuance };
        let dice = Dice::new(plan.seed);
        let count = plan.controllers.max(1);
        let controllers = (1..=count)
            .map(|n| ControllerHost {
                id: ControllerId::new(format!("ctrl-{n}")),
                is_up: true,
                life: 1,
                clock: Clock::default(),
                channels: BTreeMap::new(),
            })
            .collect();
        let mut world = Self {
            policy: Policy::default(),
            issuance,
            dice,
            now_ms: 0,
            sequence: 0,
            queue: BTreeMap::new(),
            routers: Vec::new(),
            controllers,
            register: Register::new(Vec::new()),
            cluster: Cluster::new(0, &[]),
            blocked: BTreeMap::new(),
            rules: Vec::new(),
            next_id: 1,
            counts: Counts::default(),
            broken: None,
            trace: None,
            troubled: BTreeSet::new(),
            is_healed: false,
            crash_leaves: BTreeMap::new(),
            slow_promotion_ms: None,
            behind: BTreeSet::new(),
            gaps: Vec::new(),
            plan,
        };
        world.enroll_everybody();
        for router in 0..world.routers.len() {
            let after_ms = world.dice.between(1, 2_000);
            world.at(after_ms, Event::StartRouter { router });
        }
        if !world.plan.fault_every.is_zero() {
            world.schedule_chaos();
        }
        world
    }

    /// Every first identity, through the real machines of both sides, without any fault.
    fn enroll_everybody(&mut self) {
        let mut records = Vec::new();
        let mut rows = Vec::new();
        for router in 0..self.plan.routers {
            let key = paper::key(self.fresh());
            let (client, server) = self.sign(0, key);
            let id = TokenId([u8::try_from(router % 256).unwrap_or(0); 32]);
            let token = Token {
                id,
                kind: EnrollmentKind::Edge,
                expires: self.true_now(0).plus(self.issuance.token_life),
                enrolled: None,
            };
            let record = Record::new(RouterId::new(format!("r{router}")), token);
            records.push(self.enrolled_record(record, id, key, client, server));
            rows.push(Row { admitted: client, pending: None });
            let body = match self.plan.router_make {
                Make::Exuvia => {
                    Body::Exuvia(Box::new(exuvia::Exuvia::enrolled(self.clock_now(0), key, client, server)))
                }
                Make::Stock => Body::Stock(Box::new(StockHost {
                    file: CertFile { cached: Some(client), durable: Some(client), written_back_ms: 0 },
                    process: None,
                    links: Links::default(),
                })),
            };
            self.routers.push(RouterHost {
                clock: Clock::default(),
                life: 0,
                is_suspended: false,
                body,
                survivors: vec![vec![client]],
                is_exempt: false,
                hour: (0, 0),
                is_lost: false,
            });
        }
        self.register = Register::new(records);
        self.cluster = Cluster::new(self.controllers.len(), &rows);
    }

    fn enrolled_record(
        &self,
        mut record: Record,
        token: TokenId,
        key: lifecycle::KeyId,
        client: Leaf,
        server: Leaf,
    ) -> Record {
        let asked = paper::asked(key);
        let inputs = [
            Input::Enroll { token, kind: EnrollmentKind::Edge, asked },
            Input::StoreEnrolled { token, asked, client, server },
        ];
        for input in inputs {
            let (commit, _) = record.step(self.clock_now(0), &self.issuance, input).split();
            if let Some(changed) = commit.and_then(|commit| commit.record) {
                record = changed;
            }
        }
        record
    }

    /// A signer's work: two leaves for one key, dated by this controller's clock.
    pub(crate) fn sign(&mut self, controller: usize, key: lifecycle::KeyId) -> (Leaf, Leaf) {
        let now = self.true_now(controller);
        let life = self.plan.leaf_life;
        let backdated = now.minus(self.backdating());
        let mut make = || paper::leaf(self.fresh(), key, backdated, now.plus(life));
        (make(), make())
    }

    fn backdating(&self) -> Duration {
        (self.plan.leaf_life / 10).min(Duration::from_secs(60))
    }

    /// Was this leaf issued in a time that a restored stock database does not remember? Then it cannot be admitted, and nobody promised it.
    pub(crate) fn is_forgotten(&self, leaf: &Leaf) -> bool {
        let issued_at = leaf.not_before.plus(self.backdating());
        self.gaps.iter().any(|(from, to)| (*from..=*to).contains(&issued_at))
    }

    pub(crate) fn fresh(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    pub(crate) fn clock_now(&self, controller: usize) -> Now {
        self.controllers.get(controller).map_or(Clock::default(), |host| host.clock).now(self.now_ms)
    }

    pub(crate) fn true_now(&self, controller: usize) -> UnixTime {
        self.clock_now(controller).wall
    }

    pub(crate) fn router_now(&self, router: usize) -> Now {
        self.routers.get(router).map_or(Clock::default(), |host| host.clock).now(self.now_ms)
    }

    pub(crate) fn at(&mut self, after_ms: u64, event: Event) {
        self.sequence += 1;
        self.queue.insert((self.now_ms.saturating_add(after_ms), self.sequence), event);
    }

    /// Milliseconds since the world began.
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// The first promise that was broken, if any.
    pub fn broken(&self) -> Option<&Broken> {
        self.broken.as_ref()
    }

    /// What has happened so far, in numbers.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// The plan that this world follows.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Keeps a line for everything that happens from now on.
    pub fn keep_trace(&mut self) {
        self.trace = Some(Vec::new());
    }

    /// Hands out the lines since the last call.
    pub fn take_trace(&mut self) -> Vec<String> {
        self.trace.as_mut().map(std::mem::take).unwrap_or_default()
    }

    pub(crate) fn note(&mut self, line: impl FnOnce() -> String) {
        let at_ms = self.now_ms;
        if let Some(trace) = &mut self.trace {
            let days = at_ms / 86_400_000;
            let (h, m, s) = (at_ms / 3_600_000 % 24, at_ms / 60_000 % 60, at_ms / 1000 % 60);
            trace.push(format!("{days:>4} d {h:02}:{m:02}:{s:02}.{:03}  {}", at_ms % 1000, line()));
        }
    }

    pub(crate) fn claim(&mut self, router: usize, claim: Claim, result: Result<(), String>) {
        let Err(found) = result else { return };
        self.note(|| format!("router {router}: BROKEN {claim:?}: {found}"));
        if self.broken.is_none() {
            self.broken = Some(Broken { at_ms: self.now_ms, router, claim, found });
        }
    }

    /// Lets the next thing happen. `false` when nothing is left.
    pub fn tick(&mut self) -> bool {
        let Some(((at_ms, _), event)) = self.queue.pop_first() else { return false };
        self.now_ms = at_ms;
        self.counts.events += 1;
        self.happen(event);
        true
    }

    /// Runs until `until_ms` or the first broken promise.
    ///
    /// # Errors
    /// The broken promise.
    pub fn run_to(&mut self, until_ms: u64) -> Result<(), Broken> {
        while self.broken.is_none() && self.queue.first_key_value().is_some_and(|((at, _), _)| *at <= until_ms) {
            self.tick();
        }
        match &self.broken {
            Some(broken) => Err(broken.clone()),
            None => {
                self.now_ms = self.now_ms.max(until_ms);
                Ok(())
            }
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::ToRouter { router, controller, message } => self.router_receives(router, controller, message),
            Event::ToController { controller, router, message } => {
                if self.controllers.get(controller).is_some_and(|host| host.is_up) {
                    match self.plan.controller_make {
                        Make::Exuvia => self.ours_receives(controller, router, message),
                        Make::Stock => self.stock_receives(controller, router, message),
                    }
                }
            }
            Event::Wake { router, life, turn } => self.wake(router, life, turn),
            Event::HandshakeTimeout { router, life, underlay, reachable } => {
                if self.routers.get(router).is_some_and(|host| host.life == life) {
                    self.dial_ended(
                        router,
                        underlay,
                        if reachable { network::Ending::Closed } else { network::Ending::Nobody },
                    );
                }
            }
            Event::RouterFindsChannelDead { router, channel } => self.router_loses_channel(router, channel),
            Event::ControllerFindsChannelDead { controller, channel } => {
                if let Some(host) = self.controllers.get_mut(controller) {
                    host.channels.retain(|_, open| open.id != channel);
                }
            }
            Event::Commit => self.commit_register(),
            Event::Signed { asker, client, server } => self.signed(asker, client, server),
            Event::Apply { node, until } => self.apply_log(node, until),
            Event::StockAnswer { controller, life, router, channel, act } => {
                self.stock_acts(controller, life, router, channel, act);
            }
            Event::StartRouter { router } => self.start_router(router),
            Event::StartController { controller } => self.start_controller(controller),
            Event::Chaos => self.chaos(),
            Event::Over(trouble) => self.trouble_over(trouble),
            Event::BackUp => self.back_up(),
        }
    }

    pub(crate) fn submit(&mut self, controller: usize, router: usize, matter: Matter, input: Input) {
        let Some(host) = self.controllers.get(controller) else { return };
        let asker = Asker { controller, life: host.life, router, matter };
        let now = self.clock_now(controller);
        match self.register.submit(now, &self.issuance, input, asker) {
            Some(Submitted::Now(asker, answer)) => self.answered(asker, answer),
            Some(Submitted::Later { is_first: true }) => {
                let after_ms = self.dice.between(1, 8);
                self.at(after_ms, Event::Commit);
            }
            Some(Submitted::Later { is_first: false }) | None => {}
        }
    }

    pub(crate) fn commit_register(&mut self) {
        let (answers, dirty) = self.register.commit();
        for (asker, answer) in answers {
            self.answered(asker, answer);
        }
        for router in dirty {
            self.check_identity(router);
        }
    }

    fn answered(&mut self, asker: Asker, answer: Answer) {
        let is_alive = self.controllers.get(asker.controller).is_some_and(|host| host.is_up && host.life == asker.life);
        if is_alive {
            self.check_answer(asker.router, &answer);
            self.ours_answers(asker, answer);
        }
    }
}
