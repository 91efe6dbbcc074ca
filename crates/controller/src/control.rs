//! The control plane: who is let in, who is connected, and what they are told.
//!
//! [`Control`] is both what the listener asks ([`Admission`]) and what the REST interface asks ([`Fleet`]). Decisions are
//! the [`Driver`]'s; here is the table of live channels (`table`), advice on renewals (`advice`), what the controller says
//! of itself (`greeting`), and the service of one channel (`serving`).

mod advice;
mod greeting;
mod serving;
mod table;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::native::EventKind;
use lifecycle::issuance::{Campaign, Epoch, Opening, Window};
use lifecycle::{Fingerprint, RouterId};
use net::channel::{Channel, ChannelSettings, CloseReason, UnderlayId};
use net::listen::{Admission, Admitted, Applicant, Opened, Refusal};
use tokio::sync::mpsc;
use tokio::time::timeout;
use wire::hello::RenewalAdvice;

use crate::driver::Driver;
use crate::fleet::{Closing, Connected, Fleet};

pub(crate) use serving::RENEWS_LATE;

pub use advice::Outage;
pub use greeting::{COMPATIBLE_RELEASE, Greeting, GreetingParts};

use advice::Advice;
use serving::Serving;
use table::{Live, Table, Ticket};

/// Frames that may wait on one channel. A router asks one thing at a time; small queues keep idle channels small.
const QUEUE_FRAMES: usize = 16;

/// How control channels behave on this side.
pub fn channel_settings() -> ChannelSettings {
    ChannelSettings {
        outbound_frames_max: QUEUE_FRAMES,
        events_max: QUEUE_FRAMES,
        requests_max: QUEUE_FRAMES,
        ..ChannelSettings::accepting()
    }
}

/// The control plane. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Control(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    driver: Driver,
    greeting: Greeting,
    advice: Advice,
    table: Table,
    channels_max: usize,
    /// Each channel's service holds a clone; they are all gone when the last channel has been served to its end.
    at_work: Mutex<Option<mpsc::Sender<()>>>,
    idle: tokio::sync::Mutex<mpsc::Receiver<()>>,
}

/// What an admission is worth.
#[derive(Debug)]
pub struct Standing {
    epoch: Epoch,
    ticket: Ticket,
}

impl Control {
    /// A control plane without channels. At most `channels_max` routers are connected at once.
    pub fn new(
        driver: Driver,
        greeting: Greeting,
        campaign: Option<Campaign>,
        outage: Option<Outage>,
        channels_max: usize,
    ) -> Self {
        let (at_work, idle) = mpsc::channel(1);
        Self(Arc::new(Inner {
            driver,
            greeting,
            advice: Advice::new(campaign, outage),
            table: Table::default(),
            channels_max,
            at_work: Mutex::new(Some(at_work)),
            idle: tokio::sync::Mutex::new(idle),
        }))
    }

    fn inner(&self) -> &Inner {
        &self.0
    }

    /// Waits, no longer than `within`, until all channels have been served to their end. No channel opens afterwards.
    pub async fn served(&self, within: Duration) {
        drop(self.0.at_work.lock().unwrap_or_else(PoisonError::into_inner).take());
        let all_gone = async { while self.0.idle.lock().await.recv().await.is_some() {} };
        if timeout(within, all_gone).await.is_err() {
            tracing::debug!("some channels are still being served");
        }
    }

    fn tell(&self, channel: Channel, advice: RenewalAdvice) {
        tokio::spawn(async move {
            if let Err(cause) = channel.send(advice.to_frame()).await {
                tracing::debug!(%cause, "advice did not leave; it is repeated when the router connects");
            }
        });
    }

    /// The newest leaf shown on the channel that this router has open, and where that comes from.
    fn open_beside(&self, router: &RouterId) -> Option<(Fingerprint, IpAddr)> {
        let live = self.inner().table.get(router)?;
        let underlays = live.channel.underlays();
        let newest = underlays.last()?;
        Some((newest.peer.as_ref()?.fingerprint(), newest.remote.ip()))
    }

    async fn decide(&self, applicant: Applicant) -> Result<Admitted<Standing>, Refusal> {
        let inner = self.inner();
        let abilities = applicant.hello.exuvia;
        let router = RouterId::new(applicant.hello.id.clone());
        let is_new = applicant.joins.is_none();
        // Before its leaf is used: a connection that cannot open anything is no use of it.
        if is_new && inner.table.count() >= inner.channels_max && inner.table.get(&router).is_none() {
            return Err(Refusal::silent("as many routers are connected as are allowed (`limits.channels`)"));
        }
        let from = Some(applicant.remote.ip());
        let opens = if is_new {
            Opening::Channel { from, beside: self.open_beside(&router) }
        } else {
            Opening::Underlay { from }
        };
        let ticket = inner.table.arrive(router);
        let let_in = inner.driver.admit(&applicant.hello.id, &applicant.peer, opens).await.map_err(|refused| {
            match (refused.class, abilities.version) {
                (Some(class), Some(_)) => Refusal::told(refused.reason, class),
                // Stock controllers say nothing.
                _ => Refusal::silent(refused.reason),
            }
        })?;
        let epoch = let_in.admitted.epoch;
        if let Some(channel) = &applicant.joins {
            // One that has not taken its place yet gets none if the enrollment has changed: its ticket is void then.
            let live = inner.table.get(&let_in.router).filter(|live| live.channel.is_same(channel));
            if live.is_some_and(|live| live.epoch != epoch) {
                return Err(Refusal::silent("its group belongs to an enrollment that is over"));
            }
        }
        let now = inner.driver.clock.now();
        let advice = match &let_in.leaf {
            Some(leaf) => inner.advice.for_leaf(now, &let_in.router, leaf),
            None => RenewalAdvice::default(),
        };
        let answer = inner.greeting.answer(abilities, advice);
        Ok(Admitted { router: let_in.router, answer, standing: Standing { epoch, ticket } })
    }
}

impl Admission for Control {
    type Standing = Standing;

    fn admit(&self, applicant: Applicant) -> impl Future<Output = Result<Admitted<Standing>, Refusal>> + Send {
        // Boxed: only hellos in progress need the room.
        Box::pin(self.decide(applicant))
    }

    fn opened(&self, opened: Opened<Standing>) {
        let Opened { channel, events, router, hello, standing, .. } = opened;
        let Standing { epoch, ticket } = standing;
        let inner = self.inner();
        let at_work = inner.at_work.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(at_work) = at_work else { return channel.close(CloseReason::Shutdown) };
        let now = inner.driver.clock.now();
        // The underlay may be gone again; then so is the channel in a moment.
        let Some(remote) = channel.underlays().first().map(|underlay| underlay.remote) else { return };
        let live = Live {
            channel: channel.clone(),
            epoch,
            remote,
            since: now.wall,
            version: serving::clipped(&hello.version.version).into(),
            hostname: None,
            takes_advice: hello.exuvia.version.is_some(),
        };
        match inner.table.take_place(&ticket, live) {
            Err(_) => return channel.close(CloseReason::ByOwner("the router's channels were closed meanwhile")),
            Ok(None) => inner.driver.metrics.channel_opened(false),
            Ok(Some(old)) => {
                inner.driver.metrics.channel_opened(true);
                let age_ms = now.wall.since(old.since).as_millis();
                tracing::info!(%router, %remote, was = %old.remote, age_ms, "a newer connection takes the place of an older one");
                old.channel.close(CloseReason::ByOwner("the router connected anew"));
            }
        }
        drop(ticket);
        let (control, gone) = (self.clone(), (router.clone(), channel.clone()));
        channel.at_close(move || control.inner().table.leave(&gone.0, &gone.1));
        let is_exuvia = hello.exuvia.version.is_some();
        let detail = format!("from {remote}, running {}", serving::clipped(&hello.version.version));
        inner.driver.events.publish(now.wall, EventKind::Connected, Some(&router), None, Some(detail));
        let serving = Serving { control: self.clone(), router, epoch, channel, is_exuvia, confirmed_at: None };
        tokio::spawn(async move {
            let (control, router) = (serving.control.clone(), serving.router.clone());
            let reason = serving.run(events, Box::new(hello.version)).await;
            let driver = &control.inner().driver;
            driver.metrics.channel_closed();
            let detail = Some(format!("from {remote}: {reason}"));
            driver.events.publish(driver.clock.now().wall, EventKind::Disconnected, Some(&router), None, detail);
            drop(at_work);
        });
    }

    fn joined(&self, channel: &Channel, underlay: UnderlayId, standing: Standing) {
        // The channel is in the table since before this underlay asked, so whoever voided the ticket closed it as well.
        tracing::debug!(router = %standing.ticket.router(), ?underlay, underlays = channel.underlays().len(), "an underlay joined");
    }
}

impl Fleet for Control {
    fn connected(&self, router: &RouterId) -> Option<Connected> {
        let live = self.inner().table.get(router)?;
        let underlays = live.channel.underlays();
        let newest = underlays.last().and_then(|underlay| underlay.peer.as_ref());
        Some(Connected {
            remote: live.remote,
            since: live.since,
            version: Some(live.version.to_string()),
            hostname: live.hostname.map(|name| name.to_string()),
            underlays: underlays.len(),
            leaf: newest.map(|peer| peer.fingerprint()),
            takes_advice: live.takes_advice,
        })
    }

    fn connected_count(&self) -> usize {
        self.inner().table.count()
    }

    fn close(&self, router: &RouterId, why: Closing) {
        if let Some(live) = self.inner().table.close(router) {
            live.channel.close(CloseReason::ByOwner(why.reason()));
        }
    }

    fn advise(&self, router: &RouterId, window: Window) -> bool {
        let inner = self.inner();
        inner.advice.ask(inner.driver.clock.now(), router, window);
        match inner.table.get(router) {
            Some(live) if live.takes_advice => {
                self.tell(live.channel, advice::of_window(window));
                true
            }
            _ => false,
        }
    }

    fn announce(&self, campaign: Campaign) -> u64 {
        let inner = self.inner();
        inner.advice.order(Some(campaign));
        let channels = inner.table.advisable();
        let told = channels.len() as u64;
        for channel in channels {
            self.tell(channel, advice::of_campaign(campaign));
        }
        told
    }

    fn call_off(&self) {
        self.inner().advice.order(None);
    }
}
