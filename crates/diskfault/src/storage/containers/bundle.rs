//! Containers as `runc` takes them: a root on an overlay, mounts, and one command.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use rig::{Direct, Started, Starter};
use serde_json::{Value, json};

use crate::storage::outside::run as outside;
use crate::storage::sandbox::Mounted;

/// May the container write into its own root?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Root {
    /// Into a layer that goes with it.
    Writable,
    /// No (`--read-only`).
    ReadOnly,
}

/// A container that can be started as often as one likes; its writable layer stays.
#[derive(Debug)]
pub(crate) struct Container {
    folder: PathBuf,
    name: String,
    root: Root,
    mounts: Vec<Value>,
    first_user: Option<u32>,
    starts: AtomicU32,
    ran: Mutex<Vec<String>>,
    /// The overlay with its image below and its writable layer above.
    merged: Option<Mounted>,
}

/// Folders of the host that serve as the image, and the file of names that container engines put into every container.
const IMAGE: [&str; 5] = ["/usr", "/lib", "/lib64", "/bin", "/etc/hosts"];

impl Container {
    /// Its parts are in `folder`.
    pub(crate) fn new(folder: &Path, name: &str) -> anyhow::Result<Self> {
        let [lower, upper, work, merged] = ["lower", "upper", "work", "merged"].map(|part| folder.join(part));
        for part in [&lower, &upper, &work, &merged] {
            fs::create_dir_all(part)?;
        }
        let options = format!("lowerdir={},upperdir={},workdir={}", lower.display(), upper.display(), work.display());
        let merged = Mounted::new(Path::new("overlay"), &merged, "overlay", &options)?;
        let mut mounts = vec![
            json!({ "destination": "/proc", "type": "proc", "source": "proc" }),
            json!({ "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=64k"] }),
        ];
        for part in IMAGE.iter().filter(|part| Path::new(part).exists()) {
            mounts.push(json!({ "destination": part, "type": "bind", "source": part, "options": ["rbind", "ro"] }));
        }
        Ok(Self {
            folder: folder.to_owned(),
            name: name.to_owned(),
            root: Root::Writable,
            mounts,
            first_user: None,
            starts: AtomicU32::new(0),
            ran: Mutex::default(),
            merged: Some(merged),
        })
    }

    /// With a root like this.
    pub(crate) fn with_root(mut self, root: Root) -> Self {
        self.root = root;
        self
    }

    /// Rootless: its root is this user of the host.
    ///
    /// # Errors
    /// When its root folder cannot be given to that user.
    pub(crate) fn with_users_from(mut self, first_user: u32) -> io::Result<Self> {
        for open in self.merged.iter().map(Mounted::at).chain([self.folder.as_path()]) {
            fs::set_permissions(open, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        }
        if let Some(merged) = &self.merged {
            std::os::unix::fs::chown(merged.at(), Some(first_user), Some(first_user))?;
        }
        self.first_user = Some(first_user);
        Ok(self)
    }

    /// Mounts a file or folder of the host.
    pub(crate) fn bind(&mut self, from: &Path, to: &Path, is_writable: bool) {
        let mode = if is_writable { "rw" } else { "ro" };
        self.mounts.push(json!({ "destination": to, "type": "bind", "source": from, "options": ["bind", mode] }));
    }

    /// Mounts an empty file system in memory.
    pub(crate) fn tmpfs(&mut self, at: &Path) {
        self.mounts.push(json!({ "destination": at, "type": "tmpfs", "source": "tmpfs", "options": ["size=4m"] }));
    }

    /// Puts a copy of a folder of the host into it, at the same path.
    pub(crate) fn bake(&self, folder: &Path) -> anyhow::Result<()> {
        let root = self.merged.as_ref().map_or(Path::new(""), Mounted::at);
        let inside = root.join(folder.strip_prefix("/").unwrap_or(folder));
        if let Some(parent) = inside.parent() {
            fs::create_dir_all(parent)?;
        }
        outside("cp", ["-a".as_ref(), folder.as_os_str(), inside.as_os_str()]).map(drop)
    }

    fn specification(&self, command: &Command, terminal_folder: &Path) -> Value {
        let mut args = vec![command.get_program().to_string_lossy().into_owned()];
        args.extend(command.get_args().map(|arg| arg.to_string_lossy().into_owned()));
        let environment: Vec<String> = command
            .get_envs()
            // Process ids of the host mean nothing in there.
            .filter(|(name, _)| *name != "EXUVIA_PARENT_PID")
            .filter_map(|(name, value)| Some(format!("{}={}", name.to_string_lossy(), value?.to_string_lossy())))
            .collect();
        let mut namespaces: Vec<Value> =
            ["pid", "ipc", "uts", "mount"].iter().map(|kind| json!({ "type": kind })).collect();
        let mut linux = json!({});
        if let Some(first) = self.first_user {
            namespaces.push(json!({ "type": "user" }));
            let mapping = json!([{ "containerID": 0, "hostID": first, "size": 65_536 }]);
            linux["uidMappings"] = mapping.clone();
            linux["gidMappings"] = mapping;
        }
        linux["namespaces"] = json!(namespaces);
        json!({
            "ociVersion": "1.0.2",
            "root": { "path": self.merged.as_ref().map(Mounted::at), "readonly": self.root == Root::ReadOnly },
            "process": {
                "terminal": false, "user": { "uid": 0, "gid": 0 }, "args": args, "env": environment,
                "cwd": terminal_folder, "noNewPrivileges": true,
                "capabilities": { "bounding": [], "effective": [], "permitted": [] },
            },
            "hostname": "router",
            "mounts": self.mounts,
            "linux": linux,
        })
    }

    fn runc(&self) -> Command {
        let mut command = Command::new("runc");
        command.arg("--root").arg(self.folder.join("state"));
        command
    }
}

impl Starter for Container {
    fn start(&self, command: Command) -> io::Result<Started> {
        let number = self.starts.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-{number}", self.name);
        let bundle = self.folder.join(format!("bundle-{number}"));
        fs::create_dir_all(&bundle)?;
        let specification = self.specification(&command, command.get_current_dir().unwrap_or(Path::new("/")));
        fs::write(bundle.join("config.json"), specification.to_string())?;
        let mut runc = self.runc();
        runc.args(["run", "--bundle"]).arg(&bundle).arg(&name).stdin(std::process::Stdio::null());
        self.ran.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(name);
        Direct.start(runc)
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        for name in self.ran.lock().unwrap_or_else(std::sync::PoisonError::into_inner).iter() {
            // It is gone already where it ended by itself.
            let _ = self.runc().args(["delete", "-f", name]).output();
        }
        if let Some(merged) = self.merged.take() {
            let _ = merged.unmount();
        }
    }
}
