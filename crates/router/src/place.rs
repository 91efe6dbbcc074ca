//! Which router this is and where its state lies, before anything else is known.

use std::path::{Path, PathBuf};

use lifecycle::RouterId;
use store::disk::RealDisk;
use store::identity::{IdentityStore, state_folder};
use store::{StoreError, identity::Notice};

use crate::commit::{Custody, Making, router_of};
use crate::config::{IdentitySource, Projection, RouterConfig};

/// Are copies written to the configured paths? Unless told otherwise, yes: a Go router can take over at any time.
pub(crate) fn is_projected(config: &RouterConfig) -> bool {
    match config.renewal.projection {
        Projection::Auto | Projection::On => true,
        Projection::Off => false,
    }
}

/// The file of `identity.cert`.
pub(crate) fn identity_cert(config: &RouterConfig) -> Option<&Path> {
    match &config.identity.cert {
        IdentitySource::Path(path) => Some(path),
        IdentitySource::Inline(_) | IdentitySource::Engine { .. } => None,
    }
}

/// The folder in which the state folders of all routers lie.
fn base(config: &RouterConfig) -> Option<PathBuf> {
    let nobody = RouterId::new("-");
    let folder = folder_of(config, &nobody)?;
    folder.parent().map(Path::to_owned)
}

/// The state folder of this router; `None` when `identity.cert` is in no file and no folder is configured.
pub(crate) fn folder_of(config: &RouterConfig, router: &RouterId) -> Option<PathBuf> {
    match (identity_cert(config), &config.state) {
        (Some(cert), state) => Some(state_folder(cert, state.as_deref(), router)),
        (None, Some(state)) => Some(state_folder(Path::new(""), Some(state), router)),
        (None, None) => None,
    }
}

/// Which router the configuration is for: its client leaf says so, else the one state folder that there is.
pub(crate) fn router_id(config: &RouterConfig) -> Option<RouterId> {
    let text = match &config.identity.cert {
        IdentitySource::Path(path) => std::fs::read(path).ok(),
        IdentitySource::Inline(pem) => Some(pem.as_str().as_bytes().to_vec()),
        IdentitySource::Engine { .. } => None,
    };
    if let Some(router) = text.as_deref().and_then(router_of) {
        return Some(router);
    }
    let mut found = std::fs::read_dir(base(config)?)
        .ok()?
        .filter_map(Result::ok)
        .filter(|entry| entry.path().join("generations").is_dir())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter_map(|name| decoded(&name));
    let only = found.next()?;
    found.next().is_none().then_some(only)
}

/// What is there and may not be looked at: `identity.cert`, or the folder of the state folders. Unreadable is not absent.
pub(crate) fn unreadable(config: &RouterConfig) -> Option<(PathBuf, std::io::Error)> {
    let is_there = |error: &std::io::Error| {
        !matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
    };
    if let Some(path) = identity_cert(config)
        && let Err(error) = std::fs::read(path)
        && is_there(&error)
    {
        return Some((path.to_owned(), error));
    }
    let folder = base(config)?;
    let error = std::fs::read_dir(&folder).err().filter(is_there)?;
    Some((folder, error))
}

/// The id that a state folder's name stands for.
fn decoded(name: &str) -> Option<RouterId> {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let Some((&byte, next)) = rest.split_first() {
        rest = next;
        if byte == b'%' {
            let code = std::str::from_utf8(next.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(code, 16).ok()?);
            rest = next.get(2..)?;
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok().filter(|id| !id.is_empty()).map(RouterId::new)
}

/// Opens the store and takes its lock.
///
/// # Errors
/// [`StoreError::Busy`] when another process has it.
pub(crate) fn open(config: &RouterConfig, folder: &Path) -> Result<(Custody, Vec<Notice>), StoreError> {
    let holder = format!("exuvia router, pid {}", std::process::id());
    let (store, notices) = IdentityStore::open(RealDisk, folder, &holder).map_err(|(error, _)| error)?;
    let making = Making {
        rekey: config.renewal.rekey,
        is_projected: is_projected(config),
        has_server_key: config.identity.server_key.is_some(),
    };
    Ok((Custody::new(store, making), notices))
}

/// What a notice of the store means to an operator.
pub(crate) fn spell_notice(notice: &Notice) -> String {
    match notice {
        Notice::LocksUnsupported(_) => {
            "this file system has no locks: see to it yourself that only one router process uses the identity"
                .to_owned()
        }
        Notice::WideMode(mode) => {
            format!("the state folder has mode {:o}: others can reach into it; set it to 700", mode & 0o7777)
        }
        Notice::ForeignOwner(user) => format!("the state folder belongs to user {user}"),
        Notice::CannotMake(error) => {
            format!("the state folder cannot be made: {}; {}", crate::commit::chain_text(error), error.hint())
        }
    }
}
