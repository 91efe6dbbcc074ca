//! What OpenZiti's own renewal would do with the files of its router: `exuvia doctor --ziti-version`.
//!
//! [`Facts`] are what the files and the machine say ([`look()`] gathers them), [`foresee`] is a pure function of them. The ids are those
//! of `docs/proof/upstream-defects.md`; what they mean was read in OpenZiti 1.6.18, 2.0.3 and 2.1, whose extension code is the same.

mod look;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use lifecycle::{Leaf, UnixTime};

pub use look::look;

use crate::clock::spell;
use crate::config::RouterKind;
use crate::doctor::{Finding, Level};
use crate::status::spell_duration;

const DAY: Duration = Duration::from_secs(86_400);
/// OpenZiti begins this long before the earlier of its two leaves ends (`openziti/ziti:router/state/certchecker.go`).
const WINDOW: Duration = Duration::from_secs(7 * 86_400);
/// Less room than this, and a file that was cut to nothing may not be filled again.
const ROOM_BYTES: u64 = 64 * 1024;
/// Clocks of machines drift less than this.
const SUSPEND: Duration = Duration::from_secs(3_600);

const BEFORE_START: &str =
    "run `exuvia extend CONFIG` before every start (ExecStartPre; docs/operating/extend.md), and take `--extend` away";

/// A version of OpenZiti.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ZitiVersion {
    major: u64,
    minor: u64,
    patch: u64,
}

/// It is no version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no version of OpenZiti; expected something like `2.1.0` or `v1.6.18`")]
pub struct NoVersion(String);

impl FromStr for ZitiVersion {
    type Err = NoVersion;

    fn from_str(text: &str) -> Result<Self, NoVersion> {
        let no = || NoVersion(text.chars().take(40).filter(|c| !c.is_control()).collect());
        let numbers = text.trim().trim_start_matches('v');
        let numbers = numbers.split(['-', '+']).next().unwrap_or_default();
        let mut parts = numbers.split('.').map(str::parse::<u64>);
        let mut next = || parts.next().transpose().map_err(|_| no());
        let (major, minor, patch) = (next()?.ok_or_else(no)?, next()?.ok_or_else(no)?, next()?.unwrap_or(0));
        if parts.next().is_some() { Err(no()) } else { Ok(Self { major, minor, patch }) }
    }
}

impl fmt::Display for ZitiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// What OpenZiti's file handling would find at one configured path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// It can be read and rewritten in place.
    Writable,
    /// It can be read only, for this reason.
    ReadOnly(String),
    /// It cannot be read, for this reason.
    Unreadable(String),
}

/// One part of the identity as the configuration spells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The key in the configuration.
    pub key: &'static str,
    /// The value, as far as it may be shown.
    pub spelled: String,
    /// Is it a bare path? OpenZiti loads other spellings too, and renews only this one.
    pub is_bare: bool,
    /// The file that it means.
    pub path: Option<PathBuf>,
    /// What can be done with it.
    pub access: Access,
}

/// Everything that is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// This machine's clock.
    pub now: UnixTime,
    /// How long this machine was suspended since it was started.
    pub suspended: Duration,
    /// Which OpenZiti runs the router.
    pub version: ZitiVersion,
    /// With a section `edge`, or without.
    pub kind: RouterKind,
    /// `identity.cert`, `server_cert`, `key`, `server_key`, `ca`, as far as they are there.
    pub parts: Vec<Part>,
    /// The client leaf, if it can be read.
    pub client: Option<Leaf>,
    /// The server leaf, if it can be read.
    pub server: Option<Leaf>,
    /// Why the files do not load as an identity.
    pub unusable: Option<String>,
    /// When the first certificate above the client leaf ends.
    pub issuer_ends: Option<UnixTime>,
    /// When the first trust anchor ends.
    pub anchor_ends: Option<UnixTime>,
    /// Advertised hosts that the server leaf does not cover, with their keys.
    pub uncovered: Vec<(String, String)>,
    /// Controllers that the router knows.
    pub controllers: usize,
    /// Room where the files are.
    pub free_bytes: Option<u64>,
}

impl Facts {
    fn part(&self, key: &str) -> Option<&Part> {
        self.parts.iter().find(|part| part.key == key)
    }

    /// When both leaves are over at the latest for a renewal to be useful.
    fn ends(&self) -> Option<UnixTime> {
        self.client.map(|leaf| leaf.not_after)
    }

    /// When OpenZiti would ask for new ones.
    fn begins(&self) -> Option<UnixTime> {
        let first = [self.client, self.server].into_iter().flatten().map(|leaf| leaf.not_after).min()?;
        Some(first.minus(WINDOW).max(self.now))
    }
}

/// What would happen, the worst first.
pub fn foresee(facts: &Facts) -> Vec<Finding> {
    let mut all = Foresights::default();
    at_start(facts, &mut all);
    at_renewal(facts, &mut all);
    of_time(facts, &mut all);
    in_general(facts, &mut all);
    all.0.sort_by_key(|finding| std::cmp::Reverse(finding.level));
    all.0
}

#[derive(Default)]
struct Foresights(Vec<Finding>);

impl Foresights {
    fn add(&mut self, level: Level, ids: &[&str], at: Option<UnixTime>, text: String, hint: &str) {
        let when = at.map_or_else(String::new, |at| format!("{}: ", spell(at)));
        self.0.push(Finding {
            topic: "openziti".to_owned(),
            level,
            text: format!("{when}{text} [{}]", ids.join(", ")),
            hint: Some(hint.to_owned()),
            ids: ids.iter().map(|id| (*id).to_owned()).collect(),
            at_ms: at.map(UnixTime::as_ms),
        });
    }
}

/// What keeps it from starting.
fn at_start(facts: &Facts, all: &mut Foresights) {
    if facts.part("identity.server_cert").is_none() {
        all.add(
            Level::Fail,
            &["C8"],
            Some(facts.now),
            "there is no `identity.server_cert`: the first look at the certificates' dates ends the process".to_owned(),
            "name a file for it: `identity.server_cert`",
        );
    }
    for part in &facts.parts {
        if let Access::Unreadable(why) = &part.access {
            all.add(
                Level::Fail,
                &["B1", "B3", "B9"],
                Some(facts.now),
                format!("`{}` cannot be loaded ({why}), and the process does not start", part.key),
                "run `exuvia rescue CONFIG`",
            );
        }
    }
    if let Some(why) = facts.unusable.as_ref().filter(|_| !all.0.iter().any(|finding| finding.level == Level::Fail)) {
        all.add(
            Level::Fail,
            &["B3", "B9"],
            Some(facts.now),
            format!("the files do not make an identity: {why}"),
            "run `exuvia rescue CONFIG`",
        );
    }
    for (host, key) in &facts.uncovered {
        all.add(
            Level::Fail,
            &["C9"],
            Some(facts.now),
            format!("the server certificate does not cover `{host}` (`{key}`): the next start ends before `--extend` could mend it"),
            "add it to `csr.sans` and run `exuvia extend CONFIG` before the start",
        );
    }
}

/// What becomes of the renewal itself.
fn at_renewal(facts: &Facts, all: &mut Foresights) {
    let (begins, ends) = (facts.begins(), facts.ends());
    let mut cannot_store = false;
    for key in ["identity.cert", "identity.server_cert"] {
        let Some(part) = facts.part(key) else { continue };
        let why = match (&part.access, part.is_bare) {
            (Access::Unreadable(_), _) => continue,
            (_, false) => format!("`{key}` is spelled `{}`, which OpenZiti loads and cannot write to", part.spelled),
            (Access::ReadOnly(why), true) => format!("`{key}` cannot be rewritten in place ({why})"),
            (Access::Writable, true) => continue,
        };
        cannot_store = true;
        let ends = ends.map_or_else(String::new, |at| format!("; locked out when the certificate ends, {}", spell(at)));
        let hint = if part.is_bare {
            "let the router's user write the file, or renew with `exuvia extend CONFIG`, which needs the folder only"
        } else {
            "write the path alone, without `file:` or `pem:`"
        };
        all.add(
            Level::Fail,
            &["B5", "C4"],
            begins,
            format!("{why}: no renewal is asked for, and it tries again without a pause{ends}"),
            hint,
        );
    }
    if facts.kind == RouterKind::Transit {
        all.add(
            Level::Fail,
            &["D1"],
            ends,
            "this is a transit router: an OpenZiti controller never finishes its renewal, and cannot enroll it twice; locked out when the certificate ends".to_owned(),
            "make it an edge router at the controller, or move it to an Exuvia controller",
        );
    }
    if cannot_store || facts.kind == RouterKind::Transit {
        return;
    }
    if facts.free_bytes.is_some_and(|free| free < ROOM_BYTES) {
        all.add(
            Level::Fail,
            &["B1", "B6"],
            begins,
            "the disk is full: the files are cut to nothing and cannot be filled again, after the controller has forgotten the old certificate".to_owned(),
            BEFORE_START,
        );
    }
    all.add(
        Level::Warn,
        &["A1", "A2", "B1", "B2"],
        begins,
        "the controller forgets the old certificate before a byte of the new one is written, and the files are rewritten in place: a kill, a lost answer, or a failed write in these seconds locks the router out. With `--extend` that is every start".to_owned(),
        BEFORE_START,
    );
}

fn of_time(facts: &Facts, all: &mut Foresights) {
    if let Some(leaf) = facts.client.filter(|leaf| leaf.is_expired(facts.now)) {
        all.add(
            Level::Fail,
            &["C1", "C3"],
            Some(leaf.not_after),
            "the client certificate has ended by this machine's clock: the renewal loop ends for good, and the controller refuses the router".to_owned(),
            "check the clock; if it is right, run `exuvia rescue CONFIG`",
        );
    }
    if let Some(leaf) = facts.client.filter(|leaf| facts.now < leaf.not_before) {
        all.add(
            Level::Warn,
            &["C2", "C3"],
            Some(leaf.not_before),
            "this machine's clock is behind the certificate's beginning: a process that starts now waits by a clock that is wrong, and no correction wakes it".to_owned(),
            "set the clock before the router starts, and renew from a timer: docs/operating/extend.md",
        );
    }
    if facts.suspended > SUSPEND {
        all.add(
            Level::Warn,
            &["C2"],
            facts.ends(),
            format!(
                "this machine was suspended for {} since it was started: the wait for the renewal does not count that, and more than 7 days of it are more than OpenZiti leaves",
                spell_duration(facts.suspended)
            ),
            "renew from a timer: docs/operating/extend.md",
        );
    }
    if let (Some(client), Some(ends)) = (facts.client, facts.issuer_ends)
        && ends < client.not_after
    {
        all.add(
            Level::Fail,
            &["D5"],
            Some(ends),
            format!(
                "the issuer ends before the certificate ({}): every chain fails at once, and no timer looks at it",
                spell(client.not_after)
            ),
            "give the controller a new signing certificate, and renew every router after that: `exuvia extend CONFIG`",
        );
    }
    if let Some(ends) = facts.anchor_ends.filter(|ends| ends.since(facts.now) < DAY * 365) {
        all.add(
            Level::Warn,
            &["F1"],
            Some(ends),
            "a trusted CA ends, and OpenZiti never renews the file `identity.ca`".to_owned(),
            "put the new CA beside the old one in `identity.ca` before the controllers use it",
        );
    }
}

fn in_general(facts: &Facts, all: &mut Foresights) {
    if let Some(part) = facts.part("identity.server_key") {
        all.add(
            Level::Warn,
            &["B11"],
            None,
            format!("`server_key` is `{}`: OpenZiti's enrollment signs the server certificate for the other key, and every listener is of no use after it", part.spelled),
            "enroll with `exuvia router enroll CONFIG --jwt FILE`, or use one key for both",
        );
    }
    if facts.controllers > 1 {
        all.add(
            Level::Warn,
            &["A3", "A7", "E4", "E5"],
            facts.begins(),
            format!("{} controllers: a renewal needs a quorum of equal versions, a failure may be reported for what is committed all the same, and a node that lags refuses the new certificate", facts.controllers),
            BEFORE_START,
        );
    }
    if facts.version >= (ZitiVersion { major: 2, minor: 2, patch: 0 })
        || facts.version < (ZitiVersion { major: 1, minor: 6, patch: 0 })
    {
        all.add(
            Level::Warn,
            &["-"],
            None,
            format!("OpenZiti {} was not read: what stands here is what 1.6, 2.0 and 2.1 do", facts.version),
            "compare its change log with docs/proof/upstream-defects.md",
        );
    }
}
