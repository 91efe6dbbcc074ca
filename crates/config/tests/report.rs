//! What a person sees when a configuration is wrong.

use std::time::Duration;

use config::{Check, ConfigDocument, ConfigErrors, Key, UnknownKeys, Warnings, key_paths};
use proptest::prelude::*;

static DOOR: &[Key] = &[Key::value("name"), Key::value("width"), Key::value("closesAfter")];
static HOUSE: &[Key] = &[
    Key::value("v"),
    Key::value("owner"),
    Key::list("doors", DOOR),
    Key::section("front", DOOR),
    Key::unserved("garden"),
];

fn read(text: &str, unknown: UnknownKeys) -> Result<(Vec<String>, Warnings), ConfigErrors> {
    let env = |name: &str| (name == "OWNER").then(|| "Ann".to_owned());
    let document = ConfigDocument::parse("house.yml", text, &env)?;
    let check = Check::new(&document, unknown);
    let root = check.root(HOUSE);
    let mut names = Vec::new();
    if let Some(version) = root.required("v", "write `v: 3`") {
        let _: Option<u8> = version.integer(3..=3);
    }
    names.extend(root.field("owner").and_then(|owner| owner.text()).map(str::to_owned));
    let front = root.section("front");
    for door in root.sections("doors").into_iter().chain(front) {
        names.extend(door.required("name", "name the door").and_then(|name| name.text()).map(str::to_owned));
        let _: u32 = door.integer_or("width", 90, 10..=300);
        door.duration_or("closesAfter", Duration::from_secs(5), Duration::from_secs(1)..=Duration::from_secs(60));
    }
    check.finish(Some(names))
}

fn report(text: &str) -> String {
    read(text, UnknownKeys::Warn).map_or_else(|errors| errors.to_string(), |_| "nothing is wrong".to_owned())
}

#[test]
fn every_problem_is_shown_at_once_with_its_line_column_and_remedy() {
    let text = "owner: 12\ndoors:\n  - name: a\n    widht: 80\n    closesAfter: 30\n  - {width: 80, closesAfter: \"2h\", \"name\": [x]}\n  - width: wide\ngarden: {}\n";
    let expected = r#"error: `v` is missing
--> house.yml
 = help: write `v: 3`

error: `owner`: expected text, found a number
 --> house.yml:1:8
  |
1 | owner: 12
  |        ^^
  |
  = help: put the value in quotes

warning: unknown key `doors[0].widht` is ignored
 --> house.yml:4:5
  |
4 |     widht: 80
  |     ^^^^^
  |
  = help: did you mean `width`?
"#;
    let got = report(text);
    assert_eq!(got.get(..expected.len()), Some(expected));
    let errors = read(text, UnknownKeys::Warn).unwrap_err();
    let places: Vec<_> = errors.problems().iter().map(|p| (p.key.as_str(), p.line, p.column)).collect();
    assert_eq!(
        places,
        [
            ("v", None, None),
            ("owner", Some(1), Some(8)),
            ("doors[0].widht", Some(4), Some(5)),
            ("doors[0].closesAfter", Some(5), Some(18)),
            ("doors[1].closesAfter", Some(6), Some(30)),
            ("doors[1].name", Some(6), Some(44)),
            ("doors[2].name", Some(7), Some(5)),
            ("doors[2].width", Some(7), Some(12)),
            ("", Some(8), Some(1)),
        ]
    );
    assert!(got.ends_with("\n7 errors and 2 warnings in `house.yml`"), "{got}");
}

#[test]
fn positions_are_right_behind_letters_of_many_bytes_and_a_byte_order_mark() {
    let errors =
        read("\u{feff}v: 3\n# \u{e9}\u{20ac}\u{1f600}\nowner: {\u{fc}: 1}\n", UnknownKeys::Refuse).unwrap_err();
    let places: Vec<_> = errors.problems().iter().map(|p| (p.line, p.column, p.message.as_str())).collect();
    assert_eq!(places, [(Some(3), Some(8), "expected text, found a section")]);
}

#[test]
fn a_key_that_is_there_twice_is_an_error_that_shows_both() {
    let expected = "\
error: the key `owner` is there twice
 --> house.yml:3:1
  |
1 | owner: a
  | ----- first here
2 | v: 3
3 | owner: b
  | ^^^^^
  |
  = help: keep one of the two

1 error in `house.yml`";
    assert_eq!(report("owner: a\nv: 3\nowner: b\n"), expected);
}

#[test]
fn text_that_is_no_yaml_is_shown_where_it_breaks() {
    let errors = read("v: 3\nowner: [a\ndoors: 1\n", UnknownKeys::Warn).unwrap_err();
    let problem = &errors.problems()[0];
    assert!(problem.message.starts_with("this is not valid YAML: "), "{problem:?}");
    assert_eq!(problem.line, Some(3), "{problem:?}");
    assert!(read("v: 3\n---\nv: 3\n", UnknownKeys::Warn).is_err());
    assert!(read("", UnknownKeys::Warn).unwrap_err().to_string().starts_with("error: `v` is missing"));
    assert!(report("- v\n").contains("expected a section with keys, found a list"));
}

#[test]
fn variables_are_replaced_in_values_and_unset_ones_are_told() {
    let (names, warnings) = read("v: 3\nowner: ${OWNER}$NOBODY\n", UnknownKeys::Refuse).unwrap();
    assert_eq!(names, ["Ann"]);
    let expected = "\
warning: the variable `NOBODY` is not set, so it becomes empty
 --> house.yml:2:8
  |
2 | owner: ${OWNER}$NOBODY
  |        ^^^^^^^^^^^^^^^
  |
  = help: set it where this program is started, or write the value out";
    assert_eq!(warnings.to_string(), expected);
}

#[test]
fn anchors_aliases_and_merges_are_followed() {
    let text = "v: 3\ndoors:\n  - &oak {name: oak, width: 80}\n  - *oak\n  - <<: *oak\n    name: elm\n";
    let (names, warnings) = read(text, UnknownKeys::Refuse).unwrap();
    assert_eq!(names, ["oak", "oak", "elm"]);
    assert!(warnings.is_empty());
}

#[test]
fn a_text_that_multiplies_itself_is_refused_early() {
    let list = |name: &str, of: &str| format!("{name}: &{name} [{}]\n", [of; 20].join(", "));
    let text =
        format!("{}{}{}{}{}", list("a", "x"), list("b", "*a"), list("c", "*b"), list("d", "*c"), list("e", "*d"));
    assert!(report(&text).contains("aliases counted each time"));
    let deep = "[".repeat(5000);
    assert!(report(&deep).contains("nested deeper than 128"));
    assert!(report(&"x".repeat((1 << 20) + 1)).contains("1048577 bytes"));
}

/// Found by feeding texts as long as they may be: the parser took minutes to say the same.
#[test]
fn brackets_that_are_never_closed_are_refused_before_the_parser_sees_them() {
    let message = |text: &str| read(text, UnknownKeys::Warn).unwrap_err().problems()[0].message.clone();
    for open in ["[", "{a: ", "&a [*a, "] {
        assert_eq!(message(&open.repeat(100_000)), "brackets are nested deeper than 128");
    }
    assert!(!config::nests_too_deep(&"[]{}".repeat(1000)));
    assert!(!config::nests_too_deep(&format!("{}{}", "[".repeat(128), "]".repeat(128))));
}

#[test]
fn a_private_key_near_a_problem_is_not_shown() {
    let text = "v: 3\nowner:\n  - |\n    -----BEGIN PRIVATE KEY-----\n    SECRETSECRET\n    -----END PRIVATE KEY-----\nwho: 1\n";
    let got = report(text);
    assert!(got.contains("expected text, found a list") && got.contains("unknown key `who`"), "{got}");
    assert!(!got.contains("SECRET"), "{got}");
    assert!(!format!("{:?}", read(text, UnknownKeys::Warn)).contains("SECRET"));
}

#[test]
fn forty_problems_are_shown_and_the_others_counted() {
    let text: String = (0..9000).map(|n| format!("k{n}: 1\n")).collect();
    let got = report(&text);
    assert!(got.contains("error: `v` is missing") && got.contains("\nand 8961 more\n"), "{got}");
}

#[test]
fn the_paths_of_a_table_name_every_served_key() {
    let paths = key_paths(HOUSE);
    let expected = [
        "v",
        "owner",
        "doors[]",
        "doors[].name",
        "doors[].width",
        "doors[].closesAfter",
        "front",
        "front.name",
        "front.width",
        "front.closesAfter",
    ];
    assert_eq!(paths, expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn no_text_makes_reading_or_reporting_panic(text in "(v: 3|owner|doors|name|width|: |\n|  |- |\\[|\\]|\\{|\\}|,|\"|'|&a |\\*a|<<|!t |\\||#|\t|\u{e9}|\u{1f600}|\u{85}|\r|-----BEGIN PRIVATE KEY-----|\\$\\{X\\}|[ -~]){0,40}") {
        if let Err(errors) = read(&text, UnknownKeys::Refuse) {
            prop_assert!(errors.to_string().contains("house.yml"));
        }
    }

    #[test]
    fn arbitrary_text_does_not_panic_either(text in any::<String>()) {
        if let Err(errors) = read(&text, UnknownKeys::Warn) {
            prop_assert!(!errors.to_string().is_empty());
        }
    }
}
