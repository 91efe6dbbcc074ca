//! What a controller knows of one router, whichever kind of controller it is.

use api::Secret;
use lifecycle::rescue::{ControllerKind, RouterKind, Standing};
use lifecycle::{RouterId, UnixTime};
use pki::TrustBundle;
use router::rescue::Set;
use serde::Deserialize;

/// One router as its controller knows it.
pub(super) struct Registered {
    pub(super) id: RouterId,
    pub(super) name: String,
    pub(super) controller: ControllerKind,
    pub(super) kind: RouterKind,
    pub(super) standing: Standing,
    pub(super) is_connected: bool,
    /// SHA-1 of the one leaf that OpenZiti admits.
    pub(super) admitted_sha1: Option<String>,
    /// SHA-256 of every leaf that Exuvia admits.
    pub(super) admitted_sha256: Vec<String>,
    /// Leaves of which the controller keeps copies, as PEM.
    pub(super) kept: Vec<String>,
    /// The enrollment token that waits for the router.
    pub(super) token: Option<Secret>,
    /// The CAs that the controller signs with and trusts.
    pub(super) signer: TrustBundle,
    /// The controller's clock.
    pub(super) now: UnixTime,
}

impl Registered {
    /// Would it be admitted, its dates aside?
    pub(super) fn admits(&self, set: &Set) -> bool {
        match self.controller {
            ControllerKind::OpenZiti => {
                let sha1 = set.client_sha1.to_string();
                self.admitted_sha1.as_ref().is_some_and(|admitted| admitted.eq_ignore_ascii_case(&sha1))
            }
            ControllerKind::Exuvia => {
                let sha256 = set.client.fingerprint.to_string();
                self.admitted_sha256.iter().any(|admitted| admitted.eq_ignore_ascii_case(&sha256))
            }
        }
    }
}

/// A router of one of OpenZiti's collections; what is not there is not told there.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Detail {
    pub(super) id: String,
    pub(super) name: String,
    /// Edge and transit routers.
    #[serde(default)]
    pub(super) is_online: bool,
    /// Fabric routers.
    #[serde(default)]
    pub(super) connected: bool,
    pub(super) is_verified: Option<bool>,
    #[serde(default)]
    pub(super) disabled: bool,
    pub(super) fingerprint: Option<String>,
    pub(super) cert_pem: Option<String>,
    pub(super) unverified_cert_pem: Option<String>,
    pub(super) enrollment_jwt: Option<Secret>,
    pub(super) enrollment_expires_at: Option<String>,
}

impl Detail {
    /// As OpenZiti tells it.
    pub(super) fn standing(&self) -> Standing {
        if self.disabled {
            return Standing::Disabled;
        }
        let is_enrolled =
            self.is_verified.unwrap_or(true) && self.fingerprint.as_ref().is_some_and(|text| !text.is_empty());
        if is_enrolled { Standing::Enrolled } else { Standing::Awaiting { token: self.token_ends() } }
    }

    pub(super) fn token_ends(&self) -> Option<UnixTime> {
        self.enrollment_jwt.as_ref()?;
        let ends: jiff::Timestamp = self.enrollment_expires_at.as_ref()?.parse().ok()?;
        Some(UnixTime::from_ms(ends.as_millisecond()))
    }
}
