//! The controller's half, told input by input: what is admitted, what each request leaves of it, and who may still ask.

use std::time::Duration;

use lifecycle::issuance::{
    AdmissionRefusal, Answer, Asked, CONFIRMED_MAX, ConfirmRefusal, EnrollmentKind, EnrollmentRefusal, Epoch, Input,
    IssuancePolicy, LeafSeq, NamesDigest, Record, RequestRefusal, Standing, Token, TokenId,
};
use lifecycle::{Durable, Fingerprint, KeyId, Leaf, Now, RouterId, UnixTime, Uptime};

const DAY_S: i64 = 86_400;
const LIFE_S: i64 = 90 * DAY_S;

fn at(s: i64) -> Now {
    Now { wall: UnixTime::from_s(s), uptime: Uptime::from_ms(u64::try_from(s * 1000).unwrap()) }
}

fn policy() -> IssuancePolicy {
    IssuancePolicy::for_leaf_life(Duration::from_secs(LIFE_S.unsigned_abs()))
}

fn leaf(n: u8, born_s: i64) -> Leaf {
    Leaf {
        fingerprint: Fingerprint([n; 32]),
        key: KeyId([1; 32]),
        not_before: UnixTime::from_s(born_s),
        not_after: UnixTime::from_s(born_s + LIFE_S),
    }
}

/// A request with the router's one key, for the names `names`.
fn asked(names: u8) -> Asked {
    Asked { client_key: KeyId([1; 32]), server_key: KeyId([1; 32]), names: NamesDigest([names; 32]) }
}

fn token(n: u8) -> Token {
    Token { id: TokenId([n; 32]), kind: EnrollmentKind::Edge, expires: UnixTime::from_s(10_800), enrolled: None }
}

/// A record and what it answered last; every commit succeeds.
struct Desk {
    record: Record,
    now: Now,
}

impl Desk {
    fn new() -> Self {
        Self { record: Record::new(RouterId::new("r1"), token(1)), now: at(0) }
    }

    /// Enrolled with leaf 1, which was used.
    fn in_use() -> Self {
        let mut desk = Self::new();
        desk.enroll(1, asked(1), leaf(1, 0));
        assert!(desk.admits(1));
        desk
    }

    fn give(&mut self, input: Input) -> Answer {
        let (commit, held) = self.record.step(self.now, &policy(), input).split();
        if let Some(record) = commit.and_then(|commit| commit.record) {
            self.record = record;
        }
        held.release(Durable::after_commit())
    }

    fn later(&mut self, s: i64) -> &mut Self {
        self.now = at(self.now.wall.as_s() + s);
        self
    }

    fn enroll(&mut self, id: u8, asked: Asked, client: Leaf) -> Answer {
        let token = TokenId([id; 32]);
        match self.give(Input::Enroll { token, kind: EnrollmentKind::Edge, asked }) {
            Answer::Sign => self.give(Input::StoreEnrolled { token, asked, client, server: client }),
            answer => answer,
        }
    }

    /// 20302; a signer that is asked makes leaf `n`.
    fn extend(&mut self, n: u8, names: u8) -> Answer {
        let (epoch, asked, client) = (self.record.epoch, asked(names), leaf(n, self.now.wall.as_s()));
        let issuer_not_after = UnixTime::from_s(20 * LIFE_S);
        match self.give(Input::Request { epoch, asked, issuer_not_after }) {
            Answer::Sign => self.give(Input::Store { epoch, asked, client, server: client }),
            answer => answer,
        }
    }

    fn confirm(&mut self, n: u8) -> Answer {
        self.give(Input::Confirm { epoch: self.record.epoch, fingerprint: Fingerprint([n; 32]) })
    }

    fn hello(&mut self, n: u8) -> Answer {
        let born = self.record.leaf(Fingerprint([n; 32])).map_or(0, |leaf| leaf.client.not_before.as_s());
        self.give(Input::Use { leaf: leaf(n, born) })
    }

    fn admits(&mut self, n: u8) -> bool {
        matches!(self.hello(n), Answer::Admit(_))
    }

    fn set(&self) -> Vec<u8> {
        self.record.admitted(self.now, &policy()).map(|leaf| leaf.client.fingerprint.0[0]).collect()
    }
}

#[test]
fn a_router_that_loses_every_answer_keeps_its_old_leaf_and_one_new_one() {
    let mut desk = Desk::in_use();
    desk.later(60 * DAY_S);
    for _ in 0..1000 {
        assert!(matches!(desk.extend(2, 1), Answer::Send(_)));
        assert!(matches!(desk.confirm(2), Answer::Confirmed(_)));
        desk.later(35);
    }
    assert_eq!(desk.set(), [1, 2], "the same keys and names get the same leaf, and nothing was removed");
    assert!(desk.admits(1));
}

#[test]
fn a_leaf_that_was_confirmed_and_never_used_survives_the_next_years_renewal() {
    let mut desk = Desk::in_use();
    desk.later(60 * DAY_S).extend(2, 1);
    desk.confirm(2);
    desk.later(60 * DAY_S).extend(3, 1);
    assert_eq!(desk.set(), [2, 3], "the first one is expired, its file holds the second");
    assert!(desk.admits(2));
}

#[test]
fn the_overlap_runs_from_the_first_use() {
    let mut desk = Desk::in_use();
    desk.later(DAY_S).extend(2, 1);
    desk.confirm(2);
    assert!(desk.later(20 * DAY_S).admits(1), "no time alone ends a leaf that is in use");
    assert!(desk.admits(2));
    assert!(desk.later(3600).admits(1));
    assert_eq!(desk.later(1).hello(1), Answer::RefuseAdmission(AdmissionRefusal::Superseded));
    assert!(desk.admits(2));
}

#[test]
fn a_link_check_is_no_use_of_a_leaf() {
    let mut desk = Desk::in_use();
    desk.extend(2, 1);
    let before = desk.record.clone();
    assert_eq!(desk.record.check_link(desk.now, &policy(), Fingerprint([2; 32])), Ok(()));
    assert_eq!(desk.record, before);
    assert!(desk.later(30 * DAY_S).admits(1));
}

#[test]
fn a_request_is_never_answered_with_a_leaf_that_a_later_one_has_superseded() {
    let mut desk = Desk::in_use();
    desk.later(DAY_S).extend(2, 1);
    desk.confirm(2);
    // Other names, and that one is used; then the first names again.
    desk.later(60).extend(3, 2);
    assert!(desk.admits(3));
    desk.later(7200);
    assert_eq!(desk.hello(2), Answer::RefuseAdmission(AdmissionRefusal::Superseded));
    assert!(matches!(desk.extend(4, 1), Answer::Send(_)));
    assert!(desk.admits(4), "what was sent can be used");
}

#[test]
fn a_readmitted_leaf_that_was_never_used_survives_the_next_request() {
    let mut desk = Desk::in_use();
    desk.later(60).extend(2, 1);
    assert_eq!(desk.give(Input::Readmit { leaf: leaf(2, 60) }), Answer::Done);
    desk.later(7200).extend(3, 2);
    assert!(desk.admits(2), "the operator said that it is the one the router holds");
}

#[test]
fn at_most_four_confirmed_leaves_and_one_pending_wait_beside_the_one_in_use() {
    let mut desk = Desk::in_use();
    for n in 2..12 {
        desk.later(60).extend(n, n);
        assert!(matches!(desk.confirm(n), Answer::Confirmed(_)));
    }
    desk.extend(12, 12);
    desk.extend(13, 13);
    assert_eq!(desk.set().len(), 1 + CONFIRMED_MAX + 1);
    assert_eq!(desk.set(), [1, 8, 9, 10, 11, 13]);
    assert_eq!(desk.confirm(12), Answer::RefuseConfirm(ConfirmRefusal::NotThatLeaf));
}

#[test]
fn a_confirmation_can_be_repeated_before_and_after_the_use() {
    let mut desk = Desk::in_use();
    desk.extend(2, 2);
    for _ in 0..2 {
        assert_eq!(desk.confirm(2), Answer::Confirmed(LeafSeq(2)));
    }
    assert!(desk.admits(2));
    assert_eq!(desk.confirm(2), Answer::Confirmed(LeafSeq(2)));
}

#[test]
fn what_was_in_flight_when_the_operator_revoked_changes_nothing() {
    let mut desk = Desk::in_use();
    desk.extend(2, 2);
    let old = desk.record.epoch;
    assert_eq!(desk.give(Input::Revoke), Answer::CloseChannels);
    let revoked = desk.record.clone();
    let store = Input::Store { epoch: old, asked: asked(3), client: leaf(3, 0), server: leaf(3, 0) };
    assert_eq!(desk.give(store), Answer::RefuseRequest(RequestRefusal::StaleChannel));
    let confirm = Input::Confirm { epoch: old, fingerprint: Fingerprint([2; 32]) };
    assert_eq!(desk.give(confirm), Answer::RefuseConfirm(ConfirmRefusal::StaleChannel));
    for n in 1..=3 {
        assert_eq!(desk.hello(n), Answer::RefuseAdmission(AdmissionRefusal::Revoked));
    }
    let readmit = desk.give(Input::Readmit { leaf: leaf(1, 0) });
    assert_eq!(readmit, Answer::RefuseAdmission(AdmissionRefusal::Revoked));
    assert_eq!(desk.record, revoked);
    assert_eq!(desk.enroll(1, asked(1), leaf(4, 0)), Answer::RefuseEnrollment(EnrollmentRefusal::Revoked));
}

#[test]
fn a_new_enrollment_voids_everything_of_the_old_one() {
    let mut desk = Desk::in_use();
    desk.extend(2, 2);
    let old = desk.record.epoch;
    assert_eq!(desk.give(Input::ReEnroll { token: token(7) }), Answer::CloseChannels);
    assert!(desk.record.epoch > old);
    assert_eq!(desk.record.standing, Standing::Active);
    assert!(!desk.admits(1) && !desk.admits(2));
    let confirm = Input::Confirm { epoch: old, fingerprint: Fingerprint([2; 32]) };
    assert_eq!(desk.give(confirm), Answer::RefuseConfirm(ConfirmRefusal::StaleChannel));
    assert_eq!(desk.enroll(1, asked(1), leaf(3, 0)), Answer::RefuseEnrollment(EnrollmentRefusal::InvalidToken));
    assert_eq!(desk.enroll(7, asked(1), leaf(3, 0)), Answer::Send(LeafSeq(3)), "positions are never used twice");
    assert!(desk.admits(3));
}

#[test]
fn an_enrollment_can_be_repeated_until_its_leaf_was_used_and_by_nobody_else() {
    let mut desk = Desk::new();
    let first = desk.enroll(1, asked(1), leaf(1, 0));
    assert_eq!(first, Answer::Send(LeafSeq(1)));
    desk.later(20_000);
    assert_eq!(desk.enroll(1, asked(1), leaf(9, 0)), first, "also after the token's own end");
    assert_eq!(desk.enroll(1, asked(2), leaf(9, 0)), Answer::RefuseEnrollment(EnrollmentRefusal::InvalidToken));
    // A second signer was as quick: what the register holds is sent.
    let late =
        Input::StoreEnrolled { token: TokenId([1; 32]), asked: asked(1), client: leaf(9, 0), server: leaf(9, 0) };
    assert_eq!(desk.give(late), first);
    assert!(desk.admits(1));
    assert_eq!(desk.enroll(1, asked(1), leaf(9, 0)), Answer::RefuseEnrollment(EnrollmentRefusal::InvalidToken));
}

#[test]
fn two_signers_of_one_request_send_what_the_register_holds() {
    let mut desk = Desk::in_use();
    let epoch = Epoch(1);
    let store = |n| Input::Store { epoch, asked: asked(5), client: leaf(n, 0), server: leaf(n, 0) };
    let first = desk.give(store(2));
    assert_eq!(desk.give(store(3)), first);
    assert_eq!(desk.set(), [1, 2]);
}

#[test]
fn an_issuer_at_its_end_does_not_make_a_loop_of_short_leaves() {
    let mut desk = Desk::in_use();
    let epoch = desk.record.epoch;
    desk.later(LIFE_S - 8 * DAY_S);
    let ends = |days: i64| UnixTime::from_s(LIFE_S - 8 * DAY_S + days * DAY_S);
    let request = |days| Input::Request { epoch, asked: asked(5), issuer_not_after: ends(days) };
    assert_eq!(desk.give(request(7)), Answer::RefuseRequest(RequestRefusal::IssuerEndsSoon));
    assert_eq!(desk.give(request(8 + 1)), Answer::Sign, "it lives on a little longer with it");
}

#[test]
fn a_restored_register_believes_what_was_issued_after_the_copy_and_nothing_older() {
    let mut desk = Desk::in_use();
    desk.record.restored_from = Some(UnixTime::from_s(30 * DAY_S));
    desk.later(40 * DAY_S);
    assert_eq!(
        desk.give(Input::Use { leaf: leaf(8, 29 * DAY_S) }),
        Answer::RefuseAdmission(AdmissionRefusal::Unknown),
        "issued before the copy, so the copy would know it"
    );
    assert!(matches!(desk.give(Input::Use { leaf: leaf(9, 35 * DAY_S) }), Answer::Admit(_)));
    assert_eq!(desk.set(), [1, 9]);
    assert_eq!(desk.give(Input::Revoke), Answer::CloseChannels);
    let again = desk.give(Input::Use { leaf: leaf(9, 35 * DAY_S) });
    assert_eq!(again, Answer::RefuseAdmission(AdmissionRefusal::Revoked));
}

#[test]
fn switched_off_and_on_again_a_router_has_what_it_had() {
    let mut desk = Desk::in_use();
    desk.extend(2, 2);
    desk.confirm(2);
    assert_eq!(desk.give(Input::SetDisabled(true)), Answer::CloseChannels);
    assert_eq!(desk.hello(1), Answer::RefuseAdmission(AdmissionRefusal::Disabled));
    assert_eq!(desk.extend(3, 3), Answer::RefuseRequest(RequestRefusal::NotActive));
    desk.give(Input::SetDisabled(false));
    assert_eq!(desk.set(), [1, 2]);
}
