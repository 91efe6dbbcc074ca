//! Peers that the layer must judge rightly: OpenZiti's rules, and rules that keep both leaves.
//!
//! Every message of the exchange times every action, on small peers in this process, each of them a router of its own behind the same
//! proxy. A kill is the end of its future: what it had not written is gone.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use evidence::{Control, Evidence};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::plan::{actions, faults_of};
use crate::network::peers::{Flow, Habit, Identity, Restart, RouterModel, STOCK_LEAF_LIFE, StockController};
use crate::network::world::World;
use crate::proxy::{Action, Message, Path, Proxy, Rule};

/// Routers at work at once.
const AT_ONCE: usize = 16;
/// A renewal of these peers takes tens of milliseconds, and they ask again every 350.
const LIVES: Duration = Duration::from_millis(1_800);
/// Routers that share the scenarios on the real controller.
const REAL_ROUTERS: usize = 14;
/// On a free way; only a machine that is very busy needs any of it.
const COMES_BACK: Duration = Duration::from_secs(60);
const EXCHANGE: [Message; 4] = [Message::Request, Message::Certs, Message::Verify, Message::Confirmation];

/// A pair of rules, and what must be said of it.
struct Pair {
    name: &'static str,
    habit: Habit,
    /// Whose controller: a model, or the real one of this world.
    controller: Option<Flow>,
    is_wrong: bool,
    /// Is it this pair's fate to be killed?
    is_killed: bool,
}

const PAIRS: [Pair; 7] = [
    Pair {
        name: "openziti 2.1, verified extension (model): the lost answer",
        habit: Habit::WriteAfterAnswer,
        controller: Some(Flow::Verified),
        is_wrong: true,
        is_killed: false,
    },
    Pair {
        name: "openziti 2.1, verified extension (model), killed: promoted before it is written",
        habit: Habit::WriteAfterAnswer,
        controller: Some(Flow::Verified),
        is_wrong: true,
        is_killed: true,
    },
    Pair {
        name: "openziti 2.1, unverified extension (model): swapped before it is answered",
        habit: Habit::WriteOnReceipt,
        controller: Some(Flow::Unverified),
        is_wrong: true,
        is_killed: false,
    },
    Pair {
        name: "a router that keeps both leaves, openziti controller (model)",
        habit: Habit::KeepBoth,
        controller: Some(Flow::Verified),
        is_wrong: false,
        is_killed: false,
    },
    Pair {
        name: "a router that keeps both leaves, openziti controller (model), killed",
        habit: Habit::KeepBoth,
        controller: Some(Flow::Verified),
        is_wrong: false,
        is_killed: true,
    },
    Pair {
        name: "openziti router (model) that replaces its file whole, exuvia controller",
        habit: Habit::WriteAfterAnswer,
        controller: None,
        is_wrong: false,
        is_killed: false,
    },
    Pair {
        name: "openziti router (model) that replaces its file whole, exuvia controller, killed",
        habit: Habit::WriteAfterAnswer,
        controller: None,
        is_wrong: false,
        is_killed: true,
    },
];

pub(super) fn run(world: &World, evidence: &mut Evidence) -> Result<()> {
    let judged: Vec<Result<Vec<Run>>> = std::thread::scope(|scope| {
        let judging: Vec<_> = PAIRS
            .iter()
            .enumerate()
            .map(|(number, pair)| scope.spawn(move || judge_pair(world, number, pair)))
            .collect();
        let lost = || Err(anyhow!("a control panicked"));
        judging.into_iter().map(|judging| judging.join().unwrap_or_else(|_| lost())).collect()
    });
    for (pair, runs) in PAIRS.iter().zip(judged) {
        let runs = runs?;
        let caught: Vec<&Run> = runs.iter().filter(|run| run.is_locked_out).collect();
        for run in &runs {
            for fault in faults_of(run.rule) {
                super::count(evidence, pair.name, fault, run.is_locked_out);
            }
        }
        evidence.controls.push(Control {
            name: pair.name.to_owned(),
            is_wrong: pair.is_wrong,
            caught: caught.len() as u64,
            states: runs.len() as u64,
            example: caught.first().map(|run| {
                let Rule { message, action, .. } = run.rule;
                let killed = if pair.is_killed { ", then killed" } else { "" };
                format!("{message} {action}{killed}: started anew, it is refused with everything that its files hold")
            }),
        });
        evidence.tried("messages × actions (controls)", runs.len() as u64);
    }
    merge(evidence);
    Ok(())
}

/// One line for all pairs.
fn merge(evidence: &mut Evidence) {
    let of_controls = |what: &str| what == "messages × actions (controls)";
    let sum = evidence.tried.iter().filter(|count| of_controls(&count.what)).map(|count| count.count).sum();
    evidence.tried.retain(|count| !of_controls(&count.what));
    evidence.tried("messages × actions (controls)", sum);
}

struct Run {
    rule: Rule,
    is_locked_out: bool,
}

/// A router of the pair, its way, and what it will meet there.
struct Entrant {
    rules: Vec<Rule>,
    model: Arc<RouterModel>,
    path: Arc<Path>,
}

fn judge_pair(world: &World, number: usize, pair: &Pair) -> Result<Vec<Run>> {
    let rules: Vec<Rule> = EXCHANGE
        .iter()
        .flat_map(|message| actions(*message).into_iter().map(|action| Rule::once(*message, within_a_life(action))))
        .collect();
    let stock = match pair.controller {
        Some(flow) => {
            Some(world.runtime.block_on(StockController::start(world.authority.clone(), flow, STOCK_LEAF_LIFE))?)
        }
        None => None,
    };
    // Enrolling with the real program takes its time, and routers of the real controller are there to be used again.
    let per_router = if stock.is_some() { 1 } else { rules.len().div_ceil(REAL_ROUTERS) };
    let mut entrants = Vec::new();
    for (place, rules) in rules.chunks(per_router).enumerate() {
        let name = format!("peer-{number}-{place}");
        let (id, identity) = match &stock {
            Some(stock) => {
                let identity = Identity::issued(&name, &world.authority.issuer)?;
                stock.enroll(&name, identity.client.leaf().fingerprint());
                (name, identity)
            }
            None => enrolled_for_real(world, &name)?,
        };
        let model = RouterModel::new(&id, pair.habit, identity, world.authority.bundle.clone());
        let path = Path::of_messages(id, model.keys());
        let path = match &stock {
            Some(stock) => path.leading_to(stock.address()),
            None => path,
        };
        let path = world.proxy.add(path);
        path.set_process(std::process::id());
        entrants.push(Entrant { rules: rules.to_vec(), model: Arc::new(model), path });
    }
    world.runtime.block_on(judge_all(&world.proxy, entrants, pair.is_killed))
}

/// These peers live faster than a real router here.
fn within_a_life(action: Action) -> Action {
    let late = Duration::from_millis(500);
    match action {
        Action::Delay(_) => Action::Delay(late),
        Action::Late(_) => Action::Late(late),
        Action::SwapWithNext(_) => Action::SwapWithNext(late),
        other => other,
    }
}

/// A real enrollment by the real program; the model goes on with the files.
fn enrolled_for_real(world: &World, name: &str) -> Result<(String, Identity)> {
    let router = world.controller.enrolled(name, &world.controller.home().join(name)).context("a peer's enrollment")?;
    let read = |file: &str| std::fs::read(router.generation(1).join(file));
    let identity = Identity {
        key: Arc::new(pki::PrivateKey::from_pem(&read("key.pem")?)?),
        client: pki::Chain::from_pem(&read("client.pem")?)?,
        server: pki::Chain::from_pem(&read("server.pem")?)?,
    };
    Ok((router.id().to_owned(), identity))
}

async fn judge_all(proxy: &Proxy, entrants: Vec<Entrant>, is_killed: bool) -> Result<Vec<Run>> {
    let room = Arc::new(Semaphore::new(AT_ONCE));
    let mut tasks = JoinSet::new();
    for entrant in entrants {
        let (room, at) = (room.clone(), proxy.address());
        tasks.spawn(async move {
            // Never closed.
            let _permit = room.acquire_owned().await;
            entrant.judged(at, is_killed).await
        });
    }
    let mut runs = Vec::new();
    while let Some(joined) = tasks.join_next().await {
        runs.extend(joined??);
    }
    runs.sort_by_key(|run| run.rule.message);
    Ok(runs)
}

impl Entrant {
    async fn judged(self, at: SocketAddr, is_killed: bool) -> Result<Vec<Run>> {
        let mut runs = Vec::new();
        for rule in &self.rules {
            let is_locked_out = self.is_locked_out_by(*rule, at, is_killed).await?;
            runs.push(Run { rule: *rule, is_locked_out });
            if is_locked_out {
                break;
            }
        }
        Ok(runs)
    }

    async fn is_locked_out_by(&self, rule: Rule, at: SocketAddr, is_killed: bool) -> Result<bool> {
        let Self { model, path, .. } = self;
        let life = model.renew(at, LIVES, || path.arm([rule]));
        if is_killed {
            let struck = async {
                while path.struck() == 0 {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                // What was let through arrives, and the other side acts on it; the answer is on its way when the router dies.
                tokio::time::sleep(Duration::from_millis(2)).await;
            };
            tokio::select! {
                biased;
                () = struck => {}
                _ = life => {}
            }
        } else {
            life.await;
        }
        path.pass();
        path.sever();
        match model.restarted(at, COMES_BACK).await {
            Restart::Admitted => Ok(false),
            Restart::Refused => Ok(true),
            Restart::Unanswered => Err(anyhow!("nobody answers a router on a free way")),
        }
    }
}
