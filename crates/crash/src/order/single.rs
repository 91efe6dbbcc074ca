//! Orders that replace plain files: OpenZiti, step, SPIRE, SwarmKit, certmagic.

use std::path::Path;

use store::disk::{Disk, Errno};

use super::tools::{read, read_named, replace_durably, replace_synced, told, write_in_place};
use super::{Protocol, Result, Tell, WriteOrder};
use crate::material::{self, KEPT_KEY, Role, Unusable};

/// OpenZiti's router. `openziti/identity:identity.go` SetCert and SetServerCert: open, truncate, write, close, without a sync; first the client's
/// file, then the server's. `openziti/ziti:router/state/extendEnrollmentCerts.go` logs their errors and goes on. The key is kept.
#[derive(Debug)]
pub(super) struct OpenZiti;

impl<D: Disk + Default> WriteOrder<D> for OpenZiti {
    fn put(&self, disk: &mut D, dir: &Path, n: u64, protocol: Protocol, tell: Tell<'_, D>) -> Result<()> {
        let at = disk.open_root(dir)?;
        if disk.metadata(&at, "key.pem") == Err(Errno::NOENT) {
            write_in_place(disk, &at, "key.pem", 0o600, &material::key(KEPT_KEY))?;
        }
        told(disk, n, protocol, tell, |disk| {
            // Errors are logged there, and dropped.
            let _ = write_in_place(disk, &at, "cert.pem", 0o600, &material::chain(n, KEPT_KEY, Role::Client));
            let _ = write_in_place(disk, &at, "server.pem", 0o600, &material::chain(n, KEPT_KEY, Role::Server));
            Ok(())
        })
    }

    /// `openziti/identity:identity.go` LoadIdentity: any file that does not load fails the whole.
    fn load(&self, disk: &mut D, dir: &Path) -> Result<Vec<u64>> {
        let at = disk.open_root(dir)?;
        let key = read_named(disk, &at, "key.pem", "private key")?;
        let client = read_named(disk, &at, "cert.pem", "certificate")?;
        let server = read_named(disk, &at, "server.pem", "server certificate")?;
        let n = material::pair(&client, &key)?;
        material::pair(&server, &key)?;
        Ok(vec![n])
    }
}

/// `step ca renew`. `smallstep/cli:command/ca/renew.go` Renew hands the chain to `smallstep/cli:utils/write.go` WriteFile, which is
/// `os.WriteFile`: truncate, write, close. The key is kept.
#[derive(Debug)]
pub(super) struct Step;

impl<D: Disk + Default> WriteOrder<D> for Step {
    fn put(&self, disk: &mut D, dir: &Path, n: u64, protocol: Protocol, tell: Tell<'_, D>) -> Result<()> {
        let at = disk.open_root(dir)?;
        if disk.metadata(&at, "internal.key") == Err(Errno::NOENT) {
            write_in_place(disk, &at, "internal.key", 0o600, &material::key(KEPT_KEY))?;
        }
        told(disk, n, protocol, tell, |disk| {
            Ok(write_in_place(disk, &at, "internal.crt", 0o600, &material::chain(n, KEPT_KEY, Role::Client))?)
        })
    }

    fn load(&self, disk: &mut D, dir: &Path) -> Result<Vec<u64>> {
        let at = disk.open_root(dir)?;
        let key = read_named(disk, &at, "internal.key", "private key")?;
        let chain = read_named(disk, &at, "internal.crt", "certificate")?;
        Ok(vec![material::pair(&chain, &key)?])
    }
}

/// SPIRE's agent with keys on disk: two slots for keys in one file, then identity and bundle in another, each by
/// `spiffe/spire:pkg/common/diskutil/file_posix.go` AtomicWritePrivateFile: temporary, sync, rename, sync of the folder.
/// `spiffe/spire:pkg/agent/storage/storage.go` holds the second file; the key that the identity names is looked up among the slots.
#[derive(Debug)]
pub(super) struct Spire;

impl<D: Disk + Default> WriteOrder<D> for Spire {
    fn put(&self, disk: &mut D, dir: &Path, n: u64, protocol: Protocol, tell: Tell<'_, D>) -> Result<()> {
        let at = disk.open_root(dir)?;
        // The slot that the present identity does not use gets the new key; the other one stays.
        let in_use = match read(disk, &at, "agent-data.json") {
            Err(Errno::NOENT) => None,
            answer => material::first_leaf(&answer?).ok(),
        };
        let mut slots = in_use.map_or(Vec::new(), |(_, key)| material::key(key));
        slots.extend_from_slice(&material::key(n));
        let data = [material::chain(n, n, Role::Client), material::bundle()].concat();
        // The request that makes the certificate leaves when the key is stored.
        replace_durably(disk, &at, "keys.json", 0o600, &slots)?;
        told(disk, n, protocol, tell, |disk| Ok(replace_durably(disk, &at, "agent-data.json", 0o600, &data)?))
    }

    fn load(&self, disk: &mut D, dir: &Path) -> Result<Vec<u64>> {
        let at = disk.open_root(dir)?;
        let data = read_named(disk, &at, "agent-data.json", "identity")?;
        let slots = read_named(disk, &at, "keys.json", "private key")?;
        let (n, key) = material::first_leaf(&data)?;
        if material::keys(&slots)?.contains(&key) { Ok(vec![n]) } else { Err(Unusable::Mismatch { n }.into()) }
    }
}

/// Docker's SwarmKit. `moby/swarmkit:ca/keyreadwriter.go` Write: the certificate under a hidden name, then the key, each by
/// `moby/swarmkit:ioutils/ioutils.go` AtomicWriteFile (temporary, sync, rename), then the certificate's rename; no folder is synced.
/// Read takes the hidden certificate where the visible one does not match the key.
#[derive(Debug)]
pub(super) struct SwarmKit;

const SWARM_CERT: &str = "swarm-node.crt";
const SWARM_HIDDEN: &str = ".swarm-node.crt";
const SWARM_KEY: &str = "swarm-node.key";

impl<D: Disk + Default> WriteOrder<D> for SwarmKit {
    fn put(&self, disk: &mut D, dir: &Path, n: u64, protocol: Protocol, tell: Tell<'_, D>) -> Result<()> {
        let at = disk.open_root(dir)?;
        told(disk, n, protocol, tell, |disk| {
            replace_synced(disk, &at, SWARM_HIDDEN, 0o644, &material::chain(n, n, Role::Client))?;
            replace_synced(disk, &at, SWARM_KEY, 0o600, &material::key(n))?;
            Ok(disk.rename(&at, SWARM_HIDDEN, SWARM_CERT)?)
        })
    }

    fn load(&self, disk: &mut D, dir: &Path) -> Result<Vec<u64>> {
        let at = disk.open_root(dir)?;
        let key = read_named(disk, &at, SWARM_KEY, "private key")?;
        let visible = match read(disk, &at, SWARM_CERT) {
            Err(Errno::NOENT) => Err(Unusable::Missing("certificate")),
            answer => material::pair(&answer?, &key),
        };
        let Err(why) = visible else { return Ok(visible.into_iter().collect()) };
        match read(disk, &at, SWARM_HIDDEN) {
            Err(_) => Err(why.into()),
            Ok(hidden) => match material::pair(&hidden, &key) {
                Ok(n) => {
                    let _ = disk.rename(&at, SWARM_HIDDEN, SWARM_CERT);
                    Ok(vec![n])
                }
                Err(_) => {
                    let _ = disk.unlink(&at, SWARM_HIDDEN);
                    Err(why.into())
                }
            },
        }
    }
}

/// certmagic, as Caddy uses it. `caddyserver/certmagic:crypto.go` saveCertResource: key, certificate, metadata, one after another through
/// `caddyserver/certmagic:filestorage.go` Store (temporary, sync, rename; no folder is synced). Where one fails,
/// `caddyserver/certmagic:storage.go` storeTx deletes those that went before: under the same names as the old ones. New keys each time.
#[derive(Debug)]
pub(super) struct CertMagic;

impl<D: Disk + Default> WriteOrder<D> for CertMagic {
    fn put(&self, disk: &mut D, dir: &Path, n: u64, protocol: Protocol, tell: Tell<'_, D>) -> Result<()> {
        let at = disk.open_root(dir)?;
        let files = [
            ("site.key", material::key(n)),
            ("site.crt", material::chain(n, n, Role::Client)),
            ("site.json", format!("{{\"sans\":[\"r{n}\"]}}\n").into_bytes()),
        ];
        told(disk, n, protocol, tell, |disk| {
            for (index, (name, content)) in files.iter().enumerate() {
                if let Err(errno) = replace_synced(disk, &at, name, 0o600, content) {
                    for (stored, _) in files.iter().take(index).rev() {
                        let _ = disk.unlink(&at, stored);
                    }
                    return Err(errno.into());
                }
            }
            Ok(())
        })
    }

    /// `caddyserver/certmagic:crypto.go` loadCertResource: all three have to be there.
    fn load(&self, disk: &mut D, dir: &Path) -> Result<Vec<u64>> {
        let at = disk.open_root(dir)?;
        let chain = read_named(disk, &at, "site.crt", "certificate")?;
        let key = read_named(disk, &at, "site.key", "private key")?;
        let meta = read_named(disk, &at, "site.json", "metadata")?;
        if !(meta.starts_with(b"{") && meta.ends_with(b"}\n")) {
            return Err(Unusable::Damaged.into());
        }
        Ok(vec![material::pair(&chain, &key)?])
    }
}
