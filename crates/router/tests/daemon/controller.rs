//! A small controller: real TLS, real leaves, the register of `lifecycle::issuance` in memory, and faults on demand.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use lifecycle::issuance::{
    Answer, Asked, EnrollmentKind, Input, IssuancePolicy, LeafSeq, NamesDigest, Record, Token, TokenId,
};
use lifecycle::{Fingerprint, GenerationNumber, Now, RouterId, UnixTime, Uptime};
use net::channel::{Channel, ChannelSettings, Event, Events};
use net::credentials::{CredentialParts, Credentials, CredentialsSlot};
use net::http::HttpService;
use net::listen::{Admission, Admitted, Applicant, Channels, ControlListener, ListenLimits, Opened, Refusal};
use net::stop::{Stop, StopSignal};
use pki::{
    Certificate, Chain, Csr, EnrollmentMethod, EnrollmentToken, Issuer, KeyKind, PrivateKey, Profile, Sans, Subject,
    TrustBundle, encode_cacerts, new_intermediate, new_root, validity,
};
use tokio::net::TcpListener;
use wire::capability::Capabilities;
use wire::content_type;
use wire::control::{ControllerEndpoints, CtrlEndpoint, UpdateCtrlAddresses};
use wire::extension::{CertsResponse, ErrorAnswer, ExtensionRequest, ExtensionVerify, error_code};
use wire::hello::{AcceptedHello, ExuviaAbilities};
use wire::version::VersionInfo;

pub(crate) const ROUTER: &str = "router-1";

/// How many of each are to be lost.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    /// 20301 is signed for, and not sent.
    pub(crate) lose_certs: AtomicU32,
    /// 20301 is sent twice.
    pub(crate) double_certs: AtomicU32,
    /// 20302 is refused with a 20002.
    pub(crate) refuse_request: AtomicU32,
    /// 20303 is not seen.
    pub(crate) lose_verify: AtomicU32,
    /// 20303 is obeyed, and not answered.
    pub(crate) lose_confirmation: AtomicU32,
    /// The answer to an enrollment is lost.
    pub(crate) lose_enrollment: AtomicU32,
    /// A new channel hears, as the last word on the matter, that all controllers are where nobody is.
    pub(crate) lie_about_addresses: AtomicU32,
}

fn strikes(fault: &AtomicU32) -> bool {
    fault.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}

/// Who decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rules {
    /// As an Exuvia controller does.
    Ours,
    /// As OpenZiti's does: one fingerprint, swapped by 20303, the asker found by the newest underlay.
    Stock,
    /// As OpenZiti's before 2.0: the same, but no further underlay can join, although the answer to a hello says that it is grouped.
    StockBefore2,
}

struct Register {
    record: Record,
    issued: BTreeMap<LeafSeq, (Chain, Chain)>,
    /// Stock: what is admitted, and what waits for 20303.
    stock: (Option<Fingerprint>, Option<Chain>),
}

pub(crate) struct State {
    issuer: Issuer,
    bundle: TrustBundle,
    policy: IssuancePolicy,
    rules: Rules,
    register: Mutex<Register>,
    pub(crate) faults: Faults,
    pub(crate) extension_requests: AtomicU32,
}

pub(crate) struct Controller {
    pub(crate) state: Arc<State>,
    pub(crate) address: SocketAddr,
    pub(crate) token: String,
    pub(crate) slot: Arc<CredentialsSlot>,
    stop: Stop,
    task: tokio::task::JoinHandle<()>,
    identity: (PrivateKey, Certificate),
}

const SECRET: &str = "5b8a0c1e-7d3f-4c62-9a51-0f5d1c2b3a4e";

fn sign_token(address: SocketAddr, secret: &str, expires: UnixTime, key: &PrivateKey, leaf: &Certificate) -> String {
    let token = EnrollmentToken {
        issuer: format!("https://localhost:{}", address.port()),
        router: RouterId::new(ROUTER),
        secret: secret.to_owned().into(),
        method: EnrollmentMethod::from_wire("erott").unwrap(),
        expires_at: UnixTime::from_s(expires.as_s()),
        controllers: vec![format!("tls:localhost:{}", address.port())],
    };
    token.sign(key, leaf).unwrap().to_string()
}

fn now() -> Now {
    let ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    Now { wall: UnixTime::from_ms(i64::try_from(ms).unwrap()), uptime: Uptime::from_ms(u64::try_from(ms).unwrap()) }
}

fn local_names() -> Sans {
    Sans { dns: vec!["localhost".to_owned()], ips: vec!["127.0.0.1".parse().unwrap()], ..Sans::default() }
}

fn token_id(secret: &str) -> TokenId {
    TokenId(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, secret.as_bytes()).as_ref().try_into().unwrap())
}

impl Controller {
    pub(crate) async fn start(rules: Rules, leaf_life: Duration) -> Self {
        let lasting =
            |s| validity(now().wall, Duration::from_secs(s), now().wall.plus(Duration::from_secs(200_000))).unwrap();
        let key = || PrivateKey::generate(KeyKind::P256).unwrap();
        let root = new_root("test root", key(), &lasting(90_000)).unwrap();
        let issuer = new_intermediate(&root, "test signer", key(), &lasting(80_000)).unwrap();
        let bundle = TrustBundle::new([root.certificate().clone(), issuer.certificate().clone()]).unwrap();
        let own_key = key();
        let subject = Subject::common_name("ctrl1").unwrap();
        let own =
            |profile| issuer.issue_for(own_key.public(), &subject, &local_names(), profile, &lasting(70_000)).unwrap();
        let (client, server) = (own(Profile::Client), own(Profile::Server));
        let credentials = Credentials::new(CredentialParts {
            generation: GenerationNumber(1),
            client: &client,
            client_key: &own_key,
            server: &server,
            server_key: &own_key,
            bundle: &bundle,
        })
        .unwrap();
        let slot = CredentialsSlot::new(Arc::new(credentials));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let expires = now().wall.plus(Duration::from_secs(600));
        let token_text = sign_token(address, SECRET, expires, &own_key, server.leaf());
        let open = Token { id: token_id(SECRET), kind: EnrollmentKind::Edge, expires, enrolled: None };
        let register =
            Register { record: Record::new(RouterId::new(ROUTER), open), issued: BTreeMap::new(), stock: (None, None) };
        let state = Arc::new(State {
            issuer,
            bundle,
            policy: IssuancePolicy {
                shortest_life: Duration::from_secs(1),
                ..IssuancePolicy::for_leaf_life(leaf_life)
            },
            rules,
            register: Mutex::new(register),
            faults: Faults::default(),
            extension_requests: AtomicU32::new(0),
        });
        let (stop, stopped) = Stop::new();
        let task = listen(state.clone(), slot.clone(), listener, stopped);
        let identity = (own_key, server.leaf().clone());
        Self { state, address, token: token_text, slot, stop, task, identity }
    }

    /// A new token; everything that the router had is void.
    pub(crate) fn re_enroll(&self) -> String {
        let secret = "0c6f2a52-2f5e-4b0e-8d1c-8a7c5f1e9b33";
        let expires = now().wall.plus(Duration::from_secs(600));
        let token = Token { id: token_id(secret), kind: EnrollmentKind::Edge, expires, enrolled: None };
        let mut register = self.state.register.lock().unwrap();
        self.state.step(&mut register, Input::ReEnroll { token });
        sign_token(self.address, secret, expires, &self.identity.0, &self.identity.1)
    }

    /// Everything dies; the register survives. Listening goes on at the same address.
    pub(crate) async fn restart(&mut self) {
        self.stop.stop();
        (&mut self.task).await.unwrap();
        let listener = TcpListener::bind(self.address).await.unwrap();
        let (stop, stopped) = Stop::new();
        self.stop = stop;
        self.task = listen(self.state.clone(), self.slot.clone(), listener, stopped);
    }
}

fn listen(
    state: Arc<State>,
    slot: Arc<CredentialsSlot>,
    listener: TcpListener,
    stopped: StopSignal,
) -> tokio::task::JoinHandle<()> {
    let web = state.clone();
    let http = HttpService::new(service_fn(move |request| {
        let state = web.clone();
        async move { Ok::<_, std::convert::Infallible>(state.answer(request).await) }
    }));
    let door = ControlListener {
        credentials: slot,
        admission: Arc::new(Door(state)),
        channels: Channels::new(),
        settings: ChannelSettings::accepting(),
        limits: ListenLimits::default(),
        http: Some(http),
    };
    tokio::spawn(async move { door.serve(listener, stopped).await.unwrap() })
}

impl State {
    async fn answer(&self, request: Request<hyper::body::Incoming>) -> Response<Full<Bytes>> {
        let say = |status, body: String| {
            let mut response = Response::new(Full::new(Bytes::from(body)));
            *response.status_mut() = status;
            response
        };
        match request.uri().path() {
            "/edge/client/v1/.well-known/est/cacerts" => say(StatusCode::OK, encode_cacerts(&self.bundle).unwrap()),
            "/edge/client/v1/enroll" => {
                let query = request.uri().query().unwrap_or_default().to_owned();
                let secret = query.split('&').find_map(|pair| pair.strip_prefix("token=")).unwrap().to_owned();
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
                let csr = |name: &str| Csr::from_pem(body[name].as_str().unwrap().as_bytes()).unwrap();
                match self.enroll(&secret, &csr("certCsr"), &csr("serverCertCsr")) {
                    Some((client, server)) if !strikes(&self.faults.lose_enrollment) => say(
                        StatusCode::OK,
                        serde_json::json!({
                            "data": {"cert": client.to_pem(), "serverCert": server.to_pem(), "ca": self.bundle.to_pem()},
                            "meta": {},
                        })
                        .to_string(),
                    ),
                    Some(_) => say(StatusCode::SERVICE_UNAVAILABLE, String::new()),
                    None => say(
                        StatusCode::BAD_REQUEST,
                        r#"{"error":{"code":"INVALID_ENROLLMENT_TOKEN","message":"no such token"}}"#.to_owned(),
                    ),
                }
            }
            _ => say(StatusCode::NOT_FOUND, String::new()),
        }
    }

    fn sign(&self, client: &Csr, server: &Csr) -> (Chain, Chain) {
        let life = validity(now().wall, self.policy.leaf_life, self.issuer.not_after()).unwrap();
        let sign = |csr, profile| self.issuer.issue(csr, ROUTER, profile, &life).unwrap();
        (sign(client, Profile::Client), sign(server, Profile::Server))
    }

    fn enroll(&self, secret: &str, client: &Csr, server: &Csr) -> Option<(Chain, Chain)> {
        let mut register = self.register.lock().unwrap();
        let asked = asked(client, server);
        let token = token_id(secret);
        let answer = self.step(&mut register, Input::Enroll { token, kind: EnrollmentKind::Edge, asked });
        let seq = match answer {
            Answer::Send(seq) => seq,
            Answer::Sign => {
                let signed = self.sign(client, server);
                let (client, server) = (signed.0.leaf().facts(), signed.1.leaf().facts());
                let Answer::Send(seq) = self.step(&mut register, Input::StoreEnrolled { token, asked, client, server })
                else {
                    return None;
                };
                register.stock.0 = Some(client.fingerprint);
                register.issued.insert(seq, signed);
                seq
            }
            _ => return None,
        };
        register.issued.get(&seq).cloned()
    }

    fn step(&self, register: &mut Register, input: Input) -> Answer {
        let (commit, held) = register.record.step(now(), &self.policy, input).split();
        if let Some(record) = commit.and_then(|commit| commit.record) {
            register.record = record;
        }
        held.release(lifecycle::Durable::after_commit())
    }

    fn admits(&self, leaf: &Certificate) -> bool {
        let mut register = self.register.lock().unwrap();
        let facts = leaf.facts();
        match self.rules {
            Rules::Ours => matches!(self.step(&mut register, Input::hello(facts)), Answer::Admit(_)),
            Rules::Stock | Rules::StockBefore2 => {
                register.stock.0 == Some(facts.fingerprint) && !facts.is_expired(now().wall)
            }
        }
    }

    fn extend(&self, request: &ExtensionRequest, shown: Option<Fingerprint>) -> Option<(Chain, Chain)> {
        let csr = |pem: &str| Csr::from_pem(pem.as_bytes()).unwrap();
        let (client, server) = (csr(&request.client_csr_pem), csr(&request.server_csr_pem));
        client.check_router(&RouterId::new(ROUTER)).unwrap();
        let mut register = self.register.lock().unwrap();
        if self.rules != Rules::Ours {
            if shown != register.stock.0 {
                return None;
            }
            let signed = self.sign(&client, &server);
            register.stock.1 = Some(signed.0.clone());
            return Some(signed);
        }
        let asked = asked(&client, &server);
        let epoch = register.record.epoch;
        let issuer_not_after = self.issuer.not_after();
        let seq = match self.step(&mut register, Input::Request { epoch, asked, issuer_not_after }) {
            Answer::Send(seq) => seq,
            Answer::Sign => {
                let signed = self.sign(&client, &server);
                let (client, server) = (signed.0.leaf().facts(), signed.1.leaf().facts());
                let Answer::Send(seq) = self.step(&mut register, Input::Store { epoch, asked, client, server }) else {
                    return None;
                };
                register.issued.insert(seq, signed);
                seq
            }
            _ => return None,
        };
        register.issued.get(&seq).cloned()
    }

    fn confirm(&self, verify: &ExtensionVerify) -> ErrorAnswer {
        let chain = Chain::from_pem(verify.client_chain_pem.as_bytes()).unwrap();
        let fingerprint = chain.leaf().fingerprint();
        let mut register = self.register.lock().unwrap();
        let is_confirmed = match self.rules {
            Rules::Ours => {
                let epoch = register.record.epoch;
                matches!(self.step(&mut register, Input::Confirm { epoch, fingerprint }), Answer::Confirmed(_))
            }
            Rules::Stock | Rules::StockBefore2 => {
                let is_pending = register.stock.1.take().is_some_and(|pending| pending.leaf() == chain.leaf());
                if is_pending {
                    register.stock.0 = Some(fingerprint);
                }
                is_pending
            }
        };
        if is_confirmed {
            ErrorAnswer::success()
        } else {
            ErrorAnswer::failure(error_code::INVALID_ROUTER_STATE, "nothing is pending")
        }
    }
}

fn asked(client: &Csr, server: &Csr) -> Asked {
    Asked { client_key: client.key_id(), server_key: server.key_id(), names: NamesDigest([0; 32]) }
}

struct Door(Arc<State>);

impl Admission for Door {
    type Standing = ();

    async fn admit(&self, applicant: Applicant) -> Result<Admitted<()>, Refusal> {
        let leaf = Certificate::from_der(applicant.peer.leaf()).map_err(|error| Refusal::silent(error.to_string()))?;
        if leaf.cn() != Some(applicant.hello.id.as_str()) || !self.0.admits(&leaf) {
            return Err(Refusal::silent("this leaf is not admitted"));
        }
        let exuvia = match self.0.rules {
            Rules::Ours => ExuviaAbilities::announced(),
            Rules::Stock | Rules::StockBefore2 => ExuviaAbilities::default(),
        };
        let capabilities = match self.0.rules {
            Rules::Ours | Rules::Stock => Capabilities::CONTROLLER,
            Rules::StockBefore2 => Capabilities::NONE.with(1).with(2).with(3).with(4),
        };
        if self.0.rules == Rules::StockBefore2 && applicant.hello.group.is_some_and(|group| !group.is_first) {
            return Err(Refusal::silent("it is connected already"));
        }
        let answer = AcceptedHello {
            id: Some("ctrl1".to_owned()),
            version: Some(VersionInfo { version: "v2.1.0".to_owned(), ..VersionInfo::default() }),
            capabilities,
            exuvia,
            ..AcceptedHello::default()
        };
        Ok(Admitted { router: RouterId::new(ROUTER), answer, standing: () })
    }

    fn opened(&self, opened: Opened<()>) {
        tokio::spawn(serve(self.0.clone(), opened.channel, opened.events));
    }
}

/// Nobody listens there.
pub(crate) const NOWHERE: &str = "tls:127.0.0.1:1";

async fn serve(state: Arc<State>, channel: Channel, mut events: Events) {
    if strikes(&state.faults.lie_about_addresses) {
        let endpoints = vec![CtrlEndpoint { address: NOWHERE.to_owned(), groups: vec![] }];
        let controllers = ["ctrl1", "elsewhere"]
            .map(|id| ControllerEndpoints { id: id.to_owned(), endpoints: endpoints.clone() })
            .to_vec();
        let lie = UpdateCtrlAddresses { addresses: vec![], index: u64::MAX, is_leader: true, controllers };
        let _ = channel.send(lie.to_frame()).await;
    }
    while let Some(event) = events.next().await {
        let Event::Message { frame, .. } = event else { continue };
        match frame.content_type {
            content_type::EXTENSION_REQUEST => {
                state.extension_requests.fetch_add(1, Ordering::SeqCst);
                if strikes(&state.faults.refuse_request) {
                    let refusal = ErrorAnswer::failure("ISSUER_ENDS_SOON", "the signing certificate ends soon");
                    let _ = channel.send(refusal.to_reply(&frame)).await;
                    continue;
                }
                let request = ExtensionRequest::from_frame(&frame).unwrap();
                let newest = channel.underlays().pop().and_then(|underlay| underlay.peer);
                let shown =
                    newest.and_then(|peer| Certificate::from_der(peer.leaf()).ok()).map(|leaf| leaf.fingerprint());
                let Some((client, server)) = state.extend(&request, shown) else { continue };
                if strikes(&state.faults.lose_certs) {
                    continue;
                }
                let certs = CertsResponse {
                    client_chain_pem: client.to_pem(),
                    server_chain_pem: server.to_pem(),
                    ca_pem: String::new(),
                };
                let _ = channel.send(certs.to_frame()).await;
                if strikes(&state.faults.double_certs) {
                    let _ = channel.send(certs.to_frame()).await;
                }
            }
            content_type::EXTENSION_VERIFY => {
                if strikes(&state.faults.lose_verify) {
                    continue;
                }
                let answer = state.confirm(&ExtensionVerify::from_frame(&frame).unwrap());
                if !strikes(&state.faults.lose_confirmation) {
                    let _ = channel.reply(&frame, answer.to_reply(&frame)).await;
                }
            }
            _ => {}
        }
    }
}
