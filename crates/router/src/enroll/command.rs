//! `exuvia router enroll`: the whole way from a token to an identity at its place, or handed to the daemon that holds the lock.

use lifecycle::renewal::Storage;
use lifecycle::{GenerationNumber, RouterId};
use store::StoreError;
use tokio::task::block_in_place;

use super::{EnrollError, begin, finish, guard, introduce, key_at_hand, requests, write_endpoints};
use crate::admin::{self, AdminError, Answer};
use crate::commit::chain_text;
use crate::config::RouterConfig;
use crate::control::Directory;
use crate::paths::{ConfiguredPaths, Finding};
use crate::place;

/// What became of an enrollment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enrolled {
    /// Who the router is.
    pub router: RouterId,
    /// The generation that was made; `None` when the running daemon did it.
    pub generation: Option<GenerationNumber>,
    /// The state folder.
    pub state_folder: std::path::PathBuf,
    /// What did not work and does no harm.
    pub warnings: Vec<String>,
}

/// Why it did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum EnrollFailure {
    /// The enrollment itself.
    #[error(transparent)]
    Enroll(#[from] EnrollError),
    /// Nowhere to keep anything.
    #[error("`identity.cert` is in no file, and no state folder is configured")]
    NoPlace,
    /// The store.
    #[error("the identity store cannot be used")]
    Store(#[from] StoreError),
    /// Nowhere to keep who can be asked. Nothing was stored, so the same token may be used again.
    #[error("cannot write the endpoints file `{path}`, and no other address of a controller is known")]
    Endpoints {
        /// Which file.
        path: String,
        /// What the kernel says.
        #[source]
        source: std::io::Error,
    },
    /// A daemon has the lock, and does not answer.
    #[error("the running router cannot be asked to enroll")]
    Daemon(#[from] AdminError),
    /// The daemon tried.
    #[error("the running router did not enroll: {error}")]
    ByDaemon {
        /// What happened.
        error: String,
        /// What to do.
        hint: String,
    },
}

impl EnrollFailure {
    /// What a person can do about it.
    pub fn hint(&self) -> &str {
        match self {
            Self::Enroll(error) => error.hint(),
            Self::NoPlace => "put the identity into files, or name a folder: `exuvia: {state: DIR}`",
            Self::Store(error) => error.hint(),
            Self::Endpoints { .. } => {
                "make its folder writable, or write `ctrl: {endpoint: \"tls:HOST:PORT\"}`, and enroll again with the same token"
            }
            Self::Daemon(_) => "stop the running router and enroll again",
            Self::ByDaemon { hint, .. } => hint,
        }
    }
}

/// Enrolls. May be repeated after any failure. `force` = replace another router's identity at the configured paths.
///
/// # Errors
/// [`EnrollFailure`].
pub async fn enroll(config: &RouterConfig, jwt: &str, force: bool) -> Result<Enrolled, EnrollFailure> {
    let introduction = introduce(jwt).await?;
    let router = introduction.token.router.clone();
    if !force {
        guard(config, &router)?;
    }
    let folder = place::folder_of(config, &router).ok_or(EnrollFailure::NoPlace)?;
    let (mut custody, notices) = match block_in_place(|| place::open(config, &folder)) {
        Ok(opened) => opened,
        Err(StoreError::Busy { .. }) => return hand_over(config, jwt, force, router, folder).await,
        Err(error) => return Err(error.into()),
    };
    let mut warnings: Vec<String> = notices.iter().map(place::spell_notice).collect();
    let found = block_in_place(|| custody.load(Storage::Writable))?;
    let key = if force { None } else { key_at_hand(config)? };
    let number = block_in_place(|| begin(&mut custody, found.manifest, config.renewal.rekey, key))?;
    let requests = requests(&custody, number, &router, &config.csr)?;
    let enrollment = introduction.post(&requests).await?;
    // Before the leaves are stored: until then the same token may be used again, and without an address nobody could be asked.
    if let Err(source) = write_endpoints(&config.control.endpoints_file, &config.control.endpoints, &introduction.token)
    {
        let path = config.control.endpoints_file.display().to_string();
        if !knows_controllers(config) {
            return Err(EnrollFailure::Endpoints { path, source });
        }
        warnings.push(format!("the endpoints file `{path}` was not written: {source}"));
    }
    // What is durable now, not what was before the keys were made.
    let manifest = custody.store().manifest().cloned().unwrap_or_default();
    let manifest = block_in_place(|| finish(&mut custody, manifest, number, &router, &enrollment))?;

    // From here on the identity is safe; whatever fails now is made up for by the next start.
    let mut paths = ConfiguredPaths::new(&config.identity, place::is_projected(config), false);
    if let Finding::Projected(record) = block_in_place(|| paths.project(&mut custody, &manifest, number, false)) {
        let mut manifest = manifest.clone();
        manifest.projection = Some(record);
        if let Err(error) = block_in_place(|| custody.commit(lifecycle::renewal::Barrier::Manifest(manifest))) {
            warnings.push(format!("the projection was not recorded: {}", chain_text(&error)));
        }
    } else if place::is_projected(config) {
        warnings
            .push("the files at the configured paths were not written; the router writes them when it runs".to_owned());
    }
    // It belongs to the former identity.
    let _ = std::fs::remove_file(&config.data_model_cache);
    custody.close();
    Ok(Enrolled { router, generation: Some(number), state_folder: folder, warnings })
}

/// Would a start find an address without what the token says?
fn knows_controllers(config: &RouterConfig) -> bool {
    Directory::open(&config.control.endpoints_file, &config.control.endpoints)
        .is_ok_and(|(directory, _)| !directory.entries().is_empty())
}

async fn hand_over(
    config: &RouterConfig,
    jwt: &str,
    force: bool,
    router: RouterId,
    state_folder: std::path::PathBuf,
) -> Result<Enrolled, EnrollFailure> {
    let paths = admin::socket_paths(config.admin_socket.as_deref(), &state_folder);
    let mut client = admin::Client::connect(&paths).await?;
    match client.enroll(jwt, force).await? {
        Answer::Failed { error, hint } => Err(EnrollFailure::ByDaemon { error, hint }),
        Answer::Done | Answer::Status(_) | Answer::Began { .. } | Answer::NotBegun { .. } | Answer::Deferred { .. } => {
            Ok(Enrolled { router, generation: None, state_folder, warnings: Vec::new() })
        }
    }
}
