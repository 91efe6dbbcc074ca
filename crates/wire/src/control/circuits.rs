//! Circuits: enough to refuse one politely.
//!
//! Upstream: `openziti/ziti:router/handler_ctrl/route.go`, `openziti/ziti:controller/handler_ctrl/route_result.go`.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::frame::Frame;
use crate::message::{self, Body, MessageError, framed, open_enum};
use crate::proto::ctrl as proto;
use crate::{content_type, header};

/// 1005, controller to router: carry this circuit. Answered with [`RouteResult`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Route {
    /// The circuit.
    pub circuit_id: String,
    /// Which try this is; echoed in the answer.
    pub attempt: u32,
    /// Set on the router at which the circuit ends.
    pub egress: Option<Egress>,
    /// What goes where.
    pub forwards: Vec<Forward>,
    /// What is left for this try, in nanoseconds.
    pub timeout_ns: u64,
    /// For tracing.
    pub tags: BTreeMap<String, String>,
}

/// How a circuit leaves the fabric.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Egress {
    /// Such as `transport`.
    pub binding: String,
    /// Address inside the fabric.
    pub address: String,
    /// What to dial.
    pub destination: String,
    /// Opaque here.
    pub peer_data: BTreeMap<u32, Bytes>,
}

/// One entry of a forwarding table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    /// From.
    pub source: String,
    /// To.
    pub destination: String,
    /// What `destination` is.
    pub kind: ForwardKind,
}

open_enum! {
    /// What a forward leads to.
    ForwardKind {
        /// The initiator's side.
        Start = 0,
        /// The terminator's side.
        End = 1,
        /// A link.
        Link = 2,
    }
}

/// 1006, controller to router: drop this circuit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unroute {
    /// The circuit.
    pub circuit_id: String,
    /// At once, rather than when idle.
    pub is_now: bool,
}

/// 1022, router to controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteResult {
    /// The circuit.
    pub circuit_id: String,
    /// Echo of [`Route::attempt`].
    pub attempt: u32,
    /// Why not; `None` is success.
    pub failure: Option<RouteFailure>,
}

/// Why a router does not carry a circuit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteFailure {
    /// One of [`route_failure`].
    pub code: u8,
    /// For people.
    pub text: String,
}

/// The codes of [`RouteFailure`].
pub mod route_failure {
    /// Nothing more precise.
    pub const GENERIC: u8 = 0;
    /// The terminator is not there; the controller may delete it.
    pub const INVALID_TERMINATOR: u8 = 1;
    /// The terminator's binding is unknown here.
    pub const MISCONFIGURED_TERMINATOR: u8 = 2;
    /// A forward names a link that is not there.
    pub const INVALID_LINK: u8 = 8;
    /// No room for more circuits.
    pub const RESOURCES_NOT_AVAILABLE: u8 = 9;
}

impl RouteResult {
    /// Refuses `route`.
    pub fn refused(route: &Route, code: u8, text: impl Into<String>) -> Self {
        let failure = Some(RouteFailure { code, text: text.into() });
        Self { circuit_id: route.circuit_id.clone(), attempt: route.attempt, failure }
    }

    /// The result, marked as the reply to the frame of its route. Nothing is reflected: a controller takes unknown headers
    /// for data of the circuit.
    pub fn to_reply(&self, route: &Frame) -> Frame {
        let mut reply = self.to_frame();
        reply.set_reply_for(route.sequence);
        reply
    }

    /// The result as a frame. On failure the success header is absent, not false: its presence alone means success.
    pub fn to_frame(&self) -> Frame {
        let mut frame = Frame::new(content_type::ROUTE_RESULT, self.circuit_id.clone());
        frame.headers.set_u32(header::ROUTE_ATTEMPT, self.attempt);
        match &self.failure {
            None => frame.headers.set_bool(header::ROUTE_SUCCESS, true),
            Some(failure) => {
                frame.headers.set_text(header::ROUTE_ERROR, &failure.text);
                frame.headers.insert(header::ROUTE_ERROR_CODE, vec![failure.code]);
            }
        }
        frame
    }

    /// Reads a result.
    ///
    /// # Errors
    /// [`MessageError::OtherType`], [`MessageError::NotText`], and [`MessageError::Missing`] without an attempt.
    pub fn from_frame(frame: &Frame) -> Result<Self, MessageError> {
        message::expect(frame, content_type::ROUTE_RESULT)?;
        let missing = MessageError::Missing { content_type: frame.content_type, what: "attempt" };
        let failure = (!frame.headers.contains(header::ROUTE_SUCCESS)).then(|| RouteFailure {
            code: frame.headers.u8(header::ROUTE_ERROR_CODE).unwrap_or(route_failure::GENERIC),
            text: frame.headers.text(header::ROUTE_ERROR).unwrap_or_default().to_owned(),
        });
        Ok(Self {
            circuit_id: message::text(frame, "circuit id")?,
            attempt: frame.headers.u32(header::ROUTE_ATTEMPT).ok_or(missing)?,
            failure,
        })
    }
}

framed!(Route, Unroute);

impl Body for Route {
    const CONTENT_TYPE: i32 = content_type::ROUTE;
    type Proto = proto::Route;

    fn to_proto(&self) -> Self::Proto {
        let egress = self.egress.as_ref().map(|egress| proto::Egress {
            binding: egress.binding.clone(),
            address: egress.address.clone(),
            destination: egress.destination.clone(),
            peer_data: egress.peer_data.iter().map(|(key, value)| (*key, value.to_vec())).collect(),
        });
        let forward = |forward: &Forward| proto::Forward {
            src_address: forward.source.clone(),
            dst_address: forward.destination.clone(),
            dst_type: forward.kind.into(),
        };
        Self::Proto {
            circuit_id: self.circuit_id.clone(),
            attempt: self.attempt,
            egress,
            forwards: self.forwards.iter().map(forward).collect(),
            timeout: self.timeout_ns,
            tags: self.tags.clone(),
        }
    }

    fn from_proto(proto: Self::Proto) -> Self {
        let egress = proto.egress.map(|egress| Egress {
            binding: egress.binding,
            address: egress.address,
            destination: egress.destination,
            peer_data: egress.peer_data.into_iter().map(|(key, value)| (key, value.into())).collect(),
        });
        let forward = |forward: proto::Forward| Forward {
            source: forward.src_address,
            destination: forward.dst_address,
            kind: forward.dst_type.into(),
        };
        Self {
            circuit_id: proto.circuit_id,
            attempt: proto.attempt,
            egress,
            forwards: proto.forwards.into_iter().map(forward).collect(),
            timeout_ns: proto.timeout,
            tags: proto.tags,
        }
    }
}

impl Body for Unroute {
    const CONTENT_TYPE: i32 = content_type::UNROUTE;
    type Proto = proto::Unroute;

    fn to_proto(&self) -> Self::Proto {
        Self::Proto { circuit_id: self.circuit_id.clone(), now: self.is_now }
    }

    fn from_proto(proto: Self::Proto) -> Self {
        Self { circuit_id: proto.circuit_id, is_now: proto.now }
    }
}
