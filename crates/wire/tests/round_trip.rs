//! What is written is read back the same, whatever it says.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests are claims")]

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use wire::capability::Capabilities;
use wire::control::{
    Alert, Alerts, ControllerEndpoints, CtrlEndpoint, Egress, Forward, InspectRequest, InspectResponse, LinkListener,
    NetworkInterface, PeerStateChange, PeerStateChanges, RemoveTerminators, Route, RouteFailure, RouteResult,
    RouterLink, RouterLinks, Settings, Terminator, TerminatorState, Unroute, UpdateClusterLeader, UpdateCtrlAddresses,
    UpdateLinkListeners, UpdateRouterInterfaces, ValidateTerminatorsV2, ValidateTerminatorsV2Response, VerifyRouter,
};
use wire::edge::{
    ClientHello, CurrentIndex, DataState, DataStateChangeSet, EdgeAddress, EdgeListener, ModelEvent, ModelSubject,
    PublicKey, ServerHello, SubscribeToDataModel,
};
use wire::extension::{CertsResponse, ErrorAnswer, ExtensionRequest, ExtensionVerify};
use wire::frame::{decode_bytes_map, decode_list, decode_text_map, encode_bytes_map, encode_list, encode_text_map};
use wire::hello::{
    AcceptedHello, ClusterPlace, ExuviaAbilities, GroupHello, Hello, HelloAnswer, RefusalClass, RenewalAdvice,
    RenewalWindow,
};
use wire::outcome::Outcome;
use wire::version::VersionInfo;
use wire::{Decoder, Frame, Headers, Limits};

fn bytes() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..40).prop_map(Bytes::from)
}

fn texts() -> impl Strategy<Value = Vec<String>> {
    vec(".{0,8}", 0..4)
}

fn text_map() -> impl Strategy<Value = BTreeMap<String, String>> {
    btree_map(".{0,8}", ".{0,8}", 0..4)
}

/// Headers whose keys no message gives a meaning.
fn extra() -> impl Strategy<Value = Headers> {
    btree_map(3000..4000_i32, bytes(), 0..4).prop_map(|map| map.into_iter().collect())
}

fn frame() -> impl Strategy<Value = Frame> {
    let headers = btree_map(any::<i32>(), bytes(), 0..8).prop_map(|map| map.into_iter().collect::<Headers>());
    (any::<i32>(), any::<i32>(), headers, bytes()).prop_map(|(content_type, sequence, headers, body)| Frame {
        content_type,
        sequence,
        headers,
        body,
    })
}

fn version() -> impl Strategy<Value = VersionInfo> {
    ("[^|]{0,8}", "[^|]{0,8}", "[^|]{0,8}", "[^|]{0,8}", "[^|]{0,8}")
        .prop_map(|(version, revision, build_date, os, arch)| VersionInfo { version, revision, build_date, os, arch })
}

fn window() -> impl Strategy<Value = Option<RenewalWindow>> {
    option::of(
        (any::<u64>(), any::<u64>()).prop_map(|(a, b)| RenewalWindow { from_unix_s: a.min(b), to_unix_s: a.max(b) }),
    )
}

fn exuvia() -> impl Strategy<Value = ExuviaAbilities> {
    (option::of(any::<u32>()), window(), option::of(any::<u64>()))
        .prop_map(|(version, window, renew_now)| ExuviaAbilities { version, window, renew_now })
}

fn hello() -> impl Strategy<Value = Hello> {
    let group = (any::<bool>(), option::of(".{0,8}"), option::of(bytes()))
        .prop_map(|(is_first, connection_id, secret)| GroupHello { is_first, connection_id, secret });
    let mask = any::<u128>().prop_map(Capabilities::from_bits);
    (".{1,12}", version(), option::of(group), option::of(".{0,8}"), mask, exuvia(), extra()).prop_map(
        |(id, version, group, underlay_type, capabilities, exuvia, extra)| Hello {
            id,
            version,
            group,
            underlay_type,
            capabilities,
            exuvia,
            extra,
        },
    )
}

fn accepted() -> impl Strategy<Value = AcceptedHello> {
    let cluster =
        (".{0,8}", option::of(".{0,8}"), any::<bool>()).prop_map(|(peer_address, cluster_id, is_preferred_leader)| {
            ClusterPlace { peer_address, cluster_id, is_preferred_leader }
        });
    let names = (option::of(".{0,8}"), option::of(".{0,8}"), option::of(".{0,8}"), option::of(version()));
    let mask = (1..u128::MAX).prop_map(Capabilities::from_bits);
    let flags = (mask, any::<bool>(), any::<bool>());
    (names, flags, option::of(bytes()), option::of(cluster), exuvia(), extra()).prop_map(
        |((connection_id, id, underlay_type, version), flags, secret, cluster, exuvia, extra)| AcceptedHello {
            connection_id,
            secret,
            id,
            version,
            capabilities: flags.0,
            has_legacy_mask: flags.1,
            underlay_type,
            is_grouped: flags.2,
            cluster,
            exuvia,
            extra,
        },
    )
}

fn endpoints() -> impl Strategy<Value = Vec<CtrlEndpoint>> {
    vec((".{0,8}", texts()).prop_map(|(address, groups)| CtrlEndpoint { address, groups }), 0..3)
}

fn listeners() -> impl Strategy<Value = Vec<LinkListener>> {
    let listener = (".{0,8}", ".{0,8}", texts(), ".{0,8}").prop_map(|(address, protocol, groups, local_binding)| {
        LinkListener { address, protocol, groups, local_binding }
    });
    vec(listener, 0..3)
}

fn events() -> impl Strategy<Value = Vec<ModelEvent>> {
    let key = (bytes(), ".{0,8}", vec(any::<i32>(), 0..3), any::<i32>()).prop_map(|(data, kid, usages, format)| {
        let usages = usages.into_iter().map(Into::into).collect();
        ModelSubject::PublicKey(PublicKey { data, kid, usages, format: format.into() })
    });
    let subject = prop_oneof![Just(ModelSubject::Other), key];
    let event = (any::<i32>(), any::<bool>(), subject).prop_map(|(action, is_synthetic, subject)| ModelEvent {
        action: action.into(),
        is_synthetic,
        subject,
    });
    vec(event, 0..4)
}

/// The message, written and read back.
macro_rules! again {
    ($message:expr, $type:ty) => {{
        let message = $message;
        let frame = Decoder::new(Limits::CHANNEL).decode_whole(&message.to_frame().to_bytes()).unwrap().unwrap();
        prop_assert_eq!(<$type>::from_frame(&frame), Ok(message));
    }};
}

proptest! {
    #[test]
    fn frames_come_back_however_they_are_cut(frames in vec(frame(), 1..4), step in 1..64_usize) {
        let mut sent = BytesMut::new();
        for frame in &frames {
            let before = sent.len();
            frame.encode(&mut sent);
            prop_assert_eq!(sent.len() - before, frame.encoded_bytes());
        }
        let (mut decoder, mut buf, mut came) = (Decoder::new(Limits::CHANNEL), BytesMut::new(), Vec::new());
        for piece in sent.chunks(step) {
            buf.extend_from_slice(piece);
            while let Some(frame) = decoder.decode(&mut buf).unwrap() {
                came.push(frame);
            }
        }
        prop_assert_eq!(came, frames);
        prop_assert!(buf.is_empty());
    }

    #[test]
    fn lists_and_maps_come_back(
        list in texts(),
        map in btree_map(any::<u32>(), bytes(), 0..4),
        texts in text_map(),
    ) {
        prop_assert_eq!(decode_list(&encode_list(&list).unwrap()), Ok(list));
        prop_assert_eq!(decode_bytes_map(&encode_bytes_map(&map).unwrap()), Ok(map));
        prop_assert_eq!(decode_text_map(&encode_text_map(&texts).unwrap()), Ok(texts));
    }

    #[test]
    fn hellos_come_back(hello in hello(), listeners in listeners(), endpoints in endpoints()) {
        again!(hello.clone(), Hello);
        let mut hello = hello;
        hello.set_link_listeners(&listeners);
        hello.set_ctrl_listeners(&endpoints);
        let came = Hello::from_frame(&hello.to_frame()).unwrap();
        prop_assert_eq!(came.link_listeners(), Ok(listeners));
        prop_assert_eq!(came.ctrl_listeners(), Ok(endpoints));
    }

    #[test]
    fn hello_answers_come_back(accepted in accepted(), text in ".{0,12}", class in any::<u32>()) {
        again!(HelloAnswer::Accepted(Box::new(accepted)), HelloAnswer);
        again!(HelloAnswer::Refused { text, class: RefusalClass::from(class) }, HelloAnswer);
    }

    #[test]
    fn the_messages_of_an_extension_come_back(a in ".{0,40}", b in ".{0,40}", c in ".{0,40}", flag in any::<bool>()) {
        let (client_csr_pem, server_csr_pem) = (a.clone(), b.clone());
        again!(ExtensionRequest { client_csr_pem, server_csr_pem, require_verification: flag }, ExtensionRequest);
        let (client_chain_pem, server_chain_pem, ca_pem) = (a.clone(), b.clone(), c.clone());
        again!(CertsResponse { client_chain_pem, server_chain_pem, ca_pem }, CertsResponse);
        again!(ExtensionVerify { client_chain_pem: a.clone() }, ExtensionVerify);
        again!(ErrorAnswer { code: a, message: b, cause: c }, ErrorAnswer);
    }

    #[test]
    fn messages_about_controllers_and_peers_come_back(
        (addresses, index, is_leader) in (texts(), any::<u64>(), any::<bool>()),
        controllers in vec((".{0,8}", endpoints()), 0..3),
        changes in vec((".{0,8}", ".{0,8}", any::<i32>(), listeners()), 0..3),
        (new_address, others) in (option::of(".{0,8}"), btree_map(2..100_i32, bytes(), 0..3)),
        window in window(),
    ) {
        let controllers = controllers.into_iter().map(|(id, endpoints)| ControllerEndpoints { id, endpoints }).collect();
        again!(UpdateCtrlAddresses { addresses, index, is_leader, controllers }, UpdateCtrlAddresses);
        again!(UpdateClusterLeader { index }, UpdateClusterLeader);
        again!(Settings { new_address, others }, Settings);
        if let Some((.., listeners)) = changes.first() {
            again!(UpdateLinkListeners { listeners: listeners.clone() }, UpdateLinkListeners);
        }
        let change = |(id, version, state, listeners): (String, String, i32, Vec<LinkListener>)| {
            PeerStateChange { id, version, state: state.into(), listeners }
        };
        again!(PeerStateChanges { changes: changes.into_iter().map(change).collect() }, PeerStateChanges);
        let advice = RenewalAdvice { window, renew_now: Some(index) };
        prop_assert_eq!(RenewalAdvice::from_frame(&advice.to_frame()), Some(advice));
    }

    #[test]
    fn reports_come_back(
        (id, name, list, map) in (".{0,8}", ".{0,8}", texts(), text_map()),
        (number, signed, flag) in (any::<u64>(), any::<i64>(), any::<bool>()),
        iteration in any::<u32>(),
    ) {
        again!(VerifyRouter { router_id: id.clone(), fingerprints: list.clone() }, VerifyRouter);
        let link = RouterLink {
            id: id.clone(),
            dest_router_id: name.clone(),
            link_protocol: id.clone(),
            dial_address: name.clone(),
            iteration,
        };
        again!(RouterLinks { links: vec![link.clone(), link], is_full_refresh: flag }, RouterLinks);
        let interface = NetworkInterface {
            name: name.clone(),
            hardware_address: id.clone(),
            mtu_bytes: signed,
            index: signed,
            flags: number,
            addresses: list.clone(),
        };
        again!(UpdateRouterInterfaces { interfaces: vec![interface] }, UpdateRouterInterfaces);
        let alert = Alert {
            source_type: id.clone(),
            source_id: name.clone(),
            at_unix_ms: signed,
            severity: id.clone(),
            message: name.clone(),
            details: list.clone(),
            related: map.clone(),
        };
        again!(Alerts { alerts: vec![alert] }, Alerts);
        again!(InspectRequest { names: list.clone() }, InspectRequest);
        let values = map.into_iter().collect();
        again!(InspectResponse { is_success: flag, errors: list, values }, InspectResponse);
    }

    #[test]
    fn terminators_and_circuits_come_back(
        (id, name, list, tags) in (".{0,8}", ".{0,8}", texts(), text_map()),
        (marker, number, flag) in (any::<u64>(), any::<i32>(), any::<bool>()),
        (attempt, code, peer_data) in (any::<u32>(), any::<u8>(), btree_map(any::<u32>(), bytes(), 0..3)),
    ) {
        let terminator = Terminator { id: id.clone(), binding: name.clone(), address: id.clone(), marker };
        let request = ValidateTerminatorsV2 { terminators: vec![terminator], fix_invalid: flag, is_after_create: !flag };
        prop_assert_eq!(request.none_known().states[&id].marker, marker);
        again!(request, ValidateTerminatorsV2);
        let state = TerminatorState { is_valid: flag, fault: number.into(), detail: name.clone(), marker };
        again!(ValidateTerminatorsV2Response { states: [(id.clone(), state)].into() }, ValidateTerminatorsV2Response);
        again!(RemoveTerminators { terminator_ids: list }, RemoveTerminators);
        let egress = Egress { binding: id.clone(), address: name.clone(), destination: id.clone(), peer_data };
        let forward = Forward { source: id.clone(), destination: name.clone(), kind: number.into() };
        let route = Route {
            circuit_id: id.clone(),
            attempt,
            egress: flag.then_some(egress),
            forwards: vec![forward],
            timeout_ns: marker,
            tags,
        };
        let refused = RouteResult::refused(&route, code, name.clone());
        prop_assert_eq!(&refused.failure, &Some(RouteFailure { code, text: name }));
        again!(route, Route);
        again!(refused, RouteResult);
        again!(RouteResult { circuit_id: id.clone(), attempt, failure: None }, RouteResult);
        again!(Unroute { circuit_id: id, is_now: flag }, Unroute);
    }

    #[test]
    fn messages_of_edge_routers_come_back(
        (version, data, list) in (".{0,8}", text_map(), texts()),
        (index, duration_s, flag, port) in (any::<u64>(), any::<u32>(), any::<bool>(), any::<i32>()),
        (events, subscription_id) in (events(), option::of(".{0,8}")),
        previous_index in any::<u64>(),
    ) {
        again!(ServerHello { version: version.clone(), data: data.clone(), has_data_model: flag }, ServerHello);
        let address = EdgeAddress { value: version.clone(), port, ..EdgeAddress::default() };
        let client = ClientHello {
            version: version.clone(),
            hostname: version.clone(),
            protocols: list.clone(),
            data,
            protocol_ports: list,
            listeners: vec![EdgeListener { address: Some(address.clone()), advertise: flag.then_some(address) }],
            has_data_model: flag,
            data_model_index: flag.then_some(index),
        };
        let greeting = Frame { sequence: 5, ..ServerHello::default().to_frame() };
        let reply = client.to_reply(&greeting);
        prop_assert_eq!(reply.reply_for(), Some(5));
        prop_assert_eq!(ClientHello::from_frame(&reply), Ok(client));
        let subscribe = SubscribeToDataModel {
            current_index: index,
            duration_s,
            is_renewal: flag,
            timeline_id: version.clone(),
            subscription_id: version.clone(),
        };
        again!(subscribe, SubscribeToDataModel);
        let state = DataState {
            events: events.clone(),
            end_index: index,
            timeline_id: version.clone(),
            subscription_id: subscription_id.clone(),
        };
        again!(state, DataState);
        let changes = DataStateChangeSet {
            index,
            is_synthetic: flag,
            changes: events,
            timeline_id: version,
            previous_index,
            subscription_id,
        };
        again!(changes, DataStateChangeSet);
        again!(CurrentIndex { index }, CurrentIndex);
    }

    #[test]
    fn replies_name_and_reflect_their_request(text in ".{0,8}", is_success: bool, is_busy: bool, sequence in 1..i32::MAX) {
        let mut request = Frame::new(1038, "");
        request.sequence = sequence;
        request.headers.set_u64(wire::header::REFLECTED, 77);
        let outcome = Outcome { is_success, text, is_busy };
        let reply = outcome.to_reply(&request);
        prop_assert_eq!(reply.reply_for(), Some(sequence));
        prop_assert_eq!(reply.headers.u64(wire::header::REFLECTED), Some(77));
        prop_assert_eq!(Outcome::from_frame(&reply), Ok(outcome));
    }
}

/// Found by fuzzing: the header is there, and nothing is in it.
#[test]
fn an_empty_legacy_mask_is_none_so_an_answer_with_one_is_the_same_when_it_is_sent_on() {
    let mut frame = HelloAnswer::Accepted(Box::default()).to_frame();
    frame.headers.insert(wire::header::LEGACY_CAPABILITIES, Bytes::new());
    let answer = HelloAnswer::from_frame(&frame).unwrap();
    assert!(matches!(&answer, HelloAnswer::Accepted(accepted) if !accepted.has_legacy_mask));
    assert_eq!(HelloAnswer::from_frame(&answer.to_frame()), Ok(answer));
}
