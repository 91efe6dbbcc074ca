//! One generation in memory, and the slot that every TLS endpoint reads it from.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use lifecycle::{GenerationNumber, Leaf, UnixTime};
use pki::{Chain, PrivateKey, TrustBundle, Usage, ValidationError, validate_chain};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::tls::{self, ServerTrust, TlsSetupError};

/// What a generation's files hold, not yet known to belong together.
#[derive(Clone, Copy, Debug)]
pub struct CredentialParts<'a> {
    /// Which generation it is.
    pub generation: GenerationNumber,
    /// What is presented when dialing.
    pub client: &'a Chain,
    /// The client leaf's private key.
    pub client_key: &'a PrivateKey,
    /// What is presented when accepting.
    pub server: &'a Chain,
    /// The server leaf's private key; often the client's.
    pub server_key: &'a PrivateKey,
    /// Every certificate that is trusted.
    pub bundle: &'a TrustBundle,
}

/// Which of the two leaves an error is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The leaf that is presented when dialing.
    Client,
    /// The leaf that is presented when accepting.
    Server,
}

impl std::fmt::Display for Which {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Client => "client",
            Self::Server => "server",
        })
    }
}

/// Why a generation cannot be used for TLS.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// The key is not one that TLS can sign with.
    #[error("the {which} key cannot be used for TLS")]
    UnusableKey {
        /// Which key.
        which: Which,
        /// What is wrong with it.
        #[source]
        source: rustls::Error,
    },
    /// The key cannot be handed to TLS.
    #[error("the {which} key cannot be encoded for TLS")]
    Key {
        /// Which key.
        which: Which,
        /// What is wrong with it.
        #[source]
        source: pki::KeyError,
    },
    /// The leaf certifies another key.
    #[error("the {0} leaf does not belong to its key: files of two generations are mixed")]
    KeyMismatch(Which),
    /// No path leads from the leaf to the bundle.
    #[error("the {which} leaf does not chain to the trust bundle")]
    Untrusted {
        /// Which leaf.
        which: Which,
        /// What path building met.
        #[source]
        source: ValidationError,
    },
    /// The bundle is of no use.
    #[error(transparent)]
    Bundle(#[from] TlsSetupError),
}

/// One whole generation, ready for handshakes: both leaves match their keys and chain to the bundle.
pub struct Credentials {
    generation: GenerationNumber,
    client: Arc<CertifiedKey>,
    server: Arc<CertifiedKey>,
    client_leaf: Leaf,
    server_leaf: Leaf,
    trust: ServerTrust,
    bundle: TrustBundle,
}

impl Credentials {
    /// Checks that everything belongs together.
    ///
    /// Chains are judged at a moment at which the leaf itself is valid, not now: an expired generation must still load, so
    /// that a lapsed router can say so and go on trying.
    ///
    /// # Errors
    /// When a leaf does not match its key or chains to nothing in the bundle.
    pub fn new(parts: CredentialParts<'_>) -> Result<Self, CredentialsError> {
        let trust = ServerTrust::bundle(parts.bundle)?;
        Ok(Self {
            generation: parts.generation,
            client: checked(Which::Client, parts.client, parts.client_key, parts.bundle)?,
            server: checked(Which::Server, parts.server, parts.server_key, parts.bundle)?,
            client_leaf: parts.client.leaf().facts(),
            server_leaf: parts.server.leaf().facts(),
            trust,
            bundle: parts.bundle.clone(),
        })
    }

    /// Which generation this is.
    pub fn generation(&self) -> GenerationNumber {
        self.generation
    }

    /// What is presented when dialing.
    pub fn client(&self) -> &Arc<CertifiedKey> {
        &self.client
    }

    /// What is presented when accepting.
    pub fn server(&self) -> &Arc<CertifiedKey> {
        &self.server
    }

    /// Facts of the client leaf.
    pub fn client_leaf(&self) -> &Leaf {
        &self.client_leaf
    }

    /// Facts of the server leaf.
    pub fn server_leaf(&self) -> &Leaf {
        &self.server_leaf
    }

    /// Which servers are believed with this generation's bundle.
    pub fn trust(&self) -> &ServerTrust {
        &self.trust
    }

    /// This generation's trust bundle.
    pub fn bundle(&self) -> &TrustBundle {
        &self.bundle
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("generation", &self.generation)
            .field("client_leaf", &self.client_leaf)
            .field("server_leaf", &self.server_leaf)
            .finish_non_exhaustive()
    }
}

fn checked(
    which: Which,
    chain: &Chain,
    key: &PrivateKey,
    bundle: &TrustBundle,
) -> Result<Arc<CertifiedKey>, CredentialsError> {
    if !key.matches(chain.leaf()) {
        return Err(CredentialsError::KeyMismatch(which));
    }
    check_path(chain, bundle).map_err(|source| CredentialsError::Untrusted { which, source })?;
    let key = key.to_rustls().map_err(|source| CredentialsError::Key { which, source })?;
    let key = tls::provider()
        .key_provider
        .load_private_key(key)
        .map_err(|source| CredentialsError::UnusableKey { which, source })?;
    Ok(Arc::new(CertifiedKey::new(chain.to_rustls(), key)))
}

fn check_path(chain: &Chain, bundle: &TrustBundle) -> Result<(), ValidationError> {
    let presented = chain.to_rustls();
    let at = |instant: UnixTime| validate_chain(&presented, bundle, instant, Usage::Any).map(|_| ());
    // An issuer may be valid at one end of the leaf's life only.
    at(chain.leaf().not_before()).or_else(|_| at(chain.leaf().not_after()))
}

/// Where every TLS endpoint finds the generation to use. One store switches all of them for handshakes that begin
/// afterwards; connections that exist keep what they were made with.
#[derive(Default)]
pub struct CredentialsSlot {
    current: ArcSwapOption<Credentials>,
}

impl CredentialsSlot {
    /// A slot that holds `first` from the start.
    pub fn new(first: Arc<Credentials>) -> Arc<Self> {
        Arc::new(Self { current: ArcSwapOption::new(Some(first)) })
    }

    /// A slot that holds nothing yet: handshakes as a server fail until something is published.
    pub fn empty() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// Switches every endpoint at once.
    pub fn publish(&self, next: Arc<Credentials>) {
        self.current.store(Some(next));
    }

    /// What a handshake that begins now would use.
    pub fn current(&self) -> Option<Arc<Credentials>> {
        self.current.load_full()
    }
}

impl std::fmt::Debug for CredentialsSlot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("CredentialsSlot").field(&self.current()).finish()
    }
}

impl ResolvesServerCert for CredentialsSlot {
    fn resolve(&self, _client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.current().map(|credentials| credentials.server.clone())
    }
}
