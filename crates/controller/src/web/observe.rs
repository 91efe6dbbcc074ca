//! For whoever watches the controller: health, readiness, metrics. None of it needs a session.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use api::native::{HealthView, Progress, ReadyView};
use api::{ApiError, Code};
use axum::response::Response;
use http::StatusCode;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::Registry;

use super::DONE;
use super::call::Call;
use super::reply::{self, of_register};

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Routers shown one by one, the most pressing ones: a series per router would be too many for a large fleet.
const ROUTERS_SHOWN: usize = 100;

/// Which parts of the controller work. Cheap to clone; whoever owns a part says so here.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<Mutex<BTreeMap<&'static str, Option<String>>>>);

impl Readiness {
    /// The part works.
    pub fn works(&self, part: &'static str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(part, None);
    }

    /// The part does not work, and why: not yet, or no more.
    pub fn fails(&self, part: &'static str, why: impl Into<String>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(part, Some(why.into()));
    }

    fn parts(&self) -> BTreeMap<&'static str, Option<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// OpenZiti's words for what there is of each kind, as far as this controller has it.
pub(super) async fn summary(call: Call) -> Result<Response, ApiError> {
    let counts = call.web.register.counts().await.map_err(of_register)?;
    let sessions = call.web.0.sessions.count(call.now.uptime);
    let words = [
        ("apiSessions", sessions),
        ("authenticators", counts.admins),
        ("enrollments", counts.tokens),
        ("identities", counts.admins),
        ("routers", counts.edge + counts.transit),
        ("routers.edge", counts.edge),
    ];
    reply::one(words.into_iter().map(|(word, count)| (word.to_owned(), count)).collect::<BTreeMap<String, u64>>())
}

pub(super) fn health(call: &Call) -> Result<Response, ApiError> {
    reply::one(HealthView {
        status: "ok".to_owned(),
        uptime_s: call.now.uptime.since(call.web.0.started).as_secs(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    })
}

pub(super) async fn ready(call: Call) -> Result<Response, ApiError> {
    let mut parts = call.web.readiness.parts();
    parts.insert("register", call.web.register.meta().await.err().map(|error| error.to_string()));
    let signs = pki::validity(
        call.now.wall,
        call.web.enroller.signer().policy().leaf_life,
        call.web.enroller.signer().not_after(),
    );
    parts.insert("signer", signs.err().map(|error| error.to_string()));
    let is_ready = parts.values().all(Option::is_none);
    let parts = parts.into_iter().map(|(part, fault)| (part.to_owned(), fault.unwrap_or_else(|| "ok".to_owned())));
    let view = ReadyView { parts: parts.collect(), is_ready };
    let status = if is_ready { DONE } else { StatusCode::SERVICE_UNAVAILABLE };
    reply::json(status, &api::envelope::Envelope::new(view))
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByReason {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByProgress {
    progress: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByRouter {
    id: String,
    name: String,
}

pub(super) async fn metrics(call: Call) -> Result<Response, ApiError> {
    let unhandled = |error: fmt::Error| ApiError::because(Code::Unhandled, error.to_string());
    let registry = looked_at(&call).await?;
    let mut out = String::new();
    call.web.metrics.encode(&mut out).map_err(unhandled)?;
    encode_registry(&mut out, &registry).map_err(unhandled)?;
    encode_eof(&mut out).map_err(unhandled)?;
    Ok(reply::plain(DONE, OPEN_METRICS, out))
}

/// Everything that is not counted as it happens.
async fn looked_at(call: &Call) -> Result<Registry, ApiError> {
    let web = &call.web;
    let survey = web.0.surveyor.look(web).await?;
    let counts = web.register.counts().await.map_err(of_register)?;
    let written = web.register.metrics();
    let mut registry = Registry::with_prefix("exuvia_controller");
    let gauge = |value: u64| ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));

    let routers = Family::<ByProgress, Gauge>::default();
    for progress in Progress::ALL {
        let count = survey.counts.get(progress).copied().unwrap_or(0);
        let labels = ByProgress { progress: progress.to_string() };
        routers.get_or_create(&labels).set(i64::try_from(count).unwrap_or(i64::MAX));
    }
    registry.register("routers", "Routers, by how far their renewal is", routers);
    registry.register(
        "connected_routers",
        "Routers with an open control channel",
        gauge(web.fleet.connected_count() as u64),
    );
    let lockout = Family::<ByRouter, Gauge>::default();
    for entry in survey.entries.iter().take(ROUTERS_SHOWN) {
        let labels = ByRouter { id: entry.id.clone(), name: entry.name.clone() };
        lockout.get_or_create(&labels).set(i64::try_from(entry.lockout_s).unwrap_or(i64::MAX));
    }
    registry.register(
        "router_lockout_seconds",
        "How long a router stays admissible if it restarted now; the hundred lowest ones",
        lockout,
    );
    if let Some(lowest) = survey.entries.first() {
        registry.register(
            "lowest_lockout_seconds",
            "The lowest of all routers' seconds to lock-out",
            gauge(lowest.lockout_s),
        );
    }
    registry.register(
        "issuer_not_after_timestamp_seconds",
        "When the signing certificate's chain ends",
        ConstGauge::new(web.enroller.signer().not_after().as_s()),
    );
    registry.register(
        "forked_routers",
        "Routers of which an older leaf came back after a newer one was used, and no operator has decided yet",
        gauge(survey.forked),
    );
    let campaign = i64::from(survey.campaign.is_some());
    registry.register("campaign_active", "Is a re-key of the whole fleet in force", ConstGauge::new(campaign));
    registry.register("campaign_outstanding_routers", "Routers that have yet to re-key", gauge(survey.outstanding));
    registry.register(
        "uptime_seconds",
        "Time since the controller started",
        gauge(call.now.uptime.since(web.0.started).as_secs()),
    );
    let turned_away = Family::<ByReason, Counter>::default();
    let away = net::listen::turned_away();
    for (reason, count) in
        [("crowded_out", away.crowded_out), ("too_slow", away.too_slow), ("handshake_failed", away.handshake_failed)]
    {
        turned_away.get_or_create(&ByReason { reason }).inc_by(count);
    }
    registry.register(
        "connections_turned_away",
        "Connections that came to nothing before anybody asked who they are",
        turned_away,
    );
    registry.register("register_leaves", "Leaves that the register keeps", gauge(counts.leaves));
    registry.register("register_tokens", "Enrollment tokens that are not yet spent", gauge(counts.tokens));
    registry.register("register_audit_entries", "Entries in the audit trail", gauge(counts.audit));
    registry.register(
        "register_queued_requests",
        "Requests that wait for the register's writer",
        gauge(written.queued),
    );
    registry.register("register_commits", "Transactions that are durable", ConstCounter::new(written.commits));
    registry.register(
        "register_failed_commits",
        "Transactions that the disk refused",
        ConstCounter::new(written.failed_commits),
    );
    registry.register("register_steps", "Inputs that the register decided", ConstCounter::new(written.steps));
    registry.register(
        "register_checkpoints",
        "Checkpoints of the write-ahead log",
        ConstCounter::new(written.checkpoints),
    );
    Ok(registry)
}
