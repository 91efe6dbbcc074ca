//! One router: its configuration, its folder, and the commands about it.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::process::{Direct, Process, Starter};
use crate::program::{Exuvia, Ran};
use crate::running::Running;

/// What stands in a router's configuration beside its paths.
#[derive(Clone, Debug)]
pub struct RouterSettings {
    /// Keys of the section `exuvia`, as in a flow mapping: `rekey: always, projection: off`. Written after quick retries
    /// without a least spacing, which are always there.
    pub exuvia: String,
    /// Controllers as in `tls:localhost:6262`. Empty: those that the enrollment's token names, in a file in the folder.
    pub endpoints: Vec<String>,
    /// Further lines at the end of the file.
    pub more: String,
}

impl Default for RouterSettings {
    fn default() -> Self {
        Self { exuvia: "rekey: always".to_owned(), endpoints: Vec::new(), more: String::new() }
    }
}

impl RouterSettings {
    /// As an operator of an OpenZiti router has it: copies at the configured paths, and the key is kept.
    pub fn projected() -> Self {
        Self { exuvia: "projection: on".to_owned(), ..Self::default() }
    }

    /// Nothing is copied to the configured paths, every renewal makes new keys.
    pub fn bare() -> Self {
        Self { exuvia: "projection: off".to_owned(), ..Self::default() }
    }

    /// With these further keys of the section `exuvia`.
    #[must_use]
    pub fn and(mut self, exuvia: &str) -> Self {
        if !self.exuvia.is_empty() {
            self.exuvia.push_str(", ");
        }
        self.exuvia.push_str(exuvia);
        self
    }
}

/// One router, running or not. Cheap to clone; clones are the same router.
#[derive(Clone, Debug)]
pub struct Router {
    exuvia: Exuvia,
    home: PathBuf,
    name: String,
    id: String,
    folder: PathBuf,
    settings: RouterSettings,
    config: PathBuf,
    token: PathBuf,
    socket: PathBuf,
}

impl Router {
    pub(crate) fn new(
        exuvia: Exuvia,
        home: &Path,
        name: &str,
        id: String,
        token: &str,
        folder: &Path,
        settings: &RouterSettings,
    ) -> Result<Self> {
        let jwt = home.join(format!("{name}.jwt"));
        write_private(&jwt, token)?;
        let unplaced = Self {
            exuvia,
            home: home.to_owned(),
            name: name.to_owned(),
            id,
            folder: PathBuf::new(),
            settings: settings.clone(),
            config: PathBuf::new(),
            token: jwt,
            socket: PathBuf::new(),
        };
        unplaced.at(folder)
    }

    /// A router whose configuration somebody else wrote, as it is: enrolled or not, with its files in `folder` and its admin socket in its
    /// state folder. [`Router::configure`] and [`Router::at`] are not for it.
    ///
    /// # Errors
    /// When the configuration is not there.
    pub fn of_file(exuvia: &Exuvia, config: &Path, folder: &Path, name: &str, id: &str, token: &Path) -> Result<Self> {
        let (config, folder) = (fs::canonicalize(config)?, std::path::absolute(folder)?);
        let mut router = Self {
            exuvia: exuvia.clone(),
            home: folder.clone(),
            name: name.to_owned(),
            id: id.to_owned(),
            folder,
            settings: RouterSettings::default(),
            config,
            token: std::path::absolute(token)?,
            socket: PathBuf::new(),
        };
        router.socket = router.state().join("admin.sock");
        Ok(router)
    }

    /// The same router with its identity in another folder: a copy of it, or the same folder on another mount. The folder is
    /// made if it is not there.
    ///
    /// # Errors
    /// When folder or configuration cannot be written.
    pub fn at(&self, folder: &Path) -> Result<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = std::path::absolute(folder)?;
        if !folder.exists() {
            fs::create_dir_all(&folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
        }
        let mut placed = self.clone();
        placed.folder = folder;
        placed.config = self.home.join(format!("{}-{number}.yml", self.name));
        // Beside the configuration: a path that is short enough, on a file system that nobody fills.
        placed.socket = self.home.join(format!("{}-{number}.sock", std::process::id()));
        placed.configure(&self.settings)?;
        Ok(placed)
    }

    /// Writes its configuration anew; it counts from the next start.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn configure(&mut self, settings: &RouterSettings) -> Result<()> {
        self.settings = settings.clone();
        let folder = self.folder.display();
        let more = if settings.exuvia.is_empty() { String::new() } else { format!(", {}", settings.exuvia) };
        let mut endpoints = format!("  endpointsFile: {folder}/endpoints.yml\n");
        if !settings.endpoints.is_empty() {
            endpoints.push_str("  endpoints:\n");
            for endpoint in &settings.endpoints {
                endpoints.push_str(&format!("    - \"{endpoint}\"\n"));
            }
        }
        let text = format!(
            "v: 3\nidentity:\n  cert: {folder}/client.pem\n  server_cert: {folder}/server.pem\n  key: {folder}/key.pem\n  ca: \
             {folder}/ca.pem\nctrl:\n{endpoints}edge:\n  csr:\n    sans:\n      dns: [localhost]\nexuvia: {{adminSocket: {}, spacing: 0, \
             backoffMin: 20ms, backoffMax: 200ms, attemptDeadline: 5s{more}}}\n{}",
            self.socket.display(),
            settings.more
        );
        fs::write(&self.config, text).with_context(|| format!("cannot write `{}`", self.config.display()))
    }

    /// The same router, started as this says.
    #[must_use]
    pub fn started_as(&self, exuvia: Exuvia) -> Self {
        Self { exuvia, ..self.clone() }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The folder of its identity: the configured paths `client.pem`, `server.pem`, `key.pem`, `ca.pem`, the file
    /// `endpoints.yml`, and the state folder below `.exuvia`.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Its state folder.
    pub fn state(&self) -> PathBuf {
        store::identity::state_folder(&self.folder.join("client.pem"), None, &lifecycle::RouterId::new(&self.id))
    }

    /// The folder of a generation.
    pub fn generation(&self, number: u64) -> PathBuf {
        self.state().join(format!("generations/{number:04}"))
    }

    /// Its `router.yml`.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// The program that it is run with.
    pub fn exuvia(&self) -> &Exuvia {
        &self.exuvia
    }

    /// Its admin socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Lays down another token for the next enrollment.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn take_token(&self, token: &str) -> Result<()> {
        write_private(&self.token, token)
    }

    /// The file of its token.
    pub fn token(&self) -> &Path {
        &self.token
    }

    /// `exuvia router enroll`.
    pub fn enroll_command(&self) -> Command {
        let args: [OsString; 6] = [
            "router".into(),
            "enroll".into(),
            self.config.clone().into(),
            "--jwt".into(),
            self.token.clone().into(),
            "--json".into(),
        ];
        self.exuvia.command(&self.home, args)
    }

    /// Enrolls it with its token.
    ///
    /// # Errors
    /// When the command cannot be run; what came of it is in the answer.
    pub fn enroll(&self) -> Result<Ran> {
        self.enroll_by(&Direct)
    }

    /// Enrolls it, started by this starter.
    ///
    /// # Errors
    /// When the command cannot be run.
    pub fn enroll_by(&self, starter: &dyn Starter) -> Result<Ran> {
        Ran::of(starter, self.enroll_command())
    }

    /// A command about this router: `exuvia router WORD CONFIG ARGS`, such as `status`, `doctor`, `renew`.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn command(&self, word: &str, args: &[&str]) -> Result<Ran> {
        let mut all: Vec<OsString> = vec!["router".into(), word.into(), self.config.clone().into()];
        all.extend(args.iter().map(OsString::from));
        self.exuvia.run(&self.home, all)
    }

    /// What `exuvia status --json` says, of the daemon or of the disk.
    ///
    /// # Errors
    /// When it says nothing.
    pub fn status(&self) -> Result<Value> {
        self.command("status", &["--json"])?.ok()?.json()
    }

    /// `exuvia router run`.
    pub fn run_command(&self) -> Command {
        self.exuvia.command(&self.home, [OsString::from("router"), "run".into(), self.config.clone().into()])
    }

    /// Starts it and waits for nothing.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&self) -> Result<Running> {
        self.start_by(&Direct)
    }

    /// Starts it by this starter and waits for nothing.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_by(&self, starter: &dyn Starter) -> Result<Running> {
        Ok(Running::new(Process::start(starter, self.run_command())?, &self.socket))
    }

    /// Starts it and waits until a controller admits it.
    ///
    /// # Errors
    /// When that does not come.
    pub fn online(&self) -> Result<Running> {
        let running = self.start()?;
        running.until_online()?;
        Ok(running)
    }
}

fn write_private(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write `{}`", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(())
}
