//! What the files and this machine say.

use std::path::{Path, PathBuf};
use std::time::Duration;

use lifecycle::UnixTime;
use pki::{Certificate, Chain, PrivateKey, TrustBundle};
use rustix::time::{ClockId, clock_gettime};
use store::disk::{Disk, FileSystem, RealDisk};
use yaml_serde::Value;

use super::{Access, Facts, Part, ZitiVersion};
use crate::clock;
use crate::config::{RouterConfig, RouterKind, Sans};
use crate::control::Directory;

const KEYS: [(&str, &str); 5] = [
    ("cert", "identity.cert"),
    ("server_cert", "identity.server_cert"),
    ("key", "identity.key"),
    ("server_key", "identity.server_key"),
    ("ca", "identity.ca"),
];

/// Looks; changes nothing. `text` is the configuration as it stands in its file, `config` the same where this program can use it.
pub fn look(text: &str, config: Option<&RouterConfig>, version: ZitiVersion) -> Facts {
    let root: Value = yaml_serde::from_str(text).unwrap_or(Value::Null);
    let identity = root.get("identity");
    let spelled = |name: &str| identity.and_then(|section| section.get(name)).and_then(Value::as_str);
    let parts: Vec<Part> = KEYS.iter().filter_map(|(name, key)| Some(part(key, spelled(name)?))).collect();
    let read = |key: &str| -> Option<Vec<u8>> {
        let at = KEYS.iter().position(|(_, known)| *known == key)?;
        let text = spelled(KEYS.get(at)?.0)?;
        match inline(text) {
            Some(pem) => Some(pem.as_bytes().to_vec()),
            None => std::fs::read(path_of(text)).ok(),
        }
    };
    let chain = |key: &str| Chain::from_pem(&read(key)?).ok();
    let (client, server) = (chain("identity.cert"), chain("identity.server_cert"));
    let bundle = read("identity.ca").and_then(|text| TrustBundle::from_pem(&text).ok());
    let uncovered = match (&server, config) {
        (Some(server), Some(config)) => uncovered(server.leaf(), config),
        _ => Vec::new(),
    };
    let folder = parts.iter().find_map(|part| part.path.as_deref()?.parent().map(Path::to_owned));
    let kind = match config {
        Some(config) => config.kind,
        None if root.get("edge").is_some() => RouterKind::Edge,
        None => RouterKind::Transit,
    };
    let known = config.and_then(|config| {
        Directory::open(&config.control.endpoints_file, &config.control.endpoints).ok().map(|(known, _)| known)
    });
    let controllers = known.map_or(0, |directory| directory.entries().len());
    let unusable = unusable(client.as_ref(), read("identity.key").as_deref());
    Facts {
        now: clock::wall(),
        suspended: suspended(),
        version,
        kind,
        parts,
        unusable,
        issuer_ends: client.as_ref().and_then(|chain| issuer_ends(chain, bundle.as_ref())),
        client: client.map(|chain| chain.leaf().facts()),
        server: server.map(|chain| chain.leaf().facts()),
        anchor_ends: bundle.and_then(|bundle| bundle.certificates().iter().map(Certificate::not_after).min()),
        uncovered,
        controllers,
        free_bytes: folder.and_then(|folder| free_bytes(&folder)),
    }
}

fn part(key: &'static str, spelled: &str) -> Part {
    if inline(spelled).is_some() {
        let access = Access::ReadOnly("it is part of the configuration".to_owned());
        return Part { key, spelled: "pem:…".to_owned(), is_bare: false, path: None, access };
    }
    let path = path_of(spelled);
    // As OpenZiti looks: a bare path is what it makes absolute and opens, whatever the string says.
    let is_bare = !spelled.starts_with("file:") && !spelled.contains("://");
    let access = access(&path);
    Part { key, spelled: spelled.to_owned(), is_bare, path: Some(path), access }
}

fn access(path: &Path) -> Access {
    match std::fs::read(path) {
        Err(error) => return Access::Unreadable(error.to_string()),
        Ok(text) if text.iter().all(|byte| byte.is_ascii_whitespace() || *byte == 0) => {
            return Access::Unreadable("it is empty".to_owned());
        }
        Ok(_) => {}
    }
    match std::fs::OpenOptions::new().read(true).write(true).open(path) {
        Ok(_) => Access::Writable,
        Err(error) => Access::ReadOnly(error.to_string()),
    }
}

fn inline(spelled: &str) -> Option<&str> {
    let begins = spelled.trim_start().starts_with("-----BEGIN");
    spelled.strip_prefix("pem:").or(begins.then_some(spelled))
}

fn path_of(spelled: &str) -> PathBuf {
    let path = match spelled.strip_prefix("file:") {
        Some(rest) => match rest.strip_prefix("//") {
            Some(after) => after.get(after.find('/').unwrap_or(0)..).unwrap_or(after),
            None => rest,
        },
        None => spelled,
    };
    PathBuf::from(path)
}

fn unusable(client: Option<&Chain>, key: Option<&[u8]>) -> Option<String> {
    let Some(chain) = client else { return Some("`identity.cert` holds no certificate".to_owned()) };
    match PrivateKey::from_pem(key?) {
        Ok(key) if key.matches(chain.leaf()) => None,
        Ok(_) => Some("`identity.key` does not belong to `identity.cert`".to_owned()),
        Err(error) => Some(format!("`identity.key`: {error}")),
    }
}

/// When the first certificate on the way from the leaf to its anchor ends.
fn issuer_ends(chain: &Chain, bundle: Option<&TrustBundle>) -> Option<UnixTime> {
    let around = bundle.map(TrustBundle::certificates).unwrap_or_default();
    let mut ends: Option<UnixTime> = None;
    let mut wanted = chain.leaf().issuer_text();
    // Longer chains are refused anyway.
    for _ in 0..8 {
        let mut known = chain.intermediates().iter().chain(around);
        let Some(issuer) = known.find(|one| one.subject_text() == wanted) else { break };
        ends = Some(ends.map_or(issuer.not_after(), |sooner| sooner.min(issuer.not_after())));
        if issuer.is_self_issued() {
            break;
        }
        wanted = issuer.issuer_text();
    }
    ends
}

fn uncovered(server: &Certificate, config: &RouterConfig) -> Vec<(String, String)> {
    let sans = server.sans();
    let names = Sans { dns: sans.dns.clone(), ip: sans.ips.clone(), email: Vec::new(), uri: Vec::new() };
    let hosts = config.advertised_hosts.iter().filter(|advertised| !names.covers(&advertised.host));
    hosts.map(|advertised| (advertised.host.clone(), advertised.key.clone())).collect()
}

fn free_bytes(folder: &Path) -> Option<u64> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let mut disk = RealDisk;
    let opened = disk.open_root(folder).ok()?;
    disk.file_system(&opened).ok().map(|FileSystem { free_bytes, .. }| free_bytes)
}

fn suspended() -> Duration {
    let ms = |clock| {
        let at = clock_gettime(clock);
        let whole = u64::try_from(at.tv_sec).unwrap_or(0).saturating_mul(1000);
        whole.saturating_add(u64::try_from(at.tv_nsec).unwrap_or(0) / 1_000_000)
    };
    Duration::from_millis(ms(ClockId::Boottime).saturating_sub(ms(ClockId::Monotonic)))
}
