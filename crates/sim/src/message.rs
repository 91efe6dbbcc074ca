//! What travels between a router and a controller. Plain facts: bytes are the business of `wire`.

use lifecycle::issuance::{Asked, Window};
use lifecycle::{Fingerprint, Leaf};

/// A channel: a first connection and whatever joined it.
pub(crate) type ChannelId = u64;

/// One TLS connection.
pub(crate) type UnderlayId = u64;

#[derive(Clone, Debug)]
pub(crate) enum Message {
    /// The handshake and the hello, in one. `group` = the channel that it wants to join.
    Hello { underlay: UnderlayId, router: usize, leaf: Leaf, group: Option<ChannelId> },
    /// The Result with success.
    Welcome { underlay: UnderlayId, channel: ChannelId, window: Option<Window> },
    /// The connection was closed before a Result, or with a refusal.
    Refused { underlay: UnderlayId },
    /// One underlay of a channel was closed.
    UnderlayClosed { channel: ChannelId, underlay: UnderlayId },
    /// A channel was closed, or is not known any more.
    Closed { channel: ChannelId },
    /// 20302
    Extend { channel: ChannelId, asked: Asked },
    /// 20301
    Extended { client: Leaf, server: Leaf },
    /// 20303
    Verify { channel: ChannelId, fingerprint: Fingerprint },
    /// 20002
    Verified { fingerprint: Fingerprint, is_success: bool },
}

/// The kind of a message, for scripts that lose, double or delay one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Handshake and hello.
    Hello,
    /// The Result with success.
    Welcome,
    /// A closed connection or channel.
    Closed,
    /// 20302
    Extend,
    /// 20301
    Extended,
    /// 20303
    Verify,
    /// 20002
    Verified,
}

impl Message {
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Hello { .. } => Kind::Hello,
            Self::Welcome { .. } => Kind::Welcome,
            Self::Refused { .. } | Self::UnderlayClosed { .. } | Self::Closed { .. } => Kind::Closed,
            Self::Extend { .. } => Kind::Extend,
            Self::Extended { .. } => Kind::Extended,
            Self::Verify { .. } => Kind::Verify,
            Self::Verified { .. } => Kind::Verified,
        }
    }
}
