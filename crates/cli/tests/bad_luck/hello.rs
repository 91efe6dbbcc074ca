//! What a peer may say on the control port. More of it: `crates/net/tests/loopback/hostile.rs`, `crates/wire/tests/hostile.rs`.

use std::io::{Read as _, Write as _};
use std::sync::Arc;

use net::tls::ALPN_CONTROL;
use rustls::sign::CertifiedKey;
use wire::hello::{CTRL_DEFAULT, GroupHello, Hello};

use crate::support::{Router, last_words, resident_kib, shared};

fn hello(id: &str) -> Vec<u8> {
    let mut hello = Hello::new(id.to_owned(), "v2.0.3|abc|2026-01-01|linux|amd64".parse().unwrap());
    hello.group = Some(GroupHello::first());
    hello.underlay_type = Some(CTRL_DEFAULT.to_owned());
    hello.to_frame().to_bytes().to_vec()
}

/// The controller answers none of these peers but with a Result, content type 2; a refused stock peer hears nothing.
fn is_admitted(answer: &[u8]) -> bool {
    answer.get(4..8).is_some_and(|content_type| content_type == 2_i32.to_le_bytes())
}

#[test]
fn a_stolen_certificate_behind_the_own_leaf_gets_nobody_in() {
    let site = shared();
    let (thief, victim) = (Router::enrolled(&site, "thief"), Router::enrolled(&site, "robbed"));
    let process = victim.admitted();
    let (own, stolen) = (thief.credentials(1), victim.credentials(1));
    let mut chain = own.client().cert.clone();
    chain.insert(1, stolen.client().cert[0].clone());
    let mixed = Arc::new(CertifiedKey::new(chain, own.client().key.clone()));
    let mut turned = stolen.client().cert.clone();
    turned.insert(1, own.client().cert[0].clone());
    let unproven = Arc::new(CertifiedKey::new(turned, own.client().key.clone()));
    for identity in [mixed, unproven] {
        let mut stream = site.tls(site.ctrl_port, ALPN_CONTROL, Some(identity));
        let _ = stream.write_all(&hello(&victim.id)).and_then(|()| stream.flush());
        let answer = last_words(&mut stream);
        assert!(!is_admitted(&answer), "{answer:?}");
    }
    let shown = site.run(&["fleet", "show", "thief", "--json"]).ok().json();
    assert!(shown["router"]["last_used"].is_null() || !shown.to_string().contains("first-use"), "{shown:#}");
    assert_eq!(victim.status()["controllers"][0]["is_connected"], true);
    assert!(victim.renew() > 1, "the robbed one goes on");
    process.terminate();
    // Under its own name with its own leaf alone it is let in: what is looked at above does tell the difference.
    let mut stream = site.tls(site.ctrl_port, ALPN_CONTROL, Some(own.client().clone()));
    stream.write_all(&hello(&thief.id)).and_then(|()| stream.flush()).unwrap();
    let mut answer = [0; 20];
    stream.read_exact(&mut answer).unwrap();
    assert!(is_admitted(&answer), "{answer:?}");
    drop(stream);
    thief.admitted().terminate();
}

#[test]
fn a_revoked_router_keeps_trying_says_so_and_comes_back_by_a_new_token() {
    let site = shared();
    let router = Router::enrolled(&site, "revoked");
    let mut process = router.admitted();
    site.run(&["fleet", "revoke", "revoked", "--yes"]).ok();
    process.until_told("no controller admits it yet");
    let mut process = {
        process.terminate();
        router.start()
    };
    process.until_logged("refused");
    let told = process.log();
    assert!(told.contains("revoked"), "{told}");
    assert!(told.contains("enroll"), "the remedy is missing: {told}");
    let id = site.run(&["fleet", "re-enroll", "revoked", "--yes", "-o", "revoked-again.jwt"]);
    id.ok();
    // The running daemon takes the token, and is admitted without a restart.
    router.run(&["router", "enroll", &router.config(), "--jwt", "revoked-again.jwt"]).ok();
    process.until_admitted();
    process.terminate();
    router.admitted().terminate();
}

#[test]
fn four_gigabytes_announced_and_every_truncated_hello_cost_the_controller_nothing() {
    let site = shared();
    let router = Router::enrolled(&site, "hostile-peer");
    let process = router.admitted();
    let identity = || Some(router.credentials(1).client().clone());
    let before = resident_kib(site.controller().pid());
    let whole = hello(&router.id);
    // Preamble and type as they are, header length and body length as far as they go: bytes 12 to 20.
    for lengths in [[0xff_u8; 8], [0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff], [0xff, 0xff, 0xff, 0x7f, 0, 0, 0, 0]] {
        let mut frame = whole.clone();
        frame[12..20].copy_from_slice(&lengths);
        let mut stream = site.tls(site.ctrl_port, ALPN_CONTROL, identity());
        stream.write_all(&frame).unwrap();
        let _ = stream.flush();
        let answer = last_words(&mut stream);
        assert!(!is_admitted(&answer), "{answer:?}");
    }
    for length in 0..whole.len() {
        let mut stream = site.tls(site.ctrl_port, ALPN_CONTROL, identity());
        stream.write_all(&whole[..length]).unwrap();
        stream.conn.send_close_notify();
        let _ = stream.flush();
        if length % 16 == 0 {
            let answer = last_words(&mut stream);
            assert!(!is_admitted(&answer), "{length}: {answer:?}");
        }
    }
    let after = resident_kib(site.controller().pid());
    assert!(after < before + 64 * 1024, "{before} KiB, then {after} KiB");
    assert_eq!(router.status()["controllers"][0]["is_connected"], true, "nobody else was disturbed");
    crate::support::assert_calm(&site.controller().log());
    process.terminate();
    router.admitted().terminate();
}
