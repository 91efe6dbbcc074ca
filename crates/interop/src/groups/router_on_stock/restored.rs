//! A stock controller goes back in time.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rig::ZitiNode;

use super::transit::mend;
use crate::groups::site::Site;
use crate::scenario::{Bench, Shown};

pub(super) fn restored(bench: &Bench) -> Result<Shown> {
    let site = Site::single(bench)?;
    // Quick to try again, so that the two minutes after which it is sure are not five.
    let (visitor, running) = site.online("edge-1", "exuvia: {rekey: always, backoffMax: 5s}\n")?;
    let node = site.network.node();
    site.renew(&running)?;
    // The backup: the controller's folder while it does not run.
    let mark = running.log().mark();
    node.stop()?;
    let backup = bench.scratch.join("backup");
    copy(&node.home().join("raft"), &backup)?;
    site.restart(node)?;
    running.until(mark, &["connected"])?;
    let (third, fourth) = (site.renew(&running)?, site.renew(&running)?);

    let mark = running.log().mark();
    restore(&site, node, &backup)?;
    let online = running.until(mark, &["connected", "older_admitted"])?;
    let renewed = site.renew(&running)?;
    ensure!(renewed > fourth, "renewed to {renewed}");
    let (tells, said) = (online.event().to_owned(), online.generation().unwrap_or_default());
    let first =
        format!("restored to before generations {third} and {fourth}: `{tells}` with {said}, renewed to {renewed}");

    // And once more, when the leaf that it admits is on no disk any more.
    running.stop()?;
    let kept = visitor.router.generation(2);
    ensure!(kept.exists(), "generation 2 is gone already");
    restore(&site, node, &backup)?;
    forget_generations_before(&visitor.router.state(), renewed)?;
    let running = visitor.start()?;
    let told = running.log().wait(rig::Mark::default(), Duration::from_secs(200), |line| match line.event() {
        "connected" => Some(false),
        _ => line.message().contains("restored from an older backup").then_some(true),
    });
    ensure!(told.context("the log says nothing of it")?, "admitted without the leaf that is admitted");
    ensure!(running.status()?["lockout_in_s"] == 0, "the first number is not 0: {}", running.status()?);
    let status = visitor.router.command("status", &[])?;
    let doctor = visitor.router.command("doctor", &[])?;
    let log = running.log().text();
    let newest = visitor.chain(renewed)?.leaf().fingerprint_sha1().to_string();
    let told = |text: &str| text.contains("restored") && text.contains(&newest);
    ensure!(told(&log), "the log does not say it: {log}");
    ensure!(told(&format!("{}{}", status.stdout, status.stderr)), "status does not say it: {}", status.stdout);
    ensure!(told(&format!("{}{}", doctor.stdout, doctor.stderr)), "doctor does not say it: {}", doctor.stdout);
    let mark = running.log().mark();
    mend(&site, visitor.router.id(), &newest)?;
    running.until(mark, &["connected"])?;
    let again = site.renew(&running)?;
    running.stop()?;
    Ok(Shown::holds(format!("{first}; without that leaf: refused, told, and mended as told, renewed to {again}")).and(
        format!(
            "`ziti fabric update router ID --fingerprint {}…` was the remedy.",
            newest.get(..8).unwrap_or_default()
        ),
    ))
}

fn restore(site: &Site, node: &ZitiNode, backup: &Path) -> Result<()> {
    node.stop()?;
    let data = node.home().join("raft");
    fs::remove_dir_all(&data).context("remove the newer database")?;
    copy(backup, &data)?;
    site.restart(node)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}

/// As if their time had come: their files are gone, and the manifest finds out.
fn forget_generations_before(state: &Path, number: u64) -> Result<()> {
    for entry in fs::read_dir(state.join("generations"))? {
        let entry = entry?;
        let is_older = entry.file_name().to_string_lossy().parse::<u64>().is_ok_and(|found| found < number);
        if is_older {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}
