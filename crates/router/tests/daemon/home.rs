//! A router's home, the router in it, and what it tells.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use net::http::{HttpClient, HttpConnection};
use net::stop::Stop;
use net::tls::ServerTrust;
use pki::TrustBundle;
use router::admin::{Answer, Client};
use router::config::RouterConfig;
use router::enroll::enroll;
use router::events::{EventKind, EventLine};
use router::run;
use router::status::StatusView;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::timeout;

use crate::controller::Controller;

/// Longer than anything here may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);
/// Long enough that nothing falls due by itself; time-outs are shares of it.
pub(crate) const LIFE: Duration = Duration::from_secs(16);

pub(crate) struct Home {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) config: RouterConfig,
    pub(crate) port: u16,
}

impl Home {
    pub(crate) fn new(controller: &Controller, extra: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        let port = controller.address.port();
        let text = format!(
            "v: 3\nidentity:\n  cert: {}\n  server_cert: {}\n  key: {}\n  ca: {}\nctrl:\n  endpoint: tls:localhost:{port}\n\
             csr:\n  country: NL\n  sans:\n    dns: [localhost]\n    ip: [127.0.0.1]\nedge: {{}}\nweb:\n  - name: health\n    bindPoints:\n      \
             - interface: 127.0.0.1:0\n    apis:\n      - binding: health-checks\n      - binding: metrics\n{extra}",
            at("r.cert"),
            at("r.server.cert"),
            at("r.key"),
            at("r.ca"),
        );
        let path = folder.path().join("router.yml");
        std::fs::write(&path, text).unwrap();
        let config = run::load_config(&path).unwrap_or_else(|error| panic!("{error}")).0;
        Self { folder, config, port }
    }

    pub(crate) async fn enrolled(controller: &Controller, extra: &str) -> Self {
        let home = Self::new(controller, extra);
        enroll(&home.config, &controller.token, false).await.unwrap_or_else(|error| panic!("{error:?}"));
        home
    }

    /// The same files under another section `exuvia`.
    pub(crate) fn with(self, extra: &str) -> Self {
        let path = self.folder.path().join("router.yml");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text + extra).unwrap();
        let config = run::load_config(&path).unwrap_or_else(|error| panic!("{error}")).0;
        Self { config, ..self }
    }

    /// The same router enrolled once more, elsewhere: what a stock `ziti router enroll` leaves behind.
    pub(crate) async fn enrolled_with_new_token(controller: &Controller) -> Self {
        let home = Self::new(controller, "");
        let token = controller.re_enroll();
        enroll(&home.config, &token, false).await.unwrap_or_else(|error| panic!("{error:?}"));
        home
    }

    pub(crate) fn file(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.folder.path().join(name)).unwrap()
    }

    pub(crate) async fn start(&self) -> Running {
        let (stop, stopped) = Stop::new();
        let ready = run::prepare(self.config.clone(), false, stopped.clone()).await;
        let ready = ready.unwrap_or_else(|error| panic!("{error:?}")).unwrap();
        let heard = ready.events().listen();
        let web = ready.web_addresses().remove(0);
        let admin = ready.admin_path().map(PathBuf::from);
        let status = ready.status();
        let task = tokio::spawn(ready.serve(stopped));
        Running { stop, task, heard, web, admin, status }
    }
}

pub(crate) struct Running {
    pub(crate) stop: Stop,
    pub(crate) task: tokio::task::JoinHandle<()>,
    pub(crate) heard: broadcast::Receiver<Arc<EventLine>>,
    pub(crate) web: std::net::SocketAddr,
    pub(crate) admin: Option<PathBuf>,
    pub(crate) status: tokio::sync::watch::Receiver<Arc<StatusView>>,
}

impl Running {
    /// The next event that `wanted` makes something of.
    pub(crate) async fn wait_for<T>(&mut self, what: &str, mut wanted: impl FnMut(&EventKind) -> Option<T>) -> T {
        let mut seen = Vec::new();
        let waiting = async {
            loop {
                match self.heard.recv().await {
                    Ok(line) => {
                        if let Some(found) = wanted(&line.what) {
                            return found;
                        }
                        seen.push(line.what.to_string());
                    }
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => panic!("the router ended while waiting for {what}"),
                }
            }
        };
        match timeout(PATIENCE, waiting).await {
            Ok(found) => found,
            Err(_) => panic!("no {what}; seen:\n{}", seen.join("\n")),
        }
    }

    pub(crate) async fn connected(&mut self) -> u64 {
        self.wait_for("connection", |what| match what {
            EventKind::Connected { generation, .. } => Some(*generation),
            _ => None,
        })
        .await
    }

    pub(crate) async fn promoted(&mut self) -> u64 {
        self.wait_for("promotion", |what| match what {
            EventKind::Promoted { generation, .. } => Some(*generation),
            _ => None,
        })
        .await
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(&[self.admin.clone().unwrap()]).await.unwrap()
    }

    pub(crate) async fn renew(&self) {
        let answer = self.client().await.renew().await.unwrap();
        assert!(matches!(answer, Answer::Began { .. }), "{answer:?}");
    }

    pub(crate) async fn end(self) {
        self.stop.stop();
        timeout(PATIENCE, self.task).await.unwrap().unwrap();
    }

    /// As a kill does: nothing is said, nothing is written any more.
    pub(crate) async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

/// The certificate that the web listener presents, and a connection to it.
pub(crate) async fn visit(home: &Home, running: &Running) -> (Vec<u8>, HttpConnection) {
    let bundle = TrustBundle::from_pem(&home.file("r.ca")).unwrap();
    let client = HttpClient::new(ServerTrust::bundle(&bundle).unwrap());
    let uri = format!("https://localhost:{}/health-checks", running.web.port()).parse().unwrap();
    let connection = client.connect(&uri).await.unwrap();
    (connection.peer().unwrap().leaf().to_vec(), connection)
}

pub(crate) async fn get(connection: &mut HttpConnection, path: &str) -> (StatusCode, String) {
    let answer = connection.send(Request::get(path).body(Bytes::new()).unwrap()).await.unwrap();
    (answer.status, String::from_utf8(answer.body.to_vec()).unwrap())
}
