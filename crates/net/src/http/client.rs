//! A client for the few requests that Exuvia makes: no pool, no redirects, no surprises.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, HeaderValue};
use http::{HeaderMap, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::sign::CertifiedKey;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::AnyError;
use crate::channel::Duplex;
use crate::connect::{ConnectError, ConnectTimeouts, Endpoint, connect_tcp, connect_tls};
use crate::peer::PeerCertificates;
use crate::tls::{self, ALPN_HTTP1, ServerTrust, TlsSetupError};

/// Largest body of an answer, unless told otherwise: 1 MiB.
const BODY_BYTES_MAX: usize = 1 << 20;
/// Time for an answer, unless told otherwise.
const ANSWER: Duration = Duration::from_secs(30);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The address is not one that can be dialed.
    #[error("`{uri}` cannot be requested: {why}")]
    Address {
        /// As given.
        uri: String,
        /// What is missing or wrong.
        why: &'static str,
    },
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// TLS cannot be configured.
    #[error(transparent)]
    Setup(#[from] TlsSetupError),
    /// The exchange broke off. The server may have acted on the request.
    #[error("the exchange with {endpoint} broke off")]
    Exchange {
        /// With whom.
        endpoint: Endpoint,
        /// What went wrong.
        #[source]
        source: AnyError,
    },
    /// The answer is longer than allowed.
    #[error("the answer of {endpoint} is longer than {max_bytes} bytes")]
    TooLong {
        /// Whose.
        endpoint: Endpoint,
        /// The cap.
        max_bytes: usize,
    },
    /// No answer in time. The server may have acted on the request.
    #[error("{endpoint} did not answer within {} ms", .after.as_millis())]
    TimedOut {
        /// Who.
        endpoint: Endpoint,
        /// How long it was waited for.
        after: Duration,
    },
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct HttpAnswer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, no longer than allowed.
    pub body: Bytes,
}

/// Makes requests with one trust and one identity. Each request has a connection of its own; [`HttpClient::connect`] keeps
/// one.
#[derive(Clone, Debug)]
pub struct HttpClient {
    trust: ServerTrust,
    presents: Option<Arc<CertifiedKey>>,
    timeouts: ConnectTimeouts,
    body_bytes_max: usize,
    allows_plain: bool,
}

impl HttpClient {
    /// Believes whom `trust` believes, presents nothing.
    pub fn new(trust: ServerTrust) -> Self {
        let timeouts = ConnectTimeouts { answer: ANSWER, ..ConnectTimeouts::default() };
        Self { trust, presents: None, timeouts, body_bytes_max: BODY_BYTES_MAX, allows_plain: false }
    }

    /// Presents this certificate to servers that ask for one.
    #[must_use]
    pub fn presenting(mut self, identity: Arc<CertifiedKey>) -> Self {
        self.presents = Some(identity);
        self
    }

    /// How long each part may take. `answer` runs from the request to the end of the answer's body.
    #[must_use]
    pub fn with_timeouts(mut self, timeouts: ConnectTimeouts) -> Self {
        self.timeouts = timeouts;
        self
    }

    /// Longest body that is read, in bytes.
    #[must_use]
    pub fn with_body_limit(mut self, bytes: usize) -> Self {
        self.body_bytes_max = bytes;
        self
    }

    /// Also requests `http://` addresses, unprotected.
    #[must_use]
    pub fn allowing_plain(mut self) -> Self {
        self.allows_plain = true;
        self
    }

    /// One request with an absolute address, on a connection of its own.
    ///
    /// # Errors
    /// See [`HttpError`]; an answer with any status is no error.
    pub async fn send(&self, request: Request<Bytes>) -> Result<HttpAnswer, HttpError> {
        self.connect(request.uri()).await?.send(request).await
    }

    /// A connection to the server of this address, for any number of requests.
    ///
    /// # Errors
    /// When there is no connection.
    pub async fn connect(&self, uri: &Uri) -> Result<HttpConnection, HttpError> {
        let address = |why| HttpError::Address { uri: uri.to_string(), why };
        let host = uri.host().ok_or_else(|| address("it names no host"))?;
        let (is_tls, default_port) = match uri.scheme_str() {
            Some("https") => (true, 443),
            Some("http") if self.allows_plain => (false, 80),
            Some("http") => return Err(address("`http` is not protected, use `https`")),
            _ => return Err(address("it must begin with `https://`")),
        };
        let endpoint = Endpoint::new(host, uri.port_u16().unwrap_or(default_port));
        let opened = if is_tls {
            let config = tls::client_config(&self.trust, self.presents.clone(), &[ALPN_HTTP1])?;
            let connection = connect_tls(&endpoint, config, self.timeouts).await?;
            let peer = connection.peer.map(Arc::new);
            exchange_on(connection.stream, &endpoint).await.map(|(sender, driver)| (sender, driver, peer))
        } else {
            let stream = connect_tcp(&endpoint, self.timeouts.connect).await?;
            exchange_on(stream, &endpoint).await.map(|(sender, driver)| (sender, driver, None))
        };
        let (sender, driver, peer) = opened?;
        Ok(HttpConnection {
            sender,
            driver,
            peer,
            endpoint,
            within: self.timeouts.answer,
            body_bytes_max: self.body_bytes_max,
        })
    }
}

type Sender = SendRequest<Full<Bytes>>;

async fn exchange_on(io: impl Duplex, endpoint: &Endpoint) -> Result<(Sender, AbortHandle), HttpError> {
    let (sender, connection) = http1::handshake(TokioIo::new(io)).await.map_err(|error| broken(endpoint, error))?;
    // Ends by itself with the connection; aborted when the handle is dropped.
    let driver = tokio::spawn(async move {
        let _ = connection.await;
    });
    Ok((sender, driver.abort_handle()))
}

fn broken(endpoint: &Endpoint, source: impl Into<AnyError>) -> HttpError {
    HttpError::Exchange { endpoint: endpoint.clone(), source: source.into() }
}

/// One connection that is kept between requests. Dropping it closes it.
#[derive(Debug)]
pub struct HttpConnection {
    sender: Sender,
    driver: AbortHandle,
    peer: Option<Arc<PeerCertificates>>,
    endpoint: Endpoint,
    within: Duration,
    body_bytes_max: usize,
}

impl HttpConnection {
    /// What the server presented; `None` on plain TCP.
    pub fn peer(&self) -> Option<&Arc<PeerCertificates>> {
        self.peer.as_ref()
    }

    /// Has the server closed it?
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// One request and its whole answer. Only path and query of its address count.
    ///
    /// # Errors
    /// See [`HttpError`]; an answer with any status is no error.
    pub async fn send(&mut self, request: Request<Bytes>) -> Result<HttpAnswer, HttpError> {
        let (within, max_bytes) = (self.within, self.body_bytes_max);
        let endpoint = self.endpoint.clone();
        let exchange = async {
            let (head, body) = self.start(request).await?.into_parts();
            let body = Limited::new(body, max_bytes).collect().await.map_err(|error| {
                if error.is::<LengthLimitError>() {
                    HttpError::TooLong { endpoint: self.endpoint.clone(), max_bytes }
                } else {
                    broken(&self.endpoint, error)
                }
            })?;
            Ok(HttpAnswer { status: head.status, headers: head.headers, body: body.to_bytes() })
        };
        timeout(within, exchange).await.unwrap_or(Err(HttpError::TimedOut { endpoint, after: within }))
    }

    /// One request whose answer is read as it comes, such as a stream of events: no limit of length or time applies to the
    /// body, and the connection must be kept while it is read.
    ///
    /// # Errors
    /// When the head of the answer does not come in time.
    pub async fn open(&mut self, request: Request<Bytes>) -> Result<Response<Incoming>, HttpError> {
        let (within, endpoint) = (self.within, self.endpoint.clone());
        timeout(within, self.start(request)).await.unwrap_or(Err(HttpError::TimedOut { endpoint, after: within }))
    }

    async fn start(&mut self, request: Request<Bytes>) -> Result<Response<Incoming>, HttpError> {
        let (mut head, body) = request.into_parts();
        if !head.headers.contains_key(HOST) {
            let host = HeaderValue::try_from(self.endpoint.to_string()).map_err(|e| broken(&self.endpoint, e))?;
            head.headers.insert(HOST, host);
        }
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        head.uri = path.parse().map_err(|e: http::uri::InvalidUri| broken(&self.endpoint, e))?;
        self.sender.ready().await.map_err(|error| broken(&self.endpoint, error))?;
        let request = Request::from_parts(head, Full::new(body));
        self.sender.send_request(request).await.map_err(|error| broken(&self.endpoint, error))
    }
}

impl Drop for HttpConnection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Shakes hands with a server nobody has vouched for, only to see what it presents. Possession of the leaf's key is proven,
/// its name and issuer are not.
///
/// # Errors
/// When there is no connection, or the server presents nothing.
pub async fn learn_server_certificates(
    endpoint: &Endpoint,
    timeouts: ConnectTimeouts,
) -> Result<PeerCertificates, HttpError> {
    let config = tls::client_config(&ServerTrust::learn(), None, &[ALPN_HTTP1])?;
    let peer = connect_tls(endpoint, config, timeouts).await?.peer;
    peer.ok_or_else(|| broken(endpoint, "the server presented no certificate"))
}
