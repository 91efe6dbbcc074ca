//! What a frame's content type means: the numbers of the channel, the control plane and the edge plane.
//!
//! Upstream: `openziti/channel:messages.go`, `openziti/ziti:common/pb/ctrl_pb/ctrl.proto`,
//! `openziti/ziti:common/ctrl_msg/messages.go`, `openziti/ziti:common/pb/edge_ctrl_pb/edge_ctrl.proto`.

/// First frame of every underlay; the body is the sender's identity token.
pub const HELLO: i32 = 0;
/// Asks for a [`RESULT`] saying `ok`.
pub const PING: i32 = 1;
/// Success or failure of what was asked; the body is text.
pub const RESULT: i32 = 2;
/// Latency probe, header 128 holds the sender's clock.
pub const LATENCY: i32 = 3;
/// Latency answer; not marked as a reply.
pub const LATENCY_RESPONSE: i32 = 4;
/// A frame that exists only for its headers 5 and 6.
pub const HEARTBEAT: i32 = 5;
/// Upstream's internal marker for unframed bytes; never on a TLS channel.
pub const RAW: i32 = 6;

/// Router asks for a circuit.
pub const CIRCUIT_REQUEST: i32 = 1000;
/// The circuit asked for exists.
pub const CIRCUIT_SUCCESS: i32 = 1001;
/// Either side reports something broken.
pub const FAULT: i32 = 1004;
/// Controller asks a router to carry a circuit; answered with [`ROUTE_RESULT`].
pub const ROUTE: i32 = 1005;
/// Controller takes a circuit back.
pub const UNROUTE: i32 = 1006;
/// A router's metrics.
pub const METRICS: i32 = 1007;
/// Switches tracing.
pub const TOGGLE_PIPE_TRACES: i32 = 1008;
/// One traced event.
pub const TRACE_EVENT: i32 = 1010;
/// Router offers a terminator.
pub const CREATE_TERMINATOR_REQUEST: i32 = 1011;
/// Router withdraws a terminator.
pub const REMOVE_TERMINATOR_REQUEST: i32 = 1012;
/// Asks for named values of the other side's inner life.
pub const INSPECT_REQUEST: i32 = 1013;
/// Answers [`INSPECT_REQUEST`].
pub const INSPECT_RESPONSE: i32 = 1014;
/// The circuit asked for cannot be had; the body is the reason.
pub const CIRCUIT_FAILED: i32 = 1016;
/// Old form of [`VALIDATE_TERMINATORS_V2_REQUEST`].
pub const VALIDATE_TERMINATORS_REQUEST: i32 = 1017;
/// Router changes cost or precedence of a terminator.
pub const UPDATE_TERMINATOR_REQUEST: i32 = 1018;
/// Controller pushes settings.
pub const SETTINGS: i32 = 1020;
/// Answers [`ROUTE`].
pub const ROUTE_RESULT: i32 = 1022;
/// Router lists circuits it still carries.
pub const CIRCUIT_CONFIRMATION: i32 = 1034;
/// Router lists its links.
pub const ROUTER_LINKS: i32 = 1035;
/// Router asks whether a peer's certificate belongs to a router id.
pub const VERIFY_ROUTER: i32 = 1036;
/// Controller tells where controllers are.
pub const UPDATE_CTRL_ADDRESSES: i32 = 1037;
/// Router withdraws several terminators.
pub const REMOVE_TERMINATORS_REQUEST: i32 = 1038;
/// Router asks to carry no new circuits.
pub const QUIESCE: i32 = 1039;
/// Router takes [`QUIESCE`] back.
pub const DEQUIESCE: i32 = 1040;
/// Controller asks which terminators a router still knows.
pub const VALIDATE_TERMINATORS_V2_REQUEST: i32 = 1041;
/// Answers [`VALIDATE_TERMINATORS_V2_REQUEST`].
pub const VALIDATE_TERMINATORS_V2_RESPONSE: i32 = 1042;
/// Router asks to be deleted.
pub const DECOMMISSION: i32 = 1043;
/// Controller tells routers about one another.
pub const PEER_STATE_CHANGE: i32 = 1050;
/// The sender is the cluster's leader now.
pub const UPDATE_CLUSTER_LEADER: i32 = 1051;
/// Router lists its network interfaces.
pub const UPDATE_ROUTER_INTERFACES: i32 = 1052;
/// State of one link's connections.
pub const LINK_STATE: i32 = 1053;
/// Router reports alerts.
pub const ALERTS: i32 = 1054;
/// Router asks for [`UPDATE_CTRL_ADDRESSES`].
pub const REQUEST_CLUSTER_MEMBERS: i32 = 1055;
/// Router's link listeners changed (2.1 and later).
pub const UPDATE_LINK_LISTENERS: i32 = 1056;

/// Controller greets an edge router.
pub const SERVER_HELLO: i32 = 20000;
/// Answers [`SERVER_HELLO`].
pub const CLIENT_HELLO: i32 = 20001;
/// Error of the edge plane. As an answer to [`EXTENSION_VERIFY`] an empty body is success.
pub const ERROR: i32 = 20002;
/// Sessions that ended.
pub const SESSION_REMOVED: i32 = 20102;
/// API sessions that exist.
pub const API_SESSION_ADDED: i32 = 20200;
/// API sessions that changed.
pub const API_SESSION_UPDATED: i32 = 20201;
/// API sessions that ended.
pub const API_SESSION_REMOVED: i32 = 20202;
/// API sessions a router saw alive.
pub const API_SESSION_HEARTBEAT: i32 = 20203;
/// Router asks for all API sessions again.
pub const REQUEST_CLIENT_RE_SYNC: i32 = 20204;
/// Router asks which sessions still exist.
pub const VALIDATE_SESSIONS: i32 = 20213;
/// Enrollment; unused on the control channel.
pub const ENROLLMENT: i32 = 20300;
/// The certificates of an extension. Not marked as a reply.
pub const ENROLLMENT_CERTS: i32 = 20301;
/// Router asks for new certificates.
pub const EXTENSION_REQUEST: i32 = 20302;
/// Router has stored the new certificates; answered with [`ERROR`].
pub const EXTENSION_VERIFY: i32 = 20303;
/// Identities connected to a router.
pub const CONNECT_EVENTS: i32 = 20415;
/// The router data model, whole.
pub const DATA_STATE: i32 = 20500;
/// A change of the router data model.
pub const DATA_STATE_CHANGE_SET: i32 = 20501;
/// Controller asks a router to compare its data model.
pub const VALIDATE_DATA_STATE_REQUEST: i32 = 20503;
/// Answers [`VALIDATE_DATA_STATE_REQUEST`].
pub const VALIDATE_DATA_STATE_RESPONSE: i32 = 20504;
/// Router wants the data model and its changes.
pub const SUBSCRIBE_TO_DATA_MODEL: i32 = 20505;
/// Index of the controller's data model.
pub const CURRENT_INDEX: i32 = 20506;

/// The name of a content type for logs and metrics; `None` for one that this crate does not know.
pub const fn name(content_type: i32) -> Option<&'static str> {
    Some(match content_type {
        HELLO => "Hello",
        PING => "Ping",
        RESULT => "Result",
        LATENCY => "Latency",
        LATENCY_RESPONSE => "LatencyResponse",
        HEARTBEAT => "Heartbeat",
        RAW => "Raw",
        CIRCUIT_REQUEST => "CircuitRequest",
        CIRCUIT_SUCCESS => "CircuitSuccess",
        FAULT => "Fault",
        ROUTE => "Route",
        UNROUTE => "Unroute",
        METRICS => "Metrics",
        TOGGLE_PIPE_TRACES => "TogglePipeTraces",
        TRACE_EVENT => "TraceEvent",
        CREATE_TERMINATOR_REQUEST => "CreateTerminatorRequest",
        REMOVE_TERMINATOR_REQUEST => "RemoveTerminatorRequest",
        INSPECT_REQUEST => "InspectRequest",
        INSPECT_RESPONSE => "InspectResponse",
        CIRCUIT_FAILED => "CircuitFailed",
        VALIDATE_TERMINATORS_REQUEST => "ValidateTerminatorsRequest",
        UPDATE_TERMINATOR_REQUEST => "UpdateTerminatorRequest",
        SETTINGS => "Settings",
        ROUTE_RESULT => "RouteResult",
        CIRCUIT_CONFIRMATION => "CircuitConfirmation",
        ROUTER_LINKS => "RouterLinks",
        VERIFY_ROUTER => "VerifyRouter",
        UPDATE_CTRL_ADDRESSES => "UpdateCtrlAddresses",
        REMOVE_TERMINATORS_REQUEST => "RemoveTerminatorsRequest",
        QUIESCE => "Quiesce",
        DEQUIESCE => "Dequiesce",
        VALIDATE_TERMINATORS_V2_REQUEST => "ValidateTerminatorsV2Request",
        VALIDATE_TERMINATORS_V2_RESPONSE => "ValidateTerminatorsV2Response",
        DECOMMISSION => "Decommission",
        PEER_STATE_CHANGE => "PeerStateChange",
        UPDATE_CLUSTER_LEADER => "UpdateClusterLeader",
        UPDATE_ROUTER_INTERFACES => "UpdateRouterInterfaces",
        LINK_STATE => "LinkState",
        ALERTS => "Alerts",
        REQUEST_CLUSTER_MEMBERS => "RequestClusterMembers",
        UPDATE_LINK_LISTENERS => "UpdateLinkListeners",
        SERVER_HELLO => "ServerHello",
        CLIENT_HELLO => "ClientHello",
        ERROR => "Error",
        SESSION_REMOVED => "SessionRemoved",
        API_SESSION_ADDED => "ApiSessionAdded",
        API_SESSION_UPDATED => "ApiSessionUpdated",
        API_SESSION_REMOVED => "ApiSessionRemoved",
        API_SESSION_HEARTBEAT => "ApiSessionHeartbeat",
        REQUEST_CLIENT_RE_SYNC => "RequestClientReSync",
        VALIDATE_SESSIONS => "ValidateSessions",
        ENROLLMENT => "Enrollment",
        ENROLLMENT_CERTS => "EnrollmentCerts",
        EXTENSION_REQUEST => "ExtensionRequest",
        EXTENSION_VERIFY => "ExtensionVerify",
        CONNECT_EVENTS => "ConnectEvents",
        DATA_STATE => "DataState",
        DATA_STATE_CHANGE_SET => "DataStateChangeSet",
        VALIDATE_DATA_STATE_REQUEST => "ValidateDataStateRequest",
        VALIDATE_DATA_STATE_RESPONSE => "ValidateDataStateResponse",
        SUBSCRIBE_TO_DATA_MODEL => "SubscribeToDataModel",
        CURRENT_INDEX => "CurrentIndex",
        _ => return None,
    })
}
