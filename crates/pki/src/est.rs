//! The answer to EST's `cacerts` (RFC 7030, 4.1.3): a PKCS#7 that carries certificates and nothing else.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use x509_cert::der::asn1::{AnyRef, ObjectIdentifier};
use x509_cert::der::{Encode, Reader, SliceReader, Tag, TagNumber, Tagged};

use crate::certificate::{Certificate, CertificateError};
use crate::chain::{ChainError, MAX_BUNDLE_CERTIFICATES, TrustBundle};
use crate::pem::{MAX_CERTIFICATES_PEM_BYTES, push_lines};

const SIGNED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.2");
const DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.1");
const CONTEXT_0: Tag = Tag::ContextSpecific { constructed: true, number: TagNumber(0) };

/// The answer cannot be read or made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EstError {
    /// Longer than any such answer has a reason to be.
    #[error("an answer of {found_bytes} bytes, at most {MAX_CERTIFICATES_PEM_BYTES} are accepted")]
    TooLong {
        /// How long it is.
        found_bytes: usize,
    },
    /// Not base64.
    #[error("the answer is not base64; is this the address of a controller's API?")]
    NotBase64,
    /// Not a PKCS#7 with certificates.
    #[error("the answer is no certificates-only PKCS#7 ({reason})")]
    NotPkcs7 {
        /// What the parser stumbled on.
        reason: String,
    },
    /// A certificate in it cannot be read.
    #[error("a certificate of the answer cannot be read")]
    Certificate(#[from] CertificateError),
    /// The certificates make no bundle, for example because there are none.
    #[error("the certificates of the answer cannot be trusted")]
    Bundle(#[from] ChainError),
}

impl From<x509_cert::der::Error> for EstError {
    fn from(error: x509_cert::der::Error) -> Self {
        Self::NotPkcs7 { reason: error.to_string() }
    }
}

/// The body of the answer: base64 in lines of 64. Its content type is `application/pkcs7-mime`.
///
/// # Errors
/// [`EstError::NotPkcs7`] if it would be longer than DER allows.
pub fn encode_cacerts(bundle: &TrustBundle) -> Result<String, EstError> {
    let certificates: Vec<u8> = bundle.certificates().iter().flat_map(|one| one.der().iter().copied()).collect();
    let signed_data = [
        vec![0x02, 0x01, 0x01],
        tlv(Tag::Set, &[])?,
        tlv(Tag::Sequence, &DATA.to_der()?)?,
        tlv(CONTEXT_0, &certificates)?,
        tlv(Tag::Set, &[])?,
    ]
    .concat();
    let content = tlv(CONTEXT_0, &tlv(Tag::Sequence, &signed_data)?)?;
    let der = tlv(Tag::Sequence, &[SIGNED_DATA.to_der()?, content].concat())?;
    let base64 = STANDARD.encode(der);
    let mut text = String::with_capacity(base64.len() + base64.len() / 64 + 1);
    push_lines(&mut text, &base64);
    Ok(text)
}

/// Reads such a body; white space anywhere in it is ignored. Certificates that are no CA are left out.
///
/// # Errors
/// [`EstError`].
pub fn decode_cacerts(body: &[u8]) -> Result<TrustBundle, EstError> {
    if body.len() > MAX_CERTIFICATES_PEM_BYTES {
        return Err(EstError::TooLong { found_bytes: body.len() });
    }
    let base64: Vec<u8> = body.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let der = STANDARD.decode(base64).map_err(|_| EstError::NotBase64)?;
    let mut reader = SliceReader::new(&der)?;
    let (content_type, content) = reader.sequence(|reader| {
        Ok::<_, EstError>((reader.decode::<ObjectIdentifier>()?, element(reader, CONTEXT_0, "content")?))
    })?;
    reader.finish()?;
    if content_type != SIGNED_DATA {
        return Err(EstError::NotPkcs7 { reason: format!("content type {content_type}") });
    }
    let mut reader = SliceReader::new(content)?;
    let certificates = reader.sequence(|reader| {
        reader.decode::<u8>()?;
        element(reader, Tag::Set, "digest algorithms")?;
        element(reader, Tag::Sequence, "content info")?;
        let certificates = element(reader, CONTEXT_0, "certificates")?;
        // Revocation lists and signatures, of which there are none, or none that matter.
        while !reader.is_finished() {
            reader.decode::<AnyRef<'_>>()?;
        }
        Ok::<_, EstError>(certificates)
    })?;
    reader.finish()?;
    let mut found = Vec::new();
    let mut reader = SliceReader::new(certificates)?;
    while !reader.is_finished() {
        if found.len() == MAX_BUNDLE_CERTIFICATES {
            return Err(ChainError::TooMany { found: found.len() + 1, limit: MAX_BUNDLE_CERTIFICATES }.into());
        }
        found.push(Certificate::from_der(reader.tlv_bytes()?)?);
    }
    Ok(TrustBundle::of_cas(found)?)
}

fn element<'a>(reader: &mut SliceReader<'a>, tag: Tag, what: &str) -> Result<&'a [u8], EstError> {
    let element: AnyRef<'a> = reader.decode()?;
    if element.tag() != tag {
        return Err(EstError::NotPkcs7 { reason: format!("no {what}") });
    }
    Ok(element.value())
}

fn tlv(tag: Tag, value: &[u8]) -> Result<Vec<u8>, EstError> {
    Ok(AnyRef::new(tag, value)?.to_der()?)
}
