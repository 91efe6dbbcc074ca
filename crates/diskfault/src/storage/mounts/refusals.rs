//! Places without room, and places that may not be written.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, ensure};
use nix::mount::MsFlags;

use super::{Row, Scene, bound, goes_on, is_dead, is_usable, refuses, says, says_soon};
use crate::storage::image::{Image, Kind};
use crate::storage::outside::run as outside;
use crate::storage::sandbox::{Mounted, remount_bind, tmpfs};

pub(crate) const ROWS: &[Row] = &[
    Row { name: "tmpfs without bytes", run: no_bytes },
    Row { name: "tmpfs without inodes", run: no_inodes },
    Row { name: "btrfs quota reached", run: quota },
    Row { name: "mount turned read-only under the process", run: read_only_while_running },
    Row { name: "mount read-only at the start", run: read_only_at_start },
    Row { name: "ext4 turned read-only after an error", run: read_only_after_error },
    Row { name: "state folder immutable", run: |scene| immutable(scene, "+i", "") },
    Row { name: "manifest immutable", run: |scene| immutable(scene, "+i", "manifest") },
    Row { name: "state folder append-only", run: |scene| immutable(scene, "+a", "") },
    Row { name: "state folder without write permission", run: no_permission },
];

/// A file system in memory that is filled up and emptied again.
fn in_memory(scene: &Scene<'_>, options: &str, fill: impl FnOnce(&Path) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let at = scene.sub("small")?;
    tmpfs(&at, options)?;
    let mounted = Mounted::adopt(&at);
    let router = scene.enrolled(&at.join("id"))?;
    let running = router.online()?;
    let ballast = at.join("ballast");
    fs::create_dir(&ballast)?;
    fill(&ballast)?;
    refuses(&running, "storage_full")?;
    fs::remove_dir_all(&ballast)?;
    goes_on(&router, running)?;
    mounted.unmount()
}

fn no_bytes(scene: &Scene<'_>) -> anyhow::Result<()> {
    in_memory(scene, "size=512k", |ballast| {
        let mut bytes = vec![7; 1 << 20];
        let file = ballast.join("bytes");
        while fs::write(&file, &bytes).is_err() && bytes.len() > 4096 {
            bytes.truncate(bytes.len() - 4096);
        }
        Ok(())
    })
}

fn no_inodes(scene: &Scene<'_>) -> anyhow::Result<()> {
    in_memory(scene, "size=4m,nr_inodes=100", |ballast| {
        let made = (0..200).take_while(|number| File::create(ballast.join(format!("{number}"))).is_ok()).count();
        ensure!(made < 200, "the inodes do not come to an end");
        Ok(())
    })
}

fn quota(scene: &Scene<'_>) -> anyhow::Result<()> {
    let image = Image::make(Kind::Btrfs, &scene.folder.join("disk.img"))?;
    let mounted = image.mount(&scene.folder.join("disk"))?;
    let part = mounted.at().join("part");
    let btrfs = |args: &[&OsStr]| outside("btrfs", args).map(drop);
    let word = OsStr::new;
    btrfs(&[word("quota"), word("enable"), mounted.at().as_os_str()])?;
    btrfs(&[word("subvolume"), word("create"), part.as_os_str()])?;
    let router = scene.enrolled(&part.join("id"))?;
    let running = router.online()?;
    running.renew()?;
    btrfs(&[word("qgroup"), word("limit"), word("2m"), part.as_os_str()])?;
    let ballast = part.join("ballast");
    let filled = (0..64).map(|number| {
        let mut file = File::create(ballast.with_extension(number.to_string()))?;
        std::io::Write::write_all(&mut file, &[7; 64 << 10])?;
        file.sync_all()
    });
    ensure!(filled.take_while(Result::is_ok).count() < 64, "the quota is never reached");
    refuses(&running, "storage_full")?;
    for number in 0..64 {
        let _ = fs::remove_file(ballast.with_extension(number.to_string()));
    }
    btrfs(&[word("filesystem"), word("sync"), mounted.at().as_os_str()])?;
    goes_on(&router, running)?;
    mounted.unmount()
}

fn read_only_while_running(scene: &Scene<'_>) -> anyhow::Result<()> {
    let at = scene.sub("id")?;
    let mounted = bound(&at)?;
    let router = scene.enrolled(&at)?;
    let running = router.online()?;
    remount_bind(&at, MsFlags::MS_RDONLY)?;
    refuses(&running, "storage_read_only")?;
    says_soon(&running, "read_only")?;
    remount_bind(&at, MsFlags::empty())?;
    says_soon(&running, "writable")?;
    goes_on(&router, running)?;
    mounted.unmount()
}

fn read_only_at_start(scene: &Scene<'_>) -> anyhow::Result<()> {
    let at = scene.sub("id")?;
    let mounted = bound(&at)?;
    let router = scene.enrolled(&at)?;
    remount_bind(&at, MsFlags::MS_RDONLY)?;
    let running = router.online()?;
    ensure!(says(&running, "storage")? == "read_only", "it does not say that the storage is read-only");
    ensure!(running.log().text().contains("no renewal"), "its log does not say that nothing is renewed");
    let doctor = router.command("doctor", &[])?;
    ensure!(doctor.code == Some(1) && doctor.stdout.contains("read-only"), "`doctor` does not say so: {doctor:?}");
    refuses(&running, "storage_read_only")?;
    remount_bind(&at, MsFlags::empty())?;
    goes_on(&router, running)?;
    mounted.unmount()
}

fn read_only_after_error(scene: &Scene<'_>) -> anyhow::Result<()> {
    let image = Image::make(Kind::Ext4, &scene.folder.join("disk.img"))?;
    let at = scene.folder.join("disk");
    let mounted = Mounted::new(image.device(), &at, "ext4", "errors=remount-ro")?;
    let router = scene.enrolled(&at.join("id"))?;
    let running = router.online()?;
    let name = image.device().file_name().context("a loop device without a name")?;
    let trigger = Path::new("/sys/fs/ext4").join(name).join("trigger_fs_error");
    fs::write(&trigger, "x").with_context(|| format!("cannot write `{}`", trigger.display()))?;
    refuses(&running, "storage_")?;
    is_dead(running)?;
    mounted.unmount()?;
    // The disk was mended: it is mounted anew.
    let mounted = image.mount(&at)?;
    is_usable(&router)?;
    mounted.unmount()
}

fn immutable(scene: &Scene<'_>, attribute: &str, name: &str) -> anyhow::Result<()> {
    let image = Image::make(Kind::Ext4, &scene.folder.join("disk.img"))?;
    let mounted = image.mount(&scene.folder.join("disk"))?;
    let router = scene.enrolled(&mounted.at().join("id"))?;
    let running = router.online()?;
    let target = router.state().join(name);
    outside("chattr", [OsStr::new(attribute), target.as_os_str()])?;
    let refused = refuses(&running, "storage_read_only");
    outside("chattr", [OsStr::new(&attribute.replace('+', "-")), target.as_os_str()])?;
    refused?;
    goes_on(&router, running)?;
    mounted.unmount()
}

fn no_permission(scene: &Scene<'_>) -> anyhow::Result<()> {
    let router = scene.enrolled(&scene.folder.join("id"))?.started_as(scene.exuvia.clone().obeying_modes());
    let running = router.online()?;
    fs::set_permissions(router.state(), Permissions::from_mode(0o500))?;
    refuses(&running, "storage_read_only")?;
    fs::set_permissions(router.state(), Permissions::from_mode(0o700))?;
    goes_on(&router, running)
}
