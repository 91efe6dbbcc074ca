//! Every state within the bounds, depth first, with eight bytes kept of each: what is met is remembered by a hash of 64 bits, and only the way
//! to where the search stands is kept whole. With a hundred million states, two of them share a hash with a probability of one in four thousand.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, DefaultHasher, Hash as _, Hasher};
use std::sync::Arc;

use stateright::Model;

use super::{Exploration, Outcome};
use crate::action::Action;
use crate::claims::{CLAIMS, Claim};
use crate::state::State;
use crate::turn::first_state;

/// The same in every run: its keys are fixed.
fn hash(state: &State) -> u64 {
    let mut hasher = DefaultHasher::new();
    state.hash(&mut hasher);
    hasher.finish()
}

/// A hash is as good a hash as any.
#[derive(Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0 << 8 | u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

type Met = HashSet<u64, BuildHasherDefault<AsItIs>>;

/// A state on the way to where the search stands, and the actions that are still to be taken from it.
struct Standing {
    state: State,
    /// What led to it.
    by: Option<Action>,
    rest: Vec<Action>,
}

impl Exploration {
    /// Meets every state, or as many as this.
    pub fn walk(self, most: u64) -> Outcome {
        let (scope, seen) = (self.scope, Arc::clone(&self.seen));
        let retold = self.clone();
        let mut met = Met::default();
        let mut broken: Vec<(Claim, super::Tale)> = Vec::new();
        let (mut steps, mut depth) = (1, 1);
        let mut way: Vec<Standing> = Vec::new();
        let first = first_state(&scope);
        met.insert(hash(&first));
        way.push(self.stand(first, None));
        while let Some(here) = way.last_mut() {
            let Some(action) = here.rest.pop() else {
                way.pop();
                continue;
            };
            let Some(next) = self.act(&here.state, action) else { continue };
            steps += 1;
            if !met.insert(hash(&next)) {
                continue;
            }
            let news = CLAIMS
                .iter()
                .filter(|claim| broken.iter().all(|(known, _)| known != *claim) && !next.holds(&scope, **claim));
            let news: Vec<Claim> = news.copied().collect();
            way.push(self.stand(next, Some(action)));
            depth = depth.max(way.len());
            for claim in news {
                broken.push((claim, retold.tell(told(&way))));
            }
            if met.len() as u64 >= most || broken.len() == CLAIMS.len() {
                break;
            }
        }
        let is_whole = way.is_empty();
        let (unique, depth) = (met.len() as u64, depth as u64);
        Outcome { scope, unique, steps, depth, seen, broken, found: None, is_whole }
    }

    fn stand(&self, state: State, by: Option<Action>) -> Standing {
        let mut rest = Vec::new();
        self.actions(&state, &mut rest);
        Standing { state, by, rest }
    }
}

/// The way as `stateright` tells one: each state with the action that leads on from it.
fn told(way: &[Standing]) -> Vec<(State, Option<Action>)> {
    let onward = way.iter().skip(1).map(|standing| standing.by).chain([None]);
    way.iter().map(|standing| standing.state.clone()).zip(onward).collect()
}
