//! Captured conversations of OpenZiti, played to the program as this build made it: a router of ours meets stock controllers, a controller
//! of ours meets stock routers, and each does what its counterpart did (`golden::replay` says what cannot be the same twice).
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "tests are claims")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use golden::fixture::Conversation;
use golden::replay::as_controller::StandIn;
use golden::replay::as_router::Player;
use golden::replay::enrollment;
use netfault::proxy::{ControllerKeys, Way};
use pki::{Chain, PrivateKey};
use rig::{Controller, ControllerSettings, Exuvia};
use wire::content_type;

fn conversations(is_wanted: impl Fn(&Conversation) -> bool) -> Vec<Conversation> {
    let root: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/frames");
    let mut all = Conversation::all(&root).unwrap();
    all.retain(is_wanted);
    assert!(all.len() >= 6, "only {} conversations", all.len());
    all
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

#[test]
fn a_router_of_ours_answers_stock_controllers_as_their_routers_did_and_renews() {
    let home = tempfile::tempdir().unwrap();
    let exuvia = Exuvia::new(env!("CARGO_BIN_EXE_exuvia"));
    let controller = Controller::start(&exuvia, home.path(), ControllerSettings::default()).unwrap();
    let of_stock = conversations(|one| one.controller.starts_with("ziti"));
    let routers: Vec<_> = (0..of_stock.len())
        .map(|number| controller.enrolled(&format!("edge-{number}"), &home.path().join(format!("{number}"))).unwrap())
        .collect();
    controller.stop().unwrap();
    let keys = Arc::new(ControllerKeys::from_folder(&home.path().join("ctl/pki")).unwrap());
    let runtime = runtime();
    for (conversation, router) in of_stock.iter().zip(routers) {
        let name = &conversation.name;
        let stand_in = StandIn::listen(conversation, controller.ctrl_port(), keys.clone());
        let stand_in = runtime.block_on(stand_in).unwrap_or_else(|error| panic!("{name}: {error:#}"));
        let running = router.online().unwrap_or_else(|error| panic!("{name}: {error:#}"));
        let owed = stand_in.owed();
        let pays = |book: &golden::replay::as_controller::Book| {
            owed.iter().all(|(request, kind)| book.answered.get(request) == Some(kind))
        };
        stand_in.until(pays).unwrap_or_else(|error| panic!("{name}: owed {owed:?}: {error:#}"));
        let renews =
            conversation.going(Way::ToRouter).any(|one| one.frame.content_type == content_type::ENROLLMENT_CERTS);
        if renews && stand_in.is_grouped() {
            assert_eq!(running.renew().unwrap_or_else(|error| panic!("{name}: {error:#}")), 2, "{name}");
        } else if renews {
            // The proof is a new channel then, not before a minute has passed.
            running.order_renewal().unwrap();
            let verified =
                |book: &golden::replay::as_controller::Book| book.heard.contains_key(&content_type::EXTENSION_VERIFY);
            stand_in.until(verified).unwrap_or_else(|error| panic!("{name}: {error:#}"));
        }
        let book = stand_in.book();
        assert_eq!(book.channels, 1, "{name}: nothing made it dial anew: {book:?}");
        let log = running.stop().unwrap();
        assert!(!log.text().contains("panicked"), "{name}");
        runtime.block_on(stand_in.end());
    }
}

#[test]
fn a_controller_of_ours_answers_stock_routers_as_their_controllers_did_and_renews_them() {
    let home = tempfile::tempdir().unwrap();
    let exuvia = Exuvia::new(env!("CARGO_BIN_EXE_exuvia"));
    let controller = Controller::start(&exuvia, home.path(), ControllerSettings::default()).unwrap();
    let runtime = runtime();
    for (number, conversation) in conversations(|one| one.router.starts_with("ziti")).iter().enumerate() {
        let name = &conversation.name;
        let router = controller.enrolled(&format!("edge-{number}"), &home.path().join(format!("{number}"))).unwrap();
        let file = |file: &str| std::fs::read(router.generation(1).join(file)).unwrap();
        let player = Player {
            id: router.id().to_owned(),
            chain: Chain::from_pem(&file("client.pem")).unwrap(),
            key: PrivateKey::from_pem(&file("key.pem")).unwrap(),
        };
        let at = ([127, 0, 0, 1], controller.ctrl_port()).into();
        let told = runtime.block_on(player.play(conversation, at)).unwrap_or_else(|error| {
            panic!("{name}: {error:#}\n{}", controller.log());
        });
        for (request, kind) in &told.owed {
            assert_eq!(told.answered.get(request), Some(kind), "{name}: {told:?}");
        }
        for kind in [content_type::SERVER_HELLO, content_type::UPDATE_CTRL_ADDRESSES] {
            assert!(told.heard.contains_key(&kind), "{name}: {told:?}");
        }
        let admitted = controller.admitted(router.id()).unwrap();
        let newest = admitted.last().unwrap();
        let renews =
            conversation.going(Way::ToController).any(|one| one.frame.content_type == content_type::EXTENSION_REQUEST);
        assert_eq!(told.renewed.is_some(), renews, "{name}: {told:?}");
        assert_eq!((newest.seq, newest.stage.as_str()), (if renews { 2 } else { 1 }, "used"), "{name}: {admitted:?}");
    }
}

/// The file is OpenZiti's; what is in our answer must be what is in theirs, by name.
#[test]
fn a_controller_of_ours_enrolls_whoever_asks_as_stock_routers_did() {
    let home = tempfile::tempdir().unwrap();
    let exuvia = Exuvia::new(env!("CARGO_BIN_EXE_exuvia"));
    let controller = Controller::start(&exuvia, home.path(), ControllerSettings::default()).unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/frames");
    let mut tried = 0;
    for release in std::fs::read_dir(root).unwrap().flatten() {
        let asked = release.path().join("http/enroll-stock-controller-stock-router-asked.http");
        if !asked.exists() {
            continue;
        }
        let (id, jwt) = controller.create(&format!("edge-{tried}")).unwrap();
        let key = PrivateKey::generate(pki::KeyKind::P256).unwrap();
        let token = one_time_token(&jwt);
        let answer = runtime().block_on(enrollment::ask(&asked, controller.api_port(), &token, &id, &key)).unwrap();
        assert!(answer.head.starts_with("HTTP/1.1 200"), "{answer:?}");
        let theirs =
            enrollment::captured(&release.path().join("http/enroll-stock-controller-our-router-answered.http"));
        let missing: Vec<_> = theirs.unwrap().fields().difference(&answer.fields()).cloned().collect();
        assert!(missing.is_empty(), "{missing:?} of {answer:?}");
        let chain = Chain::from_pem(answer.body["data"]["cert"].as_str().unwrap().as_bytes()).unwrap();
        assert_eq!(chain.leaf().facts().key, key.key_id());
        tried += 1;
    }
    assert!(tried >= 2, "only {tried} releases");
}

/// The claim `jti` of a token.
fn one_time_token(jwt: &str) -> String {
    let claims = jwt.split('.').nth(1).unwrap();
    let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(claims).unwrap();
    let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
    claims["jti"].as_str().unwrap().to_owned()
}
