//! A listening controller for one test.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use lifecycle::RouterId;
use net::channel::{Channel, ChannelSettings, UnderlayId};
use net::connect::{ConnectTimeouts, Endpoint};
use net::credentials::Credentials;
use net::dial::{Connected, ControlDial, DialError, dial};
use net::http::HttpService;
use net::listen::{Admission, Admitted, Applicant, Channels, ControlListener, ListenLimits, Opened, Refusal};
use net::stop::Stop;
use pki::{TrustBundle, Usage, validate_chain};
use tokio::net::TcpListener;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use wire::hello::{AcceptedHello, GroupHello, Hello, RefusalClass};
use wire::version::VersionInfo;

use crate::authority::{Authority, PATIENCE, now};

/// How the next applicants are treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    Fair,
    Silent,
    Talkative,
}

pub(crate) struct Doorman {
    bundle: TrustBundle,
    mood: Mood,
    /// One permit per decision.
    pub(crate) decisions: Semaphore,
    pub(crate) asked: AtomicUsize,
    pub(crate) was_asked: Notify,
    opened: mpsc::UnboundedSender<Opened<u64>>,
    joined: mpsc::UnboundedSender<UnderlayId>,
}

impl Admission for Doorman {
    type Standing = u64;

    async fn admit(&self, applicant: Applicant) -> Result<Admitted<u64>, Refusal> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.was_asked.notify_one();
        self.decisions.acquire().await.unwrap().forget();
        match self.mood {
            Mood::Fair => {}
            Mood::Silent => return Err(Refusal::silent("not today")),
            Mood::Talkative => return Err(Refusal::told("not today", RefusalClass::Busy)),
        }
        let presented: Vec<_> = applicant.peer.iter().cloned().collect();
        let leaf = validate_chain(&presented, &self.bundle, now(), Usage::Client)
            .map_err(|error| Refusal::silent(error.to_string()))?;
        let router = leaf.cn().unwrap().to_owned();
        let answer = AcceptedHello { id: Some("ctrl1".to_owned()), ..AcceptedHello::default() };
        Ok(Admitted { router: RouterId::new(router), answer, standing: 7 })
    }

    fn opened(&self, opened: Opened<u64>) {
        self.opened.send(opened).unwrap();
    }

    fn joined(&self, _channel: &Channel, underlay: UnderlayId, _standing: u64) {
        self.joined.send(underlay).unwrap();
    }
}

pub(crate) struct Door {
    pub(crate) address: SocketAddr,
    pub(crate) doorman: Arc<Doorman>,
    pub(crate) channels: Channels,
    pub(crate) stop: Stop,
    pub(crate) serving: JoinHandle<()>,
    opened: mpsc::UnboundedReceiver<Opened<u64>>,
    joined: mpsc::UnboundedReceiver<UnderlayId>,
}

pub(crate) struct Options {
    pub(crate) mood: Mood,
    pub(crate) decisions: usize,
    pub(crate) limits: ListenLimits,
    pub(crate) http: Option<HttpService>,
    pub(crate) bind: &'static str,
}

impl Default for Options {
    fn default() -> Self {
        Self { mood: Mood::Fair, decisions: 1000, limits: ListenLimits::default(), http: None, bind: "127.0.0.1:0" }
    }
}

impl Door {
    pub(crate) async fn open(authority: &Authority) -> Self {
        Self::open_with(authority, Options::default()).await
    }

    pub(crate) async fn open_with(authority: &Authority, options: Options) -> Self {
        let listener = TcpListener::bind(options.bind).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (opened_sender, opened) = mpsc::unbounded_channel();
        let (joined_sender, joined) = mpsc::unbounded_channel();
        let doorman = Arc::new(Doorman {
            bundle: authority.bundle(),
            mood: options.mood,
            decisions: Semaphore::new(options.decisions),
            asked: AtomicUsize::new(0),
            was_asked: Notify::new(),
            opened: opened_sender,
            joined: joined_sender,
        });
        let channels = Channels::new();
        let door = ControlListener {
            credentials: authority.slot("ctrl1"),
            admission: doorman.clone(),
            channels: channels.clone(),
            settings: ChannelSettings::accepting(),
            limits: options.limits,
            http: options.http,
        };
        let (stop, signal) = Stop::new();
        let serving = tokio::spawn(async move { door.serve(listener, signal).await.unwrap() });
        Self { address, doorman, channels, stop, serving, opened, joined }
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        self.address.into()
    }

    pub(crate) async fn next_opened(&mut self) -> Opened<u64> {
        timeout(PATIENCE, self.opened.recv()).await.expect("no channel was opened").unwrap()
    }

    pub(crate) async fn next_joined(&mut self) -> UnderlayId {
        timeout(PATIENCE, self.joined.recv()).await.expect("no underlay joined").unwrap()
    }

    pub(crate) fn asked(&self) -> usize {
        self.doorman.asked.load(Ordering::SeqCst)
    }

    pub(crate) async fn dial(&self, credentials: &Arc<Credentials>, hello: Hello) -> Result<Connected, DialError> {
        let request = ControlDial { credentials: credentials.clone(), hello, timeouts: ConnectTimeouts::default() };
        timeout(PATIENCE, dial(&self.endpoint(), &request)).await.expect("the dial hangs")
    }
}

pub(crate) fn version() -> VersionInfo {
    "v2.1.0|r|d|linux|amd64".parse().unwrap()
}

pub(crate) fn hello(id: &str) -> Hello {
    let mut hello = Hello::new(id, version());
    hello.group = Some(GroupHello::first());
    hello.underlay_type = Some("ctrl.default".to_owned());
    hello
}

/// A further underlay of the group that `answer` names.
pub(crate) fn further(id: &str, answer: &AcceptedHello) -> Hello {
    let mut hello = hello(id);
    hello.group = GroupHello::further(answer);
    hello.underlay_type = Some("ctrl.high".to_owned());
    hello
}
