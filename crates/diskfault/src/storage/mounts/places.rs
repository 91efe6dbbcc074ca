//! Places that are not what they seem: single files, links, layers, other file systems.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context as _, ensure};
use nix::mount::MsFlags;

use super::{Row, Scene, is_dead, is_usable, refuses, says};
use crate::storage::image::{Image, Kind};
use crate::storage::sandbox::{Mounted, bind, remount_bind, tmpfs};

pub(crate) const ROWS: &[Row] = &[
    Row { name: "identity files mounted one by one", run: single_files },
    Row { name: "single files of a volume in a folder that is gone with the container", run: files_in_writable_layer },
    Row { name: "Kubernetes secret volume", run: secret },
    Row { name: "overlay, identity in the lower layer", run: overlay_copies_up },
    Row { name: "overlay mounted `volatile`", run: overlay_volatile },
    Row { name: "state folder on another file system that lasts", run: state_elsewhere },
    Row { name: "state folder in memory, identity on a disk", run: state_in_memory },
];

/// The files that `router.yml` names.
const CONFIGURED: [&str; 4] = ["key.pem", "client.pem", "server.pem", "ca.pem"];

fn single_files(scene: &Scene<'_>) -> anyhow::Result<()> {
    let (at, behind) = (scene.sub("id")?, scene.sub("behind")?);
    let router = scene.enrolled(&at)?;
    let mut mounted = Vec::new();
    for name in CONFIGURED {
        fs::copy(at.join(name), behind.join(name))?;
        bind(&behind.join(name), &at.join(name))?;
        mounted.push(Mounted::adopt(&at.join(name)));
    }
    let running = router.online()?;
    // No rename can replace them (EBUSY): they are rewritten in place, and renewal does not depend on it.
    let generation = running.renew()?;
    let written = running.log().event(rig::Mark::default(), rig::PATIENCE, &["projected"]);
    ensure!(written.is_some(), "the configured paths were not written");
    let wanted = fs::read(router.generation(generation).join("client.pem"))?;
    ensure!(fs::read(behind.join("client.pem"))? == wanted, "the mounted file does not hold the new certificate");
    is_dead(running)?;
    is_usable(&router)?;
    mounted.into_iter().try_for_each(Mounted::unmount)
}

/// An overlay on parts of `scene`; the lower layer is there already.
fn overlay(scene: &Scene<'_>, extra: &str) -> anyhow::Result<Mounted> {
    let [lower, upper, work, merged] = ["lower", "upper", "work", "merged"].map(|part| scene.sub(part));
    let (lower, upper, work) = (lower?, upper?, work?);
    let options =
        format!("lowerdir={},upperdir={},workdir={}{extra}", lower.display(), upper.display(), work.display());
    Mounted::new(Path::new("overlay"), &merged?, "overlay", &options)
}

fn files_in_writable_layer(scene: &Scene<'_>) -> anyhow::Result<()> {
    let image = Image::make(Kind::Ext4, &scene.folder.join("disk.img"))?;
    let volume = image.mount(&scene.folder.join("volume"))?;
    let enrolled = scene.enrolled(&volume.at().join("id"))?;
    let layer = overlay(scene, "")?;
    let at = layer.at().join("id");
    fs::create_dir(&at)?;
    let mut mounted = Vec::new();
    for name in CONFIGURED.into_iter().chain(["endpoints.yml"]) {
        fs::write(at.join(name), "")?;
        bind(&enrolled.folder().join(name), &at.join(name))?;
        mounted.push(Mounted::adopt(&at.join(name)));
    }
    let router = enrolled.at(&at)?;
    let running = router.online()?;
    ensure!(says(&running, "storage")? == "volatile", "it does not say that the storage is volatile");
    refuses(&running, "volatile_storage")?;
    is_dead(running)?;
    mounted.into_iter().try_for_each(Mounted::unmount)?;
    layer.unmount()?;
    // The container is gone, its layer too; the files on the volume are as they were.
    is_usable(&enrolled)?;
    volume.unmount()
}

fn secret(scene: &Scene<'_>) -> anyhow::Result<()> {
    let source = scene.enrolled(&scene.folder.join("source"))?;
    let at = scene.sub("secret")?;
    let publish = |version: &str| -> anyhow::Result<()> {
        let folder = at.join(format!("..{version}"));
        fs::create_dir(&folder)?;
        for name in CONFIGURED.into_iter().chain(["endpoints.yml"]) {
            fs::copy(source.folder().join(name), folder.join(name))?;
        }
        symlink(format!("..{version}"), at.join("..data_tmp"))?;
        Ok(fs::rename(at.join("..data_tmp"), at.join("..data"))?)
    };
    publish("first")?;
    for name in CONFIGURED.into_iter().chain(["endpoints.yml"]) {
        symlink(format!("..data/{name}"), at.join(name))?;
    }
    let router = source.at(&at)?;
    let running = router.online()?;
    ensure!(says(&running, "storage")? == "externally_managed", "it does not say that others manage the files");
    refuses(&running, "externally_managed")?;
    // The owner of the secret renews it and publishes it as a whole: it is loaded and shown.
    let mark = running.log().mark();
    let renewing = source.online()?;
    renewing.renew()?;
    is_dead(renewing)?;
    publish("second")?;
    let imported = running.log().event(mark, rig::PATIENCE, &["imported"]);
    imported.with_context(|| format!("the new files were not loaded: {}", running.log().text()))?;
    let wanted = "the newly published generation";
    let shown = running.log().event(mark, rig::PATIENCE, &["promoted", "published"]);
    shown.with_context(|| format!("{wanted} was not shown: {}", running.log().text()))?;
    is_dead(running)?;
    let judged = router.judge_only_admission();
    ensure!(judged.is_usable(), "{}", judged.brief());
    Ok(())
}

fn overlay_copies_up(scene: &Scene<'_>) -> anyhow::Result<()> {
    let enrolled = scene.enrolled(&scene.folder.join("lower/id"))?;
    let layer = overlay(scene, "")?;
    let router = enrolled.at(&layer.at().join("id"))?;
    is_usable(&router)?;
    layer.unmount()?;
    let layer = overlay(scene, "")?;
    is_usable(&router)?;
    layer.unmount()
}

fn overlay_volatile(scene: &Scene<'_>) -> anyhow::Result<()> {
    let enrolled = scene.enrolled(&scene.folder.join("lower/id"))?;
    let layer = overlay(scene, ",volatile")?;
    let router = enrolled.at(&layer.at().join("id"))?;
    let running = router.online()?;
    ensure!(says(&running, "storage")? == "volatile", "it does not say that the storage is volatile");
    refuses(&running, "volatile_storage")?;
    is_dead(running)?;
    layer.unmount()?;
    is_usable(&enrolled)
}

fn state_elsewhere(scene: &Scene<'_>) -> anyhow::Result<()> {
    let image = Image::make(Kind::Ext4, &scene.folder.join("disk.img"))?;
    let disk = image.mount(&scene.folder.join("disk"))?;
    let at = scene.sub("id")?;
    // Renaming from here to there is refused (EXDEV), though to the eye it is one tree.
    fs::create_dir(at.join(".exuvia"))?;
    bind(disk.at(), &at.join(".exuvia"))?;
    let bound = Mounted::adopt(&at.join(".exuvia"));
    let router = scene.enrolled(&at)?;
    is_usable(&router)?;
    remount_bind(&at.join(".exuvia"), MsFlags::MS_RDONLY)?;
    let running = router.online()?;
    refuses(&running, "storage_read_only")?;
    remount_bind(&at.join(".exuvia"), MsFlags::empty())?;
    super::goes_on(&router, running)?;
    bound.unmount()?;
    disk.unmount()
}

fn state_in_memory(scene: &Scene<'_>) -> anyhow::Result<()> {
    let image = Image::make(Kind::Ext4, &scene.folder.join("disk.img"))?;
    let disk = image.mount(&scene.folder.join("disk"))?;
    let router = scene.enrolled(&disk.at().join("id"))?;
    let state = router.folder().join(".exuvia");
    tmpfs(&state, "size=4m")?;
    let memory = Mounted::adopt(&state);
    let running = router.online()?;
    ensure!(says(&running, "storage")? == "volatile", "it does not say that the storage is volatile");
    refuses(&running, "volatile_storage")?;
    is_dead(running)?;
    memory.unmount()?;
    is_usable(&router)?;
    disk.unmount()
}
