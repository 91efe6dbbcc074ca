//! A controller process that is killed (SIGKILL) between what it does and what it says of it.
//!
//! The test starts itself a second time as the process to be killed; which part it plays is in the environment.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use controller::clock::Clock;
use controller::config::ControllerConfig;
use controller::daemon::{Daemon, open_register};
use controller::init::CONFIG_FILE;
use lifecycle::issuance::EnrollmentKind::Edge;
use net::channel::Event;
use pki::{PrivateKey, TrustBundle};
use wire::content_type;
use wire::extension::{CertsResponse, ExtensionVerify};

use crate::world::{Line, TestRouter, create, enroll, listen_anywhere, made, new_key};

const PART: &str = "EXUVIA_TEST_CONTROLLER_FOLDER";
const READY: &str = "the controller listens on ";
const ROUNDS: usize = 12;

#[test]
fn a_controller_killed_at_any_moment_of_a_renewal_locks_nobody_out() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    match std::env::var_os(PART) {
        Some(folder) => runtime.block_on(be_killed(Path::new(&folder))),
        None => runtime.block_on(kill_and_look()),
    }
}

async fn be_killed(folder: &Path) {
    let path = folder.join(CONFIG_FILE);
    let text = std::fs::read_to_string(&path).unwrap();
    let (mut config, _) = ControllerConfig::load(&text, &path.to_string_lossy(), &|_| None).unwrap();
    listen_anywhere(&mut config);
    let daemon = started(&config).await;
    println!("\n{READY}{}", daemon.control_address());
    std::future::pending::<()>().await;
}

async fn started(config: &ControllerConfig) -> Daemon {
    let register = open_register(config, &Clock::system()).unwrap();
    Daemon::start(config, register, Clock::system()).await.unwrap()
}

/// A controller in a process of its own. Dies with the test.
struct Doomed {
    process: Child,
    address: SocketAddr,
}

impl Doomed {
    fn start(folder: &Path) -> Self {
        let name = "killed::a_controller_killed_at_any_moment_of_a_renewal_locks_nobody_out";
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(PART, folder)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let address = loop {
            let line = lines.next().expect("it ended before it was ready").unwrap();
            if let Some(address) = line.strip_prefix(READY) {
                break address.parse().unwrap();
            }
        };
        Self { process, address }
    }

    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Doomed {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// When the controller dies, seen from the router.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// A hello is under way, with the newest leaf.
    Hello,
    /// 20302 was sent.
    Asked,
    /// 20301 has come.
    Answered,
    /// 20303 was sent.
    Confirming,
}

async fn kill_and_look() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("controller");
    let config = made(folder.clone()).await;
    let daemon = started(&config).await;
    let token = create(&**daemon.register(), Clock::system().now(), "r1", Edge).await;
    let bundle = TrustBundle::from_pem(&std::fs::read(&config.identity.ca).unwrap()).unwrap();
    // What the router has on its disk, newest first: whatever it ever stored, as design.md asks.
    let mut candidates = vec![enroll(&daemon, bundle, "r1", Edge, &token).await];
    daemon.end().await;

    let mut asked: Option<PrivateKey> = None;
    for round in 0..ROUNDS {
        let moment = [Moment::Asked, Moment::Answered, Moment::Confirming, Moment::Hello][round % 4];
        let mut controller = Doomed::start(&folder);
        let mut line = any_admitted(&candidates, controller.address).await;
        let key = asked.take().unwrap_or_else(new_key);
        match moment {
            Moment::Hello => {
                let dialing = tokio::spawn(candidates[0].dialing(controller.address));
                spin(round).await;
                controller.kill();
                let _ = dialing.await.unwrap();
            }
            Moment::Asked => {
                line.channel.send(candidates[0].asking(&key)).await.unwrap();
                spin(round).await;
                controller.kill();
                // If the answer came through all the same, it is as good as any.
                match last_answer(&mut line).await {
                    Some(certs) => candidates.insert(0, candidates[0].renewed(key, &certs)),
                    None => asked = Some(key),
                }
            }
            Moment::Answered | Moment::Confirming => {
                let certs = line.extend(&candidates[0], &key).await;
                // Stored before 20303 leaves.
                candidates.insert(0, candidates[0].renewed(key, &certs));
                if matches!(moment, Moment::Confirming) {
                    let verify = ExtensionVerify { client_chain_pem: certs.client_chain_pem };
                    line.channel.send(verify.to_frame()).await.unwrap();
                    spin(round).await;
                }
                controller.kill();
            }
        }
    }
    let controller = Doomed::start(&folder);
    let newest = candidates[0].dialing(controller.address).await;
    assert!(newest.is_ok(), "the newest that was stored is admitted: {newest:?}");
    let mut line = any_admitted(&candidates, controller.address).await;
    line.extend(&candidates[0], &new_key()).await;
}

/// A different moment in every round, counted in turns of the scheduler.
async fn spin(round: usize) {
    for _ in 0..round * round {
        tokio::task::yield_now().await;
    }
}

/// The answer that was on the wire when the controller died, if any.
async fn last_answer(line: &mut Line) -> Option<CertsResponse> {
    let mut certs = None;
    loop {
        match line.events.next().await? {
            Event::Message { frame, .. } if frame.content_type == content_type::ENROLLMENT_CERTS => {
                certs = CertsResponse::from_frame(&frame).ok();
            }
            Event::Closed(_) => return certs,
            _ => {}
        }
    }
}

/// A channel with the newest candidate that is admitted. None: locked out.
async fn any_admitted(candidates: &[TestRouter], address: SocketAddr) -> Line {
    let mut refusals = Vec::new();
    for candidate in candidates {
        match candidate.dialing(address).await {
            Ok(connected) => return Line::of(connected),
            Err(error) => refusals.push(error.to_string()),
        }
    }
    panic!("locked out: {refusals:?}");
}
