//! One state of the whole: disks, processes, registers, wires, clocks, and how much may still go wrong.

use lifecycle::issuance::{Answer, Record};
use lifecycle::manifest::Manifest;
use lifecycle::renewal::Renewal;

use crate::claims::Claims;
use crate::defects::Marks;
use crate::paper::Paper;

/// Everything. Equal states have equal futures.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    /// Where the true time stands.
    pub time: u8,
    /// Where the router's wall clock stands.
    pub router_time: u8,
    /// The router.
    pub router: Router,
    /// The controllers.
    pub control: Control,
    /// Per controller: the channel that it has with the router.
    pub channels: [Option<Channel>; 2],
    /// What is under way, sorted: order and delay are the exploration's choice.
    pub wire: Vec<Message>,
    /// What may still go wrong.
    pub left: Left,
    /// Leaves stored so far.
    pub signed: u8,
    /// What the operator has done.
    pub operator: Operator,
    /// Claims that a step on the way here broke.
    pub broken: Claims,
    /// Characteristic steps of known defects on the way here; stock against stock alone takes note of them.
    pub marks: Marks,
}

/// The router, as its make is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Router {
    /// The machine of `lifecycle` and its disk.
    Exuvia(Exuvia),
    /// A model of the Go router.
    Stock(StockRouter),
}

/// Our router.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Exuvia {
    /// What a start would read.
    pub disk: Disk,
    /// What a start would read after a power cut, where that differs.
    pub medium: Option<Box<Disk>>,
    /// While it runs.
    pub process: Option<Box<Process>>,
}

/// A state folder.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Disk {
    /// The one small file.
    pub manifest: Manifest,
    /// Complete generations.
    pub whole: Vec<(u8, Paper)>,
    /// A generation that has keys and no leaves, with its key.
    pub prepared: Option<(u8, u8)>,
}

/// A process of our router.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Process {
    /// The machine itself.
    pub machine: Renewal,
    /// Generations that a controller admitted to this process, as bits.
    pub admitted: u16,
    /// The generation that TLS endpoints serve.
    pub published: u8,
}

/// A stock router.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StockRouter {
    /// What its certificate file holds; `None` = empty or torn.
    pub file: Option<Paper>,
    /// What it holds after a power cut. While the two differ, a power cut leaves this or nothing.
    pub medium: Option<Paper>,
    /// A power cut has undone its last write, and none has followed.
    pub has_lost_write: bool,
    /// While it runs.
    pub process: Option<StockProcess>,
}

/// A process of a stock router.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StockProcess {
    /// The certificate that it shows.
    pub memory: Paper,
    /// Which controllers it is being connected to, as bits.
    pub dialing: u8,
    /// Which controllers it has a channel to, as bits.
    pub up: u8,
    /// A 20302 is out, less than 35 s ago.
    pub has_asked: bool,
    /// `--extend`, until the first attempt.
    pub is_forced: bool,
    /// The certificate loop has ended.
    pub has_ended: bool,
    /// A goroutine for each 20301, sorted.
    pub handlers: Vec<Handler>,
}

/// A goroutine that handles one 20301.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Handler {
    /// The certificate that it got.
    pub paper: Paper,
    /// Who sent it.
    pub node: u8,
    /// How far it is.
    pub stage: HandlerStage,
}

/// How far a handler is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HandlerStage {
    /// 20303 is out.
    Waits,
    /// 20002 said yes; nothing is written yet.
    Answered,
    /// The file is truncated, and not yet written.
    Truncated,
}

/// The controllers, as their make is.
#[expect(
    clippy::large_enum_variant,
    reason = "states are copied by the million, and a box would be an allocation for each"
)]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Control {
    /// The machine of `lifecycle` over one register.
    Exuvia(Desk),
    /// A model of the Go controllers.
    Stock(Cluster),
}

/// Our register and whoever waits for its commit.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Desk {
    /// What a restarted controller reads.
    pub durable: Record,
    /// What an open transaction would make of it.
    pub tip: Option<Box<Record>>,
    /// Answers that wait for the transaction.
    pub waiting: Vec<Waiting>,
    /// A copy, and where the clock stood.
    pub backup: Option<Box<(Record, u8)>>,
}

/// An answer that waits for a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Waiting {
    /// Whose process waits.
    pub node: u8,
    /// What it is about.
    pub matter: Matter,
    /// The answer.
    pub answer: Answer,
}

/// What an answer of our controller is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Matter {
    /// A hello.
    Hello(Hello),
    /// A 20302, by key and epoch of its channel.
    Extend(u8, u8),
    /// A 20303.
    Verify(Paper),
    /// The operator.
    Operator,
}

/// Stock databases: one log, of which each node has applied a prefix.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Cluster {
    /// Rows of the nodes.
    pub rows: [Row; 2],
    /// Changes that the node has not applied yet; the other one has.
    pub behind: [Vec<Change>; 2],
    /// A copy of the first node's row, and the leaves signed by then.
    pub backup: Option<(Row, u8)>,
    /// Set by a restore: leaves signed when the copy was taken.
    pub restored: Option<u8>,
}

/// What a stock controller's database holds of the router.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Row {
    /// The fingerprint.
    pub admitted: Option<Paper>,
    /// The unverified certificate.
    pub pending: Option<Paper>,
}

/// One replicated change. Nothing in it says what it was decided on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Change {
    /// Stores an unverified certificate.
    Pending(Paper),
    /// Replaces the fingerprint and clears the unverified one.
    Promote(Paper),
    /// Clears the fingerprint, and nothing else.
    ReEnroll,
    /// Sets the fingerprint, and nothing else.
    Enroll(Paper),
    /// The router is deleted.
    Delete,
}

/// What a controller has with the router.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Channel {
    /// What it speaks for.
    pub epoch: u8,
    /// The leaf of its newest underlay.
    pub leaf: Paper,
}

/// A handshake with its hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hello {
    /// The leaf that it presents.
    pub paper: Paper,
    /// The router's number for it.
    pub generation: u8,
    /// What for.
    pub purpose: Purpose,
    /// Does anybody wait for its end?
    pub is_awaited: bool,
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// A channel.
    Channel,
    /// A further underlay, as proof.
    Prove,
    /// A further underlay, to ask for leaves for this generation with this key.
    Ask(u8, u8),
}

/// Something under way between the router and one controller, or begun inside of that controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Message {
    /// Which controller.
    pub node: u8,
    /// What.
    pub body: Body,
}

/// What is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Body {
    /// To the controller: handshake and hello.
    Hello(Hello),
    /// To the router: the Result with success.
    Welcome(Hello),
    /// To the router: closed without a Result.
    Refused(Hello),
    /// To the controller: 20302 with this key, on a channel of this epoch.
    Extend {
        /// The key.
        key: u8,
        /// What the channel speaks for.
        epoch: u8,
    },
    /// In the controller: signed for a 20302, not stored yet. The leaf gets its serial when it is stored; nobody sees it before.
    Signed {
        /// The key.
        key: u8,
        /// What the channel speaks for.
        epoch: u8,
        /// Where the signer's clock stood.
        signed_at: u8,
    },
    /// To the router: 20301
    Extended {
        /// The leaf.
        paper: Paper,
    },
    /// To the controller: 20303, on a channel of this epoch.
    Verify {
        /// The leaf.
        paper: Paper,
        /// What the channel speaks for.
        epoch: u8,
    },
    /// In a stock controller: a 20303 that passed its comparison and has not committed.
    Promoting {
        /// The leaf of its snapshot.
        paper: Paper,
    },
    /// To the router: 20002
    Verified {
        /// The leaf.
        paper: Paper,
        /// Success, or an error.
        is_success: bool,
    },
}

impl Body {
    /// Is it on its way to the router?
    pub fn is_to_router(self) -> bool {
        matches!(self, Self::Welcome(_) | Self::Refused(_) | Self::Extended { .. } | Self::Verified { .. })
    }

    /// Is it a job inside of a controller, and not on a wire?
    pub fn is_job(self) -> bool {
        matches!(self, Self::Signed { .. } | Self::Promoting { .. })
    }
}

/// What may still go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Left {
    /// See [`crate::Scope::attempts`].
    pub attempts: u8,
    /// See [`crate::Scope::router_crashes`].
    pub router_crashes: u8,
    /// See [`crate::Scope::controller_crashes`].
    pub controller_crashes: u8,
    /// See [`crate::Scope::disk_failures`].
    pub disk_failures: u8,
    /// See [`crate::Scope::asks`].
    pub asks: u8,
    /// See [`crate::Scope::clock_jumps`].
    pub clock_jumps: u8,
    /// See [`crate::Scope::faults`]; stays as it is where they are not counted.
    pub faults: u8,
}

/// What the operator has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Operator {
    /// The identity is withdrawn: P1 promises nothing until a new enrollment is stored.
    pub has_withdrawn: bool,
    /// A token waits to be used.
    pub has_token: bool,
    /// Revoked or enrolled anew, once.
    pub has_acted: bool,
    /// Restored a copy, once.
    pub has_restored: bool,
}
