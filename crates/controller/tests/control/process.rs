//! The daemon on its files: starting, ending, copies of the register, a disk that fails.

use std::sync::Arc;

use api::native::EventKind;
use controller::clock::Clock;
use controller::config::ControllerConfig;
use controller::daemon::{Daemon, DaemonError, open_register};
use controller::fleet::Fleet as _;
use controller::init::{InitOptions, init};
use controller::maintenance;
use http::{Method, StatusCode};
use lifecycle::issuance::EnrollmentKind::Edge;
use pki::TrustBundle;
use serde_json::json;
use store::register::RegisterError;
use tokio::net::TcpListener;
use tokio::time::timeout;

use crate::world::{PATIENCE, World, create, enroll, made, request};

fn bundle(config: &ControllerConfig) -> TrustBundle {
    TrustBundle::from_pem(&std::fs::read(&config.identity.ca).unwrap()).unwrap()
}

async fn started(config: &ControllerConfig) -> Daemon {
    let clock = Clock::system();
    // Who ended lets go of the register with its last task, and a child that another test starts holds the lock until it runs its program.
    let opened = async {
        loop {
            match open_register(config, &clock) {
                Err(RegisterError::InUse { .. }) => tokio::task::yield_now().await,
                opened => break opened.unwrap(),
            }
        }
    };
    let register = timeout(PATIENCE, opened).await.unwrap();
    Daemon::start(config, register, clock).await.unwrap()
}

fn now() -> lifecycle::Now {
    Clock::system().now()
}

#[tokio::test]
async fn a_folder_made_by_init_runs_serves_and_ends_and_keeps_what_it_did() {
    let home = tempfile::tempdir().unwrap();
    let config = made(home.path().join("c")).await;
    let daemon = started(&config).await;
    let again = open_register(&config, &Clock::system()).err();
    assert!(matches!(again, Some(RegisterError::InUse { .. })), "{again:?}");
    let token = create(&**daemon.register(), now(), "r1", Edge).await;
    let router = enroll(&daemon, bundle(&config), "r1", Edge, &token).await;
    let mut line = router.connect(&daemon).await;
    let next = line.renew(&router).await;
    timeout(PATIENCE, daemon.end()).await.unwrap();
    line.closed().await;

    let daemon = started(&config).await;
    next.connect(&daemon).await;
    // As after a kill: nothing is closed in order.
    drop(daemon);
    let daemon = started(&config).await;
    next.connect(&daemon).await;
    daemon.end().await;
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let home = tempfile::tempdir().unwrap();
    let mut config = made(home.path().join("c")).await;
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    config.control.listen.port = taken.local_addr().unwrap().port();
    let register = open_register(&config, &Clock::system()).unwrap();
    let error = Daemon::start(&config, register, Clock::system()).await.unwrap_err();
    assert!(matches!(error, DaemonError::Listen { .. }), "{error:?}");
    assert!(error.to_string().contains("another process"), "{error}");
}

#[tokio::test]
async fn files_that_do_not_belong_together_are_refused_before_anything_listens() {
    let home = tempfile::tempdir().unwrap();
    let (config, other) = (made(home.path().join("c")).await, made(home.path().join("d")).await);
    let mut wrong = Vec::new();
    let mut mixed = config.clone();
    mixed.identity.key = other.identity.key.clone();
    wrong.push((mixed, "key"));
    let mut mixed = config.clone();
    mixed.signer.cert = other.signer.cert.clone();
    wrong.push((mixed, "signing certificate"));
    let mut mixed = config.clone();
    (mixed.signer.cert, mixed.signer.key) = (other.signer.cert.clone(), other.signer.key.clone());
    wrong.push((mixed, "would not be admitted"));
    let mut mixed = config.clone();
    mixed.identity.ca = home.path().join("nowhere.pem");
    wrong.push((mixed, "nowhere.pem"));
    let register = open_register(&config, &Clock::system()).unwrap();
    for (config, says) in wrong {
        let error = Daemon::start(&config, Arc::clone(&register), Clock::system()).await.unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
    }
}

#[tokio::test]
async fn a_copy_is_taken_while_it_runs_and_after_a_restore_what_can_be_proved_is_admitted() {
    let home = tempfile::tempdir().unwrap();
    let config = made(home.path().join("c")).await;
    let daemon = started(&config).await;
    let token = create(&**daemon.register(), now(), "r1", Edge).await;
    let router = enroll(&daemon, bundle(&config), "r1", Edge, &token).await;
    let mut line = router.connect(&daemon).await;
    let copy = home.path().join("copy.db");
    let report = maintenance::backup(&config, &copy, false, now()).unwrap();
    assert_eq!(report.routers, 1);
    assert!(matches!(maintenance::backup(&config, &copy, false, now()), Err(RegisterError::Exists { .. })));
    // Renewed after the copy was taken, and used, so that the register alone knows of it.
    let next = line.renew(&router).await;
    next.connect(&daemon).await;
    let refused = maintenance::restore(&config, &copy, now());
    assert!(matches!(refused, Err(RegisterError::InUse { .. })), "{refused:?}");
    daemon.end().await;

    let restored = maintenance::restore(&config, &copy, now()).unwrap();
    assert_eq!(restored.routers.len(), 1);
    assert!(restored.set_aside.is_some_and(|path| path.exists()));
    assert!(restored.lapsed.is_empty());
    let daemon = started(&config).await;
    let mut told = daemon.events().subscribe();
    next.connect(&daemon).await;
    let event = timeout(PATIENCE, told.recv()).await.unwrap().unwrap();
    assert_eq!(event.kind, EventKind::ReadmittedAfterRestore);
    let found =
        daemon.register().find_leaf(store::register::Sha1(next.client.leaf().fingerprint_sha1().0)).await.unwrap();
    assert_eq!(found.len(), 1, "link verification knows the leaf as well");
    let readmitted = maintenance::readmitted(&**daemon.register()).await.unwrap();
    let routers: Vec<_> = readmitted.iter().filter_map(|entry| entry.router.as_ref()).map(|id| id.as_str()).collect();
    assert_eq!(routers, ["r1"]);
    daemon.end().await;
}

#[tokio::test]
async fn a_password_is_set_while_the_controller_is_stopped() {
    let home = tempfile::tempdir().unwrap();
    let config = made(home.path().join("c")).await;
    let drawn = maintenance::reset_password(&config, None, None, now()).await.unwrap().unwrap();
    let daemon = started(&config).await;
    let login = async |password: &str| {
        let body = json!({ "username": "admin", "password": password });
        let path = "/edge/management/v1/authenticate?method=password";
        request(&daemon, bundle(&config), Method::POST, path, None, body).await.status
    };
    assert_eq!(login(&drawn).await, StatusCode::OK);
    assert_eq!(login(crate::world::PASSWORD).await, StatusCode::UNAUTHORIZED);
    assert!(maintenance::reset_password(&config, None, None, now()).await.is_err());
    daemon.end().await;
}

#[tokio::test]
async fn a_register_that_takes_no_writes_keeps_the_daemon_up_and_says_so() {
    let world = World::new().await;
    let router = world.enrolled("r1", Edge).await;
    let mut line = router.connect(&world.daemon).await;
    let ready = async || world.request(Method::GET, "/readyz", None, json!({})).await.status;
    assert_eq!(ready().await, StatusCode::OK);
    for nth in 1..=4 {
        world.memory.fail_commit(nth);
    }
    assert!(router.renewed_or_refused(&mut line).await.is_none());
    timeout(PATIENCE, async { while ready().await != StatusCode::SERVICE_UNAVAILABLE {} }).await.unwrap();
    assert_eq!(world.daemon.control().connected_count(), 1, "the channel stays");
    let health = world.request(Method::GET, "/healthz", None, json!({})).await.status;
    assert_eq!(health, StatusCode::OK);
    while router.renewed_or_refused(&mut line).await.is_none() {}
    timeout(PATIENCE, async { while ready().await != StatusCode::OK {} }).await.unwrap();
}

#[tokio::test]
async fn control_channels_and_the_interface_share_one_port_if_they_are_told_to() {
    let home = tempfile::tempdir().unwrap();
    let mut config = made(home.path().join("c")).await;
    // Free a moment ago, and handed out in turn.
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    config.control.listen.port = free;
    config.web[0].bind_points[0].interface.port = free;
    let daemon = started(&config).await;
    assert_eq!(daemon.api_addresses(), [daemon.control_address()]);
    let token = create(&**daemon.register(), now(), "r1", Edge).await;
    let router = enroll(&daemon, bundle(&config), "r1", Edge, &token).await;
    router.connect(&daemon).await;
    daemon.end().await;
}

#[tokio::test]
async fn everything_works_over_ipv6() {
    if TcpListener::bind("[::1]:0").await.is_err() {
        eprintln!("skipped: this machine has no IPv6 loopback");
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("c");
    let password = Some(zeroize::Zeroizing::new(crate::world::PASSWORD.to_owned()));
    let options = InitOptions { listen: "::1".to_owned(), password, ..InitOptions::new(dir, "::1") };
    let report = init(&options, now()).await.unwrap();
    assert_eq!((report.api.as_str(), report.control.as_str()), ("https://[::1]:1280", "tls:[::1]:6262"));
    let text = std::fs::read_to_string(&report.config).unwrap();
    let (mut config, _) = ControllerConfig::load(&text, &report.config.to_string_lossy(), &|_| None).unwrap();
    config.control.listen.port = 0;
    config.web[0].bind_points[0].interface.port = 0;
    let daemon = started(&config).await;
    let token = create(&**daemon.register(), now(), "r1", Edge).await;
    let router = enroll(&daemon, bundle(&config), "r1", Edge, &token).await;
    let mut line = router.connect(&daemon).await;
    line.renew(&router).await.connect(&daemon).await;
    daemon.end().await;
}

#[tokio::test]
async fn a_signal_ends_it_in_order() {
    let home = tempfile::tempdir().unwrap();
    let config = made(home.path().join("c")).await;
    let ask_to_end = |_: &Daemon| {
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM).unwrap();
    };
    timeout(PATIENCE, controller::daemon::run(&config, ask_to_end)).await.unwrap().unwrap();
    assert!(open_register(&config, &Clock::system()).is_ok(), "nobody holds the register any more");
}
