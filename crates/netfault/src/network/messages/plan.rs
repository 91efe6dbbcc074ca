//! Which scenarios there are.

use std::fmt;
use std::time::Duration;

use crate::proxy::{Action, ByteRule, Forgery, Level, Message, Mixture, Rule, Way};

/// Longer than a router waits for an answer here: 1 s.
const TOO_LATE: Duration = Duration::from_millis(1_300);
/// Long enough that something else overtakes it.
const SWAP: Duration = Duration::from_millis(1_500);

/// What strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Strike {
    /// One message, or a few of a kind.
    Message(Rule),
    /// Bytes, on the channel that is there, or on a new one.
    Bytes {
        /// What happens to them.
        rule: ByteRule,
        /// On a connection that begins under the rule.
        on_a_new_connection: bool,
    },
    /// Now and then something, for a while.
    Mixture(Mixture),
}

/// One fault in the life of one router.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Scenario {
    /// What happens.
    pub strike: Strike,
    /// Is the router killed when it has happened?
    pub is_killed: bool,
}

impl Scenario {
    pub(super) fn level(&self) -> Level {
        match self.strike {
            Strike::Message(_) | Strike::Mixture(_) => Level::Messages,
            Strike::Bytes { .. } => Level::Bytes,
        }
    }

    pub(super) fn kind(&self) -> &'static str {
        match self.strike {
            Strike::Message(_) => "messages × actions",
            Strike::Bytes { .. } => "byte-level faults",
            Strike::Mixture(_) => "seeded mixtures",
        }
    }

    /// The rows of the crash matrix that it belongs to.
    pub(super) fn faults(&self) -> Vec<&'static str> {
        match self.strike {
            Strike::Message(rule) => faults_of(rule),
            Strike::Bytes { .. } => vec!["TCP cut, held, lost or slow"],
            Strike::Mixture(_) => vec!["mixture of message faults"],
        }
    }
}

/// The rows of the crash matrix that a message and an action belong to.
pub(super) fn faults_of(Rule { message, action, .. }: Rule) -> Vec<&'static str> {
    let one = match action {
        Action::Drop => match message {
            Message::Request => "lost 20302",
            Message::Certs => "lost 20301",
            Message::Verify => "lost 20303",
            Message::Confirmation => "lost 20002",
            _ => "another message lost",
        },
        Action::Delay(_) | Action::Late(_) | Action::SwapWithNext(_) => "late or overtaken message",
        Action::Duplicate => "doubled message",
        Action::Garble | Action::Forge(_) => "forged message or answer",
        Action::CloseBefore | Action::CloseAfter | Action::ResetBefore | Action::ResetAfter => {
            "connection cut around a message"
        }
    };
    vec!["any message, any action", one]
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.strike {
            Strike::Message(Rule { message, action, after, times }) => {
                write!(f, "{message} {action}")?;
                if after > 0 {
                    write!(f, ", the one after {after}")?;
                }
                if times > 1 {
                    write!(f, ", {times} times")?;
                }
            }
            Strike::Bytes { rule, on_a_new_connection } => {
                write!(f, "{rule}, {}", if on_a_new_connection { "on a new connection" } else { "on the channel" })?;
            }
            Strike::Mixture(mixture) => {
                write!(f, "mixture {:#x} at {} in a thousand", mixture.seed, mixture.permille)?;
            }
        }
        f.write_str(if self.is_killed { "; then killed" } else { "" })
    }
}

/// Everything that may happen to a message.
pub(super) fn actions(message: Message) -> Vec<Action> {
    let mut actions = vec![
        Action::Drop,
        Action::Delay(TOO_LATE),
        Action::Late(TOO_LATE),
        Action::Duplicate,
        Action::SwapWithNext(SWAP),
        Action::Garble,
        Action::CloseBefore,
        Action::CloseAfter,
        Action::ResetBefore,
        Action::ResetAfter,
    ];
    actions.extend(Forgery::for_message(message).iter().map(|forgery| Action::Forge(*forgery)));
    actions
}

fn times(message: Message) -> u32 {
    match message {
        // One of them is missed by nobody.
        Message::HeartbeatUp | Message::HeartbeatDown => 4,
        _ => 1,
    }
}

fn product(messages: &[(Message, u32)]) -> Vec<Scenario> {
    let mut all = Vec::new();
    for (message, after) in messages.iter().copied() {
        for action in actions(message) {
            for is_killed in [false, true] {
                let rule = Rule { message, action, after, times: times(message) };
                all.push(Scenario { strike: Strike::Message(rule), is_killed });
            }
        }
    }
    all
}

/// Every message between our router and our controller, times every action, living on and killed.
pub(super) fn every_message() -> Vec<Scenario> {
    product(&Message::ALL.map(|message| (message, 0)))
}

/// The messages that the model of OpenZiti's controller knows. Our router attaches a further underlay twice there: once with the old
/// leaf, because that is whom a stock controller answers, and once with the new one.
pub(super) fn every_message_of_stock() -> Vec<Scenario> {
    product(&[
        (Message::ProofHello, 0),
        (Message::ProofResult, 0),
        (Message::Request, 0),
        (Message::Certs, 0),
        (Message::Verify, 0),
        (Message::Confirmation, 0),
        (Message::ProofHello, 1),
        (Message::ProofResult, 1),
    ])
}

/// Every fault of bytes.
pub(super) fn every_byte() -> Vec<Scenario> {
    let ms = Duration::from_millis;
    let ways = [None, Some(Way::ToController), Some(Way::ToRouter)];
    let mut rules: Vec<ByteRule> = Vec::new();
    rules.extend(ways.map(ByteRule::Hold));
    rules.extend(ways.map(ByteRule::Lose));
    rules.extend([ByteRule::Delay(ms(150)), ByteRule::Refuse]);
    for way in [Way::ToController, Way::ToRouter] {
        // From within the TLS record header to behind the whole exchange.
        for bytes in [1, 5, 180, 517, 900, 1_400, 2_200, 3_000, 4_500] {
            rules.push(ByteRule::ResetAfter(way, bytes));
        }
        rules.extend([0, 517, 1_400, 3_000].map(|bytes| ByteRule::CloseAfter(way, bytes)));
        rules.extend([1, 900, 2_200].map(|bytes| ByteRule::HalfCloseAfter(way, bytes)));
        rules.extend([ByteRule::Trickle(way, 7, ms(4)), ByteRule::Trickle(way, 256, ms(120))]);
    }
    let mut all = Vec::new();
    for rule in rules {
        for on_a_new_connection in [false, true] {
            all.push(Scenario { strike: Strike::Bytes { rule, on_a_new_connection }, is_killed: false });
        }
    }
    all
}

/// So many mixtures.
pub(super) fn mixtures(seed: u64, count: u64) -> Vec<Scenario> {
    (0..count)
        .map(|number| {
            let permille = if number % 2 == 0 { 80 } else { 250 };
            let mixture = Mixture { seed: seed.wrapping_add(number), permille };
            Scenario { strike: Strike::Mixture(mixture), is_killed: number % 4 > 1 }
        })
        .collect()
}
