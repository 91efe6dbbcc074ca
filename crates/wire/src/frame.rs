//! Frames: `03 06 09 0c`, content type, sequence, two lengths, header block, body; little endian throughout.
//!
//! Upstream: `openziti/channel:message.go`. Upstream trusts both lengths; [`Limits`] are ours.

mod decode;
mod headers;
mod value;

use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;

pub use decode::Decoder;
pub use headers::Headers;
pub use value::{
    BYTES_MAP_ENTRIES_MAX, LIST_ITEMS_MAX, VALUE_BYTES_MAX, ValueError, decode_bytes_map, decode_list, decode_text_map,
    encode_bytes_map, encode_list, encode_text_map,
};

use crate::header;

/// The four bytes every frame begins with.
pub const MAGIC: [u8; 4] = [0x03, 0x06, 0x09, 0x0c];
/// The four bytes of a version negotiation reply.
pub const NEGOTIATION_MAGIC: [u8; 4] = [0x03, 0x06, 0x09, 0x0a];
/// What a listener writes, before it closes, to a peer whose first four bytes are no magic it knows. Lists versions 1
/// and 2 as upstream does, although only 2 is alive.
pub const NEGOTIATION_REPLY: [u8; 16] = [0x03, 0x06, 0x09, 0x0a, 2, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0];
/// Bytes before the header block.
pub const PREAMBLE_BYTES: usize = 20;
/// Most entries in one header block. Ours: a small entry costs more memory decoded than on the wire.
pub const HEADER_ENTRIES_MAX: usize = 4096;
/// Sequence number of hello and result of the hello exchange, and the reply-for value that means "not a reply".
pub const NO_SEQUENCE: i32 = -1;

/// How long the two variable parts of a frame may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest header block, in bytes.
    pub header_bytes_max: u32,
    /// Longest body, in bytes.
    pub body_bytes_max: u32,
}

impl Limits {
    /// For the hello and its result: upstream's own caps.
    pub const HELLO: Self = Self { header_bytes_max: 16_384, body_bytes_max: 4_192 };
    /// For everything after the hello: 1 MiB of headers, 16 MiB of body.
    pub const CHANNEL: Self = Self { header_bytes_max: 1 << 20, body_bytes_max: 16 << 20 };
    /// For a router that consumes the data model, whose `DataState` is one frame: 256 MiB of body.
    pub const DATA_MODEL: Self = Self { header_bytes_max: 1 << 20, body_bytes_max: 256 << 20 };

    /// Whether a header block of `header_bytes` and a body of `body_bytes` are allowed.
    fn check(self, header_bytes: usize, body_bytes: usize) -> Result<(), FrameError> {
        if header_bytes as u64 > u64::from(self.header_bytes_max) {
            return Err(FrameError::HeadersTooLong { bytes: header_bytes as u64, max_bytes: self.header_bytes_max });
        }
        if body_bytes as u64 > u64::from(self.body_bytes_max) {
            return Err(FrameError::BodyTooLong { bytes: body_bytes as u64, max_bytes: self.body_bytes_max });
        }
        Ok(())
    }
}

/// Why bytes are no frame. All of these are the peer's fault and end the underlay.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum FrameError {
    /// The stream does not begin with [`MAGIC`]. As the first bytes of an underlay this calls for
    /// [`NEGOTIATION_REPLY`].
    #[error("the peer does not speak this protocol: expected `03 06 09 0c`, found `{}`", hex(.found))]
    UnknownMagic {
        /// What came instead; shorter than four bytes if the first ones already differ.
        found: Vec<u8>,
    },
    /// The peer refuses the frame version and lists those it speaks.
    #[error("the peer refuses frame version 2; it offers versions {offered:?}")]
    VersionRefused {
        /// Versions the peer speaks, in its order.
        offered: Vec<u32>,
    },
    /// A version negotiation reply that lists absurdly many versions.
    #[error("the peer lists {count} frame versions; at most 64 are believable")]
    TooManyVersions {
        /// What it announced.
        count: u32,
    },
    /// The announced header block is over the cap.
    #[error("header block of {bytes} bytes; at most {max_bytes} are accepted here")]
    HeadersTooLong {
        /// Announced length.
        bytes: u64,
        /// The cap.
        max_bytes: u32,
    },
    /// The announced body is over the cap.
    #[error("body of {bytes} bytes; at most {max_bytes} are accepted here")]
    BodyTooLong {
        /// Announced length.
        bytes: u64,
        /// The cap.
        max_bytes: u32,
    },
    /// An entry of the header block runs past its end, or a remainder is shorter than an entry.
    #[error("the header block is cut short: {left} bytes left where an entry needs {needed}")]
    HeadersCutShort {
        /// Bytes left in the block.
        left: usize,
        /// Bytes the entry announces, its own preamble of 8 included.
        needed: u64,
    },
    /// More entries than [`HEADER_ENTRIES_MAX`].
    #[error("the header block has more than {max} entries")]
    TooManyHeaders {
        /// The cap.
        max: usize,
    },
}

impl FrameError {
    /// Whether a listener that got this for the first bytes of an underlay should write [`NEGOTIATION_REPLY`].
    pub fn wants_negotiation_reply(&self) -> bool {
        matches!(self, Self::UnknownMagic { .. })
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}

/// One frame of a channel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// What the body means; see [`crate::content_type`].
    pub content_type: i32,
    /// The sender's number for this frame: 1 and up per channel, -1 in the hello exchange.
    pub sequence: i32,
    /// Everything that is not the body.
    pub headers: Headers,
    /// Opaque here.
    pub body: Bytes,
}

impl Frame {
    /// A frame without headers, and with sequence 0 until the channel gives it its number.
    pub fn new(content_type: i32, body: impl Into<Bytes>) -> Self {
        Self { content_type, sequence: 0, headers: Headers::new(), body: body.into() }
    }

    /// A reply of `content_type` to `request`: marked with its sequence, and with its header 128 reflected.
    pub fn reply(content_type: i32, body: impl Into<Bytes>, request: &Self) -> Self {
        let mut reply = Self::new(content_type, body);
        reply.set_reply_for(request.sequence);
        if let Some(reflected) = request.headers.get(header::REFLECTED) {
            reply.headers.insert(header::REFLECTED, reflected.clone());
        }
        reply
    }

    /// Length on the wire, in bytes.
    pub fn encoded_bytes(&self) -> usize {
        PREAMBLE_BYTES.saturating_add(self.headers.encoded_bytes()).saturating_add(self.body.len())
    }

    /// Appends the frame to `out`, headers in ascending order of their keys. Writes nothing at all if a length does not
    /// fit the wire's 32 bits; [`Frame::encode_within`] reports that.
    pub fn encode(&self, out: &mut BytesMut) {
        let any = Limits { header_bytes_max: u32::MAX, body_bytes_max: u32::MAX };
        let _too_long_for_the_wire = self.encode_within(any, out);
    }

    /// Appends the frame to `out` if it is within `limits`.
    ///
    /// # Errors
    /// [`FrameError::HeadersTooLong`] and [`FrameError::BodyTooLong`]; `out` is untouched then.
    pub fn encode_within(&self, limits: Limits, out: &mut BytesMut) -> Result<(), FrameError> {
        let header_bytes = self.headers.encoded_bytes();
        limits.check(header_bytes, self.body.len())?;
        out.reserve(self.encoded_bytes());
        out.put_slice(&MAGIC);
        out.put_i32_le(self.content_type);
        out.put_i32_le(self.sequence);
        out.put_u32_le(saturating_u32(header_bytes));
        out.put_u32_le(saturating_u32(self.body.len()));
        self.headers.encode(out);
        out.put_slice(&self.body);
        Ok(())
    }

    /// The frame as bytes of its own.
    pub fn to_bytes(&self) -> Bytes {
        let mut out = BytesMut::new();
        self.encode(&mut out);
        out.freeze()
    }

    /// The request that this frame answers; `None` if it is not a reply (header 1 absent, malformed or -1).
    pub fn reply_for(&self) -> Option<i32> {
        self.headers.i32(header::REPLY_FOR).filter(|sequence| *sequence != NO_SEQUENCE)
    }

    /// Marks this frame as the answer to the request numbered `sequence`.
    pub fn set_reply_for(&mut self, sequence: i32) {
        self.headers.set_i32(header::REPLY_FOR, sequence);
    }
}

/// Lengths are checked against a cap of 32 bits before they are written; this cannot change one.
fn saturating_u32(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}
