//! Limits of the process, and users who are not the owner.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;

use anyhow::ensure;
use rig::{Exuvia, Running};

use super::{Row, Scene, goes_on, is_dead, is_usable, refuses};
use crate::storage::outside::run as outside;
use crate::storage::sandbox::{Mounted, bind};

pub(crate) const ROWS: &[Row] = &[
    Row { name: "no file descriptor left", run: no_descriptors },
    Row { name: "files may not grow", run: no_growth },
    Row { name: "sticky folder with files of others, no capabilities", run: sticky },
    Row { name: "another user, who owns the identity", run: another_user },
];

const NOBODY: u32 = 65_534;

fn limit(running: &Running, limit: &str) -> anyhow::Result<()> {
    let pid = running.process().pid().to_string();
    outside("prlimit", ["--pid", &pid, limit]).map(drop)
}

fn no_descriptors(scene: &Scene<'_>) -> anyhow::Result<()> {
    let router = scene.enrolled(&scene.folder.join("id"))?;
    let running = router.online()?;
    let before = running.status()?;
    // Every open file keeps working; no new one can be opened, not even a connection to the admin socket.
    let mark = running.log().mark();
    limit(&running, "--nofile=4:4096")?;
    let _ = running.order_renewal();
    let trouble = running.log().wait(mark, std::time::Duration::from_secs(3), |line| {
        matches!(line.event(), "attempt_failed" | "recovered").then_some(())
    });
    let promoted = running.log().since(mark).iter().any(|line| line.event() == "promoted");
    ensure!(!promoted, "it renewed without a descriptor");
    limit(&running, "--nofile=4096:4096")?;
    super::is_calm(&running).map_err(anyhow::Error::msg)?;
    let after = running.status()?;
    ensure!(after["generation"] == before["generation"], "after {trouble:?} another generation is served");
    goes_on(&router, running)
}

fn no_growth(scene: &Scene<'_>) -> anyhow::Result<()> {
    let router = scene.enrolled(&scene.folder.join("id"))?;
    let running = router.online()?;
    for bytes in [0, 200, 600] {
        limit(&running, &format!("--fsize={bytes}:unlimited"))?;
        refuses(&running, "storage_full")?;
    }
    limit(&running, "--fsize=unlimited:unlimited")?;
    goes_on(&router, running)
}

fn hand_over(path: &Path, user: u32) -> anyhow::Result<()> {
    outside("chown", [OsStr::new("-R"), OsStr::new(&format!("{user}:{user}")), path.as_os_str()]).map(drop)
}

/// Root without capabilities may not replace files of others in a sticky folder (EPERM): the copies stay old, and renewal does not need them.
fn sticky(scene: &Scene<'_>) -> anyhow::Result<()> {
    let router = scene.enrolled(&scene.folder.join("id"))?;
    let running = router.online()?;
    running.renew()?;
    is_dead(running)?;
    for entry in fs::read_dir(router.folder())?.flatten() {
        if entry.file_type()?.is_file() {
            chown(entry.path(), Some(NOBODY), Some(NOBODY))?;
            fs::set_permissions(entry.path(), Permissions::from_mode(0o644))?;
        }
    }
    chown(router.folder(), Some(NOBODY), Some(NOBODY))?;
    fs::set_permissions(router.folder(), Permissions::from_mode(0o1777))?;
    let powerless = scene.exuvia.clone().through(["setpriv", "--bounding-set=-all", "--inh-caps=-all"]);
    let running = router.started_as(powerless).online()?;
    running.renew()?;
    running.stop()?;
    is_usable(&router)
}

/// Nobody's router: first it may not even look, and says so; once everything is given to it, it lives as any other.
fn another_user(scene: &Scene<'_>) -> anyhow::Result<()> {
    // Where this user can walk to: the sandbox lies below folders that belong to root alone.
    let open = Path::new("/mnt");
    bind(scene.site.root(), open)?;
    let bound = Mounted::adopt(open);
    let home = scene.site.controller().home();
    fs::set_permissions(scene.site.root(), Permissions::from_mode(0o711))?;
    fs::set_permissions(home, Permissions::from_mode(0o1777))?;
    let router = scene.enrolled(&scene.folder.join("id"))?;
    fs::set_permissions(&scene.folder, Permissions::from_mode(0o755))?;
    let seen = |path: &Path| open.join(path.strip_prefix(scene.site.root()).unwrap_or(path));
    let text = fs::read_to_string(router.config())?;
    let root = scene.site.root().display().to_string();
    fs::write(router.config(), text.replace(&root, "/mnt"))?;
    let user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    let program = copy_for_all(scene)?;
    let as_nobody = Exuvia::new(seen(&program)).through(user);
    let run =
        |folder: &Path| as_nobody.run(folder, ["router".as_ref(), "run".as_ref(), seen(router.config()).as_os_str()]);
    let refused = run(open)?;
    ensure!(
        matches!(refused.code, Some(3 | 4)) && refused.stderr.contains("ermission denied"),
        "another user's identity is not named: {refused:?}"
    );
    hand_over(router.folder(), NOBODY)?;
    let mut command = as_nobody.command(open, ["router".as_ref(), "run".as_ref(), seen(router.config()).as_os_str()]);
    command.current_dir(open);
    let process = rig::Process::start(&rig::Direct, command)?;
    let online = process.log().event(rig::Mark::default(), rig::PATIENCE, &["connected"]);
    ensure!(online.is_some(), "it is not admitted as another user: {}", process.log().text());
    let asked = as_nobody.run(open, ["router".as_ref(), "renew".as_ref(), seen(router.config()).as_os_str()])?;
    ensure!(asked.code == Some(0), "it does not renew as another user: {asked:?} {}", process.log().text());
    process.signal(nix::sys::signal::Signal::SIGTERM);
    let (status, _, log) = process.finish(rig::PATIENCE)?;
    ensure!(status.success(), "it ended with {status}: {}", log.text());
    fs::set_permissions(home, Permissions::from_mode(0o755))?;
    bound.unmount()
}

/// The program where every user may execute it.
fn copy_for_all(scene: &Scene<'_>) -> anyhow::Result<std::path::PathBuf> {
    let copy = scene.folder.join("exuvia");
    fs::copy(scene.exuvia.path(), &copy)?;
    fs::set_permissions(&copy, Permissions::from_mode(0o755))?;
    Ok(copy)
}
