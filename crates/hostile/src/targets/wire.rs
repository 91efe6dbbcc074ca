//! Frames and messages.

use std::fmt::Debug;

use bytes::{Bytes, BytesMut};
use wire::control::{
    Alerts, InspectRequest, InspectResponse, PeerStateChanges, RemoveTerminators, Route, RouteResult, RouterLinks,
    Settings, Unroute, UpdateClusterLeader, UpdateCtrlAddresses, UpdateLinkListeners, UpdateRouterInterfaces,
    ValidateTerminatorsV2, ValidateTerminatorsV2Response, VerifyRouter,
};
use wire::edge::{ClientHello, CurrentIndex, DataState, DataStateChangeSet, ServerHello, SubscribeToDataModel};
use wire::extension::{CertsResponse, ErrorAnswer, ExtensionRequest, ExtensionVerify};
use wire::frame::{decode_bytes_map, decode_list, decode_text_map, encode_bytes_map, encode_list, encode_text_map};
use wire::hello::{Hello, HelloAnswer, RenewalAdvice};
use wire::{Decoder, Frame, Headers, Limits, content_type, total};

/// The content types of the control plane and of the edge are below these; all others are tried by the total functions.
const TYPES: [i32; 24] = [
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
    content_type::ERROR,
    content_type::ENROLLMENT_CERTS,
    content_type::EXTENSION_REQUEST,
    content_type::EXTENSION_VERIFY,
    content_type::DATA_STATE,
    content_type::DATA_STATE_CHANGE_SET,
];

pub(super) fn stream(data: &[u8]) {
    total::fuzz_stream(data);
    let mut decoder = Decoder::new(Limits::HELLO);
    let mut rest = BytesMut::from(data);
    while let Ok(Some(frame)) = decoder.decode(&mut rest) {
        frame_again(&frame);
    }
}

pub(super) fn headers(data: &[u8]) {
    total::fuzz_headers(data);
    total::fuzz_values(data);
    if let Ok(headers) = Headers::decode(Bytes::copy_from_slice(data)) {
        frame_again(&Frame { headers, ..Frame::default() });
    }
    if let Ok(list) = decode_list(data) {
        again("list", &list, encode_list(&list).map(|bytes| decode_list(&bytes)));
    }
    if let Ok(map) = decode_bytes_map(data) {
        again("map of bytes", &map, encode_bytes_map(&map).map(|bytes| decode_bytes_map(&bytes)));
    }
    if let Ok(map) = decode_text_map(data) {
        again("map of texts", &map, encode_text_map(&map).map(|bytes| decode_text_map(&bytes)));
    }
}

fn again<T: PartialEq + Debug, E: Debug, F: Debug>(what: &str, first: &T, second: Result<Result<T, E>, F>) {
    match second {
        Ok(Ok(second)) => assert_eq!(*first, second, "a {what} changes when it is written and read again"),
        // What was read with shorter lengths than ours may not fit when it is written.
        Err(refused) => drop(refused),
        Ok(Err(error)) => assert_eq!(format!("{error:?}"), "", "a {what} that was written cannot be read"),
    }
}

pub(super) fn hello(data: &[u8]) {
    total::fuzz_hello(data);
    let Ok(headers) = Headers::decode(Bytes::copy_from_slice(data)) else { return };
    let frame = |content_type| Frame { content_type, headers: headers.clone(), ..Frame::new(content_type, "router") };
    if let Ok(hello) = Hello::from_frame(&frame(content_type::HELLO)) {
        assert_eq!(Hello::from_frame(&hello.to_frame()), Ok(hello), "a hello changes when it is sent on");
    }
    if let Ok(answer) = HelloAnswer::from_frame(&frame(content_type::RESULT)) {
        assert_eq!(HelloAnswer::from_frame(&answer.to_frame()), Ok(answer), "an answer changes when it is sent on");
    }
    if let Some(advice) = RenewalAdvice::from_frame(&frame(wire::hello::RENEWAL_ADVICE)) {
        assert_eq!(RenewalAdvice::from_frame(&advice.to_frame()), Some(advice), "advice changes when it is sent on");
    }
}

pub(super) fn messages(data: &[u8]) {
    total::fuzz_messages(data);
    let body = Bytes::copy_from_slice(data);
    for content_type in TYPES {
        message_again(&Frame::new(content_type, body.clone()));
    }
}

fn frame_again(frame: &Frame) {
    let limits = Limits::CHANNEL;
    let decoded = Decoder::new(limits).decode_whole(&frame.to_bytes());
    assert_eq!(decoded.as_ref().map(Option::as_ref), Ok(Some(frame)), "a frame changes when it is sent on");
    message_again(frame);
}

fn message_again(frame: &Frame) {
    macro_rules! same {
        ($($message:ty),+ $(,)?) => {$(
            if let Ok(message) = <$message>::from_frame(frame) {
                let again = <$message>::from_frame(&message.to_frame());
                assert_eq!(again, Ok(message), "`{}` changes when it is sent on", stringify!($message));
            }
        )+};
    }
    same!(
        Alerts,
        InspectRequest,
        InspectResponse,
        PeerStateChanges,
        RemoveTerminators,
        Route,
        RouteResult,
        RouterLinks,
        Settings,
        Unroute,
        UpdateClusterLeader,
        UpdateCtrlAddresses,
        UpdateLinkListeners,
        UpdateRouterInterfaces,
        ValidateTerminatorsV2,
        ValidateTerminatorsV2Response,
        VerifyRouter,
    );
    same!(CurrentIndex, DataState, DataStateChangeSet, ServerHello, SubscribeToDataModel);
    same!(CertsResponse, ErrorAnswer, ExtensionRequest, ExtensionVerify);
    if let Ok(hello) = ClientHello::from_frame(frame) {
        let greeting = Frame::new(content_type::SERVER_HELLO, "");
        assert_eq!(ClientHello::from_frame(&hello.to_reply(&greeting)), Ok(hello), "`ClientHello` changes");
    }
}
