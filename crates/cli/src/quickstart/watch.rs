//! What the routers say of themselves, as it happens.
//!
//! One task per router follows the admin event stream of whatever process is that router now, and is there again as soon as
//! the next one listens.

pub(crate) mod disk;
pub(crate) mod lockout;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use net::stop::StopSignal;
use router::admin::{Answer, Client};
use router::events::{EventKind, EventLine};
use router::status::StatusView;
use tokio::sync::{broadcast, watch};

use super::tally::{Loss, Side, Tally};

/// Between two tries to reach a router that does not listen.
const RETRY: Duration = Duration::from_millis(30);
/// A router that says nothing is asked this often.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// Lines under way to a slow reader.
const BACKLOG: usize = 1024;

/// What is known of one router now.
#[derive(Clone, Debug, Default)]
pub(crate) struct Now {
    /// Does a process listen?
    pub(crate) is_running: bool,
    /// Is there a control channel?
    pub(crate) is_connected: bool,
    pub(crate) phase: String,
    pub(crate) generation: u64,
    pub(crate) client_not_after_ms: i64,
    pub(crate) server_not_after_ms: i64,
    pub(crate) renew_at_ms: i64,
    pub(crate) last_proof_ms: Option<i64>,
    pub(crate) storage: String,
    /// How often a process of this router was seen to start.
    pub(crate) starts: u64,
}

/// One line of one router.
#[derive(Clone, Debug)]
pub(crate) struct Heard {
    /// Whose: its position in the tally.
    pub(crate) index: usize,
    pub(crate) line: EventLine,
}

/// The lines of all routers, in the order in which they were heard.
pub(crate) fn all_lines() -> broadcast::Sender<Heard> {
    broadcast::Sender::new(BACKLOG)
}

/// One router, watched.
#[derive(Debug)]
pub(crate) struct Watched {
    index: usize,
    sockets: Vec<PathBuf>,
    tally: Arc<Tally>,
    now: watch::Sender<Now>,
    lines: broadcast::Sender<Heard>,
    /// Was the underlay that closed last closed by the router itself?
    was_by_us: AtomicBool,
}

impl Watched {
    pub(crate) fn new(
        index: usize,
        sockets: Vec<PathBuf>,
        tally: Arc<Tally>,
        lines: broadcast::Sender<Heard>,
    ) -> Arc<Self> {
        Arc::new(Self {
            index,
            sockets,
            tally,
            now: watch::Sender::default(),
            lines,
            was_by_us: AtomicBool::new(false),
        })
    }

    /// What is known of it.
    pub(crate) fn now(&self) -> Now {
        self.now.borrow().clone()
    }

    /// Changes of what is known.
    pub(crate) fn changes(&self) -> watch::Receiver<Now> {
        self.now.subscribe()
    }

    /// Asks it to renew now. `true` if a renewal began.
    pub(crate) async fn renew(&self) -> bool {
        let Ok(mut client) = Client::connect(&self.sockets).await else { return false };
        matches!(client.renew().await, Ok(Answer::Began { .. }))
    }

    /// Follows it until told to stop.
    pub(crate) async fn follow(self: Arc<Self>, mut stop: StopSignal) {
        tokio::select! {
            () = self.follow_processes() => {}
            () = stop.stopped() => {}
        }
    }

    async fn follow_processes(&self) {
        loop {
            if let Ok(client) = Client::connect(&self.sockets).await
                && let Ok(mut events) = client.events().await
            {
                self.now.send_modify(|now| now.starts += 1);
                self.look().await;
                loop {
                    match tokio::time::timeout(LOOK_AGAIN, events.next()).await {
                        Ok(Ok(Some(line))) => self.hear(line).await,
                        Ok(Ok(None) | Err(_)) => break,
                        Err(_) => self.look().await,
                    }
                }
                self.now.send_modify(|now| {
                    now.is_running = false;
                    now.is_connected = false;
                });
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Asks how things stand.
    async fn look(&self) {
        let Ok(mut client) = Client::connect(&self.sockets).await else { return };
        let asked = tokio::time::timeout(Duration::from_secs(2), client.status()).await;
        let Ok(Ok(status)) = asked else { return };
        self.take(&status);
    }

    fn take(&self, status: &StatusView) {
        self.note_generation(status.generation);
        self.now.send_modify(|now| {
            now.is_running = true;
            now.is_connected = status.is_connected();
            now.phase.clone_from(&status.phase);
            now.generation = status.generation;
            now.client_not_after_ms = status.client_leaf.as_ref().map_or(0, |leaf| leaf.not_after_ms);
            now.server_not_after_ms = status.server_leaf.as_ref().map_or(0, |leaf| leaf.not_after_ms);
            now.renew_at_ms = status.renew_at_ms;
            now.last_proof_ms = status.last_proof_ms.or(now.last_proof_ms);
            now.storage.clone_from(&status.storage);
        });
    }

    /// A router that was killed right after a promotion may never have said so; the next one serves that generation.
    fn note_generation(&self, generation: u64) {
        let before = self.now.borrow().generation;
        if before != 0 && generation > before {
            self.tally.router(self.index, |router| {
                router.promoted.insert(generation);
            });
        }
    }

    fn lose_underlay(&self, what: &str) {
        let loss = Loss::Connection { bytes: 0 };
        if self.tally.lose(self.index, Side::Control, Instant::now(), &loss).is_none() {
            self.tally.complain(format!("router {}: {what}", self.index + 1));
        }
    }

    async fn hear(&self, line: EventLine) {
        if line.live != 0 {
            self.now.send_modify(|now| {
                now.phase.clone_from(&line.phase);
                now.is_running = true;
            });
        }
        // Before anything that takes time: faults are aimed by these lines.
        let index = self.index;
        let _ = self.lines.send(Heard { index, line: line.clone() });
        match &line.what {
            EventKind::Promoted { generation, .. } => {
                self.tally.router(index, |router| {
                    router.promoted.insert(*generation);
                });
                self.now.send_modify(|now| now.last_proof_ms = Some(line.at_ms));
                self.look().await;
            }
            EventKind::AttemptFailed { .. } | EventKind::Recovered { .. } => {
                self.tally.router(index, |router| router.failed_attempts += 1)
            }
            EventKind::UnderlayClosed { kind, is_by_us, reason, .. } => {
                self.was_by_us.store(*is_by_us, Ordering::Relaxed);
                // Taking away one of several, in good order, loses nothing.
                if !is_by_us {
                    self.lose_underlay(&format!("its {kind} connection to the controller closed: {reason}"));
                }
            }
            EventKind::Disconnected { .. } => {
                // Taking away the last one does.
                if self.was_by_us.load(Ordering::Relaxed) {
                    self.lose_underlay("it closed its control channel itself");
                }
                self.look().await;
            }
            EventKind::Connected { .. } => {
                self.now.send_modify(|now| now.is_connected = true);
                self.look().await;
            }
            EventKind::Started {} | EventKind::OlderAdmitted { .. } => self.look().await,
            EventKind::Lagged { missed } => {
                self.tally.complain(format!("{missed} events of router {} were missed", index + 1))
            }
            _ => {}
        }
    }
}
