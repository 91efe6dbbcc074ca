use controller::fleet::Closing;
use http::StatusCode;
use lifecycle::RouterId;
use serde_json::{Value, json};

use crate::world::{Admitted, Keys, World};

const EDGE: &str = "/edge/management/v1/edge-routers";

async fn names(admin: &Admitted<'_>, query: &str) -> Vec<String> {
    let answer = admin.get(&format!("{EDGE}?{query}")).await;
    let rows = answer.data();
    rows.as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn an_edge_router_is_made_shown_changed_and_deleted() {
    let world = World::new().await;
    let admin = world.login().await;
    let body = json!({
        "name": "r1", "cost": 7, "noTraversal": true, "isTunnelerEnabled": true, "roleAttributes": ["east"],
        "tags": { "site": "b" }, "appData": { "x": 1 }, "ctrlChanListeners": { "tls:r1:6262": ["default"] },
    });
    let made = admin.call("POST", EDGE, Some(body)).await;
    assert_eq!(made.status, StatusCode::CREATED);
    let id = made.data()["id"].as_str().unwrap().to_owned();
    assert_eq!(made.data()["_links"]["self"]["href"], format!("./edge-routers/{id}"));

    let at = format!("{EDGE}/{id}");
    let view = admin.get(&at).await.data();
    for (field, value) in [
        ("id", json!(id)),
        ("name", json!("r1")),
        ("cost", json!(7)),
        ("noTraversal", json!(true)),
        ("isTunnelerEnabled", json!(true)),
        ("roleAttributes", json!(["east"])),
        ("tags", json!({ "site": "b" })),
        ("appData", json!({ "x": 1 })),
        ("ctrlChanListeners", json!({ "tls:r1:6262": ["default"] })),
        ("disabled", json!(false)),
        ("isVerified", json!(false)),
        ("isOnline", json!(false)),
        ("certPem", Value::Null),
        ("unverifiedFingerprint", Value::Null),
        ("createdAt", json!("2026-01-01T00:00:00Z")),
    ] {
        assert_eq!(view[field], value, "{field}");
    }

    admin.call("PATCH", &at, Some(json!({ "name": "r2", "disabled": true }))).await.data();
    let view = admin.get(&at).await.data();
    assert_eq!((&view["name"], &view["cost"], &view["disabled"]), (&json!("r2"), &json!(7), &json!(true)));
    assert_eq!(view["ctrlChanListeners"], json!({ "tls:r1:6262": ["default"] }));
    assert_eq!(*world.fleet.closed.lock().unwrap(), [(RouterId::new(id), Closing::Disabled)]);

    admin.call("PUT", &at, Some(json!({ "name": "r3" }))).await.data();
    let view = admin.get(&at).await.data();
    assert_eq!((&view["name"], &view["cost"], &view["disabled"]), (&json!("r3"), &json!(0), &json!(false)));
    assert_eq!(view["roleAttributes"], json!([]));

    assert_eq!(admin.call("DELETE", &at, None).await.json(), json!({ "data": {}, "meta": {} }));
    assert_eq!(admin.get(&at).await.code(), (404, "NOT_FOUND".to_owned()));
}

#[tokio::test]
async fn the_token_shows_only_until_the_router_is_enrolled() {
    let world = World::new().await;
    let admin = world.login().await;
    let (id, token) = admin.create("edge-routers", "r1").await;
    let at = format!("{EDGE}/{id}");
    let before = admin.get(&at).await.data();
    assert_eq!(before["enrollmentExpiresAt"], "2026-01-01T03:00:00Z");
    let cert = world.enroll("erott", &token, Keys::new().body(&id)).await.data()["cert"].clone();
    let after = admin.get(&at).await.data();
    assert_eq!(after["isVerified"], true);
    for field in ["enrollmentJwt", "enrollmentToken", "enrollmentCreatedAt", "enrollmentExpiresAt"] {
        assert!(before.get(field).is_some(), "{field}");
        assert_eq!(after.get(field), None, "{field}");
    }
    assert_eq!(after["certPem"], cert);
    let leaf = pki::Chain::from_pem(cert.as_str().unwrap().as_bytes()).unwrap();
    assert_eq!(after["fingerprint"], leaf.leaf().fingerprint_sha1().to_string());

    admin.call("POST", &format!("{at}/re-enroll"), None).await.data();
    let anew = admin.get(&at).await.data();
    assert_eq!((&anew["isVerified"], anew.get("fingerprint")), (&json!(false), None));
    assert_ne!(anew["enrollmentToken"], before["enrollmentToken"]);
    let token = anew["enrollmentToken"].as_str().unwrap();
    assert_eq!(world.enroll("erott", token, Keys::new().body(&id)).await.status, StatusCode::OK);
}

#[tokio::test]
async fn transit_routers_live_behind_both_their_names() {
    let world = World::new().await;
    let admin = world.login().await;
    let (id, _) = admin.create("routers", "t1").await;
    for collection in ["routers", "transit-routers"] {
        let at = format!("/edge/management/v1/{collection}/{id}");
        let view = admin.get(&at).await.data();
        assert_eq!(
            (&view["name"], &view["fingerprint"], &view["isVerified"]),
            (&json!("t1"), &Value::Null, &json!(false))
        );
        admin.call("PATCH", &at, Some(json!({ "cost": 3 }))).await.data();
        assert_eq!(
            admin.get(&format!("/edge/management/v1/{collection}?filter=id=\"{id}\"")).await.data()[0]["cost"],
            3
        );
    }
    assert_eq!(admin.get(&format!("{EDGE}/{id}")).await.code().0, 404, "a transit router is no edge router");
    assert_eq!(admin.call("POST", &format!("{EDGE}/{id}/re-enroll"), None).await.code().0, 404);
    admin.call("DELETE", &format!("/edge/management/v1/routers/{id}"), None).await.data();
    assert_eq!(admin.get(&format!("/edge/management/v1/transit-routers/{id}")).await.code().0, 404);
}

#[tokio::test]
async fn names_are_unique_and_sensible() {
    let world = World::new().await;
    let admin = world.login().await;
    admin.create("edge-routers", "r1").await;
    let (two, _) = admin.create("transit-routers", "r2").await;
    let long = "x".repeat(257);
    for body in [
        json!({ "name": "r1" }),
        json!({ "name": " " }),
        json!({}),
        json!({ "name": long }),
        json!({ "name": "a\u{1b}[0m" }),
    ] {
        assert_eq!(admin.call("POST", EDGE, Some(body)).await.code(), (400, "COULD_NOT_VALIDATE".to_owned()));
    }
    let renamed =
        admin.call("PATCH", &format!("/edge/management/v1/routers/{two}"), Some(json!({ "name": "r1" }))).await;
    assert_eq!(renamed.code(), (400, "COULD_NOT_VALIDATE".to_owned()));
    assert_eq!(renamed.json()["error"]["cause"]["field"], "name");
    let costly = admin.call("POST", EDGE, Some(json!({ "name": "r3", "cost": 70000 }))).await;
    assert_eq!(costly.code(), (400, "COULD_NOT_VALIDATE".to_owned()));
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let world = World::new().await;
    let admin = world.login().await;
    for (method, body) in
        [("GET", None), ("PATCH", Some(json!({}))), ("PUT", Some(json!({ "name": "x" }))), ("DELETE", None)]
    {
        for collection in ["edge-routers", "transit-routers", "routers"] {
            let at = format!("/edge/management/v1/{collection}/nobody");
            assert_eq!(
                admin.call(method, &at, body.clone()).await.code(),
                (404, "NOT_FOUND".to_owned()),
                "{method} {at}"
            );
        }
    }
}

#[tokio::test]
async fn lists_are_filtered_sorted_and_paged() {
    let world = World::new().await;
    let admin = world.login().await;
    for index in 0..12 {
        let body = json!({ "name": format!("edge-{index:02}"), "cost": 20 - index, "roleAttributes": [if index % 2 == 0 { "even" } else { "odd" }] });
        assert_eq!(admin.call("POST", EDGE, Some(body)).await.status, StatusCode::CREATED);
    }
    admin.create("transit-routers", "transit-1").await;

    let first = admin.get(EDGE).await.json();
    assert_eq!(first["meta"]["pagination"], json!({ "limit": 10, "offset": 0, "totalCount": 12 }));
    assert!(first["meta"]["filterableFields"].as_array().unwrap().contains(&json!("name")));
    assert_eq!(names(&admin, "offset=10").await, ["edge-10", "edge-11"]);
    assert_eq!(names(&admin, "limit=2&sort=name desc").await, ["edge-11", "edge-10"]);
    assert_eq!(names(&admin, "limit=2&sort=cost").await, ["edge-11", "edge-10"]);
    assert_eq!(names(&admin, "filter=name=\"edge-03\"").await, ["edge-03"]);
    assert_eq!(names(&admin, "filter=name=\"transit-1\"").await, [""; 0]);
    assert_eq!(names(&admin, "filter=name contains \"-1\"").await, ["edge-10", "edge-11"]);
    assert_eq!(names(&admin, "filter=name = \"edge-01\" or id = \"x\"").await, ["edge-01"]);
    assert_eq!(names(&admin, "filter=cost < 11 sort by cost desc limit 1").await, ["edge-10"]);
    assert_eq!(names(&admin, "filter=anyOf(roleAttributes) = \"odd\"&limit=2&offset=1").await, ["edge-03", "edge-05"]);
    assert_eq!(names(&admin, "filter=true limit none").await.len(), 12);
    assert_eq!(names(&admin, "filter=true&limit=500").await.len(), 12);
    assert_eq!(names(&admin, "filter=isVerified = true").await, [""; 0]);
    let counted = admin.get(&format!("{EDGE}?filter=anyOf(roleAttributes) = \"odd\"&limit=2")).await.json();
    assert_eq!(counted["meta"]["pagination"]["totalCount"], 6);

    let code = |query: &'static str| {
        let admin = &admin;
        async move { admin.get(&format!("{EDGE}?{query}")).await.code() }
    };
    assert_eq!(code("filter=name = r1").await, (400, "INVALID_FILTER".to_owned()));
    assert_eq!(code("filter=color = \"red\"").await, (400, "INVALID_FILTER".to_owned()));
    assert_eq!(code("sort=color").await, (400, "INVALID_SORT_IDENTIFIER".to_owned()));
    assert_eq!(code("limit=many").await, (400, "INVALID_PAGINATION".to_owned()));
    assert_eq!(code("limit=none").await, (400, "INVALID_PAGINATION".to_owned()));
    assert_eq!(code("limit=1&limit=2").await, (400, "INVALID_PAGINATION".to_owned()));
    assert_eq!(code("limit=99999999999999999999").await, (400, "INVALID_PAGINATION".to_owned()));
    assert_eq!(code("offset=1000001").await, (400, "INVALID_PAGINATION".to_owned()));
    assert_eq!(code("filter=skip 1000001").await, (400, "INVALID_PAGINATION".to_owned()));
    assert_eq!(code("filter=cost > \"x\"").await, (400, "INVALID_FILTER".to_owned()));
}

#[tokio::test]
async fn pages_are_what_a_stock_controller_makes_of_the_same_numbers() {
    let world = World::new().await;
    let admin = world.login().await;
    for index in 0..12 {
        admin.create("edge-routers", &format!("edge-{index:02}")).await;
    }
    let page = |query: &'static str| {
        let admin = &admin;
        async move { admin.get(&format!("{EDGE}?{query}")).await.json()["meta"]["pagination"].clone() }
    };
    let wanted = |limit: u64, offset: u64| json!({ "limit": limit, "offset": offset, "totalCount": 12 });
    for query in ["limit=0", "limit=-5", "filter=limit 0"] {
        assert_eq!(page(query).await, wanted(10, 0), "{query}");
    }
    for query in ["limit=501", "limit=9223372036854775807", "filter=limit 501"] {
        assert_eq!(page(query).await, wanted(500, 0), "{query}");
    }
    assert_eq!(page("offset=-3").await, wanted(10, 0));
    assert_eq!(page("filter=limit 2 &limit=7").await, wanted(2, 0), "what the filter says comes first");
    assert_eq!(page("filter=skip 3 &offset=7").await, wanted(10, 3));
    assert_eq!(names(&admin, "filter=true sort by name desc limit 1&sort=name").await, ["edge-11"]);
    for query in ["limit=-1", "filter=limit none"] {
        assert_eq!(names(&admin, query).await.len(), 12, "{query}");
    }
    assert_eq!(names(&admin, "offset=500").await, [""; 0]);
    assert_eq!(names(&admin, "filter=id in [\"x\"] or name = \"edge-03\"&offset=1").await, [""; 0]);
}

#[tokio::test]
async fn routers_are_found_by_tags_instants_fingerprints_and_roles() {
    let world = World::new().await;
    let admin = world.login().await;
    let (online, _, chain) = admin.online("online").await;
    let at = format!("{EDGE}/{online}");
    let body = json!({ "tags": { "site": "paris", "floor": 3 }, "roleAttributes": ["x", "y"] });
    admin.call("PATCH", &at, Some(body)).await.data();
    let body = json!({ "name": "waiting", "roleAttributes": ["x"], "tags": { "site": null } });
    assert_eq!(admin.call("POST", EDGE, Some(body)).await.status, StatusCode::CREATED);
    let leaf = pki::Chain::from_pem(chain.as_bytes()).unwrap();
    let sha1 = leaf.leaf().fingerprint_sha1().to_string();
    let both = ["online", "waiting"];
    for (query, wanted) in [
        ("filter=tags.site = \"paris\"", &both[..1]),
        ("filter=tags.floor = 3", &both[..1]),
        ("filter=tags.site = null", &both[1..]),
        ("filter=createdAt = datetime(2026-01-01T01:00:00%2B01:00)", &both[..]),
        ("filter=createdAt > datetime(2026-01-01T00:00:00Z)", &both[..0]),
        ("filter=fingerprint != null", &both[..1]),
        ("filter=fingerprint = null", &both[1..]),
        ("filter=true&sort=fingerprint desc", &both[..]),
        ("roleFilter=%23x", &both[..]),
        ("roleFilter=%23x&roleFilter=%23y", &both[..1]),
        ("roleFilter=%23y&roleFilter=%23z&roleSemantic=AnyOf", &both[..1]),
        ("roleFilter=%23z", &both[..0]),
    ] {
        assert_eq!(names(&admin, query).await, wanted, "{query}");
    }
    assert_eq!(names(&admin, &format!("filter=fingerprint = \"{sha1}\"")).await, ["online"]);
    assert_eq!(names(&admin, &format!("roleFilter=%23none&roleFilter=@{online}")).await, ["online"]);
    for query in ["roleFilter=x", "roleFilter=", "roleFilter=%23x&roleSemantic=Most"] {
        let refused = admin.get(&format!("{EDGE}?{query}")).await.code();
        assert_eq!(refused, (400, "COULD_NOT_VALIDATE".to_owned()), "{query}");
    }
}

#[tokio::test]
async fn listeners_without_groups_come_as_null_and_go_as_an_empty_list() {
    let world = World::new().await;
    let admin = world.login().await;
    let body = json!({ "name": "r1", "ctrlChanListeners": { "tls:192.0.2.1:6262": null } });
    let id = admin.call("POST", EDGE, Some(body)).await.data()["id"].as_str().unwrap().to_owned();
    let at = format!("{EDGE}/{id}");
    assert_eq!(admin.get(&at).await.data()["ctrlChanListeners"], json!({ "tls:192.0.2.1:6262": [] }));
    admin.call("PATCH", &at, Some(json!({ "ctrlChanListeners": {} }))).await.data();
    assert_eq!(admin.get(&at).await.data().get("ctrlChanListeners"), None);
}

#[tokio::test]
async fn what_an_administrator_may_write_is_bounded() {
    let world = World::new().await;
    let admin = world.login().await;
    let (id, _) = admin.create("edge-routers", "r1").await;
    let at = format!("{EDGE}/{id}");
    let huge: Value =
        (0..2000).map(|index| (format!("tag-{index}"), json!("x"))).collect::<serde_json::Map<_, _>>().into();
    let deep = (0..100).fold(json!(1), |inner, _| json!([inner]));
    for (body, field) in [
        (json!({ "tags": huge }), "tags"),
        (json!({ "appData": { "x": "y".repeat(20_000) } }), "appData"),
        (
            json!({ "roleAttributes": (0..3000).map(|index| format!("role-{index}")).collect::<Vec<_>>() }),
            "roleAttributes",
        ),
        (json!({ "roleAttributes": ["#x"] }), "roleAttributes"),
        (json!({ "roleAttributes": [" "] }), "roleAttributes"),
        (json!({ "ctrlChanListeners": { "tls:x": ["g".repeat(20_000)] } }), "ctrlChanListeners"),
        (json!({ "configs": ["no-such-config"] }), "configs"),
    ] {
        let refused = admin.call("PATCH", &at, Some(body)).await;
        assert_eq!(refused.code(), (400, "COULD_NOT_VALIDATE".to_owned()), "{field}");
        assert_eq!(refused.json()["error"]["cause"]["field"], field);
    }
    admin.call("PATCH", &at, Some(json!({ "tags": { "deep": deep }, "configs": [] }))).await.data();
    let too_deep = format!("{{\"tags\": {{\"x\": {}1{}}}}}", "[".repeat(5000), "]".repeat(5000));
    let request =
        http::Request::patch(&at).header("zt-session", &admin.token).header("content-type", "application/json");
    let refused = world.send(request.body(axum::body::Body::from(too_deep)).unwrap()).await;
    assert_eq!(refused.code(), (400, "COULD_NOT_VALIDATE".to_owned()));
}
