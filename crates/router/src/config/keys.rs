//! Every key of `router.yml` that is known here.
//!
//! Source: `openziti/ziti:router/env/config.go`, `openziti/ziti:router/env/config_edge.go`, `openziti/identity:config.go`,
//! `openziti/xweb:config.go`.

use ::config::Key;

/// The root of `router.yml`.
pub static KEYS: &[Key] = &[
    Key::value("v"),
    Key::section("identity", IDENTITY),
    Key::section("ctrl", CTRL),
    Key::section("csr", CSR),
    Key::section("edge", EDGE),
    Key::list("web", WEB),
    Key::section("exuvia", EXUVIA),
    Key::unserved("connectEvents"),
    Key::unserved("dialers"),
    Key::unserved("enableDebugOps"),
    Key::unserved("forwarder"),
    Key::unserved("ha"),
    Key::unserved("healthChecks"),
    Key::unserved("interfaceDiscovery"),
    // Of these two only `advertise` is read: the server leaf must cover it.
    Key::unserved("link"),
    Key::unserved("listeners"),
    Key::unserved("metrics"),
    Key::unserved("plugins"),
    Key::unserved("profile"),
    Key::unserved("proxy"),
    Key::unserved("tls"),
    Key::unserved("trace"),
    Key::unserved("transport"),
    Key::unserved("tunnel"),
];

static IDENTITY: &[Key] = &[
    Key::value("cert"),
    Key::value("server_cert"),
    Key::value("key"),
    Key::value("server_key"),
    Key::value("ca"),
    Key::list("alt_server_certs", ALTERNATE),
];

static ALTERNATE: &[Key] = &[Key::value("server_cert"), Key::value("server_key")];

static CTRL: &[Key] = &[
    Key::value("endpoint"),
    Key::value("endpoints"),
    Key::value("endpointsFile"),
    Key::value("bind"),
    Key::value("defaultRequestTimeout"),
    Key::value("startupTimeout"),
    Key::section("options", CTRL_OPTIONS),
    Key::section("heartbeats", HEARTBEATS),
    Key::unserved("listeners"),
    Key::unserved("rateLimiter"),
    Key::unserved("dataDir"),
];

static CTRL_OPTIONS: &[Key] = &[
    Key::value("connectTimeout"),
    Key::value("connectTimeoutMs"),
    Key::unserved("outQueueSize"),
    Key::unserved("maxQueuedConnects"),
    Key::unserved("maxOutstandingConnects"),
    Key::unserved("writeTimeout"),
];

static HEARTBEATS: &[Key] = &[
    Key::value("sendInterval"),
    Key::value("closeUnresponsiveTimeout"),
    Key::unserved("checkInterval"),
    Key::unserved("unresponsiveAfter"),
];

static CSR: &[Key] = &[
    Key::value("country"),
    Key::value("province"),
    Key::value("locality"),
    Key::value("organization"),
    Key::value("organizationalUnit"),
    Key::section("sans", SANS),
];

static SANS: &[Key] = &[Key::value("dns"), Key::value("ip"), Key::value("email"), Key::value("uri")];

static EDGE: &[Key] = &[
    Key::section("csr", CSR),
    Key::value("db"),
    Key::unserved("apiProxy"),
    Key::unserved("dbSaveIntervalSeconds"),
    Key::unserved("heartbeatIntervalSeconds"),
    Key::unserved("sessionValidateChunkSize"),
    Key::unserved("sessionValidateMinInterval"),
    Key::unserved("sessionValidateMaxInterval"),
];

static WEB: &[Key] = &[
    Key::value("name"),
    Key::list("bindPoints", BIND_POINT),
    Key::list("apis", WEB_API),
    Key::unserved("identity"),
    Key::unserved("options"),
];

static BIND_POINT: &[Key] =
    &[Key::value("interface"), Key::value("address"), Key::unserved("newAddress"), Key::unserved("identity")];

static WEB_API: &[Key] = &[Key::value("binding"), Key::unserved("options")];

static EXUVIA: &[Key] = &[
    Key::value("state"),
    Key::value("adminSocket"),
    Key::value("rekey"),
    Key::value("projection"),
    Key::value("renewAt"),
    Key::value("threshold"),
    Key::value("jitter"),
    Key::value("spacing"),
    Key::value("backoffMin"),
    Key::value("backoffMax"),
    Key::value("attemptDeadline"),
    Key::value("drain"),
    Key::value("allowUnverified"),
];
