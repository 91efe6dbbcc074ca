//! OpenZiti's fabric interface: both kinds of routers in one collection, and the fingerprint that can be set.

use controller::fleet::Closing;
use http::StatusCode;
use lifecycle::RouterId;
use lifecycle::issuance::Voucher;
use serde_json::{Value, json};

use crate::world::World;

const ROUTERS: &str = "/fabric/v1/routers";

fn sha1(chain: &str) -> String {
    pki::Chain::from_pem(chain.as_bytes()).unwrap().leaf().fingerprint_sha1().to_string()
}

#[tokio::test]
async fn both_kinds_of_routers_are_in_one_collection() {
    let world = World::new().await;
    let admin = world.login().await;
    let (edge, _, chain) = admin.online("edge").await;
    let (transit, _) = admin.create("transit-routers", "transit").await;
    let listed = admin.get(&format!("{ROUTERS}?filter=true sort by name")).await.data();
    assert_eq!((&listed[0]["id"], &listed[1]["id"]), (&json!(edge), &json!(transit)));
    assert_eq!((&listed[0]["fingerprint"], &listed[1]["fingerprint"]), (&json!(sha1(&chain)), &Value::Null));
    assert_eq!(listed[0]["connected"], false);
    for id in [edge, transit] {
        let at = format!("{ROUTERS}/{id}");
        let body = json!({ "name": format!("new {id}"), "cost": 7, "noTraversal": true, "tags": { "a": "b" } });
        admin.call("PATCH", &at, Some(body)).await.data();
        let view = admin.get(&at).await.data();
        assert_eq!(
            (&view["cost"], &view["noTraversal"], &view["tags"]),
            (&json!(7), &json!(true), &json!({ "a": "b" }))
        );
        admin.call("DELETE", &at, None).await.data();
        assert_eq!(admin.get(&at).await.code(), (404, "NOT_FOUND".to_owned()));
    }
}

#[tokio::test]
async fn the_fingerprint_of_a_leaf_that_the_register_knows_readmits_it() {
    let world = World::new().await;
    let admin = world.login().await;
    let (id, keys, first) = admin.online("r1").await;
    let renewed = keys.body(&id);
    let router = RouterId::new(id.as_str());
    let csr = |name: &str| renewed[name].as_str().unwrap().to_owned();
    let extended = world.enroller.extend(&router, lifecycle::issuance::Epoch(1), csr("certCsr"), csr("serverCertCsr"));
    let second = extended.await.unwrap().chains.client_pem.to_string();
    world.use_leaf(&id, &second).await;
    let at = format!("{ROUTERS}/{id}");
    assert_eq!(admin.get(&at).await.data()["fingerprint"], sha1(&second));

    admin.call("PATCH", &at, Some(json!({ "fingerprint": sha1(&second) }))).await.data();
    assert!(world.fleet.closed.lock().unwrap().is_empty(), "the leaf last used is admitted already");

    admin.call("PATCH", &at, Some(json!({ "fingerprint": sha1(&first) }))).await.data();
    assert_eq!(*world.fleet.closed.lock().unwrap(), [(RouterId::new(id.as_str()), Closing::Readmitted)]);
    assert_eq!(admin.get(&at).await.data()["fingerprint"], sha1(&first));
    let record = world.register.record(RouterId::new(id.as_str())).await.unwrap().unwrap();
    assert_eq!(record.leaves.len(), 1, "what came after it is withdrawn");
}

#[tokio::test]
async fn the_fingerprint_of_an_unknown_leaf_is_kept_until_it_is_presented_and_takes_nothing_away() {
    let world = World::new().await;
    let admin = world.login().await;
    let (id, _, chain) = admin.online("r1").await;
    let at = format!("{ROUTERS}/{id}");
    let spelled = "AB:".repeat(19) + "AB";
    admin.call("PATCH", &at, Some(json!({ "fingerprint": spelled }))).await.data();
    assert_eq!(admin.get(&at).await.data()["fingerprint"], "ab".repeat(20));
    let record = world.register.record(RouterId::new(id.as_str())).await.unwrap().unwrap();
    assert_eq!((record.voucher, record.leaves.len()), (Some(Voucher([0xab; 20])), 1));
    assert!(world.fleet.closed.lock().unwrap().is_empty());
    world.use_leaf(&id, &chain).await;

    for bad in ["", "zz", "ab", &"ab".repeat(21), &"g".repeat(40)] {
        let refused = admin.call("PATCH", &at, Some(json!({ "fingerprint": bad, "name": "not this" }))).await;
        assert_eq!(refused.code(), (400, "INVALID_FIELD".to_owned()), "{bad}");
        assert_eq!(refused.json()["error"]["cause"]["field"], "fingerprint");
    }
    assert_eq!(admin.get(&at).await.data()["name"], "r1", "a request that is refused changes nothing");

    admin.call("POST", &format!("/api/v1/routers/{id}/revoke"), None).await.data();
    let refused = admin.call("PATCH", &at, Some(json!({ "fingerprint": "ab".repeat(20) }))).await;
    assert_eq!(refused.code(), (400, "INVALID_FIELD".to_owned()));
    assert!(refused.json()["error"]["causeMessage"].as_str().unwrap().contains("revoked"));
}

#[tokio::test]
async fn a_router_is_made_from_its_certificate_without_an_enrollment() {
    let world = World::new().await;
    let admin = world.login().await;
    let body = json!({ "id": "by-hand", "name": "by hand", "fingerprint": "cd".repeat(20), "cost": 3, "noTraversal": true, "tags": { "a": "b" } });
    let made = admin.call("POST", ROUTERS, Some(body.clone())).await;
    assert_eq!(made.status, StatusCode::CREATED);
    assert_eq!(made.data()["_links"]["self"]["href"], "./routers/by-hand");
    let view = admin.get(&format!("{ROUTERS}/by-hand")).await.data();
    assert_eq!((&view["fingerprint"], &view["cost"]), (&json!("cd".repeat(20)), &json!(3)));
    let transit = admin.get("/edge/management/v1/transit-routers/by-hand").await.data();
    assert_eq!((&transit["isVerified"], transit.get("enrollmentJwt")), (&json!(false), None));

    let again = admin.call("POST", ROUTERS, Some(body)).await;
    assert_eq!(
        (again.code(), &again.json()["error"]["cause"]["field"]),
        ((400, "COULD_NOT_VALIDATE".to_owned()), &json!("id"))
    );
    for id in ["", "a/b", "..%2f", "a b", &"x".repeat(65)] {
        let refused = admin.call("POST", ROUTERS, Some(json!({ "id": id, "name": "x" }))).await;
        assert_eq!(refused.code(), (400, "COULD_NOT_VALIDATE".to_owned()), "{id}");
    }
    let unnamed = admin.call("POST", ROUTERS, Some(json!({ "id": "x" }))).await;
    assert_eq!(unnamed.code(), (400, "COULD_NOT_VALIDATE".to_owned()));
    admin.call("POST", ROUTERS, Some(json!({ "id": "later", "name": "later" }))).await.data();
    assert_eq!(admin.get(&format!("{ROUTERS}/later")).await.data()["fingerprint"], Value::Null);
}

#[tokio::test]
async fn a_whole_update_resets_what_it_leaves_out_but_not_the_identity() {
    let world = World::new().await;
    let admin = world.login().await;
    let (id, _, chain) = admin.online("r1").await;
    let at = format!("{ROUTERS}/{id}");
    admin.call("PATCH", &at, Some(json!({ "cost": 9, "disabled": true }))).await.data();
    assert_eq!(*world.fleet.closed.lock().unwrap(), [(RouterId::new(id.as_str()), Closing::Disabled)]);
    let body = json!({ "name": "r2", "fingerprint": sha1(&chain), "cost": 0, "noTraversal": false });
    admin.call("PUT", &at, Some(body)).await.data();
    let view = admin.get(&at).await.data();
    assert_eq!((&view["name"], &view["cost"], &view["disabled"]), (&json!("r2"), &json!(0), &json!(false)));
    assert_eq!(view["fingerprint"], sha1(&chain));
    admin.call("PATCH", &at, Some(json!({}))).await.data();
}

#[tokio::test]
async fn the_summary_counts_in_a_stock_controllers_words() {
    let world = World::new().await;
    let admin = world.login().await;
    admin.create("edge-routers", "r1").await;
    admin.create("transit-routers", "t1").await;
    let counts = admin.get("/edge/management/v1/summary").await.data();
    let wanted = json!({
        "apiSessions": 1, "authenticators": 1, "enrollments": 2, "identities": 1, "routers": 2, "routers.edge": 1,
    });
    assert_eq!(counts, wanted);
    assert_eq!(world.get("/edge/management/v1/summary").await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn what_is_not_served_is_not_found_in_their_envelope() {
    let world = World::new().await;
    let admin = world.login().await;
    for path in [
        "/edge/management/v1/services",
        "/edge/management/v1/identities",
        "/edge/management/v1/edge-router-policies",
        "/edge/management/v1/terminators?filter=true",
        "/fabric/v1/links",
        "/fabric/v1/ws-api",
        "/edge/client/v1/sessions",
        "/oidc/authorize",
        "/nothing",
    ] {
        for session in [None, Some(admin.token.as_str())] {
            let answer = world.call("GET", path, session, None).await;
            assert_eq!(answer.code(), (404, "NOT_FOUND".to_owned()), "{path}");
            assert_eq!(answer.headers["content-type"], "application/json");
            let error = &answer.json()["error"];
            assert!(error["requestId"].is_string() && error["cause"]["message"].is_string(), "{error}");
        }
    }
    assert_eq!(admin.call("PUT", ROUTERS, Some(json!({}))).await.code(), (405, "METHOD_NOT_ALLOWED".to_owned()));
}
