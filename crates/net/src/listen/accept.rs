//! Accepting connections until told to stop, and bringing them through their handshake.
//!
//! ```text
//!   accept ─▶ porch: waits for a ClientHello ─▶ hall: handshake (and hello) ─▶ inside
//! ```
//!
//! Porch and hall have so many [`Seats`], which go by the shares of those who call. Nothing has been computed for whoever is on the porch, so
//! it is large; whoever is in the hall has cost a signature. Nobody is waited for at the door who has a crowd inside already: whoever stands
//! behind him in the kernel's queue would wait too, and lose his first packet when that queue is full.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use rustls::server::Acceptor;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::{LazyConfigAcceptor, StartHandshake};

use super::seats::{Leave, Seat, Seats, note_failed_handshake, note_too_slow};
use crate::connect::tune;
use crate::source::Source;
use crate::stop::StopSignal;

/// Pause after a failed accept: usually the process is out of file descriptors, and trying again at once only burns.
const AFTER_FAILURE: Duration = Duration::from_millis(100);
/// Seats on the porch for each one in the hall.
const PORCH_FOR_EACH: usize = 4;
/// How long a connection may stand on a full porch: a ClientHello follows the connection's first packet at once, or when that was lost,
/// after the shortest time that any TCP waits before it repeats.
const PORCH_GRACE: Duration = Duration::from_millis(250);
/// How long a connection may be idle in a full hall: some round trips, and the time that a crowd of others takes.
const HALL_GRACE: Duration = Duration::from_secs(2);

/// One accepted connection and its seat on the porch.
pub(crate) struct Accepted {
    pub(crate) stream: TcpStream,
    pub(crate) remote: SocketAddr,
    pub(crate) seat: Seat,
}

/// Where connections wait and are brought in.
#[derive(Clone)]
pub(crate) struct Entrance {
    porch: Seats,
    hall: Seats,
}

impl Entrance {
    /// With room for so many handshakes at once.
    pub(crate) fn new(handshakes_max: usize) -> Self {
        Self {
            porch: Seats::new(handshakes_max.saturating_mul(PORCH_FOR_EACH), PORCH_GRACE),
            hall: Seats::new(handshakes_max, HALL_GRACE),
        }
    }

    /// Runs `each` for every connection, no more of them before the hall than the porch holds. The others wait in the kernel's queue, or are
    /// closed when their source has a crowd on the porch.
    /// Returns when told to stop and the last one has ended.
    pub(crate) async fn accept_all<F, Fut>(&self, listener: TcpListener, mut stop: StopSignal, each: F)
    where
        F: Fn(Accepted) -> Fut,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let mut tasks = JoinSet::new();
        'accepting: loop {
            let accepted = loop {
                tokio::select! {
                    accepted = listener.accept() => break accepted,
                    Some(_) = tasks.join_next(), if !tasks.is_empty() => {}
                    () = stop.stopped() => break 'accepting,
                }
            };
            match accepted {
                Ok((stream, remote)) => {
                    tune(&stream);
                    let taken = tokio::select! {
                        taken = self.porch.take_at_the_door(Source::of(remote)) => taken,
                        () = stop.stopped() => break 'accepting,
                    };
                    let Some((seat, told)) = taken else { continue };
                    let serving = each(Accepted { stream, remote, seat });
                    tasks.spawn(async move {
                        if told.or(serving).await.is_none() {
                            tracing::debug!(%remote, "a connection gave its place to another");
                        }
                    });
                }
                Err(cause) => {
                    tracing::warn!(%cause, "a connection could not be accepted");
                    tokio::time::sleep(AFTER_FAILURE).await;
                }
            }
        }
        drop(listener);
        while tasks.join_next().await.is_some() {}
    }

    /// Waits for the ClientHello, and then for a seat in the hall, which it gives with the handshake that has begun. `None` if nothing came.
    pub(crate) async fn greeted(
        &self,
        accepted: Accepted,
        within: Duration,
    ) -> Option<(StartHandshake<TcpStream>, SocketAddr, Seat, Leave)> {
        let Accepted { stream, remote, seat } = accepted;
        let start = in_time(remote, within, LazyConfigAcceptor::new(Acceptor::default(), stream)).await?;
        // From here on it waits for us.
        seat.wait();
        let (hall, told) = self.hall.take(Source::of(remote)).await;
        Some((start, remote, hall, told))
    }
}

/// A step of a handshake, noted if it fails or takes too long.
pub(crate) async fn in_time<T>(
    remote: SocketAddr,
    within: Duration,
    step: impl Future<Output = io::Result<T>>,
) -> Option<T> {
    match timeout(within, step).await {
        Ok(Ok(done)) => Some(done),
        Ok(Err(cause)) => {
            note_failed_handshake();
            tracing::debug!(%remote, %cause, "a TLS handshake failed");
            None
        }
        Err(_) => {
            note_too_slow();
            tracing::debug!(%remote, "a TLS handshake took too long");
            None
        }
    }
}
