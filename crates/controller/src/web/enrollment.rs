//! What a router calls before it has a control channel: versions, CA certificates, enrollment, extension over HTTPS.

use std::collections::BTreeMap;

use api::ziti::{ApiVersionView, EnrollRequest, EnrollView, VersionView};
use api::{ApiError, CLIENT_BASE, Code, FABRIC_BASE, MANAGEMENT_BASE, NATIVE_BASE};
use axum::response::Response;
use http::HeaderValue;
use lifecycle::RouterId;
use lifecycle::issuance::{Answer, EnrollmentKind, Input};
use pki::{Certificate, Usage};
use store::register::Submission;

use super::DONE;
use super::call::Call;
use super::reply::{self, of_enrollment, of_extension, of_register};
use crate::dice;

pub(super) fn version(call: &Call) -> Result<Response, ApiError> {
    let at = |base: &str| {
        let url = format!("https://{}{base}", call.web.api_address);
        let view = ApiVersionView { path: base.to_owned(), api_base_urls: vec![url] };
        BTreeMap::from([("v1".to_owned(), view)])
    };
    let bindings = [
        ("edge", CLIENT_BASE),
        ("edge-client", CLIENT_BASE),
        ("edge-management", MANAGEMENT_BASE),
        ("fabric", FABRIC_BASE),
        ("exuvia", NATIVE_BASE),
    ];
    reply::one(VersionView {
        version: concat!("v", env!("CARGO_PKG_VERSION")).to_owned(),
        revision: option_env!("EXUVIA_REVISION").unwrap_or("unknown").to_owned(),
        build_date: option_env!("EXUVIA_BUILD_DATE").unwrap_or("unknown").to_owned(),
        runtime_version: "rust".to_owned(),
        capabilities: Vec::new(),
        api_versions: bindings.into_iter().map(|(name, base)| (name.to_owned(), at(base))).collect(),
    })
}

pub(super) fn ca_certificates(call: &Call) -> Result<Response, ApiError> {
    let body = call.web.enroller.signer().est_body();
    let mut response = reply::plain(DONE, "application/pkcs7-mime", body.to_string());
    response.headers_mut().insert("content-transfer-encoding", HeaderValue::from_static("base64"));
    Ok(response)
}

pub(super) async fn enroll(call: Call) -> Result<Response, ApiError> {
    let token = call
        .parameter("token")
        .filter(|token| dice::is_uuid(token))
        .ok_or_else(|| ApiError::field(Code::CouldNotValidate, "token", "must be a UUID", None))?;
    let kind = match call.parameter("method") {
        Some("erott") => EnrollmentKind::Edge,
        Some("trott") => EnrollmentKind::Transit,
        given => {
            let reason = "must be `erott` (edge router) or `trott` (transit router)";
            return Err(ApiError::field(Code::InvalidEnrollMethod, "method", reason, given.map(Into::into)));
        }
    };
    let request: EnrollRequest = call.json()?;
    let (client, server) = (request.cert_csr.unwrap_or_default(), request.server_cert_csr.unwrap_or_default());
    let chains = call.web.enroller.enroll(token, kind, client, server).await.map_err(of_enrollment)?;
    reply::one(EnrollView {
        cert: chains.client_pem.to_string(),
        server_cert: chains.server_pem.to_string(),
        ca: Some(call.web.enroller.signer().bundle_pem().to_string()),
    })
}

/// Upstream swaps the fingerprint before it answers, so a lost answer locks the router out. Here the leaf in use stays
/// admitted until the new one is used, which makes this exchange as safe as the one on the control channel.
pub(super) async fn extend(call: Call) -> Result<Response, ApiError> {
    let request: EnrollRequest = call.json()?;
    let leaf = proven_leaf(&call).await?;
    let router = RouterId::new(leaf.cn().unwrap_or_default());
    let unauthorized = || ApiError::because(Code::Unauthorized, "the presented leaf is not admitted");
    let record = call.web.register.record(router.clone()).await.map_err(of_register)?.ok_or_else(unauthorized)?;
    let policy = call.web.enroller.signer().policy();
    let fingerprint = leaf.fingerprint();
    record
        .check_link(call.now, &policy, fingerprint)
        .map_err(|refusal| ApiError::because(Code::Unauthorized, refusal.reason()))?;
    // Whoever shows a leaf here has it stored: it is as good as confirmed, and the next one must not displace it.
    let confirm = Input::Confirm { epoch: record.epoch, fingerprint };
    let submission = Submission::new(router.clone(), call.now, policy, confirm).by(call.by().actor);
    let confirmed = call.web.register.submit(submission).await.map_err(of_register)?;
    if !matches!(confirmed.answer, Answer::Confirmed(_)) {
        return Err(unauthorized());
    }
    let (client, server) = (request.cert_csr.unwrap_or_default(), request.server_cert_csr.unwrap_or_default());
    let extended = call.web.enroller.extend(&router, record.epoch, client, server).await.map_err(of_extension)?;
    reply::one(EnrollView {
        cert: extended.chains.client_pem.to_string(),
        server_cert: extended.chains.server_pem.to_string(),
        ca: None,
    })
}

/// The leaf whose key the handshake proved, if its chain leads to our bundle now.
async fn proven_leaf(call: &Call) -> Result<Certificate, ApiError> {
    let peer = call
        .peer
        .clone()
        .ok_or_else(|| ApiError::because(Code::Unauthorized, "the TLS handshake presented no client certificate"))?;
    let signer = call.web.enroller.signer().clone();
    let now = call.now;
    let validated = tokio::task::spawn_blocking(move || {
        let presented: Vec<_> = peer.iter().cloned().collect();
        pki::validate_chain(&presented, signer.bundle(), now.wall, Usage::Client)
    });
    let validated = validated.await.map_err(|_| ApiError::new(Code::Unavailable))?;
    validated.map_err(|error| ApiError::because(Code::Unauthorized, error.to_string()))
}
