//! The controller's side of the bench: a whole daemon in a process of its own, told what to do on its standard input.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use controller::clock::Clock;
use controller::config::ControllerConfig;
use controller::daemon::{Daemon, open_register};
use controller::enroll::token_id;
use controller::init::{InitOptions, init};
use lifecycle::RouterId;
use lifecycle::issuance::{EnrollmentKind, Token};
use net::connect::Endpoint;
use pki::TrustBundle;
use store::register::{
    By, FirstIdentity, MemoryRegister, NewRouter, Register, RouterPatch, SqliteRegister, TokenText, Tuning,
};
use zeroize::Zeroizing;

use super::load::Site;

/// First argument of a process that is to be a controller.
pub(crate) const FLAG: &str = "--as-controller";
/// As many as a small machine gives it.
const WORKERS: usize = 2;

/// Where its register is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    Durable,
    InMemory,
}

impl Kept {
    fn word(self) -> &'static str {
        match self {
            Self::Durable => "durable",
            Self::InMemory => "in-memory",
        }
    }
}

/// What a controller has done so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) commits: u64,
    pub(crate) checkpoints: u64,
    pub(crate) cpu_ms: f64,
}

/// A running controller; killed when dropped.
pub(crate) struct Process {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
    pub(crate) site: Arc<Site>,
}

pub(crate) fn router(number: usize) -> RouterId {
    RouterId::new(format!("router-{number}"))
}

pub(crate) fn token(number: usize) -> String {
    format!("{number:08x}-0000-4000-8000-000000000000")
}

impl Process {
    /// Makes a controller below `folder` with `routers` that may enroll, and starts it.
    pub(crate) fn start(folder: &Path, kept: Kept, routers: usize) -> Self {
        let home = folder.join(kept.word());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut options = InitOptions::new(&home, "127.0.0.1");
        (options.listen, options.control_port, options.api_port) = ("127.0.0.1".to_owned(), free_port(), free_port());
        let (control, api) = (options.control_port, options.api_port);
        let made = runtime.block_on(init(&options, Clock::system().now())).unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([FLAG, kept.word(), &routers.to_string()])
            .arg(&made.config)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (orders, answers) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let bundle = TrustBundle::from_pem(&std::fs::read(&made.bundle).unwrap()).unwrap();
        let site =
            Site { control: Endpoint::new("127.0.0.1", control), api: format!("https://127.0.0.1:{api}"), bundle };
        let mut process = Self { child, orders, answers, site: Arc::new(site) };
        assert_eq!(process.line(), "ready");
        process
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    pub(crate) fn counts(&mut self) -> Counts {
        self.orders.write_all(b"counts\n").unwrap();
        let line = self.line();
        let mut numbers = line.split(' ').map(|number| number.parse::<u64>().unwrap());
        let mut next = || numbers.next().unwrap();
        let (commits, checkpoints) = (next(), next());
        Counts { commits, checkpoints, cpu_ms: cpu_ms(self.child.id()) }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

/// Processor time of a process, user and system, to within a clock tick.
pub(crate) fn cpu_ms(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The name, in brackets, may hold anything.
    let after = stat.rsplit_once(") ").unwrap().1;
    let ticks: u64 = after.split(' ').skip(11).take(2).map(|number| number.parse::<u64>().unwrap()).sum();
    ticks as f64 * 1000.0 / 100.0
}

/// What the other process runs.
pub(crate) fn be_controller(mut arguments: impl Iterator<Item = String>) {
    let kept = if arguments.next().unwrap() == Kept::Durable.word() { Kept::Durable } else { Kept::InMemory };
    let routers: usize = arguments.next().unwrap().parse().unwrap();
    let path = PathBuf::from(arguments.next().unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build().unwrap();
    runtime.block_on(serve(kept, routers, &path));
}

async fn serve(kept: Kept, routers: usize, path: &Path) {
    let text = std::fs::read_to_string(path).unwrap();
    let (config, _) = ControllerConfig::load(&text, &path.to_string_lossy(), &|_| None).unwrap();
    let clock = Clock::system();
    let register: Arc<dyn Register> = match kept {
        Kept::Durable => match std::env::var("EXUVIA_BENCH_SPACING_MS") {
            Ok(ms) => {
                let tuning = Tuning { spacing: Duration::from_millis(ms.parse().unwrap()), ..Tuning::default() };
                Arc::new(SqliteRegister::open_with(&config.db, clock.now().wall, tuning).unwrap())
            }
            Err(_) => open_register(&config, &clock).unwrap(),
        },
        Kept::InMemory => Arc::new(MemoryRegister::new("bench")),
    };
    for number in 0..routers {
        let text = token(number);
        let expires = clock.now().wall.plus(Duration::from_secs(3600));
        let token = Token { id: token_id(&text), kind: EnrollmentKind::Edge, expires, enrolled: None };
        let id = router(number);
        let new = NewRouter {
            name: id.as_str().to_owned(),
            id,
            first: FirstIdentity::Enrolled {
                token,
                text: TokenText { jti: Zeroizing::new(text), jwt: Zeroizing::new("unused".to_owned()) },
            },
            settings: RouterPatch::default(),
        };
        register.create_router(new, By::controller(clock.now())).await.unwrap();
    }
    let daemon = Daemon::start(&config, register, clock).await.unwrap();
    println!("ready");
    let register = Arc::clone(daemon.register());
    let answering = tokio::task::spawn_blocking(move || {
        // One for each line; the bench closes its end when it is done.
        for _ in std::io::stdin().lines() {
            let metrics = register.metrics();
            println!("{} {}", metrics.commits, metrics.checkpoints);
        }
    });
    answering.await.unwrap();
    daemon.end().await;
}
