//! The few things that a store asks of a file system, so that tests can hand in one that loses what was not synced.
//!
//! Every call names one entry of a folder that is already open; no path is walked twice. [`RealDisk`] is the kernel,
//! [`SimDisk`] separates what was *written* from what is *durable*. Errors are plain errno values: the store, not the disk,
//! knows what they mean.

mod real;
mod sim;

use std::fmt;
use std::path::{Path, PathBuf};

pub use real::RealDisk;
pub use rustix::io::Errno;
pub use sim::{Aftermath, CrashModel, Fault, Mutant, PowerCut, SimDisk, Survivor, SyncCounts};
use zeroize::Zeroizing;

/// What a call on a disk answers.
pub type Result<T> = std::result::Result<T, Errno>;

/// A file system, folder handle by folder handle.
///
/// Names are single components: no `/`, not `.` or `..`, not empty; anything else is [`Errno::INVAL`]. Symbolic links are never
/// followed except by [`Disk::open_root`].
pub trait Disk {
    /// An open folder.
    type Folder: Clone + fmt::Debug;
    /// An open file. Dropping it without [`Disk::close`] is legal and tells nothing.
    type File: fmt::Debug;
    /// A lock that is held until [`Disk::unlock`] or the end of the process.
    type Lock: fmt::Debug;

    /// Opens the folder at an absolute or process-relative path; links on the way are followed, as the operator meant them.
    fn open_root(&mut self, path: &Path) -> Result<Self::Folder>;

    /// Opens the folder `name` in `at`; a symbolic link is [`Errno::LOOP`] or [`Errno::NOTDIR`].
    fn open_folder(&mut self, at: &Self::Folder, name: &str) -> Result<Self::Folder>;

    /// Makes the folder `name` with exactly this mode, whatever the umask.
    fn make_folder(&mut self, at: &Self::Folder, name: &str, mode: u32) -> Result<()>;

    /// Removes the empty folder `name`.
    fn remove_folder(&mut self, at: &Self::Folder, name: &str) -> Result<()>;

    /// Makes the file `name`, which must not exist, with exactly this mode from the first byte, whatever the umask.
    fn create(&mut self, at: &Self::Folder, name: &str, mode: u32) -> Result<Self::File>;

    /// Opens the regular file `name` for writing from its start, without truncating it.
    fn open_for_writing(&mut self, at: &Self::Folder, name: &str) -> Result<Self::File>;

    /// Writes all of `bytes` where the last write ended. After an error some of them may have been written.
    fn write(&mut self, file: &mut Self::File, bytes: &[u8]) -> Result<()>;

    /// Sets the size of the file.
    fn set_size(&mut self, file: &mut Self::File, size_bytes: u64) -> Result<()>;

    /// Reserves space for the first `size_bytes` without changing the size. Where the file system cannot, the answer is
    /// [`Errno::OPNOTSUPP`] or [`Errno::NOSYS`]. After an error some space may stay taken until the file is unlinked.
    fn reserve(&mut self, file: &mut Self::File, size_bytes: u64) -> Result<()>;

    /// Gives the file this owner, mode and label.
    fn set_attributes(&mut self, file: &mut Self::File, attributes: &Attributes) -> Result<()>;

    /// Makes content, size and attributes of the file durable; not its name. After an error the file is condemned: every
    /// later call on this handle fails, because a second fsync would report success for data that is gone.
    fn sync_file(&mut self, file: &mut Self::File) -> Result<()>;

    /// Closes the file and tells what the kernel says.
    fn close(&mut self, file: Self::File) -> Result<()>;

    /// Renames `from` to `to` in the same folder, replacing `to`.
    fn rename(&mut self, at: &Self::Folder, from: &str, to: &str) -> Result<()>;

    /// Removes the name of a file.
    fn unlink(&mut self, at: &Self::Folder, name: &str) -> Result<()>;

    /// Makes the names in this folder durable; not the files' content, not the folder's own name.
    fn sync_folder(&mut self, at: &Self::Folder) -> Result<()>;

    /// The whole content of the regular file `name`; [`Errno::FBIG`] when it is longer than `most_bytes`,
    /// [`Errno::INVAL`] when it is no regular file.
    fn read(&mut self, at: &Self::Folder, name: &str, most_bytes: usize) -> Result<Zeroizing<Vec<u8>>>;

    /// Names in the folder, sorted, without `.` and `..`; names that are not UTF-8 are left out.
    fn list(&mut self, at: &Self::Folder) -> Result<Vec<String>>;

    /// What `name` is, without following it.
    fn metadata(&mut self, at: &Self::Folder, name: &str) -> Result<Metadata>;

    /// What the open folder itself is.
    fn folder_metadata(&mut self, at: &Self::Folder) -> Result<Metadata>;

    /// The security label of the regular file `name`; `None` where there is none or it cannot be read.
    fn label(&mut self, at: &Self::Folder, name: &str) -> Result<Option<Vec<u8>>>;

    /// Makes the symbolic link `name`, which must not exist.
    fn make_link(&mut self, at: &Self::Folder, name: &str, target: &Path) -> Result<()>;

    /// Where the symbolic link `name` points.
    fn read_link(&mut self, at: &Self::Folder, name: &str) -> Result<PathBuf>;

    /// Takes the kernel's lock on the folder without waiting. [`Errno::WOULDBLOCK`] = somebody else holds it;
    /// [`Errno::NOLCK`], [`Errno::NOSYS`], [`Errno::OPNOTSUPP`] = locks do not work here.
    fn lock(&mut self, at: &Self::Folder) -> Result<Self::Lock>;

    /// Gives the lock back.
    fn unlock(&mut self, lock: Self::Lock);

    /// What kind of file system holds the folder, and how much room it has.
    fn file_system(&mut self, at: &Self::Folder) -> Result<FileSystem>;

    /// The user id that files are made with.
    fn effective_user(&mut self) -> u32;
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link.
    Link,
    /// A device, socket or pipe.
    Other,
}

/// What is known of an entry without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// What it is.
    pub kind: Kind,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub user: u32,
    /// Group.
    pub group: u32,
    /// Length in bytes.
    pub size_bytes: u64,
    /// Which file system holds it.
    pub device: u64,
}

/// Owner, mode and label that a file is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// Permission bits.
    pub mode: u32,
    /// Owner and group; `None` leaves them as they are.
    pub owner: Option<(u32, u32)>,
    /// `security.selinux`; `None` leaves it as it is.
    pub label: Option<Vec<u8>>,
}

/// Kinds of file system that matter to an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileSystemKind {
    /// Memory: gone with the machine.
    Tmpfs,
    /// A container's writable layer or another union; `is_volatile` = it drops every sync.
    Overlay {
        /// Mounted with `volatile`.
        is_volatile: bool,
    },
    /// NFS, SMB and their kin.
    Network,
    /// Anything else, taken to keep what it was told to sync.
    Durable,
}

/// A file system as seen through a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileSystem {
    /// Its kind.
    pub kind: FileSystemKind,
    /// Mounted read-only.
    pub is_read_only: bool,
    /// Room left for this user, in bytes.
    pub free_bytes: u64,
}

/// What was being done when a disk refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Opening a folder or file.
    Open,
    /// Making a folder.
    MakeFolder,
    /// Removing a folder.
    RemoveFolder,
    /// Making a file or a symbolic link.
    Create,
    /// Writing.
    Write,
    /// Reserving space.
    Reserve,
    /// Setting owner, mode or label.
    SetAttributes,
    /// Syncing a file.
    SyncFile,
    /// Syncing a folder.
    SyncFolder,
    /// Closing a file.
    Close,
    /// Renaming.
    Rename,
    /// Removing a file's name.
    Unlink,
    /// Reading.
    Read,
    /// Listing a folder.
    List,
    /// Asking what an entry or a file system is.
    Inspect,
    /// Locking.
    Lock,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::MakeFolder => "make the folder",
            Self::RemoveFolder => "remove the folder",
            Self::Create => "create",
            Self::Write => "write",
            Self::Reserve => "reserve space for",
            Self::SetAttributes => "set owner and mode of",
            Self::SyncFile => "sync",
            Self::SyncFolder => "sync the folder",
            Self::Close => "close",
            Self::Rename => "rename",
            Self::Unlink => "unlink",
            Self::Read => "read",
            Self::List => "list",
            Self::Inspect => "inspect",
            Self::Lock => "lock",
        })
    }
}

/// One refused call: what, on which path, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("could not {operation} `{}`", path.display())]
pub struct StorageError {
    /// What was tried.
    pub operation: Operation,
    /// On what.
    pub path: PathBuf,
    /// What the kernel said.
    #[source]
    pub errno: Errno,
}

impl StorageError {
    /// Is there no room: disk, quota, inodes or the process's file size limit?
    pub fn is_full(&self) -> bool {
        matches!(self.errno, Errno::NOSPC | Errno::DQUOT | Errno::FBIG)
    }

    /// May we not write here: read-only, or not permitted?
    pub fn is_read_only(&self) -> bool {
        matches!(self.errno, Errno::ROFS | Errno::ACCESS | Errno::PERM)
    }

    /// What the operator can do about it.
    pub fn hint(&self) -> &'static str {
        if self.is_full() {
            "free space or raise the quota on this file system; renewal goes on by itself"
        } else if self.errno == Errno::ROFS {
            "remount the file system read-write, or set `exuvia: {state: DIR}` to a durable writable folder"
        } else if self.is_read_only() {
            "give the router's user write permission on this folder"
        } else {
            "check the kernel's log for errors of this disk"
        }
    }
}

pub(crate) fn is_name(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\0'])
}
