//! One request, its caller proven and its body read.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use api::{ApiError, Code, MAX_BODY_BYTES, Route};
use axum::extract::{Query, Request};
use bytes::Bytes;
use http::header;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use lifecycle::{Now, RouterId};
use net::http::Remote;
use net::peer::PeerCertificates;
use serde::de::DeserializeOwned;
use store::register::By;

use super::session::Session;
use super::{Web, too_large};

/// Time that a caller has for sending its body.
const BODY_TIME: Duration = Duration::from_secs(30);

pub(super) struct Call {
    pub(super) web: Web,
    pub(super) row: &'static Route,
    pub(super) now: Now,
    /// What stands in the path for `{id}`.
    pub(super) id: RouterId,
    pub(super) session: Option<Arc<Session>>,
    pub(super) remote: Option<SocketAddr>,
    pub(super) peer: Option<Arc<PeerCertificates>>,
    query: Vec<(String, String)>,
    body: Bytes,
}

impl Call {
    pub(super) async fn read(
        web: &Web,
        row: &'static Route,
        id: Option<String>,
        session: Option<Arc<Session>>,
        request: Request,
    ) -> Result<Self, ApiError> {
        let Query(query) = Query::try_from_uri(request.uri())
            .map_err(|_| ApiError::because(Code::CouldNotValidate, "the query string cannot be read"))?;
        let remote = request.extensions().get::<Remote>().map(|remote| remote.0);
        let peer = request.extensions().get::<Arc<PeerCertificates>>().cloned();
        let body = if row.body.is_some() { body(request).await? } else { Bytes::new() };
        Ok(Self {
            web: web.clone(),
            row,
            now: web.clock.now(),
            id: RouterId::new(id.unwrap_or_default()),
            session,
            remote,
            peer,
            query,
            body,
        })
    }

    /// The first query parameter of this name.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The body as the view that the route promises.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        serde_json::from_slice(&self.body).map_err(|error| ApiError::because(Code::CouldNotValidate, error.to_string()))
    }

    /// The administrator who asks, for the audit trail.
    pub(super) fn by(&self) -> By {
        match &self.session {
            Some(session) => By::admin(self.now, &session.admin_name),
            None => By::controller(self.now),
        }
    }

    /// There is no router with the id in the path.
    pub(super) fn not_found(&self) -> ApiError {
        ApiError::because(Code::NotFound, format!("there is no such router `{}`", self.id))
    }
}

async fn body(request: Request) -> Result<Bytes, ApiError> {
    if let Some(kind) = request.headers().get(header::CONTENT_TYPE) {
        let essence = kind.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
        if !essence.eq_ignore_ascii_case("application/json") {
            let said = essence.chars().take(80).flat_map(char::escape_default).collect::<String>();
            return Err(ApiError::because(
                Code::InvalidContentType,
                format!("`application/json` is needed, not `{said}`"),
            ));
        }
    }
    let collecting = Limited::new(request.into_body(), MAX_BODY_BYTES).collect();
    match tokio::time::timeout(BODY_TIME, collecting).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(ApiError::because(Code::CouldNotValidate, "the body broke off")),
        Err(_) => Err(ApiError::because(Code::CouldNotValidate, "the body did not arrive in time")),
    }
}
