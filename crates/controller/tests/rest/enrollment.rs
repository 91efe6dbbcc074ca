use std::time::Duration;

use axum::body::Body;
use controller::config::SanPolicy;
use controller::fleet::Closing;
use http::{Request, StatusCode};
use lifecycle::RouterId;
use lifecycle::issuance::Input;
use pki::{Chain, EnrollmentMethod, EnrollmentToken, Expected};
use serde_json::{Value, json};

use crate::world::{Keys, World, csr, days, key, presented};

fn refused(answer: &crate::world::Answer, code: &str) {
    assert_eq!(answer.code(), (400, code.to_owned()), "{}", answer.text);
}

#[tokio::test]
async fn an_edge_router_enrolls_and_gets_leaves_that_it_can_use() {
    let world = World::new().await;
    let admin = world.login().await;
    let (id, token) = admin.create("edge-routers", "r1").await;
    let keys = Keys::new();
    let answer = world.enroll("erott", &token, keys.body(&id)).await;
    let data = answer.data();
    assert_eq!(answer.json()["meta"], json!({}));
    let router = RouterId::new(id);
    let expected = Expected {
        router: &router,
        client_key: keys.client.key_id(),
        server_key: keys.server.key_id(),
        bundle: &world.bundle,
        hosts: &["r.example.com".to_owned()],
    };
    let text = |name: &str| data[name].as_str().unwrap().as_bytes();
    let issued = pki::check_issued(text("cert"), text("serverCert"), &expected).unwrap();
    assert_eq!(issued.client.intermediates().len(), 1, "the intermediate is there, the root is not");
    assert_eq!(pki::TrustBundle::from_pem(text("ca")).unwrap().certificates().len(), 2);
}

#[tokio::test]
async fn the_token_in_the_api_is_signed_by_the_leaf_that_the_api_presents() {
    let world = World::new().await;
    let admin = world.login().await;
    let (id, token) = admin.create("edge-routers", "r1").await;
    let view = admin.get(&format!("/edge/management/v1/edge-routers/{id}")).await.data();
    let jwt = view["enrollmentJwt"].as_str().unwrap();
    let read = EnrollmentToken::verify(jwt, &world.api_leaf, world.now().wall).unwrap();
    assert_eq!(read.router.as_str(), id);
    assert_eq!(read.secret.as_str(), token);
    assert_eq!(read.method, EnrollmentMethod::EdgeRouter);
    assert_eq!(read.issuer, "https://ctrl.example.com:1280");
    assert_eq!(read.controllers, ["tls:ctrl.example.com:6262"]);
    assert_eq!(read.expires_at, world.now().wall.plus(Duration::from_secs(180 * 60)));
}

#[tokio::test]
async fn a_repeated_enrollment_gets_the_same_certificates_until_first_connect() {
    let world = World::new().await;
    let admin = world.login().await;
    let (id, token) = admin.create("edge-routers", "r1").await;
    let keys = Keys::new();
    let first = world.enroll("erott", &token, keys.body(&id)).await;
    // Requests are signed anew, with other signatures, for the same keys and names.
    world.advance(Duration::from_secs(4 * 3600));
    let second = world.enroll("erott", &token, keys.body(&id)).await;
    assert_eq!(first.text, second.text);
    world.use_leaf(&id, first.data()["cert"].as_str().unwrap()).await;
    refused(&world.enroll("erott", &token, keys.body(&id)).await, "INVALID_ENROLLMENT_TOKEN");
}

#[tokio::test]
async fn a_token_that_was_used_is_worth_nothing_to_other_keys() {
    let world = World::new().await;
    let admin = world.login().await;
    let (id, token) = admin.create("edge-routers", "r1").await;
    world.enroll("erott", &token, Keys::new().body(&id)).await.data();
    refused(&world.enroll("erott", &token, Keys::new().body(&id)).await, "INVALID_ENROLLMENT_TOKEN");
}

#[tokio::test]
async fn of_two_enrollments_with_different_keys_exactly_one_wins() {
    let world = World::new().await;
    let admin = world.login().await;
    for round in 0..8 {
        let (id, token) = admin.create("edge-routers", &format!("r{round}")).await;
        let (one, two) = (Keys::new().body(&id), Keys::new().body(&id));
        let (one, two) = tokio::join!(world.enroll("erott", &token, one), world.enroll("erott", &token, two));
        let won = [&one, &two].into_iter().filter(|answer| answer.status == StatusCode::OK).count();
        assert_eq!(won, 1, "{} / {}", one.text, two.text);
        let loser = if one.status == StatusCode::OK { &two } else { &one };
        refused(loser, "INVALID_ENROLLMENT_TOKEN");
    }
}

#[tokio::test]
async fn a_transit_router_gets_its_own_name_whatever_it_asks_for() {
    let world = World::new().await;
    let admin = world.login().await;
    let (id, token) = admin.create("transit-routers", "t1").await;
    let answer = world.enroll("trott", &token, Keys::new().body("somebody else")).await;
    let chain = Chain::from_pem(answer.data()["cert"].as_str().unwrap().as_bytes()).unwrap();
    assert_eq!(chain.leaf().cn(), Some(id.as_str()));
}

#[tokio::test]
async fn every_fault_of_an_enrollment_has_its_code_and_costs_nothing() {
    let world = World::new().await;
    let admin = world.login().await;
    let (id, token) = admin.create("edge-routers", "r1").await;
    let (transit, transit_token) = admin.create("transit-routers", "t1").await;
    let keys = Keys::new();
    let good = keys.body(&id);
    let without = |name: &str| {
        let mut body = good.clone();
        body.as_object_mut().unwrap().remove(name);
        body
    };
    let with = |name: &str, value: Value| {
        let mut body = good.clone();
        body[name] = value;
        body
    };
    let unknown = "11111111-2222-4333-8444-555555555555";

    refused(&world.enroll("erott", unknown, good.clone()).await, "INVALID_ENROLLMENT_TOKEN");
    refused(&world.enroll("trott", &token, good.clone()).await, "INVALID_ENROLL_METHOD");
    refused(&world.enroll("erott", &transit_token, keys.body(&transit)).await, "INVALID_ENROLL_METHOD");
    refused(&world.enroll("ott", &token, good.clone()).await, "INVALID_ENROLL_METHOD");
    refused(&world.post(&format!("/edge/client/v1/enroll?token={token}"), good.clone()).await, "INVALID_ENROLL_METHOD");
    refused(&world.enroll("erott", "no-uuid", good.clone()).await, "COULD_NOT_VALIDATE");
    refused(&world.post("/edge/client/v1/enroll?method=erott", good.clone()).await, "COULD_NOT_VALIDATE");
    refused(&world.enroll("erott", &token, json!({ "certCsr": 7 })).await, "COULD_NOT_VALIDATE");
    refused(&world.enroll("erott", &token, json!("text")).await, "COULD_NOT_VALIDATE");
    refused(&world.enroll("erott", &token, without("certCsr")).await, "MISSING_OR_INVALID_CSR");
    refused(&world.enroll("erott", &token, with("serverCertCsr", "".into())).await, "MISSING_OR_INVALID_CSR");
    refused(&world.enroll("trott", &transit_token, json!({})).await, "COULD_NOT_PROCESS_CSR");
    refused(&world.enroll("erott", &token, with("certCsr", "nonsense".into())).await, "COULD_NOT_PROCESS_CSR");
    let twice = format!("{0}{0}", keys.csr(&id, "a.example.com"));
    refused(&world.enroll("erott", &token, with("certCsr", twice.into())).await, "COULD_NOT_PROCESS_CSR");
    let stranger = world.enroll("erott", &token, with("certCsr", keys.csr(&transit, "a.example.com").into())).await;
    refused(&stranger, "COULD_NOT_PROCESS_CSR");
    assert_eq!(stranger.json()["error"]["cause"]["code"], "EDGE_ROUTER_ENROLL_COMMON_NAME_INVALID");

    world.enroll("erott", &token, good).await.data();
}

#[tokio::test]
async fn an_expired_token_is_refused() {
    let world = World::new().await;
    let admin = world.login().await;
    let (id, token) = admin.create("edge-routers", "r1").await;
    world.advance(Duration::from_secs(180 * 60 + 1));
    refused(&world.enroll("erott", &token, Keys::new().body(&id)).await, "ENROLLMENT_EXPIRED");
}

#[tokio::test]
async fn the_token_of_a_deleted_or_re_enrolled_router_is_refused() {
    let world = World::new().await;
    let admin = world.login().await;
    let (id, token) = admin.create("edge-routers", "r1").await;
    admin.call("POST", &format!("/edge/management/v1/edge-routers/{id}/re-enroll"), None).await.data();
    refused(&world.enroll("erott", &token, Keys::new().body(&id)).await, "INVALID_ENROLLMENT_TOKEN");
    let (gone, token) = admin.create("edge-routers", "r2").await;
    admin.call("DELETE", &format!("/edge/management/v1/edge-routers/{gone}"), None).await.data();
    refused(&world.enroll("erott", &token, Keys::new().body(&gone)).await, "INVALID_ENROLLMENT_TOKEN");
    let closed = world.fleet.closed.lock().unwrap().clone();
    assert_eq!(closed, [(RouterId::new(id), Closing::ReEnrolled), (RouterId::new(gone), Closing::Deleted)]);
}

#[tokio::test]
async fn a_name_that_the_policy_does_not_list_is_refused_by_name() {
    let policy = SanPolicy::Listed { dns: Vec::new(), ip: Vec::new(), email: Vec::new(), uri: Vec::new() };
    let world = World::with(policy, days(3650)).await;
    let admin = world.login().await;
    let (id, token) = admin.create("edge-routers", "r1").await;
    let answer = world.enroll("erott", &token, Keys::new().body(&id)).await;
    refused(&answer, "COULD_NOT_PROCESS_CSR");
    let told = answer.json()["error"]["causeMessage"].as_str().unwrap().to_owned();
    assert!(told.contains("`r.example.com` is not allowed"), "{told}");
}

#[tokio::test]
async fn an_issuer_that_is_about_to_end_signs_nothing_and_says_so() {
    let world = World::with(SanPolicy::Any, days(5)).await;
    let admin = world.login().await;
    let (id, token) = admin.create("edge-routers", "r1").await;
    let answer = world.enroll("erott", &token, Keys::new().body(&id)).await;
    assert_eq!(answer.code(), (503, "ISSUER_ENDS_SOON".to_owned()));
    let ready = world.get("/readyz").await;
    assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE);
    let pipeline = admin.get("/api/v1/pipeline").await.data();
    assert!(pipeline["issuer"]["warning"].as_str().unwrap().contains("nothing is signed any more"), "{pipeline}");
}

#[tokio::test]
async fn cacerts_hands_out_the_whole_bundle_at_both_places() {
    let world = World::new().await;
    for path in ["/.well-known/est/cacerts", "/edge/client/v1/.well-known/est/cacerts"] {
        let answer = world.get(path).await;
        assert_eq!(answer.headers["content-type"], "application/pkcs7-mime");
        let bundle = pki::decode_cacerts(answer.text.as_bytes()).unwrap();
        assert_eq!(bundle.certificates().len(), 2);
    }
}

#[tokio::test]
async fn old_prefixes_lead_to_the_client_interface() {
    let world = World::new().await;
    let admin = world.login().await;
    for (index, path) in ["/enroll", "/edge/v1/enroll"].into_iter().enumerate() {
        let (id, token) = admin.create("edge-routers", &format!("r{index}")).await;
        let answer = world.post(&format!("{path}?method=erott&token={token}"), Keys::new().body(&id)).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text);
    }
    assert_eq!(world.get("/edge/v1/version").await.status, StatusCode::OK);
}

async fn extend(world: &World, chain: Option<&str>, body: Value) -> crate::world::Answer {
    let mut request = Request::builder()
        .method("POST")
        .uri("/edge/client/v1/enroll/extend/router")
        .header("content-type", "application/json")
        .body(Body::from(body.to_string()))
        .unwrap();
    if let Some(chain) = chain {
        request.extensions_mut().insert(presented(chain));
    }
    world.send(request).await
}

#[tokio::test]
async fn an_extension_over_https_keeps_the_old_leaf_admitted_until_the_new_one_is_used() {
    let world = World::new().await;
    let admin = world.login().await;
    let (id, _, old) = admin.online("r1").await;
    let body = Keys::new().body(&id);
    let answer = extend(&world, Some(&old), body.clone()).await;
    assert_eq!(answer.data().get("ca"), None);
    assert_eq!(extend(&world, Some(&old), body).await.text, answer.text, "a lost answer costs nothing");
    let view = admin.get(&format!("/api/v1/routers/{id}")).await.data();
    assert_eq!(view["progress"], "pending");
    let admitted: Vec<_> = view["leaves"].as_array().unwrap().iter().map(|leaf| leaf["is_admitted"].clone()).collect();
    assert_eq!(admitted, [json!(true), json!(true)]);
    world.use_leaf(&id, answer.data()["cert"].as_str().unwrap()).await;
    world.advance(Duration::from_secs(3601));
    assert_eq!(extend(&world, Some(&old), Keys::new().body(&id)).await.code(), (401, "UNAUTHORIZED".to_owned()));
}

#[tokio::test]
async fn a_leaf_that_was_shown_over_https_is_not_displaced_by_the_next_ones() {
    let world = World::new().await;
    let admin = world.login().await;
    let (id, _, old) = admin.online("r1").await;
    let mut held = old;
    for _ in 0..3 {
        // The router lives on what it got and never opens a channel with it; the answer after that is lost each time.
        held = extend(&world, Some(&held), Keys::new().body(&id)).await.data()["cert"].as_str().unwrap().to_owned();
        extend(&world, Some(&held), Keys::new().body(&id)).await.data();
    }
    assert_eq!(extend(&world, Some(&held), Keys::new().body(&id)).await.status, StatusCode::OK);
}

#[tokio::test]
async fn an_extension_over_https_needs_a_leaf_of_that_very_router() {
    let world = World::new().await;
    let admin = world.login().await;
    let (one, _, chain) = admin.online("r1").await;
    let (two, _, _) = admin.online("r2").await;
    let unauthorized = (401, "UNAUTHORIZED".to_owned());
    assert_eq!(extend(&world, None, Keys::new().body(&one)).await.code(), unauthorized);
    refused(&extend(&world, Some(&chain), Keys::new().body(&two)).await, "COULD_NOT_PROCESS_CSR");
    let foreign = World::new().await;
    assert_eq!(extend(&foreign, Some(&chain), Keys::new().body(&one)).await.code(), unauthorized);
    world.submit(&one, Input::Revoke).await;
    assert_eq!(extend(&world, Some(&chain), Keys::new().body(&one)).await.code(), unauthorized);
}

#[tokio::test]
async fn a_csr_of_another_key_type_is_served_too() {
    let world = World::new().await;
    let admin = world.login().await;
    let (id, token) = admin.create("edge-routers", "r1").await;
    let p384 = pki::PrivateKey::generate(pki::KeyKind::P384).unwrap();
    let body =
        json!({ "certCsr": csr(&p384, &id, "a.example.com"), "serverCertCsr": csr(&key(), &id, "b.example.com") });
    let data = world.enroll("erott", &token, body).await.data();
    let chain = Chain::from_pem(data["cert"].as_str().unwrap().as_bytes()).unwrap();
    assert_eq!(chain.leaf().key_id(), p384.key_id());
}

#[tokio::test]
async fn whoever_fails_too_often_is_refused_unread_and_others_are_not() {
    let world = World::new().await;
    let admin = world.login().await;
    let (id, token) = admin.create("edge-routers", "r1").await;
    let keys = Keys::new();
    let made_up = |number: usize| format!("{number:08x}-0000-4000-8000-000000000000");
    for number in 0..5 {
        let answer = world.enroll_from([192, 0, 2, 1], &made_up(number), keys.body(&id)).await;
        refused(&answer, "INVALID_ENROLLMENT_TOKEN");
    }
    // Not even the right token is looked at now; what is asked for without a token counts as well.
    for token in [token.as_str(), "no-token"] {
        let answer = world.enroll_from([192, 0, 2, 1], token, keys.body(&id)).await;
        assert_eq!(answer.code(), (429, "RATE_LIMITED".to_owned()), "{}", answer.text);
        assert!(answer.headers.contains_key(http::header::RETRY_AFTER));
    }
    assert_eq!(world.enroll_from([192, 0, 2, 2], &token, keys.body(&id)).await.status, StatusCode::OK);
    // A minute gives as many again.
    world.advance(Duration::from_secs(13));
    assert_eq!(world.enroll_from([192, 0, 2, 1], &token, keys.body(&id)).await.status, StatusCode::OK);
}

#[tokio::test]
async fn enrollments_that_succeed_are_not_counted() {
    let world = World::new().await;
    let admin = world.login().await;
    for number in 0..12 {
        let (id, token) = admin.create("edge-routers", &format!("r{number}")).await;
        let answer = world.enroll_from([192, 0, 2, 1], &token, Keys::new().body(&id)).await;
        assert_eq!(answer.status, StatusCode::OK, "{number}: {}", answer.text);
    }
}
