//! The hello exchange: the first frame of every underlay and its answer.
//!
//! Both carry sequence -1. The dialer names itself in the body and says which group the underlay belongs to; the listener
//! answers with a `Result` frame or closes without a word. Groups: the first underlay says so and learns the group's id
//! and secret from the answer; every further underlay repeats both.
//!
//! Upstream: `openziti/channel:classic_dialer.go`, `openziti/channel:classic_listener.go`,
//! `openziti/channel:MULTI_UNDERLAY_PROTOCOL.md`, `openziti/channel:hello_reject.go`,
//! `openziti/ziti:controller/handler_ctrl/accept.go`, `openziti/ziti:router/env/ctrls.go`.

mod answer;
mod exuvia;

use std::fmt;

use bytes::Bytes;
use thiserror::Error;

pub use answer::{AcceptedHello, ClusterPlace, HelloAnswer, RefusalClass};
pub use exuvia::{ExuviaAbilities, RENEWAL_ADVICE, RenewalAdvice, RenewalWindow};

use crate::capability::Capabilities;
use crate::frame::{Frame, Headers, NO_SEQUENCE};
use crate::version::{VersionError, VersionInfo};
use crate::{content_type, header};

/// Underlay type of the first, and default, underlay of a control channel.
pub const CTRL_DEFAULT: &str = "ctrl.default";
/// Underlay type for urgent messages.
pub const CTRL_HIGH: &str = "ctrl.high";
/// Underlay type for long answers.
pub const CTRL_LOW: &str = "ctrl.low";
/// Underlay type of controllers among themselves.
pub const CTRL_MESH: &str = "ctrl.mesh";

/// Why a frame is no hello, or no answer to one.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum HelloError {
    /// The first frame is something else.
    #[error("the first frame has content type {found}; a hello has 0")]
    NotAHello {
        /// Its content type.
        found: i32,
    },
    /// The hello was answered with something else.
    #[error("the hello was answered with content type {found}; a result has 2")]
    NotAResult {
        /// Its content type.
        found: i32,
    },
    /// The result answers another request.
    #[error("the hello was answered with a reply to frame {reply_for}")]
    ReplyToAnother {
        /// The sequence it answers.
        reply_for: i32,
    },
    /// The body names nobody.
    #[error("the hello does not say who is calling")]
    NoId,
    /// A value that should be text is not UTF-8.
    #[error("the {what} is not UTF-8 text")]
    NotText {
        /// Which value.
        what: &'static str,
    },
    /// No header 4.
    #[error("the hello carries no version")]
    NoVersion,
    /// Header 4 is malformed.
    #[error("the peer's version cannot be read")]
    Version(#[from] VersionError),
}

/// What a dialer says first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Who calls: a router's id, which is also the common name of its client leaf.
    pub id: String,
    /// What it runs.
    pub version: VersionInfo,
    /// Its group; `None` for a channel of a single underlay, and always for routers before 2.0.
    pub group: Option<GroupHello>,
    /// What the underlay is for, such as [`CTRL_DEFAULT`].
    pub underlay_type: Option<String>,
    /// What it can do. A router must set [`crate::capability::router::MULTI_CHANNEL`].
    pub capabilities: Capabilities,
    /// Exuvia's own abilities; all absent from a stock peer.
    pub exuvia: ExuviaAbilities,
    /// Every other header.
    pub extra: Headers,
}

/// The part of a hello that joins an underlay to a group.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct GroupHello {
    /// This underlay makes a new group.
    pub is_first: bool,
    /// The group's id; absent on the very first dial, when the listener makes one.
    pub connection_id: Option<String>,
    /// The group's secret; absent on the very first dial.
    pub secret: Option<Bytes>,
}

/// Never shows the secret.
impl fmt::Debug for GroupHello {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupHello")
            .field("is_first", &self.is_first)
            .field("connection_id", &self.connection_id)
            .field("has_secret", &self.secret.is_some())
            .finish()
    }
}

impl GroupHello {
    /// The very first underlay of a new group.
    pub fn first() -> Self {
        Self { is_first: true, connection_id: None, secret: None }
    }

    /// A further underlay of the group that `answer` to the first one named; `None` if it named none.
    pub fn further(answer: &AcceptedHello) -> Option<Self> {
        let (id, secret) = (answer.connection_id.clone()?, answer.secret.clone()?);
        Some(Self { is_first: false, connection_id: Some(id), secret: Some(secret) })
    }
}

/// Whether a further underlay knows its group's secret. Takes the same time wherever they differ.
pub fn is_same_secret(ours: &[u8], theirs: &[u8]) -> bool {
    ours.len() == theirs.len() && ours.iter().zip(theirs).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
}

impl Hello {
    /// A hello of `id` without group, capabilities or anything else.
    pub fn new(id: impl Into<String>, version: VersionInfo) -> Self {
        Self {
            id: id.into(),
            version,
            group: None,
            underlay_type: None,
            capabilities: Capabilities::NONE,
            exuvia: ExuviaAbilities::default(),
            extra: Headers::new(),
        }
    }

    /// The hello as a frame. What the fields say wins over the same keys in `extra`.
    pub fn to_frame(&self) -> Frame {
        let mut frame = Frame::new(content_type::HELLO, self.id.clone());
        frame.sequence = NO_SEQUENCE;
        frame.headers = self.extra.clone();
        let headers = &mut frame.headers;
        headers.set_text(header::HELLO_VERSION, self.version.to_string());
        if let Some(kind) = &self.underlay_type {
            headers.set_text(header::TYPE, kind);
        }
        if let Some(group) = &self.group {
            headers.set_bool(header::IS_GROUPED, true);
            if group.is_first {
                headers.set_bool(header::IS_FIRST, true);
            }
            if let Some(id) = &group.connection_id {
                headers.set_text(header::CONNECTION_ID, id);
            }
            if let Some(secret) = &group.secret {
                headers.insert(header::GROUP_SECRET, secret.clone());
            }
        }
        if !self.capabilities.is_empty() {
            headers.insert(header::CAPABILITIES, self.capabilities.to_bytes());
        }
        self.exuvia.write(headers);
        frame
    }

    /// Reads a hello. Keys 0, 10 and 11 belong to the group only if header 9 says that there is one; otherwise they stay
    /// in `extra`, where routers before 2.0 keep other things under 10 and 11.
    ///
    /// # Errors
    /// Every [`HelloError`] but those of the answer.
    pub fn from_frame(frame: &Frame) -> Result<Self, HelloError> {
        if frame.content_type != content_type::HELLO {
            return Err(HelloError::NotAHello { found: frame.content_type });
        }
        let id = std::str::from_utf8(&frame.body).map_err(|_| HelloError::NotText { what: "caller's id" })?.to_owned();
        if id.is_empty() {
            return Err(HelloError::NoId);
        }
        let mut rest = frame.headers.detached();
        let version = rest.remove(header::HELLO_VERSION).ok_or(HelloError::NoVersion)?;
        let group = if take_bool(&mut rest, header::IS_GROUPED) {
            Some(GroupHello {
                is_first: take_bool(&mut rest, header::IS_FIRST),
                connection_id: take_text(&mut rest, header::CONNECTION_ID, "connection id")?,
                secret: rest.remove(header::GROUP_SECRET),
            })
        } else {
            None
        };
        Ok(Self {
            id,
            version: parse_version(&version)?,
            group,
            underlay_type: take_text(&mut rest, header::TYPE, "underlay type")?,
            capabilities: take_capabilities(&mut rest, header::CAPABILITIES),
            exuvia: ExuviaAbilities::take(&mut rest),
            extra: rest,
        })
    }
}

fn parse_version(value: &[u8]) -> Result<VersionInfo, HelloError> {
    let text = std::str::from_utf8(value).map_err(|_| HelloError::NotText { what: "version" })?;
    Ok(text.parse()?)
}

fn take_bool(headers: &mut Headers, key: i32) -> bool {
    headers.remove(key).is_some_and(|value| value.first() == Some(&1))
}

fn take_text(headers: &mut Headers, key: i32, what: &'static str) -> Result<Option<String>, HelloError> {
    let Some(value) = headers.remove(key) else { return Ok(None) };
    let text = std::str::from_utf8(&value).map_err(|_| HelloError::NotText { what })?;
    Ok(Some(text.to_owned()))
}

fn take_capabilities(headers: &mut Headers, key: i32) -> Capabilities {
    headers.remove(key).map_or(Capabilities::NONE, |mask| Capabilities::from_bytes(&mask))
}
