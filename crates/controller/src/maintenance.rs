//! What operators do to a register from the command line: copy it, put a copy back, set a password.

use std::path::{Path, PathBuf};

use lifecycle::{Now, UnixTime};
use store::register::{
    Admin, AuditEntry, AuditQuery, BackupReport, BackupRequest, By, Register, RegisterError, RestoreReport,
    RestoredRouter, SqliteRegister,
};
use zeroize::Zeroizing;

use crate::config::ControllerConfig;
use crate::dice::{self, NoRandomness};
use crate::password::{self, PasswordError};

/// Why a password was not set.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResetError {
    /// The password will not do.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// The register.
    #[error(transparent)]
    Register(#[from] RegisterError),
    /// No randomness.
    #[error(transparent)]
    Randomness(#[from] NoRandomness),
}

/// What a restore did, and what it means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// When the copy was taken.
    pub taken_at: UnixTime,
    /// Where the register that was in place is now.
    pub set_aside: Option<PathBuf>,
    /// Every router that the copy knows, by name.
    pub routers: Vec<RestoredRouter>,
    /// Those of them whose renewal fell due after the copy was taken and before now: they may hold leaves that the copy does
    /// not know, which are admitted when they are presented.
    pub may_have_renewed: Vec<RestoredRouter>,
    /// Those whose newest known leaf has expired: either they hold a younger one, or they must be enrolled anew.
    pub lapsed: Vec<RestoredRouter>,
}

/// Copies the register into a new file of mode 0600, whether a controller runs on it or not. Blocks.
///
/// # Errors
/// [`RegisterError`].
pub fn backup(config: &ControllerConfig, to: &Path, overwrite: bool, now: Now) -> Result<BackupReport, RegisterError> {
    let request = BackupRequest { to: to.to_path_buf(), taken_at: now.wall, overwrite };
    store::register::backup(&config.db, &request)
}

/// Puts a copy in the place of the register, which no controller may have open. Blocks.
///
/// # Errors
/// [`RegisterError`]; `InUse` while a controller runs.
pub fn restore(config: &ControllerConfig, from: &Path, now: Now) -> Result<Restored, RegisterError> {
    let RestoreReport { taken_at, set_aside, routers } = store::register::restore(from, &config.db, now.wall)?;
    let of = |wanted: &dyn Fn(UnixTime) -> bool| -> Vec<RestoredRouter> {
        routers.iter().filter(|router| router.newest_not_after.is_some_and(wanted)).cloned().collect()
    };
    // Due at two thirds, give or take the jitter of a twentieth.
    let earliest = config.issuing.leaf_life * 2 / 5;
    let may_have_renewed = of(&|not_after| not_after.minus(earliest) <= now.wall);
    let lapsed = of(&|not_after| not_after < now.wall);
    Ok(Restored { taken_at, set_aside, may_have_renewed, lapsed, routers })
}

/// Sets an administrator's password, and makes the administrator if there is none of that name. Gives the password that was
/// drawn, if none was given. The controller must be stopped; sessions end with it.
///
/// # Errors
/// [`ResetError`]; `InUse` while a controller runs.
pub async fn reset_password(
    config: &ControllerConfig,
    name: Option<&str>,
    given: Option<Zeroizing<String>>,
    now: Now,
) -> Result<Option<Zeroizing<String>>, ResetError> {
    let (password, drawn) = match given {
        Some(password) => (password, None),
        None => {
            let password = Zeroizing::new(format!("{}{}", dice::short_id()?, dice::short_id()?));
            (password.clone(), Some(password))
        }
    };
    let password_hash = password::hash(&password)?;
    let name = name.unwrap_or(&config.admin_username).to_owned();
    let register = SqliteRegister::open(&config.db, now.wall)?;
    let before = register.admin(name.clone()).await?;
    let admin = match before {
        Some(admin) => Admin { password_hash, updated_at: now.wall, ..admin },
        None => Admin { id: dice::short_id()?, name, password_hash, created_at: now.wall, updated_at: now.wall },
    };
    register.put_admin(admin, By { now, actor: "operator".into() }).await?;
    Ok(drawn)
}

/// Every router that presented a leaf which the restored register did not know, and was believed; newest first. Empty if the
/// register was never restored.
///
/// # Errors
/// [`RegisterError`].
pub async fn readmitted(register: &dyn Register) -> Result<Vec<AuditEntry>, RegisterError> {
    let mut found = Vec::new();
    let mut before = None;
    if register.meta().await?.restored_from.is_none() {
        return Ok(found);
    }
    loop {
        let page = register.audit(AuditQuery { before, ..AuditQuery::default() }).await?;
        let Some(oldest) = page.last().map(|entry| entry.seq) else { return Ok(found) };
        before = Some(oldest);
        for entry in page {
            match entry.event.as_str() {
                "readmitted-after-restore" => found.push(entry),
                // Everything before belongs to the copy.
                "restored" => return Ok(found),
                _ => {}
            }
        }
    }
}
