//! An operator's order closes everything, whatever is on its way.

use api::native::EventKind;
use controller::fleet::{Closing, Fleet as _};
use http::{Method, StatusCode};
use lifecycle::RouterId;
use lifecycle::issuance::{EnrollmentKind::Edge, Input};
use net::dial::DialError;
use serde_json::json;
use store::register::Register as _;
use wire::content_type;
use wire::extension::ErrorAnswer;

use crate::world::{World, new_key};

#[tokio::test]
async fn revoking_over_the_interface_closes_the_channel_and_keeps_the_router_out() {
    let mut world = World::new().await;
    let router = world.enrolled("r1", Edge).await;
    let mut line = router.connect(&world.daemon).await;
    world.next_told(EventKind::Connected, "r1").await;
    let session = world.login().await;
    let answer = world.request(Method::POST, "/api/v1/routers/r1/revoke", Some(&session), json!({})).await;
    assert_eq!(answer.status, StatusCode::OK, "{:?}", answer.body);
    line.closed().await;
    assert_eq!(world.daemon.control().connected_count(), 0);
    let error = router.dial(&world.daemon).await.unwrap_err();
    assert!(matches!(&error, DialError::Refused { text, .. } if text.contains("revoked")), "{error:?}");
}

#[tokio::test]
async fn a_request_that_races_with_a_revocation_is_void() {
    let mut world = World::new().await;
    let router = world.enrolled("r1", Edge).await;
    let mut line = router.connect(&world.daemon).await;
    world.next_told(EventKind::Connected, "r1").await;
    // The register knows already, the channels are not closed yet.
    world.order("r1", Input::Revoke).await;
    line.channel.send(router.asking(&new_key())).await.unwrap();
    let answer = ErrorAnswer::from_frame(&line.frame(content_type::ERROR).await).unwrap();
    assert_eq!(answer.code, "INVALID_ROUTER_STATE");
    assert!(world.record("r1").await.leaves.is_empty());
    let answer = line.verify(&router.client.to_pem()).await;
    assert_eq!(answer.code, "INVALID_ROUTER_STATE");
    world.daemon.control().close(&RouterId::new("r1"), Closing::Revoked);
    line.closed().await;
}

#[tokio::test]
async fn an_admission_that_races_with_a_revocation_opens_nothing() {
    let mut world = World::new().await;
    let router = world.enrolled("r1", Edge).await;
    // The use is decided and waits for its commit; the order is decided after it and closes what it finds: nothing.
    world.memory.hold_commits(true);
    let steps = world.memory.metrics().steps;
    let dialing = router.dial(&world.daemon);
    tokio::pin!(dialing);
    while world.memory.metrics().steps == steps {
        tokio::select! {
            early = &mut dialing => panic!("answered before its commit: {early:?}"),
            () = tokio::task::yield_now() => {}
        }
    }
    {
        let order = world.order("r1", Input::Revoke);
        tokio::pin!(order);
        // Decided when first polled, durable together with the use.
        assert!(polled_once(order.as_mut()).is_none());
        world.daemon.control().close(&RouterId::new("r1"), Closing::Revoked);
        world.memory.hold_commits(false);
        order.await;
    }
    // Its leaf was good when the register decided, so it may hear so; its channel is closed at once.
    if let Ok(connected) = dialing.await {
        let settings = net::channel::ChannelSettings {
            last_underlay: net::channel::LastUnderlay::Closes,
            ..net::channel::ChannelSettings::dialing()
        };
        let (channel, _events) = connected.open(settings);
        channel.closed().await;
    }
    assert_eq!(world.daemon.control().connected_count(), 0);
    assert!(world.told.try_recv().is_ok(), "the stream is alive");
    while let Ok(event) = world.told.try_recv() {
        assert_ne!(event.kind, EventKind::Connected);
    }
}

fn polled_once<F: Future>(future: std::pin::Pin<&mut F>) -> Option<F::Output> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match future.poll(&mut context) {
        std::task::Poll::Ready(output) => Some(output),
        std::task::Poll::Pending => None,
    }
}

#[tokio::test]
async fn re_enrolling_closes_the_channel_and_voids_every_leaf() {
    let mut world = World::new().await;
    let router = world.enrolled("r1", Edge).await;
    let mut line = router.connect(&world.daemon).await;
    world.next_told(EventKind::Connected, "r1").await;
    let session = world.login().await;
    let path = "/edge/management/v1/edge-routers/r1/re-enroll";
    let answer = world.request(Method::POST, path, Some(&session), json!({})).await;
    assert_eq!(answer.status, StatusCode::OK, "{:?}", answer.body);
    line.closed().await;
    assert!(matches!(router.dial(&world.daemon).await, Err(DialError::Refused { .. })));
    let view = world.register.router(RouterId::new("r1")).await.unwrap().unwrap();
    let token = view.token.unwrap().jti;
    let anew = crate::world::enroll(&world.daemon, world.bundle(), "r1", Edge, &token).await;
    anew.connect(&world.daemon).await;
}

#[tokio::test]
async fn switching_off_closes_the_channel_and_switching_on_lets_the_same_leaf_in() {
    let mut world = World::new().await;
    let router = world.enrolled("r1", Edge).await;
    let mut line = router.connect(&world.daemon).await;
    world.next_told(EventKind::Connected, "r1").await;
    let session = world.login().await;
    let path = "/edge/management/v1/edge-routers/r1";
    world.request(Method::PATCH, path, Some(&session), json!({ "disabled": true })).await;
    line.closed().await;
    let error = router.dial(&world.daemon).await.unwrap_err();
    assert!(matches!(&error, DialError::Refused { text, .. } if text.contains("disabled")), "{error:?}");
    world.request(Method::PATCH, path, Some(&session), json!({ "disabled": false })).await;
    router.connect(&world.daemon).await;
}

#[tokio::test]
async fn deleting_closes_the_channel() {
    let mut world = World::new().await;
    let router = world.enrolled("r1", Edge).await;
    let mut line = router.connect(&world.daemon).await;
    world.next_told(EventKind::Connected, "r1").await;
    let session = world.login().await;
    world.request(Method::DELETE, "/edge/management/v1/edge-routers/r1", Some(&session), json!({})).await;
    line.closed().await;
    assert_eq!(world.daemon.control().connected_count(), 0);
}
