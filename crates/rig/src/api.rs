//! What a controller is asked over its REST interfaces.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use http::{Method, Request};
use net::connect::ConnectTimeouts;
use net::http::{HttpAnswer, HttpClient, HttpConnection};
use net::tls::ServerTrust;
use pki::TrustBundle;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

/// A leaf that the controller admits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdmittedLeaf {
    /// SHA-256 of its DER, in hex.
    pub fingerprint: String,
    /// Its position; newer is greater.
    pub seq: u64,
    /// `pending`, `confirmed` or `used`.
    pub stage: String,
}

/// A login and one connection, both of which are renewed when the controller was restarted.
#[derive(Debug)]
pub struct Api {
    runtime: Runtime,
    client: HttpClient,
    base: String,
    password: String,
    token: Option<String>,
    connection: Option<(HttpConnection, Instant)>,
}

/// A connection that was idle for longer may be about to be closed by the other side.
const IDLE: Duration = Duration::from_secs(5);

impl Api {
    /// For the REST interfaces below this URL, ours or OpenZiti's, as the administrator `admin`. Nothing is sent yet.
    ///
    /// # Errors
    /// When the bundle is of no use.
    pub fn new(base: String, bundle: &TrustBundle, password: &str) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let each = Duration::from_secs(20);
        let timeouts = ConnectTimeouts { connect: each, handshake: each, answer: each };
        let client = HttpClient::new(ServerTrust::bundle(bundle)?).with_timeouts(timeouts).with_body_limit(16 << 20);
        Ok(Self { runtime, client, base, password: password.to_owned(), token: None, connection: None })
    }

    /// One request, with a login before it if need be; the answer's JSON, or null where it has no body.
    ///
    /// # Errors
    /// When there is no answer, or it is a refusal.
    pub fn ask(&mut self, method: &Method, path: &str, body: Option<&Value>) -> Result<Value> {
        if self.token.is_none() {
            self.log_in()?;
        }
        let mut answer = self.exchange(method, path, body)?;
        if answer.status == http::StatusCode::UNAUTHORIZED {
            // Sessions end with the controller's process.
            self.log_in()?;
            answer = self.exchange(method, path, body)?;
        }
        understood(path, &answer)
    }

    /// The token of a session that is fresh.
    pub(crate) fn session(&mut self) -> Result<String> {
        self.log_in()?;
        self.token.clone().ok_or_else(|| anyhow!("no token"))
    }

    /// Is this the token of a session that lasts?
    pub(crate) fn is_good(&mut self, token: &str) -> Result<bool> {
        let own = self.token.replace(token.to_owned());
        let answer = self.exchange(&Method::GET, "/edge/management/v1/current-api-session", None);
        self.token = own;
        Ok(answer?.status == http::StatusCode::OK)
    }

    fn log_in(&mut self) -> Result<()> {
        self.token = None;
        let path = "/edge/management/v1/authenticate?method=password";
        let body = json!({ "username": "admin", "password": self.password });
        let answer = understood(path, &self.exchange(&Method::POST, path, Some(&body))?)?;
        let token = answer.pointer("/data/token").and_then(Value::as_str);
        self.token = Some(token.ok_or_else(|| anyhow!("no token in {answer}"))?.to_owned());
        Ok(())
    }

    fn exchange(&mut self, method: &Method, path: &str, body: Option<&Value>) -> Result<HttpAnswer> {
        let uri = format!("{}{path}", self.base);
        let bytes = body.map_or_else(bytes::Bytes::new, |body| bytes::Bytes::from(body.to_string()));
        let build = || {
            let mut request = Request::builder().method(method.clone()).uri(&uri);
            if !bytes.is_empty() {
                request = request.header("content-type", "application/json");
            }
            if let Some(token) = &self.token {
                request = request.header("zt-session", token.as_str());
            }
            request.body(bytes.clone())
        };
        let request = build()?;
        let kept = self.connection.take().filter(|(connection, used)| used.elapsed() < IDLE && !connection.is_closed());
        let client = &self.client;
        let exchanged: Result<(HttpAnswer, HttpConnection)> = self.runtime.block_on(async move {
            let mut connection = match kept {
                Some((connection, _)) => connection,
                None => client.connect(request.uri()).await?,
            };
            Ok((connection.send(request).await?, connection))
        });
        // A connection that the controller's last process left is found out when it is used.
        let (answer, connection) = match exchanged {
            Ok(exchanged) => exchanged,
            Err(_) if *method == Method::GET => {
                let request = build()?;
                self.runtime.block_on(async move {
                    let mut connection = client.connect(request.uri()).await?;
                    anyhow::Ok((connection.send(request).await?, connection))
                })?
            }
            Err(error) => return Err(error).with_context(|| format!("{method} {path}")),
        };
        self.connection = Some((connection, Instant::now()));
        Ok(answer)
    }
}

fn understood(path: &str, answer: &HttpAnswer) -> Result<Value> {
    let text = String::from_utf8_lossy(&answer.body);
    if !answer.status.is_success() {
        bail!("the controller answered `{path}` with {}: {text}", answer.status);
    }
    if text.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_str(&text).with_context(|| format!("the answer to `{path}` is no JSON: {text}"))
}
