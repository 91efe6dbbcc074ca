//! OpenZiti as it is, as far as a renewal goes: one fingerprint per router, promoted by 20303, before the router has written a byte.
//!
//! A model, after `openziti/ziti:controller/handler_edge_ctrl/extend_enrollment.go`, `extend_enrollment_verify.go`,
//! `controller/handler_ctrl/connect.go`, `controller/network/network.go` and `router/state/{certchecker,extendEnrollmentCerts}.go`.

use lifecycle::{Fingerprint, Leaf, UnixTime};

/// How long after its beginning a connected router may not be displaced: `routerConnectChurnLimit`.
pub(crate) const CHURN_MS: u64 = 60_000;

/// What a stock controller's database holds of one router.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) admitted: Leaf,
    pub(crate) pending: Option<Leaf>,
}

/// One replicated change. Nothing in it says what it was decided on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Change {
    Pending { router: usize, leaf: Leaf },
    Promote { router: usize, leaf: Leaf },
}

/// All nodes' databases: one log, of which each node has applied a prefix.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    nodes: Vec<(usize, Vec<Row>)>,
    log: Vec<Change>,
    log_start: usize,
    backup: Option<Vec<Row>>,
}

impl Cluster {
    pub(crate) fn new(nodes: usize, rows: &[Row]) -> Self {
        Self { nodes: vec![(0, rows.to_vec()); nodes], log: Vec::new(), log_start: 0, backup: None }
    }

    pub(crate) fn row(&self, node: usize, router: usize) -> Option<&Row> {
        self.nodes.get(node)?.1.get(router)
    }

    /// Appends a change; answers up to where a node has to apply to have it.
    pub(crate) fn append(&mut self, change: Change) -> usize {
        self.log.push(change);
        self.log_start + self.log.len()
    }

    /// Brings a node up to this length of the log. Answers whose rows changed.
    pub(crate) fn apply(&mut self, node: usize, until: usize) -> Vec<usize> {
        let Some((applied, rows)) = self.nodes.get_mut(node) else { return Vec::new() };
        let mut changed = Vec::new();
        for at in *applied..until.min(self.log_start + self.log.len()) {
            let Some(change) = at.checked_sub(self.log_start).and_then(|at| self.log.get(at)) else { continue };
            let (router, leaf, is_promotion) = match *change {
                Change::Pending { router, leaf } => (router, leaf, false),
                Change::Promote { router, leaf } => (router, leaf, true),
            };
            if let Some(row) = rows.get_mut(router) {
                *row = if is_promotion {
                    Row { admitted: leaf, pending: None }
                } else {
                    Row { pending: Some(leaf), ..*row }
                };
                changed.push(router);
            }
        }
        *applied = (*applied).max(until);
        let behind = self.nodes.iter().map(|(applied, _)| *applied).min().unwrap_or(0);
        self.log.drain(..behind.saturating_sub(self.log_start).min(self.log.len()));
        self.log_start = self.log_start.max(behind);
        changed
    }

    /// How long the log is.
    pub(crate) fn end(&self) -> usize {
        self.log_start + self.log.len()
    }

    pub(crate) fn admits(&self, node: usize, router: usize, leaf: Fingerprint, wall: UnixTime) -> bool {
        self.row(node, router).is_some_and(|row| row.admitted.fingerprint == leaf && !row.admitted.is_expired(wall))
    }

    pub(crate) fn back_up(&mut self) {
        self.backup = self.nodes.first().map(|(_, rows)| rows.clone());
    }

    pub(crate) fn restore(&mut self) -> bool {
        let Some(rows) = self.backup.clone() else { return false };
        let end = self.log_start + self.log.len();
        for node in &mut self.nodes {
            *node = (end, rows.clone());
        }
        self.log.clear();
        self.log_start = end;
        true
    }
}

/// What a stock router's certificate file holds. Written in place, never synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CertFile {
    pub(crate) cached: Option<Leaf>,
    pub(crate) durable: Option<Leaf>,
    /// When the kernel will have written it back.
    pub(crate) written_back_ms: u64,
}

impl CertFile {
    /// Truncate, write, close.
    pub(crate) fn overwrite(&mut self, leaf: Leaf, now_ms: u64) {
        self.durable = if now_ms >= self.written_back_ms { self.cached } else { self.durable };
        self.cached = Some(leaf);
        self.written_back_ms = now_ms + 30_000;
    }

    /// What the medium holds after a power cut at this moment: a file that was truncated and not written back is empty.
    pub(crate) fn after_power_cut(&self, now_ms: u64) -> Self {
        let found = if now_ms >= self.written_back_ms { self.cached } else { None };
        Self { cached: found, durable: found, written_back_ms: 0 }
    }
}

/// A process of the stock router.
#[derive(Clone, Debug)]
pub(crate) struct StockProcess {
    /// The identity in memory.
    pub(crate) leaf: Leaf,
    /// `--extend`, until the first attempt.
    pub(crate) is_forced: bool,
    /// Run waits until then before it looks again.
    pub(crate) next_look_ms: u64,
    /// Certificates whose 20303 is out: the leaf, and when its handler gives up.
    pub(crate) verifying: Vec<(Leaf, u64)>,
}
