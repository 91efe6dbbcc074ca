//! Enrollment tokens and certificate requests. More of it: `crates/cli/tests/cli/refusals.rs`, `crates/controller/tests/rest/enrollment.rs`.

use std::fs;
use std::io::{Read as _, Write as _};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use pki::{Chain, KeyKind, PrivateKey, Sans, Subject, build_csr};
use serde_json::{Value, json};

use crate::support::{Router, Site, claims, shared, write_config};

fn key() -> PrivateKey {
    PrivateKey::generate(KeyKind::P256).unwrap()
}

fn csr(id: &str, dns: &str) -> String {
    let sans = Sans { dns: vec![dns.to_owned()], ..Sans::default() };
    build_csr(&key(), &Subject::common_name(id).unwrap(), &sans).unwrap()
}

/// The real token with other claims, signed with the controller's own key: only what is in it can give it away.
fn resigned(site: &Site, token: &str, change: impl FnOnce(&mut Value)) -> String {
    let key = PrivateKey::from_pem(&fs::read(site.path("ctrl/pki/key.pem")).unwrap()).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &key.to_pkcs8().unwrap()).unwrap();
    let mut claims = claims(token);
    change(&mut claims);
    let head = format!("{}.{}", token.split('.').next().unwrap(), URL_SAFE_NO_PAD.encode(claims.to_string()));
    let signature = pair.sign(&SystemRandom::new(), head.as_bytes()).unwrap();
    format!("{head}.{}", URL_SAFE_NO_PAD.encode(signature))
}

#[test]
fn a_token_that_lies_is_refused_by_name_and_the_real_one_still_works() {
    let site = shared();
    let router = Router::created(&site, "token");
    let real = fs::read_to_string(site.path("token.jwt")).unwrap();
    let secret = site.secret("token");
    let enroll = |text: &str| {
        fs::write(site.path("token-changed.jwt"), text).unwrap();
        let told = router.run(&["router", "enroll", &router.config(), "--jwt", "token-changed.jwt"]);
        assert!(!told.stderr.contains(&secret), "{told:#?}");
        told
    };
    enroll(&resigned(&site, &real, |claims| claims["exp"] = json!(1_000_000_000))).fails(3, &["expired", "clock"]);
    enroll(&resigned(&site, &real, |claims| claims["em"] = json!("ott"))).fails(3, &["`ott`"]);
    enroll(&resigned(&site, &real, |claims| claims["em"] = json!("carrier-pigeon"))).fails(3, &["carrier-pigeon"]);
    enroll(&resigned(&site, &real, |claims| claims["sub"] = json!("somebody-else")))
        .fails(6, &["COULD_NOT_PROCESS_CSR", "somebody-else"]);
    let forged = real.trim().rsplit_once('.').unwrap().0.to_owned() + "." + &"A".repeat(86);
    enroll(&forged).fails(3, &["signature"]);
    // None of them cost the real one anything.
    router.enroll().ok();
    router.admitted().terminate();
}

#[test]
fn a_reused_token_and_one_for_another_router_harm_neither() {
    let site = shared();
    let first = Router::enrolled(&site, "reused");
    first.admitted().terminate();
    // The same token on another machine.
    write_config(site.home.path(), "copycat", "");
    site.run(&["router", "enroll", "copycat.yml", "--jwt", "reused.jwt"])
        .fails(6, &["INVALID_ENROLLMENT_TOKEN", "re-enroll"]);
    // Another router's token on this machine.
    let second = Router::created(&site, "second");
    let told = site.run(&["router", "enroll", &first.config(), "--jwt", "second.jwt"]);
    told.fails(3, &[&first.id, &second.id, "--force"]);
    first.admitted().terminate();
    second.enroll().ok();
    second.admitted().terminate();
}

/// One element of DER.
fn der(tag: u8, content: &[&[u8]]) -> Vec<u8> {
    let content = content.concat();
    let mut out = vec![tag];
    match (u8::try_from(content.len()), u16::try_from(content.len())) {
        (Ok(short), _) if short < 128 => out.push(short),
        (Ok(byte), _) => out.extend([0x81, byte]),
        (_, length) => {
            out.push(0x82);
            out.extend(length.unwrap().to_be_bytes());
        }
    }
    out.extend(content);
    out
}

/// A request that asks to become a CA: basicConstraints CA:TRUE and keyUsage keyCertSign, both critical.
fn csr_of_a_would_be_ca(id: &str) -> String {
    use aws_lc_rs::signature::KeyPair as _;
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &key().to_pkcs8().unwrap()).unwrap();
    let oid = |bytes: &[u8]| der(0x06, &[bytes]);
    let common_name = der(0x30, &[&oid(&[0x55, 4, 3]), &der(0x0c, &[id.as_bytes()])]);
    let name = der(0x30, &[&der(0x31, &[&common_name])]);
    let curve =
        der(0x30, &[&oid(&[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1]), &oid(&[0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7])]);
    let public = der(0x30, &[&curve, &der(0x03, &[&[0], pair.public_key().as_ref()])]);
    let extension = |id: u8, value: &[u8]| der(0x30, &[&oid(&[0x55, 0x1d, id]), &[1, 1, 0xff], &der(0x04, &[value])]);
    let extensions = der(0x30, &[&extension(19, &[0x30, 3, 1, 1, 0xff]), &extension(15, &[3, 2, 2, 4])]);
    let asked = oid(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 14]);
    let attributes = der(0xa0, &[&der(0x30, &[&asked, &der(0x31, &[&extensions])])]);
    let info = der(0x30, &[&[2, 1, 0], &name, &public, &attributes]);
    let signature = pair.sign(&SystemRandom::new(), &info).unwrap();
    let algorithm = der(0x30, &[&oid(&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2])]);
    let whole = der(0x30, &[&info, &algorithm, &der(0x03, &[&[0], signature.as_ref()])]);
    let text = STANDARD.encode(whole);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n", lines.join("\n"))
}

#[test]
fn a_request_for_another_router_or_with_a_foreign_name_is_refused_and_the_token_is_not_spent() {
    let site = Site::new("  sans: {dns: [localhost]}\n", &[]);
    let router = Router::created(&site, "asker");
    let victim = Router::enrolled(&site, "victim");
    let secret = site.secret("asker");
    let refused = |answer: net::http::HttpAnswer, code: &str| {
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        assert_eq!(answer.status.as_u16() / 100, 4, "{text}");
        assert!(text.contains(code), "{text}");
    };
    let good = csr(&router.id, "localhost");
    let stolen = csr(&victim.id, "localhost");
    refused(site.enroll_by_hand("erott", &secret, &stolen, &stolen), "COMMON_NAME_INVALID");
    let foreign = csr(&router.id, "bank.example.com");
    refused(site.enroll_by_hand("erott", &secret, &foreign, &foreign), "bank.example.com");
    refused(site.enroll_by_hand("carrier-pigeon", &secret, &good, &good), "INVALID_ENROLL_METHOD");
    // Whoever sends all of it may find the connection closed before it can read the answer.
    if let Ok(answer) = site.try_to_enroll_by_hand("erott", &secret, &"A".repeat(10 << 20), &good) {
        assert_eq!(answer.status.as_u16(), 413);
    }
    // By the program itself: what it asks for is in its configuration.
    let text = fs::read_to_string(site.path(&router.config())).unwrap();
    fs::write(site.path(&router.config()), text.replace("dns: [localhost]", "dns: [bank.example.com]")).unwrap();
    router.enroll().fails(6, &["bank.example.com", "hint: "]);
    fs::write(site.path(&router.config()), text).unwrap();
    router.enroll().ok();
    router.admitted().terminate();
    victim.admitted().terminate();
}

#[test]
fn a_server_request_in_another_routers_name_gets_a_leaf_in_the_own_name() {
    let site = shared();
    let (router, victim) = (Router::created(&site, "two-names"), Router::created(&site, "named"));
    let (own, stolen) = (csr(&router.id, "localhost"), csr(&victim.id, "localhost"));
    let answer = site.enroll_by_hand("erott", &site.secret("two-names"), &own, &stolen);
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(answer.status.as_u16(), 200, "{body}");
    let chain = Chain::from_pem(body["data"]["serverCert"].as_str().unwrap().as_bytes()).unwrap();
    assert_eq!(chain.leaf().cn(), Some(router.id.as_str()));
    victim.enroll().ok();
}

#[test]
fn a_request_to_become_a_ca_gets_an_ordinary_leaf() {
    let site = shared();
    let router = Router::created(&site, "would-be-ca");
    let request = csr_of_a_would_be_ca(&router.id);
    let answer = site.enroll_by_hand("erott", &site.secret("would-be-ca"), &request, &request);
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(answer.status.as_u16(), 200, "{body}");
    for name in ["cert", "serverCert"] {
        let chain = Chain::from_pem(body["data"][name].as_str().unwrap().as_bytes()).unwrap();
        assert!(!chain.leaf().is_ca(), "{name}");
        assert_eq!(chain.leaf().cn(), Some(router.id.as_str()));
    }
}

#[test]
fn a_body_over_a_mebibyte_is_refused_before_it_is_read() {
    let site = shared();
    let mut stream = site.tls(site.api_port, b"http/1.1", None);
    let head = format!(
        "POST /edge/client/v1/enroll?method=erott&token=x HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        10 << 20
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.flush().unwrap();
    // Not one byte of the body was sent, and the answer is there.
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
    site.run(&["fleet", "list"]).ok();
}
