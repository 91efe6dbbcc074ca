//! The controller's own certificates and its signer, read from files and tried.

use std::path::Path;

use lifecycle::issuance::IssuancePolicy;
use lifecycle::{GenerationNumber, Now};
use net::credentials::{CredentialParts, Credentials};
use pki::{Certificate, Chain, Issuer, KeyKind, PrivateKey, Profile, Sans, Subject, TrustBundle, Usage};
use zeroize::Zeroizing;

use super::DaemonError;
use crate::config::ControllerConfig;
use crate::enroll::TokenMint;
use crate::signer::{Signer, rfc3339};

/// Longest file that is read: a bundle of many CAs.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// The controller's own leaf is worth a warning when it has less than this to live.
const OWN_LEAF_SHORT_S: i64 = 30 * 86_400;

/// Everything that the files of a configuration make.
#[derive(Debug)]
pub(super) struct Identity {
    pub(super) credentials: Credentials,
    pub(super) mint: TokenMint,
    pub(super) signer: Signer,
    pub(super) controller_id: String,
}

impl Identity {
    pub(super) fn load(config: &ControllerConfig, policy: IssuancePolicy, now: Now) -> Result<Self, DaemonError> {
        let files = &config.identity;
        let server = chain("server certificate", &files.server_cert)?;
        let client = chain("client certificate", &files.cert)?;
        let trusted = bundle("CA bundle", &files.ca)?;
        let (key, again) = (private_key("key", &files.key)?, private_key("key", &files.key)?);
        let parts = CredentialParts {
            generation: GenerationNumber(0),
            client: &client,
            client_key: &key,
            server: &server,
            server_key: &key,
            bundle: &trusted,
        };
        let unfit = |error: &dyn std::error::Error| {
            DaemonError::Identity(format!("the controller's identity: {}", told(error)))
        };
        let credentials = Credentials::new(parts).map_err(|error| unfit(&error))?;
        warn_of_own_leaf(config, server.leaf(), now);
        let signer = signer(config, policy, &trusted, now)?;
        if let Some(warning) = signer.warning(now) {
            tracing::warn!("{warning}");
        }
        let controller_id = match (&config.id, server.leaf().cn()) {
            (Some(id), _) => id.clone(),
            (None, Some(cn)) => cn.to_owned(),
            (None, None) => {
                let told =
                    "the server certificate has no CN to name this controller by: write `id:` in the configuration";
                return Err(DaemonError::Identity(told.to_owned()));
            }
        };
        let mint = TokenMint {
            key: again,
            certificate: server.leaf().clone(),
            issuer: format!("https://{}", config.api_address),
            controllers: vec![config.control.advertise.to_string()],
        };
        Ok(Self { credentials, mint, signer, controller_id })
    }
}

/// A signer that has signed one leaf, whose chain leads to what routers are told to trust.
fn signer(
    config: &ControllerConfig,
    policy: IssuancePolicy,
    trusted: &TrustBundle,
    now: Now,
) -> Result<Signer, DaemonError> {
    let files = &config.signer;
    let refused = |why: String| DaemonError::File { what: "signing certificate", path: files.cert.clone(), why };
    let further = files.ca.as_deref().map(|path| bundle("signer's CA bundle", path)).transpose()?;
    let key = private_key("signing key", &files.key)?;
    let text = read("signing certificate", &files.cert)?;
    let known: Vec<Certificate> =
        trusted.certificates().iter().chain(further.iter().flat_map(TrustBundle::certificates)).cloned().collect();
    let issuer = Issuer::from_pem(&text, &known, key).map_err(|error| refused(told(&error)))?;
    let bundle = TrustBundle::new(known).map_err(|error| refused(told(&error)))?;
    if issuer.not_after() > now.wall {
        try_out(&issuer, &bundle, now).map_err(refused)?;
    }
    let sans = config.issuing.sans.clone();
    Signer::new(issuer, bundle, sans, policy).map_err(|error| refused(told(&error)))
}

/// Before a router depends on it: does what this issuer signs lead to the bundle?
fn try_out(issuer: &Issuer, bundle: &TrustBundle, now: Now) -> Result<(), String> {
    let key = PrivateKey::generate(KeyKind::P256).map_err(|error| told(&error))?;
    let subject = Subject::common_name("trial").map_err(|error| told(&error))?;
    let validity = pki::Validity { not_before: now.wall, not_after: issuer.not_after(), issuer_ends_soon: None };
    let chain = issuer
        .issue_for(key.public(), &subject, &Sans::default(), Profile::Client, &validity)
        .map_err(|error| told(&error))?;
    pki::validate_chain(&chain.to_rustls(), bundle, now.wall, Usage::Any)
        .map(drop)
        .map_err(|error| format!("leaves that it signs would not be admitted here: {}", told(&error)))
}

fn warn_of_own_leaf(config: &ControllerConfig, leaf: &Certificate, now: Now) {
    let path = config.identity.server_cert.display();
    if leaf.not_after().as_s() - now.wall.as_s() < OWN_LEAF_SHORT_S {
        let ends = rfc3339(leaf.not_after());
        tracing::warn!(
            "the server certificate `{path}` ends at {ends}: routers do not connect after that; replace it before"
        );
    }
    for host in [&config.control.advertise.at.host, &config.api_address.host] {
        if !leaf.covers_host(host) {
            tracing::warn!(
                "the server certificate `{path}` does not name `{host}`, by which routers are told to reach it: they will refuse it"
            );
        }
    }
}

fn read(what: &'static str, path: &Path) -> Result<Zeroizing<Vec<u8>>, DaemonError> {
    use std::io::Read as _;
    let refused = |why: String| DaemonError::File { what, path: path.to_path_buf(), why };
    let mut bytes = Zeroizing::new(Vec::new());
    let file = std::fs::File::open(path).map_err(|error| refused(error.to_string()))?;
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| refused(error.to_string()))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(refused(format!("it is longer than {FILE_BYTES_MAX} bytes")));
    }
    Ok(bytes)
}

fn chain(what: &'static str, path: &Path) -> Result<Chain, DaemonError> {
    let refused = |error: pki::ChainError| DaemonError::File { what, path: path.to_path_buf(), why: told(&error) };
    Chain::from_pem(&read(what, path)?).map_err(refused)
}

fn bundle(what: &'static str, path: &Path) -> Result<TrustBundle, DaemonError> {
    let refused = |error: pki::ChainError| DaemonError::File { what, path: path.to_path_buf(), why: told(&error) };
    TrustBundle::from_pem(&read(what, path)?).map_err(refused)
}

fn private_key(what: &'static str, path: &Path) -> Result<PrivateKey, DaemonError> {
    let refused = |error: pki::KeyError| DaemonError::File { what, path: path.to_path_buf(), why: told(&error) };
    PrivateKey::from_pem(&read(what, path)?).map_err(refused)
}

/// An error with its causes, in one line.
fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
