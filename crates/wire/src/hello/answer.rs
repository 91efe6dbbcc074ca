//! The listener's answer to a hello.

use std::fmt;

use bytes::Bytes;

use super::exuvia::ExuviaAbilities;
use super::{HelloError, parse_version, take_bool, take_capabilities, take_text};
use crate::capability::{self, Capabilities};
use crate::frame::{Frame, Headers, NO_SEQUENCE};
use crate::version::VersionInfo;
use crate::{content_type, header};

/// What a listener answers, if it answers at all: upstream closes without a word when admission fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HelloAnswer {
    /// The underlay is open. May still be closed right after: upstream answers before it binds.
    Accepted(Box<AcceptedHello>),
    /// Final for this dial.
    Refused {
        /// For people.
        text: String,
        /// For machines.
        class: RefusalClass,
    },
}

/// Header 13 of a refusal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RefusalClass {
    /// No reason given.
    #[default]
    Unspecified,
    /// Try again later.
    Busy,
    /// Not allowed.
    NotPermitted,
    /// A class that this crate does not know.
    Other(u32),
}

impl From<u32> for RefusalClass {
    fn from(class: u32) -> Self {
        match class {
            0 => Self::Unspecified,
            1 => Self::Busy,
            2 => Self::NotPermitted,
            other => Self::Other(other),
        }
    }
}

impl From<RefusalClass> for u32 {
    fn from(class: RefusalClass) -> Self {
        match class {
            RefusalClass::Unspecified => 0,
            RefusalClass::Busy => 1,
            RefusalClass::NotPermitted => 2,
            RefusalClass::Other(other) => other,
        }
    }
}

/// What an accepting listener says.
///
/// A stock router needs `connection_id`, `secret`, `version` and capability bit 6.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct AcceptedHello {
    /// Id of the channel, or of the group.
    pub connection_id: Option<String>,
    /// Secret that further underlays must repeat; not empty.
    pub secret: Option<Bytes>,
    /// Who answers: a controller's id. If absent, the common name of its server leaf.
    pub id: Option<String>,
    /// What it runs.
    pub version: Option<VersionInfo>,
    /// What it can do.
    pub capabilities: Capabilities,
    /// Whether the mask is repeated in header 12, where routers before 2.0 look for it.
    pub has_legacy_mask: bool,
    /// Echo of the underlay type.
    pub underlay_type: Option<String>,
    /// Echo: the listener treats the underlay as part of a group.
    pub is_grouped: bool,
    /// Where a clustered controller stands.
    pub cluster: Option<ClusterPlace>,
    /// Exuvia's own abilities; all absent from a stock peer.
    pub exuvia: ExuviaAbilities,
    /// Every other header.
    pub extra: Headers,
}

/// What a clustered controller adds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterPlace {
    /// Its address among controllers.
    pub peer_address: String,
    /// The cluster's id.
    pub cluster_id: Option<String>,
    /// Whether it would rather lead.
    pub is_preferred_leader: bool,
}

/// Never shows the secret.
impl fmt::Debug for AcceptedHello {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AcceptedHello")
            .field("connection_id", &self.connection_id)
            .field("has_secret", &self.secret.is_some())
            .field("id", &self.id)
            .field("version", &self.version)
            .field("capabilities", &self.capabilities)
            .field("has_legacy_mask", &self.has_legacy_mask)
            .field("underlay_type", &self.underlay_type)
            .field("is_grouped", &self.is_grouped)
            .field("cluster", &self.cluster)
            .field("exuvia", &self.exuvia)
            .field("extra", &self.extra)
            .finish()
    }
}

impl HelloAnswer {
    /// The answer as a frame.
    pub fn to_frame(&self) -> Frame {
        match self {
            Self::Accepted(accepted) => accepted.to_frame(),
            Self::Refused { text, class } => {
                let mut frame = result(text.clone(), false);
                if *class != RefusalClass::Unspecified {
                    frame.headers.set_u32(header::REJECT_CLASS, (*class).into());
                }
                frame
            }
        }
    }

    /// Reads an answer. A result that does not say success is a refusal.
    ///
    /// # Errors
    /// [`HelloError::NotAResult`], [`HelloError::ReplyToAnother`], [`HelloError::NotText`], [`HelloError::Version`].
    pub fn from_frame(frame: &Frame) -> Result<Self, HelloError> {
        if frame.content_type != content_type::RESULT {
            return Err(HelloError::NotAResult { found: frame.content_type });
        }
        if let Some(reply_for) = frame.reply_for() {
            return Err(HelloError::ReplyToAnother { reply_for });
        }
        if frame.headers.bool(header::RESULT_SUCCESS) != Some(true) {
            let class = frame.headers.u32(header::REJECT_CLASS).unwrap_or_default().into();
            return Ok(Self::Refused { text: String::from_utf8_lossy(&frame.body).into_owned(), class });
        }
        Ok(Self::Accepted(Box::new(AcceptedHello::take(frame.headers.detached())?)))
    }
}

impl AcceptedHello {
    /// May further underlays join the control channel that this opens? Header 9 does not say it: the channel library of releases before
    /// 2.0 echoes it, makes a secret, and then takes every underlay for a channel of its own. Only the capability does.
    pub fn takes_further_underlays(&self) -> bool {
        let is_named = self.connection_id.is_some() && self.secret.is_some();
        self.is_grouped && is_named && self.capabilities.has(capability::controller::GROUPED_CTRL_CHAN)
    }

    /// The answer as a frame. What the fields say wins over the same keys in `extra`.
    pub fn to_frame(&self) -> Frame {
        let mut frame = result(String::new(), true);
        for (key, value) in self.extra.iter() {
            if !frame.headers.contains(key) {
                frame.headers.insert(key, value.clone());
            }
        }
        let headers = &mut frame.headers;
        let texts =
            [(header::CONNECTION_ID, &self.connection_id), (header::ID, &self.id), (header::TYPE, &self.underlay_type)];
        for (key, text) in texts {
            if let Some(text) = text {
                headers.set_text(key, text);
            }
        }
        if let Some(version) = &self.version {
            headers.set_text(header::HELLO_VERSION, version.to_string());
        }
        if self.is_grouped {
            headers.set_bool(header::IS_GROUPED, true);
        }
        if let Some(secret) = &self.secret {
            headers.insert(header::GROUP_SECRET, secret.clone());
        }
        if !self.capabilities.is_empty() {
            headers.insert(header::CAPABILITIES, self.capabilities.to_bytes());
            if self.has_legacy_mask {
                headers.insert(header::LEGACY_CAPABILITIES, self.capabilities.to_bytes());
            }
        }
        if let Some(cluster) = &self.cluster {
            cluster.write(headers);
        }
        self.exuvia.write(headers);
        frame
    }

    fn take(mut rest: Headers) -> Result<Self, HelloError> {
        rest.remove(header::REPLY_FOR);
        rest.remove(header::RESULT_SUCCESS);
        let legacy_value = rest.contains(header::LEGACY_CAPABILITIES);
        let legacy = take_capabilities(&mut rest, header::LEGACY_CAPABILITIES);
        let capabilities = take_capabilities(&mut rest, header::CAPABILITIES);
        let capabilities = if capabilities.is_empty() { legacy } else { capabilities };
        let version = rest.remove(header::HELLO_VERSION).map(|value| parse_version(&value)).transpose()?;
        Ok(Self {
            connection_id: take_text(&mut rest, header::CONNECTION_ID, "connection id")?,
            secret: rest.remove(header::GROUP_SECRET),
            id: take_text(&mut rest, header::ID, "listener's id")?,
            version,
            // Without a mask there is nothing to repeat: header 12 alone, and empty, is no mask.
            has_legacy_mask: legacy_value && !capabilities.is_empty(),
            capabilities,
            underlay_type: take_text(&mut rest, header::TYPE, "underlay type")?,
            is_grouped: take_bool(&mut rest, header::IS_GROUPED),
            cluster: ClusterPlace::take(&mut rest)?,
            exuvia: ExuviaAbilities::take(&mut rest),
            extra: rest,
        })
    }
}

impl ClusterPlace {
    fn write(&self, headers: &mut Headers) {
        headers.set_text(header::CLUSTER_PEER_ADDRESS, &self.peer_address);
        headers.set_text(header::LEGACY_PEER_ADDRESS, &self.peer_address);
        if let Some(id) = &self.cluster_id {
            headers.set_text(header::CLUSTER_ID, id);
            headers.set_text(header::LEGACY_CLUSTER_ID, id);
        }
        if self.is_preferred_leader {
            headers.set_bool(header::CLUSTER_PREFERRED_LEADER, true);
        }
    }

    fn take(headers: &mut Headers) -> Result<Option<Self>, HelloError> {
        let legacy_address = take_text(headers, header::LEGACY_PEER_ADDRESS, "peer address")?;
        let address = take_text(headers, header::CLUSTER_PEER_ADDRESS, "peer address")?.or(legacy_address);
        let legacy_id = take_text(headers, header::LEGACY_CLUSTER_ID, "cluster id")?;
        let cluster_id = take_text(headers, header::CLUSTER_ID, "cluster id")?.or(legacy_id);
        let is_preferred_leader = take_bool(headers, header::CLUSTER_PREFERRED_LEADER);
        Ok(address.map(|peer_address| Self { peer_address, cluster_id, is_preferred_leader }))
    }
}

/// A result of the hello exchange.
fn result(text: String, is_success: bool) -> Frame {
    let mut frame = Frame::new(content_type::RESULT, text);
    frame.sequence = NO_SEQUENCE;
    frame.set_reply_for(NO_SEQUENCE);
    frame.headers.set_bool(header::RESULT_SUCCESS, is_success);
    frame
}
