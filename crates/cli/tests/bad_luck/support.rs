//! One controller for all tests that run at the same time, routers of their own, and processes that tell what they do.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use lifecycle::GenerationNumber;
use net::credentials::{CredentialParts, Credentials};
use net::http::{HttpAnswer, HttpClient, HttpError};
use net::tls::{ServerTrust, client_config};
use pki::{Chain, PrivateKey, TrustBundle};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};
use rustls::pki_types::ServerName;
use rustls::sign::CertifiedKey;
use rustls::{ClientConnection, StreamOwned};
use serde_json::Value;
use tempfile::TempDir;

/// Longest wait for anything; reached only when something is broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
pub(crate) const PASSWORD: &str = "correct-horse-battery";

/// What a finished process left.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:#?}");
        assert_calm(&self.stderr);
        self
    }

    /// Demands a clear failure: this exit code, an error with a remedy that says all of this, and no panic.
    #[track_caller]
    pub(crate) fn fails(self, code: i32, says: &[&str]) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        for text in says {
            assert!(self.stderr.contains(text), "does not say `{text}`: {self:#?}");
        }
        assert!(self.stderr.contains("error: "), "{self:#?}");
        assert!(self.stderr.contains("hint: ") || self.stderr.contains("help: "), "no remedy: {self:#?}");
        assert_calm(&self.stderr);
        self
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }
}

/// No sign of a panic.
#[track_caller]
pub(crate) fn assert_calm(log: &str) {
    for text in ["panicked", "RUST_BACKTRACE", "internal error"] {
        assert!(!log.contains(text), "says `{text}`:\n{log}");
    }
}

/// The program, in an environment with nothing but this home.
pub(crate) fn exuvia(home: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_exuvia"));
    command.args(args).env_clear().env("HOME", home).current_dir(home).stdin(Stdio::null());
    command
}

pub(crate) fn run(home: &Path, args: &[&str]) -> Ran {
    finish(exuvia(home, args))
}

pub(crate) fn finish(mut command: Command) -> Ran {
    let output = command.output().unwrap();
    Ran {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// The program held back at its first line, so that a limit can be set on it from outside before it does anything.
pub(crate) fn finish_with_room(home: &Path, args: &[&str], bytes: u64) -> Ran {
    let mut command = Command::new("sh");
    command.args(["-c", "read _ && exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_exuvia")]).args(args);
    command.env_clear().env("HOME", home).current_dir(home);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    set_room(Pid::from_child(&child), Some(bytes));
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    let output = child.wait_with_output().unwrap();
    Ran {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Lets no file of this process grow beyond `bytes`, or lifts the limit again.
pub(crate) fn set_room(process: Pid, bytes: Option<u64>) {
    let usual = getrlimit(Resource::Fsize);
    let current = bytes.or(usual.current);
    prlimit(Some(process), Resource::Fsize, Rlimit { current, maximum: usual.maximum }).unwrap();
}

/// A machine that does not allow what a test needs. Where everything must be shown, that is a failure.
pub(crate) fn skip(what: &str, why: &str) {
    assert!(std::env::var_os("CI").is_none_or(|value| value != "true"), "cannot be shown here: {what}: {why}");
    println!("skipped: {what}: {why}");
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A running process: what it tells its service manager, and what it logs. It is killed if the test ends before it does.
pub(crate) struct Process {
    child: Child,
    manager: UnixDatagram,
    socket: PathBuf,
    log: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

impl Process {
    pub(crate) fn start(home: &Path, mut command: Command) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let socket = home.join(format!("notify-{}", NUMBER.fetch_add(1, Ordering::Relaxed)));
        let manager = UnixDatagram::bind(&socket).unwrap();
        fs::set_permissions(&socket, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        manager.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        command.env("NOTIFY_SOCKET", &socket).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (stderr, into) = (child.stderr.take().unwrap(), log.clone());
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
                let mut log = into.lock().unwrap();
                log.push_str(&String::from_utf8_lossy(&line));
                log.push('\n');
            }
        });
        Self { child, manager, socket, log, reader: Some(reader) }
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Waits until it tells its service manager something with `text` in it.
    #[track_caller]
    pub(crate) fn until_told(&mut self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        let mut buffer = [0; 4096];
        loop {
            match self.manager.recv(&mut buffer) {
                Ok(length) if String::from_utf8_lossy(&buffer[..length]).contains(text) => return,
                Ok(_) => continue,
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
                Err(error) => panic!("{error}"),
            }
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "ended with {ended:?} before it told `{text}`:\n{}", self.log());
            assert!(Instant::now() < deadline, "never told `{text}`:\n{}", self.log());
        }
    }

    /// Waits until its log says this.
    #[track_caller]
    pub(crate) fn until_logged(&mut self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.log().contains(text) {
            assert!(Instant::now() < deadline, "never logged `{text}`:\n{}", self.log());
            // The pipe's reader wakes nobody; whatever it is told meanwhile is of no interest.
            let _ = self.manager.recv(&mut [0; 4096]);
        }
    }

    #[track_caller]
    pub(crate) fn until_admitted(&mut self) {
        self.until_told("admitted by a controller");
    }

    /// kill -9; gives the log, in which nothing panicked.
    #[track_caller]
    pub(crate) fn kill(mut self) -> String {
        self.child.kill().unwrap();
        self.ended().1
    }

    /// SIGTERM: it must end with 0.
    #[track_caller]
    pub(crate) fn terminate(mut self) -> String {
        kill_process(self.pid(), Signal::TERM).unwrap();
        let (code, log) = self.ended();
        assert_eq!(code, Some(0), "{log}");
        log
    }

    /// Its exit code and log once it has ended.
    #[track_caller]
    fn ended(&mut self) -> (Option<i32>, String) {
        let code = self.child.wait().unwrap().code();
        self.reader.take().unwrap().join().unwrap();
        let log = self.log();
        assert_calm(&log);
        (code, log)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(&self.socket);
    }
}

/// A controller that runs, and a session.
pub(crate) struct Site {
    controller: Option<Process>,
    pub(crate) api_port: u16,
    pub(crate) ctrl_port: u16,
    pub(crate) home: TempDir,
}

/// The controller that tests share as long as any of them needs it: hashing a password is slow.
pub(crate) fn shared() -> Arc<Site> {
    static SITE: Mutex<Weak<Site>> = Mutex::new(Weak::new());
    let mut site = SITE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    site.upgrade().unwrap_or_else(|| {
        let made = Arc::new(Site::new("", &[]));
        *site = Arc::downgrade(&made);
        made
    })
}

impl Site {
    /// Makes a home, with this in the configuration's section `exuvia`, and starts the controller.
    pub(crate) fn new(settings: &str, init: &[&str]) -> Self {
        let home = tempfile::Builder::new().prefix("exuvia-").tempdir().unwrap();
        fs::write(home.path().join("password.txt"), PASSWORD).unwrap();
        let (ctrl_port, api_port) = (free_port(), free_port());
        let (ctrl, api) = (ctrl_port.to_string(), api_port.to_string());
        let args = ["controller", "init", "ctrl", "--listen", "127.0.0.1", "--password-file", "password.txt"];
        run(home.path(), &[&args[..], &["--ctrl-port", &ctrl, "--api-port", &api], init].concat()).ok();
        let path = home.path().join("ctrl/controller.yml");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace("\nexuvia:\n", &format!("\nexuvia:\n{settings}"))).unwrap();
        let mut site = Self { controller: None, api_port, ctrl_port, home };
        site.start_controller();
        let url = format!("https://localhost:{api_port}");
        let login = ["fleet", "login", &url, "--ca", "ctrl/pki/bundle.pem", "--password-file", "password.txt"];
        site.run(&login).ok();
        site
    }

    pub(crate) fn start_controller(&mut self) {
        let command = exuvia(self.home.path(), &["controller", "run", "ctrl/controller.yml"]);
        let mut controller = Process::start(self.home.path(), command);
        controller.until_told("READY=1");
        self.controller = Some(controller);
    }

    pub(crate) fn stop_controller(&mut self) {
        if let Some(controller) = self.controller.take() {
            controller.terminate();
        }
    }

    /// Runs it in an environment that was changed.
    pub(crate) fn restart_controller(&mut self, change: impl FnOnce(&mut Command)) {
        self.stop_controller();
        let mut command = exuvia(self.home.path(), &["controller", "run", "ctrl/controller.yml"]);
        change(&mut command);
        let mut controller = Process::start(self.home.path(), command);
        controller.until_told("READY=1");
        self.controller = Some(controller);
    }

    pub(crate) fn controller(&self) -> &Process {
        self.controller.as_ref().unwrap()
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        run(self.home.path(), args)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Its token is in `NAME.jwt`; gives its id.
    pub(crate) fn create(&self, name: &str) -> String {
        let made = self.run(&["fleet", "create", name, "-o", &format!("{name}.jwt"), "--json"]).ok().json();
        made["id"].as_str().unwrap().to_owned()
    }

    pub(crate) fn bundle(&self) -> TrustBundle {
        TrustBundle::from_pem(&fs::read(self.path("ctrl/pki/bundle.pem")).unwrap()).unwrap()
    }

    /// A TLS connection of our own making.
    pub(crate) fn tls(
        &self,
        port: u16,
        alpn: &[u8],
        identity: Option<Arc<CertifiedKey>>,
    ) -> StreamOwned<ClientConnection, TcpStream> {
        let config = client_config(&ServerTrust::bundle(&self.bundle()).unwrap(), identity, &[alpn]).unwrap();
        let tcp = TcpStream::connect(("127.0.0.1", port)).unwrap();
        tcp.set_read_timeout(Some(PATIENCE)).unwrap();
        let connection = ClientConnection::new(config, ServerName::try_from("localhost").unwrap()).unwrap();
        StreamOwned::new(connection, tcp)
    }

    pub(crate) fn enroll_by_hand(&self, method: &str, token: &str, client_csr: &str, server_csr: &str) -> HttpAnswer {
        self.try_to_enroll_by_hand(method, token, client_csr, server_csr).unwrap()
    }

    /// One request to the enrollment API.
    pub(crate) fn try_to_enroll_by_hand(
        &self,
        method: &str,
        token: &str,
        client_csr: &str,
        server_csr: &str,
    ) -> Result<HttpAnswer, HttpError> {
        let body = serde_json::json!({ "certCsr": client_csr, "serverCertCsr": server_csr }).to_string();
        let request = http::Request::builder()
            .method("POST")
            .uri(format!("https://localhost:{}/edge/client/v1/enroll?method={method}&token={token}", self.api_port))
            .header("content-type", "application/json")
            .body(bytes::Bytes::from(body))
            .unwrap();
        let client = HttpClient::new(ServerTrust::bundle(&self.bundle()).unwrap());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(client.send(request))
    }

    /// The one-time secret of `NAME.jwt`.
    pub(crate) fn secret(&self, name: &str) -> String {
        claims(&fs::read_to_string(self.path(&format!("{name}.jwt"))).unwrap())["jti"].as_str().unwrap().to_owned()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some(controller) = self.controller.take().filter(|_| !std::thread::panicking()) {
            controller.terminate();
        }
    }
}

pub(crate) fn claims(token: &str) -> Value {
    use base64::Engine as _;
    let engine = base64::engine::general_purpose::URL_SAFE_NO_PAD;
    serde_json::from_slice(&engine.decode(token.split('.').nth(1).unwrap()).unwrap()).unwrap()
}

/// A router of a test's own.
pub(crate) struct Router<'a> {
    pub(crate) site: &'a Site,
    pub(crate) name: String,
    pub(crate) id: String,
}

impl<'a> Router<'a> {
    /// Created, with a configuration, and not enrolled.
    pub(crate) fn created(site: &'a Site, name: &str) -> Self {
        let id = site.create(name);
        let router = Self { site, name: name.to_owned(), id };
        router.configure("");
        router
    }

    pub(crate) fn enrolled(site: &'a Site, name: &str) -> Self {
        let router = Self::created(site, name);
        router.enroll().ok();
        router
    }

    /// Writes its configuration, with this appended.
    pub(crate) fn configure(&self, more: &str) {
        write_config(self.site.home.path(), &self.name, more);
    }

    pub(crate) fn config(&self) -> String {
        format!("{}.yml", self.name)
    }

    pub(crate) fn enroll(&self) -> Ran {
        self.run(&["router", "enroll", &self.config(), "--jwt", &format!("{}.jwt", self.name)])
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        self.site.run(args)
    }

    /// The folder of its identity files.
    pub(crate) fn folder(&self) -> PathBuf {
        self.site.path(&self.name)
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.folder().join(".exuvia").join(state_name(&self.id))
    }

    pub(crate) fn generation(&self, number: u64) -> PathBuf {
        self.state().join(format!("generations/{number:04}"))
    }

    pub(crate) fn command(&self) -> Command {
        exuvia(self.site.home.path(), &["router", "run", &self.config()])
    }

    pub(crate) fn start(&self) -> Process {
        Process::start(self.site.home.path(), self.command())
    }

    /// Running and admitted.
    #[track_caller]
    pub(crate) fn admitted(&self) -> Process {
        let mut process = self.start();
        process.until_admitted();
        process
    }

    pub(crate) fn status(&self) -> Value {
        self.run(&["status", &self.config(), "--json"]).ok().json()
    }

    /// A whole renewal, or the rest of one that is under way; gives the new generation's number.
    #[track_caller]
    pub(crate) fn renew(&self) -> u64 {
        let mut events = self.events();
        let answer = self.order_renewal();
        let is_under_way = answer["answer"] == "not_begun" && answer["blocked"].is_null();
        assert!(answer["answer"] == "began" || is_under_way, "{answer}");
        events.until(&["promoted"])["generation"].as_u64().unwrap()
    }

    /// What it is told on its admin socket from now on.
    pub(crate) fn events(&self) -> Events {
        let stream = self.admin();
        (&stream).write_all(b"{\"ask\":\"events\"}\n").unwrap();
        let mut events = Events(BufReader::new(stream));
        assert_eq!(events.line()["answer"], "done");
        events
    }

    /// Asks for a renewal and does not wait for anything.
    pub(crate) fn order_renewal(&self) -> Value {
        let stream = self.admin();
        (&stream).write_all(b"{\"ask\":\"renew\"}\n").unwrap();
        Events(BufReader::new(stream)).line()
    }

    fn admin(&self) -> UnixStream {
        let stream = UnixStream::connect(self.state().join("admin.sock")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// What it presents with the files of this generation.
    pub(crate) fn credentials(&self, number: u64) -> Arc<Credentials> {
        let read = |name: &str| fs::read(self.generation(number).join(name)).unwrap();
        let key = PrivateKey::from_pem(&read("key.pem")).unwrap();
        let parts = CredentialParts {
            generation: GenerationNumber(number),
            client: &Chain::from_pem(&read("client.pem")).unwrap(),
            client_key: &key,
            server: &Chain::from_pem(&read("server.pem")).unwrap(),
            server_key: &key,
            bundle: &TrustBundle::from_pem(&read("bundle.pem")).unwrap(),
        };
        Arc::new(Credentials::new(parts).unwrap())
    }
}

/// As the store writes an id that holds more than letters and digits.
fn state_name(id: &str) -> String {
    store::identity::state_folder(Path::new("x"), None, &lifecycle::RouterId::new(id))
        .file_name()
        .unwrap()
        .to_string_lossy()
        .into_owned()
}

/// The event stream of a running router.
pub(crate) struct Events(BufReader<UnixStream>);

impl Events {
    pub(crate) fn line(&mut self) -> Value {
        let mut text = String::new();
        self.0.read_line(&mut text).unwrap();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: `{text}`"))
    }

    /// Reads until one of these comes.
    #[track_caller]
    pub(crate) fn until(&mut self, names: &[&str]) -> Value {
        loop {
            let line = self.line();
            if names.iter().any(|name| line["event"] == *name) {
                return line;
            }
            assert_ne!(line["event"], "shutting_down");
        }
    }
}

/// Quick retries, new keys at every renewal, and no controller: enrollment learns where it is.
pub(crate) fn write_config(home: &Path, name: &str, more: &str) {
    let folder = home.join(name);
    fs::create_dir_all(&folder).unwrap();
    let folder = folder.display();
    let exuvia = if more.contains("exuvia:") {
        ""
    } else {
        "exuvia: {spacing: 0, backoffMin: 20ms, backoffMax: 200ms, attemptDeadline: 2s}\n"
    };
    let ctrl = if more.contains("ctrl:") {
        String::new()
    } else {
        format!("ctrl: {{endpointsFile: {folder}/endpoints.yml}}\n")
    };
    let text = format!(
        "v: 3\nidentity:\n  cert: {folder}/client.pem\n  server_cert: {folder}/server.pem\n  key: {folder}/key.pem\n  ca: {folder}/ca.pem\n\
         {ctrl}edge:\n  csr:\n    sans:\n      dns: [localhost]\n{exuvia}{more}"
    );
    fs::write(home.join(format!("{name}.yml")), text).unwrap();
}

/// Every file below a folder with its content, but for sockets.
pub(crate) fn listing(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            files.extend(listing(&entry.path()));
        } else if kind.is_file() {
            files.push((entry.path(), fs::read(entry.path()).unwrap()));
        }
    }
    files.sort();
    files
}

/// Reads until the peer closes; what it said.
pub(crate) fn last_words(stream: &mut impl io::Read) -> Vec<u8> {
    let mut said = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return said,
            Ok(length) => said.extend_from_slice(&buffer[..length]),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                panic!("the connection stays open after {said:?}")
            }
            Err(_) => return said,
        }
    }
}

/// VmRSS in KiB.
pub(crate) fn resident_kib(pid: Pid) -> u64 {
    let mut text = String::new();
    fs::File::open(format!("/proc/{}/status", pid.as_raw_nonzero())).unwrap().read_to_string(&mut text).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

impl Process {
    /// One turn of a loop that waits for something of which nobody tells; ends early when the process tells anything.
    pub(crate) fn pause(&mut self) {
        let _ = self.manager.recv(&mut [0; 4096]);
        assert!(self.child.try_wait().unwrap().is_none(), "ended:\n{}", self.log());
    }
}
