//! Enrollment tokens.

use std::sync::LazyLock;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use lifecycle::UnixTime;
use pki::{Certificate, EnrollmentToken, KeyKind, PrivateKey, Validity, new_root, peek_issuer};

/// When tokens are judged.
const NOW: UnixTime = UnixTime::from_s(1_800_000_000);

/// Whoever signs the tokens of this process.
pub(crate) struct Signer {
    pub(crate) certificate: Certificate,
    pub(crate) key: PrivateKey,
    pair: EcdsaKeyPair,
}

pub(crate) static SIGNER: LazyLock<Signer> = LazyLock::new(signer);

#[expect(clippy::expect_used, reason = "a process that can make no key cannot be fuzzed")]
fn signer() -> Signer {
    let key = PrivateKey::generate(KeyKind::P256).expect("a key");
    let pkcs8 = key.to_pkcs8().expect("an encoded key");
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &pkcs8).expect("the same key");
    let validity = Validity {
        not_before: UnixTime::from_s(1_700_000_000),
        not_after: UnixTime::from_s(2_000_000_000),
        issuer_ends_soon: None,
    };
    let again = PrivateKey::from_pem(key.to_pem().expect("a key as text").as_bytes()).expect("the same key");
    let certificate = new_root("throwaway", again, &validity).expect("a certificate").certificate().clone();
    Signer { certificate, key, pair }
}

impl Signer {
    /// A token whose claims are these bytes, rightly signed.
    fn sign(&self, claims: &[u8]) -> Option<String> {
        let kid = self.certificate.fingerprint_sha1();
        let header = format!(r#"{{"alg":"ES256","kid":"{kid}","typ":"JWT"}}"#);
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = self.pair.sign(&SystemRandom::new(), signed.as_bytes()).ok()?;
        Some(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

pub(super) fn token(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let _issuer = peek_issuer(&text);
    let ours = EnrollmentToken::verify(&text, &SIGNER.certificate, NOW);
    assert!(ours.is_err(), "a token that this process did not sign was taken for its own");
    if let Some(text) = SIGNER.sign(data) {
        again(&text);
    }
}

fn again(text: &str) {
    let Ok(token) = EnrollmentToken::verify(text, &SIGNER.certificate, NOW) else { return };
    let _shown = format!("{token:?}");
    assert_eq!(peek_issuer(text).as_ref(), Ok(&token.issuer), "two readers of one token disagree");
    // A token of almost the longest length may be too long when it names the signer as well.
    let Ok(text) = token.sign(&SIGNER.key, &SIGNER.certificate) else { return };
    if text.len() <= pki::MAX_TOKEN_BYTES {
        let again = EnrollmentToken::verify(&text, &SIGNER.certificate, NOW);
        assert_eq!(again, Ok(token), "a token changes when it is signed again");
    }
}
