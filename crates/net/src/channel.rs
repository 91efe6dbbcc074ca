//! One logical control channel over any number of underlays.
//!
//! An underlay is one TLS connection. Each has a reading and a writing task; what they share is one sequence counter, the
//! waiters for replies, one pair of heartbeat clocks and the queue of [`Event`]s to the owner. Every queue is bounded, every
//! wait has an end. Source of the rules: `openziti/channel:MULTI_UNDERLAY_PROTOCOL.md`, `openziti/channel:impl.go`.
//!
//! ```text
//!   send, request ─▶ queue of one underlay ─▶ writing task ─▶ TLS
//!   Event ◀─ bounded queue ◀─ reading task ◀─ TLS              replies go straight to whoever waits for them
//!                         ▲
//!                  pulse task: heartbeats, silence, the end
//! ```
//!
//! The owner reads events and must go on reading while it waits for a reply: a full event queue stops the reading tasks,
//! and with them the replies behind it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lifecycle::{Fingerprint, GenerationNumber};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, mpsc, watch};
use wire::{Frame, FrameError, Limits};

use crate::peer::PeerCertificates;

mod pulse;
mod sending;
mod underlay;
mod waiters;

pub use pulse::{Liveness, heartbeats_closing_after};
pub use sending::{RequestError, SendError};
pub use wire::heartbeat::{HeartbeatPolicy, PeerHealth};

use pulse::Pulse;
use waiters::Waiters;

/// Names one underlay within its process. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnderlayId(u64);

impl UnderlayId {
    fn next() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Self(LAST.fetch_add(1, Ordering::Relaxed).wrapping_add(1))
    }
}

/// The leaf that *we* presented on an underlay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Presented {
    /// The generation it is from.
    pub generation: GenerationNumber,
    /// Which certificate it is.
    pub leaf: Fingerprint,
}

/// One TLS connection of a channel, and what its handshake proved.
#[derive(Clone, Debug)]
pub struct Underlay {
    /// Names it in events.
    pub id: UnderlayId,
    /// Its type in the hello, e.g. `ctrl.default`.
    pub kind: String,
    /// The other end.
    pub remote: SocketAddr,
    /// What we presented; `None` where we presented the server leaf or nothing.
    pub presented: Option<Presented>,
    /// What the peer presented; its leaf's key was proven by this very connection.
    pub peer: Option<Arc<PeerCertificates>>,
}

impl Underlay {
    /// Describes a connection that is about to be attached.
    pub fn new(kind: impl Into<String>, remote: SocketAddr) -> Self {
        Self { id: UnderlayId::next(), kind: kind.into(), remote, presented: None, peer: None }
    }

    /// Says which leaf we presented.
    #[must_use]
    pub fn presenting(mut self, presented: Presented) -> Self {
        self.presented = Some(presented);
        self
    }

    /// Says what the peer presented.
    #[must_use]
    pub fn proven_by(mut self, peer: Option<Arc<PeerCertificates>>) -> Self {
        self.peer = peer;
        self
    }
}

/// What an underlay runs on: a TLS stream, or a pipe in tests.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Duplex for T {}

/// A connection whose hello exchange is over, with the bytes that were read beyond it.
pub struct Connection {
    pub(crate) io: Box<dyn Duplex>,
    pub(crate) unread: bytes::BytesMut,
}

impl Connection {
    /// `unread` begins at a frame boundary.
    pub fn new(io: impl Duplex, unread: bytes::BytesMut) -> Self {
        Self { io: Box::new(io), unread }
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("unread_bytes", &self.unread.len()).finish_non_exhaustive()
    }
}

/// What the loss of the last underlay means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastUnderlay {
    /// The channel is over: the accepting side.
    Closes,
    /// The channel waits for its owner to attach another one: the dialing side.
    Survives,
}

/// How a channel behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelSettings {
    /// Heartbeats and how much silence is too much.
    pub heartbeats: HeartbeatPolicy,
    /// What the loss of the last underlay means.
    pub last_underlay: LastUnderlay,
    /// Frames that may wait for one underlay to write them.
    pub outbound_frames_max: usize,
    /// Events that may wait for the owner.
    pub events_max: usize,
    /// Longest wait for room in a queue, and longest time for one write to finish.
    pub send_timeout: Duration,
    /// Requests that may wait for replies at once.
    pub requests_max: usize,
    /// Underlays that may be attached at once.
    pub underlays_max: usize,
    /// Largest frames that are read.
    pub limits: Limits,
}

impl ChannelSettings {
    /// The dialing side: survives the loss of its last underlay.
    pub fn dialing() -> Self {
        Self { last_underlay: LastUnderlay::Survives, heartbeats: HeartbeatPolicy::ROUTER, ..Self::accepting() }
    }

    /// The accepting side: ends with its last underlay.
    pub fn accepting() -> Self {
        Self {
            heartbeats: HeartbeatPolicy::CONTROLLER,
            last_underlay: LastUnderlay::Closes,
            outbound_frames_max: 256,
            events_max: 256,
            send_timeout: Duration::from_secs(10),
            requests_max: 1024,
            underlays_max: 8,
            limits: Limits::CHANNEL,
        }
    }
}

/// Why an underlay is gone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DetachReason {
    /// The peer closed the connection, or its machine did.
    #[error("the peer closed the connection")]
    PeerClosed,
    /// Reading or writing failed.
    #[error("the connection failed: {0}")]
    Io(std::io::ErrorKind),
    /// A write did not finish in time.
    #[error("the peer stopped reading")]
    WriteTimedOut,
    /// The peer sent something that is no frame.
    #[error("the peer broke the protocol: {0}")]
    Frame(FrameError),
    /// The owner took it away.
    #[error("taken away by its owner")]
    ByOwner,
    /// The whole channel was closed.
    #[error("the channel was closed")]
    ChannelClosed,
}

/// Why a channel is closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CloseReason {
    /// Its owner closed it, saying why.
    #[error("closed by its owner: {0}")]
    ByOwner(&'static str),
    /// The owner stopped listening.
    #[error("its owner is gone")]
    OwnerGone,
    /// Its last underlay went away.
    #[error("lost its last underlay: {0}")]
    LastUnderlayLost(DetachReason),
    /// The peer answered no heartbeat for longer than allowed.
    #[error("the peer answered no heartbeat for {} ms", .limit.as_millis())]
    Unresponsive {
        /// How long it may be silent.
        limit: Duration,
    },
    /// The process is shutting down.
    #[error("shutting down")]
    Shutdown,
}

/// What happens on a channel, in order as far as one underlay goes.
#[derive(Debug)]
pub enum Event {
    /// A frame that no waiter asked for, and that the channel does not answer by itself.
    Message {
        /// What came.
        frame: Frame,
        /// Where it came in. Says nothing about authority: that belongs to the channel.
        underlay: UnderlayId,
    },
    /// An underlay joined.
    Attached(Underlay),
    /// An underlay left.
    Detached {
        /// Which one.
        underlay: Underlay,
        /// Why.
        reason: DetachReason,
    },
    /// The channel is over. Always last.
    Closed(CloseReason),
}

/// The owner's end of a channel. Dropping it closes the channel.
#[derive(Debug)]
pub struct Events {
    queue: mpsc::Receiver<Event>,
    ended: bool,
}

impl Events {
    /// The next event; `None` after [`Event::Closed`].
    pub async fn next(&mut self) -> Option<Event> {
        if self.ended {
            return None;
        }
        let event = self.queue.recv().await;
        self.ended = !matches!(event, Some(Event::Message { .. } | Event::Attached(_) | Event::Detached { .. }));
        event
    }
}

/// Why an underlay was not attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttachError {
    /// Too late.
    #[error("the channel is closed")]
    Closed,
    /// Enough is enough.
    #[error("the channel has all the underlays it may have")]
    TooMany,
}

struct Attached {
    facts: Underlay,
    outbound: mpsc::Sender<Frame>,
    leave: Arc<Notify>,
}

type Hook = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Members {
    /// In order of arrival.
    attached: Vec<Attached>,
    /// Run once, at the end.
    at_close: Vec<Hook>,
    closed: bool,
    /// Underlays whose departure the owner has not been told yet.
    untold: usize,
}

struct Shared {
    settings: ChannelSettings,
    last_sequence: AtomicI32,
    members: Mutex<Members>,
    waiters: Waiters,
    pulse: Pulse,
    events: mpsc::Sender<Event>,
    closing: watch::Sender<Option<CloseReason>>,
    member_left: Notify,
}

impl Shared {
    fn members(&self) -> MutexGuard<'_, Members> {
        // Nothing panics while holding it, and the list is consistent between any two statements.
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first reason given is the one that stays.
    fn close(&self, reason: CloseReason) {
        self.members().closed = true;
        self.closing.send_if_modified(|current| {
            let first = current.is_none();
            if first {
                *current = Some(reason);
            }
            first
        });
        self.waiters.abandon_all();
    }

    fn is_closing(&self) -> bool {
        self.closing.borrow().is_some()
    }
}

/// A handle to one control channel. Clones share it.
#[derive(Clone)]
pub struct Channel {
    shared: Arc<Shared>,
}

impl Channel {
    /// A channel without an underlay yet. Must be called within a tokio runtime.
    pub fn new(settings: ChannelSettings) -> (Self, Events) {
        let (events, queue) = mpsc::channel(settings.events_max.max(1));
        let shared = Arc::new(Shared {
            settings,
            last_sequence: AtomicI32::new(0),
            members: Mutex::default(),
            waiters: Waiters::new(settings.requests_max),
            pulse: Pulse::new(settings.heartbeats),
            events,
            closing: watch::Sender::new(None),
            member_left: Notify::new(),
        });
        tokio::spawn(pulse::keep(shared.clone()));
        (Self { shared }, Events { queue, ended: false })
    }

    /// Makes a connection part of this channel. [`Event::Attached`] follows.
    ///
    /// # Errors
    /// When the channel is closed or full; the connection is dropped then.
    pub fn attach(&self, connection: Connection, underlay: Underlay) -> Result<UnderlayId, AttachError> {
        let id = underlay.id;
        let (outbound, queue) = mpsc::channel(self.shared.settings.outbound_frames_max.max(1));
        let leave = Arc::new(Notify::new());
        {
            let mut members = self.shared.members();
            if members.closed {
                return Err(AttachError::Closed);
            }
            if members.attached.len() >= self.shared.settings.underlays_max {
                return Err(AttachError::TooMany);
            }
            if members.attached.is_empty() {
                // Silence while nothing was attached is nobody's fault.
                self.shared.pulse.restart();
            }
            members.untold += 1;
            members.attached.push(Attached { facts: underlay.clone(), outbound, leave: leave.clone() });
        }
        tokio::spawn(underlay::run(self.shared.clone(), underlay, connection, queue, leave));
        Ok(id)
    }

    /// Takes one underlay away, what it still has to write first. Unknown ids change nothing.
    pub fn detach(&self, id: UnderlayId) {
        if let Some(found) = self.shared.members().attached.iter().find(|a| a.facts.id == id) {
            found.leave.notify_one();
        }
    }

    /// The underlays of this moment, oldest first.
    pub fn underlays(&self) -> Vec<Underlay> {
        self.shared.members().attached.iter().map(|a| a.facts.clone()).collect()
    }

    /// Closes the channel and all its underlays, after what is queued was written or a second has passed. The first reason
    /// given is the one that stays.
    pub fn close(&self, reason: CloseReason) {
        self.shared.close(reason);
    }

    /// Why the channel is closed, if it is.
    pub fn close_reason(&self) -> Option<CloseReason> {
        self.shared.closing.borrow().clone()
    }

    /// Waits for the end.
    pub async fn closed(&self) -> CloseReason {
        let mut closing = self.shared.closing.subscribe();
        let reason = closing.wait_for(Option::is_some).await.ok().and_then(|reason| reason.clone());
        // The sender lives in `self`, so there always is a reason.
        reason.unwrap_or(CloseReason::OwnerGone)
    }

    /// Waits until the channel is closed and its last connection is gone, its queue written or given up.
    pub async fn drained(&self) {
        self.closed().await;
        loop {
            let left = self.shared.member_left.notified();
            tokio::pin!(left);
            // Listening before looking: a departure in between is not missed.
            left.as_mut().enable();
            if self.shared.members().attached.is_empty() {
                return;
            }
            left.await;
        }
    }

    /// Runs `hook` once when the channel has closed; at once if it already has.
    pub fn at_close(&self, hook: impl FnOnce() + Send + 'static) {
        {
            let mut members = self.shared.members();
            if !members.closed {
                members.at_close.push(Box::new(hook));
                return;
            }
        }
        hook();
    }

    /// Whether the peer answers heartbeats.
    pub fn liveness(&self) -> Liveness {
        self.shared.pulse.liveness()
    }

    /// Do both handles name the same channel?
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }
}

impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Channel")
            .field("underlays", &self.underlays())
            .field("closed", &self.close_reason())
            .finish_non_exhaustive()
    }
}
