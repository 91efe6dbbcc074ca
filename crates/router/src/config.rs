//! `router.yml`: OpenZiti's configuration file of a router, plus our own section `exuvia`, which OpenZiti ignores.
//!
//! Start at [`RouterConfig::load`]. What it returns is legal as a whole; whatever is not comes back as one report of all problems.
//! Which keys exist is the table in `keys`; what they mean is `docs/operating/configuration.md`.
//! Source: `openziti/ziti:router/env/config.go`, `openziti/ziti:router/env/config_edge.go`.

mod endpoints;
mod identity;
mod keys;
mod renewal;
mod sections;

use std::path::{Path, PathBuf};

use ::config::{Check, ConfigDocument, ConfigErrors, Section, UnknownKeys, Warnings};

pub use endpoints::{
    ControllerEndpoints, EndpointsDamage, EndpointsFile, EndpointsSource, StartingEndpoints, starting_endpoints,
};
pub use identity::{AlternateServerCert, IdentityPaths, IdentitySource, InlinePem, NotWritable};
pub use keys::KEYS;
pub use renewal::{AtMost, DueRule, Projection, Rekey, RenewalSettings};
pub use sections::{AdvertisedHost, BindPoint, ControlSettings, CsrSettings, RouterKind, Sans, WebApi, WebListener};

/// A router's configuration. Every value is legal; relative paths are relative to the process's working folder, as in OpenZiti.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RouterConfig {
    /// Where the identity files are.
    pub identity: IdentityPaths,
    /// How to reach controllers.
    pub control: ControlSettings,
    /// Subject and names asked for at enrollment and at every renewal.
    pub csr: CsrSettings,
    /// Edge router or transit router.
    pub kind: RouterKind,
    /// OpenZiti's data model cache (`edge.db`); enrollment removes it because it belongs to the former identity.
    pub data_model_cache: PathBuf,
    /// Hosts under which peers and clients reach this router. A server leaf that does not cover them is a warning, never a reason not to
    /// start: only a renewal can mend it.
    pub advertised_hosts: Vec<AdvertisedHost>,
    /// Web listeners.
    pub web: Vec<WebListener>,
    /// The state folder, if it is not to lie beside `identity.cert`.
    pub state: Option<PathBuf>,
    /// Where the admin socket lies, if not in the state folder.
    pub admin_socket: Option<PathBuf>,
    /// When and how to renew.
    pub renewal: RenewalSettings,
}

impl RouterConfig {
    /// Reads `text`, the content of the file `file_name`. `env` answers for environment variables.
    ///
    /// # Errors
    /// When anything that is used here is missing, of a wrong type or illegal: one report names all of it.
    pub fn load(
        text: &str,
        file_name: &str,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<(Self, Warnings), ConfigErrors> {
        let document = ConfigDocument::parse(file_name, text, env)?;
        let check = Check::new(&document, UnknownKeys::Warn);
        let built = build(&check.root(KEYS), Path::new(file_name));
        check.finish(built)
    }
}

/// Visits every section even when an earlier one is wrong, so that all problems are found.
fn build(root: &Section<'_>, file: &Path) -> Option<RouterConfig> {
    let version = root.required("v", "this program reads version 3 of OpenZiti's format: write `v: 3`");
    let version = version.and_then(|field| field.integer::<u8>(3..=3));
    let identity = identity::read(root);
    let control = sections::control(root, file);
    let edge = root.section("edge");
    let csr = sections::csr(root, edge.as_ref());
    let data_model_cache = sections::data_model_cache(edge.as_ref(), file);
    let advertised_hosts = sections::advertised_hosts(root);
    let web = sections::web(root);
    let exuvia = root.section("exuvia");
    let path = |name| exuvia.as_ref().and_then(|section| section.field(name)).and_then(|field| field.path_buf());
    let (state, admin_socket) = (path("state"), path("adminSocket"));
    let renewal = renewal::read(exuvia.as_ref());
    version?;
    Some(RouterConfig {
        identity: identity?,
        control: control?,
        csr: csr?,
        kind: if edge.is_some() { RouterKind::Edge } else { RouterKind::Transit },
        data_model_cache,
        advertised_hosts,
        web,
        state,
        admin_socket,
        renewal,
    })
}
