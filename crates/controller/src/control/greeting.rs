//! What this controller says of itself: in the answer to a hello, right after it, and as its data model.
//!
//! What a stock router insists on is in `openziti/ziti:router/env/ctrls.go`: five version fields, capability bit 6, a group
//! secret; and it never dials again after its channel was closed unless it has learnt the controller's id from
//! UpdateCtrlAddresses.

use pki::{Certificate, TrustBundle};
use wire::Frame;
use wire::capability::Capabilities;
use wire::control::{ControllerEndpoints, CtrlEndpoint, UpdateCtrlAddresses};
use wire::edge::{DataState, KeyFormat, KeyUsage, ModelEvent, PublicKey, ServerHello, SubscribeToDataModel};
use wire::hello::{AcceptedHello, ExuviaAbilities, RenewalAdvice};
use wire::version::VersionInfo;

/// The release of OpenZiti that our control plane is like. Stock routers compare it with what they need.
pub const COMPATIBLE_RELEASE: &str = "v2.0.0";

/// Who this controller is.
#[derive(Clone, Debug)]
pub struct Greeting {
    controller_id: String,
    version: VersionInfo,
    addresses: UpdateCtrlAddresses,
    model: DataState,
}

/// What [`Greeting`] is made of.
#[derive(Clone, Debug)]
pub struct GreetingParts<'a> {
    /// Id that routers know this controller by.
    pub controller_id: &'a str,
    /// What routers are told to dial, such as `tls:ctrl.example.org:6262`.
    pub advertised: &'a str,
    /// Grows whenever the addresses may have changed; at least 1.
    pub addresses_index: u64,
    /// Constant for the life of the register.
    pub timeline_id: &'a str,
    /// Anchors of client certificates.
    pub bundle: &'a TrustBundle,
    /// Signs tokens.
    pub token_certificate: &'a Certificate,
}

impl Greeting {
    /// What to say.
    pub fn new(parts: &GreetingParts<'_>) -> Self {
        let endpoints = vec![CtrlEndpoint { address: parts.advertised.to_owned(), groups: Vec::new() }];
        Self {
            controller_id: parts.controller_id.to_owned(),
            version: version(),
            addresses: UpdateCtrlAddresses {
                addresses: vec![parts.advertised.to_owned()],
                index: parts.addresses_index.max(1),
                is_leader: true,
                controllers: vec![ControllerEndpoints { id: parts.controller_id.to_owned(), endpoints }],
            },
            model: model(parts),
        }
    }

    /// The answer to a hello. Without abilities of the peer, nothing in it differs from a stock controller's.
    pub(super) fn answer(&self, peer: ExuviaAbilities, advice: RenewalAdvice) -> AcceptedHello {
        let exuvia = match peer.version {
            None => ExuviaAbilities::default(),
            Some(_) => {
                ExuviaAbilities { window: advice.window, renew_now: advice.renew_now, ..ExuviaAbilities::announced() }
            }
        };
        AcceptedHello {
            id: Some(self.controller_id.clone()),
            version: Some(self.version.clone()),
            capabilities: Capabilities::CONTROLLER,
            has_legacy_mask: true,
            exuvia,
            ..AcceptedHello::default()
        }
    }

    /// Where controllers are.
    pub(super) fn addresses(&self) -> Frame {
        self.addresses.to_frame()
    }

    /// The greeting of an edge router; it answers with its host name and listeners.
    pub(super) fn server_hello(&self) -> Frame {
        let data = ["instant", "routerModel"].into_iter().map(|name| (name.to_owned(), "true".to_owned())).collect();
        ServerHello { version: self.version.version.clone(), data, has_data_model: true }.to_frame()
    }

    /// The data model, if the subscriber does not have it already. It holds what an edge listener needs to trust client
    /// certificates, and nothing else.
    pub(super) fn data_state(&self, asked: &SubscribeToDataModel) -> Option<Frame> {
        let has_it = asked.current_index == self.model.end_index && asked.timeline_id == self.model.timeline_id;
        (!has_it).then(|| {
            DataState { subscription_id: Some(asked.subscription_id.clone()), ..self.model.clone() }.to_frame()
        })
    }
}

fn version() -> VersionInfo {
    VersionInfo {
        version: COMPATIBLE_RELEASE.to_owned(),
        revision: option_env!("EXUVIA_REVISION").unwrap_or(concat!("exuvia-", env!("CARGO_PKG_VERSION"))).to_owned(),
        build_date: option_env!("EXUVIA_BUILD_DATE").unwrap_or("unknown").to_owned(),
        os: std::env::consts::OS.to_owned(),
        arch: match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        }
        .to_owned(),
    }
}

/// The index is that of the youngest certificate, in unix seconds: the same after a restart, greater after a change.
fn model(parts: &GreetingParts<'_>) -> DataState {
    let key = |certificate: &Certificate, usage| PublicKey {
        data: certificate.der().to_vec().into(),
        kid: certificate.fingerprint_sha1().to_string(),
        usages: vec![usage],
        format: KeyFormat::X509CertDer,
    };
    let anchors = parts.bundle.certificates().iter().map(|ca| key(ca, KeyUsage::ClientCertValidation));
    let keys: Vec<_> = anchors.chain([key(parts.token_certificate, KeyUsage::JwtValidation)]).collect();
    let certificates = parts.bundle.certificates().iter().chain([parts.token_certificate]);
    let youngest = certificates.map(|certificate| certificate.not_before().as_s()).max().unwrap_or(1);
    DataState {
        events: keys.into_iter().map(ModelEvent::key_created).collect(),
        end_index: u64::try_from(youngest).unwrap_or(1).max(1),
        timeline_id: parts.timeline_id.to_owned(),
        subscription_id: None,
    }
}
