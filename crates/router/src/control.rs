//! The control channels: carries out what the machine wants of its controllers, and tells it what came of it.
//!
//! One task per controller, a line, so that a slow one holds up nobody. Orders never wait: a line that does not
//! keep up loses them, which the machine's own deadlines notice. What a line has to say waits for the driver.

mod directory;
mod line;
mod replies;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ::config::Address;
use lifecycle::issuance::Window;
use lifecycle::renewal::{DialOutcome, ProofOutcome, VerifyAnswer};
use lifecycle::{ControllerId, GenerationNumber, UnixTime};
use net::channel::CloseReason;
use net::connect::{ConnectTimeouts, Endpoint};
use net::credentials::Credentials;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use wire::control::UpdateCtrlAddresses;
use wire::extension::{CertsResponse, ErrorAnswer, ExtensionRequest};
use wire::hello::RenewalAdvice;
use wire::version::VersionInfo;

pub(crate) use directory::write_atomically;
pub use directory::{Applied, Directory, Entry};
pub use replies::AboutUs;

use crate::driver::Incoming;

/// Orders that may wait for one line.
const ORDERS: usize = 16;

/// What all lines have in common.
#[derive(Clone, Debug)]
pub struct LineSettings {
    /// Who we are: the id in every hello.
    pub router: lifecycle::RouterId,
    /// What we run.
    pub version: VersionInfo,
    /// What an edge router says of itself.
    pub about: AboutUs,
    /// How long each part of a dial may take.
    pub timeouts: ConnectTimeouts,
    /// How long a 20002 is waited for.
    pub answer_within: Duration,
    /// How often heartbeats leave.
    pub heartbeat_interval: Duration,
    /// After how much silence a channel is closed.
    pub unresponsive_after: Duration,
}

/// What the machine wants of one controller.
#[derive(Debug)]
pub(crate) enum Order {
    /// Open the channel; one that is open answers for itself.
    Dial(Arc<Credentials>),
    /// Close the channel and open it again.
    Replace(Arc<Credentials>),
    /// Attach a further underlay.
    Prove(Arc<Credentials>),
    /// Send 20302; on a stock controller after attaching an underlay that presents `present`, if there is to be one.
    Request { present: Option<Arc<Credentials>>, request: ExtensionRequest },
    /// Send 20303.
    Verify { number: GenerationNumber, client_chain_pem: String },
    /// Detach underlays that present older generations.
    Trim(GenerationNumber),
    /// Ask for the list of controllers.
    AskMembers,
    /// Where the controller listens from now on.
    Addresses(Vec<Endpoint>),
    /// Where every controller stands, for inspections.
    Shown(Arc<str>),
}

/// Who is at the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The id that it announced.
    pub id: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// Does it know Exuvia's abilities?
    pub is_exuvia: bool,
    /// Which of its addresses answered.
    pub at: Endpoint,
}

/// What a line has to say.
#[derive(Debug)]
pub enum Report {
    /// A dial ended.
    Dialed {
        /// With what.
        generation: GenerationNumber,
        /// How.
        outcome: DialOutcome,
        /// Who answered, if somebody admitted us.
        peer: Option<Peer>,
        /// Why not, for people.
        reason: Option<String>,
    },
    /// The channel closed, and not because the machine wanted it.
    Closed(CloseReason),
    /// A further underlay was tried.
    Proved {
        /// With what.
        generation: GenerationNumber,
        /// How it ended.
        outcome: ProofOutcome,
    },
    /// A 20301.
    Certs(CertsResponse),
    /// A 20002 that answers our 20302: no leaves. Stock controllers say nothing instead.
    RequestRefused(ErrorAnswer),
    /// A 20002 that answers our 20303.
    VerifyAnswered {
        /// Which generation was to be confirmed.
        number: GenerationNumber,
        /// What it says.
        answer: VerifyAnswer,
        /// In the controller's words.
        text: String,
    },
    /// Advice about when to renew.
    Advice(Window),
    /// Where controllers are.
    Addresses(UpdateCtrlAddresses),
    /// The controller says that it leads.
    Leads(u64),
    /// The controller says that it moved.
    Moved(String),
    /// An underlay joined.
    Opened {
        /// Its type.
        kind: String,
        /// The leaf that we presented on it.
        generation: Option<GenerationNumber>,
    },
    /// An underlay left.
    Left {
        /// Its type.
        kind: String,
        /// Did we close it?
        is_by_us: bool,
        /// Why.
        reason: String,
    },
}

struct LineHandle {
    orders: mpsc::Sender<Order>,
    task: JoinHandle<()>,
    endpoints: Vec<Endpoint>,
}

/// All lines.
pub struct Lines {
    lines: BTreeMap<ControllerId, LineHandle>,
    settings: Arc<LineSettings>,
    reports: mpsc::Sender<Incoming>,
}

impl std::fmt::Debug for Lines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.lines.keys()).finish()
    }
}

impl Lines {
    /// None yet.
    pub fn new(settings: LineSettings, reports: mpsc::Sender<Incoming>) -> Self {
        Self { lines: BTreeMap::new(), settings: Arc::new(settings), reports }
    }

    /// Keeps one line for each entry. Lines of others close their channels.
    pub fn know(&mut self, entries: &[Entry]) {
        self.lines.retain(|contact, _| entries.iter().any(|entry| entry.contact == *contact));
        for entry in entries {
            let endpoints: Vec<Endpoint> = entry.dialable().map(endpoint).collect();
            match self.lines.get_mut(&entry.contact) {
                Some(line) if line.endpoints == endpoints => {}
                Some(line) => {
                    line.endpoints.clone_from(&endpoints);
                    let _ = line.orders.try_send(Order::Addresses(endpoints));
                }
                None => {
                    let (orders, queue) = mpsc::channel(ORDERS);
                    let line = line::Line::new(
                        entry.contact.clone(),
                        endpoints.clone(),
                        self.settings.clone(),
                        self.reports.clone(),
                    );
                    let task = tokio::spawn(line.run(queue));
                    self.lines.insert(entry.contact.clone(), LineHandle { orders, task, endpoints });
                }
            }
        }
    }

    /// Hands an order to a line; `false` when there is none or it does not keep up.
    pub(crate) fn order(&self, controller: &ControllerId, order: Order) -> bool {
        self.lines.get(controller).is_some_and(|line| line.orders.try_send(order).is_ok())
    }

    /// Detaches underlays of older generations everywhere.
    pub(crate) fn trim(&self, to: GenerationNumber) {
        for line in self.lines.values() {
            let _ = line.orders.try_send(Order::Trim(to));
        }
    }

    /// Tells every line what an inspection may see.
    pub(crate) fn show(&self, controllers: &Arc<str>) {
        for line in self.lines.values() {
            let _ = line.orders.try_send(Order::Shown(controllers.clone()));
        }
    }

    /// Closes every channel and waits until what was queued is written, at most for `within`.
    pub async fn close(&mut self, within: Duration) {
        let lines = std::mem::take(&mut self.lines);
        let mut tasks = Vec::new();
        for (_, LineHandle { orders, task, .. }) in lines {
            drop(orders);
            tasks.push(task);
        }
        let all = async {
            for task in tasks {
                let _ = task.await;
            }
        };
        let _ = tokio::time::timeout(within, all).await;
    }
}

fn endpoint(address: &Address) -> Endpoint {
    Endpoint::new(address.at.host.clone(), address.at.port)
}

/// What advice amounts to. An order to renew at once that this process has not seen before is a window that is open now.
fn window_of(advice: RenewalAdvice) -> Option<Window> {
    let at = |unix_s: u64| UnixTime::from_s(i64::try_from(unix_s).unwrap_or(i64::MAX));
    advice.window.map(|window| Window { from: at(window.from_unix_s), to: at(window.to_unix_s) })
}
