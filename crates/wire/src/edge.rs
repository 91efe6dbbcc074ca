//! Between a controller and an edge router: the greeting, and as much of the router data model as an edge listener needs
//! to trust client certificates.
//!
//! Upstream: `openziti/ziti:common/pb/edge_ctrl_pb/edge_ctrl.proto`, `openziti/ziti:controller/sync_strats/sync_instant.go`,
//! `openziti/ziti:controller/sync_strats/rtx.go`, `openziti/ziti:router/state/manager.go`.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::frame::Frame;
use crate::message::{self, Body, MessageError, open_enum};
use crate::proto::edge as proto;
use crate::{content_type, header};

/// 20000, controller to edge router.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerHello {
    /// The controller's version number.
    pub version: String,
    /// A stock controller sends `instant` and `routerModel`, both `true`.
    pub data: BTreeMap<String, String>,
    /// The controller serves the data model (header 1024).
    pub has_data_model: bool,
}

/// 20001, the reply.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// The router's version number.
    pub version: String,
    /// The host name it is to be reached by.
    pub hostname: String,
    /// Such as `tls`.
    pub protocols: Vec<String>,
    /// Free.
    pub data: BTreeMap<String, String>,
    /// Such as `tls:3022`.
    pub protocol_ports: Vec<String>,
    /// Where it takes SDK clients.
    pub listeners: Vec<EdgeListener>,
    /// The router consumes the data model (header 1024).
    pub has_data_model: bool,
    /// Where its data model stands (header 1025).
    pub data_model_index: Option<u64>,
}

/// Where an edge router takes SDK clients.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EdgeListener {
    /// Where it listens.
    pub address: Option<EdgeAddress>,
    /// What it tells others.
    pub advertise: Option<EdgeAddress>,
}

/// An address in parts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EdgeAddress {
    /// The whole, such as `tls:host:3022`.
    pub value: String,
    /// Its transport.
    pub protocol: String,
    /// Its host.
    pub hostname: String,
    /// Its port.
    pub port: i32,
}

/// 20505, router to controller: send me the data model, and then its changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubscribeToDataModel {
    /// What the router has; 0 asks for everything.
    pub current_index: u64,
    /// How long, in seconds; a stock controller clamps it to 10..=360.
    pub duration_s: u32,
    /// Goes on with an earlier subscription.
    pub is_renewal: bool,
    /// The timeline that `current_index` belongs to.
    pub timeline_id: String,
    /// The router's choice; header 1026 of what follows repeats it.
    pub subscription_id: String,
}

/// 20500, controller to router: the data model, whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DataState {
    /// Everything, as creations.
    pub events: Vec<ModelEvent>,
    /// Where the model stands.
    pub end_index: u64,
    /// Constant for the life of a database.
    pub timeline_id: String,
    /// The subscription it answers (header 1026).
    pub subscription_id: Option<String>,
}

/// 20501, controller to router: what changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DataStateChangeSet {
    /// Where the model stands now.
    pub index: u64,
    /// Outside the sequence of indexes, as public keys are.
    pub is_synthetic: bool,
    /// In order.
    pub changes: Vec<ModelEvent>,
    /// The timeline (upstream's field is named `timestampId`).
    pub timeline_id: String,
    /// Where the model stood before; 0 says nothing.
    pub previous_index: u64,
    /// The subscription it answers (header 1026).
    pub subscription_id: Option<String>,
}

/// One thing that happened to the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelEvent {
    /// What happened.
    pub action: ModelAction,
    /// Outside the sequence of indexes.
    pub is_synthetic: bool,
    /// To what.
    pub subject: ModelSubject,
}

open_enum! {
    /// What happened to a part of the model.
    ModelAction {
        /// It came.
        Create = 0,
        /// It changed.
        Update = 1,
        /// It went.
        Delete = 2,
    }
}

/// A part of the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelSubject {
    /// A key or certificate that routers trust.
    PublicKey(PublicKey),
    /// Identities, services, policies and everything else that this crate does not read. Its content is not kept, so it
    /// cannot be written either.
    Other,
}

/// A key or certificate that routers trust.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublicKey {
    /// DER, as `format` says.
    pub data: Bytes,
    /// SHA-1 of `data`, hex.
    pub kid: String,
    /// What for.
    pub usages: Vec<KeyUsage>,
    /// What `data` is.
    pub format: KeyFormat,
}

open_enum! {
    /// What a [`PublicKey`] is for.
    KeyUsage {
        /// Checks tokens.
        JwtValidation = 0,
        /// Anchors client certificates.
        ClientCertValidation = 1,
    }
}

open_enum! {
    /// Form of a [`PublicKey`].
    #[derive(Default)]
    KeyFormat {
        /// A certificate.
        #[default]
        X509CertDer = 0,
        /// A bare key.
        PkixPublicKey = 1,
    }
}

/// 20506, controller to router: where the model stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CurrentIndex {
    /// Header 1025.
    pub index: u64,
}

impl ServerHello {
    /// The greeting as a frame.
    pub fn to_frame(&self) -> Frame {
        let mut frame = message::write(self);
        frame.headers.set_bool(header::DATA_MODEL_SUPPORTED, self.has_data_model);
        frame
    }

    /// Reads a greeting.
    ///
    /// # Errors
    /// [`MessageError::OtherType`], [`MessageError::Malformed`].
    pub fn from_frame(frame: &Frame) -> Result<Self, MessageError> {
        let has_data_model = frame.headers.bool(header::DATA_MODEL_SUPPORTED) == Some(true);
        Ok(Self { has_data_model, ..message::read(frame)? })
    }
}

impl ClientHello {
    /// The answer, marked as the reply to the frame of a [`ServerHello`].
    pub fn to_reply(&self, greeting: &Frame) -> Frame {
        let mut frame = Frame::reply(Self::CONTENT_TYPE, message::write(self).body, greeting);
        frame.headers.set_bool(header::DATA_MODEL_SUPPORTED, self.has_data_model);
        if let Some(index) = self.data_model_index {
            frame.headers.set_u64(header::DATA_MODEL_INDEX, index);
        }
        frame
    }

    /// Reads an answer.
    ///
    /// # Errors
    /// [`MessageError::OtherType`], [`MessageError::Malformed`].
    pub fn from_frame(frame: &Frame) -> Result<Self, MessageError> {
        let has_data_model = frame.headers.bool(header::DATA_MODEL_SUPPORTED) == Some(true);
        let data_model_index = frame.headers.u64(header::DATA_MODEL_INDEX);
        Ok(Self { has_data_model, data_model_index, ..message::read(frame)? })
    }
}

message::framed!(SubscribeToDataModel);

/// `to_frame` and `from_frame` of what belongs to a subscription.
macro_rules! subscribed {
    ($($message:ty),+) => {$(
        impl $message {
            /// The message as a frame, with its subscription in header 1026.
            pub fn to_frame(&self) -> Frame {
                let mut frame = message::write(self);
                if let Some(id) = &self.subscription_id {
                    frame.headers.set_text(header::DATA_MODEL_SUBSCRIPTION, id);
                }
                frame
            }

            /// Reads the message.
            ///
            /// # Errors
            /// [`MessageError::OtherType`], [`MessageError::Malformed`].
            pub fn from_frame(frame: &Frame) -> Result<Self, MessageError> {
                let subscription_id = frame.headers.text(header::DATA_MODEL_SUBSCRIPTION).map(str::to_owned);
                Ok(Self { subscription_id, ..message::read(frame)? })
            }
        }
    )+};
}
subscribed!(DataState, DataStateChangeSet);

impl CurrentIndex {
    /// The index as a frame.
    pub fn to_frame(self) -> Frame {
        let mut frame = Frame::new(content_type::CURRENT_INDEX, "");
        frame.headers.set_u64(header::DATA_MODEL_INDEX, self.index);
        frame
    }

    /// Reads an index.
    ///
    /// # Errors
    /// [`MessageError::OtherType`], [`MessageError::Missing`].
    pub fn from_frame(frame: &Frame) -> Result<Self, MessageError> {
        message::expect(frame, content_type::CURRENT_INDEX)?;
        let missing = MessageError::Missing { content_type: frame.content_type, what: "index" };
        Ok(Self { index: frame.headers.u64(header::DATA_MODEL_INDEX).ok_or(missing)? })
    }
}

impl ModelEvent {
    /// The creation of a public key.
    pub fn key_created(key: PublicKey) -> Self {
        Self { action: ModelAction::Create, is_synthetic: false, subject: ModelSubject::PublicKey(key) }
    }

    fn to_proto(&self) -> proto::Event {
        let model = match &self.subject {
            ModelSubject::PublicKey(key) => Some(proto::Model::PublicKey(proto::PublicKey {
                data: key.data.clone(),
                kid: key.kid.clone(),
                usages: key.usages.iter().map(|usage| i32::from(*usage)).collect(),
                format: key.format.into(),
            })),
            ModelSubject::Other => None,
        };
        proto::Event { action: self.action.into(), is_synthetic: self.is_synthetic, model }
    }

    fn from_proto(event: proto::Event) -> Self {
        let subject = match event.model {
            Some(proto::Model::PublicKey(key)) => ModelSubject::PublicKey(PublicKey {
                data: key.data,
                kid: key.kid,
                usages: key.usages.into_iter().map(KeyUsage::from).collect(),
                format: key.format.into(),
            }),
            None => ModelSubject::Other,
        };
        Self { action: event.action.into(), is_synthetic: event.is_synthetic, subject }
    }
}

impl Body for ServerHello {
    const CONTENT_TYPE: i32 = content_type::SERVER_HELLO;
    type Proto = proto::ServerHello;

    fn to_proto(&self) -> Self::Proto {
        Self::Proto { version: self.version.clone(), data: self.data.clone(), byte_data: BTreeMap::new() }
    }

    fn from_proto(proto: Self::Proto) -> Self {
        Self { version: proto.version, data: proto.data, has_data_model: false }
    }
}

impl Body for ClientHello {
    const CONTENT_TYPE: i32 = content_type::CLIENT_HELLO;
    type Proto = proto::ClientHello;

    fn to_proto(&self) -> Self::Proto {
        let address = |address: &EdgeAddress| proto::Address {
            value: address.value.clone(),
            protocol: address.protocol.clone(),
            hostname: address.hostname.clone(),
            port: address.port,
        };
        let listener = |listener: &EdgeListener| proto::Listener {
            address: listener.address.as_ref().map(address),
            advertise: listener.advertise.as_ref().map(address),
        };
        Self::Proto {
            version: self.version.clone(),
            hostname: self.hostname.clone(),
            protocols: self.protocols.clone(),
            data: self.data.clone(),
            protocol_ports: self.protocol_ports.clone(),
            listeners: self.listeners.iter().map(listener).collect(),
        }
    }

    fn from_proto(proto: Self::Proto) -> Self {
        let address = |address: proto::Address| {
            let proto::Address { value, protocol, hostname, port } = address;
            EdgeAddress { value, protocol, hostname, port }
        };
        let listener = |listener: proto::Listener| EdgeListener {
            address: listener.address.map(address),
            advertise: listener.advertise.map(address),
        };
        Self {
            version: proto.version,
            hostname: proto.hostname,
            protocols: proto.protocols,
            data: proto.data,
            protocol_ports: proto.protocol_ports,
            listeners: proto.listeners.into_iter().map(listener).collect(),
            has_data_model: false,
            data_model_index: None,
        }
    }
}

impl Body for SubscribeToDataModel {
    const CONTENT_TYPE: i32 = content_type::SUBSCRIBE_TO_DATA_MODEL;
    type Proto = proto::SubscribeToDataModelRequest;

    fn to_proto(&self) -> Self::Proto {
        Self::Proto {
            current_index: self.current_index,
            subscription_duration_seconds: self.duration_s,
            renew: self.is_renewal,
            timeline_id: self.timeline_id.clone(),
            subscription_id: self.subscription_id.clone(),
        }
    }

    fn from_proto(proto: Self::Proto) -> Self {
        Self {
            current_index: proto.current_index,
            duration_s: proto.subscription_duration_seconds,
            is_renewal: proto.renew,
            timeline_id: proto.timeline_id,
            subscription_id: proto.subscription_id,
        }
    }
}

impl Body for DataState {
    const CONTENT_TYPE: i32 = content_type::DATA_STATE;
    type Proto = proto::DataState;

    fn to_proto(&self) -> Self::Proto {
        Self::Proto {
            events: self.events.iter().map(ModelEvent::to_proto).collect(),
            end_index: self.end_index,
            timeline_id: self.timeline_id.clone(),
        }
    }

    fn from_proto(proto: Self::Proto) -> Self {
        Self {
            events: proto.events.into_iter().map(ModelEvent::from_proto).collect(),
            end_index: proto.end_index,
            timeline_id: proto.timeline_id,
            subscription_id: None,
        }
    }
}

impl Body for DataStateChangeSet {
    const CONTENT_TYPE: i32 = content_type::DATA_STATE_CHANGE_SET;
    type Proto = proto::ChangeSet;

    fn to_proto(&self) -> Self::Proto {
        Self::Proto {
            index: self.index,
            is_synthetic: self.is_synthetic,
            changes: self.changes.iter().map(ModelEvent::to_proto).collect(),
            timestamp_id: self.timeline_id.clone(),
            previous_index: self.previous_index,
        }
    }

    fn from_proto(proto: Self::Proto) -> Self {
        Self {
            index: proto.index,
            is_synthetic: proto.is_synthetic,
            changes: proto.changes.into_iter().map(ModelEvent::from_proto).collect(),
            timeline_id: proto.timestamp_id,
            previous_index: proto.previous_index,
            subscription_id: None,
        }
    }
}
