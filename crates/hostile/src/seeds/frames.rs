//! One frame of nearly every kind.

use bytes::Bytes;
use wire::Frame;
use wire::capability::Capabilities;
use wire::control::{
    Alert, Alerts, ControllerEndpoints, CtrlEndpoint, Egress, Forward, ForwardKind, InspectRequest, InspectResponse,
    LinkListener, NetworkInterface, PeerState, PeerStateChange, PeerStateChanges, RemoveTerminators, Route, RouterLink,
    RouterLinks, Settings, Unroute, UpdateClusterLeader, UpdateCtrlAddresses, UpdateLinkListeners,
    UpdateRouterInterfaces, VerifyRouter,
};
use wire::edge::{
    ClientHello, CurrentIndex, DataState, DataStateChangeSet, ModelEvent, PublicKey, ServerHello, SubscribeToDataModel,
};
use wire::extension::{CertsResponse, ErrorAnswer, ExtensionRequest, ExtensionVerify};
use wire::hello::{AcceptedHello, GroupHello, Hello, HelloAnswer, RefusalClass, RenewalAdvice};
use wire::outcome::{Outcome, ping};
use wire::version::VersionInfo;

pub(super) fn frames() -> Vec<Frame> {
    let version: VersionInfo = "v1.6.0|abc|2026-01-01|linux|amd64".parse().unwrap_or_default();
    let mut hello = Hello::new("router-1", version.clone());
    hello.group = Some(GroupHello::first());
    hello.underlay_type = Some("ctrl.default".to_owned());
    hello.capabilities = Capabilities::from_bits(0x42);
    let mut further = hello.clone();
    further.group = Some(GroupHello {
        is_first: false,
        connection_id: Some("c1".to_owned()),
        secret: Some(Bytes::from_static(b"not a secret")),
    });
    let accepted = AcceptedHello {
        connection_id: Some("c1".to_owned()),
        secret: Some(Bytes::from_static(b"not a secret")),
        id: Some("ctrl-1".to_owned()),
        version: Some(version),
        capabilities: Capabilities::from_bits(0x42),
        has_legacy_mask: true,
        is_grouped: true,
        ..AcceptedHello::default()
    };
    let refused = HelloAnswer::Refused { text: "no".to_owned(), class: RefusalClass::Unspecified };
    let chain = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
    let greeting = ServerHello::default().to_frame();
    let mut frames = vec![
        hello.to_frame(),
        further.to_frame(),
        HelloAnswer::Accepted(Box::new(accepted)).to_frame(),
        refused.to_frame(),
        ExtensionRequest { client_csr_pem: chain.into(), server_csr_pem: chain.into(), require_verification: true }
            .to_frame(),
        CertsResponse { client_chain_pem: chain.into(), server_chain_pem: chain.into(), ca_pem: String::new() }
            .to_frame(),
        ExtensionVerify { client_chain_pem: chain.into() }.to_frame(),
        ErrorAnswer { code: "COULD_NOT_UNMARSHAL".into(), message: "no".into(), cause: String::new() }.to_frame(),
        Settings {
            new_address: Some("tls:a.example.org:6262".into()),
            others: [(7, Bytes::from_static(b"x"))].into_iter().collect(),
        }
        .to_frame(),
        greeting.clone(),
        ClientHello::default().to_reply(&greeting),
        CurrentIndex { index: 7 }.to_frame(),
    ];
    frames.extend(control_frames());
    frames
}

fn control_frames() -> Vec<Frame> {
    let endpoint = CtrlEndpoint { address: "tls:a.example.org:6262".into(), groups: vec!["default".into()] };
    let listener = LinkListener {
        address: "tls:r.example.org:10080".into(),
        protocol: "tls".into(),
        groups: vec!["default".into()],
        local_binding: String::new(),
    };
    let change = PeerStateChange {
        id: "router-2".into(),
        version: "v1.6.0".into(),
        state: PeerState::Healthy,
        listeners: vec![listener.clone()],
    };
    let route = Route {
        circuit_id: "c".into(),
        attempt: 1,
        egress: Some(Egress { binding: "transport".into(), destination: "tcp:a:1".into(), ..Egress::default() }),
        forwards: vec![Forward { source: "s".into(), destination: "d".into(), kind: ForwardKind::Link }],
        timeout_ns: 5,
        tags: [("k".to_owned(), "v".to_owned())].into_iter().collect(),
    };
    let alert = Alert { severity: "error".into(), details: vec!["d".into()], ..Alert::default() };
    let link = RouterLink { id: "l".into(), dest_router_id: "router-2".into(), ..RouterLink::default() };
    let interface = NetworkInterface { name: "eth0".into(), mtu_bytes: 1500, flags: 35, ..NetworkInterface::default() };
    let key = ModelEvent::key_created(PublicKey { kid: "k".into(), ..PublicKey::default() });
    vec![
        Route::to_frame(&route),
        Unroute { circuit_id: "c".into(), is_now: true }.to_frame(),
        UpdateCtrlAddresses {
            addresses: vec![endpoint.address.clone()],
            index: 3,
            is_leader: true,
            controllers: vec![ControllerEndpoints { id: "ctrl-1".into(), endpoints: vec![endpoint] }],
        }
        .to_frame(),
        UpdateClusterLeader { index: 4 }.to_frame(),
        PeerStateChanges { changes: vec![change] }.to_frame(),
        UpdateLinkListeners { listeners: vec![listener] }.to_frame(),
        VerifyRouter { router_id: "router-2".into(), fingerprints: vec!["00".repeat(20)] }.to_frame(),
        RouterLinks { links: vec![link], is_full_refresh: true }.to_frame(),
        UpdateRouterInterfaces { interfaces: vec![interface] }.to_frame(),
        Alerts { alerts: vec![alert] }.to_frame(),
        InspectRequest::default().to_frame(),
        InspectResponse::default().to_frame(),
        RemoveTerminators::default().to_frame(),
        DataState { events: vec![key.clone()], ..DataState::default() }.to_frame(),
        DataStateChangeSet { changes: vec![key], ..DataStateChangeSet::default() }.to_frame(),
        SubscribeToDataModel::default().to_frame(),
        RenewalAdvice::default().to_frame(),
        Outcome::success("ok").to_reply(&ping()),
        ping(),
    ]
}
