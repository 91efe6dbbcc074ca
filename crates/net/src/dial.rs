//! Making one underlay: TLS, hello, answer.
//!
//! An answer with success is the proof that the presented leaf is admitted, even when the connection is closed right after:
//! the listener has checked the leaf by then. Nothing else proves or disproves anything.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use wire::hello::{AcceptedHello, Hello, HelloAnswer, HelloError, RefusalClass};
use wire::{Decoder, Frame, FrameError, Limits};

use crate::channel::{
    AttachError, Channel, ChannelSettings, Connection, Duplex, Events, Presented, Underlay, UnderlayId,
};
use crate::connect::{ConnectError, ConnectTimeouts, Endpoint, connect_tls, tls_cause};
use crate::credentials::Credentials;
use crate::peer::PeerCertificates;
use crate::tls::{self, ALPN_CONTROL, TlsSetupError};

/// Upstream caps only the hello; an answer may carry addresses of a whole cluster.
const ANSWER_LIMITS: Limits = Limits { header_bytes_max: 256 * 1024, body_bytes_max: 64 * 1024 };

/// What one dial says and shows.
#[derive(Clone, Debug)]
pub struct ControlDial {
    /// The generation whose client leaf is presented and whose bundle judges the server.
    pub credentials: Arc<Credentials>,
    /// Who calls, and for which group.
    pub hello: Hello,
    /// How long each part may take.
    pub timeouts: ConnectTimeouts,
}

/// Why a dial came to nothing. Only [`DialError::Refused`] is an answer; everything else leaves open what the listener
/// thinks of the presented leaf.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// No TLS connection: could not connect, server not trusted, handshake failed, too slow.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// TLS cannot be configured with these credentials.
    #[error(transparent)]
    Setup(#[from] TlsSetupError),
    /// After the handshake the server rejected our certificate, or the connection, with a TLS alert.
    #[error("{endpoint} ended the connection with a TLS alert after the handshake")]
    Alert {
        /// Where to.
        endpoint: Endpoint,
        /// Which alert.
        #[source]
        source: rustls::Error,
    },
    /// Closed without a word. Stock controllers do this for an unknown or disabled router, a leaf that is not admitted or
    /// expired, a first connection within the churn limit and a vanished group alike.
    #[error(
        "{endpoint} closed the connection without an answer: the router is unknown or disabled there, its leaf is not \
             admitted, or it was connected a moment ago"
    )]
    ClosedWithoutAnswer {
        /// Where to.
        endpoint: Endpoint,
    },
    /// The listener says no.
    #[error("{endpoint} refused the connection: {text}")]
    Refused {
        /// Where to.
        endpoint: Endpoint,
        /// Its words.
        text: String,
        /// Its class.
        class: RefusalClass,
    },
    /// The answer is no frame.
    #[error("{endpoint} does not speak the control protocol")]
    Frame {
        /// Where to.
        endpoint: Endpoint,
        /// What came instead.
        #[source]
        source: FrameError,
    },
    /// The answer is no answer to a hello.
    #[error("{endpoint} answered the hello with something else")]
    Answer {
        /// Where to.
        endpoint: Endpoint,
        /// What came instead.
        #[source]
        source: HelloError,
    },
}

/// An open underlay that belongs to no channel yet.
#[derive(Debug)]
pub struct Connected {
    /// What the listener said.
    pub answer: AcceptedHello,
    /// What was presented and proven.
    pub underlay: Underlay,
    connection: Connection,
}

impl Connected {
    /// Makes a channel of it.
    pub fn open(self, settings: ChannelSettings) -> (Channel, Events) {
        let (channel, events) = Channel::new(settings);
        // A new channel is neither closed nor full.
        let _ = channel.attach(self.connection, self.underlay);
        (channel, events)
    }

    /// Adds it to the channel whose group it was dialed for.
    ///
    /// # Errors
    /// When the channel has closed meanwhile or is full; the connection is closed then.
    pub fn join(self, channel: &Channel) -> Result<UnderlayId, AttachError> {
        channel.attach(self.connection, self.underlay)
    }
}

/// Dials one endpoint, once. When to try again is the caller's business.
///
/// # Errors
/// See [`DialError`].
pub async fn dial(endpoint: &Endpoint, dial: &ControlDial) -> Result<Connected, DialError> {
    let credentials = &dial.credentials;
    let config = tls::client_config(credentials.trust(), Some(credentials.client().clone()), &[ALPN_CONTROL])?;
    let tls = connect_tls(endpoint, config, dial.timeouts).await?;
    let presented = Presented { generation: credentials.generation(), leaf: credentials.client_leaf().fingerprint };
    let mut connected = greet(endpoint, tls.stream, tls.remote, tls.peer, &dial.hello, dial.timeouts.answer).await?;
    connected.underlay = connected.underlay.presenting(presented);
    Ok(connected)
}

/// The hello exchange on a stream whose handshake is over.
async fn greet(
    endpoint: &Endpoint,
    mut io: impl Duplex,
    remote: SocketAddr,
    peer: Option<PeerCertificates>,
    hello: &Hello,
    within: Duration,
) -> Result<Connected, DialError> {
    let mut unread = BytesMut::new();
    let answer = timeout(within, async {
        let mut out = BytesMut::new();
        hello.to_frame().encode(&mut out);
        let sent = async {
            io.write_all(&out).await?;
            io.flush().await
        };
        // A listener that has already closed may have left a reason to read.
        let _ = sent.await;
        read_answer(endpoint, &mut io, &mut unread).await
    })
    .await
    .map_err(|_| ConnectError::TimedOut {
        endpoint: endpoint.clone(),
        stage: crate::connect::Stage::Answer,
        after: within,
    })??;
    let answer =
        HelloAnswer::from_frame(&answer).map_err(|source| DialError::Answer { endpoint: endpoint.clone(), source })?;
    match answer {
        HelloAnswer::Accepted(answer) => {
            let kind = hello.underlay_type.clone().unwrap_or_default();
            let underlay = Underlay::new(kind, remote).proven_by(peer.map(Arc::new));
            Ok(Connected { answer: *answer, underlay, connection: Connection::new(io, unread) })
        }
        HelloAnswer::Refused { text, class } => Err(DialError::Refused { endpoint: endpoint.clone(), text, class }),
    }
}

async fn read_answer(endpoint: &Endpoint, io: &mut impl Duplex, buf: &mut BytesMut) -> Result<Frame, DialError> {
    let mut decoder = Decoder::new(ANSWER_LIMITS);
    loop {
        match decoder.decode(buf) {
            Ok(Some(frame)) => return Ok(frame),
            Ok(None) => {}
            Err(source) => return Err(DialError::Frame { endpoint: endpoint.clone(), source }),
        }
        match io.read_buf(buf).await {
            Ok(0) => return Err(DialError::ClosedWithoutAnswer { endpoint: endpoint.clone() }),
            Ok(_) => {}
            Err(error) => {
                let endpoint = endpoint.clone();
                return Err(match tls_cause(&error) {
                    Some(source) => DialError::Alert { endpoint, source: source.clone() },
                    None => DialError::ClosedWithoutAnswer { endpoint },
                });
            }
        }
    }
}
