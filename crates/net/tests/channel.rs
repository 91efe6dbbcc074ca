//! Control channels over in-memory pipes; time is tokio's, paused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test's helpers may give up")]

use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use net::channel::{
    AttachError, Channel, ChannelSettings, CloseReason, Connection, DetachReason, Event, Events, LastUnderlay,
    PeerHealth, RequestError, SendError, Underlay, UnderlayId, heartbeats_closing_after,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::Instant;
use wire::{Decoder, Frame, Limits, content_type, header};

const METRICS: i32 = content_type::METRICS;

fn anywhere() -> SocketAddr {
    "127.0.0.1:1".parse().unwrap()
}

fn attach(channel: &Channel, io: DuplexStream, kind: &str) -> UnderlayId {
    channel.attach(Connection::new(io, BytesMut::new()), Underlay::new(kind, anywhere())).unwrap()
}

/// A channel whose other end is a pipe in the test's hands.
fn with_peer(settings: ChannelSettings) -> (Channel, Events, Peer) {
    let (channel, events) = Channel::new(settings);
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    attach(&channel, ours, "ctrl.default");
    (channel, events, Peer::new(theirs))
}

/// Two channels that talk to each other.
fn pair(settings: ChannelSettings) -> ((Channel, Events), (Channel, Events)) {
    let (left, right) = (Channel::new(settings), Channel::new(settings));
    let (a, b) = tokio::io::duplex(1 << 16);
    attach(&left.0, a, "ctrl.default");
    attach(&right.0, b, "ctrl.default");
    (left, right)
}

struct Peer {
    io: DuplexStream,
    decoder: Decoder,
    buf: BytesMut,
}

impl Peer {
    fn new(io: DuplexStream) -> Self {
        Self { io, decoder: Decoder::new(Limits::CHANNEL), buf: BytesMut::new() }
    }

    async fn read(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.decoder.decode(&mut self.buf).unwrap() {
                return Some(frame);
            }
            if self.io.read_buf(&mut self.buf).await.unwrap() == 0 {
                return None;
            }
        }
    }

    /// The next frame that is more than a heartbeat.
    async fn read_message(&mut self) -> Frame {
        loop {
            let frame = self.read().await.expect("the channel has closed");
            if frame.content_type != content_type::HEARTBEAT {
                return frame;
            }
        }
    }

    async fn write(&mut self, frame: &Frame) {
        self.io.write_all(&frame.to_bytes()).await.unwrap();
    }
}

async fn next(events: &mut Events) -> Event {
    events.next().await.expect("the events have ended")
}

async fn next_message(events: &mut Events) -> Frame {
    loop {
        if let Event::Message { frame, .. } = next(events).await {
            return frame;
        }
    }
}

async fn close_reason(events: &mut Events) -> CloseReason {
    loop {
        if let Event::Closed(reason) = next(events).await {
            assert!(events.next().await.is_none(), "nothing follows the end");
            return reason;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn frames_are_numbered_from_one_across_all_underlays() {
    let (channel, _events, mut default) = with_peer(ChannelSettings::dialing());
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let high = attach(&channel, ours, "ctrl.high");
    let mut urgent = Peer::new(theirs);
    assert_eq!(channel.send(Frame::new(METRICS, "a")).await, Ok(1));
    assert_eq!(channel.send_via(high, Frame::new(METRICS, "b")).await, Ok(2));
    assert_eq!(channel.send(Frame::new(METRICS, "c")).await, Ok(3));
    let read = [default.read_message().await, urgent.read_message().await, default.read_message().await];
    assert_eq!(
        read.map(|frame| (frame.sequence, frame.body)),
        [1, 2, 3].map(|n| (n, ["a", "b", "c"][n as usize - 1].into()))
    );
}

#[tokio::test(start_paused = true)]
async fn frames_leave_on_the_newest_underlay_as_older_ones_may_be_on_their_way_out() {
    let (channel, _events, _older) = with_peer(ChannelSettings::accepting());
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    attach(&channel, ours, "ctrl.default");
    channel.send(Frame::new(METRICS, "hello")).await.unwrap();
    assert_eq!(Peer::new(theirs).read_message().await.content_type, METRICS);
}

#[tokio::test(start_paused = true)]
async fn a_request_gets_the_reply_that_names_it_and_reflects_its_header() {
    let ((asker, _a), (answerer, mut events)) = pair(ChannelSettings::dialing());
    let answering = tokio::spawn(async move {
        let first = next_message(&mut events).await;
        let second = next_message(&mut events).await;
        // In the wrong order on purpose.
        for (request, text) in [(second, "two"), (first, "one")] {
            answerer.reply(&request, Frame::new(content_type::RESULT, text)).await.unwrap();
        }
        events
    });
    let mut marked = Frame::new(METRICS, "1");
    marked.headers.insert(header::REFLECTED, vec![7, 7]);
    let (one, two) = tokio::join!(
        asker.request(marked, Duration::from_secs(1)),
        asker.request(Frame::new(METRICS, "2"), Duration::from_secs(1)),
    );
    let one = one.unwrap();
    assert_eq!((one.body, two.unwrap().body), ("one".into(), "two".into()));
    assert_eq!(one.headers.get(header::REFLECTED).unwrap().as_ref(), [7, 7]);
    drop(answering.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_nobody_waits_for_is_dispatched_by_its_type() {
    let (_channel, mut events, mut peer) = with_peer(ChannelSettings::dialing());
    let mut reply = Frame::new(content_type::EXTENSION_VERIFY, "x");
    reply.set_reply_for(99);
    peer.write(&reply).await;
    assert_eq!(next_message(&mut events).await.content_type, content_type::EXTENSION_VERIFY);
}

#[tokio::test(start_paused = true)]
async fn a_request_without_a_reply_times_out_and_its_late_reply_is_a_message() {
    let (channel, mut events, mut peer) = with_peer(ChannelSettings::dialing());
    let after = Duration::from_secs(2);
    let answer = channel.request(Frame::new(METRICS, "?"), after).await;
    assert_eq!(answer, Err(RequestError::TimedOut { after }));
    let request = peer.read_message().await;
    peer.write(&Frame::reply(content_type::RESULT, "late", &request)).await;
    assert_eq!(next_message(&mut events).await.body, "late");
}

#[tokio::test(start_paused = true)]
async fn requests_under_way_fail_at_once_when_the_channel_closes() {
    let (channel, mut events, peer) = with_peer(ChannelSettings::accepting());
    let asking = tokio::spawn({
        let channel = channel.clone();
        async move { channel.request(Frame::new(METRICS, "?"), Duration::from_secs(3600)).await }
    });
    let mut peer = peer;
    peer.read_message().await;
    let before = Instant::now();
    drop(peer);
    assert_eq!(asking.await.unwrap(), Err(RequestError::Closed));
    assert!(before.elapsed() < Duration::from_secs(1));
    let lost = CloseReason::LastUnderlayLost(DetachReason::PeerClosed);
    assert_eq!(close_reason(&mut events).await, lost);
    assert_eq!(channel.send(Frame::new(METRICS, "")).await, Err(SendError::Closed(lost)));
}

#[tokio::test(start_paused = true)]
async fn pings_and_latency_probes_are_answered_without_the_owner() {
    let (_channel, _events, mut peer) = with_peer(ChannelSettings::dialing());
    let mut ping = wire::outcome::ping();
    ping.sequence = 41;
    peer.write(&ping).await;
    let pong = peer.read_message().await;
    assert_eq!((pong.content_type, pong.reply_for(), pong.body.as_ref()), (content_type::RESULT, Some(41), &b"ok"[..]));
    let mut probe = wire::outcome::latency_probe(123);
    probe.sequence = 42;
    peer.write(&probe).await;
    let answer = peer.read_message().await;
    assert_eq!((answer.reply_for(), answer.headers.u64(header::REFLECTED)), (Some(42), Some(123)));
}

#[tokio::test(start_paused = true)]
async fn two_idle_channels_keep_each_other_alive_for_an_hour() {
    let ((left, mut left_events), (right, mut right_events)) = pair(ChannelSettings::dialing());
    for events in [&mut left_events, &mut right_events] {
        assert!(matches!(next(events).await, Event::Attached(_)));
    }
    let hour = Duration::from_secs(3600);
    assert!(tokio::time::timeout(hour, left.closed()).await.is_err());
    for channel in [left, right] {
        assert_eq!(channel.liveness().health, PeerHealth::Responsive);
        assert!(channel.liveness().round_trip.is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_answers_no_heartbeat_is_given_thirty_seconds() {
    let (channel, mut events, mut peer) = with_peer(ChannelSettings::dialing());
    let opened = Instant::now();
    let reading = tokio::spawn(async move { while peer.read().await.is_some() {} });
    let reason = close_reason(&mut events).await;
    assert_eq!(reason, CloseReason::Unresponsive { limit: Duration::from_secs(30) });
    assert_eq!(opened.elapsed().as_secs(), 30);
    assert_eq!(channel.liveness().health, PeerHealth::Gone);
    reading.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn short_lives_shorten_the_silence_that_is_allowed() {
    let settings =
        ChannelSettings { heartbeats: heartbeats_closing_after(Duration::from_secs(3)), ..ChannelSettings::dialing() };
    let (_channel, mut events, mut peer) = with_peer(settings);
    let opened = Instant::now();
    let reading = tokio::spawn(async move {
        let mut beats = 0;
        while let Some(frame) = peer.read().await {
            beats += usize::from(frame.headers.contains(header::HEARTBEAT));
        }
        beats
    });
    close_reason(&mut events).await;
    assert_eq!(opened.elapsed().as_secs(), 3);
    assert!(reading.await.unwrap() >= 3, "asks three times before it gives up");
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_is_echoed_within_milliseconds_on_an_idle_channel() {
    let (_channel, _events, mut peer) = with_peer(ChannelSettings::dialing());
    let mut beat = Frame::new(content_type::HEARTBEAT, "");
    beat.headers.set_u64(header::HEARTBEAT, 77);
    let sent = Instant::now();
    peer.write(&beat).await;
    loop {
        let frame = peer.read().await.unwrap();
        if frame.headers.u64(header::HEARTBEAT_RESPONSE) == Some(77) {
            break;
        }
    }
    assert!(sent.elapsed() < Duration::from_millis(100), "took {:?}", sent.elapsed());
}

#[tokio::test(start_paused = true)]
async fn the_dialing_side_survives_its_last_underlay_and_goes_on_with_the_next() {
    let (channel, mut events, peer) = with_peer(ChannelSettings::dialing());
    assert!(matches!(next(&mut events).await, Event::Attached(_)));
    drop(peer);
    let Event::Detached { reason, .. } = next(&mut events).await else { panic!("expected a departure") };
    assert_eq!(reason, DetachReason::PeerClosed);
    assert_eq!(channel.send(Frame::new(METRICS, "")).await, Err(SendError::NoUnderlay));
    // Longer than any silence that a channel with an underlay would survive.
    assert!(tokio::time::timeout(Duration::from_secs(600), channel.closed()).await.is_err());
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    attach(&channel, ours, "ctrl.default");
    let mut peer = Peer::new(theirs);
    channel.send(Frame::new(METRICS, "back")).await.unwrap();
    assert_eq!(peer.read_message().await.body, "back");
    assert_eq!(channel.close_reason(), None);
}

#[tokio::test(start_paused = true)]
async fn the_loss_of_one_underlay_of_two_is_told_and_costs_nothing_else() {
    let (channel, mut events, peer) = with_peer(ChannelSettings::accepting());
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let second = attach(&channel, ours, "ctrl.high");
    let mut left = Peer::new(theirs);
    drop(peer);
    loop {
        if let Event::Detached { underlay, .. } = next(&mut events).await {
            assert_ne!(underlay.id, second);
            break;
        }
    }
    channel.send(Frame::new(METRICS, "still here")).await.unwrap();
    assert_eq!(left.read_message().await.body, "still here");
    assert_eq!(channel.underlays().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_announced_length_beyond_the_cap_ends_the_underlay_unread() {
    let (_channel, mut events, mut peer) = with_peer(ChannelSettings::accepting());
    let mut bytes = Frame::new(METRICS, "").to_bytes().to_vec();
    bytes[16..20].copy_from_slice(&u32::MAX.to_le_bytes());
    peer.io.write_all(&bytes).await.unwrap();
    let CloseReason::LastUnderlayLost(DetachReason::Frame(error)) = close_reason(&mut events).await else {
        panic!("expected a broken frame")
    };
    assert!(matches!(error, wire::FrameError::BodyTooLong { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_stops_reading_is_dropped_and_nobody_waits_for_ever() {
    let settings = ChannelSettings {
        heartbeats: heartbeats_closing_after(Duration::from_secs(3600)),
        outbound_frames_max: 4,
        ..ChannelSettings::accepting()
    };
    let (channel, mut events, _peer) = with_peer(settings);
    let begun = Instant::now();
    let error = loop {
        if let Err(error) = channel.send(Frame::new(METRICS, vec![0; 1 << 16])).await {
            break error;
        }
    };
    assert!(begun.elapsed() <= 2 * settings.send_timeout);
    let lost = CloseReason::LastUnderlayLost(DetachReason::WriteTimedOut);
    assert!(matches!(error, SendError::TimedOut | SendError::NoUnderlay | SendError::Closed(_)), "{error:?}");
    assert_eq!(close_reason(&mut events).await, lost);
}

#[tokio::test(start_paused = true)]
async fn what_was_queued_before_a_close_is_still_written() {
    let (channel, mut events, mut peer) = with_peer(ChannelSettings::dialing());
    for n in 0..100_u8 {
        channel.send(Frame::new(METRICS, vec![n])).await.unwrap();
    }
    channel.close(CloseReason::ByOwner("done"));
    for n in 0..100_u8 {
        assert_eq!(peer.read_message().await.body.as_ref(), [n]);
    }
    assert_eq!(peer.read().await, None);
    assert_eq!(close_reason(&mut events).await, CloseReason::ByOwner("done"));
    channel.drained().await;
}

#[tokio::test(start_paused = true)]
async fn frames_that_an_underlay_did_not_get_to_write_leave_on_another() {
    let settings = ChannelSettings {
        heartbeats: heartbeats_closing_after(Duration::from_secs(3600)),
        ..ChannelSettings::dialing()
    };
    let (channel, _events) = Channel::new(settings);
    let (ours, stuck) = tokio::io::duplex(16);
    attach(&channel, ours, "ctrl.default");
    // Fills the pipe; what follows waits in the queue.
    channel.send(Frame::new(METRICS, vec![0; 1024])).await.unwrap();
    tokio::task::yield_now().await;
    let mut waiting = Vec::new();
    for _ in 0..3 {
        waiting.push(channel.send(Frame::new(METRICS, "rescued")).await.unwrap());
    }
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    attach(&channel, ours, "ctrl.default");
    drop(stuck);
    let mut peer = Peer::new(theirs);
    for sequence in waiting {
        assert_eq!(peer.read_message().await.sequence, sequence);
    }
}

#[tokio::test(start_paused = true)]
async fn a_channel_whose_owner_is_gone_closes() {
    let (channel, events, mut peer) = with_peer(ChannelSettings::dialing());
    drop(events);
    assert_eq!(channel.closed().await, CloseReason::OwnerGone);
    while peer.read().await.is_some() {}
}

#[tokio::test(start_paused = true)]
async fn a_detached_underlay_says_its_last_words_and_the_channel_goes_on() {
    let (channel, mut events, mut old) = with_peer(ChannelSettings::accepting());
    let first = channel.underlays()[0].id;
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    attach(&channel, ours, "ctrl.default");
    channel.send_via(first, Frame::new(METRICS, "last words")).await.unwrap();
    channel.detach(first);
    assert_eq!(old.read_message().await.body, "last words");
    assert_eq!(old.read().await, None);
    loop {
        if let Event::Detached { reason, .. } = next(&mut events).await {
            assert_eq!(reason, DetachReason::ByOwner);
            break;
        }
    }
    channel.send(Frame::new(METRICS, "on")).await.unwrap();
    assert_eq!(Peer::new(theirs).read_message().await.body, "on");
}

#[tokio::test(start_paused = true)]
async fn a_closed_or_full_channel_takes_no_underlay() {
    let settings =
        ChannelSettings { underlays_max: 1, last_underlay: LastUnderlay::Survives, ..ChannelSettings::accepting() };
    let (channel, _events, _peer) = with_peer(settings);
    let more = || {
        let (ours, _) = tokio::io::duplex(64);
        channel.attach(Connection::new(ours, BytesMut::new()), Underlay::new("ctrl.high", anywhere()))
    };
    assert_eq!(more(), Err(AttachError::TooMany));
    channel.close(CloseReason::Shutdown);
    assert_eq!(more(), Err(AttachError::Closed));
}
