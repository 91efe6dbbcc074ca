//! Certificates, requests and tokens, signed with keys that this process throws away.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use lifecycle::{RouterId, UnixTime};
use pki::{
    Attribute, Certificate, Chain, EnrollmentMethod, EnrollmentToken, Issuer, KeyKind, PrivateKey, Profile, Sans,
    Subject, TrustBundle, Validity, build_csr, encode_cacerts, new_intermediate, new_root,
};
use x509_cert::der::{Decode, Encode};
use x509_cert::request::CertReq;

static PAPERS: LazyLock<Papers> = LazyLock::new(papers);

/// Public things only: nothing here holds a key.
struct Papers {
    tokens: Vec<String>,
    requests: Vec<String>,
    certificates: Vec<Certificate>,
    chain: Chain,
    bundle: TrustBundle,
}

pub(super) fn of(target: &str) -> Vec<Vec<u8>> {
    let papers = &*PAPERS;
    let pem = |text: &String| text.clone().into_bytes();
    match target {
        "jwt" => papers.tokens.iter().map(pem).chain(papers.tokens.iter().filter_map(|text| claims(text))).collect(),
        "csr" => papers.requests.iter().map(pem).chain(papers.requests.iter().flat_map(|text| signed(text))).collect(),
        "certificate" => papers.certificates.iter().map(|one| one.der().to_vec()).collect(),
        "pem_bundle" => {
            let answer = encode_cacerts(&papers.bundle).unwrap_or_default();
            vec![pem(&papers.chain.to_pem()), pem(&papers.bundle.to_pem()), answer.into_bytes()]
        }
        // No key: an empty sequence under each label, and patches for the keys of the process that reads them.
        "private_key" => ["PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY", "ENCRYPTED PRIVATE KEY"]
            .iter()
            .map(|label| format!("-----BEGIN {label}-----\nMAA=\n-----END {label}-----\n").into_bytes())
            .chain((0..3_u8).flat_map(|key| [vec![key], vec![key | 0x10, 0, 1], vec![key, 0, 0, 0, 0, 0, 0, 0, 0xff]]))
            .collect(),
        _ => Vec::new(),
    }
}

/// The claims of a token, as the target signs them itself.
fn claims(token: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()
}

/// A request in DER, and the part of it that is signed.
fn signed(request: &str) -> Vec<Vec<u8>> {
    let base64: String = request.lines().filter(|line| !line.starts_with('-')).collect();
    let Ok(der) = STANDARD.decode(base64) else { return Vec::new() };
    let info = CertReq::from_der(&der).ok().and_then(|request| request.info.to_der().ok());
    std::iter::once(der).chain(info).collect()
}

#[expect(clippy::expect_used, reason = "a process that can make no key cannot make seeds")]
fn papers() -> Papers {
    let validity = Validity {
        not_before: UnixTime::from_s(1_700_000_000),
        not_after: UnixTime::from_s(2_000_000_000),
        issuer_ends_soon: None,
    };
    let key = |kind| PrivateKey::generate(kind).expect("a key");
    let root = new_root("throwaway root", key(KeyKind::P256), &validity).expect("a root");
    let issuer: Issuer = new_intermediate(&root, "throwaway", key(KeyKind::P256), &validity).expect("an intermediate");
    let sans = Sans {
        dns: vec!["r.example.org".into(), "*.r.example.org".into()],
        ips: vec![[127, 0, 0, 1].into(), std::net::Ipv6Addr::LOCALHOST.into()],
        uris: vec!["spiffe://example.org/router/router-1".into()],
        emails: vec!["a@example.org".into()],
    };
    let plain = Subject::common_name("router-1").expect("a name");
    let long = [(Attribute::Country, "NO"), (Attribute::Organization, "Example"), (Attribute::OrganizationalUnit, "x")];
    let long = Subject::new("router-1", &long).expect("a name");
    let leaf = key(KeyKind::P256);
    let requests = vec![
        build_csr(&leaf, &plain, &Sans::default()).expect("a request"),
        build_csr(&leaf, &long, &sans).expect("a request"),
        build_csr(&key(KeyKind::P384), &long, &sans).expect("a request"),
    ];
    let issue = |profile| issuer.issue_for(leaf.public(), &long, &sans, profile, &validity).expect("a leaf");
    let (client, server) = (issue(Profile::Client), issue(Profile::Server));
    let token = EnrollmentToken {
        issuer: "https://ctrl.example.org:1280".into(),
        router: RouterId::new("router-1"),
        secret: "00000000-0000-4000-8000-000000000000".to_owned().into(),
        method: EnrollmentMethod::EdgeRouter,
        expires_at: UnixTime::from_s(1_900_000_000),
        controllers: vec!["tls:ctrl.example.org:6262".into()],
    };
    let transit = EnrollmentToken { method: EnrollmentMethod::TransitRouter, controllers: Vec::new(), ..token.clone() };
    let sign = |token: &EnrollmentToken| token.sign(root.key(), root.certificate()).expect("a token").to_string();
    let bundle = TrustBundle::new([root.certificate().clone(), issuer.certificate().clone()]).expect("a bundle");
    Papers {
        tokens: vec![sign(&token), sign(&transit)],
        certificates: vec![
            client.leaf().clone(),
            server.leaf().clone(),
            root.certificate().clone(),
            issuer.certificate().clone(),
        ],
        requests,
        chain: client,
        bundle,
    }
}
