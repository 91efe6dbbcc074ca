//! What OpenZiti's published descriptions promise its clients about everything that we serve, in our own words: a field, its
//! kind, and whether a client may count on it. `cargo xtask api-conformance` holds a running controller against the
//! descriptions themselves; this holds our document against the facts that we rely on, without them.

#![expect(clippy::unwrap_used, reason = "this is how tests fail")]

use serde_json::Value;

/// Always there.
const ALWAYS: bool = true;
/// There when there is something to say.
const SOMETIMES: bool = false;

type Fact = (&'static str, &'static str, bool);

/// Everything that has an id.
const ENTITY: &[Fact] = &[
    ("_links", "object", ALWAYS),
    ("id", "string", ALWAYS),
    ("createdAt", "string", ALWAYS),
    ("updatedAt", "string", ALWAYS),
    ("tags", "object", ALWAYS),
];

const EDGE_ROUTER: &[Fact] = &[
    ("name", "string", ALWAYS),
    ("hostname", "string", ALWAYS),
    ("supportedProtocols", "object", ALWAYS),
    ("syncStatus", "string", ALWAYS),
    ("isOnline", "boolean", ALWAYS),
    ("cost", "integer", ALWAYS),
    ("noTraversal", "boolean", ALWAYS),
    ("disabled", "boolean", ALWAYS),
    ("isVerified", "boolean", ALWAYS),
    ("isTunnelerEnabled", "boolean", ALWAYS),
    ("roleAttributes", "array", ALWAYS),
    ("appData", "object", ALWAYS),
    ("certPem", "string or null", ALWAYS),
    ("unverifiedFingerprint", "string or null", ALWAYS),
    ("unverifiedCertPem", "string or null", ALWAYS),
    ("interfaces", "array", ALWAYS),
    ("configs", "array", ALWAYS),
    ("fingerprint", "string", SOMETIMES),
    ("enrollmentJwt", "string", SOMETIMES),
    ("enrollmentToken", "string", SOMETIMES),
    ("enrollmentCreatedAt", "string", SOMETIMES),
    ("enrollmentExpiresAt", "string", SOMETIMES),
    ("ctrlChanListeners", "object", SOMETIMES),
];

const TRANSIT_ROUTER: &[Fact] = &[
    ("name", "string", ALWAYS),
    ("isVerified", "boolean", ALWAYS),
    ("isOnline", "boolean", ALWAYS),
    // Described as a string; every controller sends null before the enrollment.
    ("fingerprint", "string or null", ALWAYS),
    ("cost", "integer", ALWAYS),
    ("noTraversal", "boolean", ALWAYS),
    ("disabled", "boolean", ALWAYS),
    ("unverifiedFingerprint", "string or null", ALWAYS),
    ("unverifiedCertPem", "string or null", ALWAYS),
    ("interfaces", "array", ALWAYS),
    ("configs", "array", ALWAYS),
    ("enrollmentJwt", "string", SOMETIMES),
    ("enrollmentExpiresAt", "string", SOMETIMES),
];

const FABRIC_ROUTER: &[Fact] = &[
    ("name", "string", ALWAYS),
    ("fingerprint", "string or null", ALWAYS),
    ("connected", "boolean", ALWAYS),
    ("cost", "integer", ALWAYS),
    ("noTraversal", "boolean", ALWAYS),
    ("disabled", "boolean", ALWAYS),
    ("listenerAddresses", "array", ALWAYS),
    ("interfaces", "array", ALWAYS),
    ("configs", "array", ALWAYS),
    ("ctrlChanListeners", "object", SOMETIMES),
];

const SESSION: &[Fact] = &[
    ("token", "string", ALWAYS),
    ("identityId", "string", ALWAYS),
    ("configTypes", "array", ALWAYS),
    ("ipAddress", "string", ALWAYS),
    ("authQueries", "array", ALWAYS),
    ("isMfaRequired", "boolean", ALWAYS),
    ("isMfaComplete", "boolean", ALWAYS),
    ("authenticatorId", "string", ALWAYS),
    ("isCertExtendable", "boolean", ALWAYS),
    ("expiresAt", "string", ALWAYS),
    ("expirationSeconds", "integer", ALWAYS),
];

const VERSION: &[Fact] = &[
    ("version", "string", ALWAYS),
    ("revision", "string", ALWAYS),
    ("buildDate", "string", ALWAYS),
    ("runtimeVersion", "string", ALWAYS),
    ("capabilities", "array", ALWAYS),
    ("apiVersions", "object", ALWAYS),
];

const VERSION_INFO: &[Fact] = &[
    ("version", "string", ALWAYS),
    ("revision", "string", ALWAYS),
    ("buildDate", "string", ALWAYS),
    ("os", "string", ALWAYS),
    ("arch", "string", ALWAYS),
];

const PAGE: &[Fact] = &[("limit", "integer", ALWAYS), ("offset", "integer", ALWAYS), ("totalCount", "integer", ALWAYS)];

const ERROR: &[Fact] = &[
    ("code", "string", ALWAYS),
    ("message", "string", ALWAYS),
    ("requestId", "string", ALWAYS),
    ("causeMessage", "string", SOMETIMES),
    ("args", "object", SOMETIMES),
];

/// An inner error, or a field, its value as text, and what is wrong with it.
const CAUSE: &[Fact] = &[
    ("code", "string", SOMETIMES),
    ("message", "string", SOMETIMES),
    ("field", "string", SOMETIMES),
    ("reason", "string", SOMETIMES),
    ("value", "string", SOMETIMES),
];

fn kind(document: &Value, property: &Value) -> String {
    let own = property["allOf"].as_array().and_then(|all| all.first()).unwrap_or(property);
    let own = match own["$ref"].as_str() {
        Some(reference) => document.pointer(reference.trim_start_matches('#')).unwrap(),
        None => own,
    };
    let null = if property["nullable"] == true { " or null" } else { "" };
    format!("{}{null}", own["type"].as_str().unwrap_or("anything"))
}

#[test]
fn every_view_has_what_openzitis_clients_count_on() {
    let document = api::openapi::document();
    for (view, facts) in [
        ("EdgeRouterView", [ENTITY, EDGE_ROUTER].concat()),
        ("TransitRouterView", [ENTITY, TRANSIT_ROUTER].concat()),
        ("FabricRouterView", [ENTITY, FABRIC_ROUTER].concat()),
        ("SessionView", [ENTITY, SESSION].concat()),
        ("VersionView", VERSION.to_vec()),
        ("VersionInfoView", VERSION_INFO.to_vec()),
        ("Pagination", PAGE.to_vec()),
        ("ErrorView", ERROR.to_vec()),
        ("CauseView", CAUSE.to_vec()),
    ] {
        let schema = &document["components"]["schemas"][view];
        let required = schema["required"].as_array().cloned().unwrap_or_default();
        for (field, wanted, is_required) in facts {
            let property = &schema["properties"][field];
            assert_eq!(kind(&document, property), wanted, "{view}.{field}");
            assert_eq!(required.contains(&Value::String(field.to_owned())), is_required, "{view}.{field}");
        }
    }
}

#[test]
fn every_answer_is_wrapped_as_openzitis_clients_expect() {
    let document = api::openapi::document();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            for (status, response) in operation["responses"].as_object().unwrap() {
                let Some(json) = response["content"].get("application/json") else { continue };
                let schema = &json["schema"];
                if status.starts_with('2') || path == "/readyz" && status == "503" {
                    assert_eq!(schema["required"], serde_json::json!(["data", "meta"]), "{method} {path} {status}");
                } else {
                    assert_eq!(schema["$ref"], "#/components/schemas/ErrorEnvelope", "{method} {path} {status}");
                }
            }
        }
    }
    let envelope = &document["components"]["schemas"]["ErrorEnvelope"];
    assert_eq!(envelope["required"], serde_json::json!(["error", "meta"]));
}

#[test]
fn a_create_answers_201_and_everything_else_200() {
    let document = api::openapi::document();
    for (path, method, status) in [
        ("/edge/management/v1/edge-routers", "post", "201"),
        ("/edge/management/v1/transit-routers", "post", "201"),
        ("/fabric/v1/routers", "post", "201"),
        ("/edge/management/v1/edge-routers/{id}", "patch", "200"),
        ("/edge/management/v1/edge-routers/{id}", "put", "200"),
        ("/edge/management/v1/edge-routers/{id}", "delete", "200"),
        ("/edge/management/v1/edge-routers/{id}/re-enroll", "post", "200"),
        ("/fabric/v1/routers/{id}", "patch", "200"),
        ("/fabric/v1/routers/{id}", "delete", "200"),
        ("/edge/management/v1/authenticate", "post", "200"),
    ] {
        let responses = document["paths"][path][method]["responses"].as_object().unwrap();
        let done: Vec<&String> = responses.keys().filter(|status| status.starts_with('2')).collect();
        assert_eq!(done, [status], "{method} {path}");
        // What a stock controller may answer beside, a client of either may have to bear.
        for status in ["401", "429", "503"] {
            assert!(responses.contains_key(status), "{method} {path} {status}");
        }
    }
}
