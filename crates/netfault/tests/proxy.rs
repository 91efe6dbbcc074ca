//! The proxy, and the small peers that the layers must judge rightly: in one process, over real TLS.
#![allow(clippy::panic, clippy::unwrap_used, reason = "the functions beside the tests fail a test this way")]

use std::sync::Arc;
use std::time::Duration;

use lifecycle::{GenerationNumber, UnixTime};
use net::credentials::{CredentialParts, Credentials, CredentialsSlot};
use netfault::network::peers::{Flow, Habit, Identity, Restart, RouterModel, STOCK_LEAF_LIFE, StockController};
use netfault::proxy::{Action, ByteRule, ControllerKeys, Forgery, Message, Mixture, Path, Proxy, Rule, Way};
use pki::{KeyKind, PrivateKey, Profile, Sans, Subject, TrustBundle, new_intermediate, new_root, validity};
use wire::extension::ExtensionVerify;

const ROUTER: &str = "edge-7";
const LIVES: Duration = Duration::from_secs(2);
const COMES_BACK: Duration = Duration::from_secs(60);

fn keys() -> Arc<ControllerKeys> {
    let now = UnixTime::from_ms(net::clock::wall_ms());
    let lasting = |s| validity(now, Duration::from_secs(s), now.plus(Duration::from_secs(90_000_000))).unwrap();
    let key = || PrivateKey::generate(KeyKind::P256).unwrap();
    let root = new_root("test root", key(), &lasting(80_000_000)).unwrap();
    let issuer = new_intermediate(&root, "test signer", key(), &lasting(70_000_000)).unwrap();
    let bundle = TrustBundle::new([root.certificate().clone()]).unwrap();
    let own = key();
    let subject = Subject::common_name("ctrl").unwrap();
    let names = Sans { dns: vec!["localhost".to_owned()], ips: vec!["127.0.0.1".parse().unwrap()], ..Sans::default() };
    let issue = |profile| issuer.issue_for(own.public(), &subject, &names, profile, &lasting(60_000_000)).unwrap();
    let (client, server) = (issue(Profile::Client), issue(Profile::Server));
    let parts = CredentialParts {
        generation: GenerationNumber(1),
        client: &client,
        client_key: &own,
        server: &server,
        server_key: &own,
        bundle: &bundle,
    };
    let slot = CredentialsSlot::new(Arc::new(Credentials::new(parts).unwrap()));
    Arc::new(ControllerKeys { slot, issuer, bundle })
}

struct World {
    proxy: Proxy,
    stock: StockController,
    model: RouterModel,
    path: Arc<Path>,
}

impl World {
    async fn new(habit: Habit, flow: Flow) -> Self {
        Self::with(habit, flow, |model| Path::of_messages(ROUTER, model.keys())).await
    }

    async fn with(habit: Habit, flow: Flow, path: impl FnOnce(&RouterModel) -> Path) -> Self {
        let keys = keys();
        let stock = StockController::start(keys.clone(), flow, STOCK_LEAF_LIFE).await.unwrap();
        let proxy = Proxy::listen(0).await.unwrap();
        proxy.carry(stock.address(), keys.clone());
        let identity = Identity::issued(ROUTER, &keys.issuer).unwrap();
        stock.enroll(ROUTER, identity.client.leaf().fingerprint());
        let model = RouterModel::new(ROUTER, habit, identity, keys.bundle.clone());
        let path = proxy.add(path(&model));
        path.set_process(std::process::id());
        Self { proxy, stock, model, path }
    }

    /// A renewal under this rule, then a restart on a free way: did it renew, and is it locked out?
    async fn meets(&self, rule: Rule) -> (bool, bool) {
        let renewed = self.model.renew(self.proxy.address(), LIVES, || self.path.arm([rule])).await;
        assert!(self.path.struck() > 0, "{rule:?} never struck: {:?}", self.path.seen());
        self.path.pass();
        self.path.sever();
        (renewed, self.restarted().await == Restart::Refused)
    }

    async fn restarted(&self) -> Restart {
        self.model.restarted(self.proxy.address(), COMES_BACK).await
    }
}

fn lost(message: Message) -> Rule {
    Rule::once(message, Action::Drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_20002_locks_out_who_throws_the_new_leaf_away() {
    let world = World::new(Habit::WriteAfterAnswer, Flow::Verified).await;
    assert_eq!(world.meets(lost(Message::Confirmation)).await, (false, true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_20002_locks_out_nobody_who_keeps_both_leaves() {
    let world = World::new(Habit::KeepBoth, Flow::Verified).await;
    assert!(!world.meets(lost(Message::Confirmation)).await.1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_20301_locks_out_only_where_nothing_is_verified() {
    let world = World::new(Habit::WriteOnReceipt, Flow::Unverified).await;
    assert_eq!(world.meets(lost(Message::Certs)).await, (false, true));
    let world = World::new(Habit::WriteAfterAnswer, Flow::Verified).await;
    assert_eq!(world.meets(lost(Message::Certs)).await, (true, false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_sides_see_each_other_and_not_the_proxy() {
    let world = World::new(Habit::WriteAfterAnswer, Flow::Verified).await;
    let first = world.stock.admitted(ROUTER);
    assert!(world.model.renew(world.proxy.address(), LIVES, || world.path.arm([])).await);
    assert_ne!(world.stock.admitted(ROUTER), first, "the controller swapped");
    let seen = world.path.seen();
    for message in [Message::Request, Message::Certs, Message::Verify, Message::Confirmation] {
        assert_eq!(seen.get(&message), Some(&1), "{seen:?}");
    }
    // The new leaf is presented with its own key.
    assert_eq!(world.restarted().await, Restart::Admitted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forged_yes_never_reaches_the_controller() {
    let world = World::new(Habit::WriteAfterAnswer, Flow::Verified).await;
    let first = world.stock.admitted(ROUTER);
    let (renewed, locked_out) = world.meets(Rule::once(Message::Verify, Action::Forge(Forgery::Yes))).await;
    assert_eq!(world.stock.admitted(ROUTER), first);
    // By its own lights it has renewed, and its only file holds a leaf that nobody knows.
    assert!(renewed && locked_out);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_slipped_in_arrives_although_nobody_sent_it() {
    let world = World::new(Habit::WriteAfterAnswer, Flow::Verified).await;
    let renewed = world.model.renew(world.proxy.address(), LIVES, || {
        world.path.arm([]);
        // Ahead of the request, when nothing is pending.
        let verify = ExtensionVerify { client_chain_pem: "of nobody".to_owned() };
        world.path.slip_in(Way::ToController, verify.to_frame());
    });
    assert!(renewed.await);
    let seen = world.path.seen();
    assert_eq!((seen.get(&Message::Verify), seen.get(&Message::Confirmation)), (Some(&1), Some(&2)), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_are_cut_where_the_rule_says() {
    for rule in [ByteRule::ResetAfter(Way::ToController, 700), ByteRule::CloseAfter(Way::ToRouter, 900)] {
        let world = World::with(Habit::WriteAfterAnswer, Flow::Verified, |_| Path::of_bytes(ROUTER)).await;
        world.path.arm_bytes(rule);
        let cut = world.model.restarted(world.proxy.address(), Duration::ZERO).await;
        assert_eq!(cut, Restart::Unanswered, "{rule}");
        assert!(world.path.struck() > 0);
        world.path.pass();
        assert_eq!(world.restarted().await, Restart::Admitted, "{rule}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_partition_held_back_arrives_when_it_heals() {
    let world = World::with(Habit::WriteAfterAnswer, Flow::Verified, |_| Path::of_bytes(ROUTER)).await;
    world.path.arm_bytes(ByteRule::Hold(Some(Way::ToRouter)));
    let heals = async {
        let path = world.path.clone();
        let struck = tokio::task::spawn_blocking(move || path.strikes_within(COMES_BACK));
        assert!(struck.await.unwrap());
        world.path.pass();
    };
    let (restarted, ()) = tokio::join!(world.restarted(), heals);
    assert_eq!(restarted, Restart::Admitted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mixture_is_the_same_for_the_same_seed() {
    let mut struck = Vec::new();
    for _ in 0..2 {
        let world = World::new(Habit::KeepBoth, Flow::Verified).await;
        world.path.mix(Mixture { seed: 7, permille: 1000 });
        let first = world.model.restarted(world.proxy.address(), Duration::ZERO).await;
        assert_ne!(first, Restart::Admitted);
        struck.push(world.path.seen());
    }
    assert_eq!(struck[0], struck[1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ways_at_the_level_of_bytes_beside_it_change_nothing() {
    let world = World::new(Habit::KeepBoth, Flow::Verified).await;
    // One of a process that has ended, one of a process that was never started.
    for pid in [4_000_000, 0] {
        world.proxy.add(Path::of_bytes("somebody else")).set_process(pid);
    }
    assert_eq!(world.restarted().await, Restart::Admitted);
}
