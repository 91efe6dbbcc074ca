//! One write or flush of the disk fails under the running program; it serves on, and once the disk is well again nothing is lost.

use std::ffi::OsStr;
use std::fs::File;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use evidence::{Evidence, Lane, Layer, Plan, Skip};
use nix::mount::{MsFlags, mount};
use rig::{Router, Running};

use super::daemon::{Between, Device, FailingCall};
use super::dice::Dice;
use super::identity::{self, Claim};
use super::image::Kind;
use super::log::Log;
use super::orders::{Order, Tally};
use super::outside::{run as outside, wait_for};
use super::sandbox::{Loop, Mounted, Need, missing, tmpfs};
use super::site::{Site, gather, replay};

/// The layer.
pub(crate) const LAYER: Layer = Layer {
    id: "block-errors",
    title: "one write or flush of the disk fails under the running program",
    lane: Lane::Waiting,
    probe,
    run: |plan| gather(plan, "block-errors", run),
};

/// Longest time until a router that was disturbed is connected again.
const CALM: Duration = Duration::from_secs(60);

fn probe() -> Vec<Skip> {
    let mut needs = vec![Need::Mounts, Need::Loop, Need::Fuse, Need::Program("qemu-storage-daemon")];
    needs.extend(Kind::ALL.map(Kind::need));
    missing(&needs)
}

fn run(plan: &Plan, evidence: &mut Evidence) -> anyhow::Result<()> {
    if !probe().is_empty() {
        return Ok(());
    }
    let site = Site::open(plan, "2g")?;
    let looked = std::thread::scope(|scope| {
        let look = |kind: Kind| {
            let site = &site;
            (kind, scope.spawn(move || look_at(site, kind, plan)))
        };
        Kind::ALL.map(look).map(|(kind, thread)| (kind, thread.join()))
    });
    let mut careless = Tally::default();
    let mut careful = Tally::default();
    for (kind, found) in looked {
        let found = found.map_err(|_| anyhow::anyhow!("the thread for {} panicked", kind.name()))?;
        let found = found.with_context(|| format!("on {}", kind.name()))?;
        for (call, tally) in found.ours {
            let fault = format!("failed {}, {}", call.name(), kind.name());
            evidence.tried(
                format!("{} errors of the disk during a start and a renewal on {}", call.name(), kind.name()),
                tally.states,
            );
            evidence.cell("exuvia", &fault, tally.bad, tally.states);
        }
        for failure in found.failures {
            evidence.failed(failure, replay("block-errors", plan));
        }
        evidence.cell(
            "fsync-errors-ignored",
            format!("failed write, {}", kind.name()),
            found.careless.bad,
            found.careless.states,
        );
        if found.lost > 0 {
            evidence.notes.push(format!(
                "After {} more errors {} itself could not be mounted again; nothing that is stored on it can be judged.",
                found.lost,
                kind.name()
            ));
        }
        careless.add(found.careless);
        careful.add(found.careful);
    }
    careless.control("fsync-errors-ignored", true, evidence);
    careful.control("exuvia's store by itself", false, evidence);
    match thin(&site) {
        Ok(()) => evidence.tried("disks that ran out of room beneath their file system, and were given more", 1),
        Err(error) => evidence
            .failed(format!("disk without room beneath its file system: {error:#}"), replay("block-errors", plan)),
    }
    evidence.leave_out(
        "errors switched on and off under a mounted file system by `nbdkit`",
        "the same calls fail here one by one through `blkdebug`, which says exactly which",
    );
    Ok(())
}

#[derive(Debug, Default)]
struct Looked {
    ours: Vec<(FailingCall, Tally)>,
    failures: Vec<String>,
    /// File systems that could not be mounted after the error.
    lost: u64,
    careless: Tally,
    careful: Tally,
}

/// One file system and a router on it, which both live through all cases.
struct Bench {
    kind: Kind,
    folder: PathBuf,
    image: PathBuf,
    at: PathBuf,
}

impl Bench {
    fn new(site: &Site, kind: Kind) -> anyhow::Result<Self> {
        let folder = site.folder(kind.name())?;
        let (image, at) = (folder.join("disk.img"), folder.join("disk"));
        kind.make(&image)?;
        Ok(Self { kind, folder, image, at })
    }

    /// Makes the file system anew.
    fn renew(&self) -> anyhow::Result<()> {
        self.kind.make(&self.image)
    }

    /// Does something on the well disk. `Ok(None)` = its file system did not survive what was done to the disk.
    fn well<T>(&self, act: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<Option<T>> {
        let device = Loop::attach(&self.image)?;
        let Ok(mounted) = self.kind.mount(device.device(), &self.at) else { return Ok(None) };
        let done = act();
        mounted.unmount()?;
        done.map(Some)
    }

    /// Does something on the disk with this between it and the image. `Ok(None)` = it could not be mounted.
    fn on<T>(&self, between: &Between, act: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<Option<T>> {
        let device = Device::start(&self.image, &self.folder.join("device"), between)?;
        let Ok(mounted) = self.kind.mount(device.path(), &self.at) else {
            device.stop()?;
            return Ok(None);
        };
        let done = act();
        mounted.unmount()?;
        device.stop()?;
        done.map(Some)
    }

    /// How many flushes and writes there were each time that `act` called its argument, and at its end.
    fn count(&self, act: impl FnOnce(&mut dyn FnMut()) -> anyhow::Result<()>) -> anyhow::Result<Vec<Calls>> {
        let log = self.folder.join("writes.log");
        let mut sizes = Vec::new();
        self.on(&Between::Recorder(log.clone()), || {
            act(&mut || sizes.push(std::fs::metadata(&log).map_or(0, |found| found.len())))
        })?
        .context("a well disk cannot be mounted")?;
        let read = Log::parse(std::fs::read(&log)?)?;
        std::fs::remove_file(&log)?;
        sizes.push(u64::MAX);
        let until = |size: u64| read.entries().iter().take(read.entries_within(size));
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Ok(sizes
            .into_iter()
            .map(|size| Calls {
                flushes: number(until(size).filter(|entry| entry.is_flush()).count()),
                writes: number(until(size).filter(|entry| !entry.is_flush() && entry.is_write()).count()),
            })
            .collect())
    }
}

/// What a disk was told so far.
#[derive(Clone, Copy, Debug, Default)]
struct Calls {
    flushes: u32,
    writes: u32,
}

impl Calls {
    fn of(self, call: FailingCall) -> u32 {
        match call {
            FailingCall::Flush => self.flushes,
            FailingCall::Write => self.writes,
        }
    }
}

fn look_at(site: &Site, kind: Kind, plan: &Plan) -> anyhow::Result<Looked> {
    let mut looked = Looked::default();
    let mut dice = Dice::new(plan.seed, kind.name());
    let cases = if plan.is_long { 60 } else { 6 };
    let bench = Bench::new(site, kind)?;
    let enroll = || {
        let name = site.name("b");
        bench
            .well(|| site.controller().enrolled(&name, &bench.at.join("id")))?
            .context("a new file system cannot be mounted")
    };
    let mut router = enroll()?;
    let mut last = 1;
    let counted = bench.count(|mark| {
        mark();
        let running = router.online()?;
        last = running.renew()?;
        running.kill();
        Ok(())
    })?;
    let [mounted, all] = counted.as_slice() else { anyhow::bail!("nothing was counted") };
    for call in [FailingCall::Flush, FailingCall::Write] {
        let mut tally = Tally::default();
        for number in chosen(mounted.of(call), all.of(call), cases, &mut dice) {
            let mut claims = vec![Claim::Promoted(last)];
            let served = bench.on(&Between::Error(call, number), || serves_on(&router, &mut claims))?;
            let seen = bench.well(|| {
                let mut outcome = served.unwrap_or(Ok(())).and_then(|()| identity::check(&router.state(), &claims));
                let judged = router.judge();
                match judged.verdict {
                    rig::Verdict::Usable { renewed_to: Some(generation), .. } => last = generation,
                    _ => outcome = outcome.and(Err(judged.brief())),
                }
                Ok(outcome)
            })?;
            let Some(outcome) = seen else {
                // No write order helps against that; the next case gets a new one.
                looked.lost += 1;
                bench.renew()?;
                router = enroll()?;
                last = 1;
                continue;
            };
            if let Err(why) = &outcome {
                looked.failures.push(format!("{} {number} fails on {}: {why}", call.name(), kind.name()));
            }
            tally.count(outcome, || format!("{} {number}", call.name()));
        }
        looked.ours.push((call, tally));
    }
    looked.careless = control(&bench, "fsync-errors-ignored")?;
    looked.careful = control(&bench, "exuvia")?;
    Ok(looked)
}

/// Calls that fail, one in each case: those after the mount, all of them if there are no more than wanted.
fn chosen(mounted: u32, all: u32, cases: usize, dice: &mut Dice) -> Vec<u32> {
    let mut numbers: Vec<u32> = (mounted + 1..=all.max(mounted + 1)).collect();
    dice.shuffle(&mut numbers);
    numbers.truncate(cases);
    numbers
}

/// The router starts, and renews as far as the disk lets it. Whatever happens: the process lives, says no panic, and is connected.
fn serves_on(router: &Router, claims: &mut Vec<Claim>) -> anyhow::Result<Result<(), String>> {
    let running = router.start()?;
    let online = running.log().event(rig::Mark::default(), CALM, &["connected"]);
    if online.is_none() {
        // The disk failed while the router read it: it may say so and end, and is started again on the well disk.
        if !running.log().is_over() {
            running.process().kill();
            return Ok(Err(format!("it neither serves nor ends: {}", running.log().text())));
        }
        let ended = running.wait();
        return Ok(match ended.and_then(|status| status.code()) {
            Some(3 | 4) => Ok(()),
            _ => Err(format!("it ended with {ended:?}: {}", running.log().text())),
        });
    }
    running.try_to_renew();
    let outcome = is_calm(&running);
    let said = running.log().since(rig::Mark::default());
    claims.extend(said.iter().filter_map(Claim::of));
    let panic = running.log().panic();
    running.kill();
    Ok(outcome.and(panic.map_or(Ok(()), |line| Err(format!("it panicked: {line}")))))
}

/// Is it there, and connected?
pub(crate) fn is_calm(running: &Running) -> Result<(), String> {
    let connected = || {
        let status = running.status().ok()?;
        (status.pointer("/controllers/0/is_connected") == Some(&serde_json::Value::Bool(true))).then_some(())
    };
    wait_for("connection from a router that is served from memory", CALM, connected)
        .map_err(|error| format!("{error}: {}", running.log().text()))
}

/// Our store by itself, with and without a mistake, on a disk of which one of the last flushes before a commit fails.
fn control(bench: &Bench, name: &str) -> anyhow::Result<Tally> {
    let order = Order::find(name).with_context(|| format!("no write order `{name}`"))?;
    let folder = bench.at.join(name);
    let fresh = || {
        bench.renew()?;
        let made = bench.well(|| {
            std::fs::create_dir(&folder)?;
            Ok(File::open(&bench.at)?.sync_all()?)
        })?;
        made.context("a new file system cannot be mounted")
    };
    fresh()?;
    let counted = bench.count(|mark| {
        // An order that gives up after an error is right.
        let _ = order.perform(&folder, 3, |_| mark());
        Ok(())
    })?;
    let mut tally = Tally::default();
    let later = counted.iter().skip(1).take(2);
    for number in later.flat_map(|calls| calls.flushes.saturating_sub(4)..=calls.flushes) {
        fresh()?;
        let mut commits = Vec::new();
        bench.on(&Between::Error(FailingCall::Flush, number), || {
            let _ = order.perform(&folder, 3, |commit| commits.push(commit));
            Ok(())
        })?;
        if let Some(outcome) = bench.well(|| Ok(order.check(&folder, &commits)))? {
            tally.count(outcome, || format!("flush {number} fails on {}", bench.kind.name()));
        }
    }
    Ok(tally)
}

/// An image that promises more room than the file system beneath it has: what was written is lost long after the program was told that it
/// was taken. Then there is room, and the same process goes on.
fn thin(site: &Site) -> anyhow::Result<()> {
    let folder = site.folder("thin")?;
    let (back, image, at) = (folder.join("back"), folder.join("back/disk.img"), folder.join("disk"));
    std::fs::create_dir(&back)?;
    tmpfs(&back, "size=12m")?;
    let _back = Mounted::adopt(&back);
    File::create(&image)?.set_len(256 << 20)?;
    let options = ["-q", "-F", "-O", "^has_journal", "-E", "lazy_itable_init=1,nodiscard"].map(OsStr::new);
    outside("mkfs.ext4", options.into_iter().chain([image.as_os_str()]))?;
    let device = Loop::attach(&image)?;
    let mounted = Kind::Ext4.mount(device.device(), &at)?;
    let router = site.controller().enrolled(&site.name("thin"), &at.join("id"))?;
    let running = router.online()?;
    let big = at.join("big");
    let filled = File::create(&big).and_then(|mut file| {
        std::io::Write::write_all(&mut file, &vec![7; 16 << 20])?;
        file.sync_all()
    });
    anyhow::ensure!(filled.is_err(), "16 MiB fit into 12 MiB");
    let began = Instant::now();
    let first = running.try_to_renew();
    is_calm(&running).map_err(anyhow::Error::msg)?;
    mount(None::<&str>, &back, None::<&str>, MsFlags::MS_REMOUNT, Some("size=64m"))?;
    let _ = std::fs::remove_file(&big);
    running.renew().with_context(|| format!("after {first:?}, with room for {} ms", began.elapsed().as_millis()))?;
    running.kill();
    let judged = router.judge();
    anyhow::ensure!(judged.is_usable(), "{}", judged.brief());
    mounted.unmount()
}
