//! Accepting connections, no more at once than allowed, until told to stop.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use crate::connect::tune;
use crate::stop::StopSignal;

/// Pause after a failed accept: usually the process is out of file descriptors, and trying again at once only burns.
const AFTER_FAILURE: Duration = Duration::from_millis(100);

/// One accepted connection and its right to be served, which ends when the permit is dropped.
pub(crate) struct Accepted {
    pub(crate) stream: TcpStream,
    pub(crate) remote: SocketAddr,
    pub(crate) permit: OwnedSemaphorePermit,
}

/// Runs `each` for every connection, at most `at_once` of them holding their permits; the others wait in the kernel's
/// queue. Returns when told to stop and the last one has ended.
pub(crate) async fn accept_all<F, Fut>(listener: TcpListener, at_once: usize, mut stop: StopSignal, each: F)
where
    F: Fn(Accepted) -> Fut,
    Fut: Future<Output = ()> + Send + 'static,
{
    let room = Arc::new(Semaphore::new(at_once.clamp(1, Semaphore::MAX_PERMITS)));
    let mut tasks = JoinSet::new();
    'accepting: loop {
        let permit = tokio::select! {
            permit = room.clone().acquire_owned() => match permit {
                Ok(permit) => permit,
                // Never closed.
                Err(_) => break 'accepting,
            },
            () = stop.stopped() => break 'accepting,
        };
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
                tasks.spawn(each(Accepted { stream, remote, permit }));
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
