//! Serving HTTP/1.1 and HTTP/2 on TLS or plain TCP.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::HttpService;
use crate::channel::Duplex;
use crate::credentials::CredentialsSlot;
use crate::listen::accept::{Accepted, Entrance, in_time};
use crate::listen::seats::{Leave, Seat, Seats};
use crate::peer::PeerCertificates;
use crate::source::Source;
use crate::stop::StopSignal;
use crate::tls::{self, ALPN_HTTP1, ALPN_HTTP2, ClientCertificate, TlsSetupError};

/// Concurrent requests of one HTTP/2 connection.
const STREAMS_MAX: u32 = 128;

/// Bytes of bodies that an HTTP/2 connection takes before they are read.
const WINDOW_BYTES: u32 = 64 * 1024 - 1;

/// How long a connection may be open without an answered request while others wait for its place.
const UNANSWERED_GRACE: Duration = Duration::from_secs(10);

/// Where a request came from; in its extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remote(pub SocketAddr);

/// What HTTP connections may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpLimits {
    /// Connections open at once. When there is no room, one of the address that holds most is closed for one of an address that holds less;
    /// among equals one that has been open for ten seconds without a request answered is closed for the next, and if there is none, the next
    /// waits.
    pub connections_max: usize,
    /// TLS handshakes at once, where the listener is ours alone; as [`crate::listen::ListenLimits::handshakes_max`].
    pub handshakes_max: usize,
    /// Time for the TLS handshake, where the listener is ours alone.
    pub handshake: Duration,
    /// Time from the first byte of a request's head to its last, and between requests of one connection.
    pub header: Duration,
    /// Longest head of a request, in bytes.
    pub head_bytes_max: usize,
    /// Time for the answers under way when the process ends.
    pub farewell: Duration,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            connections_max: 4096,
            handshakes_max: 1024,
            handshake: Duration::from_secs(5),
            header: Duration::from_secs(60),
            head_bytes_max: 64 * 1024,
            farewell: Duration::from_secs(2),
        }
    }
}

/// One listening port that speaks HTTP and nothing else.
#[derive(Debug)]
pub struct HttpListener {
    /// Whose server leaf is presented to handshakes that begin; plain HTTP when `None`.
    pub credentials: Option<Arc<CredentialsSlot>>,
    /// Whether clients must present a certificate. Any chain is accepted here: the service judges it.
    pub clients: ClientCertificate,
    /// What answers.
    pub service: HttpService,
    /// What is put up with.
    pub limits: HttpLimits,
}

impl HttpListener {
    /// Serves until told to stop, then lets the answers under way finish and returns.
    ///
    /// # Errors
    /// When TLS cannot be configured.
    pub async fn serve(self, listener: TcpListener, stop: StopSignal) -> Result<(), TlsSetupError> {
        let tls = match &self.credentials {
            Some(slot) => Some(tls::server_config(slot, self.clients, &[ALPN_HTTP2, ALPN_HTTP1])?),
            None => None,
        };
        let Self { service, limits, .. } = self;
        let ending = stop.clone();
        let (entrance, room) = (Entrance::new(limits.handshakes_max), limits.seats());
        let each = |accepted: Accepted| {
            let (tls, service, stop) = (tls.clone(), service.clone(), ending.clone());
            let (entrance, room) = (entrance.clone(), room.clone());
            async move {
                let Some(tls) = tls else {
                    let Accepted { stream, remote, seat } = accepted;
                    let place = room.take(Source::of(remote)).await;
                    drop(seat);
                    return serve_http(stream, false, service, remote, None, limits, place, stop).await;
                };
                let Some((start, remote, seat, told)) = entrance.greeted(accepted, limits.handshake).await else {
                    return;
                };
                let entering = async {
                    let stream = in_time(remote, limits.handshake, start.into_stream(tls)).await?;
                    Some((stream, room.take(Source::of(remote)).await))
                };
                let entered = told.or(entering).await.flatten();
                drop(seat);
                if let Some((stream, place)) = entered {
                    let session = stream.get_ref().1;
                    let peer = PeerCertificates::from_presented(session.peer_certificates()).map(Arc::new);
                    let is_http2 = session.alpn_protocol() == Some(ALPN_HTTP2);
                    serve_http(stream, is_http2, service, remote, peer, limits, place, stop).await;
                }
            }
        };
        entrance.accept_all(listener, stop, each).await;
        Ok(())
    }
}

impl HttpLimits {
    /// Room for the connections of one listener.
    pub(crate) fn seats(&self) -> Seats {
        Seats::new(self.connections_max, UNANSWERED_GRACE)
    }
}

/// One connection, until its end or the process's.
#[expect(clippy::too_many_arguments, reason = "two callers, each of which has all of them at hand")]
pub(crate) async fn serve_http(
    io: impl Duplex,
    is_http2: bool,
    service: HttpService,
    remote: SocketAddr,
    peer: Option<Arc<PeerCertificates>>,
    limits: HttpLimits,
    (seat, told): (Seat, Leave),
    mut stop: StopSignal,
) {
    let seat = Arc::new(seat);
    let answer = service_fn({
        let seat = seat.clone();
        move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(Remote(remote));
            if let Some(peer) = &peer {
                request.extensions_mut().insert(peer.clone());
            }
            let (answering, seat) = (service.answer(request), seat.clone());
            async move {
                let answered = answering.await;
                // It has said what it wants, and was served: it is no longer idle.
                seat.wait();
                answered
            }
        }
    });
    let io = TokioIo::new(io);
    // The two kinds of connection share methods, not a trait.
    macro_rules! drive {
        ($connection:expr) => {{
            let mut connection = pin!($connection);
            let serving = async {
                tokio::select! {
                    ended = connection.as_mut() => ended,
                    () = stop.stopped() => {
                        connection.as_mut().graceful_shutdown();
                        timeout(limits.farewell, connection).await.unwrap_or(Ok(()))
                    }
                }
            };
            let Some(ended) = told.or(serving).await else {
                return tracing::debug!(%remote, "an HTTP connection gave its place to another");
            };
            ended
        }};
    }
    let ended = if is_http2 {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS_MAX)
            // What a peer may send before anybody has read it.
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .max_send_buf_size(limits.head_bytes_max)
            .max_header_list_size(u32::try_from(limits.head_bytes_max).unwrap_or(u32::MAX))
            .keep_alive_interval(limits.header)
            .keep_alive_timeout(limits.handshake);
        drive!(builder.serve_connection(io, answer))
    } else {
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(limits.header)
            .max_buf_size(limits.head_bytes_max.max(8 * 1024));
        drive!(builder.serve_connection(io, answer))
    };
    if let Err(cause) = ended {
        tracing::debug!(%remote, %cause, "an HTTP connection ended early");
    }
}
