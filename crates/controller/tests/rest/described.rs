//! Every answer that any test here gets is held against the OpenAPI document: path, status, content type and shape.
//!
//! The document is made from the same views as the answers, so what this finds is what the views do not govern: statuses
//! that a route does not promise, other bodies, fields that are absent, texts that are no instants.

use std::sync::LazyLock;

use api::{Method, ROUTES, Route};
use serde_json::Value;

use crate::world::Answer;

static DOCUMENT: LazyLock<Value> = LazyLock::new(api::openapi::document);

/// Panics unless the document promises this answer.
pub(crate) fn check(method: &str, uri: &http::Uri, answer: &Answer) {
    let path = current(uri.path());
    let Some(row) = row(method, &path) else {
        let status = answer.status.as_u16();
        assert!(matches!(status, 404 | 405 | 413), "{method} {uri} is no route and answers {status}");
        is_valid(&DOCUMENT["components"]["schemas"]["ErrorEnvelope"], &answer.json(), uri.path());
        return;
    };
    let told = format!("{method} {uri}: {}", answer.status);
    let responses = &DOCUMENT["paths"][row.path][row.method.as_str().to_ascii_lowercase()]["responses"];
    let response = &responses[answer.status.as_str()];
    assert!(response.is_object(), "{told} is not described");
    let content = response["content"].as_object().unwrap_or_else(|| panic!("{told} has no content"));
    let kind = answer.headers["content-type"].to_str().unwrap();
    let described = content.get(kind).unwrap_or_else(|| panic!("{told} as `{kind}` is not described"));
    if kind == "application/json" && method != "HEAD" {
        is_valid(&described["schema"], &answer.json(), &told);
    }
}

/// The path that an older one leads to.
fn current(path: &str) -> String {
    const BARE: &[&str] = &["/enroll", "/authenticate", "/current-api-session"];
    match path.strip_prefix("/edge/v1") {
        Some(tail) => format!("{}{tail}", api::CLIENT_BASE),
        None if BARE.iter().any(|bare| path.starts_with(bare)) => format!("{}{path}", api::CLIENT_BASE),
        None => path.to_owned(),
    }
}

fn row(method: &str, path: &str) -> Option<&'static Route> {
    let is_method = |of: Method| of.as_str() == method || (of == Method::Get && method == "HEAD");
    ROUTES.iter().find(|row| {
        is_method(row.method) && std::iter::once(&row.path).chain(row.also).any(|template| fits(template, path))
    })
}

fn fits(template: &str, path: &str) -> bool {
    let (wanted, given) = (template.split('/'), path.split('/'));
    wanted.clone().count() == given.clone().count()
        && wanted.zip(given).all(|(wanted, given)| wanted == given || (wanted == "{id}" && !given.is_empty()))
}

/// The part of JSON Schema that the document uses.
fn is_valid(schema: &Value, value: &Value, at: &str) {
    if let Some(reference) = schema["$ref"].as_str() {
        let target = DOCUMENT.pointer(reference.trim_start_matches('#')).unwrap();
        return is_valid(target, value, at);
    }
    if value.is_null() && (schema["nullable"] == true || schema.get("type").is_none() && schema.get("allOf").is_none())
    {
        return;
    }
    for part in schema["allOf"].as_array().into_iter().flatten() {
        is_valid(part, value, at);
    }
    if let Some(words) = schema["enum"].as_array() {
        assert!(words.contains(value), "{at}: {value} is none of {words:?}");
    }
    let is_type = match schema["type"].as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("number") => value.is_number(),
        Some(other) => panic!("{at}: the document uses `{other}`, which this test does not know"),
        None => true,
    };
    assert!(is_type, "{at}: {value} is not {}", schema["type"]);
    if schema["format"] == "date-time" {
        let text = value.as_str().unwrap();
        assert!(text.parse::<jiff::Timestamp>().is_ok(), "{at}: `{text}` is no instant");
    }
    if let (Some(least), Some(number)) = (schema["minimum"].as_i64(), value.as_i64()) {
        assert!(number >= least, "{at}: {number} is less than {least}");
    }
    if let Some(items) = value.as_array() {
        items.iter().enumerate().for_each(|(index, item)| is_valid(&schema["items"], item, &format!("{at}[{index}]")));
    }
    if let Some(map) = value.as_object() {
        for name in schema["required"].as_array().into_iter().flatten() {
            assert!(map.contains_key(name.as_str().unwrap()), "{at}: {name} is missing");
        }
        for (name, inner) in map {
            let at = format!("{at}.{name}");
            match (schema["properties"].get(name), schema.get("additionalProperties")) {
                (Some(property), _) => is_valid(property, inner, &at),
                (None, Some(others)) => is_valid(others, inner, &at),
                (None, None) => assert!(schema.get("properties").is_none(), "{at} is not described"),
            }
        }
    }
}
