//! Routers without disk and daemon, for benches: they enroll over HTTPS, open control channels over TLS, and renew on them as
//! `exuvia router` does, proof connection included.

use std::sync::Arc;
use std::time::Duration;

use http::Request;
use lifecycle::{GenerationNumber, RouterId};
use net::channel::{
    Channel, ChannelSettings, CloseReason, Event, Events, HeartbeatPolicy, LastUnderlay, RequestError, UnderlayId,
};
use net::connect::{ConnectTimeouts, Endpoint};
use net::credentials::{CredentialParts, Credentials};
use net::dial::{ControlDial, dial};
use net::http::{HttpClient, HttpConnection};
use net::tls::ServerTrust;
use pki::{Expected, KeyKind, PrivateKey, Sans, Subject, TrustBundle, build_csr, check_issued};
use tokio::time::timeout;
use wire::capability::Capabilities;
use wire::content_type;
use wire::extension::{CertsResponse, ErrorAnswer, ExtensionRequest, ExtensionVerify};
use wire::hello::{CTRL_DEFAULT, ExuviaAbilities, GroupHello, Hello};
use wire::version::VersionInfo;

/// Long enough for a crowd on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// An answer that has not come by now is asked for again.
const AGAIN: Duration = Duration::from_secs(5);
const TIMEOUTS: ConnectTimeouts = ConnectTimeouts { connect: PATIENCE, handshake: PATIENCE, answer: PATIENCE };

/// A controller, seen from outside.
pub(crate) struct Site {
    pub(crate) control: Endpoint,
    /// `https://` and the address.
    pub(crate) api: String,
    pub(crate) bundle: TrustBundle,
}

/// A key that was drawn, and the requests made with it, before the clock runs.
pub(crate) struct Asked {
    key: PrivateKey,
    request: ExtensionRequest,
}

impl Asked {
    pub(crate) fn new(id: &RouterId) -> Self {
        let key = PrivateKey::generate(KeyKind::P256).unwrap();
        let subject = Subject::common_name(id.as_str()).unwrap();
        let names =
            Sans { dns: vec!["localhost".to_owned()], ips: vec!["127.0.0.1".parse().unwrap()], ..Sans::default() };
        let csr = |sans: &Sans| build_csr(&key, &subject, sans).unwrap();
        let (client_csr_pem, server_csr_pem) = (csr(&Sans::default()), csr(&names));
        Self { request: ExtensionRequest { client_csr_pem, server_csr_pem, require_verification: true }, key }
    }
}

/// An enrolled router.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) id: RouterId,
    credentials: Arc<Credentials>,
}

impl Site {
    /// A connection to the API.
    pub(crate) async fn http(&self) -> HttpConnection {
        let trust = ServerTrust::bundle(&self.bundle).unwrap();
        let timeouts = ConnectTimeouts { answer: PATIENCE, ..TIMEOUTS };
        HttpClient::new(trust).with_timeouts(timeouts).connect(&self.api.parse().unwrap()).await.unwrap()
    }

    /// Spends a token.
    pub(crate) async fn enroll(&self, http: &mut HttpConnection, id: RouterId, token: &str) -> Identity {
        let asked = Asked::new(&id);
        let body = serde_json::json!({
            "certCsr": asked.request.client_csr_pem,
            "serverCertCsr": asked.request.server_csr_pem,
        });
        let request = Request::post(format!("{}/edge/client/v1/enroll?method=erott&token={token}", self.api))
            .header("content-type", "application/json")
            .body(body.to_string().into())
            .unwrap();
        let answer = http.send(request).await.unwrap();
        assert!(answer.status.is_success(), "{}", String::from_utf8_lossy(&answer.body));
        let answer: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        let pem = |name: &str| answer["data"][name].as_str().unwrap().to_owned();
        let credentials = self.credentials(&id, &asked.key, &pem("cert"), &pem("serverCert"), 1);
        Identity { id, credentials }
    }

    /// Judges what a controller answered, as a router does.
    fn credentials(
        &self,
        id: &RouterId,
        key: &PrivateKey,
        client_pem: &str,
        server_pem: &str,
        generation: u64,
    ) -> Arc<Credentials> {
        let (client_key, server_key) = (key.key_id(), key.key_id());
        let expected = Expected { router: id, client_key, server_key, bundle: &self.bundle, hosts: &[] };
        let issued = check_issued(client_pem.as_bytes(), server_pem.as_bytes(), &expected).unwrap();
        let parts = CredentialParts {
            generation: GenerationNumber(generation),
            client: &issued.client,
            client_key: key,
            server: &issued.server,
            server_key: key,
            bundle: &self.bundle,
        };
        Arc::new(Credentials::new(parts).unwrap())
    }

    async fn dial(&self, identity: &Identity, group: GroupHello) -> net::dial::Connected {
        let mut hello = Hello::new(identity.id.as_str(), version());
        hello.group = Some(group);
        hello.underlay_type = Some(CTRL_DEFAULT.to_owned());
        hello.capabilities = Capabilities::ROUTER;
        hello.exuvia = ExuviaAbilities::announced();
        let order = ControlDial { credentials: identity.credentials.clone(), hello, timeouts: TIMEOUTS };
        dial(&self.control, &order).await.unwrap()
    }

    /// Opens a control channel.
    pub(crate) async fn open(&self, identity: Identity) -> Session {
        let connected = self.dial(&identity, GroupHello::first()).await;
        let group = GroupHello::further(&connected.answer).unwrap();
        let newest = connected.underlay.id;
        let (channel, events) = connected.open(settings());
        Session { identity, channel, events, group, newest, older: None, generation: 1, repeated: 0 }
    }
}

fn version() -> VersionInfo {
    let text = |text: &str| text.to_owned();
    VersionInfo {
        version: text("v2.0.0"),
        revision: text("bench"),
        build_date: text("unknown"),
        os: text("linux"),
        arch: text("amd64"),
    }
}

/// As a router has it, but patient: one process plays a thousand of them.
fn settings() -> ChannelSettings {
    let ns = |s: u64| s * 1_000_000_000;
    let heartbeats = HeartbeatPolicy {
        send_interval_ns: ns(10),
        unresponsive_after_ns: ns(120),
        close_after_ns: ns(240),
        initial_grace_ns: ns(240),
    };
    ChannelSettings {
        // A lost channel stops the bench.
        last_underlay: LastUnderlay::Closes,
        heartbeats,
        events_max: 64,
        outbound_frames_max: 64,
        requests_max: 64,
        ..ChannelSettings::dialing()
    }
}

/// A router with its control channel.
pub(crate) struct Session {
    pub(crate) identity: Identity,
    channel: Channel,
    events: Events,
    group: GroupHello,
    newest: UnderlayId,
    older: Option<UnderlayId>,
    generation: u64,
    /// Requests that were sent once more, as their answers did not come.
    pub(crate) repeated: u64,
}

impl Session {
    /// 20302, 20301, 20303, 20002, and a connection that presents the new leaf and is answered with success.
    pub(crate) async fn renew(&mut self, site: &Site, asked: Asked) {
        // A frame that was given to an underlay as it went is lost. Routers ask again, with the same key, and so is it here.
        let answer = loop {
            self.channel.send(asked.request.to_frame()).await.unwrap();
            match timeout(AGAIN, self.answered()).await {
                Ok(answer) => break answer,
                Err(_) => self.repeated += 1,
            }
        };
        let verify = ExtensionVerify { client_chain_pem: answer.client_chain_pem.clone() };
        self.generation += 1;
        let Identity { id, .. } = &self.identity;
        let (client, server) = (&answer.client_chain_pem, &answer.server_chain_pem);
        // Where a router would make it durable.
        self.identity.credentials = site.credentials(id, &asked.key, client, server, self.generation);
        let reply = loop {
            match self.channel.request(verify.to_frame(), AGAIN).await {
                Ok(reply) => break reply,
                Err(RequestError::TimedOut { .. }) => self.repeated += 1,
                Err(error) => panic!("{error}"),
            }
        };
        let reply = ErrorAnswer::from_frame(&reply).unwrap();
        assert!(reply.is_success(), "{reply:?}");
        // While nothing is under way: an underlay that goes may take along a frame that was given to it. The newest stays until
        // the next one has long been attached on both sides; a channel without an underlay ends.
        if let Some(oldest) = self.older.take() {
            self.channel.detach(oldest);
        }
        let connected = site.dial(&self.identity, self.group.clone()).await;
        let joined = connected.join(&self.channel).unwrap();
        self.older = Some(std::mem::replace(&mut self.newest, joined));
    }

    async fn answered(&mut self) -> CertsResponse {
        loop {
            match self.events.next().await.unwrap() {
                Event::Message { frame, .. } if frame.content_type == content_type::ENROLLMENT_CERTS => {
                    return CertsResponse::from_frame(&frame).unwrap();
                }
                Event::Message { frame, .. } if frame.content_type == content_type::ERROR => {
                    panic!("refused: {:?}", ErrorAnswer::from_frame(&frame));
                }
                Event::Closed(reason) => panic!("the channel of {} is closed: {reason}", self.identity.id),
                _ => {}
            }
        }
    }

    /// Lets go of the channel.
    pub(crate) async fn close(mut self) {
        self.channel.close(CloseReason::Shutdown);
        while self.events.next().await.is_some() {}
    }

    /// Reads on until the channel ends, as an idle router does.
    #[allow(dead_code, reason = "another bench needs it")]
    pub(crate) async fn idle(mut self) {
        while self.events.next().await.is_some() {}
    }
}
