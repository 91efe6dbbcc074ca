//! Both machines and their stock peers, explored exhaustively.
//!
//! A [`Scope`] says who plays and what may go wrong how often. An [`Exploration`] takes every action in every state that can be reached
//! within it. The routers and controllers called ours are the machines of `lifecycle` themselves; around them is only what a shell does: a
//! disk that is written before anything is seen, a register with a group commit, a wire that loses, doubles, delays and reorders.
//!
//! Time is abstract: the clock stands at a few days that matter, and every wait of the router's policy is zero, so a time-out may fire at any
//! moment. What is bounded is how much goes wrong, not when.
#![forbid(unsafe_code)]

mod action;
mod claims;
mod defects;
mod explore;
mod layer;
mod mutants;
mod paper;
mod scope;
mod scopes;
mod seen;
mod state;
mod story;
mod turn;

pub use action::{Action, Fate};
pub use claims::{CLAIMS, Claim, Claims};
pub use defects::{DEFECTS, Defect, Mark, Marks};
pub use explore::{Exploration, Goal, Outcome, Tale};
pub use layer::layers;
pub use mutants::{MUTANTS, Mutant};
pub use paper::Paper;
pub use scope::{DAYS, Flow, LEAF_DAYS, Make, Mistake, Scope};
pub use scopes::{LONG, SHORT, STOCK, STOCK_LONG};
pub use seen::{Seen, Sight};
pub use state::*;
