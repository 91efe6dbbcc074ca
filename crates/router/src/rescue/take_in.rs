//! Taking what was found into the store, before anything is done because of it.

use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use lifecycle::renewal::{Barrier, Storage};
use lifecycle::{RouterId, rescue};
use store::StoreError;
use store::mode::StorageMode;

use super::{RescueError, Set};
use crate::clock;
use crate::commit::{CommitError, Custody};
use crate::config::{IdentitySource, RouterConfig};
use crate::paths::{ConfiguredPaths, Finding};
use crate::place;
use crate::run::{RunError, detect};

/// Added to the name of a key that would be written over.
const ASIDE: &str = ".before-rescue";

/// Makes these sets generations of the store, durably and in this order, the last one newest. One that is stored already is left as it is.
///
/// # Errors
/// [`RescueError`]; what was durable before still is.
pub fn take_in(config: &RouterConfig, router: &RouterId, sets: &[&Set]) -> Result<(), RescueError> {
    if let Some((key, why)) = config.identity.obstacle() {
        return Err(RescueError::NotInFiles { key: key.to_owned(), why: why.to_string() });
    }
    let folder = place::folder_of(config, router).ok_or(RunError::NoPlace)?;
    let (mut custody, _) = place::open(config, &folder).map_err(RunError::from)?;
    let done = take_all(config, router, sets, &mut custody);
    custody.close();
    done
}

fn take_all(config: &RouterConfig, router: &RouterId, sets: &[&Set], custody: &mut Custody) -> Result<(), RescueError> {
    let mode = detect(custody, config);
    let mut manifest = custody.load(Storage::Writable).map_err(RunError::from)?.manifest;
    let mut newest = None;
    for set in sets {
        let known = manifest.candidates.iter().find(|known| known.client.fingerprint == set.client.fingerprint);
        if let Some(known) = known {
            newest = Some(known.number);
            continue;
        }
        // What is kept where nothing lasts takes the identity with it.
        if let (false, Some(hint)) = (mode == StorageMode::Writable, mode.hint()) {
            tracing::warn!(target: "exuvia::router", "storage is {mode}; {hint}");
        }
        let number = custody.store().next_number();
        let issued = custody.lay_down_foreign(number, set.files.clone())?;
        let step = rescue::take_in(clock::now(), manifest, number, issued);
        manifest = step.settle(|barrier| custody.commit(barrier))?;
        newest = Some(number);
    }
    // Nobody could tell any more whose state folder it is, if several lie there and the configured files name no router.
    if place::router_id(config).as_ref() != Some(router)
        && let Some(number) = newest
    {
        set_key_aside(config, custody)?;
        let mut paths = ConfiguredPaths::new(&config.identity, place::is_projected(config), false);
        if let Finding::Projected(record) = paths.project(custody, &manifest, number, false) {
            manifest.projection = Some(record);
            custody.commit(Barrier::Manifest(manifest))?;
        }
    } else {
        set_key_aside(config, custody)?;
    }
    Ok(())
}

/// Keeps a copy of a configured key that no generation holds, before the loop may write another one over it.
///
/// # Errors
/// [`RescueError::SetAside`].
pub fn set_key_aside(config: &RouterConfig, custody: &Custody) -> Result<(), RescueError> {
    let sources = [Some(&config.identity.key), config.identity.server_key.as_ref()];
    for source in sources.into_iter().flatten() {
        let IdentitySource::Path(path) = source else { continue };
        let Ok(text) = std::fs::read(path) else { continue };
        let text = zeroize::Zeroizing::new(text);
        let is_blank = text.iter().all(|byte| byte.is_ascii_whitespace() || *byte == 0);
        if is_blank || custody.holds_key(&text) {
            continue;
        }
        copy_aside(path, &text).map_err(|source| RescueError::SetAside { path: path.display().to_string(), source })?;
    }
    Ok(())
}

fn copy_aside(path: &Path, text: &[u8]) -> std::io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(ASIDE);
    let made = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&name);
    let mut file = match made {
        Ok(file) => file,
        // An earlier run made one; or it is older, and worth as much.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(()),
        Err(error) => return Err(error),
    };
    let written = file.write_all(text).and_then(|()| file.sync_all());
    if written.is_err() {
        let _ = std::fs::remove_file(&name);
    }
    written
}

impl From<StoreError> for RescueError {
    fn from(error: StoreError) -> Self {
        Self::Commit(CommitError::from(error))
    }
}
