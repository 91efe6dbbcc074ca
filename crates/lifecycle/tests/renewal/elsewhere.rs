//! What goes wrong in other routers, told to this one.

use std::time::Duration;

use lifecycle::GenerationNumber;
use lifecycle::policy::Policy;
use lifecycle::renewal::{Cause, Effect, Input, PhaseName, ProofOutcome, VerifyAnswer};

use crate::world::{Bench, LIFE_S, controller, issued, number, proved};

/// A cluster answers with an error and commits all the same (docs/proof/upstream-defects.md, A3).
#[test]
fn an_error_in_answer_to_a_verify_is_decided_by_a_handshake() {
    let mut bench = Bench::in_phase(PhaseName::Proving);
    bench.give(Input::VerifyAnswered { controller: controller(), number: number(2), answer: VerifyAnswer::Error });
    while !bench.effects.contains(&Effect::Prove { controller: controller(), generation: number(2) }) {
        assert_eq!(bench.phase(), PhaseName::Proving, "an error is no reason to give the leaf up");
        bench.sleep(Duration::from_secs(60));
    }
    bench.give(proved(2, ProofOutcome::Admitted));
    assert_eq!(bench.phase(), PhaseName::Promoted);
    assert_eq!(bench.machine.phase().live(), number(2));
}

/// Certificates that come unasked are verified and written elsewhere (B12).
#[test]
fn an_answer_that_nobody_asked_for_changes_nothing() {
    for phase in [PhaseName::Steady, PhaseName::Promoted] {
        for unasked in [1, 2, 3, 9] {
            let mut bench = Bench::in_phase(phase);
            let before = (bench.machine.manifest().clone(), bench.machine.phase().live());
            bench.give(Input::Issued { number: number(unasked), issued: issued(unasked, LIFE_S / 2) });
            assert_eq!(bench.barrier, None, "nothing is written for {unasked} in {phase}");
            assert_eq!((bench.machine.manifest().clone(), bench.machine.phase().live()), before);
            let is_heard =
                |effect: &Effect| matches!(effect, Effect::Verify { .. } | Effect::Publish(_) | Effect::Prove { .. });
            assert!(!bench.effects.iter().any(is_heard), "{unasked} in {phase}: {:?}", bench.effects);
        }
    }
}

/// The flag `--extend` is forgotten elsewhere by the first attempt that fails (C5).
#[test]
fn a_start_flag_whose_request_is_lost_is_repeated_until_it_is_answered() {
    let mut bench = Bench::in_phase(PhaseName::Steady);
    bench.later(Duration::from_secs(86_400)).tick();
    bench.give(Input::RenewAsked(Cause::StartFlag));
    let mut asked: Vec<GenerationNumber> = Vec::new();
    for _ in 0..200 {
        asked.extend(bench.effects.iter().filter_map(|effect| match effect {
            Effect::Request { number, .. } => Some(*number),
            _ => None,
        }));
        if asked.len() == 5 {
            break;
        }
        bench.sleep(Duration::from_secs(60));
    }
    assert_eq!(
        asked,
        [number(2); 5],
        "the same attempt, with the same keys, although its leaf is months from being due"
    );
    bench.give(Input::Issued { number: number(2), issued: issued(2, 86_400) });
    assert_eq!(bench.phase(), PhaseName::Proving);
}

/// Every 35 seconds for a week, a whole fleet in step (C6).
#[test]
fn waits_grow_to_a_bound_and_routers_do_not_wait_alike() {
    let policy = Policy::default();
    let year = Duration::from_secs(365 * 86_400);
    for life in [Duration::from_secs(20), Duration::from_secs(86_400), year] {
        let most = policy.backoff_max.min(life / 20);
        for salt in 0..200 {
            for failures in 1..100 {
                let wait = policy.backoff(failures, salt, life);
                assert!(!wait.is_zero() && wait <= most, "{wait:?} after {failures} failures of a life of {life:?}");
            }
        }
    }
    let mean = |failures| (0..200).map(|salt| policy.backoff(failures, salt, year)).sum::<Duration>() / 200;
    assert!(mean(1) < mean(4) && mean(4) < mean(8) && mean(8) < mean(12), "it grows");
    let mut waits: Vec<Duration> = (0..200).map(|salt| policy.backoff(12, salt, year)).collect();
    waits.sort_unstable();
    let (first, last) = (waits[0], waits[199]);
    assert!(last - first > policy.backoff_max / 2, "two hundred routers wait {first:?} to {last:?}");
    waits.dedup();
    assert!(waits.len() > 190, "only {} different waits", waits.len());
}
