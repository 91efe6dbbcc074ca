//! The log of block writes and flushes that `qemu-storage-daemon` keeps (driver `blklogwrites`), in the format of the kernel's dm-log-writes
//! (`torvalds/linux:Documentation/admin-guide/device-mapper/log-writes.rst`, `qemu/qemu:block/blklogwrites.c`).

use super::blocks::Blocks;

const MAGIC: u64 = 0x006a_7366_7773_6872;
const VERSION: u64 = 1;
/// Everything written before it is durable once it is in the log.
const FLUSH: u64 = 1;
/// Durable by itself.
const FUA: u64 = 2;
/// No data: the range reads as zeros.
const DISCARD: u64 = 4;

/// What the disk was told, in order.
#[derive(Debug)]
pub(crate) struct Log {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
}

/// One thing that the disk was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    offset: u64,
    length: u64,
    flags: u64,
    data: usize,
    /// Size of the log file once this entry was in it.
    pub(crate) log_size: u64,
}

impl Entry {
    /// Does it make all that came before durable?
    pub(crate) fn is_flush(&self) -> bool {
        self.flags & FLUSH != 0
    }

    /// Does it change the disk?
    pub(crate) fn is_write(&self) -> bool {
        self.length > 0
    }

    /// Is it durable by itself?
    pub(crate) fn is_forced(&self) -> bool {
        self.flags & FUA != 0
    }
}

/// Why a log cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LogError {
    #[error("it is no log of block writes")]
    Foreign,
    #[error("its version is {0}, not {VERSION}")]
    Version(u64),
    #[error("it ends in the middle of entry {0}")]
    CutShort(usize),
}

fn integer(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

impl Log {
    /// Reads a log whose writer has ended.
    pub(crate) fn parse(bytes: Vec<u8>) -> Result<Self, LogError> {
        if integer(&bytes, 0) != Some(MAGIC) {
            return Err(LogError::Foreign);
        }
        match integer(&bytes, 8) {
            Some(VERSION) => {}
            found => return Err(LogError::Version(found.unwrap_or_default())),
        }
        let count = integer(&bytes, 16).and_then(|count| usize::try_from(count).ok()).ok_or(LogError::Foreign)?;
        let sector = bytes.get(24..28).and_then(|found| found.try_into().ok()).map(u32::from_le_bytes);
        let sector = sector.filter(|size| size.is_power_of_two() && *size >= 512).ok_or(LogError::Foreign)?;
        let sector_bytes = u64::from(sector);
        let header = sector as usize;
        let mut entries = Vec::new();
        let mut at = header;
        for number in 0..count {
            let entry = Self::entry(&bytes, at, header, sector_bytes).ok_or(LogError::CutShort(number))?;
            at = usize::try_from(entry.log_size).map_err(|_| LogError::CutShort(number))?;
            entries.push(entry);
        }
        Ok(Self { bytes, entries })
    }

    fn entry(bytes: &[u8], at: usize, header: usize, sector_bytes: u64) -> Option<Entry> {
        let offset = integer(bytes, at)?.checked_mul(sector_bytes)?;
        let length = integer(bytes, at.checked_add(8)?)?.checked_mul(sector_bytes)?;
        let flags = integer(bytes, at.checked_add(16)?)?;
        let data = at.checked_add(header)?;
        let stored = if flags & DISCARD == 0 { usize::try_from(length).ok()? } else { 0 };
        let end = data.checked_add(stored)?;
        (end <= bytes.len()).then_some(Entry { offset, length, flags, data, log_size: end as u64 })
    }

    /// What the disk was told, in order.
    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// How many entries were whole when the file had this size.
    pub(crate) fn entries_within(&self, log_size: u64) -> usize {
        self.entries.partition_point(|entry| entry.log_size <= log_size)
    }

    /// Does to a disk what the entry says.
    pub(crate) fn apply(&self, entry: &Entry, disk: &mut Blocks) {
        if entry.flags & DISCARD != 0 {
            disk.discard(entry.offset, entry.length);
        } else if let Some(data) = usize::try_from(entry.length)
            .ok()
            .and_then(|length| self.bytes.get(entry.data..entry.data.checked_add(length)?))
        {
            disk.write(entry.offset, data);
        }
    }

    /// Only the first `sectors` sectors of 512 bytes of it: a write that was torn.
    pub(crate) fn apply_torn(&self, entry: &Entry, sectors: u64, disk: &mut Blocks) {
        let torn = Entry { length: entry.length.min(sectors * 512), ..*entry };
        self.apply(&torn, disk);
    }

    /// How many sectors of 512 bytes it changes.
    pub(crate) fn sectors(entry: &Entry) -> u64 {
        entry.length / 512
    }

    /// Runs of entries between flushes: (first entry, entry after the last). Writes of one run may reach the disk in any order, or not at all.
    pub(crate) fn epochs(&self) -> Vec<(usize, usize)> {
        let mut epochs = Vec::new();
        let mut start = 0;
        for (number, entry) in self.entries.iter().enumerate() {
            if entry.is_flush() {
                epochs.push((start, number));
                // A flush with a write flushes first.
                start = if entry.is_write() { number } else { number + 1 };
            }
        }
        epochs.push((start, self.entries.len()));
        epochs.retain(|(start, end)| start < end);
        epochs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(entries: &[(u64, &[u8], u64)]) -> Vec<u8> {
        let mut bytes = vec![0; 512];
        bytes[..8].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[8..16].copy_from_slice(&1_u64.to_le_bytes());
        bytes[16..24].copy_from_slice(&(entries.len() as u64).to_le_bytes());
        bytes[24..28].copy_from_slice(&512_u32.to_le_bytes());
        for (sector, data, flags) in entries {
            let mut header = vec![0; 512];
            header[..8].copy_from_slice(&sector.to_le_bytes());
            header[8..16].copy_from_slice(&(data.len() as u64 / 512).to_le_bytes());
            header[16..24].copy_from_slice(&flags.to_le_bytes());
            bytes.extend(header);
            if flags & DISCARD == 0 {
                bytes.extend_from_slice(data);
            }
        }
        bytes
    }

    #[test]
    fn entries_are_read_and_applied_in_order() {
        let read = Log::parse(log(&[(8, &[1; 1024], 0), (0, &[], FLUSH), (9, &[2; 512], 0), (8, &[0; 512], DISCARD)]));
        let read = read.unwrap();
        assert_eq!(read.entries().len(), 4);
        assert_eq!(read.entries_within(512 + 1536), 1);
        assert_eq!(read.entries_within(512 + 1536 + 511), 1);
        assert_eq!(read.entries_within(u64::MAX), 4);
        let mut disk = Blocks::default();
        for entry in read.entries() {
            read.apply(entry, &mut disk);
        }
        let mut expected = Blocks::default();
        expected.write(8 * 512, &[0; 512]);
        expected.write(9 * 512, &[2; 512]);
        assert_eq!(disk, expected);
    }

    #[test]
    fn an_epoch_ends_at_each_flush_and_empty_ones_are_left_out() {
        let read = Log::parse(log(&[
            (8, &[1; 512], 0),
            (9, &[1; 512], 0),
            (0, &[], FLUSH),
            (0, &[], FLUSH),
            (9, &[2; 512], 0),
        ]));
        assert_eq!(read.unwrap().epochs(), [(0, 2), (4, 5)]);
    }

    #[test]
    fn a_log_cut_anywhere_is_said_to_be_so() {
        let whole = log(&[(8, &[1; 512], 0), (0, &[], FLUSH)]);
        for length in 0..whole.len() {
            // A header needs its 24 bytes, whatever padding is cut.
            if length < whole.len() - 512 + 24 {
                assert!(Log::parse(whole[..length].to_vec()).is_err(), "{length}");
            }
        }
        assert_eq!(Log::parse(vec![7; 4096]).unwrap_err(), LogError::Foreign);
    }
}
