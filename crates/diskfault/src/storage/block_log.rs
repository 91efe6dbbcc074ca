//! Every write of the real program to a disk, recorded; then every disk that a power cut may have left, mounted and looked at.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use evidence::{Evidence, Lane, Layer, Plan, Skip};
use rig::{Direct, Mark as LogMark, Router, RouterSettings, Starter};

use super::blocks::Blocks;
use super::daemon::{Between, Device};
use super::dice::Dice;
use super::identity::{self, Claim};
use super::image::Kind;
use super::log::Log;
use super::orders::{self, Committed, Order, Tally};
use super::replay::{Builder, Mark, Recording, Replayer};
use super::sandbox::{Need, missing};
use super::site::{Site, gather, replay};
use crate::trace::{Fault, Tracer};

/// The layer.
pub(crate) const LAYER: Layer = Layer {
    id: "block-log",
    title: "every write to a disk recorded, and every disk that a power cut may leave looked at",
    lane: Lane::Waiting,
    probe,
    run: |plan| gather(plan, "block-log", run),
};

fn probe() -> Vec<Skip> {
    let mut needs = vec![Need::Mounts, Need::Loop, Need::Fuse, Need::Program("qemu-storage-daemon")];
    needs.extend(Kind::ALL.map(Kind::need));
    missing(&needs)
}

/// On so many disks of a recording the real program is started: each start may make a leaf, and a controller keeps eight older ones.
const JUDGED_PER_ROUND: u32 = 4;

/// How much is tried on each file system.
#[derive(Clone, Copy, Debug)]
struct Effort {
    /// Recordings.
    rounds: u32,
    /// In each.
    renewals: u64,
    /// Of each.
    states: usize,
    /// For the states of one.
    within: Duration,
    /// Of each control.
    control_states: usize,
}

impl Effort {
    fn of(plan: &Plan) -> Self {
        if plan.is_long {
            let within = Duration::from_secs(300);
            Self { rounds: 6, renewals: 20, states: 4_000, within, control_states: 1_000 }
        } else {
            let within = Duration::from_secs(14);
            Self { rounds: 2, renewals: 10, states: 150, within, control_states: 40 }
        }
    }
}

fn run(plan: &Plan, evidence: &mut Evidence) -> anyhow::Result<()> {
    if !probe().is_empty() {
        return Ok(());
    }
    let site = Site::open(plan, "3g")?;
    let effort = Effort::of(plan);
    let looked = std::thread::scope(|scope| {
        let threads: Vec<_> = Kind::ALL
            .map(|kind| {
                (
                    kind,
                    scope.spawn({
                        let site = &site;
                        move || look_at(site, kind, plan, effort)
                    }),
                )
            })
            .into();
        let joined = threads.into_iter().map(|(kind, thread)| (kind, thread.join()));
        joined.collect::<Vec<_>>()
    });
    let mut controls: BTreeMap<String, (bool, Tally)> = BTreeMap::new();
    for (kind, found) in looked {
        let found = found.map_err(|_| anyhow::anyhow!("the thread for {} panicked", kind.name()))?;
        let found = found.with_context(|| format!("on {}", kind.name()))?;
        found.tell(kind, plan, evidence, &mut controls);
    }
    for (name, (is_wrong, tally)) in controls {
        tally.control(&name, is_wrong, evidence);
    }
    Ok(())
}

/// What was seen on one file system.
#[derive(Debug, Default)]
struct Looked {
    ours: Tally,
    failures: Vec<String>,
    judged: u64,
    renewals: u64,
    entries: u64,
    flushes: u64,
    controls: Vec<(String, bool, Tally)>,
}

impl Looked {
    /// Looks at what a recording of the real program may have left.
    fn ours(
        &mut self,
        replayer: &Replayer,
        router: &Router,
        recording: &Recording<Claim>,
        dice: &mut Dice,
        effort: Effort,
    ) -> anyhow::Result<()> {
        let began = Instant::now();
        let mut builder = Builder::new(recording);
        // To the controller only the last states are of today: a disk from before is one that went back in time.
        let newest = Claim::Promoted(effort.renewals.saturating_sub(1));
        let mut to_judge = JUDGED_PER_ROUND;
        for (number, state) in recording.states(dice, effort.states).into_iter().enumerate() {
            if began.elapsed() > effort.within && number >= 100 {
                break;
            }
            let disk = builder.build(&state);
            let claims: Vec<Claim> = recording.claims(&state).into_iter().copied().collect();
            let is_judged = to_judge > 0 && claims.contains(&newest);
            to_judge -= u32::from(is_judged);
            let seen = replayer.look(&disk, |at| {
                let placed = at.join("id");
                identity::check(&state_below(&placed, router), &claims)?;
                if let Some(open) = identity::open_secret(at) {
                    return Err(open);
                }
                if is_judged {
                    let judged = router.at(&placed).map_err(|error| format!("{error:#}"))?.judge();
                    if !judged.is_usable() {
                        return Err(judged.brief());
                    }
                }
                Ok(())
            })?;
            self.judged += u64::from(is_judged);
            let outcome = seen.unwrap_or_else(|| Err("the file system cannot be mounted".to_owned()));
            if let Err(why) = &outcome {
                self.failures.push(format!("{state}: {why}"));
            }
            self.ours.count(outcome, || state.to_string());
        }
        Ok(())
    }

    fn tell(self, kind: Kind, plan: &Plan, evidence: &mut Evidence, controls: &mut BTreeMap<String, (bool, Tally)>) {
        let fault = format!("block log, {}", kind.name());
        let name = kind.name();
        evidence.tried(format!("renewals recorded block by block on {name}"), self.renewals);
        evidence.tried(format!("writes and flushes recorded on {name}"), self.entries);
        evidence.tried(format!("flushes among them on {name}"), self.flushes);
        evidence.tried(format!("disks looked at on {name}"), self.ours.states);
        evidence.tried(format!("disks on which the real program was started on {name}"), self.judged);
        evidence.cell("exuvia", &fault, self.ours.bad, self.ours.states);
        for failure in self.failures {
            evidence.failed(format!("{fault}: {failure}"), replay("block-log", plan));
        }
        for (order, is_wrong, tally) in self.controls {
            evidence.cell(&order, &fault, tally.bad, tally.states);
            let entry = controls.entry(order).or_insert((is_wrong, Tally::default()));
            entry.1.add(tally);
        }
    }
}

/// Where things are while one file system is recorded and looked at.
struct Bench<'a> {
    site: &'a Site,
    kind: Kind,
    folder: PathBuf,
    /// A fresh file system.
    fresh: PathBuf,
}

fn look_at(site: &Site, kind: Kind, plan: &Plan, effort: Effort) -> anyhow::Result<Looked> {
    let folder = site.folder(kind.name())?;
    let fresh = folder.join("fresh.img");
    kind.make(&fresh)?;
    let bench = Bench { site, kind, folder, fresh };
    let replayer = Replayer::new(kind, &bench.folder)?;
    let mut looked = Looked::default();
    for round in 0..effort.rounds {
        let settings = if round % 2 == 0 { RouterSettings::default() } else { RouterSettings::projected() };
        let (router, recording) = bench.record_ours(effort.renewals, &settings, None)?;
        looked.renewals += effort.renewals;
        looked.entries += recording.log.entries().len() as u64;
        looked.flushes += recording.log.entries().iter().filter(|entry| entry.is_flush()).count() as u64;
        let mut dice = Dice::new(plan.seed.wrapping_add(u64::from(round)), kind.name());
        looked.ours(&replayer, &router, &recording, &mut dice, effort)?;
    }
    for (name, fault) in MUTANTS {
        let tally = bench.look_at_mutant(&replayer, fault.clone(), plan, effort)?;
        looked.controls.push((name.to_owned(), true, tally));
    }
    for order in orders::all() {
        let tally = bench.look_at_order(&replayer, &order, plan, effort)?;
        looked.controls.push((order.about.name.to_owned(), order.is_wrong_without_power(), tally));
    }
    Ok(looked)
}

/// The real program, robbed of its syncs by a tracer.
pub(crate) const MUTANTS: [(&str, Fault); 2] =
    [("exuvia without any sync", Fault::WithoutSyncs), ("exuvia without syncs of folders", Fault::WithoutFolderSyncs)];

/// The state folder of a router whose identity lies in `folder`.
fn state_below(folder: &Path, router: &Router) -> PathBuf {
    store::identity::state_folder(&folder.join("client.pem"), None, &lifecycle::RouterId::new(router.id()))
}

impl Bench<'_> {
    /// Records what `act` does to a fresh disk.
    fn record<C>(
        &self,
        act: impl FnOnce(&Path, &mut dyn FnMut(C)) -> anyhow::Result<()>,
    ) -> anyhow::Result<Recording<C>> {
        let image = self.folder.join("disk.img");
        super::outside::copy_sparse(&self.fresh, &image)?;
        let base = Blocks::read(&image)?;
        let log = self.folder.join("writes.log");
        let device = Device::start(&image, &self.folder.join("device"), &Between::Recorder(log.clone()))?;
        let mounted = self.kind.mount(device.path(), &self.folder.join("disk"))?;
        let mut marks = Vec::new();
        let acted = act(mounted.at(), &mut |claim| {
            // Whatever was synced before the claim is in the log by now.
            let log_size = std::fs::metadata(&log).map_or(u64::MAX, |found| found.len());
            marks.push(Mark { log_size, claim });
        });
        mounted.unmount()?;
        device.stop()?;
        acted?;
        let read = Log::parse(std::fs::read(&log)?).context("the log of block writes")?;
        std::fs::remove_file(&log)?;
        std::fs::remove_file(&image)?;
        Ok(Recording { base, log: read, marks })
    }

    /// Records an enrollment and renewals of the real program.
    fn record_ours(
        &self,
        renewals: u64,
        settings: &RouterSettings,
        fault: Option<Fault>,
    ) -> anyhow::Result<(Router, Recording<Claim>)> {
        let name = self.site.name("r");
        let mut made = None;
        let recording = self.record(|at, claim| {
            let router = self.site.controller().created(&name, &at.join("id"), settings)?;
            let robbed = fault.map(|fault| Tracer::new([at.to_owned()], fault));
            let starter: &dyn Starter = match &robbed {
                Some(robbed) => robbed,
                None => &Direct,
            };
            router.enroll_by(starter)?.ok()?;
            claim(Claim::Enrolled);
            let mut running = router.start_by(starter)?;
            running.until_online()?;
            for number in 0..renewals {
                let mark = running.log().mark();
                running.order_renewal()?;
                tell(&running, mark, claim)?;
                // A restart in between: sweeping, and the manifest written once more.
                if number == renewals / 2 {
                    running.kill();
                    running = router.start_by(starter)?;
                    running.until_online()?;
                }
            }
            running.kill();
            made = Some(router);
            Ok(())
        })?;
        Ok((made.context("no router")?, recording))
    }

    fn look_at_mutant(&self, replayer: &Replayer, fault: Fault, plan: &Plan, effort: Effort) -> anyhow::Result<Tally> {
        let (router, recording) = self.record_ours(3, &RouterSettings::default(), Some(fault))?;
        self.tally(replayer, &recording, plan, effort, true, |at: &Path, claims: &[Claim]| {
            identity::check(&state_below(&at.join("id"), &router), claims)
        })
    }

    fn look_at_order(&self, replayer: &Replayer, order: &Order, plan: &Plan, effort: Effort) -> anyhow::Result<Tally> {
        let recording = self.record(|at, claim| {
            let folder = at.join("id");
            std::fs::create_dir(&folder)?;
            std::fs::File::open(at)?.sync_all()?;
            order.perform(&folder, 4, claim)
        })?;
        let is_wrong = order.is_wrong_without_power();
        self.tally(replayer, &recording, plan, effort, is_wrong, |at: &Path, commits: &[Committed]| {
            order.check(&at.join("id"), commits)
        })
    }

    fn tally<C: Copy>(
        &self,
        replayer: &Replayer,
        recording: &Recording<C>,
        plan: &Plan,
        effort: Effort,
        is_wrong: bool,
        look: impl Fn(&Path, &[C]) -> Result<(), String>,
    ) -> anyhow::Result<Tally> {
        let mut tally = Tally::default();
        let mut dice = Dice::new(plan.seed, "control");
        let mut builder = Builder::new(recording);
        for state in recording.states(&mut dice, effort.control_states * 3) {
            // A wrong one is looked at until it is found out.
            if tally.states >= effort.control_states as u64 && (tally.bad > 0 || !is_wrong) {
                break;
            }
            let claims: Vec<C> = recording.claims(&state).into_iter().copied().collect();
            let disk = builder.build(&state);
            let seen = replayer.look(&disk, |at| look(at, &claims))?;
            let outcome = seen.unwrap_or_else(|| Err("the file system cannot be mounted".to_owned()));
            tally.count(outcome, || format!("{}: {state}", self.kind.name()));
        }
        Ok(tally)
    }
}

/// Hands on what a renewal claims, each at its moment, until it is over.
fn tell(running: &rig::Running, mark: LogMark, claim: &mut dyn FnMut(Claim)) -> anyhow::Result<()> {
    let mut seen = 0;
    let over = running.log().wait(mark, rig::PATIENCE, |line| {
        let found = Claim::of(line);
        if let Some(found) = found {
            seen += 1;
            claim(found);
        }
        matches!(found, Some(Claim::Promoted(_))).then_some(())
    });
    over.with_context(|| format!("a renewal came to no end after {seen} steps:\n{}", running.log().text()))
}
