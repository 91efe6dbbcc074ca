use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::{Request, StatusCode};
use serde_json::json;

use crate::world::{PASSWORD, World};

const AUTHENTICATE: &str = "/edge/management/v1/authenticate?method=password";

#[tokio::test]
async fn every_guarded_route_refuses_callers_without_a_session() {
    let world = World::new().await;
    for row in api::ROUTES.iter().filter(|row| row.access == api::Access::Session) {
        for path in std::iter::once(&row.path).chain(row.also) {
            let answer = world.call(row.method.as_str(), &path.replace("{id}", "x"), None, None).await;
            assert_eq!(answer.code(), (401, "UNAUTHORIZED".to_owned()), "{} {path}", row.method.as_str());
            assert!(answer.headers.contains_key("www-authenticate"));
        }
    }
}

#[tokio::test]
async fn every_open_route_is_served() {
    let world = World::new().await;
    for row in api::ROUTES.iter().filter(|row| row.access == api::Access::Open && row.method == api::Method::Get) {
        for path in std::iter::once(&row.path).chain(row.also) {
            assert_eq!(world.get(path).await.status, StatusCode::OK, "{path}");
        }
    }
}

#[tokio::test]
async fn a_session_lives_as_long_as_it_is_used() {
    let world = World::new().await;
    let admin = world.login().await;
    for _ in 0..3 {
        world.advance(Duration::from_secs(29 * 60));
        let answer = admin.get("/edge/management/v1/current-api-session").await;
        assert_eq!(answer.data()["identity"]["name"], "admin");
        assert_eq!(answer.headers["expiration-seconds"], "1800");
        assert!(answer.headers.contains_key("expires-at"));
    }
    world.advance(Duration::from_secs(30 * 60 + 1));
    assert_eq!(admin.get("/edge/management/v1/current-api-session").await.code().0, 401);
}

#[tokio::test]
async fn an_ended_session_is_worth_nothing() {
    let world = World::new().await;
    let (one, two) = (world.login().await, world.login().await);
    one.call("DELETE", "/edge/management/v1/current-api-session", None).await.data();
    assert_eq!(one.get("/edge/management/v1/edge-routers").await.code().0, 401);
    assert_eq!(two.get("/edge/management/v1/edge-routers").await.status, StatusCode::OK);
}

#[tokio::test]
async fn the_token_is_good_as_bearer_too() {
    let world = World::new().await;
    let admin = world.login().await;
    let request = Request::get("/api/v1/routers").header("authorization", format!("Bearer {}", admin.token));
    assert_eq!(world.send(request.body(Body::empty()).unwrap()).await.status, StatusCode::OK);
}

#[tokio::test]
async fn wrong_names_and_wrong_passwords_look_alike() {
    let world = World::new().await;
    let wrong = world.post(AUTHENTICATE, json!({ "username": "admin", "password": "wrong" })).await;
    let nobody = world.post(AUTHENTICATE, json!({ "username": "nobody", "password": PASSWORD })).await;
    assert_eq!(wrong.code(), (401, "INVALID_AUTH".to_owned()));
    let without_id = |answer: &crate::world::Answer| {
        let mut json = answer.json();
        json["error"]["requestId"].take();
        json
    };
    assert_eq!(without_id(&wrong), without_id(&nobody));
}

#[tokio::test]
async fn other_ways_to_authenticate_are_named_as_such() {
    let world = World::new().await;
    for method in ["cert", "ext-jwt", "magic"] {
        let answer = world.post(&format!("/edge/management/v1/authenticate?method={method}"), json!({})).await;
        assert_eq!(answer.code(), (400, "INVALID_AUTH_METHOD".to_owned()));
    }
    let answer = world.post(AUTHENTICATE, json!({ "username": "admin" })).await;
    assert_eq!(answer.code(), (400, "COULD_NOT_VALIDATE".to_owned()));
}

#[tokio::test]
async fn guessing_is_slowed_down_per_name_and_forgiven_after_success() {
    let world = World::new().await;
    let guess = || world.post(AUTHENTICATE, json!({ "username": "admin", "password": "guess" }));
    for _ in 0..3 {
        assert_eq!(guess().await.code().1, "INVALID_AUTH");
    }
    let blocked = guess().await;
    assert_eq!(blocked.code(), (429, "RATE_LIMITED".to_owned()));
    assert_eq!(blocked.headers["retry-after"], "2");
    let right = world.post(AUTHENTICATE, json!({ "username": "admin", "password": PASSWORD })).await;
    assert_eq!(right.code().0, 429, "the right password has to wait as well");
    world.advance(Duration::from_secs(2));
    world.login().await;
    assert_eq!(guess().await.code().1, "INVALID_AUTH");
}

#[tokio::test]
async fn a_body_that_announces_too_much_is_refused_unread() {
    struct Untouched;
    impl hyper::body::Body for Untouched {
        type Data = Bytes;
        type Error = std::convert::Infallible;
        fn poll_frame(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<hyper::body::Frame<Bytes>, Self::Error>>> {
            panic!("the body was read")
        }
    }
    let world = World::new().await;
    for path in ["/edge/client/v1/enroll", AUTHENTICATE, "/edge/management/v1/edge-routers"] {
        let request = Request::post(path).header("content-length", 1024 * 1024 + 1).body(Body::new(Untouched)).unwrap();
        assert_eq!(world.send(request).await.code(), (413, "REQUEST_ENTITY_TOO_LARGE".to_owned()), "{path}");
    }
}

#[tokio::test]
async fn a_body_that_turns_out_too_large_is_refused() {
    let world = World::new().await;
    let body = Body::from(vec![b' '; 1024 * 1024 + 1]);
    let request = Request::post(AUTHENTICATE).header("content-type", "application/json").body(body).unwrap();
    assert_eq!(world.send(request).await.code(), (413, "REQUEST_ENTITY_TOO_LARGE".to_owned()));
}

/// A megabyte, and then nothing; tells when the megabyte was taken.
struct Unending(Option<Bytes>, tokio::sync::mpsc::UnboundedSender<()>);

impl hyper::body::Body for Unending {
    type Data = Bytes;
    type Error = std::convert::Infallible;
    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Bytes>, Self::Error>>> {
        match self.0.take() {
            Some(bytes) => std::task::Poll::Ready(Some(Ok(hyper::body::Frame::data(bytes)))),
            None => {
                let _ = self.1.send(());
                std::task::Poll::Pending
            }
        }
    }
}

#[tokio::test]
async fn bodies_that_never_end_take_no_more_together_than_is_allowed() {
    let world = std::sync::Arc::new(World::new().await);
    let post = |body| Request::post("/edge/client/v1/enroll?method=erott").body(body).unwrap();
    let megabyte = || Bytes::from(vec![b' '; 1024 * 1024]);
    // Whatever is answered, its room is free again.
    for _ in 0..10 {
        assert_eq!(world.send(post(Body::from(megabyte()))).await.code().0, 400);
    }
    let (taken, mut all_taken) = tokio::sync::mpsc::unbounded_channel();
    for _ in 0..4 {
        let (world, request) = (world.clone(), post(Body::new(Unending(Some(megabyte()), taken.clone()))));
        tokio::spawn(async move { drop(world.send(request).await) });
        all_taken.recv().await.unwrap();
    }
    let answer = world.send(post(Body::from("{}"))).await;
    assert_eq!(answer.code().0, 429);
    assert!(answer.headers.contains_key("retry-after"));
    assert_eq!(world.get("/healthz").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_body_that_is_no_json_is_refused() {
    let world = World::new().await;
    let request = Request::post(AUTHENTICATE).header("content-type", "text/html").body(Body::from("<p>")).unwrap();
    assert_eq!(world.send(request).await.code(), (415, "INVALID_CONTENT_TYPE".to_owned()));
    let request = Request::post(AUTHENTICATE).body(Body::from("{")).unwrap();
    assert_eq!(world.send(request).await.code(), (400, "COULD_NOT_VALIDATE".to_owned()));
}

#[tokio::test]
async fn unknown_paths_and_wrong_methods_answer_in_the_envelope() {
    let world = World::new().await;
    for path in ["/nowhere", "/edge/management/v1/services", "/edge/v1/nowhere", "/api/v2/routers", "/fabric/v1/links"]
    {
        let answer = world.get(path).await;
        assert_eq!(answer.code(), (404, "NOT_FOUND".to_owned()), "{path}");
        assert_eq!(answer.json()["meta"], json!({ "apiVersion": "0.0.1", "apiEnrollmentVersion": "0.0.1" }));
        assert_eq!(answer.headers["content-type"], "application/json");
        assert!(!answer.json()["error"]["requestId"].as_str().unwrap().is_empty());
    }
    let answer = world.call("DELETE", "/edge/client/v1/enroll", None, None).await;
    assert_eq!(answer.code(), (405, "METHOD_NOT_ALLOWED".to_owned()));
}

#[tokio::test]
async fn answers_name_the_server_and_are_not_cached() {
    let world = World::new().await;
    let answer = world.get("/version").await;
    assert!(answer.headers["server"].to_str().unwrap().starts_with("ziti-controller/v"));
    assert_eq!(answer.headers["cache-control"], "no-store");
    let data = answer.data();
    assert_eq!(data["apiVersions"]["edge"]["v1"]["path"], "/edge/client/v1");
    assert_eq!(
        data["apiVersions"]["edge-management"]["v1"]["apiBaseUrls"],
        json!(["https://ctrl.example.com:1280/edge/management/v1"])
    );
}
