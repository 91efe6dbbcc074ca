//! A medium that forgets: one bit or one sector at rest is wrong. It is detected, never adopted, and takes at most one generation with it.

use std::path::PathBuf;

use store::disk::{CrashModel, SimDisk};
use store::identity::Loaded;

use crate::explore::{Tally, points};
use crate::scene::{Actor, STATE, Shown, check_contents};
use crate::script::Script;

const SECTOR_BYTES: usize = 512;

/// Every bit position of the last byte pattern costs a start, so one bit of each byte is flipped; in the middle of an attempt whole sectors.
pub(crate) fn explore(script: &Script, every: usize, tally: &mut Tally, replay: &str) {
    let scene = match script.scene() {
        Ok(scene) => scene,
        Err(claim) => return tally.fail(claim, replay.to_owned()),
    };
    let run = script.run(scene.0, &scene.1);
    let fail = |what: String, tally: &mut Tally| tally.fail(what, replay.to_owned());
    for (operation, before) in points(&run) {
        let shown = run.shown_before(operation);
        let at_rest = before.after_crash(CrashModel::Weakest, |_| true);
        for (path, length) in files(&at_rest) {
            for sector in 0..length.div_ceil(SECTOR_BYTES) {
                let mut disk = at_rest.clone();
                if disk.wipe(&path, sector) {
                    tally.wiped += 1;
                    if let Err(claim) = judge(disk, script, &shown) {
                        let what = format!(
                            "{}, before operation {operation}, sector {sector} of `{}` wiped: {claim}",
                            script.name,
                            path.display()
                        );
                        fail(what, tally);
                    }
                }
            }
        }
    }
    let shown = run.shown_last();
    let at_rest = run.disk.after_kill();
    for (path, length) in files(&at_rest) {
        for byte in (0..length).step_by(every.max(1)) {
            let mut disk = at_rest.clone();
            if disk.rot(&path, byte) {
                tally.rotten += 1;
                if let Err(claim) = judge(disk, script, &shown) {
                    fail(format!("{}, byte {byte} of `{}` rotten: {claim}", script.name, path.display()), tally);
                }
            }
        }
    }
}

fn files(disk: &SimDisk) -> Vec<(PathBuf, usize)> {
    let paths = disk.paths().into_iter().filter(|path| path.starts_with(STATE));
    paths.filter_map(|path| disk.file(&path).map(<[u8]>::len).map(|length| (path, length))).collect()
}

fn judge(disk: SimDisk, script: &Script, shown: &Shown) -> Result<(), String> {
    let making = script.making;
    let mut actor = Actor::start(disk, making, shown).map_err(|(error, _)| format!("open: {error:?}"))?;
    let loaded = actor.load().map_err(|error| format!("load: {error:?}"))?;
    check_contents(&loaded, making)?;
    let is_anything_shown = !shown.needed.is_empty() || shown.requested.is_some();
    if loaded == Loaded::Absent && is_anything_shown {
        return Err("damage was taken for absence".to_owned());
    }
    let numbers: Vec<u64> = loaded.generations().iter().map(|generation| generation.number.0).collect();
    let lost = shown.needed.iter().filter(|n| !numbers.contains(n)).count();
    if lost > 1 {
        return Err(format!("one rotten place cost {lost} generations"));
    }
    if lost > 0 && loaded.damage().is_empty() {
        return Err("damage was not reported".to_owned());
    }
    if loaded == Loaded::Absent || shown.needed.is_empty() {
        return Ok(());
    }
    actor.renew_next().map_err(|error| format!("renewing from what is left: {error:?}"))?;
    let after = actor.load().map_err(|error| format!("load again: {error:?}"))?;
    check_contents(&after, making)
}
