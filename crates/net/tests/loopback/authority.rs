//! Certificates for one test.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lifecycle::{GenerationNumber, UnixTime};
use net::credentials::{CredentialParts, Credentials, CredentialsError, CredentialsSlot};
use pki::{Chain, Issuer, KeyKind, PrivateKey, Profile, Sans, Subject, TrustBundle, Validity};

/// One CA and what it signs.
pub(crate) struct Authority {
    issuer: Issuer,
}

/// Both leaves and the key of one generation.
pub(crate) struct Generation {
    pub(crate) key: PrivateKey,
    pub(crate) client: Chain,
    pub(crate) server: Chain,
    pub(crate) bundle: TrustBundle,
}

pub(crate) fn now() -> UnixTime {
    let ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    UnixTime::from_ms(i64::try_from(ms).unwrap())
}

pub(crate) fn key() -> PrivateKey {
    PrivateKey::generate(KeyKind::P256).unwrap()
}

/// `from` to `to` seconds from now.
pub(crate) fn lasting(from: i64, to: i64) -> Validity {
    let at = |s: i64| UnixTime::from_s(now().as_s() + s);
    Validity { not_before: at(from), not_after: at(to), issuer_ends_soon: None }
}

impl Authority {
    pub(crate) fn new() -> Self {
        Self { issuer: pki::new_root("test root", key(), &lasting(-100_000, 100_000)).unwrap() }
    }

    pub(crate) fn bundle(&self) -> TrustBundle {
        TrustBundle::new([self.issuer.certificate().clone()]).unwrap()
    }

    pub(crate) fn leaf(&self, id: &str, key: &PrivateKey, profile: Profile, validity: &Validity) -> Chain {
        let sans = match profile {
            Profile::Client => Sans::default(),
            Profile::Server => Self::loopback(),
        };
        self.leaf_for(id, key, profile, &sans, validity)
    }

    pub(crate) fn loopback() -> Sans {
        Sans {
            dns: vec!["localhost".to_owned()],
            ips: vec!["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()],
            ..Sans::default()
        }
    }

    pub(crate) fn leaf_for(
        &self,
        id: &str,
        key: &PrivateKey,
        profile: Profile,
        sans: &Sans,
        validity: &Validity,
    ) -> Chain {
        let subject = Subject::common_name(id).unwrap();
        self.issuer.issue_for(key.public(), &subject, sans, profile, validity).unwrap()
    }

    pub(crate) fn generation(&self, id: &str, validity: &Validity) -> Generation {
        let key = key();
        let client = self.leaf(id, &key, Profile::Client, validity);
        let server = self.leaf(id, &key, Profile::Server, validity);
        Generation { key, client, server, bundle: self.bundle() }
    }

    pub(crate) fn credentials(&self, id: &str, number: u64) -> Arc<Credentials> {
        Arc::new(self.generation(id, &lasting(-60, 3600)).load(number).unwrap())
    }

    pub(crate) fn slot(&self, id: &str) -> Arc<CredentialsSlot> {
        CredentialsSlot::new(self.credentials(id, 1))
    }
}

impl Generation {
    pub(crate) fn load(&self, number: u64) -> Result<Credentials, CredentialsError> {
        Credentials::new(CredentialParts {
            generation: GenerationNumber(number),
            client: &self.client,
            client_key: &self.key,
            server: &self.server,
            server_key: &self.key,
            bundle: &self.bundle,
        })
    }
}

/// Far longer than anything on a loopback takes; only a hang gets there.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
