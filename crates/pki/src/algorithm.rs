//! Which keys and which signatures there are.
//!
//! A signature's algorithm is chosen by the pair (what the signature says, what the key is) and nothing else; every
//! pair that is not in the table is refused.

use std::fmt;

use aws_lc_rs::digest;
use lifecycle::KeyId;
use rustls_pki_types::SignatureVerificationAlgorithm;
use webpki::aws_lc_rs as verify;
use x509_cert::der::asn1::{ObjectIdentifier, UintRef};
use x509_cert::der::{Decode, Encode, Reader, SliceReader};
use x509_cert::spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};

const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const CURVE_P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const CURVE_P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const CURVE_P521: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.35");
pub(crate) const RSA_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.11");
const RSA_SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.12");
const RSA_SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.13");
pub(crate) const ECDSA_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
pub(crate) const ECDSA_SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.3");
pub(crate) const ECDSA_SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.4");

/// The kinds of key that an identity may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// ECDSA on P-256, the default.
    #[default]
    P256,
    /// ECDSA on P-384.
    P384,
    /// ECDSA on P-521.
    P521,
    /// RSA with a modulus of so many bits, 2048 to 8192.
    Rsa {
        /// Length of the modulus.
        bits: u32,
    },
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::P256 => f.write_str("P-256"),
            Self::P384 => f.write_str("P-384"),
            Self::P521 => f.write_str("P-521"),
            Self::Rsa { bits } => write!(f, "RSA-{bits}"),
        }
    }
}

impl KeyKind {
    /// The signature algorithm that a key of this kind signs certificates and requests with.
    pub(crate) const fn signature_oid(self) -> ObjectIdentifier {
        match self {
            Self::Rsa { .. } => RSA_SHA256,
            Self::P256 => ECDSA_SHA256,
            Self::P384 => ECDSA_SHA384,
            Self::P521 => ECDSA_SHA512,
        }
    }
}

/// A public key: its SubjectPublicKeyInfo, the kind if it is one that we work with, and its id.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    spki: Vec<u8>,
    bits: Vec<u8>,
    kind: Option<KeyKind>,
    id: KeyId,
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Some(kind) => write!(f, "PublicKey({kind}, {:?})", self.id),
            None => write!(f, "PublicKey(other, {:?})", self.id),
        }
    }
}

impl PublicKey {
    pub(crate) fn from_spki(info: &SubjectPublicKeyInfoOwned) -> Result<Self, x509_cert::der::Error> {
        let spki = info.to_der()?;
        let bits = info.subject_public_key.raw_bytes().to_vec();
        let kind = kind_of(&info.algorithm, &bits);
        Ok(Self { id: KeyId(sha256(&spki)), spki, bits, kind })
    }

    pub(crate) fn from_spki_der(spki: &[u8]) -> Result<Self, x509_cert::der::Error> {
        Self::from_spki(&SubjectPublicKeyInfoOwned::from_der(spki)?)
    }

    /// SHA-256 of the SubjectPublicKeyInfo.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// What kind of key it is; `None` for kinds that no identity of ours may have (Ed25519, RSA under 2048 bits …).
    pub fn kind(&self) -> Option<KeyKind> {
        self.kind
    }

    /// The SubjectPublicKeyInfo, DER.
    pub fn spki_der(&self) -> &[u8] {
        &self.spki
    }

    /// What the bit string of the SubjectPublicKeyInfo holds: an EC point or an RSAPublicKey.
    pub(crate) fn bits(&self) -> &[u8] {
        &self.bits
    }

    /// Does `signature` over `message` come from this key, under the algorithm that `says` names?
    pub(crate) fn verifies(&self, says: &AlgorithmIdentifierOwned, message: &[u8], signature: &[u8]) -> bool {
        self.kind
            .and_then(|kind| algorithm(says, kind))
            .is_some_and(|algorithm| algorithm.verify_signature(&self.bits, message, signature).is_ok())
    }

    /// Is there an algorithm for this key and what `says` names?
    pub(crate) fn understands(&self, says: &AlgorithmIdentifierOwned) -> bool {
        self.kind.and_then(|kind| algorithm(says, kind)).is_some()
    }
}

fn kind_of(algorithm: &AlgorithmIdentifierOwned, bits: &[u8]) -> Option<KeyKind> {
    match algorithm.oid {
        RSA => {
            let bits = rsa_modulus_bits(bits)?;
            (2048..=8192).contains(&bits).then_some(KeyKind::Rsa { bits })
        }
        EC => {
            let curve: ObjectIdentifier = algorithm.parameters.as_ref()?.decode_as().ok()?;
            let (kind, point_bytes) = match curve {
                CURVE_P256 => (KeyKind::P256, 65),
                CURVE_P384 => (KeyKind::P384, 97),
                CURVE_P521 => (KeyKind::P521, 133),
                _ => return None,
            };
            // Only the uncompressed form (4): the other one would give the same key a second id.
            (bits.len() == point_bytes && bits.first() == Some(&4)).then_some(kind)
        }
        _ => None,
    }
}

fn rsa_modulus_bits(public_key: &[u8]) -> Option<u32> {
    let mut reader = SliceReader::new(public_key).ok()?;
    let modulus = reader
        .sequence(|reader| {
            let modulus: UintRef<'_> = reader.decode()?;
            let _exponent: UintRef<'_> = reader.decode()?;
            Ok::<_, x509_cert::der::Error>(modulus)
        })
        .ok()?;
    reader.finish().ok()?;
    let bytes = modulus.as_bytes();
    let first = bytes.first()?;
    u32::try_from(bytes.len()).ok()?.checked_mul(8)?.checked_sub(first.leading_zeros())
}

fn algorithm(says: &AlgorithmIdentifierOwned, kind: KeyKind) -> Option<&'static dyn SignatureVerificationAlgorithm> {
    if says.parameters.as_ref().is_some_and(|parameters| !parameters.is_null()) {
        return None;
    }
    Some(match (says.oid, kind) {
        (RSA_SHA256, KeyKind::Rsa { .. }) => verify::RSA_PKCS1_2048_8192_SHA256,
        (RSA_SHA384, KeyKind::Rsa { .. }) => verify::RSA_PKCS1_2048_8192_SHA384,
        (RSA_SHA512, KeyKind::Rsa { .. }) => verify::RSA_PKCS1_2048_8192_SHA512,
        (ECDSA_SHA256, KeyKind::P256) => verify::ECDSA_P256_SHA256,
        (ECDSA_SHA384, KeyKind::P256) => verify::ECDSA_P256_SHA384,
        (ECDSA_SHA512, KeyKind::P256) => verify::ECDSA_P256_SHA512,
        (ECDSA_SHA256, KeyKind::P384) => verify::ECDSA_P384_SHA256,
        (ECDSA_SHA384, KeyKind::P384) => verify::ECDSA_P384_SHA384,
        (ECDSA_SHA512, KeyKind::P384) => verify::ECDSA_P384_SHA512,
        (ECDSA_SHA256, KeyKind::P521) => verify::ECDSA_P521_SHA256,
        (ECDSA_SHA384, KeyKind::P521) => verify::ECDSA_P521_SHA384,
        (ECDSA_SHA512, KeyKind::P521) => verify::ECDSA_P521_SHA512,
        _ => return None,
    })
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    // Both are 32 bytes; `zip` needs no proof of it.
    out.iter_mut().zip(digest::digest(&digest::SHA256, bytes).as_ref()).for_each(|(to, from)| *to = *from);
    out
}

/// What a signed structure (certificate, request) was signed over: its first element, as received. Re-encoding the
/// parsed form would change what is not canonical.
pub(crate) fn signed_part(der: &[u8]) -> Result<&[u8], x509_cert::der::Error> {
    let mut reader = SliceReader::new(der)?;
    reader.sequence(|reader| {
        let part = reader.tlv_bytes()?;
        // The algorithm and the signature; their parsed forms are at hand elsewhere.
        reader.tlv_bytes()?;
        reader.tlv_bytes()?;
        Ok(part)
    })
}
