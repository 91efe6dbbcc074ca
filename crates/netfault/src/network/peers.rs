//! Small honest peers: how OpenZiti's controller and router do it, and a router that keeps both leaves.
//!
//! They speak through `net` and `wire` over real TLS, so that the proxy treats them exactly as it treats the real programs. Their
//! rules are those of OpenZiti 2.1 as read from its source, as far as a renewal goes; their waits are a hundredth of the real ones.
//! Source: `openziti/ziti:controller/handler_edge_ctrl/extend_enrollment.go`,
//! `openziti/ziti:controller/handler_edge_ctrl/extend_enrollment_verify.go`, `openziti/ziti:controller/handler_ctrl/connect.go`,
//! `openziti/ziti:router/state/extendEnrollmentCerts.go`, `openziti/ziti:router/state/certchecker.go`.

mod controller;
mod router;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use lifecycle::{GenerationNumber, UnixTime};
use net::credentials::{CredentialParts, Credentials};
use pki::{Chain, Issuer, KeyKind, PrivateKey, Profile, Sans, Subject, TrustBundle, validity};

pub use controller::{Flow, StockController};
pub use router::{Habit, Restart, RouterModel};

/// As OpenZiti's controller has it.
pub const STOCK_LEAF_LIFE: Duration = Duration::from_secs(365 * 86_400);

fn now() -> UnixTime {
    UnixTime::from_ms(net::clock::wall_ms())
}

/// A key and the chains that certify it.
#[derive(Clone)]
pub struct Identity {
    /// Its private key.
    pub key: Arc<PrivateKey>,
    /// What is presented when dialing.
    pub client: Chain,
    /// What is presented when accepting.
    pub server: Chain,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Identity({})", self.client.leaf().fingerprint())
    }
}

impl Identity {
    /// A first identity, signed without any exchange.
    ///
    /// # Errors
    /// When the issuer cannot sign.
    pub fn issued(router: &str, issuer: &Issuer) -> anyhow::Result<Self> {
        let key = PrivateKey::generate(KeyKind::P256)?;
        let life = validity(now(), STOCK_LEAF_LIFE, issuer.not_after())?;
        let subject = Subject::common_name(router)?;
        let issue = |profile| issuer.issue_for(key.public(), &subject, &Sans::default(), profile, &life);
        let (client, server) = (issue(Profile::Client)?, issue(Profile::Server)?);
        Ok(Self { key: Arc::new(key), client, server })
    }

    fn credentials(&self, bundle: &TrustBundle) -> anyhow::Result<Arc<Credentials>> {
        let parts = CredentialParts {
            generation: GenerationNumber(1),
            client: &self.client,
            client_key: &self.key,
            server: &self.server,
            server_key: &self.key,
            bundle,
        };
        Ok(Arc::new(Credentials::new(parts).context("a restart cannot load these files")?))
    }
}
