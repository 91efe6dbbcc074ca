//! Our own proxy between routers and their controller. It fails like a network, and like a peer.
//!
//! ```text
//!   router ──▶ one port ──▶ whose process? ──┬─ Level::Bytes ────▶ bytes as they come ([`bytes`]) ──────────▶ controller
//!                                            └─ Level::Messages ─▶ TLS ends here ─▶ frames ([`frames`]) ─▶ TLS ─▶ controller
//! ```
//!
//! All routers dial one address, the one that the controller announces to them. At the level of messages the proxy holds the test's
//! keys: towards the router it presents the controller's own server leaf; towards the controller it presents whichever client leaf the
//! router has just presented, with the key that lies in that router's state folder. So both sides see exactly the peer that they would
//! see without it, and every message can be lost, held back, doubled, swapped, garbled, answered in the peer's place, or be the last one.
//!
//! Nothing is drawn at random but [`rule::Mixture`], whose every choice follows from its seed.

mod bytes;
mod frames;
mod keys;
mod owner;
mod path;
mod record;
mod rule;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use net::credentials::CredentialsSlot;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

pub use bytes::ByteRule;
pub use keys::{AuthorityError, ControllerKeys, KeyFile, Keys, KnownKeys, StateFolder};
pub use path::{Level, Path};
pub use record::Recorded;
pub use rule::{Action, Forgery, Message, Mixture, Rule, Way};

/// How long the owner of a connection is looked for: a process that was just started is known a moment later.
const OWNER_WITHIN: Duration = Duration::from_millis(500);
const OWNER_AGAIN: Duration = Duration::from_millis(10);

/// The proxy, listening. Dropping it ends every connection.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

/// What every connection may need.
pub(crate) struct Shared {
    pub(crate) controller: Mutex<Option<SocketAddr>>,
    pub(crate) paths: Mutex<Vec<Arc<Path>>>,
    pub(crate) authority: Mutex<Option<Arc<ControllerKeys>>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("paths", &locked(&self.paths).len()).finish_non_exhaustive()
    }
}

impl Shared {
    pub(crate) fn controller_of(&self, path: &Path) -> Option<SocketAddr> {
        path.controller().or(*locked(&self.controller))
    }
}

pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whoever panicked while holding one of these leaves a value that is whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Proxy {
    /// Takes this port of the loopback, or any free one for 0. Connections are closed until [`Proxy::carry`].
    ///
    /// # Errors
    /// When the port is taken.
    pub async fn listen(port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            controller: Mutex::new(None),
            paths: Mutex::new(Vec::new()),
            authority: Mutex::new(None),
        });
        let task = tokio::spawn(accept(listener, shared.clone()));
        Ok(Self { address, shared, task })
    }

    /// Where routers dial.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on connections go to this controller, whose keys are `authority`, unless a path leads elsewhere.
    pub fn carry(&self, controller: SocketAddr, authority: Arc<ControllerKeys>) {
        *locked(&self.shared.controller) = Some(controller);
        *locked(&self.shared.authority) = Some(authority);
    }

    /// One more router that comes this way.
    pub fn add(&self, path: Path) -> Arc<Path> {
        let path = Arc::new(path);
        locked(&self.shared.paths).push(path.clone());
        path
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
        for path in locked(&self.shared.paths).iter() {
            path.sever();
        }
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        match listener.accept().await {
            Ok((stream, remote)) => {
                tokio::spawn(carry(stream, remote, shared.clone()));
            }
            // Out of descriptors, most likely: others have to close first.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn carry(stream: TcpStream, remote: SocketAddr, shared: Arc<Shared>) {
    let _ = stream.set_nodelay(true);
    match owner_of(remote, &shared).await {
        Some(path) if path.level() == Level::Bytes => {
            if let Some(controller) = shared.controller_of(&path) {
                bytes::carry(stream, controller, &path).await;
            }
        }
        _ => frames::carry(stream, &shared).await,
    }
}

/// The path at the level of bytes whose process holds the other end. Paths at the level of messages are found by the leaf.
async fn owner_of(remote: SocketAddr, shared: &Shared) -> Option<Arc<Path>> {
    let deadline = tokio::time::Instant::now() + OWNER_WITHIN;
    loop {
        let paths: Vec<_> = locked(&shared.paths).clone();
        if !paths.iter().any(|path| path.level() == Level::Bytes) {
            return None;
        }
        let pids: Vec<u32> = paths.iter().map(|path| path.process()).collect();
        let asked = tokio::task::spawn_blocking(move || owner::process_of(remote.port(), &pids)).await;
        if let Some(index) = asked.ok().flatten() {
            return paths.get(index).cloned();
        }
        // In-process routers have no process of their own.
        if tokio::time::Instant::now() >= deadline || paths.iter().all(|path| path.process() != 0) {
            return None;
        }
        tokio::time::sleep(OWNER_AGAIN).await;
    }
}

/// The server side of a handshake that asks for the router's leaf, with the controller's own leaf.
pub(crate) fn server_side(slot: &Arc<CredentialsSlot>) -> Result<Arc<rustls::ServerConfig>, net::tls::TlsSetupError> {
    net::tls::server_config(slot, net::tls::ClientCertificate::Required, &[net::tls::ALPN_CONTROL])
}
