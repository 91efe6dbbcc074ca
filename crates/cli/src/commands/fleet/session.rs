//! The session file: which controller, whom to trust, and the token. Only its owner may read it.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;

use api::Secret;
use serde::{Deserialize, Serialize};

use crate::exit::{Exit, Failure};
use crate::files::{self, PrivateFile};

const VERSION: u32 = 1;
const BYTES_MAX: u64 = 4 << 20;

/// What a login leaves behind.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::commands) struct Session {
    version: u32,
    /// `https://HOST:PORT`.
    pub(in crate::commands) controller: String,
    /// Whose session it is.
    pub(super) username: String,
    /// The CA certificates that were confirmed, PEM.
    pub(in crate::commands) ca_pem: String,
    /// What later requests carry.
    pub(in crate::commands) token: Secret,
}

impl Session {
    pub(super) fn new(controller: String, username: String, ca_pem: String, token: Secret) -> Self {
        Self { version: VERSION, controller, username, ca_pem, token }
    }

    /// Takes up the session that a login left.
    pub(in crate::commands) fn load(path: &Path) -> Result<Self, Failure> {
        let log_in = "log in with `exuvia fleet login URL`";
        let found = match fs::metadata(path) {
            Ok(found) => found,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let message = format!("no session: there is no `{}`", path.display());
                return Err(Failure::because(Exit::Input, message).hint(log_in));
            }
            Err(error) => {
                let context = format!("cannot read the session from `{}`", path.display());
                return Err(Failure::new(Exit::Input, anyhow::Error::new(error).context(context)).hint(log_in));
            }
        };
        if found.is_file() && found.mode() & 0o077 != 0 {
            let message = format!("others may read or write the session in `{}`", path.display());
            return Err(Failure::because(Exit::Input, message)
                .hint(format!("run `chmod 600 {}`; if somebody else may have read it, log in again", path.display())));
        }
        let text = files::read(path, "session", BYTES_MAX)?;
        let unusable = |why: String| {
            Failure::because(Exit::Input, format!("`{}` is no session: {why}", path.display())).hint(log_in)
        };
        // The parser's own words could quote the token.
        let session: Self = serde_json::from_slice(&text).map_err(|error| {
            unusable(format!("line {}, column {} is not as expected", error.line(), error.column()))
        })?;
        if session.version != VERSION {
            return Err(unusable(format!("it has version {}, this program knows {VERSION}", session.version)));
        }
        Ok(session)
    }

    /// Makes sure that a session can be kept there, before one is begun.
    pub(super) fn prepare(path: &Path) -> Result<PrivateFile, Failure> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|error| {
                let context = format!("cannot make the folder `{}` for the session", folder.display());
                Failure::new(Exit::Failed, anyhow::Error::new(error).context(context))
                    .hint("name another file with `--session FILE`")
            })?;
        }
        PrivateFile::prepare(path)
    }

    /// Keeps it.
    pub(super) fn store(&self, file: PrivateFile) -> Result<(), Failure> {
        let json = serde_json::to_vec_pretty(self).map_err(|error| Failure::new(Exit::Internal, error))?;
        file.write(&zeroize::Zeroizing::new(json))
    }
}
