//! Subject alternative names, and which of them a router may ask for.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use x509_cert::der::asn1::Ia5String;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

const MAX_NAMES: usize = 256;
const MAX_NAME_BYTES: usize = 2048;

/// A name that cannot be in a certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SanError {
    /// An IP address that is neither 4 nor 16 bytes long.
    #[error("an IP SAN of {bytes} bytes; 4 or 16 are expected")]
    IpLength {
        /// How long it is.
        bytes: usize,
    },
    /// Empty, too long, or with characters outside visible ASCII.
    #[error("the {kind} SAN `{name}` is not a name: 1 to {MAX_NAME_BYTES} visible ASCII characters are expected")]
    BadName {
        /// `dns`, `uri` or `email`.
        kind: &'static str,
        /// The name, escaped and shortened.
        name: String,
    },
    /// More names than any router has.
    #[error("{found} SANs, at most {MAX_NAMES} are accepted")]
    TooMany {
        /// How many there are.
        found: usize,
    },
}

/// The names a certificate is for, in the order given. Names of other kinds (directory names, other names) are not
/// read and never issued, as in OpenZiti.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sans {
    /// DNS names.
    pub dns: Vec<String>,
    /// IP addresses.
    pub ips: Vec<IpAddr>,
    /// URIs.
    pub uris: Vec<String>,
    /// Email addresses.
    pub emails: Vec<String>,
}

impl Sans {
    /// Is there no name at all?
    pub fn is_empty(&self) -> bool {
        self.count() == 0
    }

    fn count(&self) -> usize {
        self.dns.len() + self.ips.len() + self.uris.len() + self.emails.len()
    }

    /// Can all of them be in a certificate?
    ///
    /// # Errors
    /// [`SanError`] names the first that cannot.
    pub fn check(&self) -> Result<(), SanError> {
        if self.count() > MAX_NAMES {
            return Err(SanError::TooMany { found: self.count() });
        }
        for (kind, names) in [("dns", &self.dns), ("uri", &self.uris), ("email", &self.emails)] {
            if let Some(name) = names.iter().find(|name| !is_name(name)) {
                return Err(SanError::BadName { kind, name: shown(name) });
            }
        }
        Ok(())
    }

    pub(crate) fn from_extension(extension: &SubjectAltName) -> Result<Self, SanError> {
        let mut sans = Self::default();
        for name in &extension.0 {
            match name {
                GeneralName::DnsName(name) => sans.dns.push(name.as_str().to_owned()),
                GeneralName::UniformResourceIdentifier(name) => sans.uris.push(name.as_str().to_owned()),
                GeneralName::Rfc822Name(name) => sans.emails.push(name.as_str().to_owned()),
                GeneralName::IpAddress(octets) => {
                    let octets = octets.as_bytes();
                    let ip = <[u8; 4]>::try_from(octets)
                        .map(IpAddr::from)
                        .or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from))
                        .map_err(|_| SanError::IpLength { bytes: octets.len() })?;
                    sans.ips.push(ip);
                }
                GeneralName::OtherName(_)
                | GeneralName::DirectoryName(_)
                | GeneralName::EdiPartyName(_)
                | GeneralName::RegisteredId(_) => {}
            }
        }
        Ok(sans)
    }

    /// The extension, or `None` if there is no name (it may not be empty).
    pub(crate) fn to_extension(&self) -> Result<Option<SubjectAltName>, SanError> {
        self.check()?;
        let text =
            |kind, name: &String| Ia5String::new(name).map_err(|_| SanError::BadName { kind, name: shown(name) });
        let mut names = Vec::with_capacity(self.count());
        for name in &self.dns {
            names.push(GeneralName::DnsName(text("dns", name)?));
        }
        for name in &self.emails {
            names.push(GeneralName::Rfc822Name(text("email", name)?));
        }
        names.extend(self.ips.iter().copied().map(GeneralName::from));
        for name in &self.uris {
            names.push(GeneralName::UniformResourceIdentifier(text("uri", name)?));
        }
        Ok((!names.is_empty()).then_some(SubjectAltName(names)))
    }
}

fn is_name(name: &str) -> bool {
    (1..=MAX_NAME_BYTES).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic())
}

/// A foreign name made fit for a message.
fn shown(name: &str) -> String {
    name.chars().take(80).flat_map(char::escape_default).collect()
}

/// A block of IP addresses: `10.0.0.0/8`, `fd00::/8`, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpRange {
    base: IpAddr,
    prefix_bits: u8,
}

/// Not a block of addresses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no IP address or block of addresses; write `10.1.2.3`, `10.0.0.0/8` or `fd00::/8`")]
pub struct IpRangeError {
    text: String,
}

impl IpRange {
    /// Is `ip` in the block?
    pub fn contains(&self, ip: IpAddr) -> bool {
        let (base, ip, width_bits) = match (self.base, ip) {
            (IpAddr::V4(base), IpAddr::V4(ip)) => (u128::from(base.to_bits()), u128::from(ip.to_bits()), 32),
            (IpAddr::V6(base), IpAddr::V6(ip)) => (base.to_bits(), ip.to_bits(), 128),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return false,
        };
        let host_bits = width_bits - u32::from(self.prefix_bits);
        // A shift by all 128 bits is no shift at all in Rust, hence `unwrap_or`.
        (base ^ ip).checked_shr(host_bits).unwrap_or(0) == 0
    }
}

impl FromStr for IpRange {
    type Err = IpRangeError;

    fn from_str(text: &str) -> Result<Self, IpRangeError> {
        let error = || IpRangeError { text: shown(text) };
        let (base, prefix) = match text.split_once('/') {
            Some((base, prefix)) => (base, Some(prefix)),
            None => (text, None),
        };
        let base: IpAddr = base.parse().map_err(|_| error())?;
        let width_bits = if base.is_ipv4() { 32 } else { 128 };
        let prefix_bits = match prefix {
            Some(prefix) => prefix.parse().ok().filter(|bits| *bits <= width_bits).ok_or_else(error)?,
            None => width_bits,
        };
        Ok(Self { base, prefix_bits })
    }
}

impl fmt::Display for IpRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix_bits)
    }
}

/// Which names a router may ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SansPolicy {
    /// Any: what OpenZiti's controller does.
    #[default]
    Any,
    /// Only what the lists name.
    Allow(SansAllowList),
}

/// The names of [`SansPolicy::Allow`]. An empty list allows none of its kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SansAllowList {
    /// `example.com` allows itself and everything below it, also `*.example.com`. No leading dot needed.
    pub dns_suffixes: Vec<String>,
    /// Blocks of addresses.
    pub ips: Vec<IpRange>,
    /// URIs, whole.
    pub uris: Vec<String>,
    /// Email addresses, whole, or `@example.com` for a whole domain.
    pub emails: Vec<String>,
}

/// A name that the policy does not allow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the {kind} SAN `{name}` is not allowed for this router; add it to the controller's allowed SANs, or remove it from the router's `csr.sans`"
)]
pub struct SanRefused {
    /// `dns`, `ip`, `uri` or `email`.
    pub kind: &'static str,
    /// The offending name, escaped and shortened.
    pub name: String,
}

impl SansPolicy {
    /// May a router ask for `sans`?
    ///
    /// # Errors
    /// Names the first SAN that is not allowed.
    pub fn check(&self, sans: &Sans) -> Result<(), SanRefused> {
        let allow = match self {
            Self::Any => return Ok(()),
            Self::Allow(allow) => allow,
        };
        let refused = |kind, name: &str| Err(SanRefused { kind, name: shown(name) });
        if let Some(name) = sans.dns.iter().find(|name| !allow.dns_suffixes.iter().any(|suffix| is_below(name, suffix)))
        {
            return refused("dns", name);
        }
        if let Some(ip) = sans.ips.iter().find(|ip| !allow.ips.iter().any(|range| range.contains(**ip))) {
            return refused("ip", &ip.to_string());
        }
        if let Some(name) = sans.uris.iter().find(|name| !allow.uris.contains(name)) {
            return refused("uri", name);
        }
        if let Some(name) = sans.emails.iter().find(|name| !allow.emails.iter().any(|allowed| is_mail(name, allowed))) {
            return refused("email", name);
        }
        Ok(())
    }
}

fn is_below(name: &str, suffix: &str) -> bool {
    let name = name.strip_prefix("*.").unwrap_or(name).trim_end_matches('.').to_ascii_lowercase();
    let suffix = suffix.trim_matches('.').to_ascii_lowercase();
    name == suffix || (!suffix.is_empty() && name.strip_suffix(&suffix).is_some_and(|rest| rest.ends_with('.')))
}

fn is_mail(name: &str, allowed: &str) -> bool {
    if !allowed.starts_with('@') {
        return name == allowed;
    }
    name.rsplit_once('@')
        .is_some_and(|(_, domain)| allowed.get(1..).is_some_and(|allowed| domain.eq_ignore_ascii_case(allowed)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dns(name: &str) -> Sans {
        Sans { dns: vec![name.to_owned()], ..Sans::default() }
    }

    #[test]
    fn a_dns_suffix_covers_itself_and_what_is_below_but_no_lookalike() {
        let policy =
            SansPolicy::Allow(SansAllowList { dns_suffixes: vec![".Example.com".to_owned()], ..Default::default() });
        for name in ["example.com", "a.example.com", "*.b.EXAMPLE.com", "*.example.com"] {
            assert_eq!(policy.check(&dns(name)), Ok(()), "{name}");
        }
        for name in ["badexample.com", "example.com.evil.org", "com", "*.com", ""] {
            assert_eq!(policy.check(&dns(name)), Err(SanRefused { kind: "dns", name: name.to_owned() }));
        }
        let nothing = SansPolicy::Allow(SansAllowList { dns_suffixes: vec![String::new()], ..Default::default() });
        assert!(nothing.check(&dns("a")).is_err());
        assert_eq!(SansPolicy::Any.check(&dns("whatever")), Ok(()));
    }

    #[test]
    fn ip_ranges_end_where_their_prefix_says() {
        let range: IpRange = "10.1.0.0/16".parse().unwrap();
        assert!(range.contains("10.1.255.255".parse().unwrap()));
        assert!(!range.contains("10.2.0.0".parse().unwrap()));
        assert!(!range.contains("::1".parse().unwrap()));
        let one: IpRange = "fd00::1".parse().unwrap();
        assert!(one.contains("fd00::1".parse().unwrap()) && !one.contains("fd00::2".parse().unwrap()));
        let all: IpRange = "::/0".parse().unwrap();
        assert!(all.contains("ffff::".parse().unwrap()));
        for bad in ["", "10.0.0.0/33", "10.0.0.0/-1", "x/8", "::/129", "10.0.0.0/"] {
            assert!(bad.parse::<IpRange>().is_err(), "{bad}");
        }
    }

    #[test]
    fn every_kind_is_judged_by_its_own_list() {
        let policy = SansPolicy::Allow(SansAllowList {
            dns_suffixes: vec![],
            ips: vec!["127.0.0.1".parse().unwrap()],
            uris: vec!["spiffe://x/router".to_owned()],
            emails: vec!["@example.com".to_owned(), "one@other.org".to_owned()],
        });
        let good = Sans {
            dns: vec![],
            ips: vec!["127.0.0.1".parse().unwrap()],
            uris: vec!["spiffe://x/router".to_owned()],
            emails: vec!["any@Example.com".to_owned(), "one@other.org".to_owned()],
        };
        assert_eq!(policy.check(&good), Ok(()));
        let kinds = |change: fn(&mut Sans)| {
            let mut sans = good.clone();
            change(&mut sans);
            policy.check(&sans).map_err(|refused| refused.kind)
        };
        assert_eq!(kinds(|sans| sans.dns.push("a".to_owned())), Err("dns"));
        assert_eq!(kinds(|sans| sans.ips.push("127.0.0.2".parse().unwrap())), Err("ip"));
        assert_eq!(kinds(|sans| sans.uris.push("spiffe://x/router/2".to_owned())), Err("uri"));
        assert_eq!(kinds(|sans| sans.emails.push("two@other.org".to_owned())), Err("email"));
    }

    #[test]
    fn names_that_are_no_names_are_refused() {
        for bad in ["", "a b", "nul\0byte", "umläut", &"x".repeat(MAX_NAME_BYTES + 1)] {
            assert!(matches!(dns(bad).check(), Err(SanError::BadName { kind: "dns", .. })));
        }
        let many = Sans { dns: vec!["a".to_owned(); MAX_NAMES + 1], ..Sans::default() };
        assert_eq!(many.check(), Err(SanError::TooMany { found: MAX_NAMES + 1 }));
    }
}
