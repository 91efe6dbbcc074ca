//! What a start and a failed barrier make of what they find.

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use net::stop::Stop;
use pki::{Chain, PrivateKey};
use router::admin::Answer;
use router::enroll::enroll;
use router::events::EventKind;
use router::run;

use crate::FRESH_KEYS;
use crate::controller::{Controller, ROUTER, Rules};
use crate::home::{Home, LIFE, Running};

fn state(home: &Home) -> PathBuf {
    home.folder.path().join(".exuvia").join(ROUTER)
}

async fn requested(running: &mut Running) {
    running.wait_for("request", |what| matches!(what, EventKind::Requested { .. }).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unproven_generation_is_named_durably_once_more_before_anybody_sees_its_leaf() {
    let controller = Controller::start(Rules::Ours, LIFE).await;
    let home = Home::enrolled(&controller, FRESH_KEYS).await;
    let manifest = state(&home).join("manifest");
    let before = std::fs::metadata(&manifest).unwrap().ino();
    // A file that keeps the number from being used again.
    let kept = std::fs::File::open(&manifest).unwrap();
    let (_stop, stopped) = Stop::new();
    let ready = run::prepare(home.config.clone(), false, stopped).await.unwrap();
    assert_ne!(
        std::fs::metadata(&manifest).unwrap().ino(),
        before,
        "the process that wrote it may have died before its sync"
    );
    drop((ready, kept));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_go_bad_take_nothing_away_from_a_living_process() {
    let mut controller = Controller::start(Rules::Ours, LIFE).await;
    let home = Home::enrolled(&controller, FRESH_KEYS).await;
    controller.state.faults.lose_certs.store(1, Ordering::SeqCst);
    let mut running = home.start().await;
    running.connected().await;
    running.renew().await;
    requested(&mut running).await;
    // The served generation rots on the disk, and then a barrier fails, so that the disk is read again.
    let served = state(&home).join("generations/0001/client.pem");
    std::fs::OpenOptions::new().append(true).open(served).unwrap().write_all(b"\n").unwrap();
    let (prepared, aside) = (state(&home).join("generations/0002"), state(&home).join("0002.aside"));
    std::fs::rename(&prepared, &aside).unwrap();
    running.wait_for("recovery", |what| matches!(what, EventKind::Recovered { .. }).then_some(())).await;
    std::fs::rename(&aside, &prepared).unwrap_or_default();
    let status = running.client().await.status().await.unwrap();
    assert_eq!(status.generation, 1);
    assert!(!status.damage.is_empty(), "it is reported all the same");

    assert_eq!(running.connected().await, 1, "the channel never closed");
    controller.restart().await;
    assert!(running.connected().await <= 2, "what is in memory can still be presented");
    running.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_enrollment_never_takes_over_the_key_of_an_interrupted_renewal() {
    let controller = Controller::start(Rules::Ours, LIFE).await;
    // Projected: a renewal keeps the key.
    let home = Home::enrolled(&controller, "").await;
    controller.state.faults.lose_certs.store(u32::MAX, Ordering::SeqCst);
    let mut running = home.start().await;
    running.connected().await;
    running.renew().await;
    requested(&mut running).await;
    let old = PrivateKey::from_pem(&home.file("r.key")).unwrap().key_id();
    let token = controller.re_enroll();
    enroll(&home.config, &token, false).await.unwrap_or_else(|error| panic!("{error:?}"));
    running.promoted().await;
    assert_ne!(
        Chain::from_pem(&home.file("r.cert")).unwrap().leaf().key_id(),
        old,
        "the old key may be in the wrong hands"
    );
    running.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_renewal_begins_while_an_enrollment_is_under_way() {
    let controller = Controller::start(Rules::Ours, LIFE).await;
    let home = Home::enrolled(&controller, FRESH_KEYS).await;
    let mut running = home.start().await;
    running.connected().await;
    // An issuer that takes connections and says nothing.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let issuer = format!("https://localhost:{}", silent.local_addr().unwrap().port());
    let token = format!("e30.{}.c2ln", base64url(format!(r#"{{"iss":"{issuer}"}}"#).as_bytes()));
    let mut client = running.client().await;
    let asked = tokio::spawn(async move { client.enroll(&token, false).await });
    let (held, _) = silent.accept().await.unwrap();

    let answer = running.client().await.renew().await.unwrap();
    assert!(matches!(answer, Answer::NotBegun { .. }), "{answer:?}");
    drop((held, silent));
    assert!(matches!(asked.await.unwrap().unwrap(), Answer::Failed { .. }));
    running.renew().await;
    running.promoted().await;
    running.end().await;
}

fn base64url(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let bits =
        |group: &[u8]| group.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
    let digit = |word: u32, at: usize| char::from(LETTERS[(word >> (18 - 6 * at) & 63) as usize]);
    bytes.chunks(3).flat_map(|group| (0..=group.len()).map(move |at| digit(bits(group), at))).collect()
}
