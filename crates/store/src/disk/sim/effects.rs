//! What is written, what is durable, and which mixtures of both a power cut may leave.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use super::super::FileSystemKind;

/// The unit that a power cut writes as a whole or not at all.
pub(super) const SECTOR_BYTES: usize = 512;

/// Subsets are enumerated as bit masks up to this many pending effects.
const MASK_BITS: usize = 24;

/// Which subsets of unsynced effects may survive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashModel {
    /// The least that POSIX promises: any subset in which an effect on a name has the earlier effects on that name before it.
    /// Code must pass this one.
    Weakest,
    /// Journalled metadata: names and attributes survive as a prefix of history, data and sizes freely. Explains real failures.
    Journalled,
}

pub(super) type Ino = usize;

/// The folder that everything lies in.
pub(super) const ROOT: Ino = 0;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Attr {
    pub(super) mode: u32,
    pub(super) user: u32,
    pub(super) group: u32,
}

#[derive(Clone, Debug)]
pub(super) enum NodeContent {
    File { cached: Vec<u8>, durable: Vec<u8>, durable_size: usize },
    Folder { cached: BTreeMap<Arc<str>, Ino>, durable: BTreeMap<Arc<str>, Ino> },
    Link(PathBuf),
}

#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) content: NodeContent,
    pub(super) cached: Attr,
    pub(super) durable: Attr,
    pub(super) reserved_bytes: u64,
    pub(super) is_bound: bool,
    pub(super) is_writable: bool,
    pub(super) file_system: (FileSystemKind, u64),
}

impl Node {
    fn new(content: NodeContent, mode: u32, user: u32, group: u32) -> Self {
        let attr = Attr { mode, user, group };
        let file_system = (FileSystemKind::Durable, 1);
        Self {
            content,
            cached: attr,
            durable: attr,
            reserved_bytes: 0,
            is_bound: false,
            is_writable: true,
            file_system,
        }
    }

    pub(super) fn file(mode: u32, user: u32, group: u32) -> Self {
        let content = NodeContent::File { cached: Vec::new(), durable: Vec::new(), durable_size: 0 };
        Self::new(content, mode, user, group)
    }

    pub(super) fn folder(mode: u32, user: u32, group: u32) -> Self {
        Self::new(NodeContent::Folder { cached: BTreeMap::new(), durable: BTreeMap::new() }, mode, user, group)
    }

    pub(super) fn is_folder(&self) -> bool {
        matches!(self.content, NodeContent::Folder { .. })
    }

    pub(super) fn cached_file(&self) -> Option<&[u8]> {
        if let NodeContent::File { cached, .. } = &self.content { Some(cached) } else { None }
    }

    pub(super) fn set_durable_file(&mut self, bytes: &[u8]) {
        self.content = NodeContent::File { cached: bytes.to_vec(), durable: bytes.to_vec(), durable_size: bytes.len() };
    }

    pub(super) fn rot(&mut self, byte: usize) -> bool {
        let NodeContent::File { cached, durable, .. } = &mut self.content else { return false };
        let mut has_rotted = false;
        for content in [cached, durable] {
            if let Some(byte) = content.get_mut(byte) {
                *byte ^= 1;
                has_rotted = true;
            }
        }
        has_rotted
    }

    pub(super) fn wipe(&mut self, sector: usize) -> bool {
        let NodeContent::File { cached, durable, .. } = &mut self.content else { return false };
        let mut is_there = false;
        for content in [cached, durable] {
            for byte in content.iter_mut().skip(sector * SECTOR_BYTES).take(SECTOR_BYTES) {
                *byte = 0;
                is_there = true;
            }
        }
        is_there
    }

    fn allocated_bytes(&self) -> u64 {
        let content = self.cached_file().map_or(0, |content| content.len() as u64);
        content.max(self.reserved_bytes).next_multiple_of(SECTOR_BYTES as u64)
    }

    /// How many bytes can be written from `position` on when this much is free.
    pub(super) fn room_for(&self, position: usize, free_bytes: u64) -> usize {
        let end = self.allocated_bytes().saturating_add(free_bytes - free_bytes % SECTOR_BYTES as u64);
        usize::try_from(end).unwrap_or(usize::MAX).saturating_sub(position)
    }

    /// What a reader finds after the power came back.
    pub(super) fn settle(&mut self) {
        self.cached = self.durable;
        match &mut self.content {
            NodeContent::File { cached, durable, durable_size } => {
                durable.resize(*durable_size, 0);
                cached.clone_from(durable);
                self.reserved_bytes = 0;
            }
            NodeContent::Folder { cached, durable } => cached.clone_from(durable),
            NodeContent::Link(_) => {}
        }
    }

    pub(super) fn apply(&mut self, change: &Change) {
        match (change, &mut self.content) {
            (Change::Data { sector, bytes, .. }, NodeContent::File { durable, .. }) => {
                let start = sector * SECTOR_BYTES;
                if durable.len() < start + bytes.len() {
                    durable.resize(start + bytes.len(), 0);
                }
                if let Some(target) = durable.get_mut(start..start + bytes.len()) {
                    target.copy_from_slice(bytes);
                }
            }
            (Change::Size { size, .. }, NodeContent::File { durable, durable_size, .. }) => {
                *durable_size = *size;
                durable.truncate(*size);
            }
            (Change::Attr { attr, .. }, _) => self.durable = *attr,
            (Change::Link { name, ino, .. }, NodeContent::Folder { durable, .. }) => {
                durable.insert(Arc::clone(name), *ino);
            }
            (Change::Unlink { name, .. }, NodeContent::Folder { durable, .. }) => {
                durable.remove(name);
            }
            (Change::Move { from, to, ino, .. }, NodeContent::Folder { durable, .. }) => {
                durable.remove(from);
                durable.insert(Arc::clone(to), *ino);
            }
            // A change is made for the kind of node that it names.
            _ => {}
        }
    }
}

/// One thing that a sync would make durable.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Data { ino: Ino, sector: usize, bytes: Arc<[u8]> },
    Size { ino: Ino, size: usize },
    Attr { ino: Ino, attr: Attr },
    Link { folder: Ino, name: Arc<str>, ino: Ino },
    Unlink { folder: Ino, name: Arc<str> },
    Move { folder: Ino, from: Arc<str>, to: Arc<str>, ino: Ino },
}

impl Change {
    /// The node that has to be synced for it.
    pub(super) fn owner(&self) -> Ino {
        match self {
            Self::Data { ino, .. } | Self::Size { ino, .. } | Self::Attr { ino, .. } => *ino,
            Self::Link { folder, .. } | Self::Unlink { folder, .. } | Self::Move { folder, .. } => *folder,
        }
    }

    pub(super) fn names(&self) -> [Option<&Arc<str>>; 2] {
        match self {
            Self::Link { name, .. } | Self::Unlink { name, .. } => [Some(name), None],
            Self::Move { from, to, .. } => [Some(from), Some(to)],
            Self::Data { .. } | Self::Size { .. } | Self::Attr { .. } => [None, None],
        }
    }

    pub(super) fn is_journalled(&self) -> bool {
        !matches!(self, Self::Data { .. } | Self::Size { .. })
    }

    /// Does this later change leave nothing of `earlier`?
    fn supersedes(&self, earlier: &Self) -> bool {
        match (self, earlier) {
            (Self::Data { ino, sector, .. }, Self::Data { ino: i, sector: s, .. }) => (ino, sector) == (i, s),
            (Self::Size { ino, .. }, Self::Size { ino: i, .. })
            | (Self::Attr { ino, .. }, Self::Attr { ino: i, .. }) => ino == i,
            _ => {
                self.owner() == earlier.owner()
                    && self.names().iter().flatten().any(|name| earlier.names().iter().flatten().any(|n| n == name))
            }
        }
    }
}

/// A change that waits for a sync.
#[derive(Clone, Debug)]
pub(super) struct Effect {
    pub(super) change: Change,
    /// A sync of it failed: the medium may have it or not, and no later sync will write it.
    is_lost: bool,
}

/// The whole disk: cache, medium, and what lies between them.
#[derive(Clone, Debug)]
pub(super) struct Image {
    /// By number, ascending; what nobody can reach any more is left out.
    nodes: Vec<(Ino, Arc<Node>)>,
    next_ino: Ino,
    /// What a handle to a node sees whose last name is gone for good.
    nowhere: Arc<Node>,
    pub(super) pending: Vec<Effect>,
}

impl Image {
    pub(super) fn new() -> Self {
        Self {
            nodes: vec![(ROOT, Arc::new(Node::folder(0o755, 0, 0)))],
            next_ino: ROOT + 1,
            nowhere: Arc::new(Node::file(0, 0, 0)),
            pending: Vec::new(),
        }
    }

    fn place(&self, ino: Ino) -> Result<usize, usize> {
        self.nodes.binary_search_by_key(&ino, |(ino, _)| *ino)
    }

    pub(super) fn node(&self, ino: Ino) -> &Node {
        self.place(ino).ok().and_then(|at| self.nodes.get(at)).map_or(&self.nowhere, |(_, node)| node)
    }

    #[expect(clippy::indexing_slicing, reason = "the place was found or made just before")]
    pub(super) fn node_mut(&mut self, ino: Ino) -> &mut Node {
        let at = self.place(ino).unwrap_or_else(|at| {
            self.nodes.insert(at, (ino, Arc::clone(&self.nowhere)));
            at
        });
        Arc::make_mut(&mut self.nodes[at].1)
    }

    pub(super) fn put_node(&mut self, ino: Ino, node: Arc<Node>) {
        match self.place(ino) {
            Ok(at) => self.nodes.iter_mut().skip(at).take(1).for_each(|(_, old)| *old = Arc::clone(&node)),
            Err(at) => self.nodes.insert(at, (ino, node)),
        }
    }

    /// Numbers of nodes are smaller than this.
    pub(super) fn end(&self) -> Ino {
        self.next_ino
    }

    pub(super) fn numbers(&self) -> Vec<Ino> {
        self.nodes.iter().map(|(ino, _)| *ino).collect()
    }

    fn push(&mut self, node: Node) -> Ino {
        let ino = self.next_ino;
        self.next_ino += 1;
        self.nodes.push((ino, Arc::new(node)));
        ino
    }

    /// Drops the nodes that no name leads to, whatever a crash leaves, and what still waits for a sync of them: nobody can ever see it.
    pub(super) fn forget_unreachable(&mut self) {
        let mut seen: BTreeSet<Ino> = BTreeSet::new();
        let mut stack = vec![ROOT];
        while let Some(ino) = stack.pop() {
            if !seen.insert(ino) {
                continue;
            }
            if let NodeContent::Folder { cached, durable } = &self.node(ino).content {
                stack.extend(cached.values().chain(durable.values()));
                stack.extend(self.pending.iter().filter_map(|effect| match effect.change {
                    Change::Link { folder, ino: child, .. } | Change::Move { folder, ino: child, .. } => {
                        (folder == ino).then_some(child)
                    }
                    _ => None,
                }));
            }
        }
        if seen.len() < self.nodes.len() {
            self.nodes.retain(|(ino, _)| seen.contains(ino));
            self.pending.retain(|effect| seen.contains(&effect.change.owner()));
        }
    }

    pub(super) fn entry(&self, folder: Ino, name: &str) -> Option<Ino> {
        match &self.node(folder).content {
            NodeContent::Folder { cached, .. } => cached.get(name).copied(),
            _ => None,
        }
    }

    fn cached_names(&mut self, folder: Ino) -> Option<&mut BTreeMap<Arc<str>, Ino>> {
        match &mut self.node_mut(folder).content {
            NodeContent::Folder { cached, .. } => Some(cached),
            _ => None,
        }
    }

    fn note(&mut self, change: Change) {
        self.pending.push(Effect { change, is_lost: false });
    }

    pub(super) fn put_entry(&mut self, folder: Ino, name: &str, node: Node) -> Ino {
        let ino = self.push(node);
        if let NodeContent::Folder { cached, durable } = &mut self.node_mut(folder).content {
            cached.insert(name.into(), ino);
            durable.insert(name.into(), ino);
        }
        ino
    }

    pub(super) fn drop_entry(&mut self, folder: Ino, name: &str) {
        if let NodeContent::Folder { cached, durable } = &mut self.node_mut(folder).content {
            cached.remove(name);
            durable.remove(name);
        }
    }

    /// Drops what waits for this name: somebody else has settled it.
    pub(super) fn forget_name(&mut self, folder: Ino, name: &str) {
        self.pending.retain(|effect| {
            effect.change.owner() != folder || !effect.change.names().iter().flatten().any(|n| &***n == name)
        });
    }

    pub(super) fn link_new(&mut self, folder: Ino, name: &str, node: Node) -> Ino {
        let ino = self.push(node);
        let name: Arc<str> = name.into();
        if let Some(names) = self.cached_names(folder) {
            names.insert(Arc::clone(&name), ino);
        }
        self.note(Change::Link { folder, name, ino });
        ino
    }

    pub(super) fn unlink(&mut self, folder: Ino, name: &str) {
        let name: Arc<str> = name.into();
        if let Some(names) = self.cached_names(folder) {
            names.remove(&name);
        }
        self.note(Change::Unlink { folder, name });
    }

    pub(super) fn rename(&mut self, folder: Ino, from: &str, to: &str) {
        let (from, to): (Arc<str>, Arc<str>) = (from.into(), to.into());
        let Some(names) = self.cached_names(folder) else { return };
        let Some(ino) = names.remove(&from) else { return };
        names.insert(Arc::clone(&to), ino);
        self.note(Change::Move { folder, from, to, ino });
    }

    pub(super) fn write(&mut self, ino: Ino, position: usize, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let end = position + bytes.len();
        let NodeContent::File { cached, .. } = &mut self.node_mut(ino).content else { return };
        let grows = end > cached.len();
        if grows {
            cached.resize(end, 0);
        }
        if let Some(target) = cached.get_mut(position..end) {
            target.copy_from_slice(bytes);
        }
        let sectors: Vec<(usize, Arc<[u8]>)> = (position / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES))
            .filter_map(|sector| {
                let last = ((sector + 1) * SECTOR_BYTES).min(cached.len());
                Some((sector, cached.get(sector * SECTOR_BYTES..last)?.into()))
            })
            .collect();
        for (sector, bytes) in sectors {
            self.note(Change::Data { ino, sector, bytes });
        }
        if grows {
            self.note(Change::Size { ino, size: end });
        }
    }

    pub(super) fn set_size(&mut self, ino: Ino, size: usize) {
        let NodeContent::File { cached, .. } = &mut self.node_mut(ino).content else { return };
        if cached.len() != size {
            cached.resize(size, 0);
            self.note(Change::Size { ino, size });
        }
    }

    pub(super) fn set_attr(&mut self, ino: Ino, attr: Attr) {
        if self.node(ino).cached != attr {
            self.node_mut(ino).cached = attr;
            self.note(Change::Attr { ino, attr });
        }
    }

    pub(super) fn sync_file(&mut self, ino: Ino) {
        self.sync(ino);
    }

    pub(super) fn sync_folder(&mut self, folder: Ino) {
        self.sync(folder);
    }

    pub(super) fn sync_every_file(&mut self) {
        let owners: BTreeSet<Ino> = self.pending.iter().map(|effect| effect.change.owner()).collect();
        for ino in owners {
            if !self.node(ino).is_folder() {
                self.sync(ino);
            }
        }
    }

    fn sync(&mut self, owner: Ino) {
        let mut rest: Vec<Effect> = Vec::with_capacity(self.pending.len());
        let (mut is_any_lost, mut is_name_gone) = (false, false);
        for effect in std::mem::take(&mut self.pending) {
            if effect.change.owner() == owner && !effect.is_lost {
                if is_any_lost {
                    rest.retain(|earlier| !effect.change.supersedes(&earlier.change));
                }
                is_name_gone |= matches!(effect.change, Change::Unlink { .. } | Change::Move { .. });
                self.node_mut(owner).apply(&effect.change);
            } else {
                is_any_lost |= effect.is_lost;
                rest.push(effect);
            }
        }
        self.pending = rest;
        if is_name_gone {
            self.forget_unreachable();
        }
    }

    pub(super) fn lose_file(&mut self, ino: Ino) {
        self.lose(ino);
    }

    pub(super) fn lose_folder(&mut self, folder: Ino) {
        self.lose(folder);
    }

    fn lose(&mut self, owner: Ino) {
        for effect in self.pending.iter_mut().filter(|effect| effect.change.owner() == owner) {
            effect.is_lost = true;
        }
    }

    /// Sectors taken by everything that has a name, one for each entry.
    pub(super) fn used_bytes(&self) -> u64 {
        let mut used = 0_u64;
        let mut stack = vec![ROOT];
        while let Some(ino) = stack.pop() {
            let node = self.node(ino);
            used = used.saturating_add(SECTOR_BYTES as u64).saturating_add(node.allocated_bytes());
            if let NodeContent::Folder { cached, .. } = &node.content {
                stack.extend(cached.values());
            }
        }
        used
    }

    pub(super) fn paths(&self) -> Vec<PathBuf> {
        let mut paths = Vec::new();
        let mut stack = vec![(PathBuf::from("/"), ROOT)];
        while let Some((path, ino)) = stack.pop() {
            if let NodeContent::Folder { cached, .. } = &self.node(ino).content {
                stack.extend(cached.iter().map(|(name, ino)| (path.join(&**name), *ino)));
            }
            paths.push(path);
        }
        paths.sort_unstable();
        paths
    }

    /// Which of the pending effects survive when `keep` is asked for each: its wish, cut down to what the model allows.
    pub(super) fn legal(&self, model: CrashModel, mut keep: impl FnMut(usize) -> bool) -> Vec<bool> {
        let mut kept: Vec<bool> = Vec::with_capacity(self.pending.len());
        let mut is_journal_cut = false;
        let mut cut_names: BTreeSet<(Ino, &str)> = BTreeSet::new();
        for (index, effect) in self.pending.iter().enumerate() {
            let change = &effect.change;
            let wanted = keep(index);
            let allowed = match model {
                CrashModel::Journalled => !change.is_journalled() || !is_journal_cut,
                CrashModel::Weakest => {
                    !change.names().iter().flatten().any(|name| cut_names.contains(&(change.owner(), name)))
                }
            };
            let is_kept = wanted && allowed;
            if !is_kept {
                is_journal_cut |= change.is_journalled();
                cut_names.extend(change.names().into_iter().flatten().map(|name| (change.owner(), &**name)));
            }
            kept.push(is_kept);
        }
        kept
    }

    pub(super) fn after_crash(&self, kept: &[bool]) -> Self {
        let mut image =
            Self { pending: Vec::new(), nodes: self.nodes.clone(), nowhere: Arc::clone(&self.nowhere), ..*self };
        for (effect, _) in self.pending.iter().zip(kept).filter(|(_, kept)| **kept) {
            image.node_mut(effect.change.owner()).apply(&effect.change);
        }
        // A node that nothing waits for is on the medium as it is in the cache.
        let touched: BTreeSet<Ino> = self.pending.iter().map(|effect| effect.change.owner()).collect();
        for ino in touched {
            image.node_mut(ino).settle();
        }
        image.forget_unreachable();
        image
    }

    /// Choices of survivors, each once.
    pub(super) fn crash_choices(&self, model: CrashModel, most: usize) -> Vec<Vec<bool>> {
        let count = self.pending.len();
        let mut choices: BTreeSet<Vec<bool>> = BTreeSet::new();
        if count <= MASK_BITS && 1_usize << count <= most {
            for mask in 0..1_usize << count {
                choices.insert(self.legal(model, |index| mask >> index & 1 == 1));
            }
        } else {
            for one in 0..=count {
                choices.insert(self.legal(model, |index| index != one));
                choices.insert(self.legal(model, |index| index == one));
                choices.insert(self.legal(model, |index| index < one));
            }
            let mut dice = Dice(count as u64);
            for _ in 0..most.saturating_sub(choices.len()) {
                choices.insert(self.legal(model, |_| dice.flip()));
            }
        }
        choices.into_iter().collect()
    }
}

/// splitmix64: enough to pick subsets, and the same everywhere.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn flip(&mut self) -> bool {
        self.next() & 1 == 1
    }

    /// A number below `end`, or 0.
    pub(super) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end.max(1) as u64).unwrap_or(0)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
