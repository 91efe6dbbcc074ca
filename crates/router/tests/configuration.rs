//! What `router.yml` may say, and what is said about it when it is wrong.
#![expect(clippy::panic, reason = "the small functions above the tests fail a test this way")]

use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;
use router::config::{
    DueRule, EndpointsDamage, EndpointsFile, EndpointsSource, IdentitySource, NotWritable, Projection, Rekey,
    RenewalSettings, RouterConfig, RouterKind, WebApi, starting_endpoints,
};

const EXAMPLE: &str = include_str!("../src/config/example.yml");
const ZITI_EDGE: &str = include_str!("configuration/ziti-edge.yml");
const SMALLEST: &str = "v: 3\nidentity: {cert: a, server_cert: b, key: c, ca: d}\nctrl: {}\ncsr: {}\n";

fn no_env(_: &str) -> Option<String> {
    None
}

fn load(text: &str) -> (RouterConfig, String) {
    match RouterConfig::load(text, "/etc/router.yml", &no_env) {
        Ok((config, warnings)) => (config, warnings.to_string()),
        Err(errors) => panic!("{errors}"),
    }
}

fn refusal(text: &str) -> String {
    match RouterConfig::load(text, "router.yml", &no_env) {
        Ok((config, _)) => panic!("{config:?}"),
        Err(errors) => errors.to_string(),
    }
}

/// The smallest configuration with one more piece of text, or one line of it replaced.
fn with(more: &str) -> String {
    format!("{SMALLEST}{more}\n")
}

fn with_cert(cert: &str) -> String {
    SMALLEST.replace("cert: a,", &format!("cert: {cert},"))
}

#[test]
fn the_example_loads_without_a_warning_and_shows_the_defaults() {
    let (config, warnings) = load(EXAMPLE);
    assert_eq!(warnings, "");
    // `renewAt: 67` is how a person writes two thirds.
    let shown = RenewalSettings::default();
    assert_eq!(config.renewal.due, DueRule::LifeShare { permille: 670 });
    assert_eq!(config.renewal.spacing, shown.spacing);
    assert_eq!((config.renewal.drain, config.renewal.backoff_min), (shown.drain, shown.backoff_min));
    assert_eq!(
        (config.renewal.backoff_max, config.renewal.attempt_deadline),
        (shown.backoff_max, shown.attempt_deadline)
    );
    let (smallest, _) = load(SMALLEST);
    assert_eq!(smallest.control.request_timeout, config.control.request_timeout);
    assert_eq!(smallest.control.startup_timeout, config.control.startup_timeout);
    assert_eq!(smallest.control.connect_timeout, config.control.connect_timeout);
    assert_eq!(smallest.control.heartbeat_interval, config.control.heartbeat_interval);
    assert_eq!(smallest.control.unresponsive_after, config.control.unresponsive_after);
    assert_eq!(config.web[0].apis, [WebApi::HealthChecks, WebApi::Metrics]);
}

#[test]
fn a_file_that_openziti_wrote_loads_with_one_warning() {
    let (config, warnings) = load(ZITI_EDGE);
    let expected = "\
warning: OpenZiti knows these settings, but this program does not serve them yet and ignores them: `link`, `listeners`, `forwarder`, `metrics`
  --> /etc/router.yml:16:1
   |
16 | link:
   | ^^^^";
    assert_eq!(warnings, expected);
    assert_eq!(config.kind, RouterKind::Edge);
    assert_eq!(config.identity.server_cert.writable_path(), Ok(Path::new("/opt/ziti/edge-1.server.chain.cert")));
    assert_eq!(config.control.endpoints[0].to_string(), "tls:ctrl.example.org:6262");
    assert_eq!(config.control.endpoints_file, Path::new("endpoints.yml"));
    assert_eq!(config.csr.organization, "NetFoundry");
    assert_eq!(config.csr.sans.dns, ["localhost", "edge-1.example.org"]);
    let hosts: Vec<_> = config.advertised_hosts.iter().map(|one| (one.host.as_str(), one.key.as_str())).collect();
    assert_eq!(
        hosts,
        [
            ("edge-1.example.org", "link.listeners[0].advertise"),
            ("edge-1.example.org", "listeners[0].options.advertise")
        ]
    );
    assert!(config.advertised_hosts.iter().all(|one| config.csr.sans.covers(&one.host)));
    assert_eq!(config.renewal, RenewalSettings::default());
}

#[test]
fn the_smallest_file_is_a_transit_router_with_the_documented_defaults() {
    let (config, warnings) = load(SMALLEST);
    assert_eq!(warnings, "");
    assert_eq!(config.kind, RouterKind::Transit);
    assert_eq!(config.control.endpoints, []);
    assert_eq!(config.control.endpoints_file, Path::new("/etc/endpoints.yml"));
    assert_eq!(config.data_model_cache, Path::new("/etc/router.yml.proto.gzip"));
    assert_eq!(config.csr.sans, Default::default());
    let renewal = config.renewal;
    assert_eq!(renewal.due, DueRule::LifeShare { permille: 667 });
    assert_eq!(renewal.jitter_percent, 5);
    let day = Duration::from_secs(86_400);
    assert_eq!(renewal.spacing.for_life(90 * day), Duration::from_secs(600));
    assert_eq!(renewal.spacing.for_life(Duration::from_secs(60)), Duration::from_secs(3));
    assert_eq!(renewal.drain.for_life(Duration::from_secs(60)), Duration::from_secs(6));
    assert_eq!((renewal.rekey, renewal.projection), (Rekey::Auto, Projection::Auto));
}

#[test]
fn everything_that_is_wrong_is_told_at_once() {
    let text = "\
v: \"3\"
identity:
  cert: [a]
  servr_cert: b
  key: c
ctrl:
  endpoint: ctrl.example.org:6262
csr:
  sans:
    ip: [localhost]
exuvia:
  renewAt: 95
  spacing: 600
  rekey: alway
  treshold: 7d
web:
  - name: health
    bindPoints:
      - interface: 8081
";
    let expected = r#"error: `v`: expected a whole number, found text
 --> router.yml:1:4
  |
1 | v: "3"
  |    ^^^
  |
  = help: remove the quotes

error: `identity.server_cert` is missing
 --> router.yml:2:1
  |
2 | identity:
  | ^^^^^^^^
  |
  = help: name the file of the server certificate chain

error: `identity.ca` is missing
 --> router.yml:2:1
  |
2 | identity:
  | ^^^^^^^^
  |
  = help: name the file of the trusted CA certificates

error: `identity.cert`: expected text, found a list
 --> router.yml:3:9
  |
3 |   cert: [a]
  |         ^

warning: unknown key `identity.servr_cert` is ignored
 --> router.yml:4:3
  |
4 |   servr_cert: b
  |   ^^^^^^^^^^
  |
  = help: did you mean `server_cert`?

error: `ctrl.endpoint`: cannot use `ctrl.example.org:6262`: it does not begin with a transport such as `tls:`
 --> router.yml:7:13
  |
7 |   endpoint: ctrl.example.org:6262
  |             ^^^^^^^^^^^^^^^^^^^^^
  |
  = help: write it as in `tls:ctrl.example.org:6262`

error: `csr.sans.ip[0]`: `localhost` is no IP address
  --> router.yml:10:10
   |
10 |     ip: [localhost]
   |          ^^^^^^^^^
   |
   = help: host names go under `dns`

error: `exuvia.renewAt`: must be between 10 and 90, found 95
  --> router.yml:12:12
   |
12 |   renewAt: 95
   |            ^^

error: `exuvia.spacing`: a duration needs a unit
  --> router.yml:13:12
   |
13 |   spacing: 600
   |            ^^^
   |
   = help: write `600s` or `600ms`, for example

error: `exuvia.rekey`: expected one of `auto`, `always`, `never`, found `alway`
  --> router.yml:14:10
   |
14 |   rekey: alway
   |          ^^^^^
   |
   = help: did you mean `always`?

warning: unknown key `exuvia.treshold` is ignored
  --> router.yml:15:3
   |
15 |   treshold: 7d
   |   ^^^^^^^^
   |
   = help: did you mean `threshold`?

error: `web[0].bindPoints[0].interface`: expected text, found a number
  --> router.yml:19:20
   |
19 |       - interface: 8081
   |                    ^^^^
   |
   = help: put the value in quotes

10 errors and 2 warnings in `router.yml`"#;
    assert_eq!(refusal(text), expected);
}

#[test]
fn missing_sections_are_named_with_what_to_write() {
    let got = refusal("{}");
    for key in ["v", "identity", "ctrl", "csr"] {
        assert!(got.contains(&format!("error: `{key}` is missing")), "{got}");
    }
    assert!(got.ends_with("4 errors in `router.yml`"), "{got}");
}

#[test]
fn another_version_of_the_format_is_refused() {
    assert!(refusal(&SMALLEST.replace("v: 3", "v: 2")).contains("`v`: must be between 3 and 3, found 2"));
}

#[test]
fn every_form_of_an_identity_value_says_what_it_permits() {
    let path = |text: &str| {
        let (config, warnings) = load(&with_cert(text));
        (config.identity.cert.writable_path().map(Path::to_path_buf), !warnings.is_empty())
    };
    for (written, meant, is_odd) in [
        ("dir/x.pem", "dir/x.pem", false),
        ("/abs/x.pem", "/abs/x.pem", false),
        ("'file:///abs/x.pem'", "/abs/x.pem", false),
        ("'file:/abs/x.pem'", "/abs/x.pem", false),
        ("'file://dir/x.pem'", "/x.pem", true),
        ("'/abs/a%20b.pem'", "/abs/a b.pem", true),
        ("'./odd:name/x'", "./odd:name/x", false),
    ] {
        assert_eq!(path(written), (Ok(meant.into()), is_odd), "{written}");
    }
    assert_eq!(path("'pem:-----BEGIN CERTIFICATE-----'"), (Err(NotWritable::Inline), true));
    assert_eq!(path("'-----BEGIN CERTIFICATE-----'"), (Err(NotWritable::Inline), true));
    for written in ["'file:dir/x'", "'file://host'", "'pkcs11:lib?pin=1'", "'1x:y'", "'a%2'", "'a%00'", "'?x'", "''"] {
        assert!(refusal(&with_cert(written)).contains("error: `identity.cert`: "), "{written}");
    }
}

#[test]
fn a_key_in_an_engine_is_kept_apart_and_its_pin_is_never_shown() {
    let text = SMALLEST.replace("key: c", "key: 'pkcs11:/usr/lib/softhsm.so?slot=1&pin=4711'");
    let (config, warnings) = load(&text);
    assert!(matches!(&config.identity.key, IdentitySource::Engine { name, .. } if name == "pkcs11"));
    assert_eq!(config.identity.obstacle().map(|(key, _)| key), Some("identity.key"));
    assert!(warnings.contains("cannot be used by this program yet"), "{warnings}");
    assert!(!warnings.contains("4711") && !format!("{config:?}").contains("4711"), "{warnings}");
}

#[test]
fn a_private_key_inside_the_file_is_never_shown() {
    let key = "-----BEGIN PRIVATE KEY-----\\nTOPSECRET\\n-----END PRIVATE KEY-----\\n";
    let text = SMALLEST.replace("key: c", &format!("key: \"pem:{key}\", serverKey: 1"));
    let (config, warnings) = load(&text);
    assert!(warnings.contains("cannot renew it") && warnings.contains("did you mean `server_key`"), "{warnings}");
    assert!(!warnings.contains("TOPSECRET") && !format!("{config:?}").contains("TOPSECRET"), "{warnings}");
    let IdentitySource::Inline(pem) = config.identity.key else { panic!("inline") };
    assert!(pem.as_str().contains("TOPSECRET"));
}

#[test]
fn variables_are_replaced_everywhere() {
    let env = |name: &str| match name {
        "ZITI_HOME" => Some("/opt/z".to_owned()),
        "CTRL" => Some("tls:c.example.org:6262".to_owned()),
        _ => None,
    };
    let text = with_cert("$ZITI_HOME/r.cert")
        .replace("ctrl: {}", "ctrl: {endpoint: \"${CTRL}\"}")
        .replace("csr: {}", "csr:\n  sans:\n    dns:\n    - $EXTRA");
    let (config, warnings) = RouterConfig::load(&text, "router.yml", &env).unwrap();
    assert_eq!(config.identity.cert.writable_path(), Ok(Path::new("/opt/z/r.cert")));
    assert_eq!(config.control.endpoints[0].to_string(), "tls:c.example.org:6262");
    assert!(config.csr.sans.dns.is_empty());
    let messages: Vec<_> = warnings.problems().iter().map(|problem| problem.message.as_str()).collect();
    assert_eq!(messages, ["the variable `EXTRA` is not set, so it becomes empty"]);
}

#[test]
fn one_endpoint_wins_over_a_list_and_only_tls_is_dialed() {
    let text = SMALLEST.replace("ctrl: {}", "ctrl: {endpoint: 'tls:a:1', endpoints: ['tls:b:1']}");
    let (config, warnings) = load(&text);
    assert_eq!(config.control.endpoints.len(), 1);
    assert!(warnings.contains("`ctrl.endpoints` is ignored"), "{warnings}");
    let (config, _) = load(&SMALLEST.replace("ctrl: {}", "ctrl: {endpoints: ['tls:a:1', 'tls:[::1]:2', 'tls:a:1']}"));
    assert_eq!(
        config.control.endpoints.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["tls:a:1", "tls:[::1]:2"]
    );
    let got = refusal(&SMALLEST.replace("ctrl: {}", "ctrl: {endpoints: ['wss:a:1', 'tls:a:0']}"));
    assert!(
        got.contains("`ctrl.endpoints[0]`: control channels use `tls`, not `wss`")
            && got.contains("nothing can be reached at port 0"),
        "{got}"
    );
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    for (more, complaint) in [
        ("exuvia: {renewAt: 50, threshold: 7d}", "exclude each other"),
        ("exuvia: {backoffMin: 10m}", "`exuvia.backoffMax` is shorter than `exuvia.backoffMin`"),
    ] {
        assert!(refusal(&with(more)).contains(complaint), "{more}");
    }
    let text = SMALLEST.replace("ctrl: {}", "ctrl: {heartbeats: {sendInterval: 60s}}");
    assert!(refusal(&text).contains("must be longer than `sendInterval`"));
}

#[test]
fn openzitis_seven_days_and_the_unverified_extension_can_be_asked_for() {
    let (config, warnings) =
        load(&with("exuvia: {threshold: \"7d\", allowUnverified: yes, projection: off, state: /var/lib/x}"));
    assert_eq!(config.renewal.due, DueRule::BeforeExpiry(Duration::from_secs(604_800)));
    assert_eq!(config.renewal.projection, Projection::Off);
    assert_eq!(config.state.as_deref(), Some(Path::new("/var/lib/x")));
    assert!(warnings.contains("forgets the old certificate"), "{warnings}");
}

#[test]
fn an_endpoints_file_is_read_back_as_it_was_written() {
    let text = "endpoints: ['tls:a:1']\ncontrollers:\n- id: \"c\u{e9}\\\"1\"\n  endpoints:\n  - {address: 'tls:[::1]:2', groups: [g, h]}\n- id: ''\n  endpoints: [{address: 'tls:c:3'}]\n";
    let file = EndpointsFile::parse(text.as_bytes()).unwrap();
    assert_eq!(
        file.addresses().iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["tls:a:1", "tls:c:3", "tls:[::1]:2"]
    );
    assert_eq!(file.controllers[0].endpoints[0].1, ["g", "h"]);
    assert_eq!(EndpointsFile::parse(file.render().as_bytes()), Ok(file));
}

#[test]
fn a_damaged_endpoints_file_is_reported_and_the_configured_addresses_serve() {
    use EndpointsDamage as D;
    let configured = ["tls:a:1".parse().unwrap()];
    let whole = EndpointsFile { endpoints: configured.to_vec(), ..EndpointsFile::default() }.render();
    let cases: [(&[u8], D); 10] = [
        (b"", D::Empty),
        (b"\n \n", D::Empty),
        (&[0; 64], D::Zeros),
        (b"endpoints:\n", D::NoAddress),
        (b"endpoints: [http://x, 4]\n", D::NoAddress),
        (b"endpoints: [tls:a:1\n", D::NotYaml { line: 2 }),
        (b"\xff\xfe", D::NotText),
        (b"hello\n", D::OtherShape),
        (&whole.as_bytes()[..whole.len() - 3], D::CutOff),
        (&vec![b' '; (1 << 20) + 1], D::TooLarge((1 << 20) + 1)),
    ];
    for (content, damage) in cases {
        let start = starting_endpoints(&configured, Some(content));
        assert_eq!(start.source, EndpointsSource::ConfiguredInsteadOf(damage));
        assert_eq!(start.addresses, configured);
    }
    for end in 0..whole.len() - 1 {
        let start = starting_endpoints(&configured, Some(&whole.as_bytes()[..end]));
        assert!(matches!(start.source, EndpointsSource::ConfiguredInsteadOf(_)), "cut at {end}");
    }
    assert_eq!(starting_endpoints(&configured, Some(whole.as_bytes())).source, EndpointsSource::File);
    assert_eq!(starting_endpoints(&configured, None).source, EndpointsSource::Configured);
}

#[test]
fn every_key_is_in_the_operators_page() {
    let page = include_str!("../../../docs/operating/configuration.md");
    let page = page.split("## Controller").next().unwrap();
    for path in config::key_paths(router::config::KEYS) {
        let path = path.replace("edge.csr.", "csr.").replace("[]", "");
        assert!(page.contains(&format!("`{path}`")), "`{path}` is not documented");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_bytes_make_the_endpoints_parser_panic(content in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = EndpointsFile::parse(&content);
    }

    #[test]
    fn no_damage_to_a_real_file_makes_loading_panic(at in 0usize..1500, length in 0usize..40, put in "[ -~\n\t\u{e9}]{0,12}") {
        let mut text: Vec<char> = ZITI_EDGE.chars().collect();
        let at = at.min(text.len());
        let end = (at + length).min(text.len());
        text.splice(at..end, put.chars());
        let text: String = text.into_iter().collect();
        if let Err(errors) = RouterConfig::load(&text, "router.yml", &no_env) {
            prop_assert!(errors.to_string().ends_with("in `router.yml`"));
        }
    }

    #[test]
    fn arbitrary_text_never_panics(text in any::<String>()) {
        let _ = RouterConfig::load(&text, "router.yml", &no_env).map_err(|errors| errors.to_string());
    }
}
