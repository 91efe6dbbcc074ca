//! Every disk that a power cut may leave, made from a recording: prefixes of what was written, and epochs of which only some writes arrived.

use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};

use super::blocks::Blocks;
use super::dice::Dice;
use super::image::Kind;
use super::log::{Entry, Log};
use super::sandbox::Loop;

/// Something that was claimed while the recording ran: every state that holds all of the log up to here must bear it out.
#[derive(Clone, Debug)]
pub(crate) struct Mark<C> {
    /// Size of the log when it was claimed.
    pub(crate) log_size: u64,
    /// What.
    pub(crate) claim: C,
}

/// A disk before, what it was told, and what was claimed meanwhile.
#[derive(Debug)]
pub(crate) struct Recording<C> {
    pub(crate) base: Blocks,
    pub(crate) log: Log,
    pub(crate) marks: Vec<Mark<C>>,
}

/// One state of the disk: everything before `start`, and of the entries up to `end` what `subset` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct State {
    start: usize,
    end: usize,
    subset: Subset,
}

/// Which writes of the last epoch arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subset {
    /// All, in order.
    Prefix,
    /// Some, chosen by this seed; one of them may be torn.
    Some(u64),
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.subset {
            Subset::Prefix => write!(f, "the first {} writes and flushes", self.end),
            Subset::Some(seed) => {
                write!(
                    f,
                    "the first {} writes and flushes, and of the next {} what seed {seed} chooses",
                    self.start,
                    self.end - self.start
                )
            }
        }
    }
}

impl<C> Recording<C> {
    /// States in the order in which they are best looked at: every flush boundary, then inner prefixes and subsets in turn.
    pub(crate) fn states(&self, dice: &mut Dice, most: usize) -> Vec<State> {
        let epochs = self.log.epochs();
        let mut states: Vec<State> =
            epochs.iter().map(|(start, end)| State { start: *start, end: *end, subset: Subset::Prefix }).collect();
        dice.shuffle(&mut states);
        states.truncate(most);
        let wide: Vec<_> = epochs.iter().copied().filter(|(start, end)| end - start > 1).collect();
        while states.len() < most && !wide.is_empty() {
            let Some((start, end)) = wide.get(dice.below(wide.len())).copied() else { break };
            let subset = if dice.percent(30) { Subset::Prefix } else { Subset::Some(dice.next()) };
            let end = if subset == Subset::Prefix { start + dice.below(end - start) } else { end };
            states.push(State { start, end, subset });
        }
        states
    }

    /// What must hold in a state.
    pub(crate) fn claims<'a>(&'a self, state: &State) -> Vec<&'a C> {
        let whole = match state.subset {
            Subset::Prefix => state.end,
            Subset::Some(_) => state.start,
        };
        let held = self.marks.iter().filter(|mark| self.log.entries_within(mark.log_size) <= whole);
        held.map(|mark| &mark.claim).collect()
    }
}

/// Builds states, going on from the last one where that is shorter.
#[derive(Debug)]
pub(crate) struct Builder<'a> {
    base: &'a Blocks,
    log: &'a Log,
    /// All entries before this one are in `reached`.
    next: usize,
    reached: Blocks,
}

impl<'a> Builder<'a> {
    pub(crate) fn new<C>(recording: &'a Recording<C>) -> Self {
        Self { base: &recording.base, log: &recording.log, next: 0, reached: recording.base.clone() }
    }

    fn run(&self, start: usize, end: usize) -> &'a [Entry] {
        let entries = self.log.entries();
        entries.get(start..end.min(entries.len())).unwrap_or_default()
    }

    /// What the disk holds in a state.
    pub(crate) fn build(&mut self, state: &State) -> Blocks {
        if self.next > state.start {
            self.next = 0;
            self.reached = self.base.clone();
        }
        for entry in self.run(self.next, state.start) {
            self.log.apply(entry, &mut self.reached);
        }
        self.next = state.start;
        let mut disk = self.reached.clone();
        let last = self.run(state.start, state.end);
        match state.subset {
            Subset::Prefix => last.iter().for_each(|entry| self.log.apply(entry, &mut disk)),
            Subset::Some(seed) => {
                let mut dice = Dice::new(seed, "subset");
                // Half of the time few writes are lost, or few arrive; a middle share of everything tells less.
                let share = [10, 30, 50, 70, 90].get(dice.below(5)).copied().unwrap_or(50);
                for entry in last {
                    if entry.is_forced() || dice.percent(share) {
                        self.log.apply(entry, &mut disk);
                    } else if dice.percent(10) {
                        let sectors = Log::sectors(entry);
                        let arrived = dice.below(usize::try_from(sectors).unwrap_or(0));
                        self.log.apply_torn(entry, arrived as u64, &mut disk);
                    }
                }
            }
        }
        disk
    }
}

/// A disk that is given one state after the other.
#[derive(Debug)]
pub(crate) struct Replayer {
    kind: Kind,
    image: File,
    device: Loop,
    at: PathBuf,
}

impl Replayer {
    /// Its image and its mount point are in `folder`.
    pub(crate) fn new(kind: Kind, folder: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let file = folder.join("state.img");
        let image = File::options().read(true).write(true).create(true).truncate(true).open(&file)?;
        image.set_len(kind.size_bytes())?;
        Ok(Self { kind, image, device: Loop::attach(&file)?, at: folder.join("state") })
    }

    /// Mounts the disk, looks, and unmounts it. `Ok(None)` = its file system cannot be mounted.
    pub(crate) fn look<T>(&self, disk: &Blocks, look: impl FnOnce(&Path) -> T) -> anyhow::Result<Option<T>> {
        disk.write_out(&self.image, self.kind.size_bytes())?;
        let Ok(mounted) = self.kind.mount(self.device.device(), &self.at) else { return Ok(None) };
        let seen = look(mounted.at());
        mounted.unmount()?;
        Ok(Some(seen))
    }
}
