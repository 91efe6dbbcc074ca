//! How the systems write files: the few idioms that they are made of.

use std::path::{Component, Path};

use store::disk::{Disk, Errno, Kind, Result};

use super::{Moment, OrderError, Protocol, Tell};
use crate::material::Unusable;

type Answer<T> = std::result::Result<T, OrderError>;

const FILE_MAX_BYTES: usize = 64 * 1024;
const NAME_TRIES: u32 = 64;
const LINKS_MAX: u32 = 8;

/// A controller that admits one fingerprint has committed before the system writes its first byte; otherwise it drops the old one when
/// the system says that it is done.
pub(super) fn told<D: Disk>(
    disk: &mut D,
    n: u64,
    protocol: Protocol,
    tell: Tell<'_, D>,
    write: impl FnOnce(&mut D) -> Answer<()>,
) -> Answer<()> {
    if protocol == Protocol::OneFingerprint {
        tell(disk, Moment::Commit(n));
    }
    write(disk)?;
    tell(disk, Moment::Done(n));
    if protocol == Protocol::FilesOnly {
        tell(disk, Moment::Commit(n));
    }
    Ok(())
}

/// Opens as `O_CREAT|O_TRUNC` does: afterwards the file is empty, whatever it was.
pub(super) fn open_truncated<D: Disk>(disk: &mut D, at: &D::Folder, name: &str, mode: u32) -> Result<D::File> {
    match disk.open_for_writing(at, name) {
        Err(Errno::NOENT) => disk.create(at, name, mode),
        answer => {
            let mut file = answer?;
            disk.set_size(&mut file, 0)?;
            Ok(file)
        }
    }
}

/// Writes in place, as `os.WriteFile` does: truncate, write, close, no sync.
pub(super) fn write_in_place<D: Disk>(disk: &mut D, at: &D::Folder, name: &str, mode: u32, bytes: &[u8]) -> Result<()> {
    let mut file = open_truncated(disk, at, name, mode)?;
    let written = disk.write(&mut file, bytes);
    // Closed all the same, and what closing says is dropped where writing failed.
    let closed = disk.close(file);
    written.and(closed)
}

/// Writes a file that is not there yet, and syncs nothing.
pub(super) fn write_new<D: Disk>(disk: &mut D, at: &D::Folder, name: &str, mode: u32, bytes: &[u8]) -> Result<()> {
    let mut file = disk.create(at, name, mode)?;
    let written = disk.write(&mut file, bytes);
    let closed = disk.close(file);
    written.and(closed)
}

/// Writes a temporary with a name of its own, syncs it and renames it over `name`. The folder is not synced.
pub(super) fn replace_synced<D: Disk>(disk: &mut D, at: &D::Folder, name: &str, mode: u32, bytes: &[u8]) -> Result<()> {
    let (temporary, mut file) = create_unique(disk, at, &format!(".tmp-{name}-"), mode)?;
    let written = disk.write(&mut file, bytes).and_then(|()| disk.sync_file(&mut file));
    let closed = disk.close(file);
    written.and(closed).inspect_err(|_| {
        let _ = disk.unlink(at, &temporary);
    })?;
    disk.rename(at, &temporary, name)
}

/// Writes the temporary `<name>.tmp`, syncs it, renames it over `name` and syncs the folder.
pub(super) fn replace_durably<D: Disk>(
    disk: &mut D,
    at: &D::Folder,
    name: &str,
    mode: u32,
    bytes: &[u8],
) -> Result<()> {
    let temporary = format!("{name}.tmp");
    let mut file = open_truncated(disk, at, &temporary, mode)?;
    let written = disk.write(&mut file, bytes).and_then(|()| disk.sync_file(&mut file));
    let closed = disk.close(file);
    written.and(closed)?;
    disk.rename(at, &temporary, name)?;
    disk.sync_folder(at)
}

/// A new file whose name begins so, as `mkstemp` makes one.
pub(super) fn create_unique<D: Disk>(
    disk: &mut D,
    at: &D::Folder,
    prefix: &str,
    mode: u32,
) -> Result<(String, D::File)> {
    for number in 0..NAME_TRIES {
        let name = format!("{prefix}{number}");
        match disk.create(at, &name, mode) {
            Err(Errno::EXIST) => {}
            answer => return Ok((name, answer?)),
        }
    }
    Err(Errno::EXIST)
}

/// Makes a folder unless it is there, and opens it.
pub(super) fn ensure_folder<D: Disk>(disk: &mut D, at: &D::Folder, name: &str, mode: u32) -> Result<D::Folder> {
    match disk.make_folder(at, name, mode) {
        Ok(()) | Err(Errno::EXIST) => disk.open_folder(at, name),
        Err(errno) => Err(errno),
    }
}

/// Removes a name; that it is not there is fine.
pub(super) fn remove_if_there<D: Disk>(disk: &mut D, at: &D::Folder, name: &str) -> Result<()> {
    match disk.unlink(at, name) {
        Err(Errno::NOENT) => Ok(()),
        answer => answer,
    }
}

/// Reads a file; links on the way and at the end are followed, relative to the folder that holds them, never above `at`.
pub(super) fn read<D: Disk>(disk: &mut D, at: &D::Folder, path: &str) -> Result<Vec<u8>> {
    let mut todo: Vec<String> = components(Path::new(path));
    let mut here = at.clone();
    let mut links = 0;
    loop {
        if todo.is_empty() {
            return Err(Errno::ISDIR);
        }
        let name = todo.remove(0);
        match disk.metadata(&here, &name)?.kind {
            Kind::Link if links < LINKS_MAX => {
                links += 1;
                let mut spliced = components(&disk.read_link(&here, &name)?);
                spliced.append(&mut todo);
                todo = spliced;
            }
            Kind::Link => return Err(Errno::LOOP),
            Kind::Folder => here = disk.open_folder(&here, &name)?,
            Kind::File | Kind::Other if todo.is_empty() => {
                return Ok(disk.read(&here, &name, FILE_MAX_BYTES)?.to_vec());
            }
            Kind::File | Kind::Other => return Err(Errno::NOTDIR),
        }
    }
}

/// The same, with an absent file told apart.
pub(super) fn read_named<D: Disk>(disk: &mut D, at: &D::Folder, path: &str, what: &'static str) -> Answer<Vec<u8>> {
    match read(disk, at, path) {
        Err(Errno::NOENT) => Err(Unusable::Missing(what).into()),
        answer => Ok(answer?),
    }
}

fn components(path: &Path) -> Vec<String> {
    path.components()
        .filter_map(|component| match component {
            Component::Normal(name) => name.to_str().map(str::to_owned),
            _ => None,
        })
        .collect()
}

/// Syncs every file and folder below `at`, and `at`.
pub(super) fn sync_tree<D: Disk>(disk: &mut D, at: &D::Folder) -> Result<()> {
    for name in disk.list(at)? {
        match disk.metadata(at, &name)?.kind {
            Kind::Folder => {
                let folder = disk.open_folder(at, &name)?;
                sync_tree(disk, &folder)?;
            }
            Kind::File => {
                let mut file = disk.open_for_writing(at, &name)?;
                disk.sync_file(&mut file)?;
                disk.close(file)?;
            }
            Kind::Link | Kind::Other => {}
        }
    }
    disk.sync_folder(at)
}
