//! Every disk that a power cut may leave, counted and told apart without being built.
//!
//! What waits for a sync falls into parts, one for each file or folder. Under the weakest model parts survive independently, so the disks are
//! all combinations of what each part may become; under a journal there is one such set of combinations for each prefix of the journal.
//! Two disks with the same names, contents and modes have the same [`Aftermath`] fingerprint, whatever their inodes are called.

use std::collections::{BTreeSet, HashSet};
use std::rc::Rc;
use std::sync::Arc;

use super::SimDisk;
use super::effects::{Change, CrashModel, Dice, Effect, Image, Ino, Node, NodeContent, ROOT, SECTOR_BYTES};

/// Most ways in which one file or folder is tried exhaustively.
const WAYS_MAX: usize = 4096;
const NO_PART: u16 = u16::MAX;

/// How a power cut is modelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PowerCut {
    /// Which subsets of unsynced effects may survive.
    pub model: CrashModel,
    /// May a sector that was being written be half old, half new?
    pub tears_sectors: bool,
}

/// What may become of a disk when the power fails now.
#[derive(Debug)]
pub struct Aftermath {
    disk: SimDisk,
    sets: Vec<Vec<Rc<Part>>>,
    /// Fingerprints of what nothing waits for, by inode; `None` for folders with something pending below them.
    settled: Vec<Option<u64>>,
    is_exhaustive: bool,
}

/// One of the disks.
#[derive(Debug)]
pub struct Survivor<'a> {
    aftermath: &'a Aftermath,
    set: &'a [Rc<Part>],
    choice: &'a [usize],
    /// Same names, contents and modes, same number.
    pub fingerprint: u64,
}

impl Survivor<'_> {
    /// Builds the disk.
    pub fn disk(&self) -> SimDisk {
        let mut image = Image::clone(&self.aftermath.disk.image);
        image.pending.clear();
        for (part, chosen) in self.set.iter().zip(self.choice) {
            if let Some(way) = part.ways.get(*chosen) {
                image.put_node(part.ino, Arc::clone(&way.node));
            }
        }
        image.forget_unreachable();
        self.aftermath.disk.reborn(Arc::new(image))
    }
}

/// One file or folder and what it may become.
#[derive(Debug)]
struct Part {
    ino: Ino,
    ways: Vec<Way>,
    /// The way in which everything survives. Nothing survives in the first.
    whole: usize,
}

#[derive(Debug)]
struct Way {
    node: Arc<Node>,
    own: u64,
    entries: Vec<(u64, Ino)>,
}

impl SimDisk {
    /// What may become of the disk when the power fails now.
    pub fn aftermath(&self, cut: PowerCut) -> Aftermath {
        let image = &self.image;
        let mut owners: Vec<Ino> = Vec::new();
        for effect in &image.pending {
            if !owners.contains(&effect.change.owner()) {
                owners.push(effect.change.owner());
            }
        }
        let mut is_exhaustive = true;
        let mut part = |ino: Ino, journal: Option<usize>| -> Rc<Part> {
            let (part, is_whole) = part_of(image, ino, cut, journal);
            is_exhaustive &= is_whole;
            Rc::new(part)
        };
        let sets = match cut.model {
            CrashModel::Weakest => vec![owners.iter().map(|ino| part(*ino, None)).collect()],
            CrashModel::Journalled => {
                let length = image.pending.iter().filter(|effect| effect.change.is_journalled()).count();
                let has_journal = |ino: Ino| {
                    image.pending.iter().any(|effect| effect.change.owner() == ino && effect.change.is_journalled())
                };
                let steady: Vec<Option<Rc<Part>>> =
                    owners.iter().map(|ino| (!has_journal(*ino)).then(|| part(*ino, Some(0)))).collect();
                (0..=length)
                    .map(|prefix| {
                        let parts = owners.iter().zip(&steady);
                        parts.map(|(ino, known)| known.clone().unwrap_or_else(|| part(*ino, Some(prefix)))).collect()
                    })
                    .collect()
            }
        };
        let mut aftermath = Aftermath { disk: self.clone(), sets, settled: Vec::new(), is_exhaustive };
        aftermath.settled = vec![None; image.end()];
        aftermath.settle(ROOT, &owners);
        // What lost its name may get it back from a part.
        for ino in image.numbers() {
            aftermath.settle(ino, &owners);
        }
        aftermath
    }
}

impl Aftermath {
    /// How many disks there are, counting combinations; at most `u64::MAX`.
    pub fn count(&self) -> u64 {
        let of_set =
            |set: &Vec<Rc<Part>>| set.iter().fold(1_u64, |all, part| all.saturating_mul(part.ways.len() as u64));
        self.sets.iter().map(of_set).fold(0, u64::saturating_add)
    }

    /// Visits the disks: all of them when they are at most `most`, otherwise the telling ones (nothing lost, everything lost, all but one part
    /// lost or kept) and a choice by `seed`, at most `most` in all, none twice. Answers how many, and whether they were all.
    pub fn visit(&self, most: usize, seed: u64, mut visit: impl FnMut(&Survivor<'_>)) -> (u64, bool) {
        if self.count() <= most as u64 {
            let mut visited = 0;
            for set in &self.sets {
                let view = View::new(self, set);
                let mut choice = vec![0; set.len()];
                loop {
                    visit(&view.survivor(&choice));
                    visited += 1;
                    if !step(set, &mut choice) {
                        break;
                    }
                }
            }
            return (visited, self.is_exhaustive);
        }
        let mut visited = 0;
        let mut dice = Dice(seed);
        let share = most / self.sets.len().max(1);
        for set in &self.sets {
            let view = View::new(self, set);
            let mut seen: HashSet<Vec<usize>> = HashSet::new();
            let lost = vec![0; set.len()];
            let whole: Vec<usize> = set.iter().map(|part| part.whole).collect();
            let mut choices = vec![lost.clone(), whole.clone()];
            for (index, part) in set.iter().enumerate() {
                for way in 0..part.ways.len() {
                    for base in [&lost, &whole] {
                        let mut choice = base.clone();
                        if let Some(at) = choice.get_mut(index) {
                            *at = way;
                        }
                        choices.push(choice);
                    }
                }
            }
            choices.truncate(share.max(2));
            let room = share.saturating_sub(choices.len());
            choices.extend((0..room).map(|_| set.iter().map(|part| dice.below(part.ways.len())).collect()));
            for choice in choices {
                if !seen.contains(&choice) {
                    visit(&view.survivor(&choice));
                    visited += 1;
                    seen.insert(choice);
                }
            }
        }
        (visited, false)
    }

    /// Works out the fingerprint of a subtree in which nothing is pending.
    fn settle(&mut self, ino: Ino, owners: &[Ino]) -> Option<u64> {
        if owners.contains(&ino) {
            return None;
        }
        if let Some(known) = self.settled.get(ino).copied().flatten() {
            return Some(known);
        }
        let (own, entries) = fingerprint(self.disk.image.node(ino));
        let mut whole = Some(own);
        for (name, child) in entries {
            let below = self.settle(child, owners);
            whole = whole.zip(below).map(|(so_far, below)| mix(mix(so_far, name), below));
        }
        if let Some(slot) = self.settled.get_mut(ino) {
            *slot = whole;
        }
        whole
    }
}

/// One set with what is looked up for every choice.
struct View<'a> {
    aftermath: &'a Aftermath,
    set: &'a [Rc<Part>],
    part_of: Vec<u16>,
}

impl<'a> View<'a> {
    fn new(aftermath: &'a Aftermath, set: &'a [Rc<Part>]) -> Self {
        let mut part_of = vec![NO_PART; aftermath.settled.len()];
        for (index, part) in set.iter().enumerate() {
            if let (Some(slot), Ok(index)) = (part_of.get_mut(part.ino), u16::try_from(index)) {
                *slot = index;
            }
        }
        Self { aftermath, set, part_of }
    }

    fn survivor<'b>(&'b self, choice: &'b [usize]) -> Survivor<'b> {
        Survivor { aftermath: self.aftermath, set: self.set, choice, fingerprint: self.of(ROOT, choice) }
    }

    fn of(&self, ino: Ino, choice: &[usize]) -> u64 {
        if let Some(Some(known)) = self.aftermath.settled.get(ino) {
            return *known;
        }
        let index = usize::from(self.part_of.get(ino).copied().unwrap_or(NO_PART));
        let chosen = self.set.get(index).zip(choice.get(index)).and_then(|(part, way)| part.ways.get(*way));
        let fold = |own, entries: &[(u64, Ino)]| {
            entries.iter().fold(own, |all, (name, child)| mix(mix(all, *name), self.of(*child, choice)))
        };
        match chosen {
            Some(way) => fold(way.own, &way.entries),
            None => {
                let (own, entries) = fingerprint(self.aftermath.disk.image.node(ino));
                fold(own, &entries)
            }
        }
    }
}

/// The next choice; `false` after the last.
fn step(set: &[Rc<Part>], choice: &mut [usize]) -> bool {
    for (part, at) in set.iter().zip(choice) {
        *at += 1;
        if *at < part.ways.len() {
            return true;
        }
        *at = 0;
    }
    false
}

/// What a node that things wait for may become. `journal` = so many journalled effects of the whole disk survive, and no later one.
fn part_of(image: &Image, ino: Ino, cut: PowerCut, journal: Option<usize>) -> (Part, bool) {
    let mut journalled = 0;
    let mut forced: Vec<(&Change, Option<bool>)> = Vec::new();
    for Effect { change, .. } in &image.pending {
        let place = journalled;
        journalled += usize::from(change.is_journalled());
        if change.owner() == ino {
            forced.push((change, journal.filter(|_| change.is_journalled()).map(|prefix| place < prefix)));
        }
    }
    let options = |change: &Change, forced: Option<bool>| match forced {
        Some(is_kept) => vec![if is_kept { Fate::Kept } else { Fate::Lost }],
        None if cut.tears_sectors && matches!(change, Change::Data { bytes, .. } if bytes.len() > SECTOR_BYTES / 2) => {
            vec![Fate::Lost, Fate::Torn, Fate::Kept]
        }
        None => vec![Fate::Lost, Fate::Kept],
    };
    let options: Vec<Vec<Fate>> = forced.iter().map(|(change, forced)| options(change, *forced)).collect();
    let changes: Vec<&Change> = forced.iter().map(|(change, _)| *change).collect();
    let combinations = options.iter().fold(1_usize, |all, options| all.saturating_mul(options.len()));
    let is_whole = combinations <= WAYS_MAX;
    let mut ways: Vec<Way> = Vec::new();
    let mut seen: HashSet<u64> = HashSet::new();
    let mut whole = 0;
    let mut add = |fates: &[Fate], is_all: bool| {
        let way = way_of(image, ino, &changes, &legal(&changes, fates));
        let full = way.entries.iter().fold(way.own, |all, (name, child)| mix(mix(all, *name), *child as u64));
        if seen.insert(full) {
            ways.push(way);
        }
        if is_all {
            // Everything kept is the last to be tried, so a way that equals it is found by its fingerprint.
            whole = ways
                .iter()
                .position(|way| {
                    way.entries.iter().fold(way.own, |all, (name, child)| mix(mix(all, *name), *child as u64)) == full
                })
                .unwrap_or(0);
        }
    };
    let last: Vec<Fate> = options.iter().map(|options| options.last().copied().unwrap_or(Fate::Lost)).collect();
    let first: Vec<Fate> = options.iter().map(|options| options.first().copied().unwrap_or(Fate::Lost)).collect();
    if is_whole {
        let mut digits = vec![0_usize; options.len()];
        loop {
            let fates: Vec<Fate> = options
                .iter()
                .zip(&digits)
                .map(|(options, digit)| options.get(*digit).copied().unwrap_or(Fate::Lost))
                .collect();
            add(&fates, false);
            let mut is_more = false;
            for (options, digit) in options.iter().zip(&mut digits) {
                *digit += 1;
                if *digit < options.len() {
                    is_more = true;
                    break;
                }
                *digit = 0;
            }
            if !is_more {
                break;
            }
        }
    } else {
        add(&first, false);
        for index in 0..options.len() {
            let (mut one_kept, mut one_lost, mut prefix) = (first.clone(), last.clone(), first.clone());
            if let (Some(kept), Some(lost)) = (last.get(index), first.get(index)) {
                one_kept.iter_mut().skip(index).take(1).for_each(|fate| *fate = *kept);
                one_lost.iter_mut().skip(index).take(1).for_each(|fate| *fate = *lost);
            }
            prefix.iter_mut().zip(&last).take(index + 1).for_each(|(fate, kept)| *fate = *kept);
            for fates in [one_kept, one_lost, prefix] {
                add(&fates, false);
            }
        }
        let mut dice = Dice(options.len() as u64);
        for _ in 0..WAYS_MAX / 4 {
            let fates: Vec<Fate> = options
                .iter()
                .map(|options| options.get(dice.below(options.len())).copied().unwrap_or(Fate::Lost))
                .collect();
            add(&fates, false);
        }
    }
    add(&last, true);
    (Part { ino, ways, whole }, is_whole)
}

/// What becomes of one effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Lost,
    /// The first half of the sector is new.
    Torn,
    Kept,
}

/// The wish, cut down to what is legal: an effect on a name needs the earlier ones on it.
fn legal(changes: &[&Change], wish: &[Fate]) -> Vec<Fate> {
    let mut cut_names: BTreeSet<&str> = BTreeSet::new();
    let fates = changes.iter().zip(wish).map(|(change, wish)| {
        let is_cut = change.names().into_iter().flatten().any(|name| cut_names.contains(&**name));
        if is_cut || *wish == Fate::Lost {
            cut_names.extend(change.names().into_iter().flatten().map(|name| &**name));
            return Fate::Lost;
        }
        *wish
    });
    fates.collect()
}

fn way_of(image: &Image, ino: Ino, changes: &[&Change], fates: &[Fate]) -> Way {
    let mut node = image.node(ino).clone();
    for (change, fate) in changes.iter().zip(fates) {
        match (fate, change) {
            (Fate::Lost, _) => {}
            (Fate::Torn, Change::Data { ino, sector, bytes }) => {
                let half = bytes.get(..SECTOR_BYTES / 2).unwrap_or(bytes);
                node.apply(&Change::Data { ino: *ino, sector: *sector, bytes: half.into() });
            }
            (Fate::Torn | Fate::Kept, _) => node.apply(change),
        }
    }
    node.settle();
    let (own, entries) = fingerprint(&node);
    Way { node: Arc::new(node), own, entries }
}

/// A node by itself, and the names in it.
fn fingerprint(node: &Node) -> (u64, Vec<(u64, Ino)>) {
    let attr = node.cached;
    let flags = u64::from(node.is_bound) | u64::from(node.is_writable) << 1 | u64::from(attr.mode) << 2;
    let owner = u64::from(attr.user) << 32 | u64::from(attr.group);
    let own = mix(mix(flags, owner), node.file_system.1);
    match &node.content {
        NodeContent::File { cached, .. } => (mix(own, of_bytes(cached)), Vec::new()),
        NodeContent::Folder { cached, .. } => {
            let entries = cached.iter().map(|(name, ino)| (of_bytes(name.as_bytes()), *ino));
            (mix(own, 0xF0), entries.collect())
        }
        NodeContent::Link(target) => {
            (mix(own, of_bytes(target.as_os_str().as_encoded_bytes())).wrapping_add(1), Vec::new())
        }
    }
}

fn of_bytes(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let hash = words.iter().fold(bytes.len() as u64, |hash, word| mix(hash, u64::from_le_bytes(*word)));
    let mut last = [0; 8];
    last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
    mix(hash, u64::from_le_bytes(last))
}

/// One multiplication of 64 bits by 64, both halves folded.
fn mix(hash: u64, word: u64) -> u64 {
    let product = u128::from(hash ^ 0x9e37_79b9_7f4a_7c15) * u128::from(word ^ 0xd1b5_4a32_d192_ed03);
    #[expect(clippy::cast_possible_truncation, reason = "both halves are wanted")]
    let folded = (product as u64) ^ ((product >> 64) as u64);
    folded.rotate_left(23).wrapping_add(word)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

    use std::collections::BTreeMap;
    use std::path::Path;

    use super::super::super::Disk;
    use super::*;

    /// A file being replaced without any sync, beside one that was.
    fn pending() -> SimDisk {
        let mut disk = SimDisk::with_folder("/d");
        disk.put_file("/d/old", b"old content", 0o600);
        let at = disk.open_root(Path::new("/d")).unwrap();
        let mut file = disk.create(&at, "new", 0o600).unwrap();
        disk.write(&mut file, &[7; 700]).unwrap();
        disk.rename(&at, "new", "old").unwrap();
        disk
    }

    type Contents = Vec<(String, Option<Vec<u8>>)>;

    fn contents(disk: &SimDisk) -> Contents {
        disk.paths().iter().map(|path| (path.display().to_string(), disk.file(path).map(<[u8]>::to_vec))).collect()
    }

    #[test]
    fn both_ways_of_enumerating_leave_the_same_disks() {
        for model in [CrashModel::Weakest, CrashModel::Journalled] {
            let mut one_by_one = BTreeSet::new();
            pending().for_each_crash(model, 1 << 10, |disk| {
                one_by_one.insert(contents(&disk));
            });
            let mut by_parts = BTreeSet::new();
            let cut = PowerCut { model, tears_sectors: false };
            let (_, is_all) = pending().aftermath(cut).visit(1 << 10, 0, |survivor| {
                by_parts.insert(contents(&survivor.disk()));
            });
            assert!(is_all);
            assert_eq!(one_by_one, by_parts, "{model:?}");
        }
    }

    #[test]
    fn disks_have_the_same_fingerprint_exactly_when_they_look_the_same() {
        let mut seen: BTreeMap<u64, Contents> = BTreeMap::new();
        let cut = PowerCut { model: CrashModel::Weakest, tears_sectors: true };
        pending().aftermath(cut).visit(1 << 10, 0, |survivor| {
            let found = contents(&survivor.disk());
            let known = seen.entry(survivor.fingerprint).or_insert_with(|| found.clone());
            assert_eq!(*known, found);
        });
        let distinct: BTreeSet<_> = seen.values().collect();
        assert_eq!(distinct.len(), seen.len());
    }

    #[test]
    fn a_sample_is_no_larger_than_asked_and_holds_the_extremes() {
        let cut = PowerCut { model: CrashModel::Weakest, tears_sectors: false };
        let aftermath = pending().aftermath(cut);
        let mut found = BTreeSet::new();
        let (visited, is_all) = aftermath.visit(6, 1, |survivor| {
            found.insert(contents(&survivor.disk()));
        });
        assert!(visited <= 6 && !is_all && aftermath.count() > 6);
        for keep in [true, false] {
            assert!(found.contains(&contents(&pending().after_crash(CrashModel::Weakest, |_| keep))));
        }
    }
}
