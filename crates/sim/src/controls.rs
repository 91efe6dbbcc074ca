//! Worlds with one mistake in them, which have to be found, and the same worlds without it, in which nothing may be found.

use std::time::Duration;

use evidence::Control;

use crate::mutant::Mutant;
use crate::plan::{Fault, Make, Net, Plan};
use crate::run::{Report, run};

/// Seeds after which a mistake that was not found counts as a hole in the worlds.
pub const SEEDS_MAX: u64 = 40;

/// A small world in which this mistake can show: leaves of six hours for three days.
pub fn plan_for(mutant: Mutant, seed: u64) -> Plan {
    let (router_make, controller_make) = match mutant {
        Mutant::SingleFingerprint => (Make::Stock, Make::Exuvia),
        Mutant::ForgetOnLostAnswer | Mutant::EraseOnPromotion => (Make::Exuvia, Make::Stock),
        _ => (Make::Exuvia, Make::Exuvia),
    };
    let faults = match mutant {
        Mutant::NoFileSync | Mutant::NoFolderSync => vec![Fault::PowerCut, Fault::PowerCutInDiskOperation],
        Mutant::VerifyBeforeStage => vec![Fault::PowerCutInDiskOperation, Fault::DiskFull],
        Mutant::ForgetOnLostAnswer | Mutant::SingleFingerprint => vec![Fault::KillRouter, Fault::OneWay],
        Mutant::EraseOnPromotion => vec![Fault::Restore, Fault::KillRouter],
        Mutant::AnswerBeforeDurable => vec![Fault::FailCommit, Fault::KillController],
        Mutant::AnyLeafAnyName => vec![Fault::Impostor],
        Mutant::NoBackoff => vec![Fault::Disable],
        Mutant::ForeignFilesDisplace => vec![Fault::ForeignFiles],
    };
    let plan = small(seed, router_make, controller_make, faults);
    // Where every answer comes, nothing but its own patience slows a router down.
    let net = if mutant == Mutant::NoBackoff { Net::default() } else { plan.net };
    let projected_per_mille = if mutant == Mutant::ForeignFilesDisplace { 1000 } else { 0 };
    Plan { net, projected_per_mille, ..plan }
}

/// OpenZiti's router on OpenZiti's controller, as they are: known to lose identities.
pub fn plan_for_openziti(seed: u64) -> Plan {
    small(seed, Make::Stock, Make::Stock, vec![Fault::KillRouter, Fault::PowerCut, Fault::OneWay, Fault::Restore])
}

fn small(seed: u64, router_make: Make, controller_make: Make, faults: Vec<Fault>) -> Plan {
    let hour = Duration::from_secs(3600);
    Plan {
        routers: 4,
        controllers: 2,
        leaf_life: 6 * hour,
        time: 72 * hour,
        net: Net { loss_per_mille: 100, double_per_mille: 50, slow_per_mille: 100, slow_ms: 20_000 },
        lag_ms: 5_000,
        fault_every: 3 * hour,
        faults,
        ..Plan::calm(seed, router_make, controller_make)
    }
}

/// Was something found in this world?
fn is_found(report: &Report) -> bool {
    !report.is_ok() || (report.plan.router_make == Make::Stock && report.counts.losses > 0)
}

/// Runs worlds of consecutive seeds until one of them shows the mistake.
fn hunt(name: String, is_wrong: bool, first_seed: u64, plan_of: impl Fn(u64) -> Plan) -> Control {
    let mut states = 0;
    for seed in (0..SEEDS_MAX).map(|n| first_seed.wrapping_add(n)) {
        let report = run(plan_of(seed));
        states += 1;
        if is_found(&report) {
            let told = match &report.broken {
                Some(broken) => broken.to_string(),
                None => format!("{} identities lost in {} renewals", report.counts.losses, report.counts.renewals),
            };
            return Control { name, is_wrong, caught: 1, states, example: Some(format!("seed {seed}: {told}")) };
        }
    }
    Control { name, is_wrong, caught: 0, states, example: None }
}

/// Every mistake, OpenZiti with itself, and our own program in the same worlds.
pub fn controls(first_seed: u64) -> Vec<Control> {
    let mut controls: Vec<Control> = Mutant::ALL
        .iter()
        .map(|mutant| {
            let plan_of = |seed| Plan { mutant: Some(*mutant), ..plan_for(*mutant, seed) };
            hunt(format!("mutant {}", mutant.name()), true, first_seed, plan_of)
        })
        .collect();
    controls.push(hunt("openziti router, openziti controller".to_owned(), true, first_seed, plan_for_openziti));
    let kinds = Mutant::ALL.len() as u64;
    let unharmed = |seed: u64| {
        let kind = usize::try_from(seed % kinds).unwrap_or(0);
        plan_for(Mutant::ALL.get(kind).copied().unwrap_or(Mutant::NoFileSync), seed)
    };
    controls.push(hunt("exuvia in the worlds of the mutants".to_owned(), false, first_seed, unharmed));
    controls
}
