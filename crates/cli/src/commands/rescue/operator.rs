//! The controller's API with an operator's rights, OpenZiti's and ours: what it knows of a router, and the two orders that bring one back.
//!
//! OpenZiti spreads a router over three collections. Its edge and management interfaces never let a fingerprint be set; the fabric
//! interface does, for routers of every kind (`openziti/ziti:controller/internal/routes/fabric_router_router.go`).

use std::path::Path;

use api::native::{EnrollmentView, LeafView, RouterView, StandingName};
use api::{SESSION_HEADER, Secret};
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, DATE, HeaderValue};
use http::{Method, Request};
use lifecycle::rescue::{ControllerKind, RouterKind, Standing};
use lifecycle::{RouterId, UnixTime};
use net::http::{HttpAnswer, HttpClient, HttpConnection};
use net::tls::ServerTrust;
use pki::{MAX_CERTIFICATES_PEM_BYTES, TrustBundle, decode_cacerts};
use router::rescue::Set;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::registered::{Detail, Registered};
use crate::args::Rescue;
use crate::ask;
use crate::commands::fleet::{self, Session, encoded, printable};
use crate::exit::{Exit, Failure};
use crate::files;
use crate::output::Printer;

const MANAGEMENT: &str = "/edge/management/v1";
const FABRIC: &str = "/fabric/v1";
/// Largest answer: one router, or a CA bundle.
const ANSWER_BYTES_MAX: usize = 4 << 20;
const TOKEN_BYTES_MAX: u64 = 16 * 1024;

/// One controller, with the rights of an operator.
pub(super) struct Operator {
    http: HttpClient,
    connection: Option<HttpConnection>,
    address: String,
    token: Option<Secret>,
    /// What the last answer said the time is there.
    now: Option<UnixTime>,
}

#[derive(Deserialize)]
struct Answered<T> {
    data: T,
}

#[derive(Deserialize)]
struct Begun {
    token: Secret,
}

#[derive(Deserialize)]
struct Refused {
    error: Refusal,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Refusal {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
    cause_message: Option<String>,
}

impl Operator {
    /// With a session: the one of `fleet login`, one that a token names, or one that a password begins. `own` = the router's own CAs.
    pub(super) async fn begin(printer: Printer, args: &Rescue, own: Option<TrustBundle>) -> Result<Self, Failure> {
        let Some(address) = &args.url else {
            let session = Session::load(&fleet::session_file(args.session.as_deref())?).map_err(|failure| {
                failure.hint("name the controller with `--url`, or log in with `exuvia fleet login URL`")
            })?;
            let bundle = TrustBundle::from_pem(session.ca_pem.as_bytes())
                .map_err(|error| Failure::new(Exit::Input, error).hint("log in again: `exuvia fleet login`"))?;
            return Self::new(&session.controller, &bundle, Some(session.token));
        };
        let bundle = match (&args.ca, own) {
            (Some(path), _) => trusted(path)?,
            (None, Some(own)) => own,
            (None, None) => {
                return Err(Failure::because(
                    Exit::Input,
                    "nobody vouches for the controller: the router's own CA file is lost",
                )
                .hint("name the controller's CA certificates with `--ca FILE`"));
            }
        };
        if let Some(path) = &args.token_file {
            let text = files::read_text(path, "session token", TOKEN_BYTES_MAX)?;
            return Self::new(address, &bundle, Some(Secret::new(text.trim())));
        }
        let mut operator = Self::new(address, &bundle, None)?;
        let password = ask::password(printer, &args.password, &format!("`{}`", args.username))?;
        let body = json!({ "username": args.username, "password": password.as_str() });
        let begun: Begun =
            operator.order(Method::POST, &format!("{MANAGEMENT}/authenticate?method=password"), Some(&body)).await?;
        operator.token = Some(begun.token);
        Ok(operator)
    }

    fn new(address: &str, bundle: &TrustBundle, token: Option<Secret>) -> Result<Self, Failure> {
        let trust = ServerTrust::bundle(bundle).map_err(|error| Failure::new(Exit::Input, error))?;
        let http = HttpClient::new(trust).with_body_limit(ANSWER_BYTES_MAX);
        Ok(Self { http, connection: None, address: address.to_owned(), token, now: None })
    }

    /// Where it is.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// The router of this name or id.
    pub(super) async fn find(&mut self, name_or_id: &str) -> Result<Registered, Failure> {
        if name_or_id.contains(['"', '\\']) || name_or_id.chars().any(char::is_control) {
            let message = format!("`{}` is neither a name nor an id", name_or_id.escape_debug());
            return Err(Failure::because(Exit::Usage, message));
        }
        let collections = [
            (RouterKind::Edge, format!("{MANAGEMENT}/edge-routers")),
            (RouterKind::Transit, format!("{MANAGEMENT}/transit-routers")),
            (RouterKind::Fabric, format!("{FABRIC}/routers")),
        ];
        let filter = encoded(&format!("id = \"{name_or_id}\" or name = \"{name_or_id}\""));
        for (kind, collection) in collections {
            let page = self.send(Method::GET, &format!("{collection}?filter={filter}"), None).await?;
            // An Exuvia controller has no third collection.
            if page.status.as_u16() == 404 {
                continue;
            }
            let mut found: Vec<Detail> = self.read(&self.accepted(page)?)?;
            let by_id = found.iter().position(|one| one.id == name_or_id);
            let is_there = !found.is_empty();
            if is_there {
                let detail = found.swap_remove(by_id.unwrap_or(0));
                return self.describe(kind, detail).await;
            }
        }
        let message = format!("{} knows no router `{name_or_id}`", self.address);
        Err(Failure::because(Exit::Refused, message).hint(
            "if it was deleted, make a new router at the controller and enroll it here with `exuvia router enroll CONFIG --jwt FILE --force`",
        ))
    }

    async fn describe(&mut self, kind: RouterKind, detail: Detail) -> Result<Registered, Failure> {
        let signer = self.signer().await?;
        let native = self.native(&detail.id).await?;
        let standing = match &native {
            Some(native) => match native.standing {
                StandingName::Disabled => Standing::Disabled,
                StandingName::Revoked => Standing::Revoked,
                StandingName::Active => detail.standing(),
            },
            None => detail.standing(),
        };
        let is_admitted = |leaf: &&LeafView| leaf.is_admitted;
        let leaves = native.iter().flat_map(|native| native.leaves.iter().filter(is_admitted));
        let now = self.now.unwrap_or_else(|| UnixTime::from_ms(net::clock::wall_ms()));
        Ok(Registered {
            id: RouterId::new(detail.id.as_str()),
            controller: if native.is_some() { ControllerKind::Exuvia } else { ControllerKind::OpenZiti },
            kind,
            standing,
            is_connected: detail.is_online || detail.connected,
            admitted_sha1: detail.fingerprint.clone().map(|text| text.replace(':', "")),
            admitted_sha256: leaves.map(|leaf| leaf.fingerprint_sha256.clone()).collect(),
            kept: [detail.cert_pem, detail.unverified_cert_pem].into_iter().flatten().collect(),
            token: detail.enrollment_jwt,
            signer,
            now,
            name: detail.name,
        })
    }

    /// The CAs that it hands out to everybody; over a connection that is trusted already.
    async fn signer(&mut self) -> Result<TrustBundle, Failure> {
        let answer = self.send(Method::GET, "/edge/client/v1/.well-known/est/cacerts", None).await?;
        let answer = self.accepted(answer)?;
        decode_cacerts(&answer.body).map_err(|error| {
            Failure::new(Exit::Unreachable, error)
                .context(format!("cannot read the CA certificates of {}", self.address))
        })
    }

    /// The router in our own words, where the controller knows them.
    async fn native(&mut self, id: &str) -> Result<Option<RouterView>, Failure> {
        let answer = self.send(Method::GET, &format!("/api/v1/routers/{}", encoded(id)), None).await?;
        if !answer.status.is_success() {
            return Ok(None);
        }
        Ok(serde_json::from_slice::<Answered<RouterView>>(&answer.body).ok().map(|answered| answered.data))
    }

    /// Has it admit this leaf, in the place of what it admits now.
    pub(super) async fn vouch(&mut self, registered: &Registered, set: &Set) -> Result<(), Failure> {
        let id = encoded(registered.id.as_str());
        match registered.controller {
            ControllerKind::Exuvia => {
                let body = json!({ "cert_pem": set.client_pem() });
                let _: Value = self.order(Method::POST, &format!("/api/v1/routers/{id}/readmit"), Some(&body)).await?;
            }
            ControllerKind::OpenZiti => {
                let body = json!({ "fingerprint": set.client_sha1.to_string() });
                let answer = self.send(Method::PATCH, &format!("{FABRIC}/routers/{id}"), Some(&body)).await?;
                self.accepted(answer)?;
            }
        }
        Ok(())
    }

    /// Voids what it admits; gives the token to enroll with.
    pub(super) async fn re_enroll(&mut self, registered: &Registered) -> Result<Secret, Failure> {
        let id = encoded(registered.id.as_str());
        match registered.controller {
            ControllerKind::Exuvia => {
                let made: EnrollmentView =
                    self.order(Method::POST, &format!("/api/v1/routers/{id}/re-enroll"), None).await?;
                Ok(made.jwt)
            }
            ControllerKind::OpenZiti => {
                let path = format!("{MANAGEMENT}/edge-routers/{id}");
                let answer = self.send(Method::POST, &format!("{path}/re-enroll"), None).await?;
                self.accepted(answer)?;
                let detail: Detail = self.order(Method::GET, &path, None).await?;
                detail.enrollment_jwt.ok_or_else(|| {
                    Failure::because(Exit::Failed, "the controller made no token for the new enrollment")
                        .hint("run the command again")
                })
            }
        }
    }

    async fn order<T: DeserializeOwned>(
        &mut self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<T, Failure> {
        let answer = self.send(method, path, body).await?;
        let answer = self.accepted(answer)?;
        self.read(&answer)
    }

    async fn send(&mut self, method: Method, path: &str, body: Option<&Value>) -> Result<HttpAnswer, Failure> {
        let bytes = match body {
            Some(body) => serde_json::to_vec(body).map_err(|error| Failure::new(Exit::Internal, error))?,
            None => Vec::new(),
        };
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.address));
        request = request.header(ACCEPT, "application/json, application/pkcs7-mime, */*");
        if !bytes.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        if let Some(token) = &self.token {
            let mut value = HeaderValue::from_str(token.reveal())
                .map_err(|_| Failure::because(Exit::Input, "the session token is damaged").hint("log in again"))?;
            value.set_sensitive(true);
            request = request.header(SESSION_HEADER, value);
        }
        let request = request
            .body(Bytes::from(bytes))
            .map_err(|error| Failure::new(Exit::Usage, error).context("this cannot be asked for"))?;
        let mut connection = match self.connection.take().filter(|kept| !kept.is_closed()) {
            Some(kept) => kept,
            None => self.http.connect(request.uri()).await?,
        };
        let answer = connection.send(request).await?;
        self.connection = Some(connection);
        let date = answer.headers.get(DATE).and_then(|date| date.to_str().ok());
        if let Some(date) = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok()) {
            self.now = Some(UnixTime::from_ms(date.timestamp().as_millisecond()));
        }
        Ok(answer)
    }

    fn accepted(&self, answer: HttpAnswer) -> Result<HttpAnswer, Failure> {
        if answer.status.is_success() {
            return Ok(answer);
        }
        let status = answer.status.as_u16();
        let is_theirs = answer.status.is_server_error() || status == 429;
        let exit = if is_theirs { Exit::Unreachable } else { Exit::Refused };
        let Ok(Refused { error }) = serde_json::from_slice(&answer.body) else {
            let message = format!("{} answered with HTTP status {status}", self.address);
            return Err(Failure::because(exit, message).hint("is this the address of a controller's API?"));
        };
        let sentence = error.cause_message.as_ref().filter(|text| !text.is_empty()).unwrap_or(&error.message);
        let message = format!("the controller answered `{}`: {}", printable(&error.code), printable(sentence));
        let failure = Failure::because(exit, message);
        Err(match (status, &self.token) {
            (401, None) => failure.hint("check name and password; nothing was changed"),
            (401, Some(_)) => {
                failure.hint("the session ended, or is of no operator; log in again. Nothing was changed")
            }
            _ => failure,
        })
    }

    fn read<T: DeserializeOwned>(&self, answer: &HttpAnswer) -> Result<T, Failure> {
        // The parser's own words could quote a token.
        let read = serde_json::from_slice::<Answered<T>>(&answer.body).map_err(|error| {
            let at = format!("line {}, column {}", error.line(), error.column());
            Failure::because(Exit::Unreachable, format!("cannot understand the answer of {} ({at})", self.address))
                .hint("is this the address of a controller's API?")
        })?;
        Ok(read.data)
    }
}

fn trusted(path: &Path) -> Result<TrustBundle, Failure> {
    let text = files::read(path, "CA certificate", MAX_CERTIFICATES_PEM_BYTES as u64)?;
    TrustBundle::from_pem(&text).map_err(|error| {
        Failure::new(Exit::Input, error)
            .context(format!("`{}` holds no CA certificates that can be trusted", path.display()))
            .hint("the file must hold certificates as PEM, `-----BEGIN CERTIFICATE-----`")
    })
}
