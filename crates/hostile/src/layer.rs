//! The layer `fuzz` of the proof.

use std::fmt::Write as _;
use std::time::Duration;

use evidence::{Control, Evidence, Lane, Layer, Plan, Skip};

use crate::check::{Breach, Caps, Spent, Target};
use crate::corpus::corpus;
use crate::mutate::{Dice, mutate};
use crate::seeds::giants;
use crate::{TARGETS, outside};

/// Mutations of one target. A number and not a time: the same seed tries the same inputs on every machine, or on a slow one the first of them.
const EACH: u32 = 60_000;
/// Most processor time for the mutations of one target.
const EACH_MOST: Duration = Duration::from_millis(1_500);
/// Mutations until a control is found out.
const CONTROL: u32 = 100_000;
/// Longest input of a control, in bytes.
const CONTROL_LONGEST: usize = 16 * 1024;
/// Longest input that mutations make, in bytes: more only makes them slower.
const LONGEST: usize = 8 * 1024;
/// A target that breaks more often than this is told about no further.
const FAILURES_MAX: usize = 3;

/// The layers of this crate.
pub fn layers() -> Vec<Layer> {
    vec![Layer {
        id: "fuzz",
        title: "Hostile bytes at every door: the corpus, and mutations of it",
        lane: Lane::Computing,
        probe,
        run,
    }]
}

fn probe() -> Vec<Skip> {
    let missing = TARGETS.iter().filter(|target| corpus(target.name).is_ok_and(|files| !files.is_empty())).count();
    if missing == TARGETS.len() {
        return Vec::new();
    }
    vec![Skip {
        what: "replaying the corpus".to_owned(),
        why: "the folder `fuzz/corpus` is not where this program was built; run it in a checkout".to_owned(),
    }]
}

fn run(plan: &Plan) -> Evidence {
    let mut evidence = Evidence { seed: Some(plan.seed), ..Evidence::default() };
    let (mut replayed, mut longest, mut mutated, mut worst) = (0, 0, 0, String::new());
    for (number, target) in (0_u64..).zip(TARGETS) {
        target.warm();
        // Of its own, so that what one door is given does not depend on how far another one came.
        let mut dice = Dice::new(plan.seed.wrapping_mul(1_000).wrapping_add(number));
        let inputs: Vec<Vec<u8>> = corpus(target.name).unwrap_or_default().into_iter().map(|(_, data)| data).collect();
        let mut tally = Tally::default();
        for input in &inputs {
            tally.feed(target, input);
        }
        replayed += tally.fed;
        for giant in giants(target, usize::MAX) {
            tally.feed(target, &giant);
            longest += 1;
        }
        let pool = if inputs.is_empty() { crate::seeds::seeds(target.name) } else { inputs };
        let from_corpus = tally.fed;
        tally.mutations(target, &pool, &mut dice, EACH.saturating_mul(if plan.is_long { 20 } else { 1 }));
        mutated += tally.fed - from_corpus;
        let _ = write!(
            worst,
            "\n| `{}` | {} | {from_corpus} | {} | {} | {:.1} |",
            target.name,
            target.door,
            tally.fed - from_corpus,
            tally.most.memory_bytes.div_ceil(1024),
            tally.most.time.as_secs_f64() * 1000.0
        );
        for (input, breach) in tally.breaches {
            evidence
                .failed(format!("`{}` on {} bytes: {breach}", target.name, input.len()), replay(target.name, &input));
        }
    }
    evidence.tried("inputs of the corpus", replayed);
    evidence.tried("inputs as long as the door takes", longest);
    evidence.tried("mutated inputs", mutated);
    evidence.notes.push(format!(
        "| door | what comes in | corpus | mutated | most memory, KiB | longest, ms |\n|---|---|---|---|---|---|{worst}"
    ));
    let mut dice = Dice::new(plan.seed);
    for control in CONTROLS {
        evidence.controls.push(judge(control, &mut dice));
    }
    if plan.is_long {
        outside::run(&plan.scratch, &mut evidence);
    }
    outside::tell(&mut evidence);
    evidence
}

/// How to see it again.
fn replay(target: &str, input: &[u8]) -> String {
    let hex = input.iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    format!(
        "echo {hex} | xxd -r -p > fuzz/corpus/{target}/found && cargo test --release -p hostile --test corpus {target}"
    )
}

#[derive(Default)]
struct Tally {
    fed: u64,
    most: Spent,
    breaches: Vec<(Vec<u8>, Breach)>,
}

impl Tally {
    /// Answers the processor time that it took.
    fn feed(&mut self, target: &Target, input: &[u8]) -> Duration {
        self.fed += 1;
        match target.feed(input) {
            Ok(spent) => {
                self.most.memory_bytes = self.most.memory_bytes.max(spent.memory_bytes);
                self.most.time = self.most.time.max(spent.time);
                spent.time
            }
            Err(breach) => {
                if self.breaches.len() < FAILURES_MAX {
                    self.breaches.push((input.to_vec(), breach));
                }
                Duration::ZERO
            }
        }
    }

    /// Changes inputs, so many times.
    fn mutations(&mut self, target: &Target, pool: &[Vec<u8>], dice: &mut Dice, times: u32) {
        let longest = LONGEST.min(target.caps.input_bytes);
        let (most, mut spent) = (EACH_MOST * times.div_ceil(EACH), Duration::ZERO);
        for _ in 0..times {
            if spent > most || self.breaches.len() >= FAILURES_MAX {
                break;
            }
            let mut input = dice.pick(pool).cloned().unwrap_or_default();
            mutate(dice, &mut input, pool, target.words, longest);
            spent += self.feed(target, &input);
        }
    }
}

/// Its name, whether it is wrong, and itself.
type Reader = (&'static str, bool, fn(&[u8]));

/// Readers of a small format (a length of four bytes, then that much text), three of them wrong as real ones have been.
const CONTROLS: &[Reader] = &[
    ("a reader that checks every length", false, careful),
    ("a reader that believes a length when it slices", true, trusting),
    ("a reader that reserves what is announced", true, reserving),
    ("a reader that starts again for every byte", true, quadratic),
    ("a reader that loses a trailing zero", true, forgetful),
];

fn judge((name, is_wrong, run): &Reader, dice: &mut Dice) -> Control {
    let caps = Caps {
        input_bytes: CONTROL_LONGEST,
        fixed_bytes: 64 * 1024,
        bytes_per_byte: 8,
        time: Duration::from_millis(100),
    };
    let target = Target { name, door: "a control", run: *run, caps, words: &[b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"] };
    let mut tally = Tally::default();
    let quiet = std::panic::take_hook();
    // Its panics are what is wanted, and would only frighten whoever reads the log.
    std::panic::set_hook(Box::new(|_| {}));
    // What is quadratic shows only on an input as long as the door takes.
    tally.feed(&target, &vec![b'x'; CONTROL_LONGEST]);
    tally.mutations(
        &target,
        &[vec![3, 0, 0, 0, b'a', b'b', b'c'], [vec![0, 1, 0, 0], vec![b'x'; 256]].concat()],
        dice,
        CONTROL,
    );
    std::panic::set_hook(quiet);
    let example = tally.breaches.first().map(|(input, breach)| format!("{} bytes: {breach}", input.len()));
    let caught = tally.breaches.len() as u64;
    Control { name: (*name).to_owned(), is_wrong: *is_wrong, caught, states: tally.fed, example }
}

fn split(data: &[u8]) -> Option<(usize, &[u8])> {
    let (length, rest) = data.split_first_chunk::<4>()?;
    Some((usize::try_from(u32::from_le_bytes(*length)).ok()?, rest))
}

fn careful(data: &[u8]) {
    if let Some((length, rest)) = split(data)
        && let Some(text) = rest.get(..length)
    {
        drop(std::hint::black_box(text.to_vec()));
    }
}

#[expect(clippy::indexing_slicing, reason = "this is the mistake")]
fn trusting(data: &[u8]) {
    if let Some((length, rest)) = split(data) {
        drop(std::hint::black_box(rest[..length].to_vec()));
    }
}

fn reserving(data: &[u8]) {
    if let Some((length, rest)) = split(data) {
        let mut text = Vec::<u8>::with_capacity(length);
        text.extend(rest.iter().take(length));
        drop(std::hint::black_box(text));
    }
}

fn quadratic(data: &[u8]) {
    for end in 0..data.len() {
        for begin in 0..end {
            // As much work as looking at what lies between.
            std::hint::black_box(data.iter().skip(begin).take(16).map(|byte| u64::from(*byte)).sum::<u64>());
        }
    }
}

fn forgetful(data: &[u8]) {
    if let Some((length, rest)) = split(data)
        && let Some(text) = rest.get(..length)
    {
        let written: Vec<u8> = text.iter().rev().skip_while(|byte| **byte == 0).copied().collect();
        assert_eq!(written.len(), text.len(), "what was read changes when it is written");
    }
}
