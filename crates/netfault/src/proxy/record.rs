//! What went by, byte for byte as its sender wrote it.

use std::fmt;
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use wire::Frame;

use super::locked;
use super::rule::{Message, Way};

/// One frame that went by.
#[derive(Clone, PartialEq, Eq)]
pub struct Recorded {
    /// On which of the router's connections: 1 for the first one ever.
    pub connection: u64,
    /// Which way it went.
    pub way: Way,
    /// What it is.
    pub message: Message,
    /// As its sender wrote it; its headers are in the sender's order.
    pub bytes: Bytes,
    /// The same, decoded.
    pub frame: Frame,
}

/// Never shows bytes: a header may be a group's secret.
impl fmt::Debug for Recorded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { connection, way, message, bytes, .. } = self;
        write!(f, "{connection} {way:?} {message}, {} bytes", bytes.len())
    }
}

/// Everything that went by since the recording began.
#[derive(Debug, Default)]
pub(super) struct Recording {
    frames: Mutex<Option<Vec<Recorded>>>,
    more: Condvar,
}

impl Recording {
    pub(super) fn begin(&self) {
        locked(&self.frames).get_or_insert_default();
    }

    pub(super) fn is_on(&self) -> bool {
        locked(&self.frames).is_some()
    }

    pub(super) fn push(&self, recorded: Recorded) {
        if let Some(frames) = locked(&self.frames).as_mut() {
            frames.push(recorded);
            self.more.notify_all();
        }
    }

    pub(super) fn so_far(&self) -> Vec<Recorded> {
        locked(&self.frames).clone().unwrap_or_default()
    }

    pub(super) fn until(&self, within: Duration, wanted: impl Fn(&[Recorded]) -> bool) -> bool {
        let deadline = Instant::now() + within;
        let mut frames = locked(&self.frames);
        loop {
            if frames.as_deref().is_some_and(&wanted) {
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            frames = self.more.wait_timeout(frames, left).unwrap_or_else(std::sync::PoisonError::into_inner).0;
        }
    }
}
