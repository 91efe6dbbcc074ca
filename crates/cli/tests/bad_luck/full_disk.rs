//! No room before, during and after each step of an enrollment and of a renewal.
//!
//! A limit on the size of files (`RLIMIT_FSIZE`) stands for the disk: the limits below are chosen so that each file that a step
//! writes is the first that does not fit. A small tmpfs shows the same with the kernel's own "no space left".

use std::fs;
use std::process::Command;
use std::thread;

use crate::support::{Process, Router, Site, finish_with_room, set_room, shared, skip, write_config};

/// Bytes per file: nothing; less than a key, a digest, a manifest, a chain, a bundle; and enough.
const ROOMS: [u64; 9] = [0, 64, 200, 255, 320, 560, 700, 1_000, 1_600];

#[test]
fn an_enrollment_without_room_for_any_of_its_files_is_repeated_with_the_same_token() {
    let site = shared();
    let mut failed = 0;
    for (place, room) in ROOMS.into_iter().enumerate() {
        let router = Router::created(&site, &format!("no-room-{place}"));
        let args = ["router", "enroll", &router.config(), "--jwt", &format!("{}.jwt", router.name)];
        let told = finish_with_room(site.home.path(), &args, room);
        if told.code == Some(0) {
            told.ok();
        } else {
            failed += 1;
            told.fails(4, &["caused by: ", "hint: "]);
            router.enroll().ok();
        }
        router.admitted().kill();
    }
    assert!(failed >= 4, "only {failed} limits were too small");
}

/// With the limit, a renewal is ordered and gets as far as it can; then the router dies and comes back; then there is room.
fn survives(router: &Router<'_>, mut process: Process, without: &str) -> Process {
    let log = process.log();
    assert!(!log.contains("shutting down"), "{without}: {log}");
    process.kill();
    process = router.admitted();
    let renewed = router.renew();
    assert!(renewed > 0, "{without}");
    process
}

#[test]
fn a_renewal_without_room_for_any_of_its_files_loses_nothing() {
    let site = shared();
    let router = Router::enrolled(&site, "no-room");
    let mut process = router.admitted();
    let mut outcomes = Vec::new();
    for room in ROOMS {
        let mut events = router.events();
        set_room(process.pid(), Some(room));
        let answer = router.order_renewal();
        if answer["answer"] == "began" {
            let line = events.until(&["attempt_failed", "promoted", "recovered"]);
            outcomes.push(line["event"].as_str().unwrap().to_owned());
            // A machine that was built anew from the disk hears in a moment that the channel is there.
            while router.status()["controllers"][0]["is_connected"] != true {
                process.pause();
            }
            assert!(!process.log().contains("closed"), "{room}: the connection stays: {}", process.log());
        } else {
            assert!(answer.to_string().contains("full") || answer["answer"] == "not_begun", "{room}: {answer}");
            outcomes.push("not_begun".to_owned());
        }
        process = survives(&router, process, &format!("{room} bytes"));
    }
    process.terminate();
    assert!(outcomes.iter().filter(|outcome| *outcome != "promoted").count() >= 4, "{outcomes:?}");
}

#[test]
fn a_disk_that_fills_up_at_any_step_of_a_renewal_loses_nothing() {
    let site = shared();
    let steps = ["attempt_began", "requested", "staged", "proving", "promoted", "barrier_started", "barrier_done"];
    thread::scope(|scope| {
        for (number, some) in steps.chunks(4).enumerate() {
            let site = &site;
            scope.spawn(move || {
                let router = Router::enrolled(site, &format!("fills-up-{number}"));
                let mut process = router.admitted();
                for step in some {
                    let mut events = router.events();
                    // What was asked for while another renewal was under way may have begun by itself.
                    while router.order_renewal()["answer"] != "began" {
                        events.until(&["promoted", "attempt_failed"]);
                    }
                    if *step != "attempt_began" {
                        events.until(&[step]);
                    }
                    set_room(process.pid(), Some(0));
                    // Whatever became of it, the router is there and its connection with it.
                    let status = router.status();
                    assert!(status["lockout_in_s"].as_u64().unwrap() > 0, "{step}: {status:#}");
                    process = survives(&router, process, step);
                }
                process.terminate();
            });
        }
    });
}

#[test]
fn a_router_that_starts_on_a_full_disk_serves_and_renews_when_there_is_room() {
    let site = shared();
    let router = Router::enrolled(&site, "starts-full");
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -f 0; exec \"$0\" router run \"$1\"", env!("CARGO_BIN_EXE_exuvia"), &router.config()]);
    command.env_clear().env("HOME", site.home.path()).current_dir(site.home.path());
    let mut process = Process::start(site.home.path(), command);
    process.until_admitted();
    let told = router.run(&["router", "renew", &router.config(), "--within", "2s"]);
    assert_eq!(told.code, Some(1), "{told:#?}");
    assert!(told.stderr.contains("full") || told.stderr.contains("no renewal can begin"), "{told:#?}");
    assert!(told.stderr.contains("hint: "), "{told:#?}");
    process.kill();
    let process = router.admitted();
    router.renew();
    process.terminate();
}

#[test]
fn a_controller_without_room_refuses_for_now_and_forgets_nothing() {
    let site = Site::new("", &[]);
    let router = Router::enrolled(&site, "patient");
    let fresh = Router::created(&site, "fresh");
    let process = router.admitted();
    set_room(site.controller().pid(), Some(0));
    let told = router.run(&["router", "renew", &router.config(), "--within", "2s"]);
    assert_eq!(told.code, Some(1), "{told:#?}");
    fresh.enroll().fails(5, &["hint: "]);
    site.run(&["fleet", "create", "third", "-o", "third.jwt"]).fails(5, &["hint: "]);
    assert_eq!(router.status()["controllers"][0]["is_connected"], true);
    set_room(site.controller().pid(), None);
    router.renew();
    fresh.enroll().ok();
    fresh.admitted().terminate();
    process.kill();
    router.admitted().terminate();
}

/// The home of a router in a tmpfs of 256 KiB, seen through the daemon's own mount namespace.
#[test]
fn a_small_disk_that_is_really_full_stops_renewals_and_nothing_else() {
    let probe = Command::new("unshare").args(["-Urm", "sh", "-c", "mount -t tmpfs -o size=64k none /mnt"]).output();
    match probe {
        Ok(output) if output.status.success() => {}
        Ok(output) => return skip("a small tmpfs", &String::from_utf8_lossy(&output.stderr)),
        Err(error) => return skip("a small tmpfs", &error.to_string()),
    }
    let site = shared();
    site.create("small");
    write_config(site.home.path(), "small", "");
    let home = site.home.path();
    let folder = site.path("small");
    let script = format!(
        "mount -t tmpfs -o size=256k none {0} && \"$0\" router enroll small.yml --jwt small.jwt && exec \"$0\" router run small.yml",
        folder.display()
    );
    let mut command = Command::new("unshare");
    command.args(["-Urm", "sh", "-c", &script, env!("CARGO_BIN_EXE_exuvia")]);
    command.env_clear().env("HOME", home).env("PATH", std::env::var_os("PATH").unwrap_or_default()).current_dir(home);
    let mut process = Process::start(home, command);
    process.until_admitted();
    let inside = |name: &str| {
        std::path::PathBuf::from(format!(
            "/proc/{}/root{}",
            process.pid().as_raw_nonzero(),
            folder.join(name).display()
        ))
    };
    if fs::metadata(inside("key.pem")).is_err() {
        return skip("a small tmpfs", "the mount namespace of another process cannot be seen");
    }
    // Inside, the program finds the daemon by its socket.
    let pid = process.pid().as_raw_nonzero().to_string();
    let within = |args: &[&str]| {
        let mut command = Command::new("nsenter");
        command.args(["-t", &pid, "-U", "-m", "--preserve-credentials", "sh", "-c", "cd \"$0\" && exec \"$@\""]);
        command.arg(home).arg(env!("CARGO_BIN_EXE_exuvia")).args(args).env_clear().env("HOME", home);
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        crate::support::finish(command)
    };
    let status = within(&["status", "small.yml", "--json"]);
    if status.code != Some(0) {
        return skip("a small tmpfs", &format!("nsenter: {status:?}"));
    }
    let mut ballast = vec![7; 1 << 20];
    while fs::write(inside("ballast"), &ballast).is_err() && ballast.len() > 4096 {
        ballast.truncate(ballast.len() - 4096);
    }
    let told = within(&["router", "renew", "small.yml", "--within", "2s"]);
    assert_eq!(told.code, Some(1), "{told:#?}");
    assert!(told.stderr.contains("full") || told.stderr.contains("space"), "{told:#?}");
    let status = within(&["status", "small.yml", "--json"]).ok().json();
    assert_eq!(status["controllers"][0]["is_connected"], true, "{status:#}");
    assert!(status["lockout_in_s"].as_u64().unwrap() > 0);
    fs::remove_file(inside("ballast")).unwrap();
    within(&["router", "renew", "small.yml"]).ok();
    process.terminate();
}
