//! What the simulated kernel answers: one numbered operation after another, each with its fault.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use zeroize::Zeroizing;

use super::super::{Attributes, Disk, Errno, FileSystem, Kind, Metadata, Operation, Result, is_name};
use super::effects::{Ino, Node, NodeContent, ROOT, SECTOR_BYTES};
use super::{Fault, Mutant, SimDisk, SimFile, SimFolder, SimLock, normal_names};

const LINKS_MAX: usize = 8;

/// What an operation has to do after its fault was looked up.
enum Go {
    On,
    Half(Errno),
    DoneBut(Errno),
}

impl Go {
    fn answer<T>(self, value: T) -> Result<T> {
        match self {
            Self::On => Ok(value),
            Self::Half(errno) | Self::DoneBut(errno) => Err(errno),
        }
    }
}

/// The kernel's side of an operation.
impl SimDisk {
    fn begin(&mut self, operation: Operation, name: &str) -> Result<Go> {
        let number = self.operations;
        self.operations = number.saturating_add(1);
        if let Some(journal) = &mut self.journal {
            journal.push((operation, name.to_owned()));
        }
        if let Some(history) = &mut self.history {
            history.push((self.revision, Arc::clone(&self.image)));
        }
        if self.is_down {
            return Err(Errno::IO);
        }
        if let Some((from, errno)) = self.dead_from
            && number >= from
        {
            return Err(errno);
        }
        let is_look = matches!(operation, Operation::Open | Operation::Read | Operation::List | Operation::Inspect);
        match self.faults.get(&number) {
            None => Ok(Go::On),
            Some(Fault::Refuse(_)) if is_look && self.mutants.contains(&Mutant::ErrorsLookLikeAbsence) => {
                Err(Errno::NOENT)
            }
            Some(Fault::Refuse(errno)) => Err(*errno),
            Some(Fault::Half(errno)) if operation == Operation::Write => Ok(Go::Half(*errno)),
            Some(Fault::Half(errno)) => Err(*errno),
            Some(Fault::DoneBut(errno)) => Ok(Go::DoneBut(*errno)),
            Some(Fault::Crash) => {
                self.is_down = true;
                Err(Errno::IO)
            }
        }
    }

    fn folder(&self, at: &SimFolder) -> Result<Ino> {
        if at.life == self.life { Ok(at.ino) } else { Err(Errno::BADF) }
    }

    fn entry(&self, at: &SimFolder, name: &str) -> Result<Ino> {
        if !is_name(name) {
            return Err(Errno::INVAL);
        }
        self.image.entry(self.folder(at)?, name).ok_or(Errno::NOENT)
    }

    /// May names in this folder change?
    fn changeable(&self, at: &SimFolder, name: &str) -> Result<Ino> {
        let ino = self.folder(at)?;
        if !is_name(name) {
            Err(Errno::INVAL)
        } else if self.is_read_only {
            Err(Errno::ROFS)
        } else if !self.image.node(ino).is_writable {
            Err(Errno::ACCESS)
        } else {
            Ok(ino)
        }
    }

    fn free_bytes(&self) -> u64 {
        self.capacity_bytes.map_or(u64::MAX, |capacity| capacity.saturating_sub(self.image.used_bytes()))
    }

    fn link_new(&mut self, at: &SimFolder, name: &str, mut node: Node) -> Result<Ino> {
        let folder = self.changeable(at, name)?;
        if self.image.entry(folder, name).is_some() {
            return Err(Errno::EXIST);
        }
        if self.free_bytes() < SECTOR_BYTES as u64 {
            return Err(Errno::NOSPC);
        }
        node.file_system = self.image.node(folder).file_system;
        Ok(self.image_mut().link_new(folder, name, node))
    }

    fn open_file(&self, file: &SimFile) -> Result<Ino> {
        if file.is_condemned {
            Err(Errno::IO)
        } else if file.life != self.life {
            Err(Errno::BADF)
        } else {
            Ok(file.ino)
        }
    }

    fn walk(&self, path: &Path, links: usize) -> Result<Ino> {
        let mut at = ROOT;
        let mut here = PathBuf::from("/");
        for name in normal_names(path) {
            let next = self.image.entry(at, name).ok_or(Errno::NOENT)?;
            at = match &self.image.node(next).content {
                NodeContent::Link(target) if links < LINKS_MAX => self.walk(&here.join(target), links + 1)?,
                NodeContent::Link(_) => return Err(Errno::LOOP),
                NodeContent::File { .. } | NodeContent::Folder { .. } => next,
            };
            here.push(name);
        }
        Ok(at)
    }

    fn metadata_of(&self, ino: Ino) -> Metadata {
        let node = self.image.node(ino);
        Metadata {
            kind: match node.content {
                NodeContent::File { .. } => Kind::File,
                NodeContent::Folder { .. } => Kind::Folder,
                NodeContent::Link(_) => Kind::Link,
            },
            mode: node.cached.mode,
            user: node.cached.user,
            group: node.cached.group,
            size_bytes: node.cached_file().map_or(0, |content| content.len() as u64),
            device: node.file_system.1,
        }
    }
}

impl Disk for SimDisk {
    type Folder = SimFolder;
    type File = SimFile;
    type Lock = SimLock;

    fn open_root(&mut self, path: &Path) -> Result<SimFolder> {
        let go = self.begin(Operation::Open, &path.to_string_lossy())?;
        let ino = self.walk(path, 0)?;
        if !self.image.node(ino).is_folder() {
            return Err(Errno::NOTDIR);
        }
        go.answer(SimFolder { ino, life: self.life })
    }

    fn open_folder(&mut self, at: &SimFolder, name: &str) -> Result<SimFolder> {
        let go = self.begin(Operation::Open, name)?;
        let ino = self.entry(at, name)?;
        match self.image.node(ino).content {
            NodeContent::Folder { .. } => go.answer(SimFolder { ino, life: self.life }),
            NodeContent::Link(_) => Err(Errno::LOOP),
            NodeContent::File { .. } => Err(Errno::NOTDIR),
        }
    }

    fn make_folder(&mut self, at: &SimFolder, name: &str, mode: u32) -> Result<()> {
        let go = self.begin(Operation::MakeFolder, name)?;
        self.link_new(at, name, Node::folder(mode, self.user, 0))?;
        go.answer(())
    }

    fn remove_folder(&mut self, at: &SimFolder, name: &str) -> Result<()> {
        let go = self.begin(Operation::RemoveFolder, name)?;
        let folder = self.changeable(at, name)?;
        let ino = self.entry(at, name)?;
        match &self.image.node(ino).content {
            NodeContent::Folder { cached, .. } if cached.is_empty() => {}
            NodeContent::Folder { .. } => return Err(Errno::NOTEMPTY),
            _ => return Err(Errno::NOTDIR),
        }
        self.image_mut().unlink(folder, name);
        go.answer(())
    }

    fn create(&mut self, at: &SimFolder, name: &str, mode: u32) -> Result<SimFile> {
        let go = self.begin(Operation::Create, name)?;
        let ino = self.link_new(at, name, Node::file(mode, self.user, 0))?;
        go.answer(SimFile { ino, life: self.life, position: 0, is_condemned: false })
    }

    fn open_for_writing(&mut self, at: &SimFolder, name: &str) -> Result<SimFile> {
        let go = self.begin(Operation::Open, name)?;
        let ino = self.entry(at, name)?;
        let node = self.image.node(ino);
        match node.content {
            NodeContent::Link(_) => return Err(Errno::LOOP),
            NodeContent::Folder { .. } => return Err(Errno::ISDIR),
            NodeContent::File { .. } if self.is_read_only => return Err(Errno::ROFS),
            NodeContent::File { .. } if !node.is_writable => return Err(Errno::ACCESS),
            NodeContent::File { .. } => {}
        }
        go.answer(SimFile { ino, life: self.life, position: 0, is_condemned: false })
    }

    fn write(&mut self, file: &mut SimFile, bytes: &[u8]) -> Result<()> {
        let go = self.begin(Operation::Write, "")?;
        let ino = self.open_file(file)?;
        if self.is_read_only {
            return Err(Errno::ROFS);
        }
        let wanted = if matches!(go, Go::Half(_)) { bytes.len() / 2 } else { bytes.len() };
        let room = self.image.node(ino).room_for(file.position, self.free_bytes());
        let part = bytes.get(..wanted.min(room)).unwrap_or(bytes);
        self.image_mut().write(ino, file.position, part);
        file.position = file.position.saturating_add(part.len());
        if part.len() < wanted { Err(Errno::NOSPC) } else { go.answer(()) }
    }

    fn set_size(&mut self, file: &mut SimFile, size_bytes: u64) -> Result<()> {
        let go = self.begin(Operation::Write, "")?;
        let ino = self.open_file(file)?;
        if self.is_read_only {
            return Err(Errno::ROFS);
        }
        self.image_mut().set_size(ino, usize::try_from(size_bytes).map_err(|_| Errno::FBIG)?);
        go.answer(())
    }

    fn reserve(&mut self, file: &mut SimFile, size_bytes: u64) -> Result<()> {
        let go = self.begin(Operation::Reserve, "")?;
        let ino = self.open_file(file)?;
        if !self.can_reserve {
            return Err(Errno::OPNOTSUPP);
        }
        let room = self.image.node(ino).room_for(0, self.free_bytes());
        if (room as u64) < size_bytes {
            // As ext4 does: what it got stays taken until the file goes.
            self.image_mut().node_mut(ino).reserved_bytes = room as u64;
            return Err(Errno::NOSPC);
        }
        let node = self.image_mut().node_mut(ino);
        node.reserved_bytes = node.reserved_bytes.max(size_bytes);
        go.answer(())
    }

    fn set_attributes(&mut self, file: &mut SimFile, attributes: &Attributes) -> Result<()> {
        let go = self.begin(Operation::SetAttributes, "")?;
        let ino = self.open_file(file)?;
        let mut attr = self.image.node(ino).cached;
        if let Some(owner) = attributes.owner {
            if self.user != 0 && owner != (attr.user, attr.group) {
                return Err(Errno::PERM);
            }
            (attr.user, attr.group) = owner;
        }
        attr.mode = attributes.mode;
        self.image_mut().set_attr(ino, attr);
        go.answer(())
    }

    fn sync_file(&mut self, file: &mut SimFile) -> Result<()> {
        self.syncs.files = self.syncs.files.saturating_add(1);
        let begun = self.begin(Operation::SyncFile, "");
        let ino = self.open_file(file)?;
        match begun {
            Ok(go) => {
                if !self.mutants.contains(&Mutant::NoFileSync) {
                    self.image_mut().sync_file(ino);
                }
                let answer = go.answer(());
                file.is_condemned = answer.is_err();
                answer
            }
            Err(errno) => {
                if !self.is_down {
                    self.image_mut().lose_file(ino);
                }
                file.is_condemned = true;
                Err(errno)
            }
        }
    }

    fn close(&mut self, file: SimFile) -> Result<()> {
        self.begin(Operation::Close, "").and_then(|go| {
            self.open_file(&file)?;
            go.answer(())
        })
    }

    fn rename(&mut self, at: &SimFolder, from: &str, to: &str) -> Result<()> {
        let go = self.begin(Operation::Rename, to)?;
        let folder = self.changeable(at, from)?;
        self.changeable(at, to)?;
        let moved = self.entry(at, from)?;
        let replaced = self.image.entry(folder, to);
        if self.image.node(moved).is_bound || replaced.is_some_and(|ino| self.image.node(ino).is_bound) {
            return Err(Errno::BUSY);
        }
        let is_in_place = self.mutants.contains(&Mutant::RenameInPlace);
        let image = self.image_mut();
        match replaced {
            Some(target) if is_in_place => {
                let content = image.node(moved).cached_file().unwrap_or_default().to_vec();
                image.set_size(target, 0);
                image.write(target, 0, &content);
                image.unlink(folder, from);
            }
            _ => image.rename(folder, from, to),
        }
        go.answer(())
    }

    fn unlink(&mut self, at: &SimFolder, name: &str) -> Result<()> {
        let go = self.begin(Operation::Unlink, name)?;
        let folder = self.changeable(at, name)?;
        let node = self.image.node(self.entry(at, name)?);
        if node.is_bound {
            return Err(Errno::BUSY);
        }
        if node.is_folder() {
            return Err(Errno::ISDIR);
        }
        self.image_mut().unlink(folder, name);
        go.answer(())
    }

    fn sync_folder(&mut self, at: &SimFolder) -> Result<()> {
        self.syncs.folders = self.syncs.folders.saturating_add(1);
        let begun = self.begin(Operation::SyncFolder, "");
        let folder = self.folder(at)?;
        match begun {
            Ok(go) => {
                if self.mutants.contains(&Mutant::RenameInPlace) {
                    self.image_mut().sync_every_file();
                }
                if !self.mutants.contains(&Mutant::NoFolderSync) {
                    self.image_mut().sync_folder(folder);
                }
                go.answer(())
            }
            Err(errno) => {
                if !self.is_down {
                    self.image_mut().lose_folder(folder);
                }
                Err(errno)
            }
        }
    }

    fn read(&mut self, at: &SimFolder, name: &str, most_bytes: usize) -> Result<Zeroizing<Vec<u8>>> {
        let go = self.begin(Operation::Read, name)?;
        let node = self.image.node(self.entry(at, name)?);
        match &node.content {
            NodeContent::File { cached, .. } if cached.len() > most_bytes => Err(Errno::FBIG),
            NodeContent::File { cached, .. } => go.answer(Zeroizing::new(cached.clone())),
            NodeContent::Folder { .. } => Err(Errno::INVAL),
            NodeContent::Link(_) => Err(Errno::LOOP),
        }
    }

    fn list(&mut self, at: &SimFolder) -> Result<Vec<String>> {
        let go = self.begin(Operation::List, "")?;
        match &self.image.node(self.folder(at)?).content {
            NodeContent::Folder { cached, .. } => go.answer(cached.keys().map(|name| name.to_string()).collect()),
            _ => Err(Errno::NOTDIR),
        }
    }

    fn metadata(&mut self, at: &SimFolder, name: &str) -> Result<Metadata> {
        let go = self.begin(Operation::Inspect, name)?;
        let ino = self.entry(at, name)?;
        go.answer(self.metadata_of(ino))
    }

    fn folder_metadata(&mut self, at: &SimFolder) -> Result<Metadata> {
        let go = self.begin(Operation::Inspect, "")?;
        let ino = self.folder(at)?;
        go.answer(self.metadata_of(ino))
    }

    fn label(&mut self, at: &SimFolder, name: &str) -> Result<Option<Vec<u8>>> {
        self.entry(at, name).map(|_| None)
    }

    fn make_link(&mut self, at: &SimFolder, name: &str, target: &Path) -> Result<()> {
        let go = self.begin(Operation::Create, name)?;
        // Where a short link points lies in its inode, which the journal writes with its name.
        let mut node = Node::file(0o777, self.user, 0);
        node.content = NodeContent::Link(target.to_owned());
        self.link_new(at, name, node)?;
        go.answer(())
    }

    fn read_link(&mut self, at: &SimFolder, name: &str) -> Result<PathBuf> {
        let go = self.begin(Operation::Read, name)?;
        match &self.image.node(self.entry(at, name)?).content {
            NodeContent::Link(target) => go.answer(target.clone()),
            _ => Err(Errno::INVAL),
        }
    }

    fn lock(&mut self, at: &SimFolder) -> Result<SimLock> {
        let go = self.begin(Operation::Lock, "")?;
        let ino = self.folder(at)?;
        if !self.can_lock {
            return Err(Errno::NOLCK);
        }
        if self.held_elsewhere.contains(&ino) || !self.locked.insert(ino) {
            return Err(Errno::WOULDBLOCK);
        }
        go.answer(SimLock(ino))
    }

    fn unlock(&mut self, lock: SimLock) {
        self.locked.remove(&lock.0);
    }

    fn file_system(&mut self, at: &SimFolder) -> Result<FileSystem> {
        let go = self.begin(Operation::Inspect, "")?;
        let kind = self.image.node(self.folder(at)?).file_system.0;
        go.answer(FileSystem { kind, is_read_only: self.is_read_only, free_bytes: self.free_bytes() })
    }

    fn effective_user(&mut self) -> u32 {
        self.user
    }
}
