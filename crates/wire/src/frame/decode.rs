//! From bytes to frames, within caps.

use bytes::{Buf, Bytes, BytesMut};

use super::{Frame, FrameError, Headers, Limits, MAGIC, NEGOTIATION_MAGIC, PREAMBLE_BYTES};

/// Most that is reserved ahead of bytes that have not arrived: an announced length alone costs a peer nothing, so it
/// buys it nothing.
const RESERVE_AHEAD_BYTES: usize = 64 << 10;
/// Most versions in a negotiation reply, as upstream's dialer has it.
const OFFERED_VERSIONS_MAX: u32 = 64;

/// Cuts a stream of bytes into frames.
///
/// Keeps no bytes of its own: what is not yet a whole frame stays in the caller's buffer. After an error the stream is
/// lost, and the same call gives the same error.
#[derive(Clone, Copy, Debug)]
pub struct Decoder {
    limits: Limits,
}

impl Decoder {
    /// A decoder that refuses what is longer than `limits`.
    pub fn new(limits: Limits) -> Self {
        Self { limits }
    }

    /// Other caps from the next frame on: [`Limits::HELLO`] gives way to [`Limits::CHANNEL`] on the same buffer.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Takes one frame off the front of `buf`; `None` if more bytes are needed, some of which are reserved.
    ///
    /// # Errors
    /// Every [`FrameError`]; lengths are judged as soon as the preamble is there, the magic from its first byte on.
    pub fn decode(&mut self, buf: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
        let head = buf.get(..buf.len().min(4)).unwrap_or_default();
        if !MAGIC.starts_with(head) {
            return if NEGOTIATION_MAGIC.starts_with(head) {
                offered_versions(buf)
            } else {
                Err(FrameError::UnknownMagic { found: head.to_vec() })
            };
        }
        let Some(preamble) = buf.first_chunk::<PREAMBLE_BYTES>() else {
            buf.reserve(PREAMBLE_BYTES.saturating_sub(buf.len()));
            return Ok(None);
        };
        let mut preamble = &preamble[4..];
        let content_type = preamble.get_i32_le();
        let sequence = preamble.get_i32_le();
        let header_bytes = preamble.get_u32_le();
        let body_bytes = preamble.get_u32_le();
        if header_bytes > self.limits.header_bytes_max {
            let max_bytes = self.limits.header_bytes_max;
            return Err(FrameError::HeadersTooLong { bytes: u64::from(header_bytes), max_bytes });
        }
        if body_bytes > self.limits.body_bytes_max {
            let max_bytes = self.limits.body_bytes_max;
            return Err(FrameError::BodyTooLong { bytes: u64::from(body_bytes), max_bytes });
        }
        let frame_bytes = PREAMBLE_BYTES as u64 + u64::from(header_bytes) + u64::from(body_bytes);
        let missing = frame_bytes.saturating_sub(buf.len() as u64);
        if missing > 0 {
            buf.reserve(usize::try_from(missing).map_or(RESERVE_AHEAD_BYTES, |bytes| bytes.min(RESERVE_AHEAD_BYTES)));
            return Ok(None);
        }
        // From here on every length is at most `buf.len()`.
        buf.advance(PREAMBLE_BYTES);
        let block = buf.split_to(header_bytes as usize).freeze();
        let body = buf.split_to(body_bytes as usize).freeze();
        Ok(Some(Frame { content_type, sequence, headers: Headers::decode(block)?, body }))
    }

    /// Decodes exactly one frame out of `bytes`, which hold nothing else.
    ///
    /// # Errors
    /// As [`Decoder::decode`]. `Ok(None)` if the frame is cut short or something follows it.
    pub fn decode_whole(&mut self, bytes: &[u8]) -> Result<Option<Frame>, FrameError> {
        let mut buf = BytesMut::from(bytes);
        let frame = self.decode(&mut buf)?;
        Ok(frame.filter(|_| buf.is_empty()))
    }
}

/// Reads a version negotiation reply, of which at most the magic has been looked at.
fn offered_versions(buf: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
    let mut rest: &[u8] = buf.get(4..).unwrap_or_default();
    if rest.remaining() < 4 {
        return Ok(None);
    }
    let count = rest.get_u32_le();
    if count > OFFERED_VERSIONS_MAX {
        return Err(FrameError::TooManyVersions { count });
    }
    if rest.remaining() < 4 * count as usize {
        return Ok(None);
    }
    Err(FrameError::VersionRefused { offered: (0..count).map(|_| rest.get_u32_le()).collect() })
}

impl Headers {
    /// Reads a header block. A repeated key keeps its last value.
    ///
    /// # Errors
    /// [`FrameError::HeadersCutShort`] and [`FrameError::TooManyHeaders`].
    pub fn decode(mut block: Bytes) -> Result<Self, FrameError> {
        let mut headers = Self::new();
        while !block.is_empty() {
            if block.len() < 8 {
                return Err(FrameError::HeadersCutShort { left: block.len(), needed: 8 });
            }
            let key = block.get_i32_le();
            let value_bytes = block.get_u32_le();
            if u64::from(value_bytes) > block.len() as u64 {
                let needed = 8 + u64::from(value_bytes);
                return Err(FrameError::HeadersCutShort { left: block.len() + 8, needed });
            }
            headers.insert(key, block.split_to(value_bytes as usize));
            if headers.len() > super::HEADER_ENTRIES_MAX {
                return Err(FrameError::TooManyHeaders { max: super::HEADER_ENTRIES_MAX });
            }
        }
        Ok(headers)
    }
}
