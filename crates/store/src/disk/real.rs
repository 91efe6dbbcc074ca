//! The kernel's file system, through rustix.

use std::ffi::CString;
use std::os::fd::{AsFd, IntoRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{self, AtFlags, FallocateFlags, FileType, FlockOperation, Gid, Mode, OFlags, ResolveFlags, Uid};
use rustix::io::{Errno, retry_on_intr};
use zeroize::Zeroizing;

use super::{Attributes, Disk, FileSystem, FileSystemKind, Kind, Metadata, Result, is_name};

const LABEL: &str = "security.selinux";
const LABEL_MAX_BYTES: usize = 4096;

/// Magic numbers of `statfs(2)`.
const TMPFS: u64 = 0x0102_1994;
const RAMFS: u64 = 0x8584_58f6;
const OVERLAY: u64 = 0x794c_7630;
const NETWORK: [u64; 6] = [0x6969, 0xff53_4d42, 0xfe53_4d42, 0x517b, 0x0bd0_0bd0, 0x00c3_6400];

/// The disk of this machine. Holds nothing but open handles.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

/// An open folder of the machine.
#[derive(Clone, Debug)]
pub struct RealFolder(Arc<OwnedFd>);

/// An open file of the machine.
#[derive(Debug)]
pub struct RealFile {
    fd: OwnedFd,
    /// A failed fsync leaves its pages clean: the next one would lie.
    is_condemned: bool,
}

impl RealFile {
    fn new(fd: OwnedFd) -> Self {
        Self { fd, is_condemned: false }
    }

    fn fd(&self) -> Result<&OwnedFd> {
        if self.is_condemned { Err(Errno::IO) } else { Ok(&self.fd) }
    }
}

/// A held `flock`: the open file description carries it, so closing gives it back.
#[derive(Debug)]
pub struct RealLock(OwnedFd);

/// Opens one component below `at`. `openat2` keeps mounts' magic links and anything above `at` out; kernels and sandboxes
/// without it get `openat`, which for a single component differs in nothing that matters here.
fn open_at(at: &RealFolder, name: &str, flags: OFlags, mode: Mode) -> Result<OwnedFd> {
    if !is_name(name) {
        return Err(Errno::INVAL);
    }
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
    match retry_on_intr(|| fs::openat2(&*at.0, name, flags, mode, resolve)) {
        Err(Errno::NOSYS | Errno::PERM | Errno::AGAIN | Errno::INVAL) => {
            retry_on_intr(|| fs::openat(&*at.0, name, flags, mode))
        }
        answer => answer,
    }
}

fn metadata_of(stat: &fs::Stat) -> Metadata {
    Metadata {
        kind: match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Folder,
            FileType::Symlink => Kind::Link,
            _ => Kind::Other,
        },
        mode: stat.st_mode & 0o7777,
        user: stat.st_uid,
        group: stat.st_gid,
        size_bytes: u64::try_from(stat.st_size).unwrap_or(0),
        device: stat.st_dev,
    }
}

fn named(name: &str) -> Result<&str> {
    if is_name(name) { Ok(name) } else { Err(Errno::INVAL) }
}

impl Disk for RealDisk {
    type Folder = RealFolder;
    type File = RealFile;
    type Lock = RealLock;

    fn open_root(&mut self, path: &Path) -> Result<RealFolder> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = retry_on_intr(|| fs::open(path, flags, Mode::empty()))?;
        Ok(RealFolder(Arc::new(fd)))
    }

    fn open_folder(&mut self, at: &RealFolder, name: &str) -> Result<RealFolder> {
        let fd = open_at(at, name, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?;
        Ok(RealFolder(Arc::new(fd)))
    }

    fn make_folder(&mut self, at: &RealFolder, name: &str, mode: u32) -> Result<()> {
        let mode = Mode::from_raw_mode(mode);
        fs::mkdirat(&*at.0, named(name)?, mode)?;
        fs::chmodat(&*at.0, name, mode, AtFlags::empty())
    }

    fn remove_folder(&mut self, at: &RealFolder, name: &str) -> Result<()> {
        fs::unlinkat(&*at.0, named(name)?, AtFlags::REMOVEDIR)
    }

    fn create(&mut self, at: &RealFolder, name: &str, mode: u32) -> Result<RealFile> {
        let mode = Mode::from_raw_mode(mode);
        let fd = open_at(at, name, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL, mode)?;
        // The umask can only have taken bits away, so no byte is ever readable by more than `mode` says.
        if let Err(errno) = fs::fchmod(&fd, mode) {
            // A mode that cannot be set (some network mounts) is harmless unless it is too wide.
            let is_wider = fs::fstat(&fd).is_ok_and(|stat| stat.st_mode & 0o777 & !mode.as_raw_mode() != 0);
            if is_wider || errno == Errno::IO {
                let _ = fs::unlinkat(&*at.0, name, AtFlags::empty());
                return Err(errno);
            }
        }
        Ok(RealFile::new(fd))
    }

    fn open_for_writing(&mut self, at: &RealFolder, name: &str) -> Result<RealFile> {
        let fd = open_at(at, name, OFlags::WRONLY | OFlags::NONBLOCK, Mode::empty())?;
        if FileType::from_raw_mode(fs::fstat(&fd)?.st_mode) != FileType::RegularFile {
            return Err(Errno::INVAL);
        }
        Ok(RealFile::new(fd))
    }

    fn write(&mut self, file: &mut RealFile, mut bytes: &[u8]) -> Result<()> {
        let fd = file.fd()?;
        while !bytes.is_empty() {
            let written = retry_on_intr(|| rustix::io::write(fd, bytes))?;
            if written == 0 {
                return Err(Errno::NOSPC);
            }
            bytes = bytes.get(written..).ok_or(Errno::IO)?;
        }
        Ok(())
    }

    fn set_size(&mut self, file: &mut RealFile, size_bytes: u64) -> Result<()> {
        let fd = file.fd()?;
        retry_on_intr(|| fs::ftruncate(fd, size_bytes))
    }

    fn reserve(&mut self, file: &mut RealFile, size_bytes: u64) -> Result<()> {
        let fd = file.fd()?;
        // A failed fallocate on ext4 keeps what it got and may leave the disk full, so ask only for what is there.
        let room = fs::fstatvfs(fd)?;
        if room.f_blocks > 0 && room.f_bavail.saturating_mul(room.f_frsize) < size_bytes {
            return Err(Errno::NOSPC);
        }
        retry_on_intr(|| fs::fallocate(fd, FallocateFlags::KEEP_SIZE, 0, size_bytes))
    }

    fn set_attributes(&mut self, file: &mut RealFile, attributes: &Attributes) -> Result<()> {
        let fd = file.fd()?;
        // Owner first: changing it may clear mode bits.
        if let Some((user, group)) = attributes.owner {
            let now = fs::fstat(fd)?;
            if (now.st_uid, now.st_gid) != (user, group) {
                fs::fchown(fd, Some(Uid::from_raw(user)), Some(Gid::from_raw(group)))?;
            }
        }
        fs::fchmod(fd, Mode::from_raw_mode(attributes.mode))?;
        if let Some(label) = &attributes.label {
            let mut now = [0_u8; LABEL_MAX_BYTES];
            let length = fs::fgetxattr(fd, LABEL, &mut now).unwrap_or(0);
            if now.get(..length) != Some(label) {
                fs::fsetxattr(fd, LABEL, label, fs::XattrFlags::empty())?;
            }
        }
        Ok(())
    }

    fn sync_file(&mut self, file: &mut RealFile) -> Result<()> {
        let answer = retry_on_intr(|| fs::fsync(file.fd()?));
        file.is_condemned |= answer.is_err();
        answer
    }

    #[expect(unsafe_code, reason = "no safe call returns what close(2) says, and NFS and quotas speak up only there")]
    fn close(&mut self, file: RealFile) -> Result<()> {
        let is_condemned = file.is_condemned;
        // SAFETY: the descriptor was owned by `file` alone and is given up here; nobody uses it afterwards, whatever the answer.
        let answer = unsafe { rustix::io::try_close(file.fd.into_raw_fd()) };
        match answer {
            _ if is_condemned => Err(Errno::IO),
            // Linux has closed the descriptor when it says EINTR, and the data was synced before.
            Err(Errno::INTR) => Ok(()),
            answer => answer,
        }
    }

    fn rename(&mut self, at: &RealFolder, from: &str, to: &str) -> Result<()> {
        fs::renameat(&*at.0, named(from)?, &*at.0, named(to)?)
    }

    fn unlink(&mut self, at: &RealFolder, name: &str) -> Result<()> {
        fs::unlinkat(&*at.0, named(name)?, AtFlags::empty())
    }

    fn sync_folder(&mut self, at: &RealFolder) -> Result<()> {
        match retry_on_intr(|| fs::fsync(&*at.0)) {
            // Some network and FUSE mounts have no sync of folders; their servers keep names in order, or nobody can help it.
            Err(Errno::INVAL) => Ok(()),
            answer => answer,
        }
    }

    fn read(&mut self, at: &RealFolder, name: &str, most_bytes: usize) -> Result<Zeroizing<Vec<u8>>> {
        let fd = open_at(at, name, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY, Mode::empty())?;
        let stat = fs::fstat(&fd)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Errno::INVAL);
        }
        let size = usize::try_from(stat.st_size).unwrap_or(usize::MAX);
        if size > most_bytes {
            return Err(Errno::FBIG);
        }
        // One byte more than the file has: a growing file shows, and no growth of the vector leaves a copy of a key behind.
        let mut content = Zeroizing::new(vec![0_u8; size.saturating_add(1)]);
        let mut filled = 0;
        while let Some(room) = content.get_mut(filled..)
            && !room.is_empty()
        {
            match retry_on_intr(|| rustix::io::read(&fd, &mut *room))? {
                0 => break,
                count => filled = filled.saturating_add(count),
            }
        }
        if filled > size {
            return Err(Errno::AGAIN);
        }
        content.truncate(filled);
        Ok(content)
    }

    fn list(&mut self, at: &RealFolder) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::Dir::read_from(&*at.0)? {
            if let Ok(name) = entry?.file_name().to_str()
                && name != "."
                && name != ".."
            {
                names.push(name.to_owned());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn metadata(&mut self, at: &RealFolder, name: &str) -> Result<Metadata> {
        Ok(metadata_of(&fs::statat(&*at.0, named(name)?, AtFlags::SYMLINK_NOFOLLOW)?))
    }

    fn folder_metadata(&mut self, at: &RealFolder) -> Result<Metadata> {
        Ok(metadata_of(&fs::fstat(&*at.0)?))
    }

    fn label(&mut self, at: &RealFolder, name: &str) -> Result<Option<Vec<u8>>> {
        let fd = open_at(at, name, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty())?;
        let mut label = vec![0_u8; LABEL_MAX_BYTES];
        Ok(fs::fgetxattr(&fd, LABEL, label.as_mut_slice()).ok().map(|length| {
            label.truncate(length);
            label
        }))
    }

    fn make_link(&mut self, at: &RealFolder, name: &str, target: &Path) -> Result<()> {
        fs::symlinkat(target, &*at.0, named(name)?)
    }

    fn read_link(&mut self, at: &RealFolder, name: &str) -> Result<PathBuf> {
        let target: CString = fs::readlinkat(&*at.0, named(name)?, Vec::new())?;
        Ok(PathBuf::from(std::ffi::OsString::from_vec(target.into_bytes())))
    }

    fn lock(&mut self, at: &RealFolder) -> Result<RealLock> {
        // Its own open file description: a lock taken on a shared one would be given back by whoever closes first.
        let fd = retry_on_intr(|| {
            fs::openat(&*at.0, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        })?;
        match retry_on_intr(|| fs::flock(&fd, FlockOperation::NonBlockingLockExclusive)) {
            Ok(()) => Ok(RealLock(fd)),
            // NFS turns flock into a byte-range lock, which wants a handle that can write; a folder's never can.
            Err(Errno::BADF | Errno::INVAL | Errno::ISDIR) => Err(Errno::OPNOTSUPP),
            Err(errno) => Err(errno),
        }
    }

    fn unlock(&mut self, lock: RealLock) {
        drop(lock.0);
    }

    fn file_system(&mut self, at: &RealFolder) -> Result<FileSystem> {
        let magic = u64::try_from(fs::fstatfs(&*at.0)?.f_type).unwrap_or(0) & 0xffff_ffff;
        let room = fs::fstatvfs(&*at.0)?;
        let kind = match magic {
            TMPFS | RAMFS => FileSystemKind::Tmpfs,
            OVERLAY => FileSystemKind::Overlay { is_volatile: is_volatile(fs::fstat(&*at.0)?.st_dev) },
            magic if NETWORK.contains(&magic) => FileSystemKind::Network,
            _ => FileSystemKind::Durable,
        };
        Ok(FileSystem {
            kind,
            is_read_only: room.f_flag.contains(fs::StatVfsMountFlags::RDONLY),
            free_bytes: if room.f_blocks == 0 { u64::MAX } else { room.f_bavail.saturating_mul(room.f_frsize) },
        })
    }

    fn effective_user(&mut self) -> u32 {
        rustix::process::geteuid().as_raw()
    }
}

/// Does the overlay with this device number drop its syncs? Its mount options say so.
fn is_volatile(device: u64) -> bool {
    let id = format!("{}:{}", fs::major(device), fs::minor(device));
    std::fs::read_to_string("/proc/self/mountinfo").is_ok_and(|table| names_volatile(&table, &id))
}

/// Does this table of mounts name the device as volatile? Kernels since 6.18 spell it `fsync=volatile`, whatever was given to `mount`.
fn names_volatile(table: &str, device: &str) -> bool {
    table.lines().any(|line| {
        line.split(' ').nth(2) == Some(device)
            && line
                .rsplit(' ')
                .next()
                .is_some_and(|options| options.split(',').any(|o| matches!(o, "volatile" | "fsync=volatile")))
    })
}

impl AsFd for RealFolder {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::names_volatile;

    #[test]
    fn an_overlay_that_drops_its_syncs_is_known_as_old_and_new_kernels_spell_it() {
        let line =
            |options: &str| format!("66 63 0:40 / /m rw,relatime - overlay o rw,lowerdir=l,upperdir=u,{options}\n");
        assert!(names_volatile(&line("workdir=w,volatile"), "0:40"));
        assert!(names_volatile(&line("workdir=w,uuid=on,fsync=volatile"), "0:40"));
        assert!(!names_volatile(&line("workdir=w,uuid=on,fsync=auto"), "0:40"));
        assert!(!names_volatile(&line("workdir=volatile"), "0:40"));
        assert!(!names_volatile(&line("workdir=w,volatile"), "0:4"));
    }
}
