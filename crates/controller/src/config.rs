//! The controller's configuration file.
//!
//! The schema is ours, with OpenZiti's names where the thing is the same. Unlike `router.yml`, which other programs read too, every unknown key is
//! refused. Start at [`ControllerConfig::load`]; what each key means is `docs/operating/configuration.md`.

mod issuing;
mod keys;
mod listeners;

use std::path::{Path, PathBuf};
use std::time::Duration;

use ::config::{Check, ConfigDocument, ConfigErrors, Field, Section, UnknownKeys, Warnings};

pub use issuing::{Cidr, DnsPattern, IssuingSettings, SanPolicy};
pub use keys::KEYS;
pub use listeners::{BindPoint, ControlListener, Limits, WebListener};

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

/// A controller's configuration. Every value is legal; every path is absolute or starts at the working folder of the process.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ControllerConfig {
    /// Who this controller is to routers; the CN of its server leaf if `None`.
    pub id: Option<String>,
    /// Host part of the URIs that name holders of certificates, if there are such URIs.
    pub trust_domain: Option<String>,
    /// The folder at which relative paths start.
    pub home: PathBuf,
    /// The register's file.
    pub db: PathBuf,
    /// The controller's own certificates.
    pub identity: IdentityFiles,
    /// Where routers connect.
    pub control: ControlListener,
    /// Where the REST API is served; at least one.
    pub web: Vec<WebListener>,
    /// `host:port` under which routers and people reach the API: the issuer in enrollment tokens.
    pub api_address: ::config::HostPort,
    /// How long a login lasts without use.
    pub session_timeout: Duration,
    /// How long an enrollment token is good.
    pub token_life: Duration,
    /// The CA that signs leaves.
    pub signer: SignerFiles,
    /// What is issued, and to whom.
    pub issuing: IssuingSettings,
    /// Bounds on what peers may use up.
    pub limits: Limits,
    /// Name of the first administrator.
    pub admin_username: String,
}

/// The controller's own certificates and keys, PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct IdentityFiles {
    /// Client chain; `server_cert` if not given.
    pub cert: PathBuf,
    /// Server chain.
    pub server_cert: PathBuf,
    /// Key of both.
    pub key: PathBuf,
    /// Trust bundle: what routers' chains must lead to.
    pub ca: PathBuf,
}

/// The CA that signs leaves, PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SignerFiles {
    /// The CA's certificate, followed by its issuers.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Further CA certificates to hand to routers at enrollment.
    pub ca: Option<PathBuf>,
}

impl ControllerConfig {
    /// Reads `text`, the content of the file `file_name`. `env` answers for environment variables.
    ///
    /// # Errors
    /// When a key is unknown, missing, of a wrong type or illegal: one report names all of it.
    pub fn load(
        text: &str,
        file_name: &str,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<(Self, Warnings), ConfigErrors> {
        let document = ConfigDocument::parse(file_name, text, env)?;
        let check = Check::new(&document, UnknownKeys::Refuse);
        let built = build(&check.root(KEYS), Path::new(file_name));
        check.finish(built)
    }
}

/// Visits every section even when an earlier one is wrong, so that all problems are found.
fn build(root: &Section<'_>, file: &Path) -> Option<ControllerConfig> {
    let version = root.required("v", "this program reads version 3 of the format: write `v: 3`");
    let version = version.and_then(|field| field.integer::<u8>(3..=3));
    let beside = file.parent().map(Path::to_path_buf).unwrap_or_default();
    let home = root.field("home").and_then(|field| field.path_buf()).map_or(beside.clone(), |home| beside.join(home));
    let id = root.field("id").and_then(|field| field.text()).map(str::to_owned);
    let trust_domain = root.field("trustDomain").and_then(|field| trust_domain(&field));
    let db = root.field("db").map_or_else(|| Some(home.join("register.db")), |field| file_path(&field, &home));
    let identity = identity(root, &home);
    let control = listeners::control(root);
    let web = listeners::web(root);
    let edge =
        root.required_section("edge", "say how the API is reached and what signs: `edge: {api: …, enrollment: …}`");
    let api = edge.as_ref().and_then(|edge| edge.required_section("api", "write `api: {address: HOST:PORT}`"));
    let api_address = api.as_ref().and_then(|api| {
        let field = api.required("address", "name the host and port under which routers reach the API")?;
        listeners::reachable(&field)
    });
    let session_timeout = api.as_ref().map(|api| api.duration_or("sessionTimeout", 30 * MINUTE, MINUTE..=30 * DAY));
    let enrollment = edge
        .as_ref()
        .and_then(|edge| edge.required_section("enrollment", "write `enrollment: {signingCert: {cert: …, key: …}}`"));
    let signer = enrollment.as_ref().and_then(|section| signer(section, &home));
    let tokens = enrollment.as_ref().and_then(|section| section.section("edgeRouter"));
    let token_life = tokens.map_or(180 * MINUTE, |section| {
        section.duration_or("duration", 180 * MINUTE, Duration::from_secs(10)..=30 * DAY)
    });
    let exuvia = root.section("exuvia");
    let issuing = issuing::read(exuvia.as_ref());
    let limits = listeners::limits(exuvia.as_ref());
    let admin = exuvia.as_ref().and_then(|section| section.section("admin"));
    let admin_username =
        admin.and_then(|admin| admin.field("username")).and_then(|field| field.text()).unwrap_or("admin").to_owned();
    version?;
    Some(ControllerConfig {
        id,
        trust_domain,
        db: db?,
        home,
        identity: identity?,
        control: control?,
        web: web?,
        api_address: api_address?,
        session_timeout: session_timeout?,
        token_life,
        signer: signer?,
        issuing: issuing?,
        limits,
        admin_username,
    })
}

fn identity(root: &Section<'_>, home: &Path) -> Option<IdentityFiles> {
    let section = root.required_section("identity", "name the controller's certificate files")?;
    let needed = |name, hint: &str| section.required(name, hint).and_then(|field| file_path(&field, home));
    let server_cert = needed("server_cert", "name the file of the server certificate chain");
    let key = needed("key", "name the file of the private key");
    let ca = needed("ca", "name the file of the trusted CA certificates");
    let cert = section.field("cert").map(|field| file_path(&field, home));
    let server_cert = server_cert?;
    Some(IdentityFiles {
        cert: match cert {
            None => server_cert.clone(),
            Some(cert) => cert?,
        },
        server_cert,
        key: key?,
        ca: ca?,
    })
}

fn signer(enrollment: &Section<'_>, home: &Path) -> Option<SignerFiles> {
    let section =
        enrollment.required_section("signingCert", "name the CA that signs: `signingCert: {cert: FILE, key: FILE}`")?;
    let needed = |name, hint: &str| section.required(name, hint).and_then(|field| file_path(&field, home));
    let cert = needed("cert", "name the file of the signing CA's certificate");
    let key = needed("key", "name the file of the signing CA's key");
    let ca = section.field("ca").map(|field| file_path(&field, home));
    Some(SignerFiles {
        cert: cert?,
        key: key?,
        ca: match ca {
            None => None,
            Some(path) => Some(path?),
        },
    })
}

/// A plain path. Other forms that OpenZiti knows (`pem:`, `file:`, engines) are refused rather than taken for file names.
fn file_path(field: &Field<'_>, home: &Path) -> Option<PathBuf> {
    let path = field.path_buf()?;
    let text = path.to_string_lossy();
    let first = text.split('/').next().unwrap_or("");
    if first.contains(':') || text.starts_with("-----BEGIN") {
        field.error(
            "expected the path of a file",
            Some("write the path alone; begin it with `./` if its first part holds a colon"),
        );
        return None;
    }
    Some(home.join(path))
}

fn trust_domain(field: &Field<'_>) -> Option<String> {
    let text = field.text()?;
    let text = text.strip_prefix("spiffe://").unwrap_or(text);
    let is_domain = text.len() <= 255
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_'));
    if !is_domain {
        field.error(
            format!("{} is no trust domain", ::config::quote(text)),
            Some("use small letters, digits, `.`, `-` and `_`"),
        );
    }
    is_domain.then(|| text.to_owned())
}
