//! Figures for Prometheus. What can be read from the status is set when somebody asks; what happens is counted as it happens.

use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::time::Duration;

use lifecycle::renewal::PhaseName;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use store::mode::StorageMode;

use crate::clock;
use crate::events::EventKind;
use crate::status::StatusView;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct LeafLabel {
    leaf: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct PhaseLabel {
    phase: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ModeLabel {
    mode: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
    reason: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct WhatLabels {
    what: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct UnderlayLabel {
    by: &'static str,
}

type Seconds = Gauge<f64, AtomicU64>;
type Whole = Gauge<i64, AtomicI64>;

/// All figures of one router.
pub struct Metrics {
    registry: Registry,
    not_after: Family<LeafLabel, Seconds>,
    phase: Family<PhaseLabel, Whole>,
    mode: Family<ModeLabel, Whole>,
    attempts: Family<OutcomeLabels, Counter>,
    last_success: Seconds,
    lockout: Seconds,
    due: Seconds,
    generation: Whole,
    candidates: Whole,
    connected: Whole,
    known: Whole,
    underlays_closed: Family<UnderlayLabel, Counter>,
    refused: Counter,
    stale: Counter,
    recoveries: Counter,
    barriers: Family<WhatLabels, Counter>,
    barrier_time: Histogram,
    last_mode: Mutex<&'static str>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

const MODES: [&str; 4] = ["writable", "read_only", "volatile", "externally_managed"];

impl Metrics {
    /// Everything at zero.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("exuvia");
        let not_after = Family::<LeafLabel, Seconds>::default();
        registry.register_with_unit(
            "leaf_not_after_timestamp",
            "End of the served leaf, unix time",
            Unit::Seconds,
            not_after.clone(),
        );
        let phase = Family::<PhaseLabel, Whole>::default();
        registry.register("renewal_phase", "1 for the phase of the newest attempt, 0 for the others", phase.clone());
        let mode = Family::<ModeLabel, Whole>::default();
        registry.register("storage_mode", "1 for what the storage is good for, 0 for the others", mode.clone());
        let attempts = Family::<OutcomeLabels, Counter>::default();
        registry.register(
            "renewal_attempts",
            "Renewal attempts, and rounds of one, by how they ended",
            attempts.clone(),
        );
        let last_success = Seconds::default();
        registry.register_with_unit(
            "renewal_last_success_timestamp",
            "When a controller last admitted a new generation, unix time; 0 = not since the start",
            Unit::Seconds,
            last_success.clone(),
        );
        let lockout = Seconds::default();
        registry.register_with_unit(
            "lockout",
            "How long this router stays admissible if it restarted now",
            Unit::Seconds,
            lockout.clone(),
        );
        let due = Seconds::default();
        registry.register_with_unit(
            "renewal_due_timestamp",
            "When the next renewal is due, unix time",
            Unit::Seconds,
            due.clone(),
        );
        let generation = Whole::default();
        registry.register("generation", "Number of the generation that is served", generation.clone());
        let candidates = Whole::default();
        registry.register("candidates", "Generations that a restart could try", candidates.clone());
        let connected = Whole::default();
        registry.register("controllers_connected", "Controllers with an open control channel", connected.clone());
        let known = Whole::default();
        registry.register("controllers_known", "Controllers that are known", known.clone());
        let underlays_closed = Family::<UnderlayLabel, Counter>::default();
        registry.register(
            "underlays_closed",
            "Connections of control channels that closed, by who closed them",
            underlays_closed.clone(),
        );
        let refused = Counter::default();
        registry.register("dials_refused", "Dials that a controller did not admit", refused.clone());
        let stale = Counter::default();
        registry.register("stale_answers", "Certificates that arrived and belonged to no attempt", stale.clone());
        let recoveries = Counter::default();
        registry.register("recoveries", "Times that the disk was read again after a failed write", recoveries.clone());
        let barriers = Family::<WhatLabels, Counter>::default();
        registry.register("barriers", "Writes that something waited for, by what and how they ended", barriers.clone());
        let barrier_time = Histogram::new(exponential_buckets(0.0005, 4.0, 8));
        registry.register_with_unit(
            "barrier_duration",
            "Time until a write was durable",
            Unit::Seconds,
            barrier_time.clone(),
        );
        Self {
            registry,
            not_after,
            phase,
            mode,
            attempts,
            last_success,
            lockout,
            due,
            generation,
            candidates,
            connected,
            known,
            underlays_closed,
            refused,
            stale,
            recoveries,
            barriers,
            barrier_time,
            last_mode: Mutex::new("writable"),
        }
    }

    pub(crate) fn count(&self, what: &EventKind) {
        let attempt = |outcome, reason: &str| {
            self.attempts.get_or_create(&OutcomeLabels { outcome, reason: reason.to_owned() }).inc();
        };
        match what {
            EventKind::Promoted { .. } => attempt("success", "none"),
            EventKind::AttemptFailed { failure, .. } => attempt("failure", failure),
            EventKind::Refused { .. } => drop(self.refused.inc()),
            EventKind::StaleAnswer { .. } => drop(self.stale.inc()),
            EventKind::Recovered { .. } => drop(self.recoveries.inc()),
            EventKind::UnderlayClosed { is_by_us, .. } => {
                let by = if *is_by_us { "us" } else { "peer" };
                self.underlays_closed.get_or_create(&UnderlayLabel { by }).inc();
            }
            _ => {}
        }
    }

    pub(crate) fn committed(&self, what: &str, took: Duration, is_durable: bool) {
        let outcome = if is_durable { "durable" } else { "failed" };
        self.barriers.get_or_create(&WhatLabels { what: what.to_owned(), outcome }).inc();
        self.barrier_time.observe(took.as_secs_f64());
    }

    pub(crate) fn storage(&self, mode: &StorageMode) {
        *self.last_mode.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = mode.label();
    }

    /// Everything as OpenMetrics text.
    pub fn render(&self, status: &StatusView) -> String {
        #[allow(clippy::cast_precision_loss, reason = "unix time in milliseconds fits well into 53 bits")]
        let seconds = |ms: i64| ms as f64 / 1000.0;
        for (leaf, view) in [("client", &status.client_leaf), ("server", &status.server_leaf)] {
            if let Some(view) = view {
                self.not_after.get_or_create(&LeafLabel { leaf }).set(seconds(view.not_after_ms));
            }
        }
        for name in PhaseName::ALL {
            let is_it = i64::from(status.phase == name.as_str());
            self.phase.get_or_create(&PhaseLabel { phase: name.as_str() }).set(is_it);
        }
        let current = *self.last_mode.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for mode in MODES {
            self.mode.get_or_create(&ModeLabel { mode }).set(i64::from(mode == current));
        }
        // The status was taken when something last happened; time has passed since.
        let since = clock::wall().since(lifecycle::UnixTime::from_ms(status.at_ms));
        self.lockout.set((Duration::from_secs(status.lockout_in_s).saturating_sub(since)).as_secs_f64());
        self.last_success.set(status.last_proof_ms.map_or(0.0, seconds));
        self.due.set(seconds(status.renew_at_ms));
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        self.generation.set(number(status.generation));
        self.candidates.set(number(status.candidates));
        let connected = status.controllers.iter().filter(|controller| controller.is_connected).count();
        self.connected.set(i64::try_from(connected).unwrap_or(i64::MAX));
        self.known.set(i64::try_from(status.controllers.len()).unwrap_or(i64::MAX));
        let mut text = String::new();
        // Writing into a String cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::LeafView;

    #[test]
    fn the_documented_names_are_served() {
        let metrics = Metrics::new();
        metrics.count(&EventKind::AttemptFailed { generation: 3, failure: "unanswered".to_owned(), retry_in_ms: 1 });
        let leaf = Some(LeafView { not_after_ms: 1_500, ..LeafView::default() });
        let status = StatusView { phase: "Proving".to_owned(), client_leaf: leaf, ..StatusView::default() };
        let text = metrics.render(&status);
        for line in [
            r#"exuvia_leaf_not_after_timestamp_seconds{leaf="client"} 1.5"#,
            r#"exuvia_renewal_phase{phase="Proving"} 1"#,
            r#"exuvia_renewal_phase{phase="Steady"} 0"#,
            r#"exuvia_renewal_attempts_total{outcome="failure",reason="unanswered"} 1"#,
            "exuvia_renewal_last_success_timestamp_seconds 0.0",
            "exuvia_lockout_seconds 0.0",
            r#"exuvia_storage_mode{mode="writable"} 1"#,
        ] {
            assert!(text.lines().any(|found| found == line), "`{line}` is not in\n{text}");
        }
    }
}
