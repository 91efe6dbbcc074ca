//! Lists: OpenZiti's query language onto the register's pages.
//!
//! What the register can look up or sort by itself is left to it. Everything else is read page by page and judged here,
//! holding no more rows than the answer needs.

use api::envelope::Pagination;
use api::filter::{FieldValue, Limit, Query, Sort};
use api::{ApiError, Code};
use lifecycle::RouterId;
use lifecycle::issuance::EnrollmentKind;
use store::register::{PAGE_MAX, RouterFilter, RouterQuery, RouterSort, RouterView};

use super::call::Call;
use super::reply::of_register;
use super::view;

const LIMIT_DEFAULT: u64 = 10;
const LIMIT_MAX: u64 = 500;

/// Fields that lists of OpenZiti's interface can be filtered and sorted by.
pub(super) const FIELDS: &[&str] = &[
    "id",
    "name",
    "cost",
    "noTraversal",
    "disabled",
    "isVerified",
    "isOnline",
    "isTunnelerEnabled",
    "roleAttributes",
    "hostname",
    "createdAt",
    "updatedAt",
];

/// Fields that lists of our own interface can be filtered and sorted by.
pub(super) const NATIVE_FIELDS: &[&str] = &["id", "name", "kind", "standing", "progress", "connected", "lockout_s"];

/// Which part of a list a caller wants.
pub(super) struct Wanted {
    query: Query,
    sort: Vec<Sort>,
    limit: u64,
    offset: u64,
}

impl Wanted {
    pub(super) fn read(call: &Call, known: &[&str]) -> Result<Self, ApiError> {
        let refuse = |code: Code, name: &str, reason: String| {
            ApiError::field(code, name, reason, call.parameter(name).map(Into::into))
        };
        let mut query = match call.parameter("filter") {
            Some(text) => {
                Query::parse(text).map_err(|error| refuse(Code::InvalidFilter, "filter", error.to_string()))?
            }
            None => Query::everything(),
        };
        query.check_fields(known).map_err(|error| refuse(Code::InvalidFilter, "filter", error.to_string()))?;
        let sort = match call.parameter("sort").filter(|text| !text.trim().is_empty()) {
            Some(text) => {
                Query::parse_sort(text).map_err(|error| refuse(Code::InvalidSort, "sort", error.to_string()))?
            }
            None => std::mem::take(&mut query.sort),
        };
        if let Some(unknown) = sort.iter().find(|sort| !known.contains(&sort.field.as_str())) {
            let reason = format!("`{}` cannot be sorted by; one of {} can", unknown.field, known.join(", "));
            return Err(refuse(Code::InvalidSort, "sort", reason));
        }
        let limit = match (call.parameter("limit"), query.limit) {
            (Some("none" | "-1"), _) | (None, Some(Limit::None)) => LIMIT_MAX,
            (Some(_), _) => number(call, "limit")?.unwrap_or(LIMIT_DEFAULT),
            (None, Some(Limit::Rows(rows))) => rows,
            (None, None) => LIMIT_DEFAULT,
        };
        if limit == 0 {
            return Err(refuse(Code::InvalidPagination, "limit", "must be at least 1".to_owned()));
        }
        let offset = number(call, "offset")?.or(query.skip).unwrap_or(0);
        Ok(Self { query, sort, limit: limit.min(LIMIT_MAX), offset })
    }
}

/// A whole number in the query string.
pub(super) fn number(call: &Call, name: &str) -> Result<Option<u64>, ApiError> {
    let Some(text) = call.parameter(name).filter(|text| !text.is_empty()) else { return Ok(None) };
    text.parse().map(Some).map_err(|_| {
        let reason = "must be a whole number";
        ApiError::field(Code::InvalidPagination, name, reason, Some(text.into()))
    })
}

/// The routers that were asked for.
pub(super) async fn routers(
    call: &Call,
    kind: Option<EnrollmentKind>,
    wanted: Wanted,
) -> Result<(Vec<RouterView>, Pagination), ApiError> {
    let order = register_order(&wanted.sort);
    let mut filter: Vec<RouterFilter> = kind.map(RouterFilter::Kind).into_iter().collect();
    if wanted.query.is_everything()
        && let Some((sort, descending)) = order
    {
        let limit = u32::try_from(wanted.limit).unwrap_or(PAGE_MAX);
        let query = RouterQuery { filter, sort, descending, limit, offset: wanted.offset };
        let listed = call.web.register.routers(query).await.map_err(of_register)?;
        let pagination = Pagination { limit: wanted.limit, offset: wanted.offset, total_count: listed.total };
        return Ok((listed.routers, pagination));
    }
    filter.extend(wanted.query.required_text("id").map(|id| RouterFilter::Id(RouterId::new(id))));
    filter.extend(wanted.query.required_text("name").map(|name| RouterFilter::NameIs(name.to_owned())));
    let (sort, descending) = order.unwrap_or_default();
    let keep = usize::try_from(wanted.offset.saturating_add(wanted.limit)).unwrap_or(usize::MAX);
    let mut kept: Vec<RouterView> = Vec::new();
    let mut total_count = 0;
    let mut read = 0;
    loop {
        let query = RouterQuery { filter: filter.clone(), sort, descending, limit: PAGE_MAX, offset: read };
        let listed = call.web.register.routers(query).await.map_err(of_register)?;
        let rows = listed.routers.len();
        read += rows as u64;
        for row in listed.routers {
            if !wanted.query.matches(&|field| view::field(call, &row, field)) {
                continue;
            }
            total_count += 1;
            if order.is_none() || kept.len() < keep {
                kept.push(row);
            }
        }
        let is_last = rows < PAGE_MAX as usize;
        if order.is_none() && (is_last || kept.len() > keep.saturating_mul(2).saturating_add(1000)) {
            kept.sort_by(|left, right| {
                Query::compare(&wanted.sort, &|field| view::field(call, left, field), &|field| {
                    view::field(call, right, field)
                })
            });
            kept.truncate(keep);
        }
        if is_last {
            break;
        }
    }
    let skip = usize::try_from(wanted.offset).unwrap_or(usize::MAX).min(kept.len());
    let page = kept.split_off(skip);
    Ok((page, Pagination { limit: wanted.limit, offset: wanted.offset, total_count }))
}

/// The order in which the register itself can list, if it is the one that was asked for.
fn register_order(sort: &[Sort]) -> Option<(RouterSort, bool)> {
    match sort {
        [] => Some((RouterSort::Name, false)),
        [one] => {
            let by = match one.field.as_str() {
                "id" => RouterSort::Id,
                "name" => RouterSort::Name,
                "createdAt" => RouterSort::CreatedAt,
                "updatedAt" => RouterSort::UpdatedAt,
                _ => return None,
            };
            Some((by, one.is_descending))
        }
        _ => None,
    }
}

/// What a list filters by, where it is plain text or a flag.
pub(super) fn text(value: impl Into<String>) -> FieldValue {
    FieldValue::Text(value.into())
}
