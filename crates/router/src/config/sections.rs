//! The sections `ctrl`, `csr`, `edge`, `link`, `listeners` and `web`.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ::config::{Address, Field, HostPort, Scheme, Section, quote};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);

/// How to reach controllers. Source: `openziti/ziti:router/env/config.go`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ControlSettings {
    /// Addresses of controllers, all with [`Scheme::Tls`]. Empty where enrollment left them in the endpoints file alone.
    pub endpoints: Vec<Address>,
    /// Where the addresses that controllers announce are kept.
    pub endpoints_file: PathBuf,
    /// Local interface or IP address from which to dial.
    pub bind: Option<String>,
    /// How long a request on a control channel may take.
    pub request_timeout: Duration,
    /// How long a start may take until the first control channel stands. It is only reported; no start fails of it.
    pub startup_timeout: Duration,
    /// How long a dial may take, TLS and hello included.
    pub connect_timeout: Duration,
    /// How often a heartbeat is sent.
    pub heartbeat_interval: Duration,
    /// After how much silence a channel is closed.
    pub unresponsive_after: Duration,
}

/// Subject and names of certificate requests. The CN is the router's id and is not configured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CsrSettings {
    /// C; may be empty.
    pub country: String,
    /// ST; may be empty.
    pub province: String,
    /// L; may be empty.
    pub locality: String,
    /// O; may be empty.
    pub organization: String,
    /// OU; may be empty.
    pub organizational_unit: String,
    /// Names.
    pub sans: Sans,
}

/// Subject alternative names, in the order of the file, without duplicates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sans {
    /// Host names.
    pub dns: Vec<String>,
    /// IP addresses.
    pub ip: Vec<IpAddr>,
    /// Mail addresses.
    pub email: Vec<String>,
    /// URIs.
    pub uri: Vec<String>,
}

impl Sans {
    /// Does a certificate with these names cover `host`, a name or an IP address?
    pub fn covers(&self, host: &str) -> bool {
        if let Ok(ip) = host.parse::<IpAddr>() {
            return self.ip.contains(&ip);
        }
        self.dns.iter().any(|name| match name.strip_prefix("*.") {
            Some(parent) => host.split_once('.').is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(parent)),
            None => name.eq_ignore_ascii_case(host),
        })
    }
}

/// What kind of router the file describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouterKind {
    /// With a section `edge`.
    Edge,
    /// Without.
    Transit,
}

/// A host under which this router is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdvertisedHost {
    /// Name or IP address.
    pub host: String,
    /// The key that says so, such as `listeners[0].options.advertise`.
    pub key: String,
}

/// A web listener. Source: `openziti/xweb:config.go`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebListener {
    /// Its name in logs.
    pub name: String,
    /// Where it listens; at least one.
    pub bind_points: Vec<BindPoint>,
    /// What it serves; may be empty if everything it names is not served here.
    pub apis: Vec<WebApi>,
}

/// Where a web listener listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindPoint {
    /// Host and port to listen on; port 0 takes any free one.
    pub interface: HostPort,
    /// Host and port under which others reach it; the interface if not given.
    pub address: HostPort,
}

/// What a web listener serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebApi {
    /// OpenZiti's `health-checks`.
    HealthChecks,
    /// Prometheus metrics, our own.
    Metrics,
}

const CONTROL_EXAMPLE: &str = "write it as in `tls:ctrl.example.org:6262`";

pub(super) fn control(root: &Section<'_>, file: &Path) -> Option<ControlSettings> {
    // `ctrl: {}` is enough once an endpoints file exists, so the section must be there and may be empty.
    let section =
        root.required_section("ctrl", "say where the controller is: `ctrl: {endpoint: \"tls:HOST:PORT\"}`")?;
    let mut endpoints = Vec::new();
    let one = section.field("endpoint");
    let many = section.field("endpoints");
    if let (Some(_), Some(many)) = (&one, &many) {
        many.warn("`ctrl.endpoints` is ignored because `ctrl.endpoint` is there", Some("keep one of the two"));
    }
    let fields = match one {
        Some(one) => vec![one],
        None => many.and_then(|many| many.items()).unwrap_or_default(),
    };
    for field in fields {
        if let Some(address) = control_address(&field).filter(|address| !endpoints.contains(address)) {
            endpoints.push(address);
        }
    }
    let endpoints_file = section.field("endpointsFile").and_then(|field| field.path_buf());
    let options = section.section("options");
    let milliseconds = options.as_ref().and_then(|options| options.field("connectTimeoutMs"));
    let connect_timeout = options.as_ref().and_then(|options| options.field("connectTimeout"));
    let connect_timeout = connect_timeout
        .and_then(|field| field.duration(SECOND..=HOUR))
        .or_else(|| milliseconds.and_then(|field| field.integer::<u64>(1_000..=3_600_000)).map(Duration::from_millis));
    let beats = section.section("heartbeats");
    let beat = |name, usual| match &beats {
        Some(beats) => beats.duration_or(name, usual, SECOND..=HOUR),
        None => usual,
    };
    let (heartbeat_interval, unresponsive_after) =
        (beat("sendInterval", 10 * SECOND), beat("closeUnresponsiveTimeout", 30 * SECOND));
    if let Some(beats) = beats.as_ref().filter(|_| unresponsive_after <= heartbeat_interval) {
        beats.error(
            "`ctrl.heartbeats.closeUnresponsiveTimeout` must be longer than `sendInterval`, or every idle channel is closed",
            Some("three times the interval is usual"),
        );
    }
    Some(ControlSettings {
        endpoints,
        endpoints_file: endpoints_file.unwrap_or_else(|| file.with_file_name("endpoints.yml")),
        bind: section.field("bind").and_then(|field| field.text()).map(str::to_owned),
        request_timeout: section.duration_or("defaultRequestTimeout", 5 * SECOND, SECOND..=HOUR),
        startup_timeout: section.duration_or("startupTimeout", 30 * SECOND, SECOND..=24 * HOUR),
        connect_timeout: connect_timeout.unwrap_or(5 * SECOND),
        heartbeat_interval,
        unresponsive_after,
    })
}

fn control_address(field: &Field<'_>) -> Option<Address> {
    let address: Address = field.parse(CONTROL_EXAMPLE)?;
    if address.scheme != Scheme::Tls {
        field.error(format!("control channels use `tls`, not `{}`", address.scheme), Some(CONTROL_EXAMPLE));
        return None;
    }
    if address.at.port == 0 {
        field.error("nothing can be reached at port 0", Some("OpenZiti's usual port is 6262"));
        return None;
    }
    Some(address)
}

/// The root's `csr` first, then `edge.csr`, as in OpenZiti. Without `sans` there are no names, where OpenZiti crashes.
pub(super) fn csr(root: &Section<'_>, edge: Option<&Section<'_>>) -> Option<CsrSettings> {
    let within_edge = edge.and_then(|edge| edge.field("csr"));
    let section = match root.field("csr") {
        Some(field) => {
            if let Some(other) = within_edge {
                other
                    .warn("`edge.csr` is ignored because the file has a `csr` of its own", Some("keep one of the two"));
            }
            field.section()?
        }
        None => match within_edge {
            Some(field) => field.section()?,
            // This names the key and the remedy, and finds that the key is missing.
            None => root.required_section(
                "csr",
                "name the hosts of this router: `csr: {sans: {dns: [HOST], ip: [\"127.0.0.1\"]}}`",
            )?,
        },
    };
    let word = |name| section.field(name).and_then(|field| field.text_or_empty()).unwrap_or("").to_owned();
    let settings = CsrSettings {
        country: word("country"),
        province: word("province"),
        locality: word("locality"),
        organization: word("organization"),
        organizational_unit: word("organizationalUnit"),
        sans: section.section("sans").map(|sans| read_sans(&sans)).unwrap_or_default(),
    };
    if let Some(field) = section.field("country").filter(|_| !matches!(settings.country.len(), 0 | 2)) {
        field.warn("a country is two letters in a certificate, such as `US`", None);
    }
    Some(settings)
}

fn read_sans(section: &Section<'_>) -> Sans {
    Sans {
        dns: names(section, "dns", |field, text| {
            let is_host =
                text.is_ascii() && !text.contains(|c: char| c.is_whitespace() || matches!(c, '/' | ':' | '@'));
            if !is_host {
                field.error(
                    format!("{} is no host name", quote(text)),
                    Some("IP addresses go under `ip`; write other alphabets as `xn--…`"),
                );
            }
            is_host.then(|| text.to_owned())
        }),
        ip: names(section, "ip", |field, text| {
            let ip = text.parse().ok();
            if ip.is_none() {
                field.error(format!("{} is no IP address", quote(text)), Some("host names go under `dns`"));
            }
            ip
        }),
        email: names(section, "email", |field, text| {
            let is_mail = text.is_ascii()
                && text.split_once('@').is_some_and(|(user, host)| !user.is_empty() && !host.is_empty());
            if !is_mail {
                field.error(format!("{} is no mail address", quote(text)), None);
            }
            is_mail.then(|| text.to_owned())
        }),
        uri: names(section, "uri", |field, text| {
            let is_uri = text.is_ascii()
                && !text.contains(char::is_whitespace)
                && text.split_once(':').is_some_and(|(scheme, rest)| {
                    !rest.is_empty() && scheme.starts_with(|c: char| c.is_ascii_alphabetic())
                });
            if !is_uri {
                field.error(format!("{} is no URI", quote(text)), Some("write it as in `spiffe://example.org/router`"));
            }
            is_uri.then(|| text.to_owned())
        }),
    }
}

fn names<T: PartialEq>(
    section: &Section<'_>,
    name: &'static str,
    read: impl Fn(&Field<'_>, &str) -> Option<T>,
) -> Vec<T> {
    let mut all = Vec::new();
    for field in section.field(name).and_then(|field| field.items()).unwrap_or_default() {
        if field.is_null() {
            continue;
        }
        // `- ${EXTRA_SAN}` with an unset variable is common in container images and means no name; the variable has its own warning.
        let text = field.text_or_empty().map(str::trim).filter(|text| !text.is_empty());
        if let Some(one) = text.and_then(|text| read(&field, text)).filter(|one| !all.contains(one)) {
            all.push(one);
        }
    }
    all
}

pub(super) fn data_model_cache(edge: Option<&Section<'_>>, file: &Path) -> PathBuf {
    edge.and_then(|edge| edge.field("db")).and_then(|field| field.path_buf()).unwrap_or_else(|| {
        let mut name = file.as_os_str().to_owned();
        name.push(".proto.gzip");
        PathBuf::from(name)
    })
}

/// Hosts of `link.listeners[].advertise` and `listeners[].options.advertise`: what OpenZiti checks at a start.
pub(super) fn advertised_hosts(root: &Section<'_>) -> Vec<AdvertisedHost> {
    let links =
        root.field("link").and_then(|link| link.peek("listeners")).map(|list| list.peek_items()).unwrap_or_default();
    let links = links.iter().filter_map(|listener| listener.peek("advertise"));
    let others = root.field("listeners").map(|list| list.peek_items()).unwrap_or_default();
    let others = others.iter().filter_map(|listener| listener.peek("options")?.peek("advertise"));
    links
        .chain(others)
        .filter_map(|field| {
            let text = field.peek_text()?;
            let at = match text.parse::<Address>() {
                Ok(address) => Some(address.at),
                Err(_) => text.parse::<HostPort>().ok(),
            };
            Some(AdvertisedHost { host: at?.host, key: field.path().to_owned() })
        })
        .collect()
}

pub(super) fn web(root: &Section<'_>) -> Vec<WebListener> {
    let listeners = root.sections("web").into_iter().map(|section| {
        let name =
            section.required("name", "name the listener; the name appears in logs").and_then(|field| field.text());
        let points: Vec<Section<'_>> =
            match section.required("bindPoints", "say where to listen: `- interface: 127.0.0.1:8081`") {
                Some(field) => field.items().unwrap_or_default().iter().filter_map(Field::section).collect(),
                None => Vec::new(),
            };
        let bind_points = points.iter().filter_map(bind_point).collect();
        let mut apis = Vec::new();
        for api in section.sections("apis") {
            let Some(field) = api.required("binding", "name what is served: `health-checks` or `metrics`") else {
                continue;
            };
            match field.text() {
                Some("health-checks") => apis.push(WebApi::HealthChecks),
                Some("metrics") => apis.push(WebApi::Metrics),
                Some(other) => field.warn(
                    format!("this program does not serve the API {}", quote(other)),
                    Some("it serves `health-checks` and `metrics`"),
                ),
                None => {}
            }
        }
        WebListener { name: name.unwrap_or("web").to_owned(), bind_points, apis }
    });
    listeners.collect()
}

fn bind_point(section: &Section<'_>) -> Option<BindPoint> {
    const EXAMPLE: &str = "write it as in `0.0.0.0:8081` or `[::]:8081`";
    let interface: HostPort = section.required("interface", EXAMPLE)?.parse(EXAMPLE)?;
    let address = section.field("address").map(|field| field.parse(EXAMPLE));
    Some(BindPoint {
        address: match address {
            None => interface.clone(),
            Some(address) => address?,
        },
        interface,
    })
}
