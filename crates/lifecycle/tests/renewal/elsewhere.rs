//! What goes wrong in other routers, told to this one.

use std::time::Duration;

use lifecycle::policy::Policy;
use lifecycle::renewal::{Cause, Effect, Input, PhaseName, ProofOutcome, VerifyAnswer};
use lifecycle::{GenerationNumber, UnixTime};

use crate::world::{Bench, LIFE_S, admitted, at, candidate, controller, found, issued, number, proved};

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

/// Answers every try of a proof with an error and a refusal until the attempt is over; says when that was.
fn denied_until_steady(bench: &mut Bench) -> Duration {
    let began = bench.now.uptime;
    while bench.phase() == PhaseName::Proving {
        let proves = bench.effects.iter().any(|effect| matches!(effect, Effect::Prove { .. }));
        let verifies = bench.effects.iter().any(|effect| matches!(effect, Effect::Verify { .. }));
        if proves {
            bench.give(proved(2, ProofOutcome::Refused));
        } else if verifies {
            let answer = VerifyAnswer::Error;
            bench.give(Input::VerifyAnswered { controller: controller(), number: number(2), answer });
        } else {
            bench.sleep(Duration::from_secs(60));
        }
        assert!(bench.now.uptime.since(began) < Duration::from_secs(1000), "the window ends");
    }
    bench.now.uptime.since(began)
}

/// A stock controller signs a doubled 20302 twice, and the first answer is worth nothing.
#[test]
fn a_leaf_that_was_replaced_is_given_up_as_soon_as_another_attempt_may_begin() {
    // Short leaves: attempts may begin every three minutes, and the window for one leaf is ten.
    let mut found = found(vec![candidate(1, 0, true)]);
    let first = &mut found.manifest.candidates[0];
    (first.client.not_after, first.server.not_after) = (UnixTime::from_s(3600), UnixTime::from_s(3600));
    let mut bench = Bench::new(at(1), found);
    bench.tick().dialed(1, admitted());
    bench.give(Input::RenewAsked(Cause::Operator)).tick();
    let mut short = issued(2, 1);
    (short.client.not_after, short.server.not_after) = (UnixTime::from_s(3601), UnixTime::from_s(3601));
    bench.give(Input::Issued { number: number(2), issued: short });
    let took = denied_until_steady(&mut bench);
    assert!(took < Duration::from_secs(300), "{took:?}");
    assert_eq!(bench.machine.manifest().candidates.len(), 2, "it stays a candidate all the same");
    while bench.phase() != PhaseName::Prepared {
        bench.give(Input::RenewAsked(Cause::Due)).sleep(Duration::from_secs(10));
        assert!(bench.now.uptime.as_ms() < 700_000, "a new attempt begins");
    }
}

/// A controller whose group cannot be joined, for whatever reason, while its channel lives.
#[test]
fn a_router_whose_further_underlays_are_all_refused_renews_over_the_channel_that_it_has() {
    let mut bench = Bench::in_phase(PhaseName::Steady);
    bench.give(Input::RenewAsked(Cause::Operator));
    let mut refused = 0;
    let channel_is_used = loop {
        bench.sleep(Duration::from_secs(60));
        match bench.effects.first() {
            Some(Effect::Request { present: Some(_), .. }) => {
                refused += 1;
                bench.give(proved(1, ProofOutcome::Refused));
            }
            Some(Effect::Request { present: None, .. }) => break true,
            _ => {}
        }
        assert!(refused < 10, "it would never ask");
    };
    assert!(channel_is_used);
    bench.give(Input::Issued { number: number(2), issued: issued(2, 100) });
    bench.give(Input::VerifyAnswered { controller: controller(), number: number(2), answer: VerifyAnswer::Success });
    // The proof cannot join either: the channel is replaced, once, when the churn window is over.
    while !bench.effects.contains(&Effect::Replace { controller: controller(), generation: number(2) }) {
        let joins = bench.effects.iter().any(|effect| matches!(effect, Effect::Prove { .. }));
        assert!(!joins, "it has been refused often enough");
        bench.sleep(Duration::from_secs(60));
    }
    bench.dialed(2, admitted());
    assert_eq!(bench.phase(), PhaseName::Promoted);
    assert!(bench.machine.contacts()[&controller()].is_grouped(), "on a new channel it is tried anew");
}

/// On our controller the request needs no underlay, and the proof alone is refused.
#[test]
fn a_confirmed_leaf_whose_further_underlays_are_refused_is_proven_by_replacing_the_channel() {
    let mut bench = Bench::in_phase(PhaseName::Proving);
    bench.give(Input::VerifyAnswered { controller: controller(), number: number(2), answer: VerifyAnswer::Success });
    let mut refused = 0;
    while !bench.effects.contains(&Effect::Replace { controller: controller(), generation: number(2) }) {
        if bench.effects.contains(&Effect::Prove { controller: controller(), generation: number(2) }) {
            refused += 1;
            bench.give(proved(2, ProofOutcome::Refused));
        }
        bench.sleep(Duration::from_secs(60));
        assert!(bench.now.wall.as_s() < LIFE_S * 7 / 10 + 600 && refused <= 3, "{refused} refusals");
    }
    bench.dialed(2, admitted());
    assert_eq!(bench.phase(), PhaseName::Promoted);
}

/// An unconfirmed leaf is refused on every underlay, and that says nothing about the group: the channel is worth more.
#[test]
fn refusals_of_an_unconfirmed_leaf_never_cost_the_channel() {
    let mut bench = Bench::in_phase(PhaseName::Proving);
    let mut effects = Vec::new();
    while bench.phase() == PhaseName::Proving {
        effects.append(&mut bench.effects.clone());
        if bench.effects.iter().any(|effect| matches!(effect, Effect::Prove { .. })) {
            bench.give(proved(2, ProofOutcome::Refused));
        } else {
            bench.sleep(Duration::from_secs(60));
        }
    }
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Replace { .. })));
}
