//! A disk in memory that knows the difference between *written* and *durable*.
//!
//! Every write, rename and unlink is an effect in a log. A sync moves effects into the durable image; a crash keeps the durable
//! image and a legal subset of the rest ([`CrashModel`]). Operations are numbered from 0, and any of them can be made to
//! fail ([`Fault`]). No threads, no clock, no randomness of its own; a clone is one reference count.

mod effects;
mod kernel;
mod space;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

pub use effects::CrashModel;
use effects::{Image, Ino, Node, NodeContent, ROOT};
pub use space::{Aftermath, PowerCut, Survivor};

use super::{Errno, FileSystemKind, Operation};

/// What happens to one operation instead of success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It does nothing and fails. A file sync that fails so leaves its pages clean: a later one succeeds without writing them.
    Refuse(Errno),
    /// A write that stores its first half and then fails; for anything else the same as [`Fault::Refuse`].
    Half(Errno),
    /// It takes effect and fails all the same: the answer was lost.
    DoneBut(Errno),
    /// The machine stops before it. It and everything after it fails until [`SimDisk::after_crash`].
    Crash,
}

/// A disk that is wrong in one way. Tests of the store must notice each of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mutant {
    /// File syncs answer without doing anything.
    NoFileSync,
    /// Folder syncs answer without doing anything.
    NoFolderSync,
    /// An operation that looks and is refused answers that there is nothing, as a caller does who takes one for the other.
    ErrorsLookLikeAbsence,
    /// A rename over an existing file truncates and rewrites that file; the next folder sync syncs it too.
    RenameInPlace,
}

/// How many syncs have been asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SyncCounts {
    /// Of files.
    pub files: u32,
    /// Of folders.
    pub folders: u32,
}

impl SyncCounts {
    /// All of them.
    pub fn total(self) -> u32 {
        self.files.saturating_add(self.folders)
    }
}

/// The simulated disk.
#[derive(Clone, Debug)]
pub struct SimDisk {
    image: Arc<Image>,
    /// Grows with everything that is written, synced or lost.
    revision: u64,
    /// Grows with every crash, so that handles from before it are dead.
    life: u32,
    operations: u64,
    faults: BTreeMap<u64, Fault>,
    /// From this operation on everything fails with this errno.
    dead_from: Option<(u64, Errno)>,
    is_down: bool,
    is_read_only: bool,
    capacity_bytes: Option<u64>,
    can_reserve: bool,
    can_lock: bool,
    mutants: BTreeSet<Mutant>,
    locked: BTreeSet<Ino>,
    held_elsewhere: BTreeSet<Ino>,
    syncs: SyncCounts,
    user: u32,
    journal: Option<Vec<(Operation, String)>>,
    /// The disk before each operation.
    history: Option<Vec<(u64, Arc<Image>)>>,
}

/// An open folder of a [`SimDisk`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SimFolder {
    ino: Ino,
    life: u32,
}

/// An open file of a [`SimDisk`].
#[derive(Debug)]
pub struct SimFile {
    ino: Ino,
    life: u32,
    position: usize,
    is_condemned: bool,
}

/// A lock on a folder of a [`SimDisk`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SimLock(Ino);

impl Default for SimDisk {
    fn default() -> Self {
        Self::new()
    }
}

/// Setting the scene and looking at it: none of this counts as an operation.
impl SimDisk {
    /// An empty disk.
    pub fn new() -> Self {
        Self {
            image: Arc::new(Image::new()),
            revision: 0,
            life: 0,
            operations: 0,
            faults: BTreeMap::new(),
            dead_from: None,
            is_down: false,
            is_read_only: false,
            capacity_bytes: None,
            can_reserve: true,
            can_lock: true,
            mutants: BTreeSet::new(),
            locked: BTreeSet::new(),
            held_elsewhere: BTreeSet::new(),
            syncs: SyncCounts::default(),
            user: 0,
            journal: None,
            history: None,
        }
    }

    /// An empty disk with this folder, durable.
    pub fn with_folder(path: impl AsRef<Path>) -> Self {
        let mut disk = Self::new();
        disk.put_folder(path);
        disk
    }

    /// Makes a folder and its parents, durable at once.
    pub fn put_folder(&mut self, path: impl AsRef<Path>) {
        self.put_node(path.as_ref(), None);
    }

    /// Makes or replaces a file as a whole, durable at once, as somebody else's process would.
    pub fn put_file(&mut self, path: impl AsRef<Path>, content: &[u8], mode: u32) {
        let mut node = Node::file(mode, self.user, 0);
        node.set_durable_file(content);
        self.put_node(path.as_ref(), Some(node));
    }

    /// Makes a symbolic link, durable at once.
    pub fn put_link(&mut self, path: impl AsRef<Path>, target: impl Into<PathBuf>) {
        let mut node = Node::file(0o777, self.user, 0);
        node.content = NodeContent::Link(target.into());
        self.put_node(path.as_ref(), Some(node));
    }

    fn put_node(&mut self, path: &Path, last: Option<Node>) {
        let names: Vec<&str> = normal_names(path);
        self.revision += 1;
        let image = Arc::make_mut(&mut self.image);
        let mut at = ROOT;
        for (index, name) in names.iter().enumerate() {
            let is_last = index + 1 == names.len();
            at = match (image.entry(at, name), &last) {
                (Some(ino), None) => ino,
                (Some(ino), Some(_)) if !is_last => ino,
                (_, Some(node)) if is_last => {
                    image.forget_name(at, name);
                    image.put_entry(at, name, node.clone())
                }
                (None, _) | (Some(_), Some(_)) => {
                    let inherited = image.node(at).file_system;
                    let mut node = Node::folder(0o755, self.user, 0);
                    node.file_system = inherited;
                    image.put_entry(at, name, node)
                }
            };
        }
    }

    /// Takes a name away, durable at once.
    pub fn remove(&mut self, path: impl AsRef<Path>) {
        if let Some((at, name)) = self.parent_of(path.as_ref()) {
            let image = self.image_mut();
            image.forget_name(at, &name);
            image.drop_entry(at, &name);
        }
    }

    /// What a reader sees now.
    pub fn file(&self, path: impl AsRef<Path>) -> Option<&[u8]> {
        self.image.node(self.find(path.as_ref())?).cached_file()
    }

    /// Replaces a sector of a file by zeros, in the cache and on the medium. False if there is no such sector.
    pub fn wipe(&mut self, path: impl AsRef<Path>, sector: usize) -> bool {
        match self.find(path.as_ref()) {
            Some(ino) => Arc::make_mut(&mut self.image).node_mut(ino).wipe(sector),
            None => false,
        }
    }

    /// Flips one bit of a file, in the cache and on the medium. False if there is no such byte.
    pub fn rot(&mut self, path: impl AsRef<Path>, byte: usize) -> bool {
        match self.find(path.as_ref()) {
            Some(ino) => self.image_mut().node_mut(ino).rot(byte),
            None => false,
        }
    }

    /// Visits every file that has a name: its name, its permission bits and its content, as a reader sees it now.
    pub fn for_each_file(&self, mut visit: impl FnMut(&str, u32, &[u8])) {
        let mut folders = vec![ROOT];
        while let Some(folder) = folders.pop() {
            let NodeContent::Folder { cached, .. } = &self.image.node(folder).content else { continue };
            for (name, ino) in cached {
                let node = self.image.node(*ino);
                match &node.content {
                    NodeContent::File { cached: content, .. } => visit(name, node.cached.mode, content),
                    NodeContent::Folder { .. } => folders.push(*ino),
                    NodeContent::Link(_) => {}
                }
            }
        }
    }

    /// Every path on the disk, as a reader sees it now.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.image.paths()
    }

    /// Permission bits of a path.
    pub fn mode(&self, path: impl AsRef<Path>) -> Option<u32> {
        Some(self.image.node(self.find(path.as_ref())?).cached.mode)
    }

    /// Sets owner and group, durable at once.
    pub fn set_owner(&mut self, path: impl AsRef<Path>, user: u32, group: u32) {
        self.change_node(path.as_ref(), |node| {
            for attr in [&mut node.cached, &mut node.durable] {
                (attr.user, attr.group) = (user, group);
            }
        });
    }

    /// Makes a file as unmovable as a single bind-mounted file: rename over it and unlink are `EBUSY`.
    pub fn set_bound(&mut self, path: impl AsRef<Path>, is_bound: bool) {
        self.change_node(path.as_ref(), |node| node.is_bound = is_bound);
    }

    /// Forbids (or allows again) writing into a file or changing names in a folder: `EACCES`.
    pub fn set_writable(&mut self, path: impl AsRef<Path>, is_writable: bool) {
        self.change_node(path.as_ref(), |node| node.is_writable = is_writable);
    }

    /// Says what file system a folder, and whatever is made in it later, lies on.
    pub fn set_file_system(&mut self, path: impl AsRef<Path>, kind: FileSystemKind, device: u64) {
        self.change_node(path.as_ref(), |node| node.file_system = (kind, device));
    }

    /// Turns the whole disk read-only: `EROFS`.
    pub fn set_read_only(&mut self, is_read_only: bool) {
        self.is_read_only = is_read_only;
    }

    /// Limits the room of the whole disk; `None` is without end. Every entry costs one sector, files their content or reservation.
    pub fn set_capacity(&mut self, bytes: Option<u64>) {
        self.capacity_bytes = bytes;
    }

    /// Leaves no room at all for anything new. Space that is reserved stays usable.
    pub fn fill_up(&mut self) {
        self.capacity_bytes = Some(self.image.used_bytes());
    }

    /// Gives a limited disk so much more room.
    pub fn add_room(&mut self, bytes: u64) {
        self.capacity_bytes = self.capacity_bytes.map(|capacity| capacity.saturating_add(bytes));
    }

    /// Says whether space can be reserved (`EOPNOTSUPP` if not).
    pub fn set_can_reserve(&mut self, can: bool) {
        self.can_reserve = can;
    }

    /// Says whether locks work here (`ENOLCK` if not).
    pub fn set_can_lock(&mut self, can: bool) {
        self.can_lock = can;
    }

    /// Lets another process hold, or give back, the lock on a folder.
    pub fn hold_lock_elsewhere(&mut self, path: impl AsRef<Path>, is_held: bool) {
        if let Some(ino) = self.find(path.as_ref()) {
            if is_held {
                self.held_elsewhere.insert(ino)
            } else {
                self.held_elsewhere.remove(&ino)
            };
        }
    }

    /// Works as this user from now on.
    pub fn set_user(&mut self, user: u32) {
        self.user = user;
    }

    /// Makes the disk wrong in this way from now on.
    pub fn mutate(&mut self, mutant: Mutant) {
        self.mutants.insert(mutant);
    }

    /// Lets operation number `operation` go wrong.
    pub fn fail(&mut self, operation: u64, fault: Fault) {
        self.faults.insert(operation, fault);
    }

    /// Lets every operation from this number on fail, as on a file system that has shut down. `None` heals it.
    pub fn die(&mut self, from: Option<(u64, Errno)>) {
        self.dead_from = from;
    }

    /// How many operations have begun since the start or the last crash; the next one has this number.
    pub fn operations(&self) -> u64 {
        self.operations
    }

    /// Has a [`Fault::Crash`] struck?
    pub fn is_down(&self) -> bool {
        self.is_down
    }

    /// Syncs asked for so far.
    pub fn syncs(&self) -> SyncCounts {
        self.syncs
    }

    /// Starts writing down every operation and its name.
    pub fn record(&mut self) {
        self.journal = Some(Vec::new());
    }

    /// What was written down since [`SimDisk::record`].
    pub fn recorded(&self) -> &[(Operation, String)] {
        self.journal.as_deref().unwrap_or_default()
    }

    /// Starts keeping the disk as it is before each operation, for [`SimDisk::before`].
    pub fn keep_history(&mut self) {
        self.history = Some(Vec::new());
    }

    /// The disk as it was before operation `number`, or as it is now after the last one. One run tells all crashes: whoever stops there has done
    /// the same until then. `None` beyond that, or without [`SimDisk::keep_history`].
    pub fn before(&self, number: u64) -> Option<Self> {
        let history = self.history.as_ref()?;
        let index = usize::try_from(number).ok()?;
        let image = match history.get(index) {
            Some((_, image)) => image,
            None if index == history.len() => &self.image,
            None => return None,
        };
        Some(self.reborn(Arc::clone(image)))
    }

    /// The [revision](Self::revision) that the disk had before operation `number`; `None` where [`SimDisk::before`] is.
    pub fn revision_before(&self, number: u64) -> Option<u64> {
        let history = self.history.as_ref()?;
        let index = usize::try_from(number).ok()?;
        match history.get(index) {
            Some((revision, _)) => Some(*revision),
            None => (index == history.len()).then_some(self.revision),
        }
    }

    /// Number of effects that a crash might lose.
    pub fn pending(&self) -> usize {
        self.image.pending.len()
    }

    /// A number that grows with everything that is written, synced or lost: as long as it stays, so does what any crash leaves.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The process dies and the machine lives: locks and handles go, nothing else is lost.
    #[must_use]
    pub fn after_kill(&self) -> Self {
        self.reborn(Arc::clone(&self.image))
    }

    /// The power fails: what is durable stays, and of the rest what `keep` wants and the model allows.
    ///
    /// `keep` is asked once for every pending effect, oldest first.
    #[must_use]
    pub fn after_crash(&self, model: CrashModel, keep: impl FnMut(usize) -> bool) -> Self {
        let kept = self.image.legal(model, keep);
        self.reborn(Arc::new(self.image.after_crash(&kept)))
    }

    /// The power fails, and `seed` decides what survives. The same seed gives the same disk.
    #[must_use]
    pub fn after_crash_seeded(&self, model: CrashModel, seed: u64) -> Self {
        let mut dice = effects::Dice(seed);
        self.after_crash(model, |_| dice.flip())
    }

    /// Visits disks that a power cut may leave: all of them when they are at most `most`, otherwise the telling ones (nothing lost,
    /// everything lost, one effect lost, one effect kept, every prefix) and a fixed choice of others. Answers how many.
    pub fn for_each_crash(&self, model: CrashModel, most: usize, mut visit: impl FnMut(Self)) -> usize {
        let choices = self.image.crash_choices(model, most);
        for kept in &choices {
            visit(self.reborn(Arc::new(self.image.after_crash(kept))));
        }
        choices.len()
    }

    fn reborn(&self, image: Arc<Image>) -> Self {
        Self {
            image,
            revision: self.revision + 1,
            life: self.life.wrapping_add(1),
            operations: 0,
            faults: BTreeMap::new(),
            is_down: false,
            locked: BTreeSet::new(),
            syncs: SyncCounts::default(),
            journal: None,
            history: None,
            mutants: self.mutants.clone(),
            held_elsewhere: self.held_elsewhere.clone(),
            ..*self
        }
    }

    fn image_mut(&mut self) -> &mut Image {
        self.revision += 1;
        Arc::make_mut(&mut self.image)
    }

    fn change_node(&mut self, path: &Path, change: impl FnOnce(&mut Node)) {
        if let Some(ino) = self.find(path) {
            change(self.image_mut().node_mut(ino));
        }
    }

    fn find(&self, path: &Path) -> Option<Ino> {
        normal_names(path).into_iter().try_fold(ROOT, |at, name| self.image.entry(at, name))
    }

    fn parent_of(&self, path: &Path) -> Option<(Ino, String)> {
        Some((self.find(path.parent()?)?, path.file_name()?.to_str()?.to_owned()))
    }
}

fn normal_names(path: &Path) -> Vec<&str> {
    path.components()
        .filter_map(|component| match component {
            Component::Normal(name) => name.to_str(),
            _ => None,
        })
        .collect()
}
