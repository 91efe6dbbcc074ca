//! One controller's API, asked one thing at a time over one connection.

use std::path::Path;

use api::envelope::{Envelope, ListEnvelope};
use api::error::{ErrorEnvelope, ErrorView};
use api::native::RouterView;
use api::{Code, Operation, SESSION_HEADER, Secret, route};
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use net::http::{HttpAnswer, HttpClient, HttpConnection};
use net::tls::ServerTrust;
use pki::TrustBundle;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::reports::printable;
use super::session::Session;
use crate::exit::{Exit, Failure};

/// Largest answer: a page of routers with many leaves each.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// Rows that are asked for at once.
const PAGE_ROWS: u64 = 500;
/// Largest answer that is read for its error, when an event stream is refused.
const REFUSAL_BYTES_MAX: usize = 1 << 20;

pub(super) type Query<'a> = &'a [(&'a str, &'a str)];

/// Nothing to send along.
pub(super) const NO_BODY: Option<&()> = None;

pub(super) struct Client {
    http: HttpClient,
    connection: Option<HttpConnection>,
    controller: String,
    token: Option<Secret>,
}

impl Client {
    /// Believes the CA certificates of `bundle`; has no session yet.
    pub(super) fn new(controller: &str, bundle: &TrustBundle) -> Result<Self, Failure> {
        let trust = ServerTrust::bundle(bundle).map_err(|error| Failure::new(Exit::Input, error))?;
        let http = HttpClient::new(trust).with_body_limit(ANSWER_BYTES_MAX);
        Ok(Self { http, connection: None, controller: controller.to_owned(), token: None })
    }

    /// With the session that a login left in `file`.
    pub(super) fn of_session(file: &Path) -> Result<Self, Failure> {
        let session = Session::load(file)?;
        let bundle = TrustBundle::from_pem(session.ca_pem.as_bytes()).map_err(|error| {
            Failure::new(Exit::Input, error)
                .context(format!("the CA certificates in `{}` cannot be used", file.display()))
                .hint("log in again: `exuvia fleet login`")
        })?;
        Ok(Self { token: Some(session.token), ..Self::new(&session.controller, &bundle)? })
    }

    /// Asks for one thing, or orders something.
    pub(super) async fn one<T: DeserializeOwned>(
        &mut self,
        operation: Operation,
        id: &str,
        query: Query<'_>,
        body: Option<&impl Serialize>,
    ) -> Result<T, Failure> {
        let answer = self.send(operation, id, query, body).await?;
        Ok(self.read::<Envelope<T>>(&answer)?.data)
    }

    /// Asks for every row of a list, page by page.
    pub(super) async fn all<T: DeserializeOwned>(
        &mut self,
        operation: Operation,
        filter: Option<&str>,
        sort: &str,
    ) -> Result<Vec<T>, Failure> {
        let limit = PAGE_ROWS.to_string();
        let mut rows = Vec::new();
        loop {
            let offset = rows.len().to_string();
            let mut query = vec![("sort", sort), ("limit", &*limit), ("offset", &*offset)];
            query.extend(filter.map(|filter| ("filter", filter)));
            let answer = self.send(operation, "", &query, NO_BODY).await?;
            let page: ListEnvelope<T> = self.read(&answer)?;
            let is_last = page.data.is_empty();
            rows.extend(page.data);
            if is_last || rows.len() as u64 >= page.meta.pagination.total_count {
                return Ok(rows);
            }
        }
    }

    /// The router that the person means: by its id, or else by its name.
    pub(super) async fn find(&mut self, name_or_id: &str) -> Result<RouterView, Failure> {
        if name_or_id.contains(['"', '\\']) || name_or_id.chars().any(char::is_control) {
            return Err(Failure::because(
                Exit::Usage,
                format!("`{}` is neither a name nor an id", name_or_id.escape_debug()),
            ));
        }
        let filter = format!("id = \"{name_or_id}\" or name = \"{name_or_id}\"");
        let mut found: Vec<RouterView> = self.all(Operation::ListRouters, Some(&filter), "name").await?;
        let index = found.iter().position(|router| router.id == name_or_id).unwrap_or(0);
        if found.is_empty() {
            return Err(Failure::because(Exit::Refused, format!("there is no router `{name_or_id}`"))
                .hint("see `exuvia fleet list` for names and ids"));
        }
        Ok(found.swap_remove(index))
    }

    /// Opens a stream, on a connection of its own that must be kept while it is read.
    pub(super) async fn open(
        &self,
        operation: Operation,
        query: Query<'_>,
    ) -> Result<(HttpConnection, Response<Incoming>), Failure> {
        let request = self.request(operation, "", query, NO_BODY)?;
        let mut connection = self.http.connect(request.uri()).await?;
        let response = connection.open(request).await?;
        if response.status().is_success() {
            return Ok((connection, response));
        }
        let (head, body) = response.into_parts();
        let body = http_body_util::BodyExt::collect(http_body_util::Limited::new(body, REFUSAL_BYTES_MAX)).await;
        let body = body.map(|body| body.to_bytes()).unwrap_or_default();
        Err(self.refusal(&HttpAnswer { status: head.status, headers: head.headers, body }))
    }

    async fn send(
        &mut self,
        operation: Operation,
        id: &str,
        query: Query<'_>,
        body: Option<&impl Serialize>,
    ) -> Result<HttpAnswer, Failure> {
        let request = self.request(operation, id, query, body)?;
        let mut connection = match self.connection.take().filter(|kept| !kept.is_closed()) {
            Some(kept) => kept,
            None => self.http.connect(request.uri()).await?,
        };
        let answer = connection.send(request).await?;
        self.connection = Some(connection);
        if answer.status.is_success() { Ok(answer) } else { Err(self.refusal(&answer)) }
    }

    fn request(
        &self,
        operation: Operation,
        id: &str,
        query: Query<'_>,
        body: Option<&impl Serialize>,
    ) -> Result<Request<Bytes>, Failure> {
        let route = route(operation);
        let query: Vec<String> = query.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
        let mark = if query.is_empty() { "" } else { "?" };
        let uri: Uri = format!("{}{}{mark}{}", self.controller, route.path_for(id), query.join("&")).parse().map_err(
            |error: http::uri::InvalidUri| Failure::new(Exit::Usage, error).context("this cannot be asked for"),
        )?;
        let bytes = match body {
            Some(body) => serde_json::to_vec(body).map_err(|error| Failure::new(Exit::Internal, error))?,
            None => Vec::new(),
        };
        let mut request = Request::builder().method(route.method.as_str()).uri(uri);
        if !bytes.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        request = request.header(ACCEPT, "application/json, text/event-stream");
        if let Some(token) = &self.token {
            let mut value = HeaderValue::from_str(token.reveal()).map_err(|_| {
                Failure::because(Exit::Input, "the session's token is damaged")
                    .hint("log in again: `exuvia fleet login`")
            })?;
            value.set_sensitive(true);
            request = request.header(SESSION_HEADER, value);
        }
        request.body(bytes.into()).map_err(|error| Failure::new(Exit::Internal, error))
    }

    fn read<T: DeserializeOwned>(&self, answer: &HttpAnswer) -> Result<T, Failure> {
        // The parser's own words could quote a token.
        serde_json::from_slice(&answer.body).map_err(|error| {
            let at = format!("line {}, column {}", error.line(), error.column());
            Failure::because(Exit::Unreachable, format!("cannot understand the answer of {} ({at})", self.controller))
                .hint("is this an Exuvia controller, and of the same age as this program? See `exuvia version`")
        })
    }

    fn refusal(&self, answer: &HttpAnswer) -> Failure {
        let Ok(ErrorEnvelope { error, .. }) = serde_json::from_slice(&answer.body) else {
            let message = format!("{} answered with HTTP status {}", self.controller, answer.status.as_u16());
            return Failure::because(Exit::Unreachable, message).hint("is this the address of a controller's API?");
        };
        let is_code = |code: Code| error.code == code.as_str();
        let can_be_repeated = answer.status.is_server_error() || answer.status.as_u16() == 429;
        let exit = if can_be_repeated { Exit::Unreachable } else { Exit::Refused };
        let failure = Failure::because(exit, told(&error));
        if is_code(Code::Unauthorized) {
            return failure.hint(format!("the session ended; log in again: `exuvia fleet login {}`", self.controller));
        }
        if is_code(Code::InvalidAuth) {
            return failure.hint("check name and password; `exuvia controller reset-password CONFIG` sets a new one");
        }
        if let Some(seconds) = answer.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()) {
            return failure.hint(format!("try again in {seconds} s"));
        }
        if can_be_repeated {
            return failure.hint(format!("the controller's log has more under request `{}`", error.request_id));
        }
        failure
    }
}

/// What the controller said, shortest first: its code and the sentence that says the most.
fn told(error: &ErrorView) -> String {
    let sentence = error.cause_message.as_deref().unwrap_or(&error.message);
    format!("the controller answered `{}`: {}", printable(&error.code), printable(sentence))
}

/// Percent-encoded for a query.
pub(in crate::commands) fn encoded(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => text.push(char::from(byte)),
            byte => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}
