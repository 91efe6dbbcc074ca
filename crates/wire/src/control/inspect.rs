//! Looking inside the other side: names asked for, values answered, unknown names left out.
//!
//! Upstream: `openziti/ziti:router/inspect/inspect.go`, `openziti/ziti:controller/handler_ctrl/inspect.go`.

use crate::content_type;
use crate::frame::Frame;
use crate::message::{Body, framed};
use crate::proto::ctrl as proto;

/// 1013, either way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InspectRequest {
    /// Such as `links`; compared without regard to case.
    pub names: Vec<String>,
}

/// 1014, the reply.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InspectResponse {
    /// False only if something known could not be read.
    pub is_success: bool,
    /// Why not.
    pub errors: Vec<String>,
    /// Name, and JSON or text.
    pub values: Vec<(String, String)>,
}

framed!(InspectRequest, InspectResponse);

impl InspectResponse {
    /// The response, marked as the reply to `request`.
    pub fn to_reply(&self, request: &Frame) -> Frame {
        Frame::reply(Self::CONTENT_TYPE, self.to_frame().body, request)
    }
}

impl Body for InspectRequest {
    const CONTENT_TYPE: i32 = content_type::INSPECT_REQUEST;
    type Proto = proto::InspectRequest;

    fn to_proto(&self) -> Self::Proto {
        Self::Proto { requested_values: self.names.clone() }
    }

    fn from_proto(proto: Self::Proto) -> Self {
        Self { names: proto.requested_values }
    }
}

impl Body for InspectResponse {
    const CONTENT_TYPE: i32 = content_type::INSPECT_RESPONSE;
    type Proto = proto::InspectResponse;

    fn to_proto(&self) -> Self::Proto {
        let value = |(name, value): &(String, String)| proto::InspectValue { name: name.clone(), value: value.clone() };
        Self::Proto {
            success: self.is_success,
            errors: self.errors.clone(),
            values: self.values.iter().map(value).collect(),
        }
    }

    fn from_proto(proto: Self::Proto) -> Self {
        Self {
            is_success: proto.success,
            errors: proto.errors,
            values: proto.values.into_iter().map(|value| (value.name, value.value)).collect(),
        }
    }
}
