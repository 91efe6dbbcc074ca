//! Protobuf shapes, written by hand: only fields that this crate reads or writes; others are dropped on decoding, so
//! nothing that was received is ever forwarded by encoding it again.
//!
//! Upstream: `openziti/ziti:common/pb/ctrl_pb/ctrl.proto`, `openziti/ziti:common/pb/edge_ctrl_pb/edge_ctrl.proto`.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::{Message, Oneof};

/// `ctrl_pb`.
pub(crate) mod ctrl {
    use super::{BTreeMap, Message};

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct Settings {
        #[prost(btree_map = "int32, bytes", tag = "1")]
        pub(crate) data: BTreeMap<i32, Vec<u8>>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct Listener {
        #[prost(string, tag = "1")]
        pub(crate) address: String,
        #[prost(string, tag = "2")]
        pub(crate) protocol: String,
        #[prost(string, repeated, tag = "4")]
        pub(crate) groups: Vec<String>,
        #[prost(string, tag = "5")]
        pub(crate) local_binding: String,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct Listeners {
        #[prost(message, repeated, tag = "1")]
        pub(crate) listeners: Vec<Listener>,
    }

    /// Both `CtrlEndpoint` and `CtrlChanListener`, which have the same shape.
    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct CtrlEndpoint {
        #[prost(string, tag = "1")]
        pub(crate) address: String,
        #[prost(string, repeated, tag = "2")]
        pub(crate) groups: Vec<String>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct CtrlChanListeners {
        #[prost(message, repeated, tag = "1")]
        pub(crate) listeners: Vec<CtrlEndpoint>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct CtrlDetail {
        #[prost(string, tag = "1")]
        pub(crate) id: String,
        #[prost(message, repeated, tag = "2")]
        pub(crate) endpoints: Vec<CtrlEndpoint>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct UpdateCtrlAddresses {
        #[prost(string, repeated, tag = "1")]
        pub(crate) addresses: Vec<String>,
        #[prost(uint64, tag = "2")]
        pub(crate) index: u64,
        #[prost(bool, tag = "3")]
        pub(crate) is_leader: bool,
        #[prost(message, repeated, tag = "4")]
        pub(crate) controllers: Vec<CtrlDetail>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct UpdateClusterLeader {
        #[prost(uint64, tag = "1")]
        pub(crate) index: u64,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct PeerStateChange {
        #[prost(string, tag = "1")]
        pub(crate) id: String,
        #[prost(string, tag = "2")]
        pub(crate) version: String,
        #[prost(int32, tag = "3")]
        pub(crate) state: i32,
        #[prost(message, repeated, tag = "4")]
        pub(crate) listeners: Vec<Listener>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct PeerStateChanges {
        #[prost(message, repeated, tag = "1")]
        pub(crate) changes: Vec<PeerStateChange>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct InspectRequest {
        #[prost(string, repeated, tag = "1")]
        pub(crate) requested_values: Vec<String>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct InspectValue {
        #[prost(string, tag = "1")]
        pub(crate) name: String,
        #[prost(string, tag = "2")]
        pub(crate) value: String,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct InspectResponse {
        #[prost(bool, tag = "1")]
        pub(crate) success: bool,
        #[prost(string, repeated, tag = "2")]
        pub(crate) errors: Vec<String>,
        #[prost(message, repeated, tag = "3")]
        pub(crate) values: Vec<InspectValue>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct VerifyRouter {
        #[prost(string, tag = "1")]
        pub(crate) router_id: String,
        #[prost(string, repeated, tag = "2")]
        pub(crate) fingerprints: Vec<String>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct RouterLink {
        #[prost(string, tag = "1")]
        pub(crate) id: String,
        #[prost(string, tag = "2")]
        pub(crate) dest_router_id: String,
        #[prost(string, tag = "3")]
        pub(crate) link_protocol: String,
        #[prost(string, tag = "5")]
        pub(crate) dial_address: String,
        #[prost(uint32, tag = "6")]
        pub(crate) iteration: u32,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct RouterLinks {
        #[prost(message, repeated, tag = "1")]
        pub(crate) links: Vec<RouterLink>,
        #[prost(bool, tag = "2")]
        pub(crate) full_refresh: bool,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct Interface {
        #[prost(string, tag = "1")]
        pub(crate) name: String,
        #[prost(string, tag = "2")]
        pub(crate) hardware_address: String,
        #[prost(int64, tag = "3")]
        pub(crate) mtu: i64,
        #[prost(int64, tag = "4")]
        pub(crate) index: i64,
        #[prost(uint64, tag = "5")]
        pub(crate) flags: u64,
        #[prost(string, repeated, tag = "6")]
        pub(crate) addresses: Vec<String>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct RouterInterfacesUpdate {
        #[prost(message, repeated, tag = "1")]
        pub(crate) interfaces: Vec<Interface>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct Alert {
        #[prost(string, tag = "1")]
        pub(crate) source_type: String,
        #[prost(string, tag = "2")]
        pub(crate) source_id: String,
        #[prost(int64, tag = "3")]
        pub(crate) timestamp: i64,
        #[prost(string, tag = "4")]
        pub(crate) severity: String,
        #[prost(string, tag = "5")]
        pub(crate) message: String,
        #[prost(string, repeated, tag = "6")]
        pub(crate) details: Vec<String>,
        #[prost(btree_map = "string, string", tag = "7")]
        pub(crate) related_entities: BTreeMap<String, String>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct Alerts {
        #[prost(message, repeated, tag = "1")]
        pub(crate) alerts: Vec<Alert>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct Terminator {
        #[prost(string, tag = "1")]
        pub(crate) id: String,
        #[prost(string, tag = "2")]
        pub(crate) binding: String,
        #[prost(string, tag = "3")]
        pub(crate) address: String,
        #[prost(uint64, tag = "4")]
        pub(crate) marker: u64,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct ValidateTerminatorsV2Request {
        #[prost(message, repeated, tag = "1")]
        pub(crate) terminators: Vec<Terminator>,
        #[prost(bool, tag = "2")]
        pub(crate) fix_invalid: bool,
        #[prost(bool, tag = "3")]
        pub(crate) post_create: bool,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct RouterTerminatorState {
        #[prost(bool, tag = "1")]
        pub(crate) valid: bool,
        #[prost(int32, tag = "2")]
        pub(crate) reason: i32,
        #[prost(string, tag = "3")]
        pub(crate) detail: String,
        #[prost(uint64, tag = "4")]
        pub(crate) marker: u64,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct ValidateTerminatorsV2Response {
        #[prost(btree_map = "string, message", tag = "1")]
        pub(crate) states: BTreeMap<String, RouterTerminatorState>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct RemoveTerminatorsRequest {
        #[prost(string, repeated, tag = "1")]
        pub(crate) terminator_ids: Vec<String>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct Egress {
        #[prost(string, tag = "1")]
        pub(crate) binding: String,
        #[prost(string, tag = "2")]
        pub(crate) address: String,
        #[prost(string, tag = "3")]
        pub(crate) destination: String,
        #[prost(btree_map = "uint32, bytes", tag = "4")]
        pub(crate) peer_data: BTreeMap<u32, Vec<u8>>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct Forward {
        #[prost(string, tag = "1")]
        pub(crate) src_address: String,
        #[prost(string, tag = "2")]
        pub(crate) dst_address: String,
        #[prost(int32, tag = "3")]
        pub(crate) dst_type: i32,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct Route {
        #[prost(string, tag = "1")]
        pub(crate) circuit_id: String,
        #[prost(uint32, tag = "2")]
        pub(crate) attempt: u32,
        #[prost(message, optional, tag = "3")]
        pub(crate) egress: Option<Egress>,
        #[prost(message, repeated, tag = "4")]
        pub(crate) forwards: Vec<Forward>,
        #[prost(uint64, tag = "6")]
        pub(crate) timeout: u64,
        #[prost(btree_map = "string, string", tag = "7")]
        pub(crate) tags: BTreeMap<String, String>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct Unroute {
        #[prost(string, tag = "1")]
        pub(crate) circuit_id: String,
        #[prost(bool, tag = "2")]
        pub(crate) now: bool,
    }
}

/// `edge_ctrl_pb`.
pub(crate) mod edge {
    use super::{BTreeMap, Bytes, Message, Oneof};

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct EnrollmentExtendRouterRequest {
        #[prost(string, tag = "1")]
        pub(crate) client_cert_csr: String,
        #[prost(string, tag = "2")]
        pub(crate) server_cert_csr: String,
        #[prost(bool, tag = "3")]
        pub(crate) require_verification: bool,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct EnrollmentCertsResponse {
        #[prost(string, tag = "1")]
        pub(crate) client_cert_pem: String,
        #[prost(string, tag = "2")]
        pub(crate) server_cert_pem: String,
        #[prost(string, tag = "3")]
        pub(crate) ca_certs_pem: String,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct EnrollmentExtendRouterVerifyRequest {
        #[prost(string, tag = "1")]
        pub(crate) client_cert_pem: String,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct Error {
        #[prost(string, tag = "1")]
        pub(crate) code: String,
        #[prost(string, tag = "2")]
        pub(crate) message: String,
        #[prost(string, tag = "3")]
        pub(crate) cause: String,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct ServerHello {
        #[prost(string, tag = "1")]
        pub(crate) version: String,
        #[prost(btree_map = "string, string", tag = "2")]
        pub(crate) data: BTreeMap<String, String>,
        #[prost(btree_map = "string, bytes", tag = "3")]
        pub(crate) byte_data: BTreeMap<String, Vec<u8>>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct Address {
        #[prost(string, tag = "10")]
        pub(crate) value: String,
        #[prost(string, tag = "20")]
        pub(crate) protocol: String,
        #[prost(string, tag = "30")]
        pub(crate) hostname: String,
        #[prost(int32, tag = "40")]
        pub(crate) port: i32,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct Listener {
        #[prost(message, optional, tag = "10")]
        pub(crate) address: Option<Address>,
        #[prost(message, optional, tag = "20")]
        pub(crate) advertise: Option<Address>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct ClientHello {
        #[prost(string, tag = "1")]
        pub(crate) version: String,
        #[prost(string, tag = "2")]
        pub(crate) hostname: String,
        #[prost(string, repeated, tag = "3")]
        pub(crate) protocols: Vec<String>,
        #[prost(btree_map = "string, string", tag = "4")]
        pub(crate) data: BTreeMap<String, String>,
        #[prost(string, repeated, tag = "5")]
        pub(crate) protocol_ports: Vec<String>,
        #[prost(message, repeated, tag = "10")]
        pub(crate) listeners: Vec<Listener>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct SubscribeToDataModelRequest {
        #[prost(uint64, tag = "1")]
        pub(crate) current_index: u64,
        #[prost(uint32, tag = "2")]
        pub(crate) subscription_duration_seconds: u32,
        #[prost(bool, tag = "3")]
        pub(crate) renew: bool,
        #[prost(string, tag = "4")]
        pub(crate) timeline_id: String,
        #[prost(string, tag = "5")]
        pub(crate) subscription_id: String,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct PublicKey {
        #[prost(bytes = "bytes", tag = "1")]
        pub(crate) data: Bytes,
        #[prost(string, tag = "2")]
        pub(crate) kid: String,
        #[prost(int32, repeated, tag = "3")]
        pub(crate) usages: Vec<i32>,
        #[prost(int32, tag = "4")]
        pub(crate) format: i32,
    }

    #[derive(Clone, PartialEq, Oneof)]
    pub(crate) enum Model {
        #[prost(message, tag = "14")]
        PublicKey(PublicKey),
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct Event {
        #[prost(int32, tag = "1")]
        pub(crate) action: i32,
        #[prost(bool, tag = "3")]
        pub(crate) is_synthetic: bool,
        #[prost(oneof = "Model", tags = "14")]
        pub(crate) model: Option<Model>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct DataState {
        #[prost(message, repeated, tag = "1")]
        pub(crate) events: Vec<Event>,
        #[prost(uint64, tag = "2")]
        pub(crate) end_index: u64,
        #[prost(string, tag = "3")]
        pub(crate) timeline_id: String,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct ChangeSet {
        #[prost(uint64, tag = "1")]
        pub(crate) index: u64,
        #[prost(bool, tag = "2")]
        pub(crate) is_synthetic: bool,
        #[prost(message, repeated, tag = "3")]
        pub(crate) changes: Vec<Event>,
        #[prost(string, tag = "4")]
        pub(crate) timestamp_id: String,
        #[prost(uint64, tag = "5")]
        pub(crate) previous_index: u64,
    }
}
