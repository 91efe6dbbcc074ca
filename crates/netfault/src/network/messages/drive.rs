//! One router through one scenario.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use rig::{Direct, Judged, Running, Verdict};

use super::Outcome;
use super::plan::{Scenario, Strike};
use crate::network::world::{Client, Subject, World};
use crate::proxy::{ByteRule, Level, Message};

/// A message that is part of every renewal comes within this time.
const STRIKES_WITHIN: Duration = Duration::from_secs(8);
/// Longer than a router here waits for anything: it notices, fails, and is trying again.
const BYTES_FOR: Duration = Duration::from_millis(1_600);
const MIXED_FOR: Duration = Duration::from_secs(3);
/// A renewal that is under way when the way is free again ends within this time: heartbeats 3 s, dials 1 s, answers 1 s, with pauses;
/// under a stock controller a leaf that is not confirmed is held on to for 10 s.
const RENEWS_WITHIN: Duration = Duration::from_secs(30);

/// A router at work.
pub(super) struct Worker<'a> {
    world: &'a World,
    subject: Subject,
    running: Running,
}

impl<'a> Worker<'a> {
    pub(super) fn new(world: &'a World, subject: Subject) -> Result<Self> {
        let running = start(&subject)?;
        running.until_online()?;
        Ok(Self { world, subject, running })
    }

    pub(super) fn level(&self) -> Level {
        self.subject.path.level()
    }

    /// What came of it; and the router at work again, unless its identity is gone.
    pub(super) fn meet(self, scenario: &Scenario) -> (Outcome, Option<Self>) {
        let Self { world, subject, running } = self;
        let struck_and_broke = strike(world, &subject, &running, scenario);
        subject.path.pass();
        let (struck, mut broke) = match struck_and_broke {
            Ok(struck) => (struck, None),
            Err(error) => (true, Some(format!("{error:#}"))),
        };
        // Whatever it was doing, the disk must be enough.
        let panic = running.log().panic();
        drop(running.kill());
        // Where it lived on it has renewed already.
        let (judged, running) = subject.router.judge_and_keep(&Marked(&subject), scenario.is_killed);
        if broke.is_none() {
            broke = panic.map(|line| format!("panicked: {line}"));
        }
        if broke.is_none() && !judged.is_usable() {
            broke = Some(judged.brief());
        }
        let locked_out = is_locked_out(&judged);
        (Outcome { struck, broke, locked_out }, running.map(|running| Self { world, subject, running }))
    }
}

fn is_locked_out(judged: &Judged) -> bool {
    matches!(judged.verdict, Verdict::LockedOut { .. } | Verdict::CannotStart { .. } | Verdict::Panicked(_))
}

/// Starts processes and tells the router's way which one it is.
struct Marked<'a>(&'a Subject);

impl rig::Starter for Marked<'_> {
    fn start(&self, command: std::process::Command) -> std::io::Result<rig::Started> {
        let started = Direct.start(command)?;
        self.0.path.set_process(u32::try_from(started.pid.as_raw()).unwrap_or(0));
        Ok(started)
    }
}

fn start(subject: &Subject) -> Result<Running> {
    subject.router.start_by(&Marked(subject))
}

/// Lets it happen. `Ok(false)` when it did not; an error when the router does not renew afterwards although it lives.
fn strike(world: &World, subject: &Subject, running: &Running, scenario: &Scenario) -> Result<bool> {
    let path = &subject.path;
    let mut client = Client::of(world, subject)?;
    let mut mark = running.log().mark();
    match scenario.strike {
        Strike::Message(rule) => {
            path.arm([rule]);
            if rule.message.opens_a_channel() {
                path.sever();
                running.until(mark, &["disconnected"])?;
            }
            if rule.message == Message::Advice {
                let order = format!("/api/v1/routers/{}/renew", subject.router.id());
                world.controller.ask("POST", &order, Some(&serde_json::json!({})))?;
            }
            match order_until_struck(subject, running) {
                Some(ordered) => mark = ordered,
                None => return Ok(false),
            }
        }
        Strike::Bytes { rule, on_a_new_connection } => {
            let lasts =
                matches!(rule, ByteRule::Hold(_) | ByteRule::Lose(_) | ByteRule::Trickle(..) | ByteRule::Delay(_));
            path.arm_bytes(rule);
            if on_a_new_connection {
                path.sever();
            }
            match order_until_struck(subject, running) {
                Some(ordered) => mark = ordered,
                None => return Ok(false),
            }
            if lasts || rule == ByteRule::Refuse {
                // The fault has a length; nothing in particular happens at its end.
                running.log().wait(running.log().mark(), BYTES_FOR, |line| (line.event() == "promoted").then_some(()));
            }
            path.pass();
        }
        Strike::Mixture(mixture) => {
            path.mix(mixture);
            let until = Instant::now() + MIXED_FOR;
            while Instant::now() < until {
                // It may be down with its channel just now; the next order comes soon.
                let _ = running.order_renewal();
                running.log().event(running.log().mark(), Duration::from_millis(300), &["promoted", "attempt_failed"]);
            }
            let struck = path.struck() > 0;
            path.pass();
            if !struck {
                // So few messages that the seed chose none of them.
                return Ok(true);
            }
        }
    }
    if scenario.is_killed {
        return Ok(true);
    }
    renewed(running, mark)?;
    client.asks_again(world).map_err(|error| anyhow!("a client's connection was dropped: {error:#}"))?;
    Ok(true)
}

/// Orders renewals until it has happened; gives the place in the log before the last order, if it did.
fn order_until_struck(subject: &Subject, running: &Running) -> Option<rig::Mark> {
    let deadline = Instant::now() + STRIKES_WITHIN;
    while Instant::now() < deadline {
        let mark = running.log().mark();
        // It may be too early after the last one, or the channel may be down: then the next order counts.
        let _ = running.order_renewal();
        if subject.path.strikes_within(Duration::from_millis(400)) {
            return Some(mark);
        }
    }
    None
}

/// The attempt that was ordered ends well, or the next one does.
fn renewed(running: &Running, since: rig::Mark) -> Result<()> {
    let deadline = Instant::now() + RENEWS_WITHIN;
    let mut mark = since;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match running.log().event(mark, left.min(Duration::from_secs(4)), &["promoted"]) {
            Some(_) => return Ok(()),
            None if running.log().is_over() => bail!("ended by itself:\n{}", tail(running)),
            None if left.is_zero() => bail!("does not renew within {} s:\n{}", RENEWS_WITHIN.as_secs(), tail(running)),
            None => {
                mark = running.log().mark();
                // An order that was lost with the fault is given again.
                let _ = running.order_renewal();
            }
        }
    }
}

fn tail(running: &Running) -> String {
    let text = running.log().text();
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(12)..).unwrap_or_default().join("\n")
}
