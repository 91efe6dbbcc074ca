//! Lists: OpenZiti's query language onto the register's pages.
//!
//! What the register can look up or sort by itself is left to it. Everything else is read page by page and judged here,
//! holding no more rows than the answer needs.

use std::collections::HashMap;

use api::envelope::Pagination;
use api::filter::{Field, FieldKind, FieldValue, Limit, Query, Sort};
use api::{ApiError, Code};
use lifecycle::RouterId;
use lifecycle::issuance::EnrollmentKind;
use store::register::{PAGE_MAX, RouterFilter, RouterQuery, RouterSort, RouterView};

use super::call::Call;
use super::reply::of_register;
use super::roles::RoleFilter;
use super::view;

const LIMIT_DEFAULT: u64 = 10;
/// Most rows for whoever names a number, as upstream.
const LIMIT_MAX: u64 = 500;
/// Most rows for whoever wants all of them. A row may hold certificates of several KiB.
const LIMIT_NONE: u64 = 5_000;
/// Rows that may be skipped. Upstream goes on from here silently; whoever wants more of the list should say what it wants.
const OFFSET_MAX: u64 = 1_000_000;
/// Look-ups that are made instead of reading every row.
const LOOKUPS_MAX: usize = 64;

/// Fields that lists of OpenZiti's interfaces can be filtered and sorted by.
pub(super) const FIELDS: &[Field] = &[
    Field::new("id", FieldKind::Text),
    Field::new("name", FieldKind::Text),
    Field::new("cost", FieldKind::Number),
    Field::new("noTraversal", FieldKind::Flag),
    Field::new("disabled", FieldKind::Flag),
    Field::new("fingerprint", FieldKind::Text),
    Field::new("isVerified", FieldKind::Flag),
    Field::new("isOnline", FieldKind::Flag),
    Field::new("connected", FieldKind::Flag),
    Field::new("isTunnelerEnabled", FieldKind::Flag),
    Field::new("roleAttributes", FieldKind::Texts),
    Field::new("hostname", FieldKind::Text),
    Field::new("createdAt", FieldKind::Time),
    Field::new("updatedAt", FieldKind::Time),
    Field::new("tags.*", FieldKind::Any),
];

/// Fields that lists of our own interface can be filtered and sorted by.
pub(super) const NATIVE_FIELDS: &[Field] = &[
    Field::new("id", FieldKind::Text),
    Field::new("name", FieldKind::Text),
    Field::new("kind", FieldKind::Text),
    Field::new("standing", FieldKind::Text),
    Field::new("progress", FieldKind::Text),
    Field::new("connected", FieldKind::Flag),
    Field::new("lockout_s", FieldKind::Number),
];

/// Which part of a list a caller wants.
pub(super) struct Wanted {
    query: Query,
    sort: Vec<Sort>,
    limit: u64,
    offset: u64,
    roles: Option<RoleFilter>,
}

impl Wanted {
    pub(super) fn read(call: &Call, known: &[Field]) -> Result<Self, ApiError> {
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
        // What the filter itself says comes before the other parameters, as upstream.
        let mut sort = std::mem::take(&mut query.sort);
        if let Some(text) = call.parameter("sort").filter(|text| !text.trim().is_empty()) {
            let told = Query::parse_sort(text).and_then(|sort| Query::check_sort(&sort, known).map(|()| sort));
            let told = told.map_err(|error| {
                let names = known.iter().map(|field| field.name).collect::<Vec<_>>().join(", ");
                refuse(Code::InvalidSort, "sort", format!("{error}; known are {names}"))
            })?;
            if sort.is_empty() {
                sort = told;
            }
        }
        let limit_told = limit(call)?;
        let limit = match (query.limit, limit_told) {
            (Some(Limit::None), _) | (None, Some(Limit::None)) => LIMIT_NONE,
            (Some(Limit::Rows(rows)), _) | (None, Some(Limit::Rows(rows))) => rows.min(LIMIT_MAX),
            (None, None) => LIMIT_DEFAULT,
        };
        let offset_told = offset(call)?;
        let offset = query.skip.unwrap_or(offset_told);
        if offset > OFFSET_MAX {
            let reason = format!("at most {OFFSET_MAX} rows can be skipped; use a filter");
            return Err(ApiError::field(Code::InvalidPagination, "offset", reason, Some(offset.into())));
        }
        let limit = if limit == 0 { LIMIT_DEFAULT } else { limit };
        Ok(Self { query, sort, limit, offset, roles: None })
    }

    /// Only routers that these role filters choose.
    pub(super) fn with_roles(self, roles: Option<RoleFilter>) -> Self {
        Self { roles, ..self }
    }

    fn is_everything(&self) -> bool {
        self.query.is_everything() && self.roles.is_none()
    }

    fn matches(&self, call: &Call, row: &Row) -> bool {
        self.roles.as_ref().is_none_or(|roles| roles.chooses(&row.view.router))
            && self.query.matches(&|field| row.field(call, field))
    }
}

/// The `limit` parameter: absent, 0 and below -1 mean the default, as upstream; -1 means no limit of the caller's.
fn limit(call: &Call) -> Result<Option<Limit>, ApiError> {
    Ok(match integer(call, "limit")? {
        Some(-1) => Some(Limit::None),
        Some(rows) => u64::try_from(rows).ok().map(Limit::Rows),
        None => None,
    })
}

/// The `offset` parameter: below 0 means from the start, as upstream.
fn offset(call: &Call) -> Result<u64, ApiError> {
    Ok(integer(call, "offset")?.map_or(0, |rows| u64::try_from(rows).unwrap_or(0)))
}

fn integer(call: &Call, name: &str) -> Result<Option<i64>, ApiError> {
    let Some(text) = once(call, name)? else { return Ok(None) };
    text.parse().map(Some).map_err(|_| not_whole(name, text))
}

/// The parameter, which may be empty but not given twice.
fn once<'a>(call: &'a Call, name: &'a str) -> Result<Option<&'a str>, ApiError> {
    let mut all = call.parameters(name);
    match (all.next(), all.next()) {
        (_, Some(_)) => Err(ApiError::field(Code::InvalidPagination, name, "is given twice", None)),
        (first, None) => Ok(first.filter(|text| !text.is_empty())),
    }
}

fn not_whole(name: &str, text: &str) -> ApiError {
    ApiError::field(Code::InvalidPagination, name, "must be a whole number of at most 64 bits", Some(text.into()))
}

/// A whole number in the query string that cannot be negative.
pub(super) fn number(call: &Call, name: &str) -> Result<Option<u64>, ApiError> {
    let Some(text) = once(call, name)? else { return Ok(None) };
    text.parse().map(Some).map_err(|_| not_whole(name, text))
}

/// A router, and what must be read for it besides.
struct Row {
    view: RouterView,
    fingerprint: Option<String>,
}

impl Row {
    fn field(&self, call: &Call, name: &str) -> FieldValue {
        match (name, &self.fingerprint) {
            ("fingerprint", Some(fingerprint)) => FieldValue::Text(fingerprint.clone()),
            _ => view::field(call, &self.view, name),
        }
    }
}

/// The routers that were asked for.
pub(super) async fn routers(
    call: &Call,
    kind: Option<EnrollmentKind>,
    wanted: Wanted,
) -> Result<(Vec<RouterView>, Pagination), ApiError> {
    let order = register_order(&wanted.sort);
    let filter: Vec<RouterFilter> = kind.map(RouterFilter::Kind).into_iter().collect();
    let page = |total_count| Pagination { limit: wanted.limit, offset: wanted.offset, total_count };
    if let (true, Some((sort, descending))) = (wanted.is_everything(), order) {
        let mut rows = Vec::new();
        loop {
            let left = wanted.limit.saturating_sub(rows.len() as u64);
            let limit = u32::try_from(left).unwrap_or(PAGE_MAX).min(PAGE_MAX);
            let offset = wanted.offset.saturating_add(rows.len() as u64);
            let query = RouterQuery { filter: filter.clone(), sort, descending, limit, offset };
            let listed = call.web.register.routers(query).await.map_err(of_register)?;
            let is_last = listed.routers.len() < PAGE_MAX as usize;
            rows.extend(listed.routers);
            if is_last || rows.len() as u64 >= wanted.limit {
                return Ok((rows, page(listed.total)));
            }
        }
    }
    if let Some(found) = looked_up(call, &filter, &wanted).await? {
        let mut kept = Vec::new();
        for view in found {
            let row = row(call, &wanted, view).await?;
            if wanted.matches(call, &row) {
                kept.push(row);
            }
        }
        let total_count = kept.len() as u64;
        sort_rows(call, &wanted, &mut kept);
        return Ok((cut(kept, &wanted), page(total_count)));
    }
    let (sort, descending) = order.unwrap_or_default();
    let keep = usize::try_from(wanted.offset.saturating_add(wanted.limit)).unwrap_or(usize::MAX);
    let mut kept: Vec<Row> = Vec::new();
    let mut total_count = 0;
    let mut read = 0;
    loop {
        let query = RouterQuery { filter: filter.clone(), sort, descending, limit: PAGE_MAX, offset: read };
        let listed = call.web.register.routers(query).await.map_err(of_register)?;
        let rows = listed.routers.len();
        read += rows as u64;
        for view in listed.routers {
            let row = row(call, &wanted, view).await?;
            if !wanted.matches(call, &row) {
                continue;
            }
            total_count += 1;
            if order.is_none() || kept.len() < keep {
                kept.push(row);
            }
        }
        let is_last = rows < PAGE_MAX as usize;
        if order.is_none() && (is_last || kept.len() > keep.saturating_mul(2).saturating_add(1000)) {
            sort_rows(call, &wanted, &mut kept);
            kept.truncate(keep);
        }
        if is_last {
            break;
        }
    }
    Ok((cut(kept, &wanted), page(total_count)))
}

/// The rows that the query asks for by id or name, if it does: the command-line tool maps every name to an id like this.
async fn looked_up(call: &Call, filter: &[RouterFilter], wanted: &Wanted) -> Result<Option<Vec<RouterView>>, ApiError> {
    let Some(pairs) = wanted.query.lookups(&["id", "name"]).filter(|pairs| pairs.len() <= LOOKUPS_MAX) else {
        return Ok(None);
    };
    let mut found = HashMap::new();
    for (field, text) in pairs {
        let one = match field {
            "id" => RouterFilter::Id(RouterId::new(text)),
            _ => RouterFilter::NameIs(text.to_owned()),
        };
        let filter = filter.iter().cloned().chain([one]).collect();
        let query = RouterQuery { filter, ..RouterQuery::default() };
        let listed = call.web.register.routers(query).await.map_err(of_register)?;
        found.extend(listed.routers.into_iter().map(|view| (view.router.id.clone(), view)));
    }
    let mut found: Vec<RouterView> = found.into_values().collect();
    found.sort_by(|left, right| (&left.router.name, &left.router.id).cmp(&(&right.router.name, &right.router.id)));
    Ok(Some(found))
}

async fn row(call: &Call, wanted: &Wanted, view: RouterView) -> Result<Row, ApiError> {
    let is_asked = wanted.query.mentions("fingerprint") || wanted.sort.iter().any(|sort| sort.field == "fingerprint");
    let fingerprint = if is_asked { view::fingerprint(&call.web, &view.record).await? } else { None };
    Ok(Row { view, fingerprint })
}

fn sort_rows(call: &Call, wanted: &Wanted, rows: &mut [Row]) {
    rows.sort_by(|left, right| {
        Query::compare(&wanted.sort, &|field| left.field(call, field), &|field| right.field(call, field))
    });
}

fn cut(rows: Vec<Row>, wanted: &Wanted) -> Vec<RouterView> {
    let skip = usize::try_from(wanted.offset).unwrap_or(usize::MAX);
    let take = usize::try_from(wanted.limit).unwrap_or(usize::MAX);
    rows.into_iter().skip(skip).take(take).map(|row| row.view).collect()
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
