//! Enrollment tokens: made as OpenZiti makes them, and what is refused.

use base64::Engine as _;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use lifecycle::UnixTime;
use pki::{
    Certificate, EnrollmentMethod, EnrollmentToken, KeyKind, MAX_TOKEN_BYTES, PrivateKey, Profile, Sans, TokenError,
    peek_issuer,
};
use serde_json::{Value, json};
use x509_cert::der::Encode as _;
use x509_cert::der::asn1::UintRef;
use zeroize::Zeroizing;

use crate::support::{Ca, HOUR, KINDS, NOW, key, openssl, put, router};

fn token() -> EnrollmentToken {
    EnrollmentToken {
        issuer: "https://ctrl.example.com:1280".to_owned(),
        router: router("r1"),
        secret: Zeroizing::new("0b1f2a3c-1111-4222-8333-123456789abc".to_owned()),
        method: EnrollmentMethod::EdgeRouter,
        expires_at: NOW.plus(HOUR * 3),
        controllers: vec!["tls:ctrl.example.com:6262".to_owned(), "tls:ctrl2.example.com:6262".to_owned()],
    }
}

fn server(kind: KeyKind) -> (PrivateKey, Certificate) {
    let own = key(kind);
    let leaf = Ca::new(KeyKind::P256).leaf(&own, "ctrl", &Sans::default(), Profile::Server).leaf().clone();
    (own, leaf)
}

fn part(text: &str, index: usize) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text.split('.').nth(index).unwrap()).unwrap()
}

#[test]
fn a_token_survives_the_round_trip_with_every_kind_of_key() {
    for (kind, algorithm) in KINDS.into_iter().zip(["ES256", "ES384", "ES512", "RS256"]) {
        let (own, leaf) = server(kind);
        let text = token().sign(&own, &leaf).unwrap();
        assert_eq!(EnrollmentToken::verify(&text, &leaf, NOW), Ok(token()));
        assert_eq!(EnrollmentToken::verify(&format!("\n {} \n", *text), &leaf, NOW), Ok(token()));
        assert_eq!(peek_issuer(&text), Ok(token().issuer));
        let header: Value = serde_json::from_slice(&part(&text, 0)).unwrap();
        assert_eq!(header, json!({"alg": algorithm, "typ": "JWT", "kid": leaf.fingerprint_sha1().to_string()}));
        let claims: Value = serde_json::from_slice(&part(&text, 1)).unwrap();
        assert_eq!(
            claims,
            json!({
                "iss": "https://ctrl.example.com:1280", "sub": "r1", "aud": [""], "em": "erott",
                "exp": NOW.plus(HOUR * 3).as_s(), "jti": "0b1f2a3c-1111-4222-8333-123456789abc",
                "ctrls": ["tls:ctrl.example.com:6262", "tls:ctrl2.example.com:6262"],
            })
        );
    }
}

#[test]
fn openssl_agrees_with_the_signatures() {
    for (kind, hash) in KINDS.into_iter().zip(["-sha256", "-sha384", "-sha512", "-sha256"]) {
        let (own, leaf) = server(kind);
        let text = token().sign(&own, &leaf).unwrap();
        let mut signature = part(&text, 2);
        if !matches!(kind, KeyKind::Rsa { .. }) {
            let (r, s) = signature.split_at(signature.len() / 2);
            let numbers =
                [UintRef::new(r).unwrap().to_der().unwrap(), UintRef::new(s).unwrap().to_der().unwrap()].concat();
            let length = u8::try_from(numbers.len()).unwrap();
            let head = if length < 128 { vec![0x30, length] } else { vec![0x30, 0x81, length] };
            signature = [head, numbers].concat();
        }
        let folder = tempfile::tempdir().unwrap();
        put(folder.path(), "leaf.pem", &leaf.to_pem());
        put(folder.path(), "signed", text.rsplit_once('.').unwrap().0);
        std::fs::write(folder.path().join("signature"), signature).unwrap();
        let Some(made) = openssl(folder.path(), &["x509", "-in", "leaf.pem", "-pubkey", "-noout", "-out", "key.pub"])
        else {
            return;
        };
        made.unwrap();
        let verified =
            openssl(folder.path(), &["dgst", hash, "-verify", "key.pub", "-signature", "signature", "signed"]);
        assert_eq!(verified.unwrap().as_deref(), Ok("Verified OK\n"), "{kind}");
    }
}

/// A token with this header and these claims, properly signed by `own`.
fn signed(own: &PrivateKey, leaf: &Certificate, header: &Value, claims: &Value) -> String {
    let head = URL_SAFE_NO_PAD.encode(header.to_string());
    let body = URL_SAFE_NO_PAD.encode(claims.to_string());
    let message = format!("{head}.{body}");
    let pkcs8 = own.to_pkcs8().unwrap();
    let pair =
        aws_lc_rs::signature::EcdsaKeyPair::from_pkcs8(&aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED_SIGNING, &pkcs8)
            .unwrap();
    assert!(own.matches(leaf));
    let signature = pair.sign(&aws_lc_rs::rand::SystemRandom::new(), message.as_bytes()).unwrap();
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn claims() -> Value {
    json!({"iss": "https://c", "sub": "r1", "aud": [""], "em": "trott", "exp": NOW.plus(HOUR).as_s(), "jti": "x", "ctrls": ["tls:a:1"]})
}

fn with(mut value: Value, name: &str, new: Value) -> Value {
    value[name] = new;
    value
}

#[test]
fn what_the_header_says_decides_nothing() {
    let (own, leaf) = server(KeyKind::P256);
    let good = json!({"alg": "ES256"});
    let check = |header: Value| EnrollmentToken::verify(&signed(&own, &leaf, &header, &claims()), &leaf, NOW);
    assert_eq!(check(good.clone()).map(|token| token.method), Ok(EnrollmentMethod::TransitRouter));
    assert!(check(with(good.clone(), "kid", json!(leaf.fingerprint_sha1().to_string().to_uppercase()))).is_ok());
    for other in ["none", "HS256", "RS256", "ES384", "es256", ""] {
        let refused = check(json!({"alg": other}));
        assert_eq!(refused, Err(TokenError::WrongAlgorithm { found: other.to_owned(), expected: "ES256" }));
    }
    assert!(matches!(check(with(good.clone(), "kid", json!("00"))), Err(TokenError::WrongCertificate { .. })));
    assert_eq!(check(with(good.clone(), "crit", json!(["b64"]))), Err(TokenError::Critical));
    assert!(matches!(check(json!({})), Err(TokenError::Malformed { .. })));
    assert!(matches!(check(json!([])), Err(TokenError::Malformed { .. })));
    assert!(matches!(check(json!({"alg": null})), Err(TokenError::Malformed { .. })));
    // The public key as a shared secret, the classic.
    let message = signed(&own, &leaf, &json!({"alg": "HS256"}), &claims());
    let message = message.rsplit_once('.').unwrap().0;
    let secret = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, leaf.public_key().spki_der());
    let forged = format!("{message}.{}", URL_SAFE_NO_PAD.encode(aws_lc_rs::hmac::sign(&secret, message.as_bytes())));
    assert!(matches!(EnrollmentToken::verify(&forged, &leaf, NOW), Err(TokenError::WrongAlgorithm { .. })));
}

#[test]
fn claims_of_old_and_strange_controllers() {
    let (own, leaf) = server(KeyKind::P256);
    let check =
        |claims: Value| EnrollmentToken::verify(&signed(&own, &leaf, &json!({"alg": "ES256"}), &claims), &leaf, NOW);
    let old = check(with(with(claims(), "ctrl", json!("tls:old:1")), "ctrls", json!(["tls:a:1", "tls:old:1", ""])));
    assert_eq!(old.unwrap().controllers, ["tls:old:1", "tls:a:1"]);
    assert!(check(with(claims(), "ctrls", Value::Null)).unwrap().controllers.is_empty());
    assert!(check(with(claims(), "aud", json!("anything"))).is_ok());
    assert!(check(with(claims(), "unheard", json!({"of": 1}))).is_ok());
    assert_eq!(check(with(claims(), "em", json!("ott"))), Err(TokenError::WrongMethod { found: "ott".to_owned() }));
    for (name, bad) in [
        ("exp", json!("soon")),
        ("exp", Value::Null),
        ("sub", json!(1)),
        ("sub", json!("")),
        ("jti", json!("")),
        ("iss", json!("")),
    ] {
        assert!(matches!(check(with(claims(), name, bad)), Err(TokenError::Malformed { .. })), "{name}");
    }
    let many: Vec<String> = (0..65).map(|n| n.to_string()).collect();
    assert!(matches!(check(with(claims(), "ctrls", json!(many))), Err(TokenError::Malformed { .. })));
}

#[test]
fn a_token_ends_when_it_says() {
    let (own, leaf) = server(KeyKind::P256);
    let text = token().sign(&own, &leaf).unwrap();
    let end = token().expires_at;
    assert!(EnrollmentToken::verify(&text, &leaf, end.minus(core::time::Duration::from_millis(1))).is_ok());
    for at in [end, end.plus(HOUR * 24 * 365)] {
        assert_eq!(EnrollmentToken::verify(&text, &leaf, at), Err(TokenError::Expired { expired_at: end, at }));
    }
    assert!(EnrollmentToken::verify(&text, &leaf, UnixTime::from_s(0)).is_ok(), "a clock that is behind is no reason");
}

#[test]
fn no_other_spelling_of_a_token_is_accepted() {
    for kind in [KeyKind::P256, KeyKind::Rsa { bits: 2048 }] {
        let (own, leaf) = server(kind);
        let text = token().sign(&own, &leaf).unwrap();
        let parts: Vec<&str> = text.split('.').collect();
        let check = |text: &str| EnrollmentToken::verify(text, &leaf, NOW);
        // Every single character changed: never accepted, never a panic.
        for index in (0..text.len()).step_by(7).chain(text.len() - 2..text.len()) {
            let mut bytes = text.as_bytes().to_vec();
            bytes[index] = if bytes[index] == b'A' { b'B' } else { b'A' };
            assert!(check(std::str::from_utf8(&bytes).unwrap()).is_err(), "{index}");
        }
        // Bits that base64 does not use must be zero.
        let last = parts[2].as_bytes()[parts[2].len() - 1];
        let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let place = alphabet.iter().position(|byte| *byte == last).unwrap();
        let twin = format!("{}{}", &text[..text.len() - 1], char::from(alphabet[place ^ 1]));
        assert!(matches!(check(&twin), Err(TokenError::Malformed { .. })));
        let padded = format!("{}.{}.{}", parts[0], parts[1], URL_SAFE.encode(part(&text, 2)));
        assert!(padded.ends_with('=') && matches!(check(&padded), Err(TokenError::Malformed { .. })));
        for bad in [
            String::new(),
            ".".to_owned(),
            "..".to_owned(),
            format!("{}.{}.", parts[0], parts[1]),
            format!("{}.{}", parts[0], parts[1]),
            format!("{}.", *text),
            format!("{}.{}", *text, parts[2]),
            format!("{}\n.{}.{}", parts[0], parts[1], parts[2]),
        ] {
            assert!(matches!(check(&bad), Err(TokenError::Malformed { .. })), "{bad}");
        }
        let long = format!("{}{}", *text, "A".repeat(MAX_TOKEN_BYTES));
        assert!(matches!(check(&long), Err(TokenError::TooLong { .. })));
        assert!(matches!(peek_issuer(&long), Err(TokenError::TooLong { .. })));
        // An ECDSA signature of zeros, and one of the wrong width.
        for width in [0, 1, 63, 64, 65, 96] {
            let forged = format!("{}.{}.{}", parts[0], parts[1], URL_SAFE_NO_PAD.encode(vec![0; width]));
            assert!(check(&forged).is_err());
        }
    }
}

#[test]
fn another_controllers_token_is_refused() {
    let (own, leaf) = server(KeyKind::P256);
    let (other_key, other_leaf) = server(KeyKind::P256);
    let text = token().sign(&other_key, &other_leaf).unwrap();
    assert!(matches!(EnrollmentToken::verify(&text, &leaf, NOW), Err(TokenError::WrongCertificate { .. })));
    // Without `kid` the signature speaks.
    let forged = signed(&other_key, &other_leaf, &json!({"alg": "ES256"}), &claims());
    assert_eq!(EnrollmentToken::verify(&forged, &leaf, NOW), Err(TokenError::BadSignature));
    assert_eq!(token().sign(&own, &other_leaf), Err(TokenError::WrongKey));
}

#[test]
fn the_one_time_secret_is_not_printed() {
    assert!(!format!("{:?}", token()).contains("0b1f2a3c"));
}
