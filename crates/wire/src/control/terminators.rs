//! Terminators: where services end. A router that serves none answers that it knows none.
//!
//! Upstream: `openziti/ziti:router/handler_ctrl/validate_terminators_v2.go`,
//! `openziti/ziti:controller/network/router_messaging.go`.

use std::collections::BTreeMap;

use crate::content_type;
use crate::frame::Frame;
use crate::message::{Body, framed, open_enum};
use crate::proto::ctrl as proto;

/// 1041, controller to router: do you still know these?
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ValidateTerminatorsV2 {
    /// What the controller has stored.
    pub terminators: Vec<Terminator>,
    /// Remove those that are not valid.
    pub fix_invalid: bool,
    /// Asked right after creation.
    pub is_after_create: bool,
}

/// One terminator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terminator {
    /// Its id.
    pub id: String,
    /// Such as `edge`, `transport`.
    pub binding: String,
    /// Depends on the binding.
    pub address: String,
    /// The controller's mark, to be echoed.
    pub marker: u64,
}

/// 1042, the reply.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ValidateTerminatorsV2Response {
    /// By terminator id.
    pub states: BTreeMap<String, TerminatorState>,
}

/// What the router knows of one terminator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TerminatorState {
    /// It is alive.
    pub is_valid: bool,
    /// If not, why.
    pub fault: TerminatorFault,
    /// For people.
    pub detail: String,
    /// Echo of [`Terminator::marker`].
    pub marker: u64,
}

open_enum! {
    /// Why a terminator is not valid.
    TerminatorFault {
        /// No such binding here.
        UnknownBinding = 0,
        /// No such terminator here.
        UnknownTerminator = 1,
        /// It is here, but not well.
        BadState = 2,
    }
}

/// 1038, router to controller: these are gone. Answered with an [`Outcome`](crate::outcome::Outcome).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RemoveTerminators {
    /// Which.
    pub terminator_ids: Vec<String>,
}

framed!(ValidateTerminatorsV2, ValidateTerminatorsV2Response, RemoveTerminators);

impl ValidateTerminatorsV2 {
    /// The answer of a router that serves no terminator at all.
    pub fn none_known(&self) -> ValidateTerminatorsV2Response {
        let unknown = |terminator: &Terminator| {
            let state = TerminatorState {
                is_valid: false,
                fault: TerminatorFault::UnknownBinding,
                detail: String::new(),
                marker: terminator.marker,
            };
            (terminator.id.clone(), state)
        };
        ValidateTerminatorsV2Response { states: self.terminators.iter().map(unknown).collect() }
    }
}

impl ValidateTerminatorsV2Response {
    /// The response, marked as the reply to `request`.
    pub fn to_reply(&self, request: &Frame) -> Frame {
        Frame::reply(Self::CONTENT_TYPE, self.to_frame().body, request)
    }
}

impl Body for ValidateTerminatorsV2 {
    const CONTENT_TYPE: i32 = content_type::VALIDATE_TERMINATORS_V2_REQUEST;
    type Proto = proto::ValidateTerminatorsV2Request;

    fn to_proto(&self) -> Self::Proto {
        let terminator = |terminator: &Terminator| proto::Terminator {
            id: terminator.id.clone(),
            binding: terminator.binding.clone(),
            address: terminator.address.clone(),
            marker: terminator.marker,
        };
        Self::Proto {
            terminators: self.terminators.iter().map(terminator).collect(),
            fix_invalid: self.fix_invalid,
            post_create: self.is_after_create,
        }
    }

    fn from_proto(proto: Self::Proto) -> Self {
        let terminator = |terminator: proto::Terminator| {
            let proto::Terminator { id, binding, address, marker } = terminator;
            Terminator { id, binding, address, marker }
        };
        Self {
            terminators: proto.terminators.into_iter().map(terminator).collect(),
            fix_invalid: proto.fix_invalid,
            is_after_create: proto.post_create,
        }
    }
}

impl Body for ValidateTerminatorsV2Response {
    const CONTENT_TYPE: i32 = content_type::VALIDATE_TERMINATORS_V2_RESPONSE;
    type Proto = proto::ValidateTerminatorsV2Response;

    fn to_proto(&self) -> Self::Proto {
        let state = |(id, state): (&String, &TerminatorState)| {
            let state = proto::RouterTerminatorState {
                valid: state.is_valid,
                reason: state.fault.into(),
                detail: state.detail.clone(),
                marker: state.marker,
            };
            (id.clone(), state)
        };
        Self::Proto { states: self.states.iter().map(state).collect() }
    }

    fn from_proto(proto: Self::Proto) -> Self {
        let state = |(id, state): (String, proto::RouterTerminatorState)| {
            let proto::RouterTerminatorState { valid, reason, detail, marker } = state;
            (id, TerminatorState { is_valid: valid, fault: reason.into(), detail, marker })
        };
        Self { states: proto.states.into_iter().map(state).collect() }
    }
}

impl Body for RemoveTerminators {
    const CONTENT_TYPE: i32 = content_type::REMOVE_TERMINATORS_REQUEST;
    type Proto = proto::RemoveTerminatorsRequest;

    fn to_proto(&self) -> Self::Proto {
        Self::Proto { terminator_ids: self.terminator_ids.clone() }
    }

    fn from_proto(proto: Self::Proto) -> Self {
        Self { terminator_ids: proto.terminator_ids }
    }
}
