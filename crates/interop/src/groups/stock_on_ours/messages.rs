//! Killed, lost, late, and our controller killed: at every message of a stock router's extension.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use netfault::proxy::{Action, Message, Rule};

use super::host::{Host, KINDS, Make, said};
use crate::groups::site::until;
use crate::scenario::{Bench, Shown};

const EXCHANGE: [Message; 4] = [Message::Request, Message::Certs, Message::Verify, Message::Confirmation];
/// It asks for an extension as soon as it is connected.
const STRIKES_WITHIN: Duration = Duration::from_secs(45);
/// Longer than it waits for 20002 (30 s) and until it may ask again (35 s).
const GIVES_UP: Duration = Duration::from_secs(37);

/// A message that does not arrive, and one that does.
const MOMENTS: [(&str, Action); 2] =
    [("before it arrives", Action::Drop), ("as it arrives", Action::Delay(Duration::ZERO))];

/// Does this for edge and transit routers at once.
fn for_both<T: Send>(what: impl Fn(Make) -> Result<T> + Sync) -> Result<Vec<T>> {
    std::thread::scope(|scope| {
        let what = &what;
        let working: Vec<_> = KINDS.iter().map(|make| scope.spawn(move || what(*make))).collect();
        let join = |done: std::thread::ScopedJoinHandle<'_, Result<T>>| {
            done.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a worker panicked")))
        };
        working.into_iter().map(join).collect()
    })
}

pub(super) fn router_killed(bench: &Bench) -> Result<Shown> {
    let host = Host::start(bench, "h", None)?;
    let rounds = if bench.is_long { 5 } else { 1 };
    let tried = for_both(|make| {
        let guest = host.guest(make.word(), make)?;
        let (mut kills, mut newer) = (0, 0);
        for _ in 0..rounds {
            for message in EXCHANGE {
                for (moment, action) in MOMENTS {
                    let story = || format!("{} router killed at {message}, {moment}", make.word());
                    guest.way.arm([Rule::once(message, action)]);
                    let before = guest.leaf()?;
                    let process = host.online(&guest, &["--extend"]).with_context(story)?;
                    ensure!(guest.way.strikes_within(STRIKES_WITHIN), "{}: it never came", story());
                    let presented = host.comes_back(&guest, process).with_context(story)?;
                    ensure!(presented == guest.leaf()?, "{}: it presented another leaf than its file's", story());
                    newer += usize::from(presented != before);
                    kills += 1;
                }
            }
        }
        ensure!(host.leaves(&guest)? <= 12, "the register holds {} leaves", host.leaves(&guest)?);
        Ok((kills, newer))
    })?;
    let (kills, newer) = tried.iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    Ok(Shown::holds(format!(
        "{kills} kills, each time let in again; {newer} times with the new leaf already in its file"
    )))
}

pub(super) fn lost_and_late(bench: &Bench) -> Result<Shown> {
    let host = Host::start(bench, "h", None)?;
    let late = Action::Late(GIVES_UP);
    let fates = [("lost", Action::Drop), ("37 s late", late)];
    let mut stories = Vec::new();
    for make in KINDS {
        for message in EXCHANGE {
            for (word, action) in fates {
                stories.push((make, message, word, action));
            }
        }
    }
    let lived: Vec<Result<String>> = std::thread::scope(|scope| {
        let host = &host;
        let one = |(number, (make, message, word, action)): (usize, (Make, Message, &'static str, Action))| {
            scope.spawn(move || {
                let story = format!("{} router, {message} {word}", make.word());
                one_story(host, &format!("r{number}"), make, Rule::once(message, action)).with_context(|| story)
            })
        };
        let working: Vec<_> = stories.iter().copied().enumerate().map(one).collect();
        let join = |done: std::thread::ScopedJoinHandle<'_, Result<String>>| {
            done.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a worker panicked")))
        };
        working.into_iter().map(join).collect()
    });
    let mut complaints = Vec::new();
    for said in lived {
        let said = said?;
        if !said.is_empty() && !complaints.contains(&said) {
            complaints.push(said);
        }
    }
    let count = stories.len();
    let shown = Shown::holds(format!(
        "{count} routers lived on their channels, and each was let in when it was killed and started again afterwards"
    ));
    Ok(complaints.into_iter().fold(shown, |shown, said| shown.and(format!("said by the Go router: {said}"))))
}

/// One router meets this, lives on until it has given up, and is restarted; gives what it complained of.
fn one_story(host: &Host, name: &str, make: Make, rule: Rule) -> Result<String> {
    let guest = host.guest(name, make)?;
    guest.way.arm([rule]);
    let process = host.online(&guest, &["--extend"])?;
    ensure!(guest.way.strikes_within(STRIKES_WITHIN), "it never came");
    let channel = host.connection(&guest)?.context("its channel is gone")?;
    let complained = process.log().wait(rig::Mark::default(), GIVES_UP + Duration::from_secs(4), |line| {
        (line.text_of("level") == "error" && said(line).contains("extension")).then(|| said(line).to_owned())
    });
    let still = host.connection(&guest)?.context("its channel is gone")?;
    ensure!(still["since_unix_s"] == channel["since_unix_s"], "its channel was replaced");
    guest.is_whole()?;
    host.comes_back(&guest, process)?;
    // And an extension is possible again.
    let process = host.online(&guest, &["--extend"])?;
    guest.until_extended(&process)?;
    host.comes_back(&guest, process)?;
    Ok(complained.unwrap_or_default())
}

pub(super) fn controller_killed(bench: &Bench) -> Result<Shown> {
    let kills = for_both(|make| {
        // Each with a controller of its own, which only its own kill ends.
        let host = Host::start(bench, make.word(), None)?;
        let guest = host.guest("r", make)?;
        let mut kills = 0;
        for message in EXCHANGE {
            for (moment, action) in MOMENTS {
                let story = || format!("controller killed at {message} of a router ({}), {moment}", make.word());
                guest.way.arm([Rule::once(message, action)]);
                let process = host.online(&guest, &["--extend"]).with_context(story)?;
                ensure!(guest.way.strikes_within(STRIKES_WITHIN), "{}: it never came", story());
                host.world.controller.kill();
                guest.way.pass();
                guest.way.sever();
                host.world.controller.run().with_context(story)?;
                // The same process finds its way back.
                let back = || Ok(host.connection(&guest)?.is_some().then_some(()));
                until("its reconnection", Duration::from_secs(45), back).with_context(story)?;
                host.comes_back(&guest, process).with_context(story)?;
                kills += 1;
            }
        }
        Ok(kills)
    })?;
    let kills: usize = kills.iter().sum();
    Ok(Shown::holds(format!(
        "{kills} kills of the controller; the running router reconnects, and is let in after a restart"
    )))
}
