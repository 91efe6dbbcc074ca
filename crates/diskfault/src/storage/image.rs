//! File systems on images: made, mounted, and cut off from power.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};

use super::outside::run;
use super::sandbox::{Loop, Mounted, Need};

/// A file system with a journal or something like it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Journal of metadata, data before the commit that names it.
    Ext4,
    /// Journal of metadata, sizes moved when data is written.
    Xfs,
    /// Copy on write.
    Btrfs,
}

impl Kind {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::Ext4, Self::Xfs, Self::Btrfs];

    /// As `mount` calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }

    /// What makes it.
    pub(crate) fn need(self) -> Need {
        Need::Program(match self {
            Self::Ext4 => "mkfs.ext4",
            Self::Xfs => "mkfs.xfs",
            Self::Btrfs => "mkfs.btrfs",
        })
    }

    /// Length of its images: the smallest that its makers like.
    pub(crate) fn size_bytes(self) -> u64 {
        match self {
            Self::Ext4 => 24 << 20,
            Self::Xfs => 320 << 20,
            Self::Btrfs => 128 << 20,
        }
    }

    /// As it is mounted here.
    pub(crate) fn options(self) -> &'static str {
        match self {
            Self::Ext4 | Self::Btrfs => "",
            // Several states of one disk may be mounted at the same time.
            Self::Xfs => "nouuid",
        }
    }

    /// Makes an empty one in `image`.
    pub(crate) fn make(self, image: &Path) -> anyhow::Result<()> {
        File::create(image)?.set_len(self.size_bytes())?;
        let image = image.as_os_str();
        match self {
            Self::Ext4 => {
                let lazy = "lazy_itable_init=0,lazy_journal_init=0,nodiscard";
                let args = ["-q", "-F", "-b", "4096", "-m", "0", "-E", lazy].map(OsStr::new);
                run("mkfs.ext4", args.into_iter().chain([image]))
            }
            Self::Xfs => run("mkfs.xfs", ["-q", "-f", "-K"].map(OsStr::new).into_iter().chain([image])),
            Self::Btrfs => run("mkfs.btrfs", ["-q", "-f", "-K"].map(OsStr::new).into_iter().chain([image])),
        }
        .map(drop)
    }

    /// Mounts the device.
    pub(crate) fn mount(self, device: &Path, at: &Path) -> anyhow::Result<Mounted> {
        Mounted::new(device, at, self.name(), self.options())
    }
}

/// An image with a file system on it, on a loop device.
#[derive(Debug)]
pub struct Image {
    kind: Kind,
    file: PathBuf,
    device: Loop,
}

impl Image {
    /// Makes one at `file`.
    pub fn make(kind: Kind, file: &Path) -> anyhow::Result<Self> {
        kind.make(file)?;
        Ok(Self { kind, file: file.to_owned(), device: Loop::attach(file)? })
    }

    /// The file system's kind.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// The file that holds it.
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    /// The device.
    pub(crate) fn device(&self) -> &Path {
        self.device.device()
    }

    /// Mounts it.
    pub fn mount(&self, at: &Path) -> anyhow::Result<Mounted> {
        self.kind.mount(self.device.device(), at)
    }
}

/// Cuts the power of a mounted file system: from now on nothing reaches the disk, and what was not synced is gone.
pub fn shut_down(at: &Path) -> anyhow::Result<()> {
    run("xfs_io", [OsStr::new("-x"), OsStr::new("-c"), OsStr::new("shutdown"), at.as_os_str()]).map(drop)
}

/// Cuts its power and unmounts it.
pub fn cut_power(mounted: Mounted) -> anyhow::Result<()> {
    shut_down(mounted.at())?;
    mounted.unmount()
}
