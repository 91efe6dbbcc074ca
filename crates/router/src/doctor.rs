//! `exuvia doctor`: rehearses everything that a renewal needs, and says what to mend.

use std::fmt;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use ::http::{Request, header};
use lifecycle::renewal::Storage;
use lifecycle::{GenerationNumber, UnixTime, recovery};
use net::connect::ConnectError;
use net::http::{HttpClient, HttpError};
use pki::{Chain, Sans};
use serde::{Deserialize, Serialize};
use store::StoreError;
use store::disk::{Disk, FileSystem};
use store::generation::{GenerationFiles, Keys, PrivatePem};
use store::mode::StorageMode;

use crate::commit::{Custody, Whole, chain_text};
use crate::config::{IdentitySource, RouterConfig, RouterKind};
use crate::control::Directory;
use crate::paths::ConfiguredPaths;
use crate::run::{admin_paths, detect, policy_of};
use crate::status::spell_duration;
use crate::{admin, clock, place};

/// Room that a renewal wants, with a margin: two generations and a manifest.
const ROOM_BYTES: u64 = 256 * 1024;
/// Clocks that differ by more than this are told.
const SKEW: Duration = Duration::from_secs(30);
/// Clocks that differ by more than this break things.
const SKEW_FATAL: Duration = Duration::from_secs(300);

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// As it should be.
    Ok,
    /// It works, and should be looked at.
    Warn,
    /// A renewal, or the router, will not work.
    Fail,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What was looked at, as a word.
    pub topic: String,
    /// How bad it is.
    pub level: Level,
    /// What was found.
    pub text: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// Which defects of OpenZiti it is about: `docs/proof/upstream-defects.md`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ids: Vec<String>,
    /// When it will happen, in milliseconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_ms: Option<i64>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = match self.level {
            Level::Ok => "ok  ",
            Level::Warn => "warn",
            Level::Fail => "FAIL",
        };
        write!(f, "{mark}  {:<12} {}", self.topic, self.text)?;
        match &self.hint {
            Some(hint) => write!(f, "\n                    → {hint}"),
            None => Ok(()),
        }
    }
}

/// What was found so far.
#[derive(Debug, Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn ok(&mut self, topic: &str, text: impl Into<String>) {
        self.add(topic, Level::Ok, text, "");
    }

    fn warn(&mut self, topic: &str, text: impl Into<String>, hint: &str) {
        self.add(topic, Level::Warn, text, hint);
    }

    fn fail(&mut self, topic: &str, text: impl Into<String>, hint: &str) {
        self.add(topic, Level::Fail, text, hint);
    }

    fn add(&mut self, topic: &str, level: Level, text: impl Into<String>, hint: &str) {
        let hint = Some(hint.to_owned()).filter(|hint| !hint.is_empty());
        self.0.push(Finding { topic: topic.to_owned(), level, text: text.into(), hint, ids: Vec::new(), at_ms: None });
    }
}

/// Looks at configuration and storage: what `run --check` does. Nothing is sent anywhere.
pub fn check(config: &RouterConfig) -> Vec<Finding> {
    let mut findings = Findings::default();
    look_at_kind(config, &mut findings);
    look_at_disk(config, &mut findings);
    findings.0
}

/// Looks at everything, controllers too.
pub async fn examine(config: &RouterConfig) -> Vec<Finding> {
    let mut findings = Findings::default();
    look_at_kind(config, &mut findings);
    let served = tokio::task::block_in_place(|| look_at_disk(config, &mut findings));
    let by_daemon = look_at_daemon(config, &mut findings).await;
    if let (None, Some(whole)) = (&served, &by_daemon) {
        look_at_leaves(whole, config, &mut findings);
    }
    let served = served.or(by_daemon);
    look_at_controllers(config, served.as_ref(), &mut findings).await;
    findings.0
}

/// OpenZiti's controllers never finish a verified extension of a transit router
/// (`openziti/ziti:controller/model/transit_router_manager.go`).
fn look_at_kind(config: &RouterConfig, findings: &mut Findings) {
    match (config.kind, config.renewal.allow_unverified) {
        (RouterKind::Edge, _) => {}
        (RouterKind::Transit, false) => findings.warn(
            "renewal",
            "this is a transit router: an Exuvia controller renews it, an OpenZiti controller cannot do so safely and is not asked to",
            "on an OpenZiti controller create it as an edge router",
        ),
        (RouterKind::Transit, true) => findings.warn(
            "renewal",
            "this is a transit router and `allowUnverified` is on: on an OpenZiti controller one lost reply locks it out",
            "on an OpenZiti controller create it as an edge router, and take `allowUnverified` out",
        ),
    }
}

/// Answers with the generation that a start would serve.
fn look_at_disk(config: &RouterConfig, findings: &mut Findings) -> Option<Whole> {
    if let Some((key, why)) = config.identity.obstacle() {
        findings.warn("config", format!("`{key}` cannot be renewed where it is"), &why.to_string());
    }
    look_at_key_files(config, findings);
    look_at_names(&crate::enroll::sans_of(&config.csr), config, "csr.sans", findings);
    let Some(router) = place::router_id(config) else {
        if let Some((path, error)) = place::unreadable(config) {
            let text = format!("cannot read `{}`: {error}", path.display());
            findings.fail("identity", text, "run the command as the user to whom the identity belongs");
            return None;
        }
        findings.fail("identity", "this router has no identity yet", "run `exuvia router enroll CONFIG --jwt FILE`");
        return None;
    };
    let Some(folder) = place::folder_of(config, &router) else {
        findings.fail(
            "state",
            "`identity.cert` is in no file, and no state folder is configured",
            "name a folder: `exuvia: {state: DIR}`",
        );
        return None;
    };
    rehearse_projection(config, findings);
    let (mut custody, notices) = match place::open(config, &folder) {
        Ok(opened) => opened,
        Err(error @ StoreError::Busy { .. }) => {
            findings.ok("lock", format!("{error}: it answers for the store itself"));
            return None;
        }
        Err(error) => {
            findings.fail("state", chain_text(&error), error.hint());
            return None;
        }
    };
    for notice in &notices {
        findings.warn("state", place::spell_notice(notice), "");
    }
    if custody.store().is_locked() {
        findings.ok("lock", format!("`{}` can be locked", folder.display()));
    }
    let served = look_at_store(config, &mut custody, findings);
    custody.close();
    served
}

fn look_at_key_files(config: &RouterConfig, findings: &mut Findings) {
    let keys =
        [("identity.key", Some(&config.identity.key)), ("identity.server_key", config.identity.server_key.as_ref())];
    for (name, source) in keys {
        let Some(IdentitySource::Path(path)) = source else { continue };
        match std::fs::metadata(path) {
            Ok(found) if found.permissions().mode() & 0o077 != 0 => findings.warn(
                "permissions",
                format!("`{}` ({name}) may be read by others: mode {:o}", path.display(), found.mode() & 0o7777),
                "set its mode to 600",
            ),
            Ok(_) => findings.ok("permissions", format!("`{}` is private", path.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                findings.warn("permissions", format!("`{}`: {error}", path.display()), "check its folder's permissions")
            }
        }
    }
}

/// Makes, syncs, renames and removes a file where the configured files are.
fn rehearse_projection(config: &RouterConfig, findings: &mut Findings) {
    if !place::is_projected(config) {
        return;
    }
    let Some(folder) = place::identity_cert(config).and_then(Path::parent) else { return };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let (from, to) = (folder.join(".exuvia-doctor-a.tmp"), folder.join(".exuvia-doctor-b.tmp"));
    let rehearsed = (|| {
        let _ = std::fs::remove_file(&from);
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&from)?;
        file.write_all(&[0; 4096])?;
        file.sync_all()?;
        std::fs::rename(&from, &to)?;
        std::fs::remove_file(&to)
    })();
    match rehearsed {
        Ok(()) => findings.ok("rename", format!("files in `{}` can be replaced", folder.display())),
        Err(error) => {
            let _ = std::fs::remove_file(&from);
            findings.warn(
                "rename",
                format!("files in `{}` cannot be replaced by renaming: {error}", folder.display()),
                "let the router's user write this folder, or set `exuvia: {projection: off}`; renewal itself does not need it",
            );
        }
    }
}

fn look_at_store(config: &RouterConfig, custody: &mut Custody, findings: &mut Findings) -> Option<Whole> {
    let mode = detect(custody, config);
    match mode.hint() {
        None => findings.ok("storage", mode.to_string()),
        Some(hint) if mode == StorageMode::Writable => findings.warn("storage", mode.to_string(), hint),
        Some(hint) => findings.fail("storage", format!("{mode}: nothing is renewed"), hint),
    }
    look_at_room(custody, findings);
    let found = match custody.load(Storage::Writable) {
        Ok(found) => found,
        Err(error) => {
            findings.fail("store", chain_text(&error), error.hint());
            return None;
        }
    };
    for damage in custody.damage() {
        findings.fail(
            "store",
            format!("damaged: {damage}"),
            "restore the state folder from a backup; other generations are still used",
        );
    }
    if found.manifest.candidates.is_empty() {
        let paths = ConfiguredPaths::new(&config.identity, false, false);
        return match paths.read(custody) {
            Ok(files) => {
                findings.ok("store", "empty; the first start adopts the identity at the configured paths");
                let whole = Whole::new(GenerationNumber(1), files).ok();
                if let Some(whole) = &whole {
                    look_at_leaves(whole, config, findings);
                }
                whole
            }
            Err(why) => {
                findings.fail(
                    "identity",
                    format!("neither the store nor the configured paths hold an identity: {why}"),
                    "run `exuvia router enroll CONFIG --jwt FILE`",
                );
                None
            }
        };
    }
    let (candidates, now) = (found.manifest.candidates.len(), clock::now());
    let renewal = recovery::recover(now, policy_of(&config.renewal), found)?;
    findings.ok("store", format!("{candidates} generations, phase {}", renewal.phase().name()));
    let whole = custody.whole(renewal.live()).cloned();
    match &whole {
        Some(whole) => look_at_leaves(whole, config, findings),
        None => findings.fail("identity", "the generation to serve cannot be used", "see the damage above"),
    }
    whole
}

fn look_at_room(custody: &mut Custody, findings: &mut Findings) {
    let path = custody.store().path().to_owned();
    let disk = custody.store_mut().disk_mut();
    let Ok(folder) = disk.open_root(&path) else { return };
    if let Ok(FileSystem { free_bytes, .. }) = disk.file_system(&folder) {
        if free_bytes < ROOM_BYTES {
            findings.fail(
                "space",
                format!("only {free_bytes} bytes are free at `{}`", path.display()),
                "free some space; a renewal needs 256 KiB",
            );
        } else {
            findings.ok("space", format!("{} MiB free", free_bytes / 1024 / 1024));
        }
    }
}

fn look_at_leaves(whole: &Whole, config: &RouterConfig, findings: &mut Findings) {
    // Key, leaf and bundle belong together, or there would be no `Whole`.
    findings.ok("keys", "private keys belong to their leaves, and the leaves chain to the bundle");
    let now = clock::wall();
    for (name, leaf) in [("client", whole.credentials.client_leaf()), ("server", whole.credentials.server_leaf())] {
        let end = clock::spell(leaf.not_after);
        if leaf.is_expired(now) {
            findings.fail(
                "dates",
                format!("the {name} leaf ended {end} by this machine's clock"),
                "check the clock; if it is right, re-enroll the router",
            );
        } else if now < leaf.not_before {
            findings.warn(
                "dates",
                format!("the {name} leaf begins only {} by this machine's clock", clock::spell(leaf.not_before)),
                "check the clock",
            );
        } else {
            findings
                .ok("dates", format!("{name} leaf until {end} ({} left)", spell_duration(leaf.not_after.since(now))));
        }
    }
    if let Ok(server) = Chain::from_pem(&whole.files.server) {
        look_at_names(server.leaf().sans(), config, "the server leaf", findings);
    }
}

/// Hosts under which others are told to reach this router must be in its certificate.
fn look_at_names(sans: &Sans, config: &RouterConfig, what: &str, findings: &mut Findings) {
    let names = crate::config::Sans { dns: sans.dns.clone(), ip: sans.ips.clone(), email: Vec::new(), uri: Vec::new() };
    for advertised in &config.advertised_hosts {
        if !names.covers(&advertised.host) {
            findings.warn(
                "names",
                format!("{what} does not cover `{}`, which `{}` advertises", advertised.host, advertised.key),
                "add it to `csr.sans` and renew with `exuvia router renew`",
            );
        }
    }
}

/// Answers with the generation that the daemon serves.
async fn look_at_daemon(config: &RouterConfig, findings: &mut Findings) -> Option<Whole> {
    let Ok(mut client) = admin::Client::connect(&admin_paths(config)).await else {
        findings.warn("daemon", "no router daemon runs here", "start it with `exuvia router run CONFIG`");
        return None;
    };
    let status = match client.status().await {
        Ok(status) => status,
        Err(error) => {
            findings.warn("daemon", chain_text(&error), "look into the daemon's log");
            return None;
        }
    };
    let left = spell_duration(Duration::from_secs(status.lockout_in_s));
    findings.ok("daemon", format!("runs, phase {}, lock-out in {left}", status.phase));
    for damage in &status.damage {
        findings.fail("store", format!("damaged: {damage}"), "restore the state folder from a backup");
    }
    if let Some(found) = &status.locked_out {
        findings.fail("admission", found.what.as_str(), &found.hint);
    }
    if let (Some(hint), true) = (&status.storage_hint, status.storage != "writable") {
        findings.fail("storage", format!("{}: nothing is renewed", status.storage_detail), hint);
    }
    read_served(Path::new(&status.state_folder), GenerationNumber(status.generation))
}

/// The daemon holds the lock, and a generation is never edited: its files can be read beside it.
pub(crate) fn read_served(state: &Path, number: GenerationNumber) -> Option<Whole> {
    let folder = state.join("generations").join(number.to_string());
    let read = |name: &str| std::fs::read(folder.join(name)).ok();
    let keys = Keys { key: PrivatePem::new(read("key.pem")?), server_key: read("server.key").map(PrivatePem::new) };
    let files =
        GenerationFiles { keys, client: read("client.pem")?, server: read("server.pem")?, bundle: read("bundle.pem")? };
    Whole::new(number, files).ok()
}

async fn look_at_controllers(config: &RouterConfig, served: Option<&Whole>, findings: &mut Findings) {
    let directory = match Directory::open(&config.control.endpoints_file, &config.control.endpoints) {
        Ok((directory, source)) => {
            if let crate::config::EndpointsSource::ConfiguredInsteadOf(damage) = source {
                findings.warn(
                    "endpoints",
                    format!("the endpoints file is of no use: {damage}"),
                    "the configured addresses are used; the next start with a controller writes it anew",
                );
            }
            directory
        }
        Err(error) => {
            findings.fail("endpoints", format!("the endpoints file cannot be read: {error}"), "check its permissions");
            return;
        }
    };
    if directory.entries().is_empty() {
        findings.fail("endpoints", "no controller is known", "write `ctrl: {endpoint: \"tls:HOST:PORT\"}`");
    }
    let Some(served) = served else { return };
    for (address, _) in directory.entries().iter().flat_map(|entry| &entry.addresses) {
        look_at_controller(&address.at.to_string(), served, findings).await;
    }
}

/// Shakes hands and asks for the time. No hello: that would disturb the channel of a running daemon.
async fn look_at_controller(at: &str, served: &Whole, findings: &mut Findings) {
    let client = HttpClient::new(served.credentials.trust().clone()).presenting(served.credentials.client().clone());
    let Ok(request) = Request::builder().uri(format!("https://{at}/version")).body(bytes::Bytes::new()) else { return };
    match client.send(request).await {
        Ok(answer) => {
            findings.ok("controller", format!("{at} answers, and its certificate is trusted"));
            let date = answer.headers.get(header::DATE).and_then(|date| date.to_str().ok());
            match date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok()) {
                Some(date) => compare_clocks(at, UnixTime::from_ms(date.timestamp().as_millisecond()), findings),
                None => findings.ok("clock", format!("{at} does not tell its time")),
            }
        }
        Err(HttpError::Connect(ConnectError::Tls { .. })) => {
            findings.ok("controller", format!("{at} speaks TLS, control channels only; its clock cannot be asked"));
        }
        Err(error @ HttpError::Connect(ConnectError::NotTrusted { .. })) => {
            findings.fail(
                "controller",
                chain_text(&error),
                "compare both clocks, and the trust bundle with the controller's CA",
            );
        }
        Err(error @ HttpError::Exchange { .. }) => {
            findings.ok("controller", format!("{at} is trusted; {}", chain_text(&error)));
        }
        Err(error) => {
            findings.fail("controller", chain_text(&error), "check the address, the network and the controller")
        }
    }
}

fn compare_clocks(at: &str, theirs: UnixTime, findings: &mut Findings) {
    let ours = clock::wall();
    // Their date has whole seconds.
    let apart = ours.since(theirs).max(theirs.since(ours));
    let which = if ours > theirs { "ahead of" } else { "behind" };
    let text = format!("this machine's clock is {} {which} that of {at}", spell_duration(apart));
    match apart {
        apart if apart > SKEW_FATAL => findings.fail("clock", text, "set the clock; leaves are judged by it"),
        apart if apart > SKEW => findings.warn("clock", text, "set the clock"),
        _ => findings.ok("clock", format!("this machine and {at} agree on the time")),
    }
}
