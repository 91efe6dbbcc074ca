//! Schedulers that the stories must judge rightly, in simulated time: OpenZiti's one timer, and one that looks again.
//!
//! Only when a renewal begins is modelled: source `openziti/ziti:router/state/certchecker.go`, functions `getWaitTime` and `Run`.

use std::time::Duration;

use evidence::{Control, Evidence};
use lifecycle::policy::Policy;

const MINUTE: i64 = 60;
const DAY: i64 = 86_400;
/// The leaf is good from 0 to here, by clocks that are right.
const LIFE: i64 = 365 * DAY;
/// OpenZiti renews so long before the end; both schedulers do here.
const BEFORE: i64 = 7 * DAY;

/// What a router's clocks say at a moment.
struct Clocks {
    /// Seconds since the machine was started, without the time that it slept.
    awake: i64,
    /// What the wall clock says, in seconds since the leaf was issued.
    wall: i64,
    is_asleep: bool,
}

/// The router's clocks at every right time.
struct Story {
    name: &'static str,
    clocks: fn(i64) -> Clocks,
}

fn awake_at(right: i64) -> Clocks {
    Clocks { awake: right, wall: right, is_asleep: false }
}

const STORIES: [Story; 4] = [
    Story { name: "a right clock", clocks: awake_at },
    Story {
        name: "started in 1970, set right after five minutes",
        clocks: |right| Clocks {
            wall: if right < 5 * MINUTE { right - 55 * 365 * DAY } else { right },
            ..awake_at(right)
        },
    },
    Story {
        name: "started a year ahead, set right after five minutes",
        clocks: |right| Clocks { wall: if right < 5 * MINUTE { right + LIFE } else { right }, ..awake_at(right) },
    },
    Story {
        name: "8 days of suspend",
        clocks: |right| {
            let (from, to) = (100 * DAY, 108 * DAY);
            Clocks {
                awake: if right < from { right } else { right.max(to) - 8 * DAY },
                wall: right,
                is_asleep: (from..to).contains(&right),
            }
        },
    },
];

/// When it begins to renew, in right time; `None` if it does not while the leaf is good.
fn openziti(clocks: fn(i64) -> Clocks) -> Option<i64> {
    let start = clocks(0);
    if start.wall >= LIFE {
        // An expired leaf ends the loop for good.
        return None;
    }
    // One timer, computed once, on the clock that stops while the machine sleeps.
    let fires = start.awake + (LIFE - BEFORE - start.wall).max(0);
    (0..LIFE).step_by(60).find(|right| !clocks(*right).is_asleep && clocks(*right).awake >= fires)
}

/// Looks again as often as our policy says.
fn looking_again(clocks: fn(i64) -> Clocks) -> Option<i64> {
    let every = Policy::default().reevaluate_for(Duration::from_secs(LIFE.unsigned_abs()));
    let every = usize::try_from(every.as_secs()).unwrap_or(60).max(1);
    // By a clock that is ahead it is due at once, and again once the clock is right; what counts is that it is not missed.
    (0..LIFE).step_by(every).find(|right| {
        let now = clocks(*right);
        !now.is_asleep && now.wall >= LIFE - BEFORE
    })
}

pub(super) fn run(evidence: &mut Evidence) {
    type Scheduler = fn(fn(i64) -> Clocks) -> Option<i64>;
    let all: [(&str, bool, Scheduler); 2] = [
        ("openziti 2.1's one timer (model of its scheduler, simulated time)", true, openziti),
        ("a scheduler that looks again every minute (model, simulated time)", false, looking_again),
    ];
    for (name, is_wrong, scheduler) in all {
        let missed: Vec<&str> =
            STORIES.iter().filter(|story| scheduler(story.clocks).is_none()).map(|story| story.name).collect();
        evidence.controls.push(Control {
            name: name.to_owned(),
            is_wrong,
            caught: missed.len() as u64,
            states: STORIES.len() as u64,
            example: missed.first().map(|story| format!("{story}: no renewal begins while the leaf is good")),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_timer_is_right_only_where_clocks_are() {
        let begins: Vec<bool> = STORIES.iter().map(|story| openziti(story.clocks).is_some()).collect();
        assert_eq!(begins, [true, false, false, false]);
    }

    #[test]
    fn looking_again_misses_nothing() {
        assert!(STORIES.iter().all(|story| looking_again(story.clocks).is_some()));
    }
}
