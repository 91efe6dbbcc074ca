//! Where the controller listens, and what peers may use up.

use std::time::Duration;

use ::config::{Address, Field, HostPort, Scheme, Section};

use crate::web::FailureLimits;

const SECOND: Duration = Duration::from_secs(1);

/// Where routers connect.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ControlListener {
    /// Host and port to listen on, over TLS; port 0 takes any free one.
    pub listen: HostPort,
    /// What routers are told to dial; always with [`Scheme::Tls`].
    pub advertise: Address,
}

/// A REST listener.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WebListener {
    /// Its name in logs.
    pub name: String,
    /// Where it listens; at least one.
    pub bind_points: Vec<BindPoint>,
}

/// Where a REST listener listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindPoint {
    /// Host and port to listen on; port 0 takes any free one.
    pub interface: HostPort,
    /// Host and port under which others reach it; the interface if not given.
    pub address: HostPort,
}

/// Bounds on what peers may use up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Control channels open at once.
    pub channels: u32,
    /// TLS handshakes in progress at once, on each listener.
    pub handshakes: u32,
    /// How long a handshake, with the hello after it, may take.
    pub handshake_timeout: Duration,
    /// Connections to the REST interfaces, on each listener.
    pub api_connections: u32,
    /// The longest body of a REST request, in bytes.
    pub body_bytes: u32,
    /// All bodies of REST requests under way together, in bytes.
    pub bodies_bytes: u32,
    /// Failed enrollments.
    pub enrollment_failures: FailureLimits,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            channels: 120_000,
            handshakes: 512,
            handshake_timeout: 10 * SECOND,
            api_connections: 2048,
            body_bytes: 1 << 20,
            bodies_bytes: 64 << 20,
            enrollment_failures: FailureLimits::USUAL,
        }
    }
}

const LISTENER_EXAMPLE: &str = "write it as in `tls:0.0.0.0:6262` or `tls:[::]:6262`";

pub(super) fn control(root: &Section<'_>) -> Option<ControlListener> {
    let section =
        root.required_section("ctrl", "say where routers connect: `ctrl: {listener: \"tls:0.0.0.0:6262\"}`")?;
    let listen = section.required("listener", LISTENER_EXAMPLE).and_then(|field| tls(&field));
    let options = section.section("options");
    let advertise = options.as_ref().and_then(|options| options.field("advertiseAddress"));
    let advertise = match advertise {
        Some(field) => {
            let address = tls(&field)?;
            if !can_be_dialed(&address.at) {
                field.error(
                    format!("`{address}` is no address that a router could dial"),
                    Some("name the host and port by which routers reach this controller"),
                );
                return None;
            }
            address
        }
        None => {
            let own = listen.clone()?;
            if !can_be_dialed(&own.at) {
                section.error(
                    format!("routers cannot dial `{own}`, and `ctrl.options.advertiseAddress` is missing"),
                    Some("write `options: {advertiseAddress: tls:HOST:PORT}`"),
                );
                return None;
            }
            own
        }
    };
    Some(ControlListener { listen: listen?.at, advertise })
}

fn tls(field: &Field<'_>) -> Option<Address> {
    let address: Address = field.parse(LISTENER_EXAMPLE)?;
    if address.scheme != Scheme::Tls {
        field.error(format!("control channels use `tls`, not `{}`", address.scheme), Some(LISTENER_EXAMPLE));
        return None;
    }
    Some(address)
}

fn can_be_dialed(at: &HostPort) -> bool {
    at.port != 0 && !at.ip().is_some_and(|ip| ip.is_unspecified())
}

/// A host and port that somebody else dials.
pub(super) fn reachable(field: &Field<'_>) -> Option<HostPort> {
    const EXAMPLE: &str = "name the host and port by which others reach it, as in `ctrl.example.org:1280`";
    let at: HostPort = field.parse(EXAMPLE)?;
    if !can_be_dialed(&at) {
        field.error(format!("`{at}` is no address that anybody could dial"), Some(EXAMPLE));
        return None;
    }
    Some(at)
}

pub(super) fn web(root: &Section<'_>) -> Option<Vec<WebListener>> {
    const HINT: &str = "say where the API is served: `web: [{bindPoints: [{interface: \"0.0.0.0:1280\"}]}]`";
    root.required("web", HINT)?;
    let sections = root.sections("web");
    let mut listeners = Vec::new();
    for (index, section) in sections.iter().enumerate() {
        let name = section
            .field("name")
            .and_then(|field| field.text())
            .map_or_else(|| format!("web {}", index + 1), str::to_owned);
        let points =
            section.required("bindPoints", "say where to listen: `- interface: 0.0.0.0:1280`").and_then(|field| {
                let points = field.items()?;
                if points.is_empty() {
                    field.error("there must be at least one", Some("write `- interface: 0.0.0.0:1280`"));
                }
                Some(points)
            });
        let bind_points = points.unwrap_or_default().iter().filter_map(|point| bind_point(&point.section()?)).collect();
        listeners.push(WebListener { name, bind_points });
    }
    if let Some(field) = root.field("web").filter(|_| listeners.is_empty()) {
        field.error("there must be at least one listener", Some(HINT));
    }
    Some(listeners)
}

fn bind_point(section: &Section<'_>) -> Option<BindPoint> {
    const EXAMPLE: &str = "write it as in `0.0.0.0:1280` or `[::]:1280`";
    let interface = section.required("interface", EXAMPLE).and_then(|field| field.parse::<HostPort>(EXAMPLE));
    let address = section.field("address").map(|field| reachable(&field));
    let interface = interface?;
    Some(BindPoint {
        address: match address {
            None => interface.clone(),
            Some(address) => address?,
        },
        interface,
    })
}

pub(super) fn limits(exuvia: Option<&Section<'_>>) -> Limits {
    let usual = Limits::default();
    let Some(section) = exuvia.and_then(|exuvia| exuvia.section("limits")) else { return usual };
    Limits {
        channels: section.integer_or("channels", usual.channels, 1..=10_000_000),
        handshakes: section.integer_or("handshakes", usual.handshakes, 1..=1_000_000),
        handshake_timeout: section.duration_or("handshakeTimeout", usual.handshake_timeout, SECOND..=120 * SECOND),
        api_connections: section.integer_or("apiConnections", usual.api_connections, 1..=1_000_000),
        body_bytes: section.integer_or("bodyBytes", usual.body_bytes, 65_536..=1 << 30),
        bodies_bytes: section.integer_or("bodiesBytes", usual.bodies_bytes, 65_536..=1 << 30),
        enrollment_failures: FailureLimits {
            each: section.integer_or("enrollmentFailures", usual.enrollment_failures.each, 1..=60_000),
            all: section.integer_or("enrollmentFailuresInAll", usual.enrollment_failures.all, 1..=60_000),
        },
    }
}
