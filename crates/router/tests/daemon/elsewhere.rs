//! What goes wrong in other routers, tried on this one (docs/proof/upstream-defects.md).

use http::StatusCode;
use pki::{Certificate, Chain, PrivateKey};
use router::enroll::enroll;
use router::events::EventKind;
use router::run;

use crate::controller::{Controller, NOWHERE, Rules};
use crate::home::{Home, LIFE, get, visit};

/// B11: both requests are signed with one key, and the listeners are given the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_key_of_its_own_gets_the_server_leaf() {
    let controller = Controller::start(Rules::Ours, LIFE).await;
    let mut home = Home::new(&controller, "");
    let path = home.folder.path().join("router.yml");
    let key = home.folder.path().join("r.server.key");
    let text = std::fs::read_to_string(&path).unwrap();
    let with_key = text.replace("\n  ca: ", &format!("\n  server_key: {}\n  ca: ", key.display()));
    std::fs::write(&path, with_key).unwrap();
    home.config = run::load_config(&path).unwrap_or_else(|error| panic!("{error}")).0;
    enroll(&home.config, &controller.token, false).await.unwrap_or_else(|error| panic!("{error:?}"));

    let key_id = |name: &str| PrivateKey::from_pem(&home.file(name)).unwrap().key_id();
    let leaf_key = |name: &str| Chain::from_pem(&home.file(name)).unwrap().leaf().key_id();
    assert_ne!(key_id("r.key"), key_id("r.server.key"));
    let pairs = || {
        assert_eq!(leaf_key("r.cert"), key_id("r.key"));
        assert_eq!(leaf_key("r.server.cert"), key_id("r.server.key"));
    };
    pairs();
    let mut running = home.start().await;
    running.connected().await;
    running.renew().await;
    running.promoted().await;
    let (leaf, mut connection) = visit(&home, &running).await;
    assert_eq!(get(&mut connection, "/health-checks").await.0, StatusCode::OK);
    assert_eq!(Certificate::from_der(&leaf).unwrap().key_id(), key_id("r.server.key"));
    running.end().await;
    pairs();
}

/// C9: the process exits because its current leaf does not cover a host, before it could ask for one that does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_advertised_host_that_no_leaf_covers_stops_neither_start_nor_renewal() {
    let controller = Controller::start(Rules::Ours, LIFE).await;
    let links = "link:\n  listeners:\n    - binding: transport\n      bind: tls:127.0.0.1:6000\n      advertise: tls:edge.example.org:6000\n";
    let home = Home::enrolled(&controller, links).await;
    let covered = Chain::from_pem(&home.file("r.server.cert")).unwrap().leaf().sans().dns.clone();
    assert!(!covered.iter().any(|name| name == "edge.example.org"), "{covered:?}");
    let mut running = home.start().await;
    running.connected().await;
    running.renew().await;
    assert_eq!(running.promoted().await, 2);
    running.end().await;
}

/// A list of controllers is a peer's word: it makes the router look elsewhere too, and never forget where it was admitted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_that_sends_everybody_to_dead_addresses_is_found_again() {
    let mut controller = Controller::start(Rules::Stock, LIFE).await;
    let home = Home::enrolled(&controller, "").await;
    controller.state.faults.lie_about_addresses.store(1, std::sync::atomic::Ordering::SeqCst);
    let mut running = home.start().await;
    running.connected().await;
    // A renewal is asked for and answered on the channel after the lie: by then it has been heard.
    running.renew().await;
    running.promoted().await;
    let endpoints = String::from_utf8(home.file("endpoints.yml")).unwrap();
    assert!(endpoints.contains(NOWHERE) && endpoints.contains(&format!("tls:localhost:{}", home.port)), "{endpoints}");
    controller.restart().await;
    running.wait_for("disconnection", |what| matches!(what, EventKind::Disconnected { .. }).then_some(())).await;
    running.connected().await;
    running.end().await;
    // Nor does a start from what was written down.
    let mut running = home.start().await;
    running.connected().await;
    running.end().await;
}
