//! Chains and trust bundles.

use rustls_pki_types::{CertificateDer, TrustAnchor};

use crate::certificate::{Certificate, CertificateError, certificates_in, pem_of};

/// Most certificates accepted in one chain.
pub const MAX_CHAIN_CERTIFICATES: usize = 16;
/// Most certificates accepted in one trust bundle.
pub const MAX_BUNDLE_CERTIFICATES: usize = 256;

/// A chain or a trust bundle could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// A certificate in it could not be read.
    #[error("a certificate cannot be read")]
    Certificate(#[from] CertificateError),
    /// There is none.
    #[error("no `CERTIFICATE` block; the file is empty or holds something else")]
    Empty,
    /// There are too many.
    #[error("{found} certificates, at most {limit} are accepted")]
    TooMany {
        /// How many there are.
        found: usize,
        /// How many are accepted.
        limit: usize,
    },
    /// A trust bundle with something that vouches for nobody.
    #[error("`{subject}` is no CA certificate, so it cannot be in a trust bundle")]
    NotACa {
        /// Subject of the certificate.
        subject: String,
    },
}

/// A leaf, then its intermediates; never the anchor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    leaf: Certificate,
    intermediates: Vec<Certificate>,
}

impl Chain {
    /// The certificates in the order in which they are presented.
    ///
    /// # Errors
    /// [`ChainError::TooMany`].
    pub fn new(leaf: Certificate, intermediates: Vec<Certificate>) -> Result<Self, ChainError> {
        let found = intermediates.len() + 1;
        if found > MAX_CHAIN_CERTIFICATES {
            return Err(ChainError::TooMany { found, limit: MAX_CHAIN_CERTIFICATES });
        }
        Ok(Self { leaf, intermediates })
    }

    /// Reads a chain file. Text, blank lines and blocks of other kinds are skipped; a self-issued certificate after
    /// the leaf is an anchor and is left out.
    ///
    /// # Errors
    /// [`ChainError`].
    pub fn from_pem(text: &[u8]) -> Result<Self, ChainError> {
        let mut all = certificates_in(text)?.into_iter();
        let leaf = all.next().ok_or(ChainError::Empty)?;
        Self::new(leaf, all.filter(|certificate| !certificate.is_self_issued()).collect())
    }

    /// All of it, leaf first.
    pub fn to_pem(&self) -> String {
        let mut text = self.leaf.to_pem();
        text.push_str(&pem_of(&self.intermediates));
        text
    }

    /// The end-entity certificate.
    pub fn leaf(&self) -> &Certificate {
        &self.leaf
    }

    /// What lies between the leaf and an anchor.
    pub fn intermediates(&self) -> &[Certificate] {
        &self.intermediates
    }

    /// All of it, leaf first, as TLS takes it.
    pub fn to_rustls(&self) -> Vec<CertificateDer<'static>> {
        std::iter::once(&self.leaf).chain(&self.intermediates).map(Certificate::to_rustls).collect()
    }
}

/// The CA certificates that we trust, in the order read, without duplicates. Each one is an anchor, intermediates
/// too, as in OpenZiti.
#[derive(Clone, Debug)]
pub struct TrustBundle {
    certificates: Vec<Certificate>,
    anchors: Vec<TrustAnchor<'static>>,
}

impl PartialEq for TrustBundle {
    fn eq(&self, other: &Self) -> bool {
        self.certificates == other.certificates
    }
}

impl Eq for TrustBundle {}

impl TrustBundle {
    /// A bundle of these certificates.
    ///
    /// # Errors
    /// [`ChainError::Empty`], [`ChainError::TooMany`], [`ChainError::NotACa`].
    pub fn new(certificates: impl IntoIterator<Item = Certificate>) -> Result<Self, ChainError> {
        let mut bundle = Self { certificates: Vec::new(), anchors: Vec::new() };
        for certificate in certificates {
            if bundle.certificates.contains(&certificate) {
                continue;
            }
            if bundle.certificates.len() == MAX_BUNDLE_CERTIFICATES {
                return Err(ChainError::TooMany { found: MAX_BUNDLE_CERTIFICATES + 1, limit: MAX_BUNDLE_CERTIFICATES });
            }
            if !is_anchor(&certificate) {
                return Err(ChainError::NotACa { subject: certificate.subject_text() });
            }
            let anchor = webpki::anchor_from_trusted_cert(certificate.as_rustls())
                .map_err(|error| CertificateError::NotACertificate { reason: error.to_string() })?
                .to_owned();
            bundle.anchors.push(anchor);
            bundle.certificates.push(certificate);
        }
        if bundle.certificates.is_empty() {
            return Err(ChainError::Empty);
        }
        Ok(bundle)
    }

    /// Reads a CA file. Text, blank lines and blocks of other kinds are skipped, and so are certificates that are no
    /// CA: Go reads them and never gets to use them.
    ///
    /// # Errors
    /// [`ChainError`]; [`ChainError::NotACa`] only if no certificate is a CA.
    pub fn from_pem(text: &[u8]) -> Result<Self, ChainError> {
        Self::of_cas(certificates_in(text)?)
    }

    pub(crate) fn of_cas(all: Vec<Certificate>) -> Result<Self, ChainError> {
        if all.iter().any(is_anchor) { Self::new(all.into_iter().filter(is_anchor)) } else { Self::new(all) }
    }

    /// All of them, one after the other.
    pub fn to_pem(&self) -> String {
        pem_of(&self.certificates)
    }

    /// The certificates.
    pub fn certificates(&self) -> &[Certificate] {
        &self.certificates
    }

    /// The anchors made of the certificates, in the same order.
    pub(crate) fn anchors(&self) -> &[TrustAnchor<'static>] {
        &self.anchors
    }
}

/// A self-issued certificate without basic constraints is a version 1 root.
fn is_anchor(certificate: &Certificate) -> bool {
    certificate.is_ca() || certificate.is_self_issued()
}
