//! What the controller counts. Everything that is not counted but looked at (routers, channels, leaves) is gathered when
//! the metrics are read, in `web::metrics`.

use std::fmt::{self, Write as _};
use std::sync::Arc;

use lifecycle::issuance::ForkVerdict;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// How something ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// As asked.
    Success,
    /// The asker is at fault, or may not.
    Refused,
    /// We are at fault, or our disk.
    Failed,
}

impl EncodeLabelValue for Outcome {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        encoder.write_str(match self {
            Self::Success => "success",
            Self::Refused => "refused",
            Self::Failed => "failed",
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByOutcome {
    outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByReason {
    outcome: Outcome,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByStatus {
    operation: &'static str,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByVerdict {
    verdict: &'static str,
}

/// The controller's counters. Cheap to clone.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    enrollments: Family<ByOutcome, Counter>,
    extensions: Family<ByOutcome, Counter>,
    confirmations: Family<ByOutcome, Counter>,
    admissions: Family<ByReason, Counter>,
    channels_opened: Counter,
    channels_displaced: Counter,
    channels_closed: Counter,
    forks: Family<ByVerdict, Counter>,
    logins: Family<ByOutcome, Counter>,
    requests: Family<ByStatus, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("exuvia_controller");
        let enrollments = Family::default();
        registry.register("enrollments", "Enrollment requests answered", Family::clone(&enrollments));
        let extensions = Family::default();
        registry.register(
            "extensions",
            "Certificate extension requests (20302 and HTTPS) answered",
            Family::clone(&extensions),
        );
        let confirmations = Family::default();
        registry.register("confirmations", "Certificate confirmations (20303) answered", Family::clone(&confirmations));
        let admissions = Family::default();
        registry.register("admissions", "Control connections judged", Family::clone(&admissions));
        let channels_opened = Counter::default();
        registry.register("channels_opened", "Control channels that came up", channels_opened.clone());
        let channels_displaced = Counter::default();
        registry.register(
            "channels_displaced",
            "Control channels whose place a newer connection of the same router took",
            channels_displaced.clone(),
        );
        let channels_closed = Counter::default();
        registry.register(
            "channels_closed",
            "Control channels that went down, for any reason",
            channels_closed.clone(),
        );
        let forks = Family::default();
        registry.register(
            "forks_suspected",
            "Older leaves that came back after a newer one was used: a crash, or a copied disk",
            Family::clone(&forks),
        );
        let logins = Family::default();
        registry.register("logins", "Attempts to begin a session", Family::clone(&logins));
        let requests = Family::default();
        registry.register("http_requests", "REST requests answered", Family::clone(&requests));
        Self(Arc::new(Inner {
            registry,
            enrollments,
            extensions,
            confirmations,
            admissions,
            channels_opened,
            channels_displaced,
            channels_closed,
            forks,
            logins,
            requests,
        }))
    }
}

impl Metrics {
    /// An enrollment was answered.
    pub fn enrollment(&self, outcome: Outcome) {
        self.0.enrollments.get_or_create(&ByOutcome { outcome }).inc();
    }

    /// A 20302, or its form over HTTPS, was answered.
    pub fn extension(&self, outcome: Outcome) {
        self.0.extensions.get_or_create(&ByOutcome { outcome }).inc();
    }

    /// A 20303 was answered.
    pub fn confirmation(&self, outcome: Outcome) {
        self.0.confirmations.get_or_create(&ByOutcome { outcome }).inc();
    }

    /// A control connection was judged. `reason` is one of a few fixed texts, never something a peer said.
    pub fn admission(&self, outcome: Outcome, reason: &'static str) {
        self.0.admissions.get_or_create(&ByReason { outcome, reason }).inc();
    }

    /// A control channel came up; `displaced`: in the place of an older one.
    pub fn channel_opened(&self, displaced: bool) {
        self.0.channels_opened.inc();
        if displaced {
            self.0.channels_displaced.inc();
        }
    }

    /// A control channel went down.
    pub fn channel_closed(&self) {
        self.0.channels_closed.inc();
    }

    /// An older leaf came back after a newer one was used.
    pub fn fork(&self, verdict: ForkVerdict) {
        let verdict = match verdict {
            ForkVerdict::Frozen => "frozen",
            ForkVerdict::Refused => "refused",
        };
        self.0.forks.get_or_create(&ByVerdict { verdict }).inc();
    }

    pub(crate) fn login(&self, outcome: Outcome) {
        self.0.logins.get_or_create(&ByOutcome { outcome }).inc();
    }

    pub(crate) fn request(&self, operation: &'static str, status: u16) {
        self.0.requests.get_or_create(&ByStatus { operation, status }).inc();
    }

    /// The counters as OpenMetrics text, without the closing line.
    pub(crate) fn encode(&self, out: &mut String) -> fmt::Result {
        prometheus_client::encoding::text::encode_registry(out, &self.0.registry)
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}
