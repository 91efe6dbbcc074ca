//! From a request to a leaf: what is in it, what is not, and who accepts it.

use core::time::Duration;

use crate::support::{Ca, HOUR, KINDS, NOW, every_kind_of_san, key, openssl, put, router, span};
use lifecycle::UnixTime;
use pki::{
    Attribute, Certificate, Csr, IssueError, Issuer, IssuerEndsSoon, IssuerError, KeyKind, Profile, Sans, Subject,
    TrustBundle, Usage, ValidityError, build_csr, new_intermediate, new_root, validate_chain, validity,
};

#[test]
fn every_kind_of_key_gets_leaves_that_validate_under_every_kind_of_ca() {
    for ca_kind in KINDS {
        let ca = Ca::new(ca_kind);
        for kind in KINDS {
            let key = key(kind);
            for (profile, usage, other) in
                [(Profile::Client, Usage::Client, Usage::Server), (Profile::Server, Usage::Server, Usage::Client)]
            {
                let chain = ca.leaf(&key, "r1", &every_kind_of_san(), profile);
                let leaf = validate_chain(&chain.to_rustls(), &ca.bundle(), NOW, usage).unwrap();
                assert_eq!(leaf.cn(), Some("r1"));
                assert_eq!(leaf.sans(), &every_kind_of_san());
                assert!(key.matches(&leaf) && !leaf.is_ca());
                assert_eq!(leaf.facts().life(), HOUR * 10);
                assert!(validate_chain(&chain.to_rustls(), &ca.bundle(), NOW, Usage::Any).is_ok());
                assert!(validate_chain(&chain.to_rustls(), &ca.bundle(), NOW, other).is_err());
            }
        }
    }
}

#[test]
fn openssl_accepts_our_chains_and_requests_and_sees_the_promised_profile() {
    for kind in KINDS {
        let folder = tempfile::tempdir().unwrap();
        let ca = Ca::new(kind);
        let key = key(kind);
        let text = build_csr(&key, &Subject::common_name("r1").unwrap(), &every_kind_of_san()).unwrap();
        let chain = ca.leaf(&key, "r1", &every_kind_of_san(), Profile::Client);
        put(folder.path(), "csr.pem", &text);
        put(folder.path(), "root.pem", &ca.bundle().to_pem());
        put(folder.path(), "signer.pem", &ca.signer.to_pem());
        put(folder.path(), "leaf.pem", &chain.leaf().to_pem());
        put(folder.path(), "key.pem", &key.to_pem().unwrap());
        let at = NOW.as_s().to_string();
        let Some(verified) = openssl(
            folder.path(),
            &[
                "verify",
                "-x509_strict",
                "-purpose",
                "sslclient",
                "-attime",
                &at,
                "-CAfile",
                "root.pem",
                "-untrusted",
                "signer.pem",
                "leaf.pem",
            ],
        ) else {
            return;
        };
        assert_eq!(verified.as_deref(), Ok("leaf.pem: OK\n"), "{kind}");
        let as_server = [
            "verify",
            "-purpose",
            "sslserver",
            "-attime",
            &at,
            "-CAfile",
            "root.pem",
            "-untrusted",
            "signer.pem",
            "leaf.pem",
        ];
        assert!(openssl(folder.path(), &as_server).unwrap().is_err());
        openssl(folder.path(), &["req", "-in", "csr.pem", "-verify", "-noout"]).unwrap().unwrap();
        openssl(folder.path(), &["pkey", "-in", "key.pem", "-check", "-noout"]).unwrap().unwrap();
        let shown = openssl(
            folder.path(),
            &[
                "x509",
                "-in",
                "leaf.pem",
                "-noout",
                "-subject",
                "-issuer",
                "-startdate",
                "-enddate",
                "-ext",
                "keyUsage,extendedKeyUsage,subjectAltName,basicConstraints",
            ],
        )
        .unwrap()
        .unwrap();
        let usages = if matches!(kind, KeyKind::Rsa { .. }) {
            "Digital Signature, Key Encipherment"
        } else {
            "Digital Signature"
        };
        let expected = format!(
            "subject=CN = r1\nissuer=CN = Test Signer\nnotBefore=Dec 31 23:00:00 2029 GMT\nnotAfter=Jan  1 09:00:00 2030 GMT\n\
             X509v3 Key Usage: critical\n    {usages}\n\
             X509v3 Extended Key Usage: \n    TLS Web Client Authentication\n\
             X509v3 Subject Alternative Name: \n    DNS:router.example.com, DNS:*.links.example.com, email:ops@example.com, \
             IP Address:127.0.0.1, IP Address:FD00:0:0:0:0:0:0:1, URI:spiffe://example.com/router/r1\n"
        );
        assert_eq!(shown, expected);
    }
}

#[test]
fn only_names_and_key_are_taken_from_a_request() {
    // What an impostor would ask for.
    let mut asked = rcgen::CertificateParams::new(vec!["a.example.com".to_owned()]).unwrap();
    asked.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
    asked.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::Any];
    asked.distinguished_name.push(rcgen::DnType::CommonName, "impostor");
    asked.distinguished_name.push(rcgen::DnType::OrganizationName, "Org");
    asked.distinguished_name.push(rcgen::DnType::OrganizationalUnitName, "");
    asked.distinguished_name.push(rcgen::DnType::LocalityName, "x".repeat(65));
    let text = asked.serialize_request(&rcgen::KeyPair::generate().unwrap()).unwrap().pem().unwrap();
    let leaf = issued_as_r1(&text);
    assert_eq!(leaf.subject_text(), "CN=r1,O=Org");
    assert_eq!(leaf.sans().dns, ["a.example.com"]);
}

#[test]
fn a_request_to_become_a_ca_gets_a_leaf() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = [
        "req",
        "-new",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-keyout",
        "key.pem",
        "-out",
        "csr.pem",
        "-subj",
        "/CN=impostor",
        "-addext",
        "basicConstraints=critical,CA:TRUE",
        "-addext",
        "keyUsage=keyCertSign",
        "-addext",
        "subjectAltName=DNS:a,dirName:dir",
        "-addext",
        "1.2.3.4=DER:0500",
        "-config",
        "openssl.cnf",
    ];
    put(folder.path(), "openssl.cnf", "[req]\ndistinguished_name=dn\n[dn]\n[dir]\nCN=root\n");
    let Some(made) = openssl(folder.path(), &arguments) else { return };
    made.unwrap();
    let leaf = issued_as_r1(&std::fs::read_to_string(folder.path().join("csr.pem")).unwrap());
    assert_eq!(leaf.sans(), &Sans { dns: vec!["a".to_owned()], ..Sans::default() });
}

fn issued_as_r1(text: &str) -> Certificate {
    let ca = Ca::new(KeyKind::P256);
    let csr = Csr::from_pem(text.as_bytes()).unwrap();
    assert!(csr.check_router(&router("r1")).is_err());
    let chain = ca.signer.issue(&csr, "r1", Profile::Server, &span(NOW, HOUR)).unwrap();
    let leaf = chain.leaf().clone();
    assert!(!leaf.is_ca() && !leaf.serves_clients() && leaf.serves_servers());
    assert_eq!(leaf.extended_key_usages(), Some(vec!["1.3.6.1.5.5.7.3.1".to_owned()]));
    leaf
}

#[test]
fn a_subject_travels_from_configuration_to_leaf() {
    let ca = Ca::new(KeyKind::P256);
    let key = key(KeyKind::P256);
    let attributes = [
        (Attribute::Country, "DE"),
        (Attribute::State, ""),
        (Attribute::Organization, "Müller & Co"),
        (Attribute::OrganizationalUnit, "one"),
        (Attribute::OrganizationalUnit, "two"),
    ];
    let text = build_csr(&key, &Subject::new("r1", &attributes).unwrap(), &Sans::default()).unwrap();
    let csr = Csr::from_pem(text.as_bytes()).unwrap();
    let chain = ca.signer.issue(&csr, "r1", Profile::Client, &span(NOW, HOUR)).unwrap();
    assert_eq!(chain.leaf().subject_text(), "CN=r1,OU=two,OU=one,O=Müller & Co,C=DE");
    let again = build_csr(&key, &Subject::of(chain.leaf()), &Sans::default()).unwrap();
    assert!(Csr::from_pem(again.as_bytes()).unwrap().asks_the_same_as(&csr));
    assert!(Subject::common_name("").is_err() && Subject::common_name(&"x".repeat(65)).is_err());
}

#[test]
fn an_imported_ca_with_repeated_name_parts_issues_chains_that_validate() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = [
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-384",
        "-nodes",
        "-keyout",
        "key.pem",
        "-out",
        "ca.pem",
        "-days",
        "36500",
        "-subj",
        "/O=Org/OU=one/OU=two/CN=Imported",
    ];
    let Some(made) = openssl(folder.path(), &arguments) else { return };
    made.unwrap();
    let certificate = Certificate::from_pem(&std::fs::read(folder.path().join("ca.pem")).unwrap()).unwrap();
    let key_text = std::fs::read(folder.path().join("key.pem")).unwrap();
    let issuer = Issuer::new(certificate.clone(), &[], pki::PrivateKey::from_pem(&key_text).unwrap()).unwrap();
    let router_key = key(KeyKind::P256);
    let at = certificate.not_before().plus(HOUR);
    let chain = issuer
        .issue_for(
            router_key.public(),
            &Subject::common_name("r1").unwrap(),
            &Sans::default(),
            Profile::Client,
            &span(at, HOUR),
        )
        .unwrap();
    assert!(chain.intermediates().is_empty(), "a root is not presented");
    assert_eq!(chain.leaf().issuer_text(), certificate.subject_text());
    let bundle = TrustBundle::new([certificate]).unwrap();
    validate_chain(&chain.to_rustls(), &bundle, at, Usage::Client).unwrap();
    put(folder.path(), "leaf.pem", &chain.to_pem());
    let at = at.as_s().to_string();
    openssl(folder.path(), &["verify", "-attime", &at, "-CAfile", "ca.pem", "leaf.pem"]).unwrap().unwrap();
}

#[test]
fn no_leaf_outlives_anything_above_it() {
    let root = new_root("Root", key(KeyKind::P256), &span(NOW, HOUR * 5)).unwrap();
    // An intermediate that outlives its root cannot come from here.
    let longer = new_intermediate(&root, "Signer", key(KeyKind::P256), &span(NOW, HOUR * 6));
    assert!(matches!(longer, Err(IssueError::OutlivesIssuer { .. })));
    let signer = new_intermediate(&root, "Signer", key(KeyKind::P256), &span(NOW, HOUR * 5)).unwrap();
    assert_eq!(signer.not_after(), NOW.plus(HOUR * 5));
    let subject = Subject::common_name("r1").unwrap();
    let issue = |life| {
        signer.issue_for(key(KeyKind::P256).public(), &subject, &Sans::default(), Profile::Client, &span(NOW, life))
    };
    assert!(issue(HOUR * 5).is_ok());
    assert!(matches!(issue(HOUR * 5 + Duration::from_secs(1)), Err(IssueError::OutlivesIssuer { .. })));
    assert_eq!(issue(Duration::ZERO).err(), Some(IssueError::BadValidity));
}

#[test]
fn validity_is_backdated_clamped_warned_about_and_at_last_refused() {
    let day = HOUR * 24;
    let far = NOW.plus(day * 1000);
    let usual = validity(NOW, day * 90, far).unwrap();
    assert_eq!((usual.not_before, usual.not_after), (NOW.minus(Duration::from_secs(60)), NOW.plus(day * 90)));
    assert_eq!(usual.issuer_ends_soon, None);
    let short = validity(NOW, Duration::from_secs(60), far).unwrap();
    assert_eq!(short.not_before, NOW.minus(Duration::from_secs(6)));
    let end = NOW.plus(day * 89);
    let clamped = validity(NOW, day * 90, end).unwrap();
    assert_eq!(clamped.not_after, end);
    assert_eq!(
        clamped.issuer_ends_soon,
        Some(IssuerEndsSoon { issuer_not_after: end, refuses_from: end.minus(day * 9) })
    );
    assert!(validity(NOW, day * 90, NOW.plus(day * 9)).is_ok());
    let late = NOW.plus(day * 9).minus(Duration::from_millis(1));
    assert!(matches!(validity(NOW, day * 90, late), Err(ValidityError::IssuerEnds { .. })));
    assert!(matches!(validity(NOW, day * 90, NOW.minus(day)), Err(ValidityError::IssuerEnds { .. })));
    assert!(matches!(validity(NOW, Duration::ZERO, far), Err(ValidityError::TooShort { .. })));
}

#[test]
fn dates_beyond_2049_survive() {
    // 2049-12-31 23:59:59 and one second later: UTCTime ends here.
    for not_before in [2_524_607_999, 2_524_608_000] {
        let not_before = UnixTime::from_s(not_before);
        let root = new_root("Root", key(KeyKind::P256), &span(not_before, HOUR * 24 * 3650)).unwrap();
        let certificate = root.certificate();
        assert_eq!(certificate.facts().not_before, not_before);
        assert_eq!(certificate.facts().life(), HOUR * 24 * 3650);
        let generalized = certificate.der().windows(6).any(|bytes| bytes == b"\x18\x0f2050");
        assert_eq!(generalized, not_before.as_s() == 2_524_608_000);
    }
}

#[test]
fn serial_numbers_are_positive_long_and_never_the_same() {
    let ca = Ca::new(KeyKind::P256);
    let key = key(KeyKind::P256);
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..50 {
        let chain = ca.leaf(&key, "r1", &Sans::default(), Profile::Client);
        let parsed = serial_number::parse(chain.leaf().der());
        assert!(parsed.len() <= 16 && !parsed.is_empty() && parsed[0] & 0x80 == 0);
        assert!(seen.insert(parsed));
    }
}

/// The serial number, read without the code under test: after `SEQUENCE, SEQUENCE, [0] version` comes the INTEGER.
mod serial_number {
    pub(crate) fn parse(der: &[u8]) -> Vec<u8> {
        let start = der.windows(5).position(|bytes| bytes == [0xa0, 3, 2, 1, 2]).unwrap() + 5;
        assert_eq!(der[start], 2);
        let length = usize::from(der[start + 1]);
        der[start + 2..start + 2 + length].to_vec()
    }
}

#[test]
fn a_signer_must_own_its_key_and_be_a_ca() {
    let ca = Ca::new(KeyKind::P256);
    let wrong = Issuer::new(ca.signer.certificate().clone(), &[], key(KeyKind::P256));
    assert!(matches!(wrong, Err(IssuerError::WrongKey { .. })));
    let own = key(KeyKind::P256);
    let leaf = ca.leaf(&own, "r1", &Sans::default(), Profile::Server);
    assert!(matches!(Issuer::new(leaf.leaf().clone(), &[], own), Err(IssuerError::NotACa { .. })));
}

#[test]
fn a_signers_chain_is_found_in_any_order_and_stops_before_the_root() {
    let ca = Ca::new(KeyKind::P256);
    let other = Ca::new(KeyKind::P384);
    let mixed = [other.root.certificate().clone(), ca.root.certificate().clone(), other.signer.certificate().clone()];
    let key_text = ca.signer.key().to_pem().unwrap();
    let again =
        Issuer::new(ca.signer.certificate().clone(), &mixed, pki::PrivateKey::from_pem(key_text.as_bytes()).unwrap())
            .unwrap();
    let chain = again
        .issue_for(
            key(KeyKind::P256).public(),
            &Subject::common_name("r").unwrap(),
            &Sans::default(),
            Profile::Client,
            &span(NOW, HOUR),
        )
        .unwrap();
    assert_eq!(chain.intermediates(), [ca.signer.certificate().clone()]);
    assert_eq!(again.to_pem(), ca.signer.certificate().to_pem());
}

#[test]
fn a_signers_file_may_hold_its_whole_chain_and_the_root_bounds_the_life_too() {
    let ca = Ca::new(KeyKind::P256);
    let file = format!("{}{}", ca.signer.to_pem(), ca.root.to_pem());
    let key_text = ca.signer.key().to_pem().unwrap();
    let own = || pki::PrivateKey::from_pem(key_text.as_bytes()).unwrap();
    let again = Issuer::from_pem(file.as_bytes(), &[], own()).unwrap();
    assert_eq!(again.to_pem(), ca.signer.to_pem());
    assert_eq!(again.not_after(), ca.signer.not_after());
    assert!(matches!(Issuer::from_pem(b"", &[], own()), Err(IssuerError::Chain(_))));
    // A root that ends before the intermediate below it, as openssl would make one.
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, "Short Root");
    params.not_after = rcgen::date_time_ymd(2031, 1, 1);
    let root = rcgen::CertifiedIssuer::self_signed(params.clone(), rcgen::KeyPair::generate().unwrap()).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, "Long Signer");
    params.not_after = rcgen::date_time_ymd(2041, 1, 1);
    let signer_key = rcgen::KeyPair::generate().unwrap();
    let signer = params.signed_by(&signer_key, &root).unwrap();
    let file = format!("{}{}", signer.pem(), root.pem());
    let signer_key = pki::PrivateKey::from_pem(signer_key.serialize_pem().as_bytes()).unwrap();
    let issuer = Issuer::from_pem(file.as_bytes(), &[], signer_key).unwrap();
    assert_eq!(issuer.not_after(), UnixTime::from_s(1_924_992_000), "2031-01-01, the root's end");
}
