//! What the quickstart asks of its controller, over the same REST interfaces that everybody else uses.

use std::time::Duration;

use api::envelope::{Created, Envelope, ListEnvelope};
use api::native::RouterView;
use api::ziti::{EdgeRouterView, SessionView};
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use net::connect::ConnectTimeouts;
use net::http::{HttpClient, HttpConnection, HttpError};
use net::tls::{ServerTrust, TlsSetupError};
use serde::de::DeserializeOwned;
use serde_json::json;
use zeroize::Zeroizing;

/// Why the controller's API did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiFailure {
    /// No answer.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// It said no.
    #[error("the controller answered `{path}` with status {status}: {body}")]
    Refused {
        /// What was asked.
        path: String,
        /// HTTP status.
        status: StatusCode,
        /// The beginning of what it said.
        body: String,
    },
    /// It said something else.
    #[error("the controller's answer to `{path}` makes no sense")]
    Unexpected {
        /// What was asked.
        path: String,
        /// Where it differs.
        #[source]
        source: serde_json::Error,
    },
    /// The question cannot be asked.
    #[error("`{0}` cannot be requested")]
    Address(String),
}

/// A client with a login, which it renews when the controller has forgotten it, and one connection, which it opens again when
/// the controller was restarted.
pub(crate) struct ControllerApi {
    client: HttpClient,
    base: String,
    user: String,
    password: Zeroizing<String>,
    token: Option<Zeroizing<String>>,
    connection: Option<HttpConnection>,
}

impl std::fmt::Debug for ControllerApi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ControllerApi").field("base", &self.base).finish_non_exhaustive()
    }
}

impl ControllerApi {
    /// For the API at `127.0.0.1:port`.
    ///
    /// # Errors
    /// When the bundle is of no use.
    pub(crate) fn new(
        port: u16,
        bundle: &pki::TrustBundle,
        user: &str,
        password: Zeroizing<String>,
    ) -> Result<Self, TlsSetupError> {
        let each = Duration::from_secs(5);
        let timeouts = ConnectTimeouts { connect: each, handshake: each, answer: each };
        let client = HttpClient::new(ServerTrust::bundle(bundle)?)
            .with_timeouts(timeouts)
            // Five hundred routers with all their leaves.
            .with_body_limit(4 << 20);
        let base = format!("https://127.0.0.1:{port}");
        Ok(Self { client, base, user: user.to_owned(), password, token: None, connection: None })
    }

    /// Another client of the same controller, with a login and a connection of its own.
    pub(crate) fn another(&self) -> Self {
        Self {
            client: self.client.clone(),
            base: self.base.clone(),
            user: self.user.clone(),
            password: self.password.clone(),
            token: None,
            connection: None,
        }
    }

    /// Makes an edge router. The answer is its id.
    pub(crate) async fn create_router(&mut self, name: &str) -> Result<String, ApiFailure> {
        let body = json!({ "name": name, "isTunnelerEnabled": false });
        let created: Envelope<Created> = self.ask(Method::POST, "/edge/management/v1/edge-routers", Some(body)).await?;
        Ok(created.data.id)
    }

    /// The enrollment token of a router that is not enrolled yet.
    pub(crate) async fn enrollment_token(&mut self, id: &str) -> Result<Option<Zeroizing<String>>, ApiFailure> {
        let path = format!("/edge/management/v1/edge-routers/{id}");
        let view: Envelope<EdgeRouterView> = self.ask(Method::GET, &path, None).await?;
        Ok(view.data.enrollment_jwt.map(|jwt| Zeroizing::new(jwt.reveal().to_owned())))
    }

    /// Every router with the leaves that are admitted.
    pub(crate) async fn routers(&mut self) -> Result<Vec<RouterView>, ApiFailure> {
        let list: ListEnvelope<RouterView> = self.ask(Method::GET, "/api/v1/routers?limit=500", None).await?;
        Ok(list.data)
    }

    async fn ask<T: DeserializeOwned>(
        &mut self,
        method: Method,
        path: &str,
        body: Option<serde_json::Value>,
    ) -> Result<T, ApiFailure> {
        if self.token.is_none() {
            self.log_in().await?;
        }
        let token = self.token.clone();
        let (mut status, mut answer) = self.exchange(method.clone(), path, body.as_ref(), token).await?;
        if status == StatusCode::UNAUTHORIZED {
            // Sessions end with the controller's process.
            self.log_in().await?;
            let token = self.token.clone();
            (status, answer) = self.exchange(method, path, body.as_ref(), token).await?;
        }
        understood(path, status, &answer)
    }

    async fn log_in(&mut self) -> Result<(), ApiFailure> {
        let path = "/edge/management/v1/authenticate?method=password";
        let body = json!({ "username": self.user, "password": self.password.as_str() });
        let (status, answer) = self.exchange(Method::POST, path, Some(&body), None).await?;
        let session: Envelope<SessionView> = understood(path, status, &answer)?;
        self.token = Some(Zeroizing::new(session.data.token.reveal().to_owned()));
        Ok(())
    }

    async fn exchange(
        &mut self,
        method: Method,
        path: &str,
        body: Option<&serde_json::Value>,
        token: Option<Zeroizing<String>>,
    ) -> Result<(StatusCode, Bytes), ApiFailure> {
        let bytes = body.map_or_else(Bytes::new, |body| Bytes::from(body.to_string()));
        let uri = format!("{}{path}", self.base);
        let build = || {
            let mut request = Request::builder().method(method.clone()).uri(&uri);
            if !bytes.is_empty() {
                request = request.header("content-type", "application/json");
            }
            if let Some(token) = &token {
                request = request.header("zt-session", token.as_str());
            }
            request.body(bytes.clone()).map_err(|_| ApiFailure::Address(uri.clone()))
        };
        let request = build()?;
        let kept = self.connection.take().filter(|connection| !connection.is_closed());
        let mut connection = match kept {
            Some(connection) => connection,
            None => self.client.connect(request.uri()).await?,
        };
        let answer = connection.send(request).await?;
        self.connection = Some(connection);
        Ok((answer.status, answer.body))
    }
}

fn understood<T: DeserializeOwned>(path: &str, status: StatusCode, answer: &[u8]) -> Result<T, ApiFailure> {
    if !status.is_success() {
        let body = String::from_utf8_lossy(answer).chars().take(300).collect();
        return Err(ApiFailure::Refused { path: path.to_owned(), status, body });
    }
    serde_json::from_slice(answer).map_err(|source| ApiFailure::Unexpected { path: path.to_owned(), source })
}
