//! What every answer is wrapped in: `{data, meta}`.
//!
//! Source: `openziti/ziti:controller/response/responder.go`, `openziti/edge-api:management.yml`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One thing, or the outcome of a command.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Envelope<T> {
    /// The thing.
    pub data: T,
    /// Always there, always empty.
    #[serde(default = "nothing")]
    pub meta: Meta,
}

impl<T> Envelope<T> {
    /// Wraps `data`.
    pub fn new(data: T) -> Self {
        Self { data, meta: Meta {} }
    }
}

fn nothing() -> Meta {
    Meta {}
}

/// A page of a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ListEnvelope<T> {
    /// The rows of this page.
    pub data: Vec<T>,
    /// Where this page lies.
    pub meta: ListMeta,
}

views! { "camelCase":
    /// Nothing to say about a single thing.
    Meta {}

    /// Nothing to answer.
    Empty {}

    /// What is said about a list.
    ListMeta {
        /// Which part of the list this is.
        pagination: Pagination,
        /// Fields that `filter` and `sort` know.
        filterable_fields: Vec<String>,
    }

    /// Which part of a list an answer holds.
    Pagination {
        /// Most rows in one page.
        limit: u64,
        /// Rows skipped before this page.
        offset: u64,
        /// Rows that match, on all pages.
        total_count: u64,
    }

    /// Where something is.
    Link {
        /// Path relative to the API's base, starting with `./`.
        href: String,
    }

    /// What a create answers.
    Created {
        /// Where the new thing is, under `self`.
        links as "_links": BTreeMap<String, Link>,
        /// Its id.
        id: String,
    }
}

impl Created {
    /// A thing that was just made in `collection`.
    pub fn new(collection: &str, id: &str) -> Self {
        Self { links: self_link(collection, id), id: id.to_owned() }
    }
}

/// The `_links` of the thing `id` in `collection`.
pub fn self_link(collection: &str, id: &str) -> BTreeMap<String, Link> {
    [("self".to_owned(), Link { href: format!("./{collection}/{id}") })].into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::{Created, Empty, Envelope};

    #[test]
    fn a_create_answers_with_links_and_id() {
        let json = serde_json::to_value(Envelope::new(Created::new("edge-routers", "r1"))).unwrap();
        let want = serde_json::json!({
            "data": { "_links": { "self": { "href": "./edge-routers/r1" } }, "id": "r1" },
            "meta": {},
        });
        assert_eq!(json, want);
    }

    #[test]
    fn a_command_without_result_answers_with_empty_data() {
        let json = serde_json::to_value(Envelope::new(Empty {})).unwrap();
        assert_eq!(json, serde_json::json!({ "data": {}, "meta": {} }));
    }
}
