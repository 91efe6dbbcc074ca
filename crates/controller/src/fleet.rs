//! The live side of the fleet: who is connected, and what happens.
//!
//! [`Fleet`] is what the REST interface may ask of the control channels; the control listener implements it. [`Events`]
//! is where both tell what happened.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use api::native::EventKind;
use lifecycle::issuance::{Campaign, LeafSeq, Window};
use lifecycle::{Fingerprint, RouterId, UnixTime};
use tokio::sync::broadcast;

/// The open control channels. All calls return at once.
pub trait Fleet: fmt::Debug + Send + Sync + 'static {
    /// The router's channel, if one is open.
    fn connected(&self, router: &RouterId) -> Option<Connected>;

    /// How many routers have an open channel.
    fn connected_count(&self) -> usize;

    /// Begins to close every channel of the router. The register has changed before this is called, so nothing that
    /// those channels still carry can be committed.
    fn close(&self, router: &RouterId, why: Closing);

    /// Tells the router when a renewal would be welcome, and says whether it was told. If it is not connected, it is told
    /// when it connects next, unless the window is over by then.
    fn advise(&self, router: &RouterId, window: Window) -> bool;

    /// Tells every connected router of a re-key that is in force now, and says how many were told. The others are told
    /// when they connect.
    fn announce(&self, campaign: Campaign) -> u64;

    /// The re-key is called off: nobody is told of it any more.
    fn call_off(&self) {}
}

/// An open control channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connected {
    /// Where its first underlay comes from.
    pub remote: SocketAddr,
    /// When it came up.
    pub since: UnixTime,
    /// What the router runs, as it says.
    pub version: Option<String>,
    /// The router's host name, as it says.
    pub hostname: Option<String>,
    /// How many underlays it has.
    pub underlays: usize,
    /// The client leaf that its newest underlay presented.
    pub leaf: Option<Fingerprint>,
    /// Does the router understand renewal windows?
    pub takes_advice: bool,
}

/// Why the channels of a router are closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Closing {
    /// Its identity was withdrawn.
    Revoked,
    /// It must enroll anew.
    ReEnrolled,
    /// The operator vouched for another of its leaves.
    Readmitted,
    /// It was switched off.
    Disabled,
    /// It was deleted.
    Deleted,
}

impl Closing {
    /// A sentence for the log.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Revoked => "the router was revoked",
            Self::ReEnrolled => "the router must enroll anew",
            Self::Readmitted => "the operator vouched for one of the router's leaves",
            Self::Disabled => "the router was switched off",
            Self::Deleted => "the router was deleted",
        }
    }
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its number; grows by one, starts anew with the process.
    pub seq: u64,
    /// When.
    pub at: UnixTime,
    /// What.
    pub kind: EventKind,
    /// Which router.
    pub router: Option<RouterId>,
    /// Which leaf.
    pub leaf: Option<LeafSeq>,
    /// A sentence, if there is more to say.
    pub detail: Option<String>,
}

/// Where everybody tells what happened, and everybody may listen. Cheap to clone.
///
/// Nobody waits for listeners: one that falls too far behind is told how much it missed.
#[derive(Clone, Debug)]
pub struct Events(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    next: AtomicU64,
    sender: broadcast::Sender<Arc<Event>>,
}

/// How far a listener may fall behind.
const BACKLOG: usize = 4096;

impl Default for Events {
    fn default() -> Self {
        Self(Arc::new(Shared { next: AtomicU64::new(1), sender: broadcast::channel(BACKLOG).0 }))
    }
}

impl Events {
    /// Tells everybody, after what happened is durable.
    pub fn publish(
        &self,
        at: UnixTime,
        kind: EventKind,
        router: Option<&RouterId>,
        leaf: Option<LeafSeq>,
        detail: Option<String>,
    ) {
        let seq = self.0.next.fetch_add(1, Ordering::Relaxed);
        let event = Event { seq, at, kind, router: router.cloned(), leaf, detail };
        tracing::info!(
            event = kind.as_str(),
            router = event.router.as_ref().map(tracing::field::display),
            leaf = leaf.map(|leaf| leaf.0),
            detail = event.detail.as_deref(),
            "fleet"
        );
        // An error only means that nobody listens.
        let _ = self.0.sender.send(Arc::new(event));
    }

    /// Everything that happens from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Event>> {
        self.0.sender.subscribe()
    }
}
