//! One signal that ends every loop of a daemon.

use std::sync::Arc;

use tokio::sync::watch;

/// Ends everything that holds a [`StopSignal`] of it: when told to, or when its last clone is dropped.
#[derive(Clone, Debug)]
pub struct Stop(Arc<watch::Sender<bool>>);

/// Tells whether the end has come. Cheap to clone.
#[derive(Clone, Debug)]
pub struct StopSignal(watch::Receiver<bool>);

impl Stop {
    /// A pair: who ends, and what is watched.
    pub fn new() -> (Self, StopSignal) {
        let (sender, receiver) = watch::channel(false);
        (Self(Arc::new(sender)), StopSignal(receiver))
    }

    /// Ends every loop. Further calls change nothing.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

impl StopSignal {
    /// Returns once the end has come.
    pub async fn stopped(&mut self) {
        // An error means that the sender is gone, which ends everything as well.
        let _ = self.0.wait_for(|stopped| *stopped).await;
    }

    /// Has the end come?
    pub fn is_stopped(&self) -> bool {
        *self.0.borrow() || self.0.has_changed().is_err()
    }
}
