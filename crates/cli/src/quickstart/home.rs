//! Where a quickstart lives: one folder with the PKI, the controller and every router, and the ports they listen on.
//!
//! ```text
//! HOME/controller/            what `controller init` makes: PKI, register, controller.yml; root-kept-aside/
//!      r1/router.yml          in OpenZiti's shape, with our section `exuvia`
//!         identity/           where identity.cert would be; the state folder lies below it
//!      logs/                  what every process says
//! ```

use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use controller::clock::Clock;
use controller::init::{CONFIG_FILE, InitError, InitOptions, init};
use lifecycle::RouterId;
use pki::{Certificate, CertificateError, ChainError, Issuer, IssuerError, KeyError, PrivateKey, TrustBundle};
use store::identity::state_folder;
use tempfile::TempDir;
use zeroize::Zeroizing;

use super::dice::Dice;

/// Ports outside the range from which kernels take the near ends of connections: a router that is being restarted must not
/// find its port taken by a client.
const PORTS: std::ops::Range<u16> = 20_000..32_000;
/// Tries to find a free port.
const PORT_TRIES: usize = 2_000;

/// Why there is no home.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HomeError {
    /// Something is there already.
    #[error("`{0}` is not empty")]
    NotEmpty(PathBuf),
    /// A configuration file cannot name it.
    #[error("`{0}` holds a `$`, which configuration files take for a variable")]
    Dollar(PathBuf),
    /// A file operation failed.
    #[error("cannot {doing} `{}`", path.display())]
    File {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// No port.
    #[error("no free port between {} and {} was found", PORTS.start, PORTS.end)]
    NoPort,
    /// The controller's folder.
    #[error("the controller cannot be set up")]
    Init(#[from] InitError),
    /// What init made cannot be read.
    #[error("the new PKI cannot be read")]
    Chain(#[from] ChainError),
    /// What init made cannot be read.
    #[error("the new PKI cannot be read")]
    Certificate(#[from] CertificateError),
    /// What init made cannot be read.
    #[error("the new signing key cannot be read")]
    Key(#[from] KeyError),
    /// What init made cannot be read.
    #[error("the new signing CA cannot be used")]
    Issuer(#[from] IssuerError),
}

impl HomeError {
    /// What a person can do about it.
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::NotEmpty(_) => "name a folder that is empty or does not exist",
            Self::Dollar(_) => "name another folder",
            Self::File { .. } => "check the path, its permissions and the space left",
            Self::NoPort => "stop something that listens there",
            Self::Init(_) | Self::Chain(_) | Self::Certificate(_) | Self::Key(_) | Self::Issuer(_) => {
                "this is a defect of this program; please report it"
            }
        }
    }
}

/// The folder, and whether it goes away by itself.
#[derive(Debug)]
pub(crate) struct Home {
    path: PathBuf,
    temporary: Option<TempDir>,
}

/// The controller's part of a home. Without `Debug`: it holds a password.
pub(crate) struct ControllerHome {
    pub(crate) config: PathBuf,
    pub(crate) control_port: u16,
    pub(crate) api_port: u16,
    pub(crate) user: String,
    pub(crate) password: Zeroizing<String>,
    pub(crate) bundle: TrustBundle,
    pub(crate) signer: Issuer,
}

/// One router's part of a home.
#[derive(Clone, Debug)]
pub(crate) struct RouterHome {
    pub(crate) name: String,
    folder: PathBuf,
    pub(crate) config: PathBuf,
    pub(crate) token: PathBuf,
    pub(crate) web_port: u16,
    pub(crate) socket: PathBuf,
}

impl RouterHome {
    /// The state folder of the router with this id.
    pub(crate) fn state(&self, id: &str) -> PathBuf {
        state_folder(&self.identity_cert(), None, &RouterId::new(id))
    }

    fn identity_cert(&self) -> PathBuf {
        self.folder.join("identity").join("router.cert")
    }
}

fn failed<'a>(doing: &'static str, path: &'a Path) -> impl Fn(io::Error) -> HomeError + 'a {
    move |source| HomeError::File { doing, path: path.to_owned(), source }
}

fn make_folder(path: &Path) -> Result<(), HomeError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed("make", path))
}

impl Home {
    /// A temporary folder, or the one that was named.
    ///
    /// # Errors
    /// When it cannot be made, or holds something.
    pub(crate) fn open(named: Option<&Path>) -> Result<Self, HomeError> {
        let home = match named {
            Some(path) => {
                make_folder(path)?;
                let path = fs::canonicalize(path).map_err(failed("find", path))?;
                if fs::read_dir(&path).map_err(failed("list", &path))?.next().is_some() {
                    return Err(HomeError::NotEmpty(path));
                }
                Self { path, temporary: None }
            }
            None => {
                let temp = std::env::temp_dir();
                let folder = tempfile::Builder::new()
                    .prefix("exuvia-quickstart-")
                    .permissions(fs::Permissions::from_mode(0o700))
                    .tempdir_in(&temp)
                    .map_err(failed("make a folder in", &temp))?;
                Self { path: folder.path().to_owned(), temporary: Some(folder) }
            }
        };
        if home.path.to_string_lossy().contains('$') {
            return Err(HomeError::Dollar(home.path));
        }
        make_folder(&home.logs())?;
        Ok(home)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }

    /// Where this process says what.
    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.logs().join(format!("{name}.log"))
    }

    /// Keeps the folder even if it was to go away.
    pub(crate) fn keep(&mut self) {
        if let Some(folder) = self.temporary.take() {
            let _ = folder.keep();
        }
    }

    pub(crate) fn is_temporary(&self) -> bool {
        self.temporary.is_some()
    }

    /// PKI, register and configuration of the controller. Routers are told to dial `proxy_port`.
    ///
    /// # Errors
    /// When any of it cannot be made.
    pub(crate) async fn make_controller(
        &self,
        leaf_life: Duration,
        proxy_port: u16,
    ) -> Result<ControllerHome, HomeError> {
        let dir = self.path.join("controller");
        let (control_port, api_port) = (free_port()?, free_port()?);
        let options = InitOptions {
            id: "ctrl-1".to_owned(),
            listen: Ipv4Addr::LOCALHOST.to_string(),
            control_port,
            api_port,
            leaf_life: Some(leaf_life),
            ..InitOptions::new(&dir, Ipv4Addr::LOCALHOST.to_string())
        };
        let report = init(&options, Clock::system().now()).await?;
        let config = dir.join(CONFIG_FILE);
        let text = fs::read_to_string(&config).map_err(failed("read", &config))?;
        let text: String = text
            .lines()
            .map(|line| match line.split_once("advertiseAddress:") {
                Some((indent, _)) => format!("{indent}advertiseAddress: \"tls:127.0.0.1:{proxy_port}\"\n"),
                None => format!("{line}\n"),
            })
            .collect();
        fs::write(&config, text).map_err(failed("write", &config))?;
        let read = |name: &str| {
            let path = dir.join("pki").join(name);
            fs::read(&path).map_err(failed("read", &path))
        };
        let bundle = TrustBundle::from_pem(&read("bundle.pem")?)?;
        let key = PrivateKey::from_pem(&Zeroizing::new(read("signer.key.pem")?))?;
        let certificate = Certificate::from_pem(&read("signer.pem")?)?;
        let signer = Issuer::new(certificate, bundle.certificates(), key)?;
        let password = report.password.unwrap_or_default();
        Ok(ControllerHome { config, control_port, api_port, user: report.admin, password, bundle, signer })
    }

    /// Folder and `router.yml` of one router that dials `proxy_port`.
    ///
    /// # Errors
    /// When they cannot be made.
    pub(crate) fn make_router(&self, name: &str, proxy_port: u16) -> Result<RouterHome, HomeError> {
        let folder = self.path.join(name);
        make_folder(&folder.join("identity"))?;
        let web_port = free_port()?;
        let home = RouterHome {
            name: name.to_owned(),
            config: folder.join("router.yml"),
            token: folder.join("enrollment.jwt"),
            socket: folder.join("admin.sock"),
            web_port,
            folder,
        };
        let text = router_yml(&home, proxy_port);
        fs::write(&home.config, text).map_err(failed("write", &home.config))?;
        Ok(home)
    }
}

fn router_yml(home: &RouterHome, proxy_port: u16) -> String {
    let within = |name: &str| {
        let path = home.folder.join(name);
        // JSON's strings are YAML's too.
        serde_json::Value::from(path.to_string_lossy()).to_string()
    };
    format!(
        "\
# A router of `exuvia quickstart`. OpenZiti's router.yml; only Exuvia reads the section `exuvia`.
v: 3

identity:
  cert: {cert}
  server_cert: {server_cert}
  key: {key}
  ca: {ca}

ctrl:
  endpoint: tls:127.0.0.1:{proxy_port}
  endpointsFile: {endpoints}

edge:
  csr:
    country: US
    organization: Exuvia
    organizationalUnit: quickstart
    sans:
      dns: [localhost]
      ip: [\"127.0.0.1\"]

web:
  - name: health
    bindPoints:
      - interface: 127.0.0.1:{web_port}
        address: 127.0.0.1:{web_port}
    apis:
      - binding: health-checks
      - binding: metrics

exuvia:
  # Nobody else reads the identity files, so every renewal makes new keys.
  projection: off
  adminSocket: {socket}
",
        cert = within("identity/router.cert"),
        server_cert = within("identity/router.server.cert"),
        key = within("identity/router.key"),
        ca = within("identity/router.cas"),
        endpoints = within("endpoints.yml"),
        socket = within("admin.sock"),
        web_port = home.web_port,
    )
}

/// A port that nobody listens on and from which no connection starts.
fn free_port() -> Result<u16, HomeError> {
    let mut dice = Dice::new(Dice::fresh_seed());
    for _ in 0..PORT_TRIES {
        let offset = u16::try_from(dice.below(usize::from(PORTS.end - PORTS.start))).unwrap_or(0);
        let port = PORTS.start + offset;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    Err(HomeError::NoPort)
}

#[cfg(test)]
mod tests {
    use super::*;
    use router::config::{Projection, RouterConfig};

    #[test]
    fn a_routers_configuration_loads_without_a_warning() {
        let temp = tempfile::tempdir().unwrap();
        let home = Home::open(Some(&temp.path().join("has space"))).unwrap();
        let router = home.make_router("r1", 4711).unwrap();
        let text = fs::read_to_string(&router.config).unwrap();
        let (config, warnings) = RouterConfig::load(&text, "router.yml", &|_| None).unwrap();
        assert_eq!(warnings.to_string(), "");
        assert_eq!(config.control.endpoints[0].to_string(), "tls:127.0.0.1:4711");
        assert_eq!(config.renewal.projection, Projection::Off);
        assert_eq!(config.admin_socket.as_deref(), Some(router.socket.as_path()));
        assert_eq!(config.web[0].bind_points[0].interface.port, router.web_port);
    }

    #[test]
    fn a_folder_that_holds_something_is_left_alone() {
        let temp = tempfile::tempdir().unwrap();
        fs::write(temp.path().join("mine"), "x").unwrap();
        assert!(matches!(Home::open(Some(temp.path())), Err(HomeError::NotEmpty(_))));
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn the_controller_is_reached_through_the_proxy() {
        let home = Home::open(None).unwrap();
        let controller = home.make_controller(Duration::from_secs(60), 4711).await.unwrap();
        let text = fs::read_to_string(&controller.config).unwrap();
        let (config, _) =
            controller::config::ControllerConfig::load(&text, &controller.config.to_string_lossy(), &|_| None).unwrap();
        assert_eq!(config.control.advertise.at.port, 4711);
        assert_eq!(config.control.listen.port, controller.control_port);
        assert_eq!(config.issuing.leaf_life, Duration::from_secs(60));
    }
}
