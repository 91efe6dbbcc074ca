use super::{FieldValue, FilterError, Limit, Query};

fn row(field: &str) -> FieldValue {
    match field {
        "name" => FieldValue::Text("Router-1".to_owned()),
        "cost" => FieldValue::Number(7.0),
        "isVerified" => FieldValue::Flag(true),
        "roleAttributes" => FieldValue::Texts(vec!["east".to_owned(), "sales".to_owned()]),
        _ => FieldValue::Null,
    }
}

fn matches(text: &str) -> bool {
    Query::parse(text).unwrap().matches(&row)
}

#[test]
fn the_documented_queries_mean_what_they_say() {
    for yes in [
        "",
        "true",
        "limit none",
        r#"name="Router-1""#,
        r#"name = "x" or name = "Router-1""#,
        r#"name contains "out""#,
        r#"name icontains "ROUT""#,
        r#"name not contains "zzz""#,
        r#"name != "x""#,
        r#"name in ["x", "Router-1"]"#,
        r#"name not in ["x"]"#,
        "cost >= 7 and cost < 8",
        "isVerified = true",
        "fingerprint = null",
        r#"anyOf(roleAttributes) = "sales""#,
        r#"not (name = "x" and true)"#,
        r#"true limit 5"#,
    ] {
        assert!(matches(yes), "{yes}");
    }
    for no in [
        "false",
        r#"name="router-1""#,
        r#"name contains "OUT""#,
        "cost > 7",
        r#"cost > "6""#,
        "isVerified = false",
        r#"anyOf(roleAttributes) = "west""#,
        r#"name = "Router-1" and false"#,
    ] {
        assert!(!matches(no), "{no}");
    }
}

#[test]
fn a_query_may_carry_its_own_order_and_page() {
    let query = Query::parse(r#"name contains "r" sort by name desc, cost skip 4 limit 20"#).unwrap();
    assert_eq!(
        query.sort.iter().map(|s| (s.field.as_str(), s.is_descending)).collect::<Vec<_>>(),
        [("name", true), ("cost", false)]
    );
    assert_eq!((query.skip, query.limit), (Some(4), Some(Limit::Rows(20))));
    assert_eq!(Query::parse("true limit none").unwrap().limit, Some(Limit::None));
}

#[test]
fn what_is_not_understood_is_refused_with_its_place() {
    let error = |text: &str| Query::parse(text).unwrap_err().to_string();
    assert_eq!(
        error("name = r1"),
        "expected a text in double quotes, a number, `true`, `false` or `null` at position 7, found `r1`"
    );
    assert_eq!(
        error("name"),
        "expected `=`, `!=`, `<`, `<=`, `>`, `>=`, `contains`, `icontains` or `in` at position 4, found `the end`"
    );
    assert_eq!(error("name = \"r1"), "the text that starts at position 7 has no closing quote");
    assert_eq!(
        error("name = \"r1\" name"),
        "expected `and`, `or`, `sort by`, `skip`, `limit` or the end at position 12, found `name`"
    );
    assert_eq!(error("a; drop"), "expected a field, a value or an operator at position 1, found `;`");
    assert_eq!(Query::parse(&"(".repeat(400)), Err(FilterError::TooDeep));
    assert_eq!(Query::parse(&"not ".repeat(400)), Err(FilterError::TooDeep));
    assert_eq!(Query::parse(&"x".repeat(5000)), Err(FilterError::TooLong(5000)));
}

#[test]
fn unknown_fields_are_named() {
    let query = Query::parse(r#"name = "a" and (color = "red")"#).unwrap();
    assert_eq!(query.check_fields(&["name"]), Err(FilterError::UnknownField("color".to_owned())));
    assert_eq!(query.check_fields(&["name", "color"]), Ok(()));
}

#[test]
fn a_required_name_can_be_looked_up() {
    let required = |text: &str| Query::parse(text).unwrap().required_text("name").map(ToOwned::to_owned);
    assert_eq!(required(r#"name = "a""#).as_deref(), Some("a"));
    assert_eq!(required(r#"cost = 1 and name = "a""#).as_deref(), Some("a"));
    assert_eq!(required(r#"cost = 1 or name = "a""#), None);
    assert_eq!(required(r#"not (name = "a")"#), None);
}
