//! One underlay's reading and writing.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;
use wire::{Decoder, Frame, content_type, outcome};

use super::{CloseReason, Connection, DetachReason, Duplex, Event, LastUnderlay, Shared, Underlay, UnderlayId};

/// Room that a read asks for, kept while the connection is idle: most frames are smaller, and there may be very many
/// connections.
const READ_BYTES: usize = 1024;
/// Encoded frames are written once there is this much of them, or nothing more is queued.
const WRITE_BYTES: usize = 64 * 1024;
/// Frames taken from the queue at once.
const BATCH_FRAMES: usize = 64;
/// Time for the last words of an underlay that is being closed from our side.
const LAST_WORDS: Duration = Duration::from_secs(1);

type Io = Box<dyn Duplex>;

/// From attached to detached.
pub(super) async fn run(
    shared: Arc<Shared>,
    facts: Underlay,
    connection: Connection,
    queue: mpsc::Receiver<Frame>,
    leave: Arc<Notify>,
) {
    let _ = shared.events.send(Event::Attached(facts.clone())).await;
    let (reader, writer) = tokio::io::split(connection.io);
    let mut closing = shared.closing.subscribe();
    let quiet = Arc::new(Notify::new());
    let mut writing = tokio::spawn(write(shared.clone(), writer, queue, quiet.clone()));
    let mut written = false;
    let reason = tokio::select! {
        reason = read(&shared, facts.id, reader, connection.unread) => reason,
        ended = &mut writing => {
            written = true;
            ended.unwrap_or(Some(DetachReason::Io(std::io::ErrorKind::Other))).unwrap_or(DetachReason::ByOwner)
        }
        () = leave.notified() => DetachReason::ByOwner,
        _ = closing.wait_for(Option::is_some) => DetachReason::ChannelClosed,
    };
    if !written {
        quiet.notify_one();
        // Bounded by the writer's own deadlines.
        let _ = writing.await;
    }
    let last = {
        let mut members = shared.members();
        members.attached.retain(|a| a.facts.id != facts.id);
        members.attached.is_empty()
    };
    shared.member_left.notify_waiters();
    if last && shared.settings.last_underlay == LastUnderlay::Closes {
        shared.close(CloseReason::LastUnderlayLost(reason.clone()));
    }
    let _ = shared.events.send(Event::Detached { underlay: facts, reason }).await;
    shared.members().untold -= 1;
    shared.member_left.notify_waiters();
}

async fn read(shared: &Shared, id: UnderlayId, mut io: ReadHalf<Io>, mut buf: BytesMut) -> DetachReason {
    let mut decoder = Decoder::new(shared.settings.limits);
    loop {
        loop {
            match decoder.decode(&mut buf) {
                Ok(Some(frame)) => {
                    if receive(shared, id, frame).await.is_err() {
                        shared.close(CloseReason::OwnerGone);
                        return DetachReason::ChannelClosed;
                    }
                }
                Ok(None) => break,
                Err(error) => return DetachReason::Frame(error),
            }
        }
        buf.reserve(READ_BYTES);
        match io.read_buf(&mut buf).await {
            Ok(0) => return DetachReason::PeerClosed,
            Ok(_) => {}
            // Go closes without TLS' own farewell.
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return DetachReason::PeerClosed,
            Err(error) => return DetachReason::Io(error.kind()),
        }
    }
}

/// The owner is gone.
struct Abandoned;

async fn receive(shared: &Shared, underlay: UnderlayId, frame: Frame) -> Result<(), Abandoned> {
    shared.pulse.received(&frame);
    let frame = match frame.reply_for() {
        Some(sequence) => match shared.waiters.deliver(sequence, frame) {
            Ok(()) => return Ok(()),
            // Several flows mark messages as replies and expect them to be taken by type.
            Err(frame) => frame,
        },
        None => frame,
    };
    if let Some(answer) = outcome::answer_to(&frame) {
        shared.queue_now(answer);
        return Ok(());
    }
    if frame.content_type == content_type::HEARTBEAT {
        return Ok(());
    }
    shared.events.send(Event::Message { frame, underlay }).await.map_err(|_| Abandoned)
}

/// Writes until the underlay is done; `None` when it was told to stop.
async fn write(
    shared: Arc<Shared>,
    mut io: WriteHalf<Io>,
    mut queue: mpsc::Receiver<Frame>,
    quiet: Arc<Notify>,
) -> Option<DetachReason> {
    let mut batch = Vec::new();
    let mut out = BytesMut::new();
    let mut last_words = false;
    let failed = loop {
        if last_words {
            // Closed, so this only takes what is there.
            if queue.recv_many(&mut batch, BATCH_FRAMES).await == 0 {
                let _ = timeout(LAST_WORDS, io.shutdown()).await;
                break None;
            }
        } else {
            tokio::select! {
                taken = queue.recv_many(&mut batch, BATCH_FRAMES) => if taken == 0 { break None },
                () = quiet.notified() => {
                    queue.close();
                    last_words = true;
                    continue;
                }
            }
        }
        let limit = if last_words { LAST_WORDS } else { shared.settings.send_timeout };
        if let Err(reason) = write_batch(&shared, &mut io, &mut batch, &mut out, limit).await {
            break Some(reason);
        }
    };
    queue.close();
    while let Ok(frame) = queue.try_recv() {
        shared.requeue(frame);
    }
    failed
}

async fn write_batch(
    shared: &Shared,
    io: &mut WriteHalf<Io>,
    batch: &mut Vec<Frame>,
    out: &mut BytesMut,
    limit: Duration,
) -> Result<(), DetachReason> {
    let mut frames = batch.drain(..).peekable();
    while let Some(mut frame) = frames.next() {
        shared.pulse.stamp(&mut frame);
        // Another frame may have carried away what this one was made for.
        let is_needed = frame.content_type != content_type::HEARTBEAT || !frame.headers.is_empty();
        if is_needed {
            frame.encode(out);
        }
        if !out.is_empty() && (out.len() >= WRITE_BYTES || frames.peek().is_none()) {
            let writing = async {
                io.write_all(out).await?;
                io.flush().await
            };
            match timeout(limit, writing).await {
                Ok(Ok(())) => out.clear(),
                Ok(Err(error)) => return Err(DetachReason::Io(error.kind())),
                Err(_) => return Err(DetachReason::WriteTimedOut),
            }
        }
    }
    // One large frame must not keep its memory for the life of the connection.
    if out.capacity() > 4 * WRITE_BYTES {
        *out = BytesMut::new();
    }
    Ok(())
}
