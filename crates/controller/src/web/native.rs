//! Exuvia's own interface: how far each identity is, and the orders renew, revoke, re-enroll, readmit and re-key.

use std::time::Duration;

use api::native::{
    AuditPageView, AuditView, CampaignRequest, CampaignView, EnrollmentView, EventKind, IssuerView, PipelineView,
    ReadmitRequest, RenewView,
};
use api::{ApiError, Code, Secret};
use axum::response::Response;
use lifecycle::issuance::{Answer, Campaign, Input, Standing, Window};
use lifecycle::{Leaf, UnixTime};
use pki::{Chain, Usage};
use store::register::{Attachment, AuditQuery, Chains, PAGE_MAX, RouterView, Sha1};

use super::call::Call;
use super::page::{self, NATIVE_FIELDS, Wanted};
use super::reply::{self, of_register};
use super::routers::{order, re_enroll as void_and_mint};
use super::survey::{ENTRIES_MAX, Survey};
use super::view;
use crate::fleet::Closing;
use crate::signer::renew_now_within;

/// Longest time for a re-key: more would be an ordinary renewal.
const CAMPAIGN_MAX: Duration = Duration::from_secs(366 * 86_400);
const AUDIT_LIMIT_DEFAULT: u64 = 10;
const PIPELINE_LIMIT_DEFAULT: u64 = 100;

async fn found(call: &Call) -> Result<RouterView, ApiError> {
    call.web.register.router(call.id.clone()).await.map_err(of_register)?.ok_or_else(|| call.not_found())
}

pub(super) async fn list(call: Call) -> Result<Response, ApiError> {
    let wanted = Wanted::read(&call, NATIVE_FIELDS)?;
    let (rows, pagination) = page::routers(&call, None, wanted).await?;
    let views = rows.iter().map(|row| view::native(&call.web, call.now, row)).collect();
    reply::page(views, pagination, NATIVE_FIELDS)
}

pub(super) async fn get(call: Call) -> Result<Response, ApiError> {
    let found = found(&call).await?;
    reply::one(view::native(&call.web, call.now, &found))
}

pub(super) async fn renew(call: Call) -> Result<Response, ApiError> {
    let found = found(&call).await?;
    let refuse = |why: &str| Err(ApiError::because(Code::Conflict, format!("router `{}` {why}", call.id)));
    match found.record.standing {
        Standing::Revoked => return refuse("is revoked; re-enroll it"),
        Standing::Disabled => return refuse("is switched off; switch it on first"),
        Standing::Active if !found.record.is_enrolled() => return refuse("is not enrolled yet"),
        Standing::Active => {}
    }
    let life = call.web.enroller.signer().policy().leaf_life;
    let window = Window { from: call.now.wall, to: call.now.wall.plus(renew_now_within(life)) };
    let told = call.web.fleet.advise(&call.id, window);
    let by = call.by().actor;
    call.web.events.publish(
        call.now.wall,
        EventKind::Advised,
        Some(&call.id),
        None,
        Some(format!("renew now, by {by}")),
    );
    reply::one(RenewView { told, from_unix_s: window.from.as_s(), to_unix_s: window.to.as_s() })
}

pub(super) async fn revoke(call: Call) -> Result<Response, ApiError> {
    order(&call, Input::Revoke, Attachment::Nothing).await?;
    call.web.fleet.close(&call.id, Closing::Revoked);
    call.web.events.publish(call.now.wall, EventKind::Revoked, Some(&call.id), None, None);
    get(call).await
}

pub(super) async fn re_enroll(call: Call) -> Result<Response, ApiError> {
    let kind = found(&call).await?.router.kind;
    let text = void_and_mint(&call, kind).await?;
    let expires = call.now.wall.plus(call.web.enroller.signer().policy().token_life);
    reply::one(EnrollmentView { jwt: Secret::new(text.jwt.as_str()), expires_unix_s: expires.as_s() })
}

pub(super) async fn readmit(call: Call) -> Result<Response, ApiError> {
    let request: ReadmitRequest = call.json()?;
    let found = found(&call).await?;
    let (leaf, attachment) = match (request.fingerprint_sha256, request.cert_pem) {
        (Some(fingerprint), None) => (known_leaf(&found, &fingerprint)?, Attachment::Nothing),
        (None, Some(pem)) => vouched_leaf(&call, &pem)?,
        _ => {
            let told = "give either `fingerprint_sha256` or `cert_pem`";
            return Err(ApiError::because(Code::CouldNotValidate, told));
        }
    };
    let answered = order(&call, Input::Readmit { leaf }, attachment).await?;
    if let Answer::RefuseAdmission(refusal) = answered.answer {
        let told = format!("{}; re-enroll it instead", refusal.reason());
        return Err(ApiError::because(Code::Conflict, told));
    }
    call.web.fleet.close(&call.id, Closing::Readmitted);
    let seq = answered.record.last_used.map(|last| last.seq);
    call.web.events.publish(call.now.wall, EventKind::Readmitted, Some(&call.id), seq, None);
    get(call).await
}

pub(super) async fn dismiss_fork(call: Call) -> Result<Response, ApiError> {
    let answered = order(&call, Input::DismissFork, Attachment::Nothing).await?;
    if answered.changed {
        call.web.events.publish(call.now.wall, EventKind::ForkDismissed, Some(&call.id), None, None);
        call.web.0.surveyor.forget().await;
    }
    get(call).await
}

fn known_leaf(found: &RouterView, fingerprint: &str) -> Result<Leaf, ApiError> {
    let known =
        found.record.leaves.iter().find(|leaf| leaf.client.fingerprint.to_string().eq_ignore_ascii_case(fingerprint));
    known.map(|leaf| leaf.client).ok_or_else(|| {
        let reason = "the register knows no such leaf of this router; send the leaf itself as `cert_pem`";
        ApiError::field(Code::InvalidField, "fingerprint_sha256", reason, Some(fingerprint.into()))
    })
}

/// A leaf that the register may have forgotten: still, it must be this router's and lead to our bundle.
fn vouched_leaf(call: &Call, pem: &str) -> Result<(Leaf, Attachment), ApiError> {
    let refuse = |reason: String| ApiError::field(Code::InvalidField, "cert_pem", reason, None);
    let chain = Chain::from_pem(pem.as_bytes()).map_err(|error| refuse(error.to_string()))?;
    let bundle = call.web.enroller.signer().bundle();
    let leaf = pki::validate_chain(&chain.to_rustls(), bundle, call.now.wall, Usage::Client)
        .map_err(|error| refuse(error.to_string()))?;
    if leaf.cn() != Some(call.id.as_str()) {
        return Err(refuse(format!("the leaf is not for router `{}`", call.id)));
    }
    let chains = Chains {
        client_pem: chain.to_pem().into(),
        server_pem: "".into(),
        client_sha1: Sha1(leaf.fingerprint_sha1().0),
    };
    Ok((leaf.facts(), Attachment::Chains(chains)))
}

pub(super) async fn audit(call: Call) -> Result<Response, ApiError> {
    let limit = page::number(&call, "limit")?.unwrap_or(AUDIT_LIMIT_DEFAULT).clamp(1, u64::from(PAGE_MAX));
    let query = AuditQuery {
        router: Some(call.id.clone()),
        before: page::number(&call, "before")?,
        limit: u32::try_from(limit).unwrap_or(PAGE_MAX),
        ..AuditQuery::default()
    };
    let entries = call.web.register.audit(query).await.map_err(of_register)?;
    let next_before = entries.last().filter(|_| entries.len() as u64 == limit).map(|last| last.seq);
    let entries = entries.into_iter().map(|entry| AuditView {
        seq: entry.seq,
        at_unix_ms: entry.at.as_ms(),
        last_at_unix_ms: entry.last_at.as_ms(),
        count: entry.count,
        actor: entry.actor,
        event: entry.event,
        detail: entry.detail,
    });
    reply::one(AuditPageView { entries: entries.collect(), next_before })
}

pub(super) async fn pipeline(call: Call) -> Result<Response, ApiError> {
    let limit = page::number(&call, "limit")?.unwrap_or(PIPELINE_LIMIT_DEFAULT);
    let limit = usize::try_from(limit).unwrap_or(ENTRIES_MAX).clamp(1, ENTRIES_MAX);
    let survey = call.web.0.surveyor.look(&call.web).await?;
    let signer = call.web.enroller.signer();
    reply::one(PipelineView {
        at_unix_s: survey.at.wall.as_s(),
        counts: survey.counts.iter().map(|(progress, count)| (progress.to_string(), *count)).collect(),
        routers: survey.entries.iter().take(limit).cloned().collect(),
        issuer: IssuerView {
            subject: signer.subject(),
            not_after_unix_s: signer.not_after().as_s(),
            leaf_life_s: signer.policy().leaf_life.as_secs(),
            warning: signer.warning(call.now),
        },
        campaign: campaign_view(&survey, 0),
    })
}

fn campaign_view(survey: &Survey, told: u64) -> Option<CampaignView> {
    survey.campaign.map(|campaign| CampaignView {
        ordered_at_unix_s: campaign.ordered_at.as_s(),
        until_unix_s: campaign.until.as_s(),
        told,
        outstanding: survey.outstanding,
    })
}

pub(super) async fn start_campaign(call: Call) -> Result<Response, ApiError> {
    let request: CampaignRequest = call.json()?;
    let within = Duration::from_secs(request.within_s);
    if within > CAMPAIGN_MAX {
        let reason = format!("at most {} are accepted", CAMPAIGN_MAX.as_secs());
        return Err(ApiError::field(Code::InvalidField, "within_s", reason, Some(request.within_s.into())));
    }
    let ordered_at: UnixTime = call.now.wall;
    let campaign = Campaign { ordered_at, until: ordered_at.plus(within) };
    call.web.register.set_campaign(Some(campaign), call.by()).await.map_err(of_register)?;
    let told = call.web.fleet.announce(campaign);
    let detail = format!("the whole fleet, within {} s, by {}", request.within_s, call.by().actor);
    call.web.events.publish(call.now.wall, EventKind::Advised, None, None, Some(detail));
    call.web.0.surveyor.forget().await;
    let survey = call.web.0.surveyor.look(&call.web).await?;
    let view = campaign_view(&survey, told);
    reply::one(view.ok_or_else(|| ApiError::because(Code::Conflict, "the campaign was ended by somebody else"))?)
}

pub(super) async fn current_campaign(call: Call) -> Result<Response, ApiError> {
    let survey = call.web.0.surveyor.look(&call.web).await?;
    let none = || ApiError::because(Code::NotFound, "no re-key of the fleet is in force");
    reply::one(campaign_view(&survey, 0).ok_or_else(none)?)
}

pub(super) async fn end_campaign(call: Call) -> Result<Response, ApiError> {
    call.web.register.set_campaign(None, call.by()).await.map_err(of_register)?;
    call.web.fleet.call_off();
    call.web.0.surveyor.forget().await;
    reply::done()
}
