use std::collections::VecDeque;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use evidence::{Lane, Layer};

use super::child::start;
use super::{Circumstances, Finding, KEPT, Programs};
use crate::numbers::{grouped, spoken};

/// Runs the layers of both lanes side by side; the lane that waits helps the one that computes when it has nothing left. Findings come in
/// the order of `layers`.
pub(super) fn run(layers: &[Layer], programs: &Programs, circumstances: &Circumstances) -> Vec<Finding> {
    let began = Instant::now();
    let of = |lane| Mutex::new(layers.iter().filter(|layer| layer.lane == lane).collect::<VecDeque<&Layer>>());
    let (computing, waiting) = (of(Lane::Computing), of(Lane::Waiting));
    let findings = Mutex::new(Vec::new());
    let next = |queues: &[&Mutex<VecDeque<&Layer>>]| queues.iter().find_map(|queue| locked(queue).pop_front().copied());
    let work = |queues: &[&Mutex<VecDeque<&Layer>>]| {
        while let Some(layer) = next(queues) {
            eprintln!("{:>5} s  start  {:<12} {}", began.elapsed().as_secs(), layer.id, layer.title);
            let finding = start(&layer, programs, circumstances);
            let verdict = if finding.faults(circumstances.is_strict).is_empty() { "holds" } else { "FAILS" };
            eprintln!(
                "{:>5} s  {verdict}  {:<12} {:>6}  {}",
                began.elapsed().as_secs(),
                layer.id,
                spoken(finding.took()),
                counted(&finding),
            );
            if let Err(error) = super::keep(&format!("{}.json", finding.id), &finding) {
                eprintln!("warning: {error:#}");
            }
            locked(&findings).push(finding);
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| work(&[&computing]));
        scope.spawn(|| work(&[&waiting, &computing]));
    });
    let mut findings = findings.into_inner().unwrap_or_else(PoisonError::into_inner);
    findings.sort_by_key(|finding| layers.iter().position(|layer| layer.id == finding.id));
    findings
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The two largest counts.
fn counted(finding: &Finding) -> String {
    let mut counts = finding.evidence().map(|evidence| evidence.tried.clone()).unwrap_or_default();
    counts.sort_by_key(|count| std::cmp::Reverse(count.count));
    let told: Vec<String> =
        counts.iter().take(2).map(|count| format!("{} {}", grouped(count.count), count.what)).collect();
    told.join(", ")
}

/// Prints the end of a layer's log.
pub(super) fn show_log(id: &str) {
    const SHOWN_BYTES: i64 = 6_000;
    let Ok(mut file) = std::fs::File::open(Path::new(KEPT).join(format!("{id}.log"))) else {
        return;
    };
    let mut text = Vec::new();
    if file.seek(SeekFrom::End(-SHOWN_BYTES)).is_err() {
        let _ = file.seek(SeekFrom::Start(0));
    }
    if file.read_to_end(&mut text).is_ok() {
        for line in String::from_utf8_lossy(&text).lines().rev().take(40).collect::<Vec<_>>().into_iter().rev() {
            eprintln!("  | {line}");
        }
    }
}
