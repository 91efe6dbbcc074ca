//! Kills and full disks, on a real file, in a process of its own. The child is this test binary, started again.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use store::register::{Attachment, AuditQuery, Chains, Register, RegisterError, SqliteRegister, Tuning};

use crate::support::*;

const FILE: &str = "EXUVIA_TEST_REGISTER";
const ROUTERS: u64 = 16;

fn child(test: &str, path: &Path, before: &str) -> Command {
    let mut command = Command::new("sh");
    let me = std::env::current_exe().unwrap();
    command.arg("-c").arg(format!("{before} exec \"$0\" \"$@\"")).arg(me).args(["--exact", test, "--nocapture"]);
    command.env(FILE, path).stdout(Stdio::piped()).stderr(Stdio::null());
    command
}

/// Renews without end, and says each answer that it got.
async fn renew_for_ever(path: &Path) {
    let register = SqliteRegister::open(path, at(0).wall).unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    let register = std::sync::Arc::new(register);
    for router in 0..ROUTERS {
        let register = std::sync::Arc::clone(&register);
        tasks.spawn(async move {
            let record = register.record(id(router)).await.unwrap().unwrap();
            for seq in record.last_seq.0 + 1.. {
                let number = router * 1_000_000 + seq;
                let stored = register.submit(store_in(router, number, 1, seq)).await;
                assert_eq!(send_of(&stored), seq);
                register.submit(use_leaf(router, number, seq)).await.unwrap();
                let line = format!("used {router} {seq}\n");
                std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
            }
        });
    }
    tasks.join_all().await;
}

#[tokio::test]
async fn a_kill_in_the_middle_of_load_loses_no_acknowledged_answer() {
    if let Some(path) = std::env::var_os(FILE) {
        return renew_for_ever(Path::new(&path)).await;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("register.db");
    let register = SqliteRegister::create(&path, "abc", at(0).wall).unwrap();
    for router in 0..ROUTERS {
        enrolled(&register, router, router * 1_000_000 + 1).await;
    }
    drop(register);
    let mut told: HashMap<u64, u64> = HashMap::new();
    for round in 1..=4 {
        let name = "crash::a_kill_in_the_middle_of_load_loses_no_acknowledged_answer";
        let mut child = child(name, &path, "").spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut answers = 0;
        for line in lines {
            let line = line.unwrap();
            let words: Vec<&str> = line.split_whitespace().collect();
            let ["used", router, seq] = words[..] else { continue };
            told.insert(router.parse().unwrap(), seq.parse().unwrap());
            answers += 1;
            if answers == 60 * round {
                // Lines that were said before the kill are still read.
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(answers >= 60 * round, "the child ended by itself after {answers}");
        let register = SqliteRegister::open(&path, at(0).wall).unwrap();
        for (&router, &seq) in &told {
            let record = register.record(id(router)).await.unwrap().unwrap();
            let used = record.last_used.unwrap().seq.0;
            assert!(used >= seq, "router {router} was told {seq}, the register holds {used}");
            let held = register.chains(id(router), record.last_used.unwrap().seq).await.unwrap();
            assert_eq!(held, Some(chains(router * 1_000_000 + used)));
            // A record and its audit entry are of one transaction.
            let mut entries =
                register.audit(AuditQuery { router: Some(id(router)), ..AuditQuery::default() }).await.unwrap();
            entries.retain(|entry| entry.event == "first-use");
            assert_eq!(entries[0].detail["leaf"], used);
        }
    }
}

/// Fills the disk up to the limit, sees what that does, and goes on when there is room again.
async fn fill_the_disk(path: &Path) {
    let register = SqliteRegister::open_with(path, at(0).wall, Tuning { checkpoint: 8, ..Tuning::default() }).unwrap();
    enrolled(&register, 1, 1).await;
    let big = |number: u64| {
        let pem = "x".repeat(20_000);
        let chains = Chains { client_pem: pem.as_str().into(), server_pem: pem.as_str().into(), ..chains(number) };
        store_in(1, number, 1, number).with(Attachment::Chains(chains))
    };
    let mut kept = 1;
    let failed = loop {
        let number = kept + 1;
        match register.submit(big(number)).await {
            Ok(_) => {
                register.submit(confirm(1, number, number)).await.map_or_else(|_| 0, |_| 1);
                kept = number;
            }
            Err(error) => break error,
        }
        assert!(kept < 1000, "the disk never filled");
    };
    assert!(matches!(failed, RegisterError::CommitFailed { .. }), "{failed}");
    assert!(register.metrics().failed_commits > 0);
    let record = register.record(id(1)).await.unwrap().unwrap();
    assert_eq!(record.last_seq.0, kept, "nothing of the failed change is visible");
    assert!(register.find_leaf(sha1(kept + 1)).await.unwrap().is_empty());
    let admitted = register.submit(use_leaf(1, 1, 5)).await.unwrap();
    assert_eq!(*admitted.record, record, "the writer believes the disk, not its memory");

    let room = rustix::process::Rlimit { current: None, maximum: None };
    rustix::process::setrlimit(rustix::process::Resource::Fsize, room).unwrap();
    let stored = register.submit(big(kept + 1)).await;
    assert_eq!(send_of(&stored), kept + 1);
    println!("recovered");
}

#[tokio::test]
async fn a_full_disk_fails_the_batch_and_nothing_of_it_is_visible() {
    if let Some(path) = std::env::var_os(FILE) {
        return fill_the_disk(Path::new(&path)).await;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("register.db");
    drop(SqliteRegister::create(&path, "abc", at(0).wall).unwrap());
    let name = "crash::a_full_disk_fails_the_batch_and_nothing_of_it_is_visible";
    // Writing past the limit must be an error, not a signal.
    let output = child(name, &path, "trap '' XFSZ; ulimit -S -f 600;").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("recovered"), "{said}");
}
