//! What the interfaces say while the register's disk refuses to write.

use std::sync::Arc;
use std::time::Duration;

use controller::config::SanPolicy;
use http::StatusCode;
use serde_json::json;
use store::register::{MemoryRegister, Register};

use crate::world::{Keys, World, days};

async fn world() -> (World, MemoryRegister) {
    let register = MemoryRegister::new("test");
    let shared: Arc<dyn Register> = Arc::new(register.clone());
    (World::on(shared, SanPolicy::Any, days(3650)).await, register)
}

#[tokio::test]
async fn an_enrollment_that_cannot_be_kept_is_not_answered_and_can_be_repeated() {
    let (world, register) = world().await;
    let admin = world.login().await;
    let (id, token) = admin.create("edge-routers", "r1").await;
    let body = Keys::new().body(&id);
    register.fail_commit(1);
    let failed = world.enroll("erott", &token, body.clone()).await;
    assert_eq!(failed.code(), (503, "UNAVAILABLE".to_owned()));
    assert_eq!(failed.headers["retry-after"], "1");
    assert!(!failed.text.contains("BEGIN CERTIFICATE"));
    assert_eq!(admin.get(&format!("/api/v1/routers/{id}")).await.data()["progress"], "awaiting_enrollment");
    assert_eq!(world.enroll("erott", &token, body).await.status, StatusCode::OK);
}

#[tokio::test]
async fn channels_stay_open_when_an_order_could_not_be_kept() {
    let (world, register) = world().await;
    let admin = world.login().await;
    let (id, _, _) = admin.online("r1").await;
    let orders = [
        ("POST", format!("/api/v1/routers/{id}/revoke"), None),
        ("POST", format!("/edge/management/v1/edge-routers/{id}/re-enroll"), None),
        ("PATCH", format!("/edge/management/v1/edge-routers/{id}"), Some(json!({ "disabled": true }))),
        ("DELETE", format!("/edge/management/v1/edge-routers/{id}"), None),
    ];
    for (method, path, body) in orders {
        register.fail_commit(1);
        assert_eq!(admin.call(method, &path, body).await.code(), (503, "UNAVAILABLE".to_owned()), "{method} {path}");
    }
    assert!(world.fleet.closed.lock().unwrap().is_empty());
    assert_eq!(admin.get(&format!("/api/v1/routers/{id}")).await.data()["progress"], "steady");
}

#[tokio::test]
async fn a_router_that_could_not_be_made_is_not_there() {
    let (world, register) = world().await;
    let admin = world.login().await;
    register.fail_commit(1);
    let made = admin.call("POST", "/edge/management/v1/edge-routers", Some(json!({ "name": "r1" }))).await;
    assert_eq!(made.code(), (503, "UNAVAILABLE".to_owned()));
    let listed = admin.get("/edge/management/v1/edge-routers").await.json();
    assert_eq!(listed["meta"]["pagination"]["totalCount"], 0);
    admin.create("edge-routers", "r1").await;
}

#[tokio::test]
async fn an_order_is_carried_out_to_its_end_although_whoever_gave_it_hangs_up() {
    let (world, register) = world().await;
    let admin = world.login().await;
    let (id, _, _) = admin.online("r1").await;
    register.hold_commits(true);
    let path = format!("/api/v1/routers/{id}/revoke");
    let mut asked = Box::pin(admin.call("POST", &path, None));
    // Until it waits for the commit; then the connection is gone, and the server drops the request.
    assert!(tokio::time::timeout(Duration::from_millis(200), &mut asked).await.is_err());
    drop(asked);
    assert_eq!(register.commit(), 1, "the order itself was under way");
    register.hold_commits(false);
    let closed = async {
        while world.fleet.closed.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(10), closed).await;
    assert!(waited.is_ok(), "a revoked router must not keep its channel");
}
