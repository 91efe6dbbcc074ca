//! Plans that a seed draws, and the stream of faults that follows from one.

use std::time::Duration;

use super::{DAY, Fault, Make, Net, Plan, Strike, Target};
use crate::Dice;

/// The shortest life that a seed draws for a leaf.
const LIFE_MIN: Duration = Duration::from_secs(300);

impl Plan {
    /// A fleet of so many routers for so many days, everything else drawn: the makes, how many leaf lives fit into that time (2 to 60, but no
    /// leaf lives less than five minutes), which faults exist and how often they strike.
    pub fn drawn(seed: u64, routers: usize, days: u64) -> Self {
        let mut dice = Dice::new(seed ^ 0xf1ee7);
        let time = DAY.saturating_mul(u32::try_from(days).unwrap_or(u32::MAX));
        let is_storm = dice.chance(100);
        let lives = if is_storm { dice.between(2, 6) } else { 2 + dice.below(8) * dice.below(9) };
        let leaf_life = (time / pick(lives)).clamp(LIFE_MIN, 365 * DAY);
        // From thirty faults in a leaf life down to one in three.
        let fault_every =
            if is_storm { leaf_life / pick(dice.between(6, 30)) } else { leaf_life / 10 * pick(dice.between(10, 30)) };
        let (leaf_life, fault_every) = (in_seconds(leaf_life), in_seconds(fault_every));
        Self { routers, leaf_life, time, fault_every, ..Self::scenery(seed, &mut dice) }
    }

    /// A small world in which a fault strikes many times in each leaf life: three lives, one to three routers.
    pub fn swarm(seed: u64) -> Self {
        let mut dice = Dice::new(seed ^ 0x5eed);
        let leaf_life = match dice.below(6) {
            0 => Duration::from_secs(600),
            1 => Duration::from_secs(3600),
            2 => DAY / 2,
            3 => 7 * DAY,
            4 => 90 * DAY,
            _ => 365 * DAY,
        };
        let fault_every = in_seconds(leaf_life / pick(dice.between(2, 100)));
        let routers = usize::try_from(dice.between(1, 3)).unwrap_or(1);
        Self { routers, leaf_life, time: leaf_life * 3, fault_every, ..Self::scenery(seed, &mut dice) }
    }

    /// Makes, wires and kinds of faults.
    fn scenery(seed: u64, dice: &mut Dice) -> Self {
        let (router_make, controller_make) = match dice.below(10) {
            0..=4 => (Make::Exuvia, Make::Exuvia),
            5..=7 => (Make::Exuvia, Make::Stock),
            _ => (Make::Stock, Make::Exuvia),
        };
        let calm = Self::calm(seed, router_make, controller_make);
        let are_grouped = controller_make == Make::Exuvia || router_make == Make::Stock || dice.chance(600);
        let drawn = Fault::ALL.iter().copied().filter(|fault| *fault != Fault::ForeignFiles);
        let mut faults: Vec<Fault> = drawn.filter(|fault| dice.chance(450) && calm.allows(*fault)).collect();
        if faults.is_empty() {
            faults.push(Fault::PowerCut);
        }
        // Dice of their own: without copies a seed makes the same world as before there were any.
        let mut files = Dice::new(seed ^ 0xc0b1ed);
        let is_ours = router_make == Make::Exuvia;
        let projected_per_mille = if is_ours && files.chance(500) { pick0(files.between(100, 1000)) } else { 0 };
        if projected_per_mille > 0 && files.chance(700) {
            faults.push(Fault::ForeignFiles);
        }
        let mut some = |per_mille: u32, most: u64| if dice.chance(per_mille) { dice.between(1, most) } else { 0 };
        let net = Net {
            loss_per_mille: pick0(some(500, 200)),
            double_per_mille: pick0(some(500, 200)),
            slow_per_mille: pick0(some(500, 200)),
            slow_ms: some(1000, 40_000),
        };
        let lag_ms = some(500, 30_000);
        let controllers = usize::try_from(dice.between(1, 3)).unwrap_or(1);
        Self { controllers, are_grouped, net, lag_ms, projected_per_mille, faults, ..calm }
    }

    /// How long a fault lasts at most: short of what would let every leaf expire.
    fn lasts_most_ms(&self) -> u64 {
        u64::try_from(self.leaf_life.as_millis() / 20).unwrap_or(u64::MAX)
    }
}

/// Plans are told in whole units.
fn in_seconds(time: Duration) -> Duration {
    Duration::from_secs(time.as_secs().max(1))
}

fn pick0(n: u64) -> u32 {
    u32::try_from(n).unwrap_or(0)
}

fn pick(n: u64) -> u32 {
    pick0(n).max(1)
}

/// The faults of one target, one after the other, as the seed draws them.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    target: Target,
    dice: Dice,
    faults: Vec<Fault>,
    mean_ms: u64,
    lasts_most_ms: u64,
    at_ms: u64,
}

impl Stream {
    /// One for each target that anything can strike.
    pub(crate) fn all(plan: &Plan) -> Vec<Self> {
        let mean_ms = u64::try_from(plan.fault_every.as_millis()).unwrap_or(u64::MAX);
        let routers = (0..plan.routers as u64).map(|router| Target::Router(plan.first_router + router));
        let targets = std::iter::once(Target::Controllers).chain(routers);
        let stream = |target| {
            let is_of_controllers = target == Target::Controllers;
            let salt = if let Target::Router(number) = target { number + 1 } else { 0 };
            let mut dice = Dice::new(plan.seed ^ 0x57f1_ce00);
            let dice = Dice::new(dice.roll() ^ Dice::new(salt).roll());
            let faults: Vec<Fault> =
                plan.faults.iter().copied().filter(|fault| fault.is_of_controllers() == is_of_controllers).collect();
            Self { target, dice, faults, mean_ms, lasts_most_ms: plan.lasts_most_ms(), at_ms: 0 }
        };
        targets.map(stream).filter(|stream: &Self| mean_ms > 0 && !stream.faults.is_empty()).collect()
    }
}

impl Iterator for Stream {
    type Item = Strike;

    fn next(&mut self) -> Option<Strike> {
        let dice = &mut self.dice;
        self.at_ms = self.at_ms.saturating_add(dice.between(1, self.mean_ms.saturating_mul(2).max(1)));
        let fault = *self.faults.get(dice.pick(self.faults.len()))?;
        let short = dice.chance(500);
        let most = if short { self.lasts_most_ms.min(90_000) } else { self.lasts_most_ms };
        let lasts_ms = dice.between(1, most.max(1));
        Some(Strike { at_ms: self.at_ms, target: self.target, fault, lasts_ms, luck: dice.roll() })
    }
}
