//! The signer: what a leaf of ours looks like, and how long it lives.

use core::time::Duration;

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use lifecycle::UnixTime;
use x509_cert::builder::profile::BuilderProfile;
use x509_cert::builder::{Builder as _, CertificateBuilder};
use x509_cert::der::asn1::{GeneralizedTime, OctetString, UtcTime};
use x509_cert::der::flagset::FlagSet;
use x509_cert::der::{DateTime, Encode as _};
use x509_cert::ext::pkix::{
    AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, KeyUsages, SubjectKeyIdentifier,
};
use x509_cert::ext::{Extension, ToExtension};
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::{SubjectPublicKeyInfoOwned, SubjectPublicKeyInfoRef};
use x509_cert::time::Time;
use x509_cert::{TbsCertificate, der::Decode as _};

use crate::algorithm::{KeyKind, PublicKey, sha256};
use crate::certificate::{CLIENT_AUTH, Certificate, CertificateError, SERVER_AUTH, certificates_in};
use crate::chain::{Chain, ChainError};
use crate::csr::Csr;
use crate::key::{BuilderSigner, PrivateKey, X509Signature};
use crate::sans::{SanError, Sans};
use crate::subject::{Subject, SubjectError};

/// NotBefore is set back by this, or by a tenth of the life if that is less: for clocks that are behind ours.
const MAX_BACKDATE: Duration = Duration::from_secs(60);

/// What a leaf is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Profile {
    /// clientAuth alone.
    Client,
    /// serverAuth alone.
    Server,
}

/// When a new certificate begins and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// First instant.
    pub not_before: UnixTime,
    /// Last instant.
    pub not_after: UnixTime,
    /// Set when the issuer cuts this life short.
    pub issuer_ends_soon: Option<IssuerEndsSoon>,
}

/// The issuer has less than one leaf life left, so leaves get shorter and shorter. To be told to the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IssuerEndsSoon {
    /// The last instant at which the issuer, and so every leaf, is valid.
    pub issuer_not_after: UnixTime,
    /// From this instant on nothing is issued any more: less than a tenth of a life is left.
    pub refuses_from: UnixTime,
}

/// Nothing sensible can be issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValidityError {
    /// The issuer is about to end, or has ended.
    #[error(
        "the signing certificate ends in {left:?}, less than a tenth of a leaf's life of {life:?}; replace the signing certificate"
    )]
    IssuerEnds {
        /// When it ends.
        issuer_not_after: UnixTime,
        /// How long that is; zero if it has ended.
        left: Duration,
        /// Normal life of a leaf.
        life: Duration,
    },
    /// A life of no length.
    #[error("a leaf's life of {life:?} is too short; at least one second is needed")]
    TooShort {
        /// The life.
        life: Duration,
    },
}

/// The validity of a leaf that is issued at `now` to live for `life`: backdated a little, never past the issuer's end.
///
/// # Errors
/// [`ValidityError::IssuerEnds`] when less than a tenth of `life` would be left.
pub fn validity(now: UnixTime, life: Duration, issuer_not_after: UnixTime) -> Result<Validity, ValidityError> {
    if life < Duration::from_secs(1) {
        return Err(ValidityError::TooShort { life });
    }
    let tenth = life / 10;
    let left = issuer_not_after.since(now);
    if left < tenth || left.is_zero() {
        return Err(ValidityError::IssuerEnds { issuer_not_after, left, life });
    }
    let issuer_ends_soon =
        (left < life).then(|| IssuerEndsSoon { issuer_not_after, refuses_from: issuer_not_after.minus(tenth) });
    Ok(Validity {
        not_before: now.minus(MAX_BACKDATE.min(tenth)),
        not_after: now.plus(life).min(issuer_not_after),
        issuer_ends_soon,
    })
}

/// A signing certificate and its key do not make an issuer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IssuerError {
    /// The key is another one's.
    #[error("the signing key does not belong to the signing certificate `{subject}`")]
    WrongKey {
        /// Subject of the certificate.
        subject: String,
    },
    /// It may not sign.
    #[error("`{subject}` may not sign certificates: it is no CA, or its key usage says otherwise")]
    NotACa {
        /// Subject of the certificate.
        subject: String,
    },
    /// The file cannot be read, or the chain is too long.
    #[error("the signing certificate's chain cannot be used")]
    Chain(#[from] ChainError),
}

/// A certificate could not be issued.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    /// It would outlive the issuer, which upstream allows (`openziti/ziti:common/cert/cert.go`) and which locks every
    /// router out at once.
    #[error("the certificate would outlive its issuer")]
    OutlivesIssuer {
        /// End asked for.
        not_after: UnixTime,
        /// The issuer's end.
        issuer_not_after: UnixTime,
    },
    /// It would end before it begins, or outside the years that certificates know.
    #[error("the certificate's validity is empty or outside the years 1970 to 9999")]
    BadValidity,
    /// The subject cannot be in a certificate.
    #[error("the subject is refused")]
    Subject(#[from] SubjectError),
    /// A name cannot be in a certificate.
    #[error("a name is refused")]
    San(#[from] SanError),
    /// A key that we do not certify.
    #[error("the key is not one of P-256, P-384, P-521, RSA of 2048 to 8192 bits")]
    KeyNotAllowed,
    /// The issuer may have nothing but leaves below it.
    #[error("the chain would be longer than accepted")]
    Chain(#[from] ChainError),
    /// Signing failed.
    #[error("the certificate cannot be built ({reason})")]
    Build {
        /// What the builder says.
        reason: String,
    },
}

impl From<x509_cert::builder::Error> for IssueError {
    fn from(error: x509_cert::builder::Error) -> Self {
        Self::Build { reason: error.to_string() }
    }
}

impl From<x509_cert::der::Error> for IssueError {
    fn from(error: x509_cert::der::Error) -> Self {
        Self::Build { reason: error.to_string() }
    }
}

impl From<CertificateError> for IssueError {
    fn from(error: CertificateError) -> Self {
        Self::Build { reason: error.to_string() }
    }
}

/// A signing certificate with its key and the intermediates above it.
#[derive(Debug)]
pub struct Issuer {
    certificate: Certificate,
    /// What is presented behind a leaf: the signing certificate and those above it, without the root.
    above_leaf: Vec<Certificate>,
    not_after: UnixTime,
    key: PrivateKey,
}

impl Issuer {
    /// The signer whose certificate is `certificate`. `others` may be in any order and may hold more than is needed:
    /// each next issuer is found among them by name and signature, up to a self-issued one
    /// (`openziti/ziti:controller/env/appenv.go` does the same).
    ///
    /// # Errors
    /// [`IssuerError`].
    pub fn new(certificate: Certificate, others: &[Certificate], key: PrivateKey) -> Result<Self, IssuerError> {
        if !key.matches(&certificate) {
            return Err(IssuerError::WrongKey { subject: certificate.subject_text() });
        }
        if !(certificate.is_ca() && certificate.may_sign_certificates()) {
            return Err(IssuerError::NotACa { subject: certificate.subject_text() });
        }
        let mut above_leaf = Vec::new();
        let mut not_after = certificate.not_after();
        let mut top = certificate.clone();
        while !top.is_self_issued() {
            above_leaf.push(top.clone());
            // A circle of cross-signed certificates ends at the first one seen twice.
            let next =
                others.iter().find(|other| other.is_ca() && !above_leaf.contains(other) && top.is_signed_by(other));
            match next {
                Some(next) => {
                    not_after = not_after.min(next.not_after());
                    top = next.clone();
                }
                None => break,
            }
        }
        // Checks the length that a leaf's chain will have.
        Chain::new(certificate.clone(), above_leaf.clone())?;
        Ok(Self { certificate, above_leaf, not_after, key })
    }

    /// As [`Issuer::new`], from the text of the signing certificate's file: that certificate first, then whatever of
    /// its chain there is, the root included.
    ///
    /// # Errors
    /// [`IssuerError`].
    pub fn from_pem(text: &[u8], others: &[Certificate], key: PrivateKey) -> Result<Self, IssuerError> {
        let mut all = certificates_in(text).map_err(ChainError::from)?;
        all.extend_from_slice(others);
        let first = all.first().cloned().ok_or(ChainError::Empty)?;
        Self::new(first, &all, key)
    }

    /// The signing certificate.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// The signing certificate and the intermediates above it: what its file holds.
    pub fn to_pem(&self) -> String {
        let mut text = self.certificate.to_pem();
        for certificate in self.above_leaf.iter().filter(|certificate| **certificate != self.certificate) {
            text.push_str(&certificate.to_pem());
        }
        text
    }

    pub(crate) fn above_leaf(&self) -> &[Certificate] {
        &self.above_leaf
    }

    /// The signing key.
    pub fn key(&self) -> &PrivateKey {
        &self.key
    }

    /// The last instant at which everything above a leaf is valid.
    pub fn not_after(&self) -> UnixTime {
        self.not_after
    }

    /// A leaf for a request, in the name that *we* say (for a router: its id). Of the request only the key, the names
    /// and the short, non-empty C, ST, L, O, OU are taken. Whether the names are allowed is asked before, of
    /// [`crate::SansPolicy`].
    ///
    /// # Errors
    /// [`IssueError`].
    pub fn issue(&self, csr: &Csr, cn: &str, profile: Profile, validity: &Validity) -> Result<Chain, IssueError> {
        let subject = Subject::granted(cn, csr.subject())?;
        self.issue_for(csr.public_key(), &subject, csr.sans(), profile, validity)
    }

    /// A leaf for a key at hand, such as the controller's own.
    ///
    /// # Errors
    /// [`IssueError`].
    pub fn issue_for(
        &self,
        key: &PublicKey,
        subject: &Subject,
        sans: &Sans,
        profile: Profile,
        validity: &Validity,
    ) -> Result<Chain, IssueError> {
        let kind = key.kind().ok_or(IssueError::KeyNotAllowed)?;
        let mut usages = FlagSet::from(KeyUsages::DigitalSignature);
        if matches!(kind, KeyKind::Rsa { .. }) {
            usages |= KeyUsages::KeyEncipherment;
        }
        let purpose = match profile {
            Profile::Client => CLIENT_AUTH,
            Profile::Server => SERVER_AUTH,
        };
        let mut extensions = Extensions::new(&subject.name);
        extensions.push(&KeyUsage(usages))?;
        extensions.push(&ExtendedKeyUsage(vec![purpose]))?;
        if let Some(names) = sans.to_extension()? {
            // Never critical: a CN is always there.
            extensions.push(&names)?;
        }
        let leaf = self.sign(key, subject, extensions, validity)?;
        Ok(Chain::new(leaf, self.above_leaf.clone())?)
    }

    /// Signs anything below this issuer.
    pub(crate) fn sign(
        &self,
        key: &PublicKey,
        subject: &Subject,
        mut extensions: Extensions,
        validity: &Validity,
    ) -> Result<Certificate, IssueError> {
        if validity.not_after > self.not_after {
            return Err(IssueError::OutlivesIssuer { not_after: validity.not_after, issuer_not_after: self.not_after });
        }
        if let Some(identifier) = self.certificate.subject_key_id() {
            extensions.push(&AuthorityKeyIdentifier {
                key_identifier: Some(OctetString::new(identifier)?),
                ..AuthorityKeyIdentifier::default()
            })?;
        }
        build(&self.key, self.certificate.subject().clone(), key, subject, extensions, validity)
    }
}

/// The extensions of a certificate in the making.
pub(crate) struct Extensions {
    subject: Name,
    list: Vec<Extension>,
}

impl Extensions {
    pub(crate) fn new(subject: &Name) -> Self {
        Self { subject: subject.clone(), list: Vec::new() }
    }

    pub(crate) fn push<E: ToExtension<Error = x509_cert::der::Error>>(
        &mut self,
        extension: E,
    ) -> Result<(), IssueError> {
        let extension = extension.to_extension(&self.subject, &self.list)?;
        self.list.push(extension);
        Ok(())
    }

    /// Those of a CA with at most `path_len` CAs below it.
    pub(crate) fn of_ca(subject: &Name, path_len: Option<u8>) -> Result<Self, IssueError> {
        let mut extensions = Self::new(subject);
        extensions.push(&BasicConstraints { ca: true, path_len_constraint: path_len })?;
        extensions.push(&KeyUsage(KeyUsages::KeyCertSign | KeyUsages::CRLSign))?;
        Ok(extensions)
    }
}

struct Exactly {
    issuer: Name,
    subject: Name,
    extensions: Vec<Extension>,
}

impl BuilderProfile for Exactly {
    fn get_issuer(&self, _: &Name) -> Name {
        self.issuer.clone()
    }

    fn get_subject(&self) -> Name {
        self.subject.clone()
    }

    fn build_extensions(
        &self,
        _: SubjectPublicKeyInfoRef<'_>,
        _: SubjectPublicKeyInfoRef<'_>,
        _: &TbsCertificate,
    ) -> x509_cert::builder::Result<Vec<Extension>> {
        Ok(self.extensions.clone())
    }
}

/// A certificate for `key`, signed with `signer` in the name of `issuer`; adds the subject key identifier.
pub(crate) fn build(
    signer: &PrivateKey,
    issuer: Name,
    key: &PublicKey,
    subject: &Subject,
    mut extensions: Extensions,
    validity: &Validity,
) -> Result<Certificate, IssueError> {
    if validity.not_after <= validity.not_before {
        return Err(IssueError::BadValidity);
    }
    // RFC 7093, method 1.
    let hash = sha256(key.bits());
    let identifier = hash.get(..20).unwrap_or(&hash);
    extensions.push(&SubjectKeyIdentifier(OctetString::new(identifier)?))?;
    let profile = Exactly { issuer, subject: subject.name.clone(), extensions: extensions.list };
    let dates = x509_cert::time::Validity::new(time(validity.not_before)?, time(validity.not_after)?);
    let spki = SubjectPublicKeyInfoOwned::from_der(key.spki_der())?;
    let certificate =
        CertificateBuilder::new(profile, serial()?, dates, spki)?.build::<_, X509Signature>(&BuilderSigner(signer))?;
    Ok(Certificate::from_der(&certificate.to_der()?)?)
}

/// 127 random bits, never zero: positive whoever reads it.
fn serial() -> Result<SerialNumber, IssueError> {
    let mut bytes = [0; 16];
    SystemRandom::new().fill(&mut bytes).map_err(|_| IssueError::Build { reason: "no randomness".to_owned() })?;
    if let Some(first) = bytes.first_mut() {
        *first &= 0x7f;
    }
    if bytes.iter().all(|byte| *byte == 0) {
        bytes = [1; 16];
    }
    Ok(SerialNumber::new(&bytes)?)
}

/// Whole seconds, rounded down; UTCTime up to 2049, GeneralizedTime from 2050 on, as RFC 5280 wants it.
fn time(at: UnixTime) -> Result<Time, IssueError> {
    let since_epoch = u64::try_from(at.as_s()).map_err(|_| IssueError::BadValidity)?;
    let date = DateTime::from_unix_duration(Duration::from_secs(since_epoch)).map_err(|_| IssueError::BadValidity)?;
    Ok(match UtcTime::from_date_time(date) {
        Ok(time) => Time::UtcTime(time),
        Err(_) => Time::GeneralTime(GeneralizedTime::from_date_time(date)),
    })
}
