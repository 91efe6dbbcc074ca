//! The section `web`: OpenZiti's health checks, metrics and versions, over TLS with the router's server leaf.
//!
//! A renewal switches the leaf for handshakes that begin afterwards; connections that are open stay open.
//! Shape of the answers: `openziti/ziti:controller/webapis/controller-health-checks-api.go`,
//! `openziti/ziti:router/health_check_api.go`.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ::http::{Method, Request, Response, StatusCode, header};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use lifecycle::UnixTime;
use net::credentials::CredentialsSlot;
use net::http::{HttpLimits, HttpListener, HttpService};
use net::stop::StopSignal;
use net::tls::ClientCertificate;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::clock;
use crate::config::{WebApi, WebListener};
use crate::metrics::Metrics;
use crate::status::StatusView;

/// Why a web listener does not listen.
#[derive(Debug, thiserror::Error)]
#[error("the web listener `{name}` cannot listen on `{interface}`")]
pub struct WebError {
    /// Its name.
    pub name: String,
    /// Host and port.
    pub interface: String,
    /// What the kernel says.
    #[source]
    pub source: std::io::Error,
}

impl WebError {
    /// What a person can do about it.
    pub fn hint(&self) -> &'static str {
        match self.source.kind() {
            std::io::ErrorKind::AddrInUse => {
                "another process listens there; stop it, or change `web[].bindPoints[].interface`"
            }
            std::io::ErrorKind::PermissionDenied => "ports below 1024 need a capability; choose another port",
            _ => "check `web[].bindPoints[].interface`",
        }
    }
}

/// A bound listener that serves nobody yet.
#[derive(Debug)]
pub struct Bound {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its name in the configuration.
    pub name: String,
    listener: TcpListener,
    serves_metrics: bool,
}

/// Binds every bind point, so that a port that is taken is known before anything else begins.
///
/// # Errors
/// The first that cannot listen.
pub async fn bind(listeners: &[WebListener]) -> Result<Vec<Bound>, WebError> {
    let mut bound = Vec::new();
    for WebListener { name, bind_points, apis } in listeners {
        for point in bind_points {
            let at = &point.interface;
            let failed = |source| WebError { name: name.clone(), interface: at.to_string(), source };
            let listener = TcpListener::bind((at.host.as_str(), at.port)).await.map_err(failed)?;
            let address = listener.local_addr().map_err(failed)?;
            let serves_metrics = apis.contains(&WebApi::Metrics);
            bound.push(Bound { address, name: name.clone(), listener, serves_metrics });
        }
    }
    Ok(bound)
}

/// What the answers are made of.
#[derive(Clone, Debug)]
pub struct Sources {
    /// How things stand.
    pub status: watch::Receiver<Arc<StatusView>>,
    /// Figures.
    pub metrics: Arc<Metrics>,
}

/// Serves until told to stop.
pub async fn serve(bound: Bound, slot: Arc<CredentialsSlot>, sources: Sources, stop: StopSignal) {
    let Bound { address, name, listener, serves_metrics } = bound;
    let service = HttpService::new(service_fn(move |request: Request<Incoming>| {
        let answer = answer(&request, &sources, serves_metrics);
        async move { Ok::<_, Infallible>(answer) }
    }));
    let listening = HttpListener {
        credentials: Some(slot),
        // As OpenZiti does (`openziti/xweb:server.go`): who calls makes no difference here.
        clients: ClientCertificate::Asked,
        service,
        limits: HttpLimits {
            connections_max: 1024,
            // A monitor may ask once in a while on one connection.
            header: Duration::from_secs(300),
            ..HttpLimits::default()
        },
    };
    tracing::info!(target: "exuvia::router", %address, name, "web listener");
    if let Err(cause) = listening.serve(listener, stop).await {
        tracing::error!(target: "exuvia::router", %cause, name, "the web listener ended");
    }
}

fn answer(request: &Request<Incoming>, sources: &Sources, serves_metrics: bool) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return plain(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered here\n");
    }
    let status = sources.status.borrow().clone();
    let is_short = request.uri().query().is_some_and(|query| query.split('&').any(|pair| pair == "type=short"));
    match request.uri().path() {
        "/health-checks" | "/health-checks/" => json_answer(StatusCode::OK, &health(&status, is_short)),
        "/version" | "/" => json_answer(StatusCode::OK, &version()),
        "/healthz" => plain(StatusCode::OK, "ok\n"),
        "/readyz" if status.is_healthy() && status.is_connected() => plain(StatusCode::OK, "ready\n"),
        "/readyz" => {
            plain(StatusCode::SERVICE_UNAVAILABLE, "not ready: no control channel, or the identity has lapsed\n")
        }
        "/metrics" if serves_metrics => {
            let text = sources.metrics.render(&status);
            reply(StatusCode::OK, "application/openmetrics-text; version=1.0.0; charset=utf-8", text)
        }
        _ => plain(StatusCode::NOT_FOUND, "not found\n"),
    }
}

fn health(status: &StatusView, is_short: bool) -> Value {
    let leaves_hold = status.is_healthy();
    let connected = status.is_connected();
    let check = |id: &str, healthy: bool, why: &str| {
        let mut check = json!({ "id": id, "healthy": healthy });
        if let (false, Some(fields)) = (is_short, check.as_object_mut()) {
            fields.insert("lastCheckDuration".to_owned(), json!("0s"));
            fields.insert("lastCheckTime".to_owned(), json!(clock::spell(UnixTime::from_ms(status.at_ms))));
            if !healthy {
                fields.insert("err".to_owned(), json!(why));
            }
        }
        check
    };
    json!({
        "data": {
            "checks": [
                check("identity", leaves_hold, "every leaf is past its end"),
                check("controllerPing", connected, "no control channel is open"),
            ],
            "healthy": leaves_hold && connected,
        },
        "meta": {},
    })
}

fn version() -> Value {
    json!({
        "data": {
            "version": format!("v{}", crate::ZITI_VERSION),
            "revision": "exuvia",
            "buildDate": "",
            "runtimeVersion": format!("exuvia {}", crate::VERSION),
        },
        "meta": {},
    })
}

fn json_answer(status: StatusCode, value: &Value) -> Response<Full<Bytes>> {
    reply(status, "application/json", value.to_string())
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    reply(status, "text/plain; charset=utf-8", text)
}

fn reply(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content_type));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{ControllerView, LeafView};

    #[test]
    fn health_has_the_shape_that_openziti_gives_it() {
        let leaf = Some(LeafView { seconds_left: 9, ..LeafView::default() });
        let controllers = vec![ControllerView { is_connected: true, ..ControllerView::default() }];
        let mut status = StatusView { client_leaf: leaf, controllers, ..StatusView::default() };
        assert_eq!(
            health(&status, true).to_string(),
            r#"{"data":{"checks":[{"healthy":true,"id":"identity"},{"healthy":true,"id":"controllerPing"}],"healthy":true},"meta":{}}"#
        );
        status.controllers.clear();
        let long = health(&status, false);
        assert_eq!(long["data"]["healthy"], json!(false));
        assert_eq!(long["data"]["checks"][1]["err"], json!("no control channel is open"));
        assert_eq!(long["data"]["checks"][1]["lastCheckTime"], json!("1970-01-01T00:00:00Z"));
    }
}
