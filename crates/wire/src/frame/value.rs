//! Header values that hold several values: text lists and maps.
//!
//! Upstream: `openziti/channel:message.go`, whose readers have the same caps.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use thiserror::Error;

use super::saturating_u32;

/// Most items of a text list.
pub const LIST_ITEMS_MAX: usize = 128;
/// Most entries of a map.
pub const BYTES_MAP_ENTRIES_MAX: usize = 128;
/// Longest item, key or value, in bytes.
pub const VALUE_BYTES_MAX: usize = 8192;

/// Why a header value is no list or map.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ValueError {
    /// Ends before what it announces.
    #[error("the header value is cut short")]
    CutShort,
    /// Goes on after what it announces.
    #[error("{0} bytes follow the header value")]
    Trailing(usize),
    /// Too many items.
    #[error("{count} items; at most {max} are accepted")]
    TooMany {
        /// Announced or given.
        count: usize,
        /// The cap.
        max: usize,
    },
    /// One item is too long.
    #[error("an item of {bytes} bytes; at most {VALUE_BYTES_MAX} are accepted")]
    TooLong {
        /// Announced or given length.
        bytes: usize,
    },
    /// Text that is not UTF-8.
    #[error("an item is not UTF-8 text")]
    NotText,
}

/// Writes a list of texts; the empty list is zero bytes.
///
/// # Errors
/// [`ValueError::TooMany`] and [`ValueError::TooLong`]: a peer would refuse it.
pub fn encode_list<S: AsRef<str>>(items: &[S]) -> Result<Bytes, ValueError> {
    if items.is_empty() {
        return Ok(Bytes::new());
    }
    let mut out = BytesMut::new();
    put_count(&mut out, items.len(), LIST_ITEMS_MAX)?;
    for item in items {
        put_bytes(&mut out, item.as_ref().as_bytes())?;
    }
    Ok(out.freeze())
}

/// Reads a list of texts.
///
/// # Errors
/// Every [`ValueError`].
pub fn decode_list(value: &[u8]) -> Result<Vec<String>, ValueError> {
    if value.is_empty() {
        return Ok(Vec::new());
    }
    let mut rest = value;
    let count = get_count(&mut rest, LIST_ITEMS_MAX)?;
    let items = (0..count).map(|_| get_text(&mut rest)).collect::<Result<_, _>>()?;
    end(rest).map(|()| items)
}

/// Writes a map from numbers to bytes.
///
/// # Errors
/// [`ValueError::TooMany`] and [`ValueError::TooLong`].
pub fn encode_bytes_map(map: &BTreeMap<u32, Bytes>) -> Result<Bytes, ValueError> {
    let mut out = BytesMut::new();
    put_count(&mut out, map.len(), BYTES_MAP_ENTRIES_MAX)?;
    for (key, value) in map {
        out.put_u32_le(*key);
        put_bytes(&mut out, value)?;
    }
    Ok(out.freeze())
}

/// Reads a map from numbers to bytes; a repeated key keeps its last value.
///
/// # Errors
/// Every [`ValueError`] but [`ValueError::NotText`].
pub fn decode_bytes_map(value: &[u8]) -> Result<BTreeMap<u32, Bytes>, ValueError> {
    let mut rest = value;
    let mut map = BTreeMap::new();
    for _ in 0..get_count(&mut rest, BYTES_MAP_ENTRIES_MAX)? {
        let key = get_u32(&mut rest)?;
        map.insert(key, Bytes::copy_from_slice(get_bytes(&mut rest)?));
    }
    end(rest).map(|()| map)
}

/// Writes a map from text to text.
///
/// # Errors
/// [`ValueError::TooMany`] and [`ValueError::TooLong`].
pub fn encode_text_map(map: &BTreeMap<String, String>) -> Result<Bytes, ValueError> {
    let mut out = BytesMut::new();
    put_count(&mut out, map.len(), BYTES_MAP_ENTRIES_MAX)?;
    for (key, value) in map {
        put_bytes(&mut out, key.as_bytes())?;
        put_bytes(&mut out, value.as_bytes())?;
    }
    Ok(out.freeze())
}

/// Reads a map from text to text; a repeated key keeps its last value.
///
/// # Errors
/// Every [`ValueError`].
pub fn decode_text_map(value: &[u8]) -> Result<BTreeMap<String, String>, ValueError> {
    let mut rest = value;
    let mut map = BTreeMap::new();
    for _ in 0..get_count(&mut rest, BYTES_MAP_ENTRIES_MAX)? {
        let key = get_text(&mut rest)?;
        map.insert(key, get_text(&mut rest)?);
    }
    end(rest).map(|()| map)
}

fn put_count(out: &mut BytesMut, count: usize, max: usize) -> Result<(), ValueError> {
    if count > max {
        return Err(ValueError::TooMany { count, max });
    }
    out.put_u32_le(saturating_u32(count));
    Ok(())
}

fn put_bytes(out: &mut BytesMut, bytes: &[u8]) -> Result<(), ValueError> {
    if bytes.len() > VALUE_BYTES_MAX {
        return Err(ValueError::TooLong { bytes: bytes.len() });
    }
    out.put_u32_le(saturating_u32(bytes.len()));
    out.put_slice(bytes);
    Ok(())
}

fn get_u32(rest: &mut &[u8]) -> Result<u32, ValueError> {
    let (head, tail) = rest.split_first_chunk::<4>().ok_or(ValueError::CutShort)?;
    *rest = tail;
    Ok(u32::from_le_bytes(*head))
}

fn get_count(rest: &mut &[u8], max: usize) -> Result<usize, ValueError> {
    let count = get_u32(rest)? as usize;
    if count > max { Err(ValueError::TooMany { count, max }) } else { Ok(count) }
}

fn get_bytes<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], ValueError> {
    let bytes = get_u32(rest)? as usize;
    if bytes > VALUE_BYTES_MAX {
        return Err(ValueError::TooLong { bytes });
    }
    let (head, tail) = rest.split_at_checked(bytes).ok_or(ValueError::CutShort)?;
    *rest = tail;
    Ok(head)
}

fn get_text(rest: &mut &[u8]) -> Result<String, ValueError> {
    std::str::from_utf8(get_bytes(rest)?).map(str::to_owned).map_err(|_| ValueError::NotText)
}

fn end(rest: &[u8]) -> Result<(), ValueError> {
    if rest.has_remaining() { Err(ValueError::Trailing(rest.len())) } else { Ok(()) }
}
