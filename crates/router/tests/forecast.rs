//! What is foretold of OpenZiti's next renewal: whole outputs, one per story.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on must stop, also in its helpers"
)]

use std::path::PathBuf;
use std::time::Duration;

use lifecycle::{Fingerprint, KeyId, Leaf, UnixTime};

use router::config::RouterKind;
use router::forecast::{Access, Facts, Part, ZitiVersion, foresee};

const DAY: i64 = 86_400;
/// 2031-01-02T00:00:00Z
const NOW: i64 = 1_925_078_400;

fn leaf(ends_in_days: i64) -> Leaf {
    let not_after = UnixTime::from_s(NOW + ends_in_days * DAY);
    let not_before = UnixTime::from_s(NOW + (ends_in_days - 365) * DAY);
    Leaf { fingerprint: Fingerprint([1; 32]), key: KeyId([1; 32]), not_before, not_after }
}

fn part(key: &'static str, spelled: &str) -> Part {
    Part {
        key,
        spelled: spelled.to_owned(),
        is_bare: !spelled.starts_with("file:"),
        path: Some(PathBuf::from(spelled)),
        access: Access::Writable,
    }
}

/// An edge router in the middle of its certificate's life.
fn ordinary() -> Facts {
    Facts {
        now: UnixTime::from_s(NOW),
        suspended: Duration::ZERO,
        version: "v2.1.0-pre2".parse().unwrap(),
        kind: RouterKind::Edge,
        parts: vec![
            part("identity.cert", "/etc/ziti/router.cert"),
            part("identity.server_cert", "/etc/ziti/router.server.chain.cert"),
            part("identity.key", "/etc/ziti/router.key"),
            part("identity.ca", "/etc/ziti/router.cas"),
        ],
        client: Some(leaf(180)),
        server: Some(leaf(180)),
        unusable: None,
        issuer_ends: Some(UnixTime::from_s(NOW + 3000 * DAY)),
        anchor_ends: Some(UnixTime::from_s(NOW + 3000 * DAY)),
        uncovered: vec![],
        controllers: 1,
        free_bytes: Some(1 << 30),
    }
}

fn with(change: impl FnOnce(&mut Facts)) -> Facts {
    let mut facts = ordinary();
    change(&mut facts);
    facts
}

fn stories() -> Vec<(&'static str, Facts)> {
    let at = |facts: &mut Facts, key: &str, access: Access| {
        facts.parts.iter_mut().find(|part| part.key == key).unwrap().access = access;
    };
    vec![
        ("an ordinary edge router", ordinary()),
        ("a transit router", with(|it| it.kind = RouterKind::Transit)),
        ("spelled as a URL", with(|it| it.parts[0] = part("identity.cert", "file:///etc/ziti/router.cert"))),
        (
            "a read-only mount",
            with(|it| {
                at(it, "identity.cert", Access::ReadOnly("Read-only file system (os error 30)".to_owned()));
                at(it, "identity.server_cert", Access::ReadOnly("Read-only file system (os error 30)".to_owned()));
            }),
        ),
        ("a full disk", with(|it| it.free_bytes = Some(0))),
        ("no server certificate", with(|it| drop(it.parts.remove(1)))),
        (
            "a key of its own for the server",
            with(|it| it.parts.push(part("identity.server_key", "/etc/ziti/server.key"))),
        ),
        (
            "a torn certificate",
            with(|it| {
                at(it, "identity.cert", Access::Unreadable("it is empty".to_owned()));
                it.client = None;
                it.unusable = Some("`identity.cert` holds no certificate".to_owned());
            }),
        ),
        ("another key", with(|it| it.unusable = Some("`identity.key` does not belong to `identity.cert`".to_owned()))),
        (
            "a host that is not covered",
            with(|it| {
                it.uncovered = vec![("edge.example.org".to_owned(), "listeners[0].options.advertise".to_owned())];
            }),
        ),
        ("expired", with(|it| it.client = Some(leaf(-1)))),
        ("a clock in 1970", with(|it| it.now = UnixTime::from_s(60))),
        ("a laptop", with(|it| it.suspended = Duration::from_secs(9 * 86_400))),
        ("an issuer that ends first", with(|it| it.issuer_ends = Some(UnixTime::from_s(NOW + 30 * DAY)))),
        ("a root that ends soon", with(|it| it.anchor_ends = Some(UnixTime::from_s(NOW + 200 * DAY)))),
        ("a cluster", with(|it| it.controllers = 3)),
        ("within the last seven days", with(|it| it.server = Some(leaf(3)))),
        ("a version that nobody here has read", with(|it| it.version = "3.0.1".parse().unwrap())),
    ]
}

/// `UPDATE_TABLE=1 cargo test -p router` rewrites it.
#[test]
fn every_story_is_told_as_it_is_written_down() {
    let mut text = String::new();
    for (name, facts) in stories() {
        text.push_str(&format!("## {name}\n"));
        for finding in foresee(&facts) {
            text.push_str(&format!("{finding}\n"));
        }
        text.push('\n');
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/forecast_stories.txt");
    if std::env::var_os("UPDATE_TABLE").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(path).unwrap());
}

#[test]
fn a_version_is_read_as_openziti_prints_it() {
    let version = |text: &str| text.parse::<ZitiVersion>().map(|version| version.to_string());
    assert_eq!(version("v2.1.0-pre2").as_deref(), Ok("2.1.0"));
    assert_eq!(version("1.6.18\n").as_deref(), Ok("1.6.18"));
    assert_eq!(version("2.0").as_deref(), Ok("2.0.0"));
    for bad in ["", "two", "2", "v", "1.2.3.4", "2..1"] {
        assert!(version(bad).is_err(), "{bad}");
    }
}
