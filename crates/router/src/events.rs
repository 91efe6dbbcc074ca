//! What a running router tells: the machine's events, what became durable when, and what its connections do.
//!
//! The same lines go to the log, to whoever listens on the admin socket, and into the metrics.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use lifecycle::renewal::{Barrier, Blocked, Cause, Event, Failure, Storage, StorageTrouble};
use lifecycle::{GenerationNumber, UnixTime};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

/// Lines that a slow listener may be behind before it loses some.
const BACKLOG: usize = 256;

/// One line of the event stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EventLine {
    /// When, by the wall clock: milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// Where the newest attempt stands after it.
    pub phase: String,
    /// The generation that is served.
    pub live: u64,
    /// What happened.
    #[serde(flatten)]
    pub what: EventKind,
}

/// What happened. Durations and instants are in milliseconds, generations are numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[allow(missing_docs, reason = "the variants are the words of `lifecycle`, field by field")]
pub enum EventKind {
    Started {},
    Connected {
        controller: String,
        generation: u64,
    },
    Disconnected {
        controller: String,
    },
    Refused {
        controller: String,
        generation: u64,
        retry_in_ms: u64,
    },
    AttemptBegan {
        generation: u64,
        cause: String,
    },
    Requested {
        generation: u64,
        controller: String,
    },
    Staged {
        generation: u64,
        not_after_ms: i64,
    },
    Proving {
        generation: u64,
        controller: String,
    },
    Promoted {
        generation: u64,
        controller: String,
    },
    AttemptFailed {
        generation: u64,
        failure: String,
        retry_in_ms: u64,
    },
    OlderAdmitted {
        generation: u64,
        controller: String,
    },
    Imported {
        generation: u64,
    },
    Retired {
        generations: Vec<u64>,
    },
    Blocked {
        reason: String,
    },
    AskDeferred {
        cause: String,
        wait_ms: u64,
    },
    Lapsed {},
    Storage {
        mode: String,
    },
    /// A barrier is about to be made durable.
    BarrierStarted {
        what: String,
        generation: Option<u64>,
    },
    /// It is durable, or it is not.
    BarrierDone {
        what: String,
        generation: Option<u64>,
        is_durable: bool,
        took_us: u64,
        error: Option<String>,
    },
    /// A barrier failed: the machine was built anew from the disk.
    Recovered {
        reason: String,
    },
    /// Every TLS endpoint serves this generation from now on.
    Published {
        generation: u64,
    },
    /// The configured paths hold this generation now.
    Projected {
        generation: u64,
    },
    /// A 20301 that belongs to no attempt was dropped.
    StaleAnswer {
        controller: String,
        reason: String,
    },
    UnderlayOpened {
        controller: String,
        kind: String,
        generation: Option<u64>,
    },
    UnderlayClosed {
        controller: String,
        kind: String,
        is_by_us: bool,
        reason: String,
    },
    /// This listener was too slow and lost so many lines.
    Lagged {
        missed: u64,
    },
    ShuttingDown {},
}

/// What a barrier makes durable, as a word, and for which generation.
pub(crate) fn barrier_name(barrier: &Barrier) -> (&'static str, Option<GenerationNumber>) {
    match barrier {
        Barrier::Prepare { number, .. } => ("prepare", Some(*number)),
        Barrier::Stage { number, .. } => ("stage", Some(*number)),
        Barrier::Import { number, .. } => ("import", Some(*number)),
        Barrier::Manifest(_) => ("manifest", None),
    }
}

/// A cause as a word.
pub(crate) fn cause_name(cause: Cause) -> &'static str {
    match cause {
        Cause::Due => "due",
        Cause::Window => "window",
        Cause::Operator => "operator",
        Cause::StartFlag => "start_flag",
    }
}

/// A failure as a word.
pub(crate) fn failure_name(failure: Failure) -> &'static str {
    match failure {
        Failure::Storage(StorageTrouble::Full) => "storage_full",
        Failure::Storage(StorageTrouble::ReadOnly) => "storage_read_only",
        Failure::Storage(StorageTrouble::Broken) => "storage_broken",
        Failure::Unanswered => "unanswered",
        Failure::RefusedByController => "refused_by_controller",
        Failure::Unacceptable => "unacceptable",
        Failure::Dates => "dates",
        Failure::Unsafe => "unsafe",
        Failure::Unproven => "unproven",
    }
}

/// Why nothing begins, as a word.
pub(crate) fn blocked_name(blocked: Blocked) -> &'static str {
    match blocked {
        Blocked::VolatileStorage => "volatile_storage",
        Blocked::ExternallyManaged => "externally_managed",
        Blocked::NoRoom => "no_room",
    }
}

/// A storage mode as a word.
pub(crate) fn storage_name(storage: Storage) -> &'static str {
    match storage {
        Storage::Writable => "writable",
        Storage::ReadOnly => "read_only",
        Storage::Volatile => "volatile",
        Storage::ExternallyManaged => "externally_managed",
    }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl From<Event> for EventKind {
    fn from(event: Event) -> Self {
        let name = |controller: lifecycle::ControllerId| controller.as_str().to_owned();
        match event {
            Event::Started(_) => Self::Started {},
            Event::Connected { controller, generation } => {
                Self::Connected { controller: name(controller), generation: generation.0 }
            }
            Event::Disconnected { controller } => Self::Disconnected { controller: name(controller) },
            Event::Refused { controller, generation, retry_in } => {
                Self::Refused { controller: name(controller), generation: generation.0, retry_in_ms: ms(retry_in) }
            }
            Event::AttemptBegan { number, cause } => {
                Self::AttemptBegan { generation: number.0, cause: cause_name(cause).to_owned() }
            }
            Event::Requested { number, controller } => {
                Self::Requested { generation: number.0, controller: name(controller) }
            }
            Event::Staged { number, not_after } => {
                Self::Staged { generation: number.0, not_after_ms: not_after.as_ms() }
            }
            Event::Proving { number, controller } => {
                Self::Proving { generation: number.0, controller: name(controller) }
            }
            Event::Promoted { number, controller } => {
                Self::Promoted { generation: number.0, controller: name(controller) }
            }
            Event::AttemptFailed { number, failure, retry_in } => Self::AttemptFailed {
                generation: number.0,
                failure: failure_name(failure).to_owned(),
                retry_in_ms: ms(retry_in),
            },
            Event::OlderAdmitted { number, controller } => {
                Self::OlderAdmitted { generation: number.0, controller: name(controller) }
            }
            Event::Imported(number) => Self::Imported { generation: number.0 },
            Event::Retired(numbers) => Self::Retired { generations: numbers.iter().map(|number| number.0).collect() },
            Event::Blocked(blocked) => Self::Blocked { reason: blocked_name(blocked).to_owned() },
            Event::AskDeferred { cause, wait } => {
                Self::AskDeferred { cause: cause_name(cause).to_owned(), wait_ms: ms(wait) }
            }
            Event::Lapsed => Self::Lapsed {},
            Event::Storage(storage) => Self::Storage { mode: storage_name(storage).to_owned() },
        }
    }
}

/// How loudly a line is logged.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Loudness {
    Debug,
    Info,
    Warn,
    Error,
}

impl EventKind {
    /// The word that the stream has for it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Started {} => "started",
            Self::Connected { .. } => "connected",
            Self::Disconnected { .. } => "disconnected",
            Self::Refused { .. } => "refused",
            Self::AttemptBegan { .. } => "attempt_began",
            Self::Requested { .. } => "requested",
            Self::Staged { .. } => "staged",
            Self::Proving { .. } => "proving",
            Self::Promoted { .. } => "promoted",
            Self::AttemptFailed { .. } => "attempt_failed",
            Self::OlderAdmitted { .. } => "older_admitted",
            Self::Imported { .. } => "imported",
            Self::Retired { .. } => "retired",
            Self::Blocked { .. } => "blocked",
            Self::AskDeferred { .. } => "ask_deferred",
            Self::Lapsed {} => "lapsed",
            Self::Storage { .. } => "storage",
            Self::BarrierStarted { .. } => "barrier_started",
            Self::BarrierDone { .. } => "barrier_done",
            Self::Recovered { .. } => "recovered",
            Self::Published { .. } => "published",
            Self::Projected { .. } => "projected",
            Self::StaleAnswer { .. } => "stale_answer",
            Self::UnderlayOpened { .. } => "underlay_opened",
            Self::UnderlayClosed { .. } => "underlay_closed",
            Self::Lagged { .. } => "lagged",
            Self::ShuttingDown {} => "shutting_down",
        }
    }

    /// The generation that it is about, if it is about one.
    pub fn generation(&self) -> Option<u64> {
        match self {
            Self::Connected { generation, .. }
            | Self::Refused { generation, .. }
            | Self::AttemptBegan { generation, .. }
            | Self::Requested { generation, .. }
            | Self::Staged { generation, .. }
            | Self::Proving { generation, .. }
            | Self::Promoted { generation, .. }
            | Self::AttemptFailed { generation, .. }
            | Self::OlderAdmitted { generation, .. }
            | Self::Imported { generation }
            | Self::Published { generation }
            | Self::Projected { generation } => Some(*generation),
            Self::BarrierStarted { generation, .. }
            | Self::BarrierDone { generation, .. }
            | Self::UnderlayOpened { generation, .. } => *generation,
            Self::Started {}
            | Self::Disconnected { .. }
            | Self::Retired { .. }
            | Self::Blocked { .. }
            | Self::AskDeferred { .. }
            | Self::Lapsed {}
            | Self::Storage { .. }
            | Self::Recovered { .. }
            | Self::StaleAnswer { .. }
            | Self::UnderlayClosed { .. }
            | Self::Lagged { .. }
            | Self::ShuttingDown {} => None,
        }
    }

    /// The controller that it is about, if it is about one.
    pub fn controller(&self) -> Option<&str> {
        match self {
            Self::Connected { controller, .. }
            | Self::Disconnected { controller }
            | Self::Refused { controller, .. }
            | Self::Requested { controller, .. }
            | Self::Proving { controller, .. }
            | Self::Promoted { controller, .. }
            | Self::OlderAdmitted { controller, .. }
            | Self::StaleAnswer { controller, .. }
            | Self::UnderlayOpened { controller, .. }
            | Self::UnderlayClosed { controller, .. } => Some(controller),
            Self::Started {}
            | Self::AttemptBegan { .. }
            | Self::Staged { .. }
            | Self::AttemptFailed { .. }
            | Self::Imported { .. }
            | Self::Retired { .. }
            | Self::Blocked { .. }
            | Self::AskDeferred { .. }
            | Self::Lapsed {}
            | Self::Storage { .. }
            | Self::BarrierStarted { .. }
            | Self::BarrierDone { .. }
            | Self::Recovered { .. }
            | Self::Published { .. }
            | Self::Projected { .. }
            | Self::Lagged { .. }
            | Self::ShuttingDown {} => None,
        }
    }

    fn loudness(&self) -> Loudness {
        match self {
            Self::BarrierStarted { .. }
            | Self::BarrierDone { is_durable: true, .. }
            | Self::UnderlayOpened { .. }
            | Self::UnderlayClosed { .. }
            | Self::Requested { .. }
            | Self::Lagged { .. } => Loudness::Debug,
            Self::Started {}
            | Self::Connected { .. }
            | Self::AttemptBegan { .. }
            | Self::Staged { .. }
            | Self::Proving { .. }
            | Self::Promoted { .. }
            | Self::Imported { .. }
            | Self::Retired { .. }
            | Self::AskDeferred { .. }
            | Self::Storage { .. }
            | Self::Published { .. }
            | Self::Projected { .. }
            | Self::ShuttingDown {} => Loudness::Info,
            Self::Disconnected { .. }
            | Self::Refused { .. }
            | Self::AttemptFailed { .. }
            | Self::OlderAdmitted { .. }
            | Self::Blocked { .. }
            | Self::BarrierDone { .. }
            | Self::StaleAnswer { .. } => Loudness::Warn,
            Self::Recovered { .. } | Self::Lapsed {} => Loudness::Error,
        }
    }
}

/// A sentence for people.
impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |ms: &u64| Duration::from_millis(*ms).as_secs_f32();
        match self {
            Self::Started {} => f.write_str("the router runs"),
            Self::Connected { controller, generation } => {
                write!(f, "{controller} admits generation {generation}: control channel open")
            }
            Self::Disconnected { controller } => write!(f, "the control channel to {controller} closed"),
            Self::Refused { controller, generation, retry_in_ms } => write!(
                f,
                "{controller} did not admit generation {generation}; next try in {:.1} s",
                seconds(retry_in_ms)
            ),
            Self::AttemptBegan { generation, cause } => {
                write!(f, "renewal begins ({cause}): the keys of generation {generation} are durable")
            }
            Self::Requested { generation, controller } => {
                write!(f, "asked {controller} for the leaves of generation {generation}")
            }
            Self::Staged { generation, not_after_ms } => write!(
                f,
                "generation {generation} is durable; its client leaf ends {}",
                crate::clock::spell(UnixTime::from_ms(*not_after_ms))
            ),
            Self::Proving { generation, controller } => {
                write!(f, "told {controller} that generation {generation} is stored")
            }
            Self::Promoted { generation, controller } => {
                write!(f, "renewed: {controller} admitted generation {generation}")
            }
            Self::AttemptFailed { generation, failure, retry_in_ms } => write!(
                f,
                "renewal to generation {generation} did not succeed ({failure}); next try in {:.1} s",
                seconds(retry_in_ms)
            ),
            Self::OlderAdmitted { generation, controller } => {
                write!(f, "{controller} admits the older generation {generation}; it is served again")
            }
            Self::Imported { generation } => {
                write!(f, "found another identity of this router at the configured paths; kept as generation {generation}")
            }
            Self::Retired { generations } => write!(f, "erased the keys of generations {generations:?}"),
            Self::Blocked { reason } => write!(f, "a due renewal does not begin: {reason}; see `exuvia doctor`"),
            Self::AskDeferred { wait_ms: 0, .. } => f.write_str("a renewal is under way already"),
            Self::AskDeferred { wait_ms, .. } => {
                write!(f, "too early after the last renewal; ask again in {:.0} s", seconds(wait_ms))
            }
            Self::Lapsed {} => f.write_str(
                "every leaf is past its end by this machine's clock; going on dialing. If the clock is right: create a new \
                 enrollment token on the controller (re-enroll) and run `exuvia router enroll` with it",
            ),
            Self::Storage { mode } => write!(f, "the state folder is {mode}"),
            Self::BarrierStarted { what, .. } => write!(f, "making {what} durable"),
            Self::BarrierDone { what, is_durable: true, took_us, .. } => write!(f, "{what} is durable after {took_us} µs"),
            Self::BarrierDone { what, error, .. } => {
                write!(f, "could not make {what} durable: {}", error.as_deref().unwrap_or("unknown"))
            }
            Self::Recovered { reason } => write!(f, "read the disk again after a failure: {reason}"),
            Self::Published { generation } => write!(f, "new handshakes use generation {generation}"),
            Self::Projected { generation } => write!(f, "the configured paths hold generation {generation}"),
            Self::StaleAnswer { controller, reason } => write!(f, "dropped certificates from {controller}: {reason}"),
            Self::UnderlayOpened { controller, kind, .. } => write!(f, "{kind} connection to {controller} open"),
            Self::UnderlayClosed { controller, kind, reason, .. } => {
                write!(f, "{kind} connection to {controller} closed: {reason}")
            }
            Self::Lagged { missed } => write!(f, "{missed} lines were lost"),
            Self::ShuttingDown {} => f.write_str("shutting down"),
        }
    }
}

/// Where lines go.
#[derive(Clone, Debug)]
pub struct EventStream {
    listeners: broadcast::Sender<Arc<EventLine>>,
}

impl Default for EventStream {
    fn default() -> Self {
        Self { listeners: broadcast::Sender::new(BACKLOG) }
    }
}

impl EventStream {
    /// Logs the line and hands it to everybody who listens.
    pub(crate) fn tell(&self, line: EventLine) {
        let EventLine { phase, live, what, .. } = &line;
        let (event, generation, controller) = (what.name(), what.generation(), what.controller());
        macro_rules! log {
            ($level:ident) => {
                tracing::$level!(target: "exuvia::router", event, phase, live, generation, controller, "{what}")
            };
        }
        match what.loudness() {
            Loudness::Debug => log!(debug),
            Loudness::Info => log!(info),
            Loudness::Warn => log!(warn),
            Loudness::Error => log!(error),
        }
        // Nobody listening is the usual case.
        let _ = self.listeners.send(Arc::new(line));
    }

    /// Everything from now on.
    pub fn listen(&self) -> broadcast::Receiver<Arc<EventLine>> {
        self.listeners.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_its_name_says_and_is_read_again() {
        let what = EventKind::Refused { controller: "c".to_owned(), generation: 7, retry_in_ms: 1500 };
        let line = EventLine { at_ms: 5, phase: "Steady".to_owned(), live: 6, what };
        let text = serde_json::to_string(&line).unwrap();
        assert_eq!(
            text,
            r#"{"at_ms":5,"phase":"Steady","live":6,"event":"refused","controller":"c","generation":7,"retry_in_ms":1500}"#
        );
        assert_eq!(serde_json::from_str::<EventLine>(&text).unwrap(), line);
        assert_eq!((line.what.name(), line.what.generation(), line.what.controller()), ("refused", Some(7), Some("c")));
        assert_eq!(line.what.to_string(), "c did not admit generation 7; next try in 1.5 s");
    }
}
