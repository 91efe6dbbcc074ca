//! What a message is, and what may happen to it.

use std::fmt;
use std::time::Duration;

use lifecycle::RouterId;
use pki::{Chain, Issuer, KeyKind, PrivateKey, Profile, Sans, Subject, validity};
use wire::extension::{CertsResponse, ErrorAnswer, error_code};
use wire::hello::{AcceptedHello, HelloAnswer, RENEWAL_ADVICE, RefusalClass};
use wire::outcome::Outcome;
use wire::{Frame, content_type, header};

/// Which way a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Way {
    /// From the router.
    ToController,
    /// From the controller.
    ToRouter,
}

impl Way {
    /// The other one.
    pub fn back(self) -> Self {
        match self {
            Self::ToController => Self::ToRouter,
            Self::ToRouter => Self::ToController,
        }
    }
}

/// The messages of a renewal, and of the channel that carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Message {
    /// The hello that opens a channel.
    Hello,
    /// Its Result.
    HelloResult,
    /// The hello of a further underlay: the proof of a new leaf.
    ProofHello,
    /// Its Result: the new leaf is admitted.
    ProofResult,
    /// 1035, the router's links.
    Links,
    /// 1037, where controllers are.
    Addresses,
    /// 20000.
    ServerHello,
    /// 20001.
    ClientHello,
    /// The controller's advice when to renew.
    Advice,
    /// 20302.
    Request,
    /// 20301.
    Certs,
    /// 20303.
    Verify,
    /// 20002.
    Confirmation,
    /// A frame that exists only for its heartbeat, from the router.
    HeartbeatUp,
    /// The same from the controller.
    HeartbeatDown,
    /// Anything else, by its content type.
    Other(i32),
}

impl Message {
    /// Every kind that this crate knows by name.
    pub const ALL: [Self; 15] = [
        Self::Hello,
        Self::HelloResult,
        Self::ProofHello,
        Self::ProofResult,
        Self::Links,
        Self::Addresses,
        Self::ServerHello,
        Self::ClientHello,
        Self::Advice,
        Self::Request,
        Self::Certs,
        Self::Verify,
        Self::Confirmation,
        Self::HeartbeatUp,
        Self::HeartbeatDown,
    ];

    /// Which way it goes; `None` for [`Message::Other`].
    pub fn way(self) -> Option<Way> {
        match self {
            Self::Hello
            | Self::ProofHello
            | Self::Links
            | Self::ClientHello
            | Self::Request
            | Self::Verify
            | Self::HeartbeatUp => Some(Way::ToController),
            Self::HelloResult
            | Self::ProofResult
            | Self::Addresses
            | Self::ServerHello
            | Self::Advice
            | Self::Certs
            | Self::Confirmation
            | Self::HeartbeatDown => Some(Way::ToRouter),
            Self::Other(_) => None,
        }
    }

    /// Is it only there while a channel opens?
    pub fn opens_a_channel(self) -> bool {
        matches!(
            self,
            Self::Hello | Self::HelloResult | Self::Links | Self::Addresses | Self::ServerHello | Self::ClientHello
        )
    }

    /// What a frame behind the hello exchange is.
    pub fn of(way: Way, frame: &Frame) -> Self {
        match (way, frame.content_type) {
            (Way::ToController, content_type::ROUTER_LINKS) => Self::Links,
            (Way::ToRouter, content_type::UPDATE_CTRL_ADDRESSES) => Self::Addresses,
            (Way::ToRouter, content_type::SERVER_HELLO) => Self::ServerHello,
            (Way::ToController, content_type::CLIENT_HELLO) => Self::ClientHello,
            (Way::ToRouter, RENEWAL_ADVICE) => Self::Advice,
            (Way::ToController, content_type::EXTENSION_REQUEST) => Self::Request,
            (Way::ToRouter, content_type::ENROLLMENT_CERTS) => Self::Certs,
            (Way::ToController, content_type::EXTENSION_VERIFY) => Self::Verify,
            (Way::ToRouter, content_type::ERROR) => Self::Confirmation,
            (Way::ToController, content_type::HEARTBEAT) => Self::HeartbeatUp,
            (Way::ToRouter, content_type::HEARTBEAT) => Self::HeartbeatDown,
            (_, other) => Self::Other(other),
        }
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hello => "hello",
            Self::HelloResult => "Result",
            Self::ProofHello => "hello of the proof",
            Self::ProofResult => "Result of the proof",
            Self::Links => "links",
            Self::Addresses => "addresses",
            Self::ServerHello => "server hello",
            Self::ClientHello => "client hello",
            Self::Advice => "advice",
            Self::Request => "20302",
            Self::Certs => "20301",
            Self::Verify => "20303",
            Self::Confirmation => "20002",
            Self::HeartbeatUp => "router's heartbeat",
            Self::HeartbeatDown => "controller's heartbeat",
            Self::Other(number) => return write!(f, "message {number}"),
        })
    }
}

/// What happens to a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// It is lost.
    Drop,
    /// It waits, and so does everything behind it.
    Delay(Duration),
    /// It alone waits; what comes later overtakes it.
    Late(Duration),
    /// It arrives twice.
    Duplicate,
    /// It arrives behind the next message of its direction, or when none has come for this long.
    SwapWithNext(Duration),
    /// A byte of it is another one.
    Garble,
    /// It is not passed on; this comes in its place, or in the place of its answer.
    Forge(Forgery),
    /// The connection is closed instead.
    CloseBefore,
    /// It arrives, and the connection is closed.
    CloseAfter,
    /// The connection is reset instead.
    ResetBefore,
    /// It arrives, and the connection is reset.
    ResetAfter,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Drop => f.write_str("lost"),
            Self::Delay(by) => write!(f, "delayed by {} ms", by.as_millis()),
            Self::Late(by) => write!(f, "overtaken for {} ms", by.as_millis()),
            Self::Duplicate => f.write_str("doubled"),
            Self::SwapWithNext(_) => f.write_str("swapped with the next"),
            Self::Garble => f.write_str("garbled"),
            Self::Forge(forgery) => write!(f, "forged: {forgery}"),
            Self::CloseBefore => f.write_str("closed before"),
            Self::CloseAfter => f.write_str("closed after"),
            Self::ResetBefore => f.write_str("reset before"),
            Self::ResetAfter => f.write_str("reset after"),
        }
    }
}

/// What is said in the peer's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Forgery {
    /// 20002 that says yes.
    Yes,
    /// 20002 with an error that a stock controller gives although it may have committed.
    VerifyError,
    /// 20002 with the error for a leaf that is not pending.
    InvalidState,
    /// A negative Result.
    No,
    /// 20301 with leaves of this router's name for somebody else's key.
    CertsOfAnotherKey,
    /// 20301 without certificates.
    NoCerts,
    /// The hello is refused for good.
    NotPermitted,
    /// The hello is refused for now.
    Busy,
    /// The hello is accepted by nobody: what follows goes nowhere.
    Admitted,
}

impl Forgery {
    /// Those that make sense in the place of this message, or of its answer.
    pub fn for_message(message: Message) -> &'static [Self] {
        match message {
            Message::Hello | Message::ProofHello | Message::HelloResult | Message::ProofResult => {
                &[Self::NotPermitted, Self::Busy, Self::Admitted]
            }
            Message::Request => &[Self::InvalidState, Self::CertsOfAnotherKey, Self::NoCerts],
            Message::Certs => &[Self::CertsOfAnotherKey, Self::NoCerts, Self::InvalidState],
            Message::Verify | Message::Confirmation => &[Self::Yes, Self::VerifyError, Self::InvalidState, Self::No],
            Message::Links
            | Message::Addresses
            | Message::ServerHello
            | Message::ClientHello
            | Message::Advice
            | Message::HeartbeatUp
            | Message::HeartbeatDown
            | Message::Other(_) => &[],
        }
    }

    /// The frame that comes in the place of `original`, or of the answer to it; `router` is who is spoken to.
    pub(super) fn frame(self, way: Way, original: &Frame, router: &str, issuer: &Issuer) -> Option<Frame> {
        let mut frame = match self {
            Self::Yes => ErrorAnswer::success().to_frame(),
            Self::VerifyError => ErrorAnswer::failure(error_code::VERIFY_ERROR, "forged").to_frame(),
            Self::InvalidState => ErrorAnswer::failure(error_code::INVALID_ROUTER_STATE, "forged").to_frame(),
            Self::No => Outcome::failure("forged").to_reply(original),
            Self::CertsOfAnotherKey => foreign(router, issuer)?.to_frame(),
            Self::NoCerts => CertsResponse::default().to_frame(),
            Self::NotPermitted => refusal(RefusalClass::NotPermitted),
            Self::Busy => refusal(RefusalClass::Busy),
            Self::Admitted => HelloAnswer::Accepted(Box::new(AcceptedHello {
                connection_id: Some("forged".to_owned()),
                secret: Some(bytes::Bytes::from_static(b"forged")),
                id: Some("forged".to_owned()),
                capabilities: wire::capability::Capabilities::CONTROLLER,
                underlay_type: Some(wire::hello::CTRL_DEFAULT.to_owned()),
                is_grouped: true,
                ..AcceptedHello::default()
            }))
            .to_frame(),
        };
        match self {
            Self::Yes | Self::VerifyError | Self::InvalidState | Self::No => match way {
                Way::ToController => frame.set_reply_for(original.sequence),
                // In an answer's place: it answers what that one answered.
                Way::ToRouter => match original.headers.get(header::REPLY_FOR) {
                    Some(sequence) => frame.headers.insert(header::REPLY_FOR, sequence.clone()),
                    None => {
                        frame.headers.remove(header::REPLY_FOR);
                    }
                },
            },
            Self::CertsOfAnotherKey | Self::NoCerts | Self::NotPermitted | Self::Busy | Self::Admitted => {}
        }
        Some(frame)
    }
}

fn refusal(class: RefusalClass) -> Frame {
    HelloAnswer::Refused { text: "forged".to_owned(), class }.to_frame()
}

fn foreign(router: &str, issuer: &Issuer) -> Option<CertsResponse> {
    let key = PrivateKey::generate(KeyKind::P256).ok()?;
    let now = lifecycle::UnixTime::from_ms(net::clock::wall_ms());
    let life = validity(now, Duration::from_secs(86_400), issuer.not_after()).ok()?;
    let subject = Subject::common_name(RouterId::new(router).as_str()).ok()?;
    let issue = |profile| issuer.issue_for(key.public(), &subject, &Sans::default(), profile, &life).ok();
    let (client, server): (Chain, Chain) = (issue(Profile::Client)?, issue(Profile::Server)?);
    Some(CertsResponse { client_chain_pem: client.to_pem(), server_chain_pem: server.to_pem(), ca_pem: String::new() })
}

impl fmt::Display for Forgery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Yes => "a yes",
            Self::VerifyError => "VERIFY_ERROR",
            Self::InvalidState => "INVALID_ROUTER_STATE",
            Self::No => "a negative Result",
            Self::CertsOfAnotherKey => "certificates for another key",
            Self::NoCerts => "no certificates",
            Self::NotPermitted => "not permitted",
            Self::Busy => "busy",
            Self::Admitted => "an admission by nobody",
        })
    }
}

/// This happens to that message, so often.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    /// Which message.
    pub message: Message,
    /// What happens.
    pub action: Action,
    /// How many of them pass before.
    pub after: u32,
    /// To how many of them it happens, one after another.
    pub times: u32,
}

impl Rule {
    /// To the next one.
    pub fn once(message: Message, action: Action) -> Self {
        Self { message, action, after: 0, times: 1 }
    }
}

/// Something happens to every message now and then, as a seed says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mixture {
    /// Where every choice comes from.
    pub seed: u64,
    /// To how many messages in a thousand.
    pub permille: u16,
}

impl Mixture {
    /// What happens to the `number`-th message.
    pub(super) fn choose(self, number: u64, message: Message) -> Option<Action> {
        let drawn = mix(self.seed ^ mix(number));
        if drawn % 1000 >= u64::from(self.permille) {
            return None;
        }
        let short = Duration::from_millis(20 + (drawn >> 12) % 400);
        let forgeries = Forgery::for_message(message);
        Some(match (drawn >> 32) % 11 {
            0 | 1 => Action::Drop,
            2 => Action::Delay(short),
            3 => Action::Late(short),
            4 => Action::Duplicate,
            5 => Action::SwapWithNext(short),
            6 => Action::CloseBefore,
            7 => Action::CloseAfter,
            8 => Action::ResetBefore,
            9 => Action::ResetAfter,
            _ => match forgeries.get(usize::try_from(drawn >> 40).unwrap_or(0) % forgeries.len().max(1)) {
                Some(forgery) => Action::Forge(*forgery),
                None => Action::Garble,
            },
        })
    }
}

/// The finalizer of SplitMix64.
pub(crate) fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
