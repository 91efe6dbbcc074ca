//! What a router checks of an answer before it stages it. Upstream checks nothing, so a wrong answer is verified,
//! promoted and written (`openziti/ziti:router/state/extendEnrollmentCerts.go`).

use std::fmt;

use lifecycle::{KeyId, Leaf, RouterId, UnixTime};
use rustls_pki_types::ServerName;

use crate::certificate::Certificate;
use crate::chain::{Chain, ChainError, TrustBundle};
use crate::validate::{Usage, ValidationError, validate};

/// Which of the two certificates something is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Which {
    /// The client certificate.
    Client,
    /// The server certificate.
    Server,
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client => "client",
            Self::Server => "server",
        })
    }
}

/// What we asked for.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// Who we are.
    pub router: &'a RouterId,
    /// The key in the client request.
    pub client_key: KeyId,
    /// The key in the server request; often the same.
    pub server_key: KeyId,
    /// Whom we trust.
    pub bundle: &'a TrustBundle,
    /// DNS names and IP addresses under which others reach us; the server certificate must cover each. May be empty.
    pub hosts: &'a [String],
}

/// An answer that passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// The client chain.
    pub client: Chain,
    /// The server chain.
    pub server: Chain,
}

impl Issued {
    /// The facts of the client leaf.
    pub fn client_leaf(&self) -> Leaf {
        self.client.leaf().facts()
    }

    /// The facts of the server leaf.
    pub fn server_leaf(&self) -> Leaf {
        self.server.leaf().facts()
    }
}

/// An answer is refused. The controller is at fault, or somebody between.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IssuedError {
    /// Cannot be read.
    #[error("the issued {which} certificate cannot be read")]
    Unreadable {
        /// Which one.
        which: Which,
        /// Why.
        #[source]
        source: ChainError,
    },
    /// For another key: we could not use it.
    #[error("the issued {which} certificate is for key {found}, ours is {expected}")]
    WrongKey {
        /// Which one.
        which: Which,
        /// The certificate's key.
        found: KeyId,
        /// Ours.
        expected: KeyId,
    },
    /// For somebody else.
    #[error("the issued {which} certificate names `{found}`, not this router `{expected}`")]
    WrongRouter {
        /// Which one.
        which: Which,
        /// The certificate's CN, escaped; empty if there is none.
        found: String,
        /// Who we are.
        expected: RouterId,
    },
    /// Ends before it begins.
    #[error("the issued {which} certificate ends before it begins")]
    EmptyValidity {
        /// Which one.
        which: Which,
    },
    /// Its chain does not hold at any time of its life.
    #[error("the issued {which} certificate is not accepted")]
    Chain {
        /// Which one.
        which: Which,
        /// Why.
        #[source]
        source: ValidationError,
    },
    /// Others could not reach us under this name.
    #[error("the issued server certificate does not cover `{host}`; allow it on the controller or correct `csr.sans`")]
    HostNotCovered {
        /// The name.
        host: String,
    },
    /// What we were told to cover is no name.
    #[error("`{host}` is neither a DNS name nor an IP address")]
    NotAHost {
        /// What was said.
        host: String,
    },
}

/// Checks both certificates of an answer. The clock has no say here: a chain passes if it holds at some time of its
/// leaf's life, and whether the dates are better than those at hand is `lifecycle`'s question.
///
/// The client certificate's extended key usages are not looked at, as nobody looks at them on a control channel; the
/// server certificate must not exclude serverAuth.
///
/// # Errors
/// [`IssuedError`].
pub fn check_issued(client_pem: &[u8], server_pem: &[u8], expected: &Expected<'_>) -> Result<Issued, IssuedError> {
    let client = checked(Which::Client, client_pem, expected)?;
    let server = checked(Which::Server, server_pem, expected)?;
    for host in expected.hosts {
        if ServerName::try_from(host.as_str()).is_err() {
            return Err(IssuedError::NotAHost { host: host.clone() });
        }
        if !server.leaf().covers_host(host) {
            return Err(IssuedError::HostNotCovered { host: host.clone() });
        }
    }
    Ok(Issued { client, server })
}

fn checked(which: Which, text: &[u8], expected: &Expected<'_>) -> Result<Chain, IssuedError> {
    let chain = Chain::from_pem(text).map_err(|source| IssuedError::Unreadable { which, source })?;
    let leaf = chain.leaf();
    let (key, usage) = match which {
        Which::Client => (expected.client_key, Usage::Any),
        Which::Server => (expected.server_key, Usage::Server),
    };
    if leaf.key_id() != key {
        return Err(IssuedError::WrongKey { which, found: leaf.key_id(), expected: key });
    }
    if leaf.cn() != Some(expected.router.as_str()) {
        let found = leaf.cn().unwrap_or_default().chars().take(80).flat_map(char::escape_default).collect();
        return Err(IssuedError::WrongRouter { which, found, expected: expected.router.clone() });
    }
    if leaf.not_after() <= leaf.not_before() {
        return Err(IssuedError::EmptyValidity { which });
    }
    holds_at_some_time(&chain, expected.bundle, usage).map_err(|source| IssuedError::Chain { which, source })?;
    Ok(chain)
}

/// The set of instants at which a chain holds is an interval for each path, and it begins where one of the
/// certificates begins. So those beginnings within the leaf's life are all that need be tried; its end comes first
/// because a proper issuer outlives the leaf.
fn holds_at_some_time(chain: &Chain, bundle: &TrustBundle, usage: Usage) -> Result<(), ValidationError> {
    let leaf = chain.leaf();
    let mut beginnings: Vec<UnixTime> = std::iter::once(leaf)
        .chain(chain.intermediates())
        .chain(bundle.certificates())
        .map(Certificate::not_before)
        .filter(|at| *at >= leaf.not_before() && *at <= leaf.not_after())
        .collect();
    beginnings.sort_unstable();
    beginnings.dedup();
    let presented = chain.to_rustls();
    let intermediates = presented.get(1..).unwrap_or_default();
    let mut last = Ok(());
    for at in std::iter::once(leaf.not_after()).chain(beginnings) {
        last = validate(leaf, intermediates, bundle, at, usage);
        match last {
            Ok(()) => return Ok(()),
            // These may become true at another instant: an anchor may be out of date as well.
            Err(
                ValidationError::Expired { .. }
                | ValidationError::NotYetValid { .. }
                | ValidationError::Untrusted { .. },
            ) => {}
            Err(_) => return last,
        }
    }
    last
}
