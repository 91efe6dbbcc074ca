//! From a world in which something broke to the smallest one in which the same still breaks.

use std::time::Duration;

use crate::claims::{Broken, Claim};
use crate::plan::{Net, Plan, Strike, Target};
use crate::run::run_world;

/// A plan that still breaks the same promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shrunk {
    /// With listed faults, unless the first step lost the break already.
    pub plan: Plan,
    /// What it breaks.
    pub broken: Broken,
    /// How many worlds were run for it.
    pub runs: u32,
}

/// Most worlds that are run for one shrinking.
const RUNS_MAX: u32 = 400;

/// Drops routers, controllers, faults, bad wires and days as long as the same claim still breaks. `None` when the plan breaks nothing.
pub fn shrink(plan: &Plan) -> Option<Shrunk> {
    let world = run_world(plan.clone(), &mut None);
    let broken = world.broken()?.clone();
    let mut search = Search { claim: broken.claim, best: plan.clone(), broken: broken.clone(), runs: 1 };
    let listed = Plan {
        strikes: Some(world.struck().to_vec()),
        faults: Vec::new(),
        fault_every: Duration::ZERO,
        time: plan.time.min(Duration::from_millis(broken.at_ms + 1)),
        ..plan.clone()
    };
    // A promise that broke after the healing needs all of the time before it.
    let _ = search.takes(listed.clone()) || search.takes(Plan { time: plan.time, ..listed });
    search.drop_routers();
    search.drop_scenery();
    search.drop_strikes();
    search.drop_time();
    Some(Shrunk { plan: search.best, broken: search.broken, runs: search.runs })
}

struct Search {
    claim: Claim,
    best: Plan,
    broken: Broken,
    runs: u32,
}

impl Search {
    /// Does the same claim break in this plan too? Then it is the best one so far.
    fn takes(&mut self, plan: Plan) -> bool {
        if self.runs >= RUNS_MAX || plan == self.best {
            return false;
        }
        self.runs += 1;
        let world = run_world(plan, &mut None);
        match world.broken() {
            Some(broken) if broken.claim == self.claim => {
                self.broken = broken.clone();
                self.best = world.plan().clone();
                true
            }
            _ => false,
        }
    }

    fn drop_routers(&mut self) {
        let number = self.best.first_router + self.broken.router as u64;
        let of_it = |strike: &Strike| strike.target == Target::Router(number) || strike.target == Target::Controllers;
        let strikes = self.best.strikes.as_ref().map(|all| all.iter().copied().filter(of_it).collect());
        let _ = self.takes(Plan { first_router: number, routers: 1, strikes, ..self.best.clone() })
            // An impostor needs a victim.
            || self.takes(Plan { routers: 2, ..self.best.clone() });
    }

    fn drop_scenery(&mut self) {
        let net = self.best.net;
        let _ = self.takes(Plan { controllers: 1, ..self.best.clone() });
        let _ = self.takes(Plan { net: Net::default(), ..self.best.clone() }) || {
            let _ = self.takes(Plan { net: Net { loss_per_mille: 0, ..net }, ..self.best.clone() });
            let net = self.best.net;
            let _ = self.takes(Plan { net: Net { double_per_mille: 0, ..net }, ..self.best.clone() });
            let net = self.best.net;
            self.takes(Plan { net: Net { slow_per_mille: 0, ..net }, ..self.best.clone() })
        };
        let _ = self.takes(Plan { lag_ms: 0, ..self.best.clone() });
        let _ = self.takes(Plan { are_grouped: true, ..self.best.clone() });
    }

    /// Halves, then quarters, down to single faults.
    fn drop_strikes(&mut self) {
        let Some(count) = self.best.strikes.as_ref().map(Vec::len) else { return };
        let mut size = count.div_ceil(2);
        while size > 0 {
            let mut at = 0;
            while let Some(all) = self.best.strikes.clone().filter(|all| at < all.len()) {
                let rest =
                    all.iter().enumerate().filter(|(n, _)| *n < at || *n >= at + size).map(|(_, s)| *s).collect();
                if !self.takes(Plan { strikes: Some(rest), ..self.best.clone() }) {
                    at += size;
                }
            }
            size = if size == 1 { 0 } else { size.div_ceil(2) };
        }
    }

    fn drop_time(&mut self) {
        let last_ms = self.best.strikes.as_ref().and_then(|all| all.last()).map_or(1, |strike| strike.at_ms + 1);
        let whole_hours = last_ms.div_ceil(3_600_000) * 3_600_000;
        let _ = self.takes(Plan { time: self.best.time.min(Duration::from_millis(whole_hours)), ..self.best.clone() });
    }
}
