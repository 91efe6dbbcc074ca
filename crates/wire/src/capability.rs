//! Capability masks: bit *i* set means "can do *i*". Which bit means what depends on who says it.
//!
//! On the wire a mask is a big-endian unsigned integer without leading zero bytes. Upstream:
//! `openziti/ziti:common/capabilities/consts.go`, `openziti/ziti:common/capabilities/mask.go`.

use std::fmt;

use bytes::Bytes;

/// What a controller's bits mean.
pub mod controller {
    /// Takes `CreateTerminatorV2`.
    pub const CREATE_TERMINATOR_V2: u8 = 1;
    /// One router is the source of truth for a link.
    pub const SINGLE_ROUTER_LINK_SOURCE: u8 = 2;
    /// Takes `CreateCircuitV2`.
    pub const CREATE_CIRCUIT_V2: u8 = 3;
    /// Serves the router data model.
    pub const ROUTER_DATA_MODEL: u8 = 4;
    /// Further underlays can be attached to a control channel.
    pub const GROUPED_CTRL_CHAN: u8 = 5;
    /// Legacy sessions are JWTs. Routers from 2.0 on refuse a controller without it.
    pub const JWT_LEGACY_SESSIONS: u8 = 6;
}

/// What a router's bits mean.
pub mod router {
    /// Grouped control channel, and hello headers under their new numbers. Without it a controller takes header 10, the
    /// group secret, for a list of listeners.
    pub const MULTI_CHANNEL: u8 = 1;
    /// Takes `ConnectV2`.
    pub const CONNECT_V2: u8 = 2;
    /// Serves service subscriptions.
    pub const SERVICE_SUBSCRIPTIONS: u8 = 4;
    /// Evaluates posture checks.
    pub const POSTURE_CHECKS: u8 = 5;
    /// Notifies of successful binds.
    pub const BIND_SUCCESS: u8 = 6;
    /// Consumes the router data model (upstream's capability -2).
    pub const ROUTER_DATA_MODEL: u8 = 62;
}

/// A set of capabilities.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Capabilities(u128);

impl Capabilities {
    /// None at all; on the wire, no header.
    pub const NONE: Self = Self(0);
    /// What a stock controller announces: bits 1 to 6, `7e`.
    pub const CONTROLLER: Self = Self(0x7e);
    /// What a router that serves no edge announces: bit 1, `02`.
    pub const ROUTER: Self = Self(0x02);

    /// These and the one of `bit`; bits above 127 cannot be announced and are ignored.
    #[must_use]
    pub const fn with(self, bit: u8) -> Self {
        if bit < 128 { Self(self.0 | 1 << bit) } else { self }
    }

    /// Whether `bit` is set.
    pub const fn has(self, bit: u8) -> bool {
        bit < 128 && self.0 >> bit & 1 == 1
    }

    /// Whether no bit is set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The mask as a number.
    pub const fn bits(self) -> u128 {
        self.0
    }

    /// The set that `bits` names.
    pub const fn from_bits(bits: u128) -> Self {
        Self(bits)
    }

    /// Reads a mask. Of one longer than 16 bytes the low 128 bits count.
    pub fn from_bytes(mask: &[u8]) -> Self {
        Self(mask.iter().fold(0, |bits, byte| bits << 8 | u128::from(*byte)))
    }

    /// Writes the mask, big endian, as few bytes as possible: none for the empty set.
    pub fn to_bytes(self) -> Bytes {
        let all = self.0.to_be_bytes();
        let leading = (self.0.leading_zeros() / 8) as usize;
        Bytes::copy_from_slice(all.get(leading..).unwrap_or_default())
    }
}

impl fmt::Debug for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Capabilities({:#x})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_are_big_endian_and_minimal() {
        assert_eq!(Capabilities::CONTROLLER.to_bytes(), [0x7e].as_slice());
        let go_router =
            [1, 2, 4, 5, 6, router::ROUTER_DATA_MODEL].into_iter().fold(Capabilities::NONE, Capabilities::with);
        assert_eq!(go_router.to_bytes(), [0x40, 0, 0, 0, 0, 0, 0, 0x76].as_slice());
        assert_eq!(Capabilities::from_bytes(&go_router.to_bytes()), go_router);
        assert!(Capabilities::NONE.to_bytes().is_empty());
        assert_eq!(Capabilities::from_bytes(&[0, 0, 2]), Capabilities::ROUTER);
    }

    #[test]
    fn a_mask_of_any_length_is_read_and_bits_out_of_range_are_not_set() {
        let long = [vec![0xff; 40], vec![0; 16]].concat();
        assert_eq!(Capabilities::from_bytes(&long), Capabilities::NONE);
        assert!(!Capabilities::from_bits(u128::MAX).has(128));
        assert!(Capabilities::from_bits(u128::MAX).has(127));
        assert_eq!(Capabilities::NONE.with(200), Capabilities::NONE);
    }
}
