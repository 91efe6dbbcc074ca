//! A register that came back from a copy, and an operator who vouches for a leaf.

use lifecycle::issuance::{AdmissionRefusal, Answer, Audit, ConfirmRefusal, Input, LeafSeq, Record};
use lifecycle::{RouterId, UnixTime};

use crate::world::{
    DAY_S, Desk, HOUR_S, LIFE_S, claim, fingerprint, leaf, policy, store, store_enrolled, token, voucher,
};

fn refused(refusal: AdmissionRefusal) -> Answer {
    Answer::RefuseAdmission(refusal)
}

fn hello(n: u64, born_s: i64) -> Input {
    Input::hello(leaf(n, born_s))
}

/// Copied on day 30 with leaf 1 in use; today is day 40.
fn restored() -> Desk {
    let mut desk = Desk::in_use();
    desk.record.restored_from = Some(UnixTime::from_s(30 * DAY_S));
    desk.later(40 * DAY_S);
    desk
}

#[test]
fn a_restored_register_believes_what_was_issued_after_the_copy_and_nothing_older() {
    let mut desk = restored();
    assert_eq!(desk.give(hello(8, 29 * DAY_S)), refused(AdmissionRefusal::Unknown), "the copy would know it");
    assert!(matches!(desk.give(hello(9, 35 * DAY_S)), Answer::Admit(_)));
    assert_eq!(desk.commit.clone().unwrap().audit, Audit::ReadmittedAfterRestore(LeafSeq(2)));
    assert_eq!(desk.set(), [1, 9]);
    assert_eq!(desk.later(HOUR_S + 1).set(), [9], "it counts as any other use");
}

#[test]
fn a_restored_register_still_judges_dates() {
    let mut desk = restored();
    assert_eq!(desk.give(hello(8, 41 * DAY_S)), refused(AdmissionRefusal::NotYetValid));
    desk.later(LIFE_S);
    assert_eq!(desk.give(hello(9, 35 * DAY_S)), refused(AdmissionRefusal::Expired));
}

#[test]
fn a_router_that_has_not_renewed_since_the_copy_goes_on_as_if_nothing_had_happened() {
    let mut desk = restored();
    assert!(desk.admits(1));
    assert!(desk.commit.is_none());
    desk.renew(2);
    assert!(desk.admits(2));
}

#[test]
fn what_a_router_renewed_since_the_copy_and_used_last_is_not_displaced_by_what_it_had_before() {
    let mut desk = restored();
    assert!(matches!(desk.give(hello(9, 38 * DAY_S)), Answer::Admit(_)));
    desk.later(2 * HOUR_S);
    // Issued after the copy too, so it could be proved, but the router has gone on since.
    assert_eq!(desk.give(hello(8, 35 * DAY_S)), refused(AdmissionRefusal::Superseded));
    assert_eq!(desk.later(2 * HOUR_S).set(), [9]);
}

#[test]
fn after_a_restore_the_newest_of_several_is_found_whatever_comes_first() {
    let mut desk = restored();
    for (n, born_s) in [(8, 33 * DAY_S), (9, 36 * DAY_S)] {
        assert!(matches!(desk.give(hello(n, born_s)), Answer::Admit(_)));
    }
    assert_eq!(desk.later(HOUR_S + 1).set(), [9]);
}

#[test]
fn a_leaf_that_was_signed_before_the_copy_and_stored_after_it_is_believed() {
    // Dated back by a minute, signed a moment before the copy was taken, stored as late as it may be.
    let taken_s = 30 * DAY_S;
    let (signed_s, stored_s) = (taken_s - 1, taken_s + 14);
    let born_s = signed_s - 60;
    let mut live = Desk::in_use();
    live.later(stored_s);
    assert_eq!(live.give(store(live.epoch(), 9, 9, born_s)), Answer::Send(LeafSeq(2)));
    let mut desk = Desk::in_use();
    desk.record.restored_from = Some(UnixTime::from_s(taken_s));
    desk.later(stored_s + 60);
    assert!(matches!(desk.give(hello(9, born_s)), Answer::Admit(_)));
}

#[test]
fn what_was_signed_long_ago_is_signed_anew_and_not_stored() {
    let mut desk = Desk::in_use();
    desk.later(DAY_S);
    let (epoch, now_s) = (desk.epoch(), desk.now_s());
    assert_eq!(
        desk.give(store(epoch, 9, 9, now_s - 60 - 17)),
        Answer::Sign,
        "a copy taken meanwhile would not believe it"
    );
    assert!(desk.commit.is_none());
    assert_eq!(desk.give(store(epoch, 9, 9, now_s - 60 - 15)), Answer::Send(LeafSeq(2)));
    desk.give(Input::ReEnroll { token: token(5, now_s) });
    assert_eq!(desk.give(store_enrolled(5, 4, 4, now_s - 60 - 17)), Answer::Sign);
    assert_eq!(desk.give(store_enrolled(5, 4, 4, now_s)), Answer::Send(LeafSeq(3)));
}

#[test]
fn a_restored_register_believes_nothing_that_was_withdrawn_right_before_the_copy() {
    let mut desk = Desk::in_use();
    desk.later(30 * DAY_S);
    let stolen = leaf(9, desk.now_s());
    desk.later(20).give(Input::ReEnroll { token: token(5, 30 * DAY_S) });
    desk.enroll(5, 4, 4);
    assert!(desk.admits(4));
    desk.record.restored_from = Some(desk.later(20).now.wall);
    // Dated back, it could be from after the copy; but it is older than the enrollment that the copy knows.
    let dated_back =
        lifecycle::Leaf { not_before: stolen.not_before.minus(core::time::Duration::from_secs(60)), ..stolen };
    assert!(matches!(desk.give(Input::hello(dated_back)), Answer::RefuseAdmission(_)));
}

#[test]
fn nothing_is_provable_after_revocation_or_a_new_enrollment() {
    for end in [Input::Revoke, Input::ReEnroll { token: token(5, 40 * DAY_S) }] {
        let mut desk = restored();
        desk.give(end);
        assert!(matches!(desk.give(hello(9, 35 * DAY_S)), Answer::RefuseAdmission(_)));
        assert_eq!(desk.set(), [0; 0]);
    }
}

#[test]
fn a_link_check_proves_nothing_to_a_restored_register() {
    let desk = restored();
    let link = desk.record.check_link(desk.now, &policy(), fingerprint(9));
    assert_eq!(link, Err(AdmissionRefusal::Unknown), "a peer's word is no handshake");
}

#[test]
fn an_operator_can_bring_back_a_leaf_that_was_superseded() {
    let mut desk = Desk::in_use();
    desk.later(DAY_S).renew(2);
    assert!(desk.admits(2));
    desk.later(DAY_S);
    assert_eq!(desk.hello(1), refused(AdmissionRefusal::Superseded));
    desk.give(Input::Readmit { leaf: leaf(1, 0) });
    assert!(desk.admits(1));
    assert_eq!(desk.set(), [1], "the other one is withdrawn");
    assert_eq!(desk.hello(2), refused(AdmissionRefusal::Unknown));
}

#[test]
fn an_operator_can_bring_back_a_leaf_that_the_register_forgot() {
    let mut desk = Desk::in_use();
    desk.later(DAY_S);
    desk.give(Input::Readmit { leaf: leaf(7, 0) });
    assert!(desk.admits(7));
    assert_eq!(desk.later(HOUR_S + 1).set(), [7]);
}

#[test]
fn a_readmitted_leaf_that_was_never_used_survives_the_next_request() {
    let mut desk = Desk::in_use();
    desk.extend(2, 2);
    desk.give(Input::Readmit { leaf: leaf(2, 0) });
    desk.later(2 * HOUR_S).extend(3, 3);
    assert!(desk.admits(2), "the operator said that it is the one the router holds");
}

#[test]
fn an_operator_cannot_lock_a_router_out_by_vouching_for_an_expired_leaf() {
    let mut desk = Desk::in_use();
    desk.later(60 * DAY_S).renew(2);
    assert!(desk.admits(2));
    desk.later(30 * DAY_S + 1);
    for expired in [leaf(1, 0), leaf(7, -DAY_S)] {
        assert_eq!(desk.give(Input::Readmit { leaf: expired }), refused(AdmissionRefusal::Expired));
        assert!(desk.commit.is_none());
    }
    assert_eq!(desk.later(DAY_S).set(), [2]);
}

#[test]
fn what_an_operator_withdrew_cannot_prove_itself_after_a_restore() {
    let mut desk = restored();
    assert!(matches!(desk.give(hello(9, 35 * DAY_S)), Answer::Admit(_)));
    desk.give(Input::Readmit { leaf: leaf(1, 0) });
    assert_eq!(desk.give(hello(9, 35 * DAY_S)), refused(AdmissionRefusal::Unknown), "the operator has spoken since");
    assert!(desk.admits(1));
}

#[test]
fn readmission_brings_back_one_leaf_and_none_of_its_predecessors() {
    let mut desk = Desk::in_use();
    for n in 2..=3 {
        desk.later(DAY_S).renew(n);
        assert!(desk.admits(n));
    }
    desk.later(DAY_S);
    desk.give(Input::Readmit { leaf: leaf(2, DAY_S) });
    assert_eq!(desk.set(), [2]);
}

#[test]
fn a_confirmation_of_what_was_withdrawn_is_refused() {
    let mut desk = Desk::in_use();
    desk.extend(2, 2);
    desk.give(Input::Readmit { leaf: leaf(1, 0) });
    assert_eq!(desk.confirm(2), Answer::RefuseConfirm(ConfirmRefusal::NothingPending));
}

#[test]
fn a_leaf_that_waited_when_another_was_adopted_has_its_overlap_too() {
    let mut desk = restored();
    desk.extend(2, 2);
    desk.give(hello(9, 40 * DAY_S));
    desk.extend(3, 3);
    assert_eq!(desk.set(), [1, 2, 9, 3], "a request removes nothing that came before the leaf last used");
}

#[test]
fn a_leaf_that_an_operator_names_is_admitted_once_and_displaces_nothing_before_it_is_presented() {
    let mut desk = Desk::in_use();
    desk.later(DAY_S);
    assert_eq!(desk.give(hello(7, 0)), refused(AdmissionRefusal::Unknown));
    assert_eq!(desk.give(Input::Vouch { voucher: voucher(7) }), Answer::Done);
    assert_eq!(desk.commit.clone().unwrap().audit, Audit::Vouched(voucher(7)));
    assert_eq!(desk.set(), [1], "what the router has goes on");
    assert_eq!(desk.give(claim(8, 0)), refused(AdmissionRefusal::Unknown), "another leaf is not meant");
    assert!(matches!(desk.give(claim(7, 0)), Answer::Admit(_)));
    assert_eq!(desk.commit.clone().unwrap().audit, Audit::Readmitted(LeafSeq(2)));
    assert_eq!(desk.set(), [1, 7]);
    assert_eq!(desk.later(HOUR_S + 1).set(), [7], "it counts as any other use");
    desk.renew(9);
    assert!(desk.admits(9));
    desk.later(100 * LIFE_S);
    assert!(desk.record.voucher.is_none());
}

#[test]
fn a_voucher_that_was_overtaken_by_a_renewal_brings_no_older_leaf_back() {
    let mut desk = Desk::in_use();
    desk.give(Input::Vouch { voucher: voucher(7) });
    desk.later(DAY_S).renew(2);
    assert!(desk.admits(2));
    assert_eq!(desk.give(claim(7, 0)), refused(AdmissionRefusal::Unknown));
}

#[test]
fn a_voucher_is_void_after_revocation_and_a_new_enrollment_and_admits_nothing_out_of_its_dates() {
    for end in [Input::Revoke, Input::ReEnroll { token: token(5, 0) }] {
        let mut desk = Desk::in_use();
        desk.give(Input::Vouch { voucher: voucher(7) });
        desk.give(end);
        assert!(matches!(desk.give(claim(7, 0)), Answer::RefuseAdmission(_)));
    }
    let mut desk = Desk::in_use();
    desk.give(Input::Vouch { voucher: voucher(7) });
    desk.give(Input::SetDisabled(true));
    assert_eq!(desk.give(claim(7, 0)), refused(AdmissionRefusal::Disabled));
    desk.give(Input::SetDisabled(false));
    desk.later(LIFE_S + 1);
    assert_eq!(desk.give(claim(7, 0)), refused(AdmissionRefusal::Unknown));
    desk.give(Input::Revoke);
    assert_eq!(desk.give(Input::Vouch { voucher: voucher(7) }), refused(AdmissionRefusal::Revoked));
}

#[test]
fn a_router_without_a_token_is_admitted_with_the_leaf_that_its_operator_named() {
    let record = Record::without_token(RouterId::new("r1"), Some(voucher(7)));
    let mut desk = Desk { record, ..Desk::new() };
    assert_eq!(desk.give(hello(7, 0)), refused(AdmissionRefusal::NotEnrolled));
    assert!(matches!(desk.give(claim(7, 0)), Answer::Admit(_)));
    desk.renew(8);
    assert!(desk.admits(8));
}
