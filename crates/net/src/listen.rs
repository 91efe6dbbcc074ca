//! The accepting side: control connections and, on the same port, HTTP.
//!
//! ```text
//!   accept ─▶ TLS (any client certificate, signature checked) ─▶ ALPN ─┬─ ziti-ctrl ─▶ hello ─▶ group? ─▶ admit ─▶ Result ─▶ channel
//!                                                                       └─ h2, http/1.1 ─▶ HttpService
//! ```
//!
//! The order is the point: nothing is answered before [`Admission::admit`] has returned, so whatever it must make durable
//! is durable before the router sees it (promise P2). An underlay joins a group only if it knows the secret *and* its own
//! handshake was admitted as the same router (promise P8). Source of the exchange: `openziti/channel:multi_listener.go`.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lifecycle::RouterId;
use tokio::net::{TcpListener, TcpSocket, lookup_host};
use tokio::time::timeout;
use wire::hello::{AcceptedHello, Hello, RefusalClass};

use crate::channel::{Channel, ChannelSettings, CloseReason, Events, UnderlayId};
use crate::credentials::CredentialsSlot;
use crate::http::{HttpLimits, HttpService, serve_http};
use crate::peer::PeerCertificates;
use crate::source::Source;
use crate::stop::StopSignal;
use crate::tls::{self, ALPN_CONTROL, ALPN_HTTP1, ALPN_HTTP2, ClientCertificate, TlsSetupError};

pub(crate) mod accept;
mod greet;
mod groups;
pub(crate) mod seats;

pub use groups::Channels;
pub use seats::{TurnedAway, turned_away};

use accept::{Accepted, Entrance, in_time};
use seats::Seats;

/// Time for the last frames of channels when the process ends.
const FAREWELL: Duration = Duration::from_secs(2);

/// Connections that the kernel keeps for us until they are accepted, as far as it allows. When that queue is full a first packet is lost, and whoever
/// sent it waits a second before he repeats it: a flood must not do that to a router.
const QUEUE: u32 = 4096;

/// Listens where a configuration says, on the first address that its host name stands for and that can be had.
///
/// # Errors
/// Why the last of them cannot be had.
pub async fn bind(host: &str, port: u16) -> io::Result<TcpListener> {
    let mut last = io::Error::new(io::ErrorKind::AddrNotAvailable, "the name stands for no address");
    for address in lookup_host((host, port)).await? {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        let listening =
            socket.set_reuseaddr(true).and_then(|()| socket.bind(address)).and_then(|()| socket.listen(QUEUE));
        match listening {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Somebody asks for a control connection. His leaf's key is proven, nothing else.
#[derive(Debug)]
pub struct Applicant {
    /// What he says.
    pub hello: Hello,
    /// What he presented.
    pub peer: Arc<PeerCertificates>,
    /// Where he calls from.
    pub remote: SocketAddr,
    /// The open channel that he asks to join, and whose secret he knows; `None` when he asks for a new one.
    pub joins: Option<Channel>,
}

/// Yes.
#[derive(Debug)]
pub struct Admitted<S> {
    /// Who it is, by the proven leaf.
    pub router: RouterId,
    /// What to answer. Connection id, secret and the echoes of type and grouping are filled in.
    pub answer: AcceptedHello,
    /// Whatever the owner wants to find again in [`Opened`]: the enrollment epoch, for example.
    pub standing: S,
}

/// No.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// For the log.
    pub reason: String,
    /// What the peer is told; silence when `None`.
    pub told: Option<RefusalClass>,
}

impl Refusal {
    /// Closes without a word: everything that is decided before the peer's chain was verified.
    pub fn silent(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), told: None }
    }

    /// Tells the peer why, then closes.
    pub fn told(reason: impl Into<String>, class: RefusalClass) -> Self {
        Self { reason: reason.into(), told: Some(class) }
    }
}

/// A new control channel with its first underlay attached; the answer is written.
#[derive(Debug)]
pub struct Opened<S> {
    /// The channel.
    pub channel: Channel,
    /// What happens on it. Dropping this closes it.
    pub events: Events,
    /// Its first underlay.
    pub underlay: UnderlayId,
    /// Who it is.
    pub router: RouterId,
    /// What the router said.
    pub hello: Hello,
    /// From [`Admitted`].
    pub standing: S,
}

/// Who is let in. Implemented by the owner of a listener.
pub trait Admission: Send + Sync + 'static {
    /// What the owner attaches to a decision.
    type Standing: Send + 'static;

    /// Decides. `Ok` may be returned only when everything that justifies it is durable: the answer leaves right after.
    fn admit(&self, applicant: Applicant) -> impl Future<Output = Result<Admitted<Self::Standing>, Refusal>> + Send;

    /// A channel is open. The decision may be outdated by now: compare its standing before serving it. Must not block.
    fn opened(&self, opened: Opened<Self::Standing>);

    /// A further underlay joined an open channel. Must not block.
    fn joined(&self, channel: &Channel, underlay: UnderlayId, standing: Self::Standing) {
        let _ = (channel, underlay, standing);
    }
}

/// What a listener puts up with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenLimits {
    /// Connections that may be in their handshake, hello or admission at once. Four times as many may be waited for that have not sent a
    /// ClientHello yet. When there is no room, a connection of the address that holds most is closed for one of an address that holds less,
    /// and among equals the longest idle one for the next; others wait unaccepted.
    pub handshakes_max: usize,
    /// Time for the TLS handshake.
    pub handshake: Duration,
    /// Time for the hello, and for taking the answer.
    pub hello: Duration,
    /// What HTTP connections may do.
    pub http: HttpLimits,
}

impl Default for ListenLimits {
    /// 5 s for each part, as OpenZiti gives (`openziti/channel:classic_listener.go`).
    fn default() -> Self {
        let each = Duration::from_secs(5);
        Self { handshakes_max: 1024, handshake: each, hello: each, http: HttpLimits::default() }
    }
}

/// One listening port of the control plane.
#[derive(Debug)]
pub struct ControlListener<A> {
    /// Whose server leaf is presented to handshakes that begin.
    pub credentials: Arc<CredentialsSlot>,
    /// Who is let in.
    pub admission: Arc<A>,
    /// Where open channels are found; may be shared with other listeners.
    pub channels: Channels,
    /// How channels behave.
    pub settings: ChannelSettings,
    /// What is put up with.
    pub limits: ListenLimits,
    /// What answers HTTP on this port, if anything.
    pub http: Option<HttpService>,
}

struct Listening<A> {
    door: ControlListener<A>,
    control: Arc<rustls::ServerConfig>,
    web: Option<(Arc<rustls::ServerConfig>, HttpService)>,
    http_room: Seats,
    entrance: Entrance,
    stop: StopSignal,
}

impl<A: Admission> ControlListener<A> {
    /// Serves until told to stop; then closes every channel in `channels` and returns.
    ///
    /// # Errors
    /// When TLS cannot be configured.
    pub async fn serve(mut self, listener: TcpListener, stop: StopSignal) -> Result<(), TlsSetupError> {
        let control = tls::server_config(&self.credentials, ClientCertificate::Required, &[ALPN_CONTROL])?;
        let web = match self.http.take() {
            None => None,
            Some(service) => {
                let alpn = &[ALPN_HTTP2, ALPN_HTTP1];
                Some((tls::server_config(&self.credentials, ClientCertificate::Asked, alpn)?, service))
            }
        };
        let http_room = self.limits.http.seats();
        let entrance = Entrance::new(self.limits.handshakes_max);
        let channels = self.channels.clone();
        let listening =
            Arc::new(Listening { door: self, control, web, http_room, entrance: entrance.clone(), stop: stop.clone() });
        let mut ending = stop.clone();
        let farewell = {
            let channels = channels.clone();
            async move {
                ending.stopped().await;
                channels.close_all(CloseReason::Shutdown);
            }
        };
        tokio::join!(entrance.accept_all(listener, stop, |accepted| one(listening.clone(), accepted)), farewell);
        // Some may have opened between the first round and the end of the last handshake.
        let open = channels.close_all(CloseReason::Shutdown);
        let drained = async {
            for channel in open {
                channel.drained().await;
            }
        };
        let _ = timeout(FAREWELL, drained).await;
        Ok(())
    }
}

/// What a connection is for.
enum Plane {
    Control,
    Web,
}

impl<A> Listening<A> {
    /// The last offered name that is known decides, as in `openziti/transport:tls/listener.go`; a client that names nothing
    /// means HTTP, where there is any. Names that nobody knows go to the control plane, whose handshake then fails.
    fn plane(&self, client: &rustls::server::ClientHello<'_>) -> Plane {
        let Some(offered) = client.alpn() else {
            return if self.web.is_some() { Plane::Web } else { Plane::Control };
        };
        let mut plane = Plane::Control;
        for name in offered {
            if name == ALPN_CONTROL {
                plane = Plane::Control;
            } else if self.web.is_some() && (name == ALPN_HTTP2 || name == ALPN_HTTP1) {
                plane = Plane::Web;
            }
        }
        plane
    }
}

async fn one<A: Admission>(listening: Arc<Listening<A>>, accepted: Accepted) {
    let within = listening.door.limits.handshake;
    let Some((start, remote, seat, told)) = listening.entrance.greeted(accepted, within).await else { return };
    let shaken = async {
        let plane = listening.plane(&start.client_hello());
        match (plane, &listening.web) {
            (Plane::Web, Some((config, service))) => {
                Ok((start.into_stream(config.clone()).await?, Some(service.clone())))
            }
            (Plane::Web | Plane::Control, _) => Ok((start.into_stream(listening.control.clone()).await?, None)),
        }
    };
    let entering = async {
        let (stream, service) = in_time(remote, within, shaken).await?;
        let session = stream.get_ref().1;
        let peer = PeerCertificates::from_presented(session.peer_certificates()).map(Arc::new);
        let is_http2 = session.alpn_protocol() == Some(ALPN_HTTP2);
        match service {
            Some(service) => {
                let place = listening.http_room.take(Source::of(remote)).await;
                return Some((stream, is_http2, service, peer, place));
            }
            // The handshake fails without one.
            None => {
                if let Some(peer) = peer {
                    greet::greet(&listening.door, stream, remote, peer, &seat).await;
                }
            }
        }
        None
    };
    let Some(entered) = told.or(entering).await else {
        return tracing::debug!(%remote, "a connection that did nothing gave its place to another");
    };
    drop(seat);
    if let Some((stream, is_http2, service, peer, place)) = entered {
        let limits = listening.door.limits.http;
        serve_http(stream, is_http2, service, remote, peer, limits, place, listening.stop.clone()).await;
    }
}
