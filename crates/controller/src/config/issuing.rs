//! What is issued, and to whom.

use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use ::config::{Field, Section, quote};

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);

/// What is issued, and to whom.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct IssuingSettings {
    /// How long a leaf lives, before its issuer's end shortens it.
    pub leaf_life: Duration,
    /// A leaf that would live less than this, or less than a tenth of `leaf_life` if that is shorter, and would not outlive its predecessor,
    /// is not issued.
    pub minimum_leaf_life: Duration,
    /// How long predecessors stay admitted after the first use of a newer leaf, never past their own expiry.
    pub overlap: Duration,
    /// Which names routers may ask for.
    pub sans: SanPolicy,
}

impl IssuingSettings {
    /// The least life of a new leaf: the smaller of `minimum_leaf_life` and a tenth of `leaf_life`.
    pub fn least_life(&self) -> Duration {
        self.minimum_leaf_life.min(self.leaf_life / 10)
    }
}

/// Which subject alternative names a router may ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SanPolicy {
    /// Any, as OpenZiti's controller.
    Any,
    /// Only what a list names; an empty list allows none of its kind.
    Listed {
        /// Host names.
        dns: Vec<DnsPattern>,
        /// IP addresses.
        ip: Vec<Cidr>,
        /// Mail addresses, spelled out.
        email: Vec<String>,
        /// Prefixes of URIs.
        uri: Vec<String>,
    },
}

impl SanPolicy {
    /// May a router be called by this host name?
    pub fn allows_dns(&self, name: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Listed { dns, .. } => dns.iter().any(|pattern| pattern.matches(name)),
        }
    }

    /// May a router have this IP address?
    pub fn allows_ip(&self, address: IpAddr) -> bool {
        match self {
            Self::Any => true,
            Self::Listed { ip, .. } => ip.iter().any(|network| network.contains(address)),
        }
    }

    /// May a router have this mail address?
    pub fn allows_email(&self, address: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Listed { email, .. } => email.iter().any(|one| one.eq_ignore_ascii_case(address)),
        }
    }

    /// May a router have this URI? A listed URI allows itself and whatever continues it behind a `/`.
    pub fn allows_uri(&self, name: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Listed { uri, .. } => uri.iter().any(|prefix| match name.strip_prefix(prefix.as_str()) {
                // `..` would leave the part of the tree that was allowed.
                Some(rest) => {
                    rest.is_empty()
                        || ((prefix.ends_with('/') || rest.starts_with('/'))
                            && !rest.split('/').any(|part| part == ".."))
                }
                None => false,
            }),
        }
    }
}

/// A host name, or `*.` and a host name for every name with exactly one more label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsPattern(String);

impl DnsPattern {
    /// Does the pattern cover this name? A wildcard name is covered only by the same pattern.
    pub fn matches(&self, name: &str) -> bool {
        if name.eq_ignore_ascii_case(&self.0) {
            return true;
        }
        match (self.0.strip_prefix("*."), name.split_once('.')) {
            (Some(parent), Some((label, rest))) => {
                !label.is_empty() && label != "*" && rest.eq_ignore_ascii_case(parent)
            }
            _ => false,
        }
    }
}

/// A network: an address and how many of its first bits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    address: IpAddr,
    bits: u8,
}

impl Cidr {
    /// Does this address belong to the network?
    pub fn contains(&self, other: IpAddr) -> bool {
        match (self.address, other) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0);
                u32::from(own) & mask == u32::from(other) & mask
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.bits)).unwrap_or(0);
                u128::from(own) & mask == u128::from(other) & mask
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

impl FromStr for Cidr {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().map_err(|_| "it is no IP address")?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => most,
            Some(bits) => {
                bits.parse().ok().filter(|bits| *bits <= most).ok_or("there are not so many bits in the address")?
            }
        };
        Ok(Self { address, bits })
    }
}

pub(super) fn read(section: Option<&Section<'_>>) -> Option<IssuingSettings> {
    let duration = |name, usual, range| section.map_or(usual, |section| section.duration_or(name, usual, range));
    let leaf_life = duration("leafLife", 90 * DAY, 10 * SECOND..=3_650 * DAY);
    let minimum_leaf_life = duration("minimumLeafLife", 14 * DAY, SECOND..=3_650 * DAY);
    let overlap = duration("overlap", 3_600 * SECOND, Duration::ZERO..=30 * DAY);
    if let Some(field) = section.and_then(|section| section.field("overlap")) {
        if overlap > leaf_life {
            field.warn(
                "the overlap is longer than a leaf lives, so a predecessor stays admitted until it expires",
                None,
            );
        }
        if overlap.is_zero() {
            field.warn(
                "without an overlap a router that loses its new certificate right after the first use is locked out",
                Some("keep the default of `1h`"),
            );
        }
    }
    if let Some(field) = section.and_then(|section| section.field("leafLife")).filter(|_| leaf_life <= 7 * DAY) {
        field.warn(
            "OpenZiti's routers renew seven days before the end; with leaves that live no longer they renew all the time",
            Some("use this only where all routers run Exuvia"),
        );
    }
    let sans = match section.and_then(|section| section.field("sans")) {
        None => Some(SanPolicy::Any),
        Some(field) if field.is_text() => field.choice(&[("any", ())]).map(|()| SanPolicy::Any),
        Some(field) => field.section().map(|section| listed(&section)),
    };
    Some(IssuingSettings { leaf_life, minimum_leaf_life, overlap, sans: sans? })
}

fn listed(section: &Section<'_>) -> SanPolicy {
    SanPolicy::Listed {
        dns: each(section, "dns", |field| {
            let text = field.text()?;
            let name = text.strip_prefix("*.").unwrap_or(text);
            let is_name =
                !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
            if !is_name {
                field.error(
                    format!("{} is no host name", quote(text)),
                    Some("only the first label may be `*`, as in `*.edge.example.org`"),
                );
            }
            is_name.then(|| DnsPattern(text.to_owned()))
        }),
        ip: each(section, "ip", |field| field.parse("write it as in `10.0.0.0/8` or `2001:db8::1`")),
        email: each(section, "email", |field| field.text().map(str::to_owned)),
        uri: each(section, "uri", |field| {
            let text = field.text()?;
            let has_host = text.split_once("://").is_some_and(|(_, rest)| !rest.is_empty());
            if !has_host {
                field.error(
                    format!("{} is no URI with a host", quote(text)),
                    Some("write it as in `spiffe://example.org/routers`"),
                );
            }
            has_host.then(|| text.to_owned())
        }),
    }
}

fn each<T>(section: &Section<'_>, name: &'static str, read: impl Fn(&Field<'_>) -> Option<T>) -> Vec<T> {
    section.field(name).and_then(|field| field.items()).unwrap_or_default().iter().filter_map(read).collect()
}
