//! Who is connected, and who is on the way in.
//!
//! One rule: a router has at most one live channel. Two races are settled here, under one lock:
//! - a newer first connection displaces an older one in the same moment in which it takes its place;
//! - an operator closes a router's channels while another connection of it is being admitted. Whoever arrives holds a
//!   [`Ticket`] from before the register was asked; closing voids all tickets of the router, and a void ticket opens nothing.
//!   So either the register already knew of the order when it was asked, or the ticket is void.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lifecycle::issuance::Epoch;
use lifecycle::{RouterId, UnixTime};
use net::channel::Channel;

/// One router's channel.
#[derive(Clone, Debug)]
pub(super) struct Live {
    pub(super) channel: Channel,
    pub(super) epoch: Epoch,
    pub(super) remote: SocketAddr,
    pub(super) since: UnixTime,
    pub(super) version: Arc<str>,
    pub(super) hostname: Option<Arc<str>>,
    pub(super) takes_advice: bool,
}

/// Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Table(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    live: HashMap<RouterId, Live>,
    arriving: HashMap<RouterId, Vec<Arc<AtomicBool>>>,
}

/// The right to open a channel, as long as nobody closes the router's channels.
#[derive(Debug)]
pub(super) struct Ticket {
    table: Table,
    router: RouterId,
    void: Arc<AtomicBool>,
}

/// The router's channels were closed while this one was on its way in.
#[derive(Debug)]
pub(super) struct Void;

impl Table {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while holding it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To be taken before the register is asked.
    pub(super) fn arrive(&self, router: RouterId) -> Ticket {
        let void = Arc::new(AtomicBool::new(false));
        self.state().arriving.entry(router.clone()).or_default().push(Arc::clone(&void));
        Ticket { table: self.clone(), router, void }
    }

    /// Puts a channel in its place; gives the one that it displaced.
    pub(super) fn take_place(&self, ticket: &Ticket, live: Live) -> Result<Option<Live>, Void> {
        let mut state = self.state();
        if ticket.is_void() {
            return Err(Void);
        }
        Ok(state.live.insert(ticket.router.clone(), live))
    }

    /// Voids what is on its way and takes away what is there.
    pub(super) fn close(&self, router: &RouterId) -> Option<Live> {
        let mut state = self.state();
        for void in state.arriving.get(router).into_iter().flatten() {
            void.store(true, Ordering::Relaxed);
        }
        state.live.remove(router)
    }

    /// The channel is over. Another one may be in its place already.
    pub(super) fn leave(&self, router: &RouterId, channel: &Channel) {
        let mut state = self.state();
        if state.live.get(router).is_some_and(|live| live.channel.is_same(channel)) {
            state.live.remove(router);
        }
    }

    pub(super) fn get(&self, router: &RouterId) -> Option<Live> {
        self.state().live.get(router).cloned()
    }

    pub(super) fn count(&self) -> usize {
        self.state().live.len()
    }

    pub(super) fn set_hostname(&self, router: &RouterId, channel: &Channel, hostname: &str) {
        if let Some(live) = self.state().live.get_mut(router)
            && live.channel.is_same(channel)
        {
            live.hostname = Some(hostname.into());
        }
    }

    /// The channels of all routers that understand advice.
    pub(super) fn advisable(&self) -> Vec<Channel> {
        self.state().live.values().filter(|live| live.takes_advice).map(|live| live.channel.clone()).collect()
    }
}

impl Ticket {
    /// Whose it is.
    pub(super) fn router(&self) -> &RouterId {
        &self.router
    }

    /// Only meaningful under the table's lock, or as a hint.
    pub(super) fn is_void(&self) -> bool {
        self.void.load(Ordering::Relaxed)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut state = self.table.state();
        if let Some(tickets) = state.arriving.get_mut(&self.router) {
            tickets.retain(|void| !Arc::ptr_eq(void, &self.void));
            if tickets.is_empty() {
                state.arriving.remove(&self.router);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use net::channel::ChannelSettings;

    use super::*;

    fn live() -> (Live, net::channel::Events) {
        let (channel, events) = Channel::new(ChannelSettings::accepting());
        let remote = SocketAddr::from(([127, 0, 0, 1], 1));
        let live = Live {
            channel,
            epoch: Epoch(1),
            remote,
            since: UnixTime::from_s(1),
            version: "v2".into(),
            hostname: None,
            takes_advice: false,
        };
        (live, events)
    }

    #[tokio::test]
    async fn whoever_arrives_while_the_router_is_closed_gets_no_place() {
        let (table, router) = (Table::default(), RouterId::new("r1"));
        let ticket = table.arrive(router.clone());
        assert!(table.close(&router).is_none());
        assert!(table.take_place(&ticket, live().0).is_err());
        drop(ticket);
        let ticket = table.arrive(router.clone());
        assert!(table.take_place(&ticket, live().0).is_ok(), "the next one asked the register after the order");
        assert_eq!(table.count(), 1);
    }

    #[tokio::test]
    async fn the_newer_connection_takes_the_place_and_the_older_ones_end_does_not_take_it_away() {
        let (table, router) = (Table::default(), RouterId::new("r1"));
        let ((old, _a), (new, _b)) = (live(), live());
        assert!(table.take_place(&table.arrive(router.clone()), old.clone()).unwrap().is_none());
        let displaced = table.take_place(&table.arrive(router.clone()), new.clone()).unwrap().unwrap();
        assert!(displaced.channel.is_same(&old.channel));
        table.leave(&router, &old.channel);
        assert!(table.get(&router).unwrap().channel.is_same(&new.channel));
        table.leave(&router, &new.channel);
        assert_eq!(table.count(), 0);
        assert!(table.state().arriving.is_empty());
    }
}
