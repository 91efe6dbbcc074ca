//! Which channels are open, and who may add an underlay to one.
//!
//! A group is known by the router that proved its id *and* by its connection id. Router ids come first so that nobody can
//! occupy or guess his way into another router's group: the secret alone never suffices (promise P8).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use lifecycle::RouterId;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::channel::{Channel, CloseReason};

/// How long a further underlay waits for the first one that it overtook. Source:
/// `openziti/channel:multi_listener.go`.
const OVERTAKEN: Duration = Duration::from_secs(1);

/// The open control channels of this process. Clones share them; several listeners may.
#[derive(Clone, Default)]
pub struct Channels {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    open: Mutex<HashMap<RouterId, HashMap<String, Entry>>>,
    opened: Notify,
}

struct Entry {
    secret: Bytes,
    /// `None` while the first underlay waits for its answer to be written.
    channel: Option<Channel>,
}

/// Why an underlay may not join.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoGroup {
    #[error("there is no such group of this router")]
    Unknown,
    #[error("the group's secret is wrong")]
    WrongSecret,
    #[error("the group exists already")]
    Taken,
}

impl Channels {
    /// No channel yet.
    pub fn new() -> Self {
        Self::default()
    }

    fn open(&self) -> MutexGuard<'_, HashMap<RouterId, HashMap<String, Entry>>> {
        // Nothing panics while holding it.
        self.shared.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The channels of one router: none or one when all is well, more for a moment while one replaces another.
    pub fn of(&self, router: &RouterId) -> Vec<Channel> {
        self.open()
            .get(router)
            .map(|groups| groups.values().filter_map(|e| e.channel.clone()).collect())
            .unwrap_or_default()
    }

    /// How many channels are open.
    pub fn count(&self) -> usize {
        self.open().values().flat_map(HashMap::values).filter(|entry| entry.channel.is_some()).count()
    }

    /// Closes every channel of one router: after a revocation, for example.
    pub fn close_router(&self, router: &RouterId, reason: CloseReason) {
        for channel in self.of(router) {
            channel.close(reason.clone());
        }
    }

    /// Closes every channel, and returns them: each may have something left to write.
    pub fn close_all(&self, reason: CloseReason) -> Vec<Channel> {
        let all: Vec<Channel> =
            self.open().values().flat_map(HashMap::values).filter_map(|entry| entry.channel.clone()).collect();
        for channel in &all {
            channel.close(reason.clone());
        }
        all
    }

    /// Takes a name for a channel that is about to open. Given up again when the returned claim is dropped.
    pub(super) fn claim(&self, router: RouterId, id: String, secret: Bytes) -> Result<Claim, NoGroup> {
        let mut open = self.open();
        let groups = open.entry(router.clone()).or_default();
        if groups.contains_key(&id) {
            return Err(NoGroup::Taken);
        }
        groups.insert(id.clone(), Entry { secret, channel: None });
        Ok(Claim { channels: self.clone(), router, id, is_kept: false })
    }

    /// Is there a channel of this name, or about to be one?
    pub(super) fn is_taken(&self, router: &RouterId, id: &str) -> bool {
        self.open().get(router).is_some_and(|groups| groups.contains_key(id))
    }

    /// The channel that a further underlay asks for.
    pub(super) async fn find(&self, router: &RouterId, id: &str, secret: &[u8]) -> Result<Channel, NoGroup> {
        timeout(OVERTAKEN, async {
            loop {
                let opened = self.shared.opened.notified();
                tokio::pin!(opened);
                // Listening before looking: an opening in between is not missed.
                opened.as_mut().enable();
                if let Some(found) = self.look(router, id, secret) {
                    return found;
                }
                opened.await;
            }
        })
        .await
        .unwrap_or(Err(NoGroup::Unknown))
    }

    fn look(&self, router: &RouterId, id: &str, secret: &[u8]) -> Option<Result<Channel, NoGroup>> {
        let open = self.open();
        let entry = open.get(router)?.get(id)?;
        let channel = entry.channel.clone()?;
        let same = aws_lc_rs::constant_time::verify_slices_are_equal(&entry.secret, secret).is_ok();
        Some(if same { Ok(channel) } else { Err(NoGroup::WrongSecret) })
    }

    fn forget(&self, router: &RouterId, id: &str) {
        let mut open = self.open();
        if let Some(groups) = open.get_mut(router) {
            groups.remove(id);
            if groups.is_empty() {
                open.remove(router);
            }
        }
    }
}

impl std::fmt::Debug for Channels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Channels").field("open", &self.count()).finish()
    }
}

/// A name that is taken for a channel which is not open yet.
pub(super) struct Claim {
    channels: Channels,
    router: RouterId,
    id: String,
    is_kept: bool,
}

impl Claim {
    /// The channel is open: others may join it until it closes.
    pub(super) fn open(mut self, channel: &Channel) {
        self.is_kept = true;
        if let Some(entry) = self.channels.open().get_mut(&self.router).and_then(|groups| groups.get_mut(&self.id)) {
            entry.channel = Some(channel.clone());
        }
        self.channels.shared.opened.notify_waiters();
        let (channels, router, id) = (self.channels.clone(), self.router.clone(), self.id.clone());
        channel.at_close(move || channels.forget(&router, &id));
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.is_kept {
            self.channels.forget(&self.router, &self.id);
        }
    }
}
