//! The power of a real file system is cut right before each change that the real program makes to it; then it is mounted again, and the program must be
//! admitted and renew.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use evidence::{Evidence, Lane, Layer, Plan, Skip};
use rig::{Process, Router, RouterSettings};

use super::block_log::MUTANTS;
use super::blocks::Blocks;
use super::dice::Dice;
use super::identity::{self, Claim};
use super::image::{Image, Kind, cut_power};
use super::orders::{self, Committed, Order, Tally};
use super::sandbox::{Mounted, Need, missing};
use super::site::{Site, gather, replay};
use crate::trace::{Counted, Fault, Tracer};

/// The layer.
pub(crate) const LAYER: Layer = Layer {
    id: "power-cut",
    title: "the power of a real file system cut before every change that a renewal or an enrollment makes to it",
    lane: Lane::Waiting,
    probe,
    run: |plan| gather(plan, "power-cut", run),
};

/// File systems with a way to cut their power.
const KINDS: [Kind; 2] = [Kind::Ext4, Kind::Xfs];

fn probe() -> Vec<Skip> {
    let mut needs = vec![Need::Mounts, Need::Loop, Need::Tracing, Need::Program("xfs_io")];
    needs.extend(KINDS.map(Kind::need));
    missing(&needs)
}

/// How much is tried.
#[derive(Clone, Copy, Debug)]
struct Effort {
    /// For all cuts of one series on one file system; what is not done by then is said.
    within: Duration,
    overlay: usize,
    cuts_per_control: usize,
}

impl Effort {
    fn of(plan: &Plan) -> Self {
        if plan.is_long {
            Self { within: Duration::from_secs(1_200), overlay: usize::MAX, cuts_per_control: usize::MAX }
        } else {
            Self { within: Duration::from_secs(60), overlay: 8, cuts_per_control: 4 }
        }
    }
}

/// What one thread does, on a disk of its own: nearly all of the time goes to mounting and unmounting, which waits and computes little.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Renewals,
    /// One share of as many as there are.
    Enrollments(usize),
    Overlay,
    Mutants,
    Controls(usize),
}

/// Threads that share the enrollments, and those that share the controls, of one file system.
const SHARES: usize = 3;

impl Part {
    fn all(kind: Kind) -> Vec<Self> {
        let mut parts = vec![Self::Renewals, Self::Mutants];
        parts.extend((0..SHARES).map(Self::Enrollments));
        parts.extend((0..SHARES).map(Self::Controls));
        if kind == Kind::Xfs {
            parts.push(Self::Overlay);
        }
        parts
    }
}

fn run(plan: &Plan, evidence: &mut Evidence) -> anyhow::Result<()> {
    if !probe().is_empty() {
        return Ok(());
    }
    let site = Site::open(plan, "3g")?;
    let effort = Effort::of(plan);
    let parts: Vec<(Kind, Part)> =
        KINDS.into_iter().flat_map(|kind| Part::all(kind).into_iter().map(move |part| (kind, part))).collect();
    let looked = std::thread::scope(|scope| {
        let look = |(kind, part): (Kind, Part)| {
            let site = &site;
            (kind, part, scope.spawn(move || look_at(site, kind, part, plan, effort)))
        };
        let threads: Vec<_> = parts.into_iter().map(look).collect();
        threads.into_iter().map(|(kind, part, thread)| (kind, part, thread.join())).collect::<Vec<_>>()
    });
    let mut controls: std::collections::BTreeMap<String, (bool, Tally)> = Default::default();
    let mut ours: Vec<Series> = Vec::new();
    for (kind, part, found) in looked {
        let found = found.map_err(|_| anyhow::anyhow!("the thread for {part:?} on {} panicked", kind.name()))?;
        let found = found.with_context(|| format!("{part:?} on {}", kind.name()))?;
        for series in found.ours {
            match ours.iter_mut().find(|known| known.what == series.what && known.disk == series.disk) {
                Some(known) => known.add(series),
                None => ours.push(series),
            }
        }
        for (name, is_wrong, tally) in found.controls {
            evidence.cell(&name, format!("power cut, {}", kind.name()), tally.bad, tally.states);
            controls.entry(name).or_insert((is_wrong, Tally::default())).1.add(tally);
        }
    }
    for series in ours {
        let fault = format!("power cut, {}{}", series.disk, series.fault);
        evidence.tried(
            format!("power cuts on {} before a change that {} makes", series.disk, series.what),
            series.tally.states,
        );
        if series.wanted as u64 > series.tally.states {
            evidence.notes.push(format!(
                "On {}, {} of the {} changes that {} makes were cut before in this run, chosen by the seed.",
                series.disk, series.tally.states, series.wanted, series.what
            ));
        }
        evidence.cell("exuvia", &fault, series.tally.bad, series.tally.states);
        for failure in series.failures {
            evidence.failed(format!("{fault}, {}: {failure}", series.what), replay("power-cut", plan));
        }
    }
    for (name, (is_wrong, tally)) in controls {
        tally.control(&name, is_wrong, evidence);
    }
    Ok(())
}

/// What was seen on one disk.
#[derive(Debug, Default)]
struct Looked {
    ours: Vec<Series>,
    controls: Vec<(String, bool, Tally)>,
}

/// Cuts of one kind.
#[derive(Debug, Default)]
struct Series {
    what: &'static str,
    /// What the crash matrix adds to the fault's name.
    fault: &'static str,
    disk: String,
    /// How many changes there were to cut before.
    wanted: usize,
    tally: Tally,
    failures: Vec<String>,
}

impl Series {
    fn count(&mut self, tracer: &Tracer, outcome: Result<(), String>) {
        let when = tracer.harmed().map_or("at the end".to_owned(), |call| format!("before {call}"));
        if let Err(why) = &outcome {
            self.failures.push(format!("cut {when}: {why}"));
        }
        self.tally.count(outcome, || format!("cut {when}"));
    }

    /// Another share of the same.
    fn add(&mut self, other: Self) {
        self.wanted += other.wanted;
        self.tally.add(other.tally);
        self.failures.extend(other.failures);
    }
}

fn look_at(site: &Site, kind: Kind, part: Part, plan: &Plan, effort: Effort) -> anyhow::Result<Looked> {
    let mut looked = Looked::default();
    let mut dice = Dice::new(plan.seed, kind.name());
    let mut disk = Disk::new(site, kind, part == Part::Overlay)?;
    match part {
        Part::Renewals => looked.ours.push(renewals(site, &mut disk, usize::MAX, effort.within, &mut dice)?),
        Part::Overlay => looked.ours.push(renewals(site, &mut disk, effort.overlay, effort.within, &mut dice)?),
        Part::Enrollments(share) => {
            looked.ours.push(enrollments(site, &mut disk, share, effort.within, &mut dice)?);
        }
        Part::Mutants => {
            for (name, fault) in MUTANTS {
                let tally = mutant(site, &mut disk, &fault)?;
                looked.controls.push((name.to_owned(), true, tally));
            }
        }
        Part::Controls(share) => {
            for order in orders::all().skip(share).step_by(SHARES) {
                let tally = control(plan, &mut disk, &order, effort, &mut dice)?;
                looked.controls.push((order.about.name.to_owned(), order.is_wrong_without_power(), tally));
            }
        }
    }
    Ok(looked)
}

/// Counts the changes below a folder, and does this.
fn tracer(below: &Path, fault: Fault) -> Tracer {
    Tracer::with([below.to_owned()], fault, Counted::Changes)
}

/// A disk whose power can be cut; perhaps with an overlay on it, as containers have it.
struct Disk {
    image: Image,
    base: PathBuf,
    overlay: Option<PathBuf>,
    mounted: Vec<Mounted>,
}

impl Disk {
    fn new(site: &Site, kind: Kind, has_overlay: bool) -> anyhow::Result<Self> {
        let folder = site.folder(kind.name())?;
        let image = Image::make(kind, &folder.join("disk.img"))?;
        let overlay = has_overlay.then(|| folder.join("merged"));
        let mut disk = Self { image, base: folder.join("disk"), overlay, mounted: Vec::new() };
        disk.mount()?;
        Ok(disk)
    }

    fn name(&self) -> String {
        let name = self.image.kind().name();
        if self.overlay.is_some() { format!("overlay on {name}") } else { name.to_owned() }
    }

    /// Where the router's folder goes.
    fn at(&self) -> &Path {
        self.overlay.as_deref().unwrap_or(&self.base)
    }

    fn mount(&mut self) -> anyhow::Result<()> {
        self.mounted.push(self.image.mount(&self.base)?);
        let Some(overlay) = &self.overlay else { return Ok(()) };
        let parts = ["lower", "upper", "work"].map(|part| self.base.join(part));
        for part in &parts {
            std::fs::create_dir_all(part)?;
        }
        std::fs::File::open(&self.base)?.sync_all()?;
        let [lower, upper, work] = parts.map(|part| part.display().to_string());
        let options = format!("lowerdir={lower},upperdir={upper},workdir={work}");
        self.mounted.push(Mounted::new(Path::new("overlay"), overlay, "overlay", &options)?);
        Ok(())
    }

    /// Cuts its power, and gives it back.
    fn cut(&mut self) -> anyhow::Result<()> {
        if self.mounted.len() > 1 {
            // The disk dies beneath the overlay.
            super::image::shut_down(&self.base)?;
            self.mounted.pop().context("no overlay")?.unmount()?;
            self.mounted.pop().context("no disk")?.unmount()?;
        } else {
            cut_power(self.mounted.pop().context("no disk")?)?;
        }
        self.mount()
    }

    /// What is on it, all of it synced.
    fn save(&mut self) -> anyhow::Result<Blocks> {
        self.unmount()?;
        let saved = Blocks::read(self.image.file())?;
        self.mount()?;
        Ok(saved)
    }

    fn unmount(&mut self) -> anyhow::Result<()> {
        while let Some(mounted) = self.mounted.pop() {
            mounted.unmount()?;
        }
        Ok(())
    }

    fn restore(&mut self, saved: &Blocks) -> anyhow::Result<()> {
        self.unmount()?;
        let image = std::fs::File::options().write(true).open(self.image.file())?;
        saved.write_out(&image, self.image.kind().size_bytes())?;
        self.mount()
    }
}

/// Cuts before the changes of a start and a renewal, one after another, on one disk that lives through all of it.
fn renewals(site: &Site, disk: &mut Disk, most: usize, within: Duration, dice: &mut Dice) -> anyhow::Result<Series> {
    let name = site.name("r");
    let router = site.controller().enrolled(&name, &disk.at().join(&name))?;
    let mut series = Series { what: "a start and a renewal", disk: disk.name(), ..Series::default() };
    let mut last = 1;
    {
        // As many generations as there ever are: each renewal drops one.
        let running = router.online()?;
        for _ in 0..8 {
            last = running.renew()?;
        }
        running.kill();
    }
    let counting = tracer(disk.at(), Fault::Nothing);
    let renewed = renew(&router, &counting, "promoted")?;
    last = renewed.generation.unwrap_or(last);
    series.wanted = counting.calls().len();
    let mut numbers: Vec<usize> = (1..=series.wanted).collect();
    dice.shuffle(&mut numbers);
    numbers.truncate(most);
    let began = Instant::now();
    for number in numbers {
        if began.elapsed() > within && series.tally.states >= 20 {
            break;
        }
        let wire = tracer(disk.at(), Fault::KillBefore(number));
        let renewed = renew(&router, &wire, "promoted")?;
        disk.cut()?;
        let mut claims = vec![Claim::Promoted(last)];
        claims.extend(renewed.claims);
        let outcome = identity::check(&router.state(), &claims)
            .and_then(|()| identity::open_secret(router.folder()).map_or(Ok(()), Err));
        let judged = router.judge();
        let usable = if judged.is_usable() { Ok(()) } else { Err(judged.brief()) };
        if let rig::Verdict::Usable { renewed_to: Some(generation), .. } = judged.verdict {
            last = generation;
        }
        let is_lost = usable.is_err();
        series.count(&wire, outcome.and(usable));
        if is_lost {
            break;
        }
    }
    Ok(series)
}

/// What a start and a renewal came to.
#[derive(Debug, Default)]
struct Renewed {
    /// Promoted to.
    generation: Option<u64>,
    claims: Vec<Claim>,
}

/// Starts it under the tracer and lets it renew, as far as it gets, or up to this event; then it is dead.
fn renew(router: &Router, tracer: &Tracer, last_event: &str) -> anyhow::Result<Renewed> {
    let running = router.start_by(tracer)?;
    let online = running.log().event(rig::Mark::default(), rig::PATIENCE, &["connected"]);
    let mark = running.log().mark();
    let mut generation = None;
    // It may be dead by now.
    if online.is_some() && running.order_renewal().is_ok() {
        let last = running.log().event(mark, rig::PATIENCE, &[last_event]);
        generation = last.filter(|line| line.event() == "promoted").and_then(|line| line.generation());
    }
    running.process().kill();
    let said = running.log().since(rig::Mark::default());
    Ok(Renewed { generation, claims: said.iter().filter_map(Claim::of).collect() })
}

/// Cuts before one share of the changes of an enrollment; the same token is used again.
fn enrollments(
    site: &Site,
    disk: &mut Disk,
    share: usize,
    within: Duration,
    dice: &mut Dice,
) -> anyhow::Result<Series> {
    let mut series = Series { what: "an enrollment", fault: ", enrolling", disk: disk.name(), ..Series::default() };
    let new = |disk: &Disk| {
        let name = site.name("e");
        site.controller().created(&name, &disk.at().join(&name), &RouterSettings::default())
    };
    let counting = tracer(disk.at(), Fault::Nothing);
    new(disk)?.enroll_by(&counting)?.ok()?;
    let mut numbers: Vec<usize> = (1..=counting.calls().len()).skip(share).step_by(SHARES).collect();
    series.wanted = numbers.len();
    dice.shuffle(&mut numbers);
    let began = Instant::now();
    for number in numbers {
        if began.elapsed() > within && series.tally.states >= 4 {
            break;
        }
        let router = new(disk)?;
        std::fs::File::open(disk.at())?.sync_all()?;
        let wire = tracer(disk.at(), Fault::KillBefore(number));
        let ran = router.enroll_by(&wire)?;
        disk.cut()?;
        let claims: &[Claim] = if ran.code == Some(0) { &[Claim::Enrolled] } else { &[] };
        let outcome = identity::check(&router.state(), claims);
        series.count(&wire, outcome.and_then(|()| comes_to_life(&router)));
    }
    Ok(series)
}

/// Usable as it is, or once it was enrolled with the same token again.
fn comes_to_life(router: &Router) -> Result<(), String> {
    let judged = router.judge();
    if judged.is_usable() {
        return Ok(());
    }
    let again = router.enroll().map_err(|error| format!("{error:#}"))?;
    let after = router.judge();
    if after.is_usable() {
        return Ok(());
    }
    Err(format!(
        "{}; enrolled again with {:?} ({}): {}",
        judged.brief(),
        again.code,
        again.stderr.trim(),
        after.brief()
    ))
}

/// The real program, robbed of its syncs, loses power at the moments at which something has just left the machine.
fn mutant(site: &Site, disk: &mut Disk, fault: &Fault) -> anyhow::Result<Tally> {
    let name = site.name("m");
    let router = site.controller().enrolled(&name, &disk.at().join(&name))?;
    let saved = disk.save()?;
    let mut tally = Tally::default();
    for last_event in ["proving", "promoted", "requested", "proving", "promoted"] {
        disk.restore(&saved)?;
        let renewed = renew(&router, &tracer(disk.at(), fault.clone()), last_event)?;
        disk.cut()?;
        let mut claims = vec![Claim::Enrolled];
        claims.extend(renewed.claims);
        let outcome = identity::check(&router.state(), &claims);
        tally.count(outcome, || format!("{}, cut after `{last_event}`", disk.name()));
    }
    Ok(tally)
}

/// A write order of others, or ours with a mistake.
fn control(plan: &Plan, disk: &mut Disk, order: &Order, effort: Effort, dice: &mut Dice) -> anyhow::Result<Tally> {
    let mut tally = Tally::default();
    let folder = disk.at().join(order.about.name);
    std::fs::create_dir(&folder)?;
    put(plan, order, &folder, 1, &tracer(disk.at(), Fault::Nothing))?;
    let saved = disk.save()?;
    let counting = tracer(disk.at(), Fault::Nothing);
    put(plan, order, &folder, 2, &counting)?;
    let mut numbers: Vec<usize> = (1..=counting.calls().len()).collect();
    dice.shuffle(&mut numbers);
    // And at the end, when it says that all is done.
    numbers.insert(0, usize::MAX);
    for number in numbers {
        // A wrong one is tried until it is found out: some are wrong for the time of one change only.
        let is_found_out = tally.bad > 0 || !order.is_wrong_without_power();
        if tally.states > effort.cuts_per_control as u64 && is_found_out {
            break;
        }
        disk.restore(&saved)?;
        let mut commits = vec![1];
        commits.extend(put(plan, order, &folder, 2, &tracer(disk.at(), Fault::KillBefore(number)))?);
        disk.cut()?;
        let when = if number == usize::MAX { "at the end".to_owned() } else { format!("before change {number}") };
        tally.count(order.check(&folder, &commits), || format!("{}, cut {when}", disk.name()));
    }
    Ok(tally)
}

/// One renewal by the program `write-order`; what it committed.
fn put(plan: &Plan, order: &Order, folder: &Path, number: u64, wire: &Tracer) -> anyhow::Result<Vec<Committed>> {
    let mut command = Command::new(&plan.write_order);
    command.args(order.arguments(folder, number)).env_clear().stdin(std::process::Stdio::null());
    let (_, said, _) = Process::start(wire, command)?.finish(rig::PATIENCE)?;
    Ok(said.lines().filter_map(|line| line.strip_prefix("commit ")?.parse().ok()).collect())
}
