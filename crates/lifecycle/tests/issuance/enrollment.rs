//! The one-time token and who may use it how often.

use lifecycle::issuance::{AdmissionRefusal, Answer, EnrollmentKind, EnrollmentRefusal, Input, LeafSeq};

use crate::world::{DAY_S, Desk, TOKEN_S, asked, enroll, store_enrolled, token, token_id};

fn refused(refusal: EnrollmentRefusal) -> Answer {
    Answer::RefuseEnrollment(refusal)
}

#[test]
fn the_same_enrollment_is_answered_alike_until_the_first_connect() {
    let mut desk = Desk::new();
    let first = desk.enroll(1, 1, 1);
    assert_eq!(first, Answer::Send(LeafSeq(1)));
    assert_eq!(desk.later(10 * DAY_S).enroll(1, 1, 9), first, "also after the token's own end");
    assert!(desk.admits(1));
    assert_eq!(desk.enroll(1, 1, 9), refused(EnrollmentRefusal::InvalidToken), "spent at the first use of what it got");
    assert_eq!(desk.set(), [1]);
}

#[test]
fn a_used_token_helps_nobody_with_other_keys() {
    let mut desk = Desk::new();
    desk.enroll(1, 1, 1);
    assert_eq!(desk.enroll(1, 9, 9), refused(EnrollmentRefusal::InvalidToken));
    assert!(desk.admits(1), "and the one who came first is not disturbed");
}

#[test]
fn a_token_outlives_no_expiry_unless_it_was_used() {
    let mut desk = Desk::new();
    assert_eq!(desk.later(TOKEN_S).give(enroll(1, 1)), Answer::Sign, "in its last second");
    assert_eq!(desk.later(1).give(enroll(1, 1)), refused(EnrollmentRefusal::Expired));
    assert_eq!(desk.give(store_enrolled(1, 1, 1, 0)), refused(EnrollmentRefusal::Expired), "signing took too long");
    assert!(!desk.record.is_enrolled());
}

#[test]
fn of_two_requests_with_one_token_the_first_to_commit_wins() {
    let mut desk = Desk::new();
    assert_eq!(desk.give(enroll(1, 1)), Answer::Sign);
    assert_eq!(desk.give(enroll(1, 2)), Answer::Sign, "both were asked before either was done");
    assert_eq!(desk.give(store_enrolled(1, 2, 2, 0)), Answer::Send(LeafSeq(1)));
    assert_eq!(desk.give(store_enrolled(1, 1, 1, 0)), refused(EnrollmentRefusal::InvalidToken));
    assert_eq!(desk.set(), [2]);
}

#[test]
fn one_request_signed_twice_is_answered_with_what_the_register_holds() {
    let mut desk = Desk::new();
    let first = desk.give(store_enrolled(1, 1, 1, 0));
    assert_eq!(desk.give(store_enrolled(1, 1, 2, 0)), first);
    assert_eq!(desk.set(), [1]);
}

#[test]
fn a_token_of_the_other_kind_is_refused_and_not_spent() {
    let mut desk = Desk::new();
    let transit = Input::Enroll { token: token_id(1), kind: EnrollmentKind::Transit, asked: asked(1) };
    assert_eq!(desk.give(transit.clone()), refused(EnrollmentRefusal::WrongKind));
    assert_eq!(desk.enroll(1, 1, 1), Answer::Send(LeafSeq(1)));
    assert_eq!(desk.give(transit), refused(EnrollmentRefusal::WrongKind));
}

#[test]
fn enrolling_anew_voids_the_token_that_was_open() {
    let mut desk = Desk::new();
    assert_eq!(desk.give(enroll(1, 1)), Answer::Sign);
    assert_eq!(desk.give(Input::ReEnroll { token: token(5, 0) }), Answer::CloseChannels);
    assert_eq!(desk.give(store_enrolled(1, 1, 1, 0)), refused(EnrollmentRefusal::InvalidToken));
    assert_eq!(desk.enroll(5, 1, 2), Answer::Send(LeafSeq(1)));
}

#[test]
fn revocation_voids_the_token_and_what_it_enrolled() {
    let mut desk = Desk::new();
    desk.enroll(1, 1, 1);
    desk.give(Input::Revoke);
    assert_eq!(desk.enroll(1, 1, 1), refused(EnrollmentRefusal::Revoked));
    assert_eq!(desk.hello(1), Answer::RefuseAdmission(AdmissionRefusal::Revoked));
    desk.give(Input::ReEnroll { token: token(5, 0) });
    assert_eq!(desk.enroll(1, 1, 1), refused(EnrollmentRefusal::InvalidToken));
}

#[test]
fn an_extension_before_the_first_connect_does_not_displace_what_the_enrollment_got() {
    let mut desk = Desk::new();
    let first = desk.enroll(1, 1, 1);
    // Extensions over HTTP prove a leaf without a hello.
    for n in 2..10 {
        assert!(matches!(desk.extend(n, n), Answer::Send(_)));
        assert!(matches!(desk.confirm(n), Answer::Confirmed(_)));
    }
    assert_eq!(desk.enroll(1, 1, 99), first, "still the same answer");
    assert_eq!(desk.set(), [1, 6, 7, 8, 9]);
    assert!(desk.admits(1));
}
