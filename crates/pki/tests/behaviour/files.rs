//! Key, chain and CA files as they lie on the disks of OpenZiti routers.

use pki::{
    Certificate, CertificateError, Chain, ChainError, KeyError, KeyKind, MAX_CERTIFICATES_PEM_BYTES,
    MAX_CHAIN_CERTIFICATES, PemError, PrivateKey, Profile, Sans, Sha1Fingerprint, TrustBundle,
};

use crate::support::{Ca, KINDS, key, openssl, put};

#[test]
fn a_key_survives_its_file_and_stays_the_same_key() {
    for kind in KINDS {
        let first = key(kind);
        let text = first.to_pem().unwrap();
        let second = PrivateKey::from_pem(text.as_bytes()).unwrap();
        assert_eq!((second.kind(), second.key_id()), (kind, first.key_id()));
        assert_eq!(second.to_pem().unwrap(), text);
        assert!(second.to_rustls().is_ok());
        let shown = format!("{first:?}");
        assert!(!text.lines().filter(|line| line.len() > 20).any(|line| shown.contains(line)), "{shown}");
    }
}

#[test]
fn every_form_of_key_file_that_go_and_openssl_write_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| openssl(folder.path(), arguments).map(Result::unwrap);
    let read = |name: &str| PrivateKey::from_pem(&std::fs::read(folder.path().join(name)).unwrap()).unwrap();
    for (curve, kind) in [("prime256v1", KeyKind::P256), ("secp384r1", KeyKind::P384), ("secp521r1", KeyKind::P521)] {
        // SEC1, with the `EC PARAMETERS` block that older tools put first; then the same key as PKCS#8.
        let Some(_) = run(&["ecparam", "-genkey", "-name", curve, "-out", "sec1.pem"]) else { return };
        run(&["pkcs8", "-topk8", "-nocrypt", "-in", "sec1.pem", "-out", "pkcs8.pem"]);
        let text = std::fs::read_to_string(folder.path().join("sec1.pem")).unwrap();
        assert!(text.contains("BEGIN EC PARAMETERS") && text.contains("BEGIN EC PRIVATE KEY"));
        assert_eq!(read("sec1.pem").kind(), kind);
        assert_eq!(read("sec1.pem").key_id(), read("pkcs8.pem").key_id());
        check_key_id(folder.path(), &read("sec1.pem"));
    }
    run(&["genrsa", "-traditional", "-out", "pkcs1.pem", "2048"]);
    run(&["pkcs8", "-topk8", "-nocrypt", "-in", "pkcs1.pem", "-out", "pkcs8.pem"]);
    let text = std::fs::read_to_string(folder.path().join("pkcs1.pem")).unwrap();
    assert!(text.contains("BEGIN RSA PRIVATE KEY"));
    assert_eq!(read("pkcs1.pem").kind(), KeyKind::Rsa { bits: 2048 });
    assert_eq!(read("pkcs1.pem").key_id(), read("pkcs8.pem").key_id());
    check_key_id(folder.path(), &read("pkcs1.pem"));

    run(&["pkcs8", "-topk8", "-in", "pkcs1.pem", "-out", "locked.pem", "-passout", "pass:x"]);
    run(&["rsa", "-in", "pkcs1.pem", "-traditional", "-aes128", "-out", "old-locked.pem", "-passout", "pass:x"]);
    run(&["genrsa", "-out", "small.pem", "1024"]);
    run(&["genpkey", "-algorithm", "ed25519", "-out", "ed.pem"]);
    let error = |name: &str| PrivateKey::from_pem(&std::fs::read(folder.path().join(name)).unwrap()).err();
    assert_eq!(error("locked.pem"), Some(KeyError::Encrypted));
    assert_eq!(error("old-locked.pem"), Some(KeyError::Encrypted));
    assert_eq!(error("small.pem"), Some(KeyError::Unusable { label: "PRIVATE KEY".to_owned() }));
    assert_eq!(error("ed.pem"), Some(KeyError::Unusable { label: "PRIVATE KEY".to_owned() }));
}

/// The id is SHA-256 over the SubjectPublicKeyInfo, by the word of openssl.
fn check_key_id(folder: &std::path::Path, key: &PrivateKey) {
    put(folder, "k.pem", &key.to_pem().unwrap());
    openssl(folder, &["pkey", "-in", "k.pem", "-pubout", "-outform", "DER", "-out", "spki.der"]).unwrap().unwrap();
    let shown = openssl(folder, &["dgst", "-sha256", "-r", "spki.der"]).unwrap().unwrap();
    assert_eq!(shown.split(' ').next(), Some(key.key_id().to_string().as_str()));
}

#[test]
fn a_key_file_that_is_not_one_key_says_what_it_is() {
    let text = key(KeyKind::P256).to_pem().unwrap();
    let error = |text: &str| PrivateKey::from_pem(text.as_bytes()).unwrap_err();
    assert_eq!(error(""), KeyError::Empty);
    assert_eq!(error("\n \n"), KeyError::Empty);
    assert_eq!(error(&"\0".repeat(241)), KeyError::Empty, "a zero-filled file is what a power cut leaves");
    assert_eq!(error("garbage"), KeyError::NoKey);
    assert_eq!(error(&Ca::new(KeyKind::P256).bundle().to_pem()), KeyError::NoKey);
    assert_eq!(error(&format!("{}{}", *text, *text)), KeyError::SeveralKeys { found: 2 });
    assert_eq!(error(&text[..text.len() / 2]), KeyError::Pem(PemError::Unfinished { line: 1 }));
    assert_eq!(
        error("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"),
        KeyError::Unusable { label: "PRIVATE KEY".to_owned() }
    );
    assert_eq!(
        error(&text.replace("PRIVATE", "RSA PRIVATE")),
        KeyError::Unusable { label: "RSA PRIVATE KEY".to_owned() }
    );
    assert_eq!(
        PrivateKey::generate(KeyKind::Rsa { bits: 1024 }).unwrap_err(),
        KeyError::CannotGenerate { kind: KeyKind::Rsa { bits: 1024 } }
    );
}

#[test]
fn a_key_belongs_to_its_certificate_alone() {
    let ca = Ca::new(KeyKind::P256);
    let (own, other) = (key(KeyKind::P256), key(KeyKind::P256));
    let chain = ca.leaf(&own, "r1", &Sans::default(), Profile::Client);
    assert!(own.matches(chain.leaf()) && !other.matches(chain.leaf()));
    assert_eq!(chain.leaf().facts().key, own.key_id());
}

#[test]
fn fingerprints_are_those_of_openssl() {
    let folder = tempfile::tempdir().unwrap();
    let leaf = Ca::new(KeyKind::P256).leaf(&key(KeyKind::P256), "r1", &Sans::default(), Profile::Client).leaf().clone();
    put(folder.path(), "leaf.pem", &leaf.to_pem());
    let shown = |hash: &str| {
        let text = openssl(folder.path(), &["x509", "-in", "leaf.pem", "-noout", "-fingerprint", hash])?.unwrap();
        Some(text.split_once('=').unwrap().1.trim().replace(':', "").to_ascii_lowercase())
    };
    let Some(sha1) = shown("-sha1") else { return };
    assert_eq!(leaf.fingerprint_sha1().to_string(), sha1);
    assert_eq!(Some(leaf.fingerprint().to_string()), shown("-sha256"));
    assert_eq!(sha1.to_uppercase().parse(), Ok(leaf.fingerprint_sha1()));
    for bad in ["", "00", &sha1[1..], &format!("{sha1}0"), &format!("{sha1}00"), &format!("g{}", &sha1[1..])] {
        assert!(bad.parse::<Sha1Fingerprint>().is_err(), "{bad}");
    }
}

#[test]
fn chains_and_bundles_survive_their_files_with_whatever_stands_between_the_blocks() {
    let ca = Ca::new(KeyKind::P256);
    let own = key(KeyKind::P256);
    let chain = ca.leaf(&own, "r1", &Sans::default(), Profile::Client);
    assert_eq!(Chain::from_pem(chain.to_pem().as_bytes()).unwrap(), chain);
    assert_eq!(chain.intermediates(), [ca.signer.certificate().clone()]);
    assert_eq!(chain.to_rustls().len(), 2);
    // The blank lines of upstream's `ca`, openssl's talk, CRLF, a key in the same file, the root at the end.
    let untidy = format!(
        "\n\nsubject=CN = r1\n{}\r\n\r\n{}{}\n{}",
        chain.leaf().to_pem().replace('\n', "\r\n"),
        *own.to_pem().unwrap(),
        ca.signer.certificate().to_pem(),
        ca.root.certificate().to_pem()
    );
    assert_eq!(Chain::from_pem(untidy.as_bytes()).unwrap(), chain, "the root is no part of a chain");
    // Duplicates and the leaf are no part of a bundle.
    let bundle = TrustBundle::from_pem(format!("{untidy}\n{untidy}").as_bytes()).unwrap();
    assert_eq!(bundle.certificates(), [ca.signer.certificate().clone(), ca.root.certificate().clone()]);
    assert_eq!(TrustBundle::from_pem(bundle.to_pem().as_bytes()).unwrap(), bundle);
    assert!(matches!(TrustBundle::from_pem(chain.leaf().to_pem().as_bytes()), Err(ChainError::NotACa { .. })));
}

#[test]
fn a_damaged_block_is_an_error_wherever_it_stands() {
    let ca = Ca::new(KeyKind::P256);
    let chain = ca.leaf(&key(KeyKind::P256), "r1", &Sans::default(), Profile::Client);
    let whole = chain.to_pem();
    let second = chain.leaf().to_pem().len();
    for cut in [whole.len() - 3, whole.len() - 40, second + 100, second / 2, 10] {
        assert!(Chain::from_pem(&whole.as_bytes()[..cut]).is_err(), "{cut}");
    }
    // One flipped character in the second block: still base64, no longer a certificate or no longer the same one.
    let mut flipped = whole.clone().into_bytes();
    flipped[second + 40] = if flipped[second + 40] == b'A' { b'B' } else { b'A' };
    assert_ne!(Chain::from_pem(&flipped).ok(), Some(chain.clone()));
    let garbage = format!("{}-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", chain.leaf().to_pem());
    for result in [Chain::from_pem(garbage.as_bytes()).err(), TrustBundle::from_pem(garbage.as_bytes()).err()] {
        assert!(matches!(result, Some(ChainError::Certificate(CertificateError::NotACertificate { .. }))));
    }
    assert_eq!(Chain::from_pem(b"").err(), Some(ChainError::Empty));
    assert_eq!(TrustBundle::from_pem(b"hello\n").err(), Some(ChainError::Empty));
    assert!(matches!(Certificate::from_pem(whole.as_bytes()), Err(CertificateError::NotOne { found: 2 })));
    assert_eq!(Certificate::from_pem(chain.leaf().to_pem().as_bytes()).as_ref(), Ok(chain.leaf()));
    let mut longer = chain.leaf().der().to_vec();
    longer.push(0);
    assert!(Certificate::from_der(&longer).is_err());
}

#[test]
fn what_is_too_much_is_refused_before_it_is_read() {
    let ca = Ca::new(KeyKind::P256);
    let signer = ca.signer.certificate().to_pem();
    let many = signer.repeat(MAX_CHAIN_CERTIFICATES + 1);
    assert!(matches!(Chain::from_pem(many.as_bytes()), Err(ChainError::TooMany { .. })));
    let huge = vec![b' '; MAX_CERTIFICATES_PEM_BYTES + 1];
    let too_long = ChainError::Certificate(CertificateError::Pem(PemError::TooLong {
        found_bytes: MAX_CERTIFICATES_PEM_BYTES + 1,
        limit_bytes: MAX_CERTIFICATES_PEM_BYTES,
    }));
    assert_eq!(Chain::from_pem(&huge).err(), Some(too_long.clone()));
    assert_eq!(TrustBundle::from_pem(&huge).err(), Some(too_long));
    assert!(PrivateKey::from_pem(&[b'x'; 100_000]).is_err());
}

#[test]
fn cacerts_survive_the_wire_and_openssl_reads_them() {
    let (one, two) = (Ca::new(KeyKind::P256), Ca::new(KeyKind::Rsa { bits: 2048 }));
    let bundle = TrustBundle::new([
        one.root.certificate().clone(),
        one.signer.certificate().clone(),
        two.root.certificate().clone(),
    ])
    .unwrap();
    let body = pki::encode_cacerts(&bundle).unwrap();
    assert!(body.lines().all(|line| line.len() <= 64) && body.ends_with('\n'));
    assert_eq!(pki::decode_cacerts(body.as_bytes()).unwrap(), bundle);
    let folder = tempfile::tempdir().unwrap();
    let text = format!("-----BEGIN PKCS7-----\n{body}-----END PKCS7-----\n");
    put(folder.path(), "ca.p7b", &text);
    let Some(shown) = openssl(folder.path(), &["pkcs7", "-in", "ca.p7b", "-print_certs"]) else { return };
    assert_eq!(TrustBundle::from_pem(shown.unwrap().as_bytes()).unwrap(), bundle);
    // And the other way round.
    put(folder.path(), "ca.pem", &bundle.to_pem());
    let made = openssl(folder.path(), &["crl2pkcs7", "-nocrl", "-certfile", "ca.pem"]).unwrap().unwrap();
    let base64: String = made.lines().filter(|line| !line.starts_with("-----")).collect();
    assert_eq!(pki::decode_cacerts(base64.as_bytes()).unwrap(), bundle);
    assert!(pki::decode_cacerts(b"<html>").is_err() && pki::decode_cacerts(b"").is_err());
    assert!(pki::decode_cacerts(b"MAA=").is_err());
}
