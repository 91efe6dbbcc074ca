//! Heartbeats: headers 5 and 6 on whatever goes out, an empty frame of type 5 when nothing does, and the judgement
//! whether the other side is still there.
//!
//! One [`Heartbeats`] per channel, not per underlay. The caller owns clock and timer: it stamps every outgoing frame,
//! shows every incoming one, and when [`Heartbeats::wake_ns`] has come calls [`Heartbeats::standalone`] and
//! [`Heartbeats::health`]. The clock is in nanoseconds and must not jump; the peer only echoes it, so unix time at the
//! process's start plus a monotonic clock since then is right.
//!
//! Upstream: `openziti/channel:heartbeater.go`, `openziti/ziti:router/env/ctrl.go`,
//! `openziti/ziti:controller/handler_ctrl/bind.go`.

use crate::frame::{Frame, NO_SEQUENCE};
use crate::{content_type, header};

const SECOND_NS: u64 = 1_000_000_000;
/// How long an answer waits for a frame to ride on.
const ANSWER_WAIT_NS: u64 = 2_000_000;

/// How often we ask, and how long we wait. All in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeartbeatPolicy {
    /// From one heartbeat of ours to the next.
    pub send_interval_ns: u64,
    /// From an unanswered heartbeat until the peer counts as unresponsive.
    pub unresponsive_after_ns: u64,
    /// From the last answer until the channel is to be closed.
    pub close_after_ns: u64,
    /// From the channel's opening until it is to be closed, if no answer ever came.
    pub initial_grace_ns: u64,
}

impl HeartbeatPolicy {
    /// A router's: asks every 10 s, closes after 30 s without an answer, from the start.
    pub const ROUTER: Self = Self {
        send_interval_ns: 10 * SECOND_NS,
        unresponsive_after_ns: 5 * SECOND_NS,
        close_after_ns: 30 * SECOND_NS,
        initial_grace_ns: 30 * SECOND_NS,
    };
    /// A controller's: as a router's, but the first answer may take 60 s.
    pub const CONTROLLER: Self = Self { initial_grace_ns: 60 * SECOND_NS, ..Self::ROUTER };
    /// A link's: closes after 60 s, the first answer may take 120 s.
    pub const LINK: Self = Self { close_after_ns: 60 * SECOND_NS, initial_grace_ns: 120 * SECOND_NS, ..Self::ROUTER };
}

/// What the heartbeats say about the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerHealth {
    /// It answers.
    Responsive,
    /// It is late; prefer another one if there is another.
    Unresponsive,
    /// It was silent for too long: close the channel.
    Gone,
}

/// The heartbeats of one channel.
#[derive(Clone, Debug)]
pub struct Heartbeats {
    policy: HeartbeatPolicy,
    opened_ns: u64,
    /// When our latest heartbeat left.
    last_sent_ns: Option<u64>,
    /// When the oldest heartbeat left that nothing answered yet.
    waiting_since_ns: Option<u64>,
    last_answer_ns: Option<u64>,
    round_trip_ns: Option<u64>,
    /// The peer's latest heartbeat, to be echoed, and when it came.
    owed: Option<(u64, u64)>,
}

impl Heartbeats {
    /// Of a channel that opened at `now_ns`; the first heartbeat is due at once.
    pub fn new(policy: HeartbeatPolicy, now_ns: u64) -> Self {
        Self {
            policy,
            opened_ns: now_ns,
            last_sent_ns: None,
            waiting_since_ns: None,
            last_answer_ns: None,
            round_trip_ns: None,
            owed: None,
        }
    }

    /// Adds to a frame that is about to leave what is due: header 5 and header 6. Hello frames, their results and raw
    /// frames take no part.
    pub fn stamp(&mut self, frame: &mut Frame, now_ns: u64) {
        let is_hello = frame.content_type == content_type::HELLO || frame.sequence == NO_SEQUENCE;
        if is_hello || frame.content_type == content_type::RAW {
            return;
        }
        if now_ns >= self.send_due_ns() {
            // Upstream reads a value of 0 as "none".
            let value = now_ns.max(1);
            frame.headers.set_u64(header::HEARTBEAT, value);
            self.last_sent_ns = Some(value);
            self.waiting_since_ns.get_or_insert(value);
        }
        if let Some((value, _)) = self.owed.take() {
            frame.headers.set_u64(header::HEARTBEAT_RESPONSE, value);
        }
    }

    /// Takes note of a frame that arrived. Returns whether an answer is owed now, so that [`Heartbeats::wake_ns`] moved
    /// closer. An echo of something that we never sent is ignored.
    pub fn note_received(&mut self, frame: &Frame, now_ns: u64) -> bool {
        if let Some(echo_ns) = frame.headers.u64(header::HEARTBEAT_RESPONSE)
            && let Some(last_sent_ns) = self.last_sent_ns
            && (self.opened_ns..=last_sent_ns).contains(&echo_ns)
        {
            self.last_answer_ns = Some(now_ns);
            self.round_trip_ns = Some(now_ns.saturating_sub(echo_ns));
            self.waiting_since_ns = (echo_ns < last_sent_ns).then_some(last_sent_ns);
        }
        if let Some(value) = frame.headers.u64(header::HEARTBEAT) {
            // The wait of an answer already owed goes on, so that a busy peer cannot put it off for ever.
            let since_ns = self.owed.map_or(now_ns, |(_, since_ns)| since_ns);
            self.owed = Some((value, since_ns));
        }
        self.owed.is_some()
    }

    /// A frame of type 5, already stamped, if something is due that no other frame carried.
    pub fn standalone(&mut self, now_ns: u64) -> Option<Frame> {
        let is_due = now_ns >= self.send_due_ns() || self.answer_due_ns().is_some_and(|due_ns| now_ns >= due_ns);
        is_due.then(|| {
            let mut frame = Frame::new(content_type::HEARTBEAT, "");
            self.stamp(&mut frame, now_ns);
            frame
        })
    }

    /// When to look again at the latest, whatever arrives or leaves in between.
    pub fn wake_ns(&self) -> u64 {
        let due = self.send_due_ns().min(self.gone_ns());
        self.answer_due_ns().map_or(due, |answer_ns| answer_ns.min(due))
    }

    /// What to think of the peer at `now_ns`.
    pub fn health(&self, now_ns: u64) -> PeerHealth {
        let limit_ns = self.policy.unresponsive_after_ns;
        let is_late = |since_ns: u64| now_ns.saturating_sub(since_ns) > limit_ns;
        if now_ns >= self.gone_ns() {
            PeerHealth::Gone
        } else if self.waiting_since_ns.is_some_and(is_late) || self.round_trip_ns.is_some_and(|ns| ns > limit_ns) {
            PeerHealth::Unresponsive
        } else {
            PeerHealth::Responsive
        }
    }

    /// Nanoseconds from the latest answered heartbeat to its answer.
    pub fn round_trip_ns(&self) -> Option<u64> {
        self.round_trip_ns
    }

    fn send_due_ns(&self) -> u64 {
        self.last_sent_ns.map_or(self.opened_ns, |sent_ns| sent_ns.saturating_add(self.policy.send_interval_ns))
    }

    fn answer_due_ns(&self) -> Option<u64> {
        self.owed.map(|(_, since_ns)| since_ns.saturating_add(ANSWER_WAIT_NS))
    }

    fn gone_ns(&self) -> u64 {
        match self.last_answer_ns {
            Some(answer_ns) => answer_ns.saturating_add(self.policy.close_after_ns),
            None => self.opened_ns.saturating_add(self.policy.initial_grace_ns),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START_NS: u64 = 1_700_000_000_000_000_000;

    fn at(seconds: u64) -> u64 {
        START_NS + seconds * SECOND_NS
    }

    fn echo(of: &Frame) -> Frame {
        let mut frame = Frame::new(content_type::HEARTBEAT, "");
        frame.headers.set_u64(header::HEARTBEAT_RESPONSE, of.headers.u64(header::HEARTBEAT).unwrap());
        frame
    }

    #[test]
    fn heartbeats_ride_on_traffic_and_go_alone_when_there_is_none() {
        let mut beats = Heartbeats::new(HeartbeatPolicy::ROUTER, at(0));
        let mut traffic = Frame::new(content_type::METRICS, "");
        beats.stamp(&mut traffic, at(0));
        assert_eq!(traffic.headers.u64(header::HEARTBEAT), Some(at(0)));
        assert!(beats.standalone(at(9)).is_none());
        assert_eq!(beats.wake_ns(), at(10));
        let alone = beats.standalone(at(10)).unwrap();
        assert_eq!((alone.content_type, alone.headers.u64(header::HEARTBEAT)), (5, Some(at(10))));
        assert!(alone.body.is_empty());
    }

    #[test]
    fn the_peers_latest_heartbeat_is_echoed_once() {
        let mut beats = Heartbeats::new(HeartbeatPolicy::ROUTER, at(0));
        beats.standalone(at(0)).unwrap();
        for value in [41, 42] {
            let mut theirs = Frame::new(content_type::HEARTBEAT, "");
            theirs.headers.set_u64(header::HEARTBEAT, value);
            assert!(beats.note_received(&theirs, at(1)));
        }
        assert_eq!(beats.wake_ns(), at(1) + ANSWER_WAIT_NS);
        assert!(beats.standalone(at(1)).is_none(), "waits for a frame to ride on");
        let answer = beats.standalone(at(1) + ANSWER_WAIT_NS).unwrap();
        assert_eq!(answer.headers.u64(header::HEARTBEAT_RESPONSE), Some(42));
        assert!(!answer.headers.contains(header::HEARTBEAT));
        assert!(beats.standalone(at(2)).is_none());
    }

    #[test]
    fn hello_frames_and_raw_frames_carry_no_heartbeat() {
        let mut beats = Heartbeats::new(HeartbeatPolicy::ROUTER, at(0));
        let mut result = Frame::new(content_type::RESULT, "");
        result.sequence = NO_SEQUENCE;
        for mut frame in [Frame::new(content_type::HELLO, "r"), result, Frame::new(content_type::RAW, "")] {
            beats.stamp(&mut frame, at(0));
            assert!(frame.headers.is_empty());
        }
    }

    #[test]
    fn a_silent_peer_is_unresponsive_and_then_gone() {
        for (policy, gone_s) in [(HeartbeatPolicy::ROUTER, 30), (HeartbeatPolicy::CONTROLLER, 60)] {
            let mut beats = Heartbeats::new(policy, at(0));
            for second in 0..=gone_s {
                let _unanswered = beats.standalone(at(second));
                let expected = match second {
                    0..=5 => PeerHealth::Responsive,
                    _ if second < gone_s => PeerHealth::Unresponsive,
                    _ => PeerHealth::Gone,
                };
                assert_eq!(beats.health(at(second)), expected, "after {second} s");
            }
        }
    }

    #[test]
    fn an_answer_makes_the_peer_responsive_again_and_measures_the_way() {
        let mut beats = Heartbeats::new(HeartbeatPolicy::ROUTER, at(0));
        let first = beats.standalone(at(0)).unwrap();
        assert_eq!(beats.health(at(6)), PeerHealth::Unresponsive);
        beats.note_received(&echo(&first), at(7));
        assert_eq!(beats.health(at(7)), PeerHealth::Unresponsive, "seven seconds are a slow way");
        let second = beats.standalone(at(10)).unwrap();
        beats.note_received(&echo(&second), at(10) + 3);
        assert_eq!(beats.round_trip_ns(), Some(3));
        assert_eq!(beats.health(at(14)), PeerHealth::Responsive);
        assert_eq!(beats.health(at(40) + 3), PeerHealth::Gone);
    }

    #[test]
    fn an_echo_of_something_never_sent_proves_nothing() {
        let mut beats = Heartbeats::new(HeartbeatPolicy::ROUTER, at(0));
        beats.standalone(at(0)).unwrap();
        for value in [0, 1, at(0) + 1, u64::MAX] {
            let mut forged = Frame::new(content_type::HEARTBEAT, "");
            forged.headers.set_u64(header::HEARTBEAT_RESPONSE, value);
            beats.note_received(&forged, at(20));
        }
        assert_eq!(beats.health(at(30)), PeerHealth::Gone);
    }
}
