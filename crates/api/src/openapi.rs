//! The OpenAPI 3 document, made from the route table alone.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::envelope::{Created, ListMeta, Meta};
use crate::error::ErrorEnvelope;
use crate::routes::{Access, Answer, ROUTES, Route};
use crate::schema::{Described, Schemas};
use crate::{Code, NATIVE_BASE};

/// The document.
pub fn document() -> Value {
    let mut schemas = Schemas::default();
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for row in ROUTES {
        let operation = operation(row, &mut schemas);
        paths.entry(row.path).or_default().insert(row.method.as_str().to_ascii_lowercase(), operation);
    }
    let document = json!({
        "openapi": "3.0.3",
        "info": {
            "title": "Exuvia controller",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Enrollment, management and observation of routers. Paths under `/edge` speak OpenZiti's interface as far as routers need it; paths under `/api/v1` are Exuvia's own.",
            "license": { "name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0" },
        },
        "paths": paths,
        "components": {
            "schemas": schemas.into_value(),
            "securitySchemes": {
                "session": { "type": "apiKey", "in": "header", "name": crate::SESSION_HEADER, "description": "Token of a session, from `authenticate`." },
                "bearer": { "type": "http", "scheme": "bearer", "description": "The same token." },
                "routerLeaf": { "type": "mutualTLS", "description": "A router's client leaf." },
            },
        },
    });
    sorted(document)
}

/// The document as it is committed.
pub fn document_text() -> String {
    format!("{:#}\n", document())
}

fn operation(row: &Route, schemas: &mut Schemas) -> Value {
    let mut out = json!({
        "operationId": row.operation.id(),
        "summary": row.summary,
        "tags": [tag(row)],
        "responses": responses(row, schemas),
        "security": security(row.access),
    });
    let Value::Object(map) = &mut out else { return out };
    if !row.also.is_empty() {
        let also = row.also.iter().map(|path| format!("`{path}`")).collect::<Vec<_>>().join(", ");
        map.insert("description".to_owned(), Value::String(format!("Also served at {also}.")));
    }
    let mut parameters: Vec<Value> = Vec::new();
    if row.path.contains("{id}") {
        parameters.push(json!({ "name": "id", "in": "path", "required": true, "description": "Id of the router", "schema": { "type": "string" } }));
    }
    parameters.extend(row.query.iter().map(|parameter| {
        let kind = if matches!(parameter.name, "limit" | "offset") { "integer" } else { "string" };
        json!({ "name": parameter.name, "in": "query", "required": parameter.is_required, "description": parameter.about, "schema": { "type": kind } })
    }));
    if !parameters.is_empty() {
        map.insert("parameters".to_owned(), Value::Array(parameters));
    }
    if let Some(body) = row.body {
        let content = json!({ "application/json": { "schema": body(schemas) } });
        map.insert("requestBody".to_owned(), json!({ "required": true, "content": content }));
    }
    out
}

fn tag(row: &Route) -> &'static str {
    match row.path {
        path if path.starts_with(NATIVE_BASE) => "exuvia",
        path if path.starts_with(crate::MANAGEMENT_BASE) => "management",
        path if path.starts_with(crate::CLIENT_BASE) || path.contains("/est/") => "enrollment",
        _ => "observation",
    }
}

fn security(access: Access) -> Value {
    match access {
        Access::Open => json!([]),
        Access::Session => json!([{ "session": [] }, { "bearer": [] }]),
        Access::RouterLeaf => json!([{ "routerLeaf": [] }]),
    }
}

fn responses(row: &Route, schemas: &mut Schemas) -> Value {
    let enveloped = |data: Value, meta: Value| json!({ "application/json": { "schema": { "type": "object", "properties": { "data": data, "meta": meta }, "required": ["data", "meta"] } } });
    let (status, content, about) = match row.answer {
        Answer::One(of) | Answer::Verdict(of) => (200, enveloped(of(schemas), Meta::schema(schemas)), "Done."),
        Answer::Page(of) => {
            let rows = json!({ "type": "array", "items": of(schemas) });
            (200, enveloped(rows, ListMeta::schema(schemas)), "One page.")
        }
        Answer::Created => (201, enveloped(Created::schema(schemas), Meta::schema(schemas)), "Made."),
        Answer::Plain { content_type, about } => {
            (200, json!({ content_type: { "schema": { "type": "string" } } }), about)
        }
    };
    let mut all = Map::new();
    let is_verdict = matches!(row.answer, Answer::Verdict(_));

    let mut codes: BTreeMap<u16, BTreeSet<&str>> = BTreeMap::new();
    let of_access: &[Code] = if row.access == Access::Session { &[Code::Unauthorized] } else { &[] };
    let of_body: &[Code] = if row.body.is_some() { &[Code::InvalidContentType] } else { &[] };
    let of_all: &[Code] =
        &[Code::CouldNotValidate, Code::TooLarge, Code::ServerTooManyRequests, Code::Unhandled, Code::Unavailable];
    for code in row.errors.iter().chain(of_access).chain(of_body).chain(of_all) {
        codes.entry(code.status()).or_default().insert(code.as_str());
    }
    for (status, codes) in codes {
        let listed = codes.iter().map(|code| format!("`{code}`")).collect::<Vec<_>>().join(", ");
        let content = json!({ "application/json": { "schema": ErrorEnvelope::schema(schemas) } });
        all.insert(status.to_string(), json!({ "description": listed, "content": content }));
    }
    if is_verdict {
        all.insert("503".to_owned(), json!({ "description": "Not good.", "content": content }));
    }
    all.insert(status.to_string(), json!({ "description": about, "content": content }));
    Value::Object(all)
}

/// With keys in order, whether or not some other crate makes `serde_json` keep the order of insertion.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let ordered: BTreeMap<String, Value> = map.into_iter().map(|(key, value)| (key, sorted(value))).collect();
            Value::Object(ordered.into_iter().collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        plain => plain,
    }
}
