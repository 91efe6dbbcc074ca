//! Certificates, chains, bundles and keys.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lifecycle::UnixTime;
use pki::{
    Certificate, Chain, KeyKind, PrivateKey, TrustBundle, Usage, decode_cacerts, encode_cacerts, validate_chain,
};
use rustls_pki_types::CertificateDer;

/// When chains are judged.
const NOW: UnixTime = UnixTime::from_s(1_800_000_000);

pub(super) fn certificate(data: &[u8]) {
    let presented = [CertificateDer::from(data)];
    if let Ok(certificate) = Certificate::from_der(data) {
        assert_eq!(certificate.der(), data, "a certificate is not the bytes that it came as");
        look_at(&certificate);
        let again = Certificate::from_pem(certificate.to_pem().as_bytes());
        assert_eq!(again.map(|again| again.fingerprint()), Ok(certificate.fingerprint()), "a certificate changes");
        if let Ok(bundle) = TrustBundle::new([certificate]) {
            let _itself = validate_chain(&presented, &bundle, NOW, Usage::Client);
        }
    }
    let _ours = validate_chain(&presented, &BUNDLE, NOW, Usage::Client);
}

/// Everything that is shown of a certificate, or asked of it.
fn look_at(certificate: &Certificate) {
    let _names =
        (certificate.cn(), certificate.subject_text(), certificate.issuer_text(), certificate.is_self_issued());
    let _uses = (certificate.serves_clients(), certificate.serves_servers(), certificate.extended_key_usages());
    let _facts = (certificate.facts(), certificate.is_ca(), certificate.covers_host("a.example.org"));
    let _shown = format!("{certificate:?} {}", certificate.fingerprint_sha1());
    let _life = certificate.facts().life();
}

static BUNDLE: LazyLock<TrustBundle> = LazyLock::new(|| {
    #[expect(clippy::expect_used, reason = "one certificate is a bundle")]
    TrustBundle::new([super::tokens::SIGNER.certificate.clone()]).expect("a bundle")
});

pub(super) fn bundle(data: &[u8]) {
    if let Ok(chain) = Chain::from_pem(data) {
        look_at(chain.leaf());
        let again = Chain::from_pem(chain.to_pem().as_bytes());
        assert_eq!(again.as_ref().map(fingerprints), Ok(fingerprints(&chain)), "a chain changes");
        let _judged = validate_chain(&chain.to_rustls(), &BUNDLE, NOW, Usage::Server);
    }
    for read in [TrustBundle::from_pem(data).ok(), decode_cacerts(data).ok()].into_iter().flatten() {
        let again = TrustBundle::from_pem(read.to_pem().as_bytes());
        let set = |bundle: &TrustBundle| bundle.certificates().iter().map(Certificate::fingerprint).collect::<Vec<_>>();
        assert_eq!(again.as_ref().map(set), Ok(set(&read)), "a bundle changes");
        if let Ok(answer) = encode_cacerts(&read) {
            let mut sent = decode_cacerts(answer.as_bytes()).as_ref().map(set).unwrap_or_default();
            let mut kept = set(&read);
            sent.sort();
            kept.sort();
            assert_eq!(sent, kept, "a bundle changes when it is handed out");
        }
        if let Ok(chain) = Chain::from_pem(data) {
            let _judged = validate_chain(&chain.to_rustls(), &read, NOW, Usage::Client);
        }
    }
}

fn fingerprints(chain: &Chain) -> Vec<lifecycle::Fingerprint> {
    std::iter::once(chain.leaf()).chain(chain.intermediates()).map(Certificate::fingerprint).collect()
}

/// Good keys of this process. No key lies in the repository, and none may come from a corpus.
static KEYS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let kinds = [KeyKind::P256, KeyKind::P384, KeyKind::P521];
    kinds.into_iter().filter_map(|kind| Some(PrivateKey::generate(kind).ok()?.to_pkcs8().ok()?.to_vec())).collect()
});

pub(super) fn private_key(data: &[u8]) {
    key(data);
    let Some((first, change)) = data.split_first() else { return };
    let labels = ["PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY"];
    let Some(label) = labels.get(usize::from(first >> 4) % labels.len()) else { return };
    let Some(good) = KEYS.get(usize::from(first & 15) % KEYS.len().max(1)) else { return };
    let mut der = good.clone();
    for (byte, change) in der.iter_mut().zip(change) {
        *byte ^= change;
    }
    key(format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der)).as_bytes());
}

fn key(text: &[u8]) {
    let Ok(key) = PrivateKey::from_pem(text) else { return };
    let shown = format!("{:?} {}", key.key_id(), key.kind());
    assert!(!shown.is_empty());
    let again = key.to_pem().map(|text| PrivateKey::from_pem(text.as_bytes()).map(|again| again.key_id()));
    assert_eq!(again, Ok(Ok(key.key_id())), "a key changes when it is written and read again");
}
