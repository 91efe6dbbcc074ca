//! `exuvia sim`: seeded worlds in virtual time.

use std::io::{IsTerminal as _, stderr};
use std::num::NonZeroUsize;
use std::time::Instant;

use anyhow::Context as _;
use sim::{Counts, Plan, Report};

use crate::args::Sim;
use crate::exit::{Exit, Failure};
use crate::output::Printer;

/// Worlds between two looks at how far it is, for each thread.
const BATCH: u64 = 8;

/// `exuvia sim`. Blocks.
pub fn run(printer: Printer, args: &Sim) -> Result<(), Failure> {
    if let Some(file) = &args.replay {
        let plan = std::fs::read_to_string(file)
            .with_context(|| format!("cannot read `{}`", file.display()))
            .and_then(|text| text.parse::<Plan>().with_context(|| format!("`{}` is no plan", file.display())))
            .map_err(|error| Failure::new(Exit::Input, error).hint("a plan is what `exuvia sim --plan` prints"))?;
        return alone(printer, args, plan);
    }
    let first = match args.seed {
        Some(seed) => seed,
        None => {
            let mut bytes = [0; 8];
            aws_lc_rs::rand::fill(&mut bytes)
                .map_err(|_| Failure::because(Exit::Failed, "this machine has no randomness"))?;
            // Short enough to be typed.
            u64::from_le_bytes(bytes) >> 32
        }
    };
    let (routers, days) = (usize::from(args.routers), u64::from(args.days));
    // Said before the first tick, so that even a world that hangs can be run again.
    printer.note(&format!("exuvia sim --seed {first} --seeds {} --routers {routers} --days {days}", args.seeds));
    let plan_of = |nth: u64| Plan::drawn(first.wrapping_add(nth), routers, days);
    if args.plan {
        return printer.data(&plan_of(0).to_text());
    }
    if args.seeds == 1 {
        return alone(printer, args, plan_of(0));
    }
    many(printer, args, plan_of)
}

/// One world, told if asked for.
fn alone(printer: Printer, args: &Sim, plan: Plan) -> Result<(), Failure> {
    let report = match args.trace {
        true => sim::run_traced(plan, |line| printer.note(line)),
        false => sim::run(plan),
    };
    tell(printer, args, &report)?;
    if report.is_ok() { Ok(()) } else { Err(broken(printer, &report)) }
}

/// One world after the other on every processor, until one breaks a promise.
fn many(printer: Printer, args: &Sim, plan_of: impl Fn(u64) -> Plan) -> Result<(), Failure> {
    let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let began = Instant::now();
    let (mut sum, mut worlds, mut virtual_ms) = (Counts::default(), 0_u64, 0_u64);
    while worlds < args.seeds {
        let until = args.seeds.min(worlds + BATCH * threads as u64);
        let plans: Vec<Plan> = (worlds..until).map(&plan_of).collect();
        for report in sim::run_all(&plans, threads) {
            sum.add(&report.counts);
            virtual_ms = virtual_ms.saturating_add(report.virtual_ms);
            if args.json {
                tell(printer, args, &report)?;
            }
            if !report.is_ok() {
                if !args.json {
                    tell(printer, args, &report)?;
                }
                return Err(broken(printer, &report));
            }
        }
        worlds = until;
        if stderr().is_terminal() {
            let seconds = began.elapsed().as_secs_f64().max(0.001);
            printer.ask(&format!(
                "\r\x1b[K{worlds} of {} worlds, {} renewals, {:.0} a second",
                args.seeds,
                sum.renewals,
                sum.renewals as f64 / seconds
            ));
        }
    }
    if stderr().is_terminal() {
        printer.note("");
    }
    if args.json { Ok(()) } else { printer.data(&table(worlds, virtual_ms / 86_400_000, &sum)) }
}

fn tell(printer: Printer, args: &Sim, report: &Report) -> Result<(), Failure> {
    if !args.json {
        let days = report.virtual_ms / 86_400_000;
        return printer.data(&format!("{}\n{}", report.plan, table(1, days, &report.counts)));
    }
    let counts = &report.counts;
    printer.json_line(&serde_json::json!({
        "seed": report.plan.seed,
        "is_ok": report.is_ok(),
        "broken": report.broken.as_ref().map(ToString::to_string),
        "plan": report.plan.to_text(),
        "virtual_ms": report.virtual_ms,
        "renewals": counts.renewals,
        "failed_rounds": counts.failed_rounds,
        "faults": counts.faults,
        "messages": counts.messages,
        "lost_messages": counts.lost_messages,
        "handshakes": counts.handshakes,
        "failed_barriers": counts.failed_barriers,
        "checks": counts.checks,
        "impostors": counts.impostors,
        "rescues": counts.rescues,
        "losses": counts.losses,
    }))
}

fn table(worlds: u64, virtual_days: u64, counts: &Counts) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    let rows = [
        ("worlds", worlds),
        ("virtual days", virtual_days),
        ("renewals", counts.renewals),
        ("failed rounds", counts.failed_rounds),
        ("faults", counts.faults),
        ("messages", counts.messages),
        ("messages lost", counts.lost_messages),
        ("handshakes", counts.handshakes),
        ("barriers that the disk failed", counts.failed_barriers),
        ("checks that no router is without", counts.checks),
        ("hellos under a borrowed name", counts.impostors),
        ("routers that needed a person", counts.rescues),
        ("identities lost", counts.losses),
    ];
    for (name, count) in rows {
        table.add_row([name.to_owned(), count.to_string()]);
    }
    table.trim_fmt()
}

/// Says what broke, shrinks it, and writes the plan where it can be replayed from.
fn broken(printer: Printer, report: &Report) -> Failure {
    let seed = report.plan.seed;
    let Some(broken) = &report.broken else { return Failure::silent(Exit::Failed) };
    printer.note(&broken.to_string());
    printer.note("looking for the smallest world that still breaks this");
    let plan = sim::shrink(&report.plan).map_or_else(|| report.plan.clone(), |small| small.plan);
    let text = format!("# {broken}\n{}", plan.to_text());
    let file = format!("exuvia-sim-{seed}.plan");
    let failure = Failure::because(Exit::Failed, format!("seed {seed} broke a promise: {broken}"));
    match std::fs::write(&file, &text) {
        Ok(()) => failure.hint(format!(
            "see it happen: exuvia sim --replay {file} --trace; to keep it, put the file into fixtures/seeds/ and say in its first line what broke"
        )),
        Err(error) => {
            printer.note(&text);
            failure.hint(format!("`{file}` cannot be written ({error}); the plan stands above: exuvia sim --replay FILE --trace"))
        }
    }
}
