//! One side of a conversation, played to a real daemon.
//!
//! Everything is sent as it was captured, but for what cannot be the same twice:
//!
//! 1. Sequence numbers stay. Header 1 of an answer becomes the number of the live request of the same type; an answer is sent when that
//!    request comes, and the last answer of a kind is given again if it is asked for more often.
//! 2. Header 6 is left out, and each live header 5 is answered with a heartbeat frame of its own.
//! 3. In hellos and their answers: the router's id, the group's id and secret, and the echo of the underlay's type are the live ones.
//! 4. In 20301, 20302 and 20303: certificates and CSRs of the live keys take the place of those that were captured.
//! 5. In 1037 and 1020: the port where the daemon really finds its controller.
//!
//! What the daemon must do is what its counterpart did: every message that was answered in the conversation is answered with the same type.

pub mod as_controller;
pub mod as_router;
pub mod enrollment;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::{Bytes, BytesMut};
use netfault::proxy::Way;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use wire::{Decoder, Frame, Limits, content_type, header};

use crate::fixture::{Captured, Conversation};

/// Longest wait for anything; reached only when something is broken.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What one side says: what it says by itself, and what it answers.
#[derive(Clone, Debug, Default)]
struct Script {
    /// In the order in which it was said.
    unasked: Vec<Frame>,
    /// By the content type of the request.
    answers: BTreeMap<i32, VecDeque<Frame>>,
    /// Which answer the other side gave to which of `unasked`, by its number.
    owed: BTreeMap<i32, i32>,
}

impl Script {
    /// What went `way` on these connections.
    fn of(conversation: &Conversation, way: Way, connections: &[u64]) -> Self {
        let mut script = Self::default();
        let is_wanted = |one: &&Captured| connections.contains(&one.connection) && !one.is_greeting();
        for one in conversation.going(way).filter(is_wanted) {
            let mut frame = one.frame.clone();
            frame.headers.remove(header::HEARTBEAT_RESPONSE);
            let request = match frame.content_type {
                content_type::ENROLLMENT_CERTS => Some(content_type::EXTENSION_REQUEST),
                content_type::EXTENSION_VERIFY => Some(content_type::ENROLLMENT_CERTS),
                _ => conversation.asked_by(one),
            };
            match request {
                Some(kind) => script.answers.entry(kind).or_default().push_back(frame),
                // It answers what was not kept.
                None if frame.reply_for().is_some() => {}
                None => {
                    let is_answer = |other: &&Captured| other.frame.reply_for() == Some(frame.sequence);
                    if let Some(answer) = conversation.going(way.back()).find(is_answer) {
                        script.owed.insert(frame.sequence, answer.frame.content_type);
                    }
                    script.unasked.push(frame);
                }
            }
        }
        script
    }

    /// The answer to a live frame, if there is one.
    fn answer_to(&mut self, live: &Frame) -> Option<Frame> {
        let answers = self.answers.get_mut(&live.content_type)?;
        let mut answer = if answers.len() > 1 { answers.pop_front()? } else { answers.front()?.clone() };
        if answer.reply_for().is_some() {
            answer.set_reply_for(live.sequence);
        }
        Some(answer)
    }
}

/// The heartbeat that answers the one in this frame.
fn heartbeat_for(live: &Frame) -> Option<Frame> {
    let sent = live.headers.get(header::HEARTBEAT)?.clone();
    let mut beat = Frame::new(content_type::HEARTBEAT, Bytes::new());
    beat.headers.insert(header::HEARTBEAT_RESPONSE, sent);
    Some(beat)
}

struct Reader<R> {
    from: R,
    decoder: Decoder,
    unread: BytesMut,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    fn new(from: R) -> Self {
        Self { from, decoder: Decoder::new(Limits::CHANNEL), unread: BytesMut::new() }
    }

    /// The next frame; `None` at the end.
    async fn next(&mut self) -> Result<Option<Frame>> {
        loop {
            if let Some(frame) = self.decoder.decode(&mut self.unread)? {
                return Ok(Some(frame));
            }
            // Who goes away without a word has nothing more to say, too.
            if self.from.read_buf(&mut self.unread).await.unwrap_or(0) == 0 {
                return Ok(None);
            }
        }
    }
}

async fn write(to: &mut (impl AsyncWrite + Unpin), frame: &Frame) -> Result<()> {
    to.write_all(&frame.to_bytes()).await.context("the daemon has closed")?;
    to.flush().await.context("the daemon has closed")
}
