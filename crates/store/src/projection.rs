//! Copies of the default generation at the configured paths, for a Go router, for scripts, for people. FORMAT.md section 5.
//!
//! Never a condition of anything: a projection that fails is reported and tried again.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use lifecycle::manifest::ProjectionRecord;
use lifecycle::{Digest, GenerationNumber};
use zeroize::Zeroizing;

use crate::disk::{Attributes, Disk, Errno, Kind, Metadata, Operation, StorageError, is_name};
use crate::format::projection_digest;
use crate::generation::{FILE_MAX_BYTES, GenerationFiles};
use crate::identity::{FILE_MODE, TEMPORARY_TRIES, at};

const CERTIFICATE_MODE: u32 = 0o644;
const LINKS_MAX: u32 = 8;

/// Which of router.yml's identity paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Slot {
    /// `identity.key`
    Key,
    /// `identity.server_key`
    ServerKey,
    /// `identity.cert`
    Cert,
    /// `identity.server_cert`
    ServerCert,
    /// `identity.ca`
    Ca,
}

impl Slot {
    /// All of them, as they are hashed.
    pub const ALL: [Self; 5] = [Self::Key, Self::ServerKey, Self::Cert, Self::ServerCert, Self::Ca];
    /// All of them, as they are replaced: what a reader of a mixture misses least comes first.
    const WRITING: [Self; 5] = [Self::Ca, Self::ServerKey, Self::Key, Self::ServerCert, Self::Cert];

    /// Does a private key lie there?
    pub fn is_private(self) -> bool {
        matches!(self, Self::Key | Self::ServerKey)
    }

    fn code(self) -> u8 {
        self as u8
    }

    /// What a generation has for it.
    pub fn content(self, files: &GenerationFiles) -> &[u8] {
        match self {
            Self::Key => files.keys.key.as_bytes(),
            Self::ServerKey => files.keys.server_key.as_ref().unwrap_or(&files.keys.key).as_bytes(),
            Self::Cert => &files.client,
            Self::ServerCert => &files.server,
            Self::Ca => &files.bundle,
        }
    }
}

/// The configured paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Projection {
    targets: Vec<(Slot, PathBuf)>,
}

/// What a projection did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Projected {
    /// What the configured paths hold now.
    pub digest: Digest,
    /// What was rewritten; the others had the right content.
    pub written: Vec<Slot>,
    /// What could only be rewritten in place, and may be torn by a crash until our next start.
    pub in_place: Vec<Slot>,
    /// What could not get its old owner, and is readable by fewer than before.
    pub narrowed: Vec<Slot>,
}

impl Projected {
    /// What the manifest remembers of it. `is_foreign` = it replaced what somebody else had laid over ours.
    pub fn record(
        &self,
        number: GenerationNumber,
        before: Option<&ProjectionRecord>,
        is_foreign: bool,
    ) -> ProjectionRecord {
        let rewrites = before.map_or(0, |record| record.foreign_rewrites);
        let foreign_rewrites = if is_foreign { rewrites.saturating_add(1) } else { rewrites };
        ProjectionRecord { number, digest: self.digest, foreign_rewrites }
    }
}

/// What lies at one configured path.
#[derive(Clone, PartialEq, Eq)]
pub enum Seen {
    /// Nothing.
    Absent,
    /// This.
    Content(Zeroizing<Vec<u8>>),
    /// The disk would not say.
    Unreadable(Errno),
}

/// It may be a private key, so nothing of it is shown.
impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("Absent"),
            Self::Content(content) => write!(f, "Content({} bytes)", content.len()),
            Self::Unreadable(errno) => write!(f, "Unreadable({errno:?})"),
        }
    }
}

/// What lies at all configured paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// In the order of [`Slot::ALL`].
    pub files: Vec<(Slot, Seen)>,
}

impl Observed {
    /// Hash over the contents, if all of them could be read.
    pub fn digest(&self) -> Option<Digest> {
        let contents = self.files.iter().map(|(slot, seen)| match seen {
            Seen::Content(content) => Some((slot.code(), content.as_slice())),
            Seen::Absent | Seen::Unreadable(_) => None,
        });
        Some(projection_digest(contents.collect::<Option<Vec<_>>>()?))
    }

    /// What lies at this slot, if it could be read.
    pub fn content(&self, slot: Slot) -> Option<&[u8]> {
        self.files.iter().find_map(|(at, seen)| match seen {
            Seen::Content(content) if *at == slot => Some(content.as_slice()),
            _ => None,
        })
    }
}

/// A configured path after its links were followed.
struct Place<D: Disk> {
    slot: Slot,
    folder: D::Folder,
    folder_path: PathBuf,
    name: String,
    path: PathBuf,
    before: Option<Metadata>,
}

/// How a changed file will get there.
enum Plan {
    Rename { temporary: String },
    InPlace,
}

impl Projection {
    /// Takes the paths that router.yml names. A path that two slots share belongs to the first of them.
    pub fn new(targets: impl IntoIterator<Item = (Slot, PathBuf)>) -> Self {
        let mut targets: Vec<_> = targets.into_iter().collect();
        targets.sort_by_key(|(slot, _)| *slot);
        let mut taken = BTreeSet::new();
        targets.retain(|(_, path)| taken.insert(path.clone()));
        Self { targets }
    }

    /// Hash over what the configured paths hold when this generation lies there.
    pub fn digest(&self, files: &GenerationFiles) -> Digest {
        projection_digest(self.targets.iter().map(|(slot, _)| (slot.code(), slot.content(files))))
    }

    /// Reads the configured paths.
    pub fn read<D: Disk>(&self, disk: &mut D) -> Observed {
        let files = self.targets.iter().map(|(slot, path)| {
            let seen = match locate(disk, *slot, path) {
                Err(error) if error.errno == Errno::NOENT => Seen::Absent,
                Err(error) => Seen::Unreadable(error.errno),
                Ok(place) => match disk.read(&place.folder, &place.name, FILE_MAX_BYTES) {
                    Ok(content) => Seen::Content(content),
                    Err(Errno::NOENT) => Seen::Absent,
                    Err(errno) => Seen::Unreadable(errno),
                },
            };
            (*slot, seen)
        });
        Observed { files: files.collect() }
    }

    /// Removes temporaries that a crash left beside the targets. Answers how many.
    ///
    /// # Errors
    /// Whatever the disk says.
    pub fn sweep<D: Disk>(&self, disk: &mut D) -> Result<u32, StorageError> {
        let mut swept = 0;
        for (slot, path) in &self.targets {
            let Ok(place) = locate(disk, *slot, path) else { continue };
            let names = at(disk.list(&place.folder), Operation::List, &place.folder_path)?;
            for name in names.iter().filter(|name| is_temporary(name, &place.name)) {
                at(disk.unlink(&place.folder, name), Operation::Unlink, &place.folder_path.join(name))?;
                swept += 1;
            }
        }
        Ok(swept)
    }

    /// Copies a generation to the configured paths.
    ///
    /// # Errors
    /// Whatever the disk says. Before the first rename nothing has changed; after it the paths may hold a mixture, which the next call mends.
    pub fn write<D: Disk>(&self, disk: &mut D, files: &GenerationFiles) -> Result<Projected, StorageError> {
        let mut done = Projected { digest: self.digest(files), written: vec![], in_place: vec![], narrowed: vec![] };
        let mut planned: Vec<(Place<D>, Plan)> = Vec::new();
        for slot in Slot::WRITING {
            let Some((_, path)) = self.targets.iter().find(|(at, _)| *at == slot) else { continue };
            let plan = locate(disk, slot, path).and_then(|place| {
                let plan = plan(disk, &place, slot.content(files), &mut done)?;
                Ok(plan.map(|plan| (place, plan)))
            });
            match plan {
                Ok(plan) => planned.extend(plan),
                Err(error) => {
                    drop_temporaries(disk, &planned);
                    return Err(error);
                }
            }
        }
        let mut outcome = Ok(());
        let mut folders: Vec<(D::Folder, PathBuf)> = Vec::new();
        for (index, (place, plan)) in planned.iter().enumerate() {
            outcome = replace(disk, place, plan, place.slot.content(files), &mut done);
            if outcome.is_err() {
                drop_temporaries(disk, planned.get(index..).unwrap_or_default());
                break;
            }
            done.written.push(place.slot);
            if !folders.iter().any(|(_, path)| *path == place.folder_path) {
                folders.push((place.folder.clone(), place.folder_path.clone()));
            }
        }
        for (folder, path) in &folders {
            outcome = outcome.and(at(disk.sync_folder(folder), Operation::SyncFolder, path));
        }
        outcome.map(|()| done)
    }
}

/// Follows the links at the end of a configured path: the operator meant the file behind them.
fn locate<D: Disk>(disk: &mut D, slot: Slot, configured: &Path) -> Result<Place<D>, StorageError> {
    let mut path = configured.to_owned();
    for _ in 0..LINKS_MAX {
        let folder_path = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        let name = path.file_name().and_then(|name| name.to_str()).filter(|name| is_name(name));
        let Some(name) = name.map(str::to_owned) else { return at(Err(Errno::INVAL), Operation::Open, &path) };
        let folder = at(disk.open_root(&folder_path), Operation::Open, &folder_path)?;
        let before = match disk.metadata(&folder, &name) {
            Err(Errno::NOENT) => None,
            answer => Some(at(answer, Operation::Inspect, &path)?),
        };
        match before.map(|found| found.kind) {
            Some(Kind::Link) => {
                let target = at(disk.read_link(&folder, &name), Operation::Read, &path)?;
                path = folder_path.join(target);
            }
            Some(Kind::Folder | Kind::Other) => return at(Err(Errno::INVAL), Operation::Inspect, &path),
            Some(Kind::File) | None => return Ok(Place { slot, folder, folder_path, name, path, before }),
        }
    }
    at(Err(Errno::LOOP), Operation::Open, configured)
}

/// Where a configured file lies after its links: which file system decides whether the store beside it is worth anything.
pub(crate) fn device_of<D: Disk>(disk: &mut D, configured: &Path) -> Result<u64, StorageError> {
    let place = locate(disk, Slot::Cert, configured)?;
    match place.before {
        Some(found) => Ok(found.device),
        None => Ok(at(disk.folder_metadata(&place.folder), Operation::Inspect, &place.folder_path)?.device),
    }
}

/// Writes a synced temporary beside the target, or decides for in place. `None` when the content is right already.
fn plan<D: Disk>(
    disk: &mut D,
    place: &Place<D>,
    content: &[u8],
    done: &mut Projected,
) -> Result<Option<Plan>, StorageError> {
    match disk.read(&place.folder, &place.name, FILE_MAX_BYTES) {
        Ok(old) if *old == content => return Ok(None),
        // Anything else is replaced, also what cannot be read.
        _ => {}
    }
    let (temporary, mut file) = match create_temporary(disk, place) {
        Ok(made) => made,
        Err(error) if error.is_read_only() && place.before.is_some() => return Ok(Some(Plan::InPlace)),
        Err(error) => return Err(error),
    };
    let path = place.folder_path.join(&temporary);
    let filled = (|| {
        at(disk.write(&mut file, content), Operation::Write, &path)?;
        let is_kept = keep_attributes(disk, place, &mut file, &path, done)?;
        if is_kept {
            at(disk.sync_file(&mut file), Operation::SyncFile, &path)?;
        }
        Ok(is_kept)
    })();
    let closed = at(disk.close(file), Operation::Close, &path);
    match filled.and_then(|is_kept| closed.map(|()| is_kept)) {
        Ok(true) => Ok(Some(Plan::Rename { temporary })),
        Ok(false) => {
            at(disk.unlink(&place.folder, &temporary), Operation::Unlink, &path)?;
            Ok(Some(Plan::InPlace))
        }
        Err(error) => {
            let _ = disk.unlink(&place.folder, &temporary);
            Err(error)
        }
    }
}

fn create_temporary<D: Disk>(disk: &mut D, place: &Place<D>) -> Result<(String, D::File), StorageError> {
    let mut number = 0;
    loop {
        let temporary = format!(".exuvia-{}-{number}.tmp", place.name);
        match disk.create(&place.folder, &temporary, FILE_MODE) {
            Err(Errno::EXIST) if number < TEMPORARY_TRIES => number += 1,
            answer => {
                let path = place.folder_path.join(&temporary);
                return Ok((temporary, at(answer, Operation::Create, &path)?));
            }
        }
    }
}

/// Gives the temporary owner, mode and label of what it replaces. `false` = only rewriting in place keeps them.
fn keep_attributes<D: Disk>(
    disk: &mut D,
    place: &Place<D>,
    file: &mut D::File,
    path: &Path,
    done: &mut Projected,
) -> Result<bool, StorageError> {
    let Some(before) = &place.before else {
        let mode = if place.slot.is_private() { FILE_MODE } else { CERTIFICATE_MODE };
        let fresh = Attributes { mode, owner: None, label: None };
        at(disk.set_attributes(file, &fresh), Operation::SetAttributes, path)?;
        return Ok(true);
    };
    let label = disk.label(&place.folder, &place.name).unwrap_or(None);
    let mut wanted = Attributes { mode: before.mode & 0o777, owner: Some((before.user, before.group)), label };
    if disk.set_attributes(file, &wanted).is_ok() {
        return Ok(true);
    }
    // Perhaps it was only the label, which is not worth a failure.
    wanted.label = None;
    if disk.set_attributes(file, &wanted).is_ok() {
        return Ok(true);
    }
    if let Ok(target) = disk.open_for_writing(&place.folder, &place.name) {
        let _ = disk.close(target);
        return Ok(false);
    }
    // Neither owner nor content can be changed where it is: a new file of ours, which nobody else may read if it is a key.
    let mode = if place.slot.is_private() { before.mode & 0o700 } else { before.mode & 0o777 };
    at(disk.set_attributes(file, &Attributes { mode, owner: None, label: None }), Operation::SetAttributes, path)?;
    done.narrowed.push(place.slot);
    Ok(true)
}

fn replace<D: Disk>(
    disk: &mut D,
    place: &Place<D>,
    plan: &Plan,
    content: &[u8],
    done: &mut Projected,
) -> Result<(), StorageError> {
    if let Plan::Rename { temporary } = plan {
        match disk.rename(&place.folder, temporary, &place.name) {
            // A file that is a mount of its own, a sticky folder, a file that must not be replaced.
            Err(Errno::BUSY | Errno::ACCESS | Errno::PERM | Errno::XDEV) if place.before.is_some() => {
                let path = place.folder_path.join(temporary);
                at(disk.unlink(&place.folder, temporary), Operation::Unlink, &path)?;
            }
            answer => return at(answer, Operation::Rename, &place.path),
        }
    }
    done.in_place.push(place.slot);
    rewrite(disk, place, content)
}

/// Rewrites a file where it is: room first, then bytes, then size, so that a full disk does no harm. It keeps its owner, mode and label.
fn rewrite<D: Disk>(disk: &mut D, place: &Place<D>, content: &[u8]) -> Result<(), StorageError> {
    let path = &place.path;
    let mut file = at(disk.open_for_writing(&place.folder, &place.name), Operation::Open, path)?;
    match disk.reserve(&mut file, content.len() as u64) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {}
        answer => at(answer, Operation::Reserve, path)?,
    }
    at(disk.write(&mut file, content), Operation::Write, path)?;
    at(disk.set_size(&mut file, content.len() as u64), Operation::Write, path)?;
    at(disk.sync_file(&mut file), Operation::SyncFile, path)?;
    at(disk.close(file), Operation::Close, path)
}

fn drop_temporaries<D: Disk>(disk: &mut D, planned: &[(Place<D>, Plan)]) {
    for (place, plan) in planned {
        if let Plan::Rename { temporary } = plan {
            let _ = disk.unlink(&place.folder, temporary);
        }
    }
}

fn is_temporary(name: &str, target: &str) -> bool {
    name.strip_prefix(".exuvia-")
        .and_then(|rest| rest.strip_prefix(target))
        .and_then(|rest| rest.strip_prefix('-'))
        .and_then(|rest| rest.strip_suffix(".tmp"))
        .is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}
