//! libFuzzer, through `cargo fuzz`, for the long run.

use std::path::Path;
use std::process::{Command, Stdio};

use evidence::Evidence;

use crate::TARGETS;

/// Time of one target, in seconds.
const EACH_S: u32 = 600;
/// Memory of the whole process at which libFuzzer gives up, in MiB: sanitizer, corpus and tables included.
const RSS_MIB: u32 = 2048;
/// Time of one input at which libFuzzer gives up, in seconds, with a sanitizer.
const INPUT_S: u32 = 20;

/// Ten minutes of processor time for each target.
pub(crate) fn run(evidence: &mut Evidence) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let is_there =
        Command::new("cargo").args(["fuzz", "--version"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !is_there.is_ok_and(|status| status.success()) {
        evidence.skip(
            "libFuzzer, ten minutes for each target",
            "`cargo fuzz` is not installed: `cargo install cargo-fuzz`",
        );
        return;
    }
    let mut executed = 0;
    for target in TARGETS {
        let output = Command::new("cargo")
            .args(["fuzz", "run", target.name, "--"])
            .args([
                format!("-max_total_time={EACH_S}"),
                format!("-rss_limit_mb={RSS_MIB}"),
                format!("-timeout={INPUT_S}"),
                "-print_final_stats=1".to_owned(),
            ])
            // Sanitizers and coverage are unstable options of the compiler; this makes a stable one take them.
            .env("RUSTC_BOOTSTRAP", "1")
            .current_dir(&root)
            .output();
        let replay = format!("RUSTC_BOOTSTRAP=1 cargo fuzz run {} -- -max_total_time={EACH_S}", target.name);
        match output {
            Ok(output) => {
                let text = String::from_utf8_lossy(&output.stderr);
                executed += units(&text);
                if !output.status.success() {
                    let last = text.lines().rev().take(5).collect::<Vec<_>>().join(" / ");
                    evidence.failed(format!("libFuzzer stopped at `{}`: {last}", target.name), replay);
                }
            }
            Err(error) => evidence.failed(format!("libFuzzer did not run on `{}`: {error}", target.name), replay),
        }
    }
    evidence.tried("inputs of libFuzzer", executed);
}

/// How many inputs libFuzzer says that it tried.
fn units(text: &str) -> u64 {
    let told = |line: &str| line.strip_prefix("stat::number_of_executed_units:")?.trim().parse().ok();
    text.lines().find_map(told).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::units;

    #[test]
    fn the_number_of_inputs_is_read_from_the_statistics() {
        let text = "Done 5 runs\nstat::number_of_executed_units: 12345\nstat::average_exec_per_sec:     9\n";
        assert_eq!(units(text), 12_345);
        assert_eq!(units("no statistics"), 0);
    }
}
