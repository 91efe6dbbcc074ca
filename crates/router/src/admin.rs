//! The admin socket: how commands on the same machine talk to the running daemon.
//!
//! A Unix socket with mode 0600, one JSON object per line: a line that asks, one or more lines that answer. Whoever may open
//! the socket may do everything, so it lies in the state folder, which nobody else may enter.

use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{broadcast, mpsc, oneshot};
use zeroize::Zeroizing;

use crate::driver::Incoming;
use crate::events::{EventKind, EventLine, EventStream};
use crate::status::StatusView;
use net::stop::{Stop, StopSignal};

/// Longest line that is read, in bytes: an enrollment token fits well.
const LINE_BYTES_MAX: u64 = 64 * 1024;
/// Longest path of a Unix socket on Linux, in bytes.
const SOCKET_PATH_MAX: usize = 107;
/// Time for the last lines when the process ends.
const FAREWELL: std::time::Duration = std::time::Duration::from_millis(250);
/// Name of the socket in the state folder.
const SOCKET: &str = "admin.sock";

/// What may be asked.
#[derive(Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
enum Line {
    Status,
    Renew,
    Events,
    Shutdown,
    Enroll {
        token: String,
        #[serde(default)]
        force: bool,
    },
}

/// What the driver is asked for.
pub enum Command {
    /// How do things stand?
    Status,
    /// Renew now.
    Renew,
    /// Renew now, unless the last attempt was less than the minimum spacing ago.
    RenewUnlessRecent,
    /// Enroll anew with this token.
    Enroll {
        /// The token's text.
        token: Zeroizing<String>,
        /// Even if another identity is there.
        force: bool,
    },
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Status => "Status",
            Self::Renew => "Renew",
            Self::RenewUnlessRecent => "RenewUnlessRecent",
            Self::Enroll { .. } => "Enroll",
        })
    }
}

/// A command, and where its answer goes.
#[derive(Debug)]
pub struct Ask {
    /// What.
    pub command: Command,
    /// Where.
    pub reply: oneshot::Sender<Answer>,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    /// How things stand.
    Status(Box<StatusView>),
    /// It is done.
    Done,
    /// A renewal began: its keys are durable.
    Began {
        /// The generation that it makes.
        generation: u64,
    },
    /// No renewal began.
    NotBegun {
        /// The phase says why: one is under way.
        phase: String,
        /// Or this does.
        blocked: Option<String>,
    },
    /// No renewal began: the last attempt was too short a time ago.
    Deferred {
        /// How long to wait.
        wait_ms: u64,
    },
    /// It did not work.
    Failed {
        /// What happened.
        error: String,
        /// What to do.
        hint: String,
    },
}

impl Answer {
    pub(crate) fn failed(error: &str, hint: &str) -> Self {
        Self::Failed { error: error.to_owned(), hint: hint.to_owned() }
    }
}

/// Why the socket cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// Nobody listens.
    #[error("no router daemon listens at `{path}`")]
    NotRunning {
        /// Where it was looked for.
        path: String,
        /// What the kernel says.
        #[source]
        source: std::io::Error,
    },
    /// Not for this user.
    #[error("this user may not talk to the router daemon at `{path}`; run the command as the daemon's user")]
    NotPermitted {
        /// Where.
        path: String,
        /// What the kernel says.
        #[source]
        source: std::io::Error,
    },
    /// The conversation broke off.
    #[error("the router daemon hung up")]
    HungUp,
    /// Reading or writing failed.
    #[error("talking to the router daemon failed")]
    Io(#[from] std::io::Error),
    /// It says something else than expected.
    #[error("the router daemon answered something unexpected; is it another version?")]
    Unexpected(#[source] Option<serde_json::Error>),
}

/// Where the socket of this state folder may be, in the order in which a client tries. A path that is too long for a socket,
/// or a folder in which none can be made, is replaced by one in the user's runtime folder, or in `/tmp`.
pub fn socket_paths(configured: Option<&Path>, state: &Path) -> Vec<PathBuf> {
    let mut paths = vec![configured.map_or_else(|| state.join(SOCKET), Path::to_owned)];
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute());
    let user = rustix::process::geteuid().as_raw();
    let folder = runtime.map_or_else(|| PathBuf::from(format!("/tmp/exuvia-{user}")), |path| path.join("exuvia"));
    let absolute = std::path::absolute(state).unwrap_or_else(|_| state.to_owned());
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, absolute.as_os_str().as_encoded_bytes());
    let name: String = hash.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    paths.push(folder.join(format!("{name}.sock")));
    paths.retain(|path| path.as_os_str().len() <= SOCKET_PATH_MAX);
    paths
}

/// Listens at the first of `paths` that works. The caller holds the store's lock, so a socket that is there is a leftover.
///
/// # Errors
/// What the last path met.
pub fn bind(paths: &[PathBuf]) -> std::io::Result<(UnixListener, PathBuf)> {
    let mut last = std::io::Error::other("no path is short enough for a socket");
    for path in paths {
        match bind_one(path) {
            Ok(listener) => return Ok((listener, path.clone())),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn bind_one(path: &Path) -> std::io::Result<UnixListener> {
    use std::os::unix::fs::MetadataExt;
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        if !folder.exists() {
            std::fs::DirBuilder::new().mode(0o700).create(folder)?;
        }
        let found = std::fs::metadata(folder)?;
        let is_shared = found.mode() & 0o022 != 0 || found.uid() != rustix::process::geteuid().as_raw();
        if is_shared && folder.starts_with("/tmp") {
            return Err(std::io::Error::other("the folder for the admin socket belongs to others too"));
        }
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Answers until told to stop.
pub(crate) async fn serve(
    listener: UnixListener,
    driver: mpsc::Sender<Incoming>,
    events: EventStream,
    stop: std::sync::Arc<Stop>,
    mut stopped: StopSignal,
) {
    let mut clients = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            () = stopped.stopped() => break,
            Some(_) = clients.join_next() => {}
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                let (driver, events, stop) = (driver.clone(), events.clone(), stop.clone());
                clients.spawn(async move {
                    if let Err(cause) = one(stream, &driver, &events, &stop).await {
                        tracing::debug!(%cause, "a client of the admin socket is gone");
                    }
                });
            }
        }
    }
    // Whoever follows events reads the last one; whoever is silent is hung up on.
    let _ = tokio::time::timeout(FAREWELL, async { while clients.join_next().await.is_some() {} }).await;
}

async fn one(
    stream: UnixStream,
    driver: &mpsc::Sender<Incoming>,
    events: &EventStream,
    stop: &Stop,
) -> std::io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut lines = BufReader::new(reader.take(LINE_BYTES_MAX)).lines();
    while let Some(text) = lines.next_line().await? {
        let text = Zeroizing::new(text);
        let line: Line = match serde_json::from_str(&text) {
            Ok(line) => line,
            Err(error) => {
                say(
                    &mut writer,
                    &Answer::failed(&format!("not understood: {error}"), "ask in JSON, such as `{\"ask\":\"status\"}`"),
                )
                .await?;
                continue;
            }
        };
        let command = match line {
            Line::Status => Command::Status,
            Line::Renew => Command::Renew,
            Line::Enroll { token, force } => Command::Enroll { token: Zeroizing::new(token), force },
            Line::Events => {
                let mut heard = events.listen();
                // The client knows from this line on that it misses nothing.
                say(&mut writer, &Answer::Done).await?;
                return stream_events(&mut heard, &mut writer).await;
            }
            Line::Shutdown => {
                say(&mut writer, &Answer::Done).await?;
                stop.stop();
                return Ok(());
            }
        };
        let (reply, answer) = oneshot::channel();
        let gone = || Answer::failed("the router is shutting down", "start it again");
        let answer = match driver.send(Incoming::Admin(Ask { command, reply })).await {
            Ok(()) => answer.await.unwrap_or_else(|_| gone()),
            Err(_) => gone(),
        };
        say(&mut writer, &answer).await?;
        // Each line may be as long as the longest one.
        lines.get_mut().get_mut().set_limit(LINE_BYTES_MAX);
    }
    Ok(())
}

async fn stream_events(
    heard: &mut broadcast::Receiver<std::sync::Arc<EventLine>>,
    writer: &mut (impl AsyncWriteExt + Unpin),
) -> std::io::Result<()> {
    loop {
        match heard.recv().await {
            Ok(line) => {
                say(writer, line.as_ref()).await?;
                if line.what == (EventKind::ShuttingDown {}) {
                    return Ok(());
                }
            }
            Err(broadcast::error::RecvError::Lagged(missed)) => {
                let at_ms = crate::clock::wall().as_ms();
                let what = EventKind::Lagged { missed };
                say(writer, &EventLine { at_ms, phase: String::new(), live: 0, what }).await?;
            }
            Err(broadcast::error::RecvError::Closed) => return Ok(()),
        }
    }
}

async fn say(writer: &mut (impl AsyncWriteExt + Unpin), what: &impl Serialize) -> std::io::Result<()> {
    let mut text = serde_json::to_string(what)?;
    text.push('\n');
    writer.write_all(text.as_bytes()).await
}

/// A conversation with a running daemon.
#[derive(Debug)]
pub struct Client {
    lines: Lines<BufReader<tokio::net::unix::OwnedReadHalf>>,
    writer: tokio::net::unix::OwnedWriteHalf,
}

impl Client {
    /// Connects to the daemon of this state folder; see [`socket_paths`].
    ///
    /// # Errors
    /// [`AdminError::NotRunning`], [`AdminError::NotPermitted`].
    pub async fn connect(paths: &[PathBuf]) -> Result<Self, AdminError> {
        let mut last = AdminError::HungUp;
        for path in paths {
            match UnixStream::connect(path).await {
                Ok(stream) => {
                    let (reader, writer) = stream.into_split();
                    return Ok(Self { lines: BufReader::new(reader).lines(), writer });
                }
                Err(source) => {
                    let path = path.display().to_string();
                    if source.kind() == std::io::ErrorKind::PermissionDenied {
                        return Err(AdminError::NotPermitted { path, source });
                    }
                    if !matches!(last, AdminError::NotRunning { .. }) {
                        last = AdminError::NotRunning { path, source };
                    }
                }
            }
        }
        Err(last)
    }

    async fn ask(&mut self, line: &Line) -> Result<Answer, AdminError> {
        let mut text =
            Zeroizing::new(serde_json::to_string(line).map_err(|error| AdminError::Unexpected(Some(error)))?);
        text.push('\n');
        self.writer.write_all(text.as_bytes()).await?;
        let answer = self.lines.next_line().await?.ok_or(AdminError::HungUp)?;
        serde_json::from_str(&answer).map_err(|error| AdminError::Unexpected(Some(error)))
    }

    /// How things stand.
    ///
    /// # Errors
    /// When the conversation fails.
    pub async fn status(&mut self) -> Result<StatusView, AdminError> {
        match self.ask(&Line::Status).await? {
            Answer::Status(status) => Ok(*status),
            _ => Err(AdminError::Unexpected(None)),
        }
    }

    /// Asks for a renewal now.
    ///
    /// # Errors
    /// When the conversation fails.
    pub async fn renew(&mut self) -> Result<Answer, AdminError> {
        self.ask(&Line::Renew).await
    }

    /// Hands an enrollment over.
    ///
    /// # Errors
    /// When the conversation fails; a refusal is an [`Answer::Failed`].
    pub async fn enroll(&mut self, token: &str, force: bool) -> Result<Answer, AdminError> {
        self.ask(&Line::Enroll { token: token.to_owned(), force }).await
    }

    /// Tells the daemon to end.
    ///
    /// # Errors
    /// When the conversation fails.
    pub async fn shutdown(&mut self) -> Result<(), AdminError> {
        self.ask(&Line::Shutdown).await.map(|_| ())
    }

    /// Everything that happens from now on.
    ///
    /// # Errors
    /// When the conversation fails.
    pub async fn events(mut self) -> Result<EventReader, AdminError> {
        match self.ask(&Line::Events).await? {
            Answer::Done => Ok(EventReader { lines: self.lines, _writer: self.writer }),
            _ => Err(AdminError::Unexpected(None)),
        }
    }
}

/// A stream of events from a running daemon.
#[derive(Debug)]
pub struct EventReader {
    lines: Lines<BufReader<tokio::net::unix::OwnedReadHalf>>,
    /// Dropping it would hang up.
    _writer: tokio::net::unix::OwnedWriteHalf,
}

impl EventReader {
    /// The next event; `None` when the daemon is gone. Events of a kind that this version does not know are passed over.
    ///
    /// # Errors
    /// When reading fails.
    pub async fn next(&mut self) -> Result<Option<EventLine>, AdminError> {
        while let Some(text) = self.lines.next_line().await? {
            if let Ok(line) = serde_json::from_str(&text) {
                return Ok(Some(line));
            }
        }
        Ok(None)
    }
}
