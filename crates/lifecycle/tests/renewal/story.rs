//! One router's stories, told input by input.

use std::time::Duration;

use lifecycle::manifest::{CANDIDATES_MAX, Manifest};
use lifecycle::policy::Policy;
use lifecycle::renewal::{
    Cause, DialOutcome, Effect, Event, Input, PhaseName, ProofOutcome, Storage, StorageTrouble, VerifyAnswer,
};
use lifecycle::{GenerationNumber, Now, UnixTime, Uptime};

use crate::world::{Bench, DAY_S, LIFE_S, admitted, at, candidate, controller, found, issued, leaf, number, proved};

fn sends_verify(bench: &Bench) -> bool {
    bench.effects.iter().any(|effect| matches!(effect, Effect::Verify { .. }))
}

fn dials(bench: &Bench) -> Vec<u64> {
    let dialed = bench.effects.iter().filter_map(|effect| match effect {
        Effect::Dial { generation, .. } => Some(generation.0),
        _ => None,
    });
    dialed.collect()
}

fn numbers(manifest: &Manifest) -> Vec<u64> {
    manifest.candidates.iter().map(|c| c.number.0).collect()
}

#[test]
fn one_renewal_is_durable_before_every_visible_thing() {
    let mut bench = Bench::in_phase(PhaseName::Prepared);
    assert_eq!(bench.barrier, Some("PREPARE"));
    bench.tick();
    assert!(matches!(bench.effects[0], Effect::Request { number: n, .. } if n == number(2)));
    bench.give(Input::Issued { number: number(2), issued: issued(2, LIFE_S * 7 / 10) });
    assert_eq!(bench.barrier, Some("STAGE"));
    assert!(sends_verify(&bench));
    assert_eq!(numbers(&bench.disk), [1, 2]);
    assert!(bench.disk.candidates[1].verify_sent, "the disk knows that a 20303 may have left before it leaves");
    bench.give(Input::VerifyAnswered { controller: controller(), number: number(2), answer: VerifyAnswer::Success });
    assert_eq!(bench.effects, [Effect::Prove { controller: controller(), generation: number(2) }]);
    assert_eq!(bench.phase(), PhaseName::Proving, "an answer is no admission");
    bench.give(proved(2, ProofOutcome::Admitted));
    assert_eq!(bench.barrier, None, "STAGE is what justifies publishing it");
    assert!(bench.effects.contains(&Effect::Publish(number(2))));
    bench.tick();
    assert_eq!(bench.barrier, Some("MANIFEST"));
    assert!(bench.disk.candidates[1].first_admitted.is_some());
    assert_eq!(numbers(&bench.disk), [1, 2], "the old generation stays a candidate");
    bench.later(Duration::from_secs(601)).tick();
    assert_eq!(bench.phase(), PhaseName::Steady);
}

#[test]
fn a_lost_verify_answer_is_decided_by_a_handshake() {
    let mut bench = Bench::in_phase(PhaseName::Proving);
    bench.later(Duration::from_secs(31)).tick();
    assert_eq!(bench.effects, [Effect::Prove { controller: controller(), generation: number(2) }]);
    bench.give(proved(2, ProofOutcome::Admitted));
    assert_eq!(bench.phase(), PhaseName::Promoted);
}

#[test]
fn a_restart_while_the_outcome_is_unknown_tries_both_generations() {
    let disk = Bench::in_phase(PhaseName::Proving).disk;
    let mut bench = Bench::new(at(LIFE_S * 7 / 10 + 5), found(disk.candidates));
    assert_eq!(bench.phase(), PhaseName::Proving);
    assert_eq!(dials(bench.tick()), [2], "newest first");
    bench.dialed(2, DialOutcome::Refused);
    bench.later(Duration::from_secs(2)).tick();
    assert_eq!(dials(&bench), [1]);
    bench.dialed(1, admitted()).tick();
    assert!(sends_verify(&bench), "the older one was admitted, so 20303 is repeated for the same leaf");
}

#[test]
fn a_refused_leaf_is_given_up_only_after_the_verify_window_and_stays_a_candidate() {
    let mut bench = Bench::in_phase(PhaseName::Proving);
    let began = bench.now.uptime;
    while bench.phase() == PhaseName::Proving {
        if bench.effects.iter().any(|effect| matches!(effect, Effect::Prove { .. })) {
            bench.give(proved(2, ProofOutcome::Refused));
        } else if sends_verify(&bench) {
            bench.give(Input::VerifyAnswered {
                controller: controller(),
                number: number(2),
                answer: VerifyAnswer::Error,
            });
        } else {
            bench.sleep(Duration::from_secs(60));
        }
        assert!(bench.now.uptime.since(began) < Duration::from_secs(1000), "the window ends");
    }
    assert!(bench.now.uptime.since(began) >= Duration::from_secs(600));
    assert_eq!(bench.phase(), PhaseName::Steady);
    assert_eq!(numbers(bench.machine.manifest()), [1, 2]);
    bench.later(Duration::from_secs(900)).tick();
    assert_eq!(bench.phase(), PhaseName::Prepared, "a new attempt, with a new number");
    assert_eq!(bench.machine.phase().attempt(), Some(number(3)));
}

#[test]
fn an_unanswered_request_is_repeated_with_the_same_keys() {
    let mut bench = Bench::in_phase(PhaseName::Requested);
    bench.later(Duration::from_secs(31)).tick();
    assert_eq!(bench.phase(), PhaseName::Prepared);
    bench.later(Duration::from_secs(300)).tick();
    assert!(matches!(bench.effects[0], Effect::Request { number: n, .. } if n == number(2)));
}

#[test]
fn a_full_disk_in_prepare_is_an_ordinary_input_and_nothing_was_asked_for() {
    let mut bench = Bench::in_phase(PhaseName::Prepared);
    bench.give(Input::PrepareFailed { number: number(2), trouble: StorageTrouble::Full });
    assert_eq!(bench.phase(), PhaseName::Steady);
    bench.later(Duration::from_secs(700)).tick();
    assert_eq!(bench.machine.phase().attempt(), Some(number(3)), "a condemned file's number is never used again");
}

#[test]
fn nothing_is_erased_by_expiry_alone() {
    let mut bench = Bench::in_phase(PhaseName::Promoted);
    bench.later(Duration::from_secs(LIFE_S.unsigned_abs() * 4)).tick();
    assert_eq!(numbers(bench.machine.manifest()), [1, 2]);
}

#[test]
fn an_old_generation_is_retired_when_a_later_one_is_admitted_after_its_end() {
    let old = candidate(1, 0, true);
    let mut bench = Bench::new(at(LIFE_S + 10), found(vec![old, candidate(2, LIFE_S / 2, true)]));
    bench.tick().dialed(2, admitted());
    assert!(!bench.effects.iter().any(|effect| matches!(effect, Effect::Erase(_))), "the manifest lets it go first");
    bench.saved();
    assert_eq!(numbers(&bench.disk), [2]);
    assert!(bench.effects.contains(&Effect::Erase(vec![number(1)])));
}

#[test]
fn a_clock_in_2038_erases_nothing() {
    let all = vec![candidate(1, 0, true), candidate(2, LIFE_S / 2, true)];
    let mut bench = Bench::new(at(2_145_916_800), found(all));
    bench.tick().dialed(2, admitted());
    assert_eq!(numbers(bench.machine.manifest()), [1, 2], "the admitted leaf looks expired too, so the clock is wrong");
}

#[test]
fn an_attempt_stored_by_a_clock_in_2038_does_not_block_renewal_until_then() {
    let mut found = found(vec![candidate(1, 0, true)]);
    if let Some(attempt) = &mut found.manifest.attempt {
        attempt.began = UnixTime::from_s(2_145_916_800);
    }
    let mut bench = Bench::new(at(LIFE_S * 7 / 10), found);
    bench.tick().dialed(1, admitted()).later(Duration::from_secs(601)).tick();
    assert_eq!(bench.phase(), PhaseName::Prepared);
}

#[test]
fn a_lapsed_router_keeps_dialing_and_comes_back_when_it_is_admitted() {
    let mut bench = Bench::in_phase(PhaseName::Lapsed);
    for _ in 0..50 {
        while dials(&bench).is_empty() {
            bench.sleep(Duration::from_secs(3600));
        }
        bench.dialed(1, DialOutcome::Refused);
        assert_eq!(bench.phase(), PhaseName::Lapsed);
    }
    bench.dialed(1, admitted());
    assert_eq!(bench.phase(), PhaseName::Steady);
}

#[test]
fn an_older_leaf_that_a_restored_controller_admits_becomes_live_and_is_renewed() {
    let mut bench = Bench::in_phase(PhaseName::Promoted);
    bench.saved().give(Input::ChannelClosed { controller: controller() });
    bench.later(Duration::from_secs(700)).tick();
    assert_eq!(dials(&bench), [2]);
    bench.dialed(2, DialOutcome::Refused).later(Duration::from_secs(5)).tick();
    assert_eq!(dials(&bench), [1]);
    bench.dialed(1, admitted());
    assert_eq!(bench.machine.live(), number(1));
    assert!(bench.effects.contains(&Effect::Publish(number(1))));
    bench.tick();
    assert_eq!(bench.phase(), PhaseName::Prepared, "it is past due, so a third generation is made");
}

#[test]
fn the_admitted_leaf_does_not_wait_for_the_back_off_that_older_leaves_heap_up() {
    // A controller behind a balancer is down for ten seconds: every dial looks like a refusal. Then it admits what it admitted before.
    let candidates: Vec<_> = (1..=8).map(|n| candidate(n, i64::try_from(n).unwrap(), true)).collect();
    let mut bench = Bench::new(at(100), found(candidates));
    bench.tick();
    let came_up = bench.now.uptime.plus(Duration::from_secs(10));
    let mut refused = 0;
    loop {
        while dials(&bench).is_empty() {
            bench.sleep(Duration::from_secs(3600));
        }
        let generation = dials(&bench)[0];
        if generation == 8 && bench.now.uptime >= came_up {
            break;
        }
        bench.dialed(generation, DialOutcome::Refused);
        refused += 1;
        assert!(refused < 40, "it is never the turn of what is admitted");
    }
    let waited = bench.now.uptime.since(came_up);
    assert!(waited < Duration::from_secs(40), "admitted only {waited:?} after the controller was there again");
}

#[test]
fn a_lagging_controller_does_not_pull_the_router_back() {
    let second = lifecycle::ControllerId::new("ctrl-2");
    let mut bench = Bench::in_phase(PhaseName::Promoted);
    bench.give(Input::Controllers(vec![controller(), second.clone()])).tick();
    bench.give(Input::Dialed { controller: second.clone(), generation: number(2), outcome: DialOutcome::Refused });
    bench.later(Duration::from_secs(2)).tick();
    bench.give(Input::Dialed { controller: second.clone(), generation: number(1), outcome: admitted() });
    assert_eq!(bench.machine.live(), number(2));
    bench.give(Input::ChannelClosed { controller: second.clone() });
    bench.later(Duration::from_secs(2)).tick();
    assert_eq!(dials(&bench), [1], "each controller is dialed with the leaf that it admitted last");
}

#[test]
fn the_start_flag_is_honoured_once_per_spacing_and_the_operator_always() {
    let mut bench = Bench::in_phase(PhaseName::Steady);
    bench.give(Input::RenewAsked(Cause::StartFlag));
    assert_eq!(bench.phase(), PhaseName::Steady, "an attempt was recorded a second ago");
    assert!(matches!(bench.effects[0], Effect::Report(Event::AskDeferred { .. })));
    bench.give(Input::RenewAsked(Cause::Operator));
    assert_eq!(bench.phase(), PhaseName::Prepared);
}

#[test]
fn a_hostile_renewal_window_cannot_make_a_storm() {
    let mut bench = Bench::in_phase(PhaseName::Steady);
    let mut attempts = 0;
    let window = lifecycle::issuance::Window { from: UnixTime::from_s(0), to: UnixTime::from_s(0) };
    for _ in 0..600 {
        bench.later(Duration::from_secs(6)).give(Input::WindowAdvised(window));
        if let Some(n) = bench.machine.phase().attempt() {
            attempts += 1;
            bench.give(Input::PrepareFailed { number: n, trouble: StorageTrouble::Full });
        }
    }
    assert!(attempts <= 6, "one hour of `renew now` made {attempts} attempts");
}

#[test]
fn at_the_cap_no_attempt_begins_until_two_later_admissions_free_a_place() {
    let many: Vec<_> = (1..=8).map(|n| candidate(n, i64::try_from(n).unwrap() * DAY_S, n == 1)).collect();
    assert_eq!(many.len(), CANDIDATES_MAX);
    let mut bench = Bench::new(at(LIFE_S * 8 / 10), found(many));
    bench.tick().dialed(1, admitted());
    while bench.phase() != PhaseName::Steady {
        bench.sleep(Duration::from_secs(60));
        if bench.effects.iter().any(|effect| matches!(effect, Effect::Prove { .. })) {
            bench.give(proved(8, ProofOutcome::Refused));
        }
    }
    let mut reported = 0;
    for _ in 0..100 {
        bench.later(Duration::from_secs(60)).tick();
        reported += usize::from(bench.effects.iter().any(|e| matches!(e, Effect::Report(Event::Blocked(_)))));
        assert_eq!(bench.machine.phase().attempt(), None, "another attempt has no room");
        if bench.effects.iter().any(|effect| matches!(effect, Effect::Prove { .. })) {
            bench.give(proved(8, ProofOutcome::Refused));
        }
    }
    assert_eq!(reported, 1, "it is reported, once");
    assert_eq!(bench.machine.manifest().candidates.len(), CANDIDATES_MAX);
}

#[test]
fn at_the_cap_the_oldest_generation_with_two_later_admissions_makes_room() {
    let many: Vec<_> = (1..=8).map(|n| candidate(n, i64::try_from(n).unwrap() * DAY_S, true)).collect();
    let mut bench = Bench::new(at(LIFE_S * 8 / 10), found(many));
    bench.tick().dialed(8, admitted()).later(Duration::from_secs(700)).tick();
    assert_eq!(bench.phase(), PhaseName::Prepared);
    assert_eq!(numbers(&bench.disk), [2, 3, 4, 5, 6, 7, 8]);
    assert!(bench.effects.contains(&Effect::Erase(vec![number(1)])), "its files go after the manifest has let it go");
}

#[test]
fn volatile_storage_never_asks_for_a_leaf_that_it_cannot_keep() {
    let mut bench = Bench::in_phase(PhaseName::Steady);
    bench.give(Input::StorageChanged(Storage::Volatile));
    for _ in 0..200 {
        bench.later(Duration::from_secs(DAY_S.unsigned_abs())).tick();
        assert!(matches!(bench.phase(), PhaseName::Steady | PhaseName::Lapsed));
    }
}

#[test]
fn leaves_of_ten_seconds_renew_like_leaves_of_a_year() {
    let mut first = candidate(1, 0, true);
    first.client = leaf(1, 1, 0, 10);
    first.server = leaf(1, 2, 0, 10);
    let mut bench = Bench::new(at(0), found(vec![first]));
    bench.tick().dialed(1, admitted());
    while bench.phase() == PhaseName::Steady {
        bench.sleep(Duration::from_secs(1));
    }
    let due_ms = bench.now.wall.as_ms();
    assert!((6_000..8_000).contains(&due_ms), "due after {due_ms} ms of 10 s");
}

#[test]
fn a_machine_that_is_due_never_asks_to_be_woken_at_once_for_ever() {
    let mut bench = Bench::in_phase(PhaseName::Steady);
    bench.now = at(LIFE_S * 8 / 10);
    let mut steps = 0;
    let until = bench.now.uptime.plus(Duration::from_secs(3600));
    while bench.now.uptime < until {
        steps += 1;
        assert!(steps < 3_000, "spins in {}", bench.phase());
        bench.sleep(Duration::from_secs(60));
        if let Some(n) = bench.machine.phase().attempt() {
            bench.give(Input::PrepareFailed { number: n, trouble: StorageTrouble::Broken });
        }
    }
}

#[test]
fn expiry_while_off_and_a_start_in_1970_end_in_a_renewal() {
    let now = Now { wall: UnixTime::from_s(100), uptime: Uptime::from_ms(5_000) };
    let mut bench = Bench::new(now, found(vec![candidate(1, DAY_S * 365 * 50, true)]));
    bench.tick().dialed(1, admitted());
    assert_eq!(bench.phase(), PhaseName::Steady);
    bench.now.wall = UnixTime::from_s(DAY_S * 365 * 50 + LIFE_S * 8 / 10);
    bench.sleep(Duration::from_secs(60));
    assert_eq!(bench.phase(), PhaseName::Prepared, "the clock was set, and it is noticed within a minute");
}

#[test]
fn an_import_becomes_the_default_only_by_being_admitted() {
    let mut bench = Bench::in_phase(PhaseName::Steady);
    bench.give(Input::Imported(issued(8, DAY_S)));
    assert_eq!(bench.barrier, Some("IMPORT"));
    assert_eq!(bench.machine.live(), number(1));
    bench.tick();
    assert_eq!(bench.effects, [Effect::Prove { controller: controller(), generation: GenerationNumber(2) }]);
    bench.give(proved(2, ProofOutcome::Admitted));
    assert_eq!(bench.machine.live(), number(2));
    assert_eq!(numbers(&bench.disk), [1, 2], "and displaces nothing");
}

/// Ours was killed in the middle of a renewal, and a Go router took its place and renewed: nothing of ours is admitted any more.
#[test]
fn what_another_program_renewed_is_imported_although_an_attempt_of_ours_is_unfinished() {
    for phase in [PhaseName::Prepared, PhaseName::Requested, PhaseName::Staged, PhaseName::Proving] {
        let mut bench = Bench::in_phase(phase);
        if phase != PhaseName::Staged {
            bench.give(Input::Imported(issued(8, LIFE_S * 7 / 10 + DAY_S)));
            assert_eq!(bench.barrier, None, "{phase}: while a controller admits ours, the attempt goes on");
            bench.give(Input::ChannelClosed { controller: controller() });
        }
        let before = numbers(&bench.disk);
        bench.give(Input::Imported(issued(8, LIFE_S * 7 / 10 + DAY_S)));
        assert_eq!((bench.barrier, bench.phase()), (Some("IMPORT"), PhaseName::Proving), "{phase}");
        let imported = *numbers(&bench.disk).last().unwrap();
        assert_eq!(numbers(&bench.disk)[..before.len()], before, "{phase}: it displaces nothing");
        while dials(&bench).is_empty() {
            bench.sleep(Duration::from_secs(600));
        }
        // The leaf that was admitted last has its turn before.
        while dials(&bench) != [imported] {
            let generation = dials(&bench)[0];
            bench.dialed(generation, DialOutcome::Refused);
            while dials(&bench).is_empty() {
                bench.sleep(Duration::from_secs(600));
            }
        }
        bench.dialed(imported, admitted());
        assert_eq!(bench.machine.live(), number(imported), "{phase}");
    }
}

#[test]
fn a_channel_without_groups_is_replaced_once_after_the_churn_window() {
    let mut bench = Bench::new(at(LIFE_S * 7 / 10), found(vec![candidate(1, 0, true)]));
    bench.tick().dialed(1, DialOutcome::Admitted { grouped: false, window: None });
    bench.give(Input::RenewAsked(Cause::Operator)).tick();
    bench.give(Input::Issued { number: number(2), issued: issued(2, LIFE_S * 7 / 10) });
    bench.give(Input::VerifyAnswered { controller: controller(), number: number(2), answer: VerifyAnswer::Success });
    assert_eq!(bench.effects, [], "too young to be replaced");
    bench.later(Duration::from_secs(61)).tick();
    assert_eq!(bench.effects, [Effect::Replace { controller: controller(), generation: number(2) }]);
    bench.dialed(2, DialOutcome::Admitted { grouped: false, window: None });
    assert_eq!(bench.phase(), PhaseName::Promoted);
}

#[test]
fn a_prepared_attempt_that_nobody_answers_until_expiry_lapses_without_writing_again() {
    let mut bench = Bench::in_phase(PhaseName::Prepared);
    bench.give(Input::ChannelClosed { controller: controller() });
    bench.later(Duration::from_secs(LIFE_S.unsigned_abs())).tick().tick();
    assert_eq!(bench.phase(), PhaseName::Lapsed);
    for _ in 0..100 {
        bench.sleep(Duration::from_secs(3600));
        assert_eq!(bench.barrier, None);
    }
}

#[test]
fn a_request_whose_fresh_underlay_is_refused_is_repeated_with_the_next_candidate() {
    let mut bench = Bench::in_phase(PhaseName::Proving);
    let until = bench.now.uptime.plus(Duration::from_secs(700));
    while bench.phase() == PhaseName::Proving {
        assert!(bench.now.uptime < until);
        bench.sleep(Duration::from_secs(60));
        if bench.effects.iter().any(|effect| matches!(effect, Effect::Prove { .. })) {
            bench.give(proved(2, ProofOutcome::Refused));
        }
    }
    // The controller promotes generation 2 only now, and the attempt for 3 shows generation 1 first.
    while bench.phase() != PhaseName::Requested {
        bench.sleep(Duration::from_secs(60));
    }
    assert!(matches!(bench.effects[0], Effect::Request { present, .. } if present == Some(number(1))));
    bench.give(proved(1, ProofOutcome::Refused)).tick();
    while bench.phase() != PhaseName::Requested {
        bench.sleep(Duration::from_secs(60));
    }
    assert!(matches!(bench.effects[0], Effect::Request { present, .. } if present == Some(number(2))));
    bench.give(proved(2, ProofOutcome::Admitted));
    assert_eq!(bench.phase(), PhaseName::Promoted, "the unresolved generation is the admitted one after all");
}

#[test]
fn a_leaf_issued_after_the_end_of_the_old_one_is_taken() {
    // Every try failed until the leaf was over, but the channel is still up and the controller still answers.
    let mut bench = Bench::in_phase(PhaseName::Steady);
    bench.now = at(LIFE_S + 100);
    bench.tick().tick();
    bench.give(Input::Issued { number: number(2), issued: issued(2, LIFE_S + 90) });
    assert_eq!(bench.phase(), PhaseName::Proving);
    assert_eq!(numbers(&bench.disk), [1, 2]);
}

#[test]
fn a_controller_that_closes_the_channel_at_every_verify_does_not_keep_the_router_proving_for_ever() {
    let mut bench = Bench::in_phase(PhaseName::Proving);
    let began = bench.now.uptime;
    while bench.phase() == PhaseName::Proving {
        if sends_verify(&bench) {
            bench.give(Input::ChannelClosed { controller: controller() });
        } else if let [generation, ..] = dials(&bench)[..] {
            // Back at once, with a leaf that it admits.
            let outcome = if generation == 1 { admitted() } else { DialOutcome::Refused };
            bench.dialed(generation, outcome);
        }
        bench.sleep(Duration::from_secs(60));
        assert!(bench.now.uptime.since(began) < Duration::from_secs(1500), "the window ends");
    }
    assert_eq!(bench.phase(), PhaseName::Steady);
}

#[test]
fn an_import_at_the_cap_erases_the_generation_that_made_room() {
    let many: Vec<_> = (1..=8).map(|n| candidate(n, i64::try_from(n).unwrap() * DAY_S, true)).collect();
    let mut bench = Bench::new(at(9 * DAY_S), found(many));
    bench.tick().dialed(8, admitted());
    bench.give(Input::Imported(issued(99, 9 * DAY_S)));
    assert_eq!(numbers(&bench.disk), [2, 3, 4, 5, 6, 7, 8, 9]);
    assert!(bench.effects.contains(&Effect::Erase(vec![number(1)])), "no manifest names its keys any more");
}

#[test]
fn a_disk_that_fails_for_ever_after_stage_does_not_hold_the_router_back() {
    let mut bench = Bench::in_phase(PhaseName::Promoted);
    assert!(bench.disk.candidates[1].first_admitted.is_none());
    let until = bench.now.uptime.plus(Duration::from_secs(3600));
    let mut tries = 0;
    while bench.now.uptime < until {
        let (before, disk) = (bench.machine.clone(), bench.disk.clone());
        bench.sleep(Duration::from_secs(60));
        if bench.barrier == Some("MANIFEST") {
            // The shell keeps the machine as it was before the step.
            tries += 1;
            (bench.machine, bench.disk) = (before, disk);
            bench.give(Input::ManifestFailed);
        }
        assert_eq!(bench.machine.live(), number(2), "it serves from memory");
    }
    assert!((10..100).contains(&tries), "{tries} tries in an hour");
    assert_eq!(bench.phase(), PhaseName::Steady);
    assert_eq!(numbers(&bench.disk), [1, 2], "and a restart finds both");
}

#[test]
fn a_staged_generation_is_not_shown_for_proof_while_the_disk_cannot_say_so() {
    let mut bench = Bench::in_phase(PhaseName::Staged);
    bench.tick().dialed(1, admitted());
    for _ in 0..50 {
        let (before, disk) = (bench.machine.clone(), bench.disk.clone());
        bench.sleep(Duration::from_secs(60));
        if bench.barrier == Some("MANIFEST") {
            (bench.machine, bench.disk) = (before, disk);
            bench.give(Input::ManifestFailed);
            assert!(!sends_verify(&bench));
        }
        assert_eq!(bench.phase(), PhaseName::Staged);
    }
}

#[test]
fn a_clock_far_ahead_renews_by_uptime_and_not_at_every_spacing() {
    let mut bench = Bench::new(at(2_145_916_800), found(vec![candidate(1, 0, true)]));
    let mut made = 1;
    let until = bench.now.uptime.plus(Duration::from_secs(3 * LIFE_S.unsigned_abs()));
    let began = bench.now.uptime;
    while bench.now.uptime < until {
        bench.sleep(Duration::from_secs(6 * 3600));
        let effects = bench.effects.clone();
        for effect in effects {
            match effect {
                Effect::Dial { generation, .. } => {
                    bench.dialed(generation.0, admitted());
                }
                Effect::Request { number: asked, .. } => {
                    made = asked.0;
                    let born_s = i64::try_from(bench.now.uptime.since(began).as_secs()).unwrap();
                    bench.give(Input::Issued { number: asked, issued: issued(made, born_s) });
                }
                Effect::Prove { generation, .. } => {
                    bench.give(proved(generation.0, ProofOutcome::Admitted));
                }
                _ => {}
            }
        }
    }
    assert!((4..8).contains(&made), "{made} generations in three lives");
}

/// Sleeps as the machine wants and never answers anything. How long until it begins an attempt?
fn begins_within(bench: &mut Bench, most: Duration) -> Option<Duration> {
    let began = bench.now.uptime;
    while bench.now.uptime.since(began) < most {
        bench.sleep(Duration::from_secs(3600));
        if bench.phase() == PhaseName::Prepared {
            return Some(bench.now.uptime.since(began));
        }
    }
    None
}

#[test]
fn a_clock_that_is_set_back_on_an_open_channel_does_not_put_a_renewal_off() {
    // To 1970, and to a day that the leaf's dates allow.
    for back_s in [56 * 365 * 86_400, LIFE_S / 2] {
        let mut bench = Bench::new(at(LIFE_S * 11 / 20), found(vec![candidate(1, 0, true)]));
        bench.tick().dialed(1, admitted());
        bench.now.wall = bench.now.wall.minus(Duration::from_secs(u64::try_from(back_s).unwrap()));
        let most = Duration::from_secs(u64::try_from(LIFE_S * 9 / 20).unwrap());
        assert!(begins_within(&mut bench, most).is_some(), "set back by {back_s} s");
    }
}

#[test]
fn a_full_list_of_unknown_outcomes_proves_the_newest_one_again() {
    let mut all = vec![candidate(1, 0, true)];
    all.extend(
        (2..=8).map(|n| lifecycle::manifest::Candidate { verify_sent: true, ..candidate(n, LIFE_S / 2, false) }),
    );
    let mut bench = Bench::new(at(LIFE_S * 8 / 10), found(all));
    let mut again = 0;
    for _ in 0..200 {
        bench.sleep(Duration::from_secs(600));
        for effect in bench.effects.clone() {
            match effect {
                Effect::Dial { generation, .. } => {
                    let outcome = if generation == number(1) { admitted() } else { DialOutcome::Refused };
                    bench.dialed(generation.0, outcome);
                }
                Effect::Verify { number: asked, .. } => {
                    assert_eq!(asked, number(8));
                    again += 1;
                }
                Effect::Prove { generation, .. } => {
                    bench.give(proved(generation.0, ProofOutcome::Refused));
                }
                _ => {}
            }
        }
    }
    assert_eq!(bench.machine.view(bench.now).blocked, Some(lifecycle::renewal::Blocked::NoRoom));
    assert!(again > 10, "20303 was sent {again} times");
}

/// A process that serves generation 1 of two: a restored register went back to it.
fn gone_back_to_the_first() -> Bench {
    let mut bench = Bench::new(at(LIFE_S * 6 / 10), found(vec![candidate(1, 0, true), candidate(2, LIFE_S / 2, true)]));
    bench.tick().dialed(2, DialOutcome::Refused).later(Duration::from_secs(5)).tick().dialed(1, admitted());
    assert_eq!(bench.machine.live(), number(1));
    bench
}

#[test]
fn a_machine_that_is_built_anew_goes_on_with_the_generation_that_is_served() {
    let before = gone_back_to_the_first();
    let found = found(before.disk.candidates.clone());
    let anew = lifecycle::recovery::recover_in_process(before.now, Policy::default(), found, &before.machine);
    let (machine, step) = anew.unwrap().step(before.now, Input::Started { controllers: vec![controller()] });
    assert_eq!((machine.phase().name(), machine.live()), (PhaseName::Steady, number(1)));
    let effects = step.settle(|_| Ok::<(), ()>(())).unwrap();
    assert!(effects.contains(&Effect::Publish(number(1))), "{effects:?}");
}

#[test]
fn a_machine_that_is_built_anew_keeps_a_candidate_that_the_disk_does_not_show_today() {
    let before = gone_back_to_the_first();
    let shown = found(vec![candidate(2, LIFE_S / 2, true)]);
    let anew = lifecycle::recovery::recover_in_process(before.now, Policy::default(), shown, &before.machine).unwrap();
    assert_eq!(numbers(anew.manifest()), [1, 2]);
    assert_eq!(anew.live(), number(1));
}
