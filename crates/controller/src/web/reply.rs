//! Views into responses, errors of every layer into errors that travel.

use std::time::Duration;

use api::envelope::{Created, Empty, Envelope, ListEnvelope, ListMeta, Pagination};
use api::error::CauseView;
use api::filter::Field;
use api::{ApiError, Code};
use axum::body::Body;
use axum::response::Response;
use http::{HeaderValue, StatusCode, header};
use lifecycle::Now;
use pki::CsrError;
use serde::Serialize;
use store::register::RegisterError;

use super::DONE;
use super::session::Session;
use crate::enroll::{EnrollError, ExtendError, MintError};
use crate::signer::{SignerError, rfc3339};

/// Clients of OpenZiti look for its name first.
const SERVER: &str = concat!("ziti-controller/v", env!("CARGO_PKG_VERSION"), " (exuvia)");

pub(super) fn one<T: Serialize>(view: T) -> Result<Response, ApiError> {
    json(DONE, &Envelope::new(view))
}

pub(super) fn done() -> Result<Response, ApiError> {
    one(Empty {})
}

pub(super) fn created(collection: &str, id: &str) -> Result<Response, ApiError> {
    json(StatusCode::CREATED, &Envelope::new(Created::new(collection, id)))
}

pub(super) fn page<T: Serialize>(rows: Vec<T>, pagination: Pagination, fields: &[Field]) -> Result<Response, ApiError> {
    let filterable_fields = fields.iter().map(|field| field.name.to_owned()).collect();
    json(DONE, &ListEnvelope { data: rows, meta: ListMeta { pagination, filterable_fields } })
}

pub(super) fn json(status: StatusCode, view: &impl Serialize) -> Result<Response, ApiError> {
    let body = serde_json::to_vec(view).map_err(|error| ApiError::because(Code::Unhandled, error.to_string()))?;
    Ok(plain(status, "application/json", body))
}

pub(super) fn plain(status: StatusCode, content_type: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// The response as it leaves, error or not.
pub(super) fn finish(result: Result<Response, ApiError>, request_id: &str) -> Response {
    let mut response = result.unwrap_or_else(|error| failure(error, request_id));
    let headers = response.headers_mut();
    headers.insert(header::SERVER, HeaderValue::from_static(SERVER));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

fn failure(error: ApiError, request_id: &str) -> Response {
    let status = StatusCode::from_u16(error.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let retry_after_s = error.retry_after_s;
    let view = error.into_view(request_id.to_owned());
    // The view holds texts only, so it always has a JSON form.
    let body = serde_json::to_vec(&view).unwrap_or_default();
    let mut response = plain(status, "application/json", body);
    let headers = response.headers_mut();
    if status == StatusCode::UNAUTHORIZED {
        let realms = HeaderValue::from_static("zt-session realm=\"zt-session\", Bearer realm=\"exuvia\"");
        headers.insert(header::WWW_AUTHENTICATE, realms);
    }
    if let Some(seconds) = retry_after_s {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// How long the session still lasts, as upstream tells it (`openziti/ziti:controller/response/headers.go`).
pub(super) fn add_session(response: &mut Response, session: &Session, idle: Duration, now: Now) {
    let headers = response.headers_mut();
    headers.insert("expiration-seconds", HeaderValue::from(idle.as_secs()));
    if let Ok(at) = HeaderValue::from_str(&rfc3339(session.expires_at(now, idle))) {
        headers.insert("expires-at", at);
    }
}

pub(super) fn of_register(error: RegisterError) -> ApiError {
    match &error {
        RegisterError::UnknownRouter(_) => ApiError::because(Code::NotFound, error.to_string()),
        RegisterError::NameTaken(name) => {
            ApiError::field(Code::CouldNotValidate, "name", error.to_string(), Some(name.clone().into()))
        }
        RegisterError::IdTaken(id) => {
            ApiError::field(Code::CouldNotValidate, "id", error.to_string(), Some(id.as_str().into()))
        }
        RegisterError::CommitFailed { .. } | RegisterError::ReadFailed { .. } | RegisterError::Closed => {
            ApiError::because(Code::Unavailable, error.to_string()).retry_after(1)
        }
        _ => ApiError::because(Code::Unhandled, error.to_string()),
    }
}

pub(super) fn of_mint(error: MintError) -> ApiError {
    ApiError::because(Code::Unhandled, error.to_string())
}

pub(super) fn of_enrollment(error: EnrollError) -> ApiError {
    let code = match error {
        EnrollError::InvalidToken => Code::InvalidEnrollmentToken,
        EnrollError::WrongMethod => Code::InvalidEnrollMethod,
        EnrollError::Expired => Code::EnrollmentExpired,
        EnrollError::MissingRequest(_) => Code::MissingOrInvalidCsr,
        EnrollError::WrongRouter(error) => return wrong_common_name(&error),
        EnrollError::Signer(error) => return of_signer(&error),
        EnrollError::Register(error) => return of_register(error),
    };
    ApiError::because(code, error.to_string())
}

pub(super) fn of_extension(error: ExtendError) -> ApiError {
    use lifecycle::issuance::RequestRefusal;
    match error {
        ExtendError::Refused(RequestRefusal::IssuerEndsSoon) => {
            ApiError::because(Code::IssuerEndsSoon, error.to_string())
        }
        ExtendError::Refused(_) => ApiError::because(Code::Unauthorized, error.to_string()),
        ExtendError::WrongRouter(error) => wrong_common_name(&error),
        ExtendError::Signer(error) => of_signer(&error),
        ExtendError::Register(error) => of_register(error),
    }
}

fn of_signer(error: &SignerError) -> ApiError {
    let code = match error {
        SignerError::Csr { .. } | SignerError::San { .. } => Code::CouldNotProcessCsr,
        SignerError::IssuerEnds(_) => Code::IssuerEndsSoon,
        SignerError::Issue(_) => Code::Unhandled,
        SignerError::Stopping => Code::Unavailable,
    };
    ApiError::because(code, error.to_string())
}

/// Upstream nests this code as the cause (`openziti/ziti:controller/model/enrollment_mod_erott.go`).
fn wrong_common_name(error: &CsrError) -> ApiError {
    let cause = CauseView {
        code: Some("EDGE_ROUTER_ENROLL_COMMON_NAME_INVALID".to_owned()),
        message: Some(error.to_string()),
        field: None,
        reason: None,
        value: None,
    };
    ApiError { cause: Some(Box::new(cause)), ..ApiError::new(Code::CouldNotProcessCsr) }
}
