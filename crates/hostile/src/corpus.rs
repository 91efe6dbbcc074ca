//! Inputs worth keeping.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where the corpus of a target lies in a checkout of the project.
pub fn corpus_folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target)
}

/// The files of a target's corpus, by name.
///
/// # Errors
/// When the folder or one of its files cannot be read, as when the program runs without a checkout.
pub fn corpus(target: &str) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(corpus_folder(target))? {
        let entry = entry?;
        found.push((entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path())?));
    }
    found.sort();
    Ok(found)
}
