//! The control plane: what routers and controllers tell each other besides renewing.
//!
//! | module | content types |
//! |---|---|
//! | `cluster` | 1020 settings, 1037 and 1051 and 1055 where controllers are, 1050 other routers |
//! | `report` | 1035 links, 1036 is this certificate that router's, 1039 and 1040 quiesce, 1052 interfaces, 1054 alerts |
//! | `inspect` | 1013, 1014 |
//! | `terminators` | 1038, 1041, 1042 |
//! | `circuits` | 1005, 1006, 1022: enough to refuse a circuit politely |
//!
//! Upstream: `openziti/ziti:common/pb/ctrl_pb/ctrl.proto`, `openziti/ziti:common/ctrl_msg/messages.go`,
//! `openziti/ziti:router/handler_ctrl/bind.go`, `openziti/ziti:controller/handler_ctrl/bind.go`.

mod circuits;
mod cluster;
mod inspect;
mod report;
mod terminators;

pub use circuits::{Egress, Forward, ForwardKind, Route, RouteFailure, RouteResult, Unroute, route_failure};
pub use cluster::{
    ControllerEndpoints, CtrlEndpoint, LinkListener, PeerState, PeerStateChange, PeerStateChanges, Settings,
    UpdateClusterLeader, UpdateCtrlAddresses, UpdateLinkListeners, request_cluster_members,
};
pub use inspect::{InspectRequest, InspectResponse};
pub use report::{
    Alert, Alerts, NetworkInterface, RouterLink, RouterLinks, UpdateRouterInterfaces, VerifyRouter, dequiesce, quiesce,
};
pub use terminators::{
    RemoveTerminators, Terminator, TerminatorFault, TerminatorState, ValidateTerminatorsV2,
    ValidateTerminatorsV2Response,
};
