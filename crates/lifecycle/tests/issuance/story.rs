//! Renewals of one router, told input by input.

use lifecycle::issuance::{
    AdmissionRefusal, Answer, Audit, CONFIRMED_MAX, ConfirmRefusal, Epoch, Input, LeafSeq, LeafStage, PENDING_MAX,
    RequestRefusal, Standing,
};
use lifecycle::{Leaf, UnixTime};

use crate::world::{DAY_S, Desk, FAR, HOUR_S, LIFE_S, asked, fingerprint, leaf, policy, request, server, store, token};

fn refused(refusal: AdmissionRefusal) -> Answer {
    Answer::RefuseAdmission(refusal)
}

/// An unmodified Go router: one key for ever, one leaf in its file, which it writes only when every answer arrived.
struct GoRouter {
    file: u64,
}

impl GoRouter {
    /// One round of its 35 s loop.
    fn round(&mut self, desk: &mut Desk, new: u64, is_answered: bool) {
        let Answer::Send(seq) = desk.extend(1, new) else { panic!("it is answered") };
        let sent = desk.record.leaf_at(seq).unwrap().client;
        let confirm = Input::Confirm { epoch: desk.epoch(), fingerprint: sent.fingerprint };
        assert_eq!(desk.give(confirm), Answer::Confirmed(seq));
        if is_answered {
            self.file = crate::world::number(&sent);
        }
        desk.later(35);
    }
}

#[test]
fn two_lost_replies_never_lock_an_unmodified_router_out() {
    let mut desk = Desk::in_use();
    let mut router = GoRouter { file: 1 };
    desk.later(60 * DAY_S);
    router.round(&mut desk, 2, false);
    router.round(&mut desk, 3, false);
    assert!(desk.admits(router.file), "its file still holds the first one");
    assert_eq!(desk.set(), [1, 2], "the same keys and names got the same leaf again");
}

#[test]
fn a_thousand_lost_replies_make_one_leaf() {
    let mut desk = Desk::in_use();
    let mut router = GoRouter { file: 1 };
    desk.later(60 * DAY_S);
    (2..1000).for_each(|new| router.round(&mut desk, new, false));
    assert_eq!(desk.set(), [1, 2]);
    router.round(&mut desk, 1000, true);
    assert_eq!(router.file, 2);
    assert!(desk.admits(2));
}

#[test]
fn b_4_a_stock_router_whose_new_file_was_lost_before_it_was_used_has_its_old_leaf_and_gets_the_same_new_one() {
    let mut desk = Desk::in_use();
    let mut router = GoRouter { file: 1 };
    desk.later(60 * DAY_S);
    router.round(&mut desk, 2, true);
    assert_eq!(router.file, 2);
    // It wrote without a sync, and a power cut undid that before it had connected once.
    router.file = 1;
    assert!(desk.later(20 * DAY_S).admits(router.file), "no time alone ends what is in use");
    router.round(&mut desk, 3, true);
    assert_eq!(router.file, 2, "the register kept what it had issued for these keys and names");
}

/// The limit that design-holes.md names: what only the router's own disk can lose, no controller gives back by itself.
#[test]
fn b_4_a_stock_router_that_loses_its_new_file_after_the_overlap_is_refused_with_an_alarm_until_the_operator_decides() {
    let mut desk = Desk::in_use();
    desk.later(60 * DAY_S).renew(2);
    assert!(desk.admits(2));
    desk.later(HOUR_S + 1);
    assert_eq!(desk.hello(1), refused(AdmissionRefusal::Superseded), "its file holds the old leaf again");
    assert!(desk.record.fork.is_some(), "the operator is told");
    desk.give(Input::Readmit { leaf: leaf(1, 0) });
    assert!(desk.admits(1));
}

/// A router's disk goes back in time: outside P1 by name, and not a word is believed that the register has gone beyond.
#[test]
fn e_9_a_router_whose_disk_went_back_in_time_is_refused_with_an_alarm_until_the_operator_readmits_it() {
    let mut desk = Desk::in_use();
    for n in 2..=4 {
        desk.later(20 * DAY_S).renew(n);
        assert!(desk.admits(n));
    }
    desk.later(DAY_S);
    // A snapshot from the time of leaf 2 is put in place.
    assert!(matches!(desk.hello(2), Answer::RefuseAdmission(_)));
    assert!(matches!(desk.commit.clone().unwrap().audit, Audit::Forked(_)));
    assert!(desk.admits(4), "whoever has the newest one is not disturbed");
    desk.give(Input::Readmit { leaf: leaf(2, 20 * DAY_S) });
    assert!(desk.admits(2));
    assert_eq!(desk.set(), [2]);
}

#[test]
fn a_year_of_renewals_on_one_channel_leaves_the_file_admitted_after_every_one() {
    let mut desk = Desk::in_use();
    let mut router = GoRouter { file: 1 };
    for renewal in 0..12 {
        desk.later(60 * DAY_S);
        // It writes every other one, loses the answers to the rest, and never reconnects.
        router.round(&mut desk, 10 + renewal, renewal % 2 == 0);
        let link = desk.record.check_link(desk.now, &policy(), fingerprint(router.file));
        assert_eq!(link, Ok(()), "renewal {renewal}, file {}", router.file);
        router.round(&mut desk, 100 + renewal, true);
        assert!(desk.record.check_link(desk.now, &policy(), fingerprint(router.file)).is_ok());
    }
    assert!(desk.admits(router.file), "a year later it reconnects");
}

#[test]
fn the_overlap_runs_from_the_first_use_and_not_from_the_confirmation() {
    let mut desk = Desk::in_use();
    desk.later(DAY_S).renew(2);
    assert!(desk.later(20 * DAY_S).admits(1), "no time alone ends a leaf that is in use");
    assert!(desk.admits(2));
    assert_eq!(desk.later(HOUR_S).set(), [1, 2], "its file may have been lost with the page cache");
    assert_eq!(desk.later(1).hello(1), refused(AdmissionRefusal::Superseded));
    assert!(desk.admits(2));
}

#[test]
fn using_the_new_leaf_again_does_not_prolong_the_overlap() {
    let mut desk = Desk::in_use();
    desk.later(DAY_S).renew(2);
    assert!(desk.admits(2));
    assert!(desk.later(HOUR_S).admits(2));
    assert_eq!(desk.later(1).hello(1), refused(AdmissionRefusal::Superseded));
}

#[test]
fn an_overlap_never_outlasts_the_old_leaf() {
    let mut desk = Desk::in_use();
    desk.later(LIFE_S - 60).renew(2);
    assert!(desk.admits(2));
    assert_eq!(desk.later(61).hello(1), refused(AdmissionRefusal::Expired));
}

#[test]
fn a_superseded_leaf_stays_out_when_its_successor_is_superseded_in_turn() {
    let mut desk = Desk::in_use();
    desk.later(DAY_S).renew(2);
    assert!(desk.admits(2));
    desk.later(DAY_S).renew(3);
    assert_eq!(desk.set(), [2, 3]);
    assert!(desk.admits(3));
    assert_eq!(desk.set(), [2, 3], "the overlap of the second one is not the first one's");
    assert!(!desk.admits(1));
}

#[test]
fn a_leaf_in_overlap_keeps_it_when_the_next_one_is_used_early() {
    let mut desk = Desk::in_use();
    desk.renew(2);
    assert!(desk.admits(2));
    desk.later(60).renew(3);
    assert!(desk.admits(3));
    assert_eq!(desk.set(), [1, 2, 3], "a router that proves two leaves in a minute may still depend on the first");
}

#[test]
fn renewing_all_day_long_does_not_fill_the_register() {
    let mut desk = Desk::in_use();
    for n in 2..500 {
        desk.later(60).renew(n);
        assert!(desk.admits(n));
        assert!(desk.set().contains(&(n - 1)), "its predecessor has its overlap");
        assert!(desk.record.leaves.len() <= 16, "{} leaves after {n}", desk.record.leaves.len());
    }
}

#[test]
fn asking_with_new_keys_every_time_does_not_fill_the_register() {
    let mut desk = Desk::in_use();
    for n in 2..500 {
        desk.later(60).extend(n, n);
        if n % 3 == 0 {
            assert!(matches!(desk.confirm(n), Answer::Confirmed(_)));
        }
        assert!(desk.record.leaves.len() <= 1 + CONFIRMED_MAX + PENDING_MAX);
    }
    assert!(desk.admits(1));
}

#[test]
fn a_link_check_never_evicts_and_never_counts_as_use() {
    let mut desk = Desk::in_use();
    desk.extend(2, 2);
    let before = desk.record.clone();
    assert_eq!(desk.record.check_link(desk.now, &policy(), fingerprint(2)), Ok(()), "it links with it at once");
    assert_eq!(desk.record.check_link(desk.now, &policy(), fingerprint(7)), Err(AdmissionRefusal::Unknown));
    assert_eq!(desk.record, before);
    assert!(desk.later(30 * DAY_S).admits(1));
}

#[test]
fn only_use_removes() {
    let mut desk = Desk::in_use();
    for n in 2..=4 {
        desk.later(DAY_S).renew(n);
    }
    desk.extend(5, 5);
    assert_eq!(desk.later(50 * DAY_S).set(), [1, 2, 3, 4, 5]);
    assert!(desk.admits(4));
    assert_eq!(desk.later(HOUR_S + 1).set(), [4, 5]);
}

#[test]
fn at_most_four_confirmed_leaves_and_four_pending_ones_wait_beside_the_one_in_use() {
    let mut desk = Desk::in_use();
    for n in 2..12 {
        desk.later(60).renew(n);
    }
    for n in 12..17 {
        desk.extend(n, n);
    }
    assert_eq!(desk.set(), [1, 8, 9, 10, 11, 13, 14, 15, 16]);
    assert_eq!(desk.confirm(12), Answer::RefuseConfirm(ConfirmRefusal::NotThatLeaf));
}

#[test]
fn the_same_keys_and_names_get_the_same_leaf_while_it_is_unused_and_young() {
    let mut desk = Desk::in_use();
    let first = desk.extend(2, 2);
    assert_eq!(desk.later(LIFE_S / 2 - 1).extend(2, 3), first, "more than half of its life is left");
    assert_eq!(desk.later(1).extend(2, 4), Answer::Send(LeafSeq(3)), "it is no longer young");
}

#[test]
fn once_it_was_used_the_same_keys_get_a_new_leaf() {
    let mut desk = Desk::in_use();
    let first = desk.extend(2, 2);
    assert!(desk.admits(2));
    assert_ne!(desk.extend(2, 3), first);
}

#[test]
fn other_names_get_another_leaf() {
    let mut desk = Desk::in_use();
    let first = desk.extend(2, 2);
    let mut renamed = asked(2);
    renamed.names.0[0] = 9;
    let again = Input::Request { epoch: desk.epoch(), asked: renamed, issuer_not_after: FAR };
    assert_eq!(desk.give(again), Answer::Sign);
    assert_eq!(desk.extend(2, 3), first);
}

#[test]
fn a_request_is_never_answered_with_a_leaf_that_a_later_one_has_overtaken() {
    let mut desk = Desk::in_use();
    desk.later(DAY_S).renew(2).later(60).extend(3, 3);
    assert!(desk.admits(3));
    assert_eq!(desk.later(2 * HOUR_S).hello(2), refused(AdmissionRefusal::Superseded));
    assert_eq!(desk.extend(2, 4), Answer::Send(LeafSeq(4)));
    assert!(desk.admits(4), "what was sent can be used");
}

#[test]
fn an_idempotent_answer_checks_epoch_and_standing_again() {
    let mut desk = Desk::in_use();
    let old = desk.epoch();
    let first = desk.extend(2, 2);
    desk.give(Input::SetDisabled(true));
    assert_eq!(desk.give(request(old, 2)), Answer::RefuseRequest(RequestRefusal::NotActive));
    desk.give(Input::SetDisabled(false));
    assert_eq!(desk.give(request(old, 2)), first);
    desk.give(Input::ReEnroll { token: token(5, 0) });
    assert_eq!(desk.give(request(old, 2)), Answer::RefuseRequest(RequestRefusal::StaleChannel));
    assert_eq!(desk.give(request(desk.epoch(), 2)), Answer::RefuseRequest(RequestRefusal::NotEnrolled));
    desk.give(Input::Revoke);
    assert_eq!(desk.give(request(desk.epoch(), 2)), Answer::RefuseRequest(RequestRefusal::NotActive));
}

#[test]
fn a_confirmation_can_be_repeated_before_and_after_the_use() {
    let mut desk = Desk::in_use();
    desk.extend(2, 2);
    assert_eq!(desk.confirm(2), Answer::Confirmed(LeafSeq(2)));
    assert!(desk.commit.is_some());
    assert_eq!(desk.confirm(2), Answer::Confirmed(LeafSeq(2)));
    assert!(desk.commit.is_none(), "the second one writes nothing");
    assert!(desk.admits(2));
    assert_eq!(desk.confirm(2), Answer::Confirmed(LeafSeq(2)));
}

#[test]
fn a_confirmation_that_comes_too_late_is_refused_so_that_nobody_throws_a_better_leaf_away() {
    let mut desk = Desk::in_use();
    desk.renew(2).renew(3);
    assert!(desk.admits(3));
    assert_eq!(desk.later(HOUR_S).confirm(2), Answer::Confirmed(LeafSeq(2)));
    assert_eq!(desk.later(1).confirm(2), Answer::RefuseConfirm(ConfirmRefusal::NotThatLeaf), "it is superseded");
    desk.extend(4, 4);
    assert_eq!(desk.later(LIFE_S + 1).confirm(4), Answer::RefuseConfirm(ConfirmRefusal::NotThatLeaf), "it is expired");
}

#[test]
fn a_leaf_overtaken_between_its_proof_and_the_commit_is_refused() {
    let mut desk = Desk::in_use();
    desk.extend(2, 2);
    // The hello with leaf 2 was read while it was pending; requests of other attempts commit first, more of them than have room.
    for n in 3..3 + PENDING_MAX as u64 {
        desk.extend(n, n);
    }
    assert_eq!(desk.hello(2), refused(AdmissionRefusal::Unknown), "no Result says that it is proven");
    assert!(desk.admits(1) && desk.admits(3));
}

#[test]
fn a_staged_leaf_whose_20303_was_lost_outlives_the_old_one_and_the_requests_of_later_attempts() {
    let mut desk = Desk::in_use();
    desk.later(60 * DAY_S).extend(2, 2);
    // Its 20303 never arrived. Later attempts were asked for with other keys, and their answers were lost.
    for n in 3..2 + PENDING_MAX as u64 {
        desk.later(DAY_S).extend(n, n);
    }
    desk.later(30 * DAY_S);
    assert_eq!(desk.hello(1), refused(AdmissionRefusal::Expired));
    assert!(desk.admits(2), "it is all that the router has");
}

#[test]
fn a_leaf_admitted_before_another_attempt_commits_stands_beside_it() {
    let mut desk = Desk::in_use();
    desk.extend(2, 2);
    assert!(desk.admits(2));
    desk.extend(3, 3);
    assert_eq!(desk.set(), [1, 2, 3]);
    assert!(desk.later(DAY_S).admits(2));
    assert!(desk.admits(3));
}

#[test]
fn an_admission_is_durable_before_its_result() {
    let mut desk = Desk::in_use();
    desk.extend(2, 2);
    desk.hello(2);
    let commit = desk.commit.clone().unwrap();
    assert_eq!(commit.audit, Audit::FirstUse(LeafSeq(2)));
    assert_eq!(commit.record.unwrap().last_used.unwrap().seq, LeafSeq(2));
    desk.hello(2);
    assert!(desk.commit.is_none(), "a reconnect costs no write");
}

#[test]
fn two_signers_of_one_request_send_what_the_register_holds() {
    let mut desk = Desk::in_use();
    let epoch = desk.epoch();
    assert_eq!(desk.give(request(epoch, 2)), Answer::Sign);
    assert_eq!(desk.give(request(epoch, 2)), Answer::Sign, "both were asked before either was done");
    let first = desk.give(store(epoch, 2, 2, 0));
    assert_eq!(desk.give(store(epoch, 2, 3, 0)), first, "the slower one's leaf is thrown away");
    assert_eq!(first, Answer::Send(LeafSeq(2)));
    assert_eq!(desk.set(), [1, 2]);
    assert_eq!(desk.hello(3), refused(AdmissionRefusal::Unknown));
}

#[test]
fn what_was_in_flight_when_the_operator_revoked_changes_nothing() {
    let mut desk = Desk::in_use();
    desk.extend(2, 2);
    let old = desk.epoch();
    assert_eq!(desk.give(request(old, 3)), Answer::Sign);
    assert_eq!(desk.give(Input::Revoke), Answer::CloseChannels);
    let revoked = desk.record.clone();
    assert_eq!(desk.give(store(old, 3, 3, 0)), Answer::RefuseRequest(RequestRefusal::StaleChannel));
    let confirm = Input::Confirm { epoch: old, fingerprint: fingerprint(2) };
    assert_eq!(desk.give(confirm), Answer::RefuseConfirm(ConfirmRefusal::StaleChannel));
    for n in 1..=3 {
        assert_eq!(desk.hello(n), refused(AdmissionRefusal::Revoked));
        assert!(desk.record.check_link(desk.now, &policy(), fingerprint(n)).is_err(), "nor over links");
    }
    assert_eq!(desk.give(Input::Readmit { leaf: leaf(1, 0) }), refused(AdmissionRefusal::Revoked));
    assert_eq!(desk.give(Input::SetDisabled(false)), Answer::Done);
    assert_eq!(desk.record, revoked);
}

#[test]
fn what_was_in_flight_when_the_operator_re_enrolled_changes_nothing() {
    let mut desk = Desk::in_use();
    desk.extend(2, 2);
    let old = desk.epoch();
    assert_eq!(desk.give(request(old, 3)), Answer::Sign);
    assert_eq!(desk.give(Input::ReEnroll { token: token(5, 0) }), Answer::CloseChannels);
    let void = desk.record.clone();
    assert_eq!(desk.give(store(old, 3, 3, 0)), Answer::RefuseRequest(RequestRefusal::StaleChannel));
    let confirm = Input::Confirm { epoch: old, fingerprint: fingerprint(2) };
    assert_eq!(desk.give(confirm), Answer::RefuseConfirm(ConfirmRefusal::StaleChannel));
    assert_eq!(desk.hello(1), refused(AdmissionRefusal::NotEnrolled));
    assert_eq!(desk.record, void);
    desk.enroll(5, 4, 4);
    assert_eq!(desk.give(store(old, 3, 3, 0)), Answer::RefuseRequest(RequestRefusal::StaleChannel));
    assert_eq!(desk.set(), [4]);
}

#[test]
fn revoked_and_enrolled_anew_a_router_is_active_again_under_a_third_epoch() {
    let mut desk = Desk::in_use();
    desk.give(Input::Revoke);
    desk.give(Input::ReEnroll { token: token(5, 0) });
    assert_eq!((desk.epoch(), desk.record.standing), (Epoch(3), Standing::Active));
    assert_eq!(desk.enroll(5, 2, 2), Answer::Send(LeafSeq(2)), "positions are never used twice");
    assert!(desk.admits(2));
}

#[test]
fn switched_off_and_on_again_a_router_has_what_it_had() {
    let mut desk = Desk::in_use();
    desk.renew(2);
    let before = desk.record.clone();
    assert_eq!(desk.give(Input::SetDisabled(true)), Answer::CloseChannels);
    assert_eq!(desk.set(), [0; 0]);
    assert_eq!(desk.hello(1), refused(AdmissionRefusal::Disabled));
    assert_eq!(desk.extend(3, 3), Answer::RefuseRequest(RequestRefusal::NotActive));
    assert_eq!(desk.give(Input::SetDisabled(false)), Answer::Done);
    assert_eq!(desk.record, before);
}

#[test]
fn enrolled_anew_while_switched_off_it_stays_off() {
    let mut desk = Desk::in_use();
    desk.give(Input::SetDisabled(true));
    desk.give(Input::ReEnroll { token: token(5, 0) });
    assert_eq!(desk.enroll(5, 2, 2), Answer::Send(LeafSeq(2)));
    assert_eq!(desk.hello(2), refused(AdmissionRefusal::Disabled));
    desk.give(Input::SetDisabled(false));
    assert!(desk.admits(2));
}

#[test]
fn an_issuer_at_its_end_does_not_make_a_loop_of_short_leaves() {
    let mut desk = Desk::in_use();
    let epoch = desk.epoch();
    desk.later(LIFE_S - 8 * DAY_S);
    let until = |days: i64| UnixTime::from_s(LIFE_S - 8 * DAY_S + days * DAY_S);
    let ask = |days| Input::Request { epoch, asked: asked(5), issuer_not_after: until(days) };
    assert_eq!(desk.give(ask(7)), Answer::RefuseRequest(RequestRefusal::IssuerEndsSoon));
    let alarm = desk.commit.clone().unwrap();
    assert_eq!(alarm.audit, Audit::RequestRefused(RequestRefusal::IssuerEndsSoon));
    assert_eq!(desk.give(ask(9)), Answer::Sign, "it lives on a little longer with it");
}

#[test]
fn an_issuer_that_has_ended_signs_nothing_even_for_a_router_whose_leaf_has_ended_too() {
    let mut desk = Desk::in_use();
    desk.later(LIFE_S + DAY_S);
    let ended = Input::Request { epoch: desk.epoch(), asked: asked(2), issuer_not_after: UnixTime::from_s(LIFE_S) };
    assert_eq!(desk.give(ended), Answer::RefuseRequest(RequestRefusal::IssuerEndsSoon));
}

#[test]
fn a_short_leaf_of_an_ending_issuer_is_given_again_while_half_of_it_is_left() {
    let mut desk = Desk::in_use();
    desk.later(LIFE_S - DAY_S);
    let born = desk.now.wall;
    let short = Leaf { not_after: UnixTime::from_s(LIFE_S + 3 * DAY_S), ..leaf(2, born.as_s()) };
    let epoch = desk.epoch();
    let stored = Input::Store { epoch, asked: asked(2), client: short, server: server(2, born.as_s()) };
    assert_eq!(desk.give(stored), Answer::Send(LeafSeq(2)));
    let ask = Input::Request { epoch, asked: asked(2), issuer_not_after: short.not_after };
    assert_eq!(desk.later(DAY_S).give(ask.clone()), Answer::Send(LeafSeq(2)));
    assert_ne!(desk.later(DAY_S + 1).give(ask), Answer::Send(LeafSeq(2)));
}

#[test]
fn a_refused_hello_is_in_the_audit_trail_and_changes_nothing() {
    let mut desk = Desk::in_use();
    let before = desk.record.clone();
    assert_eq!(desk.hello(7), refused(AdmissionRefusal::Unknown));
    let commit = desk.commit.clone().unwrap();
    assert_eq!((commit.record, commit.audit), (None, Audit::Refused(AdmissionRefusal::Unknown)));
    assert_eq!(desk.record, before);
}

#[test]
fn a_leaf_that_was_never_confirmed_can_be_used() {
    let mut desk = Desk::in_use();
    desk.extend(2, 2);
    assert!(desk.admits(2), "its 20303 was lost, and the router dials with what it staged");
    assert_eq!(desk.record.leaf(fingerprint(2)).unwrap().stage, LeafStage::Used);
}

#[test]
fn after_everything_expired_only_enrollment_helps() {
    let mut desk = Desk::in_use();
    desk.renew(2).later(LIFE_S + 1);
    assert_eq!(desk.set(), [0; 0]);
    assert_eq!(desk.hello(1), refused(AdmissionRefusal::Expired));
    assert_eq!(desk.hello(2), refused(AdmissionRefusal::Expired));
    desk.give(Input::ReEnroll { token: token(5, desk.now_s()) });
    desk.enroll(5, 3, 3);
    assert!(desk.admits(3));
}
