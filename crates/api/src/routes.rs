//! Every operation, as data. The controller matches on [`Operation`] to serve them, [`crate::openapi`] describes them.

use serde_json::Value;

use crate::Code::{self, *};
use crate::envelope::Empty;
use crate::fabric::*;
use crate::native::*;
use crate::schema::{Described, Schemas};
use crate::ziti::*;

/// Base path of OpenZiti's client interface.
pub const CLIENT_BASE: &str = "/edge/client/v1";
/// Base path of OpenZiti's management interface.
pub const MANAGEMENT_BASE: &str = "/edge/management/v1";
/// Base path of OpenZiti's fabric interface.
pub const FABRIC_BASE: &str = "/fabric/v1";
/// Base path of Exuvia's own interface.
pub const NATIVE_BASE: &str = "/api/v1";

/// How an operation is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Method {
    /// Reads.
    Get,
    /// Makes, or orders.
    Post,
    /// Changes some of it.
    Patch,
    /// Replaces it.
    Put,
    /// Ends it.
    Delete,
}

impl Method {
    /// As HTTP spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Patch => "PATCH",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
        }
    }
}

/// What a caller must show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nothing.
    Open,
    /// A session's token, in `zt-session` or as bearer.
    Session,
    /// A router's client leaf, in the TLS handshake.
    RouterLeaf,
}

/// A query or path parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// What it is for.
    pub about: &'static str,
    /// Must it be there?
    pub is_required: bool,
}

/// A function that enters a schema and returns the reference to it.
pub type SchemaOf = fn(&mut Schemas) -> Value;

/// What an operation answers when it succeeds.
#[derive(Clone, Copy, Debug)]
pub enum Answer {
    /// 200 and one thing in the envelope.
    One(SchemaOf),
    /// The same, and with 503 when what it tells is not good.
    Verdict(SchemaOf),
    /// 200 and a page of things in the envelope.
    Page(SchemaOf),
    /// 201 and where the new thing is.
    Created,
    /// 200 and a body of another kind.
    Plain {
        /// Its content type.
        content_type: &'static str,
        /// What it holds.
        about: &'static str,
    },
}

/// One operation.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// Which one.
    pub operation: Operation,
    /// How it is called.
    pub method: Method,
    /// Where, with `{id}` for what varies.
    pub path: &'static str,
    /// Other places where it is served.
    pub also: &'static [&'static str],
    /// What it does, in one line.
    pub summary: &'static str,
    /// What a caller must show.
    pub access: Access,
    /// Its query parameters.
    pub query: &'static [Parameter],
    /// Its body.
    pub body: Option<SchemaOf>,
    /// What it answers.
    pub answer: Answer,
    /// Errors of its own, beside those that every operation may answer.
    pub errors: &'static [Code],
}

impl Route {
    /// The path of this operation on the thing `id`, percent-encoded.
    pub fn path_for(&self, id: &str) -> String {
        let encoded: String = id
            .bytes()
            .map(|byte| match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
                byte => format!("%{byte:02X}"),
            })
            .collect();
        self.path.replace("{id}", &encoded)
    }
}

const fn optional(name: &'static str, about: &'static str) -> Parameter {
    Parameter { name, about, is_required: false }
}

const fn needed(name: &'static str, about: &'static str) -> Parameter {
    Parameter { name, about, is_required: true }
}

const PAGE: &[Parameter] = &[
    optional(
        "filter",
        "`name=\"r1\"`, `name contains \"x\"`, `id in [\"a\", \"b\"]`, joined by `and`, `or`, `not`, parentheses; or `true`; then `sort by`, `skip`, `limit`, which come before the other parameters",
    ),
    optional("sort", "field, then `asc` or `desc`; several separated by commas"),
    optional("limit", "most rows: 10 unless told, at most 500; -1 means as many as the server is willing to send"),
    optional("offset", "rows to skip"),
];

const EDGE_ROUTER_PAGE: &[Parameter] = &[
    PAGE[0],
    PAGE[1],
    PAGE[2],
    PAGE[3],
    optional("roleFilter", "`#attribute`, `@id` or `#all`; may be given several times"),
    optional("roleSemantic", "`AllOf` (unless told) or `AnyOf` of the role filters"),
];

const AUDIT_PAGE: &[Parameter] = &[
    optional("limit", "most rows: 10 unless told, at most 500"),
    optional("before", "only entries older than this `seq`"),
];

const PIPELINE_PAGE: &[Parameter] = &[optional("limit", "most routers: 100 unless told, at most 500")];

/// What a row gives, or else the default.
macro_rules! given {
    ([], $default:expr) => {
        $default
    };
    ([$given:expr], $default:expr) => {
        $given
    };
}

macro_rules! routes {
    ($( $operation:ident: $method:ident $path:literal $(also $also:expr)?, $access:ident, $summary:literal,
        $(query $query:expr,)? $(body $body:ty,)? => $answer:expr $(, errors $errors:expr)?; )*) => {
        /// Every operation of the interfaces.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Operation { $( #[doc = $summary] $operation, )* }

        impl Operation {
            /// Its name in the OpenAPI document and in metrics.
            pub const fn id(self) -> &'static str {
                match self { $(Self::$operation => stringify!($operation)),* }
            }
        }

        /// One row per operation, in the order of [`Operation`].
        pub const ROUTES: &[Route] = &[$( Route {
            operation: Operation::$operation,
            method: Method::$method,
            path: $path,
            also: given!([$($also)?], &[]),
            summary: $summary,
            access: Access::$access,
            query: given!([$($query)?], &[]),
            body: given!([$(Some(<$body as Described>::schema))?], None),
            answer: $answer,
            errors: given!([$($errors)?], &[]),
        } ),*];

        /// The row of an operation.
        pub const fn route(operation: Operation) -> &'static Route {
            // The table and the enum come from the same list, in the same order.
            &ROUTES[operation as usize]
        }
    };
}

/// The row that serves `method` on `path`, where `{id}` stands for itself.
pub fn find(method: Method, path: &str) -> Option<&'static Route> {
    ROUTES.iter().find(|route| route.method == method && (route.path == path || route.also.contains(&path)))
}

const ENROLL_ERRORS: &[Code] = &[
    InvalidEnrollmentToken,
    InvalidEnrollMethod,
    EnrollmentExpired,
    MissingOrInvalidCsr,
    CouldNotProcessCsr,
    CouldNotValidate,
    IssuerEndsSoon,
];
const WRITE_ERRORS: &[Code] = &[CouldNotValidate, InvalidField, NotFound];
const PAGE_ERRORS: &[Code] = &[InvalidFilter, InvalidPagination, InvalidSort];

routes! {
    Version: Get "/version" also &["/", "/edge/client/v1", "/edge/client/v1/", "/edge/client/v1/version", "/edge/management/v1", "/edge/management/v1/", "/edge/management/v1/version", "/fabric/v1", "/fabric/v1/"], Open,
        "Tell versions and where the interfaces are", => Answer::One(VersionView::schema);
    CaCertificates: Get "/.well-known/est/cacerts" also &["/edge/client/v1/.well-known/est/cacerts", "/edge/management/v1/.well-known/est/cacerts"], Open,
        "Hand out every CA certificate that a router must trust (EST, RFC 7030)",
        => Answer::Plain { content_type: "application/pkcs7-mime", about: "base64 of a certificates-only PKCS#7" };
    Enroll: Post "/edge/client/v1/enroll", Open,
        "Trade a one-time token and two certificate requests for a router's first leaves",
        query &[needed("method", "`erott` for an edge router, `trott` for a transit router"), needed("token", "the token's `jti`")],
        body EnrollRequest, => Answer::One(EnrollView::schema), errors ENROLL_ERRORS;
    ExtendOverHttp: Post "/edge/client/v1/enroll/extend/router", RouterLeaf,
        "Renew a router's leaves over HTTPS; unlike upstream's, the leaf that it replaces stays admitted until the new one is used",
        body EnrollRequest, => Answer::One(EnrollView::schema), errors &[Unauthorized, CouldNotProcessCsr, CouldNotValidate, NotFound, IssuerEndsSoon];

    Authenticate: Post "/edge/management/v1/authenticate" also &["/edge/client/v1/authenticate"], Open,
        "Begin a session",
        query &[needed("method", "`password`")],
        body AuthenticateRequest, => Answer::One(SessionView::schema), errors &[InvalidAuth, InvalidAuthMethod, CouldNotValidate, RateLimited];
    CurrentSession: Get "/edge/management/v1/current-api-session" also &["/edge/client/v1/current-api-session"], Session,
        "Show the session that asks", => Answer::One(SessionView::schema);
    EndSession: Delete "/edge/management/v1/current-api-session" also &["/edge/client/v1/current-api-session"], Session,
        "End the session that asks", => Answer::One(Empty::schema);

    CreateEdgeRouter: Post "/edge/management/v1/edge-routers", Session,
        "Make an edge router and its enrollment token", body EdgeRouterCreate, => Answer::Created, errors WRITE_ERRORS;
    ListEdgeRouters: Get "/edge/management/v1/edge-routers", Session,
        "List edge routers", query EDGE_ROUTER_PAGE, => Answer::Page(EdgeRouterView::schema), errors PAGE_ERRORS;
    GetEdgeRouter: Get "/edge/management/v1/edge-routers/{id}", Session,
        "Show one edge router", => Answer::One(EdgeRouterView::schema), errors &[NotFound];
    PatchEdgeRouter: Patch "/edge/management/v1/edge-routers/{id}", Session,
        "Change some of an edge router", body EdgeRouterPatch, => Answer::One(Empty::schema), errors WRITE_ERRORS;
    UpdateEdgeRouter: Put "/edge/management/v1/edge-routers/{id}", Session,
        "Change an edge router; what is left out goes back to its default", body EdgeRouterCreate, => Answer::One(Empty::schema), errors WRITE_ERRORS;
    DeleteEdgeRouter: Delete "/edge/management/v1/edge-routers/{id}", Session,
        "Delete an edge router and close its channels", => Answer::One(Empty::schema), errors &[NotFound];
    ReEnrollEdgeRouter: Post "/edge/management/v1/edge-routers/{id}/re-enroll", Session,
        "Void all leaves of an edge router, close its channels and make a new token", => Answer::One(Empty::schema), errors &[NotFound, FailedReEnrollment];

    CreateTransitRouter: Post "/edge/management/v1/transit-routers" also &["/edge/management/v1/routers"], Session,
        "Make a transit router and its enrollment token", body TransitRouterCreate, => Answer::Created, errors WRITE_ERRORS;
    ListTransitRouters: Get "/edge/management/v1/transit-routers" also &["/edge/management/v1/routers"], Session,
        "List transit routers", query PAGE, => Answer::Page(TransitRouterView::schema), errors PAGE_ERRORS;
    GetTransitRouter: Get "/edge/management/v1/transit-routers/{id}" also &["/edge/management/v1/routers/{id}"], Session,
        "Show one transit router", => Answer::One(TransitRouterView::schema), errors &[NotFound];
    PatchTransitRouter: Patch "/edge/management/v1/transit-routers/{id}" also &["/edge/management/v1/routers/{id}"], Session,
        "Change some of a transit router", body TransitRouterPatch, => Answer::One(Empty::schema), errors WRITE_ERRORS;
    UpdateTransitRouter: Put "/edge/management/v1/transit-routers/{id}" also &["/edge/management/v1/routers/{id}"], Session,
        "Change a transit router; what is left out goes back to its default", body TransitRouterCreate, => Answer::One(Empty::schema), errors WRITE_ERRORS;
    DeleteTransitRouter: Delete "/edge/management/v1/transit-routers/{id}" also &["/edge/management/v1/routers/{id}"], Session,
        "Delete a transit router and close its channels", => Answer::One(Empty::schema), errors &[NotFound];

    CreateFabricRouter: Post "/fabric/v1/routers", Session,
        "Make a router that has a leaf already", body FabricRouterCreate, => Answer::Created, errors WRITE_ERRORS;
    ListFabricRouters: Get "/fabric/v1/routers", Session,
        "List routers of both kinds", query PAGE, => Answer::Page(FabricRouterView::schema), errors PAGE_ERRORS;
    GetFabricRouter: Get "/fabric/v1/routers/{id}", Session,
        "Show one router of either kind", => Answer::One(FabricRouterView::schema), errors &[NotFound];
    PatchFabricRouter: Patch "/fabric/v1/routers/{id}", Session,
        "Change some of a router, its admitted leaf included", body FabricRouterPatch, => Answer::One(Empty::schema), errors WRITE_ERRORS;
    UpdateFabricRouter: Put "/fabric/v1/routers/{id}", Session,
        "Change a router; what is left out goes back to its default", body FabricRouterUpdate, => Answer::One(Empty::schema), errors WRITE_ERRORS;
    DeleteFabricRouter: Delete "/fabric/v1/routers/{id}", Session,
        "Delete a router of either kind and close its channels", => Answer::One(Empty::schema), errors &[NotFound];

    Summary: Get "/edge/management/v1/summary", Session,
        "Count what there is, by kind", => Answer::One(<std::collections::BTreeMap<String, u64>>::schema);

    ListRouters: Get "/api/v1/routers", Session,
        "List routers of both kinds with the state of their identities", query PAGE, => Answer::Page(RouterView::schema), errors PAGE_ERRORS;
    GetRouter: Get "/api/v1/routers/{id}", Session,
        "Show one router with the state of its identity", => Answer::One(RouterView::schema), errors &[NotFound];
    RenewRouter: Post "/api/v1/routers/{id}/renew", Session,
        "Ask a router to renew now", => Answer::One(RenewView::schema), errors &[NotFound, Conflict];
    RevokeRouter: Post "/api/v1/routers/{id}/revoke", Session,
        "Withdraw a router's identity at once; only re-enrollment brings it back", => Answer::One(RouterView::schema), errors &[NotFound];
    ReEnrollRouter: Post "/api/v1/routers/{id}/re-enroll", Session,
        "Void all leaves of a router of either kind, close its channels and make a new token", => Answer::One(EnrollmentView::schema), errors &[NotFound, FailedReEnrollment];
    ReadmitRouter: Post "/api/v1/routers/{id}/readmit", Session,
        "Vouch for one leaf of a router, whatever the register remembers of it", body ReadmitRequest, => Answer::One(RouterView::schema), errors &[NotFound, Conflict, CouldNotValidate, InvalidField];
    DismissFork: Post "/api/v1/routers/{id}/dismiss-fork", Session,
        "Call an older leaf that came back a crash: there is one holder", => Answer::One(RouterView::schema), errors &[NotFound];
    RouterAudit: Get "/api/v1/routers/{id}/audit", Session,
        "Show a router's audit trail, newest first", query AUDIT_PAGE, => Answer::One(AuditPageView::schema), errors &[InvalidPagination];
    Pipeline: Get "/api/v1/pipeline", Session,
        "Show who is due when, and who is stuck", query PIPELINE_PAGE, => Answer::One(PipelineView::schema), errors &[InvalidPagination];
    StartCampaign: Post "/api/v1/campaigns", Session,
        "Have the whole fleet re-key within a time", body CampaignRequest, => Answer::One(CampaignView::schema), errors &[CouldNotValidate, InvalidField];
    CurrentCampaign: Get "/api/v1/campaigns/current", Session,
        "Show the re-key in force", => Answer::One(CampaignView::schema), errors &[NotFound];
    EndCampaign: Delete "/api/v1/campaigns/current", Session,
        "End the re-key in force; routers that were told already may still renew", => Answer::One(Empty::schema);
    Events: Get "/api/v1/events", Session,
        "Follow what happens, as server-sent events",
        query &[optional("router", "only this router's")],
        => Answer::Plain { content_type: "text/event-stream", about: "events named by `kind`, each with an `EventView` as data" };

    Metrics: Get "/metrics", Open, "Metrics for Prometheus",
        => Answer::Plain { content_type: "application/openmetrics-text; version=1.0.0; charset=utf-8", about: "OpenMetrics text" };
    Health: Get "/healthz", Open, "Tell whether the process is alive", => Answer::One(HealthView::schema);
    Ready: Get "/readyz", Open, "Tell whether the controller can serve; 503 while it cannot", => Answer::Verdict(ReadyView::schema);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Method, Operation, ROUTES, find, route};

    #[test]
    fn no_two_operations_share_a_method_and_path() {
        let mut seen = BTreeSet::new();
        for row in ROUTES {
            for path in std::iter::once(&row.path).chain(row.also) {
                assert!(seen.insert((row.method, *path)), "{} {path} is served twice", row.method.as_str());
            }
        }
    }

    #[test]
    fn every_row_is_found_by_its_operation() {
        for (index, row) in ROUTES.iter().enumerate() {
            assert_eq!(row.operation as usize, index);
            assert_eq!(route(row.operation).path, row.path);
        }
    }

    #[test]
    fn an_id_cannot_leave_its_place_in_the_path() {
        let row = find(Method::Delete, "/edge/management/v1/edge-routers/{id}").unwrap();
        assert_eq!(row.operation, Operation::DeleteEdgeRouter);
        assert_eq!(row.path_for("a/../b?c"), "/edge/management/v1/edge-routers/a%2F..%2Fb%3Fc");
    }
}
