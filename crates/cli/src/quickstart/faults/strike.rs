//! The strikes themselves, and how each is mended.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::plan::{Aim, FaultKind, Slot};
use super::{Field, Unit, storage};
use crate::quickstart::proxy::Rule;
use crate::quickstart::tally::Side;
use crate::quickstart::watch::disk;

/// How long a process may take to come back before that is a complaint.
const BACK: Duration = Duration::from_secs(15);
/// How long an armed path waits for something to strike, first for certificates and then for anything.
const ARMED: Duration = Duration::from_millis(300);
/// After a path was healed or the controller came back, its last resets are still on their way.
const ECHO: Duration = Duration::from_millis(1_500);
/// The certificates of a 20301 come in a chunk longer than this; nothing else that the controller says does.
const CERTIFICATES_BYTES: usize = 900;
/// A file size limit too small for anything.
const NO_ROOM_BYTES: u64 = 16;

/// Strikes, mends, and gives the target free again.
pub(super) async fn strike(field: Arc<Field>, unit: Arc<Unit>, slot: Slot) {
    match slot.kind {
        FaultKind::KillRouter => field.kill_router(&unit, slot).await,
        FaultKind::KillController => {
            field.kill_controller(&unit, slot).await;
            field.controller_is_busy.store(false, Ordering::Relaxed);
            return;
        }
        FaultKind::AnswerLost | FaultKind::AnswerDelayed | FaultKind::AnswerCut => {
            // Nothing came along the path: something that needs no traffic strikes instead, to keep the cadence.
            if !field.touch_path(&unit, slot).await {
                field.strike_without_traffic(&unit, slot).await;
            }
        }
        FaultKind::FolderUnwritable | FaultKind::FolderFull => field.break_folder(&unit, slot).await,
    }
    unit.is_busy.store(false, Ordering::Relaxed);
}

impl Field {
    /// Writes down and prints one strike.
    fn struck(&self, kind: FaultKind, unit: &Unit, phase: &str, detail: &str) {
        self.tally.struck(kind, phase);
        let number: usize = self.tally.books().struck_at.len();
        let at = self.screen.elapsed().as_secs_f32();
        let whom =
            if kind == FaultKind::KillController { format!("controller, {}", unit.name) } else { unit.name.clone() };
        self.screen.say(&format!("{at:6.1} s  fault {number}: {kind} ({whom} in {phase}){detail}"));
    }

    async fn kill_router(&self, unit: &Unit, slot: Slot) {
        let said = unit.watched.now().phase;
        let starts = unit.watched.now().starts;
        let longest = self.share(unit.index);
        let began = Instant::now();
        let fault = self.tally.begin(slot.kind, &[unit.index]);
        unit.process.kill().await;
        let phase = match disk::read(&unit.state) {
            Ok(found) => truth(&said, found.phase),
            Err(_) => said,
        };
        self.struck(slot.kind, unit, &phase, "");
        self.lockout.sample().await;
        sleep((began + slot.lasts.min(longest)).saturating_duration_since(Instant::now())).await;
        self.start_router(unit).await;
        let ready = timeout(BACK, unit.probe.until_ready()).await;
        self.note_restart(began);
        self.tally.end(fault, unit.index, Side::Web);
        let mut changes = unit.watched.changes();
        let back = timeout(BACK, changes.wait_for(|now| now.starts > starts && now.is_connected)).await;
        self.tally.end(fault, unit.index, Side::Control);
        if ready.is_err() || back.is_err() {
            self.tally.complain(format!("{} was not back {BACK:?} after `kill -9`", unit.name));
        }
    }

    fn note_restart(&self, began: Instant) {
        let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.restart_ms.fetch_max(took_ms, Ordering::Relaxed);
    }

    /// Starts a router whose process has ended, and tells the proxy.
    pub(crate) async fn start_router(&self, unit: &Unit) {
        match unit.process.start().await {
            Ok(pid) => {
                if let Some(path) = self.paths.get(unit.index) {
                    path.set_process(pid);
                }
            }
            Err(error) => self.tally.complain(format!("{} cannot be started again: {error}", unit.name)),
        }
    }

    async fn kill_controller(&self, unit: &Unit, slot: Slot) {
        let phase = unit.watched.now().phase;
        let longest = self.shortest_share();
        let began = Instant::now();
        let all: Vec<usize> = self.units.iter().map(|unit| unit.index).collect();
        let fault = self.tally.begin(slot.kind, &all);
        self.controller.kill().await;
        self.struck(slot.kind, unit, &phase, "");
        sleep((began + slot.lasts.min(longest)).saturating_duration_since(Instant::now())).await;
        if let Err(error) = self.controller.start().await {
            self.tally.complain(format!("the controller cannot be started again: {error}"));
        }
        if timeout(BACK, self.controller_probe.until_ready()).await.is_err() {
            self.tally.complain(format!("the controller was not back {BACK:?} after `kill -9`"));
        }
        self.note_restart(began);
        self.lockout.sample().await;
        for unit in &self.units {
            let mut changes = unit.watched.changes();
            let _ = timeout(BACK, changes.wait_for(|now| now.is_connected)).await;
            let echoes_until = std::time::Instant::now() + ECHO;
            self.tally.end_at(fault, unit.index, Side::Control, echoes_until);
        }
    }

    async fn strike_without_traffic(&self, unit: &Unit, slot: Slot) {
        let skipped: Vec<FaultKind> = self.tally.books().skipped.keys().copied().collect();
        let folders = [FaultKind::FolderFull, FaultKind::FolderUnwritable];
        match folders.into_iter().find(|kind| !skipped.contains(kind)) {
            Some(kind) => self.break_folder(unit, Slot { kind, ..slot }).await,
            None => self.kill_router(unit, Slot { kind: FaultKind::KillRouter, ..slot }).await,
        }
    }

    /// Says whether there was anything to strike.
    async fn touch_path(&self, unit: &Unit, slot: Slot) -> bool {
        let Some(path) = self.paths.get(unit.index) else { return false };
        let permille = u16::try_from(slot.salt % 900).unwrap_or(0) + 50;
        let longest = self.share(unit.index);
        let mut strikes = path.strikes();
        let fault = self.tally.begin(slot.kind, &[unit.index]);
        let mut is_struck = false;
        // Certificates if they are what is awaited; failing that, whatever comes next.
        let sizes = if slot.aim == Aim::Requested { [CERTIFICATES_BYTES, 1] } else { [1, 1] };
        for from_bytes in sizes {
            path.set_rule(match slot.kind {
                FaultKind::AnswerDelayed => Rule::Hold { from_bytes },
                FaultKind::AnswerCut => Rule::Cut { from_bytes, permille },
                _ => Rule::Lose { from_bytes },
            });
            is_struck = strikes.struck_within(ARMED).await;
            if is_struck {
                break;
            }
        }
        let lasts = if slot.kind == FaultKind::AnswerCut { Duration::ZERO } else { slot.lasts.min(longest) };
        if is_struck {
            let phase = unit.watched.now().phase;
            let detail = match slot.kind {
                FaultKind::AnswerCut => format!(" after {} % of it", permille / 10),
                _ => format!(" for {} ms", lasts.as_millis()),
            };
            self.struck(slot.kind, unit, &phase, &detail);
            sleep(lasts).await;
        }
        path.set_rule(Rule::Pass);
        self.tally.end_at(fault, unit.index, Side::Control, std::time::Instant::now() + ECHO);
        if is_struck {
            self.lockout.sample().await;
        }
        is_struck
    }

    async fn break_folder(&self, unit: &Unit, slot: Slot) {
        let Some(pid) = unit.process.pid() else { return };
        let longest = self.share(unit.index);
        let set = |is_broken: bool| match slot.kind {
            FaultKind::FolderFull => storage::set_room(pid, is_broken.then_some(NO_ROOM_BYTES)),
            _ => storage::set_writable(&unit.state, !is_broken),
        };
        let fault = self.tally.begin(slot.kind, &[unit.index]);
        let broken = set(true);
        let phase = unit.watched.now().phase;
        match broken {
            Ok(()) => {
                let lasts = slot.lasts.min(longest);
                self.struck(slot.kind, unit, &phase, &format!(" for {} ms", lasts.as_millis()));
                self.lockout.sample().await;
                sleep(lasts).await;
            }
            Err(error) => self.tally.complain(format!("{}: {} did not work: {error}", unit.name, slot.kind)),
        }
        if let Err(error) = set(false)
            && unit.process.pid() == Some(pid)
        {
            self.tally.complain(format!("{}: {} cannot be mended: {error}", unit.name, slot.kind));
        }
        self.tally.end(fault, unit.index, Side::Control);
    }
}

/// The phase in which a router was killed. What it said last may be older than what its disk says, but the disk does not know
/// whether a 20302 had left.
fn truth(said: &str, disk: &'static str) -> String {
    match (said, disk) {
        ("Requested" | "Staged", "Prepared") => "Requested".to_owned(),
        // PROMOTE was durable already, or the next attempt had begun.
        (_, "Promoted") if matches!(said, "Requested" | "Staged" | "Proving") => disk.to_owned(),
        (_, "Staged" | "Proving" | "Prepared") => disk.to_owned(),
        _ => said.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::truth;

    #[test]
    fn the_disk_corrects_what_the_router_said_last() {
        assert_eq!(truth("Staged", "Proving"), "Proving");
        assert_eq!(truth("Proving", "Promoted"), "Promoted");
        assert_eq!(truth("Requested", "Prepared"), "Requested");
        // It was being made durable.
        assert_eq!(truth("Staged", "Prepared"), "Requested");
        assert_eq!(truth("Requested", "Staged"), "Staged");
        assert_eq!(truth("Steady", "Promoted"), "Steady");
    }
}
