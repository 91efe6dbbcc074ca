//! Private keys.

use std::fmt;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING,
    ECDSA_P384_SHA384_FIXED_SIGNING, ECDSA_P521_SHA512_ASN1_SIGNING, ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, KeyPair as _, RSA_PKCS1_SHA256,
};
use lifecycle::KeyId;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use x509_cert::der::asn1::{Any, BitString};
use x509_cert::spki::{
    AlgorithmIdentifierOwned, DynSignatureAlgorithmIdentifier, EncodePublicKey, SignatureBitStringEncoding,
};
use zeroize::Zeroizing;

use crate::algorithm::{KeyKind, PublicKey};
use crate::certificate::Certificate;
use crate::pem::{self, MAX_KEY_PEM_BYTES, PemError};

/// A private key could not be made, read or used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The file is empty: the usual trace of a crash while a key was being written.
    #[error("the key file is empty; restore it, or remove it and enroll again")]
    Empty,
    /// Not a whole PEM text.
    #[error("the private key is damaged")]
    Pem(#[from] PemError),
    /// No block of the text is a private key.
    #[error("no `PRIVATE KEY` block in the key file")]
    NoKey,
    /// More than one key: which one is meant is not ours to guess.
    #[error("{found} private keys in the key file; exactly one is expected")]
    SeveralKeys {
        /// How many there are.
        found: usize,
    },
    /// Needs a password.
    #[error("the private key is encrypted; remove its password first (`openssl pkey`)")]
    Encrypted,
    /// The block is whole, what it holds is no key that we know.
    #[error(
        "the `{label}` block holds no usable key (P-256, P-384, P-521, or RSA of 2048 to 8192 bits), or is damaged"
    )]
    Unusable {
        /// Label of the block.
        label: String,
    },
    /// Keys of this kind are read, not made.
    #[error("{kind} keys are not made here; choose P-256, P-384, P-521, RSA-2048, RSA-3072 or RSA-4096")]
    CannotGenerate {
        /// What was asked for.
        kind: KeyKind,
    },
    /// The cryptographic library refused. It gives no reason.
    #[error("the cryptographic library failed to {what}")]
    Crypto {
        /// What it was asked to do.
        what: &'static str,
    },
}

enum Pair {
    Ec(EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

/// A private key. Never printed, never cloned; the library wipes it.
pub struct PrivateKey {
    pair: Pair,
    kind: KeyKind,
    public: PublicKey,
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey({}, id {:?})", self.kind, self.public.id())
    }
}

impl PrivateKey {
    /// A new key. P-256 takes well under a millisecond, RSA-4096 a second or more: not on an async thread.
    ///
    /// # Errors
    /// [`KeyError::CannotGenerate`] for RSA sizes other than 2048, 3072, 4096.
    pub fn generate(kind: KeyKind) -> Result<Self, KeyError> {
        let failed = |_| KeyError::Crypto { what: "make a key" };
        let pair = match kind {
            KeyKind::P256 => Pair::Ec(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).map_err(failed)?),
            KeyKind::P384 => Pair::Ec(EcdsaKeyPair::generate(&ECDSA_P384_SHA384_ASN1_SIGNING).map_err(failed)?),
            KeyKind::P521 => Pair::Ec(EcdsaKeyPair::generate(&ECDSA_P521_SHA512_ASN1_SIGNING).map_err(failed)?),
            KeyKind::Rsa { bits } => {
                let size = match bits {
                    2048 => KeySize::Rsa2048,
                    3072 => KeySize::Rsa3072,
                    4096 => KeySize::Rsa4096,
                    _ => return Err(KeyError::CannotGenerate { kind }),
                };
                Pair::Rsa(RsaKeyPair::generate(size).map_err(failed)?)
            }
        };
        Self::from_pair(pair).ok_or(KeyError::Crypto { what: "encode a key" })
    }

    /// Reads a key file: PKCS#8, or the PKCS#1 and SEC1 that OpenZiti writes
    /// (`openziti/identity:certtools/keys.go`). Other blocks, such as `EC PARAMETERS`, are skipped.
    pub fn from_pem(text: &[u8]) -> Result<Self, KeyError> {
        if text.iter().all(|byte| byte.is_ascii_whitespace() || *byte == 0) {
            return Err(KeyError::Empty);
        }
        let mut keys = pem::blocks(text, MAX_KEY_PEM_BYTES).map_err(|error| match error {
            PemError::Encrypted { .. } => KeyError::Encrypted,
            other => KeyError::Pem(other),
        })?;
        keys.retain(|block| block.label.ends_with("PRIVATE KEY"));
        let found = keys.len();
        let block = match (keys.pop(), found) {
            (Some(block), 1) => block,
            (None, _) => return Err(KeyError::NoKey),
            (Some(_), found) => return Err(KeyError::SeveralKeys { found }),
        };
        let der = block.der.as_slice();
        let pair = match block.label.as_str() {
            "ENCRYPTED PRIVATE KEY" => return Err(KeyError::Encrypted),
            "RSA PRIVATE KEY" => RsaKeyPair::from_der(der).ok().map(Pair::Rsa),
            "PRIVATE KEY" => RsaKeyPair::from_pkcs8(der).ok().map(Pair::Rsa).or_else(|| ec_pair(der)),
            "EC PRIVATE KEY" => ec_pair(der),
            _ => None,
        };
        pair.and_then(Self::from_pair).ok_or(KeyError::Unusable { label: block.label })
    }

    fn from_pair(pair: Pair) -> Option<Self> {
        let spki: PublicKeyX509Der<'_> = match &pair {
            Pair::Ec(pair) => pair.public_key().as_der().ok()?,
            Pair::Rsa(pair) => pair.public_key().as_der().ok()?,
        };
        let public = PublicKey::from_spki_der(spki.as_ref()).ok()?;
        Some(Self { pair, kind: public.kind()?, public })
    }

    /// What kind of key it is.
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// The public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// SHA-256 of the public half's SubjectPublicKeyInfo.
    pub fn key_id(&self) -> KeyId {
        self.public.id()
    }

    /// Is this the key that `certificate` certifies?
    pub fn matches(&self, certificate: &Certificate) -> bool {
        self.key_id() == certificate.key_id()
    }

    /// PKCS#8, PEM. Wipes itself.
    ///
    /// # Errors
    /// [`KeyError::Crypto`] if the library cannot encode it (out of memory).
    pub fn to_pem(&self) -> Result<Zeroizing<String>, KeyError> {
        Ok(pem::encode("PRIVATE KEY", &self.to_pkcs8()?))
    }

    /// PKCS#8, DER. Wipes itself.
    ///
    /// # Errors
    /// As [`PrivateKey::to_pem`].
    pub fn to_pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        let failed = |_| KeyError::Crypto { what: "encode a key" };
        match &self.pair {
            Pair::Ec(pair) => Ok(Zeroizing::new(pair.to_pkcs8v1().map_err(failed)?.as_ref().to_vec())),
            Pair::Rsa(pair) => {
                let der: Pkcs8V1Der<'_> = pair.as_der().map_err(failed)?;
                Ok(Zeroizing::new(der.as_ref().to_vec()))
            }
        }
    }

    /// The key as TLS takes it. The copy belongs to the caller.
    ///
    /// # Errors
    /// As [`PrivateKey::to_pem`].
    pub fn to_rustls(&self) -> Result<PrivateKeyDer<'static>, KeyError> {
        Ok(PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.to_pkcs8()?.to_vec())))
    }

    /// Signs as X.509 wants it: PKCS#1 v1.5 with SHA-256, or ECDSA in ASN.1 with the hash that fits the curve.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        match &self.pair {
            Pair::Ec(pair) => sign_ec(pair, message),
            Pair::Rsa(pair) => sign_rsa(pair, message),
        }
    }

    /// Signs as JWS wants it: like X.509, but ECDSA in two numbers of fixed width.
    pub(crate) fn sign_fixed(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let algorithm = match self.kind {
            KeyKind::P256 => &ECDSA_P256_SHA256_FIXED_SIGNING,
            KeyKind::P384 => &ECDSA_P384_SHA384_FIXED_SIGNING,
            KeyKind::P521 => &ECDSA_P521_SHA512_FIXED_SIGNING,
            KeyKind::Rsa { .. } => return self.sign(message),
        };
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, &self.to_pkcs8()?)
            .map_err(|_| KeyError::Crypto { what: "read back a key" })?;
        sign_ec(&pair, message)
    }

    /// The signature algorithm that [`PrivateKey::sign`] uses: NULL parameters for RSA, none for ECDSA.
    pub(crate) fn signature_algorithm(&self) -> AlgorithmIdentifierOwned {
        let parameters = matches!(self.kind, KeyKind::Rsa { .. }).then(Any::null);
        AlgorithmIdentifierOwned { oid: self.kind.signature_oid(), parameters }
    }
}

fn sign_ec(pair: &EcdsaKeyPair, message: &[u8]) -> Result<Vec<u8>, KeyError> {
    let signature = pair.sign(&SystemRandom::new(), message).map_err(|_| KeyError::Crypto { what: "sign" })?;
    Ok(signature.as_ref().to_vec())
}

fn sign_rsa(pair: &RsaKeyPair, message: &[u8]) -> Result<Vec<u8>, KeyError> {
    let mut signature = vec![0; pair.public_modulus_len()];
    pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature)
        .map_err(|_| KeyError::Crypto { what: "sign" })?;
    Ok(signature)
}

fn ec_pair(der: &[u8]) -> Option<Pair> {
    let algorithms: [&'static EcdsaSigningAlgorithm; 3] =
        [&ECDSA_P256_SHA256_ASN1_SIGNING, &ECDSA_P384_SHA384_ASN1_SIGNING, &ECDSA_P521_SHA512_ASN1_SIGNING];
    algorithms.into_iter().find_map(|algorithm| EcdsaKeyPair::from_private_key_der(algorithm, der).ok().map(Pair::Ec))
}

/// A key as `x509_cert`'s builder wants to see it. Private, so that no foreign trait is part of our interface.
pub(crate) struct BuilderSigner<'a>(pub(crate) &'a PrivateKey);

pub(crate) struct X509Signature(Vec<u8>);

#[derive(Clone)]
pub(crate) struct Spki(Vec<u8>);

impl EncodePublicKey for Spki {
    fn to_public_key_der(&self) -> x509_cert::spki::Result<x509_cert::der::Document> {
        Ok(x509_cert::der::Document::try_from(self.0.as_slice())?)
    }
}

impl SignatureBitStringEncoding for X509Signature {
    fn to_bitstring(&self) -> x509_cert::der::Result<BitString> {
        BitString::from_bytes(&self.0)
    }
}

impl signature::Keypair for BuilderSigner<'_> {
    type VerifyingKey = Spki;

    fn verifying_key(&self) -> Spki {
        Spki(self.0.public.spki_der().to_vec())
    }
}

impl DynSignatureAlgorithmIdentifier for BuilderSigner<'_> {
    fn signature_algorithm_identifier(&self) -> x509_cert::spki::Result<AlgorithmIdentifierOwned> {
        Ok(self.0.signature_algorithm())
    }
}

impl signature::Signer<X509Signature> for BuilderSigner<'_> {
    fn try_sign(&self, message: &[u8]) -> Result<X509Signature, signature::Error> {
        self.0.sign(message).map(X509Signature).map_err(|_| signature::Error::new())
    }
}
