//! An older leaf that comes back: a crash, a copied disk, or a thief.

use std::net::IpAddr;

use lifecycle::issuance::{
    AdmissionRefusal, Answer, Audit, FROZEN_MAX, Fork, ForkVerdict, Input, LeafSeq, Opening, RequestRefusal,
};

use crate::world::{DAY_S, Desk, HOUR_S, LIFE_S, fingerprint, leaf};

fn at(last: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, last])
}

/// A hello of leaf `n` that opens a channel of its own from `from`; `beside` is what another open channel of the router shows.
fn channel(desk: &Desk, n: u64, from: u8, beside: Option<(u64, u8)>) -> Input {
    let beside = beside.map(|(n, from)| (fingerprint(n), at(from)));
    opening(desk, n, Opening::Channel { from: Some(at(from)), beside })
}

fn opening(desk: &Desk, n: u64, opens: Opening) -> Input {
    let born_s = desk.record.leaf(fingerprint(n)).map_or(0, |leaf| leaf.client.not_before.as_s());
    Input::Use { leaf: leaf(n, born_s), opens }
}

/// Leaf 2 was first used a moment ago from address 2; the overlap of leaf 1 runs.
fn renewed() -> Desk {
    let mut desk = Desk::in_use();
    desk.later(DAY_S).renew(2);
    let hello = channel(&desk, 2, 2, None);
    assert!(matches!(desk.give(hello), Answer::Admit(_)));
    desk.later(60);
    desk
}

fn comes_back(desk: &mut Desk, n: u64, from: u8) -> Answer {
    let hello = channel(desk, n, from, None);
    desk.give(hello)
}

#[test]
fn a_thief_that_renews_does_not_evict_the_owner_and_the_alarm_names_both_addresses() {
    // The thief holds the key of leaf 1, asks for a leaf of its own with it, and uses that one.
    let mut desk = renewed();
    // The owner, at address 1, opens its next channel with leaf 1 as it always did.
    assert!(matches!(comes_back(&mut desk, 1, 1), Answer::Admit(_)));
    let fork = Fork {
        older: fingerprint(1),
        newer: LeafSeq(2),
        older_from: Some(at(1)),
        newer_from: Some(at(2)),
        at: desk.now.wall,
        verdict: ForkVerdict::Frozen,
    };
    assert_eq!(desk.commit.clone().unwrap().audit, Audit::Forked(fork));
    assert_eq!(desk.record.fork, Some(fork));
    // Without the alarm the overlap would have ended an hour after the first use.
    desk.later(2 * HOUR_S);
    assert_eq!(desk.set(), [1, 2], "nothing is retired before its own expiry");
    // However often the thief renews.
    for n in 3..=4 {
        desk.later(DAY_S).renew(n);
        assert!(matches!(comes_back(&mut desk, n, 2), Answer::Admit(_)));
    }
    assert!(desk.later(DAY_S).set().starts_with(&[1, 2]));
    assert!(matches!(comes_back(&mut desk, 1, 1), Answer::Admit(_)), "the owner is as admitted as before");
    // Only its own end retires it.
    desk.later(LIFE_S);
    assert_eq!(comes_back(&mut desk, 1, 1), Answer::RefuseAdmission(AdmissionRefusal::Expired));
}

#[test]
fn a_second_alarm_brings_nothing_back_that_was_superseded() {
    let mut desk = renewed();
    comes_back(&mut desk, 1, 1);
    for n in 3..=4 {
        desk.later(DAY_S).renew(n);
        assert!(matches!(comes_back(&mut desk, n, 2), Answer::Admit(_)));
    }
    desk.later(2 * HOUR_S);
    assert_eq!(desk.set(), [1, 2, 4], "the overlap of leaf 3 is over");
    assert!(matches!(comes_back(&mut desk, 1, 1), Answer::Admit(_)));
    assert_eq!(desk.record.fork.map(|fork| fork.newer), Some(LeafSeq(4)));
    assert_eq!(desk.set(), [1, 2, 4]);
    assert_eq!(comes_back(&mut desk, 3, 2), Answer::RefuseAdmission(AdmissionRefusal::Unknown));
}

#[test]
fn the_address_of_the_newer_leaf_is_where_it_is_connected_now() {
    let mut desk = renewed();
    let hello = channel(&desk, 1, 1, Some((2, 9)));
    desk.give(hello);
    assert_eq!(desk.record.fork.unwrap().newer_from, Some(at(9)));
    // The other channel shows the older leaf too: then it says nothing of the newer one.
    let mut desk = renewed();
    let hello = channel(&desk, 1, 1, Some((1, 9)));
    desk.give(hello);
    assert_eq!(desk.record.fork.unwrap().newer_from, Some(at(2)));
}

#[test]
fn further_underlays_of_one_group_are_never_a_fork() {
    let mut desk = renewed();
    let underlay = opening(&desk, 1, Opening::Underlay { from: Some(at(1)) });
    assert!(matches!(desk.give(underlay), Answer::Admit(_)));
    assert!(desk.commit.is_none());
    assert_eq!(desk.record.fork, None);
    // Nor is a proof: the new leaf beside the old one on the same channel.
    let mut desk = Desk::in_use();
    desk.later(DAY_S).renew(2);
    let proof = opening(&desk, 2, Opening::Underlay { from: Some(at(1)) });
    assert!(matches!(desk.give(proof), Answer::Admit(_)));
    assert_eq!(desk.record.fork, None);
    desk.later(2 * HOUR_S);
    assert_eq!(desk.set(), [2], "an ordinary renewal ends as it always did");
}

#[test]
fn the_newer_leaf_and_the_one_in_use_raise_no_alarm() {
    let mut desk = renewed();
    assert!(matches!(comes_back(&mut desk, 2, 3), Answer::Admit(_)), "the router has moved");
    desk.renew(3);
    assert!(matches!(comes_back(&mut desk, 3, 4), Answer::Admit(_)));
    assert_eq!(desk.record.fork, None);
}

#[test]
fn whoever_knocks_again_costs_no_commit_and_a_later_renewal_is_kept_too() {
    let mut desk = renewed();
    comes_back(&mut desk, 1, 1);
    for _ in 0..3 {
        assert!(matches!(comes_back(&mut desk, 1, 1), Answer::Admit(_)));
        assert!(desk.commit.is_none());
    }
    desk.renew(3);
    assert!(matches!(comes_back(&mut desk, 3, 2), Answer::Admit(_)));
    comes_back(&mut desk, 2, 1);
    assert_eq!(desk.record.fork.unwrap().newer, LeafSeq(3), "and the alarm tells of it");
    assert_eq!(desk.later(2 * HOUR_S).set(), [1, 2, 3]);
}

#[test]
fn a_leaf_that_is_out_already_is_refused_with_the_same_alarm_and_nothing_is_kept() {
    let mut desk = renewed();
    desk.later(2 * HOUR_S);
    let refused = Answer::RefuseAdmission(AdmissionRefusal::Superseded);
    assert_eq!(comes_back(&mut desk, 1, 1), refused);
    let fork = desk.record.fork.unwrap();
    assert_eq!((fork.verdict, fork.older_from, fork.newer_from), (ForkVerdict::Refused, Some(at(1)), Some(at(2))));
    assert_eq!(desk.set(), [2]);
    assert_eq!(comes_back(&mut desk, 1, 1), refused, "it stays out");
    assert!(desk.commit.clone().unwrap().record.is_none(), "and is told once");
    // Forgotten since, it is known by its dates.
    desk.give(Input::DismissFork);
    desk.later(DAY_S).renew(3);
    assert!(desk.admits(3));
    assert_eq!(comes_back(&mut desk, 1, 1), Answer::RefuseAdmission(AdmissionRefusal::Unknown));
    assert_eq!(desk.record.fork.map(|fork| fork.verdict), Some(ForkVerdict::Refused));
}

#[test]
fn what_an_operator_withdrew_raises_no_alarm_when_it_knocks() {
    let mut desk = renewed();
    desk.give(Input::Readmit { leaf: leaf(1, 0) });
    let withdrawn = Input::Use { leaf: leaf(2, DAY_S), opens: Opening::Channel { from: Some(at(2)), beside: None } };
    assert_eq!(desk.give(withdrawn), Answer::RefuseAdmission(AdmissionRefusal::Unknown));
    assert_eq!(desk.record.fork, None, "a router that tries its candidates in turn is no second holder");
}

#[test]
fn the_operator_says_which_leaf_lives() {
    for chosen in [1, 2] {
        let mut desk = renewed();
        comes_back(&mut desk, 1, 1);
        let born_s = desk.record.leaf(fingerprint(chosen)).unwrap().client.not_before.as_s();
        assert_eq!(desk.give(Input::Readmit { leaf: leaf(chosen, born_s) }), Answer::CloseChannels);
        assert_eq!(desk.record.fork, None);
        assert_eq!(desk.set(), [chosen], "the other holder is out at once");
    }
}

#[test]
fn an_operator_who_calls_it_a_crash_lets_the_old_leaf_go() {
    let mut desk = renewed();
    comes_back(&mut desk, 1, 1);
    desk.later(2 * HOUR_S);
    assert_eq!(desk.give(Input::DismissFork), Answer::Done);
    assert_eq!(desk.commit.clone().unwrap().audit, Audit::ForkDismissed);
    assert_eq!(desk.set(), [2]);
    assert_eq!(desk.give(Input::DismissFork), Answer::Done);
    assert!(desk.commit.is_none());
}

#[test]
fn the_alarm_ends_with_the_last_of_the_older_leaves() {
    let mut desk = renewed();
    comes_back(&mut desk, 1, 1);
    desk.later(60 * DAY_S).renew(3);
    assert!(desk.admits(3));
    assert!(desk.record.fork.is_some());
    // Leaf 1 has ended, and the next use takes note of it.
    desk.later(30 * DAY_S).renew(4);
    assert!(desk.admits(4));
    assert_eq!(desk.record.fork, None);
}

#[test]
fn a_thief_cannot_push_the_owner_out_by_renewing_again_and_again() {
    let mut desk = renewed();
    comes_back(&mut desk, 1, 1);
    let mut refused = false;
    for n in 3..100 {
        match desk.later(HOUR_S / 4).extend(n, n) {
            Answer::RefuseRequest(RequestRefusal::Forked) => refused = true,
            Answer::Send(_) => {
                assert!(matches!(comes_back(&mut desk, n, 2), Answer::Admit(_)));
                // The owner reconnects meanwhile.
                assert!(matches!(comes_back(&mut desk, 1, 1), Answer::Admit(_)), "after leaf {n}");
            }
            answer => panic!("{answer:?}"),
        }
    }
    assert!(refused, "at some point nothing more is issued until the operator has decided");
    assert!(desk.record.leaves.len() <= FROZEN_MAX + 2);
    assert!(matches!(comes_back(&mut desk, 1, 1), Answer::Admit(_)));
}

#[test]
fn revocation_and_a_new_enrollment_end_the_alarm() {
    for end in [Input::Revoke, Input::ReEnroll { token: crate::world::token(5, DAY_S) }] {
        let mut desk = renewed();
        comes_back(&mut desk, 1, 1);
        desk.give(end);
        assert_eq!(desk.record.fork, None);
        assert_eq!(desk.set(), [0; 0]);
    }
}
