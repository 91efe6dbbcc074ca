//! Stands before a REST listener and keeps what goes by: TLS ends here on both sides.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use net::tls::{ClientCertificate, ServerTrust, client_config, server_config};
use netfault::proxy::ControllerKeys;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// HTTP/1.1 alone: its bytes can be read by people.
const ALPN: &[&[u8]] = &[b"http/1.1"];
/// A client that is slower than this has nothing to say.
const BUFFER_BYTES: usize = 16 << 10;

/// One connection: what the client said, and what the server answered.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    /// From the client.
    pub asked: Vec<u8>,
    /// From the server.
    pub answered: Vec<u8>,
}

/// The tap, listening. Dropping it stops it.
#[derive(Debug)]
pub struct Tap {
    heard: Arc<Mutex<Vec<Heard>>>,
    task: JoinHandle<()>,
}

impl Tap {
    /// Takes this port of the loopback, presents the controller's own leaf, and leads to `server`.
    ///
    /// # Errors
    /// When the port is taken.
    pub async fn listen(port: u16, keys: &ControllerKeys, server: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.context("the tap cannot listen")?;
        let acceptor = TlsAcceptor::from(server_config(&keys.slot, ClientCertificate::NotAsked, ALPN)?);
        let connector = TlsConnector::from(client_config(&ServerTrust::learn(), None, ALPN)?);
        let heard: Arc<Mutex<Vec<Heard>>> = Arc::default();
        let into = heard.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, connector, into) = (acceptor.clone(), connector.clone(), into.clone());
                tokio::spawn(async move {
                    // Who only looks whether somebody listens hangs up before the handshake.
                    let _ = carry(stream, &acceptor, &connector, server, &into).await;
                });
            }
        });
        Ok(Self { heard, task })
    }

    /// Every connection so far.
    pub fn heard(&self) -> Vec<Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Writes every connection on which somebody enrolled: `enroll-NAME-asked.http` and `enroll-NAME-answered.http`.
    ///
    /// # Errors
    /// When nobody did, or a file cannot be written.
    pub fn keep_enrollment(&self, folder: &Path, name: &str) -> Result<()> {
        fs::create_dir_all(folder)?;
        let is_enrollment = |heard: &&Heard| heard.asked.windows(7).any(|word| word == b"/enroll");
        let heard = self.heard();
        let one = heard.iter().rev().find(is_enrollment).context("nobody has enrolled")?;
        fs::write(folder.join(format!("enroll-{name}-asked.http")), &one.asked)?;
        fs::write(folder.join(format!("enroll-{name}-answered.http")), &one.answered)?;
        Ok(())
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(
    stream: TcpStream,
    acceptor: &TlsAcceptor,
    connector: &TlsConnector,
    server: SocketAddr,
    into: &Mutex<Vec<Heard>>,
) -> Result<()> {
    let client = acceptor.accept(stream).await?;
    let upstream = TcpStream::connect(server).await?;
    let upstream = connector.connect(ServerName::try_from("localhost")?, upstream).await?;
    let place = {
        let mut heard = into.lock().unwrap_or_else(PoisonError::into_inner);
        heard.push(Heard::default());
        heard.len() - 1
    };
    let keep = |is_asked: bool, bytes: &[u8]| {
        let mut heard = into.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(one) = heard.get_mut(place) {
            if is_asked { &mut one.asked } else { &mut one.answered }.extend_from_slice(bytes);
        }
    };
    let (from_client, to_client) = tokio::io::split(client);
    let (from_server, to_server) = tokio::io::split(upstream);
    tokio::select! {
        done = pump(from_client, to_server, |bytes| keep(true, bytes)) => done,
        done = pump(from_server, to_client, |bytes| keep(false, bytes)) => done,
    }
}

async fn pump(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, keep: impl Fn(&[u8])) -> Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let length = from.read(&mut buffer).await?;
        let bytes = buffer.get(..length).unwrap_or_default();
        if bytes.is_empty() {
            to.shutdown().await?;
            return Ok(());
        }
        keep(bytes);
        to.write_all(bytes).await?;
        to.flush().await?;
    }
}
