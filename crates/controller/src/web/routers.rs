//! OpenZiti's management of routers: edge routers and transit routers, one shape behind two collections.

use api::native::EventKind;
use api::ziti::{EdgeRouterCreate, EdgeRouterPatch, TransitRouterCreate, TransitRouterPatch};
use api::{ApiError, Code};
use axum::response::Response;
use lifecycle::RouterId;
use lifecycle::issuance::{Answer, EnrollmentKind, Input};
use store::register::{Attachment, FirstIdentity, NewRouter, RegisterError, RouterPatch, RouterView, Submission};

use super::call::Call;
use super::page::{self, FIELDS, Wanted};
use super::reply::{self, of_mint, of_register};
use super::roles::RoleFilter;
use super::settings::{Groups, Settings};
use super::view;
use crate::dice;
use crate::fleet::Closing;

/// Times that a fresh id is drawn before giving up: one in 10^17 is taken.
const ID_DRAWS: usize = 4;

pub(super) async fn create_edge(call: Call) -> Result<Response, ApiError> {
    let request: EdgeRouterCreate = call.json()?;
    create(call, EnrollmentKind::Edge, "edge-routers", Settings::of_edge(request)).await
}

pub(super) async fn create_transit(call: Call) -> Result<Response, ApiError> {
    let request: TransitRouterCreate = call.json()?;
    create(call, EnrollmentKind::Transit, "transit-routers", Settings::of_transit(request)).await
}

async fn create(call: Call, kind: EnrollmentKind, collection: &str, settings: Settings) -> Result<Response, ApiError> {
    let (patch, listeners) = settings.checked()?;
    let settings = RouterPatch { extra: listeners.map(view::extra_of), ..patch };
    let name = settings.name.clone().unwrap_or_default();
    for _ in 0..ID_DRAWS {
        let id =
            RouterId::new(dice::short_id().map_err(|error| ApiError::because(Code::Unhandled, error.to_string()))?);
        let (token, text) = call.web.enroller.mint(&id, kind).map_err(of_mint)?;
        let first = FirstIdentity::Enrolled { token, text };
        let new = NewRouter { id: id.clone(), name: name.clone(), first, settings: settings.clone() };
        match call.web.register.create_router(new, call.by()).await {
            Ok(_) => {
                call.web.events.publish(call.now.wall, EventKind::Created, Some(&id), None, Some(name));
                return reply::created(collection, id.as_str());
            }
            Err(RegisterError::IdTaken(_)) => {}
            Err(error) => return Err(of_register(error)),
        }
    }
    Err(ApiError::because(Code::Unhandled, "no free router id was found"))
}

pub(super) async fn list_edge(call: Call) -> Result<Response, ApiError> {
    let wanted = Wanted::read(&call, FIELDS)?.with_roles(RoleFilter::read(&call)?);
    let (rows, pagination) = page::routers(&call, Some(EnrollmentKind::Edge), wanted).await?;
    let mut views = Vec::with_capacity(rows.len());
    for row in rows {
        views.push(view::edge(&call.web, row).await?);
    }
    reply::page(views, pagination, FIELDS)
}

pub(super) async fn list_transit(call: Call) -> Result<Response, ApiError> {
    let wanted = Wanted::read(&call, FIELDS)?;
    let (rows, pagination) = page::routers(&call, Some(EnrollmentKind::Transit), wanted).await?;
    let mut views = Vec::with_capacity(rows.len());
    for row in rows {
        views.push(view::transit(&call.web, row).await?);
    }
    reply::page(views, pagination, FIELDS)
}

/// The router in the path, if it is in this collection.
async fn found(call: &Call, kind: EnrollmentKind) -> Result<RouterView, ApiError> {
    let found = call.web.register.router(call.id.clone()).await.map_err(of_register)?;
    found.filter(|found| found.router.kind == kind).ok_or_else(|| call.not_found())
}

pub(super) async fn get_edge(call: Call) -> Result<Response, ApiError> {
    let found = found(&call, EnrollmentKind::Edge).await?;
    reply::one(view::edge(&call.web, found).await?)
}

pub(super) async fn get_transit(call: Call) -> Result<Response, ApiError> {
    let found = found(&call, EnrollmentKind::Transit).await?;
    reply::one(view::transit(&call.web, found).await?)
}

pub(super) async fn patch_edge(call: Call) -> Result<Response, ApiError> {
    let request: EdgeRouterPatch = call.json()?;
    let settings = Settings {
        name: request.name,
        role_attributes: request.role_attributes,
        is_tunneler_enabled: request.is_tunneler_enabled,
        cost: request.cost,
        no_traversal: request.no_traversal,
        disabled: request.disabled,
        app_data: request.app_data,
        tags: request.tags,
        listeners: request.ctrl_chan_listeners,
        configs: request.configs,
    };
    change_one(call, EnrollmentKind::Edge, settings).await
}

pub(super) async fn patch_transit(call: Call) -> Result<Response, ApiError> {
    let request: TransitRouterPatch = call.json()?;
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
    change_one(call, EnrollmentKind::Transit, settings).await
}

pub(super) async fn update_edge(call: Call) -> Result<Response, ApiError> {
    let request: EdgeRouterCreate = call.json()?;
    change_one(call, EnrollmentKind::Edge, Settings::of_edge(request)).await
}

pub(super) async fn update_transit(call: Call) -> Result<Response, ApiError> {
    let request: TransitRouterCreate = call.json()?;
    change_one(call, EnrollmentKind::Transit, Settings::of_transit(request)).await
}

async fn change_one(call: Call, kind: EnrollmentKind, settings: Settings) -> Result<Response, ApiError> {
    let (patch, listeners) = settings.checked()?;
    let before = found(&call, kind).await?;
    change(call, before, patch, listeners).await
}

/// Changes a router. Used by the fabric interface as well.
pub(super) async fn change(
    call: Call,
    before: RouterView,
    mut patch: RouterPatch,
    listeners: Option<Groups>,
) -> Result<Response, ApiError> {
    if let Some(listeners) = listeners {
        let mut extra = before.router.extra;
        extra.remove(view::LISTENERS);
        extra.extend(view::extra_of(listeners));
        patch.extra = Some(extra);
    }
    let disabled = patch.disabled;
    let patched = call.web.register.patch_router(call.id.clone(), patch, call.by()).await.map_err(of_register)?;
    let kind = match (patched.answer, disabled) {
        (Answer::CloseChannels, _) => {
            call.web.fleet.close(&call.id, Closing::Disabled);
            EventKind::Disabled
        }
        (_, Some(false)) if before.record.standing == lifecycle::issuance::Standing::Disabled => EventKind::Enabled,
        _ => EventKind::Changed,
    };
    call.web.events.publish(call.now.wall, kind, Some(&call.id), None, None);
    reply::done()
}

pub(super) async fn delete_edge(call: Call) -> Result<Response, ApiError> {
    delete(call, EnrollmentKind::Edge).await
}

pub(super) async fn delete_transit(call: Call) -> Result<Response, ApiError> {
    delete(call, EnrollmentKind::Transit).await
}

async fn delete(call: Call, kind: EnrollmentKind) -> Result<Response, ApiError> {
    found(&call, kind).await?;
    remove(call).await
}

/// Deletes the router in the path. Used by the fabric interface as well.
pub(super) async fn remove(call: Call) -> Result<Response, ApiError> {
    let deleted = call.web.register.delete_router(call.id.clone(), call.by()).await.map_err(of_register)?;
    call.web.fleet.close(&call.id, Closing::Deleted);
    call.web.events.publish(call.now.wall, EventKind::Deleted, Some(&call.id), None, Some(deleted.router.name));
    reply::done()
}

pub(super) async fn re_enroll_edge(call: Call) -> Result<Response, ApiError> {
    found(&call, EnrollmentKind::Edge).await?;
    re_enroll(&call, EnrollmentKind::Edge).await?;
    reply::done()
}

/// Voids everything that the router has, and makes a new token. Used by our own interface as well.
pub(super) async fn re_enroll(call: &Call, kind: EnrollmentKind) -> Result<store::register::TokenText, ApiError> {
    let failed = |error: ApiError| match error.code {
        Code::Unhandled => ApiError { code: Code::FailedReEnrollment, ..error },
        _ => error,
    };
    let (token, text) = call.web.enroller.mint(&call.id, kind).map_err(of_mint).map_err(failed)?;
    order(call, Input::ReEnroll { token }, Attachment::Token(text.clone())).await.map_err(failed)?;
    call.web.fleet.close(&call.id, Closing::ReEnrolled);
    call.web.events.publish(call.now.wall, EventKind::ReEnrolled, Some(&call.id), None, None);
    Ok(text)
}

/// Submits what an administrator orders.
pub(super) async fn order(
    call: &Call,
    input: Input,
    attachment: Attachment,
) -> Result<store::register::Answered, ApiError> {
    let policy = call.web.enroller.signer().policy();
    let submission = Submission::new(call.id.clone(), call.now, policy, input).by(call.by().actor).with(attachment);
    call.web.register.submit(submission).await.map_err(of_register)
}
