//! Addresses: `tls:host:port` for control channels and links, `host:port` for web listeners.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// Why a text is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// It does not begin with a transport.
    #[error("it does not begin with a transport such as `tls:`")]
    NoScheme,
    /// It begins with a transport nobody knows.
    #[error("the transport {0} is not one of tls, dtls, tcp, udp, ws, wss")]
    UnknownScheme(String),
    /// There is no host.
    #[error("the host is missing")]
    NoHost,
    /// There is no port.
    #[error("the port is missing")]
    NoPort,
    /// The port is not a number from 0 to 65535.
    #[error("the port {0} is not a number from 0 to 65535")]
    BadPort(String),
    /// An IPv6 address without its brackets.
    #[error("an IPv6 address needs brackets, as in `[::1]:6262`")]
    Brackets,
    /// A character that no host name holds.
    #[error("the host {0} is neither a name nor an IP address")]
    BadHost(String),
}

/// How bytes travel to an address. Source: `openziti/transport:address.go`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// TLS over TCP, the one control channels use.
    Tls,
    /// TLS over UDP.
    Dtls,
    /// Bare TCP.
    Tcp,
    /// Bare UDP.
    Udp,
    /// WebSocket.
    Ws,
    /// WebSocket over TLS.
    Wss,
}

const SCHEMES: [(&str, Scheme); 6] = [
    ("tls", Scheme::Tls),
    ("dtls", Scheme::Dtls),
    ("tcp", Scheme::Tcp),
    ("udp", Scheme::Udp),
    ("ws", Scheme::Ws),
    ("wss", Scheme::Wss),
];

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(SCHEMES.iter().find(|(_, scheme)| scheme == self).map_or("", |(name, _)| name))
    }
}

/// A host (name or IP, without brackets) and a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// Name or IP address, never empty, IPv6 without brackets.
    pub host: String,
    /// Port; 0 asks a listener for any free one.
    pub port: u16,
}

impl HostPort {
    /// The host as an IP address, if it is one.
    pub fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }
}

impl FromStr for HostPort {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (host, port) = if let Some(inside) = text.strip_prefix('[') {
            let (host, rest) = inside.split_once(']').ok_or(AddressError::Brackets)?;
            let address = host.split_once('%').map_or(host, |(address, _zone)| address);
            if address.parse::<Ipv6Addr>().is_err() {
                return Err(AddressError::BadHost(crate::quote(host)));
            }
            (host, rest.strip_prefix(':').ok_or(AddressError::NoPort)?)
        } else {
            let (host, port) = text.rsplit_once(':').ok_or(AddressError::NoPort)?;
            if host.contains(':') {
                return Err(AddressError::Brackets);
            }
            let is_plain = host.chars().all(|c| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | '*'));
            if !is_plain {
                return Err(AddressError::BadHost(crate::quote(host)));
            }
            (host, port)
        };
        if host.is_empty() {
            return Err(AddressError::NoHost);
        }
        if port.is_empty() {
            return Err(AddressError::NoPort);
        }
        let is_number = port.bytes().all(|b| b.is_ascii_digit());
        let port = port.parse().ok().filter(|_| is_number).ok_or_else(|| AddressError::BadPort(crate::quote(port)))?;
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// A transport, a host and a port, as OpenZiti writes them: `tls:ctrl.example:6262`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    /// How bytes travel.
    pub scheme: Scheme,
    /// Where to.
    pub at: HostPort,
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (scheme, rest) = text.split_once(':').ok_or(AddressError::NoScheme)?;
        let Some((_, scheme)) = SCHEMES.iter().find(|(name, _)| *name == scheme) else {
            // `host:port` without a transport is the commonest slip, so it gets its own words.
            return Err(if rest.contains(':') {
                AddressError::UnknownScheme(crate::quote(scheme))
            } else {
                AddressError::NoScheme
            });
        };
        Ok(Self { scheme: *scheme, at: rest.parse()? })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.scheme, self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_address_is_shown_as_it_was_written() {
        for text in ["tls:ctrl.example:6262", "tls:[::1]:6262", "wss:0.0.0.0:443", "dtls:10.0.0.1:0"] {
            assert_eq!(text.parse::<Address>().map(|a| a.to_string()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn each_way_to_get_an_address_wrong_has_its_own_words() {
        use AddressError as E;
        for (text, error) in [
            ("", E::NoScheme),
            ("ctrl.example:6262", E::NoScheme),
            ("http:ctrl.example:6262", E::UnknownScheme("`http`".to_owned())),
            ("tls:ctrl.example", E::NoPort),
            ("tls:ctrl.example:", E::NoPort),
            ("tls::6262", E::NoHost),
            ("tls:::1:6262", E::Brackets),
            ("tls:[::1:6262", E::Brackets),
            ("tls:[x]:6262", E::BadHost("`x`".to_owned())),
            ("tls://ctrl.example:6262", E::BadHost("`//ctrl.example`".to_owned())),
            ("tls:ctrl:70000", E::BadPort("`70000`".to_owned())),
            ("tls:ctrl:+1", E::BadPort("`+1`".to_owned())),
        ] {
            let got = text.parse::<Address>();
            // `//ctrl.example:6262` is split at its last colon, so the transport is read first.
            assert_eq!(got, Err(error), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_parses_is_shown_and_parsed_again(text in "(tls|ws):[a-z0-9.\\[\\]:%*-]{0,20}") {
            if let Ok(address) = text.parse::<Address>() {
                prop_assert_eq!(address.to_string().parse::<Address>(), Ok(address));
            }
        }
    }
}
