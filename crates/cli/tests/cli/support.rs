//! Processes of the program in an environment of their own, and a controller with one router on free ports.

use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// Longest wait for anything; reached only when something is broken.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) const PASSWORD: &str = "correct-horse-battery";

/// What a finished process left.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// Demands success.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:#?}");
        self
    }

    /// Demands a clear failure: this exit code, a text that says all of this, and no sign of a panic.
    #[track_caller]
    pub(crate) fn fails(self, code: i32, says: &[&str]) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        for text in says {
            assert!(self.stderr.contains(text), "does not say `{text}`: {self:#?}");
        }
        assert!(self.stderr.starts_with("error: "), "{self:#?}");
        for text in ["panicked", "RUST_BACKTRACE", "internal error"] {
            assert!(!self.stderr.contains(text), "says `{text}`: {self:#?}");
        }
        self
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }
}

/// The program, in an environment with nothing but this home.
pub(crate) fn exuvia(home: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_exuvia"));
    command.args(args).env_clear().env("HOME", home).current_dir(home).stdin(Stdio::null());
    command
}

/// Runs it to its end.
pub(crate) fn run(home: &Path, args: &[&str]) -> Ran {
    finish(exuvia(home, args))
}

/// Runs it to its end with this on its standard input.
pub(crate) fn run_with_input(home: &Path, args: &[&str], input: &str) -> Ran {
    let mut command = exuvia(home, args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    ran(child.wait_with_output().unwrap())
}

pub(crate) fn finish(mut command: Command) -> Ran {
    ran(command.output().unwrap())
}

fn ran(output: std::process::Output) -> Ran {
    Ran {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A daemon, and what it tells its service manager. It is killed if the test ends before it does.
pub(crate) struct Daemon {
    child: Child,
    manager: UnixDatagram,
    log: PathBuf,
}

impl Daemon {
    pub(crate) fn start(home: &Path, name: &str, args: &[&str]) -> Self {
        let socket = home.join(format!("{name}.notify"));
        let _ = fs::remove_file(&socket);
        let manager = UnixDatagram::bind(&socket).unwrap();
        manager.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let log = home.join(format!("{name}.log"));
        let mut command = exuvia(home, args);
        command.env("NOTIFY_SOCKET", &socket).stdout(Stdio::null()).stderr(fs::File::create(&log).unwrap());
        Self { child: command.spawn().unwrap(), manager, log }
    }

    /// Waits until it tells something with `text` in it, from now on.
    #[track_caller]
    pub(crate) fn until_told(&mut self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        let mut buffer = [0; 4096];
        loop {
            match self.manager.recv(&mut buffer) {
                Ok(length) if String::from_utf8_lossy(&buffer[..length]).contains(text) => return,
                Ok(_) => {}
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
                Err(error) => panic!("{error}"),
            }
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "ended with {ended:?} before it told `{text}`:\n{}", self.log());
            assert!(Instant::now() < deadline, "never told `{text}`:\n{}", self.log());
        }
    }

    /// SIGTERM; gives the exit code.
    pub(crate) fn terminate(&mut self) -> Option<i32> {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).unwrap();
        self.child.wait().unwrap().code()
    }

    pub(crate) fn log(&self) -> String {
        let mut text = String::new();
        fs::File::open(&self.log).unwrap().read_to_string(&mut text).unwrap();
        text
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A home with a controller that runs.
pub(crate) struct Place {
    pub(crate) controller: Daemon,
    pub(crate) api: String,
    pub(crate) home: TempDir,
}

impl Place {
    /// Makes the home and starts the controller.
    pub(crate) fn with_controller() -> Self {
        let home = tempfile::tempdir().unwrap();
        let api_port = free_port();
        init(home.path(), free_port(), api_port).ok();
        let controller = Daemon::start(home.path(), "controller", &["controller", "run", "ctrl/controller.yml"]);
        let mut place = Self { controller, api: format!("https://localhost:{api_port}"), home };
        place.controller.until_told("READY=1");
        place
    }

    /// The same, with a session.
    pub(crate) fn logged_in() -> Self {
        let place = Self::with_controller();
        place.login("password.txt").ok();
        place
    }

    pub(crate) fn login(&self, password_file: &str) -> Ran {
        self.run(&["fleet", "login", &self.api, "--ca", "ctrl/pki/bundle.pem", "--password-file", password_file])
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        run(self.home.path(), args)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// A router that was created and enrolled, and does not run. Its configuration is `NAME.yml`.
    pub(crate) fn enrolled(&self, name: &str) {
        let (jwt, yml) = (format!("{name}.jwt"), format!("{name}.yml"));
        self.run(&["fleet", "create", name, "-o", &jwt]).ok();
        write_router_config(self.home.path(), name);
        self.run(&["router", "enroll", &yml, "--jwt", &jwt]).ok();
    }

    /// Starts that router and waits until the controller admits it.
    pub(crate) fn running(&self, name: &str) -> Daemon {
        let mut router = Daemon::start(self.home.path(), name, &["router", "run", &format!("{name}.yml")]);
        router.until_told("admitted by a controller");
        router
    }
}

/// Makes a controller in `ctrl`, whose password is in `password.txt`.
pub(crate) fn init(home: &Path, ctrl_port: u16, api_port: u16) -> Ran {
    fs::write(home.join("password.txt"), format!("{PASSWORD}\n")).unwrap();
    let (ctrl_port, api_port) = (ctrl_port.to_string(), api_port.to_string());
    let args = ["controller", "init", "ctrl", "--listen", "127.0.0.1", "--password-file", "password.txt"];
    run(home, &[&args[..], &["--ctrl-port", &ctrl_port, "--api-port", &api_port]].concat())
}

/// A configuration without any controller: enrollment learns where it is.
pub(crate) fn write_router_config(home: &Path, name: &str) {
    let folder = home.join(name);
    fs::create_dir_all(&folder).unwrap();
    let folder = folder.display();
    let text = format!(
        "v: 3\nidentity:\n  cert: {folder}/client.pem\n  server_cert: {folder}/server.pem\n  key: {folder}/key.pem\n  ca: {folder}/ca.pem\n\
         ctrl:\n  endpointsFile: {folder}/endpoints.yml\nedge:\n  csr:\n    sans:\n      dns: [localhost]\n"
    );
    fs::write(home.join(format!("{name}.yml")), text).unwrap();
}
