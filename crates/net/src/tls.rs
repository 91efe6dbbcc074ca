//! What both sides of every handshake insist on.
//!
//! Four rules, each of which a silent default would break:
//!
//! - The provider is named. A dependency that enables a second one makes rustls' process default ambiguous, and ambiguity
//!   panics.
//! - Nothing is ever resumed: no session storage, no tickets, no early data. A resumed connection shows the leaf of the
//!   *ticket*, so a renewed router would present the leaf it has just replaced, and a revoked one would get in.
//! - A listener takes any client certificate and judges it in the hello, as OpenZiti does (`openziti/identity:identity.go`),
//!   but it checks the handshake signature first: that signature is all that binds the connection to the leaf's key.
//! - TLS 1.2 and 1.3, nothing older.

use std::sync::{Arc, LazyLock};

use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::server::NoServerSessionStorage;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use rustls_pki_types::CertificateDer;

use crate::clock::WallClock;
use crate::credentials::CredentialsSlot;

mod verify;

use verify::{AnyClient, AnyServer, ExactServer};

/// ALPN of the control plane. Source: `openziti/ziti:controller/controller.go`.
pub const ALPN_CONTROL: &[u8] = b"ziti-ctrl";
/// ALPN of HTTP/2.
pub const ALPN_HTTP2: &[u8] = b"h2";
/// ALPN of HTTP/1.1.
pub const ALPN_HTTP1: &[u8] = b"http/1.1";

static PROVIDER: LazyLock<Arc<CryptoProvider>> =
    LazyLock::new(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));

const VERSIONS: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];

/// The one cryptography provider of this program.
pub fn provider() -> Arc<CryptoProvider> {
    PROVIDER.clone()
}

/// Why a TLS endpoint cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsSetupError {
    /// The bundle holds no certificate that can anchor a chain.
    #[error("the trust bundle holds no usable certificate: nobody could be trusted with it")]
    EmptyBundle,
    /// rustls refused the configuration.
    #[error("TLS cannot be configured")]
    Rejected(#[source] rustls::Error),
}

/// Which servers a client believes.
#[derive(Clone)]
pub struct ServerTrust(Trust);

#[derive(Clone)]
enum Trust {
    Bundle(Arc<RootCertStore>),
    Exact(CertificateDer<'static>),
    Nobody,
}

impl ServerTrust {
    /// Servers whose chain ends at one of these certificates and whose leaf names the dialed host. Any certificate is an
    /// anchor, a root or not; those that cannot be one are passed over.
    ///
    /// # Errors
    /// When none is left.
    pub fn bundle(bundle: &pki::TrustBundle) -> Result<Self, TlsSetupError> {
        let mut store = RootCertStore::empty();
        for certificate in bundle.certificates() {
            if let Err(cause) = store.add(certificate.to_rustls()) {
                tracing::debug!(%cause, "a certificate of the trust bundle cannot be an anchor");
            }
        }
        if store.is_empty() {
            return Err(TlsSetupError::EmptyBundle);
        }
        Ok(Self(Trust::Bundle(Arc::new(store))))
    }

    /// The one server that presents exactly this leaf, still checking host name and dates. Enrollment needs it: the only
    /// thing known about the controller then is the certificate that verified its token.
    /// Source: `openziti/sdk-golang:ziti/enroll/enroll.go`.
    pub fn exact_leaf(leaf: CertificateDer<'static>) -> Self {
        Self(Trust::Exact(leaf))
    }

    /// Any server at all: only to learn which certificate it presents, never to tell it a secret. Possession of the
    /// presented leaf's key is still proven.
    pub fn learn() -> Self {
        Self(Trust::Nobody)
    }
}

impl std::fmt::Debug for ServerTrust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Trust::Bundle(roots) => write!(f, "ServerTrust::Bundle({} anchors)", roots.len()),
            Trust::Exact(_) => f.write_str("ServerTrust::Exact"),
            Trust::Nobody => f.write_str("ServerTrust::Nobody"),
        }
    }
}

/// A client configuration for one purpose: whom it believes, what it presents, which protocols it offers.
///
/// # Errors
/// When rustls refuses it.
pub fn client_config(
    trust: &ServerTrust,
    presents: Option<Arc<CertifiedKey>>,
    alpn: &[&[u8]],
) -> Result<Arc<ClientConfig>, TlsSetupError> {
    let builder = ClientConfig::builder_with_details(provider(), Arc::new(WallClock))
        .with_protocol_versions(VERSIONS)
        .map_err(TlsSetupError::Rejected)?;
    let builder = match &trust.0 {
        Trust::Bundle(roots) => {
            let verifier = rustls::client::WebPkiServerVerifier::builder_with_provider(roots.clone(), provider())
                .build()
                .map_err(|_| TlsSetupError::EmptyBundle)?;
            builder.with_webpki_verifier(verifier)
        }
        Trust::Exact(leaf) => {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(ExactServer::new(leaf.clone())))
        }
        Trust::Nobody => builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyServer)),
    };
    let mut config = match presents {
        Some(identity) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity))),
        None => builder.with_no_client_auth(),
    };
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Ok(Arc::new(config))
}

/// What a listener does about client certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCertificate {
    /// No handshake without one. Any chain will do; who it is gets decided afterwards.
    Required,
    /// Asked for, and if there is one its key must be proven.
    Asked,
    /// Not asked for.
    NotAsked,
}

/// A server configuration whose certificate is whatever the slot holds when a handshake begins.
///
/// # Errors
/// When rustls refuses it.
pub fn server_config(
    credentials: &Arc<CredentialsSlot>,
    clients: ClientCertificate,
    alpn: &[&[u8]],
) -> Result<Arc<ServerConfig>, TlsSetupError> {
    let builder = ServerConfig::builder_with_details(provider(), Arc::new(WallClock))
        .with_protocol_versions(VERSIONS)
        .map_err(TlsSetupError::Rejected)?;
    let builder = match clients {
        ClientCertificate::Required => builder.with_client_cert_verifier(Arc::new(AnyClient { mandatory: true })),
        ClientCertificate::Asked => builder.with_client_cert_verifier(Arc::new(AnyClient { mandatory: false })),
        ClientCertificate::NotAsked => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(credentials.clone());
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Ok(Arc::new(config))
}
