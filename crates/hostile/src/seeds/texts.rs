//! Files and requests as people and clients write them.

pub(super) const ROUTER_YML: &str = include_str!("../../../router/tests/configuration/ziti-edge.yml");
pub(super) const CONTROLLER_YML: &str = include_str!("../../../controller/src/config/example.yml");

pub(super) const ENDPOINTS_YML: &str = r#"endpoints:
  - "tls:a.example.org:6262"
controllers:
  - id: "ctrl-1"
    endpoints:
      - address: "tls:a.example.org:6262"
        groups: ["default", "x y"]
"#;

pub(super) const BODIES: &[&str] = &[
    r#"{"certCsr":"-----BEGIN CERTIFICATE REQUEST-----\nMAA=\n-----END CERTIFICATE REQUEST-----\n","serverCertCsr":"x"}"#,
    r#"{"name":"r","tags":{"a":1,"b":[null,true,1.5e3,{"c":"\u00e9"}]},"roleAttributes":["a"],"isTunnelerEnabled":false,"cost":7,"noTraversal":true,"disabled":false,"appData":{},"ctrlChanListeners":{"tls:a:1":["default"]}}"#,
    r#"{"cost":3}"#,
    r#"{"username":"admin","password":"made up"}"#,
    r#"{"within_s":3600}"#,
    r#"{"fingerprint_sha256":"00","cert_pem":null}"#,
    "{}",
    "null",
];

pub(super) const FILTERS: &[&str] = &[
    r#"name = "r1" and not (isOnline = true or cost >= 3) sort by name desc, cost skip 10 limit 20"#,
    r#"anyOf(roleAttributes) in ["a", "b"] or name icontains "x" limit none"#,
    r#"name not contains "y" and cost not in [1, 2.5, -3]"#,
    r#"createdAt not between datetime(2026-01-31T00:00:00Z) and datetime( 2026-02-01T00:00:00.5+01:00 ) or tags.site = null"#,
    r#"allOf(roleAttributes) != "x" and count(roleAttributes) > 1 or not isEmpty(roleAttributes) and 'isOnline'"#,
    "true sort by name asc",
    "name desc, cost",
    "",
];
