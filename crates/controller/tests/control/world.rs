//! One controller, its clock, and routers that do what a test tells them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use api::native::EventKind;
use bytes::Bytes;
use controller::clock::Clock;
use controller::config::ControllerConfig;
use controller::daemon::Daemon;
use controller::enroll::token_id;
use controller::fleet::Event as Told;
use controller::init::{InitOptions, init};
use http::{Method, Request, StatusCode};
use lifecycle::issuance::{EnrollmentKind, Input, IssuancePolicy, Record, Token};
use lifecycle::{GenerationNumber, Now, RouterId, UnixTime};
use net::channel::{Channel, ChannelSettings, CloseReason, Event, Events, LastUnderlay};
use net::connect::ConnectTimeouts;
use net::credentials::{CredentialParts, Credentials};
use net::dial::{Connected, ControlDial, DialError, dial};
use net::http::{HttpAnswer, HttpClient};
use net::tls::ServerTrust;
use pki::{Chain, KeyKind, PrivateKey, Sans, Subject, TrustBundle, build_csr};
use serde_json::{Value, json};
use store::register::{
    Admin, Answered, By, FirstIdentity, MemoryRegister, NewRouter, Register, RouterPatch, SqliteRegister, Submission,
    TokenText,
};
use tokio::sync::broadcast;
use tokio::time::timeout;
use wire::extension::{CertsResponse, ErrorAnswer, ExtensionRequest, ExtensionVerify};
use wire::hello::{AcceptedHello, CTRL_DEFAULT, ExuviaAbilities, GroupHello, Hello};
use wire::version::VersionInfo;
use wire::{Frame, content_type};
use zeroize::Zeroizing;

/// Far longer than anything on a loopback takes; only a hang gets there.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
pub(crate) const PASSWORD: &str = "correct horse";

/// One set of CA and controller files for all tests of this process: hashing its password is slow.
struct Template {
    _home: tempfile::TempDir,
    config: ControllerConfig,
    admin: Admin,
}

fn template() -> &'static Template {
    static TEMPLATE: OnceLock<Template> = OnceLock::new();
    TEMPLATE.get_or_init(|| {
        let make = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let home = tempfile::tempdir().unwrap();
                let config = made(home.path().join("controller")).await;
                let register = SqliteRegister::open(&config.db, Clock::system().now().wall).unwrap();
                let admin = register.admin("admin".to_owned()).await.unwrap().unwrap();
                Template { _home: home, config, admin }
            })
        };
        // Tests call this from within a runtime.
        std::thread::spawn(make).join().unwrap()
    })
}

/// A folder made by `init`, listening on free ports.
pub(crate) async fn made(dir: PathBuf) -> ControllerConfig {
    let password = Some(Zeroizing::new(PASSWORD.to_owned()));
    let options = InitOptions { password, ..InitOptions::new(dir, "127.0.0.1") };
    let report = init(&options, Clock::system().now()).await.unwrap();
    let text = std::fs::read_to_string(&report.config).unwrap();
    let (mut config, _) = ControllerConfig::load(&text, &report.config.to_string_lossy(), &|_| None).unwrap();
    listen_anywhere(&mut config);
    config
}

pub(crate) fn listen_anywhere(config: &mut ControllerConfig) {
    config.control.listen.host = "127.0.0.1".to_owned();
    config.control.listen.port = 0;
    let interface = &mut config.web[0].bind_points[0].interface;
    interface.host = "127.0.0.1".to_owned();
    interface.port = 0;
}

/// The machine's clock, moved.
#[derive(Clone, Default)]
pub(crate) struct Offset(Arc<AtomicI64>);

impl Offset {
    pub(crate) fn clock(&self) -> Clock {
        let (system, ahead_ms) = (Clock::system(), self.0.clone());
        Clock::from_fn(move || {
            let now = system.now();
            let wall = UnixTime::from_ms(now.wall.as_ms() + ahead_ms.load(Ordering::SeqCst));
            let uptime = now.uptime.plus(Duration::from_millis(ahead_ms.load(Ordering::SeqCst).unsigned_abs()));
            Now { wall, uptime }
        })
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.0.fetch_add(i64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }
}

pub(crate) struct World {
    pub(crate) daemon: Daemon,
    pub(crate) config: ControllerConfig,
    pub(crate) register: Arc<dyn Register>,
    pub(crate) memory: MemoryRegister,
    pub(crate) offset: Offset,
    pub(crate) told: broadcast::Receiver<Arc<Told>>,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut ControllerConfig)) -> Self {
        let memory = MemoryRegister::new("instance");
        let now = Clock::system().now();
        memory.put_admin(template().admin.clone(), By::controller(now)).await.unwrap();
        let mut config = template().config.clone();
        change(&mut config);
        Self::start(config, memory, Offset::default()).await
    }

    async fn start(config: ControllerConfig, memory: MemoryRegister, offset: Offset) -> Self {
        let register: Arc<dyn Register> = Arc::new(memory.clone());
        let daemon = Daemon::start(&config, register.clone(), offset.clock()).await.unwrap();
        let told = daemon.events().subscribe();
        Self { daemon, config, register, memory, offset, told }
    }

    /// Ends the daemon without a word and starts another on what is durable.
    pub(crate) async fn crash(self) -> Self {
        let Self { daemon, config, memory, offset, .. } = self;
        memory.crash();
        drop(daemon);
        Self::start(config, memory, offset).await
    }

    pub(crate) fn now(&self) -> Now {
        self.offset.clock().now()
    }

    pub(crate) fn policy(&self) -> IssuancePolicy {
        controller::daemon::issuance_policy(&self.config.issuing, self.config.token_life)
    }

    pub(crate) fn bundle(&self) -> TrustBundle {
        TrustBundle::from_pem(&std::fs::read(&self.config.identity.ca).unwrap()).unwrap()
    }

    pub(crate) async fn record(&self, id: &str) -> Record {
        self.register.record(RouterId::new(id)).await.unwrap().unwrap()
    }

    /// What an administrator's order does to the register, without what the REST interface does after it.
    pub(crate) async fn order(&self, id: &str, input: Input) -> Answered {
        self.register.submit(Submission::new(RouterId::new(id), self.now(), self.policy(), input)).await.unwrap()
    }

    /// Creates a router; gives its token.
    pub(crate) async fn create(&self, id: &str, kind: EnrollmentKind) -> String {
        create(&*self.register, self.now(), id, kind).await
    }

    /// A router that has enrolled through the REST interface.
    pub(crate) async fn enrolled(&self, id: &str, kind: EnrollmentKind) -> TestRouter {
        let token = self.create(id, kind).await;
        enroll(&self.daemon, self.bundle(), id, kind, &token).await
    }

    /// Waits for something to be told of a router.
    pub(crate) async fn next_told(&mut self, kind: EventKind, id: &str) -> Arc<Told> {
        let waiting = async {
            loop {
                let event = self.told.recv().await.unwrap();
                if event.kind == kind && event.router.as_ref().is_some_and(|router| router.as_str() == id) {
                    return event;
                }
            }
        };
        timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("nobody tells of {kind:?} of {id}"))
    }

    pub(crate) async fn request(&self, method: Method, path: &str, session: Option<&str>, body: Value) -> HttpAnswer {
        request(&self.daemon, self.bundle(), method, path, session, body).await
    }

    pub(crate) async fn login(&self) -> String {
        let body = json!({ "username": "admin", "password": PASSWORD });
        let path = "/edge/management/v1/authenticate?method=password";
        let answer = self.request(Method::POST, path, None, body).await;
        assert_eq!(answer.status, StatusCode::OK);
        parsed(&answer)["data"]["token"].as_str().unwrap().to_owned()
    }
}

pub(crate) fn parsed(answer: &HttpAnswer) -> Value {
    serde_json::from_slice(&answer.body).unwrap()
}

pub(crate) async fn create(register: &dyn Register, now: Now, id: &str, kind: EnrollmentKind) -> String {
    let jti = controller::dice::uuid().unwrap();
    let token = Token { id: token_id(&jti), kind, expires: now.wall.plus(PATIENCE), enrolled: None };
    let text = TokenText { jti: jti.clone(), jwt: Zeroizing::new("not needed".to_owned()) };
    let settings = RouterPatch::default();
    let new = NewRouter {
        id: RouterId::new(id),
        name: format!("the {id}"),
        first: FirstIdentity::Enrolled { token, text },
        settings,
    };
    register.create_router(new, By::controller(now)).await.unwrap();
    jti.to_string()
}

pub(crate) async fn request(
    daemon: &Daemon,
    bundle: TrustBundle,
    method: Method,
    path: &str,
    session: Option<&str>,
    body: Value,
) -> HttpAnswer {
    let client = HttpClient::new(ServerTrust::bundle(&bundle).unwrap());
    let mut request = Request::builder()
        .method(method)
        .uri(format!("https://{}{path}", daemon.api_addresses()[0]))
        .header("content-type", "application/json");
    if let Some(session) = session {
        request = request.header("zt-session", session);
    }
    client.send(request.body(Bytes::from(body.to_string())).unwrap()).await.unwrap()
}

pub(crate) fn csr(id: &str, key: &PrivateKey) -> String {
    build_csr(key, &Subject::common_name(id).unwrap(), &Sans::default()).unwrap()
}

pub(crate) async fn enroll(
    daemon: &Daemon,
    bundle: TrustBundle,
    id: &str,
    kind: EnrollmentKind,
    token: &str,
) -> TestRouter {
    let key = new_key();
    let method = if kind == EnrollmentKind::Edge { "erott" } else { "trott" };
    let path = format!("/edge/client/v1/enroll?method={method}&token={token}");
    let body = json!({ "certCsr": csr(id, &key), "serverCertCsr": csr(id, &key) });
    let answer = request(daemon, bundle.clone(), Method::POST, &path, None, body).await;
    assert_eq!(answer.status, StatusCode::OK, "{:?}", answer.body);
    let data = parsed(&answer)["data"].clone();
    let pem = |name: &str| Chain::from_pem(data[name].as_str().unwrap().as_bytes()).unwrap();
    TestRouter { id: id.to_owned(), key, client: pem("cert"), server: pem("serverCert"), bundle }
}

pub(crate) fn new_key() -> PrivateKey {
    PrivateKey::generate(KeyKind::P256).unwrap()
}

/// One generation of a router.
pub(crate) struct TestRouter {
    pub(crate) id: String,
    pub(crate) key: PrivateKey,
    pub(crate) client: Chain,
    pub(crate) server: Chain,
    pub(crate) bundle: TrustBundle,
}

impl TestRouter {
    pub(crate) fn credentials(&self) -> Arc<Credentials> {
        let parts = CredentialParts {
            generation: GenerationNumber(1),
            client: &self.client,
            client_key: &self.key,
            server: &self.server,
            server_key: &self.key,
            bundle: &self.bundle,
        };
        Arc::new(Credentials::new(parts).unwrap())
    }

    /// What one of our routers says first.
    pub(crate) fn hello(&self) -> Hello {
        Hello { exuvia: ExuviaAbilities::announced(), ..self.stock_hello() }
    }

    /// What a stock router of 2.x says first.
    pub(crate) fn stock_hello(&self) -> Hello {
        let version: VersionInfo = "v2.0.3|abc|2026-01-01|linux|amd64".parse().unwrap();
        let mut hello = Hello::new(self.id.clone(), version);
        hello.group = Some(GroupHello::first());
        hello.underlay_type = Some(CTRL_DEFAULT.to_owned());
        hello.capabilities = wire::capability::Capabilities::from_bits(0x4000_0000_0000_0076);
        hello
    }

    pub(crate) async fn dial_with(&self, daemon: &Daemon, hello: Hello) -> Result<Connected, DialError> {
        let order = ControlDial { credentials: self.credentials(), hello, timeouts: ConnectTimeouts::default() };
        dial(&daemon.control_address().into(), &order).await
    }

    /// The same as a future of its own.
    pub(crate) fn dialing(&self, to: SocketAddr) -> impl Future<Output = Result<Connected, DialError>> + use<> {
        let (credentials, hello) = (self.credentials(), self.hello());
        async move { dial(&to.into(), &ControlDial { credentials, hello, timeouts: ConnectTimeouts::default() }).await }
    }

    pub(crate) async fn dial(&self, daemon: &Daemon) -> Result<Connected, DialError> {
        self.dial_with(daemon, self.hello()).await
    }

    pub(crate) async fn connect(&self, daemon: &Daemon) -> Line {
        Line::of(self.dial(daemon).await.unwrap())
    }

    pub(crate) async fn connect_as_stock(&self, daemon: &Daemon) -> Line {
        Line::of(self.dial_with(daemon, self.stock_hello()).await.unwrap())
    }

    /// The frame that asks for leaves for `key`.
    pub(crate) fn asking(&self, key: &PrivateKey) -> Frame {
        let csr_pem = csr(&self.id, key);
        let request =
            ExtensionRequest { client_csr_pem: csr_pem.clone(), server_csr_pem: csr_pem, require_verification: true };
        request.to_frame()
    }

    /// The generation that an answer makes.
    pub(crate) fn renewed(&self, key: PrivateKey, certs: &CertsResponse) -> Self {
        Self {
            id: self.id.clone(),
            key,
            client: Chain::from_pem(certs.client_chain_pem.as_bytes()).unwrap(),
            server: Chain::from_pem(certs.server_chain_pem.as_bytes()).unwrap(),
            bundle: self.bundle.clone(),
        }
    }
}

/// A channel, as a router sees it.
pub(crate) struct Line {
    pub(crate) answer: AcceptedHello,
    pub(crate) channel: Channel,
    pub(crate) events: Events,
}

impl Line {
    pub(crate) fn of(connected: Connected) -> Self {
        let answer = connected.answer.clone();
        let settings = ChannelSettings { last_underlay: LastUnderlay::Closes, ..ChannelSettings::dialing() };
        let (channel, events) = connected.open(settings);
        Self { answer, channel, events }
    }

    /// The next frame of this type.
    pub(crate) async fn frame(&mut self, content_type: i32) -> Frame {
        let waiting = async {
            loop {
                match self.events.next().await.expect("the channel is over") {
                    Event::Message { frame, .. } if frame.content_type == content_type => return frame,
                    Event::Closed(reason) => panic!("closed while waiting for {content_type}: {reason}"),
                    _ => {}
                }
            }
        };
        timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("no frame of type {content_type}"))
    }

    pub(crate) async fn closed(&mut self) -> CloseReason {
        timeout(PATIENCE, self.channel.closed()).await.expect("the channel stays open")
    }

    /// 20302, and what comes back.
    pub(crate) async fn extend(&mut self, router: &TestRouter, key: &PrivateKey) -> CertsResponse {
        self.channel.send(router.asking(key)).await.unwrap();
        CertsResponse::from_frame(&self.frame(content_type::ENROLLMENT_CERTS).await).unwrap()
    }

    /// 20303, and what comes back.
    pub(crate) async fn verify(&self, client_chain_pem: &str) -> ErrorAnswer {
        let frame = ExtensionVerify { client_chain_pem: client_chain_pem.to_owned() }.to_frame();
        ErrorAnswer::from_frame(&self.channel.request(frame, PATIENCE).await.unwrap()).unwrap()
    }

    /// A whole renewal up to the confirmation; gives the next generation.
    pub(crate) async fn renew(&mut self, router: &TestRouter) -> TestRouter {
        let key = new_key();
        let certs = self.extend(router, &key).await;
        assert!(self.verify(&certs.client_chain_pem).await.is_success());
        router.renewed(key, &certs)
    }
}

impl TestRouter {
    /// One attempt: the next generation, or `None` if the controller refused it.
    pub(crate) async fn renewed_or_refused(&self, line: &mut Line) -> Option<Self> {
        let key = new_key();
        line.channel.send(self.asking(&key)).await.unwrap();
        loop {
            match line.events.next().await.expect("the channel is over") {
                Event::Message { frame, .. } if frame.content_type == content_type::ERROR => return None,
                Event::Message { frame, .. } if frame.content_type == content_type::ENROLLMENT_CERTS => {
                    return Some(self.renewed(key, &CertsResponse::from_frame(&frame).unwrap()));
                }
                Event::Closed(reason) => panic!("closed: {reason}"),
                _ => {}
            }
        }
    }
}
