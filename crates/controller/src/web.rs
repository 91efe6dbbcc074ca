//! The REST interfaces: OpenZiti's enrollment and management as far as routers need them, and Exuvia's own.
//!
//! Start at [`app`]: it takes every row of [`api::ROUTES`], proves the caller, reads the body within its cap, and hands a
//! `Call` to `run`, which matches on [`Operation`]; a row that nobody serves does not compile. Handlers are thin: they
//! ask the register, the enroller and the fleet, and put the answer into views.

mod call;
mod enrollment;
mod fabric;
mod failures;
mod native;
mod observe;
mod page;
mod reply;
mod roles;
mod routers;
mod session;
mod settings;
mod stream;
mod survey;
mod view;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use api::{Access, ApiError, CLIENT_BASE, Code, Method, Operation, ROUTES, Route};
use axum::extract::{RawPathParams, Request, State};
use axum::response::Response;
use axum::routing::{MethodFilter, on};
use http::{StatusCode, Uri, header};
use lifecycle::Uptime;
use net::http::{HttpService, Remote};
use net::source::Source;
use net::stop::StopSignal;
use store::register::Register;
use tokio::sync::Semaphore;
use tower::ServiceExt as _;

use crate::clock::Clock;
use crate::dice;
use crate::enroll::Enroller;
use crate::fleet::{Events, Fleet};
use crate::metrics::Metrics;

use call::Call;
pub use failures::FailureLimits;
use failures::Failures;
pub use observe::Readiness;
use session::Sessions;
use survey::Surveyor;

/// What the REST interfaces stand on.
#[derive(Clone, Debug)]
pub struct WebParts {
    /// What must not be forgotten.
    pub register: Arc<dyn Register>,
    /// Who is connected.
    pub fleet: Arc<dyn Fleet>,
    /// Trades requests for leaves; holds the signer.
    pub enroller: Enroller,
    /// What happens.
    pub events: Events,
    /// What is counted.
    pub metrics: Metrics,
    /// Which parts work.
    pub readiness: Readiness,
    /// The time.
    pub clock: Clock,
    /// `host:port` of the API, as routers and people reach it.
    pub api_address: String,
    /// How long a session lasts without use.
    pub session_idle: Duration,
    /// Ends event streams.
    pub stop: StopSignal,
    /// The longest body of a request, in bytes.
    pub body_bytes_max: usize,
    /// All bodies under way together, in bytes.
    pub bodies_bytes_max: usize,
    /// Failed enrollments that are put up with.
    pub enrollment_failures: FailureLimits,
}

/// Requests that are worked on at once; streams do not count.
const REQUESTS_MAX: usize = 1024;

#[derive(Clone)]
struct Web(Arc<Inner>);

struct Inner {
    parts: WebParts,
    sessions: Sessions,
    failures: Failures,
    surveyor: Surveyor,
    started: Uptime,
    gate: Semaphore,
    /// A permit for each byte of the bodies under way.
    bodies: Arc<Semaphore>,
}

impl std::ops::Deref for Web {
    type Target = WebParts;

    fn deref(&self) -> &WebParts {
        &self.0.parts
    }
}

impl fmt::Debug for Web {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Web")
    }
}

/// The REST interfaces as [`net`] serves them.
pub fn service(parts: WebParts) -> HttpService {
    HttpService::tower(app(parts))
}

/// The REST interfaces as a service. Requests may carry [`net::http::Remote`] and `Arc<`[`net::peer::PeerCertificates`]`>`
/// in their extensions.
pub fn app(parts: WebParts) -> axum::Router {
    let web = Web(Arc::new(Inner {
        sessions: Sessions::new(parts.session_idle),
        failures: Failures::new(parts.enrollment_failures),
        surveyor: Surveyor::default(),
        started: parts.clock.now().uptime,
        gate: Semaphore::new(REQUESTS_MAX),
        bodies: Arc::new(Semaphore::new(parts.bodies_bytes_max.min(Semaphore::MAX_PERMITS))),
        parts,
    }));
    let mut routes = axum::Router::new();
    for row in ROUTES {
        for path in std::iter::once(&row.path).chain(row.also) {
            let serve = move |State(web): State<Web>, params: RawPathParams, request: Request| async move {
                let id = params.iter().find(|(name, _)| *name == "id").map(|(_, value)| value.to_owned());
                let serving = serve(web, row, id, request);
                if row.method == Method::Get {
                    return serving.await;
                }
                // A task of its own: a caller who hangs up takes this future along, and an order that is durable must not stop before
                // channels are closed.
                tokio::spawn(serving).await.unwrap_or_else(|_| refuse(ApiError::new(Code::Unhandled)))
            };
            routes = routes.route(path, on(filter(row.method), serve));
        }
    }
    let routes = routes
        .fallback(|request: Request| async move {
            let path = request.uri().path().to_owned();
            refuse(ApiError::because(Code::NotFound, format!("there is nothing at `{path}`")))
        })
        .method_not_allowed_fallback(|| async { refuse(ApiError::new(Code::MethodNotAllowed)) })
        .with_state(web);
    // Paths must change before they are matched, so the rewriting is a service around the router.
    axum::Router::new().fallback_service(routes.map_request(without_old_prefix))
}

fn filter(method: Method) -> MethodFilter {
    match method {
        Method::Get => MethodFilter::GET,
        Method::Post => MethodFilter::POST,
        Method::Patch => MethodFilter::PATCH,
        Method::Put => MethodFilter::PUT,
        Method::Delete => MethodFilter::DELETE,
    }
}

/// `/edge/v1/…` and the client interface's paths without any prefix lead to the client interface, as upstream
/// (`openziti/ziti:controller/webapis/client-api.go`).
fn without_old_prefix<B>(mut request: http::Request<B>) -> http::Request<B> {
    const BARE: &[&str] = &["/enroll", "/authenticate", "/current-api-session"];
    let path = request.uri().path();
    let tail = match path.strip_prefix("/edge/v1") {
        Some(tail) if tail.is_empty() || tail.starts_with('/') => tail,
        _ if BARE
            .iter()
            .any(|bare| path.strip_prefix(bare).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))) =>
        {
            path
        }
        _ => return request,
    };
    let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
    if let Ok(uri) = format!("{CLIENT_BASE}{tail}{query}").parse::<Uri>() {
        *request.uri_mut() = uri;
    }
    request
}

fn refuse(error: ApiError) -> Response {
    reply::finish(Err(error), &request_id())
}

fn request_id() -> String {
    dice::short_id().unwrap_or_default()
}

async fn serve(web: Web, row: &'static Route, id: Option<String>, request: Request) -> Response {
    let request_id = request_id();
    // Boxed: handlers differ much in size, and this one is alive for every request.
    let result = Box::pin(answer(&web, row, id, request)).await;
    if let Err(error) = &result {
        let operation = row.operation.id();
        match error.code.status() {
            500.. => tracing::error!(request_id, operation, %error, "a request failed"),
            _ => tracing::debug!(request_id, operation, %error, "a request was refused"),
        }
    }
    let response = reply::finish(result, &request_id);
    web.metrics.request(row.operation.id(), response.status().as_u16());
    response
}

async fn answer(web: &Web, row: &'static Route, id: Option<String>, request: Request) -> Result<Response, ApiError> {
    // Before anything is read: a body that says it is too large is never looked at.
    let announced =
        request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|bytes| bytes > web.body_bytes_max as u64) {
        return Err(too_large(web.body_bytes_max));
    }
    let streams = row.operation == Operation::Events;
    let _slot = if streams {
        None
    } else {
        Some(web.0.gate.try_acquire().map_err(|_| ApiError::new(Code::ServerTooManyRequests).retry_after(1))?)
    };
    let now = web.clock.now();
    let session = match row.access {
        Access::Open | Access::RouterLeaf => None,
        Access::Session => Some(web.0.sessions.touch(now, request.headers())?),
    };
    let source =
        pays_for_failures(row).and_then(|()| request.extensions().get::<Remote>().map(|remote| Source::of(remote.0)));
    if let Some(source) = source {
        web.0.failures.check(now.uptime, source)?;
    }
    let served = async { run(Call::read(web, row, id, session.clone(), request).await?).await }.await;
    if let (Some(source), Err(error)) = (source, &served)
        && error.code.status() < 500
        && error.code != Code::ServerTooManyRequests
    {
        web.0.failures.note(now.uptime, source);
    }
    let mut response = served?;
    if let Some(session) = session {
        reply::add_session(&mut response, &session, web.session_idle, now);
    }
    Ok(response)
}

/// What anybody may ask for that makes the controller look into its register and check signatures.
fn pays_for_failures(row: &Route) -> Option<()> {
    matches!(row.operation, Operation::Enroll | Operation::ExtendOverHttp).then_some(())
}

fn too_large(most: usize) -> ApiError {
    ApiError::because(Code::TooLarge, format!("at most {most} bytes are accepted"))
}

async fn run(call: Call) -> Result<Response, ApiError> {
    match call.row.operation {
        Operation::Version => enrollment::version(&call),
        Operation::CaCertificates => enrollment::ca_certificates(&call),
        Operation::Enroll => enrollment::enroll(call).await,
        Operation::ExtendOverHttp => enrollment::extend(call).await,

        Operation::Authenticate => session::authenticate(call).await,
        Operation::CurrentSession => session::current(&call),
        Operation::EndSession => session::end(&call),

        Operation::CreateEdgeRouter => routers::create_edge(call).await,
        Operation::ListEdgeRouters => routers::list_edge(call).await,
        Operation::GetEdgeRouter => routers::get_edge(call).await,
        Operation::PatchEdgeRouter => routers::patch_edge(call).await,
        Operation::UpdateEdgeRouter => routers::update_edge(call).await,
        Operation::DeleteEdgeRouter => routers::delete_edge(call).await,
        Operation::ReEnrollEdgeRouter => routers::re_enroll_edge(call).await,

        Operation::CreateTransitRouter => routers::create_transit(call).await,
        Operation::ListTransitRouters => routers::list_transit(call).await,
        Operation::GetTransitRouter => routers::get_transit(call).await,
        Operation::PatchTransitRouter => routers::patch_transit(call).await,
        Operation::UpdateTransitRouter => routers::update_transit(call).await,
        Operation::DeleteTransitRouter => routers::delete_transit(call).await,

        Operation::CreateFabricRouter => fabric::create(call).await,
        Operation::ListFabricRouters => fabric::list(call).await,
        Operation::GetFabricRouter => fabric::get(call).await,
        Operation::PatchFabricRouter => fabric::patch(call).await,
        Operation::UpdateFabricRouter => fabric::update(call).await,
        Operation::DeleteFabricRouter => fabric::delete(call).await,

        Operation::Summary => observe::summary(call).await,

        Operation::ListRouters => native::list(call).await,
        Operation::GetRouter => native::get(call).await,
        Operation::RenewRouter => native::renew(call).await,
        Operation::RevokeRouter => native::revoke(call).await,
        Operation::ReEnrollRouter => native::re_enroll(call).await,
        Operation::ReadmitRouter => native::readmit(call).await,
        Operation::DismissFork => native::dismiss_fork(call).await,
        Operation::RouterAudit => native::audit(call).await,
        Operation::Pipeline => native::pipeline(call).await,
        Operation::StartCampaign => native::start_campaign(call).await,
        Operation::EndCampaign => native::end_campaign(call).await,
        Operation::CurrentCampaign => native::current_campaign(call).await,
        Operation::Events => Ok(stream::events(&call)),

        Operation::Metrics => observe::metrics(call).await,
        Operation::Health => observe::health(&call),
        Operation::Ready => observe::ready(call).await,
    }
}

/// The status of an answer that is no error.
const DONE: StatusCode = StatusCode::OK;
