//! The places in which containers keep an identity, each in a real container made by `runc`.

mod bundle;

use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::path::{Path, PathBuf};

use anyhow::ensure;
use evidence::{Evidence, Lane, Layer, Plan, Skip};
use rig::{Router, Running, Starter};

use self::bundle::{Container, Root};
use super::image::{Image, Kind};
use super::mounts::{refuses, says};
use super::sandbox::{Mounted, Need, missing};
use super::site::{Site, gather, replay};

/// The layer.
pub(crate) const LAYER: Layer = Layer {
    id: "containers",
    title: "every place in which a container can keep an identity",
    lane: Lane::Waiting,
    probe,
    run: |plan| gather(plan, "containers", run),
};

/// The files that `router.yml` names, and the addresses that enrollment learnt.
const FILES: [&str; 5] = ["key.pem", "client.pem", "server.pem", "ca.pem", "endpoints.yml"];
/// Users of a rootless container begin here.
const FIRST_USER: u32 = 100_000;

fn probe() -> Vec<Skip> {
    missing(&[Need::Mounts, Need::Loop, Kind::Ext4.need(), Need::Program("runc")])
}

type Cell = (&'static str, fn(&Scene<'_>) -> anyhow::Result<()>);

const CELLS: &[Cell] = &[
    ("container: named volume", named_volume),
    ("container: folder of the host", host_folder),
    ("container: single files of the host", single_files),
    ("container: Kubernetes secret", secret),
    ("container: read-only root, volume for the identity", read_only_root),
    ("container: read-only volume", read_only_volume),
    ("container: rootless", rootless),
    ("container: identity in the image, state in the writable layer", writable_layer),
    ("container: state in tmpfs, identity on a volume", state_in_tmpfs),
];

fn run(plan: &Plan, evidence: &mut Evidence) -> anyhow::Result<()> {
    if !probe().is_empty() {
        return Ok(());
    }
    let site = Site::open(plan, "1g")?;
    for (name, run) in CELLS {
        let outcome = Scene::new(&site, plan).and_then(|scene| run(&scene));
        evidence.cell("exuvia", *name, u64::from(outcome.is_err()), 1);
        if let Err(error) = outcome {
            evidence.failed(format!("{name}: {error:#}"), replay("containers", plan));
        }
    }
    evidence.tried("places of an identity in a container", CELLS.len() as u64);
    evidence.notes.push(
        "The containers are real ones, made by `runc` with namespaces, an overlay as their root and the mounts that Docker, Podman and Kubernetes ask it for. \
         Volumes are folders and file systems of the host, as theirs are."
            .to_owned(),
    );
    evidence.leave_out(
        "containers made by a Docker or Podman daemon",
        "they hand the same mounts to `runc`, which is run here directly",
    );
    Ok(())
}

/// Where one cell plays.
struct Scene<'a> {
    site: &'a Site,
    plan: &'a Plan,
    folder: PathBuf,
}

impl<'a> Scene<'a> {
    fn new(site: &'a Site, plan: &'a Plan) -> anyhow::Result<Self> {
        Ok(Self { site, plan, folder: site.folder("box")? })
    }

    fn enrolled(&self, folder: &Path) -> anyhow::Result<Router> {
        self.site.controller().enrolled(&self.site.name("box"), folder)
    }

    /// A container in which the controller's home and the program are seen where they are.
    fn container(&self, name: &str) -> anyhow::Result<Container> {
        let mut container = Container::new(&self.folder.join(name), &self.site.name("exuvia"))?;
        container.bind(self.site.controller().home(), self.site.controller().home(), true);
        container.bind(&self.plan.exuvia, &self.plan.exuvia, false);
        Ok(container)
    }
}

/// Admitted and renews in a container; stopped as a container engine stops it.
fn renews(router: &Router, container: &dyn Starter) -> anyhow::Result<()> {
    let (judged, running) = router.judge_and_keep(container, true);
    ensure!(judged.is_usable(), "{}\n{}", judged.brief(), judged.log);
    running.map_or(Ok(()), stop)
}

fn stop(running: Running) -> anyhow::Result<()> {
    running.stop().map(drop)
}

/// Admitted in a container, and renews nothing there because of this.
fn serves_only(router: &Router, container: &dyn Starter, mode: &str, reason: &str) -> anyhow::Result<()> {
    let running = router.start_by(container)?;
    running.until_online()?;
    ensure!(
        says(&running, "storage")? == mode,
        "it does not say that the storage is {mode}: {}",
        says(&running, "storage")?
    );
    refuses(&running, reason)?;
    stop(running)
}

fn named_volume(scene: &Scene<'_>) -> anyhow::Result<()> {
    let image = Image::make(Kind::Ext4, &scene.folder.join("volume.img"))?;
    let volume = image.mount(&scene.folder.join("volume"))?;
    let router = scene.enrolled(&volume.at().join("id"))?;
    // Two containers, one after the other, with the same volume.
    for name in ["first", "second"] {
        let mut container = scene.container(name)?;
        container.bind(router.folder(), router.folder(), true);
        renews(&router, &container)?;
    }
    volume.unmount()
}

fn host_folder(scene: &Scene<'_>) -> anyhow::Result<()> {
    let router = scene.enrolled(&scene.folder.join("id"))?;
    let mut container = scene.container("box")?;
    container.bind(router.folder(), router.folder(), true);
    renews(&router, &container)?;
    let judged = router.judge();
    ensure!(judged.is_usable(), "outside of the container: {}", judged.brief());
    Ok(())
}

fn single_files(scene: &Scene<'_>) -> anyhow::Result<()> {
    let router = scene.enrolled(&scene.folder.join("id"))?;
    let mut container = scene.container("box")?;
    for name in FILES {
        container.bind(&router.folder().join(name), &router.folder().join(name), true);
    }
    serves_only(&router, &container, "volatile", "volatile_storage")?;
    let judged = router.judge();
    ensure!(judged.is_usable(), "outside of the container: {}", judged.brief());
    Ok(())
}

fn secret(scene: &Scene<'_>) -> anyhow::Result<()> {
    let source = scene.enrolled(&scene.folder.join("source"))?;
    let volume = scene.folder.join("secret");
    fs::create_dir_all(volume.join("..2026"))?;
    symlink("..2026", volume.join("..data"))?;
    for name in FILES {
        fs::copy(source.folder().join(name), volume.join("..2026").join(name))?;
        symlink(format!("..data/{name}"), volume.join(name))?;
    }
    let router = source.at(&volume)?;
    let mut container = scene.container("box")?;
    container.bind(&volume, &volume, false);
    serves_only(&router, &container, "externally_managed", "externally_managed")
}

fn read_only_root(scene: &Scene<'_>) -> anyhow::Result<()> {
    let router = scene.enrolled(&scene.folder.join("id"))?;
    let mut container = scene.container("box")?.with_root(Root::ReadOnly);
    container.bind(router.folder(), router.folder(), true);
    renews(&router, &container)
}

fn read_only_volume(scene: &Scene<'_>) -> anyhow::Result<()> {
    let router = scene.enrolled(&scene.folder.join("id"))?;
    let mut container = scene.container("box")?;
    container.bind(router.folder(), router.folder(), false);
    serves_only(&router, &container, "read_only", "storage_read_only")?;
    let mut container = scene.container("mended")?;
    container.bind(router.folder(), router.folder(), true);
    renews(&router, &container)
}

fn rootless(scene: &Scene<'_>) -> anyhow::Result<()> {
    let router = scene.enrolled(&scene.folder.join("id"))?;
    // Where the admin socket is made must be the router's own.
    let home = scene.site.controller().home();
    chown(home, Some(FIRST_USER), Some(FIRST_USER))?;
    give(router.folder(), FIRST_USER)?;
    // The way there must be open to a user who is nobody on the host.
    for folder in [scene.site.root(), scene.folder.as_path()] {
        fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    }
    let mut container = scene.container("box")?.with_users_from(FIRST_USER)?;
    container.bind(router.folder(), router.folder(), true);
    let outcome = renews(&router, &container);
    chown(home, Some(0), Some(0))?;
    outcome
}

fn give(path: &Path, user: u32) -> anyhow::Result<()> {
    chown(path, Some(user), Some(user))?;
    if path.is_dir() {
        for entry in fs::read_dir(path)?.flatten() {
            give(&entry.path(), user)?;
        }
    }
    Ok(())
}

fn writable_layer(scene: &Scene<'_>) -> anyhow::Result<()> {
    let router = scene.enrolled(&scene.folder.join("id"))?;
    let container = scene.container("box")?;
    container.bake(router.folder())?;
    // All of the identity lives and dies with the container: started twice, it finds what it renewed to.
    renews(&router, &container)?;
    renews(&router, &container)
}

fn state_in_tmpfs(scene: &Scene<'_>) -> anyhow::Result<()> {
    let image = Image::make(Kind::Ext4, &scene.folder.join("volume.img"))?;
    let volume: Mounted = image.mount(&scene.folder.join("volume"))?;
    let router = scene.enrolled(&volume.at().join("id"))?;
    let mut container = scene.container("box")?;
    container.bind(router.folder(), router.folder(), true);
    container.tmpfs(&router.folder().join(".exuvia"));
    serves_only(&router, &container, "volatile", "volatile_storage")?;
    let judged = router.judge();
    ensure!(judged.is_usable(), "outside of the container: {}", judged.brief());
    volume.unmount()
}
