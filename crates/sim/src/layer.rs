//! The worlds as a layer of the proof.

use evidence::{Evidence, Lane, Layer, Plan as Run};

use crate::batch::run_all;
use crate::controls::controls;
use crate::plan::Plan;
use crate::run::{Counts, Report};
use crate::shrink::shrink;

/// Renewals of CI's share.
const RENEWALS: u64 = 1_000_000;
/// How many times that a long run takes.
const LONG: u64 = 20;
/// Routers of a fleet.
const ROUTERS: usize = 50;
/// Worlds between two looks at how far it is.
const BATCH: u64 = 24;
/// More broken worlds than this are not shrunk.
const BROKEN_MAX: usize = 3;

/// The layer of this crate.
pub fn layers() -> Vec<Layer> {
    vec![Layer {
        id: "worlds",
        title: "Seeded worlds: fleets, controllers, networks, clocks and disks in virtual time, safety and then liveness",
        lane: Lane::Computing,
        probe: Vec::new,
        run: run_layer,
    }]
}

/// The world of this seed: fleets of different lengths, so that leaves live from five minutes to sixty days, and among sixteen one small
/// world with many faults in each leaf life, of up to a year.
fn plan_of(seed: u64) -> Plan {
    match seed % 16 {
        0 => Plan::swarm(seed),
        1 => Plan::drawn(seed, ROUTERS, 120),
        2 | 3 => Plan::drawn(seed, ROUTERS, 30),
        4..=8 => Plan::drawn(seed, ROUTERS, 7),
        _ => Plan::drawn(seed, ROUTERS, 2),
    }
}

fn run_layer(run: &Run) -> Evidence {
    let goal = if run.is_long { RENEWALS * LONG } else { RENEWALS };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut evidence = Evidence { seed: Some(run.seed), ..Evidence::default() };
    let mut sums = Sums::default();
    let mut seed = run.seed;
    while sums.of_all.renewals < goal && evidence.failures.len() < BROKEN_MAX {
        let plans: Vec<Plan> = (0..BATCH).map(|n| plan_of(seed.wrapping_add(n))).collect();
        seed = seed.wrapping_add(BATCH);
        for report in run_all(&plans, threads) {
            sums.add(&report);
            if let Some(broken) = &report.broken {
                let small = shrink(&report.plan);
                let text = small.as_ref().map_or_else(|| report.plan.to_text(), |small| small.plan.to_text());
                evidence.failed(
                    format!("seed {}: {broken}", report.plan.seed),
                    format!("exuvia sim --replay FILE --trace, with FILE:\n{text}"),
                );
            }
        }
    }
    evidence.controls = controls(run.seed);
    sums.tell(&mut evidence);
    evidence.notes.push(format!(
        "Seeds {} to {}. Every sixteenth world is a small one with many faults in each leaf life; the others are fleets of {ROUTERS} routers for 2, 7, 30 or 120 virtual \
         days with leaves of five minutes to 60 days. A renewal is PREPARE, 20302, 20301, STAGE, 20303, 20002, a proof in a handshake and PROMOTE through the real machines of \
         both sides, the router's over the real identity store on a simulated disk; certificates are made up, and frames are plain values. After the \
         faults every router that has an identity has to renew once more within one leaf life and to end connected with everybody. In half of the worlds of our routers some copy their identity \
         to the paths that an OpenZiti router reads, and others write there: what they were once given, torn files, identities of strangers, one that no \
         controller knows, and one from a new enrollment.",
        run.seed,
        seed.wrapping_sub(1)
    ));
    evidence.leave_out(
        "clocks of controllers that are wrong by more than seconds, disks that lie about flush or go back in time",
        "outside of what is promised (P1)",
    );
    evidence
}

#[derive(Default)]
struct Sums {
    of_all: Counts,
    worlds: u64,
    virtual_days: u64,
    router_days: u64,
    /// By pairing: renewals and worlds.
    pairings: std::collections::BTreeMap<String, (u64, u64)>,
    without_groups: u64,
}

impl Sums {
    fn add(&mut self, report: &Report) {
        let days = report.virtual_ms / 86_400_000;
        self.of_all.add(&report.counts);
        self.worlds += 1;
        self.virtual_days += days;
        self.router_days += days * report.plan.routers as u64;
        let name = format!("{} routers on {} controllers", report.plan.router_make, report.plan.controller_make);
        let sum = self.pairings.entry(name).or_default();
        sum.0 += report.counts.renewals;
        sum.1 += 1;
        self.without_groups += if report.plan.are_grouped { 0 } else { report.counts.renewals };
    }

    fn tell(&self, evidence: &mut Evidence) {
        let counts = &self.of_all;
        evidence.tried("renewals in seeded worlds", counts.renewals);
        for (name, (renewals, worlds)) in &self.pairings {
            evidence.tried(format!("of these, renewals of {name}, in {worlds} worlds"), *renewals);
        }
        evidence.tried("of these, renewals on controllers without grouped channels", self.without_groups);
        evidence.tried("worlds", self.worlds);
        evidence.tried("virtual router-days", self.router_days);
        evidence.tried("faults that struck", counts.faults);
        evidence.tried("messages", counts.messages);
        evidence.tried("messages lost", counts.lost_messages);
        evidence.tried("handshakes", counts.handshakes);
        evidence.tried("barriers that the disk failed", counts.failed_barriers);
        evidence.tried("crashes inside a disk operation", counts.cuts_in_disk_operations);
        evidence.tried("checks of P1", counts.checks);
        evidence.tried("hellos under a borrowed name", counts.impostors);
        evidence.tried("copies to the configured paths", counts.projections);
        evidence.tried("times that somebody else wrote to the configured paths", counts.foreign_files);
        evidence.tried("foreign identities taken in from there as candidates", counts.imports);
        evidence
            .tried("routers that a person had to enroll anew because every leaf was over or forgotten", counts.rescues);
        let own = counts.own_losses;
        evidence.cell(
            "exuvia",
            "seeded worlds: everything of the list",
            evidence.failures.len() as u64,
            counts.renewals,
        );
        evidence.cell(
            "openziti router, exuvia controller",
            "seeded worlds: power cut during its own in-place file write",
            own,
            counts.renewals,
        );
    }
}
