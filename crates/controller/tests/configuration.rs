//! What the controller's configuration may say, and what is said about it when it is wrong.
#![expect(clippy::panic, reason = "the small functions above the tests fail a test this way")]

use std::path::Path;
use std::time::Duration;

use controller::config::{ControllerConfig, Limits, SanPolicy};
use proptest::prelude::*;

const EXAMPLE: &str = include_str!("../src/config/example.yml");
const SMALLEST: &str = "\
v: 3
identity: {server_cert: s, key: k, ca: c}
ctrl: {listener: 'tls:127.0.0.1:6262'}
web: [{bindPoints: [{interface: '127.0.0.1:1280'}]}]
edge: {api: {address: 'localhost:1280'}, enrollment: {signingCert: {cert: ic, key: ik}}}
";

fn no_env(_: &str) -> Option<String> {
    None
}

fn load(text: &str) -> (ControllerConfig, String) {
    match ControllerConfig::load(text, "/etc/exuvia/ctrl.yml", &no_env) {
        Ok((config, warnings)) => (config, warnings.to_string()),
        Err(errors) => panic!("{errors}"),
    }
}

fn refusal(text: &str) -> String {
    match ControllerConfig::load(text, "ctrl.yml", &no_env) {
        Ok((config, _)) => panic!("{config:?}"),
        Err(errors) => errors.to_string(),
    }
}

#[test]
fn the_example_loads_and_shows_the_defaults() {
    let (example, warnings) = load(EXAMPLE);
    assert_eq!(warnings, "");
    let (smallest, warnings) = load(SMALLEST);
    assert_eq!(warnings, "");
    assert_eq!(example.limits, Limits::default());
    assert_eq!(smallest.limits, example.limits);
    assert_eq!(smallest.token_life, example.token_life);
    assert_eq!(smallest.session_timeout, example.session_timeout);
    assert_eq!(smallest.admin_username, example.admin_username);
    let lives = |config: &ControllerConfig| {
        (config.issuing.leaf_life, config.issuing.minimum_leaf_life, config.issuing.overlap)
    };
    assert_eq!(lives(&smallest), lives(&example));
    assert_eq!(smallest.token_life, Duration::from_secs(180 * 60));
    assert_eq!(smallest.issuing.overlap, Duration::from_secs(3_600));
    assert_eq!(smallest.issuing.sans, SanPolicy::Any);
}

#[test]
fn relative_paths_start_at_home_and_home_at_the_file() {
    let (config, _) = load(EXAMPLE);
    assert_eq!(config.db, Path::new("/var/lib/exuvia-controller/register.db"));
    let (config, _) = load(SMALLEST);
    assert_eq!(config.home, Path::new("/etc/exuvia"));
    assert_eq!(config.signer.key, Path::new("/etc/exuvia/ik"));
    assert_eq!(config.identity.cert, config.identity.server_cert);
    let (config, _) = load(&format!("{SMALLEST}home: data\ndb: /srv/r.db\n"));
    assert_eq!((config.home.as_path(), config.db.as_path()), (Path::new("/etc/exuvia/data"), Path::new("/srv/r.db")));
}

#[test]
fn everything_that_is_wrong_is_told_at_once() {
    let text = "\
v: 3
identiy: {}
identity: {server_cert: 'pem:x', key: k, ca: c}
ctrl:
  listener: tls:0.0.0.0:6262
web: []
edge:
  api: {address: '0.0.0.0:1280', sesionTimeout: 1h}
  enrollment:
    edgeRouter: {duration: 180}
raft: {dataDir: x}
network: {}
exuvia:
  leafLife: 1s
  sans: {dns: ['a.*.b'], ip: [10.0.0.0/33]}
";
    let expected = r#"error: unknown key `identiy`
 --> ctrl.yml:2:1
  |
2 | identiy: {}
  | ^^^^^^^
  |
  = help: known here: v, id, trustDomain, home, db, identity, ctrl, web, edge, exuvia

error: `identity.server_cert`: expected the path of a file
 --> ctrl.yml:3:25
  |
3 | identity: {server_cert: 'pem:x', key: k, ca: c}
  |                         ^^^^^^^
  |
  = help: write the path alone; begin it with `./` if its first part holds a colon

error: `ctrl`: routers cannot dial `tls:0.0.0.0:6262`, and `ctrl.options.advertiseAddress` is missing
 --> ctrl.yml:4:1
  |
4 | ctrl:
  | ^^^^
  |
  = help: write `options: {advertiseAddress: tls:HOST:PORT}`

error: `web`: there must be at least one listener
 --> ctrl.yml:6:6
  |
6 | web: []
  |      ^
  |
  = help: say where the API is served: `web: [{bindPoints: [{interface: "0.0.0.0:1280"}]}]`

error: `edge.api.address`: `0.0.0.0:1280` is no address that anybody could dial
 --> ctrl.yml:8:18
  |
8 |   api: {address: '0.0.0.0:1280', sesionTimeout: 1h}
  |                  ^^^^^^^^^^^^^^
  |
  = help: name the host and port by which others reach it, as in `ctrl.example.org:1280`

error: unknown key `edge.api.sesionTimeout`
 --> ctrl.yml:8:34
  |
8 |   api: {address: '0.0.0.0:1280', sesionTimeout: 1h}
  |                                  ^^^^^^^^^^^^^
  |
  = help: did you mean `sessionTimeout`?

error: `edge.enrollment.signingCert` is missing
 --> ctrl.yml:9:3
  |
9 |   enrollment:
  |   ^^^^^^^^^^
  |
  = help: name the CA that signs: `signingCert: {cert: FILE, key: FILE}`

error: `edge.enrollment.edgeRouter.duration`: a duration needs a unit
  --> ctrl.yml:10:28
   |
10 |     edgeRouter: {duration: 180}
   |                            ^^^
   |
   = help: write `180s` or `180ms`, for example

error: OpenZiti knows these settings, but this program does not serve them: `raft`, `network`
  --> ctrl.yml:11:1
   |
11 | raft: {dataDir: x}
   | ^^^^
   |
   = help: remove them

error: `exuvia.leafLife`: must be between `10s` and `3650d`, found `1s`
  --> ctrl.yml:14:13
   |
14 |   leafLife: 1s
   |             ^^

error: `exuvia.sans.dns[0]`: `a.*.b` is no host name
  --> ctrl.yml:15:16
   |
15 |   sans: {dns: ['a.*.b'], ip: [10.0.0.0/33]}
   |                ^^^^^^^
   |
   = help: only the first label may be `*`, as in `*.edge.example.org`

error: `exuvia.sans.ip[0]`: cannot use `10.0.0.0/33`: there are not so many bits in the address
  --> ctrl.yml:15:31
   |
15 |   sans: {dns: ['a.*.b'], ip: [10.0.0.0/33]}
   |                               ^^^^^^^^^^^
   |
   = help: write it as in `10.0.0.0/8` or `2001:db8::1`

12 errors in `ctrl.yml`"#;
    assert_eq!(refusal(text), expected);
}

#[test]
fn missing_sections_are_named_with_what_to_write() {
    let got = refusal("");
    for key in ["v", "identity", "ctrl", "web", "edge"] {
        assert!(got.contains(&format!("error: `{key}` is missing")), "{got}");
    }
    assert!(got.ends_with("5 errors in `ctrl.yml`"), "{got}");
}

#[test]
fn the_san_lists_allow_what_they_name_and_nothing_else() {
    let sans = load(EXAMPLE).0.issuing.sans;
    for (name, allowed) in [
        ("localhost", true),
        ("LOCALHOST", true),
        ("a.edge.example.org", true),
        ("a.b.edge.example.org", false),
        ("edge.example.org", false),
        (".edge.example.org", false),
        ("*.edge.example.org", true),
        ("*.example.org", false),
        ("evil.org", false),
    ] {
        assert_eq!(sans.allows_dns(name), allowed, "{name}");
    }
    for (address, allowed) in
        [("127.0.0.1", true), ("10.255.0.1", true), ("11.0.0.1", false), ("::1", true), ("::2", false)]
    {
        assert_eq!(sans.allows_ip(address.parse().unwrap()), allowed, "{address}");
    }
    for (uri, allowed) in [
        ("spiffe://example.org/routers", true),
        ("spiffe://example.org/routers/1", true),
        ("spiffe://example.org/routers/../admin", false),
        ("spiffe://example.org/routersx", false),
        ("spiffe://example.org", false),
    ] {
        assert_eq!(sans.allows_uri(uri), allowed, "{uri}");
    }
    assert!(!sans.allows_email("a@example.org") && SanPolicy::Any.allows_email("a@example.org"));
}

#[test]
fn every_network_length_is_understood() {
    let policy = |ip: &str| load(&format!("{SMALLEST}exuvia: {{sans: {{ip: ['{ip}']}}}}\n")).0.issuing.sans;
    for (network, inside, outside) in [
        ("0.0.0.0/0", "9.9.9.9", "::1"),
        ("::/0", "ff::1", "9.9.9.9"),
        ("10.1.2.3/31", "10.1.2.2", "10.1.2.4"),
        ("fd00::/8", "fd12::1", "fe80::1"),
    ] {
        assert!(policy(network).allows_ip(inside.parse().unwrap()), "{network}");
        assert!(!policy(network).allows_ip(outside.parse().unwrap()), "{network}");
    }
}

#[test]
fn short_lives_and_a_missing_overlap_are_warned_about() {
    let (config, warnings) = load(&format!("{SMALLEST}exuvia: {{leafLife: 60s, overlap: 0s}}\n"));
    assert!(
        warnings.contains("renew seven days before the end") && warnings.contains("without an overlap"),
        "{warnings}"
    );
    assert_eq!(config.issuing.least_life(), Duration::from_secs(6));
    assert_eq!(load(SMALLEST).0.issuing.least_life(), Duration::from_secs(9 * 86_400));
}

#[test]
fn every_key_is_in_the_operators_page() {
    let page = include_str!("../../../docs/operating/configuration.md");
    let page = page.split("## Controller").nth(1).unwrap();
    for path in config::key_paths(controller::config::KEYS) {
        let path = path.replace("[]", "");
        assert!(page.contains(&format!("`{path}`")), "`{path}` is not documented");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_damage_to_the_example_makes_loading_panic(at in 0usize..2000, length in 0usize..40, put in "[ -~\n\t\u{e9}]{0,12}") {
        let mut text: Vec<char> = EXAMPLE.chars().collect();
        let at = at.min(text.len());
        let end = (at + length).min(text.len());
        text.splice(at..end, put.chars());
        let text: String = text.into_iter().collect();
        if let Err(errors) = ControllerConfig::load(&text, "ctrl.yml", &no_env) {
            prop_assert!(errors.to_string().ends_with("in `ctrl.yml`"));
        }
    }
}
