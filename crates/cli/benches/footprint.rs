//! Memory of idle processes, and how soon a router is admitted after its start. Real processes of the program itself.
//!
//! - A controller's resident memory without channels, then with 2,000 idle ones (their other ends are here), 60 s after the last
//!   one was admitted. What counts is the difference, per channel.
//! - A router's, 60 s after it was admitted.
//! - From the start of a router's process to the event that it is admitted, against the handshake that it cannot do without:
//!   TCP, TLS, hello and answer with the same controller, done here. Both alternate; medians.
//!
//! `--settle SECONDS` waits less, `--channels NUMBER` opens fewer: for trying.
//! `EXUVIA_BENCH_BINARY` names another program than the one that was just built.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a bench that cannot go on must stop")]

#[path = "../../controller/benches/renewals/load.rs"]
#[allow(dead_code, reason = "nobody renews here")]
mod load;

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Request;
use lifecycle::RouterId;
use load::Site;
use net::connect::Endpoint;
use net::http::HttpConnection;
use pki::TrustBundle;
use serde_json::{Value, json};
use tokio::task::JoinSet;

const PASSWORD: &str = "only for this bench";
const CHANNELS: usize = 2000;
const SETTLE: Duration = Duration::from_secs(60);
const STARTS: usize = 21;
const AT_ONCE: usize = 16;
const ROUTER_TARGET_MIB: f64 = 15.0;
const CHANNEL_TARGET_KIB: f64 = 40.0;
const START_TARGET_MS: f64 = 150.0;

fn main() {
    let option = |name: &str| {
        let mut arguments = std::env::args().skip_while(|argument| argument != name).skip(1);
        arguments.next().map(|text| text.parse::<u64>().unwrap())
    };
    let settle = option("--settle").map_or(SETTLE, Duration::from_secs);
    let channels = option("--channels").map_or(CHANNELS, |number| usize::try_from(number).unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(measure(settle, channels));
}

async fn measure(settle: Duration, channels: usize) {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (controller, site) = start_controller(folder.path()).await;
    let site = Arc::new(site);
    let mut api = Api::log_in(&site).await;

    let home = folder.path().join("router");
    let (_, jwt) = api.create("the-router").await;
    let config = write_router(&home, &site, &jwt);
    let status = program().args(["router", "enroll", "--jwt"]).arg(home.join("jwt")).arg(&config).output().unwrap();
    assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));

    // The handshake alone, by somebody else: each router has one channel.
    let (id, jwt) = api.create("the-caller").await;
    let mut http = site.http().await;
    let caller = site.enroll(&mut http, RouterId::new(id), &token_in(&jwt)).await;
    let (mut starts, mut handshakes, mut above) = (Vec::new(), Vec::new(), Vec::new());
    let mut router = None;
    for _ in 0..STARTS {
        drop(router.take());
        let begun = Instant::now();
        site.open(caller.clone()).await.close().await;
        let handshake = begun.elapsed().as_secs_f64() * 1e3;
        let begun = Instant::now();
        router = Some(start_router(&config));
        let start = begun.elapsed().as_secs_f64() * 1e3;
        starts.push(start);
        handshakes.push(handshake);
        above.push(start - handshake);
    }
    let [start, handshake, above] = [starts, handshakes, above].map(|mut values| middle(&mut values));
    println!("start of a router with an identity, medians of {STARTS}");
    println!("  from exec to admitted                    {start:7.1} ms");
    println!("  TCP, TLS, hello and answer alone         {handshake:7.1} ms");
    println!("  beyond the handshake                     {above:7.1} ms; target at most {START_TARGET_MS}");

    tokio::time::sleep(settle).await;
    let router = router.unwrap();
    let router_kib = resident_kib(&router.0);
    println!("resident memory {} s after admission, two worker threads", settle.as_secs());
    println!(
        "  router                                   {:7.1} MiB; target at most {ROUTER_TARGET_MIB}",
        router_kib / 1024.0
    );
    drop(router);

    // The connection of before was idle for too long.
    let mut api = Api::log_in(&site).await;
    // Enrollment, logins and their garbage come first, so that they are not counted as memory of channels.
    let identities = enroll_all(&site, &mut api, channels).await;
    tokio::time::sleep(settle / 4).await;
    let without = resident_kib(&controller.0);
    let mut idle = JoinSet::new();
    let mut opening = JoinSet::new();
    for share in identities.chunks(channels.div_ceil(AT_ONCE)).map(<[_]>::to_vec) {
        let site = Arc::clone(&site);
        opening.spawn(async move {
            let mut sessions = Vec::new();
            for identity in share {
                sessions.push(site.open(identity).await);
            }
            sessions
        });
    }
    for session in opening.join_all().await.into_iter().flatten() {
        idle.spawn(session.idle());
    }
    tokio::time::sleep(settle).await;
    assert!(idle.try_join_next().is_none(), "a channel was closed");
    let with = resident_kib(&controller.0);
    let each = (with - without) / channels as f64;
    println!("  controller without channels              {:7.1} MiB", without / 1024.0);
    println!("  controller with {channels} idle channels        {:7.1} MiB", with / 1024.0);
    println!("  for each channel                         {each:7.1} KiB; target at most {CHANNEL_TARGET_KIB}");
    println!(
        "BENCH footprint start_ms={start:.1} handshake_ms={handshake:.1} beyond_ms={above:.1} router_mib={:.2} controller_mib={:.2} channels={channels} channel_kib={each:.1} settle_s={}",
        router_kib / 1024.0,
        without / 1024.0,
        settle.as_secs()
    );
    // All at once, rather than one by one with a farewell.
    idle.abort_all();
}

/// Sorts, and picks.
fn middle(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Killed when dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn program() -> Command {
    let path = std::env::var_os("EXUVIA_BENCH_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_exuvia").into());
    let mut command = Command::new(path);
    command.env("TOKIO_WORKER_THREADS", "2").stdin(Stdio::null());
    command
}

fn resident_kib(child: &Child) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

/// Reads a daemon's events until one holds `sign`; the rest is read and forgotten.
fn wait_for(child: &mut Child, sign: &str) {
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let found = lines.by_ref().map_while(Result::ok).any(|line| line.contains(sign));
    assert!(found, "it ended before `{sign}`");
    std::thread::spawn(move || lines.for_each(drop));
}

async fn start_controller(folder: &Path) -> (Killed, Site) {
    let (home, password) = (folder.join("controller"), folder.join("password"));
    std::fs::write(&password, PASSWORD).unwrap();
    let (control, api) = (free_port(), free_port());
    let made = program()
        .args(["controller", "init", "--address", "127.0.0.1", "--listen", "127.0.0.1"])
        .args(["--ctrl-port", &control.to_string(), "--api-port", &api.to_string(), "--password-file"])
        .args([&password, &home])
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let mut child = program()
        .args(["--log-format", "json", "controller", "run"])
        .arg(home.join("controller.yml"))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for(&mut child, "\"ready\"");
    let bundle = TrustBundle::from_pem(&std::fs::read(home.join("pki/bundle.pem")).unwrap()).unwrap();
    let site = Site { control: Endpoint::new("127.0.0.1", control), api: format!("https://127.0.0.1:{api}"), bundle };
    (Killed(child), site)
}

/// A configuration as small as it gets, with the token beside it.
fn write_router(home: &Path, site: &Site, jwt: &str) -> PathBuf {
    std::fs::create_dir(home).unwrap();
    std::fs::write(home.join("jwt"), jwt).unwrap();
    let config = home.join("router.yml");
    let at = |name: &str| json!(home.join(name).to_str().unwrap());
    let text = format!(
        "v: 3\nidentity: {{cert: {}, server_cert: {}, key: {}, ca: {}}}\nctrl: {{endpoint: \"tls:{}\"}}\n\
         edge: {{csr: {{sans: {{dns: [localhost], ip: [\"127.0.0.1\"]}}}}}}\nexuvia: {{projection: off}}\n",
        at("client.pem"),
        at("server.pem"),
        at("key.pem"),
        at("ca.pem"),
        site.control
    );
    std::fs::write(&config, text).unwrap();
    config
}

/// Starts it and waits until it is admitted.
fn start_router(config: &Path) -> Killed {
    let mut child = program()
        .args(["--log-format", "json", "router", "run"])
        .arg(config)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for(&mut child, "\"connected\"");
    Killed(child)
}

async fn enroll_all(site: &Arc<Site>, api: &mut Api, channels: usize) -> Vec<load::Identity> {
    let mut made = Vec::new();
    for number in 0..channels {
        made.push(api.create(&format!("idle-{number}")).await);
    }
    let mut enrolling = JoinSet::new();
    for share in made.chunks(channels.div_ceil(AT_ONCE)).map(<[_]>::to_vec) {
        let site = Arc::clone(site);
        enrolling.spawn(async move {
            let mut http = site.http().await;
            let mut identities = Vec::new();
            for (id, jwt) in share {
                identities.push(site.enroll(&mut http, RouterId::new(id), &token_in(&jwt)).await);
            }
            identities
        });
    }
    enrolling.join_all().await.into_iter().flatten().collect()
}

/// The one-time secret inside a JWT.
fn token_in(jwt: &str) -> String {
    use base64::Engine as _;
    let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(jwt.split('.').nth(1).unwrap()).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    claims["jti"].as_str().unwrap().to_owned()
}

/// The management API.
struct Api {
    http: HttpConnection,
    base: String,
    session: String,
}

impl Api {
    async fn log_in(site: &Site) -> Self {
        let mut api =
            Self { http: site.http().await, base: format!("{}/edge/management/v1", site.api), session: String::new() };
        let answer =
            api.ask("authenticate?method=password", Some(json!({ "username": "admin", "password": PASSWORD }))).await;
        api.session = answer["data"]["token"].as_str().unwrap().to_owned();
        api
    }

    /// Id and enrollment JWT of a new router.
    async fn create(&mut self, name: &str) -> (String, String) {
        let made = self.ask("edge-routers", Some(json!({ "name": name }))).await;
        let id = made["data"]["id"].as_str().unwrap().to_owned();
        let view = self.ask(&format!("edge-routers/{id}"), None).await;
        (id, view["data"]["enrollmentJwt"].as_str().unwrap().to_owned())
    }

    async fn ask(&mut self, path: &str, body: Option<Value>) -> Value {
        let uri = format!("{}/{path}", self.base);
        let request = if body.is_some() { Request::post(uri) } else { Request::get(uri) };
        let request = request.header("content-type", "application/json").header("zt-session", &self.session);
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let answer = self.http.send(request.body(body.into()).unwrap()).await.unwrap();
        assert!(answer.status.is_success(), "{path}: {}", String::from_utf8_lossy(&answer.body));
        serde_json::from_slice(&answer.body).unwrap()
    }
}
