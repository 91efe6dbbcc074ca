use std::time::Duration;

use controller::fleet::{Closing, Connected};
use http::StatusCode;
use lifecycle::RouterId;
use lifecycle::issuance::{Campaign, Epoch};
use pki::Chain;
use serde_json::{Value, json};

use crate::world::{Admitted, Keys, World, days};

async fn view(admin: &Admitted<'_>, id: &str) -> Value {
    admin.get(&format!("/api/v1/routers/{id}")).await.data()
}

fn connected(world: &World, id: &str) {
    let channel = Connected {
        remote: "192.0.2.7:4000".parse().unwrap(),
        since: world.now().wall,
        version: Some("v0.1.0".to_owned()),
        hostname: Some("r1.example.com".to_owned()),
        underlays: 2,
        leaf: None,
        takes_advice: true,
    };
    world.fleet.connected.lock().unwrap().insert(RouterId::new(id), channel);
}

#[tokio::test]
async fn the_progress_of_a_renewal_can_be_followed() {
    let world = World::new().await;
    let admin = world.login().await;
    let (id, token) = admin.create("edge-routers", "r1").await;
    let router = RouterId::new(id.clone());
    let progress = || async { view(&admin, &id).await["progress"].as_str().unwrap().to_owned() };
    assert_eq!(progress().await, "awaiting_enrollment");
    let keys = Keys::new();
    let chain = world.enroll("erott", &token, keys.body(&id)).await.data()["cert"].as_str().unwrap().to_owned();
    assert_eq!(progress().await, "enrolled");
    world.use_leaf(&id, &chain).await;
    assert_eq!(progress().await, "steady");
    let steady = view(&admin, &id).await;
    assert_eq!(steady["lockout_s"], days(90).as_secs());
    assert_eq!(steady["renew_due_unix_s"], json!(world.now().wall.as_s() + 60 * 86_400));

    world.advance(days(60));
    let admin = world.login().await;
    let progress = || async { view(&admin, &id).await["progress"].as_str().unwrap().to_owned() };
    assert_eq!(progress().await, "due");
    let body = Keys::new().body(&id);
    let csr = |name: &str| body[name].as_str().unwrap().to_owned();
    let extended = world.enroller.extend(&router, Epoch(1), csr("certCsr"), csr("serverCertCsr")).await.unwrap();
    assert!(!extended.is_repeated);
    assert_eq!(progress().await, "pending");
    assert_eq!(view(&admin, &id).await["lockout_s"], days(30).as_secs(), "a leaf that may be lost counts for nothing");
    let fingerprint = Chain::from_pem(extended.chains.client_pem.as_bytes()).unwrap().leaf().fingerprint();
    world.submit(&id, lifecycle::issuance::Input::Confirm { epoch: Epoch(1), fingerprint }).await;
    assert_eq!(progress().await, "confirmed");
    assert_eq!(view(&admin, &id).await["lockout_s"], days(90).as_secs());
    world.use_leaf(&id, &extended.chains.client_pem).await;
    assert_eq!(progress().await, "steady");
    let listed = admin.get("/api/v1/routers?filter=progress = \"steady\" and kind = \"edge\"").await;
    assert_eq!(listed.json()["meta"]["pagination"]["totalCount"], 1);

    world.advance(days(91));
    let admin = world.login().await;
    let lapsed = view(&admin, &id).await;
    assert_eq!((&lapsed["progress"], &lapsed["lockout_s"]), (&json!("lapsed"), &json!(0)));
}

#[tokio::test]
async fn renew_now_advises_a_router_and_says_whether_it_was_told() {
    let world = World::new().await;
    let admin = world.login().await;
    let (id, _, _) = admin.online("r1").await;
    let at = format!("/api/v1/routers/{id}/renew");
    assert_eq!(admin.call("POST", &at, None).await.data()["told"], false);
    connected(&world, &id);
    let told = admin.call("POST", &at, None).await.data();
    assert_eq!(told["told"], true);
    assert_eq!(told["to_unix_s"].as_i64().unwrap() - told["from_unix_s"].as_i64().unwrap(), 60);
    assert_eq!(world.fleet.advised.lock().unwrap().len(), 2);
    let (new, _) = admin.create("edge-routers", "r2").await;
    assert_eq!(
        admin.call("POST", &format!("/api/v1/routers/{new}/renew"), None).await.code(),
        (409, "CONFLICT".to_owned())
    );
    assert_eq!(admin.call("POST", "/api/v1/routers/nobody/renew", None).await.code().0, 404);
}

#[tokio::test]
async fn a_revoked_router_is_closed_at_once_and_comes_back_only_by_enrollment() {
    let world = World::new().await;
    let admin = world.login().await;
    let (id, _, chain) = admin.online("r1").await;
    let revoked = admin.call("POST", &format!("/api/v1/routers/{id}/revoke"), None).await.data();
    assert_eq!(
        (&revoked["progress"], &revoked["epoch"], &revoked["leaves"]),
        (&json!("revoked"), &json!(2), &json!([]))
    );
    assert_eq!(*world.fleet.closed.lock().unwrap(), [(RouterId::new(id.clone()), Closing::Revoked)]);
    let readmit =
        admin.call("POST", &format!("/api/v1/routers/{id}/readmit"), Some(json!({ "cert_pem": chain }))).await;
    assert_eq!(readmit.code(), (409, "CONFLICT".to_owned()));
    let token = admin.call("POST", &format!("/api/v1/routers/{id}/re-enroll"), None).await.data();
    let jwt = pki::EnrollmentToken::verify(token["jwt"].as_str().unwrap(), &world.api_leaf, world.now().wall).unwrap();
    assert_eq!(world.enroll("erott", &jwt.secret, Keys::new().body(&id)).await.status, StatusCode::OK);
    assert_eq!(view(&admin, &id).await["standing"], "active");
}

#[tokio::test]
async fn a_leaf_is_readmitted_only_if_it_is_this_routers() {
    let world = World::new().await;
    let admin = world.login().await;
    let (id, _, old) = admin.online("r1").await;
    let (_, _, foreign) = admin.online("r2").await;
    let at = format!("/api/v1/routers/{id}/readmit");
    let body = Keys::new().body(&id);
    let csr = |name: &str| body[name].as_str().unwrap().to_owned();
    let router = RouterId::new(id.clone());
    let newer = world.enroller.extend(&router, Epoch(1), csr("certCsr"), csr("serverCertCsr")).await.unwrap();
    world.use_leaf(&id, &newer.chains.client_pem).await;
    world.advance(Duration::from_secs(3601));
    let admin = Admitted { world: &world, token: world.login().await.token };
    assert_eq!(view(&admin, &id).await["leaves"][0]["is_admitted"], false, "the overlap is over");

    let fingerprint = Chain::from_pem(old.as_bytes()).unwrap().leaf().fingerprint().to_string();
    let readmitted = admin.call("POST", &at, Some(json!({ "fingerprint_sha256": fingerprint }))).await.data();
    assert_eq!(readmitted["leaves"].as_array().unwrap().len(), 1, "its successor is withdrawn");
    assert_eq!(readmitted["leaves"][0]["is_admitted"], true);
    let back = admin.call("POST", &at, Some(json!({ "cert_pem": &*newer.chains.client_pem }))).await.data();
    assert_eq!(back["leaves"].as_array().unwrap().len(), 2);

    for body in
        [json!({ "cert_pem": foreign }), json!({ "cert_pem": "nonsense" }), json!({ "fingerprint_sha256": "00" })]
    {
        assert_eq!(admin.call("POST", &at, Some(body)).await.code(), (400, "INVALID_FIELD".to_owned()));
    }
    assert_eq!(admin.call("POST", &at, Some(json!({}))).await.code(), (400, "COULD_NOT_VALIDATE".to_owned()));
}

#[tokio::test]
async fn an_older_leaf_that_came_back_is_shown_until_an_operator_calls_it_a_crash() {
    let world = World::new().await;
    let admin = world.login().await;
    let (id, _, old) = admin.online("r1").await;
    assert_eq!(view(&admin, &id).await["fork"], json!(null));
    let body = Keys::new().body(&id);
    let csr = |name: &str| body[name].as_str().unwrap().to_owned();
    let router = RouterId::new(id.clone());
    let newer = world.enroller.extend(&router, Epoch(1), csr("certCsr"), csr("serverCertCsr")).await.unwrap();
    world.use_leaf(&id, &newer.chains.client_pem).await;
    world.use_leaf(&id, &old).await;
    let fork = view(&admin, &id).await["fork"].clone();
    let fingerprint = Chain::from_pem(old.as_bytes()).unwrap().leaf().fingerprint().to_string();
    assert_eq!((&fork["older_sha256"], &fork["verdict"]), (&json!(fingerprint), &json!("frozen")));
    let at = format!("/api/v1/routers/{id}/dismiss-fork");
    assert_eq!(admin.call("POST", &at, None).await.data()["fork"], json!(null));
    let trail = admin.get(&format!("/api/v1/routers/{id}/audit")).await.data();
    let events: Vec<&str> =
        trail["entries"].as_array().unwrap().iter().map(|entry| entry["event"].as_str().unwrap()).collect();
    assert_eq!(events[..2], ["fork-dismissed", "fork-suspected"]);
    assert_eq!(admin.call("POST", &at, None).await.data()["fork"], json!(null), "twice does no harm");
}

#[tokio::test]
async fn a_campaign_is_announced_and_its_end_can_be_seen() {
    let world = World::new().await;
    let admin = world.login().await;
    assert_eq!(admin.get("/api/v1/campaigns/current").await.code().0, 404);
    let (id, _, _) = admin.online("r1").await;
    connected(&world, &id);
    world.advance(Duration::from_secs(10));
    let started = admin.call("POST", "/api/v1/campaigns", Some(json!({ "within_s": 600 }))).await.data();
    assert_eq!((&started["told"], &started["outstanding"]), (&json!(1), &json!(1)));
    let ordered_at = world.now().wall;
    let campaign = Campaign { ordered_at, until: ordered_at.plus(Duration::from_secs(600)) };
    assert_eq!(*world.fleet.announced.lock().unwrap(), [campaign]);

    world.advance(Duration::from_secs(10));
    let body = Keys::new().body(&id);
    let csr = |name: &str| body[name].as_str().unwrap().to_owned();
    let router = RouterId::new(id.clone());
    let newer = world.enroller.extend(&router, Epoch(1), csr("certCsr"), csr("serverCertCsr")).await.unwrap();
    world.use_leaf(&id, &newer.chains.client_pem).await;
    world.advance(Duration::from_secs(10));
    assert_eq!(admin.get("/api/v1/campaigns/current").await.data()["outstanding"], 0);
    admin.call("DELETE", "/api/v1/campaigns/current", None).await.data();
    assert_eq!(admin.get("/api/v1/campaigns/current").await.code().0, 404);
    let endless = admin.call("POST", "/api/v1/campaigns", Some(json!({ "within_s": 1_000_000_000 }))).await;
    assert_eq!(endless.code(), (400, "INVALID_FIELD".to_owned()));
}

#[tokio::test]
async fn the_pipeline_shows_the_most_pressing_router_first() {
    let world = World::new().await;
    let admin = world.login().await;
    let (old, _, _) = admin.online("old").await;
    world.advance(days(1));
    let admin = world.login().await;
    let (young, _, _) = admin.online("young").await;
    admin.create("edge-routers", "new").await;
    world.advance(Duration::from_secs(60));
    let pipeline = admin.get("/api/v1/pipeline").await.data();
    let ids: Vec<_> = pipeline["routers"].as_array().unwrap().iter().map(|row| row["id"].clone()).collect();
    assert_eq!(ids, [json!(old), json!(young)]);
    assert_eq!(pipeline["counts"], json!({ "awaiting_enrollment": 1, "steady": 2 }));
    assert_eq!(pipeline["issuer"]["leaf_life_s"], days(90).as_secs());
    assert_eq!(pipeline["issuer"].get("warning"), None);
    let one = admin.get("/api/v1/pipeline?limit=1").await.data();
    assert_eq!(one["routers"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn the_audit_trail_names_who_did_what_and_outlives_the_router() {
    let world = World::new().await;
    let admin = world.login().await;
    let (id, _, _) = admin.online("r1").await;
    admin.call("DELETE", &format!("/edge/management/v1/edge-routers/{id}"), None).await.data();
    let mut path = format!("/api/v1/routers/{id}/audit?limit=2");
    let mut entries = Vec::new();
    loop {
        let page = admin.get(&path).await.data();
        entries.extend(page["entries"].as_array().unwrap().clone());
        match page.get("next_before") {
            Some(before) => path = format!("/api/v1/routers/{id}/audit?limit=2&before={before}"),
            None => break,
        }
    }
    let actors: Vec<_> = entries.iter().map(|entry| entry["actor"].as_str().unwrap()).collect();
    assert_eq!(actors, ["admin:admin", "router", "router", "admin:admin"], "{entries:?}");
    let events: Vec<_> = entries.iter().map(|entry| entry["event"].as_str().unwrap().to_owned()).collect();
    assert!(events.iter().any(|event| event.contains("enroll")), "{events:?}");
}
