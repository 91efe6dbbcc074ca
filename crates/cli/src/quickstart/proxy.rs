//! A TCP proxy of our own between the routers and the controller. It passes, delays, loses and cuts; TLS hides from it what
//! it carries, so whoever aims it goes by the routers' own events.
//!
//! All routers dial one address, because that is the address the controller announces to them. Which router a connection
//! belongs to is asked of the kernel ([`owner`]), and the rule of that router's [`Path`] applies.

mod owner;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

const CHUNK_BYTES: usize = 16 * 1024;
/// Chunks under way in one direction of one connection.
const UNDER_WAY: usize = 64;

/// What happens to bytes on their way from the controller to a router. The other direction always passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// Nothing but the standing latency.
    Pass,
    /// From the first chunk of at least so many bytes on, everything is thrown away. Connections that lost something are
    /// reset when the rule ends.
    Lose {
        /// The smallest chunk that is taken for an answer.
        from_bytes: usize,
    },
    /// From the first chunk of at least so many bytes on, everything waits until the rule ends.
    Hold {
        /// The smallest chunk that is taken for an answer.
        from_bytes: usize,
    },
    /// The first chunk of at least `from_bytes` is passed on up to a part, then its connection is reset.
    Cut {
        /// The smallest chunk that is taken for an answer.
        from_bytes: usize,
        /// How much of it arrives, in thousandths.
        permille: u16,
    },
}

/// The way between one router and the controller.
#[derive(Debug)]
pub(crate) struct Path {
    pid: AtomicU32,
    rule: watch::Sender<Rule>,
    /// Bytes that were touched by any rule but `Pass`, ever.
    touched_bytes: watch::Sender<u64>,
}

impl Default for Path {
    fn default() -> Self {
        Self { pid: AtomicU32::new(0), rule: watch::Sender::new(Rule::Pass), touched_bytes: watch::Sender::new(0) }
    }
}

impl Path {
    /// Which process dials through this path.
    pub(crate) fn set_process(&self, pid: u32) {
        self.pid.store(pid, Ordering::Relaxed);
    }

    /// From now on this happens to what arrives.
    pub(crate) fn set_rule(&self, rule: Rule) {
        self.rule.send_replace(rule);
    }

    /// Waits until a rule touches something, for no longer than `within`. Subscribe before setting the rule.
    pub(crate) fn strikes(&self) -> Strikes {
        let mut strikes = self.touched_bytes.subscribe();
        strikes.mark_unchanged();
        Strikes(strikes)
    }

    fn touch(&self, bytes: usize) {
        self.touched_bytes.send_modify(|sum| *sum += bytes as u64);
    }
}

/// Tells when a path's rule touched something.
#[derive(Debug)]
pub(crate) struct Strikes(watch::Receiver<u64>);

impl Strikes {
    /// Was anything touched within this time?
    pub(crate) async fn struck_within(&mut self, within: Duration) -> bool {
        matches!(tokio::time::timeout(within, self.0.changed()).await, Ok(Ok(())))
    }
}

/// The proxy, listening.
#[derive(Debug)]
pub(crate) struct Proxy {
    listener: TcpListener,
    port: u16,
}

impl Proxy {
    /// Takes a free port.
    ///
    /// # Errors
    /// When the machine has none.
    pub(crate) async fn bind() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        Ok(Self { listener, port })
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Carries connections for as long as the future is polled.
    pub(crate) async fn run(self, controller: SocketAddr, paths: Arc<[Path]>, latency: Duration) {
        loop {
            let (stream, remote) = match self.listener.accept().await {
                Ok(accepted) => accepted,
                Err(_) => {
                    // Out of descriptors, most likely: others have to close first.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            tokio::spawn(carry(stream, remote, controller, paths.clone(), latency));
        }
    }
}

async fn carry(stream: TcpStream, remote: SocketAddr, controller: SocketAddr, paths: Arc<[Path]>, latency: Duration) {
    let pids: Vec<u32> = paths.iter().map(|path| path.pid.load(Ordering::Relaxed)).collect();
    let asked = tokio::task::spawn_blocking(move || owner::process_of(remote.port(), &pids)).await;
    let index = asked.ok().flatten();
    let Ok(upstream) = TcpStream::connect(controller).await else { return };
    let _ = stream.set_nodelay(true);
    let _ = upstream.set_nodelay(true);
    let (from_router, to_router) = stream.into_split();
    let (from_controller, to_controller) = upstream.into_split();
    let there = pump(from_router, to_controller, None, latency);
    let back = pump(from_controller, to_router, index.and_then(|index| paths.get(index)), latency);
    // A cut ends both directions at once; an ordinary end of one lets the other finish.
    tokio::select! {
        biased;
        Err(Cut) = there => {}
        Err(Cut) = back => {}
        else => {}
    }
}

/// The connection is to be reset.
#[derive(Debug, PartialEq, Eq)]
struct Cut;

async fn pump(from: OwnedReadHalf, mut to: OwnedWriteHalf, path: Option<&Path>, latency: Duration) -> Result<(), Cut> {
    let (sender, receiver) = mpsc::channel(UNDER_WAY);
    let (_, delivered) = tokio::join!(read(from, sender), deliver(receiver, &mut to, path, latency));
    if delivered.is_err() {
        // Closing sends a reset then, and no farewell before it.
        let _ = to.as_ref().set_zero_linger();
        to.forget();
    }
    delivered
}

async fn read(mut from: OwnedReadHalf, sender: mpsc::Sender<(Instant, Vec<u8>)>) {
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        let taken = tokio::select! {
            taken = from.read(&mut buffer) => taken,
            () = sender.closed() => return,
        };
        let chunk = match taken {
            Ok(length) if length > 0 => buffer.get(..length).unwrap_or_default().to_vec(),
            _ => return,
        };
        if sender.send((Instant::now(), chunk)).await.is_err() {
            return;
        }
    }
}

async fn deliver(
    mut chunks: mpsc::Receiver<(Instant, Vec<u8>)>,
    to: &mut OwnedWriteHalf,
    path: Option<&Path>,
    latency: Duration,
) -> Result<(), Cut> {
    let mut rule = path.map(|path| path.rule.subscribe());
    // Set once something was thrown away: the stream is of no use any more.
    let mut has_lost = false;
    loop {
        let next = tokio::select! {
            next = chunks.recv() => next,
            () = ended(rule.as_mut()), if has_lost => return Err(Cut),
        };
        let Some((arrived, chunk)) = next else {
            if has_lost {
                ended(rule.as_mut()).await;
                return Err(Cut);
            }
            // The other side may have gone already.
            let _ = to.shutdown().await;
            return Ok(());
        };
        sleep_until(arrived + latency).await;
        let current = rule.as_ref().map_or(Rule::Pass, |rule| *rule.borrow());
        match current {
            Rule::Lose { from_bytes } if has_lost || chunk.len() >= from_bytes => {
                has_lost = true;
                path.inspect(|path| path.touch(chunk.len()));
                continue;
            }
            Rule::Hold { from_bytes } if chunk.len() >= from_bytes => {
                path.inspect(|path| path.touch(chunk.len()));
                ended(rule.as_mut()).await;
            }
            Rule::Cut { from_bytes, permille } if chunk.len() >= from_bytes => {
                let part = chunk.len() * usize::from(permille) / 1_000;
                let _ = to.write_all(chunk.get(..part).unwrap_or_default()).await;
                path.inspect(|path| path.touch(chunk.len()));
                return Err(Cut);
            }
            Rule::Pass | Rule::Lose { .. } | Rule::Hold { .. } | Rule::Cut { .. } if has_lost => return Err(Cut),
            Rule::Pass | Rule::Lose { .. } | Rule::Hold { .. } | Rule::Cut { .. } => {}
        }
        if to.write_all(&chunk).await.is_err() {
            return Err(Cut);
        }
    }
}

/// Returns once the path passes everything again.
async fn ended(rule: Option<&mut watch::Receiver<Rule>>) {
    if let Some(rule) = rule {
        // An error means that the path is gone, which ends every rule.
        let _ = rule.wait_for(|rule| *rule == Rule::Pass).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A "controller" that answers every byte with `answer`, and a "router" that is this very process.
    struct Rig {
        paths: Arc<[Path]>,
        proxy: u16,
    }

    impl Rig {
        async fn new(answer: &'static [u8], latency: Duration) -> Self {
            let controller = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            let address = controller.local_addr().unwrap();
            tokio::spawn(async move {
                while let Ok((mut stream, _)) = controller.accept().await {
                    tokio::spawn(async move {
                        let mut byte = [0];
                        while stream.read_exact(&mut byte).await.is_ok() {
                            if stream.write_all(answer).await.is_err() {
                                return;
                            }
                        }
                    });
                }
            });
            let paths: Arc<[Path]> = Arc::new([Path::default()]);
            paths[0].set_process(std::process::id());
            let proxy = Proxy::bind().await.unwrap();
            let port = proxy.port();
            tokio::spawn(proxy.run(address, paths.clone(), latency));
            Self { paths, proxy: port }
        }

        async fn dial(&self) -> TcpStream {
            TcpStream::connect((Ipv4Addr::LOCALHOST, self.proxy)).await.unwrap()
        }

        fn path(&self) -> &Path {
            &self.paths[0]
        }
    }

    async fn ask(stream: &mut TcpStream) {
        stream.write_all(b"?").await.unwrap();
    }

    async fn exactly(stream: &mut TcpStream, length: usize) -> Vec<u8> {
        let mut answer = vec![0; length];
        stream.read_exact(&mut answer).await.unwrap();
        answer
    }

    const ANSWER: &[u8] = b"0123456789";

    #[tokio::test]
    async fn bytes_pass_both_ways_and_so_does_the_end() {
        let rig = Rig::new(ANSWER, Duration::ZERO).await;
        let mut stream = rig.dial().await;
        for _ in 0..3 {
            ask(&mut stream).await;
            assert_eq!(exactly(&mut stream, 10).await, ANSWER);
        }
        stream.shutdown().await.unwrap();
        assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_standing_latency_delays_each_direction() {
        let rig = Rig::new(ANSWER, Duration::from_millis(40)).await;
        let mut stream = rig.dial().await;
        let began = std::time::Instant::now();
        ask(&mut stream).await;
        exactly(&mut stream, 10).await;
        assert!(began.elapsed() >= Duration::from_millis(80));
    }

    #[tokio::test]
    async fn a_lost_answer_never_arrives_and_its_connection_is_reset_when_the_path_heals() {
        let rig = Rig::new(ANSWER, Duration::ZERO).await;
        let mut stream = rig.dial().await;
        ask(&mut stream).await;
        exactly(&mut stream, 10).await;
        let mut strikes = rig.path().strikes();
        rig.path().set_rule(Rule::Lose { from_bytes: 1 });
        ask(&mut stream).await;
        assert!(strikes.struck_within(Duration::from_secs(5)).await);
        rig.path().set_rule(Rule::Pass);
        assert_eq!(stream.read(&mut [0]).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        let mut next = rig.dial().await;
        ask(&mut next).await;
        assert_eq!(exactly(&mut next, 10).await, ANSWER);
    }

    #[tokio::test]
    async fn a_held_answer_arrives_whole_when_the_path_heals() {
        let rig = Rig::new(ANSWER, Duration::ZERO).await;
        let mut stream = rig.dial().await;
        let mut strikes = rig.path().strikes();
        rig.path().set_rule(Rule::Hold { from_bytes: 1 });
        ask(&mut stream).await;
        assert!(strikes.struck_within(Duration::from_secs(5)).await);
        rig.path().set_rule(Rule::Pass);
        assert_eq!(exactly(&mut stream, 10).await, ANSWER);
    }

    #[tokio::test]
    async fn a_cut_lets_a_part_through_and_resets() {
        let rig = Rig::new(ANSWER, Duration::ZERO).await;
        let mut stream = rig.dial().await;
        rig.path().set_rule(Rule::Cut { from_bytes: 1, permille: 400 });
        ask(&mut stream).await;
        let mut arrived = Vec::new();
        let end = stream.read_to_end(&mut arrived).await;
        assert!(end.is_err() || arrived.len() == 4, "{end:?} {arrived:?}");
        assert!(arrived.len() <= 4);
    }

    #[tokio::test]
    async fn small_chunks_are_no_answers() {
        let rig = Rig::new(ANSWER, Duration::ZERO).await;
        let mut stream = rig.dial().await;
        rig.path().set_rule(Rule::Cut { from_bytes: 500, permille: 0 });
        ask(&mut stream).await;
        assert_eq!(exactly(&mut stream, 10).await, ANSWER);
    }

    #[tokio::test]
    async fn connections_of_other_processes_pass_whatever_the_rule_is() {
        let rig = Rig::new(ANSWER, Duration::ZERO).await;
        rig.path().set_process(1);
        rig.path().set_rule(Rule::Lose { from_bytes: 1 });
        let mut stream = rig.dial().await;
        ask(&mut stream).await;
        assert_eq!(exactly(&mut stream, 10).await, ANSWER);
    }
}
