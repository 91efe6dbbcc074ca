//! Who pays for what: connections are told apart by where they come from, long before anybody knows who they are.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// Where a connection comes from, as far as shares go: an IPv4 address, or the 64 bits of an IPv6 network, whose other half one machine can fill
/// alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source(IpAddr);

impl Source {
    /// Of this peer.
    pub fn of(remote: SocketAddr) -> Self {
        match remote.ip().to_canonical() {
            IpAddr::V4(address) => Self(IpAddr::V4(address)),
            IpAddr::V6(address) => {
                let network = u128::from(address) >> 64 << 64;
                Self(IpAddr::V6(Ipv6Addr::from(network)))
            }
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(address) => address.fmt(f),
            IpAddr::V6(network) => write!(f, "{network}/64"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> String {
        Source::of(text.parse().unwrap()).to_string()
    }

    #[test]
    fn an_address_is_a_source_and_so_is_a_network_of_64_bits() {
        assert_eq!(of("192.0.2.7:1"), "192.0.2.7");
        assert_eq!(of("[::ffff:192.0.2.7]:1"), "192.0.2.7");
        assert_eq!(of("[2001:db8:1:2:3:4:5:6]:1"), "2001:db8:1:2::/64");
        assert_eq!(of("[2001:db8:1:2:ffff::]:9"), of("[2001:db8:1:2::1]:1"));
    }
}
