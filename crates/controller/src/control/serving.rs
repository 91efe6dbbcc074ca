//! One channel, from its opening to its end.
//!
//! The authority of everything that arrives is the router id that was proven at admission and the epoch of that moment.
//! Which underlay carried a frame, and which leaf that one shows, says nothing.

use std::time::Duration;

use lifecycle::issuance::{EnrollmentKind, Epoch};
use lifecycle::{RouterId, Uptime};
use net::channel::{Channel, Event, Events};
use serde_json::{Map, Value};
use store::register::Seen;
use wire::control::InspectResponse;
use wire::edge::{ClientHello, SubscribeToDataModel};
use wire::extension::ErrorAnswer;
use wire::outcome::Outcome;
use wire::version::VersionInfo;
use wire::{Frame, content_type};

use super::Control;

/// Listeners of one router that are kept.
const LISTENERS_MAX: usize = 16;
/// Detail of a router: it renews only seven days before its leaf ends, as OpenZiti's do.
pub(crate) const RENEWS_LATE: &str = "renewsLate";
/// A stock router whose leaves end within seven days asks for new ones again as soon as it has written those that it got, hundreds of times
/// a second; if it hears nothing, it asks again after 35 s. Source: `openziti/ziti:router/state/certchecker.go`.
const STOCK_SPACING: Duration = Duration::from_secs(30);
/// Longest text of a router about itself that is kept, in characters.
const TEXT_MAX: usize = 255;

pub(super) fn clipped(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(TEXT_MAX).collect()
}

/// A router on its channel.
pub(super) struct Serving {
    pub(super) control: Control,
    pub(super) router: RouterId,
    pub(super) epoch: Epoch,
    pub(super) channel: Channel,
    /// The router understands what stock controllers never say.
    pub(super) is_exuvia: bool,
    /// When a 20303 was last answered with success here.
    pub(super) confirmed_at: Option<Uptime>,
}

impl Serving {
    /// Serves until the channel is over; gives the reason.
    pub(super) async fn run(mut self, mut events: Events, version: Box<VersionInfo>) -> String {
        Box::pin(self.welcome(*version)).await;
        loop {
            match events.next().await {
                Some(Event::Message { frame, .. }) => {
                    // Boxed: an idle channel keeps no room for the largest of these.
                    if let Some(reply) = Box::pin(self.message(&frame)).await {
                        self.send(reply).await;
                    }
                }
                Some(Event::Closed(reason)) => return reason.to_string(),
                Some(Event::Attached(_) | Event::Detached { .. }) => {}
                None => return "it is gone".to_owned(),
            }
        }
    }

    async fn send(&self, frame: Frame) {
        let content_type = frame.content_type;
        if let Err(cause) = self.channel.send(frame).await {
            tracing::debug!(router = %self.router, content_type, %cause, "a frame did not leave");
        }
    }

    /// What a router hears first. It must learn our id: a stock router that has not dials never again once its channel was
    /// closed.
    async fn welcome(&self, version: VersionInfo) {
        let inner = self.control.inner();
        self.send(inner.greeting.addresses()).await;
        let view = match inner.driver.register.router(self.router.clone()).await {
            Ok(Some(view)) => view.router,
            Ok(None) => return,
            Err(error) => return tracing::warn!(router = %self.router, %error, "the router cannot be looked up"),
        };
        let (hostname, mut details) = view.seen.map(|seen| (seen.hostname, seen.details)).unwrap_or_default();
        for (name, text) in [
            ("revision", version.revision),
            ("buildDate", version.build_date),
            ("os", version.os),
            ("arch", version.arch),
        ] {
            details.insert(name.to_owned(), Value::String(clipped(&text)));
        }
        details.insert(RENEWS_LATE.to_owned(), Value::Bool(!self.is_exuvia));
        self.note(hostname, clipped(&version.version), details).await;
        if view.kind == EnrollmentKind::Edge {
            self.send(inner.greeting.server_hello()).await;
        }
    }

    /// What the management interface shows of the router. Losing it costs nothing.
    async fn note(&self, hostname: String, version: String, details: Map<String, Value>) {
        let inner = self.control.inner();
        let seen = Seen { at: inner.driver.clock.now().wall, hostname, version, details };
        if let Err(error) = inner.driver.register.note_hello(self.router.clone(), seen).await {
            tracing::debug!(router = %self.router, %error, "what the router said of itself was not kept");
        }
    }

    /// The frame to send for one that came. Whatever is not known is ignored, as routers of later releases expect.
    async fn message(&mut self, frame: &Frame) -> Option<Frame> {
        let inner = self.control.inner();
        match frame.content_type {
            content_type::EXTENSION_REQUEST if self.asks_without_a_pause() => {
                tracing::debug!(router = %self.router, "asks for leaves again without a pause, and is left to wait");
                None
            }
            content_type::EXTENSION_REQUEST => match inner.driver.extend(&self.router, self.epoch, frame).await {
                Ok(certs) => Some(certs),
                Err(refusal) if self.is_exuvia => {
                    Some(ErrorAnswer::failure(refusal.code, refusal.message).to_reply(frame))
                }
                // Stock controllers say nothing, and a stock router asks again.
                Err(_) => None,
            },
            content_type::EXTENSION_VERIFY => {
                let answer = inner.driver.confirm(&self.router, self.epoch, frame).await;
                if answer.is_success() {
                    self.confirmed_at = Some(inner.driver.clock.now().uptime);
                }
                Some(answer.to_reply(frame))
            }
            content_type::VERIFY_ROUTER => Some(inner.driver.verify_router(frame).await),
            content_type::REQUEST_CLUSTER_MEMBERS => Some(inner.greeting.addresses()),
            content_type::SUBSCRIBE_TO_DATA_MODEL => {
                let asked = SubscribeToDataModel::from_frame(frame).ok()?;
                inner.greeting.data_state(&asked)
            }
            content_type::CLIENT_HELLO => {
                self.client_hello(frame).await;
                None
            }
            content_type::UPDATE_ROUTER_INTERFACES
            | content_type::REMOVE_TERMINATOR_REQUEST
            | content_type::REMOVE_TERMINATORS_REQUEST
            | content_type::QUIESCE
            | content_type::DEQUIESCE => Some(Outcome::success("").to_reply(frame)),
            content_type::INSPECT_REQUEST => {
                let nothing = InspectResponse { is_success: true, errors: Vec::new(), values: Vec::new() };
                Some(nothing.to_reply(frame))
            }
            content_type::CREATE_TERMINATOR_REQUEST | content_type::UPDATE_TERMINATOR_REQUEST => {
                Some(Outcome::failure("this controller keeps no terminators").to_reply(frame))
            }
            content_type::CIRCUIT_REQUEST => {
                Some(Frame::reply(content_type::CIRCUIT_FAILED, "this controller makes no circuits", frame))
            }
            content_type::DECOMMISSION => {
                let told = "routers are deleted through the management interface";
                Some(Outcome::failure(told).to_reply(frame))
            }
            other => {
                tracing::trace!(router = %self.router, content_type = other, "a message needs no answer");
                None
            }
        }
    }

    /// Only a stock router does.
    fn asks_without_a_pause(&self) -> bool {
        let now = self.control.inner().driver.clock.now().uptime;
        !self.is_exuvia && self.confirmed_at.is_some_and(|confirmed| now.since(confirmed) < STOCK_SPACING)
    }

    async fn client_hello(&self, frame: &Frame) {
        let Ok(hello) = ClientHello::from_frame(frame) else { return };
        let inner = self.control.inner();
        let hostname = clipped(&hello.hostname);
        inner.table.set_hostname(&self.router, &self.channel, &hostname);
        let Ok(Some(view)) = inner.driver.register.router(self.router.clone()).await else { return };
        let seen = view.router.seen;
        let (version, mut details) = seen.map(|seen| (seen.version, seen.details)).unwrap_or_default();
        let protocols: Map<String, Value> = hello
            .listeners
            .iter()
            .filter_map(|listener| listener.advertise.as_ref())
            .take(LISTENERS_MAX)
            .map(|address| (clipped(&address.protocol), Value::String(clipped(&address.value))))
            .collect();
        details.insert("protocols".to_owned(), Value::Object(protocols));
        self.note(hostname, version, details).await;
    }
}
