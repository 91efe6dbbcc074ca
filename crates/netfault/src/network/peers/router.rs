//! A router's half of a renewal: what it does with an answer, and what a restart of it would find.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use net::channel::{Channel, ChannelSettings, Event, Events, LastUnderlay};
use net::connect::ConnectTimeouts;
use net::credentials::Credentials;
use net::dial::{Connected, ControlDial, DialError, dial};
use pki::{Chain, Sans, Subject, TrustBundle, build_csr};
use tokio::time::{Instant, sleep, timeout_at};
use wire::capability::Capabilities;
use wire::content_type;
use wire::extension::{CertsResponse, ErrorAnswer, ExtensionRequest, ExtensionVerify};
use wire::hello::{CTRL_DEFAULT, GroupHello, Hello};
use wire::version::VersionInfo;

use super::Identity;
use crate::proxy::{KnownKeys, locked};

/// 35 s upstream.
const ASK_AGAIN: Duration = Duration::from_millis(350);
/// 30 s upstream.
const ANSWER: Duration = Duration::from_millis(300);
/// For each part of a dial that may meet a fault.
const IMPATIENT: Duration = Duration::from_millis(700);
/// For each part of a dial on a free way.
const PATIENT: Duration = Duration::from_secs(5);
/// A connection may be closed once because the one before was only just lost.
const REFUSALS: u32 = 4;
const BETWEEN_DIALS: Duration = Duration::from_millis(40);

/// What a router does with the answer to a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Habit {
    /// OpenZiti: the new chain lives in a variable until 20002 says yes, then replaces the file.
    WriteAfterAnswer,
    /// OpenZiti without verification: the new chain replaces the file when it comes.
    WriteOnReceipt,
    /// As Exuvia: the new chain lies beside the old one before 20303 leaves, and both are tried.
    KeepBoth,
}

/// What a restart finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// A controller lets it in.
    Admitted,
    /// A controller refuses everything that its files hold: it is locked out.
    Refused,
    /// Nobody said yes or no.
    Unanswered,
}

/// A router without a process. What its files would hold outlives every [`RouterModel::renew`].
#[derive(Debug)]
pub struct RouterModel {
    id: String,
    habit: Habit,
    /// Newest first.
    files: Mutex<Vec<Identity>>,
    keys: KnownKeys,
    bundle: TrustBundle,
}

impl RouterModel {
    /// A router with this identity in its files.
    pub fn new(id: &str, habit: Habit, first: Identity, bundle: TrustBundle) -> Self {
        let keys = KnownKeys::default();
        keys.add(&first.client, &first.key);
        Self { id: id.to_owned(), habit, files: Mutex::new(vec![first]), keys, bundle }
    }

    /// Its keys, for the proxy.
    pub fn keys(&self) -> KnownKeys {
        self.keys.clone()
    }

    /// A restart with what the files hold. Only an answer decides: a handshake that was finished and then closed, for every leaf, more
    /// than once; or an admission. Where nobody answers in time, there is no verdict.
    pub async fn restarted(&self, at: SocketAddr, within: Duration) -> Restart {
        let deadline = Instant::now() + within;
        let files = locked(&self.files).clone();
        let mut refusals = vec![0_u32; files.len()];
        loop {
            for (identity, refusals) in files.iter().zip(&mut refusals) {
                // Files that cannot be loaded are a router that does not start.
                let Ok(credentials) = identity.credentials(&self.bundle) else {
                    *refusals = REFUSALS;
                    continue;
                };
                match dial(&at.into(), &self.order(credentials, PATIENT)).await {
                    Ok(_) => return Restart::Admitted,
                    Err(
                        DialError::ClosedWithoutAnswer { .. } | DialError::Refused { .. } | DialError::Alert { .. },
                    ) => {
                        *refusals += 1;
                    }
                    Err(_) => {}
                }
            }
            if refusals.iter().all(|refusals| *refusals >= REFUSALS) {
                return Restart::Refused;
            }
            if Instant::now() >= deadline {
                return Restart::Unanswered;
            }
            sleep(BETWEEN_DIALS).await;
        }
    }

    fn order(&self, credentials: Arc<Credentials>, each: Duration) -> ControlDial {
        let version = VersionInfo { version: "v2.1.0".to_owned(), ..VersionInfo::default() };
        let mut hello = Hello::new(&self.id, version);
        hello.group = Some(GroupHello::first());
        hello.underlay_type = Some(CTRL_DEFAULT.to_owned());
        hello.capabilities = Capabilities::ROUTER;
        let timeouts = ConnectTimeouts { connect: each, handshake: each, answer: each };
        ControlDial { credentials, hello, timeouts }
    }

    async fn connect(&self, at: SocketAddr) -> Option<Connected> {
        let files = locked(&self.files).clone();
        for identity in files {
            let Ok(credentials) = identity.credentials(&self.bundle) else { continue };
            if let Ok(connected) = dial(&at.into(), &self.order(credentials, IMPATIENT)).await {
                return Some(connected);
            }
        }
        None
    }

    /// One life of its process with a renewal in it: connects, asks again and again, does with the answers what its habit is. `true` as
    /// soon as a renewal is done by its own lights. Dropping the future is a kill. `connected` is called once it is connected.
    pub async fn renew(&self, at: SocketAddr, within: Duration, connected: impl FnOnce()) -> bool {
        let deadline = Instant::now() + within;
        let mut connected = Some(connected);
        while Instant::now() < deadline {
            let Some(line) = self.connect(at).await else {
                sleep(BETWEEN_DIALS).await;
                continue;
            };
            let settings = ChannelSettings { last_underlay: LastUnderlay::Closes, ..ChannelSettings::dialing() };
            let (channel, mut events) = line.open(settings);
            if let Some(connected) = connected.take() {
                connected();
            }
            while Instant::now() < deadline && channel.close_reason().is_none() {
                if self.attempt(&channel, &mut events).await {
                    return true;
                }
            }
        }
        false
    }

    async fn attempt(&self, channel: &Channel, events: &mut Events) -> bool {
        let again = Instant::now() + ASK_AGAIN;
        let Some(current) = locked(&self.files).first().cloned() else { return false };
        let subject = Subject::common_name(&self.id).ok();
        let csr = subject.and_then(|subject| build_csr(&current.key, &subject, &Sans::default()).ok());
        let Some(csr) = csr else { return false };
        let request = ExtensionRequest {
            client_csr_pem: csr.clone(),
            server_csr_pem: csr,
            require_verification: self.habit != Habit::WriteOnReceipt,
        };
        if channel.send(request.to_frame()).await.is_err() {
            return false;
        }
        loop {
            match timeout_at(again, events.next()).await {
                Ok(Some(Event::Message { frame, .. })) if frame.content_type == content_type::ENROLLMENT_CERTS => {
                    let Ok(certs) = CertsResponse::from_frame(&frame) else { continue };
                    if self.received(channel, &current, &certs).await {
                        return true;
                    }
                }
                Ok(Some(Event::Closed(_)) | None) | Err(_) => return false,
                Ok(Some(Event::Message { .. } | Event::Attached(_) | Event::Detached { .. })) => {}
            }
        }
    }

    async fn received(&self, channel: &Channel, current: &Identity, certs: &CertsResponse) -> bool {
        let client = Chain::from_pem(certs.client_chain_pem.as_bytes());
        let server = Chain::from_pem(certs.server_chain_pem.as_bytes());
        let (Ok(client), Ok(server)) = (client, server) else { return false };
        let next = Identity { key: current.key.clone(), client, server };
        self.keys.add(&next.client, &next.key);
        match self.habit {
            Habit::WriteOnReceipt => {
                *locked(&self.files) = vec![next];
                true
            }
            Habit::WriteAfterAnswer => {
                let is_verified = verify(channel, certs).await;
                if is_verified {
                    *locked(&self.files) = vec![next];
                }
                is_verified
            }
            Habit::KeepBoth => {
                // What does not load is no candidate.
                if next.credentials(&self.bundle).is_err() {
                    return false;
                }
                locked(&self.files).insert(0, next);
                verify(channel, certs).await
            }
        }
    }
}

async fn verify(channel: &Channel, certs: &CertsResponse) -> bool {
    let verify = ExtensionVerify { client_chain_pem: certs.client_chain_pem.clone() };
    let answer = channel.request(verify.to_frame(), ANSWER).await;
    answer.is_ok_and(|frame| ErrorAnswer::from_frame(&frame).is_ok_and(|answer| answer.is_success()))
}
