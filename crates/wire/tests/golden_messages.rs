//! The bodies of messages, field by field by upstream's tags: a round trip alone would not notice a wrong tag.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests are claims")]

use wire::control::{
    Alert, Alerts, ControllerEndpoints, CtrlEndpoint, Egress, Forward, ForwardKind, InspectRequest, InspectResponse,
    LinkListener, NetworkInterface, PeerState, PeerStateChange, PeerStateChanges, RemoveTerminators, Route,
    RouteResult, RouterLink, RouterLinks, Settings, Terminator, TerminatorFault, TerminatorState, Unroute,
    UpdateClusterLeader, UpdateCtrlAddresses, UpdateRouterInterfaces, ValidateTerminatorsV2,
    ValidateTerminatorsV2Response, VerifyRouter, route_failure,
};
use wire::edge::{
    ClientHello, CurrentIndex, DataState, DataStateChangeSet, EdgeAddress, EdgeListener, KeyFormat, KeyUsage,
    ModelEvent, ModelSubject, PublicKey, ServerHello, SubscribeToDataModel,
};
use wire::extension::{CertsResponse, ErrorAnswer, ExtensionRequest, ExtensionVerify};
use wire::outcome::{Outcome, answer_to, latency_ns, latency_probe, latency_response, ping};
use wire::{Frame, header};

/// A field of bytes, text or a message. Tags and lengths here take one byte, tags from 16 on two.
fn field(tag: u8, content: impl AsRef<[u8]>) -> Vec<u8> {
    let content = content.as_ref();
    [key(tag, 2), vec![u8::try_from(content.len()).unwrap()], content.to_vec()].concat()
}

/// A field of a number under 128.
fn number(tag: u8, value: u8) -> Vec<u8> {
    [key(tag, 0), vec![value]].concat()
}

fn key(tag: u8, kind: u8) -> Vec<u8> {
    match u16::from(tag) << 3 | u16::from(kind) {
        key @ 0..128 => vec![u8::try_from(key).unwrap()],
        key => vec![u8::try_from(key & 127).unwrap() | 128, u8::try_from(key >> 7).unwrap()],
    }
}

fn s(text: &str) -> String {
    text.to_owned()
}

fn check(frame: &Frame, content_type: i32, fields: &[Vec<u8>]) {
    assert_eq!(frame.content_type, content_type);
    assert_eq!(frame.body, fields.concat(), "{content_type}");
}

#[test]
fn the_messages_of_an_extension_have_upstreams_tags() {
    let request =
        ExtensionRequest { client_csr_pem: s("a"), server_csr_pem: s("b"), require_verification: true }.to_frame();
    assert_eq!(request.body, [0x0a, 1, b'a', 0x12, 1, b'b', 0x18, 1].as_slice());
    assert_eq!(request.content_type, 20302);
    let certs = CertsResponse { client_chain_pem: s("a"), server_chain_pem: s("b"), ca_pem: s("c") };
    check(&certs.to_frame(), 20301, &[field(1, "a"), field(2, "b"), field(3, "c")]);
    assert_eq!(certs.to_frame().reply_for(), None);
    check(&ExtensionVerify { client_chain_pem: s("a") }.to_frame(), 20303, &[field(1, "a")]);
    let error = ErrorAnswer { code: s("a"), message: s("b"), cause: s("c") };
    check(&error.to_frame(), 20002, &[field(1, "a"), field(2, "b"), field(3, "c")]);
    let reply = ErrorAnswer::success().to_reply(&Frame { sequence: 8, ..request });
    assert_eq!((reply.reply_for(), reply.body.len()), (Some(8), 0));
}

#[test]
fn the_messages_about_controllers_and_peers_have_upstreams_tags() {
    let endpoint = CtrlEndpoint { address: s("tls:c:1"), groups: vec![s("g")] };
    let update = UpdateCtrlAddresses {
        addresses: vec![s("tls:c:1")],
        index: 7,
        is_leader: true,
        controllers: vec![ControllerEndpoints { id: s("c"), endpoints: vec![endpoint] }],
    };
    let detail = [field(1, "c"), field(2, [field(1, "tls:c:1"), field(2, "g")].concat())].concat();
    check(&update.to_frame(), 1037, &[field(1, "tls:c:1"), number(2, 7), number(3, 1), field(4, detail)]);
    check(&UpdateClusterLeader { index: 9 }.to_frame(), 1051, &[number(1, 9)]);
    check(&wire::control::request_cluster_members(), 1055, &[]);
    let settings = Settings { new_address: Some(s("tls:c:2")), others: [(3, vec![9].into())].into() };
    let fields =
        [field(1, [number(1, 1), field(2, "tls:c:2")].concat()), field(1, [number(1, 3), field(2, [9])].concat())];
    check(&settings.to_frame(), 1020, &fields);
    let listener = LinkListener { address: s("a"), protocol: s("p"), groups: vec![s("g")], local_binding: s("l") };
    let change = PeerStateChange { id: s("r"), version: s("v"), state: PeerState::Removed, listeners: vec![listener] };
    let listener = [field(1, "a"), field(2, "p"), field(4, "g"), field(5, "l")].concat();
    let change_bytes = [field(1, "r"), field(2, "v"), number(3, 2), field(4, listener)].concat();
    check(&PeerStateChanges { changes: vec![change] }.to_frame(), 1050, &[field(1, change_bytes)]);
}

#[test]
fn reports_have_upstreams_tags() {
    let verify = VerifyRouter { router_id: s("r"), fingerprints: vec![s("f"), s("g")] };
    check(&verify.to_frame(), 1036, &[field(1, "r"), field(2, "f"), field(2, "g")]);
    let link =
        RouterLink { id: s("l"), dest_router_id: s("d"), link_protocol: s("tls"), dial_address: s("a"), iteration: 4 };
    let links = RouterLinks { links: vec![link], is_full_refresh: true };
    let link = [field(1, "l"), field(2, "d"), field(3, "tls"), field(5, "a"), number(6, 4)].concat();
    check(&links.to_frame(), 1035, &[field(1, link), number(2, 1)]);
    let interface = NetworkInterface {
        name: s("lo"),
        hardware_address: s("m"),
        mtu_bytes: 100,
        index: 1,
        flags: 5,
        addresses: vec![s("::1")],
    };
    let fields = [field(1, "lo"), field(2, "m"), number(3, 100), number(4, 1), number(5, 5), field(6, "::1")].concat();
    check(&UpdateRouterInterfaces { interfaces: vec![interface] }.to_frame(), 1052, &[field(1, fields)]);
    let alert = Alert {
        source_type: s("t"),
        source_id: s("i"),
        at_unix_ms: 3,
        severity: s("s"),
        message: s("m"),
        details: vec![s("d")],
        related: [(s("k"), s("v"))].into(),
    };
    let related = field(7, [field(1, "k"), field(2, "v")].concat());
    let fields =
        [field(1, "t"), field(2, "i"), number(3, 3), field(4, "s"), field(5, "m"), field(6, "d"), related].concat();
    check(&Alerts { alerts: vec![alert] }.to_frame(), 1054, &[field(1, fields)]);
    check(&InspectRequest { names: vec![s("links")] }.to_frame(), 1013, &[field(1, "links")]);
    let response = InspectResponse { is_success: true, errors: vec![s("e")], values: vec![(s("links"), s("{}"))] };
    let value = [field(1, "links"), field(2, "{}")].concat();
    check(&response.to_frame(), 1014, &[number(1, 1), field(2, "e"), field(3, value)]);
    assert_eq!(wire::control::quiesce().content_type, 1039);
    assert_eq!(wire::control::dequiesce().content_type, 1040);
}

#[test]
fn terminators_and_circuits_have_upstreams_tags() {
    let terminator = Terminator { id: s("t"), binding: s("b"), address: s("a"), marker: 6 };
    let request = ValidateTerminatorsV2 { terminators: vec![terminator], fix_invalid: true, is_after_create: true };
    let fields = [field(1, "t"), field(2, "b"), field(3, "a"), number(4, 6)].concat();
    check(&request.to_frame(), 1041, &[field(1, fields), number(2, 1), number(3, 1)]);
    let state = TerminatorState { is_valid: true, fault: TerminatorFault::BadState, detail: s("d"), marker: 6 };
    let response = ValidateTerminatorsV2Response { states: [(s("t"), state)].into() };
    let state = [number(1, 1), number(2, 2), field(3, "d"), number(4, 6)].concat();
    check(&response.to_frame(), 1042, &[field(1, [field(1, "t"), field(2, state)].concat())]);
    check(&RemoveTerminators { terminator_ids: vec![s("t")] }.to_frame(), 1038, &[field(1, "t")]);
    let route = Route {
        circuit_id: s("c"),
        attempt: 1,
        egress: Some(Egress {
            binding: s("b"),
            address: s("a"),
            destination: s("d"),
            peer_data: [(5, vec![1].into())].into(),
        }),
        forwards: vec![Forward { source: s("x"), destination: s("y"), kind: ForwardKind::Link }],
        timeout_ns: 9,
        tags: [(s("k"), s("v"))].into(),
    };
    let peer_data = field(4, [number(1, 5), field(2, [1])].concat());
    let fields = [
        field(1, "c"),
        number(2, 1),
        field(3, [field(1, "b"), field(2, "a"), field(3, "d"), peer_data].concat()),
        field(4, [field(1, "x"), field(2, "y"), number(3, 2)].concat()),
        number(6, 9),
        field(7, [field(1, "k"), field(2, "v")].concat()),
    ];
    check(&route.to_frame(), 1005, &fields);
    check(&Unroute { circuit_id: s("c"), is_now: true }.to_frame(), 1006, &[field(1, "c"), number(2, 1)]);
    let request = Frame { sequence: 3, ..route.to_frame() };
    let refusal =
        RouteResult::refused(&route, route_failure::MISCONFIGURED_TERMINATOR, "no circuits").to_reply(&request);
    check(&refusal, 1022, &[b"c".to_vec()]);
    assert_eq!((refusal.reply_for(), refusal.headers.u32(1101), refusal.headers.u8(1104)), (Some(3), Some(1), Some(2)));
    assert!(!refusal.headers.contains(header::ROUTE_SUCCESS), "its mere presence would mean success");
}

#[test]
fn the_messages_of_edge_routers_have_upstreams_tags() {
    let server = ServerHello { version: s("v"), data: [(s("k"), s("v"))].into(), has_data_model: true }.to_frame();
    check(&server, 20000, &[field(1, "v"), field(2, [field(1, "k"), field(2, "v")].concat())]);
    assert_eq!(server.headers.bool(1024), Some(true));
    let address = EdgeAddress { value: s("a"), protocol: s("tls"), hostname: s("h"), port: 80 };
    let client = ClientHello {
        version: s("v"),
        hostname: s("h"),
        protocols: vec![s("tls")],
        data: [(s("k"), s("v"))].into(),
        protocol_ports: vec![s("tls:80")],
        listeners: vec![EdgeListener { address: Some(address.clone()), advertise: Some(address) }],
        has_data_model: true,
        data_model_index: Some(6),
    };
    let address = [field(10, "a"), field(20, "tls"), field(30, "h"), number(40, 80)].concat();
    let fields = [
        field(1, "v"),
        field(2, "h"),
        field(3, "tls"),
        field(4, [field(1, "k"), field(2, "v")].concat()),
        field(5, "tls:80"),
        field(10, [field(10, &address), field(20, &address)].concat()),
    ];
    let reply = client.to_reply(&Frame { sequence: 4, ..server });
    check(&reply, 20001, &fields);
    assert_eq!((reply.reply_for(), reply.headers.u64(1025)), (Some(4), Some(6)));
    let subscribe = SubscribeToDataModel {
        current_index: 1,
        duration_s: 100,
        is_renewal: true,
        timeline_id: s("t"),
        subscription_id: s("s"),
    };
    let fields = [number(1, 1), number(2, 100), number(3, 1), field(4, "t"), field(5, "s")];
    check(&subscribe.to_frame(), 20505, &fields);
    assert_eq!(CurrentIndex { index: 8 }.to_frame().headers.u64(1025), Some(8));
}

#[test]
fn the_data_model_has_upstreams_tags_and_other_subjects_are_passed_over() {
    let key = PublicKey {
        data: vec![1, 2].into(),
        kid: s("k"),
        usages: vec![KeyUsage::ClientCertValidation],
        format: KeyFormat::PkixPublicKey,
    };
    let key_bytes = [field(1, [1, 2]), field(2, "k"), field(3, [1]), number(4, 1)].concat();
    let event = ModelEvent { is_synthetic: true, ..ModelEvent::key_created(key) };
    let event_bytes = [number(3, 1), field(14, key_bytes)].concat();
    let state =
        DataState { events: vec![event.clone()], end_index: 5, timeline_id: s("t"), subscription_id: Some(s("s")) };
    let fields = [field(1, &event_bytes), number(2, 5), field(3, "t")];
    check(&state.to_frame(), 20500, &fields);
    assert_eq!(state.to_frame().headers.text(1026), Some("s"));
    let changes = DataStateChangeSet {
        index: 5,
        is_synthetic: true,
        changes: vec![event],
        timeline_id: s("t"),
        previous_index: 4,
        subscription_id: None,
    };
    let fields = [number(1, 5), number(2, 1), field(3, event_bytes), field(4, "t"), number(5, 4)];
    check(&changes.to_frame(), 20501, &fields);
    let identity = field(1, [number(1, 1), field(10, field(1, "id"))].concat());
    let state = DataState::from_frame(&Frame::new(20500, identity)).unwrap();
    assert_eq!(state.events[0].subject, ModelSubject::Other);
}

#[test]
fn numbers_from_the_future_survive() {
    let change = field(1, [field(1, "r"), number(3, 77)].concat());
    let changes = PeerStateChanges::from_frame(&Frame::new(1050, change.clone())).unwrap();
    assert_eq!(changes.changes[0].state, PeerState::Other(77));
    assert_eq!(changes.to_frame().body, change);
}

#[test]
fn pings_and_latency_probes_are_answered_as_upstream_answers_them() {
    let ping = Frame { sequence: 3, ..ping() };
    let pong = answer_to(&ping).unwrap();
    assert_eq!((pong.content_type, pong.reply_for()), (2, Some(3)));
    assert_eq!(Outcome::from_frame(&pong), Ok(Outcome::success("ok")));
    let probe = Frame { sequence: 4, ..latency_probe(1_000) };
    let answer = answer_to(&probe).unwrap();
    assert_eq!((answer.content_type, answer.reply_for(), answer.body.len()), (2, Some(4), 0));
    assert_eq!(latency_ns(&answer, 1_500), Some(500));
    let other = latency_response(&probe);
    assert_eq!((other.content_type, other.reply_for(), latency_ns(&other, 1_700)), (4, None, Some(700)));
    assert_eq!(answer_to(&other), None);
}
