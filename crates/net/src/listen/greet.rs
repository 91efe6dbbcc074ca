//! One hello, one decision, one answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use lifecycle::RouterId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use wire::hello::{GroupHello, Hello, HelloAnswer, HelloError};
use wire::{Decoder, FrameError, Limits};

use super::groups::{Claim, NoGroup};
use super::seats::{Seat, note_too_slow};
use super::{Admission, Admitted, Applicant, ControlListener, Opened, Refusal};
use crate::channel::{AttachError, Channel, Connection, Duplex, Underlay};
use crate::peer::PeerCertificates;

/// Time for a farewell on a connection that is being closed anyway.
const FAREWELL: Duration = Duration::from_secs(1);
/// Longest connection id that a dialer may choose for its group. Upstream's have 5 characters and a counter.
const ID_BYTES_MAX: usize = 128;
/// Length of the secrets and ids that we make.
const SECRET_BYTES: usize = 16;
const ID_BYTES: usize = 8;

/// Why a connection came to nothing. Nobody but our own log is told.
#[derive(Debug, thiserror::Error)]
enum NoChannel {
    #[error("the hello did not come in time")]
    Slow,
    #[error("the connection ended before the hello")]
    Cut,
    #[error("the hello is no frame: {0}")]
    Frame(#[from] FrameError),
    #[error("the hello cannot be read: {0}")]
    Hello(#[from] HelloError),
    #[error("its group: {0}")]
    Group(#[from] NoGroup),
    #[error("a further underlay must name its group and secret")]
    Nameless,
    #[error("its connection id is too long")]
    LongId,
    #[error("admission: {0}")]
    Refused(String),
    #[error("it was admitted as `{admitted}` but asked to join a channel of `{asked}`")]
    OtherRouter { asked: RouterId, admitted: RouterId },
    #[error("the answer could not be written")]
    Unanswered,
    #[error("the channel did not take it: {0}")]
    Attach(#[from] AttachError),
    #[error("no random numbers")]
    NoRandom,
    #[error("its place was given to another")]
    CrowdedOut,
}

/// From the end of the handshake to an open channel, or to nothing.
pub(super) async fn greet<A: Admission>(
    door: &ControlListener<A>,
    mut io: impl Duplex,
    remote: SocketAddr,
    peer: Arc<PeerCertificates>,
    seat: &Seat,
) {
    let mut unread = BytesMut::new();
    let opened = match welcome(door, &mut io, &mut unread, remote, peer, seat).await {
        Ok(welcomed) => open(door, welcomed, Connection::new(io, unread)),
        Err(cause) => {
            let _ = timeout(FAREWELL, io.shutdown()).await;
            Err(cause)
        }
    };
    if let Err(cause) = opened {
        if matches!(cause, NoChannel::Slow) {
            note_too_slow();
        }
        tracing::info!(%remote, %cause, "a control connection was not opened");
    }
}

/// Where a connection belongs once it is answered.
enum Place {
    New(Claim),
    Further(Channel),
}

struct Welcomed<S> {
    place: Place,
    underlay: Underlay,
    router: RouterId,
    hello: Hello,
    standing: S,
}

async fn welcome<A: Admission>(
    door: &ControlListener<A>,
    io: &mut impl Duplex,
    unread: &mut BytesMut,
    remote: SocketAddr,
    peer: Arc<PeerCertificates>,
    seat: &Seat,
) -> Result<Welcomed<A::Standing>, NoChannel> {
    let mut hello = read_hello(io, unread, door.limits.hello).await?;
    if let Some(group) = &mut hello.group {
        // An empty id is none, as in `openziti/channel:classic_listener.go`: it would name the groups of many.
        group.connection_id = group.connection_id.take().filter(|id| !id.is_empty());
    }
    // An admission that has begun is not broken off for the sake of another.
    if !seat.keep() {
        return Err(NoChannel::CrowdedOut);
    }
    let asked = RouterId::new(hello.id.clone());
    // Before admission, which may mark a leaf as used: a connection that cannot join anything is no use of its leaf.
    let joins = match &hello.group {
        Some(group) => group_to_join(door, &asked, group).await?,
        None => None,
    };
    let applicant = Applicant { hello: hello.clone(), peer: peer.clone(), remote, joins: joins.clone() };
    let Admitted { router, mut answer, standing } = match door.admission.admit(applicant).await {
        Ok(admitted) => admitted,
        Err(refusal) => return Err(refuse(door, io, refusal).await),
    };
    let place = match joins {
        Some(_) if router != asked => return Err(NoChannel::OtherRouter { asked, admitted: router }),
        Some(channel) => {
            // Id and secret are the peer's own words, checked above.
            let (id, secret) =
                hello.group.as_ref().map(|g| (g.connection_id.clone(), g.secret.clone())).unwrap_or_default();
            (answer.connection_id, answer.secret) = (id, secret);
            Place::Further(channel)
        }
        None => {
            let group = hello.group.clone().unwrap_or_default();
            let id = match group.connection_id {
                Some(id) => id,
                None => hex(&random::<ID_BYTES>()?),
            };
            let secret = match group.secret.filter(|secret| !secret.is_empty()) {
                Some(secret) => secret,
                None => Bytes::copy_from_slice(&random::<SECRET_BYTES>()?),
            };
            answer.connection_id = Some(id.clone());
            answer.secret = hello.group.is_some().then(|| secret.clone());
            Place::New(door.channels.claim(router.clone(), id, secret)?)
        }
    };
    answer.is_grouped = hello.group.is_some();
    answer.underlay_type = hello.underlay_type.clone();
    write_answer(io, &HelloAnswer::Accepted(Box::new(answer)), door.limits.hello).await?;
    let kind = hello.underlay_type.clone().unwrap_or_default();
    let underlay = Underlay::new(kind, remote).proven_by(Some(peer));
    Ok(Welcomed { place, underlay, router, hello, standing })
}

/// The open channel that a grouped hello asks for; `None` when it makes a new group. A first connection that names an open
/// group is a further one, as in `openziti/channel:multi_listener.go`.
async fn group_to_join<A>(
    door: &ControlListener<A>,
    router: &RouterId,
    group: &GroupHello,
) -> Result<Option<Channel>, NoChannel> {
    if group.connection_id.as_ref().is_some_and(|id| id.len() > ID_BYTES_MAX) {
        return Err(NoChannel::LongId);
    }
    let is_new = match &group.connection_id {
        Some(id) => group.is_first && !door.channels.is_taken(router, id),
        None => group.is_first,
    };
    if is_new {
        return Ok(None);
    }
    match (&group.connection_id, &group.secret) {
        (Some(id), Some(secret)) => Ok(Some(door.channels.find(router, id, secret).await?)),
        _ => Err(NoChannel::Nameless),
    }
}

fn open<A: Admission>(
    door: &ControlListener<A>,
    welcomed: Welcomed<A::Standing>,
    connection: Connection,
) -> Result<(), NoChannel> {
    let Welcomed { place, underlay, router, hello, standing } = welcomed;
    match place {
        Place::New(claim) => {
            let (channel, events) = Channel::new(door.settings);
            let underlay = channel.attach(connection, underlay)?;
            claim.open(&channel);
            door.admission.opened(Opened { channel, events, underlay, router, hello, standing });
        }
        Place::Further(channel) => {
            let underlay = channel.attach(connection, underlay)?;
            door.admission.joined(&channel, underlay, standing);
        }
    }
    Ok(())
}

async fn refuse<A>(door: &ControlListener<A>, io: &mut impl Duplex, refusal: Refusal) -> NoChannel {
    if let Some(class) = refusal.told {
        let answer = HelloAnswer::Refused { text: refusal.reason.clone(), class };
        let _ = write_answer(io, &answer, door.limits.hello).await;
    }
    NoChannel::Refused(refusal.reason)
}

async fn write_answer(io: &mut impl Duplex, answer: &HelloAnswer, within: Duration) -> Result<(), NoChannel> {
    let bytes = answer.to_frame().to_bytes();
    let writing = async {
        io.write_all(&bytes).await?;
        io.flush().await
    };
    match timeout(within, writing).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(NoChannel::Unanswered),
    }
}

/// Exactly one frame, within the caps of a hello; what follows it stays in `unread`.
async fn read_hello(io: &mut impl Duplex, unread: &mut BytesMut, within: Duration) -> Result<Hello, NoChannel> {
    let mut decoder = Decoder::new(Limits::HELLO);
    let reading = async {
        loop {
            match decoder.decode(unread) {
                Ok(Some(frame)) => return Ok(Hello::from_frame(&frame)?),
                Ok(None) => {}
                Err(error) => {
                    if error.wants_negotiation_reply() {
                        let _ = io.write_all(&wire::frame::NEGOTIATION_REPLY).await;
                    }
                    return Err(error.into());
                }
            }
            if !matches!(io.read_buf(unread).await, Ok(read) if read > 0) {
                return Err(NoChannel::Cut);
            }
        }
    };
    timeout(within, reading).await.unwrap_or(Err(NoChannel::Slow))
}

fn random<const N: usize>() -> Result<[u8; N], NoChannel> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| NoChannel::NoRandom)?;
    Ok(bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
