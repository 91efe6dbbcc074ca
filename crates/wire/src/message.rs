//! What all protobuf-bodied messages share: how a body is read and written, and what can be wrong with one.

use prost::Message;
use thiserror::Error;

use crate::content_type;
use crate::frame::Frame;

/// Why a frame is not the message it is taken for. Always the sender's fault; the channel stays up.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum MessageError {
    /// The frame holds another message.
    #[error("expected {}, found {}", shown(*.expected), shown(*.found))]
    OtherType {
        /// Content type asked for.
        expected: i32,
        /// Content type of the frame.
        found: i32,
    },
    /// The body is no such protobuf message.
    #[error("the body of {} cannot be read", shown(*.content_type))]
    Malformed {
        /// Content type of the frame.
        content_type: i32,
        /// What is wrong with it.
        #[source]
        source: ProtobufError,
    },
    /// The body is longer than such a message ever is.
    #[error("{} of {bytes} bytes; at most {max_bytes} are accepted", shown(*.content_type))]
    TooLong {
        /// Content type of the frame.
        content_type: i32,
        /// Length of the body.
        bytes: usize,
        /// The cap.
        max_bytes: usize,
    },
    /// A part that is text by convention is not UTF-8.
    #[error("the {what} of {} is not UTF-8 text", shown(*.content_type))]
    NotText {
        /// Content type of the frame.
        content_type: i32,
        /// Which part.
        what: &'static str,
    },
    /// A header without which the message says nothing is absent or malformed.
    #[error("{} lacks its {what}", shown(*.content_type))]
    Missing {
        /// Content type of the frame.
        content_type: i32,
        /// Which header.
        what: &'static str,
    },
}

/// What protobuf's decoder says.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error(transparent)]
pub struct ProtobufError(prost::DecodeError);

fn shown(content_type: i32) -> String {
    content_type::name(content_type)
        .map_or_else(|| format!("content type {content_type}"), |name| format!("`{name}` ({content_type})"))
}

/// A message whose body is one protobuf message and whose headers carry nothing.
pub(crate) trait Body: Sized {
    /// Its content type.
    const CONTENT_TYPE: i32;
    /// Longest body, in bytes; the frame's own cap comes first.
    const BYTES_MAX: usize = usize::MAX;
    /// Its form on the wire.
    type Proto: Message + Default;
    /// To the wire.
    fn to_proto(&self) -> Self::Proto;
    /// From the wire.
    fn from_proto(proto: Self::Proto) -> Self;
}

/// A frame around `body`.
pub(crate) fn write<B: Body>(body: &B) -> Frame {
    Frame::new(B::CONTENT_TYPE, body.to_proto().encode_to_vec())
}

/// The body of `frame`, if it is a `B`.
pub(crate) fn read<B: Body>(frame: &Frame) -> Result<B, MessageError> {
    expect(frame, B::CONTENT_TYPE)?;
    if frame.body.len() > B::BYTES_MAX {
        let (bytes, max_bytes) = (frame.body.len(), B::BYTES_MAX);
        return Err(MessageError::TooLong { content_type: B::CONTENT_TYPE, bytes, max_bytes });
    }
    decode(B::CONTENT_TYPE, &frame.body).map(B::from_proto)
}

/// Reads `bytes` as a protobuf message that came with `content_type`.
pub(crate) fn decode<P: Message + Default>(content_type: i32, bytes: &[u8]) -> Result<P, MessageError> {
    P::decode(bytes).map_err(|error| MessageError::Malformed { content_type, source: ProtobufError(error) })
}

/// Checks the content type.
pub(crate) fn expect(frame: &Frame, expected: i32) -> Result<(), MessageError> {
    if frame.content_type == expected {
        Ok(())
    } else {
        Err(MessageError::OtherType { expected, found: frame.content_type })
    }
}

/// The body as text.
pub(crate) fn text(frame: &Frame, what: &'static str) -> Result<String, MessageError> {
    std::str::from_utf8(&frame.body)
        .map(str::to_owned)
        .map_err(|_| MessageError::NotText { content_type: frame.content_type, what })
}

/// `to_frame` and `from_frame` of a [`Body`].
macro_rules! framed {
    ($($message:ty),+ $(,)?) => {$(
        impl $message {
            /// The message as a frame; the channel numbers it.
            pub fn to_frame(&self) -> $crate::frame::Frame {
                $crate::message::write(self)
            }

            /// Reads the message.
            ///
            /// # Errors
            /// [`MessageError`](crate::MessageError) if the frame is another message or its body is malformed.
            pub fn from_frame(frame: &$crate::frame::Frame) -> Result<Self, $crate::MessageError> {
                $crate::message::read(frame)
            }
        }
    )+};
}
pub(crate) use framed;

/// An enum of the wire: names for the numbers that we know, and room for those that we do not.
macro_rules! open_enum {
    ($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $number:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[$variant_meta])* $variant,)+
            /// A number that this crate does not know.
            Other(i32),
        }

        impl From<i32> for $name {
            fn from(number: i32) -> Self {
                match number {
                    $($number => Self::$variant,)+
                    other => Self::Other(other),
                }
            }
        }

        impl From<$name> for i32 {
            fn from(value: $name) -> Self {
                match value {
                    $($name::$variant => $number,)+
                    $name::Other(other) => other,
                }
            }
        }
    };
}
pub(crate) use open_enum;
