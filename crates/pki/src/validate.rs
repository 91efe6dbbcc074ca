//! Does a presented chain reach an anchor?

use core::time::Duration;

use lifecycle::UnixTime;
use rustls_pki_types::{CertificateDer, TrustAnchor};
use webpki::{EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeIdIter, KeyUsage};

use crate::certificate::{Certificate, CertificateError};
use crate::chain::{MAX_CHAIN_CERTIFICATES, TrustBundle};

/// What a leaf must be good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Usage {
    /// clientAuth, if the leaf (or an intermediate) names usages at all.
    Client,
    /// serverAuth, likewise.
    Server,
    /// Anything: extended key usages are not looked at. This is how OpenZiti's controller judges the leaf of a
    /// control channel (`openziti/ziti:controller/handler_ctrl/connect.go`).
    Any,
}

/// A chain is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValidationError {
    /// Nothing was presented.
    #[error("no certificate was presented")]
    NothingPresented,
    /// More was presented than any chain needs.
    #[error("{found} certificates were presented, at most {MAX_CHAIN_CERTIFICATES} are accepted")]
    TooMany {
        /// How many.
        found: usize,
    },
    /// The leaf cannot be parsed.
    #[error("the presented leaf cannot be read")]
    Leaf(#[source] CertificateError),
    /// The leaf is a CA.
    #[error("a CA certificate was presented as a leaf")]
    CaAsLeaf,
    /// A certificate of the chain is past its end.
    #[error("a certificate of the chain has expired")]
    Expired {
        /// The leaf's own end, whichever certificate it is about.
        leaf_not_after: UnixTime,
        /// When it was judged.
        at: UnixTime,
    },
    /// A certificate of the chain has not begun; usually a clock is wrong.
    #[error("a certificate of the chain is not valid yet; compare the clocks")]
    NotYetValid {
        /// The leaf's own beginning, whichever certificate it is about.
        leaf_not_before: UnixTime,
        /// When it was judged.
        at: UnixTime,
    },
    /// The chain ends at nobody whom we trust.
    #[error("the chain of `{subject}`, issued by `{issuer}`, does not reach a trusted CA")]
    Untrusted {
        /// Subject of the leaf.
        subject: String,
        /// Its issuer.
        issuer: String,
    },
    /// The leaf is for something else.
    #[error("the certificate is not meant for this use (extended key usage)")]
    WrongUsage,
    /// Anything else.
    #[error("the chain is refused ({reason})")]
    Refused {
        /// What the verifier says.
        reason: String,
    },
}

struct AnyUsage;

impl ExtendedKeyUsageValidator for AnyUsage {
    fn validate(&self, _: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        Ok(())
    }
}

/// Judges what a peer presented, and returns the leaf: the *first* certificate, the one whose key the handshake
/// proved. The others serve only as intermediates, so a stolen certificate behind one's own is worth nothing. All
/// dates, the anchor's too, are judged at `at`.
///
/// # Errors
/// [`ValidationError`].
pub fn validate_chain(
    presented: &[CertificateDer<'_>],
    bundle: &TrustBundle,
    at: UnixTime,
    usage: Usage,
) -> Result<Certificate, ValidationError> {
    if presented.len() > MAX_CHAIN_CERTIFICATES {
        return Err(ValidationError::TooMany { found: presented.len() });
    }
    let (first, intermediates) = presented.split_first().ok_or(ValidationError::NothingPresented)?;
    let leaf = Certificate::from_der(first).map_err(ValidationError::Leaf)?;
    validate(&leaf, intermediates, bundle, at, usage)?;
    Ok(leaf)
}

pub(crate) fn validate(
    leaf: &Certificate,
    intermediates: &[CertificateDer<'_>],
    bundle: &TrustBundle,
    at: UnixTime,
    usage: Usage,
) -> Result<(), ValidationError> {
    if leaf.is_ca() {
        return Err(ValidationError::CaAsLeaf);
    }
    // The verifier does not judge an anchor's dates, Go does: those not valid at `at` are left out.
    let in_date = |certificate: &Certificate| certificate.not_before() <= at && at <= certificate.not_after();
    let some;
    let anchors = if bundle.certificates().iter().all(in_date) {
        bundle.anchors()
    } else {
        some = bundle
            .certificates()
            .iter()
            .zip(bundle.anchors())
            .filter(|(certificate, _)| in_date(certificate))
            .map(|(_, anchor)| anchor.clone())
            .collect::<Vec<_>>();
        some.as_slice()
    };
    let error = match verify(leaf, intermediates, anchors, at, usage) {
        Ok(()) => return Ok(()),
        Err(error) => error,
    };
    let expired = || ValidationError::Expired { leaf_not_after: leaf.not_after(), at };
    let not_yet = || ValidationError::NotYetValid { leaf_not_before: leaf.not_before(), at };
    Err(match error {
        webpki::Error::CertExpired { .. } => expired(),
        webpki::Error::CertNotValidYet { .. } => not_yet(),
        webpki::Error::CaUsedAsEndEntity => ValidationError::CaAsLeaf,
        webpki::Error::RequiredEkuNotFoundContext(_) => ValidationError::WrongUsage,
        // The second: an issuer of that name is there, with another key.
        webpki::Error::UnknownIssuer | webpki::Error::InvalidSignatureForPublicKey => {
            // Only to say what is wrong: would an anchor that is out of date have done?
            let out_of_date = anchors.len() < bundle.anchors().len()
                && verify(leaf, intermediates, bundle.anchors(), at, usage).is_ok();
            if out_of_date && bundle.certificates().iter().any(|anchor| anchor.not_after() < at) {
                expired()
            } else if out_of_date {
                not_yet()
            } else {
                ValidationError::Untrusted { subject: leaf.subject_text(), issuer: leaf.issuer_text() }
            }
        }
        other => ValidationError::Refused { reason: other.to_string() },
    })
}

fn verify(
    leaf: &Certificate,
    intermediates: &[CertificateDer<'_>],
    anchors: &[TrustAnchor<'_>],
    at: UnixTime,
    usage: Usage,
) -> Result<(), webpki::Error> {
    let since_epoch = Duration::from_secs(u64::try_from(at.as_s()).unwrap_or(0));
    let at = rustls_pki_types::UnixTime::since_unix_epoch(since_epoch);
    let leaf = EndEntityCert::try_from(leaf.as_rustls())?;
    let algorithms = webpki::ALL_VERIFICATION_ALGS;
    match usage {
        Usage::Client => {
            leaf.verify_for_usage(algorithms, anchors, intermediates, at, KeyUsage::client_auth(), None, None)
        }
        Usage::Server => {
            leaf.verify_for_usage(algorithms, anchors, intermediates, at, KeyUsage::server_auth(), None, None)
        }
        Usage::Any => leaf.verify_for_usage(algorithms, anchors, intermediates, at, AnyUsage, None, None),
    }
    .map(|_| ())
}
