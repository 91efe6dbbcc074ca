//! Renewals per second of one controller over real TLS control channels, its register on a disk against one in memory.
//!
//! Two controllers, whole daemons in processes of their own, one for each kind of register. This process plays all routers:
//! 20302, 20301, 20303, 20002, then one more connection that presents the new leaf. Keys and requests are made before the clock
//! runs. Rounds alternate between the two controllers; what counts is the median of the ratios of neighbouring rounds. Routers
//! and controllers share the machine, so the rates are no measure of a controller that has one for itself; processor time of
//! the controller alone is printed beside them.
//!
//! `EXUVIA_BENCH_DIR` names a folder on another file system, `EXUVIA_BENCH_ROUNDS` how often, `EXUVIA_BENCH_CHANNELS`
//! one crowd of the three, `EXUVIA_BENCH_SPACING_MS` another spacing of commits than the register's own.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a bench that cannot go on must stop")]

#[path = "renewals/load.rs"]
mod load;
#[path = "renewals/process.rs"]
mod process;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use load::{Asked, Session};
use process::{Counts, Kept, Process, router, token};
use tokio::task::JoinSet;

const ROUNDS: usize = 7;
const TARGET: f64 = 0.7;
const TARGET_SYNCS: f64 = 0.2;
/// How many channels, and how often each renews in one round.
const CROWDS: [(usize, usize); 3] = [(1, 200), (64, 16), (1000, 2)];
/// Smaller crowds are new routers in each round: the record of a router that renews a hundred times within an hour is longer
/// than any in real life.
const KEPT_FROM: usize = 1000;
/// Routers that enroll at once.
const AT_ONCE: usize = 16;
/// A checkpoint syncs the log and the file.
const SYNCS_OF_CHECKPOINT: u64 = 2;

fn main() {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some(process::FLAG) {
        return process::be_controller(arguments);
    }
    let rounds: usize = std::env::var("EXUVIA_BENCH_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(ROUNDS);
    let base = std::env::var_os("EXUVIA_BENCH_DIR").map_or_else(|| env!("CARGO_TARGET_TMPDIR").into(), PathBuf::from);
    std::fs::create_dir_all(&base).unwrap();
    let folder = tempfile::tempdir_in(&base).unwrap();
    let crowds = CROWDS.iter().map(|(channels, _)| *channels);
    let routers = crowds.map(|channels| if channels < KEPT_FROM { channels * (rounds + 1) } else { channels }).sum();
    let mut durable = Contender::new(Process::start(folder.path(), Kept::Durable, routers));
    let mut in_memory = Contender::new(Process::start(folder.path(), Kept::InMemory, routers));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();

    println!("renewals of one controller over TLS control channels, proof included, medians of {rounds} rounds");
    println!(
        "  channels   durable/s   in memory/s   ratio   syncs per renewal   controller ms per renewal: durable, in memory"
    );
    let only = std::env::var("EXUVIA_BENCH_CHANNELS").ok().and_then(|text| text.parse::<usize>().ok());
    for (channels, each) in CROWDS.into_iter().filter(|(channels, _)| only.is_none_or(|only| only == *channels)) {
        let (mut rates, mut floor_rates, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        let (mut syncs, mut cpu, mut floor_cpu) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..=rounds {
            let run = |contender: &mut Contender| runtime.block_on(contender.round(channels, each));
            let (ours, floor) = if round % 2 == 0 {
                let ours = run(&mut durable);
                (ours, run(&mut in_memory))
            } else {
                let floor = run(&mut in_memory);
                (run(&mut durable), floor)
            };
            // The first one warms up.
            if round > 0 {
                rates.push(ours.per_s);
                floor_rates.push(floor.per_s);
                ratios.push(ours.per_s / floor.per_s);
                syncs.push(ours.syncs);
                cpu.push(ours.cpu_ms);
                floor_cpu.push(floor.cpu_ms);
            }
        }
        runtime.block_on(async {
            durable.rest().await;
            in_memory.rest().await;
        });
        let [rate, floor_rate, ratio, syncs, cpu, floor_cpu] =
            [rates, floor_rates, ratios, syncs, cpu, floor_cpu].map(|mut values| middle(&mut values));
        println!(
            "  {channels:8}   {rate:9.0}   {floor_rate:11.0}   {ratio:5.2}   {syncs:17.3}   {cpu:31.2}, {floor_cpu:.2}"
        );
        println!(
            "BENCH renewals channels={channels} durable_per_s={rate:.0} memory_per_s={floor_rate:.0} ratio={ratio:.3} syncs_per_renewal={syncs:.3} durable_cpu_ms={cpu:.3} memory_cpu_ms={floor_cpu:.3} rounds={rounds}"
        );
    }
    println!(
        "targets: ratio at least {TARGET} with 64 and 1000 channels, under {TARGET_SYNCS} syncs per renewal with 1000"
    );
}

/// Sorts, and picks.
fn middle(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// What one round came to.
struct Result {
    per_s: f64,
    syncs: f64,
    cpu_ms: f64,
}

struct Contender {
    process: Process,
    /// Routers that have not enrolled yet have this number or a higher one.
    enrolled: usize,
    /// Channels that are kept from round to round.
    open: Vec<Session>,
    repeated: u64,
}

impl Contender {
    fn new(process: Process) -> Self {
        Self { process, enrolled: 0, open: Vec::new(), repeated: 0 }
    }

    /// Every channel renews `each` times, as fast as it gets answers.
    async fn round(&mut self, channels: usize, each: usize) -> Result {
        let mut sessions = std::mem::take(&mut self.open);
        if sessions.is_empty() {
            sessions = self.open(channels).await;
        }
        let with_requests: Vec<_> = sessions
            .into_iter()
            .map(|session| {
                let asked: Vec<_> = (0..each).map(|_| Asked::new(&session.identity.id)).collect();
                (session, asked)
            })
            .collect();
        let before = self.process.counts();
        let start = Instant::now();
        let mut running = JoinSet::new();
        for (mut session, asked) in with_requests {
            let site = Arc::clone(&self.process.site);
            running.spawn(async move {
                for asked in asked {
                    session.renew(&site, asked).await;
                }
                session
            });
        }
        let sessions = running.join_all().await;
        let took_s = start.elapsed().as_secs_f64();
        let after = self.process.counts();
        let repeated: u64 = sessions.iter().map(|session| session.repeated).sum();
        if repeated > self.repeated {
            eprintln!("  {} requests were repeated in this round", repeated - self.repeated);
        }
        self.repeated = if channels < KEPT_FROM { 0 } else { repeated };
        if channels < KEPT_FROM {
            close(sessions).await;
        } else {
            self.open = sessions;
        }
        let renewals = (channels * each) as f64;
        let syncs = |counts: Counts| counts.commits + counts.checkpoints * SYNCS_OF_CHECKPOINT;
        Result {
            per_s: renewals / took_s,
            syncs: (syncs(after) - syncs(before)) as f64 / renewals,
            cpu_ms: (after.cpu_ms - before.cpu_ms) / renewals,
        }
    }

    /// Enrolls so many routers and connects them.
    async fn open(&mut self, channels: usize) -> Vec<Session> {
        let numbers = self.enrolled..self.enrolled + channels;
        self.enrolled = numbers.end;
        let mut opening = JoinSet::new();
        // A few at once: all that counts is to be done.
        for worker in 0..AT_ONCE {
            let (site, numbers) = (Arc::clone(&self.process.site), numbers.clone());
            opening.spawn(async move {
                let mut http = site.http().await;
                let mut sessions = Vec::new();
                for number in numbers.skip(worker).step_by(AT_ONCE) {
                    let identity = site.enroll(&mut http, router(number), &token(number)).await;
                    sessions.push(site.open(identity).await);
                }
                sessions
            });
        }
        opening.join_all().await.into_iter().flatten().collect()
    }

    async fn rest(&mut self) {
        close(std::mem::take(&mut self.open)).await;
    }
}

async fn close(sessions: Vec<Session>) {
    let mut closing = JoinSet::new();
    for session in sessions {
        closing.spawn(session.close());
    }
    closing.join_all().await;
}
