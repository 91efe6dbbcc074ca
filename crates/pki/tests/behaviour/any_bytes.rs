//! No parser panics, whatever it is given: noise, and good input with a few bytes changed.

use pki::{
    Certificate, Chain, Csr, EnrollmentToken, KeyKind, PrivateKey, Profile, Sha1Fingerprint, Subject, TrustBundle,
    Usage, build_csr, decode_cacerts, encode_cacerts, peek_issuer, validate_chain,
};
use proptest::prelude::*;
use rustls_pki_types::CertificateDer;

use crate::support::{Ca, NOW, every_kind_of_san, key};

struct Good {
    bundle: TrustBundle,
    leaf: Certificate,
    inputs: Vec<Vec<u8>>,
}

fn good() -> &'static Good {
    static GOOD: std::sync::OnceLock<Good> = std::sync::OnceLock::new();
    GOOD.get_or_init(|| {
        let ca = Ca::new(KeyKind::P256);
        let own = key(KeyKind::P256);
        let chain = ca.leaf(&own, "r1", &every_kind_of_san(), Profile::Server);
        let csr = build_csr(&own, &Subject::common_name("r1").unwrap(), &every_kind_of_san()).unwrap();
        let csr_der = pem_body(&csr);
        let token = EnrollmentToken {
            issuer: "https://c".to_owned(),
            router: crate::support::router("r1"),
            secret: zeroize::Zeroizing::new("s".to_owned()),
            method: pki::EnrollmentMethod::EdgeRouter,
            expires_at: NOW.plus(crate::support::HOUR),
            controllers: vec![],
        };
        let inputs = vec![
            chain.leaf().der().to_vec(),
            chain.to_pem().into_bytes(),
            csr_der,
            csr.into_bytes(),
            own.to_pem().unwrap().as_bytes().to_vec(),
            token.sign(&own, chain.leaf()).unwrap().as_bytes().to_vec(),
            encode_cacerts(&ca.bundle()).unwrap().into_bytes(),
        ];
        Good { bundle: ca.bundle(), leaf: chain.leaf().clone(), inputs }
    })
}

fn pem_body(text: &str) -> Vec<u8> {
    use base64::Engine as _;
    let base64: String = text.lines().filter(|line| !line.starts_with('-')).collect();
    base64::engine::general_purpose::STANDARD.decode(base64).unwrap()
}

/// Feeds `bytes` to everything that reads foreign bytes.
fn feed(bytes: &[u8]) {
    let good = good();
    let _ = PrivateKey::from_pem(bytes);
    let _ = Chain::from_pem(bytes);
    let _ = TrustBundle::from_pem(bytes);
    let _ = Certificate::from_pem(bytes);
    let _ = Csr::from_pem(bytes);
    let _ = Csr::from_der(bytes);
    let _ = decode_cacerts(bytes);
    if let Ok(certificate) = Certificate::from_der(bytes) {
        assert_eq!(certificate.der(), bytes, "what was parsed is kept as it was");
        let _ = (certificate.facts(), certificate.subject_text(), certificate.to_pem());
        let _ = TrustBundle::new([certificate]);
    }
    let presented = [CertificateDer::from(bytes.to_vec())];
    if let Ok(leaf) = validate_chain(&presented, &good.bundle, NOW, Usage::Any) {
        assert_eq!(leaf, good.leaf, "only the one good leaf is ever accepted");
    }
    let text = String::from_utf8_lossy(bytes);
    let _ = peek_issuer(&text);
    let _ = EnrollmentToken::verify(&text, &good.leaf, NOW);
    let _ = text.parse::<Sha1Fingerprint>();
    let _ = text.parse::<pki::IpRange>();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn noise_is_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        feed(&bytes);
    }

    #[test]
    fn noise_in_pem_clothes_is_refused_without_a_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        label in prop_oneof![
            Just("CERTIFICATE"), Just("CERTIFICATE REQUEST"), Just("PRIVATE KEY"), Just("EC PRIVATE KEY"),
            Just("RSA PRIVATE KEY"),
        ],
    ) {
        use base64::Engine as _;
        let base64 = base64::engine::general_purpose::STANDARD.encode(&bytes);
        feed(format!("-----BEGIN {label}-----\n{base64}\n-----END {label}-----\n").as_bytes());
    }

    #[test]
    fn good_input_with_changed_or_missing_bytes_is_refused_without_a_panic(
        which in any::<prop::sample::Index>(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        keep in any::<prop::sample::Index>(),
        cut in any::<bool>(),
    ) {
        let mut bytes = which.get(&good().inputs).clone();
        for (place, byte) in changes {
            *place.get_mut(&mut bytes) = byte;
        }
        if cut {
            bytes.truncate(keep.index(bytes.len()));
        }
        feed(&bytes);
    }
}

#[test]
fn every_truncation_of_good_input_is_refused_without_a_panic() {
    for input in &good().inputs {
        for length in 0..input.len() {
            feed(&input[..length]);
        }
    }
}
