//! Certificate requests (PKCS#10): made by routers, checked by the controller.

use lifecycle::{KeyId, RouterId};
use x509_cert::attr::Attributes;
use x509_cert::der::asn1::BitString;
use x509_cert::der::{Decode, Encode};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::{Extension, Extensions, ToExtension};
use x509_cert::name::Name;
use x509_cert::request::{CertReq, CertReqInfo, ExtensionReq, Version};
use x509_cert::spki::SubjectPublicKeyInfoOwned;
use zeroize::Zeroizing;

use crate::algorithm::{KeyKind, PublicKey, signed_part};
use crate::key::{KeyError, PrivateKey};
use crate::pem::{self, MAX_CSR_PEM_BYTES, PemError};
use crate::sans::{SanError, Sans};
use crate::subject::{Subject, common_names};

const LABEL: &str = "CERTIFICATE REQUEST";
/// What some tools of the nineties, and those that imitate them, call the same thing.
const OLD_LABEL: &str = "NEW CERTIFICATE REQUEST";

/// A request could not be made, or is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CsrError {
    /// Not a whole PEM text.
    #[error("the request is damaged")]
    Pem(#[from] PemError),
    /// Not exactly one block. A second block is how one name is smuggled behind another.
    #[error("{found} PEM blocks, exactly one `{LABEL}` is expected")]
    NotOneBlock {
        /// How many there are.
        found: usize,
    },
    /// The block is something else.
    #[error("a `{found}` block, a `{LABEL}` is expected")]
    WrongLabel {
        /// Its label.
        found: String,
    },
    /// Not DER, or not a request.
    #[error("this is no certificate request, or a damaged one ({reason})")]
    NotARequest {
        /// What the parser stumbled on.
        reason: String,
    },
    /// A key that we do not certify.
    #[error("the request's key is not one of P-256, P-384, P-521, RSA of 2048 to 8192 bits")]
    KeyNotAllowed,
    /// A signature algorithm that does not go with the key.
    #[error("the request is signed with `{oid}`, which does not go with its {kind} key")]
    SignatureNotAllowed {
        /// The algorithm.
        oid: String,
        /// The key.
        kind: KeyKind,
    },
    /// The request was not signed with its own key.
    #[error("the request's signature does not verify under its own key")]
    BadSignature,
    /// Not exactly one CN that is text.
    #[error("{found} usable common names in the request's subject, exactly one is expected")]
    CommonName {
        /// How many there are.
        found: usize,
    },
    /// The request is for somebody else.
    #[error("the request is for `{found}`, not for router `{expected}`")]
    WrongRouter {
        /// The request's CN, escaped.
        found: String,
        /// The router that asks.
        expected: RouterId,
    },
    /// A malformed name.
    #[error("the request holds a malformed name")]
    San(#[from] SanError),
    /// Our own key could not sign.
    #[error("the request cannot be signed")]
    Key(#[from] KeyError),
}

impl From<x509_cert::der::Error> for CsrError {
    fn from(error: x509_cert::der::Error) -> Self {
        Self::NotARequest { reason: error.to_string() }
    }
}

/// A request whose signature, key, CN and names have been checked. Whatever else the sender asked for (key usages,
/// basic constraints …) has been left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Csr {
    subject: Name,
    cn: String,
    sans: Sans,
    kind: KeyKind,
    public: PublicKey,
}

impl Csr {
    /// Reads and checks a request: one block and no more, a key that we certify, the self-signature over the bytes
    /// as received, one CN, well-formed names.
    ///
    /// # Errors
    /// [`CsrError`].
    pub fn from_pem(text: &[u8]) -> Result<Self, CsrError> {
        let mut blocks = pem::blocks(text, MAX_CSR_PEM_BYTES)?;
        match (blocks.pop(), blocks.len()) {
            (Some(block), 0) if block.label == LABEL || block.label == OLD_LABEL => Self::from_der(&block.der),
            (Some(block), 0) => Err(CsrError::WrongLabel { found: block.label }),
            (None, _) => Err(CsrError::NotOneBlock { found: 0 }),
            (Some(_), others) => Err(CsrError::NotOneBlock { found: others + 1 }),
        }
    }

    /// As [`Csr::from_pem`], for the bytes inside the block.
    ///
    /// # Errors
    /// [`CsrError`].
    pub fn from_der(der: &[u8]) -> Result<Self, CsrError> {
        let request = CertReq::from_der(der)?;
        let public = PublicKey::from_spki(&request.info.public_key)?;
        let kind = public.kind().ok_or(CsrError::KeyNotAllowed)?;
        if !public.understands(&request.algorithm) {
            return Err(CsrError::SignatureNotAllowed { oid: request.algorithm.oid.to_string(), kind });
        }
        if !public.verifies(&request.algorithm, signed_part(der)?, request.signature.raw_bytes()) {
            return Err(CsrError::BadSignature);
        }
        let mut names = common_names(&request.info.subject);
        let cn = match (names.next(), names.count()) {
            (Some(Some(cn)), 0) if !cn.is_empty() => cn,
            (Some(Some(_) | None), 0) | (None, _) => return Err(CsrError::CommonName { found: 0 }),
            (Some(_), others) => return Err(CsrError::CommonName { found: others + 1 }),
        };
        let sans = requested_sans(&request.info.attributes)?;
        sans.check()?;
        Ok(Self { subject: request.info.subject, cn, sans, kind, public })
    }

    /// The CN.
    pub fn cn(&self) -> &str {
        &self.cn
    }

    /// Is it for `router`?
    ///
    /// # Errors
    /// [`CsrError::WrongRouter`].
    pub fn check_router(&self, router: &RouterId) -> Result<(), CsrError> {
        if self.cn == router.as_str() {
            return Ok(());
        }
        let found = self.cn.chars().take(80).flat_map(char::escape_default).collect();
        Err(CsrError::WrongRouter { found, expected: router.clone() })
    }

    /// The names it asks for.
    pub fn sans(&self) -> &Sans {
        &self.sans
    }

    /// What kind of key it is for.
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// The key it is for.
    pub fn public_key(&self) -> &PublicKey {
        &self.public
    }

    /// SHA-256 of the key's SubjectPublicKeyInfo.
    pub fn key_id(&self) -> KeyId {
        self.public.id()
    }

    pub(crate) fn subject(&self) -> &Name {
        &self.subject
    }

    /// Do both ask for the same thing: same key, same subject, same names? Signatures differ from one writing to the
    /// next and do not count.
    pub fn asks_the_same_as(&self, other: &Self) -> bool {
        self == other
    }
}

fn requested_sans(attributes: &Attributes) -> Result<Sans, CsrError> {
    let mut found = None;
    for attribute in
        attributes.iter().filter(|attribute| attribute.oid == <ExtensionReq as x509_cert::der::oid::AssociatedOid>::OID)
    {
        for value in attribute.values.iter() {
            let extensions: Extensions = value.decode_as()?;
            for extension in &extensions {
                if extension.extn_id != <SubjectAltName as x509_cert::der::oid::AssociatedOid>::OID {
                    continue;
                }
                let sans = Sans::from_extension(&SubjectAltName::from_der(extension.extn_value.as_bytes())?)?;
                if found.replace(sans).is_some() {
                    return Err(CsrError::NotARequest {
                        reason: "two subject alternative names extensions".to_owned(),
                    });
                }
            }
        }
    }
    Ok(found.unwrap_or_default())
}

/// A request for `subject` and `sans`, signed with `key`: one PEM block. The client's and the server's request look
/// the same; which is which is said by where it is sent (`openziti/ziti:router/enroll/csr.go`).
///
/// # Errors
/// [`CsrError::San`] for names that cannot be in a certificate, [`CsrError::Key`].
pub fn build_csr(key: &PrivateKey, subject: &Subject, sans: &Sans) -> Result<String, CsrError> {
    let mut attributes = Attributes::new();
    if let Some(names) = sans.to_extension()? {
        let extension: Extension = (false, &names).to_extension(&subject.name, &[])?;
        attributes.insert(ExtensionReq(vec![extension]).try_into()?)?;
    }
    let info = CertReqInfo {
        version: Version::V1,
        subject: subject.name.clone(),
        public_key: SubjectPublicKeyInfoOwned::from_der(key.public().spki_der())?,
        attributes,
    };
    let signature = key.sign(&info.to_der()?)?;
    let request = CertReq { info, algorithm: key.signature_algorithm(), signature: BitString::from_bytes(&signature)? };
    let mut text: Zeroizing<String> = pem::encode(LABEL, &request.to_der()?);
    Ok(std::mem::take(&mut *text))
}
