//! libFuzzer, through `cargo fuzz`, for the long run; and the record of what it has tried so far.
//!
//! The record is `fuzz/record.tsv`, which every long run adds to and which is committed: an hour of fuzzing that was done yesterday is worth as much
//! today. Its numbers are libFuzzer's own and those of the kernel.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use evidence::Evidence;

use crate::TARGETS;

/// Processor time of one target in a long run, in seconds.
const EACH_S: u64 = 600;
/// Longest time of one process of libFuzzer, in seconds; then it is started again with what it has found.
const AT_ONCE_S: u64 = 300;
/// Processes for one target after which it is given up, on a machine that is so busy that it gets hardly anything.
const PROCESSES_MAX: u32 = 20;
/// Memory of the whole process at which libFuzzer gives up, in MiB: sanitizer, corpus and tables included.
const RSS_MIB: u32 = 2048;
/// Time of one input at which libFuzzer gives up, in seconds, with a sanitizer.
const INPUT_S: u32 = 60;
/// Ticks of a second in `/proc`, on every Linux that there is.
const TICKS_PER_S: u64 = 100;

const HEAD: &str = "# What libFuzzer (coverage-guided, with AddressSanitizer) has tried: target, seconds of processor time, inputs executed.\n\
                    # `cargo xtask proof --only fuzz --long` adds to it.\n";

/// What one target has had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Had {
    processor_s: u64,
    executed: u64,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn record() -> PathBuf {
    root().join("fuzz/record.tsv")
}

fn read(text: &str) -> BTreeMap<String, Had> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let row = |line: &str| {
        let mut words = line.split('\t');
        let target = words.next()?.to_owned();
        Some((target, Had { processor_s: words.next()?.parse().ok()?, executed: words.next()?.parse().ok()? }))
    };
    lines.filter_map(row).collect()
}

fn write(had: &BTreeMap<String, Had>) -> String {
    let mut text = HEAD.to_owned();
    for (target, had) in had {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{target}\t{}\t{}", had.processor_s, had.executed);
    }
    text
}

/// What earlier runs of libFuzzer came to, as far as the record tells.
pub(crate) fn tell(evidence: &mut Evidence) {
    let had = read(&std::fs::read_to_string(record()).unwrap_or_default());
    let rows: Vec<(&str, Had)> =
        TARGETS.iter().filter_map(|target| Some((target.name, *had.get(target.name)?))).collect();
    if rows.is_empty() {
        return;
    }
    let mut table = String::new();
    for (target, had) in &rows {
        let _ = write!(table, "\n| `{target}` | {:.1} | {} |", minutes(had.processor_s), had.executed);
    }
    let sum: u64 = rows.iter().map(|(_, had)| had.processor_s).sum();
    evidence.notes.push(format!(
        "libFuzzer, guided by coverage and watched by AddressSanitizer, in all runs that `fuzz/record.tsv` sums up ({:.0} minutes of processor time; not \
         part of this run unless it is a long one):\n\n| door | processor time, min | inputs executed |\n|---|---|---|{table}",
        minutes(sum)
    ));
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn minutes(seconds: u64) -> f64 {
    seconds as f64 / 60.0
}

/// Ten minutes of processor time for each target.
pub(crate) fn run(scratch: &Path, evidence: &mut Evidence) {
    let is_there =
        Command::new("cargo").args(["fuzz", "--version"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !is_there.is_ok_and(|status| status.success()) {
        evidence.skip(
            "libFuzzer, ten minutes for each target",
            "`cargo fuzz` is not installed: `cargo install cargo-fuzz`",
        );
        return;
    }
    let mut all = Had::default();
    for target in TARGETS {
        let had = match fuzz(target.name, scratch) {
            Ok(had) => had,
            Err((had, said)) => {
                let replay = format!("RUSTC_BOOTSTRAP=1 cargo fuzz run {} -- -max_total_time={EACH_S}", target.name);
                evidence.failed(format!("libFuzzer stopped at `{}`: {said}", target.name), replay);
                had
            }
        };
        all.processor_s += had.processor_s;
        all.executed += had.executed;
        if let Err(error) = keep(target.name, had) {
            evidence.notes.push(format!("`fuzz/record.tsv` could not be written: {error}"));
        }
    }
    evidence.tried("inputs of libFuzzer", all.executed);
    evidence.tried("seconds of processor time of libFuzzer", all.processor_s);
}

fn keep(target: &str, more: Had) -> std::io::Result<()> {
    let mut all = read(&std::fs::read_to_string(record()).unwrap_or_default());
    let sum = all.entry(target.to_owned()).or_default();
    sum.processor_s += more.processor_s;
    sum.executed += more.executed;
    std::fs::write(record(), write(&all))
}

/// One target until it has had its time, or libFuzzer has stopped for a reason.
fn fuzz(target: &str, scratch: &Path) -> Result<Had, (Had, String)> {
    let mut had = Had::default();
    // New inputs go here; the committed corpus is read only.
    let found = scratch.join(target);
    if let Err(error) = std::fs::create_dir_all(&found) {
        return Err((had, error.to_string()));
    }
    for _ in 0..PROCESSES_MAX {
        if had.processor_s >= EACH_S {
            break;
        }
        let before = processor_s_of_children();
        let output = Command::new("cargo")
            .args(["fuzz", "run", target])
            .arg(&found)
            .arg(root().join("fuzz/corpus").join(target))
            .arg("--")
            .args([
                format!("-max_total_time={}", (EACH_S - had.processor_s).clamp(30, AT_ONCE_S)),
                format!("-rss_limit_mb={RSS_MIB}"),
                format!("-timeout={INPUT_S}"),
                "-print_final_stats=1".to_owned(),
            ])
            // Sanitizers and coverage are unstable options of the compiler; this makes a stable one take them.
            .env("RUSTC_BOOTSTRAP", "1")
            .current_dir(root())
            .output();
        match output {
            Ok(output) => {
                let text = String::from_utf8_lossy(&output.stderr);
                let executed = units(&text);
                had.executed += executed;
                // What was built before the first input is not its time.
                if executed > 0 {
                    had.processor_s += processor_s_of_children().saturating_sub(before).min(AT_ONCE_S);
                }
                if !output.status.success() {
                    let last = text.lines().rev().take(5).collect::<Vec<_>>().join(" / ");
                    return Err((had, last));
                }
            }
            Err(error) => return Err((had, error.to_string())),
        }
    }
    Ok(had)
}

/// Processor time of all children that were waited for, and of theirs.
fn processor_s_of_children() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Behind the name, which may hold anything: the 14th and 15th field.
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: u64 = rest.split_whitespace().skip(13).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    ticks / TICKS_PER_S
}

/// How many inputs libFuzzer says that it tried.
fn units(text: &str) -> u64 {
    let told = |line: &str| line.strip_prefix("stat::number_of_executed_units:")?.trim().parse().ok();
    text.lines().find_map(told).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_inputs_is_read_from_the_statistics() {
        let text = "Done 5 runs\nstat::number_of_executed_units: 12345\nstat::average_exec_per_sec:     9\n";
        assert_eq!(units(text), 12_345);
        assert_eq!(units("no statistics"), 0);
    }

    #[test]
    fn a_record_comes_back_as_it_was_written() {
        let had = BTreeMap::from([
            ("hello".to_owned(), Had { processor_s: 601, executed: 123_456 }),
            ("jwt".to_owned(), Had { processor_s: 0, executed: 7 }),
        ]);
        assert_eq!(read(&write(&had)), had);
        assert!(read("hello\tmany\t3\n").is_empty());
    }

    /// What is committed can be read, and names targets that there are.
    #[test]
    fn the_committed_record_names_targets() {
        let text = std::fs::read_to_string(record()).unwrap_or_default();
        let had = read(&text);
        assert_eq!(had.len(), text.lines().filter(|line| !line.starts_with('#')).count());
        assert!(had.keys().all(|name| TARGETS.iter().any(|target| target.name == name)), "{had:?}");
    }

    #[test]
    fn the_time_of_children_is_seen() {
        let before = processor_s_of_children();
        let busy = "i=0; while [ $i -lt 3000000 ]; do i=$((i+1)); done";
        assert!(Command::new("sh").args(["-c", busy]).status().unwrap().success());
        assert!(processor_s_of_children() > before);
    }
}
