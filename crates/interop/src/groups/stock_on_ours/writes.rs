//! Killed at each change that a stock router makes to its two files.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use diskfault::trace::{Call, Counted, Fault, Tracer};
use pki::Chain;

use super::host::{Guest, Host, KINDS, Make, Start};
use crate::scenario::{Bench, Shown};

/// What became of the files when the router was killed.
#[derive(Debug, Default)]
struct Tally {
    kills: usize,
    admitted: usize,
    /// Kills that left a file without a certificate, and in which moment.
    destroyed: Vec<String>,
}

pub(super) fn killed_between_writes(bench: &Bench) -> Result<Shown> {
    if let Some(why) = diskfault::trace::probe() {
        return Ok(Shown::left_out(why));
    }
    let host = Host::start(bench, "h", None)?;
    let tallies: Vec<Result<Tally>> = std::thread::scope(|scope| {
        let host = &host;
        let working: Vec<_> =
            KINDS.iter().map(|make| scope.spawn(move || of_kind(host, *make, bench.is_long))).collect();
        working
            .into_iter()
            .map(|done| done.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a worker panicked"))))
            .collect()
    });
    let mut all = Tally::default();
    for tally in tallies {
        let Tally { kills, admitted, destroyed } = tally?;
        all.kills += kills;
        all.admitted += admitted;
        all.destroyed.extend(destroyed);
    }
    all.destroyed.sort();
    all.destroyed.dedup();
    let gone = all.kills - all.admitted;
    let shown = Shown::holds(format!(
        "{} kills: {} times let in again; {gone} times its own write had left a file without a certificate (upstream defect B1), and with a \
         copy of its files from before the start it was let in",
        all.kills, all.admitted
    ));
    Ok(all.destroyed.into_iter().fold(shown, Shown::and))
}

fn of_kind(host: &Host, make: Make, is_long: bool) -> Result<Tally> {
    let guest = host.guest(make.word(), make)?;
    let files = || [guest.router.cert(), guest.router.server_cert()];
    let counted = if is_long { Counted::All } else { Counted::Changes };
    // Once without harm, to know the calls.
    let tracer = Tracer::with(files(), Fault::Nothing, counted);
    let process = host.online_by(&tracer, &guest, &["--extend"])?;
    guest.until_extended(&process)?;
    tracer.disarm();
    let calls = tracer.calls();
    host.comes_back(&guest, process)?;
    ensure!(calls.iter().any(|call| call.name == "ftruncate"), "it rewrites nothing in place: {calls:?}");
    let mut tally = Tally::default();
    for number in 1..=calls.len() {
        for (word, fault) in [("before", Fault::KillBefore(number)), ("after", Fault::KillAfter(number))] {
            let kept = files().map(|path| fs::read(path).unwrap_or_default());
            let tracer = Tracer::with(files(), fault, counted);
            let process = guest.router.start_by(&tracer, &["--extend"])?;
            if !tracer.until_fired(Duration::from_secs(60)) {
                bail!("call {number} of {} never came: {:?}", calls.len(), tracer.calls());
            }
            process.wait(rig::PATIENCE).context("it outlives its kill")?;
            let moment = tracer.harmed().map(|call| described(&call, word, &guest)).unwrap_or_default();
            host.kill(&guest, process)?;
            tally.kills += 1;
            let empty: Vec<_> = files().into_iter().filter(|path| holds_no_leaf(path)).collect();
            match host.started_again(&guest, &[])? {
                Start::Admitted(process, leaf) => {
                    ensure!(leaf == guest.leaf()?, "{moment}: it presented another leaf than its file's");
                    tally.admitted += 1;
                    host.kill(&guest, process)?;
                }
                Start::Ended(said) if !empty.is_empty() => {
                    tally
                        .destroyed
                        .push(format!("killed {moment}: an empty file, and the next start ends with: {said}"));
                    mended(host, &guest, &kept).with_context(|| moment.clone())?;
                }
                other => bail!("killed {moment}: {other:?}"),
            }
        }
    }
    Ok(tally)
}

fn described(call: &Call, word: &str, guest: &Guest) -> String {
    let which = if call.path == guest.router.cert() { "cert" } else { "server_cert" };
    format!("{word} {} of {which}", call.name)
}

fn holds_no_leaf(path: &std::path::Path) -> bool {
    fs::read(path).map_or(true, |text| Chain::from_pem(&text).is_err())
}

/// The controller still admits what the router destroyed, if somebody has kept a copy.
fn mended(host: &Host, guest: &Guest, kept: &[Vec<u8>; 2]) -> Result<()> {
    let [client, server] = kept;
    if holds_no_leaf(&guest.router.cert()) {
        fs::write(guest.router.cert(), client)?;
    }
    if holds_no_leaf(&guest.router.server_cert()) {
        fs::write(guest.router.server_cert(), server)?;
    }
    match host.started_again(guest, &[])? {
        Start::Admitted(process, _) => host.kill(guest, process),
        other => bail!("with its old files it is not let in: {other:?}"),
    }
}
