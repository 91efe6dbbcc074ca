//! Can this place keep a new identity? Found out at the start by looking and by one probe, said in `status` and `doctor`.

use std::fmt;
use std::path::{Path, PathBuf};

use lifecycle::renewal::Storage;

use crate::disk::{Disk, Errno, FileSystem, FileSystemKind, Kind};
use crate::identity::{FILE_MODE, IdentityStore};
use crate::projection::device_of;

const PROBE: &str = ".manifest-9999999999.tmp";

/// What the storage is good for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StorageMode {
    /// It keeps what it is told.
    Writable,
    /// It takes nothing: the router serves until its leaves expire and never asks for a certificate that it could not keep.
    ReadOnly(ReadOnlyCause),
    /// It would take everything and lose it: the same.
    Volatile(VolatileCause),
    /// Somebody else replaces the identity files as a whole (a Kubernetes secret): they are watched and loaded, never renewed.
    ExternallyManaged {
        /// The link through which they are replaced.
        link: PathBuf,
    },
}

/// Why nothing can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReadOnlyCause {
    /// The file system is mounted read-only, or turned so after an error.
    Mounted,
    /// This user may not write there.
    NotPermitted,
    /// A newer release wrote the store.
    NewerFormat(u32),
    /// The disk fails.
    Failing(Errno),
}

/// Why nothing written would last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VolatileCause {
    /// The state folder lies in memory, the identity files do not.
    Tmpfs,
    /// The state folder lies in a container's writable layer, the identity files on a volume.
    WritableLayer,
    /// The state folder lies on an overlay that drops every sync.
    VolatileOverlay,
}

impl StorageMode {
    /// May a renewal begin?
    pub fn can_renew(&self) -> bool {
        *self == Self::Writable
    }

    /// What the router's machine makes of it.
    pub fn storage(&self) -> Storage {
        match self {
            Self::Writable => Storage::Writable,
            Self::ReadOnly(_) => Storage::ReadOnly,
            Self::Volatile(_) => Storage::Volatile,
            Self::ExternallyManaged { .. } => Storage::ExternallyManaged,
        }
    }

    /// One word for metrics and JSON.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Writable => "writable",
            Self::ReadOnly(_) => "read_only",
            Self::Volatile(_) => "volatile",
            Self::ExternallyManaged { .. } => "externally_managed",
        }
    }

    /// What the operator can do about it; `None` when nothing is wrong.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Writable => None,
            Self::ReadOnly(ReadOnlyCause::Mounted) => {
                Some("mount it read-write, or name a durable folder: `exuvia: {state: DIR}` in router.yml")
            }
            Self::ReadOnly(ReadOnlyCause::NotPermitted) => Some(
                "let the router's user write the folder of `identity.cert`, or name another: `exuvia: {state: DIR}`",
            ),
            Self::ReadOnly(ReadOnlyCause::NewerFormat(_)) => {
                Some("run the release that wrote the store, or a later one")
            }
            Self::ReadOnly(ReadOnlyCause::Failing(_)) => Some("look into the kernel's log; replace the disk"),
            Self::Volatile(_) => Some(
                "put the state on the volume that holds the identity files: `exuvia: {state: DIR}` in router.yml, or mount their whole folder",
            ),
            Self::ExternallyManaged { .. } => Some("renewal is the business of whoever writes the secret"),
        }
    }
}

impl fmt::Display for StorageMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Writable => f.write_str("writable"),
            Self::ReadOnly(ReadOnlyCause::Mounted) => f.write_str("read-only: the file system is mounted so"),
            Self::ReadOnly(ReadOnlyCause::NotPermitted) => f.write_str("read-only: this user may not write there"),
            Self::ReadOnly(ReadOnlyCause::NewerFormat(version)) => {
                write!(f, "read-only: a newer release wrote the store (format {version})")
            }
            Self::ReadOnly(ReadOnlyCause::Failing(errno)) => write!(f, "read-only: the disk fails ({errno})"),
            Self::Volatile(VolatileCause::Tmpfs) => f.write_str("volatile: the state folder is in memory (tmpfs)"),
            Self::Volatile(VolatileCause::WritableLayer) => f.write_str(
                "volatile: the state folder is in the container's writable layer, the identity files are not",
            ),
            Self::Volatile(VolatileCause::VolatileOverlay) => {
                f.write_str("volatile: the state folder is on an overlay that drops every sync")
            }
            Self::ExternallyManaged { link } => write!(f, "externally managed through `{}`", link.display()),
        }
    }
}

impl<D: Disk> IdentityStore<D> {
    /// Looks at where the state and the identity files are, and writes one byte that it takes away again.
    ///
    /// A full disk counts as writable: that is what PREPARE finds out, every time anew.
    pub fn detect_mode(&mut self, identity_cert: &Path) -> StorageMode {
        if let Some(link) = managed_link(&mut self.disk, identity_cert) {
            return StorageMode::ExternallyManaged { link };
        }
        if let Some(version) = self.newer_format() {
            return StorageMode::ReadOnly(ReadOnlyCause::NewerFormat(version));
        }
        let folder = match self.state_folder() {
            Ok(folder) => folder,
            Err(error) => return cannot(error.errno),
        };
        let found = match self.disk.file_system(&folder) {
            Ok(found) => found,
            Err(errno) => return StorageMode::ReadOnly(ReadOnlyCause::Failing(errno)),
        };
        let state_device = self.disk.folder_metadata(&folder).ok().map(|found| found.device);
        let identity_device = device_of(&mut self.disk, identity_cert).ok();
        let is_elsewhere = identity_device.is_some() && identity_device != state_device;
        if let Some(cause) = volatile(&found, is_elsewhere) {
            return StorageMode::Volatile(cause);
        }
        if found.is_read_only {
            return StorageMode::ReadOnly(ReadOnlyCause::Mounted);
        }
        match self.probe(&folder) {
            Ok(()) | Err(Errno::NOSPC | Errno::DQUOT | Errno::FBIG) => StorageMode::Writable,
            Err(errno) => cannot(errno),
        }
    }

    /// The name is that of a temporary, so what a crash leaves of it is swept.
    fn probe(&mut self, folder: &D::Folder) -> Result<(), Errno> {
        let mut file = match self.disk.create(folder, PROBE, FILE_MODE) {
            Err(Errno::EXIST) => {
                self.disk.unlink(folder, PROBE)?;
                self.disk.create(folder, PROBE, FILE_MODE)?
            }
            answer => answer?,
        };
        let written = self.disk.write(&mut file, b"?");
        let closed = self.disk.close(file);
        let removed = self.disk.unlink(folder, PROBE);
        written.and(closed).and(removed)
    }
}

fn cannot(errno: Errno) -> StorageMode {
    match errno {
        Errno::NOSPC | Errno::DQUOT | Errno::FBIG => StorageMode::Writable,
        Errno::ROFS => StorageMode::ReadOnly(ReadOnlyCause::Mounted),
        Errno::ACCESS | Errno::PERM => StorageMode::ReadOnly(ReadOnlyCause::NotPermitted),
        errno => StorageMode::ReadOnly(ReadOnlyCause::Failing(errno)),
    }
}

/// An identity that vanishes together with its state loses nothing by it; one that stays behind does.
fn volatile(found: &FileSystem, is_elsewhere: bool) -> Option<VolatileCause> {
    match found.kind {
        FileSystemKind::Overlay { is_volatile: true } => Some(VolatileCause::VolatileOverlay),
        FileSystemKind::Overlay { is_volatile: false } if is_elsewhere => Some(VolatileCause::WritableLayer),
        FileSystemKind::Tmpfs if is_elsewhere => Some(VolatileCause::Tmpfs),
        FileSystemKind::Overlay { .. } | FileSystemKind::Tmpfs | FileSystemKind::Network | FileSystemKind::Durable => {
            None
        }
    }
}

/// The `..data` link of a Kubernetes volume beside the certificate.
fn managed_link<D: Disk>(disk: &mut D, identity_cert: &Path) -> Option<PathBuf> {
    let folder_path = match identity_cert.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let folder = disk.open_root(folder_path).ok()?;
    let data = disk.metadata(&folder, "..data").ok()?;
    let cert = disk.metadata(&folder, identity_cert.file_name()?.to_str()?).ok()?;
    (data.kind == Kind::Link && cert.kind == Kind::Link).then(|| folder_path.join("..data"))
}
