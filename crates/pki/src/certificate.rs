//! One certificate, parsed once.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use aws_lc_rs::digest;
use lifecycle::{Fingerprint, KeyId, Leaf, UnixTime};
use rustls_pki_types::{CertificateDer, ServerName};
use webpki::EndEntityCert;
use x509_cert::der::Decode;
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAltName, SubjectKeyIdentifier};
use x509_cert::name::Name;
use x509_cert::spki::AlgorithmIdentifierOwned;
use x509_cert::time::Time;
use zeroize::Zeroizing;

use crate::algorithm::{PublicKey, sha256, signed_part};
use crate::pem::{self, MAX_CERTIFICATES_PEM_BYTES, PemError};
use crate::sans::{SanError, Sans};
use crate::subject::common_names;

pub(crate) const SERVER_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.1");
pub(crate) const CLIENT_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.2");
pub(crate) const LABEL: &str = "CERTIFICATE";

/// Something is not a certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// Not a whole PEM text.
    #[error("the certificate text is damaged")]
    Pem(#[from] PemError),
    /// Not DER, or not a certificate.
    #[error("this is no X.509 certificate, or a damaged one ({reason})")]
    NotACertificate {
        /// What the parser stumbled on.
        reason: String,
    },
    /// A name in it is malformed.
    #[error("the certificate holds a malformed name")]
    San(#[from] SanError),
    /// Not exactly one.
    #[error("{found} certificates, exactly one is expected")]
    NotOne {
        /// How many there are.
        found: usize,
    },
}

impl From<x509_cert::der::Error> for CertificateError {
    fn from(error: x509_cert::der::Error) -> Self {
        Self::NotACertificate { reason: error.to_string() }
    }
}

/// SHA-1 of a certificate's DER: how OpenZiti names certificates (`openziti/ziti:common/cert/fingerprint.go`). It
/// identifies, it proves nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha1Fingerprint(pub [u8; 20]);

impl fmt::Display for Sha1Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Sha1Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Not 40 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a fingerprint is 40 hexadecimal digits")]
pub struct FingerprintTextError;

impl FromStr for Sha1Fingerprint {
    type Err = FingerprintTextError;

    /// Reads 40 hexadecimal digits in either case.
    fn from_str(text: &str) -> Result<Self, FingerprintTextError> {
        let digits: Vec<u8> = text
            .chars()
            .map(|digit| digit.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
            .collect::<Option<_>>()
            .ok_or(FingerprintTextError)?;
        let (pairs, rest) = digits.as_chunks::<2>();
        let bytes: Vec<u8> = pairs.iter().map(|[high, low]| high << 4 | low).collect();
        match (<[u8; 20]>::try_from(bytes), rest) {
            (Ok(bytes), []) => Ok(Self(bytes)),
            _ => Err(FingerprintTextError),
        }
    }
}

/// A certificate, with everything that we ever ask of it. Cheap to clone.
#[derive(Clone)]
pub struct Certificate(Arc<Parsed>);

struct Parsed {
    der: CertificateDer<'static>,
    signature_algorithm: AlgorithmIdentifierOwned,
    signature: Vec<u8>,
    issuer: Name,
    subject: Name,
    cn: Option<String>,
    sans: Sans,
    not_before: UnixTime,
    not_after: UnixTime,
    is_ca: bool,
    may_sign_certificates: bool,
    eku: Option<Vec<ObjectIdentifier>>,
    subject_key_id: Option<Vec<u8>>,
    public: PublicKey,
    fingerprint: Fingerprint,
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.0.der == other.0.der
    }
}

impl Eq for Certificate {}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({}, {:?})", self.0.subject, self.0.fingerprint)
    }
}

impl Certificate {
    /// Parses one certificate; bytes after it are an error.
    ///
    /// # Errors
    /// [`CertificateError::NotACertificate`], [`CertificateError::San`].
    pub fn from_der(der: &[u8]) -> Result<Self, CertificateError> {
        let parsed = x509_cert::Certificate::from_der(der)?;
        let tbs = parsed.tbs_certificate();
        let subject = tbs.subject().clone();
        let cn = common_names(&subject).next().flatten();
        let sans = match tbs.get_extension::<SubjectAltName>()? {
            Some((_, extension)) => Sans::from_extension(&extension)?,
            None => Sans::default(),
        };
        Ok(Self(Arc::new(Parsed {
            der: CertificateDer::from(der.to_vec()),
            signature_algorithm: parsed.signature_algorithm().clone(),
            signature: parsed.signature().raw_bytes().to_vec(),
            issuer: tbs.issuer().clone(),
            cn,
            subject,
            sans,
            not_before: unix_time(tbs.validity().not_before),
            not_after: unix_time(tbs.validity().not_after),
            is_ca: tbs.get_extension::<BasicConstraints>()?.is_some_and(|(_, basic)| basic.ca),
            may_sign_certificates: tbs.get_extension::<KeyUsage>()?.is_none_or(|(_, usage)| usage.key_cert_sign()),
            eku: tbs.get_extension::<ExtendedKeyUsage>()?.map(|(_, usage)| usage.0),
            subject_key_id: tbs
                .get_extension::<SubjectKeyIdentifier>()?
                .map(|(_, identifier)| identifier.0.as_bytes().to_vec()),
            public: PublicKey::from_spki(tbs.subject_public_key_info())?,
            fingerprint: Fingerprint(sha256(der)),
        })))
    }

    /// Reads a text with exactly one certificate.
    ///
    /// # Errors
    /// [`CertificateError`].
    pub fn from_pem(text: &[u8]) -> Result<Self, CertificateError> {
        let mut all = certificates_in(text)?;
        match (all.pop(), all.len()) {
            (Some(one), 0) => Ok(one),
            (None, _) => Err(CertificateError::NotOne { found: 0 }),
            (Some(_), others) => Err(CertificateError::NotOne { found: others + 1 }),
        }
    }

    /// This certificate as one PEM block.
    pub fn to_pem(&self) -> String {
        std::mem::take(&mut *pem::encode(LABEL, self.der()))
    }

    /// The bytes it was parsed from.
    pub fn der(&self) -> &[u8] {
        &self.0.der
    }

    /// The bytes it was parsed from, as TLS takes them.
    pub fn to_rustls(&self) -> CertificateDer<'static> {
        self.0.der.clone()
    }

    pub(crate) fn as_rustls(&self) -> &CertificateDer<'static> {
        &self.0.der
    }

    /// The subject's first CN, if it is text.
    pub fn cn(&self) -> Option<&str> {
        self.0.cn.as_deref()
    }

    /// The subject as RFC 4514 text, for people.
    pub fn subject_text(&self) -> String {
        self.0.subject.to_string()
    }

    /// The issuer as RFC 4514 text, for people.
    pub fn issuer_text(&self) -> String {
        self.0.issuer.to_string()
    }

    pub(crate) fn subject(&self) -> &Name {
        &self.0.subject
    }

    /// The names it is for.
    pub fn sans(&self) -> &Sans {
        &self.0.sans
    }

    /// First instant of its validity.
    pub fn not_before(&self) -> UnixTime {
        self.0.not_before
    }

    /// Last instant of its validity.
    pub fn not_after(&self) -> UnixTime {
        self.0.not_after
    }

    /// Does it say that it is a CA?
    pub fn is_ca(&self) -> bool {
        self.0.is_ca
    }

    /// May its key sign certificates? True also where it has no key usage extension.
    pub(crate) fn may_sign_certificates(&self) -> bool {
        self.0.may_sign_certificates
    }

    /// Does it name clientAuth, or no extended key usage at all?
    pub fn serves_clients(&self) -> bool {
        self.0.eku.as_ref().is_none_or(|usages| usages.contains(&CLIENT_AUTH))
    }

    /// Does it name serverAuth, or no extended key usage at all?
    pub fn serves_servers(&self) -> bool {
        self.0.eku.as_ref().is_none_or(|usages| usages.contains(&SERVER_AUTH))
    }

    /// The extended key usages as dotted OIDs; `None` where the extension is absent.
    pub fn extended_key_usages(&self) -> Option<Vec<String>> {
        self.0.eku.as_ref().map(|usages| usages.iter().map(ToString::to_string).collect())
    }

    pub(crate) fn subject_key_id(&self) -> Option<&[u8]> {
        self.0.subject_key_id.as_deref()
    }

    /// The key that it certifies.
    pub fn public_key(&self) -> &PublicKey {
        &self.0.public
    }

    /// SHA-256 of its SubjectPublicKeyInfo.
    pub fn key_id(&self) -> KeyId {
        self.0.public.id()
    }

    /// SHA-256 of its DER.
    pub fn fingerprint(&self) -> Fingerprint {
        self.0.fingerprint
    }

    /// SHA-1 of its DER, which is what OpenZiti compares.
    pub fn fingerprint_sha1(&self) -> Sha1Fingerprint {
        let mut out = [0; 20];
        let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, self.der());
        // Both are 20 bytes; `zip` needs no proof of it.
        out.iter_mut().zip(hash.as_ref()).for_each(|(to, from)| *to = *from);
        Sha1Fingerprint(out)
    }

    /// What the machines need to know about it.
    pub fn facts(&self) -> Leaf {
        Leaf {
            fingerprint: self.fingerprint(),
            key: self.key_id(),
            not_before: self.not_before(),
            not_after: self.not_after(),
        }
    }

    /// Does it name itself as its issuer?
    pub fn is_self_issued(&self) -> bool {
        self.0.subject == self.0.issuer
    }

    /// Do its SANs cover `host`, a DNS name or an IP address? The CN does not count, as in TLS. False for what is
    /// neither.
    pub fn covers_host(&self, host: &str) -> bool {
        ServerName::try_from(host).is_ok_and(|name| {
            EndEntityCert::try_from(self.as_rustls())
                .is_ok_and(|leaf| leaf.verify_is_valid_for_subject_name(&name).is_ok())
        })
    }

    /// Did `issuer`'s key sign it, and does it name `issuer`? Dates and the issuer's right to do so are not judged.
    pub(crate) fn is_signed_by(&self, issuer: &Self) -> bool {
        self.0.issuer == issuer.0.subject
            && signed_part(self.der())
                .is_ok_and(|part| issuer.0.public.verifies(&self.0.signature_algorithm, part, &self.0.signature))
    }
}

/// Every certificate of a PEM text, in order. Blocks of other kinds are skipped.
pub(crate) fn certificates_in(text: &[u8]) -> Result<Vec<Certificate>, CertificateError> {
    pem::blocks(text, MAX_CERTIFICATES_PEM_BYTES)?
        .into_iter()
        .filter(|block| block.label == LABEL)
        .map(|block| {
            Certificate::from_der(&block.der).map_err(|error| match error {
                CertificateError::NotACertificate { reason } => {
                    CertificateError::NotACertificate { reason: format!("block at line {}: {reason}", block.line) }
                }
                other => other,
            })
        })
        .collect()
}

/// All of them in one text, one after the other.
pub(crate) fn pem_of(certificates: &[Certificate]) -> String {
    let mut text = String::new();
    for certificate in certificates {
        let block: Zeroizing<String> = pem::encode(LABEL, certificate.der());
        text.push_str(&block);
    }
    text
}

fn unix_time(time: Time) -> UnixTime {
    UnixTime::from_s(i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX))
}
