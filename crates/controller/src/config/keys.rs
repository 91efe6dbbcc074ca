//! Every key of the controller's configuration.
//!
//! Keys of OpenZiti's controller.yml that have no meaning here are listed as unserved, so that whoever brings such a file is told in one message.

use ::config::Key;

/// The root of the file.
pub static KEYS: &[Key] = &[
    Key::value("v"),
    Key::value("id"),
    Key::value("trustDomain"),
    Key::value("home"),
    Key::value("db"),
    Key::section("identity", IDENTITY),
    Key::section("ctrl", CTRL),
    Key::list("web", WEB),
    Key::section("edge", EDGE),
    Key::section("exuvia", EXUVIA),
    Key::unserved("cluster"),
    Key::unserved("commandRateLimiter"),
    Key::unserved("events"),
    Key::unserved("healthChecks"),
    Key::unserved("metrics"),
    Key::unserved("network"),
    Key::unserved("profile"),
    Key::unserved("raft"),
    Key::unserved("tls"),
    Key::unserved("trace"),
];

static IDENTITY: &[Key] = &[
    Key::value("cert"),
    Key::value("server_cert"),
    Key::value("key"),
    Key::value("ca"),
    Key::unserved("server_key"),
    Key::unserved("alt_server_certs"),
];

static CTRL: &[Key] = &[Key::value("listener"), Key::section("options", CTRL_OPTIONS)];

static CTRL_OPTIONS: &[Key] = &[
    Key::value("advertiseAddress"),
    Key::unserved("connectTimeoutMs"),
    Key::unserved("maxOutstandingConnects"),
    Key::unserved("maxQueuedConnects"),
    Key::unserved("newListener"),
    Key::unserved("onConnectCtrlAddressesUpdate"),
];

static WEB: &[Key] = &[
    Key::value("name"),
    Key::list("bindPoints", BIND_POINT),
    Key::unserved("apis"),
    Key::unserved("identity"),
    Key::unserved("options"),
];

static BIND_POINT: &[Key] = &[Key::value("interface"), Key::value("address")];

static EDGE: &[Key] = &[Key::section("api", API), Key::section("enrollment", ENROLLMENT)];

static API: &[Key] = &[
    Key::value("address"),
    Key::value("sessionTimeout"),
    Key::unserved("activityUpdateBatchSize"),
    Key::unserved("activityUpdateInterval"),
];

static ENROLLMENT: &[Key] = &[
    Key::section("signingCert", SIGNING_CERT),
    Key::section("edgeRouter", EDGE_ROUTER),
    Key::unserved("edgeIdentity"),
];

static SIGNING_CERT: &[Key] = &[Key::value("cert"), Key::value("key"), Key::value("ca")];

static EDGE_ROUTER: &[Key] = &[Key::value("duration")];

static EXUVIA: &[Key] = &[
    Key::value("leafLife"),
    Key::value("minimumLeafLife"),
    Key::value("overlap"),
    Key::section("sans", SANS),
    Key::section("limits", LIMITS),
    Key::section("admin", ADMIN),
];

static SANS: &[Key] = &[Key::value("dns"), Key::value("ip"), Key::value("email"), Key::value("uri")];

static LIMITS: &[Key] = &[
    Key::value("channels"),
    Key::value("handshakes"),
    Key::value("handshakeTimeout"),
    Key::value("apiConnections"),
    Key::value("bodyBytes"),
    Key::value("bodiesBytes"),
    Key::value("enrollmentFailures"),
    Key::value("enrollmentFailuresInAll"),
];

static ADMIN: &[Key] = &[Key::value("username")];
