//! The daemon against a small controller over real TLS, with a real store: enrolled, connected, renewed, and unlucky.
#![allow(clippy::panic, clippy::unwrap_used, reason = "the functions beside the tests fail a test this way")]

mod controller;
mod elsewhere;
mod home;
mod recovering;

use std::sync::atomic::Ordering;
use std::time::Duration;

use controller::{Controller, ROUTER, Rules};
use home::{Home, LIFE, PATIENCE, get, visit};
use http::StatusCode;
use net::stop::Stop;
use pki::Chain;
use router::admin::Answer;
use router::config::RouterKind;
use router::doctor;
use router::enroll::{EnrollError, EnrollFailure, enroll};
use router::events::EventKind;
use router::run;
use tokio::time::timeout;

const FRESH_KEYS: &str = "exuvia: {projection: off}\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_becomes_an_identity_at_the_configured_paths() {
    let controller = Controller::start(Rules::Ours, LIFE).await;
    let home = Home::enrolled(&controller, "").await;
    let chain = Chain::from_pem(&home.file("r.cert")).unwrap();
    assert_eq!(chain.leaf().cn(), Some(ROUTER));
    let mode = std::fs::metadata(home.folder.path().join("r.key")).unwrap().permissions();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777, 0o600);
    let endpoints = String::from_utf8(home.file("endpoints.yml")).unwrap();
    assert!(endpoints.contains(&format!("tls:localhost:{}", home.port)), "{endpoints}");

    let mut running = home.start().await;
    assert_eq!(running.connected().await, 1);
    let (_, mut connection) = visit(&home, &running).await;
    let (status, body) = get(&mut connection, "/health-checks?type=short").await;
    assert_eq!(status, StatusCode::OK);
    assert!(body.contains(r#""healthy":true"#), "{body}");
    let (_, metrics) = get(&mut connection, "/metrics").await;
    assert!(metrics.contains("exuvia_controllers_connected 1"), "{metrics}");
    running.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_enrollment_answer_costs_nothing() {
    let controller = Controller::start(Rules::Ours, LIFE).await;
    let home = Home::new(&controller, "");
    controller.state.faults.lose_enrollment.store(1, Ordering::SeqCst);
    let lost = enroll(&home.config, &controller.token, false).await;
    assert!(matches!(lost, Err(EnrollFailure::Enroll(EnrollError::Refused { status: 503, .. }))), "{lost:?}");
    let again = enroll(&home.config, &controller.token, false).await.unwrap();
    assert_eq!(again.generation.map(|number| number.0), Some(1), "the same keys, so the same generation");
    let mut running = home.start().await;
    assert_eq!(running.connected().await, 1);
    running.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_routers_identity_is_not_overwritten() {
    let controller = Controller::start(Rules::Ours, LIFE).await;
    let home = Home::new(&controller, "");
    std::fs::write(home.folder.path().join("r.cert"), "something else\n").unwrap();
    let refused = enroll(&home.config, &controller.token, false).await;
    assert!(matches!(refused, Err(EnrollFailure::Enroll(EnrollError::NotOurs { .. }))), "{refused:?}");
    assert_eq!(home.file("r.cert"), b"something else\n");
    enroll(&home.config, &controller.token, true).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewal_with_new_keys_keeps_every_connection() {
    let controller = Controller::start(Rules::Ours, LIFE).await;
    let home = Home::enrolled(&controller, FRESH_KEYS).await;
    // Nothing is projected, so the bundle must come from elsewhere.
    let mut running = home.start().await;
    running.connected().await;
    let ca = home.folder.path().join("r.ca");
    let generation = home.folder.path().join(".exuvia").join(ROUTER).join("generations/0001");
    std::fs::copy(generation.join("bundle.pem"), ca).unwrap();
    let (old_leaf, mut old) = visit(&home, &running).await;
    assert_eq!(get(&mut old, "/health-checks").await.0, StatusCode::OK);

    running.renew().await;
    assert_eq!(running.promoted().await, 2);
    assert_eq!(get(&mut old, "/health-checks").await.0, StatusCode::OK, "the connection outlives the renewal");
    let (new_leaf, _new) = visit(&home, &running).await;
    assert_ne!(old_leaf, new_leaf);
    let keys = |leaf: &[u8]| pki::Certificate::from_der(leaf).unwrap().key_id();
    assert_ne!(keys(&old_leaf), keys(&new_leaf));
    let status = running.client().await.status().await.unwrap();
    assert_eq!((status.generation, status.renewals, status.failed_attempts), (2, 1, 0));
    assert!(status.is_connected());
    running.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_projected_renewal_keeps_the_key_and_rewrites_the_files() {
    let controller = Controller::start(Rules::Ours, LIFE).await;
    let home = Home::enrolled(&controller, "").await;
    let (old_key, old_cert) = (home.file("r.key"), home.file("r.cert"));
    let mut running = home.start().await;
    running.connected().await;
    running.renew().await;
    running.promoted().await;
    assert_eq!(home.file("r.key"), old_key);
    assert_ne!(home.file("r.cert"), old_cert);
    running.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_20301_is_asked_for_again_with_the_same_keys() {
    let controller = Controller::start(Rules::Ours, LIFE).await;
    let home = Home::enrolled(&controller, FRESH_KEYS).await;
    controller.state.faults.lose_certs.store(1, Ordering::SeqCst);
    let mut running = home.start().await;
    running.connected().await;
    running.renew().await;
    assert_eq!(running.promoted().await, 2);
    assert_eq!(controller.state.extension_requests.load(Ordering::SeqCst), 2);
    running.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_of_the_request_ends_the_wait_at_once_and_says_who_refused() {
    let controller = Controller::start(Rules::Ours, LIFE).await;
    let home = Home::enrolled(&controller, FRESH_KEYS).await;
    controller.state.faults.refuse_request.store(1, Ordering::SeqCst);
    let mut running = home.start().await;
    running.connected().await;
    running.renew().await;
    let failure = running
        .wait_for("failed attempt", |what| match what {
            EventKind::AttemptFailed { failure, .. } => Some(failure.clone()),
            _ => None,
        })
        .await;
    assert_eq!(failure, "refused_by_controller");
    assert_eq!(running.promoted().await, 2, "and the same keys are asked for again");
    running.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stock_controller_is_not_asked_to_renew_a_transit_router_unless_the_operator_allows_it() {
    let controller = Controller::start(Rules::Stock, LIFE).await;
    let mut home = Home::enrolled(&controller, FRESH_KEYS).await;
    home.config.kind = RouterKind::Transit;
    assert!(doctor::check(&home.config).iter().any(|finding| finding.text.contains("transit router")));
    let mut running = home.start().await;
    running.connected().await;
    running.renew().await;
    let failure = running
        .wait_for("failed attempt", |what| match what {
            EventKind::AttemptFailed { failure, .. } => Some(failure.clone()),
            _ => None,
        })
        .await;
    assert_eq!(failure, "unsafe");
    assert_eq!(controller.state.extension_requests.load(Ordering::SeqCst), 0);
    running.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_verify_or_confirmation_does_not_stop_a_renewal() {
    for rules in [Rules::Ours, Rules::Stock] {
        let controller = Controller::start(rules, LIFE).await;
        let home = Home::enrolled(&controller, FRESH_KEYS).await;
        controller.state.faults.lose_verify.store(1, Ordering::SeqCst);
        controller.state.faults.lose_confirmation.store(1, Ordering::SeqCst);
        let mut running = home.start().await;
        running.connected().await;
        running.renew().await;
        assert_eq!(running.promoted().await, 2, "{rules:?}");
        running.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stock_controller_is_shown_the_admitted_leaf_before_every_request() {
    let controller = Controller::start(Rules::Stock, LIFE).await;
    let home = Home::enrolled(&controller, "").await;
    let mut running = home.start().await;
    running.connected().await;
    for generation in 2..=4 {
        // On one channel whose first underlay shows the first leaf for ever: a second renewal is where upstream's own router
        // is ignored.
        running.renew().await;
        assert_eq!(running.promoted().await, generation);
    }
    running.end().await;
}

/// OpenZiti 1.6 says in its answer to a hello that the channel is grouped, and refuses every further underlay.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_that_cannot_group_is_asked_over_its_one_channel() {
    let controller = Controller::start(Rules::StockBefore2, LIFE).await;
    let home = Home::enrolled(&controller, "").await;
    let mut running = home.start().await;
    running.connected().await;
    running.renew().await;
    running
        .wait_for("leaves that were asked for over the channel that there is", |what| match what {
            EventKind::Staged { generation: 2, .. } => Some(()),
            EventKind::AttemptFailed { failure, .. } => panic!("the attempt failed: {failure}"),
            _ => None,
        })
        .await;
    running.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_at_any_step_of_a_renewal_loses_nothing() {
    for rules in [Rules::Ours, Rules::Stock] {
        for step in ["attempt_began", "requested", "staged", "proving"] {
            let controller = Controller::start(rules, LIFE).await;
            let home = Home::enrolled(&controller, FRESH_KEYS).await;
            // Whatever would end the renewal before the kill is lost.
            controller.state.faults.lose_certs.store(u32::from(step == "requested"), Ordering::SeqCst);
            controller.state.faults.lose_verify.store(u32::from(step == "proving"), Ordering::SeqCst);
            let mut running = home.start().await;
            running.connected().await;
            running.renew().await;
            running.wait_for(step, |what| (name(what) == step).then_some(())).await;
            running.kill().await;

            let mut running = home.start().await;
            let admitted = running.connected().await;
            assert!(admitted <= 2, "{rules:?} {step}");
            if admitted == 1 {
                let status = running.status.borrow().clone();
                if status.phase == "Steady" {
                    running.renew().await;
                }
                running.promoted().await;
            }
            running.end().await;
        }
    }
}

fn name(what: &EventKind) -> String {
    let value = serde_json::to_value(what).unwrap();
    value["event"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_leaf_is_tried_when_the_newest_is_refused() {
    let controller = Controller::start(Rules::Stock, LIFE).await;
    let home = Home::enrolled(&controller, FRESH_KEYS).await;
    // 20303 never arrives in this life of the router: the new leaf is durable here and unknown there.
    controller.state.faults.lose_verify.store(100, Ordering::SeqCst);
    let mut running = home.start().await;
    running.connected().await;
    running.renew().await;
    running.wait_for("staging", |what| matches!(what, EventKind::Staged { .. }).then_some(())).await;
    // One that is still on its way when the fault ends would arrive after all.
    let lost = async {
        while controller.state.faults.lose_verify.load(Ordering::SeqCst) == 100 {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, lost).await.unwrap();
    running.kill().await;

    controller.state.faults.lose_verify.store(0, Ordering::SeqCst);
    let mut running = home.start().await;
    let refused = running
        .wait_for("refusal", |what| match what {
            EventKind::Refused { generation, .. } => Some(*generation),
            _ => None,
        })
        .await;
    assert_eq!(refused, 2);
    assert_eq!(running.connected().await, 1);
    assert_eq!(running.promoted().await, 2);
    running.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_router_comes_back_by_itself_after_the_controller_did() {
    let mut controller = Controller::start(Rules::Ours, LIFE).await;
    let home = Home::enrolled(&controller, "").await;
    let mut running = home.start().await;
    running.connected().await;
    controller.restart().await;
    running.wait_for("disconnection", |what| matches!(what, EventKind::Disconnected { .. }).then_some(())).await;
    running.connected().await;
    running.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leaf_falls_due_and_is_renewed_unasked() {
    let controller = Controller::start(Rules::Ours, Duration::from_secs(6)).await;
    let home = Home::enrolled(&controller, FRESH_KEYS).await;
    let mut running = home.start().await;
    for generation in 2..=3 {
        assert_eq!(running.promoted().await, generation);
    }
    let (client, server) = {
        let status = running.status.borrow();
        (status.client_leaf.clone(), status.server_leaf.clone())
    };
    assert!(client.is_some_and(|leaf| leaf.seconds_left > 0) && server.is_some_and(|leaf| leaf.seconds_left > 0));
    running.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_daemon_enrolls_for_whoever_asks() {
    let controller = Controller::start(Rules::Ours, LIFE).await;
    let home = Home::enrolled(&controller, "").await;
    let mut running = home.start().await;
    running.connected().await;
    // The token is spent by the first connection; the daemon passes the refusal on.
    let refused = enroll(&home.config, &controller.token, false).await;
    match refused {
        Err(EnrollFailure::ByDaemon { error, .. }) => assert!(error.contains("INVALID_ENROLLMENT_TOKEN"), "{error}"),
        other => panic!("{other:?}"),
    }
    running.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_process_waits_for_the_first() {
    let controller = Controller::start(Rules::Ours, LIFE).await;
    let home = Home::enrolled(&controller, "").await;
    let mut first = home.start().await;
    first.connected().await;
    let (config, (stop, stopped)) = (home.config.clone(), Stop::new());
    let waiting = tokio::spawn(async move { run::prepare(config, false, stopped).await.map(|ready| ready.is_some()) });
    first.end().await;
    assert!(timeout(PATIENCE, waiting).await.unwrap().unwrap().unwrap());
    drop(stop);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_admin_socket_ends_the_daemon() {
    let controller = Controller::start(Rules::Ours, LIFE).await;
    let home = Home::enrolled(&controller, "").await;
    let mut running = home.start().await;
    running.connected().await;
    let mut events = running.client().await.events().await.unwrap();
    running.client().await.shutdown().await.unwrap();
    let told = async {
        while let Some(line) = events.next().await.unwrap() {
            if line.what == (EventKind::ShuttingDown {}) {
                return true;
            }
        }
        false
    };
    assert!(timeout(PATIENCE, told).await.unwrap());
    timeout(PATIENCE, running.task).await.unwrap().unwrap();
    let offline = run::status_from_disk(&home.config).unwrap();
    assert_eq!((offline.is_running, offline.generation, offline.phase.as_str()), (false, 1, "Steady"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_identity_of_another_program_is_adopted() {
    let controller = Controller::start(Rules::Ours, LIFE).await;
    let home = Home::enrolled(&controller, "").await;
    std::fs::remove_dir_all(home.folder.path().join(".exuvia")).unwrap();
    let mut running = home.start().await;
    assert_eq!(running.connected().await, 1);
    running.renew().await;
    running.promoted().await;
    running.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_doctor_finds_nothing_wrong_with_a_healthy_router() {
    let controller = Controller::start(Rules::Ours, Duration::from_secs(600)).await;
    let home = Home::enrolled(&controller, "").await;
    let findings = router::doctor::examine(&home.config).await;
    let bad: Vec<_> = findings.iter().filter(|finding| finding.level == router::doctor::Level::Fail).collect();
    assert!(bad.is_empty(), "{bad:#?}");
    assert!(findings.iter().any(|finding| finding.topic == "clock"), "{findings:#?}");

    // A running daemon holds the lock; the doctor asks it, and the controller, all the same.
    let mut running = home.start().await;
    running.connected().await;
    let findings = router::doctor::examine(&home.config).await;
    let bad: Vec<_> = findings.iter().filter(|finding| finding.level == router::doctor::Level::Fail).collect();
    assert!(bad.is_empty(), "{bad:#?}");
    for topic in ["daemon", "dates", "controller", "clock"] {
        assert!(findings.iter().any(|finding| finding.topic == topic), "{topic}: {findings:#?}");
    }
    running.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_identity_laid_down_by_somebody_else_becomes_a_candidate() {
    let controller = Controller::start(Rules::Ours, Duration::from_secs(600)).await;
    let home = Home::enrolled(&controller, "").await;
    let other = Home::enrolled_with_new_token(&controller).await;
    for file in ["r.ca", "r.key", "r.server.cert", "r.cert"] {
        std::fs::copy(other.folder.path().join(file), home.folder.path().join(file)).unwrap();
    }
    let mut running = home.start().await;
    let imported = running
        .wait_for("import", |what| match what {
            EventKind::Imported { generation } => Some(*generation),
            _ => None,
        })
        .await;
    assert_eq!(running.promoted().await, imported);
    running.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_folder_that_turns_unwritable_stops_renewals_and_nothing_else() {
    use std::os::unix::fs::PermissionsExt;
    // Root may write everywhere, so a file is put where the folder of generations was.
    let controller = Controller::start(Rules::Ours, LIFE).await;
    let home = Home::enrolled(&controller, FRESH_KEYS).await;
    let mut running = home.start().await;
    running.connected().await;
    let state = home.folder.path().join(".exuvia").join(ROUTER);
    let (generations, aside) = (state.join("generations"), state.join("generations.aside"));
    std::fs::rename(&generations, &aside).unwrap();
    std::fs::write(&generations, "in the way").unwrap();
    std::fs::set_permissions(&generations, std::fs::Permissions::from_mode(0o600)).unwrap();

    let answer = running.client().await.renew().await.unwrap();
    assert!(matches!(answer, Answer::Began { .. } | Answer::NotBegun { .. }), "{answer:?}");
    let failure = running
        .wait_for("failure", |what| match what {
            EventKind::AttemptFailed { failure, .. } => Some(failure.clone()),
            _ => None,
        })
        .await;
    assert!(failure.starts_with("storage_"), "{failure}");
    assert_eq!(
        controller.state.extension_requests.load(Ordering::SeqCst),
        0,
        "nothing is asked for that cannot be kept"
    );
    assert!(running.client().await.status().await.unwrap().is_connected());

    std::fs::remove_file(&generations).unwrap();
    std::fs::rename(&aside, &generations).unwrap();
    running.renew().await;
    running.promoted().await;
    running.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_barrier_that_fails_after_the_answer_is_made_up_for_from_the_disk() {
    let controller = Controller::start(Rules::Ours, LIFE).await;
    let home = Home::enrolled(&controller, FRESH_KEYS).await;
    controller.state.faults.lose_certs.store(1, Ordering::SeqCst);
    let mut running = home.start().await;
    running.connected().await;
    running.renew().await;
    running.wait_for("request", |what| matches!(what, EventKind::Requested { .. }).then_some(())).await;
    // The chains have nowhere to go when they arrive.
    let state = home.folder.path().join(".exuvia").join(ROUTER);
    let (prepared, aside) = (state.join("generations/0002"), state.join("0002.aside"));
    std::fs::rename(&prepared, &aside).unwrap();
    running.wait_for("recovery", |what| matches!(what, EventKind::Recovered { .. }).then_some(())).await;
    assert_eq!(controller.state.extension_requests.load(Ordering::SeqCst), 2);
    std::fs::rename(&aside, &prepared).unwrap_or_default();
    // The channel never closed; the new machine finds it open.
    let status = running.client().await.status().await.unwrap();
    assert_eq!(status.generation, 1);
    assert_eq!(running.connected().await, 1);
    let left = running.client().await.status().await.unwrap();
    if left.phase == "Steady" {
        running.renew().await;
    }
    running.promoted().await;
    running.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_manifest_is_reported_and_the_generations_are_used() {
    let controller = Controller::start(Rules::Ours, LIFE).await;
    let home = Home::enrolled(&controller, FRESH_KEYS).await;
    let manifest = home.folder.path().join(".exuvia").join(ROUTER).join("manifest");
    std::fs::write(&manifest, [0; 64]).unwrap();
    let mut running = home.start().await;
    assert_eq!(running.connected().await, 1);
    let status = running.client().await.status().await.unwrap();
    assert!(!status.damage.is_empty());
    running.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_router_without_an_identity_says_how_to_get_one() {
    let controller = Controller::start(Rules::Ours, LIFE).await;
    let home = Home::new(&controller, "");
    let (_stop, stopped) = Stop::new();
    let error = run::prepare(home.config.clone(), false, stopped).await.map(|_| ()).unwrap_err();
    assert!(matches!(error, run::RunError::NotEnrolled { .. }), "{error:?}");
    assert!(error.hint().contains("router enroll"));
    let findings = router::doctor::check(&home.config);
    assert!(findings.iter().any(|finding| finding.topic == "identity" && finding.level == router::doctor::Level::Fail));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_identity_that_cannot_be_stored_is_served_and_not_renewed() {
    let controller = Controller::start(Rules::Ours, LIFE).await;
    let home = Home::enrolled(&controller, "").await;
    // Nobody can make a folder there, not even root.
    let home = home.with("exuvia: {state: /proc/exuvia-test, projection: off}\n");
    let mut running = home.start().await;
    assert_eq!(running.connected().await, 1);
    let (_, mut connection) = visit(&home, &running).await;
    assert_eq!(get(&mut connection, "/health-checks").await.0, StatusCode::OK);
    let mut client = running.client().await;
    let status = client.status().await.unwrap();
    assert_eq!(status.storage, "read_only", "{}", status.storage_detail);
    client.renew().await.unwrap();
    let failure = running
        .wait_for("failure", |what| match what {
            EventKind::AttemptFailed { failure, .. } => Some(failure.clone()),
            _ => None,
        })
        .await;
    assert!(failure.starts_with("storage_"), "{failure}");
    assert_eq!(controller.state.extension_requests.load(Ordering::SeqCst), 0);
    running.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_written_over_a_store_of_which_nothing_can_be_used() {
    let controller = Controller::start(Rules::Ours, LIFE).await;
    let home = Home::enrolled(&controller, "").await;
    let state = home.folder.path().join(".exuvia").join(ROUTER);
    std::fs::write(state.join("manifest"), [0; 64]).unwrap();
    std::fs::write(state.join("generations/0001/client.pem"), "rotten").unwrap();
    let mut running = home.start().await;
    // The configured paths still hold a copy.
    running.connected().await;
    let status = running.client().await.status().await.unwrap();
    assert!(!status.damage.is_empty());
    running.end().await;
    assert_eq!(std::fs::read(state.join("manifest")).unwrap(), [0; 64]);
    assert_eq!(std::fs::read(state.join("generations/0001/client.pem")).unwrap(), b"rotten");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_doubled_answer_is_dropped_and_told() {
    for extra in ["", FRESH_KEYS] {
        let controller = Controller::start(Rules::Ours, LIFE).await;
        let home = Home::enrolled(&controller, extra).await;
        controller.state.faults.double_certs.store(1, Ordering::SeqCst);
        let mut running = home.start().await;
        running.connected().await;
        running.renew().await;
        let (mut is_stale, mut is_promoted) = (false, false);
        running
            .wait_for("a stale answer and a promotion", |what| {
                is_stale |= matches!(what, EventKind::StaleAnswer { .. });
                is_promoted |= matches!(what, EventKind::Promoted { generation: 2, .. });
                (is_stale && is_promoted).then_some(())
            })
            .await;
        assert_eq!(running.client().await.status().await.unwrap().candidates, 2);
        running.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_re_enrollment_is_done_by_the_daemon_that_holds_the_lock() {
    let controller = Controller::start(Rules::Ours, LIFE).await;
    let home = Home::enrolled(&controller, "").await;
    let mut running = home.start().await;
    running.connected().await;
    let token = controller.re_enroll();
    let enrolled = enroll(&home.config, &token, false).await.unwrap();
    assert_eq!(enrolled.generation, None, "the daemon did it");
    assert_eq!(running.promoted().await, 2);
    running.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lapsed_router_goes_on_and_is_mended_by_a_new_token() {
    let controller = Controller::start(Rules::Ours, Duration::from_secs(4)).await;
    let home = Home::enrolled(&controller, "").await;
    // From now on nothing that the router has is admitted.
    let token = controller.re_enroll();
    let mut running = home.start().await;
    running.wait_for("refusal", |what| matches!(what, EventKind::Refused { .. }).then_some(())).await;
    running.wait_for("lapse", |what| matches!(what, EventKind::Lapsed {}).then_some(())).await;
    assert_eq!(running.client().await.status().await.unwrap().phase, "Lapsed");

    enroll(&home.config, &token, false).await.unwrap();
    assert!(running.promoted().await > 1);
    running.end().await;
}
