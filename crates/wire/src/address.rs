//! Addresses: `tls:host:port`, `tls:[v6]:port`.
//!
//! Upstream: `openziti/transport:address.go`, `openziti/ziti:ziti/main.go`.

use core::net::Ipv6Addr;
use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// The transports that upstream's addresses name. The control channel uses `tls`.
pub const TRANSPORTS: [&str; 6] = ["tls", "dtls", "tcp", "ws", "wss", "udp"];
/// Transport of control channels and links.
pub const TLS: &str = "tls";

/// Where something listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    /// One of [`TRANSPORTS`].
    pub transport: String,
    /// Host name, IPv4 address, or IPv6 address without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// Why a text is no address.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum AddressError {
    /// Not three parts.
    #[error("`{text}` is no address; expected `tls:host:port`, with an IPv6 host in brackets: `tls:[::1]:6262`")]
    Form {
        /// What was given.
        text: String,
    },
    /// The first part is no transport.
    #[error("`{transport}` in `{text}` is no transport; expected one of {TRANSPORTS:?}")]
    Transport {
        /// What was given.
        text: String,
        /// Its first part.
        transport: String,
    },
    /// The host is empty or holds a character that no host has.
    #[error("`{host}` in `{text}` is no host name and no IP address")]
    Host {
        /// What was given.
        text: String,
        /// Its host.
        host: String,
    },
    /// The port is no number from 0 to 65535.
    #[error("`{port}` in `{text}` is no port; expected a number from 0 to 65535")]
    Port {
        /// What was given.
        text: String,
        /// Its last part.
        port: String,
    },
}

impl Address {
    /// `tls:host:port`. A host in brackets loses them.
    ///
    /// # Errors
    /// [`AddressError::Host`].
    pub fn tls(host: &str, port: u16) -> Result<Self, AddressError> {
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if !(is_name(host) || is_v6(host)) {
            return Err(AddressError::Host { text: format!("{TLS}:{host}:{port}"), host: host.to_owned() });
        }
        Ok(Self { transport: TLS.to_owned(), host: host.to_owned(), port })
    }

    /// `host:port` with brackets around an IPv6 host, as resolvers and URLs take it.
    pub fn host_and_port(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let form = || AddressError::Form { text: text.to_owned() };
        let (transport, rest) = text.split_once(':').ok_or_else(form)?;
        if !TRANSPORTS.contains(&transport) {
            return Err(AddressError::Transport { text: text.to_owned(), transport: transport.to_owned() });
        }
        let (host, port) = rest.rsplit_once(':').ok_or_else(form)?;
        let is_digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        let port = is_digits
            .then(|| port.parse().ok())
            .flatten()
            .ok_or_else(|| AddressError::Port { text: text.to_owned(), port: port.to_owned() })?;
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let is_host = bracketed.map_or_else(|| is_name(host), is_v6);
        if !is_host {
            return Err(if host.contains(':') && bracketed.is_none() {
                form()
            } else {
                AddressError::Host { text: text.to_owned(), host: host.to_owned() }
            });
        }
        Ok(Self { transport: transport.to_owned(), host: bracketed.unwrap_or(host).to_owned(), port })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.transport, self.host_and_port())
    }
}

/// A host name or an IPv4 address: what can stand in a URL, and no more is asked.
fn is_name(host: &str) -> bool {
    !host.is_empty()
        && !host.chars().any(|c| c.is_whitespace() || c.is_control() || matches!(c, ':' | '/' | '[' | ']' | '@' | '%'))
}

/// An IPv6 address, perhaps with a zone.
fn is_v6(host: &str) -> bool {
    let (address, zone) = host.split_once('%').unwrap_or((host, "zone"));
    address.parse::<Ipv6Addr>().is_ok() && is_name(zone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_a_round_trip() {
        for (text, host, port) in [
            ("tls:ctrl.example.com:6262", "ctrl.example.com", 6262),
            ("tls:127.0.0.1:0", "127.0.0.1", 0),
            ("tls:[::1]:65535", "::1", 65535),
            ("wss:[fe80::1%eth0]:443", "fe80::1%eth0", 443),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!((address.host.as_str(), address.port), (host, port));
            assert_eq!(address.to_string(), text);
        }
        assert_eq!(Address::tls("[::1]", 6262).unwrap().to_string(), "tls:[::1]:6262");
    }

    #[test]
    fn what_is_no_address_says_why() {
        let wrong = |text: &str| text.parse::<Address>().unwrap_err();
        assert!(matches!(wrong("host"), AddressError::Form { .. }));
        assert!(matches!(wrong("tls:host"), AddressError::Form { .. }));
        assert!(matches!(wrong("tls:::1:6262"), AddressError::Form { .. }));
        assert!(matches!(wrong("host:6262"), AddressError::Transport { .. }));
        assert!(matches!(wrong("tls::6262"), AddressError::Host { .. }));
        assert!(matches!(wrong("tls:[host]:6262"), AddressError::Host { .. }));
        assert!(matches!(wrong("tls:a b:6262"), AddressError::Host { .. }));
        for port in ["", "-1", "+1", "65536", "http"] {
            assert!(matches!(wrong(&format!("tls:host:{port}")), AddressError::Port { .. }), "{port}");
        }
    }
}
