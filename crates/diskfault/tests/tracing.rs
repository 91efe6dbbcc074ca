//! The tracer against small programs.

use std::fs;
use std::process::Command;
use std::time::Duration;

use diskfault::trace::{Fault, Kind, Tracer, probe};
use nix::errno::Errno;
use rig::{Process, Ran};

fn shell(script: &str, folder: &std::path::Path) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]).env_clear().env("PATH", "/usr/bin:/bin").current_dir(folder);
    command
}

/// Says so where nothing can be traced.
fn can_trace() -> bool {
    match probe() {
        None => true,
        Some(why) => {
            println!("skipped: {why}");
            false
        }
    }
}

#[test]
fn only_calls_that_touch_the_folder_count_and_each_is_named() {
    if !can_trace() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("inside")).unwrap();
    let tracer = Tracer::new([folder.path().join("inside")], Fault::Nothing);
    let script = "echo a >outside; cd inside; echo b >one; (mv one two); cat two; rm ../inside/two";
    let ran = Ran::of(&tracer, shell(script, folder.path())).unwrap().ok().unwrap();
    assert_eq!(ran.stdout, "b\n");
    let calls = tracer.calls();
    let names = |kind: Kind| -> Vec<String> {
        let of_kind = calls.iter().filter(|call| call.kind == kind);
        of_kind.map(|call| call.path.file_name().unwrap().to_string_lossy().into_owned()).collect()
    };
    assert!(calls.iter().all(|call| call.path.starts_with(folder.path().canonicalize().unwrap().join("inside"))));
    assert_eq!(names(Kind::Create), ["one"], "{calls:#?}");
    assert_eq!(names(Kind::Write), ["one"]);
    assert_eq!(names(Kind::Name), ["two", "two"], "the rename of a child process, and the removal: {calls:#?}");
    assert!(calls.iter().enumerate().all(|(place, call)| call.number == place + 1));
}

#[test]
fn a_process_dies_before_or_after_the_call_as_told() {
    if !can_trace() {
        return;
    }
    let script = "echo a >one; echo b >two; echo c >three";
    let count = {
        let folder = tempfile::tempdir().unwrap();
        let tracer = Tracer::new([folder.path().to_owned()], Fault::Nothing);
        Ran::of(&tracer, shell(script, folder.path())).unwrap().ok().unwrap();
        tracer.calls()
    };
    for call in &count {
        for (fault, is_done) in [(Fault::KillBefore(call.number), false), (Fault::KillAfter(call.number), true)] {
            let folder = tempfile::tempdir().unwrap();
            let tracer = Tracer::new([folder.path().to_owned()], fault);
            let ran = Ran::of(&tracer, shell(script, folder.path())).unwrap();
            assert_eq!((ran.code, tracer.fired()), (None, 1), "{call}: {ran:?}");
            let path = folder.path().join(call.path.file_name().unwrap());
            match call.kind {
                Kind::Create => assert_eq!(path.exists(), is_done, "{call}"),
                Kind::Write => assert_eq!(!fs::read(&path).unwrap().is_empty(), is_done, "{call}"),
                _ => {}
            }
        }
    }
    assert!(count.len() >= 6, "{count:?}");
}

#[test]
fn a_call_fails_with_the_errno_and_does_nothing_else() {
    if !can_trace() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let run = |fault| {
        let tracer = Tracer::new([folder.path().to_owned()], fault);
        (Ran::of(&tracer, shell("LC_ALL=C cat file", folder.path())).unwrap(), tracer)
    };
    fs::write(folder.path().join("file"), "content").unwrap();
    let (whole, tracer) = run(Fault::Nothing);
    assert_eq!(whole.stdout, "content");
    let open = tracer.calls().into_iter().find(|call| call.kind == Kind::Open && call.path.ends_with("file")).unwrap();
    for (errno, words) in [(Errno::EIO, "Input/output error"), (Errno::EACCES, "Permission denied")] {
        let (failed, tracer) = run(Fault::Fail { at: open.number, errno });
        assert!(failed.stdout.is_empty() && failed.stderr.contains(words), "{failed:?}");
        assert_eq!(tracer.harmed().as_ref(), Some(&open));
    }
    let read = tracer.calls().into_iter().find(|call| call.kind == Kind::Read).unwrap();
    let (failed, _) = run(Fault::FailAfter { at: read.number, errno: Errno::EIO });
    assert!(failed.stderr.contains("Input/output error"));
    let (whole, _) = run(Fault::Short(read.number));
    assert_eq!(whole.stdout, "content", "a short read is read on");
}

#[test]
fn what_is_not_armed_is_left_alone() {
    if !can_trace() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    let fifo = outside.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let tracer = Tracer::new([folder.path().to_owned()], Fault::KillBefore(1)).disarmed();
    let script = format!("echo a >one; echo ready >&2; read _ <{}; echo b >two; echo unreachable >&2", fifo.display());
    let process = Process::start(&tracer, shell(&script, folder.path())).unwrap();
    let patience = Duration::from_secs(20);
    process.log().wait(Default::default(), patience, |line| (line.text == "ready").then_some(())).unwrap();
    tracer.arm();
    fs::write(&fifo, "go\n").unwrap();
    assert!(tracer.until_fired(patience));
    let (status, _, log) = process.finish(patience).unwrap();
    assert!(status.code().is_none() && !log.text().contains("unreachable"), "{status} {}", log.text());
    assert!(folder.path().join("one").exists() && !folder.path().join("two").exists());
}

#[test]
fn several_tracers_work_side_by_side() {
    if !can_trace() {
        return;
    }
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for at in 1..8 {
                    let folder = tempfile::tempdir().unwrap();
                    let tracer = Tracer::new([folder.path().to_owned()], Fault::KillBefore(at));
                    let script = "echo a >one; (echo b >two); (echo c >three) & wait; echo d >four; echo e >five";
                    let ran = Ran::of(&tracer, shell(script, folder.path())).unwrap();
                    assert_eq!((ran.code, tracer.fired()), (None, 1));
                }
            });
        }
    });
}
