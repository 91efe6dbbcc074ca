//! Control addresses at which nobody, somebody mute or somebody else listens.

use std::io::{self, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use crate::support::{PATIENCE, Process, Router, Site, shared};

/// What listens at the configured address, until it becomes a way to the controller.
#[derive(Clone, Copy)]
enum Nuisance {
    /// Accepts and says nothing.
    Mute,
    /// Greets like a mail server.
    Mail,
    /// Closes at once.
    Slammed,
}

/// An address that is a nuisance until it is mended.
struct Address {
    port: u16,
    is_mended: Arc<AtomicBool>,
    visitors: Arc<AtomicU32>,
}

impl Address {
    fn new(nuisance: Nuisance, target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (is_mended, visitors) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let (mended, count) = (is_mended.clone(), visitors.clone());
        thread::spawn(move || {
            let mut kept = Vec::new();
            for stream in listener.incoming().map_while(Result::ok) {
                count.fetch_add(1, Ordering::SeqCst);
                if mended.load(Ordering::SeqCst) {
                    let to = TcpStream::connect(("127.0.0.1", target)).unwrap();
                    pass(&stream, &to);
                    continue;
                }
                match nuisance {
                    Nuisance::Mute => kept.push(stream),
                    Nuisance::Mail => {
                        let _ = (&stream).write_all(b"220 mail.example.org ESMTP\r\n");
                        kept.push(stream);
                    }
                    Nuisance::Slammed => drop(stream),
                }
            }
        });
        Self { port, is_mended, visitors }
    }
}

fn pass(from: &TcpStream, to: &TcpStream) {
    for (from, to) in [(from, to), (to, from)] {
        let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
        thread::spawn(move || {
            let _ = io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Both);
        });
    }
}

/// Enrolled, and then sent to this port.
fn sent_to<'a>(site: &'a Site, name: &str, port: u16) -> Router<'a> {
    let router = Router::enrolled(site, name);
    router.admitted().terminate();
    let folder = router.folder().display().to_string();
    router.configure(&format!(
        "ctrl:\n  endpoint: tls:localhost:{port}\n  endpointsFile: {folder}/none.yml\n  options: {{connectTimeout: 1s}}\n"
    ));
    router
}

/// Waits until its status says what is wrong at the address.
fn trouble(router: &Router<'_>, process: &mut Process) -> String {
    process.until_told("no controller admits it yet");
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let status = router.status();
        if let Some(trouble) = status["controllers"][0]["trouble"].as_str() {
            assert!(status["lockout_in_s"].as_u64().unwrap() > 0, "nothing is lost: {status:#}");
            return trouble.to_owned();
        }
        assert!(std::time::Instant::now() < deadline, "{status:#}");
        process.pause();
    }
}

#[test]
fn a_controller_that_hangs_slams_the_door_or_is_a_mail_server_is_named_and_tried_again() {
    let site = shared();
    let cases = [
        (Nuisance::Mute, "mute", "longer than"),
        (Nuisance::Mail, "mail", "TLS"),
        (Nuisance::Slammed, "slammed", "handshake"),
    ];
    thread::scope(|scope| {
        for (nuisance, name, says) in cases {
            let site = &site;
            scope.spawn(move || {
                let address = Address::new(nuisance, site.ctrl_port);
                let router = sent_to(site, name, address.port);
                let mut process = router.start();
                let trouble = trouble(&router, &mut process);
                assert!(trouble.contains(says), "{name}: {trouble}");
                assert!(trouble.contains(&address.port.to_string()), "{name}: {trouble}");
                assert!(address.visitors.load(Ordering::SeqCst) > 0);
                address.is_mended.store(true, Ordering::SeqCst);
                process.until_admitted();
                process.terminate();
            });
        }
    });
}

#[test]
fn a_controller_that_refuses_is_tried_until_it_is_there() {
    let site = shared();
    // A listener that is bound and closed again: the port is refused until somebody listens.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let router = sent_to(&site, "refused", port);
    let mut process = router.start();
    let trouble = trouble(&router, &mut process);
    assert!(trouble.contains(&port.to_string()) && trouble.contains("refused"), "{trouble}");
    let doctor = router.run(&["doctor", &router.config()]);
    assert_eq!(doctor.code, Some(1), "{doctor:#?}");
    assert!(doctor.stdout.contains(&port.to_string()), "{doctor:#?}");
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let target = site.ctrl_port;
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            pass(&stream, &TcpStream::connect(("127.0.0.1", target)).unwrap());
        }
    });
    process.until_admitted();
    process.terminate();
}

#[test]
fn the_port_of_the_api_is_not_taken_for_the_control_port() {
    let site = shared();
    let router = sent_to(&site, "wrong-port", site.api_port);
    let mut process = router.start();
    let trouble = trouble(&router, &mut process);
    assert!(trouble.contains(&site.api_port.to_string()), "{trouble}");
    process.terminate();
    router.configure("");
    router.admitted().terminate();
}
