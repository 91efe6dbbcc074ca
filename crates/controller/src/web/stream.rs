//! What happens, as server-sent events.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use api::native::{EventKind, EventView};
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use hyper::body::Frame;
use lifecycle::RouterId;
use net::stop::StopSignal;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc};

use super::DONE;
use super::call::Call;
use super::reply;
use crate::clock::Clock;
use crate::fleet::Event;

/// A comment is sent when nothing else was for this long, so that proxies keep the connection.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Events under way to one reader; a slower one makes the bus skip for it alone.
const UNDER_WAY: usize = 64;

pub(super) fn events(call: &Call) -> Response {
    let only = call.parameter("router").map(RouterId::new);
    let (sender, receiver) = mpsc::channel(UNDER_WAY);
    let bus = call.web.events.subscribe();
    tokio::spawn(forward(bus, only, sender, call.web.clock.clone(), call.web.stop.clone()));
    reply::plain(DONE, "text/event-stream", Body::new(Stream(receiver)))
}

/// Ends with the reader, the process or the bus, whichever is first.
async fn forward(
    mut bus: broadcast::Receiver<Arc<Event>>,
    only: Option<RouterId>,
    sender: mpsc::Sender<Bytes>,
    clock: Clock,
    mut stop: StopSignal,
) {
    // Tells the reader at once that it is connected.
    let mut next = Bytes::from_static(b": connected\n\n");
    loop {
        tokio::select! {
            sent = sender.send(next) => if sent.is_err() { return },
            () = stop.stopped() => return,
        }
        next = loop {
            tokio::select! {
                received = bus.recv() => match received {
                    Ok(event) if only.is_some() && event.router != only => {}
                    Ok(event) => break encode(&view(&event)),
                    Err(RecvError::Lagged(missed)) => break encode(&skipped(&clock, missed)),
                    Err(RecvError::Closed) => return,
                },
                () = tokio::time::sleep(KEEP_ALIVE) => break Bytes::from_static(b": still here\n\n"),
                () = sender.closed() => return,
                () = stop.stopped() => return,
            }
        };
    }
}

fn view(event: &Event) -> EventView {
    EventView {
        seq: event.seq,
        at_unix_ms: event.at.as_ms(),
        kind: event.kind,
        router_id: event.router.as_ref().map(ToString::to_string),
        leaf_seq: event.leaf.map(|leaf| leaf.0),
        detail: event.detail.clone(),
    }
}

fn skipped(clock: &Clock, missed: u64) -> EventView {
    EventView {
        seq: 0,
        at_unix_ms: clock.now().wall.as_ms(),
        kind: EventKind::Skipped,
        router_id: None,
        leaf_seq: None,
        detail: Some(format!("{missed} events were skipped because this reader is slow; the audit trails have them")),
    }
}

fn encode(view: &EventView) -> Bytes {
    // A view holds numbers and texts only, so it always has a JSON form; JSON has no raw line breaks.
    let json = serde_json::to_string(view).unwrap_or_default();
    format!("id: {}\nevent: {}\ndata: {json}\n\n", view.seq, view.kind).into()
}

struct Stream(mpsc::Receiver<Bytes>);

impl hyper::body::Body for Stream {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0.poll_recv(cx).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}
