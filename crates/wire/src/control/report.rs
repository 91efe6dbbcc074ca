//! What routers report and ask.
//!
//! Upstream: `openziti/ziti:controller/handler_ctrl/verify_router.go`, `openziti/ziti:common/pb/ctrl_pb/ctrl.proto`,
//! `openziti/ziti:router/interfaces/interfaces.go`.

use std::collections::BTreeMap;

use crate::content_type;
use crate::frame::Frame;
use crate::message::{Body, framed};
use crate::proto::ctrl as proto;

/// 1036, router to controller: may the holder of this certificate be that router? Answered with an
/// [`Outcome`](crate::outcome::Outcome).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifyRouter {
    /// Who it says it is.
    pub router_id: String,
    /// SHA-1 of the DER of what it presented, lower-case hex.
    pub fingerprints: Vec<String>,
}

/// 1035, router to controller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouterLinks {
    /// Links.
    pub links: Vec<RouterLink>,
    /// These are all; otherwise they add to those known.
    pub is_full_refresh: bool,
}

/// One link.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouterLink {
    /// Its id.
    pub id: String,
    /// The router at its other end.
    pub dest_router_id: String,
    /// Such as `tls`.
    pub link_protocol: String,
    /// What was dialed.
    pub dial_address: String,
    /// How often it was made anew.
    pub iteration: u32,
}

/// 1052, router to controller. Answered with an [`Outcome`](crate::outcome::Outcome).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpdateRouterInterfaces {
    /// All of them.
    pub interfaces: Vec<NetworkInterface>,
}

/// One network interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkInterface {
    /// Such as `eth0`.
    pub name: String,
    /// MAC address.
    pub hardware_address: String,
    /// Largest packet, in bytes.
    pub mtu_bytes: i64,
    /// The kernel's number.
    pub index: i64,
    /// Upstream's flags: 1 up, 2 broadcast, 4 loopback, 8 point to point, 16 multicast, 32 running.
    pub flags: u64,
    /// With prefix lengths.
    pub addresses: Vec<String>,
}

/// 1054, router to controller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Alerts {
    /// In order.
    pub alerts: Vec<Alert>,
}

/// One alert.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Alert {
    /// Such as `router`.
    pub source_type: String,
    /// Id of the source.
    pub source_id: String,
    /// When, unix milliseconds.
    pub at_unix_ms: i64,
    /// Such as `error`.
    pub severity: String,
    /// For people.
    pub message: String,
    /// For people.
    pub details: Vec<String>,
    /// Kind and id of what it is about.
    pub related: BTreeMap<String, String>,
}

/// 1039, router to controller: no new circuits, please. Answered with an [`Outcome`](crate::outcome::Outcome).
pub fn quiesce() -> Frame {
    Frame::new(content_type::QUIESCE, "")
}

/// 1040, router to controller: circuits are welcome again. Answered with an [`Outcome`](crate::outcome::Outcome).
pub fn dequiesce() -> Frame {
    Frame::new(content_type::DEQUIESCE, "")
}

framed!(VerifyRouter, RouterLinks, UpdateRouterInterfaces, Alerts);

impl Body for VerifyRouter {
    const CONTENT_TYPE: i32 = content_type::VERIFY_ROUTER;
    type Proto = proto::VerifyRouter;

    fn to_proto(&self) -> Self::Proto {
        Self::Proto { router_id: self.router_id.clone(), fingerprints: self.fingerprints.clone() }
    }

    fn from_proto(proto: Self::Proto) -> Self {
        Self { router_id: proto.router_id, fingerprints: proto.fingerprints }
    }
}

impl Body for RouterLinks {
    const CONTENT_TYPE: i32 = content_type::ROUTER_LINKS;
    type Proto = proto::RouterLinks;

    fn to_proto(&self) -> Self::Proto {
        let link = |link: &RouterLink| proto::RouterLink {
            id: link.id.clone(),
            dest_router_id: link.dest_router_id.clone(),
            link_protocol: link.link_protocol.clone(),
            dial_address: link.dial_address.clone(),
            iteration: link.iteration,
        };
        Self::Proto { links: self.links.iter().map(link).collect(), full_refresh: self.is_full_refresh }
    }

    fn from_proto(proto: Self::Proto) -> Self {
        let link = |link: proto::RouterLink| {
            let proto::RouterLink { id, dest_router_id, link_protocol, dial_address, iteration } = link;
            RouterLink { id, dest_router_id, link_protocol, dial_address, iteration }
        };
        Self { links: proto.links.into_iter().map(link).collect(), is_full_refresh: proto.full_refresh }
    }
}

impl Body for UpdateRouterInterfaces {
    const CONTENT_TYPE: i32 = content_type::UPDATE_ROUTER_INTERFACES;
    type Proto = proto::RouterInterfacesUpdate;

    fn to_proto(&self) -> Self::Proto {
        let interface = |interface: &NetworkInterface| proto::Interface {
            name: interface.name.clone(),
            hardware_address: interface.hardware_address.clone(),
            mtu: interface.mtu_bytes,
            index: interface.index,
            flags: interface.flags,
            addresses: interface.addresses.clone(),
        };
        Self::Proto { interfaces: self.interfaces.iter().map(interface).collect() }
    }

    fn from_proto(proto: Self::Proto) -> Self {
        let interface = |interface: proto::Interface| {
            let proto::Interface { name, hardware_address, mtu, index, flags, addresses } = interface;
            NetworkInterface { name, hardware_address, mtu_bytes: mtu, index, flags, addresses }
        };
        Self { interfaces: proto.interfaces.into_iter().map(interface).collect() }
    }
}

impl Body for Alerts {
    const CONTENT_TYPE: i32 = content_type::ALERTS;
    type Proto = proto::Alerts;

    fn to_proto(&self) -> Self::Proto {
        let alert = |alert: &Alert| proto::Alert {
            source_type: alert.source_type.clone(),
            source_id: alert.source_id.clone(),
            timestamp: alert.at_unix_ms,
            severity: alert.severity.clone(),
            message: alert.message.clone(),
            details: alert.details.clone(),
            related_entities: alert.related.clone(),
        };
        Self::Proto { alerts: self.alerts.iter().map(alert).collect() }
    }

    fn from_proto(proto: Self::Proto) -> Self {
        let alert = |alert: proto::Alert| Alert {
            source_type: alert.source_type,
            source_id: alert.source_id,
            at_unix_ms: alert.timestamp,
            severity: alert.severity,
            message: alert.message,
            details: alert.details,
            related: alert.related_entities,
        };
        Self { alerts: proto.alerts.into_iter().map(alert).collect() }
    }
}
