//! Total functions over arbitrary bytes: they return, whatever comes in. Fuzz targets call nothing else.

use bytes::{Bytes, BytesMut};

use crate::control::{
    Alerts, InspectRequest, InspectResponse, PeerStateChanges, RemoveTerminators, Route, RouteResult, RouterLinks,
    Settings, Unroute, UpdateClusterLeader, UpdateCtrlAddresses, UpdateLinkListeners, UpdateRouterInterfaces,
    ValidateTerminatorsV2, ValidateTerminatorsV2Response, VerifyRouter,
};
use crate::edge::{ClientHello, CurrentIndex, DataState, DataStateChangeSet, ServerHello, SubscribeToDataModel};
use crate::extension::{CertsResponse, ErrorAnswer, ExtensionRequest, ExtensionVerify};
use crate::frame::{Decoder, Frame, Headers, Limits, decode_bytes_map, decode_list, decode_text_map};
use crate::heartbeat::{HeartbeatPolicy, Heartbeats};
use crate::hello::{Hello, HelloAnswer, RenewalAdvice};
use crate::outcome::{Outcome, answer_to, latency_ns};
use crate::{address, content_type, version};

/// Every content type that has a typed message.
const TYPED: [i32; 28] = [
    content_type::HELLO,
    content_type::PING,
    content_type::RESULT,
    content_type::LATENCY,
    content_type::ROUTE,
    content_type::UNROUTE,
    content_type::INSPECT_REQUEST,
    content_type::INSPECT_RESPONSE,
    content_type::SETTINGS,
    content_type::ROUTE_RESULT,
    content_type::ROUTER_LINKS,
    content_type::VERIFY_ROUTER,
    content_type::UPDATE_CTRL_ADDRESSES,
    content_type::REMOVE_TERMINATORS_REQUEST,
    content_type::VALIDATE_TERMINATORS_V2_REQUEST,
    content_type::VALIDATE_TERMINATORS_V2_RESPONSE,
    content_type::PEER_STATE_CHANGE,
    content_type::UPDATE_CLUSTER_LEADER,
    content_type::UPDATE_ROUTER_INTERFACES,
    content_type::ALERTS,
    content_type::UPDATE_LINK_LISTENERS,
    content_type::SERVER_HELLO,
    content_type::CLIENT_HELLO,
    content_type::ERROR,
    content_type::ENROLLMENT_CERTS,
    content_type::EXTENSION_REQUEST,
    content_type::EXTENSION_VERIFY,
    content_type::DATA_STATE,
];

/// A stream of frames, fed whole and then in pieces as long as the first byte says. Both must give the same.
pub fn fuzz_stream(data: &[u8]) {
    let whole = frames(data, data.len().max(1));
    let pieces = frames(data, data.first().map_or(1, |first| usize::from(*first).max(1)));
    debug_assert_eq!(whole, pieces, "how bytes arrive must not change what they mean");
    for frame in &whole {
        fuzz_frame(frame);
    }
}

/// A header block.
pub fn fuzz_headers(data: &[u8]) {
    if let Ok(headers) = Headers::decode(Bytes::copy_from_slice(data)) {
        fuzz_frame(&Frame { headers, ..Frame::default() });
    }
}

/// The body of every message type.
pub fn fuzz_messages(data: &[u8]) {
    let body = Bytes::copy_from_slice(data);
    let others = [
        content_type::DATA_STATE_CHANGE_SET,
        content_type::SUBSCRIBE_TO_DATA_MODEL,
        content_type::CURRENT_INDEX,
        crate::hello::RENEWAL_ADVICE,
    ];
    for content_type in TYPED.into_iter().chain(others) {
        fuzz_frame(&Frame::new(content_type, body.clone()));
    }
}

/// A hello and an answer whose header block is `data`.
pub fn fuzz_hello(data: &[u8]) {
    let Ok(headers) = Headers::decode(Bytes::copy_from_slice(data)) else { return };
    for content_type in [content_type::HELLO, content_type::RESULT] {
        fuzz_frame(&Frame { content_type, headers: headers.clone(), ..Frame::new(content_type, "router") });
    }
}

/// Header values, addresses and versions.
pub fn fuzz_values(data: &[u8]) {
    let _list = decode_list(data);
    let _map = decode_bytes_map(data);
    let _texts = decode_text_map(data);
    let _capabilities = crate::capability::Capabilities::from_bytes(data).to_bytes();
    let text = String::from_utf8_lossy(data);
    let _address = text.parse::<address::Address>();
    if let Ok(version) = text.parse::<version::VersionInfo>() {
        let _is_new = version.is_at_least(&version::Release::new(2, 0, 0));
    }
    let _release = text.parse::<version::Release>();
}

/// Everything that can be asked of one frame.
pub fn fuzz_frame(frame: &Frame) {
    let _bytes = frame.to_bytes();
    let _shown = format!("{frame:?}");
    if let Ok(hello) = Hello::from_frame(frame) {
        let _listeners = (hello.link_listeners(), hello.ctrl_listeners());
        let _again = hello.to_frame();
    }
    if let Ok(answer) = HelloAnswer::from_frame(frame) {
        let _again = answer.to_frame();
    }
    let _advice = RenewalAdvice::from_frame(frame);
    let _outcome = (Outcome::from_frame(frame), answer_to(frame), latency_ns(frame, 0));
    let mut heartbeats = Heartbeats::new(HeartbeatPolicy::ROUTER, 0);
    for now_ns in [0, 1, u64::MAX] {
        let _owed = heartbeats.note_received(frame, now_ns);
        let _alone = heartbeats.standalone(now_ns);
        let _health = (heartbeats.health(now_ns), heartbeats.wake_ns());
    }
    read_messages(frame);
}

fn read_messages(frame: &Frame) {
    let _extension = (
        ExtensionRequest::from_frame(frame),
        CertsResponse::from_frame(frame),
        ExtensionVerify::from_frame(frame),
        ErrorAnswer::from_frame(frame),
    );
    let _cluster = (
        Settings::from_frame(frame),
        UpdateCtrlAddresses::from_frame(frame),
        UpdateClusterLeader::from_frame(frame),
        PeerStateChanges::from_frame(frame),
        UpdateLinkListeners::from_frame(frame),
    );
    let _reports = (
        VerifyRouter::from_frame(frame),
        RouterLinks::from_frame(frame),
        UpdateRouterInterfaces::from_frame(frame),
        Alerts::from_frame(frame),
        InspectRequest::from_frame(frame),
        InspectResponse::from_frame(frame),
    );
    let _circuits = (Route::from_frame(frame), Unroute::from_frame(frame), RouteResult::from_frame(frame));
    let _terminators = (
        ValidateTerminatorsV2::from_frame(frame).map(|request| request.none_known()),
        ValidateTerminatorsV2Response::from_frame(frame),
        RemoveTerminators::from_frame(frame),
    );
    let _edge = (
        ServerHello::from_frame(frame),
        ClientHello::from_frame(frame),
        SubscribeToDataModel::from_frame(frame),
        DataState::from_frame(frame),
        DataStateChangeSet::from_frame(frame),
        CurrentIndex::from_frame(frame),
    );
}

/// The frames of `data` when it arrives `step` bytes at a time, up to the first error.
fn frames(data: &[u8], step: usize) -> Vec<Frame> {
    let (mut frames, mut buf) = (Vec::new(), BytesMut::new());
    let mut decoder = Decoder::new(Limits::HELLO);
    for piece in data.chunks(step) {
        buf.extend_from_slice(piece);
        loop {
            match decoder.decode(&mut buf) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(_) => return frames,
            }
        }
    }
    frames
}
