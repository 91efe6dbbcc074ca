//! Enrollment tokens: JWS compact, signed by the TLS server key of the controller
//! (`openziti/ziti:controller/model/enrollment_model.go`, `openziti/ziti:controller/jwtsigner/jwt.go`).
//!
//! The algorithm follows from the certificate's key; what the header says must agree and decides nothing.

use std::fmt;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, RSA_PKCS1_2048_8192_SHA256,
    UnparsedPublicKey, VerificationAlgorithm,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use lifecycle::{RouterId, UnixTime};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::algorithm::KeyKind;
use crate::certificate::Certificate;
use crate::key::{KeyError, PrivateKey};

/// Most bytes accepted as a token. Tokens of large clusters take about 2 KB.
pub const MAX_TOKEN_BYTES: usize = 16 * 1024;
const MAX_CONTROLLERS: usize = 64;

/// How a router enrolls: the claim `em` and the query parameter `method`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EnrollmentMethod {
    /// `erott`: edge router, one-time token.
    EdgeRouter,
    /// `trott`: transit router, one-time token.
    TransitRouter,
}

impl EnrollmentMethod {
    /// As the wire spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EdgeRouter => "erott",
            Self::TransitRouter => "trott",
        }
    }

    /// From the wire's spelling; `None` for methods that are not for routers.
    pub fn from_wire(text: &str) -> Option<Self> {
        [Self::EdgeRouter, Self::TransitRouter].into_iter().find(|method| method.as_str() == text)
    }
}

/// A token is refused, or could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Longer than any token has a reason to be.
    #[error("a token of {found_bytes} bytes, at most {MAX_TOKEN_BYTES} are accepted")]
    TooLong {
        /// How long it is.
        found_bytes: usize,
    },
    /// Not a token, or one that lost characters on its way.
    #[error("this is no enrollment token, or a damaged one ({what}); fetch it again from the controller")]
    Malformed {
        /// What is wrong.
        what: &'static str,
    },
    /// A header field that must be understood and is not.
    #[error("the token demands an extension (`crit`) that is not known")]
    Critical,
    /// The header names another algorithm than the key's.
    #[error("the token says algorithm `{found}`, the controller's key demands `{expected}`")]
    WrongAlgorithm {
        /// What the header says, escaped.
        found: String,
        /// What the key says.
        expected: &'static str,
    },
    /// The header names another certificate.
    #[error(
        "the token was signed with certificate `{found}`, the controller presents `{expected}`; the controller's certificate may have been replaced, ask for a new token"
    )]
    WrongCertificate {
        /// SHA-1 fingerprint in the header, escaped.
        found: String,
        /// SHA-1 fingerprint of the certificate at hand.
        expected: String,
    },
    /// The certificate's key cannot sign tokens.
    #[error("the certificate's key is not one of P-256, P-384, P-521, RSA of 2048 to 8192 bits")]
    KeyNotAllowed,
    /// Not signed by that key.
    #[error("the token's signature does not verify; it was not made by this controller")]
    BadSignature,
    /// A method that is not for routers.
    #[error("the token is for enrollment method `{found}`, a router needs `erott` or `trott`")]
    WrongMethod {
        /// The claim `em`, escaped.
        found: String,
    },
    /// Too late.
    #[error("the token has expired; ask the controller for a new one (re-enroll)")]
    Expired {
        /// When it expired.
        expired_at: UnixTime,
        /// When it was judged.
        at: UnixTime,
    },
    /// The key at hand is not the certificate's.
    #[error("the signing key does not belong to the signing certificate")]
    WrongKey,
    /// Signing failed.
    #[error("the token cannot be signed")]
    Key(#[from] KeyError),
}

/// What an enrollment token says. Its one-time secret is not printed.
#[derive(Clone, PartialEq, Eq)]
pub struct EnrollmentToken {
    /// `iss`: `https://` and the controller's API address.
    pub issuer: String,
    /// `sub`: who is to enroll.
    pub router: RouterId,
    /// `jti`: the one-time secret, a UUID version 4 with OpenZiti.
    pub secret: Zeroizing<String>,
    /// `em`.
    pub method: EnrollmentMethod,
    /// `exp`, whole seconds.
    pub expires_at: UnixTime,
    /// Control addresses (`tls:host:port`): the claim `ctrl` of old controllers if it is there, then `ctrls`.
    pub controllers: Vec<String>,
}

impl fmt::Debug for EnrollmentToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnrollmentToken")
            .field("issuer", &self.issuer)
            .field("router", &self.router)
            .field("method", &self.method)
            .field("expires_at", &self.expires_at)
            .field("controllers", &self.controllers)
            .finish_non_exhaustive()
    }
}

#[derive(Serialize, Deserialize)]
struct Header {
    alg: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kid: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    typ: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    crit: Option<serde_json::Value>,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    #[serde(default)]
    aud: Audience,
    exp: i64,
    jti: Secret,
    em: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ctrl: Option<String>,
    #[serde(default)]
    ctrls: Option<Vec<String>>,
}

/// Written as OpenZiti writes it, one empty string; whatever is read is not used.
#[derive(Default)]
struct Audience;

impl Serialize for Audience {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        [""].serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Audience {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        serde::de::IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

/// The one-time secret on its way through serde.
struct Secret(Zeroizing<String>);

impl Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Zeroizing::new(text)))
    }
}

/// Only what is needed to find the key.
#[derive(Deserialize)]
struct IssuerClaim {
    iss: String,
}

const fn algorithm_name(kind: KeyKind) -> &'static str {
    match kind {
        KeyKind::Rsa { .. } => "RS256",
        KeyKind::P256 => "ES256",
        KeyKind::P384 => "ES384",
        KeyKind::P521 => "ES512",
    }
}

fn verification(kind: KeyKind) -> &'static dyn VerificationAlgorithm {
    match kind {
        KeyKind::Rsa { .. } => &RSA_PKCS1_2048_8192_SHA256,
        KeyKind::P256 => &ECDSA_P256_SHA256_FIXED,
        KeyKind::P384 => &ECDSA_P384_SHA384_FIXED,
        KeyKind::P521 => &ECDSA_P521_SHA512_FIXED,
    }
}

impl EnrollmentToken {
    /// The token as text, signed with the key of `certificate`, which is the one that the controller's API presents.
    ///
    /// # Errors
    /// [`TokenError::WrongKey`], [`TokenError::Key`].
    pub fn sign(&self, key: &PrivateKey, certificate: &Certificate) -> Result<Zeroizing<String>, TokenError> {
        if !key.matches(certificate) {
            return Err(TokenError::WrongKey);
        }
        let header = Header {
            alg: algorithm_name(key.kind()).to_owned(),
            kid: Some(certificate.fingerprint_sha1().to_string()),
            typ: Some("JWT".to_owned()),
            crit: None,
        };
        let claims = Claims {
            iss: self.issuer.clone(),
            sub: self.router.as_str().to_owned(),
            aud: Audience,
            exp: self.expires_at.as_s(),
            jti: Secret(self.secret.clone()),
            em: self.method.as_str().to_owned(),
            ctrl: None,
            ctrls: Some(self.controllers.clone()),
        };
        let malformed = |_| TokenError::Malformed { what: "claims cannot be written" };
        let header = serde_json::to_vec(&header).map_err(malformed)?;
        let claims = Zeroizing::new(serde_json::to_vec(&claims).map_err(malformed)?);
        let mut text =
            Zeroizing::new(String::with_capacity((header.len() + claims.len() + 1100).saturating_mul(4) / 3));
        URL_SAFE_NO_PAD.encode_string(&header, &mut text);
        text.push('.');
        URL_SAFE_NO_PAD.encode_string(claims.as_slice(), &mut text);
        let signature = key.sign_fixed(text.as_bytes())?;
        text.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut text);
        Ok(text)
    }

    /// Reads a token that must have been signed with `certificate`'s key, and must not have expired `at` this time.
    /// White space around it is ignored. A header without `kid` is accepted, one with another `kid` is not.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn verify(text: &str, certificate: &Certificate, at: UnixTime) -> Result<Self, TokenError> {
        let parts = Parts::split(text)?;
        let kind = certificate.public_key().kind().ok_or(TokenError::KeyNotAllowed)?;
        let header: Header = serde_json::from_slice(&decode(parts.header, "the header is not base64url")?)
            .map_err(|_| TokenError::Malformed { what: "the header is not the expected JSON" })?;
        if header.crit.is_some() {
            return Err(TokenError::Critical);
        }
        let expected = algorithm_name(kind);
        if header.alg != expected {
            return Err(TokenError::WrongAlgorithm { found: shown(&header.alg), expected });
        }
        let fingerprint = certificate.fingerprint_sha1().to_string();
        if let Some(kid) = header.kid.filter(|kid| !kid.eq_ignore_ascii_case(&fingerprint)) {
            return Err(TokenError::WrongCertificate { found: shown(&kid), expected: fingerprint });
        }
        let signature = decode(parts.signature, "the signature is not base64url")?;
        UnparsedPublicKey::new(verification(kind), certificate.public_key().bits())
            .verify(parts.signed.as_bytes(), &signature)
            .map_err(|_| TokenError::BadSignature)?;
        let claims: Claims = serde_json::from_slice(&decode(parts.claims, "the claims are not base64url")?)
            .map_err(|_| TokenError::Malformed { what: "the claims are not the expected JSON" })?;
        Self::from_claims(claims, at)
    }

    fn from_claims(claims: Claims, at: UnixTime) -> Result<Self, TokenError> {
        let method = EnrollmentMethod::from_wire(&claims.em)
            .ok_or_else(|| TokenError::WrongMethod { found: shown(&claims.em) })?;
        let expires_at = UnixTime::from_s(claims.exp);
        if at >= expires_at {
            return Err(TokenError::Expired { expired_at: expires_at, at });
        }
        if claims.sub.is_empty() || claims.jti.0.is_empty() || claims.iss.is_empty() {
            return Err(TokenError::Malformed { what: "`iss`, `sub` or `jti` is empty" });
        }
        let mut controllers: Vec<String> = Vec::new();
        for address in claims.ctrl.into_iter().chain(claims.ctrls.into_iter().flatten()) {
            if !address.is_empty() && !controllers.contains(&address) {
                controllers.push(address);
            }
        }
        if controllers.len() > MAX_CONTROLLERS {
            return Err(TokenError::Malformed { what: "too many control addresses" });
        }
        Ok(Self {
            issuer: claims.iss,
            router: RouterId::new(claims.sub),
            secret: claims.jti.0,
            method,
            expires_at,
            controllers,
        })
    }
}

/// The `iss` of a token that has *not* been verified: where to fetch the certificate that may verify it. To be used
/// for nothing else.
///
/// # Errors
/// [`TokenError::TooLong`], [`TokenError::Malformed`].
pub fn peek_issuer(text: &str) -> Result<String, TokenError> {
    let parts = Parts::split(text)?;
    let claim: IssuerClaim = serde_json::from_slice(&decode(parts.claims, "the claims are not base64url")?)
        .map_err(|_| TokenError::Malformed { what: "the claims are not the expected JSON" })?;
    Ok(claim.iss)
}

struct Parts<'a> {
    header: &'a str,
    claims: &'a str,
    signature: &'a str,
    /// Header and claims with the dot between them.
    signed: &'a str,
}

impl<'a> Parts<'a> {
    fn split(text: &'a str) -> Result<Self, TokenError> {
        let text = text.trim();
        if text.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::TooLong { found_bytes: text.len() });
        }
        let three = TokenError::Malformed { what: "it does not have three parts" };
        let (signed, signature) = text.rsplit_once('.').ok_or_else(|| three.clone())?;
        let (header, claims) = signed.split_once('.').ok_or_else(|| three.clone())?;
        if claims.contains('.') || [header, claims, signature].contains(&"") {
            return Err(three);
        }
        Ok(Self { header, claims, signature, signed })
    }
}

/// Base64url without padding, and only in its one canonical form.
fn decode(part: &str, what: &'static str) -> Result<Zeroizing<Vec<u8>>, TokenError> {
    URL_SAFE_NO_PAD.decode(part).map(Zeroizing::new).map_err(|_| TokenError::Malformed { what })
}

/// Foreign text made fit for a message.
fn shown(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_default).collect()
}
