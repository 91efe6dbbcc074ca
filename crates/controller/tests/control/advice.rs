//! When renewals would be welcome.

use api::native::EventKind;
use controller::fleet::Fleet as _;
use http::{Method, StatusCode};
use lifecycle::issuance::EnrollmentKind::Edge;
use lifecycle::issuance::{Campaign, Window};
use lifecycle::{RouterId, UnixTime};
use serde_json::json;
use wire::hello::{RENEWAL_ADVICE, RenewalAdvice};

use crate::world::World;

#[tokio::test]
async fn renew_now_reaches_an_open_channel_of_ours() {
    let mut world = World::new().await;
    let router = world.enrolled("r1", Edge).await;
    let mut line = router.connect(&world.daemon).await;
    world.next_told(EventKind::Connected, "r1").await;
    let session = world.login().await;
    let answer = world.request(Method::POST, "/api/v1/routers/r1/renew", Some(&session), json!({})).await;
    assert_eq!(answer.status, StatusCode::OK, "{:?}", answer.body);
    assert_eq!(crate::world::parsed(&answer)["data"]["told"], json!(true));
    let advice = RenewalAdvice::from_frame(&line.frame(RENEWAL_ADVICE).await).unwrap();
    assert!(advice.window.is_some());
}

#[tokio::test]
async fn a_campaign_that_was_ended_is_told_to_nobody() {
    let world = World::new().await;
    let router = world.enrolled("r1", Edge).await;
    let session = world.login().await;
    world.offset.advance(std::time::Duration::from_secs(5));
    let path = "/api/v1/campaigns";
    let answer = world.request(Method::POST, path, Some(&session), json!({ "within_s": 3600 })).await;
    assert_eq!(answer.status, StatusCode::OK, "{:?}", answer.body);
    assert!(router.connect(&world.daemon).await.answer.exuvia.window.is_some());
    world.request(Method::DELETE, "/api/v1/campaigns/current", Some(&session), json!({})).await;
    assert_eq!(router.connect(&world.daemon).await.answer.exuvia.window, None);
}

#[tokio::test]
async fn a_stock_router_hears_no_advice() {
    let mut world = World::new().await;
    let router = world.enrolled("go", Edge).await;
    let _line = router.connect_as_stock(&world.daemon).await;
    world.next_told(EventKind::Connected, "go").await;
    let from = world.now().wall;
    let window = Window { from, to: UnixTime::from_s(from.as_s() + 60) };
    assert!(!world.daemon.control().advise(&RouterId::new("go"), window));
    assert_eq!(world.daemon.control().announce(Campaign { ordered_at: from, until: from }), 0);
}

#[tokio::test]
async fn whoever_was_away_is_told_when_it_connects_and_only_until_it_has_renewed() {
    let mut world = World::new().await;
    let router = world.enrolled("r1", Edge).await;
    router.connect(&world.daemon).await;
    world.next_told(EventKind::Disconnected, "r1").await;
    world.offset.advance(std::time::Duration::from_secs(5));
    let now = world.now().wall;
    let campaign = Campaign { ordered_at: now, until: now };
    assert_eq!(world.daemon.control().announce(campaign), 0);
    let mut line = router.connect(&world.daemon).await;
    assert_eq!(line.answer.exuvia.renew_now, Some(u64::try_from(now.as_s()).unwrap()));
    assert!(line.answer.exuvia.window.is_some());
    world.offset.advance(std::time::Duration::from_secs(5));
    let next = line.renew(&router).await;
    let line = next.connect(&world.daemon).await;
    assert_eq!((line.answer.exuvia.renew_now, line.answer.exuvia.window), (None, None));
}
