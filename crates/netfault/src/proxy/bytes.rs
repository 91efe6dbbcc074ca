//! Bytes as they come: what any network element between the two could do to them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;
use tokio::time::timeout;

use super::path::Path;
use super::rule::Way;

const CHUNK_BYTES: usize = 16 * 1024;

/// What happens to bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ByteRule {
    /// They arrive.
    Pass,
    /// They wait until the rule ends, one way or both: a partition that heals.
    Hold(Option<Way>),
    /// They vanish, one way or both; when the rule ends the connection is reset: a black hole.
    Lose(Option<Way>),
    /// All arrive this much later.
    Delay(Duration),
    /// After so many of them the connection is closed.
    CloseAfter(Way, usize),
    /// After so many of them the connection is reset.
    ResetAfter(Way, usize),
    /// After so many of them the receiver is told that there are no more, and the other way goes on.
    HalfCloseAfter(Way, usize),
    /// They arrive so many at a time, with a pause between: a slowloris.
    Trickle(Way, usize, Duration),
    /// No connection lives.
    Refuse,
}

impl ByteRule {
    fn holds(self, way: Way) -> bool {
        matches!(self, Self::Hold(which) if which.is_none_or(|which| which == way))
    }

    fn loses(self, way: Way) -> bool {
        matches!(self, Self::Lose(which) if which.is_none_or(|which| which == way))
    }
}

impl std::fmt::Display for ByteRule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let to = |way: &Way| match way {
            Way::ToController => "to the controller",
            Way::ToRouter => "to the router",
        };
        let which = |way: &Option<Way>| way.as_ref().map_or("both ways", to);
        match self {
            Self::Pass => f.write_str("nothing"),
            Self::Hold(way) => write!(f, "partition {} that heals", which(way)),
            Self::Lose(way) => write!(f, "black hole {}", which(way)),
            Self::Delay(by) => write!(f, "{} ms of delay", by.as_millis()),
            Self::CloseAfter(way, bytes) => write!(f, "closed after {bytes} bytes {}", to(way)),
            Self::ResetAfter(way, bytes) => write!(f, "reset after {bytes} bytes {}", to(way)),
            Self::HalfCloseAfter(way, bytes) => write!(f, "half-closed after {bytes} bytes {}", to(way)),
            Self::Trickle(way, bytes, _) => write!(f, "{bytes} bytes at a time {}", to(way)),
            Self::Refuse => f.write_str("every connection reset"),
        }
    }
}

/// How one direction ended.
enum End {
    /// Its sender has no more to say, or the receiver was told so.
    Finished,
    /// The connection is closed.
    Closed,
    /// The connection is reset.
    Reset,
}

pub(super) async fn carry(stream: TcpStream, controller: SocketAddr, path: &Arc<Path>) {
    path.connected();
    if *path.bytes.borrow() == ByteRule::Refuse {
        path.strike();
        let _ = stream.set_zero_linger();
        return;
    }
    let Ok(upstream) = TcpStream::connect(controller).await else { return };
    let _ = upstream.set_nodelay(true);
    let mut severed = path.severed.subscribe();
    severed.mark_unchanged();
    let (from_router, to_router) = stream.into_split();
    let (from_controller, to_controller) = upstream.into_split();
    let there = Direction::new(path, Way::ToController, from_router, to_controller);
    let back = Direction::new(path, Way::ToRouter, from_controller, to_router);
    let both = async {
        let (mut there, mut back) = (Box::pin(there.pump()), Box::pin(back.pump()));
        tokio::select! {
            (End::Closed | End::Reset, ..) = &mut there => {}
            (End::Closed | End::Reset, ..) = &mut back => {}
            else => {}
        }
    };
    tokio::select! {
        () = both => {}
        _ = severed.changed() => {}
    }
}

struct Direction<'a> {
    path: &'a Path,
    way: Way,
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
    rule: watch::Receiver<ByteRule>,
    /// Bytes that arrived under the present rule.
    passed: usize,
    has_lost: bool,
}

impl<'a> Direction<'a> {
    fn new(path: &'a Path, way: Way, from: OwnedReadHalf, to: OwnedWriteHalf) -> Self {
        Self { path, way, from, to, rule: path.bytes.subscribe(), passed: 0, has_lost: false }
    }

    /// Until one way or the other it is over. The halves come back so that nothing closes before its time.
    async fn pump(mut self) -> (End, OwnedReadHalf, OwnedWriteHalf) {
        let end = self.run().await;
        match end {
            End::Reset => {
                let _ = self.to.as_ref().set_zero_linger();
                let _ = self.from.as_ref().set_zero_linger();
            }
            End::Finished | End::Closed => {
                let _ = timeout(Duration::from_secs(1), self.to.shutdown()).await;
            }
        }
        (end, self.from, self.to)
    }

    async fn run(&mut self) -> End {
        let mut buffer = vec![0; CHUNK_BYTES];
        let mut current = *self.rule.borrow_and_update();
        if current.holds(self.way) {
            self.path.strike();
        }
        loop {
            let read = tokio::select! {
                read = self.from.read(&mut buffer), if !current.holds(self.way) => read,
                changed = self.rule.changed() => {
                    if changed.is_err() {
                        return End::Closed;
                    }
                    current = *self.rule.borrow_and_update();
                    self.passed = 0;
                    if current == ByteRule::Refuse || self.has_lost {
                        self.path.strike();
                        return End::Reset;
                    }
                    if current.holds(self.way) {
                        self.path.strike();
                    }
                    continue;
                }
            };
            let length = match read {
                Ok(0) => return End::Finished,
                Ok(length) => length,
                Err(_) => return End::Reset,
            };
            let chunk = buffer.get(..length).unwrap_or_default().to_vec();
            if let Some(end) = self.deliver(&chunk, current).await {
                return end;
            }
        }
    }

    async fn deliver(&mut self, chunk: &[u8], rule: ByteRule) -> Option<End> {
        let limit = match rule {
            ByteRule::CloseAfter(way, bytes) if way == self.way => Some((bytes, End::Closed)),
            ByteRule::ResetAfter(way, bytes) if way == self.way => Some((bytes, End::Reset)),
            ByteRule::HalfCloseAfter(way, bytes) if way == self.way => Some((bytes, End::Finished)),
            _ => None,
        };
        if let Some((bytes, end)) = limit
            && self.passed + chunk.len() >= bytes
        {
            let part = chunk.get(..bytes.saturating_sub(self.passed)).unwrap_or_default();
            let _ = self.to.write_all(part).await;
            self.path.strike();
            return Some(end);
        }
        self.passed += chunk.len();
        if rule.loses(self.way) {
            if !self.has_lost {
                self.path.strike();
            }
            self.has_lost = true;
            return None;
        }
        match rule {
            ByteRule::Delay(by) => {
                self.path.strike();
                tokio::time::sleep(by).await;
            }
            ByteRule::Trickle(way, bytes, pause) if way == self.way => {
                self.path.strike();
                return self.trickle(chunk, bytes.max(1), pause).await;
            }
            _ => {}
        }
        self.to.write_all(chunk).await.err().map(|_| End::Reset)
    }

    async fn trickle(&mut self, chunk: &[u8], bytes: usize, pause: Duration) -> Option<End> {
        for part in chunk.chunks(bytes) {
            if self.to.write_all(part).await.is_err() {
                return Some(End::Reset);
            }
            // All the rest at once when the rule ends.
            if matches!(*self.rule.borrow(), ByteRule::Trickle(..)) {
                tokio::time::sleep(pause).await;
            }
        }
        None
    }
}
