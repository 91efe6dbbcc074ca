//! Any sequence of inputs over any stretch of time: what must hold after every single one.

use std::collections::BTreeSet;

use lifecycle::issuance::{
    Admitted, Answer, Asked, CONFIRMED_MAX, Epoch, FROZEN_MAX, Input, LeafSeq, LeafStage, PENDING_MAX,
    PREDECESSORS_MAX, Record, Standing,
};
use lifecycle::{Leaf, UnixTime};
use proptest::prelude::*;
use proptest::sample::Index;

use crate::world::{
    DAY_S, Desk, FAR, HOUR_S, LIFE_S, asked, enroll, leaf, number, policy, request, server, store_enrolled, token,
    voucher,
};

/// One thing that happens. An [`Index`] picks among all leaves, tokens or requests that there ever were.
#[derive(Clone, Debug)]
enum Act {
    Wait(i64),
    Hello(Index),
    /// Of a leaf that the register never held.
    StrangeHello,
    Request {
        keys: u64,
        is_stale: bool,
    },
    /// A signer is done with one of the requests that were answered with `Sign`.
    Store(Index),
    Confirm {
        leaf: Index,
        is_stale: bool,
    },
    Enroll {
        token: Index,
        keys: u64,
    },
    ReEnroll,
    Revoke,
    SetDisabled(bool),
    Readmit(Index),
    /// The operator vouches for a leaf by name.
    Vouch(Index),
    /// A leaf that was refused, with its name.
    Claim(Index),
    DismissFork,
    /// The register is lost and comes back from a copy of this very moment.
    Restore,
}

fn act() -> impl Strategy<Value = Act> {
    let wait =
        prop_oneof![Just(1), Just(HOUR_S - 1), Just(HOUR_S + 1), Just(DAY_S), Just(30 * DAY_S), Just(50 * DAY_S)];
    let index = any::<Index>;
    prop_oneof![
        6 => wait.prop_map(Act::Wait),
        9 => index().prop_map(Act::Hello),
        1 => Just(Act::StrangeHello),
        6 => (1..4_u64, prop::bool::weighted(0.1)).prop_map(|(keys, is_stale)| Act::Request { keys, is_stale }),
        6 => index().prop_map(Act::Store),
        6 => (index(), prop::bool::weighted(0.1)).prop_map(|(leaf, is_stale)| Act::Confirm { leaf, is_stale }),
        3 => (index(), 1..3_u64).prop_map(|(token, keys)| Act::Enroll { token, keys }),
        1 => Just(Act::ReEnroll),
        1 => Just(Act::Revoke),
        1 => any::<bool>().prop_map(Act::SetDisabled),
        1 => index().prop_map(Act::Readmit),
        1 => index().prop_map(Act::Vouch),
        2 => index().prop_map(Act::Claim),
        1 => Just(Act::DismissFork),
        1 => Just(Act::Restore),
    ]
}

/// Everything that was ever made, beside the record that may have forgotten it.
struct World {
    desk: Desk,
    leaves: Vec<Leaf>,
    signing: Vec<(Epoch, Asked)>,
    tokens: u8,
    seqs: BTreeSet<LeafSeq>,
}

impl World {
    fn new() -> Self {
        let mut world = Self { desk: Desk::new(), leaves: vec![], signing: vec![], tokens: 1, seqs: BTreeSet::new() };
        // Most runs should be about renewals.
        world.step(enroll(1, 1));
        let born_s = world.desk.now_s();
        world.step(store_enrolled(1, 1, 1, born_s));
        world.leaves.push(leaf(1, born_s));
        world
    }

    fn act(&mut self, act: Act) {
        let epoch = self.desk.epoch();
        let of = |is_stale: bool| Epoch(epoch.0 - u64::from(is_stale));
        let (now_s, next) = (self.desk.now_s(), self.leaves.len() as u64 + 1);
        let pick = |index: &Index| self.leaves.get(index.index(self.leaves.len())).copied();
        match act {
            Act::Wait(s) => {
                self.desk.later(s);
                self.check_state();
            }
            Act::Restore => self.desk.record.restored_from = Some(self.desk.now.wall),
            Act::Hello(index) => {
                let leaf = pick(&index).expect("there is one");
                self.step(Input::hello(leaf));
            }
            Act::StrangeHello => {
                let strange = leaf(next, now_s - 60 * DAY_S);
                self.leaves.push(strange);
                self.step(Input::hello(strange));
            }
            Act::Request { keys, is_stale } => {
                if self.step(request(of(is_stale), keys)) == Answer::Sign {
                    self.signing.push((of(is_stale), asked(keys)));
                }
            }
            Act::Store(index) => {
                if self.signing.is_empty() {
                    return;
                }
                let (epoch, asked) = self.signing.swap_remove(index.index(self.signing.len()));
                self.leaves.push(leaf(next, now_s));
                self.step(Input::Store { epoch, asked, client: leaf(next, now_s), server: server(next, now_s) });
            }
            Act::Confirm { leaf, is_stale } => {
                let fingerprint = pick(&leaf).expect("there is one").fingerprint;
                self.step(Input::Confirm { epoch: of(is_stale), fingerprint });
            }
            Act::Enroll { token, keys } => {
                let token = u8::try_from(token.index(usize::from(self.tokens))).unwrap() + 1;
                if self.step(enroll(token, keys)) == Answer::Sign {
                    self.leaves.push(leaf(next, now_s));
                    self.step(store_enrolled(token, keys, next, now_s));
                }
            }
            Act::ReEnroll => {
                self.tokens += 1;
                self.step(Input::ReEnroll { token: token(self.tokens, now_s) });
            }
            Act::Revoke => drop(self.step(Input::Revoke)),
            Act::SetDisabled(disabled) => drop(self.step(Input::SetDisabled(disabled))),
            Act::DismissFork => drop(self.step(Input::DismissFork)),
            Act::Readmit(index) => {
                let leaf = pick(&index).expect("there is one");
                self.step(Input::Readmit { leaf });
            }
            Act::Vouch(index) => {
                let leaf = pick(&index).expect("there is one");
                self.step(Input::Vouch { voucher: voucher(name(&leaf)) });
            }
            Act::Claim(index) => {
                let leaf = pick(&index).expect("there is one");
                self.step(Input::Claim { leaf, voucher: voucher(name(&leaf)) });
            }
        }
    }

    fn step(&mut self, input: Input) -> Answer {
        let (before, admitted) = (self.desk.record.clone(), self.desk.set());
        let answer = self.desk.give(input.clone());
        let after = &self.desk.record;
        check_answer(&self.desk, &input, answer);
        check_positions(&mut self.seqs, &before, after);
        check_set(&before, &admitted, &self.desk, &input);
        if stale(&before, &input) {
            assert_eq!(&before, after, "a channel of an older epoch changes nothing");
        }
        if before.last_used != after.last_used {
            let may = matches!(
                input,
                Input::Use { .. }
                    | Input::Readmit { .. }
                    | Input::Claim { .. }
                    | Input::ReEnroll { .. }
                    | Input::Revoke
            );
            assert!(may, "{input:?} changed the leaf last used");
        }
        self.check_state();
        answer
    }

    fn check_state(&self) {
        let Desk { record, now, .. } = &self.desk;
        let set = self.desk.set();
        if record.standing != Standing::Active {
            assert!(set.is_empty());
        }
        if let Some(last) = record.last_used {
            let last = record.leaf_at(last.seq).expect("the leaf last used is never forgotten");
            assert_eq!(last.stage, LeafStage::Used);
            let is_in_dates = last.client.not_before <= now.wall && !last.client.is_expired(now.wall);
            if record.standing == Standing::Active && is_in_dates {
                assert!(set.contains(&number(&last.client)), "the leaf last used is admitted until it expires");
            }
            assert!(record.token.is_none(), "the token is spent");
        }
        let used = record.last_used.map_or(LeafSeq(0), |last| last.seq);
        let newer = |stage| record.leaves.iter().filter(|leaf| leaf.seq > used && leaf.stage == stage).count();
        let enrolled = usize::from(record.token.is_some_and(|token| token.enrolled.is_some()));
        assert!(newer(LeafStage::Pending) <= PENDING_MAX + enrolled);
        assert!(newer(LeafStage::Confirmed) <= CONFIRMED_MAX + enrolled);
        // While there may be two holders nothing is retired, and at some point nothing is issued either.
        let frozen = if record.fork.is_some() { FROZEN_MAX } else { 0 };
        assert!(record.leaves.len() <= PREDECESSORS_MAX + 1 + CONFIRMED_MAX + PENDING_MAX + enrolled + frozen);
        for leaf in &record.leaves {
            let link = record.check_link(*now, &policy(), leaf.client.fingerprint);
            let outcome = record.step(*now, &policy(), Input::hello(leaf.client));
            let hello = outcome.settle(|_| Ok::<(), ()>(())).unwrap();
            assert_eq!(link.is_ok(), matches!(hello, Answer::Admit(_)), "links and hellos see one admitted set");
        }
    }
}

/// What an operator names this leaf by.
fn name(leaf: &Leaf) -> u8 {
    u8::try_from(number(leaf)).expect("a run makes fewer leaves")
}

fn stale(before: &Record, input: &Input) -> bool {
    match input {
        Input::Request { epoch, .. } | Input::Store { epoch, .. } | Input::Confirm { epoch, .. } => {
            *epoch != before.epoch
        }
        _ => false,
    }
}

/// What is said is true of what is stored.
fn check_answer(desk: &Desk, input: &Input, answer: Answer) {
    let record = &desk.record;
    match answer {
        Answer::Send(seq) => {
            let sent = record.leaf_at(seq).expect("what is sent is in the record");
            let (Input::Request { asked, .. }
            | Input::Store { asked, .. }
            | Input::Enroll { asked, .. }
            | Input::StoreEnrolled { asked, .. }) = input
            else {
                panic!("{input:?} is answered with leaves")
            };
            assert_eq!(sent.asked, *asked, "nobody gets another's leaves");
            if record.standing == Standing::Active && !sent.client.is_expired(desk.now.wall) {
                assert!(desk.set().contains(&number(&sent.client)), "what is sent is admitted");
            }
        }
        Answer::Admit(Admitted { seq, epoch }) => {
            let (Input::Use { leaf, .. } | Input::Claim { leaf, .. }) = input else { panic!("{input:?} is admitted") };
            assert_eq!(record.leaf_at(seq).expect("it is known").client, *leaf);
            assert_eq!(epoch, record.epoch);
            assert!(record.last_used.expect("it was used").seq >= seq, "the use is durable before the Result");
        }
        Answer::Confirmed(seq) => {
            let confirmed = record.leaf_at(seq).expect("it is known");
            assert_ne!(confirmed.stage, LeafStage::Pending);
            assert!(
                desk.set().contains(&number(&confirmed.client)),
                "who throws the old leaf away can use the new one"
            );
        }
        _ => {}
    }
}

fn check_positions(seqs: &mut BTreeSet<LeafSeq>, before: &Record, after: &Record) {
    assert!(after.epoch >= before.epoch, "epochs never go back");
    assert!(after.last_seq >= before.last_seq);
    assert!(after.leaves.is_sorted_by(|a, b| a.seq < b.seq));
    let fingerprints: BTreeSet<_> = after.leaves.iter().map(|leaf| leaf.client.fingerprint).collect();
    assert_eq!(fingerprints.len(), after.leaves.len(), "no leaf is there twice");
    for new in after.leaves.iter().filter(|leaf| before.leaf_at(leaf.seq).is_none()) {
        assert!(new.seq <= after.last_seq && seqs.insert(new.seq), "positions are never used twice");
    }
}

/// Who may make the admitted set smaller or greater, in the instant of the input.
fn check_set(before: &Record, admitted: &[u64], desk: &Desk, input: &Input) {
    let set = desk.set();
    let record = &desk.record;
    let gone: Vec<_> = before
        .leaves
        .iter()
        .filter(|leaf| admitted.contains(&number(&leaf.client)) && !set.contains(&number(&leaf.client)))
        .collect();
    match input {
        Input::ReEnroll { .. } | Input::Revoke => assert!(set.is_empty()),
        Input::SetDisabled(true) | Input::Readmit { .. } => {}
        Input::Use { .. } | Input::Claim { .. } => {
            let last = record.last_used.map(|last| last.seq);
            assert!(gone.is_empty() || before.leaves.len() > PREDECESSORS_MAX, "a use begins an overlap");
            assert!(gone.iter().all(|leaf| Some(leaf.seq) < last));
        }
        // 20302 replaces the oldest of too many pending leaves, 20303 the oldest of too many confirmed ones.
        Input::Store { .. } => assert!(gone.len() <= 1 && gone.iter().all(|leaf| leaf.stage == LeafStage::Pending)),
        Input::Confirm { .. } => {
            let confirmed = admitted.len() > CONFIRMED_MAX;
            assert!(gone.is_empty() || confirmed && gone.len() == 1 && gone[0].stage == LeafStage::Confirmed);
        }
        // What the fork alone had kept goes with it.
        Input::DismissFork => assert!(gone.iter().all(|leaf| Some(leaf.seq) < record.last_used.map(|last| last.seq))),
        Input::Request { .. }
        | Input::Enroll { .. }
        | Input::StoreEnrolled { .. }
        | Input::SetDisabled(false)
        | Input::Vouch { .. } => {
            assert!(gone.is_empty(), "{input:?} removed {gone:?}");
        }
    }
    let came: Vec<_> = set.iter().filter(|n| !admitted.contains(n)).collect();
    match input {
        Input::Store { client, .. } | Input::StoreEnrolled { client, .. } => {
            assert!(came.iter().all(|&&n| n == number(client)));
        }
        Input::Use { leaf, .. } => {
            assert!(came.is_empty() || before.restored_from.is_some() && came == [&number(leaf)]);
        }
        Input::Claim { leaf, voucher } => {
            let is_provable = before.restored_from.is_some() || before.voucher == Some(*voucher);
            assert!(came.is_empty() || is_provable && came == [&number(leaf)], "only what was vouched for");
        }
        Input::Readmit { leaf } => assert!(came.iter().all(|&&n| n == number(leaf)), "one leaf comes back, no other"),
        Input::SetDisabled(false) => {}
        _ => assert!(came.is_empty(), "{input:?} brought {came:?}"),
    }
}

/// What becomes of one renewal of an unmodified Go router.
#[derive(Clone, Copy, Debug)]
enum Luck {
    LeavesLost,
    VerifyLost,
    AnswerLost,
    Written,
}

fn luck() -> impl Strategy<Value = Luck> {
    prop_oneof![Just(Luck::LeavesLost), Just(Luck::VerifyLost), Just(Luck::AnswerLost), Just(Luck::Written)]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_sequence_of_inputs_breaks_the_admitted_set(acts in prop::collection::vec(act(), 1..120)) {
        let mut world = World::new();
        for act in acts {
            world.act(act);
        }
    }

    #[test]
    fn no_run_of_lost_messages_locks_an_unmodified_router_out(
        renewals in prop::collection::vec((luck(), 0..20_i64, any::<bool>()), 1..60)
    ) {
        let mut desk = Desk::in_use();
        let (mut file, mut next) = (leaf(1, 0), 2);
        for (luck, days, reconnects) in renewals {
            let wait = (days * DAY_S).min((file.not_after.as_s() - desk.now_s() - 60).max(0));
            desk.later(wait + 35);
            if file.is_expired(desk.now.wall) {
                break;
            }
            if reconnects {
                prop_assert!(matches!(desk.give(Input::hello(file)), Answer::Admit(_)), "file {file:?}");
            }
            let Answer::Send(seq) = desk.extend(1, next) else { panic!("it is answered") };
            next += 1;
            let sent = desk.record.leaf_at(seq).unwrap().client;
            if matches!(luck, Luck::AnswerLost | Luck::Written) {
                let confirm = Input::Confirm { epoch: desk.epoch(), fingerprint: sent.fingerprint };
                prop_assert_eq!(desk.give(confirm), Answer::Confirmed(seq));
            }
            if matches!(luck, Luck::Written) {
                file = sent;
            }
            let link = desk.record.check_link(desk.now, &policy(), file.fingerprint);
            prop_assert_eq!(link, Ok(()), "file {:?}", file);
        }
    }

    #[test]
    fn a_new_leaf_is_worth_its_signature(used_at_day in 0..200_i64, issuer_days in -10..200_i64) {
        let mut desk = Desk::in_use();
        desk.later(used_at_day * DAY_S);
        let issuer_not_after = UnixTime::from_s(desk.now_s() + issuer_days * DAY_S);
        let ask = Input::Request { epoch: desk.epoch(), asked: asked(2), issuer_not_after };
        let is_long_enough = issuer_days >= 9;
        let outlives = issuer_days > 0 && desk.now_s() + issuer_days * DAY_S > LIFE_S;
        prop_assert_eq!(desk.give(ask) == Answer::Sign, is_long_enough || outlives);
        let far = Input::Request { epoch: desk.epoch(), asked: asked(2), issuer_not_after: FAR };
        prop_assert_eq!(desk.give(far), Answer::Sign);
    }
}
