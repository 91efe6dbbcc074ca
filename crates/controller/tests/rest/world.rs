//! A controller without sockets: its REST service, its register in a temporary folder, its own PKI, a clock that is set.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use argon2::password_hash::{PasswordHasher, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use axum::body::Body;
use controller::clock::Clock;
use controller::config::SanPolicy;
use controller::enroll::{Enroller, TokenMint};
use controller::fleet::{Closing, Connected, Events, Fleet};
use controller::metrics::Metrics;
use controller::signer::Signer;
use controller::web::{FailureLimits, Readiness, WebParts, app};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use lifecycle::issuance::{Campaign, Input, IssuancePolicy, Window};
use lifecycle::{GenerationNumber, Now, RouterId, UnixTime, Uptime};
use net::credentials::{CredentialParts, Credentials};
use net::peer::PeerCertificates;
use net::stop::Stop;
use pki::{Certificate, Chain, Issuer, KeyKind, PrivateKey, Profile, Sans, Subject, TrustBundle, Validity};
use serde_json::{Value, json};
use store::register::{Admin, By, Register, SqliteRegister, Submission};
use tower::ServiceExt;

use crate::described;

/// 2026-01-01T00:00:00Z.
const BEGINNING_S: i64 = 1_767_225_600;
pub(crate) const PASSWORD: &str = "correct horse";
pub(crate) const LEAF_LIFE: Duration = Duration::from_secs(90 * 86_400);

/// Channels that exist only on paper.
#[derive(Debug, Default)]
pub(crate) struct PaperFleet {
    pub(crate) connected: Mutex<BTreeMap<RouterId, Connected>>,
    pub(crate) closed: Mutex<Vec<(RouterId, Closing)>>,
    pub(crate) advised: Mutex<Vec<(RouterId, Window)>>,
    pub(crate) announced: Mutex<Vec<Campaign>>,
}

impl Fleet for PaperFleet {
    fn connected(&self, router: &RouterId) -> Option<Connected> {
        self.connected.lock().unwrap().get(router).cloned()
    }

    fn connected_count(&self) -> usize {
        self.connected.lock().unwrap().len()
    }

    fn close(&self, router: &RouterId, why: Closing) {
        self.closed.lock().unwrap().push((router.clone(), why));
    }

    fn advise(&self, router: &RouterId, window: Window) -> bool {
        self.advised.lock().unwrap().push((router.clone(), window));
        self.connected(router).is_some()
    }

    fn announce(&self, campaign: Campaign) -> u64 {
        self.announced.lock().unwrap().push(campaign);
        self.connected_count() as u64
    }
}

pub(crate) struct World {
    pub(crate) app: axum::Router,
    pub(crate) register: Arc<dyn Register>,
    pub(crate) fleet: Arc<PaperFleet>,
    pub(crate) readiness: Readiness,
    pub(crate) enroller: Enroller,
    pub(crate) api_leaf: Certificate,
    pub(crate) credentials: Arc<Credentials>,
    pub(crate) bundle: TrustBundle,
    pub(crate) stop: Stop,
    clock_ms: Arc<AtomicI64>,
    clock: Clock,
    _folder: Option<tempfile::TempDir>,
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    pub(crate) fn data(&self) -> Value {
        assert!(self.status.is_success(), "{}: {}", self.status, self.text);
        self.json()["data"].clone()
    }

    pub(crate) fn code(&self) -> (u16, String) {
        (self.status.as_u16(), self.json()["error"]["code"].as_str().unwrap_or_default().to_owned())
    }
}

/// What a router holds while it enrolls.
pub(crate) struct Keys {
    pub(crate) client: PrivateKey,
    pub(crate) server: PrivateKey,
}

impl Keys {
    pub(crate) fn new() -> Self {
        Self { client: key(), server: key() }
    }

    pub(crate) fn csr(&self, cn: &str, dns: &str) -> String {
        csr(&self.client, cn, dns)
    }

    pub(crate) fn body(&self, cn: &str) -> Value {
        json!({ "certCsr": csr(&self.client, cn, "r.example.com"), "serverCertCsr": csr(&self.server, cn, "r.example.com") })
    }
}

pub(crate) fn key() -> PrivateKey {
    PrivateKey::generate(KeyKind::P256).unwrap()
}

pub(crate) fn csr(key: &PrivateKey, cn: &str, dns: &str) -> String {
    let sans = Sans { dns: vec![dns.to_owned()], ..Sans::default() };
    pki::build_csr(key, &Subject::common_name(cn).unwrap(), &sans).unwrap()
}

pub(crate) fn days(days: u64) -> Duration {
    Duration::from_secs(days * 86_400)
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(SanPolicy::Any, days(3650)).await
    }

    /// With an issuer that lives for `issuer_life`.
    pub(crate) async fn with(sans: SanPolicy, issuer_life: Duration) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let begin = UnixTime::from_s(BEGINNING_S);
        let register = SqliteRegister::create(&folder.path().join("register.db"), "test", begin).unwrap();
        Self { _folder: Some(folder), ..Self::on(Arc::new(register), sans, issuer_life).await }
    }

    /// On a register at hand.
    pub(crate) async fn on(register: Arc<dyn Register>, sans: SanPolicy, issuer_life: Duration) -> Self {
        let begin = UnixTime::from_s(BEGINNING_S);
        let validity =
            |life| Validity { not_before: begin.minus(days(1)), not_after: begin.plus(life), issuer_ends_soon: None };
        // What a TLS client judges by the machine's own clock holds for as long as anybody may run this.
        let always = Validity {
            not_before: UnixTime::from_s(1_600_000_000),
            not_after: UnixTime::from_s(4_000_000_000),
            issuer_ends_soon: None,
        };
        let root = pki::new_root("test root", key(), &always).unwrap();
        let issuer = pki::new_intermediate(&root, "test signer", key(), &validity(issuer_life)).unwrap();
        let bundle = TrustBundle::new([root.certificate().clone(), issuer.certificate().clone()]).unwrap();
        let api_key = key();
        let api_chain = api_chain(&root, &api_key, &always);
        let api_leaf = api_chain.leaf().clone();
        let credentials = Credentials::new(CredentialParts {
            generation: GenerationNumber(1),
            client: &api_chain,
            client_key: &api_key,
            server: &api_chain,
            server_key: &api_key,
            bundle: &bundle,
        });
        let credentials = Arc::new(credentials.unwrap());

        let clock_ms = Arc::new(AtomicI64::new(0));
        let told = Arc::clone(&clock_ms);
        let clock = Clock::from_fn(move || {
            let ms = told.load(Ordering::SeqCst);
            Now {
                wall: UnixTime::from_ms(BEGINNING_S * 1000 + ms),
                uptime: Uptime::from_ms(u64::try_from(ms).unwrap() + 1_000_000),
            }
        });
        register.put_admin(admin(begin), By::controller(clock.now())).await.unwrap();

        let policy = IssuancePolicy::for_leaf_life(LEAF_LIFE);
        let signer = Signer::new(issuer, bundle.clone(), sans, policy).unwrap();
        let (events, metrics, readiness) = (Events::default(), Metrics::default(), Readiness::default());
        let mint = TokenMint {
            key: api_key,
            certificate: api_leaf.clone(),
            issuer: "https://ctrl.example.com:1280".to_owned(),
            controllers: vec!["tls:ctrl.example.com:6262".to_owned()],
        };
        let enroller =
            Enroller::new(Arc::clone(&register), signer, clock.clone(), events.clone(), metrics.clone(), mint);
        let fleet = Arc::new(PaperFleet::default());
        let (stop, stop_signal) = Stop::new();
        let app = app(WebParts {
            body_bytes_max: api::MAX_BODY_BYTES,
            bodies_bytes_max: 4 << 20,
            enrollment_failures: FailureLimits { each: 5, all: 100 },
            register: Arc::clone(&register),
            fleet: Arc::clone(&fleet) as Arc<dyn Fleet>,
            enroller: enroller.clone(),
            events,
            metrics,
            readiness: readiness.clone(),
            clock: clock.clone(),
            api_address: "ctrl.example.com:1280".to_owned(),
            session_idle: Duration::from_secs(30 * 60),
            stop: stop_signal,
        });
        Self {
            app,
            register,
            fleet,
            readiness,
            enroller,
            api_leaf,
            credentials,
            bundle,
            stop,
            clock_ms,
            clock,
            _folder: None,
        }
    }

    pub(crate) fn now(&self) -> Now {
        self.clock.now()
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.clock_ms.fetch_add(i64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let (method, uri) = (request.method().to_string(), request.uri().clone());
        let response = self.app.clone().oneshot(request).await.unwrap();
        let (head, body) = response.into_parts();
        let text = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
        let answer = Answer { status: head.status, headers: head.headers, text };
        described::check(&method, &uri, &answer);
        answer
    }

    pub(crate) async fn call(&self, method: &str, path: &str, session: Option<&str>, body: Option<Value>) -> Answer {
        let mut request = Request::builder()
            .method(method)
            .uri(path.replace(' ', "%20").replace('"', "%22").replace('<', "%3C").replace('>', "%3E"));
        if let Some(token) = session {
            request = request.header("zt-session", token);
        }
        let body = match body {
            Some(body) => {
                request = request.header("content-type", "application/json");
                Body::from(body.to_string())
            }
            None => Body::empty(),
        };
        self.send(request.body(body).unwrap()).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, None, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.call("POST", path, None, Some(body)).await
    }

    pub(crate) async fn login(&self) -> Admitted<'_> {
        let body = json!({ "username": "admin", "password": PASSWORD });
        let answer = self.post("/edge/management/v1/authenticate?method=password", body).await;
        let token = answer.data()["token"].as_str().unwrap().to_owned();
        assert_eq!(answer.headers["zt-session"], token.as_str());
        Admitted { world: self, token }
    }

    pub(crate) async fn enroll(&self, method: &str, token: &str, body: Value) -> Answer {
        self.post(&format!("/edge/client/v1/enroll?method={method}&token={token}"), body).await
    }

    /// An edge router's enrollment from this address.
    pub(crate) async fn enroll_from(&self, address: [u8; 4], token: &str, body: Value) -> Answer {
        let request = Request::builder()
            .method("POST")
            .uri(format!("/edge/client/v1/enroll?method=erott&token={token}"))
            .header("content-type", "application/json")
            .extension(net::http::Remote((address, 4711).into()));
        self.send(request.body(Body::from(body.to_string())).unwrap()).await
    }

    /// The router connects with this leaf.
    pub(crate) async fn use_leaf(&self, router: &str, chain_pem: &str) {
        let leaf = Chain::from_pem(chain_pem.as_bytes()).unwrap().leaf().facts();
        self.submit(router, Input::hello(leaf)).await;
    }

    pub(crate) async fn submit(&self, router: &str, input: Input) {
        let policy = self.enroller.signer().policy();
        let answered = self.register.submit(Submission::new(RouterId::new(router), self.now(), policy, input)).await;
        answered.unwrap();
    }
}

/// An administrator with a session.
pub(crate) struct Admitted<'a> {
    pub(crate) world: &'a World,
    pub(crate) token: String,
}

impl Admitted<'_> {
    pub(crate) async fn call(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        self.world.call(method, path, Some(&self.token), body).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, None).await
    }

    /// A new router: its id and the one-time part of its token.
    pub(crate) async fn create(&self, collection: &str, name: &str) -> (String, String) {
        let base = format!("/edge/management/v1/{collection}");
        let made = self.call("POST", &base, Some(json!({ "name": name }))).await;
        assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
        let id = made.data()["id"].as_str().unwrap().to_owned();
        let view = self.get(&format!("{base}/{id}")).await.data();
        (id, view["enrollmentToken"].as_str().unwrap().to_owned())
    }

    /// A new edge router that has enrolled and connected: its id, its keys and its client chain.
    pub(crate) async fn online(&self, name: &str) -> (String, Keys, String) {
        let (id, token) = self.create("edge-routers", name).await;
        let keys = Keys::new();
        let got = self.world.enroll("erott", &token, keys.body(&id)).await.data();
        let chain = got["cert"].as_str().unwrap().to_owned();
        self.world.use_leaf(&id, &chain).await;
        (id, keys, chain)
    }
}

/// What TLS would report of a client that presented this chain.
pub(crate) fn presented(chain_pem: &str) -> Arc<PeerCertificates> {
    let chain = Chain::from_pem(chain_pem.as_bytes()).unwrap();
    Arc::new(PeerCertificates::from_presented(Some(&chain.to_rustls())).unwrap())
}

fn api_chain(root: &Issuer, key: &PrivateKey, validity: &Validity) -> Chain {
    let subject = Subject::common_name("ctrl.example.com").unwrap();
    let sans =
        Sans { dns: vec!["ctrl.example.com".to_owned()], ips: vec!["127.0.0.1".parse().unwrap()], ..Sans::default() };
    root.issue_for(key.public(), &subject, &sans, Profile::Server, validity).unwrap()
}

/// Hashed as cheaply as argon2 allows: what is tested is not argon2.
fn admin(at: UnixTime) -> Admin {
    let cheap = Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::new(8, 1, 1, None).unwrap());
    let salt = SaltString::encode_b64(b"salt of the test").unwrap();
    let password_hash = cheap.hash_password(PASSWORD.as_bytes(), &salt).unwrap().to_string();
    Admin { id: "admin-id".to_owned(), name: "admin".to_owned(), password_hash, created_at: at, updated_at: at }
}
