//! 20302 and 20303: nothing that is lost costs the router its identity.

use lifecycle::issuance::{EnrollmentKind::Edge, EnrollmentKind::Transit, LeafStage};
use wire::Frame;
use wire::content_type;
use wire::extension::{CertsResponse, ErrorAnswer, ExtensionRequest};

use crate::world::{World, new_key};

#[tokio::test]
async fn a_renewal_adds_confirms_and_removes_nothing() {
    let world = World::new().await;
    for kind in [Edge, Transit] {
        let id = format!("{kind:?}");
        let router = world.enrolled(&id, kind).await;
        let mut line = router.connect(&world.daemon).await;
        let key = new_key();
        let certs = line.extend(&router, &key).await;
        assert!(certs.ca_pem.is_empty());
        let next = router.renewed(key, &certs);
        let stages =
            |record: &lifecycle::issuance::Record| record.leaves.iter().map(|leaf| leaf.stage).collect::<Vec<_>>();
        assert_eq!(stages(&world.record(&id).await), [LeafStage::Used, LeafStage::Pending]);
        assert!(line.verify(&certs.client_chain_pem).await.is_success());
        assert_eq!(stages(&world.record(&id).await), [LeafStage::Used, LeafStage::Confirmed]);
        next.connect(&world.daemon).await;
        assert_eq!(stages(&world.record(&id).await), [LeafStage::Used, LeafStage::Used]);
    }
}

#[tokio::test]
async fn the_same_keys_get_the_same_leaf_and_other_keys_another_one() {
    let world = World::new().await;
    let router = world.enrolled("r1", Edge).await;
    let mut line = router.connect(&world.daemon).await;
    let key = new_key();
    let first = line.extend(&router, &key).await;
    assert_eq!(line.extend(&router, &key).await, first);
    let mut again = router.connect(&world.daemon).await;
    assert_eq!(again.extend(&router, &key).await, first, "over another channel as well");
    assert_ne!(again.extend(&router, &new_key()).await, first);
}

#[tokio::test]
async fn confirming_twice_is_confirming_once() {
    let world = World::new().await;
    let router = world.enrolled("r1", Edge).await;
    let mut line = router.connect(&world.daemon).await;
    let certs = line.extend(&router, &new_key()).await;
    assert!(line.verify(&certs.client_chain_pem).await.is_success());
    let record = world.record("r1").await;
    assert!(line.verify(&certs.client_chain_pem).await.is_success());
    assert_eq!(world.record("r1").await, record);
}

#[tokio::test]
async fn a_confirmation_names_what_is_wrong_with_it() {
    let world = World::new().await;
    let (one, two) = (world.enrolled("one", Edge).await, world.enrolled("two", Edge).await);
    let mut line = one.connect(&world.daemon).await;
    assert_eq!(line.verify("").await.code, "MISSING_CLIENT_PEM");
    assert_eq!(line.verify(&two.client.to_pem()).await.code, "INVALID_ROUTER_STATE");
    line.extend(&one, &new_key()).await;
    assert_eq!(line.verify(&two.client.to_pem()).await.code, "INVALID_CLIENT_PEM");
    let torn = Frame::new(content_type::EXTENSION_VERIFY, vec![0xff, 0xff, 0xff]);
    let answer = line.channel.request(torn, crate::world::PATIENCE).await.unwrap();
    assert_eq!(ErrorAnswer::from_frame(&answer).unwrap().code, "COULD_NOT_UNMARSHAL");
}

#[tokio::test]
async fn a_stock_router_that_loses_every_answer_still_finds_its_old_leaf_admitted() {
    let world = World::new().await;
    let router = world.enrolled("go", Edge).await;
    for _ in 0..6 {
        // 20303 was answered with success and the answer lost, so the leaf was thrown away.
        let mut line = router.connect_as_stock(&world.daemon).await;
        let certs = line.extend(&router, &new_key()).await;
        assert!(line.verify(&certs.client_chain_pem).await.is_success());
    }
    router.connect_as_stock(&world.daemon).await;
    let fingerprint = router.client.leaf().fingerprint();
    assert!(world.record("go").await.leaf(fingerprint).is_some());
}

#[tokio::test]
async fn an_answer_lost_after_the_commit_is_given_again() {
    let world = World::new().await;
    let router = world.enrolled("r1", Edge).await;
    let line = router.connect(&world.daemon).await;
    world.memory.hold_commits(true);
    let key = new_key();
    line.channel.send(router.asking(&key)).await.unwrap();
    while world.memory.commit() == 0 {
        tokio::task::yield_now().await;
    }
    drop(line);
    let kept = world.record("r1").await;
    world.memory.hold_commits(false);
    let world = world.crash().await;
    let mut line = router.connect(&world.daemon).await;
    let certs = line.extend(&router, &key).await;
    let next = router.renewed(key, &certs);
    assert!(kept.leaf(next.client.leaf().fingerprint()).is_some(), "what was committed before the crash");
    assert!(line.verify(&certs.client_chain_pem).await.is_success());
    next.connect(&world.daemon).await;
}

#[tokio::test]
async fn a_commit_that_fails_sends_nothing_and_the_next_request_is_served() {
    let world = World::new().await;
    let router = world.enrolled("r1", Edge).await;
    let mut line = router.connect(&world.daemon).await;
    let key = new_key();
    world.memory.fail_commit(1);
    line.channel.send(router.asking(&key)).await.unwrap();
    let answer = ErrorAnswer::from_frame(&line.frame(content_type::ERROR).await).unwrap();
    assert_eq!(answer.code, "UNAVAILABLE");
    assert_eq!(world.record("r1").await.leaves.len(), 1);
    let certs = line.extend(&router, &key).await;
    world.memory.fail_commit(1);
    assert_eq!(line.verify(&certs.client_chain_pem).await.code, "VERIFY_ERROR");
    assert!(line.verify(&certs.client_chain_pem).await.is_success());
}

#[tokio::test]
async fn a_request_for_another_router_is_refused_aloud_to_ours_and_in_silence_to_stock_ones() {
    let world = World::new().await;
    let (one, two) = (world.enrolled("one", Edge).await, world.enrolled("two", Edge).await);
    let mut line = one.connect(&world.daemon).await;
    let frame = two.asking(&new_key());
    let asked = line.channel.send(frame.clone()).await.unwrap();
    let answer = line.frame(content_type::ERROR).await;
    assert_eq!(answer.reply_for(), Some(asked));
    assert_eq!(ErrorAnswer::from_frame(&answer).unwrap().code, "INVALID_CSR");

    let mut stock = one.connect_as_stock(&world.daemon).await;
    stock.channel.send(frame).await.unwrap();
    let empty = ExtensionRequest::default().to_frame();
    stock.channel.send(empty).await.unwrap();
    // Frames are served in order: what comes back is the answer to the third.
    stock.channel.send(one.asking(&new_key())).await.unwrap();
    loop {
        if let Some(net::channel::Event::Message { frame, .. }) = stock.events.next().await {
            assert_ne!(frame.content_type, content_type::ERROR);
            if frame.content_type == content_type::ENROLLMENT_CERTS {
                CertsResponse::from_frame(&frame).unwrap();
                break;
            }
        }
    }
    assert_eq!(world.record("two").await.leaves.len(), 1);
}

#[tokio::test]
async fn every_step_is_in_the_audit_trail() {
    let world = World::new().await;
    let router = world.enrolled("r1", Edge).await;
    let mut line = router.connect(&world.daemon).await;
    line.renew(&router).await.connect(&world.daemon).await;
    let query = store::register::AuditQuery { ascending: true, ..Default::default() };
    let events: Vec<String> = world.register.audit(query).await.unwrap().into_iter().map(|entry| entry.event).collect();
    let of_router = ["enrolled", "first-use", "issued", "confirmed", "first-use"];
    let seen: Vec<&str> = events.iter().map(String::as_str).filter(|event| of_router.contains(event)).collect();
    assert_eq!(seen, of_router);
}
