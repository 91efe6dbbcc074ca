//! Where the state folder is, and how it comes to be.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use lifecycle::RouterId;

use super::{FOLDER_MODE, Notice, at};
use crate::disk::{Disk, Errno, Operation, StorageError};

/// The state folder of a router: below `state` if router.yml names one (`exuvia: {state: DIR}`), otherwise below `.exuvia` beside
/// the file of `identity.cert`, so that it lies on the same file system and lives and dies with the identity.
pub fn state_folder(identity_cert: &Path, state: Option<&Path>, router: &RouterId) -> PathBuf {
    let base = match state {
        Some(folder) => folder.to_owned(),
        None => match identity_cert.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder.join(".exuvia"),
            _ => PathBuf::from(".exuvia"),
        },
    };
    base.join(file_name(router))
}

/// The id as one path component: what a file name cannot or should not hold becomes `%XX`.
fn file_name(router: &RouterId) -> String {
    let id = router.as_str();
    let mut name = String::with_capacity(id.len());
    for (index, byte) in id.bytes().enumerate() {
        let is_plain = byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_' || (byte == b'.' && index > 0);
        if is_plain {
            name.push(char::from(byte));
        } else {
            // Writing into a String cannot fail.
            let _ = write!(name, "%{byte:02X}");
        }
    }
    if name.is_empty() { "%".to_owned() } else { name }
}

/// Opens a folder; where it does not exist, makes it and its missing parents, each durable before the next.
pub(super) fn open_or_make<D: Disk>(disk: &mut D, path: &Path) -> Result<D::Folder, StorageError> {
    match disk.open_root(path) {
        Err(Errno::NOENT) => {}
        answer => return at(answer, Operation::Open, path),
    }
    let (parent, name) = match (path.parent(), path.file_name().and_then(|name| name.to_str())) {
        (Some(parent), Some(name)) => (if parent.as_os_str().is_empty() { Path::new(".") } else { parent }, name),
        _ => return at(Err(Errno::NOENT), Operation::Open, path),
    };
    let folder = open_or_make(disk, parent)?;
    let made = match disk.make_folder(&folder, name, FOLDER_MODE) {
        Ok(()) => true,
        // Another process was faster, or the name is something else: opening tells.
        Err(Errno::EXIST) => false,
        answer => at(answer, Operation::MakeFolder, path).map(|()| false)?,
    };
    let synced = at(disk.sync_folder(&folder), Operation::SyncFolder, parent);
    if made && synced.is_err() {
        // A later sync would say that all is well and write nothing: the next try has to make the name anew.
        let _ = disk.remove_folder(&folder, name);
    }
    synced?;
    at(disk.open_folder(&folder, name), Operation::Open, path)
}

/// Makes the names of a folder and of everything above it durable. Folders that may not be opened were not made by us.
pub(super) fn sync_parents<D: Disk>(disk: &mut D, path: &Path) -> Result<(), StorageError> {
    for parent in path.ancestors().skip(1) {
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        match disk.open_root(parent) {
            Err(Errno::ACCESS | Errno::PERM) => break,
            answer => {
                let folder = at(answer, Operation::Open, parent)?;
                match disk.sync_folder(&folder) {
                    // A read-only mount above the one that holds the state.
                    Ok(()) | Err(Errno::ROFS | Errno::INVAL) => {}
                    answer => at(answer, Operation::SyncFolder, parent)?,
                }
            }
        }
    }
    Ok(())
}

/// Tells whether others can reach into the state folder.
pub(super) fn note_access<D: Disk>(disk: &mut D, folder: &D::Folder, notices: &mut Vec<Notice>) {
    let Ok(found) = disk.folder_metadata(folder) else { return };
    if found.mode & 0o077 != 0 {
        notices.push(Notice::WideMode(found.mode));
    }
    let user = disk.effective_user();
    if found.user != user && user != 0 {
        notices.push(Notice::ForeignOwner(found.user));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_lies_beside_the_certificate() {
        let place = |cert: &str, state: Option<&str>, id: &str| {
            state_folder(Path::new(cert), state.map(Path::new), &RouterId::new(id)).display().to_string()
        };
        assert_eq!(place("/etc/ziti/r.cert", None, "aB3.x-_"), "/etc/ziti/.exuvia/aB3.x-_");
        assert_eq!(place("r.cert", None, "x"), ".exuvia/x");
        assert_eq!(place("/etc/ziti/r.cert", Some("/var/lib/exuvia"), "x"), "/var/lib/exuvia/x");
    }

    #[test]
    fn no_router_id_leaves_the_state_folder() {
        for id in ["..", ".", "", "../../etc", "a/b", "a\0b"] {
            let name = file_name(&RouterId::new(id));
            assert!(crate::disk::is_name(&name) && !name.starts_with('.'), "{id:?} became {name:?}");
        }
        assert_ne!(file_name(&RouterId::new("a/b")), file_name(&RouterId::new("a%2Fb")));
    }
}
