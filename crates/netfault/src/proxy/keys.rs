//! The test's keys: the controller's, to stand in its place, and the routers', to stand in theirs.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use lifecycle::{Fingerprint, GenerationNumber};
use net::credentials::{CredentialParts, Credentials, CredentialsSlot};
use net::peer::PeerCertificates;
use pki::{Certificate, Chain, Issuer, PrivateKey, TrustBundle};
use rustls::sign::CertifiedKey;
use rustls_pki_types::CertificateDer;

use super::locked;

/// Finds the key of a leaf that a router has presented.
pub trait Keys: Send + Sync {
    /// The leaf's chain and key; `None` for a leaf that is not this router's.
    fn of_leaf(&self, leaf: Fingerprint) -> Option<Arc<CertifiedKey>>;

    /// The same for what the router presented in a handshake.
    fn of_peer(&self, peer: &PeerCertificates) -> Option<Arc<CertifiedKey>> {
        self.of_leaf(peer.fingerprint())
    }
}

/// The one key of a router whose every leaf is for it, as OpenZiti's are. Its chain is whatever it presents: the files are
/// rewritten in place, and what the router holds in memory may be in none of them.
#[derive(Clone, Debug)]
pub struct KeyFile(pub PathBuf);

impl Keys for KeyFile {
    fn of_leaf(&self, _: Fingerprint) -> Option<Arc<CertifiedKey>> {
        None
    }

    fn of_peer(&self, peer: &PeerCertificates) -> Option<Arc<CertifiedKey>> {
        let key = PrivateKey::from_pem(&fs::read(&self.0).ok()?).ok()?;
        let leaf = Certificate::from_der(peer.leaf()).ok()?;
        (leaf.facts().key == key.key_id()).then(|| signing(peer.iter().cloned().collect(), &key)).flatten()
    }
}

/// The generations of a real router, read from its state folder when they are needed.
#[derive(Clone, Debug)]
pub struct StateFolder(pub PathBuf);

impl Keys for StateFolder {
    fn of_leaf(&self, leaf: Fingerprint) -> Option<Arc<CertifiedKey>> {
        let generations = fs::read_dir(self.0.join("generations")).ok()?;
        generations.flatten().find_map(|entry| {
            let folder = entry.path();
            let chain = Chain::from_pem(&fs::read(folder.join("client.pem")).ok()?).ok()?;
            if chain.leaf().fingerprint() != leaf {
                return None;
            }
            let key = PrivateKey::from_pem(&fs::read(folder.join("key.pem")).ok()?).ok()?;
            certified(&chain, &key)
        })
    }
}

/// Keys of routers that live in this process.
#[derive(Clone, Default)]
pub struct KnownKeys(Arc<Mutex<Vec<KnownKey>>>);

type KnownKey = (Fingerprint, Arc<CertifiedKey>);

impl KnownKeys {
    /// One more leaf.
    pub fn add(&self, chain: &Chain, key: &PrivateKey) {
        if let Some(certified) = certified(chain, key) {
            locked(&self.0).push((chain.leaf().fingerprint(), certified));
        }
    }
}

impl fmt::Debug for KnownKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KnownKeys({})", locked(&self.0).len())
    }
}

impl Keys for KnownKeys {
    fn of_leaf(&self, leaf: Fingerprint) -> Option<Arc<CertifiedKey>> {
        locked(&self.0).iter().find(|(known, _)| *known == leaf).map(|(_, key)| key.clone())
    }
}

/// A chain with its key, as TLS wants it.
pub(crate) fn certified(chain: &Chain, key: &PrivateKey) -> Option<Arc<CertifiedKey>> {
    signing(chain.to_rustls(), key)
}

fn signing(chain: Vec<CertificateDer<'static>>, key: &PrivateKey) -> Option<Arc<CertifiedKey>> {
    let signing = net::tls::provider().key_provider.load_private_key(key.to_rustls().ok()?).ok()?;
    Some(Arc::new(CertifiedKey::new(chain, signing)))
}

/// Everything that makes a controller itself: what it presents, and what it signs with.
pub struct ControllerKeys {
    /// What it presents to routers.
    pub slot: Arc<CredentialsSlot>,
    /// Its signing CA.
    pub issuer: Issuer,
    /// Whom its routers trust.
    pub bundle: TrustBundle,
}

impl fmt::Debug for ControllerKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ControllerKeys").field("slot", &self.slot).finish_non_exhaustive()
    }
}

/// Why a controller's folder does not give its keys.
#[derive(Debug, thiserror::Error)]
#[error("`{}` does not hold the controller's keys: {why}", .path.display())]
pub struct AuthorityError {
    path: PathBuf,
    why: String,
}

impl ControllerKeys {
    /// From the folder `pki` that `exuvia controller init` makes.
    ///
    /// # Errors
    /// When a file is missing or says something else.
    pub fn from_folder(pki: &Path) -> Result<Self, AuthorityError> {
        let read = |name: &str| {
            let path = pki.join(name);
            fs::read(&path).map_err(|error| AuthorityError { path, why: error.to_string() })
        };
        fn told<T, E: fmt::Display>(pki: &Path, name: &str, made: Result<T, E>) -> Result<T, AuthorityError> {
            made.map_err(|error| AuthorityError { path: pki.join(name), why: error.to_string() })
        }
        let chain = |name: &str| told(pki, name, Chain::from_pem(&read(name)?));
        let key = |name: &str| told(pki, name, PrivateKey::from_pem(&read(name)?));
        let bundle = told(pki, "bundle.pem", TrustBundle::from_pem(&read("bundle.pem")?))?;
        let (client, server, own) = (chain("client.pem")?, chain("server.pem")?, key("key.pem")?);
        let parts = CredentialParts {
            generation: GenerationNumber(1),
            client: &client,
            client_key: &own,
            server: &server,
            server_key: &own,
            bundle: &bundle,
        };
        let credentials = told(pki, "server.pem", Credentials::new(parts))?;
        let signer = told(pki, "signer.pem", Certificate::from_pem(&read("signer.pem")?))?;
        let issuer = Issuer::new(signer, bundle.certificates(), key("signer.key.pem")?);
        let issuer = told(pki, "signer.key.pem", issuer)?;
        Ok(Self { slot: CredentialsSlot::new(Arc::new(credentials)), issuer, bundle })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::time::Duration;

    use lifecycle::UnixTime;
    use pki::{KeyKind, Profile, Sans, Subject, new_root, validity};

    use super::*;

    #[test]
    fn the_one_key_of_a_router_serves_for_whatever_leaf_it_presents_and_for_no_other_routers() {
        let now = UnixTime::from_s(1_800_000_000);
        let lasting = validity(now, Duration::from_secs(86_400), now.plus(Duration::from_secs(90_000))).unwrap();
        let root = new_root("test root", PrivateKey::generate(KeyKind::P256).unwrap(), &lasting).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let presented = |name: &str| {
            let key = PrivateKey::generate(KeyKind::P256).unwrap();
            let path = folder.path().join(name);
            fs::write(&path, key.to_pem().unwrap().as_bytes()).unwrap();
            let subject = Subject::common_name(name).unwrap();
            let chain = root.issue_for(key.public(), &subject, &Sans::default(), Profile::Client, &lasting).unwrap();
            (KeyFile(path), PeerCertificates::from_presented(Some(&chain.to_rustls())).unwrap())
        };
        let (ours, other) = (presented("edge-7"), presented("edge-8"));
        let found = ours.0.of_peer(&ours.1).unwrap();
        assert_eq!(found.cert, ours.1.iter().cloned().collect::<Vec<_>>());
        assert!(ours.0.of_peer(&other.1).is_none());
        assert!(KeyFile(folder.path().join("absent")).of_peer(&ours.1).is_none());
    }
}
