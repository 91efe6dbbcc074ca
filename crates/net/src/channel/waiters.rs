//! Who waits for which reply.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;
use wire::Frame;

/// Bounded; forgets a waiter that gave up.
pub(super) struct Waiters {
    waiting: Mutex<Waiting>,
    max: usize,
}

#[derive(Default)]
struct Waiting {
    by_sequence: HashMap<i32, oneshot::Sender<Frame>>,
    over: bool,
}

/// Why nobody can wait now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoWaiting {
    TooMany,
    Over,
}

impl Waiters {
    pub(super) fn new(max: usize) -> Self {
        Self { waiting: Mutex::default(), max }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing panics while holding it.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Must come before the request leaves: the reply may be faster than the sender.
    pub(super) fn wait_for(&self, sequence: i32) -> Result<Ticket<'_>, NoWaiting> {
        let mut waiting = self.lock();
        if waiting.over {
            return Err(NoWaiting::Over);
        }
        if waiting.by_sequence.len() >= self.max {
            return Err(NoWaiting::TooMany);
        }
        let (sender, reply) = oneshot::channel();
        waiting.by_sequence.insert(sequence, sender);
        Ok(Ticket { waiters: self, sequence, reply })
    }

    /// Gives the reply to whoever waits for it, or back.
    pub(super) fn deliver(&self, sequence: i32, reply: Frame) -> Result<(), Frame> {
        match self.lock().by_sequence.remove(&sequence) {
            Some(waiter) => waiter.send(reply),
            None => Err(reply),
        }
    }

    /// Nobody will be answered any more.
    pub(super) fn abandon_all(&self) {
        let mut waiting = self.lock();
        waiting.over = true;
        waiting.by_sequence.clear();
    }
}

/// One request's claim to its reply.
pub(super) struct Ticket<'a> {
    waiters: &'a Waiters,
    sequence: i32,
    reply: oneshot::Receiver<Frame>,
}

impl Ticket<'_> {
    /// `None` when the channel ended first.
    pub(super) async fn reply(&mut self) -> Option<Frame> {
        (&mut self.reply).await.ok()
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.waiters.lock().by_sequence.remove(&self.sequence);
    }
}
