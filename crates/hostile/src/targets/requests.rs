//! Certificate requests.

use std::sync::LazyLock;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use lifecycle::{RouterId, UnixTime};
use pki::{
    Csr, Issuer, KeyKind, PrivateKey, Profile, SansAllowList, SansPolicy, Subject, Validity, build_csr, new_root,
};
use x509_cert::der::asn1::BitString;
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::{Decode, Encode};
use x509_cert::request::{CertReq, CertReqInfo};
use x509_cert::spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};

const ECDSA_WITH_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");

/// Signs requests that are right in nothing but their signature, and leaves.
struct Asker {
    pair: EcdsaKeyPair,
    spki: Vec<u8>,
    issuer: Issuer,
    validity: Validity,
}

static ASKER: LazyLock<Asker> = LazyLock::new(asker);

#[expect(clippy::expect_used, reason = "a process that can make no key cannot be fuzzed")]
fn asker() -> Asker {
    let key = PrivateKey::generate(KeyKind::P256).expect("a key");
    let pkcs8 = key.to_pkcs8().expect("an encoded key");
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &pkcs8).expect("the same key");
    let validity = Validity {
        not_before: UnixTime::from_s(1_700_000_000),
        not_after: UnixTime::from_s(2_000_000_000),
        issuer_ends_soon: None,
    };
    let spki = key.public().spki_der().to_vec();
    Asker { pair, spki, issuer: new_root("throwaway", key, &validity).expect("a certificate"), validity }
}

pub(super) fn csr(data: &[u8]) {
    if let Ok(csr) = Csr::from_pem(data) {
        judge(&csr);
    }
    if let Ok(csr) = Csr::from_der(data) {
        judge(&csr);
    }
    if let Some(der) = rightly_signed(data)
        && let Ok(csr) = Csr::from_der(&der)
    {
        judge(&csr);
    }
}

/// The request, or the part of one that is signed, with our key in it and our signature on it.
fn rightly_signed(data: &[u8]) -> Option<Vec<u8>> {
    let mut info = CertReq::from_der(data).map(|request| request.info).or_else(|_| CertReqInfo::from_der(data)).ok()?;
    info.public_key = SubjectPublicKeyInfoOwned::from_der(&ASKER.spki).ok()?;
    let signature = ASKER.pair.sign(&SystemRandom::new(), &info.to_der().ok()?).ok()?;
    let algorithm = AlgorithmIdentifierOwned { oid: ECDSA_WITH_SHA256, parameters: None };
    CertReq { info, algorithm, signature: BitString::from_bytes(signature.as_ref()).ok()? }.to_der().ok()
}

/// What the controller does with it, and whether an equal request can be made of what was read.
fn judge(csr: &Csr) {
    let _shown = format!("{csr:?} {}", csr.kind());
    let _whose = csr.check_router(&RouterId::new("r-1".to_owned()));
    assert!(csr.check_router(&RouterId::new(csr.cn().to_owned())).is_ok(), "a request is not for whom it names");
    let _allowed = SansPolicy::Allow(SansAllowList::default()).check(csr.sans());
    if let Ok(chain) = ASKER.issuer.issue(csr, csr.cn(), Profile::Server, &ASKER.validity) {
        let leaf = chain.leaf();
        assert_eq!(leaf.cn(), Some(csr.cn()), "a leaf is issued for another name");
        assert_eq!(leaf.key_id(), csr.key_id(), "a leaf is issued for another key");
        assert_eq!(leaf.sans(), csr.sans(), "a leaf is issued for other names");
    }
    let Ok(subject) = Subject::common_name(csr.cn()) else { return };
    if let Ok(text) = build_csr(ASKER.issuer.key(), &subject, csr.sans()) {
        let again = Csr::from_pem(text.as_bytes());
        let again = again.as_ref().map(|again| (again.cn(), again.sans()));
        assert_eq!(again, Ok((csr.cn(), csr.sans())), "a request changes when it is made again");
    }
}
