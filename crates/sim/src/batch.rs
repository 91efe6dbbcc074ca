//! Many worlds at once. They know nothing of each other, so threads change nothing but the time it takes.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::plan::Plan;
use crate::run::{Report, run};

/// Runs these plans on so many threads; the reports come in the order of the plans.
pub fn run_all(plans: &[Plan], threads: usize) -> Vec<Report> {
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, Report)>> = Mutex::new(Vec::with_capacity(plans.len()));
    let work = || {
        while let Some((at, plan)) = take(&next, plans) {
            let report = run(plan.clone());
            done.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((at, report));
        }
    };
    match threads {
        0 | 1 => work(),
        _ => std::thread::scope(|scope| (0..threads.min(plans.len())).for_each(|_| drop(scope.spawn(work)))),
    }
    let mut done = done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, report)| report).collect()
}

fn take<'a>(next: &AtomicUsize, plans: &'a [Plan]) -> Option<(usize, &'a Plan)> {
    let at = next.fetch_add(1, Ordering::Relaxed);
    plans.get(at).map(|plan| (at, plan))
}
