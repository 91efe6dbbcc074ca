//! One world: hosts, wires, one time, one queue of what happens next.

mod chaos;
mod exuvia;
mod hostile;
mod network;
mod openziti;
mod operator;
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
use crate::mutant::Mutant;
use crate::paper;
use crate::plan::{Make, Plan, Stream, Strike};
use crate::queue::Queue;
use crate::register::{Asker, Matter, Register, Submitted};
use crate::run::Counts;
use crate::stock::{CertFile, Cluster, Row, StockProcess};
pub use chaos::Trouble;
use script::Rule;
pub use script::{Action, Leaves};

/// Something that will happen.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    ToRouter {
        router: usize,
        controller: usize,
        message: Message,
    },
    ToController {
        controller: usize,
        router: usize,
        message: Message,
    },
    Wake {
        router: usize,
        life: u32,
        turn: u64,
    },
    HandshakeTimeout {
        router: usize,
        life: u32,
        underlay: UnderlayId,
        reachable: bool,
    },
    RouterFindsChannelDead {
        router: usize,
        channel: ChannelId,
    },
    ControllerFindsChannelDead {
        controller: usize,
        channel: ChannelId,
    },
    Commit,
    Signed {
        asker: Asker,
        client: Leaf,
        server: Leaf,
    },
    Apply {
        node: usize,
        until: usize,
    },
    StockAnswer {
        controller: usize,
        life: u32,
        router: usize,
        channel: ChannelId,
        act: openziti::Act,
    },
    StartRouter {
        router: usize,
    },
    StartController {
        controller: usize,
    },
    /// The next fault of this stream, or of the list.
    Strike {
        strike: Strike,
        stream: Option<usize>,
    },
    Over(Trouble),
    BackUp,
    /// A person does what only a person can do.
    Operator {
        router: usize,
        errand: operator::Errand,
    },
    /// The router looks at its configured paths.
    Look {
        router: usize,
        life: u32,
        turn: u64,
    },
    /// A mutant's: throw a generation away unless its 20303 was answered with success.
    Forget {
        router: usize,
        life: u32,
        number: lifecycle::GenerationNumber,
    },
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
    /// Of a suspended machine: what happens when it wakes up.
    pub(crate) asleep: Option<Vec<Event>>,
    /// Its own luck, whatever else the world holds.
    pub(crate) dice: Dice,
    /// How many numbers were made up for it.
    pub(crate) made: u64,
    /// The newest client leaves that were ever on its disk, as many as a manifest names.
    pub(crate) held: Vec<Leaf>,
    /// Renewals from beginning to end.
    pub(crate) renewals: u64,
    /// An operator has switched it off.
    pub(crate) is_disabled: bool,
    pub(crate) body: Body,
    /// What a crash at this instant may leave, one set of client leaves for each worst case.
    pub(crate) survivors: Vec<Vec<Leaf>>,
    /// The operator took the identity away; P1 does not hold until the next enrollment.
    pub(crate) is_exempt: bool,
    /// Steps and messages in the current virtual hour.
    pub(crate) hour: (u64, u32),
    /// What its enrollment laid down, which scripts and backups keep.
    pub(crate) first_files: Option<store::generation::GenerationFiles>,
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
    /// Channels whose farewell overtook their Result.
    pub(crate) farewells: BTreeSet<ChannelId>,
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
    pub(crate) queue: Queue<Event>,
    pub(crate) streams: Vec<Stream>,
    /// The faults that have struck.
    pub(crate) struck: Vec<Strike>,
    pub(crate) routers: Vec<RouterHost>,
    pub(crate) controllers: Vec<ControllerHost>,
    pub(crate) register: Register,
    pub(crate) cluster: Cluster,
    /// Pairs of router and controller without a way, and which ways: (to the controller, to the router).
    pub(crate) blocked: BTreeMap<(usize, usize), (u32, u32)>,
    pub(crate) rules: Vec<Rule>,
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
    /// Leaves that no controller ever knew: they carry nobody.
    pub(crate) strays: BTreeSet<lifecycle::Fingerprint>,
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
            policy: if plan.mutant == Some(Mutant::NoBackoff) { impatient() } else { Policy::default() },
            issuance,
            dice,
            now_ms: 0,
            queue: Queue::new(),
            streams: Stream::all(&plan),
            struck: Vec::new(),
            routers: Vec::new(),
            controllers,
            register: Register::new(Vec::new(), None),
            cluster: Cluster::new(0, &[]),
            blocked: BTreeMap::new(),
            rules: Vec::new(),
            counts: Counts::default(),
            broken: None,
            trace: None,
            troubled: BTreeSet::new(),
            is_healed: false,
            crash_leaves: BTreeMap::new(),
            slow_promotion_ms: None,
            behind: BTreeSet::new(),
            strays: BTreeSet::new(),
            gaps: Vec::new(),
            plan,
        };
        world.enroll_everybody();
        for router in 0..world.routers.len() {
            let after_ms = world.dice_of(router).between(1, 2_000);
            world.at(after_ms, Event::StartRouter { router });
        }
        world.schedule_strikes();
        world
    }

    /// Every first identity, through the real machines of both sides, without any fault.
    fn enroll_everybody(&mut self) {
        let mut records = Vec::new();
        let mut rows = Vec::new();
        for router in 0..self.plan.routers {
            let number = self.plan.first_router + router as u64;
            self.routers.push(RouterHost::new(self.plan.seed, number));
            let key = paper::key(self.fresh(router));
            let (client, server) = self.sign(0, router, key);
            let id = TokenId(paper::key(number).0);
            let token = Token {
                id,
                kind: EnrollmentKind::Edge,
                expires: self.true_now(0).plus(self.issuance.token_life),
                enrolled: None,
            };
            let record = Record::new(RouterId::new(format!("r{number}")), token);
            records.push(self.enrolled_record(record, id, key, client, server));
            rows.push(Row { admitted: client, pending: None });
            let body = match self.plan.router_make {
                Make::Exuvia => {
                    let disk = exuvia::new_disk(self.plan.mutant);
                    Body::Exuvia(Box::new(exuvia::Exuvia::enrolled(disk, self.clock_now(0), key, client, server)))
                }
                Make::Stock => Body::Stock(Box::new(StockHost {
                    file: CertFile { cached: Some(client), durable: Some(client), written_back_ms: 0 },
                    process: None,
                    links: Links::default(),
                })),
            };
            if let Some(host) = self.routers.get_mut(router) {
                host.body = body;
                host.first_files = Some(paper::files(paper::keys(key), &client, &server));
                host.survivors = vec![vec![client]];
            }
        }
        self.register = Register::new(records, self.plan.mutant);
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
    pub(crate) fn sign(&mut self, controller: usize, router: usize, key: lifecycle::KeyId) -> (Leaf, Leaf) {
        let now = self.true_now(controller);
        let life = self.plan.leaf_life;
        let backdated = now.minus(self.backdating());
        let seed = self.plan.seed;
        let mut make = || paper::leaf(self.fresh(router) ^ Dice::new(seed).roll(), key, backdated, now.plus(life));
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

    /// A number that nobody else has, made up for this router.
    pub(crate) fn fresh(&mut self, router: usize) -> u64 {
        let number = self.plan.first_router + router as u64;
        let Some(host) = self.routers.get_mut(router) else { return 0 };
        host.made += 1;
        ((number + 1) << 32) + host.made
    }

    /// The luck of one router.
    pub(crate) fn dice_of(&mut self, router: usize) -> &mut Dice {
        match self.routers.get_mut(router) {
            Some(host) => &mut host.dice,
            None => &mut self.dice,
        }
    }

    /// The router with this number, if the world has it.
    pub(crate) fn router_with_number(&self, number: u64) -> Option<usize> {
        let at = usize::try_from(number.checked_sub(self.plan.first_router)?).ok()?;
        (at < self.routers.len()).then_some(at)
    }

    /// Every fault that has struck so far.
    pub fn struck(&self) -> &[Strike] {
        &self.struck
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
        self.queue.push(self.now_ms.saturating_add(after_ms), event);
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
        let Some((at_ms, event)) = self.queue.pop() else { return false };
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
        while self.broken.is_none() && self.queue.next_at().is_some_and(|at| at <= until_ms) {
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
        let Some(event) = self.put_off(event) else { return };
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
            Event::Strike { strike, stream } => self.strike(strike, stream),
            Event::Over(trouble) => self.trouble_over(trouble),
            Event::BackUp => self.keep_backing_up(),
            Event::Operator { router, errand } => self.run_errand(router, errand),
            Event::Look { router, life, turn } => self.look(router, life, turn),
            Event::Forget { router, life, number } => self.forget_unanswered(router, life, number),
        }
    }

    pub(crate) fn submit(&mut self, controller: usize, router: usize, matter: Matter, input: Input) {
        let Some(host) = self.controllers.get(controller) else { return };
        let asker = Asker { controller, life: host.life, router, matter };
        let now = self.clock_now(controller);
        match self.register.submit(now, &self.issuance, input, asker) {
            Some(Submitted::Now(asker, answer)) => {
                if std::mem::take(&mut self.register.is_answered_early) {
                    self.at(5, Event::Commit);
                }
                self.answered(asker, answer);
            }
            Some(Submitted::Later { is_first: true }) => {
                let after_ms = self.dice_of(router).between(1, 8);
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

impl RouterHost {
    fn new(seed: u64, number: u64) -> Self {
        let mut of_seed = Dice::new(seed);
        Self {
            clock: Clock::default(),
            life: 0,
            asleep: None,
            dice: Dice::new(of_seed.roll() ^ Dice::new(number).roll()),
            made: 0,
            renewals: 0,
            held: Vec::new(),
            is_disabled: false,
            // Its machine comes with its enrollment.
            body: Body::Stock(Box::new(StockHost {
                file: CertFile { cached: None, durable: None, written_back_ms: 0 },
                process: None,
                links: Links::default(),
            })),
            survivors: Vec::new(),
            is_exempt: false,
            hour: (0, 0),
            first_files: None,
            is_lost: false,
        }
    }
}

/// A policy that never waits.
fn impatient() -> Policy {
    let zero = Duration::ZERO;
    Policy { spacing: zero, backoff_min: zero, backoff_max: zero, ..Policy::default() }
}
