//! What attackers can present.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use lifecycle::UnixTime;
use net::tls::{ALPN_CONTROL, ALPN_HTTP1, ServerTrust, client_config};
use pki::{Chain, Issuer, KeyKind, PrivateKey, Profile, Sans, Subject, Validity, new_root};
use rig::Router;
use rustls::ClientConfig;
use rustls::sign::CertifiedKey;

use crate::proxy::{ControllerKeys, Keys as _, KnownKeys, StateFolder};

/// Client configurations with certificates of all kinds.
#[derive(Debug)]
pub(super) struct Foreign {
    /// Signed by itself.
    pub(super) itself: Arc<ClientConfig>,
    /// Signed by a CA that the controller has never heard of.
    pub(super) other_ca: Arc<ClientConfig>,
    /// Signed by the controller's own CA, for a router that is not in its register.
    pub(super) unknown: Arc<ClientConfig>,
    /// The leaf of an enrolled router.
    pub(super) enrolled: Arc<ClientConfig>,
    /// Whose leaf that is.
    pub(super) enrolled_id: String,
    /// Nothing, for HTTP.
    pub(super) http: Arc<ClientConfig>,
}

impl Foreign {
    /// With the CA of the controller whose folder `pki` this is, and the identity of this router.
    pub(super) fn make(pki: &Path, stolen: &Router) -> Result<Self> {
        let authority = ControllerKeys::from_folder(pki)?;
        let root = new_root("somebody", PrivateKey::generate(KeyKind::P256)?, &validity())?;
        let itself = new_root("router", PrivateKey::generate(KeyKind::P256)?, &validity())?;
        let own_chain = Chain::new(itself.certificate().clone(), Vec::new())?;
        let own_key = PrivateKey::from_pem(itself.key().to_pem()?.as_bytes())?;
        let leaf = authority_leaf(stolen)?;
        Ok(Self {
            itself: config(certified(&own_chain, &own_key)?)?,
            other_ca: config(leaf_of(&root)?)?,
            unknown: config(leaf_of(&authority.issuer)?)?,
            enrolled: config(leaf)?,
            enrolled_id: stolen.id().to_owned(),
            http: client_config(&ServerTrust::learn(), None, &[ALPN_HTTP1])?,
        })
    }
}

fn now() -> UnixTime {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    UnixTime::from_ms(i64::try_from(now.as_millis()).unwrap_or(0))
}

fn validity() -> Validity {
    let hour = Duration::from_secs(3600);
    Validity { not_before: now().minus(hour), not_after: now().plus(48 * hour), issuer_ends_soon: None }
}

fn leaf_of(issuer: &Issuer) -> Result<Arc<CertifiedKey>> {
    let key = PrivateKey::generate(KeyKind::P256)?;
    let subject = Subject::common_name("nobody-knows-me")?;
    let life = pki::validity(now(), Duration::from_secs(24 * 3600), issuer.not_after())?;
    let chain = issuer.issue_for(key.public(), &subject, &Sans::default(), Profile::Client, &life)?;
    certified(&chain, &key)
}

fn certified(chain: &Chain, key: &PrivateKey) -> Result<Arc<CertifiedKey>> {
    let keys = KnownKeys::default();
    keys.add(chain, key);
    keys.of_leaf(chain.leaf().fingerprint()).context("a key that TLS does not take")
}

/// The newest leaf on a router's disk.
fn authority_leaf(router: &Router) -> Result<Arc<CertifiedKey>> {
    let chain = std::fs::read(router.generation(1).join("client.pem")).context("the router has no identity")?;
    let chain = Chain::from_pem(&chain)?;
    StateFolder(router.state()).of_leaf(chain.leaf().fingerprint()).context("the router has no key")
}

fn config(presents: Arc<CertifiedKey>) -> Result<Arc<ClientConfig>> {
    Ok(client_config(&ServerTrust::learn(), Some(presents), &[ALPN_CONTROL])?)
}
