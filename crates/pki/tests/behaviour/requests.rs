//! Certificate requests: who may ask, and what is refused.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use pki::{Csr, CsrError, KeyKind, MAX_CSR_PEM_BYTES, PemError, Sans, Subject, build_csr};
use x509_cert::der::asn1::BitString;
use x509_cert::der::{Decode, DecodePem, Encode};
use x509_cert::request::CertReq;

use crate::support::{Ca, KINDS, every_kind_of_san, key, openssl, put, router};

fn request(cn: &str) -> String {
    build_csr(&key(KeyKind::P256), &Subject::common_name(cn).unwrap(), &every_kind_of_san()).unwrap()
}

#[test]
fn a_request_says_what_was_put_in() {
    for kind in KINDS {
        let key = key(kind);
        let text = build_csr(&key, &Subject::common_name("r1").unwrap(), &every_kind_of_san()).unwrap();
        let csr = Csr::from_pem(text.as_bytes()).unwrap();
        assert_eq!((csr.cn(), csr.kind(), csr.key_id()), ("r1", kind, key.key_id()));
        assert_eq!(csr.sans(), &every_kind_of_san());
        assert_eq!(csr.check_router(&router("r1")), Ok(()));
        assert!(matches!(csr.check_router(&router("r2")), Err(CsrError::WrongRouter { .. })));
        // rcgen reads it too.
        let read = rcgen::CertificateSigningRequestParams::from_pem(&text);
        assert!(read.is_ok() || kind == KeyKind::P521, "rcgen knows no P-521: {:?}", read.err());
    }
}

#[test]
fn the_same_request_written_twice_asks_for_the_same() {
    let key = key(KeyKind::P256);
    let write = |cn, sans: &Sans| {
        let text = build_csr(&key, &Subject::common_name(cn).unwrap(), sans).unwrap();
        (Csr::from_pem(text.as_bytes()).unwrap(), text)
    };
    let (first, first_text) = write("r1", &every_kind_of_san());
    let (second, second_text) = write("r1", &every_kind_of_san());
    assert_ne!(first_text, second_text, "ECDSA signatures are random");
    assert!(first.asks_the_same_as(&second));
    assert!(!first.asks_the_same_as(&write("r1", &Sans::default()).0));
    assert!(!first.asks_the_same_as(&write("r2", &every_kind_of_san()).0));
}

#[test]
fn what_openziti_writes_is_read() {
    // Empty attribute values as Go writes them for whatever `csr` does not name, in order C, ST, L, O, OU, CN.
    let own = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
    let mut subject = Vec::new();
    for (last, value) in [(6, ""), (8, ""), (7, "x"), (10, ""), (11, ""), (3, "r1")] {
        let pair = [vec![6, 3, 0x55, 4, last], tlv(0x13, value.as_bytes())].concat();
        subject.extend(tlv(0x31, &tlv(0x30, &pair)));
    }
    let csr = Csr::from_pem(handmade(&own, &tlv(0x30, &subject), &[]).as_bytes()).unwrap();
    assert_eq!(csr.cn(), "r1");
    let ca = Ca::new(KeyKind::P256);
    let chain = ca
        .signer
        .issue(&csr, "r1", pki::Profile::Client, &crate::support::span(crate::support::NOW, crate::support::HOUR))
        .unwrap();
    assert_eq!(chain.leaf().subject_text(), "CN=r1,L=x");
}

#[test]
fn the_signature_is_checked_over_the_bytes_as_received() {
    // Attributes in an order that DER does not allow: encoding them again would sort them.
    let own = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
    let long = tlv(0x30, &[vec![6, 3, 0x2a, 3, 4], tlv(0x31, &tlv(0x0c, b"a longer value"))].concat());
    let short = tlv(0x30, &[vec![6, 3, 0x2a, 3, 5], tlv(0x31, &tlv(0x0c, b"v"))].concat());
    for attributes in [[long.clone(), short.clone()].concat(), [short, long].concat()] {
        let name = tlv(0x30, &tlv(0x31, &tlv(0x30, &[vec![6, 3, 0x55, 4, 3], tlv(0x0c, b"r1")].concat())));
        let csr = Csr::from_pem(handmade(&own, &name, &attributes).as_bytes());
        assert_eq!(csr.map(|csr| csr.cn().to_owned()), Ok("r1".to_owned()));
    }
}

/// A request put together byte by byte.
fn handmade(own: &EcdsaKeyPair, name: &[u8], attributes: &[u8]) -> String {
    use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
    use aws_lc_rs::signature::KeyPair;
    let spki: PublicKeyX509Der<'_> = own.public_key().as_der().unwrap();
    let info = tlv(0x30, &[&[2, 1, 0], name, spki.as_ref(), &tlv(0xa0, attributes)].concat());
    let signature = own.sign(&SystemRandom::new(), &info).unwrap();
    let algorithm = tlv(0x30, &[6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2]);
    let bits = tlv(3, &[&[0], signature.as_ref()].concat());
    to_pem(&tlv(0x30, &[info, algorithm, bits].concat()))
}

fn tlv(tag: u8, value: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(value.len()).unwrap().to_be_bytes();
    let head = match (high, low) {
        (0, 0..128) => vec![tag, low],
        (0, 128..) => vec![tag, 0x81, low],
        (1.., _) => vec![tag, 0x82, high, low],
    };
    [&head, value].concat()
}

fn to_pem(der: &[u8]) -> String {
    use base64::Engine as _;
    let base64 = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN CERTIFICATE REQUEST-----\n{base64}\n-----END CERTIFICATE REQUEST-----\n")
}

#[test]
fn any_hash_goes_with_any_curve_but_sha1_with_none() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "openssl.cnf", "[req]\ndistinguished_name=dn\n[dn]\n");
    for curve in ["P-256", "P-384", "P-521"] {
        for hash in ["-sha256", "-sha384", "-sha512", "-sha1"] {
            let curve_option = format!("ec_paramgen_curve:{curve}");
            let arguments = [
                "req",
                "-new",
                "-newkey",
                "ec",
                "-pkeyopt",
                &curve_option,
                "-nodes",
                "-keyout",
                "key.pem",
                "-subj",
                "/CN=r1",
                hash,
                "-config",
                "openssl.cnf",
                "-out",
                "csr.pem",
            ];
            let Some(made) = openssl(folder.path(), &arguments) else { return };
            made.unwrap();
            let csr = Csr::from_pem(&std::fs::read(folder.path().join("csr.pem")).unwrap());
            if hash == "-sha1" {
                assert!(matches!(csr, Err(CsrError::SignatureNotAllowed { .. })), "{csr:?}");
            } else {
                assert_eq!(csr.unwrap().kind().to_string(), curve);
            }
        }
    }
}

#[test]
fn keys_that_are_weak_or_strange_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "openssl.cnf", "[req]\ndistinguished_name=dn\n[dn]\n");
    for new_key in [&["rsa:1024"][..], &["ed25519"], &["ec", "-pkeyopt", "ec_paramgen_curve:secp256k1"]] {
        let mut arguments = vec!["req", "-new", "-newkey"];
        arguments.extend(new_key);
        arguments.extend([
            "-nodes",
            "-keyout",
            "key.pem",
            "-subj",
            "/CN=r1",
            "-config",
            "openssl.cnf",
            "-out",
            "csr.pem",
        ]);
        let Some(made) = openssl(folder.path(), &arguments) else { return };
        made.unwrap();
        let csr = Csr::from_pem(&std::fs::read(folder.path().join("csr.pem")).unwrap());
        assert_eq!(csr.err(), Some(CsrError::KeyNotAllowed), "{new_key:?}");
    }
}

#[test]
fn a_request_with_another_key_another_name_or_a_broken_signature_is_refused() {
    let own = CertReq::from_pem(request("r1")).unwrap();
    let other = CertReq::from_pem(request("r1")).unwrap();
    let check = |request: &CertReq| Csr::from_der(&request.to_der().unwrap()).err();
    assert_eq!(check(&own), None);

    let mut changed = own.clone();
    changed.info.public_key = other.info.public_key.clone();
    assert_eq!(check(&changed), Some(CsrError::BadSignature));

    let mut changed = own.clone();
    changed.info.subject = x509_cert::name::Name::from_der(&other.info.subject.to_der().unwrap()).unwrap();
    changed.info.attributes = x509_cert::attr::Attributes::new();
    assert_eq!(check(&changed), Some(CsrError::BadSignature));

    let mut changed = own.clone();
    changed.signature = other.signature.clone();
    assert_eq!(check(&changed), Some(CsrError::BadSignature));

    let mut changed = own.clone();
    changed.signature = BitString::from_bytes(&[]).unwrap();
    assert_eq!(check(&changed), Some(CsrError::BadSignature));

    // An algorithm that does not go with the key.
    let rsa =
        build_csr(&key(KeyKind::Rsa { bits: 2048 }), &Subject::common_name("r1").unwrap(), &Sans::default()).unwrap();
    let mut changed = own;
    changed.algorithm = CertReq::from_pem(rsa).unwrap().algorithm;
    assert!(matches!(check(&changed), Some(CsrError::SignatureNotAllowed { .. })));
}

#[test]
fn anything_but_exactly_one_request_is_refused() {
    let one = request("r1");
    let error = |text: &str| Csr::from_pem(text.as_bytes()).unwrap_err();
    assert_eq!(error(""), CsrError::NotOneBlock { found: 0 });
    assert_eq!(error(&format!("{one}{}", request("r2"))), CsrError::NotOneBlock { found: 2 });
    let certificate = Ca::new(KeyKind::P256).bundle().to_pem();
    assert_eq!(error(&certificate), CsrError::WrongLabel { found: "CERTIFICATE".to_owned() });
    assert_eq!(error(&format!("{one}{certificate}")), CsrError::NotOneBlock { found: 2 });
    assert!(matches!(error(&certificate.replace("CERTIFICATE", "CERTIFICATE REQUEST")), CsrError::NotARequest { .. }));
    let end = one.find("-----END").unwrap();
    assert_eq!(error(&one[..end]), CsrError::Pem(PemError::Unfinished { line: 1 }));
    let huge = "x".repeat(10_000_000);
    assert_eq!(
        error(&huge),
        CsrError::Pem(PemError::TooLong { found_bytes: huge.len(), limit_bytes: MAX_CSR_PEM_BYTES })
    );
}

#[test]
fn a_request_needs_exactly_one_common_name() {
    let own = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
    let cn = |value: &[u8]| tlv(0x31, &tlv(0x30, &[vec![6, 3, 0x55, 4, 3], tlv(0x0c, value)].concat()));
    let check = |names: &[Vec<u8>]| Csr::from_pem(handmade(&own, &tlv(0x30, &names.concat()), &[]).as_bytes()).err();
    assert_eq!(check(&[cn(b"r1")]), None);
    assert_eq!(check(&[]), Some(CsrError::CommonName { found: 0 }));
    assert_eq!(check(&[cn(b"")]), Some(CsrError::CommonName { found: 0 }));
    assert_eq!(check(&[cn(b"r1"), cn(b"r2")]), Some(CsrError::CommonName { found: 2 }));
}

#[test]
fn names_that_no_certificate_can_hold_are_refused_when_asking() {
    let subject = Subject::common_name("r1").unwrap();
    for dns in ["", "with space", "n\0l"] {
        let sans = Sans { dns: vec![dns.to_owned()], ..Sans::default() };
        assert!(matches!(build_csr(&key(KeyKind::P256), &subject, &sans), Err(CsrError::San(_))));
    }
}
