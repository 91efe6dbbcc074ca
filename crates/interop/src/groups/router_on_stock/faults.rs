//! Kills and lost or late messages while a renewal is under way on one stock controller.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use netfault::proxy::{Action, Message, Rule};
use rig::{Mark, Running, ZitiSettings};

use crate::groups::site::{Site, Visitor};
use crate::scenario::{Bench, Shown};

/// Every message of a renewal on a stock controller, in their order, with how many of the kind pass before. A further underlay is attached
/// twice: with the old leaf, because that is whom the controller answers, and with the new one. Where none can join, the channel itself is
/// replaced.
fn messages(bench: &Bench) -> Vec<(Message, u32)> {
    let exchange =
        [Message::Request, Message::Certs, Message::Verify, Message::Confirmation].map(|message| (message, 0));
    let (before, after): (&[_], [_; 2]) = if bench.has_groups() {
        (&[(Message::ProofHello, 0), (Message::ProofResult, 0)], [(Message::ProofHello, 1), (Message::ProofResult, 1)])
    } else {
        (&[], [(Message::Hello, 0), (Message::HelloResult, 0)])
    };
    before.iter().copied().chain(exchange).chain(after).collect()
}

/// Nobody waits for so long.
const FOR_EVER: Duration = Duration::from_secs(3_600);
/// A message that is part of every renewal comes within this time, also where the channel is replaced only after a minute.
const STRIKES_WITHIN: Duration = Duration::from_secs(120);
/// Behind OpenZiti's own time-outs: 30 s for an answer to 20303, 35 s for one to 20302.
const LATE: Duration = Duration::from_secs(36);
/// A leaf that the controller will never confirm is held on to for ten minutes before a new attempt.
const RENEWED_WITHIN: Duration = Duration::from_secs(900);

fn spell((message, after): (Message, u32)) -> String {
    let which = match (message, after) {
        (Message::ProofHello | Message::ProofResult, 0) => " (old leaf)",
        (Message::ProofHello | Message::ProofResult, _) => " (new leaf)",
        _ => "",
    };
    let name = match message {
        Message::ProofHello => "hello of the underlay".to_owned(),
        Message::ProofResult => "its Result".to_owned(),
        other => other.to_string(),
    };
    format!("{name}{which}")
}

fn behind_proxy(bench: &Bench) -> Result<Site> {
    Site::with(bench, ZitiSettings { is_behind_proxy: true, ..ZitiSettings::default() })
}

/// Orders a renewal and waits until this has happened to that message.
fn strike(visitor: &Visitor, running: &Running, message: (Message, u32), action: Action) -> Result<Mark> {
    let way = visitor.way()?;
    let rule = Rule { message: message.0, action, after: message.1, times: 1 };
    let deadline = Instant::now() + STRIKES_WITHIN;
    way.arm([rule]);
    loop {
        let mark = running.log().mark();
        let _ = running.order_renewal();
        if way.strikes_within(Duration::from_secs(2)) {
            return Ok(mark);
        }
        ensure!(Instant::now() < deadline, "{} never came:\n{}", spell(message), running.log().text());
    }
}

pub(super) fn router_killed_at_every_message(bench: &Bench) -> Result<Shown> {
    let site = behind_proxy(bench)?;
    let (visitor, mut running) = site.online("edge-1", "")?;
    let mut slowest = Duration::ZERO;
    for message in messages(bench) {
        strike(&visitor, &running, message, Action::Delay(FOR_EVER))?;
        visitor.kill(running);
        (running, slowest) =
            comes_back(&site, &visitor, slowest).with_context(|| format!("killed at {}", spell(message)))?;
    }
    // Behind the last one: before anything of it is written down.
    visitor.way()?.pass();
    site.renew(&running)?;
    visitor.kill(running);
    (running, slowest) = comes_back(&site, &visitor, slowest).context("killed behind the last message")?;
    let generation = running.status()?["generation"].clone();
    site.network.cli().until_online("edge-1", true)?;
    let line = format!(
        "{} kills, each time admitted and renewed within {:.1} s; generation {generation} in the end",
        messages(bench).len() + 1,
        slowest.as_secs_f32()
    );
    Ok(Shown::holds(line))
}

fn comes_back(site: &Site, visitor: &Visitor, slowest: Duration) -> Result<(Running, Duration)> {
    let (running, took) = site.comes_back(visitor)?;
    Ok((running, slowest.max(took)))
}

pub(super) fn controller_killed_at_every_message(bench: &Bench) -> Result<Shown> {
    let site = behind_proxy(bench)?;
    let (visitor, running) = site.online("edge-1", "")?;
    let node = site.network.node();
    let mut slowest = Duration::ZERO;
    for message in messages(bench) {
        let mark = strike(&visitor, &running, message, Action::Delay(FOR_EVER))?;
        node.kill();
        let way = visitor.way()?;
        way.pass();
        way.sever();
        site.restart(node)?;
        let began = Instant::now();
        let came = || -> Result<()> {
            running.until(mark, &["connected"])?;
            let generation = site.renew(&running)?;
            ensure!(generation > 1, "generation {generation}");
            Ok(())
        };
        came().with_context(|| format!("killed at {}", spell(message)))?;
        slowest = slowest.max(began.elapsed());
    }
    site.network.cli().until_online("edge-1", true)?;
    Ok(Shown::holds(format!(
        "{} kills, each time admitted and renewed within {:.1} s after the controller's start",
        messages(bench).len(),
        slowest.as_secs_f32()
    )))
}

/// What came of one fault.
#[derive(Debug)]
struct Survived {
    what: String,
    took: Duration,
    /// Failed rounds until then.
    failures: usize,
}

/// One router for each message, all at once; each meets every action in turn.
fn each_on_its_router(bench: &Bench, messages: &[(Message, u32)], actions: &[Action]) -> Result<Vec<Survived>> {
    let site = behind_proxy(bench)?;
    let survived: Mutex<Vec<Survived>> = Mutex::default();
    let errors: Mutex<Vec<anyhow::Error>> = Mutex::default();
    std::thread::scope(|scope| {
        for (number, message) in messages.iter().enumerate() {
            let (site, survived, errors) = (&site, &survived, &errors);
            scope.spawn(move || {
                let name = format!("edge-{number}");
                let done = || -> Result<()> {
                    let (visitor, running) = site.online(&name, "")?;
                    for action in actions {
                        let one = met(&visitor, &running, *message, *action)
                            .with_context(|| format!("{} {action}", spell(*message)))?;
                        locked(survived).push(one);
                    }
                    visitor.kill(running);
                    let judged = visitor.router.judge_only_admission();
                    ensure!(judged.is_usable(), "{}", judged.brief());
                    Ok(())
                };
                if let Err(error) = done() {
                    locked(errors).push(error);
                }
            });
        }
    });
    let errors: Vec<String> = locked(&errors).iter().map(|error| format!("{error:#}")).collect();
    ensure!(errors.is_empty(), "{}", errors.join("; "));
    Ok(std::mem::take(&mut *locked(&survived)))
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// It happens once; the router goes on by itself until a new leaf is admitted. An attempt that was ordered and given up is ordered again, as
/// one that is due begins again.
fn met(visitor: &Visitor, running: &Running, message: (Message, u32), action: Action) -> Result<Survived> {
    let began = Instant::now();
    let mark = strike(visitor, running, message, action)?;
    let mut last = mark;
    let promoted = loop {
        let heard = running.log().event(last, Duration::from_secs(20), &["promoted"]);
        if heard.is_some() || began.elapsed() > RENEWED_WITHIN || running.log().is_over() {
            break heard;
        }
        last = running.log().mark();
        if running.status()?["phase"] == "Steady" {
            let _ = running.order_renewal();
        }
    };
    let lines = running.log().since(mark);
    let failures = lines.iter().filter(|line| line.event() == "attempt_failed").count();
    if promoted.is_none() {
        let limit = RENEWED_WITHIN.as_secs();
        bail!("not renewed within {limit} s, {failures} failed rounds:\n{}", running.log().text());
    }
    visitor.way()?.pass();
    Ok(Survived { what: format!("{} {action}", spell(message)), took: began.elapsed(), failures })
}

fn summary(survived: &[Survived]) -> Shown {
    let slowest = survived.iter().max_by_key(|one| one.took);
    let line = format!(
        "{} faults, every time renewed by itself; the slowest, {}, took {:.0} s",
        survived.len(),
        slowest.map_or("", |one| &one.what),
        slowest.map_or(0.0, |one| one.took.as_secs_f32())
    );
    let mut shown = Shown::holds(line);
    let all: Vec<String> = survived
        .iter()
        .map(|one| format!("{} {:.0} s ({} failed rounds)", one.what, one.took.as_secs_f32(), one.failures))
        .collect();
    shown.facts.push(format!("From the order to the new leaf: {}.", all.join("; ")));
    shown
}

pub(super) fn messages_lost(bench: &Bench) -> Result<Shown> {
    let actions = [Action::Drop, Action::CloseBefore, Action::CloseAfter];
    Ok(summary(&each_on_its_router(bench, &messages(bench), &actions)?))
}

pub(super) fn messages_doubled(bench: &Bench) -> Result<Shown> {
    let mut messages = messages(bench);
    if !bench.is_long {
        // The controller signs for both and confirms only the second: the router holds on to the first for ten minutes.
        messages.retain(|(message, _)| *message != Message::Request);
    }
    Ok(summary(&each_on_its_router(bench, &messages, &[Action::Duplicate])?))
}

pub(super) fn messages_late(bench: &Bench) -> Result<Shown> {
    let messages = [(Message::Request, 0), (Message::Certs, 0), (Message::Verify, 0), (Message::Confirmation, 0)];
    // With everything behind it, a 20301 reaches the attempt after its own, which has the same key: again ten minutes.
    let actions: &[Action] =
        if bench.is_long { &[Action::Late(LATE), Action::Delay(LATE)] } else { &[Action::Late(LATE)] };
    Ok(summary(&each_on_its_router(bench, &messages, actions)?))
}
