//! One real router of either kind, with its identity in a place that may fail.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use http::Method;
use lifecycle::{Fingerprint, UnixTime};
use netfault::network::peers::{Habit, Identity, Restart, RouterModel};
use netfault::proxy::{Keys, KnownKeys, Level, Path as Way};
use pki::{Chain, PrivateKey, Profile, Sans, Subject as Name, Validity};
use rig::{Ran, ZitiRouter, ZitiRouterKind};
use rustls::sign::CertifiedKey;
use serde_json::{Value, json};

use crate::pairing::Kind;
use crate::place::{self, Place};
use crate::site::Site;

/// A little more than the least time between two attempts that is configured for ours.
pub(crate) const SPACING: Duration = Duration::from_secs(31);
const DAY: Duration = Duration::from_secs(86_400);

/// A router that is enrolled.
#[derive(Debug)]
pub(crate) struct Subject {
    /// Whose router.
    pub(crate) kind: Kind,
    /// Its id.
    pub(crate) id: String,
    /// Its way to the controller.
    pub(crate) way: Arc<Way>,
    /// Where its identity lies.
    pub(crate) place: Place,
    home: PathBuf,
    config: PathBuf,
    keys: Arc<KeysOnDisk>,
    /// SHA-1 fingerprints of the leaves that it had at the beginning.
    first: Mutex<BTreeSet<String>>,
    enrolled_at: Instant,
}

/// How it is set up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    /// Where its identity lies.
    pub(crate) place: place::Kind,
    /// What the proxy looks at.
    pub(crate) level: Level,
    /// Is a renewal due from the beginning?
    pub(crate) is_due: bool,
}

/// A leaf that lies on the disk with its key.
#[derive(Debug)]
pub(crate) struct LeafOnDisk {
    /// The client chain.
    pub(crate) chain: Chain,
    /// Its key.
    pub(crate) key: PrivateKey,
}

impl LeafOnDisk {
    /// As controllers list it.
    pub(crate) fn sha1(&self) -> String {
        self.chain.leaf().fingerprint_sha1().to_string().to_lowercase()
    }
}

impl Subject {
    /// Makes a router known to the controller, configures it as OpenZiti's command does, and enrolls it with its own program.
    ///
    /// # Errors
    /// When it cannot be enrolled.
    pub(crate) fn enrolled(site: &Site, kind: Kind, name: &str, wanted: Wanted) -> Result<Self> {
        let home = site.home.join(name);
        let body = json!({ "name": name, "isTunnelerEnabled": false });
        let made = site.ask(&Method::POST, "/edge/management/v1/edge-routers", Some(&body))?;
        let id = made.pointer("/data/id").and_then(Value::as_str).ok_or_else(|| anyhow!("no id in {made}"))?.to_owned();
        let place = Place::make(wanted.place, &home.join("id"))?;
        let config = configure(site, kind, &home, place.at(), wanted.is_due)?;
        let keys = Arc::new(KeysOnDisk::new(place.at().to_owned()));
        let way = match wanted.level {
            Level::Messages => Way::of_messages(&id, Shared(keys.clone())),
            Level::Bytes => Way::of_bytes(&id),
        };
        let way = site.proxy.add(way);
        let subject =
            Self { kind, id, way, place, home, config, keys, first: Mutex::default(), enrolled_at: Instant::now() };
        subject.enroll(site)?;
        if wanted.is_due && kind == Kind::Stock && site.kind == Kind::Stock {
            subject.shorten(site)?;
        }
        subject.place.settle(&subject.files())?;
        *subject.first_leaves() = subject.leaves().iter().map(LeafOnDisk::sha1).collect();
        Ok(subject)
    }

    fn first_leaves(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.first.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enrolls it with the token that the controller has for it.
    ///
    /// # Errors
    /// When that fails.
    pub(crate) fn enroll(&self, site: &Site) -> Result<()> {
        let view = site.ask(&Method::GET, &format!("/edge/management/v1/edge-routers/{}", self.id), None)?;
        let token = view.pointer("/data/enrollmentJwt").and_then(Value::as_str).context("the router has no token")?;
        let jwt = self.home.join("edge.jwt");
        fs::write(&jwt, token)?;
        fs::set_permissions(&jwt, fs::Permissions::from_mode(0o600))?;
        let command = match self.kind {
            Kind::Stock => {
                let mut command = site.programs.ziti.command(&self.home, ["router", "enroll"])?;
                // Keys of 4096 bits, the default, take seconds each.
                command.arg(&self.config).arg("--jwt").arg(&jwt).args(["--keyAlg", "EC"]);
                command
            }
            Kind::Exuvia => {
                let mut command = site.programs.exuvia.command(&self.home, ["router", "enroll"]);
                command.arg(&self.config).arg("--jwt").arg(&jwt);
                command
            }
        };
        Ran::of(&rig::Direct, command)?.ok().context("enroll")?;
        Ok(())
    }

    /// OpenZiti's controller issues leaves for a year. So that a renewal is due, its CA signs one with six days left for the same key, and
    /// the operator's own command puts it in the place of the other one.
    fn shorten(&self, site: &Site) -> Result<()> {
        let [cert, _, key, _] = self.paths();
        let old = Chain::from_pem(&fs::read(&cert)?)?;
        let key = PrivateKey::from_pem(&fs::read(&key)?)?;
        let now = UnixTime::from_ms(net::clock::wall_ms());
        let life = Validity { not_before: now.minus(DAY * 359), not_after: now.plus(DAY * 6), issuer_ends_soon: None };
        let name = Name::common_name(&self.id)?;
        let chain = site.authority.issuer.issue_for(key.public(), &name, old.leaf().sans(), Profile::Client, &life)?;
        fs::write(&cert, chain.to_pem())?;
        let body = json!({ "fingerprint": chain.leaf().fingerprint_sha1().to_string().to_lowercase() });
        site.ask(&Method::PATCH, &format!("/fabric/v1/routers/{}", self.id), Some(&body))?;
        Ok(())
    }

    /// Waits until a renewal may begin: ours counts an enrollment as an attempt, and leaves [`SPACING`] between two of them.
    pub(crate) fn rest(&self) {
        if self.kind == Kind::Exuvia {
            std::thread::sleep(SPACING.saturating_sub(self.enrolled_at.elapsed()));
        }
    }

    /// `cert`, `server_cert`, `key`, `ca` of its configuration.
    pub(crate) fn paths(&self) -> [PathBuf; 4] {
        ["edge.cert", "edge.server.chain.cert", "edge.key", "edge.cas"].map(|name| self.place.at().join(name))
    }

    /// The same as a list.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        self.paths().into()
    }

    /// The command that runs it.
    ///
    /// # Errors
    /// When a folder cannot be made.
    pub(crate) fn command(&self, site: &Site, flags: &[&str]) -> Result<Command> {
        let mut command = match self.kind {
            Kind::Stock => site.programs.ziti.command(&self.home, ["router", "run", "--log-formatter", "json"])?,
            Kind::Exuvia => site.programs.exuvia.command(&self.home, ["router", "run"]),
        };
        command.arg(&self.config).args(flags);
        Ok(command)
    }

    /// Its `router.yml`.
    pub(crate) fn config(&self) -> &Path {
        &self.config
    }

    /// Where its configuration is.
    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    /// The program that it is.
    pub(crate) fn program<'a>(&self, site: &'a Site) -> &'a Path {
        match self.kind {
            Kind::Stock => site.programs.ziti.path(),
            Kind::Exuvia => site.programs.exuvia.path(),
        }
    }

    /// Every leaf whose key lies beside it, wherever this kind of router looks for them.
    pub(crate) fn leaves(&self) -> Vec<LeafOnDisk> {
        leaves_in(self.place.at())
    }

    /// Has the controller admitted, and the disk kept, a leaf that was not there at the beginning?
    pub(crate) fn has_renewed(&self, admitted: &[String]) -> bool {
        let first = self.first_leaves();
        let kept: BTreeSet<String> = self.leaves().iter().map(LeafOnDisk::sha1).collect();
        admitted.iter().any(|leaf| !first.contains(leaf) && kept.contains(leaf))
    }

    /// Does a leaf lie on the disk that was not there at the beginning?
    pub(crate) fn has_new_leaf(&self) -> bool {
        let first = self.first_leaves();
        self.leaves().iter().any(|leaf| !first.contains(&leaf.sha1()))
    }

    /// What is on the disk now counts as the beginning.
    pub(crate) fn begin_here(&self) {
        let mut first = self.first_leaves();
        *first = self.leaves().iter().map(LeafOnDisk::sha1).collect();
        self.keys.seen.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// When a leaf that was not there at the beginning was first presented to the proxy.
    pub(crate) fn first_presented(&self) -> Option<Instant> {
        let first = self.first_leaves();
        let seen = self.keys.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter().find(|(sha1, _)| !first.contains(sha1)).map(|(_, at)| *at)
    }

    /// Tries every leaf on the disk in a real handshake with the controller; nobody else may use them meanwhile.
    pub(crate) fn handshakes(&self, site: &Site) -> Vec<(String, Restart)> {
        let tried = self.leaves().into_iter().filter_map(|leaf| {
            let sha1 = leaf.sha1();
            let restart = self.handshake(site, leaf).ok()?;
            Some((sha1, restart))
        });
        tried.collect()
    }

    fn handshake(&self, site: &Site, leaf: LeafOnDisk) -> Result<Restart> {
        let now = UnixTime::from_ms(net::clock::wall_ms());
        let life = Validity { not_before: now.minus(DAY), not_after: now.plus(DAY), issuer_ends_soon: None };
        let name = Name::common_name(&self.id)?;
        // The server's half is not judged here; any will do.
        let server =
            site.authority.issuer.issue_for(leaf.key.public(), &name, &Sans::default(), Profile::Server, &life)?;
        let identity = Identity { key: Arc::new(leaf.key), client: leaf.chain, server };
        let model = RouterModel::new(&self.id, Habit::KeepBoth, identity, site.authority.bundle.clone());
        Ok(site.runtime.block_on(model.restarted(site.direct(), Duration::from_secs(20))))
    }
}

/// The file of `ziti create config router edge`, with the identity in another folder. Ours gets a section that only it reads.
fn configure(site: &Site, kind: Kind, home: &Path, place: &Path, is_due: bool) -> Result<PathBuf> {
    let flags = ["--tunnelerMode", "none"];
    let announced = site.announced();
    let router = ZitiRouter::configured(&site.programs.ziti, home, "edge", announced, ZitiRouterKind::Edge, &flags)?;
    let config = router.config().to_owned();
    let text = fs::read_to_string(&config)?;
    let (from, to) = (format!("{}/edge.", home.display()), format!("{}/edge.", place.display()));
    let mut text = text.replace(&from, &to);
    if kind == Kind::Exuvia {
        let due = if is_due { "threshold: 365d, " } else { "" };
        text.push_str(&format!("\nexuvia: {{{due}spacing: 30s}}\n"));
    }
    fs::write(&config, text)?;
    Ok(config)
}

fn leaves_in(place: &Path) -> Vec<LeafOnDisk> {
    let read = |chain: &Path, key: &Path| {
        let chain = Chain::from_pem(&fs::read(chain).ok()?).ok()?;
        let key = PrivateKey::from_pem(&fs::read(key).ok()?).ok()?;
        Some(LeafOnDisk { chain, key })
    };
    let mut found: Vec<LeafOnDisk> = read(&place.join("edge.cert"), &place.join("edge.key")).into_iter().collect();
    for state in fs::read_dir(place.join(".exuvia")).into_iter().flatten().flatten() {
        for generation in fs::read_dir(state.path().join("generations")).into_iter().flatten().flatten() {
            let folder = generation.path();
            found.extend(read(&folder.join("client.pem"), &folder.join("key.pem")));
        }
    }
    found.sort_by_key(LeafOnDisk::sha1);
    found.dedup_by_key(|leaf| leaf.sha1());
    found
}

/// The keys of a router for the proxy: all that ever lay on the disk, also when the file is cut off by now.
#[derive(Debug)]
struct KeysOnDisk {
    place: PathBuf,
    known: KnownKeys,
    /// Leaves that were presented, in SHA-1, in this order.
    seen: Mutex<Vec<(String, Instant)>>,
    names: Mutex<Vec<(Fingerprint, String)>>,
}

impl KeysOnDisk {
    fn new(place: PathBuf) -> Self {
        Self { place, known: KnownKeys::default(), seen: Mutex::default(), names: Mutex::default() }
    }
}

struct Shared(Arc<KeysOnDisk>);

impl Keys for Shared {
    fn of_leaf(&self, leaf: Fingerprint) -> Option<Arc<CertifiedKey>> {
        let keys = &self.0;
        if keys.known.of_leaf(leaf).is_none() {
            for found in leaves_in(&keys.place) {
                keys.known.add(&found.chain, &found.key);
                let mut names = keys.names.lock().unwrap_or_else(PoisonError::into_inner);
                names.push((found.chain.leaf().fingerprint(), found.sha1()));
            }
        }
        let names = keys.names.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, sha1)) = names.iter().find(|(known, _)| *known == leaf) {
            keys.seen.lock().unwrap_or_else(PoisonError::into_inner).push((sha1.clone(), Instant::now()));
        }
        keys.known.of_leaf(leaf)
    }
}
