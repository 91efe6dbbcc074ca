//! Result frames, and the two built-in questions that every channel answers: ping and latency.
//!
//! Upstream: `openziti/channel:messages.go`, `openziti/channel:latency/latency.go`,
//! `openziti/ziti:controller/handler_ctrl/bind.go`.

use crate::frame::Frame;
use crate::message::{MessageError, expect};
use crate::{content_type, header};

/// A `Result` that answers a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Whether it worked.
    pub is_success: bool,
    /// For people, except where a request says otherwise (a new terminator's id).
    pub text: String,
    /// The request may be repeated later (`RemoveTerminators`).
    pub is_busy: bool,
}

impl Outcome {
    /// It worked.
    pub fn success(text: impl Into<String>) -> Self {
        Self { is_success: true, text: text.into(), is_busy: false }
    }

    /// It did not.
    pub fn failure(text: impl Into<String>) -> Self {
        Self { is_success: false, text: text.into(), is_busy: false }
    }

    /// The outcome, marked as the reply to `request`.
    pub fn to_reply(&self, request: &Frame) -> Frame {
        let mut reply = Frame::reply(content_type::RESULT, self.text.clone(), request);
        reply.headers.set_bool(header::RESULT_SUCCESS, self.is_success);
        if self.is_busy {
            reply.headers.set_u32(header::RESULT_BUSY, 1);
        }
        reply
    }

    /// Reads a result; one that does not say success is a failure.
    ///
    /// # Errors
    /// [`MessageError::OtherType`].
    pub fn from_frame(frame: &Frame) -> Result<Self, MessageError> {
        expect(frame, content_type::RESULT)?;
        Ok(Self {
            is_success: frame.headers.bool(header::RESULT_SUCCESS) == Some(true),
            text: String::from_utf8_lossy(&frame.body).into_owned(),
            is_busy: frame.headers.u32(header::RESULT_BUSY) == Some(1),
        })
    }
}

/// A frame that asks for [`Outcome`] `ok`.
pub fn ping() -> Frame {
    Frame::new(content_type::PING, "")
}

/// A latency probe sent at `now_ns`, unix nanoseconds.
pub fn latency_probe(now_ns: u64) -> Frame {
    let mut probe = Frame::new(content_type::LATENCY, "");
    probe.headers.set_u64(header::REFLECTED, now_ns);
    probe
}

/// The answer to a ping or a latency probe; `None` for every other frame.
pub fn answer_to(frame: &Frame) -> Option<Frame> {
    match frame.content_type {
        content_type::PING => Some(Outcome::success("ok").to_reply(frame)),
        content_type::LATENCY => Some(Outcome::success("").to_reply(frame)),
        _ => None,
    }
}

/// The other form of an answer to a latency probe: type 4, not marked as a reply.
pub fn latency_response(probe: &Frame) -> Frame {
    let mut answer = Frame::new(content_type::LATENCY_RESPONSE, "");
    if let Some(reflected) = probe.headers.get(header::REFLECTED) {
        answer.headers.insert(header::REFLECTED, reflected.clone());
    }
    answer
}

/// Nanoseconds from [`latency_probe`] to its answer, of either form, that arrived at `now_ns`; `None` if `frame` is no
/// such answer.
pub fn latency_ns(frame: &Frame, now_ns: u64) -> Option<u64> {
    matches!(frame.content_type, content_type::RESULT | content_type::LATENCY_RESPONSE)
        .then(|| frame.headers.u64(header::REFLECTED))
        .flatten()
        .map(|sent_ns| now_ns.saturating_sub(sent_ns))
}
