//! The known defects of the stock protocol are found, each by its characteristic step.
#![allow(clippy::expect_used, reason = "tests")]

use model::{DEFECTS, Defect, Exploration, Goal, Tale};

fn tale(id: &str) -> Tale {
    let defect: &'static Defect = DEFECTS.iter().find(|defect| defect.id == id).expect("a defect of this name");
    Exploration::new(defect.scope, Goal::Find(defect)).run(1).found.expect("a counterexample")
}

fn says(tale: &Tale, lines: &[&str]) {
    let mut rest = tale.lines.iter();
    for wanted in lines {
        assert!(rest.any(|line| line.contains(wanted)), "`{wanted}` is missing, or too early, in:\n{}", tale.chart);
    }
}

#[test]
fn a1_a_certificate_is_promoted_before_it_is_written() {
    says(&tale("A1"), &["20303 (N+1)", "fingerprint = N+1", "Router: killed", "Router: starts with N"]);
}

#[test]
fn a2_a_lost_verify_answer_makes_the_router_forget_the_only_valid_certificate() {
    let tale = tale("A2");
    says(&tale, &["20303 (N+1)", "fingerprint = N+1", "forgets N+1"]);
    assert!(!tale.chart.contains("killed"));
}

#[test]
fn a4_the_unverified_extension_swaps_before_its_answer_is_lost() {
    let tale = tale("A4");
    says(&tale, &["20302", "20301 (N+1), lost"]);
    assert!(!tale.chart.contains("20303"));
}

#[test]
fn a6_of_two_answers_handled_at_once_the_older_is_written_last() {
    says(&tale("A6"), &["fingerprint = N+1", "fingerprint = N+2", "writes N+2", "writes N+1"]);
}

#[test]
fn a7_an_old_verify_is_promoted_over_a_newer_one() {
    says(&tale("A7a"), &["fingerprint = N+2", "fingerprint = N+1", "writes N+2"]);
}

#[test]
fn a7_a_verify_at_a_lagging_node_is_promoted_over_a_newer_one_and_reported_as_a_failure() {
    says(&tale("A7b"), &["fingerprint = N+2", "fingerprint = N+1, not applied in time", "forgets N+1"]);
}

#[test]
fn a8_a_pending_certificate_is_promoted_after_a_new_enrollment() {
    says(&tale("A8"), &["20303 (N+1)", "enroll anew", "enrolls: N+2", "fingerprint = N+1"]);
}

#[test]
fn b1_a_crash_between_truncation_and_write_leaves_no_certificate() {
    says(&tale("B1"), &["truncates the certificate file", "Router: killed"]);
}

#[test]
fn b2_a_failed_write_is_ignored_and_the_promoted_certificate_is_gone() {
    let tale = tale("B2");
    says(&tale, &["fingerprint = N+1", "cannot open the certificate file", "calls it done"]);
    assert!(!tale.chart.contains("killed"));
}

#[test]
fn c1_a_clock_that_was_ahead_for_a_moment_ends_the_renewal_loop_for_good() {
    says(&tale("C1"), &["its clock is set to day 95", "the certificate loop ends", "its clock is set to day 61"]);
}

#[test]
fn d1_a_transit_router_is_never_verified_and_expires_without_any_fault() {
    let tale = tale("D1");
    says(&tale, &["20303 (N+1)", "20002 error (N+1)", "day 95"]);
    assert!(!tale.chart.contains("lost") && !tale.chart.contains("killed"));
}
