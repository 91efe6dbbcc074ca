//! What REST requests carry.

use api::fabric::{FabricRouterCreate, FabricRouterPatch, FabricRouterUpdate};
use api::filter::{Field, FieldKind, FieldValue, Query};
use api::native::{CampaignRequest, ReadmitRequest};
use api::ziti::{
    AuthenticateRequest, EdgeRouterCreate, EdgeRouterPatch, EnrollRequest, TransitRouterCreate, TransitRouterPatch,
};

pub(super) fn body(data: &[u8]) {
    macro_rules! same {
        ($($view:ty),+ $(,)?) => {$(
            match serde_json::from_slice::<$view>(data) {
                Ok(view) => {
                    let again = serde_json::to_vec(&view).ok().and_then(|text| serde_json::from_slice::<$view>(&text).ok());
                    assert!(again.as_ref() == Some(&view), "`{}` changes when it is written and read again", stringify!($view));
                }
                Err(error) => assert!(!error.to_string().is_empty()),
            }
        )+};
    }
    same!(EdgeRouterCreate, EdgeRouterPatch, TransitRouterCreate, TransitRouterPatch);
    same!(FabricRouterCreate, FabricRouterUpdate, FabricRouterPatch);
    same!(EnrollRequest, AuthenticateRequest, CampaignRequest, ReadmitRequest);
}

/// What a list knows.
const KNOWN: &[Field] = &[
    Field::new("name", FieldKind::Text),
    Field::new("cost", FieldKind::Number),
    Field::new("createdAt", FieldKind::Time),
    Field::new("roleAttributes", FieldKind::Texts),
    Field::new("tags.*", FieldKind::Any),
];

/// A row to filter.
fn field(name: &str) -> FieldValue {
    match name {
        "name" => FieldValue::Text("router-1".to_owned()),
        "cost" => FieldValue::Number(7.0),
        "isOnline" => FieldValue::Flag(true),
        "roleAttributes" => FieldValue::Texts(vec!["a".to_owned(), "b".to_owned()]),
        _ => FieldValue::Null,
    }
}

pub(super) fn filter(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match Query::parse(&text) {
        Ok(query) => {
            let _rows = query.matches(&field);
            let _order = Query::compare(&query.sort, &field, &|_| FieldValue::Null);
            let _known =
                (query.check_fields(KNOWN), query.lookups(&["name"]), query.mentions("cost"), query.is_everything());
            // Not a number is not equal to itself; the grammar has none.
            assert_eq!(Query::parse(&text).as_ref(), Ok(&query), "one text is two queries");
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    if let Ok(sort) = Query::parse_sort(&text) {
        let _order = Query::compare(&sort, &field, &|_| FieldValue::Number(f64::INFINITY));
    }
}
