use std::path::{Path, PathBuf};

use store::disk::{Attributes, Disk, Errno, FileSystem, Metadata, Result};
use zeroize::Zeroizing;

const FILE_MAX_BYTES: usize = 1024 * 1024;

/// Where a [`Careless`] disk cuts corners. Everything `false` is a disk as it should be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Care {
    /// File syncs answer without doing anything.
    pub skips_file_sync: bool,
    /// Folder syncs answer without doing anything.
    pub skips_folder_sync: bool,
    /// A sync or close that fails is taken for one that worked.
    pub ignores_sync_errors: bool,
    /// A rename over an existing file truncates and rewrites that file, with a sync at the end.
    pub renames_in_place: bool,
    /// What cannot be read is taken for something that is not there.
    pub takes_errors_for_absence: bool,
}

/// A disk whose user makes one mistake: every call goes through to the disk beneath, but for what [`Care`] says.
#[derive(Clone, Debug, Default)]
pub struct Careless<D> {
    disk: D,
    care: Care,
}

impl<D> Careless<D> {
    /// Lays a mistake over a disk.
    pub fn new(disk: D, care: Care) -> Self {
        Self { disk, care }
    }

    /// The disk beneath.
    pub fn inner(&self) -> &D {
        &self.disk
    }

    /// The disk beneath.
    pub fn inner_mut(&mut self) -> &mut D {
        &mut self.disk
    }

    /// The disk beneath.
    pub fn into_inner(self) -> D {
        self.disk
    }

    /// Changes the mistake.
    pub fn set_care(&mut self, care: Care) {
        self.care = care;
    }

    fn sync_answer(&self, answer: Result<()>) -> Result<()> {
        if self.care.ignores_sync_errors { Ok(()) } else { answer }
    }

    fn read_answer<T>(&self, answer: Result<T>) -> Result<T> {
        match answer {
            Err(Errno::IO) if self.care.takes_errors_for_absence => Err(Errno::NOENT),
            answer => answer,
        }
    }
}

impl<D: Disk> Disk for Careless<D> {
    type Folder = D::Folder;
    type File = D::File;
    type Lock = D::Lock;

    fn open_root(&mut self, path: &Path) -> Result<D::Folder> {
        self.disk.open_root(path)
    }

    fn open_folder(&mut self, at: &D::Folder, name: &str) -> Result<D::Folder> {
        let answer = self.disk.open_folder(at, name);
        self.read_answer(answer)
    }

    fn make_folder(&mut self, at: &D::Folder, name: &str, mode: u32) -> Result<()> {
        self.disk.make_folder(at, name, mode)
    }

    fn remove_folder(&mut self, at: &D::Folder, name: &str) -> Result<()> {
        self.disk.remove_folder(at, name)
    }

    fn create(&mut self, at: &D::Folder, name: &str, mode: u32) -> Result<D::File> {
        self.disk.create(at, name, mode)
    }

    fn open_for_writing(&mut self, at: &D::Folder, name: &str) -> Result<D::File> {
        self.disk.open_for_writing(at, name)
    }

    fn write(&mut self, file: &mut D::File, bytes: &[u8]) -> Result<()> {
        self.disk.write(file, bytes)
    }

    fn set_size(&mut self, file: &mut D::File, size_bytes: u64) -> Result<()> {
        self.disk.set_size(file, size_bytes)
    }

    fn reserve(&mut self, file: &mut D::File, size_bytes: u64) -> Result<()> {
        self.disk.reserve(file, size_bytes)
    }

    fn set_attributes(&mut self, file: &mut D::File, attributes: &Attributes) -> Result<()> {
        self.disk.set_attributes(file, attributes)
    }

    fn sync_file(&mut self, file: &mut D::File) -> Result<()> {
        if self.care.skips_file_sync {
            return Ok(());
        }
        let answer = self.disk.sync_file(file);
        self.sync_answer(answer)
    }

    fn close(&mut self, file: D::File) -> Result<()> {
        let answer = self.disk.close(file);
        self.sync_answer(answer)
    }

    fn rename(&mut self, at: &D::Folder, from: &str, to: &str) -> Result<()> {
        if !self.care.renames_in_place || self.disk.metadata(at, to) == Err(Errno::NOENT) {
            return self.disk.rename(at, from, to);
        }
        let content = self.disk.read(at, from, FILE_MAX_BYTES)?;
        let mut file = self.disk.open_for_writing(at, to)?;
        self.disk.set_size(&mut file, 0)?;
        self.disk.write(&mut file, &content)?;
        self.disk.sync_file(&mut file)?;
        self.disk.close(file)?;
        self.disk.unlink(at, from)
    }

    fn unlink(&mut self, at: &D::Folder, name: &str) -> Result<()> {
        self.disk.unlink(at, name)
    }

    fn sync_folder(&mut self, at: &D::Folder) -> Result<()> {
        if self.care.skips_folder_sync {
            return Ok(());
        }
        let answer = self.disk.sync_folder(at);
        self.sync_answer(answer)
    }

    fn read(&mut self, at: &D::Folder, name: &str, most_bytes: usize) -> Result<Zeroizing<Vec<u8>>> {
        let answer = self.disk.read(at, name, most_bytes);
        self.read_answer(answer)
    }

    fn list(&mut self, at: &D::Folder) -> Result<Vec<String>> {
        let answer = self.disk.list(at);
        self.read_answer(answer)
    }

    fn metadata(&mut self, at: &D::Folder, name: &str) -> Result<Metadata> {
        self.disk.metadata(at, name)
    }

    fn folder_metadata(&mut self, at: &D::Folder) -> Result<Metadata> {
        self.disk.folder_metadata(at)
    }

    fn label(&mut self, at: &D::Folder, name: &str) -> Result<Option<Vec<u8>>> {
        self.disk.label(at, name)
    }

    fn make_link(&mut self, at: &D::Folder, name: &str, target: &Path) -> Result<()> {
        self.disk.make_link(at, name, target)
    }

    fn read_link(&mut self, at: &D::Folder, name: &str) -> Result<PathBuf> {
        self.disk.read_link(at, name)
    }

    fn lock(&mut self, at: &D::Folder) -> Result<D::Lock> {
        self.disk.lock(at)
    }

    fn unlock(&mut self, lock: D::Lock) {
        self.disk.unlock(lock);
    }

    fn file_system(&mut self, at: &D::Folder) -> Result<FileSystem> {
        self.disk.file_system(at)
    }

    fn effective_user(&mut self) -> u32 {
        self.disk.effective_user()
    }
}
