//! The controller's half: which leaves of a router are admitted, and what each request makes of that.
//!
//! Start at [`Record`] (all that the register holds of one router), then [`Record::step`]. Three rules order everything:
//! - an extension only *adds* to the admitted set, and its confirmation only *confirms*; nothing but the **use** of a newer
//!   leaf, presented in an admitted handshake, ever removes an older one;
//! - a step is decided on the record as it stands inside the register's own transaction, so every write sees the epoch and
//!   the standing of that very moment;
//! - the answer leaves the machine only after the changed record is durable: an [`Outcome`] is a [`Step`].
//!
//! Not here: certificates, tokens' texts and PEM (`pki`), storing (`store`), sending (the daemon).

mod admission;
mod enrollment;
mod extension;
mod fork;
mod window;

use alloc::vec::Vec;
use core::net::IpAddr;
use core::time::Duration;

use crate::facts::{Fingerprint, KeyId, Leaf, Now, RouterId, UnixTime};
use crate::step::Step;

pub use admission::{AdmissionRefusal, Admitted};
pub use enrollment::{EnrollmentKind, EnrollmentRefusal, Token, TokenId};
pub use extension::{ConfirmRefusal, RequestRefusal};
pub use fork::{FROZEN_MAX, Fork, ForkVerdict, Opening};
pub use window::{Campaign, Window, WindowFacts, advise};

/// Most confirmed leaves newer than the one last used that stay admitted at once.
pub const CONFIRMED_MAX: usize = 4;

/// Most leaves that were issued after the one last used and not confirmed that stay admitted at once. A router may have staged one of them
/// long ago, with the 20303 lost, and asked again with other keys since.
pub const PENDING_MAX: usize = 4;

/// Most leaves older than the one last used that are kept, however fast a router renews within one overlap.
/// As many as a router keeps generations.
pub const PREDECESSORS_MAX: usize = 8;

/// What the controller is configured to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IssuancePolicy {
    /// Life of a new leaf, before its issuer's own end cuts it short.
    pub leaf_life: Duration,
    /// How long predecessors of the leaf last used stay admitted, counted from its first use.
    pub overlap: Duration,
    /// A new leaf that would live less than this *and* would not outlive the leaf last used is refused.
    pub shortest_life: Duration,
    /// Life of an enrollment token.
    pub token_life: Duration,
}

impl IssuancePolicy {
    /// Overlap of one hour, tokens of three hours, and the shortest life that the leaf life implies:
    /// 14 days or a tenth of it, whichever is less.
    pub fn for_leaf_life(leaf_life: Duration) -> Self {
        Self {
            leaf_life,
            overlap: Duration::from_secs(3600),
            shortest_life: Duration::from_secs(14 * 86_400).min(leaf_life / 10),
            token_life: Duration::from_secs(180 * 60),
        }
    }
}

/// Position of a leaf among all that were ever issued to one router. Newer is greater; never used twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeafSeq(pub u64);

/// How often the router was enrolled anew. A channel's authority is the router id *and* this.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

/// SHA-256 over the names that both CSRs ask for; "the same CSR" means same keys and same names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NamesDigest(pub [u8; 32]);

/// What an operator names a leaf by that the register has no memory of: the hash that OpenZiti calls a fingerprint. It is
/// compared and nothing else; the leaf that bears it must still prove itself like any other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Voucher(pub [u8; 20]);

/// What makes two requests the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Asked {
    /// Key of the client CSR.
    pub client_key: KeyId,
    /// Key of the server CSR.
    pub server_key: KeyId,
    /// Names of both.
    pub names: NamesDigest,
}

/// All that the register holds of one router.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Record {
    /// Who.
    pub id: RouterId,
    /// Raised by re-enrollment and revocation.
    pub epoch: Epoch,
    /// May it connect at all?
    pub standing: Standing,
    /// Leaves of this epoch that may still matter, oldest first.
    pub leaves: Vec<IssuedLeaf>,
    /// Highest position ever given out.
    pub last_seq: LeafSeq,
    /// The leaf last used: the newest one ever presented in an admitted handshake of this epoch.
    pub last_used: Option<LastUsed>,
    /// The one-time token, from its making until the first admitted connection of what it enrolled.
    pub token: Option<Token>,
    /// Set when the register was restored: when the copy was taken. Leaves issued later are unknown here but provable.
    pub restored_from: Option<UnixTime>,
    /// An unknown leaf that an operator has vouched for, until it is presented. It takes nothing from the leaves that are
    /// admitted meanwhile.
    pub voucher: Option<Voucher>,
    /// When the epoch was raised last; `None` while it never was. What was issued before is void, whatever a restored register believes.
    pub epoch_since: Option<UnixTime>,
    /// An older leaf came back after a newer one was used, and no operator has decided yet which one lives.
    pub fork: Option<Fork>,
}

/// The newest leaf that was presented in an admitted handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LastUsed {
    /// Which leaf.
    pub seq: LeafSeq,
    /// When it was first used; the overlap of its predecessors runs from here.
    pub first_use: UnixTime,
    /// From where it was first used, if that was seen.
    pub from: Option<IpAddr>,
}

/// May a router connect?
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Standing {
    /// Yes, with an admitted leaf.
    Active,
    /// Not while the operator has it switched off; its leaves are kept.
    Disabled,
    /// No more; only re-enrollment brings it back.
    Revoked,
}

/// One pair of leaves that was issued to the router.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IssuedLeaf {
    /// Its position.
    pub seq: LeafSeq,
    /// The client leaf, which admission is about.
    pub client: Leaf,
    /// The server leaf signed with it.
    pub server: Leaf,
    /// What was asked for.
    pub asked: Asked,
    /// When it was committed here.
    pub issued_at: UnixTime,
    /// How far it has come.
    pub stage: LeafStage,
}

/// How far a leaf has come on the controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LeafStage {
    /// Issued; its holder has not said that it has it.
    Pending,
    /// A 20303 for it was answered with success.
    Confirmed,
    /// Presented in an admitted handshake.
    Used,
}

/// One thing that happened to a router, as the register sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A hello presented this leaf: handshake finished, chain and dates checked, hello id matched.
    Use {
        /// What was presented.
        leaf: Leaf,
        /// What it would open.
        opens: Opening,
    },
    /// A 20302 arrived. Decides only; [`Input::Store`] brings what was signed for it.
    Request {
        /// Epoch of the channel that it arrived on.
        epoch: Epoch,
        /// What it asks for.
        asked: Asked,
        /// When the issuer's own chain ends.
        issuer_not_after: UnixTime,
    },
    /// What was signed for a [`Input::Request`].
    Store {
        /// Epoch of the channel that asked.
        epoch: Epoch,
        /// What was asked for.
        asked: Asked,
        /// The client leaf.
        client: Leaf,
        /// The server leaf.
        server: Leaf,
    },
    /// A 20303 arrived.
    Confirm {
        /// Epoch of the channel that it arrived on.
        epoch: Epoch,
        /// The leaf that it names.
        fingerprint: Fingerprint,
    },
    /// An enrollment POST arrived. Decides only; [`Input::StoreEnrolled`] brings what was signed for it.
    Enroll {
        /// The token it shows.
        token: TokenId,
        /// The kind of enrollment it claims.
        kind: EnrollmentKind,
        /// What it asks for.
        asked: Asked,
    },
    /// What was signed for an [`Input::Enroll`].
    StoreEnrolled {
        /// The token it showed.
        token: TokenId,
        /// What was asked for.
        asked: Asked,
        /// The client leaf.
        client: Leaf,
        /// The server leaf.
        server: Leaf,
    },
    /// The operator wants this router enrolled anew: everything it had is void from now on.
    ReEnroll {
        /// The new token.
        token: Token,
    },
    /// The operator withdraws the router's identity.
    Revoke,
    /// The operator switches the router off or on again.
    SetDisabled(bool),
    /// The operator vouches for one leaf of a router, whatever the register remembers of it.
    Readmit {
        /// The leaf, as far as it is known: from the register, or from the operator's copy.
        leaf: Leaf,
    },
    /// The operator vouches for a leaf that the register has no memory of, without having it at hand.
    Vouch {
        /// What the operator names it by.
        voucher: Voucher,
    },
    /// The leaf of a refused [`Input::Use`] once more, with the name that an operator may have vouched for it by.
    Claim {
        /// What was presented.
        leaf: Leaf,
        /// What an operator would name it by.
        voucher: Voucher,
    },
    /// The operator has looked into a [`Fork`]: it was a crash, and there is one holder.
    DismissFork,
}

impl Input {
    /// A hello that would open a channel, and of which nobody saw where it comes from.
    pub fn hello(leaf: Leaf) -> Self {
        Self::Use { leaf, opens: Opening::Channel { from: None, beside: None } }
    }
}

/// What the register does with an input, and what may be said once that is durable. Without a barrier nothing is written.
pub type Outcome = Step<Commit, Answer>;

/// What goes into one transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// The record to store, or `None` when only the audit trail grows.
    pub record: Option<Record>,
    /// The audit entry.
    pub audit: Audit,
}

/// What to do and say once the outcome is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// Send the Result with success. The channel speaks for this epoch.
    Admit(Admitted),
    /// Close the connection.
    RefuseAdmission(AdmissionRefusal),
    /// Sign, then come back with [`Input::Store`] or [`Input::StoreEnrolled`].
    Sign,
    /// Send what the register holds at this position.
    Send(LeafSeq),
    /// Do not answer the extension with leaves.
    RefuseRequest(RequestRefusal),
    /// 20303 is answered with success.
    Confirmed(LeafSeq),
    /// 20303 is answered with an error.
    RefuseConfirm(ConfirmRefusal),
    /// The POST is answered with an error.
    RefuseEnrollment(EnrollmentRefusal),
    /// Close every channel of the router now.
    CloseChannels,
    /// Nothing else to do.
    Done,
}

/// One line of a router's audit trail. Times and who asked are the register's business.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Audit {
    /// Leaves were signed for an enrollment.
    Enrolled(LeafSeq),
    /// Leaves were signed for an extension.
    Issued(LeafSeq),
    /// A 20303 was answered with success.
    Confirmed(LeafSeq),
    /// A leaf was presented for the first time.
    FirstUse(LeafSeq),
    /// A leaf that the restored register did not know was presented and believed.
    ReadmittedAfterRestore(LeafSeq),
    /// A leaf was refused.
    Refused(AdmissionRefusal),
    /// An extension was refused.
    RequestRefused(RequestRefusal),
    /// The operator asked for a new enrollment.
    ReEnrolled(Epoch),
    /// The operator revoked the router.
    Revoked(Epoch),
    /// The operator switched the router off.
    Disabled,
    /// The operator switched the router on.
    Enabled,
    /// The operator vouched for a leaf.
    Readmitted(LeafSeq),
    /// The operator vouched for a leaf that is yet to be presented.
    Vouched(Voucher),
    /// An older leaf came back after a newer one was used: an alarm.
    Forked(Fork),
    /// The operator called that a crash.
    ForkDismissed,
}

impl Record {
    /// A router that was just created and waits for its enrollment.
    pub fn new(id: RouterId, token: Token) -> Self {
        Self {
            id,
            epoch: Epoch(1),
            standing: Standing::Active,
            leaves: Vec::new(),
            last_seq: LeafSeq(0),
            last_used: None,
            token: Some(token),
            restored_from: None,
            voucher: None,
            epoch_since: None,
            fork: None,
        }
    }

    /// A router that was just created without an enrollment: it is admitted with the leaf that its operator vouches for.
    pub fn without_token(id: RouterId, voucher: Option<Voucher>) -> Self {
        Self {
            id,
            epoch: Epoch(1),
            standing: Standing::Active,
            leaves: Vec::new(),
            last_seq: LeafSeq(0),
            last_used: None,
            token: None,
            restored_from: None,
            voucher,
            epoch_since: None,
            fork: None,
        }
    }

    /// Decides one input. Same record, time and input: same outcome, on every controller.
    pub fn step(&self, now: Now, policy: &IssuancePolicy, input: Input) -> Outcome {
        match input {
            Input::Use { leaf, opens } => self.admit(now, policy, leaf, opens),
            Input::Request { epoch, asked, issuer_not_after } => {
                self.request(now, policy, epoch, asked, issuer_not_after)
            }
            Input::Store { epoch, asked, client, server } => self.store(now, policy, epoch, asked, client, server),
            Input::Confirm { epoch, fingerprint } => self.confirm(now, policy, epoch, fingerprint),
            Input::Enroll { token, kind, asked } => self.enroll(now, token, kind, asked),
            Input::StoreEnrolled { token, asked, client, server } => {
                self.store_enrolled(now, token, asked, client, server)
            }
            Input::ReEnroll { token } => self.re_enroll(now, token),
            Input::Revoke => self.revoke(now),
            Input::SetDisabled(disabled) => self.set_disabled(disabled),
            Input::Readmit { leaf } => self.readmit(now, policy, leaf),
            Input::Vouch { voucher } => self.vouch(voucher),
            Input::Claim { leaf, voucher } => self.claim(now, policy, leaf, voucher),
            Input::DismissFork => self.dismiss_fork(),
        }
    }

    /// The issued leaf with this fingerprint.
    pub fn leaf(&self, fingerprint: Fingerprint) -> Option<&IssuedLeaf> {
        self.leaves.iter().find(|leaf| leaf.client.fingerprint == fingerprint)
    }

    /// The issued leaf at this position.
    pub fn leaf_at(&self, seq: LeafSeq) -> Option<&IssuedLeaf> {
        self.leaves.iter().find(|leaf| leaf.seq == seq)
    }

    /// Has a leaf of this epoch ever been issued?
    pub fn is_enrolled(&self) -> bool {
        !self.leaves.is_empty()
    }

    fn re_enroll(&self, now: Now, token: Token) -> Outcome {
        let mut record = self.clone();
        record.begin_epoch(now);
        record.standing = match self.standing {
            Standing::Disabled => Standing::Disabled,
            Standing::Active | Standing::Revoked => Standing::Active,
        };
        record.leaves.clear();
        record.last_used = None;
        record.token = Some(token);
        record.restored_from = None;
        record.voucher = None;
        let audit = Audit::ReEnrolled(record.epoch);
        changed(record, audit, Answer::CloseChannels)
    }

    fn revoke(&self, now: Now) -> Outcome {
        let mut record = self.clone();
        record.begin_epoch(now);
        record.standing = Standing::Revoked;
        record.leaves.clear();
        record.last_used = None;
        record.token = None;
        record.restored_from = None;
        record.voucher = None;
        let audit = Audit::Revoked(record.epoch);
        changed(record, audit, Answer::CloseChannels)
    }

    fn set_disabled(&self, disabled: bool) -> Outcome {
        let (standing, audit, answer) = match (self.standing, disabled) {
            (Standing::Active, true) => (Standing::Disabled, Audit::Disabled, Answer::CloseChannels),
            (Standing::Disabled, false) => (Standing::Active, Audit::Enabled, Answer::Done),
            (Standing::Active, false) | (Standing::Disabled, true) | (Standing::Revoked, _) => {
                return unchanged(Answer::Done);
            }
        };
        let record = Record { standing, ..self.clone() };
        changed(record, audit, answer)
    }

    /// Whatever was issued or opened before is void from now on.
    fn begin_epoch(&mut self, now: Now) {
        self.epoch = Epoch(self.epoch.0.saturating_add(1));
        self.epoch_since = Some(now.wall);
        self.fork = None;
    }

    fn next_seq(&self) -> LeafSeq {
        LeafSeq(self.last_seq.0.saturating_add(1))
    }
}

fn changed(record: Record, audit: Audit, answer: Answer) -> Outcome {
    Step::durable_first(Commit { record: Some(record), audit }, answer)
}

fn noted(audit: Audit, answer: Answer) -> Outcome {
    Step::durable_first(Commit { record: None, audit }, answer)
}

fn unchanged(answer: Answer) -> Outcome {
    Step::free(answer)
}
