//! Header keys. The same number means different things in different messages, so a key is always read together with
//! its content type.
//!
//! Ranges: 0–127 channel, 1000–1099 edge and hello, 1100–1199 control plane, 2000–2500 clusters and data frames,
//! 21000–21015 Exuvia's own, which stock peers ignore.
//!
//! Upstream: `openziti/channel:message.go`, `openziti/channel:hello_reject.go`, `openziti/ziti:common/pb/ctrl_pb/ctrl.proto`,
//! `openziti/ziti:controller/raft/mesh/mesh.go`.

/// Hello of a second or later underlay, and every result: the group's id, text.
pub const CONNECTION_ID: i32 = 0;
/// Sequence number of the request that this frame answers, i32; -1 means "not a reply".
pub const REPLY_FOR: i32 = 1;
/// Result: success, bool.
pub const RESULT_SUCCESS: i32 = 2;
/// Hello and result: version, five fields.
pub const HELLO_VERSION: i32 = 4;
/// Any frame: the sender's clock, unix nanoseconds, u64.
pub const HEARTBEAT: i32 = 5;
/// Any frame: the latest [`HEARTBEAT`] that the sender received, u64.
pub const HEARTBEAT_RESPONSE: i32 = 6;
/// Hello and result: type of the underlay, text such as `ctrl.default`.
pub const TYPE: i32 = 7;
/// Result: identity token of the listener, text.
pub const ID: i32 = 8;
/// Hello and result: bool, this underlay belongs to a group.
pub const IS_GROUPED: i32 = 9;
/// Secret that further underlays must repeat, bytes.
pub const GROUP_SECRET: i32 = 10;
/// Hello: bool, this underlay makes a new group.
pub const IS_FIRST: i32 = 11;
/// Refusal: why, u32.
pub const REJECT_CLASS: i32 = 13;
/// Copied from a request into its reply.
pub const REFLECTED: i32 = 128;

/// Hello of a router that does not set capability bit 1: its link listeners. Collides with [`GROUP_SECRET`].
pub const LEGACY_LISTENERS: i32 = 10;
/// Result of a clustered controller before 2.0: its peer address. Collides with [`IS_FIRST`].
pub const LEGACY_PEER_ADDRESS: i32 = 11;
/// Result: copy of [`CAPABILITIES`] for routers before 2.0.
pub const LEGACY_CAPABILITIES: i32 = 12;
/// Result of a clustered controller before 2.0: cluster id.
pub const LEGACY_CLUSTER_ID: i32 = 15;

/// Hello of a router: its link listeners, a protobuf.
pub const LISTENERS: i32 = 1000;
/// Hello of a router: metadata that 2.x does not send.
pub const ROUTER_METADATA: i32 = 1001;
/// Hello and result: capability mask.
pub const CAPABILITIES: i32 = 1002;
/// Hello of a router: where it listens for controllers, a protobuf.
pub const CTRL_CHAN_LISTENERS: i32 = 1003;

/// `ServerHello`, `ClientHello`: bool, the data model is supported.
pub const DATA_MODEL_SUPPORTED: i32 = 1024;
/// `ClientHello`, `CurrentIndex`: index of the data model, u64.
pub const DATA_MODEL_INDEX: i32 = 1025;
/// Data model messages: the subscription they belong to, text.
pub const DATA_MODEL_SUBSCRIPTION: i32 = 1026;

/// `RouteResult`: attempt number, u32.
pub const ROUTE_ATTEMPT: i32 = 1101;
/// `RouteResult`: its mere presence means success.
pub const ROUTE_SUCCESS: i32 = 1102;
/// `RouteResult`: why not, text.
pub const ROUTE_ERROR: i32 = 1103;
/// `RouteResult`: error code, one byte.
pub const ROUTE_ERROR_CODE: i32 = 1104;

/// Edge error: code, u32.
pub const ERROR_CODE: i32 = 1014;
/// Edge error: whether trying again helps, u32.
pub const RETRY_HINT: i32 = 18;
/// Negative result to `RemoveTerminators`: u32 1 means busy.
pub const RESULT_BUSY: i32 = 10;

/// Result of a clustered controller: its peer address, text.
pub const CLUSTER_PEER_ADDRESS: i32 = 2000;
/// Result of a clustered controller: cluster id, text.
pub const CLUSTER_ID: i32 = 2004;
/// Result of a clustered controller: bool, prefers to lead.
pub const CLUSTER_PREFERRED_LEADER: i32 = 2005;

/// Exuvia: version of the abilities announced in 21000–21015, u32.
pub const EXUVIA_VERSION: i32 = 21000;
/// Exuvia, answer: renew not before this, unix seconds, u64.
pub const EXUVIA_WINDOW_FROM: i32 = 21001;
/// Exuvia, answer: renew before this, unix seconds, u64.
pub const EXUVIA_WINDOW_TO: i32 = 21002;
/// Exuvia, answer: number of the fleet-wide re-key; a router that has not obeyed this number renews now, u64.
pub const EXUVIA_RENEW_NOW: i32 = 21003;
/// Last key that Exuvia keeps for itself.
pub const EXUVIA_LAST: i32 = 21015;
