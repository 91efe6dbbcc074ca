//! Every file that could hold a part of the identity, torn ones too.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use lifecycle::manifest::Manifest;
use lifecycle::renewal::Storage;
use lifecycle::{GenerationNumber, KeyId, RouterId};
use pki::{Certificate, Chain, PrivateKey, TrustBundle};
use store::StoreError;
use store::generation::{GenerationFiles, PrivatePem};
use store::projection::Slot;
use zeroize::Zeroizing;

use crate::commit::{Whole, router_of};
use crate::config::{IdentitySource, RouterConfig};
use crate::place;
use crate::run::RunError;

/// Longest file that is looked into.
const FILE_BYTES_MAX: u64 = 256 * 1024;
/// Most files of one folder that are looked into.
const FILES_MAX: usize = 512;

/// Something that was seen and is of no use as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// The file.
    pub path: PathBuf,
    /// What is the matter with it.
    pub text: String,
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`: {}", self.path.display(), self.text)
    }
}

/// A private key, and the text that it was found as.
#[derive(Debug)]
pub(super) struct FoundKey {
    pub(super) id: KeyId,
    pub(super) pem: PrivatePem,
}

/// One file, taken apart.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) path: PathBuf,
    /// Which configured path it is.
    pub(super) slot: Option<Slot>,
    pub(super) certificates: Vec<Certificate>,
    pub(super) keys: Vec<FoundKey>,
    /// The whole text, where all of it can be read.
    pub(super) text: Option<Zeroizing<Vec<u8>>>,
}

/// What the state folder holds by its own account.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) number: GenerationNumber,
    pub(super) files: GenerationFiles,
}

/// Everything that this disk holds, not yet put together.
#[derive(Debug)]
pub struct Wreck {
    pub(super) pieces: Vec<Piece>,
    pub(super) stored: Vec<Stored>,
    pub(super) remarks: Vec<Remark>,
    pub(super) is_projected: bool,
    pub(super) has_server_key: bool,
    /// The id that the configured files or the only state folder name.
    router: Option<RouterId>,
}

impl Wreck {
    /// Looks at everything; changes nothing. A store that a running daemon holds is read beside it.
    ///
    /// # Errors
    /// When the store cannot be read, which is never the same as an empty one.
    pub fn read(config: &RouterConfig) -> Result<Self, RunError> {
        let mut wreck = Self {
            pieces: Vec::new(),
            stored: Vec::new(),
            remarks: Vec::new(),
            is_projected: place::is_projected(config),
            has_server_key: config.identity.server_key.is_some(),
            router: None,
        };
        let identity = &config.identity;
        let slots = [
            (Slot::Cert, Some(&identity.cert)),
            (Slot::ServerCert, Some(&identity.server_cert)),
            (Slot::Key, Some(&identity.key)),
            (Slot::ServerKey, identity.server_key.as_ref()),
            (Slot::Ca, Some(&identity.ca)),
        ];
        let mut folders = BTreeSet::new();
        let mut configured = BTreeSet::new();
        for (slot, source) in slots {
            match source {
                Some(IdentitySource::Path(path)) => {
                    wreck.take_file(path, Some(slot));
                    configured.insert(path.clone());
                    folders.insert(folder_of(path));
                }
                Some(IdentitySource::Inline(pem)) => {
                    let text = Zeroizing::new(pem.as_str().as_bytes().to_vec());
                    wreck.take(Path::new("router.yml"), Some(slot), text);
                }
                Some(IdentitySource::Engine { .. }) | None => {}
            }
        }
        for folder in folders {
            for path in files_of(&folder) {
                if !configured.contains(&path) {
                    wreck.take_file(&path, None);
                }
            }
        }
        wreck.router = place::router_id(config).or_else(|| wreck.only_router());
        if let Some(router) = wreck.router.clone() {
            wreck.take_store(config, &router)?;
        }
        Ok(wreck)
    }

    /// Which router this disk belongs to, if all that it holds agrees.
    pub fn router(&self) -> Option<&RouterId> {
        self.router.as_ref()
    }

    /// The CA certificates that this router trusts: as configured, else as its newest generation has them.
    pub fn bundle(&self) -> Option<TrustBundle> {
        self.bundle_text().and_then(|text| TrustBundle::from_pem(text).ok())
    }

    /// The same as it lies there.
    pub(super) fn bundle_text(&self) -> Option<&[u8]> {
        let configured = self.pieces.iter().filter(|piece| piece.slot == Some(Slot::Ca));
        let texts = configured.filter_map(|piece| Some(piece.text.as_deref()?.as_slice()));
        let stored = self.stored.iter().rev().map(|stored| stored.files.bundle.as_slice());
        texts.chain(stored).find(|text| TrustBundle::from_pem(text).is_ok())
    }

    /// Takes up the store of this router, if the disk belongs to it by the controller's word alone.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn belongs_to(&mut self, config: &RouterConfig, router: &RouterId) -> Result<(), RunError> {
        if self.router.is_none() {
            self.router = Some(router.clone());
            self.take_store(config, router)?;
        }
        Ok(())
    }

    fn take_store(&mut self, config: &RouterConfig, router: &RouterId) -> Result<(), RunError> {
        let Some(folder) = place::folder_of(config, router) else { return Ok(()) };
        let is_there = folder.try_exists();
        if !is_there.map_err(|source| RunError::Unreadable { path: folder.display().to_string(), source })? {
            return Ok(());
        }
        match place::open(config, &folder) {
            Ok((mut custody, _)) => {
                let found = custody.load(Storage::Writable)?;
                for damage in custody.damage() {
                    self.remarks.push(Remark { path: folder.clone(), text: damage.clone() });
                }
                self.take_candidates(&found.manifest, |number| {
                    custody.whole(number).map(|whole| whole.files.as_ref().clone())
                });
                custody.close();
            }
            // A daemon has the lock. A generation is never edited, so its files can be read beside it.
            Err(StoreError::Busy { .. }) => {
                for path in folders_of(&folder.join("generations")) {
                    let number = path.file_name().and_then(|name| name.to_str()?.parse().ok());
                    let Some(number) = number.map(GenerationNumber) else { continue };
                    if let Some(whole) = crate::doctor::read_served(&folder, number) {
                        self.stored.push(Stored { number, files: whole.files.as_ref().clone() });
                    }
                }
            }
            Err(error) => return Err(error.into()),
        }
        // Generations that no manifest names, prepared keys, half-written ones.
        for generation in folders_of(&folder.join("generations")) {
            for path in files_of(&generation) {
                self.take_file(&path, None);
            }
        }
        Ok(())
    }

    fn take_candidates(&mut self, manifest: &Manifest, files: impl Fn(GenerationNumber) -> Option<GenerationFiles>) {
        for candidate in &manifest.candidates {
            if let Some(files) = files(candidate.number) {
                self.stored.push(Stored { number: candidate.number, files });
            }
        }
    }

    fn take_file(&mut self, path: &Path, slot: Option<Slot>) {
        let is_small = std::fs::metadata(path).map(|found| found.is_file() && found.len() <= FILE_BYTES_MAX);
        match is_small {
            Ok(true) => {}
            Ok(false) if slot.is_none() => return,
            Ok(false) => return self.remark(path, "is no file that could hold a part of an identity"),
            Err(error) if slot.is_some() => return self.remark(path, error),
            Err(_) => return,
        }
        match std::fs::read(path) {
            Ok(text) => self.take(path, slot, Zeroizing::new(text)),
            Err(error) => self.remark(path, error),
        }
    }

    fn take(&mut self, path: &Path, slot: Option<Slot>, text: Zeroizing<Vec<u8>>) {
        let (blocks, is_torn) = blocks_of(&text);
        let is_blank = text.iter().all(|byte| byte.is_ascii_whitespace() || *byte == 0);
        if slot.is_some() && is_blank {
            self.remark(path, "is empty");
        } else if is_torn {
            self.remark(path, "is torn: a part of it cannot be read");
        } else if slot.is_some() && blocks.is_empty() {
            self.remark(path, "holds neither a certificate nor a key");
        }
        let mut piece = Piece { path: path.to_owned(), slot, certificates: Vec::new(), keys: Vec::new(), text: None };
        for block in blocks {
            if let Ok(certificate) = Certificate::from_pem(block) {
                piece.certificates.push(certificate);
            } else if let Ok(key) = PrivateKey::from_pem(block) {
                // The whole file where it holds nothing else: what is written back is then no change.
                let is_alone = PrivateKey::from_pem(&text).is_ok();
                let pem = if is_alone { text.to_vec() } else { [block, b"\n"].concat() };
                piece.keys.push(FoundKey { id: key.key_id(), pem: PrivatePem::new(pem) });
            }
        }
        if piece.certificates.is_empty() && piece.keys.is_empty() {
            return;
        }
        piece.text = (!is_torn).then_some(text);
        self.pieces.push(piece);
    }

    fn remark(&mut self, path: &Path, text: impl ToString) {
        self.remarks.push(Remark { path: path.to_owned(), text: text.to_string() });
    }

    /// The one id that all leaves name whose keys are here.
    fn only_router(&self) -> Option<RouterId> {
        let keys: BTreeSet<KeyId> = self.pieces.iter().flat_map(|piece| piece.keys.iter().map(|key| key.id)).collect();
        let leaves = self.pieces.iter().flat_map(|piece| &piece.certificates);
        let ours = leaves.filter(|leaf| !leaf.is_ca() && keys.contains(&leaf.key_id()));
        let names: BTreeSet<&str> = ours.filter_map(Certificate::cn).collect();
        let only = names.first().filter(|_| names.len() == 1)?;
        Some(RouterId::new(*only))
    }

    /// The identity at the configured paths, if it is whole and this router's.
    pub(super) fn configured(&self, router: &RouterId) -> Option<GenerationFiles> {
        let piece = |slot| self.pieces.iter().find(move |piece| piece.slot == Some(slot));
        let text = |slot| Some(piece(slot)?.text.as_deref()?.clone());
        let key = |slot| piece(slot)?.keys.first().map(|key| key.pem.clone());
        let server_key = if self.has_server_key { Some(key(Slot::ServerKey)?) } else { None };
        let files = GenerationFiles {
            keys: store::generation::Keys { key: key(Slot::Key)?, server_key },
            client: text(Slot::Cert)?,
            server: text(Slot::ServerCert)?,
            bundle: text(Slot::Ca)?,
        };
        let is_whole = Whole::new(GenerationNumber(0), files.clone()).is_ok();
        (is_whole && router_of(&files.client).as_ref() == Some(router)).then_some(files)
    }

    /// The chain of a leaf: as a file has it, else put together from the CA certificates that lie around, and from `further`.
    pub(super) fn chain_of(&self, leaf: &Certificate, further: &[Certificate]) -> Option<(Chain, Vec<u8>)> {
        let whole = self.pieces.iter().filter_map(|piece| {
            let text = piece.text.as_deref()?;
            let chain = Chain::from_pem(text).ok()?;
            (chain.leaf().fingerprint() == leaf.fingerprint()).then(|| (chain, text.clone()))
        });
        // A chain with its intermediates rather than a bare leaf.
        if let Some(found) = whole.max_by_key(|(chain, _)| chain.intermediates().len())
            && !found.0.intermediates().is_empty()
        {
            return Some(found);
        }
        let all = self.pieces.iter().flat_map(|piece| &piece.certificates).chain(further);
        let issuers: Vec<&Certificate> = all.filter(|one| one.is_ca() && !one.is_self_issued()).collect();
        let mut intermediates: Vec<Certificate> = Vec::new();
        let mut wanted = leaf.issuer_text();
        while let Some(issuer) = issuers.iter().find(|one| one.subject_text() == wanted) {
            if intermediates.iter().any(|known| known.fingerprint() == issuer.fingerprint()) {
                break;
            }
            intermediates.push((*issuer).clone());
            wanted = issuer.issuer_text();
        }
        let chain = Chain::new(leaf.clone(), intermediates).ok()?;
        let pem = chain.to_pem().into_bytes();
        Some((chain, pem))
    }
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

fn entries_of(folder: &Path) -> Vec<std::fs::DirEntry> {
    let mut entries: Vec<_> = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok).collect();
    entries.sort_by_key(std::fs::DirEntry::file_name);
    entries.truncate(FILES_MAX);
    entries
}

fn files_of(folder: &Path) -> Vec<PathBuf> {
    let is_file = |entry: &std::fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_file());
    entries_of(folder).into_iter().filter(is_file).map(|entry| entry.path()).collect()
}

fn folders_of(folder: &Path) -> Vec<PathBuf> {
    let is_folder = |entry: &std::fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    entries_of(folder).into_iter().filter(is_folder).map(|entry| entry.path()).collect()
}

/// The PEM blocks that begin and end, each with its labels, and whether anything else that begins or ends is there too.
fn blocks_of(text: &[u8]) -> (Vec<&[u8]>, bool) {
    let (mut blocks, mut is_torn) = (Vec::new(), false);
    let mut open: Option<(usize, &[u8])> = None;
    let mut at = 0;
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        let (from, trimmed) = (at, line.trim_ascii());
        at += line.len();
        let label = |prefix: &[u8]| trimmed.strip_prefix(prefix)?.strip_suffix(b"-----");
        if let Some(label) = label(b"-----BEGIN ") {
            is_torn |= open.is_some();
            open = Some((from, label));
        } else if let Some(label) = label(b"-----END ") {
            match open.take() {
                Some((begun, of)) if of == label => {
                    blocks.extend(text.get(begun..at));
                }
                Some(_) | None => is_torn = true,
            }
        }
    }
    (blocks, is_torn || open.is_some())
}

#[cfg(test)]
mod tests {
    use super::blocks_of;

    #[test]
    fn what_is_whole_is_taken_out_of_what_is_torn() {
        let whole = "-----BEGIN A-----\nx\n-----END A-----\n";
        let count = |text: &str| {
            let (blocks, is_torn) = blocks_of(text.as_bytes());
            (blocks.len(), is_torn)
        };
        assert_eq!(count(&format!("{whole}text\n{whole}")), (2, false));
        assert_eq!(count(&format!("{whole}-----BEGIN B-----\nab")), (1, true));
        assert_eq!(count(&format!("cd\n-----END B-----\n{whole}")), (1, true));
        assert_eq!(count(&format!("-----BEGIN B-----\n{whole}")), (1, true));
        assert_eq!(count("-----BEGIN A-----\nx\n-----END B-----\n"), (0, true));
        assert_eq!(count("\0\0\0"), (0, false));
    }
}
