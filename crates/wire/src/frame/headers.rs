//! The header block, typed by its readers.

use std::collections::BTreeMap;
use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

/// A frame's headers by key.
///
/// The wire carries no types: a reader that does not find the length or form it expects answers `None`, as if the header
/// were absent. (Upstream's reader of u64 calls a wrong length "present, 0"; [`Headers::u64_or_zero`] does so too.)
/// Order on the wire means nothing; we write ascending keys.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers(BTreeMap<i32, Bytes>);

impl Headers {
    /// No headers.
    pub const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Sets `key`, whatever it was before.
    pub fn insert(&mut self, key: i32, value: impl Into<Bytes>) {
        self.0.insert(key, value.into());
    }

    /// The raw bytes of `key`.
    pub fn get(&self, key: i32) -> Option<&Bytes> {
        self.0.get(&key)
    }

    /// Takes `key` out.
    pub fn remove(&mut self, key: i32) -> Option<Bytes> {
        self.0.remove(&key)
    }

    /// Whether `key` is there, whatever its value.
    pub fn contains(&self, key: i32) -> bool {
        self.0.contains_key(&key)
    }

    /// A bool: the first byte is 1. Absent if there is no first byte.
    pub fn bool(&self, key: i32) -> Option<bool> {
        self.get(key)?.first().map(|byte| *byte == 1)
    }

    /// One byte.
    pub fn u8(&self, key: i32) -> Option<u8> {
        self.exactly(key).map(u8::from_le_bytes)
    }

    /// Two bytes, little endian.
    pub fn u16(&self, key: i32) -> Option<u16> {
        self.exactly(key).map(u16::from_le_bytes)
    }

    /// Four bytes, little endian.
    pub fn u32(&self, key: i32) -> Option<u32> {
        self.exactly(key).map(u32::from_le_bytes)
    }

    /// Four bytes, little endian, signed.
    pub fn i32(&self, key: i32) -> Option<i32> {
        self.exactly(key).map(i32::from_le_bytes)
    }

    /// Eight bytes, little endian.
    pub fn u64(&self, key: i32) -> Option<u64> {
        self.exactly(key).map(u64::from_le_bytes)
    }

    /// Eight bytes, little endian; any other length counts as 0, which is what upstream's reader says of it.
    pub fn u64_or_zero(&self, key: i32) -> Option<u64> {
        self.get(key).map(|_| self.u64(key).unwrap_or(0))
    }

    /// UTF-8 text, no terminator.
    pub fn text(&self, key: i32) -> Option<&str> {
        std::str::from_utf8(self.get(key)?).ok()
    }

    /// Sets one byte, `01` or `00`.
    pub fn set_bool(&mut self, key: i32, value: bool) {
        self.insert(key, Bytes::from_static(if value { &[1] } else { &[0] }));
    }

    /// Sets two bytes.
    pub fn set_u16(&mut self, key: i32, value: u16) {
        self.insert(key, Bytes::copy_from_slice(&value.to_le_bytes()));
    }

    /// Sets four bytes.
    pub fn set_u32(&mut self, key: i32, value: u32) {
        self.insert(key, Bytes::copy_from_slice(&value.to_le_bytes()));
    }

    /// Sets four bytes, signed.
    pub fn set_i32(&mut self, key: i32, value: i32) {
        self.insert(key, Bytes::copy_from_slice(&value.to_le_bytes()));
    }

    /// Sets eight bytes.
    pub fn set_u64(&mut self, key: i32, value: u64) {
        self.insert(key, Bytes::copy_from_slice(&value.to_le_bytes()));
    }

    /// Sets text.
    pub fn set_text(&mut self, key: i32, value: impl AsRef<str>) {
        self.insert(key, Bytes::copy_from_slice(value.as_ref().as_bytes()));
    }

    /// All headers, ascending by key.
    pub fn iter(&self) -> impl Iterator<Item = (i32, &Bytes)> {
        self.0.iter().map(|(key, value)| (*key, value))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Length of the block on the wire, in bytes.
    pub fn encoded_bytes(&self) -> usize {
        self.0.values().fold(0, |sum: usize, value| sum.saturating_add(8).saturating_add(value.len()))
    }

    /// Appends the block to `out`. The caller has checked that the block's length fits 32 bits.
    pub(super) fn encode(&self, out: &mut BytesMut) {
        for (key, value) in &self.0 {
            out.put_i32_le(*key);
            out.put_u32_le(super::saturating_u32(value.len()));
            out.put_slice(value);
        }
    }

    /// Copies every value, so that a kept header does not keep its whole frame in memory.
    #[must_use]
    pub fn detached(&self) -> Self {
        self.0.iter().map(|(key, value)| (*key, Bytes::copy_from_slice(value))).collect()
    }

    fn exactly<const N: usize>(&self, key: i32) -> Option<[u8; N]> {
        self.get(key)?.as_ref().try_into().ok()
    }
}

impl FromIterator<(i32, Bytes)> for Headers {
    fn from_iter<I: IntoIterator<Item = (i32, Bytes)>>(entries: I) -> Self {
        Self(entries.into_iter().collect())
    }
}

/// Keys and lengths only: a value may be a group secret.
impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        for (key, value) in &self.0 {
            map.entry(key, &format_args!("{} bytes", value.len()));
        }
        map.finish()
    }
}
