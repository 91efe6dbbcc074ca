//! The HTTP client and server.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use net::connect::{ConnectError, ConnectTimeouts};
use net::credentials::CredentialsSlot;
use net::http::{HttpClient, HttpError, HttpLimits, HttpListener, HttpService, Remote, learn_server_certificates};
use net::peer::PeerCertificates;
use net::stop::Stop;
use net::tls::{ClientCertificate, ServerTrust};
use pki::Profile;
use tokio::net::TcpListener;
use tokio::time::timeout;

use crate::authority::{Authority, PATIENCE, lasting};
use crate::door::{Door, Options, hello};

/// Echoes bodies and says what it knows about the client.
fn service() -> HttpService {
    HttpService::new(service_fn(|request: Request<Incoming>| async move {
        let presented = request.extensions().get::<Arc<PeerCertificates>>().is_some();
        assert!(request.extensions().get::<Remote>().is_some());
        let mut response = Response::builder().header("presented", presented.to_string());
        let body = match request.uri().path() {
            "/moved" => {
                response = response.status(StatusCode::FOUND).header("location", "/");
                Bytes::new()
            }
            "/large" => Bytes::from(vec![b'x'; 4096]),
            "/never" => std::future::pending().await,
            _ => request.into_body().collect().await.unwrap().to_bytes(),
        };
        Ok::<_, Infallible>(response.body(Full::new(body)).unwrap())
    }))
}

struct Web {
    base: String,
    slot: Arc<CredentialsSlot>,
    stop: Stop,
    serving: tokio::task::JoinHandle<()>,
}

impl Web {
    async fn open(authority: &Authority, clients: ClientCertificate) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("https://{}", listener.local_addr().unwrap());
        let slot = authority.slot("ctrl1");
        let (stop, signal) = Stop::new();
        let server = HttpListener {
            credentials: Some(slot.clone()),
            clients,
            service: service(),
            limits: HttpLimits::default(),
        };
        let serving = tokio::spawn(async move { server.serve(listener, signal).await.unwrap() });
        Self { base, slot, stop, serving }
    }

    fn request(&self, method: Method, path: &str, body: &'static str) -> Request<Bytes> {
        let uri = format!("{}{path}", self.base);
        Request::builder().method(method).uri(uri).body(Bytes::from_static(body.as_bytes())).unwrap()
    }

    fn get(&self, path: &str) -> Request<Bytes> {
        self.request(Method::GET, path, "")
    }
}

fn client(authority: &Authority) -> HttpClient {
    HttpClient::new(ServerTrust::bundle(&authority.bundle()).unwrap())
}

#[tokio::test]
async fn a_request_and_its_answer_cross_tls() {
    let authority = Authority::new();
    let web = Web::open(&authority, ClientCertificate::Asked).await;
    let anonymous = client(&authority).send(web.request(Method::POST, "/", "{}")).await.unwrap();
    assert_eq!((anonymous.status, anonymous.body.as_ref()), (StatusCode::OK, &b"{}"[..]));
    assert_eq!(anonymous.headers["presented"], "false");
    let named = client(&authority).presenting(authority.credentials("r1", 1).client().clone());
    assert_eq!(named.send(web.get("/")).await.unwrap().headers["presented"], "true");
}

#[tokio::test]
async fn publishing_switches_new_handshakes_and_leaves_connections_alone() {
    let authority = Authority::new();
    let web = Web::open(&authority, ClientCertificate::NotAsked).await;
    let before = web.slot.current().unwrap();
    let mut old = client(&authority).connect(web.get("/").uri()).await.unwrap();
    assert_eq!(old.send(web.get("/")).await.unwrap().status, StatusCode::OK);
    let after = authority.credentials("ctrl1", 2);
    web.slot.publish(after.clone());
    // The same connection, and still the leaf that it began with.
    assert_eq!(old.send(web.get("/")).await.unwrap().status, StatusCode::OK);
    assert_eq!(old.peer().unwrap().leaf(), &before.server().cert[0]);
    let mut new = client(&authority).connect(web.get("/").uri()).await.unwrap();
    assert_eq!(new.peer().unwrap().leaf(), &after.server().cert[0]);
    assert_eq!(new.send(web.get("/")).await.unwrap().status, StatusCode::OK);
    assert!(!old.is_closed());
}

#[tokio::test]
async fn a_pinned_leaf_is_believed_without_an_issuer_and_no_other_is() {
    let authority = Authority::new();
    let web = Web::open(&authority, ClientCertificate::Asked).await;
    let endpoint = web.base.strip_prefix("https://127.0.0.1:").unwrap().parse().unwrap();
    let endpoint = net::connect::Endpoint::new("127.0.0.1", endpoint);
    let learnt = learn_server_certificates(&endpoint, ConnectTimeouts::default()).await.unwrap();
    let pinned = HttpClient::new(ServerTrust::exact_leaf(learnt.leaf().clone()));
    assert_eq!(pinned.send(web.get("/")).await.unwrap().status, StatusCode::OK);
    // Same issuer, same names, another leaf.
    web.slot.publish(authority.credentials("ctrl1", 2));
    let error = pinned.send(web.get("/")).await.unwrap_err();
    assert!(matches!(error, HttpError::Connect(ConnectError::NotTrusted { .. })), "{error:?}");
}

#[tokio::test]
async fn a_pinned_leaf_must_still_name_the_host_and_be_valid() {
    let authority = Authority::new();
    let web = Web::open(&authority, ClientCertificate::NotAsked).await;
    for validity in [lasting(-7200, -3600), lasting(3600, 7200)] {
        let generation = authority.generation("ctrl1", &validity).load(2).unwrap();
        let leaf = generation.server().cert[0].clone();
        web.slot.publish(Arc::new(generation));
        let error = HttpClient::new(ServerTrust::exact_leaf(leaf)).send(web.get("/")).await.unwrap_err();
        assert!(matches!(error, HttpError::Connect(ConnectError::NotTrusted { .. })), "{error:?}");
    }
    // Another host; then the right host in a leaf that is for clients.
    let elsewhere = pki::Sans { dns: vec!["elsewhere".to_owned()], ..pki::Sans::default() };
    for (profile, sans) in [(Profile::Server, elsewhere), (Profile::Client, Authority::loopback())] {
        let mut generation = authority.generation("ctrl1", &lasting(-60, 3600));
        generation.server = authority.leaf_for("ctrl1", &generation.key, profile, &sans, &lasting(-60, 3600));
        let generation = generation.load(3).unwrap();
        let leaf = generation.server().cert[0].clone();
        web.slot.publish(Arc::new(generation));
        let error = HttpClient::new(ServerTrust::exact_leaf(leaf)).send(web.get("/")).await.unwrap_err();
        assert!(matches!(error, HttpError::Connect(ConnectError::NotTrusted { .. })), "{error:?}");
    }
}

#[tokio::test]
async fn clients_that_speak_http2_are_answered_in_it() {
    let authority = Authority::new();
    let web = Web::open(&authority, ClientCertificate::NotAsked).await;
    let trust = ServerTrust::bundle(&authority.bundle()).unwrap();
    let config = net::tls::client_config(&trust, None, &[b"h2", b"http/1.1"]).unwrap();
    let tcp = tokio::net::TcpStream::connect(web.base.strip_prefix("https://").unwrap()).await.unwrap();
    let name = rustls_pki_types::ServerName::try_from("127.0.0.1").unwrap();
    let stream = tokio_rustls::TlsConnector::from(config).connect(name, tcp).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::post(format!("{}/", web.base)).body(Full::new(Bytes::from_static(b"two"))).unwrap();
    let answer = timeout(PATIENCE, sender.send_request(request)).await.unwrap().unwrap();
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "two");
    web.stop.stop();
    timeout(PATIENCE, web.serving).await.expect("it does not stop").unwrap();
}

#[tokio::test]
async fn answers_are_limited_in_length_and_time_and_redirects_are_not_followed() {
    let authority = Authority::new();
    let web = Web::open(&authority, ClientCertificate::NotAsked).await;
    assert_eq!(client(&authority).send(web.get("/moved")).await.unwrap().status, StatusCode::FOUND);
    let small = client(&authority).with_body_limit(4095);
    assert!(matches!(small.send(web.get("/large")).await, Err(HttpError::TooLong { max_bytes: 4095, .. })));
    let exact = client(&authority).with_body_limit(4096);
    assert_eq!(exact.send(web.get("/large")).await.unwrap().body.len(), 4096);
    let soon = ConnectTimeouts { answer: Duration::from_millis(50), ..ConnectTimeouts::default() };
    let hurried = client(&authority).with_timeouts(soon);
    assert!(matches!(hurried.send(web.get("/never")).await, Err(HttpError::TimedOut { .. })));
}

#[tokio::test]
async fn plain_http_is_requested_only_when_allowed() {
    let authority = Authority::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("http://{}/", listener.local_addr().unwrap());
    let (_stop, signal) = Stop::new();
    let server = HttpListener {
        credentials: None,
        clients: ClientCertificate::NotAsked,
        service: service(),
        limits: HttpLimits::default(),
    };
    tokio::spawn(server.serve(listener, signal));
    let request = || Request::get(uri.as_str()).body(Bytes::new()).unwrap();
    assert!(matches!(client(&authority).send(request()).await, Err(HttpError::Address { .. })));
    assert_eq!(client(&authority).allowing_plain().send(request()).await.unwrap().status, StatusCode::OK);
}

#[tokio::test]
async fn a_tower_service_answers_as_well() {
    let authority = Authority::new();
    let hello = tower::service_fn(|_request: Request<Incoming>| async {
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"from tower"))))
    });
    let options = Options { http: Some(HttpService::tower(hello)), ..Options::default() };
    let door = Door::open_with(&authority, options).await;
    let request = Request::get(format!("https://{}/", door.address)).body(Bytes::new()).unwrap();
    assert_eq!(client(&authority).send(request).await.unwrap().body, "from tower");
}

#[tokio::test]
async fn one_port_carries_the_control_plane_and_http() {
    let authority = Authority::new();
    let mut door = Door::open_with(&authority, Options { http: Some(service()), ..Options::default() }).await;
    let credentials = authority.credentials("r1", 1);
    let uri = format!("https://{}/", door.address);
    let request = Request::post(uri).body(Bytes::from_static(b"hi")).unwrap();
    // Without a certificate, which only the control plane requires.
    assert_eq!(client(&authority).send(request).await.unwrap().body, "hi");
    let _connected = door.dial(&credentials, hello("r1")).await.unwrap();
    door.next_opened().await;
}

#[tokio::test]
async fn stopping_ends_idle_connections_and_answers_under_way_alike() {
    let authority = Authority::new();
    let web = Web::open(&authority, ClientCertificate::NotAsked).await;
    let mut idle = client(&authority).connect(web.get("/").uri()).await.unwrap();
    idle.send(web.get("/")).await.unwrap();
    let mut stuck = client(&authority).connect(web.get("/").uri()).await.unwrap();
    let asking = tokio::spawn({
        let request = web.get("/never");
        async move { stuck.send(request).await }
    });
    web.stop.stop();
    timeout(PATIENCE, web.serving).await.expect("it does not stop").unwrap();
    assert!(asking.await.unwrap().is_err());
    assert!(idle.send(Request::get("/").body(Bytes::new()).unwrap()).await.is_err());
}
