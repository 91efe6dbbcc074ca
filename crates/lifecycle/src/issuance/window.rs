//! When the controller would like a router to renew: advice that may move a renewal earlier, never later.

use core::time::Duration;

use crate::facts::{Leaf, Now, UnixTime};

/// A stretch of time in which a renewal would be welcome. A router picks its own instant in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Window {
    /// First welcome instant.
    pub from: UnixTime,
    /// Last welcome instant.
    pub to: UnixTime,
}

/// A re-key of the whole fleet that an operator ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Campaign {
    /// When it was ordered: leaves issued before this are to be replaced.
    pub ordered_at: UnixTime,
    /// When the last router should have renewed. `ordered_at` itself means: all at once.
    pub until: UnixTime,
}

/// What the advice depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WindowFacts {
    /// The leaf that was just admitted.
    pub leaf: Leaf,
    /// When that leaf was issued.
    pub issued_at: UnixTime,
    /// The re-key in force, if any.
    pub campaign: Option<Campaign>,
    /// How long this controller was out of reach before, when it has just come back; zero otherwise.
    pub outage: Duration,
}

/// The window to send with an admission, if any.
///
/// A campaign asks for everything issued before it. After an outage, routers that fall due within the next tenth of their
/// leaf's life are spread over the time until then, instead of all arriving when the jitter of a synchronous fleet ends.
pub fn advise(now: Now, facts: &WindowFacts) -> Option<Window> {
    if let Some(campaign) = facts.campaign
        && facts.issued_at < campaign.ordered_at
    {
        return Some(Window { from: campaign.ordered_at, to: campaign.until.max(campaign.ordered_at) });
    }
    let life = facts.leaf.life();
    let due = facts.leaf.not_before.plus(life * 2 / 3);
    let soon = now.wall.plus(life / 10);
    let was_out = facts.outage > life / 20;
    (was_out && now.wall < due && due < soon).then_some(Window { from: now.wall, to: due })
}
