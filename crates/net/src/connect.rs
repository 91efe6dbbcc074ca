//! TCP and TLS towards one endpoint: every address its name has, none for longer than allowed.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::peer::PeerCertificates;

/// Silence after which TCP probes the peer, and the pause between probes.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Head start of one address over the next, as RFC 8305 recommends.
const NEXT_ADDRESS_AFTER: Duration = Duration::from_millis(250);

/// Addresses of one name that are tried at most.
const ADDRESSES_MAX: usize = 8;

/// A host and a port, without a protocol.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Name, IPv4 or IPv6 address; no brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl Endpoint {
    /// From a host, with or without the brackets of an IPv6 address, and a port.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        let host = host.into();
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).map(str::to_owned);
        Self { host: bare.unwrap_or(host), port }
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(addr: SocketAddr) -> Self {
        Self { host: addr.ip().to_string(), port: addr.port() }
    }
}

impl From<&wire::address::Address> for Endpoint {
    /// The transport is left behind: everything here is TLS over TCP.
    fn from(address: &wire::address::Address) -> Self {
        Self::new(address.host.clone(), address.port)
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// How long each part of reaching a peer may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectTimeouts {
    /// Name resolution and TCP together.
    pub connect: Duration,
    /// The TLS handshake.
    pub handshake: Duration,
    /// From the end of the handshake to the peer's first answer.
    pub answer: Duration,
}

impl Default for ConnectTimeouts {
    /// OpenZiti's 5 s each (`openziti/ziti:router/env/config.go`).
    fn default() -> Self {
        let each = Duration::from_secs(5);
        Self { connect: each, handshake: each, answer: each }
    }
}

/// What was being waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Name resolution and TCP.
    Connect,
    /// The TLS handshake.
    Handshake,
    /// The peer's first answer.
    Answer,
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Connect => "connecting",
            Self::Handshake => "the TLS handshake",
            Self::Answer => "waiting for an answer",
        })
    }
}

/// Why there is no TLS connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The name means nothing here.
    #[error("`{host}` cannot be resolved: check its spelling and this machine's DNS")]
    Resolve {
        /// As configured.
        host: String,
        /// What the resolver said.
        #[source]
        source: io::Error,
    },
    /// No address of the endpoint accepts TCP.
    #[error("cannot connect to {endpoint}: check that it runs there and that nothing in between blocks the port")]
    Tcp {
        /// Where to.
        endpoint: Endpoint,
        /// What the last address tried answered.
        #[source]
        source: io::Error,
    },
    /// The host cannot be a server name in TLS.
    #[error("`{host}` is no host name that a certificate could prove")]
    ServerName {
        /// As configured.
        host: String,
    },
    /// The server's certificate was judged and refused by us.
    #[error(
        "the server at {endpoint} presents a certificate that we do not trust: check the trust bundle, its names and both clocks"
    )]
    NotTrusted {
        /// Where to.
        endpoint: Endpoint,
        /// What is wrong with it.
        #[source]
        source: rustls::Error,
    },
    /// The server ended the handshake with an alert, or broke the protocol.
    #[error("the TLS handshake with {endpoint} failed")]
    Tls {
        /// Where to.
        endpoint: Endpoint,
        /// Which alert or which breach.
        #[source]
        source: rustls::Error,
    },
    /// The connection ended inside the handshake.
    #[error("{endpoint} closed the connection inside the TLS handshake")]
    HandshakeCut {
        /// Where to.
        endpoint: Endpoint,
        /// What the socket said.
        #[source]
        source: io::Error,
    },
    /// Took too long.
    #[error("{endpoint}: {stage} took longer than {} ms", .after.as_millis())]
    TimedOut {
        /// Where to.
        endpoint: Endpoint,
        /// What was being waited for.
        stage: Stage,
        /// How long it was waited for.
        after: Duration,
    },
}

/// An open TLS connection as a client.
#[derive(Debug)]
pub(crate) struct TlsConnection {
    pub(crate) stream: TlsStream<TcpStream>,
    pub(crate) remote: SocketAddr,
    pub(crate) peer: Option<PeerCertificates>,
}

/// Names, TCP and TLS in one go.
pub(crate) async fn connect_tls(
    endpoint: &Endpoint,
    config: Arc<ClientConfig>,
    timeouts: ConnectTimeouts,
) -> Result<TlsConnection, ConnectError> {
    let name = ServerName::try_from(endpoint.host.clone())
        .map_err(|_| ConnectError::ServerName { host: endpoint.host.clone() })?;
    let tcp = connect_tcp(endpoint, timeouts.connect).await?;
    let remote = tcp.peer_addr().map_err(|source| ConnectError::Tcp { endpoint: endpoint.clone(), source })?;
    let stream = timeout(timeouts.handshake, TlsConnector::from(config).connect(name, tcp))
        .await
        .map_err(|_| timed_out(endpoint, Stage::Handshake, timeouts.handshake))?
        .map_err(|error| handshake_error(endpoint, error))?;
    let peer = PeerCertificates::from_presented(stream.get_ref().1.peer_certificates());
    Ok(TlsConnection { stream, remote, peer })
}

/// Only TCP: every address of the name, the next one starting shortly after the one before.
pub(crate) async fn connect_tcp(endpoint: &Endpoint, within: Duration) -> Result<TcpStream, ConnectError> {
    timeout(within, try_all_addresses(endpoint)).await.map_err(|_| timed_out(endpoint, Stage::Connect, within))?
}

fn timed_out(endpoint: &Endpoint, stage: Stage, after: Duration) -> ConnectError {
    ConnectError::TimedOut { endpoint: endpoint.clone(), stage, after }
}

async fn try_all_addresses(endpoint: &Endpoint) -> Result<TcpStream, ConnectError> {
    let unresolved = |source| ConnectError::Resolve { host: endpoint.host.clone(), source };
    let found = tokio::net::lookup_host((endpoint.host.as_str(), endpoint.port)).await.map_err(unresolved)?;
    let mut waiting = alternated(found).into_iter();
    let mut last_error = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    let mut running = JoinSet::new();
    if let Some(first) = waiting.next() {
        running.spawn(TcpStream::connect(first));
    }
    loop {
        let next_starts = !waiting.as_slice().is_empty();
        tokio::select! {
            joined = running.join_next() => match joined {
                Some(Ok(Ok(stream))) => {
                    tune(&stream);
                    return Ok(stream);
                }
                Some(Ok(Err(error))) => last_error = error,
                // Never aborted and TcpStream::connect does not panic; the other addresses go on anyway.
                Some(Err(_)) => {}
                None if !next_starts => {
                    return Err(ConnectError::Tcp { endpoint: endpoint.clone(), source: last_error });
                }
                None => {}
            },
            () = tokio::time::sleep(NEXT_ADDRESS_AFTER), if next_starts && !running.is_empty() => {}
        }
        if let Some(next) = waiting.next() {
            running.spawn(TcpStream::connect(next));
        }
    }
}

/// The resolver's order, but families in turn: one broken family must not use up the time.
fn alternated(found: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let all: Vec<SocketAddr> = found.take(4 * ADDRESSES_MAX).collect();
    let first_is_v6 = all.first().is_some_and(SocketAddr::is_ipv6);
    let (mut preferred, mut other): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|address| address.is_ipv6() == first_is_v6);
    preferred.reverse();
    other.reverse();
    let mut order = Vec::new();
    while order.len() < ADDRESSES_MAX && !(preferred.is_empty() && other.is_empty()) {
        order.extend(preferred.pop());
        order.extend(other.pop());
    }
    order
}

/// Small frames leave at once, and a peer whose machine is gone is noticed. Failing to tune costs nothing but that.
pub(crate) fn tune(stream: &TcpStream) {
    let keep_alive = TcpKeepalive::new().with_time(KEEP_ALIVE).with_interval(KEEP_ALIVE);
    if let Err(cause) = stream.set_nodelay(true).and_then(|()| SockRef::from(stream).set_tcp_keepalive(&keep_alive)) {
        tracing::debug!(%cause, "a TCP option could not be set");
    }
}

/// The TLS error inside an I/O error, if that is what it is.
pub(crate) fn tls_cause(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>())
}

fn handshake_error(endpoint: &Endpoint, error: io::Error) -> ConnectError {
    let endpoint = endpoint.clone();
    match tls_cause(&error) {
        Some(source @ rustls::Error::InvalidCertificate(_)) => {
            ConnectError::NotTrusted { endpoint, source: source.clone() }
        }
        Some(source) => ConnectError::Tls { endpoint, source: source.clone() },
        None => ConnectError::HandshakeCut { endpoint, source: error },
    }
}
