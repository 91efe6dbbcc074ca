//! Every phase and every input, as a table that is reviewed like code. `UPDATE_TABLE=1 cargo test -p lifecycle` rewrites it.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use lifecycle::issuance::Window;
use lifecycle::manifest::ProjectionRecord;
use lifecycle::renewal::{
    Cause, DialOutcome, Effect, Failure, Input, PhaseName, ProofOutcome, Storage, StorageTrouble, VerifyAnswer,
};
use lifecycle::{Digest, UnixTime};

use crate::world::{Bench, LIFE_S, admitted, controller, issued, number, proved};

/// Name, how much later it comes, and the input itself.
fn inputs() -> Vec<(&'static str, Duration, Input)> {
    let none = Duration::ZERO;
    let window = Window { from: UnixTime::from_s(0), to: UnixTime::from_s(1) };
    let dialed = |n, outcome| Input::Dialed { controller: controller(), generation: number(n), outcome };
    let projection = ProjectionRecord { number: number(1), digest: Digest([9; 32]), foreign_rewrites: 0 };
    vec![
        ("Started", none, Input::Started { controllers: vec![controller()] }),
        ("Tick", none, Input::Tick),
        ("Tick, 31 s later", Duration::from_secs(31), Input::Tick),
        ("Tick, 11 min later", Duration::from_secs(660), Input::Tick),
        ("Tick, when due", Duration::from_secs(LIFE_S.unsigned_abs() * 8 / 10), Input::Tick),
        ("Tick, all expired", Duration::from_secs(LIFE_S.unsigned_abs() * 3), Input::Tick),
        ("Controllers(none)", none, Input::Controllers(vec![])),
        ("Dialed(1, admitted)", none, dialed(1, admitted())),
        ("Dialed(2, admitted)", none, dialed(2, admitted())),
        ("Dialed(1, refused)", none, dialed(1, DialOutcome::Refused)),
        ("Dialed(2, refused)", none, dialed(2, DialOutcome::Refused)),
        ("Dialed(1, unreachable)", none, dialed(1, DialOutcome::Unreachable)),
        ("ChannelClosed", none, Input::ChannelClosed { controller: controller() }),
        ("Proved(2, admitted)", none, proved(2, ProofOutcome::Admitted)),
        ("Proved(2, refused)", none, proved(2, ProofOutcome::Refused)),
        ("Proved(2, unreachable)", none, proved(2, ProofOutcome::Unreachable)),
        ("RenewAsked(operator)", none, Input::RenewAsked(Cause::Operator)),
        ("RenewAsked(start flag)", none, Input::RenewAsked(Cause::StartFlag)),
        ("WindowAdvised(past)", none, Input::WindowAdvised(window)),
        ("PrepareFailed(2, full)", none, Input::PrepareFailed { number: number(2), trouble: StorageTrouble::Full }),
        ("PrepareFailed(7, full)", none, Input::PrepareFailed { number: number(7), trouble: StorageTrouble::Full }),
        ("ManifestFailed", none, Input::ManifestFailed),
        ("Issued(2)", none, Input::Issued { number: number(2), issued: issued(2, LIFE_S * 7 / 10) }),
        ("Issued(2, ends too early)", none, Input::Issued { number: number(2), issued: issued(2, -LIFE_S / 2) }),
        ("Issued(7, stale)", none, Input::Issued { number: number(7), issued: issued(7, LIFE_S * 7 / 10) }),
        ("IssueFailed(2, refused)", none, failed(Failure::RefusedByController)),
        ("IssueFailed(2, unacceptable)", none, failed(Failure::Unacceptable)),
        ("VerifyAnswered(2, success)", none, verified(VerifyAnswer::Success)),
        ("VerifyAnswered(2, error)", none, verified(VerifyAnswer::Error)),
        ("Imported", none, Input::Imported(issued(8, LIFE_S / 2))),
        ("Projected", none, Input::Projected(projection)),
        ("StorageChanged(volatile)", none, Input::StorageChanged(Storage::Volatile)),
    ]
}

fn failed(failure: Failure) -> Input {
    Input::IssueFailed { number: number(2), failure }
}

fn verified(answer: VerifyAnswer) -> Input {
    Input::VerifyAnswered { controller: controller(), number: number(2), answer }
}

fn table() -> String {
    let mut text = String::from(
        "# What the router's machine does with every input in every phase: input, next phase, barrier, effects.\n\
         # Generation 1 is the old one, 2 the new one. Written by tests/renewal/table.rs, read in review.\n",
    );
    for phase in PhaseName::ALL {
        writeln!(text, "\n## {phase}").unwrap();
        for (name, wait, input) in inputs() {
            let mut bench = Bench::in_phase(phase);
            bench.later(wait).give(input);
            let next = bench.phase();
            let next = if next == phase { String::from("stays") } else { format!("-> {next}") };
            let effects: Vec<String> = bench.effects.iter().map(word).collect();
            let row = format!("{name:<30}{next:<14}{:<10}{}", bench.barrier.unwrap_or(""), effects.join(", "));
            writeln!(text, "{}", row.trim_end()).unwrap();
        }
    }
    text
}

fn word(effect: &Effect) -> String {
    match effect {
        Effect::Dial { generation, .. } => format!("dial with {}", generation.0),
        Effect::Replace { generation, .. } => format!("replace the channel with {}", generation.0),
        Effect::Prove { generation, .. } => format!("further underlay with {}", generation.0),
        Effect::Request { number, .. } => format!("send 20302 for {}", number.0),
        Effect::Verify { number, .. } => format!("send 20303 for {}", number.0),
        Effect::Publish(number) => format!("publish {}", number.0),
        Effect::Trim(number) => format!("trim underlays older than {}", number.0),
        Effect::Project(number) => format!("project {}", number.0),
        Effect::Erase(numbers) => format!("erase {:?}", numbers.iter().map(|n| n.0).collect::<Vec<_>>()),
        Effect::Report(event) => {
            let said = format!("{event:?}");
            let said = said.split([' ', '(']).next().unwrap_or_default();
            format!("report {said}")
        }
    }
}

#[test]
fn every_phase_and_every_input_is_in_the_reviewed_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/renewal_table.txt");
    let table = table();
    if std::env::var_os("UPDATE_TABLE").is_some() {
        std::fs::write(&path, &table).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == table,
        "the table differs; review it after `UPDATE_TABLE=1 cargo test -p lifecycle`:\n{table}"
    );
}
