//! Message by message: TLS ends here on both sides, and every frame meets its fate.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use net::peer::PeerCertificates;
use net::tls::{ALPN_CONTROL, ServerTrust, client_config};
use pki::Certificate;
use rustls_pki_types::ServerName;
use socket2::{SockRef, Socket};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf};
use tokio::net::TcpStream;
use tokio::sync::{Mutex, Notify};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use wire::hello::Hello;
use wire::{Decoder, Frame, Limits};

use super::keys::ControllerKeys;
use super::path::Path;
use super::record::Recorded;
use super::rule::{Action, Forgery, Message, Way};
use super::{Shared, locked, server_side};

/// Far longer than a handshake takes on a loopback.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Longer than a router waits for an answer in these tests.
const IMPOSTOR_STAYS: Duration = Duration::from_millis(1_500);
const LAST_WORDS: Duration = Duration::from_secs(1);

type Writer = Box<dyn AsyncWrite + Send + Unpin>;

/// One connection, and all that its two directions share.
struct Carried {
    /// Which of the router's connections it is.
    number: u64,
    path: Arc<Path>,
    authority: Arc<ControllerKeys>,
    to_router: Mutex<Writer>,
    to_controller: Mutex<Writer>,
    /// Did the hello ask to join a group?
    is_further: AtomicBool,
    /// Ends the connection.
    left: Notify,
}

/// How a direction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Somebody closed it, or it is closed now.
    Closed,
    /// It is reset now.
    Reset,
}

pub(super) async fn carry(stream: TcpStream, shared: &Shared) {
    let authority = locked(&shared.authority).clone();
    let Some(authority) = authority else { return };
    let Ok(config) = server_side(&authority.slot) else { return };
    let Ok(router_socket) = SockRef::from(&stream).try_clone() else { return };
    let Ok(Ok(router)) = timeout(HANDSHAKE, TlsAcceptor::from(config).accept(stream)).await else { return };
    let Some(peer) = PeerCertificates::from_presented(router.get_ref().1.peer_certificates()) else { return };
    let Ok(leaf) = Certificate::from_der(peer.leaf()) else { return };
    let paths = locked(&shared.paths).clone();
    let Some(path) = paths.into_iter().find(|path| leaf.cn() == Some(path.router())) else { return };
    let Some(key) = path.keys().and_then(|keys| keys.of_peer(&peer)) else { return };
    let number = path.connected();
    let Some(controller) = shared.controller_of(&path) else { return };
    let Ok(tcp) = TcpStream::connect(controller).await else { return };
    let _ = tcp.set_nodelay(true);
    let Ok(controller_socket) = SockRef::from(&tcp).try_clone() else { return };
    // Who it is does not matter here: the router judges what the proxy presents, the controller what the router would.
    let Ok(config) = client_config(&ServerTrust::learn(), Some(key), &[ALPN_CONTROL]) else { return };
    let Ok(name) = ServerName::try_from("localhost") else { return };
    let Ok(Ok(upstream)) = timeout(HANDSHAKE, TlsConnector::from(config).connect(name, tcp)).await else { return };
    let (from_router, to_router) = tokio::io::split(router);
    let (from_controller, to_controller) = tokio::io::split(upstream);
    let mut severed = path.severed.subscribe();
    severed.mark_unchanged();
    let carried = Arc::new(Carried {
        number,
        path,
        authority,
        to_router: Mutex::new(Box::new(to_router)),
        to_controller: Mutex::new(Box::new(to_controller)),
        is_further: AtomicBool::new(false),
        left: Notify::new(),
    });
    let end = tokio::select! {
        end = pump(&carried, Way::ToController, from_router) => end,
        end = pump(&carried, Way::ToRouter, from_controller) => end,
        _ = severed.changed() => End::Closed,
        () = carried.left.notified() => End::Closed,
    };
    carried.end(end, &[router_socket, controller_socket]).await;
}

impl Carried {
    fn writer(&self, way: Way) -> &Mutex<Writer> {
        match way {
            Way::ToController => &self.to_controller,
            Way::ToRouter => &self.to_router,
        }
    }

    async fn write(&self, way: Way, frame: &Frame) -> Result<(), End> {
        let mut out = BytesMut::new();
        frame.encode(&mut out);
        let mut writer = self.writer(way).lock().await;
        let written = async {
            writer.write_all(&out).await?;
            writer.flush().await
        };
        written.await.map_err(|_| End::Closed)
    }

    /// Who was admitted by nobody is left alone after a while, as every fault here ends some time.
    fn impostor_leaves_soon(self: &Arc<Self>) {
        let carried = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(IMPOSTOR_STAYS).await;
            carried.left.notify_one();
        });
    }

    async fn end(&self, end: End, sockets: &[Socket; 2]) {
        match end {
            End::Closed => {
                for way in [Way::ToRouter, Way::ToController] {
                    let farewell = async { self.writer(way).lock().await.shutdown().await };
                    let _ = timeout(LAST_WORDS, farewell).await;
                }
            }
            End::Reset => {
                for socket in sockets {
                    let _ = socket.set_linger(Some(Duration::ZERO));
                }
            }
        }
    }

    /// What a frame is; the first one of each direction is the hello exchange.
    fn classify(&self, way: Way, is_first: bool, frame: &Frame) -> Message {
        match (is_first, way) {
            (false, _) => Message::of(way, frame),
            (true, Way::ToController) => {
                let group = Hello::from_frame(frame).ok().and_then(|hello| hello.group);
                let is_further = group.is_some_and(|group| !group.is_first);
                self.is_further.store(is_further, Ordering::Relaxed);
                if is_further { Message::ProofHello } else { Message::Hello }
            }
            (true, Way::ToRouter) if self.is_further.load(Ordering::Relaxed) => Message::ProofResult,
            (true, Way::ToRouter) => Message::HelloResult,
        }
    }
}

/// A frame that waits for the next one to overtake it.
struct Held {
    frame: Frame,
    until: Instant,
}

async fn pump<S: AsyncRead + AsyncWrite + Unpin>(carried: &Arc<Carried>, way: Way, mut from: ReadHalf<S>) -> End {
    let mut decoder = Decoder::new(Limits::CHANNEL);
    let mut unread = BytesMut::new();
    let mut is_first = true;
    let mut held: Option<Held> = None;
    loop {
        let (frame, bytes) = loop {
            // The decoder consumes whole frames; only a recording needs them as they were.
            let before = if carried.path.recording.is_on() { Bytes::copy_from_slice(&unread) } else { Bytes::new() };
            match decoder.decode(&mut unread) {
                Ok(Some(frame)) => break (frame, before.slice(..before.len().saturating_sub(unread.len()))),
                Ok(None) => {}
                Err(_) => return End::Closed,
            }
            let read = match &held {
                Some(Held { until, .. }) => timeout_at(*until, from.read_buf(&mut unread)).await,
                None => Ok(from.read_buf(&mut unread).await),
            };
            match read {
                Ok(Ok(length)) if length > 0 => {}
                Ok(_) => return End::Closed,
                Err(_) => {
                    // Nothing overtook it.
                    if let Some(Held { frame, .. }) = held.take()
                        && let Err(end) = carried.write(way, &frame).await
                    {
                        return end;
                    }
                }
            }
        };
        let message = carried.classify(way, is_first, &frame);
        is_first = false;
        if !bytes.is_empty() {
            let (connection, frame) = (carried.number, frame.clone());
            carried.path.recording.push(Recorded { connection, way, message, bytes, frame });
        }
        let overtaken = held.take();
        if let Err(end) = meet(carried, way, message, frame, &mut held).await {
            return end;
        }
        if let Some(Held { frame, .. }) = overtaken
            && let Err(end) = carried.write(way, &frame).await
        {
            return end;
        }
    }
}

/// One frame and its fate.
async fn meet(
    carried: &Arc<Carried>,
    way: Way,
    message: Message,
    frame: Frame,
    held: &mut Option<Held>,
) -> Result<(), End> {
    // Nothing comes ahead of the hello exchange.
    if !matches!(message, Message::Hello | Message::HelloResult | Message::ProofHello | Message::ProofResult) {
        for slipped_in in carried.path.take_slipped_in(way) {
            carried.write(way, &slipped_in).await?;
        }
    }
    let Some(action) = carried.path.fate(message) else { return carried.write(way, &frame).await };
    match action {
        Action::Drop => Ok(()),
        Action::Delay(by) => {
            tokio::time::sleep(by).await;
            carried.write(way, &frame).await
        }
        Action::Late(by) => {
            let carried = carried.clone();
            tokio::spawn(async move {
                tokio::time::sleep(by).await;
                // The connection may be gone by then.
                let _ = carried.write(way, &frame).await;
            });
            Ok(())
        }
        Action::Duplicate => {
            carried.write(way, &frame).await?;
            carried.write(way, &frame).await
        }
        Action::SwapWithNext(within) => {
            *held = Some(Held { frame, until: Instant::now() + within });
            Ok(())
        }
        Action::Garble => carried.write(way, &garbled(frame)).await,
        Action::Forge(forgery) => {
            if forgery == Forgery::Admitted {
                carried.impostor_leaves_soon();
            }
            let forged = forgery.frame(way, &frame, carried.path.router(), &carried.authority.issuer);
            match forged {
                // To the router either way: it is the controller's place that is taken.
                Some(forged) => carried.write(Way::ToRouter, &forged).await,
                None => Ok(()),
            }
        }
        Action::CloseBefore => Err(End::Closed),
        Action::ResetBefore => Err(End::Reset),
        Action::CloseAfter => carried.write(way, &frame).await.and(Err(End::Closed)),
        Action::ResetAfter => {
            carried.write(way, &frame).await?;
            // A reset also throws away what the peer has not read yet.
            tokio::time::sleep(Duration::from_millis(30)).await;
            Err(End::Reset)
        }
    }
}

fn garbled(mut frame: Frame) -> Frame {
    let mut body = BytesMut::from(frame.body.as_ref());
    let middle = body.len() / 2;
    match body.get_mut(middle) {
        Some(byte) => *byte ^= 0x11,
        None => body.put_u8(0xff),
    }
    frame.body = body.freeze();
    frame
}
