//! Routers as OpenZiti's fabric interface has them: both kinds in one collection, and a fingerprint that can be set.
//!
//! A fingerprint is all that this interface knows of a leaf. One that the register remembers is readmitted; any other is
//! vouched for, and admitted when a router presents a leaf that bears it and proves itself like every other.

use api::fabric::{FabricRouterCreate, FabricRouterPatch, FabricRouterUpdate};
use api::native::EventKind;
use api::{ApiError, Code};
use axum::response::Response;
use lifecycle::RouterId;
use lifecycle::issuance::{Answer, EnrollmentKind, Input, Voucher};
use store::register::{Attachment, FirstIdentity, NewRouter, RouterPatch, RouterView, Sha1};

use super::call::Call;
use super::page::{self, FIELDS, Wanted};
use super::reply::{self, of_register};
use super::routers::{change, order, remove};
use super::settings::{Settings, checked_name};
use super::view;
use crate::fleet::Closing;

/// Longest id that a caller may choose: a common name holds no more.
const ID_BYTES_MAX: usize = 64;

pub(super) async fn list(call: Call) -> Result<Response, ApiError> {
    let wanted = Wanted::read(&call, FIELDS)?;
    let (rows, pagination) = page::routers(&call, None, wanted).await?;
    let mut views = Vec::with_capacity(rows.len());
    for row in rows {
        views.push(view::fabric(&call.web, row).await?);
    }
    reply::page(views, pagination, FIELDS)
}

async fn found(call: &Call) -> Result<RouterView, ApiError> {
    call.web.register.router(call.id.clone()).await.map_err(of_register)?.ok_or_else(|| call.not_found())
}

pub(super) async fn get(call: Call) -> Result<Response, ApiError> {
    let found = found(&call).await?;
    reply::one(view::fabric(&call.web, found).await?)
}

pub(super) async fn create(call: Call) -> Result<Response, ApiError> {
    let request: FabricRouterCreate = call.json()?;
    let id = checked_id(request.id)?;
    let leaf = request.fingerprint.as_deref().map(fingerprint).transpose()?;
    let settings = Settings {
        name: Some(checked_name(request.name.clone())?),
        cost: Some(request.cost.unwrap_or_default()),
        no_traversal: Some(request.no_traversal.unwrap_or_default()),
        disabled: Some(request.disabled.unwrap_or_default()),
        tags: Some(request.tags.unwrap_or_default()),
        listeners: Some(request.ctrl_chan_listeners.unwrap_or_default()),
        configs: request.configs,
        ..Settings::default()
    };
    let (patch, listeners) = settings.checked()?;
    let new = NewRouter {
        id: id.clone(),
        name: request.name.clone(),
        first: FirstIdentity::VouchedFor { kind: EnrollmentKind::Transit, leaf },
        settings: RouterPatch { extra: listeners.map(view::extra_of), ..patch },
    };
    call.web.register.create_router(new, call.by()).await.map_err(of_register)?;
    call.web.events.publish(call.now.wall, EventKind::Created, Some(&id), None, Some(request.name));
    reply::created("routers", id.as_str())
}

fn checked_id(id: String) -> Result<RouterId, ApiError> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'~');
    if id.is_empty() || id.len() > ID_BYTES_MAX || !id.bytes().all(is_plain) {
        let reason = format!("must be 1 to {ID_BYTES_MAX} letters, digits, `.`, `-`, `_` or `~`");
        return Err(ApiError::field(Code::CouldNotValidate, "id", reason, Some(id.into())));
    }
    Ok(RouterId::new(id))
}

pub(super) async fn patch(call: Call) -> Result<Response, ApiError> {
    let request: FabricRouterPatch = call.json()?;
    let settings = Settings {
        name: request.name,
        cost: request.cost,
        no_traversal: request.no_traversal,
        disabled: request.disabled,
        tags: request.tags,
        listeners: request.ctrl_chan_listeners,
        configs: request.configs,
        ..Settings::default()
    };
    apply(call, settings, request.fingerprint).await
}

pub(super) async fn update(call: Call) -> Result<Response, ApiError> {
    let request: FabricRouterUpdate = call.json()?;
    let settings = Settings {
        name: Some(request.name),
        cost: Some(request.cost.unwrap_or_default()),
        no_traversal: Some(request.no_traversal.unwrap_or_default()),
        disabled: Some(request.disabled.unwrap_or_default()),
        tags: Some(request.tags.unwrap_or_default()),
        listeners: Some(request.ctrl_chan_listeners.unwrap_or_default()),
        configs: request.configs,
        ..Settings::default()
    };
    apply(call, settings, request.fingerprint).await
}

async fn apply(call: Call, settings: Settings, leaf: Option<String>) -> Result<Response, ApiError> {
    let leaf = leaf.as_deref().map(fingerprint).transpose()?;
    let (patch, listeners) = settings.checked()?;
    let before = found(&call).await?;
    // First what may be refused for reasons that only the register knows.
    if let Some(leaf) = leaf {
        admit(&call, &before, leaf).await?;
    }
    if patch == RouterPatch::default() && listeners.is_none() {
        return reply::done();
    }
    change(call, before, patch, listeners).await
}

pub(super) async fn delete(call: Call) -> Result<Response, ApiError> {
    found(&call).await?;
    remove(call).await
}

/// Has the leaf with this fingerprint admitted.
async fn admit(call: &Call, before: &RouterView, sha1: Sha1) -> Result<(), ApiError> {
    let record = &before.record;
    let known = call.web.register.find_leaf(sha1).await.map_err(of_register)?;
    let known = known.into_iter().find(|found| found.router == call.id).and_then(|found| record.leaf_at(found.seq));
    if let (Some(leaf), Some(last)) = (known, record.last_used)
        && leaf.seq == last.seq
    {
        return Ok(());
    }
    let input = match known {
        Some(leaf) => Input::Readmit { leaf: leaf.client },
        None => Input::Vouch { voucher: Voucher(sha1.0) },
    };
    let answered = order(call, input, Attachment::Nothing).await?;
    match answered.answer {
        Answer::RefuseAdmission(refusal) => {
            let reason = format!("{}; re-enroll it instead", refusal.reason());
            Err(ApiError::field(Code::InvalidField, "fingerprint", reason, Some(sha1.to_string().into())))
        }
        Answer::CloseChannels => {
            call.web.fleet.close(&call.id, Closing::Readmitted);
            let seq = answered.record.last_used.map(|last| last.seq);
            call.web.events.publish(call.now.wall, EventKind::Readmitted, Some(&call.id), seq, None);
            Ok(())
        }
        _ => {
            let detail = format!("the leaf with the fingerprint {sha1} is vouched for");
            call.web.events.publish(call.now.wall, EventKind::Changed, Some(&call.id), None, Some(detail));
            Ok(())
        }
    }
}

/// 40 hex digits, in either case, also with the colons that tools print between them.
fn fingerprint(text: &str) -> Result<Sha1, ApiError> {
    let digits: String = text.chars().filter(|c| *c != ':').collect();
    digits.parse().map_err(|error: store::register::NotSha1| {
        ApiError::field(Code::InvalidField, "fingerprint", error.to_string(), Some(text.into()))
    })
}
