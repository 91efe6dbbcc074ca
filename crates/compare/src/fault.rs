//! What a fault is, as data. The list is in [`crate::faults`].

use std::time::Duration;

use diskfault::trace::Errno;
use netfault::proxy::{Action, ByteRule, Level, Message, Rule};

use crate::pairing::Pairing;
use crate::place;
use crate::trial::Scene;

/// What kind of fault, for the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Group {
    /// The router's process dies or stands still.
    Router,
    /// The controller's does.
    Controller,
    /// Messages and connections.
    Network,
    /// The disk refuses.
    Disk,
    /// The disk loses power.
    Power,
    /// Clocks.
    Clock,
    /// What operators do meanwhile.
    Operator,
}

impl Group {
    /// In the order of the page.
    pub(crate) const ALL: [Self; 7] =
        [Self::Router, Self::Controller, Self::Network, Self::Disk, Self::Power, Self::Clock, Self::Operator];

    /// For the page.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Router => "The router is killed",
            Self::Controller => "The controller is killed, stands still, or forgets",
            Self::Network => "Messages and connections",
            Self::Disk => "The disk refuses",
            Self::Power => "The power fails",
            Self::Clock => "Clocks",
            Self::Operator => "An operator acts meanwhile",
        }
    }
}

/// Which of the changes that a start with a renewal makes to the folder of the identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Position {
    /// The first one.
    First,
    /// So many hundredths of them lie at or before it.
    Percent(usize),
    /// The last one.
    Last,
}

impl Position {
    /// Its number, from 1, where there are `count` of them.
    pub(crate) fn of(self, count: usize) -> usize {
        match self {
            Self::First => 1,
            Self::Percent(share) => (count * share).div_ceil(100).max(1),
            Self::Last => count.max(1),
        }
    }
}

/// What our own tracer does to the router at a change of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Traced {
    /// kill -9 right before it.
    Kill,
    /// This change and all later ones are answered with this.
    Fail(Errno),
}

/// When something is done.
#[derive(Clone, Copy, Debug)]
pub(crate) enum When {
    /// Before the router is started.
    Start,
    /// When a rule for messages has struck.
    Struck,
    /// When a new leaf lies on the disk, and so long after.
    Written(Duration),
    /// At this change of a file.
    Change(Position, Traced),
}

/// What is done then.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Act {
    /// What the rules or the tracer do is all.
    Nothing,
    /// kill -9, after so long.
    KillRouter(Duration),
    /// SIGTERM.
    TerminateRouter,
    /// It stands still, as long as the fault lasts.
    FreezeRouter,
    /// kill -9; it is started again at the end of the fault.
    KillController,
    /// It stands still, as long as the fault lasts.
    FreezeController,
    /// No byte fits any more.
    Fill,
    /// No file fits any more.
    FillInodes,
    /// The mount is read-only.
    ReadOnly,
    /// The files of the identity are immutable.
    Immutable,
    /// The power fails.
    PowerCut,
    /// The router's wall clock is so many seconds ahead from now on.
    MoveClock(i64),
    /// Something of its own, which also starts the router.
    Story(fn(&mut Scene) -> anyhow::Result<()>),
}

/// What must come about for a router to have recovered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Goal {
    /// A leaf that was not there at the beginning is admitted and on the disk, the router is online, and a restart is admitted.
    Renewed,
    /// The router is online, and a restart is admitted.
    Online,
}

/// One fault.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    /// Short name, for the command line and for files.
    pub(crate) id: &'static str,
    /// Its kind.
    pub(crate) group: Group,
    /// In words.
    pub(crate) what: &'static str,
    /// How it is done.
    pub(crate) how: &'static str,
    /// Where the identity lies.
    pub(crate) place: place::Kind,
    /// What happens to messages, from before the first start.
    pub(crate) rules: Vec<Rule>,
    /// What happens to bytes, from before the first start; then messages are not looked at.
    pub(crate) bytes: ByteRule,
    /// When.
    pub(crate) when: When,
    /// What.
    pub(crate) act: Act,
    /// How long until it is over.
    pub(crate) lasts: Duration,
    /// Does it need a controller for itself?
    pub(crate) is_alone: bool,
    /// Is a renewal due from the beginning?
    pub(crate) is_due: bool,
    /// With which flags the router is started.
    pub(crate) flags: &'static [&'static str],
    /// What must come about.
    pub(crate) goal: Goal,
    /// Which pairings it makes no sense for, and why not.
    pub(crate) left_out: fn(Pairing) -> Option<&'static str>,
}

impl Fault {
    /// A fault that does nothing yet.
    pub(crate) fn new(group: Group, id: &'static str, what: &'static str, how: &'static str) -> Self {
        Self {
            id,
            group,
            what,
            how,
            place: place::Kind::Folder,
            rules: Vec::new(),
            bytes: ByteRule::Pass,
            when: When::Struck,
            act: Act::Nothing,
            lasts: Duration::ZERO,
            is_alone: false,
            is_due: true,
            flags: &[],
            goal: Goal::Renewed,
            left_out: |_| None,
        }
    }

    /// This happens to the next message of this kind.
    pub(crate) fn on(mut self, message: Message, action: Action) -> Self {
        self.rules.push(Rule::once(message, action));
        self
    }

    /// This happens to every message of this kind, but for the first so many.
    pub(crate) fn always(mut self, message: Message, action: Action, after: u32) -> Self {
        self.rules.push(Rule { message, action, after, times: u32::MAX });
        self
    }

    /// What is done when it strikes.
    pub(crate) fn then(mut self, act: Act) -> Self {
        self.act = act;
        self
    }

    /// When it strikes, if not by a message.
    pub(crate) fn when(mut self, when: When) -> Self {
        self.when = when;
        self
    }

    /// How long it lasts.
    pub(crate) fn lasting(mut self, seconds: u64) -> Self {
        self.lasts = Duration::from_secs(seconds);
        self
    }

    /// Where the identity lies.
    pub(crate) fn at(mut self, place: place::Kind) -> Self {
        self.place = place;
        self
    }

    /// With a controller for itself.
    pub(crate) fn alone(mut self) -> Self {
        self.is_alone = true;
        self
    }

    /// What the proxy looks at.
    pub(crate) fn level(&self) -> Level {
        if self.bytes == ByteRule::Pass { Level::Messages } else { Level::Bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_lie_within_the_changes() {
        let all =
            [Position::First, Position::Percent(25), Position::Percent(50), Position::Percent(75), Position::Last];
        let of = |count| all.map(|position| position.of(count));
        assert_eq!(of(4), [1, 1, 2, 3, 4]);
        assert_eq!(of(60), [1, 15, 30, 45, 60]);
        assert_eq!(of(0), [1, 1, 1, 1, 1]);
    }
}
