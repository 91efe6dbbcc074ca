//! A controller that means harm, with the real one's keys, against a real router.
//!
//! Whatever it says, the router must stay alive, not grow, not spin, and be let in by the real controller afterwards with the identity that it
//! had before.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::{Bytes, BytesMut};
use evidence::{Evidence, Plan};
use net::tls::{ALPN_CONTROL, ClientCertificate, server_config};
use rig::{Controller, ControllerSettings, Exuvia};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use wire::capability::Capabilities;
use wire::control::{ControllerEndpoints, CtrlEndpoint, Settings, UpdateCtrlAddresses};
use wire::extension::{CertsResponse, ErrorAnswer};
use wire::frame::MAGIC;
use wire::hello::{AcceptedHello, Hello, HelloAnswer, RefusalClass, RenewalAdvice, RenewalWindow};
use wire::version::VersionInfo;
use wire::{Decoder, Frame, Limits, content_type, header};

use super::replay;
use super::usage::Usage;
use crate::proxy::ControllerKeys;

/// Memory that a hostile controller may cost a router, in MiB: the longest body of a frame on a channel is 16 MiB
/// (`wire::Limits::CHANNEL`), and it is copied once while it grows.
const ROUTER_MIB: u64 = 48;
/// Share of one processor that a router may take meanwhile, in percent. What is sent must be read; a router that spins takes a hundred.
const ROUTER_PERCENT: u128 = 60;
/// Frames of a burst, and the pause after it: a flood that leaves the router most of its processor.
const BURST: usize = 20;
const BETWEEN_BURSTS: Duration = Duration::from_millis(50);
/// Life of the leaves.
const LEAF_LIFE: &str = "5m";
/// Within this time a router comes: a twentieth of a leaf's life is the longest that it waits between two dials.
const COMES: Duration = Duration::from_secs(45);
/// Waiting for a hello.
const HELLO: Duration = Duration::from_secs(5);

/// One way of lying.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lie {
    GiantAnswer,
    MalformedAnswer,
    Refusals,
    ClosesAtOnce,
    GiantFrame,
    UnknownTypes,
    Garbage,
    Chains,
    AbsurdSettings,
    RenewNow,
    NoAnswers,
}

impl Lie {
    const ALL: [Self; 11] = [
        Self::GiantAnswer,
        Self::MalformedAnswer,
        Self::Refusals,
        Self::ClosesAtOnce,
        Self::GiantFrame,
        Self::UnknownTypes,
        Self::Garbage,
        Self::Chains,
        Self::AbsurdSettings,
        Self::RenewNow,
        Self::NoAnswers,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::GiantAnswer => "a hello answer of 4 GiB",
            Self::MalformedAnswer => "hello answers that make no sense",
            Self::Refusals => "refusals of every class",
            Self::ClosesAtOnce => "connections that close after the hello",
            Self::GiantFrame => "frames of the longest and of impossible lengths",
            Self::UnknownTypes => "unknown content types",
            Self::Garbage => "garbage in every message",
            Self::Chains => "20301 without end",
            Self::AbsurdSettings => "settings and addresses that make no sense",
            Self::RenewNow => "renew now, for ever",
            Self::NoAnswers => "silence on everything",
        }
    }
}

/// Listens in the controller's place.
struct Host {
    task: JoinHandle<()>,
    /// Hellos that it got.
    greeted: Arc<AtomicU64>,
}

pub(super) fn against_router(plan: &Plan, evidence: &mut Evidence) -> Result<()> {
    let exuvia = Exuvia::new(&plan.exuvia);
    let home = plan.scratch.join("lied-to");
    // With short-lived leaves a router's patience is short too, and it comes to every lie soon.
    let settings = ControllerSettings { leaf_life: Some(LEAF_LIFE.to_owned()), ..ControllerSettings::default() };
    let controller = Controller::start(&exuvia, &home, settings)?;
    let keys = Arc::new(ControllerKeys::from_folder(&home.join("ctl/pki"))?);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let router = controller.enrolled("lied-to", &home.join("lied-to"))?;
    let running = router.online()?;
    let before = running.renew()?;
    controller.stop()?;

    let usage = Usage::begin(running.process().pid())?;
    let each = Duration::from_millis(if plan.is_long { 20_000 } else { 1_200 });
    let (mut told, mut busiest) = (0, (0, ""));
    for lie in Lie::ALL {
        let at: SocketAddr = (Ipv4Addr::LOCALHOST, controller.ctrl_port()).into();
        let host = runtime.block_on(Host::listen(at, keys.clone(), lie)).context("the port is taken")?;
        // The router's back-off may be longer than the lie is told: what counts is that it came.
        runtime.block_on(async {
            let came = async {
                while host.greeted.load(Ordering::Relaxed) == 0 {
                    sleep(Duration::from_millis(20)).await;
                }
            };
            let _ = timeout(COMES, came).await;
        });
        let (spent, began) = (usage.processor_time()?, std::time::Instant::now());
        runtime.block_on(async { sleep(each).await });
        let (spent, took) = (usage.processor_time()?.saturating_sub(spent), began.elapsed());
        let greeted = host.greeted.load(Ordering::Relaxed);
        runtime.block_on(host.end());
        let name = lie.name();
        told += greeted;
        if greeted == 0 {
            evidence.failed(format!("`{name}`: the router did not come"), replay());
        }
        if let Some(status) = running.process().status() {
            evidence.failed(format!("`{name}`: the router ended with {status}: {}", running.log().text()), replay());
            return Ok(());
        }
        let percent = spent.as_millis() * 100 / took.as_millis().max(1);
        busiest = busiest.max((percent, name));
        if percent > ROUTER_PERCENT {
            evidence.failed(format!("`{name}`: the router takes {percent} % of a processor"), replay());
        }
        let grew = usage.grew_mib()?;
        if grew > ROUTER_MIB {
            evidence.failed(format!("`{name}`: the router grew by {grew} MiB, {ROUTER_MIB} are allowed"), replay());
        }
    }
    evidence.tried("kinds of lies that a real router was told by its controller", Lie::ALL.len() as u64);
    evidence.tried("connections of a real router to a lying controller", told);
    let grew = usage.grew_mib()?;
    if let Some(panic) = running.log().panic() {
        evidence.failed(format!("the router panicked: {panic}"), replay());
    }
    controller.run()?;
    match running.until_admitted_and_renewed() {
        Ok(after) => evidence.notes.push(format!(
            "A router whose controller lied to it in {} ways ({told} connections) grew by {grew} MiB ({ROUTER_MIB} allowed), went back to the real controller \
             with generation {before} or a later one, and renewed to {after}. It took {} % of a processor at most ({ROUTER_PERCENT} allowed), for {}.",
            Lie::ALL.len(),
            busiest.0,
            busiest.1,
        )),
        Err(error) => evidence.failed(format!("after the lies the router does not renew: {error:#}"), replay()),
    }
    let _ended = running.kill();
    let judged = router.judge();
    if !judged.is_usable() {
        evidence.failed(format!("the lies cost the router its identity: {}", judged.brief()), replay());
    }
    Ok(())
}

trait Recovers {
    fn until_admitted_and_renewed(&self) -> Result<u64>;
}

impl Recovers for rig::Running {
    fn until_admitted_and_renewed(&self) -> Result<u64> {
        let mark = self.log().mark();
        if self.status()?["controllers"].to_string().contains("\"connected\"") {
            return self.renew();
        }
        self.until(mark, &["connected"])?;
        self.renew()
    }
}

impl Host {
    async fn listen(at: SocketAddr, keys: Arc<ControllerKeys>, lie: Lie) -> io::Result<Self> {
        let socket = tokio::net::TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(at)?;
        let listener = socket.listen(64)?;
        let config =
            server_config(&keys.slot, ClientCertificate::Required, &[ALPN_CONTROL]).map_err(io::Error::other)?;
        let greeted = Arc::new(AtomicU64::new(0));
        let task = tokio::spawn(serve(listener, TlsAcceptor::from(config), keys, lie, greeted.clone()));
        Ok(Self { task, greeted })
    }

    /// Frees the port, and closes every connection.
    async fn end(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

async fn serve(listener: TcpListener, tls: TlsAcceptor, keys: Arc<ControllerKeys>, lie: Lie, greeted: Arc<AtomicU64>) {
    // With the task go its connections.
    let mut connections = tokio::task::JoinSet::new();
    for number in 0_usize.. {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let (tls, keys, greeted) = (tls.clone(), keys.clone(), greeted.clone());
        connections.spawn(async move {
            let _ = host(stream, tls, &keys, lie, number, &greeted).await;
        });
    }
}

async fn host(
    stream: TcpStream,
    tls: TlsAcceptor,
    keys: &ControllerKeys,
    lie: Lie,
    number: usize,
    greeted: &AtomicU64,
) -> io::Result<()> {
    let port = stream.local_addr()?.port();
    let mut stream = timeout(HELLO, tls.accept(stream)).await??;
    let mut unread = BytesMut::new();
    let hello = timeout(HELLO, hello_of(&mut stream, &mut unread)).await??;
    greeted.fetch_add(1, Ordering::Relaxed);
    match lie {
        Lie::GiantAnswer => {
            stream.write_all(&preamble(content_type::RESULT, u32::MAX, u32::MAX)).await?;
            stream.write_all(&[b'a'; 4096]).await?;
            return until_closed(&mut stream).await;
        }
        Lie::MalformedAnswer => {
            stream.write_all(&malformed(&hello, number)).await?;
            stream.flush().await?;
            sleep(Duration::from_millis(100)).await;
            return Ok(());
        }
        Lie::Refusals => {
            let class = RefusalClass::from(u32::try_from(number % 12).unwrap_or(0));
            let refused = HelloAnswer::Refused { text: "no\u{7}".repeat(400), class };
            stream.write_all(&refused.to_frame().to_bytes()).await?;
            return stream.shutdown().await;
        }
        Lie::ClosesAtOnce => return Ok(()),
        Lie::GiantFrame
        | Lie::UnknownTypes
        | Lie::Garbage
        | Lie::Chains
        | Lie::AbsurdSettings
        | Lie::RenewNow
        | Lie::NoAnswers => {}
    }
    stream.write_all(&HelloAnswer::Accepted(Box::new(accepted(&hello))).to_frame().to_bytes()).await?;
    if lie == Lie::GiantFrame && number.is_multiple_of(2) {
        stream.write_all(&preamble(content_type::ENROLLMENT_CERTS, 1 << 20, 16 << 20)).await?;
        stream.write_all(&vec![0; 17 << 20]).await?;
        stream.write_all(&preamble(content_type::ENROLLMENT_CERTS, u32::MAX, u32::MAX)).await?;
        return until_closed(&mut stream).await;
    }
    let chain = keys.issuer.to_pem();
    // Reading and writing at once: a router that is not read would be right to stop.
    let (mut reading, mut writing) = tokio::io::split(stream);
    let lying = async {
        for round in 0_u64.. {
            for frame in frames(lie, round, &chain, port) {
                writing.write_all(&frame.to_bytes()).await?;
            }
            writing.flush().await?;
            sleep(BETWEEN_BURSTS).await;
        }
        io::Result::Ok(())
    };
    tokio::select! {
        done = lying => done,
        done = until_closed(&mut reading) => done,
    }
}

async fn hello_of(stream: &mut TlsStream<TcpStream>, unread: &mut BytesMut) -> io::Result<Hello> {
    let mut decoder = Decoder::new(Limits::HELLO);
    loop {
        if let Some(frame) = decoder.decode(unread).map_err(io::Error::other)? {
            return Hello::from_frame(&frame).map_err(io::Error::other);
        }
        if stream.read_buf(unread).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

async fn until_closed(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> io::Result<()> {
    let mut sink = [0; 4096];
    while stream.read(&mut sink).await? > 0 {}
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

/// A good answer to this hello.
fn accepted(hello: &Hello) -> AcceptedHello {
    let group = hello.group.clone().unwrap_or_default();
    AcceptedHello {
        connection_id: group.connection_id.or_else(|| Some("c1".to_owned())),
        secret: group.secret.or_else(|| Some(Bytes::from_static(b"0123456789abcdef"))),
        id: Some("stock".to_owned()),
        version: Some(VersionInfo { version: "v2.1.0".to_owned(), ..VersionInfo::default() }),
        capabilities: Capabilities::CONTROLLER,
        has_legacy_mask: true,
        is_grouped: hello.group.is_some(),
        underlay_type: hello.underlay_type.clone(),
        ..AcceptedHello::default()
    }
}

fn malformed(hello: &Hello, number: usize) -> Vec<u8> {
    let good = HelloAnswer::Accepted(Box::new(accepted(hello))).to_frame();
    let bytes = good.to_bytes().to_vec();
    match number % 6 {
        // Cut short, and closed.
        0 => bytes.get(..bytes.len() / 2).unwrap_or_default().to_vec(),
        1 => Frame { content_type: content_type::PING, ..good }.to_bytes().to_vec(),
        2 => {
            let mut other = good;
            other.set_reply_for(77);
            other.to_bytes().to_vec()
        }
        3 => {
            let mut other = good;
            other.headers.insert(header::HELLO_VERSION, Bytes::from_static(&[0xff; 300]));
            other.headers.insert(header::CONNECTION_ID, Bytes::from_static(&[0xc3, 0x28]));
            other.to_bytes().to_vec()
        }
        4 => bytes.iter().map(|byte| byte ^ 0x55).collect(),
        _ => b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
    }
}

/// What is said in one burst.
fn frames(lie: Lie, round: u64, chain: &str, port: u16) -> Vec<Frame> {
    let number = i32::try_from(round % 1_000_000).unwrap_or(0);
    let burst = i32::try_from(BURST).unwrap_or(0);
    match lie {
        Lie::UnknownTypes => (0..burst).map(|step| Frame::new(40_000 + number * burst + step, vec![7; 512])).collect(),
        Lie::GiantFrame => vec![Frame::new(content_type::SETTINGS, vec![0x0a; 1 << 20])],
        Lie::Garbage => GARBLED.iter().map(|kind| Frame::new(*kind, garbage(round))).collect(),
        Lie::Chains => {
            let foreign = CertsResponse {
                client_chain_pem: chain.to_owned(),
                server_chain_pem: chain.to_owned(),
                ca_pem: chain.repeat(20),
            };
            let nothing = CertsResponse::default();
            (0..BURST).map(|step| if step % 2 == 0 { foreign.to_frame() } else { nothing.to_frame() }).collect()
        }
        Lie::AbsurdSettings => absurd(round, port),
        Lie::RenewNow => {
            let window = RenewalWindow { from_unix_s: 0, to_unix_s: u64::MAX };
            let advice = |step| RenewalAdvice { window: Some(window), renew_now: Some(round * 1000 + step) };
            (0..BURST as u64).map(|step| advice(step).to_frame()).collect()
        }
        _ => Vec::new(),
    }
}

const GARBLED: [i32; 14] = [
    content_type::SETTINGS,
    content_type::ROUTE,
    content_type::UNROUTE,
    content_type::INSPECT_REQUEST,
    content_type::UPDATE_CTRL_ADDRESSES,
    content_type::UPDATE_CLUSTER_LEADER,
    content_type::PEER_STATE_CHANGE,
    content_type::VALIDATE_TERMINATORS_V2_REQUEST,
    content_type::SERVER_HELLO,
    content_type::ENROLLMENT_CERTS,
    content_type::ERROR,
    content_type::DATA_STATE,
    content_type::DATA_STATE_CHANGE_SET,
    content_type::RESULT,
];

fn garbage(round: u64) -> Vec<u8> {
    let mut state = round.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::new();
    for _ in 0..64 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes
}

/// Addresses that lead nowhere, too many of them, indices at their end, and errors for what was never asked.
fn absurd(round: u64, port: u16) -> Vec<Frame> {
    let nowhere =
        |number: usize| CtrlEndpoint { address: format!("tls:127.0.0.1:{}", 1 + number % 9), groups: Vec::new() };
    let bad = ["", "tls:", "tls:a:99999", "quic:b:1", "tls:\u{0}:1", "tls:[::1", "tls:a b:1"];
    // The right one is among them: a controller may move, and whoever holds its keys can send its routers away. No identity is lost by that.
    let right = CtrlEndpoint { address: format!("tls:localhost:{port}"), groups: Vec::new() };
    let endpoints = [right].into_iter().chain((0..8).map(nowhere)).collect();
    let many = ControllerEndpoints { id: "stock".to_owned(), endpoints };
    let broken = ControllerEndpoints {
        id: String::new(),
        endpoints: bad
            .iter()
            .map(|address| CtrlEndpoint { address: (*address).to_owned(), groups: Vec::new() })
            .collect(),
    };
    let update =
        |index, controllers| UpdateCtrlAddresses { addresses: Vec::new(), index, is_leader: true, controllers };
    vec![
        Settings { new_address: Some("tls:\u{7}:0".to_owned()), ..Settings::default() }.to_frame(),
        Settings { new_address: Some("x".repeat(100_000)), others: [(i32::MIN, Bytes::new())].into() }.to_frame(),
        update(1 + round, vec![broken]).to_frame(),
        update(u64::MAX - 1, Vec::new()).to_frame(),
        update(u64::MAX, vec![many]).to_frame(),
        ErrorAnswer { code: "X".repeat(10_000), ..ErrorAnswer::default() }.to_frame(),
    ]
}
