//! What is on a disk, block by block, cheap to copy and to write out.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

/// Bytes of one block.
pub(crate) const BLOCK: usize = 4096;

type Block = Arc<[u8; BLOCK]>;

/// The content of a disk. Blocks of zeros are not kept; copies share what they have in common.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Blocks {
    filled: BTreeMap<u64, Block>,
}

impl Blocks {
    /// Reads an image.
    pub(crate) fn read(path: &Path) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let length = file.seek(SeekFrom::End(0))?;
        file.rewind()?;
        let mut blocks = Self::default();
        let mut buffer = [0; BLOCK];
        for number in 0..length.div_ceil(BLOCK as u64) {
            let wanted = usize::try_from(length - number * BLOCK as u64).unwrap_or(BLOCK).min(BLOCK);
            let (start, rest) = buffer.split_at_mut(wanted);
            file.read_exact(start)?;
            rest.fill(0);
            if buffer.iter().any(|byte| *byte != 0) {
                blocks.filled.insert(number, Arc::new(buffer));
            }
        }
        Ok(blocks)
    }

    /// Puts `bytes` at `offset`.
    pub(crate) fn write(&mut self, offset: u64, bytes: &[u8]) {
        let mut offset = offset;
        let mut bytes = bytes;
        while !bytes.is_empty() {
            let number = offset / BLOCK as u64;
            let within = usize::try_from(offset % BLOCK as u64).unwrap_or(0);
            let (now, later) = bytes.split_at(bytes.len().min(BLOCK - within));
            let block = self.filled.entry(number).or_insert_with(|| Arc::new([0; BLOCK]));
            if let Some(place) = Arc::make_mut(block).get_mut(within..within + now.len()) {
                place.copy_from_slice(now);
            }
            offset += now.len() as u64;
            bytes = later;
        }
    }

    /// Makes zeros of so many bytes at `offset`.
    pub(crate) fn discard(&mut self, offset: u64, length: u64) {
        let end = offset + length;
        let mut at = offset;
        while at < end {
            let number = at / BLOCK as u64;
            let next = ((number + 1) * BLOCK as u64).min(end);
            if next - at == BLOCK as u64 {
                self.filled.remove(&number);
            } else if self.filled.contains_key(&number) {
                let zeros = vec![0; usize::try_from(next - at).unwrap_or(0)];
                self.write(at, &zeros);
            }
            at = next;
        }
    }

    /// Makes this the whole content of an image of `length` bytes.
    pub(crate) fn write_out(&self, image: &File, length: u64) -> io::Result<()> {
        image.set_len(0)?;
        image.set_len(length)?;
        let mut run: Vec<u8> = Vec::new();
        let mut start = 0;
        for (number, block) in &self.filled {
            let offset = number * BLOCK as u64;
            if start + run.len() as u64 != offset || run.len() >= 64 * BLOCK {
                image.write_all_at(&run, start)?;
                run.clear();
                start = offset;
            }
            run.extend_from_slice(block.as_slice());
        }
        image.write_all_at(&run, start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_across_blocks_is_read_back_from_the_image() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image");
        let image = File::create(&path).unwrap();
        let mut blocks = Blocks::default();
        blocks.write(BLOCK as u64 - 3, &[1, 2, 3, 4, 5]);
        blocks.write(9 * BLOCK as u64, &[7; BLOCK]);
        blocks.write_out(&image, 16 * BLOCK as u64).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes.len(), 16 * BLOCK);
        assert_eq!(&bytes[BLOCK - 4..BLOCK + 3], &[0, 1, 2, 3, 4, 5, 0]);
        assert!(bytes[9 * BLOCK..10 * BLOCK].iter().all(|byte| *byte == 7));
        assert_eq!(Blocks::read(&path).unwrap(), blocks);
    }

    #[test]
    fn an_image_that_is_written_out_again_keeps_nothing_of_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image");
        let image = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
        image.write_all_at(&[9; 3 * BLOCK], 0).unwrap();
        let mut blocks = Blocks::default();
        blocks.write(BLOCK as u64, &[1; BLOCK]);
        blocks.write_out(&image, 3 * BLOCK as u64).unwrap();
        assert_eq!(Blocks::read(&path).unwrap(), blocks);
    }

    #[test]
    fn a_discard_zeroes_exactly_what_it_names() {
        let mut blocks = Blocks::default();
        blocks.write(0, &[1; 3 * BLOCK]);
        blocks.discard(512, 2 * BLOCK as u64);
        let mut expected = Blocks::default();
        expected.write(0, &[1; 512]);
        expected.write(2 * BLOCK as u64, &[0; 512]);
        expected.write(2 * BLOCK as u64 + 512, &[1; BLOCK - 512]);
        assert_eq!(blocks, expected);
    }
}
