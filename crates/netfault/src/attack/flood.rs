//! The attackers: many tasks of this process, from many addresses of the loopback.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use wire::frame::MAGIC;
use wire::hello::{CTRL_DEFAULT, GroupHello, Hello};
use wire::version::VersionInfo;

use super::HALF_OPEN;
use super::keys::Foreign;

/// Connections from one source address, far fewer than it has ports.
const FROM_EACH: usize = 1000;
/// Pause before a connection that was closed is opened again.
const AGAIN: Duration = Duration::from_secs(1);
/// Longest wait for anything: an attacker is patient.
const PATIENCE: Duration = Duration::from_secs(30);

/// Whom they attack, and with what.
#[derive(Debug)]
pub(super) struct Scene {
    pub(super) control: SocketAddr,
    pub(super) api: SocketAddr,
    pub(super) keys: Foreign,
}

/// One kind of harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attack {
    /// TCP connections with no ClientHello, or the first 40 KiB of one that never ends.
    HalfOpen,
    /// Handshakes with foreign certificates, and then one byte of the hello each second.
    SlowHello,
    /// Handshakes and hellos: signed by themselves, by another CA, by the right CA for a router that is unknown, and in another's name.
    ForeignHello,
    /// Giant announced lengths and header blocks of nothing but entries, before the hello and after an admission.
    GiantFrames,
    /// Enrollments with tokens that nobody made, and with JWTs that look good.
    BadTokens,
    /// Bodies that are too long, that never end, heads that never end.
    SlowRequests,
}

impl Attack {
    pub(super) const ALL: [Self; 6] =
        [Self::HalfOpen, Self::SlowHello, Self::ForeignHello, Self::GiantFrames, Self::BadTokens, Self::SlowRequests];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::HalfOpen => "half-open connections",
            Self::SlowHello => "hellos of a byte per second",
            Self::ForeignHello => "hellos with foreign certificates",
            Self::GiantFrames => "giant lengths and header bombs",
            Self::BadTokens => "enrollments with bad tokens",
            Self::SlowRequests => "slow and oversized requests",
        }
    }

    pub(super) fn is_rest(self) -> bool {
        matches!(self, Self::BadTokens | Self::SlowRequests)
    }

    /// Tasks at once.
    fn crowd(self) -> usize {
        match self {
            Self::HalfOpen => HALF_OPEN,
            Self::SlowHello => 800,
            Self::ForeignHello | Self::GiantFrames | Self::BadTokens => 32,
            Self::SlowRequests => 1000,
        }
    }
}

/// An attack that goes on until it is stopped.
pub(super) struct UnderWay {
    tasks: JoinSet<()>,
    /// Connections that were opened.
    pub(super) attempts: Arc<AtomicU64>,
    /// Most of them open at once.
    pub(super) most: Arc<AtomicUsize>,
}

impl UnderWay {
    pub(super) fn stop(mut self, runtime: &Runtime) {
        runtime.block_on(self.tasks.shutdown());
    }
}

#[derive(Clone, Default)]
struct Tally {
    attempts: Arc<AtomicU64>,
    open: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

/// Counted while it lives.
struct Open(Tally);

impl Tally {
    fn open(&self) -> Open {
        self.attempts.fetch_add(1, Ordering::Relaxed);
        let open = self.open.fetch_add(1, Ordering::Relaxed) + 1;
        self.most.fetch_max(open, Ordering::Relaxed);
        Open(self.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Begins it.
pub(super) fn start(runtime: &Runtime, attack: Attack, scene: Arc<Scene>) -> UnderWay {
    let tally = Tally::default();
    let mut tasks = JoinSet::new();
    for number in 0..attack.crowd() {
        let (scene, tally) = (scene.clone(), tally.clone());
        tasks.spawn_on(
            async move {
                for round in 0_usize.. {
                    let _ = once(attack, &scene, &tally, number, round).await;
                    match attack {
                        Attack::HalfOpen | Attack::SlowHello | Attack::SlowRequests => sleep(AGAIN).await,
                        Attack::ForeignHello | Attack::GiantFrames | Attack::BadTokens => {}
                    }
                }
            },
            runtime.handle(),
        );
    }
    UnderWay { tasks, attempts: tally.attempts, most: tally.most }
}

async fn once(attack: Attack, scene: &Scene, tally: &Tally, number: usize, round: usize) -> io::Result<()> {
    let kind = number + round;
    match attack {
        Attack::HalfOpen => half_open(scene, tally, number).await,
        Attack::SlowHello => slow_hello(scene, tally, number).await,
        Attack::ForeignHello => foreign_hello(scene, tally, number, kind).await,
        Attack::GiantFrames => giant_frame(scene, tally, number, kind).await,
        Attack::BadTokens => bad_token(scene, tally, number, kind).await,
        Attack::SlowRequests => slow_request(scene, tally, number).await,
    }
}

/// From an address of its own for each thousand.
async fn connect(to: SocketAddr, number: usize) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    let last = u8::try_from(2 + number / FROM_EACH).unwrap_or(u8::MAX);
    socket.bind((Ipv4Addr::new(127, 0, 0, last), 0).into())?;
    timeout(PATIENCE, socket.connect(to)).await?
}

async fn secured(to: SocketAddr, number: usize, config: &Arc<ClientConfig>) -> io::Result<TlsStream<TcpStream>> {
    let stream = connect(to, number).await?;
    let name = ServerName::from(std::net::IpAddr::from(Ipv4Addr::LOCALHOST));
    timeout(PATIENCE, TlsConnector::from(config.clone()).connect(name, stream)).await?
}

/// Until the other side closes it.
async fn until_closed(stream: &mut (impl tokio::io::AsyncRead + Unpin)) {
    let mut sink = [0; 1024];
    while matches!(stream.read(&mut sink).await, Ok(read) if read > 0) {}
}

async fn half_open(scene: &Scene, tally: &Tally, number: usize) -> io::Result<()> {
    let mut stream = connect(scene.control, number).await?;
    let _open = tally.open();
    if !number.is_multiple_of(4) {
        // Three of four: 40 KiB, in three records, of a ClientHello that announces 64.
        let mut record = vec![0x16, 3, 1, 0x34, 0, 1, 0, 0xff, 0xf0];
        record.resize(5 + 0x3400, 0);
        for _ in 0..3 {
            stream.write_all(&record).await?;
        }
    }
    until_closed(&mut stream).await;
    Ok(())
}

fn hello(id: &str) -> bytes::Bytes {
    let mut hello = Hello::new(id, VersionInfo { version: "v1.6.0".to_owned(), ..VersionInfo::default() });
    hello.underlay_type = Some(CTRL_DEFAULT.to_owned());
    hello.group = Some(GroupHello::first());
    hello.to_frame().to_bytes()
}

async fn slow_hello(scene: &Scene, tally: &Tally, number: usize) -> io::Result<()> {
    let mut stream = secured(scene.control, number, &scene.keys.itself).await?;
    let _open = tally.open();
    for byte in hello("router") {
        stream.write_all(&[byte]).await?;
        stream.flush().await?;
        // Whichever is first: the next second, or the end.
        let mut answer = [0; 64];
        if let Ok(read) = timeout(Duration::from_secs(1), stream.read(&mut answer)).await
            && read.unwrap_or(0) == 0
        {
            break;
        }
    }
    Ok(())
}

async fn foreign_hello(scene: &Scene, tally: &Tally, number: usize, kind: usize) -> io::Result<()> {
    let keys = &scene.keys;
    let (config, id) = match kind % 4 {
        0 => (&keys.itself, keys.enrolled_id.as_str()),
        1 => (&keys.other_ca, "nobody-knows-me"),
        2 => (&keys.unknown, "nobody-knows-me"),
        _ => (&keys.enrolled, "somebody-else"),
    };
    let mut stream = secured(scene.control, number, config).await?;
    let _open = tally.open();
    stream.write_all(&hello(id)).await?;
    until_closed(&mut stream).await;
    Ok(())
}

fn preamble(content_type: i32, header_bytes: u32, body_bytes: u32) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend(content_type.to_le_bytes());
    bytes.extend((-1_i32).to_le_bytes());
    bytes.extend(header_bytes.to_le_bytes());
    bytes.extend(body_bytes.to_le_bytes());
    bytes
}

async fn giant_frame(scene: &Scene, tally: &Tally, number: usize, kind: usize) -> io::Result<()> {
    let is_admitted = kind % 4 == 3;
    let config = if is_admitted { &scene.keys.enrolled } else { &scene.keys.itself };
    let mut stream = secured(scene.control, number, config).await?;
    let _open = tally.open();
    if is_admitted {
        stream.write_all(&hello(&scene.keys.enrolled_id)).await?;
        let mut answer = [0; 4096];
        let _ = timeout(PATIENCE, stream.read(&mut answer)).await?;
        // As long as a channel may carry, announced and not sent; then longer than that.
        let lengths = if kind % 8 == 3 { (1 << 20, 16 << 20) } else { (u32::MAX, u32::MAX) };
        stream.write_all(&preamble(20302, lengths.0, lengths.1)).await?;
        stream.write_all(&[0; 4096]).await?;
        if kind % 8 == 3 {
            return Ok(());
        }
    } else {
        match kind % 4 {
            0 => stream.write_all(&preamble(0, u32::MAX, u32::MAX)).await?,
            1 => stream.write_all(&preamble(0, 0, u32::MAX)).await?,
            // As many empty headers as fit.
            _ => {
                let mut bomb = preamble(0, 16_384, 4_192);
                for key in 0..2048_u32 {
                    bomb.extend(key.to_le_bytes());
                    bomb.extend(0_u32.to_le_bytes());
                }
                bomb.resize(bomb.len() + 4_192, b'a');
                stream.write_all(&bomb).await?;
            }
        }
    }
    until_closed(&mut stream).await;
    Ok(())
}

async fn bad_token(scene: &Scene, tally: &Tally, number: usize, kind: usize) -> io::Result<()> {
    let mut stream = secured(scene.api, number, &scene.keys.http).await?;
    let _open = tally.open();
    let csr = "-----BEGIN CERTIFICATE REQUEST-----\\nMAA=\\n-----END CERTIFICATE REQUEST-----\\n";
    let body = format!(r#"{{"certCsr":"{csr}","serverCertCsr":"{csr}"}}"#);
    for request in 0..20_usize {
        let token = match (kind + request) % 3 {
            0 | 1 => format!("{:08x}-0000-4000-8000-{number:012x}", kind.wrapping_mul(31) + request),
            // Good-looking, and signed by nobody.
            _ => "eyJhbGciOiJFUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJodHRwczovL2EiLCJzdWIiOiJyIiwiZW0iOiJlcm90dCJ9.AAAA"
                .to_owned(),
        };
        let head = format!(
            "POST /edge/client/v1/enroll?method=erott&token={token} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(body.as_bytes()).await?;
        stream.flush().await?;
        let mut answer = [0; 4096];
        if timeout(PATIENCE, stream.read(&mut answer)).await?? == 0 {
            break;
        }
    }
    Ok(())
}

async fn slow_request(scene: &Scene, tally: &Tally, number: usize) -> io::Result<()> {
    let mut stream = secured(scene.api, number, &scene.keys.http).await?;
    let _open = tally.open();
    let enroll =
        "POST /edge/client/v1/enroll?method=erott HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";
    match number % 4 {
        // A body that stops a byte before its end, as long as one may be.
        0 => {
            let length = 1024 * 1024;
            stream.write_all(format!("{enroll}content-length: {length}\r\n\r\n").as_bytes()).await?;
            stream.write_all(&vec![b' '; length - 1]).await?;
        }
        // Longer than it may be, without saying so.
        1 => {
            stream.write_all(format!("{enroll}transfer-encoding: chunked\r\n\r\n").as_bytes()).await?;
            for _ in 0..80 {
                stream.write_all(b"8000\r\n").await?;
                stream.write_all(&[b' '; 0x8000]).await?;
                stream.write_all(b"\r\n").await?;
            }
        }
        // A head that never ends, up to the longest.
        2 => {
            stream.write_all(b"GET /version HTTP/1.1\r\n").await?;
            for line in 0..900 {
                stream.write_all(format!("x-{line}: {}\r\n", "a".repeat(60)).as_bytes()).await?;
            }
        }
        // Says that a lot will come.
        _ => stream.write_all(format!("{enroll}content-length: 4294967295\r\n\r\n").as_bytes()).await?,
    }
    stream.flush().await?;
    until_closed(&mut stream).await;
    Ok(())
}
