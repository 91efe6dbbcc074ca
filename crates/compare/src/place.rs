//! Where the four files of an identity lie, and how that place can be made to fail.
//!
//! Only the identity is there: configuration, endpoints and logs lie elsewhere, on a file system that nobody touches.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use anyhow::{Context as _, Result, bail, ensure};
use diskfault::storage::{FileSystem, Image, Mounted, MsFlags, bind, remount_bind, tmpfs};

/// What kind of place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A folder like any other.
    #[default]
    Folder,
    /// A file system in memory with this many KiB, and this many inodes.
    Small(u32, u32),
    /// A folder mounted on itself, so that it can turn read-only.
    Bound,
    /// A folder in which each file of the identity is a mount of its own, as containers mount single files.
    BoundFiles,
    /// A file system on a disk whose power can be cut.
    Disk(FileSystem),
}

/// A place that was made. It vanishes with this.
#[derive(Debug)]
pub(crate) struct Place {
    kind: Kind,
    at: PathBuf,
    // Unmounted before the image goes.
    mounted: Mutex<Vec<Mounted>>,
    image: Option<Image>,
}

const BALLAST: &str = "ballast";

impl Place {
    /// Makes one at `at`, which is made if need be; what it needs besides lies beside it.
    ///
    /// # Errors
    /// When this machine cannot do it.
    pub(crate) fn make(kind: Kind, at: &Path) -> Result<Self> {
        fs::create_dir_all(at)?;
        let (mut mounted, mut image) = (Vec::new(), None);
        match kind {
            Kind::Folder | Kind::BoundFiles => {}
            Kind::Small(kib, inodes) => {
                tmpfs(at, &format!("size={kib}k,nr_inodes={inodes},mode=700"))?;
                mounted.push(Mounted::adopt(at));
            }
            Kind::Bound => {
                bind(at, at)?;
                mounted.push(Mounted::adopt(at));
            }
            Kind::Disk(system) => {
                let disk = Image::make(system, &at.with_extension("img"))?;
                mounted.push(disk.mount(at)?);
                image = Some(disk);
            }
        }
        Ok(Self { kind, at: at.to_owned(), mounted: Mutex::new(mounted), image })
    }

    /// The folder.
    pub(crate) fn at(&self) -> &Path {
        &self.at
    }

    fn mounts(&self) -> std::sync::MutexGuard<'_, Vec<Mounted>> {
        self.mounted.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// To be called when the files of the identity are there.
    ///
    /// # Errors
    /// When a file cannot be mounted.
    pub(crate) fn settle(&self, files: &[PathBuf]) -> Result<()> {
        match self.kind {
            Kind::BoundFiles => {
                // Behind each file stands another one of the same content, outside of the folder.
                let behind = self.at.with_extension("behind");
                fs::create_dir_all(&behind)?;
                for file in files {
                    let source = behind.join(file.file_name().unwrap_or_default());
                    fs::copy(file, &source)?;
                    bind(&source, file)?;
                    self.mounts().push(Mounted::adopt(file));
                }
            }
            // What an installation left long ago is on the disk.
            Kind::Disk(_) => {
                for file in files {
                    File::open(file)?.sync_all()?;
                }
                nix::unistd::syncfs(File::open(&self.at)?)?;
            }
            Kind::Folder | Kind::Small(..) | Kind::Bound => {}
        }
        Ok(())
    }

    /// Not one more byte fits.
    ///
    /// # Errors
    /// When it does not get full.
    pub(crate) fn fill(&self) -> Result<()> {
        ensure!(matches!(self.kind, Kind::Small(..) | Kind::Disk(_)), "only a small place is filled");
        let file = self.at.join(BALLAST);
        let mut bytes = vec![7_u8; 4 << 20];
        // What fits is left when the rest is refused; shorter and shorter pieces fill it up.
        let mut length = bytes.len();
        let mut out = File::create(&file)?;
        while length > 0 {
            match std::io::Write::write(&mut out, bytes.get(..length).unwrap_or_default()) {
                Ok(written) if written > 0 => {}
                Ok(_) | Err(_) => length /= 2,
            }
        }
        bytes.clear();
        // A disk decides where its bytes go only when they are synced.
        let _ = out.sync_all();
        Ok(())
    }

    /// Not one more file fits.
    ///
    /// # Errors
    /// When there is no end of them.
    pub(crate) fn fill_inodes(&self) -> Result<()> {
        ensure!(matches!(self.kind, Kind::Small(..)), "only a small place is filled");
        let folder = self.at.join(BALLAST);
        fs::create_dir(&folder)?;
        let made = (0..10_000).take_while(|number| File::create(folder.join(number.to_string())).is_ok()).count();
        ensure!(made < 10_000, "the inodes do not come to an end");
        Ok(())
    }

    /// What filled it is gone.
    pub(crate) fn empty(&self) {
        let ballast = self.at.join(BALLAST);
        let _ = fs::remove_file(&ballast).or_else(|_| fs::remove_dir_all(&ballast));
    }

    /// Read-only from now on, or no longer.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn read_only(&self, is: bool) -> Result<()> {
        ensure!(self.kind == Kind::Bound, "only a mount turns read-only");
        let flags = if is { MsFlags::MS_RDONLY } else { MsFlags::empty() };
        let mut last = None;
        // A file that is open for writing at this moment keeps it writable.
        for _ in 0..500 {
            match remount_bind(&self.at, flags) {
                Ok(()) => return Ok(()),
                Err(error) => last = Some(error),
            }
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        Err(last.context("not tried")?)
    }

    /// These files can be neither written nor replaced from now on, or can again.
    ///
    /// # Errors
    /// When the file system has no such attribute.
    pub(crate) fn immutable(&self, files: &[PathBuf], is: bool) -> Result<()> {
        let word = if is { "+i" } else { "-i" };
        let status = Command::new("chattr").arg(word).args(files.iter().map(|file| file.as_os_str())).output()?;
        if !status.status.success() {
            bail!("chattr {word}: {}", String::from_utf8_lossy(&status.stderr).trim());
        }
        Ok(())
    }

    /// The power of the disk fails: from now on nothing reaches it. Nobody may have anything open there when it comes back.
    ///
    /// # Errors
    /// When it has no power to cut.
    pub(crate) fn die(&self) -> Result<()> {
        diskfault::storage::shut_down(&self.at)
    }

    /// After [`Place::die`]: mounted again, with what had reached the disk.
    ///
    /// # Errors
    /// When it cannot be mounted.
    pub(crate) fn come_back(&self) -> Result<()> {
        let image = self.image.as_ref().context("no disk")?;
        let mut mounted = self.mounts();
        mounted.pop().context("no mount")?.unmount()?;
        mounted.push(image.mount(&self.at)?);
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // The innermost first.
        while self.mounts().pop().is_some() {}
    }
}

/// Is this program of the system there?
pub(crate) fn has(program: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).any(|folder| folder.join(OsStr::new(program)).is_file())
}
