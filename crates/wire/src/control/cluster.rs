//! Where controllers and other routers are.
//!
//! Upstream: `openziti/ziti:router/handler_ctrl/update_ctrl_addresses.go`,
//! `openziti/ziti:router/handler_ctrl/settings.go`, `openziti/ziti:controller/handler_ctrl/accept.go`.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;

use crate::frame::Frame;
use crate::hello::Hello;
use crate::message::{self, Body, MessageError, framed, open_enum};
use crate::proto::ctrl as proto;
use crate::{content_type, header};

/// 1020, controller to router.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Setting 1: this controller moved to this address. Not text at all counts as absent.
    pub new_address: Option<String>,
    /// Every other setting by its number.
    pub others: BTreeMap<i32, Bytes>,
}

const NEW_CTRL_ADDRESS: i32 = 1;

/// 1037, controller to router. Applied only if `index` is greater than that of the last one applied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpdateCtrlAddresses {
    /// Flat list for old routers; 2.x ignores it.
    pub addresses: Vec<String>,
    /// Grows with every change of the list.
    pub index: u64,
    /// The sender leads.
    pub is_leader: bool,
    /// All controllers.
    pub controllers: Vec<ControllerEndpoints>,
}

/// One controller and how to reach it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ControllerEndpoints {
    /// Its id.
    pub id: String,
    /// Where it listens.
    pub endpoints: Vec<CtrlEndpoint>,
}

/// One place to dial.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CtrlEndpoint {
    /// Such as `tls:host:port`; see [`crate::address::Address`].
    pub address: String,
    /// Who should prefer it; empty is everybody.
    pub groups: Vec<String>,
}

/// 1051, controller to router: the sender leads now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpdateClusterLeader {
    /// Grows with every election.
    pub index: u64,
}

/// 1055, router to controller: please send [`UpdateCtrlAddresses`], which will not be marked as a reply.
pub fn request_cluster_members() -> Frame {
    Frame::new(content_type::REQUEST_CLUSTER_MEMBERS, "")
}

/// 1050, controller to router.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerStateChanges {
    /// In order.
    pub changes: Vec<PeerStateChange>,
}

/// What became of one other router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStateChange {
    /// Its id.
    pub id: String,
    /// Its version number.
    pub version: String,
    /// What became of it.
    pub state: PeerState,
    /// Where it takes links.
    pub listeners: Vec<LinkListener>,
}

open_enum! {
    /// State of a router as its controller sees it.
    PeerState {
        /// Connected.
        Healthy = 0,
        /// Not connected.
        Unhealthy = 1,
        /// Deleted.
        Removed = 2,
    }
}

/// Where a router takes links.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkListener {
    /// Such as `tls:host:port`.
    pub address: String,
    /// Such as `tls`.
    pub protocol: String,
    /// Link groups.
    pub groups: Vec<String>,
    /// Local interface, if bound to one.
    pub local_binding: String,
}

/// 1056, router to controller (2.1 and later): these are all my link listeners.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpdateLinkListeners {
    /// All of them.
    pub listeners: Vec<LinkListener>,
}

framed!(Settings, UpdateCtrlAddresses, UpdateClusterLeader, PeerStateChanges, UpdateLinkListeners);

impl Hello {
    /// The link listeners that a router announces: header 1000, or header 10 of a router without group.
    ///
    /// # Errors
    /// [`MessageError::Malformed`].
    pub fn link_listeners(&self) -> Result<Vec<LinkListener>, MessageError> {
        let legacy = || self.extra.get(header::LEGACY_LISTENERS).filter(|_| self.group.is_none());
        let Some(value) = self.extra.get(header::LISTENERS).or_else(legacy) else { return Ok(Vec::new()) };
        let proto: proto::Listeners = message::decode(content_type::HELLO, value)?;
        Ok(proto.listeners.into_iter().map(LinkListener::from_proto).collect())
    }

    /// Announces link listeners in header 1000.
    pub fn set_link_listeners(&mut self, listeners: &[LinkListener]) {
        let proto = proto::Listeners { listeners: listeners.iter().map(LinkListener::to_proto).collect() };
        self.extra.insert(header::LISTENERS, proto.encode_to_vec());
    }

    /// Where a router listens for controllers that dial: header 1003.
    ///
    /// # Errors
    /// [`MessageError::Malformed`].
    pub fn ctrl_listeners(&self) -> Result<Vec<CtrlEndpoint>, MessageError> {
        let Some(value) = self.extra.get(header::CTRL_CHAN_LISTENERS) else { return Ok(Vec::new()) };
        let proto: proto::CtrlChanListeners = message::decode(content_type::HELLO, value)?;
        Ok(proto.listeners.into_iter().map(CtrlEndpoint::from_proto).collect())
    }

    /// Announces in header 1003 where this router listens for controllers that dial.
    pub fn set_ctrl_listeners(&mut self, listeners: &[CtrlEndpoint]) {
        let proto = proto::CtrlChanListeners { listeners: listeners.iter().map(CtrlEndpoint::to_proto).collect() };
        self.extra.insert(header::CTRL_CHAN_LISTENERS, proto.encode_to_vec());
    }
}

impl Body for Settings {
    const CONTENT_TYPE: i32 = content_type::SETTINGS;
    type Proto = proto::Settings;

    fn to_proto(&self) -> Self::Proto {
        let mut data: BTreeMap<i32, Vec<u8>> = self.others.iter().map(|(key, value)| (*key, value.to_vec())).collect();
        if let Some(address) = &self.new_address {
            data.insert(NEW_CTRL_ADDRESS, address.clone().into_bytes());
        }
        Self::Proto { data }
    }

    fn from_proto(mut proto: Self::Proto) -> Self {
        let new_address = proto.data.remove(&NEW_CTRL_ADDRESS).and_then(|value| String::from_utf8(value).ok());
        Self { new_address, others: proto.data.into_iter().map(|(key, value)| (key, value.into())).collect() }
    }
}

impl Body for UpdateCtrlAddresses {
    const CONTENT_TYPE: i32 = content_type::UPDATE_CTRL_ADDRESSES;
    type Proto = proto::UpdateCtrlAddresses;

    fn to_proto(&self) -> Self::Proto {
        let detail = |controller: &ControllerEndpoints| proto::CtrlDetail {
            id: controller.id.clone(),
            endpoints: controller.endpoints.iter().map(CtrlEndpoint::to_proto).collect(),
        };
        Self::Proto {
            addresses: self.addresses.clone(),
            index: self.index,
            is_leader: self.is_leader,
            controllers: self.controllers.iter().map(detail).collect(),
        }
    }

    fn from_proto(proto: Self::Proto) -> Self {
        let controller = |detail: proto::CtrlDetail| ControllerEndpoints {
            id: detail.id,
            endpoints: detail.endpoints.into_iter().map(CtrlEndpoint::from_proto).collect(),
        };
        Self {
            addresses: proto.addresses,
            index: proto.index,
            is_leader: proto.is_leader,
            controllers: proto.controllers.into_iter().map(controller).collect(),
        }
    }
}

impl Body for UpdateClusterLeader {
    const CONTENT_TYPE: i32 = content_type::UPDATE_CLUSTER_LEADER;
    type Proto = proto::UpdateClusterLeader;

    fn to_proto(&self) -> Self::Proto {
        Self::Proto { index: self.index }
    }

    fn from_proto(proto: Self::Proto) -> Self {
        Self { index: proto.index }
    }
}

impl Body for PeerStateChanges {
    const CONTENT_TYPE: i32 = content_type::PEER_STATE_CHANGE;
    type Proto = proto::PeerStateChanges;

    fn to_proto(&self) -> Self::Proto {
        let change = |change: &PeerStateChange| proto::PeerStateChange {
            id: change.id.clone(),
            version: change.version.clone(),
            state: change.state.into(),
            listeners: change.listeners.iter().map(LinkListener::to_proto).collect(),
        };
        Self::Proto { changes: self.changes.iter().map(change).collect() }
    }

    fn from_proto(proto: Self::Proto) -> Self {
        let change = |change: proto::PeerStateChange| PeerStateChange {
            id: change.id,
            version: change.version,
            state: change.state.into(),
            listeners: change.listeners.into_iter().map(LinkListener::from_proto).collect(),
        };
        Self { changes: proto.changes.into_iter().map(change).collect() }
    }
}

impl Body for UpdateLinkListeners {
    const CONTENT_TYPE: i32 = content_type::UPDATE_LINK_LISTENERS;
    type Proto = proto::Listeners;

    fn to_proto(&self) -> Self::Proto {
        Self::Proto { listeners: self.listeners.iter().map(LinkListener::to_proto).collect() }
    }

    fn from_proto(proto: Self::Proto) -> Self {
        Self { listeners: proto.listeners.into_iter().map(LinkListener::from_proto).collect() }
    }
}

impl LinkListener {
    fn to_proto(&self) -> proto::Listener {
        proto::Listener {
            address: self.address.clone(),
            protocol: self.protocol.clone(),
            groups: self.groups.clone(),
            local_binding: self.local_binding.clone(),
        }
    }

    fn from_proto(proto: proto::Listener) -> Self {
        let proto::Listener { address, protocol, groups, local_binding } = proto;
        Self { address, protocol, groups, local_binding }
    }
}

impl CtrlEndpoint {
    fn to_proto(&self) -> proto::CtrlEndpoint {
        proto::CtrlEndpoint { address: self.address.clone(), groups: self.groups.clone() }
    }

    fn from_proto(proto: proto::CtrlEndpoint) -> Self {
        Self { address: proto.address, groups: proto.groups }
    }
}
