//! Replays one seed: `cargo run -p sim --example world -- SEED ROUTERS DAYS [trace]`.
use std::time::Instant;

fn main() {
    let mut words = std::env::args().skip(1);
    let mut number = |otherwise: u64| words.next().and_then(|text| text.parse().ok()).unwrap_or(otherwise);
    let (seed, routers, days) = (number(1), number(0), number(30));
    let is_traced = std::env::args().nth(4).is_some();
    let began = Instant::now();
    let mut plan = sim::Plan::swarm(seed);
    if routers > 0 {
        plan.routers = usize::try_from(routers).unwrap_or(1);
    }
    let time = std::time::Duration::from_secs(days * 86_400);
    let mut say = |line: &str| println!("{line}");
    let report = sim::run_plan(plan, time, is_traced.then_some(&mut say));
    println!("{report}\n{:?}", report.counts);
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "{:.0} renewals/s, {:.0} events/s",
        report.counts.renewals as f64 / seconds,
        report.counts.events as f64 / seconds
    );
}
