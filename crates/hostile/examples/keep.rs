//! Takes inputs of a folder over into a target's corpus: evenly from the smallest to the largest, within the corpus' bounds, and no private key.

use std::fs;
use std::io;

use aws_lc_rs::digest::{SHA256, digest};

/// Half of what `tests/corpus.rs` allows: room for what is found later.
const FILES_MAX: usize = 100;
const BYTES_MAX: usize = 150 * 1024;
/// A single input that takes more of the corpus than this is not kept.
const INPUT_MAX: usize = 16 * 1024;

fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(from), Some(target)) = (arguments.next(), arguments.next()) else {
        return Err(io::Error::other("usage: keep FOLDER TARGET"));
    };
    let kept = hostile::corpus(&target)?;
    let (mut files, mut bytes) = (kept.len(), kept.iter().map(|(_, data)| data.len()).sum::<usize>());
    let mut inputs: Vec<Vec<u8>> =
        fs::read_dir(from)?.map(|entry| fs::read(entry?.path())).collect::<io::Result<_>>()?;
    inputs.retain(|input| input.len() <= INPUT_MAX);
    inputs.sort_by_key(Vec::len);
    // Taking every so many-th keeps small and large ones alike.
    let step = inputs.len().div_ceil(FILES_MAX.saturating_sub(files).max(1)).max(1);
    for input in inputs.into_iter().step_by(step) {
        let is_known = kept.iter().any(|(_, data)| *data == input);
        if is_known || pki::PrivateKey::from_pem(&input).is_ok() {
            continue;
        }
        if files + 1 > FILES_MAX || bytes + input.len() > BYTES_MAX {
            continue;
        }
        let name: String = digest(&SHA256, &input).as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        fs::write(hostile::corpus_folder(&target).join(name), &input)?;
        (files, bytes) = (files + 1, bytes + input.len());
    }
    println!("{target}: {files} files, {bytes} bytes");
    Ok(())
}
