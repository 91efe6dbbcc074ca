//! HTTP over our own TLS: a small client, and a server for any hyper or tower service.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::{Body, Incoming};
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;

mod client;
mod server;

pub use client::{HttpAnswer, HttpClient, HttpConnection, HttpError, learn_server_certificates};
pub(crate) use server::serve_http;
pub use server::{HttpLimits, HttpListener, Remote};

/// Any error, where it is only passed on.
pub type AnyError = Box<dyn std::error::Error + Send + Sync>;
/// The body of a response, whatever made it.
pub type AnyBody = UnsyncBoxBody<Bytes, ServiceFailure>;

/// A service, or the body it answered with, failed; the connection ends.
#[derive(Debug, thiserror::Error)]
#[error("a request could not be answered")]
pub struct ServiceFailure(#[source] AnyError);

type Answering = Pin<Box<dyn Future<Output = Result<Response<AnyBody>, ServiceFailure>> + Send>>;

/// What answers requests: any service, its types forgotten. Cheap to clone.
///
/// Each request carries [`Remote`] and, if the client presented certificates, `Arc<PeerCertificates>` in its extensions.
#[derive(Clone)]
pub struct HttpService(Arc<dyn Fn(Request<Incoming>) -> Answering + Send + Sync>);

impl HttpService {
    /// From a hyper service.
    pub fn new<S, B>(service: S) -> Self
    where
        S: Service<Request<Incoming>, Response = Response<B>> + Send + Sync + 'static,
        S::Future: Send + 'static,
        S::Error: Into<AnyError>,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<AnyError>,
    {
        Self(Arc::new(move |request| {
            let answering = service.call(request);
            Box::pin(async move {
                let response = answering.await.map_err(|error| ServiceFailure(error.into()))?;
                Ok(response.map(|body| body.map_err(|error| ServiceFailure(error.into())).boxed_unsync()))
            })
        }))
    }

    /// From a tower service, such as axum's router.
    pub fn tower<S, B>(service: S) -> Self
    where
        TowerToHyperService<S>:
            Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Send + Sync + 'static,
        <TowerToHyperService<S> as Service<Request<Incoming>>>::Future: Send + 'static,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<AnyError>,
    {
        Self::new(TowerToHyperService::new(service))
    }

    pub(crate) fn answer(&self, request: Request<Incoming>) -> Answering {
        (self.0)(request)
    }
}

impl std::fmt::Debug for HttpService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HttpService")
    }
}
