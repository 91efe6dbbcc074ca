//! The signer: checks certificate requests and signs leaves, on blocking threads.
//!
//! What a request may get is decided by `lifecycle::issuance` and the SANs policy; here is the work of the CPU, the
//! validity, and the warning when the issuer itself comes to its end.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;
use lifecycle::issuance::{Asked, IssuancePolicy, NamesDigest};
use lifecycle::{Leaf, Now, RouterId, UnixTime};
use pki::{
    Chain, Csr, CsrError, EstError, IssueError, Issuer, Profile, SanRefused, Sans, TrustBundle, ValidityError, Which,
};
use store::register::{Chains, Sha1};
use tokio::sync::Semaphore;

use crate::config::SanPolicy;

/// Signs for the whole controller. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Signer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    issuer: Issuer,
    bundle: TrustBundle,
    bundle_pem: Arc<str>,
    est: Arc<str>,
    sans: SanPolicy,
    policy: IssuancePolicy,
    /// As many at once as there are processors: more would only make everybody wait.
    slots: Semaphore,
}

/// Something was not signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignerError {
    /// The asker's: a request that cannot be used.
    #[error("the {which} request is refused: {source}")]
    Csr {
        /// Which one.
        which: Which,
        /// Why.
        source: CsrError,
    },
    /// The asker's, or the operator's: a name that the policy does not allow.
    #[error("the {which} request is refused: {source}")]
    San {
        /// Which one.
        which: Which,
        /// Why.
        source: SanRefused,
    },
    /// The operator's: the issuer ends.
    #[error("nothing is signed any more: {0}")]
    IssuerEnds(ValidityError),
    /// Ours.
    #[error("the leaf cannot be signed: {0}")]
    Issue(#[from] IssueError),
    /// The process is ending.
    #[error("the signer is stopping")]
    Stopping,
}

/// Two requests whose signatures, keys and names have been checked. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Requests(Arc<Pair>);

#[derive(Debug)]
struct Pair {
    client: Csr,
    server: Csr,
}

impl Requests {
    /// The request for the client leaf.
    pub fn client(&self) -> &Csr {
        &self.0.client
    }

    /// What makes two requests the same one.
    pub fn asked(&self) -> Asked {
        let mut names = Vec::new();
        for csr in [&self.0.client, &self.0.server] {
            append_names(&mut names, csr.cn(), csr.sans());
        }
        let mut out = [0; 32];
        let hash = digest::digest(&digest::SHA256, &names);
        out.iter_mut().zip(hash.as_ref()).for_each(|(to, from)| *to = *from);
        Asked { client_key: self.0.client.key_id(), server_key: self.0.server.key_id(), names: NamesDigest(out) }
    }
}

/// Every list with its length, every text with its own: two different sets of names never look the same.
fn append_names(out: &mut Vec<u8>, cn: &str, sans: &Sans) {
    let mut append = |texts: &mut dyn ExactSizeIterator<Item = String>| {
        out.extend_from_slice(&(texts.len() as u64).to_be_bytes());
        for text in texts {
            out.extend_from_slice(&(text.len() as u64).to_be_bytes());
            out.extend_from_slice(text.as_bytes());
        }
    };
    append(&mut [cn.to_owned()].into_iter());
    append(&mut sans.dns.iter().cloned());
    append(&mut sans.ips.iter().map(ToString::to_string));
    append(&mut sans.uris.iter().cloned());
    append(&mut sans.emails.iter().cloned());
}

/// A pair of leaves, fresh from the signer. Nobody has seen them yet.
#[derive(Clone, Debug)]
pub struct Signed {
    /// Client leaf and its issuers.
    pub client: Chain,
    /// Server leaf and its issuers.
    pub server: Chain,
}

impl Signed {
    /// The facts of the client leaf.
    pub fn client_leaf(&self) -> Leaf {
        self.client.leaf().facts()
    }

    /// The facts of the server leaf.
    pub fn server_leaf(&self) -> Leaf {
        self.server.leaf().facts()
    }

    /// As the register keeps them and the wire carries them.
    pub fn chains(&self) -> Chains {
        Chains {
            client_pem: self.client.to_pem().into(),
            server_pem: self.server.to_pem().into(),
            client_sha1: Sha1(self.client.leaf().fingerprint_sha1().0),
        }
    }
}

impl Signer {
    /// A signer. `bundle` is every CA certificate that a router must trust: what enrollments and EST hand out.
    ///
    /// # Errors
    /// [`EstError`] if the bundle is too long to be handed out.
    pub fn new(issuer: Issuer, bundle: TrustBundle, sans: SanPolicy, policy: IssuancePolicy) -> Result<Self, EstError> {
        let est = pki::encode_cacerts(&bundle)?.into();
        let bundle_pem = bundle.to_pem().into();
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
        Ok(Self(Arc::new(Inner { issuer, bundle, bundle_pem, est, sans, policy, slots: Semaphore::new(threads) })))
    }

    /// What the controller is configured to do.
    pub fn policy(&self) -> IssuancePolicy {
        self.0.policy
    }

    /// When the issuer's own chain ends.
    pub fn not_after(&self) -> UnixTime {
        self.0.issuer.not_after()
    }

    /// Subject of the signing certificate.
    pub fn subject(&self) -> String {
        self.0.issuer.certificate().subject_text()
    }

    /// Every CA certificate that a router must trust.
    pub fn bundle(&self) -> &TrustBundle {
        &self.0.bundle
    }

    /// The same as PEM.
    pub fn bundle_pem(&self) -> Arc<str> {
        Arc::clone(&self.0.bundle_pem)
    }

    /// The same as the body of an EST answer.
    pub fn est_body(&self) -> Arc<str> {
        Arc::clone(&self.0.est)
    }

    /// What the operator should do about the issuer, and until when; `None` while it outlives the leaves.
    pub fn warning(&self, now: Now) -> Option<String> {
        let ends = self.not_after();
        match pki::validity(now.wall, self.0.policy.leaf_life, ends) {
            Ok(validity) => validity.issuer_ends_soon.map(|soon| {
                format!(
                    "the signing certificate ends at {}, so leaves get shorter; nothing is signed from {} on: replace it before",
                    rfc3339(soon.issuer_not_after),
                    rfc3339(soon.refuses_from),
                )
            }),
            Err(_) => Some(format!(
                "the signing certificate ends at {} and nothing is signed any more: replace it now",
                rfc3339(ends)
            )),
        }
    }

    /// Checks two requests: signatures, keys, well-formed names, and that the policy allows the names.
    ///
    /// # Errors
    /// [`SignerError::Csr`], [`SignerError::San`], [`SignerError::Stopping`].
    pub async fn check(&self, client_pem: String, server_pem: String) -> Result<Requests, SignerError> {
        self.on_blocking_thread(move |inner| {
            let read = |which, pem: &str| {
                let csr = Csr::from_pem(pem.as_bytes()).map_err(|source| SignerError::Csr { which, source })?;
                allowed(&inner.sans, csr.sans()).map_err(|source| SignerError::San { which, source })?;
                Ok::<_, SignerError>(csr)
            };
            let client = read(Which::Client, &client_pem)?;
            let server = read(Which::Server, &server_pem)?;
            Ok(Requests(Arc::new(Pair { client, server })))
        })
        .await
    }

    /// Signs both leaves in the router's name, whatever name the requests carry.
    ///
    /// # Errors
    /// [`SignerError::IssuerEnds`], [`SignerError::Issue`], [`SignerError::Stopping`].
    pub async fn sign(&self, now: Now, router: &RouterId, requests: &Requests) -> Result<Signed, SignerError> {
        let (router, requests) = (router.clone(), requests.clone());
        self.on_blocking_thread(move |inner| {
            let validity = pki::validity(now.wall, inner.policy.leaf_life, inner.issuer.not_after())
                .map_err(SignerError::IssuerEnds)?;
            let issue = |csr, profile| inner.issuer.issue(csr, router.as_str(), profile, &validity);
            Ok(Signed {
                client: issue(&requests.0.client, Profile::Client)?,
                server: issue(&requests.0.server, Profile::Server)?,
            })
        })
        .await
    }

    async fn on_blocking_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, SignerError> + Send + 'static,
    ) -> Result<T, SignerError> {
        let _slot = self.0.slots.acquire().await.map_err(|_| SignerError::Stopping)?;
        let inner = Arc::clone(&self.0);
        tokio::task::spawn_blocking(move || work(&inner)).await.map_err(|_| SignerError::Stopping)?
    }
}

/// Does the policy allow all of these names?
fn allowed(policy: &SanPolicy, sans: &Sans) -> Result<(), SanRefused> {
    let refused = |kind, name: &str| {
        Err(SanRefused { kind, name: name.chars().take(80).flat_map(char::escape_default).collect() })
    };
    if let Some(name) = sans.dns.iter().find(|name| !policy.allows_dns(name)) {
        return refused("dns", name);
    }
    if let Some(ip) = sans.ips.iter().find(|ip| !policy.allows_ip(**ip)) {
        return refused("ip", &ip.to_string());
    }
    if let Some(uri) = sans.uris.iter().find(|uri| !policy.allows_uri(uri)) {
        return refused("uri", uri);
    }
    if let Some(email) = sans.emails.iter().find(|email| !policy.allows_email(email)) {
        return refused("email", email);
    }
    Ok(())
}

/// An instant as people read it, UTC.
pub(crate) fn rfc3339(at: UnixTime) -> String {
    jiff::Timestamp::from_millisecond(at.as_ms()).map_or_else(|_| format!("{} s", at.as_s()), |at| at.to_string())
}

/// Where advice to renew now should lead: within a twentieth of a leaf's life, and at most a minute.
pub(crate) fn renew_now_within(life: Duration) -> Duration {
    (life / 20).min(Duration::from_secs(60))
}
