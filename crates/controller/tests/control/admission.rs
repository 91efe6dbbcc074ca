//! Who gets a channel.

use std::time::Duration;

use api::native::EventKind;
use controller::fleet::Fleet as _;
use http::{Method, StatusCode};
use lifecycle::issuance::{EnrollmentKind::Edge, EnrollmentKind::Transit, ForkVerdict, LeafStage};
use lifecycle::{RouterId, UnixTime};
use net::channel::ChannelSettings;
use net::dial::DialError;
use pki::{Issuer, Profile, Sans, Subject, Validity};
use serde_json::{Value, json};
use store::register::{Register as _, Sha1};
use wire::hello::{GroupHello, Hello, RefusalClass};

use crate::world::{TestRouter, World, new_key, parsed};

const HOUR: Duration = Duration::from_secs(3600);

fn refusal(result: Result<net::dial::Connected, DialError>) -> (String, RefusalClass) {
    match result {
        Err(DialError::Refused { text, class, .. }) => (text, class),
        other => panic!("{other:?}"),
    }
}

fn is_silent(result: Result<net::dial::Connected, DialError>) -> bool {
    matches!(result, Err(DialError::ClosedWithoutAnswer { .. }))
}

#[tokio::test]
async fn an_enrolled_router_is_let_in_and_its_first_use_is_durable_by_then() {
    let mut world = World::new().await;
    let router = world.enrolled("r1", Edge).await;
    assert_eq!(world.record("r1").await.last_used, None);
    let line = router.connect(&world.daemon).await;
    let record = world.record("r1").await;
    assert_eq!(record.leaves[0].stage, LeafStage::Used);
    assert_eq!(record.token, None, "the token is spent");
    assert_eq!(line.answer.id.as_deref(), Some("controller"));
    world.next_told(EventKind::FirstUse, "r1").await;
    world.next_told(EventKind::Connected, "r1").await;
    let connected = world.daemon.control().connected(&RouterId::new("r1")).unwrap();
    assert_eq!(connected.leaf, Some(router.client.leaf().fingerprint()));
    assert_eq!((connected.underlays, connected.takes_advice), (1, true));
}

#[tokio::test]
async fn no_result_leaves_before_the_use_is_durable() {
    let world = World::new().await;
    let router = world.enrolled("r1", Edge).await;
    world.memory.fail_commit(1);
    let (_, class) = refusal(router.dial(&world.daemon).await);
    assert_eq!(class, RefusalClass::Busy);
    assert_eq!(world.record("r1").await.last_used, None);
    world.memory.fail_commit(1);
    assert!(is_silent(router.dial_with(&world.daemon, router.stock_hello()).await), "stock peers are told nothing");
    router.connect(&world.daemon).await;
    assert!(world.record("r1").await.last_used.is_some());
}

#[tokio::test]
async fn a_leaf_speaks_for_nobody_but_its_own_router() {
    let world = World::new().await;
    let (thief, _victim) = (world.enrolled("thief", Edge).await, world.enrolled("victim", Edge).await);
    let as_victim = Hello { id: "victim".to_owned(), ..thief.hello() };
    let (text, class) = refusal(thief.dial_with(&world.daemon, as_victim).await);
    assert!(text.contains("victim"), "{text}");
    assert_eq!(class, RefusalClass::NotPermitted);
    let as_victim = Hello { id: "victim".to_owned(), ..thief.stock_hello() };
    assert!(is_silent(thief.dial_with(&world.daemon, as_victim).await));
    assert_eq!(world.record("victim").await.last_used, None);
    assert_eq!(world.record("thief").await.last_used, None, "an attempt under another name is no use");
}

/// A generation signed by somebody else, whose listener is believed all the same.
fn foreign(world: &World, id: &str) -> TestRouter {
    let now = UnixTime::from_s(world.now().wall.as_s());
    let lasting = Validity { not_before: now.minus(HOUR), not_after: now.plus(HOUR), issuer_ends_soon: None };
    let stranger: Issuer = pki::new_root("stranger", new_key(), &lasting).unwrap();
    let (key, subject) = (new_key(), Subject::common_name(id).unwrap());
    let leaf = |profile| stranger.issue_for(key.public(), &subject, &Sans::default(), profile, &lasting).unwrap();
    let (client, server) = (leaf(Profile::Client), leaf(Profile::Server));
    let both =
        world.bundle().certificates().iter().cloned().chain([stranger.certificate().clone()]).collect::<Vec<_>>();
    TestRouter { id: id.to_owned(), client, server, key, bundle: pki::TrustBundle::new(both).unwrap() }
}

#[tokio::test]
async fn whoever_does_not_prove_our_chain_is_told_nothing() {
    let world = World::new().await;
    world.enrolled("r1", Edge).await;
    let stranger = foreign(&world, "r1");
    assert!(is_silent(stranger.dial(&world.daemon).await), "not even one of our own peers");
    assert!(is_silent(stranger.dial_with(&world.daemon, stranger.stock_hello()).await));
}

#[tokio::test]
async fn a_lapsed_router_is_told_so_and_a_stock_one_is_not() {
    let mut world = World::new().await;
    let router = world.enrolled("r1", Edge).await;
    router.connect(&world.daemon).await;
    world.offset.advance(HOUR * 24 * 91);
    let (text, class) = refusal(router.dial(&world.daemon).await);
    assert!(text.contains("expired"), "{text}");
    assert_eq!(class, RefusalClass::NotPermitted);
    world.next_told(EventKind::Refused, "r1").await;
    assert!(is_silent(router.dial_with(&world.daemon, router.stock_hello()).await));
}

#[tokio::test]
async fn an_old_leaf_is_superseded_one_overlap_after_the_first_use_of_a_newer_one() {
    let world = World::new().await;
    let old = world.enrolled("r1", Edge).await;
    let mut line = old.connect(&world.daemon).await;
    let new = line.renew(&old).await;
    old.connect(&world.daemon).await;
    new.connect(&world.daemon).await;
    world.offset.advance(HOUR + Duration::from_secs(1));
    let (text, _) = refusal(old.dial(&world.daemon).await);
    assert!(text.contains("newer leaf"), "{text}");
    new.connect(&world.daemon).await;
}

#[tokio::test]
async fn an_older_leaf_that_opens_a_channel_beside_a_newer_one_raises_the_alarm_and_nothing_is_retired() {
    let mut world = World::new().await;
    let owner = world.enrolled("r1", Edge).await;
    let mut line = owner.connect(&world.daemon).await;
    // Whoever copied the disk asks for leaves of its own, and uses them.
    let thief = line.renew(&owner).await;
    thief.connect(&world.daemon).await;
    owner.connect(&world.daemon).await;
    let told = world.next_told(EventKind::Alarm, "r1").await;
    let detail = told.detail.clone().unwrap();
    assert_eq!(detail.matches("127.0.0.1").count(), 2, "both addresses: {detail}");
    let fork = world.record("r1").await.fork.unwrap();
    assert_eq!((fork.older, fork.verdict), (owner.client.leaf().fingerprint(), ForkVerdict::Frozen));
    world.offset.advance(HOUR * 48);
    owner.connect(&world.daemon).await;
    thief.connect(&world.daemon).await;
    let metrics = world.request(http::Method::GET, "/metrics", None, serde_json::json!({})).await;
    let metrics = String::from_utf8(metrics.body.to_vec()).unwrap();
    for line in ["forks_suspected_total{verdict=\"frozen\"} 1", "forked_routers 1"] {
        assert!(metrics.contains(&format!("exuvia_controller_{line}\n")), "{line}: {metrics}");
    }
}

#[tokio::test]
async fn an_older_leaf_that_is_out_already_is_refused_and_raises_the_same_alarm() {
    let mut world = World::new().await;
    let old = world.enrolled("r1", Edge).await;
    let mut line = old.connect(&world.daemon).await;
    let new = line.renew(&old).await;
    new.connect(&world.daemon).await;
    world.offset.advance(HOUR + Duration::from_secs(1));
    for _ in 0..3 {
        refusal(old.dial(&world.daemon).await);
    }
    let told = world.next_told(EventKind::Alarm, "r1").await;
    assert!(told.detail.as_deref().is_some_and(|detail| detail.contains("refused")), "{told:?}");
    let fork = world.record("r1").await.fork.unwrap();
    assert_eq!((fork.older, fork.verdict), (old.client.leaf().fingerprint(), ForkVerdict::Refused));
    new.connect(&world.daemon).await;
}

#[tokio::test]
async fn an_ordinary_renewal_raises_no_alarm() {
    let world = World::new().await;
    let old = world.enrolled("r1", Transit).await;
    let mut line = old.connect(&world.daemon).await;
    let new = line.renew(&old).await;
    for proving in [&new, &old] {
        let group = GroupHello::further(&line.answer);
        let underlay = proving.dial_with(&world.daemon, Hello { group, ..proving.hello() }).await.unwrap();
        underlay.join(&line.channel).unwrap();
    }
    assert_eq!(world.record("r1").await.fork, None, "further underlays of one group are never a fork");
    new.connect(&world.daemon).await;
    assert_eq!(world.record("r1").await.fork, None);
}

#[tokio::test]
async fn a_restarted_router_gets_in_at_once_and_leaves_one_live_channel() {
    let mut world = World::new().await;
    let router = world.enrolled("r1", Edge).await;
    let mut before = router.connect(&world.daemon).await;
    world.next_told(EventKind::Connected, "r1").await;
    let after = router.connect(&world.daemon).await;
    world.next_told(EventKind::Connected, "r1").await;
    before.closed().await;
    assert_eq!(after.channel.close_reason(), None);
    assert_eq!(world.daemon.control().connected_count(), 1);
    world.next_told(EventKind::Disconnected, "r1").await;
    assert_eq!(world.daemon.control().connected_count(), 1, "the end of the old one is not the end of the new one");
    let metrics = world.request(http::Method::GET, "/metrics", None, serde_json::json!({})).await;
    let metrics = String::from_utf8(metrics.body.to_vec()).unwrap();
    for line in
        ["channels_opened_total 2", "channels_displaced_total 1", "channels_closed_total 1", "connected_routers 1"]
    {
        assert!(metrics.contains(&format!("exuvia_controller_{line}\n")), "{line}: {metrics}");
    }
}

#[tokio::test]
async fn a_further_underlay_with_the_new_leaf_is_its_first_use_and_closes_nothing() {
    let mut world = World::new().await;
    let old = world.enrolled("r1", Transit).await;
    let mut line = old.connect(&world.daemon).await;
    let new = line.renew(&old).await;
    let group = GroupHello::further(&line.answer);
    let proof = new.dial_with(&world.daemon, Hello { group, ..new.hello() }).await.unwrap();
    proof.join(&line.channel).unwrap();
    let record = world.record("r1").await;
    assert_eq!(
        record.last_used.map(|used| used.seq),
        record.leaf(new.client.leaf().fingerprint()).map(|leaf| leaf.seq)
    );
    world.next_told(EventKind::FirstUse, "r1").await;
    assert_eq!(line.channel.close_reason(), None);
    // The channel's authority is the router and its epoch, so the older underlay may still ask.
    line.renew(&new).await;
}

#[tokio::test]
async fn no_more_routers_are_connected_than_allowed_and_a_known_one_may_come_back() {
    let mut world = World::with(|config| config.limits.channels = 1).await;
    let (one, two) = (world.enrolled("one", Edge).await, world.enrolled("two", Edge).await);
    let _line = one.connect(&world.daemon).await;
    world.next_told(EventKind::Connected, "one").await;
    assert!(is_silent(two.dial(&world.daemon).await));
    assert_eq!(world.record("two").await.last_used, None);
    one.connect(&world.daemon).await;
}

#[tokio::test]
async fn a_router_that_was_deleted_is_nobody() {
    let world = World::new().await;
    let router = world.enrolled("r1", Edge).await;
    world.register.delete_router(RouterId::new("r1"), store::register::By::controller(world.now())).await.unwrap();
    let (text, class) = refusal(router.dial(&world.daemon).await);
    assert!(text.contains("no router"), "{text}");
    assert_eq!(class, RefusalClass::NotPermitted);
}

#[tokio::test]
async fn an_answer_that_is_never_read_leaves_no_trace_in_the_table() {
    let mut world = World::new().await;
    let router = world.enrolled("r1", Edge).await;
    let connected = router.dial(&world.daemon).await.unwrap();
    world.next_told(EventKind::Connected, "r1").await;
    drop(connected.open(ChannelSettings::dialing()));
    world.next_told(EventKind::Disconnected, "r1").await;
    assert_eq!(world.daemon.control().connected(&RouterId::new("r1")), None);
}

#[tokio::test]
async fn routers_that_come_together_share_one_commit() {
    const ROUTERS: u64 = 8;
    let world = World::new().await;
    let mut routers = Vec::new();
    for number in 0..ROUTERS {
        routers.push(world.enrolled(&format!("r{number}"), Transit).await);
    }
    let before = world.memory.metrics();
    world.memory.hold_commits(true);
    let address = world.daemon.control_address();
    let dialing: Vec<_> = routers.iter().map(|router| tokio::spawn(router.dialing(address))).collect();
    while world.memory.metrics().steps < before.steps + ROUTERS {
        tokio::task::yield_now().await;
    }
    assert!(dialing.iter().all(|dialing| !dialing.is_finished()));
    assert_eq!(world.memory.commit(), 8);
    assert_eq!(world.memory.metrics().commits, before.commits + 1);
    for dialing in dialing {
        dialing.await.unwrap().unwrap();
    }
    world.memory.hold_commits(false);
}

#[tokio::test]
async fn a_fingerprint_patch_admits_a_leaf_that_the_register_has_no_memory_of() {
    let mut world = World::new().await;
    let router = world.enrolled("r1", Edge).await;
    router.connect(&world.daemon).await;
    let at = "/fabric/v1/routers/r1";
    // Everything that it had is void: what `ziti edge re-enroll` does by mistake.
    let session = world.login().await;
    world.request(Method::POST, "/edge/management/v1/edge-routers/r1/re-enroll", Some(&session), Value::Null).await;
    refusal(router.dial(&world.daemon).await);
    let sha1 = router.client.leaf().fingerprint_sha1().to_string();
    let body = json!({ "fingerprint": sha1.to_uppercase() });
    assert_eq!(world.request(Method::PATCH, at, Some(&session), body).await.status, StatusCode::OK);
    assert!(world.record("r1").await.leaves.is_empty(), "nothing is admitted before it proves itself");
    let shown = parsed(&world.request(Method::GET, at, Some(&session), Value::Null).await);
    assert_eq!(shown["data"]["fingerprint"], json!(sha1));
    router.connect(&world.daemon).await;
    world.next_told(EventKind::Readmitted, "r1").await;
    let record = world.record("r1").await;
    assert_eq!((record.leaves.len(), record.voucher, record.token), (1, None, None));
    let found = world.register.find_leaf(Sha1(router.client.leaf().fingerprint_sha1().0)).await.unwrap();
    assert_eq!(found[0].router, RouterId::new("r1"), "link verification knows it too");
}

#[tokio::test]
async fn a_router_that_was_deleted_comes_back_by_its_certificate_alone() {
    let world = World::new().await;
    let router = world.enrolled("r1", Edge).await;
    router.connect(&world.daemon).await;
    let session = world.login().await;
    world.request(Method::DELETE, "/fabric/v1/routers/r1", Some(&session), Value::Null).await;
    refusal(router.dial(&world.daemon).await);
    let sha1 = router.client.leaf().fingerprint_sha1().to_string();
    let body = json!({ "id": "r1", "name": "r1", "fingerprint": sha1, "cost": 0, "noTraversal": false });
    let made = world.request(Method::POST, "/fabric/v1/routers", Some(&session), body).await;
    assert_eq!(made.status, StatusCode::CREATED);
    router.connect(&world.daemon).await;
    assert!(world.record("r1").await.last_used.is_some());
}
