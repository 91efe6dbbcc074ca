//! A bounded queue from async callers to a plain thread.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::register::error::RegisterError;

#[derive(Debug)]
pub(super) struct Queue<J> {
    state: Mutex<State<J>>,
    arrived: Condvar,
    room: Arc<Semaphore>,
}

#[derive(Debug)]
struct State<J> {
    jobs: VecDeque<(J, OwnedSemaphorePermit)>,
    closed: bool,
}

impl<J> Queue<J> {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            state: Mutex::new(State { jobs: VecDeque::new(), closed: false }),
            arrived: Condvar::new(),
            room: Arc::new(Semaphore::new(capacity.max(1))),
        }
    }

    /// Waits for room, then queues. Callers are served in the order in which they asked.
    pub(super) async fn push(&self, job: J) -> Result<(), RegisterError> {
        let permit = Arc::clone(&self.room).acquire_owned().await.map_err(|_| RegisterError::Closed)?;
        let mut state = self.lock();
        if state.closed {
            return Err(RegisterError::Closed);
        }
        state.jobs.push_back((job, permit));
        drop(state);
        self.arrived.notify_one();
        Ok(())
    }

    /// The next job; waits for it. `None` once the queue is closed and empty.
    pub(super) fn pop(&self) -> Option<J> {
        let mut state = self.lock();
        loop {
            if let Some((job, _)) = state.jobs.pop_front() {
                return Some(job);
            }
            if state.closed {
                return None;
            }
            state = self.arrived.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The next job if it comes before `until`.
    pub(super) fn pop_until(&self, until: Instant) -> Option<J> {
        let mut state = self.lock();
        loop {
            if let Some((job, _)) = state.jobs.pop_front() {
                return Some(job);
            }
            let left = until.saturating_duration_since(Instant::now());
            if state.closed || left.is_zero() {
                return None;
            }
            state = self.arrived.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    pub(super) fn waiting(&self) -> usize {
        self.lock().jobs.len()
    }

    /// Takes no more; what is queued is still served.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.room.close();
        self.arrived.notify_all();
    }

    /// Takes no more and drops what is queued, so that its askers learn of it.
    pub(super) fn abandon(&self) {
        self.close();
        let dropped = std::mem::take(&mut self.lock().jobs);
        drop(dropped);
    }

    fn lock(&self) -> MutexGuard<'_, State<J>> {
        // Nothing in here leaves the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Abandons the queue when its last server is gone, whatever ended it.
#[derive(Debug)]
pub(super) struct Served<J>(pub(super) Arc<Queue<J>>);

impl<J> Drop for Served<J> {
    fn drop(&mut self) {
        self.0.abandon();
    }
}
