//! The scripts perform the store's calls themselves. Here the router's own code passes the same barriers on the same disk, and every operation must
//! be the same: if `router::commit` changes its order, a script that was not changed with it fails here.

use std::path::Path;
use std::time::Duration;

use lifecycle::UnixTime;
use lifecycle::manifest::{AttemptRecord, Manifest, Origin};
use lifecycle::renewal::{Barrier, Issued, Storage};
use pki::{Issuer, KeyKind, PrivateKey, Profile, Sans, Subject, TrustBundle, Validity, new_root};
use router::commit::{Custody, Making as RouterMaking};
use router::config::Rekey;
use store::disk::{Operation, SimDisk};
use store::identity::IdentityStore;

use crate::scene::{Actor, HOME, Making, STATE, Shown, candidate, number};

/// As a router reserves it.
const MAKING: Making = Making { has_server_key: false, room_bytes: 8 * 1024 };

type Recorded = Vec<(Operation, String)>;

struct Desk {
    custody: Custody<SimDisk>,
    issuer: Issuer,
    bundle_pem: String,
    manifest: Manifest,
}

fn validity() -> Validity {
    let hour = Duration::from_secs(3600);
    let now = UnixTime::from_s(1_800_000_000);
    Validity { not_before: now.minus(hour), not_after: now.plus(48 * hour), issuer_ends_soon: None }
}

impl Desk {
    fn new(has_server_key: bool) -> Self {
        let (mut store, _) = IdentityStore::open(SimDisk::with_folder(HOME), Path::new(STATE), "").unwrap();
        store.disk_mut().record();
        let making = RouterMaking { rekey: Rekey::Always, is_projected: false, has_server_key };
        let issuer = new_root("ca", PrivateKey::generate(KeyKind::P256).unwrap(), &validity()).unwrap();
        let bundle_pem = TrustBundle::new(vec![issuer.certificate().clone()]).unwrap().to_pem();
        let mut custody = Custody::new(store, making);
        custody.load(Storage::Writable).unwrap();
        Self { custody, issuer, bundle_pem, manifest: Manifest::default() }
    }

    fn chain(&self, key: &PrivateKey) -> pki::Chain {
        let subject = Subject::common_name("r1").unwrap();
        self.issuer.issue_for(key.public(), &subject, &Sans::default(), Profile::Client, &validity()).unwrap()
    }

    fn prepare(&mut self, n: u64) {
        self.manifest.last_number = number(n);
        self.manifest.attempt = Some(AttemptRecord { number: number(n), began: UnixTime::from_s(5), failures: 0 });
        let manifest = self.manifest.clone();
        self.custody.commit(Barrier::Prepare { number: number(n), manifest }).unwrap();
    }

    fn stage(&mut self, n: u64) {
        let keys = self.custody.prepared().unwrap();
        let (client, server) = (keys.client.clone(), keys.server.clone());
        let issued = pki::Issued { client: self.chain(&client), server: self.chain(&server) };
        let (client_pem, server_pem) = (issued.client.to_pem(), issued.server.to_pem());
        let bundle = self.bundle_pem.clone();
        let laid =
            self.custody.lay_down(number(n), &issued, client_pem.as_bytes(), server_pem.as_bytes(), bundle.as_bytes());
        let Issued { digest, .. } = laid.unwrap();
        self.manifest.candidates.push(candidate(n, digest, Origin::Renewed));
        let manifest = self.manifest.clone();
        self.custody.commit(Barrier::Stage { number: number(n), manifest }).unwrap();
    }

    fn promote(&mut self, n: u64, dropped: &[u64]) {
        self.manifest.candidate_mut(number(n)).unwrap().first_admitted = Some(UnixTime::from_s(9));
        self.manifest.candidates.retain(|candidate| !dropped.contains(&candidate.number.0));
        self.custody.commit(Barrier::Manifest(self.manifest.clone())).unwrap();
        let dropped: Vec<_> = dropped.iter().copied().map(number).collect();
        self.custody.erase(&dropped).unwrap();
    }

    fn import(&mut self, n: u64) {
        let key = PrivateKey::generate(KeyKind::P256).unwrap();
        let chain = self.chain(&key).to_pem().into_bytes();
        let files = store::generation::GenerationFiles {
            keys: store::generation::Keys {
                key: store::generation::PrivatePem::new(key.to_pem().unwrap().as_bytes().to_vec()),
                server_key: None,
            },
            client: chain.clone(),
            server: chain,
            bundle: self.bundle_pem.clone().into_bytes(),
        };
        let issued = self.custody.lay_down_foreign(number(n), files).unwrap();
        self.manifest.last_number = number(n);
        self.manifest.candidates.push(candidate(n, issued.digest, Origin::Imported));
        self.custody.commit(Barrier::Import { number: number(n), manifest: self.manifest.clone() }).unwrap();
    }

    fn recorded(&self) -> Recorded {
        self.custody.store().disk().recorded().to_vec()
    }
}

fn scripted(has_server_key: bool, act: impl FnOnce(&mut Actor)) -> Recorded {
    let mut disk = SimDisk::with_folder(HOME);
    let making = Making { has_server_key, ..MAKING };
    disk.record();
    let mut actor = Actor::start(disk, making, &Shown::default()).map_err(|(error, _)| error).unwrap();
    // From the same moment on.
    actor.store.disk_mut().record();
    actor.load().unwrap();
    act(&mut actor);
    actor.store.disk().recorded().to_vec()
}

fn assert_same(ours: &Recorded, script: &Recorded) {
    let at = ours.iter().zip(script).position(|(ours, script)| ours != script);
    let at = at.unwrap_or(ours.len().min(script.len()));
    let from = at.saturating_sub(3);
    assert!(
        ours == script,
        "from operation {at} on the router does {:#?} and the script {:#?}",
        ours.iter().skip(from).take(8).collect::<Vec<_>>(),
        script.iter().skip(from).take(8).collect::<Vec<_>>()
    );
    assert!(ours.len() > 20, "{}", ours.len());
}

#[test]
fn an_enrollment_and_three_renewals_are_what_the_scripts_explore() {
    for has_server_key in [false, true] {
        let mut desk = Desk::new(has_server_key);
        for (n, dropped) in [(1, &[][..]), (2, &[]), (3, &[1]), (4, &[2])] {
            desk.prepare(n);
            desk.stage(n);
            desk.promote(n, dropped);
        }
        let script = scripted(has_server_key, |actor| {
            for (n, dropped) in [(1, &[][..]), (2, &[]), (3, &[1]), (4, &[2])] {
                actor.renew(n, dropped).unwrap();
            }
        });
        assert_same(&desk.recorded(), &script);
    }
}

#[test]
fn an_import_is_what_its_script_explores() {
    let mut desk = Desk::new(false);
    desk.prepare(1);
    desk.stage(1);
    desk.promote(1, &[]);
    desk.import(2);
    desk.promote(2, &[1]);
    let script = scripted(false, |actor| {
        actor.renew(1, &[]).unwrap();
        crate::script::import(actor, 2, 1).unwrap();
    });
    assert_same(&desk.recorded(), &script);
}

/// A script that does one thing in another order is noticed.
#[test]
fn a_script_with_two_operations_swapped_is_told_apart() {
    let mut desk = Desk::new(false);
    desk.prepare(1);
    desk.stage(1);
    desk.promote(1, &[]);
    let script = scripted(false, |actor| {
        actor.prepare(1).unwrap();
        actor.promote(1, &[]).unwrap();
        actor.stage(1).unwrap();
    });
    assert_ne!(desk.recorded(), script);
}
