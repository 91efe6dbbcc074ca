//! Every kind of record and every input, as a table that is reviewed like code. `UPDATE_TABLE=1 cargo test -p lifecycle`
//! rewrites it.

use std::fmt::Write as _;
use std::path::Path;

use lifecycle::UnixTime;
use lifecycle::issuance::{Admitted, Answer, Audit, Commit, EnrollmentKind, Epoch, Input};

use crate::world::{
    DAY_S, Desk, HOUR_S, LIFE_S, TOKEN_S, asked, at, claim, enroll, fingerprint, leaf, request, store, store_enrolled,
    token, token_id, voucher,
};

/// Leaf 1 is what the enrollment gave, 2 the next one.
fn states() -> Vec<(&'static str, Desk)> {
    let fresh = Desk::new();
    let mut lapsed_token = fresh.clone();
    lapsed_token.later(TOKEN_S + 1);
    let mut enrolled = fresh.clone();
    enrolled.enroll(1, 1, 1);
    let mut used = Desk::in_use();
    used.later(40 * DAY_S);
    let mut pending = used.clone();
    pending.extend(2, 2);
    let mut confirmed = used.clone();
    confirmed.renew(2);
    let mut overlap = confirmed.clone();
    assert!(overlap.admits(2));
    overlap.later(HOUR_S);
    let mut superseded = overlap.clone();
    superseded.later(1);
    let mut expired = used.clone();
    expired.now = at(LIFE_S + 1);
    let mut disabled = confirmed.clone();
    disabled.give(Input::SetDisabled(true));
    let mut revoked = confirmed.clone();
    revoked.give(Input::Revoke);
    let mut re_enrolled = confirmed.clone();
    re_enrolled.give(Input::ReEnroll { token: token(5, re_enrolled.now_s()) });
    let mut restored = used.clone();
    restored.record.restored_from = Some(UnixTime::from_s(30 * DAY_S));
    let mut vouched = used.clone();
    vouched.give(Input::Vouch { voucher: voucher(7) });
    let mut forked = overlap.clone();
    assert!(forked.admits(1));
    forked.later(DAY_S);
    vec![
        ("Token 1 waits", fresh),
        ("Token 1 has expired", lapsed_token),
        ("Enrolled: 1 pending", enrolled),
        ("1 used", used),
        ("1 used, 2 pending", pending),
        ("1 used, 2 confirmed", confirmed),
        ("2 used, 1 in its last second of overlap", overlap),
        ("2 used, 1 one second past the overlap", superseded),
        ("2 used, 1 came back in its overlap, a day later", forked),
        ("1 used and expired", expired),
        ("Disabled with 1 used, 2 confirmed", disabled),
        ("Revoked", revoked),
        ("Re-enrolled: token 5 waits", re_enrolled),
        ("Restored from day 30 with 1 used; today is day 40", restored),
        ("1 used, 7 vouched for", vouched),
    ]
}

/// Name, the wall clock if it is another one, and the input itself.
fn inputs(desk: &Desk) -> Vec<(&'static str, Option<i64>, Input)> {
    let (epoch, now_s) = (desk.epoch(), desk.now_s());
    let stale = Epoch(epoch.0 - 1);
    let hello = |n| {
        let born_s = desk.record.leaf(fingerprint(n)).map_or(0, |leaf| leaf.client.not_before.as_s());
        Input::hello(leaf(n, born_s))
    };
    let confirm = |epoch, n| Input::Confirm { epoch, fingerprint: fingerprint(n) };
    let ends = |days: i64| UnixTime::from_s(now_s + days * DAY_S);
    let until = |issuer_not_after| Input::Request { epoch, asked: asked(9), issuer_not_after };
    let transit = Input::Enroll { token: token_id(1), kind: EnrollmentKind::Transit, asked: asked(1) };
    vec![
        ("Use(1)", None, hello(1)),
        ("Use(2)", None, hello(2)),
        ("Use(8, unknown, of day 20)", None, Input::hello(leaf(8, 20 * DAY_S))),
        ("Use(8, unknown, of today)", None, Input::hello(leaf(8, now_s))),
        ("Use(1), past its end", Some(LIFE_S + 1), hello(1)),
        ("Use(1), before its start", Some(-1), hello(1)),
        ("Request(keys 1)", None, request(epoch, 1)),
        ("Request(keys 2)", None, request(epoch, 2)),
        ("Request(keys 9)", None, request(epoch, 9)),
        ("Request(keys 9, stale channel)", None, request(stale, 9)),
        ("Request(keys 9, issuer ends in 3 d)", None, until(ends(3))),
        ("Request(keys 9, issuer has ended)", None, until(ends(-1))),
        ("Store(keys 1, leaf 9)", None, store(epoch, 1, 9, now_s)),
        ("Store(keys 2, leaf 9)", None, store(epoch, 2, 9, now_s)),
        ("Store(keys 9, leaf 9)", None, store(epoch, 9, 9, now_s)),
        ("Store(keys 9, leaf 9, stale channel)", None, store(stale, 9, 9, now_s)),
        ("Confirm(1)", None, confirm(epoch, 1)),
        ("Confirm(2)", None, confirm(epoch, 2)),
        ("Confirm(8, unknown)", None, confirm(epoch, 8)),
        ("Confirm(2, stale channel)", None, confirm(stale, 2)),
        ("Enroll(token 1, keys 1)", None, enroll(1, 1)),
        ("Enroll(token 1, keys 9)", None, enroll(1, 9)),
        ("Enroll(token 1, transit)", None, transit),
        ("Enroll(token 5, keys 9)", None, enroll(5, 9)),
        ("StoreEnrolled(token 1, keys 1)", None, store_enrolled(1, 1, 9, now_s)),
        ("StoreEnrolled(token 1, keys 9)", None, store_enrolled(1, 9, 9, now_s)),
        ("StoreEnrolled(token 5, keys 9)", None, store_enrolled(5, 9, 9, now_s)),
        ("ReEnroll(token 6)", None, Input::ReEnroll { token: token(6, now_s) }),
        ("Revoke", None, Input::Revoke),
        ("SetDisabled(true)", None, Input::SetDisabled(true)),
        ("SetDisabled(false)", None, Input::SetDisabled(false)),
        ("Readmit(1)", None, Input::Readmit { leaf: leaf(1, 0) }),
        ("Readmit(2)", None, Input::Readmit { leaf: leaf(2, 40 * DAY_S) }),
        ("Readmit(8, unknown)", None, Input::Readmit { leaf: leaf(8, now_s - 1) }),
        ("DismissFork", None, Input::DismissFork),
        ("Readmit(1), past its end", Some(LIFE_S + 1), Input::Readmit { leaf: leaf(1, 0) }),
        ("Vouch(7)", None, Input::Vouch { voucher: voucher(7) }),
        ("Vouch(8)", None, Input::Vouch { voucher: voucher(8) }),
        ("Claim(1)", None, claim(1, 0)),
        ("Claim(7, unknown)", None, claim(7, now_s - 1)),
        ("Claim(8, unknown)", None, claim(8, now_s - 1)),
        ("Claim(7, unknown), past its end", Some(now_s + LIFE_S + 1), claim(7, now_s)),
    ]
}

fn table() -> String {
    let mut text = String::from(
        "# What the controller's half does with every input on every kind of record:\n\
         # input, answer, what becomes durable first (the record or only an audit line, and which), admitted leaves after it.\n\
         # `#n` is a position. Leaves live 90 days and overlap for an hour. Written by tests/issuance/table.rs, read in review.\n",
    );
    for (state, desk) in states() {
        let day = desk.now_s() / DAY_S;
        writeln!(text, "\n## {state} (day {day}; epoch {}; admitted {:?})", desk.epoch().0, desk.set()).unwrap();
        for (name, clock, input) in inputs(&desk) {
            let mut desk = desk.clone();
            desk.now = clock.map_or(desk.now, at);
            let before = desk.record.clone();
            let answer = answer_word(desk.give(input));
            let commit = desk.commit.as_ref().map(commit_word).unwrap_or_default();
            if desk.commit.is_none() {
                assert_eq!(desk.record, before, "{state}, {name}");
            }
            writeln!(text, "{name:<38}{answer:<28}{commit:<42}{:?}", desk.set()).unwrap();
        }
    }
    text
}

fn answer_word(answer: Answer) -> String {
    match answer {
        Answer::Admit(Admitted { seq, epoch }) => format!("admit #{} for epoch {}", seq.0, epoch.0),
        Answer::RefuseAdmission(why) => format!("refuse: {why:?}"),
        Answer::Sign => String::from("sign"),
        Answer::Send(seq) => format!("send #{}", seq.0),
        Answer::RefuseRequest(why) => format!("refuse: {why:?}"),
        Answer::Confirmed(seq) => format!("confirmed #{}", seq.0),
        Answer::RefuseConfirm(why) => format!("refuse: {why:?}"),
        Answer::RefuseEnrollment(why) => format!("refuse: {why:?}"),
        Answer::CloseChannels => String::from("close channels"),
        Answer::Done => String::from("done"),
    }
}

fn commit_word(commit: &Commit) -> String {
    let what = if commit.record.is_some() { "record" } else { "audit " };
    let audit = match commit.audit {
        Audit::Enrolled(seq) => format!("Enrolled #{}", seq.0),
        Audit::Issued(seq) => format!("Issued #{}", seq.0),
        Audit::Confirmed(seq) => format!("Confirmed #{}", seq.0),
        Audit::FirstUse(seq) => format!("FirstUse #{}", seq.0),
        Audit::ReadmittedAfterRestore(seq) => format!("ReadmittedAfterRestore #{}", seq.0),
        Audit::Readmitted(seq) => format!("Readmitted #{}", seq.0),
        Audit::Vouched(voucher) => format!("Vouched for {}", voucher.0[19]),
        Audit::Refused(why) => format!("Refused {why:?}"),
        Audit::RequestRefused(why) => format!("RequestRefused {why:?}"),
        Audit::ReEnrolled(epoch) => format!("ReEnrolled, epoch {}", epoch.0),
        Audit::Revoked(epoch) => format!("Revoked, epoch {}", epoch.0),
        Audit::Disabled => String::from("Disabled"),
        Audit::Enabled => String::from("Enabled"),
        Audit::Forked(fork) => format!("Forked {:?}, newer #{}", fork.verdict, fork.newer.0),
        Audit::ForkDismissed => String::from("ForkDismissed"),
    };
    format!("{what}  {audit}")
}

#[test]
fn every_record_and_every_input_is_in_the_reviewed_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/issuance_table.txt");
    let table = table();
    if std::env::var_os("UPDATE_TABLE").is_some() {
        std::fs::write(&path, &table).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == table,
        "the table differs; review it after `UPDATE_TABLE=1 cargo test -p lifecycle`:\n{table}"
    );
}
