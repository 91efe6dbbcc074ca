//! `write-order`: one renewal of an identity on a real disk, in the order of one system or another. For tests that kill it, cut its power or
//! refuse its calls, and then ask what is left.
//!
//! ```text
//! write-order list
//!     One line per order: name, then where it is expected to be wrong, as two columns `files=…` and `protocol=…` of the words
//!     `killed`, `power`, `refused`, `refused+power`, joined by commas, or `-`; then `peer` or `ours`; then a description.
//! write-order NAME put DIR N [--protocol]
//!     Renews to generation N (a number greater than 0) in the folder DIR, which must exist. If DIR is empty the first identity is stored
//!     instead, and everything is synced before the lines appear.
//!     On standard output, each line flushed before the next call on the disk:
//!       `commit N`  from now on the controller admits N and nothing else;
//!       `ok N`      the system says that the renewal is done.
//!     Without --protocol both generations count as admitted until `commit N`, which comes right after `ok N`: the order of files alone is
//!     judged. With --protocol only the old one counts before `commit N`, which comes where a controller with one fingerprint commits: for
//!     most before the first byte is written, for ours after the new generation is durable.
//!     Exit status 0 when the order came to its end (OpenZiti's does even when its writes failed), 1 with `error …` on standard error when it
//!     gave up, 2 for wrong usage.
//! write-order NAME load DIR
//!     What a start of that system could use: a line `usable N` for each generation, oldest first; or `none` when there is nothing it can use
//!     (why, on standard error); or `error …` when the disk refused to say. Exit status 0 in all three cases. A start may repair, so this
//!     may write where the system's own start does.
//! ```
//!
//! A state is **unusable** when no `usable` generation is admitted: before `commit N` N or N−1 must be usable (with --protocol N−1), from then on N.
#![forbid(unsafe_code)]

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use crash::order::{About, Moment, ORDERS, OrderError, Protocol, WriteOrder, Wrong, find, install};
use store::disk::{Disk, RealDisk};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["list"] => list(),
        [name, "put", dir, n] => put(name, dir, n, Protocol::FilesOnly),
        [name, "put", dir, n, "--protocol"] => put(name, dir, n, Protocol::OneFingerprint),
        [name, "load", dir] => load(name, dir),
        _ => usage("write-order list | NAME put DIR N [--protocol] | NAME load DIR"),
    }
}

fn usage(text: &str) -> ExitCode {
    eprintln!("usage: {text}");
    ExitCode::from(2)
}

fn list() -> ExitCode {
    for about in ORDERS {
        let About { name, title, what, is_peer, .. } = about;
        let whose = if *is_peer { "peer" } else { "ours" };
        let (files, protocol) = (words(about.wrong_in_files), words(about.wrong_in_protocol));
        println!("{name} files={files} protocol={protocol} {whose} {title}: {what}");
    }
    ExitCode::SUCCESS
}

fn words(wrong: Wrong) -> String {
    let all = [
        (wrong.killed, "killed"),
        (wrong.power, "power"),
        (wrong.refused, "refused"),
        (wrong.refused_then_power, "refused+power"),
    ];
    let words: Vec<&str> = all.into_iter().filter_map(|(is_wrong, word)| is_wrong.then_some(word)).collect();
    if words.is_empty() { "-".to_owned() } else { words.join(",") }
}

fn put(name: &str, dir: &str, n: &str, protocol: Protocol) -> ExitCode {
    let Some((_, order)) = find::<RealDisk>(name) else { return usage("no such order; `write-order list` names them") };
    let Some(n) = n.parse().ok().filter(|n| *n > 0) else { return usage("N is a number greater than 0") };
    match perform(&*order, Path::new(dir), n, protocol) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error {error}");
            ExitCode::FAILURE
        }
    }
}

fn perform(order: &dyn WriteOrder<RealDisk>, dir: &Path, n: u64, protocol: Protocol) -> Result<(), OrderError> {
    let mut disk = RealDisk;
    let folder = disk.open_root(dir)?;
    // A file system of its own has this folder from the start.
    if disk.list(&folder)?.iter().all(|name| name == "lost+found") {
        install(order, &mut disk, dir, n)?;
        say(&format!("ok {n}"));
        say(&format!("commit {n}"));
        return Ok(());
    }
    order.put(&mut disk, dir, n, protocol, &mut |_, moment| match moment {
        Moment::Commit(n) => say(&format!("commit {n}")),
        Moment::Done(n) => say(&format!("ok {n}")),
    })
}

fn load(name: &str, dir: &str) -> ExitCode {
    let Some((_, order)) = find::<RealDisk>(name) else { return usage("no such order; `write-order list` names them") };
    match order.load(&mut RealDisk, Path::new(dir)) {
        Ok(found) => found.iter().for_each(|n| say(&format!("usable {n}"))),
        Err(error @ (OrderError::Disk(_) | OrderError::Store(_))) => say(&format!("error {error}")),
        Err(error) => {
            eprintln!("{error}");
            say("none");
        }
    }
    ExitCode::SUCCESS
}

/// A reader that has gone away changes nothing.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
