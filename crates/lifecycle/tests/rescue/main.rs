//! What is done for a router that is locked out: every situation that matters, as a table, and what must hold in all of them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on must stop, also in its helpers")]

use std::fmt::Write as _;
use std::path::Path;

use lifecycle::rescue::{ControllerKind, Found, Obstacle, Place, Plan, RouterKind, Situation, Standing};
use lifecycle::{Fingerprint, GenerationNumber, KeyId, Leaf, UnixTime};
use proptest::prelude::*;

const NOW: i64 = 1_000_000;
const DAY: i64 = 86_400;

fn leaf(n: u8, from_s: i64, to_s: i64) -> Leaf {
    Leaf {
        fingerprint: Fingerprint([n; 32]),
        key: KeyId([n; 32]),
        not_before: UnixTime::from_s(NOW + from_s),
        not_after: UnixTime::from_s(NOW + to_s),
    }
}

/// Signed by the controller, in dates, whole, not admitted, in nobody's way.
fn aside(n: u8) -> Found {
    let good = leaf(n, -DAY * i64::from(9 - n), DAY);
    Found { client: good, server: Some(good), place: Place::Aside, is_admitted: false, is_from_signer: true }
}

fn in_use(n: u8) -> Found {
    Found { place: Place::InUse, ..aside(n) }
}

fn stored(n: u8) -> Found {
    Found { place: Place::Stored(GenerationNumber(n.into())), ..aside(n) }
}

fn admitted(found: Found) -> Found {
    Found { is_admitted: true, ..found }
}

fn foreign(found: Found) -> Found {
    Found { is_from_signer: false, ..found }
}

fn expired(found: Found) -> Found {
    Found { client: leaf(found.client.fingerprint.0[0], -2 * DAY, -1), ..found }
}

fn without_server(found: Found) -> Found {
    Found { server: None, ..found }
}

fn on(controller: ControllerKind, kind: RouterKind, found: Vec<Found>) -> Situation {
    Situation {
        now: UnixTime::from_s(NOW),
        controller,
        kind,
        standing: Standing::Enrolled,
        is_connected: false,
        found,
        kept: None,
    }
}

fn stock(found: Vec<Found>) -> Situation {
    on(ControllerKind::OpenZiti, RouterKind::Edge, found)
}

fn transit(found: Vec<Found>) -> Situation {
    on(ControllerKind::OpenZiti, RouterKind::Transit, found)
}

fn ours(found: Vec<Found>) -> Situation {
    on(ControllerKind::Exuvia, RouterKind::Transit, found)
}

fn with(mut situation: Situation, change: impl FnOnce(&mut Situation)) -> Situation {
    change(&mut situation);
    situation
}

fn awaiting(situation: Situation, ends_s: Option<i64>) -> Situation {
    with(situation, |it| it.standing = Standing::Awaiting { token: ends_s.map(|s| UnixTime::from_s(NOW + s)) })
}

fn rows() -> Vec<(&'static str, Situation)> {
    let kept = |situation, n| with(situation, |it| it.kept = Some(leaf(n, -DAY, DAY)));
    let elsewhere = |situation| with(situation, |it| it.is_connected = true);
    vec![
        ("what is in use is admitted", stock(vec![admitted(in_use(1))])),
        ("what is in use is admitted, and somebody is connected", elsewhere(stock(vec![admitted(in_use(1))]))),
        ("in use and admitted, though something younger lies aside", stock(vec![admitted(in_use(1)), aside(2)])),
        ("admitted in the store", stock(vec![in_use(1), admitted(stored(2))])),
        ("admitted in a backup", stock(vec![in_use(2), admitted(aside(1))])),
        ("admitted in a backup, its server leaf is lost", stock(vec![admitted(without_server(aside(1)))])),
        (
            "two are admitted, the older one has no server leaf",
            ours(vec![admitted(without_server(aside(2))), admitted(aside(1))]),
        ),
        ("admitted in a backup, and somebody is connected", elsewhere(stock(vec![in_use(2), admitted(aside(1))]))),
        ("the admitted one is expired, another is not", stock(vec![expired(admitted(in_use(1))), aside(2)])),
        ("the controller keeps the admitted leaf, its key is here", kept(stock(vec![in_use(1)]), 1)),
        ("the same, but it is expired", with(stock(vec![]), |it| it.kept = Some(leaf(1, -2 * DAY, -1)))),
        ("the same, and somebody is connected", elsewhere(kept(stock(vec![in_use(1)]), 1))),
        ("nothing admitted; signed and in dates: edge", stock(vec![in_use(1)])),
        ("nothing admitted; signed and in dates: transit", transit(vec![in_use(1)])),
        (
            "nothing admitted; signed and in dates: fabric",
            on(ControllerKind::OpenZiti, RouterKind::Fabric, vec![aside(1)]),
        ),
        ("nothing admitted; signed and in dates: ours", ours(vec![aside(1)])),
        ("nothing admitted; the younger of two", stock(vec![aside(1), stored(2)])),
        ("nothing admitted; the one in use before a younger one", stock(vec![in_use(1), aside(2)])),
        ("nothing admitted; signed, its server leaf is lost", transit(vec![without_server(in_use(1))])),
        ("nothing admitted, and somebody is connected", elsewhere(stock(vec![in_use(1)]))),
        ("signed by somebody else: edge", stock(vec![foreign(in_use(1))])),
        ("signed by somebody else: transit", transit(vec![foreign(in_use(1))])),
        ("all expired: edge", stock(vec![expired(in_use(1)), expired(aside(2))])),
        ("all expired: transit", transit(vec![expired(in_use(1))])),
        ("all expired: transit of ours", ours(vec![expired(in_use(1))])),
        ("all expired, and somebody is connected", elsewhere(stock(vec![expired(in_use(1))]))),
        ("nothing on the disk: edge", stock(vec![])),
        ("nothing on the disk: transit", transit(vec![])),
        ("nothing on the disk: fabric", on(ControllerKind::OpenZiti, RouterKind::Fabric, vec![])),
        ("waits for its enrollment, the token is good", awaiting(stock(vec![in_use(1)]), Some(DAY))),
        ("waits for its enrollment, the token is over: edge", awaiting(stock(vec![in_use(1)]), Some(-1))),
        ("waits for its enrollment, the token is over: transit", awaiting(transit(vec![in_use(1)]), Some(-1))),
        ("waits for its enrollment, the token is not known: ours", awaiting(ours(vec![]), None)),
        ("waits for its enrollment, and somebody is connected", elsewhere(awaiting(stock(vec![]), Some(DAY)))),
        ("switched off", with(stock(vec![admitted(in_use(1))]), |it| it.standing = Standing::Disabled)),
        ("revoked", with(ours(vec![admitted(in_use(1))]), |it| it.standing = Standing::Revoked)),
    ]
}

/// `UPDATE_TABLE=1 cargo test -p lifecycle` rewrites it.
#[test]
fn every_situation_gets_the_plan_of_the_table() {
    let width = rows().iter().map(|(name, _)| name.len()).max().unwrap();
    let mut text = String::new();
    for (name, situation) in rows() {
        writeln!(text, "{name:width$}  {:?}", situation.plan()).unwrap();
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rescue_table.txt");
    if std::env::var_os("UPDATE_TABLE").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(&path).unwrap());
}

fn any_found() -> impl Strategy<Value = Found> {
    let place = prop_oneof![
        Just(Place::InUse),
        (1_u64..4).prop_map(|n| Place::Stored(GenerationNumber(n))),
        Just(Place::Aside)
    ];
    let leaf = || (0_u8..9, -9..1_i64, -1..9_i64).prop_map(|(n, from, to)| leaf(n, from * DAY, to * DAY));
    (leaf(), proptest::option::of(leaf()), place, any::<bool>(), any::<bool>()).prop_map(
        |(client, server, place, is_admitted, is_from_signer)| Found {
            client,
            server,
            place,
            is_admitted,
            is_from_signer,
        },
    )
}

fn any_situation() -> impl Strategy<Value = Situation> {
    let standing = prop_oneof![
        4 => Just(Standing::Enrolled),
        1 => proptest::option::of(-2..2_i64)
            .prop_map(|end| Standing::Awaiting { token: end.map(|end| UnixTime::from_s(NOW + end * DAY)) }),
        1 => Just(Standing::Disabled),
        1 => Just(Standing::Revoked),
    ];
    let controller = prop_oneof![Just(ControllerKind::OpenZiti), Just(ControllerKind::Exuvia)];
    let kind = prop_oneof![Just(RouterKind::Edge), Just(RouterKind::Transit), Just(RouterKind::Fabric)];
    let found = proptest::collection::vec(any_found(), 0..5);
    let kept = proptest::option::of((0_u8..9, -9..1_i64, -1..9_i64).prop_map(|(n, a, b)| leaf(n, a * DAY, b * DAY)));
    (controller, kind, standing, any::<bool>(), found, kept).prop_map(
        |(controller, kind, standing, is_connected, found, kept)| Situation {
            now: UnixTime::from_s(NOW),
            controller,
            kind,
            standing,
            is_connected,
            found,
            kept,
        },
    )
}

proptest! {
    /// A person's decision is not undone, and nobody's identity is taken while he uses it.
    #[test]
    fn nothing_is_taken_from_anybody(situation in any_situation()) {
        let plan = situation.plan();
        if matches!(situation.standing, Standing::Disabled | Standing::Revoked) {
            let is_left_alone = matches!(plan, Plan::Stuck(Obstacle::Disabled | Obstacle::Revoked));
            prop_assert!(is_left_alone, "{plan:?}");
        }
        if situation.is_connected {
            let changes_nothing = matches!(plan, Plan::Nothing { .. } | Plan::Stuck(_));
            prop_assert!(changes_nothing, "{plan:?}");
        }
    }

    /// Whatever is chosen will be admitted: its dates hold, and it was signed by the controller or is admitted already.
    #[test]
    fn only_what_can_be_admitted_is_chosen(situation in any_situation()) {
        let now = situation.now;
        let holds = |leaf: &Leaf| leaf.not_before <= now && now <= leaf.not_after;
        match situation.plan() {
            Plan::Nothing { which } | Plan::Use { which, .. } => {
                prop_assert!(situation.found[which].is_admitted && holds(&situation.found[which].client));
            }
            Plan::Vouch { which, .. } => {
                prop_assert!(situation.found[which].is_from_signer && holds(&situation.found[which].client));
            }
            Plan::Fetch { key } => prop_assert!(situation.kept.is_some_and(|leaf| leaf.key == key && holds(&leaf))),
            Plan::Enroll | Plan::ReEnroll | Plan::Stuck(_) => {}
        }
    }

    /// The controller is asked to change nothing while something on the disk is admitted, or can be had for the asking.
    #[test]
    fn the_controller_changes_nothing_that_need_not_change(situation in any_situation()) {
        let holds = |leaf: &Leaf| leaf.not_before <= situation.now && situation.now <= leaf.not_after;
        let has_admitted = situation.found.iter().any(|found| found.is_admitted && holds(&found.client));
        let can_fetch = situation.kept.is_some_and(|leaf| holds(&leaf));
        if situation.standing == Standing::Enrolled && (has_admitted || can_fetch) {
            let changes_it = matches!(situation.plan(), Plan::Vouch { .. } | Plan::Enroll | Plan::ReEnroll);
            prop_assert!(!changes_it, "{situation:?}");
        }
    }
}
