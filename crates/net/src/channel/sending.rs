//! Getting frames out, and replies back.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use wire::{Frame, header};

use super::waiters::NoWaiting;
use super::{Channel, CloseReason, Shared, UnderlayId};

/// The type of the underlay that carries everything without a better place.
const DEFAULT_KIND: &str = "ctrl.default";

/// Why a frame did not leave. Nothing of it was written then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The channel is over.
    #[error("the channel is closed: {0}")]
    Closed(CloseReason),
    /// The channel lives, without a connection for now.
    #[error("the channel has no underlay at the moment")]
    NoUnderlay,
    /// The peer reads too slowly.
    #[error("the peer reads too slowly: no room in the queue in time")]
    TimedOut,
    /// The frame is larger than the peer would accept.
    #[error("the frame is too large to be sent: {bytes} bytes")]
    TooLarge {
        /// Its length on the wire.
        bytes: usize,
    },
}

/// Why there is no reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The request did not leave.
    #[error("the request was not sent: {0}")]
    NotSent(SendError),
    /// Too many requests are waiting already.
    #[error("too many requests are waiting for replies")]
    TooMany,
    /// The channel ended first. The peer may have acted on the request.
    #[error("the channel closed before the reply came")]
    Closed,
    /// No reply in time. The peer may have acted on the request.
    #[error("no reply within {} ms", .after.as_millis())]
    TimedOut {
        /// How long it was waited for.
        after: Duration,
    },
}

impl Channel {
    /// Queues a frame on the default underlay and gives it its number, which is returned. Being queued is no proof of
    /// anything: a connection that fails takes along what it was writing.
    ///
    /// # Errors
    /// When the frame is certain not to leave.
    pub async fn send(&self, mut frame: Frame) -> Result<i32, SendError> {
        frame.sequence = self.shared.next_sequence();
        let sequence = frame.sequence;
        self.shared.queue(frame, None).await?;
        Ok(sequence)
    }

    /// As [`Channel::send`], on one underlay and no other.
    ///
    /// # Errors
    /// Also when that underlay is not attached.
    pub async fn send_via(&self, underlay: UnderlayId, mut frame: Frame) -> Result<i32, SendError> {
        frame.sequence = self.shared.next_sequence();
        let sequence = frame.sequence;
        self.shared.queue(frame, Some(underlay)).await?;
        Ok(sequence)
    }

    /// Sends `answer` as the reply to `request`, with the header that must be reflected.
    ///
    /// # Errors
    /// When it is certain not to leave.
    pub async fn reply(&self, request: &Frame, mut answer: Frame) -> Result<i32, SendError> {
        answer.set_reply_for(request.sequence);
        if let Some(reflected) = request.headers.get(header::REFLECTED) {
            answer.headers.insert(header::REFLECTED, reflected.clone());
        }
        self.send(answer).await
    }

    /// Sends a frame and waits for the one that names it in its reply header.
    ///
    /// # Errors
    /// When it did not leave, or no reply came in time. Only [`RequestError::NotSent`] and [`RequestError::TooMany`] say
    /// that the peer has not seen it.
    pub async fn request(&self, mut frame: Frame, within: Duration) -> Result<Frame, RequestError> {
        frame.sequence = self.shared.next_sequence();
        let deadline = Instant::now() + within;
        let mut ticket = self.shared.waiters.wait_for(frame.sequence).map_err(|no| match no {
            NoWaiting::TooMany => RequestError::TooMany,
            NoWaiting::Over => RequestError::NotSent(self.shared.closed_error()),
        })?;
        match timeout_at(deadline, self.shared.queue(frame, None)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(RequestError::NotSent(error)),
            Err(_) => return Err(RequestError::NotSent(SendError::TimedOut)),
        }
        match timeout_at(deadline, ticket.reply()).await {
            Ok(Some(reply)) => Ok(reply),
            Ok(None) => Err(RequestError::Closed),
            Err(_) => Err(RequestError::TimedOut { after: within }),
        }
    }
}

impl Shared {
    /// 1 and up, shared by all underlays; starts again at 1 long before it could look like "not a reply".
    pub(super) fn next_sequence(&self) -> i32 {
        let step = |last: i32| Some(last.checked_add(1).unwrap_or(1));
        // The closure never says no, so both arms hold the number before.
        let (Ok(last) | Err(last)) = self.last_sequence.fetch_update(Ordering::Relaxed, Ordering::Relaxed, step);
        last.checked_add(1).unwrap_or(1)
    }

    pub(super) fn closed_error(&self) -> SendError {
        SendError::Closed(self.closing.borrow().clone().unwrap_or(CloseReason::OwnerGone))
    }

    /// The newest default underlay, else the newest of all, that still takes frames. Older ones are those that peers take away:
    /// a frame written to one whose end is on its way is lost.
    fn outbound(&self, only: Option<UnderlayId>) -> Option<mpsc::Sender<Frame>> {
        let members = self.members();
        let open = || members.attached.iter().filter(|a| !a.outbound.is_closed());
        match only {
            Some(id) => open().find(|a| a.facts.id == id),
            None => open().rfind(|a| a.facts.kind == DEFAULT_KIND).or_else(|| open().next_back()),
        }
        .map(|a| a.outbound.clone())
    }

    async fn queue(&self, mut frame: Frame, only: Option<UnderlayId>) -> Result<(), SendError> {
        let bytes = frame.encoded_bytes();
        if bytes > u32::MAX as usize {
            return Err(SendError::TooLarge { bytes });
        }
        let deadline = Instant::now() + self.settings.send_timeout;
        loop {
            if self.is_closing() {
                return Err(self.closed_error());
            }
            let outbound = self.outbound(only).ok_or(SendError::NoUnderlay)?;
            match timeout_at(deadline, outbound.send(frame)).await {
                Ok(Ok(())) => return Ok(()),
                // That underlay has just gone; another one may do.
                Ok(Err(mpsc::error::SendError(back))) => frame = back,
                Err(_) => return Err(SendError::TimedOut),
            }
        }
    }

    /// Queues a frame without waiting: for what the channel says by itself, which may be left unsaid.
    pub(super) fn queue_now(&self, mut frame: Frame) -> bool {
        frame.sequence = self.next_sequence();
        !self.is_closing() && self.outbound(None).is_some_and(|outbound| outbound.try_send(frame).is_ok())
    }

    /// Finds another place for a frame that its underlay did not get to write.
    pub(super) fn requeue(&self, frame: Frame) {
        let sequence = frame.sequence;
        if self.outbound(None).is_none_or(|outbound| outbound.try_send(frame).is_err()) {
            tracing::debug!(sequence, "a queued frame was lost with its underlay");
        }
    }
}
