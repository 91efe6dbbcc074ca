//! Leaves made of four small numbers.

use core::time::Duration;

use lifecycle::issuance::{Asked, NamesDigest};
use lifecycle::{Fingerprint, KeyId, Leaf, UnixTime};

use crate::scope::{LEAF_DAYS, Scope};

/// One certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Paper {
    /// Position among all that were signed; the enrollment got 0.
    pub serial: u8,
    /// Which key it certifies.
    pub key: u8,
    /// The enrollment epoch of the channel, or token, that asked for it.
    pub epoch: u8,
    /// Where its signer's clock stood; `u8::MAX` for the first one.
    pub signed_at: u8,
}

impl Paper {
    const FIRST: u8 = u8::MAX;

    /// What the router was enrolled with, on day 0.
    pub fn first() -> Self {
        Self { serial: 0, key: 1, epoch: 1, signed_at: Self::FIRST }
    }

    /// What the machines see of it.
    pub fn leaf(self, scope: &Scope) -> Leaf {
        let not_before =
            if self.signed_at == Self::FIRST { UnixTime::from_s(0) } else { scope.instant(self.signed_at) };
        let not_after = not_before.plus(Duration::from_secs(LEAF_DAYS * 86_400));
        let mut mark = [0; 32];
        mark[..4].copy_from_slice(&[self.serial, self.key, self.epoch, self.signed_at]);
        Leaf { fingerprint: Fingerprint(mark), key: key_id(self.key), not_before, not_after }
    }

    /// Which paper a leaf is.
    pub fn of(leaf: &Leaf) -> Self {
        let [serial, key, epoch, signed_at, ..] = leaf.fingerprint.0;
        Self { serial, key, epoch, signed_at }
    }

    /// Is it past NotAfter where the clock stands?
    pub fn is_expired(self, scope: &Scope, at: u8) -> bool {
        self.leaf(scope).is_expired(scope.instant(at))
    }
}

/// A key by its number.
pub(crate) fn key_id(key: u8) -> KeyId {
    let mut id = [0; 32];
    id[0] = key;
    KeyId(id)
}

/// What a 20302 with this key asks for.
pub(crate) fn asked(key: u8) -> Asked {
    Asked { client_key: key_id(key), server_key: key_id(key), names: NamesDigest([7; 32]) }
}
