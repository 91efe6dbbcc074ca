//! One request, its caller proven and its body read.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use api::{ApiError, Code, Route};
use axum::body::Body;
use axum::extract::{Query, Request};
use bytes::Bytes;
use http::header;
use http_body_util::BodyExt as _;
use lifecycle::{Now, RouterId};
use net::http::Remote;
use net::peer::PeerCertificates;
use serde::de::DeserializeOwned;
use store::register::By;
use tokio::sync::OwnedSemaphorePermit;

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
    /// The body's share of what all bodies may take.
    _room: Option<OwnedSemaphorePermit>,
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
        let (body, room) = if row.body.is_some() { body(web, request).await? } else { (Bytes::new(), None) };
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
            _room: room,
        })
    }

    /// The first query parameter of this name.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// All query parameters of this name.
    pub(super) fn parameters<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.query.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
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

async fn body(web: &Web, request: Request) -> Result<(Bytes, Option<OwnedSemaphorePermit>), ApiError> {
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
    match tokio::time::timeout(BODY_TIME, collect(web, request.into_body())).await {
        Ok(collected) => collected,
        Err(_) => Err(ApiError::because(Code::CouldNotValidate, "the body did not arrive in time")),
    }
}

/// The body, and its share of what all bodies may take together. Room is taken for what has arrived, not for what is announced.
async fn collect(web: &Web, mut body: Body) -> Result<(Bytes, Option<OwnedSemaphorePermit>), ApiError> {
    let (mut collected, mut room) = (Vec::new(), None::<OwnedSemaphorePermit>);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| ApiError::because(Code::CouldNotValidate, "the body broke off"))?;
        let Ok(data) = frame.into_data() else { continue };
        if collected.len() + data.len() > web.body_bytes_max {
            return Err(too_large(web.body_bytes_max));
        }
        let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
        let more = web.0.bodies.clone().try_acquire_many_owned(length);
        let more = more.map_err(|_| ApiError::new(Code::ServerTooManyRequests).retry_after(1))?;
        match &mut room {
            Some(room) => room.merge(more),
            None => room = Some(more),
        }
        collected.extend_from_slice(&data);
    }
    Ok((collected.into(), room))
}
