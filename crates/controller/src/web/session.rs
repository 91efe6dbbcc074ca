//! Administrators' sessions: a password once, then a token that lives as long as it is used.
//!
//! Sessions are in memory and end with the process. They are found by the SHA-256 of their token, so how long a look-up
//! takes says nothing about any token.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use api::envelope::{Link, self_link};
use api::ziti::{AuthenticateRequest, EntityRef, SessionView};
use api::{ApiError, Code, SESSION_HEADER, Secret};
use aws_lc_rs::digest;
use axum::response::Response;
use http::{HeaderMap, HeaderValue, header};
use lifecycle::{Now, UnixTime, Uptime};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use super::call::Call;
use super::reply::{self, of_register};
use crate::dice;
use crate::metrics::Outcome;
use crate::password;
use crate::signer::rfc3339;

/// Sessions kept at once; the one longest unused makes room.
const SESSIONS_MAX: usize = 4096;
/// Names whose failures are remembered at once.
const NAMES_MAX: usize = 4096;
/// Failures without any wait.
const FREE_FAILURES: u32 = 3;
/// Longest wait between two attempts.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// A name's failures are forgotten when it was left alone for this long.
const FORGET: Duration = Duration::from_secs(15 * 60);
/// Passwords that are checked at once: each takes 19 MiB and a processor.
const CHECKS_MAX: usize = 2;
/// Time that an attempt waits for its turn.
const TURN: Duration = Duration::from_secs(5);
/// Longest name looked up, in bytes.
const NAME_BYTES_MAX: usize = 256;

/// A session, as it was when this was handed out.
#[derive(Clone, Debug)]
pub(super) struct Session {
    id: String,
    pub(super) admin_id: String,
    pub(super) admin_name: String,
    remote: Option<SocketAddr>,
    created_at: UnixTime,
    used_at: UnixTime,
    used: Uptime,
    token: Secret,
}

impl Session {
    pub(super) fn expires_at(&self, now: Now, idle: Duration) -> UnixTime {
        now.wall.plus(idle.saturating_sub(now.uptime.since(self.used)))
    }

    fn view(&self, now: Now, idle: Duration) -> SessionView {
        let left = idle.saturating_sub(now.uptime.since(self.used));
        SessionView {
            links: BTreeMap::from([("self".to_owned(), Link { href: "./current-api-session".to_owned() })]),
            id: self.id.clone(),
            created_at: rfc3339(self.created_at),
            updated_at: rfc3339(self.used_at),
            tags: api::ziti::Tags::new(),
            token: self.token.clone(),
            identity: EntityRef {
                links: self_link("identities", &self.admin_id),
                entity: "identities".to_owned(),
                id: self.admin_id.clone(),
                name: self.admin_name.clone(),
            },
            identity_id: self.admin_id.clone(),
            authenticator_id: "password".to_owned(),
            ip_address: self.remote.map(|remote| remote.ip().to_string()).unwrap_or_default(),
            config_types: Vec::new(),
            auth_queries: Vec::new(),
            is_mfa_required: false,
            is_mfa_complete: true,
            is_cert_extendable: false,
            expires_at: rfc3339(now.wall.plus(left)),
            expiration_seconds: left.as_secs(),
        }
    }
}

#[derive(Clone, Copy)]
struct Failures {
    count: u32,
    last: Uptime,
    blocked_until: Uptime,
}

pub(super) struct Sessions {
    idle: Duration,
    open: Mutex<HashMap<[u8; 32], Arc<Session>>>,
    failures: Mutex<HashMap<String, Failures>>,
    checks: Semaphore,
}

impl Sessions {
    pub(super) fn new(idle: Duration) -> Self {
        Self { idle, open: Mutex::default(), failures: Mutex::default(), checks: Semaphore::new(CHECKS_MAX) }
    }

    /// The session whose token the request carries; it counts as used now.
    pub(super) fn touch(&self, now: Now, headers: &HeaderMap) -> Result<Arc<Session>, ApiError> {
        let token = token_of(headers).ok_or_else(|| {
            ApiError::because(Code::Unauthorized, format!("the request carries no session; send `{SESSION_HEADER}`"))
        })?;
        let mut open = lock(&self.open);
        let ended =
            || ApiError::because(Code::Unauthorized, "there is no such session, or it ended; authenticate again");
        let key = key_of(token);
        let session = open.get_mut(&key).ok_or_else(ended)?;
        if now.uptime.since(session.used) > self.idle {
            open.remove(&key);
            return Err(ended());
        }
        let used = Session { used: now.uptime, used_at: now.wall, ..Session::clone(session) };
        *session = Arc::new(used);
        Ok(Arc::clone(session))
    }

    fn begin(&self, now: Now, admin: (String, String), remote: Option<SocketAddr>) -> Result<Arc<Session>, ApiError> {
        let unhandled = |error: dice::NoRandomness| ApiError::because(Code::Unhandled, error.to_string());
        let token: Zeroizing<String> = dice::uuid().map_err(unhandled)?;
        let session = Arc::new(Session {
            id: dice::short_id().map_err(unhandled)?,
            admin_id: admin.0,
            admin_name: admin.1,
            remote,
            created_at: now.wall,
            used_at: now.wall,
            used: now.uptime,
            token: Secret::new(token.as_str()),
        });
        let mut open = lock(&self.open);
        open.retain(|_, session| now.uptime.since(session.used) <= self.idle);
        if open.len() >= SESSIONS_MAX {
            let longest_unused = open.iter().min_by_key(|(_, session)| session.used).map(|(key, _)| *key);
            longest_unused.map(|key| open.remove(&key));
        }
        open.insert(key_of(&token), Arc::clone(&session));
        Ok(session)
    }

    /// How many there are, those that nobody has used for too long left out.
    pub(super) fn count(&self, now: Uptime) -> u64 {
        let open = lock(&self.open);
        open.values().filter(|session| now.since(session.used) <= self.idle).count() as u64
    }

    fn end(&self, session: &Session) {
        lock(&self.open).remove(&key_of(session.token.reveal()));
    }

    /// May this name try now? The attempt counts as failed until [`Sessions::forgive`] says otherwise, so that many at
    /// once gain nothing.
    fn attempt(&self, now: Uptime, name: &str) -> Result<(), ApiError> {
        let mut failures = lock(&self.failures);
        failures.retain(|_, failed| now.since(failed.last) <= FORGET);
        if failures.len() >= NAMES_MAX && !failures.contains_key(name) {
            let oldest = failures.iter().min_by_key(|(_, failed)| failed.last).map(|(name, _)| name.clone());
            oldest.map(|name| failures.remove(&name));
        }
        let failed = failures.entry(name.to_owned()).or_insert(Failures { count: 0, last: now, blocked_until: now });
        if failed.blocked_until > now {
            let wait_s = failed.blocked_until.since(now).as_secs() + 1;
            let told = format!("too many failed attempts for this name; wait {wait_s} s");
            return Err(ApiError::because(Code::RateLimited, told).retry_after(wait_s));
        }
        failed.count = failed.count.saturating_add(1);
        failed.last = now;
        if let Some(doublings) = failed.count.checked_sub(FREE_FAILURES) {
            let wait = Duration::from_secs(1).saturating_mul(2_u32.saturating_pow(doublings)).min(WAIT_MAX);
            failed.blocked_until = now.plus(wait);
        }
        Ok(())
    }

    fn forgive(&self, name: &str) {
        lock(&self.failures).remove(name);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while holding one of them.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn key_of(token: &str) -> [u8; 32] {
    let mut out = [0; 32];
    let hash = digest::digest(&digest::SHA256, token.as_bytes());
    out.iter_mut().zip(hash.as_ref()).for_each(|(to, from)| *to = *from);
    out
}

fn token_of(headers: &HeaderMap) -> Option<&str> {
    if let Some(token) = headers.get(SESSION_HEADER) {
        return token.to_str().ok();
    }
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

pub(super) async fn authenticate(call: Call) -> Result<Response, ApiError> {
    match call.parameter("method") {
        Some("password") => {}
        Some(method @ ("cert" | "ext-jwt")) => {
            let told = format!("`{method}` is not offered here; use `password`");
            return Err(ApiError::because(Code::InvalidAuthMethod, told));
        }
        _ => return Err(ApiError::because(Code::InvalidAuthMethod, "`method=password` is needed")),
    }
    let request: AuthenticateRequest = call.json()?;
    let result = check(&call, &request).await;
    call.web.metrics.login(match &result {
        Ok(_) => Outcome::Success,
        Err(error) if error.code.status() < 500 => Outcome::Refused,
        Err(_) => Outcome::Failed,
    });
    let session = result?;
    let mut response = reply::one(session.view(call.now, call.web.session_idle))?;
    if let Ok(mut token) = HeaderValue::from_str(session.token.reveal()) {
        token.set_sensitive(true);
        response.headers_mut().insert(SESSION_HEADER, token);
    }
    reply::add_session(&mut response, &session, call.web.session_idle, call.now);
    Ok(response)
}

async fn check(call: &Call, request: &AuthenticateRequest) -> Result<Arc<Session>, ApiError> {
    let wrong = || ApiError::because(Code::InvalidAuth, "the name or the password is wrong");
    let name = request.username.clone();
    if name.len() > NAME_BYTES_MAX {
        return Err(wrong());
    }
    let sessions = &call.web.0.sessions;
    sessions.attempt(call.now.uptime, &name)?;
    let busy = || ApiError::new(Code::ServerTooManyRequests).retry_after(1);
    let turn = tokio::time::timeout(TURN, sessions.checks.acquire()).await;
    let _turn = turn.map_err(|_| busy())?.map_err(|_| busy())?;
    let admin = call.web.register.admin(name.clone()).await.map_err(of_register)?;
    let hash = admin.as_ref().map(|admin| admin.password_hash.clone());
    let password = request.password.clone();
    let matched = tokio::task::spawn_blocking(move || match hash {
        Some(hash) => password::matches(password.reveal(), &hash),
        None => {
            password::waste_time(password.reveal());
            false
        }
    });
    let matched = matched.await.map_err(|_| ApiError::new(Code::Unavailable))?;
    match admin {
        Some(admin) if matched => {
            sessions.forgive(&name);
            tracing::info!(admin = %admin.name, remote = call.remote.map(tracing::field::display), "an administrator logged in");
            sessions.begin(call.web.clock.now(), (admin.id, admin.name), call.remote)
        }
        _ => {
            tracing::warn!(remote = call.remote.map(tracing::field::display), "a login failed");
            Err(wrong())
        }
    }
}

pub(super) fn current(call: &Call) -> Result<Response, ApiError> {
    let session = call.session.as_ref().ok_or_else(|| ApiError::new(Code::Unauthorized))?;
    reply::one(session.view(call.now, call.web.session_idle))
}

pub(super) fn end(call: &Call) -> Result<Response, ApiError> {
    if let Some(session) = &call.session {
        call.web.0.sessions.end(session);
    }
    reply::done()
}
