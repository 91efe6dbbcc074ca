//! Which system calls concern files, and what they name.

use std::fs::File;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::libc;
use nix::unistd::Pid;

/// What a call does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Opens what is there, for reading.
    Open,
    /// Opens what is there, for writing.
    OpenToWrite,
    /// Opens, and makes or empties it.
    Create,
    /// Reads content.
    Read,
    /// Writes content.
    Write,
    /// Syncs a file or folder.
    Sync,
    /// Closes.
    Close,
    /// Reserves space, or changes the length.
    Resize,
    /// Makes, moves or removes a name.
    Name,
    /// Changes mode, owner, times or attributes.
    Attribute,
    /// Asks for attributes, names, or a folder's content.
    Look,
    /// Locks.
    Lock,
}

impl Kind {
    /// Does it change the disk, or what survives on it?
    pub fn is_change(self) -> bool {
        match self {
            Self::Create | Self::Write | Self::Sync | Self::Resize | Self::Name | Self::Attribute => true,
            Self::Open | Self::OpenToWrite | Self::Read | Self::Close | Self::Look | Self::Lock => false,
        }
    }

    /// The errnos, out of those that a broken, full or forbidden disk has, that the manuals allow here.
    pub fn errnos(self) -> &'static [Errno] {
        use Errno::{EACCES, EDQUOT, EINTR, EIO, EMFILE, ENOSPC, EROFS};
        match self {
            Self::Open => &[EIO, EACCES, EMFILE, EINTR],
            Self::OpenToWrite => &[EIO, EROFS, EACCES, EMFILE, EINTR],
            Self::Create => &[ENOSPC, EDQUOT, EIO, EROFS, EACCES, EMFILE, EINTR],
            Self::Read => &[EIO, EINTR],
            Self::Write => &[ENOSPC, EDQUOT, EIO, EINTR],
            Self::Sync => &[ENOSPC, EDQUOT, EIO, EROFS, EINTR],
            Self::Close => &[ENOSPC, EDQUOT, EIO, EINTR],
            Self::Resize => &[ENOSPC, EDQUOT, EIO, EROFS, EINTR],
            Self::Name => &[ENOSPC, EDQUOT, EIO, EROFS, EACCES],
            Self::Attribute => &[ENOSPC, EDQUOT, EIO, EROFS, EACCES],
            Self::Look => &[EIO, EACCES],
            Self::Lock => &[EIO, EINTR],
        }
    }
}

/// One call that was counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Its place, from 1.
    pub number: usize,
    /// Its name in the kernel.
    pub name: &'static str,
    /// What it does.
    pub kind: Kind,
    /// What it names; of two names the one in the folder, or else the first.
    pub path: PathBuf,
}

impl std::fmt::Display for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}. {} {}", self.number, self.name, self.path.display())
    }
}

/// How a call names its file.
#[derive(Clone, Copy)]
enum Named {
    /// An open file in this argument.
    Fd(usize),
    /// A path in this argument.
    Path(usize),
    /// A path relative to the folder in the argument before.
    At(usize),
    /// Two paths in these arguments.
    Paths(usize, usize),
    /// Two paths, each relative to the folder in the argument before.
    Ats(usize, usize),
}

struct Shape {
    name: &'static str,
    kind: Kind,
    named: Named,
    /// Where the flags of an open are: an argument, or (for `openat2`) the memory that the argument points to.
    flags: Option<usize>,
}

fn shape(number: i64) -> Option<Shape> {
    use Named::{At, Ats, Fd, Path, Paths};
    let of = |name, kind, named| Some(Shape { name, kind, named, flags: None });
    let open = |name, named, flags| Some(Shape { name, kind: Kind::Open, named, flags: Some(flags) });
    macro_rules! table {
        ($($call:ident $name:literal => $shape:expr,)*) => {
            match number {
                $(libc::$call => $shape($name),)*
                _ => None,
            }
        };
    }
    let fd = |kind| move |name| of(name, kind, Fd(0));
    let at = |kind| move |name| of(name, kind, At(1));
    let path = |kind| move |name| of(name, kind, Path(0));
    let common = table! {
        SYS_openat "openat" => |name| open(name, At(1), 2),
        SYS_openat2 "openat2" => |name| open(name, At(1), 2),
        SYS_read "read" => fd(Kind::Read),
        SYS_pread64 "pread64" => fd(Kind::Read),
        SYS_readv "readv" => fd(Kind::Read),
        SYS_preadv "preadv" => fd(Kind::Read),
        SYS_preadv2 "preadv2" => fd(Kind::Read),
        SYS_write "write" => fd(Kind::Write),
        SYS_pwrite64 "pwrite64" => fd(Kind::Write),
        SYS_writev "writev" => fd(Kind::Write),
        SYS_pwritev "pwritev" => fd(Kind::Write),
        SYS_pwritev2 "pwritev2" => fd(Kind::Write),
        SYS_copy_file_range "copy_file_range" => |name| of(name, Kind::Write, Fd(2)),
        SYS_sendfile "sendfile" => fd(Kind::Write),
        SYS_fsync "fsync" => fd(Kind::Sync),
        SYS_fdatasync "fdatasync" => fd(Kind::Sync),
        SYS_syncfs "syncfs" => fd(Kind::Sync),
        SYS_sync_file_range "sync_file_range" => fd(Kind::Sync),
        SYS_close "close" => fd(Kind::Close),
        SYS_ftruncate "ftruncate" => fd(Kind::Resize),
        SYS_truncate "truncate" => path(Kind::Resize),
        SYS_fallocate "fallocate" => fd(Kind::Resize),
        SYS_mkdirat "mkdirat" => at(Kind::Name),
        SYS_mknodat "mknodat" => at(Kind::Name),
        SYS_unlinkat "unlinkat" => at(Kind::Name),
        SYS_renameat "renameat" => |name| of(name, Kind::Name, Ats(1, 3)),
        SYS_renameat2 "renameat2" => |name| of(name, Kind::Name, Ats(1, 3)),
        SYS_linkat "linkat" => |name| of(name, Kind::Name, Ats(1, 3)),
        SYS_symlinkat "symlinkat" => |name| of(name, Kind::Name, At(2)),
        SYS_fchmod "fchmod" => fd(Kind::Attribute),
        SYS_fchmodat "fchmodat" => at(Kind::Attribute),
        SYS_fchown "fchown" => fd(Kind::Attribute),
        SYS_fchownat "fchownat" => at(Kind::Attribute),
        SYS_utimensat "utimensat" => at(Kind::Attribute),
        SYS_setxattr "setxattr" => path(Kind::Attribute),
        SYS_lsetxattr "lsetxattr" => path(Kind::Attribute),
        SYS_fsetxattr "fsetxattr" => fd(Kind::Attribute),
        SYS_removexattr "removexattr" => path(Kind::Attribute),
        SYS_fremovexattr "fremovexattr" => fd(Kind::Attribute),
        SYS_getxattr "getxattr" => path(Kind::Look),
        SYS_lgetxattr "lgetxattr" => path(Kind::Look),
        SYS_fgetxattr "fgetxattr" => fd(Kind::Look),
        SYS_listxattr "listxattr" => path(Kind::Look),
        SYS_flistxattr "flistxattr" => fd(Kind::Look),
        SYS_fstat "fstat" => fd(Kind::Look),
        SYS_statx "statx" => at(Kind::Look),
        SYS_readlinkat "readlinkat" => at(Kind::Look),
        SYS_faccessat "faccessat" => at(Kind::Look),
        SYS_faccessat2 "faccessat2" => at(Kind::Look),
        SYS_statfs "statfs" => path(Kind::Look),
        SYS_fstatfs "fstatfs" => fd(Kind::Look),
        SYS_getdents64 "getdents64" => fd(Kind::Look),
        SYS_flock "flock" => fd(Kind::Lock),
    };
    #[cfg(not(target_arch = "x86_64"))]
    return common;
    // What newer machines have no numbers for.
    #[cfg(target_arch = "x86_64")]
    common.or_else(|| {
        table! {
            SYS_open "open" => |name| open(name, Path(0), 1),
            SYS_creat "creat" => path(Kind::Create),
            SYS_newfstatat "newfstatat" => at(Kind::Look),
            SYS_stat "stat" => path(Kind::Look),
            SYS_lstat "lstat" => path(Kind::Look),
            SYS_access "access" => path(Kind::Look),
            SYS_readlink "readlink" => path(Kind::Look),
            SYS_getdents "getdents" => fd(Kind::Look),
            SYS_mkdir "mkdir" => path(Kind::Name),
            SYS_rmdir "rmdir" => path(Kind::Name),
            SYS_unlink "unlink" => path(Kind::Name),
            SYS_mknod "mknod" => path(Kind::Name),
            SYS_rename "rename" => |name| of(name, Kind::Name, Paths(0, 1)),
            SYS_link "link" => |name| of(name, Kind::Name, Paths(0, 1)),
            SYS_symlink "symlink" => |name| of(name, Kind::Name, Path(1)),
            SYS_chmod "chmod" => path(Kind::Attribute),
            SYS_chown "chown" => path(Kind::Attribute),
            SYS_lchown "lchown" => path(Kind::Attribute),
        }
    })
}

/// A process as it stands before a call.
pub(super) struct At<'a> {
    pub(super) process: Pid,
    pub(super) memory: Option<&'a File>,
    pub(super) number: i64,
    pub(super) arguments: [u64; 6],
}

/// What the call is, if it concerns files in one of these folders.
pub(super) fn concerning(at: &At<'_>, folders: &[PathBuf]) -> Option<(&'static str, Kind, PathBuf)> {
    let shape = shape(at.number)?;
    let (first, second) = match shape.named {
        Named::Fd(fd) => (at.open_file(fd), None),
        Named::Path(path) => (at.path(None, path), None),
        Named::At(path) => (at.path(path.checked_sub(1), path), None),
        Named::Paths(from, to) => (at.path(None, from), at.path(None, to)),
        Named::Ats(from, to) => (at.path(from.checked_sub(1), from), at.path(to.checked_sub(1), to)),
    };
    let is_ours = |path: &PathBuf| folders.iter().any(|folder| path.starts_with(folder));
    // Where something ends up says more than where it was.
    let path = [second, first].into_iter().flatten().find(is_ours)?;
    let kind = match shape.flags {
        Some(argument) => at.kind_of_open(shape.name, argument),
        None => shape.kind,
    };
    Some((shape.name, kind, path))
}

impl At<'_> {
    fn argument(&self, index: usize) -> u64 {
        self.arguments.get(index).copied().unwrap_or_default()
    }

    fn open_file(&self, index: usize) -> Option<PathBuf> {
        let fd = self.argument(index);
        std::fs::read_link(format!("/proc/{}/fd/{}", self.process, fd as u32)).ok()
    }

    fn path(&self, folder: Option<usize>, index: usize) -> Option<PathBuf> {
        let path = self.text(self.argument(index))?;
        if path.is_absolute() {
            return Some(without_dots(&path));
        }
        // `AT_FDCWD` is an int; the upper half of its register may hold anything.
        let fd = folder.map(|index| self.argument(index) as u32 as i32).filter(|fd| *fd != libc::AT_FDCWD);
        let base = match fd {
            Some(fd) => std::fs::read_link(format!("/proc/{}/fd/{fd}", self.process)).ok()?,
            None => std::fs::read_link(format!("/proc/{}/cwd", self.process)).ok()?,
        };
        Some(without_dots(&base.join(path)))
    }

    fn text(&self, address: u64) -> Option<PathBuf> {
        let memory = self.memory?;
        let mut bytes = Vec::new();
        let mut place = address;
        // A page at a time: the next one may not be there.
        while bytes.len() < 4096 {
            let room = usize::try_from(4096 - place % 4096).ok()?.min(256);
            let mut part = vec![0; room];
            let length = memory.read_at(&mut part, place).ok()?;
            let part = part.get(..length).filter(|part| !part.is_empty())?;
            if let Some(end) = part.iter().position(|byte| *byte == 0) {
                bytes.extend_from_slice(part.get(..end)?);
                return Some(PathBuf::from(std::ffi::OsString::from_vec(bytes)));
            }
            bytes.extend_from_slice(part);
            place += length as u64;
        }
        None
    }

    fn kind_of_open(&self, name: &str, argument: usize) -> Kind {
        let mut flags = self.argument(argument);
        if name == "openat2" {
            // The first field of `struct open_how`.
            let mut bytes = [0; 8];
            let read = self.memory.map(|memory| memory.read_exact_at(&mut bytes, flags));
            flags = if matches!(read, Some(Ok(()))) { u64::from_ne_bytes(bytes) } else { 0 };
        }
        let has = |flag: i32| flags & u64::from(flag.unsigned_abs()) != 0;
        if has(libc::O_CREAT) || has(libc::O_TRUNC) {
            Kind::Create
        } else if has(libc::O_WRONLY) || has(libc::O_RDWR) {
            Kind::OpenToWrite
        } else {
            Kind::Open
        }
    }
}

/// Without `.` and `..`, by name alone.
fn without_dots(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                plain.pop();
            }
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => plain.push(component),
        }
    }
    plain
}
