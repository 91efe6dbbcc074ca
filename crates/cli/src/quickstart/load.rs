//! Clients that never stop: short connections, one after another, and long ones that are kept through renewals.
//!
//! Every handshake presents a client leaf of the quickstart's own PKI and checks what the router serves: chain, host and dates
//! as any client would, and that the leaf is this router's. Requests on long connections are numbered.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, StatusCode, Uri};
use lifecycle::UnixTime;
use net::connect::ConnectTimeouts;
use net::http::{HttpClient, HttpConnection};
use net::stop::StopSignal;
use net::tls::ServerTrust;
use pki::{Issuer, KeyKind, PrivateKey, Profile, Sans, Subject, TrustBundle};
use rustls::sign::CertifiedKey;
use tokio::task::JoinSet;

use super::tally::{Loss, Side, Tally};

/// Long connections to each router.
const LONG: usize = 2;
/// Between two requests of one long connection.
const LONG_PAUSE: Duration = Duration::from_millis(150);
/// Between two short connections to one router.
const SHORT_PAUSE: Duration = Duration::from_millis(120);
/// After a failure.
const FAILURE_PAUSE: Duration = Duration::from_millis(100);
/// How long the leaf of the load lives: longer than any quickstart is watched.
const LEAF_LIFE: Duration = Duration::from_secs(7 * 86_400);

/// Why there can be no load.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    /// No leaf for it.
    #[error("no client certificate can be made for the load")]
    Leaf(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// TLS cannot be configured.
    #[error(transparent)]
    Tls(#[from] net::tls::TlsSetupError),
}

/// Who is loaded.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// Position in the tally.
    pub(crate) index: usize,
    /// The router's id: the common name that its leaf must have.
    pub(crate) id: String,
    /// Port of its health endpoint, on loopback.
    pub(crate) port: u16,
}

/// The load, ready to begin.
#[derive(Debug)]
pub(crate) struct Load {
    client: HttpClient,
    tally: Arc<Tally>,
}

impl Load {
    /// With a client leaf that `issuer` signs.
    ///
    /// # Errors
    /// When no leaf can be made, or the bundle is of no use.
    pub(crate) fn new(issuer: &Issuer, bundle: &TrustBundle, tally: Arc<Tally>) -> Result<Self, LoadError> {
        let identity = client_leaf(issuer).map_err(LoadError::Leaf)?;
        let each = Duration::from_secs(5);
        let client = HttpClient::new(ServerTrust::bundle(bundle)?)
            .presenting(Arc::new(identity))
            .with_timeouts(ConnectTimeouts { connect: each, handshake: each, answer: each });
        Ok(Self { client, tally })
    }

    /// Loads one router until told to stop; then every connection is closed after its last answer.
    pub(crate) async fn run(&self, target: Target, stop: StopSignal) {
        let mut streams = JoinSet::new();
        let stream = |kind| Stream {
            client: self.client.clone(),
            tally: self.tally.clone(),
            target: target.clone(),
            stop: stop.clone(),
            kind,
        };
        streams.spawn(stream(Kind::Short).run());
        for _ in 0..LONG {
            streams.spawn(stream(Kind::Long).run());
        }
        while streams.join_next().await.is_some() {}
    }
}

fn client_leaf(issuer: &Issuer) -> Result<CertifiedKey, Box<dyn std::error::Error + Send + Sync>> {
    let key = PrivateKey::generate(KeyKind::P256)?;
    let validity = pki::validity(wall(), LEAF_LIFE, issuer.not_after())?;
    let subject = Subject::common_name("quickstart load")?;
    let chain = issuer.issue_for(key.public(), &subject, &Sans::default(), Profile::Client, &validity)?;
    let signing = net::tls::provider().key_provider.load_private_key(key.to_rustls()?)?;
    Ok(CertifiedKey::new(chain.to_rustls(), signing))
}

/// What the wall clock says.
pub(crate) fn wall() -> UnixTime {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    UnixTime::from_ms(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Short,
    Long,
}

struct Stream {
    client: HttpClient,
    tally: Arc<Tally>,
    target: Target,
    stop: StopSignal,
    kind: Kind,
}

impl Stream {
    async fn run(mut self) {
        while !self.stop.is_stopped() {
            let pause = match self.open().await {
                Some(connection) => self.use_up(connection).await,
                None => FAILURE_PAUSE,
            };
            self.pause(pause).await;
        }
    }

    async fn pause(&mut self, pause: Duration) {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = self.stop.stopped() => {}
        }
    }

    fn uri(&self, number: u64) -> String {
        format!("https://{}:{}/health-checks?type=short&n={number}", Ipv4Addr::LOCALHOST, self.target.port)
    }

    /// One handshake, checked.
    async fn open(&self) -> Option<HttpConnection> {
        let from = Instant::now();
        let opened = match self.uri(0).parse::<Uri>() {
            Ok(uri) => self.client.connect(&uri).await.map_err(|error| chain(&error)),
            Err(error) => Err(error.to_string()),
        };
        let checked = opened.and_then(|connection| match self.judge(&connection) {
            Ok(()) => Ok(connection),
            Err(fault) => Err(fault),
        });
        match checked {
            Ok(connection) => {
                self.tally.router(self.target.index, |router| router.handshakes += 1);
                Some(connection)
            }
            Err(why) => {
                self.lost(from, &Loss::Handshake, &why);
                None
            }
        }
    }

    /// rustls has verified chain, host and dates; this is what only we know.
    fn judge(&self, connection: &HttpConnection) -> Result<(), String> {
        let peer = connection.peer().ok_or("the router presented nothing")?;
        let leaf = pki::Certificate::from_der(peer.leaf()).map_err(|error| error.to_string())?;
        if leaf.cn() != Some(self.target.id.as_str()) {
            return Err(format!("the leaf is for `{}`", leaf.cn().unwrap_or_default()));
        }
        let now = wall();
        if now < leaf.not_before() || now > leaf.not_after() {
            return Err("the leaf is not valid now".to_owned());
        }
        Ok(())
    }

    /// Requests until the connection has done its duty. The answer is how long to wait before the next one.
    async fn use_up(&mut self, mut connection: HttpConnection) -> Duration {
        let (tally, index) = (self.tally.clone(), self.target.index);
        let renewals = || tally.books().routers.get(index).map_or(0, |router| router.promoted.len());
        let at_first = renewals();
        let mut answer_bytes = 0;
        let mut number: u64 = 0;
        loop {
            number += 1;
            let from = Instant::now();
            let uri = self.uri(number);
            // What would be lost if this request got no answer: itself, and an answer like the one before.
            let under_way = uri.len() as u64 + answer_bytes;
            let sent = match Request::get(&uri).body(Bytes::new()) {
                Ok(request) => connection.send(request).await.map_err(|error| chain(&error)),
                Err(error) => Err(error.to_string()),
            };
            let why = match sent {
                Ok(answer) if answer.status == StatusCode::OK => {
                    answer_bytes = answer.body.len() as u64;
                    let survived = (renewals() - at_first) as u64;
                    self.tally.router(self.target.index, |router| {
                        router.requests += 1;
                        router.renewals_survived = router.renewals_survived.max(survived);
                    });
                    None
                }
                Ok(answer) => Some(format!("status {}", answer.status)),
                Err(why) => Some(why),
            };
            if let Some(why) = why {
                self.lost(from, &Loss::Connection { bytes: under_way }, &why);
                return FAILURE_PAUSE;
            }
            if self.kind == Kind::Short {
                return SHORT_PAUSE;
            }
            let from = Instant::now();
            self.pause(LONG_PAUSE).await;
            if self.stop.is_stopped() {
                return Duration::ZERO;
            }
            if connection.is_closed() {
                self.lost(from, &Loss::Connection { bytes: 0 }, "closed by the router between two requests");
                return FAILURE_PAUSE;
            }
        }
    }

    fn lost(&self, from: Instant, loss: &Loss, why: &str) {
        let excuse = self.tally.lose(self.target.index, Side::Web, from, loss);
        if excuse.is_none() {
            let what = match loss {
                Loss::Handshake => "a handshake failed",
                Loss::Connection { .. } => "a connection was dropped",
            };
            self.tally.complain(format!("router {}: {what}: {why}", self.target.index + 1));
        }
    }
}

/// An error with its causes, on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Asks whether a process is ready, as a load balancer would.
#[derive(Clone, Debug)]
pub(crate) struct Probe {
    client: HttpClient,
    uri: String,
}

impl Probe {
    /// For the endpoint at this port and path on loopback.
    ///
    /// # Errors
    /// When the bundle is of no use.
    pub(crate) fn new(bundle: &TrustBundle, port: u16, path: &str) -> Result<Self, LoadError> {
        let each = Duration::from_millis(1_500);
        let client = HttpClient::new(ServerTrust::bundle(bundle)?).with_timeouts(ConnectTimeouts {
            connect: each,
            handshake: each,
            answer: each,
        });
        Ok(Self { client, uri: format!("https://{}:{port}{path}", Ipv4Addr::LOCALHOST) })
    }

    /// Returns once it answers that it is.
    pub(crate) async fn until_ready(&self) {
        loop {
            let request = Request::get(&self.uri).body(Bytes::new());
            if let Ok(request) = request
                && self.client.send(request).await.is_ok_and(|answer| answer.status == StatusCode::OK)
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }
}
