//! What the other side proved about itself in a handshake.

use lifecycle::Fingerprint;
use rustls_pki_types::CertificateDer;

/// The certificates that the peer presented, leaf first.
///
/// The handshake proved possession of the *leaf's* key and of nothing else: the other certificates are only material for
/// building a path (promise P8).
#[derive(Clone, PartialEq, Eq)]
pub struct PeerCertificates {
    leaf: CertificateDer<'static>,
    intermediates: Vec<CertificateDer<'static>>,
}

impl PeerCertificates {
    /// From what TLS reports; `None` when the peer presented nothing.
    pub fn from_presented(presented: Option<&[CertificateDer<'_>]>) -> Option<Self> {
        let (leaf, intermediates) = presented?.split_first()?;
        Some(Self {
            leaf: leaf.clone().into_owned(),
            intermediates: intermediates.iter().map(|der| der.clone().into_owned()).collect(),
        })
    }

    /// The certificate whose private key the peer proved to hold.
    pub fn leaf(&self) -> &CertificateDer<'static> {
        &self.leaf
    }

    /// SHA-256 of the proven leaf's DER.
    pub fn fingerprint(&self) -> Fingerprint {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &self.leaf);
        let mut bytes = [0; 32];
        // SHA-256 always has 32 bytes.
        bytes.iter_mut().zip(digest.as_ref()).for_each(|(to, from)| *to = *from);
        Fingerprint(bytes)
    }

    /// Whatever else was presented, in the peer's order.
    pub fn intermediates(&self) -> &[CertificateDer<'static>] {
        &self.intermediates
    }

    /// Leaf first, then the others.
    pub fn iter(&self) -> impl Iterator<Item = &CertificateDer<'static>> {
        std::iter::once(&self.leaf).chain(&self.intermediates)
    }
}

impl std::fmt::Debug for PeerCertificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PeerCertificates")
            .field("leaf", &self.fingerprint())
            .field("intermediates", &self.intermediates.len())
            .finish()
    }
}
