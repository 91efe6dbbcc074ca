use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::Args;
use evidence::{Evidence, Layer, Plan};
use rustix::process::{Pid, Signal};

use super::{Circumstances, Finding, KEPT, Outcome, Programs};
use crate::layers;
use crate::numbers::spoken;

/// Every process that a layer starts inherits this variable, unless its environment was cleared; then it is still of the layer's session,
/// unless it made one of its own. One of the two finds each.
const MARK: &str = "EXUVIA_PROOF_LAYER";

/// What `proof layer` was asked for.
#[derive(Debug, Args)]
pub(crate) struct LayerOrder {
    /// The layer
    id: String,
    #[arg(long)]
    long: bool,
    #[arg(long)]
    seed: u64,
    #[arg(long)]
    exuvia: PathBuf,
    #[arg(long)]
    write_order: PathBuf,
    #[arg(long)]
    scratch: PathBuf,
    /// Where the evidence goes, as JSON
    #[arg(long)]
    evidence: PathBuf,
}

/// `proof layer`: probes and runs one layer in this process, and writes down its evidence.
pub(crate) fn layer(order: &LayerOrder) -> anyhow::Result<()> {
    let mut known = layers::all().into_iter().chain(layers::rehearsed());
    let Some(layer) = known.find(|layer| layer.id == order.id) else {
        bail!("no layer `{}`", order.id);
    };
    // A session of its own keeps the terminal's signals away, and a mount namespace of its own takes every mount with it when it goes.
    let _ = rustix::process::setsid();
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).context("die with the runner")?;
    if rustix::process::geteuid().is_root() {
        keep_mounts_to_ourselves();
    }
    let missing = (layer.probe)();
    let mut evidence = (layer.run)(&Plan {
        is_long: order.long,
        seed: order.seed,
        exuvia: order.exuvia.clone(),
        write_order: order.write_order.clone(),
        scratch: order.scratch.clone(),
    });
    for skip in missing {
        if !evidence.skipped.contains(&skip) {
            evidence.skipped.push(skip);
        }
    }
    let text = serde_json::to_vec(&evidence).context("write the evidence as JSON")?;
    std::fs::write(&order.evidence, text).with_context(|| format!("write `{}`", order.evidence.display()))
}

/// A container may forbid it; then the layer's own clean-up is all there is.
fn keep_mounts_to_ourselves() {
    use nix::mount::{MsFlags, mount};
    use nix::sched::{CloneFlags, unshare};
    if unshare(CloneFlags::CLONE_NEWNS).is_ok() {
        let _ = mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>);
    }
}

/// Starts one layer as a process, waits for it, ends it when it is late, and cleans up after it.
pub(super) fn start(layer: &Layer, programs: &Programs, circumstances: &Circumstances) -> Finding {
    let began = Instant::now();
    let outcome = match watched(layer, programs, circumstances) {
        Ok(evidence) => Outcome::Answered(Box::new(evidence)),
        Err(error) => Outcome::Ended { how: format!("{error:#}") },
    };
    Finding { id: layer.id.to_string(), title: layer.title.to_string(), took_s: began.elapsed().as_secs_f64(), outcome }
}

fn watched(layer: &Layer, programs: &Programs, circumstances: &Circumstances) -> anyhow::Result<Evidence> {
    let scratch = tempfile::Builder::new()
        .prefix(&format!("exuvia-proof-{}-", layer.id))
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .tempdir_in(disk_backed())
        .context("make a scratch folder")?;
    let work = scratch.path().join("work");
    std::fs::create_dir(&work).context("make a scratch folder")?;
    let answer = scratch.path().join("evidence.json");
    let log = File::create(Path::new(KEPT).join(format!("{}.log", layer.id))).context("open the layer's log")?;
    let mut errors = log.try_clone().context("open the layer's log")?;
    let mark = format!("{}-{}", layer.id, std::process::id());

    let mut command = Command::new(std::env::current_exe().context("find this program")?);
    command
        .args(["layer", layer.id, "--seed", &circumstances.seed.to_string()])
        .arg("--exuvia")
        .arg(&programs.exuvia)
        .arg("--write-order")
        .arg(&programs.write_order)
        .arg("--scratch")
        .arg(&work)
        .arg("--evidence")
        .arg(&answer)
        .env(MARK, &mark)
        .env("RUST_BACKTRACE", "1")
        .stdin(Stdio::null())
        .stdout(log.try_clone().context("open the layer's log")?)
        .stderr(log);
    if circumstances.is_long {
        command.arg("--long");
    }
    let mut child = command.spawn().context("start the layer")?;
    let status = wait(&mut child, programs.limit);
    let left = end_everything(child.id(), &mark);
    if left > 0 {
        let _ = writeln!(errors, "proof: ended {left} processes that the layer had left behind");
    }
    free_loop_devices(scratch.path());
    let status = status?;
    if !status.success() {
        bail!("its process ended with {status}");
    }
    let text = std::fs::read(&answer).context("read the layer's evidence")?;
    serde_json::from_slice(&text).context("read the layer's evidence")
}

/// A folder that is on a disk, not in memory, where there is one: the product refuses to renew on a tmpfs.
fn disk_backed() -> PathBuf {
    let usual = PathBuf::from("/var/tmp");
    if tempfile::tempfile_in(&usual).is_ok() { usual } else { std::env::temp_dir() }
}

fn wait(child: &mut Child, limit: Duration) -> anyhow::Result<ExitStatus> {
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait().context("wait for the layer")? {
            return Ok(status);
        }
        if began.elapsed() > limit {
            child.kill().context("end the layer")?;
            child.wait().context("wait for the layer")?;
            bail!("it was not done after {}, and was ended", spoken(limit));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Kills every process of the session and every one that carries the mark; how many there were.
fn end_everything(session: u32, mark: &str) -> usize {
    let wanted = format!("{MARK}={mark}").into_bytes();
    let mut ended = 0;
    // A process may start another while it dies; a few rounds catch them all.
    for _ in 0..20 {
        let ours: Vec<Pid> =
            running().into_iter().filter(|pid| is_of_session(*pid, session) || carries(*pid, &wanted)).collect();
        if ours.is_empty() {
            break;
        }
        ended += ours.len();
        for pid in ours {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
        std::thread::sleep(Duration::from_millis(25));
    }
    ended
}

fn running() -> Vec<Pid> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).filter_map(Pid::from_raw).collect()
}

/// Dead processes that nobody waited for are of no session here: they cannot be killed again.
fn is_of_session(pid: Pid, session: u32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())) else {
        return false;
    };
    // The name before it may hold anything, also a parenthesis.
    let mut fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields.next().is_some_and(|state| state != "Z") && fields.nth(2).is_some_and(|id| id == session.to_string())
}

fn carries(pid: Pid, wanted: &[u8]) -> bool {
    std::fs::read(format!("/proc/{}/environ", pid.as_raw_nonzero()))
        .is_ok_and(|environment| environment.split(|byte| *byte == 0).any(|variable| variable == wanted))
}

/// Loop devices outlive the processes that opened them. Those on files of the layer are let go.
fn free_loop_devices(scratch: &Path) {
    let Ok(entries) = std::fs::read_dir("/sys/block") else {
        return;
    };
    for entry in entries.filter_map(Result::ok) {
        let Ok(file) = std::fs::read_to_string(entry.path().join("loop/backing_file")) else {
            continue;
        };
        if Path::new(file.trim()).starts_with(scratch) {
            let device = Path::new("/dev").join(entry.file_name());
            let _ = Command::new("losetup").arg("-d").arg(device).status();
        }
    }
}
