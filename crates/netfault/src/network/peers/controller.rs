//! A controller with OpenZiti's rules: one fingerprint, swapped by 20303, silence on refusal.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lifecycle::{Fingerprint, RouterId};
use net::channel::{Channel, ChannelSettings, Event, Events};
use net::listen::{Admission, Admitted, Applicant, Channels, ControlListener, ListenLimits, Opened, Refusal};
use net::stop::Stop;
use pki::{Certificate, Chain, Csr, Profile, validity};
use tokio::net::TcpListener;
use wire::capability::Capabilities;
use wire::content_type;
use wire::extension::{CertsResponse, ErrorAnswer, ExtensionRequest, ExtensionVerify, error_code};
use wire::hello::AcceptedHello;
use wire::version::VersionInfo;

use super::now;
use crate::proxy::{ControllerKeys, locked};

/// When a controller forgets the old leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// When 20303 comes: the verified extension.
    Verified,
    /// Before it sends 20301: the unverified extension, and the one over HTTP.
    Unverified,
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    admitted: Option<Fingerprint>,
    pending: Option<Fingerprint>,
}

struct State {
    keys: Arc<ControllerKeys>,
    flow: Flow,
    leaf_life: Duration,
    register: Mutex<BTreeMap<String, Entry>>,
}

/// Runs until it is dropped.
pub struct StockController {
    address: SocketAddr,
    state: Arc<State>,
    stop: Stop,
}

impl std::fmt::Debug for StockController {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StockController").field("address", &self.address).finish_non_exhaustive()
    }
}

impl StockController {
    /// Listens on any port of the loopback.
    ///
    /// # Errors
    /// When none is free.
    pub async fn start(keys: Arc<ControllerKeys>, flow: Flow, leaf_life: Duration) -> std::io::Result<Self> {
        Self::start_at((Ipv4Addr::LOCALHOST, 0).into(), keys, flow, leaf_life).await
    }

    /// Listens there.
    ///
    /// # Errors
    /// When the port is taken.
    pub async fn start_at(
        at: SocketAddr,
        keys: Arc<ControllerKeys>,
        flow: Flow,
        leaf_life: Duration,
    ) -> std::io::Result<Self> {
        let listener = TcpListener::bind(at).await?;
        let address = listener.local_addr()?;
        let state = Arc::new(State { keys: keys.clone(), flow, leaf_life, register: Mutex::default() });
        let (stop, stopped) = Stop::new();
        let door = ControlListener {
            credentials: keys.slot.clone(),
            admission: Arc::new(Door(state.clone())),
            channels: Channels::new(),
            settings: ChannelSettings::accepting(),
            limits: ListenLimits::default(),
            http: None,
        };
        tokio::spawn(door.serve(listener, stopped));
        Ok(Self { address, state, stop })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// This router is enrolled, with this leaf.
    pub fn enroll(&self, router: &str, leaf: Fingerprint) {
        let entry = Entry { admitted: Some(leaf), pending: None };
        locked(&self.state.register).insert(router.to_owned(), entry);
    }

    /// The one leaf that it admits.
    pub fn admitted(&self, router: &str) -> Option<Fingerprint> {
        self.state.admitted(router)
    }
}

impl Drop for StockController {
    fn drop(&mut self) {
        self.stop.stop();
    }
}

impl State {
    fn admitted(&self, router: &str) -> Option<Fingerprint> {
        locked(&self.register).get(router).and_then(|entry| entry.admitted)
    }

    /// 20302: the asker is found by the leaf of the newest underlay, and by nothing else; otherwise silence.
    fn extend(&self, router: &str, shown: Option<Fingerprint>, request: &ExtensionRequest) -> Option<CertsResponse> {
        let client = Csr::from_pem(request.client_csr_pem.as_bytes()).ok()?;
        let server = Csr::from_pem(request.server_csr_pem.as_bytes()).ok()?;
        let life = validity(now(), self.leaf_life, self.keys.issuer.not_after()).ok()?;
        let mut register = locked(&self.register);
        let entry = register.get_mut(router)?;
        if shown.is_none() || shown != entry.admitted {
            return None;
        }
        let sign = |csr, profile| self.keys.issuer.issue(csr, router, profile, &life).ok();
        let (client, server): (Chain, Chain) = (sign(&client, Profile::Client)?, sign(&server, Profile::Server)?);
        let fingerprint = client.leaf().fingerprint();
        match self.flow {
            Flow::Verified if request.require_verification => entry.pending = Some(fingerprint),
            Flow::Verified | Flow::Unverified => *entry = Entry { admitted: Some(fingerprint), pending: None },
        }
        Some(CertsResponse {
            client_chain_pem: client.to_pem(),
            server_chain_pem: server.to_pem(),
            ca_pem: String::new(),
        })
    }

    /// 20303: the swap.
    fn verify(&self, router: &str, verify: &ExtensionVerify) -> ErrorAnswer {
        let Ok(chain) = Chain::from_pem(verify.client_chain_pem.as_bytes()) else {
            return ErrorAnswer::failure(error_code::MISSING_CLIENT_PEM, "no certificate");
        };
        match locked(&self.register).get_mut(router) {
            None => ErrorAnswer::failure(error_code::ROUTER_NOT_FOUND, "no such router"),
            Some(Entry { pending: None, .. }) => {
                ErrorAnswer::failure(error_code::INVALID_ROUTER_STATE, "nothing is pending")
            }
            Some(entry) if entry.pending == Some(chain.leaf().fingerprint()) => {
                *entry = Entry { admitted: entry.pending, pending: None };
                ErrorAnswer::success()
            }
            Some(_) => ErrorAnswer::failure(error_code::INVALID_CLIENT_PEM, "not what is pending"),
        }
    }
}

struct Door(Arc<State>);

impl Admission for Door {
    type Standing = String;

    async fn admit(&self, applicant: Applicant) -> Result<Admitted<String>, Refusal> {
        let leaf = Certificate::from_der(applicant.peer.leaf()).map_err(|error| Refusal::silent(error.to_string()))?;
        let router = applicant.hello.id.clone();
        if leaf.cn() != Some(router.as_str()) || self.0.admitted(&router) != Some(leaf.fingerprint()) {
            return Err(Refusal::silent("not its fingerprint"));
        }
        let answer = AcceptedHello {
            id: Some("stock".to_owned()),
            version: Some(VersionInfo { version: "v2.1.0".to_owned(), ..VersionInfo::default() }),
            capabilities: Capabilities::CONTROLLER,
            has_legacy_mask: true,
            ..AcceptedHello::default()
        };
        Ok(Admitted { router: RouterId::new(router.clone()), answer, standing: router })
    }

    fn opened(&self, opened: Opened<String>) {
        tokio::spawn(serve(self.0.clone(), opened.standing, opened.channel, opened.events));
    }
}

async fn serve(state: Arc<State>, router: String, channel: Channel, mut events: Events) {
    while let Some(event) = events.next().await {
        let Event::Message { frame, .. } = event else { continue };
        match frame.content_type {
            content_type::EXTENSION_REQUEST => {
                let Ok(request) = ExtensionRequest::from_frame(&frame) else { continue };
                let newest = channel.underlays().pop().and_then(|underlay| underlay.peer);
                if let Some(certs) = state.extend(&router, newest.map(|peer| peer.fingerprint()), &request) {
                    let _ = channel.send(certs.to_frame()).await;
                }
            }
            content_type::EXTENSION_VERIFY => {
                let Ok(verify) = ExtensionVerify::from_frame(&frame) else { continue };
                let answer = state.verify(&router, &verify);
                let _ = channel.reply(&frame, answer.to_reply(&frame)).await;
            }
            _ => {}
        }
    }
}
