//! What an unmodified router of OpenZiti needs, and nothing that it does not know.

use std::time::Duration;

use api::native::EventKind;
use http::{Method, StatusCode};
use lifecycle::RouterId;
use lifecycle::issuance::{EnrollmentKind::Edge, EnrollmentKind::Transit, Input};
use pki::PrivateKey;
use serde_json::json;
use wire::control::{
    InspectRequest, UpdateCtrlAddresses, UpdateRouterInterfaces, VerifyRouter, quiesce, request_cluster_members,
};
use wire::edge::{ClientHello, DataState, KeyUsage, ModelSubject, ServerHello, SubscribeToDataModel};
use wire::outcome::{self, Outcome};
use wire::version::Release;
use wire::{Frame, content_type, header};

use crate::world::{Line, PATIENCE, World};

async fn ask(line: &Line, frame: Frame) -> Outcome {
    Outcome::from_frame(&line.channel.request(frame, PATIENCE).await.unwrap()).unwrap()
}

#[tokio::test]
async fn the_answer_to_a_stock_hello_has_all_that_it_insists_on_and_nothing_of_ours() {
    let world = World::new().await;
    let router = world.enrolled("go", Edge).await;
    let answer = router.dial_with(&world.daemon, router.stock_hello()).await.unwrap().answer;
    assert_eq!(answer.capabilities.bits(), 0x7e);
    assert!(answer.has_legacy_mask, "routers before 2.0 look for it in header 12");
    assert!(answer.secret.as_ref().is_some_and(|secret| secret.len() == 16));
    assert!(answer.connection_id.is_some() && answer.is_grouped);
    assert_eq!(answer.id.as_deref(), Some("controller"));
    assert!(answer.version.as_ref().unwrap().is_at_least(&Release::new(2, 0, 0)));
    let frame = answer.to_frame();
    let ours = header::EXUVIA_VERSION..=header::EXUVIA_LAST;
    assert!(frame.headers.iter().all(|(key, _)| !ours.contains(&key)));
    assert_eq!(frame.headers.text(header::HELLO_VERSION).unwrap().split('|').count(), 5);
}

#[tokio::test]
async fn a_router_before_2_0_without_groups_is_served_too() {
    let mut world = World::new().await;
    let router = world.enrolled("old", Edge).await;
    let mut hello = router.stock_hello();
    hello.group = None;
    hello.underlay_type = None;
    hello.capabilities = wire::capability::Capabilities::NONE;
    hello.extra.insert(header::LEGACY_LISTENERS, vec![1_u8, 2, 3]);
    let connected = router.dial_with(&world.daemon, hello).await.unwrap();
    assert!(!connected.answer.is_grouped);
    world.next_told(EventKind::Connected, "old").await;
}

#[tokio::test]
async fn a_router_learns_our_address_first_and_whenever_it_asks() {
    let world = World::new().await;
    let router = world.enrolled("go", Transit).await;
    let mut line = router.connect_as_stock(&world.daemon).await;
    let first = UpdateCtrlAddresses::from_frame(&line.frame(content_type::UPDATE_CTRL_ADDRESSES).await).unwrap();
    assert!(first.index >= 1 && first.is_leader);
    assert_eq!(first.controllers[0].id, "controller");
    assert_eq!(first.controllers[0].endpoints[0].address, "tls:127.0.0.1:6262");
    line.channel.send(request_cluster_members()).await.unwrap();
    let again = line.frame(content_type::UPDATE_CTRL_ADDRESSES).await;
    assert_eq!(again.reply_for(), None);
    assert_eq!(UpdateCtrlAddresses::from_frame(&again).unwrap(), first);
}

#[tokio::test]
async fn an_edge_router_is_greeted_and_what_it_answers_is_shown() {
    let mut world = World::new().await;
    let router = world.enrolled("go", Edge).await;
    let mut line = router.connect_as_stock(&world.daemon).await;
    let greeting = line.frame(content_type::SERVER_HELLO).await;
    assert!(ServerHello::from_frame(&greeting).unwrap().has_data_model);
    let hello = ClientHello { hostname: "edge.example.org".to_owned(), ..ClientHello::default() };
    line.channel.send(hello.to_reply(&greeting)).await.unwrap();
    // Frames are served in order.
    assert!(ask(&line, quiesce()).await.is_success);
    world.next_told(EventKind::Connected, "go").await;
    let session = world.login().await;
    let path = "/edge/management/v1/edge-routers/go";
    let answer = world.request(Method::GET, path, Some(&session), json!({})).await;
    assert_eq!(answer.status, StatusCode::OK);
    let data = crate::world::parsed(&answer)["data"].clone();
    assert_eq!(data["hostname"], "edge.example.org");
    assert_eq!((data["isOnline"].clone(), data["versionInfo"]["version"].clone()), (json!(true), json!("v2.0.3")));
    let seen = world.register.router(RouterId::new("go")).await.unwrap().unwrap().router.seen.unwrap();
    assert_eq!(seen.hostname, "edge.example.org");
}

#[tokio::test]
async fn what_waits_for_an_answer_gets_one_and_what_is_unknown_disturbs_nobody() {
    let world = World::new().await;
    let router = world.enrolled("go", Edge).await;
    let line = router.connect_as_stock(&world.daemon).await;
    for content_type in [12_345, content_type::METRICS, content_type::ROUTER_LINKS, content_type::CONNECT_EVENTS] {
        line.channel.send(Frame::new(content_type, vec![0xff; 100])).await.unwrap();
    }
    assert!(ask(&line, UpdateRouterInterfaces::default().to_frame()).await.is_success);
    assert!(ask(&line, Frame::new(content_type::REMOVE_TERMINATORS_REQUEST, "")).await.is_success);
    assert_eq!(ask(&line, outcome::ping()).await.text, "ok");
    assert!(!ask(&line, Frame::new(content_type::CREATE_TERMINATOR_REQUEST, "")).await.is_success);
    let inspect = InspectRequest { names: vec!["capability".to_owned()] }.to_frame();
    let answer = line.channel.request(inspect, PATIENCE).await.unwrap();
    assert_eq!(answer.content_type, content_type::INSPECT_RESPONSE);
}

#[tokio::test]
async fn a_subscriber_gets_the_keys_that_it_must_trust_and_the_same_index_after_a_restart() {
    let world = World::new().await;
    let router = world.enrolled("go", Edge).await;
    let mut line = router.connect_as_stock(&world.daemon).await;
    let asked = SubscribeToDataModel { subscription_id: "s1".to_owned(), ..SubscribeToDataModel::default() };
    line.channel.send(asked.to_frame()).await.unwrap();
    let state = DataState::from_frame(&line.frame(content_type::DATA_STATE).await).unwrap();
    assert_eq!(state.subscription_id.as_deref(), Some("s1"));
    assert_eq!(state.timeline_id, "instance");
    let anchor = world.bundle().certificates()[0].der().to_vec();
    assert!(state.events.iter().any(|event| matches!(
        &event.subject,
        ModelSubject::PublicKey(key) if key.data == anchor && key.usages == [KeyUsage::ClientCertValidation]
    )));
    let jwt = |event: &wire::edge::ModelEvent| matches!(&event.subject, ModelSubject::PublicKey(key) if key.usages == [KeyUsage::JwtValidation]);
    assert!(state.events.iter().any(jwt));

    let world = world.crash().await;
    let mut line = router.connect_as_stock(&world.daemon).await;
    line.channel.send(asked.to_frame()).await.unwrap();
    assert_eq!(DataState::from_frame(&line.frame(content_type::DATA_STATE).await).unwrap(), state);
    let up_to_date = SubscribeToDataModel {
        current_index: state.end_index,
        timeline_id: state.timeline_id.clone(),
        is_renewal: true,
        ..asked
    };
    line.channel.send(up_to_date.to_frame()).await.unwrap();
    assert!(ask(&line, quiesce()).await.is_success, "nothing else is sent to one that has it");
}

#[tokio::test]
async fn link_verification_knows_the_whole_admitted_set_and_is_no_use_of_a_leaf() {
    let world = World::new().await;
    let (asker, dialer) = (world.enrolled("asker", Edge).await, world.enrolled("dialer", Edge).await);
    let line = asker.connect_as_stock(&world.daemon).await;
    let verify = |id: &str, leaf: &pki::Certificate| {
        let fingerprints = vec!["00".repeat(20), leaf.fingerprint_sha1().to_string()];
        VerifyRouter { router_id: id.to_owned(), fingerprints }.to_frame()
    };
    let mut dialers = dialer.connect_as_stock(&world.daemon).await;
    let next = dialers.renew(&dialer).await;
    let before = world.record("dialer").await;
    for leaf in [dialer.client.leaf(), next.client.leaf()] {
        assert!(ask(&line, verify("dialer", leaf)).await.is_success);
        assert!(!ask(&line, verify("asker", leaf)).await.is_success);
    }
    assert_eq!(world.record("dialer").await, before);
    assert!(!ask(&line, verify("nobody", next.client.leaf())).await.is_success);
    world.order("dialer", Input::SetDisabled(true)).await;
    let answer = ask(&line, verify("dialer", next.client.leaf())).await;
    assert!(!answer.is_success && answer.text.contains("disabled"), "{answer:?}");
    world.order("dialer", Input::Revoke).await;
    let answer = ask(&line, verify("dialer", next.client.leaf())).await;
    assert!(!answer.is_success && answer.text.contains("revoked"), "{answer:?}");
}

#[tokio::test]
async fn a_stock_router_that_asks_again_at_once_is_left_to_wait_and_not_for_ever() {
    let world = World::new().await;
    let router = world.enrolled("go", Edge).await;
    let mut line = router.connect_as_stock(&world.daemon).await;
    // Lost answers cost it nothing.
    let certs = line.extend(&router, &router.key).await;
    assert_eq!(line.extend(&router, &router.key).await, certs);
    assert!(line.verify(&certs.client_chain_pem).await.is_success());
    let settled = world.record("go").await;
    for _ in 0..3 {
        line.channel.send(router.asking(&router.key)).await.unwrap();
    }
    // Frames are served in order: the next reply shows that there was none before.
    assert!(ask(&line, quiesce()).await.is_success);
    assert_eq!(world.record("go").await, settled);
    world.offset.advance(Duration::from_secs(35));
    assert_eq!(line.extend(&router, &router.key).await, certs, "the leaf is not used yet");
    // Another channel is another start, with `--extend` at each of them.
    assert!(line.verify(&certs.client_chain_pem).await.is_success());
    let copied = PrivateKey::from_pem(router.key.to_pem().unwrap().as_bytes()).unwrap();
    let mut next = router.renewed(copied, &certs).connect_as_stock(&world.daemon).await;
    assert_ne!(next.extend(&router, &router.key).await, certs);
    // One of ours knows what it does.
    let ours = world.enrolled("ours", Edge).await;
    let mut line = ours.connect(&world.daemon).await;
    line.renew(&ours).await;
    line.renew(&ours).await;
}

#[tokio::test]
async fn a_stock_router_is_due_when_it_will_renew_and_not_when_ours_would() {
    const DAY: i64 = 86_400;
    let world = World::new().await;
    let (theirs, ours) = (world.enrolled("go", Edge).await, world.enrolled("ours", Edge).await);
    let lines = [theirs.connect_as_stock(&world.daemon).await, ours.connect(&world.daemon).await];
    for line in &lines {
        // Answered once what they said of themselves is kept.
        assert!(ask(line, quiesce()).await.is_success);
    }
    drop(lines);
    let session = world.login().await;
    for (id, days_before_the_end) in [("go", 7), ("ours", 30)] {
        let answer = world.request(Method::GET, &format!("/api/v1/routers/{id}"), Some(&session), json!({})).await;
        let data = crate::world::parsed(&answer)["data"].clone();
        let at = |name: &str| data[name].as_i64().unwrap();
        let left = at("client_not_after_unix_s") - at("renew_due_unix_s");
        assert!((left - days_before_the_end * DAY).abs() < 60, "{id}: {left} s");
    }
}
