//! Reading what the person named, and writing what only the person may read.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;
use zeroize::Zeroizing;

use crate::exit::{Exit, Failure};

/// Reads a whole file of at most `bytes_max`; `-` is standard input.
///
/// # Errors
/// [`Exit::Input`] when it is missing, no file, not readable, too long or empty.
pub fn read(path: &Path, what: &str, bytes_max: u64) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let shown = if is_dash(path) { "standard input".to_owned() } else { format!("`{}`", path.display()) };
    let fail = |error: io::Error| {
        let failure =
            Failure::new(Exit::Input, anyhow::Error::new(error).context(format!("cannot read {what} from {shown}")));
        failure.hint("name a file that is there and that you may read")
    };
    let mut found = Zeroizing::new(Vec::new());
    if is_dash(path) {
        io::stdin().lock().take(bytes_max + 1).read_to_end(&mut found).map_err(fail)?;
    } else {
        File::open(path).and_then(|file| file.take(bytes_max + 1).read_to_end(&mut found)).map_err(fail)?;
    }
    if found.len() as u64 > bytes_max {
        return Err(Failure::because(
            Exit::Input,
            format!("{shown} is no {what}: it is longer than {bytes_max} bytes"),
        ));
    }
    if found.iter().all(u8::is_ascii_whitespace) {
        return Err(Failure::because(Exit::Input, format!("{shown} is no {what}: it is empty")));
    }
    Ok(found)
}

/// As [`read`], for text.
///
/// # Errors
/// As [`read`], and when it is not UTF-8.
pub fn read_text(path: &Path, what: &str, bytes_max: u64) -> Result<Zeroizing<String>, Failure> {
    let bytes = read(path, what, bytes_max)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| {
        Failure::because(Exit::Input, format!("`{}` is no {what}: it is not UTF-8 text", path.display()))
    })?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// Does the path stand for standard input or output?
pub fn is_dash(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// A file that only its owner may read, from its first byte on. It appears whole or not at all.
#[derive(Debug)]
pub struct PrivateFile {
    temporary: NamedTempFile,
    path: PathBuf,
}

impl PrivateFile {
    /// Makes sure that it can be written, before anything is done that cannot be repeated.
    ///
    /// # Errors
    /// [`Exit::Failed`] when it cannot be written there.
    pub fn prepare(path: &Path) -> Result<Self, Failure> {
        let fail = |error: io::Error| {
            Failure::new(Exit::Failed, anyhow::Error::new(error).context(format!("cannot write `{}`", path.display())))
                .hint("choose a folder that is there and in which you may write; nothing was changed")
        };
        match fs::symlink_metadata(path) {
            Ok(found) if !found.is_file() => return Err(fail(io::Error::other("there is something that is no file"))),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(fail(error)),
        }
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let temporary = tempfile::Builder::new()
            .prefix(".exuvia-")
            .permissions(fs::Permissions::from_mode(0o600))
            .tempfile_in(folder)
            .map_err(fail)?;
        Ok(Self { temporary, path: path.to_owned() })
    }

    /// Writes it and puts it in its place.
    ///
    /// # Errors
    /// [`Exit::Failed`] when that fails; a file that was there before is then still there.
    pub fn write(mut self, bytes: &[u8]) -> Result<(), Failure> {
        let path = self.path;
        let fail = |error: io::Error| {
            Failure::new(Exit::Failed, anyhow::Error::new(error).context(format!("cannot write `{}`", path.display())))
        };
        self.temporary.write_all(bytes).map_err(fail)?;
        self.temporary.as_file().sync_all().map_err(fail)?;
        self.temporary.persist(&path).map_err(|error| fail(error.error))?;
        Ok(())
    }
}
