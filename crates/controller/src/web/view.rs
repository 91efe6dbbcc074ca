//! What the register and the channels hold, as views.

use std::time::Duration;

use api::envelope::self_link;
use api::fabric::FabricRouterView;
use api::filter::FieldValue;
use api::native::{
    ConnectionView, ForkVerdictName, ForkView, LeafStageName, LeafView, Progress, RouterKind, RouterView as NativeView,
    StandingName,
};
use api::ziti::{EdgeRouterView, Nullable, TransitRouterView, VersionInfoView};
use api::{ApiError, Secret};
use lifecycle::issuance::{EnrollmentKind, Fork, ForkVerdict, IssuancePolicy, IssuedLeaf, LeafStage, Record, Standing};
use lifecycle::{Now, UnixTime};
use serde_json::{Map, Value};
use store::register::{Chains, Router, RouterView, Sha1};

use super::Web;
use super::call::Call;
use super::page::text;
use super::reply::of_register;
use super::settings::Groups;
use crate::control::RENEWS_LATE;
use crate::fleet::Connected;
use crate::signer::rfc3339;

/// Where rarely used settings of OpenZiti's are kept in a router's `extra`.
pub(super) const LISTENERS: &str = "ctrlChanListeners";

/// The leaves of a record that OpenZiti has words for.
struct Pair<'a> {
    /// The leaf last used, or else the first one enrolled.
    current: Option<&'a IssuedLeaf>,
    /// The newest leaf that was issued after it.
    newer: Option<&'a IssuedLeaf>,
}

fn pair(record: &Record) -> Pair<'_> {
    let current = match record.last_used {
        Some(last) => record.leaf_at(last.seq),
        None => record.leaves.first(),
    };
    let newer = record.leaves.last().filter(|newest| current.is_none_or(|current| newest.seq > current.seq));
    Pair { current, newer }
}

async fn chains(web: &Web, record: &Record, leaf: Option<&IssuedLeaf>) -> Result<Option<Chains>, ApiError> {
    match leaf {
        Some(leaf) => web.register.chains(record.id.clone(), leaf.seq).await.map_err(of_register),
        None => Ok(None),
    }
}

/// The token's texts and dates, while a router waits for its enrollment.
#[derive(Default)]
struct OpenToken {
    jwt: Option<Secret>,
    secret: Option<Secret>,
    created_at: Option<String>,
    expires_at: Option<String>,
}

fn open_token(web: &Web, view: &RouterView) -> OpenToken {
    match (&view.token, view.record.token) {
        (Some(texts), Some(token)) if !view.record.is_enrolled() => OpenToken {
            jwt: Some(Secret::new(texts.jwt.as_str())),
            secret: Some(Secret::new(texts.jti.as_str())),
            created_at: Some(rfc3339(token.expires.minus(web.enroller.signer().policy().token_life))),
            expires_at: Some(rfc3339(token.expires)),
        },
        _ => OpenToken::default(),
    }
}

pub(super) async fn edge(web: &Web, view: RouterView) -> Result<EdgeRouterView, ApiError> {
    let leaves = pair(&view.record);
    let current = chains(web, &view.record, leaves.current).await?;
    let newer = chains(web, &view.record, leaves.newer).await?;
    let connected = web.fleet.connected(&view.router.id);
    let token = open_token(web, &view);
    let RouterView { router, record, .. } = view;
    Ok(EdgeRouterView {
        links: self_link("edge-routers", router.id.as_str()),
        id: router.id.to_string(),
        created_at: rfc3339(router.created_at),
        updated_at: rfc3339(router.updated_at),
        tags: router.tags.into_iter().collect(),
        cost: router.cost,
        no_traversal: router.no_traversal,
        disabled: record.standing == Standing::Disabled,
        is_online: connected.is_some(),
        hostname: hostname(connected.as_ref(), router.seen.as_ref().map(|seen| seen.hostname.as_str())),
        supported_protocols: std::collections::BTreeMap::new(),
        sync_status: if connected.is_some() { "SYNC_DONE" } else { "SYNC_UNKNOWN" }.to_owned(),
        app_data: router.app_data.into_iter().collect(),
        role_attributes: router.role_attributes,
        is_tunneler_enabled: router.is_tunneler_enabled,
        is_verified: record.is_enrolled(),
        fingerprint: current.as_ref().map(|chains| chains.client_sha1.to_string()),
        cert_pem: Nullable(current.map(|chains| chains.client_pem.to_string())),
        unverified_fingerprint: Nullable(newer.as_ref().map(|chains| chains.client_sha1.to_string())),
        unverified_cert_pem: Nullable(newer.map(|chains| chains.client_pem.to_string())),
        enrollment_jwt: token.jwt,
        enrollment_token: token.secret,
        enrollment_created_at: token.created_at,
        enrollment_expires_at: token.expires_at,
        version_info: router.seen.map(|seen| version_info(seen.version, &seen.details)),
        ctrl_chan_listeners: listeners(&router.extra),
        interfaces: Vec::new(),
        configs: Vec::new(),
        name: router.name,
    })
}

pub(super) async fn transit(web: &Web, view: RouterView) -> Result<TransitRouterView, ApiError> {
    let leaves = pair(&view.record);
    let current = chains(web, &view.record, leaves.current).await?;
    let newer = chains(web, &view.record, leaves.newer).await?;
    let token = open_token(web, &view);
    let RouterView { router, record, .. } = view;
    Ok(TransitRouterView {
        links: self_link("transit-routers", router.id.as_str()),
        id: router.id.to_string(),
        created_at: rfc3339(router.created_at),
        updated_at: rfc3339(router.updated_at),
        tags: router.tags.into_iter().collect(),
        cost: router.cost,
        no_traversal: router.no_traversal,
        disabled: record.standing == Standing::Disabled,
        is_online: web.fleet.connected(&router.id).is_some(),
        is_verified: record.is_enrolled(),
        fingerprint: Nullable(current.map(|chains| chains.client_sha1.to_string())),
        unverified_fingerprint: Nullable(newer.as_ref().map(|chains| chains.client_sha1.to_string())),
        unverified_cert_pem: Nullable(newer.map(|chains| chains.client_pem.to_string())),
        enrollment_jwt: token.jwt,
        enrollment_token: token.secret,
        enrollment_created_at: token.created_at,
        enrollment_expires_at: token.expires_at,
        ctrl_chan_listeners: listeners(&router.extra),
        interfaces: Vec::new(),
        configs: Vec::new(),
        name: router.name,
    })
}

/// What OpenZiti calls the fingerprint of a router.
pub(super) async fn fingerprint(web: &Web, record: &Record) -> Result<Option<String>, ApiError> {
    if let Some(voucher) = record.voucher {
        return Ok(Some(Sha1(voucher.0).to_string()));
    }
    let current = chains(web, record, pair(record).current).await?;
    Ok(current.map(|chains| chains.client_sha1.to_string()))
}

pub(super) async fn fabric(web: &Web, view: RouterView) -> Result<FabricRouterView, ApiError> {
    let fingerprint = fingerprint(web, &view.record).await?;
    let RouterView { router, record, .. } = view;
    let is_connected = web.fleet.connected(&router.id).is_some();
    Ok(FabricRouterView {
        links: self_link("routers", router.id.as_str()),
        id: router.id.to_string(),
        created_at: rfc3339(router.created_at),
        updated_at: rfc3339(router.updated_at),
        tags: router.tags.into_iter().collect(),
        fingerprint: Nullable(fingerprint),
        connected: is_connected,
        cost: router.cost,
        no_traversal: router.no_traversal,
        disabled: record.standing == Standing::Disabled,
        listener_addresses: Vec::new(),
        version_info: router.seen.filter(|_| is_connected).map(|seen| version_info(seen.version, &seen.details)),
        ctrl_chan_listeners: listeners(&router.extra),
        interfaces: Vec::new(),
        configs: Vec::new(),
        name: router.name,
    })
}

fn hostname(connected: Option<&Connected>, seen: Option<&str>) -> String {
    connected.and_then(|connected| connected.hostname.as_deref()).or(seen).unwrap_or_default().to_owned()
}

fn version_info(version: String, details: &Map<String, Value>) -> VersionInfoView {
    let detail = |name: &str| details.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    VersionInfoView {
        version,
        revision: detail("revision"),
        build_date: detail("buildDate"),
        os: detail("os"),
        arch: detail("arch"),
    }
}

/// What is kept of listeners among the rarely used settings.
pub(super) fn extra_of(listeners: Groups) -> Map<String, Value> {
    if listeners.is_empty() {
        return Map::new();
    }
    let kept = listeners.into_iter().map(|(address, groups)| (address, groups.into())).collect();
    [(LISTENERS.to_owned(), Value::Object(kept))].into_iter().collect()
}

fn listeners(extra: &Map<String, Value>) -> Option<std::collections::BTreeMap<String, Vec<String>>> {
    serde_json::from_value(extra.get(LISTENERS)?.clone()).ok()
}

const STOCK_RENEWS_BEFORE: Duration = Duration::from_secs(7 * 86_400);

/// A router in our own words.
pub(super) fn native(web: &Web, now: Now, view: &RouterView) -> NativeView {
    let policy = web.enroller.signer().policy();
    let record = &view.record;
    let last = record.last_used;
    let current = pair(record).current;
    NativeView {
        id: view.router.id.to_string(),
        name: view.router.name.clone(),
        kind: kind(view.router.kind),
        standing: standing(record.standing),
        progress: progress(view, now, &policy),
        epoch: record.epoch.0,
        lockout_s: lockout_s(record, now, &policy),
        client_not_after_unix_s: current.map(|leaf| leaf.client.not_after.as_s()),
        server_not_after_unix_s: current.map(|leaf| leaf.server.not_after.as_s()),
        renew_due_unix_s: current.map(|leaf| due(&view.router, leaf).as_s()),
        last_used_seq: last.map(|last| last.seq.0),
        first_use_unix_s: last.map(|last| last.first_use.as_s()),
        leaves: record.leaves.iter().map(|one| leaf(record, one, now, &policy)).collect(),
        connection: web.fleet.connected(&view.router.id).map(connection),
        token_expires_unix_s: record.token.filter(|_| !record.is_enrolled()).map(|token| token.expires.as_s()),
        restored_from_unix_s: record.restored_from.map(UnixTime::as_s),
        fork: record.fork.map(fork),
    }
}

fn fork(fork: Fork) -> ForkView {
    ForkView {
        older_sha256: fork.older.to_string(),
        older_from: fork.older_from.map(|address| address.to_string()),
        newer_seq: fork.newer.0,
        newer_from: fork.newer_from.map(|address| address.to_string()),
        at_unix_s: fork.at.as_s(),
        verdict: match fork.verdict {
            ForkVerdict::Frozen => ForkVerdictName::Frozen,
            ForkVerdict::Refused => ForkVerdictName::Refused,
        },
    }
}

fn leaf(record: &Record, leaf: &IssuedLeaf, now: Now, policy: &IssuancePolicy) -> LeafView {
    LeafView {
        seq: leaf.seq.0,
        fingerprint_sha256: leaf.client.fingerprint.to_string(),
        key_sha256: leaf.client.key.to_string(),
        stage: match leaf.stage {
            LeafStage::Pending => LeafStageName::Pending,
            LeafStage::Confirmed => LeafStageName::Confirmed,
            LeafStage::Used => LeafStageName::Used,
        },
        is_admitted: record.check_link(now, policy, leaf.client.fingerprint).is_ok(),
        issued_unix_s: leaf.issued_at.as_s(),
        not_before_unix_s: leaf.client.not_before.as_s(),
        not_after_unix_s: leaf.client.not_after.as_s(),
        server_not_after_unix_s: leaf.server.not_after.as_s(),
    }
}

fn connection(connected: Connected) -> ConnectionView {
    ConnectionView {
        remote_address: connected.remote.to_string(),
        since_unix_s: connected.since.as_s(),
        version: connected.version,
        underlays: connected.underlays as u64,
        leaf_sha256: connected.leaf.map(|leaf| leaf.to_string()),
        takes_advice: connected.takes_advice,
    }
}

pub(super) fn kind(kind: EnrollmentKind) -> RouterKind {
    match kind {
        EnrollmentKind::Edge => RouterKind::Edge,
        EnrollmentKind::Transit => RouterKind::Transit,
    }
}

fn standing(standing: Standing) -> StandingName {
    match standing {
        Standing::Active => StandingName::Active,
        Standing::Disabled => StandingName::Disabled,
        Standing::Revoked => StandingName::Revoked,
    }
}

/// When a router would renew, before its jitter: two thirds of the way from issue to end; one of OpenZiti's seven days before the end
/// (`openziti/ziti:router/state/certchecker.go`).
pub(super) fn due(router: &Router, leaf: &IssuedLeaf) -> UnixTime {
    let life = leaf.client.not_after.since(leaf.issued_at);
    let seen = router.seen.as_ref();
    let renews_late = seen.and_then(|seen| seen.details.get(RENEWS_LATE)).and_then(Value::as_bool).unwrap_or_default();
    leaf.issued_at.plus(if renews_late { life.saturating_sub(STOCK_RENEWS_BEFORE) } else { life * 2 / 3 })
}

pub(super) fn progress(view: &RouterView, now: Now, policy: &IssuancePolicy) -> Progress {
    let record = &view.record;
    match record.standing {
        Standing::Revoked => return Progress::Revoked,
        Standing::Disabled => return Progress::Disabled,
        Standing::Active if record.leaves.is_empty() => return Progress::AwaitingEnrollment,
        Standing::Active => {}
    }
    if record.admitted(now, policy).next().is_none() {
        return Progress::Lapsed;
    }
    let Some(last) = record.last_used else { return Progress::Enrolled };
    let newest = record.admitted(now, policy).filter(|leaf| leaf.seq > last.seq).last();
    match newest.map(|leaf| leaf.stage) {
        Some(LeafStage::Pending) => Progress::Pending,
        Some(LeafStage::Confirmed | LeafStage::Used) => Progress::Confirmed,
        None if record.leaf_at(last.seq).is_some_and(|leaf| now.wall >= due(&view.router, leaf)) => Progress::Due,
        None => Progress::Steady,
    }
}

/// How long the router stays admissible if it restarted now: of the admitted leaves, only those count that it is known to
/// hold. Right after an enrollment that is the leaf that was handed out.
pub(super) fn lockout_s(record: &Record, now: Now, policy: &IssuancePolicy) -> u64 {
    record
        .admitted(now, policy)
        .filter(|leaf| leaf.stage != LeafStage::Pending || record.last_used.is_none())
        .map(|leaf| leaf.client.not_after.since(now.wall).as_secs())
        .max()
        .unwrap_or(0)
}

/// What a list can be filtered and sorted by.
pub(super) fn field(call: &Call, view: &RouterView, name: &str) -> FieldValue {
    let (router, record) = (&view.router, &view.record);
    let policy = || call.web.enroller.signer().policy();
    match name {
        "id" => text(router.id.as_str()),
        "name" => text(router.name.as_str()),
        "cost" => FieldValue::Number(f64::from(router.cost)),
        "noTraversal" => FieldValue::Flag(router.no_traversal),
        "disabled" => FieldValue::Flag(record.standing == Standing::Disabled),
        "isVerified" => FieldValue::Flag(record.is_enrolled()),
        "isOnline" | "connected" => FieldValue::Flag(call.web.fleet.connected(&router.id).is_some()),
        "isTunnelerEnabled" => FieldValue::Flag(router.is_tunneler_enabled),
        "roleAttributes" => FieldValue::Texts(router.role_attributes.clone()),
        "hostname" => text(router.seen.as_ref().map(|seen| seen.hostname.as_str()).unwrap_or_default()),
        "createdAt" => FieldValue::Time(router.created_at.as_ms()),
        "updatedAt" => FieldValue::Time(router.updated_at.as_ms()),
        "kind" => text(kind(router.kind).as_str()),
        "standing" => text(standing(record.standing).as_str()),
        "progress" => text(progress(view, call.now, &policy()).as_str()),
        // Far below the 52 bits that a float holds exactly.
        #[expect(clippy::cast_precision_loss, reason = "seconds of a certificate's life")]
        "lockout_s" => FieldValue::Number(lockout_s(record, call.now, &policy()) as f64),
        _ => name.strip_prefix("tags.").map_or(FieldValue::Null, |tag| of_tag(router.tags.get(tag))),
    }
}

fn of_tag(value: Option<&Value>) -> FieldValue {
    match value {
        None | Some(Value::Null) => FieldValue::Null,
        Some(Value::Bool(flag)) => FieldValue::Flag(*flag),
        Some(Value::Number(number)) => number.as_f64().map_or(FieldValue::Null, FieldValue::Number),
        Some(Value::String(told)) => text(told.as_str()),
        Some(nested @ (Value::Array(_) | Value::Object(_))) => text(nested.to_string()),
    }
}
