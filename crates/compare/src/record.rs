//! What a run leaves: one file for each fault and pairing, and one for the figures. The page is made from these alone.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::pairing::Pairing;

/// What became of a router.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// It came back and renewed, without anybody's help but that of a service manager that starts what has ended.
    Recovered,
    /// A leaf on its disk is admitted, but it does not renew, or does not start.
    Stuck,
    /// No leaf on its disk is admitted, or none is left.
    LockedOut,
    /// The fault did not come about, or could not be judged.
    NotTried,
}

impl Verdict {
    /// For the page.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Recovered => "recovered alone",
            Self::Stuck => "stuck",
            Self::LockedOut => "locked out",
            Self::NotTried => "not tried",
        }
    }
}

/// One fault in one pairing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The fault.
    pub(crate) fault: String,
    /// Who.
    pub(crate) pairing: Pairing,
    /// What became of the router.
    pub(crate) verdict: Verdict,
    /// From the end of the fault until it had recovered.
    pub(crate) seconds: Option<f64>,
    /// Why that verdict; empty where it recovered.
    pub(crate) why: String,
    /// Does a plain restart with `--extend` mend what is stuck?
    pub(crate) is_mended_by_restart: Option<bool>,
    /// How often its process was started.
    pub(crate) starts: u32,
    /// Seconds that all of it took.
    pub(crate) took_s: f64,
    /// When, in seconds of the Unix clock.
    pub(crate) at: i64,
    /// The last lines of the router.
    pub(crate) said: String,
    /// The version of the stock peer.
    pub(crate) ziti: String,
}

/// A number of both routers, on one controller.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Figure {
    /// What.
    pub(crate) what: String,
    /// Unit.
    pub(crate) unit: String,
    /// The stock program's.
    pub(crate) stock: f64,
    /// Ours.
    pub(crate) exuvia: f64,
    /// How it was measured.
    pub(crate) how: String,
}

/// All figures of one run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Figures {
    /// In the order of the page.
    pub(crate) rows: Vec<Figure>,
    /// What the machine did meanwhile.
    pub(crate) machine: String,
    /// When, in seconds of the Unix clock.
    pub(crate) at: i64,
}

/// Writes a value as JSON.
///
/// # Errors
/// When the file cannot be written.
pub(crate) fn write<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let text = serde_json::to_string_pretty(value)?;
    // Replaced whole: a run that is broken off leaves none that is cut off.
    let new = path.with_extension("new");
    fs::write(&new, text).with_context(|| format!("cannot write `{}`", new.display()))?;
    fs::rename(&new, path)?;
    Ok(())
}

/// Reads one; `None` where there is none.
///
/// # Errors
/// When it cannot be read, or says something else.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(serde_json::from_str(&text).with_context(|| format!("`{}`", path.display()))?)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read `{}`", path.display())),
    }
}
