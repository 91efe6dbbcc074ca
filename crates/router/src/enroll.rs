//! The router's first identity, from a one-time token.
//!
//! ```text
//!   token ─▶ whose certificate signed it? ─▶ its CAs ─▶ keys durable ─▶ POST ─▶ check ─▶ leaves durable ─▶ configured paths
//! ```
//!
//! Everything may be repeated after a failure at any point: the keys are kept, and the same request gets the same leaves.
//! Source: `openziti/ziti:router/enroll/enroll.go`, `openziti/sdk-golang:ziti/enroll/enroll.go`.

mod command;

use std::path::Path;
use std::sync::Arc;

use ::config::Address;
use ::http::{Method, Request, StatusCode};
use lifecycle::manifest::Manifest;
use lifecycle::{GenerationNumber, RouterId, enrollment};
use net::connect::{ConnectTimeouts, Endpoint};
use net::http::{HttpClient, HttpError, learn_server_certificates};
use net::tls::ServerTrust;
use pki::{
    Attribute, Certificate, ChainError, EnrollmentToken, Expected, KeyError, KeyKind, PrivateKey, Subject, TokenError,
    TrustBundle, build_csr, check_issued, decode_cacerts, peek_issuer,
};
use serde::Deserialize;
use store::generation::{Keys, PrivatePem};
use zeroize::Zeroizing;

use crate::clock;
use crate::commit::{CommitError, Custody};
use crate::config::{CsrSettings, IdentitySource, Rekey, RouterConfig};

pub use command::{EnrollFailure, Enrolled, enroll};

/// Why there is no identity yet.
#[derive(Debug, thiserror::Error)]
pub enum EnrollError {
    /// The token.
    #[error("the enrollment token is of no use")]
    Token(#[from] TokenError),
    /// The token's issuer is no address.
    #[error("the token names `{0}` as its issuer, which is no `https://` address")]
    Issuer(String),
    /// The controller cannot be reached, or is not who signed the token.
    #[error("the controller's API cannot be used")]
    Http(#[from] HttpError),
    /// It presented something that is no certificate.
    #[error("the controller presents an unreadable certificate")]
    Presented(#[from] pki::CertificateError),
    /// Its CAs.
    #[error("the controller's CA certificates cannot be read")]
    Cas(#[from] pki::EstError),
    /// Its CAs again, as PEM.
    #[error("the controller's CA certificates cannot be read")]
    Bundle(#[from] ChainError),
    /// The controller says no.
    #[error("the controller refused the enrollment: {code}{}{message}", if .message.is_empty() { "" } else { ": " })]
    Refused {
        /// HTTP status.
        status: u16,
        /// OpenZiti's code, such as `INVALID_ENROLLMENT_TOKEN`.
        code: String,
        /// For people.
        message: String,
    },
    /// The answer makes no sense.
    #[error("the controller answered with something that is no enrollment")]
    Answer,
    /// The leaves are not ours.
    #[error("the controller issued certificates that this router cannot use")]
    Issued(#[from] pki::IssuedError),
    /// The request cannot be made.
    #[error("the certificate request cannot be made")]
    Csr(#[from] pki::CsrError),
    /// Its subject.
    #[error("the subject of the certificate request cannot be made; check the section `csr`")]
    Subject(#[from] pki::SubjectError),
    /// Keys.
    #[error("the private key cannot be used")]
    Key(#[from] KeyError),
    /// The disk.
    #[error("the identity cannot be kept")]
    Commit(#[from] CommitError),
    /// There is another router's identity at the configured paths.
    #[error("`{path}` holds the identity of another router, `{found}`; the token is for `{wanted}`")]
    OtherRouter {
        /// The file.
        path: String,
        /// Whose it is.
        found: String,
        /// Whom the token is for.
        wanted: RouterId,
    },
    /// There is something at the configured paths that is no certificate.
    #[error("`{path}` exists and is no certificate")]
    NotOurs {
        /// The file.
        path: String,
    },
    /// Something is at the configured paths that cannot be looked at.
    #[error("cannot read `{path}`, so it is not replaced")]
    Unreadable {
        /// The file.
        path: String,
        /// What the kernel says.
        #[source]
        source: std::io::Error,
    },
    /// Another attempt came between.
    #[error("a renewal began meanwhile; enroll again")]
    Overtaken,
}

impl EnrollError {
    /// What a person can do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Token(TokenError::Expired { .. }) => {
                "ask for a new token, and compare this machine's clock with the controller's"
            }
            Self::Token(_) | Self::Issuer(_) => "copy the token file again from the controller",
            Self::Http(_) => {
                "check that the controller's API listens at the token's issuer and that nothing in between blocks it"
            }
            Self::Presented(_) | Self::Cas(_) | Self::Bundle(_) | Self::Answer => {
                "check that the token's issuer is a controller's API"
            }
            Self::Refused { code, .. } if code == "INVALID_ENROLLMENT_TOKEN" => {
                "the token was used or withdrawn; if it was used here, `exuvia router run` goes on with what it brought, otherwise create a new one on the controller (re-enroll)"
            }
            Self::Refused { code, .. } if code == "ENROLLMENT_EXPIRED" => {
                "create a new token on the controller (re-enroll)"
            }
            Self::Refused { status: 429, .. } => {
                "wait as long as it says and enroll again; the token is as good as before (too many enrollments failed, perhaps others behind the same address)"
            }
            Self::Refused { .. } => "look into the controller's log",
            Self::Issued(_) => "check the names in `csr.sans` and the controller's signing CA",
            Self::Csr(_) | Self::Subject(_) => "correct the section `csr` of the configuration",
            Self::Key(_) => "move the key file away and enroll again",
            Self::Commit(error) => error.hint(),
            Self::OtherRouter { .. } | Self::NotOurs { .. } => {
                "move the file away, or enroll with `--force` to replace it"
            }
            Self::Unreadable { .. } => "run the command as the user to whom the file belongs, or give it to this user",
            Self::Overtaken => "run the command again",
        }
    }
}

/// A token that was believed, and how to reach who gave it.
#[derive(Debug)]
pub struct Introduction {
    /// What the token says.
    pub token: EnrollmentToken,
    api: String,
    client: HttpClient,
}

/// What the controller issued.
#[derive(Clone, Debug)]
pub struct Enrollment {
    client_pem: String,
    server_pem: String,
    bundle_pem: String,
}

#[derive(Deserialize)]
struct Envelope {
    data: EnvelopeData,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EnvelopeData {
    cert: String,
    server_cert: String,
    ca: String,
}

#[derive(Deserialize)]
struct ErrorEnvelope {
    error: ErrorBody,
}

#[derive(Deserialize)]
struct ErrorBody {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
    #[serde(default, rename = "causeMessage")]
    cause: String,
}

/// Finds out who signed the token, believes it, and fetches the CAs that the rest is checked with.
///
/// # Errors
/// [`EnrollError`]; nothing was changed anywhere.
pub async fn introduce(jwt: &str) -> Result<Introduction, EnrollError> {
    let issuer = peek_issuer(jwt)?;
    let uri: ::http::Uri = issuer.parse().map_err(|_| EnrollError::Issuer(issuer.clone()))?;
    let host = uri.host().filter(|_| uri.scheme_str() == Some("https"));
    let host = host.ok_or_else(|| EnrollError::Issuer(issuer.clone()))?;
    let endpoint = Endpoint::new(host, uri.port_u16().unwrap_or(443));
    let presented = learn_server_certificates(&endpoint, ConnectTimeouts::default()).await?;
    let certificate = Certificate::from_der(presented.leaf())?;
    let token = EnrollmentToken::verify(jwt, &certificate, clock::wall())?;
    let has_path = !matches!(uri.path(), "" | "/");
    let base = issuer.trim_end_matches('/');
    let api = if has_path { base.to_owned() } else { format!("{base}/edge/client/v1") };
    let pinned = HttpClient::new(ServerTrust::exact_leaf(presented.leaf().clone()));
    let request = Request::builder()
        .method(Method::GET)
        .uri(format!("{api}/.well-known/est/cacerts"))
        .body(bytes::Bytes::new())
        .map_err(|_| EnrollError::Issuer(issuer.clone()))?;
    let answer = pinned.send(request).await?;
    if answer.status != StatusCode::OK {
        return Err(refusal(&answer));
    }
    let bundle = decode_cacerts(&answer.body)?;
    let trust = ServerTrust::bundle(&bundle).map_err(HttpError::from)?;
    Ok(Introduction { token, api, client: HttpClient::new(trust) })
}

impl Introduction {
    /// Asks for the leaves. Asking again with the same keys gets the same ones, on an Exuvia controller.
    ///
    /// # Errors
    /// [`EnrollError::Http`] leaves open whether the controller has acted on it.
    pub async fn post(&self, requests: &Requests) -> Result<Enrollment, EnrollError> {
        let secret = &self.token.secret;
        let uri =
            Zeroizing::new(format!("{}/enroll?method={}&token={}", self.api, self.token.method.as_str(), **secret));
        let body = serde_json::json!({ "serverCertCsr": requests.server_csr_pem, "certCsr": requests.client_csr_pem });
        let request = Request::builder()
            .method(Method::POST)
            .uri(uri.as_str())
            .header("content-type", "application/json")
            .body(bytes::Bytes::from(body.to_string()))
            .map_err(|_| EnrollError::Issuer(self.api.clone()))?;
        let answer = self.client.send(request).await?;
        if answer.status != StatusCode::OK {
            return Err(refusal(&answer));
        }
        let envelope: Envelope = serde_json::from_slice(&answer.body).map_err(|_| EnrollError::Answer)?;
        let EnvelopeData { cert, server_cert, ca } = envelope.data;
        Ok(Enrollment { client_pem: cert, server_pem: server_cert, bundle_pem: ca })
    }
}

fn refusal(answer: &net::http::HttpAnswer) -> EnrollError {
    let status = answer.status.as_u16();
    match serde_json::from_slice::<ErrorEnvelope>(&answer.body) {
        Ok(ErrorEnvelope { error: ErrorBody { code, message, cause } }) => {
            // OpenZiti's sentence for the code says less than what it was caused by.
            let message = if cause.is_empty() { message } else { format!("{message}: {cause}") };
            EnrollError::Refused { status, code, message }
        }
        Err(_) => EnrollError::Refused { status, code: format!("HTTP {status}"), message: String::new() },
    }
}

/// Both certificate requests.
#[derive(Clone, Debug)]
pub struct Requests {
    client_csr_pem: String,
    server_csr_pem: String,
}

/// Makes keys durable for an enrollment, or finds those of one that was interrupted.
///
/// # Errors
/// When they cannot be made durable.
pub fn begin(
    custody: &mut Custody,
    manifest: Manifest,
    rekey: Rekey,
    key_at_hand: Option<Keys>,
) -> Result<GenerationNumber, EnrollError> {
    // Those of an interrupted enrollment go on, since their request may have been answered. Those of an interrupted renewal may be the
    // old ones.
    let is_reusable = rekey == Rekey::Never || !custody.prepared_keys_are_old();
    let prepared = custody.prepared().filter(|_| is_reusable).map(|keys| keys.number);
    let step = enrollment::begin(clock::now(), manifest, prepared);
    if let Some(lifecycle::renewal::Barrier::Prepare { number, .. }) = step.barrier() {
        let number = *number;
        match key_at_hand {
            Some(keys) => custody.bring_keys(number, keys)?,
            // Whoever enrolls anew may do so because the old key is in the wrong hands.
            None if rekey != Rekey::Never => {
                let keys = fresh_keys(custody.making().has_server_key)?;
                custody.bring_keys(number, keys)?;
            }
            None => {}
        }
    }
    Ok(step.settle(|barrier| custody.commit(barrier))?)
}

fn fresh_keys(has_server_key: bool) -> Result<Keys, KeyError> {
    let make = || -> Result<PrivatePem, KeyError> {
        Ok(PrivatePem::new(PrivateKey::generate(KeyKind::P256)?.to_pem()?.as_bytes().to_vec()))
    };
    Ok(Keys { key: make()?, server_key: if has_server_key { Some(make()?) } else { None } })
}

/// The requests for the keys that [`begin`] made durable.
///
/// # Errors
/// When the configured subject or names cannot be in a certificate.
pub fn requests(
    custody: &Custody,
    number: GenerationNumber,
    router: &RouterId,
    csr: &CsrSettings,
) -> Result<Requests, EnrollError> {
    let keys = custody.prepared().filter(|keys| keys.number == number).ok_or(EnrollError::Overtaken)?;
    let subject = Subject::new(
        router.as_str(),
        &[
            (Attribute::Country, &csr.country),
            (Attribute::State, &csr.province),
            (Attribute::Locality, &csr.locality),
            (Attribute::Organization, &csr.organization),
            (Attribute::OrganizationalUnit, &csr.organizational_unit),
        ],
    )?;
    let sans = sans_of(csr);
    Ok(Requests {
        client_csr_pem: build_csr(&keys.client, &subject, &sans)?,
        server_csr_pem: build_csr(&keys.server, &subject, &sans)?,
    })
}

/// The configured names.
pub(crate) fn sans_of(csr: &CsrSettings) -> pki::Sans {
    let sans = &csr.sans;
    pki::Sans { dns: sans.dns.clone(), ips: sans.ip.clone(), uris: sans.uri.clone(), emails: sans.email.clone() }
}

/// Checks what was issued and makes it durable. Returns the manifest that names it.
///
/// # Errors
/// When it is not ours, or cannot be kept.
pub fn finish(
    custody: &mut Custody,
    manifest: Manifest,
    number: GenerationNumber,
    router: &RouterId,
    enrollment: &Enrollment,
) -> Result<Manifest, EnrollError> {
    let keys = custody.prepared().filter(|keys| keys.number == number).ok_or(EnrollError::Overtaken)?;
    let bundle = TrustBundle::from_pem(enrollment.bundle_pem.as_bytes())?;
    let expected = Expected {
        router,
        client_key: keys.client.key_id(),
        server_key: keys.server.key_id(),
        bundle: &bundle,
        hosts: &[],
    };
    let (client, server) = (enrollment.client_pem.as_bytes(), enrollment.server_pem.as_bytes());
    let issued = check_issued(client, server, &expected)?;
    let issued = custody.lay_down(number, &issued, client, server, bundle.to_pem().as_bytes())?;
    let step = enrollment::finish(clock::now(), manifest, number, issued);
    Ok(step.settle(|barrier| custody.commit(barrier))?)
}

/// Refuses to replace what is not this router's.
///
/// # Errors
/// When `identity.cert` belongs to somebody else.
pub fn guard(config: &RouterConfig, router: &RouterId) -> Result<(), EnrollError> {
    let IdentitySource::Path(path) = &config.identity.cert else { return Ok(()) };
    let shown = path.display().to_string();
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(EnrollError::Unreadable { path: shown, source }),
    };
    if text.iter().all(u8::is_ascii_whitespace) {
        return Ok(());
    }
    match pki::Chain::from_pem(&text) {
        Ok(chain) if chain.leaf().cn() == Some(router.as_str()) => Ok(()),
        Ok(chain) => Err(EnrollError::OtherRouter {
            path: shown,
            found: chain.leaf().cn().unwrap_or_default().to_owned(),
            wanted: router.clone(),
        }),
        Err(_) => Err(EnrollError::NotOurs { path: shown }),
    }
}

/// A key that somebody laid at `identity.key` before there was any certificate is used, as OpenZiti does.
///
/// # Errors
/// When it is there and of no use.
pub fn key_at_hand(config: &RouterConfig) -> Result<Option<Keys>, EnrollError> {
    let read = |source: &IdentitySource| -> Result<Option<PrivatePem>, EnrollError> {
        let text = match source {
            IdentitySource::Path(path) => match std::fs::read(path) {
                Ok(text) => Zeroizing::new(text),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
                Err(source) => return Err(EnrollError::Unreadable { path: path.display().to_string(), source }),
            },
            IdentitySource::Inline(pem) => Zeroizing::new(pem.as_str().as_bytes().to_vec()),
            IdentitySource::Engine { .. } => return Ok(None),
        };
        PrivateKey::from_pem(&text)?;
        Ok(Some(PrivatePem::from(text)))
    };
    let has_certificate = matches!(&config.identity.cert, IdentitySource::Path(path) if path.exists());
    if has_certificate {
        return Ok(None);
    }
    let Some(key) = read(&config.identity.key)? else { return Ok(None) };
    let server_key = match &config.identity.server_key {
        None => None,
        Some(source) => match read(source)? {
            Some(key) => Some(key),
            None => fresh_keys(true)?.server_key,
        },
    };
    Ok(Some(Keys { key, server_key }))
}

/// Writes where the controllers are: what is configured, and what the token says.
///
/// # Errors
/// Whatever the disk says.
pub fn write_endpoints(file: &Path, configured: &[Address], token: &EnrollmentToken) -> std::io::Result<()> {
    let mut endpoints = configured.to_vec();
    for text in &token.controllers {
        if let Ok(address) = text.parse::<Address>()
            && !endpoints.contains(&address)
        {
            endpoints.push(address);
        }
    }
    if endpoints.is_empty() {
        return Ok(());
    }
    let content = crate::config::EndpointsFile { endpoints, ..Default::default() };
    crate::control::write_atomically(file, content.render().as_bytes())
}

/// How far an enrollment that a daemon does for somebody else has come.
#[derive(Debug)]
pub enum EnrollmentNews {
    /// The token was believed, or not.
    Introduced(Result<Arc<Introduction>, EnrollError>),
    /// The controller answered, or not.
    Answered(Result<Enrollment, EnrollError>),
}
