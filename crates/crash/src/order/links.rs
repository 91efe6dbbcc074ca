//! Orders that turn symbolic links: certbot, client-go, Kubernetes' AtomicWriter.

use std::path::Path;

use store::disk::{Disk, Errno, Kind};

use super::tools::{ensure_folder, open_truncated, read, read_named, remove_if_there, told, write_new};
use super::{OrderError, Protocol, Result, Tell, WriteOrder};
use crate::material::{self, Role, Unusable};

/// certbot and its like. `certbot/certbot:certbot/src/certbot/_internal/storage.py` save_successor writes four new files into the archive, and
/// update_link_to then, one kind after another, unlinks `live/<kind>.pem` and makes it anew; nothing is synced. certbot's own next run may
/// repair half-turned links; the server that starts before it reads them as they are, and is what is judged here.
#[derive(Debug)]
pub(super) struct Certbot;

const KINDS: [&str; 4] = ["cert", "privkey", "chain", "fullchain"];

impl<D: Disk + Default> WriteOrder<D> for Certbot {
    fn put(&self, disk: &mut D, dir: &Path, n: u64, protocol: Protocol, tell: Tell<'_, D>) -> Result<()> {
        let at = disk.open_root(dir)?;
        told(disk, n, protocol, tell, |disk| {
            let version = free_version(disk, &at, n, |version| archived("cert", version))?;
            // The archive lies beside the links here, so that a target is one name.
            for kind in KINDS {
                let content = match kind {
                    "cert" => material::leaf(n, n, Role::Client),
                    "privkey" => material::key(n),
                    "chain" => material::bundle(),
                    _ => material::chain(n, n, Role::Client),
                };
                write_new(disk, &at, &archived(kind, &version), 0o600, &content)?;
            }
            for kind in KINDS {
                let link = format!("{kind}.pem");
                remove_if_there(disk, &at, &link)?;
                disk.make_link(&at, &link, Path::new(&archived(kind, &version)))?;
            }
            Ok(())
        })
    }

    fn load(&self, disk: &mut D, dir: &Path) -> Result<Vec<u64>> {
        let at = disk.open_root(dir)?;
        let chain = read_named(disk, &at, "fullchain.pem", "certificate")?;
        let key = read_named(disk, &at, "privkey.pem", "private key")?;
        Ok(vec![material::pair(&chain, &key)?])
    }
}

fn archived(kind: &str, version: &str) -> String {
    format!("archive-{kind}{version}.pem")
}

/// A version that was never used, as a time stamp or a counter is: `n`, or with a letter behind it after a renewal that was cut off.
fn free_version<D: Disk>(disk: &mut D, at: &D::Folder, n: u64, name: impl Fn(&str) -> String) -> Result<String> {
    let mut version = n.to_string();
    while disk.metadata(at, &name(&version)) != Err(Errno::NOENT) {
        version.push('x');
        if version.len() > 64 {
            return Err(Errno::EXIST.into());
        }
    }
    Ok(version)
}

/// The kubelet's certificates. `kubernetes/client-go:util/certificate/certificate_store.go` Update: chain and key into one new file, no sync; read it
/// back; make the link `…-updated.pem`; unlink `…-current.pem`; rename the former to the latter. recover finishes that at the next start.
/// (The link's target is relative here, absolute there.)
#[derive(Debug)]
pub(super) struct ClientGo;

const CURRENT: &str = "kubelet-client-current.pem";
const UPDATED: &str = "kubelet-client-updated.pem";

impl ClientGo {
    fn load_pair<D: Disk>(disk: &mut D, at: &D::Folder, name: &str) -> Result<u64> {
        let file = read_named(disk, at, name, "certificate and key")?;
        Ok(material::pair(&file, &file)?)
    }
}

impl<D: Disk + Default> WriteOrder<D> for ClientGo {
    fn put(&self, disk: &mut D, dir: &Path, n: u64, protocol: Protocol, tell: Tell<'_, D>) -> Result<()> {
        let at = disk.open_root(dir)?;
        told(disk, n, protocol, tell, |disk| {
            let name = |version: &str| format!("kubelet-client-{version}.pem");
            let name = name(&free_version(disk, &at, n, name)?);
            let mut file = open_truncated(disk, &at, &name, 0o600)?;
            // What writing says is dropped there; reading back decides.
            let _ = disk.write(&mut file, &material::chain(n, n, Role::Client));
            let _ = disk.write(&mut file, &material::key(n));
            let _ = disk.close(file);
            ClientGo::load_pair(disk, &at, &name)?;
            remove_if_there(disk, &at, UPDATED)?;
            disk.make_link(&at, UPDATED, Path::new(&name))?;
            remove_if_there(disk, &at, CURRENT)?;
            Ok(disk.rename(&at, UPDATED, CURRENT)?)
        })
    }

    fn load(&self, disk: &mut D, dir: &Path) -> Result<Vec<u64>> {
        let at = disk.open_root(dir)?;
        if read(disk, &at, CURRENT) == Err(Errno::NOENT) {
            match disk.metadata(&at, UPDATED) {
                Ok(found) if found.kind == Kind::Link => disk.rename(&at, UPDATED, CURRENT)?,
                _ => return Err(Unusable::Missing("certificate and key").into()),
            }
        }
        Ok(vec![Self::load_pair(disk, &at, CURRENT)?])
    }
}

/// Kubernetes' volumes of secrets. `kubernetes/kubernetes:pkg/volume/util/atomic_writer.go` Write: a new folder with every file, the link `..data_tmp`, its
/// rename over `..data`, removal of the old folder; nothing is synced. Its home is a tmpfs, where no power cut is survived anyway; on a disk it
/// keeps its promise only while the machine lives.
#[derive(Debug)]
pub(super) struct AtomicWriter;

const DATA: &str = "..data";
const DATA_NEXT: &str = "..data_tmp";

impl<D: Disk + Default> WriteOrder<D> for AtomicWriter {
    fn put(&self, disk: &mut D, dir: &Path, n: u64, protocol: Protocol, tell: Tell<'_, D>) -> Result<()> {
        let at = disk.open_root(dir)?;
        told(disk, n, protocol, tell, |disk| {
            let name = |version: &str| format!("..folder-{version}");
            let name = name(&free_version(disk, &at, n, name)?);
            let old = match disk.read_link(&at, DATA) {
                Err(Errno::NOENT) => None,
                answer => Some(answer?),
            };
            let folder = ensure_folder(disk, &at, &name, 0o755)?;
            for (file, content) in [
                ("tls.crt", material::chain(n, n, Role::Client)),
                ("tls.key", material::key(n)),
                ("ca.crt", material::bundle()),
            ] {
                super::tools::write_in_place(disk, &folder, file, 0o600, &content)?;
            }
            remove_if_there(disk, &at, DATA_NEXT)?;
            disk.make_link(&at, DATA_NEXT, Path::new(&name))?;
            disk.rename(&at, DATA_NEXT, DATA)?;
            match old.as_deref().and_then(Path::to_str) {
                Some(old) if old != name => remove_all(disk, &at, old),
                _ => Ok(()),
            }
        })
    }

    fn load(&self, disk: &mut D, dir: &Path) -> Result<Vec<u64>> {
        let at = disk.open_root(dir)?;
        let chain = read_named(disk, &at, "..data/tls.crt", "certificate")?;
        let key = read_named(disk, &at, "..data/tls.key", "private key")?;
        Ok(vec![material::pair(&chain, &key)?])
    }
}

fn remove_all<D: Disk>(disk: &mut D, at: &D::Folder, name: &str) -> Result<()> {
    let folder = match disk.open_folder(at, name) {
        Err(Errno::NOENT) => return Ok(()),
        answer => answer?,
    };
    for file in disk.list(&folder).map_err(OrderError::from)? {
        remove_if_there(disk, &folder, &file)?;
    }
    Ok(disk.remove_folder(at, name)?)
}
