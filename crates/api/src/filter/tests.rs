use super::{Field, FieldKind, FieldValue, FilterError, Limit, Query};

fn row(field: &str) -> FieldValue {
    match field {
        "name" => FieldValue::Text("Router-1".to_owned()),
        "cost" => FieldValue::Number(7.0),
        "isVerified" => FieldValue::Flag(true),
        "roleAttributes" => FieldValue::Texts(vec!["east".to_owned(), "sales".to_owned()]),
        "nothing" => FieldValue::Texts(Vec::new()),
        "tags.site" => FieldValue::Text("here".to_owned()),
        "createdAt" => FieldValue::Time(1_769_904_000_000),
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
        "expected a text in double quotes, a number, `datetime(..)`, `true`, `false` or `null` at position 7, found `r1`"
    );
    assert_eq!(
        error("name \"x\""),
        "expected `=`, `!=`, `<`, `<=`, `>`, `>=`, `contains`, `icontains`, `in` or `between` at position 5, found `\"x\"`"
    );
    assert_eq!(error("name = \"r1"), "the text that starts at position 7 has no closing quote");
    assert_eq!(
        error("name = \"r1\" name"),
        "expected `and`, `or`, `sort by`, `skip`, `limit` or the end at position 12, found `name`"
    );
    assert_eq!(error("a; drop"), "expected a field, a value or an operator at position 1, found `;`");
}

#[test]
fn and_and_or_bind_alike_and_to_the_right_as_a_stock_controller_has_it() {
    // false and (true or true)
    assert!(!matches(r#"name = "x" and cost = 7 or cost = 7"#));
    assert!(matches(r#"(name = "x" and cost = 7) or cost = 7"#));
    // true or (true and false)
    assert!(matches(r#"cost = 7 or cost = 7 and name = "x""#));
    // not (false and ..)
    assert!(matches(r#"not name = "x" and name = "x""#));
    assert!(!matches(r#"(not name = "x") and name = "x""#));
    assert!(matches(r#"cost = 7 and not name = "x" and cost = 8"#));
}

#[test]
fn sets_instants_tags_and_ranges_are_compared_as_a_stock_controller_does() {
    for yes in [
        "cost between 7 and 8",
        "cost not between 1 and 7",
        "cost contains 7",
        "cost in [1, 7]",
        "isVerified",
        "not isOnline",
        "isVerified and cost = 7",
        "count(roleAttributes) = 2",
        r#"allOf(roleAttributes) contains "s""#,
        r#"anyOf(roleAttributes) != "east""#,
        r#"anyOf(roleAttributes) in ["x", "east"]"#,
        "not isEmpty(roleAttributes)",
        "isEmpty(nothing)",
        r#"allOf(nothing) = "x""#,
        r#"tags.site = "here""#,
        r#"'tags.site' = "here""#,
        "createdAt > datetime(2026-01-31T23:59:59Z)",
        "createdAt between datetime(2026-02-01T00:00:00Z) and datetime( 2026-02-01T00:00:01.5+00:00 )",
        r#"fingerprint != "x""#,
        r#"fingerprint not contains "x""#,
        r#"fingerprint not in ["x"]"#,
        "roleAttributes != null",
    ] {
        assert!(matches(yes), "{yes}");
    }
    for no in [
        "cost between 6 and 7",
        "cost contains 8",
        "isOnline",
        "count(roleAttributes) > 2",
        r#"allOf(roleAttributes) = "east""#,
        r#"anyOf(nothing) = "x""#,
        "isEmpty(roleAttributes)",
        r#"tags.other = "here""#,
        "createdAt < datetime(2026-02-01T01:00:00+01:00)",
        r#"fingerprint contains "x""#,
        "fingerprint != null",
        "roleAttributes = null",
    ] {
        assert!(!matches(no), "{no}");
    }
}

const KNOWN: &[Field] = &[
    Field::new("name", FieldKind::Text),
    Field::new("cost", FieldKind::Number),
    Field::new("isVerified", FieldKind::Flag),
    Field::new("createdAt", FieldKind::Time),
    Field::new("roleAttributes", FieldKind::Texts),
    Field::new("tags.*", FieldKind::Any),
];

#[test]
fn unknown_fields_are_named() {
    let check = |text: &str| Query::parse(text).unwrap().check_fields(KNOWN);
    assert_eq!(check(r#"name = "a" and (color = "red")"#), Err(FilterError::UnknownField("color".to_owned())));
    assert_eq!(check("true sort by color"), Err(FilterError::UnknownField("color".to_owned())));
    assert_eq!(check("tags. = 1"), Err(FilterError::UnknownField("tags.".to_owned())));
    assert_eq!(check(r#"name = "a" and tags.color = "red" sort by cost desc"#), Ok(()));
}

#[test]
fn a_comparison_that_could_never_hold_is_refused() {
    let told = |text: &str| Query::parse(text).unwrap().check_fields(KNOWN).map_err(|error| error.to_string());
    for (text, error) in [
        ("name = 1", "`name` is text, which cannot be compared with a number"),
        (r#"cost > "6""#, "`cost` is a number, which cannot be compared with a text"),
        ("isVerified > true", "`isVerified` is true or false, which cannot be compared with more or less"),
        (r#"createdAt = "2026""#, "`createdAt` is an instant, which cannot be compared with a text"),
        ("createdAt contains 2026", "`createdAt` is an instant, which cannot be compared with a part of a text"),
        ("name < null", "`name` is text, which cannot be compared with `null` in this way"),
        ("name", "`name` is text, which cannot be compared with nothing"),
        (r#"anyOf(name) = "x""#, "`anyOf` needs a field that holds several values; `name` does not"),
        ("true sort by roleAttributes", "`roleAttributes` holds several values and cannot be sorted by"),
    ] {
        assert_eq!(told(text), Err(error.to_owned()), "{text}");
    }
}

#[test]
fn what_must_equal_a_name_or_an_id_can_be_looked_up() {
    let found = |text: &str| -> Option<Vec<(String, String)>> {
        let query = Query::parse(text).unwrap();
        let pairs = query.lookups(&["id", "name"])?;
        Some(pairs.into_iter().map(|(field, text)| (field.to_owned(), text.to_owned())).collect())
    };
    let pairs = |pairs: &[(&str, &str)]| {
        Some(pairs.iter().map(|(field, text)| ((*field).to_owned(), (*text).to_owned())).collect::<Vec<_>>())
    };
    assert_eq!(found(r#"name = "a""#), pairs(&[("name", "a")]));
    assert_eq!(found(r#"cost = 1 and name = "a""#), pairs(&[("name", "a")]));
    assert_eq!(found(r#"id = "a" or name="a""#), pairs(&[("id", "a"), ("name", "a")]), "as the CLI maps names to ids");
    assert_eq!(found(r#"id in ["a", "b"]"#), pairs(&[("id", "a"), ("id", "b")]));
    assert_eq!(found(r#"cost = 1 or name = "a""#), None);
    assert_eq!(found(r#"not (name = "a")"#), None);
    assert_eq!(found(r#"name != "a""#), None);
}

#[test]
fn hostile_queries_are_refused_or_judged_within_bounds() {
    assert_eq!(Query::parse(&"(".repeat(400)), Err(FilterError::TooDeep));
    assert_eq!(Query::parse(&"not ".repeat(400)), Err(FilterError::TooDeep));
    assert_eq!(Query::parse(&"x".repeat(5000)), Err(FilterError::TooLong(5000)));
    // As many alternating joints as fit: none of them deepens the stack of the reader.
    let long = format!("{}true", "true and true or ".repeat(230));
    assert!(long.len() <= super::MAX_FILTER_BYTES);
    assert!(matches(&long));
    let many = format!("cost in [{}7]", "1,".repeat(2000));
    assert!(matches(&many));
    for odd in [
        "cost = 1e999",
        "cost = -1e999",
        "limit 99999999999999999999",
        "limit -1",
        "skip 1.5",
        "datetime(",
        "datetime(x)",
    ] {
        // Understood or not, it is answered.
        let _ = Query::parse(odd).map(|query| query.matches(&row));
    }
}
