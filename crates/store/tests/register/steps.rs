//! Submissions: decided in order, durable before they are answered.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use lifecycle::UnixTime;
use lifecycle::issuance::{AdmissionRefusal, Answer, Input, RequestRefusal, Standing};
use store::register::{Attachment, MemoryRegister, Register, RegisterError, Reply, SqliteRegister};

use crate::support::*;

fn poll<T>(reply: &mut Reply<T>) -> Poll<Result<T, RegisterError>> {
    Pin::new(reply).poll(&mut Context::from_waker(Waker::noop()))
}

#[tokio::test]
async fn a_renewal_keeps_both_leaves_until_the_newer_is_used() {
    for register in &both().all {
        enrolled(register.as_ref(), 2, 10).await;
        let stored = register.submit(store_in(2, 11, 1, 100)).await;
        assert_eq!(send_of(&stored), 2);
        assert_eq!(stored.unwrap().chains, Some(chains(11)));
        let confirmed = register.submit(confirm(2, 11, 101)).await.unwrap();
        assert!(confirmed.changed);
        let record = register.record(id(2)).await.unwrap().unwrap();
        assert_eq!(record.admitted(at(102), &policy()).count(), 2);
        register.submit(use_leaf(2, 11, 103)).await.unwrap();
        let record = register.record(id(2)).await.unwrap().unwrap();
        assert_eq!(record.admitted(at(2 * DAY), &policy()).count(), 1);
        let told: Vec<String> = events(register.as_ref(), 2).await.into_iter().map(|(event, _)| event).collect();
        assert_eq!(told, ["created", "enrolled", "first-use", "issued", "confirmed", "first-use"]);
    }
}

#[tokio::test]
async fn the_same_request_again_gets_what_the_register_holds() {
    for register in &both().all {
        enrolled(register.as_ref(), 2, 10).await;
        register.submit(store_in(2, 11, 1, 100)).await.unwrap();
        let mut again = store_in(2, 11, 1, 101);
        let Input::Store { client, .. } = &mut again.input else { panic!() };
        *client = leaf(99);
        let again = register.submit(again.with(Attachment::Chains(chains(99)))).await.unwrap();
        assert!(!again.changed);
        assert_eq!(again.chains, Some(chains(11)), "what was signed second is dropped");
        assert!(register.find_leaf(sha1(99)).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn an_outcome_that_changes_nothing_costs_no_commit() {
    for register in &both().all {
        enrolled(register.as_ref(), 2, 10).await;
        let before = register.metrics();
        for s in 10..30 {
            register.submit(use_leaf(2, 10, s)).await.unwrap();
        }
        let after = register.metrics();
        assert_eq!((after.commits, after.steps), (before.commits, before.steps + 20));
        assert_eq!(after.written_steps, before.written_steps);
    }
}

#[tokio::test]
async fn a_refusal_repeated_within_a_minute_counts_up_one_entry() {
    for register in &both().all {
        enrolled(register.as_ref(), 2, 10).await;
        let before = register.metrics().commits;
        for s in 10..50 {
            let refused = register.submit(use_leaf(2, 77, s)).await.unwrap();
            assert_eq!(refused.answer, Answer::RefuseAdmission(AdmissionRefusal::Unknown));
        }
        assert_eq!(register.metrics().commits, before + 1);
        // The counts ride along with the next commit.
        register.heartbeat(at(60).wall).await.unwrap();
        let refused = || async {
            let mut told = events(register.as_ref(), 2).await;
            told.retain(|(event, _)| event == "admission-refused");
            told.into_iter().map(|(_, count)| count).collect::<Vec<_>>()
        };
        assert_eq!(refused().await, [40]);
        register.submit(use_leaf(2, 77, 70)).await.unwrap();
        assert_eq!(refused().await, [40, 1]);
    }
}

#[tokio::test]
async fn leaves_are_not_stored_without_their_chains() {
    for register in &both().all {
        enrolled(register.as_ref(), 2, 10).await;
        let bare = store_in(2, 11, 1, 100).with(Attachment::Nothing);
        let error = register.submit(bare).await.unwrap_err();
        assert!(matches!(error, RegisterError::Incomplete { .. }), "{error}");
        assert_eq!(register.record(id(2)).await.unwrap().unwrap().leaves.len(), 1);
        let error = register.submit(use_leaf(3, 10, 5)).await.unwrap_err();
        assert_eq!(error, RegisterError::UnknownRouter(id(3)));
    }
}

#[tokio::test]
async fn a_token_text_is_gone_once_the_enrollment_was_used() {
    for register in &both().all {
        register.create_router(new_router(2), by(0)).await.unwrap();
        assert_eq!(register.find_token(token(2).id).await.unwrap(), Some(id(2)));
        register.submit(enroll(2, 10)).await.unwrap();
        let view = register.router(id(2)).await.unwrap().unwrap();
        assert_eq!(view.token, Some(token_text(2)), "a lost answer can still be repeated");
        register.submit(use_leaf(2, 10, 5)).await.unwrap();
        let view = register.router(id(2)).await.unwrap().unwrap();
        assert_eq!((view.token, view.record.token), (None, None));
        assert_eq!(register.find_token(token(2).id).await.unwrap(), None);
    }
}

#[tokio::test]
async fn enrolling_anew_and_revoking_leave_no_old_leaf_to_find() {
    for register in &both().all {
        enrolled(register.as_ref(), 2, 10).await;
        assert_eq!(register.find_leaf(sha1(10)).await.unwrap()[0].router, id(2));
        let input = Input::ReEnroll { token: token(40) };
        let anew = submission(2, 20, input).by("admin:alice").with(Attachment::Token(token_text(40)));
        assert_eq!(register.submit(anew).await.unwrap().answer, Answer::CloseChannels);
        assert!(register.find_leaf(sha1(10)).await.unwrap().is_empty());
        assert_eq!(register.find_token(token(40).id).await.unwrap(), Some(id(2)));
        // The channel from before cannot store what was signed for it.
        let late = register.submit(store_in(2, 11, 1, 21)).await.unwrap();
        assert_eq!(late.answer, Answer::RefuseRequest(RequestRefusal::StaleChannel));
        register.submit(submission(2, 30, Input::Revoke)).await.unwrap();
        let view = register.router(id(2)).await.unwrap().unwrap();
        assert_eq!((view.record.standing, view.token), (Standing::Revoked, None));
    }
}

#[tokio::test]
async fn a_use_is_admitted_before_the_revocation_or_refused_after_it_never_both() {
    for register in &both().all {
        for router in 0..20 {
            enrolled(register.as_ref(), router, 100 + router).await;
            register.submit(store_in(router, 200 + router, 1, 50)).await.unwrap();
            let newer = register.submit(use_leaf(router, 200 + router, 60));
            let revoke = register.submit(submission(router, 60, Input::Revoke));
            let (newer, revoke) = if router.is_multiple_of(2) {
                tokio::join!(newer, revoke)
            } else {
                let (revoke, newer) = tokio::join!(revoke, newer);
                (newer, revoke)
            };
            assert_eq!(revoke.unwrap().answer, Answer::CloseChannels);
            let told = events(register.as_ref(), router).await;
            let place = |event: &str| told.iter().rposition(|(held, _)| held == event);
            match newer.unwrap().answer {
                Answer::Admit(admitted) => {
                    assert_eq!(router % 2, 0);
                    assert_eq!(admitted.epoch.0, 1);
                    assert!(place("first-use") < place("revoked"), "{told:?}");
                }
                Answer::RefuseAdmission(AdmissionRefusal::Revoked) => {
                    assert_eq!(router % 2, 1);
                    assert!(place("admission-refused") > place("revoked"), "{told:?}");
                }
                other => panic!("{other:?}"),
            }
            let record = register.record(id(router)).await.unwrap().unwrap();
            assert_eq!((record.standing, record.leaves.len()), (Standing::Revoked, 0));
        }
    }
}

#[tokio::test]
async fn routers_that_renew_at_once_share_commits() {
    let folder = tempfile::tempdir().unwrap();
    let register = SqliteRegister::create(&folder.path().join("r.db"), "i", UnixTime::from_s(0)).unwrap();
    for router in 0..200 {
        register.create_router(new_router(router), by(0)).await.unwrap();
    }
    let before = register.metrics();
    let mut tasks = tokio::task::JoinSet::new();
    for router in 0..200 {
        tasks.spawn(register.submit(enroll(router, 1000 + router)));
    }
    for answered in tasks.join_all().await {
        assert_eq!(send_of(&answered), 1);
    }
    let after = register.metrics();
    assert_eq!(after.written_steps - before.written_steps, 200);
    assert!(after.commits - before.commits <= 40, "{} commits for 200 changes", after.commits - before.commits);
}

#[test]
fn no_answer_leaves_before_its_commit() {
    let register = MemoryRegister::new("i");
    let mut created = register.create_router(new_router(2), by(0));
    assert!(poll(&mut created).is_ready());
    register.hold_commits(true);
    let mut stored = register.submit(enroll(2, 10));
    assert!(poll(&mut stored).is_pending());
    // Nothing changes now, but the answer tells of what is not yet durable.
    let mut repeated = register.submit(enroll(2, 10));
    assert!(poll(&mut repeated).is_pending());
    let mut record = register.record(id(2));
    let Poll::Ready(Ok(Some(record))) = poll(&mut record) else { panic!() };
    assert!(record.leaves.is_empty(), "reads see only what is durable");
    assert_eq!(register.commit(), 2);
    assert!(matches!(poll(&mut stored), Poll::Ready(Ok(_))));
    assert!(matches!(poll(&mut repeated), Poll::Ready(Ok(_))));
    assert_eq!(register.metrics().commits, 2);
}

#[test]
fn a_crash_takes_what_was_not_acknowledged_and_nothing_else() {
    let register = MemoryRegister::new("i");
    assert!(poll(&mut register.create_router(new_router(2), by(0))).is_ready());
    assert!(poll(&mut register.submit(enroll(2, 10))).is_ready());
    register.hold_commits(true);
    let mut used = register.submit(use_leaf(2, 10, 5));
    let mut created = register.create_router(new_router(3), by(6));
    assert!(poll(&mut used).is_pending() && poll(&mut created).is_pending());
    register.crash();
    assert!(matches!(poll(&mut used), Poll::Ready(Err(RegisterError::Closed))));
    assert!(matches!(poll(&mut created), Poll::Ready(Err(RegisterError::Closed))));
    register.hold_commits(false);
    let Poll::Ready(Ok(Some(view))) = poll(&mut register.router(id(2))) else { panic!() };
    assert_eq!((view.record.leaves.len(), view.record.last_used), (1, None));
    assert_eq!(view.token, Some(token_text(2)), "the token is not spent");
    assert!(matches!(poll(&mut register.router(id(3))), Poll::Ready(Ok(None))));
    assert!(matches!(poll(&mut register.create_router(new_router(3), by(7))), Poll::Ready(Ok(_))));
}

#[test]
fn any_commit_can_fail_and_takes_its_whole_batch_with_it() {
    for nth in 1..=3 {
        let register = MemoryRegister::new("i");
        for router in 2..8 {
            assert!(poll(&mut register.create_router(new_router(router), by(0))).is_ready());
        }
        register.fail_commit(nth);
        register.hold_commits(true);
        for batch in 1..=3 {
            let pair = [batch * 2, batch * 2 + 1];
            let mut replies = pair.map(|router| register.submit(enroll(router, 10 + router)));
            assert!(replies.iter_mut().all(|reply| poll(reply).is_pending()));
            register.commit();
            for reply in &mut replies {
                let Poll::Ready(answered) = poll(reply) else { panic!() };
                let failed = matches!(answered, Err(RegisterError::CommitFailed { .. }));
                assert_eq!(failed, batch == nth, "{answered:?}");
            }
        }
        let Poll::Ready(Ok(counts)) = poll(&mut register.counts()) else { panic!() };
        assert_eq!((counts.leaves, counts.audit), (4, 6 + 4));
        register.hold_commits(false);
        for router in 2..8 {
            let Poll::Ready(again) = poll(&mut register.submit(enroll(router, 10 + router))) else { panic!() };
            assert_eq!(send_of(&again), 1);
        }
        assert_eq!((register.metrics().failed_commits, register.metrics().commits), (1, 6 + 2 + 2));
    }
}
