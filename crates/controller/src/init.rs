//! `exuvia controller init`: everything a controller needs, made in one empty folder.
//!
//! ```text
//! DIR/controller.yml          written last: a folder that has it is complete
//!     register.db             with one administrator
//!     pki/                    what the controller uses: its identity, the signing CA, the bundle that routers trust
//!     root-kept-aside/        the root's key, to be moved off this machine
//!     init.unfinished         there only while init is at work, or after it was interrupted
//! ```
//!
//! Every file has mode 0600 from the first byte and is durable before `controller.yml` gets its name. An interrupted init is
//! simply run again: it removes what its predecessor left, which nobody can have used yet.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{ErrorKind, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use config::HostPort;
use lifecycle::{Now, UnixTime};
use pki::{Issuer, KeyKind, PrivateKey, Profile, Sans, Subject, Validity};
use store::register::{Admin, By, Register as _, RegisterError, SqliteRegister};
use zeroize::Zeroizing;

use crate::config::ControllerConfig;
use crate::dice::{self, NoRandomness};
use crate::password::{self, PasswordError};

/// Name of the configuration file.
pub const CONFIG_FILE: &str = "controller.yml";
/// Name of the folder with the root's key.
pub const ROOT_FOLDER: &str = "root-kept-aside";

const MARKER: &str = "init.unfinished";
const PKI: &str = "pki";
const REGISTER: &str = "register.db";
const DAY: Duration = Duration::from_secs(86_400);
const ROOT_LIFE: Duration = Duration::from_secs(20 * 365 * 86_400);
const SIGNER_LIFE: Duration = Duration::from_secs(10 * 365 * 86_400);
/// For clocks of routers that are behind.
const BACKDATE: Duration = Duration::from_secs(60);

/// What is to be made.
#[derive(Clone)]
pub struct InitOptions {
    /// The folder; made if it is not there, and must be empty if it is.
    pub dir: PathBuf,
    /// Id of the controller: what routers know it by.
    pub id: String,
    /// Host name or IP address by which routers and people reach it.
    pub address: String,
    /// Further host names and IP addresses for its certificate; `localhost`, `127.0.0.1` and `::1` are always in it.
    pub names: Vec<String>,
    /// Where it listens: `0.0.0.0`, `::`, or one address of the machine.
    pub listen: String,
    /// Port for control channels.
    pub control_port: u16,
    /// Port for the API.
    pub api_port: u16,
    /// Life of the leaves that it issues; the configuration's default if `None`.
    pub leaf_life: Option<Duration>,
    /// Name of the administrator.
    pub admin: String,
    /// His password; one is drawn if `None`.
    pub password: Option<Zeroizing<String>>,
}

/// The password is not shown.
impl fmt::Debug for InitOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { dir, id, address, admin, .. } = self;
        let mut shown = f.debug_struct("InitOptions");
        shown.field("dir", dir).field("id", id).field("address", address).field("admin", admin).finish_non_exhaustive()
    }
}

impl InitOptions {
    /// The usual ones for a controller that is reached as `address`.
    pub fn new(dir: impl Into<PathBuf>, address: impl Into<String>) -> Self {
        Self {
            dir: dir.into(),
            id: "controller".to_owned(),
            address: address.into(),
            names: Vec::new(),
            listen: "0.0.0.0".to_owned(),
            control_port: 6262,
            api_port: 1280,
            leaf_life: None,
            admin: "admin".to_owned(),
            password: None,
        }
    }
}

/// What was made.
#[derive(Clone)]
pub struct InitReport {
    /// The configuration file, for `exuvia controller run`.
    pub config: PathBuf,
    /// The folder with the root's key, to be moved away.
    pub root: PathBuf,
    /// The bundle that clients of the API trust.
    pub bundle: PathBuf,
    /// Name of the administrator.
    pub admin: String,
    /// His password, if it was drawn here. It is written nowhere.
    pub password: Option<Zeroizing<String>>,
    /// `https://` and the address of the API.
    pub api: String,
    /// What routers dial.
    pub control: String,
    /// When the signing CA ends.
    pub signer_not_after: UnixTime,
    /// An interrupted init was cleared away first.
    pub started_over: bool,
}

/// The password is not shown.
impl fmt::Debug for InitReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { config, root, admin, api, control, .. } = self;
        let mut shown = f.debug_struct("InitReport");
        shown.field("config", config).field("root", root).field("admin", admin).field("api", api);
        shown.field("control", control).finish_non_exhaustive()
    }
}

/// Why nothing usable was made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InitError {
    /// An option cannot be used; a configuration with it would not load.
    #[error("{0}")]
    Option(String),
    /// The password will not do.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// There is a controller already.
    #[error("`{}` is there already: this folder holds a controller, and nothing was changed; choose another folder", .0.display())]
    Complete(PathBuf),
    /// There is something else.
    #[error("`{}` holds `{found}`, which is not from an interrupted init; choose an empty or new folder", dir.display())]
    NotEmpty {
        /// The folder.
        dir: PathBuf,
        /// One thing in it.
        found: String,
    },
    /// Somebody is at it.
    #[error("another init is at work in `{}`", .0.display())]
    AtWork(PathBuf),
    /// A file operation failed.
    #[error("cannot {doing} `{}`: {source}; run init again when that is mended", path.display())]
    File {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The register.
    #[error(transparent)]
    Register(#[from] RegisterError),
    /// Keys or certificates.
    #[error("the certificates cannot be made: {0}")]
    Pki(String),
    /// No randomness.
    #[error(transparent)]
    Randomness(#[from] NoRandomness),
}

type Result<T> = std::result::Result<T, InitError>;

/// Makes a controller's folder.
///
/// # Errors
/// [`InitError`]. Whatever was begun is cleared away by the next run; a complete folder is never touched.
pub async fn init(options: &InitOptions, now: Now) -> Result<InitReport> {
    let text = config_text(options)?;
    let config = options.dir.join(CONFIG_FILE);
    // Loaded before anything is made: this judges every option.
    ControllerConfig::load(&text, &config.to_string_lossy(), &|_| None)
        .map_err(|problems| InitError::Option(problems.to_string()))?;
    let (password, drawn) = match &options.password {
        Some(password) => (password.clone(), None),
        None => {
            let password = Zeroizing::new(format!("{}{}", dice::short_id()?, dice::short_id()?));
            (password.clone(), Some(password))
        }
    };
    let password_hash = password::hash(&password)?;
    let (marker, started_over) = begin(&options.dir)?;
    let signer_not_after = make_pki(options, now)?;
    let register = SqliteRegister::create(&options.dir.join(REGISTER), &dice::uuid()?, now.wall)?;
    let admin = Admin {
        id: dice::short_id()?,
        name: options.admin.clone(),
        password_hash,
        created_at: now.wall,
        updated_at: now.wall,
    };
    register.put_admin(admin, By::controller(now)).await?;
    drop(register);
    sync(&options.dir)?;

    let fresh = options.dir.join(format!("{CONFIG_FILE}.new"));
    write_private(&fresh, text.as_bytes())?;
    fs::rename(&fresh, &config).map_err(failed("name", &config))?;
    sync(&options.dir)?;
    let marked = options.dir.join(MARKER);
    fs::remove_file(&marked).map_err(failed("remove", &marked))?;
    drop(marker);
    sync(&options.dir)?;
    let at = |port| HostPort { host: options.address.clone(), port };
    Ok(InitReport {
        config,
        root: options.dir.join(ROOT_FOLDER),
        bundle: options.dir.join(PKI).join("bundle.pem"),
        admin: options.admin.clone(),
        password: drawn,
        api: format!("https://{}", at(options.api_port)),
        control: format!("tls:{}", at(options.control_port)),
        signer_not_after,
        started_over,
    })
}

/// Takes the folder, or says why not. The marker stays locked while init is at work.
fn begin(dir: &Path) -> Result<(File, bool)> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed("make", dir))?;
    let config = dir.join(CONFIG_FILE);
    if exists(&config)? {
        return Err(InitError::Complete(config));
    }
    let marker = dir.join(MARKER);
    let was_begun = exists(&marker)?;
    if !was_begun {
        let entries = fs::read_dir(dir).map_err(failed("list", dir))?;
        for entry in entries {
            let name = entry.map_err(failed("list", dir))?.file_name();
            // What a new file system holds.
            if name != "lost+found" {
                return Err(InitError::NotEmpty { dir: dir.to_path_buf(), found: name.to_string_lossy().into_owned() });
            }
        }
    }
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&marker);
    let mut file = file.map_err(failed("make", &marker))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(InitError::AtWork(dir.to_path_buf())),
        // No locks here; then nobody else is likely to be at it either.
        Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => {}
        Err(TryLockError::Error(error)) => return Err(failed("lock", &marker)(error)),
    }
    // Another one may have finished between the look and the lock.
    if exists(&config)? {
        return Err(InitError::Complete(config));
    }
    if was_begun {
        clear(dir)?;
    } else {
        file.write_all(b"`exuvia controller init` is at work here, or was interrupted. Run it again.\n")
            .and_then(|()| file.sync_all())
            .map_err(failed("write", &marker))?;
    }
    sync(dir)?;
    Ok((file, was_begun))
}

/// Removes what an interrupted init left: names that init gives, and nothing else.
fn clear(dir: &Path) -> Result<()> {
    for folder in [PKI, ROOT_FOLDER] {
        let folder = dir.join(folder);
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed("remove", &folder)(error)),
            Ok(()) | Err(_) => {}
        }
    }
    let config = format!("{CONFIG_FILE}.new");
    let register = ["", "-wal", "-shm", "-journal", ".lock", ".new", ".new-wal", ".new-shm", ".new-journal"];
    for name in register.iter().map(|suffix| format!("{REGISTER}{suffix}")).chain([config]) {
        let path = dir.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed("remove", &path)(error)),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

fn make_pki(options: &InitOptions, now: Now) -> Result<UnixTime> {
    fn pki<T, E: std::fmt::Display>(result: std::result::Result<T, E>) -> Result<T> {
        result.map_err(|error| InitError::Pki(error.to_string()))
    }
    let lasting = |life: Duration| Validity {
        not_before: now.wall.minus(BACKDATE),
        not_after: now.wall.plus(life),
        issuer_ends_soon: None,
    };
    let new_key = || pki(PrivateKey::generate(KeyKind::P256));
    let (root_key, signer_key, key) = (new_key()?, new_key()?, new_key()?);
    let root_pem = pki(root_key.to_pem())?;
    let signer_pem = pki(signer_key.to_pem())?;
    let key_pem = pki(key.to_pem())?;
    let root = pki(pki::new_root(&format!("{} root", options.id), root_key, &lasting(ROOT_LIFE)))?;
    let signer =
        pki(pki::new_intermediate(&root, &format!("{} signer", options.id), signer_key, &lasting(SIGNER_LIFE)))?;
    let subject = pki(Subject::common_name(&options.id))?;
    let own = lasting(SIGNER_LIFE - DAY);
    let issue = |profile| pki(signer.issue_for(key.public(), &subject, &sans(options), profile, &own));
    let (client, server) = (issue(Profile::Client)?, issue(Profile::Server)?);

    let aside = options.dir.join(ROOT_FOLDER);
    folder(&aside)?;
    write_private(&aside.join("root.key.pem"), root_pem.as_bytes())?;
    write_private(&aside.join("root.pem"), root.certificate().to_pem().as_bytes())?;
    write_private(&aside.join("README.txt"), ROOT_NOTE.as_bytes())?;
    sync(&aside)?;

    let used = options.dir.join(PKI);
    folder(&used)?;
    write_private(&used.join("key.pem"), key_pem.as_bytes())?;
    write_private(&used.join("client.pem"), client.to_pem().as_bytes())?;
    write_private(&used.join("server.pem"), server.to_pem().as_bytes())?;
    write_private(&used.join("bundle.pem"), bundle(&root).as_bytes())?;
    write_private(&used.join("signer.pem"), signer.certificate().to_pem().as_bytes())?;
    write_private(&used.join("signer.key.pem"), signer_pem.as_bytes())?;
    sync(&used)?;
    Ok(signer.not_after())
}

/// Routers trust the root alone, so that a later signing CA below it needs no change on them.
fn bundle(root: &Issuer) -> String {
    root.certificate().to_pem()
}

fn sans(options: &InitOptions) -> Sans {
    let mut sans = Sans::default();
    let usual = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    for name in [&options.address].into_iter().chain(&options.names).chain(&usual) {
        match name.parse::<IpAddr>() {
            Ok(ip) if !sans.ips.contains(&ip) => sans.ips.push(ip),
            Err(_) if !sans.dns.contains(name) => sans.dns.push(name.clone()),
            Ok(_) | Err(_) => {}
        }
    }
    sans
}

const ROOT_NOTE: &str = "\
This folder holds the key of the root CA. Whoever has it can make any identity of this network.

The controller does not need it: it signs with the CA below this one (../pki/signer.pem). Move this whole folder to a
medium that is not connected, keep a second copy, and remove it from here. You will need it to make the next signing CA,
before the present one ends.
";

fn config_text(options: &InitOptions) -> Result<String> {
    let quoted = |text: String| {
        // JSON's strings are YAML's too. References to the environment would be replaced when the file is read.
        if text.contains('$') || text.chars().any(char::is_control) {
            return Err(InitError::Option(format!("`{}` cannot be used here", text.escape_default())));
        }
        serde_json::to_string(&text).map_err(|error| InitError::Option(error.to_string()))
    };
    let bare = |host: &str| host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let at = |host: &str, port| HostPort { host: bare(host), port }.to_string();
    let (address, listen) = (&options.address, &options.listen);
    let mut text = format!(
        "\
# A controller of Exuvia, written by `exuvia controller init`.
# Every key with its default and unit: docs/operating/configuration.md. Relative paths start at this folder.
v: 3
id: {id}
db: {REGISTER}

identity:
  cert: {PKI}/client.pem
  server_cert: {PKI}/server.pem
  key: {PKI}/key.pem
  ca: {PKI}/bundle.pem

# Where routers connect.
ctrl:
  listener: {control_listen}
  options:
    advertiseAddress: {control}

# Where the REST API is served.
web:
  - name: api
    bindPoints:
      - interface: {api_listen}
        address: {api}

edge:
  api:
    address: {api}
  enrollment:
    signingCert:
      cert: {PKI}/signer.pem
      key: {PKI}/signer.key.pem

exuvia:
  admin:
    username: {admin}
",
        id = quoted(options.id.clone())?,
        control_listen = quoted(format!("tls:{}", at(listen, options.control_port)))?,
        control = quoted(format!("tls:{}", at(address, options.control_port)))?,
        api_listen = quoted(at(listen, options.api_port))?,
        api = quoted(at(address, options.api_port))?,
        admin = quoted(options.admin.clone())?,
    );
    if let Some(life) = options.leaf_life {
        // A quarter of a short life, so that an overlap is something that can be watched to end.
        let overlap = (life / 4).min(Duration::from_secs(3600));
        text.push_str(&format!("  leafLife: {}ms\n  overlap: {}ms\n", life.as_millis(), overlap.as_millis()));
    }
    Ok(text)
}

fn failed<'a>(doing: &'static str, path: &'a Path) -> impl Fn(std::io::Error) -> InitError + 'a {
    move |source| InitError::File { doing, path: path.to_path_buf(), source }
}

fn exists(path: &Path) -> Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(failed("look at", path)(error)),
    }
}

fn folder(path: &Path) -> Result<()> {
    DirBuilder::new().mode(0o700).create(path).map_err(failed("make", path))
}

/// A new file, nobody else's from the first byte, durable.
fn write_private(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        // A umask can only have taken rights away.
        file.set_permissions(Permissions::from_mode(0o600))?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(failed("write", path))
}

/// Makes the names in a folder durable.
fn sync(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|file| file.sync_all()).map_err(failed("sync", folder))
}

#[cfg(test)]
mod tests {
    use lifecycle::Uptime;

    use super::*;
    use crate::clock::Clock;

    fn options(dir: &Path) -> InitOptions {
        InitOptions { leaf_life: Some(Duration::from_secs(60)), ..InitOptions::new(dir, "ctrl.example.org") }
    }

    fn now() -> Now {
        Now { uptime: Uptime::from_ms(0), ..Clock::system().now() }
    }

    fn modes(dir: &Path) -> Vec<(PathBuf, u32)> {
        let mut found = Vec::new();
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            if meta.is_dir() {
                found.extend(modes(&path));
            }
            found.push((path, meta.permissions().mode() & 0o777));
        }
        found
    }

    #[tokio::test]
    async fn a_fresh_folder_gets_everything_and_nobody_else_may_read_it() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("new/controller");
        let report = init(&options(&dir), now()).await.unwrap();
        assert!(report.password.is_some_and(|password| password.len() == 20));
        assert!(!report.started_over);
        for (path, mode) in modes(&dir) {
            assert_eq!(mode & 0o077, 0, "{}", path.display());
        }
        let text = fs::read_to_string(&report.config).unwrap();
        let (config, warnings) = ControllerConfig::load(&text, &report.config.to_string_lossy(), &|_| None).unwrap();
        assert_eq!(config.issuing.leaf_life, Duration::from_secs(60));
        assert!(!warnings.to_string().contains("unknown"), "{warnings}");
        assert!(!dir.join(MARKER).exists());
        assert!(report.root.join("root.key.pem").exists());
        assert!(config.signer.key.exists() && config.db.exists() && config.identity.key.exists());
    }

    #[tokio::test]
    async fn a_complete_folder_and_a_strangers_folder_are_left_alone() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("one");
        init(&options(&dir), now()).await.unwrap();
        let before = fs::read(dir.join("pki/signer.key.pem")).unwrap();
        assert!(matches!(init(&options(&dir), now()).await, Err(InitError::Complete(_))));
        assert_eq!(fs::read(dir.join("pki/signer.key.pem")).unwrap(), before);
        let dir = home.path().join("two");
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("notes.txt"), "mine").unwrap();
        assert!(
            matches!(init(&options(&dir), now()).await, Err(InitError::NotEmpty { found, .. }) if found == "notes.txt")
        );
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn an_interrupted_init_is_run_again() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("half");
        init(&options(&dir), now()).await.unwrap();
        // As a crash before the last step leaves it.
        fs::rename(dir.join(CONFIG_FILE), dir.join("controller.yml.new")).unwrap();
        fs::write(dir.join(MARKER), "").unwrap();
        let before = fs::read(dir.join("pki/signer.key.pem")).unwrap();
        let report = init(&options(&dir), now()).await.unwrap();
        assert!(report.started_over);
        assert_ne!(fs::read(dir.join("pki/signer.key.pem")).unwrap(), before);
    }

    #[tokio::test]
    async fn an_option_that_no_configuration_may_hold_is_refused_before_anything_is_made() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("none");
        for wrong in [
            InitOptions { address: "not a host".to_owned(), ..options(&dir) },
            InitOptions { address: "${HOME}".to_owned(), ..options(&dir) },
            InitOptions { leaf_life: Some(Duration::from_millis(1)), ..options(&dir) },
            InitOptions { control_port: 0, ..options(&dir) },
        ] {
            assert!(matches!(init(&wrong, now()).await, Err(InitError::Option(_))), "{wrong:?}");
        }
        let short = InitOptions { password: Some(Zeroizing::new("short".to_owned())), ..options(&dir) };
        assert!(!format!("{short:?}").contains("\"short\""), "no password in a log");
        assert!(matches!(init(&short, now()).await, Err(InitError::Password(_))));
        assert!(!dir.exists());
    }
}
