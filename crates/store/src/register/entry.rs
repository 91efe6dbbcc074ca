//! What the register keeps: routers, chains, tokens' texts, administrators.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use lifecycle::issuance::{Answer, Campaign, EnrollmentKind, Input, IssuancePolicy, LeafSeq, Record, Token};
use lifecycle::{Fingerprint, Now, RouterId, UnixTime};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

/// SHA-1 of a client leaf's DER: what OpenZiti's link verification asks by. Displays as lower-case hex.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha1(pub [u8; 20]);

impl fmt::Display for Sha1 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Sha1 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for Sha1 {
    type Err = NotSha1;

    /// Takes 40 hex digits, of either case, as the wire spells a fingerprint.
    fn from_str(text: &str) -> Result<Self, NotSha1> {
        let bytes = text.as_bytes();
        if bytes.len() != 40 {
            return Err(NotSha1);
        }
        let mut out = [0; 20];
        for (byte, pair) in out.iter_mut().zip(bytes.chunks_exact(2)) {
            let mut value = 0;
            for digit in pair {
                value = value * 16 + char::from(*digit).to_digit(16).ok_or(NotSha1)?;
            }
            *byte = u8::try_from(value).map_err(|_| NotSha1)?;
        }
        Ok(Self(out))
    }
}

/// The text is not 40 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a SHA-1 fingerprint is 40 hex digits")]
pub struct NotSha1;

/// Who did something, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct By {
    /// When, by the controller's clocks.
    pub now: Now,
    /// Who: `router`, `controller`, or `admin:NAME`.
    pub actor: Cow<'static, str>,
}

impl By {
    /// The router itself did it.
    pub fn router(now: Now) -> Self {
        Self { now, actor: Cow::Borrowed("router") }
    }

    /// The controller did it on its own.
    pub fn controller(now: Now) -> Self {
        Self { now, actor: Cow::Borrowed("controller") }
    }

    /// An administrator did it.
    pub fn admin(now: Now, name: &str) -> Self {
        Self { now, actor: Cow::Owned(format!("admin:{name}")) }
    }
}

/// One input for one router's [`Record`], with what must be stored beside it.
#[derive(Clone, Debug)]
pub struct Submission {
    /// Which router.
    pub router: RouterId,
    /// What the controller is configured to do.
    pub policy: IssuancePolicy,
    /// What happened.
    pub input: Input,
    /// Who caused it and when; its `now` is the `now` of the step.
    pub by: By,
    /// Texts that belong to it.
    pub attachment: Attachment,
}

impl Submission {
    /// An input caused by the router, with nothing attached.
    pub fn new(router: RouterId, now: Now, policy: IssuancePolicy, input: Input) -> Self {
        Self { router, policy, input, by: By::router(now), attachment: Attachment::Nothing }
    }

    /// Names another actor.
    #[must_use]
    pub fn by(self, actor: impl Into<Cow<'static, str>>) -> Self {
        Self { by: By { actor: actor.into(), ..self.by }, ..self }
    }

    /// Attaches what belongs to it.
    #[must_use]
    pub fn with(self, attachment: Attachment) -> Self {
        Self { attachment, ..self }
    }
}

/// Texts stored in the same transaction as the step, if the step adds what they belong to; dropped otherwise.
#[derive(Clone, Debug, Default)]
pub enum Attachment {
    /// For inputs that add nothing.
    #[default]
    Nothing,
    /// Required with `Store` and `StoreEnrolled`. Welcome with `Use`, `Claim` and `Readmit` (empty server chain): without it, a leaf
    /// that is adopted there cannot be found by its SHA-1, so link verification does not know it until the next renewal.
    Chains(Chains),
    /// Required with `ReEnroll`.
    Token(TokenText),
}

/// The PEM of one pair of leaves, leaf first, then its issuers, as 20301 carries them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chains {
    /// Client leaf and its issuers.
    pub client_pem: Arc<str>,
    /// Server leaf and its issuers; empty where only the client leaf is known.
    pub server_pem: Arc<str>,
    /// SHA-1 of the client leaf's DER.
    pub client_sha1: Sha1,
}

/// The texts of a one-time token. Zeroed when dropped, never shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenText {
    /// The token proper (`jti`), which the router shows. Its SHA-256 is the [`TokenId`](lifecycle::issuance::TokenId).
    pub jti: Zeroizing<String>,
    /// The signed JWT that the operator hands to the router.
    pub jwt: Zeroizing<String>,
}

impl fmt::Debug for TokenText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenText(..)")
    }
}

/// What a submission led to. It exists only once everything it says is durable.
#[derive(Clone, Debug)]
pub struct Answered {
    /// What to do and say.
    pub answer: Answer,
    /// The record after the step.
    pub record: Arc<Record>,
    /// With [`Answer::Send`]: what the register holds at that position.
    pub chains: Option<Chains>,
    /// Did the step change anything?
    pub changed: bool,
}

/// A router as an administrator knows it. What admits it is in its [`Record`].
#[derive(Clone, Debug, PartialEq)]
pub struct Router {
    /// Its id.
    pub id: RouterId,
    /// Its name, unique.
    pub name: String,
    /// Edge or transit.
    pub kind: EnrollmentKind,
    /// Role attributes (without `#`).
    pub role_attributes: Vec<String>,
    /// May it run a tunneler?
    pub is_tunneler_enabled: bool,
    /// Cost of a path through it.
    pub cost: u16,
    /// Not to be used as a hop between others.
    pub no_traversal: bool,
    /// Free data for the router.
    pub app_data: Map<String, Value>,
    /// Free data for the operator.
    pub tags: Map<String, Value>,
    /// Settings that are kept and shown, and rarely used (for example `ctrlChanListeners`).
    pub extra: Map<String, Value>,
    /// When it was created.
    pub created_at: UnixTime,
    /// When an administrator last changed it.
    pub updated_at: UnixTime,
    /// What it last said of itself.
    pub seen: Option<Seen>,
}

/// What a router says of itself in a hello.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// When; kept to within an hour.
    pub at: UnixTime,
    /// Its host name.
    pub hostname: String,
    /// Its version.
    pub version: String,
    /// The rest (`os`, `arch`, `revision`, `buildDate`, protocols), if any.
    pub details: Map<String, Value>,
}

/// A router together with all that the register holds of it.
#[derive(Clone, Debug, PartialEq)]
pub struct RouterView {
    /// The router.
    pub router: Router,
    /// Its record; [`Standing::Disabled`](lifecycle::issuance::Standing) is what OpenZiti calls `disabled`.
    pub record: Record,
    /// The token's texts while `record.token` is there.
    pub token: Option<TokenText>,
}

/// A router to be created.
#[derive(Clone, Debug)]
pub struct NewRouter {
    /// Its id, chosen by the caller.
    pub id: RouterId,
    /// Its name.
    pub name: String,
    /// How it comes by its first leaf.
    pub first: FirstIdentity,
    /// What an administrator may choose; `name` in it is ignored.
    pub settings: RouterPatch,
}

/// How a new router comes by the first leaf that is admitted.
#[derive(Clone, Debug)]
pub enum FirstIdentity {
    /// It enrolls; the kind of the router is the kind of its token.
    Enrolled {
        /// Its one-time token.
        token: Token,
        /// The token's texts.
        text: TokenText,
    },
    /// It has a leaf already, and the administrator vouches for it now, or later.
    VouchedFor {
        /// Edge or transit.
        kind: EnrollmentKind,
        /// The leaf, if it is known.
        leaf: Option<Sha1>,
    },
}

/// Changes to a router. `None` leaves a field as it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RouterPatch {
    /// Its name.
    pub name: Option<String>,
    /// Its role attributes.
    pub role_attributes: Option<Vec<String>>,
    /// May it run a tunneler?
    pub is_tunneler_enabled: Option<bool>,
    /// Cost of a path through it.
    pub cost: Option<u16>,
    /// Not to be used as a hop between others.
    pub no_traversal: Option<bool>,
    /// Off or on; decided by the record's machine in the same transaction.
    pub disabled: Option<bool>,
    /// Free data for the router.
    pub app_data: Option<Map<String, Value>>,
    /// Free data for the operator.
    pub tags: Option<Map<String, Value>>,
    /// Rarely used settings.
    pub extra: Option<Map<String, Value>>,
}

impl RouterPatch {
    pub(super) fn apply(&self, router: &mut Router) {
        fn set<T: Clone>(field: &mut T, to: &Option<T>) {
            if let Some(to) = to {
                field.clone_from(to);
            }
        }
        set(&mut router.name, &self.name);
        set(&mut router.role_attributes, &self.role_attributes);
        set(&mut router.is_tunneler_enabled, &self.is_tunneler_enabled);
        set(&mut router.cost, &self.cost);
        set(&mut router.no_traversal, &self.no_traversal);
        set(&mut router.app_data, &self.app_data);
        set(&mut router.tags, &self.tags);
        set(&mut router.extra, &self.extra);
    }
}

/// A patched router.
#[derive(Clone, Debug, PartialEq)]
pub struct Patched {
    /// The router as it is now.
    pub view: RouterView,
    /// [`Answer::CloseChannels`] when it was switched off; [`Answer::Done`] otherwise.
    pub answer: Answer,
}

/// Whose client leaf a SHA-1 belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundLeaf {
    /// The router.
    pub router: RouterId,
    /// The leaf, for [`Record::check_link`].
    pub fingerprint: Fingerprint,
    /// Its position.
    pub seq: LeafSeq,
}

/// One who may manage the fleet.
#[derive(Clone, PartialEq, Eq)]
pub struct Admin {
    /// Its id.
    pub id: String,
    /// Its name, unique.
    pub name: String,
    /// Its password, hashed with argon2, in PHC form.
    pub password_hash: String,
    /// When it was made.
    pub created_at: UnixTime,
    /// When the password was last set.
    pub updated_at: UnixTime,
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").field("id", &self.id).field("name", &self.name).finish_non_exhaustive()
    }
}

/// What the register knows of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Number of the newest migration.
    pub schema: i64,
    /// Drawn when the register was created; lasts across restores.
    pub instance_id: String,
    /// The re-key of the whole fleet in force.
    pub campaign: Option<Campaign>,
    /// When the copy was taken that this register was restored from.
    pub restored_from: Option<UnixTime>,
    /// The last heartbeat: the controller was up at this moment.
    pub last_seen_at: Option<UnixTime>,
}
