//! Stock controllers, after `openziti/ziti:controller/handler_edge_ctrl/extend_enrollment.go`, `extend_enrollment_verify.go`,
//! `controller/handler_ctrl/connect.go`, `controller/model/edge_router_manager.go` and `transit_router_manager.go`.

use super::Turn;
use crate::action::Fate;
use crate::defects::Mark;
use crate::paper::Paper;
use crate::scope::Flow;
use crate::seen::Sight;
use crate::state::{Body, Change, Channel, Cluster, Control, Message, Purpose, Row};

impl Row {
    /// What a change makes of it. Nothing is compared again.
    fn apply(&mut self, change: Change) {
        match change {
            Change::Pending(paper) => self.pending = Some(paper),
            Change::Promote(paper) => *self = Self { admitted: Some(paper), pending: None },
            Change::ReEnroll => self.admitted = None,
            Change::Enroll(paper) => self.admitted = Some(paper),
            Change::Delete => *self = Self { admitted: None, pending: None },
        }
    }
}

impl Turn<'_> {
    pub(crate) fn cluster(&mut self) -> Option<&mut Cluster> {
        match &mut self.state.control {
            Control::Stock(cluster) => Some(cluster),
            Control::Exuvia(_) => None,
        }
    }

    fn row(&mut self, node: u8) -> Option<Row> {
        self.cluster().and_then(|cluster| cluster.rows.get(usize::from(node)).copied())
    }

    /// Appends a change to the log. The node that asked applies all there is, unless it lags; the other one in its own time.
    pub(crate) fn replicate(&mut self, node: u8, change: Change, lags: bool) {
        let nodes = self.scope.nodes;
        let Some(cluster) = self.cluster() else { return };
        for at in 0..nodes {
            let at = usize::from(at);
            let (Some(row), Some(behind)) = (cluster.rows.get_mut(at), cluster.behind.get_mut(at)) else { continue };
            behind.push(change);
            if nodes == 1 || at == usize::from(node) && !lags {
                for change in behind.drain(..) {
                    row.apply(change);
                }
            }
        }
    }

    /// A lagging node applies the next change.
    pub(crate) fn apply(&mut self, node: u8) -> bool {
        let at = usize::from(node);
        let Some(cluster) = self.cluster() else { return false };
        let (Some(row), Some(behind)) = (cluster.rows.get_mut(at), cluster.behind.get_mut(at)) else { return false };
        if behind.is_empty() {
            return false;
        }
        row.apply(behind.remove(0));
        true
    }

    pub(crate) fn stock_controller_receives(&mut self, message: Message, fate: Fate) -> bool {
        let node = message.node;
        let lags = fate == Fate::Lags;
        if lags && (self.scope.nodes == 1 || !matches!(message.body, Body::Promoting { .. })) {
            return false;
        }
        let Some(row) = self.row(node) else { return false };
        if self.cluster().is_some_and(|cluster| cluster.behind.get(usize::from(node)).is_some_and(|b| !b.is_empty())) {
            self.sight(Sight::Lagged);
        }
        match message.body {
            Body::Hello(hello) => {
                let Some(open) = self.state.channels.get(usize::from(node)).copied() else { return false };
                let at = self.clock_of(node);
                let is_admitted = row.admitted == Some(hello.paper) && !hello.paper.is_expired(self.scope, at);
                let has_place = hello.purpose == Purpose::Channel || open.is_some();
                if is_admitted && has_place && hello.is_awaited {
                    if let Some(channel) = self.state.channels.get_mut(usize::from(node)) {
                        *channel = Some(Channel { epoch: 0, leaf: hello.paper });
                    }
                    self.send(node, Body::Welcome(hello));
                } else if hello.is_awaited {
                    self.send(node, Body::Refused(hello));
                }
            }
            Body::Extend { key, .. } => {
                // Looked up by the leaf of the newest underlay; whoever is not found gets no answer.
                let shown = self.state.channels.get(usize::from(node)).copied().flatten().map(|open| open.leaf);
                if shown.is_none() || shown != row.admitted {
                    return true;
                }
                let signed_at = self.clock_of(node);
                self.send(node, Body::Signed { key, epoch: 1, signed_at });
            }
            Body::Signed { key, epoch, signed_at } => {
                let Some(paper) = self.next_paper(key, epoch, signed_at) else { return true };
                self.state.signed += 1;
                if self.scope.flow == Flow::SwapBeforeAnswer {
                    self.note_promotion(row, paper);
                    self.replicate(node, Change::Promote(paper), false);
                } else {
                    self.replicate(node, Change::Pending(paper), false);
                }
                self.send(node, Body::Extended { paper });
            }
            Body::Verify { paper, .. } => {
                if self.state.channels.get(usize::from(node)).is_some_and(Option::is_none) {
                    self.sight(Sight::LateVerify);
                }
                // The text of a transit router's pending certificate is never kept.
                let is_pending = row.pending == Some(paper) && self.scope.flow != Flow::Transit;
                if is_pending {
                    self.send(node, Body::Promoting { paper });
                } else {
                    if self.scope.flow == Flow::Transit && row.pending == Some(paper) {
                        self.mark(Mark::TransitRefused);
                    }
                    self.send(node, Body::Verified { paper, is_success: false });
                }
            }
            Body::Promoting { paper } => {
                self.note_promotion(row, paper);
                self.replicate(node, Change::Promote(paper), lags);
                self.story.note(crate::story::Actor::Controller(node), || {
                    format!("fingerprint = {}{}", super::name(paper), if lags { ", not applied in time" } else { "" })
                });
                self.send(node, Body::Verified { paper, is_success: !lags });
            }
            Body::Welcome(_) | Body::Refused(_) | Body::Extended { .. } | Body::Verified { .. } => return false,
        }
        true
    }

    /// Takes note of promotions that are known defects.
    fn note_promotion(&mut self, row: Row, paper: Paper) {
        if let Some(admitted) = row.admitted {
            if admitted.epoch > paper.epoch {
                self.mark(Mark::PendingOutlivedReEnroll);
            } else if admitted.serial > paper.serial {
                self.mark(Mark::OlderPromotedOverNewer);
            }
        }
        let nodes = self.scope.nodes;
        let newest = self.cluster().map(|cluster| {
            cluster.rows.iter().take(usize::from(nodes)).filter_map(|row| row.admitted).map(|paper| paper.serial).max()
        });
        if nodes > 1 && newest.flatten().is_some_and(|serial| serial > paper.serial) {
            self.mark(Mark::OlderPromotedOverNewer);
        }
        if self.scope.flow == Flow::SwapBeforeAnswer {
            self.mark(Mark::SwappedBeforeAnswer);
        }
    }
}
