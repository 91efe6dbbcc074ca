//! One controller's line: its channel, its dials, its requests.

use std::sync::Arc;

use lifecycle::issuance::Window;
use lifecycle::renewal::{DialOutcome, ProofOutcome, VerifyAnswer};
use lifecycle::{ControllerId, GenerationNumber};
use net::channel::{
    Channel, ChannelSettings, CloseReason, DetachReason, Event, Events, HeartbeatPolicy, LastUnderlay, Underlay,
    UnderlayId,
};
use net::connect::{ConnectError, Endpoint, Stage};
use net::credentials::Credentials;
use net::dial::{Connected, ControlDial, DialError, dial};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use wire::capability::Capabilities;
use wire::control::{Settings, UpdateClusterLeader, UpdateCtrlAddresses, request_cluster_members};
use wire::extension::{CertsResponse, ErrorAnswer, ExtensionRequest, ExtensionVerify};
use wire::hello::{
    AcceptedHello, CTRL_DEFAULT, ExuviaAbilities, GroupHello, Hello, RENEWAL_ADVICE, RefusalClass, RenewalAdvice,
};
use wire::{Frame, content_type};

use super::{LineSettings, Order, Peer, Report, replies, window_of};
use crate::commit::chain_text;
use crate::driver::Incoming;

/// The channel and what is known of who is at its other end.
struct Session {
    channel: Channel,
    events: Events,
    answer: AcceptedHello,
    peer: Peer,
    /// The leaf that was admitted last on it.
    admitted: GenerationNumber,
}

impl Session {
    fn is_open(&self) -> bool {
        self.channel.close_reason().is_none()
    }

    fn is_grouped(&self) -> bool {
        self.answer.takes_further_underlays()
    }
}

/// What was done on the side.
enum Done {
    Dialed {
        credentials: Arc<Credentials>,
        result: Result<(Connected, Endpoint), DialError>,
    },
    Attached {
        credentials: Arc<Credentials>,
        then: Option<ExtensionRequest>,
        result: Result<(Connected, Endpoint), DialError>,
    },
    Verified {
        number: GenerationNumber,
        answer: Option<(VerifyAnswer, String)>,
    },
    Sent,
}

/// The driver is gone.
struct DriverGone;

pub(super) struct Line {
    contact: ControllerId,
    endpoints: Vec<Endpoint>,
    settings: Arc<LineSettings>,
    reports: mpsc::Sender<Incoming>,
    session: Option<Session>,
    work: JoinSet<Done>,
    is_dialing: bool,
    /// Dial with these as soon as the channel that is being closed is gone.
    redial: Option<Arc<Credentials>>,
    shown: Arc<str>,
}

impl Line {
    pub(super) fn new(
        contact: ControllerId,
        endpoints: Vec<Endpoint>,
        settings: Arc<LineSettings>,
        reports: mpsc::Sender<Incoming>,
    ) -> Self {
        Self {
            contact,
            endpoints,
            settings,
            reports,
            session: None,
            work: JoinSet::new(),
            is_dialing: false,
            redial: None,
            shown: Arc::from("{}"),
        }
    }

    /// Until nobody gives orders any more; then the channel is closed.
    pub(super) async fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        while let Some(order) = self.next(&mut orders).await {
            if self.obey(order).await.is_err() {
                break;
            }
        }
        self.work.abort_all();
        if let Some(mut session) = self.session.take() {
            session.channel.close(CloseReason::Shutdown);
            while session.events.next().await.is_some() {}
        }
    }

    /// The next order; everything else that happens meanwhile is dealt with here.
    async fn next(&mut self, orders: &mut mpsc::Receiver<Order>) -> Option<Order> {
        loop {
            let done = tokio::select! {
                order = orders.recv() => return order,
                Some(done) = self.work.join_next() => match done {
                    Ok(done) => self.done(done).await,
                    // Nothing is aborted while the line runs, and a task that panicked has nothing to say.
                    Err(_) => Ok(()),
                },
                event = next_event(&mut self.session) => self.happened(event).await,
            };
            if done.is_err() {
                return None;
            }
        }
    }

    async fn report(&self, report: Report) -> Result<(), DriverGone> {
        let incoming = Incoming::Control { controller: self.contact.clone(), report };
        self.reports.send(incoming).await.map_err(|_| DriverGone)
    }

    async fn obey(&mut self, order: Order) -> Result<(), DriverGone> {
        match order {
            Order::Dial(credentials) => return self.dial(credentials).await,
            Order::Replace(credentials) => match self.session.as_ref().filter(|session| session.is_open()) {
                Some(session) => {
                    session.channel.close(CloseReason::ByOwner("opened anew with another leaf"));
                    self.redial = Some(credentials);
                }
                None => return self.dial(credentials).await,
            },
            Order::Prove(credentials) => return self.attach(credentials, None).await,
            Order::Request { present, request } => return self.request(present, request).await,
            Order::Verify { number, client_chain_pem } => self.verify(number, client_chain_pem),
            Order::Trim(to) => {
                if let Some(session) = &self.session {
                    trim(&session.channel, to);
                }
            }
            Order::AskMembers => self.send(request_cluster_members()),
            Order::Addresses(endpoints) => self.endpoints = endpoints,
            Order::Shown(shown) => self.shown = shown,
        }
        Ok(())
    }

    async fn dial(&mut self, credentials: Arc<Credentials>) -> Result<(), DriverGone> {
        if let Some(session) = self.session.as_ref().filter(|session| session.is_open()) {
            // The machine was built anew from the disk and does not know that the channel never went away. What the controller
            // advised when it opened is old by now.
            return self.report(admitted(session, session.peer.clone(), None)).await;
        }
        if self.is_dialing {
            return Ok(());
        }
        self.is_dialing = true;
        let endpoints = self.endpoints.clone();
        let order = ControlDial {
            hello: self.hello(CTRL_DEFAULT, GroupHello::first()),
            credentials: credentials.clone(),
            timeouts: self.settings.timeouts,
        };
        self.work.spawn(async move { Done::Dialed { credentials, result: dial_any(&endpoints, &order).await } });
        Ok(())
    }

    fn hello(&self, kind: &str, group: GroupHello) -> Hello {
        let mut hello = Hello::new(self.settings.router.as_str(), self.settings.version.clone());
        hello.group = Some(group);
        hello.underlay_type = Some(kind.to_owned());
        hello.capabilities = Capabilities::ROUTER;
        hello.exuvia = ExuviaAbilities::announced();
        hello
    }

    async fn attach(
        &mut self,
        credentials: Arc<Credentials>,
        then: Option<ExtensionRequest>,
    ) -> Result<(), DriverGone> {
        let group = self.session.as_ref().filter(|s| s.is_open()).and_then(|s| GroupHello::further(&s.answer));
        let Some(group) = group else {
            // Without its channel a further underlay says nothing about the leaf.
            let generation = credentials.generation();
            return self.report(Report::Proved { generation, outcome: ProofOutcome::Unreachable }).await;
        };
        let endpoints = self.endpoints.clone();
        let order = ControlDial {
            // Of the type that carries everything, so that it can take over when older ones are detached.
            hello: self.hello(CTRL_DEFAULT, group),
            credentials: credentials.clone(),
            timeouts: self.settings.timeouts,
        };
        self.work
            .spawn(async move { Done::Attached { credentials, then, result: dial_any(&endpoints, &order).await } });
        Ok(())
    }

    async fn request(
        &mut self,
        present: Option<Arc<Credentials>>,
        request: ExtensionRequest,
    ) -> Result<(), DriverGone> {
        let looks_at_underlay = self.session.as_ref().is_some_and(|s| !s.peer.is_exuvia && s.is_grouped());
        match present.filter(|_| looks_at_underlay) {
            Some(present) => self.attach(present, Some(request)).await,
            None => {
                self.send(request.to_frame());
                Ok(())
            }
        }
    }

    fn verify(&mut self, number: GenerationNumber, client_chain_pem: String) {
        let Some(session) = &self.session else { return };
        let (channel, within) = (session.channel.clone(), self.settings.answer_within);
        let frame = ExtensionVerify { client_chain_pem }.to_frame();
        self.work.spawn(async move {
            let reply = channel.request(frame, within).await;
            let answer = match reply.as_ref().map(ErrorAnswer::from_frame) {
                Ok(Ok(answer)) if answer.is_success() => Some((VerifyAnswer::Success, String::new())),
                Ok(Ok(answer)) => Some((VerifyAnswer::Error, format!("{} {}", answer.code, answer.message))),
                // Something else as a reply is an answer, but not a yes.
                Ok(Err(error)) => Some((VerifyAnswer::Error, error.to_string())),
                Err(_) => None,
            };
            Done::Verified { number, answer }
        });
    }

    /// Sends on the side: events must be read on while the queue is full.
    fn send(&mut self, frame: Frame) {
        let Some(session) = &self.session else { return };
        let channel = session.channel.clone();
        self.work.spawn(async move {
            if let Err(cause) = channel.send(frame).await {
                tracing::debug!(%cause, "a frame did not leave");
            }
            Done::Sent
        });
    }

    async fn done(&mut self, done: Done) -> Result<(), DriverGone> {
        match done {
            Done::Dialed { credentials, result } => self.dialed(&credentials, result).await,
            Done::Attached { credentials, then, result } => self.attached(&credentials, then, result).await,
            Done::Verified { number, answer: Some((answer, text)) } => {
                self.report(Report::VerifyAnswered { number, answer, text }).await
            }
            Done::Verified { answer: None, .. } | Done::Sent => Ok(()),
        }
    }

    async fn dialed(
        &mut self,
        credentials: &Credentials,
        result: Result<(Connected, Endpoint), DialError>,
    ) -> Result<(), DriverGone> {
        self.is_dialing = false;
        let generation = credentials.generation();
        let (connected, at) = match result {
            Ok(connected) => connected,
            Err(error) => {
                let outcome = if shook_hands(&error) { DialOutcome::Refused } else { DialOutcome::Unreachable };
                let reason = Some(with_remedy(&error));
                return self.report(Report::Dialed { generation, outcome, peer: None, reason }).await;
            }
        };
        let answer = connected.answer.clone();
        let peer = Peer {
            id: answer.id.clone(),
            version: answer.version.as_ref().map(ToString::to_string),
            is_exuvia: answer.exuvia.version.is_some(),
            at,
        };
        let (channel, events) = connected.open(self.channel_settings());
        let session = Session { channel, events, answer, peer: peer.clone(), admitted: generation };
        let advice = session.answer.exuvia;
        let window = window_of(RenewalAdvice { window: advice.window, renew_now: advice.renew_now });
        let report = admitted(&session, peer, window);
        self.session = Some(session);
        for frame in replies::first_words() {
            self.send(frame);
        }
        self.report(report).await
    }

    fn channel_settings(&self) -> ChannelSettings {
        let ns = |duration: std::time::Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let silence = ns(self.settings.unresponsive_after);
        ChannelSettings {
            // A router whose last underlay is gone dials a new channel: the controller closed the old one too.
            last_underlay: LastUnderlay::Closes,
            heartbeats: HeartbeatPolicy {
                send_interval_ns: ns(self.settings.heartbeat_interval),
                unresponsive_after_ns: silence / 6,
                close_after_ns: silence,
                initial_grace_ns: silence,
            },
            events_max: 64,
            outbound_frames_max: 64,
            requests_max: 64,
            ..ChannelSettings::dialing()
        }
    }

    async fn attached(
        &mut self,
        credentials: &Credentials,
        then: Option<ExtensionRequest>,
        result: Result<(Connected, Endpoint), DialError>,
    ) -> Result<(), DriverGone> {
        let generation = credentials.generation();
        let outcome = match result {
            Ok((connected, _)) => {
                // The Result was the proof; whether the underlay can still join is another matter.
                if let Some(session) = &mut self.session
                    && let Ok(joined) = connected.join(&session.channel)
                {
                    session.admitted = generation;
                    retire_between(&session.channel, joined);
                }
                ProofOutcome::Admitted
            }
            Err(error) => {
                tracing::debug!(controller = %self.contact, %generation, cause = %chain_text(&error), "a further underlay was not attached");
                if shook_hands(&error) { ProofOutcome::Refused } else { ProofOutcome::Unreachable }
            }
        };
        if let (ProofOutcome::Admitted, Some(request)) = (outcome, then) {
            self.send(request.to_frame());
        }
        self.report(Report::Proved { generation, outcome }).await
    }

    async fn happened(&mut self, event: Event) -> Result<(), DriverGone> {
        match event {
            Event::Message { frame, .. } => self.message(frame).await,
            Event::Attached(Underlay { kind, presented, .. }) => {
                let generation = presented.map(|presented| presented.generation);
                self.report(Report::Opened { kind, generation }).await
            }
            Event::Detached { underlay, reason } => {
                let is_by_us = match reason {
                    DetachReason::ByOwner => true,
                    DetachReason::ChannelClosed => self.redial.is_some(),
                    DetachReason::PeerClosed
                    | DetachReason::Io(_)
                    | DetachReason::WriteTimedOut
                    | DetachReason::Frame(_) => false,
                };
                self.report(Report::Left { kind: underlay.kind, is_by_us, reason: reason.to_string() }).await
            }
            Event::Closed(reason) => {
                self.session = None;
                match self.redial.take() {
                    Some(credentials) => self.dial(credentials).await,
                    None => self.report(Report::Closed(reason)).await,
                }
            }
        }
    }

    async fn message(&mut self, frame: Frame) -> Result<(), DriverGone> {
        let unreadable = |error: wire::MessageError| {
            tracing::warn!(controller = %self.contact, cause = %chain_text(&error), "an unreadable message was dropped");
        };
        let report = match frame.content_type {
            content_type::ENROLLMENT_CERTS => {
                CertsResponse::from_frame(&frame).map(Report::Certs).map_err(unreadable).ok()
            }
            // Nobody waits for it, so it is not about a 20303.
            content_type::ERROR => ErrorAnswer::from_frame(&frame)
                .map_err(unreadable)
                .ok()
                .filter(|answer| !answer.is_success())
                .map(Report::RequestRefused),
            content_type::UPDATE_CTRL_ADDRESSES => {
                UpdateCtrlAddresses::from_frame(&frame).map(Report::Addresses).map_err(unreadable).ok()
            }
            content_type::UPDATE_CLUSTER_LEADER => UpdateClusterLeader::from_frame(&frame)
                .map(|update| Report::Leads(update.index))
                .map_err(unreadable)
                .ok(),
            content_type::SETTINGS => {
                Settings::from_frame(&frame).map_err(unreadable).ok().and_then(|s| s.new_address).map(Report::Moved)
            }
            RENEWAL_ADVICE => RenewalAdvice::from_frame(&frame).and_then(window_of).map(Report::Advice),
            _ => {
                let shown = self.shown.clone();
                if let Some(reply) = replies::reply_to(&frame, &self.settings.about, || shown.to_string()) {
                    self.send(reply);
                }
                None
            }
        };
        match report {
            Some(report) => self.report(report).await,
            None => Ok(()),
        }
    }
}

/// Waits for ever while there is no channel.
async fn next_event(session: &mut Option<Session>) -> Event {
    if let Some(session) = session
        && let Some(event) = session.events.next().await
    {
        return event;
    }
    std::future::pending().await
}

fn admitted(session: &Session, peer: Peer, window: Option<Window>) -> Report {
    Report::Dialed {
        generation: session.admitted,
        outcome: DialOutcome::Admitted { grouped: session.is_grouped(), window },
        peer: Some(peer),
        reason: None,
    }
}

/// The oldest underlay carries what controllers send, the newest shows who asks; those between were for attempts that are over.
fn retire_between(channel: &Channel, newest: UnderlayId) {
    for underlay in channel.underlays().iter().skip(1).filter(|underlay| underlay.id != newest) {
        channel.detach(underlay.id);
    }
}

/// Detaches underlays that present an older generation, where one that presents this one stays.
fn trim(channel: &Channel, to: GenerationNumber) {
    let presented = |underlay: &Underlay| underlay.presented.map(|presented| presented.generation);
    let underlays = channel.underlays();
    if underlays.iter().any(|underlay| presented(underlay) == Some(to)) {
        for underlay in underlays.iter().filter(|underlay| presented(underlay) < Some(to)) {
            channel.detach(underlay.id);
        }
    }
}

/// The first endpoint that admits us, and its channel. Where none does, a refusal counts for more than silence: only who shook hands has seen
/// our leaf. A refusal does not end the round: the addresses are somebody's word, and a later one may be where we were admitted before.
async fn dial_any(endpoints: &[Endpoint], order: &ControlDial) -> Result<(Connected, Endpoint), DialError> {
    let mut worst: Option<DialError> = None;
    for endpoint in endpoints {
        match dial(endpoint, order).await {
            Ok(connected) => return Ok((connected, endpoint.clone())),
            Err(error) => {
                let is_refused_before = worst.as_ref().is_some_and(shook_hands);
                if !is_refused_before {
                    worst = Some(error);
                }
            }
        }
    }
    Err(worst.unwrap_or(DialError::Connect(ConnectError::ServerName { host: String::new() })))
}

/// What happened and, where this router's operator can do something about it, what.
fn with_remedy(error: &DialError) -> String {
    let text = chain_text(error);
    match error {
        // Some refusals say it themselves.
        DialError::Refused { class: RefusalClass::NotPermitted, text: said, .. } if !said.contains("re-enroll") => {
            format!(
                "{text}; to come back, have the router re-enrolled there and run `exuvia router enroll` with the new token"
            )
        }
        _ => text,
    }
}

/// Did the handshake come to its end, so that the listener has seen our leaf?
fn shook_hands(error: &DialError) -> bool {
    match error {
        DialError::Connect(ConnectError::TimedOut { stage, .. }) => *stage == Stage::Answer,
        DialError::Connect(_) | DialError::Setup(_) => false,
        DialError::Alert { .. }
        | DialError::ClosedWithoutAnswer { .. }
        | DialError::Refused { .. }
        | DialError::Frame { .. }
        | DialError::Answer { .. } => true,
    }
}
