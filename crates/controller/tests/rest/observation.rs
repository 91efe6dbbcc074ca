use axum::body::Body;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::world::World;

#[tokio::test]
async fn metrics_are_openmetrics_with_counts_and_states() {
    let world = World::new().await;
    let admin = world.login().await;
    let (id, _, _) = admin.online("r1").await;
    let answer = world.get("/metrics").await;
    assert_eq!(answer.headers["content-type"], "application/openmetrics-text; version=1.0.0; charset=utf-8");
    for line in [
        "exuvia_controller_enrollments_total{outcome=\"success\"} 1",
        "exuvia_controller_routers{progress=\"steady\"} 1",
        "exuvia_controller_routers{progress=\"lapsed\"} 0",
        "exuvia_controller_lowest_lockout_seconds 7776000",
        "exuvia_controller_connected_routers 0",
        "exuvia_controller_connections_turned_away_total{reason=\"crowded_out\"} 0",
    ] {
        assert!(answer.text.lines().any(|one| one == line), "{line} is not in\n{}", answer.text);
    }
    assert!(answer.text.contains(&format!("exuvia_controller_router_lockout_seconds{{id=\"{id}\",name=\"r1\"}}")));
    assert!(answer.text.ends_with("# EOF\n"));
}

#[tokio::test]
async fn readiness_names_the_part_that_fails() {
    let world = World::new().await;
    world.readiness.fails("control", "the port is in use");
    let answer = world.get("/readyz").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    let data = answer.json()["data"].clone();
    assert_eq!(data["parts"], json!({ "control": "the port is in use", "register": "ok", "signer": "ok" }));
    world.readiness.works("control");
    assert_eq!(world.get("/readyz").await.data()["is_ready"], true);
    assert_eq!(world.get("/healthz").await.data()["status"], "ok");
}

struct Reader {
    body: Body,
    text: String,
}

impl Reader {
    async fn open(world: &World, path: &str) -> Self {
        let token = world.login().await.token;
        let request = Request::get(path).header("zt-session", token).body(Body::empty()).unwrap();
        let response = world.app.clone().oneshot(request).await.unwrap();
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let mut reader = Self { body: response.into_body(), text: String::new() };
        reader.more().await;
        reader
    }

    async fn more(&mut self) -> bool {
        match self.body.frame().await {
            Some(frame) => {
                self.text.push_str(std::str::from_utf8(&frame.unwrap().into_data().unwrap()).unwrap());
                true
            }
            None => false,
        }
    }

    async fn until(&mut self, kind: &str) -> Value {
        let wanted = format!("event: {kind}\n");
        while !self.text.contains(&wanted) {
            assert!(self.more().await, "the stream ended without {kind}: {}", self.text);
        }
        let (_, rest) = self.text.split_once(&wanted).unwrap();
        serde_json::from_str(rest.lines().next().unwrap().strip_prefix("data: ").unwrap()).unwrap()
    }
}

#[tokio::test]
async fn what_happens_can_be_followed_per_router() {
    let world = World::new().await;
    let mut all = Reader::open(&world, "/api/v1/events").await;
    let admin = world.login().await;
    let (one, _, _) = admin.online("r1").await;
    assert_eq!(all.until("created").await["router_id"], json!(one));
    assert_eq!(all.until("enrolled").await["leaf_seq"], 1);

    let (two, _) = admin.create("edge-routers", "r2").await;
    let mut only = Reader::open(&world, &format!("/api/v1/events?router={two}")).await;
    admin.call("DELETE", &format!("/edge/management/v1/edge-routers/{one}"), None).await.data();
    admin.call("DELETE", &format!("/edge/management/v1/edge-routers/{two}"), None).await.data();
    assert_eq!(only.until("deleted").await["router_id"], json!(two));
    assert!(!only.text.contains(&one));
}

#[tokio::test]
async fn event_streams_end_with_the_process() {
    let world = World::new().await;
    let mut reader = Reader::open(&world, "/api/v1/events").await;
    world.stop.stop();
    while reader.more().await {}
}
